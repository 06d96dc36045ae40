//! Flags: the five that IMAP names, and keywords (RFC 9051 §2.3.2).

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Longest keyword, in bytes. Dovecot's limit of 50 is for other reasons; ours is that flags stand in records.
pub const KEYWORD_BYTES_MAX: usize = 128;

/// A flag that IMAP gives a meaning to. `\Recent` is not one: it belongs to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[repr(u8)]
pub enum SystemFlag {
    Answered = 1,
    Flagged = 2,
    Deleted = 4,
    Seen = 8,
    Draft = 16,
}

impl SystemFlag {
    pub const ALL: [Self; 5] = [Self::Answered, Self::Flagged, Self::Deleted, Self::Seen, Self::Draft];

    /// As IMAP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Answered => "\\Answered",
            Self::Flagged => "\\Flagged",
            Self::Deleted => "\\Deleted",
            Self::Seen => "\\Seen",
            Self::Draft => "\\Draft",
        }
    }
}

/// A set of system flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct SystemFlags(u8);

impl SystemFlags {
    pub const NONE: Self = Self(0);

    pub fn contains(self, flag: SystemFlag) -> bool {
        self.0 & flag as u8 != 0
    }

    pub fn set(&mut self, flag: SystemFlag, on: bool) {
        if on {
            self.0 |= flag as u8;
        } else {
            self.0 &= !(flag as u8);
        }
    }

    pub fn with(mut self, flag: SystemFlag) -> Self {
        self.set(flag, true);
        self
    }

    pub fn iter(self) -> impl Iterator<Item = SystemFlag> {
        SystemFlag::ALL.into_iter().filter(move |flag| self.contains(*flag))
    }
}

impl FromIterator<SystemFlag> for SystemFlags {
    fn from_iter<I: IntoIterator<Item = SystemFlag>>(flags: I) -> Self {
        flags.into_iter().fold(Self::NONE, Self::with)
    }
}

/// A flag that users and clients name. Compares without regard to ASCII case; keeps the case it was given.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Keyword(Arc<str>);

impl Keyword {
    /// Returns the keyword, or `None` unless it is an IMAP atom (RFC 9051 §9 flag-keyword) of bearable length.
    pub fn new(name: &str) -> Option<Self> {
        let atom = |byte: u8| byte > b' ' && byte < 0x7f && !b"(){%*\"\\]".contains(&byte);
        let fits = !name.is_empty() && name.len() <= KEYWORD_BYTES_MAX;
        (fits && name.bytes().all(atom)).then(|| Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Keyword {
    type Error = &'static str;

    fn try_from(name: String) -> Result<Self, Self::Error> {
        Self::new(&name).ok_or("not a keyword")
    }
}

impl From<Keyword> for String {
    fn from(keyword: Keyword) -> Self {
        keyword.0.as_ref().to_owned()
    }
}

impl PartialEq for Keyword {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for Keyword {}

impl Hash for Keyword {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.0.bytes().for_each(|byte| state.write_u8(byte.to_ascii_lowercase()));
    }
}

impl PartialOrd for Keyword {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Keyword {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let lower = |name: &str| name.bytes().map(|byte| byte.to_ascii_lowercase()).collect::<Vec<_>>();
        lower(&self.0).cmp(&lower(&other.0))
    }
}

/// Any flag that is stored with a message.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Flag {
    System(SystemFlag),
    Keyword(Keyword),
}

impl Flag {
    pub fn as_str(&self) -> &str {
        match self {
            Self::System(flag) => flag.as_str(),
            Self::Keyword(keyword) => keyword.as_str(),
        }
    }

    /// Reads a flag as a client writes it. `\Recent` and unknown `\` flags are `None`.
    pub fn parse(text: &str) -> Option<Self> {
        match text.strip_prefix('\\') {
            Some(_) => SystemFlag::ALL
                .into_iter()
                .find(|flag| flag.as_str().eq_ignore_ascii_case(text))
                .map(Self::System),
            None => Keyword::new(text).map(Self::Keyword),
        }
    }
}

impl fmt::Display for Flag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
