//! Sessions that go on at another node in the middle of a conversation (L-CN3).

use session::blob::Blob;
use session::pop3::Pop3;
use session::{Input, LoggedIn, Session};

use crate::world::{World, check, connection, message_of, options};

fn packed(world: &mut World) -> Option<Blob> {
    let snapshot = world.snapshot();
    world.handle(Input::Leaving);
    world.handle(Input::Changed(snapshot));
    world.session.export(world.now)
}

fn resumes(world: &World, blob: &Blob) -> bool {
    let logged_in =
        LoggedIn { user: "ada@example.org".to_owned(), snapshot: world.snapshot(), final_data: None };
    Pop3::resumed(world.now, connection(), options(), logged_in, blob).is_ok()
}

#[test]
fn what_was_marked_stays_marked_and_is_removed_after_quit() {
    let mut world = World::rfc().logged_in();
    check(
        &mut world,
        "
        C: DELE 1
        S: +OK Message 1 deleted
        ",
    );
    assert!(world.relocate());
    check(
        &mut world,
        "
        C: STAT
        S: +OK 1 200
        C: RETR 1
        S: -ERR Message is deleted
        C: LIST 2
        S: +OK 2 200
        ",
    );
    assert!(world.relocate());
    world.says("QUIT");
    assert_eq!(world.removed, [3]);
}

#[test]
fn what_comes_on_the_way_is_not_in_this_maildrop() {
    let mut world = World::rfc().logged_in();
    world.messages.insert(9, message_of(80));
    assert!(world.relocate());
    check(
        &mut world,
        "
        C: STAT
        S: +OK 2 320
        ",
    );
}

#[test]
fn a_message_that_others_removed_before_keeps_its_number_and_size() {
    let mut world = World::rfc().logged_in();
    world.messages.remove(&3);
    assert!(world.relocate());
    check(
        &mut world,
        "
        C: STAT
        S: +OK 2 320
        C: LIST 1
        S: +OK 1 120
        ",
    );
}

#[test]
fn commands_that_were_sent_ahead_are_done_at_the_new_owner() {
    let mut world = World::rfc().logged_in();
    world.handle(Input::Leaving);
    world.handle(Input::Received(b"STAT\r\nNO"));
    assert_eq!(world.takes(), "", "no command is begun");
    assert!(world.relocate());
    world.feed(b"OP\r\n");
    assert_eq!(world.takes(), "+OK 2 320\r\n+OK\r\n");
}

#[test]
fn nothing_is_carried_before_the_login_or_in_the_middle_of_an_answer() {
    let mut world = World::rfc();
    assert!(packed(&mut world).is_none());
    let mut world = World::rfc().logged_in();
    world.holds = true;
    world.feed(b"RETR 1\r\n");
    assert!(packed(&mut world).is_none());
}

#[test]
fn a_maildrop_that_has_changed_or_a_session_that_is_none_is_refused() {
    let mut world = World::rfc().logged_in();
    let blob = packed(&mut world).unwrap();
    assert!(resumes(&world, &blob));
    for at in 0..blob.bytes().len() {
        let mut bytes = blob.bytes().to_vec();
        bytes.truncate(at);
        assert!(!Blob::read(bytes.into()).is_ok_and(|blob| resumes(&world, &blob)));
        for byte in 0..=255 {
            let mut bytes = blob.bytes().to_vec();
            bytes[at] = byte;
            // Refused or read, it does not panic.
            let _ = Blob::read(bytes.into()).map(|blob| resumes(&world, &blob));
        }
    }
    world.messages.remove(&5);
    assert!(!resumes(&world, &blob));
}
