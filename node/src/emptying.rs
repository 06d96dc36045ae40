//! A node that is being emptied gives away what nobody uses there, thousands of buckets in one entry of the log.
//!
//! Most buckets of most nodes have no account that is open. Nothing has to come to an end in them and nobody has to wait, so
//! they need no hand-over of their own ([`crate::handover`]) and are not held back by the balancer's rates, which are there
//! for the sessions of others. What is in use goes the other way, one by one.
//!
//! Invariants
//! - A bucket is given away only when it has no account here, open or about to be, and from before that is looked at until
//!   its new owner is known nothing is opened in it.
//! - A site with a node that is down, or of a version that does not know this, is emptied one bucket after the other.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use locking::NodeId;
use tokio::sync::watch;

use crate::asking::Services;
use crate::balancer::plan::share_out;
use crate::handover::SEEN_WAIT;
use crate::time;

/// Between two looks, should no change of the map be heard of, and after a failure.
const LOOK: Duration = Duration::from_secs(1);
/// Changes of the map come in bursts.
const BURST: Duration = Duration::from_millis(200);

/// Gives away for as long as the node lives.
pub async fn follow(services: Arc<Services>, mut ended: watch::Receiver<bool>) {
    let mut version = services.router.version();
    loop {
        version.borrow_and_update();
        let pause = if give_away(&services).await { BURST } else { LOOK };
        let woken = async {
            tokio::time::sleep(pause).await;
            tokio::time::timeout(LOOK, version.changed()).await
        };
        tokio::select! {
            changed = woken => if matches!(changed, Ok(Err(_))) { return },
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// Gives away all that nobody uses now. False: something was in the way.
async fn give_away(services: &Services) -> bool {
    let Some((buckets, takes)) = services.router.to_give_away() else { return true };
    let used = services.registry.used();
    let unused: Vec<u16> = buckets.into_iter().filter(|bucket| !used.contains(bucket)).collect();
    let mut gone = 0;
    for (to, buckets) in share_out(&unused, &takes) {
        match services.give_unused(&buckets, to).await {
            Ok(left) => gone += left,
            Err(why) => {
                tracing::debug!(%to, %why, "buckets that nobody uses are not given away together");
                return false;
            }
        }
    }
    if gone > 0 {
        tracing::info!(buckets = gone, "buckets that nobody uses were given to other nodes");
    }
    true
}

impl Services {
    /// Says how many have left.
    async fn give_unused(&self, buckets: &[u16], to: NodeId) -> Result<usize, String> {
        // The door first: who is past it is seen in the registry, or is turned away there.
        let begun = self.departures.begin_unused(buckets);
        let held = self.registry.hold_unused(&begun);
        let asked = self.router.give_away(held.iter().copied().collect(), to).await;
        if let Ok(left) = &asked {
            self.seen(left).await;
        }
        self.registry.free(&held);
        self.departures.end_unused(&begun);
        Ok(asked?.len())
    }

    /// Waits until this node, too, sees that these buckets have another owner. They left together.
    async fn seen(&self, left: &BTreeSet<u16>) {
        if let Some(last) = left.last() {
            self.router.left(*last, time::now() + SEEN_WAIT).await;
        }
    }
}
