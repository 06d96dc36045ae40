//! A user's name in the one form that the rest of the product sees.
//!
//! Invariants
//! - ASCII letters are lower-case, and a name without a domain has got the default realm, if there is one.
//! - Nothing in it can climb out of a directory that is named after it.

use std::fmt;
use std::sync::Arc;

/// As long as an address may be (RFC 5321 §4.5.3.1, with room).
pub const USER_BYTES_MAX: usize = 320;

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserName(Arc<str>);

/// Why a text is not a user's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameRefused {
    #[error("a user name is 1 to {USER_BYTES_MAX} bytes")]
    Length,
    #[error("a user name has no spaces, control characters or slashes")]
    Character,
    #[error(
        "a user name has one @ at most, and something on both sides of it that does not start with a dot"
    )]
    Part,
    #[error("a user name has no two dots in a row")]
    Dots,
}

impl UserName {
    pub fn parse(text: &str, default_realm: Option<&str>) -> Result<Self, NameRefused> {
        let mut name = text.to_ascii_lowercase();
        if let Some(realm) = default_realm.filter(|realm| !realm.is_empty() && !name.contains('@')) {
            if name.is_empty() {
                return Err(NameRefused::Length);
            }
            name = format!("{name}@{}", realm.to_ascii_lowercase());
        }
        if name.is_empty() || name.len() > USER_BYTES_MAX {
            return Err(NameRefused::Length);
        }
        if name.chars().any(|c| c.is_control() || c.is_whitespace() || matches!(c, '/' | '\\')) {
            return Err(NameRefused::Character);
        }
        if name.contains("..") {
            return Err(NameRefused::Dots);
        }
        let parts: Vec<&str> = name.split('@').collect();
        if parts.len() > 2 || parts.iter().any(|part| part.is_empty() || part.starts_with('.')) {
            return Err(NameRefused::Part);
        }
        Ok(Self(name.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    pub fn local(&self) -> &str {
        self.0.split_once('@').map_or(&*self.0, |(local, _)| local)
    }

    pub fn domain(&self) -> Option<&str> {
        self.0.split_once('@').map(|(_, domain)| domain)
    }
}

impl fmt::Display for UserName {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_lower_case_and_gets_the_realm_it_lacks() {
        let name = UserName::parse("Ada@Example.ORG", Some("other.org")).unwrap();
        assert_eq!(
            (name.as_str(), name.local(), name.domain()),
            ("ada@example.org", "ada", Some("example.org"))
        );
        assert_eq!(UserName::parse("Ada", Some("Example.org")).unwrap().as_str(), "ada@example.org");
        assert_eq!(UserName::parse("Ada", None).unwrap().domain(), None);
        assert_eq!(UserName::parse("ünal@example.org", None).unwrap().local(), "ünal");
    }

    #[test]
    fn a_name_that_could_climb_or_confuse_is_refused() {
        for text in [
            "", "@", "a@", "@b", "a@b@c", "a/b", "../a", "a..b", ".", ".roost", "a@.b", "a b", "a\0", "a\n",
            "a\\b", "a\u{a0}b", "a\u{85}",
        ] {
            assert!(UserName::parse(text, None).is_err(), "{text:?}");
        }
        assert!(UserName::parse("", Some("example.org")).is_err());
        assert!(UserName::parse(&"a".repeat(USER_BYTES_MAX + 1), None).is_err());
    }
}
