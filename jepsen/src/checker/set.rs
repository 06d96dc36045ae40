//! Every acknowledged message is there exactly once, where it was put last; a refused one is not there; one whose fate is
//! unknown is there once or not at all.
//!
//! Operations on one message follow one another (one client moves and expunges it), so what is possible after each is a
//! small set: not yet here, in a mailbox, gone. A complete read must be among what is possible, and decides it.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use crate::history::{Entry, MailboxView, Op, Outcome};

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    NotYet,
    In(String),
    Gone,
}

#[derive(Default)]
struct Possible {
    /// Messages that may be there.
    open: BTreeMap<String, BTreeSet<State>>,
    /// Messages that a read has shown to be absent, `Gone` or `NotYet`. They come back only by being added.
    closed: BTreeMap<String, State>,
}

pub fn check(account: usize, entries: &[&Entry]) -> Vec<Violation> {
    let mut possible = Possible::default();
    let mut violations = Vec::new();
    let mut last_read: Option<BTreeSet<String>> = None;
    for entry in entries {
        match &entry.op {
            Op::Add { token, mailbox, .. } => {
                step(&mut possible, token, entry.outcome, |state| match state {
                    State::NotYet => State::In(mailbox.clone()),
                    // The same delivery once more: it was stored, and is where it has gone since.
                    State::In(_) | State::Gone => state.clone(),
                });
            }
            Op::Move { token, from, to, .. } => {
                step(&mut possible, token, entry.outcome, |state| match state {
                    State::In(mailbox) if mailbox == from => State::In(to.clone()),
                    // Whoever moved it had seen it: a delivery to several is acknowledged when all have it.
                    State::NotYet => State::In(to.clone()),
                    State::In(_) | State::Gone => state.clone(),
                })
            }
            Op::Expunge { token, .. } => step(&mut possible, token, entry.outcome, |_| State::Gone),
            Op::Read { mailboxes } if entry.outcome == Outcome::Ok => {
                violations.extend(read(&mut possible, mailboxes));
                let inbox =
                    mailboxes.iter().filter(|view| view.mailbox == "INBOX").flat_map(|view| &view.messages);
                last_read = Some(inbox.map(|seen| seen.token.clone()).collect());
            }
            Op::Popped { messages } if entry.outcome == Outcome::Ok => {
                violations.extend(popped(messages, last_read.as_ref()));
            }
            Op::Flag { .. } | Op::Met { .. } | Op::Read { .. } | Op::Popped { .. } | Op::Kill => {}
        }
    }
    violations.into_iter().map(|what| Violation { rule: "set", account, what }).collect()
}

fn step(possible: &mut Possible, token: &str, outcome: Outcome, after: impl Fn(&State) -> State) {
    let before = possible.closed.remove(token).unwrap_or(State::NotYet);
    let states = possible.open.entry(token.to_owned()).or_insert_with(|| BTreeSet::from([before]));
    let happened: BTreeSet<State> = states.iter().map(after).collect();
    match outcome {
        Outcome::Ok => *states = happened,
        Outcome::Fail => {}
        Outcome::Info => states.extend(happened),
    }
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
        check(0, &refs(&sequence(steps))).into_iter().map(|violation| violation.what).collect()
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
