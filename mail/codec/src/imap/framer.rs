//! Cuts what a client sends into commands, literals and lines.
//!
//! `push` takes bytes in any split; `next_frame` gives what is complete, one frame at a time. What the session does
//! about a frame (`expect_line`, `decide`, `discard_buffered`, `set_limits`) applies to the bytes that follow it, also
//! when those were pushed before: commands come in pipelines.
//!
//! Invariants
//! - Memory is bounded by `Limits` and what was pushed and not yet taken; a framer without input holds none.
//! - The octets of APPEND's message and of refused literals are never collected.
//! - A synchronising literal is asked for only when the command is right so far; one that is refused is not read.
//! - A refused non-synchronising literal is read to its end and thrown away, for the client has sent it (RFC 7888 §4).
//! - After `Frame::Fatal` nothing comes.

use bytes::{Bytes, BytesMut};

use super::command::{AppendLiteral, BadCommand, BadKind, Body, Command, TAG_BYTES_MAX};
use super::literal::{Endless, Tail, announced};
use super::parse::{self, Outcome};

/// What one connection may make us hold or read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// One line, without its end.
    pub line_bytes_max: usize,
    /// One literal within a command.
    pub literal_bytes_max: usize,
    /// All lines and literals of a command.
    pub command_bytes_max: usize,
    pub literals_max: usize,
    /// The message of APPEND, which is not held.
    pub append_bytes_max: u64,
    /// What may be thrown away after a command was refused; beyond it the connection ends.
    pub swallow_bytes_max: u64,
}

impl Limits {
    /// A stranger can be greeted, can start TLS and can log in.
    pub const BEFORE_LOGIN: Self = Self {
        line_bytes_max: 8 << 10,
        literal_bytes_max: 4 << 10,
        command_bytes_max: 16 << 10,
        literals_max: 8,
        append_bytes_max: 64 << 20,
        swallow_bytes_max: 1 << 20,
    };
    pub const AFTER_LOGIN: Self = Self {
        line_bytes_max: 64 << 10,
        literal_bytes_max: 64 << 10,
        command_bytes_max: 256 << 10,
        literals_max: 128,
        append_bytes_max: 64 << 20,
        swallow_bytes_max: 256 << 20,
    };
}

/// What the client sent, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Frame {
    Command(Result<Command, BadCommand>),
    /// Send `+`. Its octets become part of the command. A session that does not want it calls `refuse_literal` and
    /// answers the tag.
    NeedContinuation,
    /// The body is `Body::Append`. Nothing follows until `decide`.
    AppendStart(Command),
    /// Octets of the message, at least one.
    LiteralChunk(Bytes),
    /// The message is complete; `Err`, without a tag, when the command goes on wrongly after it, and then the message
    /// must not be appended.
    LiteralEnd(Result<(), BadCommand>),
    /// What `expect_line` asked for, without the line's end; `Err` when it is longer than the limit.
    Line(Result<Bytes, LineTooLong>),
    /// Answer, say BYE and hang up: the client sends more than we will read.
    Fatal(BadCommand),
}

/// A line that was expected is longer than `Limits::line_bytes_max`. It was thrown away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Line is too long")]
pub struct LineTooLong;

/// What to do with the message of an APPEND.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The session sends `+` if the literal is synchronising. Chunks follow.
    Accept,
    /// The session answers the tag. No frame of the message follows.
    Refuse,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// A command's line: the first, or one after a literal.
    Line,
    /// Octets of a literal within the command.
    Literal {
        left: usize,
    },
    /// The next line is not a command.
    Expected,
    /// `AppendStart` was given.
    Deciding(AppendLiteral),
    Message {
        left: u64,
    },
    /// The end of the line after the message.
    MessageEnd,
    /// Octets of a refused literal.
    SwallowLiteral {
        left: u64,
    },
    /// The rest of a refused line. `literals`: what it announces at its end is thrown away too.
    SwallowLine {
        literals: bool,
        tail: Tail,
    },
    Dead,
}

/// What a step came to.
enum Step {
    Frame(Frame),
    /// The state changed; try again.
    Again,
    /// More bytes are needed, or a decision.
    Wait,
}

/// Bytes to frames. See the module.
#[derive(Debug)]
pub struct Framer {
    limits: Limits,
    state: State,
    /// Pushed and not taken.
    buffered: BytesMut,
    /// How much of `buffered` is known to have no line feed.
    scanned: usize,
    /// The command's lines and literals so far.
    command: Vec<u8>,
    literals: usize,
    /// Thrown away since the last command was refused.
    swallowed: u64,
}

impl Framer {
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Line,
            buffered: BytesMut::new(),
            scanned: 0,
            command: Vec::new(),
            literals: 0,
            swallowed: 0,
        }
    }

    pub fn limits(&self) -> Limits {
        self.limits
    }

    pub fn set_limits(&mut self, limits: Limits) {
        self.limits = limits;
    }

    /// Takes what the client sent.
    pub fn push(&mut self, bytes: &[u8]) {
        if !matches!(self.state, State::Dead) {
            self.buffered.extend_from_slice(bytes);
        }
    }

    /// Bytes that were pushed and not yet given as frames. A driver stops reading the socket while there are many.
    pub fn buffered_len(&self) -> usize {
        self.buffered.len()
    }

    /// The bytes that [`buffered_len`](Self::buffered_len) counts.
    pub fn buffered(&self) -> &[u8] {
        &self.buffered
    }

    /// Bytes of memory held, for the limit on all connections together.
    pub fn held_bytes(&self) -> usize {
        self.buffered.capacity() + self.command.capacity()
    }

    /// Whether the client is in the middle of something: a command, a literal or a line that was expected.
    pub fn is_mid_command(&self) -> bool {
        !matches!(self.state, State::Line) || !self.buffered.is_empty() || !self.command.is_empty()
    }

    /// Whether a command begins with the next byte that is not yet given. Half of its first line may be buffered.
    pub fn is_between_commands(&self) -> bool {
        matches!(self.state, State::Line) && self.command.is_empty()
    }

    /// Whether the line that was expected has not come.
    pub fn expects_line(&self) -> bool {
        matches!(self.state, State::Expected)
    }

    /// The next line is one of AUTHENTICATE's responses, or DONE. Call it before the next `next_frame`.
    pub fn expect_line(&mut self) {
        debug_assert!(matches!(self.state, State::Line), "a line is expected between commands only");
        self.state = State::Expected;
    }

    /// Answers `AppendStart`.
    pub fn decide(&mut self, decision: Decision) {
        let State::Deciding(literal) = self.state else {
            debug_assert!(false, "there is nothing to decide");
            return;
        };
        self.state = match (decision, literal.non_sync) {
            (Decision::Accept, _) => State::Message { left: literal.size },
            (Decision::Refuse, true) => State::SwallowLiteral { left: literal.size },
            (Decision::Refuse, false) => State::Line,
        };
    }

    /// After `NeedContinuation`: forgets the command instead of asking for the literal.
    pub fn refuse_literal(&mut self) {
        self.forget_command();
        self.state = State::Line;
    }

    /// The message is no longer wanted (the disk is full, say). The rest of it is thrown away without frames, and the
    /// session answers the tag.
    pub fn abandon_message(&mut self) {
        self.state = match self.state {
            State::Message { left } => State::SwallowLiteral { left },
            State::MessageEnd => State::SwallowLine { literals: true, tail: Tail::default() },
            other @ (State::Line
            | State::Literal { .. }
            | State::Expected
            | State::Deciding(_)
            | State::SwallowLiteral { .. }
            | State::SwallowLine { .. }
            | State::Dead) => other,
        };
    }

    /// Throws away everything that was pushed. STARTTLS calls it when it answers OK: what came in plain text after it
    /// may be a stranger's (CVE-2011-0411; RFC 3501 §6.2.1). Returns how many bytes there were.
    pub fn discard_buffered(&mut self) -> usize {
        let count = self.buffered.len();
        *self = Self::new(self.limits);
        count
    }

    /// The next frame, or `None` until more is pushed or decided.
    pub fn next_frame(&mut self) -> Option<Frame> {
        loop {
            let step = match self.state {
                State::Line => self.line(),
                State::Literal { left } => self.literal(left),
                State::Expected => self.expected(),
                State::Message { left } => self.message(left),
                State::MessageEnd => self.message_end(),
                State::SwallowLiteral { left } => self.swallow_literal(left),
                State::SwallowLine { literals, tail } => self.swallow_line(literals, tail),
                State::Deciding(_) | State::Dead => Step::Wait,
            };
            if self.buffered.is_empty() && self.buffered.capacity() > 0 {
                self.buffered = BytesMut::new();
            }
            match step {
                Step::Frame(frame) => return Some(frame),
                Step::Again => {}
                Step::Wait => return None,
            }
        }
    }

    /// Where the line in `buffered` ends: the index of its line feed. `None` when it is not there yet.
    fn line_feed(&mut self) -> Option<usize> {
        let unscanned = self.buffered.get(self.scanned..).unwrap_or_default();
        let found = memchr::memchr(b'\n', unscanned).map(|index| self.scanned + index);
        self.scanned = if found.is_some() { 0 } else { self.buffered.len() };
        found
    }

    /// Takes the line that ends with this line feed, without its end.
    fn take_line(&mut self, line_feed: usize) -> BytesMut {
        let mut line = self.take(line_feed + 1);
        line.truncate(line_feed);
        if line.last() == Some(&b'\r') {
            line.truncate(line_feed - 1);
        }
        line
    }

    fn take(&mut self, count: usize) -> BytesMut {
        self.scanned = 0;
        self.buffered.split_to(count.min(self.buffered.len()))
    }

    fn line(&mut self) -> Step {
        let line_feed = self.line_feed();
        // However the bytes come, it is the first byte too many that decides.
        let room = self.limits.command_bytes_max.saturating_sub(self.command.len());
        let limit = self.limits.line_bytes_max.min(room);
        // One more than the limit: the carriage return does not count.
        if line_feed.unwrap_or(self.buffered.len()) > limit + 1 {
            return self.refuse_line(limit);
        }
        let Some(line_feed) = line_feed else { return Step::Wait };
        let line = self.take_line(line_feed);
        match announced(&line) {
            None => Step::Frame(Frame::Command(self.whole(&line))),
            Some(Ok(literal)) => self.literal_announced(&line, literal),
            Some(Err(Endless { non_sync })) => {
                let bad = self.too_big(&line, "Literal is too large");
                if non_sync { self.die(bad) } else { Step::Frame(Frame::Command(Err(bad))) }
            }
        }
    }

    /// The command's last line is here.
    fn whole(&mut self, line: &[u8]) -> Result<Command, BadCommand> {
        let outcome = if self.command.is_empty() {
            parse::parse(line, true)
        } else {
            self.command.extend_from_slice(line);
            parse::parse(&self.command, true)
        };
        let tag = || parse::tag_of(&self.command).or_else(|| parse::tag_of(line));
        let result = match outcome {
            Outcome::Command(command) if matches!(command.body, Body::Append(_)) => {
                Err(incomplete(Some(command.tag)))
            }
            Outcome::Command(command) => Ok(command),
            Outcome::Bad(bad) => Err(bad),
            Outcome::Incomplete => Err(incomplete(tag())),
        };
        self.forget_command();
        result
    }

    /// The line announces a literal. Is the command right so far, and is there room?
    fn literal_announced(&mut self, line: &[u8], literal: AppendLiteral) -> Step {
        self.literals += 1;
        if self.literals > self.limits.literals_max {
            let bad = self.too_big(line, "Too many literals");
            return self.refuse(bad, literal);
        }
        self.command.extend_from_slice(line);
        self.command.extend_from_slice(b"\r\n");
        let limits = self.limits;
        match parse::parse(&self.command, false) {
            Outcome::Command(command) if literal.size > limits.append_bytes_max => {
                let message = format!("Message is larger than {} bytes", limits.append_bytes_max);
                let bad = BadCommand { tag: Some(command.tag), kind: BadKind::MessageTooBig, message };
                self.refuse(bad, literal)
            }
            Outcome::Command(command) => {
                self.forget_command();
                self.state = State::Deciding(literal);
                Step::Frame(Frame::AppendStart(command))
            }
            Outcome::Bad(bad) => self.refuse(bad, literal),
            Outcome::Incomplete => {
                let room =
                    limits.command_bytes_max.saturating_sub(self.command.len()).min(limits.literal_bytes_max);
                match usize::try_from(literal.size) {
                    Ok(left) if left <= room => {
                        self.state = State::Literal { left };
                        if literal.non_sync { Step::Again } else { Step::Frame(Frame::NeedContinuation) }
                    }
                    Ok(_) | Err(_) => {
                        let bad = self.too_big(&[], "Literal is too large");
                        self.refuse(bad, literal)
                    }
                }
            }
        }
    }

    fn literal(&mut self, left: usize) -> Step {
        let octets = self.take(left);
        self.command.extend_from_slice(&octets);
        let left = left - octets.len();
        if left > 0 {
            self.state = State::Literal { left };
            return Step::Wait;
        }
        self.state = State::Line;
        Step::Again
    }

    fn expected(&mut self) -> Step {
        let line_feed = self.line_feed();
        if line_feed.unwrap_or(self.buffered.len()) > self.limits.line_bytes_max + 1 {
            self.scanned = 0;
            self.state = State::SwallowLine { literals: false, tail: Tail::default() };
            return Step::Frame(Frame::Line(Err(LineTooLong)));
        }
        let Some(line_feed) = line_feed else { return Step::Wait };
        self.state = State::Line;
        Step::Frame(Frame::Line(Ok(self.take_line(line_feed).freeze())))
    }

    fn message(&mut self, left: u64) -> Step {
        if left == 0 {
            self.state = State::MessageEnd;
            return Step::Again;
        }
        if self.buffered.is_empty() {
            return Step::Wait;
        }
        let chunk = self.take(usize::try_from(left).unwrap_or(usize::MAX));
        self.state = State::Message { left: left.saturating_sub(chunk.len() as u64) };
        Step::Frame(Frame::LiteralChunk(chunk.freeze()))
    }

    /// Another message would stand here (RFC 3502); until then the line must end.
    fn message_end(&mut self) -> Step {
        let end = match self.buffered.as_ref() {
            [b'\n', ..] => 1,
            [b'\r', b'\n', ..] => 2,
            [] | [b'\r'] => return Step::Wait,
            [_, ..] => {
                self.state = State::SwallowLine { literals: true, tail: Tail::default() };
                let message = "Unexpected text after the message".to_owned();
                return Step::Frame(Frame::LiteralEnd(Err(BadCommand {
                    tag: None,
                    kind: BadKind::Syntax,
                    message,
                })));
            }
        };
        self.take(end);
        self.state = State::Line;
        Step::Frame(Frame::LiteralEnd(Ok(())))
    }

    fn swallow_literal(&mut self, left: u64) -> Step {
        if self.swallowed.saturating_add(left) > self.limits.swallow_bytes_max {
            return self.die(BadCommand {
                tag: None,
                kind: BadKind::TooBig,
                message: "Too much to read".into(),
            });
        }
        let count = self.take(usize::try_from(left).unwrap_or(usize::MAX)).len() as u64;
        self.swallowed += count;
        if count < left {
            self.state = State::SwallowLiteral { left: left - count };
            return Step::Wait;
        }
        self.state = State::SwallowLine { literals: true, tail: Tail::default() };
        Step::Again
    }

    fn swallow_line(&mut self, literals: bool, mut tail: Tail) -> Step {
        let line_feed = self.line_feed();
        let line = self.take(line_feed.map_or(usize::MAX, |line_feed| line_feed + 1));
        self.swallowed += line.len() as u64;
        if self.swallowed > self.limits.swallow_bytes_max {
            return self.die(BadCommand {
                tag: None,
                kind: BadKind::TooBig,
                message: "Too much to read".into(),
            });
        }
        tail.extend(&line);
        if line_feed.is_none() {
            self.state = State::SwallowLine { literals, tail };
            return Step::Wait;
        }
        match announced(tail.line()).filter(|_| literals) {
            Some(Ok(literal)) if literal.non_sync => {
                self.state = State::SwallowLiteral { left: literal.size }
            }
            Some(Err(Endless { non_sync: true })) => {
                return self.die(BadCommand {
                    tag: None,
                    kind: BadKind::TooBig,
                    message: "Too much to read".into(),
                });
            }
            // The client waits for `+` and reads our refusal instead.
            Some(Ok(_) | Err(_)) | None => {
                self.state = State::Line;
                self.swallowed = 0;
            }
        }
        Step::Again
    }

    /// Refuses the command in the middle of a line, which is still in `buffered`, `limit` bytes of it at least.
    fn refuse_line(&mut self, limit: usize) -> Step {
        let start = self.buffered.get(..limit.min(TAG_BYTES_MAX + 1)).unwrap_or_default();
        let tag = parse::tag_of(&self.command).or_else(|| parse::tag_of(start));
        self.forget_command();
        self.scanned = 0;
        self.state = State::SwallowLine { literals: true, tail: Tail::default() };
        Step::Frame(Frame::Command(Err(BadCommand {
            tag,
            kind: BadKind::TooBig,
            message: "Command is too long".to_owned(),
        })))
    }

    /// Refuses the command at the end of a line that announces `literal`.
    fn refuse(&mut self, bad: BadCommand, literal: AppendLiteral) -> Step {
        self.forget_command();
        if literal.non_sync {
            if literal.size > self.limits.swallow_bytes_max {
                return self.die(bad);
            }
            self.state = State::SwallowLiteral { left: literal.size };
        }
        Step::Frame(Frame::Command(Err(bad)))
    }

    /// The tag is at the start of the command, or of `line` when that is all there is.
    fn too_big(&mut self, line: &[u8], message: &str) -> BadCommand {
        let tag = if self.command.is_empty() { parse::tag_of(line) } else { parse::tag_of(&self.command) };
        self.forget_command();
        BadCommand { tag, kind: BadKind::TooBig, message: message.to_owned() }
    }

    fn forget_command(&mut self) {
        self.command = Vec::new();
        self.literals = 0;
    }

    fn die(&mut self, bad: BadCommand) -> Step {
        self.forget_command();
        self.buffered = BytesMut::new();
        self.scanned = 0;
        self.state = State::Dead;
        Step::Frame(Frame::Fatal(bad))
    }
}

fn incomplete(tag: Option<super::command::Tag>) -> BadCommand {
    BadCommand { tag, kind: BadKind::Syntax, message: "Command is incomplete".to_owned() }
}
