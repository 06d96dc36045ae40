//! Leaders, owners and majorities that go away.

use std::time::Duration;

use locking::{Change, Locking, NodeId, Owner, Record, WitnessError};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Cluster, GROUPS, LONG, SUBKEY, eventually, granted, value};

fn record(bucket: u16, epoch: model::Epoch, counter: u64) -> Record {
    Record { bucket, epoch, subkey: SUBKEY, value: value("v"), counter }
}

async fn read(locking: &Locking, bucket: u16) -> u64 {
    let until = Instant::now() + LONG;
    loop {
        match locking.read_witness(bucket, &SUBKEY).await {
            Ok(found) => return found.map_or(0, |found| found.counter),
            Err(error) => assert!(Instant::now() < until, "{error}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn witnesses_flow_on_when_the_leader_is_killed_and_none_is_lost_or_out_of_order() {
    // (J2, L-CM3)
    for groups in GROUPS {
        flow_on(groups).await;
    }
}

async fn flow_on(groups: u16) {
    let mut cluster = Cluster::new(10, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_secs(20);
    cluster.start_all().await;
    let leader = cluster.leader_for(5).await;
    let owner = if leader == 1 { 2 } else { 1 };
    let locking = cluster.node(owner).clone();
    let epoch = granted(&locking, 5).await;
    let writing = tokio::spawn({
        let locking = locking.clone();
        async move {
            for counter in 1..=600 {
                // Three at a time: the next ones are on their way before the first is answered.
                let tickets = [0, 1, 2].map(|place| locking.submit(record(5, epoch, counter * 3 + place)));
                for ticket in tickets {
                    assert_eq!(ticket.answer().await, Ok(()), "round {counter}");
                }
                sleep(Duration::from_millis(2)).await;
            }
        }
    });
    sleep(Duration::from_millis(300)).await;
    cluster.kill(leader).await;
    timeout(LONG, writing).await.expect("in time").expect("all acknowledged, in order");
    assert_eq!(read(&locking, 5).await, 1802);
    assert_eq!(locking.held(5), Some(epoch), "the lease outlived the change of leader");
    cluster.start(leader).await;
    assert_eq!(read(cluster.node(leader), 5).await, 1802, "the old leader has it all");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_is_cut_off_is_deposed_and_its_late_witness_is_refused() {
    // (J1, L-LE1, L-LE2, L-LE3)
    for groups in GROUPS {
        cut_off(groups).await;
    }
}

async fn cut_off(groups: u16) {
    let mut cluster = Cluster::new(11, [1, 2, 3]).with_groups(groups);
    cluster.start_all().await;
    let leader = cluster.leader(&[]).await;
    let owner = if leader == 1 { 2 } else { 1 };
    let other = 6 - leader - owner;
    let locking = cluster.node(owner).clone();
    let epoch = granted(&locking, 5).await;
    locking.witness(5, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
    assert_eq!(locking.owner(5), Owner::Here(epoch));
    eventually("others know", || (cluster.node(other).owner(5) == Owner::Node(NodeId(owner))).then_some(()))
        .await;
    let mut sessions = locking.sessions();
    let old = locking.session();

    cluster.wires.isolate(owner);
    let cut_at = Instant::now();
    assert!(cluster.node(other).grant(5).await.is_err(), "its session is live still");
    // It can be acknowledged nothing from the first moment on.
    let late = tokio::spawn({
        let locking = locking.clone();
        async move { locking.witness(5, epoch, SUBKEY, value("late"), 9).await }
    });
    let higher = granted(cluster.node(other), 5).await;
    assert!(!locking.may_read() && !locking.may_change(), "it had stopped believing before");
    assert!(cut_at.elapsed() >= cluster.lease, "not before the lease is over for everybody");
    assert!(higher > epoch);
    cluster.node(other).witness(5, higher, SUBKEY, value("new"), 2).await.expect("witnessed");

    cluster.wires.heal();
    let late = timeout(LONG, late).await.expect("in time").expect("ends");
    assert!(matches!(late, Err(WitnessError::StaleEpoch | WitnessError::Unknown)), "{late:?}");
    timeout(LONG, sessions.changed()).await.expect("in time").expect("told");
    assert!(locking.session() > old, "a new session, never the old one");
    assert_eq!(locking.held(5), None);
    let refused = locking.witness(5, epoch, SUBKEY, value("later"), 10).await;
    assert_eq!(refused, Err(WitnessError::StaleEpoch));
    assert_eq!(read(&locking, 5).await, 2);
    assert_eq!(locking.owner(5), Owner::Node(NodeId(other)));
    cluster.nodes.insert(owner, locking);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_leader_shortens_no_lease() {
    let mut cluster = Cluster::new(12, [1, 2, 3]);
    cluster.lease = Duration::from_secs(8);
    cluster.start_all().await;
    let sessions: Vec<_> = cluster.nodes.values().map(Locking::session).collect();
    for _ in 0..4 {
        let leader = cluster.leader(&[]).await;
        let next = leader % 3 + 1;
        let hand_over = Change::TransferLeader { node: next };
        let done = cluster.node(leader % 3 + 1).change(hand_over).await;
        assert!(done.is_ok(), "{done:?}");
        assert_eq!(cluster.leader(&[]).await, next);
        sleep(Duration::from_secs(1)).await;
    }
    let leader = cluster.leader(&[]).await;
    cluster.kill(leader).await;
    cluster.leader(&[]).await;
    sleep(Duration::from_secs(4)).await;
    for (node, locking) in &cluster.nodes {
        assert!(locking.may_change(), "node {node}");
        assert!(sessions.contains(&locking.session()), "node {node} has kept its session");
    }
    // The dead one's session ends, and nobody else's.
    let survivor = *cluster.nodes.keys().next().expect("two are left");
    eventually("the dead node's session expires", || {
        let nodes = cluster.node(survivor).nodes();
        let dead = nodes.iter().find(|node| node.id.0 == leader)?;
        dead.session.is_none().then_some(())
    })
    .await;
    for locking in cluster.nodes.values() {
        assert!(sessions.contains(&locking.session()));
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_heir_that_does_not_hear_of_it_at_first_leads_all_the_same() {
    let cluster = Cluster::of_three(24).await;
    let leader = cluster.leader(&[]).await;
    let (heir, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let epoch = granted(cluster.node(other), 5).await;
    cluster.wires.cut(leader, heir);
    let told = tokio::spawn({
        let leads = cluster.node(leader).clone();
        async move { leads.change(Change::TransferLeader { node: heir }).await }
    });
    // Shorter than an heir waits before it stands because nothing is heard.
    sleep(Duration::from_millis(300)).await;
    cluster.wires.heal();
    timeout(LONG, told).await.expect("in time").expect("no panic").expect("it leads");
    assert_eq!(cluster.leader(&[]).await, heir);
    cluster.node(other).witness(5, epoch, SUBKEY, value("v"), 1).await.expect("and takes what comes");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lost_and_late_replies_double_nothing() {
    let cluster = Cluster::of_three(13).await;
    let leader = cluster.leader(&[]).await;
    let locking = cluster.node(if leader == 1 { 2 } else { 1 });
    let epoch = granted(locking, 5).await;
    cluster.wires.lose_replies(10);
    cluster.wires.delay(Duration::from_millis(20));
    let before = locking.session();
    let mut acknowledged = 0;
    for counter in 1..=30 {
        let tickets = [0, 1].map(|place| locking.submit(record(5, epoch, counter * 2 + place)));
        for ticket in tickets {
            match timeout(LONG, ticket.answer()).await.expect("in time") {
                Ok(()) => acknowledged = counter,
                Err(WitnessError::Unknown | WitnessError::StaleEpoch) => {
                    assert_ne!(locking.session(), before, "only a lost session ends the asking (L-CM3)");
                }
                Err(WitnessError::Backwards) => panic!("{counter} overtook another"),
            }
        }
    }
    cluster.wires.heal();
    assert!(read(locking, 5).await > acknowledged * 2);
    assert_eq!(locking.status().counters.backwards, 0);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn requests_that_overtake_each_other_on_the_way_are_carried_out_in_order() {
    // (L-CM3)
    let cluster = Cluster::of_three(20).await;
    let leader = cluster.leader(&[]).await;
    let locking = cluster.node(leader % 3 + 1);
    let epoch = granted(locking, 5).await;
    cluster.wires.delay(Duration::from_millis(30));
    let mut tickets = Vec::new();
    for counter in 1..=300 {
        tickets.push(locking.submit(record(5, epoch, counter)));
        sleep(Duration::from_millis(1)).await;
    }
    for (counter, ticket) in (1..).zip(tickets) {
        let answer = timeout(LONG, ticket.answer()).await.expect("in time");
        assert_eq!(answer, Ok(()), "{counter}: one that overtook it would send it backwards");
    }
    let batches = locking.status().counters.batches;
    assert!(batches > 20, "{batches} batches leave nothing to overtake");
    cluster.wires.heal();
    assert_eq!(read(locking, 5).await, 300);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_way_cuts_end_in_one_leader_that_serves() {
    let cluster = Cluster::of_three(14).await;
    let leader = cluster.leader(&[]).await;
    let others: Vec<u8> = [1, 2, 3].into_iter().filter(|node| *node != leader).collect();
    // The leader hears everybody and is heard by nobody.
    for other in &others {
        cluster.wires.cut(leader, *other);
    }
    let next = cluster.leader(&[leader]).await;
    let owner = cluster.node(others[0]);
    let epoch = granted(owner, 5).await;
    timeout(LONG, owner.witness(5, epoch, SUBKEY, value("v"), 1)).await.expect("in time").expect("witnessed");
    assert!(others.contains(&next));
    cluster.wires.heal();
    assert_eq!(read(cluster.node(leader), 5).await, 1);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_owner_that_hears_nobody_and_is_heard_is_deposed_too() {
    let cluster = Cluster::of_three(19).await;
    let leader = cluster.leader(&[]).await;
    let owner = leader % 3 + 1;
    let other = 6 - leader - owner;
    let epoch = granted(cluster.node(owner), 5).await;
    // Its renewals arrive, and it never learns of it.
    cluster.wires.cut(leader, owner);
    cluster.wires.cut(other, owner);
    let higher = granted(cluster.node(other), 5).await;
    assert!(higher > epoch);
    assert!(!cluster.node(owner).may_read(), "it had stopped believing before");
    cluster.wires.heal();
    let refused = timeout(LONG, cluster.node(owner).witness(5, epoch, SUBKEY, value("late"), 9)).await;
    assert_eq!(refused.expect("in time"), Err(WitnessError::StaleEpoch));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_majority_nothing_is_acknowledged_and_with_one_it_goes_on() {
    for groups in GROUPS {
        without_a_majority(groups).await;
    }
}

async fn without_a_majority(groups: u16) {
    let mut cluster = Cluster::new(15, [1, 2, 3]).with_groups(groups);
    cluster.start_all().await;
    let leader = cluster.leader(&[]).await;
    let epoch = granted(cluster.node(leader), 5).await;
    cluster.node(leader).witness(5, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
    let dead: Vec<u8> = [1, 2, 3].into_iter().filter(|node| *node != leader).collect();
    for node in &dead {
        cluster.kill(*node).await;
    }
    let alone = cluster.node(leader).clone();
    let refused = tokio::spawn({
        let alone = alone.clone();
        async move { alone.witness(5, epoch, SUBKEY, value("alone"), 2).await }
    });
    assert!(alone.grant(6).await.is_err(), "no quorum, no grant");
    eventually("the lease ends", || (!alone.may_change()).then_some(())).await;
    eventually("the lease ends", || (!alone.may_read()).then_some(())).await;
    let refused = timeout(LONG, refused).await.expect("in time").expect("ends");
    assert!(refused.is_err(), "no quorum, no acknowledgement");
    // Its session is not expired by anybody: nobody has a quorum.
    let live = alone.status().session_live;
    assert!(live, "a leader without a quorum expires nothing");

    let starting: Vec<_> = dead.iter().map(|node| (*node, cluster.begin(*node))).collect();
    for (node, starting) in starting {
        cluster.started(node, starting).await;
    }
    eventually("a session again", || alone.may_change().then_some(())).await;
    let higher = granted(&alone, 5).await;
    assert!(higher > epoch);
    alone.witness(5, higher, SUBKEY, value("again"), 3).await.expect("witnessed");
    assert_eq!(read(cluster.node(dead[0]), 5).await, 3);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_node_that_somebody_vouches_for_is_expired_at_once() {
    // (L-LE4)
    for groups in GROUPS {
        vouched_for(groups).await;
    }
}

async fn vouched_for(groups: u16) {
    let mut cluster = Cluster::new(16, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_secs(60);
    cluster.start_all().await;
    let leader = cluster.leader(&[]).await;
    let (dead, other) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    let epoch = granted(cluster.node(dead), 5).await;
    cluster.kill(dead).await;
    assert!(cluster.node(other).grant(5).await.is_err());
    cluster.node(other).change(Change::Dead { node: dead }).await.expect("expired");
    assert!(granted(cluster.node(other), 5).await > epoch);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_somebody_vouches_is_dead_is_replaced_before_its_silence_says_so() {
    // (L-LE4)
    for groups in GROUPS {
        leader_vouched_for(groups).await;
    }
}

/// A leader is heard of every 100 ms. Voters that only hear nothing of it more wait 600 ms for it, and then at least
/// 350 ms for each other.
const SILENCE: Duration = Duration::from_millis(850);

async fn leader_vouched_for(groups: u16) {
    let mut cluster = Cluster::new(22, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_secs(60);
    cluster.start_all().await;
    // A machine that stands still for a while may spoil a round, but not one after the other.
    for _ in 0..8 {
        let leader = cluster.leader_for(5).await;
        let leads_first = cluster.leader(&[]).await;
        let other = leader % 3 + 1;
        if cluster.node(leader).grant(5).await.is_err() {
            // Whoever has it gives it back.
            for locking in cluster.nodes.values().filter(|locking| locking.held(5).is_some()) {
                locking.release(5).await.expect("released");
            }
        }
        let epoch = granted(cluster.node(leader), 5).await;
        let begun = Instant::now();
        cluster.kill(leader).await;
        cluster.node(other).change(Change::Dead { node: leader }).await.expect("expired");
        let higher = granted(cluster.node(other), 5).await;
        let took = begun.elapsed();
        println!("{groups} groups, the leader of the first one is {leads_first}, {leader} is dead: {took:?}");
        assert!(higher > epoch);
        if took < SILENCE {
            return cluster.shutdown().await;
        }
        cluster.start(leader).await;
    }
    panic!("a dead leader was waited for each time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_is_declared_dead_and_lives_loses_nothing_that_counts() {
    let cluster = Cluster::of_three(23).await;
    let leader = cluster.leader(&[]).await;
    let (lives, other) = (cluster.node(leader), cluster.node(leader % 3 + 1));
    let epoch = granted(lives, 5).await;
    lives.witness(5, epoch, SUBKEY, value("v"), 7).await.expect("witnessed");
    other.change(Change::Dead { node: leader }).await.expect("believed");
    assert_ne!(cluster.leader(&[]).await, leader, "it follows whom the others follow");
    let higher = granted(other, 5).await;
    assert!(higher > epoch);
    let late = lives.witness(5, epoch, SUBKEY, value("late"), 8).await;
    assert_eq!(late, Err(WitnessError::StaleEpoch));
    assert_eq!(read(other, 5).await, 7);
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_bucket_is_drained_released_and_granted_to_another() {
    let cluster = Cluster::of_three(17).await;
    let (from, to) = (cluster.node(1), cluster.node(2));
    let epoch = granted(from, 5).await;
    let mut changes = from.map_changes();
    changes.borrow_and_update();
    cluster.node(3).read_witness(5, &SUBKEY).await.expect("has applied the grant");
    cluster.node(3).drain(5, Some(NodeId(2))).await.expect("asked");
    timeout(LONG, changes.changed()).await.expect("in time").expect("told");
    eventually("the owner sees it", || (from.to_hand_over() == [(5, NodeId(2))]).then_some(())).await;
    from.witness(5, epoch, SUBKEY, value("last"), 1).await.expect("a draining owner finishes (L-SM1)");
    from.release(5).await.expect("released");
    let higher = granted(to, 5).await;
    assert!(higher > epoch);
    assert_eq!(read(to, 5).await, 1);
    eventually("all know", || (cluster.node(3).owner(5) == Owner::Node(NodeId(2))).then_some(())).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_stopped_in_order_hands_over_and_frees_its_buckets_at_once() {
    for groups in GROUPS {
        stopped_in_order(groups).await;
    }
}

async fn stopped_in_order(groups: u16) {
    let mut cluster = Cluster::new(18, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_secs(60);
    cluster.start_all().await;
    let leader = cluster.leader(&[]).await;
    let stopped = cluster.nodes.remove(&leader).expect("runs");
    let epoch = granted(&stopped, 5).await;
    let begun = Instant::now();
    stopped.shutdown().await;
    let heir = cluster.leader(&[leader]).await;
    let higher = granted(cluster.node(heir), 5).await;
    assert!(higher > epoch);
    assert!(begun.elapsed() < cluster.lease, "nobody waited for the lease");
    cluster.shutdown().await;
}
