//! What goes wrong, and when: by operation, by predicate, or for ever from a step on.

use std::path::Path;

use crate::ErrorKind;

/// The calls of [`Fs`](crate::Fs) and [`File`](crate::File), as faults and counters name them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    Open,
    Create,
    Read,
    Write,
    Sync,
    Allocate,
    SetModified,
    Metadata,
    Link,
    Rename,
    Unlink,
    CreateDir,
    RemoveDir,
    ReadDir,
    SyncDir,
    Space,
}

impl Operation {
    pub(super) fn verb(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Create => "create",
            Self::Read => "read",
            Self::Write => "write",
            Self::Sync => "sync",
            Self::Allocate => "allocate",
            Self::SetModified => "set the time of",
            Self::Metadata => "look up",
            Self::Link => "link",
            Self::Rename => "rename",
            Self::Unlink => "remove",
            Self::CreateDir => "create directory",
            Self::RemoveDir => "remove directory",
            Self::ReadDir => "list",
            Self::SyncDir => "sync directory",
            Self::Space => "measure the volume of",
        }
    }
}

/// One call, before it is carried out. Two names in a call: `path` is the first.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// Calls before this one, since the beginning.
    pub index: u64,
    pub operation: Operation,
    pub path: &'a Path,
}

/// A server that breaks what the protocol or POSIX promises, for as long as it has the habit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Habit {
    /// A rename takes the old name away, and gives the new one only after the next call.
    RenamesInTwoSteps,
    /// The answer to a change of names is lost, and the server carries the second request out as well (L-FS1).
    LosesAnswers,
    /// What is synced is acknowledged, and lost by a crash like everything else (an `async` export).
    SyncsNothing,
    /// Names that differ by case are one name.
    FoldsCase,
}

type Predicate = Box<dyn FnMut(&Call<'_>) -> bool + Send>;

/// Why a call is not carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Proceed,
    Fail(ErrorKind),
    Killed,
}

#[derive(Default)]
pub(super) struct Faults {
    calls: u64,
    /// The first call that finds its process killed.
    stop_at: Option<u64>,
    plan: Vec<(Predicate, ErrorKind)>,
}

impl Faults {
    pub(super) fn calls(&self) -> u64 {
        self.calls
    }

    pub(super) fn stop_after(&mut self, more: Option<u64>) {
        self.stop_at = more.map(|more| self.calls.saturating_add(more));
    }

    pub(super) fn add(&mut self, predicate: Predicate, kind: ErrorKind) {
        self.plan.push((predicate, kind));
    }

    pub(super) fn clear(&mut self) {
        self.plan.clear();
    }

    /// Counts a call and decides what becomes of it. Every predicate sees every call that is not killed.
    pub(super) fn judge(&mut self, operation: Operation, path: &Path) -> Verdict {
        if self.stop_at.is_some_and(|stop| self.calls >= stop) {
            return Verdict::Killed;
        }
        let call = Call { index: self.calls, operation, path };
        self.calls += 1;
        let mut verdict = Verdict::Proceed;
        for (predicate, kind) in &mut self.plan {
            if predicate(&call) && verdict == Verdict::Proceed {
                verdict = Verdict::Fail(*kind);
            }
        }
        verdict
    }
}
