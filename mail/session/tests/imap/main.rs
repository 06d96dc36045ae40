//! The IMAP conversation from outside: transcripts against an account in memory, one file a family of commands.

#![expect(clippy::unwrap_used, reason = "a test stops at what it does not expect")]
#![expect(clippy::wildcard_enum_match_arm, reason = "a fake answers what it is asked and panics at the rest")]

mod append;
mod chunks;
mod copy;
mod fetch;
mod frozen;
mod handover;
mod idle;
mod limits;
mod list;
mod login;
mod mailbox;
mod moves;
mod qresync;
mod random;
mod script;
mod search;
mod select;
mod store;
mod world;

/// Sessions stay where they are, but for those of `moves`.
const MOVES: bool = false;
