//! What a host believes of the volume: a client of a file server goes by a listing, and by how a file looked, for up to
//! a minute (A-2, J5).
//!
//! Invariants
//! - What processes of the host change themselves, the host sees.
//! - Nothing that is believed is older than [`OLD_US`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nfs_compat::sim::{Old, SimClient};
use nfs_compat::{DirEntry, Fs, Result, SimFs};
use rand::RngExt;
use rand::rngs::StdRng;

/// The longest that attributes of a directory are believed (`acdirmax`).
const OLD_US: u64 = 60_000_000;

/// The cache of one host. Clones are the same one.
#[derive(Clone)]
pub struct HostView {
    inner: Arc<Inner>,
    client: SimClient,
}

#[derive(Default)]
struct Inner {
    /// Time that never goes backwards.
    elapsed_us: AtomicU64,
    listings: Mutex<HashMap<PathBuf, (u64, Vec<DirEntry>)>>,
}

impl HostView {
    pub fn new(volume: &SimFs) -> Self {
        Self { inner: Arc::default(), client: SimClient::new(volume.clone()) }
    }

    /// Files as the host sees them.
    pub fn client(&self) -> SimClient {
        self.client.clone()
    }

    /// Has the host go by how some files of this directory looked before, for up to a minute.
    pub fn grow_old(&self, rng: &mut StdRng, volume: &SimFs, directory: &Path) {
        let names = volume.read_dir(directory).unwrap_or_default().into_iter().map(|entry| entry.name);
        let mut names: Vec<_> = names.collect();
        names.sort();
        for path in names.into_iter().map(|name| directory.join(name)) {
            let length = volume.metadata(&path).map_or(0, |metadata| metadata.length);
            if !rng.random_bool(0.3) || length == 0 {
                continue;
            }
            let old = match rng.random_range(0..3) {
                0 => Old::Missing,
                1 => Old::Shorter(rng.random_range(0..length)),
                _ => Old::Blank(rng.random_range(0..length)),
            };
            let during = Duration::from_micros(rng.random_range(0..OLD_US));
            self.client.believe(&path, old, during, rng.random());
        }
    }

    fn listings(&self) -> MutexGuard<'_, HashMap<PathBuf, (u64, Vec<DirEntry>)>> {
        self.inner.listings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn set_elapsed(&self, elapsed_us: u64) {
        self.inner.elapsed_us.store(elapsed_us, Ordering::Relaxed);
        self.client.set_elapsed(Duration::from_micros(elapsed_us));
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
        self.client.forget();
    }
}
