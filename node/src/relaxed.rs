//! `mail.durability = "relaxed"`: a filesystem that promises nothing.
//!
//! What was acknowledged may be lost with the machine (never with the process). For stores that can be made again.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use nfs_compat::{DirEntry, File, Fs, Metadata, Result, Space};

/// [`Fs`] whose syncs return at once.
pub struct Relaxed(Arc<dyn Fs>);

impl Relaxed {
    pub fn new(fs: Arc<dyn Fs>) -> Self {
        tracing::warn!("mail.durability is relaxed: acknowledged mail may be lost with the machine");
        Self(fs)
    }
}

impl Fs for Relaxed {
    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        self.0.open(path)
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn File>> {
        Ok(Box::new(RelaxedFile(self.0.open_write(path)?)))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        Ok(Box::new(RelaxedFile(self.0.create(path)?)))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        self.0.unlink(path)
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.0.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.0.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.0.read_dir(path)
    }

    fn sync_dir(&self, _: &Path) -> Result<()> {
        Ok(())
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        self.0.metadata(path)
    }

    fn directory(&self, path: &Path) -> Result<Metadata> {
        self.0.directory(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.0.space(path)
    }

    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()> {
        self.0.set_modified(path, to)
    }

    fn revalidate(&self, path: &Path) -> Result<()> {
        self.0.revalidate(path)
    }
}

struct RelaxedFile(Box<dyn File>);

impl File for RelaxedFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.0.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.0.write_at(bytes, offset)
    }

    fn sync(&self) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, length: u64) -> Result<()> {
        self.0.allocate(length)
    }

    fn set_modified(&self, to: SystemTime) -> Result<()> {
        self.0.set_modified(to)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.0.metadata()
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}
