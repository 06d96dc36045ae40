//! Owners of accounts as the coordination service of the site knows them.
//!
//! Invariants
//! - A node whose lease is over owns nothing, whatever it was granted, and answers nothing (L-LE1) but, marked, to sessions
//!   that were there before, while its site has no majority.
//! - Whoever is asked for an account that nobody owns asks to own it: the first one that does is granted it (L-SM1).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::BoxFuture;
use locking::{Bucket, GrantError, Locking, NodeId, Standing};
use model::AccountId;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::router::{Handing, Owner, Owners};
use crate::time;

/// Between two looks at our own lease: the map does not tell that it is over.
const LEASE_LOOK: Duration = Duration::from_millis(100);
/// Before a bucket is asked for again that could not be granted.
const ASK_AGAIN: Duration = Duration::from_millis(250);

pub struct BucketOwners {
    locking: Locking,
    runtime: Handle,
    /// Log index of the last change of the map, the same at every node.
    version: watch::Sender<u64>,
    /// Buckets that are being asked for.
    asked: Arc<Mutex<BTreeSet<Bucket>>>,
}

impl BucketOwners {
    pub fn follow(locking: Locking) -> Arc<Self> {
        let map = locking.map_changes();
        let version = watch::Sender::new(*map.borrow());
        let owners = Arc::new(Self { locking, runtime: Handle::current(), version, asked: Arc::default() });
        tokio::spawn(follow(Arc::downgrade(&owners), map));
        tokio::spawn(tell_standing(owners.locking.standings()));
        owners
    }

    fn has_lease(&self) -> bool {
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::has(crate::seeded::Bug::LeaseIgnored) {
            return true;
        }
        self.locking.may_read()
    }

    fn tell(&self, map: u64) {
        self.version.send_modify(|version| *version = map.max(*version));
    }
}

fn lock(asked: &Mutex<BTreeSet<Bucket>>) -> MutexGuard<'_, BTreeSet<Bucket>> {
    asked.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Passes on what the map tells, and when the lease ends or comes back.
async fn follow(owners: std::sync::Weak<BucketOwners>, mut map: watch::Receiver<u64>) {
    let mut held = true;
    loop {
        match tokio::time::timeout(LEASE_LOOK, map.changed()).await {
            Ok(Err(_)) => return,
            Ok(Ok(())) => {
                let Some(owners) = owners.upgrade() else { return };
                let index = *map.borrow_and_update();
                owners.tell(index);
            }
            Err(_) => {
                let Some(owners) = owners.upgrade() else { return };
                let holds = owners.has_lease();
                if holds != held {
                    held = holds;
                    owners.tell(0);
                }
            }
        }
    }
}

/// Says in the log what sessions of this node are shown.
async fn tell_standing(mut standings: watch::Receiver<Standing>) {
    let mut before = Standing::Held;
    let mut since = time::now();
    while standings.changed().await.is_ok() {
        let standing = *standings.borrow_and_update();
        let seconds = since.elapsed().as_secs();
        match standing {
            Standing::Held => {
                tracing::info!("this node has touch with its site again after {seconds} s, and serves");
            }
            Standing::Asking if before == Standing::Held => {
                since = time::now();
                tracing::warn!(
                    "this node has lost touch with its site: it serves nobody until it knows whether the others go on"
                );
            }
            Standing::Asking => {
                tracing::warn!(
                    "this node stood still: it serves nobody before it has asked the others again"
                );
            }
            Standing::Frozen => tracing::warn!(
                "READ-ONLY: nobody whom this node reaches knows a leader, so the site has no majority. Sessions that were \
                 there go on reading for at most cluster.frozen_read_max, each is told, and nothing can be changed. Start \
                 the other nodes, or mend the network between them"
            ),
            Standing::Returning => tracing::warn!(
                "a leader is heard of again after {seconds} s: sessions wait until this node has a lease from it"
            ),
            Standing::Over if before == Standing::Frozen => tracing::warn!(
                "read-only is over after {seconds} s: cluster.frozen_read_max has passed. Sessions end, and this node serves \
                 nobody until it is back"
            ),
            Standing::Over => {
                tracing::warn!("the others go on without this node: it serves nobody until it is back");
            }
        }
        before = standing;
    }
}

impl Owners for BucketOwners {
    fn owner(&self, account: AccountId) -> Owner {
        if !self.has_lease() {
            return Owner::Nobody;
        }
        match self.locking.owner(account.bucket()) {
            locking::Owner::Here(_) => Owner::Here,
            locking::Owner::Node(node) => Owner::Node(node.0),
            locking::Owner::Nobody => Owner::Nobody,
        }
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn wanted(&self, account: AccountId) {
        let bucket = account.bucket();
        // Without a lease nothing is granted; that it is back will be told.
        if !self.has_lease() || !lock(&self.asked).insert(bucket) {
            return;
        }
        let (locking, version, asked) = (self.locking.clone(), self.version.clone(), Arc::clone(&self.asked));
        self.runtime.spawn(async move {
            let granted = locking.grant(bucket).await;
            if let Err(error) = &granted
                && !matches!(error, GrantError::HeldElsewhere(_))
            {
                tracing::debug!(bucket, %error, "a bucket that nobody owns was not granted");
                tokio::time::sleep(ASK_AGAIN).await;
            }
            lock(&asked).remove(&bucket);
            // Whoever waits looks again: what is granted here counts before the map tells it.
            version.send_modify(|_| ());
        });
    }

    fn standing(&self) -> Standing {
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::has(crate::seeded::Bug::LeaseIgnored) {
            return Standing::Held;
        }
        self.locking.standing()
    }

    fn standings(&self) -> Option<watch::Receiver<Standing>> {
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::has(crate::seeded::Bug::LeaseIgnored) {
            return None;
        }
        Some(self.locking.standings())
    }

    fn to_hand_over(&self) -> Vec<(u16, u8)> {
        if !self.has_lease() {
            return Vec::new();
        }
        self.locking.to_hand_over().into_iter().map(|(bucket, to)| (bucket, to.0)).collect()
    }

    fn hand_over(&self, bucket: u16) -> Handing {
        let locking = self.locking.clone();
        Box::pin(async move { locking.hand_over(bucket).await.map_err(|error| error.to_string()) })
    }

    fn keep(&self, bucket: u16) -> Handing {
        let locking = self.locking.clone();
        Box::pin(async move { locking.drain(bucket, None).await.map_err(|error| error.to_string()) })
    }

    fn send_away(&self, bucket: u16, to: u8) -> Handing {
        let locking = self.locking.clone();
        Box::pin(
            async move { locking.drain(bucket, Some(NodeId(to))).await.map_err(|error| error.to_string()) },
        )
    }

    fn others(&self) -> Vec<u8> {
        if !self.has_lease() {
            return Vec::new();
        }
        let own = NodeId(self.locking.status().node_id);
        let nodes = self.locking.nodes().into_iter();
        let others = nodes.filter(|node| node.id != own && node.session.is_some() && !node.draining);
        others.map(|node| node.id.0).collect()
    }

    fn to_give_away(&self) -> Option<(Vec<u16>, BTreeMap<NodeId, usize>)> {
        if !self.has_lease() {
            return None;
        }
        self.locking.to_give_away()
    }

    fn give_away(&self, buckets: Vec<u16>, to: NodeId) -> BoxFuture<'static, Result<BTreeSet<u16>, String>> {
        let locking = self.locking.clone();
        Box::pin(async move {
            if !locking.may_give_away().await {
                return Err("not all nodes of the site are up and of this version".to_owned());
            }
            locking.give_away(buckets, to).await.map_err(|error| error.to_string())
        })
    }
}
