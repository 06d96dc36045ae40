//! IDLE, timeouts, and the other ends of a session.

use session::{Closing, Session};

use crate::script::check_in;
use crate::select::selected;
use crate::world::{World, connection};

#[test]
fn idle_hears_of_changes_at_once() {
    check_in(
        &mut selected("deliver INBOX one"),
        "
        C: a IDLE
        S: + idling
        deliver INBOX two
        S: * 2 EXISTS
        S: * 2 RECENT
        flag INBOX 1 +\\Flagged
        S: * 1 FETCH (FLAGS (\\Flagged \\Recent))
        expunge INBOX 1
        S: * 1 EXPUNGE
        S: * 1 RECENT
        C: done
        S: a OK Idle completed
        C: b IDLE
        S: + idling
        C: nonsense
        S: b BAD Expected DONE
        ",
    );
}

#[test]
fn changes_between_commands_wait_for_the_next() {
    check_in(
        &mut selected("deliver INBOX one"),
        "
        deliver INBOX two
        C: a IDLE
        S: + idling
        S: * 2 EXISTS
        S: * 2 RECENT
        C: DONE
        S: a OK Idle completed
        ",
    );
}

#[test]
fn idle_keeps_the_connection_alive_and_ends_after_half_an_hour() {
    let mut world = selected("");
    check_in(
        &mut world,
        "C: a IDLE\nS: + idling\nwait 125\nS: * OK Still here\nwait 120\nS: * OK Still here",
    );
    world.advance(std::time::Duration::from_secs(1600));
    let received = String::from_utf8(std::mem::take(&mut world.clients[0].received)).unwrap();
    assert!(received.ends_with("* BYE Disconnected for inactivity\r\n"), "{received}");
    check_in(&mut world, "closed TimedOut");
}

#[test]
fn silence_ends_a_session_later_after_login_than_before() {
    let mut world = World::new();
    world.connect(connection());
    world.login();
    check_in(&mut world, "S: * OK ...\nwait 61\nS: * BYE Disconnected for inactivity\nclosed TimedOut");
    assert_eq!(world.clients[1].closed, None);
    check_in(&mut world, "wait 1800\nS2: * BYE Disconnected for inactivity");
    assert!(matches!(world.clients[1].closed, Some(Closing::TimedOut(_))));
}

#[test]
fn stopping_and_kicking_say_goodbye() {
    check_in(
        &mut selected(""),
        "stop\nS: * BYE [UNAVAILABLE] Server is going down, please connect again\nclosed Stopping",
    );
    check_in(&mut selected(""), "C: a IDLE\nS: + idling\nstop\nS: * BYE [UNAVAILABLE] ...\nclosed Stopping");
    check_in(&mut selected(""), "kick\nS: * BYE [UNAVAILABLE] kicked by the operator\nclosed Kicked");
}

#[test]
fn a_client_that_hangs_up_has_its_last_commands_done() {
    let mut world = selected("");
    world.send(0, b"a CREATE last\r\n");
    check_in(&mut world, "S: a OK ...\nhang up\nclosed ClientHungUp");
    assert!(world.boxes.keys().any(|name| name.as_str() == "last"));
}

#[test]
fn who_shows_what_a_session_does() {
    let mut world = selected("");
    world.send(0, b"a IDLE\r\n");
    let doing = world.clients[0].session.doing();
    assert_eq!(doing.user.as_deref(), Some("ada@example.org"));
    assert_eq!((doing.command, doing.mailbox.as_deref()), ("idle", Some("INBOX")));
}
