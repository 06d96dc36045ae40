//! Row 32, and what §6 asks of the state.

use super::parted;
use crate::op::NumberedUid;
use crate::state::tests::sites::validity_of;
use crate::{Op, SiteId, Uid};

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
        uid_validity: validity_of(9),
        special_use: None,
    };
    w.b.issue(Op::MailboxCreate(claim));
    w.meet();
    assert_eq!(w.a.state.mailbox(w.m).unwrap().uid_validity(), Some(validity_of(9)));
    assert_eq!(w.uid_of(w.in_m[0]), None);
    w.a.number(w.in_m[0], 1);
    w.meet();
    assert_eq!(w.uid_of(w.in_m[0]), Some(1), "lexicographic: the UIDVALIDITY counts first");
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
    let uid: NumberedUid = (validity_of(0), Uid::new(77).unwrap());
    let observed = w.a.state.observed_tags(w.e);
    w.a.issue(Op::Move { entry: w.e, observed, to: w.m, uid: Some(uid) });
    w.meet();
    assert_eq!(w.uid_of(w.e), Some(77));
    assert_eq!(w.b.state.mailbox(w.m).unwrap().greatest_uid(uid.0), 77);
}
