//! Consensus fitted to our disk and wire. The library is named in this directory, `server.rs` and nowhere else.
//!
//! The log ([`log`], [`store`]) and the snapshot ([`snapshot`]) are the truth, in our own files through `Fs`. The
//! applied state ([`machine`]) is in memory; its copy in sled ([`copy`]) only makes a restart shorter.

pub mod coding;
pub mod copy;
pub mod frame;
pub mod log;
pub mod machine;
pub mod network;
pub mod snapshot;
pub mod store;

use openraft::type_config::alias;

openraft::declare_raft_types!(
    /// What our groups agree on.
    pub TypeConfig:
        D = crate::command::Proposal,
        R = crate::command::Answer,
        NodeId = u64,
        Node = openraft::BasicNode,
);

pub type LogId = alias::LogIdOf<TypeConfig>;
pub type Vote = alias::VoteOf<TypeConfig>;
pub type Entry = alias::EntryOf<TypeConfig>;
pub type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;
pub type Snapshot = alias::SnapshotOf<TypeConfig, snapshot::SnapshotFile>;
pub type Raft = openraft::Raft<TypeConfig, machine::Machine>;
