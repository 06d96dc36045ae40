//! The `static` driver: one password for everybody, or for a list of users. For tests and demonstrations.

use super::{Entry, Passdb, Secret, Unavailable};
use crate::scheme::{Scheme, SchemeError, ScramDigest, Stored};
use crate::user::UserName;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FixedOptions {
    /// `{SCHEME}hash`, or the password itself.
    pub password: String,
    /// The users there are; empty: whoever is asked for exists.
    pub users: Vec<String>,
}

#[derive(Debug)]
pub struct Fixed {
    password: Stored,
    users: Vec<UserName>,
    everybody: bool,
}

impl Fixed {
    pub fn new(options: &FixedOptions, default_realm: Option<&str>) -> Result<Self, SchemeError> {
        let users = options.users.iter().filter_map(|user| match UserName::parse(user, default_realm) {
            Ok(user) => Some(user),
            Err(error) => {
                tracing::warn!(user, %error, "passdb static: this user is left out");
                None
            }
        });
        Ok(Self {
            password: Stored::parse(&options.password, Scheme::Plain)?,
            users: users.collect(),
            everybody: options.users.is_empty(),
        })
    }
}

impl Passdb for Fixed {
    fn lookup(&self, user: &UserName) -> Result<Option<Entry>, Unavailable> {
        let known = self.everybody || self.users.contains(user);
        Ok(known.then(|| Entry {
            user: user.clone(),
            password: Secret::Stored(self.password.clone()),
            home: None,
            allow_nets: None,
            nologin: false,
            extra: Default::default(),
        }))
    }

    fn users(&self) -> Result<Vec<UserName>, Unavailable> {
        Ok(self.users.clone())
    }

    fn serves_scram(&self, digest: ScramDigest) -> bool {
        self.password.serves_scram(digest)
    }
}
