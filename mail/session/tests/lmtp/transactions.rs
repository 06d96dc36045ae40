//! Transactions that go well, what is refused within them, and any cutting of the input.

use proptest::prelude::*;
use session::lmtp::Options;
use session::{Closing, Input, Session};

use crate::world::{World, codes, options};

const MAIL: &str = "MAIL FROM:<sender@example.net>\r\n";

fn envelope(recipients: &[&str]) -> String {
    let recipients: String = recipients.iter().map(|to| format!("RCPT TO:<{to}>\r\n")).collect();
    format!("{MAIL}{recipients}")
}

/// RFC 2033 §4.2.
#[test]
fn lmtp_answers_once_per_accepted_recipient() {
    let mut world = World::new();
    world.feed(envelope(&["ada", "nobody", "grace", "ada"]).as_bytes());
    assert_eq!(
        world.takes(),
        "250 2.1.0 OK\r\n250 2.1.5 OK\r\n550 5.1.1 <nobody> User doesn't exist here\r\n250 2.1.5 OK\r\n250 2.1.5 OK\r\n"
    );
    assert_eq!(world.says("DATA"), "354 Start mail input; end with <CRLF>.<CRLF>\r\n");
    world.feed(b"A: b\r\n\r\n..x\r\n.\r\n");
    assert_eq!(
        world.takes(),
        "250 2.0.0 <ada> Saved\r\n250 2.0.0 <grace> Saved\r\n250 2.0.0 <ada> Saved\r\n"
    );
    let users: Vec<_> = world.delivered.iter().map(|(user, _)| user.as_str()).collect();
    assert_eq!(users, ["ada", "grace", "ada"]);
    assert!(world.delivered.iter().all(|(_, octets)| octets == b"A: b\r\n\r\n.x\r\n"));
}

#[test]
fn replies_come_in_the_order_of_recipients_whoever_is_done_first() {
    let mut world = World::new();
    world.refuses.insert("grace", || account::Refused::OverQuota {
        used_bytes: 1,
        limit_bytes: 1,
        message_bytes: 1,
    });
    world.feed(envelope(&["ada", "grace", "eve"]).as_bytes());
    world.takes();
    world.holds = true;
    world.feed(b"DATA\r\nx\r\n.\r\nNOOP\r\n");
    assert_eq!((world.held.len(), world.session.deadline(), world.session.wants_input()), (3, None, false));
    world.answers_held(true);
    let said = world.takes();
    assert_eq!(codes(&said), [354, 250, 552, 250, 250]);
    assert!(
        said.contains("<ada> Saved\r\n552 5.2.2 <grace> Quota exceeded\r\n250 2.0.0 <eve> Saved\r\n"),
        "{said}"
    );
}

#[test]
fn nothing_is_acknowledged_before_the_account_has_answered() {
    let mut world = World::new();
    world.feed(envelope(&["ada"]).as_bytes());
    world.takes();
    world.holds = true;
    world.feed(b"DATA\r\nx\r\n.\r\n");
    assert_eq!(codes(&world.takes()), [354]);
    world.answers_held(false);
    assert_eq!(codes(&world.takes()), [250]);
}

#[test]
fn a_whole_session_may_come_in_one_packet() {
    let mut world = World::with(options());
    let text = format!(
        "LHLO c\r\n{}DATA\r\nfirst\r\n.\r\n{}DATA\r\nsecond\r\n.\r\nQUIT\r\n",
        envelope(&["ada"]),
        envelope(&["eve", "grace"])
    );
    assert_eq!(world.codes(&text), [250, 250, 250, 354, 250, 250, 250, 250, 354, 250, 250, 221]);
    assert_eq!(world.closed, Some(Closing::LoggedOut));
    assert_eq!(world.delivered.len(), 3);
    assert_eq!(world.delivered[2], ("grace".to_owned(), b"second\r\n".to_vec()));
}

#[test]
fn extensions_are_offered() {
    let mut world = World::with(options());
    assert_eq!(world.codes(MAIL), [503]);
    let said = world.says("LHLO client.example.org");
    assert_eq!(
        said,
        "250-mx.example.org\r\n250-8BITMIME\r\n250-CHUNKING\r\n250-ENHANCEDSTATUSCODES\r\n250-PIPELINING\r\n\
         250-SMTPUTF8\r\n250-SIZE 1000\r\n250 STARTTLS\r\n"
    );
    assert_eq!(world.codes("EHLO x\r\nHELO x\r\nNOOP\r\nVRFY ada\r\nHELP\r\n"), [500, 500, 250, 252, 500]);
}

/// RFC 2033 §4.2: DATA without recipients must fail with 503.
#[test]
fn data_needs_a_recipient() {
    let mut world = World::new();
    assert_eq!(world.codes("DATA\r\n"), [503]);
    assert_eq!(world.codes(&format!("{}DATA\r\n", envelope(&["nobody"]))), [250, 550, 503]);
    assert_eq!(world.codes("NOOP\r\nRSET\r\n"), [250, 250]);
    assert_eq!(world.codes("RCPT TO:<ada>\r\n"), [503]);
    assert_eq!(world.codes(&format!("{MAIL}{MAIL}")), [250, 503]);
}

#[test]
fn recipients_are_refused_for_their_reasons() {
    let text = envelope(&["nobody", "bad", "later", "ada"]) + "RCPT TO:<>\r\nRCPT TO:<a@@b>\r\n";
    assert_eq!(World::new().codes(&text), [250, 550, 553, 451, 250, 501, 501]);
}

#[test]
fn chunks_make_a_message() {
    let mut world = World::new();
    let chunks = "BDAT 5\r\nA: b\rBDAT 7\r\n\n\r\n.\r\nxBDAT 0 LAST\r\n";
    let text = format!("{}{chunks}NOOP\r\n", envelope(&["ada", "eve"]));
    assert_eq!(world.codes(&text), [250, 250, 250, 250, 250, 250, 250, 250]);
    // Chunks end where they end, within a line end too; a dot is a dot.
    assert!(world.delivered.iter().all(|(_, octets)| octets == b"A: b\r\n\r\n.\r\nx"));
    assert_eq!(world.delivered.len(), 2);
}

/// RFC 3030 §2: the octets of a chunk come whatever was said before.
#[test]
fn chunks_without_recipients_are_swallowed() {
    let mut world = World::new();
    let text = format!("{}BDAT 6\r\nQUIT\r\nBDAT 6 LAST\r\nQUIT\r\nRSET\r\n", envelope(&["nobody"]));
    assert_eq!(world.codes(&text), [250, 550, 503, 503, 250]);
    assert_eq!(world.codes("BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n"), [503, 250]);
    assert_eq!(
        world.codes(&format!("{}BDAT 1\r\nxRCPT TO:<eve>\r\nDATA\r\n", envelope(&["ada"]))),
        [250, 250, 250, 503, 503]
    );
    assert!(world.delivered.is_empty());
    assert_eq!(world.codes("BDAT 1 LAST\r\ny"), [250]);
    assert_eq!(world.delivered, [("ada".to_owned(), b"xy".to_vec())]);
}

#[test]
fn a_chunk_of_unknown_length_ends_the_conversation() {
    for line in ["BDAT", "BDAT x", "BDAT -1 LAST", "bdat 1 FIRST", "BDAT 99999999999999999999", "BDAT\t1"] {
        let mut world = World::new();
        world.feed(format!("{line}\r\nQUIT\r\n").as_bytes());
        assert!(matches!(world.closed, Some(Closing::Misbehaved(_))), "{line}");
        assert!(!world.takes().contains("221"), "{line}");
    }
    let mut world = World::new();
    world.feed(b"BDAT \xff\r\nQUIT\r\n");
    assert!(matches!(world.closed, Some(Closing::Misbehaved(_))));
}

#[test]
fn messages_over_the_limit_are_refused_for_each_recipient() {
    let mut world = World::new();
    assert_eq!(world.codes("MAIL FROM:<a@b> SIZE=1001\r\n"), [552]);
    assert_eq!(world.codes("MAIL FROM:<a@b> SIZE=1000\r\nRSET\r\n"), [250, 250]);
    let long = "x".repeat(998) + "\r\n";
    let at_limit = format!("{}DATA\r\n{long}.\r\n", envelope(&["ada"]));
    assert_eq!(world.codes(&at_limit), [250, 250, 354, 250]);
    let over = format!("{}DATA\r\n{long}y\r\n.\r\nNOOP\r\n", envelope(&["ada", "eve"]));
    assert_eq!(world.codes(&over), [250, 250, 250, 354, 552, 552, 250]);
    let chunks =
        format!("{}BDAT 1001\r\n{}BDAT 1 LAST\r\nxNOOP\r\n", envelope(&["ada", "eve"]), "x".repeat(1001));
    assert_eq!(world.codes(&chunks), [250, 250, 250, 552, 552, 552, 250]);
    assert_eq!((world.delivered.len(), world.abandoned), (1, 2));
    assert_eq!(
        world.codes("MAIL FROM:<a@b> BODY=BINARYMIME\r\nMAIL FROM:<> BODY=8BITMIME SMTPUTF8\r\n"),
        [555, 250]
    );
}

#[test]
fn a_hundred_thousand_recipients_are_bounded() {
    let mut world = World::new();
    world.feed(MAIL.as_bytes());
    for _ in 0..1000 {
        world.feed("RCPT TO:<ada>\r\n".repeat(100).as_bytes());
    }
    let said = codes(&world.takes());
    assert_eq!(said.iter().filter(|code| **code == 250).count(), 101);
    assert_eq!(said.iter().filter(|code| **code == 452).count(), 99_900);
    assert_eq!(world.codes("DATA\r\nx\r\n.\r\n").len(), 101);
    assert_eq!(world.delivered.len(), 100);
}

#[test]
fn many_recipients_are_told_as_fast_as_the_client_listens() {
    for message in ["x\r\n".to_owned(), "x".repeat(1001) + "\r\n"] {
        let mut world = World::with(Options { recipients_max: 20_000, ..options() });
        world.says("LHLO c");
        world.feed(MAIL.as_bytes());
        for _ in 0..100 {
            world.feed("RCPT TO:<ada>\r\n".repeat(200).as_bytes());
        }
        world.takes();
        world.stalls = true;
        world.feed(format!("DATA\r\n{message}.\r\nNOOP\r\n").as_bytes());
        let mut rounds = 0;
        while world.session.doing().command == "delivering" {
            assert!(!world.session.wants_input());
            world.drains();
            rounds += 1;
            assert!(rounds < 1000);
        }
        assert!(rounds > 0);
        world.stalls = false;
        world.drains();
        assert_eq!(codes(&world.takes()).len(), 20_002);
    }
}

#[test]
fn deliveries_are_asked_for_a_few_at_a_time() {
    let mut world = World::new();
    world.feed(envelope(&["ada"; 100]).as_bytes());
    world.takes();
    world.holds = true;
    world.feed(b"DATA\r\nx\r\n.\r\n");
    let mut most = 0;
    while !world.held.is_empty() {
        most = most.max(world.held.len());
        world.answers_held(true);
    }
    assert_eq!((most, codes(&world.takes()).len()), (32, 101));
}

/// L-CM2: a delivery tried again is known by the queue id and the recipient.
#[test]
fn a_delivery_tried_again_carries_the_same_key() {
    let mut world = World::new();
    let message = "Received: from a by b id 4X1y2z; now\r\nSubject: s\r\n\r\nx\r\n";
    for _ in 0..2 {
        world.feed(format!("{}DATA\r\n{message}.\r\n", envelope(&["Ada@Example.org", "eve"])).as_bytes());
    }
    world.feed(format!("{}DATA\r\nno trace\r\n.\r\n", envelope(&["eve"])).as_bytes());
    let [one, two, again_one, again_two, none] = world.keys[..] else { panic!() };
    assert!(one.is_some() && two.is_some() && one != two);
    assert_eq!((one, two, none), (again_one, again_two, None));
}

/// RFC 3207 §4.2, §5: what came in plain text must not be taken for a part of what is encrypted.
#[test]
fn commands_sent_before_tls_are_forgotten() {
    let mut world = World::new();
    world.feed(envelope(&["ada"]).as_bytes());
    world.takes();
    world.feed(b"STARTTLS\r\nLHLO evil\r\nMAIL FROM:<evil@example.net>\r\n");
    assert_eq!(codes(&world.takes()), [220]);
    assert_eq!(world.codes("MAIL FROM:<a@b>\r\n"), [503]);
    assert!(!world.says("LHLO client").contains("STARTTLS"));
    assert_eq!(world.codes("STARTTLS\r\nRCPT TO:<ada>\r\n"), [503, 503]);
}

#[test]
fn only_the_line_with_the_dot_ends_a_message() {
    let mut world = World::new();
    let smuggled = "a\n.\nMAIL FROM:<evil@x>\r\nb\n.\r\nc\r.\r\nd\r\n";
    assert_eq!(world.codes(&format!("{}DATA\r\n{smuggled}.\r\n", envelope(&["ada"]))), [250, 250, 354, 250]);
    assert_eq!(world.delivered[0].1, smuggled.as_bytes());
}

const PIECES: [&str; 20] = [
    "LHLO c\r\n",
    "MAIL FROM:<a@b>\r\n",
    "MAIL FROM:<a@b>\r\nRCPT TO:<ada>\r\nRCPT TO:<eve>\r\n",
    "MAIL FROM:<> SIZE=2000\r\n",
    "RCPT TO:<ada>\r\n",
    "RCPT TO:<nobody>\r\n",
    "DATA\r\nhello\r\n..dot\r\n.\r\n",
    "DATA\r\n.\r\n",
    "hello\n.\r\n",
    "BDAT 3\r\nabc",
    "BDAT 6 LAST\r\nQUIT\r\n",
    "BDAT 0 LAST\r\n",
    "BDAT x\r\n",
    "RSET\r\n",
    "NOOP\n",
    "STARTTLS\r\n",
    "VRFY x\r\n",
    "\u{e9}\r\n",
    "\r\n",
    "QUIT\r\n",
];

type Outcome = (String, Option<Closing>, Vec<(String, Vec<u8>)>);

fn outcome(text: &[u8], cuts: &[usize]) -> Outcome {
    let mut world = World::with(options());
    let ends = cuts.iter().map(|cut| cut % (text.len() + 1)).collect::<std::collections::BTreeSet<_>>();
    let mut from = 0;
    for to in ends.into_iter().chain([text.len()]) {
        if to > from && world.closed.is_none() {
            world.feed(&text[from..to]);
        }
        from = from.max(to);
    }
    if world.closed.is_none() {
        world.handle(Input::Received(&[]));
    }
    (world.takes(), world.closed, world.delivered)
}

proptest! {
    #[test]
    fn it_does_not_matter_how_input_is_cut(
        pieces in proptest::collection::vec(0..PIECES.len(), 0..20),
        greets in any::<bool>(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let pieces: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        // Where TLS begins a cut does matter: what is sent behind the command at once is forgotten.
        let text = format!("{}{}", if greets { "LHLO c\r\n" } else { "" }, pieces.replace("STARTTLS\r\n", ""));
        let whole = outcome(text.as_bytes(), &[]);
        prop_assert_eq!(&outcome(text.as_bytes(), &cuts), &whole);
        let each: Vec<_> = (0..text.len()).collect();
        prop_assert_eq!(&outcome(text.as_bytes(), &each), &whole);
    }

    #[test]
    fn no_bytes_make_it_panic(text in proptest::collection::vec(any::<u8>(), 0..300), pieces in proptest::collection::vec(0..PIECES.len(), 0..9)) {
        let mut world = World::with(options());
        let pieces: String = pieces.into_iter().map(|piece| PIECES[piece]).collect();
        world.feed(pieces.as_bytes());
        if world.closed.is_none() {
            world.feed(&[&text[..], b"\r\n"].concat());
        }
    }
}
