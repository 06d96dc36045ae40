//! Who leads, as far as each node knows: asked when this one's lease is over.
//!
//! Invariants
//! - Only what is fresh counts: a leader that a quorum has just followed, or one that was just heard.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::watch::WatchReceiver;
use tokio::time::Instant;

use super::core::Core;
use crate::clock::boottime;
use crate::peer::message::{Ask, Reply, node_of};
use crate::standing::leader_is_known;

/// A leader is heard of ten times a second; one that was silent for longer is followed no more.
const HEARD_MAX: Duration = Duration::from_millis(500);
/// Before somebody is asked again who did not answer: a connection that has died meanwhile is made anew.
const AGAIN: Duration = Duration::from_millis(100);

/// The leader that this node follows, and when it was last heard.
#[derive(Clone, Copy, Debug)]
pub(super) struct Followed {
    pub leader: u8,
    pub heard: Duration,
}

impl Core {
    /// An append of this node's was taken: it leads, as far as we know.
    pub(super) fn follows(&self, leader: u8) {
        *self.followed() = Some(Followed { leader, heard: boottime() });
    }

    fn followed(&self) -> std::sync::MutexGuard<'_, Option<Followed>> {
        self.followed.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Who leads, by what this node has heard just now.
    pub(super) fn known_leader(&self) -> Option<u8> {
        let acknowledged = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            metrics.last_quorum_acked.as_ref().map(|at| at.elapsed())
        };
        if self.term().is_some() {
            return acknowledged.filter(|ago| *ago < HEARD_MAX).map(|_| self.node);
        }
        let followed = *self.followed();
        let fresh = followed.filter(|followed| boottime().saturating_sub(followed.heard) < HEARD_MAX);
        fresh.map(|followed| followed.leader)
    }

    /// Asks all others, until each has answered or the time is over. Returns whether anybody knows a leader.
    pub(super) async fn look_around(self: &Arc<Self>, within: Duration) -> bool {
        let until = Instant::now() + within;
        let asked = self.others().into_iter().map(|other| async move {
            let told = tokio::time::timeout_at(until, self.ask_who_leads(other, until)).await;
            told.ok().map(|told| (other, told))
        });
        let answers = futures::future::join_all(asked).await;
        let mut answers: BTreeMap<u8, Option<u8>> = answers.into_iter().flatten().collect();
        answers.insert(self.node, self.known_leader());
        leader_is_known(&answers)
    }

    async fn ask_who_leads(&self, other: u8, until: Instant) -> Option<u8> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if let Reply::Leader(leader) = self.send(other, &Ask::Leader, left).await {
                return leader;
            }
            tokio::time::sleep(AGAIN).await;
        }
    }

    /// All members but this one, and who is configured to be one.
    pub(super) fn others(&self) -> Vec<u8> {
        let membership = self.reader.membership();
        let members = membership.nodes().map(|(id, _)| node_of(*id));
        let mut others: Vec<u8> = members.chain(self.voters.iter().copied()).collect();
        others.sort_unstable();
        others.dedup();
        others.retain(|other| *other != self.node);
        others
    }
}
