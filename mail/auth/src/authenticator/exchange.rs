//! A SASL conversation with the user databases behind it.

use std::time::Instant;

use super::{Authenticator, Checked, Facts, Outcome, record};
use crate::mechanism::{Conversation, Mechanism, Step};
use crate::passdb::{Entry, Secret, Unavailable};
use crate::scheme::{Scheme, ScramDigest, ScramKeys, Stored};
use crate::user::UserName;

/// One client's SASL conversation. Dropping it cancels.
pub struct Exchange {
    conversation: Conversation,
    facts: Facts,
    /// The name as the client gave it, once it did.
    user: String,
    /// Who that is, if they may log in from there with keys.
    entry: Option<Entry>,
}

/// What comes next in an [`Exchange`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Send this and hand the client's answer to [`Authenticator::step`].
    Challenge(Vec<u8>),
    Finished(Checked),
}

impl Authenticator {
    /// Begins a SASL conversation, or `None` for a mechanism that is not configured. `initial` is decoded.
    pub async fn begin(
        &self,
        mechanism: &str,
        initial: Option<&[u8]>,
        facts: Facts,
        now: Instant,
    ) -> Option<(Exchange, Progress)> {
        let mechanism =
            Mechanism::from_name(mechanism).filter(|mechanism| self.mechanisms.contains(mechanism))?;
        let loopback = facts.remote.to_canonical().is_loopback();
        let forbidden = mechanism.is_plaintext() && !self.plaintext_allowed(facts.tls, loopback);
        let (conversation, step) = Conversation::start(mechanism, initial);
        let mut exchange = Exchange { conversation, facts, user: String::new(), entry: None };
        if forbidden {
            let checked = self.conclude(Outcome::PlaintextForbidden, "", &facts, now);
            return Some((exchange, Progress::Finished(checked)));
        }
        let progress = self.advance(&mut exchange, step, now).await;
        Some((exchange, progress))
    }

    /// Goes on with the client's (decoded) answer to the last challenge.
    pub async fn step(&self, exchange: &mut Exchange, response: &[u8], now: Instant) -> Progress {
        let step = exchange.conversation.respond(response);
        self.advance(exchange, step, now).await
    }

    async fn advance(&self, exchange: &mut Exchange, step: Step, now: Instant) -> Progress {
        let step = match step {
            Step::NeedKeys { user, digest } => match self.scram_keys(exchange, user, digest).await {
                Ok(keys) => exchange.conversation.keys(keys),
                Err(Unavailable(reason)) => {
                    return self.finish(exchange, Outcome::TemporaryFailure(reason), now);
                }
            },
            step @ (Step::Challenge(_) | Step::Verify { .. } | Step::Done { .. } | Step::Failed(_)) => step,
        };
        match step {
            Step::Challenge(challenge) => Progress::Challenge(challenge),
            Step::Verify { user, password } => {
                Progress::Finished(self.login(&user, &password, &exchange.facts, now).await)
            }
            Step::Done { .. } => {
                let outcome = match exchange.entry.take() {
                    Some(entry) if entry.nologin => Outcome::Disabled,
                    Some(entry) => Outcome::Ok(record(entry)),
                    None => Outcome::BadCredentials,
                };
                self.finish(exchange, outcome, now)
            }
            Step::Failed(failure) => {
                tracing::debug!(%failure, service = exchange.facts.service, "SASL conversation");
                self.finish(exchange, Outcome::BadCredentials, now)
            }
            // Keys are asked for once, and were given above.
            Step::NeedKeys { .. } => self.finish(exchange, Outcome::BadCredentials, now),
        }
    }

    fn finish(&self, exchange: &Exchange, outcome: Outcome, now: Instant) -> Progress {
        Progress::Finished(self.conclude(outcome, &exchange.user, &exchange.facts, now))
    }

    /// The user's keys, or those of a decoy. Only with the user's own is `exchange.entry` set.
    async fn scram_keys(
        &self,
        exchange: &mut Exchange,
        user: String,
        digest: ScramDigest,
    ) -> Result<ScramKeys, Unavailable> {
        let name = UserName::parse(&user, self.default_realm.as_deref());
        let named = name.as_ref().map_or(user.as_str(), UserName::as_str).to_owned();
        // (RFC 5802 §9) The salt of a name is always the same, whether or not there is such a user.
        let mut salt = digest.hmac(&self.decoy_secret, named.as_bytes());
        salt.truncate(16);
        exchange.user = user;
        let entry = match name {
            Ok(name) => self.find(name).await?,
            Err(_) => None,
        };
        let remote = exchange.facts.remote;
        let entry = entry.filter(|entry| entry.may_come_from(remote));
        let stored = match entry.as_ref().map(|entry| &entry.password) {
            Some(Secret::Stored(stored)) => Some(stored.clone()),
            Some(Secret::Any | Secret::Never) | None => None,
        };
        let (keys, own) = self.slow(move || keys_of(stored, digest, &salt)).await?;
        exchange.entry = entry.filter(|_| own);
        Ok(keys)
    }
}

/// Keys, and whether they are the user's own. It derives keys once, whatever is stored: all take as long.
fn keys_of(stored: Option<Stored>, digest: ScramDigest, salt: &[u8]) -> (ScramKeys, bool) {
    let derives = stored.as_ref().is_some_and(|stored| stored.scheme() == Scheme::Plain);
    let decoy = (!derives).then(|| ScramKeys::decoy(digest, salt));
    match stored.map(|stored| stored.scram_keys(digest, salt)) {
        Some(Ok(Some(keys))) => return (keys, true),
        Some(Err(error)) => tracing::warn!(%error, "a stored password cannot serve SCRAM"),
        Some(Ok(None)) | None => {}
    }
    (decoy.unwrap_or_else(|| ScramKeys::decoy(digest, salt)), false)
}
