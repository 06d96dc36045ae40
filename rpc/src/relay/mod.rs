//! Sessions and deliveries carried to the owner of their account (L-CN1, L-CN2).
//!
//! The edge has authenticated the client, and vouches for it with its certificate; only nodes of the same site are
//! believed.
//!
//! Invariants
//! - What is refused was not begun: the edge may ask another node.
//! - Each direction of a carried session has at most [`WINDOW`] bytes that the other side has not passed on. What
//!   comes is taken off the connection at once, so that a slow session never holds up another.
//! - A session whose account is given away loses no byte and repeats none: its edge stops, says so, and what it sent up to
//!   then goes with the session; the rest it keeps for the next owner.
//! - An end that was meant is said. A stream that just stops broke off.
//! - A message does not travel: it is synced in the spool of the edge, on the tree that all nodes of a site share, and its
//!   owner is told the name.
//! - A delivery without an answer is told apart: one that cannot have been stored, and one that may have been.

mod client;
mod pipe;
mod server;

use std::net::IpAddr;

use bytes::Bytes;

pub use client::{CarryError, DeliverError, carry, deliver};
pub use pipe::{Fate, Moved, Pipe};
pub use server::{Handler, Serve, Service, service};

/// Rises when a side would misunderstand the other.
pub const VERSION: u32 = 2;
/// Bytes under way in one direction of one session.
pub const WINDOW: usize = 256 * 1024;
/// Most bytes in one frame.
pub const DATA_BYTES_MAX: usize = 64 * 1024;
/// What a client can have sent behind its login. Sessions hold back far below it.
pub const UNREAD_BYTES_MAX: usize = 512 * 1024;
/// A session that is packed. Owners pack none that is bigger.
pub const BLOB_BYTES_MAX: usize = 4 << 20;
/// Recipients of one delivery.
pub const RECIPIENTS_MAX: usize = 1024;
const USER_BYTES_MAX: usize = 1024;
const TAG_BYTES_MAX: usize = 1024;
const SESSION_BYTES_MAX: usize = 64;
const MAILBOX_BYTES_MAX: usize = 4096;
const TEXT_BYTES_MAX: usize = 1024;
const FILE_NAME_BYTES_MAX: usize = 64;
/// Any frame or answer; an envelope is the longest.
const MESSAGE_BYTES_MAX: usize = RECIPIENTS_MAX * (USER_BYTES_MAX + MAILBOX_BYTES_MAX + 32);
const _: () = assert!(BLOB_BYTES_MAX + UNREAD_BYTES_MAX + 4096 <= MESSAGE_BYTES_MAX);

/// A session to be carried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// Canonical user name.
    pub user: String,
    pub remote: IpAddr,
    pub tls: bool,
    /// The session's id at the edge.
    pub session: String,
    pub login: Login,
    pub unread: Bytes,
    /// The edge can take the session to another owner, if this one gives the account away.
    pub moves: bool,
    /// The edge's knowledge of owners.
    pub known: u64,
}

/// The login that the owner is to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Login {
    Imap {
        tag: String,
    },
    Pop3,
    /// None: the session is one that its former owner has packed (L-CN3).
    Resumed {
        blob: Bytes,
    },
}

/// Why the owner does not take a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Declined {
    /// Says its knowledge of owners up to this version.
    NotOwner(u64),
    TooManySessions,
    Unavailable(String),
}

/// How the edge wishes a session to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndWish {
    /// At the next command boundary.
    Stopping,
    /// At once.
    Kicked,
}

/// A message for recipients of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    pub session: String,
    pub recipients: Vec<Recipient>,
    pub message: Message,
    /// The edge's knowledge of owners.
    pub known: u64,
}

/// A message in the spool of the edge.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The file's name there: no path.
    pub name: String,
    pub size: u64,
    pub wire_size: u64,
    /// BLAKE3 of the octets.
    pub content: [u8; 32],
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipient {
    /// Canonical user name.
    pub user: String,
    pub mailbox: String,
    pub delivery: Option<u64>,
}

/// What became of a message for one recipient.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Stored,
    /// Not stored: says the node's knowledge of owners up to this version.
    NotOwner(u64),
    /// Not stored.
    Refused(Reply),
    /// Stored or not.
    Unknown,
}

/// What LMTP is to say to a recipient that was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    pub code: u16,
    pub enhanced: String,
    pub text: String,
}

impl Open {
    fn to_wire(&self) -> wire::Open {
        let login = match &self.login {
            Login::Imap { tag } => wire::open::Login::Imap(wire::ImapLogin { tag: tag.clone() }),
            Login::Pop3 => wire::open::Login::Pop3(wire::Pop3Login {}),
            Login::Resumed { blob } => wire::open::Login::Resumed(wire::Resumed { blob: blob.clone() }),
        };
        wire::Open {
            version: VERSION,
            user: self.user.clone(),
            remote: self.remote.to_string(),
            tls: self.tls,
            session: self.session.clone(),
            login: Some(login),
            unread: self.unread.clone(),
            moves: self.moves,
            known: self.known,
        }
    }

    fn from_wire(open: wire::Open) -> Result<Self, &'static str> {
        let wire::Open { version: _, user, remote, tls, session, login, unread, moves, known } = open;
        let remote = remote.parse().map_err(|_| "the client's address is none")?;
        let login = match login.ok_or("a login of an unknown protocol")? {
            wire::open::Login::Imap(imap) if imap.tag.len() <= TAG_BYTES_MAX && is_tag(&imap.tag) => {
                Login::Imap { tag: imap.tag }
            }
            wire::open::Login::Imap(_) => return Err("an IMAP tag that is none"),
            wire::open::Login::Pop3(_) => Login::Pop3,
            wire::open::Login::Resumed(resumed) if resumed.blob.len() > BLOB_BYTES_MAX => {
                return Err("a session that is too big");
            }
            wire::open::Login::Resumed(resumed) => Login::Resumed { blob: resumed.blob },
        };
        if user.is_empty() || user.len() > USER_BYTES_MAX {
            return Err("no user, or one with too long a name");
        }
        if session.len() > SESSION_BYTES_MAX || unread.len() > UNREAD_BYTES_MAX {
            return Err("a field that is too long");
        }
        Ok(Self { user, remote, tls, session, login, unread, moves, known })
    }
}

fn is_tag(tag: &str) -> bool {
    !tag.is_empty() && tag.bytes().all(|byte| byte.is_ascii_graphic())
}

impl Envelope {
    fn to_wire(&self) -> wire::Envelope {
        let recipient = |recipient: &Recipient| wire::Recipient {
            user: recipient.user.clone(),
            mailbox: recipient.mailbox.clone(),
            delivery_key: recipient.delivery,
        };
        wire::Envelope {
            version: VERSION,
            session: self.session.clone(),
            recipients: self.recipients.iter().map(recipient).collect(),
            message: Some(self.message.to_wire()),
            known: self.known,
        }
    }

    fn from_wire(envelope: wire::Envelope) -> Result<Self, &'static str> {
        let wire::Envelope { version: _, session, recipients, message, known } = envelope;
        if recipients.is_empty() || recipients.len() > RECIPIENTS_MAX || session.len() > SESSION_BYTES_MAX {
            return Err("no recipients, or too many");
        }
        let recipient = |recipient: wire::Recipient| {
            let wire::Recipient { user, mailbox, delivery_key } = recipient;
            let fits = !user.is_empty() && user.len() <= USER_BYTES_MAX && mailbox.len() <= MAILBOX_BYTES_MAX;
            fits.then_some(Recipient { user, mailbox, delivery: delivery_key })
                .ok_or("a recipient that is none")
        };
        let recipients = recipients.into_iter().map(recipient).collect::<Result<_, _>>()?;
        let message = Message::from_wire(message.ok_or("an envelope without a message")?)?;
        Ok(Self { session, recipients, message, known })
    }
}

impl Message {
    fn to_wire(&self) -> wire::Message {
        let Self { name, size, wire_size, content } = self;
        wire::Message {
            name: name.clone(),
            size: *size,
            wire_size: *wire_size,
            content: content.to_vec().into(),
        }
    }

    fn from_wire(message: wire::Message) -> Result<Self, &'static str> {
        let wire::Message { name, size, wire_size, content } = message;
        let is_name = !name.is_empty()
            && name.len() <= FILE_NAME_BYTES_MAX
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
        if !is_name {
            return Err("a message under a name that no spool gives");
        }
        let content = content.as_ref().try_into().map_err(|_| "a content id that is none")?;
        Ok(Self { name, size, wire_size, content })
    }
}

impl Outcome {
    fn to_wire(&self) -> wire::Outcome {
        let outcome = match self {
            Self::Stored => wire::outcome::Outcome::Stored(wire::Stored {}),
            Self::NotOwner(version) => wire::outcome::Outcome::NotOwner(*version),
            Self::Unknown => wire::outcome::Outcome::Unknown(wire::UnknownFate {}),
            Self::Refused(Reply { code, enhanced, text }) => wire::outcome::Outcome::Refused(wire::Reply {
                code: u32::from(*code),
                enhanced: enhanced.clone(),
                text: text.clone(),
            }),
        };
        wire::Outcome { outcome: Some(outcome) }
    }

    /// An outcome that we do not understand is one that we do not know.
    fn from_wire(outcome: wire::Outcome) -> Self {
        match outcome.outcome {
            Some(wire::outcome::Outcome::Stored(_)) => Self::Stored,
            Some(wire::outcome::Outcome::NotOwner(version)) => Self::NotOwner(version),
            Some(wire::outcome::Outcome::Refused(reply)) => {
                Reply::from_wire(reply).map_or(Self::Unknown, Self::Refused)
            }
            Some(wire::outcome::Outcome::Unknown(_)) | None => Self::Unknown,
        }
    }
}

impl Reply {
    fn from_wire(reply: wire::Reply) -> Option<Self> {
        let wire::Reply { code, enhanced, text } = reply;
        let code = u16::try_from(code).ok().filter(|code| (400..600).contains(code))?;
        let is_code = !enhanced.is_empty() && enhanced.len() <= 16;
        let is_code = is_code && enhanced.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        (is_code && text.len() <= TEXT_BYTES_MAX).then_some(Self { code, enhanced, text })
    }
}

/// What the build makes of `proto/relay.proto`.
#[allow(unreachable_pub, clippy::all, reason = "generated")]
mod wire {
    tonic::include_proto!("roost.relay.v1");
}

/// The refusal of a peer that speaks another version; `None` if it speaks ours.
fn version_refused(version: u32) -> Option<tonic::Status> {
    (version != VERSION).then(|| {
        tonic::Status::failed_precondition(format!(
            "this node speaks version {VERSION} of the relay protocol, the other {version}: run the same version of \
             roost on both"
        ))
    })
}
