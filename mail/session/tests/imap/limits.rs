//! What a session may make the node hold.

use session::{OUTPUT_HIGH, Session};

use crate::script::fits;
use crate::select::select;
use crate::world::World;

fn world(messages: u32, body: &[u8]) -> World {
    let mut world = World::new();
    for _ in 0..messages {
        world.deliver("INBOX", body);
    }
    world.login();
    select(&mut world, "SELECT INBOX");
    world.slow = true;
    world
}

/// Sends a command to a client that takes what it is sent only now and then; returns all of it.
fn taken_slowly(world: &mut World, command: &str) -> String {
    world.drain(0);
    world.send(0, command.as_bytes());
    let mut all = Vec::new();
    loop {
        let part = std::mem::take(&mut world.clients[0].received);
        assert!(part.len() <= OUTPUT_HIGH);
        if part.is_empty() {
            break;
        }
        all.extend_from_slice(&part);
        world.drain(0);
    }
    String::from_utf8(all).unwrap()
}

#[test]
fn a_slow_reader_gets_a_long_fetch_bit_by_bit() {
    let mut world = world(20_000, b"a: b\r\n\r\nx\r\n");
    let all = taken_slowly(&mut world, "a FETCH 1:* (UID FLAGS)\r\n");
    assert_eq!(all.lines().count(), 20_001);
    assert!(fits("* 1 FETCH (UID 1 FLAGS (\\Recent))...a OK Fetch completed\r\n", &all));
}

#[test]
fn a_slow_reader_gets_large_bodies_bit_by_bit() {
    let body = [b"a: b\r\n\r\n".as_slice(), &b"0123456789abcde\n".repeat(60_000)].concat();
    let mut world = world(3, &body);
    let all = taken_slowly(&mut world, "a FETCH 1:* BODY.PEEK[]\r\nb NOOP\r\n");
    assert!(all.len() > 3 * body.len());
    assert!(fits("* 1 FETCH (BODY[] {...a OK Fetch completed\r\nb OK...", &all));
}

#[test]
fn a_search_and_an_expunge_of_everything_are_not_built_at_once() {
    let mut world = world(100_000, b"");
    let all = taken_slowly(&mut world, "a SEARCH ALL\r\n");
    assert!(fits("* SEARCH 1 2 3 ... 99999 100000\r\na OK Search completed\r\n", &all));
    let mailbox = world.mailbox("INBOX");
    let all_uids: Vec<u32> = mailbox.messages.iter().map(|message| message.uid.get()).collect();
    mailbox.messages.clear();
    mailbox.highest_modseq += 1;
    mailbox.vanished =
        all_uids.iter().map(|uid| (model::ModSeq(1), model::Uid::new(*uid).unwrap())).collect();
    world.create("unrelated");
    world.publish();
    let all = taken_slowly(&mut world, "b NOOP\r\n");
    assert_eq!(all.matches("* 1 EXPUNGE\r\n").count(), 100_000);
}

#[test]
fn a_session_stops_reading_when_nothing_is_taken() {
    let mut world = world(20_000, b"a: b\r\n\r\nx\r\n");
    world.drain(0);
    world.send(0, b"a FETCH 1:* (UID FLAGS INTERNALDATE)\r\n");
    let mut sent = 0;
    while world.clients[0].session.wants_input() {
        world.send(0, b"x NOOP\r\n".repeat(1000).as_slice());
        sent += 8000;
        assert!(sent < 1 << 20, "there is no end to what it takes");
    }
}

#[test]
fn an_idle_session_is_small() {
    assert!(size_of::<session::imap::Imap>() < 2048, "{}", size_of::<session::imap::Imap>());
}

#[test]
fn a_client_that_takes_nothing_any_more_is_cut_off() {
    let mut world = world(20_000, b"a: b\r\n\r\nx\r\n");
    world.drain(0);
    world.send(0, b"a FETCH 1:* (UID FLAGS INTERNALDATE)\r\n");
    world.advance(std::time::Duration::from_secs(1801));
    assert!(matches!(world.clients[0].closed, Some(session::Closing::TimedOut(_))));
}
