//! The room that a voter has on its disk (L-RS5).
//!
//! A voter stops while it can still write: when little is left it lets another lead and ends, and its process with it.
//! What it had reported is on disk, so it goes on when there is room again. So that there is, a voter of several keeps a
//! file that holds room and nothing else, and gives it up when it starts on a full disk.
//!
//! Invariants
//! - Giving up the ballast makes more room than a voter needs to start.
//! - Nothing is written to a disk that is nearly full, but what is under way.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use nfs_compat::{Fs, Space};

use super::StartError;
use super::core::Core;

/// Room that the ballast holds, at most.
const BALLAST_BYTES_MAX: u64 = 1 << 30;
/// A smaller disk's ballast is this part of it: a little more than is needed to start.
const BALLAST_PART: u64 = 40;
/// Below this part of the disk a voter stops; on large ones below [`FULL_BYTES_MAX`].
const FULL_PART: u64 = 50;
const FULL_BYTES_MAX: u64 = BALLAST_BYTES_MAX / 5 * 4;
/// Below this part an operator is warned.
const LOW_PART: u64 = 5;
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// Looks between two warnings.
const WARN_EVERY: u32 = 300;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Room {
    Enough,
    Low,
    Full,
}

fn room(space: Space) -> Room {
    let Space { available_bytes, total_bytes } = space;
    if available_bytes < (total_bytes / FULL_PART).min(FULL_BYTES_MAX) {
        Room::Full
    } else if available_bytes < total_bytes / LOW_PART {
        Room::Low
    } else {
        Room::Enough
    }
}

fn ballast_bytes(space: Space) -> u64 {
    (space.total_bytes / BALLAST_PART).min(BALLAST_BYTES_MAX)
}

fn mib(bytes: u64) -> u64 {
    bytes >> 20
}

fn full(directory: &Path, space: Space) -> String {
    format!(
        "the disk of {} is nearly full: {} MiB of {} MiB are free. Free some space there, then start this node again; \
         meanwhile the other nodes serve, if they are a majority",
        directory.display(),
        mib(space.available_bytes),
        mib(space.total_bytes)
    )
}

/// Where a voter looks at its disk.
#[derive(Clone)]
pub(super) struct Disk {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    /// Whether it keeps a ballast.
    ballast: bool,
}

impl Disk {
    pub(super) fn new(fs: Arc<dyn Fs>, directory: &Path, ballast: bool) -> Self {
        Self { fs, directory: directory.to_owned(), ballast }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("ballast")
    }

    fn space(&self) -> nfs_compat::Result<Space> {
        self.fs.space(&self.directory)
    }

    /// Makes room to start, or says that there is none. Blocking.
    pub(super) fn prepare(&self) -> Result<(), StartError> {
        self.fs.create_dir_all(&self.directory)?;
        let space = self.space()?;
        if room(space) != Room::Full {
            self.keep_ballast(space);
            return Ok(());
        }
        if self.fs.exists(&self.path())? {
            self.fs.unlink(&self.path())?;
            self.fs.sync_dir(&self.directory)?;
            tracing::warn!(
                path = %self.path().display(),
                "the disk is nearly full: the ballast was given up so that this node can start; free some space"
            );
        }
        let space = self.space()?;
        if room(space) == Room::Full {
            Err(StartError::DiskFull(full(&self.directory, space)))
        } else {
            Ok(())
        }
    }

    /// Sets room aside while there is plenty. That it can't be is no harm now.
    fn keep_ballast(&self, space: Space) {
        if !self.ballast || room(space) != Room::Enough {
            return;
        }
        let made = || -> nfs_compat::Result<()> {
            if self.fs.exists(&self.path())? {
                return Ok(());
            }
            let file = self.fs.create(&self.path())?;
            file.allocate(ballast_bytes(space))?;
            file.sync()?;
            self.fs.sync_dir(&self.directory)
        };
        if let Err(error) = made() {
            tracing::warn!(%error, "no ballast could be set aside");
        }
    }

    fn look(&self) -> io::Result<(Room, Space)> {
        let space = self.space().map_err(io::Error::other)?;
        self.keep_ballast(space);
        Ok((room(space), space))
    }
}

/// Looks at the disk while the voter runs, and ends it in time. Ends with the voter.
pub(super) async fn watch(core: Weak<Core>, disk: Disk) {
    let mut looks_since_warning = WARN_EVERY;
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let looked = disk.clone();
        let found = tokio::task::spawn_blocking(move || looked.look()).await;
        let Some(core) = core.upgrade() else { return };
        looks_since_warning = looks_since_warning.saturating_add(1);
        match found {
            Ok(Ok((Room::Enough, _))) => {}
            Ok(Ok((Room::Low, space))) => {
                if looks_since_warning >= WARN_EVERY {
                    looks_since_warning = 0;
                    let (free, total) = (mib(space.available_bytes), mib(space.total_bytes));
                    let path = disk.directory.display();
                    tracing::warn!(%path, free_mib = free, total_mib = total, "the disk of the state directory fills up");
                }
            }
            Ok(Ok((Room::Full, space))) => {
                core.step_down().await;
                core.end(full(&disk.directory, space)).await;
                return;
            }
            Ok(Err(error)) => tracing::warn!(%error, "the disk of the state directory cannot be measured"),
            Err(_) => return,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn space(available_bytes: u64, total_bytes: u64) -> Space {
        Space { available_bytes, total_bytes }
    }

    #[test]
    fn a_fifth_is_enough_and_a_fiftieth_is_too_little() {
        assert_eq!(room(space(20 << 30, 100 << 30)), Room::Enough);
        assert_eq!(room(space(19 << 30, 100 << 30)), Room::Low);
        assert_eq!(room(space(800 << 20, 100 << 30)), Room::Full);
        assert_eq!(room(space(19 << 20, 1 << 30)), Room::Full, "less than 2 %");
        assert_eq!(room(space(21 << 20, 1 << 30)), Room::Low);
    }

    #[test]
    fn the_ballast_is_more_than_what_a_start_needs_on_any_disk() {
        for shift in 20..50 {
            let total = 1 << shift;
            let freed = space(ballast_bytes(space(total, total)), total);
            assert_ne!(room(freed), Room::Full, "a disk of {total} bytes");
        }
    }
}
