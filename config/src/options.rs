//! What the user authentication is handed, made from the configuration.

use auth::{FixedOptions, PassdbOptions, PasswdFileOptions, PenaltyOptions, Scheme};

use crate::keys::{Auth, PassdbEntry};
use crate::value::{Driver, Plaintext};

impl Auth {
    /// The options of `auth`; `decoy_secret` is kept by the node, below its state directory.
    pub fn options(&self, decoy_secret: [u8; 32]) -> auth::Options {
        auth::Options {
            passdbs: self.passdb.iter().filter_map(passdb).collect(),
            mechanisms: self
                .mechanisms
                .iter()
                .filter_map(|mechanism| auth::Mechanism::from_name(mechanism.name()))
                .collect(),
            default_realm: self.default_realm.clone(),
            plaintext_without_tls: match self.plaintext_without_tls {
                Plaintext::Never => auth::Plaintext::Never,
                Plaintext::Loopback => auth::Plaintext::Loopback,
                Plaintext::Always => auth::Plaintext::Always,
            },
            penalty: PenaltyOptions {
                first: self.failure_delay,
                ceiling: self.failure_delay_max,
                forgive: self.failure_forgive,
                ..PenaltyOptions::default()
            },
            verifications_max: usize::try_from(self.hashes_max).unwrap_or(usize::MAX),
            decoy_secret,
            ..auth::Options::default()
        }
    }
}

/// `None` for what `check` has refused.
fn passdb(entry: &PassdbEntry) -> Option<PassdbOptions> {
    match entry.driver {
        Driver::PasswdFile => Some(PassdbOptions::PasswdFile(PasswdFileOptions {
            path: entry.path.clone()?,
            default_scheme: entry
                .default_scheme
                .as_deref()
                .and_then(Scheme::from_name)
                .unwrap_or(Scheme::Crypt),
        })),
        Driver::Static => Some(PassdbOptions::Static(FixedOptions {
            password: entry.password.clone()?,
            users: entry.users.clone().unwrap_or_default(),
        })),
        Driver::Sql | Driver::Ldap | Driver::Pam | Driver::Oauth2 | Driver::Lua => None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use super::*;
    use crate::load;
    use crate::value::Mechanism;

    #[test]
    fn what_the_file_says_is_what_auth_is_handed() {
        let text = r#"
            [auth]
            mechanisms = ["SCRAM-SHA-256", "PLAIN"]
            plaintext_without_tls = "never"
            default_realm = "example.org"
            failure_delay = "100ms"
            hashes_max = 3
            [[auth.passdb]]
            driver = "passwd-file"
            path = "users"
            default_scheme = "SSHA512"
            [[auth.passdb]]
            driver = "static"
            password = "{PLAIN}x"
            users = ["ada"]
        "#;
        let options = load(text, Path::new("/etc/roost.toml")).unwrap().auth.options([7; 32]);
        assert_eq!(options.mechanisms, [auth::Mechanism::ScramSha256, auth::Mechanism::Plain]);
        assert_eq!(options.plaintext_without_tls, auth::Plaintext::Never);
        assert_eq!(options.penalty.first, Duration::from_millis(100));
        assert_eq!((options.verifications_max, options.decoy_secret), (3, [7; 32]));
        let file = PasswdFileOptions { path: "/etc/users".into(), default_scheme: Scheme::Ssha512 };
        let fixed = FixedOptions { password: "{PLAIN}x".to_owned(), users: vec!["ada".to_owned()] };
        assert_eq!(options.passdbs, [PassdbOptions::PasswdFile(file), PassdbOptions::Static(fixed)]);
    }

    #[test]
    fn every_mechanism_that_passes_the_check_exists() {
        for mechanism in [Mechanism::Plain, Mechanism::Login, Mechanism::ScramSha256, Mechanism::ScramSha1] {
            assert!(auth::Mechanism::from_name(mechanism.name()).is_some());
        }
    }
}
