//! How the nodes of a site reach each other, and the door at which their messages arrive.
//!
//! Invariants
//! - Whoever calls gets an answer, a refusal, or by the deadline nothing; then it does not know what became of it.
//! - A door answers from before its voter starts until after it has stopped: it says so, and never hangs.
//! - Who a message is from is what the transport has verified, not what the message says.

pub mod grpc;
pub mod message;
pub mod wires;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rpc::coordination::{CallError, Refused};

use crate::raft::coding;
use crate::server::Core;
use message::{Hello, Here, Kind, Phase};

/// Most bytes of one message.
pub const MESSAGE_BYTES_MAX: usize = rpc::coordination::MESSAGE_BYTES_MAX;

/// The way to other nodes.
pub trait Peers: Send + Sync + 'static {
    /// Sends a message to a group's voter at a node and waits for the answer, at most so long.
    fn call(
        &self,
        to: u8,
        group: u16,
        kind: Kind,
        payload: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>>;

    /// A member that is not in the configuration is reached at this address.
    fn learn(&self, node: u8, address: &str);
}

/// A node that has no peers.
pub(crate) struct Alone;

impl Peers for Alone {
    fn call(
        &self,
        to: u8,
        _: u16,
        _: Kind,
        _: Bytes,
        _: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        Box::pin(async move { Err(CallError::NoAnswer(format!("this node has no way to node {to}"))) })
    }

    fn learn(&self, _: u8, _: &str) {}
}

/// Where messages for this node arrive. Made before the voter, so that it can be served while the voter starts.
#[derive(Default)]
pub struct Door(Mutex<BTreeMap<u16, Behind>>);

/// What is behind the door.
#[derive(Clone, Default)]
pub(crate) enum Behind {
    #[default]
    Nobody,
    /// A node that has never been a member of anything, or that has not heard yet who it is to the others.
    Waiting(Here),
    Voter(Weak<Core>),
}

impl Door {
    pub fn new() -> Arc<Self> {
        Arc::new(Self::default())
    }

    pub(crate) fn put(&self, group: u16, behind: Behind) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(group, behind);
    }

    /// A voter goes; one that came after it stays.
    pub(crate) fn leave(&self, voter: &Arc<Core>) {
        let mut behind = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it =
            |behind: &Behind| matches!(behind, Behind::Voter(weak) if weak.ptr_eq(&Arc::downgrade(voter)));
        if behind.get(&voter.group).is_some_and(is_it) {
            behind.remove(&voter.group);
        }
    }

    fn behind(&self, group: u16) -> Behind {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&group).cloned().unwrap_or_default()
    }

    /// Carries out a message from a node of this site.
    pub async fn handle(&self, from: u8, group: u16, kind: u32, payload: Bytes) -> Result<Bytes, Refused> {
        let kind = Kind::from_number(kind).ok_or_else(|| {
            Refused(format!("unknown message kind {kind}: run one version of roost on all nodes of a site"))
        })?;
        if payload.len() > MESSAGE_BYTES_MAX {
            return Err(Refused(format!("a message of {} bytes is too long", payload.len())));
        }
        match self.behind(group) {
            Behind::Nobody if group > 0 => Err(Refused(format!(
                "group {group} of the coordination service is not running at this node: it is starting, or \
                 cluster.groups differs between the nodes of this site"
            ))),
            Behind::Nobody => Err(Refused("the coordination service of this node is not running".to_owned())),
            Behind::Waiting(here) => match kind {
                Kind::Hello => greet(&payload, &here),
                Kind::Append
                | Kind::Vote
                | Kind::PreVote
                | Kind::Snapshot
                | Kind::TransferLeader
                | Kind::Ask
                | Kind::Level => {
                    Err(Refused("this node has only begun to start and takes part in nothing yet".to_owned()))
                }
            },
            Behind::Voter(core) => match core.upgrade() {
                Some(core) => core.handle(from, kind, payload).await.map_err(Refused),
                None => Err(Refused("the coordination service of this node has stopped".to_owned())),
            },
        }
    }
}

impl rpc::coordination::Handler for Door {
    async fn call(&self, envelope: rpc::coordination::Envelope) -> Result<Bytes, Refused> {
        self.handle(envelope.from, envelope.group, envelope.kind, envelope.payload).await
    }
}

fn greet(payload: &[u8], here: &Here) -> Result<Bytes, Refused> {
    answer_hello(payload, here).map_err(Refused)
}

pub(crate) fn answer_hello(payload: &[u8], here: &Here) -> Result<Bytes, String> {
    let hello: Hello = message::decode(Kind::Hello, payload)?;
    if hello.site != here.site {
        return Err(format!("the other node is of site slot {}, this one of {}", hello.site, here.site));
    }
    reply(here)
}

pub(crate) fn reply<T: serde::Serialize>(value: &T) -> Result<Bytes, String> {
    coding::encode(value).map(Bytes::from).map_err(|error| error.to_string())
}

impl Here {
    pub(crate) fn is_new(&self) -> bool {
        match self.phase {
            Phase::Blank | Phase::Forming | Phase::Rebuilt => true,
            Phase::Member => false,
        }
    }
}
