//! What voters say to each other, over [`Peers`].
//!
//! Invariants
//! - A voter that is not reached is unreachable, never a voter that agreed.
//! - No message is longer than the transport takes: appends are cut short, snapshots cut up.

use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use openraft::entry::RaftEntry;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::RPCOption;
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::{BasicNode, OptionalSend, RaftNetworkFactory, RaftNetworkV2};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::machine::Reader;
use super::snapshot::SnapshotFile;
use super::{Snapshot, TypeConfig, Vote, coding};
use crate::peer::Peers;
use crate::peer::message::{Chunk, ChunkTaken, Frame, Kind, RaftId, node_of};

/// Most bytes of entries in one append. One entry is always sent, and is far below what a message may have.
const APPEND_BYTES: u64 = 4 << 20;
/// Bytes of a snapshot in one message.
pub const CHUNK_BYTES: usize = 1 << 20;
/// How long an append with entries may take: the other side syncs its disk.
const APPEND_MAX: Duration = Duration::from_secs(2);
const CHUNK_MAX: Duration = Duration::from_secs(5);
/// The last chunk is answered when the snapshot is installed.
const INSTALL_MAX: Duration = Duration::from_secs(60);

/// This voter's way to the others.
#[derive(Clone)]
pub struct Network {
    pub(crate) peers: Arc<dyn Peers>,
    pub(crate) me: RaftId,
    pub(crate) store: u64,
    pub(crate) group: u16,
    /// Where it is known who the others are: the state of the first group.
    pub(crate) nodes: Reader,
}

/// Its way to one of them.
pub struct Way {
    network: Network,
    to: RaftId,
}

impl RaftNetworkFactory<TypeConfig> for Network {
    type Network = Way;

    async fn new_client(&mut self, target: u64, node: &BasicNode) -> Way {
        self.peers.learn(node_of(target), &node.addr);
        Way { network: self.clone(), to: target }
    }
}

fn unreachable(why: impl ToString) -> Unreachable<TypeConfig> {
    Unreachable::from_string(why)
}

impl Network {
    /// Sends a message to another voter and waits for its answer.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        to: RaftId,
        kind: Kind,
        body: impl Serialize,
        deadline: Duration,
    ) -> Result<T, Unreachable<TypeConfig>> {
        let Self { peers, me, store, group, nodes } = self;
        let to_store = nodes.read(|state| state.store_of(to));
        let frame = Frame { from: *me, store: *store, to, to_store, body };
        let payload = coding::encode(&frame).map_err(unreachable)?;
        let answer =
            peers.call(node_of(to), *group, kind, payload.into(), deadline).await.map_err(unreachable)?;
        coding::decode(&answer).map_err(unreachable)
    }
}

impl Way {
    async fn call<T: DeserializeOwned>(
        &self,
        kind: Kind,
        body: impl Serialize,
        deadline: Duration,
    ) -> Result<T, Unreachable<TypeConfig>> {
        self.network.call(self.to, kind, body, deadline).await
    }
}

/// Cuts an append short. Returns the last entry that stays, if others went.
fn cut_short(request: &mut AppendEntriesRequest<TypeConfig>) -> io::Result<Option<super::LogId>> {
    let mut bytes = 0;
    let mut keep = 0;
    for entry in &request.entries {
        bytes += coding::encoded_bytes(entry)?;
        if keep > 0 && bytes > APPEND_BYTES {
            break;
        }
        keep += 1;
    }
    if keep == request.entries.len() {
        return Ok(None);
    }
    request.entries.truncate(keep);
    Ok(request.entries.last().map(RaftEntry::log_id))
}

impl RaftNetworkV2<TypeConfig> for Way {
    type SnapshotData = SnapshotFile;

    async fn append_entries(
        &mut self,
        mut request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        let deadline = if request.entries.is_empty() { option.soft_ttl() } else { APPEND_MAX };
        let last_sent = cut_short(&mut request).map_err(unreachable)?;
        let response = self.call(Kind::Append, &request, deadline).await?;
        Ok(match (response, last_sent) {
            (AppendEntriesResponse::Success, Some(last)) => AppendEntriesResponse::PartialSuccess(Some(last)),
            (
                response @ (AppendEntriesResponse::Success
                | AppendEntriesResponse::PartialSuccess(_)
                | AppendEntriesResponse::Conflict
                | AppendEntriesResponse::HigherVote(_)),
                _,
            ) => response,
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.call(Kind::Vote, &request, option.soft_ttl()).await?)
    }

    // The library's own answer would grant every pre-vote.
    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.call(Kind::PreVote, &request, option.soft_ttl()).await?)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send_snapshot(vote, &snapshot) => Ok(sent?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        Ok(self.call(Kind::TransferLeader, &request, option.soft_ttl()).await?)
    }
}

impl Way {
    async fn send_snapshot(
        &self,
        vote: Vote,
        snapshot: &Snapshot,
    ) -> Result<SnapshotResponse<TypeConfig>, Unreachable<TypeConfig>> {
        let transfer = rand::random();
        let (total, mut at) = (snapshot.snapshot.length(), 0);
        loop {
            let file = snapshot.snapshot.clone();
            let part = tokio::task::spawn_blocking(move || file.part(at, CHUNK_BYTES)).await;
            let bytes = part.map_err(unreachable)?.map_err(unreachable)?;
            let end = at + bytes.len() as u64;
            let last = end == total;
            let chunk = Chunk { transfer, vote, meta: snapshot.meta.clone(), offset: at, total, bytes };
            let deadline = if last { INSTALL_MAX } else { CHUNK_MAX };
            match self.call(Kind::Snapshot, &chunk, deadline).await? {
                ChunkTaken::Done(vote) => return Ok(SnapshotResponse::new(vote)),
                ChunkTaken::More if last => return Err(unreachable("the whole snapshot was not enough")),
                ChunkTaken::More => at = end,
            }
        }
    }
}
