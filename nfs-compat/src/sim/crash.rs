//! Power fails: what was synced stays, the rest is decided by seed.
//!
//! Invariants
//! - Bytes: every file ends as it was at its last sync, as it was at the end, or as something in between: a part of
//!   its writes, the last one torn at any byte; or any choice of 512-byte sectors and any length from old to new.
//! - Names: every unsynced change is kept or lost by itself, but a rename is kept or lost as a whole, and the renames
//!   of one file are kept in order. So a renamed file has its old name or its new one, never both, never neither.

use std::collections::{BTreeMap, BTreeSet};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::world::{FileBytes, InodeNumber, NameChange, Node, ROOT, World};

const SECTOR: usize = 512;

impl World {
    pub(super) fn crash(&mut self, seed: u64) {
        let mut rng = StdRng::seed_from_u64(seed);
        self.settle_names(&mut rng);
        for inode in self.inodes.values_mut() {
            match &mut inode.node {
                Node::File(file) => settle_bytes(file, &mut rng),
                Node::Directory(names) => names.live.clone_from(&names.durable),
            }
            if rng.random_bool(0.5) {
                inode.modified = inode.modified_durable;
            }
            inode.modified_durable = inode.modified;
            inode.change += 1;
        }
        self.drop_unreachable();
        self.boot += 1;
        self.faults.stop_after(None);
        self.rng = rng;
    }

    fn settle_names(&mut self, rng: &mut StdRng) {
        let mut stuck: BTreeSet<InodeNumber> = BTreeSet::new();
        // All, none, or each by itself: the extremes are rare by chance when there are many.
        let odds = [0.0, 0.5, 0.5, 1.0][rng.random_range(0..4)];
        for change in std::mem::take(&mut self.unsynced_names) {
            let mut kept = rng.random_bool(odds);
            if let NameChange::Rename { inode, .. } = &change {
                kept = kept && !stuck.contains(inode);
                if !kept {
                    stuck.insert(*inode);
                }
            }
            if kept {
                self.make_durable(&change);
            }
        }
    }

    /// Forgets files that no name leads to, and counts the names of the others.
    fn drop_unreachable(&mut self) {
        let mut links: BTreeMap<InodeNumber, u64> = BTreeMap::from([(ROOT, 1)]);
        let mut todo = vec![ROOT];
        while let Some(directory) = todo.pop() {
            let Ok(names) = self.names(directory) else { continue };
            for inode in names.live.values() {
                let count = links.entry(*inode).or_default();
                *count += 1;
                if *count == 1 {
                    todo.push(*inode);
                }
            }
        }
        self.inodes.retain(|number, inode| {
            inode.links = links.get(number).copied().unwrap_or(0);
            inode.links > 0
        });
    }
}

fn settle_bytes(file: &mut FileBytes, rng: &mut StdRng) {
    if !file.unsynced.is_empty() {
        match rng.random_range(0..4) {
            0 => {}
            1 => keep(file, file.unsynced.len(), usize::MAX),
            2 => {
                let whole = rng.random_range(0..file.unsynced.len());
                let torn = rng.random_range(0..=file.unsynced[whole].range.len());
                keep(file, whole, torn);
            }
            _ => mix_sectors(file, rng),
        }
    }
    file.live.clone_from(&file.durable);
    file.unsynced.clear();
}

/// Keeps the first `whole` writes and `torn` bytes of the next.
fn keep(file: &mut FileBytes, whole: usize, torn: usize) {
    for (number, written) in file.unsynced.iter().enumerate().take(whole.saturating_add(1)) {
        let mut range = written.range.clone();
        if number == whole {
            range.end = range.end.min(range.start.saturating_add(torn));
        }
        if file.durable.len() < range.end {
            file.durable.resize(range.end, 0);
        }
        file.durable[range.clone()].copy_from_slice(&file.live[range]);
    }
}

fn mix_sectors(file: &mut FileBytes, rng: &mut StdRng) {
    let synced = file.durable.len();
    let length = rng.random_range(synced..=file.live.len().max(synced));
    file.durable.resize(length, 0);
    let sectors: BTreeSet<usize> = file
        .unsynced
        .iter()
        .flat_map(|written| written.range.start / SECTOR..=written.range.end.saturating_sub(1) / SECTOR)
        .collect();
    for sector in sectors {
        if rng.random_bool(0.5) {
            let end = ((sector + 1) * SECTOR).min(length);
            let start = (sector * SECTOR).min(end);
            file.durable[start..end].copy_from_slice(&file.live[start..end]);
        }
    }
}
