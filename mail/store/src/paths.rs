//! The only place that builds a path inside an account or at the root of the mail.
//!
//! ```text
//! ROOT/.roost/spool/          messages on their way in
//! ROOT/.roost/volume          the volume's superblock
//! HOME/Maildir/               the store (or HOME itself, where it is a Maildir)
//! HOME/.roost/j/              journal segments
//! HOME/.roost/c/              checkpoints
//! HOME/.roost/hold/           bytes that left their mailbox, until nobody can be reading them
//! ```

use std::path::{Path, PathBuf};

use nfs_compat::{Fs, Result};

/// Paths of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Home {
    home: PathBuf,
    store: PathBuf,
}

impl Home {
    /// Recognises an account at `home`: a Maildir in it, or a Maildir itself; else a place for a new one.
    pub fn recognise(fs: &dyn Fs, home: &Path) -> Result<Self> {
        let inner = home.join("Maildir");
        let itself = !fs.exists(&inner)? && fs.exists(&home.join("cur"))?;
        let store = if itself { home.to_owned() } else { inner };
        Ok(Self { home: home.to_owned(), store })
    }

    pub fn home(&self) -> &Path {
        &self.home
    }

    pub fn maildir(&self) -> &Path {
        &self.store
    }

    pub fn journal(&self) -> PathBuf {
        self.ours().join("j")
    }

    pub fn checkpoints(&self) -> PathBuf {
        self.ours().join("c")
    }

    pub fn hold(&self) -> PathBuf {
        self.ours().join("hold")
    }

    /// Where what cannot be read any more is put aside, never deleted.
    pub fn aside(&self) -> PathBuf {
        self.ours().join("aside")
    }

    fn ours(&self) -> PathBuf {
        self.home.join(".roost")
    }
}

/// Paths of a volume.
pub fn spool(root: &Path) -> PathBuf {
    root.join(".roost").join("spool")
}

pub fn superblock(root: &Path) -> PathBuf {
    root.join(".roost").join("volume")
}
