//! The clock of leases.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Time since boot, suspended time included.
pub(crate) fn boottime() -> Duration {
    // The call fails only for clocks that do not exist; this one has existed since Linux 2.6.39.
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}
