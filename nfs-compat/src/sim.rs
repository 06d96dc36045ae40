//! A volume in memory that loses and tears, by seed, whatever was not synced when it crashes.
//!
//! Invariants
//! - Same seeds and same calls give the same bytes, names and errors.
//! - What a sync covered survives every crash (`fs.rs`); what it did not cover survives by luck only.
//! - Where `Fs` leaves something open, the simulator is unfriendly by seed: reads may be short, names come in any
//!   order, a write that fails leaves a part of itself behind.
//! - Time stands still until a test moves it.

mod client;
mod crash;
mod fault;
mod nfs;
mod world;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{RngExt, SeedableRng};

pub use client::{Old, SimClient};
pub use fault::{Call, Habit, Operation};
pub use nfs::{LookupCache, NfsClient, NfsOptions, NfsVersion};

use crate::replay;
use crate::{DirEntry, EntryKind, Error, ErrorKind, File, Fs, Metadata, Result, Space};
use fault::Verdict;
use world::{FileBytes, Inode, InodeNumber, Names, Node, World};

/// Where the clock of a new volume stands, in UNIX seconds.
pub const CLOCK_START_UNIX: u64 = 1_767_225_600;

/// A simulated volume. Clones are the same volume.
#[derive(Clone)]
pub struct SimFs {
    world: Arc<Mutex<World>>,
}

impl SimFs {
    /// An empty volume: its root, `/`, and nothing in it.
    pub fn new(seed: u64) -> Self {
        let start = UNIX_EPOCH + Duration::from_secs(CLOCK_START_UNIX);
        Self { world: Arc::new(Mutex::new(World::new(StdRng::seed_from_u64(seed), start))) }
    }

    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine stops and starts again. What was not synced is kept, lost or torn by `seed`; open files are gone
    /// (every call on them fails), and [`stop_after`](Self::stop_after) is over. The fault plan stays.
    pub fn crash(&self, seed: u64) {
        self.world().crash(seed);
    }

    /// The process ends and another starts: open files are gone and `stop_after` is over; nothing else is lost.
    pub fn restart(&self) {
        let mut world = self.world();
        world.boot += 1;
        world.faults.stop_after(None);
    }

    /// Calls so far that were not killed.
    pub fn operations(&self) -> u64 {
        self.world().faults.calls()
    }

    /// Lets `more` calls through and kills the process before the next: that call and all others fail, with an
    /// error that [`was_killed`](Self::was_killed) knows, until a crash or restart.
    pub fn stop_after(&self, more: u64) {
        self.world().faults.stop_after(Some(more));
    }

    /// Whether an error comes from [`stop_after`](Self::stop_after), or from a file opened before a crash.
    pub fn was_killed(error: &Error) -> bool {
        error.source.get_ref().is_some_and(|inner| inner.is::<Gone>())
    }

    /// Fails the `number`-th call of this operation from now on, counted from 1.
    pub fn fail(&self, operation: Operation, number: u64, kind: ErrorKind) {
        let mut seen = 0;
        self.fail_when(kind, move |call| {
            seen += u64::from(call.operation == operation);
            call.operation == operation && seen == number
        });
    }

    /// Fails every call that `predicate` says yes to. A failed sync poisons its descriptor and leaves its bytes in
    /// doubt; a failed write leaves a part of its bytes behind; other calls that fail change nothing.
    pub fn fail_when(&self, kind: ErrorKind, predicate: impl FnMut(&Call<'_>) -> bool + Send + 'static) {
        self.world().faults.add(Box::new(predicate), kind);
    }

    /// Forgets all planned faults.
    pub fn clear_faults(&self) {
        self.world().faults.clear();
    }

    /// Makes room for `bytes` more and no further, or for any number.
    pub fn full_after(&self, bytes: Option<u64>) {
        let mut world = self.world();
        world.capacity = bytes.map(|bytes| world.used_bytes().saturating_add(bytes));
    }

    /// Takes a bad habit up.
    pub fn take_up(&self, habit: Habit) {
        self.world().habits.insert(habit);
    }

    /// Gives all bad habits up.
    pub fn behave(&self) {
        self.world().habits.clear();
    }

    pub fn now(&self) -> SystemTime {
        self.world().now
    }

    pub fn set_now(&self, now: SystemTime) {
        self.world().now = now;
    }

    fn call<T>(
        &self,
        operation: Operation,
        path: &Path,
        act: impl FnOnce(&mut World) -> Result<T, Errno>,
    ) -> Result<T> {
        let mut world = self.world();
        world.step();
        let refused = match world.faults.judge(operation, path) {
            Verdict::Proceed => match act(&mut world) {
                Ok(value) => return Ok(value),
                Err(errno) => Refused::Errno(errno),
            },
            Verdict::Fail(kind) => Refused::Injected(kind),
            Verdict::Killed => Refused::Gone(Gone::Killed),
        };
        Err(refused.at(operation, path))
    }

    fn opened(&self, world: &World, path: &Path, inode: InodeNumber, writable: bool) -> Box<dyn File> {
        Box::new(SimFile {
            fs: self.clone(),
            path: path.to_owned(),
            inode,
            boot: world.boot,
            writable,
            poisoned: AtomicBool::new(false),
        })
    }

    fn open_as(&self, path: &Path, writable: bool) -> Result<Box<dyn File>> {
        self.call(Operation::Open, path, |world| {
            let inode = world.resolve(path)?;
            world.file(inode)?;
            Ok(self.opened(world, path, inode, writable))
        })
    }
}

impl Fs for SimFs {
    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        self.open_as(path, false)
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn File>> {
        self.open_as(path, true)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        self.call(Operation::Create, path, |world| {
            if world.has(Habit::LosesAnswers) {
                world.add(path, Node::File(FileBytes::default()))?;
            }
            let inode = world.add(path, Node::File(FileBytes::default()))?;
            Ok(self.opened(world, path, inode, true))
        })
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(Operation::Link, to, |world| {
            let answer = world.change(|world| world.link(from, to));
            replay::linked(answer, || world.resolve(from).is_ok_and(|file| world.resolve(to) == Ok(file)))
        })
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.call(Operation::Rename, from, |world| {
            let before = world.resolve(from).ok();
            let answer = world.change(|world| world.rename(from, to));
            replay::renamed(answer, before, || world.resolve(to).ok())
        })
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        self.call(Operation::Unlink, path, |world| {
            let was_there = world.resolve(path).is_ok();
            let answer = world.change(|world| world.remove(path, false));
            replay::removed(answer, was_there)
        })
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.call(Operation::CreateDir, path, |world| {
            world.add(path, Node::Directory(Names::default())).map(drop)
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.call(Operation::RemoveDir, path, |world| {
            let was_there = world.resolve(path).is_ok();
            let answer = world.change(|world| world.remove(path, true));
            replay::removed(answer, was_there)
        })
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        self.call(Operation::ReadDir, path, |world| {
            let names = world.names(world.resolve(path)?)?;
            let entry = |(name, inode): (&std::ffi::OsString, &InodeNumber)| {
                Ok(DirEntry { name: name.clone(), kind: kind(world.inode(*inode)?) })
            };
            let mut entries = names.live.iter().map(entry).collect::<Result<Vec<_>, Errno>>()?;
            entries.shuffle(&mut world.rng);
            Ok(entries)
        })
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        self.call(Operation::SyncDir, path, |world| {
            let directory = world.resolve(path)?;
            world.sync_names(directory)
        })
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        self.call(Operation::Metadata, path, |world| {
            let number = world.resolve(path)?;
            Ok(metadata(number, world.inode(number)?))
        })
    }

    fn directory(&self, path: &Path) -> Result<Metadata> {
        self.metadata(path)
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.call(Operation::Space, path, |world| {
            world.resolve(path)?;
            let total_bytes = world.capacity.unwrap_or(1 << 40);
            Ok(Space { available_bytes: total_bytes.saturating_sub(world.used_bytes()), total_bytes })
        })
    }

    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()> {
        self.call(Operation::SetModified, path, |world| {
            let inode = world.resolve(path)?;
            world.set_modified(inode, to)
        })
    }

    /// The volume itself is never behind; hosts are ([`SimClient`]).
    fn revalidate(&self, path: &Path) -> Result<()> {
        self.call(Operation::Metadata, path, |_| Ok(()))
    }
}

/// An open file of one boot.
struct SimFile {
    fs: SimFs,
    path: PathBuf,
    inode: InodeNumber,
    boot: u64,
    writable: bool,
    poisoned: AtomicBool,
}

impl SimFile {
    /// Carries a call out. When the plan fails it, `spoil` says what it leaves behind.
    fn call<T>(
        &self,
        operation: Operation,
        act: impl FnOnce(&mut World) -> Result<T, Errno>,
        spoil: impl FnOnce(&mut World),
    ) -> Result<T> {
        let mut world = self.fs.world();
        let refused = match world.faults.judge(operation, &self.path) {
            Verdict::Killed => Refused::Gone(Gone::Killed),
            Verdict::Proceed | Verdict::Fail(_) if self.boot != world.boot => Refused::Gone(Gone::Crashed),
            Verdict::Proceed | Verdict::Fail(_) if self.poisoned.load(Ordering::Acquire) => {
                return Err(crate::disk::poisoned(operation.verb(), &self.path));
            }
            Verdict::Proceed => match act(&mut world) {
                Ok(value) => return Ok(value),
                Err(errno) => Refused::Errno(errno),
            },
            Verdict::Fail(kind) => {
                spoil(&mut world);
                Refused::Injected(kind)
            }
        };
        Err(refused.at(operation, &self.path))
    }

    fn may_write(&self) -> Result<(), Errno> {
        if self.writable { Ok(()) } else { Err(Errno::EBADF) }
    }
}

impl File for SimFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> Result<usize> {
        let read = |world: &mut World| {
            let unlucky = buffer.len() > 1 && world.rng.random_bool(0.125);
            let most = if unlucky { world.rng.random_range(1..buffer.len()) } else { buffer.len() };
            let bytes = &world.file(self.inode)?.live;
            let start = usize::try_from(offset).unwrap_or(usize::MAX).min(bytes.len());
            let count = most.min(bytes.len() - start);
            buffer[..count].copy_from_slice(&bytes[start..start + count]);
            Ok(count)
        };
        self.call(Operation::Read, read, |_| {})
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        let write = |world: &mut World| {
            self.may_write()?;
            world.write(self.inode, bytes, offset)
        };
        let spoil = |world: &mut World| {
            let part = world.rng.random_range(0..=bytes.len());
            // What the part did not have room for is not there: that is what failing looks like, too.
            let _spoilt = world.write(self.inode, &bytes[..part], offset);
        };
        self.call(Operation::Write, write, spoil)
    }

    fn sync(&self) -> Result<()> {
        let spoil = |world: &mut World| {
            world.give_up(self.inode);
            self.poisoned.store(true, Ordering::Release);
        };
        self.call(Operation::Sync, |world| world.sync(self.inode), spoil)
    }

    fn allocate(&self, length: u64) -> Result<()> {
        let reserve = |world: &mut World| {
            self.may_write()?;
            world.reserve(self.inode, length)
        };
        self.call(Operation::Allocate, reserve, |_| {})
    }

    fn set_modified(&self, to: SystemTime) -> Result<()> {
        self.call(Operation::SetModified, |world| world.set_modified(self.inode, to), |_| {})
    }

    fn metadata(&self) -> Result<Metadata> {
        self.call(Operation::Metadata, |world| Ok(metadata(self.inode, world.inode(self.inode)?)), |_| {})
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

fn kind(inode: &Inode) -> EntryKind {
    match inode.node {
        Node::File(_) => EntryKind::File,
        Node::Directory(_) => EntryKind::Directory,
    }
}

fn metadata(number: InodeNumber, inode: &Inode) -> Metadata {
    let length = match &inode.node {
        Node::File(file) => file.live.len() as u64,
        Node::Directory(_) => 0,
    };
    Metadata { kind: kind(inode), length, modified: inode.modified, inode: number, links: inode.links }
}

/// The process that made this call does not exist any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
enum Gone {
    #[error("the simulated process was killed")]
    Killed,
    #[error("the file was opened before the simulated crash")]
    Crashed,
}

/// Why a call failed.
enum Refused {
    Errno(Errno),
    Injected(ErrorKind),
    Gone(Gone),
}

impl Refused {
    fn at(self, operation: Operation, path: &Path) -> Error {
        match self {
            Self::Errno(errno) => Error::new(operation.verb(), path, errno.into()),
            Self::Gone(gone) => Error::new(operation.verb(), path, io::Error::other(gone)),
            Self::Injected(ErrorKind::Poisoned) => crate::disk::poisoned(operation.verb(), path),
            Self::Injected(kind) => Error::new(operation.verb(), path, errno_of(kind).into()),
        }
    }
}

fn errno_of(kind: ErrorKind) -> Errno {
    match kind {
        ErrorKind::NotFound => Errno::ENOENT,
        ErrorKind::Exists => Errno::EEXIST,
        ErrorKind::NotPermitted => Errno::EACCES,
        ErrorKind::NoSpace => Errno::ENOSPC,
        ErrorKind::OverQuota => Errno::EDQUOT,
        ErrorKind::ReadOnly => Errno::EROFS,
        ErrorKind::Stale => Errno::ESTALE,
        ErrorKind::NotADirectory => Errno::ENOTDIR,
        ErrorKind::NotEmpty => Errno::ENOTEMPTY,
        ErrorKind::TooManyOpen => Errno::EMFILE,
        ErrorKind::Poisoned | ErrorKind::Failed => Errno::EIO,
    }
}
