//! Who owns which bucket, under which epoch, and what of each account counts.
//!
//! An account is a number here: what buckets, subkeys and values mean is known to those who ask. Design:
//! `locking.md`; its rule tags (L-…, J…) are cited where they are kept.
//!
//! Pure: [`state`] (the replicated state machine) and [`lease`]. Drivers: [`server`] (a voter) and [`client`] (what a
//! node asks for). [`raft`] fits the consensus library to our disk.

pub mod client;
pub mod command;
pub mod lease;
pub mod raft;
pub mod server;
pub mod state;

pub use client::{GrantError, Locking, Options, Status, Ticket, WitnessCounters, WitnessError};
pub use command::{BUCKETS, Bucket, Record, SessionId, Subkey, VALUE_BYTES_MAX, Value, Witness};
pub use lease::Length;
pub use server::{NoAnswer, StartError};
