//! Every acknowledged flag change is there, unless a later one undid it.
//!
//! Changes of one flag of one message may overlap. The value read is right when some change that gives it, or the
//! absence at the beginning, may have been the last: no acknowledged change to the other value began after it was over.

use std::collections::BTreeMap;

use super::{Unanswered, Violation, mark};
use crate::history::{Entry, Op, Outcome};

#[derive(Clone, Copy, Debug)]
struct Change {
    set: bool,
    begun_us: u64,
    /// When it was over. An unknown one is over when the server is killed.
    over_us: u64,
    certain: bool,
}

pub fn check(account: usize, entries: &[&Entry], unanswered: Unanswered) -> Vec<Violation> {
    let kills: Vec<u64> =
        entries.iter().filter(|entry| matches!(entry.op, Op::Kill)).map(|entry| entry.told_us).collect();
    let mut changes: BTreeMap<(&str, &str), Vec<Change>> = BTreeMap::new();
    let mut violations = Vec::new();
    for entry in entries {
        match &entry.op {
            Op::Flag { token, flag, set } if entry.outcome != Outcome::Fail => {
                let certain = entry.outcome == Outcome::Ok;
                let killed = kills.iter().find(|kill| **kill >= entry.begun_us).copied().unwrap_or(u64::MAX);
                let over_us = if certain { entry.told_us } else { killed };
                let change = Change { set: *set, begun_us: entry.begun_us, over_us, certain };
                changes.entry((token, flag)).or_default().push(change);
            }
            Op::Read { mailboxes } if entry.outcome == Outcome::Ok => {
                let seen = mailboxes.iter().flat_map(|view| &view.messages);
                let seen: BTreeMap<&str, _> = seen.map(|seen| (seen.token.as_str(), seen)).collect();
                // What is not there has no flags to lose, and does not come back (set.rs).
                changes.retain(|(token, _), _| seen.contains_key(token));
                for ((token, flag), made) in &mut changes {
                    let set = seen.get(token).is_some_and(|seen| seen.flags.contains(*flag));
                    if !may_be(set, made) {
                        let what = format!(
                            "{token}: {flag} is {} against {made:?}",
                            if set { "set" } else { "unset" }
                        );
                        let marks = vec![mark(entry)];
                        violations.push(Violation { rule: "flags", account, what, marks });
                    }
                    // Read with nobody at work: from here on this is its value.
                    let (begun_us, over_us) = (entry.begun_us, entry.told_us);
                    made.retain(|change| unanswered == Unanswered::MayComeLate && !change.certain);
                    made.push(Change { set, begun_us, over_us, certain: true });
                }
            }
            // Some servers mark as \Seen what POP3 has retrieved, some do not.
            Op::Popped { messages } => {
                let (begun_us, over_us) = (entry.begun_us, entry.told_us);
                for (_, token) in messages {
                    let change = Change { set: true, begun_us, over_us, certain: false };
                    changes.entry((token, "\\Seen")).or_default().push(change);
                }
            }
            Op::Add { .. } | Op::Move { .. } | Op::Expunge { .. } | Op::Flag { .. } => {}
            Op::Met { .. } | Op::Read { .. } | Op::Glance { .. } | Op::Kill | Op::Nemesis(_) => {}
            Op::Raise { .. } | Op::Counters { .. } => {}
            Op::MaildropOpened { .. } | Op::MaildropAnswered { .. } => {}
            Op::Marked { .. } | Op::Quit { .. } => {}
        }
    }
    violations
}

fn may_be(set: bool, changes: &[Change]) -> bool {
    let undone = |change: &Change| {
        changes
            .iter()
            .any(|other| other.certain && other.set != change.set && other.begun_us > change.over_us)
    };
    let never_set = !set && !changes.iter().any(|change| change.certain && change.set);
    never_set || changes.iter().any(|change| change.set == set && !undone(change))
}

#[cfg(test)]
mod tests {
    use super::super::histories::{flag, mailbox, read, refs, sequence};
    use super::*;

    fn violations(history: &[Entry]) -> usize {
        check(0, &refs(history), Unanswered::SettledByRead).len()
    }

    fn sees(token: &str) -> (Outcome, Op) {
        read(&[mailbox("INBOX", 9, &[(1, token)])])
    }

    #[test]
    fn good_histories_pass() {
        assert_eq!(violations(&sequence(vec![sees("a"), (Outcome::Ok, flag("a", true)), sees("a!")])), 0);
        assert_eq!(violations(&sequence(vec![(Outcome::Info, flag("a", true)), sees("a")])), 0);
        assert_eq!(violations(&sequence(vec![(Outcome::Info, flag("a", true)), sees("a!")])), 0);
        let undone = vec![(Outcome::Ok, flag("a", true)), (Outcome::Ok, flag("a", false)), sees("a")];
        assert_eq!(violations(&sequence(undone)), 0);
    }

    #[test]
    fn a_lost_change_is_caught() {
        assert_eq!(violations(&sequence(vec![(Outcome::Ok, flag("a", true)), sees("a")])), 1);
        let undone = vec![(Outcome::Ok, flag("a", true)), (Outcome::Ok, flag("a", false)), sees("a!")];
        assert_eq!(violations(&sequence(undone)), 1);
    }

    #[test]
    fn an_unknown_change_that_was_not_there_does_not_come_later() {
        assert_eq!(violations(&sequence(vec![(Outcome::Info, flag("a", true)), sees("a"), sees("a!")])), 1);
    }

    #[test]
    fn where_answers_may_come_late_an_unknown_change_may_show_after_a_read_and_a_lost_one_may_not() {
        let late = |steps| check(0, &refs(&sequence(steps)), Unanswered::MayComeLate).len();
        assert_eq!(late(vec![(Outcome::Info, flag("a", true)), sees("a"), sees("a!")]), 0);
        assert_eq!(late(vec![(Outcome::Ok, flag("a", true)), sees("a")]), 1);
        assert_eq!(late(vec![sees("a"), (Outcome::Ok, flag("a", true)), sees("a!"), sees("a")]), 1);
    }

    #[test]
    fn a_refused_change_that_happened_is_caught_when_another_was_acknowledged() {
        let refused = vec![(Outcome::Ok, flag("a", false)), (Outcome::Fail, flag("a", true)), sees("a!")];
        assert_eq!(violations(&sequence(refused)), 1);
    }

    #[test]
    fn overlapping_changes_may_end_either_way() {
        for token in ["a", "a!"] {
            let mut history =
                sequence(vec![(Outcome::Ok, flag("a", true)), (Outcome::Ok, flag("a", false)), sees(token)]);
            history[1].begun_us = history[0].begun_us;
            assert_eq!(violations(&history), 0);
        }
    }

    #[test]
    fn an_unknown_change_does_not_happen_after_the_kill() {
        let steps = vec![
            (Outcome::Info, flag("a", true)),
            (Outcome::Ok, Op::Kill),
            (Outcome::Ok, flag("a", false)),
            sees("a!"),
        ];
        assert_eq!(violations(&sequence(steps)), 1);
    }
}
