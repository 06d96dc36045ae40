//! The edge's side: opens a session at the owner, or hands it a message.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tokio_stream::{Stream, StreamExt};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::wire::{self, admission, frame, piece, relay_client::RelayClient};
use super::{Declined, Envelope, MESSAGE_BYTES_MAX, Open, Outcome, Pipe};

/// Why no session was opened. Nothing was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CarryError {
    /// The node is down, cut off, or not what it should be.
    #[error("node cannot be reached: {0}")]
    Unreachable(String),
    #[error("the other node refuses: {0}")]
    Refused(String),
    #[error("declined: {0:?}")]
    Declined(Declined),
}

/// Why a delivery has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DeliverError {
    /// It cannot have been stored: its end was not sent, or it was refused whole.
    #[error("not delivered: {0}")]
    NotStored(String),
    /// All of it was sent; it may be stored or not.
    #[error("no answer to a delivery: {0}")]
    Unknown(String),
}

fn client(channel: Channel) -> RelayClient<Channel> {
    RelayClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Opens a session at the owner. `within` bounds the opening, not the session.
pub async fn carry(channel: Channel, open: &Open, within: Duration) -> Result<Pipe, CarryError> {
    match tokio::time::timeout(within, begin(channel, open)).await {
        Ok(begun) => begun,
        Err(_) => Err(CarryError::Unreachable(format!("no answer within {} s", within.as_secs_f32()))),
    }
}

async fn begin(channel: Channel, open: &Open) -> Result<Pipe, CarryError> {
    let (outgoing, frames) = mpsc::unbounded_channel();
    let first = wire::Frame { frame: Some(frame::Frame::Open(open.to_wire())) };
    // The receiver is at hand.
    let _ = outgoing.send(first);
    let called = client(channel).carry(UnboundedReceiverStream::new(frames)).await;
    let mut incoming = called.map_err(|status| carry_error(&status))?.into_inner();
    let answer = incoming.message().await.map_err(|status| carry_error(&status))?;
    let refused = |what: &str| CarryError::Refused(what.to_owned());
    let answer = answer.and_then(|frame| frame.frame).ok_or_else(|| refused("it did not answer"))?;
    let frame::Frame::Admission(wire::Admission { admission: Some(admission) }) = answer else {
        return Err(refused(
            "it answered what this version does not know: run the same version of roost on both",
        ));
    };
    match admission {
        admission::Admission::Admitted(_) => Ok(Pipe::new(outgoing, incoming, Bytes::new())),
        admission::Admission::NotOwner(version) => Err(CarryError::Declined(Declined::NotOwner(version))),
        admission::Admission::TooManySessions(_) => Err(CarryError::Declined(Declined::TooManySessions)),
        admission::Admission::Unavailable(why) => Err(CarryError::Declined(Declined::Unavailable(why))),
    }
}

fn carry_error(status: &Status) -> CarryError {
    if is_refusal(status) {
        CarryError::Refused(status.message().to_owned())
    } else {
        CarryError::Unreachable(text(status))
    }
}

/// What an operator wants to know of it: the cause, not its wrapping.
pub(super) fn text(status: &Status) -> String {
    if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() }
}

/// Whether the other side answered that it will not, and why.
fn is_refusal(status: &Status) -> bool {
    match status.code() {
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::PermissionDenied
        | Code::Unimplemented
        | Code::OutOfRange
        | Code::Unauthenticated => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::Aborted
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

/// Hands a message to the owner of its recipients' accounts: one outcome for each. An `Err` in the body ends the
/// delivery without storing anything.
pub async fn deliver(
    channel: Channel,
    envelope: &Envelope,
    body: impl Stream<Item = Result<Bytes, String>> + Send + 'static,
    within: Duration,
) -> Result<Vec<Outcome>, DeliverError> {
    let sent_all = Arc::new(AtomicBool::new(false));
    let pieces = pieces(envelope, body, Arc::clone(&sent_all));
    let mut client = client(channel);
    let answered = tokio::time::timeout(within, client.deliver(pieces)).await;
    let unanswered = |why: String| {
        if sent_all.load(Ordering::Acquire) {
            DeliverError::Unknown(why)
        } else {
            DeliverError::NotStored(why)
        }
    };
    let delivered = match answered {
        Ok(Ok(delivered)) => delivered.into_inner(),
        Ok(Err(status)) if is_refusal(&status) => {
            return Err(DeliverError::NotStored(status.message().to_owned()));
        }
        Ok(Err(status)) => return Err(unanswered(text(&status))),
        Err(_) => return Err(unanswered(format!("nothing within {} s", within.as_secs()))),
    };
    let outcomes: Vec<_> = delivered.outcomes.into_iter().map(Outcome::from_wire).collect();
    if outcomes.len() == envelope.recipients.len() {
        Ok(outcomes)
    } else {
        Err(unanswered("it answered for other recipients than it was asked for".to_owned()))
    }
}

/// The envelope, the body, and its end. A body that fails has no end.
fn pieces(
    envelope: &Envelope,
    body: impl Stream<Item = Result<Bytes, String>> + Send + 'static,
    sent_all: Arc<AtomicBool>,
) -> impl Stream<Item = wire::Piece> + Send + 'static {
    let piece = |piece| wire::Piece { piece: Some(piece) };
    let first = tokio_stream::once(piece(piece::Piece::Envelope(envelope.to_wire())));
    let whole = Arc::new(AtomicBool::new(true));
    let still_whole = Arc::clone(&whole);
    let body = body
        .take_while(move |octets| {
            if octets.is_err() {
                whole.store(false, Ordering::Release);
            }
            octets.is_ok()
        })
        .filter_map(Result::ok)
        .map(move |octets| piece(piece::Piece::Data(octets)));
    let end = tokio_stream::once(()).filter_map(move |()| {
        let whole = still_whole.load(Ordering::Acquire);
        sent_all.store(whole, Ordering::Release);
        whole.then(|| piece(piece::Piece::Ended(wire::Ended {})))
    });
    first.chain(body).chain(end)
}
