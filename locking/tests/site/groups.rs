//! Buckets kept by several groups (`locking.md` §2): sessions end in all of them, whoever leads what.

use std::time::Duration;

use locking::{Change, GrantError, Locking, NodeId, Owner, Record, StartError, WitnessError};
use tokio::time::timeout;

use crate::harness::{Cluster, LONG, SUBKEY, eventually, granted, stop, value};

const GROUPS: u16 = 4;

async fn of_three(seed: u64, lease: Duration) -> Cluster {
    let mut cluster = Cluster::new(seed, [1, 2, 3]).with_groups(GROUPS);
    cluster.lease = lease;
    cluster.start_all().await;
    cluster
}

/// Makes a node lead the groups that keep buckets.
async fn make_lead(cluster: &Cluster, node: u8) {
    for bucket in 0..GROUPS {
        let group = cluster.node(node).voters()[usize::from(bucket) + 1];
        group.change(Change::TransferLeader { node }).await.expect("leads");
        assert_eq!(cluster.leader_for(bucket).await, node);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_group_keeps_its_share_of_the_buckets_and_each_has_its_leader() {
    let cluster = of_three(60, Duration::from_secs(60)).await;
    make_lead(&cluster, 2).await;
    cluster.node(1).change(Change::TransferLeader { node: 2 }).await.expect("leads all");
    cluster.node(1).voter().change(Change::TransferLeader { node: 1 }).await.expect("leads the first group");
    assert_eq!((cluster.leader(&[]).await, cluster.leader_for(3).await), (1, 2));
    let locking = cluster.node(3);
    assert_eq!(locking.grant_all().await.expect("granted"), locking::BUCKETS);
    assert_eq!(locking.status().buckets, locking::BUCKETS);
    for bucket in 0..2 * GROUPS {
        let epoch = locking.held(bucket).expect("held");
        locking.witness(bucket, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
    }
    // A follower applies a little after the leader has answered.
    let counts = || -> Vec<usize> {
        locking
            .voters()
            .iter()
            .map(|voter| voter.reader().read(locking::state::State::witness_count))
            .collect()
    };
    eventually("each group has its share", || (counts() == [0, 2, 2, 2, 2]).then_some(())).await;
    let status = locking.status();
    assert_eq!((status.witnesses, status.shards.len()), (8, usize::from(GROUPS)));
    eventually("all know", || (cluster.node(1).nodes()[2].buckets == 65_536).then_some(())).await;
    assert_eq!(cluster.node(2).owner(7), Owner::Node(NodeId(3)));
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_over_is_over_in_every_group_before_another_has_its_buckets() {
    // (J1, L-SM2, L-LE2)
    let cluster = of_three(61, Duration::from_secs(8)).await;
    let owner = cluster.node(1).clone();
    let mut old = Vec::new();
    for bucket in 0..GROUPS {
        old.push(granted(&owner, bucket).await);
    }
    cluster.wires.isolate(1);
    let mut new = Vec::new();
    for bucket in 0..GROUPS {
        new.push(granted(cluster.node(2), bucket).await);
        assert!(!owner.may_read(), "it had stopped believing before");
    }
    cluster.wires.heal();
    for (bucket, (old, new)) in (0..).zip(old.into_iter().zip(new)) {
        assert!(new > old);
        let late = Record { bucket, epoch: old, subkey: SUBKEY, value: value("late"), counter: 9 };
        let refused = timeout(LONG, owner.submit(late).answer()).await.expect("in time");
        assert!(matches!(refused, Err(WitnessError::StaleEpoch | WitnessError::Unknown)), "{refused:?}");
        cluster.node(2).witness(bucket, new, SUBKEY, value("new"), 1).await.expect("witnessed");
        // (L-LE3): its map says so before it has a new session, or the new session has nothing.
        eventually("nothing of the old session is held", || owner.held(bucket).is_none().then_some(())).await;
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn buckets_of_the_dead_are_granted_although_their_groups_leader_hears_nothing_of_the_first_group() {
    // Late mirroring only delays grants, and not for ever.
    let mut cluster = of_three(62, Duration::from_secs(3)).await;
    cluster.node(2).voter().change(Change::TransferLeader { node: 1 }).await.expect("leads the first group");
    assert_eq!(cluster.leader(&[]).await, 1);
    make_lead(&cluster, 2).await;
    let mut old = Vec::new();
    for bucket in 0..GROUPS {
        old.push(granted(cluster.node(2), bucket).await);
    }
    // Node 2 leads the other groups with node 3, and does not learn that its own session is over.
    cluster.wires.cut(1, 2);
    cluster.wires.cut(2, 1);
    for (bucket, old) in (0..).zip(&old) {
        assert!(granted(cluster.node(3), bucket).await > *old);
    }
    cluster.wires.heal();
    cluster.kill(2).await;
    for bucket in 0..GROUPS {
        cluster.node(3).read_witness(bucket, &SUBKEY).await.expect("answers");
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_number_of_groups_is_that_of_the_founding() {
    let mut cluster = Cluster::new(63, [1]).with_groups(GROUPS);
    cluster.start_all().await;
    let epoch = granted(cluster.node(1), 3).await;
    cluster.node(1).witness(3, epoch, SUBKEY, value("v"), 7).await.expect("witnessed");
    for wrong in [1, 8] {
        cluster.kill(1).await;
        cluster.groups = wrong;
        let refused = timeout(LONG, cluster.begin(1)).await.expect("in time").expect("no panic");
        let Err(error @ StartError::OtherGroups { found: GROUPS, .. }) = refused else {
            panic!("{:?}", refused.err())
        };
        assert!(error.to_string().contains("set cluster.groups = 4"), "{error}");
        cluster.groups = GROUPS;
        cluster.start(1).await;
        assert!(granted(cluster.node(1), 3).await > epoch);
        let found = cluster.node(1).read_witness(3, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!(found.counter, 7);
    }
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_lost_the_log_of_one_group_does_not_start() {
    // (L-RS2)
    let mut cluster = of_three(64, Duration::from_secs(60)).await;
    cluster.kill(3).await;
    let disk = cluster.disks[&3].clone();
    let log = std::path::Path::new("/state/raft/group-2/log");
    for entry in nfs_compat::Fs::read_dir(&disk, log).expect("lists") {
        nfs_compat::Fs::unlink(&disk, &log.join(entry.name)).expect("removed");
    }
    let refused = timeout(LONG, cluster.begin(3)).await.expect("in time").expect("no panic");
    let Err(StartError::LogLost { path }) = refused else { panic!("{:?}", refused.err()) };
    assert!(path.ends_with("group-2"), "{}", path.display());
    let refused: Result<_, GrantError> = cluster.node(1).assign(vec![5], NodeId(3)).await;
    assert!(refused.is_ok(), "its session lives until its lease is over");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_single_node_with_several_groups_starts_again_with_what_it_had() {
    let mut cluster = Cluster::new(65, [1]).with_groups(GROUPS);
    cluster.start_all().await;
    let locking: Locking = cluster.nodes.remove(&1).expect("runs");
    assert_eq!(locking.grant_all().await.expect("granted"), locking::BUCKETS);
    let epoch = locking.held(9).expect("held");
    locking.witness(9, epoch, SUBKEY, value("v"), 5).await.expect("witnessed");
    for voter in locking.voters() {
        voter.snapshot().await.expect("begins");
    }
    stop(&locking).await;
    cluster.start(1).await;
    assert_eq!(cluster.node(1).held(9), None);
    assert!(granted(cluster.node(1), 9).await > epoch);
    let found = cluster.node(1).read_witness(9, &SUBKEY).await.expect("answers").expect("is there");
    assert_eq!(found.counter, 5);
    cluster.shutdown().await;
}
