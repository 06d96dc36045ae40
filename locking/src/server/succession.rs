//! A leader that is known to be dead has a successor at once (L-LE4).
//!
//! Voters follow a leader for as long as its silence may be that of the network: more than half a second, and then they
//! wait for each other. Whoever vouches that it is dead spares them that.
//!
//! Invariants
//! - Who leads is decided by the votes of a majority, as ever: the word ends their patience with a leader, and nothing else.
//! - Nobody is asked to stand whose log is known to be shorter than another's that answers: it would not be elected.

use std::cmp::Reverse;
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};

use super::Voter;
use super::core::Core;
use crate::peer::message::{Kind, RaftId, node_of};
use crate::raft::{LogId, TypeConfig, Vote, to_the_end};

/// How long the others may take to say how long their logs are.
const ANSWER_MAX: Duration = Duration::from_millis(200);
/// How long one of them may take to be elected, before the next is asked to stand.
const ELECTED_MAX: Duration = Duration::from_millis(300);

impl Voter {
    /// Somebody vouches that all processes of a node are dead: if it led this group, another voter stands now.
    pub(crate) async fn succeed(&self, node: u8) {
        self.core.succeed(node).await;
    }
}

impl Core {
    async fn succeed(&self, node: u8) {
        let (leader, vote) = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.current_leader, metrics.vote)
        };
        let Some(dead) = leader.filter(|leader| node_of(*leader) == node && node != self.node) else {
            return;
        };
        for heir in self.heirs(dead, vote).await {
            tracing::warn!(
                group = self.group,
                dead = node,
                heir = node_of(heir),
                "the leader was declared dead"
            );
            self.have_stand(heir, vote).await;
            if self.follows_another(dead).await {
                return;
            }
        }
    }

    /// The voters that answer, those with the longest logs first, and this one first of those.
    async fn heirs(&self, dead: RaftId, vote: Vote) -> Vec<RaftId> {
        let voters = self.roles().0.into_iter().filter(|id| *id != dead);
        let asked = voters.map(|id| async move { Some((id, self.last_of(id, vote).await?)) });
        let answered = futures::future::join_all(asked).await;
        let mut heirs: Vec<(RaftId, Option<LogId>)> = answered.into_iter().flatten().collect();
        heirs.sort_by_key(|(id, last)| (Reverse(*last), *id != self.id));
        heirs.into_iter().map(|(id, _)| id).collect()
    }

    /// The end of a voter's log. Asked as for a vote that nobody is to give, which changes nothing there.
    async fn last_of(&self, id: RaftId, vote: Vote) -> Option<Option<LogId>> {
        let request = VoteRequest::<TypeConfig>::new(vote, None);
        let answer: VoteResponse<TypeConfig> = if id == self.id {
            let raft = self.raft.clone();
            to_the_end(async move { raft.pre_vote(request).await }).await?.ok()?
        } else {
            self.network().call(id, Kind::PreVote, &request, ANSWER_MAX).await.ok()?
        };
        Some(answer.last_log_id)
    }

    /// Has a voter stand as if the leader itself had asked it to, so that nobody minds how lately that was heard.
    pub(super) async fn have_stand(&self, heir: RaftId, vote: Vote) {
        let request = TransferLeaderRequest::<TypeConfig>::new(vote, heir, None);
        if heir == self.id {
            let raft = self.raft.clone();
            let stands = to_the_end(async move { raft.handle_transfer_leader(request).await }).await;
            if let Some(Err(error)) = stands {
                tracing::debug!(%error, "this voter does not stand");
            }
            return;
        }
        let asked = self.network().call(heir, Kind::TransferLeader, &request, ELECTED_MAX).await;
        let _: Option<TransferLeaderResponse<TypeConfig>> =
            asked.inspect_err(|error| tracing::debug!(%error, "the other voter was not reached")).ok();
    }

    /// Waits until another leader is known here.
    async fn follows_another(&self, dead: RaftId) -> bool {
        let mut metrics = self.raft.metrics();
        let elected = async {
            while metrics.borrow_watched().current_leader.is_none_or(|leader| leader == dead) {
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(ELECTED_MAX, elected).await.unwrap_or(false)
    }
}
