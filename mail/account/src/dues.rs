//! What the disk owes to the journal: bytes to be placed or retired, names to be written, lists to be renewed.
//!
//! All of it can be late without anything being lost, and all of it is known again after a crash: it is derived from
//! records, the same way when they are made and when they are replayed.
//!
//! Invariants
//! - Nothing is carried out before the record that asks for it is witnessed (L-OB1).
//! - What was renamed and not made durable since can be undone by a power cut: its mailboxes stand in `unsynced` until
//!   they were synced, and a checkpoint syncs them first. Everything that an owner before us renamed since its last
//!   checkpoint counts as unsynced.
//! - What tells our own undone renames from a user's wish is forgotten only when it can no longer be needed: flags that
//!   a name showed (`Behind::former`) when the name is durable, messages that left (`departed`) when every mailbox was
//!   looked at and synced. Until then checkpoints keep it.
//! - For every message whose public name may show flags that the journal has left behind, those flags are known here,
//!   so that they are never taken for a user's wish (L-OB1).

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::sync::Arc;

use model::{AccountState, EntryId, Epoch, Keyword, MailboxId, ModSeq, Stamp, SystemFlags, Uid};
use serde::{Deserialize, Serialize};

use crate::snapshot::MessageView;

/// Different flag states remembered for one message. Beyond, the one left longest ago is forgotten.
const FORMER_MAX: usize = 32;
/// Messages under other programs' names that are remembered after they left.
const DEPARTED_MAX: usize = 10_000;

/// Flags as a public name shows them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FlagState {
    pub(crate) system: SystemFlags,
    pub(crate) keywords: Vec<Keyword>,
}

impl FlagState {
    pub(crate) fn of(message: &MessageView) -> Self {
        let keywords = message.keywords.as_ref().map_or_else(Vec::new, |keywords| keywords.to_vec());
        Self { system: message.flags, keywords }
    }

    /// Whether a name that shows `self` may stand for these flags: it has no letters for some keywords.
    pub(crate) fn may_show(&self, flags: &Self) -> bool {
        self.system == flags.system && self.keywords.iter().all(|keyword| flags.keywords.contains(keyword))
    }
}

/// A message whose public name is, or may be, behind the journal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Behind {
    /// Flags that the journal held before, with the epoch in which it left them.
    pub(crate) former: Vec<(Epoch, FlagState)>,
    /// The name is still to be written.
    pub(crate) unwritten: bool,
    /// Time of the last change, from its stamp.
    pub(crate) changed_unix_us: u64,
}

/// Bytes to be moved to where readers look.
#[derive(Clone, Debug)]
pub(crate) struct Placing {
    pub(crate) mailbox: MailboxId,
    pub(crate) base: Arc<str>,
    /// Where else they can lie: mailboxes that they were moved out of, the first one first. Each move of theirs may have
    /// been carried out, and undone by a power cut.
    pub(crate) from: Vec<MailboxId>,
    /// How often it was tried.
    pub(crate) attempts: u8,
}

impl Placing {
    /// Where the bytes lie if they were never brought to their mailbox, and now need not be.
    pub(crate) fn left_behind(&self) -> impl Iterator<Item = Departed> {
        self.from.iter().map(|mailbox| Departed { mailbox: *mailbox, base: Arc::clone(&self.base) })
    }
}

/// A message that left.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Departed {
    pub(crate) mailbox: MailboxId,
    pub(crate) base: Arc<str>,
}

pub(crate) struct Dues {
    /// The epoch that new entries are noted under.
    pub(crate) epoch: Epoch,
    /// Directories may not agree with the mailboxes.
    pub(crate) arrange: bool,
    pub(crate) place: BTreeMap<EntryId, Placing>,
    pub(crate) retire: Vec<Departed>,
    /// What owners before us retired, or were about to. A crash can have put it back; whatever else shows up under a
    /// name that was in use before is somebody's doing.
    pub(crate) departed: HashSet<Departed>,
    /// When the last of them was noted.
    pub(crate) departed_unix_us: u64,
    /// Mailboxes that were looked at since the start.
    pub(crate) looked: BTreeSet<MailboxId>,
    /// Flags that the journal left before this epoch nobody else can still write (L-OB1).
    pub(crate) oldest: Epoch,
    pub(crate) behind: BTreeMap<EntryId, Behind>,
    /// Mailboxes whose lists for neighbours are out of date.
    pub(crate) lists: BTreeSet<MailboxId>,
    pub(crate) subscriptions: bool,
    /// Mailboxes where files were renamed since their names were last made durable.
    pub(crate) unsynced: BTreeSet<MailboxId>,
}

/// What a checkpoint keeps of the dues.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct KeptDues {
    behind: BTreeMap<EntryId, Behind>,
    lists: BTreeSet<MailboxId>,
    subscriptions: bool,
    departed: Vec<Departed>,
}

impl Default for Dues {
    fn default() -> Self {
        Self {
            epoch: Epoch::from_u64(0),
            arrange: false,
            place: BTreeMap::new(),
            retire: Vec::new(),
            departed: HashSet::new(),
            departed_unix_us: 0,
            looked: BTreeSet::new(),
            oldest: Epoch::from_u64(0),
            behind: BTreeMap::new(),
            lists: BTreeSet::new(),
            subscriptions: false,
            unsynced: BTreeSet::new(),
        }
    }
}

impl Dues {
    pub(crate) fn load(kept: KeptDues) -> Self {
        let KeptDues { behind, lists, subscriptions, departed } = kept;
        Self { behind, lists, subscriptions, departed: departed.into_iter().collect(), ..Self::default() }
    }

    pub(crate) fn keep(&self) -> KeptDues {
        let (lists, subscriptions) = (self.lists.clone(), self.subscriptions);
        let departed = self.departed.iter().cloned().collect();
        KeptDues { behind: self.behind.clone(), lists, subscriptions, departed }
    }

    /// A message looks different from before: `old` is how it looked.
    pub(crate) fn flags_changed(&mut self, entry: EntryId, old: &MessageView, modseq: ModSeq) {
        let behind = self.behind.entry(entry).or_insert_with(|| Behind {
            former: Vec::new(),
            unwritten: true,
            changed_unix_us: 0,
        });
        behind.unwritten = true;
        behind.changed_unix_us = Stamp::from_u64(modseq.0).unix_ms() * 1000;
        let left = FlagState::of(old);
        behind.former.retain(|(_, former)| *former != left);
        behind.former.push((self.epoch, left));
        if behind.former.len() > FORMER_MAX {
            behind.former.remove(0);
        }
    }

    /// A message appeared, moved, was renumbered or left.
    pub(crate) fn entry_changed(
        &mut self,
        state: &AccountState,
        entry: EntryId,
        before: Option<(MailboxId, &MessageView)>,
        after: Option<(MailboxId, Uid)>,
    ) {
        self.lists.extend(before.map(|(mailbox, _)| mailbox));
        self.lists.extend(after.map(|(mailbox, _)| mailbox));
        match (before, after) {
            (Some((from, _)), Some((to, _))) if from == to => {}
            (before, Some((mailbox, _))) => {
                let Some(known) = state.entry(entry) else { return };
                // Not yet placed where it was: then it still is where it was before that, or on that stage.
                let mut from = self.place.remove(&entry).map_or_else(Vec::new, |placing| placing.from);
                from.extend(before.map(|(from, _)| from).filter(|came_from| !from.contains(came_from)));
                let base = Arc::clone(&known.header().base);
                self.place.insert(entry, Placing { mailbox, base, from, attempts: 0 });
            }
            (Some((mailbox, old)), None) => {
                // A twin of the same delivery is only hidden: its bytes stay (V7).
                if state.place_of(entry).is_none() {
                    self.behind.remove(&entry);
                    // Moved and not yet placed, they still are where they were.
                    if let Some(placing) = self.place.remove(&entry) {
                        self.retire.extend(placing.left_behind().filter(|left| left.mailbox != mailbox));
                    }
                    self.retire.push(Departed { mailbox, base: Arc::clone(&old.base) });
                }
            }
            (None, None) => {}
        }
    }

    /// Whether the journal held these flags for the message, so that a public name which shows them is only late.
    pub(crate) fn was_ours(&self, entry: EntryId, seen: &FlagState) -> bool {
        self.behind
            .get(&entry)
            .is_some_and(|behind| behind.former.iter().any(|(_, former)| seen.may_show(former)))
    }

    /// Asks for the public name to be written.
    pub(crate) fn write_name(&mut self, entry: EntryId) {
        let behind = Behind { former: Vec::new(), unwritten: true, changed_unix_us: 0 };
        self.behind.entry(entry).or_insert(behind).unwritten = true;
    }

    /// After a start: what the last owner retired is looked for when its mailbox is. Retiring all of it a second time
    /// would cost a listing each. Returns whether it may have left renames that a power cut undoes.
    pub(crate) fn take_over(&mut self, oldest: Epoch, now_unix_us: u64) -> bool {
        self.oldest = oldest;
        self.departed_unix_us = now_unix_us;
        self.departed.extend(std::mem::take(&mut self.retire));
        !(self.departed.is_empty() && self.behind.is_empty() && self.place.is_empty())
    }

    /// After a start: what was moved into a mailbox that is gone can lie where it was before.
    pub(crate) fn give_up_placing(&mut self, wanted: &BTreeSet<MailboxId>) {
        self.place.retain(|_, placing| {
            let is_wanted = wanted.contains(&placing.mailbox);
            if !is_wanted {
                self.departed.extend(placing.left_behind());
            }
            is_wanted
        });
    }

    /// Whether a file that no message is known for is one that we retired and a crash put back: where it was, or, under
    /// a name of our own, in a mailbox that it was moved out of before. What shows up in a mailbox after the first look
    /// at it was not there when the crash was over: somebody put it there.
    /// On a shared volume an owner that was deposed can put it anywhere, and at any time.
    pub(crate) fn has_departed(&self, mailbox: MailboxId, base: &str, own: bool, shared: bool) -> bool {
        let is_it = |gone: &Departed| &*gone.base == base && (own || shared || gone.mailbox == mailbox);
        (shared || !self.looked.contains(&mailbox)) && self.departed.iter().any(is_it)
    }

    /// Remembers one that left under another program's name, for as long as somebody can be late with it.
    pub(crate) fn note_departed(&mut self, departed: Departed, now_unix_us: u64) {
        if self.departed.len() < DEPARTED_MAX {
            self.departed_unix_us = now_unix_us;
            self.departed.insert(departed);
        }
    }

    /// After all names were made durable: no crash brings an older state back, so only somebody else's late write can
    /// (L-OB1), of what changed after `late_unix_us`; and nobody's at all on a private volume (`None`).
    pub(crate) fn names_are_durable(&mut self, late_unix_us: Option<u64>) {
        let oldest = self.oldest;
        self.behind.retain(|_, behind| {
            let is_recent = late_unix_us.is_some_and(|late| behind.changed_unix_us >= late);
            let can_come_back = |epoch: Epoch| is_recent || (late_unix_us.is_some() && epoch >= oldest);
            behind.former.retain(|(epoch, _)| behind.unwritten || can_come_back(*epoch));
            behind.unwritten || !behind.former.is_empty()
        });
    }

    /// Whether the journal asks for nothing that a crash could make us forget.
    pub(crate) fn is_placed(&self) -> bool {
        self.place.is_empty() && self.retire.is_empty() && !self.arrange
    }
}
