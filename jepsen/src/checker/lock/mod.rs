//! Grants and witnesses are linearizable per bucket (J1, L-SM1, L-SM2).
//!
//! First come rules that say plainly what is wrong: an epoch belongs to one session; epochs rise with grants; nothing is
//! accepted under an epoch once a grant of a higher one was told; what was witnessed does not go back. A history that
//! keeps them all must also have an order in which a single register of epoch and witnesses would have answered so
//! ([`search`]).

mod search;

use std::collections::{BTreeMap, BTreeSet};

use super::{Mark, Violation, mark};
use crate::history::lock::LockOp;
use crate::history::{Entry, Outcome};

/// Everything that is wrong with a history. Buckets don't depend on each other.
pub fn check(history: &[Entry<LockOp>]) -> Vec<Violation> {
    let buckets: BTreeSet<usize> = history.iter().map(|entry| entry.account).collect();
    let each = buckets.into_iter().flat_map(|bucket| {
        let entries: Vec<&Entry<LockOp>> = history.iter().filter(|entry| entry.account == bucket).collect();
        let mut wrong = plainly(&entries);
        if wrong.is_empty() {
            wrong.extend(search::unexplained(&entries));
        }
        wrong.into_iter().map(move |(what, marks)| Violation { rule: "lock", account: bucket, what, marks })
    });
    each.collect()
}

/// Under an epoch until then, or from then on.
#[derive(Clone, Copy)]
struct Told {
    begun_us: u64,
    told_us: u64,
    epoch: u64,
    mark: Mark,
}

type Wrong = Vec<(String, Vec<Mark>)>;

fn plainly(entries: &[&Entry<LockOp>]) -> Wrong {
    let mut wrong = Wrong::new();
    let mut sessions: BTreeMap<u64, (u64, Mark)> = BTreeMap::new();
    let (mut grants, mut accepted) = (Vec::new(), Vec::new());
    let mut subkeys: BTreeMap<u8, Subkey> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.outcome == Outcome::Ok) {
        let mark = mark(entry);
        let told = |epoch| Told { begun_us: entry.begun_us, told_us: entry.told_us, epoch, mark };
        match &entry.op {
            LockOp::Grant { session, epoch } => {
                let first = *sessions.entry(*epoch).or_insert((*session, mark));
                if first.0 != *session {
                    let what = format!("epoch {epoch} was granted to sessions {} and {session}", first.0);
                    wrong.push((what, vec![first.1, mark]));
                }
                grants.push(told(*epoch));
            }
            LockOp::Witness { subkey, epoch, counter, .. } => {
                accepted.push(told(*epoch));
                subkeys.entry(*subkey).or_default().bounds.push((entry.told_us, *counter, mark));
            }
            LockOp::Read { subkey, found } => {
                let counter = found.map_or(0, |found| found.counter);
                let subkey = subkeys.entry(*subkey).or_default();
                subkey.bounds.push((entry.told_us, counter, mark));
                subkey.reads.push((entry.begun_us, counter, mark));
            }
            LockOp::Release { .. } | LockOp::Nemesis(_) => {}
        }
    }
    wrong.extend(after_a_higher_grant(&mut grants.clone(), &grants, "granted"));
    wrong.extend(after_a_higher_grant(&mut grants, &accepted, "a witness was accepted"));
    wrong.extend(subkeys.into_iter().flat_map(|(name, subkey)| subkey.backwards(name)));
    wrong
}

/// Whatever began under an epoch after a grant of a higher one was told.
fn after_a_higher_grant(grants: &mut [Told], later: &[Told], what: &str) -> Wrong {
    grants.sort_by_key(|grant| grant.told_us);
    let mut later: Vec<Told> = later.to_vec();
    later.sort_by_key(|told| told.begun_us);
    let mut grants = grants.iter().peekable();
    let mut highest: Option<&Told> = None;
    let mut wrong = Wrong::new();
    for told in &later {
        while let Some(grant) = grants.next_if(|grant| grant.told_us < told.begun_us) {
            if highest.is_none_or(|before| before.epoch < grant.epoch) {
                highest = Some(grant);
            }
        }
        if let Some(higher) = highest.filter(|higher| higher.epoch > told.epoch) {
            let what = format!("under epoch {} {what}, after epoch {} was granted", told.epoch, higher.epoch);
            wrong.push((what, vec![higher.mark, told.mark]));
        }
    }
    wrong
}

/// Counters of one subkey: what was known of it when, and what was read.
#[derive(Default)]
struct Subkey {
    bounds: Vec<(u64, u64, Mark)>,
    reads: Vec<(u64, u64, Mark)>,
}

impl Subkey {
    fn backwards(mut self, name: u8) -> Wrong {
        self.bounds.sort_unstable();
        self.reads.sort_unstable();
        let mut bounds = self.bounds.into_iter().peekable();
        let mut highest: Option<(u64, Mark)> = None;
        let mut wrong = Wrong::new();
        for (begun_us, counter, mark) in self.reads {
            while let Some((_, bound, at)) = bounds.next_if(|(told_us, ..)| *told_us < begun_us) {
                if highest.is_none_or(|(before, _)| before < bound) {
                    highest = Some((bound, at));
                }
            }
            if let Some((before, at)) = highest.filter(|(before, _)| *before > counter) {
                let what = format!("subkey {name}: counter {before} was known, and then {counter} read");
                wrong.push((what, vec![at, mark]));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests;
