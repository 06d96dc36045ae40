//! One mailbox directory: which files it has, as we last saw or left them.
//!
//! Invariants
//! - `files` names what was true at the last look plus what we did since. Whoever needs a file tries the name it
//!   has here, and looks again when it is gone: names change under us (maildir.md §3).
//! - A look is due when a directory's mtime is not the one that the last look, or our own last change, left there; or
//!   when the last look was within two seconds of that mtime, so that a later change could hide behind it.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use model::MailboxName;
use nfs_compat::{Fs, Result};

use super::filename::{self, Seen};
use super::keywords::Keywords;

/// A change this close after a look need not show in the directory's mtime.
const SAME_TICK: Duration = Duration::from_secs(2);

/// Where a file is, and the rest of its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// In `new`; else in `cur`.
    pub(super) fresh: bool,
    pub(super) suffix: Arc<str>,
    /// The suffix that we last wrote or told the owner of.
    pub(super) known: Option<Arc<str>>,
}

#[derive(Debug)]
pub(super) struct Mailbox {
    pub(super) name: MailboxName,
    pub(super) directory: PathBuf,
    pub(super) files: HashMap<Arc<str>, Place>,
    pub(super) keywords: Keywords,
    pub(super) scanned: Option<Scan>,
}

/// What the directories' mtimes were, and when we looked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Scan {
    /// `new`, `cur` as explained by the last look and our own changes since.
    explained: [SystemTime; 2],
    /// The same as the last look itself saw them.
    looked: [SystemTime; 2],
    at: SystemTime,
}

impl Mailbox {
    pub(super) fn new(name: MailboxName, directory: PathBuf) -> Self {
        Self { name, directory, files: HashMap::new(), keywords: Keywords::default(), scanned: None }
    }

    pub(super) fn tmp(&self, base: &str) -> PathBuf {
        self.directory.join("tmp").join(base)
    }

    pub(super) fn path_at(&self, base: &str, place: &Place) -> PathBuf {
        let part = if place.fresh { "new" } else { "cur" };
        self.directory.join(part).join(format!("{base}{}", place.suffix))
    }

    /// As the file server has them: an older one would hide a neighbour's change for a minute, and for good once a change
    /// of ours has followed it.
    fn mtimes(&self, fs: &dyn Fs) -> Result<[SystemTime; 2]> {
        let modified = |part| fs.directory(&self.directory.join(part)).map(|metadata| metadata.modified);
        Ok([modified("new")?, modified("cur")?])
    }

    /// Whether other programs may have changed something since the last look.
    pub(super) fn look_is_due(&self, fs: &dyn Fs, now: SystemTime, thorough: bool) -> Result<bool> {
        let Some(scan) = self.scanned else { return Ok(true) };
        let mtimes = self.mtimes(fs)?;
        if mtimes != scan.explained || (thorough && mtimes != scan.looked) {
            return Ok(true);
        }
        let hidden = |mtime: &SystemTime| scan.at < *mtime + SAME_TICK && now >= *mtime + SAME_TICK;
        Ok(scan.looked == scan.explained && mtimes.iter().any(hidden))
    }

    /// Runs a change of ours on the directories, so that it does not look like somebody else's.
    pub(super) fn explain<T>(
        &mut self,
        fs: &dyn Fs,
        change: impl FnOnce(&mut Self) -> Result<T>,
    ) -> Result<T> {
        let before = self.mtimes(fs).ok();
        let outcome = change(self);
        if let (Some(scan), Some(before)) = (self.scanned, before)
            && before == scan.explained
            && let Ok(explained) = self.mtimes(fs)
        {
            self.scanned = Some(Scan { explained, ..scan });
        }
        outcome
    }

    /// Lists both directories. Suffixes known before stay known; files that are gone twice are forgotten.
    pub(super) fn look(&mut self, fs: &dyn Fs, now: SystemTime) -> Result<Vec<Trouble>> {
        self.keywords.load(fs, &self.directory)?;
        let mtimes = self.mtimes(fs)?;
        let mut listing = self.list(fs)?;
        if self.files.keys().any(|base| !listing.files.contains_key(base)) {
            // While names change a listing may miss one: only what two listings miss is gone.
            let again = self.list(fs)?;
            listing.files.extend(again.files);
        }
        for (base, place) in &mut listing.files {
            place.known = self.files.get(base).and_then(|before| before.known.clone());
        }
        self.files = listing.files;
        self.scanned = Some(Scan { explained: mtimes, looked: mtimes, at: now });
        Ok(listing.trouble)
    }

    /// Bases on disk now.
    pub(super) fn bases(&self, fs: &dyn Fs) -> Result<Vec<Arc<str>>> {
        Ok(self.list(fs)?.files.into_keys().collect())
    }

    fn list(&self, fs: &dyn Fs) -> Result<Listing> {
        let mut listing = Listing::default();
        // `new` before `cur`: a base seen in both was moved in between.
        for (part, fresh) in [("new", true), ("cur", false)] {
            for entry in fs.read_dir(&self.directory.join(part))? {
                match filename::read(&entry.name) {
                    Seen::Ignored => {}
                    Seen::Broken => {
                        listing.trouble.push(Trouble::BrokenName(Path::new(part).join(&entry.name)))
                    }
                    Seen::Message(name) => {
                        let place = Place { fresh, suffix: name.suffix.into(), known: None };
                        listing.add(name.base, place);
                    }
                }
            }
        }
        Ok(listing)
    }
}

/// What a look finds that somebody has to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    /// Path below the mailbox of a file whose name cannot be one.
    BrokenName(PathBuf),
    /// A second name in `cur` for a base.
    Twice { base: Arc<str>, first: Place, second: Place },
}

#[derive(Default)]
struct Listing {
    files: HashMap<Arc<str>, Place>,
    trouble: Vec<Trouble>,
}

impl Listing {
    fn add(&mut self, base: &str, place: Place) {
        match self.files.entry(base.into()) {
            Entry::Vacant(vacant) => {
                vacant.insert(place);
            }
            Entry::Occupied(mut occupied) if occupied.get().fresh => {
                occupied.insert(place);
            }
            Entry::Occupied(occupied) => {
                let (base, first) = (occupied.key().clone(), occupied.get().clone());
                self.trouble.push(Trouble::Twice { base, first, second: place });
            }
        }
    }
}
