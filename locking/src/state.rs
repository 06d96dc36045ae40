//! The replicated state machine: who owns which bucket under which epoch, and the witness of every account.
//!
//! Pure: the same requests in the same order make the same state on every voter. An account is a number here.
//!
//! Invariants
//! - A bucket's epoch rises with every grant and never falls (J1, L-SM1).
//! - A witness is accepted only under the epoch of the bucket's live owner, and its counter never falls (L-SM2).
//!   Therefore what is remembered at the moment of a grant is final for all earlier epochs (L-SM3).
//! - A request is carried out once, however often it is in the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::Epoch;
use serde::{Deserialize, Serialize};

use crate::command::{
    Answer, BUCKETS, Bucket, Command, Mirror, NodeId, RECORDS_MAX, Record, Refusal, Request, RequestId, Run,
    SessionId, Subkey, Wanted, Witness,
};
use crate::marks::{Mark, Marks};
use crate::peer::message::{RaftId, instance_of, node_of};
use crate::witnesses::Witnesses;

/// Buckets whose state is copied together when a reader still holds the old one.
pub const SHARD_BUCKETS: usize = 256;
pub const SHARDS: usize = BUCKETS / SHARD_BUCKETS;
/// Clients whose requests are recognised when they come again.
pub const CLIENTS_MAX: usize = 256;
/// Answers remembered for a client; so many requests it may have under way at once.
pub const ANSWERS_MAX: usize = 64;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    pub site: u8,
    /// Upper half of every epoch. A service that is founded anew takes a higher one than any before it.
    pub incarnation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum SessionState {
    Live,
    Expired,
    Closed,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    pub node: NodeId,
    pub state: SessionState,
    /// Buckets that name it as their owner. A session that is over is forgotten with its last bucket.
    pub buckets: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Holder {
    Free,
    Owned(SessionId),
    /// Owned, and asked to be handed over.
    Draining(SessionId, NodeId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketState {
    pub epoch: Epoch,
    pub holder: Holder,
}

impl BucketState {
    fn new() -> Self {
        Self { epoch: Epoch::new(0, 0), holder: Holder::Free }
    }

    pub fn session(&self) -> Option<SessionId> {
        match self.holder {
            Holder::Free => None,
            Holder::Owned(session) | Holder::Draining(session, _) => Some(session),
        }
    }
}

/// The state of [`SHARD_BUCKETS`] neighbouring buckets.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    pub buckets: Vec<BucketState>,
    pub witnesses: Witnesses,
}

impl Shard {
    fn new() -> Self {
        Self { buckets: vec![BucketState::new(); SHARD_BUCKETS], witnesses: Witnesses::default() }
    }
}

/// One node as a member of the site: by its disk, because a node that lost it is another (L-RS2, A-5).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The random number of its store.
    pub store: u64,
    /// 0 for a founding voter, else the log index at which it was let in. Never used twice.
    pub instance: u64,
    pub removed: bool,
}

/// Which part of the site's state a group keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// Groups that the site was founded with. If one, that keeps everything.
    pub groups: u16,
    /// 0 keeps sessions, nodes and configuration; if there are more, those keep the buckets.
    pub group: u16,
    /// The last entry of group 0's log that this group was told of.
    pub mirrored: u64,
}

impl Share {
    pub const WHOLE: Self = Self { groups: 1, group: 0, mirrored: 0 };

    pub fn holds(&self, bucket: Bucket) -> bool {
        match (self.groups, self.group) {
            (0 | 1, group) => group == 0,
            (_, 0) => false,
            (groups, group) => bucket % groups == group - 1,
        }
    }
}

/// A client's latest requests with what they were answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub used_at: u64,
    pub answers: BTreeMap<u64, Answer>,
    /// Answers up to this number have been dropped.
    pub forgotten: u64,
}

/// Everything the service knows. Cloning is cheap: shards are copied when they are next written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    pub config: Option<Config>,
    pub sessions: BTreeMap<SessionId, Session>,
    pub clients: BTreeMap<u64, Memory>,
    pub shards: Vec<Arc<Shard>>,
    pub members: BTreeMap<NodeId, Member>,
    /// Nodes that are being emptied.
    pub draining: BTreeSet<NodeId>,
    pub share: Share,
    /// The last mark of each member's store that the site has heard of (L-RS2).
    pub marks: BTreeMap<NodeId, Mark>,
}

/// What a request changed, so that a copy of the state can follow.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Touched {
    pub buckets: BTreeSet<Bucket>,
    pub witnesses: BTreeSet<(Bucket, Subkey)>,
    /// Sessions, clients and configuration are small and written together.
    pub heads: bool,
}

impl Default for State {
    fn default() -> Self {
        Self {
            config: None,
            sessions: BTreeMap::new(),
            clients: BTreeMap::new(),
            shards: (0..SHARDS).map(|_| Arc::new(Shard::new())).collect(),
            members: BTreeMap::new(),
            draining: BTreeSet::new(),
            share: Share::WHOLE,
            marks: BTreeMap::new(),
        }
    }
}

impl State {
    /// Whether the parts fit together; asked of everything that was read from a disk.
    pub fn is_sound(&self) -> bool {
        let mut held: BTreeMap<SessionId, u32> = BTreeMap::new();
        let shapes = self.shards.len() == SHARDS
            && self.shards.iter().enumerate().all(|(index, shard)| {
                shard.buckets.len() == SHARD_BUCKETS
                    && shard.witnesses.buckets().is_none_or(|(first, last)| {
                        [first, last].iter().all(|bucket| usize::from(*bucket) / SHARD_BUCKETS == index)
                    })
            });
        for session in self.shards.iter().flat_map(|shard| &shard.buckets).filter_map(BucketState::session) {
            *held.entry(session).or_default() += 1;
        }
        shapes
            && held.keys().all(|session| self.sessions.contains_key(session))
            && self.sessions.iter().all(|(id, session)| session.buckets == held.get(id).copied().unwrap_or(0))
    }

    pub fn bucket(&self, bucket: Bucket) -> BucketState {
        let (shard, place) = split(bucket);
        self.shards[shard].buckets[place]
    }

    pub fn witness(&self, bucket: Bucket, subkey: &Subkey) -> Option<Witness> {
        self.shards[split(bucket).0].witnesses.get(bucket, subkey)
    }

    pub fn is_live(&self, session: SessionId) -> bool {
        self.sessions.get(&session).is_some_and(|session| session.state == SessionState::Live)
    }

    /// The session under which a node is given buckets.
    pub fn live_session_of(&self, node: NodeId) -> Option<SessionId> {
        let mut live = self.live_sessions().filter(|(_, session)| session.node == node);
        live.next_back().map(|(id, _)| id)
    }

    /// Whether a node may be given buckets. One that is being emptied may only when nobody else could have them.
    pub fn may_be_given(&self, node: NodeId) -> bool {
        let takes = |other: NodeId| other != node && !self.draining.contains(&other);
        !self.draining.contains(&node) || !self.live_sessions().any(|(_, session)| takes(session.node))
    }

    pub fn live_sessions(&self) -> impl DoubleEndedIterator<Item = (SessionId, &Session)> {
        let live = self.sessions.iter().filter(|(_, session)| session.state == SessionState::Live);
        live.map(|(id, session)| (*id, session))
    }

    /// The store of a voter, by the number that consensus has for it.
    pub(crate) fn store_of(&self, id: RaftId) -> Option<u64> {
        let member = self.members.get(&NodeId(node_of(id)))?;
        (member.instance == instance_of(id)).then_some(member.store)
    }

    /// Puts a witness where a service begins with it.
    pub(crate) fn put_witness(&mut self, bucket: Bucket, subkey: &Subkey, witness: Witness) {
        self.shard(bucket).witnesses.insert(bucket, subkey, witness);
    }

    pub fn witness_count(&self) -> usize {
        self.shards.iter().map(|shard| shard.witnesses.len()).sum()
    }

    /// Carries out the request at this log index, or repeats its answer.
    pub fn apply(&mut self, index: u64, request: &Request, touched: &mut Touched) -> Answer {
        if let Some(answer) = self.recall(request.id) {
            return answer;
        }
        let answer = self.carry_out(index, &request.command, touched);
        // Grants are idempotent by nature: what the session holds is answered as it is. Their answers can be long, and
        // are not remembered.
        if !matches!(
            request.command,
            Command::Grant { .. } | Command::Assign { .. } | Command::GiveAway { .. }
        ) {
            self.remember(index, request.id, answer.clone());
            touched.heads = true;
        }
        answer
    }

    fn recall(&self, id: RequestId) -> Option<Answer> {
        let memory = self.clients.get(&id.client)?;
        match memory.answers.get(&id.seq) {
            Some(answer) => Some(answer.clone()),
            None if id.seq <= memory.forgotten => Some(Answer::Refused(Refusal::TooOld)),
            None => None,
        }
    }

    fn remember(&mut self, index: u64, id: RequestId, answer: Answer) {
        let memory = self.clients.entry(id.client).or_default();
        memory.used_at = index;
        memory.answers.insert(id.seq, answer);
        while memory.answers.len() > ANSWERS_MAX {
            if let Some((seq, _)) = memory.answers.pop_first() {
                memory.forgotten = seq;
            }
        }
        if self.clients.len() > CLIENTS_MAX {
            let oldest =
                self.clients.iter().min_by_key(|(_, memory)| memory.used_at).map(|(client, _)| *client);
            if let Some(client) = oldest {
                self.clients.remove(&client);
            }
        }
    }

    fn carry_out(&mut self, index: u64, command: &Command, touched: &mut Touched) -> Answer {
        let result = match command {
            Command::Found { site, incarnation } => self.found(*site, *incarnation, 1),
            Command::SessionOpen { node, replaces_older } => self.open_session(index, *node, *replaces_older),
            Command::SessionExpire { session } => Ok(self.end_session(*session, SessionState::Expired)),
            Command::SessionClose { session } => Ok(self.end_session(*session, SessionState::Closed)),
            Command::Grant { session, wanted } => self.grant(*session, wanted, touched),
            Command::Drain { bucket, epoch, to } => self.drain(*bucket, *epoch, *to, touched),
            Command::Release { bucket, epoch } => self.release(*bucket, *epoch, touched),
            Command::Witness { records } => self.accept_all(records, touched),
            Command::Forget { bucket, epoch, subkey } => self.forget(*bucket, *epoch, subkey, touched),
            Command::Bind { node, store } => Ok(self.bind(*node, *store)),
            Command::Enlist { node, store } => Ok(self.enlist(index, *node, *store)),
            Command::Retire { node } => Ok(self.retire(*node)),
            Command::Mark { node, store, marks } => self.mark(*node, *store, marks),
            Command::HandOver { bucket, epoch } => self.hand_over(*bucket, *epoch, touched),
            Command::Assign { buckets, to } => self.assign(buckets, *to, touched),
            Command::SetDraining { node, draining } => Ok(self.set_draining(*node, *draining)),
            Command::FoundGroups { site, incarnation, groups } => self.found(*site, *incarnation, *groups),
            Command::Mirror(mirror) => self.mirror(mirror),
            Command::GiveAway { buckets, to } => self.give_away(buckets, *to, touched),
        };
        result.unwrap_or_else(Answer::Refused)
    }

    fn found(&mut self, site: u8, incarnation: u32, groups: u16) -> Result<Answer, Refusal> {
        let wanted = Config { site, incarnation };
        match self.config {
            Some(config) if config == wanted && self.share == (Share { groups, ..Share::WHOLE }) => {
                Ok(Answer::Done)
            }
            Some(_) => Err(Refusal::FoundedOtherwise),
            None => {
                self.config = Some(wanted);
                self.share.groups = groups;
                Ok(Answer::Done)
            }
        }
    }

    /// Founds this group as one that keeps buckets, or brings its sessions up to date. Whatever order such words come
    /// in, a session that was over here stays over: the log of the first group is their order, and it resumes none.
    fn mirror(&mut self, mirror: &Mirror) -> Result<Answer, Refusal> {
        let Mirror { at, site, incarnation, group, groups, sessions, draining } = mirror;
        let config = Config { site: *site, incarnation: *incarnation };
        let is_fit = (1..=*groups).contains(group) && *groups > 1;
        match self.config {
            _ if !is_fit => return Err(Refusal::OtherGroup),
            Some(known) if known != config => return Err(Refusal::FoundedOtherwise),
            Some(_) if (self.share.group, self.share.groups) != (*group, *groups) => {
                return Err(Refusal::OtherGroup);
            }
            Some(_) if *at <= self.share.mirrored => return Ok(Answer::Done),
            Some(_) | None => {}
        }
        self.config = Some(config);
        self.share = Share { groups: *groups, group: *group, mirrored: *at };
        let over: Vec<SessionId> =
            self.sessions.keys().filter(|id| sessions.iter().all(|(live, _)| live != *id)).copied().collect();
        for id in over {
            self.end_session(id, SessionState::Expired);
        }
        for (id, node) in sessions {
            let new = Session { node: *node, state: SessionState::Live, buckets: 0 };
            self.sessions.entry(*id).or_insert(new);
        }
        self.draining = draining.iter().copied().collect();
        Ok(Answer::Done)
    }

    /// What the group that keeps a share of the buckets is to be told as of this entry, unless it knows it already.
    pub(crate) fn news_for(&self, at: u64, group: u16, other: &Self) -> Option<Mirror> {
        let config = self.config?;
        let live = |state: &Self| -> Vec<(SessionId, NodeId)> {
            state.live_sessions().map(|(id, session)| (id, session.node)).collect()
        };
        let sessions = live(self);
        let is_known = other.config.is_some() && live(other) == sessions && other.draining == self.draining;
        (!is_known && other.share.mirrored < at).then(|| Mirror {
            at,
            site: config.site,
            incarnation: config.incarnation,
            group,
            groups: self.share.groups,
            sessions,
            draining: self.draining.iter().copied().collect(),
        })
    }

    /// The first to name its store is the founding voter of that number; what others said is read from the state.
    fn bind(&mut self, node: NodeId, store: u64) -> Answer {
        self.members.entry(node).or_insert(Member { store, instance: 0, removed: false });
        Answer::Done
    }

    /// Lets a store in as a new instance, unless the node has one that was not removed. A store that was removed
    /// stays out: what it has promised as the old instance is not known any more.
    fn enlist(&mut self, index: u64, node: NodeId, store: u64) -> Answer {
        let known = self.members.get(&node);
        if known.is_none_or(|member| member.removed && member.store != store) {
            self.members.insert(node, Member { store, instance: index, removed: false });
            self.marks.remove(&node);
        }
        Answer::Done
    }

    fn retire(&mut self, node: NodeId) -> Answer {
        if let Some(member) = self.members.get_mut(&node) {
            member.removed = true;
        }
        self.draining.remove(&node);
        Answer::Done
    }

    fn set_draining(&mut self, node: NodeId, draining: bool) -> Answer {
        if draining {
            self.draining.insert(node);
        } else {
            self.draining.remove(&node);
        }
        Answer::Done
    }

    /// L-RS2: remembers the last mark of a store, unless it is that of an older copy.
    fn mark(&mut self, node: NodeId, store: u64, marks: &Marks) -> Result<Answer, Refusal> {
        let member = self.members.get(&node).filter(|member| member.store == store && !member.removed);
        let known = self.marks.get(&node).copied();
        let mark = member.and(marks.last()).filter(|_| marks.follow(known)).ok_or(Refusal::OtherLife)?;
        self.marks.insert(node, mark);
        Ok(Answer::Done)
    }

    fn open_session(&mut self, index: u64, node: NodeId, replaces_older: bool) -> Result<Answer, Refusal> {
        self.config.ok_or(Refusal::NotFounded)?;
        if self.share.group != 0 {
            return Err(Refusal::OtherGroup);
        }
        if replaces_older {
            // The older processes of this node are known to be dead, so nothing waits for their leases (L-LE4).
            let older: Vec<SessionId> =
                self.sessions.iter().filter(|(_, session)| session.node == node).map(|(id, _)| *id).collect();
            for session in older {
                self.end_session(session, SessionState::Expired);
            }
        }
        let id = SessionId(index);
        self.sessions.insert(id, Session { node, state: SessionState::Live, buckets: 0 });
        Ok(Answer::Opened(id))
    }

    /// Ends a session for good (L-LE2). Its buckets keep its name, so that nobody witnesses under its epoch, until
    /// they are granted anew.
    fn end_session(&mut self, id: SessionId, to: SessionState) -> Answer {
        if let Some(session) = self.sessions.get_mut(&id) {
            if session.state == SessionState::Live {
                session.state = to;
            }
            if session.buckets == 0 {
                self.sessions.remove(&id);
            }
        }
        Answer::Done
    }

    fn grant(
        &mut self,
        session: SessionId,
        wanted: &Wanted,
        touched: &mut Touched,
    ) -> Result<Answer, Refusal> {
        self.config.ok_or(Refusal::NotFounded)?;
        if !self.is_live(session) {
            return Err(Refusal::NoSession);
        }
        let buckets: Vec<Bucket> = match wanted {
            Wanted::These(buckets) => buckets.clone(),
            Wanted::AllFree => (0..=Bucket::MAX).collect(),
        };
        Ok(Answer::Granted(self.grant_all(buckets, session, touched)))
    }

    /// What of these buckets nobody else can have goes to that node, whoever asks.
    fn assign(&mut self, buckets: &[Bucket], to: NodeId, touched: &mut Touched) -> Result<Answer, Refusal> {
        let session = self.live_session_of(to).ok_or(Refusal::NoSession)?;
        if !self.may_be_given(to) {
            return Err(Refusal::NodeDraining);
        }
        Ok(Answer::Granted(self.grant_all(buckets.to_vec(), session, touched)))
    }

    fn grant_all(&mut self, mut buckets: Vec<Bucket>, session: SessionId, touched: &mut Touched) -> Vec<Run> {
        buckets.sort_unstable();
        buckets.dedup();
        let mut runs: Vec<Run> = Vec::new();
        for bucket in buckets {
            let Some(epoch) = self.grant_one(bucket, session, touched) else { continue };
            match runs.last_mut() {
                Some(run) if run.epoch == epoch && run.last.checked_add(1) == Some(bucket) => {
                    run.last = bucket
                }
                Some(_) | None => runs.push(Run { first: bucket, last: bucket, epoch }),
            }
        }
        runs
    }

    /// L-SM1: only what no live session holds is granted, always under a higher epoch, even to the same node.
    fn grant_one(&mut self, bucket: Bucket, session: SessionId, touched: &mut Touched) -> Option<Epoch> {
        let incarnation = self.config?.incarnation;
        if !self.share.holds(bucket) {
            return None;
        }
        let node = self.sessions.get(&session)?.node;
        let old = self.bucket(bucket);
        match old.session() {
            Some(owner) if owner == session => return Some(old.epoch),
            Some(owner) if self.is_live(owner) => return None,
            Some(_) | None if !self.may_be_given(node) => return None,
            Some(owner) => self.lose_bucket(owner),
            None => {}
        }
        // Of a lower incarnation: this bucket has never been granted by this service.
        let epoch = if old.epoch < Epoch::new(incarnation, 0) {
            Epoch::new(incarnation, 1)
        } else {
            old.epoch.next()?
        };
        self.set_bucket(bucket, BucketState { epoch, holder: Holder::Owned(session) }, touched);
        if let Some(session) = self.sessions.get_mut(&session) {
            session.buckets += 1;
        }
        touched.heads = true;
        Some(epoch)
    }

    fn lose_bucket(&mut self, owner: SessionId) {
        if let Some(session) = self.sessions.get_mut(&owner) {
            session.buckets = session.buckets.saturating_sub(1);
            if session.buckets == 0 && session.state != SessionState::Live {
                self.sessions.remove(&owner);
            }
        }
    }

    fn drain(
        &mut self,
        bucket: Bucket,
        epoch: Epoch,
        to: Option<NodeId>,
        touched: &mut Touched,
    ) -> Result<Answer, Refusal> {
        let owner = self.live_owner(bucket, epoch)?;
        let holder = to.map_or(Holder::Owned(owner), |to| Holder::Draining(owner, to));
        self.set_bucket(bucket, BucketState { epoch, holder }, touched);
        Ok(Answer::Done)
    }

    fn release(&mut self, bucket: Bucket, epoch: Epoch, touched: &mut Touched) -> Result<Answer, Refusal> {
        let state = self.bucket(bucket);
        if state.epoch != epoch {
            return Err(Refusal::StaleEpoch);
        }
        if let Some(owner) = state.session() {
            self.set_bucket(bucket, BucketState { epoch, holder: Holder::Free }, touched);
            self.lose_bucket(owner);
            touched.heads = true;
        }
        Ok(Answer::Done)
    }

    /// §7.1, in one step, so that the bucket is nobody's at no time. If the other node has died meanwhile, or is being
    /// emptied itself, anybody may have it.
    fn hand_over(&mut self, bucket: Bucket, epoch: Epoch, touched: &mut Touched) -> Result<Answer, Refusal> {
        self.live_owner(bucket, epoch)?;
        let Holder::Draining(_, to) = self.bucket(bucket).holder else { return Err(Refusal::NotDraining) };
        self.release(bucket, epoch, touched)?;
        if let Some(session) = self.live_session_of(to) {
            self.grant_one(bucket, session, touched);
        }
        Ok(Answer::Done)
    }

    /// §7.1 for many at once. What its live owner gives, and was not asked to hand over, goes to the other node; at no
    /// time is any of it nobody's.
    fn give_away(
        &mut self,
        buckets: &[(Bucket, Epoch)],
        to: NodeId,
        touched: &mut Touched,
    ) -> Result<Answer, Refusal> {
        let session = self.live_session_of(to).ok_or(Refusal::NoSession)?;
        if !self.may_be_given(to) {
            return Err(Refusal::NodeDraining);
        }
        let mut theirs = Vec::new();
        for (bucket, epoch) in buckets {
            let is_held = self.bucket(*bucket).session() == Some(session);
            let is_owned = matches!(self.bucket(*bucket).holder, Holder::Owned(_));
            let is_given = is_owned && self.live_owner(*bucket, *epoch).is_ok();
            if is_given && !is_held {
                self.release(*bucket, *epoch, touched)?;
            }
            theirs.extend((is_given || is_held).then_some(*bucket));
        }
        Ok(Answer::Granted(self.grant_all(theirs, session, touched)))
    }

    fn accept_all(&mut self, records: &[Record], touched: &mut Touched) -> Result<Answer, Refusal> {
        if records.len() > RECORDS_MAX {
            return Err(Refusal::TooMany);
        }
        let refused = (0u32..)
            .zip(records)
            .filter_map(|(place, record)| Some((place, self.accept(record, touched).err()?)))
            .collect();
        Ok(Answer::Witnessed { refused })
    }

    /// L-SM2. The same record is accepted again, so that a lost answer can be asked for again (L-CM3).
    fn accept(&mut self, record: &Record, touched: &mut Touched) -> Result<(), Refusal> {
        self.live_owner(record.bucket, record.epoch)?;
        let old = self.shards[split(record.bucket).0].witnesses.counter(record.bucket, &record.subkey);
        if old.is_some_and(|old| old > record.counter) {
            return Err(Refusal::Backwards);
        }
        let witness = Witness { epoch: record.epoch, value: record.value.clone(), counter: record.counter };
        self.shard(record.bucket).witnesses.insert(record.bucket, &record.subkey, witness);
        touched.witnesses.insert((record.bucket, record.subkey));
        Ok(())
    }

    fn forget(
        &mut self,
        bucket: Bucket,
        epoch: Epoch,
        subkey: &Subkey,
        touched: &mut Touched,
    ) -> Result<Answer, Refusal> {
        self.live_owner(bucket, epoch)?;
        self.shard(bucket).witnesses.remove(bucket, subkey);
        touched.witnesses.insert((bucket, *subkey));
        Ok(Answer::Done)
    }

    /// The session that owns the bucket under this epoch and is live.
    fn live_owner(&self, bucket: Bucket, epoch: Epoch) -> Result<SessionId, Refusal> {
        let state = self.bucket(bucket);
        let owner = state.session().filter(|session| state.epoch == epoch && self.is_live(*session));
        owner.ok_or(Refusal::StaleEpoch)
    }

    fn set_bucket(&mut self, bucket: Bucket, state: BucketState, touched: &mut Touched) {
        self.shard(bucket).buckets[split(bucket).1] = state;
        touched.buckets.insert(bucket);
    }

    fn shard(&mut self, bucket: Bucket) -> &mut Shard {
        Arc::make_mut(&mut self.shards[split(bucket).0])
    }
}

/// Shard of a bucket, and its place in there.
fn split(bucket: Bucket) -> (usize, usize) {
    (usize::from(bucket) / SHARD_BUCKETS, usize::from(bucket) % SHARD_BUCKETS)
}
