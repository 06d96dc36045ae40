//! From a user to an account: its id, and where it lies below the mail root.

use std::path::{Component, Path, PathBuf};

use auth::{UserName, UserRecord};
use model::AccountId;

/// The accounts of one federation of sites derive their ids with this name (`replication.md` §1).
const FEDERATION: &str = "roost";

/// `mail.account_dir`, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Homes {
    root: PathBuf,
    pattern: String,
}

/// Why a user has no place.
#[derive(Debug, thiserror::Error)]
pub enum NoHome {
    #[error("user {0} has no domain, and mail.account_dir asks for one")]
    NoDomain(String),
    #[error("the home of user {0} would leave the mail root")]
    Outside(String),
}

impl Homes {
    pub fn new(root: PathBuf, pattern: String) -> Self {
        Self { root, pattern }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The account's home. A home in the user database wins; relative ones are below the root.
    pub fn home(&self, record: &UserRecord) -> Result<PathBuf, NoHome> {
        let user = &record.user;
        if let Some(home) = &record.home {
            return Ok(self.root.join(home));
        }
        let relative = self.expand(user)?;
        let inside = Path::new(&relative).components().all(|part| matches!(part, Component::Normal(_)));
        if inside && !relative.is_empty() {
            Ok(self.root.join(relative))
        } else {
            Err(NoHome::Outside(user.as_str().to_owned()))
        }
    }

    fn expand(&self, user: &UserName) -> Result<String, NoHome> {
        let mut path = self.pattern.replace("{user}", user.as_str()).replace("{local}", user.local());
        if path.contains("{domain}") {
            let domain = user.domain().ok_or_else(|| NoHome::NoDomain(user.as_str().to_owned()))?;
            path = path.replace("{domain}", domain);
        }
        let hash = account_id(user).to_string();
        for digits in 1..=8 {
            path = path.replace(&format!("{{hash:{digits}}}"), &hash[..digits]);
        }
        Ok(path)
    }
}

pub fn account_id(user: &UserName) -> AccountId {
    AccountId::derive(FEDERATION, user.as_str(), 0)
}
