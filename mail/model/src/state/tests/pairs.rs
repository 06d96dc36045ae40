//! Every pair of short operations, issued by two sites that have not heard of each other, in every order of delivery.

use super::sites::{Site, honest, shown};
use crate::state::AccountState;
use crate::{EntryId, MailboxId, Op, SiteId};

/// What both sites know before they part: a message in INBOX, and mailboxes P and Q with a message each.
#[derive(Clone, Copy)]
struct Known {
    inbox: MailboxId,
    p: MailboxId,
    q: MailboxId,
    in_inbox: EntryId,
    in_p: EntryId,
}

type Action = fn(&mut Site, Known);

const ACTIONS: [Action; 28] = [
    |site, known| _ = site.append(known.p, "new"),
    |site, known| _ = site.deliver(known.inbox, "tried twice", Some(1)),
    |site, known| _ = site.copy(known.in_inbox, known.p),
    |site, known| _ = site.move_to(known.in_inbox, known.p),
    |site, known| _ = site.move_to(known.in_inbox, known.q),
    |site, known| _ = site.move_to(known.in_p, known.q),
    |site, known| site.expunge(known.in_inbox),
    |site, known| site.expunge(known.in_p),
    |site, known| site.store(known.in_p, "\\Seen $Kw", ""),
    |site, known| site.store(known.in_p, "", "\\Seen $kw"),
    |site, known| site.number(known.in_p, 5),
    |site, known| site.number(known.in_p, 6),
    |site, _| _ = site.create(None, "New"),
    |site, known| _ = site.create(Some(known.p), "Child"),
    |site, known| site.rename(known.p, None, "New"),
    |site, known| site.rename(known.q, None, "New"),
    |site, known| site.rename(known.p, Some(known.q), "P"),
    |site, known| site.rename(known.q, Some(known.p), "Q"),
    |site, known| site.delete(known.p),
    |site, known| site.delete(known.q),
    |site, known| {
        site.delete(known.p);
        site.create(None, "P");
    },
    |site, known| {
        site.delete(known.p);
        site.undelete(known.p);
    },
    |site, known| {
        site.rename(known.p, None, "Away");
        site.rename(known.p, None, "P");
    },
    |site, known| {
        site.move_to(known.in_inbox, known.p);
        site.expunge(known.in_inbox);
    },
    |site, _| _ = site.issue(Op::Subscribe { name: "P".to_owned(), on: true }),
    |site, _| _ = site.issue(Op::Subscribe { name: "P".to_owned(), on: false }),
    |site, _| site.put_script("s", "keep;"),
    |site, known| site.set_acl(known.p, "bob", Some("lr")),
];

fn parted() -> (Site, Site, Known) {
    let (mut a, mut b) = (Site::new(0, honest), Site::new(1, honest));
    let inbox = a.create_inbox();
    let (p, q) = (a.create(None, "P"), a.create(None, "Q"));
    let (in_inbox, in_p) = (a.append(inbox, "one"), a.append(p, "two"));
    a.append(q, "three");
    a.send_all(&mut b);
    (a, b, Known { inbox, p, q, in_inbox, in_p })
}

/// Applies all interleavings of two lists of records to copies of a state; each keeps its own order.
fn interleave(
    state: &AccountState,
    left: &[crate::Record],
    right: &[crate::Record],
    ends: &mut Vec<AccountState>,
) {
    if left.is_empty() && right.is_empty() {
        ends.push(state.clone());
    }
    for (first, (left, right)) in [
        (left.first(), (left.get(1..).unwrap_or_default(), right)),
        (right.first(), (left, right.get(1..).unwrap_or_default())),
    ] {
        if let Some(record) = first {
            let mut next = state.clone();
            honest(&mut next, record);
            interleave(&next, left, right, ends);
        }
    }
}

#[test]
fn every_pair_of_operations_joins_to_the_same_in_every_order() {
    let (a, b, known) = parted();
    for (i, left) in ACTIONS.iter().enumerate() {
        for (j, right) in ACTIONS.iter().enumerate() {
            let (mut a_now, mut b_now) = (a.clone(), b.clone());
            left(&mut a_now, known);
            right(&mut b_now, known);
            let mut third = AccountState::new(super::sites::account(), SiteId::new(2).unwrap());
            a.journal.iter().for_each(|record| _ = honest(&mut third, record));
            let mut ends = Vec::new();
            interleave(&third, &a_now.missing_at(&b), &b_now.missing_at(&a), &mut ends);
            a_now.clone().send_all(&mut b_now);
            b_now.send_all(&mut a_now);
            let truth = (shown(&a_now.state), a_now.state.digest());
            assert_eq!((shown(&b_now.state), b_now.state.digest()), truth, "actions {i} and {j}");
            for end in ends {
                assert_eq!((shown(&end), end.digest()), truth, "actions {i} and {j} at a third site");
            }
        }
    }
}
