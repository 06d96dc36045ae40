//! What one process does with the account: open it, commit what clients ask for, lazy work, closing.
//!
//! Every answer is judged when it comes, and every snapshot beside the one before it.

use std::sync::Arc;

use account::door::{Append, Done, Expunge, NewMessage};
use account::tenure::Volume;
use account::{Now, Owner, Refused, Request};
use nfs_compat::Fs;
use rand::RngExt;

use crate::Mutant;
use crate::client::{self, Wish};
use crate::invariants::{
    bytes_equal, deposed_acknowledges_nothing, j1_one_session_an_epoch, j5_never_behind_the_witness,
    j6_no_read_after_the_lease, j7_back_soon, promised_is_shown,
};
use crate::oracle::{Fate, Oracle};
use crate::schedule::Sim;
use crate::world::{NotOpen, Opening, Process};

/// Requests that one commit carries at most.
const BATCH_MAX: usize = 4;
/// Turns of lazy work after which bytes that a neighbour removed are no longer looked for.
const TICKS: usize = 6;

impl Sim {
    /// Opens the account. What a new owner shows settles everything that was unknown.
    pub(crate) fn open(&self, process: &mut Process) -> bool {
        let (opening, before): (Opening, u64) = {
            let state = self.state();
            (state.world.opening(), state.takeovers)
        };
        let outcome = opening.open(process);
        if process.gate.is_dead() {
            process.owner = None;
            self.note(format_args!("process {} is killed while it opens", process.number));
            return false;
        }
        match outcome {
            Ok(()) => {}
            Err(NotOpen::Trouble(why)) => {
                self.note(format_args!("process {} cannot open: {why}", process.number));
                return false;
            }
            Err(NotOpen::Wrong(why)) => {
                // A process that was deposed while it opened may find anything.
                if self.state().takeovers == before {
                    self.judge(Err(format!("process {} cannot open: {why}", process.number)));
                }
                return false;
            }
        }
        let Some(owner) = &process.owner else { return false };
        let snapshot = owner.snapshot();
        let epoch = process.epoch.map_or(0, model::Epoch::get);
        let (number, lsn, messages) = (process.number, snapshot.lsn, snapshot.messages);
        self.note(format_args!(
            "process {number} opens under epoch {epoch:x}: record {lsn}, {messages} messages"
        ));
        for (name, entry) in &snapshot.mailboxes {
            let uids = entry.view.iter().flat_map(|view| view.iter()).map(|message| message.uid.get());
            self.note(format_args!("  {name}: UIDs {:?}", uids.collect::<Vec<_>>()));
        }
        let healed = process.owner.as_mut().map_or_else(Vec::new, |owner| owner.take_healed());
        healed.iter().for_each(|healed| self.note(format_args!("  healed: {healed}")));
        if self.state().takeovers != before {
            return false;
        }
        let witnessed = self.state().world.service.witnessed();
        if self.plan.volume == Volume::Shared {
            self.judge(j5_never_behind_the_witness::check(witnessed, snapshot.lsn));
        }
        let verdict = self.state().oracle.look(&snapshot, true);
        let is_well = verdict.is_ok();
        self.judge(verdict);
        is_well
    }

    /// The owner of this process does something.
    pub(crate) fn work(&self, process: &mut Process, takeovers: u64) {
        let dice = self.state().rng.random_range(0..100);
        let now = self.state().world.now;
        match dice {
            0..12 => self.lazily(process, takeovers, "tick", |owner| owner.tick(now)),
            12..17 => {
                self.lazily(process, takeovers, "close", |owner| owner.close(now));
                process.owner = None;
            }
            _ => {
                let requests = self.requests(process);
                self.commit(process, now, requests, takeovers);
            }
        }
    }

    fn lazily(&self, process: &mut Process, takeovers: u64, what: &str, act: impl FnOnce(&mut Owner)) {
        let Some(owner) = &mut process.owner else { return };
        self.note(format_args!("process {}: {what}", process.number));
        act(owner);
        if self.counts(process, takeovers) {
            self.look(process);
        }
    }

    /// Whether what the process says now reaches clients, and is the newest.
    fn counts(&self, process: &Process, takeovers: u64) -> bool {
        !process.gate.is_dead() && self.state().takeovers == takeovers
    }

    fn look(&self, process: &mut Process) {
        let healed = process.owner.as_mut().map_or_else(Vec::new, |owner| owner.take_healed());
        healed.iter().for_each(|healed| self.note(format_args!("  healed: {healed}")));
        let Some(owner) = process.owner.as_ref().filter(|owner| owner.is_sound()) else { return };
        let snapshot = owner.snapshot();
        let verdict = self.state().oracle.look(&snapshot, false);
        self.judge(verdict);
    }

    /// What the sessions of this process ask for now, with their octets on the spool.
    fn requests(&self, process: &Process) -> Vec<Request> {
        let wishes: Vec<Wish> = {
            let state = &mut *self.state();
            let count = if state.rng.random_bool(0.6) { 1 } else { state.rng.random_range(1..=BATCH_MAX) };
            let (now_us, elapsed_us) = (state.world.now.unix_us, state.world.elapsed_us);
            let keyless = self.plan.mutant == Some(Mutant::KeyDropped);
            let mut wish = |_| client::wish(&mut state.rng, &mut state.oracle, now_us, elapsed_us, keyless);
            (0..count).map(&mut wish).collect()
        };
        wishes.into_iter().filter_map(|wish| self.spooled(process, wish)).collect()
    }

    fn spooled(&self, process: &Process, wish: Wish) -> Option<Request> {
        let bodies = client::spool(process.spool.as_ref()?, &wish);
        match bodies {
            Ok(bodies) => Some(client::request(wish, bodies)),
            Err(error) => {
                self.note(format_args!("process {} cannot spool: {error}", process.number));
                None
            }
        }
    }

    fn commit(&self, process: &mut Process, now: Now, requests: Vec<Request>, takeovers: u64) {
        let Some(owner) = &mut process.owner else { return };
        let asked: Vec<Request> = requests.iter().map(again).collect();
        if self.state().takeovers == takeovers {
            let state = &mut *self.state();
            asked
                .iter()
                .for_each(|request| state.history.note(format_args!("  {}", told(request, &state.oracle))));
            state.oracle.permit(&asked, true);
        }
        if self.plan.mutant == Some(Mutant::UnlinkedBeforeWitness) {
            unlink_early(&*process.fs, owner, &asked);
        }
        let answers = owner.commit(now, requests);
        if process.gate.is_dead() {
            self.note(format_args!("process {} dies without an answer", process.number));
            return;
        }
        for answer in &answers {
            let answer = answer.as_ref().map(|done| &done.reply);
            self.note(format_args!("  process {}: {answer:?}", process.number));
        }
        if !self.counts(process, takeovers) {
            self.answered_late(&asked, &answers);
            return;
        }
        let last = asked.len().saturating_sub(1);
        for (place, (request, answer)) in asked.iter().zip(&answers).enumerate() {
            let Ok(done) = answer else { continue };
            let verdict = promised_is_shown::check(&self.state().oracle, request, done, place == last);
            self.judge(verdict);
        }
        let told = answers.into_iter().map(|answer| answer.map(drop));
        let answered: Vec<_> = asked.into_iter().zip(told).collect();
        self.state().oracle.answered(&answered);
        self.look(process);
    }

    /// The process was deposed between question and answer: what it says yes to counted before.
    fn answered_late(&self, asked: &[Request], answers: &[Result<Done, Refused>]) {
        let removes = |request: &Request| matches!(request, Request::Delete { .. } | Request::Expunge { .. });
        if asked.iter().any(removes) {
            return;
        }
        let acknowledged = asked.iter().zip(answers).filter(|(_, answer)| answer.is_ok());
        for (request, _) in acknowledged {
            let Request::Append(append) = request else { continue };
            for message in &append.messages {
                let state = &mut *self.state();
                let Some(token) = state.oracle.tokens.get_mut(&message.body.content) else { continue };
                if token.fate == Fate::NotStored && token.entries.is_empty() {
                    let number = token.number;
                    let what =
                        format!("message {number} was acknowledged, and the next owner has it not (J2)");
                    state.wrong.get_or_insert(what);
                }
                token.fate = Fate::Acknowledged;
            }
        }
    }

    /// An owner that was deposed goes on as if nothing had happened: its clients are still connected.
    pub(crate) fn deposed_goes_on(&self) {
        let process = self.state().deposed.pop();
        let Some(mut process) = process else { return };
        // It stood still in the middle of something: for it the time is what it was.
        let now = if self.state().rng.random_bool(0.5) { process.deposed_at } else { self.state().world.now };
        let what = self.state().rng.random_range(0..4);
        let requests = self.requests(&process);
        self.note(format_args!("process {} goes on, deposed", process.number));
        if let Some(owner) = &mut process.owner {
            let lsn = owner.snapshot().lsn;
            // Its lease ended before another was let in, so it answers no read.
            let is_answered = self.plan.mutant == Some(Mutant::LeaseIgnored);
            let seen = self.state().oracle.lsn;
            self.judge(j6_no_read_after_the_lease::check(seen, is_answered.then_some(lsn)));
            match what {
                0 => owner.tick(now),
                1 => owner.close(now),
                _ => {
                    let answers = owner.commit(now, requests);
                    self.judge(deposed_acknowledges_nothing::check(lsn, &answers));
                }
            }
            if owner.is_sound() {
                self.state().deposed.insert(0, process);
            }
        }
    }
}

/// When the nemesis has left.
impl Sim {
    /// Everything works again, and nothing is missing.
    pub(crate) fn quiet(self: &Arc<Self>) {
        while !self.state().deposed.is_empty() {
            let process = self.state().deposed.pop();
            if let Some(mut process) = process {
                let now = self.state().world.now;
                process.owner.iter_mut().for_each(|owner| owner.tick(now));
                process.gate.kill();
            }
        }
        let calm_since_us = self.state().world.elapsed_us;
        {
            let state = &mut *self.state();
            state.history.note(format_args!("quiet"));
            state.world.forget_views();
            if state.rng.random_bool(0.5) {
                let seed = state.rng.random();
                state.cut_power(seed);
            }
            let node = state.current.take().map_or(1, |process| {
                process.gate.kill();
                process.node
            });
            state.start_current(node);
            state.world.step_clock(5_000_000);
        }
        let Some(mut process) = self.take_current() else { return };
        for round in 0..2 {
            if self.is_over() {
                return;
            }
            if !self.open(&mut process) {
                self.judge(Err(
                    "liveness: the account cannot be opened, and nothing is in the way".to_owned()
                ));
                return;
            }
            if round == 0 {
                self.serve_first(&mut process, calm_since_us);
            }
            self.serve_everything(&mut process, round);
            self.state().world.step_clock(10_000_000);
            process.owner = None;
        }
        self.check_unlinked();
        let decisions = self.state().world.service.decisions();
        self.judge(j1_one_session_an_epoch::check(&decisions));
    }

    /// J7: the first change after the faults ended.
    fn serve_first(&self, process: &mut Process, calm_since_us: u64) {
        let takeovers = self.state().takeovers;
        let (now, delivery) = {
            let state = &mut *self.state();
            let elapsed_us = state.world.elapsed_us;
            let delivery = client::deliver(&mut state.rng, &mut state.oracle, elapsed_us, false);
            (state.world.now, delivery)
        };
        if let Some(delivery) = self.spooled(process, delivery) {
            self.commit_now(process, now, delivery, takeovers, "the first delivery");
        }
        let taken_us = self.state().world.elapsed_us;
        self.judge(j7_back_soon::check(calm_since_us, taken_us));
    }

    fn serve_everything(&self, process: &mut Process, round: u32) {
        let takeovers = self.state().takeovers;
        for _ in 0..TICKS {
            self.state().world.step_clock(2_000_000);
            let now = self.state().world.now;
            self.lazily(process, takeovers, "tick", |owner| owner.tick(now));
        }
        let now = self.state().world.now;
        let delivery = {
            let state = &mut *self.state();
            let elapsed_us = state.world.elapsed_us;
            client::deliver(&mut state.rng, &mut state.oracle, elapsed_us, false)
        };
        let Some(delivery) = self.spooled(process, delivery) else {
            self.judge(Err("liveness: a message cannot be spooled".to_owned()));
            return;
        };
        let look = if round == 0 { Request::Observe { mailbox: None } } else { Request::RebuildIndex };
        for request in [look, delivery, Request::Settle] {
            let name = told(&request, &self.state().oracle);
            self.commit_now(process, now, request, takeovers, &name);
        }
        let Some(owner) = process.owner.as_ref() else { return };
        let (reader, snapshot) = (owner.reader(), owner.snapshot());
        let verdict = bytes_equal::check(&self.state().oracle, &reader, &snapshot);
        self.judge(verdict);
        let state = &mut *self.state();
        let oracle = &state.oracle;
        let missed = oracle.arrivals.iter().find(|(content, base)| {
            let never_shown = oracle.tokens.get(content).is_some_and(|token| token.entries.is_empty());
            // Renamed, it may carry \Deleted: seen and expunged by one batch, it is never shown.
            never_shown && !oracle.removed.contains(*base) && !oracle.renamed.contains(*base)
        });
        if let Some((_, base)) = missed {
            state
                .wrong
                .get_or_insert(format!("liveness: {base} was delivered by a neighbour, and is not shown"));
        }
    }

    fn commit_now(&self, process: &mut Process, now: Now, request: Request, takeovers: u64, name: &str) {
        let sound = |process: &Process| process.owner.as_ref().is_some_and(|owner| owner.is_sound());
        let before = self.state().history.text().len();
        self.commit(process, now, vec![request], takeovers);
        let refused = self.state().history.text().get(before..).is_some_and(|text| text.contains(": Err("));
        // A mailbox that is not there is an answer like any other.
        let expected =
            self.state().history.text().get(before..).is_some_and(|text| text.contains("NoMailbox"));
        if !sound(process) || (refused && !expected) {
            self.judge(Err(format!("liveness: {name} is refused, and nothing is in the way")));
        }
    }
}

/// The bug of [`Mutant::UnlinkedBeforeWitness`].
fn unlink_early(fs: &dyn Fs, owner: &Owner, asked: &[Request]) {
    let snapshot = owner.snapshot();
    let (reader, doomed) = (owner.reader(), asked.iter().filter_map(doomed));
    for (mailbox, uids) in doomed {
        let view = snapshot.by_id(mailbox).and_then(|(_, entry)| entry.view.as_ref());
        let messages = uids.iter().filter_map(|uid| view?.by_uid(*uid));
        let bodies = messages.filter_map(|message| reader.open(mailbox, message).ok());
        // One that cannot be unlinked is no bug.
        bodies.for_each(|body| drop(fs.unlink(body.file().path())));
    }
}

fn doomed(request: &Request) -> Option<(model::MailboxId, &[model::Uid])> {
    let Request::Expunge { mailbox, which: Expunge::Exactly(uids) } = request else { return None };
    Some((*mailbox, uids))
}

/// The same request once more.
fn again(request: &Request) -> Request {
    match request {
        Request::Append(append) => {
            let copy = |message: &NewMessage| NewMessage {
                body: Arc::clone(&message.body),
                flags: message.flags.clone(),
                internal_date: message.internal_date,
            };
            let Append { mailbox, create, messages, delivery } = append;
            let messages = messages.iter().map(copy).collect();
            Request::Append(Append {
                mailbox: mailbox.clone(),
                create: *create,
                messages,
                delivery: *delivery,
            })
        }
        Request::Copy { from, uids, to } => Request::Copy { from: *from, uids: uids.clone(), to: to.clone() },
        Request::Move { from, uids, to } => Request::Move { from: *from, uids: uids.clone(), to: to.clone() },
        Request::EditFlags(edit) => Request::EditFlags(edit.clone()),
        Request::Expunge { mailbox, which } => Request::Expunge { mailbox: *mailbox, which: which.clone() },
        Request::Create { name, special_use } => {
            Request::Create { name: name.clone(), special_use: *special_use }
        }
        Request::Delete { name } => Request::Delete { name: name.clone() },
        Request::Rename { from, to } => Request::Rename { from: from.clone(), to: to.clone() },
        Request::Subscribe { name, on } => Request::Subscribe { name: name.clone(), on: *on },
        Request::Observe { mailbox } => Request::Observe { mailbox: *mailbox },
        Request::Settle => Request::Settle,
        Request::RebuildIndex => Request::RebuildIndex,
    }
}

/// A request in the words of the history.
fn told(request: &Request, oracle: &Oracle) -> String {
    let Request::Append(append) = request else { return format!("{request:?}") };
    let number =
        |message: &NewMessage| oracle.tokens.get(&message.body.content).map_or(0, |token| token.number);
    let numbers: Vec<_> = append.messages.iter().map(number).collect();
    format!("Append messages {numbers:?} to {}, delivery {:?}", append.mailbox, append.delivery)
}
