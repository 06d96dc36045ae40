//! AUTHORIZATION: capabilities, TLS, passwords, SASL, and opening the maildrop.

use account::Refused;
use session::{Closing, Input, LockRefused, LoginFailed, Session};

use crate::world::{World, check, connection, message_of, options};

#[test]
fn user_and_pass_open_the_maildrop() {
    let mut world = World::rfc();
    check(
        &mut world,
        "
        C: USER ada
        S: +OK Send the password
        C: PASS secret
        S: +OK Maildrop has 2 messages (320 octets)
        C: USER ada
        S: -ERR You are logged in already.
        ",
    );
    assert_eq!(world.session.doing().user.as_deref(), Some("ada@example.org"));
}

#[test]
fn a_password_may_have_spaces_at_both_ends() {
    let mut world = World::rfc();
    world.says("USER eve");
    assert!(world.says("PASS  a b ").starts_with("+OK"));
}

#[test]
fn a_failed_login_says_auth_and_not_which_was_wrong() {
    check(
        &mut World::rfc(),
        "
        C: USER nobody
        S: +OK Send the password
        C: PASS secret
        S: -ERR [AUTH] Authentication failed
        C: PASS secret
        S: -ERR USER first.
        C: USER ada
        S: +OK Send the password
        C: PASS wrong
        S: -ERR [AUTH] Authentication failed
        C: STAT
        S: -ERR Log in first.
        ",
    );
}

#[test]
fn trouble_with_the_user_database_is_not_the_clients_fault() {
    for failed in [LoginFailed::Unavailable("down".into()), LoginFailed::TooManySessions] {
        let mut world = World::rfc();
        world.login = Some(failed);
        world.says("USER ada");
        assert!(world.says("PASS secret").starts_with("-ERR [SYS/TEMP] "));
        assert_eq!(world.closed, None);
        world.login = None;
        world.says("USER ada");
        assert!(world.says("PASS secret").starts_with("+OK"));
    }
}

#[test]
fn guessing_passwords_ends_after_some_tries() {
    let mut world = World::rfc();
    for _ in 0..9 {
        world.says("USER ada");
        world.says("PASS guess");
    }
    assert_eq!(world.closed, None);
    world.says("USER ada");
    world.says("PASS guess");
    assert!(matches!(world.closed, Some(Closing::Misbehaved(_))));
}

#[test]
fn capabilities_say_what_can_be_done() {
    let mut world = World::rfc();
    check(
        &mut world,
        "
        C: CAPA
        S: +OK Capability list follows
        S: TOP
        S: UIDL
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: PIPELINING
        S: EXPIRE NEVER
        S: IMPLEMENTATION Roost
        S: USER
        S: SASL SCRAM-SHA-256
        S: STLS
        S: .
        C: STLS
        S: +OK Begin TLS negotiation
        C: CAPA
        S: +OK Capability list follows
        S: TOP
        S: UIDL
        S: RESP-CODES
        S: AUTH-RESP-CODE
        S: PIPELINING
        S: EXPIRE NEVER
        S: IMPLEMENTATION Roost
        S: USER
        S: SASL SCRAM-SHA-256 PLAIN
        S: .
        ",
    );
    // RFC 2449 §6: USER and SASL are announced in both states, alike.
    let before = world.says("CAPA");
    let mut world = world.logged_in();
    assert_eq!(world.says("CAPA"), before);
}

#[test]
fn no_password_goes_over_a_plain_line_where_that_is_forbidden() {
    let plain = session::Connection { plaintext_without_tls: false, ..connection() };
    let mut world = World::with(plain, options());
    assert!(!world.says("CAPA").contains("USER"));
    check(
        &mut world,
        "
        C: USER ada
        S: -ERR Plaintext passwords are not allowed without TLS
        C: PASS secret
        S: -ERR Plaintext passwords are not allowed without TLS
        C: AUTH PLAIN AGFkYQBzZWNyZXQ=
        S: -ERR No such mechanism.
        C: STLS
        S: +OK Begin TLS negotiation
        C: AUTH PLAIN AGFkYQBzZWNyZXQ=
        S: +OK Maildrop has 0 messages (0 octets)
        ",
    );
}

/// RFC 2595 §4.
#[test]
fn what_was_sent_before_tls_is_forgotten() {
    let mut world = World::rfc();
    world.says("USER ada");
    world.feed(b"STLS\r\nUSER eve\r\nPASS  a b \r\n");
    assert_eq!(world.takes(), "+OK Begin TLS negotiation\r\n");
    assert_eq!(world.says("PASS secret"), "-ERR USER first.\r\n");
    assert_eq!(world.says("STLS"), "-ERR TLS is active already.\r\n");
}

#[test]
fn stls_is_refused_after_login_and_without_certificate() {
    let mut world = World::rfc().logged_in();
    assert!(world.says("STLS").starts_with("-ERR"));
    let mut world = World::with(session::Connection { tls_available: false, ..connection() }, options());
    assert!(world.says("STLS").starts_with("-ERR"));
    assert!(!world.says("CAPA").contains("STLS"));
}

/// RFC 5034 §6, RFC 5802: the server's last message needs an answer before `+OK`.
#[test]
fn sasl_goes_back_and_forth() {
    let mut world = World::rfc();
    check(
        &mut world,
        "
        C: AUTH
        S: +OK Mechanisms follow
        S: SCRAM-SHA-256
        S: .
        C: AUTH scram-sha-256
        S: +
        C: Y2xpZW50IGZpcnN0
        S: + c2VydmVyIGZpcnN0
        C: Y2xpZW50IGZpbmFs
        S: + dj15ZXM=
        C:
        S: +OK Maildrop has 2 messages (320 octets)
        C: AUTH SCRAM-SHA-256
        S: -ERR You are logged in already.
        ",
    );
}

#[test]
fn plain_comes_with_or_without_initial_response() {
    for script in [
        "
        C: AUTH PLAIN AGFkYQBzZWNyZXQ=
        S: +OK Maildrop ...
        ",
        "
        C: AUTH PLAIN
        S: +
        C: AGFkYQBzZWNyZXQ=
        S: +OK Maildrop ...
        ",
        "
        C: AUTH PLAIN AGFkYQB3cm9uZw==
        S: -ERR [AUTH] Authentication failed
        C: AUTH PLAIN !!
        S: -ERR Initial response is not base64.
        ",
    ] {
        check(&mut World::with(session::Connection { tls: true, ..connection() }, options()), script);
    }
}

#[test]
fn an_empty_initial_response_is_not_a_missing_one() {
    let mut world = World::rfc();
    world.says("AUTH SCRAM-SHA-256 =");
    assert_eq!(world.asked, ["SCRAM-SHA-256 Some([])"]);
}

#[test]
fn sasl_can_be_cancelled_and_tried_again() {
    let mut world = World::rfc();
    check(
        &mut world,
        "
        C: AUTH SCRAM-SHA-256
        S: +
        C: *
        S: -ERR Authentication cancelled
        C: AUTH SCRAM-SHA-256
        S: +
        C: no base64
        S: -ERR Response is not base64.
        C: AUTH SCRAM-SHA-256
        S: +
        C: Y2xpZW50IGZpbmFs
        S: + dj15ZXM=
        C: AAAA
        S: -ERR Expected an empty response.
        C: STAT
        S: -ERR Log in first.
        C: USER ada
        S: +OK ...
        C: PASS secret
        S: +OK Maildrop ...
        ",
    );
    assert_eq!(world.asked.iter().filter(|asked| *asked == "cancel").count(), 3);
}

#[test]
fn only_one_session_has_the_maildrop() {
    let mut world = World::rfc();
    world.lock = Err(LockRefused::InUse);
    check(
        &mut world,
        "
        C: USER ada
        S: +OK ...
        C: PASS secret
        S: -ERR [IN-USE] Another POP3 session has this maildrop
        ",
    );
    assert!(world.closed.is_some());
    let mut shared = World::with(connection(), session::pop3::Options { lock: false, ..options() });
    shared.lock = Err(LockRefused::InUse);
    shared.logged_in();
}

#[test]
fn mail_that_another_program_left_is_seen_at_login() {
    let mut world = World::rfc();
    world.unseen.insert(9, message_of(80));
    let mut world = world.logged_in();
    assert_eq!(world.says("STAT"), "+OK 3 400\r\n");
}

#[test]
fn an_account_that_cannot_be_looked_at_is_not_opened() {
    let mut world = World::rfc();
    world.observe = Some(Refused::Deposed);
    world.says("USER ada");
    assert!(world.says("PASS secret").starts_with("-ERR [SYS/TEMP] "));
    assert!(matches!(world.closed, Some(Closing::Failed(_))));
    let mut world = World::rfc();
    world.observe = Some(Refused::Unknown);
    world.says("USER ada");
    assert_eq!(world.says("PASS secret"), "");
    assert!(world.closed.is_some());
}

#[test]
fn silence_before_login_ends_soon_and_without_a_word() {
    let mut world = World::rfc();
    world.later(59);
    assert_eq!(world.closed, None);
    // Half a line is silence too.
    world.feed(b"US");
    world.later(1);
    assert_eq!(
        (world.closed.clone(), world.takes().as_str()),
        (Some(Closing::TimedOut("it was silent")), "")
    );
}

#[test]
fn quit_before_login_is_goodbye() {
    let mut world = World::rfc();
    assert_eq!(world.says("quit"), "+OK Bye\r\n");
    assert_eq!(world.closed, Some(Closing::LoggedOut));
}

#[test]
fn a_stopping_server_breaks_off_a_sasl_exchange() {
    let mut world = World::rfc();
    world.says("AUTH SCRAM-SHA-256");
    world.handle(Input::Stopping);
    assert_eq!(world.takes(), "-ERR [SYS/TEMP] Server is stopping, try again\r\n");
    assert_eq!(world.closed, Some(Closing::Stopping));
}
