//! What goes wrong: messages that vanish, disks that fail, clients that hang up, operators that stop the server.

use account::Refused;
use session::{Closing, Input, ReadFailed, Session};

use crate::world::{World, check, message_of};

/// RFC 1939 §6: "If a session terminates for some reason other than a client-issued QUIT command, the POP3 session does
/// NOT enter the UPDATE state".
#[test]
fn hangup_without_quit_keeps_every_message() {
    let mut world = World::rfc().logged_in();
    world.says("DELE 1");
    world.handle(Input::Received(&[]));
    assert_eq!(world.closed, Some(Closing::ClientHungUp));
    assert_eq!(world.removed, [0; 0]);
    let mut world = World::rfc().logged_in();
    world.feed(b"DELE 1\r\nQUI");
    world.handle(Input::Received(&[]));
    assert_eq!(world.removed, [0; 0]);
}

#[test]
fn silence_keeps_every_message() {
    let mut world = World::rfc().logged_in();
    world.says("DELE 1");
    world.later(599);
    assert_eq!(world.closed, None);
    world.says("NOOP");
    world.later(599);
    assert_eq!(world.closed, None);
    world.later(1);
    assert_eq!(
        (world.closed.clone(), world.takes().as_str()),
        (Some(Closing::TimedOut("it was silent")), "")
    );
    assert_eq!(world.removed, [0; 0]);
}

#[test]
fn quit_counts_even_if_the_client_does_not_wait_for_the_answer() {
    let mut world = World::rfc().logged_in();
    world.holds = true;
    world.feed(b"DELE 1\r\nQUIT\r\n");
    world.handle(Input::Received(&[]));
    assert_eq!(world.closed, None);
    world.answers_held();
    assert_eq!(world.removed, [3]);
    assert_eq!(world.closed, Some(Closing::LoggedOut));
}

#[test]
fn messages_that_cannot_be_removed_are_reported() {
    for (refused, code) in [
        (Refused::Deposed, "SYS/TEMP"),
        (Refused::NotStored("disk".into()), "SYS/TEMP"),
        (Refused::NoSpace("full".into()), "SYS/TEMP"),
        (Refused::Unavailable("stopping".into()), "SYS/TEMP"),
        (Refused::MailboxGone, "SYS/PERM"),
    ] {
        let mut world = World::rfc().logged_in();
        world.expunge = Some(refused);
        world.says("DELE 1");
        let said = world.says("QUIT");
        assert!(said.starts_with(&format!("-ERR [{code}] ")), "{said}");
        assert!(matches!(world.closed, Some(Closing::Failed(_))));
        assert_eq!(world.removed, [0; 0]);
    }
}

/// L-CM2.
#[test]
fn a_deletion_of_unknown_fate_is_neither_ok_nor_err() {
    let mut world = World::rfc().logged_in();
    world.expunge = Some(Refused::Unknown);
    world.says("DELE 1");
    assert_eq!(world.says("QUIT"), "");
    assert_eq!(world.closed, Some(Closing::UnknownFate));
    let mut world = World::rfc().logged_in();
    world.says("DELE 1");
    world.holds = true;
    world.says("QUIT");
    world.handle(Input::Kicked("operator"));
    assert_eq!((world.takes().as_str(), world.closed), ("", Some(Closing::Kicked("operator"))));
}

#[test]
fn a_message_that_vanished_breaks_nothing_else() {
    let mut world = World::rfc().logged_in();
    world.readable.insert(3, (0, Err(ReadFailed::Gone)));
    check(
        &mut world,
        "
        C: RETR 1
        S: -ERR Message was removed meanwhile
        C: TOP 1 0
        S: -ERR Message was removed meanwhile
        C: STAT
        S: +OK 2 320
        C: TOP 2 0
        S: +OK
        S: Subject: a
        S:
        S: .
        C: DELE 1
        S: +OK Message 1 deleted
        C: QUIT
        S: +OK Bye, messages deleted
        ",
    );
}

#[test]
fn a_message_that_cannot_be_read_is_temporary_trouble() {
    for end in [Err(ReadFailed::Failed("EIO".into())), Ok(())] {
        let mut world = World::rfc().logged_in();
        world.readable.insert(3, (0, end));
        assert_eq!(world.says("RETR 1"), "-ERR [SYS/TEMP] Message cannot be read now\r\n");
        assert_eq!(world.says("NOOP"), "+OK\r\n");
    }
}

/// A client that is told `.` keeps what it has, and deletes the message.
#[test]
fn half_a_message_is_never_passed_off_as_the_whole() {
    for end in [Ok(()), Err(ReadFailed::Gone), Err(ReadFailed::Failed("EIO".into()))] {
        for (size, readable) in [(300_000, 70_000), (120, 119), (65_536, 65_535)] {
            let mut world = World::new();
            world.messages.insert(1, message_of(size));
            world.readable.insert(1, (readable, end.clone()));
            let mut world = world.logged_in();
            let said = world.says("RETR 1");
            assert!(said.starts_with("+OK "), "{said}");
            assert!(!said.ends_with("\r\n.\r\n"));
            assert!(matches!(world.closed, Some(Closing::Failed(_))), "{size} {end:?}");
        }
    }
}

#[test]
fn a_message_longer_than_announced_is_sent_to_its_end() {
    for (size, announced) in [(120, 100), (300_000, 65_536), (200_000, 1), (65_537, 65_536)] {
        let mut world = World::new();
        let mail = message_of(size);
        world.messages.insert(1, mail.clone());
        world.sizes.insert(1, announced);
        let said = world.logged_in().says("RETR 1");
        let expected = format!("+OK {announced} octets\r\n{}.\r\n", String::from_utf8(mail).unwrap());
        assert!(said == expected, "{size} {announced}");
    }
}

#[test]
fn a_stopping_server_says_so_between_commands() {
    let mut world = World::rfc().logged_in();
    world.says("DELE 1");
    world.handle(Input::Stopping);
    assert_eq!(world.takes(), "-ERR [SYS/TEMP] Server is stopping, try again\r\n");
    assert_eq!(world.closed, Some(Closing::Stopping));
    assert_eq!(world.removed, [0; 0]);
}

#[test]
fn a_stopping_server_ends_the_running_command_first() {
    let mut world = World::new();
    world.messages.insert(1, message_of(1_000_000));
    let mut world = world.logged_in();
    world.stalls = true;
    world.feed(b"RETR 1\r\nSTAT\r\n");
    world.handle(Input::Stopping);
    assert_eq!(world.closed, None);
    world.stalls = false;
    world.drains();
    assert!(world.takes().ends_with("x\r\n.\r\n-ERR [SYS/TEMP] Server is stopping, try again\r\n"));
    assert_eq!(world.closed, Some(Closing::Stopping));
    let mut world = World::rfc().logged_in();
    world.holds = true;
    world.feed(b"DELE 1\r\nQUIT\r\n");
    world.handle(Input::Stopping);
    world.answers_held();
    assert!(world.takes().ends_with("+OK Bye, messages deleted\r\n"));
}

#[test]
fn a_session_that_is_ended_within_a_message_says_nothing_more() {
    let mut world = World::new();
    world.messages.insert(1, message_of(1_000_000));
    let mut world = world.logged_in();
    world.stalls = true;
    world.says("RETR 1");
    world.handle(Input::Kicked("operator"));
    assert_eq!((world.takes().as_str(), world.closed.clone()), ("", Some(Closing::Kicked("operator"))));
    let mut world = World::rfc().logged_in();
    world.handle(Input::Kicked("operator"));
    assert_eq!(world.takes(), "-ERR [SYS/TEMP] This session was ended\r\n");
}

#[test]
fn a_peer_that_speaks_another_language_is_hung_up_on() {
    let mut world = World::rfc();
    world.feed(&b"GET / HTTP/1.1\r\n".repeat(5));
    assert!(matches!(world.closed, Some(Closing::Misbehaved(_))));
    let mut world = World::rfc().logged_in();
    world.feed(&b"XYZZY\r\n".repeat(19));
    assert!(world.says("NOOP").ends_with("+OK\r\n"));
    world.feed(&b"XYZZY\r\n".repeat(19));
    assert_eq!(world.closed, None);
    world.says("XYZZY");
    assert!(matches!(world.closed, Some(Closing::Misbehaved(_))));
}

#[test]
fn an_endless_line_is_one_mistake_and_not_kept() {
    let mut world = World::rfc();
    for _ in 0..1000 {
        world.feed(&[b'x'; 4096]);
    }
    assert_eq!(world.says(""), "-ERR Line too long.\r\n");
    assert!(world.says("CAPA").starts_with("+OK"));
}

#[test]
fn an_answer_nobody_waits_for_is_ignored() {
    let mut world = World::rfc().logged_in();
    world.handle(Input::Answered(session::Ticket(99), session::Answer::Locked(Ok(()))));
    assert_eq!(world.says("NOOP"), "+OK\r\n");
    assert!(world.session.wants_input());
}
