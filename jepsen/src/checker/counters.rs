//! Counters in keywords: what was acknowledged is never seen lower by a read that began after it; a session never sees
//! one fall; what one client saw, no later read sees less of; and nobody sees what was not written.
//!
//! One client raises the counter of a message, and leaves it alone when it got no answer: a change that comes late would
//! take the counter back. A read that the server marks as perhaps behind binds only its own session.

use std::collections::BTreeMap;

use super::{Mark, Violation, mark};
use crate::history::{Entry, Op, Outcome};

/// At least this much from then on.
struct Bound {
    told_us: u64,
    counter: u64,
    mark: Mark,
}

struct Read {
    begun_us: u64,
    told_us: u64,
    session: u64,
    frozen: bool,
    counter: u64,
    mark: Mark,
}

#[derive(Default)]
struct Message {
    /// Values that may have been written, with when that began.
    written: BTreeMap<u64, u64>,
    bounds: Vec<Bound>,
    reads: Vec<Read>,
}

pub fn check(account: usize, entries: &[&Entry]) -> Vec<Violation> {
    let mut messages: BTreeMap<&str, Message> = BTreeMap::new();
    for entry in entries {
        match &entry.op {
            Op::Raise { token, counter } => messages.entry(token).or_default().raised(entry, *counter),
            Op::Counters { session, frozen, counters } if entry.outcome == Outcome::Ok => {
                for (token, counter) in counters {
                    messages.entry(token).or_default().read(entry, *session, *frozen, *counter);
                }
            }
            Op::Add { .. } | Op::Move { .. } | Op::Expunge { .. } | Op::Flag { .. } | Op::Met { .. } => {}
            Op::Counters { .. } | Op::Read { .. } | Op::Popped { .. } | Op::Glance { .. } => {}
            Op::MaildropOpened { .. } | Op::MaildropAnswered { .. } => {}
            Op::Marked { .. } | Op::Quit { .. } | Op::Kill | Op::Nemesis(_) => {}
        }
    }
    let each = messages.into_iter().flat_map(|(token, message)| {
        message.wrong().into_iter().map(move |(what, marks)| {
            let what = format!("{token}: {what}");
            Violation { rule: "flags", account, what, marks }
        })
    });
    each.collect()
}

impl Message {
    fn raised(&mut self, entry: &Entry, counter: u64) {
        if entry.outcome != Outcome::Fail {
            let begun = self.written.entry(counter).or_insert(entry.begun_us);
            *begun = entry.begun_us.min(*begun);
        }
        if entry.outcome == Outcome::Ok {
            self.bounds.push(Bound { told_us: entry.told_us, counter, mark: mark(entry) });
        }
    }

    fn read(&mut self, entry: &Entry, session: u64, frozen: bool, counter: u64) {
        let (begun_us, told_us, mark) = (entry.begun_us, entry.told_us, mark(entry));
        self.bounds.push(Bound { told_us, counter, mark });
        self.reads.push(Read { begun_us, told_us, session, frozen, counter, mark });
    }

    fn wrong(mut self) -> Vec<(String, Vec<Mark>)> {
        self.bounds.sort_by_key(|bound| bound.told_us);
        self.reads.sort_by_key(|read| read.begun_us);
        let mut bounds = self.bounds.iter().peekable();
        let mut highest: Option<&Bound> = None;
        let mut sessions: BTreeMap<u64, &Read> = BTreeMap::new();
        let mut wrong = Vec::new();
        for read in &self.reads {
            while let Some(bound) = bounds.next_if(|bound| bound.told_us < read.begun_us) {
                if highest.is_none_or(|before| before.counter < bound.counter) {
                    highest = Some(bound);
                }
            }
            let (session, counter) = (read.session, read.counter);
            let begun = self.written.get(&counter);
            if counter != 0 && begun.is_none_or(|begun| *begun > read.told_us) {
                wrong.push((format!("{counter} was read, and nobody wrote it"), vec![read.mark]));
            }
            let own = sessions.insert(session, read).filter(|own| own.counter > counter);
            let highest = highest.filter(|before| before.counter > counter && !read.frozen);
            if let Some(own) = own {
                let what = format!("session {session} read {} and then {counter}", own.counter);
                wrong.push((what, vec![own.mark, read.mark]));
            } else if let Some(before) = highest {
                let what = format!("{} was acknowledged or read, and then {counter} read", before.counter);
                wrong.push((what, vec![before.mark, read.mark]));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::super::histories::{refs, sequence};
    use super::*;

    fn raise(outcome: Outcome, counter: u64) -> (Outcome, Op) {
        (outcome, Op::Raise { token: "a".to_owned(), counter })
    }

    fn sees(session: u64, counter: u64) -> (Outcome, Op) {
        let counters = BTreeMap::from([("a".to_owned(), counter)]);
        (Outcome::Ok, Op::Counters { session, frozen: false, counters })
    }

    fn frozen(session: u64, counter: u64) -> (Outcome, Op) {
        let counters = BTreeMap::from([("a".to_owned(), counter)]);
        (Outcome::Ok, Op::Counters { session, frozen: true, counters })
    }

    fn violations(steps: Vec<(Outcome, Op)>) -> Vec<String> {
        check(0, &refs(&sequence(steps))).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn good_histories_pass() {
        let (ok, info, fail) = (Outcome::Ok, Outcome::Info, Outcome::Fail);
        let none = Vec::<String>::new();
        assert_eq!(violations(vec![sees(1, 0), raise(ok, 1), sees(1, 1), raise(ok, 2), sees(2, 2)]), none);
        assert_eq!(violations(vec![raise(info, 1), sees(1, 0), sees(2, 1), sees(1, 1)]), none, "late");
        assert_eq!(violations(vec![raise(ok, 1), raise(fail, 2), sees(1, 1)]), none);
        assert_eq!(violations(vec![raise(ok, 1), frozen(1, 0), sees(2, 1)]), none);
    }

    #[test]
    fn a_read_among_the_change_may_see_either() {
        for counter in [1, 2] {
            let mut history = sequence(vec![raise(Outcome::Ok, 1), raise(Outcome::Ok, 2), sees(1, counter)]);
            history[2].begun_us = history[1].begun_us;
            assert_eq!(check(0, &refs(&history)), []);
        }
    }

    #[test]
    fn an_acknowledged_value_that_is_not_there_is_caught() {
        let wrong = violations(vec![raise(Outcome::Ok, 1), raise(Outcome::Ok, 2), sees(1, 1)]);
        assert_eq!(wrong, ["a: 2 was acknowledged or read, and then 1 read"]);
    }

    #[test]
    fn a_value_that_was_seen_and_is_not_there_is_caught() {
        let (ok, info) = (Outcome::Ok, Outcome::Info);
        assert_eq!(violations(vec![raise(ok, 1), raise(info, 2), sees(1, 2), sees(2, 1)]).len(), 1);
    }

    #[test]
    fn a_session_that_sees_a_counter_fall_is_caught_even_when_frozen() {
        let (ok, info) = (Outcome::Ok, Outcome::Info);
        let wrong = violations(vec![raise(ok, 1), raise(info, 2), sees(1, 2), frozen(1, 1)]);
        assert_eq!(wrong, ["a: session 1 read 2 and then 1"]);
    }

    #[test]
    fn a_value_that_nobody_wrote_is_caught() {
        assert_eq!(violations(vec![raise(Outcome::Fail, 1), sees(1, 1)]).len(), 1);
        assert_eq!(violations(vec![sees(1, 3), raise(Outcome::Ok, 3)]).len(), 1, "before it was written");
    }
}
