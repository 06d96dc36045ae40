//! The applied state: in memory, followed by its copy, frozen into snapshots.
//!
//! Invariants
//! - State, membership and the last applied log id change together, under one lock.
//! - Nothing here is the only copy of anything: the log and the snapshot are.

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use futures::{Stream, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::storage::{EntryResponder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend, RaftSnapshotBuilder};
use tokio::sync::watch;

use super::snapshot::{SnapshotFile, Snapshots};
use super::{Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};
use crate::command::{Answer, Bucket, Command, Wanted};
use crate::state::{State, Touched};

/// The state after the last applied entry. Cloning is cheap.
#[derive(Clone, Debug, Default)]
pub struct Applied {
    pub last: Option<LogId>,
    pub membership: StoredMembership,
    pub state: State,
}

#[derive(Default)]
struct Current {
    applied: Applied,
    /// What the copy has not got yet.
    touched: Touched,
    /// The copy must begin anew: the state was replaced.
    replaced: bool,
}

/// Buckets whose owner may be another after an entry.
#[derive(Clone, Copy, Debug)]
pub enum Moved<'a> {
    These(&'a [Bucket]),
    /// All, perhaps because sessions are other ones.
    Any,
}

/// Is told of every change of owners in the order of the log, before the next entry is applied.
pub type Follower = dyn Fn(&State, Moved<'_>) + Send + Sync;

/// Read access to the applied state.
#[derive(Clone)]
pub struct Reader {
    current: Arc<Mutex<Current>>,
    follower: Arc<OnceLock<Box<Follower>>>,
    /// Index of the last applied entry.
    applied: watch::Sender<Option<u64>>,
    /// Index of the entry that last changed who owns what, who has a session or who is a member.
    map: watch::Sender<u64>,
}

impl Default for Reader {
    fn default() -> Self {
        let (applied, map) = (watch::Sender::new(None), watch::Sender::new(0));
        Self { current: Arc::default(), follower: Arc::default(), applied, map }
    }
}

impl Reader {
    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the state. Nothing is applied meanwhile, so look briefly.
    pub fn read<T>(&self, look: impl FnOnce(&State) -> T) -> T {
        look(&self.lock().applied.state)
    }

    /// Looks at the state with the place in the log that it is of.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Applied) -> T) -> T {
        look(&self.lock().applied)
    }

    /// Tells this one follower of all changes of owners from now on. It must be brief, and read nothing of this state.
    pub(crate) fn follow(&self, follower: Box<Follower>) {
        let current = self.lock();
        if self.follower.set(follower).is_err() {
            tracing::error!("a state has one follower");
        }
        self.told(&current.applied.state, Moved::Any);
    }

    fn told(&self, state: &State, moved: Moved<'_>) {
        if let Some(follower) = self.follower.get() {
            follower(state, moved);
        }
    }

    /// Tells how far entries are applied.
    pub fn applied(&self) -> watch::Receiver<Option<u64>> {
        self.applied.subscribe()
    }

    /// Tells where in the log owners, sessions or members have changed last: the same at every node.
    pub fn map(&self) -> watch::Receiver<u64> {
        self.map.subscribe()
    }

    fn tell(&self, last: Option<LogId>, map_changed: bool) {
        self.applied.send_replace(last.map(|last| last.index));
        if map_changed {
            self.map.send_replace(last.map_or(0, |last| last.index));
        }
    }

    /// The membership that was applied last.
    pub fn membership(&self) -> StoredMembership {
        self.lock().applied.membership.clone()
    }

    /// A consistent copy of everything, for work that takes longer.
    pub fn freeze(&self) -> Applied {
        self.lock().applied.clone()
    }

    /// What has changed since the last call, with the state that it led to. `true`: everything has.
    pub fn take_changes(&self) -> Option<(Applied, Touched, bool)> {
        let mut current = self.lock();
        let touched = std::mem::take(&mut current.touched);
        let replaced = std::mem::take(&mut current.replaced);
        (replaced || touched != Touched::default()).then(|| (current.applied.clone(), touched, replaced))
    }
}

/// The state machine that the library owns.
pub struct Machine {
    reader: Reader,
    snapshots: Arc<Snapshots>,
}

impl Machine {
    /// Starts from what the copy held, or from nothing.
    pub fn new(copied: Option<Applied>, snapshots: Snapshots) -> Self {
        let reader = Reader::default();
        if let Some(applied) = copied {
            let last = applied.last;
            reader.lock().applied = applied;
            reader.tell(last, true);
        }
        Self { reader, snapshots: Arc::new(snapshots) }
    }

    pub fn reader(&self) -> Reader {
        self.reader.clone()
    }

    pub fn snapshots(&self) -> Arc<Snapshots> {
        Arc::clone(&self.snapshots)
    }

    fn apply_one(&self, entry: &Entry) -> Answer {
        let mut current = self.reader.lock();
        let Current { applied, touched, .. } = &mut *current;
        applied.last = Some(entry.log_id());
        match &entry.payload {
            EntryPayload::Blank => {
                touched.heads = true;
                Answer::Nothing
            }
            EntryPayload::Normal(proposal) => {
                let answer = applied.state.apply(entry.index(), &proposal.0, touched);
                if let Some(moved) = moved_by(&proposal.0.command) {
                    self.reader.told(&applied.state, moved);
                }
                answer
            }
            EntryPayload::Membership(membership) => {
                applied.membership = StoredMembership::new(Some(entry.log_id()), membership.clone());
                touched.heads = true;
                Answer::Nothing
            }
        }
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        let current = self.reader.lock();
        Ok((current.applied.last, current.applied.membership.clone()))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> io::Result<()>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let answer = self.apply_one(&entry);
            self.reader.tell(Some(entry.log_id()), moves_the_map(&entry));
            if let Some(responder) = responder {
                responder.send(answer);
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        Builder { applied: self.reader.freeze(), snapshots: Arc::clone(&self.snapshots) }
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotFile) -> io::Result<()> {
        let (snapshots, meta) = (Arc::clone(&self.snapshots), meta.clone());
        let (inside, state) = blocking(move || {
            let (inside, state) = snapshot.state()?;
            if inside != meta {
                return Err(io::Error::other(format!("snapshot {inside} arrived as {meta}")));
            }
            snapshots.publish(&inside, &snapshot)?;
            Ok((inside, state))
        })
        .await?;
        let mut current = self.reader.lock();
        // Membership is what the snapshot says, not what was known before it (L-RS4).
        current.applied = Applied { last: inside.last_log_id, membership: inside.last_membership, state };
        current.touched = Touched::default();
        current.replaced = true;
        self.reader.told(&current.applied.state, Moved::Any);
        let last = current.applied.last;
        drop(current);
        self.reader.tell(last, true);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        let snapshots = Arc::clone(&self.snapshots);
        let newest = blocking(move || snapshots.newest()).await?;
        Ok(newest.map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Whether owners, sessions or members may be others afterwards.
fn moves_the_map(entry: &Entry) -> bool {
    match &entry.payload {
        EntryPayload::Blank => false,
        EntryPayload::Membership(_) => true,
        EntryPayload::Normal(proposal) => moved_by(&proposal.0.command).is_some(),
    }
}

/// Buckets whose owner may be another after a command, or `None` if it does not concern the map at all.
fn moved_by(command: &Command) -> Option<Moved<'_>> {
    match command {
        Command::Witness { .. } | Command::Forget { .. } => None,
        Command::SessionOpen { .. }
        | Command::SessionExpire { .. }
        | Command::SessionClose { .. }
        | Command::Mirror(_)
        | Command::GiveAway { .. }
        | Command::Grant { wanted: Wanted::AllFree, .. } => Some(Moved::Any),
        Command::Grant { wanted: Wanted::These(buckets), .. } | Command::Assign { buckets, .. } => {
            Some(Moved::These(buckets))
        }
        Command::Drain { bucket, .. }
        | Command::Release { bucket, .. }
        | Command::HandOver { bucket, .. } => Some(Moved::These(std::slice::from_ref(bucket))),
        Command::Found { .. }
        | Command::Bind { .. }
        | Command::Enlist { .. }
        | Command::Retire { .. }
        | Command::SetDraining { .. }
        | Command::FoundGroups { .. }
        | Command::Mark { .. } => Some(Moved::These(&[])),
    }
}

/// Writes one frozen state to disk while others are applied.
pub struct Builder {
    applied: Applied,
    snapshots: Arc<Snapshots>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let Applied { last, membership, state } = self.applied.clone();
        let snapshots = Arc::clone(&self.snapshots);
        blocking(move || {
            let meta = SnapshotMeta { last_log_id: last, last_membership: membership };
            let snapshot = snapshots.write(&meta, &state)?;
            Ok(Snapshot { meta, snapshot })
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}
