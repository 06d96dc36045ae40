//! Plain and salted digests, as LDAP directories store them: the digest, then the salt.

use md5::Md5;
use sha1::Sha1;
use sha2::{Digest, Sha256, Sha512};

use super::{Scheme, SchemeError, equal, salt};

/// Bytes of the digest, for the schemes that are one without salt.
pub(super) fn length(scheme: Scheme) -> Option<usize> {
    let (length, salted) = shape(scheme)?;
    (!salted).then_some(length)
}

pub(super) fn verify(scheme: Scheme, password: &[u8], stored: &[u8]) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed(scheme.name());
    let Some((length, salted)) = shape(scheme) else { return Err(malformed) };
    let Some((digest, salt)) = stored.split_at_checked(length) else { return Err(malformed) };
    if salted == salt.is_empty() {
        return Err(malformed);
    }
    Ok(equal(&compute(scheme, password, salt), digest))
}

pub(super) fn make(scheme: Scheme, password: &[u8]) -> Vec<u8> {
    let salt: [u8; 8] = salt();
    let salt = if shape(scheme).is_some_and(|(_, salted)| salted) { &salt[..] } else { &[] };
    let mut bytes = compute(scheme, password, salt);
    bytes.extend_from_slice(salt);
    bytes
}

/// Length of the digest, and whether salt follows it.
fn shape(scheme: Scheme) -> Option<(usize, bool)> {
    match scheme {
        Scheme::Ssha512 => Some((64, true)),
        Scheme::Ssha256 => Some((32, true)),
        Scheme::Ssha => Some((20, true)),
        Scheme::Smd5 => Some((16, true)),
        Scheme::Sha512 => Some((64, false)),
        Scheme::Sha256 => Some((32, false)),
        Scheme::Sha => Some((20, false)),
        Scheme::LdapMd5 | Scheme::PlainMd5 => Some((16, false)),
        Scheme::Argon2id
        | Scheme::Argon2i
        | Scheme::Bcrypt
        | Scheme::Sha512Crypt
        | Scheme::Sha256Crypt
        | Scheme::Crypt
        | Scheme::Pbkdf2
        | Scheme::ScramSha256
        | Scheme::ScramSha1
        | Scheme::Plain => None,
    }
}

fn compute(scheme: Scheme, password: &[u8], salt: &[u8]) -> Vec<u8> {
    match shape(scheme).map_or(0, |(length, _)| length) {
        64 => of::<Sha512>(password, salt),
        32 => of::<Sha256>(password, salt),
        20 => of::<Sha1>(password, salt),
        _ => of::<Md5>(password, salt),
    }
}

fn of<D: Digest>(password: &[u8], salt: &[u8]) -> Vec<u8> {
    D::new().chain_update(password).chain_update(salt).finalize().to_vec()
}
