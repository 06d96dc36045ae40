//! The IMAP codec from outside: what clients send and what they get to read.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking, and asks for one variant of many"
)]

mod arbitrary;
mod commands;
mod framing;
mod oracle;
mod responses;
mod round_trip;

use codec::imap::{Command, Frame, Framer, Limits};

/// What the framer makes of one command, with its line's end left out.
fn read(text: &str) -> Result<Command, String> {
    let mut framer = Framer::new(Limits::AFTER_LOGIN);
    framer.push(text.as_bytes());
    framer.push(b"\r\n");
    loop {
        match framer.next_frame() {
            Some(Frame::Command(result)) => return result.map_err(|bad| bad.message),
            Some(Frame::AppendStart(command)) => return Ok(command),
            Some(Frame::NeedContinuation) => {}
            other => return Err(format!("{other:?}")),
        }
    }
}
