//! What is said to the coordination service, and what it answers.
//!
//! These types are stored in the Raft log and in snapshots: variants are only ever appended, fields never reordered.
//!
//! Invariants
//! - A [`Value`] is never longer than [`VALUE_BYTES_MAX`].
//! - A [`Request`] that is sent again carries the same [`RequestId`], so that it is carried out once.

use std::fmt;
use std::sync::Arc;

use model::Epoch;
use serde::{Deserialize, Serialize};

use crate::marks::Marks;

/// Buckets that accounts hash into. A bucket is an opaque number here.
pub const BUCKETS: usize = 65_536;
/// Longest witness value.
pub const VALUE_BYTES_MAX: usize = 128;
/// Most witness records in one request.
pub const RECORDS_MAX: usize = 4096;

/// A slice of all accounts; the unit of ownership.
pub type Bucket = u16;
/// Names one account within its bucket; opaque here.
pub type Subkey = [u8; 16];

/// One tenure of one process: the log index of the entry that opened it, so it is never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionId(pub u64);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The configured number of a node, unique in its site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct NodeId(pub u8);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The bytes that an owner wants remembered, at most [`VALUE_BYTES_MAX`].
#[derive(Clone, PartialEq, Eq)]
pub struct Value(Box<[u8]>);

impl Value {
    /// Returns the value, or `None` when it is too long.
    pub fn new(bytes: &[u8]) -> Option<Self> {
        (bytes.len() <= VALUE_BYTES_MAX).then(|| Self(bytes.into()))
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl Serialize for Value {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl<'de> serde::de::Visitor<'de> for Bytes {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {VALUE_BYTES_MAX} bytes")
            }

            fn visit_bytes<E: serde::de::Error>(self, bytes: &[u8]) -> Result<Value, E> {
                Value::new(bytes).ok_or_else(|| E::invalid_length(bytes.len(), &self))
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = items.next_element()? {
                    if bytes.len() == VALUE_BYTES_MAX {
                        return Err(serde::de::Error::invalid_length(bytes.len() + 1, &self));
                    }
                    bytes.push(byte);
                }
                Ok(Value(bytes.into()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// What the service remembers of one account: the last change that counts (L-CM1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Witness {
    /// Under which tenure it was accepted.
    pub epoch: Epoch,
    pub value: Value,
    /// Never goes backwards, whoever owns the bucket.
    pub counter: u64,
}

/// One change to be witnessed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub bucket: Bucket,
    /// The tenure under which the caller made the change.
    pub epoch: Epoch,
    pub subkey: Subkey,
    pub value: Value,
    pub counter: u64,
}

/// Which buckets a grant asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Wanted {
    These(Vec<Bucket>),
    /// Every bucket that nobody holds.
    AllFree,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// The first command of a new service: fixes its site and the upper half of all its epochs.
    Found {
        site: u8,
        incarnation: u32,
    },
    /// Opens a session. `replaces_older` says that the caller has proof that every earlier process of this node is
    /// dead (L-LE4): it holds the lock of the node's own directory.
    SessionOpen {
        node: NodeId,
        replaces_older: bool,
    },
    /// The leader has not heard of it for longer than its lease.
    SessionExpire {
        session: SessionId,
    },
    /// Its process ends, and has finished whatever it had begun.
    SessionClose {
        session: SessionId,
    },
    Grant {
        session: SessionId,
        wanted: Wanted,
    },
    /// Asks the owner to hand a bucket over; `to: None` takes the wish back.
    Drain {
        bucket: Bucket,
        epoch: Epoch,
        to: Option<NodeId>,
    },
    Release {
        bucket: Bucket,
        epoch: Epoch,
    },
    Witness {
        records: Vec<Record>,
    },
    /// The account is gone for good.
    Forget {
        bucket: Bucket,
        epoch: Epoch,
        subkey: Subkey,
    },
    /// A founding voter says which store it has. The first to say so is it for ever (L-RS2).
    Bind {
        node: NodeId,
        store: u64,
    },
    /// An operator lets a node in, with the store that it has now. It becomes a new instance (L-RS2).
    Enlist {
        node: NodeId,
        store: u64,
    },
    /// An operator lets a node out. The instance that it was never comes back.
    Retire {
        node: NodeId,
    },
    /// The owner gives a bucket that it was asked to hand over to the node that is to have it (§7.1). Without a live
    /// session of that node it becomes free.
    HandOver {
        bucket: Bucket,
        epoch: Epoch,
    },
    /// Gives a node's live session those of these buckets that no live session holds.
    Assign {
        buckets: Vec<Bucket>,
        to: NodeId,
    },
    /// An operator empties a node, or has it filled again. While it is emptied it is given no buckets.
    SetDraining {
        node: NodeId,
        draining: bool,
    },
    /// [`Command::Found`] of a site whose buckets are kept by so many groups of their own.
    FoundGroups {
        site: u8,
        incarnation: u32,
        groups: u16,
    },
    /// Tells a group that keeps buckets what the first group knows, as of an entry of that one's log. What is older
    /// than what was told before changes nothing.
    Mirror(Box<Mirror>),
    /// A voter says which marks it has drawn (L-RS2).
    Mark {
        node: NodeId,
        store: u64,
        marks: Marks,
    },
    /// The owner gives buckets that nothing is under way in to another node's live session, many in one step. Nodes of
    /// level 0 do not know it: see [`crate::peer::message::LEVEL`].
    GiveAway {
        buckets: Vec<(Bucket, Epoch)>,
        to: NodeId,
    },
}

/// What a group that keeps buckets is told of the first group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mirror {
    /// The last entry of the first group's log that this is of.
    pub at: u64,
    pub site: u8,
    pub incarnation: u32,
    /// Whom it is for: one of 1 to `groups`.
    pub group: u16,
    pub groups: u16,
    /// All live sessions. One that is not named here is over for good, for none is ever resumed.
    pub sessions: Vec<(SessionId, NodeId)>,
    pub draining: Vec<NodeId>,
}

/// Names a request for ever: the same client never uses a sequence number for two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RequestId {
    /// Drawn at random when a process starts.
    pub client: u64,
    pub seq: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub id: RequestId,
    pub command: Command,
}

/// A request as the log holds it. Shared, because the library copies entries.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(pub Arc<Request>);

impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let RequestId { client, seq } = self.0.id;
        write!(f, "{}-{seq} of client {client:016x}", self.0.command.name())
    }
}

impl Command {
    pub fn name(&self) -> &'static str {
        match self {
            Self::Found { .. } => "found",
            Self::SessionOpen { .. } => "session-open",
            Self::SessionExpire { .. } => "session-expire",
            Self::SessionClose { .. } => "session-close",
            Self::Grant { .. } => "grant",
            Self::Drain { .. } => "drain",
            Self::Release { .. } => "release",
            Self::Witness { .. } => "witness",
            Self::Forget { .. } => "forget",
            Self::Bind { .. } => "bind",
            Self::Enlist { .. } => "enlist",
            Self::Retire { .. } => "retire",
            Self::HandOver { .. } => "hand-over",
            Self::Assign { .. } => "assign",
            Self::SetDraining { .. } => "set-draining",
            Self::FoundGroups { .. } => "found-groups",
            Self::Mirror(_) => "mirror",
            Self::Mark { .. } => "mark",
            Self::GiveAway { .. } => "give-away",
        }
    }
}

/// Neighbouring buckets that were granted under one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    pub first: Bucket,
    pub last: Bucket,
    pub epoch: Epoch,
}

/// Why the service did not do what it was asked. Nothing was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The tenure is over, or never was (L-SM2).
    #[error("the epoch is not that of a live owner")]
    StaleEpoch,
    /// The account's counter is already higher (L-SM2).
    #[error("the counter would go backwards")]
    Backwards,
    #[error("the session is not live")]
    NoSession,
    #[error("the coordination service has not been founded")]
    NotFounded,
    #[error("the coordination service has been founded for another site or incarnation")]
    FoundedOtherwise,
    #[error("more than {RECORDS_MAX} records in one request")]
    TooMany,
    /// The request is so old that its answer is forgotten; whether it was carried out cannot be told any more.
    #[error("the request is too old to be recognised")]
    TooOld,
    /// Whoever asked for the bucket to be handed over has taken it back.
    #[error("nobody is to have the bucket")]
    NotDraining,
    /// Buckets go to the other nodes until it is filled again.
    #[error("the node is being emptied: run `roost cluster undrain` to give it buckets again")]
    NodeDraining,
    /// Sessions are kept by the first group, buckets by the others.
    #[error("this is not the business of this group")]
    OtherGroup,
    /// The store is an older copy of the one that is meant (L-RS2).
    #[error("the site knows this store by a later mark")]
    OtherLife,
}

/// The answer to one request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    Done,
    /// The answer to entries that are not requests.
    Nothing,
    Opened(SessionId),
    /// What of the named buckets the session that was to have them holds now. What is missing is held by another.
    Granted(Vec<Run>),
    /// The records that were refused, by their place in the request. All others were accepted.
    Witnessed {
        refused: Vec<(u32, Refusal)>,
    },
    Refused(Refusal),
}
