//! What went wrong with which file, in words an operator can act on.

use std::path::{Path, PathBuf};

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What callers tell apart. Everything else is [`ErrorKind::Failed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    NotFound,
    /// The name is taken.
    Exists,
    NotPermitted,
    /// ENOSPC.
    NoSpace,
    /// EDQUOT.
    OverQuota,
    /// EROFS.
    ReadOnly,
    /// ESTALE: another client removed it.
    Stale,
    NotADirectory,
    NotEmpty,
    /// EMFILE or ENFILE.
    TooManyOpen,
    /// A sync or close of this descriptor failed before: it is poisoned for ever (L-FS2).
    Poisoned,
    Failed,
}

/// `cannot OPERATION PATH: SOURCE`.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {}: {source}", path.display())]
pub struct Error {
    pub kind: ErrorKind,
    pub operation: &'static str,
    pub path: PathBuf,
    #[source]
    pub source: std::io::Error,
}

impl Error {
    pub fn new(operation: &'static str, path: &Path, source: std::io::Error) -> Self {
        Self { kind: kind_of(&source), operation, path: path.to_owned(), source }
    }

    pub fn is_not_found(&self) -> bool {
        self.kind == ErrorKind::NotFound
    }

    pub fn is_exists(&self) -> bool {
        self.kind == ErrorKind::Exists
    }

    /// Whether a user or operator can mend it by freeing space.
    pub fn is_full(&self) -> bool {
        matches!(self.kind, ErrorKind::NoSpace | ErrorKind::OverQuota)
    }
}

fn kind_of(error: &std::io::Error) -> ErrorKind {
    use nix::errno::Errno;
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT) => ErrorKind::NotFound,
        Some(Errno::EEXIST) => ErrorKind::Exists,
        Some(Errno::EACCES | Errno::EPERM) => ErrorKind::NotPermitted,
        Some(Errno::ENOSPC) => ErrorKind::NoSpace,
        Some(Errno::EDQUOT) => ErrorKind::OverQuota,
        Some(Errno::EROFS) => ErrorKind::ReadOnly,
        Some(Errno::ESTALE) => ErrorKind::Stale,
        Some(Errno::ENOTDIR) => ErrorKind::NotADirectory,
        Some(Errno::ENOTEMPTY) => ErrorKind::NotEmpty,
        Some(Errno::EMFILE | Errno::ENFILE) => ErrorKind::TooManyOpen,
        _ => ErrorKind::Failed,
    }
}
