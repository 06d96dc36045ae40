//! APPEND.

use crate::script::{check, check_in};
use crate::select::selected;
use crate::world::World;

#[test]
fn a_message_is_streamed_stored_and_named() {
    let mut world = selected("");
    check_in(
        &mut world,
        "
        C: a APPEND INBOX (\\Seen $Work) \" 1-Feb-2020 10:00:00 +0100\" {14}
        S: + OK
        C: Subject: x
        C: 
        C: 
        S: * 1 EXISTS
        S: * 1 RECENT
        S: * FLAGS (... $Work)
        S: * OK [PERMANENTFLAGS ...
        S: a OK [APPENDUID 42 1] Append completed
        C: b FETCH 1 (FLAGS INTERNALDATE RFC822.SIZE)
        S: * 1 FETCH (FLAGS (\\Seen $Work \\Recent) INTERNALDATE \" 1-Feb-2020 09:00:00 +0000\" RFC822.SIZE 14)
        S: b OK ...
        ",
    );
}

#[test]
fn what_would_be_refused_is_refused_before_it_is_sent() {
    check(
        "
        C: a APPEND nowhere {10}
        S: a NO [TRYCREATE] Mailbox does not exist
        C: b APPEND INBOX {9999999}
        S: b NO [TOOBIG] ...
        C: c APPEND INBOX {0}
        S: c NO [CANNOT] ...
        C: d APPEND nowhere {5+}
        S: d NO [TRYCREATE] ...
        C: hello
        C: e NOOP
        S: e OK ...
        ",
    );
}

#[test]
fn a_stranger_cannot_append() {
    let mut world = World::new();
    world.connect(crate::world::connection());
    world.clients[0].received.clear();
    check_in(&mut world, "C: a APPEND INBOX {5}\nS: a BAD [CLIENTBUG] Log in first");
}

#[test]
fn trouble_with_the_spool_is_told_at_once_and_the_rest_is_thrown_away() {
    let mut world = World::new();
    world.spool_full = true;
    world.login();
    check_in(
        &mut world,
        "
        C: a APPEND INBOX {12+}
        C: hello
        S: a NO [UNAVAILABLE] No space left for mail, nothing was stored
        C: world
        C: b NOOP
        S: b OK ...
        ",
    );
    assert!(world.mailbox("INBOX").messages.is_empty());
}

#[test]
fn over_quota_and_a_hangup_in_the_middle_store_nothing() {
    let mut world = World::new();
    check_in(
        &mut world,
        "
        refuse quota
        C: a APPEND INBOX {5+}
        C: hello
        S: a NO [OVERQUOTA] Quota exceeded
        C: b APPEND INBOX {50+}
        C: hello
        hang up
        closed ClientHungUp
        ",
    );
    assert!(world.mailbox("INBOX").messages.is_empty());
}

#[test]
fn text_after_the_message_makes_the_append_bad() {
    let mut world = World::new();
    check_in(&mut world, "C: a APPEND INBOX {5+}\nC: hello x\nS: a BAD ...\nC: b NOOP\nS: b OK ...");
    assert!(world.mailbox("INBOX").messages.is_empty());
}
