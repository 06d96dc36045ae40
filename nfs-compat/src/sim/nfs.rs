//! A host that mounts a simulated volume over NFS, with the caches of a Linux client (measured on 6.1; `calibration.rs`
//! has a test for each behaviour).
//!
//! Invariants
//! - What a host believes is what the server once said, and no older than its attribute timers allow; but a change that
//!   leaves the stamp alone (NFS 3: time in ticks, and length) is not seen until the pages are dropped.
//! - Opening a file or a directory asks the server (close-to-open); looking up a name that was missing does not.
//! - Writes stay on the host until the file is synced or closed, or the kernel feels like it ([`NfsClient::write_back`]).
//! - The export is `sync`: what the server answers is durable, unless it has a [`Habit`](super::Habit).
//! - What the host changes itself, it sees.

mod file;
mod options;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Component, Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;

use file::NfsFile;
pub use options::{LookupCache, NfsOptions, NfsVersion};

use super::fault::Operation;
use super::world::{FileBytes, Inode, InodeNumber, Names, Node, ROOT, World};
use super::{SimFs, kind, metadata};
use crate::{DirEntry, EntryKind, Error, ErrorKind, File, Fs, Metadata, Result, Space, replay};

/// In which a server stamps changes; two within one have the same time.
const TICK: Duration = Duration::from_millis(10);

/// By what a host tells that something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    change: u64,
    length: u64,
}

#[derive(Clone, Copy)]
struct Cached {
    metadata: Metadata,
    stamp: Stamp,
    at: SystemTime,
    timeout: Duration,
}

/// What a name stood for, and how its directory was stamped then.
#[derive(Clone, Copy)]
struct Dentry {
    inode: Option<InodeNumber>,
    under: Stamp,
}

struct Pages {
    under: Stamp,
    bytes: Vec<u8>,
    dirty: Vec<Range<usize>>,
}

#[derive(Default)]
struct Host {
    boot: u64,
    attributes: BTreeMap<InodeNumber, Cached>,
    names: BTreeMap<(InodeNumber, OsString), Dentry>,
    listings: BTreeMap<InodeNumber, (Stamp, Vec<DirEntry>)>,
    pages: BTreeMap<InodeNumber, Pages>,
    opens: BTreeMap<InodeNumber, u32>,
    /// Removed while open: where the name is that goes with the last descriptor.
    silly: BTreeMap<InodeNumber, PathBuf>,
    /// An exclusive create whose attributes were not set yet.
    created: Option<InodeNumber>,
}

/// A host. Clones are the same one.
#[derive(Clone)]
pub struct NfsClient {
    volume: SimFs,
    options: NfsOptions,
    /// Tells its requests from those of other hosts.
    identity: u64,
    host: Arc<Mutex<Host>>,
}

impl NfsClient {
    pub fn mount(volume: &SimFs, options: NfsOptions) -> Self {
        let identity = {
            let mut world = volume.world();
            world.hosts += 1;
            if options.boots_alike { 0 } else { world.hosts }
        };
        Self { volume: volume.clone(), options, identity, host: Arc::default() }
    }

    /// The host stops and starts: what it had not written back is gone, and so are its files and beliefs.
    pub fn reboot(&self) {
        let mut host = self.host();
        *host = Host { boot: host.boot + 1, ..Host::default() };
    }

    /// The kernel writes back what lies on the host, whenever it likes: also long after the process was paused.
    pub fn write_back(&self) -> Result<()> {
        let mut host = self.host();
        let dirty: Vec<_> =
            host.pages.iter().filter(|(_, pages)| !pages.dirty.is_empty()).map(|(inode, _)| *inode).collect();
        dirty.into_iter().try_for_each(|inode| self.flush(&mut host, inode, Path::new("")))
    }

    /// Lists a directory through a descriptor that is held open: NFS 3 goes by the attributes that it has.
    pub fn list_held(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let mut host = self.host();
        let directory = self.walk(&mut host, path)?;
        self.list(&mut host, directory, path, self.options.version == NfsVersion::V4)
    }

    fn host(&self) -> MutexGuard<'_, Host> {
        self.host.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A request to the server.
    fn rpc<T>(
        &self,
        host: &mut Host,
        operation: Operation,
        path: &Path,
        act: impl FnOnce(&mut World) -> Result<T, Errno>,
    ) -> Result<T> {
        let created = host.created.take();
        self.volume.call(operation, path, |world| {
            if let Some(inode) = created {
                world.verifiers.remove(&inode);
            }
            act(world)
        })
    }

    fn stamp(&self, inode: &Inode) -> Stamp {
        let length = match &inode.node {
            Node::File(file) => file.live.len() as u64,
            Node::Directory(_) => 0,
        };
        let change = match self.options.version {
            NfsVersion::V4 => inode.change,
            NfsVersion::V3 => {
                let since = inode.modified.duration_since(UNIX_EPOCH).unwrap_or_default();
                u64::try_from(since.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX)
            }
        };
        Stamp { change, length }
    }

    /// What the server says of a file handle. Once the last name is gone it is good for nothing, unless an NFS 4 host has
    /// the file open.
    fn attributes_there(&self, world: &World, number: InodeNumber) -> Result<(Metadata, Stamp), Errno> {
        let inode = world.inode(number)?;
        let is_held = self.options.version == NfsVersion::V4 && world.held.contains_key(&number);
        if inode.links == 0 && !is_held {
            return Err(Errno::ESTALE);
        }
        Ok((metadata(number, inode), self.stamp(inode)))
    }

    fn ask(&self, host: &mut Host, number: InodeNumber, path: &Path) -> Result<Cached> {
        let asked = self.rpc(host, Operation::Metadata, path, |world| {
            Ok((self.attributes_there(world, number)?, world.now))
        });
        match asked {
            Ok(((metadata, stamp), now)) => Ok(self.learn(host, number, metadata, stamp, now)),
            Err(error) => {
                if error.kind == ErrorKind::Stale {
                    host.attributes.remove(&number);
                    host.names.retain(|_, dentry| dentry.inode != Some(number));
                }
                Err(error)
            }
        }
    }

    /// Attributes that do not change are believed for longer and longer.
    fn learn(
        &self,
        host: &mut Host,
        number: InodeNumber,
        metadata: Metadata,
        stamp: Stamp,
        now: SystemTime,
    ) -> Cached {
        let (least, most) = match metadata.kind {
            EntryKind::Directory => self.options.directories,
            EntryKind::File | EntryKind::Other => self.options.files,
        };
        let timeout = match host.attributes.get(&number) {
            Some(before) if before.stamp == stamp && now >= before.at + before.timeout => {
                (before.timeout * 2).min(most)
            }
            Some(before) if before.stamp == stamp => before.timeout,
            Some(_) | None => least,
        };
        let cached = Cached { metadata, stamp, at: now, timeout };
        host.attributes.insert(number, cached);
        cached
    }

    /// Attributes as the host goes by them.
    fn attributes(&self, host: &mut Host, number: InodeNumber, path: &Path) -> Result<Cached> {
        let now = self.volume.now();
        match host.attributes.get(&number) {
            Some(cached) if now < cached.at + cached.timeout => Ok(*cached),
            Some(_) | None => self.ask(host, number, path),
        }
    }

    /// What a name stands for, as the host goes by it.
    fn lookup(
        &self,
        host: &mut Host,
        directory: InodeNumber,
        name: &OsString,
        path: &Path,
    ) -> Result<Option<InodeNumber>> {
        let under = self.attributes(host, directory, path)?.stamp;
        if let Some(dentry) =
            host.names.get(&(directory, name.clone())).filter(|dentry| dentry.under == under)
        {
            let is_believed = match self.options.lookup_cache {
                LookupCache::All => true,
                LookupCache::Positive => dentry.inode.is_some(),
                LookupCache::None => false,
            };
            if is_believed {
                return Ok(dentry.inode);
            }
        }
        self.lookup_there(host, directory, name, path)
    }

    fn lookup_there(
        &self,
        host: &mut Host,
        directory: InodeNumber,
        name: &OsString,
        path: &Path,
    ) -> Result<Option<InodeNumber>> {
        let (inode, (metadata, stamp), now) = self.rpc(host, Operation::Metadata, path, |world| {
            let inode = world.names(directory)?.live.get(name).copied();
            Ok((inode, self.attributes_there(world, directory)?, world.now))
        })?;
        self.learn(host, directory, metadata, stamp, now);
        host.names.insert((directory, name.clone()), Dentry { inode, under: stamp });
        Ok(inode)
    }

    fn walk(&self, host: &mut Host, path: &Path) -> Result<InodeNumber> {
        let refused = |errno: Errno| Error::new("look up", path, errno.into());
        let mut at = ROOT;
        for component in path.components() {
            at = match component {
                Component::RootDir | Component::CurDir => at,
                Component::Normal(name) => {
                    let found = self.lookup(host, at, &name.to_owned(), path)?;
                    found.ok_or_else(|| refused(Errno::ENOENT))?
                }
                Component::ParentDir | Component::Prefix(_) => return Err(refused(Errno::EINVAL)),
            };
        }
        Ok(at)
    }

    /// The directory of a path, and the name in it.
    fn slot(&self, host: &mut Host, path: &Path) -> Result<(InodeNumber, OsString)> {
        let name = path.file_name().ok_or_else(|| Error::new("look up", path, Errno::EINVAL.into()))?;
        let directory = self.walk(host, path.parent().unwrap_or(Path::new("/")))?;
        Ok((directory, name.to_owned()))
    }

    /// Changes names at the server, durably, and brings what the host believes of the directories up to date. Names that
    /// it knew stay known if nobody else changed the directory in between.
    fn change(
        &self,
        operation: Operation,
        paths: &[&Path],
        act: impl FnOnce(&mut World) -> Result<(), Errno>,
    ) -> Result<()> {
        let mut host = self.host();
        let first = paths.first().copied().unwrap_or(Path::new("/"));
        let slots = paths.iter().map(|path| self.slot(&mut host, path)).collect::<Result<Vec<_>>>()?;
        let learnt = self.rpc(&mut host, operation, first, |world| {
            let mut before = Vec::new();
            for (directory, _) in &slots {
                before.push(self.attributes_there(world, *directory)?.1);
            }
            act(world)?;
            let mut learnt = Vec::new();
            for ((directory, name), before) in slots.iter().zip(before) {
                world.sync_names(*directory)?;
                let (metadata, stamp) = self.attributes_there(world, *directory)?;
                let inode = world.names(*directory)?.live.get(name).copied();
                learnt.push((before, metadata, stamp, inode, world.now));
            }
            Ok(learnt)
        });
        let learnt = learnt.inspect_err(|_| {
            // What the names stand for now is to be asked.
            for slot in &slots {
                host.names.remove(slot);
            }
        })?;
        for ((directory, name), (before, metadata, stamp, inode, now)) in slots.into_iter().zip(learnt) {
            for ((at, _), dentry) in &mut host.names {
                if *at == directory && dentry.under == before {
                    dentry.under = stamp;
                }
            }
            self.learn(&mut host, directory, metadata, stamp, now);
            host.names.insert((directory, name), Dentry { inode, under: stamp });
            if let Some(inode) = inode {
                // Links and times came along with the answer.
                host.attributes.remove(&inode);
            }
        }
        Ok(())
    }

    fn open_as(&self, path: &Path, writable: bool) -> Result<Box<dyn File>> {
        let mut host = self.host();
        let (directory, name) = self.slot(&mut host, path)?;
        let missing = || Error::new("open", path, Errno::ENOENT.into());
        let mut inode = self.lookup(&mut host, directory, &name, path)?.ok_or_else(missing)?;
        if self.options.version == NfsVersion::V4 {
            inode = self.lookup_there(&mut host, directory, &name, path)?.ok_or_else(missing)?;
        }
        // Close-to-open. A handle that is stale is looked up again by its name.
        let cached = match self.ask(&mut host, inode, path) {
            Err(error) if error.kind == ErrorKind::Stale => {
                inode = self.lookup_there(&mut host, directory, &name, path)?.ok_or_else(missing)?;
                self.ask(&mut host, inode, path)?
            }
            asked => asked?,
        };
        if cached.metadata.kind == EntryKind::Directory && writable {
            return Err(Error::new("open", path, Errno::EISDIR.into()));
        }
        self.opened(&mut host, path, inode, writable)
    }

    fn opened(
        &self,
        host: &mut Host,
        path: &Path,
        inode: InodeNumber,
        writable: bool,
    ) -> Result<Box<dyn File>> {
        self.rpc(host, Operation::Open, path, |world| {
            world.file(inode)?;
            if self.options.version == NfsVersion::V4 {
                *world.held.entry(inode).or_default() += 1;
            }
            Ok(())
        })?;
        *host.opens.entry(inode).or_default() += 1;
        Ok(Box::new(NfsFile {
            client: self.clone(),
            path: path.to_owned(),
            inode,
            boot: host.boot,
            writable,
            poisoned: AtomicBool::new(false),
        }))
    }

    /// The pages of a file, fetched unless those that the host has are of these attributes, or hold unwritten bytes.
    fn pages<'a>(&self, host: &'a mut Host, inode: InodeNumber, path: &Path) -> Result<&'a mut Pages> {
        let stamp = self.attributes(host, inode, path)?.stamp;
        let are_good =
            host.pages.get(&inode).is_some_and(|pages| pages.under == stamp || !pages.dirty.is_empty());
        if !are_good {
            let (bytes, (metadata, under), now) = self.rpc(host, Operation::Read, path, |world| {
                let attributes = self.attributes_there(world, inode)?;
                Ok((world.file(inode)?.live.clone(), attributes, world.now))
            })?;
            self.learn(host, inode, metadata, under, now);
            host.pages.insert(inode, Pages { under, bytes, dirty: Vec::new() });
        }
        host.pages.get_mut(&inode).ok_or_else(|| Error::new("read", path, Errno::EIO.into()))
    }

    /// Sends what lies on the host to the server, and has it made durable.
    fn flush(&self, host: &mut Host, inode: InodeNumber, path: &Path) -> Result<()> {
        let Some(pages) = host.pages.get_mut(&inode) else { return Ok(()) };
        let dirty = std::mem::take(&mut pages.dirty);
        if dirty.is_empty() {
            return Ok(());
        }
        let (bytes, under) = (pages.bytes.clone(), pages.under);
        let flushed = self.rpc(host, Operation::Sync, path, |world| {
            let (_, before) = self.attributes_there(world, inode)?;
            for range in dirty {
                world.write(inode, &bytes[range.clone()], range.start as u64)?;
            }
            world.sync(inode)?;
            Ok((before, self.attributes_there(world, inode)?, world.now))
        });
        match flushed {
            Ok((before, (metadata, stamp), now)) => {
                self.learn(host, inode, metadata, stamp, now);
                if before == under {
                    if let Some(pages) = host.pages.get_mut(&inode) {
                        pages.under = stamp;
                    }
                } else {
                    // Somebody else has written, too.
                    host.pages.remove(&inode);
                }
                Ok(())
            }
            Err(error) => {
                // The kernel takes what it could not write for clean (L-FS2).
                host.pages.remove(&inode);
                Err(error)
            }
        }
    }

    fn list(
        &self,
        host: &mut Host,
        directory: InodeNumber,
        path: &Path,
        anew: bool,
    ) -> Result<Vec<DirEntry>> {
        let stamp = if anew {
            self.ask(host, directory, path)?.stamp
        } else {
            self.attributes(host, directory, path)?.stamp
        };
        if let Some((_, entries)) = host.listings.get(&directory).filter(|(under, _)| *under == stamp) {
            return Ok(entries.clone());
        }
        let (entries, (metadata, stamp), now) = self.rpc(host, Operation::ReadDir, path, |world| {
            let names = &world.names(directory)?.live;
            let entry = |(name, inode): (&OsString, &InodeNumber)| {
                Ok(DirEntry { name: name.clone(), kind: kind(world.inode(*inode)?) })
            };
            let entries = names.iter().map(entry).collect::<Result<Vec<_>, Errno>>()?;
            Ok((entries, self.attributes_there(world, directory)?, world.now))
        })?;
        self.learn(host, directory, metadata, stamp, now);
        let entries: Vec<_> =
            entries.into_iter().filter(|entry| !crate::disk::is_silly(&entry.name)).collect();
        host.listings.insert(directory, (stamp, entries.clone()));
        Ok(entries)
    }

    /// A file that this host has open keeps a name until it is closed.
    fn silly_name(&self, path: &Path) -> Result<Option<(InodeNumber, PathBuf)>> {
        let mut host = self.host();
        let (directory, name) = self.slot(&mut host, path)?;
        let Some(inode) = self.lookup_there(&mut host, directory, &name, path)? else { return Ok(None) };
        if !host.opens.contains_key(&inode) || host.silly.contains_key(&inode) {
            return Ok(None);
        }
        let silly = path.with_file_name(format!(".nfs{inode:016x}{:08x}", self.identity));
        host.silly.insert(inode, silly.clone());
        Ok(Some((inode, silly)))
    }
}

impl Fs for NfsClient {
    fn open(&self, path: &Path) -> Result<Box<dyn File>> {
        self.open_as(path, false)
    }

    fn open_write(&self, path: &Path) -> Result<Box<dyn File>> {
        self.open_as(path, true)
    }

    fn create(&self, path: &Path) -> Result<Box<dyn File>> {
        let is_old = self.options.version == NfsVersion::V3;
        self.change(Operation::Create, &[path], |world| {
            let made = world.change(|world| world.add(path, Node::File(FileBytes::default())).map(drop));
            match made {
                Ok(()) if is_old => {
                    let inode = world.resolve(path)?;
                    world.verifiers.insert(inode, self.identity);
                    Ok(())
                }
                // The server takes it for the same request, sent again.
                Err(Errno::EEXIST) if is_old => {
                    let inode = world.resolve(path)?;
                    let is_same = world.verifiers.get(&inode) == Some(&self.identity);
                    if is_same { Ok(()) } else { Err(Errno::EEXIST) }
                }
                answer => answer,
            }
        })?;
        let mut host = self.host();
        let (directory, name) = self.slot(&mut host, path)?;
        let dentry = host.names.get(&(directory, name)).and_then(|dentry| dentry.inode);
        let inode = dentry.ok_or_else(|| Error::new("create", path, Errno::ESTALE.into()))?;
        let file = self.opened(&mut host, path, inode, true)?;
        host.created = is_old.then_some(inode);
        Ok(file)
    }

    fn link(&self, from: &Path, to: &Path) -> Result<()> {
        self.change(Operation::Link, &[to], |world| {
            let answer = world.change(|world| world.link(from, to));
            replay::linked(answer, || world.resolve(from).is_ok_and(|file| world.resolve(to) == Ok(file)))
        })?;
        let mut host = self.host();
        if let Ok(inode) = self.walk(&mut host, from) {
            host.attributes.remove(&inode);
        }
        Ok(())
    }

    fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.change(Operation::Rename, &[from, to], |world| {
            let before = world.resolve(from).ok();
            let answer = world.change(|world| world.rename(from, to));
            replay::renamed(answer, before, || world.resolve(to).ok())
        })
    }

    fn unlink(&self, path: &Path) -> Result<()> {
        if let Some((inode, silly)) = self.silly_name(path)? {
            let renamed = self.rename(path, &silly);
            if renamed.is_err() {
                self.host().silly.remove(&inode);
            }
            return renamed;
        }
        self.change(Operation::Unlink, &[path], |world| {
            let was_there = world.resolve(path).is_ok();
            let answer = world.change(|world| world.remove(path, false));
            replay::removed(answer, was_there)
        })
    }

    fn create_dir(&self, path: &Path) -> Result<()> {
        self.change(Operation::CreateDir, &[path], |world| {
            world.change(|world| world.add(path, Node::Directory(Names::default())).map(drop))
        })
    }

    fn remove_dir(&self, path: &Path) -> Result<()> {
        self.change(Operation::RemoveDir, &[path], |world| {
            let was_there = world.resolve(path).is_ok();
            let answer = world.change(|world| world.remove(path, true));
            replay::removed(answer, was_there)
        })
    }

    fn read_dir(&self, path: &Path) -> Result<Vec<DirEntry>> {
        let mut host = self.host();
        let directory = self.walk(&mut host, path)?;
        self.list(&mut host, directory, path, true)
    }

    fn sync_dir(&self, path: &Path) -> Result<()> {
        let mut host = self.host();
        let directory = self.walk(&mut host, path)?;
        self.rpc(&mut host, Operation::SyncDir, path, |world| world.sync_names(directory))
    }

    fn metadata(&self, path: &Path) -> Result<Metadata> {
        let mut host = self.host();
        let inode = self.walk(&mut host, path)?;
        self.flush(&mut host, inode, path)?;
        match self.attributes(&mut host, inode, path) {
            // Somebody else removed it, and the name may stand for another file now.
            Err(error) if error.kind == ErrorKind::Stale => {
                let inode = self.walk(&mut host, path)?;
                self.attributes(&mut host, inode, path).map(|cached| cached.metadata)
            }
            found => found.map(|cached| cached.metadata),
        }
    }

    /// As [`DiskFs`](crate::DiskFs) does it: opening has the client ask.
    fn directory(&self, path: &Path) -> Result<Metadata> {
        let mut host = self.host();
        let inode = self.walk(&mut host, path)?;
        match self.ask(&mut host, inode, path) {
            Err(error) if error.kind == ErrorKind::Stale => {
                let inode = self.walk(&mut host, path)?;
                self.ask(&mut host, inode, path).map(|cached| cached.metadata)
            }
            found => found.map(|cached| cached.metadata),
        }
    }

    fn space(&self, path: &Path) -> Result<Space> {
        self.volume.space(path)
    }

    fn set_modified(&self, path: &Path, to: SystemTime) -> Result<()> {
        let mut host = self.host();
        let inode = self.walk(&mut host, path)?;
        self.flush(&mut host, inode, path)?;
        host.attributes.remove(&inode);
        self.rpc(&mut host, Operation::SetModified, path, |world| world.set_modified(inode, to))
    }

    /// As [`DiskFs`](crate::DiskFs) does it: opens the directory and the file, and drops the pages.
    fn revalidate(&self, path: &Path) -> Result<()> {
        let mut host = self.host();
        let Ok(directory) = self.walk(&mut host, path.parent().unwrap_or(Path::new("/"))) else {
            return Ok(());
        };
        self.ask(&mut host, directory, path)?;
        let Ok(inode) = self.walk(&mut host, path) else { return Ok(()) };
        self.flush(&mut host, inode, path)?;
        match self.ask(&mut host, inode, path) {
            Err(error) if error.kind != ErrorKind::Stale => return Err(error),
            Ok(_) | Err(_) => {}
        }
        host.pages.remove(&inode);
        Ok(())
    }
}
