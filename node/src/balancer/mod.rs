//! The balancer: the leader of the site spreads buckets over its nodes, empties nodes, and evens out what they own
//! (`locking.md` §7.1, §7.2). What it decides is in [`plan`]; here it is seen and done.
//!
//! Invariants
//! - Only the leader plans. A leader that is new knows nothing of what was before, and needs to know nothing.

pub mod plan;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use locking::{BUCKETS, Locking, NodeId, Placed, Role};
use tokio::sync::watch;

use crate::metrics::{ByKind, Metrics};
use crate::time;
use plan::{Act, Balancer, Member};

/// Between two turns, while there is something to do.
const TURN: Duration = Duration::from_millis(100);
/// Between two looks, if nothing changes.
const LOOK: Duration = Duration::from_secs(1);

/// Balances while this node leads, until it ends.
pub async fn run(locking: Locking, metrics: Arc<Metrics>, mut ended: watch::Receiver<bool>) {
    tokio::select! {
        () = turns(&locking, &metrics) => {}
        _ = ended.wait_for(|ended| *ended) => {}
    }
}

async fn turns(locking: &Locking, metrics: &Metrics) {
    let mut map = locking.map_changes();
    let began = time::now();
    let mut balancer: Option<Balancer> = None;
    loop {
        map.borrow_and_update();
        let turn = time::now();
        let leads = leads(locking);
        if leads != balancer.is_some() {
            balancer = leads.then(|| Balancer::new(BUCKETS));
        }
        let acted = match &mut balancer {
            Some(balancer) => take_turn(balancer, locking, metrics, began).await,
            None => false,
        };
        let pending = balancer.as_ref().map_or(0, Balancer::pending);
        metrics.balancer_pending.set(i64::try_from(pending).unwrap_or(i64::MAX));
        let wait = if acted || pending > 0 { TURN } else { LOOK };
        if !acted
            && pending == 0
            && tokio::time::timeout(wait, map.changed()).await.is_ok_and(|changed| changed.is_err())
        {
            return;
        }
        // Changes come in bursts; and turns are counted on being this far apart.
        tokio::time::sleep_until((turn + TURN).into()).await;
    }
}

fn leads(locking: &Locking) -> bool {
    let status = locking.status();
    status.group.leader == Some(u64::from(status.node_id)) && locking.may_change()
}

/// Sees, plans and does. Returns whether there was something to do.
async fn take_turn(balancer: &mut Balancer, locking: &Locking, metrics: &Metrics, began: Instant) -> bool {
    let members: Vec<Member> = locking
        .nodes()
        .iter()
        .filter(|node| node.role != Role::Outside || node.session.is_some())
        .map(|node| Member {
            node: node.id,
            live: node.session.is_some(),
            // Who was removed is to own nothing either.
            draining: node.draining || node.role == Role::Outside,
        })
        .collect();
    let placed = locking.map();
    let acts = balancer.plan(began.elapsed(), &placed, &members);
    let acted = !acts.is_empty();
    let mut given: BTreeMap<NodeId, usize> = BTreeMap::new();
    for act in acts {
        if let Act::Assign { buckets, to } = &act {
            *given.entry(*to).or_default() += buckets.len();
        }
        carry_out(act, balancer, locking, metrics, began).await;
    }
    for (node, buckets) in given {
        tracing::info!(buckets, %node, "buckets that nobody owned are given to a node");
    }
    acted
}

async fn carry_out(act: Act, balancer: &mut Balancer, locking: &Locking, metrics: &Metrics, began: Instant) {
    let count = |kind, count| {
        metrics.balancer_buckets.get_or_create(&ByKind { kind }).inc_by(count);
    };
    match act {
        Act::Assign { buckets, to } => {
            let wanted = buckets.len();
            match locking.assign(buckets, to).await {
                Ok(_) => {
                    count("assigned", wanted as u64);
                }
                Err(error) => {
                    tracing::warn!(%error, node = %to, "buckets without an owner were not given to a node")
                }
            }
        }
        Act::Move { bucket, from, to } => match locking.drain(bucket, Some(to)).await {
            Ok(()) => {
                tracing::debug!(bucket, %from, %to, "a bucket is to be handed over");
                count("moved", 1);
            }
            // It has gone by itself meanwhile, which says nothing about these two nodes.
            Err(error) if locking.placed(bucket) != Placed::Owned(from) => {
                tracing::debug!(bucket, %from, %error, "a bucket is not there any more");
            }
            Err(error) => {
                tracing::debug!(bucket, %from, %to, %error, "a bucket cannot be handed over");
                balancer.refused(began.elapsed(), bucket, from, to);
                count("refused", 1);
            }
        },
        Act::TakeBack { bucket } => {
            count("taken_back", 1);
            if let Err(error) = locking.drain(bucket, None).await {
                tracing::debug!(bucket, %error, "a hand-over was not taken back");
            }
        }
    }
}
