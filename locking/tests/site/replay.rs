//! A message between nodes that somebody recorded, and sends again.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use locking::peer::message::Kind;
use locking::{Change, Door, Locking, Peers};
use rpc::coordination::CallError;

use crate::harness::{Cluster, SUBKEY, granted, value};

/// Keeps what one node says to the others.
struct Recorder {
    peers: Arc<dyn Peers>,
    said: Arc<Mutex<Vec<(u8, Kind, Bytes)>>>,
}

impl Peers for Recorder {
    fn call(
        &self,
        to: u8,
        group: u16,
        kind: Kind,
        payload: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        self.said.lock().expect("whole").push((to, kind, payload.clone()));
        self.peers.call(to, group, kind, payload, deadline)
    }

    fn learn(&self, node: u8, address: &str) {
        self.peers.learn(node, address);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replayed_witness_is_refused_to_others_and_changes_nothing_for_who_said_it() {
    let mut cluster = Cluster::new(110, [1, 2, 3]);
    let said = Arc::new(Mutex::new(Vec::new()));
    let (mut doors, mut starting) = (Vec::new(), Vec::new());
    for node in [1, 2, 3] {
        let door = Door::new();
        doors.push(Arc::clone(&door));
        let mut peers = cluster.wires.connect(node, Arc::clone(&door));
        if node == 1 {
            peers = Arc::new(Recorder { peers, said: Arc::clone(&said) });
        }
        starting.push((node, tokio::spawn(Locking::start(cluster.options_at(node, door, peers)))));
    }
    for (node, starting) in starting {
        cluster.started(node, starting).await;
    }
    // Node 1 has to ask another for what it wants witnessed.
    cluster.node(1).change(Change::TransferLeader { node: 2 }).await.expect("node 2 leads");
    let old = granted(cluster.node(1), 5).await;
    said.lock().expect("whole").clear();
    cluster.node(1).witness(5, old, SUBKEY, value("old"), 7).await.expect("witnessed");
    let recorded: Vec<(u8, Kind, Bytes)> = said.lock().expect("whole").clone();
    let asked: Vec<Bytes> = recorded
        .into_iter()
        .filter(|(to, kind, payload)| (*to, *kind) == (2, Kind::Ask) && contains(payload, b"old"))
        .map(|(.., payload)| payload)
        .collect();
    assert!(!asked.is_empty(), "the witness was on the wire");

    cluster.node(1).release(5).await.expect("released");
    let new = granted(cluster.node(3), 5).await;
    cluster.node(3).witness(5, new, SUBKEY, value("new"), 8).await.expect("witnessed");
    for payload in asked {
        let refused = doors[1].handle(3, 0, Kind::Ask.number(), payload.clone()).await.expect_err("refused");
        assert!(refused.0.contains("node 3 speaks as node 1"), "{refused}");
        // From the node itself it is the same request, and was carried out.
        doors[1].handle(1, 0, Kind::Ask.number(), payload).await.expect("answered as before");
    }
    for node in [1, 2, 3] {
        let found = cluster.node(node).read_witness(5, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!((found.epoch, found.counter, found.value), (new, 8, value("new")), "node {node}");
    }
    cluster.shutdown().await;
}

fn contains(payload: &[u8], wanted: &[u8]) -> bool {
    payload.windows(wanted.len()).any(|window| window == wanted)
}
