//! Message bytes on their way in: on stable storage before any owner hears of them.
//!
//! Invariants
//! - A [`Spooled`] names bytes that are synced, with the length, wire length and content id that it says.
//! - The spool lies on the volume of the mail, so that a message comes into a mailbox by a link: N recipients, one
//!   copy of the bytes.
//! - When the last `Spooled` of a file is dropped, its name is removed; what a crash left behind is swept at start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::ContentId;
use nfs_compat::Fs;

/// A message that waits to be put into mailboxes.
pub struct Spooled {
    pub(crate) fs: Arc<dyn Fs>,
    pub(crate) path: PathBuf,
    pub size: u64,
    pub wire_size: u64,
    pub content: ContentId,
}

impl Spooled {
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spooled({}, {} octets)", self.path.display(), self.size)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        // A name that cannot be removed now is swept at the next start.
        if let Err(error) = self.fs.unlink(&self.path) {
            tracing::debug!(%error, "spool file stays until the next start");
        }
    }
}
