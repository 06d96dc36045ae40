//! The clocks: the only place that reads them. Rooms below are handed what they need.

use std::time::{Duration, Instant, SystemTime};

/// Monotonic, for deadlines.
#[expect(clippy::disallowed_methods, reason = "node is where time comes from")]
pub fn now() -> Instant {
    Instant::now()
}

/// Microseconds since 1970, for stamps, dates and file names. A wall clock before 1970 reads as 0.
#[expect(clippy::disallowed_methods, reason = "node is where time comes from")]
pub fn unix_us() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_micros()).unwrap_or(u64::MAX)
}

pub fn unix_s() -> i64 {
    i64::try_from(unix_us() / 1_000_000).unwrap_or(i64::MAX)
}
