//! What each operation does to the state (`replication.md` §4). The issuer goes through here like every receiver
//! (R-OP2).

use std::collections::BTreeSet;

use super::entry::{Entry, Tag};
use super::{AccountState, Applied, ClaimKind, Effects, Facts, Home, Horizon, Mailbox, Removed, registers};
use crate::op::{Append, Claim, NumberedUid, Path};
use crate::{Dot, EntryId, Flag, MailboxId, Op, Record, Stamp, VersionVector};

/// Who says it, and when.
#[derive(Clone, Copy)]
struct By {
    dot: Dot,
    stamp: Stamp,
}

impl AccountState {
    /// Takes in one operation. `digest` is that of its content ([`crate::op::digest`]), for the chain hash (R-JR6).
    pub fn apply(&mut self, record: &Record, digest: u64) -> Applied {
        if self.facts.seen.covers(record.dot) {
            return Applied::Known;
        }
        if !self.facts.seen.advance(record.dot, digest) {
            return Applied::Gap;
        }
        self.facts.clock.observe(record.stamp);
        self.facts.newest = self.facts.newest.max(record.stamp);
        let mut effects = Effects::default();
        self.join(&record.op, By { dot: record.dot, stamp: record.stamp }, &mut effects);
        self.facts.deliveries.prune(self.facts.newest);
        effects.entries.sort();
        effects.entries.dedup();
        effects.mailboxes.sort();
        effects.mailboxes.dedup();
        Applied::Done(effects)
    }

    fn join(&mut self, op: &Op, by: By, effects: &mut Effects) {
        match op {
            Op::Append(append) => self.append(append, true, by, effects),
            Op::Copy { source: _, append } => self.append(append, false, by, effects),
            Op::Move { entry, observed, to, uid } => {
                self.move_entry(*entry, observed, *to, *uid, by, effects)
            }
            Op::Expunge { entries } => self.expunge(entries, by, effects),
            Op::Flags { entries, set, clear } => self.set_flags(entries, set, clear, by, effects),
            Op::AssignUid { uids } => self.assign(uids, effects),
            Op::UidLate { mailbox, tags, exposed_next } => self.report_late(*mailbox, tags, *exposed_next),
            Op::Horizon { mailbox, uid_validity, horizon, lineage } => {
                let (uid_validity, lineage, horizon) = (*uid_validity, *lineage, *horizon);
                let horizon = Horizon { uid_validity, lineage, horizon, dot: by.dot };
                self.mailbox_changed(*mailbox, effects).join_horizon(horizon);
            }
            Op::MailboxCreate(claim) => self.claim(ClaimKind::Create, claim, by, effects),
            Op::MailboxRename(claim) => self.claim(ClaimKind::Rename, claim, by, effects),
            Op::MailboxUndelete(claim) => self.claim(ClaimKind::Undelete, claim, by, effects),
            Op::MailboxDelete { mailbox, observed, context, gone } => {
                self.delete_mailbox(*mailbox, observed, context, gone, by, effects);
            }
            Op::Metadata { mailbox: Some(mailbox), key, value } => {
                self.mailbox_changed(*mailbox, effects).join_metadata(key, value.clone(), by.stamp);
            }
            Op::SpecialUse { mailbox, purpose } => {
                self.mailbox_changed(*mailbox, effects).join_special_use(*purpose, by.stamp);
            }
            Op::Acl { mailbox, identifier, rights, observed } => {
                let mailbox = self.mailbox_changed(*mailbox, effects);
                mailbox.join_acl(identifier, rights.as_deref(), observed, by.dot);
            }
            Op::Subscribe { name, on } => {
                registers::join_key(&mut self.account_changed(effects).subscriptions, name, *on, by.stamp);
            }
            Op::Metadata { mailbox: None, key, value } => {
                let metadata = &mut self.account_changed(effects).metadata;
                registers::join_key(metadata, key, value.clone(), by.stamp);
            }
            Op::ScriptPut { name, text, observed } => {
                self.account_changed(effects).scripts.put(name, text, *observed, by.stamp);
            }
            Op::ScriptDelete { name, observed } => {
                self.account_changed(effects).scripts.delete(name, *observed);
            }
            Op::ScriptActivate { name } => {
                self.account_changed(effects).scripts.activate(name.clone(), by.stamp);
            }
            Op::Home { site, home_epoch, lineage } => {
                let home = Home { epoch: *home_epoch, site: *site, lineage: *lineage };
                let facts = self.account_changed(effects);
                facts.home = facts.home.max(Some(home));
            }
        }
    }

    fn account_changed(&mut self, effects: &mut Effects) -> &mut Facts {
        effects.account = true;
        &mut self.facts
    }

    fn mailbox_changed(&mut self, id: MailboxId, effects: &mut Effects) -> &mut Mailbox {
        effects.mailboxes.push(id);
        self.facts.mailboxes.entry(id).or_default()
    }
}

/// Entries.
impl AccountState {
    /// A copy is no delivery: it would be hidden as one tried twice (V7).
    fn append(&mut self, append: &Append, is_delivery: bool, by: By, effects: &mut Effects) {
        let mut header = append.header.clone();
        header.delivery = header.delivery.filter(|_| is_delivery);
        self.touch(append.entry, effects);
        let entry =
            self.facts.entries.entry(append.entry).or_insert_with(|| Entry::new(&header, by.stamp, by.dot));
        let key_before = entry.header().delivery;
        entry.join_header(&header, by.stamp, by.dot);
        for flag in &append.flags {
            entry.join_flag(self.facts.keywords.number(flag), true, by.stamp);
        }
        let key_after = entry.header().delivery;
        self.index.remove_key(key_before.filter(|_| key_before != key_after), append.entry);
        self.index.add_key(key_after, append.entry);
        if let Some(key) = header.delivery {
            self.facts.deliveries.add(key, header.content, by.stamp, append.entry);
        }
        self.place_in(append.entry, append.mailbox, append.uid, by);
        self.touch(append.entry, effects);
    }

    fn move_entry(
        &mut self,
        entry: EntryId,
        observed: &[Dot],
        to: MailboxId,
        uid: Option<NumberedUid>,
        by: By,
        effects: &mut Effects,
    ) {
        self.touch(entry, effects);
        self.take_off(entry, observed, by.dot);
        self.place_in(entry, to, uid, by);
        self.touch(entry, effects);
    }

    fn expunge(&mut self, entries: &[(EntryId, Vec<Dot>)], by: By, effects: &mut Effects) {
        for (entry, observed) in entries {
            self.touch(*entry, effects);
            self.take_off(*entry, observed, by.dot);
        }
        self.count_removed(by, entries.len());
    }

    fn set_flags(
        &mut self,
        entries: &[EntryId],
        set: &[Flag],
        clear: &[Flag],
        by: By,
        effects: &mut Effects,
    ) {
        let mut changes: Vec<_> = set.iter().map(|flag| (self.facts.keywords.number(flag), true)).collect();
        changes.extend(clear.iter().map(|flag| (self.facts.keywords.number(flag), false)));
        for id in entries {
            let Some(entry) = self.facts.entries.get_mut(id) else { continue };
            let mut changed = false;
            for (flag, on) in &changes {
                changed |= entry.join_flag(*flag, *on, by.stamp);
            }
            if changed {
                effects.entries.push(*id);
            }
        }
    }

    fn assign(&mut self, uids: &[(EntryId, Dot, NumberedUid)], effects: &mut Effects) {
        for (id, tag, uid) in uids {
            let live = self.facts.entries.get_mut(id).and_then(|entry| entry.join_uid(*tag, *uid));
            if live.is_some() {
                effects.entries.push(*id);
            }
            // The tag may be gone here already; its UID is used all the same (R-U0, R-U7).
            let mailbox = live.or_else(|| self.facts.removed.get(tag).map(|removed| removed.mailbox));
            if let Some(mailbox) = mailbox {
                self.facts.mailboxes.entry(mailbox).or_default().note_uid(*uid);
            }
        }
    }

    fn report_late(&mut self, mailbox: MailboxId, tags: &[(EntryId, Dot)], exposed_next: u32) {
        self.facts.mailboxes.entry(mailbox).or_default().note_exposed(exposed_next);
        for (id, dot) in tags {
            let entry = self.facts.entries.get(id);
            if entry.is_some_and(|entry| entry.tags().iter().any(|tag| tag.dot == *dot)) {
                let least = self.facts.late.entry((*id, *dot)).or_default();
                *least = exposed_next.max(*least);
            }
        }
    }

    /// Adds the operation's own tag. An entry that nobody knows cannot be placed, but its UID is used (R-OP1, R-U0).
    fn place_in(&mut self, id: EntryId, mailbox: MailboxId, uid: Option<NumberedUid>, by: By) {
        let known = self.facts.mailboxes.entry(mailbox).or_default();
        uid.into_iter().for_each(|uid| known.note_uid(uid));
        if let Some(entry) = self.facts.entries.get_mut(&id) {
            entry.add_tag(Tag { dot: by.dot, mailbox, stamp: by.stamp, uid });
            self.index.add_tag(mailbox, id);
        }
    }

    /// Removes the tags that the issuer had seen, and no others.
    fn take_off(&mut self, id: EntryId, observed: &[Dot], by: Dot) {
        let Some(entry) = self.facts.entries.get(&id) else { return };
        let seen: Vec<_> = entry.tags().iter().filter(|tag| observed.contains(&tag.dot)).copied().collect();
        for tag in seen {
            self.drop_tag(id, tag.dot, tag.mailbox);
            self.facts.removed.insert(tag.dot, Removed { entry: id, mailbox: tag.mailbox, by });
        }
    }

    /// Notes what a change to an entry's tags may show: the entry, others of the same delivery (V7), and mailboxes that
    /// are there only because entries are (V4). Called before the change and after it.
    fn touch(&self, id: EntryId, effects: &mut Effects) {
        let Some(entry) = self.facts.entries.get(&id) else { return };
        effects.entries.push(id);
        if let Some(key) = entry.header().delivery.filter(|key| self.index.has_twins(*key)) {
            effects.entries.extend(self.index.keyed(key));
        }
        let unclaimed =
            |mailbox: &MailboxId| !self.facts.mailboxes.get(mailbox).is_some_and(Mailbox::is_live);
        effects.mailboxes.extend(entry.tags().iter().map(|tag| tag.mailbox).filter(unclaimed));
    }

    fn count_removed(&mut self, by: By, count: usize) {
        let total = self.facts.removed_total.entry(by.dot.rid()).or_default();
        *total = total.saturating_add(count as u64);
    }
}

/// Mailboxes.
impl AccountState {
    fn claim(&mut self, kind: ClaimKind, claim: &Claim, by: By, effects: &mut Effects) {
        let mailbox = self.mailbox_changed(claim.mailbox, effects);
        let (deletes, uid_validity) = (mailbox.deletes_in_force(), mailbox.uid_validity());
        mailbox.join_claim(kind, claim, by.dot, by.stamp);
        let renumbered = mailbox.uid_validity() != uid_validity;
        if let Some(left) = &claim.left {
            self.facts.left.entry(left.clone()).or_default().insert(claim.mailbox);
        }
        if renumbered {
            effects.entries.extend(self.index.tagged(claim.mailbox));
        }
        self.touch_hidden(claim.mailbox, &deletes, effects);
    }

    fn delete_mailbox(
        &mut self,
        id: MailboxId,
        observed: &[Dot],
        context: &VersionVector,
        gone: &Path,
        by: By,
        effects: &mut Effects,
    ) {
        let mailbox = self.mailbox_changed(id, effects);
        let before = mailbox.deletes_in_force();
        mailbox.join_delete(observed, context, by.dot);
        self.facts.left.entry(gone.clone()).or_default().insert(id);
        let hidden = self.touch_hidden(id, &before, effects);
        self.count_removed(by, hidden);
    }

    /// Notes the entries that deletions hide or show now, which they did not before. Returns how many.
    fn touch_hidden(&self, id: MailboxId, before: &[Dot], effects: &mut Effects) -> usize {
        let Some(mailbox) = self.facts.mailboxes.get(&id) else { return 0 };
        let before: BTreeSet<_> = before.iter().copied().collect();
        let after: BTreeSet<_> = mailbox.deletes_in_force().into_iter().collect();
        let turned = before.symmetric_difference(&after);
        let contexts: Vec<_> = turned.filter_map(|delete| mailbox.delete_context(*delete)).collect();
        if contexts.is_empty() {
            return 0;
        }
        let concerned =
            |tag: &Tag| tag.mailbox == id && contexts.iter().any(|context| context.covers(tag.dot));
        let mut count = 0;
        for entry in self.index.tagged(id) {
            let tags = self.facts.entries.get(&entry).map_or(&[][..], |entry| entry.tags());
            if tags.iter().any(concerned) {
                self.touch(entry, effects);
                count += 1;
            }
        }
        count
    }
}
