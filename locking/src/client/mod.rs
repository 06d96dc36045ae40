//! What a node asks of the coordination service: a session, buckets, witnesses.
//!
//! Invariants
//! - An epoch that is handed out was granted to the present session, and is forgotten with it (L-LE3, [`holdings`]).
//! - A session whose lease has ended is never used again; a new one takes its place (L-LE2).
//! - Witnesses go in the order in which they were submitted.

mod batch;
mod buckets;
mod counters;
mod frozen;
mod holdings;
mod map;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Epoch;
use nfs_compat::Fs;
use tokio::sync::watch;

pub use batch::{Ticket, WitnessError};
pub use counters::{LATENCY_BOUNDS_US, WitnessCounters};
pub use map::{BucketStatus, NodeStatus, Owner, Placed, Role};

use buckets::Shard;
use counters::Counters;
use holdings::Holdings;

use crate::clock::boottime;
use crate::command::{
    Answer, Bucket, Command, NodeId, Record, Refusal, Request, RequestId, SessionId, Subkey, Value, Witness,
};
use crate::lease::{Lease, Length};
use crate::peer::message::Change;
use crate::raft::log::LogOptions;
use crate::server::{ChangeError, GroupStatus, NoAnswer, Site, StartError, Voter, VoterOptions};
use crate::standing::{self, Standing};
use crate::state::State;

/// Before a node that starts asks for its session again.
const SESSION_AGAIN: Duration = Duration::from_millis(250);

/// How the service of a node is to be started.
#[derive(Clone)]
pub struct Options {
    /// The node's own directory, which the caller holds the lock of: no other process of this node is alive (L-LE4).
    pub state_dir: PathBuf,
    pub fs: Arc<dyn Fs>,
    pub node_id: u8,
    pub site: u8,
    /// Highest incarnation in the superblocks of the volumes; 0 for new ones.
    pub incarnation_floor: u32,
    pub lease: Length,
    pub log: LogOptions,
    /// Keeps a copy of the applied state in `state_dir`, on the real disk whatever `fs` is.
    pub local_copy: bool,
    /// Groups that keep buckets: 1, or as many beside the one that keeps sessions and nodes. Fixed when the site is
    /// founded.
    pub groups: u16,
    /// The other nodes of the site; `None` for a site of one node.
    pub peers: Option<Site>,
    /// Sets room aside on the disk, to be given up when that is full (L-RS5).
    pub ballast: bool,
    /// A node alone whose state is lost may found the service anew, although nothing is witnessed then.
    pub found_anew: bool,
    /// How long sessions may be shown what counted when the lease ended, while the site has no majority; zero: not at all.
    pub frozen_read_max: Duration,
}

impl Options {
    pub fn new(state_dir: PathBuf, fs: Arc<dyn Fs>, node_id: u8, site: u8, incarnation_floor: u32) -> Self {
        let (lease, log) = (Length::DEFAULT, LogOptions::default());
        Self {
            state_dir,
            fs,
            node_id,
            site,
            incarnation_floor,
            lease,
            log,
            local_copy: true,
            groups: 1,
            peers: None,
            ballast: false,
            found_anew: true,
            frozen_read_max: Duration::ZERO,
        }
    }
}

/// Why a bucket was not granted.
#[derive(Debug, thiserror::Error)]
pub enum GrantError {
    /// Ask its owner.
    #[error("bucket {0} is held by another node")]
    HeldElsewhere(Bucket),
    /// Nobody holds it, and this node is to get no more: another node can have it by [`Locking::assign`].
    #[error("bucket {0} is for another node, because this one is being emptied")]
    Draining(Bucket),
    #[error("refused: {0}")]
    Refused(Refusal),
    #[error(transparent)]
    NoAnswer(#[from] NoAnswer),
}

/// What is true of the service as this node sees it.
#[derive(Clone, Debug)]
pub struct Status {
    pub node_id: u8,
    pub site: u8,
    pub incarnation: u32,
    /// The group that keeps sessions and nodes, and the buckets too if it is the only one.
    pub group: GroupStatus,
    /// The groups that keep buckets, if those are others.
    pub shards: Vec<GroupStatus>,
    pub session: SessionId,
    pub session_live: bool,
    pub lease_remaining: Duration,
    /// Buckets that this node knows that it owns.
    pub buckets: usize,
    pub witnesses: usize,
    pub counters: WitnessCounters,
}

#[derive(Clone, Copy)]
struct Tenure {
    session: SessionId,
    lease: Lease,
}

struct Inner {
    voter: Arc<Voter>,
    /// The groups that keep buckets; the only one is the first group itself.
    shards: Vec<Shard>,
    node: NodeId,
    site: u8,
    /// The configured voters with their addresses.
    members: BTreeMap<u8, String>,
    incarnation: u32,
    length: Length,
    tenure: Arc<Mutex<Tenure>>,
    sessions: watch::Sender<SessionId>,
    /// What may be shown without a lease; `None` for a node alone.
    standing: Option<Mutex<standing::Watch>>,
    standings: watch::Sender<Standing>,
    holdings: Arc<Holdings>,
    /// About sessions. One at a time, so that the service's memory of answers always covers the one under way.
    requests: tokio::sync::Mutex<Requests>,
    /// Tells when the map has changed in any group.
    map: watch::Receiver<u64>,
    counters: Arc<Counters>,
    tasks: Mutex<Vec<tokio::task::JoinHandle<()>>>,
}

struct Requests {
    client: u64,
    seq: u64,
}

impl Requests {
    fn new() -> Self {
        Self { client: rand::random(), seq: 0 }
    }

    async fn ask(&mut self, voter: &Voter, command: Command) -> Result<Answer, NoAnswer> {
        self.seq += 1;
        let id = RequestId { client: self.client, seq: self.seq };
        voter.propose(&Arc::new(Request { id, command })).await
    }
}

/// The coordination service of this node. Cheap to clone.
#[derive(Clone)]
pub struct Locking(Arc<Inner>);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Locking {
    /// Starts the voter of this node and opens a session. On first start it founds the service; its incarnation is
    /// then one above the floor, and the caller writes it to its superblock before it grants anything. In a site of
    /// several nodes it returns when a majority is up; the door in the options is served meanwhile.
    pub async fn start(options: Options) -> Result<Self, StartError> {
        let members = options.peers.as_ref().map(|site| site.members.clone()).unwrap_or_default();
        let frozen_read_max = options.frozen_read_max;
        let voters = VoterOptions {
            copy: options.local_copy.then(|| options.state_dir.join("applied")),
            state_dir: options.state_dir,
            fs: options.fs,
            log: options.log,
            node_id: options.node_id,
            site: options.site,
            incarnation_floor: options.incarnation_floor,
            lease: options.lease,
            groups: options.groups,
            peers: options.peers,
            ballast: options.ballast,
            found_anew: options.found_anew,
        };
        let voter = Arc::new(Voter::start(voters.clone()).await?);
        match Self::start_on(&voter, &voters, members, frozen_read_max).await {
            Ok(locking) => Ok(locking),
            Err(error) => {
                voter.shutdown().await;
                Err(error)
            }
        }
    }

    async fn start_on(
        voter: &Arc<Voter>,
        options: &VoterOptions,
        members: BTreeMap<u8, String>,
        frozen_read_max: Duration,
    ) -> Result<Self, StartError> {
        let mut keepers: Vec<Arc<Voter>> =
            voter.start_shards(options).await?.into_iter().map(Arc::new).collect();
        let node = NodeId(options.node_id);
        let mut requests = Requests::new();
        let tenure = match first_session(voter, &mut requests, node, options).await {
            Ok(tenure) => tenure,
            Err(error) => {
                for shard in keepers {
                    shard.shutdown().await;
                }
                return Err(StartError::Raft(error.to_string()));
            }
        };
        if keepers.is_empty() {
            keepers.push(Arc::clone(voter));
        }
        let holdings = Arc::new(Holdings::new(tenure.session, keepers.len()));
        let sessions = watch::Sender::new(tenure.session);
        let tenure = Arc::new(Mutex::new(tenure));
        let counters = Arc::new(Counters::default());
        let start = |(place, keeper)| Shard::start(place, keeper, &holdings, &tenure, &counters);
        let shards: Vec<Shard> = keepers.into_iter().enumerate().map(start).collect();
        let (map, following) = map::follow(voter, &shards);
        let config = voter.reader().read(|state| state.config);
        let inner = Arc::new(Inner {
            voter: Arc::clone(voter),
            shards,
            node,
            members,
            site: options.site,
            incarnation: config.map_or(0, |config| config.incarnation),
            length: options.lease,
            sessions,
            standing: options.peers.as_ref().map(|_| Mutex::new(standing::Watch::new(frozen_read_max))),
            standings: watch::Sender::new(Standing::Held),
            tenure,
            holdings,
            requests: tokio::sync::Mutex::new(requests),
            map,
            counters,
            tasks: Mutex::new(following),
        });
        lock(&inner.tasks).push(tokio::spawn(renew(Arc::downgrade(&inner), options.lease)));
        if inner.standing.is_some() {
            lock(&inner.tasks).push(tokio::spawn(frozen::follow(Arc::downgrade(&inner))));
        }
        Ok(Self(inner))
    }

    /// Upper half of every epoch that is granted.
    pub fn incarnation(&self) -> u32 {
        self.0.incarnation
    }

    pub fn session(&self) -> SessionId {
        lock(&self.0.tenure).session
    }

    /// Tells when the session was lost and another took its place: everything known under the old one is to be
    /// dropped (L-LE2).
    pub fn sessions(&self) -> watch::Receiver<SessionId> {
        self.0.sessions.subscribe()
    }

    /// L-LE1, before a change is started.
    pub fn may_change(&self) -> bool {
        lock(&self.0.tenure).lease.may_change(boottime())
    }

    /// L-LE1, before a read is answered.
    pub fn may_read(&self) -> bool {
        lock(&self.0.tenure).lease.may_read(boottime())
    }

    /// Changes who takes part: see [`Change`]. Any node can be asked.
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let first = &self.0.voter;
        match &change {
            Change::Dead { .. } | Change::Drain { .. } | Change::Undrain { .. } => {
                if let Change::Dead { node } = change {
                    // If it led, there is nobody to tell before the others have given up on it, and that is long.
                    let voters = self.voters();
                    futures::future::join_all(voters.iter().map(|voter| voter.succeed(node))).await;
                }
                first.change(change).await?;
                Ok(self.tell_shards().await?)
            }
            Change::Add { .. } | Change::TransferLeader { .. } => {
                first.change(change.clone()).await?;
                self.change_shards(&change).await
            }
            Change::Remove { .. } => {
                // Once the first group has let it out, nobody hears it any more in any.
                self.change_shards(&change).await?;
                first.change(change).await
            }
        }
    }

    /// Has all groups know now what the first one knows; they would hear of it soon.
    async fn tell_shards(&self) -> Result<(), NoAnswer> {
        if self.0.shards_beside().next().is_none() {
            return Ok(());
        }
        self.0.voter.confirm().await?;
        let told = self.0.shards_beside().map(|shard| shard.voter.tell_news());
        futures::future::try_join_all(told).await.map(drop)
    }

    async fn change_shards(&self, change: &Change) -> Result<(), ChangeError> {
        for shard in self.0.shards_beside() {
            shard.voter.change(change.clone()).await?;
        }
        Ok(())
    }

    /// Reads a witness as of now or later (L-SM3). `None`: the account is new.
    pub async fn read_witness(&self, bucket: Bucket, subkey: &Subkey) -> Result<Option<Witness>, NoAnswer> {
        let voter = &self.0.shard(bucket).voter;
        voter.confirm().await?;
        Ok(voter.reader().read(|state| state.witness(bucket, subkey)))
    }

    /// Removes the witness of an account that is gone for good.
    pub async fn forget(&self, bucket: Bucket, epoch: Epoch, subkey: Subkey) -> Result<(), WitnessError> {
        let shard = self.0.shard(bucket);
        let mut requests = shard.requests.lock().await;
        match requests.ask(&shard.voter, Command::Forget { bucket, epoch, subkey }).await {
            Ok(Answer::Done) => Ok(()),
            Ok(Answer::Refused(Refusal::StaleEpoch)) => Err(WitnessError::StaleEpoch),
            Ok(other) => {
                tracing::error!(?other, "unexpected answer to forget");
                Err(WitnessError::Unknown)
            }
            Err(_) => Err(WitnessError::Unknown),
        }
    }

    /// Hands a witness in, from any thread, without waiting. Witnesses of one account are handed in in order.
    pub fn submit(&self, record: Record) -> Ticket {
        self.0.shard(record.bucket).batcher.submit(record)
    }

    /// Has a change witnessed. `Ok` is the moment from which it counts (L-CM1).
    pub async fn witness(
        &self,
        bucket: Bucket,
        epoch: Epoch,
        subkey: Subkey,
        value: Value,
        counter: u64,
    ) -> Result<(), WitnessError> {
        self.submit(Record { bucket, epoch, subkey, value, counter }).answer().await
    }

    /// The same for threads that may block. Panics on a thread that drives async tasks.
    pub fn witness_blocking(
        &self,
        bucket: Bucket,
        epoch: Epoch,
        subkey: Subkey,
        value: Value,
        counter: u64,
    ) -> Result<(), WitnessError> {
        self.submit(Record { bucket, epoch, subkey, value, counter }).wait()
    }

    pub fn status(&self) -> Status {
        let Tenure { session, lease } = *lock(&self.0.tenure);
        let count = |shard: &Shard| shard.voter.reader().read(State::witness_count);
        Status {
            node_id: self.0.node.0,
            site: self.0.site,
            incarnation: self.0.incarnation,
            group: self.0.voter.status(),
            shards: self.0.shards_beside().map(|shard| shard.voter.status()).collect(),
            session,
            session_live: self.0.voter.reader().read(|state| state.is_live(session)),
            lease_remaining: lease.remaining(boottime()),
            buckets: self.0.holdings.count(),
            witnesses: self.0.shards.iter().map(count).sum(),
            counters: self.0.counters.read(),
        }
    }

    /// The voter of the first group, for tests and for the commands of an operator.
    pub fn voter(&self) -> &Voter {
        &self.0.voter
    }

    /// The voters of all groups, the first one first.
    pub fn voters(&self) -> Vec<&Voter> {
        let beside = self.0.shards_beside().map(|shard| &*shard.voter);
        std::iter::once(&*self.0.voter).chain(beside).collect()
    }

    /// Returns why, when the service has stopped for good. The process must end then (L-RS1).
    pub async fn stopped(&self) -> String {
        let stopped = self.voters().into_iter().map(|voter| Box::pin(voter.stopped()));
        futures::future::select_all(stopped).await.0
    }

    /// Waits for the witnesses that were handed in, closes the session and stops the voter.
    pub async fn shutdown(&self) {
        std::mem::take(&mut *lock(&self.0.tasks)).iter().for_each(tokio::task::JoinHandle::abort);
        futures::future::join_all(self.0.shards.iter().map(|shard| shard.batcher.finish())).await;
        let session = self.session();
        let mut requests = self.0.requests.lock().await;
        if let Err(error) = requests.ask(&self.0.voter, Command::SessionClose { session }).await {
            tracing::warn!(%error, %session, "the session was not closed; the next one replaces it");
        }
        let voters = self.voters();
        futures::future::join_all(voters.iter().map(|voter| voter.step_down())).await;
        futures::future::join_all(voters.iter().map(|voter| voter.shutdown())).await;
    }
}

impl Inner {
    /// The groups that keep buckets, where they are not the first one.
    fn shards_beside(&self) -> impl Iterator<Item = &Shard> {
        self.shards.iter().filter(|shard| !Arc::ptr_eq(&shard.voter, &self.voter))
    }

    fn shard(&self, bucket: Bucket) -> &Shard {
        &self.shards[usize::from(bucket) % self.shards.len()]
    }

    /// One renewal. It is acknowledged when a quorum agrees who leads, and the session is live in what it agreed on.
    async fn renew_once(&self) {
        let sent = boottime();
        let session = lock(&self.tenure).session;
        // When the next attempt is due, this one ends.
        let acknowledged = match self.voter.renew(session, self.length.renew_every()).await {
            Ok(live) => live,
            Err(error) => {
                tracing::warn!(%error, "the lease was not renewed");
                if lock(&self.tenure).lease.may_read(boottime()) {
                    return;
                }
                false
            }
        };
        if acknowledged && lock(&self.tenure).lease.renewed(sent, boottime()) {
            return;
        }
        tracing::error!(%session, "the session is lost; everything held under it is dropped");
        self.replace_session().await;
    }

    /// L-LE2, L-LE3: a lost session is never resumed. Whatever it held must be granted anew, under higher epochs.
    async fn replace_session(&self) {
        let mut requests = self.requests.lock().await;
        match open_session(&self.voter, &mut requests, self.node, self.length).await {
            Ok(tenure) => {
                // What is held is the new session's before its lease is believed in: never an old epoch under it.
                self.holdings.adopt(tenure.session);
                self.shards.iter().for_each(|shard| shard.look_through(&self.holdings));
                *lock(&self.tenure) = tenure;
                self.sessions.send_replace(tenure.session);
            }
            Err(error) => tracing::error!(%error, "no new session"),
        }
    }
}

fn unexpected(answer: &Answer) -> NoAnswer {
    NoAnswer(format!("unexpected answer {answer:?}"))
}

/// A node of a site has waited for a majority, and waits again if that is lost before it has a session.
async fn first_session(
    voter: &Voter,
    requests: &mut Requests,
    node: NodeId,
    options: &VoterOptions,
) -> Result<Tenure, NoAnswer> {
    loop {
        match open_session(voter, requests, node, options.lease).await {
            Err(error) if options.peers.is_some() && !voter.is_stopped() => {
                tracing::warn!(%error, "no session yet: waiting for a majority of the site's voters");
                tokio::time::sleep(SESSION_AGAIN).await;
            }
            opened => return opened,
        }
    }
}

/// Opens a session in the place of all older ones of this node: whoever calls holds the lock of its directory, so the
/// processes that had those are dead, or they are this one, which gives them up (L-LE4).
async fn open_session(
    voter: &Voter,
    requests: &mut Requests,
    node: NodeId,
    length: Length,
) -> Result<Tenure, NoAnswer> {
    let sent = boottime();
    match requests.ask(voter, Command::SessionOpen { node, replaces_older: true }).await? {
        Answer::Opened(session) => Ok(Tenure { session, lease: Lease::new(length, sent) }),
        other @ (Answer::Done
        | Answer::Nothing
        | Answer::Granted(_)
        | Answer::Witnessed { .. }
        | Answer::Refused(_)) => Err(unexpected(&other)),
    }
}

async fn renew(inner: std::sync::Weak<Inner>, length: Length) {
    let mut next = tokio::time::Instant::now() + length.renew_every();
    loop {
        tokio::time::sleep_until(next).await;
        let Some(inner) = inner.upgrade() else { return };
        // An attempt that failed took until the next one is due.
        next = tokio::time::Instant::now() + length.renew_every();
        inner.renew_once().await;
    }
}
