//! What is derived from the entries: who has a tag in a mailbox, who came by the same delivery.

use std::collections::{BTreeMap, BTreeSet};

use super::entry::Entry;
use crate::{DeliveryKey, EntryId, MailboxId};

#[derive(Clone, Debug, Default)]
pub(super) struct Index {
    tagged: BTreeMap<MailboxId, BTreeSet<EntryId>>,
    /// Some entry of each delivery key, and the others where there are any: nearly every key has one.
    first: BTreeMap<DeliveryKey, EntryId>,
    more: BTreeMap<DeliveryKey, Vec<EntryId>>,
}

impl Index {
    pub(super) fn of(entries: &BTreeMap<EntryId, Entry>) -> Self {
        let mut index = Self::default();
        for (id, entry) in entries {
            entry.tags().iter().for_each(|tag| index.add_tag(tag.mailbox, *id));
            index.add_key(entry.header().delivery, *id);
        }
        index
    }

    /// Entries with a live tag in the mailbox, hidden and shadowed ones too.
    pub(super) fn tagged(&self, mailbox: MailboxId) -> impl Iterator<Item = EntryId> {
        self.tagged.get(&mailbox).into_iter().flatten().copied()
    }

    pub(super) fn has_twins(&self, key: DeliveryKey) -> bool {
        self.more.contains_key(&key)
    }

    /// Entries of one delivery key.
    pub(super) fn keyed(&self, key: DeliveryKey) -> impl Iterator<Item = EntryId> {
        self.first.get(&key).into_iter().chain(self.more.get(&key).into_iter().flatten()).copied()
    }

    /// Entries of every delivery key that has several.
    pub(super) fn with_twins(&self) -> impl Iterator<Item = EntryId> {
        self.more.keys().flat_map(|key| self.keyed(*key))
    }

    pub(super) fn add_tag(&mut self, mailbox: MailboxId, entry: EntryId) {
        self.tagged.entry(mailbox).or_default().insert(entry);
    }

    pub(super) fn remove_tag(&mut self, mailbox: MailboxId, entry: EntryId) {
        if let Some(entries) = self.tagged.get_mut(&mailbox) {
            entries.remove(&entry);
            if entries.is_empty() {
                self.tagged.remove(&mailbox);
            }
        }
    }

    pub(super) fn add_key(&mut self, key: Option<DeliveryKey>, entry: EntryId) {
        let Some(key) = key else { return };
        if *self.first.entry(key).or_insert(entry) != entry {
            let more = self.more.entry(key).or_default();
            if !more.contains(&entry) {
                more.push(entry);
            }
        }
    }

    pub(super) fn remove_key(&mut self, key: Option<DeliveryKey>, entry: EntryId) {
        let Some(key) = key else { return };
        let mut more = self.more.remove(&key).unwrap_or_default();
        more.retain(|other| *other != entry);
        if self.first.get(&key) == Some(&entry) {
            match more.pop() {
                Some(other) => self.first.insert(key, other),
                None => self.first.remove(&key),
            };
        }
        if !more.is_empty() {
            self.more.insert(key, more);
        }
    }
}
