//! Commands between nodes: one that was typed at a node runs at the node that owns the account it is about.
//!
//! Invariants
//! - Only nodes of this site may have commands run here, as their certificates say.
//! - A node says whether it runs a command before it begins, and takes no input before: one that was declined can be
//!   carried elsewhere as if it had never been.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Channel;
use tonic::{Code, Request, Response, Status, Streaming};

use super::client::{Replies, Sending};
use super::server::{EVENTS_MAX, Events, Input, InputError, first_call};
use super::wire::{self, admin_chunk, admin_client, admin_event, admin_server, admission};
use super::{Call, Carried, Declined, VERSION};
use crate::PeerIdentity;
use crate::status::{is_refusal, text};

/// The node that carries a call has its words at hand.
const OPENING_TIMEOUT: Duration = Duration::from_secs(10);
/// Chunks of input that wait for the other node.
const CHUNKS_MAX: usize = 4;

/// Runs a command that was admitted, and returns its exit code.
pub type Run = Box<dyn FnOnce(Input, Events) -> Pin<Box<dyn Future<Output = u8> + Send>> + Send>;

/// Takes the commands that other nodes carry here.
pub trait Carrier: Send + Sync + 'static {
    /// Looks at a command: what will run it, or why not.
    fn admit(&self, from: PeerIdentity, call: Call) -> impl Future<Output = Result<Run, Declined>> + Send;
}

/// To be added to the server that listens for peers.
pub type PeerService<H> = admin_server::AdminServer<Receiver<H>>;

/// Takes commands from nodes of this site.
pub fn peer_service<H: Carrier>(site: &str, handler: Arc<H>) -> PeerService<H> {
    admin_server::AdminServer::new(Receiver { site: site.to_owned(), handler })
}

/// Checks who calls, and in which version.
pub struct Receiver<H> {
    site: String,
    handler: Arc<H>,
}

impl<H> Receiver<H> {
    fn caller<T>(&self, request: &Request<T>) -> Result<PeerIdentity, Status> {
        let caller = request.extensions().get::<PeerIdentity>().ok_or_else(|| {
            Status::permission_denied("this connection proves no identity: use the site's certificates")
        })?;
        if caller.site == self.site {
            return Ok(caller.clone());
        }
        tracing::warn!(%caller, "a command is refused: it comes from another site");
        Err(Status::permission_denied(format!("{caller} may not run commands at site {}", self.site)))
    }
}

#[tonic::async_trait]
impl<H: Carrier> admin_server::Admin for Receiver<H> {
    type RunStream = Pin<Box<dyn Stream<Item = Result<wire::AdminEvent, Status>> + Send>>;

    async fn run(
        &self,
        request: Request<Streaming<wire::AdminChunk>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let from = self.caller(&request)?;
        let mut chunks = request.into_inner();
        let first = tokio::time::timeout(OPENING_TIMEOUT, chunks.message()).await;
        let first = first.map_err(|_| Status::deadline_exceeded("the call was not opened"))?;
        let call = first_call(first?)?;
        if call.carried.is_none() {
            return Err(Status::invalid_argument("the call does not say that it is carried"));
        }
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let (admission, run) = match self.handler.admit(from, call).await {
            Ok(run) => (admission::Admission::Admitted(wire::Admitted {}), Some(run)),
            Err(Declined::NotOwner(version)) => (admission::Admission::NotOwner(version), None),
            Err(Declined::Unavailable(why)) => (admission::Admission::Unavailable(why), None),
        };
        let admission = wire::Admission { admission: Some(admission) };
        let admission = wire::AdminEvent { event: Some(admin_event::Event::Admission(admission)) };
        if let Some(run) = run {
            let events = Events::new(sender);
            tokio::spawn(async move {
                let exit_code = run(Input::new(chunks), events.clone()).await;
                events.finished(exit_code).await;
            });
        }
        let events = tokio_stream::once(Ok(admission)).chain(ReceiverStream::new(events));
        Ok(Response::new(Box::pin(events)))
    }
}

/// Why a command does not run at another node. Nothing was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// The node is down, cut off, or not what it should be.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    #[error("it refuses: {0}")]
    Refused(String),
    #[error("declined: {0:?}")]
    Declined(Declined),
}

impl From<Status> for CarryError {
    fn from(status: Status) -> Self {
        if status.code() == Code::Unimplemented {
            Self::Refused("it knows no carried commands: run the same version of roost on both".into())
        } else if is_refusal(&status) {
            Self::Refused(status.message().to_owned())
        } else {
            Self::Unreachable(text(&status))
        }
    }
}

/// A command that another node has admitted. Dropping it hangs up.
pub struct Begun {
    chunks: mpsc::Sender<wire::AdminChunk>,
    events: Streaming<wire::AdminEvent>,
}

/// Asks a node to run a command. `within` bounds the asking, not the command.
pub async fn begin(channel: Channel, call: &Call, within: Duration) -> Result<Begun, CarryError> {
    match tokio::time::timeout(within, ask(channel, call)).await {
        Ok(begun) => begun,
        Err(_) => Err(CarryError::Unreachable(format!("no answer within {} s", within.as_secs_f32()))),
    }
}

async fn ask(channel: Channel, call: &Call) -> Result<Begun, CarryError> {
    let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
    let Carried { user, continued } = call.carried.clone().unwrap_or_default();
    let carried = Some(wire::Carried { user: user.unwrap_or_default(), continued });
    let call = wire::AdminCall { version: VERSION, arguments: call.arguments.clone(), carried };
    // The receiver is at hand.
    let _ = sender.send(wire::AdminChunk { chunk: Some(admin_chunk::Chunk::Call(call)) }).await;
    let mut client = admin_client::AdminClient::new(channel);
    let mut events = client.run(ReceiverStream::new(chunks)).await?.into_inner();
    let first = events.message().await?.and_then(|event| event.event);
    let Some(admin_event::Event::Admission(wire::Admission { admission: Some(admission) })) = first else {
        let what = "it answered what this version does not know: run the same version of roost on both";
        return Err(CarryError::Refused(what.to_owned()));
    };
    match admission {
        admission::Admission::Admitted(_) => Ok(Begun { chunks: sender, events }),
        admission::Admission::NotOwner(version) => Err(CarryError::Declined(Declined::NotOwner(version))),
        admission::Admission::Unavailable(why) => Err(CarryError::Declined(Declined::Unavailable(why))),
    }
}

impl Begun {
    /// Lets the command go on, with this input or with none.
    pub fn run(self, input: Option<Input>) -> Replies {
        let sending = Sending(tokio::spawn(pass_on(input, self.chunks)));
        Replies::new(self.events, sending)
    }
}

/// Passes input on as it comes. Input that breaks off breaks off there, too.
async fn pass_on(mut input: Option<Input>, chunks: mpsc::Sender<wire::AdminChunk>) {
    loop {
        let next = match &mut input {
            None => Ok(None),
            Some(input) => input.next().await,
        };
        let (chunk, last) = match next {
            Ok(Some(bytes)) => (admin_chunk::Chunk::Input(bytes), false),
            Ok(None) => (admin_chunk::Chunk::InputEnded(wire::InputEnded {}), true),
            Err(InputError::Failed(why)) => (admin_chunk::Chunk::InputFailed(why), true),
            Err(InputError::HungUp | InputError::Protocol(_) | InputError::TooLong { .. }) => return,
        };
        let sent = chunks.send(wire::AdminChunk { chunk: Some(chunk) }).await;
        if last || sent.is_err() {
            return;
        }
    }
}
