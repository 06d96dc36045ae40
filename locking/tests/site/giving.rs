//! Buckets that are handed over, assigned, and kept from nodes that are being emptied (§7.1).

use std::time::Duration;

use locking::command::Refusal;
use locking::{Change, ChangeError, GrantError, Locking, NodeId, Owner, Placed, WitnessError};
use tokio::time::{Instant, timeout};

use crate::harness::{Cluster, GROUPS, LONG, SUBKEY, eventually, granted, value};

/// The epoch under which a node learns from the map that it holds a bucket.
async fn given(locking: &Locking, bucket: u16) -> model::Epoch {
    eventually("it is held here", || locking.held(bucket)).await
}

/// Has a bucket asked for on behalf of another node.
async fn drain(locking: &Locking, bucket: u16, to: Option<u8>) {
    locking.drain(bucket, to.map(NodeId)).await.expect("whoever asks learns first who owns it");
}

/// A node may hear only later why it was granted nothing; it is granted nothing from the first moment on.
async fn refused_for_draining(locking: &Locking, bucket: u16) {
    let until = Instant::now() + LONG;
    loop {
        match locking.grant(bucket).await {
            Err(GrantError::Draining(_)) => return,
            Err(GrantError::HeldElsewhere(_)) => assert!(Instant::now() < until, "in vain"),
            other @ (Ok(_) | Err(GrantError::Refused(_) | GrantError::NoAnswer(_))) => panic!("{other:?}"),
        }
    }
}

async fn known(locking: &Locking, bucket: u16, owner: Owner) {
    eventually("it is known who owns the bucket", || (locking.owner(bucket) == owner).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_hand_over_is_one_entry_and_takes_milliseconds() {
    for groups in GROUPS {
        hand_over_and_back(groups).await;
    }
}

async fn hand_over_and_back(groups: u16) {
    let mut cluster = Cluster::new(40, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_secs(60);
    cluster.start_all().await;
    granted(cluster.node(1), 5).await;
    let mut times = Vec::new();
    for round in 0..60u64 {
        let (from, to) = if round % 2 == 0 { (1, 2) } else { (2, 1) };
        let (owner, next) = (cluster.node(from), cluster.node(to));
        let epoch = given(owner, 5).await;
        owner.witness(5, epoch, SUBKEY, value("mine"), round).await.expect("witnessed");
        let begun = Instant::now();
        drain(owner, 5, Some(to)).await;
        eventually("the owner sees it", || owner.to_hand_over().first().map(drop)).await;
        owner.hand_over(5).await.expect("handed over");
        assert_eq!(owner.held(5), None);
        let mut map = next.map_changes();
        let higher = loop {
            if let Some(higher) = next.held(5) {
                break higher;
            }
            timeout(LONG, map.changed()).await.expect("in time").expect("told");
        };
        times.push(begun.elapsed());
        assert_eq!(higher, epoch.next().expect("low"), "one grant, and nobody's in between");
        let late = owner.witness(5, epoch, SUBKEY, value("late"), round).await;
        assert_eq!(late, Err(WitnessError::StaleEpoch));
        known(owner, 5, Owner::Node(NodeId(to))).await;
    }
    times.sort_unstable();
    let (half, most) = (times[times.len() / 2], times[times.len() * 99 / 100]);
    println!("{groups} groups, {} hand-overs between three voters: p50 {half:?}, p99 {most:?}", times.len());
    assert!(most < Duration::from_secs(2), "§7.1 says 300 ms: {most:?}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_buckets_are_given_away_in_one_entry() {
    for groups in GROUPS {
        given_together(groups).await;
    }
}

async fn given_together(groups: u16) {
    let mut cluster = Cluster::new(47, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_secs(60);
    cluster.start_all().await;
    let (owner, next) = (cluster.node(1).clone(), cluster.node(2).clone());
    owner.grant_all().await.expect("all are free");
    let epoch = given(&owner, 5).await;
    assert!(owner.to_give_away().is_none(), "it is not being emptied");
    cluster.node(3).change(Change::Drain { node: 1 }).await.expect("drained");
    eventually("it is being emptied", || owner.to_give_away()).await;
    assert!(owner.may_give_away().await);
    let wanted: Vec<u16> = (0..2000).collect();
    let entries = || owner.voters().into_iter().filter_map(|voter| voter.status().last_applied).sum::<u64>();
    let before = entries();
    let left = owner.give_away(wanted.clone(), NodeId(2)).await.expect("given");
    assert_eq!(left, wanted.iter().copied().collect());
    assert!(entries() - before < 20, "an entry for each group, and not one for each bucket");
    assert!(wanted.iter().all(|bucket| owner.held(*bucket).is_none()));
    assert!(given(&next, 5).await > epoch);
    let late = owner.witness(5, epoch, SUBKEY, value("late"), 1).await;
    assert_eq!(late, Err(WitnessError::StaleEpoch));
    eventually("the map says so", || {
        wanted.iter().all(|bucket| owner.owner(*bucket) == Owner::Node(NodeId(2))).then_some(())
    })
    .await;
    // What is asked for by another way goes that way, and stays ours until it is handed over.
    drain(&next, 3000, Some(3)).await;
    assert_eq!(owner.give_away(vec![3000, 5], NodeId(2)).await.expect("answered").len(), 0);
    assert!(owner.held(3000).is_some() && owner.held(5).is_none());
    // A node that is down may be of a version that does not know this.
    cluster.kill(3).await;
    assert!(!owner.may_give_away().await);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hand_over_that_is_called_off_leaves_the_bucket_where_it_was() {
    let cluster = Cluster::of_three(41).await;
    let owner = cluster.node(1);
    let epoch = granted(owner, 5).await;
    drain(owner, 5, Some(2)).await;
    eventually("it is asked for", || {
        (cluster.node(3).map()[5] == Placed::Draining { from: NodeId(1), to: NodeId(2) }).then_some(())
    })
    .await;
    drain(cluster.node(3), 5, None).await;
    let refused = owner.hand_over(5).await;
    assert!(matches!(refused, Err(GrantError::Refused(Refusal::NotDraining))), "{refused:?}");
    assert_eq!(owner.held(5), Some(epoch), "it is held on under the same epoch");
    owner.witness(5, epoch, SUBKEY, value("still"), 1).await.expect("witnessed");
    assert_eq!(owner.hand_over(6).await.ok(), Some(()), "what is not held is not handed over");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_for_a_node_that_has_died_is_free() {
    let mut cluster = Cluster::new(42, [1, 2, 3]);
    cluster.lease = Duration::from_secs(60);
    cluster.start_all().await;
    let epoch = granted(cluster.node(1), 5).await;
    drain(cluster.node(1), 5, Some(2)).await;
    cluster.kill(2).await;
    cluster.node(3).change(Change::Dead { node: 2 }).await.expect("expired");
    cluster.node(1).hand_over(5).await.expect("given up");
    eventually("free", || (cluster.node(3).map()[5] == Placed::Free).then_some(())).await;
    assert!(granted(cluster.node(3), 5).await > epoch);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_others_assign_to_a_node_is_held_there_until_its_session_is_lost() {
    // (L-LE3)
    for groups in GROUPS {
        assigned(groups).await;
    }
}

async fn assigned(groups: u16) {
    let mut cluster = Cluster::new(43, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_secs(6);
    cluster.start_all().await;
    let taken = granted(cluster.node(2), 9).await;
    let given_now = cluster.node(3).assign((0..12).collect(), NodeId(1)).await.expect("assigned");
    assert_eq!(given_now, 11, "all but what node 2 holds");
    let mut epochs = Vec::new();
    for bucket in (0..12).filter(|bucket| *bucket != 9) {
        epochs.push(given(cluster.node(1), bucket).await);
    }
    assert_eq!(cluster.node(1).held(9), None);
    assert_eq!(cluster.node(2).held(9), Some(taken));
    cluster.node(1).witness(0, epochs[0], SUBKEY, value("v"), 1).await.expect("witnessed");

    // Its session is lost, and the same buckets are given to the next one before it hears of anything.
    cluster.wires.isolate(1);
    eventually("expired", || (cluster.node(3).map()[0] == Placed::Free).then_some(())).await;
    cluster.wires.heal();
    let mut sessions = cluster.node(1).sessions();
    timeout(LONG, sessions.changed()).await.expect("in time").expect("told");
    for bucket in 0..12 {
        assert_eq!(cluster.node(1).held(bucket), None, "bucket {bucket} was the old session's");
    }
    cluster.node(2).read_witness(0, &SUBKEY).await.expect("answers");
    cluster.node(2).assign(vec![0], NodeId(1)).await.expect("assigned");
    assert!(given(cluster.node(1), 0).await > epochs[0]);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_emptied_is_given_nothing_and_stays_so_over_a_restart() {
    for groups in GROUPS {
        emptied(groups).await;
    }
}

async fn emptied(groups: u16) {
    let mut cluster = Cluster::new(44, [1, 2, 3]).with_groups(groups);
    cluster.start_all().await;
    let epoch = granted(cluster.node(2), 5).await;
    let follower = cluster.leader(&[]).await % 3 + 1;
    cluster.node(follower).change(Change::Drain { node: 2 }).await.expect("emptied");
    refused_for_draining(cluster.node(2), 6).await;
    assert_eq!(cluster.node(2).grant(5).await.expect("held"), epoch);
    assert_eq!(cluster.node(2).grant_all().await.expect("answered"), 1, "no more than it has");
    let refused = cluster.node(1).assign(vec![6], NodeId(2)).await;
    assert!(matches!(refused, Err(GrantError::Refused(Refusal::NodeDraining))), "{refused:?}");
    assert_eq!(cluster.node(2).assign(vec![6], NodeId(3)).await.expect("to another"), 1);
    for locking in cluster.nodes.values() {
        eventually("all know", || {
            let draining: Vec<bool> = locking.nodes().iter().map(|node| node.draining).collect();
            (draining == [false, true, false]).then_some(())
        })
        .await;
    }

    cluster.kill(2).await;
    cluster.start(2).await;
    refused_for_draining(cluster.node(2), 7).await;
    cluster.node(2).change(Change::Undrain { node: 2 }).await.expect("filled again");
    granted(cluster.node(2), 7).await;
    let refused = cluster.node(2).change(Change::Drain { node: 9 }).await;
    let Err(ChangeError::Refused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("no node 9"), "{why}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_leader_is_expired_as_soon_as_another_leads() {
    // (L-LE4): its lease would be a minute, and nobody asks the dead one for long.
    let mut cluster = Cluster::new(45, [1, 2, 3]);
    cluster.lease = Duration::from_secs(60);
    cluster.start_all().await;
    let dead = cluster.leader(&[]).await;
    let other = dead % 3 + 1;
    let epoch = granted(cluster.node(dead), 5).await;
    cluster.wires.isolate(dead);
    let said = Instant::now();
    cluster.node(other).change(Change::Dead { node: dead }).await.expect("expired");
    assert!(granted(cluster.node(other), 5).await > epoch);
    assert!(said.elapsed() < Duration::from_secs(15), "{:?}", said.elapsed());
    cluster.shutdown().await;
}
