//! What a server keeps for SCRAM (RFC 5802 §3): from it nobody can log in, and a plain password can be checked.
//!
//! Dovecot writes it `iterations,salt,StoredKey,ServerKey`, the last three in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha1::Sha1;
use sha2::{Digest as _, Sha256};
use unicode_normalization::UnicodeNormalization as _;

use super::{SchemeError, equal, salt};

/// RFC 7677 §4 asks for 4096 at least; Dovecot writes as many, so a user who does not exist looks like one of its.
pub(super) const ITERATIONS: u32 = 4096;
const ITERATIONS_MAX: u32 = 2_000_000;
const SALT_BYTES_MAX: usize = 128;

const MALFORMED: SchemeError = SchemeError::Malformed("SCRAM");

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScramDigest {
    Sha256,
    Sha1,
}

impl ScramDigest {
    /// H() of RFC 5802.
    pub fn digest(self, bytes: &[u8]) -> Vec<u8> {
        match self {
            Self::Sha256 => Sha256::digest(bytes).to_vec(),
            Self::Sha1 => Sha1::digest(bytes).to_vec(),
        }
    }

    /// HMAC() of RFC 5802.
    pub fn hmac(self, key: &[u8], bytes: &[u8]) -> Vec<u8> {
        // HMAC takes a key of any length; an empty answer equals no digest.
        match self {
            Self::Sha256 => Hmac::<Sha256>::new_from_slice(key)
                .map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec())
                .unwrap_or_default(),
            Self::Sha1 => Hmac::<Sha1>::new_from_slice(key)
                .map(|mac| mac.chain_update(bytes).finalize().into_bytes().to_vec())
                .unwrap_or_default(),
        }
    }

    /// Hi() of RFC 5802.
    fn salted(self, password: &[u8], salt: &[u8], iterations: u32) -> Vec<u8> {
        match self {
            Self::Sha256 => pbkdf2::pbkdf2_hmac_array::<Sha256, 32>(password, salt, iterations).to_vec(),
            Self::Sha1 => pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password, salt, iterations).to_vec(),
        }
    }

    fn length(self) -> usize {
        match self {
            Self::Sha256 => 32,
            Self::Sha1 => 20,
        }
    }
}

/// StoredKey and ServerKey, and how they were made.
#[derive(Clone, PartialEq, Eq)]
pub struct ScramKeys {
    pub digest: ScramDigest,
    pub iterations: u32,
    pub salt: Vec<u8>,
    pub stored_key: Vec<u8>,
    pub server_key: Vec<u8>,
}

impl std::fmt::Debug for ScramKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ScramKeys({:?}, ...)", self.digest)
    }
}

impl std::fmt::Display for ScramKeys {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [salt, stored, server] =
            [&self.salt, &self.stored_key, &self.server_key].map(|key| STANDARD.encode(key));
        write!(formatter, "{},{salt},{stored},{server}", self.iterations)
    }
}

impl ScramKeys {
    pub(super) fn parse(digest: ScramDigest, text: &str) -> Result<Self, SchemeError> {
        let fields: Vec<&str> = text.split(',').collect();
        let [iterations, salt, stored_key, server_key] = fields[..] else { return Err(MALFORMED) };
        let iterations = iterations.parse::<u32>().ok().filter(|count| *count > 0).ok_or(MALFORMED)?;
        if iterations > ITERATIONS_MAX {
            return Err(SchemeError::TooCostly("SCRAM"));
        }
        let decode = |field: &str| STANDARD.decode(field).map_err(|_| MALFORMED);
        let (salt, stored_key, server_key) = (decode(salt)?, decode(stored_key)?, decode(server_key)?);
        let length = digest.length();
        if stored_key.len() != length
            || server_key.len() != length
            || salt.is_empty()
            || salt.len() > SALT_BYTES_MAX
        {
            return Err(MALFORMED);
        }
        Ok(Self { digest, iterations, salt, stored_key, server_key })
    }

    /// RFC 5802 §3: the keys that follow from a password.
    pub fn derive(digest: ScramDigest, password: &[u8], salt: &[u8], iterations: u32) -> Self {
        let salted = digest.salted(&prepared(password), salt, iterations);
        let client_key = digest.hmac(&salted, b"Client Key");
        Self {
            digest,
            iterations,
            salt: salt.to_vec(),
            stored_key: digest.digest(&client_key),
            server_key: digest.hmac(&salted, b"Server Key"),
        }
    }

    pub(super) fn fresh(digest: ScramDigest, password: &[u8]) -> Self {
        Self::derive(digest, password, &salt::<16>(), ITERATIONS)
    }

    /// Keys of a user who has none: the salt is always the same for one name, and no password fits, being random.
    pub fn decoy(digest: ScramDigest, salt: &[u8]) -> Self {
        Self::derive(digest, &super::salt::<32>(), salt, ITERATIONS)
    }

    pub(super) fn verify(&self, password: &[u8]) -> bool {
        let derived = Self::derive(self.digest, password, &self.salt, self.iterations);
        equal(&derived.stored_key, &self.stored_key)
    }
}

/// What SASLprep (RFC 4013 §2) makes of a password: NFKC, unusual spaces as spaces, soft hyphens and joiners dropped.
/// Characters it would forbid stay: they harm nobody in a password.
fn prepared(password: &[u8]) -> Vec<u8> {
    match std::str::from_utf8(password) {
        Ok(text) if !text.is_ascii() => text
            .chars()
            .filter(|c| !matches!(c, '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}' | '\u{feff}' | '\u{fe00}'..='\u{fe0f}'))
            .map(|c| if c.is_whitespace() && !c.is_ascii() { ' ' } else { c })
            .nfkc()
            .collect::<String>()
            .into_bytes(),
        Ok(_) | Err(_) => password.to_vec(),
    }
}
