//! Snapshots: the applied state in one file, from which the log can go on.
//!
//! Invariants
//! - A file appears under its name whole and durable, or not at all (L-RS4).
//! - The newest is removed only after a newer one is durable.
//! - It carries the membership, and checksums over everything; one that does not verify is not used.
//! - However many accounts there are, no more of it is in memory at once than one shard.
//!
//! Layout: magic "ROOSTSN4", then sections, then the end. Numbers are little-endian.
//!   section  length of the content u32, crc32 of its number (u32, from 0) and the content, content
//!   end      as a section with nothing in it
//! The first section is (meta, state without shards), each further one a shard.
//!
//! "ROOSTSN3" was all of it as one value: crc32 of the rest, the encoded (meta, state). "ROOSTSN2" was the same without
//! nodes that are being emptied, "ROOSTSN1" without members either. All are still read.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use nfs_compat::{File, Fs};
use serde::{Deserialize, Serialize};

use super::{SnapshotMeta, coding};
use crate::command::{NodeId, SessionId};
use crate::state::{Config, Member, Memory, SHARDS, Session, Shard, Share, State};

const MAGIC: &[u8; 8] = b"ROOSTSN4";
const MAGIC_AS_ONE: &[u8; 8] = b"ROOSTSN3";
const MAGIC_WITHOUT_DRAINING: &[u8; 8] = b"ROOSTSN2";
const MAGIC_WITHOUT_MEMBERS: &[u8; 8] = b"ROOSTSN1";
const ALL_AS_ONE: [&[u8; 8]; 3] = [MAGIC_AS_ONE, MAGIC_WITHOUT_DRAINING, MAGIC_WITHOUT_MEMBERS];
const SECTION_HEADER_BYTES: usize = 8;
/// Largest section that is read: a shard of several million accounts.
const SECTION_BYTES_MAX: usize = 512 << 20;
/// Largest snapshot of the formats that are one value.
const AS_ONE_BYTES_MAX: u64 = 1 << 30;
/// Sections are gathered to writes of about so many bytes.
const WRITE_BYTES: usize = 1 << 20;

fn io_error(error: nfs_compat::Error) -> io::Error {
    io::Error::other(error)
}

/// A file that has no name of its own yet. It goes when nobody holds it any more.
struct Unfinished {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    named: AtomicBool,
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if !self.named.load(Ordering::Acquire)
            && let Err(error) = self.fs.unlink(&self.path)
        {
            // The next start removes it.
            tracing::debug!(%error, "an unfinished snapshot stays");
        }
    }
}

/// A snapshot: an open file, which can be read also when a newer one has taken its place.
#[derive(Clone)]
pub struct SnapshotFile {
    file: Arc<dyn File>,
    length: u64,
    unfinished: Option<Arc<Unfinished>>,
}

impl fmt::Debug for SnapshotFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {} bytes", self.file.path().display(), self.length)
    }
}

impl SnapshotFile {
    pub fn length(&self) -> u64 {
        self.length
    }

    /// A part of it, shorter only at its end. Blocking.
    pub fn part(&self, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
        let left = usize::try_from(self.length.saturating_sub(offset)).unwrap_or(usize::MAX);
        read_exactly(&*self.file, offset, bytes.min(left))
    }

    /// Adds bytes that arrived. Blocking.
    pub fn add(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_at(bytes, self.length).map_err(io_error)?;
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Verifies all of it, and returns what it is of. Blocking.
    pub fn verify(&self) -> io::Result<SnapshotMeta> {
        let mut sections = match Sections::of(self)? {
            Format::Sections(sections) => sections,
            Format::AsOne(meta, _) => return Ok(meta),
        };
        let (meta, _): (SnapshotMeta, State) = coding::decode(&sections.expect_next()?)?;
        for _ in 0..SHARDS {
            sections.expect_next()?;
        }
        sections.end()?;
        Ok(meta)
    }

    /// Reads the state, a shard after the other. Blocking.
    pub fn state(&self) -> io::Result<(SnapshotMeta, State)> {
        let mut sections = match Sections::of(self)? {
            Format::Sections(sections) => sections,
            Format::AsOne(meta, state) => return Ok((meta, *state)),
        };
        let (meta, mut state): (SnapshotMeta, State) = coding::decode(&sections.expect_next()?)?;
        state.shards.clear();
        for _ in 0..SHARDS {
            let shard: Shard = coding::decode(&sections.expect_next()?)?;
            state.shards.push(Arc::new(shard));
        }
        sections.end()?;
        sound(meta, state)
    }
}

fn sound(meta: SnapshotMeta, state: State) -> io::Result<(SnapshotMeta, State)> {
    state.is_sound().then_some((meta, state)).ok_or_else(|| coding::invalid("snapshot is unsound".to_owned()))
}

fn read_exactly(file: &dyn File, offset: u64, bytes: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; bytes];
    let mut filled = 0;
    while filled < bytes {
        match file.read_at(&mut buffer[filled..], offset + filled as u64).map_err(io_error)? {
            0 => return Err(coding::invalid("snapshot is cut short".to_owned())),
            count => filled += count,
        }
    }
    Ok(buffer)
}

fn section_crc(number: u32, content: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&number.to_le_bytes());
    crc.update(content);
    crc.finalize()
}

enum Format<'a> {
    Sections(Sections<'a>),
    AsOne(SnapshotMeta, Box<State>),
}

/// Reads the sections of a snapshot in order.
struct Sections<'a> {
    snapshot: &'a SnapshotFile,
    at: u64,
    number: u32,
}

impl<'a> Sections<'a> {
    fn of(snapshot: &'a SnapshotFile) -> io::Result<Format<'a>> {
        let magic = snapshot.part(0, MAGIC.len())?;
        if magic == MAGIC {
            return Ok(Format::Sections(Self { snapshot, at: MAGIC.len() as u64, number: 0 }));
        }
        if !ALL_AS_ONE.iter().any(|known| magic == *known) {
            return Err(coding::invalid("not a snapshot, or one of a newer version of roost".to_owned()));
        }
        if snapshot.length > AS_ONE_BYTES_MAX {
            return Err(coding::invalid("snapshot too long for its format".to_owned()));
        }
        let rest = snapshot.part(MAGIC.len() as u64, AS_ONE_BYTES_MAX as usize)?;
        let (meta, state) = decode_as_one(&magic, &rest)?;
        Ok(Format::AsOne(meta, Box::new(state)))
    }

    /// The next section's content; `None` at the end.
    fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let header = read_exactly(&*self.snapshot.file, self.at, SECTION_HEADER_BYTES)?;
        let number = |from: usize| {
            header
                .get(from..)
                .and_then(|bytes| bytes.first_chunk::<4>())
                .map_or(0, |b| u32::from_le_bytes(*b))
        };
        let (length, crc) = (number(0) as usize, number(4));
        let start = self.at + SECTION_HEADER_BYTES as u64;
        if length > SECTION_BYTES_MAX || start + length as u64 > self.snapshot.length {
            return Err(coding::invalid("a section of the snapshot is too long".to_owned()));
        }
        let content = read_exactly(&*self.snapshot.file, start, length)?;
        if section_crc(self.number, &content) != crc {
            return Err(coding::invalid("snapshot checksum does not match".to_owned()));
        }
        self.at = start + length as u64;
        self.number += 1;
        Ok((length > 0).then_some(content))
    }

    fn expect_next(&mut self) -> io::Result<Vec<u8>> {
        self.next()?.ok_or_else(|| coding::invalid("the snapshot has too few sections".to_owned()))
    }

    fn end(&mut self) -> io::Result<()> {
        let ended = self.next()?.is_none() && self.at == self.snapshot.length;
        ended.then_some(()).ok_or_else(|| coding::invalid("something follows the snapshot".to_owned()))
    }
}

fn decode_as_one(magic: &[u8], rest: &[u8]) -> io::Result<(SnapshotMeta, State)> {
    type Members = BTreeMap<NodeId, Member>;
    let content = rest.split_first_chunk::<4>();
    let (crc, content) = content.ok_or_else(|| coding::invalid("snapshot is cut short".to_owned()))?;
    if u32::from_le_bytes(*crc) != crc32fast::hash(content) {
        return Err(coding::invalid("snapshot checksum does not match".to_owned()));
    }
    let (meta, before, members, draining): (SnapshotMeta, Before, Members, BTreeSet<NodeId>) =
        if magic == MAGIC_WITHOUT_MEMBERS {
            let (meta, before) = coding::decode(content)?;
            (meta, before, Members::new(), BTreeSet::new())
        } else if magic == MAGIC_WITHOUT_DRAINING {
            let (meta, before, members) = coding::decode(content)?;
            (meta, before, members, BTreeSet::new())
        } else {
            coding::decode(content)?
        };
    let Before { config, sessions, clients, shards } = before;
    let (share, marks) = (Share::WHOLE, BTreeMap::new());
    sound(meta, State { config, sessions, clients, shards, members, draining, share, marks })
}

/// What snapshots held of the state in all formats.
#[derive(Deserialize)]
struct Before {
    config: Option<Config>,
    sessions: BTreeMap<SessionId, Session>,
    clients: BTreeMap<u64, Memory>,
    shards: Vec<Arc<Shard>>,
}

/// Writes sections behind each other.
struct Writer<'a> {
    file: &'a dyn File,
    written: u64,
    gathered: Vec<u8>,
    number: u32,
}

impl<'a> Writer<'a> {
    fn new(file: &'a dyn File) -> Self {
        Self { file, written: 0, gathered: MAGIC.to_vec(), number: 0 }
    }

    fn add<T: Serialize>(&mut self, value: &T) -> io::Result<()> {
        let content = coding::encode(value)?;
        if content.len() > SECTION_BYTES_MAX {
            return Err(coding::invalid(format!(
                "a part of the state has {} bytes, too many",
                content.len()
            )));
        }
        self.section(&content)
    }

    fn section(&mut self, content: &[u8]) -> io::Result<()> {
        self.gathered.extend_from_slice(&(content.len() as u32).to_le_bytes());
        self.gathered.extend_from_slice(&section_crc(self.number, content).to_le_bytes());
        self.gathered.extend_from_slice(content);
        self.number += 1;
        if self.gathered.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.write_at(&self.gathered, self.written).map_err(io_error)?;
        self.written += self.gathered.len() as u64;
        self.gathered.clear();
        Ok(())
    }

    fn end(mut self) -> io::Result<u64> {
        self.section(&[])?;
        self.flush()?;
        Ok(self.written)
    }
}

fn write(file: &dyn File, meta: &SnapshotMeta, state: &State) -> io::Result<u64> {
    let mut writer = Writer::new(file);
    let heads = State { shards: Vec::new(), ..state.clone() };
    writer.add(&(meta, &heads))?;
    for shard in &state.shards {
        writer.add(&**shard)?;
    }
    writer.end()
}

/// The directory that holds the newest snapshot.
pub struct Snapshots {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    made: AtomicU64,
    /// Length of the newest.
    length: AtomicU64,
    /// One at a time gets its name.
    naming: Mutex<()>,
}

fn index_of(name: &OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".snap").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

impl Snapshots {
    /// Opens the directory and removes what a crash left unfinished.
    pub fn open(fs: Arc<dyn Fs>, directory: &Path) -> nfs_compat::Result<Self> {
        fs.create_dir_all(directory)?;
        for entry in fs.read_dir(directory)? {
            if entry.name.to_str().is_some_and(|name| name.ends_with(".new")) {
                fs.unlink(&directory.join(&entry.name))?;
            }
        }
        let snapshots = Self {
            fs,
            directory: directory.to_owned(),
            made: AtomicU64::new(0),
            length: AtomicU64::new(0),
            naming: Mutex::new(()),
        };
        if let Some(index) = snapshots.indexes()?.pop() {
            snapshots.length.store(snapshots.fs.metadata(&snapshots.path(index))?.length, Ordering::Release);
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

    /// Index up to which the newest snapshot goes.
    pub fn index(&self) -> nfs_compat::Result<Option<u64>> {
        Ok(self.indexes()?.pop())
    }

    /// Length of the newest snapshot, 0 without one.
    pub fn length(&self) -> u64 {
        self.length.load(Ordering::Acquire)
    }

    /// The newest snapshot. One that is there but does not verify is an error: the log before it is gone.
    pub fn newest(&self) -> io::Result<Option<(SnapshotMeta, SnapshotFile)>> {
        let Some(index) = self.indexes().map_err(io_error)?.pop() else { return Ok(None) };
        let path = self.path(index);
        let file: Arc<dyn File> = self.fs.open(&path).map_err(io_error)?.into();
        let length = file.metadata().map_err(io_error)?.length;
        let snapshot = SnapshotFile { file, length, unfinished: None };
        let meta = snapshot.verify().map_err(|error| {
            coding::invalid(format!("{} is damaged: {error}; refusing to start", path.display()))
        })?;
        Ok(Some((meta, snapshot)))
    }

    /// A file for a snapshot that is written or arrives.
    pub fn begin(&self) -> nfs_compat::Result<SnapshotFile> {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("{number}.new"));
        let file: Arc<dyn File> = self.fs.create(&path)?.into();
        let unfinished = Unfinished { fs: Arc::clone(&self.fs), path, named: AtomicBool::new(false) };
        Ok(SnapshotFile { file, length: 0, unfinished: Some(Arc::new(unfinished)) })
    }

    /// The same, for so many bytes, if there is room for them.
    pub fn begin_for(&self, bytes: u64) -> io::Result<SnapshotFile> {
        let space = self.fs.space(&self.directory).map_err(io_error)?;
        if bytes > space.available_bytes {
            return Err(io::Error::other(format!(
                "a snapshot of {bytes} bytes has no room in {}: {} bytes are free there",
                self.directory.display(),
                space.available_bytes
            )));
        }
        self.begin().map_err(io_error)
    }

    /// Writes the state, and makes it the newest snapshot.
    pub fn write(&self, meta: &SnapshotMeta, state: &State) -> io::Result<SnapshotFile> {
        let mut snapshot = self.begin().map_err(io_error)?;
        snapshot.length = write(&*snapshot.file, meta, state)?;
        self.publish(meta, &snapshot)?;
        Ok(snapshot)
    }

    /// Makes this the newest snapshot, unless one as new is there: the same index holds the same state.
    pub fn publish(&self, meta: &SnapshotMeta, snapshot: &SnapshotFile) -> io::Result<()> {
        let ours = snapshot.unfinished.as_ref().filter(|unfinished| {
            unfinished.path.parent() == Some(&self.directory) && !unfinished.named.load(Ordering::Acquire)
        });
        let index = meta.last_log_id.map_or(0, |last| last.index);
        if self.indexes().map_err(io_error)?.last().is_some_and(|newest| *newest >= index) {
            return Ok(());
        }
        let Some(unfinished) = ours else {
            // The file of another directory.
            let mut copy = self.begin_for(snapshot.length)?;
            while copy.length < snapshot.length {
                let part = snapshot.part(copy.length, WRITE_BYTES)?;
                copy.add(&part)?;
            }
            return self.publish(meta, &copy);
        };
        self.name(index, snapshot, unfinished).map_err(io_error)
    }

    fn name(&self, index: u64, snapshot: &SnapshotFile, unfinished: &Unfinished) -> nfs_compat::Result<()> {
        let _one_at_a_time = self.naming.lock().unwrap_or_else(PoisonError::into_inner);
        if self.indexes()?.last().is_some_and(|newest| *newest >= index) {
            return Ok(());
        }
        snapshot.file.sync()?;
        self.fs.rename(&unfinished.path, &self.path(index))?;
        unfinished.named.store(true, Ordering::Release);
        self.fs.sync_dir(&self.directory)?;
        self.length.store(snapshot.length, Ordering::Release);
        for older in self.indexes()?.into_iter().filter(|older| *older < index) {
            self.fs.unlink(&self.path(older))?;
        }
        Ok(())
    }
}
