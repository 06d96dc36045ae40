//! A voter: the consensus library on our log, snapshot and state, started, asked and stopped.
//!
//! Invariants
//! - A voter that starts has applied at least what it had applied before it stopped.
//! - A new service takes an incarnation above every one that its volume has seen; an old one below it does not start.
//! - The log stays short: a snapshot follows after so many entries or bytes, and what it covers is purged.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use nfs_compat::Fs;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{ClientWriteError, RaftError};
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::WriteResponderOf;
use openraft::{BasicNode, Config, RaftMetrics, ReadPolicy, SnapshotPolicy};

use crate::command::{Answer, Command, Proposal, Refusal, Request, RequestId};
use crate::raft::copy::Copy;
use crate::raft::log::{LogOptions, OpenError};
use crate::raft::machine::{Machine, Reader};
use crate::raft::network::NoPeers;
use crate::raft::snapshot::Snapshots;
use crate::raft::store::{LogReader, LogStore};
use crate::raft::{Raft, TypeConfig};

/// A snapshot is made after this many entries, or this many bytes of log, whichever comes first.
const SNAPSHOT_ENTRIES: u64 = 10_000;
const SNAPSHOT_BYTES: usize = 32 << 20;
/// Entries that stay for a peer that is a little behind.
const KEEP_ENTRIES: u64 = 64;
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// A start that takes longer has failed.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a request is tried before its result counts as unknown.
pub const PROPOSE_MAX: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_millis(20);

/// How a voter is to be started.
#[derive(Clone)]
pub struct VoterOptions {
    /// Holds `raft/log` and `raft/snapshot`.
    pub state_dir: PathBuf,
    pub fs: Arc<dyn Fs>,
    pub log: LogOptions,
    /// Where the local copy lies, always on the real disk; `None` for no copy.
    pub copy: Option<PathBuf>,
    pub node_id: u8,
    pub site: u8,
    /// Highest incarnation that the volume's superblock has seen.
    pub incarnation_floor: u32,
}

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Log(#[from] OpenError),
    #[error(transparent)]
    Fs(#[from] nfs_compat::Error),
    #[error("cannot use the local copy of the coordination state: {0}")]
    Copy(#[source] std::io::Error),
    #[error("this state directory belongs to site {found}, but the configuration says site {wanted}")]
    OtherSite { found: u8, wanted: u8 },
    /// The volume has been served by a newer coordination service than the one in this directory.
    #[error(
        "the volume has seen coordination incarnation {floor}, but this state directory has {found}: it is an old copy"
    )]
    OldIncarnation { found: u32, floor: u32 },
    #[error("the volume's incarnation is the highest possible")]
    IncarnationsUsedUp,
    #[error("the coordination service does not start: {0}")]
    Raft(String),
}

/// Why a request has no answer. Whether it was carried out is not known (L-CM2).
#[derive(Debug, thiserror::Error)]
#[error("no answer from the coordination service: {0}")]
pub struct NoAnswer(pub String);

/// The receiver of the answer to a request under way.
pub(crate) type Pending = tokio::sync::oneshot::Receiver<ClientWriteResult<TypeConfig>>;

/// What is true of the group right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    pub leader: Option<u64>,
    pub term: u64,
    pub last_log: Option<u64>,
    pub last_applied: Option<u64>,
    pub snapshot: Option<u64>,
    pub purged: Option<u64>,
    pub log_bytes: usize,
    /// Why the voter has stopped for good.
    pub failure: Option<String>,
}

/// Threads that end when what feeds them is dropped.
struct Threads {
    log: JoinHandle<()>,
    copy: Option<(Sender<()>, JoinHandle<()>)>,
}

/// A running voter.
pub struct Voter {
    raft: Raft,
    reader: Reader,
    log: LogReader,
    threads: std::sync::Mutex<Option<Threads>>,
    housekeeping: tokio::task::JoinHandle<()>,
}

/// What was opened, before the library runs on it.
struct Opened {
    store: LogStore,
    machine: Machine,
    threads: Threads,
}

impl Voter {
    /// Opens what is on disk, or founds a group of one. Returns when requests are answered.
    pub async fn start(options: VoterOptions) -> Result<Self, StartError> {
        let blocking = options.clone();
        let opened = tokio::task::spawn_blocking(move || open(&blocking));
        let Opened { store, machine, threads } =
            opened.await.map_err(|error| StartError::Raft(error.to_string()))??;
        let (reader, log) = (machine.reader(), store.reader());
        let id = u64::from(options.node_id);
        let raft = Raft::new(id, Arc::new(raft_config()?), NoPeers, store, machine).await.map_err(failed)?;
        let housekeeping = tokio::spawn(housekeep(raft.clone(), log.clone()));
        let voter = Self { raft, reader, log, threads: std::sync::Mutex::new(Some(threads)), housekeeping };
        match voter.lead(&options).await {
            Ok(()) => Ok(voter),
            Err(error) => {
                voter.shutdown().await;
                Err(error)
            }
        }
    }

    /// Becomes leader of the group of one, recovers, founds the service or checks that it is the right one.
    async fn lead(&self, options: &VoterOptions) -> Result<(), StartError> {
        if !self.raft.is_initialized().await.map_err(failed)? {
            let members = BTreeMap::from([(u64::from(options.node_id), BasicNode::default())]);
            self.raft.initialize(members).await.map_err(failed)?;
        }
        self.raft.wait_for_recovery(Some(START_MAX)).await.map_err(failed)?;
        self.confirm().await.map_err(failed)?;
        let Some(config) = self.reader.read(|state| state.config) else {
            return self.found(options).await;
        };
        if config.site != options.site {
            return Err(StartError::OtherSite { found: config.site, wanted: options.site });
        }
        if config.incarnation < options.incarnation_floor {
            let (found, floor) = (config.incarnation, options.incarnation_floor);
            return Err(StartError::OldIncarnation { found, floor });
        }
        Ok(())
    }

    async fn found(&self, options: &VoterOptions) -> Result<(), StartError> {
        let incarnation = options.incarnation_floor.checked_add(1).ok_or(StartError::IncarnationsUsedUp)?;
        let command = Command::Found { site: options.site, incarnation };
        let request = Request { id: RequestId { client: rand::random(), seq: 1 }, command };
        match self.propose(&Arc::new(request)).await.map_err(failed)? {
            Answer::Done => Ok(()),
            other @ (Answer::Nothing
            | Answer::Opened(_)
            | Answer::Granted(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_)) => Err(StartError::Raft(format!("founding was answered {other:?}"))),
        }
    }

    /// The applied state.
    pub fn reader(&self) -> &Reader {
        &self.reader
    }

    /// Returns when the applied state holds everything that was acknowledged before the call, to anybody (L-RS7).
    pub async fn confirm(&self) -> Result<(), NoAnswer> {
        let until = tokio::time::Instant::now() + PROPOSE_MAX;
        loop {
            match self.raft.ensure_linearizable(ReadPolicy::ReadIndex).await {
                Ok(_) => return Ok(()),
                Err(RaftError::APIError(error)) if tokio::time::Instant::now() < until => {
                    tracing::debug!(%error, "a read is not confirmed yet");
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(error) => return Err(NoAnswer(error.to_string())),
            }
        }
    }

    /// Puts a request into the log, in the order of calls, and returns where its answer will arrive.
    pub(crate) async fn begin(&self, request: &Arc<Request>) -> Result<Pending, NoAnswer> {
        let (responder, pending): (WriteResponderOf<TypeConfig>, _) = ProgressResponder::complete_only();
        let begun = self.raft.client_write_ff(Proposal(Arc::clone(request)), Some(responder)).await;
        begun.map_err(|error| NoAnswer(error.to_string()))?;
        Ok(pending)
    }

    /// Has a request carried out once. It is tried again under the same id while its result is unknown.
    pub async fn propose(&self, request: &Arc<Request>) -> Result<Answer, NoAnswer> {
        let until = tokio::time::Instant::now() + PROPOSE_MAX;
        loop {
            match received(self.begin(request).await?.await) {
                Ok(answer) => return Ok(answer),
                Err(Failure::Stopped) => return Err(NoAnswer("this voter has stopped".to_owned())),
                Err(Failure::Again(error)) if tokio::time::Instant::now() < until => {
                    tracing::debug!(%error, "a request was not taken; trying again");
                    tokio::time::sleep(RETRY_EVERY).await;
                }
                Err(Failure::Again(error)) => return Err(NoAnswer(error)),
            }
        }
    }

    pub fn status(&self) -> GroupStatus {
        let receiver = self.raft.metrics();
        let metrics: RaftMetrics<TypeConfig> = receiver.borrow_watched().clone();
        GroupStatus {
            leader: metrics.current_leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            last_applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            log_bytes: self.log.bytes(),
            failure: metrics.running_state.err().map(|error| error.to_string()),
        }
    }

    /// Returns why, when the voter stops for good: its disk failed, or it was shut down (L-RS1).
    pub async fn stopped(&self) -> String {
        let mut metrics = self.raft.metrics();
        loop {
            if let Err(error) = &metrics.borrow_watched().running_state {
                return error.to_string();
            }
            if metrics.changed().await.is_err() {
                return "the coordination service has ended".to_owned();
            }
        }
    }

    /// Makes a snapshot now, and purges what it covers.
    pub async fn snapshot(&self) -> Result<(), NoAnswer> {
        self.raft.trigger().snapshot().await.map_err(|error| NoAnswer(error.to_string()))
    }

    /// Stops, and returns when nothing is written any more.
    pub async fn shutdown(&self) {
        self.housekeeping.abort();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(%error, "the coordination service did not stop cleanly");
        }
        let threads = self.threads.lock().unwrap_or_else(std::sync::PoisonError::into_inner).take();
        let Some(Threads { log, copy }) = threads else { return };
        let joined = tokio::task::spawn_blocking(move || {
            let copied = copy.is_none_or(|(stop, copy)| {
                drop(stop);
                copy.join().is_ok()
            });
            log.join().is_ok() && copied
        });
        if !joined.await.unwrap_or(false) {
            tracing::error!("a thread of the coordination service had panicked");
        }
    }
}

impl Drop for Voter {
    fn drop(&mut self) {
        self.housekeeping.abort();
    }
}

/// Why a request under way has no answer.
pub(crate) enum Failure {
    /// Not taken, or perhaps taken: to be sent again under the same id.
    Again(String),
    Stopped,
}

pub(crate) fn received(
    result: Result<ClientWriteResult<TypeConfig>, tokio::sync::oneshot::error::RecvError>,
) -> Result<Answer, Failure> {
    match result {
        Ok(Ok(response)) if response.data == Answer::Refused(Refusal::TooOld) => {
            Err(Failure::Again("its answer is forgotten".to_owned()))
        }
        Ok(Ok(response)) => Ok(response.data),
        Ok(Err(
            error @ (ClientWriteError::ForwardToLeader(_)
            | ClientWriteError::LogEntryDiscarded(_)
            | ClientWriteError::ChangeMembershipError(_)
            | ClientWriteError::PreconditionFailed(_)),
        )) => Err(Failure::Again(error.to_string())),
        Err(_) => Err(Failure::Stopped),
    }
}

fn failed(error: impl std::fmt::Display) -> StartError {
    StartError::Raft(error.to_string())
}

fn raft_config() -> Result<Config, StartError> {
    let config = Config {
        cluster_name: "roost".to_owned(),
        heartbeat_interval: 250,
        election_timeout_min: 750,
        election_timeout_max: 1500,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::LogsSinceLast(SNAPSHOT_ENTRIES),
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        // L-RS2: a voter whose log went back is a new node.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    config.validate().map_err(failed)
}

fn open(options: &VoterOptions) -> Result<Opened, StartError> {
    let directory: &Path = &options.state_dir;
    let fs = &options.fs;
    let log_directory = directory.join("raft").join("log");
    let (store, log) = LogStore::open(Arc::clone(fs), &log_directory, options.log, rand::random())?;
    let snapshots = Snapshots::open(Arc::clone(fs), &directory.join("raft").join("snapshot"))?;
    let copy = options.copy.as_ref().map(|copy| Copy::open(copy, store.store()));
    let (copy, applied) = copy.transpose().map_err(StartError::Copy)?.unzip();
    let machine = Machine::new(applied.flatten(), snapshots);
    let copy = copy.map(|copy| copy.follow(machine.reader())).transpose().map_err(StartError::Copy)?;
    Ok(Opened { store, machine, threads: Threads { log, copy } })
}

/// Makes a snapshot when the log has grown long in bytes; the library itself only counts entries.
async fn housekeep(raft: Raft, log: LogReader) {
    let mut tried_at = None;
    loop {
        tokio::time::sleep(HOUSEKEEPING_EVERY).await;
        let applied = raft.metrics().borrow_watched().last_applied.map(|id| id.index);
        if log.bytes() < SNAPSHOT_BYTES || applied == tried_at {
            continue;
        }
        tried_at = applied;
        if let Err(error) = raft.trigger().snapshot().await {
            tracing::debug!(%error, "no snapshot, the coordination service has stopped");
            return;
        }
    }
}
