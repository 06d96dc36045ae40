//! One history: steps by seed, then quiet, then everything must be well.
//!
//! Invariants
//! - While an owner works nothing of the simulation is held, so that another can be run in the middle of a call.
//! - A process that is killed tells its clients nothing.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use account::tenure::Volume;
use locking::SessionId;
use nfs_compat::ErrorKind;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::coordination::Trouble;
use crate::history::History;
use crate::invariants::{j1_one_session_an_epoch, j8_unlinked_after_removal};
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
    if !sim.is_over() {
        sim.quiet();
    }
    let decisions = sim.state().world.service.decisions();
    sim.judge(j1_one_session_an_epoch::check(&decisions));
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
    /// The process that has the account; taken out while it works. None while nobody lives who has it.
    pub(crate) current: Option<Process>,
    /// Owners that were deposed and go on.
    pub(crate) deposed: Vec<Process>,
    /// How many processes have had the account. It tells a process that works whether it was deposed meanwhile.
    pub(crate) takeovers: u64,
    /// Session of the process that has the account.
    pub(crate) session: SessionId,
    /// Sessions of clients: the process that they are connected to, and the last record that it showed them.
    pub(crate) readers: BTreeMap<u64, (Arc<Gate>, u64)>,
    /// A process that waits to be handed the account.
    pub(crate) standby: Option<Process>,
    pub(crate) nodes: u8,
    pub(crate) wrong: Option<String>,
    pub(crate) power_cuts: u32,
    /// The account says that acknowledged changes are gone. Nothing goes on from there.
    pub(crate) is_offline: bool,
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
        let mut world = World::new(seed, plan);
        let first = world.start(1);
        let session = first.session;
        let mut oracle = Oracle { only: plan.only, ..Oracle::default() };
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
            readers: BTreeMap::new(),
            standby: None,
            nodes: 1,
            wrong: None,
            power_cuts: 0,
            is_offline: false,
        };
        Self { state: Mutex::new(state), plan }
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn is_over(&self) -> bool {
        let state = self.state();
        state.wrong.is_some() || state.is_offline
    }

    pub(crate) fn note(&self, line: std::fmt::Arguments<'_>) {
        self.state().history.note(line);
    }

    pub(crate) fn judge(&self, verdict: Result<(), String>) {
        if let Err(what) = verdict
            && self.plan.counts(&what)
        {
            let mut state = self.state();
            state.history.note(format_args!("WRONG: {what}"));
            state.wrong.get_or_insert(what);
        }
    }

    /// One thing that happens.
    pub(crate) fn step(self: &Arc<Self>) {
        let dice = self.state().rng.random_range(0..100);
        let is_shared = self.plan.volume == Volume::Shared;
        match dice {
            0..8 => self.clock(),
            8..18 => self.neighbour(),
            18..24 if is_shared => self.trouble(),
            24..28 if is_shared => self.hand_over(),
            28..40 if is_shared => self.deposed_goes_on(),
            _ => self.serve(true),
        }
        self.follow_the_map();
        self.reads();
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
        if !self.state().world.service.believes(process.number) {
            self.drop_owner(&mut process);
        }
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
            Strike::Lossy => {
                let (lossy, slow) = (state.rng.random_range(30..100), state.rng.random_range(0..50));
                state.world.service.lose(lossy, slow);
            }
            Strike::Paused => {
                let sim = Arc::clone(self);
                let trouble = [Trouble::Stopped, Trouble::Suspended][state.rng.random_range(0..2)];
                let number = process.number;
                process.gate.pause_after(after, move || sim.endure(number, trouble));
            }
        }
        state.history.note(format_args!("nemesis: {strike:?} after {after} calls"));
        strike
    }

    /// What the strike left, and the process back to its place.
    fn settle(&self, mut process: Process, takeovers: u64, strike: Strike) {
        let state = &mut *self.state();
        process.gate.disarm();
        state.world.volume.clear_faults();
        state.world.volume.full_after(None);
        state.world.service.lose(0, 0);
        state.world.catch_up();
        let is_dead = process.gate.is_dead();
        if is_dead || process.owner.as_ref().is_none_or(|owner| !owner.is_sound()) {
            state.readers.remove(&process.number);
        }
        if is_dead && strike == Strike::PowerCut {
            let seed = state.rng.random();
            state.cut_power(seed);
        }
        let was_deposed = state.takeovers != takeovers;
        match (is_dead, was_deposed) {
            (true, true) => {
                state.world.service.is_dead(process.number);
                state.history.note(format_args!("process {} is killed, deposed", process.number));
            }
            (true, false) if self.plan.volume == Volume::Shared && state.rng.random_bool(0.3) => {
                state.world.service.is_dead(process.number);
                state.history.note(format_args!("process {} and its machine are gone", process.number));
            }
            (true, false) => {
                state.history.note(format_args!("process {} is killed, another starts", process.number));
                state.world.service.is_dead(process.number);
                state.start_current(process.node);
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
        self.session = process.session;
        self.current = Some(process);
    }

    /// Everything that runs ends; what was not synced is kept, lost or torn.
    pub(crate) fn cut_power(&mut self, seed: u64) {
        self.history.note(format_args!("the power is cut"));
        self.power_cuts += 1;
        let deposed = std::mem::take(&mut self.deposed);
        for process in deposed.iter().chain(&self.current).chain(&self.standby) {
            process.gate.kill();
            self.world.service.is_dead(process.number);
        }
        self.standby = None;
        self.readers.clear();
        self.world.volume.crash(seed);
    }
}

impl State {
    /// What is still to be outlived when the nemesis leaves: nothing, a restart, a machine that is gone, or all of them.
    pub(crate) fn last_blow(&mut self, volume: Volume) {
        let node = self.current.as_ref().map(|process| process.node);
        let dice = self.rng.random_range(0..4);
        match (dice, node) {
            (0, _) if volume == Volume::Shared => {}
            (1, _) if volume == Volume::Shared => {
                self.history.note(format_args!("the machine that has the account is gone"));
                if let Some(process) = self.current.take() {
                    process.gate.kill();
                    self.readers.remove(&process.number);
                    self.world.service.is_dead(process.number);
                }
            }
            (_, node) => {
                if dice < 3 {
                    let seed = self.rng.random();
                    self.cut_power(seed);
                }
                if let Some(process) = self.current.take() {
                    process.gate.kill();
                    self.readers.remove(&process.number);
                    self.world.service.is_dead(process.number);
                }
                if let Some(node) = node {
                    self.start_current(node);
                }
            }
        }
    }
}
