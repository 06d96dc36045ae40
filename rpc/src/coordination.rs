//! Messages between the nodes of one site, each answered.
//!
//! What a message says is opaque here. This module sees to it that it comes from whom it says, and is for us.
//!
//! Invariants
//! - A message is handed on only when the certificate of the connection names the site and node it claims.
//! - A message of another version, site, or for another node is refused, with what to do.
//! - A call ends by its deadline. One that was not answered may have been carried out all the same.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tonic::transport::Channel;
use tonic::{Request, Response, Status};

use crate::PeerIdentity;
use crate::status::is_refusal;

/// Rises when a side would misunderstand the other. A message of group 0 is what it was before there were others.
pub const VERSION: u32 = 1;
/// The version of a message of another group.
pub const VERSION_OF_GROUPS: u32 = 2;
/// Longest message, either way.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// One message on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub site: String,
    pub from: u8,
    pub to: u8,
    /// Which of the site's groups it is about; 0 is the one that every site has.
    pub group: u16,
    pub kind: u32,
    pub payload: Bytes,
}

/// Why a call has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Not sent, or sent and not answered. Whether it was carried out is not known.
    #[error("no answer: {0}")]
    NoAnswer(String),
    /// The other side answered that it will not. It was not carried out.
    #[error("refused: {0}")]
    Refused(String),
}

/// Why a handler will not carry a message out, in words for an operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Refused(pub String);

/// Carries messages out.
pub trait Handler: Send + Sync + 'static {
    fn call(&self, envelope: Envelope) -> impl Future<Output = Result<Bytes, Refused>> + Send;
}

/// What the build makes of `proto/coordination.proto`.
#[allow(unreachable_pub, clippy::all, reason = "generated")]
mod wire {
    tonic::include_proto!("roost.coordination.v1");
}

/// One node's way to another.
#[derive(Clone)]
pub struct Client(wire::coordination_client::CoordinationClient<Channel>);

impl Client {
    pub fn new(channel: Channel) -> Self {
        let client = wire::coordination_client::CoordinationClient::new(channel);
        Self(
            client
                .max_decoding_message_size(MESSAGE_BYTES_MAX + 1024)
                .max_encoding_message_size(MESSAGE_BYTES_MAX + 1024),
        )
    }

    /// Sends a message and returns its answer, or gives up after so long.
    pub async fn call(&self, envelope: Envelope, deadline: Duration) -> Result<Bytes, CallError> {
        let version = if envelope.group == 0 { VERSION } else { VERSION_OF_GROUPS };
        self.call_as(version, envelope, deadline).await
    }

    /// The same as a node of another version would do it.
    #[doc(hidden)]
    pub async fn call_as(
        &self,
        version: u32,
        envelope: Envelope,
        deadline: Duration,
    ) -> Result<Bytes, CallError> {
        let Envelope { site, from, to, group, kind, payload } = envelope;
        let (from, to, group) = (from.into(), to.into(), group.into());
        let message = wire::Envelope { version, site, from, to, kind, payload, group };
        let mut request = Request::new(message);
        request.set_timeout(deadline);
        let mut client = self.0.clone();
        match tokio::time::timeout(deadline, client.call(request)).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().payload),
            Ok(Err(status)) => Err(call_error(&status)),
            Err(_) => Err(CallError::NoAnswer(format!("nothing within {deadline:?}"))),
        }
    }
}

fn call_error(status: &Status) -> CallError {
    if is_refusal(status) {
        CallError::Refused(status.message().to_owned())
    } else {
        CallError::NoAnswer(format!("{}: {}", status.code(), status.message()))
    }
}

/// The receiving side, to be added to the server that listens for peers.
pub type Service<H> = wire::coordination_server::CoordinationServer<Receiver<H>>;

/// Takes messages for this node of this site.
pub fn service<H: Handler>(site: &str, node: u8, handler: Arc<H>) -> Service<H> {
    let receiver = Receiver { site: site.to_owned(), node, handler };
    wire::coordination_server::CoordinationServer::new(receiver)
        .max_decoding_message_size(MESSAGE_BYTES_MAX + 1024)
        .max_encoding_message_size(MESSAGE_BYTES_MAX + 1024)
}

/// Checks messages and hands them on.
pub struct Receiver<H> {
    site: String,
    node: u8,
    handler: Arc<H>,
}

impl<H> Receiver<H> {
    fn check(&self, message: wire::Envelope, peer: Option<&PeerIdentity>) -> Result<Envelope, Status> {
        let wire::Envelope { version, site, from, to, kind, payload, group } = message;
        let group = match version {
            VERSION if group == 0 => Some(0),
            VERSION_OF_GROUPS => u16::try_from(group).ok(),
            _ => None,
        };
        let group = group.ok_or_else(|| {
            Status::failed_precondition(format!(
                "node {from} speaks version {version} of the coordination protocol, node {} up to version \
                 {VERSION_OF_GROUPS}: run one version of roost on all nodes of a site",
                self.node
            ))
        })?;
        let peer = peer.ok_or_else(|| {
            Status::permission_denied("this connection proves no identity: use the site's certificates")
        })?;
        if (peer.site.as_str(), u32::from(peer.node)) != (site.as_str(), from) {
            return Err(Status::permission_denied(format!(
                "a message says that it is from node {from} of site {site}, but the certificate is that of node {} of \
                 site {}: give each node its own certificate",
                peer.node, peer.site
            )));
        }
        if site != self.site || to != u32::from(self.node) {
            return Err(Status::failed_precondition(format!(
                "this is node {} of site {}, not node {to} of site {site}: correct the peer address in [[cluster.member]]",
                self.node, self.site
            )));
        }
        let from = peer.node;
        Ok(Envelope { site, from, to: self.node, group, kind, payload })
    }
}

#[tonic::async_trait]
impl<H: Handler> wire::coordination_server::Coordination for Receiver<H> {
    async fn call(&self, request: Request<wire::Envelope>) -> Result<Response<wire::Answer>, Status> {
        let peer = request.extensions().get::<PeerIdentity>().cloned();
        let envelope = self.check(request.into_inner(), peer.as_ref())?;
        let payload =
            self.handler.call(envelope).await.map_err(|refused| Status::failed_precondition(refused.0))?;
        Ok(Response::new(wire::Answer { payload }))
    }
}
