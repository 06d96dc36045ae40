//! The operating system as an [`Fs`]: a local disk, or an NFS mount that behaves.
//!
//! Invariants
//! - This is the only file that calls `std::fs`.
//! - A descriptor whose sync failed is never used again (L-FS2): the kernel may have dropped the pages that it could
//!   not write, and a second sync of them would succeed without them.
//! - A reply that was lost on the way does not turn a success into a failure ([`replay`], L-FS1). What the names stand
//!   for is asked of the server then, for this host may have been told a minute ago that the new one is missing.
//! - EINTR is nobody's business above; ESTALE is tried again by name, [`STALE_TRIES`] times (L-FS1).
#![expect(clippy::disallowed_methods, reason = "the operating system is called from this room")]

use std::ffi::OsStr;
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Read as _};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use nix::fcntl::{FallocateFlags, fallocate};

use crate::replay::{self, Numbered as _};
use crate::{DirEntry, EntryKind, Error, ErrorKind, File, Fs, Metadata, Result, Space};

/// How often a name is looked up again after ESTALE (L-FS1).
pub const STALE_TRIES: u32 = 3;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// The operating system as an [`Fs`].
#[derive(Clone, Copy, Debug, Default)]
pub struct DiskFs;

impl DiskFs {
    pub fn new() -> Self {
        Self
    }
}

impl Fs for DiskFs {
    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        open_with("open", path, OpenOptions::new().read(true))
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn File>> {
        open_with("open", path, OpenOptions::new().read(true).write(true))
    }

    // A lost reply to an exclusive create cannot be told from a name that was taken: both are `Exists`, and the
    // caller, whose name is unique, takes another. NFS 4.1 sessions do not lose it in the first place.
    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        open_with("create", path, OpenOptions::new().read(true).write(true).create_new(true).mode(FILE_MODE))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        let linked = replay::linked(retried(|| fs::hard_link(from, to)), || same_file(from, to));
        linked.map_err(|error| Error::new("link", to, error))
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        let before = identity(from);
        let renamed = replay::renamed(retried(|| fs::rename(from, to)), before, || asked_again(to));
        // The name at fault is in a rename as often the new one as the old one; the old one identifies it.
        renamed.map_err(|error| Error::new("rename", from, error))
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        let before = identity(path);
        replay::removed(retried(|| fs::remove_file(path)), before.is_some())
            .map_err(|error| Error::new("remove", path, error))
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        retried(|| DirBuilder::new().mode(DIRECTORY_MODE).create(path))
            .map_err(|error| Error::new("create directory", path, error))
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        let before = identity(path);
        replay::removed(retried(|| fs::remove_dir(path)), before.is_some())
            .map_err(|error| Error::new("remove directory", path, error))
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        retried(|| list(path)).map_err(|error| Error::new("list", path, error))
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let directory = retried(|| OpenOptions::new().read(true).open(path))
            .map_err(|error| Error::new("open directory", path, error))?;
        directory.sync_all().map_err(|error| Error::new("sync directory", path, error))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        retried(|| fs::metadata(path).map(|found| metadata(&found)))
            .map_err(|error| Error::new("look up", path, error))
    }

    fn directory(&self, path: &Path) -> Result<Metadata> {
        // An NFS client asks the server when a directory is opened; when a name is looked up, only if what it knows is old.
        retried(|| OpenOptions::new().read(true).open(path)?.metadata().map(|found| metadata(&found)))
            .map_err(|error| Error::new("look up directory", path, error))
    }

    fn space(&self, path: &Path) -> Result<Space> {
        let volume = retried(|| nix::sys::statvfs::statvfs(path).map_err(io::Error::from))
            .map_err(|error| Error::new("measure the volume of", path, error))?;
        let unit = volume.fragment_size();
        Ok(Space {
            available_bytes: volume.blocks_available().saturating_mul(unit),
            total_bytes: volume.blocks().saturating_mul(unit),
        })
    }

    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()> {
        retried(|| OpenOptions::new().read(true).open(path)?.set_modified(to))
            .map_err(|error| Error::new("set the time of", path, error))
    }

    fn revalidate(&self, path: &Path) -> Result<()> {
        crate::fresh::revalidate(path)
    }
}

/// An open descriptor.
struct DiskFile {
    path: PathBuf,
    file: fs::File,
    /// Times were set, which `fdatasync` does not cover.
    times_set: AtomicBool,
    /// A sync failed (L-FS2).
    poisoned: AtomicBool,
}

impl DiskFile {
    fn usable(&self, operation: &'static str) -> Result<()> {
        if self.poisoned.load(Ordering::Acquire) {
            return Err(poisoned(operation, &self.path));
        }
        Ok(())
    }

    fn error(&self, operation: &'static str) -> impl FnOnce(io::Error) -> Error {
        move |error| Error::new(operation, &self.path, error)
    }
}

impl File for DiskFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.usable("read")?;
        interrupted(|| self.file.read_at(buffer, offset)).map_err(self.error("read"))
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.usable("write")?;
        self.file.write_all_at(bytes, offset).map_err(self.error("write"))
    }

    fn sync(&self) -> Result<()> {
        self.usable("sync")?;
        let times_set = self.times_set.swap(false, Ordering::AcqRel);
        let result = if times_set { self.file.sync_all() } else { self.file.sync_data() };
        result.map_err(|error| {
            self.poisoned.store(true, Ordering::Release);
            Error::new("sync", &self.path, error)
        })
    }

    fn allocate(&self, length: u64) -> Result<()> {
        self.usable("allocate")?;
        let Some(length) = i64::try_from(length).ok().filter(|length| *length > 0) else {
            return Ok(());
        };
        loop {
            return match fallocate(&self.file, FallocateFlags::FALLOC_FL_KEEP_SIZE, 0, length) {
                Ok(()) | Err(Errno::EOPNOTSUPP | Errno::ENOSYS) => Ok(()),
                Err(Errno::EINTR) => continue,
                Err(error) => Err(Error::new("allocate", &self.path, error.into())),
            };
        }
    }

    fn set_modified(&self, to: SystemTime) -> Result<()> {
        self.usable("set the time of")?;
        self.times_set.store(true, Ordering::Release);
        self.file.set_modified(to).map_err(self.error("set the time of"))
    }

    fn metadata(&self) -> Result<Metadata> {
        self.usable("look up")?;
        self.file.metadata().map(|found| metadata(&found)).map_err(self.error("look up"))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// The error of every call on a descriptor after its sync failed (L-FS2).
pub(crate) fn poisoned(operation: &'static str, path: &Path) -> Error {
    Error {
        kind: ErrorKind::Poisoned,
        operation,
        path: path.to_owned(),
        source: io::Error::other("an earlier sync of this descriptor failed"),
    }
}

fn open_with(operation: &'static str, path: &Path, options: &OpenOptions) -> Result<Box<dyn File>> {
    let file = retried(|| options.open(path)).map_err(|error| Error::new(operation, path, error))?;
    Ok(Box::new(DiskFile {
        path: path.to_owned(),
        file,
        times_set: AtomicBool::new(false),
        poisoned: AtomicBool::new(false),
    }))
}

/// Opens the file that a [`DirectoryLock`](crate::lock::DirectoryLock) locks, creating it if it is missing.
pub(crate) fn open_lock_file(path: &Path) -> io::Result<fs::File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}

/// Where a path leads once its symbolic links are followed.
pub(crate) fn real_path(path: &Path) -> Result<PathBuf> {
    fs::canonicalize(path).map_err(|error| Error::new("follow", path, error))
}

/// Reads a table of the kernel's or of the system's; such a file has no length until it is read.
pub(crate) fn read_table(path: &Path, limit: u64) -> Result<String> {
    let failed = |error| Error::new("read", path, error);
    let mut bytes = Vec::new();
    fs::File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(failed)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn list(path: &Path) -> io::Result<Vec<DirEntry>> {
    let mut entries = Vec::new();
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if is_silly(&entry.file_name()) {
            continue;
        }
        let kind = match entry.file_type() {
            Ok(kind) => entry_kind(kind),
            // Removed while we were looking.
            Err(error) if error.is(Errno::ENOENT) => continue,
            Err(_) => EntryKind::Other,
        };
        entries.push(DirEntry { name: entry.file_name(), kind });
    }
    Ok(entries)
}

/// A file that was removed while this or another host's process has it open: NFS renames it until that is over.
pub(crate) fn is_silly(name: &OsStr) -> bool {
    let digits = name.as_encoded_bytes().strip_prefix(b".nfs");
    digits.is_some_and(|digits| digits.len() >= 16 && digits.iter().all(u8::is_ascii_hexdigit))
}

fn entry_kind(kind: fs::FileType) -> EntryKind {
    if kind.is_file() {
        EntryKind::File
    } else if kind.is_dir() {
        EntryKind::Directory
    } else {
        EntryKind::Other
    }
}

fn metadata(found: &fs::Metadata) -> Metadata {
    Metadata {
        kind: entry_kind(found.file_type()),
        length: found.len(),
        modified: found.modified().unwrap_or(UNIX_EPOCH),
        inode: found.ino(),
        links: found.nlink(),
    }
}

/// Which file a name stands for, or `None` if it stands for none. Links are not followed: a rename or removal does
/// not follow them either.
fn identity(path: &Path) -> Option<(u64, u64)> {
    retried(|| fs::symlink_metadata(path)).ok().map(|found| (found.dev(), found.ino()))
}

/// The same, past what this host remembers of a name that was missing.
fn asked_again(path: &Path) -> Option<(u64, u64)> {
    if let Err(error) = crate::fresh::revalidate(path) {
        tracing::debug!(%error, "the server is not asked again");
    }
    identity(path)
}

fn same_file(one: &Path, other: &Path) -> bool {
    identity(one).is_some_and(|found| asked_again(other) == Some(found))
}

/// Repeats what a signal interrupted.
fn interrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// Repeats what a signal interrupted, and looks a stale name up again.
fn retried<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut tries = 0;
    loop {
        match interrupted(&mut call) {
            Err(error) if error.is(Errno::ESTALE) && tries < STALE_TRIES => tries += 1,
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_stale_name_is_looked_up_three_times_more_and_then_believed() {
        let mut calls = 0;
        let stale = || io::Error::from_raw_os_error(Errno::ESTALE as i32);
        let result: io::Result<()> = retried(|| {
            calls += 1;
            Err(stale())
        });
        assert!(result.unwrap_err().is(Errno::ESTALE));
        assert_eq!(calls, 1 + STALE_TRIES);
        let mut calls = 0;
        let result = retried(|| {
            calls += 1;
            if calls < 3 { Err(stale()) } else { Ok(calls) }
        });
        assert_eq!(result.unwrap(), 3);
    }

    #[test]
    fn files_and_directories_are_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        let (made, file) = (directory.path().join("d"), directory.path().join("d/f"));
        DiskFs::new().create_dir(&made).unwrap();
        drop(DiskFs::new().create(&file).unwrap());
        assert_eq!(fs::metadata(&made).unwrap().permissions().mode() & 0o777, DIRECTORY_MODE);
        assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, FILE_MODE);
    }

    #[test]
    fn allocation_leaves_the_length_alone() {
        let directory = tempfile::tempdir().unwrap();
        let file = DiskFs::new().create(&directory.path().join("f")).unwrap();
        file.write_at(b"abc", 0).unwrap();
        file.allocate(65_536).unwrap();
        file.sync().unwrap();
        assert_eq!(file.metadata().unwrap().length, 3);
    }

    #[test]
    fn the_volume_has_a_size() {
        let directory = tempfile::tempdir().unwrap();
        let space = DiskFs::new().space(directory.path()).unwrap();
        assert!(space.total_bytes > 0 && space.available_bytes <= space.total_bytes);
    }
}
