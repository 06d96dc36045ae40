//! Who owns what, who takes part and who has a session: for routers and for `status`.
//!
//! It is read from the state that is applied here, which may lag a little (L-RS7): a node that is asked in vain says
//! so, and the map is read again. Nothing that must be right depends on it.

use model::Epoch;
use tokio::sync::watch;

use super::Locking;
use crate::command::{Bucket, NodeId, SessionId};
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
        self.0.voter.reader().read(|state| {
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
        let found = self.0.voter.reader().read(|state| {
            let owner = state.bucket(bucket).session().and_then(|id| state.sessions.get(&id));
            owner.filter(|owner| owner.state == SessionState::Live).map(|owner| owner.node)
        });
        // What this node's session holds without knowing it, or its lost one, this node is to ask for.
        found.filter(|node| *node != self.0.node).map_or(Owner::Nobody, Owner::Node)
    }

    /// Buckets of this node's session that are to be handed over, and to whom.
    pub fn to_hand_over(&self) -> Vec<(Bucket, NodeId)> {
        let session = self.session();
        self.0.voter.reader().read(|state| {
            let wanted = (0..=Bucket::MAX).filter_map(|bucket| match state.bucket(bucket).holder {
                Holder::Draining(owner, to) if owner == session => Some((bucket, to)),
                Holder::Draining(..) | Holder::Owned(_) | Holder::Free => None,
            });
            wanted.collect()
        })
    }

    /// Where a bucket is.
    pub fn placed(&self, bucket: Bucket) -> Placed {
        self.0.voter.reader().read(|state| placed(state, bucket))
    }

    /// Where every bucket is, in their order.
    pub fn map(&self) -> Vec<Placed> {
        self.0.voter.reader().read(|state| (0..=Bucket::MAX).map(|bucket| placed(state, bucket)).collect())
    }

    /// Tells when owners, sessions or members have changed, by the place in the log that all nodes share.
    pub fn map_changes(&self) -> watch::Receiver<u64> {
        self.0.voter.reader().map()
    }

    /// All nodes of the site that are configured, members, or have a session.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let group = self.0.voter.status();
        let mut nodes = self.0.voter.addresses();
        nodes.extend(self.0.members.iter().map(|(node, address)| (*node, address.clone())));
        nodes.entry(self.0.node.0).or_default();
        self.0.voter.reader().read(|state| {
            for node in live(state).map(|(_, node, _)| node) {
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
                    let session = live(state).filter(|(_, of, _)| of.0 == *node).last();
                    NodeStatus {
                        id: NodeId(*node),
                        address: address.clone(),
                        role,
                        session: session.map(|(id, _, _)| id),
                        buckets: session.map_or(0, |(_, _, buckets)| buckets),
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

fn live(state: &State) -> impl Iterator<Item = (SessionId, NodeId, u32)> {
    let live = state.sessions.iter().filter(|(_, session)| session.state == SessionState::Live);
    live.map(|(id, session)| (*id, session.node, session.buckets))
}
