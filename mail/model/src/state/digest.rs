//! The digest of a state: equal operation sets give equal digests, at every site and on every day (I7).
//!
//! Left out is what differs between sites that agree: the clock, the case and order of keywords, what waits to be
//! forgotten (removed entries, hidden tags) and the removal counters.

use std::collections::BTreeMap;

use super::AccountState;
use super::entry::Entry;
use super::registers::Lww;
use crate::op::{Header, Path};
use crate::{Dot, EntryId, VersionVector};

/// Feeds values to a hash so that no two different states write the same bytes: fixed widths, lengths before
/// what varies.
pub(super) struct Canon(blake3::Hasher);

impl Canon {
    pub(super) fn number(&mut self, number: u64) -> &mut Self {
        self.0.update(&number.to_le_bytes());
        self
    }

    pub(super) fn count(&mut self, count: usize) -> &mut Self {
        self.number(count as u64)
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.count(bytes.len());
        self.0.update(bytes);
        self
    }

    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.bytes(text.as_bytes())
    }

    pub(super) fn optional(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        self.count(usize::from(bytes.is_some())).bytes(bytes.unwrap_or_default())
    }

    pub(super) fn dot(&mut self, dot: Dot) -> &mut Self {
        self.number(dot.pack())
    }

    /// As a set.
    pub(super) fn dots(&mut self, dots: &[Dot]) -> &mut Self {
        let mut sorted = dots.to_vec();
        sorted.sort();
        sorted.dedup();
        sorted.iter().fold(self.count(sorted.len()), |canon, dot| canon.dot(*dot))
    }

    pub(super) fn version(&mut self, version: &VersionVector) -> &mut Self {
        self.count(version.iter().count());
        for (rid, head) in version.iter() {
            self.number(u64::from(rid.site().slot())).number(u64::from(rid.incarnation()));
            self.number(head.seq).number(head.chain);
        }
        self
    }

    pub(super) fn path(&mut self, path: &Path) -> &mut Self {
        self.optional(path.parent.as_ref().map(|parent| parent.as_bytes().as_slice())).text(&path.level)
    }

    pub(super) fn metadata(&mut self, map: &BTreeMap<String, Lww<Option<Vec<u8>>>>) -> &mut Self {
        self.count(map.len());
        for (key, value) in map {
            self.text(key).number(value.stamp().get()).optional(value.get().as_deref());
        }
        self
    }

    fn header(&mut self, header: &Header) -> &mut Self {
        self.bytes(header.message.as_bytes()).bytes(header.content.as_bytes());
        self.number(header.size).number(header.wire_size);
        self.number(header.internal_date.cast_unsigned()).number(header.save_date.cast_unsigned());
        self.text(&header.base);
        self.count(usize::from(header.delivery.is_some())).number(header.delivery.map_or(0, |key| key.0));
        self.optional(header.uidl.as_ref().map(|uidl| uidl.as_bytes()))
    }
}

impl AccountState {
    /// The canonical digest. Walks the whole account.
    pub fn digest(&self) -> [u8; 32] {
        let facts = &self.facts;
        let mut canon = Canon(blake3::Hasher::new_derive_key("roost 2026 account state digest"));
        canon.bytes(facts.account.as_bytes()).version(&facts.seen).number(facts.newest.get());
        for (id, entry) in &facts.entries {
            self.digest_entry(*id, entry, &mut canon);
        }
        // Ends the entries, each of which begins with a 1.
        canon.number(0).count(facts.mailboxes.len());
        for (id, mailbox) in &facts.mailboxes {
            canon.bytes(id.as_bytes());
            mailbox.digest_into(&mut canon);
        }
        canon.count(facts.left.len());
        for (path, left) in &facts.left {
            canon.path(path).count(left.len());
            left.iter().for_each(|mailbox| _ = canon.bytes(mailbox.as_bytes()));
        }
        canon.count(usize::from(facts.home.is_some()));
        if let Some(home) = facts.home {
            canon.number(home.epoch).number(u64::from(home.site.slot()));
            canon.number(home.lineage.0).number(u64::from(home.lineage.1.slot()));
        }
        canon.count(facts.subscriptions.len());
        for (name, on) in &facts.subscriptions {
            canon.text(name).number(on.stamp().get()).number(u64::from(*on.get()));
        }
        canon.metadata(&facts.metadata);
        facts.scripts.digest_into(&mut canon);
        facts.deliveries.digest_into(&mut canon);
        *canon.0.finalize().as_bytes()
    }

    /// An entry counts as long as a tag of it is neither taken off nor hidden.
    fn digest_entry(&self, id: EntryId, entry: &Entry, canon: &mut Canon) {
        let shown = entry.tags().iter().filter(|tag| !self.is_hidden(tag.mailbox, tag.dot));
        let mut tags: Vec<_> = shown.collect();
        if tags.is_empty() {
            return;
        }
        tags.sort_by_key(|tag| tag.dot);
        canon
            .number(1)
            .bytes(id.as_bytes())
            .header(entry.header())
            .number(entry.created().get())
            .count(tags.len());
        for tag in tags {
            canon.dot(tag.dot).bytes(tag.mailbox.as_bytes()).number(tag.stamp.get());
            let (validity, uid) = tag.uid.map_or((0, 0), |(validity, uid)| (validity.get(), uid.get()));
            canon.number(u64::from(validity)).number(u64::from(uid));
            canon.number(u64::from(self.facts.late.get(&(id, tag.dot)).copied().unwrap_or(0)));
        }
        let mut flags: Vec<_> = entry.flags().iter().map(|flag| (self.flag_name(flag.id), flag)).collect();
        flags.sort_by(|(a, _), (b, _)| a.cmp(b));
        canon.count(flags.len());
        for (name, flag) in flags {
            canon.text(&name).number(u64::from(flag.on)).number(flag.stamp.get());
        }
    }

    /// Lower-cased: two sites may have met another case first.
    fn flag_name(&self, id: super::entry::FlagId) -> String {
        let system = id.system().map(crate::SystemFlag::as_str);
        let name = system.or_else(|| self.facts.keywords.get(id).map(crate::Keyword::as_str));
        name.unwrap_or_default().to_ascii_lowercase()
    }
}
