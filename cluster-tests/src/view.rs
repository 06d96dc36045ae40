//! What a host believes of directories: a client of a file server goes by a listing for up to a minute (A-2, J5).
//!
//! Invariants
//! - What processes of the host change themselves, the host sees.
//! - No listing is older than [`OLD_US`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use nfs_compat::{DirEntry, Result};

/// The longest that attributes of a directory are believed (`acdirmax`).
const OLD_US: u64 = 60_000_000;

/// The cache of one host. Clones are the same one.
#[derive(Clone, Default)]
pub struct HostView {
    inner: Arc<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Time that never goes backwards.
    elapsed_us: AtomicU64,
    listings: Mutex<HashMap<PathBuf, (u64, Vec<DirEntry>)>>,
}

impl HostView {
    fn listings(&self) -> MutexGuard<'_, HashMap<PathBuf, (u64, Vec<DirEntry>)>> {
        self.inner.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_elapsed(&self, elapsed_us: u64) {
        self.inner.elapsed_us.store(elapsed_us, Ordering::Relaxed);
    }

    /// The listing that the host has, or the one that it gets from the server now.
    pub fn list(
        &self,
        directory: &Path,
        ask: impl FnOnce() -> Result<Vec<DirEntry>>,
    ) -> Result<Vec<DirEntry>> {
        let now_us = self.inner.elapsed_us.load(Ordering::Relaxed);
        if let Some((then_us, entries)) = self.listings().get(directory)
            && now_us.saturating_sub(*then_us) <= OLD_US
        {
            return Ok(entries.clone());
        }
        let entries = ask()?;
        self.listings().insert(directory.to_owned(), (now_us, entries.clone()));
        Ok(entries)
    }

    /// A process of the host changes the directory that this name is in.
    pub fn changes(&self, path: &Path) {
        if let Some(directory) = path.parent() {
            self.listings().remove(directory);
        }
    }

    pub fn forget(&self) {
        self.listings().clear();
    }
}
