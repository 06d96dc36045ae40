//! Who takes part: nodes let in and out, one change at a time (L-RS3).
//!
//! Invariants
//! - A store that was let in is a learner first, and a voter when it has caught up.
//! - A node that lost its disk comes back only as a new instance, after the old one was removed (L-RS2).
//! - No voter is removed while the others would be no quorum of themselves.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::async_runtime::watch::WatchReceiver;
use openraft::{BasicNode, ChangeMembers, Instant};

use super::core::{Core, other_store};
use super::leader::{CONFIRM_MAX, Not};
use super::{RETRY_EVERY, STOPPED};
use crate::command::{Command, NodeId};
use crate::peer::message::{Change, Hello, Here, Kind, RaftId, decode, node_of, raft_id};
use crate::raft::{coding, to_the_end};
use crate::state::{SessionState, State};

const LOOK_MAX: Duration = Duration::from_millis(400);
const HELLO_MAX: Duration = Duration::from_secs(2);
/// How long a learner may take to catch up, and a change to be agreed on.
pub(super) const CHANGE_MAX: Duration = Duration::from_secs(60);
/// How long ago a voter may have answered to count as alive.
const ALIVE_MS: u64 = 3000;
const TRANSFER_MAX: Duration = Duration::from_secs(5);
/// Before the heir is told again that it is to stand.
const TRANSFER_AGAIN: Duration = Duration::from_millis(400);

/// A change that was refused has a reason; one that could not be tried here has another.
type Changed = Result<Result<(), String>, Not>;

impl Core {
    /// Changes the members, as the leader.
    pub(super) async fn change_here(&self, change: Change) -> Changed {
        self.term().ok_or(Not::Leader)?;
        let one_at_a_time = self.changing.try_lock();
        if one_at_a_time.is_err() && !change.is_brief() {
            return Ok(Err("another change of the members is under way: wait for it".to_owned()));
        }
        match change {
            Change::Add { node, address } => self.add(node, &address).await,
            Change::Remove { node } => self.remove(node).await,
            Change::TransferLeader { node } => Ok(self.hand_over(node).await),
            Change::Dead { node } => self.expire_all_of(node).await,
            Change::Drain { node } => self.set_draining(node, true).await,
            Change::Undrain { node } => self.set_draining(node, false).await,
        }
    }

    async fn set_draining(&self, node: u8, draining: bool) -> Changed {
        let known = self.reader.read(|state| state.members.contains_key(&NodeId(node)));
        if draining && !known {
            return Ok(Err(format!("there is no node {node} in this site: see `roost cluster status`")));
        }
        self.carry_out(Command::SetDraining { node: NodeId(node), draining }).await?;
        Ok(Ok(()))
    }

    /// The voters, and the learners, that are agreed on.
    pub(super) fn roles(&self) -> (Vec<RaftId>, Vec<RaftId>) {
        let membership = self.reader.membership();
        let voters: BTreeSet<RaftId> = membership.voter_ids().collect();
        let learners = membership.nodes().map(|(id, _)| *id).filter(|id| !voters.contains(id)).collect();
        (voters.into_iter().collect(), learners)
    }

    pub(super) async fn hello(&self, node: u8) -> Result<Here, String> {
        let hello = Hello { site: self.site, voters: self.voters.clone(), look: false };
        let payload = coding::encode(&hello).map_err(|error| error.to_string())?;
        let answer = self.peers.call(node, 0, Kind::Hello, payload.into(), HELLO_MAX).await;
        decode(Kind::Hello, &answer.map_err(|error| error.to_string())?)
    }

    /// Who answers at a node's address now.
    pub(super) async fn look_at(&self, node: u8) -> Option<Here> {
        tokio::time::timeout(LOOK_MAX, self.hello(node)).await.ok()?.ok()
    }

    async fn add(&self, node: u8, address: &str) -> Changed {
        self.peers.learn(node, address);
        let store = if node == self.node {
            self.store
        } else {
            match self.hello(node).await {
                Ok(here) => here.store,
                Err(why) => {
                    return Ok(Err(format!("node {node} does not answer ({why}): start it first")));
                }
            }
        };
        if self.group == 0 {
            self.carry_out(Command::Enlist { node: NodeId(node), store }).await?;
        } else {
            self.has_heard_of(node, store).await;
        }
        let member = self.nodes.read(|state| state.members.get(&NodeId(node)).copied());
        let id = match member {
            Some(member) if member.store != store => return Ok(Err(other_store(node))),
            Some(member) if member.removed => {
                let advice =
                    "was removed with the disk that it has: stop it, empty its state_dir, start it again";
                return Ok(Err(format!("node {node} {advice}")));
            }
            Some(member) => raft_id(node, member.instance),
            None => return Err(Not::Now("the node was let in, and is not known".to_owned())),
        };
        // A change that broke off between its two steps is brought to its end by the same change.
        let unfinished = self.reader.membership().get_joint_config().len() > 1;
        if self.roles().0.contains(&id) && !unfinished {
            return Ok(Ok(()));
        }
        if let Err(why) =
            self.agree(ChangeMembers::AddNodes(BTreeMap::from([(id, BasicNode::new(address))]))).await?
        {
            return Ok(Err(why));
        }
        if !self.catches_up(id).await {
            return Ok(Err(format!(
                "node {node} has not caught up in {CHANGE_MAX:?}; it goes on as a learner: see its log, then add it again"
            )));
        }
        self.agree(ChangeMembers::AddVoterIds(BTreeSet::from([id]))).await
    }

    /// Waits until a learner has all that is agreed on now. Before that it would be a voter that nobody can count on.
    async fn catches_up(&self, id: RaftId) -> bool {
        let mut metrics = self.raft.metrics();
        let until = metrics.borrow_watched().last_applied.map(|last| last.index);
        let caught_up = async {
            loop {
                let matched = metrics.borrow_watched().replication.as_ref().and_then(|of| *of.get(&id)?);
                if matched.map(|last| last.index) >= until {
                    return true;
                }
                if metrics.changed().await.is_err() {
                    return false;
                }
            }
        };
        tokio::time::timeout(CHANGE_MAX, caught_up).await.unwrap_or(false)
    }

    /// Removes all instances of a node that are members.
    async fn remove(&self, node: u8) -> Changed {
        let (voters, learners) = self.roles();
        let of_node = |ids: &[RaftId]| -> BTreeSet<RaftId> {
            ids.iter().copied().filter(|id| node_of(*id) == node).collect()
        };
        let (old_voters, old_learners) = (of_node(&voters), of_node(&learners));
        let left: Vec<RaftId> = voters.iter().copied().filter(|id| !old_voters.contains(id)).collect();
        if left.is_empty() {
            return Ok(Err(format!("node {node} is the last voter: add another one first")));
        }
        if node == self.node {
            // Its messages would be refused halfway. Whoever leads next removes it.
            let Some(heir) = self.alive(&left).first().copied() else {
                return Ok(Err("no other voter is alive to lead".to_owned()));
            };
            return match self.hand_over(node_of(heir)).await {
                Ok(()) => Err(Not::Leader),
                Err(why) => Ok(Err(why)),
            };
        }
        if !self.is_quorum_alive(&left).await {
            return Ok(Err(
                "the voters that would be left are no quorum now: bring them back first".to_owned()
            ));
        }
        for change in [
            (!old_voters.is_empty()).then_some(ChangeMembers::RemoveVoters(old_voters)),
            (!old_learners.is_empty()).then_some(ChangeMembers::RemoveNodes(old_learners)),
        ]
        .into_iter()
        .flatten()
        {
            if let Err(why) = self.agree(change).await? {
                return Ok(Err(why));
            }
        }
        if self.group == 0 {
            self.carry_out(Command::Retire { node: NodeId(node) }).await?;
        }
        Ok(Ok(()))
    }

    /// Waits until this node has applied that the first group let a store in.
    async fn has_heard_of(&self, node: u8, store: u64) {
        let mut map = self.nodes.map();
        let known = |state: &State| {
            state.members.get(&NodeId(node)).is_some_and(|member| member.store == store && !member.removed)
        };
        let heard = async { while !self.nodes.read(known) && map.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(CONFIRM_MAX, heard).await;
    }

    /// Those of these voters that have answered lately.
    fn alive(&self, of: &[RaftId]) -> Vec<RaftId> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let heard: BTreeMap<RaftId, bool> = metrics
            .heartbeat
            .iter()
            .flatten()
            .map(|(id, at)| (*id, at.as_ref().is_some_and(|at| at.elapsed().as_millis() < ALIVE_MS.into())))
            .collect();
        of.iter().copied().filter(|id| *id == self.id || heard.get(id).copied().unwrap_or(false)).collect()
    }

    /// Whether a quorum of these voters answers. One that was elected just now has not heard all of them yet.
    async fn is_quorum_alive(&self, of: &[RaftId]) -> bool {
        let until = tokio::time::Instant::now() + Duration::from_millis(ALIVE_MS);
        while self.alive(of).len() * 2 <= of.len() {
            if tokio::time::Instant::now() >= until {
                return false;
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
        true
    }

    async fn agree(&self, change: ChangeMembers<u64, BasicNode>) -> Changed {
        let raft = self.raft.clone();
        let agreed = to_the_end(async move { raft.change_membership(change, false).await });
        match tokio::time::timeout(CHANGE_MAX, agreed).await {
            Ok(Some(Ok(_))) => Ok(Ok(())),
            Ok(Some(Err(error))) => Ok(Err(error.to_string())),
            Ok(None) => Ok(Err(STOPPED.to_owned())),
            Err(_) => Ok(Err(format!("no quorum has agreed in {CHANGE_MAX:?}; try again when it is back"))),
        }
    }

    /// A leader that is about to stop lets another lead first, so that nobody waits for an election.
    pub(super) async fn step_down(&self) {
        if self.term().is_none() {
            return;
        }
        let others: Vec<RaftId> = self.roles().0.into_iter().filter(|id| *id != self.id).collect();
        if let Some(heir) = self.alive(&others).first()
            && let Err(why) = self.hand_over(node_of(*heir)).await
        {
            tracing::info!(%why, "the leadership was not handed over; the others elect");
        }
    }

    async fn hand_over(&self, node: u8) -> Result<(), String> {
        let to = self.roles().0.into_iter().find(|id| node_of(*id) == node);
        let to = to.ok_or_else(|| format!("node {node} is not a voter"))?;
        if to == self.id {
            return Ok(());
        }
        let vote = self.raft.metrics().borrow_watched().vote;
        let raft = self.raft.clone();
        let told = to_the_end(async move { raft.trigger().transfer_leader(to).await }).await;
        told.ok_or(STOPPED)?.map_err(|error| error.to_string())?;
        let leads = async {
            while !self.sees_leading(to).await {
                // The library says it once. Unheard, it would end with whoever first finds this leader silent.
                self.have_stand(to, vote).await;
            }
        };
        let late = || format!("node {node} does not lead after {TRANSFER_MAX:?}: is it up and caught up?");
        tokio::time::timeout(TRANSFER_MAX, leads).await.map_err(|_| late())
    }

    /// Waits a little until another voter is known to lead, or this one has ended.
    async fn sees_leading(&self, other: RaftId) -> bool {
        let mut metrics = self.raft.metrics();
        let leads = async {
            while metrics.borrow_watched().current_leader != Some(other) {
                if metrics.changed().await.is_err() {
                    return;
                }
            }
        };
        tokio::time::timeout(TRANSFER_AGAIN, leads).await.is_ok()
    }

    /// L-LE4: somebody vouches that its processes are dead.
    async fn expire_all_of(&self, node: u8) -> Changed {
        // Whoever was elected just now may not have applied yet that the session was opened.
        let index = self.read_index_here().await?;
        if !self.applied_to(index, CONFIRM_MAX).await {
            return Err(Not::Now("what was confirmed is not applied yet".to_owned()));
        }
        let theirs = self.reader.read(|state| {
            let live = state
                .sessions
                .iter()
                .filter(|(_, session)| session.node == NodeId(node) && session.state == SessionState::Live);
            live.map(|(id, _)| *id).collect::<Vec<_>>()
        });
        for session in theirs {
            tracing::warn!(%session, node, "its node was declared dead; expiring it");
            self.carry_out(Command::SessionExpire { session }).await?;
        }
        Ok(Ok(()))
    }
}
