//! SELECT, EXAMINE, UNSELECT, CLOSE, and what QRESYNC adds to them (RFC 7162 §3.2.5).

use std::sync::Arc;

use account::door::{Expunge, Reply};
use account::{MailboxView, Request};
use codec::imap::command::{QresyncParameters, Select, SelectParameters};
use codec::imap::{Code, Status, Tag};
use model::{MailboxName, ModSeq, SystemFlag, Uid};

use super::selected::Selected;
use super::sync::{FetchForm, Moment, absent};
use super::{Begun, Imap, Then, bad, no, ok};

/// Pairs of sequence number and UID that are looked at (RFC 7162 §3.2.5.2).
const MATCHES_MAX: usize = 10_000;

/// A SELECT that waits for a fresh look.
pub(super) struct Selecting {
    name: MailboxName,
    parameters: SelectParameters,
    read_only: bool,
    /// It has looked at all mailboxes, because it did not know the name.
    looked_everywhere: bool,
}

impl Imap {
    pub(super) fn select(&mut self, select: Select, read_only: bool) -> Begun {
        let Select { mailbox, parameters } = select;
        if parameters.qresync.is_some() && !self.user.as_ref().is_some_and(|user| user.qresync) {
            return Err(bad("QRESYNC is not enabled"));
        }
        // "[If] the SELECT command [fails], no mailbox is selected" (RFC 3501 §6.3.1).
        self.deselect();
        let name = self.name(&mailbox)?;
        let id = self.view_of(&name).map(|view| view.id);
        let selecting = Selecting { name, parameters, read_only, looked_everywhere: id.is_none() };
        self.ask_account(Request::Observe { mailbox: id }, Then::Select(selecting))
    }

    pub(super) fn selected_answered(&mut self, tag: Tag, name: &'static str, selecting: Selecting) {
        let Some(view) = self.view_of(&selecting.name) else {
            if selecting.looked_everywhere {
                return self.finish(&tag, no(Code::Nonexistent, "Mailbox does not exist"), Moment::Nothing);
            }
            // It was renamed or made anew by another program just now.
            let again = Selecting { looked_everywhere: true, ..selecting };
            self.ask(crate::Question::Account(Request::Observe { mailbox: None }));
            return self.keep(tag, name, super::What::Account(Then::Select(again)));
        };
        let Selecting { name: mailbox, parameters, read_only, looked_everywhere: _ } = selecting;
        let Some(user) = &mut self.user else { return };
        user.condstore |= parameters.condstore || parameters.qresync.is_some();
        user.selected = Some(Box::new(Selected::new(mailbox, Arc::clone(&view), read_only)));
        self.describe_selected(&view);
        if let Some(known) = parameters.qresync.filter(|known| known.uid_validity == view.uid_validity) {
            self.resynchronise(&view, &known);
        }
        let (code, text) = if read_only {
            (Code::ReadOnly, "Examine completed")
        } else {
            (Code::ReadWrite, "Select completed")
        };
        self.finish(&tag, ok(text).with(Some(code)), Moment::Nothing);
    }

    fn describe_selected(&mut self, view: &MailboxView) {
        self.tell_flags();
        let recent = self.selected().map_or(0, |selected| selected.recent.count(view));
        self.encoder().exists(view.len());
        self.encoder().recent(recent);
        if let Some(first) = first_unseen(view) {
            self.untagged(Status::Ok, Some(&Code::Unseen(first)), "First unseen");
        }
        self.untagged(Status::Ok, Some(&Code::UidValidity(view.uid_validity)), "UIDs valid");
        self.untagged(Status::Ok, Some(&Code::UidNext(view.uid_next)), "Predicted next UID");
        self.untagged(Status::Ok, Some(&Code::HighestModSeq(view.highest_modseq)), "Highest");
        self.untagged(Status::Ok, Some(&Code::MailboxId(view.id)), "Mailbox id");
    }

    /// What has vanished and changed since the client last looked: "the server MUST send VANISHED (EARLIER) [...] prior
    /// to FETCH responses" (RFC 7162 §3.2.5.1).
    fn resynchronise(&mut self, view: &Arc<MailboxView>, known: &QresyncParameters) {
        let since = ModSeq(known.modseq);
        let last = view.uid_next.get() - 1;
        let runs = match &known.known_uids {
            Some(set) => set.resolve(last).into_iter().map(|range| (*range.start(), *range.end())).collect(),
            None => vec![(1, last)],
        };
        let vanished = match view.vanished_since(since) {
            Some(uids) => among(view, uids, &runs),
            None => {
                let from = known_to_match(view, known);
                let above = runs.iter().filter(|(_, end)| *end > from);
                let above: Vec<(u32, u32)> =
                    above.map(|(start, end)| ((*start).max(from + 1), *end)).collect();
                absent(view, &above, last)
            }
        };
        self.tell_vanished(vanished, true);
        let in_runs = |uid: Uid| {
            let at = runs.partition_point(|(_, end)| *end < uid.get());
            runs.get(at).is_some_and(|(start, _)| *start <= uid.get())
        };
        let changed = view.iter().filter(|message| message.modseq > since && in_runs(message.uid));
        let changed = changed.map(|message| message.uid).collect();
        self.tell_changed(view, view, changed, FetchForm { flags: true, uid: true, modseq: true });
    }

    pub(super) fn unselect(&mut self) -> Begun {
        if let Some(user) = &mut self.user {
            user.selected = None;
        }
        Err(ok("Unselect completed"))
    }

    /// "Permanently removes all messages that have the \Deleted flag set [...] No untagged EXPUNGE responses are sent"
    /// (RFC 3501 §6.4.2).
    pub(super) fn close(&mut self) -> Begun {
        match self.selected().map(|selected| (selected.read_only, selected.held.id)) {
            Some((false, mailbox)) => {
                self.ask_account(Request::Expunge { mailbox, which: Expunge::Deleted }, Then::Close)
            }
            Some((true, _)) | None => {
                self.unselect().ok();
                Err(ok("Close completed"))
            }
        }
    }

    pub(super) fn closed(&mut self, tag: &Tag, reply: &Reply) {
        let some = matches!(reply, Reply::Expunged { uids } if !uids.is_empty());
        let code = if some { self.highest_modseq() } else { None };
        if let Some(user) = &mut self.user {
            user.selected = None;
        }
        self.finish(tag, ok("Close completed").with(code), Moment::Nothing);
    }

    /// For the tagged OK of what expunged messages: "the server MUST send the updated per-mailbox mod-sequence"
    /// (RFC 7162 §3.2.7).
    pub(super) fn highest_modseq(&self) -> Option<Code> {
        let condstore = self.user.as_ref().is_some_and(|user| user.condstore);
        self.latest().filter(|_| condstore).map(|view| Code::HighestModSeq(view.highest_modseq))
    }
}

/// Sequence number of the first message without `\Seen`.
fn first_unseen(view: &MailboxView) -> Option<u32> {
    if view.unseen == 0 {
        return None;
    }
    let rank = view.iter().position(|message| !message.flags.contains(SystemFlag::Seen))?;
    u32::try_from(rank).ok().map(|rank| rank + 1)
}

/// Those of the UIDs that lie in the runs and have no message, as runs, ascending.
fn among(view: &MailboxView, mut uids: Vec<Uid>, runs: &[(u32, u32)]) -> Vec<(u32, u32)> {
    uids.sort_unstable();
    uids.dedup();
    let wanted = |uid: &Uid| {
        let at = runs.partition_point(|(_, end)| *end < uid.get());
        runs.get(at).is_some_and(|(start, _)| *start <= uid.get()) && view.rank_of(*uid).is_err()
    };
    uids.into_iter().filter(wanted).map(|uid| (uid.get(), uid.get())).collect()
}

/// Up to this UID nothing has vanished that the client does not know of: its sequence numbers there are still right.
fn known_to_match(view: &MailboxView, known: &QresyncParameters) -> u32 {
    let Some((numbers, uids)) = &known.matches else { return 0 };
    let pairs = numbers.in_written_order(MATCHES_MAX).zip(uids.in_written_order(MATCHES_MAX));
    let right = |(number, uid): &(u32, u32)| {
        number.checked_sub(1).and_then(|rank| view.get(rank)).is_some_and(|message| message.uid.get() == *uid)
    };
    // A single match says it for all below: sequence numbers only fall, and UIDs stay.
    pairs.filter(right).map(|(_, uid)| uid).max().unwrap_or(0)
}

pub(super) fn vanished_among(view: &MailboxView, since: ModSeq, runs: &[(u32, u32)]) -> Vec<(u32, u32)> {
    match view.vanished_since(since) {
        Some(uids) => among(view, uids, runs),
        None => absent(view, runs, view.uid_next.get() - 1),
    }
}
