//! What happens to processes and to the service while nobody is in the middle of a call, and what becomes of it: sessions
//! that expire, take-overs, hand-overs.

use std::sync::Arc;

use account::Now;
use rand::RngExt;

use crate::Mutant;
use crate::coordination::Trouble;
use crate::invariants::j6_no_read_after_the_lease;
use crate::process::Gate;
use crate::schedule::Sim;
use crate::world::Process;

/// How long trouble lasts.
const TROUBLE_US: std::ops::Range<u64> = 1_000_000..60_000_000;
const SLICE_US: std::ops::Range<u64> = 200_000..3_000_000;
/// A hand-over that takes longer is called off (`locking.md` §7.1).
const HAND_OVER_SLICES: u32 = 8;
const HAND_OVER_SLICE_US: i64 = 250_000;

impl Sim {
    /// The time, as a process reads it that is about to do something.
    pub(crate) fn now(&self) -> Now {
        let mut state = self.state();
        state.world.catch_up();
        state.world.now
    }

    /// Clients of the process are shown so much from now on.
    pub(crate) fn shows(&self, process: &Process, lsn: u64) {
        self.state().readers.insert(process.number, (Arc::clone(&process.gate), lsn));
    }

    /// The process forgets the account: nobody is shown anything by it.
    pub(crate) fn drop_owner(&self, process: &mut Process) {
        process.owner = None;
        self.state().readers.remove(&process.number);
    }

    /// J6: what everybody would be shown now who asked.
    pub(crate) fn reads(&self) {
        let verdict = {
            let state = self.state();
            let living = state.readers.iter().filter(|(_, (gate, _))| !gate.is_dead());
            let mut verdict = Ok(());
            for (number, (_, lsn)) in living {
                let (is_answered, was_suspended) = state.world.service.answers_reads(*number);
                if is_answered && verdict.is_ok() {
                    verdict = j6_no_read_after_the_lease::check(state.oracle.lsn, *lsn, was_suspended);
                }
            }
            verdict
        };
        self.judge(verdict);
    }

    /// Something happens to whoever has the account, or to the service.
    pub(crate) fn trouble(self: &Arc<Self>) {
        let (number, trouble) = {
            let state = &mut *self.state();
            let troubles = [
                Trouble::Stopped,
                Trouble::Suspended,
                Trouble::CutOff,
                Trouble::CutOut,
                Trouble::CutBack,
                Trouble::BadNetwork,
                Trouble::NoQuorum,
                Trouble::NewLeader,
            ];
            let trouble = troubles[state.rng.random_range(0..troubles.len())];
            (state.current.as_ref().map_or(0, |process| process.number), trouble)
        };
        self.endure(number, trouble);
    }

    /// The trouble lasts for a while, and the others go on.
    pub(crate) fn endure(self: &Arc<Self>, number: u64, trouble: Trouble) {
        let mut left_us = {
            let state = &mut *self.state();
            let for_us = state.rng.random_range(TROUBLE_US);
            state.history.note(format_args!("trouble: {trouble:?} for process {number}, for {for_us} us"));
            state.world.service.begin(number, trouble, for_us);
            for_us
        };
        let stands = matches!(trouble, Trouble::Stopped | Trouble::Suspended);
        while left_us > 0 && !self.is_over() {
            let acts = {
                let state = &mut *self.state();
                let slice_us = state.rng.random_range(SLICE_US).min(left_us);
                left_us -= slice_us;
                state.world.step_clock(i64::try_from(slice_us).unwrap_or(0));
                state.rng.random_bool(0.3)
            };
            self.follow_the_map();
            self.reads();
            let is_other = self.state().current.as_ref().is_some_and(|process| process.number != number);
            if acts && (is_other || !stands) {
                self.serve(false);
            }
        }
        {
            let mut state = self.state();
            state.world.service.end(number);
            state.history.note(format_args!("process {number} is out of trouble"));
        }
        self.reads();
    }

    /// Whoever the service says has the account, has it; and if that is nobody alive, another node does.
    pub(crate) fn follow_the_map(self: &Arc<Self>) {
        let holder = self.state().world.service.holder().map(|(session, _)| session);
        let is_standby = self.state().standby.as_ref().is_some_and(|standby| Some(standby.session) == holder);
        if is_standby {
            let standby = self.state().standby.take();
            if let Some(standby) = standby {
                self.let_in(standby, "is handed the account");
            }
            return;
        }
        // It was taken for deposed while it stood still, and was let in again when it went on.
        let back = {
            let mut state = self.state();
            let place = state.deposed.iter().position(|process| Some(process.session) == holder);
            place.map(|place| state.deposed.remove(place))
        };
        if let Some(mut process) = back {
            self.drop_owner(&mut process);
            self.let_in(process, "has the account again");
            return;
        }
        let is_over = {
            let state = self.state();
            !state.world.service.is_live(state.session)
        };
        if is_over && self.plan.volume == account::tenure::Volume::Shared {
            let process = {
                let state = &mut *self.state();
                state.nodes += 1;
                state.world.start(state.nodes)
            };
            self.let_in(process, "takes the account over");
        }
    }

    /// Another process has the account from now on; the one that had it may not know.
    fn let_in(self: &Arc<Self>, mut process: Process, how: &str) {
        {
            let state = &mut *self.state();
            state.takeovers += 1;
            let old = state.current.take().filter(|old| old.owner.is_some() && !old.gate.is_dead());
            let now = state.world.now;
            state.deposed.extend(old.map(|old| Process { deposed_at: now, ..old }));
            state.session = process.session;
            state.history.note(format_args!("process {} {how}", process.number));
        }
        let takeovers = self.state().takeovers;
        self.open(&mut process);
        let state = &mut *self.state();
        if state.takeovers == takeovers {
            state.current = Some(process);
        }
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.state().world.service.holder().is_some_and(|(_, is_draining)| is_draining)
    }

    /// The balancer calls a hand-over off that did not come about.
    pub(crate) fn balance(&self) {
        let state = &mut *self.state();
        let is_draining = state.world.service.holder().is_some_and(|(_, is_draining)| is_draining);
        if is_draining && self.plan.mutant != Some(Mutant::HandOverNeverEnds) {
            state.world.service.call_off();
            state.history.note(format_args!("the hand-over is called off"));
        }
        if let Some(standby) = state.standby.take() {
            standby.gate.kill();
            state.world.service.is_dead(standby.number);
        }
    }

    /// A planned hand-over (§7.1), in which either side may end at any step, and the old owner may be late.
    pub(crate) fn hand_over(self: &Arc<Self>) {
        let Some(mut old) = self.take_current() else { return };
        let (Some(epoch), true) = (old.epoch, old.owner.is_some()) else {
            self.state().current = Some(old);
            return;
        };
        let (crash, is_late) = {
            let state = &mut *self.state();
            state.nodes += 1;
            let target = state.world.start(state.nodes);
            state.history.note(format_args!("process {} is to have the account", target.number));
            let wanted = state.world.service.drain(epoch, Some(target.node));
            state.standby = Some(target);
            if !wanted {
                state.history.note(format_args!("the epoch is over"));
            }
            (state.rng.random_range(0..9), state.rng.random_bool(0.4))
        };
        self.crash_if(crash == 0, &old);
        // Whoever hands over shows nothing any more, before it asks for that.
        if self.plan.mutant != Some(Mutant::ReadsWhileHandingOver) {
            self.state().readers.remove(&old.number);
        }
        if !is_late {
            let now = self.now();
            old.owner.iter_mut().for_each(|owner| owner.close(now));
            old.owner = None;
        }
        self.crash_if(crash == 1, &old);
        if !old.gate.is_dead() {
            let service = Arc::clone(&self.state().world.service);
            service.hand_over(old.number, epoch);
        }
        self.crash_if(crash == 2, &old);
        let target = self.state().standby.as_ref().map(|target| (target.number, Arc::clone(&target.gate)));
        if let Some((number, gate)) = target.filter(|_| crash == 3) {
            self.crash(number, &gate);
        }
        self.state().current = Some(old);
        for _ in 0..HAND_OVER_SLICES {
            self.follow_the_map();
            self.reads();
            if self.state().standby.is_none() {
                return;
            }
            self.state().world.step_clock(HAND_OVER_SLICE_US);
        }
        self.balance();
        self.stays();
    }

    /// What was not handed over stays where it is: opened again, if it was closed.
    fn stays(&self) {
        let state = &mut *self.state();
        let Some(process) = &mut state.current else { return };
        if process.gate.is_dead() {
            state.current = None;
        } else {
            process.owner = None;
        }
    }

    fn crash_if(&self, is_time: bool, process: &Process) {
        if is_time {
            self.crash(process.number, &process.gate);
        }
    }

    /// The process ends, and nobody is told: its lease has to run out.
    fn crash(&self, number: u64, gate: &Gate) {
        gate.kill();
        let mut state = self.state();
        state.world.service.is_dead(number);
        state.history.note(format_args!("process {number} and its machine are gone"));
    }
}
