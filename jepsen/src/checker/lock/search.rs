//! The search for an order: a register per bucket, and every way in which what was under way can have happened.
//!
//! After Wing and Gong, as Lowe has it: the history is gone through in the order of its times, with all states that the
//! register may be in. Whenever an operation is answered, it must have happened in some of them by then; what else is
//! under way may have happened before it. States that are equal are one.
//!
//! What has no answer stays under way for ever, and may happen at any time: it is never needed twice, since a counter
//! stands for one value, and under an epoch that is over it can't happen. So the states stay few.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::super::{Mark, mark};
use crate::history::lock::{LockOp, Witness};
use crate::history::{Entry, NEVER, Outcome};

/// More states than this at once: the search gives up, and says so.
const STATES_MAX: usize = 50_000;
/// States that are shown when none is left.
const SHOWN: usize = 3;

/// A session that has no name yet: its grant had no answer.
const SOMEBODY: u64 = 0;

/// What the register of one bucket may be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    epoch: u64,
    /// `None`: released.
    session: Option<u64>,
    witnesses: BTreeMap<u8, Witness>,
}

impl State {
    /// The register after an operation was answered so, or `None` if it would not answer so.
    fn after(&self, op: &LockOp) -> Option<Self> {
        let mut after = self.clone();
        match op {
            LockOp::Grant { session, epoch } => {
                let theirs = [Some(*session), Some(SOMEBODY)].contains(&self.session);
                let has_it = self.epoch == *epoch && theirs;
                if !has_it && self.epoch >= *epoch {
                    return None;
                }
                (after.epoch, after.session) = (*epoch, Some(*session));
            }
            LockOp::Release { epoch } => {
                // Whoever had lost it before gives nothing back, and is told the same.
                if self.epoch < *epoch {
                    return None;
                }
                after.session = self.session.filter(|_| self.epoch > *epoch);
            }
            LockOp::Witness { subkey, epoch, counter, value } => {
                let owned = self.epoch == *epoch && self.session.is_some();
                let higher = self.witnesses.get(subkey).is_some_and(|before| before.counter > *counter);
                if !owned || higher {
                    return None;
                }
                let witness = Witness { epoch: *epoch, counter: *counter, value: *value };
                after.witnesses.insert(*subkey, witness);
            }
            LockOp::Read { subkey, found } => {
                if self.witnesses.get(subkey) != found.as_ref() {
                    return None;
                }
            }
            LockOp::Nemesis(_) => {}
        }
        Some(after)
    }
}

/// A state, and what of that under way has happened in it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Possible {
    state: State,
    happened: BTreeSet<usize>,
}

/// What is under way.
#[derive(Default)]
struct UnderWay {
    /// These will be answered.
    answered: BTreeSet<usize>,
    /// These won't.
    unknown: Vec<usize>,
}

/// The first answer that no order explains, if there is one.
pub(super) fn unexplained(entries: &[&Entry<LockOp>]) -> Option<(String, Vec<Mark>)> {
    let unanswered = match unanswered_grants(entries) {
        Ok(unanswered) => unanswered,
        Err(wrong) => return Some(wrong),
    };
    let entries: Vec<&Entry<LockOp>> = entries.iter().copied().chain(&unanswered).collect();
    search(&entries)
}

/// Grants that had no answer and happened: their epochs were used, so somebody was told of them, and not by an answer to
/// a grant. They happened before the first use.
fn unanswered_grants(entries: &[&Entry<LockOp>]) -> Result<Vec<Entry<LockOp>>, (String, Vec<Mark>)> {
    let mut granted: BTreeMap<u64, u64> = BTreeMap::new();
    let mut used: BTreeMap<u64, &Entry<LockOp>> = BTreeMap::new();
    let mut unanswered: Vec<u64> = Vec::new();
    for entry in entries {
        match (&entry.op, entry.outcome) {
            (LockOp::Grant { epoch, .. }, Outcome::Ok) => {
                let begun = granted.entry(*epoch).or_insert(entry.begun_us);
                *begun = entry.begun_us.min(*begun);
            }
            (LockOp::Grant { .. }, Outcome::Info) => unanswered.push(entry.begun_us),
            (LockOp::Witness { epoch, .. } | LockOp::Release { epoch }, _) => {
                let first = used.entry(*epoch).or_insert(entry);
                if entry.begun_us < first.begun_us {
                    *first = entry;
                }
            }
            (LockOp::Grant { .. }, Outcome::Fail) | (LockOp::Read { .. } | LockOp::Nemesis(_), _) => {}
        }
    }
    let mut found = Vec::new();
    for (epoch, first) in used {
        if granted.get(&epoch).is_some_and(|begun| *begun < first.begun_us) {
            continue;
        }
        let begun = unanswered.iter().copied().filter(|begun| *begun < first.begun_us).min();
        let Some(begun_us) = begun else {
            if granted.contains_key(&epoch) {
                continue;
            }
            return Err((format!("epoch {epoch} was used, and nobody was granted it"), vec![mark(first)]));
        };
        let op = LockOp::Grant { session: SOMEBODY, epoch };
        let (client, account) = (first.client, first.account);
        let (told_us, outcome) = (first.begun_us, Outcome::Ok);
        found.push(Entry { client, account, begun_us, told_us, outcome, op });
    }
    Ok(found)
}

fn search(entries: &[&Entry<LockOp>]) -> Option<(String, Vec<Mark>)> {
    let mut events = Vec::new();
    for (place, entry) in entries.iter().enumerate().filter(|(_, entry)| matters(entry)) {
        events.push((entry.begun_us, false, place));
        if entry.outcome == Outcome::Ok && entry.told_us != NEVER {
            events.push((entry.told_us, true, place));
        }
    }
    // At the same microsecond, beginnings first: they may have been at once.
    events.sort_unstable();
    let mut states = HashSet::from([Possible { state: State::default(), happened: BTreeSet::new() }]);
    let mut under_way = UnderWay::default();
    for (_, answered, place) in events {
        let entry = *entries.get(place)?;
        if !answered {
            match entry.outcome {
                Outcome::Ok => {
                    under_way.answered.insert(place);
                }
                Outcome::Info | Outcome::Fail => under_way.unknown.push(place),
            }
            continue;
        }
        let before = states;
        states = match explain(before.clone(), place, entries, &under_way) {
            Some(states) => states,
            None => {
                let what = format!("undecided: more than {STATES_MAX} orders are possible at {:?}", entry.op);
                return Some((what, vec![mark(entry)]));
            }
        };
        under_way.answered.remove(&place);
        if states.is_empty() {
            return Some(told(entry, &before, entries, &under_way));
        }
        forget(&mut under_way, &states, entries);
    }
    None
}

/// Refusals bind nothing: a session may have ended at any time. What is unknown matters if it may change something that
/// others see; of grants without an answer those that did are known ([`unanswered_grants`]).
fn matters(entry: &Entry<LockOp>) -> bool {
    match (&entry.op, entry.outcome) {
        (LockOp::Nemesis(_), _) | (_, Outcome::Fail) => false,
        (_, Outcome::Ok) => true,
        (LockOp::Witness { .. } | LockOp::Release { .. }, Outcome::Info) => true,
        (LockOp::Grant { .. } | LockOp::Read { .. }, Outcome::Info) => false,
    }
}

/// All states in which the operation has happened by now; `None` when there are too many.
fn explain(
    states: HashSet<Possible>,
    place: usize,
    entries: &[&Entry<LockOp>],
    under_way: &UnderWay,
) -> Option<HashSet<Possible>> {
    let mut explained = HashSet::new();
    let mut seen = HashSet::new();
    let mut next: Vec<Possible> = states.into_iter().collect();
    while let Some(mut possible) = next.pop() {
        read_at_once(&mut possible, entries, under_way);
        if !seen.insert(possible.clone()) {
            continue;
        }
        if seen.len() > STATES_MAX {
            return None;
        }
        if possible.happened.contains(&place) {
            // What else is under way may wait for its own answer.
            possible.happened.remove(&place);
            explained.insert(possible);
            continue;
        }
        let op_at = |place: &usize| entries.get(*place).map(|entry| &entry.op);
        for other in under_way.answered.iter().filter(|other| !possible.happened.contains(other)) {
            if let Some(state) = op_at(other).and_then(|op| possible.state.after(op)) {
                let mut happened = possible.happened.clone();
                happened.insert(*other);
                next.push(Possible { state, happened });
            }
        }
        for other in &under_way.unknown {
            let after = op_at(other).and_then(|op| possible.state.after(op));
            if let Some(state) = after.filter(|state| *state != possible.state) {
                next.push(Possible { state, happened: possible.happened.clone() });
            }
        }
    }
    Some(explained)
}

/// A read that the state answers as it was answered changes nothing: it may as well happen now.
fn read_at_once(possible: &mut Possible, entries: &[&Entry<LockOp>], under_way: &UnderWay) {
    for place in &under_way.answered {
        let Some(entry) = entries.get(*place) else { continue };
        if matches!(entry.op, LockOp::Read { .. }) && possible.state.after(&entry.op).is_some() {
            possible.happened.insert(*place);
        }
    }
}

/// What is unknown under an epoch that is over everywhere can't happen any more.
fn forget(under_way: &mut UnderWay, states: &HashSet<Possible>, entries: &[&Entry<LockOp>]) {
    let lowest = states.iter().map(|possible| possible.state.epoch).min().unwrap_or(0);
    under_way.unknown.retain(|place| match entries.get(*place).map(|entry| &entry.op) {
        Some(LockOp::Witness { epoch, .. } | LockOp::Release { epoch }) => *epoch >= lowest,
        Some(LockOp::Grant { .. } | LockOp::Read { .. } | LockOp::Nemesis(_)) | None => false,
    });
}

fn told(
    entry: &Entry<LockOp>,
    states: &HashSet<Possible>,
    entries: &[&Entry<LockOp>],
    under_way: &UnderWay,
) -> (String, Vec<Mark>) {
    let mut shown: Vec<String> = states
        .iter()
        .map(|possible| format!("{:?}", possible.state))
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect();
    shown.truncate(SHOWN);
    let what = format!(
        "no order explains {:?}; before it the register may have been {}",
        entry.op,
        shown.join(" or ")
    );
    let meanwhile =
        under_way.answered.iter().filter_map(|place| entries.get(*place).map(|entry| mark(entry)));
    (what, std::iter::once(mark(entry)).chain(meanwhile).collect())
}
