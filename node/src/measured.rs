//! A filesystem that counts what it is asked to do, and how long syncs take.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use nfs_compat::{DirEntry, File, Fs, Metadata, Result, Space};

use crate::metrics::Metrics;
use crate::time;

/// [`Fs`] with the metrics `roost_fs_…`.
pub struct Measured {
    fs: Arc<dyn Fs>,
    /// What the metrics call it.
    volume: &'static str,
    metrics: Arc<Metrics>,
}

impl Measured {
    pub fn new(fs: Arc<dyn Fs>, volume: &'static str, metrics: Arc<Metrics>) -> Self {
        Self { fs, volume, metrics }
    }

    fn file(&self, file: Box<dyn File>) -> Box<dyn File> {
        Box::new(MeasuredFile { file, volume: self.volume, metrics: Arc::clone(&self.metrics) })
    }

    fn count(&self, operation: &'static str) {
        self.metrics.fs(self.volume, operation, None);
    }
}

impl Fs for Measured {
    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        self.count("open");
        self.fs.open(path).map(|file| self.file(file))
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn File>> {
        self.count("open");
        self.fs.open_write(path).map(|file| self.file(file))
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        self.count("create");
        self.fs.create(path).map(|file| self.file(file))
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.count("link");
        self.fs.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.count("rename");
        self.fs.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        self.count("unlink");
        self.fs.unlink(path)
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.count("mkdir");
        self.fs.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.count("rmdir");
        self.fs.remove_dir(path)
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.count("readdir");
        self.fs.read_dir(path)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let start = time::now();
        let synced = self.fs.sync_dir(path);
        self.metrics.fs(self.volume, "sync_dir", Some(start.elapsed()));
        synced
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        self.count("stat");
        self.fs.metadata(path)
    }

    fn directory(&self, path: &Path) -> Result<Metadata> {
        self.count("stat");
        self.fs.directory(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.count("statfs");
        self.fs.space(path)
    }

    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()> {
        self.count("utimes");
        self.fs.set_modified(path, to)
    }

    fn revalidate(&self, path: &Path) -> Result<()> {
        self.count("revalidate");
        self.fs.revalidate(path)
    }
}

struct MeasuredFile {
    file: Box<dyn File>,
    volume: &'static str,
    metrics: Arc<Metrics>,
}

impl File for MeasuredFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        self.metrics.fs(self.volume, "read", None);
        self.file.read_at(buffer, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.metrics.fs(self.volume, "write", None);
        self.file.write_at(bytes, offset)
    }

    fn sync(&self) -> Result<()> {
        let start = time::now();
        let synced = self.file.sync();
        self.metrics.fs(self.volume, "sync", Some(start.elapsed()));
        synced
    }

    fn allocate(&self, length: u64) -> Result<()> {
        self.metrics.fs(self.volume, "allocate", None);
        self.file.allocate(length)
    }

    fn set_modified(&self, to: SystemTime) -> Result<()> {
        self.metrics.fs(self.volume, "utimes", None);
        self.file.set_modified(to)
    }

    fn metadata(&self) -> Result<Metadata> {
        self.metrics.fs(self.volume, "stat", None);
        self.file.metadata()
    }

    fn path(&self) -> &Path {
        self.file.path()
    }
}
