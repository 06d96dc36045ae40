//! A disk that fills up (L-RS5), and a site that is founded anew from what lies on its volumes.

use std::path::Path;
use std::sync::Arc;

use locking::{Founding, StartError};
use nfs_compat::{Fs, SimFs};
use tokio::time::timeout;

use crate::harness::{Cluster, LONG, SUBKEY, granted, value};

const STATE: &str = "/state";
const MIB: u64 = 1 << 20;

fn free_mib(disk: &SimFs) -> u64 {
    disk.space(Path::new(STATE)).expect("measures").available_bytes / MIB
}

/// A cluster whose node 1 has a disk of about 4 GiB.
async fn with_a_small_disk(seed: u64) -> Cluster {
    let mut cluster = Cluster::new(seed, [1, 2, 3]);
    cluster.ballast = true;
    cluster.disks[&1].full_after(Some(4096 * MIB));
    cluster.start_all().await;
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_disk_is_nearly_full_hands_over_and_stops_and_its_ballast_lets_it_start_again() {
    let mut cluster = with_a_small_disk(70).await;
    assert!(cluster.disks[&1].exists(Path::new("/state/ballast")).expect("looks"), "room was set aside");
    let epoch = granted(cluster.node(2), 5).await;
    cluster.node(2).witness(5, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
    let lead = locking::Change::TransferLeader { node: 1 };
    cluster.node(2).change(lead).await.expect("node 1 leads");

    // Something else fills the disk, but for 40 MiB: less than 2 %.
    let left = free_mib(&cluster.disks[&1]) - 40;
    let hog = cluster.disks[&1].create(Path::new("/state/hog")).expect("creates");
    hog.allocate(left * MIB).expect("there is room");
    let why = timeout(LONG, cluster.node(1).stopped()).await.expect("it stops in time");
    assert!(why.contains("nearly full") && why.contains("/state"), "{why}");
    cluster.node(2).witness(5, epoch, SUBKEY, value("v"), 2).await.expect("the others serve on");
    cluster.kill(1).await;

    cluster.start(1).await;
    assert!(!cluster.disks[&1].exists(Path::new("/state/ballast")).expect("looks"), "it was given up");
    let found = cluster.node(1).read_witness(5, &SUBKEY).await.expect("answers").expect("is there");
    assert_eq!(found.counter, 2);

    // Filled once more there is nothing left to give up.
    let left = free_mib(&cluster.disks[&1]) - 10;
    let hog = cluster.disks[&1].create(Path::new("/state/hog2")).expect("creates");
    hog.allocate(left * MIB).expect("there is room");
    timeout(LONG, cluster.node(1).stopped()).await.expect("it stops in time");
    cluster.kill(1).await;
    let refused = timeout(LONG, cluster.begin(1)).await.expect("in time").expect("no panic");
    let Err(StartError::DiskFull(why)) = refused else { panic!("it started on a full disk") };
    assert!(why.contains("Free some space"), "{why}");
    cluster.disks[&1].unlink(Path::new("/state/hog2")).expect("freed");
    cluster.start(1).await;
    cluster.shutdown().await;
}

fn found_anew(cluster: &Cluster, node: u8, incarnation: u32) {
    let disk: Arc<dyn Fs> = Arc::new(cluster.disks[&node].clone());
    assert_eq!(Founding::in_the_way(&disk, Path::new(STATE)).expect("looks"), None);
    let mut founding = Founding::new(1, incarnation);
    for account in 0..300u16 {
        let mut subkey = SUBKEY;
        subkey[..2].copy_from_slice(&account.to_be_bytes());
        founding.witness(account, &subkey, value("kept"), u64::from(account), model::Epoch::new(5, 9));
    }
    founding.write(&disk, Path::new(STATE), node, &[1, 2, 3]).expect("founds");
    assert!(Founding::in_the_way(&disk, Path::new(STATE)).expect("looks").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_site_that_lost_all_its_disks_is_founded_anew_with_the_witnesses_that_were_found() {
    for founder in [1, 3] {
        let mut cluster = Cluster::new(80 + u64::from(founder), [1, 2, 3]);
        cluster.floor = 6;
        found_anew(&cluster, founder, 6);
        cluster.start_all().await;
        for node in [1, 2, 3] {
            assert_eq!(cluster.node(node).incarnation(), 6);
            assert_eq!(cluster.node(node).status().witnesses, 300);
            let mut subkey = SUBKEY;
            subkey[..2].copy_from_slice(&77u16.to_be_bytes());
            let found =
                cluster.node(node).read_witness(77, &subkey).await.expect("answers").expect("is there");
            assert_eq!((found.counter, found.epoch), (77, model::Epoch::new(5, 9)));
            let epoch = granted(cluster.node(node), 500 + u16::from(node)).await;
            assert_eq!(epoch, model::Epoch::new(6, 1), "above all that was (L-FN1)");
        }
        // From now on it is a site like any other.
        for node in [1, 2, 3] {
            cluster.kill(node).await;
        }
        cluster.start_all().await;
        assert_eq!(cluster.node(2).status().group.voters, [1, 2, 3]);
        assert_eq!(cluster.node(2).status().witnesses, 300);
        cluster.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_founding_that_was_interrupted_is_there_whole_or_not_at_all() {
    for killed_at in 0..60 {
        let cluster = Cluster::new(90 + killed_at, [1, 2, 3]);
        let disk: Arc<dyn Fs> = Arc::new(cluster.disks[&1].clone());
        cluster.disks[&1].stop_after(killed_at);
        let mut founding = Founding::new(1, 6);
        founding.witness(5, &SUBKEY, value("kept"), 3, model::Epoch::new(5, 9));
        let written = founding.write(&disk, Path::new(STATE), 1, &[1, 2, 3]).is_ok();
        cluster.disks[&1].crash(killed_at);
        let there = Founding::in_the_way(&disk, Path::new(STATE)).expect("looks").is_some();
        assert!(there || !written, "{killed_at}: it was written, and is gone");
        if !there {
            found_anew(&cluster, 1, 6);
        }
    }
}
