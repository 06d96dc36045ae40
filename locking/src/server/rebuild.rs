//! A service that is founded from what lies on the volumes, after all voters have lost their state (`locking.md` §10).
//!
//! What is written here is a snapshot, a log that begins behind it, and who the node is: the one voter of the site that
//! knows anything. Nodes of the founding membership whose disks are new follow it, and only while nothing has been
//! agreed on since.
//!
//! Invariants
//! - Nothing is written where something is, and all of it appears at once.
//! - No other node answered: whoever runs knows more than the volume.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::Epoch;
use nfs_compat::Fs;
use openraft::type_config::alias::CommittedLeaderIdOf;
use openraft::vote::RaftLeaderId;
use openraft::{BasicNode, Membership, StoredMembership};

use super::forming::{self, Identity};
use super::{StartError, failed};
use crate::command::{Bucket, Subkey, Value, Witness};
use crate::peer::Peers;
use crate::peer::message::{Hello, Kind, RaftId, raft_id};
use crate::raft::copy::remove_tree;
use crate::raft::log::LogOptions;
use crate::raft::snapshot::Snapshots;
use crate::raft::store::LogStore;
use crate::raft::{LogId, SnapshotMeta, TypeConfig, coding};
use crate::state::{Config, State};

/// Index that stands for all that was before.
const INDEX: u64 = 1;
/// Directories below each other in what a voter keeps.
const DEPTH_MAX: u32 = 4;
const HELLO_MAX: Duration = Duration::from_secs(3);

/// The state that the service begins with.
pub struct Founding {
    state: State,
    site: u8,
}

impl Founding {
    pub fn new(site: u8, incarnation: u32) -> Self {
        let state = State { config: Some(Config { site, incarnation }), ..State::default() };
        Self { state, site }
    }

    /// What counts of an account, from now on.
    pub fn witness(&mut self, bucket: Bucket, subkey: &Subkey, value: Value, counter: u64, epoch: Epoch) {
        self.state.put_witness(bucket, subkey, Witness { epoch, value, counter });
    }

    pub fn witnesses(&self) -> usize {
        self.state.witness_count()
    }

    /// Says what a node knows of a coordination service, in whose way a new one would be. What a voter leaves behind
    /// that never took part in anything is removed. Blocking.
    pub fn in_the_way(fs: &Arc<dyn Fs>, state_dir: &Path) -> Result<Option<String>, StartError> {
        let raft = state_dir.join("raft");
        if !fs.exists(&raft)? {
            return Ok(None);
        }
        if Snapshots::open(Arc::clone(fs), &raft.join("snapshot"))?.index()?.is_some() {
            return Ok(Some(format!("a snapshot in {}", raft.display())));
        }
        let opened = LogStore::open(Arc::clone(fs), &raft.join("log"), LogOptions::default(), rand::random());
        let (log, thread) = match opened {
            Ok(opened) => opened,
            Err(error) => return Ok(Some(error.to_string())),
        };
        let blank = log.reader().is_blank();
        drop(log);
        thread.join().map_err(|_| failed("the log's thread panicked"))?;
        if !blank {
            return Ok(Some(format!("a log in {}", raft.display())));
        }
        remove_tree(&**fs, &raft, DEPTH_MAX)?;
        fs.sync_dir(state_dir)?;
        Ok(None)
    }

    /// Writes it as the state of this node, which the voters of the site are to follow. Blocking.
    pub fn write(
        self,
        fs: &Arc<dyn Fs>,
        state_dir: &Path,
        node: u8,
        voters: &[u8],
    ) -> Result<(), StartError> {
        fs.create_dir_all(state_dir)?;
        let unfinished = state_dir.join("rebuild.new");
        if fs.exists(&unfinished)? {
            remove_tree(&**fs, &unfinished, DEPTH_MAX)?;
        }
        let raft = unfinished.join("raft");
        let (log, thread) =
            LogStore::open(Arc::clone(fs), &raft.join("log"), LogOptions::default(), rand::random())?;
        let store = log.store();
        drop(log);
        thread.join().map_err(|_| failed("the log's thread panicked"))?;
        let identity = Identity { node, id: raft_id(node, 0), store, shards: Vec::new() };
        forming::write(&**fs, &unfinished, &identity)?;
        forming::write_whole(&**fs, &raft.join("rebuilt"), &coding::encode(&INDEX).map_err(failed)?)?;

        let last = LogId::new(CommittedLeaderIdOf::<TypeConfig>::new(1, raft_id(node, 0)), INDEX);
        // As in a founding membership, addresses are those of each node's configuration.
        let founders: BTreeMap<RaftId, BasicNode> =
            voters.iter().map(|voter| (raft_id(*voter, 0), BasicNode::new(""))).collect();
        let ids = founders.keys().copied().collect();
        let membership = Membership::new(vec![ids], founders).map_err(failed)?;
        let meta = SnapshotMeta {
            last_log_id: Some(last),
            last_membership: StoredMembership::new(Some(last), membership),
        };
        let snapshots = Snapshots::open(Arc::clone(fs), &raft.join("snapshot"))?;
        snapshots.write(&meta, &self.state).map_err(failed)?;
        drop(snapshots);
        fs.sync_dir(&raft)?;
        fs.rename(&raft, &state_dir.join("raft"))?;
        fs.sync_dir(state_dir)?;
        fs.remove_dir(&unfinished)?;
        Ok(())
    }

    /// Which of these nodes are up: they answered, be it to refuse.
    pub async fn who_answers(&self, peers: &Arc<dyn Peers>, others: &[u8]) -> Vec<u8> {
        let hello = Hello { site: self.site, voters: Vec::new(), look: false };
        let Ok(payload) = coding::encode(&hello) else { return others.to_vec() };
        let payload = bytes::Bytes::from(payload);
        let calls = others.iter().map(|other| {
            let call = peers.call(*other, 0, Kind::Hello, payload.clone(), HELLO_MAX);
            async move {
                match call.await {
                    Ok(_) | Err(rpc::coordination::CallError::Refused(_)) => Some(*other),
                    Err(rpc::coordination::CallError::NoAnswer(_)) => None,
                }
            }
        });
        futures::future::join_all(calls).await.into_iter().flatten().collect()
    }
}

/// Up to which index a rebuilt voter knows nothing but what it was founded with; `None` for any other. Blocking.
pub(super) fn rebuilt_at(fs: &dyn Fs, state_dir: &Path) -> Result<Option<u64>, StartError> {
    match fs.read(&state_dir.join("raft").join("rebuilt"), 64) {
        Ok(bytes) => coding::decode(&bytes).map(Some).map_err(failed),
        Err(error) if error.is_not_found() => Ok(None),
        Err(error) => Err(error.into()),
    }
}
