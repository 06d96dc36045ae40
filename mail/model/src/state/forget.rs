//! Forgetting what is gone for good (R-GC1). Nothing visible changes, nor does the digest.

use std::collections::BTreeSet;

use super::{AccountState, Mailbox};
use crate::{EntryId, MailboxId, VersionVector};

impl AccountState {
    /// Drops the metadata of entries whose removal is stable, and returns their ids.
    ///
    /// `stable` covers only operations that every member has applied, and we everything that any member issued before
    /// it had applied them: nothing that arrives later is concurrent with one of them. A single site passes its own
    /// version.
    pub fn forget_removed(&mut self, stable: &VersionVector) -> Vec<EntryId> {
        let mut touched = self.drop_hidden_tags(stable);
        self.facts.removed.retain(|_, removed| {
            let keep = !stable.covers(removed.by);
            if !keep {
                touched.insert(removed.entry);
            }
            keep
        });
        if touched.is_empty() {
            return Vec::new();
        }
        let pending: BTreeSet<_> = self.facts.removed.values().map(|removed| removed.entry).collect();
        touched.retain(|id| {
            !pending.contains(id) && self.facts.entries.get(id).is_some_and(|entry| entry.tags().is_empty())
        });
        for id in &touched {
            if let Some(entry) = self.facts.entries.remove(id) {
                self.index.remove_key(entry.header().delivery, *id);
            }
        }
        touched.into_iter().collect()
    }

    /// Takes off the tags that a stable deletion of their mailbox hides, and returns the entries that had them.
    fn drop_hidden_tags(&mut self, stable: &VersionVector) -> BTreeSet<EntryId> {
        let mut hidden = Vec::new();
        let gone_for_good =
            |mailbox: &Mailbox| mailbox.deletes_in_force().iter().any(|delete| stable.covers(*delete));
        for (id, mailbox) in self.facts.mailboxes.iter().filter(|(_, mailbox)| gone_for_good(mailbox)) {
            for entry in self.index.tagged(*id) {
                let tags = self.facts.entries.get(&entry).into_iter().flat_map(|entry| entry.tags());
                let gone =
                    |tag: &&super::entry::Tag| tag.mailbox == *id && mailbox.hides_for_good(tag.dot, stable);
                hidden.extend(tags.filter(gone).map(|tag| (entry, tag.dot, *id)));
            }
        }
        hidden.iter().for_each(|(entry, dot, mailbox)| self.drop_tag(*entry, *dot, *mailbox));
        hidden.into_iter().map(|(entry, _, _)| entry).collect()
    }

    /// Takes a tag off its entry and out of the index.
    pub(super) fn drop_tag(&mut self, id: EntryId, dot: crate::Dot, mailbox: MailboxId) {
        let Some(entry) = self.facts.entries.get_mut(&id) else { return };
        if entry.remove_tag(dot).is_some() && !entry.has_tag_in(mailbox) {
            self.index.remove_tag(mailbox, id);
        }
        self.facts.late.remove(&(id, dot));
    }
}
