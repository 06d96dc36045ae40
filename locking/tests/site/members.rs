//! Members that come and go (L-RS3).

use std::time::Duration;

use locking::{Change, ChangeError, Record, Role, StartError};
use nfs_compat::SimFs;
use tokio::time::{sleep, timeout};

use crate::harness::{Cluster, GROUPS, LONG, SUBKEY, add, eventually, granted, value};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_of_one_grows_to_three_and_shrinks_again() {
    for groups in GROUPS {
        grow_and_shrink(groups).await;
    }
}

async fn grow_and_shrink(groups: u16) {
    let mut cluster = Cluster::new(30, [1]).with_groups(groups);
    cluster.start_all().await;
    let epoch = granted(cluster.node(1), 5).await;
    for counter in 1..=200 {
        cluster.node(1).witness(5, epoch, SUBKEY, value("v"), counter).await.expect("witnessed");
    }
    // So many accounts that a snapshot of them is several messages long.
    let tickets: Vec<_> = (0..30_000u32)
        .map(|account| {
            let mut subkey = [0; 16];
            subkey[..4].copy_from_slice(&account.to_le_bytes());
            cluster.node(1).submit(Record {
                bucket: 5,
                epoch,
                subkey,
                value: value("account's own"),
                counter: 1,
            })
        })
        .collect();
    for ticket in tickets {
        ticket.answer().await.expect("witnessed");
    }
    // What the first has purged reaches the others as a snapshot.
    let keeper =
        cluster.node(1).voters().into_iter().nth(if groups == 1 { 0 } else { 2 }).expect("keeps bucket 5");
    keeper.snapshot().await.expect("begins");
    eventually("purged", || keeper.status().purged).await;
    for node in [2, 3] {
        cluster.members.insert(node, format!("node{node}:7001"));
        cluster.disks.insert(node, SimFs::new(3000 + u64::from(node)));
        // The volume was served before: a new node founds nothing.
        cluster.floor = 1;
        let starting = cluster.begin(node);
        sleep(Duration::from_millis(400)).await;
        assert!(!starting.is_finished(), "it waits to be let in");
        add(cluster.node(1), node).await;
        cluster.started(node, starting).await;
        let again = Change::Add { node, address: format!("node{node}:7001") };
        cluster.node(1).change(again).await.expect("already done");
        let found = cluster.node(node).read_witness(5, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!(found.counter, 200);
        assert_eq!(cluster.node(node).status().witnesses, 30_001);
    }
    assert_eq!(cluster.node(1).status().group.voters, [1, 2, 3]);
    // The first one can go now, although it leads.
    cluster.node(2).change(Change::Remove { node: 1 }).await.expect("removed");
    eventually("two voters", || (cluster.node(2).status().group.voters == [2, 3]).then_some(())).await;
    let leader = cluster.leader(&[1]).await;
    assert_ne!(leader, 1);
    assert!(cluster.node(1).grant(9).await.is_err(), "whoever was removed is served no more");
    assert_ne!(cluster.node(2).nodes()[0].role, Role::Voter);

    cluster.kill(1).await;
    let starting = cluster.begin(1);
    let refused = timeout(LONG, starting).await.expect("in time").expect("no panic");
    let Err(StartError::Removed(why)) = refused else { panic!("a removed node came back") };
    assert!(why.contains("roost cluster add 1"), "{why}");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_the_others_need_is_not_removed() {
    let mut cluster = Cluster::of_three(31).await;
    let leader = cluster.leader(&[]).await;
    let (dead, needed) = (leader % 3 + 1, (leader + 1) % 3 + 1);
    cluster.kill(dead).await;
    sleep(Duration::from_secs(4)).await;
    let refused = cluster.node(leader).change(Change::Remove { node: needed }).await;
    let Err(ChangeError::Refused(why)) = refused else { panic!("{refused:?}") };
    assert!(why.contains("no quorum"), "{why}");
    cluster.node(needed).change(Change::Remove { node: dead }).await.expect("the dead one is not needed");
    eventually("two voters", || (cluster.node(leader).status().group.voters.len() == 2).then_some(())).await;
    let refused = cluster.node(leader).change(Change::TransferLeader { node: dead }).await;
    assert!(matches!(refused, Err(ChangeError::Refused(_))), "{refused:?}");
    cluster.shutdown().await;
}
