//! An immutable state for readers: what one moment of the account looks like.
//!
//! Invariants
//! - A snapshot shares whatever did not change with the one before it: making one costs what the change touched, and
//!   comparing two skips what they share ([`MailboxView::changes_since`]).
//! - Messages of a mailbox ascend by UID; a message's sequence number is its rank (RFC 3501 §2.3.1.2).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use model::{
    AccountId, ContentId, EntryId, Keyword, MailboxId, MailboxName, MessageId, ModSeq, SpecialUse,
    SystemFlag, SystemFlags, Uid, UidValidity,
};

/// One moment of an account.
#[derive(Debug)]
pub struct Snapshot {
    pub account: AccountId,
    /// Records applied.
    pub lsn: u64,
    /// By name: INBOX and all that a client may see, parents without a mailbox included.
    pub mailboxes: BTreeMap<MailboxName, MailboxEntry>,
    /// Subscribed names, of mailboxes that need not exist.
    pub subscriptions: Arc<std::collections::BTreeSet<MailboxName>>,
    /// Octets of all visible messages.
    pub used_bytes: u64,
    pub messages: u64,
}

impl Snapshot {
    /// Before anything.
    pub(crate) fn empty(account: AccountId) -> Arc<Self> {
        Arc::new(Self {
            account,
            lsn: 0,
            mailboxes: BTreeMap::new(),
            subscriptions: Arc::default(),
            used_bytes: 0,
            messages: 0,
        })
    }

    pub fn by_name(&self, name: &MailboxName) -> Option<&MailboxEntry> {
        self.mailboxes.get(name)
    }

    /// The mailbox of this id, under whatever name it has now.
    pub fn by_id(&self, id: MailboxId) -> Option<(&MailboxName, &MailboxEntry)> {
        self.mailboxes.iter().find(|(_, entry)| entry.view.as_ref().is_some_and(|view| view.id == id))
    }

    pub fn is_subscribed(&self, name: &MailboxName) -> bool {
        self.subscriptions.contains(name)
    }
}

/// A name in the hierarchy.
#[derive(Clone, Debug)]
pub struct MailboxEntry {
    /// `None`: a parent that is no mailbox itself (`\NonExistent`).
    pub view: Option<Arc<MailboxView>>,
    pub special_use: Option<SpecialUse>,
}

/// Messages of one chunk at most; a change copies one chunk.
pub const CHUNK_MESSAGES_MAX: usize = 256;

/// One mailbox at one moment.
#[derive(Clone, Debug)]
pub struct MailboxView {
    pub id: MailboxId,
    pub uid_validity: UidValidity,
    pub uid_next: Uid,
    pub highest_modseq: ModSeq,
    pub unseen: u32,
    pub size_bytes: u64,
    /// Greatest UID that some session has been told is `\Recent`; shared by all snapshots of the mailbox.
    pub recent: Arc<AtomicU32>,
    pub(crate) messages: Messages,
    pub(crate) vanished: Vanished,
}

/// Messages in chunks of at most [`CHUNK_MESSAGES_MAX`], ascending by UID. No chunk is empty.
#[derive(Clone, Debug, Default)]
pub struct Messages {
    pub(crate) chunks: Vec<Arc<[MessageView]>>,
    /// Rank of each chunk's first message.
    pub(crate) ranks: Vec<u32>,
    pub(crate) count: u32,
}

/// UIDs that were expunged, with the modseq of each expunge, ascending by modseq (RFC 7162 §3.2.10).
#[derive(Clone, Debug, Default)]
pub struct Vanished {
    /// What was expunged at or before this is no longer known one by one.
    pub(crate) forgotten_to: ModSeq,
    pub(crate) chunks: Vec<Arc<Vec<(ModSeq, Uid)>>>,
}

/// One message as a reader sees it.
#[derive(Clone, Debug)]
pub struct MessageView {
    pub uid: Uid,
    pub flags: SystemFlags,
    /// Sorted; `None` is "no keyword" without an allocation.
    pub keywords: Option<Arc<[Keyword]>>,
    pub modseq: ModSeq,
    /// UNIX seconds.
    pub internal_date: i64,
    pub save_date: i64,
    /// RFC822.SIZE: octets with every line end as CRLF.
    pub wire_size: u64,
    /// Octets stored.
    pub size: u64,
    pub entry: EntryId,
    pub message: MessageId,
    pub content: ContentId,
    /// The store's name for the bytes.
    pub base: Arc<str>,
    /// POP3 UIDL kept from a former server.
    pub uidl: Option<Arc<str>>,
}

impl MailboxView {
    pub fn len(&self) -> u32 {
        self.messages.count
    }

    pub fn is_empty(&self) -> bool {
        self.messages.count == 0
    }

    /// The message at this rank, counted from 0 (sequence number less one).
    pub fn get(&self, rank: u32) -> Option<&MessageView> {
        let chunk = self.messages.ranks.partition_point(|first| *first <= rank).checked_sub(1)?;
        let within = usize::try_from(rank - self.messages.ranks[chunk]).ok()?;
        self.messages.chunks[chunk].get(within)
    }

    /// Rank of the message with this UID, or of the first with a greater one.
    pub fn rank_of(&self, uid: Uid) -> Result<u32, u32> {
        let chunks = &self.messages.chunks;
        let chunk = chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last.uid < uid));
        let Some(messages) = chunks.get(chunk) else { return Err(self.messages.count) };
        let first = self.messages.ranks[chunk];
        match messages.binary_search_by_key(&uid, |message| message.uid) {
            Ok(within) => Ok(first + within as u32),
            Err(within) => Err(first + within as u32),
        }
    }

    pub fn by_uid(&self, uid: Uid) -> Option<&MessageView> {
        self.rank_of(uid).ok().and_then(|rank| self.get(rank))
    }

    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &MessageView> {
        self.messages.chunks.iter().flat_map(|chunk| chunk.iter())
    }

    /// Messages from this rank on.
    pub fn iter_from(&self, rank: u32) -> impl Iterator<Item = &MessageView> {
        let chunk = self.messages.ranks.partition_point(|first| *first <= rank).saturating_sub(1);
        let skip = self.messages.ranks.get(chunk).map_or(0, |first| rank.saturating_sub(*first));
        self.messages
            .chunks
            .get(chunk..)
            .unwrap_or_default()
            .iter()
            .flat_map(|chunk| chunk.iter())
            .skip(skip as usize)
    }

    /// Claims all messages up to now as `\Recent` for the caller: those above the returned UID are its own, and no
    /// other session's.
    pub fn claim_recent(&self) -> u32 {
        self.recent.fetch_max(self.uid_next.get() - 1, Ordering::AcqRel)
    }

    /// UIDs expunged after `modseq`, in no order; `None` if that is no longer known one by one.
    pub fn vanished_since(&self, modseq: ModSeq) -> Option<Vec<Uid>> {
        if modseq < self.vanished.forgotten_to {
            return None;
        }
        let mut uids = Vec::new();
        for chunk in self.vanished.chunks.iter().rev() {
            let after = chunk.partition_point(|(at, _)| *at <= modseq);
            uids.extend(chunk[after..].iter().map(|(_, uid)| *uid));
            if after > 0 {
                break;
            }
        }
        Some(uids)
    }

    /// What differs from an older view of the same mailbox and UIDVALIDITY. Costs what changed, plus a comparison of
    /// pointers for each chunk.
    pub fn changes_since(&self, old: &Self) -> Changes {
        let mut changes = Changes::default();
        let (old_chunks, new_chunks) = (&old.messages.chunks, &self.messages.chunks);
        let shared = |(a, b): &(&Arc<[MessageView]>, &Arc<[MessageView]>)| Arc::ptr_eq(a, b);
        let same_front = old_chunks.iter().zip(new_chunks).take_while(shared).count();
        let room = old_chunks.len().min(new_chunks.len()) - same_front;
        let same_back =
            old_chunks.iter().rev().zip(new_chunks.iter().rev()).take(room).take_while(shared).count();
        let mut before =
            old_chunks[same_front..old_chunks.len() - same_back].iter().flat_map(|c| c.iter()).peekable();
        let mut after =
            new_chunks[same_front..new_chunks.len() - same_back].iter().flat_map(|c| c.iter()).peekable();
        loop {
            match (before.peek(), after.peek()) {
                (None, None) => return changes,
                (Some(was), Some(is)) if was.uid == is.uid => {
                    if was.modseq != is.modseq || was.flags != is.flags || was.keywords != is.keywords {
                        changes.changed.push(is.uid);
                    }
                    before.next();
                    after.next();
                }
                (Some(was), is) if is.is_none_or(|is| was.uid < is.uid) => {
                    changes.expunged.push(was.uid);
                    before.next();
                }
                (_, Some(is)) => {
                    changes.added.push(is.uid);
                    after.next();
                }
                (Some(_), None) => unreachable!("the arm above takes what only the old view has"),
            }
        }
    }
}

/// UIDs, each list ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub expunged: Vec<Uid>,
    pub added: Vec<Uid>,
    pub changed: Vec<Uid>,
}

impl MailboxView {
    /// A view of these messages, ascending by UID, that no account stands behind: what tests of readers read.
    pub fn from_messages(id: MailboxId, uid_validity: UidValidity, messages: Vec<MessageView>) -> Self {
        let last = messages.last();
        let mut view = Self {
            id,
            uid_validity,
            uid_next: last.and_then(|message| message.uid.next()).unwrap_or(Uid::FIRST),
            highest_modseq: messages.iter().map(|message| message.modseq).max().unwrap_or_default(),
            unseen: messages.iter().filter(|message| !message.flags.contains(SystemFlag::Seen)).count()
                as u32,
            size_bytes: messages.iter().map(|message| message.size).sum(),
            recent: Arc::default(),
            messages: Messages::default(),
            vanished: Vanished::default(),
        };
        for chunk in messages.chunks(CHUNK_MESSAGES_MAX) {
            view.messages.ranks.push(view.messages.count);
            view.messages.count += chunk.len() as u32;
            view.messages.chunks.push(chunk.into());
        }
        view
    }

    /// An earlier state of this mailbox that somebody knows: these messages, ascending by UID, up to this mod-sequence.
    pub fn as_known(&self, uid_next: Uid, highest_modseq: ModSeq, messages: Vec<MessageView>) -> Self {
        let known = Self::from_messages(self.id, self.uid_validity, messages);
        let (recent, vanished) = (Arc::clone(&self.recent), self.vanished.clone());
        Self { uid_next, highest_modseq, recent, vanished, ..known }
    }

    /// The same view with these expunges behind it, ascending by modseq; what was at or before `forgotten_to` is not
    /// known one by one.
    pub fn with_vanished(mut self, forgotten_to: ModSeq, known: Vec<(ModSeq, Uid)>) -> Self {
        self.vanished = Vanished { forgotten_to, chunks: vec![Arc::new(known)] };
        self
    }
}
