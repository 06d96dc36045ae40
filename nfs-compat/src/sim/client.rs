//! One host's view of a simulated volume: what a client of a file server believes of a file may be a minute old (J5).
//!
//! Invariants
//! - A belief ends when its time is over, when the host changes the file itself, and, unless it is stubborn, when the
//!   file is looked at again ([`Fs::revalidate`]).
//! - A file that is open keeps what was believed when it was opened.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use nix::errno::Errno;

use super::SimFs;
use crate::{DirEntry, Error, File, Fs, Metadata, Result, Space};

/// How a file looked before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Old {
    /// There was no such name.
    Missing,
    /// It had so many bytes.
    Shorter(u64),
    /// It has its length, and the page that was read before has zeros from here on.
    Blank(u64),
}

#[derive(Clone, Copy, Debug)]
struct Belief {
    old: Old,
    until: Duration,
    is_stubborn: bool,
}

#[derive(Default)]
struct Host {
    /// Time that never goes backwards.
    elapsed: Duration,
    beliefs: BTreeMap<PathBuf, Belief>,
}

/// The volume as one host sees it. Clones are the same host.
#[derive(Clone)]
pub struct SimClient {
    volume: SimFs,
    host: Arc<Mutex<Host>>,
}

impl SimClient {
    pub fn new(volume: SimFs) -> Self {
        Self { volume, host: Arc::default() }
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_elapsed(&self, elapsed: Duration) {
        self.host().elapsed = elapsed;
    }

    /// From now on the host goes by how the file looked before, for so long. `is_stubborn`: whatever it is asked.
    pub fn believe(&self, path: &Path, old: Old, during: Duration, is_stubborn: bool) {
        let mut host = self.host();
        let until = host.elapsed + during;
        host.beliefs.insert(path.to_owned(), Belief { old, until, is_stubborn });
    }

    /// The host asks the server anew about everything.
    pub fn forget(&self) {
        self.host().beliefs.clear();
    }

    fn believed(&self, path: &Path) -> Option<Old> {
        let mut host = self.host();
        let belief = *host.beliefs.get(path)?;
        if belief.until <= host.elapsed {
            host.beliefs.remove(path);
            return None;
        }
        Some(belief.old)
    }

    /// The host itself changes what is under this name.
    fn changes(&self, path: &Path) -> &SimFs {
        self.host().beliefs.remove(path);
        &self.volume
    }
}

fn missing(operation: &'static str, path: &Path) -> Error {
    Error::new(operation, path, Errno::ENOENT.into())
}

fn seen(metadata: Metadata, old: Option<Old>) -> Metadata {
    match old {
        Some(Old::Shorter(length)) => Metadata { length: metadata.length.min(length), ..metadata },
        Some(Old::Missing | Old::Blank(_)) | None => metadata,
    }
}

impl Fs for SimClient {
    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        let old = self.believed(path);
        if old == Some(Old::Missing) {
            return Err(missing("open", path));
        }
        let file = self.volume.open(path)?;
        Ok(match old {
            Some(old) => Box::new(OldFile { file, old }),
            None => file,
        })
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn File>> {
        self.changes(path).open_write(path)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        self.changes(path).create(path)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.changes(to).link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.changes(from);
        self.changes(to).rename(from, to)
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        self.changes(path).unlink(path)
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.volume.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.volume.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.volume.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.volume.sync_dir(path)
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        let old = self.believed(path);
        if old == Some(Old::Missing) {
            return Err(missing("look up", path));
        }
        self.volume.metadata(path).map(|metadata| seen(metadata, old))
    }

    fn directory(&self, path: &Path) -> Result<Metadata> {
        self.volume.directory(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.volume.space(path)
    }

    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()> {
        self.volume.set_modified(path, to)
    }

    fn revalidate(&self, path: &Path) -> Result<()> {
        self.volume.revalidate(path)?;
        let mut host = self.host();
        if host.beliefs.get(path).is_some_and(|belief| !belief.is_stubborn) {
            host.beliefs.remove(path);
        }
        Ok(())
    }
}

/// A file that was opened while the host went by how it looked before.
struct OldFile {
    file: Box<dyn File>,
    old: Old,
}

impl File for OldFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let left = |length: u64| usize::try_from(length.saturating_sub(offset)).unwrap_or(usize::MAX);
        match self.old {
            Old::Missing => Ok(0),
            Old::Shorter(length) => {
                let most = buffer.len().min(left(length));
                if most == 0 { Ok(0) } else { self.file.read_at(&mut buffer[..most], offset) }
            }
            Old::Blank(from) => {
                let count = self.file.read_at(buffer, offset)?;
                let kept = count.min(left(from));
                buffer[kept..count].fill(0);
                Ok(count)
            }
        }
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> Result<()> {
        self.file.sync()
    }

    fn allocate(&self, length: u64) -> Result<()> {
        self.file.allocate(length)
    }

    fn set_modified(&self, to: SystemTime) -> Result<()> {
        self.file.set_modified(to)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.file.metadata().map(|metadata| seen(metadata, Some(self.old)))
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "/segment";

    fn host() -> SimClient {
        let volume = SimFs::new(1);
        volume.create(Path::new(FILE)).unwrap().write_at(b"old and new", 0).unwrap();
        SimClient::new(volume)
    }

    fn read(host: &SimClient) -> Result<Vec<u8>> {
        host.read(Path::new(FILE), 100)
    }

    #[test]
    fn a_host_goes_by_how_a_file_looked_until_it_looks_again() {
        let host = host();
        let minute = Duration::from_secs(60);
        host.believe(Path::new(FILE), Old::Shorter(3), minute, false);
        assert_eq!(read(&host).unwrap(), b"old");
        host.believe(Path::new(FILE), Old::Blank(3), minute, false);
        assert_eq!(read(&host).unwrap(), b"old\0\0\0\0\0\0\0\0");
        host.believe(Path::new(FILE), Old::Missing, minute, false);
        assert!(read(&host).unwrap_err().is_not_found());
        host.revalidate(Path::new(FILE)).unwrap();
        assert_eq!(read(&host).unwrap(), b"old and new");
    }

    #[test]
    fn a_stubborn_belief_ends_with_its_time() {
        let host = host();
        host.believe(Path::new(FILE), Old::Shorter(3), Duration::from_secs(60), true);
        host.revalidate(Path::new(FILE)).unwrap();
        host.set_elapsed(Duration::from_secs(59));
        assert_eq!(read(&host).unwrap(), b"old");
        host.set_elapsed(Duration::from_secs(60));
        assert_eq!(read(&host).unwrap(), b"old and new");
    }

    #[test]
    fn what_the_host_writes_itself_it_sees() {
        let host = host();
        host.believe(Path::new(FILE), Old::Shorter(3), Duration::from_secs(60), true);
        host.open_write(Path::new(FILE)).unwrap().write_at(b"!", 11).unwrap();
        assert_eq!(read(&host).unwrap(), b"old and new!");
    }
}
