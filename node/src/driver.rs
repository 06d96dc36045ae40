//! A session, a socket and a clock: the loop.
//!
//! Invariants
//! - Bytes go from the socket straight into the session; no buffer stays with an idle connection.
//! - Output is written before more input is read, so a client that does not read is not served; after
//!   `output_stall` it is disconnected.

use std::cell::RefCell;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use futures::stream::{FuturesUnordered, StreamExt};
use session::{Closing, Doing, Input, Output, Session};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::asking::{Asking, HandedOver, Told, Working};
use crate::carried;
use crate::live::{End, Place};
use crate::metrics::{ByDirection, ByName, Metrics};
use crate::router::Owner;
use crate::stream::Stream;
use crate::time;

/// Read from a socket at a time.
const READ_BYTES: usize = 16 * 1024;
/// A TLS handshake takes no longer.
const HANDSHAKE: Duration = Duration::from_secs(30);
/// Written at a time: small pieces of output are put together up to this.
const WRITE_BYTES: usize = 64 * 1024;

thread_local! {
    /// Sessions of one thread take turns with it: none keeps anything in it across an await.
    static READ_BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; READ_BYTES].into_boxed_slice());
}

/// One connection being served.
pub struct Conversation {
    pub stream: Stream,
    pub session: Box<dyn Session>,
    pub asking: Asking,
    pub place: Place,
    pub acceptor: Option<TlsAcceptor>,
    /// True once the node is about to stop.
    pub stopping: watch::Receiver<bool>,
    pub output_stall: Duration,
    pub protocol: &'static str,
    pub metrics: Arc<Metrics>,
    /// What `roost who` was last told.
    pub told: Doing,
    /// Whether the session was told that its account is elsewhere.
    pub moved: bool,
}

/// What happened first.
enum Event {
    Read(io::Result<()>),
    Settled(session::Ticket, Box<crate::asking::Settled>),
    Changed,
    Deadline,
    Stopping,
    End,
}

/// What one round of output led to.
enum Round {
    Quiet,
    Drained,
    Closed(Closing),
    Broken(io::Error),
}

impl Conversation {
    /// Serves until the conversation ends; says how it did.
    pub async fn run(mut self) -> Closing {
        let mut working = FuturesUnordered::<Working>::new();
        let mut changes: Option<watch::Receiver<_>> = None;
        let mut told_stopping = false;
        loop {
            match self.output(&mut working).await {
                Round::Closed(closing) => return closing,
                Round::Broken(error) => return broken(&error),
                Round::Drained => {
                    self.session.handle(time::now(), Input::Drained);
                    continue;
                }
                Round::Quiet => {}
            }
            self.report();
            if changes.is_none() {
                changes = self.asking.joined.as_ref().map(|joined| joined.account.watch());
                if let Some(joined) = &self.asking.joined {
                    self.place.bind(joined.account.id, Owner::Here);
                }
            }
            match self.event(&mut working, changes.as_mut(), told_stopping).await {
                Event::Read(Ok(())) => {}
                Event::Read(Err(error)) => return broken(&error),
                Event::Settled(ticket, settled) => match self.asking.settle(ticket, *settled) {
                    Ok(Told::Carried(carried)) => return self.carry(*carried).await,
                    Ok(Told::Answer(answer)) => {
                        self.session.handle(time::now(), Input::Answered(ticket, answer))
                    }
                    Err(more) => working.push(more),
                },
                Event::Changed => {
                    let snapshot = changes.as_mut().and_then(|changes| changes.borrow_and_update().clone());
                    if let Some(snapshot) = snapshot {
                        self.session.handle(time::now(), Input::Changed(snapshot));
                    }
                }
                Event::Deadline => self.session.handle(time::now(), Input::Expired),
                Event::Stopping => {
                    told_stopping = true;
                    self.session.handle(time::now(), Input::Stopping);
                }
                Event::End => match self.place.ending() {
                    End::None => {}
                    End::Kicked(why) => self.session.handle(time::now(), Input::Kicked(why)),
                    End::Moved => {
                        // All that the session knew was said or held back before: what comes now is good-bye.
                        self.moved = true;
                        self.session.handle(time::now(), Input::Kicked(carried::MOVED));
                    }
                },
            }
        }
    }

    /// The account is at another node: the session goes on there, and here only its bytes pass.
    async fn carry(self, handed: HandedOver) -> Closing {
        let HandedOver { account, user, node, pipe } = handed;
        tracing::debug!(user, node, "session is carried to the owner of its account");
        self.place.carried(user, node);
        self.place.bind(account, Owner::Node(node));
        let by = ByDirection { protocol: self.protocol, direction: "to" };
        let metrics = self.metrics;
        metrics.forwarded_sessions.get_or_create(&by).inc();
        metrics.forwarded_sessions_total.get_or_create(&by).inc();
        let carried = carried::Session {
            stream: self.stream,
            pipe,
            node,
            imap: self.protocol == "imap",
            place: self.place,
            stopping: self.stopping,
            output_stall: self.output_stall,
        };
        let closing = carried.run().await;
        metrics.forwarded_sessions.get_or_create(&by).dec();
        closing
    }

    /// Tells `roost who` and the metrics.
    fn report(&mut self) {
        let doing = self.session.doing();
        if doing != self.told {
            self.place.update(doing.clone(), self.asking.is_tls());
            self.told = doing;
        }
        while let Some(finished) = self.session.take_finished() {
            let by = ByName { protocol: self.protocol, name: finished.command, result: finished.result };
            self.metrics.commands.get_or_create(&by).inc();
        }
    }

    /// Does what the session says until it says nothing, and writes what it wants sent.
    async fn output(&mut self, working: &mut FuturesUnordered<Working>) -> Round {
        let mut pending: Vec<Bytes> = Vec::new();
        let mut wrote = false;
        loop {
            match self.session.poll() {
                Some(Output::Send(bytes)) => {
                    if !self.moved && !self.asking.may_answer() {
                        return Round::Broken(io::Error::other(
                            "this node does not own the account any more",
                        ));
                    }
                    pending.push(bytes);
                    if pending.iter().map(Bytes::len).sum::<usize>() < WRITE_BYTES {
                        continue;
                    }
                    wrote = true;
                    if let Err(error) = self.write(&mut pending).await {
                        return Round::Broken(error);
                    }
                }
                Some(Output::Ask(ticket, question)) => {
                    if let Some(work) = self.asking.ask(ticket, question).await {
                        working.push(work);
                    }
                }
                Some(Output::StartTls) => {
                    if let Err(error) = self.write(&mut pending).await {
                        return Round::Broken(error);
                    }
                    if let Err(error) = self.start_tls().await {
                        return Round::Broken(error);
                    }
                }
                Some(Output::Close(closing)) => {
                    // The last words may not reach a client that is gone.
                    let _ = self.write(&mut pending).await;
                    let _ = tokio::time::timeout(self.output_stall, self.stream.shutdown()).await;
                    return Round::Closed(closing);
                }
                None if pending.is_empty() => return if wrote { Round::Drained } else { Round::Quiet },
                None => {
                    wrote = true;
                    if let Err(error) = self.write(&mut pending).await {
                        return Round::Broken(error);
                    }
                }
            }
        }
    }

    /// Writes all of `pending`, unless the client takes nothing for too long.
    async fn write(&mut self, pending: &mut Vec<Bytes>) -> io::Result<()> {
        let mut joined: Bytes = match pending.len() {
            0 => return Ok(()),
            1 => pending.remove(0),
            _ => pending.concat().into(),
        };
        pending.clear();
        while joined.has_remaining() {
            let some = tokio::time::timeout(self.output_stall, self.stream.write(&joined));
            match some.await {
                Ok(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(Ok(count)) => joined.advance(count),
                Ok(Err(error)) => return Err(error),
                Err(_) => return Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no output")),
            }
        }
        match tokio::time::timeout(self.output_stall, self.stream.flush()).await {
            Ok(flushed) => flushed,
            Err(_) => Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes no output")),
        }
    }

    async fn start_tls(&mut self) -> io::Result<()> {
        let acceptor = self.acceptor.clone().ok_or_else(|| io::Error::other("no certificate"))?;
        self.stream.encrypt(&acceptor, HANDSHAKE).await?;
        self.asking.tls_started();
        self.session.handle(time::now(), Input::TlsStarted);
        Ok(())
    }

    async fn event<T>(
        &mut self,
        working: &mut FuturesUnordered<Working>,
        changes: Option<&mut watch::Receiver<T>>,
        told_stopping: bool,
    ) -> Event {
        let deadline = self.session.deadline();
        let reads = self.session.wants_input();
        let (session, stream) = (&mut self.session, &mut self.stream);
        tokio::select! {
            biased;
            Some((ticket, settled)) = working.next(), if !working.is_empty() => {
                Event::Settled(ticket, Box::new(settled))
            }
            read = read_into(stream, &mut **session), if reads => Event::Read(read),
            () = changed(changes) => Event::Changed,
            () = sleep_until(deadline) => Event::Deadline,
            () = stopped(&mut self.stopping), if !told_stopping => Event::Stopping,
            Ok(()) = self.place.end.changed() => Event::End,
        }
    }
}

/// Hands the session what the socket has.
async fn read_into(stream: &mut Stream, session: &mut dyn Session) -> io::Result<()> {
    poll_fn(|cx| {
        READ_BUFFER.with(|buffer| {
            let mut buffer = buffer.borrow_mut();
            let mut read = ReadBuf::new(&mut buffer);
            ready!(Pin::new(&mut *stream).poll_read(cx, &mut read))?;
            session.handle(time::now(), Input::Received(read.filled()));
            Poll::Ready(Ok(()))
        })
    })
    .await
}

/// Never, where nothing is watched.
async fn changed<T>(changes: Option<&mut watch::Receiver<T>>) {
    match changes {
        Some(changes) => {
            if changes.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
        None => std::future::pending().await,
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}

async fn stopped(stopping: &mut watch::Receiver<bool>) {
    if stopping.wait_for(|stopping| *stopping).await.is_err() {
        std::future::pending::<()>().await;
    }
}

fn broken(error: &io::Error) -> Closing {
    if error.kind() == io::ErrorKind::TimedOut {
        return Closing::TimedOut("it took no output");
    }
    tracing::debug!(%error, "connection broken");
    Closing::ClientHungUp
}
