//! Who owns which bucket, under which epoch, and what of each account counts.
//!
//! An account is a number here: what buckets, subkeys and values mean is known to those who ask. Design:
//! `locking.md`; its rule tags (L-…, J…) are cited where they are kept.
//!
//! Pure: [`state`] (the replicated state machine), [`lease`] and [`standing`]. Drivers: [`server`] (a voter), [`client`] (what a
//! node asks for) and [`peer`] (how nodes reach each other). [`raft`] fits the consensus library to our disk.

pub mod client;
mod clock;
pub mod command;
pub mod lease;
pub mod marks;
pub mod peer;
pub mod raft;
pub mod server;
pub mod standing;
pub mod state;
pub mod witnesses;

pub use client::{
    BucketStatus, GrantError, Locking, NodeStatus, Options, Owner, Placed, Role, Status, Ticket,
    WitnessCounters, WitnessError,
};
pub use command::{BUCKETS, Bucket, NodeId, Record, SessionId, Subkey, VALUE_BYTES_MAX, Value, Witness};
pub use lease::Length;
pub use peer::message::Change;
pub use peer::{Door, Peers};
pub use server::{ChangeError, Follower, Founding, NoAnswer, Site, StartError};
pub use standing::Standing;
