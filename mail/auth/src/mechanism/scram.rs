//! SCRAM, the server's side (RFC 5802, RFC 7677), without channel binding.
//!
//! Invariants
//! - The server's part of the nonce is fresh for each conversation.
//! - A user who does not exist gets the same messages as one who does, up to the proof (RFC 5802 §9).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use codec::sasl::{self, ChannelBinding};
use subtle::ConstantTimeEq as _;

use super::{Failure, Step};
use crate::scheme::{ScramDigest, ScramKeys};

#[derive(Debug)]
pub(super) struct Scram {
    digest: ScramDigest,
    server_nonce: String,
    stage: Stage,
}

#[derive(Debug)]
enum Stage {
    First,
    /// Waits for the keys of the user that the client named.
    Keys(First),
    /// Waits for the client's proof.
    Proof {
        first: First,
        keys: ScramKeys,
        server_first: String,
    },
    /// The proof was right; the client acknowledges ours.
    Acknowledge {
        user: String,
    },
    Over,
}

/// What the client's first message said.
#[derive(Debug)]
struct First {
    user: String,
    nonce: String,
    bare: String,
    gs2_header: String,
}

impl Scram {
    pub(super) fn new(digest: ScramDigest) -> Self {
        let mut bytes = [0; 18];
        rand::fill(&mut bytes);
        Self { digest, server_nonce: STANDARD.encode(bytes), stage: Stage::First }
    }

    pub(super) fn respond(&mut self, response: &[u8]) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::First => self.first(response),
            Stage::Proof { first, keys, server_first } => self.proof(response, &first, &keys, &server_first),
            Stage::Acknowledge { user } if response.is_empty() => Step::Done { user },
            Stage::Acknowledge { .. } => Step::Failed(Failure::Malformed),
            Stage::Keys(_) | Stage::Over => Step::Failed(Failure::OutOfTurn),
        }
    }

    fn first(&mut self, response: &[u8]) -> Step {
        let Some(message) = sasl::parse_scram_client_first(response) else {
            return Step::Failed(Failure::Malformed);
        };
        match message.channel_binding {
            // "y": the client thinks we offer none. We do not, so nobody took it away on the way (RFC 5802 §6).
            ChannelBinding::None | ChannelBinding::ServerLacksIt => {}
            ChannelBinding::Required => return Step::Failed(Failure::ChannelBinding),
        }
        if message.authzid.as_ref().is_some_and(|authzid| *authzid != message.user) {
            return Step::Failed(Failure::ActingForOther);
        }
        let user = message.user.clone();
        self.stage = Stage::Keys(First {
            user: message.user,
            nonce: message.nonce.to_owned(),
            bare: message.bare.to_owned(),
            gs2_header: message.gs2_header.to_owned(),
        });
        Step::NeedKeys { user, digest: self.digest }
    }

    pub(super) fn keys(&mut self, keys: ScramKeys) -> Step {
        match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Keys(first) => {
                let nonce = format!("{}{}", first.nonce, self.server_nonce);
                let server_first = sasl::scram_server_first(&nonce, &keys.salt, keys.iterations);
                let challenge = server_first.clone().into_bytes();
                self.stage = Stage::Proof { first, keys, server_first };
                Step::Challenge(challenge)
            }
            Stage::First | Stage::Proof { .. } | Stage::Acknowledge { .. } | Stage::Over => {
                Step::Failed(Failure::OutOfTurn)
            }
        }
    }

    fn proof(&mut self, response: &[u8], first: &First, keys: &ScramKeys, server_first: &str) -> Step {
        let Some(message) = sasl::parse_scram_client_final(response) else {
            return Step::Failed(Failure::Malformed);
        };
        if message.channel_binding != first.gs2_header.as_bytes() {
            return Step::Failed(Failure::ChannelBinding);
        }
        if message.nonce != format!("{}{}", first.nonce, self.server_nonce) {
            return Step::Failed(Failure::Malformed);
        }
        let auth_message = format!("{},{server_first},{}", first.bare, message.without_proof);
        let signature = self.digest.hmac(&keys.stored_key, auth_message.as_bytes());
        if message.proof.len() != signature.len() {
            return Step::Failed(Failure::Proof);
        }
        // (RFC 5802 §3) ClientKey := ClientProof XOR ClientSignature; H(ClientKey) must be StoredKey.
        let client_key: Vec<u8> =
            message.proof.iter().zip(&signature).map(|(proof, sign)| proof ^ sign).collect();
        if !bool::from(self.digest.digest(&client_key).ct_eq(&keys.stored_key)) {
            return Step::Failed(Failure::Proof);
        }
        let verifier = self.digest.hmac(&keys.server_key, auth_message.as_bytes());
        self.stage = Stage::Acknowledge { user: first.user.clone() };
        Step::Challenge(sasl::scram_server_final(&verifier).into_bytes())
    }

    /// Replaces the fresh nonce, so that a conversation printed in an RFC can be replayed.
    #[cfg(test)]
    pub(super) fn with_nonce(mut self, nonce: &str) -> Self {
        nonce.clone_into(&mut self.server_nonce);
        self
    }
}
