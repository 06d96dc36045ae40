//! How any node asks the leader, wherever that is.
//!
//! Invariants
//! - A question goes on being asked until it is answered or its time is over: leaders come and go, answers get lost.
//!   What it asks for is carried out once all the same, because it carries its id.

use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use super::core::Core;
use super::leader::Not;
use super::{Failure, NoAnswer, PROPOSE_MAX, Pending, RETRY_EVERY, STOPPED};
use crate::command::{Answer, NodeId, Refusal, Request, SessionId};
use crate::peer::message::{Ask, Frame, Join, Kind, Reply, node_of, raft_id};
use crate::raft::coding;

/// How long one attempt may take; an answer that is later is asked for again.
pub(super) const ATTEMPT_MAX: Duration = Duration::from_secs(2);

impl Core {
    pub(super) fn is_stopped(&self) -> bool {
        self.ended.borrow().is_some() || self.raft.metrics().borrow_watched().running_state.is_err()
    }

    pub(super) async fn send(&self, to: u8, ask: &Ask, deadline: Duration) -> Reply {
        if !self.voters.contains(&to) {
            let membership = self.reader.membership();
            let known = membership.nodes().find(|(id, _)| node_of(**id) == to);
            known.into_iter().for_each(|(_, node)| self.peers.learn(to, &node.addr));
        }
        let member = self.nodes.read(|state| state.members.get(&NodeId(to)).copied());
        let to_store = member.filter(|member| !member.removed).map(|member| member.store);
        let frame = Frame { from: self.id, store: self.store, to: raft_id(to, 0), to_store, body: ask };
        let payload = match coding::encode(&frame) {
            Ok(payload) => payload,
            Err(error) => return Reply::Failed(error.to_string()),
        };
        let answer = match self.peers.call(to, self.group, Kind::Ask, payload.into(), deadline).await {
            Ok(answer) => answer,
            Err(error) => return Reply::Again(format!("node {to}: {error}")),
        };
        coding::decode(&answer).unwrap_or_else(|error| Reply::Again(format!("node {to}: {error}")))
    }

    /// Any other node, another one each time.
    fn somebody(&self) -> Option<u8> {
        let others = self.others();
        let turn: usize = rand::random_range(0..others.len().max(1));
        others.get(turn).copied()
    }

    /// Asks whoever is thought to lead, and whom that names.
    async fn ask_once(self: &Arc<Self>, ask: &Ask, deadline: Duration) -> Reply {
        let mut asked = match self.leader() {
            Some(leader) if leader == self.id => return self.answer(ask.clone()).await,
            Some(leader) => node_of(leader),
            None => match self.somebody() {
                Some(other) => other,
                None => return Reply::Again("no leader is known".to_owned()),
            },
        };
        for _ in 0..2 {
            match self.send(asked, ask, deadline).await {
                Reply::NotLeader(Some(other)) if other == self.node => {
                    return self.answer(ask.clone()).await;
                }
                Reply::NotLeader(Some(other)) if other != asked => asked = other,
                reply @ (Reply::NotLeader(_)
                | Reply::Answer(_)
                | Reply::Index(_)
                | Reply::Renewed { .. }
                | Reply::Join(_)
                | Reply::Changed
                | Reply::Leader(_)
                | Reply::Again(_)
                | Reply::Failed(_)) => return reply,
            }
        }
        Reply::Again("the leader is changing".to_owned())
    }

    /// Asks until there is an answer that is one.
    pub(super) async fn ask(
        self: &Arc<Self>,
        ask: Ask,
        attempt: Duration,
        until: Instant,
    ) -> Result<Reply, NoAnswer> {
        loop {
            // A voter that has stopped asks nobody: what it would be granted it could not follow.
            if self.is_stopped() {
                return Err(NoAnswer(STOPPED.to_owned()));
            }
            let attempt = attempt.min(until.saturating_duration_since(Instant::now()));
            let why = match tokio::time::timeout(attempt, self.ask_once(&ask, attempt)).await {
                Ok(
                    reply @ (Reply::Answer(_)
                    | Reply::Index(_)
                    | Reply::Renewed { .. }
                    | Reply::Join(_)
                    | Reply::Changed
                    | Reply::Leader(_)
                    | Reply::Failed(_)),
                ) => return Ok(reply),
                Ok(Reply::NotLeader(_)) => "nobody leads".to_owned(),
                Ok(Reply::Again(why)) => why,
                Err(_) => format!("nothing within {attempt:?}"),
            };
            if Instant::now() + RETRY_EVERY >= until {
                return Err(NoAnswer(why));
            }
            tracing::debug!(%why, "asking the coordination service again");
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    /// Begins a request, in the order of calls, and returns where its answer will arrive.
    pub(super) async fn begin(self: &Arc<Self>, request: &Arc<Request>, after: Option<u64>) -> Pending {
        let failed = |failure| futures::future::ready(Err(failure)).boxed();
        let leader = match self.leader() {
            Some(leader) if leader == self.id => {
                return match self.begin_here(request, after).await {
                    Ok(pending) => pending,
                    Err(Not::Running) => failed(Failure::Stopped),
                    Err(not @ (Not::Leader | Not::Now(_))) => failed(Failure::Again(NoAnswer::from(not).0)),
                };
            }
            Some(leader) => node_of(leader),
            None if self.is_stopped() => return failed(Failure::Stopped),
            None => return failed(Failure::Again("no leader is known".to_owned())),
        };
        let (core, ask) = (Arc::clone(self), Ask::Propose { request: Arc::clone(request), after });
        let sent = tokio::spawn(async move { core.send(leader, &ask, ATTEMPT_MAX).await });
        async move {
            match sent.await {
                Ok(reply) => answer_in(reply),
                Err(_) => Err(Failure::Stopped),
            }
        }
        .boxed()
    }

    pub(super) async fn propose(self: &Arc<Self>, request: &Arc<Request>) -> Result<Answer, NoAnswer> {
        let ask = Ask::Propose { request: Arc::clone(request), after: None };
        let reply = self.ask(ask, ATTEMPT_MAX, Instant::now() + PROPOSE_MAX).await?;
        match answer_in(reply) {
            Ok(answer) => Ok(answer),
            Err(Failure::Again(why)) => Err(NoAnswer(why)),
            Err(Failure::Stopped) => Err(NoAnswer(STOPPED.to_owned())),
        }
    }

    /// Returns when the applied state holds everything that was acknowledged before the call, to anybody (L-RS7).
    pub(super) async fn confirm(self: &Arc<Self>, within: Duration) -> Result<(), NoAnswer> {
        let until = Instant::now() + within;
        let reply = self.ask(Ask::ReadIndex, ATTEMPT_MAX, until).await?;
        let Reply::Index(index) = reply else { return Err(unexpected(reply)) };
        let applied = self.applied_to(index, until.saturating_duration_since(Instant::now())).await;
        applied.then_some(()).ok_or_else(|| NoAnswer("this node lags behind the leader".to_owned()))
    }

    /// Renews a session with the leader. Returns whether it is live.
    pub(super) async fn renew(
        self: &Arc<Self>,
        session: SessionId,
        within: Duration,
    ) -> Result<bool, NoAnswer> {
        let attempt = ATTEMPT_MAX.min(within);
        let reply = self.ask(Ask::Renew { session }, attempt, Instant::now() + within).await?;
        let Reply::Renewed { live, .. } = reply else { return Err(unexpected(reply)) };
        Ok(live)
    }

    pub(super) async fn ask_to_join(self: &Arc<Self>, within: Duration) -> Result<Join, NoAnswer> {
        let ask = Ask::Join { node: self.node, store: self.store, marks: self.life.marks() };
        let reply = self.ask(ask, ATTEMPT_MAX, Instant::now() + within).await?;
        let Reply::Join(join) = reply else { return Err(unexpected(reply)) };
        Ok(join)
    }
}

pub(super) fn unexpected(reply: Reply) -> NoAnswer {
    if let Reply::Failed(why) = reply {
        return NoAnswer(why);
    }
    NoAnswer(format!("unexpected reply {reply:?}"))
}

fn answer_in(reply: Reply) -> Result<Answer, Failure> {
    match reply {
        Reply::Answer(Answer::Refused(Refusal::TooOld)) => {
            Err(Failure::Again("its answer is forgotten".to_owned()))
        }
        Reply::Answer(answer) => Ok(answer),
        Reply::Again(why) | Reply::Failed(why) => Err(Failure::Again(why)),
        Reply::NotLeader(_) => Err(Failure::Again("the leader has changed".to_owned())),
        other @ (Reply::Index(_)
        | Reply::Renewed { .. }
        | Reply::Join(_)
        | Reply::Changed
        | Reply::Leader(_)) => Err(Failure::Again(format!("unexpected reply {other:?}"))),
    }
}
