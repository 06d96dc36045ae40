//! SASL conversations as values: what the client said goes in, what to do next comes out.
//!
//! Pure: no files, sockets or clocks. Whether a password is right is asked of the caller (`Verify` ends the
//! conversation); SCRAM asks for the user's keys and then decides by itself.

mod login;
mod plain;
mod scram;

use std::fmt;

use scram::Scram;

use crate::scheme::{ScramDigest, ScramKeys};

/// A response longer than this ends the conversation.
pub const RESPONSE_BYTES_MAX: usize = 8192;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mechanism {
    Plain,
    Login,
    ScramSha256,
    ScramSha1,
}

impl Mechanism {
    pub const ALL: [Self; 4] = [Self::ScramSha256, Self::ScramSha1, Self::Plain, Self::Login];

    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mechanism| mechanism.name().eq_ignore_ascii_case(name))
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::Login => "LOGIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha1 => "SCRAM-SHA-1",
        }
    }

    /// Whether the password itself crosses the wire.
    pub fn is_plaintext(self) -> bool {
        match self {
            Self::Plain | Self::Login => true,
            Self::ScramSha256 | Self::ScramSha1 => false,
        }
    }

    pub fn scram_digest(self) -> Option<ScramDigest> {
        match self {
            Self::ScramSha256 => Some(ScramDigest::Sha256),
            Self::ScramSha1 => Some(ScramDigest::Sha1),
            Self::Plain | Self::Login => None,
        }
    }
}

/// A password on its way to be checked. It does not print itself.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub(crate) String);

impl Password {
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Password(...)")
    }
}

/// What to do next.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// Send this (perhaps empty) and hand the answer to [`Conversation::respond`].
    Challenge(Vec<u8>),
    /// The conversation is over; the user is who they say if this is their password.
    Verify {
        user: String,
        password: Password,
    },
    /// Find this user's keys and hand them to [`Conversation::keys`]; for an unknown user a decoy's.
    NeedKeys {
        user: String,
        digest: ScramDigest,
    },
    /// The user has proved it.
    Done {
        user: String,
    },
    Failed(Failure),
}

/// Why a conversation ended badly.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    #[error("the client's response is not valid for this mechanism")]
    Malformed,
    #[error("logging in as one user and acting as another is not served")]
    ActingForOther,
    #[error("channel binding is not served")]
    ChannelBinding,
    #[error("the client's proof is wrong")]
    Proof,
    #[error("a response came that nobody asked for")]
    OutOfTurn,
}

/// One client's side of a mechanism, as far as it has come.
#[derive(Debug)]
pub struct Conversation {
    state: State,
}

#[derive(Debug)]
enum State {
    Plain,
    Login(login::Login),
    Scram(Box<Scram>),
    Over,
}

impl Conversation {
    /// Begins; `initial` is the client's initial response, if it sent one (decoded; `=` is an empty one).
    pub fn start(mechanism: Mechanism, initial: Option<&[u8]>) -> (Self, Step) {
        let state = match mechanism {
            Mechanism::Plain => State::Plain,
            Mechanism::Login => State::Login(login::Login::default()),
            Mechanism::ScramSha256 => State::Scram(Box::new(Scram::new(ScramDigest::Sha256))),
            Mechanism::ScramSha1 => State::Scram(Box::new(Scram::new(ScramDigest::Sha1))),
        };
        let mut conversation = Self { state };
        let step = match (initial, &mut conversation.state) {
            (Some(response), _) => conversation.respond(response),
            (None, State::Login(login)) => login.ask(),
            (None, State::Plain | State::Scram(_) | State::Over) => Step::Challenge(Vec::new()),
        };
        (conversation, step)
    }

    /// Goes on with what the client answered to the last challenge.
    pub fn respond(&mut self, response: &[u8]) -> Step {
        if response.len() > RESPONSE_BYTES_MAX {
            self.state = State::Over;
            return Step::Failed(Failure::Malformed);
        }
        let step = match &mut self.state {
            State::Plain => plain::respond(response),
            State::Login(login) => login.respond(response),
            State::Scram(scram) => scram.respond(response),
            State::Over => Step::Failed(Failure::OutOfTurn),
        };
        self.settle(step)
    }

    /// Answers `NeedKeys`.
    pub fn keys(&mut self, keys: ScramKeys) -> Step {
        let step = match &mut self.state {
            State::Scram(scram) => scram.keys(keys),
            State::Plain | State::Login(_) | State::Over => Step::Failed(Failure::OutOfTurn),
        };
        self.settle(step)
    }

    fn settle(&mut self, step: Step) -> Step {
        match step {
            Step::Challenge(_) | Step::NeedKeys { .. } => {}
            Step::Verify { .. } | Step::Done { .. } | Step::Failed(_) => self.state = State::Over,
        }
        step
    }
}

#[cfg(test)]
mod tests;
