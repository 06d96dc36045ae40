//! Checkpoints: an account's state at a position of its journal, in a file of its own.
//!
//! Invariants
//! - A checkpoint is written once, under a name that no other owner uses (L-FN1), and never changed.
//! - It counts only when a segment's header names it, with this length and hash (L-FN2). What does not match its
//!   reference is not read at all.
//!
//! Layout, little-endian: magic, version, payload length, CRC32 of the payload, payload.

use std::path::{Path, PathBuf};

use model::Epoch;
use nfs_compat::{Fs, Result};
use serde::{Deserialize, Serialize};

const MAGIC: &[u8; 8] = b"RoostCkp";
const VERSION: u32 = 1;
const HEADER_BYTES: usize = 8 + 4 + 8 + 4;
/// Far above any account; bounds what a garbled length can make us read.
const BYTES_MAX: u64 = 16 << 30;

/// Names a checkpoint from a segment's header.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointRef {
    pub name: String,
    pub length: u64,
    pub hash: u64,
}

#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    #[error("checkpoint {} is missing", .0.display())]
    Missing(PathBuf),
    #[error("checkpoint {} is garbled: {}", .0.display(), .1)]
    Garbled(PathBuf, &'static str),
    #[error("checkpoint {} was written by a newer version ({})", .0.display(), .1)]
    Newer(PathBuf, u32),
    #[error(transparent)]
    Fs(#[from] nfs_compat::Error),
}

/// The file name of a checkpoint: `<epoch16>-<lsn12>.ckp`.
pub fn name(epoch: Epoch, lsn: u64) -> String {
    format!("{epoch}-{lsn:012x}.ckp")
}

/// Reads a name that [`name`] wrote.
pub fn parse_name(text: &str) -> Option<(Epoch, u64)> {
    let (epoch, lsn) = text.strip_suffix(".ckp")?.split_once('-')?;
    Some((Epoch::parse_hex(epoch)?, u64::from_str_radix(lsn, 16).ok()?))
}

/// Writes a checkpoint, durably. The name must be free.
pub fn write(fs: &dyn Fs, directory: &Path, epoch: Epoch, lsn: u64, payload: &[u8]) -> Result<CheckpointRef> {
    fs.create_dir_all(directory)?;
    let name = name(epoch, lsn);
    let path = directory.join(&name);
    let file = fs.create(&path)?;
    let mut bytes = Vec::with_capacity(HEADER_BYTES + payload.len());
    bytes.extend_from_slice(MAGIC);
    bytes.extend_from_slice(&VERSION.to_le_bytes());
    bytes.extend_from_slice(&(payload.len() as u64).to_le_bytes());
    bytes.extend_from_slice(&crc32fast::hash(payload).to_le_bytes());
    bytes.extend_from_slice(payload);
    let written = file.write_at(&bytes, 0).and_then(|()| file.sync()).and_then(|()| fs.sync_dir(directory));
    if let Err(error) = written {
        // Half a checkpoint helps nobody and takes space where there may be none left.
        if let Err(error) = fs.unlink(&path) {
            tracing::debug!(%error, "unfinished checkpoint stays");
        }
        return Err(error);
    }
    Ok(CheckpointRef { name, length: bytes.len() as u64, hash: hash(&bytes) })
}

/// Reads the payload of exactly this checkpoint.
pub fn read(fs: &dyn Fs, directory: &Path, wanted: &CheckpointRef) -> Result<Vec<u8>, CheckpointError> {
    let path = directory.join(&wanted.name);
    let bytes = read_file(fs, &path)?;
    // Before anything is believed that stands in it: a host that sees an old page of it sees no version.
    if bytes.len() as u64 != wanted.length || hash(&bytes) != wanted.hash {
        return Err(CheckpointError::Garbled(path, "it is not the one that the journal names"));
    }
    payload(&path, bytes)
}

/// Reads a checkpoint that nobody vouches for but its own checksum, for when the journal is lost.
pub fn read_unpinned(fs: &dyn Fs, directory: &Path, name: &str) -> Result<Vec<u8>, CheckpointError> {
    let path = directory.join(name);
    let bytes = read_file(fs, &path)?;
    payload(&path, bytes)
}

fn read_file(fs: &dyn Fs, path: &Path) -> Result<Vec<u8>, CheckpointError> {
    match fs.read(path, BYTES_MAX) {
        Err(error) if error.is_not_found() => Err(CheckpointError::Missing(path.to_owned())),
        bytes => Ok(bytes?),
    }
}

fn payload(path: &Path, mut header: Vec<u8>) -> Result<Vec<u8>, CheckpointError> {
    let garbled = |what| CheckpointError::Garbled(path.to_owned(), what);
    if header.len() < HEADER_BYTES {
        return Err(garbled("it is cut short"));
    }
    let payload = header.split_off(HEADER_BYTES);
    let field = |from: usize| {
        u32::from_le_bytes([header[from], header[from + 1], header[from + 2], header[from + 3]])
    };
    if !header.starts_with(MAGIC) {
        return Err(garbled("it does not begin like one"));
    }
    match field(8) {
        VERSION => {}
        0 => return Err(garbled("it has no version")),
        newer => return Err(CheckpointError::Newer(path.to_owned(), newer)),
    }
    let length = u64::from(field(12)) | u64::from(field(16)) << 32;
    if length != payload.len() as u64 {
        return Err(garbled("its length is not what it says"));
    }
    if crc32fast::hash(&payload) != field(20) {
        return Err(garbled("its checksum is wrong"));
    }
    Ok(payload)
}

fn hash(file: &[u8]) -> u64 {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&blake3::hash(file).as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}
