//! How long a node may believe in its session, and when others may stop believing in it.
//!
//! Pure: `now` is the reading of a clock that counts suspended time, as a duration since some start.
//! Leases make the system prompt and keep stale reads out. No write depends on them: a late witness is refused by
//! its epoch (`locking.md` §0.3).
//!
//! Invariants
//! - The node's trust ends before the leader may expire it, by a quarter of the lease at zero clock skew (L-LE1).
//! - A session whose trust has ended is never trusted again (L-LE2).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::command::SessionId;

/// Shares of the lease length, in thousandths (`locking.md` §3: with 10 s, 2.5 s, 8.5 s, 11 s and 2 s).
const RENEW_EVERY: u32 = 250;
const TRUST: u32 = 850;
const OTHERS_AFTER: u32 = 1100;
const CHANGES_STOP_BEFORE: u32 = 200;
const _: () = assert!(TRUST + RENEW_EVERY <= OTHERS_AFTER && CHANGES_STOP_BEFORE + RENEW_EVERY < TRUST);

/// The length L of the lease, from which all margins follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length(Duration);

impl Length {
    pub const DEFAULT: Self = Self(Duration::from_secs(10));

    /// Returns the length, or `None` outside half a second to ten minutes.
    pub fn new(length: Duration) -> Option<Self> {
        (Duration::from_millis(500)..=Duration::from_secs(600)).contains(&length).then_some(Self(length))
    }

    fn part(self, thousandths: u32) -> Duration {
        self.0 * thousandths / 1000
    }

    pub fn renew_every(self) -> Duration {
        self.part(RENEW_EVERY)
    }
}

/// One node's belief in its own session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lease {
    length: Length,
    valid_until: Duration,
}

impl Lease {
    /// A lease from the first request that was acknowledged, by the time at which it was *sent*.
    pub fn new(length: Length, sent: Duration) -> Self {
        Self { length, valid_until: sent + length.part(TRUST) }
    }

    /// A renewal that was sent then has been acknowledged at `now`. Returns whether the lease still held.
    pub fn renewed(&mut self, sent: Duration, now: Duration) -> bool {
        let held = self.may_read(now);
        if held {
            self.valid_until = self.valid_until.max(sent + self.length.part(TRUST));
        }
        held
    }

    pub fn valid_until(&self) -> Duration {
        self.valid_until
    }

    pub fn remaining(&self, now: Duration) -> Duration {
        self.valid_until.saturating_sub(now)
    }

    /// L-LE1: before any read is answered.
    pub fn may_read(&self, now: Duration) -> bool {
        now < self.valid_until
    }

    /// L-LE1: before a change is started.
    pub fn may_change(&self, now: Duration) -> bool {
        now + self.length.part(CHANGES_STOP_BEFORE) < self.valid_until
    }
}

/// What the leader knows of everybody's renewals. In memory only.
#[derive(Clone, Debug)]
pub struct Renewals {
    length: Length,
    last: BTreeMap<SessionId, Duration>,
}

impl Renewals {
    /// A new leader treats all sessions as renewed at its election, so that a change of leader shortens no lease.
    pub fn elected(length: Length, sessions: impl IntoIterator<Item = SessionId>, now: Duration) -> Self {
        Self { length, last: sessions.into_iter().map(|session| (session, now)).collect() }
    }

    pub fn received(&mut self, session: SessionId, now: Duration) {
        self.last.insert(session, now);
    }

    pub fn ended(&mut self, session: SessionId) {
        self.last.remove(&session);
    }

    /// Follows the state: forgets sessions that are over, and counts new ones from now.
    pub fn keep(&mut self, live: &[SessionId], now: Duration) {
        self.last.retain(|session, _| live.contains(session));
        for session in live {
            self.last.entry(*session).or_insert(now);
        }
    }

    /// Sessions whose owners have stopped believing in them, and whose buckets others may have.
    pub fn overdue(&self, now: Duration) -> Vec<SessionId> {
        let patience = self.length.part(OTHERS_AFTER);
        self.last.iter().filter(|(_, last)| now >= **last + patience).map(|(session, _)| *session).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn with_ten_seconds_the_margins_are_those_of_the_design() {
        let lease = Lease::new(Length::DEFAULT, ms(1000));
        assert_eq!(Length::DEFAULT.renew_every(), ms(2500));
        assert_eq!(lease.valid_until(), ms(9500));
        assert!(lease.may_read(ms(9499)) && !lease.may_read(ms(9500)));
        assert!(lease.may_change(ms(7499)) && !lease.may_change(ms(7500)));
    }

    #[test]
    fn a_node_stops_believing_before_others_may_be_let_in() {
        // The renewal leaves at 1 s and arrives at once: the worst case for the leader's patience.
        let lease = Lease::new(Length::DEFAULT, ms(1000));
        let renewals = Renewals::elected(Length::DEFAULT, [SessionId(7)], ms(1000));
        let given_up = (0..20_000).map(ms).find(|now| !lease.may_read(*now)).expect("it ends");
        let expired = (0..20_000).map(ms).find(|now| !renewals.overdue(*now).is_empty()).expect("it ends");
        assert_eq!(expired - given_up, ms(2500));
    }

    #[test]
    fn a_renewal_counts_from_when_it_was_sent_and_not_once_the_lease_has_ended() {
        let mut lease = Lease::new(Length::DEFAULT, ms(0));
        assert!(lease.renewed(ms(2500), ms(8000)));
        assert_eq!(lease.valid_until(), ms(11_000));
        assert!(lease.renewed(ms(100), ms(8100)), "a late answer to an older renewal");
        assert_eq!(lease.valid_until(), ms(11_000), "does not shorten it");
        assert!(!lease.renewed(ms(5000), ms(11_000)), "L-LE2: it is over, whatever arrives");
        assert!(!lease.may_read(ms(11_001)));
    }

    #[test]
    fn a_new_leader_shortens_no_lease() {
        let mut renewals = Renewals::elected(Length::DEFAULT, [SessionId(1), SessionId(2)], ms(50_000));
        assert!(renewals.overdue(ms(60_999)).is_empty());
        renewals.received(SessionId(2), ms(55_000));
        assert_eq!(renewals.overdue(ms(61_000)), [SessionId(1)]);
        renewals.ended(SessionId(1));
        assert_eq!(renewals.overdue(ms(66_000)), [SessionId(2)]);
    }

    #[test]
    fn a_length_that_leaves_no_margin_is_no_length() {
        assert_eq!(Length::new(ms(499)), None);
        assert!(Length::new(ms(500)).is_some());
        assert_eq!(Length::new(Duration::from_secs(601)), None);
    }
}
