//! Argon2 in PHC syntax: `$argon2id$v=19$m=65536,t=3,p=1$salt$hash`.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{Scheme, SchemeError, equal, salt};

/// Memory a stored hash may ask for.
const MEMORY_KIB_MAX: u32 = 1024 * 1024;
/// Memory times passes: what the work is made of. libsodium's "sensitive" (1 GiB, 4 passes) just fits.
const WORK_KIB_MAX: u64 = 4 * 1024 * 1024;
const LANES_MAX: u32 = 64;
const OUTPUT_BYTES_MAX: usize = 128;

/// What we write: OWASP's first recommendation, about 20 ms and 19 MiB.
const MEMORY_KIB: u32 = 19_456;
const PASSES: u32 = 2;
const LANES: u32 = 1;

const MALFORMED: SchemeError = SchemeError::Malformed("ARGON2");

struct Parsed {
    algorithm: Algorithm,
    version: Version,
    memory_kib: u32,
    passes: u32,
    lanes: u32,
    salt: Vec<u8>,
    output: Vec<u8>,
}

pub(super) fn verify(password: &[u8], text: &str) -> Result<bool, SchemeError> {
    let parsed = parse(text).ok_or(MALFORMED)?;
    let work = u64::from(parsed.memory_kib).saturating_mul(u64::from(parsed.passes));
    if parsed.memory_kib > MEMORY_KIB_MAX || work > WORK_KIB_MAX || parsed.lanes > LANES_MAX {
        return Err(SchemeError::TooCostly("ARGON2"));
    }
    if parsed.output.len() > OUTPUT_BYTES_MAX {
        return Err(MALFORMED);
    }
    let params = Params::new(parsed.memory_kib, parsed.passes, parsed.lanes, Some(parsed.output.len()))
        .map_err(|_| MALFORMED)?;
    let mut output = vec![0; parsed.output.len()];
    Argon2::new(parsed.algorithm, parsed.version, params)
        .hash_password_into(password, &parsed.salt, &mut output)
        .map_err(|_| MALFORMED)?;
    Ok(equal(&output, &parsed.output))
}

pub(super) fn make(scheme: Scheme, password: &[u8]) -> Result<String, SchemeError> {
    let (algorithm, name) = match scheme == Scheme::Argon2i {
        true => (Algorithm::Argon2i, "argon2i"),
        false => (Algorithm::Argon2id, "argon2id"),
    };
    let salt: [u8; 16] = salt();
    let mut output = [0; 32];
    let params = Params::new(MEMORY_KIB, PASSES, LANES, Some(output.len())).map_err(|_| MALFORMED)?;
    Argon2::new(algorithm, Version::V0x13, params)
        .hash_password_into(password, &salt, &mut output)
        .map_err(|_| SchemeError::Password)?;
    let (salt, output) = (STANDARD_NO_PAD.encode(salt), STANDARD_NO_PAD.encode(output));
    Ok(format!("${name}$v=19$m={MEMORY_KIB},t={PASSES},p={LANES}${salt}${output}"))
}

fn parse(text: &str) -> Option<Parsed> {
    let mut fields = text.strip_prefix('$')?.split('$');
    let algorithm = match fields.next()? {
        "argon2id" => Algorithm::Argon2id,
        "argon2i" => Algorithm::Argon2i,
        _ => return None,
    };
    let mut field = fields.next()?;
    let version = match field.strip_prefix("v=") {
        Some("19") => Version::V0x13,
        Some("16") | None => Version::V0x10,
        Some(_) => return None,
    };
    if field.starts_with("v=") {
        field = fields.next()?;
    }
    let (mut memory_kib, mut passes, mut lanes) = (None, None, None);
    for (name, value) in field.split(',').map(|pair| pair.split_once('=')).collect::<Option<Vec<_>>>()? {
        let value = value.parse().ok()?;
        match name {
            "m" => memory_kib = Some(value),
            "t" => passes = Some(value),
            "p" => lanes = Some(value),
            _ => return None,
        }
    }
    let salt = STANDARD_NO_PAD.decode(fields.next()?).ok()?;
    let output = STANDARD_NO_PAD.decode(fields.next()?).ok()?;
    if fields.next().is_some() {
        return None;
    }
    Some(Parsed { algorithm, version, memory_kib: memory_kib?, passes: passes?, lanes: lanes?, salt, output })
}
