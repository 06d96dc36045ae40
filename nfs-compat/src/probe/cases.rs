//! What one node changes and the other watches, case by case.
//!
//! Each case has a directory of its own, so that a look that has the host ask the server mends no other case.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::together::WATCHED_FOR;
use super::{Finding, Severity};
use crate::{Fs, Result};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Case {
    /// A name that was looked for in vain appears.
    Missing,
    /// The same, and the host is told to ask the server before each look.
    MissingAsked,
    /// A file grows.
    Grown,
    GrownAsked,
    /// A file grows, and is opened anew and read.
    Reopened,
    /// A file goes.
    Removed,
    /// A file is renamed into a neighbouring directory, and both are listed.
    Moved,
    /// A file is made under a name that this host never looked for (L-FN3).
    Fresh,
}

const OLD: &[u8] = b"old";
const NEW: &[u8] = b"old and new";
/// Later than this is worth a word.
const PROMPT: Duration = Duration::from_secs(1);

impl Case {
    pub(super) const ALL: [Self; 8] = [
        Self::Missing,
        Self::MissingAsked,
        Self::Grown,
        Self::GrownAsked,
        Self::Reopened,
        Self::Removed,
        Self::Moved,
        Self::Fresh,
    ];

    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::MissingAsked => "missing-asked",
            Self::Grown => "grown",
            Self::GrownAsked => "grown-asked",
            Self::Reopened => "reopened",
            Self::Removed => "removed",
            Self::Moved => "moved",
            Self::Fresh => "fresh",
        }
    }

    pub(super) fn sentence(self) -> &'static str {
        match self {
            Self::Missing => "a name that was missing before",
            Self::MissingAsked => "the same, the server being asked again",
            Self::Grown => "the length of a file that grew",
            Self::GrownAsked => "the same, the server being asked again",
            Self::Reopened => "what was added to a file, opening it anew",
            Self::Removed => "the end of a name",
            Self::Moved => "a rename, in listings",
            Self::Fresh => "a name never looked for",
        }
    }

    /// Whether a take-over rests on this being seen in time (`locking.md` §6.2).
    fn counts(self) -> bool {
        match self {
            Self::MissingAsked | Self::GrownAsked | Self::Reopened | Self::Fresh => true,
            Self::Missing | Self::Grown | Self::Removed | Self::Moved => false,
        }
    }

    fn is_asked(self) -> bool {
        matches!(self, Self::MissingAsked | Self::GrownAsked)
    }

    fn file(self, theirs: &Path) -> PathBuf {
        theirs.join(self.word()).join("new/file")
    }

    fn moved(self, theirs: &Path) -> PathBuf {
        theirs.join(self.word()).join("cur/file:2,S")
    }
}

/// How it is before.
pub(super) fn prepare(fs: &dyn Fs, mine: &Path, case: Case) -> Result<()> {
    for directory in ["new", "cur"] {
        fs.create_dir_all(&mine.join(case.word()).join(directory))?;
    }
    match case {
        Case::Missing | Case::MissingAsked | Case::Fresh => Ok(()),
        Case::Grown | Case::GrownAsked | Case::Reopened | Case::Removed | Case::Moved => {
            let file = fs.create(&case.file(mine))?;
            file.write_at(OLD, 0)?;
            file.sync()
        }
    }
}

pub(super) fn change(fs: &dyn Fs, mine: &Path, case: Case) -> Result<()> {
    match case {
        Case::Missing | Case::MissingAsked | Case::Fresh => {
            let file = fs.create(&case.file(mine))?;
            file.write_at(NEW, 0)?;
            file.sync()
        }
        Case::Grown | Case::GrownAsked | Case::Reopened => {
            let file = fs.open_write(&case.file(mine))?;
            file.write_at(NEW, 0)?;
            file.sync()
        }
        Case::Removed => fs.unlink(&case.file(mine)),
        Case::Moved => fs.rename(&case.file(mine), &case.moved(mine)),
    }
}

/// A case, watched.
pub(super) struct Seen {
    pub(super) case: Case,
    pub(super) at: Option<SystemTime>,
    /// When the first look was, for a case that begins with it.
    first: Option<SystemTime>,
}

impl Seen {
    /// Looks before anything changed, as a host that works here would have.
    pub(super) fn prime(fs: &dyn Fs, theirs: &Path, case: Case) -> Self {
        if case != Case::Fresh {
            // What it is does not matter; that it was looked at does.
            let _primed = has_changed(fs, theirs, case);
        }
        Self { case, at: None, first: None }
    }

    pub(super) fn look(&mut self, fs: &dyn Fs, theirs: &Path, now: SystemTime, told: bool) {
        if self.at.is_some() || (self.case == Case::Fresh && !told) {
            return;
        }
        self.first.get_or_insert(now);
        if self.case.is_asked()
            && let Err(error) = fs.revalidate(&self.case.file(theirs))
        {
            tracing::debug!(%error, "the server is not asked again");
        }
        if has_changed(fs, theirs, self.case) {
            self.at = Some(now);
        }
    }

    /// How long after the change it was seen; `None` if it was not.
    pub(super) fn late(&self, changed_ms: i64, ahead_ms: i64) -> Option<Duration> {
        let seen = self.at?;
        if self.case == Case::Fresh {
            return seen.duration_since(self.first?).ok();
        }
        let late = milliseconds(seen) + ahead_ms - changed_ms;
        Some(Duration::from_millis(u64::try_from(late).unwrap_or(0)))
    }
}

fn has_changed(fs: &dyn Fs, theirs: &Path, case: Case) -> bool {
    let path = case.file(theirs);
    match case {
        Case::Missing | Case::MissingAsked => fs.exists(&path).unwrap_or(false),
        Case::Grown | Case::GrownAsked => {
            fs.metadata(&path).is_ok_and(|found| found.length == NEW.len() as u64)
        }
        Case::Reopened | Case::Fresh => fs.read(&path, 64).is_ok_and(|bytes| bytes == NEW),
        Case::Removed => matches!(fs.exists(&path), Ok(false)),
        Case::Moved => {
            let has = |path: &Path| {
                let listed = path.parent().and_then(|directory| fs.read_dir(directory).ok());
                listed.is_some_and(|names| names.iter().any(|entry| path.ends_with(&entry.name)))
            };
            !has(&path) && has(&case.moved(theirs))
        }
    }
}

/// What it means that a change was seen so late.
pub(super) fn judge(case: Case, late: Option<Duration>) -> Option<Finding> {
    let when = match late {
        Some(late) if late <= PROMPT => return None,
        Some(late) => format!("after {:.1} s", late.as_secs_f64()),
        None => format!("not within {} s", WATCHED_FOR.as_secs()),
    };
    let what = format!("this node saw {} {when}", case.sentence());
    let (severity, change) = match (case.counts(), late) {
        (true, None) => (
            Severity::Refuse,
            "mount with `vers=4.2`, without `nocto`, and with `acregmax` and `acdirmax` of at most 60",
        ),
        (true, Some(_)) => {
            (Severity::Warn, "take-overs wait for it; mount with `vers=4.2` and the default `ac` options")
        }
        (false, None) => (Severity::Warn, "mount with `acregmax` and `acdirmax` of at most 60"),
        (false, Some(_)) => (
            Severity::Note,
            "nothing for Roost, which asks again; `lookupcache=positive` helps other mail programs",
        ),
    };
    Some(Finding::new(severity, "stale", what, change))
}

pub(super) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A line of the file in which a node says when it made its changes.
pub(super) fn parse(line: &str) -> Option<(Case, i64)> {
    let (word, at) = line.split_once(' ')?;
    let case = Case::ALL.into_iter().find(|case| case.word() == word)?;
    at.parse().ok().map(|at| (case, at))
}
