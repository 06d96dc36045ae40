//! LMTP (RFC 2033): a transaction after the other, each message stored for every recipient or refused for it.
//!
//! Invariants
//! - After the message there is one reply for each recipient that was accepted, in their order (RFC 2033 §4.2).
//! - 250 is said only when the recipient's owner has answered: it is durable then.
//! - Message octets go to the spool as they come; here only the header is kept, up to [`HEADER_KEPT`].
//! - Octets of a message are never read as commands, whatever was said to the command that announced them.

mod deliver;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use codec::line::{Line, LineReader};
use codec::lmtp::{self, Address, COMMAND_BYTES_MAX, Command, DataReader, Mail, Reply};
use store::spool::Spooled;

use deliver::Delivering;

use crate::blob::Blob;
use crate::{
    Answer, Closing, Connection, Doing, Finished, Input, OUTPUT_HIGH, Output, Question, RecipientId,
    RecipientRefused, Session, SpoolFailed, Tally, Ticket,
};

/// Of the header, enough for the topmost `Received:` field.
const HEADER_KEPT: usize = 64 * 1024;
/// Commands in a row that make no sense, before we hang up.
const MISTAKES_MAX: u32 = 20;
/// A command is begun, or a reply made, only while so much output can still be made.
const REPLY_ROOM: usize = 4 * 1024;

#[derive(Clone, Debug)]
pub struct Options {
    pub message_bytes_max: u64,
    /// RFC 5321 §4.5.3.1.8 asks for 100 at least.
    pub recipients_max: usize,
    pub idle: Duration,
}

/// One LMTP conversation.
pub struct Lmtp {
    options: Options,
    connection: Connection,
    lines: LineReader,
    out: BytesMut,
    queue: VecDeque<Output>,
    /// Octets in `queue`, and octets handed out since the driver last said that all have left.
    queued: usize,
    under_way: usize,
    next_ticket: u64,
    mode: Mode,
    greeted: bool,
    transaction: Option<Box<Transaction>>,
    mistakes: u32,
    tally: Tally,
    last_input: Instant,
    stopping: bool,
    closed: bool,
}

/// What the next octets are, or what we wait for.
enum Mode {
    Commands,
    Data(DataReader),
    Chunk {
        left: u64,
        last: bool,
    },
    /// A recipient is looked up.
    Finding(Ticket, Address),
    /// The spool syncs.
    Finishing(Ticket),
    Delivering(Box<Delivering>),
    /// So many recipients have yet to be told the same.
    Refusing(usize, Reply),
    /// Until the driver says that TLS has begun.
    StartingTls,
}

struct Transaction {
    mail: Mail,
    recipients: Vec<(Address, RecipientId)>,
    header: Vec<u8>,
    size: u64,
    /// The spool was begun.
    begun: bool,
    /// Why no recipient will get it.
    failed: Option<Reply>,
    /// Ticket under which the spool may report trouble.
    spool: Ticket,
}

impl Lmtp {
    pub fn new(now: Instant, connection: Connection, options: Options) -> Self {
        let mut session = Self {
            options,
            lines: LineReader::new(COMMAND_BYTES_MAX),
            out: BytesMut::new(),
            queue: VecDeque::new(),
            queued: 0,
            under_way: 0,
            next_ticket: 0,
            mode: Mode::Commands,
            greeted: false,
            transaction: None,
            mistakes: 0,
            tally: Tally::default(),
            last_input: now,
            stopping: false,
            closed: false,
            connection,
        };
        let greeting = format!("{} LMTP Roost ready", session.connection.host);
        session.reply(&Reply::new(220, None, greeting));
        session
    }

    fn reply(&mut self, reply: &Reply) {
        self.tally.end(match reply.code / 100 {
            4 => "4xx",
            5 => "5xx",
            _ => "ok",
        });
        reply.encode(&mut self.out);
    }

    fn say(&mut self, code: u16, enhanced: &'static str, text: &'static str) {
        self.reply(&Reply::new(code, Some(enhanced), text));
    }

    fn ask(&mut self, question: Question) -> Ticket {
        let ticket = self.ticket();
        self.push(Output::Ask(ticket, question));
        ticket
    }

    fn ticket(&mut self) -> Ticket {
        self.next_ticket += 1;
        Ticket(self.next_ticket)
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

    fn has_room(&self) -> bool {
        self.under_way + self.queued + self.out.len() + REPLY_ROOM <= OUTPUT_HIGH
    }

    fn close(&mut self, closing: Closing) {
        if !self.closed {
            self.closed = true;
            self.push(Output::Close(closing));
        }
    }

    fn goodbye(&mut self, text: &'static str, closing: Closing) {
        self.say(421, "4.3.2", text);
        self.close(closing);
    }

    /// Works through what has come, as far as no answer is waited for.
    fn advance(&mut self) {
        while !self.closed && self.step() {}
    }

    /// One step; false when there is nothing to do until the next event.
    fn step(&mut self) -> bool {
        match &self.mode {
            Mode::Finding(..) | Mode::Finishing(_) | Mode::StartingTls => false,
            Mode::Delivering(_) => {
                self.deliver_more();
                !matches!(self.mode, Mode::Delivering(_))
            }
            Mode::Refusing(..) => self.refuse_more(),
            Mode::Commands => self.next_command(),
            Mode::Data(_) | Mode::Chunk { .. } => {
                let bytes = self.lines.take_rest();
                if bytes.is_empty() && !matches!(self.mode, Mode::Chunk { left: 0, .. }) {
                    return false;
                }
                self.content(bytes);
                true
            }
        }
    }

    fn next_command(&mut self) -> bool {
        if self.stopping {
            self.abandon();
            self.goodbye("Server is stopping, try again", Closing::Stopping);
            return false;
        }
        if !self.has_room() {
            return false;
        }
        let Some(line) = self.lines.next_line() else { return false };
        self.line(&line);
        true
    }

    fn line(&mut self, line: &Line) {
        let parsed = match line {
            Line::Complete(line) => Command::parse(line),
            Line::TooLong => {
                self.mistake(&Reply::new(500, Some("5.5.6"), "Line too long"));
                return;
            }
        };
        match parsed {
            Ok(command) => {
                self.mistakes = 0;
                self.command(command);
            }
            Err(syntax) => {
                // A chunk that nobody understood is followed by its octets: they must not be read as commands.
                let lost = is_bdat(line);
                self.mistake(&syntax.reply());
                if lost {
                    self.close(Closing::Misbehaved("BDAT without a size".into()));
                }
            }
        }
    }

    fn mistake(&mut self, reply: &Reply) {
        self.reply(reply);
        self.mistakes += 1;
        if self.mistakes >= MISTAKES_MAX {
            self.goodbye("Too many errors", Closing::Misbehaved("too many errors".into()));
        }
    }

    fn command(&mut self, command: Command) {
        self.tally.begin(name_of(&command));
        match command {
            Command::Lhlo(_) => self.lhlo(),
            Command::Mail(mail) => self.mail(mail),
            Command::Rcpt(address) => self.rcpt(address),
            Command::Data => self.data(),
            Command::Bdat { size, last } => self.bdat(size, last),
            Command::Rset => {
                self.abandon();
                self.say(250, "2.0.0", "OK");
            }
            Command::Noop => self.say(250, "2.0.0", "OK"),
            Command::Vrfy => self.say(252, "2.1.5", "Send the message and see"),
            Command::Quit => {
                self.abandon();
                self.say(221, "2.0.0", "Bye");
                self.close(Closing::LoggedOut);
            }
            Command::StartTls => self.start_tls(),
        }
    }

    fn lhlo(&mut self) {
        self.abandon();
        self.greeted = true;
        let mut lines = vec![self.connection.host.to_string().into()];
        for extension in ["8BITMIME", "CHUNKING", "ENHANCEDSTATUSCODES", "PIPELINING", "SMTPUTF8"] {
            lines.push(extension.into());
        }
        lines.push(format!("SIZE {}", self.options.message_bytes_max).into());
        if self.connection.tls_available && !self.connection.tls {
            lines.push("STARTTLS".into());
        }
        self.reply(&Reply::lhlo(lines));
    }

    fn start_tls(&mut self) {
        if self.connection.tls || !self.connection.tls_available {
            self.say(503, "5.5.1", "TLS is not available");
            return;
        }
        self.abandon();
        // What was sent in plain text behind the command is forgotten (RFC 3207 §4.2).
        self.lines.clear();
        self.greeted = false;
        self.say(220, "2.0.0", "Ready to start TLS");
        self.mode = Mode::StartingTls;
        self.push(Output::StartTls);
    }

    fn mail(&mut self, mail: Mail) {
        if !self.greeted {
            self.say(503, "5.5.1", "Say LHLO first");
        } else if self.transaction.is_some() {
            self.say(503, "5.5.1", "MAIL already given");
        } else if mail.body == Some(lmtp::Body::BinaryMime) {
            self.say(555, "5.5.4", "BINARYMIME is not offered");
        } else if mail.size.is_some_and(|size| size > self.options.message_bytes_max) {
            self.say(552, "5.3.4", "Message is larger than this server takes");
        } else {
            self.push(Output::Ask(Ticket(0), Question::BeginTransaction));
            self.transaction = Some(Box::new(Transaction {
                mail,
                recipients: Vec::new(),
                header: Vec::new(),
                size: 0,
                begun: false,
                failed: None,
                spool: Ticket(0),
            }));
            self.say(250, "2.1.0", "OK");
        }
    }

    fn rcpt(&mut self, address: Address) {
        let Some(transaction) = &self.transaction else {
            self.say(503, "5.5.1", "MAIL first");
            return;
        };
        if transaction.begun {
            self.say(503, "5.5.1", "The message has begun");
        } else if transaction.recipients.len() >= self.options.recipients_max {
            self.say(452, "4.5.3", "Too many recipients, send the rest in another transaction");
        } else {
            let ticket = self.ask(Question::FindRecipient { address: address.to_string() });
            self.mode = Mode::Finding(ticket, address);
        }
    }

    fn found(&mut self, address: Address, found: Result<RecipientId, RecipientRefused>) {
        self.mode = Mode::Commands;
        match found {
            Ok(recipient) => {
                if let Some(transaction) = &mut self.transaction {
                    transaction.recipients.push((address, recipient));
                }
                self.say(250, "2.1.5", "OK");
            }
            Err(RecipientRefused::UnknownUser) => {
                let text = format!("<{address}> User doesn't exist here");
                self.reply(&Reply::new(550, Some("5.1.1"), text));
            }
            Err(RecipientRefused::BadAddress) => self.say(553, "5.1.3", "Bad recipient address"),
            Err(RecipientRefused::Unavailable(_)) => {
                self.say(451, "4.3.0", "The user database is out of reach, try again");
            }
        }
    }

    fn data(&mut self) {
        match self
            .transaction
            .as_ref()
            .map(|transaction| (transaction.recipients.is_empty(), transaction.begun))
        {
            None => self.say(503, "5.5.1", "MAIL first"),
            Some((true, _)) => self.say(503, "5.5.1", "No valid recipients"),
            Some((_, true)) => self.say(503, "5.5.1", "Go on with BDAT"),
            Some((false, false)) => {
                self.begin_spool();
                self.reply(&Reply::new(354, None, "Start mail input; end with <CRLF>.<CRLF>"));
                self.mode = Mode::Data(DataReader::new());
            }
        }
    }

    /// A chunk's octets come whatever we say to it (RFC 3030 §2).
    fn bdat(&mut self, size: u64, last: bool) {
        let begins = self
            .transaction
            .as_ref()
            .is_some_and(|transaction| !transaction.recipients.is_empty() && !transaction.begun);
        if begins {
            self.begin_spool();
        }
        self.mode = Mode::Chunk { left: size, last };
    }

    fn begin_spool(&mut self) {
        let ticket = self.ask(Question::SpoolBegin);
        if let Some(transaction) = &mut self.transaction {
            transaction.begun = true;
            transaction.spool = ticket;
        }
    }

    /// Octets of a message, and perhaps commands behind it.
    fn content(&mut self, mut bytes: BytesMut) {
        match &mut self.mode {
            Mode::Data(reader) => {
                let mut text = BytesMut::new();
                let end = reader.push(&bytes, &mut text);
                self.take(text.freeze());
                if let Some(end) = end {
                    self.lines.feed(bytes.get(end..).unwrap_or_default());
                    self.ended();
                }
            }
            Mode::Chunk { left, last } => {
                let take = usize::try_from(*left).unwrap_or(usize::MAX).min(bytes.len());
                *left -= take as u64;
                let (done, last) = (*left == 0, *last);
                let chunk = bytes.split_to(take).freeze();
                self.take(chunk);
                if done {
                    self.lines.feed(&bytes);
                    self.chunk_ended(last);
                }
            }
            Mode::Commands
            | Mode::Finding(..)
            | Mode::Finishing(_)
            | Mode::Delivering(_)
            | Mode::Refusing(..)
            | Mode::StartingTls => {}
        }
    }

    fn take(&mut self, octets: Bytes) {
        let max = self.options.message_bytes_max;
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.begun) else {
            return;
        };
        transaction.size += octets.len() as u64;
        if transaction.failed.is_some() || octets.is_empty() {
            return;
        }
        if transaction.size > max {
            transaction.failed =
                Some(Reply::new(552, Some("5.3.4"), "Message is larger than this server takes"));
            self.push(Output::Ask(Ticket(0), Question::SpoolAbandon));
            return;
        }
        let room = HEADER_KEPT.saturating_sub(transaction.header.len());
        transaction.header.extend(octets.iter().take(room));
        let ticket = transaction.spool;
        self.push(Output::Ask(ticket, Question::SpoolWrite(octets)));
    }

    fn chunk_ended(&mut self, last: bool) {
        self.mode = Mode::Commands;
        match &self.transaction {
            None => self.say(503, "5.5.1", "MAIL first"),
            Some(transaction) if !transaction.begun => self.say(503, "5.5.1", "No valid recipients"),
            Some(_) if last => self.ended(),
            Some(transaction) => match transaction.failed.clone() {
                Some(failed) => self.reply(&failed),
                None => self.say(250, "2.0.0", "OK"),
            },
        }
    }

    /// The message is complete.
    fn ended(&mut self) {
        self.mode = Mode::Commands;
        let Some(transaction) = &self.transaction else { return };
        match transaction.failed.clone() {
            Some(failed) => self.refuse_all(failed),
            None => {
                let ticket = self.ask(Question::SpoolFinish);
                self.mode = Mode::Finishing(ticket);
            }
        }
    }

    /// The spool's last word, or trouble on the way to it. Trouble of a message that is over is nobody's: its answer
    /// may come when the next transaction has begun.
    fn spooled(&mut self, ticket: Ticket, spooled: Result<Arc<Spooled>, SpoolFailed>) {
        let finished = matches!(self.mode, Mode::Finishing(asked) if asked == ticket);
        let Some(transaction) = self.transaction.as_mut().filter(|transaction| transaction.begun) else {
            return;
        };
        if !finished && transaction.spool != ticket {
            return;
        }
        let body = match spooled {
            Ok(body) => Some(body),
            Err(failed) => {
                // What failed first is what to tell. The rest of the message still comes, and is dropped.
                transaction.failed.get_or_insert(match failed {
                    SpoolFailed::NoSpace => Reply::new(452, Some("4.3.1"), "No space left for mail"),
                    SpoolFailed::Failed(_) => Reply::new(451, Some("4.3.0"), "Storage failed, try again"),
                });
                None
            }
        };
        if finished {
            match (transaction.failed.clone(), body) {
                (Some(failed), _) => self.refuse_all(failed),
                (None, Some(body)) => self.deliver(body),
                (None, None) => {}
            }
        }
    }

    /// Forgets the transaction.
    fn abandon(&mut self) {
        if self.transaction.take().is_some_and(|transaction| transaction.begun) {
            self.push(Output::Ask(Ticket(0), Question::SpoolAbandon));
        }
    }

    fn answered(&mut self, ticket: Ticket, answer: Answer) {
        match answer {
            Answer::Recipient(found) => {
                if let Mode::Finding(asked, address) = &self.mode
                    && *asked == ticket
                {
                    let address = address.clone();
                    self.found(address, found);
                }
            }
            Answer::Spooled(spooled) => self.spooled(ticket, spooled),
            Answer::Delivered(outcome) => self.delivered(ticket, outcome),
            Answer::Sasl(_)
            | Answer::Account(_)
            | Answer::LoggedIn(_)
            | Answer::Elsewhere(_)
            | Answer::LoginFailed(_)
            | Answer::Described(_)
            | Answer::Octets(_)
            | Answer::Found(_)
            | Answer::Locked(_) => self.close(Closing::Failed("an answer of the wrong kind".into())),
        }
    }
}

fn is_bdat(line: &Line) -> bool {
    match line {
        Line::Complete(line) => line.get(..4).is_some_and(|verb| verb.eq_ignore_ascii_case(b"BDAT")),
        Line::TooLong => false,
    }
}

/// As metrics name it.
fn name_of(command: &Command) -> &'static str {
    match command {
        Command::Lhlo(_) => "LHLO",
        Command::Mail(_) => "MAIL",
        Command::Rcpt(_) => "RCPT",
        Command::Data => "DATA",
        Command::Bdat { .. } => "BDAT",
        Command::Rset => "RSET",
        Command::Noop => "NOOP",
        Command::Quit => "QUIT",
        Command::Vrfy => "VRFY",
        Command::StartTls => "STARTTLS",
    }
}

impl Session for Lmtp {
    fn handle(&mut self, now: Instant, input: Input<'_>) {
        if self.closed {
            return;
        }
        match input {
            // A message that did not come to its end is no message.
            Input::Received([]) => {
                self.abandon();
                self.close(Closing::ClientHungUp);
            }
            Input::Received(bytes) => {
                self.last_input = now;
                self.lines.feed(bytes);
            }
            Input::Drained => {
                self.last_input = now;
                self.under_way = 0;
            }
            Input::TlsStarted => {
                self.last_input = now;
                self.lines.clear();
                self.connection.tls = true;
                self.mode = Mode::Commands;
            }
            Input::Answered(ticket, answer) => {
                self.last_input = now;
                self.answered(ticket, answer);
            }
            Input::Expired => {
                if self.deadline().is_some_and(|deadline| deadline <= now) {
                    self.abandon();
                    self.goodbye("Idle for too long", Closing::TimedOut("it was silent"));
                }
            }
            Input::Stopping => self.stopping = true,
            // A transaction asks for each recipient's owner by itself.
            Input::Leaving | Input::Staying | Input::Frozen | Input::Thawed => {}
            Input::Kicked(why) => {
                self.abandon();
                self.goodbye("Ended by the operator", Closing::Kicked(why));
            }
            Input::Changed(_) => {}
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
        match self.mode {
            Mode::Commands | Mode::Data(_) | Mode::Chunk { .. } if !self.closed => {
                Some(self.last_input + self.options.idle)
            }
            // Waiting for ourselves is no fault of the client's; one that takes no output is the driver's to end.
            Mode::Commands
            | Mode::Data(_)
            | Mode::Chunk { .. }
            | Mode::Finding(..)
            | Mode::Finishing(_)
            | Mode::Delivering(_)
            | Mode::Refusing(..)
            | Mode::StartingTls => None,
        }
    }

    fn wants_input(&self) -> bool {
        match self.mode {
            Mode::Commands | Mode::Data(_) | Mode::Chunk { .. } => {
                !self.closed && self.lines.buffered() <= COMMAND_BYTES_MAX
            }
            Mode::Finding(..)
            | Mode::Finishing(_)
            | Mode::Delivering(_)
            | Mode::Refusing(..)
            | Mode::StartingTls => false,
        }
    }

    /// An MTA that is told to come back does.
    fn export(&self, _now: Instant) -> Option<Blob> {
        None
    }

    fn take_finished(&mut self) -> Option<Finished> {
        self.tally.take()
    }

    fn doing(&self) -> Doing {
        let command = match self.mode {
            Mode::Commands => "waiting",
            Mode::Data(_) => "DATA",
            Mode::Chunk { .. } => "BDAT",
            Mode::Finding(..) => "RCPT",
            Mode::Finishing(_) | Mode::Delivering(_) | Mode::Refusing(..) => "delivering",
            Mode::StartingTls => "STARTTLS",
        };
        Doing { user: None, command, mailbox: None }
    }
}
