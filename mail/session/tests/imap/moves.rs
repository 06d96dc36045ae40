//! Sessions that go on at another node in the middle of a conversation (L-CN3).
//!
//! Most of what there is to say is said in `moved.rs`, which plays every other conversation to clients that are moved
//! whenever they can be.

use account::door::FlagEdit;
use proptest::prelude::*;
use session::blob::Blob;
use session::imap::Imap;
use session::{Input, LoggedIn, Session};

use crate::script::{check_in, mail};
use crate::select::select;
use crate::world::{NOW_UNIX_S, World, connection, options};

fn world() -> World {
    let mut world = World::new();
    for subject in ["one", "two", "three"] {
        world.deliver("INBOX", &mail(subject));
    }
    world.login();
    world
}

fn packed(world: &mut World) -> Option<Blob> {
    world.clients[0].session.handle(world.now, Input::Leaving);
    world.clients[0].session.export(world.now)
}

fn resume(world: &World, blob: &Blob) -> Result<Imap, session::blob::BlobRefused> {
    let logged_in = LoggedIn { user: "ada@example.org".into(), snapshot: world.snapshot(), final_data: None };
    Imap::resumed(connection(), options(), world.now, NOW_UNIX_S, logged_in, blob)
}

#[test]
fn an_idle_client_hears_of_what_happened_on_the_way_and_of_nothing_twice() {
    let mut world = world();
    select(&mut world, "SELECT INBOX");
    world.send(0, b"a IDLE\r\n");
    world.clients[0].received.clear();
    let blob = packed(&mut world).unwrap();
    world.deliver("INBOX", &mail("four"));
    world.expunge("INBOX", 2);
    world.edit_flags("INBOX", 1, FlagEdit::Add, &["\\Flagged"]);
    world.clients[0].session = resume(&world, &blob).unwrap();
    world.input(0, Input::Drained);
    check_in(
        &mut world,
        "
        S: * 2 EXPUNGE
        S: * 3 EXISTS
        S: * 3 RECENT
        S: * 1 FETCH (FLAGS (\\Flagged \\Recent))
        ",
    );
    world.send(0, b"DONE\r\n");
    check_in(&mut world, "S: a OK Idle completed");
}

#[test]
fn a_client_between_commands_hears_of_it_at_its_next_one() {
    let mut world = world();
    select(&mut world, "SELECT INBOX");
    world.expunge("INBOX", 1);
    world.publish();
    let blob = packed(&mut world).unwrap();
    world.deliver("INBOX", &mail("four"));
    world.clients[0].session = resume(&world, &blob).unwrap();
    check_in(
        &mut world,
        "
        C: a FETCH 1 (UID RFC822.SIZE)
        S: * 1 FETCH (UID 1 RFC822.SIZE ...)
        S: a OK ...
        C: b NOOP
        S: * 1 EXPUNGE
        S: * 3 EXISTS
        S: * 3 RECENT
        S: b OK ...
        ",
    );
}

#[test]
fn commands_that_were_sent_ahead_are_done_at_the_new_owner() {
    let mut world = world();
    select(&mut world, "SELECT INBOX");
    world.clients[0].session.handle(world.now, Input::Leaving);
    world.send(0, b"a NOOP\r\nb UID SEARCH ALL\r\nc NO");
    assert!(world.clients[0].received.is_empty(), "no command is begun");
    let blob = world.clients[0].session.export(world.now).unwrap();
    world.clients[0].session = resume(&world, &blob).unwrap();
    world.send(0, b"OP\r\n");
    check_in(
        &mut world,
        "
        S: a OK ...
        S: * SEARCH 1 2 3
        S: b OK ...
        S: c OK ...
        ",
    );
}

#[test]
fn a_session_that_stays_goes_on_with_what_it_held_back() {
    let mut world = world();
    world.clients[0].session.handle(world.now, Input::Leaving);
    assert!(!world.clients[0].session.wants_input());
    world.send(0, b"a NOOP\r\n");
    world.input(0, Input::Staying);
    check_in(&mut world, "S: a OK ...");
    assert!(world.clients[0].session.wants_input());
}

#[test]
fn nothing_is_carried_in_the_middle_of_a_command() {
    let mut world = world();
    world.send(0, b"a APPEND INBOX {20}\r\n");
    assert!(packed(&mut world).is_none(), "a message is on its way");
    assert!(world.clients[0].session.wants_input(), "its end is waited for");
    world.clients[0].received.clear();
    world.send(0, b"From: x\r\n\r\nabcdefgh\r\n");
    assert!(packed(&mut world).is_some());
    let mut world = self::world();
    world.send(0, b"a STATUS {5}\r\n");
    assert!(packed(&mut world).is_none(), "the client was asked for a literal");
}

#[test]
fn a_mailbox_that_is_gone_by_then_ends_the_session_as_it_would_have() {
    let mut world = world();
    world.create("Other");
    world.publish();
    select(&mut world, "SELECT Other");
    let blob = packed(&mut world).unwrap();
    check_in(&mut world, "delete Other");
    world.clients[0].session = resume(&world, &blob).unwrap();
    world.clients[0].received.clear();
    world.input(0, Input::Drained);
    check_in(&mut world, "S: * BYE [UNAVAILABLE] The selected mailbox was deleted or renumbered");
}

#[test]
fn a_client_that_could_ask_for_what_nobody_knows_connects_again() {
    let mut world = world();
    select(&mut world, "SELECT INBOX");
    let blob = packed(&mut world).unwrap();
    world.expunge("INBOX", 2);
    assert!(resume(&world, &blob).is_err());
}

#[test]
fn another_users_session_is_not_gone_on_with() {
    let mut world = world();
    let blob = packed(&mut world).unwrap();
    let logged_in = LoggedIn { user: "eve@example.org".into(), snapshot: world.snapshot(), final_data: None };
    assert!(Imap::resumed(connection(), options(), world.now, NOW_UNIX_S, logged_in, &blob).is_err());
}

#[test]
fn a_big_mailbox_takes_little_room() {
    let mut world = World::new();
    for _ in 0..5000 {
        world.deliver("INBOX", b"a: b\r\n\r\nx\r\n");
    }
    world.login();
    select(&mut world, "SELECT INBOX");
    assert!(packed(&mut world).unwrap().bytes().len() < 200);
}

proptest! {
    #[test]
    fn garbage_is_refused_or_harmless(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in any::<proptest::sample::Index>(),
        cuts in any::<bool>(),
    ) {
        let mut world = world();
        world.edit_flags("INBOX", 2, FlagEdit::Add, &["$Key", "\\Seen"]);
        world.publish();
        select(&mut world, "SELECT INBOX");
        world.expunge("INBOX", 3);
        world.publish();
        world.send(0, b"x NO");
        let mut bytes = packed(&mut world).unwrap().bytes().to_vec();
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if cuts {
            bytes.truncate(cut.index(bytes.len()));
        }
        if let Ok(session) = Blob::read(bytes.into()).and_then(|blob| resume(&world, &blob)) {
            world.clients[0].session = session;
            world.send(0, b"OP\r\ny NOOP\r\nz FETCH 1:* (FLAGS)\r\n");
        }
    }
}
