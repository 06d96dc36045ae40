//! PLAIN (RFC 4616): one message.

use codec::sasl;

use super::{Failure, Password, Step};

pub(super) fn respond(response: &[u8]) -> Step {
    let Some(plain) = sasl::parse_plain(response) else { return Step::Failed(Failure::Malformed) };
    // (RFC 4616 §2) An absent or equal authorization identity is the user's own.
    if !plain.authzid.is_empty() && plain.authzid != plain.authcid {
        return Step::Failed(Failure::ActingForOther);
    }
    Step::Verify { user: plain.authcid.to_owned(), password: Password::new(plain.password) }
}
