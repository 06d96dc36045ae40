//! Rows 19 to 30, and 41: mailboxes and their names.

use super::parted;

#[test]
fn row_19_created_by_both_is_one_mailbox() {
    let mut w = parted();
    let (at_a, at_b) = (w.a.create(None, "P"), w.b.create(None, "P"));
    let (x, y) = (w.a.append(at_a, "x"), w.b.append(at_b, "y"));
    w.a.number(x, 1);
    w.meet();
    assert_eq!(at_a, at_b);
    assert_eq!(w.a.messages(at_a), [x, y]);
    assert_eq!(w.a.names(), ["INBOX", "M", "P"]);
    let validity = w.a.state.mailbox(at_a).unwrap().uid_validity();
    assert_eq!(validity, Some(crate::state::tests::sites::validity_of(1)), "the greater UIDVALIDITY");
    assert_eq!(w.uid_of(x), None, "a UID under the lesser one counts as none (R-U10)");
}

#[test]
fn row_20_what_configuration_creates_at_both_is_one_mailbox() {
    let mut w = parted();
    let again = w.b.create_inbox();
    w.meet();
    assert_eq!(again, w.inbox);
    assert_eq!(w.a.names(), ["INBOX", "M"]);
}

#[test]
fn row_21_renamed_twice_has_the_name_of_the_greater_stamp() {
    let mut w = parted();
    w.b.now_ms += 5;
    w.a.rename(w.m, None, "P");
    w.b.rename(w.m, None, "Q");
    w.meet();
    assert_eq!(w.a.names(), ["INBOX", "Q"]);
    assert_eq!(w.a.messages(w.m), w.in_m);
}

#[test]
fn row_22_two_mailboxes_renamed_to_one_name_are_never_fused() {
    let mut w = parted();
    let n = w.a.create(None, "N");
    w.meet();
    w.b.now_ms += 5;
    w.a.rename(w.m, None, "P");
    w.b.rename(n, None, "P");
    w.meet();
    assert_eq!(w.a.name_of(w.m).as_deref(), Some("P"), "the older claim keeps the name");
    assert_eq!(w.a.name_of(n), w.suffixed("P", n));
    w.a.create(Some(n), "Child");
    w.meet();
    let child = format!("{}/Child", w.suffixed("P", n).unwrap());
    assert!(w.a.names().contains(&child), "children follow the name shown");
}

#[test]
fn row_22_renamed_to_a_name_that_is_created() {
    let mut w = parted();
    w.b.now_ms += 5;
    w.a.rename(w.m, None, "P");
    let p = w.b.create(None, "P");
    w.meet();
    assert_eq!((w.a.name_of(w.m), w.a.name_of(p)), (Some("P".to_owned()), w.suffixed("P", p)));
}

#[test]
fn row_23_a_cycle_is_broken_at_the_oldest_edge() {
    let mut w = parted();
    let y = w.a.create(None, "Y");
    w.meet();
    w.b.now_ms += 5;
    w.a.rename(w.m, Some(y), "M");
    w.b.rename(y, Some(w.m), "Y");
    w.meet();
    let root = w.suffixed("M", w.m).unwrap();
    assert_eq!(w.a.names(), ["INBOX".to_owned(), root.clone(), format!("{root}/Y")]);
}

#[test]
fn row_24_rename_beats_delete_and_keeps_every_message() {
    let mut w = parted();
    w.a.rename(w.m, None, "P");
    w.b.now_ms += 5;
    w.b.delete(w.m);
    w.meet();
    assert_eq!(w.a.names(), ["INBOX", "P"]);
    assert_eq!(w.a.messages(w.m), w.in_m);
}

#[test]
fn row_24_renaming_again_does_not_bring_the_voided_deletion_back() {
    let mut w = parted();
    w.a.rename(w.m, None, "P");
    w.b.delete(w.m);
    w.meet();
    w.b.rename(w.m, None, "Q");
    w.meet();
    assert_eq!(w.a.names(), ["INBOX", "Q"]);
    assert_eq!(w.a.messages(w.m), w.in_m);
    w.a.delete(w.m);
    w.meet();
    assert_eq!(w.a.names(), ["INBOX"]);
    assert_eq!(w.a.messages(w.m), []);
}

#[test]
fn row_25_deleted_by_both_is_deleted() {
    let mut w = parted();
    w.a.delete(w.m);
    w.b.delete(w.m);
    w.meet();
    assert_eq!(w.a.names(), ["INBOX"]);
    let path = crate::op::Path { parent: None, level: "M".to_owned() };
    assert_eq!(w.a.state.next_generation(&path), 1, "one mailbox left the path (R-ID1)");
}

#[test]
fn row_26_a_delivery_that_the_deletion_had_not_seen_brings_the_mailbox_back() {
    let mut w = parted();
    w.b.number(w.in_m[0], 7);
    w.meet();
    w.a.delete(w.m);
    let x = w.b.append(w.m, "x");
    w.b.move_to(w.e, w.m);
    let validity = w.b.state.mailbox(w.m).unwrap().uid_validity().unwrap();
    w.meet();
    assert_eq!(w.a.messages(w.m), [w.e, x]);
    assert_eq!(w.a.names(), ["INBOX", "M"]);
    let m = w.a.state.mailbox(w.m).unwrap();
    assert_eq!((m.uid_validity(), m.greatest_uid(validity)), (Some(validity), 7), "the UIDs go on");
    w.a.expunge(x);
    w.a.move_to(w.e, w.inbox);
    w.meet();
    assert_eq!(w.a.names(), ["INBOX"], "nothing is left that held it");
}

#[test]
fn row_27_flags_and_expunges_do_not_bring_it_back() {
    let mut w = parted();
    w.a.delete(w.m);
    w.b.now_ms += 5;
    w.b.store(w.in_m[0], "\\Flagged", "");
    w.b.expunge(w.in_m[1]);
    w.meet();
    assert_eq!(w.a.names(), ["INBOX"]);
    assert_eq!(w.a.messages(w.m), []);
}

#[test]
fn row_28_a_mailbox_made_anew_keeps_the_name_before_the_old_one() {
    let mut w = parted();
    w.a.delete(w.m);
    let new = w.a.create(None, "M");
    assert_ne!(new, w.m);
    let x = w.b.append(w.m, "x");
    w.meet();
    assert_eq!((w.a.name_of(new), w.a.name_of(w.m)), (Some("M".to_owned()), w.suffixed("M", w.m)));
    assert_eq!((w.a.messages(new), w.a.messages(w.m)), (vec![], vec![x]));
}

#[test]
fn row_29_a_child_of_a_deleted_mailbox_lives_below_a_gone_parent() {
    let mut w = parted();
    w.a.delete(w.m);
    w.b.create(Some(w.m), "C");
    w.meet();
    assert_eq!(w.a.names(), ["INBOX", "M/C"]);
    let parent = crate::view::mailboxes(&w.a.state).into_iter().find(|m| m.id == w.m).unwrap();
    assert!(!parent.selectable && parent.has_children);
    // Made anew, the parent has its child again.
    let new = w.a.create(None, "M");
    w.meet();
    assert_eq!(w.a.names(), ["INBOX", "M", "M/C"]);
    assert_eq!(w.a.name_of(w.m), None);
    assert_eq!(w.a.name_of(new).as_deref(), Some("M"));
}

#[test]
fn row_30_a_child_follows_its_renamed_parent() {
    let mut w = parted();
    w.a.rename(w.m, None, "Q");
    w.b.create(Some(w.m), "C");
    w.meet();
    assert_eq!(w.a.names(), ["INBOX", "Q", "Q/C"]);
}

#[test]
fn row_41_new_mail_stays_in_inbox_when_inbox_is_renamed() {
    let mut w = parted();
    let p = w.a.create(None, "P");
    w.a.move_to(w.e, p);
    let x = w.b.append(w.inbox, "x");
    w.meet();
    assert_eq!((w.a.messages(p), w.a.messages(w.inbox)), (vec![w.e], vec![x]));
}

#[test]
fn a_mailbox_taken_back_after_its_deletion_was_seen_is_empty() {
    // V2: what the deletion hid comes back from the hold, appended anew.
    let mut w = parted();
    w.a.delete(w.m);
    w.meet();
    w.b.undelete(w.m);
    w.meet();
    assert_eq!(w.a.names(), ["INBOX", "M"]);
    assert_eq!(w.a.messages(w.m), []);
    let x = w.a.append(w.m, "x");
    w.a.delete(w.m);
    w.b.delete(w.m);
    w.b.undelete(w.m);
    w.meet();
    assert_eq!(w.a.messages(w.m), [x], "B had not seen the deletion at A, and took the mailbox back");
}

#[test]
fn a_deletion_hides_what_it_saw_although_it_forgot_to_name_a_claim() {
    // V2 asks whether the rename is concurrent, not whether it is live.
    let mut w = parted();
    w.a.rename(w.m, None, "P");
    let (context, gone) = (w.a.state.version().clone(), w.a.path_of(w.m));
    w.a.issue(crate::Op::MailboxDelete { mailbox: w.m, observed: vec![], context, gone });
    w.meet();
    assert_eq!((w.a.name_of(w.m).as_deref(), w.a.messages(w.m)), (Some("P"), vec![]));
}

#[test]
fn nothing_is_forgotten_that_a_member_can_still_bring_back() {
    // R-GC1.
    let mut w = parted();
    w.a.delete(w.m);
    w.a.expunge(w.e);
    let heard_at_b = w.b.state.version().clone();
    assert_eq!(w.a.state.forget_removed(&heard_at_b), []);
    w.b.rename(w.m, None, "P");
    w.b.move_to(w.e, w.m);
    w.meet();
    assert_eq!(w.a.messages(w.m), [w.e, w.in_m[0], w.in_m[1]]);
    w.a.delete(w.m);
    w.meet();
    let heard_by_all = w.b.state.version().clone();
    assert_eq!(w.a.state.forget_removed(&heard_by_all).len(), 3);
    assert_eq!(w.a.state.entries().count(), 0);
    assert_eq!(w.a.state.digest(), w.b.state.digest());
}
