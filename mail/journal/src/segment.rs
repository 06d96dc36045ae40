//! Segments: the files in which one owner writes one account's operations.
//!
//! A segment carries its `Epoch` in its name and has one writer, ever (L-FN1). The next owner starts its own, whose
//! header pins this one by name, length and hash (L-FN2).
//!
//! Invariants
//! - Positions rise by one, within a segment and from one to the next; none is given twice.
//! - A [`Mark`] is only handed out for bytes that are synced, in a file whose name is synced.
//! - After a write or sync failed the writer is dead (L-FS2). What it had not synced counts once a successor that pins
//!   the last mark is synced: not at all.
//!
//! ```text
//! magic   [u8; 8]   "roostjnl"
//! version u8
//! length  u16       of the body
//! crc     u32       CRC-32 of version, length and body
//! body              `Header`, bincode
//! records           as `record.rs` describes them
//! ```

use std::path::Path;
use std::sync::Arc;

use bincode::Options;
use model::{AccountId, Epoch, Position, Record};
use nfs_compat::{File, Fs};
use serde::{Deserialize, Serialize};

use crate::name::{CheckpointName, LSN_MAX, SegmentName};
use crate::record::{self, EncodeError};

/// Longest segment. Owners rotate long before (`locking.md` §6.1); this bounds what a reader must hold.
pub const SEGMENT_BYTES_MAX: u32 = 64 << 20;
const _: () = assert!(SEGMENT_BYTES_MAX > 2 * record::RECORD_BYTES_MAX);

/// Room is asked for in pieces of so many bytes before anything is written.
const ROOM_BYTES: u64 = 16 << 10;

const MAGIC: [u8; 8] = *b"roostjnl";
const VERSION: u8 = 1;
/// Magic, version, length, checksum.
const PREFIX_BYTES: usize = 15;
const HEADER_BODY_BYTES_MAX: u16 = 1024;

/// Digest of a file's bytes as pins and marks hold it: the first 64 bits of BLAKE3.
pub fn content_hash(bytes: &[u8]) -> u64 {
    short(&blake3::hash(bytes))
}

fn short(hash: &blake3::Hash) -> u64 {
    let (first, _) = hash.as_bytes().split_first_chunk::<8>().unwrap_or_else(|| unreachable!("32 bytes"));
    u64::from_le_bytes(*first)
}

/// A beginning of a segment: nothing after it counts for who pins it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SegmentPin {
    pub name: SegmentName,
    pub length: u32,
    pub hash: u64,
}

/// A whole checkpoint file in `c/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointPin {
    pub name: CheckpointName,
    pub length: u64,
    pub hash: u64,
}

/// How far the journal reaches: what a witness holds (`locking.md` §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    pub epoch: Epoch,
    pub segment: u16,
    pub length: u32,
    /// Of all bytes of the segment up to `length`; through the pins in its header, of the whole chain.
    pub hash: u64,
    /// Position of the last record.
    pub lsn: u64,
}

impl Mark {
    pub fn name(&self) -> SegmentName {
        SegmentName { epoch: self.epoch, segment: self.segment }
    }

    pub fn pin(&self) -> SegmentPin {
        SegmentPin { name: self.name(), length: self.length, hash: self.hash }
    }
}

/// What stands at the beginning of a segment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    pub account: AccountId,
    pub name: SegmentName,
    pub node: u8,
    /// The newest checkpoint when this segment was begun.
    pub checkpoint: Option<CheckpointPin>,
    /// `None` in an account's first segment only.
    pub previous: Option<SegmentPin>,
    /// Position of the first record here.
    pub first_lsn: u64,
}

/// Why bytes are not a segment's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderDamage {
    Unreadable,
    Foreign { version: u8 },
}

impl Header {
    /// Of an account's very first segment.
    pub fn first(account: AccountId, epoch: Epoch, node: u8) -> Self {
        Self {
            account,
            name: SegmentName::first(epoch),
            node,
            checkpoint: None,
            previous: None,
            first_lsn: 1,
        }
    }

    /// Of the segment `name` that goes on where `mark` ends.
    pub fn after(
        account: AccountId,
        name: SegmentName,
        node: u8,
        mark: &Mark,
        checkpoint: Option<CheckpointPin>,
    ) -> Self {
        let first_lsn = mark.lsn.saturating_add(1);
        Self { account, name, node, checkpoint, previous: Some(mark.pin()), first_lsn }
    }

    fn encode(&self) -> Result<Vec<u8>, bincode::Error> {
        let body = options().serialize(self)?;
        let length = u16::try_from(body.len()).map_err(|_| bincode::ErrorKind::SizeLimit)?;
        let mut bytes = MAGIC.to_vec();
        bytes.push(VERSION);
        bytes.extend_from_slice(&length.to_le_bytes());
        bytes.extend_from_slice(&checksum(VERSION, length, &body).to_le_bytes());
        bytes.extend_from_slice(&body);
        Ok(bytes)
    }

    /// Reads a header and how many bytes it takes.
    pub(crate) fn decode(bytes: &[u8]) -> Result<(Self, u32), HeaderDamage> {
        let parts = || {
            let (magic, rest) = bytes.split_first_chunk::<8>()?;
            let (version, rest) = rest.split_first()?;
            let (length, rest) = rest.split_first_chunk::<2>()?;
            let (crc, rest) = rest.split_first_chunk::<4>()?;
            let length = u16::from_le_bytes(*length);
            let body = rest.get(..usize::from(length))?;
            let whole = *magic == MAGIC && checksum(*version, length, body) == u32::from_le_bytes(*crc);
            whole.then_some((*version, length, body))
        };
        let (version, length, body) = parts().ok_or(HeaderDamage::Unreadable)?;
        if version != VERSION {
            return Err(HeaderDamage::Foreign { version });
        }
        let header: Self = options().deserialize(body).map_err(|_| HeaderDamage::Foreign { version })?;
        Ok((header, PREFIX_BYTES as u32 + u32::from(length)))
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(u64::from(HEADER_BODY_BYTES_MAX))
}

fn checksum(version: u8, length: u16, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&[version]);
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

/// Why the journal does not go on.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The record was not taken; the writer goes on. The issuer splits the operation.
    #[error(transparent)]
    Record(#[from] EncodeError),
    /// The record was not taken. The owner syncs, and starts the next segment.
    #[error("segment {0} is full")]
    Full(SegmentName),
    /// An earlier write or sync failed. The owner starts the next segment (L-FS2).
    #[error("segment {0} was given up after a failed write")]
    Dead(SegmentName),
    /// The disk failed. Unless the writer is dead, nothing since the last mark was written.
    #[error(transparent)]
    Fs(#[from] nfs_compat::Error),
}

/// The only writer of one segment.
pub struct Writer {
    fs: Arc<dyn Fs>,
    file: Box<dyn File>,
    header: Header,
    /// Header and records that are not written yet.
    buffer: Vec<u8>,
    hasher: blake3::Hasher,
    synced: u32,
    mark: Option<Mark>,
    lsn: u64,
    records: u32,
    dead: bool,
    /// Where the last record that waits begins in `buffer`.
    last: Option<usize>,
    /// Bytes that the disk has room for.
    room: u64,
}

impl Writer {
    /// Creates the file (O_EXCL). Nothing of it is durable before the first [`sync`](Self::sync).
    pub fn create(fs: Arc<dyn Fs>, directory: &Path, header: Header) -> Result<Self, WriteError> {
        let buffer = header.encode().map_err(EncodeError::Encoding)?;
        fs.create_dir_all(directory)?;
        let file = fs.create(&directory.join(header.name.to_string()))?;
        let lsn = header.first_lsn.saturating_sub(1);
        Ok(Self {
            fs,
            file,
            header,
            buffer,
            hasher: blake3::Hasher::new(),
            synced: 0,
            mark: None,
            lsn,
            records: 0,
            dead: false,
            last: None,
            room: 0,
        })
    }

    pub fn header(&self) -> &Header {
        &self.header
    }

    pub fn name(&self) -> SegmentName {
        self.header.name
    }

    /// Bytes of the segment, those that wait for the next sync included.
    pub fn len(&self) -> u64 {
        u64::from(self.synced) + self.buffer.len() as u64
    }

    /// Whether it has no record yet.
    pub fn is_empty(&self) -> bool {
        self.records == 0
    }

    /// Records of the segment, those that wait for the next sync included.
    pub fn records(&self) -> u32 {
        self.records
    }

    /// Position of the last record, which may wait for the next sync.
    pub fn lsn(&self) -> u64 {
        self.lsn
    }

    /// What the last successful sync covered.
    pub fn mark(&self) -> Option<Mark> {
        self.mark
    }

    pub fn is_dead(&self) -> bool {
        self.dead
    }

    /// Takes a record for the next sync, and gives it its position.
    pub fn append(&mut self, record: &Record) -> Result<Position, WriteError> {
        if self.dead {
            return Err(WriteError::Dead(self.name()));
        }
        let lsn = self.lsn.saturating_add(1);
        if lsn > LSN_MAX {
            return Err(WriteError::Full(self.name()));
        }
        let before = self.buffer.len();
        record::encode(&mut self.buffer, lsn, self.synced, record)?;
        if self.len() > u64::from(SEGMENT_BYTES_MAX) {
            self.buffer.truncate(before);
            return Err(WriteError::Full(self.name()));
        }
        if let Some(last) = self.last.replace(before) {
            record::note_more(&mut self.buffer, last);
        }
        self.lsn = lsn;
        self.records += 1;
        Ok(Position { lsn })
    }

    /// Writes what waits, in one write and one sync; with the first, the file's name. Of records that one sync covers,
    /// a reader finds all or none.
    pub fn sync(&mut self) -> Result<Mark, WriteError> {
        if self.dead {
            return Err(WriteError::Dead(self.name()));
        }
        if let Some(mark) = self.mark.filter(|_| self.buffer.is_empty()) {
            return Ok(mark);
        }
        // Room first: on a full disk nothing of it was written, and the writer lives.
        if self.len() > self.room {
            let room = self.len().next_multiple_of(ROOM_BYTES);
            self.file.allocate(room)?;
            self.room = room;
        }
        // Only success brings it back to life (L-FS2).
        self.dead = true;
        self.file.write_at(&self.buffer, u64::from(self.synced))?;
        self.file.sync()?;
        if self.mark.is_none()
            && let Some(directory) = self.file.path().parent()
        {
            self.fs.sync_dir(directory)?;
        }
        self.hasher.update(&self.buffer);
        self.synced = u32::try_from(self.len()).map_err(|_| WriteError::Full(self.header.name))?;
        self.buffer.clear();
        self.last = None;
        self.dead = false;
        let mark = Mark {
            epoch: self.header.name.epoch,
            segment: self.header.name.segment,
            length: self.synced,
            hash: short(&self.hasher.finalize()),
            lsn: self.lsn,
        };
        self.mark = Some(mark);
        Ok(mark)
    }

    /// The header of the segment `name` that goes on after this one, from its last mark; if it never had one, from
    /// where this one went on itself. Names the same checkpoint.
    pub fn successor(&self, name: SegmentName) -> Header {
        let (previous, first_lsn) = match self.mark {
            Some(mark) => (Some(mark.pin()), mark.lsn.saturating_add(1)),
            None => (self.header.previous, self.header.first_lsn),
        };
        Header { name, previous, first_lsn, ..self.header.clone() }
    }
}
