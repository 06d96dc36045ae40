//! A site forms by itself, once, whoever starts first.

use std::time::Duration;

use locking::{Change, ChangeError, Role, StartError};
use tokio::time::{sleep, timeout};

use crate::harness::{Cluster, LONG, SUBKEY, add, eventually, granted, value};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_new_nodes_form_one_site_and_all_of_them_serve() {
    let cluster = Cluster::of_three(1).await;
    let incarnations: Vec<u32> = cluster.nodes.values().map(locking::Locking::incarnation).collect();
    assert_eq!(incarnations, [1, 1, 1]);
    let leader = cluster.leader(&[]).await;
    for node in [1, 2, 3] {
        let locking = cluster.node(node);
        let bucket = u16::from(node);
        let epoch = granted(locking, bucket).await;
        locking.witness(bucket, epoch, SUBKEY, value("v"), 1).await.expect("witnessed from any node");
    }
    for node in [1, 2, 3] {
        for bucket in [1, 2, 3] {
            let found = cluster.node(node).read_witness(bucket, &SUBKEY).await.expect("answers");
            assert_eq!(found.expect("is there").counter, 1, "node {node} reads what {bucket} wrote (L-RS7)");
        }
        let nodes = cluster.node(node).nodes();
        assert!(nodes.iter().all(|node| node.session.is_some() && node.buckets == 1), "{nodes:?}");
        let leaders: Vec<u8> =
            nodes.iter().filter(|node| node.role == Role::Leader).map(|node| node.id.0).collect();
        assert_eq!(leaders, [leader]);
        assert_eq!(nodes[0].address, "node1:7001");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_forms_the_site_and_the_last_node_finds_it() {
    for late in [1, 2, 3] {
        let mut cluster = Cluster::new(20 + u64::from(late), [1, 2, 3]);
        let first: Vec<u8> = [1, 2, 3].into_iter().filter(|node| *node != late).collect();
        let alone = cluster.begin(first[0]);
        sleep(Duration::from_millis(700)).await;
        assert!(!alone.is_finished(), "one of three forms nothing");
        let second = cluster.begin(first[1]);
        cluster.started(first[0], alone).await;
        cluster.started(first[1], second).await;
        let epoch = granted(cluster.node(first[0]), 5).await;
        cluster.node(first[0]).witness(5, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
        cluster.start(late).await;
        let found = cluster.node(late).read_witness(5, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!(found.epoch, epoch, "one group, not two");
        assert_eq!(cluster.node(late).status().group.voters, [1, 2, 3]);
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_its_disk_neither_founds_nor_votes_and_says_what_to_do() {
    // (L-RS2, A-5)
    let mut cluster = Cluster::of_three(3).await;
    let epoch = granted(cluster.node(1), 5).await;
    cluster.node(1).witness(5, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
    cluster.kill(3).await;
    cluster.wipe(3);
    let starting = cluster.begin(3);
    let refused = timeout(LONG, starting).await.expect("in time").expect("no panic");
    let Err(StartError::OtherStore(why)) = refused else { panic!("a lost disk was taken for the old one") };
    assert!(why.contains("roost cluster remove 3"), "{why}");

    // With only one of the others up it must not vote either: nobody leads then.
    cluster.kill(2).await;
    let waiting = cluster.begin(3);
    sleep(Duration::from_secs(3)).await;
    assert!(!waiting.is_finished(), "it waits to be told who it is");
    assert!(cluster.node(1).grant(6).await.is_err(), "one of three is no quorum");
    cluster.start(2).await;
    let refused = timeout(LONG, waiting).await.expect("in time").expect("no panic");
    assert!(matches!(refused, Err(StartError::OtherStore(_))));

    // It comes back as a new instance, after the old one was removed.
    cluster.node(1).change(Change::Remove { node: 3 }).await.expect("removed");
    let waiting = cluster.begin(3);
    sleep(Duration::from_millis(500)).await;
    assert!(!waiting.is_finished(), "nobody has let it in");
    add(cluster.node(2), 3).await;
    cluster.started(3, waiting).await;
    let found = cluster.node(3).read_witness(5, &SUBKEY).await.expect("answers").expect("is there");
    assert_eq!(found.epoch, epoch);
    eventually("three voters", || (cluster.node(3).status().group.voters == [1, 2, 3]).then_some(())).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_was_founded_anew_does_not_mix_with_what_is_left_of_the_old_one() {
    // Only a volume that forgot, too, lets two lost disks found anything: its incarnation is 0 here.
    let mut cluster = Cluster::of_three(8).await;
    let epoch = granted(cluster.node(1), 5).await;
    for counter in 1..=30 {
        cluster.node(1).witness(5, epoch, SUBKEY, value("old"), counter).await.expect("witnessed");
    }
    for node in [1, 2, 3] {
        cluster.kill(node).await;
    }
    cluster.wipe(2);
    cluster.wipe(3);
    let (two, three) = (cluster.begin(2), cluster.begin(3));
    cluster.started(2, two).await;
    cluster.started(3, three).await;
    let epoch = granted(cluster.node(2), 5).await;
    cluster.node(2).witness(5, epoch, SUBKEY, value("new"), 1).await.expect("witnessed");
    // Its log is longer than theirs, and nobody hears of it.
    let old = cluster.begin(1);
    sleep(Duration::from_secs(4)).await;
    assert!(!old.is_finished(), "it serves nobody");
    for node in [2, 3] {
        let found = cluster.node(node).read_witness(5, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!((found.value, found.counter), (value("new"), 1));
    }
    old.abort();
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_nodes_do_not_found_a_site_on_a_volume_that_was_served_before() {
    let mut cluster = Cluster::new(4, [1, 2, 3]);
    cluster.floor = 5;
    let starting: Vec<_> = [1, 2, 3].map(|node| cluster.begin(node)).into_iter().collect();
    sleep(Duration::from_secs(2)).await;
    assert!(starting.iter().all(|starting| !starting.is_finished()));
    for starting in starting {
        starting.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_configured_differently_do_not_form() {
    let mut cluster = Cluster::new(5, [1, 2, 3]);
    let one = cluster.begin(1);
    cluster.members.remove(&3);
    let two = cluster.begin(2);
    sleep(Duration::from_secs(2)).await;
    assert!(!one.is_finished() && !two.is_finished());
    one.abort();
    two.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_killed_at_once_come_back_with_everything() {
    let mut cluster = Cluster::of_three(6).await;
    let epoch = granted(cluster.node(2), 5).await;
    for counter in 1..=50 {
        cluster.node(2).witness(5, epoch, SUBKEY, value("v"), counter).await.expect("witnessed");
    }
    for node in [1, 2, 3] {
        cluster.kill(node).await;
    }
    cluster.start_all().await;
    let found = cluster.node(1).read_witness(5, &SUBKEY).await.expect("answers").expect("is there");
    assert_eq!(found.counter, 50);
    assert!(granted(cluster.node(1), 5).await > epoch);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_not_there_cannot_be_added() {
    let cluster = Cluster::of_three(7).await;
    let add = Change::Add { node: 4, address: "node4:7001".to_owned() };
    let refused = cluster.node(1).change(add).await;
    let Err(ChangeError::Refused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("start it first"), "{why}");
    cluster.shutdown().await;
}
