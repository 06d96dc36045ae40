//! Stamps: hybrid logical time, 53 bits, tagged with the issuing site (`replication.md` §2).
//!
//! Invariants
//! - A site never issues the same stamp twice for one account, and its stamps rise (R-CK2).
//! - A stamp issued after another was received is greater than it (R-CK4).
//! - Every stamp is exact in a double and a valid 63-bit modseq (RFC 7162 §1.1).

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SiteId;

/// Milliseconds between the UNIX epoch and 2025-01-01T00:00:00Z, where stamps begin.
pub const STAMP_EPOCH_UNIX_MS: u64 = 1_735_689_600_000;
/// Received stamps further ahead than this park the account (R-CK5).
pub const AHEAD_MS_MAX: u64 = 24 * 60 * 60 * 1000;

const SITE_BITS: u32 = 4;
const LOGICAL_BITS: u32 = 8;

/// `ms since 2025-01-01 (41) | logical (8) | site (4)`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Stamp(u64);

impl Stamp {
    /// Before every other; the creation stamp of what configuration creates (R-ID2).
    pub const ZERO: Self = Self(0);

    pub fn from_u64(value: u64) -> Self {
        Self(value & ((1 << 53) - 1))
    }

    pub fn get(self) -> u64 {
        self.0
    }

    pub fn site(self) -> SiteId {
        SiteId::new((self.0 & 0xf) as u8).unwrap_or_else(|| unreachable!("four bits are at most 15"))
    }

    pub fn unix_ms(self) -> u64 {
        (self.0 >> (SITE_BITS + LOGICAL_BITS)) + STAMP_EPOCH_UNIX_MS
    }

    /// Milliseconds and logical part together: what is compared before the site.
    fn time(self) -> u64 {
        self.0 >> SITE_BITS
    }
}

impl fmt::Display for Stamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The stamp at which a change became visible at this site, as RFC 7162 mod-sequence. 0 is "before everything".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ModSeq(pub u64);

impl From<Stamp> for ModSeq {
    fn from(stamp: Stamp) -> Self {
        Self(stamp.0)
    }
}

impl fmt::Display for ModSeq {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Clock state of one site for one account (R-CK1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    site: SiteId,
    /// Greatest time issued or received, without the site tag.
    last: u64,
}

/// A received stamp lies too far ahead of our clock (R-CK5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("stamp {stamp} of site {} lies {ahead_ms} ms ahead of this site's clock", stamp.site())]
pub struct ClockAhead {
    pub stamp: Stamp,
    pub ahead_ms: u64,
}

impl Clock {
    pub fn new(site: SiteId) -> Self {
        Self { site, last: 0 }
    }

    pub fn site(&self) -> SiteId {
        self.site
    }

    /// Issues the next stamp (R-CK2).
    pub fn issue(&mut self, now_unix_ms: u64) -> Stamp {
        let now = now_unix_ms.saturating_sub(STAMP_EPOCH_UNIX_MS) << LOGICAL_BITS;
        self.last = now.max(self.last + 1);
        Stamp::from_u64(self.last << SITE_BITS | u64::from(self.site.slot()))
    }

    /// Takes note of another's stamp, or of our own when the journal is replayed (R-CK2).
    pub fn observe(&mut self, stamp: Stamp) {
        self.last = self.last.max(stamp.time());
    }

    /// As [`observe`](Self::observe), unless the stamp lies more than a day ahead (R-CK5).
    pub fn receive(&mut self, stamp: Stamp, now_unix_ms: u64) -> Result<(), ClockAhead> {
        let ahead_ms = stamp.unix_ms().saturating_sub(now_unix_ms);
        if ahead_ms > AHEAD_MS_MAX {
            return Err(ClockAhead { stamp, ahead_ms });
        }
        self.observe(stamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_when_the_wall_clock_stands_or_steps_back() {
        let mut clock = Clock::new(SiteId::new(1).unwrap());
        let mut last = Stamp::ZERO;
        for now in [STAMP_EPOCH_UNIX_MS + 5, STAMP_EPOCH_UNIX_MS + 5, 0, STAMP_EPOCH_UNIX_MS + 4] {
            let stamp = clock.issue(now);
            assert!(stamp > last);
            assert_eq!(stamp.site().slot(), 1);
            last = stamp;
        }
    }

    #[test]
    fn a_stamp_issued_after_a_received_one_is_greater() {
        let now = STAMP_EPOCH_UNIX_MS + 1_000;
        let theirs = Clock::new(SiteId::new(15).unwrap()).issue(now + 60_000);
        let mut ours = Clock::new(SiteId::new(0).unwrap());
        ours.receive(theirs, now).unwrap();
        assert!(ours.issue(now) > theirs);
        let mad = Clock::new(SiteId::new(15).unwrap()).issue(now + AHEAD_MS_MAX + 1);
        assert!(ours.receive(mad, now).is_err());
    }
}
