//! UIDNEXT and HIGHESTMODSEQ of a mailbox never fall, whichever node is asked: what was told before a question began
//! bounds its answer. A message that is put there later gets a UID that is not below the UIDNEXT told before, and UIDNEXT
//! is above every UID told before.
//!
//! An answer that the server marks as perhaps behind is bounded by nothing, and bounds others all the same.

use std::collections::BTreeMap;

use super::{Mark, Violation, mark};
use crate::history::{Entry, Op, Outcome, Place};

/// What was told at a time, and binds what begins later.
struct Bound {
    told_us: u64,
    uidnext: u32,
    modseq: u64,
    mark: Mark,
}

/// What is bound by what was told before.
struct Answer {
    begun_us: u64,
    uidnext: u32,
    /// `None`: it is a UID that was given, and says nothing of modification sequences.
    modseq: Option<u64>,
    mark: Mark,
}

#[derive(Default)]
struct Mailbox {
    bounds: Vec<Bound>,
    answers: Vec<Answer>,
}

type Mailboxes<'a> = BTreeMap<(&'a str, u32), Mailbox>;

pub fn check(account: usize, entries: &[&Entry]) -> Vec<Violation> {
    let mut mailboxes = Mailboxes::new();
    for entry in entries.iter().filter(|entry| entry.outcome == Outcome::Ok) {
        match &entry.op {
            Op::Glance { frozen, mailbox, uidvalidity, uidnext, modseq } => {
                seen(&mut mailboxes, entry, (mailbox, *uidvalidity), (*uidnext, *modseq), *frozen);
            }
            Op::Read { mailboxes: views } => {
                for view in views {
                    let name = (view.mailbox.as_str(), view.uidvalidity);
                    seen(&mut mailboxes, entry, name, (view.uidnext, view.modseq), false);
                }
            }
            Op::Add { placed: Some(place), .. } | Op::Move { placed: Some(place), .. } => {
                given(&mut mailboxes, entry, place);
            }
            Op::Met { place, .. } => met(&mut mailboxes, entry, place),
            Op::Add { .. } | Op::Move { .. } | Op::Expunge { .. } | Op::Flag { .. } | Op::Popped { .. } => {}
            Op::Raise { .. } | Op::Counters { .. } | Op::Kill | Op::Nemesis(_) => {}
            Op::MaildropOpened { .. } | Op::MaildropAnswered { .. } => {}
            Op::Marked { .. } | Op::Quit { .. } => {}
        }
    }
    let each = mailboxes.into_iter().flat_map(|((name, validity), mailbox)| {
        mailbox.falls().into_iter().map(move |(what, marks)| {
            let what = format!("{name}, UIDVALIDITY {validity}: {what}");
            Violation { rule: "uid", account, what, marks }
        })
    });
    each.collect()
}

fn seen<'a>(
    mailboxes: &mut Mailboxes<'a>,
    entry: &Entry,
    name: (&'a str, u32),
    (uidnext, modseq): (u32, Option<u64>),
    frozen: bool,
) {
    let (mailbox, mark) = (mailboxes.entry(name).or_default(), mark(entry));
    mailbox.bounds.push(Bound { told_us: entry.told_us, uidnext, modseq: modseq.unwrap_or(0), mark });
    if !frozen {
        mailbox.answers.push(Answer { begun_us: entry.begun_us, uidnext, modseq, mark });
    }
}

fn given<'a>(mailboxes: &mut Mailboxes<'a>, entry: &Entry, place: &'a Place) {
    met(mailboxes, entry, place);
    let mailbox = mailboxes.entry((&place.mailbox, place.uidvalidity)).or_default();
    let (begun_us, mark) = (entry.begun_us, mark(entry));
    mailbox.answers.push(Answer { begun_us, uidnext: place.uid, modseq: None, mark });
}

fn met<'a>(mailboxes: &mut Mailboxes<'a>, entry: &Entry, place: &'a Place) {
    let mailbox = mailboxes.entry((&place.mailbox, place.uidvalidity)).or_default();
    let (told_us, uidnext) = (entry.told_us, place.uid.saturating_add(1));
    mailbox.bounds.push(Bound { told_us, uidnext, modseq: 0, mark: mark(entry) });
}

impl Mailbox {
    fn falls(mut self) -> Vec<(String, Vec<Mark>)> {
        self.bounds.sort_by_key(|bound| bound.told_us);
        self.answers.sort_by_key(|answer| answer.begun_us);
        let mut bounds = self.bounds.iter().peekable();
        let (mut uidnext, mut modseq): (Option<&Bound>, Option<&Bound>) = (None, None);
        let mut wrong = Vec::new();
        for answer in &self.answers {
            while let Some(bound) = bounds.next_if(|bound| bound.told_us < answer.begun_us) {
                if uidnext.is_none_or(|before| before.uidnext < bound.uidnext) {
                    uidnext = Some(bound);
                }
                if modseq.is_none_or(|before| before.modseq < bound.modseq) {
                    modseq = Some(bound);
                }
            }
            if let Some(before) = uidnext.filter(|before| answer.uidnext < before.uidnext) {
                let marks = vec![before.mark, answer.mark];
                let (now, before) = (answer.uidnext, before.uidnext);
                let what = match answer.modseq {
                    Some(_) => format!("UIDNEXT fell from {before} to {now}"),
                    None => format!("UID {now} was given, below UIDNEXT {before} told before"),
                };
                wrong.push((what, marks));
            }
            let fell = answer.modseq.zip(modseq).filter(|(now, before)| *now < before.modseq);
            if let Some((now, before)) = fell {
                let what = format!("HIGHESTMODSEQ fell from {} to {now}", before.modseq);
                wrong.push((what, vec![before.mark, answer.mark]));
            }
        }
        wrong
    }
}

#[cfg(test)]
mod tests {
    use super::super::histories::{place, refs, sequence};
    use super::*;

    fn glance(uidnext: u32, modseq: u64, frozen: bool) -> (Outcome, Op) {
        let mailbox = "INBOX".to_owned();
        (Outcome::Ok, Op::Glance { frozen, mailbox, uidvalidity: 1, uidnext, modseq: Some(modseq) })
    }

    fn added(uid: u32) -> (Outcome, Op) {
        let (token, mailbox) = (format!("t{uid}"), "INBOX".to_owned());
        (Outcome::Ok, Op::Add { token, mailbox, placed: Some(place("INBOX", uid)) })
    }

    fn violations(steps: Vec<(Outcome, Op)>) -> Vec<String> {
        check(0, &refs(&sequence(steps))).into_iter().map(|violation| violation.what).collect()
    }

    #[test]
    fn good_histories_pass() {
        let rising = vec![glance(3, 7, false), added(3), glance(4, 9, false), glance(4, 9, false), added(10)];
        assert_eq!(violations(rising), Vec::<String>::new());
        let frozen = vec![glance(5, 9, false), glance(4, 8, true), glance(5, 9, false)];
        assert_eq!(violations(frozen), Vec::<String>::new());
    }

    #[test]
    fn answers_to_questions_at_once_may_differ_either_way() {
        let mut history = sequence(vec![glance(5, 9, false), glance(4, 8, false)]);
        history[1].begun_us = history[0].begun_us;
        assert_eq!(check(0, &refs(&history)), []);
    }

    #[test]
    fn a_uidnext_that_falls_is_caught() {
        let wrong = violations(vec![glance(5, 9, false), glance(4, 9, false)]);
        assert_eq!(wrong, ["INBOX, UIDVALIDITY 1: UIDNEXT fell from 5 to 4"]);
        assert_eq!(violations(vec![added(7), glance(7, 9, false)]).len(), 1, "below a UID that was given");
        assert_eq!(violations(vec![glance(6, 9, true), glance(5, 9, false)]).len(), 1, "frozen, but said");
    }

    #[test]
    fn a_modseq_that_falls_is_caught() {
        let wrong = violations(vec![glance(5, 9, false), glance(6, 8, false)]);
        assert_eq!(wrong, ["INBOX, UIDVALIDITY 1: HIGHESTMODSEQ fell from 9 to 8"]);
    }

    #[test]
    fn a_uid_that_is_given_again_is_caught() {
        assert_eq!(violations(vec![added(7), added(7)]).len(), 1);
        assert_eq!(violations(vec![glance(9, 1, false), added(8)]).len(), 1);
    }
}
