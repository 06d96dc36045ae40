//! The conflict table (`replication.md` §7), row by row: A and B act without having heard of each other, then meet.
//!
//! Rows that are decided elsewhere: 35 (limits come from the user database), 40 (accounts, not their state).

use super::sites::{Site, honest, shown};
use crate::op::NumberedUid;
use crate::state::Home;
use crate::{EntryId, MailboxId, Op, SiteId, Uid};

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
    assert_eq!(validity, Some(super::sites::validity_of(1)), "the greater UIDVALIDITY");
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
fn row_31_of_subscribe_and_unsubscribe_the_greater_stamp_wins() {
    let mut w = parted();
    let subscribe = |on| Op::Subscribe { name: "M".to_owned(), on };
    w.b.now_ms += 5;
    w.a.issue(subscribe(true));
    w.b.issue(subscribe(false));
    w.meet();
    assert!(!w.a.state.is_subscribed("M"));
    let stamp = w.b.state.clock_mut().issue(w.b.now_ms);
    w.a.issue_at(stamp, subscribe(false));
    w.b.issue_at(stamp, subscribe(true));
    w.meet();
    assert!(w.a.state.is_subscribed("M"), "equal: subscribed");
}

#[test]
fn row_32_the_greater_uidvalidity_wins_and_older_uids_count_as_none() {
    let mut w = parted();
    w.a.number(w.in_m[0], 3);
    let path = w.b.path_of(w.m);
    let claim = crate::op::Claim {
        mailbox: w.m,
        path,
        left: None,
        observed: w.b.state.mailbox(w.m).unwrap().observed_tags(),
        seen_deletes: vec![],
        uid_validity: super::sites::validity_of(9),
        special_use: None,
    };
    w.b.issue(Op::MailboxCreate(claim));
    w.meet();
    assert_eq!(w.a.state.mailbox(w.m).unwrap().uid_validity(), Some(super::sites::validity_of(9)));
    assert_eq!(w.uid_of(w.in_m[0]), None);
    w.a.number(w.in_m[0], 1);
    w.meet();
    assert_eq!(w.uid_of(w.in_m[0]), Some(1), "lexicographic: the UIDVALIDITY counts first");
}

#[test]
fn row_33_concurrent_rights_grant_only_what_both_grant() {
    let mut w = parted();
    let rights = |site: &Site, m| -> Vec<(String, String)> {
        site.state.mailbox(m).unwrap().acl().map(|(who, what)| (who.to_owned(), what)).collect()
    };
    let owned = |pairs: &[(&str, &str)]| -> Vec<_> {
        pairs.iter().map(|(who, what)| ((*who).to_owned(), (*what).to_owned())).collect()
    };
    w.a.set_acl(w.m, "u", Some("lrswi"));
    w.b.set_acl(w.m, "u", Some("lrx"));
    w.a.set_acl(w.m, "-v", Some("l"));
    w.b.set_acl(w.m, "-v", Some("r"));
    w.meet();
    assert_eq!(rights(&w.a, w.m), owned(&[("-v", "lr"), ("u", "lr")]), "what is taken away adds up (I13)");
    w.a.set_acl(w.m, "u", Some("lrs"));
    w.b.set_acl(w.m, "u", None);
    w.meet();
    assert_eq!(rights(&w.a, w.m), owned(&[("-v", "lr")]));
    w.b.set_acl(w.m, "u", Some("lri"));
    w.meet();
    assert_eq!(rights(&w.a, w.m), owned(&[("-v", "lr"), ("u", "ilr")]), "the next SETACL decides");
}

#[test]
fn row_34_of_two_metadata_values_the_greater_stamp_wins() {
    let mut w = parted();
    let value = |site: &Site, mailbox: Option<MailboxId>| -> Option<Vec<u8>> {
        match mailbox {
            None => site.state.metadata().next().map(|(_, value)| value.to_vec()),
            Some(id) => site.state.mailbox(id).unwrap().metadata().next().map(|(_, value)| value.to_vec()),
        }
    };
    for mailbox in [None, Some(w.m)] {
        let set = |value: Option<&[u8]>| Op::Metadata {
            mailbox,
            key: "/private/comment".to_owned(),
            value: value.map(<[u8]>::to_vec),
        };
        w.b.now_ms += 50;
        w.a.issue(set(Some(b"v")));
        w.b.issue(set(None));
        w.meet();
        assert_eq!(value(&w.a, mailbox), None);
        w.a.issue(set(Some(b"w")));
        w.meet();
        assert_eq!(value(&w.b, mailbox), Some(b"w".to_vec()));
    }
}

#[test]
fn row_36_the_script_that_lost_is_kept_under_a_name_that_tells() {
    let mut w = parted();
    w.a.put_script("s", "keep;");
    w.meet();
    w.b.now_ms += 5;
    w.a.put_script("s", "discard;");
    w.b.put_script("s", "stop;");
    w.a.issue(Op::ScriptActivate { name: Some("s".to_owned()) });
    w.meet();
    let scripts = w.a.state.scripts();
    assert_eq!((scripts.len(), &*scripts[0].text, scripts[0].active), (2, &b"stop;"[..], true));
    assert_eq!((&*scripts[1].text, scripts[1].active), (&b"discard;"[..], false));
    let copy = scripts[1].name.clone();
    assert_eq!(copy, format!("s.conflict-0-{}", scripts[1].stamp));
    w.b.delete_script(&copy);
    w.meet();
    assert_eq!(w.a.state.scripts().len(), 1);
}

#[test]
fn row_37_an_edited_script_survives_its_deletion() {
    let mut w = parted();
    w.a.put_script("s", "keep;");
    w.meet();
    w.a.put_script("s", "discard;");
    w.b.now_ms += 5;
    w.b.delete_script("s");
    w.meet();
    assert_eq!(w.a.script("s").map(|script| script.text.to_vec()), Some(b"discard;".to_vec()));
}

#[test]
fn row_38_of_two_activations_the_greater_stamp_wins() {
    let mut w = parted();
    w.b.now_ms += 5;
    w.a.issue(Op::ScriptActivate { name: Some("s".to_owned()) });
    w.b.issue(Op::ScriptActivate { name: Some("t".to_owned()) });
    w.meet();
    assert_eq!(w.a.state.active_script(), Some("t"));
    w.b.issue(Op::ScriptActivate { name: None });
    w.meet();
    assert_eq!(w.a.state.active_script(), None);
}

#[test]
fn row_39_of_two_homes_the_greater_epoch_wins_then_the_greater_site() {
    let mut w = parted();
    let (site_a, site_b) = (w.a.site(), w.b.site());
    let home = |site, home_epoch| Op::Home { site, home_epoch, lineage: (0, site_a) };
    w.a.issue(home(site_a, 3));
    w.b.issue(home(site_b, 2));
    w.meet();
    assert_eq!(w.b.state.home(), Some(Home { epoch: 3, site: site_a, lineage: (0, site_a) }));
    w.a.issue(home(site_a, 4));
    w.b.issue(home(site_b, 4));
    w.meet();
    assert_eq!(w.a.state.home().unwrap().site, site_b);
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

#[test]
fn a_late_tag_is_listed_until_it_gets_a_greater_uid() {
    // R-U5.
    let mut w = parted();
    w.a.number(w.in_m[0], 4);
    w.meet();
    let tag = w.a.state.place_of(w.in_m[0]).unwrap().tag;
    w.b.issue(Op::UidLate { mailbox: w.m, tags: vec![(w.in_m[0], tag)], exposed_next: 10 });
    w.meet();
    assert_eq!(w.a.state.late_in(w.m), [(w.in_m[0], tag)]);
    assert_eq!(w.a.state.late_in(w.inbox), []);
    let validity = w.a.state.mailbox(w.m).unwrap().uid_validity().unwrap();
    assert_eq!(w.a.state.mailbox(w.m).unwrap().greatest_uid(validity), 9);
    w.a.number(w.in_m[0], 10);
    w.meet();
    assert_eq!(w.a.state.late_in(w.m), []);
}

#[test]
fn a_uid_given_to_a_message_that_is_gone_here_is_used_all_the_same() {
    // R-U0, R-U7.
    let mut w = parted();
    w.a.number(w.in_m[0], 40);
    w.b.expunge(w.in_m[0]);
    w.meet();
    let m = w.b.state.mailbox(w.m).unwrap();
    assert_eq!(m.greatest_uid(m.uid_validity().unwrap()), 40);
}

#[test]
fn horizons_count_from_the_end_of_stripe_0_and_never_fall() {
    let mut w = parted();
    let uid_validity = w.a.state.mailbox(w.m).unwrap().uid_validity().unwrap();
    assert_eq!(w.a.state.mailbox(w.m).unwrap().horizon(uid_validity), crate::state::STRIPE_0_END);
    let site = SiteId::new(0).unwrap();
    for horizon in [200_000, 100_000] {
        w.a.issue(Op::Horizon { mailbox: w.m, uid_validity, horizon, lineage: (0, site) });
    }
    w.meet();
    let m = w.b.state.mailbox(w.m).unwrap();
    assert_eq!((m.horizon(uid_validity), m.horizons(uid_validity).count()), (200_000, 2));
}

#[test]
fn a_uid_that_comes_with_the_message_is_known_at_once() {
    let mut w = parted();
    let uid: NumberedUid = (super::sites::validity_of(0), Uid::new(77).unwrap());
    let observed = w.a.state.observed_tags(w.e);
    w.a.issue(Op::Move { entry: w.e, observed, to: w.m, uid: Some(uid) });
    w.meet();
    assert_eq!(w.uid_of(w.e), Some(77));
    assert_eq!(w.b.state.mailbox(w.m).unwrap().greatest_uid(uid.0), 77);
}
