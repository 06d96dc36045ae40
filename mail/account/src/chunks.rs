//! How the messages of a view are changed: by copying the chunks that a change touches, and no other.
//!
//! Invariants
//! - Chunks ascend by UID, none is empty, none holds more than [`CHUNK_MESSAGES_MAX`].
//! - A chunk that no edit falls into is the same allocation before and after.
//! - What a mailbox remembers of expunged messages is bounded by [`VANISHED_MAX`]; older knowledge is given up whole
//!   chunks at a time, and [`Vanished::forgotten_to`](crate::snapshot::Vanished) says so.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::{ModSeq, SystemFlag, Uid};

use crate::snapshot::{CHUNK_MESSAGES_MAX, MessageView, Messages, Vanished};

/// Expunged UIDs that one mailbox remembers one by one. Beyond, a client that was away for so long is told everything
/// that is there (RFC 7162 §3.2.5.1 allows it).
pub const VANISHED_MAX: usize = 65_536;
const VANISHED_CHUNK: usize = 1024;
/// A chunk that an edit left smaller than this is joined to its neighbour, if they fit.
const CHUNK_MESSAGES_LOW: usize = CHUNK_MESSAGES_MAX / 4;

/// What becomes of UIDs: the message as it looks now, or nothing.
pub(crate) type Edits = BTreeMap<Uid, Option<MessageView>>;

impl Messages {
    /// All messages of a mailbox, ascending by UID.
    pub(crate) fn from_ascending(messages: Vec<MessageView>) -> Self {
        let mut all = Self::default();
        for piece in messages.chunks(CHUNK_MESSAGES_MAX) {
            all.chunks.push(piece.into());
        }
        all.renumber();
        all
    }

    pub(crate) fn by_uid(&self, uid: Uid) -> Option<&MessageView> {
        let at = self.chunks.partition_point(|chunk| chunk.last().is_some_and(|last| last.uid < uid));
        let chunk = self.chunks.get(at)?;
        let within = chunk.binary_search_by_key(&uid, |message| message.uid).ok()?;
        chunk.get(within)
    }

    /// These messages with the edits made.
    pub(crate) fn edited(&self, edits: Edits) -> Self {
        let mut edits = edits.into_iter().peekable();
        let mut next =
            Self { chunks: Vec::with_capacity(self.chunks.len() + 1), ranks: Vec::new(), count: 0 };
        for chunk in &self.chunks {
            let last = chunk.last().map(|message| message.uid);
            let mut mine = Vec::new();
            while edits.peek().is_some_and(|(uid, _)| Some(*uid) <= last) {
                mine.extend(edits.next());
            }
            if mine.is_empty() {
                next.chunks.push(Arc::clone(chunk));
            } else {
                next.push(merge(chunk, mine));
            }
        }
        next.extend(edits.filter_map(|(_, message)| message).collect());
        next.renumber();
        next
    }

    /// Adds messages behind all others: into the last chunk while it has room, then into new ones.
    fn extend(&mut self, added: Vec<MessageView>) {
        if added.is_empty() {
            return;
        }
        let roomy = self.chunks.last().is_some_and(|last| last.len() < CHUNK_MESSAGES_MAX);
        let mut messages: Vec<_> = match self.chunks.pop_if(|_| roomy) {
            Some(last) => last.to_vec(),
            None => Vec::new(),
        };
        messages.extend(added);
        for piece in messages.chunks(CHUNK_MESSAGES_MAX) {
            self.chunks.push(piece.into());
        }
    }

    /// Adds an edited chunk, joined to the one before if it became small, in pieces if it became large.
    fn push(&mut self, mut messages: Vec<MessageView>) {
        let fits = |before: &Arc<[MessageView]>| before.len() + messages.len() <= CHUNK_MESSAGES_MAX;
        if messages.len() < CHUNK_MESSAGES_LOW
            && !messages.is_empty()
            && self.chunks.last().is_some_and(fits)
            && let Some(before) = self.chunks.pop()
        {
            let mut joined = before.to_vec();
            joined.append(&mut messages);
            messages = joined;
        }
        let pieces = messages.len().div_ceil(CHUNK_MESSAGES_MAX).max(1);
        for piece in messages.chunks(messages.len().div_ceil(pieces).max(1)) {
            self.chunks.push(piece.into());
        }
    }

    fn renumber(&mut self) {
        let mut rank = 0;
        self.ranks.clear();
        for chunk in &self.chunks {
            self.ranks.push(rank);
            rank += chunk.len() as u32;
        }
        self.count = rank;
    }
}

/// One chunk with the edits that fall into it, both ascending by UID.
fn merge(chunk: &[MessageView], edits: Vec<(Uid, Option<MessageView>)>) -> Vec<MessageView> {
    let mut merged = Vec::with_capacity(chunk.len() + edits.len());
    let mut old = chunk.iter().peekable();
    for (uid, message) in edits {
        while let Some(before) = old.next_if(|before| before.uid < uid) {
            merged.push(before.clone());
        }
        old.next_if(|same| same.uid == uid);
        merged.extend(message);
    }
    merged.extend(old.cloned());
    merged
}

impl Vanished {
    pub(crate) fn new(forgotten_to: ModSeq, known: Vec<(ModSeq, Uid)>) -> Self {
        let mut vanished = Self { forgotten_to, chunks: Vec::new() };
        vanished.extend(known);
        vanished
    }

    /// Takes in what was expunged, ascending by modseq, and after all that was known.
    pub(crate) fn extend(&mut self, expunged: Vec<(ModSeq, Uid)>) {
        let mut expunged = expunged.into_iter().peekable();
        while expunged.peek().is_some() {
            let roomy = self.chunks.last().is_some_and(|last| last.len() < VANISHED_CHUNK);
            if !roomy {
                self.chunks.push(Arc::new(Vec::new()));
            }
            if let Some(last) = self.chunks.last_mut() {
                let room = VANISHED_CHUNK - last.len();
                Arc::make_mut(last).extend(expunged.by_ref().take(room));
            }
        }
        while self.chunks.len() > VANISHED_MAX / VANISHED_CHUNK {
            let forgotten = self.chunks.remove(0);
            self.forgotten_to = forgotten.last().map_or(self.forgotten_to, |(modseq, _)| *modseq);
        }
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (ModSeq, Uid)> + '_ {
        self.chunks.iter().flat_map(|chunk| chunk.iter().copied())
    }
}

/// Whether a message counts into `UNSEEN`.
pub(crate) fn is_unseen(message: &MessageView) -> bool {
    !message.flags.contains(SystemFlag::Seen)
}

#[cfg(test)]
mod tests {
    use model::{ContentId, EntryId, MessageId, SystemFlags};
    use proptest::prelude::*;

    use super::*;

    fn message(uid: u32, modseq: u64) -> MessageView {
        MessageView {
            uid: Uid::new(uid).unwrap(),
            flags: SystemFlags::NONE,
            keywords: None,
            modseq: ModSeq(modseq),
            internal_date: 0,
            save_date: 0,
            wire_size: 1,
            size: 1,
            entry: EntryId::from_bytes([0; 16]),
            message: MessageId::from_bytes([0; 16]),
            content: ContentId::of(b""),
            base: "base".into(),
            uidl: None,
        }
    }

    fn shared(a: &Messages, b: &Messages) -> usize {
        a.chunks.iter().filter(|chunk| b.chunks.iter().any(|other| Arc::ptr_eq(chunk, other))).count()
    }

    #[test]
    fn one_flag_among_a_hundred_thousand_messages_copies_one_chunk() {
        let before = Messages::from_ascending((1..=100_000).map(|uid| message(uid, 1)).collect());
        let uid = Uid::new(50_000).unwrap();
        let after = before.edited(Edits::from([(uid, Some(message(50_000, 2)))]));
        assert_eq!(after.count, 100_000);
        assert_eq!(after.by_uid(uid).map(|message| message.modseq), Some(ModSeq(2)));
        assert_eq!(shared(&before, &after), before.chunks.len() - 1);
    }

    #[test]
    fn a_full_last_chunk_is_shared_when_mail_arrives() {
        let full = CHUNK_MESSAGES_MAX as u32;
        let before = Messages::from_ascending((1..=full).map(|uid| message(uid, 1)).collect());
        let after = before.edited(Edits::from([(Uid::new(full + 1).unwrap(), Some(message(full + 1, 2)))]));
        assert_eq!(shared(&before, &after), 1);
        assert_eq!(after.count, full + 1);
    }

    #[test]
    fn what_vanished_long_ago_is_forgotten_and_the_mailbox_says_so() {
        let mut vanished = Vanished::default();
        let all = u64::try_from(VANISHED_MAX + 10).unwrap();
        vanished.extend((1..=all).map(|at| (ModSeq(at), Uid::new(at as u32).unwrap())).collect());
        assert!(vanished.iter().count() <= VANISHED_MAX);
        assert_eq!(vanished.forgotten_to, ModSeq(1024));
        assert_eq!(vanished.iter().next().map(|(at, _)| at), Some(ModSeq(1025)));
    }

    proptest! {
        #[test]
        fn edited_chunks_hold_what_a_plain_map_holds(
            rounds in prop::collection::vec(prop::collection::vec((1u32..2000, any::<bool>()), 1..400), 1..8)
        ) {
            let mut plain = BTreeMap::new();
            let mut messages = Messages::default();
            for (round, changes) in rounds.iter().enumerate() {
                let mut edits = Edits::new();
                for (uid, stays) in changes {
                    edits.insert(Uid::new(*uid).unwrap(), stays.then(|| message(*uid, round as u64)));
                }
                for (uid, edit) in &edits {
                    match edit {
                        Some(_) => plain.insert(uid.get(), round as u64),
                        None => plain.remove(&uid.get()),
                    };
                }
                messages = messages.edited(edits);
                let seen: Vec<_> = messages.chunks.iter().flat_map(|chunk| chunk.iter())
                    .map(|message| (message.uid.get(), message.modseq.0)).collect();
                prop_assert_eq!(seen, plain.clone().into_iter().collect::<Vec<_>>());
                prop_assert_eq!(messages.count as usize, plain.len());
                prop_assert!(messages.chunks.iter().all(|c| !c.is_empty() && c.len() <= CHUNK_MESSAGES_MAX));
            }
        }
    }
}
