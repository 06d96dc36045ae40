//! What a volume can and cannot do for mail, found out by reading the mount and by trying (`locking.md` §1).
//!
//! Invariants
//! - Each finding is one sentence, and says what to change where something can be changed.
//! - What is refused can lose acknowledged mail; everything else is a warning or a note.
//! - Everything happens in a directory of its own below [`Asked::inside`], which is gone afterwards.

mod cases;
mod delegation;
mod judge;
mod mount;
mod racing;
mod together;
mod trying;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

pub use judge::{judge, unmounted};
pub use mount::Mount;
pub use together::{Party, Step};

use crate::{ErrorKind, Fs, Space, disk};

/// The kernel's tables are longer on hosts with thousands of containers, and still not this long.
const TABLE_BYTES_MAX: u64 = 16 << 20;

/// How bad it is. The worst comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Mail can be lost: a node does not serve this.
    Refuse,
    /// Slow, or held up in trouble.
    Warn,
    Note,
}

impl Severity {
    pub fn word(self) -> &'static str {
        match self {
            Self::Refuse => "refuse",
            Self::Warn => "warn",
            Self::Note => "note",
        }
    }
}

/// One sentence about a volume, and what to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    pub severity: Severity,
    /// A word for programs; it stays the same when the sentence does not.
    pub code: &'static str,
    pub what: String,
    pub change: String,
}

impl Finding {
    pub fn new(
        severity: Severity,
        code: &'static str,
        what: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self { severity, code, what: what.into(), change: change.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}. What to do: {}", self.what, self.change)
    }
}

/// What to examine, and how.
#[derive(Clone, Copy)]
pub struct Asked<'a> {
    pub root: &'a Path,
    /// Where to try things, below `root`.
    pub inside: &'a Path,
    /// Unique among all hosts that may be trying there now.
    pub name: &'a str,
    /// Takes a second more: threads race against one another.
    pub thorough: bool,
    pub now: &'a dyn Fn() -> SystemTime,
}

/// What was found out.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub mount: Option<Mount>,
    /// The worst first.
    pub findings: Vec<Finding>,
    pub measured: Measured,
}

impl Report {
    pub fn add(&mut self, finding: Finding) {
        self.findings.push(finding);
        self.findings.sort_by_key(|finding| finding.severity);
    }

    /// What keeps a node from serving this volume.
    pub fn refused(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Refuse)
    }
}

/// What was measured on the way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Measured {
    /// How far the clock that stamps files is ahead of this host's; negative when it is behind.
    pub clock_ahead_ms: Option<i64>,
    /// What one sync of a small file took, at best.
    pub sync: Option<Duration>,
    pub space: Option<Space>,
}

/// Examines a directory on the operating system's filesystem.
pub fn examine(fs: &dyn Fs, asked: &Asked<'_>) -> Report {
    let mut report = Report::default();
    // Looking has an automounter mount it, so the tables are read after this.
    let root = match fs.metadata(asked.root).and_then(|_| disk::real_path(asked.root)) {
        Ok(root) => root,
        Err(error) => {
            let change = "mount the volume, or make the directory and give it to the user of node.run_as";
            report.add(Finding::new(Severity::Refuse, "missing", error.to_string(), change));
            return report;
        }
    };
    report.mount = table("/proc/self/mountinfo").and_then(|table| Mount::of(&table, &root));
    if let Some(mount) = &report.mount {
        let mut findings = judge(mount);
        findings.extend(table("/etc/fstab").and_then(|fstab| unmounted(&fstab, mount, &root)));
        findings.into_iter().for_each(|finding| report.add(finding));
    }
    // On a mount point without its mount even a try would leave something behind that the mount hides.
    if report.refused().any(|finding| matches!(finding.code, "unmounted" | "ro")) {
        return report;
    }
    let asked = Asked { root: &root, ..*asked };
    try_out(fs, &asked, &mut report);
    report
}

/// Tries what mail needs, on any filesystem.
pub fn try_out(fs: &dyn Fs, asked: &Asked<'_>, report: &mut Report) {
    let scratch = match Scratch::make(fs, asked.root, &asked.root.join(asked.inside), asked.name) {
        Ok(scratch) => scratch,
        Err(error) => {
            let change =
                "give the directory to the user of node.run_as, and see that the volume takes writes";
            return report.add(Finding::new(Severity::Refuse, "write", error.to_string(), change));
        }
    };
    trying::run(fs, &scratch.directory, asked.now, report);
    if asked.thorough {
        racing::run(fs, &scratch.directory, report);
        let (point, nfs) = report
            .mount
            .as_ref()
            .map_or((PathBuf::new(), false), |mount| (mount.point.clone(), mount.is_nfs()));
        if nfs {
            let count = || delegation::opens(&table("/proc/self/mountstats")?, &point);
            delegation::run(fs, &scratch.directory, &count, report);
        }
    }
    scratch.clear(asked.thorough);
}

fn table(path: &str) -> Option<String> {
    disk::read_table(Path::new(path), TABLE_BYTES_MAX).ok()
}

/// A directory to try things in.
pub(crate) struct Scratch<'a> {
    fs: &'a dyn Fs,
    root: PathBuf,
    pub(crate) directory: PathBuf,
}

impl<'a> Scratch<'a> {
    /// Another host may be taking the directory above away when it is done there: then it is made again.
    const TRIES: u32 = 3;

    pub(crate) fn make(fs: &'a dyn Fs, root: &Path, inside: &Path, name: &str) -> crate::Result<Self> {
        let directory = inside.join(name);
        let mut tries = 0;
        loop {
            tries += 1;
            match fs.create_dir_all(inside).and_then(|()| fs.create_dir(&directory)) {
                Ok(()) => return Ok(Self { fs, root: root.to_owned(), directory }),
                Err(error) if error.is_not_found() && tries < Self::TRIES => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Takes everything away again, and if asked to the directories above as long as nothing else is in them. A node that
    /// starts lets those be: others start at the same moment, and believe for half a minute in what they have seen there.
    pub(crate) fn clear(self, above: bool) {
        if let Err(error) = remove_all(self.fs, &self.directory) {
            tracing::warn!("{} stays behind: {error}", self.directory.display());
        }
        if !above {
            return;
        }
        let above = self.directory.ancestors().skip(1).take_while(|above| *above != self.root);
        for directory in above {
            if self.fs.remove_dir(directory).is_err() {
                return;
            }
        }
    }
}

/// Removes a directory of ours with what is in it. A listing can be old (NFS 3 does not tell two changes of one moment
/// apart): a change of our own has the next one asked for.
pub(crate) fn remove_all(fs: &dyn Fs, directory: &Path) -> crate::Result<()> {
    for _ in 0..Scratch::TRIES {
        match remove_listed(fs, directory) {
            Err(error) if error.kind == ErrorKind::NotEmpty => drop(fs.create(&directory.join("again"))),
            removed => return removed,
        }
    }
    remove_listed(fs, directory)
}

fn remove_listed(fs: &dyn Fs, directory: &Path) -> crate::Result<()> {
    for entry in fs.read_dir(directory)? {
        let path = directory.join(&entry.name);
        match entry.kind {
            crate::EntryKind::Directory => remove_all(fs, &path)?,
            crate::EntryKind::File | crate::EntryKind::Other => match fs.unlink(&path) {
                Err(error) if !error.is_not_found() => return Err(error),
                Ok(()) | Err(_) => {}
            },
        }
    }
    fs.remove_dir(directory)
}
