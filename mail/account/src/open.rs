//! From what counts to an owner: witness, exactly that journal, checkpoint and records, state; then what other programs
//! did meanwhile (`locking.md` §6.1).
//!
//! Invariants
//! - On a shared volume what is read ends exactly where the witness says; on a private one where the last sync did, and
//!   never before what is known to have been reached.
//! - A journal that is shorter than its witness is never gone on with silently ([`OpenError::Durability`]).
//! - Opening twice gives the same as opening once.

use std::path::PathBuf;
use std::sync::Arc;

use journal::{CheckpointPin, Entry, Mark, ReadError, Tail, read_exact, read_tail};
use model::ReplicaId;
use nfs_compat::ErrorKind;
use store::index::checkpoint::{self, CheckpointError, CheckpointRef};

use crate::door::Refused;
use crate::image::Image;
use crate::log::{Found, Log, mark_of, witnessed};
use crate::owner::Owner;
use crate::patience::Shortfall;
use crate::reader::Reader;
use crate::recover::Loss;
use crate::settle::CHECKPOINT_RECORDS;
use crate::setup::{Now, Setup};
use crate::tenure::{Volume, WitnessError};

/// Why an account cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The operator restores the volume, or accepts the loss (`locking.md` §6.3).
    #[error("acknowledged changes are missing: {0}")]
    Durability(String),
    /// A shared volume shows less than what counts. This host's view may be old, so it is looked at again, with
    /// [`Patience`](crate::patience::Patience).
    #[error(transparent)]
    Behind(Box<Shortfall>),
    /// The coordination service gave no answer. It is tried again.
    #[error("how far the account's journal counts cannot be learnt: {0}")]
    Witness(#[from] WitnessError),
    /// The operator upgrades this node.
    #[error("a newer version of the program wrote the account: {0}")]
    Newer(String),
    /// The disk failed, or is full.
    #[error(transparent)]
    Fs(#[from] nfs_compat::Error),
    /// What opening found could not be made part of the journal.
    #[error("what was found in the account could not be stored: {0}")]
    NotStored(String),
}

/// What the disk has of an account.
pub(crate) struct Start {
    pub(crate) image: Image,
    pub(crate) found: Found,
    pub(crate) loss: Option<Loss>,
}

impl Owner {
    /// Opens an account: the one who calls it was granted the epoch in `setup`.
    pub fn open(setup: Setup, now: Now) -> Result<Self, OpenError> {
        let witness = setup.tenure.witness.read(setup.account)?.map(mark_of);
        let start = match (setup.tenure.volume, witness) {
            (Volume::Shared, None) => Start::fresh(&setup),
            (Volume::Shared, Some(mark)) => Start::exactly(&setup, &mark)?,
            (Volume::Private, witness) => Start::tail(&setup, witness.as_ref())?,
        };
        Self::begin(setup, start, now)
    }

    /// As [`open`](Self::open), giving up what cannot be read: the operator said so. No UID or operation number that
    /// may have been used before is used again.
    pub fn open_accepting_loss(setup: Setup, now: Now) -> Result<Self, OpenError> {
        let witness = setup.tenure.witness.read(setup.account)?.map(mark_of);
        let start = Start::whatever(&setup, witness.as_ref())?;
        Self::begin(setup, start, now)
    }

    /// Reads messages, from any thread, without waiting for the owner.
    pub fn reader(&self) -> Reader {
        Reader::new(Arc::clone(&self.setup.format), self.setup.cache.clone())
    }

    fn begin(setup: Setup, start: Start, now: Now) -> Result<Self, OpenError> {
        let Start { mut image, found, loss } = start;
        let is_new = found.mark.is_none() && loss.is_none();
        image.dues.epoch = setup.tenure.epoch;
        // Whoever could still write names of files had the epoch before ours (L-OB1).
        let oldest = found.mark.as_ref().map_or(setup.tenure.epoch, |mark| mark.epoch);
        let left_renames = image.dues.take_over(oldest, now.unix_us);
        let replica = replica_of(&image, &setup);
        let home = setup.home.clone();
        let (fs, tenure) = (Arc::clone(&setup.fs), setup.tenure.clone());
        let log = Log::new(fs, &home, setup.account, setup.node, tenure, found);
        let mut owner = Self::assemble(setup, image, log, replica, now);
        let wanted = owner.wanted().into_iter().map(|(id, _)| id).collect();
        owner.image.dues.give_up_placing(&wanted);
        if left_renames || owner.log.records_since_checkpoint() > 0 {
            owner.image.dues.unsynced = wanted;
        }
        owner.publish();
        owner.shown_by_predecessor();
        if let Some(loss) = loss {
            owner.recover(now, loss)?;
        }
        owner.look_around(now, is_new)?;
        Ok(owner)
    }

    /// Takes in what lies on disk, and brings the disk to what the journal says.
    fn look_around(&mut self, now: Now, is_new: bool) -> Result<(), OpenError> {
        if is_new {
            self.outlive_lost_state(now)?;
        }
        let refused = |refused: Refused| OpenError::NotStored(refused.to_string());
        // A store that cannot be listed now is looked at again later; mail that is journaled can be read meanwhile.
        if let Err(trouble) = self.discover(now) {
            self.check_sound().map_err(refused)?;
            self.report("other programs' mailboxes cannot be looked for", &trouble.to_string());
        }
        self.create_configured(now).map_err(refused)?;
        // As long as nobody subscribed here, the list is a former server's.
        if self.image.state.subscriptions().next().is_none()
            && !self.image.dues.subscriptions
            && let Err(trouble) = self.adopt_subscriptions(now)
        {
            self.report("subscriptions are not taken over", &trouble.to_string());
        }
        self.finish_turn(now, Vec::new());
        self.check_sound().map_err(refused)?;
        self.image.dues.arrange = true;
        self.carry_out(now);
        self.lost_state = false;
        if self.log.records_since_checkpoint() >= CHECKPOINT_RECORDS
            && let Err(what) = self.checkpoint(now)
        {
            self.check_sound().map_err(refused)?;
            self.report("no new checkpoint", &what);
        }
        self.publish();
        Ok(())
    }
}

/// The replica that the state last issued operations as.
fn replica_of(image: &Image, setup: &Setup) -> ReplicaId {
    let own = image.state.version().iter().map(|(rid, _)| rid).filter(|rid| rid.site() == setup.site);
    own.max().filter(|rid| rid.incarnation() > 0).unwrap_or(ReplicaId::new(setup.site, 1))
}

impl Start {
    /// Nothing counts yet.
    fn fresh(setup: &Setup) -> Self {
        Self { image: Image::new(setup.account, setup.site), found: Found::default(), loss: None }
    }

    /// As the witness says, or what the volume shows instead (`locking.md` §6.2).
    pub(crate) fn exactly(setup: &Setup, mark: &Mark) -> Result<Self, OpenError> {
        let behind = |short: PathBuf, found: String| {
            let file = setup.home.journal().join(mark.name().to_string());
            OpenError::Behind(Box::new(Shortfall { witness: witnessed(*mark), file, short, found }))
        };
        let journal = setup.home.journal();
        let replay = match read_exact(&*setup.fs, &journal, setup.account, mark) {
            Ok(replay) => replay,
            Err(error) => {
                let found = error.to_string();
                let short = match error {
                    ReadError::Stale { segment, .. } | ReadError::Mismatch { segment } => segment,
                    ReadError::Garbled(garbled) => garbled.segment,
                    ReadError::Foreign { .. } => return Err(OpenError::Newer(found)),
                    ReadError::Fs(failed) if failed.kind == ErrorKind::Stale => mark.name(),
                    ReadError::Fs(failed) => return Err(OpenError::Fs(failed)),
                };
                return Err(behind(journal.join(short.to_string()), found));
            }
        };
        let pin = replay.checkpoint;
        match Self::replay(setup, pin, &replay.entries, *mark, Some(mark.name())) {
            // All that was read is what was pinned: only a checkpoint can be one that this host does not see yet.
            Err(OpenError::Durability(what)) => {
                let name = pin.map_or_else(|| mark.name().to_string(), |pin| pin.name.to_string());
                let directory = if pin.is_some() { setup.home.checkpoints() } else { journal };
                Err(behind(directory.join(name), what))
            }
            start => start,
        }
    }

    pub(crate) fn tail(setup: &Setup, expected: Option<&Mark>) -> Result<Self, OpenError> {
        match read_tail(&*setup.fs, &setup.home.journal(), setup.account, expected) {
            Ok(tail) => Self::of_tail(setup, tail),
            Err(ReadError::Garbled(garbled)) => {
                let what = format!("segment {} is garbled at {}", garbled.segment, garbled.offset);
                let loss = Loss {
                    what,
                    segment: Some(garbled.segment),
                    after: garbled.after.iter().map(|entry| entry.record.clone()).collect(),
                    lsn: Loss::lsn_after(garbled.before.iter().chain(&garbled.after), expected),
                };
                Self::with_loss(setup, garbled.checkpoint, &garbled.before, loss)
            }
            Err(error @ (ReadError::Stale { .. } | ReadError::Mismatch { .. })) => {
                Err(OpenError::Durability(error.to_string()))
            }
            Err(error @ ReadError::Foreign { .. }) => Err(OpenError::Newer(error.to_string())),
            Err(ReadError::Fs(error)) => Err(OpenError::Fs(error)),
        }
    }

    fn of_tail(setup: &Setup, tail: Tail) -> Result<Self, OpenError> {
        for orphan in tail.orphans.iter().filter(|orphan| orphan.records > 0) {
            let (account, segment, records) = (setup.account, orphan.name, orphan.records);
            tracing::warn!(%account, %segment, records, "journal segment that nothing continues from is left aside");
        }
        let Some(mark) = tail.mark else {
            let mut fresh = Self::fresh(setup);
            fresh.found.newest = tail.newest;
            return Ok(fresh);
        };
        Self::replay(setup, tail.checkpoint, &tail.entries, mark, tail.newest)
    }

    /// For an operator who accepts that changes are lost.
    fn whatever(setup: &Setup, witness: Option<&Mark>) -> Result<Self, OpenError> {
        let journal = setup.home.journal();
        let accepted = |what: String, lsn| Loss { what, segment: None, after: Vec::new(), lsn };
        match read_tail(&*setup.fs, &journal, setup.account, None) {
            Ok(tail) => {
                let lsn = tail.mark.map_or(0, |mark| mark.lsn).max(witness.map_or(0, |mark| mark.lsn));
                let what = format!("the operator accepted the loss of what was witnessed up to record {lsn}");
                let mut start = Self::of_tail(setup, tail)?;
                start.found.mark = Some(Loss::mark(setup, lsn));
                start.loss = Some(accepted(what, lsn));
                Ok(start)
            }
            Err(ReadError::Garbled(_)) => Self::tail(setup, None),
            Err(error @ ReadError::Foreign { .. }) => Err(OpenError::Newer(error.to_string())),
            Err(ReadError::Fs(error)) => Err(OpenError::Fs(error)),
            Err(error @ (ReadError::Stale { .. } | ReadError::Mismatch { .. })) => {
                let lsn = witness.map_or(0, |mark| mark.lsn);
                Self::with_loss(setup, None, &[], accepted(error.to_string(), lsn))
            }
        }
    }

    fn with_loss(
        setup: &Setup,
        checkpoint: Option<CheckpointPin>,
        before: &[Entry],
        loss: Loss,
    ) -> Result<Self, OpenError> {
        let mark = Loss::mark(setup, loss.lsn);
        let loaded = checkpoint.map(|pin| load(setup, &pin)).transpose()?.flatten();
        let (mut image, covered) = match (loaded, checkpoint) {
            (Some(image), Some(pin)) => (image, pin.name.lsn),
            (None, Some(_)) | (Some(_), None) | (None, None) => newest_readable(setup, u64::MAX)?,
        };
        for entry in before.iter().filter(|entry| entry.lsn > covered) {
            image.dues.epoch = entry.segment.epoch;
            // What does not follow is re-issued with what came after the damage.
            if image.apply(&entry.record).is_err() {
                tracing::warn!(account = %setup.account, lsn = entry.lsn, "record does not follow what can be read");
            }
        }
        let found = Found { mark: Some(mark), newest: newest_segment(setup)?, ..Found::default() };
        Ok(Self { image, found, loss: Some(loss) })
    }

    fn replay(
        setup: &Setup,
        pin: Option<CheckpointPin>,
        entries: &[Entry],
        mark: Mark,
        newest: Option<journal::SegmentName>,
    ) -> Result<Self, OpenError> {
        let (image, records_since_checkpoint) = match pin {
            None => (join(Image::new(setup.account, setup.site), entries)?, mark.lsn),
            Some(pin) => match load(setup, &pin)? {
                Some(image) => (join(image, entries)?, entries.len() as u64),
                // A new one is written as soon as the account is open.
                None => (without_checkpoint(setup, &mark)?, CHECKPOINT_RECORDS),
            },
        };
        let found = Found { mark: Some(mark), checkpoint: pin, newest, records_since_checkpoint };
        Ok(Self { image, found, loss: None })
    }
}

/// The greatest segment name in use: new ones are greater.
fn newest_segment(setup: &Setup) -> Result<Option<journal::SegmentName>, OpenError> {
    let entries = match setup.fs.read_dir(&setup.home.journal()) {
        Err(error) if error.is_not_found() => return Ok(None),
        entries => entries?,
    };
    Ok(entries.iter().filter_map(|entry| journal::SegmentName::parse(entry.name.to_str()?)).max())
}

/// The state of a pinned checkpoint; `None` if it is missing or garbled.
fn load(setup: &Setup, pin: &CheckpointPin) -> Result<Option<Image>, OpenError> {
    let wanted = CheckpointRef { name: pin.name.to_string(), length: pin.length, hash: pin.hash };
    let payload = checkpoint::read(&*setup.fs, &setup.home.checkpoints(), &wanted);
    decode(setup, payload)
}

fn decode(setup: &Setup, payload: Result<Vec<u8>, CheckpointError>) -> Result<Option<Image>, OpenError> {
    let damage = match payload {
        Ok(payload) => match Image::decode(&payload) {
            Ok(image) => return Ok(Some(image)),
            Err(damage) => damage,
        },
        Err(CheckpointError::Fs(error)) => return Err(OpenError::Fs(error)),
        Err(error @ CheckpointError::Newer(..)) => return Err(OpenError::Newer(error.to_string())),
        Err(error @ (CheckpointError::Missing(_) | CheckpointError::Garbled(..))) => error.to_string(),
    };
    tracing::error!(account = %setup.account, user = setup.user, damage, "checkpoint is not used");
    Ok(None)
}

/// The newest checkpoint up to a position that can be read, and its position; without any, nothing at 0.
fn newest_readable(setup: &Setup, up_to: u64) -> Result<(Image, u64), OpenError> {
    let directory = setup.home.checkpoints();
    for name in journal::trim::checkpoint_names(&*setup.fs, &directory)?.into_iter().rev() {
        if name.lsn > up_to {
            continue;
        }
        let payload = checkpoint::read_unpinned(&*setup.fs, &directory, &name.to_string());
        if let Some(image) = decode(setup, payload)? {
            return Ok((image, name.lsn));
        }
    }
    Ok((Image::new(setup.account, setup.site), 0))
}

/// The state up to a mark from an older checkpoint, or none, and all records since.
fn without_checkpoint(setup: &Setup, mark: &Mark) -> Result<Image, OpenError> {
    let lost = |what: &str| OpenError::Durability(format!("the checkpoint cannot be read, and {what}"));
    let journal = setup.home.journal();
    let shown = journal::Show::new(&*setup.fs, &journal, setup.account);
    let shown = shown.map_err(|error| lost(&error.to_string()))?;
    let mut entries: Vec<Entry> = Vec::new();
    for line in shown {
        match line.map_err(|error| lost(&error.to_string()))? {
            journal::Shown::Record(entry) if entry.lsn <= mark.lsn => entries.push(entry),
            journal::Shown::Record(_)
            | journal::Shown::Torn(_)
            | journal::Shown::Garbled { .. }
            | journal::Shown::Orphan(_) => {}
        }
    }
    // A checkpoint that was written and never named stands for records that may not count: it must lie at or below
    // what is known to count, and was written under an epoch that counted.
    let (image, covered) = newest_readable(setup, mark.lsn)?;
    entries.retain(|entry| entry.lsn > covered);
    let expected = covered + 1..=mark.lsn;
    if !entries.iter().map(|entry| entry.lsn).eq(expected) {
        return Err(lost("records since the one before are missing"));
    }
    join(image, &entries)
}

fn join(mut image: Image, entries: &[Entry]) -> Result<Image, OpenError> {
    for entry in entries {
        image.dues.epoch = entry.segment.epoch;
        let applied = image.apply(&entry.record);
        applied.map_err(|error| OpenError::Durability(format!("record {}: {error}", entry.lsn)))?;
    }
    Ok(image)
}
