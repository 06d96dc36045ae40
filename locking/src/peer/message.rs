//! What nodes of one site say to each other.
//!
//! A message is its kind, and bytes that [`crate::raft::coding`] made: a format version, then the value. New variants
//! are appended; what an older node does not know it refuses.
//!
//! Invariants
//! - Between members, a message names the instance and the store that it is from, and those that it is for, as far as
//!   its sender knows. Nothing that was meant for a lost disk reaches what came in its place, and two groups that were
//!   founded under the same numbers never mix (L-RS2).

use std::sync::Arc;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::command::{Answer, NodeId, Request, SessionId};
use crate::marks::{Mark, Marks};
use crate::raft::{SnapshotMeta, Vote, coding};

/// A voter for ever: the configured number of its node, and above that the number of its instance (L-RS2).
pub type RaftId = u64;

pub fn raft_id(node: u8, instance: u64) -> RaftId {
    u64::from(node) | instance << 8
}

pub fn node_of(id: RaftId) -> u8 {
    id.to_le_bytes()[0]
}

pub fn instance_of(id: RaftId) -> u64 {
    id >> 8
}

/// What is in a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Who are you? Answered by everybody.
    Hello,
    Append,
    Vote,
    PreVote,
    Snapshot,
    TransferLeader,
    /// Something for the leader.
    Ask,
    /// What do you understand?
    Level,
}

/// What this build understands of the log. It rises with every command that is added to [`crate::command::Command`],
/// and such a command is only proposed while all members have said that they know it: one that does not could not go on.
/// - 1: `GiveAway`.
pub(crate) const LEVEL: u32 = 1;

impl Kind {
    pub const ALL: [Self; 8] = [
        Self::Hello,
        Self::Append,
        Self::Vote,
        Self::PreVote,
        Self::Snapshot,
        Self::TransferLeader,
        Self::Ask,
        Self::Level,
    ];

    /// Its number on the wire.
    pub fn number(self) -> u32 {
        match self {
            Self::Hello => 1,
            Self::Append => 2,
            Self::Vote => 3,
            Self::PreVote => 4,
            Self::Snapshot => 5,
            Self::TransferLeader => 6,
            Self::Ask => 7,
            Self::Level => 8,
        }
    }

    pub fn from_number(number: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

/// A message between two members.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Frame<T> {
    pub from: RaftId,
    pub store: u64,
    pub to: RaftId,
    /// The store that the sender knows the other by.
    pub to_store: Option<u64>,
    pub body: T,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Hello {
    pub site: u8,
    pub voters: Vec<u8>,
    /// See who answers at the address of the node that asks.
    pub look: bool,
}

/// How far a node has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// It has never been a member of anything.
    Blank,
    /// It has the founding membership, and nothing has happened yet.
    Forming,
    Member,
    /// It was founded from what lay on the volumes, and nothing has happened since.
    Rebuilt,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Here {
    pub store: u64,
    pub phase: Phase,
    /// The voters in its configuration.
    pub voters: Vec<u8>,
    pub site: u8,
    /// The last mark that this process has drawn.
    pub mark: Option<Mark>,
    pub remembers: Vec<Remembered>,
    /// Who answered at the address of the node that asked to look: its store and mark.
    pub there: Option<(u64, Option<Mark>)>,
}

/// What a node remembers of a store (L-RS2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Remembered {
    pub node: NodeId,
    pub store: u64,
    pub mark: Option<Mark>,
    /// Up to where its log had come when it last told this leader.
    pub reached: Option<u64>,
}

/// A part of a snapshot. The last one completes it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Chunk {
    /// Drawn at random for each transfer.
    pub transfer: u64,
    pub vote: Vote,
    pub meta: SnapshotMeta,
    pub offset: u64,
    pub total: u64,
    pub bytes: Vec<u8>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum ChunkTaken {
    More,
    Done(Vote),
}

/// A change of the members, or an operator's word about one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Lets a node in: as a learner, then, when it has caught up, as a voter.
    Add {
        node: u8,
        address: String,
    },
    Remove {
        node: u8,
    },
    /// Makes this voter the leader.
    TransferLeader {
        node: u8,
    },
    /// All processes of the node that have a session now are certainly dead (L-LE4): their buckets are free at once.
    /// An operator may say so when the machine is off or fenced, or the orchestrator has confirmed that the container
    /// is gone; that it does not answer is no evidence. Said of a process that lives, nothing that it was acknowledged
    /// is lost and nothing of its own is taken any more; but it goes on answering reads until its lease ends, and
    /// those can be stale (J6).
    Dead {
        node: u8,
    },
    /// Empties a node: it is given no buckets any more, as long as another node lives.
    Drain {
        node: u8,
    },
    /// The node is given buckets again.
    Undrain {
        node: u8,
    },
}

impl Change {
    /// How long it may take; one that only writes something down is tried elsewhere soon.
    pub(crate) fn is_brief(&self) -> bool {
        match self {
            Self::Add { .. } | Self::Remove { .. } | Self::TransferLeader { .. } => false,
            Self::Dead { .. } | Self::Drain { .. } | Self::Undrain { .. } => true,
        }
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    Propose {
        request: Arc<Request>,
        /// The same client's request that the leader must have begun before, in the same term.
        after: Option<u64>,
    },
    ReadIndex,
    Renew {
        session: SessionId,
    },
    /// As whom may this store take part?
    Join {
        node: u8,
        store: u64,
        /// Empty for one that was never a member.
        marks: Marks,
    },
    Change(Change),
    /// Who leads, as far as this node has just heard? Answered by everybody.
    Leader,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) enum Reply {
    Answer(Answer),
    /// Log index up to which a reader must have applied.
    Index(u64),
    Renewed {
        index: u64,
        live: bool,
    },
    Join(Join),
    Changed,
    /// Somebody else leads, perhaps this node.
    NotLeader(Option<u8>),
    /// Not now; it may have been carried out or not.
    Again(String),
    /// It will not be carried out, and this is why.
    Failed(String),
    Leader(Option<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Join {
    As(RaftId),
    /// Nobody has let it in.
    NotMember,
    OtherStore,
    Removed,
    /// The store is an older copy, or one of two (L-RS2).
    PutBack,
    /// Another process answers at this node's address.
    Elsewhere,
}

/// Decodes what came from outside, with words for an operator.
pub(crate) fn decode<T: DeserializeOwned>(what: Kind, bytes: &[u8]) -> Result<T, String> {
    coding::decode(bytes).map_err(|error| {
        format!("a message of kind {what:?} does not read ({error}): run one version of roost on all nodes of a site")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_names_its_node() {
        assert_eq!(raft_id(3, 0), 3, "a founding voter has the number of its node");
        let id = raft_id(255, 1 << 40);
        assert_eq!((node_of(id), instance_of(id)), (255, 1 << 40));
    }

    #[test]
    fn kinds_have_numbers_of_their_own() {
        for kind in Kind::ALL {
            assert_eq!(Kind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(Kind::from_number(0), None);
        assert_eq!(Kind::from_number(9), None);
    }

    #[test]
    fn garbage_is_refused_with_a_word() {
        let garbage: [&[u8]; 4] = [&[], &[2], &[1, 255, 255, 255], &[1, 7, 0, 0, 0, 0]];
        for bytes in garbage {
            let error = decode::<Frame<Ask>>(Kind::Ask, bytes).expect_err("garbage");
            assert!(error.contains("one version"), "{error}");
        }
    }
}
