//! `roost cluster add|remove|drain|undrain|transfer-leader|declare-dead`: nodes come, go and are emptied.

use std::time::{Duration, Instant};

use locking::{Change, ChangeError, Locking, NodeStatus, Role};
use serde_json::{Value, json};

use super::{AddArgs, DrainArgs, RemoveArgs};
use crate::cli::elsewhere;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Context;
use crate::time;

/// Between two looks at how far something is.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A node that is declared dead by mistake has answered within. One that is dead is replaced within a second.
const ALIVE_WAIT: Duration = Duration::from_millis(500);
/// A node that is being emptied has handed over something within, or something is wrong.
const STUCK: Duration = Duration::from_secs(60);

impl From<ChangeError> for Failure {
    fn from(error: ChangeError) -> Self {
        Self::try_again(error.to_string())
    }
}

fn find(locking: &Locking, node: u8) -> Option<NodeStatus> {
    locking.nodes().into_iter().find(|known| known.id.0 == node)
}

fn known(locking: &Locking, node: u8) -> Result<NodeStatus, Failure> {
    let unknown = || Failure::new(Exit::NotFound, format!("there is no node {node} in this site"));
    find(locking, node).ok_or_else(unknown)
}

fn member(locking: &Locking, node: u8) -> Result<NodeStatus, Failure> {
    let known = known(locking, node)?;
    if known.role == Role::Outside {
        return Err(Failure::new(Exit::NotFound, format!("node {node} is not a member of this site")));
    }
    Ok(known)
}

pub(super) async fn add(context: &Context, args: &AddArgs) -> Result<Exit, Failure> {
    let (node, running) = (args.of.node, &context.running);
    if running.config.cluster.member.0.len() < 2 {
        return Err(Failure::new(
            Exit::Config,
            "this node was started as one that is alone: write all members of the site, new ones too, as \
             [[cluster.member]] into its configuration, with listen.peer and [cluster.tls], and restart it; then add them",
        ));
    }
    let locking = &running.locking;
    let before = find(locking, node);
    let address = args.address.clone().or_else(|| before.as_ref().map(|known| known.address.clone()));
    let address = address.filter(|address| !address.is_empty()).ok_or_else(|| {
        Failure::usage(format!(
            "nobody knows where node {node} is: name its listen.peer with --address HOST:PORT"
        ))
    })?;
    let started = time::now();
    let change = locking.change(Change::Add { node, address: address.clone() });
    with_progress(context, node, change).await?;
    if find(locking, node).is_some_and(|known| known.draining) {
        locking.change(Change::Undrain { node }).await?;
    }
    let voters = locking.status().group.voters.len();
    let mut text = format!("node {node} at {address} is a voter of this site now; there are {voters}\n");
    if voters.is_multiple_of(2) {
        let (survives, fewer) = ((voters - 1) / 2, voters - 1);
        text.push_str(&format!(
            "{voters} voters survive the loss of {survives}, as {fewer} do: add another one, or remove one\n"
        ));
    }
    let ms = started.elapsed().as_millis() as u64;
    context.say(text, json!({ "node": node, "address": address, "voters": voters, "ms": ms })).await
}

/// Says how far a node has caught up, for as long as it is being let in.
async fn with_progress(
    context: &Context,
    node: u8,
    change: impl Future<Output = Result<(), ChangeError>>,
) -> Result<(), Failure> {
    let mut change = std::pin::pin!(change);
    loop {
        tokio::select! {
            changed = &mut change => return Ok(changed?),
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if let Some((done, total)) = caught_up(context, node).await {
            context
                .out
                .progress(done.min(total), total, "log entries", &format!("node {node} catches up"))
                .await?;
        }
    }
}

/// Up to where a node has the log, and how long that is. Only the leader knows.
async fn caught_up(context: &Context, node: u8) -> Option<(u64, u64)> {
    let status = context.running.locking.status();
    let leader = u8::try_from(status.group.leader?).ok()?;
    if leader == status.node_id {
        let follower = status.group.followers.iter().find(|follower| follower.node == node)?;
        return Some((follower.matched.unwrap_or(0), status.group.last_log?));
    }
    let said = elsewhere::part(context, leader, &["cluster", "status", "--json"]).await.ok()?;
    let followers = said["followers"].as_array()?;
    let follower = followers.iter().find(|follower| follower["id"] == node)?;
    Some((follower["matched"].as_u64().unwrap_or(0), said["last_log"].as_u64()?))
}

pub(super) async fn remove(context: &Context, args: &RemoveArgs) -> Result<Exit, Failure> {
    let (node, locking) = (args.of.node, &context.running.locking);
    let before = member(locking, node)?;
    if locking.status().group.voters == [node] {
        return Err(Failure::new(
            Exit::Data,
            format!("node {node} is the only voter: add another one first"),
        ));
    }
    let drained = before.session.is_some() && !args.force;
    if drained {
        may_be_drained(locking, node)?;
        locking.change(Change::Drain { node }).await?;
        wait_until_empty(context, node).await?;
    }
    let left = find(locking, node).map_or(0, |known| known.buckets);
    locking.change(Change::Remove { node }).await?;
    let mut text = format!("node {node} is no member of this site any more; stop it\n");
    if left > 0 {
        text.push_str(&format!("it owned {left} buckets: they pause until its lease is over\n"));
    }
    context.say(text, json!({ "node": node, "drained": drained, "left": left })).await
}

/// Whether somebody else could own what a node owns.
fn may_be_drained(locking: &Locking, node: u8) -> Result<(), Failure> {
    let takes = |other: &NodeStatus| other.id.0 != node && other.session.is_some() && !other.draining;
    if locking.nodes().iter().any(takes) {
        return Ok(());
    }
    Err(Failure::new(Exit::Data, format!("no other node is up that could own what node {node} owns")))
}

pub(super) async fn drain(context: &Context, args: &DrainArgs) -> Result<Exit, Failure> {
    let (node, locking) = (args.of.node, &context.running.locking);
    let owned = known(locking, node)?.buckets;
    may_be_drained(locking, node)?;
    locking.change(Change::Drain { node }).await?;
    if args.no_wait {
        let text = format!("node {node} is being emptied of {owned} buckets\n");
        return context.say(text, json!({ "node": node, "draining": true, "buckets": owned })).await;
    }
    let started = time::now();
    wait_until_empty(context, node).await?;
    let ms = started.elapsed().as_millis() as u64;
    let text = format!(
        "node {node} owns nothing any more and can be stopped; {owned} buckets went to others in {ms} ms\n"
    );
    context.say(text, json!({ "node": node, "draining": true, "buckets": 0, "moved": owned, "ms": ms })).await
}

/// Waits until a node owns nothing, and says how far that is.
async fn wait_until_empty(context: &Context, node: u8) -> Result<(), Failure> {
    let locking = &context.running.locking;
    let mut map = locking.map_changes();
    let (mut total, mut fewest): (u64, Option<u64>) = (0, None);
    let mut since: Instant = time::now();
    loop {
        map.borrow_and_update();
        let left = find(locking, node).map_or(0, |known| u64::from(known.buckets));
        if left == 0 {
            return Ok(());
        }
        if fewest.is_none_or(|fewest| left < fewest) {
            (fewest, since) = (Some(left), time::now());
        }
        total = total.max(left);
        context.out.progress(total - left, total, "buckets", &format!("node {node} hands over")).await?;
        if since.elapsed() > STUCK {
            return Err(Failure::try_again(format!(
                "node {node} still owns {left} buckets and has handed over none for {} s; it goes on being emptied: see \
                 the logs of node {node} and of the leader, or take it back with `roost cluster undrain {node}`",
                STUCK.as_secs()
            )));
        }
        tokio::select! {
            // What it leads to is looked at, not that it happened.
            _ = tokio::time::timeout(LOOK_EVERY, map.changed()) => {}
            () = context.out.hung_up() => return Err(rpc::admin::HungUp.into()),
        }
    }
}

pub(super) async fn undrain(context: &Context, node: u8) -> Result<Exit, Failure> {
    known(&context.running.locking, node)?;
    context.running.locking.change(Change::Undrain { node }).await?;
    context
        .say(format!("node {node} may own accounts again\n"), json!({ "node": node, "draining": false }))
        .await
}

pub(super) async fn transfer_leader(context: &Context, node: u8) -> Result<Exit, Failure> {
    let locking = &context.running.locking;
    match member(locking, node)?.role {
        Role::Leader | Role::Voter => {}
        Role::Learner | Role::Outside => {
            return Err(Failure::new(Exit::Data, format!("node {node} does not vote, so it cannot lead")));
        }
    }
    let started = time::now();
    locking.change(Change::TransferLeader { node }).await?;
    let ms = started.elapsed().as_millis() as u64;
    context.say(format!("node {node} leads\n"), json!({ "leader": node, "ms": ms })).await
}

pub(super) async fn declare_dead(context: &Context, node: u8) -> Result<Exit, Failure> {
    let running = &context.running;
    let before = known(&running.locking, node)?;
    let alive = |why: &str| Err(Failure::new(Exit::Data, format!("node {node} is not dead: {why}")));
    if node == running.config.node.id {
        return alive("it is the one that you are talking to");
    }
    let asked = elsewhere::part(context, node, &["cluster", "status", "--json"]);
    match tokio::time::timeout(ALIVE_WAIT, asked).await {
        Ok(Ok(Value::Object(said))) if said.get("session_live") == Some(&Value::Bool(true)) => {
            return alive("it answers. Nothing was done");
        }
        Ok(Ok(_) | Err(_)) | Err(_) => {}
    }
    running.locking.change(Change::Dead { node }).await?;
    let text =
        format!("node {node} counts as dead; what it owned, {} buckets, is taken over now\n", before.buckets);
    context.say(text, json!({ "node": node, "buckets": before.buckets })).await
}
