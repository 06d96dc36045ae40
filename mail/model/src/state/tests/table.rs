//! The conflict table (`replication.md` §7), row by row: A and B act without having heard of each other, then meet.
//!
//! Messages are here; mailboxes, registers and UIDs in files of their own. Rows that are decided elsewhere: 35 (limits come from the user database), 40 (accounts, not their state).

mod mailboxes;
mod registers;
mod uids;

use super::sites::{Site, honest, shown};
use crate::{EntryId, MailboxId};

/// Two sites and what both knew before they parted.
struct Parted {
    a: Site,
    b: Site,
    inbox: MailboxId,
    m: MailboxId,
    /// A message in INBOX, and two in M.
    e: EntryId,
    in_m: [EntryId; 2],
}

fn parted() -> Parted {
    let (mut a, mut b) = (Site::new(0, honest), Site::new(1, honest));
    let inbox = a.create_inbox();
    let m = a.create(None, "M");
    let e = a.append(inbox, "e");
    let in_m = [a.append(m, "one"), a.append(m, "two")];
    a.send_all(&mut b);
    Parted { a, b, inbox, m, e, in_m }
}

impl Parted {
    /// Both hear of everything: A has its own operations first, B its own. They must agree.
    fn meet(&mut self) {
        let before = self.a.clone();
        self.b.send_all(&mut self.a);
        before.send_all(&mut self.b);
        assert_eq!(shown(&self.a.state), shown(&self.b.state));
        assert_eq!(self.a.state.digest(), self.b.state.digest());
    }

    fn where_is(&self, entry: EntryId) -> Option<MailboxId> {
        self.a.state.place_of(entry).map(|place| place.mailbox)
    }

    fn uid_of(&self, entry: EntryId) -> Option<u32> {
        self.a.state.place_of(entry).and_then(|place| place.uid).map(|(_, uid)| uid.get())
    }

    /// `name~hhhh` of a mailbox.
    fn suffixed(&self, name: &str, mailbox: MailboxId) -> Option<String> {
        Some(format!("{name}~{}", &mailbox.to_string()[..4]))
    }
}

#[test]
fn row_01_both_deliver_and_both_messages_stay() {
    let mut w = parted();
    let (x, y) = (w.a.append(w.inbox, "x"), w.b.append(w.inbox, "y"));
    w.meet();
    assert_eq!(w.a.messages(w.inbox).len(), 3);
    assert!([x, y].iter().all(|entry| w.where_is(*entry) == Some(w.inbox)));
}

#[test]
fn row_02_one_delivery_at_both_sites_is_shown_once_if_it_has_a_key() {
    let mut w = parted();
    let first = w.a.deliver(w.inbox, "mail", Some(9));
    w.b.now_ms += 1;
    let second = w.b.deliver(w.inbox, "mail", Some(9));
    w.meet();
    assert_eq!(w.a.messages(w.inbox), [w.e, first]);
    assert_eq!(w.a.state.hidden_twins(), [second]);
    assert_eq!(w.a.state.twin_shown(second), Some(first));
    let header = w.a.state.entry(first).unwrap().header().clone();
    assert_eq!(w.b.state.delivered(header.delivery.unwrap(), header.content), Some(first));
    let other = w.a.deliver(w.inbox, "other mail", Some(9));
    assert!(w.a.messages(w.inbox).contains(&other), "equal keys with other content are two deliveries");
}

#[test]
fn row_02_without_a_key_they_are_two_messages() {
    let mut w = parted();
    w.a.append(w.inbox, "mail");
    w.b.append(w.inbox, "mail");
    w.meet();
    assert_eq!(w.a.messages(w.inbox).len(), 3);
}

#[test]
fn row_02_a_copy_beside_its_source_is_no_second_delivery() {
    let mut w = parted();
    let first = w.a.deliver(w.inbox, "mail", Some(9));
    let copy = w.a.copy(first, w.inbox);
    assert_eq!(w.a.messages(w.inbox), [w.e, first, copy]);
}

#[test]
fn row_02_an_expunged_delivery_is_still_known_when_it_is_tried_again() {
    let mut w = parted();
    let first = w.a.deliver(w.inbox, "mail", Some(9));
    let header = w.a.state.entry(first).unwrap().header().clone();
    w.a.expunge(first);
    let everything = w.a.state.version().clone();
    assert_eq!(w.a.state.forget_removed(&everything), [first]);
    assert!(w.a.state.entry(first).is_none());
    assert_eq!(w.a.state.delivered(header.delivery.unwrap(), header.content), Some(first));
}

#[test]
fn row_03_append_and_expunge_of_others_are_independent() {
    let mut w = parted();
    let x = w.a.append(w.inbox, "x");
    w.b.expunge(w.e);
    w.meet();
    assert_eq!(w.a.messages(w.inbox), [x]);
}

#[test]
fn row_04_expunged_at_both_is_removed_once() {
    let mut w = parted();
    w.a.expunge(w.e);
    w.b.expunge(w.e);
    w.meet();
    assert_eq!(w.where_is(w.e), None);
    let total: Vec<_> = w.a.state.removed_total().values().copied().collect();
    assert_eq!(total, [1, 1], "each replica asked for one (R-L3G)");
}

#[test]
fn row_05_a_flag_set_at_both_is_set() {
    let mut w = parted();
    w.a.store(w.e, "\\Seen", "");
    w.b.store(w.e, "\\Seen", "");
    w.meet();
    assert_eq!(w.a.flags(w.e), "\\Seen");
}

#[test]
fn row_06_of_set_and_clear_the_greater_stamp_wins() {
    let mut w = parted();
    w.b.now_ms += 5;
    w.a.store(w.e, "\\Flagged", "");
    w.b.store(w.e, "", "\\Flagged");
    w.meet();
    assert_eq!(w.a.flags(w.e), "");
    w.b.store(w.e, "\\Flagged", "");
    w.a.store(w.e, "", "\\Flagged");
    w.meet();
    assert_eq!(w.a.flags(w.e), "\\Flagged");
}

#[test]
fn row_06_at_equal_times_the_site_decides() {
    let mut w = parted();
    w.a.store(w.e, "\\Flagged", "");
    w.b.store(w.e, "", "\\Flagged");
    w.meet();
    assert_eq!(w.a.flags(w.e), "", "slot 1 is greater than slot 0");
}

#[test]
fn row_07_different_flags_are_both_set() {
    let mut w = parted();
    w.a.store(w.e, "\\Seen", "");
    w.b.store(w.e, "\\Answered", "");
    w.meet();
    assert_eq!(w.a.flags(w.e), "\\Answered \\Seen");
}

#[test]
fn row_08_keywords_differ_in_more_than_case() {
    let mut w = parted();
    w.b.now_ms += 5;
    w.a.store(w.e, "$Work", "");
    w.b.store(w.e, "", "$WORK");
    w.meet();
    assert_eq!(w.a.flags(w.e), "");
    w.b.store(w.e, "$work", "");
    w.meet();
    assert_eq!(
        (w.a.flags(w.e), w.b.flags(w.e)),
        ("$Work".into(), "$WORK".into()),
        "the case first met stays"
    );
}

#[test]
fn row_09_replacing_flags_clears_only_what_was_seen() {
    let mut w = parted();
    w.a.store(w.e, "\\Draft", "");
    w.meet();
    // FLAGS (\Seen), against a state with \Draft.
    w.a.store(w.e, "\\Seen", "\\Draft");
    w.b.store(w.e, "kw", "");
    w.meet();
    assert_eq!(w.a.flags(w.e), "\\Seen kw");
}

#[test]
fn row_10_expunge_beats_flags() {
    let mut w = parted();
    w.a.expunge(w.e);
    w.b.now_ms += 5;
    w.b.store(w.e, "\\Flagged", "");
    w.meet();
    assert_eq!(w.where_is(w.e), None);
}

#[test]
fn row_11_expunge_beats_undeleting() {
    let mut w = parted();
    w.a.store(w.e, "\\Deleted", "");
    w.meet();
    w.a.expunge(w.e);
    w.b.now_ms += 5;
    w.b.store(w.e, "", "\\Deleted");
    w.meet();
    assert_eq!(w.where_is(w.e), None);
}

#[test]
fn row_12_moved_to_two_places_is_in_the_one_of_the_greater_stamp() {
    let mut w = parted();
    let (x, y) = (w.a.create(None, "X"), w.a.create(None, "Y"));
    w.meet();
    w.a.now_ms += 5;
    w.a.move_to(w.e, x);
    w.b.move_to(w.e, y);
    w.meet();
    assert_eq!(w.where_is(w.e), Some(x));
    assert_eq!((w.a.messages(x).len(), w.a.messages(y).len()), (1, 0));
}

#[test]
fn row_13_moved_to_one_place_by_both_is_there_once_with_one_uid() {
    let mut w = parted();
    w.a.move_to(w.e, w.m);
    w.a.number(w.e, 11);
    w.b.now_ms += 5;
    w.b.move_to(w.e, w.m);
    w.b.number(w.e, 12);
    w.meet();
    assert_eq!(w.a.messages(w.m).len(), 3);
    assert_eq!(w.uid_of(w.e), Some(12));
    let validity = w.a.state.mailbox(w.m).unwrap().uid_validity().unwrap();
    assert_eq!(w.a.state.mailbox(w.m).unwrap().greatest_uid(validity), 12);
}

#[test]
fn row_14_expunge_removes_only_the_place_it_saw() {
    let mut w = parted();
    w.a.move_to(w.e, w.m);
    w.b.now_ms += 5;
    w.b.expunge(w.e);
    w.meet();
    assert_eq!(w.where_is(w.e), Some(w.m));
}

#[test]
fn row_15_moved_elsewhere_survives_an_expunge_after_another_move() {
    let mut w = parted();
    let y = w.b.create(None, "Y");
    w.meet();
    w.a.now_ms += 5;
    w.a.move_to(w.e, w.m);
    w.a.expunge(w.e);
    w.b.move_to(w.e, y);
    w.meet();
    assert_eq!(w.where_is(w.e), Some(y));
}

#[test]
fn row_16_a_copy_outlives_its_source() {
    let mut w = parted();
    let copy = w.a.copy(w.e, w.m);
    w.b.expunge(w.e);
    w.meet();
    assert_eq!((w.where_is(copy), w.where_is(w.e)), (Some(w.m), None));
}

#[test]
fn row_17_two_copies_are_two_messages_of_one_origin() {
    let mut w = parted();
    let (one, two) = (w.a.copy(w.e, w.m), w.b.copy(w.e, w.m));
    w.meet();
    assert_eq!(w.a.messages(w.m).len(), 4);
    let message = |entry| w.a.state.entry(entry).unwrap().header().message;
    assert_eq!(message(one), message(two));
}

#[test]
fn row_18_a_moved_message_takes_its_flags_along() {
    let mut w = parted();
    w.a.move_to(w.e, w.m);
    w.b.store(w.e, "\\Seen", "");
    w.meet();
    assert_eq!((w.where_is(w.e), w.a.flags(w.e).as_str()), (Some(w.m), "\\Seen"));
}

#[test]
fn row_42_a_third_site_that_hears_by_relay_agrees() {
    let mut w = parted();
    w.a.rename(w.m, None, "P");
    w.b.delete(w.m);
    w.b.move_to(w.e, w.m);
    let mut c = Site::new(2, honest);
    w.b.send_all(&mut c);
    c.store(w.e, "\\Seen", "");
    w.meet();
    w.a.send_all(&mut c);
    c.send_all(&mut w.b);
    w.b.send_all(&mut w.a);
    assert_eq!(shown(&c.state), shown(&w.a.state));
    assert_eq!(c.state.digest(), w.a.state.digest());
    assert_eq!(w.a.flags(w.e), "\\Seen");
}
