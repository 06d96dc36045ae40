//! How a node is: whether it can acknowledge a change, its numbers, and what a person wants to see first.

use locking::{NodeStatus, Role};

use crate::metrics::Metrics;
use crate::serve::Running;
use crate::time;

impl Running {
    /// Whether a change can be acknowledged, or why not.
    pub fn ready(&self) -> Result<(), String> {
        let status = self.locking.status();
        if let Some(why) = status.group.failure {
            return Err(format!("the coordination service has stopped: {why}"));
        }
        if status.group.leader.is_none() {
            return Err(
                "the coordination service has no leader: a majority of the site's voters must be up".into()
            );
        }
        if !self.locking.may_change() {
            return Err("this node has lost touch with the majority of its site: its lease is over".into());
        }
        if !status.session_live {
            return Err("this node has no session with the coordination service".into());
        }
        self.volume.failure(time::now()).map_or(Ok(()), Err)
    }

    /// Metrics, with those that are read rather than counted brought up to date.
    pub fn metrics_text(&self) -> String {
        let metrics = &self.metrics;
        let status = self.locking.status();
        let wide = |number: u64| i64::try_from(number).unwrap_or(i64::MAX);
        metrics.raft_term.set(wide(status.group.term));
        metrics.raft_leader.set(i64::from(status.group.leader == Some(u64::from(status.node_id))));
        let commit_s = status.counters.latency_us_last as f64 / 1e6;
        Metrics::set_float(&metrics.raft_commit_seconds, commit_s);
        Metrics::set_float(&metrics.lease_remaining_seconds, status.lease_remaining.as_secs_f64());
        metrics.witness_batches.set(wide(status.counters.batches));
        metrics.stale_epochs.set(wide(status.counters.stale_epoch));
        metrics.accounts_owned.set(wide(self.services.registry.open_count() as u64));
        metrics.penalised_addresses.set(wide(self.services.auth.counters().penalised_addresses));
        let standing = self.locking.standing();
        metrics.site.update(&status, self.locking.may_change(), standing, self.ready().is_ok());
        metrics.text()
    }

    /// What the status page and `roost stats` show first.
    pub fn facts(&self) -> Vec<(String, String)> {
        let status = self.locking.status();
        let up_s = time::unix_s() - self.started_unix_s;
        let ready = self.ready().map_or_else(|why| why, |()| "yes".into());
        let leader = status.group.leader.map_or_else(|| "none".into(), |leader| format!("node {leader}"));
        let own = [
            ("node", self.name.clone()),
            ("site", self.config.cluster.site.clone()),
            ("version", env!("CARGO_PKG_VERSION").into()),
            ("ready", ready),
            ("up", format!("{up_s} s")),
            ("sessions", self.services.live.list().len().to_string()),
            ("accounts open", self.services.registry.open_count().to_string()),
            ("leader", leader),
            ("Raft term", status.group.term.to_string()),
            ("lease", format!("{:.1} s left", status.lease_remaining.as_secs_f64())),
            ("incarnation", status.incarnation.to_string()),
        ];
        let own = own.into_iter().map(|(name, value)| (name.to_owned(), value));
        let nodes =
            self.locking.nodes().into_iter().map(|node| (format!("node {}", node.id), sentence(&node)));
        own.chain(nodes).collect()
    }
}

/// A node of the site, for the status page.
fn sentence(node: &NodeStatus) -> String {
    let role = match node.role {
        Role::Leader => "leads",
        Role::Voter => "votes",
        Role::Learner => "learns",
        Role::Outside => "takes no part",
    };
    let session = if node.session.is_some() { "has a session" } else { "has no session" };
    let draining = if node.draining { ", is being emptied" } else { "" };
    let address = if node.address.is_empty() { String::new() } else { format!(" ({})", node.address) };
    format!("{role}, {session}, owns {} buckets{draining}{address}", node.buckets)
}
