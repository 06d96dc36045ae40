//! Every way in which an account can change (`replication.md` §4), and the record that carries one.
//!
//! Invariants
//! - A payload holds what the issuer *observed*, so that a receiver needs nothing but its own state to join it.
//! - `STORE FLAGS (...)` never travels: it is turned into set and clear against the state that the command saw.
//! - Variants are only ever appended: their order is their number on disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::{
    ContentId, DeliveryKey, Dot, EntryId, Epoch, Flag, MailboxId, MessageId, ModSeq, SiteId, SpecialUse,
    Stamp, Uid, UidValidity, VersionVector,
};

/// A UID together with the UIDVALIDITY that it counts under.
pub type NumberedUid = (UidValidity, Uid);

/// Immutable facts of one message (`replication.md` §3, Entry header).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub message: MessageId,
    pub content: ContentId,
    /// Octets stored.
    pub size: u64,
    /// Octets as IMAP and POP3 show them: every line end is CRLF.
    pub wire_size: u64,
    /// UNIX seconds.
    pub internal_date: i64,
    /// UNIX seconds at which it came into its first mailbox here.
    pub save_date: i64,
    /// The store's own name for the bytes: for Maildir the base name, sizes included.
    pub base: Arc<str>,
    pub delivery: Option<DeliveryKey>,
    /// POP3 UIDL that clients have seen for it before it came to us.
    pub uidl: Option<Arc<str>>,
}

/// A message put into a mailbox.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Append {
    pub entry: EntryId,
    pub mailbox: MailboxId,
    pub header: Header,
    pub flags: Vec<Flag>,
    pub uid: Option<NumberedUid>,
}

/// What happened. The dot that names it stands in the [`Record`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Op {
    Append(Append),
    /// An append whose bytes are those of `source`.
    Copy {
        source: EntryId,
        append: Append,
    },
    Move {
        entry: EntryId,
        observed: Vec<Dot>,
        to: MailboxId,
        uid: Option<NumberedUid>,
    },
    Expunge {
        entries: Vec<(EntryId, Vec<Dot>)>,
    },
    Flags {
        entries: Vec<EntryId>,
        set: Vec<Flag>,
        clear: Vec<Flag>,
    },
    /// Numbers a tag (the dot that placed the entry).
    AssignUid {
        uids: Vec<(EntryId, Dot, NumberedUid)>,
    },
    UidLate {
        mailbox: MailboxId,
        tags: Vec<(EntryId, Dot)>,
        exposed_next: u32,
    },
    Horizon {
        mailbox: MailboxId,
        uid_validity: UidValidity,
        horizon: u32,
        lineage: (u64, SiteId),
    },
    MailboxCreate(Claim),
    MailboxRename(Claim),
    MailboxUndelete(Claim),
    /// `context` is the issuer's version vector: what the deletion saw.
    MailboxDelete {
        mailbox: MailboxId,
        observed: Vec<Dot>,
        context: VersionVector,
        gone: Path,
    },
    Subscribe {
        name: String,
        on: bool,
    },
    /// `None` removes. Account metadata has no mailbox.
    Metadata {
        mailbox: Option<MailboxId>,
        key: String,
        value: Option<Vec<u8>>,
    },
    SpecialUse {
        mailbox: MailboxId,
        purpose: Option<SpecialUse>,
    },
    Acl {
        mailbox: MailboxId,
        identifier: String,
        rights: Option<String>,
        observed: Vec<Dot>,
    },
    ScriptPut {
        name: String,
        text: Vec<u8>,
        observed: Option<Stamp>,
    },
    ScriptDelete {
        name: String,
        observed: Option<Stamp>,
    },
    ScriptActivate {
        name: Option<String>,
    },
    Home {
        site: SiteId,
        home_epoch: u64,
        lineage: (u64, SiteId),
    },
}

/// One hierarchy level below a parent; `parent` is `None` at the top.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Path {
    pub parent: Option<MailboxId>,
    /// NFC.
    pub level: String,
}

/// A mailbox claims a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    pub mailbox: MailboxId,
    pub path: Path,
    /// The path that a rename left, whose `gen` counter rises (R-ID1).
    pub left: Option<Path>,
    /// Live tags of the mailbox that this one replaces.
    pub observed: Vec<Dot>,
    /// Deletions of the mailbox that the issuer had seen (V2).
    pub seen_deletes: Vec<Dot>,
    pub uid_validity: UidValidity,
    pub special_use: Option<SpecialUse>,
}

/// One operation as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub dot: Dot,
    pub stamp: Stamp,
    /// The modseq at which it became visible at this site. For own operations the stamp.
    pub modseq: ModSeq,
    pub op: Op,
}

/// Where a record stands in the journal of this site. Orders records of one account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// Log sequence number: records of this account before it, and it.
    pub lsn: u64,
}

/// Digest of an operation for the chain hash of its replica (R-JR6): everything that travels, nothing local.
pub fn digest(dot: Dot, stamp: Stamp, encoded_op: &[u8]) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&dot.pack().to_le_bytes()).update(&stamp.get().to_le_bytes()).update(encoded_op);
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// Counter of removals from each path, by which a re-created mailbox gets another id (R-ID1).
pub type Generations = BTreeMap<Path, u32>;

/// Epoch and position together: what `roost journal show --from` takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EpochPosition {
    pub epoch: Epoch,
    pub position: Position,
}
