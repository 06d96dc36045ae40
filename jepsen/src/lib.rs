//! Strangers: the product as its users meet it. Real `roost` processes, spoken to by IMAP, POP3 and LMTP only.
//!
//! What this crate says holds for what was shipped, because it shares nothing with it: no type, no parser, no constant.
//!
//! Invariants
//! - It depends on no crate of ours.
//! - What it knows of the server is what the server acknowledged: *ok* happened, *fail* did not, *info* is unknown and
//!   may have happened, once.
//! - Waiting is for a condition, with a deadline; no pause stands for one.
//! - A random choice comes from a seed, and a failure prints it with the command that replays it.
//!
//! The same clients and tests run against Dovecot (`JEPSEN_SERVER=dovecot`): what they demand of us, they were seen to
//! accept from a server that has served for twenty years.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

pub mod checker;
pub mod client;
pub mod corpus;
pub mod dice;
pub mod history;
pub mod hosts;
pub mod lab;
pub mod nemesis;
pub mod server;
pub mod shared;
pub mod site;
pub mod strangers;
pub mod timeline;
pub mod wait;
pub mod ways;
pub mod workload;
