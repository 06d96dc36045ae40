//! Names as clients see them. Clashes between sites are in the conflict table's tests.

use super::*;
use crate::op::{Claim, Path};
use crate::{AccountId, Dot, Op, Record, ReplicaId, SiteId, Stamp};

/// An account whose mailboxes are claimed one after the other.
struct Account {
    state: AccountState,
    next: u64,
}

fn empty() -> Account {
    let account = AccountId::derive("test", "ada@example.org", 0);
    Account { state: AccountState::new(account, SiteId::new(0).unwrap()), next: 1 }
}

impl Account {
    fn apply(&mut self, op: Op) {
        let dot = Dot::new(ReplicaId::new(SiteId::new(0).unwrap(), 1), self.next).unwrap();
        let stamp = Stamp::from_u64(self.next << 4);
        self.next += 1;
        self.state.apply(&Record { dot, stamp, modseq: stamp.into(), op }, 0);
    }

    /// A mailbox whose id begins with `ab` `cd`, then `n`.
    fn claim(&mut self, n: u8, parent: Option<MailboxId>, level: &str) -> MailboxId {
        let mut bytes = [n; 16];
        (bytes[0], bytes[1]) = (0xab, 0xcd);
        let mailbox = MailboxId::from_bytes(bytes);
        self.claim_id(mailbox, parent, level);
        mailbox
    }

    fn claim_id(&mut self, mailbox: MailboxId, parent: Option<MailboxId>, level: &str) {
        self.apply(Op::MailboxCreate(Claim {
            mailbox,
            path: Path { parent, level: level.to_owned() },
            left: None,
            observed: vec![],
            seen_deletes: vec![],
            uid_validity: UidValidity::new(1).unwrap(),
            special_use: None,
        }));
    }

    fn delete(&mut self, mailbox: MailboxId) {
        let known = self.state.mailbox(mailbox).unwrap();
        let (observed, context) = (known.observed_tags(), self.state.version().clone());
        let gone = known.name().unwrap().path.clone();
        self.apply(Op::MailboxDelete { mailbox, observed, context, gone });
    }

    fn names(&self) -> Vec<String> {
        mailboxes(&self.state).iter().map(|mailbox| mailbox.name.to_string()).collect()
    }
}

#[test]
fn inbox_is_there_before_anything_happened() {
    let account = empty();
    let shown = mailboxes(&account.state);
    assert_eq!(shown.len(), 1);
    assert!(shown[0].selectable && shown[0].name.is_inbox());
    assert_eq!((shown[0].id, shown[0].uid_validity), (account.state.inbox(), None));
}

#[test]
fn nobody_takes_the_name_of_inbox() {
    // RFC 9051 §5.1: INBOX in any case is INBOX.
    let mut account = empty();
    account.claim(1, None, "inbox");
    account.claim(2, None, "Inbox");
    let inbox = account.state.inbox();
    account.claim(3, Some(inbox), "Sub");
    account.claim_id(inbox, None, "Elsewhere");
    assert_eq!(account.names(), ["INBOX", "INBOX/Sub", "INBOX~abcd", "INBOX~abcd0"]);
}

#[test]
fn a_suffix_is_as_long_as_makes_it_unique() {
    // V5.
    let mut account = empty();
    let first = account.claim(0x11, None, "P");
    account.claim(0x22, None, "P");
    account.claim(0x23, None, "P");
    account.claim(0x31, Some(first), "P");
    account.claim(0x41, None, "P~abcd24");
    assert_eq!(account.names(), ["INBOX", "P", "P/P", "P~abcd", "P~abcd2", "P~abcd24"]);
}

#[test]
fn a_mailbox_that_has_no_name_where_it_was_put_is_shown_at_the_top() {
    let mut account = empty();
    let bad = account.claim(1, None, "../etc");
    account.claim(2, Some(bad), "Child");
    let unknown = MailboxId::from_bytes([9; 16]);
    account.claim(3, Some(unknown), "Orphan");
    assert_eq!(account.names(), ["INBOX", "Mailbox~abcd", "Mailbox~abcd/Child", "Orphan"]);
    let mut parent = None;
    for n in 10..32 {
        parent = Some(account.claim(n, parent, "deep"));
    }
    let names = account.names();
    assert_eq!(names.len(), 4 + 22, "none is lost beyond the depth that names can have");
    assert!(names.contains(&"deep~abcd/deep".to_owned()));
}

#[test]
fn a_mailbox_below_itself_is_shown() {
    let mut account = empty();
    let own = account.claim(1, None, "P");
    account.claim_id(MailboxId::from_bytes([7; 16]), Some(MailboxId::from_bytes([7; 16])), "Loop");
    account.claim(2, Some(own), "C");
    assert_eq!(account.names(), ["INBOX", "Loop~0707", "P", "P/C"]);
}

#[test]
fn a_deleted_mailbox_is_shown_as_long_as_it_has_children() {
    // V4.
    let mut account = empty();
    let p = account.claim(1, None, "P");
    let c = account.claim(2, Some(p), "C");
    account.claim(3, Some(c), "D");
    account.delete(p);
    account.delete(c);
    let selectable: Vec<_> =
        mailboxes(&account.state).iter().map(|m| (m.selectable, m.has_children)).collect();
    assert_eq!(account.names(), ["INBOX", "P", "P/C", "P/C/D"]);
    assert_eq!(selectable, [(true, false), (false, true), (false, true), (true, false)]);
}

#[test]
fn subscriptions_name_mailboxes_that_are_not_there() {
    let mut account = empty();
    account.claim(1, None, "P");
    for (name, on) in [("P", true), ("Gone", true), ("Never", false)] {
        account.apply(Op::Subscribe { name: name.to_owned(), on });
    }
    let shown = mailboxes(&account.state);
    assert!(shown.iter().any(|mailbox| mailbox.name.as_str() == "P" && mailbox.subscribed));
    let missing = subscriptions_without_mailbox(&account.state, &shown);
    assert_eq!(missing, [MailboxName::new("Gone").unwrap()]);
}

#[test]
fn a_special_use_is_shown_until_it_is_taken_away() {
    let mut account = empty();
    let mailbox = account.claim(1, None, "Outgoing");
    for purpose in [Some(SpecialUse::Sent), None] {
        account.apply(Op::SpecialUse { mailbox, purpose });
        let shown = mailboxes(&account.state).into_iter().find(|shown| shown.id == mailbox).unwrap();
        assert_eq!(shown.special_use, purpose);
    }
}
