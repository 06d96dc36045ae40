//! What must hold for every octet string, as one function: fuzzing and the tests call it.

use bytes::BytesMut;
use model::utf7::{decode_utf7, encode_utf7};

use super::command::{Body, Command, TAG_BYTES_MAX};
use super::command_encode::encode_command;
use super::encode::Encoder;
use super::framer::{Decision, Frame, Framer, Limits};
use super::mailbox::{NameEncoding, WireMailbox};

const TIGHT: Limits = Limits {
    line_bytes_max: 60,
    literal_bytes_max: 20,
    command_bytes_max: 100,
    literals_max: 2,
    append_bytes_max: 30,
    swallow_bytes_max: 200,
};

/// So wide that whatever was read can be read again after it was written.
const WIDE: Limits = Limits {
    line_bytes_max: usize::MAX / 4,
    literal_bytes_max: usize::MAX / 4,
    command_bytes_max: usize::MAX / 4,
    literals_max: usize::MAX / 4,
    append_bytes_max: u64::MAX / 4,
    swallow_bytes_max: u64::MAX / 4,
};

/// Reads `data` as what a client sends, and looks at what comes out in every way this room offers.
///
/// # Panics
/// When a promise of this room is broken.
pub fn imap(data: &[u8]) {
    for limits in [Limits::AFTER_LOGIN, Limits::BEFORE_LOGIN, TIGHT] {
        for refuse in [false, true] {
            let whole = frames(data, limits, refuse, &[data.len().max(1)]);
            assert_eq!(whole, frames(data, limits, refuse, &[1]), "one byte at a time");
            let sizes = [1 + usize::from(data.first().copied().unwrap_or(0)) % 7, 2, 13];
            assert_eq!(whole, frames(data, limits, refuse, &sizes), "in chunks of {sizes:?}");
            whole.iter().for_each(check);
        }
    }
    if let Ok(text) = decode_utf7(data) {
        assert_eq!(encode_utf7(&text).as_bytes(), data, "a name has one form");
    }
}

/// What the framer gives for `data`, pushed in chunks of these sizes in turn. Chunks of one message are joined, for
/// only they may depend on how the bytes came.
fn frames(data: &[u8], limits: Limits, refuse: bool, sizes: &[usize]) -> Vec<Frame> {
    let mut framer = Framer::new(limits);
    let mut frames = Vec::new();
    let mut rest = data;
    for size in sizes.iter().cycle() {
        let (chunk, after) = rest.split_at((*size).min(rest.len()));
        rest = after;
        framer.push(chunk);
        while let Some(frame) = framer.next_frame() {
            answer(&mut framer, &frame, refuse);
            match (frames.last_mut(), frame) {
                (Some(Frame::LiteralChunk(before)), Frame::LiteralChunk(more)) => {
                    *before = [before.as_ref(), more.as_ref()].concat().into();
                }
                (_, frame) => frames.push(frame),
            }
        }
        assert!(framer.is_mid_command() || framer.held_bytes() == 0, "an idle framer holds memory");
        assert!(framer.buffered_len() <= limits.line_bytes_max + chunk.len() + 2, "more than a line is held");
        if rest.is_empty() {
            return frames;
        }
    }
    frames
}

/// As a session would.
fn answer(framer: &mut Framer, frame: &Frame, refuse: bool) {
    match frame {
        Frame::AppendStart(_) if refuse => framer.decide(Decision::Refuse),
        Frame::AppendStart(_) => framer.decide(Decision::Accept),
        Frame::NeedContinuation if refuse => framer.refuse_literal(),
        Frame::Command(Ok(Command { body: Body::Idle | Body::Authenticate(_), .. })) => framer.expect_line(),
        Frame::Command(_)
        | Frame::NeedContinuation
        | Frame::LiteralChunk(_)
        | Frame::LiteralEnd(_)
        | Frame::Line(_)
        | Frame::Fatal(_) => {}
    }
}

fn check(frame: &Frame) {
    match frame {
        Frame::Command(Ok(command)) | Frame::AppendStart(command) => {
            assert_eq!(read_back(command), Some(command.clone()), "what was written reads differently");
        }
        Frame::Command(Err(bad)) | Frame::Fatal(bad) | Frame::LiteralEnd(Err(bad)) => {
            let mut out = BytesMut::new();
            Encoder::new(&mut out, NameEncoding::ModifiedUtf7).bad(bad);
            assert!(out.len() < TAG_BYTES_MAX + 200, "the answer is as long as the question");
            assert_eq!(memchr::memchr(b'\r', &out), Some(out.len() - 2), "the answer is not one line");
        }
        Frame::NeedContinuation | Frame::LiteralChunk(_) | Frame::LiteralEnd(Ok(())) | Frame::Line(_) => {}
    }
    if let Frame::Command(Ok(Command { body: Body::Delete(name), .. })) = frame {
        check_name(name);
    }
}

/// Writes the command and reads it again.
fn read_back(command: &Command) -> Option<Command> {
    let mut out = BytesMut::new();
    encode_command(command, &mut out);
    let mut framer = Framer::new(WIDE);
    framer.push(&out);
    match framer.next_frame()? {
        Frame::Command(result) => result.ok(),
        Frame::AppendStart(command) => Some(command),
        Frame::NeedContinuation
        | Frame::LiteralChunk(_)
        | Frame::LiteralEnd(_)
        | Frame::Line(_)
        | Frame::Fatal(_) => None,
    }
}

fn check_name(wire: &WireMailbox) {
    if let Ok(name) = wire.name(NameEncoding::ModifiedUtf7) {
        let again = WireMailbox::new(encode_utf7(name.as_str())).name(NameEncoding::ModifiedUtf7);
        assert_eq!(again, Ok(name));
    }
}
