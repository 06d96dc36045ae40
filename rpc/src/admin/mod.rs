//! The admin socket: an operator's command runs inside the server that is already running.
//!
//! The command line is sent as it was typed and parsed by the server with the same definitions. What it prints comes
//! back as it is printed; standard input goes the other way as it is read, so neither is ever held whole.
//!
//! Invariants
//! - A call ends with its exit code, or with an error that says that it has none: a server that dies halfway never
//!   looks like success.
//! - Input that breaks off never looks like input that ended.
//! - Both sides wait for each other: a slow reader slows the writer, nothing piles up.

mod carry;
mod client;
mod server;
mod socket;

use bytes::Bytes;

pub use carry::{Begun, Carrier, CarryError, PeerService, Run, begin, peer_service};
pub use client::{AdminClient, CallError, ConnectError, Replies};
pub use server::{Captured, Events, Handler, HungUp, Input, InputError, ServeError, captured, serve};
pub use socket::{AdminSocket, BindError, PATH_BYTES_MAX};

/// Rises when a side would misunderstand the other. Command line and server are one binary, but one of them may
/// have been replaced while the other runs.
pub const VERSION: u32 = 1;
/// Most bytes in one event or chunk; longer output is cut into several.
pub const CHUNK_BYTES_MAX: usize = 256 << 10;

/// What the operator typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// The subcommand and all that follows it, without the global options.
    pub arguments: Vec<String>,
    /// It was typed at another node.
    pub carried: Option<Carried>,
}

/// What the node where a command was typed wants of the one that it asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carried {
    /// Of the many that the words name, the one whom this call is about.
    pub user: Option<String>,
    /// Others of the many have been printed before.
    pub continued: bool,
}

/// Why a node does not run a command that was carried to it. Nothing was begun.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// The account is not its own, says its knowledge up to this version.
    NotOwner(u64),
    Unavailable(String),
}

/// What a command has to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Stdout(Bytes),
    Stderr(Bytes),
    Progress(Progress),
    /// The last one.
    Finished(u8),
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub done: u64,
    /// `None` when nobody knows.
    pub total: Option<u64>,
    pub unit: String,
    pub label: String,
}

/// What the build makes of `proto/admin.proto`.
#[allow(unreachable_pub, clippy::all, reason = "generated")]
mod wire {
    tonic::include_proto!("roost.admin.v1");
}
