//! Who believes in which session, by whose clock: the real leases of `locking`, on clocks that are wrong.
//!
//! Invariants
//! - A process that stands still sends nothing and hears nothing until it goes on; what came meanwhile is there then.
//! - A new leader treats all sessions as renewed (`locking.md` §3).

use std::collections::BTreeMap;
use std::time::Duration;

use locking::SessionId;
use locking::lease::{Lease, Length, Renewals};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::clock::{Clock, ERROR_PPM};
use crate::network::Message;

pub const LENGTH: Length = Length::DEFAULT;
/// Between two looks of the leader at who is overdue.
const CHECK_EVERY_US: u64 = 250_000;

/// What a process does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activity {
    Works,
    /// SIGSTOP: its clock goes on.
    Stopped,
    /// Its machine is suspended by its host, and does not know.
    Suspended,
}

/// One process, and its belief in its session.
pub struct Member {
    pub session: SessionId,
    clock: Clock,
    lease: Lease,
    next_renewal: Duration,
    activity: Activity,
    /// It was suspended, and no renewal sent since was acknowledged: its clock does not count the time.
    suspended_at: Option<Duration>,
    /// It was told that the session is over.
    is_told: bool,
    inbox: Vec<Message>,
}

impl Member {
    /// L-LE1: whether it answers reads now.
    pub fn may_read(&self, now_us: u64) -> bool {
        self.activity == Activity::Works && !self.is_told && self.lease.may_read(self.clock.read(now_us))
    }

    pub fn was_suspended(&self) -> bool {
        self.suspended_at.is_some()
    }

    /// Whether it still believes in its session, working or not.
    pub fn believes(&self, now_us: u64) -> bool {
        !self.is_told && self.lease.may_read(self.clock.read(now_us))
    }

    fn next_at(&self, now_us: u64) -> Option<u64> {
        let renews = self.activity == Activity::Works && self.believes(now_us);
        self.clock.when(self.next_renewal).filter(|_| renews)
    }

    /// Its next renewal, if it is due.
    pub fn renew(&mut self, now_us: u64) -> Option<Duration> {
        let due = self.next_at(now_us).is_some_and(|at_us| at_us <= now_us);
        let sent = self.clock.read(now_us);
        due.then(|| {
            self.next_renewal = sent + LENGTH.renew_every();
            sent
        })
    }

    /// The service answered a renewal.
    pub fn hear(&mut self, message: Message, now_us: u64) {
        if self.activity != Activity::Works {
            self.inbox.push(message);
            return;
        }
        let Message::Renewed { sent, is_live, .. } = message else { return };
        if !is_live {
            self.is_told = true;
        } else if self.lease.renewed(sent, self.clock.read(now_us)) {
            self.suspended_at = self.suspended_at.filter(|since| sent <= *since);
        }
    }

    pub fn pause(&mut self, to: Activity, now_us: u64) {
        if to == Activity::Suspended {
            self.clock.stand(now_us);
            self.suspended_at = Some(self.clock.read(now_us));
        }
        self.activity = to;
    }

    pub fn go_on(&mut self, now_us: u64) {
        self.clock.go_on(now_us);
        self.activity = Activity::Works;
        for message in std::mem::take(&mut self.inbox) {
            self.hear(message, now_us);
        }
    }
}

/// Whoever leads the service now.
struct Leader {
    clock: Clock,
    renewals: Renewals,
    next_check_us: u64,
}

pub struct Leases {
    pub members: BTreeMap<u64, Member>,
    leader: Leader,
    /// No quorum until then.
    away_until_us: u64,
}

fn clock(rng: &mut StdRng, now_us: u64) -> Clock {
    let error_ppm = rng.random_range(-ERROR_PPM..=ERROR_PPM);
    Clock::new(now_us, rng.random_range(0..1_000_000_000), error_ppm)
}

impl Leases {
    pub fn new(rng: &mut StdRng) -> Self {
        let clock = clock(rng, 0);
        let renewals = Renewals::elected(LENGTH, [], clock.read(0));
        let leader = Leader { clock, renewals, next_check_us: 0 };
        Self { members: BTreeMap::new(), leader, away_until_us: 0 }
    }

    /// A process has opened a session.
    pub fn join(&mut self, rng: &mut StdRng, process: u64, session: SessionId, now_us: u64) {
        let clock = self.members.remove(&process).map_or_else(|| clock(rng, now_us), |member| member.clock);
        let sent = clock.read(now_us);
        let member = Member {
            session,
            lease: Lease::new(LENGTH, sent),
            next_renewal: sent + LENGTH.renew_every(),
            clock,
            activity: Activity::Works,
            suspended_at: None,
            is_told: false,
            inbox: Vec::new(),
        };
        self.members.insert(process, member);
        self.leader.renewals.received(session, self.leader.clock.read(now_us));
    }

    pub fn is_away(&self, now_us: u64) -> bool {
        now_us < self.away_until_us
    }

    pub fn received(&mut self, session: SessionId, now_us: u64) {
        self.leader.renewals.received(session, self.leader.clock.read(now_us));
    }

    /// Another leads from now on, or, after a time without a quorum, again.
    pub fn elect(&mut self, rng: &mut StdRng, live: &[SessionId], now_us: u64, away_us: u64) {
        self.away_until_us = now_us + away_us;
        let clock = clock(rng, now_us);
        let elected = self.away_until_us;
        let renewals = Renewals::elected(LENGTH, live.iter().copied(), clock.read(elected));
        self.leader = Leader { clock, renewals, next_check_us: elected };
    }

    /// When something happens next.
    pub fn next_at(&self, now_us: u64) -> u64 {
        let renewals = self.members.values().filter_map(|member| member.next_at(now_us));
        renewals.fold(self.leader.next_check_us, u64::min)
    }

    /// Sessions that the leader gives up now, if it is time to look.
    pub fn overdue(&mut self, live: impl FnOnce() -> Vec<SessionId>, now_us: u64) -> Vec<SessionId> {
        if now_us < self.leader.next_check_us {
            return Vec::new();
        }
        self.leader.next_check_us = now_us + CHECK_EVERY_US;
        let reading = self.leader.clock.read(now_us);
        self.leader.renewals.keep(&live(), reading);
        self.leader.renewals.overdue(reading)
    }

    /// A long time in which nothing happens but renewals that are acknowledged.
    pub fn skip(&mut self, is_live: impl Fn(SessionId) -> bool, from_us: u64, to_us: u64) {
        for member in self.members.values_mut() {
            if member.activity == Activity::Works && member.believes(from_us) && is_live(member.session) {
                let sent = member.clock.read(to_us);
                member.lease = Lease::new(LENGTH, sent);
                member.next_renewal = sent + LENGTH.renew_every();
                self.leader.renewals.received(member.session, self.leader.clock.read(to_us));
            }
        }
        self.leader.next_check_us = self.leader.next_check_us.max(to_us);
    }
}
