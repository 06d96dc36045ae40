//! What of a journal is not needed any more.
//!
//! Invariants
//! - What leads from a mark to its checkpoint, and every record that a site still wants, is never in a plan.
//! - A plan is made from a mark that is witnessed (or synced, where that is the same). So whoever takes over reads
//!   the same checkpoint or a newer one, and misses nothing (L-UN).
//! - Only what a plan names is removed, and names are never used again.

use std::path::Path;
use std::time::SystemTime;

use model::AccountId;
use nfs_compat::Fs;

use crate::name::{CheckpointName, SegmentName};
use crate::reader::{Chain, ReadError, segment_names};
use crate::scan::{Found, load};
use crate::segment::Mark;

/// What is kept although no checkpoint needs it.
#[derive(Clone, Copy, Debug)]
pub struct Retention {
    /// Records above this position are kept: not every site has passed them (R-JR4). `u64::MAX` without sites.
    pub passed_lsn: u64,
    /// Segments outside the chain are kept for inspection unless they were last modified before this.
    pub orphans_before: SystemTime,
}

/// What may be removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    pub segments: Vec<SegmentName>,
    pub checkpoints: Vec<CheckpointName>,
}

/// Finds what is not needed by who starts from `mark`.
pub fn plan(
    fs: &dyn Fs,
    journal: &Path,
    checkpoints: &Path,
    account: AccountId,
    mark: &Mark,
    retention: &Retention,
) -> Result<Plan, ReadError> {
    let chain = Chain { fs, directory: journal, account, expected: None };
    let last = chain.pinned(&mark.pin())?.header;
    let Some(newest) = last.checkpoint.map(|checkpoint| checkpoint.name) else {
        return Ok(Plan::default());
    };
    let floor = newest.lsn.min(retention.passed_lsn);

    // Back along the chain as far as it exists. A segment is passed when its successor begins at or below what
    // follows the floor; all before it are then passed too.
    let mut in_chain = vec![last.name];
    let mut passed = Vec::new();
    let mut header = last;
    while let Some(pin) = header.previous.filter(|pin| pin.name < header.name) {
        let Found::Segment(previous) = load(fs, journal, account, pin.name)? else { break };
        in_chain.push(pin.name);
        if header.first_lsn <= floor.saturating_add(1) {
            passed.push(pin.name);
        }
        header = previous.header;
    }

    let mut segments = passed;
    for name in segment_names(fs, journal)? {
        // Greater names are of somebody who came later, and perhaps is at work.
        if name > mark.name() || in_chain.contains(&name) {
            continue;
        }
        if fs.metadata(&journal.join(name.to_string()))?.modified < retention.orphans_before {
            segments.push(name);
        }
    }
    segments.sort_unstable();
    let mut old = checkpoint_names(fs, checkpoints)?;
    // One that is not pinned yet may be about to be.
    old.retain(|name| name.lsn < newest.lsn);
    Ok(Plan { segments, checkpoints: old })
}

/// Removes what the plan names; what is gone already is gone. Oldest first, so that what remains is a chain.
pub fn remove(fs: &dyn Fs, journal: &Path, checkpoints: &Path, plan: &Plan) -> nfs_compat::Result<()> {
    let segments = plan.segments.iter().map(|name| journal.join(name.to_string()));
    let old = plan.checkpoints.iter().map(|name| checkpoints.join(name.to_string()));
    for path in segments.chain(old) {
        match fs.unlink(&path) {
            Err(error) if !error.is_not_found() => return Err(error),
            Ok(()) | Err(_) => {}
        }
    }
    if !plan.segments.is_empty() {
        fs.sync_dir(journal)?;
    }
    if !plan.checkpoints.is_empty() {
        fs.sync_dir(checkpoints)?;
    }
    Ok(())
}

/// Names of the checkpoints in `c/`, in order. A directory that is missing has none.
pub fn checkpoint_names(fs: &dyn Fs, directory: &Path) -> nfs_compat::Result<Vec<CheckpointName>> {
    let entries = match fs.read_dir(directory) {
        Err(error) if error.is_not_found() => Vec::new(),
        entries => entries?,
    };
    let mut names: Vec<_> =
        entries.iter().filter_map(|entry| CheckpointName::parse(entry.name.to_str()?)).collect();
    names.sort_unstable();
    Ok(names)
}
