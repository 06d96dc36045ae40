//! What survives the simulator's crashes, and what faults do.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use nfs_compat::sim::Operation;
use nfs_compat::{ErrorKind, File, Fs, SimFs, publish, publish_new};

const SEEDS: u64 = 200;

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn written(fs: &SimFs, name: &str, bytes: &[u8]) -> Box<dyn File> {
    let file = fs.create(path(name)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file
}

/// What each seed makes of a volume.
fn after_crash<T: Ord>(prepare: impl Fn(&SimFs), look: impl Fn(&SimFs) -> T) -> BTreeSet<T> {
    let outcome = |seed| {
        let fs = SimFs::new(seed);
        prepare(&fs);
        fs.crash(seed);
        look(&fs)
    };
    (0..SEEDS).map(outcome).collect()
}

fn content(fs: &SimFs, name: &str) -> Option<Vec<u8>> {
    fs.exists(path(name)).unwrap().then(|| fs.read(path(name), 1 << 20).unwrap())
}

#[test]
fn what_was_synced_survives_every_crash() {
    let seen = after_crash(
        |fs| {
            written(fs, "/f", b"synced").sync().unwrap();
            fs.link(path("/f"), path("/g")).unwrap();
            fs.sync_dir(path("/")).unwrap();
        },
        |fs| (content(fs, "/f"), content(fs, "/g"), fs.metadata(path("/f")).unwrap().links),
    );
    let synced = Some(b"synced".to_vec());
    assert_eq!(seen, BTreeSet::from([(synced.clone(), synced, 2)]));
}

#[test]
fn what_was_not_synced_may_vanish_survive_or_tear() {
    let new = vec![b'n'; 1500];
    let seen = after_crash(
        |fs| {
            let file = written(fs, "/f", b"old");
            file.sync().unwrap();
            fs.sync_dir(path("/")).unwrap();
            file.write_at(&new, 3).unwrap();
        },
        |fs| content(fs, "/f").unwrap(),
    );
    let whole = [b"old".to_vec(), new].concat();
    assert!(seen.contains(b"old".as_slice()) && seen.contains(&whole));
    assert!(seen.iter().any(|bytes| bytes.len() > 3 && bytes.len() < whole.len()));
    // Length without bytes: noughts where a sector did not arrive.
    assert!(seen.iter().any(|bytes| bytes[3..].contains(&0)));
    assert!(seen.iter().all(|bytes| bytes.starts_with(b"old")));
}

#[test]
fn a_synced_file_without_a_synced_name_may_vanish_whole() {
    let seen = after_crash(|fs| written(fs, "/f", b"x").sync().unwrap(), |fs| content(fs, "/f"));
    assert_eq!(seen, BTreeSet::from([None, Some(b"x".to_vec())]));
}

#[test]
fn a_renamed_file_has_one_name_whatever_happens() {
    let seen = after_crash(
        |fs| {
            fs.create_dir_all(path("/d")).unwrap();
            written(fs, "/a", b"x").sync().unwrap();
            fs.sync_dir(path("/")).unwrap();
            fs.rename(path("/a"), path("/d/b")).unwrap();
            fs.rename(path("/d/b"), path("/c")).unwrap();
        },
        |fs| ["/a", "/d/b", "/c"].map(|name| fs.exists(path(name)).unwrap()),
    );
    assert_eq!(seen, BTreeSet::from([[true, false, false], [false, true, false], [false, false, true]]));
}

#[test]
fn syncing_either_directory_of_a_rename_settles_both_names() {
    for synced in ["/", "/d"] {
        let seen = after_crash(
            |fs| {
                fs.create_dir_all(path("/d")).unwrap();
                written(fs, "/a", b"x").sync().unwrap();
                fs.rename(path("/a"), path("/d/b")).unwrap();
                fs.sync_dir(path(synced)).unwrap();
            },
            |fs| ["/a", "/d/b"].map(|name| fs.exists(path(name)).unwrap()),
        );
        assert_eq!(seen, BTreeSet::from([[false, true]]), "{synced}");
    }
}

#[test]
fn links_and_removals_are_lost_one_by_one() {
    let seen = after_crash(
        |fs| {
            written(fs, "/a", b"x").sync().unwrap();
            fs.sync_dir(path("/")).unwrap();
            fs.link(path("/a"), path("/b")).unwrap();
            fs.unlink(path("/a")).unwrap();
        },
        |fs| ["/a", "/b"].map(|name| fs.exists(path(name)).unwrap()),
    );
    assert_eq!(seen.len(), 4);
}

#[test]
fn the_same_seed_gives_the_same_result() {
    let run = |seed| {
        let fs = SimFs::new(seed);
        for number in 0..20_u8 {
            let name = format!("/{number}");
            let file = written(&fs, &name, &vec![number; 700]);
            if number % 3 == 0 {
                file.sync().unwrap();
            }
        }
        fs.crash(seed + 1);
        let names: Vec<_> = fs.read_dir(path("/")).unwrap().into_iter().map(|entry| entry.name).collect();
        let bytes: Vec<_> = names.iter().map(|name| fs.read(&path("/").join(name), 1000).unwrap()).collect();
        (names, bytes)
    };
    for seed in 0..20 {
        assert_eq!(run(seed), run(seed));
    }
    assert_ne!(run(1), run(2));
}

#[test]
fn files_opened_before_a_crash_are_gone_after_it() {
    for end in [SimFs::restart, |fs: &SimFs| fs.crash(1)] {
        let fs = SimFs::new(0);
        let file = written(&fs, "/f", b"x");
        file.sync().unwrap();
        fs.sync_dir(path("/")).unwrap();
        end(&fs);
        let gone = [file.write_at(b"y", 0), file.sync(), file.read_at(&mut [0], 0).map(drop)];
        assert!(gone.into_iter().all(|result| SimFs::was_killed(&result.unwrap_err())));
        assert_eq!(content(&fs, "/f").unwrap(), b"x");
    }
}

#[test]
fn a_restarted_process_finds_what_it_had_not_synced() {
    let fs = SimFs::new(0);
    drop(written(&fs, "/f", b"x"));
    fs.restart();
    assert_eq!(content(&fs, "/f").unwrap(), b"x");
}

#[test]
fn a_killed_process_does_nothing_more_until_the_crash() {
    let fs = SimFs::new(0);
    fs.stop_after(2);
    let file = written(&fs, "/f", b"x");
    assert!(SimFs::was_killed(&file.sync().unwrap_err()));
    assert!(SimFs::was_killed(&fs.sync_dir(path("/")).unwrap_err()));
    assert_eq!(fs.operations(), 2);
    fs.crash(0);
    fs.create_dir(path("/d")).unwrap();
}

#[test]
fn a_failed_sync_poisons_its_descriptor_and_no_later_sync_mends_it() {
    // L-FS2: the kernel takes pages that it failed to write for clean.
    let seen = after_crash(
        |fs| {
            let file = written(fs, "/f", b"");
            fs.sync_dir(path("/")).unwrap();
            file.write_at(b"doubt", 0).unwrap();
            fs.fail(Operation::Sync, 1, ErrorKind::Failed);
            assert_eq!(file.sync().unwrap_err().kind, ErrorKind::Failed);
            assert_eq!(file.sync().unwrap_err().kind, ErrorKind::Poisoned);
            assert_eq!(file.write_at(b"x", 0).unwrap_err().kind, ErrorKind::Poisoned);
            assert_eq!(file.metadata().unwrap_err().kind, ErrorKind::Poisoned);
            fs.open_write(path("/f")).unwrap().sync().unwrap();
        },
        |fs| content(fs, "/f").unwrap(),
    );
    assert!(seen.contains(b"".as_slice()) && seen.contains(b"doubt".as_slice()));
}

#[test]
fn the_nth_write_fails_for_want_of_space() {
    let fs = SimFs::new(3);
    fs.fail(Operation::Write, 2, ErrorKind::NoSpace);
    let file = written(&fs, "/f", b"one");
    let full = file.write_at(b"two", 3).unwrap_err();
    assert!(full.is_full() && !SimFs::was_killed(&full));
    file.write_at(b"TWO", 3).unwrap();
    assert_eq!(content(&fs, "/f").unwrap(), b"oneTWO");
}

#[test]
fn a_fault_can_be_for_one_file_only() {
    let fs = SimFs::new(0);
    fs.fail_when(ErrorKind::NotPermitted, |call| call.path == path("/secret"));
    assert_eq!(fs.create(path("/secret")).err().unwrap().kind, ErrorKind::NotPermitted);
    drop(fs.create(path("/open")).unwrap());
    fs.clear_faults();
    drop(fs.create(path("/secret")).unwrap());
}

#[test]
fn a_full_volume_takes_the_beginning_of_a_write_and_room_comes_back_by_removal() {
    let fs = SimFs::new(0);
    fs.full_after(Some(10));
    let file = written(&fs, "/f", b"12345678");
    assert_eq!(file.write_at(b"9abc", 8).unwrap_err().kind, ErrorKind::NoSpace);
    assert_eq!(content(&fs, "/f").unwrap(), b"123456789a");
    assert_eq!(fs.space(path("/")).unwrap().available_bytes, 0);
    fs.unlink(path("/f")).unwrap();
    drop(written(&fs, "/g", b"0123456789"));
    fs.full_after(None);
    drop(written(&fs, "/h", b"0123456789"));
}

#[test]
fn time_moves_when_it_is_told_to() {
    let fs = SimFs::new(0);
    let before = fs.now();
    drop(written(&fs, "/f", b"x"));
    fs.set_now(before + Duration::from_secs(60));
    assert_eq!(fs.metadata(path("/f")).unwrap().modified, before);
    fs.open_write(path("/f")).unwrap().write_at(b"y", 0).unwrap();
    assert_eq!(fs.metadata(path("/f")).unwrap().modified, fs.now());
}

/// Kills a publication at each of its calls, crashes, and looks at what is under the name.
fn killed_at_each_call(publication: fn(&dyn Fs, &[u8]) -> nfs_compat::Result<()>, before: Option<&[u8]>) {
    let new = vec![b'n'; 2000];
    for step in 0.. {
        let mut finished = false;
        for seed in 0..SEEDS {
            let fs = SimFs::new(seed);
            if let Some(before) = before {
                publish(&fs, path("/"), "name", before).unwrap();
            }
            fs.stop_after(step);
            finished = publication(&fs, &new).is_ok();
            fs.crash(seed);
            let found = content(&fs, "/name");
            assert!(
                found.as_deref() == Some(&new) || (!finished && found.as_deref() == before),
                "{step} {seed}"
            );
        }
        if finished {
            return;
        }
    }
}

#[test]
fn a_publication_is_there_whole_or_not_at_all_wherever_the_process_dies() {
    killed_at_each_call(|fs, bytes| publish(fs, path("/"), "name", bytes), Some(b"old"));
    killed_at_each_call(|fs, bytes| publish(fs, path("/"), "name", bytes), None);
    killed_at_each_call(|fs, bytes| publish_new(fs, path("/"), "name", bytes), None);
}

#[test]
fn a_publication_that_fails_leaves_what_was_there_and_nothing_beside_it() {
    for operation in [Operation::Write, Operation::Sync, Operation::Rename] {
        let fs = SimFs::new(0);
        publish(&fs, path("/"), "name", b"old").unwrap();
        fs.fail(operation, 1, ErrorKind::Failed);
        assert_eq!(publish(&fs, path("/"), "name", b"new").unwrap_err().kind, ErrorKind::Failed);
        assert_eq!(content(&fs, "/name").unwrap(), b"old");
        assert_eq!(fs.read_dir(path("/")).unwrap().len(), 1);
    }
}

#[test]
fn a_directory_whose_maker_was_stopped_before_its_sync_is_durable_once_it_was_asked_for_again() {
    for seed in 0..30 {
        let fs = SimFs::new(seed);
        let path = Path::new("/a/b");
        fs.fail(Operation::SyncDir, 2, ErrorKind::Failed);
        assert!(fs.create_dir_all(path).is_err());
        fs.create_dir_all(path).unwrap();
        fs.crash(seed);
        assert!(fs.exists(path).unwrap(), "seed {seed}");
    }
}
