//! The server's side: takes calls from the socket and hands them to a handler.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, UnixListenerStream};
use tokio_stream::{Stream, StreamExt};
use tonic::{Request, Response, Status, Streaming};

use super::client::event_from;
use super::socket::AdminSocket;
use super::wire::{self, admin_chunk, admin_event, admin_server};
use super::{CHUNK_BYTES_MAX, Call, Carried, Event, Progress, VERSION};

/// Events that wait for a slow client; then the handler waits.
pub(super) const EVENTS_MAX: usize = 16;

/// Runs commands.
pub trait Handler: Send + Sync + 'static {
    /// Runs one command and returns its exit code. A client that hangs up does not end it by itself: sending events
    /// fails then, and the command decides whether it goes on.
    fn run(&self, call: Call, input: Input, events: Events) -> impl Future<Output = u8> + Send;
}

/// The client is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the client hung up")]
pub struct HungUp;

/// Why a command's input has no end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InputError {
    #[error("the client hung up in the middle of its input")]
    HungUp,
    #[error("the client could not read its input: {0}")]
    Failed(String),
    #[error("the client broke the protocol: {0}")]
    Protocol(&'static str),
    #[error("the input is longer than {limit} bytes")]
    TooLong { limit: usize },
}

#[derive(Debug, thiserror::Error)]
#[error("the admin socket cannot be served: {0}")]
pub struct ServeError(#[source] tonic::transport::Error);

/// A command's standard input.
pub struct Input {
    chunks: Streaming<wire::AdminChunk>,
    ended: Option<Result<(), InputError>>,
}

impl Input {
    pub(super) fn new(chunks: Streaming<wire::AdminChunk>) -> Self {
        Self { chunks, ended: None }
    }

    /// Returns the next bytes, or `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, InputError> {
        if let Some(ended) = &self.ended {
            return ended.clone().map(|()| None);
        }
        let ended = match self.chunks.message().await {
            Ok(Some(wire::AdminChunk { chunk: Some(admin_chunk::Chunk::Input(bytes)) })) => {
                return Ok(Some(bytes));
            }
            Ok(Some(wire::AdminChunk { chunk: Some(admin_chunk::Chunk::InputFailed(why)) })) => {
                Err(InputError::Failed(why))
            }
            Ok(Some(wire::AdminChunk { chunk: Some(admin_chunk::Chunk::Call(_)) })) => {
                Err(InputError::Protocol("a second call in one stream"))
            }
            Ok(Some(wire::AdminChunk { chunk: None })) => Err(InputError::Protocol("an empty chunk")),
            Ok(Some(wire::AdminChunk { chunk: Some(admin_chunk::Chunk::InputEnded(_)) })) => Ok(()),
            Ok(None) | Err(_) => Err(InputError::HungUp),
        };
        self.ended = Some(ended.clone());
        ended.map(|()| None)
    }

    /// Reads everything, when it is at most so long.
    pub async fn read_all(&mut self, limit: usize) -> Result<Vec<u8>, InputError> {
        let mut all = Vec::new();
        while let Some(bytes) = self.next().await? {
            if bytes.len() > limit - all.len() {
                return Err(InputError::TooLong { limit });
            }
            all.extend_from_slice(&bytes);
        }
        Ok(all)
    }
}

/// Where a command says what it has to say. Cheap to clone.
#[derive(Clone)]
pub struct Events(mpsc::Sender<Result<wire::AdminEvent, Status>>);

/// Somewhere to print to that is read here.
pub fn captured() -> (Events, Captured) {
    let (sender, events) = mpsc::channel(EVENTS_MAX);
    (Events(sender), Captured(events))
}

/// What was printed to a [`captured`] place. Ends when all that could print is gone.
pub struct Captured(mpsc::Receiver<Result<wire::AdminEvent, Status>>);

impl Captured {
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            let event = self.0.recv().await?.ok()?.event;
            if let Some(event) = event.and_then(event_from) {
                return Some(event);
            }
        }
    }
}

impl Events {
    pub(super) fn new(sender: mpsc::Sender<Result<wire::AdminEvent, Status>>) -> Self {
        Self(sender)
    }

    pub async fn stdout(&self, bytes: impl Into<Bytes>) -> Result<(), HungUp> {
        self.send_pieces(bytes.into(), admin_event::Event::Stdout).await
    }

    pub async fn stderr(&self, bytes: impl Into<Bytes>) -> Result<(), HungUp> {
        self.send_pieces(bytes.into(), admin_event::Event::Stderr).await
    }

    pub async fn progress(&self, progress: Progress) -> Result<(), HungUp> {
        let Progress { done, total, unit, label } = progress;
        let progress = wire::Progress { done, total: total.unwrap_or(0), unit, label };
        self.send(admin_event::Event::Progress(progress)).await
    }

    /// Returns when the client is gone.
    pub async fn hung_up(&self) {
        self.0.closed().await;
    }

    async fn send_pieces(
        &self,
        mut bytes: Bytes,
        event: fn(Bytes) -> admin_event::Event,
    ) -> Result<(), HungUp> {
        while !bytes.is_empty() {
            let piece = bytes.split_to(bytes.len().min(CHUNK_BYTES_MAX));
            self.send(event(piece)).await?;
        }
        Ok(())
    }

    /// The last event of every call.
    pub(super) async fn finished(&self, exit_code: u8) {
        let finished = wire::Finished { exit_code: u32::from(exit_code) };
        if self.send(admin_event::Event::Finished(finished)).await.is_err() {
            tracing::debug!("a client hung up before its command had ended");
        }
    }

    pub(super) async fn send(&self, event: admin_event::Event) -> Result<(), HungUp> {
        self.0.send(Ok(wire::AdminEvent { event: Some(event) })).await.map_err(|_| HungUp)
    }
}

/// Serves the socket until `shutdown`, then until the running calls have ended.
pub async fn serve<H: Handler>(
    socket: AdminSocket,
    handler: Arc<H>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let (listener, _name) = socket.into_parts();
    let Some(listener) = listener else { return Ok(()) };
    let service = admin_server::AdminServer::new(Service { handler });
    let connections = UnixListenerStream::new(listener);
    let server = tonic::transport::Server::builder().add_service(service);
    server.serve_with_incoming_shutdown(connections, shutdown).await.map_err(ServeError)
}

struct Service<H> {
    handler: Arc<H>,
}

#[tonic::async_trait]
impl<H: Handler> admin_server::Admin for Service<H> {
    type RunStream = Pin<Box<dyn Stream<Item = Result<wire::AdminEvent, Status>> + Send>>;

    async fn run(
        &self,
        request: Request<Streaming<wire::AdminChunk>>,
    ) -> Result<Response<Self::RunStream>, Status> {
        let mut chunks = request.into_inner();
        let call = first_call(chunks.message().await?)?;
        if call.carried.is_some() {
            return Err(Status::invalid_argument("no call is carried to the admin socket"));
        }
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        let handler = Arc::clone(&self.handler);
        tokio::spawn(async move {
            let input = Input::new(chunks);
            let exit_code = handler.run(call, input, Events(sender.clone())).await;
            Events(sender).finished(exit_code).await;
        });
        let events: Self::RunStream = Box::pin(ReceiverStream::new(events).fuse());
        Ok(Response::new(events))
    }
}

pub(super) fn first_call(chunk: Option<wire::AdminChunk>) -> Result<Call, Status> {
    let Some(wire::AdminChunk { chunk: Some(admin_chunk::Chunk::Call(call)) }) = chunk else {
        return Err(Status::invalid_argument("the first chunk carries no call"));
    };
    if call.version != VERSION {
        return Err(Status::failed_precondition(format!(
            "the running server speaks version {VERSION} of the admin protocol, this command version {}; \
             restart the server, or use the command that it was started from",
            call.version
        )));
    }
    let carried = call.carried.map(|wire::Carried { user, continued }| Carried {
        user: Some(user).filter(|user| !user.is_empty()),
        continued,
    });
    Ok(Call { arguments: call.arguments, carried })
}
