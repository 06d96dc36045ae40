//! Random schedules of cuts, kills, lost and late replies, and what the log says afterwards.
//!
//! The history is the log itself: carried out again, it says which witnesses were accepted, in which order, under
//! which epochs. What nodes were told must agree with it.
//!
//! A failure prints its seed and the command that runs the same schedule. Threads and timers are real, so the same
//! seed makes the same faults, not the same interleaving; `ROOST_ROUNDS` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use locking::command::{Answer, Command};
use locking::raft::Entry;
use locking::raft::log::LogOptions;
use locking::raft::store::LogStore;
use locking::state::{State, Touched};
use locking::{Change, Locking, Record};
use model::Epoch;
use openraft::entry::RaftEntry;
use openraft::storage::RaftLogStorage;
use openraft::{EntryPayload, RaftLogReader};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::time::{Instant, sleep, timeout};

use crate::harness::{Cluster, GROUPS, LONG, SUBKEY, eventually, value};

const BUCKETS: u16 = 4;
const FAULTS: usize = 14;

/// A witness that its owner was told counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Acknowledged {
    bucket: u16,
    epoch: Epoch,
    counter: u64,
}

#[derive(Clone, Default)]
struct Shared {
    nodes: Arc<Mutex<BTreeMap<u8, Locking>>>,
    acknowledged: Arc<Mutex<Vec<Acknowledged>>>,
    over: Arc<AtomicBool>,
}

/// One node's owner: takes what it can get and witnesses, several at a time.
async fn own(node: u8, seed: u64, shared: Shared) {
    let mut rng = StdRng::seed_from_u64(seed);
    while !shared.over.load(Ordering::Relaxed) {
        sleep(Duration::from_millis(rng.random_range(1..10))).await;
        let locking = shared.nodes.lock().expect("whole").get(&node).cloned();
        let Some(locking) = locking else { continue };
        let bucket = rng.random_range(0..BUCKETS);
        let Ok(epoch) = locking.grant(bucket).await else { continue };
        let Ok(found) = locking.read_witness(bucket, &SUBKEY).await else { continue };
        let first = found.map_or(0, |found| found.counter) + 1;
        // As an owner does: nothing is begun once the lease is nearly over (L-LE1).
        if !locking.may_change() {
            continue;
        }
        let tickets: Vec<_> = (first..first + rng.random_range(1..12))
            .map(|counter| {
                let value = value(&format!("{node}-{epoch}-{counter}"));
                (counter, locking.submit(Record { bucket, epoch, subkey: SUBKEY, value, counter }))
            })
            .collect();
        for (counter, ticket) in tickets {
            if ticket.answer().await.is_ok() {
                shared.acknowledged.lock().expect("whole").push(Acknowledged { bucket, epoch, counter });
            }
        }
        if rng.random_ratio(1, 4) {
            let _ = locking.release(bucket).await;
        }
    }
}

/// Breaks something. Returns a node that was killed.
async fn break_something(cluster: &mut Cluster, shared: &Shared, rng: &mut StdRng) -> Option<u8> {
    let node = rng.random_range(1..=3);
    match rng.random_range(0..8) {
        0 => cluster.wires.isolate(node),
        1 => cluster.wires.cut(node, node % 3 + 1),
        2 => cluster.wires.cut(node % 3 + 1, node),
        3 => cluster.wires.lose_replies(rng.random_range(1..30)),
        4 => cluster.wires.delay(Duration::from_millis(rng.random_range(1..80))),
        5 => {
            let locking = shared.nodes.lock().expect("whole").values().next().cloned()?;
            let change = Change::TransferLeader { node };
            let _ = timeout(Duration::from_secs(2), locking.change(change)).await;
        }
        _ => {
            shared.nodes.lock().expect("whole").remove(&node);
            cluster.kill(node).await;
            return Some(node);
        }
    }
    None
}

async fn run(seed: u64, groups: u16) {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut cluster = Cluster::new(seed, [1, 2, 3]).with_groups(groups);
    cluster.lease = Duration::from_millis(1600);
    cluster.start_all().await;
    let shared = Shared::default();
    *shared.nodes.lock().expect("whole") = cluster.nodes.clone();
    let owners: Vec<_> =
        [1, 2, 3].map(|node| tokio::spawn(own(node, seed + u64::from(node), shared.clone()))).into();
    for _ in 0..FAULTS {
        sleep(Duration::from_millis(rng.random_range(100..900))).await;
        let killed = break_something(&mut cluster, &shared, &mut rng).await;
        sleep(Duration::from_millis(rng.random_range(50..1500))).await;
        cluster.wires.heal();
        if let Some(node) = killed {
            cluster.start(node).await;
            *shared.nodes.lock().expect("whole") = cluster.nodes.clone();
        }
    }
    cluster.wires.heal();
    for locking in cluster.nodes.values() {
        eventually("every node has a session again", || locking.may_change().then_some(())).await;
    }
    shared.over.store(true, Ordering::Relaxed);
    for owner in owners {
        timeout(LONG, owner).await.expect("in time").expect("no panic");
    }
    let until = Instant::now() + LONG;
    for voter in cluster.nodes.values().flat_map(Locking::voters) {
        while let Err(error) = voter.confirm().await {
            assert!(Instant::now() < until, "{error}");
        }
    }
    let disks = cluster.disks.clone();
    let states: Vec<Vec<State>> = cluster.nodes.values().map(states_of).collect();
    cluster.shutdown().await;
    // One log after the other of those that keep buckets.
    let directories: Vec<String> = match groups {
        1 => vec!["/state/raft/log".to_owned()],
        _ => (1..=groups).map(|group| format!("/state/raft/group-{group}/log")).collect(),
    };
    let told = shared.acknowledged.lock().expect("whole").clone();
    assert!(told.len() > 50, "the schedule left room for {} witnesses only", told.len());
    for (group, directory) in directories.iter().enumerate() {
        let logs: Vec<Vec<Entry>> = disks.values().map(|disk| log_of(disk, directory)).collect();
        let states: Vec<&State> = states.iter().map(|states| &states[group]).collect();
        let is_kept = |told: &&Acknowledged| usize::from(told.bucket % groups) == group;
        check(&logs, &states, &told.iter().filter(is_kept).copied().collect::<Vec<_>>());
    }
}

/// The states of the groups that keep buckets.
fn states_of(locking: &Locking) -> Vec<State> {
    let mut states: Vec<State> =
        locking.voters().into_iter().map(|voter| voter.reader().read(State::clone)).collect();
    if states.len() > 1 {
        states.remove(0);
    }
    states
}

fn log_of(disk: &nfs_compat::SimFs, directory: &str) -> Vec<Entry> {
    let opened = LogStore::open(Arc::new(disk.clone()), Path::new(directory), LogOptions::default(), 0);
    let (mut store, _thread) = opened.expect("opens");
    futures::executor::block_on(async move {
        let mut reader = store.get_log_reader().await;
        let entries = reader.try_get_log_entries(..).await.expect("reads");
        assert_eq!(entries.first().map(RaftEntry::index), Some(0), "nothing was purged");
        entries
    })
}

fn check(logs: &[Vec<Entry>], states: &[&State], acknowledged: &[Acknowledged]) {
    let log = logs.iter().max_by_key(|log| log.len()).expect("three logs");
    for other in logs {
        let agreed = other.len().min(log.len()).saturating_sub(8);
        assert_eq!(other[..agreed], log[..agreed], "all logs are one");
    }
    let mut state = State::default();
    let mut accepted: BTreeSet<Acknowledged> = BTreeSet::new();
    let mut last: BTreeMap<u16, (Epoch, u64)> = BTreeMap::new();
    let mut seen = BTreeSet::new();
    for entry in log {
        let EntryPayload::Normal(proposal) = &entry.payload else { continue };
        let request = &proposal.0;
        let answer = state.apply(entry.index(), request, &mut Touched::default());
        let Command::Witness { records } = &request.command else { continue };
        // What comes again under its id is not carried out again.
        if !seen.insert((request.id.client, request.id.seq)) {
            continue;
        }
        let Answer::Witnessed { refused } = answer else { panic!("a witness was answered {answer:?}") };
        for (place, record) in (0u32..).zip(records) {
            if refused.iter().any(|(refused, _)| *refused == place) {
                continue;
            }
            let (bucket, epoch, counter) = (record.bucket, record.epoch, record.counter);
            if let Some((last_epoch, last_counter)) = last.insert(bucket, (epoch, counter)) {
                // J1: the intervals of two epochs do not overlap in the order of the log.
                assert!(epoch >= last_epoch, "bucket {bucket}: {epoch} after {last_epoch}");
                assert!(counter > last_counter, "bucket {bucket}: {counter} after {last_counter}");
            }
            let first = accepted.insert(Acknowledged { bucket, epoch, counter });
            assert!(first, "bucket {bucket}: {counter} counted twice under {epoch}");
        }
    }
    for told in acknowledged {
        assert!(accepted.contains(told), "J2: {told:?} was acknowledged, and the log does not have it");
    }
    for state in states {
        for (bucket, (epoch, counter)) in &last {
            let found = state.witness(*bucket, &SUBKEY).expect("is there");
            assert_eq!((found.epoch, found.counter), (*epoch, *counter), "every node has the last one");
        }
    }
    println!("{} witnesses acknowledged, {} accepted", acknowledged.len(), accepted.len());
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_the_log_has_one_owner_at_a_time_and_all_that_was_acknowledged() {
    // (J1, J2)
    let rounds = number("ROOST_ROUNDS").unwrap_or(1);
    let first = number("ROOST_SEED").unwrap_or(2026);
    for seed in first..first + rounds {
        println!("again: ROOST_SEED={seed} cargo test -p locking --test site whatever_breaks -- --nocapture");
        for groups in GROUPS {
            println!("{groups} groups");
            run(seed, groups).await;
        }
    }
}
