//! IMAP4rev1 (RFC 3501) and the extensions in `command.rs`: bytes to commands, responses to bytes.
//!
//! The framer cuts what a client sends into commands and literals; the parser under `parse/` reads one command;
//! `encode.rs` and `fetch_encode.rs` write responses. Nothing here has an opinion about *when* a command is allowed.
//!
//! Invariants
//! - No input makes this room panic, recurse without bound or hold more than `framer::Limits` says.
//! - How bytes are split into `push` calls never changes the frames that come out.
//! - A message's octets in APPEND are handed on as they arrive and are never collected here.

pub mod command;
pub mod command_encode;
pub mod date;
pub mod encode;
pub(crate) mod exercise;
pub mod fetch;
pub mod fetch_encode;
pub mod framer;
mod literal;
pub mod mailbox;
mod parse;
pub mod response;
pub mod search;
pub mod set;
mod structure;

pub use command::{Body, Command, Tag};
pub use encode::Encoder;
pub use fetch::{FetchItem, Partial, Section, SectionText};
pub use fetch_encode::FetchWriter;
pub use framer::{Decision, Frame, Framer, Limits};
pub use mailbox::{ListPattern, MailboxError, NameEncoding, WireMailbox};
pub use response::{Code, Status};
pub use search::SearchKey;
pub use set::SequenceSet;
