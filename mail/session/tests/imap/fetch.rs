//! FETCH and UID FETCH.

use crate::script::check_in;
use crate::select::{select, selected};
use crate::world::World;

fn two() -> World {
    selected("deliver INBOX one\ndeliver INBOX two")
}

#[test]
fn what_the_snapshot_knows_needs_no_reading() {
    let mut world = two();
    world.questions.clear();
    check_in(
        &mut world,
        "
        C: a FETCH 1:* (FLAGS UID RFC822.SIZE INTERNALDATE)
        S: * 1 FETCH (FLAGS (\\Recent) UID 1 RFC822.SIZE ... INTERNALDATE \" 2-Jan-2026 03:04:05 +0000\")
        S: * 2 FETCH (FLAGS (\\Recent) UID 2 RFC822.SIZE ...)
        S: a OK Fetch completed
        C: b UID FETCH 2:9 (EMAILID THREADID)
        S: * 2 FETCH (UID 2 EMAILID (...) THREADID NIL)
        S: b OK Fetch completed
        C: c UID FETCH 77 FLAGS
        S: c OK Fetch completed
        C: d FETCH 3 FLAGS
        S: d BAD No such message
        C: e FETCH 5:* UID
        S: * 2 FETCH (UID 2)
        S: e OK Fetch completed
        ",
    );
    assert!(world.questions.is_empty(), "{:?}", world.questions);
}

#[test]
fn envelope_and_structure_come_from_the_description() {
    check_in(
        &mut two(),
        "
        C: a FETCH 1 (ENVELOPE BODY)
        S: * 1 FETCH (ENVELOPE (\"Thu, 1 Jan 2026 10:00:00 +0000\" \"one\" ((\"Ada\" NIL \"ada\" \"example.org\")) ...) BODY (\"text\" \"plain\" ...))
        S: a OK Fetch completed
        C: b FETCH 1 BODYSTRUCTURE
        S: * 1 FETCH (BODYSTRUCTURE (\"text\" \"plain\" ...))
        S: b OK Fetch completed
        C: c FETCH 2 BODY.PEEK[HEADER.FIELDS (Subject)]
        S: * 2 FETCH (BODY[HEADER.FIELDS (Subject)] {16}
        S: Subject: two
        S: 
        S: )
        S: c OK Fetch completed
        ",
    );
}

#[test]
fn a_header_that_is_not_cached_is_read_and_picked_all_the_same() {
    let mut world = two();
    world.headers_uncached = true;
    check_in(
        &mut world,
        "
        C: c FETCH 2 (BODY.PEEK[HEADER.FIELDS (Subject)] UID)
        S: * 2 FETCH (BODY[HEADER.FIELDS (Subject)] {16}
        S: Subject: two
        S: 
        S:  UID 2)
        S: c OK Fetch completed
        C: d FETCH 2 BODY.PEEK[HEADER.FIELDS.NOT (From To Date Message-ID)]<9.3>
        S: * 2 FETCH (BODY[HEADER.FIELDS.NOT (From To Date Message-ID)]<9> {3}
        S: two)
        S: d OK Fetch completed
        ",
    );
    assert!(world.questions.contains(&"octets"));
}

#[test]
fn fetching_a_body_sets_seen_and_says_so() {
    let mut world = two();
    check_in(
        &mut world,
        "
        C: a FETCH 1 BODY.PEEK[TEXT]
        S: * 1 FETCH (BODY[TEXT] {11}
        S: Hello one
        S: )
        S: a OK Fetch completed
        C: b FETCH 1 BODY[TEXT]
        S: * 1 FETCH (BODY[TEXT] {11}
        S: Hello one
        S:  FLAGS (\\Seen \\Recent))
        S: b OK Fetch completed
        C: c FETCH 1 BODY[TEXT]<6.3>
        S: * 1 FETCH (BODY[TEXT]<6> {3}
        S: one)
        S: c OK Fetch completed
        C: d FETCH 2 (FLAGS BODY[]<0.6>)
        S: * 2 FETCH (FLAGS (\\Seen \\Recent) BODY[]<0> {6}
        S: From: )
        S: d OK Fetch completed
        C: e FETCH 2 (BODY[]<99999.5> BODY[7])
        S: * 2 FETCH (BODY[]<99999> {0}
        S:  BODY[7] NIL)
        S: e OK Fetch completed
        ",
    );
    select(&mut world, "EXAMINE INBOX");
    let mut world = selected("deliver INBOX one");
    select(&mut world, "EXAMINE INBOX");
    check_in(
        &mut world,
        "
        C: f FETCH 1 RFC822.TEXT
        S: * 1 FETCH (RFC822.TEXT {11}
        S: Hello one
        S: )
        S: f OK Fetch completed
        ",
    );
    assert_eq!(world.mailbox("INBOX").messages[0].flags, model::SystemFlags::NONE);
}

#[test]
fn seen_is_set_once_for_many_messages() {
    let mut world = two();
    world.questions.clear();
    world.send(0, b"a FETCH 1:* BODY[]\r\n");
    assert_eq!(world.questions.iter().filter(|name| **name == "edit flags").count(), 1);
    let received = String::from_utf8_lossy(&world.clients[0].received).into_owned();
    assert!(
        received.ends_with("Hello two\r\n FLAGS (\\Seen \\Recent))\r\na OK Fetch completed\r\n"),
        "{received}"
    );
}

#[test]
fn a_full_volume_does_not_keep_anybody_from_reading() {
    check_in(
        &mut two(),
        "
        refuse space
        C: a FETCH 1 BODY[TEXT]
        S: * 1 FETCH (BODY[TEXT] {11}
        S: Hello one
        S: )
        S: a OK Fetch completed
        ",
    );
}

#[test]
fn a_message_that_is_gone_is_left_out_and_the_answer_is_no() {
    let mut world = two();
    check_in(
        &mut world,
        "
        gone 1
        C: a FETCH 1:2 (UID BODY.PEEK[TEXT])
        S: * 2 FETCH (UID 2 BODY[TEXT] {11}
        S: Hello two
        S: )
        S: a NO [EXPUNGEISSUED] Some of the messages no longer exist
        C: b FETCH 1:2 BODY.PEEK[]<0.4>
        S: * 2 FETCH (BODY[]<0> {4}
        S: From)
        S: b NO [EXPUNGEISSUED] ...
        ",
    );
}

#[test]
fn octets_that_end_short_end_the_connection_too() {
    let mut world = two();
    check_in(&mut world, "short 1");
    world.send(0, b"a FETCH 1 BODY.PEEK[]\r\n");
    let received = String::from_utf8_lossy(&std::mem::take(&mut world.clients[0].received)).into_owned();
    check_in(&mut world, "closed Failed");
    assert!(received.starts_with("* 1 FETCH (BODY[] {") && !received.contains("a OK"), "{received}");
}

#[test]
fn macros_and_sections_of_parts() {
    let mut world = World::new();
    let mail = "Content-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain\r\n\r\nfirst\r\n\
                --b\r\nContent-Type: message/rfc822\r\n\r\nSubject: inner\r\nX-A: 1\r\n\r\ninner text\r\n--b--\r\n";
    world.deliver("INBOX", mail.as_bytes());
    world.login();
    select(&mut world, "SELECT INBOX");
    check_in(
        &mut world,
        "
        C: a FETCH 1 (BODY.PEEK[1] BODY.PEEK[1.MIME] BODY.PEEK[2.HEADER.FIELDS (SUBJECT)] BODY.PEEK[2.TEXT])
        S: * 1 FETCH (BODY[1] {5}
        S: first BODY[1.MIME] {28}
        S: Content-Type: text/plain
        S: 
        S:  BODY[2.HEADER.FIELDS (SUBJECT)] {18}
        S: Subject: inner
        S: 
        S:  BODY[2.TEXT] {10}
        S: inner text)
        S: a OK Fetch completed
        C: b FETCH 1 FAST
        S: * 1 FETCH (FLAGS (\\Recent) INTERNALDATE ... RFC822.SIZE ...)
        S: b OK Fetch completed
        ",
    );
}
