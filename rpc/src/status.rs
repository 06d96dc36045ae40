//! What a gRPC status says about a call between nodes.

use tonic::{Code, Status};

/// Whether the other side answered that it will not, and why. All else leaves open whether it has heard the call.
pub(crate) fn is_refusal(status: &Status) -> bool {
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

/// What an operator wants to know of it: the cause, not its wrapping.
pub(crate) fn text(status: &Status) -> String {
    if status.message().is_empty() { status.code().to_string() } else { status.message().to_owned() }
}
