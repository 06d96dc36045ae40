//! The next snapshot, made from the one before and from what a record touched.
//!
//! Invariants
//! - What a view shows is what [`AccountState`] says: [`Building::join`] is called for every record, and
//!   [`Building::load`] makes the same of a whole state.
//! - A record costs what it touches. Names of mailboxes are computed again only when a record can have changed one.
//! - A message's modseq is that of the last record that changed how it looks here; it is known to us alone (the state
//!   holds what sites share), so the checkpoint keeps it.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use model::state::Effects;
use model::{
    AccountId, AccountState, EntryId, Keyword, MailboxId, MailboxName, ModSeq, SpecialUse, Uid, UidValidity,
    view,
};
use serde::{Deserialize, Serialize};

use crate::chunks::{Edits, is_unseen};
use crate::dues::Dues;
use crate::snapshot::{MailboxEntry, MailboxView, MessageView, Messages, Snapshot, Vanished};

/// What readers will be shown next.
pub(crate) struct Building {
    account: AccountId,
    drafts: BTreeMap<MailboxId, Draft>,
    shown: HashMap<EntryId, (MailboxId, Uid)>,
    names: BTreeMap<MailboxName, Named>,
    names_stale: bool,
    subscriptions: Arc<BTreeSet<MailboxName>>,
    /// Equal sets of keywords are one allocation.
    keyword_sets: HashSet<Arc<[Keyword]>>,
    used_bytes: u64,
    messages: u64,
}

/// A name in the hierarchy, as LIST will show it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    pub(crate) id: MailboxId,
    /// If not, it is only the parent of others.
    pub(crate) exists: bool,
    pub(crate) special_use: Option<SpecialUse>,
}

/// A view and what is to change in it.
struct Draft {
    view: Arc<MailboxView>,
    edits: Edits,
    vanished: Vec<(ModSeq, Uid)>,
    touched: ModSeq,
}

/// What a checkpoint keeps of a view beside the state.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct KeptView {
    highest_modseq: ModSeq,
    recent: u32,
    forgotten_to: ModSeq,
    vanished: Vec<(ModSeq, Uid)>,
    modseqs: Vec<(Uid, ModSeq)>,
}

impl Building {
    pub(crate) fn new(account: AccountId) -> Self {
        Self {
            account,
            drafts: BTreeMap::new(),
            shown: HashMap::new(),
            names: BTreeMap::new(),
            names_stale: true,
            subscriptions: Arc::default(),
            keyword_sets: HashSet::new(),
            used_bytes: 0,
            messages: 0,
        }
    }

    /// The views of a state that a checkpoint held.
    pub(crate) fn load(state: &AccountState, mut kept: BTreeMap<MailboxId, KeptView>) -> Self {
        let mut building = Self::new(state.account());
        let mailboxes: Vec<_> = state.mailboxes().map(|(id, _)| id).collect();
        for id in mailboxes {
            building.load_mailbox(state, id, kept.remove(&id).unwrap_or_default());
        }
        building
    }

    fn load_mailbox(&mut self, state: &AccountState, id: MailboxId, kept: KeptView) {
        let Some(uid_validity) = state.mailbox(id).and_then(|mailbox| mailbox.uid_validity()) else { return };
        let modseqs: HashMap<_, _> = kept.modseqs.into_iter().collect();
        let placed: Vec<_> = state
            .entries_in(id)
            .filter_map(|(entry, _, place)| Some((entry, place.uid?.1, place.stamp)))
            .collect();
        let mut messages = Vec::with_capacity(placed.len());
        for (entry, uid, stamp) in placed {
            let modseq = modseqs.get(&uid).copied().unwrap_or(stamp.into());
            messages.extend(self.message_view(state, entry, uid, modseq));
        }
        messages.sort_by_key(|message| message.uid);
        let mut view = empty_view(id, uid_validity, kept.recent);
        view.highest_modseq =
            messages.iter().map(|message| message.modseq).fold(kept.highest_modseq, ModSeq::max);
        view.unseen = messages.iter().filter(|message| is_unseen(message)).count() as u32;
        view.size_bytes = messages.iter().map(|message| message.wire_size).sum();
        view.uid_next = uid_next(state, id, uid_validity);
        view.vanished = Vanished::new(kept.forgotten_to, kept.vanished);
        self.used_bytes += view.size_bytes;
        self.messages += messages.len() as u64;
        self.shown.extend(messages.iter().map(|message| (message.entry, (id, message.uid))));
        view.messages = Messages::from_ascending(messages);
        self.drafts.insert(id, Draft::of(view));
    }

    /// What the checkpoint is to keep. Call it when nothing is pending.
    pub(crate) fn keep(&self) -> BTreeMap<MailboxId, KeptView> {
        let keep = |draft: &Draft| KeptView {
            highest_modseq: draft.view.highest_modseq,
            recent: draft.view.recent.load(Ordering::Acquire),
            forgotten_to: draft.view.vanished.forgotten_to,
            vanished: draft.view.vanished.iter().collect(),
            modseqs: draft.view.iter().map(|message| (message.uid, message.modseq)).collect(),
        };
        self.drafts.iter().map(|(id, draft)| (*id, keep(draft))).collect()
    }
}

/// Taking records in.
impl Building {
    /// Takes in what a record did to the state, and notes in `dues` what the disk owes to it.
    pub(crate) fn join(&mut self, state: &AccountState, effects: &Effects, modseq: ModSeq, dues: &mut Dues) {
        if !effects.mailboxes.is_empty() || effects.account {
            self.names_stale = true;
            dues.arrange |= !effects.mailboxes.is_empty();
            dues.subscriptions |= effects.account;
        }
        for id in &effects.mailboxes {
            self.join_mailbox(state, *id, modseq, dues);
        }
        for entry in &effects.entries {
            self.join_entry(state, *entry, modseq, dues);
        }
    }

    /// A mailbox whose UIDVALIDITY rose is another mailbox to every client.
    fn join_mailbox(&mut self, state: &AccountState, id: MailboxId, modseq: ModSeq, dues: &mut Dues) {
        let Some(uid_validity) = state.mailbox(id).and_then(|mailbox| mailbox.uid_validity()) else { return };
        let known = self.drafts.get(&id).map(|draft| draft.view.uid_validity);
        if known == Some(uid_validity) {
            self.touch(id, modseq);
            return;
        }
        if let Some(old) = self.drafts.remove(&id) {
            let view = old.finished(state);
            self.used_bytes -= view.size_bytes;
            self.messages -= u64::from(view.len());
            for message in view.iter() {
                self.shown.remove(&message.entry);
            }
        }
        let mut view = empty_view(id, uid_validity, 0);
        view.vanished.forgotten_to = modseq;
        view.highest_modseq = modseq;
        self.drafts.insert(id, Draft::of(view));
        dues.lists.insert(id);
        let entries: Vec<_> = state.entries_in(id).map(|(entry, ..)| entry).collect();
        for entry in entries {
            self.join_entry(state, entry, modseq, dues);
        }
    }

    fn join_entry(&mut self, state: &AccountState, entry: EntryId, modseq: ModSeq, dues: &mut Dues) {
        let before = self.shown.get(&entry).copied();
        let old = before.and_then(|(mailbox, uid)| self.message(mailbox, uid)).cloned();
        let after = shown_at(state, entry);
        let new = after.and_then(|(_, uid)| self.message_view(state, entry, uid, modseq));
        if let (Some(old), Some(new)) = (&old, &new)
            && before == after
        {
            if old.flags != new.flags || old.keywords != new.keywords {
                dues.flags_changed(entry, old, modseq);
            } else if old.base == new.base && old.uidl == new.uidl {
                return;
            }
        }
        dues.entry_changed(state, entry, before.map(|(mailbox, _)| mailbox).zip(old.as_ref()), after);
        if let (Some((mailbox, uid)), Some(old)) = (before, old) {
            self.remove(mailbox, uid, &old, modseq, before != after);
            self.shown.remove(&entry);
        }
        if let (Some((mailbox, _)), Some(new)) = (after, new) {
            self.insert(mailbox, new, modseq);
        }
    }

    fn remove(&mut self, mailbox: MailboxId, uid: Uid, old: &MessageView, modseq: ModSeq, vanishes: bool) {
        self.used_bytes -= old.wire_size;
        self.messages -= 1;
        if let Some(draft) = self.drafts.get_mut(&mailbox) {
            draft.edits.insert(uid, None);
            draft.touched = draft.touched.max(modseq);
            if vanishes {
                draft.vanished.push((modseq, uid));
            }
        }
    }

    fn insert(&mut self, mailbox: MailboxId, new: MessageView, modseq: ModSeq) {
        // A UID counts only under the UIDVALIDITY that a claim gave the mailbox, and with it a draft.
        let Some(draft) = self.drafts.get_mut(&mailbox) else { return };
        self.used_bytes += new.wire_size;
        self.messages += 1;
        self.shown.insert(new.entry, (mailbox, new.uid));
        draft.touched = draft.touched.max(modseq);
        draft.edits.insert(new.uid, Some(new));
    }

    fn touch(&mut self, mailbox: MailboxId, modseq: ModSeq) {
        if let Some(draft) = self.drafts.get_mut(&mailbox) {
            draft.touched = draft.touched.max(modseq);
        }
    }

    fn message_view(
        &mut self,
        state: &AccountState,
        entry: EntryId,
        uid: Uid,
        modseq: ModSeq,
    ) -> Option<MessageView> {
        let known = state.entry(entry)?;
        let header = known.header();
        Some(MessageView {
            uid,
            flags: known.system_flags(),
            keywords: self.keyword_set(state.keywords(entry)),
            modseq,
            internal_date: header.internal_date,
            save_date: header.save_date,
            wire_size: header.wire_size,
            size: header.size,
            entry,
            message: header.message,
            content: header.content,
            base: Arc::clone(&header.base),
            uidl: header.uidl.clone(),
        })
    }

    fn keyword_set(&mut self, keywords: Vec<Keyword>) -> Option<Arc<[Keyword]>> {
        if keywords.is_empty() {
            return None;
        }
        if let Some(known) = self.keyword_sets.get(keywords.as_slice()) {
            return Some(Arc::clone(known));
        }
        let set: Arc<[Keyword]> = keywords.into();
        self.keyword_sets.insert(Arc::clone(&set));
        Some(set)
    }
}

/// Looking things up, pending changes included.
impl Building {
    pub(crate) fn message(&self, mailbox: MailboxId, uid: Uid) -> Option<&MessageView> {
        let draft = self.drafts.get(&mailbox)?;
        match draft.edits.get(&uid) {
            Some(edit) => edit.as_ref(),
            None => draft.view.messages.by_uid(uid),
        }
    }

    /// Where an entry is shown.
    pub(crate) fn shown(&self, entry: EntryId) -> Option<(MailboxId, &MessageView)> {
        let (mailbox, uid) = self.shown.get(&entry)?;
        Some((*mailbox, self.message(*mailbox, *uid)?))
    }

    /// The mailbox with every pending change made.
    pub(crate) fn view(&mut self, state: &AccountState, mailbox: MailboxId) -> Option<Arc<MailboxView>> {
        let draft = self.drafts.get_mut(&mailbox)?;
        draft.finish(state);
        Some(Arc::clone(&draft.view))
    }

    pub(crate) fn names(&mut self, state: &AccountState) -> &BTreeMap<MailboxName, Named> {
        if self.names_stale {
            let shown = view::mailboxes(state).into_iter().map(|shown| {
                let exists = shown.selectable && shown.uid_validity.is_some();
                (shown.name, Named { id: shown.id, exists, special_use: shown.special_use })
            });
            self.names = shown.collect();
            let subscribed = state.subscriptions().filter_map(|name| MailboxName::new(name).ok());
            self.subscriptions = Arc::new(subscribed.collect());
            self.names_stale = false;
        }
        &self.names
    }

    pub(crate) fn named(&mut self, state: &AccountState, name: &MailboxName) -> Option<Named> {
        self.names(state).get(name).copied()
    }

    /// The name of a mailbox that exists.
    pub(crate) fn name_of(&mut self, state: &AccountState, id: MailboxId) -> Option<MailboxName> {
        self.names(state)
            .iter()
            .find(|(_, named)| named.exists && named.id == id)
            .map(|(name, _)| name.clone())
    }

    /// Views as they were last finished, with their mailboxes' ids.
    pub(crate) fn views(&self) -> impl Iterator<Item = (MailboxId, &Arc<MailboxView>)> {
        self.drafts.iter().map(|(id, draft)| (*id, &draft.view))
    }

    /// Greatest UID that some session has been told is `\Recent`.
    pub(crate) fn recent(&self, mailbox: MailboxId) -> u32 {
        self.drafts.get(&mailbox).map_or(0, |draft| draft.view.recent.load(Ordering::Acquire))
    }

    pub(crate) fn used_bytes(&self) -> u64 {
        self.used_bytes
    }

    /// The next snapshot. Shares with the one before whatever no record touched.
    pub(crate) fn snapshot(&mut self, state: &AccountState, lsn: u64) -> Arc<Snapshot> {
        for draft in self.drafts.values_mut() {
            draft.finish(state);
        }
        self.names(state);
        let entry = |(name, named): (&MailboxName, &Named)| {
            let view =
                self.drafts.get(&named.id).filter(|_| named.exists).map(|draft| Arc::clone(&draft.view));
            (name.clone(), MailboxEntry { view, special_use: named.special_use })
        };
        Arc::new(Snapshot {
            account: self.account,
            lsn,
            mailboxes: self.names.iter().map(entry).collect(),
            subscriptions: Arc::clone(&self.subscriptions),
            used_bytes: self.used_bytes,
            messages: self.messages,
        })
    }
}

impl Draft {
    fn of(view: MailboxView) -> Self {
        let touched = view.highest_modseq;
        Self { view: Arc::new(view), edits: Edits::new(), vanished: Vec::new(), touched }
    }

    fn finished(mut self, state: &AccountState) -> Arc<MailboxView> {
        self.finish(state);
        self.view
    }

    /// Makes the pending changes in a view of their own.
    fn finish(&mut self, state: &AccountState) {
        let uid_next = uid_next(state, self.view.id, self.view.uid_validity);
        if self.edits.is_empty() && self.touched <= self.view.highest_modseq && uid_next <= self.view.uid_next
        {
            return;
        }
        let mut view = (*self.view).clone();
        for (uid, edit) in &self.edits {
            if let Some(old) = self.view.messages.by_uid(*uid) {
                view.unseen -= u32::from(is_unseen(old));
                view.size_bytes -= old.wire_size;
            }
            if let Some(new) = edit {
                view.unseen += u32::from(is_unseen(new));
                view.size_bytes += new.wire_size;
            }
        }
        view.messages = self.view.messages.edited(std::mem::take(&mut self.edits));
        view.vanished.extend(std::mem::take(&mut self.vanished));
        view.highest_modseq = view.highest_modseq.max(self.touched);
        view.uid_next = view.uid_next.max(uid_next);
        self.view = Arc::new(view);
    }
}

/// Where an entry is shown (V1 to V3, V7).
fn shown_at(state: &AccountState, entry: EntryId) -> Option<(MailboxId, Uid)> {
    let place = state.place_of(entry)?;
    let (_, uid) = place.uid?;
    state.twin_shown(entry).is_none().then_some((place.mailbox, uid))
}

fn uid_next(state: &AccountState, mailbox: MailboxId, uid_validity: UidValidity) -> Uid {
    let greatest = state.mailbox(mailbox).map_or(0, |mailbox| mailbox.greatest_uid(uid_validity));
    Uid::new(greatest.saturating_add(1)).unwrap_or(Uid::FIRST)
}

fn empty_view(id: MailboxId, uid_validity: UidValidity, recent: u32) -> MailboxView {
    MailboxView {
        id,
        uid_validity,
        uid_next: Uid::FIRST,
        highest_modseq: ModSeq::default(),
        unseen: 0,
        size_bytes: 0,
        recent: Arc::new(AtomicU32::new(recent)),
        messages: Messages::default(),
        vanished: Vanished::default(),
    }
}
