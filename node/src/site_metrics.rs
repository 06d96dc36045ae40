//! Numbers about the site and its coordination service, as this node sees them. They are read when they are asked for.

use std::sync::atomic::AtomicU64;

use locking::{Standing, Status};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::metrics::Metrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByNode {
    pub node: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByBound {
    /// Upper bound in microseconds; 0 for none.
    pub at_most_us: u64,
}

#[derive(Default)]
pub struct SiteMetrics {
    ready: Gauge,
    lease_held: Gauge,
    frozen: Gauge,
    buckets_owned: Gauge,
    log_last: Gauge,
    log_applied: Gauge,
    log_bytes: Gauge,
    snapshot_age: Gauge,
    log_lag: Family<ByNode, Gauge>,
    silence_seconds: Family<ByNode, Gauge<f64, AtomicU64>>,
    witness_records: Gauge,
    witness_largest: Gauge,
    witness_unknown: Gauge,
    witness_seconds: Gauge<f64, AtomicU64>,
    witness_latency: Family<ByBound, Gauge>,
}

impl SiteMetrics {
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register("node_ready", "1 if this node can acknowledge a change", self.ready.clone());
        registry.register(
            "lease_held",
            "1 while this node's lease lets it change anything",
            self.lease_held.clone(),
        );
        let frozen = "1 while sessions read on without a lease";
        registry.register("frozen_read_only", frozen, self.frozen.clone());
        registry.register(
            "buckets_owned",
            "Buckets that this node owns, of 65536",
            self.buckets_owned.clone(),
        );
        registry.register(
            "raft_log_last",
            "Index of the last entry in this node's log",
            self.log_last.clone(),
        );
        registry.register(
            "raft_log_applied",
            "Index of the last entry that is applied here",
            self.log_applied.clone(),
        );
        registry.register("raft_log_bytes", "Length of this node's log", self.log_bytes.clone());
        registry.register(
            "raft_snapshot_age_entries",
            "Entries applied since the last snapshot",
            self.snapshot_age.clone(),
        );
        registry.register(
            "raft_log_lag_entries",
            "Entries that a node lacks, known to the leader",
            self.log_lag.clone(),
        );
        registry.register(
            "raft_silence_seconds",
            "Since a node last answered, known to the leader",
            self.silence_seconds.clone(),
        );
        registry.register("witness_records", "Witnesses that were committed", self.witness_records.clone());
        registry.register(
            "witness_largest_batch",
            "Most witnesses in one batch",
            self.witness_largest.clone(),
        );
        registry.register("witness_unknown", "Witnesses without an answer", self.witness_unknown.clone());
        registry.register(
            "witness_seconds",
            "From the proposal of a batch to its answer, summed over batches",
            self.witness_seconds.clone(),
        );
        registry.register(
            "witness_batch_latency",
            "Batches by how long they took, each counted once",
            self.witness_latency.clone(),
        );
    }

    pub(crate) fn update(&self, status: &Status, lease: bool, standing: Standing, ready: bool) {
        let wide = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        let (group, counters) = (&status.group, &status.counters);
        self.ready.set(i64::from(ready));
        self.lease_held.set(i64::from(lease));
        self.frozen.set(i64::from(standing == Standing::Frozen));
        self.buckets_owned.set(wide(status.buckets as u64));
        let last = group.last_log.unwrap_or(0);
        let applied = group.last_applied.unwrap_or(0);
        self.log_last.set(wide(last));
        self.log_applied.set(wide(applied));
        self.log_bytes.set(wide(group.log_bytes as u64));
        self.snapshot_age.set(wide(applied.saturating_sub(group.snapshot.unwrap_or(0))));
        // Who no longer leads knows nothing of the others.
        self.log_lag.clear();
        self.silence_seconds.clear();
        for follower in &group.followers {
            let by = ByNode { node: u32::from(follower.node) };
            self.log_lag.get_or_create(&by).set(wide(last.saturating_sub(follower.matched.unwrap_or(0))));
            if let Some(heard) = follower.heard {
                Metrics::set_float(&self.silence_seconds.get_or_create(&by), heard.as_secs_f64());
            }
        }
        self.witness_records.set(wide(counters.records));
        self.witness_largest.set(wide(counters.largest_batch));
        self.witness_unknown.set(wide(counters.unknown));
        Metrics::set_float(&self.witness_seconds, counters.latency_us_sum as f64 / 1e6);
        let bounds = locking::client::LATENCY_BOUNDS_US.iter().copied().chain([0]);
        for (at_most_us, count) in bounds.zip(counters.latency) {
            self.witness_latency.get_or_create(&ByBound { at_most_us }).set(wide(count));
        }
    }
}
