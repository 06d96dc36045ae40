//! What each request does.

use std::sync::Arc;

use model::{Flag, ModSeq, SpecialUse};

use super::world::*;
use crate::door::{Append, EditFlags, Expunge, FlagEdit, NewMessage, Refused, Reply, Request};
use crate::owner::Owner;
use crate::search::Query;
use crate::tenure::Volume;

fn flag(text: &str) -> Flag {
    Flag::parse(text).unwrap()
}

fn store(owner: &Owner, numbers: &[u32], edit: FlagEdit, flags: &[&str]) -> Request {
    Request::EditFlags(EditFlags {
        mailbox: id_of(owner, "INBOX"),
        uids: uids(numbers),
        edit,
        flags: flags.iter().map(|text| flag(text)).collect(),
        unchanged_since: None,
    })
}

fn with_messages(texts: &[&str]) -> (World, Owner) {
    let mut world = World::new(Volume::Private);
    let mut owner = world.open();
    let request = world.append("INBOX", texts);
    world.done(&mut owner, request);
    (world, owner)
}

#[test]
fn a_new_account_has_an_inbox_and_what_is_configured() {
    let mut world = World::new(Volume::Private);
    world.autocreate = vec![(name("Sent"), Some(SpecialUse::Sent)), (name("a/b"), None)];
    let owner = world.open();
    let snapshot = owner.snapshot();
    let names: Vec<_> = snapshot.mailboxes.keys().map(|name| name.as_str()).collect();
    assert_eq!(names, ["INBOX", "Sent", "a", "a/b"]);
    assert_eq!(snapshot.by_name(&name("Sent")).unwrap().special_use, Some(SpecialUse::Sent));
    // A parent that nobody made is no mailbox (RFC 9051 §7.3.1).
    assert!(snapshot.by_name(&name("a")).unwrap().view.is_none());
}

#[test]
fn a_configured_mailbox_that_was_deleted_is_not_made_again() {
    let mut world = World::new(Volume::Private);
    world.autocreate = vec![(name("Sent"), None)];
    let mut owner = world.open();
    world.done(&mut owner, Request::Delete { name: name("Sent") });
    drop(owner);
    assert!(world.open().snapshot().by_name(&name("Sent")).is_none());
}

#[test]
fn appended_messages_get_uids_in_order_and_never_one_twice() {
    let (mut world, mut owner) = with_messages(&["one", "two", "three"]);
    assert_eq!(picture(&owner).texts("INBOX"), [(1, "one"), (2, "two"), (3, "three")]);
    let inbox = id_of(&owner, "INBOX");
    world.done(&mut owner, Request::Expunge { mailbox: inbox, which: Expunge::Exactly(uids(&[3])) });
    drop(owner);
    let mut owner = world.open();
    let request = world.append("INBOX", &["four"]);
    world.done(&mut owner, request);
    assert_eq!(picture(&owner).texts("INBOX"), [(1, "one"), (2, "two"), (4, "four")]);
}

#[test]
fn an_append_to_no_mailbox_is_refused_unless_it_may_create_it() {
    let (mut world, mut owner) = with_messages(&[]);
    let request = world.append("New/Box", &["x"]);
    assert!(matches!(world.ask(&mut owner, request), Err(Refused::NoMailbox(_))));
    let messages = vec![world.message("x", &["\\Seen", "$Label"])];
    let append = Append { mailbox: name("New/Box"), create: true, messages, delivery: None };
    world.done(&mut owner, Request::Append(append));
    assert_eq!(picture(&owner).flags("New/Box", 1), ["\\Seen", "$Label"]);
}

#[test]
fn the_same_delivery_tried_again_is_stored_once() {
    let (mut world, mut owner) = with_messages(&[]);
    let first = world.deliver("mail", 5);
    let first = world.done(&mut owner, first);
    let again = world.deliver("mail", 5);
    assert_eq!(world.done(&mut owner, again), first);
    drop(owner);
    let mut owner = world.open();
    let again = world.deliver("mail", 5);
    assert_eq!(world.done(&mut owner, again), first);
    let other = world.deliver("other mail", 5);
    world.done(&mut owner, other);
    world.later(3700);
    let later = world.append("INBOX", &["clock"]);
    world.done(&mut owner, later);
    let much_later = world.deliver("mail", 5);
    world.done(&mut owner, much_later);
    // An hour later it is another delivery; V7 shows one of two with the same key.
    assert_eq!(picture(&owner).texts("INBOX").len(), 3);
}

#[test]
fn a_copy_is_another_message_and_a_moved_one_is_the_same() {
    let (mut world, mut owner) = with_messages(&["one", "two"]);
    world.done(&mut owner, Request::Create { name: name("Box"), special_use: None });
    let inbox = id_of(&owner, "INBOX");
    let entry = |owner: &Owner, mailbox: &str, number| {
        let snapshot = owner.snapshot();
        let view = snapshot.by_name(&name(mailbox)).unwrap().view.clone().unwrap();
        view.by_uid(uid(number)).map(|message| (message.entry, message.message))
    };
    let original = entry(&owner, "INBOX", 1).unwrap();
    let copied = Request::Copy { from: inbox, uids: uids(&[2, 1]), to: name("Box") };
    let Reply::Copied { uids: pairs, .. } = world.done(&mut owner, copied) else { panic!("not copied") };
    assert_eq!(pairs, [(uid(2), uid(1)), (uid(1), uid(2))]);
    let copy = entry(&owner, "Box", 2).unwrap();
    assert!(copy.0 != original.0 && copy.1 == original.1);
    let moved = Request::Move { from: inbox, uids: uids(&[1]), to: name("Box") };
    world.done(&mut owner, moved);
    assert_eq!(entry(&owner, "INBOX", 1), None);
    assert_eq!(entry(&owner, "Box", 3), Some(original));
    assert_eq!(picture(&owner).texts("Box"), [(1, "two"), (2, "one"), (3, "one")]);
    drop(owner);
    assert_eq!(picture(&world.open()).texts("Box"), [(1, "two"), (2, "one"), (3, "one")]);
}

#[test]
fn flags_are_replaced_added_and_removed() {
    let (mut world, mut owner) = with_messages(&["one", "two", "three"]);
    for (numbers, edit, flags) in [
        (&[1, 2, 9][..], FlagEdit::Add, &["\\Seen", "work"][..]),
        (&[2], FlagEdit::Replace, &["\\Flagged", "WORK"]),
        (&[1], FlagEdit::Remove, &["work", "\\Draft"]),
    ] {
        let request = store(&owner, numbers, edit, flags);
        world.done(&mut owner, request);
    }
    let seen = picture(&owner);
    assert_eq!(seen.flags("INBOX", 1), ["\\Seen"]);
    assert_eq!(seen.flags("INBOX", 2), ["\\Flagged", "work"]);
    assert!(seen.flags("INBOX", 3).is_empty());
}

#[test]
fn a_message_changed_since_is_left_alone_and_named() {
    let (mut world, mut owner) = with_messages(&["one", "two"]);
    let snapshot = owner.snapshot();
    let before = snapshot.by_name(&name("INBOX")).unwrap().view.as_ref().unwrap().highest_modseq;
    let request = store(&owner, &[1], FlagEdit::Add, &["\\Seen"]);
    world.done(&mut owner, request);
    let Request::EditFlags(edit) = store(&owner, &[1, 2], FlagEdit::Add, &["\\Flagged"]) else { panic!() };
    let edit = EditFlags { unchanged_since: Some(before), ..edit };
    let reply = world.done(&mut owner, Request::EditFlags(edit));
    assert_eq!(reply, Reply::FlagsEdited { modified: uids(&[1]) });
    assert_eq!(picture(&owner).flags("INBOX", 2), ["\\Flagged"]);
    assert_eq!(picture(&owner).flags("INBOX", 1), ["\\Seen"]);
}

#[test]
fn a_flag_that_is_set_already_changes_no_modseq() {
    let (mut world, mut owner) = with_messages(&["one"]);
    let request = store(&owner, &[1], FlagEdit::Add, &["\\Seen"]);
    world.done(&mut owner, request);
    let before = owner.snapshot();
    let request = store(&owner, &[1], FlagEdit::Add, &["\\Seen"]);
    world.done(&mut owner, request);
    assert!(Arc::ptr_eq(&before, &owner.snapshot()));
}

#[test]
fn a_snapshot_shares_what_did_not_change_with_the_one_before() {
    let mut world = World::new(Volume::Private);
    let mut owner = world.open();
    let body = world.message("many", &[]).body;
    let many = (0..1000).map(|_| NewMessage { body: Arc::clone(&body), flags: vec![], internal_date: None });
    let messages = many.collect();
    let append = Append { mailbox: name("INBOX"), create: false, messages, delivery: None };
    world.done(&mut owner, Request::Append(append));
    world.done(&mut owner, Request::Create { name: name("Other"), special_use: None });
    let before = owner.snapshot();
    let request = store(&owner, &[500], FlagEdit::Add, &["\\Seen"]);
    world.done(&mut owner, request);
    let after = owner.snapshot();
    let view = |snapshot: &crate::Snapshot, mailbox: &str| {
        snapshot.by_name(&name(mailbox)).unwrap().view.clone().unwrap()
    };
    assert!(Arc::ptr_eq(&view(&before, "Other"), &view(&after, "Other")));
    let (before, after) = (view(&before, "INBOX"), view(&after, "INBOX"));
    let chunks = before.messages.chunks.iter().zip(&after.messages.chunks);
    let copied = chunks.filter(|(before, after)| !Arc::ptr_eq(before, after)).count();
    assert_eq!((copied, after.messages.chunks.len()), (1, 4));
    assert_eq!(after.changes_since(&before).changed, uids(&[500]));
}

#[test]
fn expunge_takes_what_is_deleted_among_those_named() {
    let (mut world, mut owner) = with_messages(&["one", "two", "three", "four"]);
    let inbox = id_of(&owner, "INBOX");
    let request = store(&owner, &[1, 2, 4], FlagEdit::Add, &["\\Deleted"]);
    world.done(&mut owner, request);
    let since = owner.snapshot().by_name(&name("INBOX")).unwrap().view.as_ref().unwrap().highest_modseq;
    let among = Request::Expunge { mailbox: inbox, which: Expunge::DeletedAmong(uids(&[2, 3])) };
    assert_eq!(world.done(&mut owner, among), Reply::Expunged { uids: uids(&[2]) });
    let all = Request::Expunge { mailbox: inbox, which: Expunge::Deleted };
    assert_eq!(world.done(&mut owner, all), Reply::Expunged { uids: uids(&[1, 4]) });
    let vanished = |owner: &Owner| {
        let snapshot = owner.snapshot();
        let mut uids =
            snapshot.by_name(&name("INBOX")).unwrap().view.as_ref().unwrap().vanished_since(since).unwrap();
        uids.sort();
        uids
    };
    assert_eq!(vanished(&owner), uids(&[1, 2, 4]));
    // Also after a start from a checkpoint (RFC 7162 §3.2.10).
    owner.close(world.now);
    assert_eq!(vanished(&world.open()), uids(&[1, 2, 4]));
}

#[test]
fn a_mailbox_with_children_leaves_its_name_when_it_is_deleted() {
    let (mut world, mut owner) = with_messages(&[]);
    for box_name in ["a", "a/b"] {
        world.done(&mut owner, Request::Create { name: name(box_name), special_use: None });
    }
    let request = world.append("a", &["old"]);
    world.done(&mut owner, request);
    world.done(&mut owner, Request::Delete { name: name("a") });
    assert!(owner.snapshot().by_name(&name("a")).unwrap().view.is_none());
    assert!(matches!(
        world.ask(&mut owner, Request::Delete { name: name("a") }),
        Err(Refused::CannotDo { .. })
    ));
    let before = picture(&owner);
    world.later(100);
    world.done(&mut owner, Request::Create { name: name("a"), special_use: None });
    assert_eq!(picture(&owner).texts("a"), []);
    assert_eq!(picture(&owner).mailboxes["a/b"], before.mailboxes["a/b"]);
    world.done(&mut owner, Request::Delete { name: name("a/b") });
    world.done(&mut owner, Request::Delete { name: name("a") });
    assert!(owner.snapshot().by_name(&name("a")).is_none());
}

#[test]
fn a_mailbox_made_again_has_a_greater_uidvalidity() {
    let (mut world, mut owner) = with_messages(&[]);
    world.done(&mut owner, Request::Create { name: name("a"), special_use: None });
    let first = picture(&owner).mailboxes["a"].uid_validity;
    world.done(&mut owner, Request::Delete { name: name("a") });
    world.done(&mut owner, Request::Create { name: name("a"), special_use: None });
    assert!(picture(&owner).mailboxes["a"].uid_validity > first);
}

#[test]
fn a_rename_takes_everything_below_with_it() {
    let (mut world, mut owner) = with_messages(&[]);
    for box_name in ["a", "a/b", "a/b/c", "x"] {
        world.done(&mut owner, Request::Create { name: name(box_name), special_use: None });
    }
    let request = world.append("a/b/c", &["deep"]);
    world.done(&mut owner, request);
    let before = picture(&owner).mailboxes["a/b/c"].clone();
    let rename = |from: &str, to: &str| Request::Rename { from: name(from), to: name(to) };
    world.done(&mut owner, rename("a", "y/z"));
    let names: Vec<_> = picture(&owner).mailboxes.into_keys().collect();
    assert_eq!(names, ["INBOX", "x", "y/z", "y/z/b", "y/z/b/c"]);
    assert_eq!(picture(&owner).mailboxes["y/z/b/c"], before);
    assert!(matches!(world.ask(&mut owner, rename("x", "y/z")), Err(Refused::MailboxExists(_))));
    assert!(matches!(world.ask(&mut owner, rename("x", "x/y")), Err(Refused::CannotDo { .. })));
    assert!(matches!(world.ask(&mut owner, rename("nothing", "n")), Err(Refused::NoMailbox(_))));
    assert!(matches!(world.ask(&mut owner, rename("x", "INBOX")), Err(Refused::MailboxExists(_))));
    drop(owner);
    let owner = world.open();
    assert_eq!(picture(&owner).mailboxes["y/z/b/c"], before);
}

#[test]
fn renaming_inbox_moves_its_messages() {
    let (mut world, mut owner) = with_messages(&["one", "two"]);
    world.done(&mut owner, Request::Rename { from: name("INBOX"), to: name("Old") });
    assert_eq!(picture(&owner).texts("INBOX"), []);
    assert_eq!(picture(&owner).texts("Old"), [(1, "one"), (2, "two")]);
    let request = world.append("INBOX", &["three"]);
    world.done(&mut owner, request);
    assert_eq!(picture(&owner).texts("INBOX"), [(3, "three")]);
}

#[test]
fn inbox_can_neither_be_made_nor_deleted() {
    let (mut world, mut owner) = with_messages(&[]);
    let create = Request::Create { name: name("inbox"), special_use: None };
    assert!(matches!(world.ask(&mut owner, create), Err(Refused::MailboxExists(_))));
    let delete = Request::Delete { name: name("INBOX") };
    assert!(matches!(world.ask(&mut owner, delete), Err(Refused::CannotDo { .. })));
}

#[test]
fn a_subscription_needs_no_mailbox() {
    let (mut world, mut owner) = with_messages(&[]);
    world.done(&mut owner, Request::Subscribe { name: name("not/there"), on: true });
    world.done(&mut owner, Request::Subscribe { name: name("INBOX"), on: true });
    world.done(&mut owner, Request::Subscribe { name: name("INBOX"), on: false });
    assert_eq!(picture(&owner).subscriptions, ["not/there"]);
}

#[test]
fn limits_are_kept_and_named() {
    let mut world = World::new(Volume::Private);
    world.limits.quota_bytes = Some(200);
    world.limits.mailboxes = 2;
    world.limits.message_keywords = 1;
    world.limits.mailbox_messages = 3;
    let mut owner = world.open();
    let create = |text: &str| Request::Create { name: name(text), special_use: None };
    world.done(&mut owner, create("a"));
    assert!(matches!(
        world.ask(&mut owner, create("b")),
        Err(Refused::Limit { what: "mailboxes", limit: 2 })
    ));
    let request = world.append("a", &["1", "2", "3"]);
    world.done(&mut owner, request);
    let request = world.append("a", &["4"]);
    assert!(matches!(world.ask(&mut owner, request), Err(Refused::Limit { limit: 3, .. })));
    let request = world.append("INBOX", &[&"x".repeat(100)]);
    assert!(matches!(world.ask(&mut owner, request), Err(Refused::OverQuota { limit_bytes: 200, .. })));
    let request = world.append("INBOX", &["4"]);
    world.done(&mut owner, request);
    let request = store(&owner, &[1], FlagEdit::Add, &["one"]);
    world.done(&mut owner, request);
    let request = store(&owner, &[1], FlagEdit::Add, &["two"]);
    assert!(matches!(world.ask(&mut owner, request), Err(Refused::Limit { limit: 1, .. })));
    assert_eq!(picture(&owner).flags("INBOX", 1), ["one"]);
}

#[test]
fn a_batch_is_answered_in_order_and_sees_itself() {
    let (mut world, mut owner) = with_messages(&["one"]);
    let inbox = id_of(&owner, "INBOX");
    let append = world.append("new", &["two"]);
    let batch = vec![
        Request::Create { name: name("new"), special_use: None },
        append,
        Request::Create { name: name("new"), special_use: None },
        Request::Move { from: inbox, uids: uids(&[1]), to: name("new") },
        Request::Expunge { mailbox: inbox, which: Expunge::Exactly(uids(&[1])) },
    ];
    let answers = owner.commit(world.now, batch);
    assert!(matches!(answers[0], Ok(ref done) if matches!(done.reply, Reply::Created { .. })));
    assert!(answers[1].is_ok() && answers[3].is_ok());
    assert!(matches!(answers[2], Err(Refused::MailboxExists(_))));
    assert!(matches!(answers[4], Ok(ref done) if done.reply == Reply::Expunged { uids: vec![] }));
    assert_eq!(picture(&owner).texts("new"), [(1, "two"), (2, "one")]);
}

#[test]
fn a_removed_message_can_be_read_by_who_still_sees_it() {
    let (mut world, mut owner) = with_messages(&["one"]);
    let (snapshot, reader) = (owner.snapshot(), owner.reader());
    let inbox = id_of(&owner, "INBOX");
    world.done(&mut owner, Request::Expunge { mailbox: inbox, which: Expunge::Exactly(uids(&[1])) });
    owner.tick(world.now);
    let view = snapshot.by_name(&name("INBOX")).unwrap().view.clone().unwrap();
    let message = view.by_uid(uid(1)).unwrap();
    assert!(reader.open(inbox, message).is_ok());
    // L-UN: five minutes later at the earliest it is gone.
    world.later(1200);
    owner.tick(world.now);
    assert!(matches!(reader.open(inbox, message), Err(crate::ReadError::Gone)));
}

#[test]
fn only_one_session_is_told_that_a_message_is_recent() {
    let (mut world, mut owner) = with_messages(&["one", "two"]);
    let view = owner.snapshot().by_name(&name("INBOX")).unwrap().view.clone().unwrap();
    assert_eq!(view.claim_recent(), 0);
    assert_eq!(view.claim_recent(), 2);
    owner.tick(world.now);
    owner.close(world.now);
    let owner = world.open();
    let view = owner.snapshot().by_name(&name("INBOX")).unwrap().view.clone().unwrap();
    assert_eq!(view.claim_recent(), 2);
}

#[test]
fn searches_look_into_headers_and_bodies() {
    let (_, owner) = with_messages(&["Gr\u{fc}\u{df}e", "plain"]);
    let reader = owner.reader();
    let view = owner.snapshot().by_name(&name("INBOX")).unwrap().view.clone().unwrap();
    let messages: Vec<_> = view.iter().cloned().collect();
    let found = |query: Query| -> Vec<bool> {
        reader.search(view.id, &messages, &query).into_iter().map(Result::unwrap).collect()
    };
    let subject = |text: &str| Query::Header { name: "subject".to_owned(), contains: text.to_owned() };
    assert_eq!(found(subject("GR\u{dc}SSE")), [false, false]);
    assert_eq!(found(subject("PLAIN")), [false, true]);
    assert_eq!(found(Query::Body("this is plain".to_owned())), [false, true]);
    assert_eq!(found(Query::Text("subject: plain".to_owned())), [false, true]);
    let both = Query::And(vec![Query::Body("this".to_owned()), Query::Not(Box::new(subject("plain")))]);
    assert_eq!(found(both), [true, false]);
    assert_eq!(found(Query::ModSeqFrom(ModSeq(1))), [true, true]);
    let described = reader.describe(view.id, &messages[1]).unwrap();
    assert_eq!(described.header.as_deref(), Some(&b"Subject: plain\r\n\r\n"[..]));
}

#[test]
fn the_account_can_be_dumped_and_verified() {
    let (mut world, mut owner) = with_messages(&["one", "two"]);
    let request = store(&owner, &[2], FlagEdit::Add, &["\\Seen", "work"]);
    world.done(&mut owner, request);
    let dump = serde_json::to_value(crate::dump::dump(&owner.snapshot(), &owner.reader(), |_, message| {
        message.uid.get().to_string()
    }))
    .unwrap();
    assert_eq!(dump["pop3_uidl_inbox"], serde_json::json!(["1", "2"]));
    let inbox = &dump["mailboxes"][0];
    assert_eq!(inbox["name"], "INBOX");
    assert_eq!(inbox["msgs"][1]["flags"][0], "\\Seen");
    assert_eq!(inbox["msgs"][1]["keywords"][0], "work");
    assert_eq!(inbox["msgs"][0]["body_sha256"].as_str().unwrap().len(), 64);
    assert_eq!(dump["pop3_uidl_inbox"].as_array().unwrap().len(), 2);
    let verified = owner.verify(world.now);
    assert_eq!((verified.messages, verified.problems), (2, vec![]));
}
