//! What a node asks of the coordination service: a session, buckets, witnesses.
//!
//! Invariants
//! - An epoch that is handed out was granted to the present session, and is forgotten with it (L-LE3, [`holdings`]).
//! - A session whose lease has ended is never used again; a new one takes its place (L-LE2).
//! - Witnesses go in the order in which they were submitted.

mod batch;
mod counters;
mod holdings;
mod map;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use model::Epoch;
use nfs_compat::Fs;
use tokio::sync::watch;

pub use batch::{Ticket, WitnessError};
pub use counters::{LATENCY_BOUNDS_US, WitnessCounters};
pub use map::{BucketStatus, NodeStatus, Owner, Placed, Role};

use batch::Batcher;
use counters::Counters;
use holdings::Holdings;

use crate::clock::boottime;
use crate::command::{
    Answer, Bucket, Command, NodeId, Record, Refusal, Request, RequestId, Run, SessionId, Subkey, Value,
    Wanted, Witness,
};
use crate::lease::{Lease, Length};
use crate::peer::message::Change;
use crate::raft::log::LogOptions;
use crate::server::{ChangeError, GroupStatus, NoAnswer, Site, StartError, Voter, VoterOptions};

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
    /// The other nodes of the site; `None` for a site of one node.
    pub peers: Option<Site>,
}

impl Options {
    pub fn new(state_dir: PathBuf, fs: Arc<dyn Fs>, node_id: u8, site: u8, incarnation_floor: u32) -> Self {
        let (lease, log) = (Length::DEFAULT, LogOptions::default());
        Self { state_dir, fs, node_id, site, incarnation_floor, lease, log, local_copy: true, peers: None }
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
    pub group: GroupStatus,
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
    node: NodeId,
    site: u8,
    /// The configured voters with their addresses.
    members: BTreeMap<u8, String>,
    incarnation: u32,
    length: Length,
    tenure: Arc<Mutex<Tenure>>,
    sessions: watch::Sender<SessionId>,
    holdings: Arc<Holdings>,
    wanted: Mutex<BTreeSet<Bucket>>,
    /// One request at a time, so that the service's memory of answers always covers the one under way.
    requests: tokio::sync::Mutex<Requests>,
    batcher: Batcher,
    counters: Arc<Counters>,
    renewing: Mutex<Option<tokio::task::JoinHandle<()>>>,
}

struct Requests {
    client: u64,
    seq: u64,
}

impl Requests {
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
        let voter = Voter::start(VoterOptions {
            copy: options.local_copy.then(|| options.state_dir.join("applied")),
            state_dir: options.state_dir,
            fs: options.fs,
            log: options.log,
            node_id: options.node_id,
            site: options.site,
            incarnation_floor: options.incarnation_floor,
            lease: options.lease,
            peers: options.peers,
        });
        let voter = Arc::new(voter.await?);
        let config = voter.reader().read(|state| state.config);
        let incarnation = config.map_or(0, |config| config.incarnation);
        let node = NodeId(options.node_id);
        let mut requests = Requests { client: rand::random(), seq: 0 };
        let opened = open_session(&voter, &mut requests, node, options.lease).await;
        let tenure = match opened {
            Ok(tenure) => tenure,
            Err(error) => {
                voter.shutdown().await;
                return Err(StartError::Raft(error.to_string()));
            }
        };
        let counters = Arc::new(Counters::default());
        let sessions = watch::Sender::new(tenure.session);
        let holdings = Arc::new(Holdings::new(tenure.session));
        let follows = Arc::clone(&holdings);
        voter.reader().follow(Box::new(move |state, moved| follows.moved(state, moved)));
        let tenure = Arc::new(Mutex::new(tenure));
        let hoped = Arc::clone(&tenure);
        let hope = Box::new(move || lock(&hoped).lease.may_read(boottime()));
        let inner = Arc::new(Inner {
            batcher: Batcher::start(Arc::clone(&voter), Arc::clone(&counters), hope),
            voter,
            node,
            members,
            site: options.site,
            incarnation,
            length: options.lease,
            sessions,
            tenure,
            holdings,
            wanted: Mutex::new(BTreeSet::new()),
            requests: tokio::sync::Mutex::new(requests),
            counters,
            renewing: Mutex::new(None),
        });
        *lock(&inner.renewing) = Some(tokio::spawn(renew(Arc::downgrade(&inner), options.lease)));
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

    /// The epoch under which this session holds the bucket, without asking anybody.
    pub fn held(&self, bucket: Bucket) -> Option<Epoch> {
        self.0.holdings.held(bucket)
    }

    /// Makes this node the owner of a bucket. One that it holds already is answered as it is.
    pub async fn grant(&self, bucket: Bucket) -> Result<Epoch, GrantError> {
        if let Some(epoch) = self.held(bucket) {
            return Ok(epoch);
        }
        lock(&self.0.wanted).insert(bucket);
        let mut requests = self.0.requests.lock().await;
        // Whoever had the turn before may have asked for us.
        if let Some(epoch) = self.held(bucket) {
            return Ok(epoch);
        }
        let mut wanted: Vec<Bucket> = std::mem::take(&mut *lock(&self.0.wanted)).into_iter().collect();
        if wanted.binary_search(&bucket).is_err() {
            wanted.push(bucket);
        }
        self.ask_for(&mut requests, Wanted::These(wanted)).await?;
        self.held(bucket).ok_or_else(|| self.why_not(bucket))
    }

    fn why_not(&self, bucket: Bucket) -> GrantError {
        let held_by_other = self.0.voter.reader().read(|state| {
            let owner = state.bucket(bucket).session();
            owner.is_some_and(|owner| state.is_live(owner)) || state.may_be_given(self.0.node)
        });
        if held_by_other { GrantError::HeldElsewhere(bucket) } else { GrantError::Draining(bucket) }
    }

    /// Makes this node the owner of every bucket that nobody holds. Returns how many it holds then.
    pub async fn grant_all(&self) -> Result<usize, GrantError> {
        let mut requests = self.0.requests.lock().await;
        let runs = self.ask_for(&mut requests, Wanted::AllFree).await?;
        Ok(count(&runs))
    }

    async fn ask_for(&self, requests: &mut Requests, wanted: Wanted) -> Result<Vec<Run>, GrantError> {
        let session = self.session();
        match requests.ask(&self.0.voter, Command::Grant { session, wanted }).await? {
            Answer::Granted(runs) => {
                self.0.holdings.granted(session, &runs);
                Ok(runs)
            }
            Answer::Refused(refusal) => Err(GrantError::Refused(refusal)),
            other @ (Answer::Done | Answer::Nothing | Answer::Opened(_) | Answer::Witnessed { .. }) => {
                Err(unexpected(&other).into())
            }
        }
    }

    /// Gives a bucket back. The caller has finished everything that it had begun under its epoch.
    pub async fn release(&self, bucket: Bucket) -> Result<(), GrantError> {
        self.leave(bucket, |epoch| Command::Release { bucket, epoch }).await
    }

    /// Gives a bucket that this node was asked to hand over to the node that is to have it (§7.1), in one step. The
    /// caller has finished everything that it had begun under its epoch. If that node has died meanwhile the bucket
    /// becomes free; if the wish was taken back it stays here, and [`Refusal::NotDraining`] says so.
    pub async fn hand_over(&self, bucket: Bucket) -> Result<(), GrantError> {
        self.leave(bucket, |epoch| Command::HandOver { bucket, epoch }).await
    }

    /// Nothing is begun under the epoch any more from before the service is asked: it may be over at any moment.
    async fn leave(&self, bucket: Bucket, how: impl FnOnce(Epoch) -> Command) -> Result<(), GrantError> {
        let mut requests = self.0.requests.lock().await;
        let Some(epoch) = self.0.holdings.leave(bucket) else { return Ok(()) };
        match requests.ask(&self.0.voter, how(epoch)).await? {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => {
                self.0.voter.reader().read(|state| self.0.holdings.stay(bucket, state));
                Err(GrantError::Refused(refusal))
            }
            other @ (Answer::Nothing | Answer::Opened(_) | Answer::Granted(_) | Answer::Witnessed { .. }) => {
                Err(unexpected(&other).into())
            }
        }
    }

    /// Gives a node those of these buckets that no live session holds: after a crash, or to spread them. Returns how
    /// many of them it holds then.
    pub async fn assign(&self, buckets: Vec<Bucket>, to: NodeId) -> Result<usize, GrantError> {
        let mut requests = self.0.requests.lock().await;
        match requests.ask(&self.0.voter, Command::Assign { buckets, to }).await? {
            Answer::Granted(runs) => Ok(count(&runs)),
            Answer::Refused(refusal) => Err(GrantError::Refused(refusal)),
            other @ (Answer::Done | Answer::Nothing | Answer::Opened(_) | Answer::Witnessed { .. }) => {
                Err(unexpected(&other).into())
            }
        }
    }

    /// Asks the owner of a bucket to hand it over to a node, or with `None` to keep it (§7.1). The owner sees it in
    /// [`Self::to_hand_over`], finishes what it has begun and calls [`Self::hand_over`].
    pub async fn drain(&self, bucket: Bucket, to: Option<NodeId>) -> Result<(), GrantError> {
        let mut requests = self.0.requests.lock().await;
        let epoch = self.0.voter.reader().read(|state| state.bucket(bucket).epoch);
        match requests.ask(&self.0.voter, Command::Drain { bucket, epoch, to }).await? {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => Err(GrantError::Refused(refusal)),
            other @ (Answer::Nothing | Answer::Opened(_) | Answer::Granted(_) | Answer::Witnessed { .. }) => {
                Err(unexpected(&other).into())
            }
        }
    }

    /// Changes who takes part: see [`Change`]. Any node can be asked.
    pub async fn change(&self, change: Change) -> Result<(), ChangeError> {
        self.0.voter.change(change).await
    }

    /// Reads a witness as of now or later (L-SM3). `None`: the account is new.
    pub async fn read_witness(&self, bucket: Bucket, subkey: &Subkey) -> Result<Option<Witness>, NoAnswer> {
        self.0.voter.confirm().await?;
        Ok(self.0.voter.reader().read(|state| state.witness(bucket, subkey)))
    }

    /// Removes the witness of an account that is gone for good.
    pub async fn forget(&self, bucket: Bucket, epoch: Epoch, subkey: Subkey) -> Result<(), WitnessError> {
        let mut requests = self.0.requests.lock().await;
        match requests.ask(&self.0.voter, Command::Forget { bucket, epoch, subkey }).await {
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
        self.0.batcher.submit(record)
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
        let reader = self.0.voter.reader();
        let (session_live, witnesses) = reader.read(|state| (state.is_live(session), state.witness_count()));
        Status {
            node_id: self.0.node.0,
            site: self.0.site,
            incarnation: self.0.incarnation,
            group: self.0.voter.status(),
            session,
            session_live,
            lease_remaining: lease.remaining(boottime()),
            buckets: self.0.holdings.count(),
            witnesses,
            counters: self.0.counters.read(),
        }
    }

    /// The voter below, for tests and for the commands of an operator.
    pub fn voter(&self) -> &Voter {
        &self.0.voter
    }

    /// Returns why, when the service has stopped for good. The process must end then (L-RS1).
    pub async fn stopped(&self) -> String {
        self.0.voter.stopped().await
    }

    /// Waits for the witnesses that were handed in, closes the session and stops the voter.
    pub async fn shutdown(&self) {
        let renewing = lock(&self.0.renewing).take();
        if let Some(renewing) = renewing {
            renewing.abort();
        }
        self.0.batcher.finish().await;
        let session = self.session();
        let mut requests = self.0.requests.lock().await;
        if let Err(error) = requests.ask(&self.0.voter, Command::SessionClose { session }).await {
            tracing::warn!(%error, %session, "the session was not closed; the next one replaces it");
        }
        self.0.voter.step_down().await;
        self.0.voter.shutdown().await;
    }
}

impl Inner {
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
                self.voter.reader().read(|state| self.holdings.adopt(tenure.session, state));
                *lock(&self.tenure) = tenure;
                self.sessions.send_replace(tenure.session);
            }
            Err(error) => tracing::error!(%error, "no new session"),
        }
    }
}

fn count(runs: &[Run]) -> usize {
    runs.iter().map(|run| usize::from(run.last.saturating_sub(run.first)) + 1).sum()
}

fn unexpected(answer: &Answer) -> NoAnswer {
    NoAnswer(format!("unexpected answer {answer:?}"))
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
