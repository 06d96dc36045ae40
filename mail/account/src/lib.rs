//! The owner of an account: one writer, one door.
//!
//! Everything that changes an account is a [`door::Request`] to its [`owner::Owner`], and becomes a journal record.
//! Readers hold a [`snapshot::Snapshot`] and never wait for the writer.
//!
//! Invariants
//! - One owner at a time writes an account, under one epoch, on one thread at a time.
//! - Nothing is answered or published before it is durable and witnessed (L-CM1).
//! - A reader's snapshot never changes under it, and the bytes it names stay readable while it may be held.

pub mod door;
pub mod search;
pub mod snapshot;
pub mod tenure;

pub use door::{Refused, Reply, Request, Ticket};
pub use snapshot::{MailboxView, MessageView, Snapshot};
pub use tenure::{Tenure, Witness};
