//! Before login: CAPABILITY, ID, STARTTLS, LOGIN, AUTHENTICATE; and ENABLE and LOGOUT.
//!
//! Invariants
//! - No password is asked for, or passed on, where `Connection` forbids plaintext and there is no TLS.
//! - What the client sent before TLS is forgotten when TLS begins (RFC 3501 §6.2.1).

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use codec::imap::command::{Authenticate, Login};
use codec::imap::framer::Limits;
use codec::imap::{Code, Frame, Status, Tag};

use super::sync::Moment;
use super::{After, Begun, Ending, Imap, User, What, bad, no, ok};
use crate::{Answer, Closing, HandOver, LoggedIn, LoginFailed, Password, PendingLogin, Proven, Question};

/// What is offered to everybody.
const BEFORE: [&str; 6] = ["IMAP4rev1", "SASL-IR", "LITERAL+", "ENABLE", "ID", "IDLE"];
/// What is offered after login, too.
const AFTER: [&str; 15] = [
    "CHILDREN",
    "NAMESPACE",
    "UNSELECT",
    "UIDPLUS",
    "MOVE",
    "CONDSTORE",
    "QRESYNC",
    "ESEARCH",
    "WITHIN",
    "LIST-EXTENDED",
    "LIST-STATUS",
    "SPECIAL-USE",
    "CREATE-SPECIAL-USE",
    "OBJECTID",
    "STATUS=SIZE",
];

/// AUTHENTICATE between two steps.
pub(super) enum Sasl {
    /// The question is out.
    Asked,
    /// A challenge is out; the client's line is next.
    Challenged,
    /// The server's last message is out, for which IMAP has no room in OK; the client answers with an empty line.
    Final(Proven),
}

impl Imap {
    /// Names of what this session can do now.
    pub(super) fn capabilities(&self) -> Vec<String> {
        let mut names: Vec<String> = BEFORE.iter().map(|name| (*name).to_owned()).collect();
        if self.user.is_some() {
            names.extend(AFTER.iter().map(|name| (*name).to_owned()));
            return names;
        }
        if self.may_start_tls() {
            names.push("STARTTLS".to_owned());
        }
        if !self.plaintext_is_allowed() {
            names.push("LOGINDISABLED".to_owned());
        }
        names.extend(self.mechanisms().iter().map(|mechanism| format!("AUTH={mechanism}")));
        names
    }

    fn mechanisms(&self) -> &[String] {
        if self.tls { &self.connection.mechanisms_tls } else { &self.connection.mechanisms_plain }
    }

    fn may_start_tls(&self) -> bool {
        self.connection.tls_available && !self.tls
    }

    fn plaintext_is_allowed(&self) -> bool {
        self.tls || self.connection.plaintext_without_tls
    }

    pub(super) fn capability(&mut self) -> Begun {
        let names = self.capabilities();
        self.encoder().capability(&names);
        Err(ok("Capability completed"))
    }

    pub(super) fn id(&mut self) -> Begun {
        let field = |name: &str, value: &str| (name.to_owned(), Some(value.to_owned()));
        let fields = [field("name", "Roost"), field("version", env!("CARGO_PKG_VERSION"))];
        self.encoder().id(Some(&fields));
        Err(ok("ID completed"))
    }

    pub(super) fn logout(&mut self) -> Begun {
        self.untagged(Status::Bye, None, "Logging out");
        Err(Ending { after: After::LogOut, ..ok("Logout completed") })
    }

    pub(super) fn starttls(&mut self) -> Begun {
        if !self.may_start_tls() {
            return Err(bad(if self.tls { "TLS is active already" } else { "TLS is not available" }));
        }
        Err(Ending { after: After::StartTls, ..ok("Begin TLS negotiation now") })
    }

    /// After the OK to STARTTLS.
    pub(super) fn hand_over_to_tls(&mut self, tag: &Tag) {
        self.framer.discard_buffered();
        self.out.start_tls();
        self.keep(tag.clone(), "STARTTLS", What::Handshake);
    }

    pub(super) fn tls_started(&mut self) {
        self.framer.discard_buffered();
        self.tls = true;
        self.heard = self.now;
        self.running = None;
    }

    pub(super) fn login(&mut self, login: Login) -> Begun {
        if !self.plaintext_is_allowed() {
            return Err(privacy_required());
        }
        self.ask(Question::Login { user: login.user, password: Password(login.password) });
        Ok(What::Login)
    }

    pub(super) fn authenticate(&mut self, authenticate: Authenticate) -> Begun {
        let Authenticate { mechanism, initial } = authenticate;
        if !self.mechanisms().iter().any(|offered| offered.eq_ignore_ascii_case(&mechanism)) {
            let later =
                self.connection.mechanisms_tls.iter().any(|offered| offered.eq_ignore_ascii_case(&mechanism));
            let known = later && !self.tls && self.connection.tls_available;
            return Err(if known { privacy_required() } else { no(Code::Cannot, "No such mechanism") });
        }
        self.ask(Question::SaslStart { mechanism, initial });
        Ok(What::Sasl(Sasl::Asked))
    }

    pub(super) fn login_answered(&mut self, tag: Tag, name: &'static str, answer: Answer) {
        match answer {
            Answer::LoggedIn(logged_in) => self.logged_in(&tag, logged_in),
            Answer::Elsewhere(elsewhere) => self.hand_over(tag, name, elsewhere.user),
            Answer::LoginFailed(failed) => self.login_failed(&tag, &failed),
            Answer::Sasl(_)
            | Answer::Account(_)
            | Answer::Described(_)
            | Answer::Octets(_)
            | Answer::Found(_)
            | Answer::Locked(_)
            | Answer::Recipient(_)
            | Answer::Delivered(_)
            | Answer::Spooled(_) => self.fail("an answer of the wrong kind to LOGIN".to_owned()),
        }
    }

    pub(super) fn sasl_answered(&mut self, tag: Tag, name: &'static str, answer: Answer) {
        match answer {
            Answer::Sasl(challenge) => self.challenge(tag, name, &challenge, Sasl::Challenged),
            Answer::LoggedIn(mut logged_in) => match logged_in.final_data.take() {
                Some(data) => self.challenge(tag, name, &data, Sasl::Final(Proven::Here(logged_in))),
                None => self.logged_in(&tag, logged_in),
            },
            Answer::Elsewhere(mut elsewhere) => match elsewhere.final_data.take() {
                Some(data) => self.challenge(tag, name, &data, Sasl::Final(Proven::Elsewhere(elsewhere))),
                None => self.hand_over(tag, name, elsewhere.user),
            },
            Answer::LoginFailed(failed) => self.login_failed(&tag, &failed),
            Answer::Account(_)
            | Answer::Described(_)
            | Answer::Octets(_)
            | Answer::Found(_)
            | Answer::Locked(_)
            | Answer::Recipient(_)
            | Answer::Delivered(_)
            | Answer::Spooled(_) => self.fail("an answer of the wrong kind to AUTHENTICATE".to_owned()),
        }
    }

    fn challenge(&mut self, tag: Tag, name: &'static str, challenge: &[u8], next: Sasl) {
        self.encoder().challenge(challenge);
        self.framer.expect_line();
        self.keep(tag, name, What::Sasl(next));
    }

    /// The client's line, if it is here.
    pub(super) fn sasl_line(&mut self, tag: Tag, name: &'static str, sasl: Sasl) -> bool {
        let Some(frame) = self.framer.next_frame() else {
            if self.hung_up {
                self.end(Closing::ClientHungUp);
            } else if self.stopping {
                self.say_stopping();
            } else {
                self.keep(tag, name, What::Sasl(sasl));
            }
            return false;
        };
        let Frame::Line(Ok(line)) = frame else {
            return self.cancel_sasl(&tag, "Line is too long");
        };
        if line.as_ref() == b"*" {
            return self.cancel_sasl(&tag, "Authentication cancelled");
        }
        let Ok(response) = STANDARD.decode(&line) else {
            return self.cancel_sasl(&tag, "Response is not base64");
        };
        match sasl {
            Sasl::Final(Proven::Here(logged_in)) if response.is_empty() => self.logged_in(&tag, logged_in),
            Sasl::Final(Proven::Elsewhere(elsewhere)) if response.is_empty() => {
                self.hand_over(tag, name, elsewhere.user);
            }
            Sasl::Final(_) => return self.cancel_sasl(&tag, "Expected an empty response"),
            Sasl::Asked | Sasl::Challenged => {
                self.ask(Question::SaslResponse(response));
                self.keep(tag, name, What::Sasl(Sasl::Asked));
            }
        }
        true
    }

    /// "If the client wishes to cancel an authentication exchange, it issues a line consisting of a single "*". If the
    /// server receives such a response, it MUST reject the AUTHENTICATE command by sending a tagged BAD response."
    fn cancel_sasl(&mut self, tag: &Tag, text: &str) -> bool {
        // Nothing is to be waited for: whatever the answer, this exchange is over.
        self.out.ask(Question::SaslCancel);
        self.login_failures += 1;
        self.finish(tag, bad(text), Moment::Nothing);
        true
    }

    /// The owner of the account is to answer, with all that the client has sent behind its login.
    fn hand_over(&mut self, tag: Tag, name: &'static str, user: String) {
        let unread = Bytes::copy_from_slice(self.framer.buffered());
        let login = PendingLogin::Imap { tag: tag.clone() };
        self.ask(Question::HandOver(HandOver { user, login, unread }));
        self.keep(tag, name, What::HandOver);
    }

    pub(super) fn logged_in(&mut self, tag: &Tag, logged_in: LoggedIn) {
        let LoggedIn { user, snapshot, final_data: _ } = logged_in;
        self.user =
            Some(Box::new(User { name: user, snapshot, selected: None, condstore: false, qresync: false }));
        self.framer.set_limits(limits(&self.options));
        self.bad_commands = 0;
        let code = Code::Capability(self.capabilities());
        self.finish(tag, ok("Logged in").with(Some(code)), Moment::Nothing);
    }

    pub(super) fn login_failed(&mut self, tag: &Tag, failed: &LoginFailed) {
        self.login_failures += 1;
        let ending = match failed {
            LoginFailed::Credentials => no(Code::AuthenticationFailed, "Authentication failed"),
            LoginFailed::MechanismUnavailable => no(Code::Cannot, "No such mechanism"),
            LoginFailed::PlaintextForbidden => privacy_required(),
            LoginFailed::Unavailable(_) => no(Code::Unavailable, "Login is not possible now, try again"),
            LoginFailed::TooManySessions => no(Code::Limit, "Too many connections of this user"),
        };
        self.finish(tag, ending, Moment::Nothing);
    }

    /// RFC 5161. Only what the client asked for and was not enabled before is named.
    pub(super) fn enable(&mut self, names: &[String]) -> Begun {
        let Some(user) = &mut self.user else { return Err(super::client_bug("Log in first")) };
        let wants = |name: &str| names.iter().any(|wanted| wanted.eq_ignore_ascii_case(name));
        let mut enabled = Vec::new();
        let (condstore, qresync) = (wants("CONDSTORE"), wants("QRESYNC"));
        if condstore && !user.condstore {
            enabled.push("CONDSTORE");
        }
        if qresync && !user.qresync {
            enabled.push("QRESYNC");
            user.qresync = true;
        }
        self.encoder().enabled(&enabled);
        if condstore || qresync {
            self.enable_condstore();
        }
        Err(ok("Enabled"))
    }

    /// The first command that speaks of mod-sequences: from now on they are told, beginning with the mailbox's own
    /// (RFC 7162 §3.1, §3.1.2.2).
    pub(super) fn enable_condstore(&mut self) {
        let Some(user) = &mut self.user else { return };
        if std::mem::replace(&mut user.condstore, true) {
            return;
        }
        if let Some(selected) = &user.selected {
            let code = Code::HighestModSeq(selected.held.highest_modseq);
            self.untagged(Status::Ok, Some(&code), "Highest");
        }
    }
}

fn privacy_required() -> Ending {
    no(Code::PrivacyRequired, "Plaintext passwords are not allowed without TLS")
}

/// What a client may send after login: the preset, with what the operator set.
pub(super) fn limits(options: &super::Options) -> Limits {
    let preset = Limits::AFTER_LOGIN;
    let (line_bytes_max, literal_bytes_max) = (options.line_bytes_max, options.literal_bytes_max);
    Limits {
        line_bytes_max,
        literal_bytes_max,
        command_bytes_max: preset.command_bytes_max.max(line_bytes_max.saturating_add(literal_bytes_max)),
        append_bytes_max: options.append_bytes_max,
        ..preset
    }
}
