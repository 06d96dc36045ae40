//! Bytes that left their mailbox, kept while a snapshot may still read them (L-UN, J8).
//!
//! The hold has a directory for each minute; sweeping removes whole minutes. In it lie files `BASE`, or `BASE:N` where
//! the name was taken, and directories `mailbox-ID`.
//!
//! Invariants
//! - A name that is in use is never renamed over (L-FN1).
//! - Sweeping unlinks no message: what an owner that was deposed took in by mistake stays until it is put back.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::MailboxId;
use nfs_compat::{DirEntry, EntryKind, Fs, Result};

use super::missing;

const SLOT_S: i64 = 60;

pub(super) struct Hold {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
}

impl Hold {
    pub(super) fn new(fs: Arc<dyn Fs>, directory: PathBuf) -> Self {
        Self { fs, directory }
    }

    /// Moves a message file in, under its base.
    pub(super) fn take(&self, from: &Path, base: &str, now_unix_s: i64) -> Result<()> {
        let slot = self.slot(now_unix_s)?;
        let mut to = slot.join(base);
        let mut again = 1;
        while self.fs.exists(&to)? {
            again += 1;
            to = slot.join(format!("{base}:{again}"));
        }
        self.fs.rename(from, &to)
    }

    /// Moves a mailbox directory in, whole.
    pub(super) fn take_directory(&self, from: &Path, id: MailboxId, now_unix_s: i64) -> Result<()> {
        let slot = self.slot(now_unix_s)?;
        let mut to = slot.join(format!("mailbox-{id}"));
        let mut again = 1;
        while self.fs.exists(&to)? {
            again += 1;
            to = slot.join(format!("mailbox-{id}-{again}"));
        }
        self.fs.rename(from, &to)
    }

    fn slot(&self, now_unix_s: i64) -> Result<PathBuf> {
        let slot = self.directory.join(format!("{:012}", now_unix_s.max(0) / SLOT_S));
        if !self.fs.exists(&slot)? {
            self.fs.create_dir_all(&slot)?;
        }
        Ok(slot)
    }

    fn slots(&self) -> Result<Vec<(i64, PathBuf)>> {
        let entries = match self.fs.read_dir(&self.directory) {
            Err(error) if error.is_not_found() => return Ok(Vec::new()),
            entries => entries?,
        };
        let number = |name: &std::ffi::OsStr| name.to_str().and_then(|name| name.parse::<i64>().ok());
        let slots =
            entries.iter().filter_map(|entry| Some((number(&entry.name)?, self.directory.join(&entry.name))));
        Ok(slots.collect())
    }

    /// Finds a message's bytes, alone or in a mailbox that was taken in whole.
    pub(super) fn find(&self, base: &str) -> Result<PathBuf> {
        for (_, slot) in self.slots()? {
            let entries = self.fs.read_dir(&slot)?;
            let mut alone = entries.iter().filter_map(|entry| entry.name.to_str());
            if let Some(name) = alone.find(|name| is_of(name, base)) {
                return Ok(slot.join(name));
            }
            for entry in entries.into_iter().filter(|entry| entry.kind == EntryKind::Directory) {
                if let Some(path) = self.find_in_mailbox(&slot.join(&entry.name), base)? {
                    return Ok(path);
                }
            }
        }
        Err(missing("find message", &self.directory.join(base)))
    }

    /// Those of these bases that lie here, alone or in a mailbox that was taken in whole. Lists everything once.
    pub(super) fn among(&self, bases: &HashSet<Arc<str>>) -> Result<HashSet<Arc<str>>> {
        let mut held = HashSet::new();
        for (_, slot) in self.slots()? {
            for entry in self.fs.read_dir(&slot)? {
                if entry.kind != EntryKind::Directory {
                    held.extend(entry.name.to_str().and_then(|name| bases.get(base_of(name))).cloned());
                    continue;
                }
                for part in ["cur", "new", "tmp"] {
                    let names = match self.fs.read_dir(&slot.join(&entry.name).join(part)) {
                        Err(error) if error.is_not_found() => continue,
                        names => names?,
                    };
                    let base = |entry: &DirEntry| bases.get(base_of(entry.name.to_str()?)).cloned();
                    held.extend(names.iter().filter_map(base));
                }
            }
        }
        Ok(held)
    }

    /// The file of this base in a mailbox directory.
    pub(super) fn find_in_mailbox(&self, mailbox: &Path, base: &str) -> Result<Option<PathBuf>> {
        for part in ["cur", "new", "tmp"] {
            let directory = mailbox.join(part);
            let entries = match self.fs.read_dir(&directory) {
                Err(error) if error.is_not_found() => continue,
                entries => entries?,
            };
            let is_it = |entry: &&DirEntry| entry.name.to_str().is_some_and(|name| is_of(name, base));
            if let Some(entry) = entries.iter().find(is_it) {
                return Ok(Some(directory.join(&entry.name)));
            }
        }
        Ok(None)
    }

    /// Unlinks whole minutes that ended before this time, but for files whose base may not go. Returns how many went.
    pub(super) fn sweep(&self, before_unix_s: i64, may_go: &dyn Fn(&str) -> bool) -> Result<u64> {
        let mut swept = Swept::default();
        for (slot, path) in self.slots()? {
            if (slot + 1).saturating_mul(SLOT_S) <= before_unix_s {
                swept.add(self.remove_tree(&path, may_go)?);
            }
        }
        Ok(swept.removed)
    }

    fn remove_tree(&self, directory: &Path, may_go: &dyn Fn(&str) -> bool) -> Result<Swept> {
        let mut swept = Swept::default();
        for entry in self.fs.read_dir(directory)? {
            let path = directory.join(&entry.name);
            if entry.kind == EntryKind::Directory {
                swept.add(self.remove_tree(&path, may_go)?);
            } else if may_go(base_of(&entry.name.to_string_lossy())) {
                swept.removed += u64::from(gone_is_done(self.fs.unlink(&path))?);
            } else {
                swept.kept += 1;
            }
        }
        if swept.kept == 0 {
            // What was brought back from here must not go with the directory when the power is cut.
            gone_is_done(self.fs.sync_dir(directory))?;
            gone_is_done(self.fs.remove_dir(directory))?;
        }
        Ok(swept)
    }
}

/// What became of the files of a directory.
#[derive(Default)]
struct Swept {
    removed: u64,
    kept: u64,
}

impl Swept {
    fn add(&mut self, other: Self) {
        self.removed += other.removed;
        self.kept += other.kept;
    }
}

/// Another owner may sweep at the same time. Returns whether it was us.
fn gone_is_done(removed: Result<()>) -> Result<bool> {
    match removed {
        Ok(()) => Ok(true),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}

/// The base of a file's name: up to the colon.
fn base_of(name: &str) -> &str {
    name.split_once(':').map_or(name, |(base, _)| base)
}

fn is_of(name: &str, base: &str) -> bool {
    base_of(name) == base
}
