//! The selected mailbox as this session's client knows it.
//!
//! Invariants
//! - `held` is what the client has been told: a sequence number is a rank in it, whatever the mailbox looks like by now.
//! - A message is `\Recent` in one session at most, unless mailboxes are only examined (RFC 3501 §2.3.2).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use account::{MailboxView, Snapshot};
use codec::imap::SequenceSet;
use codec::imap::set::Bound;
use model::{Keyword, MailboxName, ModSeq, Uid};

/// Messages whose flags were told out of order; beyond, telling some twice is cheaper.
const TOLD_MAX: usize = 10_000;
/// Runs of `\Recent` messages a session remembers. The oldest lose their `\Recent` first.
const RECENT_RUNS_MAX: usize = 64;

pub(super) struct Selected {
    pub(super) name: MailboxName,
    pub(super) held: Arc<MailboxView>,
    pub(super) read_only: bool,
    pub(super) recent: Recent,
    /// Flags that a STORE or FETCH has told already, from a view newer than `held`.
    told: BTreeMap<Uid, ModSeq>,
    /// Keywords that FLAGS has announced.
    keywords: BTreeSet<Keyword>,
}

impl Selected {
    pub(super) fn new(name: MailboxName, view: Arc<MailboxView>, read_only: bool) -> Self {
        let mut selected = Self {
            name,
            read_only,
            recent: Recent::default(),
            told: BTreeMap::new(),
            keywords: BTreeSet::new(),
            held: Arc::clone(&view),
        };
        selected.recent.take(&view, read_only, 0);
        selected.learn_keywords(view.iter().filter_map(|message| message.keywords.as_deref()).flatten());
        selected
    }

    /// A mailbox of which the client was told at another node.
    pub(super) fn known(
        name: MailboxName,
        held: Arc<MailboxView>,
        read_only: bool,
        recent: Recent,
        told: BTreeMap<Uid, ModSeq>,
        keywords: BTreeSet<Keyword>,
    ) -> Self {
        Self { name, held, read_only, recent, told, keywords }
    }

    /// The mailbox as it is in `snapshot`, and its name there; `None` when it was deleted or numbered anew.
    pub(super) fn find<'a>(&self, snapshot: &'a Snapshot) -> Option<(&'a MailboxName, &'a Arc<MailboxView>)> {
        let (name, entry) = match snapshot.mailboxes.get_key_value(&self.name) {
            Some((name, entry)) if entry.view.as_ref().is_some_and(|view| view.id == self.held.id) => {
                (name, entry)
            }
            Some(_) | None => snapshot.by_id(self.held.id)?,
        };
        let view = entry.view.as_ref()?;
        (view.uid_validity == self.held.uid_validity).then_some((name, view))
    }

    /// Takes note of keywords in use and says whether one is new to the client.
    pub(super) fn learn_keywords<'a>(&mut self, keywords: impl IntoIterator<Item = &'a Keyword>) -> bool {
        let mut news = false;
        let mut last: Option<&Keyword> = None;
        for keyword in keywords {
            if last == Some(keyword) {
                continue;
            }
            last = Some(keyword);
            if !self.keywords.contains(keyword) {
                self.keywords.insert(keyword.clone());
                news = true;
            }
        }
        news
    }

    pub(super) fn keywords(&self) -> impl Iterator<Item = &Keyword> {
        self.keywords.iter()
    }

    /// The client has been told this message's flags as of `modseq`.
    pub(super) fn tell(&mut self, uid: Uid, modseq: ModSeq) {
        if self.told.len() >= TOLD_MAX {
            self.told.clear();
        }
        self.told.insert(uid, modseq);
    }

    pub(super) fn was_told(&self, uid: Uid, modseq: ModSeq) -> bool {
        self.told.get(&uid) == Some(&modseq)
    }

    /// Messages whose flags the client was told as of a mod-sequence after this one.
    pub(super) fn told_since(&self, modseq: ModSeq) -> impl Iterator<Item = (Uid, ModSeq)> + '_ {
        self.told.iter().filter(move |(_, told)| **told > modseq).map(|(uid, told)| (*uid, *told))
    }

    /// From now on the client knows `view`.
    pub(super) fn hold(&mut self, view: Arc<MailboxView>) {
        self.held = view;
        self.told = BTreeMap::new();
    }
}

/// The messages that are `\Recent` here: runs of UIDs, first and last, ascending.
#[derive(Clone, Debug, Default)]
pub(super) struct Recent(Vec<(u32, u32)>);

impl Recent {
    /// Adds what came up to `view` and no other session was told. `known`: the greatest UID that this session has
    /// seen.
    pub(super) fn take(&mut self, view: &MailboxView, read_only: bool, known: u32) {
        // "If it is not possible to determine whether or not this session is the first session to be notified about
        // a message, then that message SHOULD be considered recent" (RFC 3501 §2.3.2); here it is possible.
        let taken = if read_only { view.recent.load(Ordering::Acquire) } else { view.claim_recent() };
        let first = taken.max(known).saturating_add(1);
        let last = view.uid_next.get() - 1;
        if first > last {
            return;
        }
        match self.0.last_mut() {
            Some((_, before)) if *before + 1 == first => *before = last,
            Some(_) | None => self.0.push((first, last)),
        }
        if self.0.len() > RECENT_RUNS_MAX {
            self.0.remove(0);
        }
    }

    /// Runs as another node knew them; `None` if there are more than there can be.
    pub(super) fn from_runs(runs: Vec<(u32, u32)>) -> Option<Self> {
        (runs.len() <= RECENT_RUNS_MAX).then_some(Self(runs))
    }

    pub(super) fn contains(&self, uid: Uid) -> bool {
        let at = self.0.partition_point(|(_, last)| *last < uid.get());
        self.0.get(at).is_some_and(|(first, _)| *first <= uid.get())
    }

    pub(super) fn runs(&self) -> impl Iterator<Item = (Uid, Uid)> + '_ {
        self.0.iter().filter_map(|(first, last)| Some((Uid::new(*first)?, Uid::new(*last)?)))
    }

    pub(super) fn count(&self, view: &MailboxView) -> u32 {
        self.runs().map(|(first, last)| rank_above(view, last.get()) - rank_at_least(view, first.get())).sum()
    }
}

/// Rank of the first message with a UID of at least this.
fn rank_at_least(view: &MailboxView, uid: u32) -> u32 {
    Uid::new(uid).map_or(0, |uid| view.rank_of(uid).unwrap_or_else(|next| next))
}

/// Rank of the first message with a UID above this.
pub(super) fn rank_above(view: &MailboxView, uid: u32) -> u32 {
    uid.checked_add(1).map_or(view.len(), |next| rank_at_least(view, next))
}

/// A sequence number that names no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NoSuchMessage;

/// The ranks in `view` that a set chooses, ascending and disjoint. UIDs without a message choose nothing (RFC 3501
/// §6.4.8); a sequence number without one is the client's mistake, but for `*` in an empty mailbox and for the lower
/// end of `n:*`, which clients send to hear what is new.
pub(super) fn ranks(
    set: &SequenceSet,
    uid: bool,
    view: &MailboxView,
) -> Result<Vec<Range<u32>>, NoSuchMessage> {
    let mut chosen: Vec<Range<u32>> = Vec::new();
    let mut add = |range: Range<u32>| match chosen.last_mut() {
        _ if range.is_empty() => {}
        Some(before) if before.end == range.start => before.end = range.end,
        Some(_) | None => chosen.push(range),
    };
    if uid {
        let greatest =
            view.len().checked_sub(1).and_then(|rank| view.get(rank)).map_or(0, |last| last.uid.get());
        for range in set.resolve(greatest) {
            add(rank_at_least(view, *range.start())..rank_above(view, *range.end()));
        }
        return Ok(chosen);
    }
    let beyond = |bound: Bound| matches!(bound, Bound::Number(number) if number > view.len());
    let wrong = |(first, last): &(Bound, Bound)| {
        let star = *first == Bound::Star || *last == Bound::Star;
        !star && (beyond(*first) || beyond(*last))
    };
    if set.ranges().iter().any(wrong) {
        return Err(NoSuchMessage);
    }
    for range in set.resolve(view.len()) {
        add((range.start() - 1).min(view.len())..(*range.end()).min(view.len()));
    }
    Ok(chosen)
}

/// UIDs of the messages at these ranks.
pub(super) fn uids(ranks: &[Range<u32>], view: &MailboxView) -> Vec<Uid> {
    let of = |range: &Range<u32>| {
        view.iter_from(range.start).take((range.end - range.start) as usize).map(|message| message.uid)
    };
    ranks.iter().flat_map(of).collect()
}
