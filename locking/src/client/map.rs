//! Who owns what, who takes part and who has a session: for routers and for `status`.
//!
//! It is read from the state that is applied here, which may lag a little (L-RS7): a node that is asked in vain says
//! so, and the map is read again. Nothing that must be right depends on it.

use std::collections::BTreeMap;

use model::Epoch;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::buckets::Shard;
use super::{Inner, Locking};
use crate::command::{BUCKETS, Bucket, NodeId, SessionId};
use crate::server::Voter;
use crate::state::{Holder, SessionState, State};

/// Who owns a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// This node's present session.
    Here(Epoch),
    Node(NodeId),
    /// Whoever asks for it first.
    Nobody,
}

/// Where a bucket is, for whoever spreads them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// No live session holds it.
    Free,
    Owned(NodeId),
    Draining {
        from: NodeId,
        to: NodeId,
    },
}

/// What a node is to the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Leader,
    Voter,
    Learner,
    /// Configured or known, and not taking part.
    Outside,
}

/// One node of the site.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    pub id: NodeId,
    /// Where its peers reach it; empty when nobody has said.
    pub address: String,
    pub role: Role,
    /// Its live session.
    pub session: Option<SessionId>,
    /// Buckets that its live session owns.
    pub buckets: u32,
    /// It is being emptied: it is given no buckets.
    pub draining: bool,
}

/// Everything about who holds a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BucketStatus {
    /// Of the latest grant; `None`: nobody ever held it.
    pub epoch: Option<Epoch>,
    /// The session of that grant, until it was given back.
    pub session: Option<SessionId>,
    /// Whose session that is, while it is live.
    pub owner: Option<NodeId>,
    pub draining_to: Option<NodeId>,
}

impl Locking {
    /// Who holds a bucket, as far as is applied here.
    pub fn bucket(&self, bucket: Bucket) -> BucketStatus {
        self.0.shard(bucket).voter.reader().read(|state| {
            let found = state.bucket(bucket);
            let session = found.session();
            let owner = session.and_then(|id| state.sessions.get(&id));
            let owner = owner.filter(|owner| owner.state == SessionState::Live).map(|owner| owner.node);
            let draining_to = match found.holder {
                Holder::Draining(_, to) => owner.and(Some(to)),
                Holder::Owned(_) | Holder::Free => None,
            };
            BucketStatus {
                epoch: Some(found.epoch).filter(|epoch| epoch.get() > 0),
                session,
                owner,
                draining_to,
            }
        })
    }

    pub fn owner(&self, bucket: Bucket) -> Owner {
        // What was granted here counts before it is applied here.
        if let Some(epoch) = self.held(bucket) {
            return Owner::Here(epoch);
        }
        let found = self.0.shard(bucket).voter.reader().read(|state| {
            let owner = state.bucket(bucket).session().and_then(|id| state.sessions.get(&id));
            owner.filter(|owner| owner.state == SessionState::Live).map(|owner| owner.node)
        });
        // What this node's session holds without knowing it, or its lost one, this node is to ask for.
        found.filter(|node| *node != self.0.node).map_or(Owner::Nobody, Owner::Node)
    }

    /// Buckets of this node's session that are to be handed over, and to whom.
    pub fn to_hand_over(&self) -> Vec<(Bucket, NodeId)> {
        let session = self.session();
        let mut wanted = Vec::new();
        self.0.each_bucket(|state, bucket| match state.bucket(bucket).holder {
            Holder::Draining(owner, to) if owner == session => wanted.push((bucket, to)),
            Holder::Draining(..) | Holder::Owned(_) | Holder::Free => {}
        });
        wanted.sort_unstable();
        wanted
    }

    /// If this node is being emptied: the buckets of its session that nobody has asked it to hand over, and the nodes that
    /// can have them, with what those own. `None`: it is not, or nobody can.
    pub fn to_give_away(&self) -> Option<(Vec<Bucket>, BTreeMap<NodeId, usize>)> {
        let nodes = self.nodes();
        nodes.iter().find(|node| node.id == self.0.node && node.draining)?;
        let takes = nodes.iter().filter(|node| node.session.is_some() && !node.draining);
        let takes: BTreeMap<NodeId, usize> = takes.map(|node| (node.id, node.buckets as usize)).collect();
        if takes.is_empty() {
            return None;
        }
        let (session, mut owned) = (self.session(), Vec::new());
        self.0.each_bucket(|state, bucket| match state.bucket(bucket).holder {
            Holder::Owned(owner) if owner == session => owned.push(bucket),
            Holder::Draining(..) | Holder::Owned(_) | Holder::Free => {}
        });
        owned.sort_unstable();
        Some((owned, takes))
    }

    /// Where a bucket is.
    pub fn placed(&self, bucket: Bucket) -> Placed {
        self.0.shard(bucket).voter.reader().read(|state| placed(state, bucket))
    }

    /// Where every bucket is, in their order.
    pub fn map(&self) -> Vec<Placed> {
        let mut all = vec![Placed::Free; BUCKETS];
        self.0.each_bucket(|state, bucket| all[usize::from(bucket)] = placed(state, bucket));
        all
    }

    /// Tells when owners, sessions or members have changed, by a number that rises, and is the same at nodes that have
    /// heard the same.
    pub fn map_changes(&self) -> watch::Receiver<u64> {
        self.0.map.clone()
    }

    /// All nodes of the site that are configured, members, or have a session.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let group = self.0.voter.status();
        let mut nodes = self.0.voter.addresses();
        nodes.extend(self.0.members.iter().map(|(node, address)| (*node, address.clone())));
        nodes.entry(self.0.node.0).or_default();
        let mut held: BTreeMap<SessionId, u32> = BTreeMap::new();
        for shard in &self.0.shards {
            shard.voter.reader().read(|state| {
                state.sessions.iter().for_each(|(id, of)| *held.entry(*id).or_default() += of.buckets);
            });
        }
        self.0.voter.reader().read(|state| {
            for (_, node) in live(state) {
                nodes.entry(node.0).or_default();
            }
            nodes
                .iter()
                .map(|(node, address)| {
                    let role = match node {
                        node if group.leader == Some(u64::from(*node)) => Role::Leader,
                        node if group.voters.contains(node) => Role::Voter,
                        node if group.learners.contains(node) => Role::Learner,
                        _ => Role::Outside,
                    };
                    let session = live(state).filter(|(_, of)| of.0 == *node).last();
                    NodeStatus {
                        id: NodeId(*node),
                        address: address.clone(),
                        role,
                        session: session.map(|(id, _)| id),
                        buckets: session.map_or(0, |(id, _)| held.get(&id).copied().unwrap_or(0)),
                        draining: state.draining.contains(&NodeId(*node)),
                    }
                })
                .collect()
        })
    }
}

fn placed(state: &State, bucket: Bucket) -> Placed {
    let owner = |session| state.sessions.get(&session).filter(|owner| owner.state == SessionState::Live);
    match state.bucket(bucket).holder {
        Holder::Free => Placed::Free,
        Holder::Owned(session) => owner(session).map_or(Placed::Free, |owner| Placed::Owned(owner.node)),
        Holder::Draining(session, to) => {
            owner(session).map_or(Placed::Free, |owner| Placed::Draining { from: owner.node, to })
        }
    }
}

fn live(state: &State) -> impl Iterator<Item = (SessionId, NodeId)> {
    state.live_sessions().map(|(id, session)| (id, session.node))
}

impl Inner {
    /// Looks at every bucket in the state of the group that keeps it.
    fn each_bucket(&self, mut look: impl FnMut(&State, Bucket)) {
        for (place, shard) in self.shards.iter().enumerate() {
            let kept = (0..=Bucket::MAX).filter(|bucket| usize::from(*bucket) % self.shards.len() == place);
            shard.voter.reader().read(|state| kept.for_each(|bucket| look(state, bucket)));
        }
    }
}

/// One number for the maps of all groups: the sum of how far each has come.
pub(super) fn follow(first: &Voter, shards: &[Shard]) -> (watch::Receiver<u64>, Vec<JoinHandle<()>>) {
    if shards.len() == 1 {
        return (first.reader().map(), Vec::new());
    }
    let beside = shards.iter().map(|shard| shard.voter.reader().map());
    let maps: Vec<watch::Receiver<u64>> = std::iter::once(first.reader().map()).chain(beside).collect();
    let sum = |maps: &[watch::Receiver<u64>]| maps.iter().map(|map| *map.borrow()).sum();
    let (told, all) = watch::channel(sum(&maps));
    let following = tokio::spawn(async move {
        let mut maps = maps;
        loop {
            let changes = maps.iter_mut().map(|map| Box::pin(map.changed()));
            if futures::future::select_all(changes).await.0.is_err() {
                return;
            }
            told.send_replace(sum(&maps));
        }
    });
    (all, vec![following])
}
