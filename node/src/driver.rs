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
use locking::Standing;
use rpc::relay::{Login, Moved};
use session::blob::Blob;
use session::{Closing, Doing, Input, Output, Session};
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::asking::{Asking, Found, HandedOver, Joined, Settled, Told, Working};
use crate::carried::{self, Carried};
use crate::handover::{Leaving, Outcome};
use crate::live::{End, Place};
use crate::metrics::{ByDirection, ByName, Metrics};
use crate::resume::{Resumed, Resuming};
use crate::router::{self, Owner};
use crate::standing::Following;
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
    /// For a session whose account comes here.
    pub resuming: Resuming,
    /// The client is at a node that can take the session to another owner.
    pub edge_moves: bool,
    /// The account is about to leave: the session stops at its next command boundary.
    pub leaving: Option<Leaving>,
    pub standing: Following,
}

/// How a session was left.
enum Left {
    Closed(Closing),
    /// It goes on at another node, and its bytes are carried there.
    Carried(Box<HandedOver>),
    /// Another session took its place.
    Replaced,
}

/// What happened first.
enum Event {
    Read(io::Result<()>),
    Settled(session::Ticket, Box<crate::asking::Settled>),
    Changed,
    Deadline,
    Stopping,
    End,
    /// The client has not sent the rest of its command, and the account leaves.
    LeftBehind,
    /// What this node may show without a lease has changed.
    Standing,
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
        loop {
            let handed = match self.talk().await {
                Left::Closed(closing) => return closing,
                Left::Replaced => continue,
                Left::Carried(handed) => handed,
            };
            if let Some(closing) = self.carry(*handed).await {
                return closing;
            }
        }
    }

    /// Serves a session here for as long as it is here.
    async fn talk(&mut self) -> Left {
        let mut working = FuturesUnordered::<Working>::new();
        let mut changes: Option<watch::Receiver<_>> = None;
        let mut told_stopping = false;
        let taking_part = self.asking.joined.is_some();
        self.take_part();
        loop {
            self.follow_standing().await;
            match self.output(&mut working).await {
                Round::Closed(closing) => return Left::Closed(closing),
                Round::Broken(error) => return Left::Closed(broken(&error)),
                Round::Drained => {
                    self.session.handle(time::now(), Input::Drained);
                    continue;
                }
                Round::Quiet => {}
            }
            self.report();
            if changes.is_none() {
                changes = self.asking.joined.as_ref().map(|joined| joined.account.watch());
                if changes.is_some() && !taking_part {
                    self.take_part();
                }
            }
            if working.is_empty() && self.may_leave() {
                match self.leave().await {
                    Some(left) => return left,
                    // It has more to say: it goes on with what it held back.
                    None => continue,
                }
            }
            match self.event(&mut working, changes.as_mut(), told_stopping).await {
                Event::Read(Ok(())) => {}
                Event::Read(Err(error)) => return Left::Closed(broken(&error)),
                Event::Settled(ticket, settled) => match self.asking.settle(ticket, *settled) {
                    Ok(Told::Carried(carried)) => return Left::Carried(carried),
                    Ok(Told::Answer(answer)) => {
                        self.session.handle(time::now(), Input::Answered(ticket, answer))
                    }
                    Err(more) => working.push(more),
                },
                Event::Changed => {
                    let snapshot = changes.as_mut().and_then(|changes| changes.borrow_and_update().clone());
                    if let Some(snapshot) = snapshot {
                        self.asking.joined.iter_mut().for_each(|joined| joined.knows(&snapshot));
                        self.session.handle(time::now(), Input::Changed(snapshot));
                    }
                }
                // It is followed before anything else is done.
                Event::Standing => self.asking.cut |= self.asking.joined.is_some(),
                Event::Deadline => self.session.handle(time::now(), Input::Expired),
                Event::Stopping => {
                    told_stopping = true;
                    self.session.handle(time::now(), Input::Stopping);
                }
                Event::LeftBehind => {
                    if self.leaving.take().is_some_and(|leaving| leaving.stays()) {
                        self.session.handle(time::now(), Input::Staying);
                    } else {
                        self.say_moved();
                    }
                }
                Event::End => match self.place.ending() {
                    End::None => {}
                    End::Kicked(why) => self.session.handle(time::now(), Input::Kicked(why)),
                    End::Moved => self.say_moved(),
                    End::Leaving(leaving) => self.prepare(leaving),
                },
            }
        }
    }

    /// The session uses an account from here on. That can be leaving already.
    fn take_part(&mut self) {
        let Some(account) = self.asking.joined.as_ref().map(|joined| Arc::clone(&joined.account)) else {
            return;
        };
        self.place.bind(account.id, Owner::Here);
        if let Some(leaving) = self.resuming.services.too_late(&account) {
            self.prepare(leaving);
        }
    }

    /// The account is leaving: no command is begun.
    pub(crate) fn prepare(&mut self, leaving: Leaving) {
        self.leaving = Some(leaving);
        self.session.handle(time::now(), Input::Leaving);
        self.show_latest();
    }

    /// What the account looks like by now.
    fn show_latest(&mut self) {
        let snapshot = self.asking.joined.as_ref().and_then(Joined::snapshot);
        if let Some(snapshot) = snapshot {
            self.session.handle(time::now(), Input::Changed(snapshot));
        }
    }

    /// Whether the account is leaving, and the session is at a command boundary.
    fn may_leave(&self) -> bool {
        self.leaving.is_some() && self.session.export(time::now()).is_some()
    }

    /// Stops at a command boundary until it is known how the leaving comes out, and goes along (L-CN3). `None`: the session
    /// goes on here.
    async fn leave(&mut self) -> Option<Left> {
        let leaving = self.leaving.take()?;
        if let Stream::Carried(pipe) = &self.stream
            && self.edge_moves
        {
            pipe.pause();
            // One that is gone will be noticed where it is read from.
            pipe.paused().await;
        }
        let stays = leaving.arrive().await == Outcome::Stays;
        if stays {
            if let Stream::Carried(pipe) = &self.stream {
                pipe.resume();
            }
            self.session.handle(time::now(), Input::Staying);
            return None;
        }
        self.show_latest();
        if self.say_thawed().await.is_err() {
            return Some(Left::Closed(Closing::ClientHungUp));
        }
        let (user, blob) = (self.session.doing().user, self.session.export(time::now()));
        if let (Some(user), Some(blob)) = (user, blob) {
            return self.go_along(user, blob).await;
        }
        self.say_moved();
        None
    }

    /// The account has left. A client of another node is that node's to bring along, one of ours is ours.
    async fn go_along(&mut self, user: String, blob: Blob) -> Option<Left> {
        if let Stream::Carried(pipe) = &mut self.stream {
            if !self.edge_moves {
                self.say_moved();
                return None;
            }
            let unread = pipe.take_unread();
            pipe.move_on(Moved { blob: blob.bytes().clone(), unread });
            return Some(Left::Closed(Closing::Moved));
        }
        let login = Login::Resumed { blob: blob.bytes().clone() };
        let open = self.asking.open(user, login, Bytes::new());
        // The account that it comes to can be the one that it was at, with a maildrop for one session.
        self.asking.leave();
        match self.resuming.services.carry(open).await {
            Settled::Carried(handed) => return Some(Left::Carried(handed)),
            Settled::Opened(Ok(Found::Here(account, user))) => {
                match self.resuming.go_on(account, user, &blob) {
                    Ok(resumed) => {
                        self.replace(resumed);
                        return Some(Left::Replaced);
                    }
                    Err(why) => tracing::warn!(why, "a session cannot go on: its account went and came back"),
                }
            }
            Settled::Opened(Err(failed)) => {
                tracing::warn!(?failed, "a session cannot go on: its account has moved");
            }
            Settled::Opened(Ok(Found::Elsewhere(_)))
            | Settled::Answer(_)
            | Settled::Sasl(_)
            | Settled::Login(_)
            | Settled::Octets(..)
            | Settled::Recipient(_) => {}
        }
        self.say_moved();
        None
    }

    /// All that the session knew was said or held back before: what comes now is good-bye.
    pub(crate) fn say_moved(&mut self) {
        let lost = self.resuming.services.router.standing() == Standing::Over;
        self.moved = true;
        self.session.handle(time::now(), Input::Kicked(if lost { carried::LOST } else { carried::MOVED }));
    }

    /// A session that was served elsewhere is served here from now on.
    fn replace(&mut self, resumed: Resumed) {
        let Resumed { session, asking } = resumed;
        (self.session, self.asking) = (session, asking);
        self.told = Doing::default();
        self.leaving = None;
        self.standing.go_on();
        self.place.served_here();
    }

    /// The account is at another node: the session goes on there, and here only its bytes pass. Says how it ended, if the
    /// account has not come here.
    async fn carry(&mut self, handed: HandedOver) -> Option<Closing> {
        tracing::debug!(
            user = handed.user,
            node = handed.node,
            "session is carried to the owner of its account"
        );
        self.place.carried(handed.user.clone(), handed.node);
        self.place.bind(handed.account, Owner::Node(handed.node));
        let by = ByDirection { protocol: self.protocol, direction: "to" };
        self.metrics.forwarded_sessions.get_or_create(&by).inc();
        self.metrics.forwarded_sessions_total.get_or_create(&by).inc();
        // What the account was here for is over: its maildrop, its place among those that are used.
        self.asking.leave();
        let carried = carried::Session {
            stream: &mut self.stream,
            place: &mut self.place,
            stopping: &mut self.stopping,
            resuming: &self.resuming,
            imap: self.protocol == "imap",
            output_stall: self.output_stall,
            handed,
        };
        let carried = carried.run().await;
        self.metrics.forwarded_sessions.get_or_create(&by).dec();
        match carried {
            Carried::Closed(closing) => Some(closing),
            Carried::Here(resumed) => {
                self.replace(*resumed);
                None
            }
        }
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
                    if !self.may_show().await {
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
    pub(crate) async fn write(&mut self, pending: &mut Vec<Bytes>) -> io::Result<()> {
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
        let leaving = self.leaving.as_ref().filter(|_| working.is_empty()).map(Leaving::clients_until);
        let (session, stream) = (&mut self.session, &mut self.stream);
        tokio::select! {
            biased;
            // Before what a client wants, and before the end of sessions whose owner is another one now.
            () = router::changed(self.standing.changes.as_mut()) => Event::Standing,
            Some((ticket, settled)) = working.next(), if !working.is_empty() => {
                Event::Settled(ticket, Box::new(settled))
            }
            read = read_into(stream, &mut **session), if reads => Event::Read(read),
            () = changed(changes) => Event::Changed,
            () = sleep_until(deadline) => Event::Deadline,
            () = stopped(&mut self.stopping), if !told_stopping => Event::Stopping,
            Ok(()) = self.place.end.changed() => Event::End,
            () = sleep_until(leaving) => Event::LeftBehind,
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
