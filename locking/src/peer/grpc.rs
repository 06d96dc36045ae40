//! Messages over gRPC, on connections that somebody else opens and secures.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rpc::coordination::{CallError, Client, Envelope};
use tonic::transport::Channel;

use super::message::Kind;
use super::{Door, Peers};

/// Makes a lazily connected channel to a node at an address. Made once for each; it reconnects by itself.
pub type Dial = dyn Fn(u8, &str) -> Result<Channel, String> + Send + Sync;

/// The receiving side, to be added to the server that listens for peers.
pub type Service = rpc::coordination::Service<Door>;

pub fn service(site: &str, node: u8, door: Arc<Door>) -> Service {
    rpc::coordination::service(site, node, door)
}

/// The sending side of one node.
pub struct GrpcPeers {
    site: String,
    node: u8,
    dial: Box<Dial>,
    ways: Mutex<Ways>,
}

#[derive(Default)]
struct Ways {
    addresses: BTreeMap<u8, String>,
    clients: BTreeMap<u8, Client>,
}

impl GrpcPeers {
    /// `addresses` are those of the configured members.
    pub fn new(site: &str, node: u8, addresses: BTreeMap<u8, String>, dial: Box<Dial>) -> Arc<Self> {
        let ways = Mutex::new(Ways { addresses, clients: BTreeMap::new() });
        Arc::new(Self { site: site.to_owned(), node, dial, ways })
    }

    fn client(&self, to: u8) -> Result<Client, CallError> {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = ways.clients.get(&to) {
            return Ok(client.clone());
        }
        let address = ways
            .addresses
            .get(&to)
            .ok_or_else(|| CallError::NoAnswer(format!("the address of node {to} is not known")))?;
        let channel = (self.dial)(to, address).map_err(CallError::NoAnswer)?;
        let client = Client::new(channel);
        ways.clients.insert(to, client.clone());
        Ok(client)
    }
}

impl Peers for GrpcPeers {
    fn call(
        &self,
        to: u8,
        group: u16,
        kind: Kind,
        payload: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let client = self.client(to);
        let (site, from, kind) = (self.site.clone(), self.node, kind.number());
        Box::pin(
            async move { client?.call(Envelope { site, from, to, group, kind, payload }, deadline).await },
        )
    }

    fn learn(&self, node: u8, address: &str) {
        let mut ways = self.ways.lock().unwrap_or_else(PoisonError::into_inner);
        if !address.is_empty() && ways.addresses.get(&node).is_none_or(|known| known != address) {
            ways.addresses.insert(node, address.to_owned());
            ways.clients.remove(&node);
        }
    }
}
