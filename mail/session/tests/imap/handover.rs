//! Clients whose account is at another node: what the edge hands over, and how the owner goes on (L-CN1).

use session::{HandOver, Input, LoginFailed, PendingLogin, Session};

use crate::script::check_in;
use crate::world::{World, connection};

fn stranger() -> World {
    let mut world = World::new();
    world.connect(connection());
    world.clients[0].received.clear();
    world
}

fn handed_over(world: &World) -> (&str, &str, &[u8]) {
    let [(_, HandOver { user, login: PendingLogin::Imap { tag }, unread })] = &world.handed_over[..] else {
        panic!("one session is handed over: {:?}", world.handed_over);
    };
    (user, tag.as_str(), unread)
}

fn fails(world: &mut World, failed: LoginFailed) {
    let (ticket, _) = world.handed_over.remove(0);
    world.input(0, Input::Answered(ticket, session::Answer::LoginFailed(failed)));
}

#[test]
fn a_login_is_handed_over_unanswered_with_what_was_sent_behind_it() {
    let mut world = stranger();
    world.send(0, b"a LOGIN moved secret\r\nb SELECT INBOX\r\nc FE");
    assert_eq!(handed_over(&world), ("moved@example.org", "a", &b"b SELECT INBOX\r\nc FE"[..]));
    assert!(world.clients[0].received.is_empty(), "the owner answers");
    assert!(!world.clients[0].session.wants_input(), "what comes now is the owner's");
    assert_eq!(world.clients[0].session.deadline(), None);
}

#[test]
fn literals_and_an_initial_response_are_handed_over_alike() {
    let mut world = stranger();
    world.send(0, b"a LOGIN {5+}\r\nmoved {6+}\r\nsecret\r\nb NOOP\r\n");
    assert_eq!(handed_over(&world), ("moved@example.org", "a", &b"b NOOP\r\n"[..]));
    let mut world = stranger();
    world.send(0, b"x AUTHENTICATE PLAIN AG1vdmVkAHNlY3JldA==\r\nb NOOP\r\n");
    assert_eq!(handed_over(&world), ("moved@example.org", "x", &b"b NOOP\r\n"[..]));
}

#[test]
fn the_last_word_of_sasl_is_said_before_the_hand_over() {
    let mut world = stranger();
    check_in(
        &mut world,
        "
        C: a AUTHENTICATE SCRAM-SHA-256
        S: + Y2hhbGxlbmdl
        C: c2NyYW0gZWxzZXdoZXJl
        S: + dj1maW5hbA==
        ",
    );
    assert!(world.handed_over.is_empty());
    world.send(0, b"\r\nb NOOP\r\n");
    assert_eq!(handed_over(&world), ("moved@example.org", "a", &b"b NOOP\r\n"[..]));
}

#[test]
fn a_session_that_no_node_takes_goes_on_where_it_was() {
    let mut world = stranger();
    world.send(0, b"a LOGIN moved secret\r\nb NOOP\r\n");
    fails(&mut world, LoginFailed::Unavailable("nobody owns the account".into()));
    check_in(
        &mut world,
        "
        S: a NO [UNAVAILABLE] Login is not possible now, try again
        S: b OK ...
        C: c LOGIN ada secret
        S: c OK [CAPABILITY ...] Logged in
        ",
    );
    let mut world = stranger();
    world.send(0, b"a LOGIN moved secret\r\n");
    fails(&mut world, LoginFailed::TooManySessions);
    check_in(&mut world, "S: a NO [LIMIT] ...");
}

#[test]
fn an_account_that_comes_here_meanwhile_is_opened_here() {
    let mut world = stranger();
    world.send(0, b"a LOGIN moved secret\r\nb NOOP\r\n");
    let (ticket, _) = world.handed_over.remove(0);
    let snapshot = world.snapshot();
    let logged_in = session::LoggedIn { user: "moved@example.org".into(), snapshot, final_data: None };
    world.input(0, Input::Answered(ticket, session::Answer::LoggedIn(logged_in)));
    check_in(
        &mut world,
        "
        S: a OK [CAPABILITY ...] Logged in
        S: b OK ...
        ",
    );
}

#[test]
fn the_owner_answers_the_login_and_goes_on_as_if_it_had_taken_it() {
    let mut world = World::new();
    let client = world.admit("a7");
    world.send(client, b"b SELECT INBOX\r\n");
    check_in(
        &mut world,
        "
        S: a7 OK [CAPABILITY IMAP4rev1 ... QRESYNC ...] Logged in
        S: * FLAGS ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: ...
        S: b OK [READ-WRITE] ...
        C: c LOGIN ada secret
        S: c BAD [CLIENTBUG] ...
        ",
    );
    assert_eq!(world.clients[client].session.doing().user.as_deref(), Some("ada@example.org"));
}
