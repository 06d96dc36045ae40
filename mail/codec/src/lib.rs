//! Bytes to commands, responses to bytes; no opinion about them.
//!
//! A folder or file a protocol. Nothing here panics on input, recurses without bound or holds more than its limits.

pub mod imap;
pub mod sasl;
