//! What clients did and what they were told, in the order in which they were told.
//!
//! Invariants
//! - Every operation stands here once, when its fate is known or known to be unknown: *ok*, *fail* or *info*.
//! - Times rise with what happened: what was told before something else began has a smaller `told_us` than its `begun_us`.
//! - What a run has written down as it went on can be read when the run itself was killed: what had begun then is *info*.
//!
//! [`recorder`] takes it down, [`written`] is its form on disk.

pub mod lock;
mod recorder;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

pub use recorder::{Begun, Recorder};
pub use written::{from_json, to_edn, to_json};

/// What can be done to a system, and be taken down.
pub trait Did: Clone + Debug + Serialize + DeserializeOwned {
    /// What was done to the nodes rather than asked of them.
    fn fault(&self) -> Option<Fault>;

    /// The messages that this is about, for a reader of the history.
    fn names(&self) -> Vec<&str>;
}

/// Something that a nemesis did.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Fault {
    /// `kill`, `pause`, `cut` and the like.
    pub kind: String,
    pub nodes: Vec<String>,
    pub phase: Phase,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// It lasts until an entry of the same kind and nodes ends it.
    Begins,
    Ends,
    /// It has no duration.
    Once,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Acknowledged: it happened.
    Ok,
    /// Refused: it did not happen, and will not.
    Fail,
    /// No answer: it happened once, or not at all.
    Info,
}

/// Where a message is or was.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    pub mailbox: String,
    pub uidvalidity: u32,
    pub uid: u32,
}

/// A message as a reader saw it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub uid: u32,
    pub token: String,
    pub flags: BTreeSet<String>,
    /// Whether its bytes are those that were sent.
    pub intact: bool,
}

/// A mailbox as a reader saw it, with nobody else at work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailboxView {
    pub mailbox: String,
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub modseq: Option<u64>,
    pub messages: Vec<Seen>,
}

/// What was done. A token names one message for ever, wherever it goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "f", content = "value")]
pub enum Op {
    /// By LMTP or APPEND. A delivery tried again is the same operation once more.
    Add {
        token: String,
        mailbox: String,
        placed: Option<Place>,
    },
    Move {
        token: String,
        from: String,
        to: String,
        placed: Option<Place>,
    },
    Expunge {
        token: String,
        mailbox: String,
    },
    Flag {
        token: String,
        flag: String,
        set: bool,
    },
    /// A reader at work among others saw this UID stand for this message.
    Met {
        token: String,
        place: Place,
    },
    /// Every mailbox of the account by IMAP, with nobody else at work.
    Read {
        mailboxes: Vec<MailboxView>,
    },
    /// INBOX by POP3, with nobody else at work: unique ids and the tokens they stand for.
    Popped {
        messages: Vec<(String, String)>,
    },
    /// The counter of a message was raised to this. Only one client raises it, to ever higher values.
    Raise {
        token: String,
        counter: u64,
    },
    /// Counters as one session saw them, among others at work.
    Counters {
        session: u64,
        /// The server said that it may be behind (`locking.md` §8).
        frozen: bool,
        counters: BTreeMap<String, u64>,
    },
    /// A mailbox as one client saw it, among others at work.
    Glance {
        frozen: bool,
        mailbox: String,
        uidvalidity: u32,
        uidnext: u32,
        modseq: Option<u64>,
    },
    /// A POP3 session had the maildrop to itself from here.
    MaildropOpened {
        session: u64,
    },
    /// It still had it when this was answered.
    MaildropAnswered {
        session: u64,
    },
    /// It marked a message as deleted.
    Marked {
        session: u64,
        token: String,
    },
    /// It ended with QUIT: what it had marked is gone.
    Quit {
        session: u64,
    },
    /// `kill -9` of all there is: what was *info* then does not happen any more.
    Kill,
    Nemesis(Fault),
}

impl Did for Op {
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Nemesis(fault) => Some(fault.clone()),
            Self::Kill => {
                Some(Fault { kind: "kill".to_owned(), nodes: vec!["all".to_owned()], phase: Phase::Once })
            }
            Self::Add { .. }
            | Self::Move { .. }
            | Self::Expunge { .. }
            | Self::Flag { .. }
            | Self::Met { .. }
            | Self::Read { .. }
            | Self::Popped { .. }
            | Self::Raise { .. }
            | Self::Counters { .. }
            | Self::Glance { .. }
            | Self::MaildropOpened { .. }
            | Self::MaildropAnswered { .. }
            | Self::Marked { .. }
            | Self::Quit { .. } => None,
        }
    }

    fn names(&self) -> Vec<&str> {
        match self {
            Self::Add { token, .. }
            | Self::Move { token, .. }
            | Self::Expunge { token, .. }
            | Self::Flag { token, .. }
            | Self::Met { token, .. }
            | Self::Raise { token, .. }
            | Self::Marked { token, .. } => vec![token],
            Self::Read { .. }
            | Self::Popped { .. }
            | Self::Counters { .. }
            | Self::Glance { .. }
            | Self::MaildropOpened { .. }
            | Self::MaildropAnswered { .. }
            | Self::Quit { .. }
            | Self::Kill
            | Self::Nemesis(_) => Vec::new(),
        }
    }
}

/// One operation, from its beginning to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<O = Op> {
    pub client: u32,
    /// What it is about: entries about different ones don't depend on each other.
    pub account: usize,
    pub begun_us: u64,
    /// [`NEVER`] when the run ended before.
    pub told_us: u64,
    pub outcome: Outcome,
    pub op: O,
}

/// After everything.
pub const NEVER: u64 = u64::MAX;
