//! Our own clients: small, blocking, with a deadline on every read, and strict about what they are told.
//!
//! Invariants
//! - [`Failure::Refused`] means the server said that it did not happen; [`Failure::Lost`] means nobody knows.
//! - An answer that is not in the protocol is [`Failure::Broken`]: a fault of the server, never passed over.

pub mod imap;
pub mod imap_value;
pub mod lmtp;
pub mod pop3;
mod wire;

pub use wire::Wire;

/// Why a client did not get what it asked for.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// NO, BAD, -ERR, 4xx, 5xx: it did not happen.
    #[error("refused: {0}")]
    Refused(String),
    /// The connection ended or stayed silent: it may have happened.
    #[error("no answer: {0}")]
    Lost(String),
    /// The server said something that the protocol does not have.
    #[error("not in the protocol: {0}")]
    Broken(String),
}

pub type Result<T> = std::result::Result<T, Failure>;

/// Bytes as text for a message to a human.
pub fn shown(bytes: &[u8]) -> String {
    const SHOWN_MAX: usize = 200;
    let cut = bytes.get(..SHOWN_MAX).unwrap_or(bytes);
    String::from_utf8_lossy(cut).escape_debug().to_string()
}
