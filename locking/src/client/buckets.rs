//! Buckets that this node has granted, gives up, and has given to others, each in the group that keeps it.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use futures::future::try_join_all;
use model::Epoch;

use super::batch::Batcher;
use super::counters::Counters;
use super::holdings::Holdings;
use super::{GrantError, Locking, Requests, Tenure, lock, unexpected};
use crate::clock::boottime;
use crate::command::{Answer, Bucket, Command, NodeId, Run, SessionId, Wanted};
use crate::peer::message::LEVEL;
use crate::raft::machine::Moved;
use crate::server::{NoAnswer, PROPOSE_MAX, Voter};

/// A group that keeps buckets, as this node asks it.
pub(super) struct Shard {
    pub(super) voter: Arc<Voter>,
    place: usize,
    pub(super) batcher: Batcher,
    /// One request at a time, so that the group's memory of answers always covers the one under way.
    pub(super) requests: tokio::sync::Mutex<Requests>,
    wanted: Mutex<BTreeSet<Bucket>>,
}

impl Shard {
    pub(super) fn start(
        place: usize,
        voter: Arc<Voter>,
        holdings: &Arc<Holdings>,
        tenure: &Arc<Mutex<Tenure>>,
        counters: &Arc<Counters>,
    ) -> Self {
        let follows = Arc::clone(holdings);
        voter.reader().follow(Box::new(move |state, moved| follows.moved(place, state, moved)));
        let hoped = Arc::clone(tenure);
        let hope = Box::new(move || lock(&hoped).lease.may_read(boottime()));
        let batcher = Batcher::start(Arc::clone(&voter), Arc::clone(counters), hope);
        let requests = tokio::sync::Mutex::new(Requests::new());
        Self { voter, place, batcher, requests, wanted: Mutex::default() }
    }

    /// Brings what is held up to date with all that is applied here.
    pub(super) fn look_through(&self, holdings: &Holdings) {
        self.voter.reader().read(|state| holdings.moved(self.place, state, Moved::Any));
    }

    /// Waits until the group knows a session: it is told of one soon after that was opened.
    async fn knows(&self, session: SessionId) -> Result<(), NoAnswer> {
        let reader = self.voter.reader();
        let mut map = reader.map();
        let told = async {
            while !reader.read(|state| state.sessions.contains_key(&session)) {
                if map.changed().await.is_err() {
                    return;
                }
            }
        };
        let late = || NoAnswer(format!("this group has not heard of session {session} yet"));
        tokio::time::timeout(PROPOSE_MAX, told).await.map_err(|_| late())
    }
}

async fn assign_in(shard: &Shard, buckets: Vec<Bucket>, to: NodeId) -> Result<usize, GrantError> {
    let mut requests = shard.requests.lock().await;
    match requests.ask(&shard.voter, Command::Assign { buckets, to }).await? {
        Answer::Granted(runs) => Ok(count(&runs)),
        Answer::Refused(refusal) => Err(GrantError::Refused(refusal)),
        other @ (Answer::Done | Answer::Nothing | Answer::Opened(_) | Answer::Witnessed { .. }) => {
            Err(unexpected(&other).into())
        }
    }
}

fn count(runs: &[Run]) -> usize {
    runs.iter().map(|run| usize::from(run.last.saturating_sub(run.first)) + 1).sum()
}

impl Locking {
    /// The epoch under which this session holds the bucket, without asking anybody.
    pub fn held(&self, bucket: Bucket) -> Option<Epoch> {
        self.0.holdings.held(bucket)
    }

    /// Makes this node the owner of a bucket. One that it holds already is answered as it is.
    pub async fn grant(&self, bucket: Bucket) -> Result<Epoch, GrantError> {
        if let Some(epoch) = self.held(bucket) {
            return Ok(epoch);
        }
        let shard = self.0.shard(bucket);
        lock(&shard.wanted).insert(bucket);
        let mut requests = shard.requests.lock().await;
        // Whoever had the turn before may have asked for us.
        if let Some(epoch) = self.held(bucket) {
            return Ok(epoch);
        }
        let mut wanted: Vec<Bucket> = std::mem::take(&mut *lock(&shard.wanted)).into_iter().collect();
        if wanted.binary_search(&bucket).is_err() {
            wanted.push(bucket);
        }
        self.ask_for(shard, &mut requests, Wanted::These(wanted)).await?;
        self.held(bucket).ok_or_else(|| self.why_not(bucket))
    }

    fn why_not(&self, bucket: Bucket) -> GrantError {
        let held_by_other = self.0.shard(bucket).voter.reader().read(|state| {
            let owner = state.bucket(bucket).session();
            owner.is_some_and(|owner| state.is_live(owner)) || state.may_be_given(self.0.node)
        });
        if held_by_other { GrantError::HeldElsewhere(bucket) } else { GrantError::Draining(bucket) }
    }

    /// Makes this node the owner of every bucket that nobody holds. Returns how many it holds then.
    pub async fn grant_all(&self) -> Result<usize, GrantError> {
        let all = self.0.shards.iter().map(|shard| async {
            let mut requests = shard.requests.lock().await;
            self.ask_for(shard, &mut requests, Wanted::AllFree).await
        });
        Ok(try_join_all(all).await?.into_iter().sum())
    }

    async fn ask_for(
        &self,
        shard: &Shard,
        requests: &mut Requests,
        wanted: Wanted,
    ) -> Result<usize, GrantError> {
        let session = self.session();
        shard.knows(session).await?;
        match requests.ask(&shard.voter, Command::Grant { session, wanted }).await? {
            Answer::Granted(runs) => {
                self.0.holdings.granted(session, &runs);
                Ok(count(&runs))
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
    /// becomes free; if the wish was taken back it stays here, and [`Refusal::NotDraining`](crate::command::Refusal::NotDraining) says so.
    pub async fn hand_over(&self, bucket: Bucket) -> Result<(), GrantError> {
        self.leave(bucket, |epoch| Command::HandOver { bucket, epoch }).await
    }

    /// Nothing is begun under the epoch any more from before the service is asked: it may be over at any moment.
    async fn leave(&self, bucket: Bucket, how: impl FnOnce(Epoch) -> Command) -> Result<(), GrantError> {
        let shard = self.0.shard(bucket);
        let mut requests = shard.requests.lock().await;
        let Some(epoch) = self.0.holdings.leave(bucket) else { return Ok(()) };
        match requests.ask(&shard.voter, how(epoch)).await? {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => {
                shard.voter.reader().read(|state| self.0.holdings.stay(bucket, state));
                Err(GrantError::Refused(refusal))
            }
            other @ (Answer::Nothing | Answer::Opened(_) | Answer::Granted(_) | Answer::Witnessed { .. }) => {
                Err(unexpected(&other).into())
            }
        }
    }

    /// Whether [`Self::give_away`] may be asked for: all nodes of the site are up and of a version that knows it.
    pub async fn may_give_away(&self) -> bool {
        self.0.voter.all_understand(LEVEL).await
    }

    /// Gives those of these buckets that this session holds to another node, as many as there are in one step. The
    /// caller has nothing under way in them. Returns those that are gone; the others stay, or are not known to have gone.
    pub async fn give_away(&self, buckets: Vec<Bucket>, to: NodeId) -> Result<BTreeSet<Bucket>, GrantError> {
        let of_shards = self.by_shard(buckets);
        let each = of_shards.map(|(shard, buckets)| self.give_away_in(shard, buckets, to));
        Ok(try_join_all(each).await?.into_iter().flatten().collect())
    }

    async fn give_away_in(
        &self,
        shard: &Shard,
        buckets: Vec<Bucket>,
        to: NodeId,
    ) -> Result<BTreeSet<Bucket>, GrantError> {
        let (holdings, reader) = (&self.0.holdings, shard.voter.reader());
        let mut requests = shard.requests.lock().await;
        let given: Vec<(Bucket, Epoch)> =
            buckets.into_iter().filter_map(|bucket| Some((bucket, holdings.leave(bucket)?))).collect();
        let asked = Command::GiveAway { buckets: given.clone(), to };
        let stay = |left: &BTreeSet<Bucket>| {
            let stayed = given.iter().map(|(bucket, _)| *bucket).filter(|bucket| !left.contains(bucket));
            reader.read(|state| stayed.for_each(|bucket| holdings.stay(bucket, state)));
        };
        match requests.ask(&shard.voter, asked).await? {
            Answer::Granted(runs) => {
                let left: BTreeSet<Bucket> = runs.iter().flat_map(|run| run.first..=run.last).collect();
                if left.len() < given.len() {
                    // What has not gone is as the map says that knows of this.
                    shard.voter.confirm().await?;
                    stay(&left);
                }
                Ok(left)
            }
            Answer::Refused(refusal) => {
                stay(&BTreeSet::new());
                Err(GrantError::Refused(refusal))
            }
            other @ (Answer::Done | Answer::Nothing | Answer::Opened(_) | Answer::Witnessed { .. }) => {
                Err(unexpected(&other).into())
            }
        }
    }

    /// Buckets with the group that keeps them, where there are any.
    fn by_shard(&self, buckets: Vec<Bucket>) -> impl Iterator<Item = (&Shard, Vec<Bucket>)> {
        let mut of_shards = vec![Vec::new(); self.0.shards.len()];
        for bucket in buckets {
            of_shards[usize::from(bucket) % self.0.shards.len()].push(bucket);
        }
        self.0.shards.iter().zip(of_shards).filter(|(_, buckets)| !buckets.is_empty())
    }

    /// Gives a node those of these buckets that no live session holds: after a crash, or to spread them. Returns how
    /// many of them it holds then.
    pub async fn assign(&self, buckets: Vec<Bucket>, to: NodeId) -> Result<usize, GrantError> {
        let each = self.by_shard(buckets).map(|(shard, buckets)| assign_in(shard, buckets, to));
        Ok(try_join_all(each).await?.into_iter().sum())
    }

    /// Asks the owner of a bucket to hand it over to a node, or with `None` to keep it (§7.1). The owner sees it in
    /// [`Self::to_hand_over`], finishes what it has begun and calls [`Self::hand_over`].
    pub async fn drain(&self, bucket: Bucket, to: Option<NodeId>) -> Result<(), GrantError> {
        let shard = self.0.shard(bucket);
        if !shard.voter.leads() {
            // A map that lags would name an epoch that is over.
            shard.voter.confirm().await?;
        }
        let mut requests = shard.requests.lock().await;
        let epoch = shard.voter.reader().read(|state| state.bucket(bucket).epoch);
        match requests.ask(&shard.voter, Command::Drain { bucket, epoch, to }).await? {
            Answer::Done => Ok(()),
            Answer::Refused(refusal) => Err(GrantError::Refused(refusal)),
            other @ (Answer::Nothing | Answer::Opened(_) | Answer::Granted(_) | Answer::Witnessed { .. }) => {
                Err(unexpected(&other).into())
            }
        }
    }
}
