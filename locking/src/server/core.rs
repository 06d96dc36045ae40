//! What a voter is while it runs, and what it does with messages from others.
//!
//! Invariants
//! - A message between voters is carried out only when it is for this very instance, and from one that this node does
//!   not know to be another store or removed (L-RS2). A node that lags behind still listens to newer instances.
//! - A snapshot is handed on whole and verified, or not at all (L-RS4).

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use bytes::Bytes;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{AppendEntriesResponse, SnapshotResponse};
use serde::de::DeserializeOwned;

use super::STOPPED;
use super::around::Followed;
use super::leader::{Order, Watch};
use super::life::Life;
use crate::command::NodeId;
use crate::lease::Length;
use crate::peer::message::{
    Ask, Chunk, ChunkTaken, Frame, Hello, Here, Kind, LEVEL, Phase, RaftId, Remembered, decode, instance_of,
    node_of, raft_id,
};
use crate::peer::{Peers, answer_hello, reply};
use crate::raft::machine::Reader;
use crate::raft::network::Network;
use crate::raft::snapshot::{SnapshotFile, Snapshots};
use crate::raft::store::LogReader;
use crate::raft::{Raft, Snapshot, to_the_end};
use crate::state::State;

/// How long another member may take to say what it understands.
const LEVEL_MAX: Duration = Duration::from_millis(500);

/// A snapshot that arrives.
pub(super) struct Incoming {
    from: RaftId,
    transfer: u64,
    file: SnapshotFile,
}

/// A running voter, shared by all that use it.
pub(crate) struct Core {
    pub(crate) group: u16,
    pub(super) raft: Raft,
    pub(super) reader: Reader,
    /// Where it is known who the nodes are: the state of the first group.
    pub(super) nodes: Reader,
    pub(super) log: LogReader,
    pub(super) snapshots: Arc<Snapshots>,
    pub(super) peers: Arc<dyn Peers>,
    pub(super) node: u8,
    pub(super) id: RaftId,
    pub(super) store: u64,
    pub(super) site: u8,
    /// The voters of the configuration.
    pub(super) voters: Vec<u8>,
    pub(super) lease: Length,
    pub(super) order: tokio::sync::Mutex<Order>,
    pub(super) begun: tokio::sync::Notify,
    pub(super) watch: std::sync::Mutex<Option<Watch>>,
    pub(super) followed: std::sync::Mutex<Option<Followed>>,
    pub(super) changing: tokio::sync::Mutex<()>,
    pub(super) incoming: std::sync::Mutex<Option<Incoming>>,
    /// Names what this voter itself proposes.
    pub(super) client: u64,
    pub(super) seq: AtomicU64,
    pub(super) life: Arc<Life>,
    /// Up to which index it knows only what it was founded with, if it was rebuilt.
    pub(super) rebuilt_at: Option<u64>,
    /// Why this voter stopped itself.
    pub(super) ended: tokio::sync::watch::Sender<Option<String>>,
}

/// Why a node's messages are not carried out, `None` if they are. Knowledge of members only grows, so what an older
/// state says against an instance stays true.
pub(super) fn unwelcome(state: &State, id: RaftId, store: u64) -> Option<String> {
    let node = node_of(id);
    let known = state.members.get(&NodeId(node))?;
    let instance = instance_of(id);
    if instance < known.instance || (instance == known.instance && known.removed) {
        return Some(format!(
            "node {node} was removed from this site: to let it in again, empty its state_dir, start it, and run \
             `roost cluster add {node}`"
        ));
    }
    (instance == known.instance && store != known.store).then(|| other_store(node))
}

/// What to do about a node that lost its disk.
pub(super) fn other_store(node: u8) -> String {
    format!(
        "the site knows node {node} by another disk. If that was lost, run `roost cluster remove {node}` and then `roost \
         cluster add {node}`; if this is another node than the one the site knows, give it a node.id of its own"
    )
}

/// How far a voter has come whose log ends here.
pub(super) fn phase(last: Option<u64>, rebuilt_at: Option<u64>) -> Phase {
    if rebuilt_at.is_some_and(|at| last.unwrap_or(0) <= at) {
        return Phase::Rebuilt;
    }
    if last.is_some_and(|last| last > 0) { Phase::Member } else { Phase::Forming }
}

/// What is remembered of the stores of all members: as applied, as in the log, and as they told a leader.
pub(super) fn remembered(
    state: &State,
    log: &LogReader,
    reached: impl Fn(RaftId) -> Option<u64>,
) -> Vec<Remembered> {
    let members = state.members.iter().filter(|(_, member)| !member.removed);
    let applied = members.map(|(node, member)| {
        let reached = reached(raft_id(node.0, member.instance));
        Remembered { node: *node, store: member.store, mark: state.marks.get(node).copied(), reached }
    });
    let waiting = log.marks().into_iter();
    let waiting =
        waiting.map(|(node, store, mark)| Remembered { node, store, mark: Some(mark), reached: None });
    applied.chain(waiting).collect()
}

impl Core {
    pub(super) fn leader(&self) -> Option<RaftId> {
        self.raft.metrics().borrow_watched().current_leader
    }

    fn here(&self) -> Here {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let reached = |id: RaftId| {
            let of = metrics.replication.as_ref()?;
            of.get(&id).copied().flatten().map(|last| last.index)
        };
        let remembers = self.reader.read(|state| remembered(state, &self.log, reached));
        Here {
            store: self.store,
            phase: phase(metrics.last_log_index, self.rebuilt_at),
            voters: self.voters.clone(),
            site: self.site,
            mark: self.life.marks().last(),
            remembers,
            there: None,
        }
    }

    /// Carries a message out.
    pub(crate) async fn handle(
        self: &Arc<Self>,
        from: u8,
        kind: Kind,
        payload: Bytes,
    ) -> Result<Bytes, String> {
        match kind {
            Kind::Hello => {
                let mut here = self.here();
                if from != self.node && decode::<Hello>(kind, &payload)?.look {
                    let there = self.look_at(from).await;
                    here.there = there.map(|there| (there.store, there.mark));
                }
                answer_hello(&payload, &here)
            }
            Kind::Append => {
                let request = self.open(from, kind, &payload)?;
                let raft = self.raft.clone();
                let taken = to_the_end(async move { raft.append_entries(request).await }).await;
                let taken = taken.ok_or(STOPPED)?;
                if taken.as_ref().is_ok_and(|taken| !matches!(taken, AppendEntriesResponse::HigherVote(_))) {
                    self.follows(from);
                }
                answered(taken)
            }
            Kind::Vote => {
                let request = self.open(from, kind, &payload)?;
                let raft = self.raft.clone();
                let said = to_the_end(async move { raft.vote(request).await }).await;
                answered(said.ok_or(STOPPED)?)
            }
            Kind::PreVote => {
                let request = self.open(from, kind, &payload)?;
                let raft = self.raft.clone();
                let said = to_the_end(async move { raft.pre_vote(request).await }).await;
                answered(said.ok_or(STOPPED)?)
            }
            Kind::TransferLeader => {
                let request = self.open(from, kind, &payload)?;
                let raft = self.raft.clone();
                let said = to_the_end(async move { raft.handle_transfer_leader(request).await }).await;
                answered(said.ok_or(STOPPED)?)
            }
            Kind::Snapshot => {
                let frame: Frame<Chunk> = decode(kind, &payload)?;
                self.check(from, &frame)?;
                self.take_chunk(frame.from, frame.body).await
            }
            Kind::Ask => {
                let frame: Frame<Ask> = decode(kind, &payload)?;
                self.check_receiver(&frame)?;
                // Whoever is not a member yet may ask whether it is.
                if !matches!(frame.body, Ask::Join { .. }) {
                    self.check_sender(from, &frame)?;
                }
                reply(&self.answer(frame.body).await)
            }
            Kind::Level => {
                let _theirs: u32 = self.open(from, kind, &payload)?;
                reply(&LEVEL)
            }
        }
    }

    /// Whether all members have said just now that they understand so much. One that does not answer has not.
    pub(super) async fn all_understand(&self, level: u32) -> bool {
        let membership = self.reader.membership();
        let others = membership.nodes().map(|(id, _)| *id).filter(|id| *id != self.id);
        let network = self.network();
        let asked = others.map(|id| network.call::<u32>(id, Kind::Level, LEVEL, LEVEL_MAX));
        let answered = futures::future::join_all(asked).await;
        answered.into_iter().all(|theirs| theirs.is_ok_and(|theirs| theirs >= level))
    }

    pub(super) fn network(&self) -> Network {
        Network {
            peers: Arc::clone(&self.peers),
            me: self.id,
            store: self.store,
            group: self.group,
            nodes: self.nodes.clone(),
        }
    }

    fn open<T: DeserializeOwned>(&self, from: u8, kind: Kind, payload: &[u8]) -> Result<T, String> {
        let frame: Frame<T> = decode(kind, payload)?;
        self.check(from, &frame)?;
        Ok(frame.body)
    }

    fn check_sender<T>(&self, from: u8, frame: &Frame<T>) -> Result<(), String> {
        if node_of(frame.from) != from {
            return Err(format!(
                "node {from} speaks as node {}: only a node itself may send what it says",
                node_of(frame.from)
            ));
        }
        self.nodes.read(|state| unwelcome(state, frame.from, frame.store)).map_or(Ok(()), Err)
    }

    fn check<T>(&self, from: u8, frame: &Frame<T>) -> Result<(), String> {
        if frame.to != self.id {
            return Err(format!(
                "node {} is instance {} now, not {}: the instance that is meant has lost its disk",
                self.node,
                instance_of(self.id),
                instance_of(frame.to)
            ));
        }
        self.check_receiver(frame)?;
        self.check_sender(from, frame)
    }

    fn check_receiver<T>(&self, frame: &Frame<T>) -> Result<(), String> {
        let meant = frame.to_store.is_none_or(|store| store == self.store);
        meant.then_some(()).ok_or_else(|| {
            format!(
                "node {} knows node {} by another disk: one of the two lost its own, or belongs to a site that was \
                 founded anew; see which, and let the other in with an empty state_dir and `roost cluster add`",
                node_of(frame.from),
                self.node
            )
        })
    }

    async fn take_chunk(&self, from: RaftId, chunk: Chunk) -> Result<Bytes, String> {
        let (vote, meta) = (chunk.vote, chunk.meta.clone());
        let Some(whole) = self.gather(from, chunk).await? else {
            return reply(&ChunkTaken::More);
        };
        let verified = whole.clone();
        let checked = tokio::task::spawn_blocking(move || verified.verify());
        let inside = checked.await.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if inside != meta {
            return Err(format!("snapshot {inside} came under the name {meta}"));
        }
        let (raft, snapshot) = (self.raft.clone(), Snapshot { meta, snapshot: whole });
        let installed = to_the_end(async move { raft.install_full_snapshot(vote, snapshot).await }).await;
        let SnapshotResponse { vote } = installed.ok_or(STOPPED)?.map_err(|error| error.to_string())?;
        reply(&ChunkTaken::Done(vote))
    }

    /// Adds a part, and returns the whole when it was the last one.
    async fn gather(&self, from: RaftId, chunk: Chunk) -> Result<Option<SnapshotFile>, String> {
        let Chunk { transfer, offset, total, bytes, .. } = chunk;
        let known = self.incoming().take().filter(|known| (known.from, known.transfer) == (from, transfer));
        let mut file = match known {
            Some(known) if offset > 0 => known.file,
            Some(_) | None if offset == 0 => {
                let snapshots = Arc::clone(&self.snapshots);
                let begun = tokio::task::spawn_blocking(move || snapshots.begin_for(total)).await;
                begun.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?
            }
            Some(_) | None => return Err("another snapshot has begun to arrive meanwhile".to_owned()),
        };
        let end = offset.saturating_add(bytes.len() as u64);
        if file.length() != offset || end > total || (bytes.is_empty() && end < total) {
            return Err("the parts of a snapshot do not fit together".to_owned());
        }
        let added = tokio::task::spawn_blocking(move || file.add(&bytes).map(|()| file)).await;
        let file = added.map_err(|error| error.to_string())?.map_err(|error| error.to_string())?;
        if end == total {
            return Ok(Some(file));
        }
        self.incoming().get_or_insert(Incoming { from, transfer, file });
        Ok(None)
    }

    fn incoming(&self) -> std::sync::MutexGuard<'_, Option<Incoming>> {
        self.incoming.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// Waits until entries up to this one are applied here. False: the time is over, or this voter has stopped.
    pub(super) async fn applied_to(&self, index: u64, within: Duration) -> bool {
        let mut applied = self.reader.applied();
        let reached = applied.wait_for(|applied| applied.is_some_and(|applied| applied >= index));
        let mut ended = self.ended.subscribe();
        tokio::select! {
            reached = tokio::time::timeout(within, reached) => matches!(reached, Ok(Ok(_))),
            _ = ended.wait_for(Option::is_some) => false,
        }
    }
}

fn answered<T: serde::Serialize, E: std::fmt::Display>(result: Result<T, E>) -> Result<Bytes, String> {
    reply(&result.map_err(|error| error.to_string())?)
}
