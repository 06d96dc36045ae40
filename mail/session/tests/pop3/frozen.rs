//! A site without a majority: POP3 shows what it showed, says so where there is room for it, and removes nothing.

use session::pop3::FROZEN;
use session::{Input, Session};

use crate::world::{World, check};

#[test]
fn a_frozen_maildrop_is_read_and_nothing_is_marked_or_removed() {
    let mut world = World::rfc().logged_in();
    world.handle(Input::Frozen);
    assert_eq!(world.says("NOOP"), format!("+OK {FROZEN}\r\n"));
    assert!(world.says("RETR 1").starts_with("+OK ") && !world.says("STAT").contains(FROZEN));
    assert!(world.says("TOP 1 0").starts_with(&format!("+OK {FROZEN}\r\n")));
    assert!(world.says("DELE 1").starts_with("-ERR [SYS/TEMP] "));
    world.handle(Input::Thawed);
    check(&mut world, "C: DELE 1\nS: +OK Message 1 deleted");
}

#[test]
fn an_answer_that_waited_to_be_sent_is_not_sent_unmarked() {
    let mut world = World::rfc().logged_in();
    let now = world.now;
    world.session.handle(now, Input::Received(b"NOOP\r\n"));
    world.handle(Input::Frozen);
    assert_eq!(world.takes(), "");
    assert!(world.closed.is_some());
}
