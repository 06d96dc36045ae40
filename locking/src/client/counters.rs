//! What is counted about witnesses, for metrics and `status`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Upper bounds of the latency buckets, in microseconds; the last bucket has none.
pub const LATENCY_BOUNDS_US: [u64; 11] =
    [250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000, 64_000, 250_000, 1_000_000];

/// A reading of the counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WitnessCounters {
    pub batches: u64,
    pub records: u64,
    pub largest_batch: u64,
    /// Expected 0 outside of faults.
    pub stale_epoch: u64,
    pub backwards: u64,
    /// Records whose fate this node never learned.
    pub unknown: u64,
    /// From the proposal of a batch to its answer, summed over batches.
    pub latency_us_sum: u64,
    pub latency_us_last: u64,
    /// Batches by [`LATENCY_BOUNDS_US`].
    pub latency: [u64; LATENCY_BOUNDS_US.len() + 1],
}

#[derive(Default)]
pub(super) struct Counters {
    batches: AtomicU64,
    records: AtomicU64,
    largest_batch: AtomicU64,
    stale_epoch: AtomicU64,
    backwards: AtomicU64,
    unknown: AtomicU64,
    latency_us_sum: AtomicU64,
    latency_us_last: AtomicU64,
    latency: [AtomicU64; LATENCY_BOUNDS_US.len() + 1],
}

impl Counters {
    pub(super) fn batch(&self, records: usize, latency: Duration) {
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let place = LATENCY_BOUNDS_US.partition_point(|bound| *bound < micros);
        self.batches.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.largest_batch.fetch_max(records as u64, Ordering::Relaxed);
        self.latency_us_sum.fetch_add(micros, Ordering::Relaxed);
        self.latency_us_last.store(micros, Ordering::Relaxed);
        self.latency[place].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn stale_epoch(&self) {
        self.stale_epoch.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn backwards(&self) {
        self.backwards.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn unknown(&self, records: usize) {
        self.unknown.fetch_add(records as u64, Ordering::Relaxed);
    }

    pub(super) fn read(&self) -> WitnessCounters {
        let get = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        WitnessCounters {
            batches: get(&self.batches),
            records: get(&self.records),
            largest_batch: get(&self.largest_batch),
            stale_epoch: get(&self.stale_epoch),
            backwards: get(&self.backwards),
            unknown: get(&self.unknown),
            latency_us_sum: get(&self.latency_us_sum),
            latency_us_last: get(&self.latency_us_last),
            latency: std::array::from_fn(|place| get(&self.latency[place])),
        }
    }
}
