//! The command line's side: sends one call, passes standard input on, hands out what comes back.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::{Bytes, BytesMut};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tonic::{Code, Status, Streaming};

use super::wire::{self, admin_chunk, admin_client, admin_event};
use super::{CHUNK_BYTES_MAX, Event, Progress, VERSION, socket};

/// Chunks of input that wait for the server.
const CHUNKS_MAX: usize = 4;

#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    #[error("no server is running: nothing at the admin socket {}", .0.display())]
    NoSocket(PathBuf),
    #[error("no server is running: nobody answers on the admin socket {}", .0.display())]
    NobodyAnswers(PathBuf),
    #[error("not permitted to use the admin socket {}; run this as the server's user or as root", .0.display())]
    NotPermitted(PathBuf),
    #[error("cannot use the admin socket {}: {why}", path.display())]
    Failed { path: PathBuf, why: String },
}

#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// Client and server are of different versions.
    #[error("{0}")]
    Version(String),
    /// The server ended before the command did. What it had begun may be done or not.
    #[error("the server went away before the command had ended")]
    Lost,
    #[error("the server does not understand the command: {0}")]
    Refused(String),
}

impl From<Status> for CallError {
    fn from(status: Status) -> Self {
        match status.code() {
            Code::FailedPrecondition => Self::Version(status.message().to_owned()),
            Code::InvalidArgument | Code::Unimplemented | Code::OutOfRange => {
                Self::Refused(status.message().to_owned())
            }
            Code::Ok
            | Code::Cancelled
            | Code::Unknown
            | Code::DeadlineExceeded
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
            | Code::Unauthenticated => Self::Lost,
        }
    }
}

fn refused(path: &Path, error: &io::Error) -> ConnectError {
    let (kind, path) = (error.kind(), path.to_owned());
    if kind == io::ErrorKind::NotFound {
        ConnectError::NoSocket(path)
    } else if kind == io::ErrorKind::ConnectionRefused {
        ConnectError::NobodyAnswers(path)
    } else if kind == io::ErrorKind::PermissionDenied {
        ConnectError::NotPermitted(path)
    } else {
        ConnectError::Failed { path, why: error.to_string() }
    }
}

/// A connection to a running server.
pub struct AdminClient {
    client: admin_client::AdminClient<Channel>,
}

impl AdminClient {
    pub async fn connect(path: &Path) -> Result<Self, ConnectError> {
        let stream = socket::connect(path).await.map_err(|error| refused(path, &error))?;
        // One command, one connection: it is never made again behind our back.
        let stream: Arc<Mutex<Option<UnixStream>>> = Arc::new(Mutex::new(Some(stream)));
        let connector = tower::service_fn(move |_: Uri| {
            let stream = stream.lock().unwrap_or_else(PoisonError::into_inner).take();
            async move { stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
        });
        let channel = Endpoint::from_static("http://admin.socket").connect_with_connector(connector).await;
        let failed = |error: tonic::transport::Error| ConnectError::Failed {
            path: path.to_owned(),
            why: error.to_string(),
        };
        Ok(Self { client: admin_client::AdminClient::new(channel.map_err(failed)?) })
    }

    /// Starts a command. `input` is read as fast as the command takes it; `tokio::io::empty()` for none.
    pub async fn run(
        &mut self,
        arguments: Vec<String>,
        input: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Replies, CallError> {
        self.run_as(VERSION, arguments, input).await
    }

    /// The same as a command line of another version would do it.
    #[doc(hidden)]
    pub async fn run_as(
        &mut self,
        version: u32,
        arguments: Vec<String>,
        input: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Replies, CallError> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let call = wire::AdminCall { version, arguments, carried: None };
        let sending = Sending(tokio::spawn(send_all(call, input, sender)));
        let events = self.client.run(ReceiverStream::new(chunks)).await?.into_inner();
        Ok(Replies::new(events, sending))
    }
}

/// The task that sends the input. Ends with whoever listens for the replies.
pub(super) struct Sending(pub(super) tokio::task::JoinHandle<()>);

impl Drop for Sending {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a command says, as it says it. Dropping it hangs up.
pub struct Replies {
    events: Streaming<wire::AdminEvent>,
    finished: bool,
    _sending: Sending,
}

impl Replies {
    pub(super) fn new(events: Streaming<wire::AdminEvent>, sending: Sending) -> Self {
        Self { events, finished: false, _sending: sending }
    }

    /// Returns the next event, or `None` after [`Event::Finished`].
    pub async fn next(&mut self) -> Result<Option<Event>, CallError> {
        if self.finished {
            return Ok(None);
        }
        loop {
            let Some(wire::AdminEvent { event }) = self.events.message().await? else {
                return Err(CallError::Lost);
            };
            // Events that we do not know are a newer server's; its last one we know.
            if let Some(event) = event.and_then(event_from) {
                self.finished = matches!(event, Event::Finished(_));
                return Ok(Some(event));
            }
        }
    }
}

/// `None`: nothing for who typed the command.
pub(super) fn event_from(event: admin_event::Event) -> Option<Event> {
    Some(match event {
        admin_event::Event::Stdout(bytes) => Event::Stdout(bytes),
        admin_event::Event::Stderr(bytes) => Event::Stderr(bytes),
        admin_event::Event::Progress(wire::Progress { done, total, unit, label }) => {
            Event::Progress(Progress { done, total: (total > 0).then_some(total), unit, label })
        }
        admin_event::Event::Finished(finished) => {
            Event::Finished(u8::try_from(finished.exit_code).unwrap_or(u8::MAX))
        }
        admin_event::Event::Admission(_) => return None,
    })
}

/// Sends the call, then the input until it ends, fails, or nobody wants it.
async fn send_all(
    call: wire::AdminCall,
    mut input: impl AsyncRead + Send + Unpin,
    sender: mpsc::Sender<wire::AdminChunk>,
) {
    let mut next = admin_chunk::Chunk::Call(call);
    loop {
        let last = matches!(next, admin_chunk::Chunk::InputEnded(_) | admin_chunk::Chunk::InputFailed(_));
        let sent = sender.send(wire::AdminChunk { chunk: Some(next) }).await;
        if last || sent.is_err() {
            return;
        }
        let mut bytes = BytesMut::with_capacity(CHUNK_BYTES_MAX);
        next = match input.read_buf(&mut bytes).await {
            Ok(0) => admin_chunk::Chunk::InputEnded(wire::InputEnded {}),
            Ok(_) => admin_chunk::Chunk::Input(Bytes::from(bytes)),
            Err(error) => admin_chunk::Chunk::InputFailed(error.to_string()),
        };
    }
}
