//! The owner's end of the journal: append, sync, witness, and nothing counts before.
//!
//! Invariants
//! - Every segment that is begun pins the last mark that counted (L-FN2): what lies behind it in an older segment, torn
//!   or never witnessed, counts for nobody (J4).
//! - A segment whose write or sync failed is never written again (L-FS2).
//! - [`Failure::NotStored`] is only said when no reader of the journal, now or later, can find the records.

use std::path::PathBuf;
use std::sync::Arc;

use journal::{CheckpointName, CheckpointPin, Header, Mark, SegmentName, WriteError, Writer};
use model::{AccountId, Record};
use nfs_compat::Fs;
use store::index::checkpoint;

use crate::door::Refused;
use crate::tenure::{Tenure, Volume, WitnessError, Witnessed};

/// A segment longer than this is ended before the next batch.
const SEGMENT_BYTES_HIGH: u64 = 16 << 20;
/// Names tried for a new segment: each one taken is a start of this epoch that came to nothing.
const NAMES_MAX: u32 = 1000;
/// A witness without an answer is asked for again (L-CM3); whoever keeps it has its own patience within each.
const WITNESS_ATTEMPTS: u32 = 3;

/// Why a batch does not count, or may not.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Nothing of it can be found by anybody.
    NotStored { full: bool, what: String },
    /// Written, but whether it counts only the next owner can tell (L-CM2).
    Unknown(String),
    /// Written under an epoch that is over: ours does not know whether it counted before that (L-CM2).
    Deposed,
}

impl Failure {
    pub(crate) fn refused(&self) -> Refused {
        match self {
            Self::NotStored { full: true, what } => Refused::NoSpace(what.clone()),
            Self::NotStored { full: false, what } => Refused::NotStored(what.clone()),
            Self::Unknown(_) | Self::Deposed => Refused::Unknown,
        }
    }

    pub(crate) fn not_stored(error: &nfs_compat::Error) -> Self {
        Self::NotStored { full: error.is_full(), what: error.to_string() }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotStored { what, .. } => write!(f, "not stored: {what}"),
            Self::Unknown(what) => write!(f, "whether it counts is not known: {what}"),
            Self::Deposed => f.write_str("another node owns the account"),
        }
    }
}

pub(crate) struct Log {
    fs: Arc<dyn Fs>,
    journal: PathBuf,
    checkpoints: PathBuf,
    account: AccountId,
    node: u8,
    tenure: Tenure,
    writer: Option<Writer>,
    /// Everything up to here counts.
    mark: Option<Mark>,
    checkpoint: Option<CheckpointPin>,
    /// The greatest segment name in use, as far as we know.
    newest: Option<SegmentName>,
    records_since_checkpoint: u64,
    bytes_since_checkpoint: u64,
}

/// Where the journal stands when an owner opens it.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) mark: Option<Mark>,
    pub(crate) checkpoint: Option<CheckpointPin>,
    pub(crate) newest: Option<SegmentName>,
    pub(crate) records_since_checkpoint: u64,
}

impl Log {
    pub(crate) fn new(
        fs: Arc<dyn Fs>,
        home: &store::paths::Home,
        account: AccountId,
        node: u8,
        tenure: Tenure,
        found: Found,
    ) -> Self {
        Self {
            fs,
            journal: home.journal(),
            checkpoints: home.checkpoints(),
            account,
            node,
            tenure,
            writer: None,
            mark: found.mark,
            checkpoint: found.checkpoint,
            newest: found.newest,
            records_since_checkpoint: found.records_since_checkpoint,
            bytes_since_checkpoint: 0,
        }
    }

    /// Position of the last record that counts.
    pub(crate) fn lsn(&self) -> u64 {
        self.mark.map_or(0, |mark| mark.lsn)
    }

    pub(crate) fn records_since_checkpoint(&self) -> u64 {
        self.records_since_checkpoint
    }

    pub(crate) fn bytes_since_checkpoint(&self) -> u64 {
        self.bytes_since_checkpoint
    }

    /// Makes records count: when this returns they are durable, and witnessed if anybody else could write here.
    pub(crate) fn commit(&mut self, records: &[Record]) -> Result<(), Failure> {
        if self.writer.as_ref().is_some_and(|writer| writer.len() > SEGMENT_BYTES_HIGH || writer.is_dead()) {
            self.writer = None;
        }
        let mark = self.append(records)?;
        self.witness(mark)?;
        self.mark = Some(mark);
        self.records_since_checkpoint += records.len() as u64;
        Ok(())
    }

    fn append(&mut self, records: &[Record]) -> Result<Mark, Failure> {
        let mut before = self.ready()?.len();
        // Parts that a full segment made us sync could be found by the next owner of a private volume.
        let mut synced_part = false;
        for record in records {
            match self.ready()?.append(record) {
                Ok(_) => {}
                Err(WriteError::Full(_)) => {
                    self.sync(synced_part)?;
                    (synced_part, self.writer, before) = (true, None, 0);
                    let again = self.ready()?.append(record);
                    again.map_err(|error| Failure::Unknown(error.to_string()))?;
                }
                Err(error) => return Err(self.failed(error, synced_part)),
            }
        }
        let mark = self.sync(synced_part)?;
        self.bytes_since_checkpoint += u64::from(mark.length).saturating_sub(before);
        Ok(mark)
    }

    fn sync(&mut self, synced_part: bool) -> Result<Mark, Failure> {
        let synced = self.ready()?.sync();
        match synced {
            Ok(mark) => {
                // The next segment goes on from here, although it does not count before it is witnessed.
                if self.tenure.volume == Volume::Private {
                    self.mark = Some(mark);
                }
                Ok(mark)
            }
            Err(error) => Err(self.failed(error, synced_part)),
        }
    }

    /// A write or sync failed. On a shared volume the records count for nobody without a witness. On a private one the
    /// next owner would read whatever arrived, unless a new segment, durable, goes on from before it.
    fn failed(&mut self, error: WriteError, synced_part: bool) -> Failure {
        let unwritten = self.writer.take().is_some_and(|writer| !writer.is_dead());
        let full = match &error {
            WriteError::Fs(error) => error.is_full(),
            WriteError::Record(_) | WriteError::Full(_) | WriteError::Dead(_) => false,
        };
        let what = error.to_string();
        let sealed = match self.tenure.volume {
            Volume::Shared => Ok(()),
            Volume::Private if synced_part => Err("a part of it was synced".to_owned()),
            Volume::Private if unwritten => Ok(()),
            Volume::Private => self.seal(),
        };
        match sealed {
            Ok(()) => Failure::NotStored { full, what },
            Err(why) => Failure::Unknown(format!("{what}; {why}")),
        }
    }

    /// Begins a new segment, durably, so that nothing behind the last mark is ever read.
    fn seal(&mut self) -> Result<(), String> {
        let begun = self.ready().map_err(|error| error.to_string())?.sync();
        let mark = begun.map_err(|error| {
            self.writer = None;
            error.to_string()
        })?;
        self.mark = Some(mark);
        Ok(())
    }

    /// The segment to write to; begun if there is none.
    fn ready(&mut self) -> Result<&mut Writer, Failure> {
        if self.writer.is_none() {
            let writer = self.begin().map_err(|error| match error {
                WriteError::Fs(error) => Failure::not_stored(&error),
                other @ (WriteError::Record(_) | WriteError::Full(_) | WriteError::Dead(_)) => {
                    Failure::NotStored { full: false, what: other.to_string() }
                }
            })?;
            self.writer = Some(writer);
        }
        self.writer.as_mut().ok_or_else(|| unreachable!("it was set above"))
    }

    fn begin(&mut self) -> Result<Writer, WriteError> {
        let first = SegmentName::first(self.tenure.epoch);
        let mut name = match self.newest.filter(|newest| newest.epoch == self.tenure.epoch) {
            Some(newest) => newest.next().ok_or(WriteError::Full(newest))?,
            None => first,
        };
        for _ in 0..NAMES_MAX {
            let header = match &self.mark {
                Some(mark) => Header::after(self.account, name, self.node, mark, self.checkpoint),
                None => Header { name, ..Header::first(self.account, self.tenure.epoch, self.node) },
            };
            self.newest = Some(name);
            match Writer::create(Arc::clone(&self.fs), &self.journal, header) {
                Err(WriteError::Fs(error)) if error.is_exists() => {
                    name = name.next().ok_or(WriteError::Full(name))?;
                }
                created => return created,
            }
        }
        Err(WriteError::Full(name))
    }

    fn witness(&self, mark: Mark) -> Result<(), Failure> {
        let witnessed = witnessed(mark);
        let tenure = &self.tenure;
        match tenure.volume {
            Volume::Private => {
                tenure.witness.note(self.account, tenure.epoch, witnessed);
                Ok(())
            }
            Volume::Shared => {
                for _ in 0..WITNESS_ATTEMPTS {
                    match tenure.witness.accept(self.account, tenure.epoch, witnessed) {
                        Ok(()) => return Ok(()),
                        Err(WitnessError::StaleEpoch) => return Err(Failure::Deposed),
                        Err(WitnessError::Unknown) => {}
                    }
                }
                Err(Failure::Unknown("its witness got no answer".to_owned()))
            }
        }
    }

    /// Writes a checkpoint of the state after the last record, and begins the segment that names it (`locking.md`
    /// §6.1). A failure before the segment is begun costs nothing but the checkpoint.
    pub(crate) fn checkpoint(&mut self, payload: &[u8]) -> Result<(), CheckpointFailure> {
        let Some(mark) = self.mark else { return Ok(()) };
        let epoch = self.tenure.epoch;
        let written = checkpoint::write(&*self.fs, &self.checkpoints, epoch, mark.lsn, payload);
        let written = written.map_err(|error| CheckpointFailure::Kept(error.to_string()))?;
        let name = CheckpointName { epoch, lsn: mark.lsn };
        let before =
            self.checkpoint.replace(CheckpointPin { name, length: written.length, hash: written.hash });
        self.writer = None;
        let begun = self.ready().map(Writer::sync);
        let mark = match begun {
            Ok(Ok(mark)) => mark,
            Ok(Err(error)) => return Err(self.kept(before, error.to_string())),
            Err(error) => return Err(self.kept(before, error.to_string())),
        };
        self.witness(mark).map_err(CheckpointFailure::Broken)?;
        self.mark = Some(mark);
        self.records_since_checkpoint = 0;
        self.bytes_since_checkpoint = 0;
        Ok(())
    }

    fn kept(&mut self, before: Option<CheckpointPin>, what: String) -> CheckpointFailure {
        self.checkpoint = before;
        self.writer = None;
        CheckpointFailure::Kept(what)
    }

    /// Removes segments and checkpoints that nobody needs any more. The checkpoint before the newest stays, and every
    /// record since: should the newest be garbled, nothing is lost.
    pub(crate) fn trim(&self, orphans_before: std::time::SystemTime) {
        if let Err(error) = self.try_trim(orphans_before) {
            tracing::debug!(account = %self.account, error, "old journal segments stay");
        }
    }

    fn try_trim(&self, orphans_before: std::time::SystemTime) -> Result<(), String> {
        let (Some(mark), Some(newest)) = (self.mark, self.checkpoint) else { return Ok(()) };
        let fs = &*self.fs;
        let names =
            journal::trim::checkpoint_names(fs, &self.checkpoints).map_err(|error| error.to_string())?;
        let spare = names.into_iter().map(|name| name.lsn).filter(|lsn| *lsn < newest.name.lsn).max();
        let passed_lsn = spare.unwrap_or(0);
        let retention = journal::trim::Retention { passed_lsn, orphans_before };
        let (journal, checkpoints) = (&self.journal, &self.checkpoints);
        let plan = journal::trim::plan(fs, journal, checkpoints, self.account, &mark, &retention);
        let mut plan = plan.map_err(|error| error.to_string())?;
        plan.checkpoints.retain(|name| name.lsn < passed_lsn);
        journal::trim::remove(fs, journal, checkpoints, &plan).map_err(|error| error.to_string())
    }
}

/// Why there is no new checkpoint.
#[derive(Debug)]
pub(crate) enum CheckpointFailure {
    /// The old one still serves.
    Kept(String),
    /// The owner cannot go on.
    Broken(Failure),
}

pub(crate) fn witnessed(mark: Mark) -> Witnessed {
    let Mark { epoch, segment, length, hash, lsn } = mark;
    Witnessed { epoch, segment, length, hash, lsn }
}

pub(crate) fn mark_of(witnessed: Witnessed) -> Mark {
    let Witnessed { epoch, segment, length, hash, lsn } = witnessed;
    Mark { epoch, segment, length, hash, lsn }
}
