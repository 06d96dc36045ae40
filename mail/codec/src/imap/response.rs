//! What a server says, as values; `encode.rs` writes them.

use model::{MailboxId, MailboxName, ModSeq, SpecialUse, Uid, UidValidity};

use super::command::StatusItem;

/// The word that begins a status response (RFC 3501 §7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    Ok,
    No,
    Bad,
    /// Only untagged.
    PreAuth,
    /// Only untagged.
    Bye,
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::No => "NO",
            Self::Bad => "BAD",
            Self::PreAuth => "PREAUTH",
            Self::Bye => "BYE",
        }
    }
}

/// What stands in brackets for programs to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Code {
    // RFC 3501 §7.1.
    Alert,
    /// The charsets that searches can use.
    BadCharset(Vec<String>),
    Capability(Vec<String>),
    Parse,
    /// `star` is `\*`: new keywords may be made.
    PermanentFlags {
        flags: Vec<model::Flag>,
        star: bool,
    },
    ReadOnly,
    ReadWrite,
    TryCreate,
    UidNext(Uid),
    UidValidity(UidValidity),
    /// Sequence number of the first unseen message.
    Unseen(u32),
    // RFC 4315.
    AppendUid {
        uid_validity: UidValidity,
        uid: Uid,
    },
    /// Source and copy stand at the same place in the two lists.
    CopyUid {
        uid_validity: UidValidity,
        source: Vec<Uid>,
        copies: Vec<Uid>,
    },
    UidNotSticky,
    // RFC 7162.
    HighestModSeq(ModSeq),
    NoModSeq,
    /// Sequence numbers or UIDs, as the command had them.
    Modified(Vec<u32>),
    Closed,
    // RFC 5530.
    Unavailable,
    AuthenticationFailed,
    AuthorizationFailed,
    Expired,
    PrivacyRequired,
    ContactAdmin,
    NoPerm,
    InUse,
    ExpungeIssued,
    Corruption,
    ServerBug,
    ClientBug,
    Cannot,
    Limit,
    OverQuota,
    AlreadyExists,
    Nonexistent,
    // RFC 4469, RFC 6154, RFC 8474.
    TooBig,
    UseAttr,
    MailboxId(MailboxId),
}

/// A mailbox attribute of LIST (RFC 3501 §7.2.2, RFC 5258 §4, RFC 6154 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ListAttribute {
    NoInferiors,
    NoSelect,
    NonExistent,
    Marked,
    Unmarked,
    HasChildren,
    HasNoChildren,
    Subscribed,
    Remote,
    SpecialUse(SpecialUse),
}

impl ListAttribute {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoInferiors => "\\NoInferiors",
            Self::NoSelect => "\\Noselect",
            Self::NonExistent => "\\NonExistent",
            Self::Marked => "\\Marked",
            Self::Unmarked => "\\Unmarked",
            Self::HasChildren => "\\HasChildren",
            Self::HasNoChildren => "\\HasNoChildren",
            Self::Subscribed => "\\Subscribed",
            Self::Remote => "\\Remote",
            Self::SpecialUse(purpose) => purpose.as_str(),
        }
    }
}

/// One LIST line (RFC 5258 §4).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListEntry {
    pub attributes: Vec<ListAttribute>,
    pub name: MailboxName,
    /// `CHILDINFO ("SUBSCRIBED")`: a descendant is subscribed and RECURSIVEMATCH was asked.
    pub child_subscribed: bool,
    /// `OLDNAME`: the name by which the client asked, where it was changed (RFC 5465, RFC 9051 §6.3.9.7).
    pub old_name: Option<MailboxName>,
}

/// One value of a STATUS response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusValue {
    /// Any item but `MailboxId`.
    Number(StatusItem, u64),
    MailboxId(MailboxId),
}

/// What ESEARCH tells (RFC 4731 §3.1, RFC 7162 §3.1.10). Only what was asked for is `Some`; `min`, `max` and `all`
/// are left out when nothing matched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchResult {
    pub min: Option<u32>,
    pub max: Option<u32>,
    /// Rising.
    pub all: Option<Vec<u32>>,
    pub count: Option<u32>,
    pub modseq: Option<ModSeq>,
}

/// One namespace: where it begins and what separates its levels (RFC 2342).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Empty, or ends in the separator.
    pub prefix: String,
    pub separator: char,
}
