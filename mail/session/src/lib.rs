//! One conversation as a state machine: a file or folder a protocol, named as in `codec`.
//!
//! Pure: bytes and answers in, bytes and questions out. `now` is an argument; a driver in `node` has the socket, the
//! clock and the threads. All three protocols speak to it in the words of this file.
//!
//! Invariants
//! - `handle` never blocks and never fails; between it and the next `poll` nothing else runs.
//! - A session asks at most one [`Question`] at a time per ticket, and every ticket is answered exactly once.
//! - What a session buffers is bounded: it takes no more input while [`Session::wants_input`] is false, and writes no
//!   more output than [`OUTPUT_HIGH`] before [`Input::Drained`].

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use account::door;
use account::search::Query;
use account::snapshot::{MessageView, Snapshot};
pub use account::{Described as Description, Ticket};
use codec::imap::Tag;
use model::MailboxId;
use store::spool::Spooled;

use blob::Blob;

pub mod blob;
pub mod imap;
pub mod lmtp;
mod picture;
pub mod pop3;
pub mod refused;

/// Output that a session may have under way before it waits for [`Input::Drained`].
pub const OUTPUT_HIGH: usize = 256 * 1024;

/// A conversation, whatever its protocol.
pub trait Session: Send {
    /// Takes one event in.
    fn handle(&mut self, now: Instant, input: Input<'_>);
    /// What to do next, in order; `None` when there is nothing until the next event.
    fn poll(&mut self) -> Option<Output>;
    /// When to say [`Input::Expired`].
    fn deadline(&self) -> Option<Instant>;
    /// Whether the driver may read from the socket now.
    fn wants_input(&self) -> bool;
    /// What the session is doing, for `roost who`.
    fn doing(&self) -> Doing;
    /// The whole session, for another node to go on with (L-CN3); `None` while it is not at a command boundary, and where
    /// a session cannot be carried. All that it has said must have been sent before.
    fn export(&self, now: Instant) -> Option<Blob>;
    /// The next command that has been answered, oldest first, for the metrics.
    fn take_finished(&mut self) -> Option<Finished>;
}

/// A command that has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Finished {
    pub command: &'static str,
    /// `ok`, or as the protocol calls it: `no`, `bad`, `err`, `4xx`, `5xx`.
    pub result: &'static str,
}

/// Commands that have been answered since the driver last asked.
#[derive(Debug, Default)]
struct Tally {
    command: &'static str,
    finished: std::collections::VecDeque<Finished>,
}

/// What is kept for a driver that does not ask.
const TALLY_MAX: usize = 64;

impl Tally {
    /// The command that is being answered from here on.
    fn begin(&mut self, command: &'static str) {
        self.command = command;
    }

    /// It has been answered. Says nothing of answers that belong to no command.
    fn end(&mut self, result: &'static str) {
        if !self.command.is_empty() && self.finished.len() < TALLY_MAX {
            self.finished.push_back(Finished { command: self.command, result });
        }
    }

    fn take(&mut self) -> Option<Finished> {
        let finished = self.finished.pop_front();
        if self.finished.is_empty() {
            // An idle session holds no buffer.
            self.finished = std::collections::VecDeque::new();
        }
        finished
    }
}

/// What `roost who` shows of a session.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Doing {
    /// Canonical user name, after login.
    pub user: Option<String>,
    /// A command name, `idle`, or `waiting`.
    pub command: &'static str,
    /// The selected mailbox, for IMAP.
    pub mailbox: Option<String>,
}

/// An event.
#[derive(Debug)]
pub enum Input<'a> {
    /// The client sent these bytes, perhaps half a command. Empty: it hung up.
    Received(&'a [u8]),
    /// All output handed out so far has left.
    Drained,
    /// The connection is encrypted from here on. What the client sent before is forgotten.
    TlsStarted,
    /// The answer to a question.
    Answered(Ticket, Answer),
    /// The account has changed; this is how it looks now.
    Changed(Arc<Snapshot>),
    /// The clock reached `deadline()`.
    Expired,
    /// The node is about to stop: say goodbye at the next command boundary.
    Stopping,
    /// The account is about to be another node's: end the command that runs, and begin no other.
    Leaving,
    /// It stays here after all.
    Staying,
    /// The site has no majority: what counted is shown, perhaps not the latest, and nothing is changed. The client is told.
    Frozen,
    /// It has one again. Said at a command boundary alone: what comes after it is the latest.
    Thawed,
    /// The operator, or another session, ended this one: say goodbye now.
    Kicked(&'static str),
}

/// What the driver is to do.
#[derive(Debug)]
pub enum Output {
    Send(Bytes),
    Ask(Ticket, Question),
    /// Everything sent before is plain text, everything after encrypted.
    StartTls,
    Close(Closing),
}

/// Why a conversation ended, for the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Closing {
    /// The client said goodbye.
    LoggedOut,
    ClientHungUp,
    /// It was silent, or too slow, for longer than allowed.
    TimedOut(&'static str),
    /// It sent what no client would.
    Misbehaved(String),
    Stopping,
    /// It goes on at another node.
    Moved,
    Kicked(&'static str),
    /// A change has an unknown fate, so that neither OK nor NO would be true (L-CM2).
    UnknownFate,
    /// Trouble of ours.
    Failed(String),
}

/// What a session cannot know by itself.
#[derive(Debug)]
pub enum Question {
    /// Begin SASL; the answer is `Sasl` or `LoggedIn` (or `LoginFailed`).
    SaslStart {
        mechanism: String,
        initial: Option<Vec<u8>>,
    },
    /// The client's next SASL message, decoded.
    SaslResponse(Vec<u8>),
    /// The client gave up.
    SaslCancel,
    /// IMAP LOGIN, POP3 USER and PASS.
    Login {
        user: Vec<u8>,
        password: Password,
    },
    /// The account is at another node, which is to serve the client from here on. An answer comes only if none does:
    /// `LoginFailed`, or `LoggedIn` if the account came here meanwhile. Else this session is not spoken to again.
    HandOver(HandOver),
    /// Change the account of this session, or look at it anew.
    Account(door::Request),
    /// Read message bytes or what is known about them.
    Read(Read),
    /// RFC 1939 §3: exclusive access for POP3. Answer: `Locked`.
    LockMaildrop,
    /// LMTP: a transaction begins; recipients found before are forgotten. No answer.
    BeginTransaction,
    /// LMTP: is there such a recipient? Answer: `Recipient`.
    FindRecipient {
        address: String,
    },
    /// LMTP: deliver to a recipient found before. Answer: `Delivered`.
    Deliver {
        recipient: RecipientId,
        append: door::Append,
    },
    /// Message bytes on their way in. No answer until `SpoolFinish`, but for trouble: then `Spooled(Err)` at once.
    SpoolBegin,
    SpoolWrite(Bytes),
    /// Sync. Answer: `Spooled`.
    SpoolFinish,
    SpoolAbandon,
}

/// A client who has logged in here, for the node that owns the account (L-CN1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HandOver {
    /// Canonical user name.
    pub user: String,
    pub login: PendingLogin,
    /// What the client sent behind its login.
    pub unread: Bytes,
}

/// A login that nobody has answered yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PendingLogin {
    Imap { tag: Tag },
    Pop3,
}

/// A password that `Debug` does not show.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(pub Vec<u8>);

impl std::fmt::Debug for Password {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Password(..)")
    }
}

/// Names a recipient within one LMTP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecipientId(pub u32);

/// What to read of messages. Answered from the cache where that holds it, else from the file.
#[derive(Debug)]
pub enum Read {
    /// Envelope, structure and header block of each message, in this order.
    Describe { mailbox: MailboxId, messages: Vec<MessageView> },
    /// Wire octets of one message from an offset on, at most `length`. Reading on from where the last read of the
    /// same message ended is cheap.
    Octets { mailbox: MailboxId, message: MessageView, offset: u64, length: u32 },
    /// Which of these messages the query holds for. Messages are in one mailbox.
    Search { mailbox: MailboxId, messages: Vec<MessageView>, query: Arc<Query> },
}

#[derive(Debug)]
pub enum Answer {
    /// A challenge to pass on.
    Sasl(Vec<u8>),
    LoggedIn(LoggedIn),
    Elsewhere(Elsewhere),
    LoginFailed(LoginFailed),
    Account(Result<door::Done, door::Refused>),
    Described(Vec<Result<Arc<Description>, ReadFailed>>),
    Octets(Result<Bytes, ReadFailed>),
    /// One answer a message asked about.
    Found(Vec<Result<bool, ReadFailed>>),
    Locked(Result<(), LockRefused>),
    Recipient(Result<RecipientId, RecipientRefused>),
    Delivered(Result<(), refused::LmtpReply>),
    Spooled(Result<Arc<Spooled>, SpoolFailed>),
}

#[derive(Debug)]
pub struct LoggedIn {
    /// Canonical user name.
    pub user: String,
    pub snapshot: Arc<Snapshot>,
    /// A last message to the client that goes with success (SCRAM's server-final).
    pub final_data: Option<Vec<u8>>,
}

/// The client has proven who it is, and the account is another node's: the next question is [`Question::HandOver`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Canonical user name.
    pub user: String,
    /// As in [`LoggedIn`].
    pub final_data: Option<Vec<u8>>,
}

/// A client who has proven who it is.
#[derive(Debug)]
enum Proven {
    Here(LoggedIn),
    Elsewhere(Elsewhere),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LoginFailed {
    /// Wrong name, wrong password, forbidden user: never says which.
    Credentials,
    /// The mechanism is not offered, or not before TLS.
    MechanismUnavailable,
    PlaintextForbidden,
    /// The user database or the account is out of reach.
    Unavailable(String),
    /// RFC 5530 LIMIT: as many sessions as one user may have.
    TooManySessions,
}

/// Why bytes could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReadFailed {
    /// Removed behind our back, or already swept.
    Gone,
    /// The disk failed.
    Failed(String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockRefused {
    /// RFC 2449 §8.1.1: another POP3 session has the maildrop.
    InUse,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RecipientRefused {
    UnknownUser,
    BadAddress,
    /// The user database is out of reach.
    Unavailable(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolFailed {
    NoSpace,
    Failed(String),
}

/// What a session is told about its connection.
#[derive(Clone, Debug)]
pub struct Connection {
    pub remote: IpAddr,
    pub tls: bool,
    /// STARTTLS or STLS can be offered.
    pub tls_available: bool,
    /// Plaintext passwords are allowed as long as there is no TLS (`auth.plaintext_without_tls`).
    pub plaintext_without_tls: bool,
    /// Mechanisms offered on such a connection, without TLS and with it.
    pub mechanisms_plain: Arc<[String]>,
    pub mechanisms_tls: Arc<[String]>,
    /// This node's name, for greetings.
    pub host: Arc<str>,
}

/// Silence that ends a conversation.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    pub before_login: Duration,
    /// RFC 3501 §5.4 asks for 30 minutes at least, RFC 1939 §3 for 10.
    pub idle: Duration,
}
