//! Files that an owner which was deposed still moved, on a shared volume.
//!
//! Nobody can take a rename back from an owner that stood still in the middle of one and woke up after another was let
//! in. So a name on a shared volume proves nothing but that the bytes are there: where a message belongs, whether it
//! still is one, and which flags it has, the journal says, and its owner brings the files back to that.
//!
//! Invariants
//! - A message is looked for under its base in the hold and in every mailbox before it counts as removed.
//! - It counts as removed only when it was missed for longer than a client of the file server may go by an old listing:
//!   a node that looked at the mailbox before it owned the account may be shown what was there then (J5).
//! - A file of ours whose entry the journal removed is never a message again, wherever and whenever it shows up. Who
//!   puts such a message back gives it another name (L-UN: a name is never used again).
//! - What a name shows that the journal held within [`LATE_US`] is nobody's wish (L-OB1).
//! - Nothing is unlinked or taken out of its mailbox that its mover does not know to be removed: what it knows of the
//!   journal is a beginning of what counts, and removal is final there.

use std::collections::HashSet;
use std::sync::Arc;

use model::{EntryId, Keyword, MailboxId};

use store::format::maildir::made_under;

use crate::append::refused_by_disk;
use crate::door::Refused;
use crate::dues::{Departed, Placing};
use crate::owner::Owner;
use crate::setup::Now;
use crate::snapshot::MessageView;
use crate::tenure::Volume;

/// An owner that was deposed can be late by so much before what it writes can be taken for another program's doing. It
/// begins nothing once its lease is over: this is how long one call of it can take, a suspended machine included.
pub(crate) const LATE_US: u64 = 24 * 60 * 60 * 1_000_000;

/// More than the sixty seconds for which a client of a file server believes what it was told of a directory.
const STALE_VIEW_US: u64 = 65_000_000;

/// Missing files.
impl Owner {
    /// Of these missing messages, leaves those that have been missed for long enough.
    pub(crate) fn keep_long_missed(&mut self, now: Now, id: MailboxId, missing: &mut Vec<MessageView>) {
        if !self.is_shared() {
            return;
        }
        let entries: HashSet<_> = missing.iter().map(|message| message.entry).collect();
        self.missed.retain(|entry, (mailbox, _)| *mailbox != id || entries.contains(entry));
        missing.retain(|message| {
            let (_, first_us) = *self.missed.entry(message.entry).or_insert((id, now.unix_us));
            now.unix_us.saturating_sub(first_us) >= STALE_VIEW_US
        });
    }

    /// Nothing changed since the last look, which may have missed something.
    pub(crate) fn miss_again(&mut self, now: Now, id: MailboxId) -> Result<(), Refused> {
        let is_here = |(_, (mailbox, _)): &(&EntryId, &(MailboxId, u64))| *mailbox == id;
        let here: HashSet<_> = self.missed.iter().filter(is_here).map(|(entry, _)| *entry).collect();
        let view = self.image.building.view(&self.image.state, id).filter(|_| !here.is_empty());
        let Some(view) = view else { return Ok(()) };
        let missing = view.iter().filter(|message| here.contains(&message.entry)).cloned().collect();
        self.observe_missing(now, id, missing)
    }
}

impl Owner {
    pub(crate) fn is_shared(&self) -> bool {
        self.setup.tenure.volume == Volume::Shared
    }

    /// After a call failed: a directory that is not where it should be was moved by somebody who was late.
    pub(crate) fn note_missing(&mut self, error: &nfs_compat::Error) {
        if self.is_shared() && error.is_not_found() {
            self.image.dues.arrange = true;
        }
    }

    /// Tells the store which keywords there are, so that all owners give them the same letters.
    pub(crate) fn tell_keywords(&mut self) {
        let known: Vec<Keyword> = self.image.state.known_keywords().cloned().collect();
        if self.is_shared() && known.len() != self.keywords_told {
            self.keywords_told = known.len();
            self.setup.format.know_keywords(known);
        }
    }

    /// Brings mailbox directories back to where the journal has them.
    pub(crate) fn straighten(&mut self, now: Now) -> Result<(), Refused> {
        if !self.is_shared() || self.has_pending() {
            return Ok(());
        }
        let found = self.setup.format.mailboxes().map_err(|error| refused_by_disk(&error))?;
        let wanted = self.wanted();
        let is_there = |(id, name): &(MailboxId, model::MailboxName)| {
            found.iter().filter(|found| found.id == Some(*id)).map(|found| &found.name).eq([name])
        };
        let is_left_over = |id: MailboxId| self.is_gone(id) && wanted.iter().all(|(wanted, _)| *wanted != id);
        if !wanted.iter().all(is_there) || found.iter().filter_map(|found| found.id).any(is_left_over) {
            self.image.dues.arrange = true;
            self.carry_out(now);
        }
        Ok(())
    }

    /// Whether the journal says that this mailbox was deleted.
    pub(crate) fn is_gone(&self, id: MailboxId) -> bool {
        self.image.state.mailbox(id).is_some_and(|mailbox| !mailbox.is_live())
    }

    /// Sees to a file in this mailbox that belongs elsewhere, or nowhere. False if it is somebody's message.
    pub(crate) fn is_astray(
        &mut self,
        now: Now,
        id: MailboxId,
        base: &Arc<str>,
        own: Option<EntryId>,
    ) -> Result<bool, Refused> {
        if !self.is_shared() {
            return Ok(false);
        }
        if let Some((entry, home)) = self.home_of(id, base, own) {
            let has = self.setup.format.has(home, base).map_err(|error| refused_by_disk(&error))?;
            if !has {
                self.bring_back(entry, home, base, vec![id]);
            }
            return Ok(!has);
        }
        // What a later epoch made we know nothing of: then it is we who are late.
        let is_known = made_under(base).is_none_or(|epoch| epoch <= self.setup.tenure.epoch);
        let is_removed = |entry: EntryId| {
            let state = &self.image.state;
            is_known && state.place_of(entry).is_none() && state.version().covers(entry.creation())
        };
        if own.is_some_and(is_removed) {
            self.retire_again(now, Departed { mailbox: id, base: Arc::clone(base) });
            return Ok(true);
        }
        Ok(false)
    }

    /// The message with this base in another mailbox.
    fn home_of(&self, not: MailboxId, base: &Arc<str>, own: Option<EntryId>) -> Option<(EntryId, MailboxId)> {
        let image = &self.image;
        if let Some(entry) = own {
            let (home, message) = image.shown(entry)?;
            return (home != not && message.base == *base).then_some((entry, home));
        }
        image.building.views().filter(|(id, _)| *id != not).find_map(|(id, view)| {
            view.iter().find(|message| message.base == *base).map(|message| (message.entry, id))
        })
    }

    fn bring_back(&mut self, entry: EntryId, mailbox: MailboxId, base: &Arc<str>, from: Vec<MailboxId>) {
        tracing::info!(account = %self.setup.account, %base, "message lies elsewhere and is brought back");
        let base = Arc::clone(base);
        self.image.dues.place.insert(entry, Placing { mailbox, base, from, attempts: 0 });
    }

    /// Takes out what was removed and shows up again.
    pub(crate) fn retire_again(&mut self, now: Now, departed: Departed) {
        self.image.dues.unsynced.insert(departed.mailbox);
        if let Err(error) = self.setup.format.retire(departed.mailbox, &departed.base, now.unix_s()) {
            tracing::warn!(account = %self.setup.account, %error, "removed message is back in its place");
            self.image.dues.retire.push(departed);
        }
    }

    /// Finds messages that are missing in this mailbox and lie in another, and drops them from the list.
    pub(crate) fn bring_back_strays(
        &mut self,
        id: MailboxId,
        missing: &mut Vec<MessageView>,
    ) -> nfs_compat::Result<()> {
        if !self.is_shared() {
            return Ok(());
        }
        let format = Arc::clone(&self.setup.format);
        for (other, _) in self.wanted() {
            if missing.is_empty() {
                break;
            }
            if other == id {
                continue;
            }
            let there: HashSet<_> = format.list(other)?.into_iter().collect();
            let found: Vec<_> =
                missing.iter().filter(|message| there.contains(&message.base)).cloned().collect();
            for message in found {
                // What another message is called is that message's.
                let theirs = self.image.building.view(&self.image.state, other);
                if theirs.is_some_and(|view| view.iter().any(|their| their.base == message.base)) {
                    continue;
                }
                self.bring_back(message.entry, id, &message.base, vec![other]);
                missing.retain(|other| other.entry != message.entry);
            }
        }
        Ok(())
    }
}
