//! Greeting, capabilities, STARTTLS, LOGIN, AUTHENTICATE, ENABLE, ID, LOGOUT.

use session::{Closing, Connection};

use crate::script::{check, check_in};
use crate::world::{World, connection};

fn plain_connection() -> Connection {
    Connection {
        tls: false,
        mechanisms_plain: std::sync::Arc::new(["SCRAM-SHA-256".to_owned()]),
        ..connection()
    }
}

fn check_stranger(connection: Connection, script: &str) -> World {
    let mut world = World::new();
    world.connect(connection);
    check_in(&mut world, script);
    world
}

#[test]
fn without_tls_no_password_is_taken() {
    check_stranger(
        plain_connection(),
        "
        S: * OK [CAPABILITY IMAP4rev1 SASL-IR LITERAL+ ENABLE ID IDLE STARTTLS LOGINDISABLED AUTH=SCRAM-SHA-256] mx...
        C: a LOGIN ada secret
        S: a NO [PRIVACYREQUIRED] ...
        C: b AUTHENTICATE PLAIN AGFkYQBzZWNyZXQ=
        S: b NO [PRIVACYREQUIRED] ...
        C: c SELECT INBOX
        S: c BAD [CLIENTBUG] Log in first
        ",
    );
}

#[test]
fn what_was_sent_before_tls_is_forgotten() {
    let mut world = World::new();
    world.connect(plain_connection());
    world.clients[0].received.clear();
    world.send(0, b"a STARTTLS\r\nb LOGIN ada secret\r\n");
    check_in(
        &mut world,
        "
        S: a OK Begin TLS negotiation now
        C: c CAPABILITY
        S: * CAPABILITY IMAP4rev1 ... AUTH=PLAIN AUTH=SCRAM-SHA-256
        S: c OK ...
        C: d STARTTLS
        S: d BAD TLS is active already
        C: e LOGIN ada secret
        S: e OK [CAPABILITY IMAP4rev1 ... QRESYNC ...] Logged in
        C: f LOGIN ada secret
        S: f BAD [CLIENTBUG] ...
        ",
    );
}

#[test]
fn login_fails_with_a_code_that_says_why() {
    check_stranger(
        connection(),
        "
        S: * OK ...
        C: a LOGIN ada wrong
        S: a NO [AUTHENTICATIONFAILED] Authentication failed
        C: b LOGIN busy x
        S: b NO [LIMIT] ...
        C: c LOGIN lost x
        S: c NO [UNAVAILABLE] ...
        C: d LOGIN {3+}
        C: ada {6}
        S: + OK
        C: secret
        S: d OK [CAPABILITY ...] Logged in
        ",
    );
}

#[test]
fn sasl_with_and_without_initial_response() {
    check_stranger(
        connection(),
        "
        S: * OK ...
        C: a AUTHENTICATE PLAIN
        S: +...
        C: AGFkYQB3cm9uZw==
        S: a NO [AUTHENTICATIONFAILED] ...
        C: b AUTHENTICATE PLAIN
        S: +...
        C: *
        S: b BAD Authentication cancelled
        C: c AUTHENTICATE PLAIN
        S: +...
        C: %%%
        S: c BAD Response is not base64
        C: d AUTHENTICATE CRAM-MD5
        S: d NO [CANNOT] No such mechanism
        C: e AUTHENTICATE PLAIN AGFkYQBzZWNyZXQ=
        S: e OK [CAPABILITY ...] Logged in
        ",
    );
}

#[test]
fn scram_ends_with_an_empty_line_because_ok_has_no_room_for_data() {
    check_stranger(
        connection(),
        "
        S: * OK ...
        C: a AUTHENTICATE SCRAM-SHA-256
        S: + Y2hhbGxlbmdl
        C: c2NyYW0=
        S: + dj1maW5hbA==
        C: 
        S: a OK [CAPABILITY ...] Logged in
        ",
    );
}

#[test]
fn enable_names_only_what_is_new() {
    check(
        "
        C: a ENABLE CONDSTORE X-UNKNOWN
        S: * ENABLED CONDSTORE
        S: a OK Enabled
        C: b ENABLE CONDSTORE QRESYNC
        S: * ENABLED QRESYNC
        S: b OK Enabled
        ",
    );
}

#[test]
fn id_capability_noop_and_logout() {
    let mut world = World::new();
    check_in(
        &mut world,
        "
        C: a ID (\"name\" \"test\")
        S: * ID (\"name\" \"Roost\" \"version\" ...)
        S: a OK ID completed
        C: b CAPABILITY
        S: * CAPABILITY IMAP4rev1 ... UIDPLUS MOVE CONDSTORE QRESYNC ...
        S: b OK Capability completed
        C: c NOOP
        S: c OK ...
        C: d LOGOUT
        S: * BYE Logging out
        S: d OK Logout completed
        closed LoggedOut
        ",
    );
}

#[test]
fn a_stranger_who_speaks_no_imap_is_shown_the_door() {
    let mut world = World::new();
    world.connect(connection());
    world.clients[0].received.clear();
    world.send(0, b"GET / HTTP/1.1\r\nHost: mx\r\nAccept: */*\r\n\r\n");
    assert!(matches!(world.clients[0].closed, Some(Closing::Misbehaved(_))));
}

#[test]
fn guessing_passwords_ends_the_connection() {
    let mut world = World::new();
    world.connect(connection());
    for _ in 0..10 {
        assert_eq!(world.clients[0].closed, None);
        world.send(0, b"a LOGIN ada guess\r\n");
    }
    assert!(matches!(world.clients[0].closed, Some(Closing::Misbehaved(_))));
}

#[test]
fn twenty_bad_commands_in_a_row_end_the_session_and_a_good_one_between_forgives() {
    let mut world = World::new();
    world.login();
    for round in 0..2 {
        for _ in 0..19 {
            world.send(0, b"a NONSENSE\r\n");
        }
        assert_eq!(world.clients[0].closed, None, "round {round}");
        world.send(0, b"a NOOP\r\n");
    }
    for _ in 0..20 {
        world.send(0, b"a NONSENSE\r\n");
    }
    assert!(matches!(world.clients[0].closed, Some(Closing::Misbehaved(_))));
}

#[test]
fn a_stranger_cannot_stay_for_ever_by_asking_for_nothing() {
    let mut world = World::new();
    world.connect(connection());
    for _ in 0..100 {
        assert_eq!(world.clients[0].closed, None);
        world.send(0, b"a NOOP\r\n");
    }
    assert!(matches!(world.clients[0].closed, Some(Closing::Misbehaved(_))));
}
