//! Message bytes on their way in: on stable storage before any owner hears of them.
//!
//! Invariants
//! - A [`Spooled`] names bytes that are synced, with the length, wire length and content id that it says.
//! - The spool lies on the volume of the mail, so that a message comes into a mailbox by a link: N recipients, one
//!   copy of the bytes.
//! - When the last `Spooled` of a file is dropped, its name is removed; what a crash left behind is swept at start. One
//!   in another node's spool is that node's to remove.
//! - A message up to [`MEMORY_MAX`] is written in one piece when it is complete; a longer one never stands in memory.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};

use message::wire;
use model::ContentId;
use nfs_compat::{Error, ErrorKind, File, Fs, Result};

/// Octets gathered in memory before the file is begun, and between writes.
pub const MEMORY_MAX: usize = 128 * 1024;

/// A message that waits to be put into mailboxes.
pub struct Spooled {
    path: PathBuf,
    /// `None`: the name is not ours to remove.
    removal: Option<Removal>,
    pub size: u64,
    pub wire_size: u64,
    pub content: ContentId,
}

impl Spooled {
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name in its node's spool.
    pub fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
    }
}

impl std::fmt::Debug for Spooled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Spooled({}, {} octets)", self.path.display(), self.size)
    }
}

impl Drop for Spooled {
    fn drop(&mut self) {
        if let Some(removal) = self.removal.take() {
            removal.remove(std::mem::take(&mut self.path));
        }
    }
}

/// How names go that nobody needs any more. One that stays is swept at the next start.
#[derive(Clone)]
enum Removal {
    /// By whoever drops the last use.
    AtOnce(Arc<dyn Fs>),
    /// By a thread that may wait for the disk.
    Elsewhere(mpsc::Sender<PathBuf>),
}

impl Removal {
    fn remove(self, path: PathBuf) {
        match self {
            Self::AtOnce(fs) => remove(&*fs, &path),
            // Without the thread the name stays.
            Self::Elsewhere(remover) => drop(remover.send(path)),
        }
    }
}

fn remove(fs: &dyn Fs, path: &Path) {
    if let Err(error) = fs.unlink(path) {
        tracing::debug!(%error, "spool file stays until the next start");
    }
}

/// Removes what nobody needs any more, on a thread of its own: messages are dropped where nobody may wait for a disk.
pub struct Remover {
    fs: Arc<dyn Fs>,
    names: mpsc::Receiver<PathBuf>,
}

impl Remover {
    /// Returns when the spool and all its messages are gone.
    pub fn run(self) {
        while let Ok(path) = self.names.recv() {
            remove(&*self.fs, &path);
        }
    }
}

/// The spool of one node. Other nodes on the volume have their own directory.
pub struct Spool {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    removal: Removal,
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
        let removal = Removal::AtOnce(Arc::clone(&fs));
        Ok(Self { fs, directory, removal, next: AtomicU64::new(0), run })
    }

    /// From now on names are removed by the remover alone.
    pub fn remover(&mut self) -> Remover {
        let (sender, names) = mpsc::channel();
        self.removal = Removal::Elsewhere(sender);
        Remover { fs: Arc::clone(&self.fs), names }
    }

    /// A message that another node of the site has in its spool, and keeps until it hears what became of it. Nothing is
    /// looked at: `name` is new to this node, so its host believes nothing of it that could be old (L-FN3).
    pub fn of_other(&self, node: u8, name: &str, size: u64, wire_size: u64, content: ContentId) -> Spooled {
        let mut path = self.directory.clone();
        path.set_file_name(node.to_string());
        path.push(name);
        Spooled { removal: None, path, size, wire_size, content }
    }

    /// Begins a message.
    pub fn begin(&self) -> Incoming {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        Incoming {
            fs: Arc::clone(&self.fs),
            removal: self.removal.clone(),
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
    removal: Removal,
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
        Ok(Spooled { removal: Some(self.removal.clone()), path, size, wire_size, content })
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        if self.file.is_some() {
            self.removal.clone().remove(std::mem::take(&mut self.path));
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

#[cfg(test)]
mod tests {
    use nfs_compat::DiskFs;

    use super::*;

    fn spools() -> (tempfile::TempDir, Arc<dyn Fs>, Spool, Spool) {
        let dir = tempfile::tempdir().unwrap();
        let fs: Arc<dyn Fs> = Arc::new(DiskFs::new());
        let [one, two] = [1, 2].map(|node| Spool::open(Arc::clone(&fs), dir.path(), node, 0x5f).unwrap());
        (dir, fs, one, two)
    }

    fn spooled(spool: &Spool) -> Spooled {
        let mut incoming = spool.begin();
        incoming.write(b"Subject: x\r\n\r\nhi\r\n").unwrap();
        incoming.finish().unwrap()
    }

    #[test]
    fn a_message_of_another_node_is_found_by_its_name_and_stays_that_nodes() {
        let (_dir, fs, edge, owner) = spools();
        let ours = spooled(&edge);
        let theirs = owner.of_other(1, ours.name(), ours.size, ours.wire_size, ours.content);
        assert_eq!(theirs.path(), ours.path());
        drop(theirs);
        assert!(fs.exists(ours.path()).unwrap());
    }

    #[test]
    fn what_nobody_needs_any_more_is_removed_by_the_remover() {
        let (_dir, fs, mut spool, _) = spools();
        let remover = spool.remover();
        let (message, begun) = (spooled(&spool), spool.begin());
        let path = message.path().to_owned();
        drop((message, begun, spool));
        assert!(fs.exists(&path).unwrap());
        remover.run();
        assert!(!fs.exists(&path).unwrap());
    }
}
