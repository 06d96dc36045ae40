//! Who this node is: a founder, a member since earlier, or one that waits to be let in.
//!
//! A site forms by itself: when the nodes that are up and new are a majority of those that are configured, they begin
//! with all configured nodes as voters. That membership is the same whoever begins, so it does not matter who does,
//! or how many; consensus makes one group of them.
//!
//! Invariants
//! - Nobody founds a site whose volume was served before, or of which somebody up is a member already. Such a node
//!   has lost its disk, or comes later: it asks who it is.
//! - A new store takes part only as whom it was told, and that is written down before it does (L-RS2, A-5).

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nfs_compat::Fs;
use serde::{Deserialize, Serialize};

use super::core::other_store;
use super::life::{elsewhere, put_back};
use super::{RETRY_EVERY, StartError, VoterOptions};
use crate::marks::Marks;
use crate::peer::message::{Ask, Frame, Hello, Here, Join, Kind, Phase, RaftId, Reply, decode, raft_id};
use crate::peer::{Behind, Peers};
use crate::raft::coding;

const ASK_MAX: Duration = Duration::from_millis(500);
const JOIN_MAX: Duration = Duration::from_secs(3);
const ASK_EVERY: Duration = Duration::from_millis(150);
/// How often a node that waits says for what.
const SAY_EVERY: u32 = 200;
/// How often a new node is told that it leads before it believes that there is another one of its number.
const STRANGE_MAX: u32 = 40;
const IDENTITY_BYTES_MAX: u64 = 4096;

/// What stands in `raft/member`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub node: u8,
    pub id: RaftId,
    /// The store that it belongs to.
    pub store: u64,
    /// The stores of the groups that keep buckets, once it has them.
    pub shards: Vec<u64>,
}

/// [`Identity`] before buckets were kept by groups of their own.
#[derive(Deserialize)]
struct Alone {
    node: u8,
    id: RaftId,
    store: u64,
}

impl Identity {
    /// What was written before is shorter, so it is never taken for the other.
    fn decode(bytes: &[u8]) -> std::io::Result<Self> {
        coding::decode(bytes).or_else(|_| {
            let Alone { node, id, store } = coding::decode(bytes)?;
            Ok(Self { node, id, store, shards: Vec::new() })
        })
    }
}

fn path(state_dir: &Path) -> PathBuf {
    state_dir.join("raft").join("member")
}

/// Reads who this node was. Blocking.
pub(super) fn read(options: &VoterOptions, store: u64, blank: bool) -> Result<Option<Identity>, StartError> {
    let path = path(&options.state_dir);
    if !options.fs.exists(&path)? {
        // Voters of before sites had several nodes wrote none: they are founders.
        let id = raft_id(options.node_id, 0);
        let founder = Identity { node: options.node_id, id, store, shards: Vec::new() };
        return Ok((!blank).then_some(founder));
    }
    let bytes = options.fs.read(&path, IDENTITY_BYTES_MAX)?;
    let identity = Identity::decode(&bytes)
        .map_err(|error| StartError::Raft(format!("{} does not read: {error}", path.display())))?;
    if identity.node != options.node_id {
        return Err(StartError::OtherNode { found: identity.node, wanted: options.node_id });
    }
    if identity.store != store {
        return Err(StartError::LogLost { path: options.state_dir.join("raft") });
    }
    Ok(Some(identity))
}

/// Writes down who this node is, whole or not at all. Blocking.
pub(super) fn write(fs: &dyn Fs, state_dir: &Path, identity: &Identity) -> Result<(), StartError> {
    let bytes = coding::encode(identity).map_err(|error| StartError::Raft(error.to_string()))?;
    write_whole(fs, &path(state_dir), &bytes).map_err(StartError::from)
}

/// Makes these the bytes of a file of `raft`, all of them or none.
pub(super) fn write_whole(fs: &dyn Fs, path: &Path, bytes: &[u8]) -> nfs_compat::Result<()> {
    let unfinished = path.with_extension("new");
    if fs.exists(&unfinished)? {
        fs.unlink(&unfinished)?;
    }
    let file = fs.create(&unfinished)?;
    file.write_at(bytes, 0)?;
    file.sync()?;
    fs.rename(&unfinished, path)?;
    path.parent().map_or(Ok(()), |directory| fs.sync_dir(directory))
}

/// A node that has never been a member, and finds out as whom it may take part.
pub(super) struct Newcomer<'a> {
    pub options: &'a VoterOptions,
    pub peers: Arc<dyn Peers>,
    pub voters: Vec<u8>,
    pub store: u64,
}

/// As whom a newcomer starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Founder,
    Member(RaftId),
}

impl Newcomer<'_> {
    /// Returns when it is known who this node is.
    pub(super) async fn find_out(&self) -> Result<Part, StartError> {
        let node = self.options.node_id;
        let here = Here {
            store: self.store,
            phase: Phase::Blank,
            voters: self.voters.clone(),
            site: self.options.site,
            mark: None,
            remembers: Vec::new(),
            there: None,
        };
        if let Some(site) = &self.options.peers {
            site.door.put(0, Behind::Waiting(here));
        }
        let mut strange = 0;
        for turn in 0u32.. {
            let others = self.ask_around().await;
            let waits_for = match self.look(&others) {
                Look::Found => return Ok(Part::Founder),
                // It founds nothing: the site begins with what the other one has.
                Look::Follow => return Ok(Part::Member(raft_id(node, 0))),
                Look::WaitFor(what) => what,
                Look::Ask => match self.ask_to_join(&others).await {
                    Some(Join::As(id)) => return Ok(Part::Member(id)),
                    Some(Join::OtherStore) => return Err(StartError::OtherStore(other_store(node))),
                    Some(Join::PutBack) => return Err(StartError::PutBack(put_back(node))),
                    // Others may not know yet that the one they mean is gone.
                    Some(Join::Elsewhere) if strange < STRANGE_MAX => {
                        strange += 1;
                        "the others to hear that this node's earlier process is gone".to_owned()
                    }
                    Some(Join::Elsewhere) => return Err(StartError::Elsewhere(elsewhere(node))),
                    // A store that never took part cannot have been removed; let it wait to be told better.
                    Some(Join::NotMember | Join::Removed) => {
                        format!("somebody to let it in: run `roost cluster add {node}`")
                    }
                    None => "a leader of this site to answer".to_owned(),
                },
            };
            if turn % SAY_EVERY == 0 {
                tracing::info!(node, waits_for, "this node is new and waits");
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
        Err(StartError::Raft("nobody has said who this node is".to_owned()))
    }

    async fn ask_around(&self) -> Vec<(u8, Here)> {
        let hello = Hello { site: self.options.site, voters: self.voters.clone(), look: false };
        let Ok(payload) = coding::encode(&hello) else { return Vec::new() };
        let payload = bytes::Bytes::from(payload);
        let others = self.voters.iter().copied().filter(|other| *other != self.options.node_id);
        let calls = others.map(|other| {
            let call = self.peers.call(other, 0, Kind::Hello, payload.clone(), ASK_MAX);
            async move {
                match call
                    .await
                    .map_err(|error| error.to_string())
                    .and_then(|here| decode(Kind::Hello, &here))
                {
                    Ok(here) => Some((other, here)),
                    Err(error) => {
                        tracing::debug!(other, %error, "a configured member does not answer");
                        None
                    }
                }
            }
        });
        futures::future::join_all(calls).await.into_iter().flatten().collect()
    }

    fn look(&self, others: &[(u8, Here)]) -> Look {
        if others.iter().any(|(_, here)| !here.is_new()) {
            return Look::Ask;
        }
        if others.iter().any(|(_, here)| here.phase == Phase::Rebuilt && here.voters == self.voters) {
            return Look::Follow;
        }
        if let Some((other, here)) = others.iter().find(|(_, here)| here.voters != self.voters) {
            return Look::WaitFor(format!(
                "the same [[cluster.member]] on all nodes: here {:?}, on node {other} {:?}",
                self.voters, here.voters
            ));
        }
        if self.options.incarnation_floor > 0 {
            return Look::WaitFor(
                "the other members: the volume was served before, so this node's own disk is new or lost, and it \
                 founds nothing. Start the nodes that have their state_dir; if it is lost on all of them, stop them \
                 all and run `roost cluster rebuild --config FILE` on one"
                    .to_owned(),
            );
        }
        if (others.len() + 1) * 2 > self.voters.len() {
            return Look::Found;
        }
        Look::WaitFor(format!("a majority of the nodes {:?} to be up", self.voters))
    }

    async fn ask_to_join(&self, others: &[(u8, Here)]) -> Option<Join> {
        let node = self.options.node_id;
        let mut to_ask: Vec<u8> = others.iter().map(|(other, _)| *other).collect();
        while let Some(other) = to_ask.pop() {
            let body = Ask::Join { node, store: self.store, marks: Marks::default() };
            let frame = Frame {
                from: raft_id(node, 0),
                store: self.store,
                to: raft_id(other, 0),
                to_store: None,
                body,
            };
            let payload = coding::encode(&frame).ok()?;
            let answer = self.peers.call(other, 0, Kind::Ask, payload.into(), JOIN_MAX).await;
            match answer.ok().and_then(|answer| coding::decode::<Reply>(&answer).ok()) {
                Some(Reply::Join(join)) => return Some(join),
                // A node that has never been a member does not lead: another process has its number.
                Some(Reply::NotLeader(Some(leader))) if leader == node => return Some(Join::Elsewhere),
                Some(Reply::NotLeader(Some(leader))) if to_ask.contains(&leader) => {
                    to_ask.retain(|other| *other != leader);
                    to_ask.push(leader);
                }
                Some(
                    Reply::NotLeader(_)
                    | Reply::Answer(_)
                    | Reply::Index(_)
                    | Reply::Renewed { .. }
                    | Reply::Changed
                    | Reply::Leader(_)
                    | Reply::Again(_)
                    | Reply::Failed(_),
                )
                | None => tokio::time::sleep(RETRY_EVERY).await,
            }
        }
        None
    }
}

/// What the others' answers mean.
enum Look {
    Found,
    Follow,
    Ask,
    WaitFor(String),
}
