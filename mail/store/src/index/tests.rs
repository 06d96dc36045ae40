//! Checkpoints and the cache tell garbage from what was written.

use std::path::Path;

use model::{EntryId, Epoch};
use nfs_compat::{DiskFs, Fs};

use super::cache::Cache;
use super::checkpoint::{self, CheckpointError};

fn garble(fs: &dyn Fs, path: &Path, at: u64) {
    let file = fs.open_write(path).unwrap();
    let mut byte = [0];
    file.read_at(&mut byte, at).unwrap();
    file.write_at(&[byte[0] ^ 0x40], at).unwrap();
}

#[test]
fn every_flipped_byte_of_a_checkpoint_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let fs = DiskFs::new();
    let wanted = checkpoint::write(&fs, dir.path(), Epoch::new(1, 2), 77, b"state of the account").unwrap();
    assert_eq!(checkpoint::parse_name(&wanted.name), Some((Epoch::new(1, 2), 77)));
    assert_eq!(checkpoint::read(&fs, dir.path(), &wanted).unwrap(), b"state of the account");
    let path = dir.path().join(&wanted.name);
    for at in 0..wanted.length {
        garble(&fs, &path, at);
        let found = checkpoint::read(&fs, dir.path(), &wanted);
        assert!(matches!(found, Err(CheckpointError::Garbled(..))), "byte {at}: {found:?}");
        garble(&fs, &path, at);
    }
    assert!(checkpoint::write(&fs, dir.path(), Epoch::new(1, 2), 77, b"other").is_err(), "written once");
}

#[test]
fn the_cache_returns_what_was_put_and_never_garbage() {
    let dir = tempfile::tempdir().unwrap();
    let fs = DiskFs::new();
    let path = dir.path().join("ada.cache");
    let entry = |number| EntryId::from_bytes([number; 16]);
    let cache = Cache::open(&fs, &path).unwrap();
    cache.put(entry(1), b"one");
    cache.put(entry(2), b"two");
    cache.put(entry(1), b"uno");
    assert_eq!(cache.get(entry(1)).unwrap(), b"uno");
    drop(cache);
    let cache = Cache::open(&fs, &path).unwrap();
    assert_eq!(cache.get(entry(1)).unwrap(), b"uno");
    assert_eq!(cache.get(entry(2)).unwrap(), b"two");
    let length = fs.metadata(&path).unwrap().length;
    for at in 0..length {
        garble(&fs, &path, at);
        let cache = Cache::open(&fs, &path).unwrap();
        for (number, values) in [(1, [b"one", b"uno"]), (2, [b"two", b"two"])] {
            let value = cache.get(entry(number));
            assert!(value.is_none_or(|value| values.iter().any(|right| value == *right)), "byte {at}");
        }
        // A file that is not ours any more was begun again.
        if cache.is_empty() {
            cache.put(entry(1), b"one");
            cache.put(entry(2), b"two");
            cache.put(entry(1), b"uno");
        } else {
            garble(&fs, &path, at);
        }
    }
}
