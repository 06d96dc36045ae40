//! What the operations of an account join to (`replication.md` §3): one value, whatever order they came in.
//!
//! Invariants
//! - The state is a function of the *set* of operations applied, as long as each came after what it had seen (R-JR3):
//!   equal sets show the same and have equal digests (I7).
//! - Applying is idempotent and total (R-OP1): no record changes the state twice, none makes it panic.
//! - The version vector names exactly the operations that are in here; it is never stored apart (R-JR1, I9).
//! - An entry is placed in one mailbox at most (I2).
//! - `Effects` names everything that may look different afterwards, and costs no more than that.
//!
//! `Facts` are what a checkpoint keeps; `Index` is derived from them and rebuilt on reading.

mod apply;
mod deliveries;
mod digest;
mod entry;
mod forget;
mod index;
mod mailbox;
mod registers;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use entry::{Entry, Place};
pub use mailbox::{ClaimKind, Horizon, Mailbox, NameClaim, STRIPE_0_END};
pub use registers::{Home, ShownScript};

use crate::op::{Generations, Path};
use crate::{
    AccountId, Clock, ContentId, DeliveryKey, Dot, EntryId, Keyword, MailboxId, ReplicaId, SiteId, Stamp,
    SystemFlags, VersionVector,
};
use deliveries::Deliveries;
use entry::Keywords;
use index::Index;
use registers::{Lww, Scripts};

/// Everything that operations say about one account.
#[derive(Clone, Debug)]
pub struct AccountState {
    facts: Facts,
    index: Index,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Facts {
    account: AccountId,
    seen: VersionVector,
    clock: Clock,
    /// Greatest stamp of any record: what "an hour ago" is counted from.
    newest: Stamp,
    keywords: Keywords,
    entries: BTreeMap<EntryId, Entry>,
    /// Tags taken off, until their removal is stable (R-GC1).
    removed: BTreeMap<Dot, Removed>,
    /// Removals that each replica has asked for, ever (R-L3G).
    removed_total: BTreeMap<ReplicaId, u64>,
    mailboxes: BTreeMap<MailboxId, Mailbox>,
    /// Mailboxes that were removed or renamed away from a path; how many is its `gen` (R-ID1).
    left: BTreeMap<Path, BTreeSet<MailboxId>>,
    /// For a tag reported late: the least UID that its reporter could still expose (R-U5).
    late: BTreeMap<(EntryId, Dot), u32>,
    home: Option<Home>,
    subscriptions: BTreeMap<String, Lww<bool>>,
    metadata: BTreeMap<String, Lww<Option<Vec<u8>>>>,
    scripts: Scripts,
    deliveries: Deliveries,
}

/// A tag that was taken off its entry.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Removed {
    entry: EntryId,
    mailbox: MailboxId,
    by: Dot,
}

/// What became of a record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Applied {
    /// Its dot was covered already. Nothing changed.
    Known,
    /// Operations of its replica are missing before it. Nothing changed.
    Gap,
    Done(Effects),
}

/// Everything whose visible state may have changed. Sorted, each named once.
///
/// `mailboxes` names those whose own facts changed. The names *shown* for others can follow, a child's by its parent's
/// or a namesake's by V5: when it is not empty, or `account` is set, the view is to be computed again.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Effects {
    pub entries: Vec<EntryId>,
    pub mailboxes: Vec<MailboxId>,
    /// Home, subscriptions, metadata or scripts.
    pub account: bool,
}

impl AccountState {
    /// An account that no operation has touched. The clock issues stamps of `site`.
    pub fn new(account: AccountId, site: SiteId) -> Self {
        let facts = Facts {
            account,
            seen: VersionVector::default(),
            clock: Clock::new(site),
            newest: Stamp::ZERO,
            keywords: Keywords::default(),
            entries: BTreeMap::new(),
            removed: BTreeMap::new(),
            removed_total: BTreeMap::new(),
            mailboxes: BTreeMap::new(),
            left: BTreeMap::new(),
            late: BTreeMap::new(),
            home: None,
            subscriptions: BTreeMap::new(),
            metadata: BTreeMap::new(),
            scripts: Scripts::default(),
            deliveries: Deliveries::default(),
        };
        Self { facts, index: Index::default() }
    }

    pub fn account(&self) -> AccountId {
        self.facts.account
    }

    /// Which operations are in here.
    pub fn version(&self) -> &VersionVector {
        &self.facts.seen
    }

    pub fn clock(&self) -> &Clock {
        &self.facts.clock
    }

    pub fn clock_mut(&mut self) -> &mut Clock {
        &mut self.facts.clock
    }

    /// Greatest stamp of any record applied.
    pub fn newest_stamp(&self) -> Stamp {
        self.facts.newest
    }

    /// Removals that each replica has asked for, ever (R-L3G).
    pub fn removed_total(&self) -> &BTreeMap<ReplicaId, u64> {
        &self.facts.removed_total
    }
}

/// Entries.
impl AccountState {
    /// The entry, placed or not, until its removal is forgotten.
    pub fn entry(&self, entry: EntryId) -> Option<&Entry> {
        self.facts.entries.get(&entry)
    }

    pub fn entries(&self) -> impl Iterator<Item = (EntryId, &Entry)> {
        self.facts.entries.iter().map(|(id, entry)| (*id, entry))
    }

    /// Where the entry is: its live tag with the greatest (stamp, dot) that no deletion hides (V1, V2).
    pub fn place_of(&self, entry: EntryId) -> Option<Place> {
        self.place(self.facts.entries.get(&entry)?)
    }

    fn place(&self, entry: &Entry) -> Option<Place> {
        let tag = entry
            .tags()
            .iter()
            .filter(|tag| !self.is_hidden(tag.mailbox, tag.dot))
            .max_by_key(|tag| (tag.stamp, tag.dot))?;
        let current = self.facts.mailboxes.get(&tag.mailbox).and_then(Mailbox::uid_validity);
        // A UID under a lower UIDVALIDITY counts as none (R-U10).
        let uid = tag.uid.filter(|(validity, _)| Some(*validity) == current);
        Some(Place { mailbox: tag.mailbox, tag: tag.dot, stamp: tag.stamp, uid })
    }

    fn is_hidden(&self, mailbox: MailboxId, tag: Dot) -> bool {
        self.facts.mailboxes.get(&mailbox).is_some_and(|mailbox| mailbox.hides(tag))
    }

    /// The entry that is shown instead of this one, because both are the same delivery (V7).
    pub fn twin_shown(&self, entry: EntryId) -> Option<EntryId> {
        let this = self.facts.entries.get(&entry)?;
        let key = this.header().delivery?;
        if !self.index.has_twins(key) {
            return None;
        }
        let mailbox = self.place(this)?.mailbox;
        self.index
            .keyed(key)
            .filter_map(|id| Some((id, self.facts.entries.get(&id)?)))
            .filter(|(id, other)| (other.created(), *id) < (this.created(), entry))
            .filter(|(_, other)| other.header().content == this.header().content)
            .filter(|(_, other)| self.place(other).is_some_and(|place| place.mailbox == mailbox))
            .min_by_key(|(id, other)| (other.created(), *id))
            .map(|(id, _)| id)
    }

    /// Entries that V7 keeps from being shown: the home site expunges them once they are stable.
    pub fn hidden_twins(&self) -> Vec<EntryId> {
        self.index.with_twins().filter(|entry| self.twin_shown(*entry).is_some()).collect()
    }

    /// The entries shown in a mailbox (V1, V2, V7), by id. Order by UID is the reader's to make.
    pub fn entries_in(&self, mailbox: MailboxId) -> impl Iterator<Item = (EntryId, &Entry, Place)> {
        self.index.tagged(mailbox).filter_map(move |id| {
            let entry = self.facts.entries.get(&id)?;
            let place = self.place(entry).filter(|place| place.mailbox == mailbox)?;
            self.twin_shown(id).is_none().then_some((id, entry, place))
        })
    }

    /// Whether any entry is placed in the mailbox (V4).
    pub fn has_entries(&self, mailbox: MailboxId) -> bool {
        self.index.tagged(mailbox).any(|id| self.place_of(id).is_some_and(|place| place.mailbox == mailbox))
    }

    pub fn system_flags(&self, entry: EntryId) -> SystemFlags {
        self.facts.entries.get(&entry).map_or(SystemFlags::NONE, Entry::system_flags)
    }

    /// Keywords that are set, sorted, in the case that the account first saw.
    pub fn keywords(&self, entry: EntryId) -> Vec<Keyword> {
        let Some(entry) = self.facts.entries.get(&entry) else { return Vec::new() };
        let mut keywords: Vec<_> =
            entry.keyword_ids().filter_map(|id| self.facts.keywords.get(id)).cloned().collect();
        keywords.sort();
        keywords
    }

    /// Every keyword that the account has ever seen, in the order it came here.
    pub fn known_keywords(&self) -> impl Iterator<Item = &Keyword> {
        self.facts.keywords.iter()
    }

    /// The live tags of an entry: what an operation that moves or removes it must name.
    pub fn observed_tags(&self, entry: EntryId) -> Vec<Dot> {
        let entry = self.facts.entries.get(&entry);
        entry.map_or_else(Vec::new, |entry| entry.tags().iter().map(|tag| tag.dot).collect())
    }

    /// Placed entries whose UID some site cannot expose any more, with their tags (R-U5).
    pub fn late_in(&self, mailbox: MailboxId) -> Vec<(EntryId, Dot)> {
        let unresolved = |entry: EntryId, tag: Dot, least: u32| {
            let place = self.place_of(entry)?;
            let here = place.mailbox == mailbox && place.tag == tag;
            (here && place.uid.is_none_or(|(_, uid)| uid.get() < least)).then_some((entry, tag))
        };
        self.facts.late.iter().filter_map(|((entry, tag), least)| unresolved(*entry, *tag, *least)).collect()
    }

    /// The entry that this delivery made when it was tried before, within the last hour (L-CM2). It may have been
    /// expunged since.
    pub fn delivered(&self, key: DeliveryKey, content: ContentId) -> Option<EntryId> {
        self.facts.deliveries.find(key, content)
    }
}

/// Mailboxes and the account's registers.
impl AccountState {
    /// The mailbox, live or deleted; `None` when no operation has named it.
    pub fn mailbox(&self, mailbox: MailboxId) -> Option<&Mailbox> {
        self.facts.mailboxes.get(&mailbox)
    }

    pub fn mailboxes(&self) -> impl Iterator<Item = (MailboxId, &Mailbox)> {
        self.facts.mailboxes.iter().map(|(id, mailbox)| (*id, mailbox))
    }

    pub fn inbox(&self) -> MailboxId {
        MailboxId::derive(self.facts.account, None, "INBOX", 0)
    }

    /// How many mailboxes were removed or renamed away from this path (R-ID1). INBOX stays at 0 (R-ID2).
    pub fn next_generation(&self, path: &Path) -> u32 {
        if path.parent.is_none() && path.level == "INBOX" {
            return 0;
        }
        self.facts.left.get(path).map_or(0, |left| u32::try_from(left.len()).unwrap_or(u32::MAX))
    }

    /// Every path that was ever left, with its `gen`.
    pub fn generations(&self) -> Generations {
        self.facts.left.keys().map(|path| (path.clone(), self.next_generation(path))).collect()
    }

    /// The id of the mailbox that a CREATE of this path makes now. Another site that has seen the same derives the
    /// same (R-ID1).
    pub fn mailbox_id_for(&self, path: &Path) -> MailboxId {
        let generation = self.next_generation(path);
        MailboxId::derive(self.facts.account, path.parent, &path.level, generation)
    }

    pub fn home(&self) -> Option<Home> {
        self.facts.home
    }

    /// Names subscribed to, whether or not a mailbox has them.
    pub fn subscriptions(&self) -> impl Iterator<Item = &str> {
        self.facts.subscriptions.iter().filter(|(_, on)| *on.get()).map(|(name, _)| name.as_str())
    }

    pub fn is_subscribed(&self, name: &str) -> bool {
        self.facts.subscriptions.get(name).is_some_and(|on| *on.get())
    }

    /// Metadata of the account itself (RFC 5464).
    pub fn metadata(&self) -> impl Iterator<Item = (&str, &[u8])> {
        registers::present(&self.facts.metadata)
    }

    /// Sieve scripts as they are shown, conflict copies included (§7 row 36).
    pub fn scripts(&self) -> Vec<ShownScript> {
        self.facts.scripts.shown()
    }

    /// The name that was activated last. No script need have it: then mail is kept, and an alarm raised (§7 row 38).
    pub fn active_script(&self) -> Option<&str> {
        self.facts.scripts.active()
    }
}

impl Serialize for AccountState {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.facts.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for AccountState {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut facts = Facts::deserialize(deserializer)?;
        facts.deliveries.rebuild();
        let index = Index::of(&facts.entries);
        Ok(Self { facts, index })
    }
}
