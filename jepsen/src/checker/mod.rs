//! What must be true of a history. Each rule in its own file, with histories that break it.
//!
//! Invariants
//! - A checker believes acknowledgements and complete reads, and nothing else.
//! - A checker that can't fail is no checker: each proves on bad histories that it does.

pub mod flags;
pub mod set;
pub mod uid;

#[cfg(test)]
mod histories;

use std::fmt;

use crate::history::{Entry, Op};

/// A promise broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    pub rule: &'static str,
    pub account: usize,
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: account {}: {}", self.rule, self.account, self.what)
    }
}

/// Everything that is wrong with a history.
pub fn check(history: &[Entry]) -> Vec<Violation> {
    let mut accounts: Vec<usize> = history.iter().map(|entry| entry.account).collect();
    accounts.sort_unstable();
    accounts.dedup();
    let each = accounts.into_iter().flat_map(|account| {
        // A kill is everybody's.
        let ours = |entry: &&Entry| entry.account == account || matches!(entry.op, Op::Kill);
        let entries: Vec<&Entry> = history.iter().filter(ours).collect();
        [set::check(account, &entries), uid::check(account, &entries), flags::check(account, &entries)]
    });
    each.flatten().collect()
}
