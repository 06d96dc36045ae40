//! What the framer gives, and when.

use codec::imap::command::{BadCommand, BadKind, Body};
use codec::imap::framer::LineTooLong;
use codec::imap::{Decision, Frame, Framer, Limits};

fn framer(text: &[u8]) -> Framer {
    let mut framer = Framer::new(Limits::AFTER_LOGIN);
    framer.push(text);
    framer
}

/// The body of the command that is next.
fn body(framer: &mut Framer) -> Body {
    match framer.next_frame() {
        Some(Frame::Command(Ok(command))) => command.body,
        other => panic!("{other:?}"),
    }
}

fn bad(framer: &mut Framer) -> BadCommand {
    match framer.next_frame() {
        Some(Frame::Command(Err(bad))) => bad,
        other => panic!("{other:?}"),
    }
}

fn tag(bad: &BadCommand) -> Option<&str> {
    bad.tag.as_ref().map(|tag| tag.as_str())
}

#[test]
fn a_pipeline_comes_out_command_by_command() {
    let mut framer = framer(b"a NOOP\r\nb CAPABILITY\nc NO");
    assert_eq!(body(&mut framer), Body::Noop);
    assert_eq!(body(&mut framer), Body::Capability);
    assert_eq!(framer.next_frame(), None);
    assert!(framer.is_mid_command());
    framer.push(b"OP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
    assert!(!framer.is_mid_command());
}

#[test]
fn an_idle_framer_holds_no_memory() {
    let mut framer = framer(b"");
    for _ in 0..3 {
        framer.push(&[b"a LOGIN {5}\r\nadmin \"", [b'x'; 5000].as_slice(), b"\"\r\n"].concat());
        assert_eq!(framer.next_frame(), Some(Frame::NeedContinuation));
        assert!(matches!(framer.next_frame(), Some(Frame::Command(Ok(_)))));
        assert_eq!((framer.next_frame(), framer.held_bytes()), (None, 0));
    }
}

#[test]
fn a_synchronising_literal_is_asked_for_once_the_command_is_right_so_far() {
    let mut framer = framer(b"a LOGIN {4}\r\n");
    assert_eq!(framer.next_frame(), Some(Frame::NeedContinuation));
    assert_eq!(framer.next_frame(), None);
    framer.push(b"user {4}\r\n");
    assert_eq!(framer.next_frame(), Some(Frame::NeedContinuation));
    framer.push(b"pass\r\n");
    assert!(matches!(body(&mut framer), Body::Login(_)));
    // An unknown command, or a literal where none can stand, is refused before the client sends it.
    framer.push(b"b FOO {4}\r\nc NOOP {1}\r\nd FETCH 1 {3}\r\ne NOOP\r\n");
    for expected in ["b", "c", "d"] {
        assert_eq!(tag(&bad(&mut framer)), Some(expected));
    }
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn the_session_may_refuse_a_literal() {
    let mut framer = framer(b"a LOGIN {4}\r\n");
    assert_eq!(framer.next_frame(), Some(Frame::NeedContinuation));
    framer.refuse_literal();
    framer.push(b"b NOOP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn a_refused_non_synchronising_literal_is_thrown_away_unread() {
    // RFC 7888 §4. The literal holds what looks like commands, and announces another at the end of its line.
    let mut framer = framer(b"a FOO {15+}\r\nx LOGOUT\r\nx {9} {8+}\r\nx NOOP\r\n rest\r\nb NOOP\r\n");
    assert_eq!(tag(&bad(&mut framer)), Some("a"));
    assert_eq!(body(&mut framer), Body::Noop);
    assert_eq!(framer.next_frame(), None);
}

#[test]
fn a_literal_beyond_the_limit_is_too_big() {
    let mut framer = framer(b"a LOGIN {70000}\r\nb LOGIN {70000+}\r\n");
    let refused = bad(&mut framer);
    assert_eq!((tag(&refused), refused.kind), (Some("a"), BadKind::TooBig));
    assert_eq!(bad(&mut framer).kind, BadKind::TooBig);
    for _ in 0..70 {
        framer.push(&[b'x'; 1000]);
        assert_eq!((framer.next_frame(), framer.held_bytes()), (None, 0));
    }
    framer.push(b" x\r\nc NOOP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn literals_that_are_never_read_to_the_end_end_the_connection() {
    for text in [&b"a LOGIN {999999999999+}\r\nx"[..], b"a LOGIN {99999999999999999999999+}\r\nx"] {
        let mut framer = framer(text);
        let Some(Frame::Fatal(bad)) = framer.next_frame() else { panic!() };
        assert_eq!((tag(&bad), bad.kind), (Some("a"), BadKind::TooBig));
        framer.push(b"b NOOP\r\n");
        assert_eq!((framer.next_frame(), framer.held_bytes()), (None, 0));
    }
    // Synchronising, the client waits and nothing is lost.
    let mut framer = framer(b"a LOGIN {99999999999999999999999}\r\nb NOOP\r\n");
    assert_eq!(tag(&bad(&mut framer)), Some("a"));
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn too_many_literals_and_too_long_commands_are_refused() {
    let mut framer = framer(b"a SEARCH");
    for _ in 0..129 {
        framer.push(b" TEXT {1+}\r\nx");
    }
    framer.push(b"\r\nb NOOP\r\n");
    let refused = bad(&mut framer);
    assert_eq!((tag(&refused), refused.message.as_str()), (Some("a"), "Too many literals"));
    assert_eq!(body(&mut framer), Body::Noop);
    framer.push(b"c SEARCH");
    for _ in 0..5 {
        framer.push(b" TEXT {60000+}\r\n");
        framer.push(&[b'x'; 60_000]);
    }
    framer.push(b"\r\nd NOOP\r\n");
    let refused = bad(&mut framer);
    assert_eq!((tag(&refused), refused.kind), (Some("c"), BadKind::TooBig));
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn a_line_too_long_is_refused_at_the_limit_and_dropped_to_its_end() {
    let line = Limits::AFTER_LOGIN.line_bytes_max;
    for beyond in [0usize, 1, 2, 100] {
        let mut framer = framer(b"a LOGIN x ");
        framer.push(&vec![b'y'; line - 10 + beyond]);
        framer.push(b"\r\nb NOOP\r\n");
        match (beyond, framer.next_frame()) {
            (0, Some(Frame::Command(Ok(_)))) => {}
            (1.., Some(Frame::Command(Err(bad)))) => {
                assert_eq!((tag(&bad), bad.kind), (Some("a"), BadKind::TooBig));
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(body(&mut framer), Body::Noop);
    }
    // Without an end in sight, memory stays bounded.
    let mut framer = framer(b"a ");
    let mut refused = 0;
    for _ in 0..1000 {
        framer.push(&[b'x'; 1000]);
        refused += usize::from(framer.next_frame().is_some());
        assert!(framer.held_bytes() < 4 * line);
    }
    assert_eq!(refused, 1);
    framer.push(b" {3+}\r\nabc\r\nb NOOP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn an_appended_message_passes_through_in_chunks() {
    let mut framer = framer(b"a APPEND INBOX (\\Seen) {10}\r\n");
    let Some(Frame::AppendStart(command)) = framer.next_frame() else { panic!() };
    assert!(matches!(command.body, Body::Append(_)));
    framer.push(b"01234");
    assert_eq!(framer.next_frame(), None, "nothing comes before the decision");
    framer.decide(Decision::Accept);
    assert_eq!(framer.next_frame(), Some(Frame::LiteralChunk(b"01234"[..].into())));
    assert_eq!((framer.next_frame(), framer.held_bytes()), (None, 0));
    framer.push(b"\r\n789\r");
    assert_eq!(framer.next_frame(), Some(Frame::LiteralChunk(b"\r\n789"[..].into())));
    assert_eq!(framer.next_frame(), None);
    framer.push(b"\nb NOOP\r\n");
    assert_eq!(framer.next_frame(), Some(Frame::LiteralEnd(Ok(()))));
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn an_empty_message_is_a_message() {
    let mut framer = framer(b"a APPEND {5+}\r\nINBOX {0+}\r\n\r\n");
    assert!(matches!(framer.next_frame(), Some(Frame::AppendStart(_))));
    framer.decide(Decision::Accept);
    assert_eq!(framer.next_frame(), Some(Frame::LiteralEnd(Ok(()))));
}

#[test]
fn a_refused_message_leaves_no_trace() {
    let mut framer = framer(b"a APPEND x {10}\r\nb APPEND x {12+}\r\nc LOGOUT\r\nxx\r\nd NOOP\r\n");
    assert!(matches!(framer.next_frame(), Some(Frame::AppendStart(_))));
    framer.decide(Decision::Refuse);
    assert!(matches!(framer.next_frame(), Some(Frame::AppendStart(_))));
    framer.decide(Decision::Refuse);
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn an_abandoned_message_is_read_to_its_end_in_silence() {
    let mut framer = framer(b"a APPEND x {10+}\r\n01234");
    assert!(matches!(framer.next_frame(), Some(Frame::AppendStart(_))));
    framer.decide(Decision::Accept);
    assert!(matches!(framer.next_frame(), Some(Frame::LiteralChunk(_))));
    framer.abandon_message();
    framer.push(b"56789\r\nb NOOP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn a_message_that_is_too_large_is_refused_before_the_session_hears_of_it() {
    let mut framer = framer(b"a APPEND INBOX {67108865}\r\nb APPEND INBOX {67108865+}\r\n");
    for expected in ["a", "b"] {
        let refused = bad(&mut framer);
        assert_eq!((tag(&refused), refused.kind), (Some(expected), BadKind::MessageTooBig));
    }
    framer.push(&vec![b'x'; 67_108_865]);
    framer.push(b"\r\nc NOOP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn a_message_with_something_after_it_is_not_complete() {
    let mut framer = framer(b"a APPEND x {3+}\r\nabc {3+}\r\nxyz\r\nb NOOP\r\n");
    assert!(matches!(framer.next_frame(), Some(Frame::AppendStart(_))));
    framer.decide(Decision::Accept);
    assert!(matches!(framer.next_frame(), Some(Frame::LiteralChunk(_))));
    assert!(matches!(framer.next_frame(), Some(Frame::LiteralEnd(Err(_)))));
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn an_expected_line_is_given_as_it_is() {
    let mut framer = framer(b"a IDLE\r\nDONE\r\nb AUTHENTICATE PLAIN\r\nAGEAYg==\r\n");
    assert_eq!(body(&mut framer), Body::Idle);
    framer.expect_line();
    assert_eq!(framer.next_frame(), Some(Frame::Line(Ok(b"DONE"[..].into()))));
    assert!(matches!(body(&mut framer), Body::Authenticate(_)));
    framer.expect_line();
    assert_eq!(framer.next_frame(), Some(Frame::Line(Ok(b"AGEAYg=="[..].into()))));
    framer.expect_line();
    framer.push(&vec![b'A'; 70_000]);
    assert_eq!(framer.next_frame(), Some(Frame::Line(Err(LineTooLong))));
    framer.push(b" {5+}\r\nc NOOP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn what_came_in_plain_text_after_starttls_is_discarded() {
    // CVE-2011-0411.
    let mut framer = framer(b"a STARTTLS\r\nb LOGIN eve x\r\nc NO");
    assert_eq!(body(&mut framer), Body::StartTls);
    assert_eq!(framer.discard_buffered(), 19);
    assert_eq!((framer.next_frame(), framer.held_bytes()), (None, 0));
    framer.push(b"d NOOP\r\n");
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn a_bad_line_has_its_tag_where_one_can_be_read() {
    let mut framer = framer(b"\r\na\r\nb c d\r\n\xff\xfe NOOP\r\n* NOOP\r\ne NOOP\r\n");
    for expected in [None, Some("a"), Some("b"), None, None] {
        assert_eq!(tag(&bad(&mut framer)), expected);
    }
    assert_eq!(body(&mut framer), Body::Noop);
}

#[test]
fn create_with_an_unknown_special_use_is_no_syntax_error() {
    let mut framer = framer(b"a CREATE x (USE (\\Foo))\r\n");
    assert_eq!(bad(&mut framer).kind, BadKind::UseAttr);
}

#[test]
fn a_command_too_long_is_refused_alike_however_it_comes() {
    let limits = Limits { line_bytes_max: 60, command_bytes_max: 50, ..Limits::BEFORE_LOGIN };
    let text =
        [b"a LOGIN {3+}\r\nabc ".as_slice(), &[b'x'; 90], b"\r\n", &[b'y'; 70], b" NOOP\r\nb NOOP\r\n"]
            .concat();
    let frames = |size: usize| {
        let mut framer = Framer::new(limits);
        let mut frames = Vec::new();
        for chunk in text.chunks(size) {
            framer.push(chunk);
            frames.extend(std::iter::from_fn(|| framer.next_frame()));
        }
        frames
    };
    let whole = frames(text.len());
    assert_eq!(whole.len(), 3);
    for size in 1..text.len() {
        assert_eq!(frames(size), whole, "in chunks of {size}");
    }
}
