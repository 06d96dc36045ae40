//! Lazy work: what the disk owes to the journal, carried out when there is time, and checkpoints.
//!
//! Invariants
//! - Only what is witnessed is written back (L-OB1): lazy work runs between turns, never in one.
//! - A failure here loses nothing and refuses nobody: it is tried again later, and told to the operator.
//! - A checkpoint is written only when no bytes wait to be placed: whoever starts from it need not look for them.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use model::{EntryId, MailboxId, MailboxName, SystemFlags, Uid};
use store::format::{Flags, Lists};

use crate::astray::LATE_US;
use crate::door::{Refused, Reply};
use crate::dues::Placing;
use crate::log::{CheckpointFailure, Failure};
use crate::observe::entry_in;
use crate::owner::Owner;
use crate::setup::Now;

/// Records and bytes since the last checkpoint that call for the next (`locking.md` §6.1).
pub(crate) const CHECKPOINT_RECORDS: u64 = 2000;
pub(crate) const CHECKPOINT_BYTES: u64 = 1 << 20;
/// Records since the last checkpoint that are worth one before another node reads them (`locking.md` §7.1).
const HAND_OVER_RECORDS: u64 = 200;
/// Flags stay as they are for so long before their message's name is written: clients change them in bursts.
const NAME_DELAY_US: u64 = 2_000_000;
/// Names written in one share of lazy work.
const NAMES_AT_A_TIME: usize = 500;
/// Bytes stay in the hold for so long at least (L-UN).
const HOLD_US: u64 = 300_000_000;
const SWEEP_EVERY_US: u64 = 600_000_000;
const RETRY_US: u64 = 1_000_000;
/// Segments that lead nowhere are kept for inspection for so long (`locking.md` §6.1).
const ORPHANS_KEPT: Duration = Duration::from_secs(7 * 24 * 60 * 60);
/// Searches for bytes that are nowhere.
const PLACE_ATTEMPTS_MAX: u8 = 5;

/// When lazy work was done last.
#[derive(Default)]
pub(crate) struct Timers {
    swept_unix_us: Option<u64>,
    retry_unix_us: Option<u64>,
    /// Greatest UID of each mailbox whose message was moved out of `new` because a client was shown it.
    shown_to: BTreeMap<MailboxId, u32>,
}

impl Owner {
    /// Does the lazy work that is due.
    pub fn tick(&mut self, now: Now) {
        if !self.is_sound() || self.has_pending() {
            return;
        }
        self.carry_out(now);
        self.notice_shown();
        self.write_names(now, NAMES_AT_A_TIME, NAME_DELAY_US);
        let due = self.log.records_since_checkpoint() >= CHECKPOINT_RECORDS
            || self.log.bytes_since_checkpoint() >= CHECKPOINT_BYTES;
        if due && let Err(what) = self.checkpoint(now) {
            self.report("no new checkpoint", &what);
        }
        let since_sweep = self.timers.swept_unix_us.map(|swept| now.unix_us.saturating_sub(swept));
        if since_sweep.is_none_or(|since| since >= SWEEP_EVERY_US) {
            self.sweep(now);
        }
    }

    /// When the next [`tick`](Self::tick) has something to do.
    pub fn wants_tick(&self) -> Option<u64> {
        if !self.is_sound() {
            return None;
        }
        let dues = &self.image.dues;
        let name = dues.behind.values().filter(|behind| behind.unwritten);
        let name = name.map(|behind| behind.changed_unix_us.saturating_add(NAME_DELAY_US)).min();
        let retry = if dues.is_placed() { None } else { Some(self.timers.retry_unix_us.unwrap_or(0)) };
        let sweep = self.timers.swept_unix_us.map_or(0, |swept| swept.saturating_add(SWEEP_EVERY_US));
        [name, retry, Some(sweep)].into_iter().flatten().min()
    }

    /// Writes everything back. The owner can be dropped afterwards; without it, the next one does it.
    pub fn close(&mut self, now: Now) {
        if self.is_sound()
            && !self.has_pending()
            && let Err(refused) = self.settle(now)
        {
            self.report("not everything is written back", &refused.to_string());
        }
    }

    /// Makes it quick for another node to open the account. What is to be written back is the next owner's to write.
    pub fn hand_over(&mut self, now: Now) {
        if !self.is_sound() || self.has_pending() || self.log.records_since_checkpoint() <= HAND_OVER_RECORDS
        {
            return;
        }
        self.carry_out(now);
        if let Err(what) = self.checkpoint(now) {
            self.report("no checkpoint for the next owner", &what);
        }
    }

    pub(crate) fn settle(&mut self, now: Now) -> Result<Reply, Refused> {
        // What came before in the same turn must count first.
        self.finish_turn(now, Vec::new());
        self.check_sound()?;
        self.carry_out(now);
        self.notice_shown();
        self.write_names(now, usize::MAX, 0);
        let failed = |what: String| Refused::NotStored(what);
        self.write_lists().map_err(|error| failed(error.to_string()))?;
        if self.log.records_since_checkpoint() > 0 {
            self.checkpoint(now).map_err(failed)?;
        }
        Ok(Reply::Done)
    }

    pub(crate) fn rebuild_index(&mut self, now: Now) -> Result<Reply, Refused> {
        self.observe_all(now, true)?;
        let shown: Vec<_> = self.image.building.views().map(|(id, _)| id).collect();
        self.image.dues.lists.extend(shown);
        self.image.dues.subscriptions = true;
        self.settle(now)
    }
}

/// What the disk owes.
impl Owner {
    /// Brings directories and bytes to where the journal says they are.
    pub(crate) fn carry_out(&mut self, now: Now) {
        if self.image.dues.is_placed() {
            return;
        }
        self.timers.retry_unix_us = Some(now.unix_us.saturating_add(RETRY_US));
        let wanted = self.wanted();
        if self.image.dues.arrange {
            let is_gone = |id| self.is_gone(id);
            if let Err(error) = self.setup.format.arrange(&wanted, &is_gone, now.unix_s()) {
                self.report("mailbox directories are late", &error.to_string());
                return;
            }
            self.image.dues.arrange = false;
        }
        let wanted: BTreeSet<_> = wanted.into_iter().map(|(id, _)| id).collect();
        self.place(&wanted);
        self.retire(now, &wanted);
    }

    /// Mailboxes that are to have a directory.
    pub(crate) fn wanted(&mut self) -> Vec<(MailboxId, MailboxName)> {
        let names = self.image.building.names(&self.image.state);
        names.iter().filter(|(_, named)| named.exists).map(|(name, named)| (named.id, name.clone())).collect()
    }

    fn place(&mut self, wanted: &BTreeSet<MailboxId>) {
        for (entry, mut placing) in std::mem::take(&mut self.image.dues.place) {
            // Of a mailbox that is gone the whole directory goes into the hold, and with it what was not moved in yet.
            if !wanted.contains(&placing.mailbox) {
                self.image.dues.retire.extend(placing.left_behind());
                continue;
            }
            let Err(error) = self.place_one(entry, &placing) else {
                self.image.dues.unsynced.extend(placing.from.iter().chain([&placing.mailbox]));
                continue;
            };
            placing.attempts = placing.attempts.saturating_add(1);
            self.note_missing(&error);
            if error.is_not_found() && placing.attempts >= PLACE_ATTEMPTS_MAX {
                self.report("the bytes of a message are missing", &format!("{}: {error}", placing.base));
                continue;
            }
            tracing::warn!(account = %self.setup.account, %error, "message is not in its place yet");
            self.image.dues.place.insert(entry, placing);
        }
    }

    fn place_one(&mut self, entry: EntryId, placing: &Placing) -> nfs_compat::Result<()> {
        let Placing { mailbox, base, from, .. } = placing;
        self.with_flags(entry, |owner, flags| owner.setup.format.place(*mailbox, base, from, flags))
    }

    /// Calls `act` with the flags that the message's public name is to show.
    pub(crate) fn with_flags<T>(&self, entry: EntryId, act: impl FnOnce(&Self, Flags<'_>) -> T) -> T {
        match self.image.shown(entry) {
            Some((mailbox, message)) => {
                let keywords = message.keywords.as_deref().unwrap_or_default();
                let fresh = message.uid.get() > self.recent(mailbox);
                act(self, Flags { system: message.flags, keywords, fresh })
            }
            None => act(self, Flags { system: SystemFlags::NONE, keywords: &[], fresh: false }),
        }
    }

    fn recent(&self, mailbox: MailboxId) -> u32 {
        self.image.building.recent(mailbox)
    }

    fn retire(&mut self, now: Now, wanted: &BTreeSet<MailboxId>) {
        for departed in std::mem::take(&mut self.image.dues.retire) {
            if !wanted.contains(&departed.mailbox) {
                continue;
            }
            match self.setup.format.retire(departed.mailbox, &departed.base, now.unix_s()) {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(account = %self.setup.account, %error, "removed message is still in its place");
                    self.image.dues.retire.push(departed);
                }
                Ok(()) | Err(_) => {
                    self.image.dues.unsynced.insert(departed.mailbox);
                    if self.is_shared() && entry_in(&departed.base).is_none() {
                        self.image.dues.note_departed(departed, now.unix_us);
                    }
                }
            }
        }
    }

    /// A message that a client was shown leaves `new`.
    fn notice_shown(&mut self) {
        let mut seen = Vec::new();
        for (id, view) in self.image.building.views() {
            let recent = view.recent.load(Ordering::Acquire);
            let before = self.timers.shown_to.get(&id).copied().unwrap_or(0);
            if recent <= before {
                continue;
            }
            let first = Uid::new(before.saturating_add(1)).unwrap_or(Uid::FIRST);
            let (Ok(rank) | Err(rank)) = view.rank_of(first);
            let shown = view.iter_from(rank).take_while(|message| message.uid.get() <= recent);
            seen.push((id, recent, shown.map(|message| message.entry).collect::<Vec<_>>()));
        }
        for (id, recent, entries) in seen {
            self.timers.shown_to.insert(id, recent);
            entries.into_iter().for_each(|entry| self.image.dues.write_name(entry));
        }
    }

    /// Messages that were shown before this owner began have left `new` already.
    pub(crate) fn shown_by_predecessor(&mut self) {
        let shown = |(id, view): (MailboxId, &std::sync::Arc<crate::snapshot::MailboxView>)| {
            (id, view.recent.load(Ordering::Acquire))
        };
        self.timers.shown_to = self.image.building.views().map(shown).collect();
    }

    fn write_names(&mut self, now: Now, most: usize, delay_us: u64) {
        let due = |changed: u64| changed.saturating_add(delay_us) <= now.unix_us;
        let behind = self.image.dues.behind.iter();
        let due: Vec<EntryId> = behind
            .filter(|(_, behind)| behind.unwritten && due(behind.changed_unix_us))
            .map(|(entry, _)| *entry)
            .take(most)
            .collect();
        for entry in due {
            let written = match self.image.shown(entry) {
                // Placing writes the name.
                Some(_) if self.image.dues.place.contains_key(&entry) => continue,
                Some((mailbox, message)) => {
                    let base = std::sync::Arc::clone(&message.base);
                    self.with_flags(entry, |owner, flags| {
                        owner.setup.format.write_flags(mailbox, &base, flags)
                    })
                }
                None => Ok(()),
            };
            match written {
                Err(error) if !error.is_not_found() => {
                    tracing::warn!(account = %self.setup.account, %error, "flags are late in a file's name");
                    return;
                }
                // A file that is gone has no name to be written: the next look finds out.
                Ok(()) | Err(_) => self.name_is_written(entry),
            }
        }
    }

    /// What the name showed before is remembered until the new one is durable: a power cut can bring it back.
    fn name_is_written(&mut self, entry: EntryId) {
        if let Some((mailbox, _)) = self.image.shown(entry) {
            self.image.dues.unsynced.insert(mailbox);
        }
        if let Some(behind) = self.image.dues.behind.get_mut(&entry) {
            behind.unwritten = false;
        }
    }

    /// Whoever starts from the checkpoint does not look for bytes that a crash put back.
    pub(crate) fn sync_placed(&mut self, now: Now) -> nfs_compat::Result<()> {
        let wanted: BTreeSet<_> = self.wanted().into_iter().map(|(id, _)| id).collect();
        let unsynced: Vec<_> = self.image.dues.unsynced.intersection(&wanted).copied().collect();
        self.setup.format.sync_placed(&unsynced).inspect_err(|error| self.note_missing(error))?;
        self.image.dues.unsynced.clear();
        let late = now.unix_us.saturating_sub(LATE_US);
        self.image.dues.names_are_durable(self.is_shared().then_some(late));
        Ok(())
    }

    fn write_lists(&mut self) -> nfs_compat::Result<()> {
        let wanted: BTreeSet<_> = self.wanted().into_iter().map(|(id, _)| id).collect();
        let stale: Vec<_> = self.image.dues.lists.iter().copied().collect();
        for id in stale {
            if wanted.contains(&id)
                && let Some(view) = self.image.building.view(&self.image.state, id)
            {
                let uids = view
                    .iter()
                    .map(|message| (message.uid.get(), message.base.clone(), message.uidl.clone()));
                let lists = Lists {
                    uid_validity: view.uid_validity.get(),
                    uid_next: view.uid_next.get(),
                    uids: uids.collect(),
                };
                self.setup.format.write_lists(id, &lists)?;
            }
            self.image.dues.lists.remove(&id);
        }
        if self.image.dues.subscriptions {
            let names: Vec<_> = self.snapshot.subscriptions.iter().cloned().collect();
            self.setup.format.write_subscriptions(&names)?;
            self.image.dues.subscriptions = false;
        }
        Ok(())
    }

    fn sweep(&mut self, now: Now) {
        self.timers.swept_unix_us = Some(now.unix_us);
        let before = Now { unix_us: now.unix_us.saturating_sub(HOLD_US) }.unix_s();
        let state = &self.image.state;
        let views = self.image.building.views().flat_map(|(_, view)| view.iter());
        let foreign: HashSet<&str> =
            views.map(|message| &*message.base).filter(|base| entry_in(base).is_none()).collect();
        let is_live = |base: &str| match entry_in(base) {
            Some(entry) => state.place_of(entry).is_some(),
            None => foreign.contains(base),
        };
        if let Err(error) = self.setup.format.sweep(before, self.setup.tenure.epoch, &is_live) {
            tracing::warn!(account = %self.setup.account, %error, "old files stay");
        }
    }
}

/// Checkpoints.
impl Owner {
    pub(crate) fn checkpoint(&mut self, now: Now) -> Result<(), String> {
        if !self.image.dues.is_placed() {
            return Err("messages are still to be put in their place".to_owned());
        }
        self.sync_placed(now).map_err(|error| error.to_string())?;
        // One site: what it has applied is stable (R-GC1).
        let version = self.image.state.version().clone();
        self.image.state.forget_removed(&version);
        let payload = self.image.encode()?;
        match self.log.checkpoint(&payload) {
            Ok(()) => {
                let orphans_before = SystemTime::UNIX_EPOCH + Duration::from_micros(now.unix_us);
                self.log.trim(orphans_before.checked_sub(ORPHANS_KEPT).unwrap_or(SystemTime::UNIX_EPOCH));
                Ok(())
            }
            Err(CheckpointFailure::Kept(what)) => Err(what),
            Err(CheckpointFailure::Broken(failure)) => {
                self.give_up(&failure);
                Err(failure.to_string())
            }
        }
    }

    /// Tells the operator what was found or could not be done.
    pub(crate) fn report(&mut self, what: &str, detail: &str) {
        let Owner { setup, healed, .. } = self;
        tracing::warn!(account = %setup.account, user = setup.user, detail, "{what}");
        healed.push(format!("{what}: {detail}"));
    }

    /// A failure that ends the owner, outside of any request.
    pub(crate) fn end(&mut self, failure: &Failure) {
        tracing::error!(account = %self.setup.account, user = self.setup.user, %failure, "owner ends");
        self.give_up(failure);
    }
}
