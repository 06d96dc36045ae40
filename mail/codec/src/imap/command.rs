//! What a client can ask for, as values.
//!
//! Mailbox names stay as the client wrote them (`WireMailbox`): how they decode depends on the session's state, and a
//! bad one deserves NO, not BAD. MULTIAPPEND, CATENATE and REPLACE would become further forms of [`AppendCommand`].

use std::fmt;

use model::{Flag, SpecialUse, UidValidity};

use super::date::DateTime;
use super::fetch::FetchItem;
use super::mailbox::{ListPattern, WireMailbox};
use super::search::SearchKey;
use super::set::SequenceSet;

/// The client's name for one command (RFC 3501 §9 tag): one or more ASTRING-CHARs except `+`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Tag(Box<str>);

/// Longest tag; clients use four to ten bytes, and each response repeats it.
pub const TAG_BYTES_MAX: usize = 128;

impl Tag {
    /// Returns the tag, or `None` unless it follows the grammar and is of bearable length.
    pub fn new(text: &[u8]) -> Option<Self> {
        let good = |byte: &u8| *byte > b' ' && *byte < 0x7f && !b"(){%*\"\\+".contains(byte);
        if text.is_empty() || text.len() > TAG_BYTES_MAX || !text.iter().all(good) {
            return None;
        }
        std::str::from_utf8(text).ok().map(|text| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A whole command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    pub tag: Tag,
    pub body: Body,
}

/// What the command asks for, without its tag.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Capability,
    Noop,
    Logout,
    /// RFC 2971. `None` is `ID NIL`.
    Id(Option<Vec<IdField>>),
    StartTls,
    /// The lines that follow come by `Framer::expect_line`.
    Authenticate(Authenticate),
    Login(Login),
    /// RFC 5161. Names in upper case.
    Enable(Vec<String>),
    Select(Select),
    Examine(Select),
    /// `special_use` is RFC 6154's `USE` parameter.
    Create {
        mailbox: WireMailbox,
        special_use: Vec<SpecialUse>,
    },
    Delete(WireMailbox),
    Rename {
        from: WireMailbox,
        to: WireMailbox,
    },
    Subscribe(WireMailbox),
    Unsubscribe(WireMailbox),
    List(ListCommand),
    Lsub {
        reference: WireMailbox,
        pattern: ListPattern,
    },
    Status {
        mailbox: WireMailbox,
        items: Vec<StatusItem>,
    },
    /// Comes as `Frame::AppendStart`; the message's octets follow as frames.
    Append(AppendCommand),
    /// DONE comes by `Framer::expect_line` (RFC 2177).
    Idle,
    Namespace,
    Unselect,
    Close,
    Check,
    Expunge,
    UidExpunge(SequenceSet),
    Search(SearchCommand),
    Fetch(FetchCommand),
    Store(StoreCommand),
    Copy {
        uid: bool,
        set: SequenceSet,
        mailbox: WireMailbox,
    },
    Move {
        uid: bool,
        set: SequenceSet,
        mailbox: WireMailbox,
    },
}

/// One field of ID (RFC 2971) and what the client says about it; `None` is NIL.
pub type IdField = (String, Option<String>);

/// AUTHENTICATE with RFC 4959's initial response.
#[derive(Clone, PartialEq, Eq)]
pub struct Authenticate {
    /// In upper case.
    pub mechanism: String,
    /// Decoded. `Some` and empty when the client wrote `=`.
    pub initial: Option<Vec<u8>>,
}

/// Never shows the initial response, which may hold a password.
impl fmt::Debug for Authenticate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let initial = self.initial.as_ref().map(|_| "[hidden]");
        f.debug_struct("Authenticate").field("mechanism", &self.mechanism).field("initial", &initial).finish()
    }
}

#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    pub user: Vec<u8>,
    pub password: Vec<u8>,
}

/// Never shows the password.
impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = String::from_utf8_lossy(&self.user);
        f.debug_struct("Login").field("user", &user).field("password", &"[hidden]").finish()
    }
}

/// SELECT and EXAMINE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Select {
    pub mailbox: WireMailbox,
    pub parameters: SelectParameters,
}

/// RFC 7162 §3.1.8 and §3.2.5.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SelectParameters {
    pub condstore: bool,
    pub qresync: Option<QresyncParameters>,
}

/// What the client knew when it last saw the mailbox (RFC 7162 §3.2.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QresyncParameters {
    pub uid_validity: UidValidity,
    pub modseq: u64,
    /// Without `*`.
    pub known_uids: Option<SequenceSet>,
    /// Sequence numbers and their UIDs, position by position (§3.2.5.2). Without `*`.
    pub matches: Option<(SequenceSet, SequenceSet)>,
}

/// LIST as RFC 5258 extends it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListCommand {
    pub reference: WireMailbox,
    /// At least one.
    pub patterns: Vec<ListPattern>,
    pub selection: ListSelection,
    pub returns: ListReturn,
    /// Whether the client used the extended syntax anywhere: an empty pattern then has no special meaning (§3.1).
    pub extended: bool,
}

/// Which mailboxes LIST shall choose (RFC 5258 §3.1, RFC 6154 §2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ListSelection {
    pub subscribed: bool,
    pub remote: bool,
    pub recursive_match: bool,
    pub special_use: bool,
}

/// What LIST shall tell about each (RFC 5258 §3.2, RFC 6154 §2, RFC 5819).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ListReturn {
    pub subscribed: bool,
    pub children: bool,
    pub special_use: bool,
    pub status: Option<Vec<StatusItem>>,
}

/// One number of STATUS (RFC 3501 §6.3.10, RFC 7162, RFC 8438, RFC 8474, RFC 9051).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum StatusItem {
    Messages,
    Recent,
    UidNext,
    UidValidity,
    Unseen,
    Deleted,
    Size,
    HighestModSeq,
    MailboxId,
}

impl StatusItem {
    pub const ALL: [Self; 9] = [
        Self::Messages,
        Self::Recent,
        Self::UidNext,
        Self::UidValidity,
        Self::Unseen,
        Self::Deleted,
        Self::Size,
        Self::HighestModSeq,
        Self::MailboxId,
    ];

    /// As IMAP writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "MESSAGES",
            Self::Recent => "RECENT",
            Self::UidNext => "UIDNEXT",
            Self::UidValidity => "UIDVALIDITY",
            Self::Unseen => "UNSEEN",
            Self::Deleted => "DELETED",
            Self::Size => "SIZE",
            Self::HighestModSeq => "HIGHESTMODSEQ",
            Self::MailboxId => "MAILBOXID",
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|item| item.as_str().eq_ignore_ascii_case(text))
    }
}

/// APPEND up to the message's literal (RFC 3501 §6.3.11).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppendCommand {
    pub mailbox: WireMailbox,
    pub flags: Vec<Flag>,
    pub date: Option<DateTime>,
    pub literal: AppendLiteral,
}

/// The announcement of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendLiteral {
    pub size: u64,
    /// The client sends without waiting for `+` (RFC 7888).
    pub non_sync: bool,
}

/// SEARCH and UID SEARCH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchCommand {
    pub uid: bool,
    /// `None`: answer with SEARCH. `Some`: answer with ESEARCH (RFC 4731).
    pub returns: Option<SearchReturn>,
    /// As written; the session knows which it has.
    pub charset: Option<String>,
    pub key: SearchKey,
}

/// RFC 4731 §3.1. `RETURN ()` reads as `all`. SAVE (RFC 5182) would be one more.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SearchReturn {
    pub min: bool,
    pub max: bool,
    pub all: bool,
    pub count: bool,
}

/// FETCH and UID FETCH. Macros are expanded; items are in the client's order, without repetitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FetchCommand {
    pub uid: bool,
    pub set: SequenceSet,
    pub items: Vec<FetchItem>,
    /// RFC 7162 §3.1.4.1.
    pub changed_since: Option<u64>,
    /// RFC 7162 §3.2.6. Parsed only on UID FETCH together with `changed_since`.
    pub vanished: bool,
}

/// STORE and UID STORE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreCommand {
    pub uid: bool,
    pub set: SequenceSet,
    /// RFC 7162 §3.1.3.
    pub unchanged_since: Option<u64>,
    pub action: StoreAction,
    pub silent: bool,
    pub flags: Vec<Flag>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoreAction {
    Replace,
    Add,
    Remove,
}

/// Why bytes are no command, and what to answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct BadCommand {
    /// `None` when not even the tag could be read: answer untagged.
    pub tag: Option<Tag>,
    pub kind: BadKind,
    pub message: String,
}

/// How the answer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadKind {
    /// `BAD`
    Syntax,
    /// `BAD [TOOBIG]`: a line, command or inline literal beyond the limits (RFC 7888 §4).
    TooBig,
    /// `NO [TOOBIG]`: a message that APPEND may not bring (RFC 4469 §4.2).
    MessageTooBig,
    /// `NO [USEATTR]`: CREATE with a special use that we do not know (RFC 6154 §3).
    UseAttr,
}
