//! The door: what the node asks about users.
//!
//! Invariants
//! - Slow work (hashes, files) runs on blocking threads; hashes at most `verifications_max` at a time, and no more
//!   than `verifications_waiting_max` wait for their turn. Beyond that the answer is "try again".
//! - A login of a user who does not exist costs as much work as one with a wrong password.
//! - The caller waits [`Checked::delay`] before it tells the client, whatever the outcome.

mod exchange;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nfs_compat::Fs;
use tokio::sync::Semaphore;

pub use exchange::{Exchange, Progress};

use crate::mechanism::{Mechanism, Password};
use crate::passdb::{Entry, Fixed, FixedOptions, Passdb, PasswdFile, PasswdFileOptions, Secret, Unavailable};
use crate::penalty::{Penalties, PenaltyOptions};
use crate::scheme::{self, Scheme, SchemeError, Stored};
use crate::user::UserName;

#[derive(Clone, Debug)]
pub struct Options {
    /// Asked in order; the first that knows the user decides.
    pub passdbs: Vec<PassdbOptions>,
    pub mechanisms: Vec<Mechanism>,
    /// The domain of users who name none.
    pub default_realm: Option<String>,
    pub plaintext_without_tls: Plaintext,
    pub penalty: PenaltyOptions,
    /// Hashes computed at the same time; 0: as many as there are processors.
    pub verifications_max: usize,
    pub verifications_waiting_max: usize,
    /// From it follow the salts of users who do not exist. Kept over restarts and the same on all nodes, they cannot
    /// be told from others even by asking twice; see [`fresh_secret`].
    pub decoy_secret: [u8; 32],
}

impl Default for Options {
    fn default() -> Self {
        Self {
            passdbs: Vec::new(),
            mechanisms: vec![Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256],
            default_realm: None,
            plaintext_without_tls: Plaintext::Loopback,
            penalty: PenaltyOptions::default(),
            verifications_max: 0,
            verifications_waiting_max: 1000,
            decoy_secret: fresh_secret(),
        }
    }
}

/// A secret for `Options::decoy_secret`.
pub fn fresh_secret() -> [u8; 32] {
    let mut secret = [0; 32];
    rand::fill(&mut secret);
    secret
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PassdbOptions {
    PasswdFile(PasswdFileOptions),
    Static(FixedOptions),
}

/// Where a password may cross the wire without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Plaintext {
    Never,
    /// Between programs of this machine.
    Loopback,
    Always,
}

/// Whence a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Facts {
    /// `imap`, `pop3` and so on, for the log.
    pub service: &'static str,
    /// Loopback for a UNIX socket.
    pub remote: IpAddr,
    pub tls: bool,
}

/// A user, as the rest of the product needs to know them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UserRecord {
    pub user: UserName,
    /// The account's home, where it is not the configured one.
    pub home: Option<PathBuf>,
    /// Extra fields of the user database, `userdb_` ones among them, as written there.
    pub extra: BTreeMap<String, String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Ok(UserRecord),
    /// No such user, wrong password, wrong network or a broken conversation: the client is not told which.
    BadCredentials,
    /// The password was right, but the user may not log in.
    Disabled,
    /// The user database or this machine cannot answer now.
    TemporaryFailure(String),
    /// Not without TLS. The password was not looked at.
    PlaintextForbidden,
}

/// An outcome, and how long to wait before telling it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub outcome: Outcome,
    pub delay: Duration,
}

/// What has happened so far, for the metrics.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub succeeded: u64,
    pub failed: u64,
    pub disabled: u64,
    pub temporary: u64,
    pub plaintext_forbidden: u64,
    /// Addresses that have failures to their name.
    pub penalised_addresses: u64,
}

#[derive(Default)]
struct Counts {
    succeeded: AtomicU64,
    failed: AtomicU64,
    disabled: AtomicU64,
    temporary: AtomicU64,
    plaintext_forbidden: AtomicU64,
}

/// Why there is no authenticator. The operator mends the configuration.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("passdb static: {0}")]
    Static(#[source] SchemeError),
    #[error("cannot make the hash that stands for unknown users: {0}")]
    Decoy(#[source] SchemeError),
}

pub struct Authenticator {
    passdbs: Arc<[Arc<dyn Passdb>]>,
    mechanisms: Vec<Mechanism>,
    default_realm: Option<String>,
    plaintext: Plaintext,
    penalties: Mutex<Penalties>,
    permits: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
    decoy_secret: [u8; 32],
    decoy: Stored,
    counts: Counts,
}

impl Authenticator {
    /// Blocking: reads the user databases.
    pub fn new(options: Options, fs: Arc<dyn Fs>) -> Result<Self, StartError> {
        let realm = options.default_realm.as_deref();
        let open = |options: &PassdbOptions| -> Result<Arc<dyn Passdb>, StartError> {
            Ok(match options {
                PassdbOptions::PasswdFile(options) => {
                    Arc::new(PasswdFile::new(options.clone(), realm, fs.clone()))
                }
                PassdbOptions::Static(options) => {
                    Arc::new(Fixed::new(options, realm).map_err(StartError::Static)?)
                }
            })
        };
        let passdbs = options.passdbs.iter().map(open).collect::<Result<Arc<[_]>, _>>()?;
        let processors = std::thread::available_parallelism().map_or(2, usize::from);
        let permits = if options.verifications_max == 0 { processors } else { options.verifications_max };
        let decoy = scheme::hash(Scheme::Argon2id, "nobody's").map_err(StartError::Decoy)?;
        Ok(Self {
            passdbs,
            mechanisms: options.mechanisms,
            plaintext: options.plaintext_without_tls,
            penalties: Mutex::new(Penalties::new(options.penalty)),
            permits: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
            waiting: AtomicUsize::new(0),
            waiting_max: options.verifications_waiting_max,
            decoy_secret: options.decoy_secret,
            decoy: Stored::parse(&decoy, Scheme::Crypt).map_err(StartError::Decoy)?,
            default_realm: options.default_realm,
            counts: Counts::default(),
        })
    }

    /// The mechanisms to offer on such a connection.
    ///
    /// SCRAM is offered only while every user can use it: clients prefer it, and one whose password is stored as a
    /// hash that SCRAM cannot use would be locked out by the offer.
    pub fn mechanisms(&self, tls: bool, loopback: bool) -> Vec<&'static str> {
        let plaintext = self.plaintext_allowed(tls, loopback);
        self.mechanisms
            .iter()
            .filter(|mechanism| match mechanism.scram_digest() {
                Some(digest) => self.passdbs.iter().all(|passdb| passdb.serves_scram(digest)),
                None => plaintext,
            })
            .map(|mechanism| mechanism.name())
            .collect()
    }

    /// Whether a password may be sent on such a connection; if not, IMAP says LOGINDISABLED.
    pub fn plaintext_allowed(&self, tls: bool, loopback: bool) -> bool {
        match self.plaintext {
            Plaintext::Never => tls,
            Plaintext::Loopback => tls || loopback,
            Plaintext::Always => true,
        }
    }

    /// Checks a name and a password: IMAP LOGIN, POP3 USER and PASS, SASL PLAIN and LOGIN.
    pub async fn login(&self, user: &str, password: &Password, facts: &Facts, now: Instant) -> Checked {
        if !self.plaintext_allowed(facts.tls, facts.remote.to_canonical().is_loopback()) {
            return self.conclude(Outcome::PlaintextForbidden, user, facts, now);
        }
        let outcome = self.check(user, password, facts.remote).await;
        self.conclude(outcome, user, facts, now)
    }

    /// What is known of a user, without logging in: LMTP's recipients, commands.
    pub async fn lookup(&self, user: &str) -> Result<Option<UserRecord>, Unavailable> {
        let Ok(user) = UserName::parse(user, self.default_realm.as_deref()) else { return Ok(None) };
        Ok(self.find(user).await?.map(record))
    }

    /// All users of all databases that can be listed.
    pub async fn users(&self) -> Result<Vec<UserName>, Unavailable> {
        let passdbs = self.passdbs.clone();
        blocking(move || {
            let mut users = Vec::new();
            for passdb in passdbs.iter() {
                users.extend(passdb.users()?);
            }
            users.sort_unstable();
            users.dedup();
            Ok(users)
        })
        .await?
    }

    pub fn counters(&self) -> Counters {
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        Counters {
            succeeded: read(&self.counts.succeeded),
            failed: read(&self.counts.failed),
            disabled: read(&self.counts.disabled),
            temporary: read(&self.counts.temporary),
            plaintext_forbidden: read(&self.counts.plaintext_forbidden),
            penalised_addresses: u64::try_from(self.penalties().addresses()).unwrap_or(u64::MAX),
        }
    }

    async fn check(&self, user: &str, password: &Password, remote: IpAddr) -> Outcome {
        let entry = match UserName::parse(user, self.default_realm.as_deref()) {
            Ok(user) => match self.find(user).await {
                Ok(entry) => entry,
                Err(Unavailable(reason)) => return Outcome::TemporaryFailure(reason),
            },
            Err(_) => None,
        };
        // A user who is not there, or not from there, costs the same work.
        let admitted = entry.filter(|entry| entry.may_come_from(remote));
        let stored = match admitted.as_ref().map(|entry| &entry.password) {
            Some(Secret::Any) => None,
            Some(Secret::Stored(stored)) => Some(stored.clone()),
            Some(Secret::Never) | None => Some(self.decoy.clone()),
        };
        let right = match stored {
            None => Ok(Ok(true)),
            Some(stored) => {
                let password = password.clone();
                self.slow(move || stored.verify(&password.0)).await
            }
        };
        let entry = admitted.filter(|entry| entry.password != Secret::Never);
        match (right, entry) {
            (Err(Unavailable(reason)), _) => Outcome::TemporaryFailure(reason),
            (Ok(Err(error)), entry) => {
                tracing::warn!(user = entry.as_ref().map(|entry| entry.user.as_str()), %error, "stored password");
                Outcome::BadCredentials
            }
            (Ok(Ok(true)), Some(entry)) if entry.nologin => Outcome::Disabled,
            (Ok(Ok(true)), Some(entry)) => Outcome::Ok(record(entry)),
            (Ok(Ok(true | false)), _) => Outcome::BadCredentials,
        }
    }

    async fn find(&self, user: UserName) -> Result<Option<Entry>, Unavailable> {
        let passdbs = self.passdbs.clone();
        blocking(move || {
            for passdb in passdbs.iter() {
                if let Some(entry) = passdb.lookup(&user)? {
                    return Ok(Some(entry));
                }
            }
            Ok(None)
        })
        .await?
    }

    /// Runs a hash when its turn comes.
    async fn slow<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Unavailable> {
        let _place = Place::take(&self.waiting, self.waiting_max)?;
        let permit =
            self.permits.clone().acquire_owned().await.map_err(|_| Unavailable("stopping".to_owned()))?;
        blocking(move || {
            let result = work();
            drop(permit);
            result
        })
        .await
    }

    /// Counts, logs and delays an outcome.
    fn conclude(&self, outcome: Outcome, user: &str, facts: &Facts, now: Instant) -> Checked {
        let (count, delay) = match &outcome {
            Outcome::Ok(_) | Outcome::Disabled => {
                let mut penalties = self.penalties();
                let delay = penalties.delay(facts.remote, now);
                penalties.succeeded(facts.remote);
                let disabled = outcome == Outcome::Disabled;
                (if disabled { &self.counts.disabled } else { &self.counts.succeeded }, delay)
            }
            Outcome::BadCredentials => (&self.counts.failed, self.penalties().failed(facts.remote, now)),
            Outcome::TemporaryFailure(_) => {
                (&self.counts.temporary, self.penalties().delay(facts.remote, now))
            }
            Outcome::PlaintextForbidden => (&self.counts.plaintext_forbidden, Duration::ZERO),
        };
        count.fetch_add(1, Ordering::Relaxed);
        log(&outcome, user, facts);
        Checked { outcome, delay }
    }

    fn penalties(&self) -> MutexGuard<'_, Penalties> {
        self.penalties.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place in the queue for a hash.
struct Place<'a>(&'a AtomicUsize);

impl<'a> Place<'a> {
    fn take(waiting: &'a AtomicUsize, max: usize) -> Result<Self, Unavailable> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= max {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Unavailable("too many logins at once".to_owned()));
        }
        Ok(Self(waiting))
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Unavailable> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Unavailable(format!("login check did not end: {error}")))
}

fn record(entry: Entry) -> UserRecord {
    UserRecord { user: entry.user, home: entry.home, extra: entry.extra }
}

/// The name is what a stranger typed: quoted, and cut.
fn log(outcome: &Outcome, user: &str, facts: &Facts) {
    let user: String = user.chars().take(80).collect();
    let (service, remote) = (facts.service, facts.remote);
    match outcome {
        Outcome::Ok(_) => tracing::info!(?user, service, %remote, tls = facts.tls, "login"),
        Outcome::BadCredentials => tracing::info!(?user, service, %remote, "login failed"),
        Outcome::Disabled => tracing::info!(?user, service, %remote, "login refused: nologin"),
        Outcome::PlaintextForbidden => {
            tracing::info!(service, %remote, "login refused: plaintext without TLS")
        }
        Outcome::TemporaryFailure(reason) => {
            tracing::error!(?user, service, %remote, reason, "login not checked")
        }
    }
}

#[cfg(test)]
mod tests;
