//! The log and the snapshots, against the library's own suite, crashes at every call, torn and damaged files.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use locking::command::{Command, Proposal, Record, Request, RequestId, Value};
use locking::raft::coding;
use locking::raft::log::{LogOptions, OpenError};
use locking::raft::machine::Machine;
use locking::raft::snapshot::Snapshots;
use locking::raft::store::LogStore;
use locking::raft::{Entry, LogId, SnapshotMeta, TypeConfig, Vote};
use locking::state::{State, Touched};
use model::Epoch;
use nfs_compat::sim::Operation;
use nfs_compat::{ErrorKind, Fs, SimFs};
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::testing::log_id;
use openraft::{RaftLogReader, StorageError, StoredMembership};

/// Small, so that every test goes through several segments.
const SMALL: LogOptions = LogOptions { segment_bytes: 600, ahead_bytes: 300 };

fn directory() -> PathBuf {
    PathBuf::from("/state/raft/log")
}

fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(future)
}

struct SimStores;

impl StoreBuilder<TypeConfig, LogStore, Machine> for SimStores {
    async fn build(&self) -> Result<((), LogStore, Machine), StorageError<TypeConfig>> {
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
        let (store, _thread) = LogStore::open(Arc::clone(&fs), &directory(), SMALL, 9).expect("opens");
        let snapshots = Snapshots::open(fs, Path::new("/state/raft/snapshot")).expect("opens");
        Ok(((), store, Machine::new(None, snapshots)))
    }
}

#[test]
fn the_stores_pass_the_suite_of_the_library() {
    // (L-RS6)
    run(Suite::test_all(SimStores)).expect("conforms");
}

fn id(term: u64, index: u64) -> LogId {
    log_id::<TypeConfig>(term, 1, index)
}

fn entry(term: u64, index: u64) -> Entry {
    let value = Value::new(&[index as u8; 60]).expect("short");
    let record = Record { bucket: 1, epoch: Epoch::new(1, 1), subkey: [2; 16], value, counter: index };
    let id_ = RequestId { client: 3, seq: index };
    let request = Request { id: id_, command: Command::Witness { records: vec![record] } };
    Entry::new_normal(id(term, index), Proposal(Arc::new(request)))
}

/// One thing that the library asks of the log, and waits for.
#[derive(Clone, Debug)]
enum Step {
    Vote(u64),
    Append(u64, std::ops::RangeInclusive<u64>),
    TruncateAfter(LogId),
    Purge(LogId),
}

/// What a log must hold.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: Vec<LogId>,
}

impl Model {
    fn after(&self, step: &Step) -> Self {
        let mut next = self.clone();
        match step {
            Step::Vote(term) => next.vote = Some(Vote::new(*term, 1)),
            Step::Append(term, range) => next.entries.extend(range.clone().map(|index| id(*term, index))),
            Step::TruncateAfter(last) => next.entries.retain(|entry| entry.index <= last.index),
            Step::Purge(last) => {
                next.entries.retain(|entry| entry.index > last.index);
                next.purged = Some(*last);
            }
        }
        next
    }
}

async fn take(store: &mut LogStore, step: &Step) -> bool {
    match step {
        Step::Vote(term) => store.save_vote(&Vote::new(*term, 1)).await.is_ok(),
        Step::Append(term, range) => {
            let entries: Vec<Entry> = range.clone().map(|index| entry(*term, index)).collect();
            store.blocking_append(entries).await.is_ok()
        }
        Step::TruncateAfter(last) => store.truncate_after(Some(*last)).await.is_ok(),
        Step::Purge(last) => store.purge(*last).await.is_ok(),
    }
}

async fn holds(store: &mut LogStore) -> Model {
    let mut reader = store.get_log_reader().await;
    let entries = reader.try_get_log_entries(..).await.expect("reads");
    for found in &entries {
        assert_eq!(
            found,
            &entry(found.log_id().leader_id.term, found.index()),
            "entries come back as they were"
        );
    }
    Model {
        vote: reader.read_vote().await.expect("reads"),
        purged: store.get_log_state().await.expect("reads").last_purged_log_id,
        entries: entries.iter().map(RaftEntry::log_id).collect(),
    }
}

fn history() -> Vec<Step> {
    vec![
        Step::Vote(1),
        Step::Append(1, 1..=1),
        Step::Append(1, 2..=6),
        Step::TruncateAfter(id(1, 4)),
        Step::Vote(2),
        Step::Append(2, 5..=9),
        Step::Purge(id(1, 3)),
        Step::Append(2, 10..=12),
        Step::Vote(3),
        Step::Append(3, 13..=13),
        Step::Purge(id(2, 11)),
        Step::Append(3, 14..=20),
        Step::Purge(id(3, 19)),
        Step::Append(3, 21..=22),
    ]
}

fn open(fs: &SimFs) -> Result<(LogStore, JoinHandle<()>), OpenError> {
    LogStore::open(Arc::new(fs.clone()), &directory(), SMALL, 9)
}

/// Runs the history until it ends or the process is killed. Returns how many steps were acknowledged.
fn run_history(fs: &SimFs) -> usize {
    let Ok((mut store, thread)) = open(fs) else { return 0 };
    let acknowledged = run(async {
        let mut acknowledged = 0;
        for step in history() {
            if !take(&mut store, &step).await {
                break;
            }
            acknowledged += 1;
        }
        acknowledged
    });
    drop(store);
    thread.join().expect("the thread ends");
    acknowledged
}

#[test]
fn whatever_was_acknowledged_survives_a_crash_at_every_call() {
    // (L-RS1)
    let whole = SimFs::new(1);
    assert_eq!(run_history(&whole), history().len());
    let calls = whole.operations();
    let models: Vec<Model> = history()
        .iter()
        .scan(Model::default(), |model, step| {
            *model = model.after(step);
            Some(model.clone())
        })
        .collect();
    assert!(calls > 60, "only {calls} calls");
    for seed in 0..6 {
        for killed_at in 0..calls {
            let fs = SimFs::new(seed);
            fs.stop_after(killed_at);
            let acknowledged = run_history(&fs);
            fs.crash(seed);
            let (mut store, thread) = open(&fs).unwrap_or_else(|error| panic!("{seed}/{killed_at}: {error}"));
            let held = run(holds(&mut store));
            let before = acknowledged.checked_sub(1).map_or_else(Model::default, |last| models[last].clone());
            let after = models.get(acknowledged);
            assert!(
                held == before || Some(&held) == after,
                "{seed}/{killed_at}: {acknowledged} steps, {held:?}"
            );
            // What was recovered can be written to and reopened.
            let last = run(store.get_log_state()).expect("reads").last_log_id;
            let next = Step::Append(
                9,
                last.map_or(1, |last| last.index + 1)..=last.map_or(1, |last| last.index + 3),
            );
            assert!(run(take(&mut store, &next)), "{seed}/{killed_at}");
            drop(store);
            thread.join().expect("the thread ends");
            fs.crash(seed + 100);
            let (mut store, _thread) =
                open(&fs).unwrap_or_else(|error| panic!("{seed}/{killed_at}: {error}"));
            assert_eq!(run(holds(&mut store)), held.after(&next), "{seed}/{killed_at}");
        }
    }
}

fn segments(fs: &SimFs) -> Vec<PathBuf> {
    let mut names: Vec<PathBuf> = fs
        .read_dir(&directory())
        .expect("lists")
        .into_iter()
        .map(|entry| directory().join(entry.name))
        .collect();
    names.sort();
    names
}

/// A store of one segment with three frames of one entry each, and where the frames begin.
fn three_frames() -> (SimFs, PathBuf, Vec<usize>) {
    let fs = SimFs::new(4);
    let options = LogOptions { segment_bytes: 1 << 20, ahead_bytes: 2048 };
    let (mut store, thread) = LogStore::open(Arc::new(fs.clone()), &directory(), options, 9).expect("opens");
    for index in 1..=3 {
        assert!(run(take(&mut store, &Step::Append(1, index..=index))));
    }
    drop(store);
    thread.join().expect("the thread ends");
    let path = segments(&fs).remove(0);
    let bytes = fs.read(&path, 1 << 20).expect("reads");
    let begins =
        bytes.windows(4).enumerate().filter(|(_, window)| window == b"RFR1").map(|(at, _)| at).collect();
    (fs, path, begins)
}

#[test]
fn a_damaged_frame_with_valid_ones_behind_it_is_refused_and_the_last_one_is_a_torn_tail() {
    let (fs, path, begins) = three_frames();
    assert_eq!(begins.len(), 3);
    let bytes = fs.read(&path, 1 << 20).expect("reads");
    let end = bytes.iter().rposition(|byte| *byte != 0).expect("not empty") + 1;
    for at in 0..end {
        let file = fs.open_write(&path).expect("opens");
        file.write_at(&[bytes[at] ^ 0x40], at as u64).expect("writes");
        match open(&fs) {
            Ok((mut store, _thread)) => {
                assert!(at >= begins[2], "byte {at} was changed unnoticed");
                assert_eq!(run(holds(&mut store)).entries, [id(1, 1), id(1, 2)]);
                // The tail was erased, so the file as it was is put back whole.
                file.write_at(&bytes, 0).expect("writes");
            }
            Err(OpenError::Damaged { path: named, what, .. }) => {
                assert!(at < begins[2], "byte {at}: {what}");
                assert_eq!(named, path, "the operator is told which file");
            }
            Err(OpenError::Fs(error)) => panic!("{error}"),
        }
        file.write_at(&[bytes[at]], at as u64).expect("writes");
    }
    let (mut store, _thread) = open(&fs).expect("mended");
    assert_eq!(run(holds(&mut store)).entries.len(), 3);
}

#[test]
fn an_erased_frame_in_the_middle_is_refused() {
    let (fs, path, begins) = three_frames();
    let file = fs.open_write(&path).expect("opens");
    file.write_at(&vec![0; begins[2] - begins[1]], begins[1] as u64).expect("writes");
    let Err(error) = open(&fs) else { panic!("opened with a hole") };
    assert!(error.to_string().contains("damaged"), "{error}");
}

#[test]
fn a_missing_or_shortened_segment_is_refused() {
    for (victim, shortened) in [(1, false), (0, true)] {
        let fs = SimFs::new(5);
        let (mut store, thread) = open(&fs).expect("opens");
        for index in 1..=20 {
            assert!(run(take(&mut store, &Step::Append(1, index..=index))));
        }
        drop(store);
        thread.join().expect("the thread ends");
        let all = segments(&fs);
        assert!(all.len() > 3, "{all:?}");
        if shortened {
            let bytes = fs.read(&all[victim], 1 << 20).expect("reads");
            let last = bytes.windows(4).rposition(|window| window == b"RFR1").expect("a frame");
            let file = fs.open_write(&all[victim]).expect("opens");
            file.write_at(&vec![0; bytes.len() - last], last as u64).expect("writes");
        } else {
            fs.unlink(&all[victim]).expect("removes");
        }
        let Err(OpenError::Damaged { .. }) = open(&fs) else { panic!("opened without {victim}") };
    }
}

#[test]
fn the_first_failed_sync_is_final() {
    // (L-RS1)
    let fs = SimFs::new(6);
    let (mut store, thread) = open(&fs).expect("opens");
    assert!(run(take(&mut store, &Step::Append(1, 1..=1))));
    fs.fail(Operation::Sync, 1, ErrorKind::Failed);
    assert!(!run(take(&mut store, &Step::Append(1, 2..=2))));
    let calls = fs.operations();
    assert!(!run(take(&mut store, &Step::Append(1, 3..=3))), "nothing is acknowledged afterwards");
    assert!(!run(take(&mut store, &Step::Vote(7))));
    assert_eq!(fs.operations(), calls, "and nothing is tried");
    drop(store);
    thread.join().expect("the thread ends");
    fs.crash(1);
    let (mut store, _thread) = open(&fs).expect("opens");
    let held = run(holds(&mut store));
    assert_eq!(held.entries[..1], [id(1, 1)]);
    assert_eq!(held.vote, None);
}

#[test]
fn a_full_disk_stops_the_log_and_freeing_space_lets_it_start_again() {
    let fs = SimFs::new(7);
    let (mut store, thread) = open(&fs).expect("opens");
    fs.full_after(Some(400));
    let mut acknowledged = 0;
    while run(take(&mut store, &Step::Append(1, acknowledged + 1..=acknowledged + 1))) {
        acknowledged += 1;
        assert!(acknowledged < 100);
    }
    drop(store);
    thread.join().expect("the thread ends");
    fs.full_after(None);
    fs.restart();
    let (mut store, _thread) = open(&fs).expect("opens");
    let held = run(holds(&mut store)).entries.len() as u64;
    assert!(held == acknowledged || held == acknowledged + 1, "{held} of {acknowledged}");
}

#[test]
fn purged_segments_are_removed_and_the_vote_outlives_them() {
    let fs = SimFs::new(8);
    let (mut store, thread) = open(&fs).expect("opens");
    assert!(run(take(&mut store, &Step::Vote(5))));
    for index in 1..=60 {
        assert!(run(take(&mut store, &Step::Append(5, index..=index))));
    }
    let before = segments(&fs).len();
    assert!(run(take(&mut store, &Step::Purge(id(5, 58)))));
    let after = segments(&fs).len();
    assert!(before > 10 && after <= 2, "{before} segments, then {after}");
    drop(store);
    thread.join().expect("the thread ends");
    fs.crash(3);
    let (mut store, _thread) = open(&fs).expect("opens");
    let held = run(holds(&mut store));
    assert_eq!(held.vote, Some(Vote::new(5, 1)));
    assert_eq!(held.purged, Some(id(5, 58)));
    assert_eq!(held.entries, [id(5, 59), id(5, 60)]);
    assert_eq!(store.store(), 9, "the store's own number is the one it was made with");
}

const SNAPSHOTS: &str = "/state/raft/snapshot";

fn snapshot_of(index: u64) -> (SnapshotMeta, State) {
    let mut state = State::default();
    let request =
        Request { id: RequestId { client: 1, seq: 1 }, command: Command::Found { site: 1, incarnation: 1 } };
    state.apply(index, &request, &mut Touched::default());
    let meta = SnapshotMeta { last_log_id: Some(id(1, index)), last_membership: StoredMembership::default() };
    (meta, state)
}

fn snapshots(fs: &SimFs) -> Snapshots {
    Snapshots::open(Arc::new(fs.clone()), Path::new(SNAPSHOTS)).expect("opens")
}

/// Reads what somebody wrote under the name of a snapshot.
fn read_back(bytes: &[u8]) -> std::io::Result<(SnapshotMeta, State)> {
    let fs = SimFs::new(1);
    let snapshots = snapshots(&fs);
    let file = fs.create(&Path::new(SNAPSHOTS).join("000000000000000a.snap")).expect("creates");
    file.write_at(bytes, 0).expect("writes");
    let (meta, snapshot) = snapshots.newest()?.expect("one is there");
    let (inside, state) = snapshot.state()?;
    assert_eq!(inside, meta);
    Ok((inside, state))
}

#[test]
fn a_snapshot_is_there_whole_or_not_at_all_wherever_the_process_is_killed() {
    // (L-RS4)
    let publish = |fs: &SimFs, index| {
        let (meta, state) = snapshot_of(index);
        Snapshots::open(Arc::new(fs.clone()), Path::new(SNAPSHOTS))
            .map_err(std::io::Error::other)
            .and_then(|snapshots| snapshots.write(&meta, &state))
    };
    let mut seen = BTreeSet::new();
    for killed_at in 0..30 {
        let fs = SimFs::new(killed_at);
        publish(&fs, 10).expect("publishes");
        fs.stop_after(killed_at);
        let published = publish(&fs, 20).is_ok();
        fs.crash(killed_at);
        let (meta, snapshot) = snapshots(&fs).newest().expect("verifies").expect("one is there");
        let index = meta.last_log_id.expect("set").index;
        assert!(index == 20 || (index == 10 && !published), "{killed_at}: {index}");
        assert_eq!(snapshot.state().expect("reads"), snapshot_of(index));
        seen.insert(index);
        let left = fs.read_dir(Path::new(SNAPSHOTS)).expect("lists").len();
        assert!(left <= 2, "{left} files");
    }
    assert_eq!(seen, BTreeSet::from([10, 20]));
}

#[test]
fn a_snapshot_that_nobody_publishes_leaves_nothing_behind() {
    let fs = SimFs::new(1);
    let snapshots = snapshots(&fs);
    let (meta, state) = snapshot_of(10);
    snapshots.write(&meta, &state).expect("writes");
    drop(snapshots.write(&snapshot_of(9).0, &state).expect("is older, and not needed"));
    let mut arriving = snapshots.begin().expect("begins");
    arriving.add(b"half of it").expect("writes");
    drop(arriving);
    assert_eq!(fs.read_dir(Path::new(SNAPSHOTS)).expect("lists").len(), 1);
    assert!(snapshots.begin_for(1 << 60).is_err(), "there is no room for it");
}

#[test]
fn snapshots_of_earlier_versions_are_read() {
    let (meta, state) = snapshot_of(10);
    let without_members = (state.config, &state.sessions, &state.clients, &state.shards);
    let without_draining = (state.config, &state.sessions, &state.clients, &state.shards, &state.members);
    let contents = [
        (b"ROOSTSN1", coding::encode(&(&meta, without_members)).expect("encodes")),
        (b"ROOSTSN2", coding::encode(&(&meta, without_draining)).expect("encodes")),
        (b"ROOSTSN3", coding::encode(&(&meta, without_draining, &state.draining)).expect("encodes")),
    ];
    for (magic, content) in contents {
        let mut old = magic.to_vec();
        old.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
        old.extend_from_slice(&content);
        assert_eq!(read_back(&old).expect("reads"), (meta.clone(), state.clone()));
        assert!(read_back(&old[..old.len() - 1]).is_err());
    }
}

#[test]
fn a_snapshot_of_a_newer_version_is_refused() {
    let error = read_back(b"ROOSTSN9 and more").expect_err("newer");
    assert!(error.to_string().contains("newer version"), "{error}");
}

#[test]
fn a_changed_snapshot_is_refused() {
    let fs = SimFs::new(1);
    let (meta, state) = snapshot_of(10);
    let snapshot = snapshots(&fs).write(&meta, &state).expect("writes");
    let bytes = snapshot.part(0, usize::MAX).expect("reads");
    assert_eq!(read_back(&bytes).expect("reads"), (meta, state));
    for at in (0..bytes.len()).step_by(9973).chain(0..60).chain(bytes.len() - 20..bytes.len()) {
        let mut changed = bytes.clone();
        changed[at] ^= 4;
        assert!(read_back(&changed).is_err(), "byte {at}");
    }
    let longer = [&bytes[..], b"x"].concat();
    for wrong in [&bytes[..bytes.len() - 1], &bytes[..bytes.len() - 8], &bytes[..20], &longer, &[]] {
        assert!(read_back(wrong).is_err(), "{} bytes", wrong.len());
    }
}
