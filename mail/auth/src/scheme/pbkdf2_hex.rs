//! Dovecot's PBKDF2: `$1$salt$rounds$hex`, HMAC-SHA-1, 20 bytes.

use sha1::Sha1;

use super::{SchemeError, equal, hex, salt, unhex};

const ROUNDS_MAX: u32 = 5_000_000;
const ROUNDS: u32 = 100_000;

pub(super) fn verify(password: &[u8], text: &str) -> Result<bool, SchemeError> {
    let malformed = SchemeError::Malformed("PBKDF2");
    let mut fields = text.strip_prefix("$1$").unwrap_or_default().splitn(3, '$');
    let (Some(salt), Some(rounds), Some(stored)) = (fields.next(), fields.next(), fields.next()) else {
        return Err(malformed);
    };
    let (Ok(rounds @ 1..), Some(stored)) = (rounds.parse::<u32>(), unhex(stored)) else {
        return Err(malformed);
    };
    if rounds > ROUNDS_MAX {
        return Err(SchemeError::TooCostly("PBKDF2"));
    }
    if stored.len() != 20 {
        return Err(malformed);
    }
    Ok(equal(&pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password, salt.as_bytes(), rounds), &stored))
}

pub(super) fn make(password: &[u8]) -> String {
    let salt = hex(&salt::<8>());
    let output = pbkdf2::pbkdf2_hmac_array::<Sha1, 20>(password, salt.as_bytes(), ROUNDS);
    format!("$1${salt}${ROUNDS}${}", hex(&output))
}
