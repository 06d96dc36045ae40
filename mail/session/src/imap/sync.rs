//! Tells the client what has changed in the selected mailbox.
//!
//! "The server MUST send mailbox size updates [...] automatically if a mailbox size change is observed during the
//! processing of a command" (RFC 3501 §7, §5.2). "An EXPUNGE response MUST NOT be sent when no command is in progress,
//! nor while responding to a FETCH, STORE, or SEARCH command" (§7.4.1).
//!
//! Invariants
//! - After a sync the client's picture is the latest view: EXPUNGE or VANISHED first, then EXISTS, RECENT, FETCH.
//! - Where expunges may not be told and there are some, nothing is told: the view stays held as a whole, so that
//!   sequence numbers and mod-sequences never run ahead of each other (RFC 7162 §3.2.4).

use std::fmt::Write;
use std::sync::Arc;

use account::snapshot::Changes;
use account::{MailboxView, MessageView, Snapshot};
use bytes::BytesMut;
use codec::imap::{Code, Encoder, FetchWriter, Status};
use model::{Flag, Uid};

use super::selected::Selected;
use super::{Closing, Imap, NAMES};

/// Runs of UIDs in one VANISHED line.
const VANISHED_RUNS_MAX: usize = 500;

/// What may be told now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// No command is in progress that allows it.
    Nothing,
    /// FETCH, STORE and SEARCH by sequence number: all but expunges.
    NoExpunge,
    /// A UID command: everything, with UIDs.
    ByUid,
    Any,
}

impl Moment {
    /// "UID FETCH, UID STORE, and UID SEARCH are different commands from FETCH, STORE, and SEARCH" (RFC 3501 §7.4.1).
    pub(super) fn of_message_command(uid: bool) -> Self {
        if uid { Self::ByUid } else { Self::NoExpunge }
    }
}

impl Imap {
    /// Tells what is new in the selected mailbox, as far as `moment` allows.
    pub(super) fn sync(&mut self, moment: Moment) {
        let Some(latest) = self.latest() else { return };
        let Some(user) = &mut self.user else { return };
        let Some(selected) = user.selected.as_deref_mut() else { return };
        if moment == Moment::Nothing || Arc::ptr_eq(&latest, &selected.held) {
            return;
        }
        let changes = latest.changes_since(&selected.held);
        if moment == Moment::NoExpunge && !changes.expunged.is_empty() {
            return;
        }
        let form =
            FetchForm { flags: true, uid: moment == Moment::ByUid || user.qresync, modseq: user.condstore };
        let vanished = user.qresync;
        self.tell(&latest, changes, form, vanished);
    }

    fn tell(&mut self, latest: &Arc<MailboxView>, changes: Changes, form: FetchForm, vanished: bool) {
        let Changes { expunged, added, changed } = changes;
        let Some(selected) = self.user.as_mut().and_then(|user| user.selected.as_deref_mut()) else { return };
        let recent_before = selected.recent.count(&selected.held);
        if !added.is_empty() {
            selected.recent.take(latest, selected.read_only, selected.held.uid_next.get() - 1);
        }
        let recent = selected.recent.count(latest);
        let news = added.iter().chain(&changed).filter_map(|uid| latest.by_uid(*uid)).collect::<Vec<_>>();
        let keywords = news.iter().filter_map(|message| message.keywords.as_deref()).flatten();
        let new_keyword = selected.learn_keywords(keywords);
        let told =
            |uid: &Uid| latest.by_uid(*uid).is_none_or(|message| selected.was_told(*uid, message.modseq));
        let changed: Vec<Uid> = changed.into_iter().filter(|uid| !told(uid)).collect();
        let held = Arc::clone(&selected.held);
        selected.hold(Arc::clone(latest));
        if !expunged.is_empty() {
            self.tell_expunged(held, expunged, vanished);
        }
        if !added.is_empty() {
            self.encoder().exists(latest.len());
        }
        if !added.is_empty() || recent != recent_before {
            self.encoder().recent(recent);
        }
        if new_keyword {
            self.tell_flags();
        }
        self.tell_changed(latest, latest, changed, form);
    }

    fn tell_expunged(&mut self, held: Arc<MailboxView>, expunged: Vec<Uid>, vanished: bool) {
        if vanished {
            return self.tell_vanished(expunged.iter().map(|uid| (uid.get(), uid.get())).collect(), false);
        }
        // Each EXPUNGE renumbers what comes after it.
        let mut before = 0;
        self.out.lines(expunged, move |out, uid| {
            if let Ok(rank) = held.rank_of(uid) {
                Encoder::new(out, NAMES).expunge(rank + 1 - before);
                before += 1;
            }
        });
    }

    /// VANISHED for these runs of UIDs, ascending (RFC 7162 §3.2.10).
    pub(super) fn tell_vanished(&mut self, runs: Vec<(u32, u32)>, earlier: bool) {
        let mut joined: Vec<(u32, u32)> = Vec::new();
        for (first, last) in runs {
            match joined.last_mut() {
                Some(before) if before.1.checked_add(1) == Some(first) => before.1 = last,
                Some(_) | None => joined.push((first, last)),
            }
        }
        let mut joined = joined.into_iter();
        self.out.lazy(Box::new(move |out| {
            for (index, (first, last)) in joined.by_ref().take(VANISHED_RUNS_MAX).enumerate() {
                let before = match (index, earlier) {
                    (0, true) => "* VANISHED (EARLIER) ",
                    (0, false) => "* VANISHED ",
                    _ => ",",
                };
                put(out, format_args!("{before}{first}"));
                if last > first {
                    put(out, format_args!(":{last}"));
                }
            }
            if !out.is_empty() {
                out.extend_from_slice(b"\r\n");
            }
            joined.len() > 0
        }));
    }

    /// FETCH responses with the flags in `view`, under the sequence numbers of `numbers`.
    pub(super) fn tell_changed(
        &mut self,
        numbers: &Arc<MailboxView>,
        view: &Arc<MailboxView>,
        changed: Vec<Uid>,
        form: FetchForm,
    ) {
        let Some(selected) = self.selected() else { return };
        if changed.is_empty() {
            return;
        }
        let recent = selected.recent.clone();
        let (numbers, view) = (Arc::clone(numbers), Arc::clone(view));
        self.out.lines(changed, move |out, uid| {
            if let (Ok(rank), Some(message)) = (numbers.rank_of(uid), view.by_uid(uid)) {
                form.write(out, rank + 1, message, recent.contains(uid));
            }
        });
    }

    /// FLAGS and PERMANENTFLAGS of the selected mailbox (RFC 3501 §7.2.6, §7.1).
    pub(super) fn tell_flags(&mut self) {
        let Some(selected) = self.selected() else { return };
        let flags = selected.flags();
        let permanent = if selected.read_only { Vec::new() } else { flags.clone() };
        let star = !selected.read_only;
        self.encoder().flags(&flags);
        let code = Code::PermanentFlags { flags: permanent, star };
        let text = if star { "Flags permitted" } else { "Read-only mailbox" };
        self.untagged(Status::Ok, Some(&code), text);
    }

    /// The account changed. An IDLE client hears at once; others when a command of theirs allows it.
    pub(super) fn changed(&mut self, snapshot: Arc<Snapshot>) {
        self.see(snapshot);
        if self.is_idling() && !self.is_held_back() && !self.mailbox_is_lost() {
            self.push_to_idle();
        }
    }

    /// Says goodbye if the selected mailbox is no more (RFC 2180 §3.3), or is another one to every client because it is
    /// numbered anew.
    pub(super) fn mailbox_is_lost(&mut self) -> bool {
        let Some(user) = &mut self.user else { return false };
        let Some(selected) = user.selected.as_deref_mut() else { return false };
        match selected.find(&user.snapshot) {
            Some((name, _)) => {
                if *name != selected.name {
                    selected.name = name.clone();
                }
                false
            }
            None => {
                let text = "The selected mailbox was deleted or renumbered";
                self.bye(Some(&Code::Unavailable), text, Closing::Kicked("selected mailbox is gone"));
                true
            }
        }
    }
}

impl Selected {
    /// Flags in use here, the system's and all keywords.
    pub(super) fn flags(&self) -> Vec<Flag> {
        let system = model::SystemFlag::ALL.into_iter().map(Flag::System);
        system.chain(self.keywords().cloned().map(Flag::Keyword)).collect()
    }
}

/// What goes with the flags in a FETCH response that tells of a change.
#[derive(Clone, Copy, Debug)]
pub(super) struct FetchForm {
    pub(super) flags: bool,
    pub(super) uid: bool,
    pub(super) modseq: bool,
}

impl FetchForm {
    pub(super) fn write(self, out: &mut BytesMut, sequence: u32, message: &MessageView, recent: bool) {
        let mut line = FetchWriter::begin(out, sequence);
        if self.uid {
            line.uid(out, message.uid);
        }
        if self.flags {
            line.flags(out, &flags_of(message), recent);
        }
        if self.modseq {
            line.modseq(out, message.modseq);
        }
        line.end(out);
    }
}

pub(super) fn flags_of(message: &MessageView) -> Vec<Flag> {
    let keywords = message.keywords.as_deref().unwrap_or_default();
    message.flags.iter().map(Flag::System).chain(keywords.iter().cloned().map(Flag::Keyword)).collect()
}

/// Writes what no method of the encoder can write bit by bit.
pub(super) fn put(out: &mut BytesMut, text: std::fmt::Arguments<'_>) {
    // A BytesMut grows, so it never refuses.
    let _ = out.write_fmt(text);
}

/// UIDs in `runs` (ascending, disjoint) up to `last` that have no message in `view`, as runs.
pub(super) fn absent(view: &MailboxView, runs: &[(u32, u32)], last: u32) -> Vec<(u32, u32)> {
    let mut absent = Vec::new();
    for (first, end) in runs {
        let (mut next, end) = ((*first).max(1), (*end).min(last));
        let Some(start) = Uid::new(next) else { continue };
        let rank = view.rank_of(start).unwrap_or_else(|rank| rank);
        for message in view.iter_from(rank).take_while(|message| message.uid.get() <= end) {
            if message.uid.get() > next {
                absent.push((next, message.uid.get() - 1));
            }
            next = message.uid.get().saturating_add(1);
        }
        if next <= end && end > 0 {
            absent.push((next, end));
        }
    }
    absent
}
