//! What `fs.rs` promises, tried on the operating system and on the simulator alike.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use nfs_compat::publish::is_temporary;
use nfs_compat::sim::{NfsClient, NfsOptions, NfsVersion};
use nfs_compat::{DiskFs, EntryKind, ErrorKind, Fs, SimFs, publish, publish_new};

/// Runs a test over the operating system, the simulated volume, and hosts that mount it.
fn everywhere(test: impl Fn(&dyn Fs, &Path)) {
    let directory = tempfile::tempdir().unwrap();
    test(&DiskFs::new(), directory.path());
    for seed in 0..4 {
        let fs = SimFs::new(seed);
        fs.create_dir_all(Path::new("/mail/volume")).unwrap();
        test(&fs, Path::new("/mail/volume"));
    }
    for version in [NfsVersion::V3, NfsVersion::V4] {
        let volume = SimFs::new(9);
        let host = NfsClient::mount(&volume, NfsOptions::default_of(version));
        host.create_dir_all(Path::new("/mail/volume")).unwrap();
        test(&host, Path::new("/mail/volume"));
    }
}

fn write(fs: &dyn Fs, path: &Path, bytes: &[u8]) {
    let file = fs.create(path).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
}

fn names(fs: &dyn Fs, directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs.read_dir(directory).unwrap().into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn refusal<T>(result: nfs_compat::Result<T>) -> ErrorKind {
    result.err().expect("the call should have failed").kind
}

#[test]
fn bytes_are_read_as_they_were_written() {
    everywhere(|fs, root| {
        let file = fs.create(&root.join("f")).unwrap();
        file.write_at(b"world", 6).unwrap();
        file.write_at(b"hello ", 0).unwrap();
        file.sync().unwrap();
        assert_eq!(fs.read(&root.join("f"), 100).unwrap(), b"hello world");
        assert_eq!(fs.read(&root.join("f"), 5).unwrap(), b"hello");
        assert_eq!(file.read_at(&mut [0; 8], 11).unwrap(), 0);
        assert_eq!(file.read_at(&mut [0; 8], u64::from(u32::MAX)).unwrap(), 0);
        assert_eq!(file.metadata().unwrap().length, 11);
        assert_eq!(file.path(), root.join("f"));
    });
}

#[test]
fn a_gap_reads_as_noughts() {
    everywhere(|fs, root| {
        let file = fs.create(&root.join("f")).unwrap();
        file.write_at(b"x", 3).unwrap();
        assert_eq!(fs.read(&root.join("f"), 100).unwrap(), b"\0\0\0x");
    });
}

#[test]
fn create_never_replaces() {
    everywhere(|fs, root| {
        write(fs, &root.join("f"), b"first");
        assert_eq!(refusal(fs.create(&root.join("f"))), ErrorKind::Exists);
        assert_eq!(refusal(fs.create_dir(&root.join("f"))), ErrorKind::Exists);
        assert_eq!(fs.read(&root.join("f"), 100).unwrap(), b"first");
    });
}

#[test]
fn what_is_missing_is_not_found() {
    everywhere(|fs, root| {
        let missing = root.join("missing");
        assert_eq!(refusal(fs.open(&missing)), ErrorKind::NotFound);
        assert_eq!(refusal(fs.open_write(&missing)), ErrorKind::NotFound);
        assert_eq!(refusal(fs.create(&missing.join("f"))), ErrorKind::NotFound);
        assert_eq!(refusal(fs.unlink(&missing)), ErrorKind::NotFound);
        assert_eq!(refusal(fs.remove_dir(&missing)), ErrorKind::NotFound);
        assert_eq!(refusal(fs.rename(&missing, &root.join("to"))), ErrorKind::NotFound);
        assert_eq!(refusal(fs.link(&missing, &root.join("to"))), ErrorKind::NotFound);
        assert_eq!(refusal(fs.read_dir(&missing)), ErrorKind::NotFound);
        assert_eq!(refusal(fs.sync_dir(&missing)), ErrorKind::NotFound);
        assert_eq!(refusal(fs.metadata(&missing)), ErrorKind::NotFound);
        assert!(!fs.exists(&missing).unwrap());
    });
}

#[test]
fn a_file_is_not_a_directory() {
    everywhere(|fs, root| {
        write(fs, &root.join("f"), b"");
        assert_eq!(refusal(fs.open(&root.join("f/below"))), ErrorKind::NotADirectory);
        assert_eq!(refusal(fs.read_dir(&root.join("f"))), ErrorKind::NotADirectory);
        assert_eq!(refusal(fs.remove_dir(&root.join("f"))), ErrorKind::NotADirectory);
    });
}

#[test]
fn a_link_is_a_second_name_of_one_file() {
    everywhere(|fs, root| {
        write(fs, &root.join("a"), b"bytes");
        fs.link(&root.join("a"), &root.join("b")).unwrap();
        let (a, b) = (fs.metadata(&root.join("a")).unwrap(), fs.metadata(&root.join("b")).unwrap());
        assert_eq!((a.inode, a.links, a.kind), (b.inode, 2, EntryKind::File));
        fs.unlink(&root.join("a")).unwrap();
        assert_eq!(fs.read(&root.join("b"), 100).unwrap(), b"bytes");
        assert_eq!(fs.metadata(&root.join("b")).unwrap().links, 1);
    });
}

#[test]
fn link_never_replaces_but_its_own_work_counts_as_done() {
    everywhere(|fs, root| {
        write(fs, &root.join("a"), b"a");
        write(fs, &root.join("b"), b"b");
        assert_eq!(refusal(fs.link(&root.join("a"), &root.join("b"))), ErrorKind::Exists);
        assert_eq!(fs.read(&root.join("b"), 100).unwrap(), b"b");
        // L-FS1: a repeated request finds the name that the first one made.
        fs.link(&root.join("a"), &root.join("c")).unwrap();
        fs.link(&root.join("a"), &root.join("c")).unwrap();
        assert_eq!(fs.metadata(&root.join("a")).unwrap().links, 2);
    });
}

#[test]
fn rename_replaces() {
    everywhere(|fs, root| {
        write(fs, &root.join("a"), b"new");
        write(fs, &root.join("b"), b"old");
        fs.rename(&root.join("a"), &root.join("b")).unwrap();
        assert_eq!(names(fs, root), ["b"]);
        assert_eq!(fs.read(&root.join("b"), 100).unwrap(), b"new");
        assert_eq!(fs.metadata(&root.join("b")).unwrap().links, 1);
    });
}

#[test]
fn directories_move_with_what_is_in_them() {
    everywhere(|fs, root| {
        fs.create_dir_all(&root.join("a/b/c")).unwrap();
        fs.create_dir_all(&root.join("a/b/c")).unwrap();
        write(fs, &root.join("a/b/c/f"), b"bytes");
        fs.rename(&root.join("a/b"), &root.join("moved")).unwrap();
        assert_eq!(fs.read(&root.join("moved/c/f"), 100).unwrap(), b"bytes");
        assert_eq!(refusal(fs.remove_dir(&root.join("moved"))), ErrorKind::NotEmpty);
        assert!(fs.rename(&root.join("moved"), &root.join("moved/c/inside")).is_err());
        fs.remove_dir(&root.join("a")).unwrap();
        assert_eq!(names(fs, root), ["moved"]);
        assert_eq!(fs.read_dir(root).unwrap()[0].kind, EntryKind::Directory);
    });
}

#[test]
fn an_open_file_outlives_its_name() {
    everywhere(|fs, root| {
        write(fs, &root.join("f"), b"bytes");
        let file = fs.open(&root.join("f")).unwrap();
        fs.unlink(&root.join("f")).unwrap();
        let mut buffer = [0; 1];
        assert_eq!(file.read_at(&mut buffer, 4).unwrap(), 1);
        assert_eq!(&buffer, b"s");
    });
}

#[test]
fn a_file_opened_for_reading_cannot_be_written() {
    everywhere(|fs, root| {
        write(fs, &root.join("f"), b"bytes");
        assert!(fs.open(&root.join("f")).unwrap().write_at(b"x", 0).is_err());
        fs.open_write(&root.join("f")).unwrap().write_at(b"B", 0).unwrap();
        assert_eq!(fs.read(&root.join("f"), 100).unwrap(), b"Bytes");
    });
}

#[test]
fn times_are_set_by_name_and_by_descriptor() {
    everywhere(|fs, root| {
        let then = UNIX_EPOCH + Duration::from_secs(1_000_000_000);
        let file = fs.create(&root.join("f")).unwrap();
        file.set_modified(then).unwrap();
        file.sync().unwrap();
        assert_eq!(fs.metadata(&root.join("f")).unwrap().modified, then);
        fs.set_modified(&root.join("f"), then + Duration::from_secs(9)).unwrap();
        assert_eq!(file.metadata().unwrap().modified, then + Duration::from_secs(9));
    });
}

#[test]
fn space_can_be_reserved_and_measured() {
    everywhere(|fs, root| {
        let file = fs.create(&root.join("f")).unwrap();
        file.allocate(10_000).unwrap();
        assert_eq!(file.metadata().unwrap().length, 0);
        let space = fs.space(root).unwrap();
        assert!(space.total_bytes >= space.available_bytes);
    });
}

#[test]
fn a_name_that_is_too_long_is_refused() {
    everywhere(|fs, root| assert_eq!(refusal(fs.create(&root.join("x".repeat(256)))), ErrorKind::Failed));
}

#[test]
fn a_publication_replaces_and_leaves_nothing_beside_it() {
    everywhere(|fs, root| {
        publish(fs, root, "state", b"one").unwrap();
        publish(fs, root, "state", b"two").unwrap();
        assert_eq!(fs.read(&root.join("state"), 100).unwrap(), b"two");
        assert_eq!(names(fs, root), ["state"]);
    });
}

#[test]
fn a_new_publication_never_replaces() {
    everywhere(|fs, root| {
        publish_new(fs, root, "state", b"one").unwrap();
        assert_eq!(refusal(publish_new(fs, root, "state", b"two")), ErrorKind::Exists);
        assert_eq!(fs.read(&root.join("state"), 100).unwrap(), b"one");
        assert_eq!(fs.metadata(&root.join("state")).unwrap().links, 1);
        assert_eq!(names(fs, root), ["state"]);
    });
}

#[test]
fn a_temporary_file_left_behind_is_known_and_stepped_over() {
    everywhere(|fs, root| {
        write(fs, &root.join(".state.0.new"), b"half");
        publish(fs, root, "state", b"whole").unwrap();
        assert_eq!(names(fs, root), [".state.0.new", "state"]);
        assert!(is_temporary(".state.0.new"));
        assert!(!is_temporary("state") && !is_temporary(".state.new") && !is_temporary("a.0.new"));
    });
}
