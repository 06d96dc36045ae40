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

use futures::FutureExt as _;
use futures::future::BoxFuture;
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

/// Runs a call of the library to its end, also when whoever waits for it gives up.
///
/// A call that finds the core gone takes over the wait for its end. Dropped in the middle of that, it leaves the library in a
/// state in which it panics at every later call (0.10.0-alpha.37, `RaftInner::join_core_task`). `None`: there is no end.
pub fn to_the_end<T: Send + 'static>(
    call: impl Future<Output = T> + Send + 'static,
) -> BoxFuture<'static, Option<T>> {
    let running = tokio::spawn(call);
    async move { running.await.ok() }.boxed()
}
