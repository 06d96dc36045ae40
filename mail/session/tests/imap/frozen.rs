//! A site without a majority: what is shown is marked, before any of it (`locking.md` §8).

use session::imap::{FROZEN, THAWED};
use session::{Closing, Input};

use crate::script::{check_in, mail};
use crate::select::select;
use crate::world::World;

fn world() -> World {
    let mut world = World::new();
    world.deliver("INBOX", &mail("one"));
    world.login();
    world
}

fn heard(world: &mut World) -> String {
    String::from_utf8(std::mem::take(&mut world.clients[0].received)).unwrap()
}

#[test]
fn a_client_is_told_at_once_when_it_begins_and_when_it_ends() {
    let mut world = world();
    select(&mut world, "SELECT INBOX");
    world.clients[0].received.clear();
    world.input(0, Input::Frozen);
    assert_eq!(heard(&mut world), format!("* OK [ALERT] {FROZEN}\r\n"));
    check_in(
        &mut world,
        "
        C: a FETCH 1 (UID)
        S: * 1 FETCH (UID 1)
        S: a OK ...
        ",
    );
    world.input(0, Input::Thawed);
    assert_eq!(heard(&mut world), format!("* OK {THAWED}\r\n"));
}

#[test]
fn an_idle_client_is_told_and_idles_on() {
    let mut world = world();
    select(&mut world, "SELECT INBOX");
    world.send(0, b"a IDLE\r\n");
    world.clients[0].received.clear();
    world.input(0, Input::Frozen);
    world.send(0, b"DONE\r\n");
    let heard = heard(&mut world);
    assert!(heard.starts_with(&format!("* OK [ALERT] {FROZEN}\r\na OK ")), "{heard}");
}

#[test]
fn an_answer_that_waited_to_be_sent_comes_behind_the_mark() {
    let mut world = world();
    world.clients[0].received.clear();
    let now = world.now;
    let session = &mut world.clients[0].session;
    session::Session::handle(session, now, Input::Received(b"a NOOP\r\n"));
    world.input(0, Input::Frozen);
    let heard = heard(&mut world);
    assert!(heard.starts_with(&format!("* OK [ALERT] {FROZEN}\r\na OK ")), "{heard}");
}

#[test]
fn a_response_that_has_begun_is_not_marked_but_cut_off() {
    let mut world = World::new();
    let mut long = mail("long");
    long.resize(2_000_000, b'x');
    world.deliver("INBOX", &long);
    world.login();
    select(&mut world, "SELECT INBOX");
    world.clients[0].received.clear();
    world.slow = true;
    world.send(0, b"a FETCH 1 (BODY.PEEK[])\r\n");
    let before = world.clients[0].received.len();
    assert!(before > 0 && before < 2_000_000);
    world.input(0, Input::Frozen);
    assert_eq!(world.clients[0].received.len(), before, "nothing more comes");
    assert!(matches!(world.clients[0].closed, Some(Closing::Kicked(_))), "{:?}", world.clients[0].closed);
}
