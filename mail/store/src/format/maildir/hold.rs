//! Bytes that left their mailbox, kept while a snapshot may still read them (L-UN, J8).
//!
//! The hold has a directory for each minute; sweeping removes whole minutes.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::MailboxId;
use nfs_compat::{EntryKind, Fs, Result};

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
        self.fs.rename(from, &self.slot(now_unix_s)?.join(base))
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
            let alone = slot.join(base);
            if self.fs.exists(&alone)? {
                return Ok(alone);
            }
            for entry in
                self.fs.read_dir(&slot)?.into_iter().filter(|entry| entry.kind == EntryKind::Directory)
            {
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
                    held.extend(entry.name.to_str().and_then(|base| bases.get(base)).cloned());
                    continue;
                }
                for part in ["cur", "new", "tmp"] {
                    let names = match self.fs.read_dir(&slot.join(&entry.name).join(part)) {
                        Err(error) if error.is_not_found() => continue,
                        names => names?,
                    };
                    let base = |name: &str| bases.get(name.split_once(':').map_or(name, |(base, _)| base));
                    held.extend(names.iter().filter_map(|entry| base(entry.name.to_str()?)).cloned());
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
            let is_it = |name: &str| {
                name.strip_prefix(base).is_some_and(|rest| rest.is_empty() || rest.starts_with(':'))
            };
            if let Some(entry) = entries.iter().find(|entry| entry.name.to_str().is_some_and(is_it)) {
                return Ok(Some(directory.join(&entry.name)));
            }
        }
        Ok(None)
    }

    /// Unlinks whole minutes that ended before this time. Returns how many files went.
    pub(super) fn sweep(&self, before_unix_s: i64) -> Result<u64> {
        let mut removed = 0;
        for (slot, path) in self.slots()? {
            if (slot + 1).saturating_mul(SLOT_S) <= before_unix_s {
                removed += self.remove_tree(&path)?;
            }
        }
        Ok(removed)
    }

    fn remove_tree(&self, directory: &Path) -> Result<u64> {
        let mut removed = 0;
        for entry in self.fs.read_dir(directory)? {
            let path = directory.join(&entry.name);
            if entry.kind == EntryKind::Directory {
                removed += self.remove_tree(&path)?;
            } else {
                self.fs.unlink(&path)?;
                removed += 1;
            }
        }
        self.fs.remove_dir(directory)?;
        Ok(removed)
    }
}
