//! Mailbox names and LIST patterns as they travel.
//!
//! Invariants
//! - A decoded name is a `MailboxName`: no empty level, no `..`, no control character, INBOX in upper case.

use std::fmt;

use model::utf7::{Utf7Error, decode_utf7, encode_utf7};
use model::{MailboxName, NameError};

/// How names travel in this session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum NameEncoding {
    #[default]
    ModifiedUtf7,
    /// After `ENABLE UTF8=ACCEPT` or `ENABLE IMAP4rev2` (RFC 6855 §3, RFC 9051 §5.1).
    Utf8,
}

/// Why what the client wrote is no mailbox name. The session answers NO.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MailboxError {
    #[error("mailbox name is not modified UTF-7: {0}")]
    Utf7(Utf7Error),
    #[error("mailbox name is not UTF-8")]
    Utf8,
    #[error(transparent)]
    Name(#[from] NameError),
}

/// A mailbox name as the client wrote it.
#[derive(Clone, PartialEq, Eq)]
pub struct WireMailbox(Vec<u8>);

impl WireMailbox {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The name that is meant. One separator at the end is left off: clients write it to say that they will create
    /// names below (RFC 3501 §6.3.3).
    pub fn name(&self, encoding: NameEncoding) -> Result<MailboxName, MailboxError> {
        let text = self.text(encoding)?;
        Ok(MailboxName::new(text.strip_suffix(model::name::SEPARATOR).unwrap_or(&text))?)
    }

    /// The text alone, for the reference of LIST, which need not be a name and may be empty.
    pub fn text(&self, encoding: NameEncoding) -> Result<String, MailboxError> {
        decode(&self.0, encoding)
    }
}

impl fmt::Debug for WireMailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

/// A LIST pattern as the client wrote it, with `*` and `%`.
#[derive(Clone, PartialEq, Eq)]
pub struct ListPattern(Vec<u8>);

impl ListPattern {
    pub fn new(bytes: impl Into<Vec<u8>>) -> Self {
        Self(bytes.into())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The pattern in Unicode; `*` and `%` are never part of what is shifted in modified UTF-7.
    pub fn text(&self, encoding: NameEncoding) -> Result<String, MailboxError> {
        decode(&self.0, encoding)
    }
}

impl fmt::Debug for ListPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.escape_ascii())
    }
}

fn decode(bytes: &[u8], encoding: NameEncoding) -> Result<String, MailboxError> {
    match encoding {
        NameEncoding::ModifiedUtf7 => decode_utf7(bytes).map_err(MailboxError::Utf7),
        NameEncoding::Utf8 => String::from_utf8(bytes.to_vec()).map_err(|_| MailboxError::Utf8),
    }
}

/// Writes a name as this session shows it.
pub fn encode_name(name: &str, encoding: NameEncoding) -> String {
    match encoding {
        NameEncoding::ModifiedUtf7 => encode_utf7(name),
        NameEncoding::Utf8 => name.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wire_name_becomes_a_mailbox_name_or_says_why_not() {
        let name = |wire: &str| WireMailbox::new(wire).name(NameEncoding::ModifiedUtf7);
        assert_eq!(name("inBox"), Ok(MailboxName::inbox()));
        assert_eq!(name("a/b/").unwrap().as_str(), "a/b");
        assert_eq!(name("Entw&APw-rfe").unwrap().as_str(), "Entw\u{fc}rfe");
        assert_eq!(name("../x"), Err(MailboxError::Name(NameError::DotLevel)));
        assert_eq!(name(""), Err(MailboxError::Name(NameError::EmptyLevel)));
        assert_eq!(name("a//"), Err(MailboxError::Name(NameError::EmptyLevel)));
        assert_eq!(name("&AAA-"), Err(MailboxError::Name(NameError::Control)));
        assert_eq!(name("caf\u{e9}"), Err(MailboxError::Utf7(Utf7Error::NotPrintable)));
        assert_eq!(WireMailbox::new("caf\u{e9}").name(NameEncoding::Utf8).unwrap().as_str(), "caf\u{e9}");
        assert_eq!(WireMailbox::new(vec![0xff]).name(NameEncoding::Utf8), Err(MailboxError::Utf8));
    }
}
