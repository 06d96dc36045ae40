//! STORE and UID STORE (RFC 3501 §6.4.6, RFC 7162 §3.1.3).
//!
//! The new flags are told from the latest snapshot at once, also where the view as a whole must stay held because
//! messages were expunged meanwhile.

use std::collections::HashSet;
use std::sync::Arc;

use account::door::{EditFlags, FlagEdit, Reply};
use account::{MessageView, Request};
use codec::imap::command::{StoreAction, StoreCommand};
use codec::imap::{Code, Tag};
use model::{Flag, ModSeq, Uid};

use super::selected::{ranks, uids};
use super::sync::{FetchForm, Moment, flags_of};
use super::{Begun, Imap, Then, bad, no, ok};

/// A STORE that waits for the account.
pub(super) struct Store {
    uid: bool,
    silent: bool,
    edit: FlagEdit,
    flags: Vec<Flag>,
    uids: Vec<Uid>,
}

impl Store {
    pub(super) fn moment(&self) -> Moment {
        Moment::of_message_command(self.uid)
    }

    /// Whether the client can know the flags by itself: those it was told, edited as it asked.
    fn is_foreseen(&self, before: &MessageView, after: &MessageView) -> bool {
        let mut expected = match self.edit {
            FlagEdit::Replace => self.flags.clone(),
            FlagEdit::Add => flags_of(before).into_iter().chain(self.flags.iter().cloned()).collect(),
            FlagEdit::Remove => {
                flags_of(before).into_iter().filter(|flag| !self.flags.contains(flag)).collect::<Vec<_>>()
            }
        };
        let mut flags = flags_of(after);
        expected.sort_unstable();
        expected.dedup();
        flags.sort_unstable();
        flags == expected
    }
}

impl Imap {
    pub(super) fn store(&mut self, store: StoreCommand) -> Begun {
        let StoreCommand { uid, set, unchanged_since, action, silent, flags } = store;
        let Some(selected) = self.selected() else { return Err(super::client_bug("Select a mailbox first")) };
        let chosen = ranks(&set, uid, &selected.held).map_err(|_| bad("No such message"))?;
        if selected.read_only {
            return Err(no(Code::ReadOnly, "Mailbox is read-only"));
        }
        let (mailbox, uids) = (selected.held.id, uids(&chosen, &selected.held));
        if unchanged_since.is_some() {
            self.enable_condstore();
        }
        if uids.is_empty() {
            return Err(ok("No messages to store"));
        }
        let edit = match action {
            StoreAction::Replace => FlagEdit::Replace,
            StoreAction::Add => FlagEdit::Add,
            StoreAction::Remove => FlagEdit::Remove,
        };
        let request = EditFlags {
            mailbox,
            uids: uids.clone(),
            edit,
            flags: flags.clone(),
            unchanged_since: unchanged_since.map(ModSeq),
        };
        self.ask_account(Request::EditFlags(request), Then::Store(Store { uid, silent, edit, flags, uids }))
    }

    pub(super) fn stored(&mut self, tag: &Tag, store: Store, reply: &Reply) {
        let modified: &[Uid] = match reply {
            Reply::FlagsEdited { modified } => modified,
            Reply::Appended { .. }
            | Reply::Copied { .. }
            | Reply::Expunged { .. }
            | Reply::Created { .. }
            | Reply::Done => &[],
        };
        let missing = self.tell_stored(&store, modified);
        let Some(selected) = self.selected() else { return };
        let number = |uid: &Uid| {
            if store.uid { Some(uid.get()) } else { selected.held.rank_of(*uid).ok().map(|rank| rank + 1) }
        };
        let mut numbers: Vec<u32> = modified.iter().filter_map(number).collect();
        numbers.sort_unstable();
        let code = (!numbers.is_empty()).then_some(Code::Modified(numbers));
        // "If the client issues a STORE command for a mixture of expunged and non-expunged messages, [...] return
        // untagged FETCH responses for the non-expunged messages, and a tagged NO" (RFC 2180 §4.2.3).
        let ending = match (missing && !store.uid, code) {
            (true, code) => {
                let code = code.unwrap_or(Code::ExpungeIssued);
                no(code, "Some of the messages no longer exist")
            }
            (false, Some(code)) => ok("Conditional store left some messages alone").with(Some(code)),
            (false, None) => ok("Store completed"),
        };
        self.finish(tag, ending, store.moment());
    }

    /// Tells the flags that the STORE made. Returns whether messages are expunged that the client still counts.
    fn tell_stored(&mut self, store: &Store, modified: &[Uid]) -> bool {
        let Some(latest) = self.latest() else { return true };
        let Some(user) = self.user.as_mut() else { return false };
        let (condstore, qresync) = (user.condstore, user.qresync);
        let Some(selected) = user.selected.as_deref_mut() else { return false };
        let held = Arc::clone(&selected.held);
        let modified: HashSet<Uid> = modified.iter().copied().collect();
        let (mut missing, mut new_keyword) = (false, false);
        let (mut told, mut stored) = (Vec::new(), Vec::new());
        for uid in &store.uids {
            let Some(after) = latest.by_uid(*uid) else {
                missing = true;
                continue;
            };
            if modified.contains(uid) {
                continue;
            }
            new_keyword |= selected.learn_keywords(after.keywords.as_deref().unwrap_or_default());
            stored.push(*uid);
            let foreseen = || held.by_uid(*uid).is_some_and(|before| store.is_foreseen(before, after));
            if !store.silent || foreseen() {
                told.push((*uid, after.modseq));
            }
        }
        for (uid, modseq) in told {
            selected.tell(uid, modseq);
        }
        if new_keyword {
            self.tell_flags();
        }
        let form = FetchForm { flags: !store.silent, uid: store.uid || qresync, modseq: condstore };
        // "An untagged FETCH response MUST be sent, even if the .SILENT suffix is specified, and the response MUST
        // include the MODSEQ message data item" (RFC 7162 §3.1.3).
        if form.flags || form.modseq {
            self.tell_changed(&held, &latest, stored, form);
        }
        missing
    }
}
