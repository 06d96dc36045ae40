//! One end of a carried session: a byte stream like a socket.
//!
//! Invariants
//! - At most [`WINDOW`] bytes were sent and not yet passed on by the other side; a writer waits for more credit.
//! - What comes is taken off the connection at once. A peer that sends more than it was given credit for is cut off.
//! - Reading to the end says how it ended: meant ([`Fate::Ended`]), or broken off.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tonic::Streaming;

use super::wire::{self, end_wish, frame};
use super::{BLOB_BYTES_MAX, DATA_BYTES_MAX, EndWish, UNREAD_BYTES_MAX, WINDOW};
use crate::status::text;

/// Credit is given back in steps: a frame for each read would be a waste.
const CREDIT_STEP: usize = WINDOW / 4;
const _: () = assert!(CREDIT_STEP > 0 && CREDIT_STEP < WINDOW);

/// How a carried session ended, or that it has not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    Open,
    /// The other side said that it sends no more.
    Ended,
    /// The account is another node's, where the session is to go on.
    Moved(Moved),
    /// The connection broke, or the other side broke the protocol.
    Broken(String),
}

/// A session that its owner has packed.
#[derive(Clone, PartialEq, Eq)]
pub struct Moved {
    pub blob: Bytes,
    /// What the client sent and the session has not taken.
    pub unread: Bytes,
}

impl std::fmt::Debug for Moved {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Moved({} and {} bytes)", self.blob.len(), self.unread.len())
    }
}

/// One end of a carried session.
pub struct Pipe {
    shared: Arc<Shared>,
    outgoing: mpsc::UnboundedSender<wire::Frame>,
    /// Passed on, and not given back as credit yet.
    passed_on: usize,
    /// At the head of the inbox, sent without credit: reading it gives none back.
    uncredited: usize,
    ended: bool,
    wishes: watch::Receiver<Option<EndWish>>,
    receiver: AbortHandle,
}

struct Shared {
    state: Mutex<State>,
}

struct State {
    credit: usize,
    writer: Option<Waker>,
    inbox: VecDeque<Bytes>,
    /// What the other side may still send.
    allowance: usize,
    reader: Option<Waker>,
    fate: Fate,
    /// The other side wants us to send no data now, and was told that we do not.
    paused: bool,
    /// The other side sends no data now.
    other_paused: bool,
    /// The call is over: no more credit will come.
    over: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first fate stays: an end that was meant is not undone by the end of the call.
    fn end(&self, fate: Fate) {
        let mut state = self.lock();
        state.over |= fate != Fate::Ended;
        if state.fate == Fate::Open {
            state.fate = fate;
        }
        wake(&mut state);
    }
}

fn wake(state: &mut State) {
    for waker in [state.reader.take(), state.writer.take()].into_iter().flatten() {
        waker.wake();
    }
}

impl Pipe {
    /// Joins the two directions of a call whose opening was answered. `first` is what came before.
    pub(super) fn new(
        outgoing: mpsc::UnboundedSender<wire::Frame>,
        incoming: Streaming<wire::Frame>,
        first: Bytes,
    ) -> Self {
        let mut state = State {
            credit: WINDOW,
            writer: None,
            inbox: VecDeque::new(),
            allowance: WINDOW,
            reader: None,
            fate: Fate::Open,
            paused: false,
            other_paused: false,
            over: false,
        };
        let uncredited = first.len();
        if !first.is_empty() {
            state.inbox.push_back(first);
        }
        let shared = Arc::new(Shared { state: Mutex::new(state) });
        let (wish, wishes) = watch::channel(None);
        let task = tokio::spawn(receive(incoming, Arc::clone(&shared), wish, outgoing.clone()));
        let receiver = task.abort_handle();
        Self { shared, outgoing, passed_on: 0, uncredited, ended: false, wishes, receiver }
    }

    /// How it ended, once reading came to the end.
    pub fn fate(&self) -> Fate {
        self.shared.lock().fate.clone()
    }

    /// Asks the other side to end the session.
    pub fn wish_end(&self, wish: EndWish) {
        let why = match wish {
            EndWish::Stopping => end_wish::Why::Stopping(wire::Stopping {}),
            EndWish::Kicked => end_wish::Why::Kicked(wire::Kicked {}),
        };
        self.send(frame::Frame::EndWish(wire::EndWish { why: Some(why) }));
    }

    /// Hears of the other side's wish.
    pub fn wishes(&self) -> watch::Receiver<Option<EndWish>> {
        self.wishes.clone()
    }

    /// Asks the other side to send no data until [`resume`](Self::resume).
    pub fn pause(&self) {
        self.send(frame::Frame::Pause(wire::Pause {}));
    }

    /// Waits until it has stopped. All that it has sent is here then, or in [`take_unread`](Self::take_unread). Returns
    /// false if the call is over.
    pub async fn paused(&self) -> bool {
        std::future::poll_fn(|cx| {
            let mut state = self.shared.lock();
            if state.other_paused || state.over {
                return Poll::Ready(!state.over);
            }
            state.reader = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Lets a side that was asked to pause go on.
    pub fn resume(&self) {
        self.shared.lock().other_paused = false;
        self.send(frame::Frame::Resume(wire::Resume {}));
    }

    /// Takes all that has come and was not read.
    pub fn take_unread(&mut self) -> Bytes {
        let mut state = self.shared.lock();
        let inbox = std::mem::take(&mut state.inbox);
        inbox.into_iter().flatten().collect()
    }

    /// Sends the session to another owner. Nothing is written afterwards.
    pub fn move_on(&mut self, moved: Moved) {
        self.ended = true;
        let Moved { blob, unread } = moved;
        self.send(frame::Frame::Moved(wire::Moved { blob, unread }));
    }

    fn send(&self, frame: frame::Frame) -> bool {
        self.outgoing.send(wire::Frame { frame: Some(frame) }).is_ok()
    }

    fn pass_on(&mut self, count: usize) {
        let free = count.min(self.uncredited);
        self.uncredited -= free;
        self.passed_on += count - free;
        if self.passed_on >= CREDIT_STEP {
            let credit = u32::try_from(self.passed_on).unwrap_or(u32::MAX);
            self.shared.lock().allowance += self.passed_on;
            self.passed_on = 0;
            // A peer that is gone needs none.
            self.send(frame::Frame::Credit(credit));
        }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        self.receiver.abort();
    }
}

impl AsyncRead for Pipe {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let mut taken = 0;
        {
            let mut state = this.shared.lock();
            while buffer.remaining() > 0
                && let Some(front) = state.inbox.front_mut()
            {
                let count = front.len().min(buffer.remaining());
                buffer.put_slice(&front[..count]);
                front.advance(count);
                if front.is_empty() {
                    state.inbox.pop_front();
                }
                taken += count;
            }
            if taken == 0 && buffer.remaining() > 0 && state.fate == Fate::Open {
                state.reader = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        this.pass_on(taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Pipe {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.ended || bytes.is_empty() {
            return Poll::Ready(if this.ended { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(0) });
        }
        // Under the lock: no data may leave behind the word that none does.
        let mut state = this.shared.lock();
        let count = {
            if state.over {
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::BrokenPipe, "the call is over")));
            }
            let count = bytes.len().min(state.credit).min(DATA_BYTES_MAX);
            if count == 0 || state.paused {
                state.writer = Some(cx.waker().clone());
                return Poll::Pending;
            }
            state.credit -= count;
            count
        };
        let data = Bytes::copy_from_slice(&bytes[..count]);
        let sent = this.send(frame::Frame::Data(data));
        drop(state);
        if sent { Poll::Ready(Ok(count)) } else { Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) }
    }

    fn poll_flush(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !std::mem::replace(&mut this.ended, true) {
            this.send(frame::Frame::Ended(wire::Ended {}));
        }
        Poll::Ready(Ok(()))
    }
}

/// Takes what comes, until the stream ends.
async fn receive(
    mut incoming: Streaming<wire::Frame>,
    shared: Arc<Shared>,
    wish: watch::Sender<Option<EndWish>>,
    outgoing: mpsc::UnboundedSender<wire::Frame>,
) {
    loop {
        let broken = match incoming.message().await {
            Ok(Some(frame)) => match take(frame, &shared, &wish, &outgoing) {
                Ok(()) => continue,
                Err(what) => {
                    tracing::warn!(
                        what,
                        "a carried session is cut off: the other node broke the relay protocol; run the same version of roost on both"
                    );
                    what.to_owned()
                }
            },
            Ok(None) => "the other node ended the stream".to_owned(),
            Err(status) => text(&status),
        };
        return shared.end(Fate::Broken(broken));
    }
}

fn take(
    frame: wire::Frame,
    shared: &Shared,
    wish: &watch::Sender<Option<EndWish>>,
    outgoing: &mpsc::UnboundedSender<wire::Frame>,
) -> Result<(), &'static str> {
    match frame.frame.ok_or("a frame of an unknown kind")? {
        frame::Frame::Data(data) => {
            let mut state = shared.lock();
            if state.fate != Fate::Open {
                return Err("data after the end");
            }
            if state.other_paused {
                return Err("data though it had paused");
            }
            let left = state.allowance.checked_sub(data.len());
            state.allowance = left.ok_or("more data than there was credit for")?;
            if !data.is_empty() {
                state.inbox.push_back(data);
                wake(&mut state);
            }
        }
        frame::Frame::Credit(credit) => {
            let mut state = shared.lock();
            let credit = state.credit.saturating_add(credit as usize);
            if credit > WINDOW {
                return Err("more credit than there can be");
            }
            state.credit = credit;
            wake(&mut state);
        }
        frame::Frame::Ended(_) => shared.end(Fate::Ended),
        frame::Frame::EndWish(wire::EndWish { why }) => {
            let why = match why.ok_or("a wish of an unknown kind")? {
                end_wish::Why::Stopping(_) => EndWish::Stopping,
                end_wish::Why::Kicked(_) => EndWish::Kicked,
            };
            wish.send_replace(Some(why));
        }
        frame::Frame::Pause(_) => {
            let mut state = shared.lock();
            state.paused = true;
            // A side that is gone does not wait for it.
            let _ = outgoing.send(wire::Frame { frame: Some(frame::Frame::Paused(wire::Paused {})) });
        }
        frame::Frame::Paused(_) => {
            let mut state = shared.lock();
            state.other_paused = true;
            wake(&mut state);
        }
        frame::Frame::Resume(_) => {
            let mut state = shared.lock();
            state.paused = false;
            wake(&mut state);
        }
        frame::Frame::Moved(wire::Moved { blob, unread }) => {
            if blob.len() > BLOB_BYTES_MAX || unread.len() > UNREAD_BYTES_MAX {
                return Err("a session that is too big");
            }
            shared.end(Fate::Moved(Moved { blob, unread }));
        }
        frame::Frame::Open(_) | frame::Frame::Admission(_) => return Err("a second opening"),
    }
    Ok(())
}
