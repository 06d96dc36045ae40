//! Nodes of one site on simulated disks, joined by wires that can be cut.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use locking::peer::wires::Wires;
use locking::{Change, Door, Length, Locking, Options, Peers, Site, StartError, Value};
use nfs_compat::SimFs;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout};

pub(crate) const SUBKEY: [u8; 16] = [7; 16];
/// Longer than any single thing takes on a slow machine.
pub(crate) const LONG: Duration = Duration::from_secs(40);

pub(crate) fn value(text: &str) -> Value {
    Value::new(text.as_bytes()).expect("short")
}

pub(crate) struct Cluster {
    pub(crate) wires: Wires,
    pub(crate) lease: Duration,
    pub(crate) members: BTreeMap<u8, String>,
    pub(crate) disks: BTreeMap<u8, SimFs>,
    pub(crate) nodes: BTreeMap<u8, Locking>,
    pub(crate) floor: u32,
    /// Groups that keep buckets.
    pub(crate) groups: u16,
    pub(crate) ballast: bool,
    pub(crate) frozen_read_max: Duration,
}

/// What must hold in a site of one group, and in one whose buckets are kept by several others.
pub(crate) const GROUPS: [u16; 2] = [1, 4];

impl Cluster {
    pub(crate) fn new(seed: u64, nodes: impl IntoIterator<Item = u8>) -> Self {
        let members: BTreeMap<u8, String> =
            nodes.into_iter().map(|node| (node, format!("node{node}:7001"))).collect();
        let disks = members.keys().map(|node| (*node, SimFs::new(seed * 1000 + u64::from(*node)))).collect();
        Self {
            wires: Wires::new(seed),
            lease: Duration::from_secs(4),
            members,
            disks,
            nodes: BTreeMap::new(),
            floor: 0,
            groups: 1,
            ballast: false,
            frozen_read_max: Duration::ZERO,
        }
    }

    pub(crate) fn with_groups(self, groups: u16) -> Self {
        Self { groups, ..self }
    }

    /// Three nodes that have formed a site.
    pub(crate) async fn of_three(seed: u64) -> Self {
        let mut cluster = Self::new(seed, [1, 2, 3]);
        cluster.start_all().await;
        cluster
    }

    pub(crate) fn options(&self, node: u8) -> Options {
        let door = Door::new();
        let peers = self.wires.connect(node, Arc::clone(&door));
        self.options_at(node, door, peers)
    }

    pub(crate) fn options_at(&self, node: u8, door: Arc<Door>, peers: Arc<dyn Peers>) -> Options {
        let disk = self.disks[&node].clone();
        let mut options = Options::new(PathBuf::from("/state"), Arc::new(disk), node, 1, self.floor);
        options.local_copy = false;
        options.groups = self.groups;
        options.ballast = self.ballast;
        options.frozen_read_max = self.frozen_read_max;
        options.lease = Length::new(self.lease).expect("a length");
        options.peers = Some(Site { members: self.members.clone(), peers, door });
        options
    }

    pub(crate) fn begin(&self, node: u8) -> JoinHandle<Result<Locking, StartError>> {
        tokio::spawn(Locking::start(self.options(node)))
    }

    pub(crate) async fn start(&mut self, node: u8) {
        let starting = self.begin(node);
        self.started(node, starting).await;
    }

    pub(crate) async fn started(&mut self, node: u8, starting: JoinHandle<Result<Locking, StartError>>) {
        let started = timeout(LONG, starting).await.unwrap_or_else(|_| panic!("node {node} does not start"));
        let locking = started.expect("no panic").unwrap_or_else(|error| panic!("node {node}: {error}"));
        self.nodes.insert(node, locking);
    }

    pub(crate) async fn start_all(&mut self) {
        let starting: Vec<_> = self.disks.keys().map(|node| (*node, self.begin(*node))).collect();
        for (node, starting) in starting {
            self.started(node, starting).await;
        }
    }

    /// Ends a node as a kill with a power cut does.
    pub(crate) async fn kill(&mut self, node: u8) {
        self.wires.disconnect(node);
        if let Some(locking) = self.nodes.remove(&node) {
            stop(&locking).await;
        }
        self.disks[&node].crash(u64::from(node));
    }

    pub(crate) fn wipe(&mut self, node: u8) {
        self.disks.insert(node, SimFs::new(777 + u64::from(node)));
    }

    pub(crate) fn node(&self, node: u8) -> &Locking {
        &self.nodes[&node]
    }

    /// The node that all running nodes but `without` take for the leader.
    pub(crate) async fn leader(&self, without: &[u8]) -> u8 {
        eventually("all agree on a leader", || {
            let mut seen = self
                .nodes
                .iter()
                .filter(|(node, _)| !without.contains(node))
                .map(|(_, node)| node.status().group.leader.and_then(|leader| u8::try_from(leader).ok()));
            let first = seen.next().flatten()?;
            (!without.contains(&first) && seen.all(|leader| leader == Some(first))).then_some(first)
        })
        .await
    }

    pub(crate) async fn shutdown(self) {
        for (node, locking) in self.nodes {
            self.wires.disconnect(node);
            stop(&locking).await;
        }
    }

    /// The node that all running nodes take for the leader of the group that keeps a bucket.
    pub(crate) async fn leader_for(&self, bucket: u16) -> u8 {
        let leader = |locking: &Locking| {
            let status = locking.status();
            let group = status.shards.get(usize::from(bucket % self.groups)).unwrap_or(&status.group);
            group.leader.and_then(|leader| u8::try_from(leader).ok())
        };
        eventually("all agree on who leads the group of a bucket", || {
            let mut seen = self.nodes.values().map(leader);
            let first = seen.next().flatten()?;
            seen.all(|leader| leader == Some(first)).then_some(first)
        })
        .await
    }
}

/// Lets a node in, as soon as it answers.
pub(crate) async fn add(at: &Locking, node: u8) {
    let add = Change::Add { node, address: format!("node{node}:7001") };
    let until = Instant::now() + LONG;
    while let Err(error) = at.change(add.clone()).await {
        assert!(error.to_string().contains("start it first") && Instant::now() < until, "{error}");
    }
}

/// Stops all voters of a node, and says nothing to anybody.
pub(crate) async fn stop(locking: &Locking) {
    for voter in locking.voters() {
        voter.shutdown().await;
    }
}

/// Waits until there is something.
pub(crate) async fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + LONG;
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < until, "in vain: {what}");
        sleep(Duration::from_millis(10)).await;
    }
}

/// Has a bucket granted, as soon as that can be.
pub(crate) async fn granted(locking: &Locking, bucket: u16) -> model::Epoch {
    let until = Instant::now() + LONG;
    loop {
        match locking.grant(bucket).await {
            Ok(epoch) => return epoch,
            Err(error) => assert!(Instant::now() < until, "bucket {bucket}: {error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}
