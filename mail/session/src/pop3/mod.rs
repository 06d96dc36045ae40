//! POP3 (RFC 1939) with CAPA (RFC 2449), STLS (RFC 2595), AUTH (RFC 5034) and response codes (RFC 2449, RFC 3206).
//!
//! Invariants
//! - Commands are done one at a time, in the order they came, however the client's bytes were cut.
//! - Message numbers are ranks in the view of INBOX taken at login, and stay what they are for the whole session.
//! - Nothing is removed but after QUIT (RFC 1939 §6), in one request, and `+OK` is said only when that is durable. If its
//!   fate is unknown the session hangs up: `+OK` and `-ERR` would both be untrue (L-CM2).
//! - A message that cannot be sent to its end is never ended with the final dot: the connection is closed instead.

mod export;
mod login;
mod maildrop;
mod transfer;
mod uidl;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use account::{Snapshot, door};
use bytes::BytesMut;
use codec::line::{Line, LineReader};
use codec::pop3::{COMMAND_BYTES_MAX, Code, Command, Status};

use crate::blob::Blob;
use crate::{
    Answer, Closing, Connection, Doing, Finished, Input, LoggedIn, OUTPUT_HIGH, Output, Proven, Question,
    Session, Tally, Ticket, refused,
};
use maildrop::Maildrop;
use transfer::{Listing, Sending};
pub use uidl::UidlFormat;

/// A command is begun only while so much output can still be made; long answers ask for room as they go.
const COMMAND_ROOM: usize = 8 * 1024;
/// Bad commands in a row after which the other side is taken for no client.
const MISTAKES_BEFORE_LOGIN_MAX: u32 = 5;
const MISTAKES_AFTER_LOGIN_MAX: u32 = 20;

/// Stands in answers that may be out of date.
pub const FROZEN: &str = "read-only for now";

/// What the operator may set.
#[derive(Clone, Debug)]
pub struct Options {
    pub before_login: Duration,
    /// RFC 1939 §3 asks for ten minutes at least.
    pub idle: Duration,
    /// `%08Xu%08Xv` and the like: `%u` UID, `%v` UIDVALIDITY, `%f` file name, `%g` id of the message.
    pub uidl_format: String,
    /// One POP3 session at a time for an account (RFC 1939 §4).
    pub lock: bool,
    /// Names and passwords to try on one connection.
    pub login_failures_max: u32,
}

/// One POP3 conversation.
pub struct Pop3 {
    connection: Connection,
    options: Options,
    uidl: UidlFormat,
    lines: LineReader,
    out: BytesMut,
    queue: VecDeque<Output>,
    /// Octets in `queue`, and octets handed out since the driver last said that all have left.
    queued: usize,
    under_way: usize,
    last_ticket: u64,
    state: State,
    /// The name that USER gave.
    named: Option<String>,
    /// Who logged in, canonical.
    user: Option<String>,
    maildrop: Maildrop,
    mistakes: u32,
    tally: Tally,
    login_failures: u32,
    now: Instant,
    /// When the client last finished a line or took what it was sent.
    heard: Instant,
    hung_up: bool,
    stopping: bool,
    /// Another node is to go on with this session: no command is begun.
    leaving: bool,
    /// The site has no majority: nothing is removed, and another session may have the maildrop elsewhere.
    frozen: bool,
    /// The account as it was last seen while leaving.
    latest: Option<Arc<Snapshot>>,
    closed: bool,
}

/// What we are at.
enum State {
    /// Between two commands; before login (AUTHORIZATION) as long as there is no user.
    Commands,
    /// PASS, or a step of AUTH.
    LoggingIn(Ticket),
    /// The maildrop is elsewhere; once it is found, so is this session.
    HandingOver(Ticket),
    /// A challenge is out; the client's line is next. With what to do if it is empty, after the last one.
    Challenged(Option<Box<Proven>>),
    StartingTls,
    Locking(Ticket, Box<LoggedIn>),
    /// The account looks for what other programs delivered.
    Observing(Ticket),
    Listing(Listing),
    Sending(Box<Sending>),
    /// RFC 1939 §6.
    Updating(Ticket),
}

impl Pop3 {
    /// Greets.
    pub fn new(now: Instant, connection: Connection, options: Options) -> Self {
        let mut session = Self::silent(now, connection, options);
        // Without a time stamp in angle brackets: APOP is not offered (RFC 1939 §7).
        let greeting = format!("{} POP3 Roost ready", session.connection.host);
        session.ok(greeting);
        session
    }

    /// A client that has logged in at another node, to which this login is to be answered.
    pub fn admitted(now: Instant, connection: Connection, options: Options, logged_in: LoggedIn) -> Self {
        let mut session = Self::silent(now, connection, options);
        session.logged_in(logged_in);
        session
    }

    fn silent(now: Instant, connection: Connection, options: Options) -> Self {
        Self {
            uidl: UidlFormat::read(&options.uidl_format),
            connection,
            options,
            lines: LineReader::new(COMMAND_BYTES_MAX),
            out: BytesMut::new(),
            queue: VecDeque::new(),
            queued: 0,
            under_way: 0,
            last_ticket: 0,
            state: State::Commands,
            named: None,
            user: None,
            maildrop: Maildrop::default(),
            mistakes: 0,
            tally: Tally::default(),
            login_failures: 0,
            now,
            heard: now,
            hung_up: false,
            stopping: false,
            leaving: false,
            frozen: false,
            latest: None,
            closed: false,
        }
    }

    fn ok(&mut self, text: impl Into<String>) {
        self.tally.end("ok");
        Status::ok(text).encode(&mut self.out);
    }

    /// Where the text is free (RFC 1939 §3): POP3 has no other place to say that what it shows may be out of date.
    fn ok_marked(&mut self, text: String) {
        let space = if text.is_empty() { "" } else { ", " };
        let mark = if self.frozen { format!("{space}{FROZEN}") } else { String::new() };
        self.ok(text + &mark);
    }

    fn err(&mut self, code: Option<Code>, text: impl Into<String>) {
        self.tally.end("err");
        Status::err(code, text).encode(&mut self.out);
    }

    fn text_line(&mut self, text: &str) {
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b"\r\n");
    }

    fn ask(&mut self, question: Question) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.push(Output::Ask(ticket, question));
        ticket
    }

    /// Queues what is to be done, after everything that was said before.
    fn push(&mut self, output: Output) {
        self.flush();
        self.queue.push_back(output);
    }

    fn flush(&mut self) {
        if !self.out.is_empty() {
            self.queued += self.out.len();
            let bytes = std::mem::take(&mut self.out).freeze();
            self.queue.push_back(Output::Send(bytes));
        }
    }

    /// Whether so many octets more can be produced now.
    fn has_room(&self, octets: usize) -> bool {
        self.under_way + self.queued + self.out.len() + octets <= OUTPUT_HIGH
    }

    fn close(&mut self, closing: Closing) {
        if !self.closed {
            self.closed = true;
            self.state = State::Commands;
            self.push(Output::Close(closing));
        }
    }

    /// What is said from now on is marked. What was to be said before, and was not sent, can be marked no more: the client is
    /// disconnected.
    fn freeze(&mut self) {
        self.frozen = true;
        let unsent = self.queue.iter().any(|output| matches!(output, Output::Send(_)));
        if unsent || !self.out.is_empty() {
            self.queue.clear();
            self.out.clear();
            self.close(Closing::Kicked("read-only, in the middle of an answer"));
        }
    }

    /// Last words, where the client does not take them for a part of something else.
    fn goodbye(&mut self, text: &'static str, closing: Closing) {
        let may_speak = match self.state {
            State::Commands
            | State::LoggingIn(_)
            | State::HandingOver(_)
            | State::Challenged(_)
            | State::Locking(..)
            | State::Observing(_) => true,
            State::Listing(_) | State::Sending(_) | State::StartingTls => false,
            // Whether the messages are removed is not known: no -ERR.
            State::Updating(_) => false,
        };
        if may_speak {
            self.err(Some(Code::SysTemp), text);
        }
        self.close(closing);
    }

    /// Does what can be done now.
    fn advance(&mut self) {
        while !self.closed && self.step() {}
    }

    /// One step; false when there is nothing to do until the next event.
    fn step(&mut self) -> bool {
        match self.state {
            State::Commands | State::Challenged(_) => self.next_line(),
            State::Listing(_) => self.list_on(),
            State::Sending(_) => self.send_on(),
            State::LoggingIn(_)
            | State::HandingOver(_)
            | State::StartingTls
            | State::Locking(..)
            | State::Observing(_)
            | State::Updating(_) => false,
        }
    }

    fn next_line(&mut self) -> bool {
        if self.stopping {
            self.goodbye("Server is stopping, try again", Closing::Stopping);
            return false;
        }
        if self.leaving && !self.hung_up && self.user.is_some() {
            return false;
        }
        if !self.has_room(COMMAND_ROOM) {
            return false;
        }
        let Some(line) = self.lines.next_line() else {
            if self.hung_up {
                self.close(Closing::ClientHungUp);
            }
            return false;
        };
        self.heard = self.now;
        if let State::Challenged(last) = std::mem::replace(&mut self.state, State::Commands) {
            self.response(&line, last);
        } else {
            self.line(&line);
        }
        true
    }

    fn line(&mut self, line: &Line) {
        self.tally.begin("unknown");
        let parsed = match line {
            Line::Complete(line) => Command::parse(line),
            Line::TooLong => return self.mistake("Line too long."),
        };
        if let Ok(command) = &parsed {
            self.tally.begin(name_of(command));
        }
        match parsed {
            Ok(command) if self.user.is_none() => self.before_login(command),
            Ok(command) => self.after_login(command),
            Err(syntax) => self.mistake(&syntax.to_string()),
        }
    }

    fn mistake(&mut self, text: &str) {
        self.err(None, text);
        self.mistakes += 1;
        let most = if self.user.is_some() { MISTAKES_AFTER_LOGIN_MAX } else { MISTAKES_BEFORE_LOGIN_MAX };
        if self.mistakes >= most {
            self.close(Closing::Misbehaved("too many bad commands".to_owned()));
        }
    }

    /// TRANSACTION state (RFC 1939 §5).
    fn after_login(&mut self, command: Command) {
        self.mistakes = 0;
        match command {
            Command::Stat => {
                let (count, octets) = self.maildrop.left();
                self.ok(format!("{count} {octets}"));
            }
            Command::List(number) => self.list(number),
            Command::Uidl(number) => self.uidl(number),
            Command::Retr(number) => self.retrieve(number, None),
            Command::Top { message, lines } => self.retrieve(message, Some(lines)),
            Command::Dele(_) if self.frozen => {
                self.err(Some(Code::SysTemp), "Read-only for now, nothing is removed, try again");
            }
            Command::Dele(number) => match self.maildrop.delete(number) {
                Ok(()) => self.ok(format!("Message {number} deleted")),
                Err(missing) => self.err(None, missing),
            },
            Command::Noop => self.ok_marked(String::new()),
            Command::Rset => {
                self.maildrop.reset();
                let (count, octets) = self.maildrop.left();
                self.ok_marked(format!("Maildrop has {count} messages ({octets} octets)"));
            }
            Command::Capa => self.capabilities(),
            Command::Quit => self.update(),
            Command::User(_) | Command::Pass(_) | Command::Auth(_) | Command::Stls => {
                self.mistake("You are logged in already.");
            }
        }
    }

    /// QUIT after login: removes what was marked, all in one request.
    fn update(&mut self) {
        let uids = self.maildrop.deleted();
        let Some(mailbox) = self.maildrop.mailbox().filter(|_| !uids.is_empty()) else {
            self.ok_marked("Bye".to_owned());
            return self.close(Closing::LoggedOut);
        };
        let expunge = door::Request::Expunge { mailbox, which: door::Expunge::Exactly(uids) };
        let ticket = self.ask(Question::Account(expunge));
        self.state = State::Updating(ticket);
    }

    fn updated(&mut self, outcome: Result<door::Done, door::Refused>) {
        let refused = match outcome {
            Ok(_) => {
                self.ok("Bye, messages deleted");
                return self.close(Closing::LoggedOut);
            }
            Err(refused) => refused,
        };
        match refused::pop3(&refused) {
            Some(words) => {
                self.err(words.code, words.text);
                self.close(Closing::Failed(format!("messages not deleted: {refused}")));
            }
            None => self.close(Closing::UnknownFate),
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: Answer) {
        let waiting = match &self.state {
            State::LoggingIn(asked)
            | State::HandingOver(asked)
            | State::Locking(asked, _)
            | State::Observing(asked)
            | State::Updating(asked) => Some(*asked),
            State::Sending(sending) => sending.asked(),
            State::Commands | State::Challenged(_) | State::StartingTls | State::Listing(_) => None,
        };
        if waiting != Some(ticket) {
            // The answer to a question that was given up, such as the last word of a cancelled AUTH.
            return;
        }
        self.heard = self.now;
        match (std::mem::replace(&mut self.state, State::Commands), answer) {
            (State::LoggingIn(_), Answer::Sasl(challenge)) => self.challenge(&challenge, None),
            (State::LoggingIn(_), Answer::LoggedIn(logged_in)) => self.proven(Proven::Here(logged_in)),
            (State::LoggingIn(_), Answer::Elsewhere(elsewhere)) => {
                self.proven(Proven::Elsewhere(elsewhere));
            }
            (State::HandingOver(_), Answer::LoggedIn(logged_in)) => self.logged_in(logged_in),
            (State::LoggingIn(_) | State::HandingOver(_), Answer::LoginFailed(failed)) => {
                self.login_failed(&failed);
            }
            (State::Locking(_, logged_in), Answer::Locked(Ok(()))) => self.observe(*logged_in),
            (State::Locking(..), Answer::Locked(Err(refused))) => self.lock_refused(refused),
            (State::Observing(_), Answer::Account(outcome)) => self.opened(outcome),
            (State::Sending(sending), Answer::Octets(octets)) => self.octets(sending, octets),
            (State::Updating(_), Answer::Account(outcome)) => self.updated(outcome),
            (_, _) => self.close(Closing::Failed("an answer of the wrong kind".to_owned())),
        }
    }
}

/// As metrics name it.
fn name_of(command: &Command) -> &'static str {
    match command {
        Command::User(_) => "USER",
        Command::Pass(_) => "PASS",
        Command::Stat => "STAT",
        Command::List(_) => "LIST",
        Command::Retr(_) => "RETR",
        Command::Dele(_) => "DELE",
        Command::Noop => "NOOP",
        Command::Rset => "RSET",
        Command::Quit => "QUIT",
        Command::Top { .. } => "TOP",
        Command::Uidl(_) => "UIDL",
        Command::Capa => "CAPA",
        Command::Stls => "STLS",
        Command::Auth(_) => "AUTH",
    }
}

impl Session for Pop3 {
    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.now = now;
        if self.closed {
            return;
        }
        match input {
            Input::Received([]) => self.hung_up = true,
            Input::Received(bytes) => self.lines.feed(bytes),
            Input::Drained => {
                self.under_way = 0;
                self.heard = now;
            }
            Input::TlsStarted => self.tls_started(),
            Input::Answered(ticket, answer) => self.answered(ticket, answer),
            // Message numbers do not change within a session (RFC 1939 §3).
            Input::Changed(snapshot) => self.latest = self.leaving.then_some(snapshot),
            Input::Expired => {
                // "the server should close the TCP connection without removing any messages or sending any response
                // to the client" (RFC 1939 §3).
                if self.deadline().is_some_and(|deadline| deadline <= now) {
                    self.close(Closing::TimedOut("it was silent"));
                }
            }
            Input::Stopping => self.stopping = true,
            Input::Leaving => self.leaving = true,
            Input::Staying => (self.leaving, self.latest) = (false, None),
            Input::Frozen => self.freeze(),
            Input::Thawed => self.frozen = false,
            Input::Kicked(why) => self.goodbye("This session was ended", Closing::Kicked(why)),
        }
        self.advance();
    }

    fn poll(&mut self) -> Option<Output> {
        self.flush();
        let output = self.queue.pop_front()?;
        if let Output::Send(bytes) = &output {
            self.queued -= bytes.len();
            self.under_way += bytes.len();
        }
        Some(output)
    }

    fn deadline(&self) -> Option<Instant> {
        let silence = if self.user.is_some() { self.options.idle } else { self.options.before_login };
        match self.state {
            State::Commands | State::Challenged(_) if !self.closed => Some(self.heard + silence),
            // Waiting for ourselves is no fault of the client's; one that takes no output is the driver's to end.
            State::Commands
            | State::Challenged(_)
            | State::LoggingIn(_)
            | State::HandingOver(_)
            | State::StartingTls
            | State::Locking(..)
            | State::Observing(_)
            | State::Listing(_)
            | State::Sending(_)
            | State::Updating(_) => None,
        }
    }

    fn wants_input(&self) -> bool {
        // What comes now is not for us: it is for TLS, or for another node.
        let not_ours = matches!(self.state, State::StartingTls | State::HandingOver(_));
        let not_ours = not_ours || self.leaving && self.is_at_boundary();
        !self.closed && !self.hung_up && !not_ours && self.lines.buffered() <= COMMAND_BYTES_MAX
    }

    fn export(&self, now: Instant) -> Option<Blob> {
        self.packed(now)
    }

    fn take_finished(&mut self) -> Option<Finished> {
        self.tally.take()
    }

    fn doing(&self) -> Doing {
        let command = match &self.state {
            State::Commands => "waiting",
            State::LoggingIn(_)
            | State::HandingOver(_)
            | State::Challenged(_)
            | State::Locking(..)
            | State::Observing(_) => "login",
            State::StartingTls => "STLS",
            State::Listing(listing) => listing.command(),
            State::Sending(sending) => sending.command(),
            State::Updating(_) => "QUIT",
        };
        Doing { user: self.user.clone(), command, mailbox: None }
    }
}
