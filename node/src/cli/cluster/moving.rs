//! `roost cluster move USER NODE`: a planned hand-over of one bucket (`locking.md` §7.1).

use std::time::{Duration, Instant};

use locking::command::Refusal;
use locking::{Bucket, GrantError, Locking, NodeId, Placed};
use serde_json::json;

use super::MoveArgs;
use crate::cli::choose;
use crate::cli::exit::{Exit, Failure};
use crate::cli::output::Context;
use crate::time;
use crate::users::account_id;

/// A hand-over that takes longer is taken back: §7.1 gives it two seconds at its owner.
const MOVE_MAX: Duration = Duration::from_secs(5);

pub(super) async fn run(context: &Context, args: &MoveArgs) -> Result<Exit, Failure> {
    let (locking, to) = (&context.running.locking, NodeId(args.of.node));
    let record = choose::find(context, &args.user).await?;
    let bucket = account_id(&record.user).bucket();
    takes(locking, to)?;
    let started = time::now();
    let from = owner(locking.placed(bucket));
    if from != Some(to) {
        hand_over(locking, bucket, to, started + MOVE_MAX).await?;
    }
    let ms = started.elapsed().as_millis() as u64;
    let user = record.user.as_str();
    let text = match from {
        Some(from) if from == to => format!("{user} is at node {to} already\n"),
        Some(from) => format!("{user} went from node {from} to node {to} with bucket {bucket} in {ms} ms\n"),
        None => {
            format!("{user} is at node {to} with bucket {bucket} after {ms} ms; nobody owned it before\n")
        }
    };
    let from = from.map(|from| from.0);
    context.say(text, json!({ "user": user, "bucket": bucket, "from": from, "to": to.0, "ms": ms })).await
}

/// Whether a node can be given something.
fn takes(locking: &Locking, to: NodeId) -> Result<(), Failure> {
    let found = locking.nodes().into_iter().find(|node| node.id == to);
    let node =
        found.ok_or_else(|| Failure::new(Exit::NotFound, format!("there is no node {to} in this site")))?;
    if node.session.is_none() {
        return Err(Failure::try_again(format!("node {to} is not up: it has no live session")));
    }
    if node.draining {
        let why = format!("node {to} is being emptied: run `roost cluster undrain {to}` first");
        return Err(Failure::new(Exit::Data, why));
    }
    Ok(())
}

fn owner(placed: Placed) -> Option<NodeId> {
    match placed {
        Placed::Free => None,
        Placed::Owned(node) | Placed::Draining { from: node, .. } => Some(node),
    }
}

async fn hand_over(locking: &Locking, bucket: Bucket, to: NodeId, until: Instant) -> Result<(), Failure> {
    let mut map = locking.map_changes();
    // The map of this node may be a little behind what the service has answered.
    let (mut asked, mut seen) = (false, false);
    loop {
        map.borrow_and_update();
        match locking.placed(bucket) {
            Placed::Owned(node) if node == to => return Ok(()),
            // Its owner died, or it never had one.
            Placed::Free => drop(locking.assign(vec![bucket], to).await.map_err(refused)?),
            Placed::Draining { to: node, .. } if node == to => seen = true,
            Placed::Owned(node) | Placed::Draining { from: node, .. } if seen => {
                return Err(Failure::try_again(format!(
                    "node {node} keeps bucket {bucket}: the hand-over was taken back. What was under way there was not \
                     done in time; its log says more. Try again"
                )));
            }
            Placed::Owned(_) | Placed::Draining { .. } if asked => {}
            Placed::Owned(_) | Placed::Draining { .. } => match locking.drain(bucket, Some(to)).await {
                Ok(()) => asked = true,
                Err(GrantError::Refused(Refusal::StaleEpoch)) => {}
                Err(error) => return Err(refused(error)),
            },
        }
        if tokio::time::timeout_at(until.into(), map.changed()).await.is_err() {
            return Err(take_back(locking, bucket, to).await);
        }
    }
}

/// Nobody is to wait for a hand-over that does not come.
async fn take_back(locking: &Locking, bucket: Bucket, to: NodeId) -> Failure {
    let late = format!("bucket {bucket} was not handed over to node {to} within {} s", MOVE_MAX.as_secs());
    match locking.drain(bucket, None).await {
        Ok(()) => Failure::try_again(format!("{late}: its owner keeps it")),
        Err(error) => Failure::try_again(format!("{late}, and taking that back failed: {error}")),
    }
}

fn refused(error: GrantError) -> Failure {
    Failure::try_again(error.to_string())
}
