//! Message bytes on their way in: on stable storage before any owner hears of them.
//!
//! Invariants
//! - A [`Spooled`] names bytes that are synced, with the length, wire length and content id that it says.
//! - The spool lies on the volume of the mail, so that a message comes into a mailbox by a link: N recipients, one
//!   copy of the bytes.
//! - When the last `Spooled` of a file is dropped, its name is removed; what a crash left behind is swept at start.
//! - A message up to [`MEMORY_MAX`] is written in one piece when it is complete; a longer one never stands in memory.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use message::wire;
use model::ContentId;
use nfs_compat::{Error, ErrorKind, File, Fs, Result};

/// Octets gathered in memory before the file is begun, and between writes.
pub const MEMORY_MAX: usize = 128 * 1024;

/// A message that waits to be put into mailboxes.
pub struct Spooled {
    fs: Arc<dyn Fs>,
    path: PathBuf,
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

/// The spool of one node. Other nodes on the volume have their own directory.
pub struct Spool {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    /// Makes names unique within this run; `run` makes them unique among runs.
    next: AtomicU64,
    run: u64,
}

impl Spool {
    /// Opens the spool of node `node` below the mail root, and removes what an earlier run left in it. `run` is a
    /// number that no earlier run had, such as its start time.
    pub fn open(fs: Arc<dyn Fs>, root: &Path, node: u8, run: u64) -> Result<Self> {
        let directory = crate::paths::spool(root).join(node.to_string());
        fs.create_dir_all(&directory)?;
        for entry in fs.read_dir(&directory)? {
            fs.unlink(&directory.join(entry.name))?;
        }
        Ok(Self { fs, directory, next: AtomicU64::new(0), run })
    }

    /// Begins a message.
    pub fn begin(&self) -> Incoming {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Incoming {
            fs: Arc::clone(&self.fs),
            path: self.directory.join(format!("{:x}-{number:x}", self.run)),
            file: None,
            written: 0,
            waiting: Vec::new(),
            measure: Measure::default(),
        }
    }
}

/// A message of which not all octets have come. Dropping it forgets it.
pub struct Incoming {
    fs: Arc<dyn Fs>,
    path: PathBuf,
    file: Option<Box<dyn File>>,
    written: u64,
    waiting: Vec<u8>,
    measure: Measure,
}

impl Incoming {
    /// Takes more octets. Touches the disk only every [`MEMORY_MAX`] octets.
    pub fn write(&mut self, octets: &[u8]) -> Result<()> {
        self.measure.feed(octets);
        self.waiting.extend_from_slice(octets);
        if self.waiting.len() >= MEMORY_MAX { self.flush() } else { Ok(()) }
    }

    /// Whether the next `write` of this many octets touches the disk.
    pub fn would_block(&self, octets: usize) -> bool {
        self.waiting.len() + octets >= MEMORY_MAX
    }

    pub fn size(&self) -> u64 {
        self.written + self.waiting.len() as u64
    }

    fn flush(&mut self) -> Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(self.fs.create(&self.path)?),
        };
        file.write_at(&self.waiting, self.written)?;
        self.written += self.waiting.len() as u64;
        self.waiting.clear();
        Ok(())
    }

    /// Syncs. The bytes are durable when this returns; their name is the owner's to make so.
    pub fn finish(mut self) -> Result<Spooled> {
        self.flush()?;
        let file = self.file.take().ok_or_else(|| unfinished(&self.path))?;
        file.sync()?;
        let (size, wire_size, content) = std::mem::take(&mut self.measure).finish();
        debug_assert_eq!(size, self.written);
        let path = std::mem::take(&mut self.path);
        Ok(Spooled { fs: Arc::clone(&self.fs), path, size, wire_size, content })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.file.is_some()
            && let Err(error) = self.fs.unlink(&self.path)
        {
            tracing::debug!(%error, "spool file stays until the next start");
        }
    }
}

fn unfinished(path: &Path) -> Error {
    let source = std::io::Error::other("no file after a flush");
    Error { kind: ErrorKind::Failed, operation: "finish", path: path.to_owned(), source }
}

/// Size, wire size and content id of octets that come in pieces.
#[derive(Default)]
pub struct Measure {
    size: u64,
    wire: wire::Counter,
    hasher: Hasher,
}

/// BLAKE3 with `Default`.
#[derive(Default)]
struct Hasher(blake3::Hasher);

impl Measure {
    pub fn feed(&mut self, octets: &[u8]) {
        self.size += octets.len() as u64;
        self.wire.push(octets);
        self.hasher.0.update(octets);
    }

    pub fn finish(self) -> (u64, u64, ContentId) {
        (self.size, self.wire.size(), ContentId::from_bytes(*self.hasher.0.finalize().as_bytes()))
    }
}
