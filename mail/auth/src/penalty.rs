//! How long an address waits for the answer to a login, after the failures it has had.
//!
//! Invariants
//! - An attempt waits as long whether it succeeds or not, except that a failure waits for itself too: who hangs up
//!   early learns nothing.
//! - The table has a fixed size; when it is full, those who were quiet longest are forgotten.
//! - Time is an argument.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PenaltyOptions {
    /// What the first failure waits; each further one waits twice as long. Zero: nobody waits.
    pub first: Duration,
    pub ceiling: Duration,
    /// One failure is forgiven after so long without another.
    pub forgive: Duration,
    pub addresses_max: usize,
}

impl Default for PenaltyOptions {
    fn default() -> Self {
        Self {
            first: Duration::from_secs(2),
            ceiling: Duration::from_secs(15),
            forgive: Duration::from_secs(60),
            addresses_max: 65_536,
        }
    }
}

/// Failures counted for one address; more would not make it wait longer, only be forgiven later.
const FAILURES_MAX: u32 = 10;

#[derive(Debug)]
pub struct Penalties {
    options: PenaltyOptions,
    table: HashMap<IpAddr, Failures>,
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Instant,
}

impl Penalties {
    pub fn new(options: PenaltyOptions) -> Self {
        Self { options, table: HashMap::new() }
    }

    /// How long an attempt that succeeds waits.
    pub fn delay(&self, address: IpAddr, now: Instant) -> Duration {
        self.delay_of(self.count(&network(address), now))
    }

    /// Counts a failure; returns how long its answer waits.
    pub fn failed(&mut self, address: IpAddr, now: Instant) -> Duration {
        let network = network(address);
        let count = self.count(&network, now).saturating_add(1).min(FAILURES_MAX);
        if !self.table.contains_key(&network) && self.table.len() >= self.options.addresses_max {
            self.make_room(now);
        }
        self.table.insert(network, Failures { count, last: now });
        self.delay_of(count)
    }

    /// A success clears the address.
    pub fn succeeded(&mut self, address: IpAddr) {
        self.table.remove(&network(address));
    }

    /// Addresses that have failures to their name; forgiven ones may still be among them.
    pub fn addresses(&self) -> usize {
        self.table.len()
    }

    fn count(&self, network: &IpAddr, now: Instant) -> u32 {
        self.table.get(network).map_or(0, |failures| self.remaining(failures, now))
    }

    fn remaining(&self, failures: &Failures, now: Instant) -> u32 {
        let quiet = now.saturating_duration_since(failures.last).as_millis();
        let forgiven = quiet / self.options.forgive.as_millis().max(1);
        failures.count.saturating_sub(u32::try_from(forgiven).unwrap_or(u32::MAX))
    }

    fn delay_of(&self, count: u32) -> Duration {
        match count {
            0 => Duration::ZERO,
            count => self
                .options
                .first
                .saturating_mul(1 << (count - 1).min(FAILURES_MAX))
                .min(self.options.ceiling),
        }
    }

    /// Drops the forgiven, and if that is not enough the quieter half: seldom, so a sweep of all is fine.
    fn make_room(&mut self, now: Instant) {
        let mut table = std::mem::take(&mut self.table);
        table.retain(|_, failures| self.remaining(failures, now) > 0);
        if table.len() >= self.options.addresses_max {
            let mut times: Vec<Instant> = table.values().map(|failures| failures.last).collect();
            times.sort_unstable();
            let median = times.get(times.len() / 2).copied().unwrap_or(now);
            let mut keep = self.options.addresses_max / 2;
            table.retain(|_, failures| {
                let kept = failures.last >= median && keep > 0;
                keep -= usize::from(kept);
                kept
            });
        }
        self.table = table;
    }
}

/// What counts as one address: a whole /64 of IPv6, for that is what one subscriber has.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[expect(clippy::disallowed_methods, reason = "a test needs some instant to count from")]
    fn start() -> Instant {
        Instant::now()
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn each_failure_waits_longer_up_to_a_ceiling() {
        let (now, mut penalties) = (start(), Penalties::new(PenaltyOptions::default()));
        let client = address("192.0.2.1");
        assert_eq!(penalties.delay(client, now), Duration::ZERO);
        let waits: Vec<u64> = (0..6).map(|_| penalties.failed(client, now).as_secs()).collect();
        assert_eq!(waits, [2, 4, 8, 15, 15, 15]);
        assert_eq!(penalties.delay(client, now), seconds(15), "a success waits too");
        assert_eq!(penalties.delay(address("192.0.2.2"), now), Duration::ZERO, "another address does not");
    }

    #[test]
    fn failures_are_forgiven_one_by_one_and_a_success_forgives_all() {
        let (now, mut penalties) = (start(), Penalties::new(PenaltyOptions::default()));
        let client = address("192.0.2.1");
        (0..3).for_each(|_| assert!(penalties.failed(client, now) > Duration::ZERO));
        assert_eq!(penalties.delay(client, now + seconds(61)), seconds(4));
        assert_eq!(penalties.delay(client, now + seconds(181)), Duration::ZERO);
        penalties.succeeded(client);
        assert_eq!(penalties.delay(client, now), Duration::ZERO);
        assert_eq!(penalties.addresses(), 0);
    }

    #[test]
    fn one_ipv6_network_is_one_address_and_a_mapped_address_is_ipv4() {
        let (now, mut penalties) = (start(), Penalties::new(PenaltyOptions::default()));
        penalties.failed(address("2001:db8:0:1::1"), now);
        assert_eq!(penalties.failed(address("2001:db8:0:1:ffff::2"), now), seconds(4));
        assert_eq!(penalties.failed(address("2001:db8:0:2::1"), now), seconds(2));
        penalties.failed(address("::ffff:192.0.2.1"), now);
        assert_eq!(penalties.delay(address("192.0.2.1"), now), seconds(2));
    }

    #[test]
    fn the_table_stays_bounded_under_a_flood_and_remembers_the_latest() {
        let options = PenaltyOptions { addresses_max: 100, ..PenaltyOptions::default() };
        let (now, mut penalties) = (start(), Penalties::new(options));
        for index in 0..10_000_u32 {
            penalties
                .failed(IpAddr::from(index.to_be_bytes()), now + Duration::from_millis(u64::from(index)));
            assert!(penalties.addresses() <= 100);
        }
        let latest = IpAddr::from(9_999_u32.to_be_bytes());
        assert_eq!(penalties.delay(latest, now + seconds(10)), seconds(2));
        let mut same = Penalties::new(options);
        for index in 0..1000_u32 {
            same.failed(IpAddr::from(index.to_be_bytes()), now);
            assert!(same.addresses() <= 100, "all at one instant");
        }
    }

    #[test]
    fn no_first_delay_means_no_delay() {
        let options = PenaltyOptions { first: Duration::ZERO, ..PenaltyOptions::default() };
        let (now, mut penalties) = (start(), Penalties::new(options));
        (0..20).for_each(|_| assert_eq!(penalties.failed(address("192.0.2.1"), now), Duration::ZERO));
    }
}
