//! What must be true of a history. Each rule in its own file, with histories that break it.
//!
//! Invariants
//! - A checker believes acknowledgements and complete reads, and nothing else.
//! - A checker that can't fail is no checker: each proves on bad histories that it does.

pub mod counters;
pub mod falling;
pub mod flags;
pub mod lock;
pub mod pop3;
pub mod set;
pub mod uid;

#[cfg(test)]
mod histories;

use std::fmt;

use crate::history::{Entry, Op};

/// An entry, by its client and its beginning.
pub type Mark = (u32, u64);

/// A promise broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub account: usize,
    pub what: String,
    /// The entries that show it.
    pub marks: Vec<Mark>,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = if self.rule == "lock" { "bucket" } else { "account" };
        write!(f, "{}: {of} {}: {}", self.rule, self.account, self.what)
    }
}

/// What may become of an operation without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unanswered {
    /// It happened by the next complete read, or never: all there was was killed in between.
    SettledByRead,
    /// It may still happen: a node that was paused or cut off has it.
    MayComeLate,
}

/// Everything that is wrong with a history of a server that dies as a whole.
pub fn check(history: &[Entry]) -> Vec<Violation> {
    check_all(history, Unanswered::SettledByRead)
}

/// Everything that is wrong with a history of several nodes, of which some may know what others don't.
pub fn check_site(history: &[Entry]) -> Vec<Violation> {
    check_all(history, Unanswered::MayComeLate)
}

fn check_all(history: &[Entry], unanswered: Unanswered) -> Vec<Violation> {
    let mut accounts: Vec<usize> = history.iter().map(|entry| entry.account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let each = accounts.into_iter().flat_map(|account| {
        // A kill is everybody's.
        let ours = |entry: &&Entry| entry.account == account || matches!(entry.op, Op::Kill);
        let entries: Vec<&Entry> = history.iter().filter(ours).collect();
        [
            set::check(account, &entries, unanswered),
            uid::check(account, &entries),
            falling::check(account, &entries),
            flags::check(account, &entries, unanswered),
            counters::check(account, &entries),
            pop3::check(account, &entries),
        ]
    });
    each.flatten().collect()
}

fn mark<O>(entry: &Entry<O>) -> Mark {
    (entry.client, entry.begun_us)
}
