//! Where users and their stored passwords come from: a file a driver.

mod fixed;
mod net;
mod passwd_file;

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

pub use fixed::{Fixed, FixedOptions};
pub use net::Network;
pub use passwd_file::{PasswdFile, PasswdFileOptions};

use crate::scheme::{ScramDigest, Stored};
use crate::user::UserName;

/// What a user database knows of one user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub user: UserName,
    pub password: Secret,
    /// The account's home, where it is not the configured one.
    pub home: Option<PathBuf>,
    /// Only from these networks, if any are named.
    pub allow_nets: Option<Vec<Network>>,
    /// The account gets mail, but nobody may log in to it.
    pub nologin: bool,
    /// All extra fields, as written.
    pub extra: BTreeMap<String, String>,
}

impl Entry {
    pub fn may_come_from(&self, remote: IpAddr) -> bool {
        self.allow_nets.as_ref().is_none_or(|nets| nets.iter().any(|net| net.contains(remote)))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Secret {
    Stored(Stored),
    /// Any password is right (`nopassword`).
    Any,
    /// No password is right: none is stored, or it is locked, or what is stored cannot be used.
    Never,
}

impl Secret {
    pub fn serves_scram(&self, digest: ScramDigest) -> bool {
        match self {
            Self::Stored(stored) => stored.serves_scram(digest),
            // Nobody logs in with it one way or another.
            Self::Never => true,
            Self::Any => false,
        }
    }
}

/// The database cannot be asked now; whether the user exists is unknown.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unavailable(pub String);

/// One user database. Blocking.
pub trait Passdb: Send + Sync {
    fn lookup(&self, user: &UserName) -> Result<Option<Entry>, Unavailable>;
    /// All users that can be listed.
    fn users(&self) -> Result<Vec<UserName>, Unavailable>;
    /// Whether every user it knew when last asked can log in by SCRAM over `digest`. Does not block.
    fn serves_scram(&self, digest: ScramDigest) -> bool;
}
