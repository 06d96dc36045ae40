//! Values as bytes in the log, in snapshots and in the copy: a format version, then bincode.
//!
//! Invariants
//! - Bytes that were not written by [`encode`] of the same type give an error: trailing bytes, another version and
//!   lengths beyond the input are refused.

use std::io;

use bincode::Options;
use serde::Serialize;
use serde::de::DeserializeOwned;

const VERSION: u8 = 1;
/// Longest encoded value: a snapshot of a group with some millions of accounts.
const BYTES_MAX: u64 = 1 << 30;

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(BYTES_MAX)
}

pub fn encode<T: Serialize>(value: &T) -> io::Result<Vec<u8>> {
    let mut bytes = vec![VERSION];
    options().serialize_into(&mut bytes, value).map_err(io::Error::other)?;
    Ok(bytes)
}

/// How many bytes [`encode`] would make, without the version.
pub fn encoded_bytes<T: Serialize>(value: &T) -> io::Result<u64> {
    options().serialized_size(value).map_err(io::Error::other)
}

pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    match bytes.split_first() {
        Some((&VERSION, rest)) => {
            options().deserialize(rest).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
        }
        Some((version, _)) => Err(invalid(format!("format version {version}, expected {VERSION}"))),
        None => Err(invalid("empty value".to_owned())),
    }
}

pub fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_comes_back_and_nothing_else_is_one() {
        let bytes = encode(&(7u64, "seven".to_owned())).expect("encodes");
        assert_eq!(decode::<(u64, String)>(&bytes).expect("decodes"), (7, "seven".to_owned()));
        assert!(decode::<(u64, String)>(&[]).is_err());
        assert!(decode::<(u64, String)>(&bytes[..bytes.len() - 1]).is_err());
        let mut longer = bytes.clone();
        longer.push(0);
        assert!(decode::<(u64, String)>(&longer).is_err(), "trailing bytes");
        let mut newer = bytes;
        newer[0] = 2;
        assert!(decode::<(u64, String)>(&newer).is_err(), "another version");
    }

    #[test]
    fn a_length_beyond_the_input_allocates_nothing_and_fails() {
        // A string of 2^62 bytes.
        assert!(decode::<String>(&[VERSION, 253, 0, 0, 0, 0, 0, 0, 0, 64]).is_err());
    }
}
