//! The copy in sled: a shortcut that is thrown away as soon as anything is wrong with it.

use std::path::Path;
use std::time::Duration;

use locking::command::*;
use locking::raft::copy::Copy;
use locking::raft::machine::{Applied, Machine};
use locking::raft::snapshot::Snapshots;
use locking::raft::{Entry, TypeConfig};
use nfs_compat::{DiskFs, Fs, SimFs};
use openraft::entry::RaftEntry;
use openraft::storage::RaftStateMachine;
use openraft::testing::log_id;

const STORE: u64 = 42;

fn machine(copied: Option<Applied>) -> Machine {
    let fs = std::sync::Arc::new(SimFs::new(1));
    Machine::new(copied, Snapshots::open(fs, Path::new("/snapshot")).expect("opens"))
}

fn apply(machine: &mut Machine, commands: Vec<(u64, Command)>) {
    let entries = commands.into_iter().map(|(index, command)| {
        let request = Request { id: RequestId { client: 5, seq: index }, command };
        let entry =
            Entry::new_normal(log_id::<TypeConfig>(1, 1, index), Proposal(std::sync::Arc::new(request)));
        Ok((entry, None))
    });
    let entries: Vec<_> = entries.collect();
    futures::executor::block_on(machine.apply(futures::stream::iter(entries))).expect("applies");
}

/// Some sessions, grants and witnesses; the session is number 2.
fn commands() -> Vec<(u64, Command)> {
    let record = |counter| Record {
        bucket: 700,
        epoch: model::Epoch::new(1, 1),
        subkey: [counter as u8; 16],
        value: Value::new(b"value").expect("short"),
        counter,
    };
    vec![
        (1, Command::Found { site: 1, incarnation: 1 }),
        (2, Command::SessionOpen { node: NodeId(1), replaces_older: true }),
        (3, Command::Grant { session: SessionId(2), wanted: Wanted::AllFree }),
        (4, Command::Witness { records: (1..=50).map(record).collect() }),
        (5, Command::Forget { bucket: 700, epoch: model::Epoch::new(1, 1), subkey: [9; 16] }),
        (6, Command::SetDraining { node: NodeId(2), draining: true }),
    ]
}

/// Writes a copy of what the commands lead to, as a running voter does.
fn write_copy(directory: &Path) -> Applied {
    let (copy, found) = Copy::open(directory, STORE).expect("opens");
    let mut machine = machine(found);
    let (stop, thread) = copy.follow(machine.reader()).expect("follows");
    apply(&mut machine, commands());
    std::thread::sleep(Duration::from_millis(50));
    drop(stop);
    thread.join().expect("ends");
    machine.reader().freeze()
}

fn same(copied: &Applied, applied: &Applied) -> bool {
    copied.last == applied.last && copied.state == applied.state && copied.membership == applied.membership
}

#[test]
fn a_restart_finds_the_state_as_it_was() {
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = temporary.path().join("applied");
    let applied = write_copy(&directory);
    let (copy, found) = Copy::open(&directory, STORE).expect("opens");
    let found = found.expect("a state");
    assert!(same(&found, &applied));
    assert_eq!(found.state.witness_count(), 49);

    // It goes on from there.
    let mut machine = machine(Some(found));
    let (stop, thread) = copy.follow(machine.reader()).expect("follows");
    apply(&mut machine, vec![(7, Command::SessionClose { session: SessionId(2) })]);
    drop(stop);
    thread.join().expect("ends");
    let (_, found) = Copy::open(&directory, STORE).expect("opens");
    assert!(same(&found.expect("a state"), &machine.reader().freeze()));
}

#[test]
fn a_copy_that_was_cut_or_changed_is_moved_aside_or_unharmed_but_never_wrong() {
    let fs = DiskFs::new();
    let mut set_aside = 0;
    for round in 0..12u64 {
        let temporary = tempfile::tempdir().expect("a directory");
        let directory = temporary.path().join("applied");
        let applied = write_copy(&directory);
        let file = fs.open_write(&directory.join("db")).expect("opens");
        let length = file.metadata().expect("looks up").length;
        for place in 0..40 {
            let at = (round * 40 + place) * 7919 % length;
            let mut byte = [0];
            assert_eq!(file.read_at(&mut byte, at).expect("reads"), 1);
            file.write_at(&[byte[0] ^ 0xa5], at).expect("writes");
        }
        let (_copy, found) = Copy::open(&directory, STORE).expect("opens, one way or the other");
        match found {
            Some(found) => assert!(same(&found, &applied), "round {round}"),
            None => set_aside += 1,
        }
    }
    assert!(set_aside > 0);
}

#[test]
fn the_copy_of_another_store_is_not_used() {
    let temporary = tempfile::tempdir().expect("a directory");
    let directory = temporary.path().join("applied");
    write_copy(&directory);
    let (copy, found) = Copy::open(&directory, STORE + 1).expect("opens");
    assert!(found.is_none());
    drop(copy);
    assert!(DiskFs::new().exists(&temporary.path().join("applied.damaged")).expect("looks up"));
    // And again: what was set aside before makes room.
    let (_copy, found) = Copy::open(&directory, STORE + 2).expect("opens");
    assert!(found.is_none());
}
