//! What the leader does for all nodes: takes proposals in order, confirms reads, keeps sessions.
//!
//! Invariants
//! - Of one client, requests that name each other are begun in their order within one term, or refused.
//! - A renewal is acknowledged only after a quorum has agreed, since it arrived, who leads: so no other leader that
//!   counts from an earlier moment can have been elected before it was sent.
//! - A session is expired only when it is overdue and a quorum agrees who leads (L-LE4 excepted).

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use futures::FutureExt;
use openraft::ReadPolicy;
use openraft::impls::ProgressResponder;
use openraft::type_config::alias::{CommittedLeaderIdOf, WriteResponderOf};

use super::core::Core;
use super::{Failure, NoAnswer, PROPOSE_MAX, Pending, STOPPED, received};
use crate::clock::boottime;
use crate::command::{Answer, Command, NodeId, Proposal, Refusal, Request, RequestId, SessionId};
use crate::lease::Renewals;
use crate::marks::Marks;
use crate::peer::message::{Ask, Join, RaftId, Reply, node_of, raft_id};
use crate::raft::{TypeConfig, to_the_end};
use crate::state::{SessionState, State};

/// How long a request waits for the one before it.
const ORDER_MAX: Duration = Duration::from_millis(500);
/// Clients whose order is remembered; with more, some are sent back once.
const ORDERED_CLIENTS_MAX: usize = 1024;
/// How long one attempt to confirm who leads may take.
pub(super) const CONFIRM_MAX: Duration = Duration::from_secs(2);
const LOOKS_PER_LEASE: u32 = 20;
const LOOK_EVERY_MAX: Duration = Duration::from_millis(100);

type LeaderId = CommittedLeaderIdOf<TypeConfig>;

/// The last request of each client that was begun in this term.
#[derive(Default)]
pub(super) struct Order {
    term: Option<LeaderId>,
    last: BTreeMap<u64, u64>,
}

/// What a leader knows of everybody's renewals, since it was elected.
pub(super) struct Watch {
    term: LeaderId,
    renewals: Renewals,
    looked: Duration,
}

/// Why the leader's part cannot be played here.
pub(super) enum Not {
    Leader,
    Now(String),
    /// This voter has stopped for good.
    Running,
}

impl Not {
    fn reply(self, core: &Core) -> Reply {
        match self {
            Self::Leader => Reply::NotLeader(core.leader().map(node_of)),
            Self::Now(why) => Reply::Again(why),
            Self::Running => Reply::Again(STOPPED.to_owned()),
        }
    }
}

fn live_sessions(state: &State) -> Vec<SessionId> {
    let live = state.sessions.iter().filter(|(_, session)| session.state == SessionState::Live);
    live.map(|(id, _)| *id).collect()
}

impl Core {
    pub(super) fn term(&self) -> Option<LeaderId> {
        self.raft.as_leader().ok().map(|leader| leader.to_committed_leader_id())
    }

    /// Puts a request into the log, behind the one that it names, and returns where its answer will arrive.
    pub(super) async fn begin_here(
        &self,
        request: &Arc<Request>,
        after: Option<u64>,
    ) -> Result<Pending, Not> {
        let RequestId { client, seq } = request.id;
        let until = tokio::time::Instant::now() + ORDER_MAX;
        loop {
            let begun = self.begun.notified();
            let mut order = self.order.lock().await;
            let term = self.term().ok_or(Not::Leader)?;
            if order.term != Some(term) || order.last.len() > ORDERED_CLIENTS_MAX {
                *order = Order { term: Some(term), last: BTreeMap::new() };
            }
            let last = order.last.get(&client).copied();
            if after.is_none_or(|after| last.is_some_and(|last| last >= after)) {
                let (responder, pending): (WriteResponderOf<TypeConfig>, _) =
                    ProgressResponder::complete_only();
                let (raft, proposal) = (self.raft.clone(), Proposal(Arc::clone(request)));
                let write =
                    async move { raft.write(proposal).responder(responder).with_leader(term).await.is_ok() };
                to_the_end(write).await.filter(|begun| *begun).ok_or(Not::Running)?;
                order.last.insert(client, last.map_or(seq, |last| last.max(seq)));
                drop(order);
                self.begun.notify_waiters();
                let until = tokio::time::Instant::now() + PROPOSE_MAX;
                let pending = async move {
                    match tokio::time::timeout_at(until, pending).await {
                        Ok(result) => received(result),
                        Err(_) => Err(Failure::Again("no quorum in time".to_owned())),
                    }
                };
                return Ok(pending.boxed());
            }
            drop(order);
            if tokio::time::timeout_at(until, begun).await.is_err() {
                return Err(Not::Now("the request before it has not come".to_owned()));
            }
        }
    }

    /// Has a quorum confirm that this node leads, and returns up to where a reader must have applied (L-RS7).
    pub(super) async fn read_index_here(&self) -> Result<u64, Not> {
        self.term().ok_or(Not::Leader)?;
        let raft = self.raft.clone();
        let confirmed = to_the_end(async move { raft.get_read_linearizer(ReadPolicy::ReadIndex).await });
        match tokio::time::timeout(CONFIRM_MAX, confirmed).await {
            Ok(Some(Ok(linearizer))) => Ok(linearizer.read_log_id().index()),
            Ok(Some(Err(error))) if self.term().is_some() => Err(Not::Now(error.to_string())),
            Ok(Some(Err(_))) => Err(Not::Leader),
            Ok(None) => Err(Not::Running),
            Err(_) => Err(Not::Now("no quorum in time".to_owned())),
        }
    }

    /// Takes a renewal. Returns what was read, and whether the session is live there.
    pub(super) async fn renew_here(&self, session: SessionId) -> Result<(u64, bool), Not> {
        let received = boottime();
        let index = self.read_index_here().await?;
        if !self.applied_to(index, CONFIRM_MAX).await {
            return Err(Not::Now("what was confirmed is not applied yet".to_owned()));
        }
        let live = self.reader.read(|state| state.is_live(session));
        if live {
            let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(watch) = watch.as_mut() {
                watch.renewals.received(session, received);
            }
        }
        Ok((index, live))
    }

    /// Proposes something of the leader's own, and waits for the answer.
    pub(super) async fn carry_out(&self, command: Command) -> Result<Answer, Not> {
        let seq = self.seq.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let request = Arc::new(Request { id: RequestId { client: self.client, seq }, command });
        match self.begin_here(&request, None).await?.await {
            Ok(answer) => Ok(answer),
            Err(Failure::Again(why)) => Err(Not::Now(why)),
            Err(Failure::Stopped) => Err(Not::Running),
        }
    }

    /// Answers what was asked of the leader.
    pub(super) async fn answer(self: &Arc<Self>, ask: Ask) -> Reply {
        let answered = match ask {
            Ask::Propose { request, after } => match self.begin_here(&request, after).await {
                Ok(pending) => match pending.await {
                    Ok(answer) => Ok(Reply::Answer(answer)),
                    Err(Failure::Again(why)) => Err(Not::Now(why)),
                    Err(Failure::Stopped) => Err(Not::Running),
                },
                Err(not) => Err(not),
            },
            Ask::ReadIndex => self.read_index_here().await.map(Reply::Index),
            Ask::Renew { session } => {
                self.renew_here(session).await.map(|(index, live)| Reply::Renewed { index, live })
            }
            Ask::Leader => Ok(Reply::Leader(self.known_leader())),
            Ask::Join { node, store, marks } => self.join_here(node, store, marks).await.map(Reply::Join),
            Ask::Change(change) => {
                // It goes on when the asker hangs up: half a change helps nobody.
                let core = Arc::clone(self);
                match tokio::spawn(async move { core.change_here(change).await }).await {
                    Ok(Ok(Ok(()))) => Ok(Reply::Changed),
                    Ok(Ok(Err(why))) => Ok(Reply::Failed(why)),
                    Ok(Err(not)) => Err(not),
                    Err(error) => Err(Not::Now(error.to_string())),
                }
            }
        };
        answered.unwrap_or_else(|not| not.reply(self))
    }

    /// As whom a store may take part. A founding voter that has not said yet which store it has says so now.
    pub(super) async fn join_here(&self, node: u8, store: u64, marks: Marks) -> Result<Join, Not> {
        let index = self.read_index_here().await?;
        if !self.applied_to(index, CONFIRM_MAX).await {
            return Err(Not::Now("what was confirmed is not applied yet".to_owned()));
        }
        let known = |state: &State| state.members.get(&NodeId(node)).copied();
        if self.reader.read(known).is_none() {
            let founder = raft_id(node, 0);
            if !self.reader.membership().nodes().any(|(id, _)| *id == founder) {
                return Ok(Join::NotMember);
            }
            self.carry_out(Command::Bind { node: NodeId(node), store }).await?;
        }
        Ok(match self.reader.read(known) {
            None => Join::NotMember,
            Some(member) if member.store == store && member.removed => Join::Removed,
            Some(member) if member.store == store => {
                return self.join_as(raft_id(node, member.instance), store, marks).await;
            }
            // A new disk in the place of one that was removed waits to be let in.
            Some(member) if member.removed => Join::NotMember,
            Some(_) => Join::OtherStore,
        })
    }

    /// Lets a member take part again whose store is the one that it had, and nobody else in its place (L-RS2).
    async fn join_as(&self, id: RaftId, store: u64, marks: Marks) -> Result<Join, Not> {
        let node = node_of(id);
        let Some(mark) = marks.last() else { return Ok(Join::As(id)) };
        // Whoever answers at its address is the one that the others reach.
        if node != self.node
            && let Some(there) = self.look_at(node).await
            && there.mark.is_none_or(|there| there != mark)
        {
            return Ok(Join::Elsewhere);
        }
        match self.carry_out(Command::Mark { node: NodeId(node), store, marks }).await? {
            Answer::Refused(Refusal::OtherLife) => Ok(Join::PutBack),
            Answer::Done
            | Answer::Nothing
            | Answer::Opened(_)
            | Answer::Granted(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_) => Ok(Join::As(id)),
        }
    }

    /// One look at everybody's renewals: returns the sessions that are overdue.
    fn overdue(&self) -> Vec<SessionId> {
        let now = boottime();
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(term) = self.term() else {
            *watch = None;
            return Vec::new();
        };
        let live = self.reader.read(live_sessions);
        // A process that was stopped has heard nobody meanwhile, and begins anew as if it had just been elected.
        let slept = |watch: &Watch| now.saturating_sub(watch.looked) > self.lease.renew_every();
        watch.take_if(|watch| watch.term != term || slept(watch));
        let watch = watch.get_or_insert_with(|| {
            let renewals = Renewals::elected(self.lease, live.iter().copied(), now);
            Watch { term, renewals, looked: now }
        });
        watch.looked = now;
        watch.renewals.keep(&live, now);
        watch.renewals.overdue(now)
    }
}

/// Expires sessions while this node leads. Ends with the voter.
pub(super) async fn keep_sessions(core: std::sync::Weak<Core>) {
    loop {
        let Some(strong) = core.upgrade() else { return };
        let every = (strong.lease.renew_every() * 4 / LOOKS_PER_LEASE).min(LOOK_EVERY_MAX);
        let overdue = strong.overdue();
        if !overdue.is_empty() && strong.read_index_here().await.is_ok() {
            // A renewal may have come while the quorum was asked.
            for session in strong.overdue().into_iter().filter(|session| overdue.contains(session)) {
                tracing::warn!(%session, "the session was not renewed; expiring it");
                if let Err(not) = strong.carry_out(Command::SessionExpire { session }).await {
                    let NoAnswer(why) = not.into();
                    tracing::warn!(%session, %why, "the session was not expired");
                }
            }
        }
        drop(strong);
        tokio::time::sleep(every).await;
    }
}

impl From<Not> for NoAnswer {
    fn from(not: Not) -> Self {
        match not {
            Not::Leader => Self("this node does not lead".to_owned()),
            Not::Now(why) => Self(why),
            Not::Running => Self(STOPPED.to_owned()),
        }
    }
}
