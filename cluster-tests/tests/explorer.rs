//! Every history of two nodes, three epochs and three records over the real state machine of `locking` (J1 to J4).
//!
//! A node is a small owner: it takes the account over by the witness (`locking.md` §6.1), and brings a record through
//! t0 to t4 (§5). It can stand still before each of these steps while anything else happens; it can be killed; its
//! session can expire behind its back; proposals and answers can be lost, repeated, and come after others were let in.
//! A record's UID is its place in the account.
//!
//! A state is remembered as a hash of 128 bits of what decides what can happen next. The two nodes are alike, so that a
//! state and the one with their parts exchanged are one.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

use locking::command::{
    Answer, Bucket, Command, NodeId, Record, Request, RequestId, SessionId, Subkey, Value, Wanted,
};
use locking::state::{Holder, State, Touched};
use model::Epoch;

const BUCKET: Bucket = 300;
const SUBKEY: Subkey = [1; 16];
const EPOCHS: usize = 3;
const RECORDS: u8 = 3;
/// Owners of one epoch: one that gave up and began again has another segment.
const SEGMENTS: u8 = 2;

/// A segment's name: epoch and number in it.
type Segment = (u64, u8);

/// Where the journal ends for whoever reads it: this segment, so many records of it.
type Mark = Option<(Segment, u8)>;

/// What lies on disk of a segment: what it goes on from, and its records.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Written {
    after: Mark,
    records: Vec<u8>,
}

/// Where a record stands on its way (t0 to t4).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Stage {
    Idle,
    Arrived(u8),
    Synced(u8),
    /// Proposed, without an answer. How often.
    Asked(u8, u8),
    /// The answer came, and nothing was done with it yet.
    Answered(u8, bool),
}

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Owner {
    segment: Segment,
    /// What it shows.
    records: Vec<u8>,
    mark: Mark,
    stage: Stage,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct Node {
    session: Option<SessionId>,
    epoch: Option<u64>,
    owner: Option<Owner>,
}

/// A proposal on its way. One session's arrive in the order in which they were sent, if they arrive.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Proposal {
    node: usize,
    session: SessionId,
    segment: Segment,
    length: u8,
    counter: u8,
    seq: u64,
    /// What it was answered when it was first applied, and is again.
    accepted: Option<bool>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Start(usize),
    Kill(usize),
    /// The leader expires the node's session; the node does not hear of it.
    Expire(usize),
    Grant(usize),
    /// Somebody gives it the account. It hears of that when it asks itself.
    Assign(usize),
    /// It has finished what it had begun, and gives the account to the other node (§7.1).
    HandOver(usize),
    /// The account is not open there, and is given to the other node with many others.
    GiveAway(usize),
    /// Reads the witness, and the journal up to it.
    TakeOver(usize),
    /// The owner is dropped, and the session stays.
    GiveUp(usize),
    Arrive(usize),
    Sync(usize),
    Ask(usize),
    Deliver {
        place: usize,
        answered: bool,
    },
    Lose(usize),
    Show(usize),
}

/// Bugs that are put in on purpose, to see that they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bug {
    /// Take-over reads a segment to its end, and not to the witness.
    ReadsOn,
    /// The service takes a witness under whatever epoch is current.
    EpochUnchecked,
    /// A record is shown and acknowledged as soon as it is synced.
    AcknowledgesEarly,
}

/// What the service and the disk know, and what was ever seen.
#[derive(Clone)]
struct World {
    bug: Option<Bug>,
    state: State,
    index: u64,
    nodes: [Node; 2],
    disk: BTreeMap<Segment, Written>,
    net: Vec<Proposal>,
    issued: u8,
    /// Epochs granted, in order.
    grants: Vec<u64>,
    accepted: u64,
    acknowledged: BTreeSet<u8>,
    /// Which record a UID was shown for.
    shown: BTreeMap<usize, u8>,
}

/// The service forgets at once what it answered to whoever asks only once.
const ASKS_ONCE: u64 = 2;

impl World {
    fn new(bug: Option<Bug>) -> Self {
        let mut world = Self {
            bug,
            state: State::default(),
            index: 0,
            nodes: Default::default(),
            disk: BTreeMap::new(),
            net: Vec::new(),
            issued: 0,
            grants: Vec::new(),
            accepted: 0,
            acknowledged: BTreeSet::new(),
            shown: BTreeMap::new(),
        };
        world.ask(Command::Found { site: 1, incarnation: 1 });
        world
    }

    fn ask(&mut self, command: Command) -> Answer {
        let id = RequestId { client: ASKS_ONCE, seq: self.index + 1 };
        let answer = self.apply(Request { id, command });
        self.state.clients.remove(&ASKS_ONCE);
        answer
    }

    fn apply(&mut self, request: Request) -> Answer {
        self.index += 1;
        self.state.apply(self.index, &request, &mut Touched::default())
    }

    fn is_live(&self, node: usize) -> bool {
        self.nodes[node].session.is_some_and(|session| self.state.is_live(session))
    }

    /// Names the state, whichever of the two nodes is the first.
    fn key(&self) -> u128 {
        self.key_of([0, 1]).min(self.key_of([1, 0]))
    }

    /// Names the parts that decide what can happen next, with the nodes in this order. Sessions are told apart by whose
    /// they are.
    fn key_of(&self, order: [usize; 2]) -> u128 {
        let nodes = order.map(|number| {
            let Node { session, epoch, owner } = &self.nodes[number];
            (session.is_some(), self.is_live(number), epoch, owner)
        });
        let holder = match self.state.bucket(BUCKET).holder {
            Holder::Free => 0,
            Holder::Owned(session) | Holder::Draining(session, _) => {
                1 + order.iter().position(|number| self.nodes[*number].session == Some(session)).unwrap_or(2)
            }
        };
        // Which of two comes first matters only within a session.
        let mut net = Vec::new();
        for (place, number) in order.into_iter().enumerate() {
            let theirs = self.net.iter().filter(|proposal| proposal.node == number);
            let mut sessions: Vec<SessionId> = theirs.clone().map(|proposal| proposal.session).collect();
            sessions.dedup();
            for proposal in theirs {
                let Proposal { node, session, segment, length, counter, seq: _, accepted } = proposal;
                let is_current = self.nodes[*node].session == Some(*session);
                let which = sessions.iter().position(|known| known == session);
                net.push((place, is_current, which, segment, length, counter, accepted));
            }
        }
        let witness = self.state.witness(BUCKET, &SUBKEY);
        let witness = witness.as_ref().map(|witness| (witness.value.as_bytes(), witness.counter));
        let seen = (self.issued, &self.acknowledged, &self.shown, self.accepted, self.grants.len());
        let key = (nodes, self.state.bucket(BUCKET).epoch.get(), holder, witness, &self.disk, net, seen);
        let hash =
            |half: u8| u128::from(BuildHasherDefault::<DefaultHasher>::default().hash_one((half, &key)));
        hash(0) << 64 | hash(1)
    }

    /// Everything that can happen now.
    fn steps(&self) -> Vec<Step> {
        let mut steps = Vec::new();
        for (number, node) in self.nodes.iter().enumerate() {
            match node.session {
                None => steps.push(Step::Start(number)),
                Some(_) if self.is_live(number) => steps.extend([Step::Kill(number), Step::Expire(number)]),
                Some(_) => steps.push(Step::Kill(number)),
            }
            match (&node.owner, node.epoch) {
                (None, None) if node.session.is_some() => {
                    steps.extend([Step::Grant(number), Step::Assign(number)]);
                }
                (None, Some(_)) => steps.extend([Step::TakeOver(number), Step::GiveAway(number)]),
                (None, None) => {}
                (Some(owner), _) => steps.extend(self.steps_of(number, owner)),
            }
        }
        for place in 0..self.net.len() {
            steps.push(Step::Lose(place));
            steps.extend([true, false].map(|answered| Step::Deliver { place, answered }));
        }
        steps
    }

    fn steps_of(&self, number: usize, owner: &Owner) -> Vec<Step> {
        let mut steps = Vec::new();
        match owner.stage {
            Stage::Idle => {
                steps.extend((self.issued < RECORDS).then_some(Step::Arrive(number)));
                steps.push(Step::HandOver(number));
            }
            Stage::Arrived(_) => steps.push(Step::Sync(number)),
            Stage::Synced(_) => steps.push(Step::Ask(number)),
            Stage::Asked(_, times) => {
                // Without an answer it asks again, or gives up (L-CM3).
                if times < 2 {
                    steps.push(Step::Ask(number));
                }
                steps.extend((owner.segment.1 + 1 < SEGMENTS).then_some(Step::GiveUp(number)));
            }
            Stage::Answered(..) => steps.push(Step::Show(number)),
        }
        steps
    }

    /// Takes a step. False if it comes to nothing.
    fn step(&mut self, step: Step) -> Result<bool, String> {
        match step {
            Step::Start(node) => {
                // Its earlier process is dead (L-LE4).
                let open = Command::SessionOpen { node: NodeId(node as u8), replaces_older: true };
                let Answer::Opened(session) = self.ask(open) else { return Ok(false) };
                self.nodes[node] = Node { session: Some(session), ..Node::default() };
            }
            Step::Kill(node) => self.nodes[node] = Node::default(),
            Step::Expire(node) => {
                let Some(session) = self.nodes[node].session else { return Ok(false) };
                self.ask(Command::SessionExpire { session });
            }
            Step::Grant(node) => return self.grant(node),
            Step::Assign(node) => return self.assign(node),
            Step::HandOver(node) => return self.hand_over(node),
            Step::GiveAway(node) => return self.give_away(node),
            Step::TakeOver(node) => return self.take_over(node),
            Step::GiveUp(node) => self.nodes[node].owner = None,
            Step::Arrive(node) => {
                self.issued += 1;
                let record = self.issued;
                return Ok(self.advance(node, Stage::Arrived(record)));
            }
            Step::Sync(node) => return Ok(self.sync(node)),
            Step::Ask(node) => return Ok(self.propose(node)),
            Step::Deliver { place, answered } => return self.deliver(place, answered),
            Step::Lose(place) => drop(self.net.remove(place)),
            Step::Show(node) => return self.show(node),
        }
        Ok(true)
    }

    fn advance(&mut self, node: usize, stage: Stage) -> bool {
        let owner = self.nodes[node].owner.as_mut();
        owner.map(|owner| owner.stage = stage).is_some()
    }

    fn grant(&mut self, node: usize) -> Result<bool, String> {
        let Some(session) = self.nodes[node].session else { return Ok(false) };
        let held = self.state.bucket(BUCKET);
        let is_new = held.session() != Some(session);
        if is_new && self.grants.len() == EPOCHS {
            return Ok(false);
        }
        let answer = self.ask(Command::Grant { session, wanted: Wanted::These(vec![BUCKET]) });
        let Answer::Granted(runs) = answer else { return Ok(false) };
        let Some(epoch) = runs.first().map(|run| run.epoch.get()) else { return Ok(false) };
        if is_new {
            self.given(epoch)?;
        }
        self.nodes[node].epoch = Some(epoch);
        Ok(true)
    }

    fn given(&mut self, epoch: u64) -> Result<(), String> {
        if self.grants.last().is_some_and(|last| *last >= epoch) {
            return Err(format!("J1: epoch {epoch:x} is granted after {:x?}", self.grants));
        }
        self.grants.push(epoch);
        Ok(())
    }

    /// Gives the account to a node that does not know of it yet.
    fn assign(&mut self, node: usize) -> Result<bool, String> {
        let before = self.state.bucket(BUCKET).epoch;
        if self.grants.len() == EPOCHS {
            return Ok(false);
        }
        self.ask(Command::Assign { buckets: vec![BUCKET], to: NodeId(node as u8) });
        let after = self.state.bucket(BUCKET).epoch;
        if after != before {
            self.given(after.get())?;
        }
        Ok(after != before)
    }

    /// The owner has finished what it had begun, so everything that it was asked for is answered.
    fn hand_over(&mut self, node: usize) -> Result<bool, String> {
        let Some(epoch) = self.nodes[node].epoch.filter(|_| self.grants.len() < EPOCHS) else {
            return Ok(false);
        };
        let (epoch, to) = (Epoch::from_u64(epoch), NodeId(1 - node as u8));
        self.nodes[node].owner = None;
        self.nodes[node].epoch = None;
        let asked = self.ask(Command::Drain { bucket: BUCKET, epoch, to: Some(to) });
        let given = self.ask(Command::HandOver { bucket: BUCKET, epoch });
        if given != Answer::Done {
            // Its session is over; it learns of that with its next witness, or here.
            self.nodes[node] = Node::default();
            return Ok(asked != Answer::Done);
        }
        let after = self.state.bucket(BUCKET);
        if after.holder != Holder::Free {
            self.given(after.epoch.get())?;
        }
        Ok(true)
    }

    /// What has gone, and what was not its own any more, is forgotten here.
    fn give_away(&mut self, node: usize) -> Result<bool, String> {
        let Some(epoch) = self.nodes[node].epoch.filter(|_| self.grants.len() < EPOCHS) else {
            return Ok(false);
        };
        let (before, to) = (self.state.bucket(BUCKET).epoch, NodeId(1 - node as u8));
        let given = self.ask(Command::GiveAway { buckets: vec![(BUCKET, Epoch::from_u64(epoch))], to });
        let Answer::Granted(runs) = given else { return Ok(false) };
        let after = self.state.bucket(BUCKET).epoch;
        if after != before {
            self.given(after.get())?;
            if before.get() != epoch {
                return Err(format!("J1: epoch {before} is given away by the owner of {epoch:x}"));
            }
        }
        self.nodes[node].epoch = None;
        Ok(!runs.is_empty() || before.get() != epoch)
    }

    /// §6.1: exactly what the witness names.
    fn take_over(&mut self, node: usize) -> Result<bool, String> {
        let Some(epoch) = self.nodes[node].epoch else { return Ok(false) };
        let witness = self.state.witness(BUCKET, &SUBKEY).map(|witness| witness.value.as_bytes().to_vec());
        let mark = witness.map(|value| decode(&value));
        let records = self.read(mark)?;
        let number = (0..SEGMENTS).find(|number| !self.disk.contains_key(&(epoch, *number)));
        let Some(number) = number else { return Ok(false) };
        // Whoever was deposed meanwhile may read anything; nobody is shown it, for its lease is over.
        if self.state.bucket(BUCKET).epoch.get() == epoch && self.is_live(node) {
            self.see(&records)?;
            if let Some(lost) = self.acknowledged.iter().find(|record| !records.contains(record)) {
                return Err(format!("J2: record {lost} was acknowledged, and {records:?} is what is there"));
            }
        }
        let owner = Owner { segment: (epoch, number), records, mark, stage: Stage::Idle };
        self.nodes[node].owner = Some(owner);
        Ok(true)
    }

    fn read(&self, mark: Mark) -> Result<Vec<u8>, String> {
        let Some((segment, length)) = mark else { return Ok(Vec::new()) };
        let written = self.disk.get(&segment).ok_or("J2: a witnessed segment is missing")?;
        let mut records = self.read(written.after)?;
        let length = if self.bug == Some(Bug::ReadsOn) { written.records.len() } else { length.into() };
        let own = written.records.get(..length).ok_or("J2: a witnessed record is missing")?;
        records.extend(own);
        Ok(records)
    }

    /// J3: what is shown under a UID is the same for ever.
    fn see(&mut self, records: &[u8]) -> Result<(), String> {
        for (uid, record) in records.iter().enumerate() {
            let before = *self.shown.entry(uid).or_insert(*record);
            if before != *record {
                return Err(format!("J3: UID {uid} was record {before}, and is {record}"));
            }
        }
        Ok(())
    }

    fn sync(&mut self, node: usize) -> bool {
        let Some(owner) = &self.nodes[node].owner else { return false };
        let Stage::Arrived(record) = owner.stage else { return false };
        let after = owner.mark;
        let written = self.disk.entry(owner.segment).or_insert(Written { after, records: Vec::new() });
        written.records.push(record);
        let is_early = self.bug == Some(Bug::AcknowledgesEarly);
        self.advance(node, if is_early { Stage::Answered(record, true) } else { Stage::Synced(record) })
    }

    fn propose(&mut self, node: usize) -> bool {
        let Node { session: Some(session), owner: Some(owner), .. } = &self.nodes[node] else { return false };
        let (record, times) = match owner.stage {
            Stage::Synced(record) => (record, 0),
            Stage::Asked(record, times) => (record, times),
            Stage::Idle | Stage::Arrived(_) | Stage::Answered(..) => return false,
        };
        let (segment, counter) = (owner.segment, owner.records.len() as u8 + 1);
        let length = self.disk.get(&segment).map_or(0, |written| written.records.len() as u8);
        self.index += 1;
        let (session, seq) = (*session, self.index);
        self.net.push(Proposal { node, session, segment, length, counter, seq, accepted: None });
        self.advance(node, Stage::Asked(record, times + 1))
    }

    /// t3. What was sent before by the same session and did not arrive never will.
    fn deliver(&mut self, place: usize, answered: bool) -> Result<bool, String> {
        let proposal = self.net[place].clone();
        let written_under = Epoch::from_u64(proposal.segment.0);
        let held = self.state.bucket(BUCKET).epoch;
        let epoch = if self.bug == Some(Bug::EpochUnchecked) { held } else { written_under };
        let value = encode(proposal.segment, proposal.length);
        let value = Value::new(&value).ok_or("a value is short")?;
        let record =
            Record { bucket: BUCKET, epoch, subkey: SUBKEY, value, counter: proposal.counter.into() };
        let id = RequestId { client: 10 + proposal.session.0, seq: proposal.seq };
        let answer = self.apply(Request { id, command: Command::Witness { records: vec![record] } });
        let accepted = matches!(&answer, Answer::Witnessed { refused } if refused.is_empty());
        self.net[place].accepted = Some(accepted);
        if accepted && proposal.accepted.is_none() {
            if written_under != held || written_under.get() < self.accepted {
                return Err(format!("J1: a witness of epoch {written_under} is accepted, and {held} holds"));
            }
            self.accepted = written_under.get();
        }
        let mut earlier = place;
        self.net.retain(|other| {
            let is_earlier = earlier > 0;
            earlier = earlier.saturating_sub(1);
            !(is_earlier && other.session == proposal.session && other.accepted.is_none())
        });
        if answered {
            self.answer(&proposal, accepted);
        }
        Ok(true)
    }

    fn answer(&mut self, proposal: &Proposal, accepted: bool) {
        let node = &mut self.nodes[proposal.node];
        let is_waiting = node.session == Some(proposal.session);
        let owner = node.owner.as_mut().filter(|owner| is_waiting && owner.segment == proposal.segment);
        if let Some(owner) = owner
            && let Stage::Asked(record, _) = owner.stage
            && usize::from(proposal.counter) == owner.records.len() + 1
        {
            owner.stage = Stage::Answered(record, accepted);
        }
    }

    /// t4: visible, and acknowledged.
    fn show(&mut self, node: usize) -> Result<bool, String> {
        let Some(owner) = self.nodes[node].owner.as_mut() else { return Ok(false) };
        let Stage::Answered(record, accepted) = owner.stage else { return Ok(false) };
        if !accepted {
            // Its session is over (L-CM2, L-LE2).
            self.nodes[node] = Node::default();
            return Ok(true);
        }
        owner.records.push(record);
        let length = self.disk.get(&owner.segment).map_or(0, |written| written.records.len() as u8);
        owner.mark = Some((owner.segment, length));
        owner.stage = Stage::Idle;
        let records = owner.records.clone();
        self.acknowledged.insert(record);
        self.see(&records)?;
        Ok(true)
    }
}

fn encode(segment: Segment, length: u8) -> Vec<u8> {
    let mut bytes = segment.0.to_be_bytes().to_vec();
    bytes.extend([segment.1, length]);
    bytes
}

fn decode(bytes: &[u8]) -> (Segment, u8) {
    let mut epoch = [0; 8];
    epoch.copy_from_slice(&bytes[..8]);
    ((u64::from_be_bytes(epoch), bytes[8]), bytes[9])
}

/// Visits every state; what is wrong comes with the steps that lead there.
fn explore(bug: Option<Bug>, most_in_flight: usize) -> Result<usize, String> {
    let first = World::new(bug);
    let mut seen: HashSet<u128> = HashSet::from([first.key()]);
    // Each step with the one before it.
    let mut came: Vec<(usize, Step)> = Vec::new();
    let mut todo = vec![(first, usize::MAX)];
    while let Some((world, from)) = todo.pop() {
        for step in world.steps() {
            let mut next = world.clone();
            let took = next.step(step).map_err(|wrong| told(&wrong, &came, from, step))?;
            if took && next.net.len() <= most_in_flight && seen.insert(next.key()) {
                came.push((from, step));
                todo.push((next, came.len() - 1));
            }
        }
    }
    Ok(seen.len())
}

/// What is wrong, and the steps that lead there.
fn told(wrong: &str, came: &[(usize, Step)], mut from: usize, last: Step) -> String {
    let mut steps = vec![last];
    while let Some((before, step)) = came.get(from) {
        steps.push(*step);
        from = *before;
    }
    steps.reverse();
    format!("{wrong}\nafter {steps:?}")
}

/// Proposals on their way at once if `ROOST_IN_FLIGHT` does not say otherwise: what every run of the tests can pay for,
/// about half a minute. At night there are two.
const IN_FLIGHT: usize = 1;

#[test]
fn no_history_of_two_nodes_three_epochs_and_three_records_breaks_j1_to_j4() {
    let asked = std::env::var("ROOST_IN_FLIGHT").ok().and_then(|count| count.parse().ok());
    let states = explore(None, asked.unwrap_or(IN_FLIGHT)).unwrap_or_else(|wrong| panic!("{wrong}"));
    println!("{states} states");
    assert!(states > 10_000, "only {states} states");
}

#[test]
fn a_take_over_that_reads_beyond_the_witness_is_found() {
    let wrong = explore(Some(Bug::ReadsOn), 1).unwrap_err();
    assert!(wrong.starts_with("J3") || wrong.starts_with("J2"), "{wrong}");
}

#[test]
fn a_service_that_does_not_check_the_epoch_is_found() {
    let wrong = explore(Some(Bug::EpochUnchecked), 1).unwrap_err();
    assert!(wrong.starts_with("J1"), "{wrong}");
}

#[test]
fn an_owner_that_acknowledges_before_the_witness_is_found() {
    let wrong = explore(Some(Bug::AcknowledgesEarly), 1).unwrap_err();
    assert!(wrong.starts_with("J2") || wrong.starts_with("J3"), "{wrong}");
}
