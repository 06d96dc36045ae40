//! What goes to and fro between processes and the coordination service: lost, late, overtaken, or cut off one way.
//!
//! Invariants
//! - A message arrives once, or never.
//! - Proposals of one process arrive in the order in which they were sent, if they arrive (`locking::client` sees to
//!   it); everything else overtakes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use locking::Record;
use rand::RngExt;
use rand::rngs::StdRng;

/// What a message needs on a good day.
const QUICK_US: std::ops::Range<u64> = 100..3_000;
const SLOW_US: std::ops::Range<u64> = 3_000..4_000_000;

#[derive(Clone, Debug)]
pub enum Message {
    /// By the sender's clock.
    Renew {
        process: u64,
        sent: Duration,
    },
    Renewed {
        process: u64,
        sent: Duration,
        is_live: bool,
    },
    /// A proposal whose sender has given up waiting.
    Proposal {
        process: u64,
        proposal: Proposal,
    },
}

#[derive(Clone, Debug)]
pub enum Proposal {
    Witness(Record),
    /// The bucket goes to whom it is being drained to.
    HandOver(model::Epoch),
}

/// From a process to the service, or back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    Out,
    Back,
}

#[derive(Default)]
pub struct Network {
    /// How many of a hundred messages are lost.
    pub lossy: u32,
    /// How many of a hundred messages are slow.
    pub slow: u32,
    cuts: BTreeSet<(u64, Way)>,
    /// By arrival, and in the order of sending.
    under_way: BTreeMap<(u64, u64), Message>,
    sent: u64,
}

impl Network {
    pub fn cut(&mut self, process: u64, way: Way) {
        self.cuts.insert((process, way));
    }

    pub fn mend(&mut self, process: u64) {
        self.cuts.retain(|(cut, _)| *cut != process);
    }

    pub fn heal(&mut self) {
        (self.lossy, self.slow) = (0, 0);
        self.cuts.clear();
    }

    /// How long a message takes; `None` if it is lost.
    pub fn delay(&self, rng: &mut StdRng, process: u64, way: Way) -> Option<u64> {
        let is_lost = self.lossy > 0 && rng.random_ratio(self.lossy.min(100), 100);
        if is_lost || self.cuts.contains(&(process, way)) {
            return None;
        }
        let is_slow = self.slow > 0 && rng.random_ratio(self.slow.min(100), 100);
        Some(rng.random_range(if is_slow { SLOW_US } else { QUICK_US }))
    }

    pub fn send(&mut self, at_us: u64, message: Message) {
        self.sent += 1;
        self.under_way.insert((at_us, self.sent), message);
    }

    pub fn next_at(&self) -> Option<u64> {
        self.under_way.first_key_value().map(|((at_us, _), _)| *at_us)
    }

    /// The next message that has arrived by now.
    pub fn arrived(&mut self, now_us: u64) -> Option<Message> {
        let first = self.under_way.first_entry().filter(|entry| entry.key().0 <= now_us)?;
        Some(first.remove())
    }

    /// What this process proposed earlier and is still under way. A later proposal has overtaken it on its way, so it
    /// comes before that one now or never.
    pub fn overtaken(&mut self, process: u64) -> Vec<Proposal> {
        let is_it =
            |message: &Message| matches!(message, Message::Proposal { process: by, .. } if *by == process);
        let mut keys: Vec<_> =
            self.under_way.iter().filter(|(_, message)| is_it(message)).map(|(key, _)| *key).collect();
        keys.sort_by_key(|(_, sent)| *sent);
        let proposals = keys.iter().filter_map(|key| self.under_way.remove(key));
        proposals
            .filter_map(
                |message| {
                    if let Message::Proposal { proposal, .. } = message { Some(proposal) } else { None }
                },
            )
            .collect()
    }
}
