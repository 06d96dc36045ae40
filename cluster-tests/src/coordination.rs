//! The coordination service: the real state machine of `locking`, on a network that loses, delays and cuts.
//!
//! Invariants
//! - Time goes on here: whoever waits for an answer lets others' renewals, and what is under way, happen meanwhile.
//! - What was decided is durable: voters never lose it here.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use account::tenure::{Witness, WitnessError, Witnessed};
use locking::command::{Answer, Command, NodeId, Refusal, Request, RequestId, Wanted};
use locking::state::{Holder, SessionState, State, Touched};
use locking::{Record, SessionId, Value};
use model::{AccountId, Epoch};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Mutant;
use crate::invariants::j1_one_session_an_epoch::Decision;
use crate::leases::{Activity, Leases};
use crate::network::{Message, Network, Proposal, Way};
use crate::process::Gate;

/// How long a process waits for an answer.
const PATIENCE_US: u64 = 1_500_000;
/// A time in which nothing else happens is passed in full at its two ends only.
const PASSED_IN_FULL_US: u64 = 20_000_000;

/// A founded service. Cloning it copies no bucket.
static FOUNDED: LazyLock<State> = LazyLock::new(|| {
    let mut state = State::default();
    let found = Command::Found { site: 1, incarnation: 1 };
    state.apply(1, &Request { id: RequestId { client: 1, seq: 1 }, command: found }, &mut Touched::default());
    state
});

pub struct Service {
    inner: Mutex<Inner>,
}

struct Inner {
    state: State,
    account: AccountId,
    index: u64,
    rng: StdRng,
    now_us: u64,
    network: Network,
    leases: Leases,
    decisions: Vec<Decision>,
    /// The last accepted witness, and the one before.
    lately: [Option<Witnessed>; 2],
    mutant: Option<Mutant>,
    /// What the service with a bug believes instead.
    believed: Option<Witnessed>,
}

/// What happens to a process, or to the service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    Stopped,
    Suspended,
    CutOff,
    /// What it sends is lost, and it hears.
    CutOut,
    /// What it sends arrives, and it hears nothing.
    CutBack,
    /// Messages of everybody are lost and late.
    BadNetwork,
    /// The leader is gone, and the next one is elected in a while.
    NoQuorum,
    /// Another leads at once.
    NewLeader,
}

impl Service {
    pub fn new(seed: u64, account: AccountId, mutant: Option<Mutant>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let leases = Leases::new(&mut rng);
        let inner = Inner {
            state: FOUNDED.clone(),
            account,
            index: 1,
            rng,
            now_us: 0,
            network: Network::default(),
            leases,
            decisions: Vec::new(),
            lately: [None; 2],
            mutant,
            believed: None,
        };
        Self { inner: Mutex::new(inner) }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn now_us(&self) -> u64 {
        self.inner().now_us
    }

    pub fn pass(&self, by_us: u64) {
        self.inner().pass_long(by_us);
    }

    /// Opens a session for a process of this node; earlier ones of the same node are dead.
    pub fn open_session(&self, process: u64, node: u8) -> Option<SessionId> {
        let mut inner = self.inner();
        let command = Command::SessionOpen { node: NodeId(node), replaces_older: true };
        match inner.call(process, |inner| inner.ask(command))? {
            Answer::Opened(session) => {
                let Inner { leases, rng, now_us, .. } = &mut *inner;
                leases.join(rng, process, session, *now_us);
                Some(session)
            }
            Answer::Done
            | Answer::Nothing
            | Answer::Granted(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_) => None,
        }
    }

    /// Nobody waits for this process any more.
    pub fn is_dead(&self, process: u64) {
        self.inner().leases.members.remove(&process);
    }

    /// Whether the session is live, as the service has it.
    pub fn is_live(&self, session: SessionId) -> bool {
        self.inner().state.is_live(session)
    }

    /// L-LE1: whether the process answers reads now; and whether its clock may have stood still since it last knew.
    pub fn answers_reads(&self, process: u64) -> (bool, bool) {
        let inner = self.inner();
        let ignores = inner.mutant == Some(Mutant::LeaseIgnored);
        let member = inner.leases.members.get(&process);
        member.map_or((false, false), |member| {
            (ignores || member.may_read(inner.now_us), member.was_suspended() && !ignores)
        })
    }

    /// Whether the process still believes in its session.
    pub fn believes(&self, process: u64) -> bool {
        let inner = self.inner();
        inner.leases.members.get(&process).is_some_and(|member| member.believes(inner.now_us))
    }

    /// The epoch under which the session owns the account, if nobody else does.
    pub fn grant(&self, process: u64, session: SessionId) -> Option<Epoch> {
        let mut inner = self.inner();
        let wanted = Wanted::These(vec![inner.account.bucket()]);
        match inner.call(process, |inner| inner.ask(Command::Grant { session, wanted }))? {
            Answer::Granted(runs) => runs.first().map(|run| run.epoch),
            Answer::Done
            | Answer::Nothing
            | Answer::Opened(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_) => None,
        }
    }

    pub fn begin(&self, process: u64, trouble: Trouble, for_us: u64) {
        self.inner().begin(process, trouble, for_us);
    }

    pub fn end(&self, process: u64) {
        self.inner().end(process);
    }

    pub fn lose(&self, of_a_hundred: u32, slow: u32) {
        let network = &mut self.inner().network;
        (network.lossy, network.slow) = (of_a_hundred, slow);
    }

    /// Everything works again.
    pub fn heal(&self) {
        let mut inner = self.inner();
        inner.network.heal();
        let processes: Vec<_> = inner.leases.members.keys().copied().collect();
        processes.into_iter().for_each(|process| inner.end(process));
        if inner.leases.is_away(inner.now_us) {
            let live = inner.live();
            let Inner { leases, rng, now_us, .. } = &mut *inner;
            leases.elect(rng, &live, *now_us, 0);
        }
    }

    pub fn decisions(&self) -> Vec<Decision> {
        self.inner().decisions.clone()
    }

    /// The last record that was accepted.
    pub fn witnessed(&self) -> u64 {
        self.inner().lately[0].map_or(0, |witnessed| witnessed.lsn)
    }
}

/// Hand-overs (`locking.md` §7.1).
impl Service {
    /// The session that has the account, and whether it is to hand it over.
    pub fn holder(&self) -> Option<(SessionId, bool)> {
        let inner = self.inner();
        match inner.state.bucket(inner.account.bucket()).holder {
            Holder::Free => None,
            Holder::Owned(session) => Some((session, false)),
            Holder::Draining(session, _) => Some((session, true)),
        }
    }

    /// The balancer, which works where the leader is, wants the account elsewhere, or no longer does. False if the
    /// epoch is over.
    pub fn drain(&self, epoch: Epoch, to: Option<u8>) -> bool {
        let mut inner = self.inner();
        let bucket = inner.account.bucket();
        inner.ask(Command::Drain { bucket, epoch, to: to.map(NodeId) }) == Answer::Done
    }

    /// The balancer takes its wish back.
    pub fn call_off(&self) {
        let mut inner = self.inner();
        let bucket = inner.account.bucket();
        let epoch = inner.state.bucket(bucket).epoch;
        inner.ask(Command::Drain { bucket, epoch, to: None });
    }

    /// The owner gives the account to whom it is being drained to. What becomes of it, the map says.
    pub fn hand_over(&self, process: u64, epoch: Epoch) {
        let mut inner = self.inner();
        if inner.rng.random_bool(0.2) {
            inner.send_late(process, Proposal::HandOver(epoch));
        } else {
            let _answer = inner.call(process, |inner| inner.propose(Proposal::HandOver(epoch)));
        }
    }
}

impl Inner {
    fn live(&self) -> Vec<SessionId> {
        let live = |(id, session): (&SessionId, &locking::state::Session)| {
            (session.state == SessionState::Live).then_some(*id)
        };
        self.state.sessions.iter().filter_map(live).collect()
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.index += 1;
        let id = RequestId { client: 2, seq: self.index };
        let bucket = self.account.bucket();
        let before = self.state.bucket(bucket).epoch;
        let answer = self.state.apply(self.index, &Request { id, command }, &mut Touched::default());
        let after = self.state.bucket(bucket);
        if let Some(session) = after.session().filter(|_| after.epoch != before) {
            self.decisions.push(Decision::Granted(after.epoch, session));
        }
        answer
    }

    fn propose(&mut self, proposal: Proposal) -> Result<(), Refusal> {
        let bucket = self.account.bucket();
        let (command, witness) = match proposal {
            Proposal::HandOver(epoch) => (Command::HandOver { bucket, epoch }, None),
            Proposal::Witness(record) => {
                let witness = Some((record.epoch, decode(record.value.as_bytes())));
                (Command::Witness { records: vec![record] }, witness)
            }
        };
        match self.ask(command) {
            Answer::Done => Ok(()),
            Answer::Witnessed { refused } => match (refused.first(), witness) {
                (Some((_, refusal)), _) => Err(*refusal),
                (None, Some((epoch, witnessed))) => {
                    self.decisions.push(Decision::Accepted(epoch));
                    if self.lately[0] != witnessed {
                        self.lately = [witnessed, self.lately[0]];
                    }
                    Ok(())
                }
                (None, None) => Ok(()),
            },
            Answer::Refused(refusal) => Err(refusal),
            Answer::Nothing | Answer::Opened(_) | Answer::Granted(_) => Err(Refusal::NotFounded),
        }
    }

    /// A question and its answer; `None` if one of them is lost or too late.
    fn call<T>(&mut self, process: u64, carry_out: impl FnOnce(&mut Self) -> T) -> Option<T> {
        let waited = |way: Option<u64>| way.filter(|us| *us <= PATIENCE_US);
        let Some(out_us) = waited(self.network.delay(&mut self.rng, process, Way::Out)) else {
            self.pass(PATIENCE_US);
            return None;
        };
        self.pass(out_us);
        if self.leases.is_away(self.now_us) {
            self.pass(PATIENCE_US);
            return None;
        }
        self.overtake(process);
        let answer = carry_out(self);
        let Some(back_us) = waited(self.network.delay(&mut self.rng, process, Way::Back)) else {
            self.pass(PATIENCE_US);
            return None;
        };
        self.pass(back_us);
        Some(answer)
    }

    fn overtake(&mut self, process: u64) {
        for proposal in self.network.overtaken(process) {
            if self.rng.random() {
                // Refused or not: nobody waits for it any more.
                let _proposed = self.propose(proposal);
            }
        }
    }

    /// Sent, and under way for longer than its sender waits.
    fn send_late(&mut self, process: u64, proposal: Proposal) {
        let at_us = self.now_us + self.rng.random_range(PATIENCE_US..20_000_000);
        self.network.send(at_us, Message::Proposal { process, proposal });
        self.pass(PATIENCE_US);
    }

    fn witness(&mut self, process: u64, epoch: Epoch, witnessed: Witnessed) -> Result<(), WitnessError> {
        let value = Value::new(&encode(&witnessed)).ok_or(WitnessError::Unknown)?;
        let subkey = *self.account.as_bytes();
        let record = Record { bucket: self.account.bucket(), epoch, subkey, value, counter: witnessed.lsn };
        if self.mutant == Some(Mutant::StaleEpochAccepted) {
            self.believed = Some(witnessed);
            self.decisions.push(Decision::Accepted(epoch));
            return Ok(());
        }
        let proposal = Proposal::Witness(record);
        if self.network.lossy > 0 && self.rng.random_bool(0.2) {
            self.send_late(process, proposal);
            return Err(WitnessError::Unknown);
        }
        let answer = self.call(process, |inner| inner.propose(proposal)).ok_or(WitnessError::Unknown)?;
        answer.map_err(|refusal| match refusal {
            Refusal::StaleEpoch | Refusal::NoSession | Refusal::NotFounded | Refusal::FoundedOtherwise => {
                WitnessError::StaleEpoch
            }
            Refusal::Backwards
            | Refusal::TooMany
            | Refusal::TooOld
            | Refusal::NotDraining
            | Refusal::NodeDraining
            | Refusal::OtherGroup
            | Refusal::OtherLife => WitnessError::Unknown,
        })
    }

    fn read(&mut self, process: u64) -> Result<Option<Witnessed>, WitnessError> {
        self.call(process, |inner| inner.kept()).ok_or(WitnessError::Unknown)?
    }

    fn kept(&self) -> Result<Option<Witnessed>, WitnessError> {
        if self.believed.is_some() {
            return Ok(self.believed);
        }
        if self.mutant == Some(Mutant::OldWitnessRead) && self.lately[1].is_some() {
            return Ok(self.lately[1]);
        }
        let witness = self.state.witness(self.account.bucket(), self.account.as_bytes());
        let Some(witness) = witness else { return Ok(None) };
        decode(witness.value.as_bytes()).map(Some).ok_or(WitnessError::Unknown)
    }
}

/// Time.
impl Inner {
    fn pass(&mut self, by_us: u64) {
        let end_us = self.now_us.saturating_add(by_us);
        loop {
            let message_us = self.network.next_at().unwrap_or(u64::MAX);
            let due_us = message_us.min(self.leases.next_at(self.now_us));
            if due_us > end_us {
                break;
            }
            self.now_us = self.now_us.max(due_us);
            self.happen();
        }
        self.now_us = end_us;
    }

    /// Hours, too.
    fn pass_long(&mut self, by_us: u64) {
        let Some(skipped_us) = by_us.checked_sub(2 * PASSED_IN_FULL_US) else { return self.pass(by_us) };
        self.pass(PASSED_IN_FULL_US);
        let from_us = self.now_us;
        self.now_us += skipped_us;
        self.leases.skip(|session| self.state.is_live(session), from_us, self.now_us);
        self.pass(PASSED_IN_FULL_US);
    }

    /// Everything whose time has come.
    fn happen(&mut self) {
        while let Some(message) = self.network.arrived(self.now_us) {
            self.arrive(message);
        }
        let now_us = self.now_us;
        let renewals: Vec<_> = self
            .leases
            .members
            .iter_mut()
            .filter_map(|(process, member)| Some((*process, member.renew(now_us)?)))
            .collect();
        for (process, sent) in renewals {
            if let Some(delay_us) = self.network.delay(&mut self.rng, process, Way::Out) {
                self.network.send(now_us + delay_us, Message::Renew { process, sent });
            }
        }
        let sessions = &self.state.sessions;
        let live = || {
            let live = sessions.iter().filter(|(_, session)| session.state == SessionState::Live);
            live.map(|(id, _)| *id).collect()
        };
        for session in self.leases.overdue(live, now_us) {
            self.ask(Command::SessionExpire { session });
        }
    }

    fn arrive(&mut self, message: Message) {
        let now_us = self.now_us;
        match message {
            Message::Renew { process, sent } => {
                let Some(member) = self.leases.members.get(&process) else { return };
                let session = member.session;
                if self.leases.is_away(now_us) {
                    return;
                }
                let is_live = self.state.is_live(session);
                if is_live {
                    self.leases.received(session, now_us);
                }
                if let Some(delay_us) = self.network.delay(&mut self.rng, process, Way::Back) {
                    self.network.send(now_us + delay_us, Message::Renewed { process, sent, is_live });
                }
            }
            Message::Renewed { process, .. } => {
                if let Some(member) = self.leases.members.get_mut(&process) {
                    member.hear(message, now_us);
                }
            }
            Message::Proposal { proposal, .. } => {
                if !self.leases.is_away(now_us) {
                    // Refused or not: nobody waits for it any more.
                    let _proposed = self.propose(proposal);
                }
            }
        }
    }

    fn begin(&mut self, process: u64, trouble: Trouble, for_us: u64) {
        let now_us = self.now_us;
        match trouble {
            Trouble::Stopped | Trouble::Suspended => {
                let to = if trouble == Trouble::Stopped { Activity::Stopped } else { Activity::Suspended };
                if let Some(member) = self.leases.members.get_mut(&process) {
                    member.pause(to, now_us);
                }
            }
            Trouble::CutOff => {
                self.network.cut(process, Way::Out);
                self.network.cut(process, Way::Back);
            }
            Trouble::CutOut => self.network.cut(process, Way::Out),
            Trouble::CutBack => self.network.cut(process, Way::Back),
            Trouble::BadNetwork => {
                self.network.lossy = self.rng.random_range(10..90);
                self.network.slow = self.rng.random_range(0..60);
            }
            Trouble::NoQuorum | Trouble::NewLeader => {
                let live = self.live();
                let away_us = if trouble == Trouble::NoQuorum { for_us } else { 0 };
                self.leases.elect(&mut self.rng, &live, now_us, away_us);
            }
        }
    }

    /// What had begun for this process is over, and the network is well.
    fn end(&mut self, process: u64) {
        self.network.mend(process);
        (self.network.lossy, self.network.slow) = (0, 0);
        let now_us = self.now_us;
        if let Some(member) = self.leases.members.get_mut(&process) {
            member.go_on(now_us);
        }
    }
}

/// The service as one process reaches it.
pub struct Line {
    pub service: Arc<Service>,
    pub gate: Arc<Gate>,
    pub process: u64,
}

impl Witness for Line {
    fn read(&self, _: AccountId) -> Result<Option<Witnessed>, WitnessError> {
        if !self.gate.pass() {
            return Err(WitnessError::Unknown);
        }
        self.service.inner().read(self.process)
    }

    fn accept(&self, _: AccountId, tenure: Epoch, witnessed: Witnessed) -> Result<(), WitnessError> {
        // The process can stop before it asks, and before it hears the answer.
        if !self.gate.pass() {
            return Err(WitnessError::Unknown);
        }
        let answer = self.service.inner().witness(self.process, tenure, witnessed);
        let mutant = self.service.inner().mutant;
        match (self.gate.pass(), mutant) {
            (true, Some(Mutant::AcknowledgedBeforeWitness)) => Ok(()),
            (true, _) => answer,
            (false, _) => Err(WitnessError::Unknown),
        }
    }

    fn note(&self, _: AccountId, tenure: Epoch, witnessed: Witnessed) {
        if self.gate.pass() {
            // On a private volume nobody waits for it (L-CM4).
            let _noted = self.service.inner().witness(self.process, tenure, witnessed);
        }
    }
}

fn encode(witnessed: &Witnessed) -> Vec<u8> {
    let mut bytes = witnessed.epoch.get().to_le_bytes().to_vec();
    bytes.extend(witnessed.hash.to_le_bytes());
    bytes.extend(witnessed.lsn.to_le_bytes());
    bytes.extend(u64::from(witnessed.length).to_le_bytes());
    bytes.extend(u64::from(witnessed.segment).to_le_bytes());
    bytes
}

fn decode(bytes: &[u8]) -> Option<Witnessed> {
    let number = |place: usize| {
        let bytes = bytes.get(place * 8..place * 8 + 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    };
    Some(Witnessed {
        epoch: Epoch::from_u64(number(0)?),
        hash: number(1)?,
        lsn: number(2)?,
        length: u32::try_from(number(3)?).ok()?,
        segment: u16::try_from(number(4)?).ok()?,
    })
}
