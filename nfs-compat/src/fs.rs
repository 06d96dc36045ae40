//! The operations, and what each promises.
//!
//! Invariants
//! - Nothing is durable before the sync that covers it: [`File::sync`] for bytes and length, [`Fs::sync_dir`] for the
//!   names in a directory. A rename whose directories were not synced survives a crash as the old name or the new
//!   one, never both, never neither.
//! - A failed sync poisons its descriptor: every later call on it fails (L-FS2).
//! - `create` and `link` never replace a name. `rename` does, and is therefore used only for files that are ours to
//!   replace or whose new name is unique.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::{ErrorKind, Result};

/// A filesystem. Blocking; shared between threads.
pub trait Fs: Send + Sync + 'static {
    /// Opens for reading.
    fn open(&self, path: &Path) -> Result<Box<dyn File>>;
    /// Opens an existing file for reading and writing.
    fn open_write(&self, path: &Path) -> Result<Box<dyn File>>;
    /// Creates a file that did not exist (O_EXCL), for reading and writing, mode 0600.
    fn create(&self, path: &Path) -> Result<Box<dyn File>>;
    /// Gives a file a second name. Fails with `Exists` if the name is taken.
    fn link(&self, from: &Path, to: &Path) -> Result<()>;
    /// Renames, replacing `to` if it exists.
    fn rename(&self, from: &Path, to: &Path) -> Result<()>;
    /// Removes a file's name.
    fn unlink(&self, path: &Path) -> Result<()>;
    /// Creates one directory, mode 0700. Fails with `Exists` if the name is taken.
    fn create_dir(&self, path: &Path) -> Result<()>;
    /// Removes an empty directory.
    fn remove_dir(&self, path: &Path) -> Result<()>;
    /// Names in a directory, in no order, without `.` and `..`.
    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>>;
    /// Makes creations, links, renames and removals in a directory durable.
    fn sync_dir(&self, path: &Path) -> Result<()>;
    /// Looks a name up, following symbolic links.
    fn metadata(&self, path: &Path) -> Result<Metadata>;
    /// Looks a directory up as the file server has it now, so that its time tells whether another host changed the names
    /// in it. What [`Fs::metadata`] says of a directory may be a minute old.
    fn directory(&self, path: &Path) -> Result<Metadata>;
    /// Free space on the volume that holds `path`.
    fn space(&self, path: &Path) -> Result<Space>;
    /// Sets a file's modification time.
    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()>;
    /// Has this host ask the file server about this name again, instead of going by what it learnt up to a minute ago.
    /// Best effort: what cannot be asked for is no error, nor is a name that is missing (`locking.md` §6.2).
    fn revalidate(&self, path: &Path) -> Result<()>;

    /// Whether the name exists.
    fn exists(&self, path: &Path) -> Result<bool> {
        match self.metadata(path) {
            Ok(_) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a whole file, at most `limit` bytes of it.
    fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let file = self.open(path)?;
        let length = file.metadata()?.length.min(limit);
        let mut bytes = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
        let mut filled = 0;
        while filled < bytes.len() {
            match file.read_at(&mut bytes[filled..], filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    /// Creates a directory and those above it that are missing, and makes their names durable: the name of one that is
    /// there, too, for whoever made it may have been stopped before its sync.
    fn create_dir_all(&self, path: &Path) -> Result<()> {
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
        if !self.exists(path)? {
            if let Some(parent) = parent {
                self.create_dir_all(parent)?;
            }
            match self.create_dir(path) {
                Err(error) if !error.is_exists() => return Err(error),
                Ok(()) | Err(_) => {}
            }
        }
        match parent.map_or(Ok(()), |parent| self.sync_dir(parent)) {
            // A directory that is not ours to open was made by whoever owns it.
            Err(error) if error.kind == ErrorKind::NotPermitted => Ok(()),
            synced => synced,
        }
    }
}

/// An open file. All methods take `&self`: reads and writes name their offset.
pub trait File: Send + Sync {
    /// Reads up to the buffer's length; 0 only at the end of the file.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize>;
    /// Writes all of `bytes`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()>;
    /// Bytes, length and (where the system keeps it with them) times are on stable storage when this returns.
    fn sync(&self) -> Result<()>;
    /// Reserves space up to `length` without changing the length. Best effort: an unsupported call is `Ok`.
    fn allocate(&self, length: u64) -> Result<()>;
    fn set_modified(&self, to: SystemTime) -> Result<()>;
    fn metadata(&self) -> Result<Metadata>;
    fn path(&self) -> &Path;
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirEntry {
    pub name: OsString,
    pub kind: EntryKind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EntryKind {
    File,
    Directory,
    /// A link, a socket, or what a filesystem does not tell.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metadata {
    pub kind: EntryKind,
    pub length: u64,
    pub modified: SystemTime,
    /// Identifies the file on its volume; two names with one inode are links.
    pub inode: u64,
    pub links: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    pub available_bytes: u64,
    pub total_bytes: u64,
}

/// Joins path parts; a convenience for rooms that build many names in one directory.
pub fn join(directory: &Path, name: &str) -> PathBuf {
    directory.join(name)
}
