//! What was parsed out of messages, so that a second FETCH opens no message file.
//!
//! One append-only file an account, in the node's own `state_dir`: it is only ever a copy of what the message files
//! say. Entries are small values of the caller's, keyed by entry.
//!
//! Invariants
//! - A value that is returned is one that was put: each carries a checksum, and garbage is as if absent.
//! - The file is bounded: past [`FILE_BYTES_MAX`] it begins again. It is never synced; a crash may lose its tail.
//!
//! Layout, little-endian, after a magic with version: entries of `entry id (16), length (4), CRC32 of id and value
//! (4), value`.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use model::EntryId;
use nfs_compat::{ErrorKind, File, Fs, Result};

/// Size at which the file is begun again.
pub const FILE_BYTES_MAX: u64 = 1 << 30;
/// Values longer than this are not worth keeping.
pub const VALUE_BYTES_MAX: usize = 64 * 1024;

const MAGIC: &[u8; 8] = b"RoostC\x00\x01";
const ENTRY_BYTES: usize = 16 + 4 + 4;
/// Read at a time when the file is opened.
const CHUNK_BYTES: usize = 1 << 20;

/// The cache of one account.
pub struct Cache {
    inner: Mutex<Inner>,
}

struct Inner {
    file: Box<dyn File>,
    /// Where each value lies, and its length.
    at: HashMap<EntryId, (u64, u32)>,
    end: u64,
}

impl Cache {
    /// Opens the cache file, or begins a new one where there is none or a garbled one.
    pub fn open(fs: &dyn Fs, path: &Path) -> Result<Self> {
        let file = match fs.create(path) {
            Err(error) if error.kind == ErrorKind::Exists => fs.open_write(path)?,
            file => file?,
        };
        let mut inner = Inner { file, at: HashMap::new(), end: 0 };
        if inner.load()? {
            return Ok(Self { inner: Mutex::new(inner) });
        }
        drop(inner);
        fs.unlink(path)?;
        let file = fs.create(path)?;
        file.write_at(MAGIC, 0)?;
        Ok(Self { inner: Mutex::new(Inner { file, at: HashMap::new(), end: MAGIC.len() as u64 }) })
    }

    pub fn get(&self, entry: EntryId) -> Option<Vec<u8>> {
        let mut inner = self.lock();
        let (offset, length) = *inner.at.get(&entry)?;
        let read = inner.read(offset, length as usize);
        let value = read.ok().flatten().filter(|record| crc_of(record) == stored_crc(record));
        let Some(mut record) = value else {
            inner.at.remove(&entry);
            return None;
        };
        Some(record.split_off(ENTRY_BYTES))
    }

    /// Keeps a value. Trouble with the file is no trouble: the value is parsed again next time.
    pub fn put(&self, entry: EntryId, value: &[u8]) {
        if value.len() > VALUE_BYTES_MAX {
            return;
        }
        let mut record = Vec::with_capacity(ENTRY_BYTES + value.len());
        record.extend_from_slice(entry.as_bytes());
        record.extend_from_slice(&(value.len() as u32).to_le_bytes());
        record.extend_from_slice(&[0; 4]);
        record.extend_from_slice(value);
        let crc = crc_of(&record);
        record[20..24].copy_from_slice(&crc.to_le_bytes());
        let mut inner = self.lock();
        if inner.end + record.len() as u64 > FILE_BYTES_MAX {
            inner.at.clear();
            inner.end = MAGIC.len() as u64;
        }
        let offset = inner.end;
        if inner.file.write_at(&record, offset).is_ok() {
            inner.end += record.len() as u64;
            inner.at.insert(entry, (offset, record.len() as u32));
        }
    }

    /// Values held.
    pub fn len(&self) -> usize {
        self.lock().at.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Finds where the values lie. False if the file is not one of ours.
    fn load(&mut self) -> Result<bool> {
        let length = self.file.metadata()?.length;
        let Some(magic) = self.read(0, MAGIC.len())? else { return Ok(false) };
        if magic != MAGIC {
            return Ok(false);
        }
        self.end = MAGIC.len() as u64;
        let mut chunk = Vec::new();
        let mut chunk_at = self.end;
        // Only the heads are read here; a value is checked when it is wanted.
        while self.end + ENTRY_BYTES as u64 <= length {
            let within = usize::try_from(self.end - chunk_at).unwrap_or(usize::MAX);
            let Some(head) = chunk.get(within..within.saturating_add(ENTRY_BYTES)) else {
                let want = CHUNK_BYTES.min(usize::try_from(length - self.end).unwrap_or(CHUNK_BYTES));
                let Some(next) = self.read(self.end, want)? else { break };
                (chunk, chunk_at) = (next, self.end);
                continue;
            };
            let mut id = [0; 16];
            id.copy_from_slice(&head[..16]);
            let value = u32::from_le_bytes([head[16], head[17], head[18], head[19]]) as usize;
            let record = (ENTRY_BYTES + value) as u64;
            if value > VALUE_BYTES_MAX || self.end + record > length {
                break;
            }
            self.at.insert(EntryId::from_bytes(id), (self.end, record as u32));
            self.end += record;
        }
        Ok(true)
    }

    fn read(&self, offset: u64, length: usize) -> Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while filled < length {
            match self.file.read_at(&mut bytes[filled..], offset + filled as u64)? {
                0 => return Ok(None),
                count => filled += count,
            }
        }
        Ok(Some(bytes))
    }
}

/// Checksum of a record, its checksum field left out.
fn crc_of(record: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(record.get(..20).unwrap_or_default());
    hasher.update(record.get(ENTRY_BYTES..).unwrap_or_default());
    hasher.finalize()
}

fn stored_crc(record: &[u8]) -> u32 {
    match record.get(20..24) {
        Some([a, b, c, d]) => u32::from_le_bytes([*a, *b, *c, *d]),
        Some(_) | None => 0,
    }
}
