//! The clock of a node that counts time since its start: it may be wrong by a hundredth, counts while the
//! process stands still, and stands still itself while the whole machine is suspended by its host.

use std::time::Duration;

/// The largest error of its rate, in millionths.
pub const ERROR_PPM: i64 = 10_000;
const MILLION: i128 = 1_000_000;

#[derive(Clone, Debug)]
pub struct Clock {
    rate: i128,
    /// When it last began to run, and what it read then.
    since_us: u64,
    reading_us: u64,
    stands: bool,
}

impl Clock {
    /// A clock that reads so much now, and runs faster than time by so many millionths.
    pub fn new(now_us: u64, reading_us: u64, error_ppm: i64) -> Self {
        Self { rate: MILLION + i128::from(error_ppm), since_us: now_us, reading_us, stands: false }
    }

    fn read_us(&self, now_us: u64) -> u64 {
        if self.stands {
            return self.reading_us;
        }
        let ran = i128::from(now_us.saturating_sub(self.since_us)) * self.rate / MILLION;
        self.reading_us.saturating_add(u64::try_from(ran).unwrap_or(0))
    }

    pub fn read(&self, now_us: u64) -> Duration {
        Duration::from_micros(self.read_us(now_us))
    }

    pub fn stand(&mut self, now_us: u64) {
        self.reading_us = self.read_us(now_us);
        self.stands = true;
    }

    pub fn go_on(&mut self, now_us: u64) {
        if self.stands {
            (self.stands, self.since_us) = (false, now_us);
        }
    }

    /// When it reads so much; never while it stands.
    pub fn when(&self, reading: Duration) -> Option<u64> {
        if self.stands {
            return None;
        }
        let more = i128::try_from(reading.as_micros()).unwrap_or(i128::MAX) - i128::from(self.reading_us);
        let after = (more.max(0) * MILLION + self.rate - 1) / self.rate;
        Some(self.since_us.saturating_add(u64::try_from(after).unwrap_or(u64::MAX)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_slow_reads_less_and_one_that_stands_reads_the_same() {
        let mut clock = Clock::new(1_000_000, 500, -10_000);
        assert_eq!(clock.read(2_000_000), Duration::from_micros(500 + 990_000));
        let due = clock.when(Duration::from_micros(500 + 990_000));
        assert_eq!(due, Some(2_000_000));
        clock.stand(2_000_000);
        assert_eq!((clock.read(60_000_000), clock.when(Duration::ZERO)), (clock.read(2_000_000), None));
        clock.go_on(60_000_000);
        assert_eq!(clock.read(61_000_000), Duration::from_micros(500 + 2 * 990_000));
    }
}
