//! RFC 5322 and MIME, by offset into a message's wire octets.
//!
//! A message is parsed once, into a tree of [`Part`]s that remember where everything lies. What a client asks for later
//! (a section, a header field, a text to search) is then a range of the same octets, byte for byte as they were
//! stored. Nothing here knows a protocol, opens a file or fails: input is mail as the world sends it, so every
//! octet string is some message, and broken parts are read the way clients have learnt to expect.
//!
//! Invariants
//! - Offsets count wire octets: every line ends in CRLF (`wire.rs` turns stored octets into that form).
//! - Every span lies within the message; a child's span lies within its parent's body.
//! - Recursion is bounded by [`Limits::depth_max`], memory by the other limits and the size of the input.

mod address;
pub mod date;
pub mod decode;
mod envelope;
#[doc(hidden)]
pub mod exercise;
pub mod header;
mod mime;
mod parse;
pub mod received;
pub mod search;
pub mod section;
mod token;
pub mod wire;
pub mod words;

pub use address::{Address, addresses};
pub use envelope::Envelope;
pub use mime::{ContentType, Disposition, Mime, Param, decoded_param};
pub use parse::parse;
pub use section::Kind;

use serde::{Deserialize, Serialize};

/// What one message may cost us. What lies beyond a limit is still served, only not interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Levels of multiparts and embedded messages. A part on the last level is a leaf, whatever it says.
    pub depth_max: usize,
    /// Parts in all. Delimiters after the last one are text.
    pub parts_max: usize,
    /// Octets of one header in which fields are looked for.
    pub header_bytes_max: usize,
    /// Octets of one field that are interpreted.
    pub value_bytes_max: usize,
    /// Addresses kept of one envelope field.
    pub addresses_max: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            depth_max: 100,
            parts_max: 10_000,
            header_bytes_max: 16 << 20,
            value_bytes_max: 256 << 10,
            addresses_max: 10_000,
        }
    }
}

/// A range of wire octets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Span {
    pub offset: u64,
    pub len: u64,
}

impl Span {
    pub fn end(self) -> u64 {
        self.offset.saturating_add(self.len)
    }

    /// Returns the octets of this span, or nothing where `wire` is shorter than the message this span is of.
    pub fn of(self, wire: &[u8]) -> &[u8] {
        let start = usize::try_from(self.offset).unwrap_or(usize::MAX).min(wire.len());
        let end = usize::try_from(self.end()).unwrap_or(usize::MAX).min(wire.len());
        wire.get(start..end).unwrap_or_default()
    }
}

/// A whole message: the stored one, or one embedded in a `message/rfc822` part.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    pub envelope: Envelope,
    pub root: Part,
}

impl Message {
    /// The whole message, header and body.
    pub fn span(&self) -> Span {
        Span { offset: self.root.header.offset, len: self.root.header.len + self.root.body.len }
    }
}

/// One node of the MIME tree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    pub mime: Mime,
    /// The header with the empty line that ends it.
    pub header: Span,
    /// Follows the header at once. The CRLF before the next delimiter is not part of it (RFC 2046 §5.1.1).
    pub body: Span,
    /// Line ends within the body.
    pub lines: u64,
    pub content: Content,
}

/// What a part's body consists of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Content {
    Leaf,
    /// May be empty: a multipart without delimiters.
    Multipart(Vec<Part>),
    Message(Box<Message>),
}
