//! The POP3 conversation, seen by a client.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
#![expect(clippy::wildcard_enum_match_arm, reason = "what the protocol never asks is a failed test")]

mod failures;
mod frozen;
mod handover;
mod login;
mod moves;
mod transaction;
mod world;
