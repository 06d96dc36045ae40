//! Stored passwords: Dovecot's `{SCHEME}hash` syntax, checked and made.
//!
//! Invariants
//! - What is compared with a secret is compared in constant time.
//! - A stored hash cannot make us work without bound: each scheme has a ceiling, and what asks for more is refused
//!   before the work begins.
//! - Neither a password nor a hash is ever part of an error.

mod argon;
mod crypt;
mod digest;
mod pbkdf2_hex;
mod scram;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use subtle::ConstantTimeEq as _;

pub use scram::{ScramDigest, ScramKeys};

/// Passwords longer than this never match. It bounds SHA-crypt, whose work grows with the square of the length.
pub const PASSWORD_BYTES_MAX: usize = 1024;
/// Stored hashes longer than this are refused.
pub const HASH_BYTES_MAX: usize = 4096;

/// A way to store a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scheme {
    Argon2id,
    Argon2i,
    /// Dovecot's `BLF-CRYPT`.
    Bcrypt,
    Sha512Crypt,
    Sha256Crypt,
    /// Whatever the hash's own prefix says: `$6$`, `$2y$`, `$argon2id$` and so on.
    Crypt,
    Ssha512,
    Ssha256,
    Ssha,
    Sha512,
    Sha256,
    Sha,
    Smd5,
    /// `LDAP-MD5`: base64 of an MD5.
    LdapMd5,
    /// `PLAIN-MD5`: an MD5 in hex.
    PlainMd5,
    Pbkdf2,
    ScramSha256,
    ScramSha1,
    Plain,
}

/// Names that operators write, first the one we write.
const NAMES: &[(&str, Scheme)] = &[
    ("ARGON2ID", Scheme::Argon2id),
    ("ARGON2I", Scheme::Argon2i),
    ("BLF-CRYPT", Scheme::Bcrypt),
    ("BCRYPT", Scheme::Bcrypt),
    ("SHA512-CRYPT", Scheme::Sha512Crypt),
    ("SHA256-CRYPT", Scheme::Sha256Crypt),
    ("CRYPT", Scheme::Crypt),
    ("SSHA512", Scheme::Ssha512),
    ("SSHA256", Scheme::Ssha256),
    ("SSHA", Scheme::Ssha),
    ("SHA512", Scheme::Sha512),
    ("SHA256", Scheme::Sha256),
    ("SHA", Scheme::Sha),
    ("SHA1", Scheme::Sha),
    ("SMD5", Scheme::Smd5),
    ("LDAP-MD5", Scheme::LdapMd5),
    ("PLAIN-MD5", Scheme::PlainMd5),
    ("PBKDF2", Scheme::Pbkdf2),
    ("SCRAM-SHA-256", Scheme::ScramSha256),
    ("SCRAM-SHA-1", Scheme::ScramSha1),
    ("PLAIN", Scheme::Plain),
    ("CLEARTEXT", Scheme::Plain),
    ("CLEAR", Scheme::Plain),
];

impl Scheme {
    pub fn from_name(name: &str) -> Option<Self> {
        NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, scheme)| *scheme)
    }

    pub fn name(self) -> &'static str {
        NAMES.iter().find(|(_, scheme)| *scheme == self).map_or("CRYPT", |(name, _)| name)
    }

    /// All schemes, by the name we write.
    pub fn all() -> impl Iterator<Item = Self> {
        NAMES.iter().filter(|(name, scheme)| scheme.name() == *name).map(|(_, scheme)| *scheme)
    }
}

/// Why a stored password cannot be used. The operator mends the line that holds it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SchemeError {
    #[error("unknown password scheme {{{0}}}")]
    Unknown(String),
    #[error("the hash is not a valid {0} hash")]
    Malformed(&'static str),
    #[error("the {0} hash asks for more work than this server does for a login")]
    TooCostly(&'static str),
    #[error("passwords are 1 to {PASSWORD_BYTES_MAX} bytes, without NUL")]
    Password,
}

/// How the text after `{SCHEME.x}` is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Encoding {
    Default,
    Base64,
    Hex,
}

/// A stored password, taken apart and not yet checked.
#[derive(Clone, PartialEq, Eq)]
pub struct Stored {
    scheme: Scheme,
    encoding: Encoding,
    text: String,
}

impl std::fmt::Debug for Stored {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{{{}}}...", self.scheme.name())
    }
}

impl Stored {
    /// Takes `{SCHEME}hash` apart; without a prefix it is `default`.
    pub fn parse(text: &str, default: Scheme) -> Result<Self, SchemeError> {
        if text.len() > HASH_BYTES_MAX {
            return Err(SchemeError::Malformed(default.name()));
        }
        let Some((prefix, hash)) = text.strip_prefix('{').and_then(|rest| rest.split_once('}')) else {
            return Self::of(default, Encoding::Default, text);
        };
        let (name, encoding) = match prefix.rsplit_once('.') {
            Some((name, suffix)) if suffix.eq_ignore_ascii_case("hex") => (name, Encoding::Hex),
            Some((name, suffix))
                if suffix.eq_ignore_ascii_case("b64") || suffix.eq_ignore_ascii_case("base64") =>
            {
                (name, Encoding::Base64)
            }
            Some(_) | None => (prefix, Encoding::Default),
        };
        if name.eq_ignore_ascii_case("MD5") {
            // Dovecot's MD5 is either of these, told apart by length; `$1$` is too weak to be let in again.
            let scheme = if hash.len() == 32 { Scheme::PlainMd5 } else { Scheme::LdapMd5 };
            return Self::of(scheme, encoding, hash);
        }
        let scheme =
            Scheme::from_name(name).ok_or_else(|| SchemeError::Unknown(name.chars().take(40).collect()))?;
        Self::of(scheme, encoding, hash)
    }

    fn of(scheme: Scheme, encoding: Encoding, hash: &str) -> Result<Self, SchemeError> {
        let stored = Self { scheme, encoding, text: hash.to_owned() };
        if scheme == Scheme::Crypt {
            let text = stored.as_text()?;
            let scheme = crypt::recognise(&text).ok_or(SchemeError::Malformed("CRYPT"))?;
            return Ok(Self { scheme, encoding: Encoding::Default, text });
        }
        Ok(stored)
    }

    pub fn scheme(&self) -> Scheme {
        self.scheme
    }

    /// Whether `password` is the one stored. Slow by design for most schemes: not for an async thread.
    pub fn verify(&self, password: &str) -> Result<bool, SchemeError> {
        if !is_password(password) {
            return Ok(false);
        }
        let bytes = password.as_bytes();
        match self.scheme {
            Scheme::Argon2id | Scheme::Argon2i => argon::verify(bytes, &self.as_text()?),
            Scheme::Bcrypt => crypt::verify_bcrypt(bytes, &self.as_text()?),
            Scheme::Sha512Crypt | Scheme::Sha256Crypt | Scheme::Crypt => {
                crypt::verify_sha(bytes, &self.as_text()?)
            }
            Scheme::Pbkdf2 => pbkdf2_hex::verify(bytes, &self.as_text()?),
            Scheme::ScramSha256 | Scheme::ScramSha1 => {
                Ok(self.scram_keys_stored()?.ok_or(SchemeError::Malformed("SCRAM"))?.verify(bytes))
            }
            Scheme::Plain => Ok(equal(bytes, self.as_text()?.as_bytes())),
            Scheme::Ssha512
            | Scheme::Ssha256
            | Scheme::Ssha
            | Scheme::Sha512
            | Scheme::Sha256
            | Scheme::Sha
            | Scheme::Smd5
            | Scheme::LdapMd5
            | Scheme::PlainMd5 => digest::verify(self.scheme, bytes, &self.as_bytes()?),
        }
    }

    /// Whether this password can serve a SCRAM conversation over `digest`.
    pub fn serves_scram(&self, digest: ScramDigest) -> bool {
        match self.scheme {
            Scheme::Plain => true,
            Scheme::ScramSha256 => digest == ScramDigest::Sha256,
            Scheme::ScramSha1 => digest == ScramDigest::Sha1,
            Scheme::Argon2id
            | Scheme::Argon2i
            | Scheme::Bcrypt
            | Scheme::Sha512Crypt
            | Scheme::Sha256Crypt
            | Scheme::Crypt
            | Scheme::Ssha512
            | Scheme::Ssha256
            | Scheme::Ssha
            | Scheme::Sha512
            | Scheme::Sha256
            | Scheme::Sha
            | Scheme::Smd5
            | Scheme::LdapMd5
            | Scheme::PlainMd5
            | Scheme::Pbkdf2 => false,
        }
    }

    /// The keys for a SCRAM conversation: those stored, or those that follow from a plain password and `salt`.
    pub fn scram_keys(&self, digest: ScramDigest, salt: &[u8]) -> Result<Option<ScramKeys>, SchemeError> {
        if !self.serves_scram(digest) {
            return Ok(None);
        }
        if self.scheme == Scheme::Plain {
            let text = self.as_text()?;
            return Ok(Some(ScramKeys::derive(digest, text.as_bytes(), salt, scram::ITERATIONS)));
        }
        self.scram_keys_stored()
    }

    fn scram_keys_stored(&self) -> Result<Option<ScramKeys>, SchemeError> {
        let digest = if self.scheme == Scheme::ScramSha1 { ScramDigest::Sha1 } else { ScramDigest::Sha256 };
        ScramKeys::parse(digest, &self.as_text()?).map(Some)
    }

    /// The hash of a scheme whose hash is text.
    fn as_text(&self) -> Result<String, SchemeError> {
        match self.encoding {
            Encoding::Default => Ok(self.text.clone()),
            Encoding::Base64 | Encoding::Hex => {
                String::from_utf8(self.as_bytes()?).map_err(|_| SchemeError::Malformed(self.scheme.name()))
            }
        }
    }

    /// The hash of a scheme whose hash is bytes. Without a suffix it is base64, or hex if its length says so.
    fn as_bytes(&self) -> Result<Vec<u8>, SchemeError> {
        let malformed = || SchemeError::Malformed(self.scheme.name());
        let hex_length = digest::length(self.scheme).and_then(|length| length.checked_mul(2));
        let hex = match self.encoding {
            Encoding::Hex => true,
            Encoding::Base64 => false,
            Encoding::Default => hex_length == Some(self.text.len()),
        };
        if hex {
            return unhex(&self.text).ok_or_else(malformed);
        }
        STANDARD_NO_PAD.decode(self.text.trim_end_matches('=')).map_err(|_| malformed())
    }
}

/// Whether `password` is what `text` (`{SCHEME}hash`) stores.
pub fn verify(password: &str, text: &str, default: Scheme) -> Result<bool, SchemeError> {
    Stored::parse(text, default)?.verify(password)
}

/// Makes `{SCHEME}hash` of a password, with fresh salt.
pub fn hash(scheme: Scheme, password: &str) -> Result<String, SchemeError> {
    if !is_password(password) {
        return Err(SchemeError::Password);
    }
    let bytes = password.as_bytes();
    let text = match scheme {
        Scheme::Argon2id | Scheme::Argon2i => argon::make(scheme, bytes)?,
        Scheme::Bcrypt => crypt::make_bcrypt(bytes)?,
        Scheme::Sha512Crypt | Scheme::Crypt => crypt::make_sha(sha_crypt::ShaCrypt::SHA512, bytes)?,
        Scheme::Sha256Crypt => crypt::make_sha(sha_crypt::ShaCrypt::SHA256, bytes)?,
        Scheme::Pbkdf2 => pbkdf2_hex::make(bytes),
        Scheme::ScramSha256 => ScramKeys::fresh(ScramDigest::Sha256, bytes).to_string(),
        Scheme::ScramSha1 => ScramKeys::fresh(ScramDigest::Sha1, bytes).to_string(),
        Scheme::Plain => password.to_owned(),
        Scheme::PlainMd5 => hex(&digest::make(scheme, bytes)),
        Scheme::Ssha512
        | Scheme::Ssha256
        | Scheme::Ssha
        | Scheme::Sha512
        | Scheme::Sha256
        | Scheme::Sha
        | Scheme::Smd5
        | Scheme::LdapMd5 => STANDARD.encode(digest::make(scheme, bytes)),
    };
    Ok(format!("{{{}}}{text}", scheme.name()))
}

/// Whether this can be a password at all. NUL ends a password in some schemes and not in others: refused in all.
pub fn is_password(password: &str) -> bool {
    !password.is_empty() && password.len() <= PASSWORD_BYTES_MAX && !password.contains('\0')
}

fn equal(left: &[u8], right: &[u8]) -> bool {
    left.ct_eq(right).into()
}

fn salt<const N: usize>() -> [u8; N] {
    let mut salt = [0; N];
    rand::fill(&mut salt);
    salt
}

fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    let nibble = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    rest.is_empty()
        .then(|| pairs.iter().map(|[high, low]| Some(nibble(*high)? << 4 | nibble(*low)?)).collect())?
}

#[cfg(test)]
mod tests;
