//! `roost cluster status`

use locking::{NodeStatus, Role};
use serde_json::{Value, json};

use crate::cli::elsewhere::{self, Part};
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Context;
use crate::cli::table::table;
use crate::serve::Running;

pub(super) async fn run(context: &Context) -> Result<Exit, Failure> {
    let own = part(&context.running);
    if context.carried.is_some() {
        return context.say("", own).await;
    }
    let parts = elsewhere::parts(context, &["cluster", "status", "--json"]).await;
    let value = whole(&context.running, own, &parts);
    let led = !value["leader"].is_null();
    context.say(text(&value), value).await?;
    if led {
        return Ok(Exit::Ok);
    }
    let why = "there is no leader: a majority of the voters must be up and reach each other";
    Err(Failure::try_again(why))
}

/// What a node knows of itself alone.
fn part(running: &Running) -> Value {
    let status = running.locking.status();
    let ready = running.ready();
    let group = &status.group;
    // Whoever was the leader when this node last heard of one need not be it any more.
    let leader = group.leader.filter(|_| running.locking.may_read());
    let follower = |follower: &locking::Follower| {
        let heard_ms = follower.heard.map(|heard| heard.as_millis() as u64);
        json!({ "id": follower.node, "matched": follower.matched, "heard_ms": heard_ms })
    };
    json!({
        "site": running.config.cluster.site, "node": running.name, "id": status.node_id,
        "version": env!("CARGO_PKG_VERSION"), "wire": wire(),
        "ready": ready.is_ok(), "why": ready.err(),
        "leader": leader, "term": group.term, "last_log": group.last_log, "applied": group.last_applied,
        "snapshot": group.snapshot, "purged": group.purged, "log_bytes": group.log_bytes, "failure": group.failure,
        "followers": group.followers.iter().map(follower).collect::<Vec<_>>(),
        "incarnation": status.incarnation, "session": status.session.0, "session_live": status.session_live,
        "lease_ms": status.lease_remaining.as_millis() as u64, "buckets": status.buckets,
        "witnesses": status.witnesses, "sessions": running.services.live.list().len(),
        "accounts": running.services.registry.open_count(),
    })
}

/// Versions of what nodes say to each other.
fn wire() -> Value {
    json!({
        "peer": String::from_utf8_lossy(rpc::tls::ALPN), "coordination": rpc::coordination::VERSION,
        "relay": rpc::relay::VERSION, "admin": rpc::admin::VERSION,
    })
}

/// This node's part, and a row for each node.
fn whole(running: &Running, own: Value, parts: &[Part]) -> Value {
    let me = running.config.node.id;
    let nodes: Vec<Value> = running
        .locking
        .nodes()
        .iter()
        .map(|node| {
            let said = if node.id.0 == me {
                Some(Ok(own.clone()))
            } else {
                parts.iter().find(|part| part.node == node.id.0).map(|part| part.said.clone())
            };
            row(node, said.unwrap_or_else(|| Err("its address is not known here".to_owned())))
        })
        .collect();
    let mut value = own;
    value["nodes"] = Value::Array(nodes);
    value
}

fn row(node: &NodeStatus, said: Result<Value, String>) -> Value {
    let (said, unreachable) = match said {
        Ok(said) => (said, None),
        Err(why) => (Value::Null, Some(why)),
    };
    json!({
        "id": node.id.0, "name": said["node"], "address": node.address, "role": role(node.role),
        "session_live": node.session.is_some(), "session": node.session.map(|session| session.0),
        "buckets": node.buckets, "draining": node.draining, "version": said["version"], "wire": said["wire"],
        "ready": said["ready"], "why": said["why"], "applied": said["applied"], "lease_ms": said["lease_ms"],
        "sessions": said["sessions"], "accounts": said["accounts"], "unreachable": unreachable,
    })
}

fn role(role: Role) -> &'static str {
    match role {
        Role::Leader => "leader",
        Role::Voter => "voter",
        Role::Learner => "learner",
        Role::Outside => "outside",
    }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other @ (Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => other.to_string(),
    }
}

fn text(value: &Value) -> String {
    let is = |key: &str| plain(&value[key]);
    let yes =
        |value: &Value, yes: &str, no: &str| if *value == true { yes.to_owned() } else { no.to_owned() };
    let lease_s = value["lease_ms"].as_f64().unwrap_or(0.0) / 1000.0;
    let mut text = format!(
        "site {}, seen from node {} (id {})\nready {}\nleader {}, term {}\nlog {} written, {} applied, snapshot at {}, {} \
         bytes\nincarnation {}\nsession {} {}, lease {lease_s:.1} s left\nwitnesses {}\nwire {}\n\n",
        is("site"),
        is("node"),
        is("id"),
        value["why"].as_str().unwrap_or("yes"),
        value["leader"].as_u64().map_or_else(|| "none".to_owned(), |leader| format!("node {leader}")),
        is("term"),
        is("last_log"),
        is("applied"),
        is("snapshot"),
        is("log_bytes"),
        is("incarnation"),
        is("session"),
        yes(&value["session_live"], "live", "lost"),
        is("witnesses"),
        value["wire"]
            .as_object()
            .into_iter()
            .flatten()
            .map(|(name, version)| format!("{name} {}", plain(version)))
            .collect::<Vec<_>>()
            .join(", "),
    );
    let rows: Vec<[String; 9]> = value["nodes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|node| {
            let state = match (&node["draining"], &node["unreachable"], &node["why"]) {
                (_, Value::String(why), _) => format!("does not answer: {why}"),
                (Value::Bool(true), _, _) => "draining".to_owned(),
                (_, _, Value::String(why)) => why.clone(),
                (_, _, _) => "ready".to_owned(),
            };
            [
                plain(&node["id"]),
                plain(&node["name"]),
                plain(&node["address"]),
                plain(&node["role"]),
                yes(&node["session_live"], "live", "none"),
                plain(&node["buckets"]),
                plain(&node["applied"]),
                plain(&node["version"]),
                state,
            ]
        })
        .collect();
    let heading = ["NODE", "NAME", "ADDRESS", "ROLE", "SESSION", "BUCKETS", "APPLIED", "VERSION", "STATE"];
    text.push_str(&table(heading, &rows));
    text
}
