//! How long an account is looked at again when the volume shows less of it than what counts (`locking.md` §6.2, §6.3).
//!
//! A host may go by what it learnt of a file up to a minute ago. So what is missing is missing for good only when it
//! still is after a little more than that. Pure: `now` is the reading of a clock that does not step.
//!
//! Invariants
//! - An account that shows less than its witness is never opened, neither before the time is over nor after.
//! - A file that is missing for good was looked for over [`FOR`] at least.

use std::path::PathBuf;
use std::time::Duration;

use nfs_compat::Fs;

use crate::tenure::Witnessed;

/// More than the 60 s for which attributes are believed at most.
pub const FOR: Duration = Duration::from_secs(65);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// What counts, and what the volume shows instead.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "record {} counts, which ends at byte {} of {} with hash {:016x}; the volume shows less: {found}",
    .witness.lsn, .witness.length, .file.display(), .witness.hash
)]
pub struct Shortfall {
    pub witness: Witnessed,
    /// The segment that the witness names.
    pub file: PathBuf,
    /// The file that falls short: that segment, one that it goes on from, or a checkpoint.
    pub short: PathBuf,
    pub found: String,
}

impl Shortfall {
    /// Has this host ask the file server again.
    pub fn revalidate(&self, fs: &dyn Fs) -> nfs_compat::Result<()> {
        fs.revalidate(&self.file)?;
        if self.short == self.file { Ok(()) } else { fs.revalidate(&self.short) }
    }
}

/// What is to be done about a shortfall.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Look again after this time.
    Again(Duration),
    /// What was acknowledged is gone from the volume. It may come back, by the operator's hand alone.
    Lost,
}

/// The patience with one account.
#[derive(Debug, Default)]
pub struct Patience {
    waiting: Option<Waiting>,
}

#[derive(Debug)]
struct Waiting {
    witness: Witnessed,
    since: Duration,
    wait: Duration,
    next: Duration,
    is_lost: bool,
}

impl Patience {
    /// Whether the account may be looked at now. Between two looks it is refused at once.
    pub fn may_look(&self, now: Duration) -> bool {
        self.waiting.as_ref().is_none_or(|waiting| now >= waiting.next)
    }

    /// Whether the last look found less than what counts.
    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// `offline(durability)`: what counts is gone.
    pub fn is_lost(&self) -> bool {
        self.waiting.as_ref().is_some_and(|waiting| waiting.is_lost)
    }

    /// A look, just now, found less than what counts.
    pub fn fell_short(&mut self, witness: Witnessed, now: Duration) -> Verdict {
        let fresh = Waiting { witness, since: now, wait: FIRST_WAIT, next: now, is_lost: false };
        let same = self.waiting.take().filter(|waiting| waiting.witness == witness);
        let mut waiting = same.unwrap_or(fresh);
        let end = waiting.since + FOR;
        waiting.is_lost |= now >= end;
        let verdict = if waiting.is_lost {
            waiting.next = now + LONGEST_WAIT;
            Verdict::Lost
        } else {
            // The last look is when the time is over.
            let wait = waiting.wait.min(end - now);
            waiting.next = now + wait;
            waiting.wait = (waiting.wait * 2).min(LONGEST_WAIT);
            Verdict::Again(wait)
        };
        self.waiting = Some(waiting);
        verdict
    }

    /// The volume shows what counts. Returns since when it did not.
    pub fn satisfied(&mut self) -> Option<Duration> {
        self.waiting.take().map(|waiting| waiting.since)
    }
}

#[cfg(test)]
mod tests {
    use model::Epoch;

    use super::*;

    fn witness(lsn: u64) -> Witnessed {
        Witnessed { epoch: Epoch::new(1, 1), segment: 0, length: 100, hash: 7, lsn }
    }

    /// Looks as often as told until the verdict is `Lost`; returns when.
    fn looks(patience: &mut Patience, start: Duration) -> Vec<Duration> {
        let mut at = vec![start];
        loop {
            let now = at[at.len() - 1];
            assert!(patience.may_look(now));
            match patience.fell_short(witness(9), now) {
                Verdict::Again(wait) => {
                    assert!(wait == Duration::ZERO || !patience.may_look(now + wait / 2));
                    at.push(now + wait);
                }
                Verdict::Lost => return at,
            }
        }
    }

    #[test]
    fn a_shortfall_is_looked_at_again_from_every_tenth_of_a_second_to_every_five_for_65_seconds() {
        let start = Duration::from_secs(1000);
        let mut patience = Patience::default();
        let at = looks(&mut patience, start);
        let waits: Vec<_> = at.windows(2).map(|pair| (pair[1] - pair[0]).as_millis()).collect();
        assert_eq!(waits[..7], [100, 200, 400, 800, 1600, 3200, 5000]);
        assert!(waits[7..].iter().all(|wait| *wait <= 5000));
        assert_eq!(at.last(), Some(&(start + FOR)), "the last look is when the time is over");
        assert!(patience.is_lost());
    }

    #[test]
    fn what_is_lost_stays_lost_until_the_volume_shows_it() {
        let mut patience = Patience::default();
        let lost_at = looks(&mut patience, Duration::ZERO).pop().unwrap();
        assert!(!patience.may_look(lost_at) && patience.may_look(lost_at + LONGEST_WAIT));
        assert_eq!(patience.fell_short(witness(9), lost_at + LONGEST_WAIT), Verdict::Lost);
        assert_eq!(patience.satisfied(), Some(Duration::ZERO));
        assert!(!patience.is_lost() && patience.may_look(lost_at));
    }

    #[test]
    fn another_witness_is_another_shortfall() {
        let mut patience = Patience::default();
        patience.fell_short(witness(9), Duration::ZERO);
        let verdict = patience.fell_short(witness(10), Duration::from_secs(100));
        assert_eq!(verdict, Verdict::Again(FIRST_WAIT));
    }
}
