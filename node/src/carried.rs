//! A client whose session is carried to the owner of its account: bytes both ways, and a decent end.
//!
//! Invariants
//! - Bytes are passed on as they are, in order, in both directions at once; an idle session holds no buffer.
//! - A client that takes nothing is not read for: its owner is stopped by the window of the pipe, and after
//!   `output_stall` the client is disconnected.
//! - When the owner is lost, an IMAP client hears BYE if it is between two responses, and is disconnected in any case. A
//!   response that was cut off is never gone on with.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use rpc::relay::{EndWish, Fate, Pipe};
use session::Closing;
use session::imap::boundary::Boundary;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;

use crate::live::{End, Place};
use crate::stream::Stream;
use crate::time;

/// Read at a time.
const READ_BYTES: usize = 32 * 1024;
/// A session that somebody ended has so long for its last words, then it is cut off.
const END_GRACE: Duration = Duration::from_secs(5);

thread_local! {
    /// Sessions of one thread take turns with it: none keeps anything in it across an await.
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// A session that is carried.
pub struct Session {
    pub stream: Stream,
    pub pipe: Pipe,
    /// The owner.
    pub node: u8,
    pub imap: bool,
    pub place: Place,
    pub stopping: watch::Receiver<bool>,
    pub output_stall: Duration,
}

/// How the carrying came to its end.
enum Ended {
    Client,
    Owner(Fate),
}

enum Event {
    Ended(Ended),
    Stopping,
    End,
    Stalled,
    GraceOver,
}

/// One direction.
#[derive(Default)]
struct Way {
    /// Read and not written yet.
    pending: Bytes,
    ended: bool,
    done: bool,
}

enum Broken {
    Source,
    Sink,
}

impl Session {
    /// Carries until one side ends; says how.
    pub async fn run(mut self) -> Closing {
        let (mut up, mut down) = (Way::default(), Way::default());
        let mut boundary = Boundary::default();
        let mut stalled: Option<Instant> = None;
        let mut told_stopping = false;
        let mut end: Option<(Instant, &'static str)> = None;
        loop {
            let event = {
                let (stream, pipe) = (&mut self.stream, &mut self.pipe);
                let stall = self.output_stall;
                tokio::select! {
                    biased;
                    ended = poll_fn(|cx| pass(cx, stream, pipe, &mut up, &mut down, &mut boundary, &mut stalled)) => {
                        Event::Ended(ended)
                    }
                    () = stopped(&mut self.stopping), if !told_stopping => Event::Stopping,
                    Ok(()) = self.place.end.changed() => Event::End,
                    () = until(end.map(|(at, _)| at)) => Event::GraceOver,
                    // Looked at now and then: what it is about changes while we wait.
                    () = tokio::time::sleep(stall) => Event::Stalled,
                }
            };
            match event {
                Event::Ended(Ended::Client) => return Closing::ClientHungUp,
                Event::Ended(Ended::Owner(fate)) => return self.owner_ended(fate, end, &boundary).await,
                Event::Stopping => {
                    told_stopping = true;
                    self.pipe.wish_end(EndWish::Stopping);
                }
                Event::End => match self.place.ending() {
                    End::None => {}
                    End::Kicked(why) => {
                        self.pipe.wish_end(EndWish::Kicked);
                        end = Some((time::now() + END_GRACE, why));
                    }
                    End::Moved => {
                        let sound = boundary.is_between_responses() && down.pending.is_empty();
                        self.goodbye(sound, MOVED).await;
                        return Closing::Kicked(MOVED);
                    }
                },
                Event::GraceOver => {
                    let why = end.map_or(MOVED, |(_, why)| why);
                    self.goodbye(boundary.is_between_responses() && down.pending.is_empty(), why).await;
                    return Closing::Kicked(why);
                }
                Event::Stalled => {
                    let stall = self.output_stall;
                    if stalled.is_some_and(|since| time::now().saturating_duration_since(since) >= stall) {
                        return Closing::TimedOut("it took no output");
                    }
                }
            }
        }
    }

    async fn owner_ended(
        &mut self,
        fate: Fate,
        end: Option<(Instant, &'static str)>,
        boundary: &Boundary,
    ) -> Closing {
        match fate {
            Fate::Ended | Fate::Open => {
                let _ = tokio::time::timeout(self.output_stall, self.stream.shutdown()).await;
                end.map_or(Closing::LoggedOut, |(_, why)| Closing::Kicked(why))
            }
            Fate::Broken(why) => {
                self.goodbye(boundary.is_between_responses(), "The node with this account is lost").await;
                Closing::Failed(format!("node {}: {why}", self.node))
            }
        }
    }

    /// Ends the client's connection; with words, where they would be read as such.
    async fn goodbye(&mut self, sound: bool, why: &str) {
        let words = format!("* BYE [UNAVAILABLE] {why}, please connect again\r\n");
        let words = if self.imap && sound { words.as_str() } else { "" };
        let said = async {
            self.stream.write_all(words.as_bytes()).await?;
            self.stream.shutdown().await
        };
        // A client that does not take them is cut off.
        let _ = tokio::time::timeout(END_GRACE, said).await;
    }
}

/// Why a session ends whose account got another owner.
pub const MOVED: &str = "Account has moved to another node";

/// Moves what can be moved, both ways.
fn pass(
    cx: &mut Context<'_>,
    stream: &mut Stream,
    pipe: &mut Pipe,
    up: &mut Way,
    down: &mut Way,
    boundary: &mut Boundary,
    stalled: &mut Option<Instant>,
) -> Poll<Ended> {
    if !up.done {
        match up.poll(cx, stream, pipe, |_| {}) {
            Poll::Ready(Err(Broken::Source)) => return Poll::Ready(Ended::Client),
            Poll::Ready(Ok(())) => {
                up.done = true;
                // Never waits: the end is just another frame.
                let _ = Pin::new(&mut *pipe).poll_shutdown(cx);
            }
            // The owner takes nothing any more; what it still has to say says why.
            Poll::Ready(Err(Broken::Sink)) => up.done = true,
            Poll::Pending => {}
        }
    }
    let mut moved = false;
    let passed = down.poll(cx, pipe, stream, |bytes| {
        moved = true;
        boundary.feed(bytes);
    });
    // A client that takes something, however slowly, does not stall.
    if moved || down.pending.is_empty() {
        *stalled = None;
    }
    if !down.pending.is_empty() {
        stalled.get_or_insert_with(time::now);
    }
    match passed {
        Poll::Ready(Ok(()) | Err(Broken::Source)) => Poll::Ready(Ended::Owner(pipe.fate())),
        Poll::Ready(Err(Broken::Sink)) => Poll::Ready(Ended::Client),
        Poll::Pending => Poll::Pending,
    }
}

impl Way {
    /// Reads and writes until one has to be waited for. Ready when the source has ended and all of it was written.
    fn poll<R: AsyncRead + Unpin, W: AsyncWrite + Unpin>(
        &mut self,
        cx: &mut Context<'_>,
        source: &mut R,
        sink: &mut W,
        mut passed: impl FnMut(&[u8]),
    ) -> Poll<Result<(), Broken>> {
        loop {
            while self.pending.has_remaining() {
                match ready!(Pin::new(&mut *sink).poll_write(cx, &self.pending)) {
                    Ok(0) | Err(_) => return Poll::Ready(Err(Broken::Sink)),
                    Ok(count) => {
                        passed(&self.pending[..count]);
                        self.pending.advance(count);
                    }
                }
            }
            self.pending = Bytes::new();
            if ready!(Pin::new(&mut *sink).poll_flush(cx)).is_err() {
                return Poll::Ready(Err(Broken::Sink));
            }
            if self.ended {
                return Poll::Ready(Ok(()));
            }
            match ready!(read(cx, source)) {
                Ok(bytes) if bytes.is_empty() => self.ended = true,
                Ok(bytes) => self.pending = bytes,
                Err(_) => return Poll::Ready(Err(Broken::Source)),
            }
        }
    }
}

fn read<R: AsyncRead + Unpin>(cx: &mut Context<'_>, source: &mut R) -> Poll<io::Result<Bytes>> {
    BUFFER.with(|buffer| {
        let mut buffer = buffer.borrow_mut();
        let mut read = ReadBuf::new(&mut buffer);
        ready!(Pin::new(source).poll_read(cx, &mut read))?;
        Poll::Ready(Ok(Bytes::copy_from_slice(read.filled())))
    })
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}
