//! TRANSACTION and UPDATE: RFC 1939's examples, unique ids, long answers, and any cutting of the input.

use std::sync::Arc;

use proptest::prelude::*;
use session::{Closing, Input, OUTPUT_HIGH, Session};

use crate::world::{World, check, connection, message_of, options};

/// RFC 1939 §5 and §6.
#[test]
fn the_examples_of_the_rfc_hold() {
    let mut world = World::rfc().logged_in();
    check(
        &mut world,
        "
        C: STAT
        S: +OK 2 320
        C: LIST
        S: +OK 2 messages (320 octets)
        S: 1 120
        S: 2 200
        S: .
        C: LIST 2
        S: +OK 2 200
        C: LIST 3
        S: -ERR No such message
        C: DELE 1
        S: +OK Message 1 deleted
        C: DELE 1
        S: -ERR Message is deleted
        C: RETR 1
        S: -ERR Message is deleted
        C: TOP 1 0
        S: -ERR Message is deleted
        C: UIDL 1
        S: -ERR Message is deleted
        C: LIST 1
        S: -ERR Message is deleted
        C: STAT
        S: +OK 1 200
        C: LIST
        S: +OK 1 messages (200 octets)
        S: 2 200
        S: .
        C: NOOP
        S: +OK
        C: RSET
        S: +OK Maildrop has 2 messages (320 octets)
        C: LIST 1
        S: +OK 1 120
        C: DELE 2
        S: +OK Message 2 deleted
        C: QUIT
        S: +OK Bye, messages deleted
        ",
    );
    assert_eq!(world.closed, Some(Closing::LoggedOut));
    assert_eq!(world.removed, [5]);
}

#[test]
fn quit_without_deletions_asks_for_none() {
    let mut world = World::rfc().logged_in();
    world.says("DELE 1");
    world.says("RSET");
    assert_eq!(world.says("QUIT"), "+OK Bye\r\n");
    assert_eq!(world.removed, [0; 0]);
}

#[test]
fn ok_to_quit_waits_until_the_messages_are_gone() {
    let mut world = World::rfc().logged_in();
    world.says("DELE 1");
    world.holds = true;
    assert_eq!(world.says("QUIT"), "");
    assert_eq!((world.removed.len(), world.closed.clone(), world.held.len()), (0, None, 1));
    assert_eq!(world.session.deadline(), None);
    world.answers_held();
    assert_eq!(world.takes(), "+OK Bye, messages deleted\r\n");
    assert_eq!(world.removed, [3]);
}

#[test]
fn messages_come_as_they_are_with_dots_doubled() {
    let mut world = World::new();
    world.messages.insert(1, b"A: b\r\n\r\n.\r\n..x\r\nlast\r\n".to_vec());
    world.messages.insert(2, b"A: b\r\n\r\nno line end".to_vec());
    world.messages.insert(3, Vec::new());
    check(
        &mut world.logged_in(),
        "
        C: RETR 1
        S: +OK 22 octets
        S: A: b
        S:
        S: ..
        S: ...x
        S: last
        S: .
        C: RETR 2
        S: +OK 19 octets
        S: A: b
        S:
        S: no line end
        S: .
        C: RETR 3
        S: +OK 0 octets
        S: .
        C: RETR 0
        S: -ERR Not a message number.
        C: RETR
        S: -ERR Missing or unexpected argument.
        ",
    );
}

#[test]
fn top_shows_the_header_and_so_many_lines() {
    let mut world = World::new();
    world.messages.insert(1, b"A: b\r\n\r\n1\r\n.2\r\n3\r\n".to_vec());
    check(
        &mut world.logged_in(),
        "
        C: TOP 1 0
        S: +OK
        S: A: b
        S:
        S: .
        C: TOP 1 2
        S: +OK
        S: A: b
        S:
        S: 1
        S: ..2
        S: .
        C: TOP 1 99
        S: +OK
        S: A: b
        S:
        S: 1
        S: ..2
        S: 3
        S: .
        C: TOP 1
        S: -ERR Missing or unexpected argument.
        C: TOP 2 1
        S: -ERR No such message
        ",
    );
}

#[test]
fn unique_ids_are_the_stored_ones_or_made_by_the_format() {
    let mut world = World::rfc();
    world.uidls.insert(5, "old.uidl-7");
    check(
        &mut world.logged_in(),
        "
        C: UIDL
        S: +OK Unique ids follow
        S: 1 000000036b0267ee
        S: 2 old.uidl-7
        S: .
        C: UIDL 1
        S: +OK 1 000000036b0267ee
        C: UIDL 3
        S: -ERR No such message
        C: DELE 1
        S: +OK ...
        C: UIDL
        S: +OK Unique ids follow
        S: 2 old.uidl-7
        S: .
        ",
    );
    let courier = session::pop3::Options { uidl_format: "UID%u-%v".to_owned(), ..options() };
    let mut world = World::with(connection(), courier);
    world.messages.insert(3, message_of(50));
    assert_eq!(world.logged_in().says("UIDL 1"), "+OK 1 UID3-1795319790\r\n");
}

#[test]
fn numbers_stay_what_they_are_when_mail_comes_and_goes() {
    let mut world = World::rfc().logged_in();
    let mut other = World::rfc();
    other.messages.remove(&3);
    other.messages.insert(8, message_of(99));
    world.handle(Input::Changed(other.snapshot()));
    assert_eq!(world.says("LIST"), "+OK 2 messages (320 octets)\r\n1 120\r\n2 200\r\n.\r\n");
    assert_eq!(world.says("LIST 3"), "-ERR No such message\r\n");
}

#[test]
fn an_empty_maildrop_has_nothing_to_list() {
    let mut world = World::new().logged_in();
    assert_eq!(world.says("STAT"), "+OK 0 0\r\n");
    assert_eq!(world.says("LIST"), "+OK 0 messages (0 octets)\r\n.\r\n");
    assert_eq!(world.says("UIDL"), "+OK Unique ids follow\r\n.\r\n");
    assert_eq!(world.says("DELE 1"), "-ERR No such message\r\n");
}

#[test]
fn a_large_message_is_read_as_fast_as_the_client_takes_it() {
    let mut world = World::new();
    let mut mail = b"A: b\r\n\r\n".to_vec();
    while mail.len() < 3_000_000 {
        mail.extend_from_slice(b".\r\n");
    }
    world.messages.insert(1, mail.clone());
    let mut world = world.logged_in();
    world.stalls = true;
    world.feed(b"RETR 1\r\nSTAT\r\n");
    let stalled_at = world.received.len();
    assert!(stalled_at > 0 && stalled_at <= OUTPUT_HIGH);
    assert_eq!((world.session.deadline(), world.session.doing().command), (None, "RETR"));
    let mut rounds = 0;
    while world.session.doing().command == "RETR" {
        world.drains();
        rounds += 1;
        assert!(rounds < 1000);
    }
    world.stalls = false;
    world.drains();
    let expected = String::from_utf8(mail.clone()).unwrap().replace("\r\n.", "\r\n..");
    let expected = format!("+OK {} octets\r\n{expected}.\r\n+OK 1 {}\r\n", mail.len(), mail.len());
    assert!(world.takes() == expected);
}

#[test]
fn a_long_listing_is_made_as_fast_as_the_client_takes_it() {
    let mut world = World::new();
    world.messages = (1..=50_000).map(|uid| (uid, b"\r\n".to_vec())).collect();
    let mut world = world.logged_in();
    world.stalls = true;
    world.feed(b"UIDL\r\nLIST\r\nSTAT\r\n");
    while world.session.doing().command != "waiting" {
        assert!(world.most_under_way <= OUTPUT_HIGH);
        world.drains();
    }
    world.stalls = false;
    world.drains();
    let said = world.takes();
    assert_eq!(said.lines().count(), 2 * 50_002 + 1);
    assert!(said.ends_with("50000 2\r\n.\r\n+OK 50000 100000\r\n"));
}

#[test]
fn commands_sent_ahead_wait_their_turn_in_bounded_memory() {
    let mut world = World::rfc().logged_in();
    world.stalls = true;
    let ahead = b"UIDL\r\n".repeat(2000);
    let mut fed = 0;
    while world.session.wants_input() {
        world.feed(&ahead);
        fed += 1;
        assert!(fed < 100, "it takes in whatever comes");
    }
    world.stalls = false;
    world.drains();
    assert_eq!(world.takes().matches("+OK Unique ids").count(), fed * 2000);
}

#[test]
fn a_deletion_of_many_messages_is_one_request() {
    let mut world = World::new();
    world.messages = (1..=3000).map(|uid| (uid, b"\r\n".to_vec())).collect();
    let mut world = world.logged_in();
    for number in 1..=3000 {
        if number % 3 != 0 {
            assert!(world.says(&format!("DELE {number}")).starts_with("+OK"));
        }
    }
    assert_eq!(world.says("STAT"), "+OK 1000 2000\r\n");
    world.says("QUIT");
    assert_eq!(world.removed, (1..=3000).filter(|uid| uid % 3 != 0).collect::<Vec<_>>());
}

const LINES: [&str; 22] = [
    "USER ada",
    "PASS secret",
    "PASS wrong",
    "CAPA",
    "STAT",
    "LIST",
    "LIST 2",
    "UIDL",
    "RETR 1",
    "RETR 2",
    "RETR 9",
    "TOP 2 1",
    "DELE 1",
    "DELE 2",
    "RSET",
    "NOOP",
    "AUTH SCRAM-SHA-256",
    "Y2xpZW50IGZpcnN0",
    "*",
    "",
    "XYZZY \u{e9}",
    "QUIT",
];

fn outcome(text: &[u8], cuts: &[usize]) -> (String, Option<Closing>, Vec<u32>) {
    let mut world = World::rfc();
    let mut from = 0;
    let ends = cuts.iter().map(|cut| cut % (text.len() + 1)).collect::<std::collections::BTreeSet<_>>();
    for to in ends.into_iter().chain([text.len()]) {
        if to > from && world.closed.is_none() {
            world.feed(&text[from..to]);
        }
        from = from.max(to);
    }
    if world.closed.is_none() {
        world.handle(Input::Received(&[]));
    }
    (world.takes(), world.closed, world.removed)
}

proptest! {
    #[test]
    fn it_does_not_matter_how_input_is_cut(
        lines in proptest::collection::vec(0..LINES.len(), 0..25),
        logs_in in any::<bool>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let login = if logs_in { "USER ada\r\nPASS secret\r\n" } else { "" };
        let lines: Vec<_> = lines.into_iter().map(|line| format!("{}\r\n", LINES[line])).collect();
        let text = format!("{login}{}", lines.concat());
        let whole = outcome(text.as_bytes(), &[]);
        prop_assert!(whole.1.is_some());
        prop_assert_eq!(&outcome(text.as_bytes(), &cuts), &whole);
        let each: Vec<_> = (0..text.len()).collect();
        prop_assert_eq!(&outcome(text.as_bytes(), &each), &whole);
        // RFC 1939 §6: nothing is removed but by QUIT.
        let quits = text.contains("QUIT");
        prop_assert!(quits || whole.2.is_empty());
    }

    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300), logs_in in any::<bool>()) {
        let mut world = if logs_in { World::rfc().logged_in() } else { World::rfc() };
        world.feed(&text);
        if world.closed.is_none() {
            world.handle(Input::Received(&[]));
        }
    }
}

#[test]
fn an_old_snapshot_is_kept_only_as_far_as_it_is_needed() {
    let mut world = World::rfc().logged_in();
    let snapshot = world.snapshot();
    world.handle(Input::Changed(Arc::clone(&snapshot)));
    assert_eq!(Arc::strong_count(&snapshot), 1);
}
