//! A voter: the consensus library on our log, snapshot and state, started, asked and stopped.
//!
//! Invariants
//! - A voter that starts has applied at least what it had applied before it stopped.
//! - A new service takes an incarnation above every one that its volume has seen; an old one below it does not start.
//! - The log stays short: a snapshot follows after so many entries or bytes, and what it covers is purged.
//! - It takes part only as whom it is ([`forming`]).

mod around;
mod asking;
mod core;
mod disk;
mod forming;
mod groups;
mod leader;
mod life;
mod members;
mod mirror;
mod rebuild;
mod succession;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::mpsc::Sender;
use std::thread::JoinHandle;
use std::time::Duration;

use futures::future::BoxFuture;
use nfs_compat::Fs;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::raft::ClientWriteResult;
use openraft::{BasicNode, Config, Instant as _, RaftMetrics, SnapshotPolicy};

pub(crate) use self::core::Core;
use self::forming::{Identity, Newcomer, Part};
use self::life::Life;
pub use self::rebuild::Founding;
use crate::command::{Answer, Command, Refusal, Request, RequestId, SessionId};
use crate::lease::Length;
use crate::peer::message::{Ask, Change, Join, RaftId, Reply, node_of, raft_id};
use crate::peer::{Alone, Behind, Door, Peers};
use crate::raft::copy::Copy;
use crate::raft::log::{LogOptions, OpenError};
use crate::raft::machine::{Machine, Reader};
use crate::raft::network::Network;
use crate::raft::snapshot::Snapshots;
use crate::raft::store::{LogReader, LogStore};
use crate::raft::{LogId, Raft, TypeConfig, to_the_end};

/// A snapshot is made after this many entries, or this many bytes of log, whichever comes first,
const SNAPSHOT_ENTRIES: u64 = 10_000;
const SNAPSHOT_BYTES: u64 = 32 << 20;
/// but not before the log has this part of the last one's bytes: with very many accounts it is long to write.
const SNAPSHOT_PART: u64 = 8;
/// Entries that stay for a peer that is a little behind.
const KEEP_ENTRIES: u64 = 64;
/// Most entries in one append.
const APPEND_ENTRIES: u64 = 64;
const HOUSEKEEPING_EVERY: Duration = Duration::from_secs(1);
/// A start that takes longer has failed.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a request is tried before its result counts as unknown.
pub const PROPOSE_MAX: Duration = Duration::from_secs(5);
const RETRY_EVERY: Duration = Duration::from_millis(20);
const STOPPED: &str = "this voter has stopped";
/// A node of a site waits for the others without end; so often it says so.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// The other nodes of a site.
#[derive(Clone)]
pub struct Site {
    /// The configured voters of the site with their addresses, this node among them.
    pub members: BTreeMap<u8, String>,
    pub peers: Arc<dyn Peers>,
    /// Where the messages of the others arrive. Served before the voter starts.
    pub door: Arc<Door>,
}

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
    pub lease: Length,
    /// Groups that keep buckets: 1, or as many beside the one that keeps sessions and nodes.
    pub groups: u16,
    /// `None` for a site of one node.
    pub peers: Option<Site>,
    /// Sets room aside on the disk (L-RS5).
    pub ballast: bool,
    /// A node alone whose state is lost may found the service anew, although nothing is witnessed then.
    pub found_anew: bool,
}

impl VoterOptions {
    fn voters(&self) -> Vec<u8> {
        let configured = self.peers.iter().flat_map(|site| site.members.keys().copied());
        let mut voters: Vec<u8> = configured.collect();
        if voters.is_empty() {
            voters.push(self.node_id);
        }
        voters
    }

    fn disk(&self) -> disk::Disk {
        disk::Disk::new(Arc::clone(&self.fs), &self.state_dir, self.ballast)
    }

    /// The founding membership: the same on every node, whatever addresses their configurations have.
    fn founders(&self) -> BTreeMap<RaftId, BasicNode> {
        self.voters().into_iter().map(|node| (raft_id(node, 0), BasicNode::new(""))).collect()
    }
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
    #[error("this state directory belongs to node {found}, but the configuration says node {wanted}")]
    OtherNode { found: u8, wanted: u8 },
    #[error(
        "this site was founded with cluster.groups = {found}, but the configuration says {wanted}: set cluster.groups = \
         {found} on all its nodes; another number needs a site that is founded anew"
    )]
    OtherGroups { found: u16, wanted: u16 },
    /// Part of the directory was lost. What this voter has promised is not known any more (L-RS2).
    #[error(
        "the coordination log below {} is not the one this node had: restore it, or remove the whole directory and let \
         the node in anew with `roost cluster remove` and `roost cluster add`",
        path.display()
    )]
    LogLost { path: PathBuf },
    /// L-RS2: its disk was lost, and what it has promised with it.
    #[error("{0}")]
    OtherStore(String),
    /// L-RS5.
    #[error("{0}")]
    DiskFull(String),
    /// Nothing would be witnessed of what the volume holds.
    #[error(
        "the volume was served before, and this node's state_dir knows nothing of it: put it back if you have it; if it \
         is lost, run `roost cluster rebuild --config FILE`"
    )]
    StateLost,
    /// L-RS2: an older copy of its disk, or a second process with a copy of it.
    #[error("{0}")]
    PutBack(String),
    /// Another process of this node is alive.
    #[error("{0}")]
    Elsewhere(String),
    /// It was removed from its site, and does not come back with this disk.
    #[error("{0}")]
    Removed(String),
    #[error("the coordination service does not start: {0}")]
    Raft(String),
}

/// Why a request has no answer. Whether it was carried out is not known (L-CM2).
#[derive(Debug, thiserror::Error)]
#[error("no answer from the coordination service: {0}")]
pub struct NoAnswer(pub String);

/// The answer to a request under way, by a deadline.
pub(crate) type Pending = BoxFuture<'static, Result<Answer, Failure>>;

/// What is true of the group right now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupStatus {
    /// The number of the node that leads.
    pub leader: Option<u64>,
    pub voters: Vec<u8>,
    pub learners: Vec<u8>,
    pub term: u64,
    pub last_log: Option<u64>,
    pub last_applied: Option<u64>,
    pub snapshot: Option<u64>,
    pub purged: Option<u64>,
    pub log_bytes: usize,
    /// Why the voter has stopped for good.
    pub failure: Option<String>,
    /// At the leader, how far the others are, as it knows.
    pub followers: Vec<Follower>,
}

/// Another member, as the leader sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Follower {
    pub node: u8,
    /// Up to this index its log is the leader's.
    pub matched: Option<u64>,
    /// How long ago it answered; `None`: not since this leader was elected.
    pub heard: Option<Duration>,
}

/// Threads that end when what feeds them is dropped.
struct Threads {
    log: JoinHandle<()>,
    copy: Option<(Sender<()>, JoinHandle<()>)>,
}

/// A running voter.
pub struct Voter {
    core: Arc<Core>,
    door: Option<Arc<Door>>,
    threads: std::sync::Mutex<Option<Threads>>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// Which group a voter is of, and who it is there.
struct Place {
    group: u16,
    id: RaftId,
    /// The store that others know this node by: the first group's.
    store: u64,
    /// Where it is known who the nodes are: the state of the first group.
    nodes: Reader,
    peers: Arc<dyn Peers>,
}

/// What was opened, before the library runs on it.
struct Opened {
    store: LogStore,
    machine: Machine,
    threads: Threads,
    blank: bool,
    identity: Option<Identity>,
    life: Arc<Life>,
    /// Index up to which the newest snapshot goes.
    snapshot: Option<u64>,
    rebuilt_at: Option<u64>,
}

impl Voter {
    /// Opens what is on disk, founds a group or joins one. Returns when requests are answered; in a site of several
    /// nodes that is when a majority is up.
    pub async fn start(options: VoterOptions) -> Result<Self, StartError> {
        let blocking = options.clone();
        let opened = tokio::task::spawn_blocking(move || open(&blocking));
        let opened = opened.await.map_err(|error| StartError::Raft(error.to_string()))??;
        let peers: Arc<dyn Peers> =
            options.peers.as_ref().map_or(Arc::new(Alone), |site| Arc::clone(&site.peers));
        let part = find_out(&options, &opened, &peers).await?;
        if options.peers.is_some() {
            let life = Arc::clone(&opened.life);
            let drawn = tokio::task::spawn_blocking(move || life.draw());
            drawn.await.map_err(failed)?.map_err(failed)?;
            if !opened.blank {
                life::hear(&options, &opened, &peers).await?;
            }
        }
        let id = match part {
            Part::Founder => raft_id(options.node_id, 0),
            Part::Member(id) => id,
        };
        let place =
            Place { group: 0, id, store: opened.store.store(), nodes: opened.machine.reader(), peers };
        let mut voter = Self::run(&options, opened, place).await?;
        match voter.take_part(&options, part).await {
            Ok(()) => {
                if options.peers.is_some() {
                    voter.tasks.push(tokio::spawn(life::keep_marks(Arc::downgrade(&voter.core))));
                }
                Ok(voter)
            }
            Err(error) => {
                voter.shutdown().await;
                Err(error)
            }
        }
    }

    async fn run(options: &VoterOptions, opened: Opened, place: Place) -> Result<Self, StartError> {
        let Opened { store, machine, threads, life, rebuilt_at, .. } = opened;
        let (reader, log, snapshots) = (machine.reader(), store.reader(), machine.snapshots());
        let Place { group, id, store: number, nodes, peers } = place;
        let ways = Arc::clone(&peers);
        let network = Network { peers: ways, me: id, store: number, group, nodes: nodes.clone() };
        let raft = Raft::new(id, Arc::new(raft_config()?), network, store, machine).await.map_err(failed)?;
        let core = Arc::new(Core {
            group,
            raft: raft.clone(),
            reader,
            nodes,
            log: log.clone(),
            snapshots: Arc::clone(&snapshots),
            peers,
            node: options.node_id,
            id,
            store: number,
            site: options.site,
            voters: options.voters(),
            lease: options.lease,
            order: tokio::sync::Mutex::default(),
            begun: tokio::sync::Notify::new(),
            watch: std::sync::Mutex::new(None),
            followed: std::sync::Mutex::new(None),
            changing: tokio::sync::Mutex::new(()),
            incoming: std::sync::Mutex::new(None),
            client: rand::random(),
            seq: AtomicU64::new(1),
            life,
            rebuilt_at,
            ended: tokio::sync::watch::Sender::new(None),
        });
        let door = options.peers.as_ref().map(|site| Arc::clone(&site.door));
        if let Some(door) = &door {
            door.put(group, Behind::Voter(Arc::downgrade(&core)));
        }
        let weak = Arc::downgrade(&core);
        let keeping = match group {
            0 => tokio::spawn(leader::keep_sessions(weak)),
            _ => tokio::spawn(mirror::keep_told(weak)),
        };
        let mut tasks = vec![tokio::spawn(housekeep(raft, log, snapshots)), keeping];
        if group == 0 {
            tasks.push(tokio::spawn(disk::watch(Arc::downgrade(&core), options.disk())));
        }
        Ok(Self { core, door, threads: std::sync::Mutex::new(Some(threads)), tasks })
    }

    /// Recovers, founds the service or checks that it is the right one.
    async fn take_part(&self, options: &VoterOptions, part: Part) -> Result<(), StartError> {
        let raft = &self.core.raft;
        if part == Part::Founder && !raft.is_initialized().await.map_err(failed)? {
            // Another node's founding may arrive first; it is the same.
            if let Err(error) = raft.initialize(options.founders()).await {
                tracing::debug!(%error, "the founding membership is there already");
            }
        }
        let alone = options.voters() == [options.node_id];
        if alone {
            raft.wait_for_recovery(Some(START_MAX)).await.map_err(failed)?;
        }
        self.confirm_at_start(alone).await?;
        if self.reader().read(|state| state.config).is_none() {
            self.found(options).await?;
        }
        let (config, found) = self.reader().read(|state| (state.config, state.share.groups));
        let Some(config) = config else {
            return Err(StartError::Raft("the service was founded, and is not".to_owned()));
        };
        if config.site != options.site {
            return Err(StartError::OtherSite { found: config.site, wanted: options.site });
        }
        if config.incarnation < options.incarnation_floor {
            let (found, floor) = (config.incarnation, options.incarnation_floor);
            return Err(StartError::OldIncarnation { found, floor });
        }
        if found != options.groups {
            return Err(StartError::OtherGroups { found, wanted: options.groups });
        }
        Ok(())
    }

    /// Waits until a quorum answers, and says which store this is. A node of one waits for a while, one of several
    /// for as long as it takes.
    async fn confirm_at_start(&self, alone: bool) -> Result<(), StartError> {
        let mut said = tokio::time::Instant::now();
        loop {
            let error = match self.core.ask_to_join(PROPOSE_MAX).await {
                Ok(Join::As(id)) if id == self.core.id => match self.confirm().await {
                    Ok(()) => return Ok(()),
                    Err(error) => error,
                },
                // Another instance of this node was let in since: this store is over.
                Ok(Join::As(_) | Join::OtherStore) => {
                    return Err(StartError::OtherStore(core::other_store(self.core.node)));
                }
                Ok(Join::PutBack) => return Err(StartError::PutBack(life::put_back(self.core.node))),
                Ok(Join::Elsewhere) => return Err(StartError::Elsewhere(life::elsewhere(self.core.node))),
                Ok(Join::Removed | Join::NotMember) => {
                    let node = self.core.node;
                    return Err(StartError::Removed(format!(
                        "node {node} was removed from its site: empty its state directory, start it again, and run \
                         `roost cluster add {node}`"
                    )));
                }
                Err(error) => error,
            };
            if alone || self.core.is_stopped() {
                return Err(failed(error));
            }
            if said.elapsed() >= SAY_EVERY {
                said = tokio::time::Instant::now();
                tracing::warn!(%error, "waiting for a majority of the site's voters");
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }

    async fn found(&self, options: &VoterOptions) -> Result<(), StartError> {
        let incarnation = options.incarnation_floor.checked_add(1).ok_or(StartError::IncarnationsUsedUp)?;
        let (site, groups) = (options.site, options.groups);
        let command = match groups {
            1 => Command::Found { site, incarnation },
            _ => Command::FoundGroups { site, incarnation, groups },
        };
        let request = Request { id: RequestId { client: rand::random(), seq: 1 }, command };
        let answer = self.propose(&Arc::new(request)).await.map_err(failed)?;
        self.confirm().await.map_err(failed)?;
        match answer {
            // Another node was first: what it founded is checked like any other.
            Answer::Done | Answer::Refused(Refusal::FoundedOtherwise) => Ok(()),
            other @ (Answer::Nothing
            | Answer::Opened(_)
            | Answer::Granted(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_)) => Err(StartError::Raft(format!("founding was answered {other:?}"))),
        }
    }

    /// The applied state.
    pub fn reader(&self) -> &Reader {
        &self.core.reader
    }

    /// Returns when the applied state holds everything that was acknowledged before the call, to anybody (L-RS7).
    pub async fn confirm(&self) -> Result<(), NoAnswer> {
        self.core.confirm(PROPOSE_MAX).await
    }

    /// Renews a session with the leader. Returns whether it is live.
    pub async fn renew(&self, session: SessionId, within: Duration) -> Result<bool, NoAnswer> {
        self.core.renew(session, within).await
    }

    /// Whether anybody in the site, this node included, has just heard of a leader.
    pub(crate) async fn look_around(&self, within: Duration) -> bool {
        self.core.look_around(within).await
    }

    /// Sends a request to the leader, in the order of calls, and returns where its answer will arrive. `after` names
    /// an earlier one of the same client that has no answer yet: it is carried out only behind that.
    pub(crate) async fn begin(&self, request: &Arc<Request>, after: Option<u64>) -> Pending {
        self.core.begin(request, after).await
    }

    /// Has a request carried out once. It is tried again under the same id while its result is unknown.
    pub async fn propose(&self, request: &Arc<Request>) -> Result<Answer, NoAnswer> {
        self.core.propose(request).await
    }

    /// Changes the members of the site, wherever its leader is. It can be asked for again: what is done stays done.
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let longest = members::CHANGE_MAX * 3;
        let attempt = if change.is_brief() { asking::ATTEMPT_MAX } else { longest };
        let until = tokio::time::Instant::now() + longest;
        let reply = self.core.ask(Ask::Change(change), attempt, until).await?;
        if let Reply::Failed(why) = reply {
            return Err(ChangeError::Refused(why));
        }
        matches!(reply, Reply::Changed).then_some(()).ok_or_else(|| asking::unexpected(reply).into())
    }

    /// Whether all members have said just now that they understand commands up to this level.
    pub(crate) async fn all_understand(&self, level: u32) -> bool {
        self.core.all_understand(level).await
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.core.term().is_some()
    }

    /// The addresses that the membership itself knows, of nodes that were let in later.
    pub(crate) fn addresses(&self) -> BTreeMap<u8, String> {
        let membership = self.reader().membership();
        membership.nodes().map(|(id, node)| (node_of(*id), node.addr.clone())).collect()
    }

    pub(crate) fn is_stopped(&self) -> bool {
        self.core.is_stopped()
    }

    pub fn status(&self) -> GroupStatus {
        let receiver = self.core.raft.metrics();
        let metrics: RaftMetrics<TypeConfig> = receiver.borrow_watched().clone();
        let (voters, learners) = self.core.roles();
        let nodes = |ids: Vec<RaftId>| ids.into_iter().map(node_of).collect();
        GroupStatus {
            leader: metrics.current_leader.map(|leader| node_of(leader).into()),
            voters: nodes(voters),
            learners: nodes(learners),
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            last_applied: metrics.last_applied.map(|id| id.index),
            snapshot: metrics.snapshot.map(|id| id.index),
            purged: metrics.purged.map(|id| id.index),
            log_bytes: self.core.log.bytes(),
            followers: followers(&metrics),
            failure: metrics.running_state.err().map(|error| error.to_string()),
        }
    }

    /// Returns why, when the voter stops for good: its disk failed, or it was shut down (L-RS1).
    pub async fn stopped(&self) -> String {
        let mut metrics = self.core.raft.metrics();
        loop {
            if let Some(why) = &*self.core.ended.borrow() {
                return why.clone();
            }
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
        let raft = self.core.raft.clone();
        let begun = to_the_end(async move { raft.trigger().snapshot().await }).await;
        begun.ok_or_else(|| NoAnswer(STOPPED.to_owned()))?.map_err(|error| NoAnswer(error.to_string()))
    }

    /// Lets another node lead, if this one does and another can. For a process that is about to stop.
    pub async fn step_down(&self) {
        self.core.step_down().await;
    }

    fn leave(&self) {
        self.tasks.iter().for_each(tokio::task::JoinHandle::abort);
        if let Some(door) = &self.door {
            door.leave(&self.core);
        }
    }

    /// Stops, and returns when nothing is written any more.
    pub async fn shutdown(&self) {
        self.leave();
        let raft = self.core.raft.clone();
        if let Some(Err(error)) = to_the_end(async move { raft.shutdown().await }).await {
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
        self.leave();
    }
}

fn followers(metrics: &RaftMetrics<TypeConfig>) -> Vec<Follower> {
    let heard = |id: &RaftId| metrics.heartbeat.as_ref().and_then(|of| *of.get(id)?).map(|at| at.elapsed());
    let others = metrics.replication.iter().flatten().filter(|(id, _)| **id != metrics.id);
    let follower = |(id, matched): (&RaftId, &Option<LogId>)| Follower {
        node: node_of(*id),
        matched: matched.map(|matched| matched.index),
        heard: heard(id),
    };
    others.map(follower).collect()
}

/// Why the members were not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    #[error("{0}")]
    Refused(String),
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

/// Why a request under way has no answer.
#[derive(Debug)]
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
        // A follower waits for `election_timeout_max`, and then for its own share of it, before it stands: what a dead
        // leader costs comes on top of a dead owner's lease.
        heartbeat_interval: 100,
        election_timeout_min: 350,
        election_timeout_max: 600,
        enable_pre_vote: Some(true),
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: KEEP_ENTRIES,
        max_payload_entries: APPEND_ENTRIES,
        // L-RS2: a voter whose log went back is a new node.
        allow_log_reversion: Some(false),
        ..Config::default()
    };
    config.validate().map_err(failed)
}

/// Who this node is. A new one finds out and writes it down.
async fn find_out(
    options: &VoterOptions,
    opened: &Opened,
    peers: &Arc<dyn Peers>,
) -> Result<Part, StartError> {
    if let Some(identity) = opened.identity.as_ref().filter(|_| !opened.blank) {
        let founder = identity.id == raft_id(options.node_id, 0);
        return Ok(if founder { Part::Founder } else { Part::Member(identity.id) });
    }
    let (voters, store) = (options.voters(), opened.store.store());
    let part = if voters == [options.node_id] {
        if options.incarnation_floor > 0 && !options.found_anew {
            return Err(StartError::StateLost);
        }
        Part::Founder
    } else {
        Newcomer { options, peers: Arc::clone(peers), voters, store }.find_out().await?
    };
    let id = match part {
        Part::Founder => raft_id(options.node_id, 0),
        Part::Member(id) => id,
    };
    let identity = Identity { node: options.node_id, id, store, shards: Vec::new() };
    let (fs, directory) = (Arc::clone(&options.fs), options.state_dir.clone());
    let written = tokio::task::spawn_blocking(move || forming::write(&*fs, &directory, &identity));
    written.await.map_err(|error| StartError::Raft(error.to_string()))??;
    Ok(part)
}

fn open(options: &VoterOptions) -> Result<Opened, StartError> {
    options.disk().prepare()?;
    let directory = options.state_dir.join("raft");
    let opened = open_at(options, &directory, options.copy.as_deref())?;
    let identity = forming::read(options, opened.store.store(), opened.blank)?;
    Ok(Opened { identity, ..opened })
}

/// Opens a group's log, snapshots and copy.
fn open_at(options: &VoterOptions, directory: &Path, copy: Option<&Path>) -> Result<Opened, StartError> {
    let fs = &options.fs;
    let (store, log) = LogStore::open(Arc::clone(fs), &directory.join("log"), options.log, rand::random())?;
    let snapshots = Snapshots::open(Arc::clone(fs), &directory.join("snapshot"))?;
    let life = Arc::new(Life::open(fs, &options.state_dir)?);
    let snapshot = snapshots.index()?;
    let rebuilt_at = rebuild::rebuilt_at(&**fs, &options.state_dir)?;
    let blank = store.reader().is_blank() && snapshot.is_none();
    let copy = copy.map(|copy| Copy::open(copy, store.store()));
    let (copy, applied) = copy.transpose().map_err(StartError::Copy)?.unzip();
    let machine = Machine::new(applied.flatten(), snapshots);
    let copy = copy.map(|copy| copy.follow(machine.reader())).transpose().map_err(StartError::Copy)?;
    let threads = Threads { log, copy };
    Ok(Opened { store, machine, threads, blank, identity: None, life, snapshot, rebuilt_at })
}

/// Makes a snapshot when the log has grown long. The library itself only counts entries.
async fn housekeep(raft: Raft, log: LogReader, snapshots: Arc<Snapshots>) {
    let mut tried_at = None;
    loop {
        tokio::time::sleep(HOUSEKEEPING_EVERY).await;
        let (applied, covered) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow_watched();
            (metrics.last_applied.map_or(0, |id| id.index), metrics.snapshot.map_or(0, |id| id.index))
        };
        let (bytes, entries) = (log.bytes() as u64, applied.saturating_sub(covered));
        let long = entries >= SNAPSHOT_ENTRIES || bytes >= SNAPSHOT_BYTES;
        if !long || bytes < snapshots.length() / SNAPSHOT_PART || tried_at == Some(applied) {
            continue;
        }
        tried_at = Some(applied);
        let begun = raft.clone();
        if let Some(Err(error)) = to_the_end(async move { begun.trigger().snapshot().await }).await {
            tracing::debug!(%error, "no snapshot, the coordination service has stopped");
            return;
        }
    }
}
