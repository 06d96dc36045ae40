//! What callers see of an owner: plain values, so that the door could be a process boundary.
//!
//! A session names messages by the UIDs it has shown. The owner looks them up in its own state: a UID that is gone by
//! then is skipped, as if the request had not named it.

use std::sync::Arc;

use model::{DeliveryKey, Flag, MailboxId, MailboxName, ModSeq, NameError, SpecialUse, Uid, UidValidity};
use store::spool::Spooled;

use crate::snapshot::Snapshot;

/// Joins an answer to its question, within one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket(pub u64);

/// A change that somebody wants, or a look at what other programs did.
#[derive(Debug)]
pub enum Request {
    /// Adds messages to a mailbox: delivery, APPEND, `roost save`. All of them, or none.
    Append(Append),
    /// RFC 3501 §6.4.7. Nothing is copied if one cannot be.
    Copy {
        from: MailboxId,
        uids: Vec<Uid>,
        to: MailboxName,
    },
    /// RFC 6851.
    Move {
        from: MailboxId,
        uids: Vec<Uid>,
        to: MailboxName,
    },
    EditFlags(EditFlags),
    Expunge {
        mailbox: MailboxId,
        which: Expunge,
    },
    Create {
        name: MailboxName,
        special_use: Option<SpecialUse>,
    },
    Delete {
        name: MailboxName,
    },
    /// RFC 3501 §6.3.5; renaming INBOX moves its messages (row 41).
    Rename {
        from: MailboxName,
        to: MailboxName,
    },
    /// Subscriptions are names, of mailboxes that need not exist (RFC 3501 §6.3.6).
    Subscribe {
        name: MailboxName,
        on: bool,
    },
    /// Looks for what other programs delivered or renamed, in one mailbox or in all.
    Observe {
        mailbox: Option<MailboxId>,
    },
    /// Writes a checkpoint, and what neighbours read of the store, now.
    Settle,
    /// Forgets derived files of the store and the index, and makes them again from the journal and the messages.
    RebuildIndex,
}

#[derive(Clone, Debug)]
pub struct Append {
    pub mailbox: MailboxName,
    /// Create the mailbox if there is none, instead of refusing.
    pub create: bool,
    pub messages: Vec<NewMessage>,
    /// The same delivery tried again is acknowledged, and stored once (L-CM2).
    pub delivery: Option<DeliveryKey>,
}

#[derive(Clone, Debug)]
pub struct NewMessage {
    pub body: Arc<Spooled>,
    pub flags: Vec<Flag>,
    /// UNIX seconds; now, if absent.
    pub internal_date: Option<i64>,
}

#[derive(Clone, Debug)]
pub struct EditFlags {
    pub mailbox: MailboxId,
    pub uids: Vec<Uid>,
    pub edit: FlagEdit,
    pub flags: Vec<Flag>,
    /// RFC 7162 §3.1.3: messages changed since are left alone and named in the reply.
    pub unchanged_since: Option<ModSeq>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlagEdit {
    Replace,
    Add,
    Remove,
}

#[derive(Clone, Debug)]
pub enum Expunge {
    /// All that carry `\Deleted`.
    Deleted,
    /// Those of these that carry `\Deleted` (UID EXPUNGE, RFC 4315).
    DeletedAmong(Vec<Uid>),
    /// These, whatever their flags (POP3 after QUIT).
    Exactly(Vec<Uid>),
}

/// What was done. It is durable, witnessed and in the snapshot that comes with it.
#[derive(Debug, PartialEq, Eq)]
pub enum Reply {
    Appended {
        mailbox: MailboxId,
        uid_validity: UidValidity,
        uids: Vec<Uid>,
    },
    /// COPYUID and MOVE: old and new UID of each message, in the order asked.
    Copied {
        uid_validity: UidValidity,
        uids: Vec<(Uid, Uid)>,
    },
    /// `unchanged_since` kept these from being changed (MODIFIED).
    FlagsEdited {
        modified: Vec<Uid>,
    },
    Expunged {
        uids: Vec<Uid>,
    },
    Created {
        mailbox: MailboxId,
    },
    Done,
}

/// A reply together with a snapshot that shows it.
#[derive(Debug)]
pub struct Done {
    pub reply: Reply,
    pub snapshot: Arc<Snapshot>,
}

/// Why a request was not done. Each protocol has its own words for each (`session::refused`).
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The client may create the mailbox and try again.
    #[error("no mailbox {0}")]
    NoMailbox(MailboxName),
    /// The mailbox of this id was deleted meanwhile.
    #[error("the mailbox was deleted")]
    MailboxGone,
    #[error("mailbox {0} exists already")]
    MailboxExists(MailboxName),
    /// INBOX, a mailbox that holds another up, a rename below itself.
    #[error("mailbox {name}: {why}")]
    CannotDo { name: MailboxName, why: &'static str },
    #[error(transparent)]
    BadName(#[from] NameError),
    /// A named limit of the account.
    #[error("limit reached: {what} (at most {limit})")]
    Limit { what: &'static str, limit: u64 },
    /// The user deletes mail, or the operator raises the limit.
    #[error("over quota: {used_bytes} of {limit_bytes} bytes used, message has {message_bytes}")]
    OverQuota { used_bytes: u64, limit_bytes: u64, message_bytes: u64 },
    /// The volume is full. Nothing was done.
    #[error("no space left for mail: {0}")]
    NoSpace(String),
    /// Our tenure ended before we began. Nothing was done.
    #[error("this node no longer owns the account")]
    Deposed,
    /// The site has no majority, so that nothing can count (`locking.md` §8). Nothing was done.
    #[error("the site has no majority")]
    NoMajority,
    /// The disk failed before anything could be asked to be witnessed. Nothing was done.
    #[error("not stored: {0}")]
    NotStored(String),
    /// Written, but whether it counts is not known: hang up, never say NO (L-CM2).
    #[error("whether the change was made is not known")]
    Unknown,
    /// The node is stopping, or the account is closed for repair. Nothing was done.
    #[error("account is not available: {0}")]
    Unavailable(String),
}
