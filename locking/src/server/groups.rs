//! The groups that keep buckets, in a site that has more than one (`locking.md` §2). Each has a log of its own below
//! `raft/group-N`; who leads one may follow in another.
//!
//! Invariants
//! - A node is the same instance in all groups. Who it is, is known from the first group only.
//! - A node whose first group's disk is there and another's is not has lost its disk (L-RS2).
//! - A group is begun only with the membership that the site was founded with.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use openraft::BasicNode;

use super::forming;
use super::{
    Opened, Place, RETRY_EVERY, SAY_EVERY, START_MAX, StartError, Voter, VoterOptions, failed, open_at,
};
use crate::peer::message::raft_id;

fn directory(options: &VoterOptions, group: u16) -> PathBuf {
    options.state_dir.join("raft").join(format!("group-{group}"))
}

/// Opens the groups that keep buckets, and checks that they are those which this node had. Blocking.
fn open(options: &VoterOptions, first_store: u64) -> Result<Vec<Opened>, StartError> {
    let lost = |group| StartError::LogLost { path: directory(options, group) };
    let identity = forming::read(options, first_store, false)?;
    let mut identity =
        identity.ok_or_else(|| StartError::LogLost { path: options.state_dir.join("raft") })?;
    let mut groups = Vec::new();
    for group in 1..=options.groups {
        let copy = options.copy.as_ref().map(|copy| copy.with_added_extension(group.to_string()));
        groups.push(open_at(options, &directory(options, group), copy.as_deref())?);
    }
    let stores: Vec<u64> = groups.iter().map(|opened| opened.store.store()).collect();
    if identity.shards.is_empty() {
        if let Some((group, _)) = (1..).zip(&groups).find(|(_, opened)| !opened.blank) {
            return Err(lost(group));
        }
        identity.shards = stores;
        forming::write(&*options.fs, &options.state_dir, &identity)?;
        return Ok(groups);
    }
    let differs = (0..stores.len().max(identity.shards.len()))
        .find(|place| stores.get(*place) != identity.shards.get(*place))
        .and_then(|place| u16::try_from(place + 1).ok());
    differs.map_or(Ok(groups), |group| Err(lost(group)))
}

impl Voter {
    /// Starts this node's voters of the groups that keep buckets, where those are not the first group itself. Returns
    /// when each has a majority, and knows the sessions that there are.
    pub async fn start_shards(&self, options: &VoterOptions) -> Result<Vec<Self>, StartError> {
        if options.groups <= 1 {
            return Ok(Vec::new());
        }
        let (blocking, store) = (options.clone(), self.core.store);
        let opened = tokio::task::spawn_blocking(move || open(&blocking, store));
        let opened = opened.await.map_err(|error| StartError::Raft(error.to_string()))??;
        let mut voters = Vec::new();
        let mut failure = None;
        for (group, opened) in (1..).zip(opened) {
            match self.start_shard(options, group, opened).await {
                Ok(voter) => voters.push(voter),
                Err(error) => failure = Some(error),
            }
        }
        let alone = options.voters() == [options.node_id];
        if failure.is_none() {
            let ready = voters.iter().map(|voter| voter.becomes_ready(alone));
            failure = futures::future::try_join_all(ready).await.err();
        }
        let Some(error) = failure else { return Ok(voters) };
        for voter in voters {
            voter.shutdown().await;
        }
        Err(error)
    }

    async fn start_shard(
        &self,
        options: &VoterOptions,
        group: u16,
        opened: Opened,
    ) -> Result<Self, StartError> {
        let core = &self.core;
        let (nodes, peers) = (core.reader.clone(), Arc::clone(&core.peers));
        let place = Place { group, id: core.id, store: core.store, nodes, peers };
        let voter = Self::run(options, opened, place).await?;
        let membership = core.reader.membership();
        let is_founding = membership.log_id().as_ref().is_some_and(|changed| changed.index == 0);
        let raft = &voter.core.raft;
        if is_founding
            && core.id == raft_id(options.node_id, 0)
            && !raft.is_initialized().await.map_err(failed)?
        {
            let founders: BTreeMap<u64, BasicNode> =
                membership.voter_ids().map(|id| (id, BasicNode::new(""))).collect();
            // Another node's founding may arrive first; it is the same.
            if let Err(error) = raft.initialize(founders).await {
                tracing::debug!(group, %error, "the founding membership is there already");
            }
        }
        Ok(voter)
    }

    /// Waits until a quorum answers and the group has been told of the sessions.
    async fn becomes_ready(&self, alone: bool) -> Result<(), StartError> {
        let group = self.core.group;
        let begun = tokio::time::Instant::now();
        let mut said = begun;
        loop {
            let why = match self.confirm().await {
                Ok(()) if self.reader().read(|state| state.config.is_some()) => {
                    let share = self.reader().read(|state| state.share);
                    let is_it = share.group == group;
                    return is_it.then_some(()).ok_or_else(|| {
                        StartError::Raft(format!("the log of group {group} is that of group {}", share.group))
                    });
                }
                Ok(()) => "it has not been told of the sessions yet".to_owned(),
                Err(error) => error.to_string(),
            };
            if self.core.is_stopped() || (alone && begun.elapsed() >= START_MAX) {
                return Err(StartError::Raft(format!("group {group}: {why}")));
            }
            if said.elapsed() >= SAY_EVERY {
                said = tokio::time::Instant::now();
                tracing::warn!(group, why, "waiting for a group of the coordination service");
            }
            tokio::time::sleep(RETRY_EVERY).await;
        }
    }
}
