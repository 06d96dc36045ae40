//! What crypt(3) writes: bcrypt and SHA-crypt, recognised by the prefix of the hash.

use sha_crypt::{CustomizedPasswordHasher as _, Params, PasswordHashRef, PasswordVerifier as _, ShaCrypt};

use super::{Scheme, SchemeError, salt};

/// About ten seconds of work; each step doubles it.
const BCRYPT_COST_MAX: u32 = 16;
/// About 70 ms.
const BCRYPT_COST: u32 = 10;
/// A few seconds of work.
const SHA_ROUNDS_MAX: u32 = 2_000_000;
const SHA_ROUNDS: u32 = 100_000;

/// The scheme that a hash without `{SCHEME}` is of.
pub(super) fn recognise(text: &str) -> Option<Scheme> {
    [
        ("$2a$", Scheme::Bcrypt),
        ("$2b$", Scheme::Bcrypt),
        ("$2y$", Scheme::Bcrypt),
        ("$5$", Scheme::Sha256Crypt),
        ("$6$", Scheme::Sha512Crypt),
        ("$argon2id$", Scheme::Argon2id),
        ("$argon2i$", Scheme::Argon2i),
    ]
    .into_iter()
    .find_map(|(prefix, scheme)| text.starts_with(prefix).then_some(scheme))
}

pub(super) fn verify_bcrypt(password: &[u8], text: &str) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed("BLF-CRYPT");
    if recognise(text) != Some(Scheme::Bcrypt) {
        return Err(malformed);
    }
    let cost = text.split('$').nth(2).and_then(|cost| cost.parse::<u32>().ok());
    if cost.is_some_and(|cost| cost > BCRYPT_COST_MAX) {
        return Err(SchemeError::TooCostly("BLF-CRYPT"));
    }
    bcrypt::verify(password, text).map_err(|_| malformed)
}

pub(super) fn make_bcrypt(password: &[u8]) -> Result<String, SchemeError> {
    let parts = bcrypt::hash_with_salt(password, BCRYPT_COST, salt()).map_err(|_| SchemeError::Password)?;
    Ok(parts.format_for_version(bcrypt::Version::TwoY))
}

pub(super) fn verify_sha(password: &[u8], text: &str) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed("SHA-CRYPT");
    if !matches!(recognise(text), Some(Scheme::Sha256Crypt | Scheme::Sha512Crypt)) {
        return Err(malformed);
    }
    let rounds = text.split('$').nth(2).and_then(|field| field.strip_prefix("rounds="));
    if rounds.is_some_and(|rounds| rounds.parse::<u32>().is_ok_and(|rounds| rounds > SHA_ROUNDS_MAX)) {
        return Err(SchemeError::TooCostly("SHA-CRYPT"));
    }
    let hash = PasswordHashRef::new(text).map_err(|_| SchemeError::Malformed("SHA-CRYPT"))?;
    match ShaCrypt::SHA512.verify_password(password, hash) {
        Ok(()) => Ok(true),
        Err(sha_crypt::password_hash::Error::PasswordInvalid) => Ok(false),
        Err(_) => Err(malformed),
    }
}

pub(super) fn make_sha(kind: ShaCrypt, password: &[u8]) -> Result<String, SchemeError> {
    let params = Params::new(SHA_ROUNDS).map_err(|_| SchemeError::Malformed("SHA-CRYPT"))?;
    let algorithm = if kind == ShaCrypt::SHA256 { "5" } else { "6" };
    // Twelve bytes are the sixteen characters of salt that the algorithm uses.
    let hash = kind
        .hash_password_customized(password, &salt::<12>(), Some(algorithm), None, params)
        .map_err(|_| SchemeError::Password)?;
    Ok(hash.to_string())
}
