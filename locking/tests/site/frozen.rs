//! What a node may show when its lease is over: whether a site has no majority is found out by asking (`locking.md` §8).

use std::time::Duration;

use locking::{Locking, Standing};
use tokio::time::{Instant, sleep};

use crate::harness::{Cluster, LONG};

/// Waits for one of these, and says which came.
async fn becomes(locking: &Locking, wanted: &[Standing]) -> Standing {
    let until = Instant::now() + LONG;
    loop {
        let standing = locking.standing();
        if wanted.contains(&standing) {
            return standing;
        }
        assert!(Instant::now() < until, "in vain: {wanted:?}, it is {standing:?}");
        sleep(Duration::from_millis(5)).await;
    }
}

async fn site(seed: u64, nodes: u8, frozen_read_max: Duration) -> Cluster {
    let mut cluster = Cluster::new(seed, 1..=nodes);
    cluster.lease = Duration::from_secs(2);
    cluster.frozen_read_max = frozen_read_max;
    cluster.start_all().await;
    cluster
}

const MINUTE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_without_a_majority_is_frozen_for_a_while_and_no_longer() {
    let mut cluster = site(70, 3, Duration::from_secs(4)).await;
    cluster.kill(2).await;
    cluster.kill(3).await;
    let locking = cluster.node(1);
    let since = Instant::now();
    becomes(locking, &[Standing::Asking]).await;
    assert!(!locking.may_read());
    assert_eq!(becomes(locking, &[Standing::Frozen, Standing::Over]).await, Standing::Frozen);
    becomes(locking, &[Standing::Over]).await;
    assert!(since.elapsed() >= Duration::from_secs(4), "{:?}", since.elapsed());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_majority_that_comes_back_ends_it_with_a_new_session() {
    let mut cluster = site(71, 3, MINUTE).await;
    let session = cluster.node(1).session();
    cluster.kill(2).await;
    cluster.kill(3).await;
    becomes(cluster.node(1), &[Standing::Frozen]).await;
    cluster.start(2).await;
    assert_eq!(becomes(cluster.node(1), &[Standing::Held, Standing::Over]).await, Standing::Held);
    assert_ne!(cluster.node(1).session(), session);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_hears_that_the_others_go_on_shows_nothing() {
    // What it sends to the leader is lost, and what the leader sends to it: the third node tells it.
    let cluster = site(72, 3, MINUTE).await;
    let leader = cluster.leader(&[]).await;
    let (cut, third) = match leader {
        1 => (2, 3),
        2 => (3, 1),
        _ => (1, 2),
    };
    cluster.wires.cut(cut, leader);
    cluster.wires.cut(leader, cut);
    let locking = cluster.node(cut);
    assert_eq!(becomes(locking, &[Standing::Frozen, Standing::Over]).await, Standing::Over);
    assert!(cluster.node(third).may_read());
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_cut_off_from_all_hears_of_it_when_it_is_not() {
    let cluster = site(73, 3, MINUTE).await;
    let cut = cluster.leader(&[]).await;
    cluster.wires.isolate(cut);
    let locking = cluster.node(cut);
    assert_eq!(becomes(locking, &[Standing::Frozen, Standing::Over]).await, Standing::Frozen);
    cluster.wires.heal();
    let healed = Instant::now();
    becomes(locking, &[Standing::Returning, Standing::Held]).await;
    assert!(healed.elapsed() < Duration::from_secs(3), "{:?}", healed.elapsed());
    assert_eq!(becomes(locking, &[Standing::Held, Standing::Over]).await, Standing::Held);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_five_that_see_each_other_are_frozen_though_one_of_them_led() {
    let mut cluster = site(74, 5, MINUTE).await;
    let leader = cluster.leader(&[]).await;
    let other = leader % 5 + 1;
    for node in (1..=5).filter(|node| *node != leader && *node != other) {
        cluster.kill(node).await;
    }
    for node in [leader, other] {
        let standing = becomes(cluster.node(node), &[Standing::Frozen, Standing::Over]).await;
        assert_eq!(standing, Standing::Frozen, "node {node}");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_shown_after_the_lease_where_that_is_not_wanted() {
    let mut cluster = site(75, 3, Duration::ZERO).await;
    cluster.kill(2).await;
    cluster.kill(3).await;
    let wanted = [Standing::Asking, Standing::Frozen, Standing::Over];
    assert_eq!(becomes(cluster.node(1), &wanted).await, Standing::Over);
    cluster.shutdown().await;
}
