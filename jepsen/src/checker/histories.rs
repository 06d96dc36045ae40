//! Short words for histories in tests.

use std::collections::BTreeSet;

use crate::history::{Entry, MailboxView, Op, Outcome, Place, Seen};

/// Entries one after the other: each begins when the one before was told.
pub(super) fn sequence(steps: Vec<(Outcome, Op)>) -> Vec<Entry> {
    let entry = |(at, (outcome, op)): (u64, (Outcome, Op))| Entry {
        client: 0,
        account: 0,
        begun_us: at * 10,
        told_us: at * 10 + 9,
        outcome,
        op,
    };
    (0..).zip(steps).map(entry).collect()
}

pub(super) fn place(mailbox: &str, uid: u32) -> Place {
    Place { mailbox: mailbox.to_owned(), uidvalidity: 1, uid }
}

pub(super) fn add(token: &str) -> Op {
    Op::Add { token: token.to_owned(), mailbox: "INBOX".to_owned(), placed: None }
}

pub(super) fn moved(token: &str, to: &str) -> Op {
    Op::Move { token: token.to_owned(), from: "INBOX".to_owned(), to: to.to_owned(), placed: None }
}

pub(super) fn expunge(token: &str) -> Op {
    Op::Expunge { token: token.to_owned(), mailbox: "INBOX".to_owned() }
}

pub(super) fn flag(token: &str, set: bool) -> Op {
    Op::Flag { token: token.to_owned(), flag: "\\Seen".to_owned(), set }
}

/// A mailbox of UIDVALIDITY 1 with these UIDs and tokens; a token that ends in `!` is \Seen.
pub(super) fn mailbox(name: &str, uidnext: u32, messages: &[(u32, &str)]) -> MailboxView {
    let seen = |(uid, token): &(u32, &str)| Seen {
        uid: *uid,
        token: token.trim_end_matches('!').to_owned(),
        flags: token.ends_with('!').then(|| "\\Seen".to_owned()).into_iter().collect::<BTreeSet<_>>(),
        intact: true,
    };
    let messages = messages.iter().map(seen).collect();
    MailboxView { mailbox: name.to_owned(), uidvalidity: 1, uidnext, modseq: Some(1), messages }
}

pub(super) fn read(mailboxes: &[MailboxView]) -> (Outcome, Op) {
    (Outcome::Ok, Op::Read { mailboxes: mailboxes.to_vec() })
}

pub(super) fn refs(history: &[Entry]) -> Vec<&Entry> {
    history.iter().collect()
}
