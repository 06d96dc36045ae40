//! A store that was put back to an older state, or runs twice, takes part in nothing (L-RS2); one that crashed does.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use locking::{Door, Locking, StartError};
use nfs_compat::{EntryKind, Fs, SimFs};
use tokio::time::timeout;

use crate::harness::{Cluster, LONG, SUBKEY, eventually, granted, value};

/// What a backup of a node's state directory holds.
fn image(disk: &SimFs) -> SimFs {
    let copy = SimFs::new(99);
    copy.create_dir_all(Path::new("/state")).expect("makes");
    copy_tree(disk, &copy, Path::new("/state"));
    copy
}

fn copy_tree(from: &SimFs, to: &SimFs, directory: &Path) {
    for entry in from.read_dir(directory).expect("lists") {
        let path: PathBuf = directory.join(entry.name);
        match entry.kind {
            EntryKind::Directory => {
                to.create_dir(&path).expect("makes");
                copy_tree(from, to, &path);
            }
            EntryKind::File | EntryKind::Other => {
                let file = to.create(&path).expect("creates");
                file.write_at(&from.read(&path, u64::MAX).expect("reads"), 0).expect("writes");
                file.sync().expect("syncs");
            }
        }
    }
    to.sync_dir(directory).expect("syncs");
}

async fn write(cluster: &Cluster, node: u8, counters: std::ops::RangeInclusive<u64>) {
    let bucket = 100 + u16::from(node);
    let epoch = granted(cluster.node(node), bucket).await;
    for counter in counters {
        cluster.node(node).witness(bucket, epoch, SUBKEY, value("v"), counter).await.expect("witnessed");
    }
}

async fn refused(cluster: &Cluster, node: u8) -> String {
    let starting = cluster.begin(node);
    let refused = timeout(LONG, starting).await.expect("in time").expect("no panic");
    let Err(StartError::PutBack(why)) = refused else { panic!("an older copy was taken for the newest") };
    assert!(why.contains(&format!("roost cluster remove {node}")) && why.contains("older copy"), "{why}");
    why
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_state_directory_from_a_backup_is_refused_and_the_others_serve_on() {
    let mut cluster = Cluster::of_three(60).await;
    write(&cluster, 1, 1..=5).await;
    cluster.kill(3).await;
    let backup = image(&cluster.disks[&3]);
    cluster.start(3).await;
    write(&cluster, 3, 6..=9).await;
    cluster.kill(3).await;
    let newest = cluster.disks.insert(3, backup).expect("had a disk");
    refused(&cluster, 3).await;
    // Started once more it is as old as before.
    refused(&cluster, 3).await;
    write(&cluster, 1, 10..=12).await;

    cluster.disks.insert(3, newest);
    cluster.start(3).await;
    write(&cluster, 3, 13..=14).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_was_made_while_the_node_ran_is_refused_too() {
    let mut cluster = Cluster::of_three(61).await;
    let follower = [1, 2, 3].into_iter().find(|node| Some(*node) != leader_of(&cluster)).expect("two follow");
    let backup = image(&cluster.disks[&follower]);
    let other = [1, 2, 3].into_iter().find(|node| *node != follower).expect("another");
    write(&cluster, other, 1..=20).await;
    cluster.kill(follower).await;
    cluster.disks.insert(follower, backup);
    // No mark was drawn since: the leader knows how far its log had come.
    refused(&cluster, follower).await;
    cluster.shutdown().await;
}

fn leader_of(cluster: &Cluster) -> Option<u8> {
    cluster.node(1).status().group.leader.and_then(|leader| u8::try_from(leader).ok())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_process_with_a_copy_of_the_state_directory_is_refused_while_the_first_runs() {
    let mut cluster = Cluster::of_three(62).await;
    write(&cluster, 1, 1..=5).await;
    let copy = image(&cluster.disks[&2]);
    let first = cluster.disks.insert(2, copy).expect("had a disk");
    let mut options = cluster.options_at(2, Door::new(), cluster.wires.beside(2));
    options.local_copy = false;
    cluster.disks.insert(2, first);
    let second =
        timeout(LONG, tokio::spawn(Locking::start(options))).await.expect("in time").expect("no panic");
    let why = match second {
        Err(StartError::Elsewhere(why) | StartError::PutBack(why)) => why,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("two processes of one node"),
    };
    assert!(why.contains("process of node 2"), "{why}");
    write(&cluster, 2, 6..=8).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_voter_that_is_killed_at_any_moment_of_its_start_is_never_refused() {
    let mut cluster = Cluster::of_three(63).await;
    write(&cluster, 1, 1..=3).await;
    for calls in (0..60).step_by(4) {
        cluster.kill(3).await;
        cluster.disks[&3].stop_after(calls);
        // It gets as far as it gets.
        let starting = cluster.begin(3);
        let abort = starting.abort_handle();
        match timeout(std::time::Duration::from_millis(400), starting).await {
            Ok(Ok(Ok(locking))) => locking.voter().shutdown().await,
            Ok(Ok(Err(StartError::PutBack(why) | StartError::Elsewhere(why)))) => panic!("{calls}: {why}"),
            Ok(Ok(Err(_)) | Err(_)) | Err(_) => abort.abort(),
        }
        cluster.wires.disconnect(3);
        cluster.disks[&3].crash(calls);
        cluster.start(3).await;
    }
    write(&cluster, 3, 4..=6).await;
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_all_start_together_again_answer_each_other() {
    let mut cluster = Cluster::of_three(64).await;
    for round in 1..=3u64 {
        write(&cluster, 2, round..=round).await;
        for node in [1, 2, 3] {
            cluster.kill(node).await;
        }
        cluster.start_all().await;
    }
    // An older copy among them is found out, too.
    cluster.kill(1).await;
    let backup = image(&cluster.disks[&1]);
    cluster.start(1).await;
    write(&cluster, 1, 4..=4).await;
    eventually("all have all", || {
        let applied = [1, 2, 3].map(|node| cluster.node(node).status().group.last_applied);
        (applied[0] == applied[1] && applied[1] == applied[2]).then_some(())
    })
    .await;
    for node in [1, 2, 3] {
        cluster.kill(node).await;
    }
    cluster.disks.insert(1, backup);
    let (one, two, three) = (cluster.begin(1), cluster.begin(2), cluster.begin(3));
    cluster.started(2, two).await;
    cluster.started(3, three).await;
    let old = timeout(LONG, one).await.expect("in time").expect("no panic");
    assert!(matches!(old, Err(StartError::PutBack(_))), "the older copy took part");
    cluster.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_with_one_number_and_their_own_disks_are_told_apart() {
    let cluster = Cluster::of_three(65).await;
    let mut options = cluster.options_at(2, Door::new(), cluster.wires.beside(2));
    options.fs = Arc::new(SimFs::new(500));
    let second =
        timeout(LONG, tokio::spawn(Locking::start(options))).await.expect("in time").expect("no panic");
    let Err(StartError::OtherStore(why) | StartError::Elsewhere(why)) = second else {
        panic!("two nodes with one number")
    };
    assert!(why.contains("a node.id of its own"), "{why}");
    write(&cluster, 2, 1..=3).await;
    cluster.shutdown().await;
}
