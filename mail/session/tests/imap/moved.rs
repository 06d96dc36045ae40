//! Every conversation of `main.rs` once more, with clients whose account moves to another node whenever they are between
//! two commands, or idle (L-CN3): they must not be able to tell.

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
mod qresync;
mod random;
mod script;
mod search;
mod select;
mod store;
mod world;

/// Sessions go on at another node whenever they can.
const MOVES: bool = true;
