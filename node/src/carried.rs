//! A client whose session is carried to the owner of its account: bytes both ways, to the next owner where there is one,
//! and a decent end.
//!
//! Invariants
//! - Bytes are passed on as they are, in order, in both directions at once; an idle session holds no buffer.
//! - A client that takes nothing is not read for: its owner is stopped by the window of the pipe, and after
//!   `output_stall` the client is disconnected.
//! - When the owner gives the account away, the session goes on at the next one, or here (L-CN3): it brings along what the
//!   client has sent, and what it sends meanwhile waits here.
//! - When the owner is lost, an IMAP client hears BYE if it is between two responses, and is disconnected in any case. A
//!   response that was cut off is never gone on with.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use rpc::relay::{EndWish, Fate, Login, Moved, Open, Pipe};
use session::blob::Blob;
use session::imap::boundary::Boundary;
use session::{Closing, Connection, Input};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;

use crate::asking::{Found, HandedOver, Settled};
use crate::live::{End, Place};
use crate::resume::{Resumed, Resuming};
use crate::router::Owner;
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

/// An owner that gives an account away says by itself where its sessions go on. One that has said nothing so long after
/// the account got another owner is lost, or fenced.
const MOVE_GRACE: Duration = Duration::from_secs(3);

/// A session that is carried.
pub struct Session<'a> {
    pub stream: &'a mut Stream,
    pub place: &'a mut Place,
    pub stopping: &'a mut watch::Receiver<bool>,
    pub resuming: &'a Resuming,
    pub imap: bool,
    pub output_stall: Duration,
    pub handed: HandedOver,
}

/// How the carrying came to its end.
pub enum Carried {
    Closed(Closing),
    /// The account has come to this node.
    Here(Box<Resumed>),
}

/// Why no more bytes pass.
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

/// What goes on between a client and its owners.
#[derive(Default)]
struct Ways {
    up: Way,
    down: Way,
    boundary: Boundary,
    /// Since when the client has taken nothing.
    stalled: Option<Instant>,
}

impl Ways {
    fn is_between_responses(&self) -> bool {
        self.boundary.is_between_responses() && self.down.pending.is_empty()
    }

    /// The next owner goes on where the last one stopped.
    fn next_owner(&mut self) {
        self.up.done = false;
        self.down = Way::default();
    }
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

impl Session<'_> {
    /// Carries until one side ends; says how.
    pub async fn run(mut self) -> Carried {
        let mut ways = Ways::default();
        let mut told_stopping = false;
        let mut end: Option<(Instant, &'static str)> = None;
        loop {
            match self.event(&mut ways, told_stopping, end.map(|(at, _)| at)).await {
                Event::Ended(Ended::Client) => return Carried::Closed(Closing::ClientHungUp),
                Event::Ended(Ended::Owner(Fate::Moved(moved))) => {
                    match self.move_on(moved, &mut ways).await {
                        Ok(None) => end = None,
                        Ok(Some(resumed)) => return Carried::Here(Box::new(resumed)),
                        Err(closing) => return Carried::Closed(closing),
                    }
                }
                Event::Ended(Ended::Owner(fate)) => {
                    return Carried::Closed(self.owner_ended(fate, end, &ways).await);
                }
                Event::Stopping => {
                    told_stopping = true;
                    self.handed.pipe.wish_end(EndWish::Stopping);
                }
                Event::End => match self.place.ending() {
                    End::None | End::Leaving(_) => {}
                    End::Kicked(why) => {
                        self.handed.pipe.wish_end(EndWish::Kicked);
                        end = Some((time::now() + END_GRACE, why));
                    }
                    End::Moved => {
                        end.get_or_insert((time::now() + MOVE_GRACE, MOVED));
                    }
                },
                Event::GraceOver if end.is_some_and(|(_, why)| why == MOVED) && self.owner_is_right() => {
                    end = None
                }
                Event::GraceOver => {
                    let why = end.map_or(MOVED, |(_, why)| why);
                    self.goodbye(ways.is_between_responses(), why).await;
                    return Carried::Closed(Closing::Kicked(why));
                }
                Event::Stalled => {
                    let stall = self.output_stall;
                    if ways.stalled.is_some_and(|since| time::now().saturating_duration_since(since) >= stall)
                    {
                        return Carried::Closed(Closing::TimedOut("it took no output"));
                    }
                }
            }
        }
    }

    async fn event(&mut self, ways: &mut Ways, told_stopping: bool, end: Option<Instant>) -> Event {
        let (stream, pipe) = (&mut *self.stream, &mut self.handed.pipe);
        let stall = self.output_stall;
        tokio::select! {
            biased;
            ended = poll_fn(|cx| pass(cx, stream, pipe, ways)) => Event::Ended(ended),
            () = stopped(self.stopping), if !told_stopping => Event::Stopping,
            Ok(()) = self.place.end.changed() => Event::End,
            () = until(end) => Event::GraceOver,
            // Looked at now and then: what it is about changes while we wait.
            () = tokio::time::sleep(stall) => Event::Stalled,
        }
    }

    /// Whether the account is where its session is: it came back, or we did not know yet that it had moved there.
    fn owner_is_right(&self) -> bool {
        let HandedOver { account, node, .. } = self.handed;
        self.resuming.services.router.owner(account) == Owner::Node(node)
    }

    /// The owner has given the account away: the session goes on at the next one, or in this process.
    async fn move_on(&mut self, moved: Moved, ways: &mut Ways) -> Result<Option<Resumed>, Closing> {
        let Moved { blob, unread } = moved;
        let begun = time::now();
        let Connection { remote, tls, .. } = self.resuming.connection;
        let open = Open {
            user: self.handed.user.clone(),
            remote,
            tls,
            session: self.resuming.id.clone(),
            login: Login::Resumed { blob: blob.clone() },
            unread: unread.clone(),
            moves: true,
            known: 0,
        };
        let why = match self.resuming.services.carry(open).await {
            Settled::Carried(handed) => {
                let ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                tracing::debug!(
                    user = self.handed.user,
                    node = handed.node,
                    ms,
                    "session goes on at another owner"
                );
                self.handed = *handed;
                self.place.carried(self.handed.user.clone(), self.handed.node);
                self.place.bind(self.handed.account, Owner::Node(self.handed.node));
                ways.next_owner();
                return Ok(None);
            }
            Settled::Opened(Ok(Found::Here(account, user))) => {
                let resumed = Blob::read(blob)
                    .map_err(|error| error.to_string())
                    .and_then(|blob| self.resuming.go_on(account, user, &blob));
                match resumed {
                    Ok(mut resumed) => {
                        for bytes in [unread, std::mem::take(&mut ways.up.pending)] {
                            if !bytes.is_empty() {
                                resumed.session.handle(time::now(), Input::Received(&bytes));
                            }
                        }
                        return Ok(Some(resumed));
                    }
                    Err(why) => why,
                }
            }
            Settled::Opened(Err(failed)) => format!("{failed:?}"),
            Settled::Opened(Ok(Found::Elsewhere(_)))
            | Settled::Answer(_)
            | Settled::Sasl(_)
            | Settled::Login(_)
            | Settled::Octets(..)
            | Settled::Recipient(_) => "an answer of the wrong kind".to_owned(),
        };
        tracing::warn!(user = self.handed.user, why, "a session cannot go on: its account has moved");
        self.goodbye(ways.is_between_responses(), MOVED).await;
        Err(Closing::Kicked(MOVED))
    }

    async fn owner_ended(
        &mut self,
        fate: Fate,
        end: Option<(Instant, &'static str)>,
        ways: &Ways,
    ) -> Closing {
        match fate {
            Fate::Ended | Fate::Open | Fate::Moved(_) => {
                let _ = tokio::time::timeout(self.output_stall, self.stream.shutdown()).await;
                end.map_or(Closing::LoggedOut, |(_, why)| Closing::Kicked(why))
            }
            Fate::Broken(why) => {
                self.goodbye(ways.is_between_responses(), "The node with this account is lost").await;
                Closing::Failed(format!("node {}: {why}", self.handed.node))
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
/// Why it ends when this node has no lease any more.
pub const LOST: &str = "This node has lost touch with its site";

/// Moves what can be moved, both ways.
fn pass(cx: &mut Context<'_>, stream: &mut Stream, pipe: &mut Pipe, ways: &mut Ways) -> Poll<Ended> {
    let Ways { up, down, boundary, stalled } = ways;
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
