//! Snapshots: the applied state in one file, from which the log can go on.
//!
//! Invariants
//! - A file appears under its name whole and durable, or not at all (L-RS4).
//! - The newest is removed only after a newer one is durable.
//! - It carries the membership, and a checksum over everything; one that does not verify is not used.
//!
//! Layout: magic "ROOSTSN3", crc32 of the rest as little-endian u32, then the encoded (meta, state).
//! "ROOSTSN2" was the same without nodes that are being emptied, "ROOSTSN1" without members either.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use nfs_compat::Fs;
use serde::Deserialize;

use super::{SnapshotMeta, coding};
use crate::command::{NodeId, SessionId};
use crate::state::{Config, Member, Memory, Session, Shard, State};

const MAGIC: &[u8; 8] = b"ROOSTSN3";
const MAGIC_WITHOUT_DRAINING: &[u8; 8] = b"ROOSTSN2";
const MAGIC_WITHOUT_MEMBERS: &[u8; 8] = b"ROOSTSN1";
const HEADER_BYTES: usize = 12;
const BYTES_MAX: u64 = 1 << 30;

/// The bytes of a snapshot, as stored and as sent.
pub fn encode(meta: &SnapshotMeta, state: &State) -> io::Result<Bytes> {
    let content = coding::encode(&(meta, state))?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + content.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&crc32fast::hash(&content).to_le_bytes());
    bytes.extend_from_slice(&content);
    Ok(bytes.into())
}

pub fn decode(bytes: &[u8]) -> io::Result<(SnapshotMeta, State)> {
    let content = bytes
        .split_first_chunk::<8>()
        .and_then(|(magic, rest)| Some((magic, rest.split_first_chunk::<4>()?)));
    let (magic, (crc, content)) = content.ok_or_else(|| coding::invalid("not a snapshot".to_owned()))?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(content) {
        return Err(coding::invalid("snapshot checksum does not match".to_owned()));
    }
    let (meta, state): (SnapshotMeta, State) = match magic {
        MAGIC => coding::decode(content)?,
        MAGIC_WITHOUT_DRAINING => {
            let (meta, before): (SnapshotMeta, WithoutDraining) = coding::decode(content)?;
            (meta, before.into())
        }
        MAGIC_WITHOUT_MEMBERS => {
            let (meta, before): (SnapshotMeta, WithoutMembers) = coding::decode(content)?;
            (meta, before.into())
        }
        _ => return Err(coding::invalid("not a snapshot, or one of a newer version of roost".to_owned())),
    };
    state.is_sound().then_some((meta, state)).ok_or_else(|| coding::invalid("snapshot is unsound".to_owned()))
}

/// The state as snapshots held it before sites had several nodes.
#[derive(Deserialize)]
struct WithoutMembers {
    config: Option<Config>,
    sessions: BTreeMap<SessionId, Session>,
    clients: BTreeMap<u64, Memory>,
    shards: Vec<Arc<Shard>>,
}

impl From<WithoutMembers> for State {
    fn from(before: WithoutMembers) -> Self {
        let WithoutMembers { config, sessions, clients, shards } = before;
        Self { config, sessions, clients, shards, members: BTreeMap::new(), draining: BTreeSet::new() }
    }
}

/// The state as snapshots held it before nodes could be emptied.
#[derive(Deserialize)]
struct WithoutDraining {
    config: Option<Config>,
    sessions: BTreeMap<SessionId, Session>,
    clients: BTreeMap<u64, Memory>,
    shards: Vec<Arc<Shard>>,
    members: BTreeMap<NodeId, Member>,
}

impl From<WithoutDraining> for State {
    fn from(before: WithoutDraining) -> Self {
        let WithoutDraining { config, sessions, clients, shards, members } = before;
        Self { config, sessions, clients, shards, members, draining: BTreeSet::new() }
    }
}

/// The directory that holds the newest snapshot.
pub struct Snapshots {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    made: AtomicU64,
}

fn index_of(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".snap").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

impl Snapshots {
    /// Opens the directory and removes what a crash left unfinished.
    pub fn open(fs: Arc<dyn Fs>, directory: &Path) -> nfs_compat::Result<Self> {
        fs.create_dir_all(directory)?;
        let snapshots = Self { fs, directory: directory.to_owned(), made: AtomicU64::new(0) };
        for entry in snapshots.fs.read_dir(directory)? {
            if entry.name.to_str().is_some_and(|name| name.ends_with(".new")) {
                snapshots.fs.unlink(&directory.join(&entry.name))?;
            }
        }
        Ok(snapshots)
    }

    fn indexes(&self) -> nfs_compat::Result<Vec<u64>> {
        let mut indexes: Vec<u64> =
            self.fs.read_dir(&self.directory)?.iter().filter_map(|entry| index_of(&entry.name)).collect();
        indexes.sort_unstable();
        Ok(indexes)
    }

    fn path(&self, index: u64) -> PathBuf {
        self.directory.join(format!("{index:016x}.snap"))
    }

    /// Reads the newest snapshot. One that is there but does not verify is an error: the log before it is gone.
    pub fn newest(&self) -> io::Result<Option<(SnapshotMeta, State, Bytes)>> {
        let Some(index) = self.indexes().map_err(io::Error::other)?.pop() else { return Ok(None) };
        let path = self.path(index);
        let bytes = self.fs.read(&path, BYTES_MAX).map_err(io::Error::other)?;
        let (meta, state) = decode(&bytes).map_err(|error| {
            coding::invalid(format!("{} is damaged: {error}; refusing to start", path.display()))
        })?;
        Ok(Some((meta, state, bytes.into())))
    }

    /// Makes this the newest snapshot, unless one as new is there: the same index holds the same state.
    pub fn publish(&self, meta: &SnapshotMeta, bytes: &[u8]) -> nfs_compat::Result<()> {
        let index = meta.last_log_id.map_or(0, |last| last.index);
        if self.indexes()?.last().is_some_and(|newest| *newest >= index) {
            return Ok(());
        }
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let unfinished = self.directory.join(format!("{index:016x}-{number}.new"));
        let file = self.fs.create(&unfinished)?;
        file.write_at(bytes, 0)?;
        file.sync()?;
        self.fs.rename(&unfinished, &self.path(index))?;
        self.fs.sync_dir(&self.directory)?;
        for older in self.indexes()?.into_iter().filter(|older| *older < index) {
            self.fs.unlink(&self.path(older))?;
        }
        Ok(())
    }
}
