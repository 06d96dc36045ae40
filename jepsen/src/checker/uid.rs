//! A UID names one message for ever: (mailbox, UIDVALIDITY, UID) → message is a function. UIDNEXT and HIGHESTMODSEQ never
//! fall, UIDVALIDITY never changes while the mailbox lives, a new message gets a UID that is not below the UIDNEXT told
//! before, and a POP3 unique id names one message for ever too.

use std::collections::{BTreeMap, BTreeSet};

use super::{Mark, Violation, mark};
use crate::history::{Entry, MailboxView, Op, Outcome, Place};

#[derive(Default)]
struct Known<'a> {
    names: BTreeMap<Place, &'a str>,
    unique_ids: BTreeMap<&'a str, &'a str>,
    last: BTreeMap<&'a str, &'a MailboxView>,
    at: Mark,
    wrong: Vec<(Mark, String)>,
}

pub fn check(account: usize, entries: &[&Entry]) -> Vec<Violation> {
    let mut known = Known::default();
    for entry in entries.iter().filter(|entry| entry.outcome == Outcome::Ok) {
        known.at = mark(entry);
        match &entry.op {
            Op::Add { token, placed: Some(place), .. }
            | Op::Move { token, placed: Some(place), .. }
            | Op::Met { token, place } => known.named(place.clone(), token),
            Op::Read { mailboxes } => known.read(mailboxes),
            Op::Popped { messages } => known.popped(messages),
            Op::Add { .. } | Op::Move { .. } | Op::Expunge { .. } | Op::Flag { .. } | Op::Kill => {}
            Op::Raise { .. } | Op::Counters { .. } | Op::Glance { .. } | Op::Nemesis(_) => {}
            Op::MaildropOpened { .. } | Op::MaildropAnswered { .. } => {}
            Op::Marked { .. } | Op::Quit { .. } => {}
        }
    }
    let violation = |(mark, what)| Violation { rule: "uid", account, what, marks: vec![mark] };
    known.wrong.into_iter().map(violation).collect()
}

impl<'a> Known<'a> {
    fn tell(&mut self, what: String) {
        self.wrong.push((self.at, what));
    }

    fn named(&mut self, place: Place, token: &'a str) {
        let Some(before) = self.names.get(&place).copied() else {
            self.names.insert(place, token);
            return;
        };
        if before != token {
            self.tell(format!("{place:?} named {before} and now names {token}"));
        }
    }

    fn read(&mut self, mailboxes: &'a [MailboxView]) {
        for view in mailboxes {
            if let Some(before) = self.last.insert(&view.mailbox, view) {
                self.compare(before, view);
            }
            for seen in &view.messages {
                if seen.uid >= view.uidnext {
                    self.tell(format!("{}: UID {} with UIDNEXT {}", view.mailbox, seen.uid, view.uidnext));
                }
                let (mailbox, uidvalidity) = (view.mailbox.clone(), view.uidvalidity);
                self.named(Place { mailbox, uidvalidity, uid: seen.uid }, &seen.token);
            }
        }
        let there = |mailbox: &&str| mailboxes.iter().any(|view| view.mailbox == **mailbox);
        let vanished: Vec<&str> = self.last.keys().copied().filter(|mailbox| !there(mailbox)).collect();
        for mailbox in vanished {
            self.tell(format!("mailbox {mailbox} has vanished"));
        }
    }

    fn compare(&mut self, before: &MailboxView, now: &MailboxView) {
        let name = &now.mailbox;
        if before.uidvalidity != now.uidvalidity {
            self.tell(format!("{name}: UIDVALIDITY was {} and is {}", before.uidvalidity, now.uidvalidity));
            return;
        }
        if now.uidnext < before.uidnext {
            self.tell(format!("{name}: UIDNEXT fell from {} to {}", before.uidnext, now.uidnext));
        }
        if now.modseq < before.modseq {
            self.tell(format!("{name}: HIGHESTMODSEQ fell from {:?} to {:?}", before.modseq, now.modseq));
        }
        let old: BTreeSet<u32> = before.messages.iter().map(|seen| seen.uid).collect();
        for seen in now.messages.iter().filter(|seen| !old.contains(&seen.uid) && seen.uid < before.uidnext) {
            let (uid, token) = (seen.uid, &seen.token);
            self.tell(format!(
                "{name}: {token} came as UID {uid}, below UIDNEXT {} told before",
                before.uidnext
            ));
        }
    }

    fn popped(&mut self, messages: &'a [(String, String)]) {
        for (id, token) in messages {
            if let Some(before) = self.unique_ids.insert(id, token).filter(|before| *before != token) {
                self.tell(format!("POP3 unique id {id} named {before} and now names {token}"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::histories::{mailbox, place, read, refs, sequence};
    use super::*;

    fn violations(steps: Vec<(Outcome, Op)>) -> usize {
        check(0, &refs(&sequence(steps))).len()
    }

    fn met(uid: u32, token: &str) -> (Outcome, Op) {
        (Outcome::Ok, Op::Met { token: token.to_owned(), place: place("INBOX", uid) })
    }

    #[test]
    fn good_histories_pass() {
        let steps = vec![
            met(1, "a"),
            read(&[mailbox("INBOX", 3, &[(1, "a")])]),
            met(3, "b"),
            read(&[mailbox("INBOX", 4, &[(1, "a"), (3, "b")])]),
            read(&[mailbox("INBOX", 4, &[(3, "b")])]),
        ];
        assert_eq!(violations(steps), 0);
    }

    #[test]
    fn a_uid_that_names_two_messages_is_caught() {
        assert_eq!(violations(vec![met(1, "a"), met(1, "b")]), 1);
        let placed =
            Op::Add { token: "a".to_owned(), mailbox: "INBOX".to_owned(), placed: Some(place("INBOX", 1)) };
        // Given away by a crash: acknowledged to one, then given to the next.
        assert_eq!(violations(vec![(Outcome::Ok, placed), read(&[mailbox("INBOX", 2, &[(1, "b")])])]), 1);
    }

    #[test]
    fn what_falls_is_caught() {
        assert_eq!(violations(vec![read(&[mailbox("INBOX", 9, &[])]), read(&[mailbox("INBOX", 8, &[])])]), 1);
        let mut lower = mailbox("INBOX", 9, &[]);
        lower.modseq = Some(0);
        assert_eq!(violations(vec![read(&[mailbox("INBOX", 9, &[])]), read(&[lower])]), 1);
        let mut other = mailbox("INBOX", 9, &[]);
        other.uidvalidity = 2;
        assert_eq!(violations(vec![read(&[mailbox("INBOX", 9, &[])]), read(&[other])]), 1);
    }

    #[test]
    fn a_message_below_uidnext_is_caught() {
        let late = vec![read(&[mailbox("INBOX", 9, &[])]), read(&[mailbox("INBOX", 9, &[(4, "a")])])];
        assert_eq!(violations(late), 1);
        assert_eq!(violations(vec![read(&[mailbox("INBOX", 9, &[(9, "a")])])]), 1);
    }

    #[test]
    fn a_mailbox_that_vanishes_is_caught() {
        assert_eq!(
            violations(vec![
                read(&[mailbox("INBOX", 9, &[]), mailbox("A", 1, &[])]),
                read(&[mailbox("INBOX", 9, &[])])
            ]),
            1
        );
    }

    #[test]
    fn a_pop3_id_that_names_two_messages_is_caught() {
        let popped =
            |token: &str| (Outcome::Ok, Op::Popped { messages: vec![("1".to_owned(), token.to_owned())] });
        assert_eq!(violations(vec![popped("a"), popped("b")]), 1);
    }
}
