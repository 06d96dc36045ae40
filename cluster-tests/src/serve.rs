//! What one process does with the account: open it, commit what clients ask for, lazy work, closing.
//!
//! Every answer is judged when it comes, and every snapshot beside the one before it.

use std::sync::Arc;
use std::time::Duration;

use account::door::{Append, Done, Expunge, NewMessage};
use account::patience::{Patience, Verdict};
use account::tenure::Volume;
use account::{Now, Owner, Refused, Request, Shortfall};
use nfs_compat::Fs;
use rand::RngExt;

use crate::Mutant;
use crate::client::{self, Wish};
use crate::invariants::{
    bytes_equal, deposed_acknowledges_nothing, j5_never_behind_the_witness, j7_back_soon, promised_is_shown,
};
use crate::oracle::{Fate, Oracle};
use crate::schedule::Sim;
use crate::world::{NotOpen, Process};

/// Requests that one commit carries at most.
const BATCH_MAX: usize = 4;
/// Between two tries to have the account take a change.
const LOOK_EVERY_US: i64 = 250_000;
/// How often it is tried to open the account once more.
const OPENINGS: usize = 3;
/// A history in which this does not count goes no further.
const GIVEN_UP_US: u64 = 60_000_000;
/// Turns of lazy work after which bytes that a neighbour removed are no longer looked for.
const TICKS: usize = 6;

impl Sim {
    /// Opens the account. What a new owner shows settles everything that was unknown.
    pub(crate) fn open(&self, process: &mut Process) -> bool {
        let before = self.state().takeovers;
        let outcome = self.open_with_patience(process);
        if self.state().takeovers == before {
            self.state().session = process.session;
        }
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
            Err(NotOpen::Behind(shortfall)) => {
                self.lost(&shortfall);
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
        self.shows(process, snapshot.lsn);
        let verdict = self.state().oracle.look(&snapshot, true);
        let is_well = verdict.is_ok();
        self.judge(verdict);
        is_well
    }

    /// Looks again, as a node does, while the host shows less than what counts; others go on meanwhile.
    fn open_with_patience(&self, process: &mut Process) -> Result<(), NotOpen> {
        let mut patience = Patience::default();
        loop {
            let (opening, elapsed_us) = {
                let mut state = self.state();
                state.world.catch_up();
                (state.world.opening(), state.world.elapsed_us)
            };
            let shortfall = match opening.open(process) {
                Err(NotOpen::Behind(shortfall)) if !process.gate.is_dead() => shortfall,
                outcome => return outcome,
            };
            self.note(format_args!("process {} is behind: {}", process.number, told_of(&shortfall)));
            if let Err(error) = shortfall.revalidate(&*process.fs) {
                return Err(NotOpen::Trouble(error.to_string()));
            }
            match patience.fell_short(shortfall.witness, Duration::from_micros(elapsed_us)) {
                Verdict::Again(wait) => {
                    let wait_us = i64::try_from(wait.as_micros()).unwrap_or(i64::MAX);
                    self.state().world.step_clock(wait_us);
                }
                Verdict::Lost => return Err(NotOpen::Behind(shortfall)),
            }
        }
    }

    /// §6.3: the account is offline, and says so. On a server that keeps what it synced nothing may be lost.
    fn lost(&self, shortfall: &Shortfall) {
        let is_excused = self.plan.loses && self.state().power_cuts > 0;
        let told = told_of(shortfall);
        self.note(format_args!("offline (durability): {told}"));
        self.state().is_offline = true;
        if !is_excused {
            self.judge(Err(format!("J5: offline (durability), and nothing was lost: {told}")));
        }
    }

    /// The owner of this process does something.
    pub(crate) fn work(&self, process: &mut Process, takeovers: u64) {
        let dice = self.state().rng.random_range(0..100);
        let now = self.now();
        match dice {
            0..12 => self.lazily(process, takeovers, "tick", |owner| owner.tick(now)),
            12..17 => {
                self.lazily(process, takeovers, "close", |owner| owner.close(now));
                self.drop_owner(process);
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
        self.shows(process, snapshot.lsn);
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
        let now = if self.state().rng.random_bool(0.5) { process.deposed_at } else { self.now() };
        let what = self.state().rng.random_range(0..4);
        let requests = self.requests(&process);
        self.note(format_args!("process {} goes on, deposed", process.number));
        if let Some(owner) = &mut process.owner {
            let lsn = owner.snapshot().lsn;
            match what {
                0 => owner.tick(now),
                1 => owner.close(now),
                _ => {
                    let answers = owner.commit(now, requests);
                    self.judge(deposed_acknowledges_nothing::check(lsn, &answers));
                }
            }
            if owner.is_sound() && !process.gate.is_dead() {
                self.state().deposed.insert(0, process);
            } else {
                self.state().readers.remove(&process.number);
            }
        }
    }
}

/// When the nemesis has left.
impl Sim {
    /// Everything works again, and nothing is missing.
    pub(crate) fn quiet(self: &Arc<Self>) {
        self.end_late_owners();
        let calm_since_us = {
            let state = &mut *self.state();
            state.history.note(format_args!("quiet"));
            state.world.forget_views();
            state.world.service.heal();
            state.world.catch_up();
            state.last_blow(self.plan.volume);
            state.world.elapsed_us
        };
        self.until_served(calm_since_us);
        for round in 0..2 {
            self.state().world.step_clock(2_000_000);
            let Some(mut process) = self.opened_anew() else { return };
            self.serve_everything(&mut process, round);
            self.state().world.step_clock(10_000_000);
            self.state().current = Some(process);
            self.follow_the_map();
        }
        self.reads();
        self.check_unlinked();
    }

    /// The account, opened once more by whoever has it: a machine that was suspended may lose its session only now.
    fn opened_anew(self: &Arc<Self>) -> Option<Process> {
        for _ in 0..OPENINGS {
            let now_us = self.state().world.elapsed_us;
            self.until_served(now_us);
            let mut process = self.take_current().filter(|_| !self.is_over())?;
            self.drop_owner(&mut process);
            if self.open(&mut process) {
                return Some(process);
            }
            self.state().current = Some(process);
            self.state().world.step_clock(LOOK_EVERY_US);
        }
        if !self.is_over() {
            self.judge(Err("liveness: the account cannot be opened, and nothing is in the way".to_owned()));
        }
        None
    }

    fn end_late_owners(&self) {
        while !self.state().deposed.is_empty() {
            let process = self.state().deposed.pop();
            if let Some(mut process) = process {
                let now = self.now();
                process.owner.iter_mut().for_each(|owner| owner.tick(now));
                process.gate.kill();
                let state = &mut *self.state();
                state.readers.remove(&process.number);
                state.world.service.is_dead(process.number);
            }
        }
    }

    /// J7: until the first change is accepted.
    fn until_served(self: &Arc<Self>, calm_since_us: u64) {
        loop {
            self.follow_the_map();
            self.balance();
            let takeovers = self.state().takeovers;
            if let Some(mut process) = self.take_current() {
                let is_served = self.serve_first(&mut process, takeovers);
                self.state().current = Some(process);
                if is_served || self.is_over() {
                    return;
                }
            }
            self.state().world.step_clock(LOOK_EVERY_US);
            let now_us = self.state().world.elapsed_us;
            self.judge(j7_back_soon::check(calm_since_us, now_us));
            if self.is_over() || now_us > calm_since_us + GIVEN_UP_US {
                return;
            }
        }
    }

    fn serve_first(&self, process: &mut Process, takeovers: u64) -> bool {
        if self.is_draining() {
            return false;
        }
        if !self.state().world.service.believes(process.number) {
            self.drop_owner(process);
        }
        if process.owner.is_none() && !self.open(process) {
            return false;
        }
        let now = self.now();
        let delivery = {
            let state = &mut *self.state();
            let elapsed_us = state.world.elapsed_us;
            client::deliver(&mut state.rng, &mut state.oracle, elapsed_us, false)
        };
        let Some(delivery) = self.spooled(process, delivery) else { return false };
        let is_done = self.commit_one(process, now, delivery, takeovers);
        if !is_done {
            self.drop_owner(process);
        }
        is_done
    }

    fn serve_everything(&self, process: &mut Process, round: u32) {
        let takeovers = self.state().takeovers;
        for _ in 0..TICKS {
            self.state().world.step_clock(2_000_000);
            let now = self.now();
            self.lazily(process, takeovers, "tick", |owner| owner.tick(now));
        }
        let now = self.now();
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
        if !self.commit_one(process, now, request, takeovers) {
            self.judge(Err(format!("liveness: {name} is refused, and nothing is in the way")));
        }
    }

    /// Whether it was done. A mailbox that is not there is an answer like any other.
    fn commit_one(&self, process: &mut Process, now: Now, request: Request, takeovers: u64) -> bool {
        let before = self.state().history.text().len();
        self.commit(process, now, vec![request], takeovers);
        let state = self.state();
        let told = state.history.text().get(before..).unwrap_or_default();
        let is_sound = process.owner.as_ref().is_some_and(|owner| owner.is_sound());
        is_sound && (!told.contains(": Err(") || told.contains("NoMailbox"))
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

/// Without hashes: a checkpoint of the same state need not have the same bytes twice.
fn told_of(shortfall: &Shortfall) -> String {
    let Shortfall { witness, short, found, .. } = shortfall;
    format!("record {} counts, and {} falls short: {found}", witness.lsn, short.display())
}

/// A request in the words of the history.
fn told(request: &Request, oracle: &Oracle) -> String {
    let Request::Append(append) = request else { return format!("{request:?}") };
    let number =
        |message: &NewMessage| oracle.tokens.get(&message.body.content).map_or(0, |token| token.number);
    let numbers: Vec<_> = append.messages.iter().map(number).collect();
    format!("Append messages {numbers:?} to {}, delivery {:?}", append.mailbox, append.delivery)
}
