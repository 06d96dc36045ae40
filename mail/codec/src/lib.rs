//! Bytes to commands, responses to bytes; no opinion about them.
//!
//! A folder or file a protocol. Nothing here panics on input, recurses without bound or holds more than its limits.

#[doc(hidden)]
pub mod exercise;
pub mod imap;
pub mod line;
pub mod lmtp;
pub mod pop3;
pub mod sasl;
