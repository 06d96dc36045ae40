//! INBOX as it was at login, and what this session has marked as deleted.
//!
//! Message `n` is the n-th by UID. Deleted messages keep their numbers (RFC 1939 §5).

use std::sync::Arc;

use account::{MailboxView, MessageView};
use model::{MailboxId, Uid};

#[derive(Default)]
pub(super) struct Maildrop {
    /// `None`: not logged in, or there is no INBOX yet, which looks like an empty one.
    view: Option<Arc<MailboxView>>,
    /// A bit a message; empty until the first is deleted.
    deleted: Vec<u64>,
    count_deleted: u32,
    octets: u64,
    octets_deleted: u64,
}

impl Maildrop {
    pub(super) fn new(view: Option<Arc<MailboxView>>) -> Self {
        let octets = view.iter().flat_map(|view| view.iter()).map(|message| message.wire_size).sum();
        Self { view, octets, ..Self::default() }
    }

    pub(super) fn mailbox(&self) -> Option<MailboxId> {
        self.view.as_ref().map(|view| view.id)
    }

    pub(super) fn view(&self) -> Option<&Arc<MailboxView>> {
        self.view.as_ref()
    }

    /// Messages, deleted ones included.
    pub(super) fn len(&self) -> u32 {
        self.view.as_ref().map_or(0, |view| view.len())
    }

    /// Number and octets of messages that are not deleted.
    pub(super) fn left(&self) -> (u32, u64) {
        (self.len() - self.count_deleted, self.octets - self.octets_deleted)
    }

    pub(super) fn is_deleted(&self, rank: u32) -> bool {
        let (word, bit) = place(rank);
        self.deleted.get(word).is_some_and(|bits| bits & bit != 0)
    }

    /// The message of this number, counted from 1; or what to say if it is not there.
    pub(super) fn message(&self, number: u32) -> Result<&MessageView, &'static str> {
        let rank = number.checked_sub(1).ok_or(NO_SUCH_MESSAGE)?;
        let message = self.view.as_ref().and_then(|view| view.get(rank)).ok_or(NO_SUCH_MESSAGE)?;
        if self.is_deleted(rank) { Err("Message is deleted") } else { Ok(message) }
    }

    pub(super) fn delete(&mut self, number: u32) -> Result<(), &'static str> {
        let octets = self.message(number)?.wire_size;
        let (word, bit) = place(number - 1);
        if self.deleted.len() <= word {
            let words = place(self.len()).0 + 1;
            self.deleted.resize(words, 0);
        }
        if let Some(bits) = self.deleted.get_mut(word) {
            *bits |= bit;
            self.count_deleted += 1;
            self.octets_deleted += octets;
        }
        Ok(())
    }

    /// Numbers of the messages that are deleted, as runs.
    pub(super) fn deleted_runs(&self) -> Vec<(u32, u32)> {
        let mut runs: Vec<(u32, u32)> = Vec::new();
        for number in (1..=self.len()).filter(|number| self.is_deleted(number - 1)) {
            match runs.last_mut() {
                Some((_, last)) if *last + 1 == number => *last = number,
                Some(_) | None => runs.push((number, number)),
            }
        }
        runs
    }

    pub(super) fn reset(&mut self) {
        self.deleted = Vec::new();
        self.count_deleted = 0;
        self.octets_deleted = 0;
    }

    /// UIDs of what is to be removed.
    pub(super) fn deleted(&self) -> Vec<Uid> {
        if self.count_deleted == 0 {
            return Vec::new();
        }
        let messages = self.view.iter().flat_map(|view| view.iter());
        (0..)
            .zip(messages)
            .filter(|(rank, _)| self.is_deleted(*rank))
            .map(|(_, message)| message.uid)
            .collect()
    }
}

const NO_SUCH_MESSAGE: &str = "No such message";

/// Where the bit of a message is.
fn place(rank: u32) -> (usize, u64) {
    ((rank / u64::BITS) as usize, 1 << (rank % u64::BITS))
}
