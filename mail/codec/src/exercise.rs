//! What must hold for every octet string, one function a grammar: fuzzing calls them, and the tests do with its corpus.
//!
//! # Panics
//! Each function does when a promise of its grammar is broken.

use bytes::BytesMut;

use crate::line::{Line, LineReader};
use crate::lmtp::{self, DataReader};
use crate::pop3::{self, DotStuffer, Top};

pub use crate::imap::exercise::imap;
pub use message::exercise::message;

/// POP3: commands, and message text on its way out.
pub fn pop3(data: &[u8]) {
    for line in lines(data, pop3::COMMAND_BYTES_MAX) {
        match pop3::Command::parse(&line) {
            Ok(command) => assert_eq!(pop3::Command::parse(&command.encode()), Ok(command)),
            Err(error) => one_line(|out| pop3::Status::err(None, error.to_string()).encode(out)),
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        one_line(|out| pop3::Status::ok(text).encode(out));
    }
    let wire = message::wire::convert(data);
    let whole = stuffed(&wire, wire.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(stuffed(&wire, size), whole);
        for wanted in [0, 1, 5] {
            assert_eq!(top(&wire, wanted, size), top(&wire, wanted, wire.len()));
        }
    }
    // What was stuffed is what an LMTP receiver would read.
    let (text, end) = unstuffed(&whole, whole.len());
    assert_eq!(end, Some(whole.len()));
    assert!(text.starts_with(&wire) && text.len() <= wire.len() + 2);
}

/// LMTP: commands, and message text on its way in.
pub fn lmtp(data: &[u8]) {
    for line in lines(data, lmtp::COMMAND_BYTES_MAX) {
        match lmtp::Command::parse(&line) {
            Ok(command) => assert_eq!(lmtp::Command::parse(command.encode().as_bytes()), Ok(command)),
            Err(error) => one_line(|out| error.reply().encode(out)),
        }
        let text = String::from_utf8_lossy(&line).into_owned();
        one_line(|out| lmtp::Reply::new(550, Some("5.1.1"), text).encode(out));
    }
    let whole = unstuffed(data, data.len());
    for size in [1, 2, 3, 7] {
        assert_eq!(unstuffed(data, size), whole);
    }
    let (text, end) = whole;
    assert!(text.len() <= data.len());
    if let Some(end) = end {
        let read = data.get(..end).unwrap_or_default();
        assert!(read == b".\r\n" || read.ends_with(b"\r\n.\r\n"));
        // Nothing before the end was one.
        let before = read.get(..end - 1).unwrap_or_default();
        assert_eq!(unstuffed(before, before.len().max(1)).1, None);
    }
}

/// The complete lines of `data`; the same whether it comes at once or octet by octet.
fn lines(data: &[u8], line_bytes_max: usize) -> Vec<BytesMut> {
    let read = |size: usize| {
        let mut reader = LineReader::new(line_bytes_max);
        let mut found = Vec::new();
        for chunk in data.chunks(size.max(1)) {
            reader.feed(chunk);
            found.extend(std::iter::from_fn(|| reader.next_line()));
        }
        found
    };
    let found = read(data.len());
    assert_eq!(read(1), found);
    found
        .into_iter()
        .filter_map(|line| match line {
            Line::Complete(line) => Some(line),
            Line::TooLong => None,
        })
        .collect()
}

fn one_line(encode: impl FnOnce(&mut BytesMut)) {
    let mut out = BytesMut::new();
    encode(&mut out);
    assert!(out.ends_with(b"\r\n"));
    assert!(out.len() <= 512);
    assert_eq!(memchr::memchr2_iter(b'\r', b'\n', &out).count(), 2);
}

fn stuffed(wire: &[u8], size: usize) -> BytesMut {
    let (mut out, mut stuffer) = (BytesMut::new(), DotStuffer::new());
    wire.chunks(size.max(1)).for_each(|chunk| stuffer.push(chunk, &mut out));
    stuffer.finish(&mut out);
    out
}

fn top(wire: &[u8], wanted: u64, size: usize) -> Vec<u8> {
    let mut top = Top::new(wanted);
    wire.chunks(size.max(1)).flat_map(|chunk| top.cut(chunk)).copied().collect()
}

/// The text, and how many octets of `data` belonged to it if it ended.
fn unstuffed(data: &[u8], size: usize) -> (BytesMut, Option<usize>) {
    let (mut out, mut reader, mut before) = (BytesMut::new(), DataReader::new(), 0);
    for chunk in data.chunks(size.max(1)) {
        if let Some(consumed) = reader.push(chunk, &mut out) {
            return (out, Some(before + consumed));
        }
        before += chunk.len();
    }
    (out, None)
}
