//! The coordination service: the real state machine of `locking`, and a network that loses what goes to and fro.
//!
//! Invariants
//! - Requests of one process arrive in the order in which they were sent, if they arrive (`locking::client` sees to it).
//! - What was decided is durable: voters never lose it here.

use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use account::tenure::{Witness, WitnessError, Witnessed};
use locking::command::{Answer, Command, NodeId, Refusal, Request, RequestId, Wanted};
use locking::state::{State, Touched};
use locking::{Record, SessionId, Value};
use model::{AccountId, Epoch};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::Mutant;
use crate::invariants::j1_one_session_an_epoch::Decision;
use crate::process::Gate;

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
    index: u64,
    rng: StdRng,
    /// How many of a hundred requests or answers are lost.
    lossy: u32,
    /// Sent, given up by the sender, and still on their way.
    late: Vec<Record>,
    decisions: Vec<Decision>,
    /// The last accepted witness, and the one before.
    lately: [Option<Witnessed>; 2],
    mutant: Option<Mutant>,
    /// What the service with a bug believes instead.
    believed: Option<Witnessed>,
}

impl Service {
    pub fn new(seed: u64, mutant: Option<Mutant>) -> Self {
        let inner = Inner {
            state: FOUNDED.clone(),
            index: 1,
            rng: StdRng::seed_from_u64(seed),
            lossy: 0,
            late: Vec::new(),
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

    /// Opens a session for a process of this node; earlier ones of the same node are dead.
    pub fn open_session(&self, node: u8) -> Option<SessionId> {
        match self.inner().ask(Command::SessionOpen { node: NodeId(node), replaces_older: true }) {
            Answer::Opened(session) => Some(session),
            Answer::Done
            | Answer::Nothing
            | Answer::Granted(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_) => None,
        }
    }

    /// The leader has not heard of this session for too long.
    pub fn expire(&self, session: SessionId) {
        self.inner().ask(Command::SessionExpire { session });
    }

    /// The epoch under which the session owns the account, if nobody else does.
    pub fn grant(&self, session: SessionId, account: AccountId) -> Option<Epoch> {
        let wanted = Wanted::These(vec![account.bucket()]);
        let mut inner = self.inner();
        match inner.ask(Command::Grant { session, wanted }) {
            Answer::Granted(runs) => {
                let epoch = runs.first().map(|run| run.epoch);
                inner.decisions.extend(epoch.map(|epoch| Decision::Granted(epoch, session)));
                epoch
            }
            Answer::Done
            | Answer::Nothing
            | Answer::Opened(_)
            | Answer::Witnessed { .. }
            | Answer::Refused(_) => None,
        }
    }

    pub fn lose(&self, of_a_hundred: u32) {
        self.inner().lossy = of_a_hundred;
    }

    pub fn decisions(&self) -> Vec<Decision> {
        self.inner().decisions.clone()
    }

    /// The last record that was accepted.
    pub fn witnessed(&self) -> u64 {
        self.inner().lately[0].map_or(0, |witnessed| witnessed.lsn)
    }
}

impl Inner {
    fn ask(&mut self, command: Command) -> Answer {
        self.index += 1;
        let id = RequestId { client: 2, seq: self.index };
        self.state.apply(self.index, &Request { id, command }, &mut Touched::default())
    }

    fn arrive(&mut self, record: Record) -> Result<(), Refusal> {
        let epoch = record.epoch;
        let witnessed = decode(record.value.as_bytes());
        match self.ask(Command::Witness { records: vec![record] }) {
            Answer::Witnessed { refused } => match refused.first() {
                Some((_, refusal)) => Err(*refusal),
                None => {
                    self.decisions.push(Decision::Accepted(epoch));
                    if self.lately[0] != witnessed {
                        self.lately = [witnessed, self.lately[0]];
                    }
                    Ok(())
                }
            },
            Answer::Refused(refusal) => Err(refusal),
            Answer::Done | Answer::Nothing | Answer::Opened(_) | Answer::Granted(_) => {
                Err(Refusal::NotFounded)
            }
        }
    }

    fn late_ones_arrive(&mut self) {
        for record in std::mem::take(&mut self.late) {
            // Refused or not: nobody waits for it any more.
            let _arrived = self.arrive(record);
        }
    }

    fn is_lost(&mut self) -> bool {
        self.lossy > 0 && self.rng.random_ratio(self.lossy.min(100), 100)
    }

    fn witness(
        &mut self,
        account: AccountId,
        epoch: Epoch,
        witnessed: Witnessed,
    ) -> Result<(), WitnessError> {
        self.late_ones_arrive();
        let value = Value::new(&encode(&witnessed)).ok_or(WitnessError::Unknown)?;
        let subkey = *account.as_bytes();
        let record = Record { bucket: account.bucket(), epoch, subkey, value, counter: witnessed.lsn };
        if self.mutant == Some(Mutant::StaleEpochAccepted) {
            self.believed = Some(witnessed);
            return Ok(());
        }
        if self.is_lost() {
            match self.rng.random_range(0..3) {
                0 => {}
                1 => drop(self.arrive(record)),
                _ => self.late.push(record),
            }
            return Err(WitnessError::Unknown);
        }
        self.arrive(record).map_err(|refusal| match refusal {
            Refusal::StaleEpoch | Refusal::NoSession | Refusal::NotFounded | Refusal::FoundedOtherwise => {
                WitnessError::StaleEpoch
            }
            Refusal::Backwards
            | Refusal::TooMany
            | Refusal::TooOld
            | Refusal::NotDraining
            | Refusal::NodeDraining
            | Refusal::OtherGroup => WitnessError::Unknown,
        })
    }

    fn read(&mut self, account: AccountId) -> Result<Option<Witnessed>, WitnessError> {
        self.late_ones_arrive();
        if self.is_lost() {
            return Err(WitnessError::Unknown);
        }
        if self.believed.is_some() {
            return Ok(self.believed);
        }
        if self.mutant == Some(Mutant::OldWitnessRead) && self.lately[1].is_some() {
            return Ok(self.lately[1]);
        }
        let witness = self.state.witness(account.bucket(), account.as_bytes());
        let Some(witness) = witness else { return Ok(None) };
        decode(witness.value.as_bytes()).map(Some).ok_or(WitnessError::Unknown)
    }
}

/// The service as one process reaches it.
pub struct Line {
    pub service: Arc<Service>,
    pub gate: Arc<Gate>,
}

impl Witness for Line {
    fn read(&self, account: AccountId) -> Result<Option<Witnessed>, WitnessError> {
        if !self.gate.pass() {
            return Err(WitnessError::Unknown);
        }
        self.service.inner().read(account)
    }

    fn accept(&self, account: AccountId, tenure: Epoch, witnessed: Witnessed) -> Result<(), WitnessError> {
        // The process can stop before it asks, and before it hears the answer.
        if !self.gate.pass() {
            return Err(WitnessError::Unknown);
        }
        let answer = self.service.inner().witness(account, tenure, witnessed);
        match (self.gate.pass(), self.service.inner().mutant) {
            (true, Some(Mutant::AcknowledgedBeforeWitness)) => Ok(()),
            (true, _) => answer,
            (false, _) => Err(WitnessError::Unknown),
        }
    }

    fn note(&self, account: AccountId, tenure: Epoch, witnessed: Witnessed) {
        if self.gate.pass() {
            // On a private volume nobody waits for it (L-CM4).
            let _noted = self.service.inner().witness(account, tenure, witnessed);
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
