//! Clients whose maildrop is at another node (L-CN1, L-CN2).

use session::{Answer, LockRefused, Question, Session};

use crate::world::{World, check};

#[test]
fn user_and_pass_are_handed_over_unanswered_with_what_was_sent_behind_them() {
    let mut world = World::rfc();
    world.elsewhere = true;
    world.says("USER ada");
    world.holds = true;
    world.feed(b"PASS secret\r\nSTAT\r\nLI");
    let (ticket, _) = world.held.remove(0);
    world.handle(session::Input::Answered(
        ticket,
        Answer::Elsewhere(session::Elsewhere { user: "ada@example.org".into(), final_data: None }),
    ));
    let [(_, Question::HandOver(hand_over))] = &world.held[..] else { panic!("{:?}", world.held) };
    assert_eq!((hand_over.user.as_str(), &hand_over.unread[..]), ("ada@example.org", &b"STAT\r\nLI"[..]));
    assert_eq!(world.takes(), "", "the owner answers");
    assert!(!world.session.wants_input(), "what comes now is the owner's");
}

#[test]
fn a_session_that_no_node_takes_is_told_to_try_again() {
    let mut world = World::rfc();
    world.elsewhere = true;
    check(
        &mut world,
        "
        C: USER ada
        S: +OK Send the password
        C: PASS secret
        S: -ERR [SYS/TEMP] Login is not possible now, try again
        C: AUTH SCRAM-SHA-256
        S: +
        C: Y2xpZW50IGZpcnN0
        S: + c2VydmVyIGZpcnN0
        C: Y2xpZW50IGZpbmFs
        S: + dj15ZXM=
        C:
        S: -ERR [SYS/TEMP] Login is not possible now, try again
        ",
    );
}

#[test]
fn the_owner_opens_the_maildrop_and_answers_the_login() {
    let mut world = World::rfc();
    world.admit();
    assert_eq!(world.takes(), "+OK Maildrop has 2 messages (320 octets)\r\n");
    check(
        &mut world,
        "
        C: STAT
        S: +OK 2 320
        ",
    );
}

#[test]
fn the_owner_has_the_lock() {
    let mut world = World::rfc();
    world.lock = Err(LockRefused::InUse);
    world.admit();
    assert_eq!(world.takes(), "-ERR [IN-USE] Another POP3 session has this maildrop\r\n");
    assert!(world.closed.is_some());
}
