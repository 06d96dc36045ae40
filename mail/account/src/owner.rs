//! One writer: takes a batch of requests, makes it count, and only then says so.
//!
//! [`Owner::commit`] is where the order can be read: *batch* (each request becomes operations, joined to the state in
//! memory, which nobody is shown yet), *append* and *sync* (the journal), *witness*, *publish* (the snapshot), *place*
//! (bytes to where readers look), *answer*.
//!
//! Invariants
//! - A request that is refused has left nothing behind.
//! - When making a batch count fails, the owner is over: what stands in its memory was never shown and never will be
//!   (L-CM1). Its registry drops it and opens another from what counts.
//! - Bytes are durable on the stage before their record is written, and public only after it counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{Dot, EntryId, MailboxId, ModSeq, Op, Record, ReplicaId, Stamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::door::{Done, Refused, Reply, Request};
use crate::image::Image;
use crate::log::{Failure, Log};
use crate::settle::Timers;
pub use crate::setup::{Limits, Now, Setup};
use crate::snapshot::Snapshot;

/// Entries named by one operation; longer requests become several.
pub(crate) const OP_ENTRIES_MAX: usize = 1000;

/// The owner of one account.
pub struct Owner {
    pub(crate) setup: Setup,
    pub(crate) image: Image,
    pub(crate) log: Log,
    pub(crate) replica: ReplicaId,
    pub(crate) random: StdRng,
    pub(crate) turn: Turn,
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) timers: Timers,
    /// Messages whose files were not found, with their mailbox and when they were missed first ([`crate::astray`]).
    pub(crate) missed: BTreeMap<EntryId, (MailboxId, u64)>,
    /// Keywords that the store knows of.
    pub(crate) keywords_told: usize,
    /// The files outlived their journal: what they are numbered, somebody may have seen otherwise.
    pub(crate) lost_state: bool,
    /// What was found wrong and put right since the start.
    pub(crate) healed: Vec<String>,
    broken: Option<&'static str>,
}

/// What the requests of one turn came to.
#[derive(Default)]
pub(crate) struct Turn {
    records: Vec<Record>,
    staged: Vec<(MailboxId, Arc<str>)>,
    /// Mailboxes whose directories are made only when the turn counts.
    created: BTreeSet<MailboxId>,
    failed: Option<String>,
}

impl Owner {
    pub(crate) fn assemble(setup: Setup, image: Image, log: Log, replica: ReplicaId, now: Now) -> Self {
        let random = StdRng::seed_from_u64(seed(&setup, now));
        let snapshot = Snapshot::empty(setup.account);
        Self {
            setup,
            image,
            log,
            replica,
            random,
            turn: Turn::default(),
            snapshot,
            timers: Timers::default(),
            missed: BTreeMap::new(),
            keywords_told: 0,
            lost_state: false,
            healed: Vec::new(),
            broken: None,
        }
    }

    /// Carries out requests, in order. One answer each.
    pub fn commit(&mut self, now: Now, batch: Vec<Request>) -> Vec<Result<Done, Refused>> {
        let mut answers = Vec::with_capacity(batch.len());
        let mut decided = Vec::new();
        for request in batch {
            // Bytes are staged in directories, so a new mailbox must count before anything is put into it.
            if self.wants_directory(&request) {
                answers.extend(self.finish_turn(now, std::mem::take(&mut decided)));
            }
            if let Some(refused) = self.create_for(now, &request) {
                answers.push(Err(refused));
                continue;
            }
            decided.push(self.decide(now, request));
        }
        answers.extend(self.finish_turn(now, decided));
        answers
    }

    /// The newest snapshot.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot)
    }

    /// Whether it can go on. If not, drop it and open another.
    pub fn is_sound(&self) -> bool {
        self.broken.is_none()
    }

    pub(crate) fn check_sound(&self) -> Result<(), Refused> {
        self.broken.map_or(Ok(()), |broken| Err(Refused::Unavailable(broken.to_owned())))
    }

    /// What was found wrong and put right since the last call, for the operator.
    pub fn take_healed(&mut self) -> Vec<String> {
        std::mem::take(&mut self.healed)
    }

    fn wants_directory(&mut self, request: &Request) -> bool {
        let to = match request {
            Request::Append(append) => &append.mailbox,
            Request::Copy { to, .. } | Request::Move { to, .. } => to,
            // What lies on disk is looked at as it is after everything before.
            Request::Observe { .. } | Request::Settle | Request::RebuildIndex => return true,
            Request::EditFlags(_)
            | Request::Expunge { .. }
            | Request::Create { .. }
            | Request::Delete { .. }
            | Request::Rename { .. }
            | Request::Subscribe { .. } => return false,
        };
        let named = self.image.building.named(&self.image.state, to);
        named.is_none_or(|named| !named.exists || self.turn.created.contains(&named.id))
    }

    /// Creates the mailbox that an append wants created. Returns why not, if not.
    fn create_for(&mut self, now: Now, request: &Request) -> Option<Refused> {
        let Request::Append(append) = request else { return None };
        let known = self.image.building.named(&self.image.state, &append.mailbox);
        if !append.create || known.is_some_and(|named| named.exists) {
            return None;
        }
        let create = Request::Create { name: append.mailbox.clone(), special_use: None };
        let decided = self.decide(now, create);
        self.finish_turn(now, vec![decided]).into_iter().find_map(Result::err)
    }

    fn decide(&mut self, now: Now, request: Request) -> Result<Reply, Refused> {
        self.check_sound()?;
        match request {
            Request::Append(append) => self.append(now, append),
            Request::Copy { from, uids, to } => self.copy(now, from, &uids, &to),
            Request::Move { from, uids, to } => self.move_messages(now, from, &uids, &to),
            Request::EditFlags(edit) => self.edit_flags(now, &edit),
            Request::Expunge { mailbox, which } => self.expunge(now, mailbox, which),
            Request::Create { name, special_use } => self.create(now, &name, special_use),
            Request::Delete { name } => self.delete(now, &name),
            Request::Rename { from, to } => self.rename(now, &from, &to),
            Request::Subscribe { name, on } => self.subscribe(now, &name, on),
            Request::Observe { mailbox } => self.observe(now, mailbox),
            Request::Settle => self.settle(now),
            Request::RebuildIndex => self.rebuild_index(now),
        }
    }

    /// Makes the turn count, then shows it and answers.
    pub(crate) fn finish_turn(
        &mut self,
        now: Now,
        decided: Vec<Result<Reply, Refused>>,
    ) -> Vec<Result<Done, Refused>> {
        let turn = std::mem::take(&mut self.turn);
        if let Err(failure) = self.make_count(&turn) {
            tracing::error!(account = %self.setup.account, user = self.setup.user, %failure, "changes do not count");
            if matches!(failure, Failure::NotStored { .. }) {
                turn.staged.iter().for_each(|(mailbox, base)| self.setup.format.unstage(*mailbox, base));
            }
            self.give_up(&failure);
            let refused =
                |answer: Result<Reply, Refused>| Err(answer.err().unwrap_or_else(|| failure.refused()));
            return decided.into_iter().map(refused).collect();
        }
        if !turn.records.is_empty() {
            self.publish();
            self.carry_out(now);
        }
        let snapshot = &self.snapshot;
        let done = |reply| Done { reply, snapshot: Arc::clone(snapshot) };
        decided.into_iter().map(|answer| answer.map(done)).collect()
    }

    /// Sync, append, witness. Nothing in memory was shown before this succeeds (L-CM1).
    fn make_count(&mut self, turn: &Turn) -> Result<(), Failure> {
        if let Some(what) = &turn.failed {
            return Err(Failure::NotStored { full: false, what: what.clone() });
        }
        if turn.records.is_empty() {
            return Ok(());
        }
        let staged: BTreeSet<_> = turn.staged.iter().map(|(mailbox, _)| *mailbox).collect();
        if !staged.is_empty() {
            let staged: Vec<_> = staged.into_iter().collect();
            let synced = self.setup.format.sync_staged(&staged);
            synced.map_err(|error| Failure::not_stored(&error))?;
        }
        self.log.commit(&turn.records)
    }

    pub(crate) fn publish(&mut self) {
        self.tell_keywords();
        self.snapshot = self.image.building.snapshot(&self.image.state, self.log.lsn());
    }

    pub(crate) fn give_up(&mut self, failure: &Failure) {
        self.broken = Some(match failure {
            Failure::NotStored { .. } => "a change could not be stored",
            Failure::Unknown(_) => "whether a change was stored is not known",
            Failure::Deposed => "another node owns the account",
        });
    }

    /// Whether anything of this turn waits to count.
    pub(crate) fn has_pending(&self) -> bool {
        !self.turn.records.is_empty() || self.turn.failed.is_some()
    }
}

/// Entry ids must differ between two owners that issue the same dot because the first one's did not count. Two owners
/// differ in epoch, or in when they began.
fn seed(setup: &Setup, now: Now) -> u64 {
    let mut hasher = blake3::Hasher::new_derive_key("roost 2026 entry ids");
    hasher.update(setup.account.as_bytes());
    hasher.update(&setup.tenure.epoch.get().to_le_bytes());
    hasher.update(&[setup.node]);
    hasher.update(&now.unix_us.to_le_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

/// Making records.
impl Owner {
    /// The stamp of one request (R-CK3).
    pub(crate) fn stamp(&mut self, now: Now) -> Stamp {
        self.image.state.clock_mut().issue(now.unix_ms())
    }

    /// The dot of the next operation, for the ids that are made of it. Ids made for later operations of one request
    /// are told apart by `ahead`.
    pub(crate) fn next_dot(&self, ahead: u64) -> Option<Dot> {
        Dot::new(self.replica, self.image.state.version().seq(self.replica) + 1 + ahead)
    }

    pub(crate) fn new_entry(&mut self, ahead: u64) -> Result<EntryId, Refused> {
        let limit = Refused::Limit { what: "operations of one replica", limit: model::version::SEQ_MAX };
        Ok(EntryId::new(self.next_dot(ahead).ok_or(limit)?, self.random.random()))
    }

    /// Joins an operation to the state, and notes its record for the journal.
    pub(crate) fn issue(&mut self, stamp: Stamp, op: Op) {
        self.issue_at(stamp, stamp.into(), op);
    }

    /// As [`issue`](Self::issue), for an operation whose stamp is not the time at which it becomes visible (R-ID2).
    pub(crate) fn issue_at(&mut self, stamp: Stamp, modseq: ModSeq, op: Op) {
        let Some(dot) = self.next_dot(0) else {
            self.turn.failed = Some("this replica has no operation left to issue".to_owned());
            return;
        };
        let record = Record { dot, stamp, modseq, op };
        match self.image.apply(&record) {
            Ok(_) => self.turn.records.push(record),
            Err(error) => self.turn.failed = Some(error),
        }
    }

    /// Forgets the records of this turn: a checkpoint stands for them.
    pub(crate) fn forget_turn(&mut self) -> Result<(), String> {
        let turn = std::mem::take(&mut self.turn);
        turn.failed.map_or(Ok(()), Err)
    }

    pub(crate) fn note_staged(&mut self, mailbox: MailboxId, base: Arc<str>) {
        self.turn.staged.push((mailbox, base));
    }

    pub(crate) fn note_created(&mut self, mailbox: MailboxId) {
        self.turn.created.insert(mailbox);
    }
}
