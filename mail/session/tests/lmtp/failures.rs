//! Disks that fail, accounts that refuse, clients that hang up, operators that stop the server.

use account::Refused;
use session::{Closing, Input, Session, SpoolFailed, Ticket};

use crate::world::{World, codes, options};

const MESSAGE: &str = "MAIL FROM:<a@b>\r\nRCPT TO:<ada>\r\nRCPT TO:<eve>\r\n";

/// Begin, a write each for two packets, finish.
#[test]
fn spool_trouble_at_each_step_is_told_to_each_recipient() {
    for late in [false, true] {
        for step in 0..4 {
            for (failed, code) in [(SpoolFailed::NoSpace, 452), (SpoolFailed::Failed("EIO".into()), 451)] {
                let mut world = World::new();
                world.trouble_is_late = late && step < 3;
                world.spool_fails = Some((step, failed));
                assert_eq!(world.codes(&format!("{MESSAGE}DATA\r\none\r\n")), [250, 250, 250, 354]);
                let said = world.codes("two\r\n.\r\nNOOP\r\n");
                assert_eq!(said, [code, code, 250], "step {step}, late {late}");
                assert!(world.delivered.is_empty());
                // The next message has nothing to do with it.
                world.spool_fails = None;
                assert_eq!(
                    world.codes(&format!("{MESSAGE}DATA\r\nx\r\n.\r\n")),
                    [250, 250, 250, 354, 250, 250]
                );
            }
        }
    }
}

#[test]
fn trouble_of_a_message_that_is_over_does_not_touch_the_next() {
    let mut world = World::new();
    world.codes(&format!("{MESSAGE}BDAT 3\r\nabc"));
    world.codes("RSET\r\n");
    world.codes(&format!("{MESSAGE}BDAT 3\r\nxyz"));
    for ticket in 0..4 {
        let answer = session::Answer::Spooled(Err(SpoolFailed::NoSpace));
        world.handle(Input::Answered(Ticket(ticket), answer));
    }
    assert_eq!(world.codes("BDAT 0 LAST\r\n"), [250, 250]);
    assert_eq!(world.delivered[0].1, b"xyz");
}

#[test]
fn a_chunk_after_spool_trouble_is_refused_and_so_is_the_message() {
    let mut world = World::new();
    world.spool_fails = Some((1, SpoolFailed::NoSpace));
    world.codes(&format!("{MESSAGE}BDAT 6\r\nabc"));
    assert_eq!(world.codes("defBDAT 3\r\nghiBDAT 0 LAST\r\nNOOP\r\n"), [452, 452, 452, 452, 250]);
    assert!(world.delivered.is_empty());
}

#[test]
fn refusals_are_temporary_where_trying_again_can_help() {
    let reasons: [(fn() -> Refused, u16); 8] = [
        (|| Refused::OverQuota { used_bytes: 1, limit_bytes: 1, message_bytes: 1 }, 552),
        (|| Refused::NoSpace(String::new()), 452),
        (|| Refused::Limit { what: "messages", limit: 1 }, 452),
        (|| Refused::NotStored(String::new()), 451),
        (|| Refused::Deposed, 451),
        (|| Refused::Unavailable(String::new()), 451),
        (|| Refused::MailboxGone, 450),
        // L-CM2: nothing is promised, the MTA tries again.
        (|| Refused::Unknown, 451),
    ];
    for (reason, code) in reasons {
        let mut world = World::new();
        world.refuses.insert("ada", reason);
        assert_eq!(world.codes(&format!("{MESSAGE}DATA\r\nx\r\n.\r\n"))[4..], [code, 250], "{}", reason());
    }
}

#[test]
fn a_message_cut_off_is_no_message() {
    for text in ["DATA\r\nhalf\r\n", "DATA\r\nhalf\r\n.\r", "BDAT 9 LAST\r\nhalf\r\n", "BDAT 4\r\nhalf"] {
        let mut world = World::new();
        world.feed(format!("{MESSAGE}{text}").as_bytes());
        world.handle(Input::Received(&[]));
        assert_eq!(world.closed, Some(Closing::ClientHungUp));
        assert_eq!((world.delivered.len(), world.abandoned), (0, 1), "{text:?}");
    }
}

#[test]
fn a_stopping_server_takes_no_new_command_but_ends_what_it_began() {
    let mut world = World::new();
    world.handle(Input::Stopping);
    assert_eq!(world.takes(), "421 4.3.2 Server is stopping, try again\r\n");
    assert_eq!(world.closed, Some(Closing::Stopping));

    let mut world = World::new();
    world.codes(&format!("{MESSAGE}DATA\r\n"));
    world.handle(Input::Stopping);
    assert_eq!(world.closed, None);
    assert_eq!(world.codes("x\r\n.\r\n"), [250, 250, 421]);
    assert_eq!(world.delivered.len(), 2);

    let mut world = World::new();
    world.holds = true;
    world.feed(b"MAIL FROM:<a@b>\r\nRCPT TO:<ada>\r\n");
    world.handle(Input::Stopping);
    world.answers_held(false);
    assert_eq!(codes(&world.takes()), [250, 250, 421]);

    let mut world = World::new();
    world.codes(MESSAGE);
    world.holds = true;
    world.feed(b"DATA\r\nx\r\n.\r\n");
    world.handle(Input::Stopping);
    assert_eq!(world.closed, None);
    world.answers_held(false);
    assert_eq!(codes(&world.takes()), [354, 250, 250, 421]);
}

#[test]
fn a_session_that_is_ended_says_421_and_drops_what_came() {
    let mut world = World::new();
    world.codes(&format!("{MESSAGE}DATA\r\nhalf"));
    world.handle(Input::Kicked("operator"));
    assert_eq!(codes(&world.takes()), [421]);
    assert_eq!((world.closed.clone(), world.abandoned), (Some(Closing::Kicked("operator")), 1));
    // What is answered afterwards is nobody's any more.
    world.handle(Input::Answered(Ticket(3), session::Answer::Spooled(Err(SpoolFailed::NoSpace))));
    world.handle(Input::Received(b"NOOP\r\n"));
    assert_eq!(
        (world.takes().as_str(), world.session.deadline(), world.session.wants_input()),
        ("", None, false)
    );
}

#[test]
fn silence_ends_a_conversation_but_waiting_for_us_does_not() {
    let mut world = World::new();
    world.later(299);
    assert_eq!(world.closed, None);
    world.later(1);
    assert_eq!(codes(&world.takes()), [421]);
    assert_eq!(world.closed, Some(Closing::TimedOut("it was silent")));

    let mut world = World::new();
    world.codes(MESSAGE);
    world.holds = true;
    world.feed(b"DATA\r\nx\r\n.\r\n");
    world.later(10_000);
    assert_eq!(world.closed, None);
    world.answers_held(false);
    world.later(299);
    assert_eq!(world.closed, None);
}

#[test]
fn a_peer_that_speaks_another_language_is_hung_up_on() {
    let mut world = World::with(options());
    world.feed(&b"GET / HTTP/1.1\r\n".repeat(20));
    assert!(matches!(world.closed, Some(Closing::Misbehaved(_))));
    let mut world = World::new();
    for _ in 0..100 {
        assert_eq!(world.codes("RCPT TO:<a@@b>\r\nNOOP\r\n"), [501, 250]);
    }
}

#[test]
fn replies_to_commands_sent_ahead_are_bounded() {
    let mut world = World::new();
    world.stalls = true;
    let mut fed = 0;
    while world.session.wants_input() {
        world.feed(&b"LHLO c\r\n".repeat(1000));
        fed += 1;
        assert!(fed < 100, "it takes in whatever comes");
    }
    world.stalls = false;
    world.drains();
    assert_eq!(codes(&world.takes()).len(), fed * 1000);
}
