//! What was acknowledged beside what is there: every difference, counted.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::load::{Ledger, Message, Reading};

pub(super) const ROWS: [&str; 14] = [
    "deliveries acknowledged",
    "flags acknowledged",
    "expunges acknowledged",
    "refused, or hung up",
    "**errors in the logs**",
    "**messages lost**",
    "**messages doubled**",
    "**messages not as sent**",
    "**expunged, and there again**",
    "**flags lost**",
    "**UIDs that named two messages**",
    "**changes of UIDVALIDITY**",
    "**messages that one server shows, the other does not**",
    "**accounts that can't be read**",
];

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub delivered: usize,
    pub flagged: usize,
    pub expunged: usize,
    pub refused: usize,
    /// Lines in which servers complain of what they found.
    pub errors: usize,
    /// Acknowledged, never to be expunged, and shown by neither server.
    pub lost: usize,
    pub doubled: usize,
    pub changed: usize,
    pub again: usize,
    pub flags_lost: usize,
    pub clashes: usize,
    pub validities: usize,
    pub differ: usize,
    pub unread: usize,
}

impl Tally {
    pub(super) fn rows(&self) -> [usize; ROWS.len()] {
        [
            self.delivered,
            self.flagged,
            self.expunged,
            self.refused,
            self.errors,
            self.lost,
            self.doubled,
            self.changed,
            self.again,
            self.flags_lost,
            self.clashes,
            self.validities,
            self.differ,
            self.unread,
        ]
    }

    /// What should not be.
    pub fn wrong(&self) -> usize {
        self.rows().iter().skip(4).sum()
    }
}

pub(super) fn count(ledger: &Ledger, readings: &[[Reading; 2]]) -> Tally {
    let mut tally = Tally {
        delivered: ledger.delivered.len(),
        flagged: ledger.flagged.len(),
        expunged: ledger.expunged.len(),
        refused: ledger.refused,
        ..Tally::default()
    };
    let mut places = ledger.places.clone();
    for (account, pair) in readings.iter().enumerate() {
        let shown: Vec<BTreeMap<&str, Vec<&Message>>> =
            pair.iter().flatten().map(|one| by_token(one)).collect();
        tally.unread += pair.len() - shown.len();
        let anywhere: BTreeSet<&str> = shown.iter().flat_map(|one| one.keys().copied()).collect();
        let everywhere = |token: &&&str| shown.iter().all(|one| one.contains_key(**token));
        tally.differ += anywhere.len() - anywhere.iter().filter(everywhere).count();
        for message in pair.iter().flatten().flatten() {
            if let Some(token) = &message.token {
                places.entry((account, message.uidvalidity, message.uid)).or_default().insert(token.clone());
            }
        }
        if !shown.is_empty() {
            tally.account(ledger, account, &anywhere, &shown);
        }
    }
    tally.clashes = places.values().filter(|tokens| tokens.len() > 1).count();
    let validities: BTreeSet<(usize, u32)> =
        places.keys().map(|(account, validity, _)| (*account, *validity)).collect();
    let accounts: BTreeSet<usize> = validities.iter().map(|(account, _)| *account).collect();
    tally.validities = validities.len() - accounts.len();
    tally
}

fn by_token(messages: &[Message]) -> BTreeMap<&str, Vec<&Message>> {
    let mut all: BTreeMap<&str, Vec<&Message>> = BTreeMap::new();
    for message in messages {
        all.entry(message.token.as_deref().unwrap_or_default()).or_default().push(message);
    }
    all
}

impl Tally {
    fn account(
        &mut self,
        ledger: &Ledger,
        account: usize,
        anywhere: &BTreeSet<&str>,
        shown: &[BTreeMap<&str, Vec<&Message>>],
    ) {
        let ours = |names: &BTreeSet<(usize, String)>| -> Vec<String> {
            names.iter().filter(|(of, _)| *of == account).map(|(_, token)| token.clone()).collect()
        };
        let is_there = |token: &String| anywhere.contains(token.as_str());
        let expunging = ours(&ledger.expunging);
        self.lost += ours(&ledger.delivered)
            .iter()
            .filter(|token| !is_there(token) && !expunging.contains(token))
            .count();
        self.again += ours(&ledger.expunged).iter().filter(|token| is_there(token)).count();
        let most =
            |token: &&str| shown.iter().filter_map(|one| one.get(token)).map(Vec::len).max().unwrap_or(0);
        self.doubled += anywhere.iter().filter(|token| !token.is_empty() && most(token) > 1).count();
        let messages = || shown.iter().flat_map(|one| one.values().flatten());
        let changed: BTreeSet<u32> = messages().filter(|one| !one.intact).map(|one| one.uid).collect();
        self.changed += changed.len();
        let has = |token: &str, flag: &String| {
            shown
                .iter()
                .any(|one| one.get(token).is_some_and(|all| all.iter().any(|one| one.flags.contains(flag))))
        };
        let flagged = ledger.flagged.iter().filter(|((of, token), _)| *of == account && is_there(token));
        self.flags_lost += flagged.filter(|((_, token), flag)| !has(token, flag)).count();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(uid: u32, token: &str, flags: &[&str]) -> Message {
        let flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        Message { uidvalidity: 7, uid, token: Some(token.to_owned()), flags, intact: true }
    }

    fn told(delivered: &[&str]) -> Ledger {
        let delivered = delivered.iter().map(|token| (0, (*token).to_owned())).collect();
        Ledger { delivered, ..Ledger::default() }
    }

    #[test]
    fn what_is_as_it_was_acknowledged_counts_nothing() {
        let mut ledger = told(&["a", "b", "c"]);
        ledger.expunging.insert((0, "c".to_owned()));
        ledger.expunged.insert((0, "c".to_owned()));
        ledger.flagged.insert(((0, "a".to_owned()), "\\Flagged".to_owned()));
        ledger.places.insert((0, 7, 1), BTreeSet::from(["a".to_owned()]));
        let inbox = vec![message(1, "a", &["\\Flagged"]), message(2, "b", &[])];
        let tally = count(&ledger, &[[Some(inbox.clone()), Some(inbox)]]);
        assert_eq!(tally.wrong(), 0, "{tally:?}");
        assert_eq!((tally.delivered, tally.flagged, tally.expunged), (3, 1, 1));
    }

    #[test]
    fn each_fault_is_counted_in_its_row() {
        let mut ledger = told(&["a", "b", "c", "d"]);
        ledger.expunging.insert((0, "c".to_owned()));
        ledger.expunged.insert((0, "c".to_owned()));
        ledger.flagged.insert(((0, "a".to_owned()), "Later".to_owned()));
        ledger.places.insert((0, 7, 1), BTreeSet::from(["b".to_owned()]));
        ledger.places.insert((0, 6, 1), BTreeSet::from(["b".to_owned()]));
        let mut torn = message(9, "d", &[]);
        torn.intact = false;
        let one = vec![message(1, "a", &[]), message(2, "a", &[]), message(3, "c", &[]), torn];
        let tally =
            count(&ledger, &[[Some(one), Some(vec![message(1, "a", &[])])], [None, Some(Vec::new())]]);
        let expected = Tally {
            delivered: 4,
            flagged: 1,
            expunged: 1,
            lost: 1,
            doubled: 1,
            changed: 1,
            again: 1,
            flags_lost: 1,
            clashes: 1,
            validities: 1,
            differ: 2,
            unread: 1,
            ..Tally::default()
        };
        assert_eq!(tally, expected);
    }
}
