//! IMAP4rev1 (RFC 3501) with the extensions that `login::capabilities` names: the conversation, one file a family of
//! commands, named as in `codec::imap`.
//!
//! Invariants
//! - Commands are done one at a time, in the order they came: a pipeline never changes what an answer means.
//! - The client is told of changes by comparing two views of the mailbox (`sync.rs`), and only at moments which RFC 3501
//!   §5.5 and §7.4.1 allow. Whatever was told, the client's picture is exactly `Selected::held`.
//! - A change whose fate is unknown is neither OK nor NO: the session hangs up (L-CM2).
//! - An idle session holds its name, two shared views and little else; state of a command lives as long as the command.
//!
//! A mailbox that is deleted, or gets another UIDVALIDITY, under a session that has it selected ends that session with
//! BYE (RFC 2180 §3.3), but for the session's own DELETE.

mod append;
pub mod boundary;
mod copy;
pub mod criteria;
mod dispatch;
mod export;
mod fetch;
mod fetch_line;
mod idle;
mod list;
mod login;
mod mailbox;
mod out;
mod search;
mod select;
mod selected;
mod store;
mod sync;

use std::sync::Arc;
use std::time::{Duration, Instant};

use account::{MailboxView, Refused, Request, Snapshot, door};
use codec::imap::command::BadCommand;
use codec::imap::framer::Limits;
use codec::imap::{Code, Command, Encoder, Frame, Framer, NameEncoding, Status, Tag, WireMailbox};
use model::MailboxName;

use crate::blob::Blob;
use crate::{
    Answer, Closing, Connection, Doing, Finished, Input, LoggedIn, Output, Question, Session, Tally, Ticket,
    Timeouts, refused,
};
use out::Out;
use selected::Selected;
use sync::Moment;

/// Bytes from the client that wait for their turn. More than one line may have.
const INPUT_HIGH: usize = 128 * 1024;
/// A command is begun only while so much output can still be made: most answers fit.
const COMMAND_ROOM: usize = 64 * 1024;
/// Bad commands in a row after which the other side is taken for no client.
const BAD_BEFORE_LOGIN_MAX: u32 = 3;
const BAD_AFTER_LOGIN_MAX: u32 = 20;
/// Commands that a stranger may send: enough to look around and to log in, not enough to stay.
const COMMANDS_BEFORE_LOGIN_MAX: u32 = 100;
/// How often an IDLE client hears that we still live; many a NAT forgets after five minutes.
const KEEPALIVE: Duration = Duration::from_secs(120);
/// Names travel in modified UTF-7: neither UTF8=ACCEPT nor IMAP4rev2 is offered.
const NAMES: NameEncoding = NameEncoding::ModifiedUtf7;

/// What marks all that follows as perhaps not the latest. RFC 3501 §7.1: an ALERT "MUST be presented to the user".
pub const FROZEN: &str = "Read-only for now: what you see may be out of date, and cannot be changed";
/// What ends that.
pub const THAWED: &str = "Read-only no more: what you see is the latest again";

/// What the operator may set.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub timeouts: Timeouts,
    /// Largest message that APPEND may bring.
    pub append_bytes_max: u64,
    /// Longest command line after login, without its literals.
    pub line_bytes_max: usize,
    /// Longest literal after login, but for APPEND's message.
    pub literal_bytes_max: usize,
    /// Names and passwords to try on one connection.
    pub login_failures_max: u32,
}

/// An IMAP conversation.
pub struct Imap {
    connection: Connection,
    options: Options,
    /// A moment on both clocks, for searches by age.
    started: (Instant, i64),
    now: Instant,
    tls: bool,
    framer: Framer,
    out: Out,
    user: Option<Box<User>>,
    running: Option<Box<Running>>,
    /// The question whose answer the running command waits for.
    waiting: Option<Ticket>,
    /// When the client last sent or took something.
    heard: Instant,
    bad_commands: u32,
    tally: Tally,
    login_failures: u32,
    /// Commands of a client that has not logged in.
    commands_before_login: u32,
    hung_up: bool,
    stopping: bool,
    /// Another node is to go on with this session: no command is begun.
    leaving: bool,
    ended: bool,
}

/// What there is after login.
struct User {
    name: String,
    snapshot: Arc<Snapshot>,
    selected: Option<Box<Selected>>,
    /// The client knows mod-sequences (RFC 7162 §3.1), and VANISHED (§3.2).
    condstore: bool,
    qresync: bool,
}

/// The command that is being done.
struct Running {
    tag: Tag,
    name: &'static str,
    what: What,
}

/// What it is at.
enum What {
    Login,
    /// The account is elsewhere; once it is found, so is this session.
    HandOver,
    Sasl(login::Sasl),
    /// STARTTLS was answered; the driver shakes hands.
    Handshake,
    /// The account was asked, and this is to be done with its answer.
    Account(Then),
    Append(append::Append),
    Idle(idle::Idle),
    Fetch(Box<fetch::Fetch>),
    Search(Box<search::Search>),
}

/// What to do when the account has answered.
enum Then {
    /// NOOP, CHECK: say what is new.
    Look,
    Select(select::Selecting),
    Status(mailbox::StatusOf),
    Create,
    Delete(MailboxName),
    /// Nothing but OK and this text.
    Say(&'static str),
    Store(store::Store),
    Copy {
        uid: bool,
    },
    Move {
        uid: bool,
    },
    Expunge {
        uid: bool,
    },
    Close,
    Append,
}

/// As metrics name it.
fn result_of(status: Status) -> &'static str {
    match status {
        Status::Ok | Status::PreAuth => "ok",
        Status::No => "no",
        Status::Bad => "bad",
        Status::Bye => "bye",
    }
}

/// How a command ends: its tagged line, and what comes after it.
struct Ending {
    status: Status,
    code: Option<Code>,
    text: String,
    after: After,
}

enum After {
    NextCommand,
    StartTls,
    LogOut,
}

impl Ending {
    fn new(status: Status, code: Option<Code>, text: impl Into<String>) -> Self {
        Self { status, code, text: text.into(), after: After::NextCommand }
    }

    fn with(mut self, code: Option<Code>) -> Self {
        self.code = code;
        self
    }
}

fn ok(text: impl Into<String>) -> Ending {
    Ending::new(Status::Ok, None, text)
}

fn no(code: Code, text: impl Into<String>) -> Ending {
    Ending::new(Status::No, Some(code), text)
}

fn bad(text: impl Into<String>) -> Ending {
    Ending::new(Status::Bad, None, text)
}

/// After a command: was it left running, or is it done?
type Begun = Result<What, Ending>;

impl Imap {
    /// Greets. `now_unix_s` is what the wall clock shows at `now`.
    pub fn new(connection: Connection, options: Options, now: Instant, now_unix_s: i64) -> Self {
        let mut imap = Self::silent(connection, options, now, now_unix_s);
        let code = Code::Capability(imap.capabilities());
        let text = format!("{} ready", imap.connection.host);
        imap.untagged(Status::Ok, Some(&code), &text);
        imap
    }

    /// A client that has logged in at another node, to which this login is to be answered.
    pub fn admitted(
        connection: Connection,
        options: Options,
        now: Instant,
        now_unix_s: i64,
        logged_in: LoggedIn,
        tag: &Tag,
    ) -> Self {
        let mut imap = Self::silent(connection, options, now, now_unix_s);
        imap.logged_in(tag, logged_in);
        imap
    }

    fn silent(connection: Connection, options: Options, now: Instant, now_unix_s: i64) -> Self {
        Self {
            tls: connection.tls,
            connection,
            options,
            started: (now, now_unix_s),
            now,
            framer: Framer::new(Limits::BEFORE_LOGIN),
            out: Out::default(),
            user: None,
            running: None,
            waiting: None,
            heard: now,
            bad_commands: 0,
            tally: Tally::default(),
            login_failures: 0,
            commands_before_login: 0,
            hung_up: false,
            stopping: false,
            leaving: false,
            ended: false,
        }
    }

    fn untagged(&mut self, status: Status, code: Option<&Code>, text: &str) {
        Encoder::new(self.out.text(), NAMES).untagged(status, code, text);
    }

    fn encoder(&mut self) -> Encoder<'_> {
        Encoder::new(self.out.text(), NAMES)
    }

    fn unix_s(&self) -> i64 {
        let passed = self.now.saturating_duration_since(self.started.0).as_secs();
        self.started.1.saturating_add(i64::try_from(passed).unwrap_or(i64::MAX))
    }

    fn selected(&mut self) -> Option<&mut Selected> {
        self.user.as_mut()?.selected.as_deref_mut()
    }

    /// The latest view of the selected mailbox, unless the mailbox that was selected is no more.
    fn latest(&self) -> Option<Arc<MailboxView>> {
        let user = self.user.as_ref()?;
        let selected = user.selected.as_ref()?;
        selected.find(&user.snapshot).map(|(_, view)| Arc::clone(view))
    }

    fn ask(&mut self, question: Question) {
        debug_assert!(self.waiting.is_none(), "one question at a time");
        self.waiting = Some(self.out.ask(question));
    }

    fn ask_account(&mut self, request: Request, then: Then) -> Begun {
        self.ask(Question::Account(request));
        Ok(What::Account(then))
    }

    /// Takes a newer snapshot in. What it means for the selected mailbox is told later, by `sync`.
    fn see(&mut self, snapshot: Arc<Snapshot>) {
        if let Some(user) = self.user.as_mut().filter(|user| snapshot.lsn >= user.snapshot.lsn) {
            user.snapshot = snapshot;
        }
    }

    /// Does what can be done now: begins commands that have arrived, and goes on with the one that runs.
    fn pump(&mut self) {
        while !self.ended && self.step() {}
    }

    /// One step; false when there is nothing to do until the next event.
    fn step(&mut self) -> bool {
        if self.waiting.is_some() {
            return false;
        }
        let Some(running) = self.running.take() else { return self.next_command() };
        let Running { tag, name, what } = *running;
        match what {
            What::Sasl(sasl) => self.sasl_line(tag, name, sasl),
            What::Idle(idle) => self.idle_line(tag, name, idle),
            What::Append(append) => self.append_octets(tag, name, append),
            What::Fetch(fetch) => self.fetch_step(tag, name, fetch),
            What::Search(search) => self.search_step(tag, name, search),
            What::Login | What::HandOver | What::Handshake | What::Account(_) => {
                self.keep(tag, name, what);
                false
            }
        }
    }

    /// The command goes on.
    fn keep(&mut self, tag: Tag, name: &'static str, what: What) {
        self.running = Some(Box::new(Running { tag, name, what }));
    }

    /// Whether commands are left to another node. A client that is gone needs none.
    fn is_held_back(&self) -> bool {
        self.leaving && !self.hung_up
    }

    /// Between two commands.
    fn next_command(&mut self) -> bool {
        if self.stopping {
            self.say_stopping();
            return false;
        }
        if self.is_held_back() && self.framer.is_between_commands() {
            return false;
        }
        if self.mailbox_is_lost() {
            return false;
        }
        if !self.out.has_room(COMMAND_ROOM) {
            return false;
        }
        match self.framer.next_frame() {
            Some(frame) => self.frame(frame),
            None => {
                if self.hung_up {
                    self.end(Closing::ClientHungUp);
                }
                return false;
            }
        }
        true
    }

    fn frame(&mut self, frame: Frame) {
        match frame {
            Frame::Command(Ok(command)) => self.begin(command),
            Frame::Command(Err(error)) => self.bad_command(&error),
            Frame::NeedContinuation => self.encoder().continuation("OK"),
            Frame::AppendStart(command) => self.append_start(command),
            Frame::Fatal(error) => {
                self.bad_command(&error);
                if !self.ended {
                    self.bye(None, "Too much input", Closing::Misbehaved(error.message));
                }
            }
            // The framer gives these only when it was asked to.
            Frame::LiteralChunk(_) | Frame::LiteralEnd(_) | Frame::Line(_) => {
                self.fail("a frame outside its command".to_owned());
            }
        }
    }

    fn begin(&mut self, command: Command) {
        let Command { tag, body } = command;
        let name = dispatch::name_of(&body);
        let moment = dispatch::moment_of(&body);
        self.tally.begin(name);
        match self.dispatch(body) {
            Ok(what) => self.keep(tag, name, what),
            Err(ending) => self.finish(&tag, ending, moment),
        }
        // A command that was understood, whatever came of it.
        self.bad_commands = 0;
        if self.user.is_none() && !self.ended {
            self.commands_before_login += 1;
            if self.commands_before_login >= COMMANDS_BEFORE_LOGIN_MAX {
                self.bye(
                    None,
                    "Too many commands without a login",
                    Closing::Misbehaved("no login".to_owned()),
                );
            }
        }
    }

    /// Ends the running command: first what is new, as far as the moment allows, then the tagged line.
    fn finish(&mut self, tag: &Tag, ending: Ending, moment: Moment) {
        self.sync(moment);
        self.running = None;
        self.tally.end(result_of(ending.status));
        self.encoder().tagged(tag, ending.status, ending.code.as_ref(), &ending.text);
        match ending.after {
            After::NextCommand => {}
            After::StartTls => self.hand_over_to_tls(tag),
            After::LogOut => self.end(Closing::LoggedOut),
        }
        if self.user.is_none() && self.login_failures >= self.options.login_failures_max {
            self.bye(
                None,
                "Too many failed logins",
                Closing::Misbehaved("too many failed logins".to_owned()),
            );
        }
    }

    fn bad_command(&mut self, error: &BadCommand) {
        self.tally.begin("unknown");
        self.tally.end("bad");
        self.encoder().bad(error);
        self.bad_commands += 1;
        let most = if self.user.is_some() { BAD_AFTER_LOGIN_MAX } else { BAD_BEFORE_LOGIN_MAX };
        if self.bad_commands >= most {
            self.bye(None, "Too many bad commands", Closing::Misbehaved("too many bad commands".to_owned()));
        }
    }

    fn answered(&mut self, answer: Answer) {
        let Some(running) = self.running.take() else {
            return self.fail("an answer that nobody waits for".to_owned());
        };
        let Running { tag, name, what } = *running;
        match (what, answer) {
            (What::Login, answer) => self.login_answered(tag, name, answer),
            (What::HandOver, Answer::LoggedIn(logged_in)) => self.logged_in(&tag, logged_in),
            (What::HandOver, Answer::LoginFailed(failed)) => self.login_failed(&tag, &failed),
            (What::Sasl(_), answer) => self.sasl_answered(tag, name, answer),
            (What::Account(then), Answer::Account(result)) => self.account_answered(tag, name, then, result),
            (What::Append(append), answer) => self.append_answered(tag, name, append, answer),
            (What::Fetch(fetch), answer) => self.fetch_answered(tag, name, fetch, answer),
            (What::Search(search), Answer::Found(found)) => self.search_answered(tag, name, search, &found),
            (What::HandOver | What::Account(_) | What::Search(_) | What::Handshake | What::Idle(_), _) => {
                self.fail(format!("an answer of the wrong kind to {name}"));
            }
        }
    }

    fn account_answered(
        &mut self,
        tag: Tag,
        name: &'static str,
        then: Then,
        result: Result<door::Done, Refused>,
    ) {
        let reply = match result {
            Ok(done) => {
                self.see(done.snapshot);
                done.reply
            }
            Err(refused) => return self.account_refused(&tag, &then, &refused),
        };
        match then {
            Then::Look => self.finish(&tag, ok(format!("{name} completed")), Moment::Any),
            Then::Select(selecting) => self.selected_answered(tag, name, selecting),
            Then::Status(status) => self.status_answered(&tag, &status),
            Then::Create => self.created(&tag, &reply),
            Then::Delete(mailbox) => self.deleted(&tag, &mailbox),
            Then::Say(text) => self.finish(&tag, ok(text), Moment::Any),
            Then::Store(store) => self.stored(&tag, store, &reply),
            Then::Copy { uid } => self.copied(&tag, uid, &reply),
            Then::Move { uid } => self.moved(&tag, uid, &reply),
            Then::Expunge { uid } => self.expunged(&tag, uid, &reply),
            Then::Close => self.closed(&tag, &reply),
            Then::Append => self.appended(&tag, &reply),
        }
    }

    fn account_refused(&mut self, tag: &Tag, then: &Then, refused: &Refused) {
        let (is_target, moment) = match then {
            Then::Copy { .. } | Then::Move { .. } | Then::Append => (true, Moment::Any),
            Then::Store(store) => (false, store.moment()),
            Then::Look
            | Then::Select(_)
            | Then::Status(_)
            | Then::Create
            | Then::Delete(_)
            | Then::Say(_)
            | Then::Expunge { .. }
            | Then::Close => (false, Moment::Any),
        };
        match refused::imap(refused, is_target) {
            Some(words) => {
                self.finish(tag, Ending::new(Status::No, words.code, words.text), moment);
            }
            None => self.unknown_fate(),
        }
    }

    /// OK would promise what may not be, NO deny what may be (L-CM2).
    fn unknown_fate(&mut self) {
        self.bye(
            Some(&Code::Unavailable),
            "The last change may or may not be done, look again",
            Closing::UnknownFate,
        );
    }

    /// Trouble of ours: nothing that could be said would be sure to be true.
    fn fail(&mut self, why: String) {
        self.end(Closing::Failed(why));
    }

    fn bye(&mut self, code: Option<&Code>, text: &str, why: Closing) {
        self.untagged(Status::Bye, code, text);
        self.end(why);
    }

    fn end(&mut self, why: Closing) {
        self.out.close(why);
        self.running = None;
        self.waiting = None;
        self.ended = true;
    }

    /// The mailbox name that the client wrote, or the answer that it deserves.
    fn name(&self, mailbox: &WireMailbox) -> Result<MailboxName, Ending> {
        mailbox.name(NAMES).map_err(|error| no(Code::Cannot, error.to_string()))
    }
}

fn client_bug(text: &str) -> Ending {
    bad(text).with(Some(Code::ClientBug))
}

impl Session for Imap {
    fn handle(&mut self, now: Instant, input: Input<'_>) {
        self.now = now;
        if matches!(input, Input::Drained) {
            self.out.drained();
        }
        if self.ended {
            if matches!(input, Input::Expired) {
                self.out.discard();
            }
            return;
        }
        match input {
            Input::Received([]) => self.hung_up = true,
            Input::Received(bytes) => {
                self.heard = now;
                self.framer.push(bytes);
            }
            // Taking keepalives is no sign of life of whoever is behind an IDLE.
            Input::Drained if self.is_idling() => {}
            Input::Drained => self.heard = now,
            Input::TlsStarted => self.tls_started(),
            Input::Answered(ticket, answer) => {
                if self.waiting == Some(ticket) {
                    self.waiting = None;
                    self.heard = now;
                    self.answered(answer);
                } else {
                    self.answered_early(ticket, &answer);
                }
            }
            Input::Changed(snapshot) => self.changed(snapshot),
            Input::Expired => self.expired(),
            Input::Stopping => self.stopping = true,
            Input::Leaving => self.leaving = true,
            Input::Staying => self.leaving = false,
            Input::Frozen => self.freeze(),
            Input::Thawed => self.untagged(Status::Ok, None, THAWED),
            Input::Kicked(reason) => self.kicked(reason),
        }
        self.pump();
    }

    fn poll(&mut self) -> Option<Output> {
        if let Some(output) = self.out.poll() {
            return Some(output);
        }
        // Handing output out made room for more.
        self.pump();
        let output = self.out.poll();
        if output.is_none() {
            self.out.all_said(!self.is_amid_line());
        }
        output
    }

    fn deadline(&self) -> Option<Instant> {
        self.next_deadline()
    }

    fn wants_input(&self) -> bool {
        // What comes now is not for us: it is for TLS, or for another node.
        let not_ours = self
            .running
            .as_ref()
            .is_some_and(|running| matches!(running.what, What::Handshake | What::HandOver));
        let not_ours = not_ours || self.leaving && self.is_at_boundary();
        !self.ended && !self.hung_up && !not_ours && self.framer.buffered_len() < INPUT_HIGH
    }

    fn export(&self, now: Instant) -> Option<Blob> {
        self.packed(now)
    }

    fn take_finished(&mut self) -> Option<Finished> {
        self.tally.take()
    }

    fn doing(&self) -> Doing {
        let user = self.user.as_ref();
        Doing {
            user: user.map(|user| user.name.clone()),
            command: self.running.as_ref().map_or("waiting", |running| running.name),
            mailbox: user.and_then(|user| user.selected.as_ref()).map(|selected| selected.name.to_string()),
        }
    }
}
