//! One history: steps by seed, then quiet, then everything must be well.
//!
//! Invariants
//! - While an owner works nothing of the simulation is held, so that another can be run in the middle of a call.
//! - A process that is killed tells its clients nothing.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use account::tenure::Volume;
use locking::SessionId;
use nfs_compat::ErrorKind;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::history::History;
use crate::invariants::j8_unlinked_after_removal;
use crate::oracle::Oracle;
use crate::process::Gate;
use crate::world::{Process, World};
use crate::{Plan, neighbour};

/// Steps of a history.
const STEPS: std::ops::Range<u32> = 12..36;
/// Calls within which the nemesis strikes.
const STRIKE_WITHIN: u64 = 90;

/// What happened.
#[derive(Debug)]
pub struct Played {
    pub history: String,
    /// What was wrong, if something was.
    pub wrong: Option<String>,
}

/// Plays the history of this seed.
pub fn run(seed: u64, plan: Plan) -> Played {
    let sim = Arc::new(Sim::new(seed, plan));
    let steps = sim.state().rng.random_range(STEPS);
    for _ in 0..steps {
        if sim.is_over() {
            break;
        }
        sim.step();
    }
    sim.quiet();
    let state = &mut *sim.state();
    if state.wrong.is_some() {
        let files = state.world.files();
        files.iter().for_each(|file| state.history.note(format_args!("file {file}")));
    }
    let history = std::mem::take(&mut state.history).text().to_owned();
    Played { history, wrong: state.wrong.take() }
}

pub struct Sim {
    pub(crate) state: Mutex<State>,
    pub(crate) plan: Plan,
}

pub(crate) struct State {
    pub(crate) rng: StdRng,
    pub(crate) world: World,
    pub(crate) oracle: Oracle,
    pub(crate) history: History,
    /// The process that has the account; taken out while it works.
    pub(crate) current: Option<Process>,
    /// Owners that were deposed and go on.
    pub(crate) deposed: Vec<Process>,
    /// How many processes have had the account. It tells a process that works whether it was deposed meanwhile.
    pub(crate) takeovers: u64,
    /// Session of the process that has the account.
    pub(crate) session: SessionId,
    pub(crate) gate: Arc<Gate>,
    pub(crate) nodes: u8,
    pub(crate) wrong: Option<String>,
}

/// What strikes during one piece of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strike {
    Nothing,
    /// The process ends.
    Kill,
    /// The machine, or the file server, loses its power.
    PowerCut,
    /// One call fails, or some in a row.
    Fail,
    Full,
    /// Requests to the coordination service, or their answers, are lost.
    Lossy,
    /// The process stands still while another takes the account over and serves.
    Paused,
}

impl Sim {
    fn new(seed: u64, plan: Plan) -> Self {
        let mut world = World::new(seed, plan.volume, plan.mutant);
        let first = world.start(1);
        let (session, gate) = (first.session, Arc::clone(&first.gate));
        let mut oracle = Oracle::default();
        oracle.creatable.extend(model::MailboxName::new("Archive"));
        let state = State {
            rng: StdRng::seed_from_u64(seed ^ 0x00c1_1e47),
            world,
            oracle,
            history: History::default(),
            current: Some(first),
            deposed: Vec::new(),
            takeovers: 0,
            session,
            gate,
            nodes: 1,
            wrong: None,
        };
        Self { state: Mutex::new(state), plan }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state().wrong.is_some()
    }

    pub(crate) fn note(&self, line: std::fmt::Arguments<'_>) {
        self.state().history.note(line);
    }

    pub(crate) fn judge(&self, verdict: Result<(), String>) {
        if let Err(what) = verdict {
            let mut state = self.state();
            state.history.note(format_args!("WRONG: {what}"));
            state.wrong.get_or_insert(what);
        }
    }

    /// One thing that happens.
    pub(crate) fn step(self: &Arc<Self>) {
        let dice = self.state().rng.random_range(0..100);
        match dice {
            0..8 => self.clock(),
            8..18 => self.neighbour(),
            18..24 if self.plan.volume == Volume::Shared => {
                self.take_over();
            }
            24..40 if self.plan.volume == Volume::Shared => self.deposed_goes_on(),
            _ => self.serve(true),
        }
        self.check_unlinked();
    }

    /// J8, for everything that was unlinked since the last look.
    pub(crate) fn check_unlinked(&self) {
        let verdict = {
            let state = self.state();
            let unlinked = state.world.trace.take();
            unlinked.iter().try_for_each(|base| j8_unlinked_after_removal::check(&state.oracle, base))
        };
        self.judge(verdict);
    }

    fn clock(&self) {
        let mut state = self.state();
        let by_us = match state.rng.random_range(0..10) {
            0 => state.rng.random_range(-7_200_000_000..0),
            1 => state.rng.random_range(0..7_200_000_000),
            2 => 700_000_000,
            3 | 4 => state.rng.random_range(0..5_000_000),
            _ => state.rng.random_range(0..100_000),
        };
        state.world.step_clock(by_us);
        state.history.note(format_args!("the clock moves by {by_us} us"));
    }

    fn neighbour(&self) {
        let state = &mut *self.state();
        let now_us = state.world.now.unix_us;
        let did = neighbour::act(&mut state.rng, &state.world.volume, &mut state.oracle, now_us);
        match did {
            Ok(did) => state.history.note(format_args!("a neighbour {did}")),
            Err(error) => state.history.note(format_args!("a neighbour fails: {error}")),
        }
    }

    /// The process that has the account does a piece of work, under attack or not.
    pub(crate) fn serve(self: &Arc<Self>, attacked: bool) {
        let Some(mut process) = self.take_current() else { return };
        let takeovers = self.state().takeovers;
        let strike = if attacked { self.strike(&process) } else { Strike::Nothing };
        if process.owner.is_some() || self.open(&mut process) {
            self.work(&mut process, takeovers);
        }
        self.settle(process, takeovers, strike);
    }

    pub(crate) fn take_current(&self) -> Option<Process> {
        self.state().current.take()
    }

    /// Arms the nemesis.
    fn strike(self: &Arc<Self>, process: &Process) -> Strike {
        let state = &mut *self.state();
        let after = state.rng.random_range(0..STRIKE_WITHIN);
        let strike = match state.rng.random_range(0..100) {
            0..9 => Strike::Kill,
            9..20 => Strike::PowerCut,
            20..29 => Strike::Fail,
            29..32 => Strike::Full,
            32..38 => Strike::Lossy,
            38..60 if self.plan.volume == Volume::Shared => Strike::Paused,
            _ => Strike::Nothing,
        };
        let volume = &state.world.volume;
        match strike {
            Strike::Nothing => return strike,
            Strike::Kill | Strike::PowerCut => process.gate.stop_after(after),
            Strike::Fail => {
                let kinds = [ErrorKind::Failed, ErrorKind::Failed, ErrorKind::NoSpace, ErrorKind::OverQuota];
                let kind = kinds[state.rng.random_range(0..kinds.len())];
                let first = volume.operations() + after;
                let last = first + if state.rng.random_bool(0.7) { 0 } else { state.rng.random_range(0..20) };
                volume.fail_when(kind, move |call| (first..=last).contains(&call.index));
            }
            Strike::Full => volume.full_after(Some(state.rng.random_range(0..4000))),
            Strike::Lossy => state.world.service.lose(state.rng.random_range(30..100)),
            Strike::Paused => {
                let sim = Arc::clone(self);
                let served = state.rng.random_range(0..6);
                process.gate.pause_after(after, move || {
                    if sim.take_over() {
                        (0..served).for_each(|_| sim.serve(false));
                    }
                    sim.note(format_args!("the paused owner goes on"));
                });
            }
        }
        state.history.note(format_args!("nemesis: {strike:?} after {after} calls"));
        strike
    }

    /// Another node has the account from now on; the one that had it does not know. False if it cannot open it.
    pub(crate) fn take_over(self: &Arc<Self>) -> bool {
        let mut process = {
            let state = &mut *self.state();
            state.world.service.expire(state.session);
            state.takeovers += 1;
            let old = state.current.take().filter(|old| old.owner.is_some());
            let now = state.world.now;
            state.deposed.extend(old.map(|old| Process { deposed_at: now, ..old }));
            state.nodes += 1;
            let process = state.world.start(state.nodes);
            (state.session, state.gate) = (process.session, Arc::clone(&process.gate));
            state.history.note(format_args!("process {} takes the account over", process.number));
            process
        };
        let opened = self.open(&mut process);
        self.state().current = Some(process);
        opened
    }

    /// What the strike left, and the process back to its place.
    fn settle(&self, mut process: Process, takeovers: u64, strike: Strike) {
        let state = &mut *self.state();
        process.gate.disarm();
        state.world.volume.clear_faults();
        state.world.volume.full_after(None);
        state.world.service.lose(0);
        let is_dead = process.gate.is_dead();
        if is_dead && strike == Strike::PowerCut {
            let seed = state.rng.random();
            state.cut_power(seed);
        }
        let was_deposed = state.takeovers != takeovers;
        match (is_dead, was_deposed) {
            (true, true) => state.history.note(format_args!("process {} is killed, deposed", process.number)),
            (true, false) => {
                state.history.note(format_args!("process {} is killed, another starts", process.number));
                let node = process.node;
                drop(process);
                state.start_current(node);
            }
            (false, true) => {
                // Its registry would drop an owner that is not sound.
                process.owner = process.owner.take().filter(|owner| owner.is_sound());
                process.deposed_at = state.world.now;
                state.deposed.push(process);
            }
            (false, false) => {
                process.owner = process.owner.take().filter(|owner| owner.is_sound());
                state.current = Some(process);
            }
        }
    }
}

impl State {
    pub(crate) fn start_current(&mut self, node: u8) {
        let process = self.world.start(node);
        (self.session, self.gate) = (process.session, Arc::clone(&process.gate));
        self.current = Some(process);
    }

    /// Everything that runs ends; what was not synced is kept, lost or torn.
    pub(crate) fn cut_power(&mut self, seed: u64) {
        self.history.note(format_args!("the power is cut"));
        for process in std::mem::take(&mut self.deposed).iter().chain(&self.current) {
            process.gate.kill();
        }
        self.world.volume.crash(seed);
    }
}
