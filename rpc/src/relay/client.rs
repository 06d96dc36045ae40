//! The edge's side: opens a session at the owner, or hands it a message.

use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::Status;
use tonic::transport::Channel;

use super::wire::{self, admission, frame, relay_client::RelayClient};
use super::{Declined, Envelope, MESSAGE_BYTES_MAX, Open, Outcome, Pipe};
use crate::status::{is_refusal, text};

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
    /// It cannot have been stored: it was not sent, or it was refused whole.
    #[error("not delivered: {0}")]
    NotStored(String),
    /// It may be stored or not.
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

/// Hands a message to the owner of its recipients' accounts: one outcome for each.
pub async fn deliver(
    channel: Channel,
    envelope: &Envelope,
    within: Duration,
) -> Result<Vec<Outcome>, DeliverError> {
    let answered = tokio::time::timeout(within, client(channel).deliver(envelope.to_wire())).await;
    let delivered = match answered {
        Ok(Ok(delivered)) => delivered.into_inner(),
        Ok(Err(status)) if is_refusal(&status) => {
            return Err(DeliverError::NotStored(status.message().to_owned()));
        }
        Ok(Err(status)) if never_left(&status) => return Err(DeliverError::NotStored(text(&status))),
        Ok(Err(status)) => return Err(DeliverError::Unknown(text(&status))),
        Err(_) => return Err(DeliverError::Unknown(format!("nothing within {} s", within.as_secs()))),
    };
    let outcomes: Vec<_> = delivered.outcomes.into_iter().map(Outcome::from_wire).collect();
    if outcomes.len() == envelope.recipients.len() {
        Ok(outcomes)
    } else {
        Err(DeliverError::Unknown("it answered for other recipients than it was asked for".to_owned()))
    }
}

/// Whether there was no connection on which the call could have gone.
fn never_left(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
