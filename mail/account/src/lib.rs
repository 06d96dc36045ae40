//! The owner of an account: one writer, one door.
//!
//! Everything that changes an account is a [`door::Request`] to its [`owner::Owner`], and becomes a journal record.
//! Readers hold a [`snapshot::Snapshot`] and never wait for the writer.
//!
//! Invariants
//! - One owner at a time writes an account, under one epoch, on one thread at a time.
//! - Nothing is answered or published before it is durable and witnessed (L-CM1).
//! - A reader's snapshot never changes under it, and the bytes it names stay readable while it may be held.

mod adopt;
mod append;
mod astray;
mod building;
mod chunks;
pub mod door;
mod dues;
pub mod dump;
mod expunge;
mod flags;
mod hierarchy;
mod image;
mod log;
mod observe;
pub mod open;
pub mod owner;
pub mod patience;
mod quota;
pub mod reader;
mod recover;
pub mod search;
mod settle;
pub mod setup;
pub mod snapshot;
pub mod tenure;
#[cfg(test)]
mod tests;
mod transfer;
mod uid;
pub mod verify;

pub use chunks::VANISHED_MAX;
pub use door::{Refused, Reply, Request, Ticket};
pub use open::OpenError;
pub use owner::{Limits, Now, Owner, Setup};
pub use patience::{Patience, Shortfall};
pub use reader::{Described, ReadError, Reader};
pub use snapshot::{MailboxView, MessageView, Snapshot};
pub use tenure::{Tenure, Witness};
