//! Before login, RFC 1939's AUTHORIZATION state: CAPA, STLS, USER and PASS, AUTH; and what opens the maildrop.
//!
//! Invariants
//! - No password is asked for, or passed on, where `Connection` forbids plaintext and there is no TLS.
//! - What the client sent before TLS is forgotten when TLS begins (RFC 2595 §4).
//! - A failed login never says whether there is such a user.

use account::door;
use bytes::Bytes;
use codec::line::Line;
use codec::pop3::{Auth, Code, Command, continuation};
use codec::sasl;
use model::MailboxName;

use super::maildrop::Maildrop;
use super::{Pop3, State};
use crate::{
    Closing, HandOver, LockRefused, LoggedIn, LoginFailed, Output, Password, PendingLogin, Proven, Question,
    refused,
};

/// "Possible differences: no" for most of these: they are announced before and after login alike (RFC 2449 §6).
const CAPABILITIES: [&str; 7] =
    ["TOP", "UIDL", "RESP-CODES", "AUTH-RESP-CODE", "PIPELINING", "EXPIRE NEVER", "IMPLEMENTATION Roost"];

impl Pop3 {
    fn mechanisms(&self) -> &[String] {
        if self.connection.tls { &self.connection.mechanisms_tls } else { &self.connection.mechanisms_plain }
    }

    fn plaintext_is_allowed(&self) -> bool {
        self.connection.tls || self.connection.plaintext_without_tls
    }

    fn may_start_tls(&self) -> bool {
        self.connection.tls_available && !self.connection.tls && self.user.is_none()
    }

    pub(super) fn capabilities(&mut self) {
        self.ok("Capability list follows");
        for capability in CAPABILITIES {
            self.text_line(capability);
        }
        if self.plaintext_is_allowed() {
            self.text_line("USER");
        }
        let mechanisms = self.mechanisms().join(" ");
        if !mechanisms.is_empty() {
            self.text_line(&format!("SASL {mechanisms}"));
        }
        if self.may_start_tls() {
            self.text_line("STLS");
        }
        self.text_line(".");
    }

    pub(super) fn before_login(&mut self, command: Command) {
        match command {
            Command::Capa => self.capabilities(),
            Command::Stls => self.start_tls(),
            Command::User(name) => self.name(name),
            Command::Pass(password) => self.password(password.as_bytes()),
            Command::Auth(None) => self.list_mechanisms(),
            Command::Auth(Some(auth)) => self.authenticate(auth),
            Command::Quit => {
                self.ok("Bye");
                self.close(Closing::LoggedOut);
            }
            Command::Stat
            | Command::List(_)
            | Command::Retr(_)
            | Command::Dele(_)
            | Command::Noop
            | Command::Rset
            | Command::Top { .. }
            | Command::Uidl(_) => self.mistake("Log in first."),
        }
    }

    fn start_tls(&mut self) {
        if !self.may_start_tls() {
            return self.mistake(if self.connection.tls {
                "TLS is active already."
            } else {
                "TLS is not available."
            });
        }
        self.ok("Begin TLS negotiation");
        self.forget_plain_text();
        self.state = State::StartingTls;
        self.push(Output::StartTls);
    }

    pub(super) fn tls_started(&mut self) {
        self.forget_plain_text();
        self.connection.tls = true;
        self.state = State::Commands;
        self.heard = self.now;
    }

    /// "the server MUST discard any knowledge obtained from the client" (RFC 2595 §4), lines sent ahead included.
    fn forget_plain_text(&mut self) {
        self.lines.clear();
        self.named = None;
    }

    /// Accepted whether or not there is such a user (RFC 1939 §7).
    fn name(&mut self, name: String) {
        if !self.plaintext_is_allowed() {
            return self.err(None, PLAINTEXT_FORBIDDEN);
        }
        self.mistakes = 0;
        self.named = Some(name);
        self.ok("Send the password");
    }

    fn password(&mut self, password: &[u8]) {
        if !self.plaintext_is_allowed() {
            return self.err(None, PLAINTEXT_FORBIDDEN);
        }
        let Some(name) = self.named.take() else { return self.mistake("USER first.") };
        let password = Password(password.to_vec());
        let ticket = self.ask(Question::Login { user: name.into_bytes(), password });
        self.state = State::LoggingIn(ticket);
    }

    /// The dialect of clients older than CAPA.
    fn list_mechanisms(&mut self) {
        self.ok("Mechanisms follow");
        for mechanism in self.mechanisms().to_vec() {
            self.text_line(&mechanism);
        }
        self.text_line(".");
    }

    fn authenticate(&mut self, auth: Auth) {
        let Auth { mechanism, initial } = auth;
        if !self.mechanisms().iter().any(|offered| offered.eq_ignore_ascii_case(&mechanism)) {
            return self.mistake("No such mechanism.");
        }
        let initial = match initial.map(|initial| sasl::decode_response(initial.as_bytes())) {
            None => None,
            Some(Some(initial)) => Some(initial),
            Some(None) => return self.mistake("Initial response is not base64."),
        };
        self.named = None;
        let ticket = self.ask(Question::SaslStart { mechanism, initial });
        self.state = State::LoggingIn(ticket);
    }

    /// `last` has what comes true once the client has taken the server's last message.
    pub(super) fn challenge(&mut self, challenge: &[u8], last: Option<Box<Proven>>) {
        continuation(challenge, &mut self.out);
        self.state = State::Challenged(last);
    }

    /// The client's line after a challenge (RFC 5034 §4).
    pub(super) fn response(&mut self, line: &Line, last: Option<Box<Proven>>) {
        let line = match line {
            Line::Complete(line) if line.as_ref() == b"*" => return self.cancel("Authentication cancelled"),
            Line::Complete(line) => line,
            Line::TooLong => return self.cancel("Line too long."),
        };
        let Some(response) = sasl::decode_response(line) else {
            return self.cancel("Response is not base64.");
        };
        match last {
            Some(proven) if response.is_empty() => self.accepted(*proven),
            Some(_) => self.cancel("Expected an empty response."),
            None => {
                let ticket = self.ask(Question::SaslResponse(response));
                self.state = State::LoggingIn(ticket);
            }
        }
    }

    fn cancel(&mut self, text: &str) {
        // Its answer is not waited for: whatever it is, this exchange is over.
        self.ask(Question::SaslCancel);
        self.failed(None, text);
    }

    /// The client has proven who it is; SCRAM has a last word for it, for which `+OK` has no room (RFC 5034 §4).
    pub(super) fn proven(&mut self, mut proven: Proven) {
        let last_word = match &mut proven {
            Proven::Here(logged_in) => logged_in.final_data.take(),
            Proven::Elsewhere(elsewhere) => elsewhere.final_data.take(),
        };
        match last_word {
            Some(data) => self.challenge(&data, Some(Box::new(proven))),
            None => self.accepted(proven),
        }
    }

    fn accepted(&mut self, proven: Proven) {
        match proven {
            Proven::Here(logged_in) => self.logged_in(logged_in),
            Proven::Elsewhere(elsewhere) => self.hand_over(elsewhere.user),
        }
    }

    /// The owner of the account is to answer, with all that the client has sent behind its login.
    fn hand_over(&mut self, user: String) {
        let unread = Bytes::copy_from_slice(self.lines.unread());
        let question = Question::HandOver(HandOver { user, login: PendingLogin::Pop3, unread });
        let ticket = self.ask(question);
        self.state = State::HandingOver(ticket);
    }

    pub(super) fn login_failed(&mut self, failed: &LoginFailed) {
        match failed {
            LoginFailed::Credentials => self.failed(Some(Code::Auth), "Authentication failed"),
            LoginFailed::MechanismUnavailable => self.failed(None, "No such mechanism."),
            LoginFailed::PlaintextForbidden => self.failed(None, PLAINTEXT_FORBIDDEN),
            LoginFailed::Unavailable(_) => {
                self.failed(Some(Code::SysTemp), "Login is not possible now, try again")
            }
            LoginFailed::TooManySessions => {
                self.failed(Some(Code::SysTemp), "Too many connections of this user")
            }
        }
    }

    fn failed(&mut self, code: Option<Code>, text: &str) {
        self.err(code, text);
        self.login_failures += 1;
        if self.login_failures >= self.options.login_failures_max {
            self.close(Closing::Misbehaved("too many failed logins".to_owned()));
        }
    }

    pub(super) fn logged_in(&mut self, logged_in: LoggedIn) {
        if !self.options.lock {
            return self.observe(logged_in);
        }
        let ticket = self.ask(Question::LockMaildrop);
        self.state = State::Locking(ticket, Box::new(logged_in));
    }

    /// RFC 1939 §4 lets the server close after a maildrop that cannot be opened: this connection belongs to the user
    /// by now, and another login on it would only confuse.
    pub(super) fn lock_refused(&mut self, refused: LockRefused) {
        match refused {
            LockRefused::InUse => self.err(Some(Code::InUse), "Another POP3 session has this maildrop"),
        }
        self.close(Closing::Failed("the maildrop is in use".to_owned()));
    }

    /// Mail that other programs delivered is seen first.
    pub(super) fn observe(&mut self, logged_in: LoggedIn) {
        let LoggedIn { user, snapshot, final_data: _ } = logged_in;
        self.user = Some(user);
        let inbox = snapshot.by_name(&MailboxName::inbox()).and_then(|entry| entry.view.as_ref());
        let request = door::Request::Observe { mailbox: inbox.map(|view| view.id) };
        let ticket = self.ask(Question::Account(request));
        self.state = State::Observing(ticket);
    }

    pub(super) fn opened(&mut self, outcome: Result<door::Done, door::Refused>) {
        let snapshot = match outcome {
            Ok(done) => done.snapshot,
            Err(refused) => {
                if let Some(words) = refused::pop3(&refused) {
                    self.err(words.code, words.text);
                }
                return self.close(Closing::Failed(format!("maildrop not opened: {refused}")));
            }
        };
        let inbox = snapshot.by_name(&MailboxName::inbox()).and_then(|entry| entry.view.clone());
        self.maildrop = Maildrop::new(inbox);
        self.mistakes = 0;
        let (count, octets) = self.maildrop.left();
        self.ok(format!("Maildrop has {count} messages ({octets} octets)"));
    }
}

const PLAINTEXT_FORBIDDEN: &str = "Plaintext passwords are not allowed without TLS";
