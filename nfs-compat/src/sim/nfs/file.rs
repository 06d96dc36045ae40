//! An open file of a host: what it reads and writes are the host's pages.

use std::path::{Path, PathBuf};
use std::sync::MutexGuard;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use nix::errno::Errno;

use super::{Host, NfsClient, NfsVersion};
use crate::sim::fault::Operation;
use crate::sim::world::InodeNumber;
use crate::sim::{Gone, Refused};
use crate::{Error, File, Fs as _, Metadata, Result};

/// An open file of one boot of a host.
pub(super) struct NfsFile {
    pub(super) client: NfsClient,
    pub(super) path: PathBuf,
    pub(super) inode: InodeNumber,
    pub(super) boot: u64,
    pub(super) writable: bool,
    pub(super) poisoned: AtomicBool,
}

impl NfsFile {
    fn host(&self, operation: Operation) -> Result<MutexGuard<'_, Host>> {
        let host = self.client.host();
        if host.boot != self.boot {
            return Err(Refused::Gone(Gone::Crashed).at(operation, &self.path));
        }
        if self.poisoned.load(Ordering::Acquire) {
            return Err(crate::disk::poisoned(operation.verb(), &self.path));
        }
        Ok(host)
    }
}

impl File for NfsFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let mut host = self.host(Operation::Read)?;
        let bytes = &self.client.pages(&mut host, self.inode, &self.path)?.bytes;
        let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
        let count = buffer.len().min(bytes.len() - start);
        buffer[..count].copy_from_slice(&bytes[start..start + count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let failed = |errno: Errno| Error::new("write", &self.path, errno.into());
        if !self.writable {
            return Err(failed(Errno::EBADF));
        }
        let mut host = self.host(Operation::Write)?;
        let start = usize::try_from(offset).map_err(|_| failed(Errno::EFBIG))?;
        let end = start.checked_add(bytes.len()).ok_or_else(|| failed(Errno::EFBIG))?;
        let pages = self.client.pages(&mut host, self.inode, &self.path)?;
        if pages.bytes.len() < end {
            pages.bytes.resize(end, 0);
        }
        pages.bytes[start..end].copy_from_slice(bytes);
        pages.dirty.push(start..end);
        Ok(())
    }

    fn sync(&self) -> Result<()> {
        let mut host = self.host(Operation::Sync)?;
        self.client
            .flush(&mut host, self.inode, &self.path)
            .inspect_err(|_| self.poisoned.store(true, Ordering::Release))
    }

    /// NFS before 4.2 has none; an unsupported call is `Ok`.
    fn allocate(&self, _length: u64) -> Result<()> {
        self.host(Operation::Allocate).map(drop)
    }

    fn set_modified(&self, to: SystemTime) -> Result<()> {
        let mut host = self.host(Operation::SetModified)?;
        self.client.flush(&mut host, self.inode, &self.path)?;
        host.attributes.remove(&self.inode);
        self.client
            .rpc(&mut host, Operation::SetModified, &self.path, |world| world.set_modified(self.inode, to))
    }

    fn metadata(&self) -> Result<Metadata> {
        let mut host = self.host(Operation::Metadata)?;
        self.client.flush(&mut host, self.inode, &self.path)?;
        self.client.attributes(&mut host, self.inode, &self.path).map(|cached| cached.metadata)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for NfsFile {
    /// Closing writes back; what that runs into, nobody hears who has not synced.
    fn drop(&mut self) {
        let mut host = self.client.host();
        if host.boot != self.boot {
            return;
        }
        if !self.poisoned.load(Ordering::Acquire) {
            let _unheard = self.client.flush(&mut host, self.inode, &self.path);
        }
        if self.client.options.version == NfsVersion::V4 {
            self.client.volume.world().release(self.inode);
        }
        let opens = host.opens.entry(self.inode).or_default();
        *opens = opens.saturating_sub(1);
        if *opens == 0 {
            host.opens.remove(&self.inode);
            let silly = host.silly.remove(&self.inode);
            drop(host);
            if let Some(silly) = silly {
                let _unheard = self.client.unlink(&silly);
            }
        }
    }
}
