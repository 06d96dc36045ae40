//! When accounts were taken over by this node: for `roost explain`, and counted for the metrics.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::{AccountId, Epoch};

/// The latest ones, of all accounts.
const RECENT_MAX: usize = 4096;

/// An account was opened under an epoch that it had not been opened under before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TakeOver {
    pub account: AccountId,
    pub epoch: Epoch,
    pub unix_s: i64,
    /// From the wish to open it to its snapshot.
    pub took: Duration,
}

#[derive(Default)]
pub struct TakeOvers(Mutex<VecDeque<TakeOver>>);

impl TakeOvers {
    fn lock(&self) -> MutexGuard<'_, VecDeque<TakeOver>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers one. False: the account was only opened again, under the epoch that it had here before.
    pub fn opened(&self, takeover: TakeOver) -> bool {
        let mut recent = self.lock();
        let known = |known: &TakeOver| known.account == takeover.account && known.epoch == takeover.epoch;
        if recent.iter().any(known) {
            return false;
        }
        if recent.len() >= RECENT_MAX {
            recent.pop_front();
        }
        recent.push_back(takeover);
        true
    }

    /// Those of one account, oldest first.
    pub fn of(&self, account: AccountId) -> Vec<TakeOver> {
        self.lock().iter().filter(|takeover| takeover.account == account).copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_that_is_only_opened_again_was_not_taken_over() {
        let account = AccountId::derive("f", "ada", 0);
        let takeover = |counter| TakeOver {
            account,
            epoch: Epoch::new(1, counter),
            unix_s: i64::from(counter),
            took: Duration::from_millis(5),
        };
        let takeovers = TakeOvers::default();
        assert!(takeovers.opened(takeover(1)));
        assert!(!takeovers.opened(takeover(1)));
        assert!(takeovers.opened(takeover(2)));
        assert_eq!(takeovers.of(account), [takeover(1), takeover(2)]);
        assert!(takeovers.of(AccountId::derive("f", "bob", 0)).is_empty());
        for counter in 3..(RECENT_MAX as u32 + 10) {
            takeovers.opened(takeover(counter));
        }
        assert_eq!(takeovers.of(account).len(), RECENT_MAX);
    }
}
