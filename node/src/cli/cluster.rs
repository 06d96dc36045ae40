//! `roost cluster status`, and what else there is to say to a cluster.

use clap::Subcommand;
use serde_json::json;

use super::exit::{Exit, Failure};
use super::output::Context;

#[derive(Debug, Subcommand)]
pub(crate) enum ClusterCommand {
    /// Print this node's view of its site: leader, term, lease, what it owns
    Status,
    /// Make certificates for the connections between nodes
    #[command(subcommand)]
    Pki(super::pki::PkiCommand),
}

pub(crate) async fn status(context: &Context) -> Result<Exit, Failure> {
    let running = &context.running;
    let status = running.locking.status();
    let ready = running.ready();
    let group = &status.group;
    let number = |number: Option<u64>| number.map_or_else(|| "none".to_owned(), |number| number.to_string());
    let text = format!(
        "site {}\nnode {} (id {})\nready {}\nleader {}\nterm {}\nlog {} applied, {} written, snapshot {}\n\
         incarnation {}\nsession {}\nlease {:.1} s left\nbuckets {}\nwitnesses {}\n",
        running.config.cluster.site,
        running.name,
        status.node_id,
        ready.as_ref().map_or_else(|why| why.as_str(), |()| "yes"),
        number(group.leader),
        group.term,
        number(group.last_applied),
        number(group.last_log),
        number(group.snapshot),
        status.incarnation,
        if status.session_live { "live" } else { "lost" },
        status.lease_remaining.as_secs_f64(),
        status.buckets,
        status.witnesses,
    );
    let value = json!({
        "site": running.config.cluster.site, "node": running.name, "id": status.node_id, "ready": ready.is_ok(),
        "leader": group.leader, "term": group.term, "applied": group.last_applied, "incarnation": status.incarnation,
        "session_live": status.session_live, "lease_ms": status.lease_remaining.as_millis() as u64,
        "buckets": status.buckets, "witnesses": status.witnesses, "failure": group.failure,
    });
    context.say(text, value).await
}
