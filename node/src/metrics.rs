//! What the operator sees in numbers (Prometheus text format; names as in the interface page).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Registry;

use crate::site_metrics::SiteMetrics;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByProtocol {
    pub protocol: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByResult {
    pub protocol: &'static str,
    pub result: &'static str,
}

/// Carried sessions by protocol, and which way.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByDirection {
    pub protocol: &'static str,
    /// `to`: the client is here, its account elsewhere; `from`: the other way round.
    pub direction: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByName {
    pub protocol: &'static str,
    pub name: &'static str,
    pub result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByOperation {
    /// `mail`, or `state` for the node's own disk.
    pub volume: &'static str,
    pub operation: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ByKind {
    pub kind: &'static str,
}

/// All metrics of one node; several nodes of one test process have one each.
pub struct Metrics {
    registry: Registry,
    pub connections: Family<ByProtocol, Gauge>,
    pub connections_total: Family<ByProtocol, Counter>,
    pub connections_refused: Family<ByProtocol, Counter>,
    pub commands: Family<ByName, Counter>,
    pub command_seconds: Family<ByProtocol, Histogram>,
    pub logins: Family<ByResult, Counter>,
    pub deliveries: Family<ByResult, Counter>,
    pub received_bytes: Family<ByProtocol, Counter>,
    pub sent_bytes: Family<ByProtocol, Counter>,
    pub accounts_owned: Gauge,
    pub fs_operations: Family<ByOperation, Counter>,
    pub fs_seconds: Family<ByOperation, Histogram>,
    pub heals: Family<ByKind, Counter>,
    pub raft_term: Gauge,
    pub raft_leader: Gauge,
    pub raft_commit_seconds: Gauge<f64, AtomicU64>,
    pub lease_remaining_seconds: Gauge<f64, AtomicU64>,
    pub site: SiteMetrics,
    pub balancer_buckets: Family<ByKind, Counter>,
    pub balancer_pending: Gauge,
    pub takeovers: Counter,
    pub takeover_seconds: Histogram,
    pub witness_batches: Gauge,
    pub stale_epochs: Gauge,
    pub stale_views: Counter,
    pub durability_offline: Gauge,
    pub penalised_addresses: Gauge,
    pub forwarded_sessions: Family<ByDirection, Gauge>,
    pub forwarded_sessions_total: Family<ByDirection, Counter>,
    pub router_retries: Family<ByKind, Counter>,
    pub peers_refused: Counter,
}

fn latency() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 4.0, 10))
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            registry: Registry::default(),
            connections: Family::default(),
            connections_total: Family::default(),
            connections_refused: Family::default(),
            commands: Family::default(),
            command_seconds: Family::new_with_constructor(latency),
            logins: Family::default(),
            deliveries: Family::default(),
            received_bytes: Family::default(),
            sent_bytes: Family::default(),
            accounts_owned: Gauge::default(),
            fs_operations: Family::default(),
            fs_seconds: Family::new_with_constructor(latency),
            heals: Family::default(),
            raft_term: Gauge::default(),
            raft_leader: Gauge::default(),
            raft_commit_seconds: Gauge::default(),
            lease_remaining_seconds: Gauge::default(),
            site: SiteMetrics::default(),
            balancer_buckets: Family::default(),
            balancer_pending: Gauge::default(),
            takeovers: Counter::default(),
            takeover_seconds: Histogram::new(exponential_buckets(0.001, 2.0, 14)),
            witness_batches: Gauge::default(),
            stale_epochs: Gauge::default(),
            stale_views: Counter::default(),
            durability_offline: Gauge::default(),
            penalised_addresses: Gauge::default(),
            forwarded_sessions: Family::default(),
            forwarded_sessions_total: Family::default(),
            router_retries: Family::default(),
            peers_refused: Counter::default(),
        }
    }
}

impl Metrics {
    pub fn new() -> Arc<Self> {
        let mut metrics = Self::default();
        metrics.register();
        Arc::new(metrics)
    }

    fn register(&mut self) {
        let mut registry = Registry::with_prefix("roost");
        registry.register("sessions_connections", "Open connections", self.connections.clone());
        registry.register("sessions_accepted", "Connections accepted", self.connections_total.clone());
        registry.register(
            "sessions_refused",
            "Connections refused by a limit",
            self.connections_refused.clone(),
        );
        registry.register("commands", "Commands by name and result", self.commands.clone());
        registry.register("commands_latency_seconds", "From command to reply", self.command_seconds.clone());
        registry.register("auth_logins", "Logins by result", self.logins.clone());
        registry.register(
            "auth_penalised_addresses",
            "Addresses slowed for failures",
            self.penalised_addresses.clone(),
        );
        registry.register(
            "lmtp_deliveries",
            "Deliveries by result, one a recipient",
            self.deliveries.clone(),
        );
        registry.register("sessions_received_bytes", "Bytes from clients", self.received_bytes.clone());
        registry.register("sessions_sent_bytes", "Bytes to clients", self.sent_bytes.clone());
        registry.register("accounts_owned", "Accounts open on this node", self.accounts_owned.clone());
        registry.register(
            "accounts_takeovers",
            "Accounts opened under an epoch that is new for them",
            self.takeovers.clone(),
        );
        registry.register(
            "accounts_takeover_seconds",
            "From the wish to use such an account to its first snapshot",
            self.takeover_seconds.clone(),
        );
        registry.register("fs_operations", "File operations by volume and kind", self.fs_operations.clone());
        registry.register(
            "fs_latency_seconds",
            "Latency of syncs by volume and kind",
            self.fs_seconds.clone(),
        );
        registry.register("heals", "Damage mended, by kind", self.heals.clone());
        registry.register("raft_term", "Raft term", self.raft_term.clone());
        registry.register("raft_leader", "1 if this node leads", self.raft_leader.clone());
        registry.register(
            "raft_commit_seconds",
            "Latency of the last commit",
            self.raft_commit_seconds.clone(),
        );
        registry.register(
            "lease_remaining_seconds",
            "Until the session's lease ends",
            self.lease_remaining_seconds.clone(),
        );
        registry.register("witness_batches", "Witness batches committed", self.witness_batches.clone());
        registry.register(
            "stale_view",
            "Accounts that an old view of the volume held up",
            self.stale_views.clone(),
        );
        let help = "Accounts that are offline: the volume lost acknowledged changes";
        registry.register("durability_offline", help, self.durability_offline.clone());
        registry.register("witness_stale_epochs", "Witnesses refused", self.stale_epochs.clone());
        self.register_peers(&mut registry);
        self.register_balancer(&mut registry);
        self.site.register(&mut registry);
        self.registry = registry;
    }

    fn register_peers(&self, registry: &mut Registry) {
        registry.register(
            "forwarded_sessions",
            "Sessions carried to the owner of their account, or from where their client is",
            self.forwarded_sessions.clone(),
        );
        registry.register(
            "forwarded_sessions_begun",
            "Sessions that began to be carried",
            self.forwarded_sessions_total.clone(),
        );
        registry.register(
            "router_retries",
            "Times that an owner had to be looked for again, by reason",
            self.router_retries.clone(),
        );
        registry.register("peers_refused", "Connections refused at listen.peer", self.peers_refused.clone());
    }

    fn register_balancer(&self, registry: &mut Registry) {
        registry.register(
            "balancer_buckets",
            "What the leader did with buckets: assigned, moved, refused, taken_back",
            self.balancer_buckets.clone(),
        );
        registry.register(
            "balancer_pending",
            "Hand-overs that the leader waits for",
            self.balancer_pending.clone(),
        );
    }

    /// The text that `/metrics` answers with.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing into a String cannot fail.
        let _ = encode(&mut text, &self.registry);
        text
    }

    /// Counts one file operation, and its time if it is one that waits for a disk.
    pub fn fs(&self, volume: &'static str, operation: &'static str, took: Option<Duration>) {
        let by = ByOperation { volume, operation };
        self.fs_operations.get_or_create(&by).inc();
        if let Some(took) = took {
            self.fs_seconds.get_or_create(&by).observe(took.as_secs_f64());
        }
    }

    /// A number for a test or a page: the sum of a family of counters is not worth an API of its own.
    pub fn set_float(gauge: &Gauge<f64, AtomicU64>, value: f64) {
        gauge.inner().store(value.to_bits(), Ordering::Relaxed);
    }
}
