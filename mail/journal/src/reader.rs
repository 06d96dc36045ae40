//! Reading an account's journal back: to a witnessed mark exactly, or to the end of what was synced.
//!
//! Invariants
//! - Bytes beyond a mark or a pin are never read: torn, or written by a deposed owner (J4).
//! - What is returned is the whole chain since the checkpoint, every segment of it verified by length and hash. There
//!   is no partial success: what is missing or wrong is an error that says where.
//! - [`read_exact`] opens files by name only, so that no directory listing can be stale (L-FN2).
//! - What [`read_tail`] returns is durable: it writes and syncs it before it answers. An owner that was killed between
//!   write and sync left bytes behind that only memory has, and after a sync that failed no other sync writes them.

use std::path::Path;

use model::{AccountId, Epoch};
use nfs_compat::Fs;

use crate::name::SegmentName;
use crate::scan::{End, Entry, Found, Loaded, Scan, load};
use crate::segment::{CheckpointPin, Header, Mark, SegmentPin};

/// A journal up to a mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replay {
    /// Where to begin.
    pub checkpoint: Option<CheckpointPin>,
    /// The records after the checkpoint, in order.
    pub entries: Vec<Entry>,
    pub mark: Mark,
}

/// A journal up to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tail {
    pub checkpoint: Option<CheckpointPin>,
    /// The records after the checkpoint, in order.
    pub entries: Vec<Entry>,
    /// What the next segment pins. `None` if the journal is empty.
    pub mark: Option<Mark>,
    /// Bytes after the mark that were never synced.
    pub torn: Option<Torn>,
    /// Segments that nobody continues from.
    pub orphans: Vec<Orphan>,
    /// The greatest name in use, orphans included: new ones are greater (L-FN1).
    pub newest: Option<SegmentName>,
}

impl Tail {
    /// The name of the segment that an owner of this epoch starts next: greater than all others. `None` if there are
    /// names of a greater epoch, which is to say that the owner is not the owner any more; or no names are left.
    pub fn next_name(&self, epoch: Epoch) -> Option<SegmentName> {
        match self.newest {
            Some(newest) if newest.epoch == epoch => newest.next(),
            newest => {
                Some(SegmentName::first(epoch)).filter(|name| newest.is_none_or(|newest| *name > newest))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Torn {
    pub segment: SegmentName,
    pub offset: u32,
    pub bytes: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orphan {
    pub name: SegmentName,
    /// Whole records in it. With an unreadable header and a few of them it may be a segment that was damaged after
    /// its only sync, not one whose first sync never came: nothing in the file can tell.
    pub records: usize,
}

/// Bytes that were synced cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Garbled {
    pub segment: SegmentName,
    pub offset: u32,
    pub checkpoint: Option<CheckpointPin>,
    /// Records before the damage that can be read, after the checkpoint as far as the chain holds.
    pub before: Vec<Entry>,
    /// Records behind the damage that can be read, to the end of the journal.
    pub after: Vec<Entry>,
}

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file is missing or too short. On NFS perhaps our view of it is old (`locking.md` §6.2); otherwise what was
    /// acknowledged is lost (§6.3).
    #[error("segment {segment} has {have} bytes of {want} wanted")]
    Stale { segment: SegmentName, have: u32, want: u32 },
    /// The file is long enough, and is not what was pinned or witnessed.
    #[error("segment {segment} is not the one that was pinned")]
    Mismatch { segment: SegmentName },
    /// What was synced cannot be read, and the file alone shows it. The account decides (`locking.md` §6.3).
    #[error("segment {} is garbled at {}", .0.segment, .0.offset)]
    Garbled(Box<Garbled>),
    /// A newer program wrote it. The account waits for the upgrade (R-OP3).
    #[error("segment {segment} at {offset} is of version {version}, which this program cannot read")]
    Foreign { segment: SegmentName, offset: u32, version: u8 },
    #[error(transparent)]
    Fs(#[from] nfs_compat::Error),
}

/// Reads up to exactly `mark` (`locking.md` §6.1, steps 2 to 4).
pub fn read_exact(
    fs: &dyn Fs,
    directory: &Path,
    account: AccountId,
    mark: &Mark,
) -> Result<Replay, ReadError> {
    let chain = Chain { fs, directory, account, expected: None };
    let last = chain.pinned(&mark.pin())?;
    let scan = whole(&last, &mark.pin())?;
    if scan.lsn != mark.lsn {
        return Err(ReadError::Mismatch { segment: mark.name() });
    }
    let checkpoint = last.header.checkpoint;
    let followed = chain.follow(&last, scan.entries, mark.length).map_err(|broken| broken.error)?;
    Ok(Replay { checkpoint, entries: followed.entries, mark: *mark })
}

/// Reads what was synced, for a volume that only one node can mount, where visible = synced (L-CM4). The owner that
/// calls it must have been granted its epoch: nobody else writes here now.
///
/// `expected` is a mark that is known to have been reached: the chain found must contain it.
pub fn read_tail(
    fs: &dyn Fs,
    directory: &Path,
    account: AccountId,
    expected: Option<&Mark>,
) -> Result<Tail, ReadError> {
    let chain = Chain { fs, directory, account, expected };
    let names = segment_names(fs, directory)?;
    let mut tail = Tail { newest: names.last().copied(), ..Tail::default() };
    let Some(last) = chain.newest(&names, &mut tail.orphans)? else {
        chain.refuse_lost_headers(&tail.orphans, None, &[])?;
        return match expected {
            Some(mark) => Err(ReadError::Stale { segment: mark.name(), have: 0, want: mark.length }),
            None => Ok(tail),
        };
    };
    last.make_durable(fs, directory)?;
    fs.sync_dir(directory)?;

    let scan = last.scan(last.length()).without_unfinished();
    let checkpoint = last.header.checkpoint;
    let (length, lsn) = (scan.length, scan.lsn);
    match scan.end {
        End::Clean => {}
        End::Torn(_) => {
            let bytes = last.length().saturating_sub(length);
            tail.torn = Some(Torn { segment: last.name(), offset: length, bytes });
        }
        End::Garbled(after) => return Err(chain.garbled(&last, scan.entries, length, checkpoint, after)),
        End::Foreign { version } => {
            return Err(ReadError::Foreign { segment: last.name(), offset: length, version });
        }
    }
    let followed = chain.follow(&last, scan.entries, length);
    let followed = followed.map_err(|broken| chain.explain(broken, checkpoint))?;
    chain.refuse_lost_headers(&tail.orphans, checkpoint, &followed.entries)?;
    tail.orphans.extend(chain.forks(&followed.names, &names)?);
    tail.orphans.sort_unstable_by_key(|orphan| orphan.name);
    tail.entries = followed.entries;
    tail.checkpoint = checkpoint;
    tail.mark = Some(Mark {
        epoch: last.name().epoch,
        segment: last.name().segment,
        length,
        hash: last.hash(length).unwrap_or_else(|| unreachable!("the scan went so far")),
        lsn,
    });
    Ok(tail)
}

/// Names of the segments in `j/`, in order. A directory that is missing has none.
pub(crate) fn segment_names(fs: &dyn Fs, directory: &Path) -> nfs_compat::Result<Vec<SegmentName>> {
    let entries = match fs.read_dir(directory) {
        Err(error) if error.is_not_found() => Vec::new(),
        entries => entries?,
    };
    let mut names: Vec<_> =
        entries.iter().filter_map(|entry| SegmentName::parse(entry.name.to_str()?)).collect();
    names.sort_unstable();
    Ok(names)
}

/// How the files of one account are followed.
pub(crate) struct Chain<'a> {
    pub(crate) fs: &'a dyn Fs,
    pub(crate) directory: &'a Path,
    pub(crate) account: AccountId,
    pub(crate) expected: Option<&'a Mark>,
}

/// A segment that another goes on from.
struct Previous {
    loaded: Loaded,
    pin: SegmentPin,
    /// Its records up to the pin.
    entries: Vec<Entry>,
}

/// A chain that holds.
struct Followed {
    /// The records after the checkpoint, in order.
    entries: Vec<Entry>,
    /// Newest first.
    names: Vec<SegmentName>,
}

/// A chain does not hold.
struct Broken {
    error: ReadError,
    /// The pin that was not satisfied, if that is the reason.
    pin: Option<SegmentPin>,
    /// Records after it, in order.
    later: Vec<Entry>,
}

impl Chain<'_> {
    fn load(&self, name: SegmentName) -> Result<Found, ReadError> {
        Ok(load(self.fs, self.directory, self.account, name)?)
    }

    /// The newest segment with a header, and, among the orphans, the newer ones without. The first sync of a segment
    /// covers its header, so without one nothing in it counts.
    pub(crate) fn newest(
        &self,
        names: &[SegmentName],
        orphans: &mut Vec<Orphan>,
    ) -> Result<Option<Loaded>, ReadError> {
        for name in names.iter().rev() {
            match self.load(*name)? {
                Found::Segment(loaded) => return Ok(Some(loaded)),
                Found::Headless(found) => {
                    orphans.push(Orphan { name: *name, records: found.entries.len() });
                }
                Found::Missing => {}
                Found::Foreign { version } => {
                    return Err(ReadError::Foreign { segment: *name, offset: 0, version });
                }
            }
        }
        Ok(None)
    }

    /// Loads a segment that must have this length and hash.
    pub(crate) fn pinned(&self, pin: &SegmentPin) -> Result<Loaded, ReadError> {
        let stale = |have| ReadError::Stale { segment: pin.name, have, want: pin.length };
        let mismatch = ReadError::Mismatch { segment: pin.name };
        match self.load(pin.name)? {
            Found::Missing => Err(stale(0)),
            Found::Headless(found) if found.bytes < pin.length => Err(stale(found.bytes)),
            Found::Headless(_) => Err(mismatch),
            Found::Foreign { version } => Err(ReadError::Foreign { segment: pin.name, offset: 0, version }),
            Found::Segment(loaded) => match loaded.hash(pin.length) {
                None => Err(stale(loaded.length())),
                Some(hash) if hash == pin.hash => Ok(loaded),
                Some(_) => Err(mismatch),
            },
        }
    }

    /// Goes back from the last segment, whose `entries` were read up to `length`, to the one that the checkpoint lies
    /// in or before, and returns all records after the checkpoint.
    fn follow(&self, last: &Loaded, entries: Vec<Entry>, length: u32) -> Result<Followed, Broken> {
        let covered = last.header.checkpoint.map_or(0, |checkpoint| checkpoint.name.lsn);
        let mut parts = vec![entries];
        let mut names = vec![last.name()];
        let mut met = self.meets(last, length);
        let mut header = last.header.clone();
        while header.first_lsn > covered.saturating_add(1) {
            let Previous { loaded, pin, entries } = match self.previous(&header) {
                Ok(previous) => previous,
                Err((error, pin)) => return Err(Broken { error, pin, later: in_order(parts, covered) }),
            };
            parts.push(entries);
            names.push(pin.name);
            met = met.or(self.meets(&loaded, pin.length));
            header = loaded.header;
        }
        let entries = in_order(parts, covered);
        match (self.expected, met) {
            (_, Some(Err(error))) => Err(Broken { error, pin: None, later: entries }),
            (Some(mark), None) if mark.lsn > covered => {
                let error = ReadError::Stale { segment: mark.name(), have: 0, want: mark.length };
                Err(Broken { error, pin: None, later: entries })
            }
            (Some(_) | None, None | Some(Ok(()))) => Ok(Followed { entries, names }),
        }
    }

    /// The segment before, up to the pin, and its records.
    fn previous(&self, header: &Header) -> Result<Previous, (ReadError, Option<SegmentPin>)> {
        let mismatch = || ReadError::Mismatch { segment: header.name };
        // Names fall on the way back, so it ends.
        let pin = header.previous.filter(|pin| pin.name < header.name).ok_or_else(|| (mismatch(), None))?;
        let loaded = self.pinned(&pin).map_err(|error| (error, Some(pin)))?;
        let scan = whole(&loaded, &pin).map_err(|error| (error, Some(pin)))?;
        if scan.lsn.saturating_add(1) != header.first_lsn {
            return Err((mismatch(), None));
        }
        Ok(Previous { loaded, pin, entries: scan.entries })
    }

    /// Whether the mark that is expected lies in this segment, and if so whether it is satisfied.
    fn meets(&self, loaded: &Loaded, length: u32) -> Option<Result<(), ReadError>> {
        let mark = self.expected.filter(|mark| mark.name() == loaded.name())?;
        let segment = mark.name();
        Some(if length < mark.length {
            Err(ReadError::Stale { segment, have: length, want: mark.length })
        } else if loaded.hash(mark.length) != Some(mark.hash) {
            Err(ReadError::Mismatch { segment })
        } else {
            Ok(())
        })
    }

    /// A pin is only ever of what was synced. If it is not satisfied on a volume of our own, that was lost.
    fn explain(&self, broken: Broken, checkpoint: Option<CheckpointPin>) -> ReadError {
        let pin = match (&broken.error, broken.pin) {
            (ReadError::Stale { .. } | ReadError::Mismatch { .. }, Some(pin)) => pin,
            (
                ReadError::Stale { .. }
                | ReadError::Mismatch { .. }
                | ReadError::Garbled(_)
                | ReadError::Foreign { .. }
                | ReadError::Fs(_),
                _,
            ) => return broken.error,
        };
        match self.load(pin.name) {
            Ok(Found::Segment(loaded)) => {
                let scan = loaded.scan(pin.length);
                let mut after = match scan.end {
                    End::Torn(behind) | End::Garbled(behind) => behind,
                    End::Clean | End::Foreign { .. } => Vec::new(),
                };
                after.extend(broken.later);
                self.garbled(&loaded, scan.entries, scan.length, checkpoint, after)
            }
            Ok(found @ (Found::Missing | Found::Headless(_) | Found::Foreign { .. })) => {
                let segment = pin.name;
                let mut after = if let Found::Headless(found) = found { found.entries } else { Vec::new() };
                after.extend(broken.later);
                ReadError::Garbled(Box::new(Garbled {
                    segment,
                    offset: 0,
                    checkpoint,
                    before: Vec::new(),
                    after,
                }))
            }
            Err(error) => error,
        }
    }

    /// `entries` are what can be read of the damaged segment before `offset`.
    fn garbled(
        &self,
        damaged: &Loaded,
        entries: Vec<Entry>,
        offset: u32,
        checkpoint: Option<CheckpointPin>,
        after: Vec<Entry>,
    ) -> ReadError {
        let covered = checkpoint.map_or(0, |checkpoint| checkpoint.name.lsn);
        let before = match self.follow(damaged, entries, offset) {
            Ok(followed) => followed.entries,
            Err(broken) => broken.later,
        };
        let before = before.into_iter().filter(|entry| entry.lsn > covered).collect();
        ReadError::Garbled(Box::new(Garbled { segment: damaged.name(), offset, checkpoint, before, after }))
    }

    /// A newer segment whose header is gone although it was synced holds records that were acknowledged.
    fn refuse_lost_headers(
        &self,
        orphans: &[Orphan],
        checkpoint: Option<CheckpointPin>,
        before: &[Entry],
    ) -> Result<(), ReadError> {
        for orphan in orphans.iter().filter(|orphan| orphan.records > 0) {
            if let Found::Headless(found) = self.load(orphan.name)?
                && found.was_synced
            {
                return Err(ReadError::Garbled(Box::new(Garbled {
                    segment: orphan.name,
                    offset: 0,
                    checkpoint,
                    before: before.to_vec(),
                    after: found.entries,
                })));
            }
        }
        Ok(())
    }

    /// Segments between the oldest and the newest of the chain that are not in it.
    fn forks(&self, in_chain: &[SegmentName], names: &[SegmentName]) -> Result<Vec<Orphan>, ReadError> {
        let (Some(newest), Some(oldest)) = (in_chain.first(), in_chain.last()) else {
            return Ok(Vec::new());
        };
        let mut forks = Vec::new();
        for name in names.iter().filter(|name| (oldest..newest).contains(name) && !in_chain.contains(name)) {
            let records = match self.load(*name)? {
                Found::Segment(loaded) => loaded.scan(loaded.length()).entries.len(),
                Found::Headless(found) => found.entries.len(),
                Found::Missing | Found::Foreign { .. } => 0,
            };
            forks.push(Orphan { name: *name, records });
        }
        Ok(forks)
    }
}

/// Reads a segment whose bytes up to the pin are known to be the right ones: each of them is a record's.
fn whole(loaded: &Loaded, pin: &SegmentPin) -> Result<Scan, ReadError> {
    let scan = loaded.scan(pin.length);
    match scan.end {
        End::Foreign { version } => {
            Err(ReadError::Foreign { segment: pin.name, offset: scan.length, version })
        }
        End::Clean if scan.length == pin.length => Ok(scan),
        End::Clean | End::Torn(_) | End::Garbled(_) => Err(ReadError::Mismatch { segment: pin.name }),
    }
}

/// `parts` stand in reverse.
fn in_order(parts: Vec<Vec<Entry>>, covered: u64) -> Vec<Entry> {
    parts.into_iter().rev().flatten().filter(|entry| entry.lsn > covered).collect()
}
