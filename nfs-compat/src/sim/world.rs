//! The simulated volume: files and names, each once as everybody sees them and once as the disk has them.
//!
//! Invariants
//! - `live` is what calls see; `durable` what is left when nothing unsynced survives. A sync moves the second
//!   towards the first; only a crash moves the first.
//! - Names that were changed and not synced stand in `unsynced_names`, in the order in which they were changed.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::ops::Range;
use std::path::{Component, Path};
use std::time::SystemTime;

use nix::errno::Errno;
use rand::rngs::StdRng;

use super::fault::{Faults, Habit};

pub(super) type InodeNumber = u64;
pub(super) const ROOT: InodeNumber = 1;

/// As on the file systems that we know.
const NAME_BYTES_MAX: usize = 255;

/// A name in a directory.
pub(super) type Slot = (InodeNumber, OsString);

pub(super) struct World {
    pub(super) inodes: BTreeMap<InodeNumber, Inode>,
    pub(super) next_inode: InodeNumber,
    pub(super) unsynced_names: Vec<NameChange>,
    pub(super) now: SystemTime,
    /// Rises when open files are lost.
    pub(super) boot: u64,
    pub(super) rng: StdRng,
    pub(super) faults: Faults,
    /// Bytes that all files together may have.
    pub(super) capacity: Option<u64>,
    pub(super) habits: BTreeSet<Habit>,
    /// Which host has created a file, as long as its attributes are not set (NFS 3's exclusive create).
    pub(super) verifiers: BTreeMap<InodeNumber, u64>,
    /// Files that NFS 4 hosts have open, and how often.
    pub(super) held: BTreeMap<InodeNumber, u64>,
    /// Hosts that have mounted it.
    pub(super) hosts: u64,
    /// The second half of a rename in two steps, and whether it is to be taken now.
    pub(super) halfway: Option<(Slot, InodeNumber, bool)>,
}

pub(super) struct Inode {
    pub(super) node: Node,
    pub(super) links: u64,
    /// Rises with every change of it (NFS 4's change attribute).
    pub(super) change: u64,
    pub(super) modified: SystemTime,
    pub(super) modified_durable: SystemTime,
}

pub(super) enum Node {
    File(FileBytes),
    Directory(Names),
}

#[derive(Default)]
pub(super) struct FileBytes {
    pub(super) live: Vec<u8>,
    pub(super) durable: Vec<u8>,
    /// Bytes of the volume that are set aside for it.
    pub(super) reserved: u64,
    pub(super) unsynced: Vec<Written>,
}

/// A range written since the last sync.
#[derive(Clone, Debug)]
pub(super) struct Written {
    pub(super) range: Range<usize>,
    /// A sync of it failed: the kernel took it for clean, so that no later sync writes it (L-FS2).
    pub(super) given_up: bool,
}

#[derive(Default)]
pub(super) struct Names {
    pub(super) live: BTreeMap<OsString, InodeNumber>,
    pub(super) durable: BTreeMap<OsString, InodeNumber>,
}

#[derive(Clone, Debug)]
pub(super) enum NameChange {
    Add { at: Slot, inode: InodeNumber },
    Remove { at: Slot, inode: InodeNumber },
    Rename { from: Slot, to: Slot, inode: InodeNumber },
}

impl NameChange {
    fn slots(&self) -> impl Iterator<Item = &Slot> {
        let (first, second) = match self {
            Self::Add { at, .. } | Self::Remove { at, .. } => (at, None),
            Self::Rename { from, to, .. } => (from, Some(to)),
        };
        std::iter::once(first).chain(second)
    }
}

impl World {
    pub(super) fn new(rng: StdRng, now: SystemTime) -> Self {
        let root = Inode {
            node: Node::Directory(Names::default()),
            links: 1,
            change: 0,
            modified: now,
            modified_durable: now,
        };
        Self {
            inodes: BTreeMap::from([(ROOT, root)]),
            next_inode: ROOT + 1,
            unsynced_names: Vec::new(),
            now,
            boot: 0,
            rng,
            faults: Faults::default(),
            capacity: None,
            habits: BTreeSet::new(),
            verifiers: BTreeMap::new(),
            held: BTreeMap::new(),
            hosts: 0,
            halfway: None,
        }
    }

    pub(super) fn inode(&self, number: InodeNumber) -> Result<&Inode, Errno> {
        self.inodes.get(&number).ok_or(Errno::ESTALE)
    }

    pub(super) fn inode_mut(&mut self, number: InodeNumber) -> Result<&mut Inode, Errno> {
        self.inodes.get_mut(&number).ok_or(Errno::ESTALE)
    }

    pub(super) fn file(&self, number: InodeNumber) -> Result<&FileBytes, Errno> {
        match &self.inode(number)?.node {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Errno::EISDIR),
        }
    }

    fn file_mut(&mut self, number: InodeNumber) -> Result<&mut FileBytes, Errno> {
        match &mut self.inode_mut(number)?.node {
            Node::File(file) => Ok(file),
            Node::Directory(_) => Err(Errno::EISDIR),
        }
    }

    pub(super) fn names(&self, number: InodeNumber) -> Result<&Names, Errno> {
        match &self.inode(number)?.node {
            Node::Directory(names) => Ok(names),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn names_mut(&mut self, number: InodeNumber) -> Result<&mut Names, Errno> {
        match &mut self.inode_mut(number)?.node {
            Node::Directory(names) => Ok(names),
            Node::File(_) => Err(Errno::ENOTDIR),
        }
    }

    pub(super) fn has(&self, habit: Habit) -> bool {
        self.habits.contains(&habit)
    }

    /// The step of a rename that comes with the call after the next.
    pub(super) fn step(&mut self) {
        match self.halfway.take() {
            Some((to, inode, true)) => {
                if let Ok(names) = self.names_mut(to.0) {
                    names.live.insert(to.1, inode);
                }
            }
            Some((to, inode, false)) => self.halfway = Some((to, inode, true)),
            None => {}
        }
    }

    /// Carries a change of names out, and once more if its answer is lost.
    pub(super) fn change(&mut self, act: impl Fn(&mut Self) -> Result<(), Errno>) -> Result<(), Errno> {
        let answer = act(self);
        if self.has(Habit::LosesAnswers) { act(self) } else { answer }
    }

    pub(super) fn resolve(&self, path: &Path) -> Result<InodeNumber, Errno> {
        let mut at = ROOT;
        for component in path.components() {
            at = match component {
                Component::RootDir | Component::CurDir => at,
                Component::Normal(name) => *self.names(at)?.live.get(name).ok_or(Errno::ENOENT)?,
                Component::ParentDir | Component::Prefix(_) => return Err(Errno::EINVAL),
            };
        }
        Ok(at)
    }

    /// The directory and the name that a path ends in; the name may be free.
    fn slot(&self, path: &Path) -> Result<Slot, Errno> {
        let name = path.file_name().ok_or(Errno::EINVAL)?;
        if name.len() > NAME_BYTES_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        let directory = self.resolve(path.parent().unwrap_or(Path::new("")))?;
        let names = &self.names(directory)?.live;
        if self.has(Habit::FoldsCase)
            && let Some(there) = names.keys().find(|there| there.eq_ignore_ascii_case(name))
        {
            return Ok((directory, there.clone()));
        }
        Ok((directory, name.to_owned()))
    }

    fn taken(&self, slot: &Slot) -> Result<Option<InodeNumber>, Errno> {
        Ok(self.names(slot.0)?.live.get(&slot.1).copied())
    }

    pub(super) fn add(&mut self, path: &Path, node: Node) -> Result<InodeNumber, Errno> {
        let at = self.slot(path)?;
        if self.taken(&at)?.is_some() {
            return Err(Errno::EEXIST);
        }
        let inode = self.next_inode;
        self.next_inode += 1;
        let now = self.now;
        self.inodes.insert(inode, Inode { node, links: 1, change: 0, modified: now, modified_durable: now });
        self.names_mut(at.0)?.live.insert(at.1.clone(), inode);
        self.touch(at.0)?;
        self.unsynced_names.push(NameChange::Add { at, inode });
        Ok(inode)
    }

    pub(super) fn link(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let inode = self.resolve(from)?;
        if let Node::Directory(_) = self.inode(inode)?.node {
            return Err(Errno::EPERM);
        }
        let at = self.slot(to)?;
        if self.taken(&at)?.is_some() {
            return Err(Errno::EEXIST);
        }
        self.names_mut(at.0)?.live.insert(at.1.clone(), inode);
        self.inode_mut(inode)?.links += 1;
        self.touch(at.0)?;
        self.unsynced_names.push(NameChange::Add { at, inode });
        Ok(())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> Result<(), Errno> {
        let (from_slot, to_slot) = (self.slot(from)?, self.slot(to)?);
        let inode = self.taken(&from_slot)?.ok_or(Errno::ENOENT)?;
        let replaced = self.taken(&to_slot)?;
        // POSIX: two names of one file stay two names.
        if replaced == Some(inode) {
            return Ok(());
        }
        let is_directory = matches!(self.inode(inode)?.node, Node::Directory(_));
        if is_directory && to.starts_with(from) {
            return Err(Errno::EINVAL);
        }
        if let Some(replaced) = replaced {
            match (&self.inode(replaced)?.node, is_directory) {
                (Node::File(_), false) => {}
                (Node::File(_), true) => return Err(Errno::ENOTDIR),
                (Node::Directory(_), false) => return Err(Errno::EISDIR),
                (Node::Directory(names), true) if names.live.is_empty() => {}
                (Node::Directory(_), true) => return Err(Errno::ENOTEMPTY),
            }
            self.drop_link(replaced)?;
        }
        self.names_mut(from_slot.0)?.live.remove(&from_slot.1);
        if self.has(Habit::RenamesInTwoSteps) {
            self.names_mut(to_slot.0)?.live.remove(&to_slot.1);
            self.halfway = Some((to_slot.clone(), inode, false));
        } else {
            self.names_mut(to_slot.0)?.live.insert(to_slot.1.clone(), inode);
        }
        self.touch(from_slot.0)?;
        self.touch(to_slot.0)?;
        self.unsynced_names.push(NameChange::Rename { from: from_slot, to: to_slot, inode });
        Ok(())
    }

    /// Removes a file's name, or that of an empty directory.
    pub(super) fn remove(&mut self, path: &Path, directory: bool) -> Result<(), Errno> {
        let at = self.slot(path)?;
        let inode = self.taken(&at)?.ok_or(Errno::ENOENT)?;
        match (&self.inode(inode)?.node, directory) {
            (Node::File(_), false) => {}
            (Node::Directory(names), true) if names.live.is_empty() => {}
            (Node::Directory(_), true) => return Err(Errno::ENOTEMPTY),
            (Node::File(_), true) => return Err(Errno::ENOTDIR),
            (Node::Directory(_), false) => return Err(Errno::EISDIR),
        }
        self.names_mut(at.0)?.live.remove(&at.1);
        self.drop_link(inode)?;
        self.touch(at.0)?;
        self.unsynced_names.push(NameChange::Remove { at, inode });
        Ok(())
    }

    fn drop_link(&mut self, inode: InodeNumber) -> Result<(), Errno> {
        let inode = self.inode_mut(inode)?;
        inode.links = inode.links.saturating_sub(1);
        Ok(())
    }

    fn touch(&mut self, directory: InodeNumber) -> Result<(), Errno> {
        let now = self.now;
        self.set_modified(directory, now)
    }

    pub(super) fn set_modified(&mut self, inode: InodeNumber, to: SystemTime) -> Result<(), Errno> {
        let inode = self.inode_mut(inode)?;
        inode.modified = to;
        inode.change += 1;
        Ok(())
    }

    pub(super) fn release(&mut self, inode: InodeNumber) {
        let opens = self.held.entry(inode).or_default();
        *opens = opens.saturating_sub(1);
        if *opens == 0 {
            self.held.remove(&inode);
        }
    }

    pub(super) fn used_bytes(&self) -> u64 {
        let length = |inode: &Inode| match &inode.node {
            Node::File(file) if inode.links > 0 => (file.live.len() as u64).max(file.reserved),
            Node::File(_) | Node::Directory(_) => 0,
        };
        self.inodes.values().map(length).sum()
    }

    /// Writes what there is room for. A write that does not fit leaves its beginning behind, as on a disk.
    pub(super) fn write(&mut self, inode: InodeNumber, bytes: &[u8], offset: u64) -> Result<(), Errno> {
        let start = usize::try_from(offset).map_err(|_| Errno::EFBIG)?;
        let end = start.checked_add(bytes.len()).ok_or(Errno::EFBIG)?;
        let file = self.file(inode)?;
        let held = file.live.len().max(usize::try_from(file.reserved).unwrap_or(usize::MAX));
        let room = match self.capacity {
            None => usize::MAX,
            Some(capacity) => {
                let free = capacity.saturating_sub(self.used_bytes());
                held.saturating_add(usize::try_from(free).unwrap_or(usize::MAX))
            }
        };
        let fits = end.min(room);
        if let Some(bytes) = fits.checked_sub(start).and_then(|count| bytes.get(..count)) {
            self.put(inode, bytes, start)?;
        }
        if fits < end { Err(Errno::ENOSPC) } else { Ok(()) }
    }

    /// Sets room aside for a file, all of it or none.
    pub(super) fn reserve(&mut self, inode: InodeNumber, bytes: u64) -> Result<(), Errno> {
        let free = self.capacity.map_or(u64::MAX, |capacity| capacity.saturating_sub(self.used_bytes()));
        let file = self.file_mut(inode)?;
        let held = (file.live.len() as u64).max(file.reserved);
        if bytes.saturating_sub(held) > free {
            return Err(Errno::ENOSPC);
        }
        file.reserved = file.reserved.max(bytes);
        Ok(())
    }

    fn put(&mut self, inode: InodeNumber, bytes: &[u8], start: usize) -> Result<(), Errno> {
        let now = self.now;
        let end = start + bytes.len();
        let file = self.file_mut(inode)?;
        if bytes.is_empty() {
            return Ok(());
        }
        if file.live.len() < end {
            file.live.resize(end, 0);
        }
        file.live[start..end].copy_from_slice(bytes);
        file.unsynced.push(Written { range: start..end, given_up: false });
        self.set_modified(inode, now)
    }

    pub(super) fn sync(&mut self, inode: InodeNumber) -> Result<(), Errno> {
        if self.has(Habit::SyncsNothing) {
            return Ok(());
        }
        let file = self.file_mut(inode)?;
        for written in file.unsynced.extract_if(.., |written| !written.given_up) {
            if file.durable.len() < written.range.end {
                file.durable.resize(written.range.end, 0);
            }
            file.durable[written.range.clone()].copy_from_slice(&file.live[written.range]);
        }
        let inode = self.inode_mut(inode)?;
        inode.modified_durable = inode.modified;
        Ok(())
    }

    /// A sync that failed: what it should have written is in doubt until the next crash decides it.
    pub(super) fn give_up(&mut self, inode: InodeNumber) {
        if let Ok(file) = self.file_mut(inode) {
            file.unsynced.iter_mut().for_each(|written| written.given_up = true);
        }
    }

    /// Makes the changes of a directory's names durable, together with earlier ones that they build upon.
    pub(super) fn sync_names(&mut self, directory: InodeNumber) -> Result<(), Errno> {
        self.names(directory)?;
        if self.has(Habit::SyncsNothing) {
            return Ok(());
        }
        let mut wanted: Vec<Slot> = Vec::new();
        let mut covered = vec![false; self.unsynced_names.len()];
        for (change, covered) in self.unsynced_names.iter().zip(&mut covered).rev() {
            *covered = change.slots().any(|slot| slot.0 == directory || wanted.contains(slot));
            if *covered {
                wanted.extend(change.slots().cloned());
            }
        }
        let changes = std::mem::take(&mut self.unsynced_names);
        for (change, covered) in changes.into_iter().zip(covered) {
            if covered {
                self.make_durable(&change);
            } else {
                self.unsynced_names.push(change);
            }
        }
        Ok(())
    }

    pub(super) fn make_durable(&mut self, change: &NameChange) {
        match change {
            NameChange::Add { at, inode } => self.durable_insert(at, *inode),
            NameChange::Remove { at, inode } => self.durable_remove(at, *inode),
            NameChange::Rename { from, to, inode } => {
                self.durable_remove(from, *inode);
                self.durable_insert(to, *inode);
            }
        }
    }

    fn durable_insert(&mut self, at: &Slot, inode: InodeNumber) {
        if let Ok(names) = self.names_mut(at.0) {
            names.durable.insert(at.1.clone(), inode);
        }
    }

    fn durable_remove(&mut self, at: &Slot, inode: InodeNumber) {
        if let Ok(names) = self.names_mut(at.0)
            && names.durable.get(&at.1) == Some(&inode)
        {
            names.durable.remove(&at.1);
        }
    }
}
