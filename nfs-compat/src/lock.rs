//! One process for each state directory of a node.
//!
//! The lock keeps two processes on one node apart, by the kernel, and ends with the process however that ends. It is
//! not for directories that several nodes share: there `locking` grants and names fence.
//!
//! Invariants
//! - The lock file is never removed: a process that waits for a removed file's lock would hold one nobody sees.
//! - What stands in the file is a hint for people. Only the kernel's lock decides.

use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use fs2::FileExt as _;

use crate::Error;

/// The name of the file that is locked, in the directory that the lock is for.
pub const LOCK_FILE: &str = "lock";

/// A pid has at most so many digits, and a line end.
const HOLDER_BYTES_MAX: usize = 16;

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process works on this directory. The operator stops it, or names another directory.
    #[error("{} is in use{}", directory.display(), by(*holder))]
    Held { directory: PathBuf, holder: Option<u32> },
    #[error(transparent)]
    Failed(#[from] Error),
}

fn by(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

/// Held as long as it lives.
#[derive(Debug)]
pub struct DirectoryLock {
    file: std::fs::File,
}

impl DirectoryLock {
    /// Takes the lock of an existing directory, without waiting.
    pub fn acquire(directory: &Path) -> Result<Self, LockError> {
        let path = directory.join(LOCK_FILE);
        let failed = |operation| {
            move |error| LockError::Failed(Error::new(operation, &directory.join(LOCK_FILE), error))
        };
        let file = crate::disk::open_lock_file(&path).map_err(failed("open"))?;
        match file.try_lock_exclusive() {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                return Err(LockError::Held { directory: directory.to_owned(), holder: holder(&file) });
            }
            Err(error) => return Err(failed("lock")(error)),
        }
        file.set_len(0).map_err(failed("write"))?;
        file.write_all_at(format!("{}\n", std::process::id()).as_bytes(), 0).map_err(failed("write"))?;
        Ok(Self { file })
    }
}

impl Drop for DirectoryLock {
    fn drop(&mut self) {
        // Closing unlocks too; a child process that inherited the descriptor would not close it.
        if let Err(error) = fs2::FileExt::unlock(&self.file) {
            tracing::debug!(%error, "unlocking a state directory");
        }
    }
}

/// Who says that it holds the lock.
fn holder(file: &std::fs::File) -> Option<u32> {
    let mut bytes = [0; HOLDER_BYTES_MAX];
    let length = file.read_at(&mut bytes, 0).ok()?;
    std::str::from_utf8(bytes.get(..length)?).ok()?.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_process_is_told_who_holds_the_directory() {
        let directory = tempfile::tempdir().unwrap();
        let lock = DirectoryLock::acquire(directory.path()).unwrap();
        let refused = DirectoryLock::acquire(directory.path()).unwrap_err();
        assert!(matches!(refused, LockError::Held { holder, .. } if holder == Some(std::process::id())));
        assert!(refused.to_string().ends_with(&format!("is in use by process {}", std::process::id())));
        drop(lock);
        DirectoryLock::acquire(directory.path()).unwrap();
    }

    #[test]
    fn a_directory_that_is_missing_cannot_be_locked() {
        let directory = tempfile::tempdir().unwrap();
        let missing = DirectoryLock::acquire(&directory.path().join("missing")).unwrap_err();
        assert!(matches!(missing, LockError::Failed(error) if error.is_not_found()));
    }
}
