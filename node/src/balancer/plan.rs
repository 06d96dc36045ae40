//! Which buckets go where. Pure: what is seen goes in with the time, what is to be done comes out.
//!
//! Even means: every node that may own owns an equal share of all buckets that are owned. A bucket counts one,
//! whatever is in it: accounts hash evenly into buckets, so where there are many accounts all buckets are alike, and
//! where there are few it matters little. Buckets that nobody was ever asked for are spread with the others, so that the
//! owner of every account is known before it is needed.
//!
//! Invariants
//! - Nothing goes to a node that is dead or is being emptied, unless no other lives.
//! - In any second at most [`PAIR_MAX`] buckets are moved between two nodes, and [`SITE_MAX`] in the site (§7.1). Those that
//!   nobody uses are not counted: a node that is being emptied gives them away by itself ([`crate::emptying`]).
//! - A node gives only what it has above its share, and gets only what it lacks: no bucket goes to and fro. It begins
//!   to give when it has [`EXCESS_MIN`] or a twentieth too many, and stops at its share.
//! - A hand-over that is refused or slow is taken back and slows down its pair of nodes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use locking::{Bucket, NodeId, Placed};

/// Buckets that may be moved in a second from one node to another.
pub const PAIR_MAX: usize = 50;
/// And in the whole site.
pub const SITE_MAX: usize = 200;
/// A hand-over that takes longer is taken back.
pub const MOVE_MAX: Duration = Duration::from_secs(2);
/// The same for one that somebody else asked for: an operator, or a node that stops. They take theirs back themselves.
pub const OTHERS_MAX: Duration = Duration::from_secs(10);
/// Buckets above its share that a node may keep.
pub const EXCESS_MIN: usize = 16;
/// Buckets in one assignment, which is one entry of the log: a few entries for all of them, and none that holds up others.
pub const ASSIGN_MAX: usize = 2048;
/// So long a new leader waits for nodes that have not come yet, before it spreads what nobody has owned.
pub const SETTLE: Duration = Duration::from_secs(10);
/// A hand-over that takes longer makes its pair no faster.
const SLOW: Duration = Duration::from_millis(300);
const SECOND: Duration = Duration::from_secs(1);
/// Turns in a second, if there is something to do.
const TURNS: usize = 10;
const PAUSE_MIN: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// A node, as the balancer sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Member {
    pub node: NodeId,
    pub live: bool,
    /// It is being emptied.
    pub draining: bool,
}

/// What is to be done, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nobody holds these.
    Assign { buckets: Vec<Bucket>, to: NodeId },
    /// The owner is to hand it over.
    Move { bucket: Bucket, from: NodeId, to: NodeId },
    /// The owner is to keep it.
    TakeBack { bucket: Bucket },
}

/// A hand-over under way.
#[derive(Clone, Copy, Debug)]
struct Pending {
    from: NodeId,
    to: NodeId,
    since: Duration,
    /// After so long it is taken back.
    longest: Duration,
}

/// How hand-overs between two nodes go.
#[derive(Clone, Debug)]
struct Pair {
    /// A second.
    rate: usize,
    paused_until: Duration,
    pause: Duration,
    begun: VecDeque<Duration>,
}

impl Pair {
    fn new() -> Self {
        Self { rate: PAIR_MAX, paused_until: Duration::ZERO, pause: PAUSE_MIN, begun: VecDeque::new() }
    }

    fn done(&mut self, took: Duration) {
        self.pause = PAUSE_MIN;
        self.rate = if took > SLOW { (self.rate - 1).max(1) } else { (self.rate + 1).min(PAIR_MAX) };
    }

    /// Those that were under way together fail together, and count once.
    fn failed(&mut self, now: Duration) {
        if now >= self.paused_until {
            self.rate = (self.rate / 2).max(1);
            self.paused_until = now + self.pause;
            self.pause = (self.pause * 2).min(PAUSE_MAX);
        }
    }
}

/// A bucket whose owner did not hand it over rests.
#[derive(Clone, Copy, Debug)]
struct Resting {
    until: Duration,
    rest: Duration,
}

/// Remembers what it saw and asked for. One for each time that a node leads.
pub struct Balancer {
    began: Option<Duration>,
    /// Last owner of each bucket.
    owners: Vec<Option<NodeId>>,
    pending: BTreeMap<Bucket, Pending>,
    pairs: BTreeMap<(NodeId, NodeId), Pair>,
    begun: VecDeque<Duration>,
    resting: BTreeMap<Bucket, Resting>,
    /// Nodes that had too much, and still have more than their share.
    giving: BTreeSet<NodeId>,
}

/// What each node that may own has, or will have when all is done that is under way.
struct Loads<'a> {
    eligible: Vec<&'a Member>,
    loads: BTreeMap<NodeId, usize>,
}

impl Loads<'_> {
    fn of(&self, node: NodeId) -> usize {
        self.loads.get(&node).copied().unwrap_or(0)
    }

    fn add(&mut self, node: NodeId, count: usize) {
        *self.loads.entry(node).or_default() += count;
    }

    fn remove(&mut self, node: NodeId) {
        if let Some(load) = self.loads.get_mut(&node) {
            *load = load.saturating_sub(1);
        }
    }

    /// What each is to have of so many, rounded up.
    fn share(&self, total: usize) -> usize {
        total.div_ceil(self.eligible.len().max(1))
    }

    fn total(&self) -> usize {
        self.eligible.iter().map(|member| self.of(member.node)).sum()
    }

    /// The node that has least.
    fn poorest(&self, may: impl Fn(&Member) -> bool) -> Option<&Member> {
        let load = |member: &&Member| (self.of(member.node), member.node);
        self.eligible.iter().copied().filter(|member| may(member)).min_by_key(load)
    }
}

/// Shares buckets out over nodes that own so many, so that these own as many each in the end. Neighbours go together, at
/// most [`ASSIGN_MAX`] at a time.
pub fn share_out(buckets: &[Bucket], loads: &BTreeMap<NodeId, usize>) -> Vec<(NodeId, Vec<Bucket>)> {
    let total = loads.values().sum::<usize>() + buckets.len();
    let share = total.div_ceil(loads.len().max(1));
    let (mut left, mut given) = (buckets, Vec::new());
    for (node, load) in loads {
        let (next, rest) = left.split_at(share.saturating_sub(*load).min(left.len()));
        given.extend(next.chunks(ASSIGN_MAX).map(|buckets| (*node, buckets.to_vec())));
        left = rest;
    }
    given
}

impl Balancer {
    pub fn new(buckets: usize) -> Self {
        Self {
            began: None,
            owners: vec![None; buckets],
            pending: BTreeMap::new(),
            pairs: BTreeMap::new(),
            begun: VecDeque::new(),
            resting: BTreeMap::new(),
            giving: BTreeSet::new(),
        }
    }

    /// Hand-overs under way.
    pub fn pending(&self) -> usize {
        self.pending.len()
    }

    /// Looks at where all buckets are.
    pub fn plan(&mut self, now: Duration, map: &[Placed], members: &[Member]) -> Vec<Act> {
        let began = *self.began.get_or_insert(now);
        let may_own = |member: &Member| member.live && !member.draining;
        let mut eligible: Vec<&Member> = members.iter().filter(|member| may_own(member)).collect();
        if eligible.is_empty() {
            eligible = members.iter().filter(|member| member.live).collect();
        }
        let mut acts = Vec::new();
        let mut loads = Loads { eligible, loads: BTreeMap::new() };
        self.look(now, map, &mut loads, &mut acts);
        if loads.eligible.is_empty() {
            return acts;
        }
        let settled = members.iter().all(|member| member.live) || now.saturating_sub(began) >= SETTLE;
        self.spread(map, settled, &mut loads, &mut acts);
        self.rebalance(now, map, members, &mut loads, &mut acts);
        acts
    }

    /// Learns what became of what was asked for, and counts.
    fn look(&mut self, now: Duration, map: &[Placed], loads: &mut Loads<'_>, acts: &mut Vec<Act>) {
        for (bucket, placed) in (0..=Bucket::MAX).zip(map) {
            let pending = self.pending.get(&bucket).copied();
            match *placed {
                Placed::Free => drop(self.pending.remove(&bucket)),
                Placed::Owned(node) => {
                    self.remember(bucket, node);
                    loads.add(node, 1);
                    if let Some(pending) = pending {
                        self.pending.remove(&bucket);
                        self.ended(now, bucket, pending, node);
                    }
                }
                Placed::Draining { from, to } => {
                    self.remember(bucket, from);
                    let receives = loads.eligible.iter().any(|member| member.node == to);
                    let known = pending.filter(|pending| pending.to == to);
                    let others = Pending { from, to, since: now, longest: OTHERS_MAX };
                    let mut pending = known.unwrap_or(others);
                    loads.add(if receives { to } else { from }, 1);
                    if !receives || now.saturating_sub(pending.since) >= pending.longest {
                        acts.push(Act::TakeBack { bucket });
                        // Said again, if it does not come to pass.
                        pending.since = now;
                    }
                    self.pending.insert(bucket, pending);
                }
            }
        }
    }

    fn remember(&mut self, bucket: Bucket, node: NodeId) {
        if let Some(owner) = self.owners.get_mut(usize::from(bucket)) {
            *owner = Some(node);
        }
    }

    fn ended(&mut self, now: Duration, bucket: Bucket, pending: Pending, owner: NodeId) {
        let pair = self.pairs.entry((pending.from, pending.to)).or_insert_with(Pair::new);
        if owner == pending.to {
            pair.done(now.saturating_sub(pending.since));
            self.resting.remove(&bucket);
        } else if owner == pending.from {
            pair.failed(now);
            let rest = self.resting.get(&bucket).map_or(PAUSE_MIN, |resting| resting.rest * 2).min(PAUSE_MAX);
            self.resting.insert(bucket, Resting { until: now + rest, rest });
        }
    }

    /// A hand-over was refused before it began.
    pub fn refused(&mut self, now: Duration, bucket: Bucket, from: NodeId, to: NodeId) {
        self.pending.remove(&bucket);
        self.ended(now, bucket, Pending { from, to, since: now, longest: MOVE_MAX }, from);
    }

    /// Gives what nobody holds to whom it belongs.
    fn spread(&mut self, map: &[Placed], settled: bool, loads: &mut Loads<'_>, acts: &mut Vec<Act>) {
        let mut given: BTreeMap<NodeId, Vec<Bucket>> = BTreeMap::new();
        let mut homeless = Vec::new();
        for (bucket, _) in (0..=Bucket::MAX).zip(map).filter(|(_, placed)| **placed == Placed::Free) {
            let last = self.owners.get(usize::from(bucket)).copied().flatten();
            match last {
                // Its process was started anew, and its accounts are nowhere warmer.
                Some(node) if loads.eligible.iter().any(|member| member.node == node) => {
                    given.entry(node).or_default().push(bucket);
                }
                Some(_) => homeless.push(bucket),
                None if settled => homeless.push(bucket),
                None => {}
            }
        }
        for (node, buckets) in &given {
            loads.add(*node, buckets.len());
        }
        // Neighbours together: each node that lacks something gets the next so many.
        let total = loads.total() + homeless.len();
        let mut left = homeless.into_iter();
        for member in loads.eligible.clone() {
            let lacks = loads.share(total).saturating_sub(loads.of(member.node));
            let next: Vec<Bucket> = left.by_ref().take(lacks).collect();
            loads.add(member.node, next.len());
            given.entry(member.node).or_default().extend(next);
        }
        for (to, buckets) in given {
            buckets.iter().for_each(|bucket| self.remember(*bucket, to));
            acts.extend(
                buckets.chunks(ASSIGN_MAX).map(|buckets| Act::Assign { buckets: buckets.to_vec(), to }),
            );
        }
    }

    /// Moves from those that are being emptied, and from those that have too much.
    fn rebalance(
        &mut self,
        now: Duration,
        map: &[Placed],
        members: &[Member],
        loads: &mut Loads<'_>,
        acts: &mut Vec<Act>,
    ) {
        let givers = self.givers(members, loads);
        if givers.is_empty() {
            return;
        }
        self.resting.retain(|_, resting| resting.until + PAUSE_MAX > now);
        for (bucket, placed) in (0..=Bucket::MAX).zip(map) {
            let Placed::Owned(from) = *placed else { continue };
            let Some(keeps) = givers.get(&from) else { continue };
            let rests = self.resting.get(&bucket).is_some_and(|resting| resting.until > now);
            if loads.of(from) <= *keeps || rests {
                continue;
            }
            if !self.may_begin(now, None) {
                return;
            }
            let share = loads.share(loads.total());
            let lacks = |member: &Member| *keeps == 0 || loads.of(member.node) < share;
            let receives = |member: &Member| {
                member.node != from && lacks(member) && self.may_begin(now, Some((from, member.node)))
            };
            let Some(to) = loads.poorest(receives).map(|member| member.node) else { continue };
            self.begin(now, bucket, from, to);
            loads.remove(from);
            loads.add(to, 1);
            acts.push(Act::Move { bucket, from, to });
        }
    }

    /// Who is to give, and how much each keeps.
    fn givers(&mut self, members: &[Member], loads: &Loads<'_>) -> BTreeMap<NodeId, usize> {
        let mut givers = BTreeMap::new();
        let owns_nothing = |member: &Member| !loads.eligible.iter().any(|other| other.node == member.node);
        for member in members.iter().filter(|member| owns_nothing(member)) {
            if member.live && loads.of(member.node) > 0 {
                givers.insert(member.node, 0);
            }
        }
        let total = loads.total();
        for member in &loads.eligible {
            let (load, share) = (loads.of(member.node), loads.share(total));
            if load <= share {
                self.giving.remove(&member.node);
            } else if load > share + EXCESS_MIN.max(share / 20) {
                self.giving.insert(member.node);
            }
            if self.giving.contains(&member.node) {
                givers.insert(member.node, share);
            }
        }
        givers
    }

    /// Whether one more hand-over may begin now: of this pair, or of any.
    fn may_begin(&self, now: Duration, pair: Option<(NodeId, NodeId)>) -> bool {
        let recent =
            |begun: &VecDeque<Duration>| begun.iter().filter(|at| now.saturating_sub(**at) < SECOND).count();
        let at_once = |begun: &VecDeque<Duration>| begun.iter().filter(|at| **at == now).count();
        let Some(pair) = pair else {
            return recent(&self.begun) < SITE_MAX && at_once(&self.begun) < SITE_MAX / TURNS;
        };
        self.pairs.get(&pair).is_none_or(|of| {
            let at_once_max = of.rate.div_ceil(TURNS);
            now >= of.paused_until && recent(&of.begun) < of.rate && at_once(&of.begun) < at_once_max
        })
    }

    fn begin(&mut self, now: Duration, bucket: Bucket, from: NodeId, to: NodeId) {
        let pair = self.pairs.entry((from, to)).or_insert_with(Pair::new);
        for begun in [&mut pair.begun, &mut self.begun] {
            while begun.front().is_some_and(|at| now.saturating_sub(*at) >= SECOND) {
                begun.pop_front();
            }
            begun.push_back(now);
        }
        self.pending.insert(bucket, Pending { from, to, since: now, longest: MOVE_MAX });
    }
}
