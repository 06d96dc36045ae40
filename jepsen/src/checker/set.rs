//! Every acknowledged message is there exactly once, where it was put last; a refused one is not there; one whose fate is
//! unknown is there once or not at all.
//!
//! Operations on one message follow one another (one client moves and expunges it), so what is possible after each is a
//! small set: not yet here, in a mailbox, gone. A complete read must be among what is possible, and decides it. Where an
//! operation without an answer may come late, it stays possible for ever.

use std::collections::{BTreeMap, BTreeSet};

use super::{Unanswered, Violation, mark};
use crate::history::{Entry, MailboxView, Op, Outcome};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    NotYet,
    In(String),
    Gone,
}

/// What an operation does to one message.
#[derive(Clone, Debug)]
enum Step {
    Add(String),
    Move(String, String),
    Expunge,
}

impl Step {
    fn after(&self, state: &State) -> State {
        match (self, state) {
            (Self::Add(mailbox), State::NotYet) => State::In(mailbox.clone()),
            // The same delivery once more: it was stored, and is where it has gone since.
            (Self::Add(_), State::In(_) | State::Gone) => state.clone(),
            (Self::Move(from, to), State::In(mailbox)) if mailbox == from => State::In(to.clone()),
            // Whoever moved it had seen it: a delivery to several is acknowledged when all have it.
            (Self::Move(_, to), State::NotYet) => State::In(to.clone()),
            (Self::Move(..), State::In(_) | State::Gone) => state.clone(),
            (Self::Expunge, _) => State::Gone,
        }
    }
}

#[derive(Default)]
struct Possible {
    /// Messages that may be there.
    open: BTreeMap<String, BTreeSet<State>>,
    /// Messages that a read has shown to be absent, `Gone` or `NotYet`. They come back only by being added.
    closed: BTreeMap<String, State>,
    /// What has no answer and may still happen.
    late: BTreeMap<String, Vec<Step>>,
}

impl Possible {
    fn step(&mut self, token: &str, outcome: Outcome, unanswered: Unanswered, step: Step) {
        let before = self.closed.remove(token).unwrap_or(State::NotYet);
        let states = self.open.entry(token.to_owned()).or_insert_with(|| BTreeSet::from([before]));
        let happened: BTreeSet<State> = states.iter().map(|state| step.after(state)).collect();
        match outcome {
            Outcome::Ok => *states = happened,
            Outcome::Fail => {}
            Outcome::Info => {
                states.extend(happened);
                if unanswered == Unanswered::MayComeLate {
                    self.late.entry(token.to_owned()).or_default().push(step);
                }
            }
        }
    }

    /// What may have come late has come, or has not.
    fn let_come(&mut self) {
        for (token, steps) in &self.late {
            let closed = self.closed.remove(token);
            let states = self.open.entry(token.clone()).or_default();
            states.extend(closed);
            loop {
                let more: BTreeSet<State> =
                    states.iter().flat_map(|state| steps.iter().map(|step| step.after(state))).collect();
                if more.is_subset(states) {
                    break;
                }
                states.extend(more);
            }
        }
    }
}

pub fn check(account: usize, entries: &[&Entry], unanswered: Unanswered) -> Vec<Violation> {
    let mut possible = Possible::default();
    let mut violations = Vec::new();
    let mut last_read: Option<BTreeSet<String>> = None;
    for entry in entries {
        let (mut wrong, outcome) = (Vec::new(), entry.outcome);
        match &entry.op {
            Op::Add { token, mailbox, .. } => {
                possible.step(token, outcome, unanswered, Step::Add(mailbox.clone()));
            }
            Op::Move { token, from, to, .. } => {
                possible.step(token, outcome, unanswered, Step::Move(from.clone(), to.clone()));
            }
            Op::Expunge { token, .. } => possible.step(token, outcome, unanswered, Step::Expunge),
            Op::Read { mailboxes } if outcome == Outcome::Ok => {
                possible.let_come();
                wrong = read(&mut possible, mailboxes);
                let inbox =
                    mailboxes.iter().filter(|view| view.mailbox == "INBOX").flat_map(|view| &view.messages);
                last_read = Some(inbox.map(|seen| seen.token.clone()).collect());
            }
            // Between two reads something late may come.
            Op::Popped { messages } if outcome == Outcome::Ok && possible.late.is_empty() => {
                wrong = popped(messages, last_read.as_ref());
            }
            Op::Read { .. } | Op::Popped { .. } | Op::Met { .. } | Op::Glance { .. } | Op::Kill => {}
            Op::Flag { .. } | Op::Raise { .. } | Op::Counters { .. } | Op::Nemesis(_) => {}
            Op::MaildropOpened { .. } | Op::MaildropAnswered { .. } => {}
            Op::Marked { .. } | Op::Quit { .. } => {}
        }
        let marks = vec![mark(entry)];
        violations.extend(wrong.into_iter().map(|what| Violation {
            rule: "set",
            account,
            what,
            marks: marks.clone(),
        }));
    }
    violations
}

fn read(possible: &mut Possible, mailboxes: &[MailboxView]) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut found: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for view in mailboxes {
        for seen in &view.messages {
            found.entry(&seen.token).or_default().push(&view.mailbox);
            if !seen.intact {
                wrong.push(format!(
                    "{} in {}, UID {}, is not as it was sent",
                    seen.token, view.mailbox, seen.uid
                ));
            }
        }
    }
    for (token, places) in &found {
        if places.len() > 1 {
            wrong.push(format!("{token} is there {} times, in {}", places.len(), places.join(" and ")));
        }
        match possible.closed.get(*token) {
            Some(state) => wrong.push(format!("{token} is there, but can only be {state:?}")),
            None if !possible.open.contains_key(*token) => {
                wrong.push(format!("{token} is there, and nobody put it there"));
            }
            None => {}
        }
    }
    let mut absent = Vec::new();
    for (token, states) in &mut possible.open {
        let places = found.get(token.as_str());
        let observed = |state: &State| match state {
            State::In(mailbox) => places.is_some_and(|places| places.contains(&mailbox.as_str())),
            State::NotYet | State::Gone => places.is_none(),
        };
        let kept: BTreeSet<State> = states.iter().filter(|state| observed(state)).cloned().collect();
        if kept.is_empty() {
            let there = places.map_or_else(|| "nowhere".to_owned(), |places| places.join(" and "));
            wrong.push(format!("{token} is {there}, but can only be {states:?}"));
        }
        if places.is_none() {
            absent.push((token.clone(), kept.into_iter().next().unwrap_or(State::Gone)));
        } else if !kept.is_empty() {
            *states = kept;
        }
    }
    for (token, state) in absent {
        possible.open.remove(&token);
        possible.closed.insert(token, state);
    }
    wrong
}

/// POP3 shows what IMAP shows of INBOX.
fn popped(messages: &[(String, String)], inbox: Option<&BTreeSet<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    let tokens: BTreeSet<String> = messages.iter().map(|(_, token)| token.clone()).collect();
    if tokens.len() != messages.len() {
        wrong.push(format!("POP3 shows a message twice among {messages:?}"));
    }
    if let Some(inbox) = inbox.filter(|inbox| **inbox != tokens) {
        let differ: Vec<&String> = inbox.symmetric_difference(&tokens).collect();
        wrong.push(format!("only one of IMAP and POP3 shows {differ:?}"));
    }
    wrong
}

#[cfg(test)]
mod tests {
    use super::super::histories::{add, expunge, mailbox, moved, read, refs, sequence};
    use super::*;

    fn violations(steps: Vec<(Outcome, Op)>) -> Vec<String> {
        check(0, &refs(&sequence(steps)), Unanswered::SettledByRead)
            .into_iter()
            .map(|violation| violation.what)
            .collect()
    }

    fn sees(messages: &[(u32, &str)]) -> (Outcome, Op) {
        read(&[mailbox("INBOX", 99, messages), mailbox("Archive", 99, &[])])
    }

    #[test]
    fn good_histories_pass() {
        let none: Vec<String> = Vec::new();
        assert_eq!(violations(vec![(Outcome::Ok, add("a")), sees(&[(1, "a")])]), none);
        assert_eq!(violations(vec![(Outcome::Info, add("a")), sees(&[])]), none);
        assert_eq!(violations(vec![(Outcome::Info, add("a")), sees(&[(1, "a")])]), none);
        assert_eq!(violations(vec![(Outcome::Fail, add("a")), sees(&[])]), none);
        assert_eq!(violations(vec![(Outcome::Ok, add("a")), (Outcome::Info, expunge("a")), sees(&[])]), none);
        // The retry of a delivery whose message has been expunged since.
        let retried = vec![
            (Outcome::Info, add("a")),
            sees(&[(1, "a")]),
            (Outcome::Ok, expunge("a")),
            (Outcome::Ok, add("a")),
            sees(&[]),
        ];
        assert_eq!(violations(retried), none);
        let archived = read(&[mailbox("INBOX", 9, &[]), mailbox("Archive", 9, &[(1, "a")])]);
        let (stored, tidied) = ((Outcome::Ok, add("a")), (Outcome::Ok, moved("a", "Archive")));
        assert_eq!(violations(vec![stored.clone(), tidied.clone(), archived.clone()]), none);
        // Somebody was faster than the last recipient of the delivery.
        assert_eq!(violations(vec![tidied, stored, archived]), none);
    }

    #[test]
    fn a_lost_message_is_caught() {
        assert_eq!(violations(vec![(Outcome::Ok, add("a")), sees(&[])]).len(), 1);
        // Also one that was never acknowledged, but seen.
        assert_eq!(violations(vec![(Outcome::Info, add("a")), sees(&[(1, "a")]), sees(&[])]).len(), 1);
    }

    #[test]
    fn a_message_twice_is_caught() {
        assert_eq!(violations(vec![(Outcome::Info, add("a")), sees(&[(1, "a"), (2, "a")])]).len(), 1);
        let both = read(&[mailbox("INBOX", 9, &[(1, "a")]), mailbox("Archive", 9, &[(1, "a")])]);
        let half_moved = vec![(Outcome::Ok, add("a")), (Outcome::Info, moved("a", "Archive")), both];
        assert_eq!(violations(half_moved).len(), 1);
    }

    #[test]
    fn a_message_that_comes_back_or_from_nowhere_is_caught() {
        let back = vec![(Outcome::Ok, add("a")), (Outcome::Ok, expunge("a")), sees(&[(1, "a")])];
        assert_eq!(violations(back).len(), 1);
        assert_eq!(violations(vec![(Outcome::Fail, add("a")), sees(&[(1, "a")])]).len(), 1);
        assert_eq!(violations(vec![sees(&[(1, "a")])]).len(), 1);
        // Unknown when the server died, absent after: it may not appear later.
        assert_eq!(violations(vec![(Outcome::Info, expunge("a")), sees(&[]), sees(&[(1, "a")])]).len(), 1);
        let unmoved = vec![(Outcome::Ok, add("a")), (Outcome::Ok, moved("a", "Archive")), sees(&[(1, "a")])];
        assert_eq!(violations(unmoved).len(), 1);
    }

    fn late_violations(steps: Vec<(Outcome, Op)>) -> usize {
        check(0, &refs(&sequence(steps)), Unanswered::MayComeLate).len()
    }

    #[test]
    fn where_answers_may_come_late_what_was_absent_may_appear_and_what_was_there_may_go() {
        let (ok, info) = (Outcome::Ok, Outcome::Info);
        let appears = || vec![(info, add("a")), sees(&[]), sees(&[(1, "a")])];
        assert_eq!(late_violations(appears()), 0);
        assert_eq!(violations(appears()).len(), 1, "not of a server that was killed as a whole");
        let goes = || vec![(ok, add("a")), (info, expunge("a")), sees(&[(1, "a")]), sees(&[])];
        assert_eq!(late_violations(goes()), 0);
        assert_eq!(violations(goes()).len(), 1);
    }

    #[test]
    fn where_answers_may_come_late_what_was_answered_is_held_to_it() {
        let (ok, info) = (Outcome::Ok, Outcome::Info);
        assert_eq!(late_violations(vec![(ok, add("a")), (info, add("b")), sees(&[])]), 1);
        let back = vec![(info, add("a")), (ok, add("a")), (ok, expunge("a")), sees(&[(1, "a")])];
        assert_eq!(late_violations(back), 1);
        let twice = vec![(info, add("a")), (ok, add("a")), sees(&[(1, "a"), (2, "a")])];
        assert_eq!(late_violations(twice), 1);
        let gone = vec![(info, expunge("a")), (ok, add("b")), sees(&[]), sees(&[(2, "a")])];
        assert_eq!(late_violations(gone), 2, "b is lost, and a comes from nowhere");
    }

    #[test]
    fn changed_bytes_are_caught() {
        let mut view = mailbox("INBOX", 9, &[(1, "a")]);
        view.messages[0].intact = false;
        assert_eq!(violations(vec![(Outcome::Ok, add("a")), read(&[view])]).len(), 1);
    }

    #[test]
    fn pop3_that_shows_something_else_is_caught() {
        let popped = |tokens: &[&str]| {
            let messages = tokens.iter().map(|token| (format!("id-{token}"), (*token).to_owned())).collect();
            (Outcome::Ok, Op::Popped { messages })
        };
        let steps = |tokens| vec![(Outcome::Ok, add("a")), sees(&[(1, "a")]), popped(tokens)];
        assert_eq!(violations(steps(&["a"])).len(), 0);
        assert_eq!(violations(steps(&[])).len(), 1);
        assert_eq!(violations(steps(&["a", "a"])).len(), 1);
    }
}
