//! Mailbox names: hierarchy levels in Unicode NFC, joined by `/`.
//!
//! What IMAP writes (modified UTF-7) and what a store writes on disk are their own rooms' business.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use unicode_normalization::UnicodeNormalization;

/// Longest whole name in bytes, as UTF-8. Its modified UTF-7 form must still fit a directory entry.
pub const NAME_BYTES_MAX: usize = 200;
/// Levels below each other.
pub const NAME_LEVELS_MAX: usize = 20;
/// Between levels, here and in IMAP.
pub const SEPARATOR: char = '/';

/// A mailbox name that can exist: no empty level, no `.` or `..`, no control character.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct MailboxName(Arc<str>);

/// Why a text is no mailbox name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    #[error("mailbox name is empty or has an empty level")]
    EmptyLevel,
    #[error("mailbox name has a level '.' or '..'")]
    DotLevel,
    #[error("mailbox name has a control character")]
    Control,
    #[error("mailbox name is longer than {NAME_BYTES_MAX} bytes")]
    TooLong,
    #[error("mailbox name has more than {NAME_LEVELS_MAX} levels")]
    TooDeep,
    #[error("mailbox name has a level that the store cannot hold: {0}")]
    Store(&'static str),
}

impl MailboxName {
    pub fn inbox() -> Self {
        Self("INBOX".into())
    }

    /// Normalises to NFC, and INBOX in any case to `INBOX` (RFC 9051 §5.1).
    pub fn new(text: &str) -> Result<Self, NameError> {
        if text.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        let nfc: String = text.nfc().collect();
        if nfc.len() > NAME_BYTES_MAX {
            return Err(NameError::TooLong);
        }
        if nfc.split(SEPARATOR).count() > NAME_LEVELS_MAX {
            return Err(NameError::TooDeep);
        }
        for level in nfc.split(SEPARATOR) {
            match level {
                "" => return Err(NameError::EmptyLevel),
                "." | ".." => return Err(NameError::DotLevel),
                _ if level.chars().any(char::is_control) => return Err(NameError::Control),
                _ => {}
            }
        }
        Ok(Self(with_inbox_upper(nfc).into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is_inbox(&self) -> bool {
        &*self.0 == "INBOX"
    }

    pub fn levels(&self) -> impl DoubleEndedIterator<Item = &str> {
        self.0.split(SEPARATOR)
    }

    /// The last level.
    pub fn leaf(&self) -> &str {
        self.0.rsplit(SEPARATOR).next().unwrap_or(&self.0)
    }

    pub fn parent(&self) -> Option<Self> {
        self.0.rsplit_once(SEPARATOR).map(|(parent, _)| Self(parent.into()))
    }

    /// Whether this lies below `ancestor`, at any depth.
    pub fn is_below(&self, ancestor: &Self) -> bool {
        self.0.strip_prefix(&*ancestor.0).is_some_and(|rest| rest.starts_with(SEPARATOR))
    }
}

/// `inbox` and `Inbox/Sub`: the first level, if it is INBOX in any case, is written in upper case.
fn with_inbox_upper(name: String) -> String {
    let first = name.split(SEPARATOR).next().unwrap_or_default();
    if first.eq_ignore_ascii_case("INBOX") { format!("INBOX{}", &name[first.len()..]) } else { name }
}

impl TryFrom<String> for MailboxName {
    type Error = NameError;

    fn try_from(text: String) -> Result<Self, NameError> {
        Self::new(&text)
    }
}

impl From<MailboxName> for String {
    fn from(name: MailboxName) -> Self {
        name.0.as_ref().to_owned()
    }
}

impl fmt::Display for MailboxName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// RFC 6154 §2: what a mailbox is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum SpecialUse {
    All,
    Archive,
    Drafts,
    Flagged,
    Junk,
    Sent,
    Trash,
}

impl SpecialUse {
    pub const ALL: [Self; 7] =
        [Self::All, Self::Archive, Self::Drafts, Self::Flagged, Self::Junk, Self::Sent, Self::Trash];

    /// As IMAP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::All => "\\All",
            Self::Archive => "\\Archive",
            Self::Drafts => "\\Drafts",
            Self::Flagged => "\\Flagged",
            Self::Junk => "\\Junk",
            Self::Sent => "\\Sent",
            Self::Trash => "\\Trash",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|purpose| purpose.as_str().eq_ignore_ascii_case(text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_normalised_and_bad_ones_refused() {
        assert_eq!(MailboxName::new("inbox").unwrap(), MailboxName::inbox());
        assert_eq!(MailboxName::new("iNbOx/Sub").unwrap().as_str(), "INBOX/Sub");
        assert_eq!(MailboxName::new("Entwu\u{308}rfe").unwrap().as_str(), "Entw\u{fc}rfe");
        assert_eq!(MailboxName::new("a//b"), Err(NameError::EmptyLevel));
        assert_eq!(MailboxName::new("../etc"), Err(NameError::DotLevel));
        assert_eq!(MailboxName::new("a\0b"), Err(NameError::Control));
        assert_eq!(MailboxName::new(&"x".repeat(201)), Err(NameError::TooLong));
        assert_eq!(MailboxName::new(&"x/".repeat(30)), Err(NameError::TooDeep));
    }
}
