//! The owner's side: takes sessions and messages from edges, and hands them to a handler.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::wire::{self, admission, frame, relay_server};
use super::{Declined, Envelope, MESSAGE_BYTES_MAX, Open, Outcome, Pipe, version_refused};
use crate::PeerIdentity;

/// An edge has its first frame at hand when it calls.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves a session that was admitted.
pub type Serve = Box<dyn FnOnce(Pipe) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send>;

/// Takes what edges carry.
pub trait Handler: Send + Sync + 'static {
    /// Looks at a session that an edge wants to open: what will serve it, or why not.
    fn admit(&self, edge: PeerIdentity, open: Open) -> impl Future<Output = Result<Serve, Declined>> + Send;

    /// Delivers a message. One outcome a recipient, in their order. `Err`: nothing can have been stored.
    fn deliver(
        &self,
        edge: PeerIdentity,
        envelope: Envelope,
    ) -> impl Future<Output = Result<Vec<Outcome>, String>> + Send;
}

/// To be added to the server that listens for peers.
pub type Service<H> = relay_server::RelayServer<Receiver<H>>;

/// Takes sessions and messages from edges of this site.
pub fn service<H: Handler>(site: &str, handler: Arc<H>) -> Service<H> {
    let receiver = Receiver { site: site.to_owned(), handler };
    relay_server::RelayServer::new(receiver)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Checks who calls, and in which version.
pub struct Receiver<H> {
    site: String,
    handler: Arc<H>,
}

impl<H> Receiver<H> {
    /// Edges of other sites have their own accounts, and no say over ours.
    fn edge<T>(&self, request: &Request<T>) -> Result<PeerIdentity, Status> {
        let edge = request.extensions().get::<PeerIdentity>().ok_or_else(|| {
            Status::permission_denied("this connection proves no identity: use the site's certificates")
        })?;
        if edge.site == self.site {
            Ok(edge.clone())
        } else {
            Err(Status::permission_denied(format!("{edge} may not carry sessions to site {}", self.site)))
        }
    }
}

type Frames = Pin<Box<dyn Stream<Item = Result<wire::Frame, Status>> + Send>>;

#[tonic::async_trait]
impl<H: Handler> relay_server::Relay for Receiver<H> {
    type CarryStream = Frames;

    async fn carry(&self, request: Request<Streaming<wire::Frame>>) -> Result<Response<Frames>, Status> {
        let edge = self.edge(&request)?;
        let mut incoming = request.into_inner();
        let first = first(&mut incoming).await?;
        let Some(frame::Frame::Open(open)) = first.frame else { return Err(garbled("no opening")) };
        if let Some(refused) = version_refused(open.version) {
            return Err(logged(&edge, refused));
        }
        let open = Open::from_wire(open).map_err(|what| logged(&edge, garbled(what)))?;
        let unread = open.unread.clone();
        let (outgoing, frames) = mpsc::unbounded_channel();
        let admission = match self.handler.admit(edge, open).await {
            Ok(serve) => {
                let pipe = Pipe::new(outgoing.clone(), incoming, unread);
                tokio::spawn(serve(pipe));
                admission::Admission::Admitted(wire::Admitted {})
            }
            Err(Declined::NotOwner(version)) => admission::Admission::NotOwner(version),
            Err(Declined::TooManySessions) => admission::Admission::TooManySessions(wire::TooManySessions {}),
            Err(Declined::Unavailable(why)) => admission::Admission::Unavailable(why),
        };
        drop(outgoing);
        let admission = wire::Admission { admission: Some(admission) };
        let admitted = wire::Frame { frame: Some(frame::Frame::Admission(admission)) };
        // Before all that the session says, whenever it began to speak.
        let frames = tokio_stream::once(admitted).chain(UnboundedReceiverStream::new(frames));
        Ok(Response::new(Box::pin(frames.map(Ok))))
    }

    async fn deliver(&self, request: Request<wire::Envelope>) -> Result<Response<wire::Delivered>, Status> {
        let edge = self.edge(&request)?;
        let envelope = request.into_inner();
        if let Some(refused) = version_refused(envelope.version) {
            return Err(logged(&edge, refused));
        }
        let envelope = Envelope::from_wire(envelope).map_err(|what| logged(&edge, garbled(what)))?;
        let delivered = self.handler.deliver(edge, envelope).await;
        let outcomes = delivered.map_err(Status::failed_precondition)?;
        Ok(Response::new(wire::Delivered { outcomes: outcomes.iter().map(Outcome::to_wire).collect() }))
    }
}

/// The first message of a call.
async fn first<T>(incoming: &mut Streaming<T>) -> Result<T, Status> {
    match tokio::time::timeout(OPENING_TIMEOUT, incoming.message()).await {
        Ok(first) => first?.ok_or_else(|| garbled("nothing")),
        Err(_) => Err(Status::deadline_exceeded("the call was not opened")),
    }
}

fn garbled(what: &str) -> Status {
    Status::invalid_argument(format!(
        "the call began with {what}: run the same version of roost on both nodes"
    ))
}

fn logged(edge: &PeerIdentity, status: Status) -> Status {
    tracing::warn!(%edge, "a call is refused: {}", status.message());
    status
}
