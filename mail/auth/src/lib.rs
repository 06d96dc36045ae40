//! Who is it: stored passwords, SASL conversations, user databases, and the door that joins them.
//!
//! `scheme`, `mechanism` and `penalty` are pure; `passdb` drivers read files through [`nfs_compat::Fs`];
//! [`Authenticator`] is what the node asks.
//!
//! Invariants
//! - A password, a hash or a client's proof is never logged and never part of an error.
//! - A user's name has one form ([`UserName`]); whatever a client typed becomes that form or is refused.
//! - Whether an account exists cannot be learnt by trying to log in (RFC 5802 §9).

pub mod authenticator;
pub mod mechanism;
pub mod passdb;
pub mod penalty;
pub mod scheme;
pub mod user;

pub use authenticator::{
    Authenticator, Checked, Counters, Exchange, Facts, Options, Outcome, PassdbOptions, Plaintext, Progress,
    StartError, UserRecord, fresh_secret,
};
pub use mechanism::{Mechanism, Password};
pub use passdb::{FixedOptions, PasswdFileOptions, Unavailable};
pub use penalty::PenaltyOptions;
pub use scheme::Scheme;
pub use user::UserName;
