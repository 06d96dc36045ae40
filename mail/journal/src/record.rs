//! The bytes of one record.
//!
//! ```text
//! length  u32   bytes after the checksum
//! crc     u32   CRC-32 of the length and of all that follows the checksum
//! version u8    of what follows (R-OP3), and in its highest bit whether more of the same sync follows
//! lsn     u64   position
//! synced  u32   bytes of this segment that were synced when this record was written
//! payload       `model::Record`, bincode
//! ```
//!
//! `synced` is what tells damage from a torn end. A batch that was never synced may arrive in any part and order; but
//! when a record says that the bytes at some offset were synced before it was written, and they are not readable, then
//! something acknowledged is gone.
//!
//! Invariants
//! - Decoding never panics, whatever the bytes, and allocates no more than they justify.
//! - A whole record (its checksum holds) that this program cannot read is never taken for a torn one: it was written
//!   by a newer version, and dropping it would lose it.

use bincode::Options;
use model::Record;

/// Longest payload. An operation that names more entries than this holds is split by its issuer.
pub const RECORD_BYTES_MAX: u32 = 16 << 20;

/// Of the payload and of the fields before it.
pub const VERSION: u8 = 1;

/// In the version byte: the record is not the last of its sync. All of them count, or none: a request can be several
/// records, and a crash must not leave half of it.
const MORE: u8 = 0x80;

/// Length and checksum.
const FRAME_BYTES: usize = 8;
/// Version, position, synced length.
const FIELDS_BYTES: usize = 13;

/// A record with its place, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Framed {
    pub lsn: u64,
    pub synced: u32,
    /// Whether more of the same sync follows.
    pub more: bool,
    pub record: Record,
    /// All bytes of it.
    pub length: usize,
}

/// Why there is no record at a position. Positions count from the beginning of the bytes given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Damage {
    /// The bytes end before the record does.
    #[error("torn record at {0}")]
    Torn(usize),
    /// The bytes of a record are all there, and wrong.
    #[error("garbled record at {0}")]
    Garbled(usize),
    /// The checksum holds, but the content is not for this version of the program.
    #[error("record at {position} of version {version}, which this program cannot read")]
    Foreign { position: usize, version: u8 },
}

/// Why a record cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    #[error("record of more than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    #[error("record cannot be encoded: {0}")]
    Encoding(#[source] bincode::Error),
}

fn options() -> impl Options {
    bincode::DefaultOptions::new().with_limit(u64::from(RECORD_BYTES_MAX))
}

/// Appends a record's bytes. On an error nothing was appended.
pub fn encode(into: &mut Vec<u8>, lsn: u64, synced: u32, record: &Record) -> Result<(), EncodeError> {
    let payload = options().serialize(record).map_err(|error| {
        if matches!(*error, bincode::ErrorKind::SizeLimit) {
            EncodeError::TooLong
        } else {
            EncodeError::Encoding(error)
        }
    })?;
    let length = u32::try_from(FIELDS_BYTES + payload.len()).map_err(|_| EncodeError::TooLong)?;
    let start = into.len();
    into.extend_from_slice(&length.to_le_bytes());
    into.extend_from_slice(&[0; 4]);
    into.push(VERSION);
    into.extend_from_slice(&lsn.to_le_bytes());
    into.extend_from_slice(&synced.to_le_bytes());
    into.extend_from_slice(&payload);
    let crc = checksum(length, &into[start + FRAME_BYTES..]);
    into[start + 4..start + FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    Ok(())
}

/// Notes on the record at `start` that another of the same sync follows it.
pub fn note_more(bytes: &mut [u8], start: usize) {
    let Some(rest) = bytes.get_mut(start..) else { return };
    let Some((length, _)) = frame(rest) else { return };
    let end = FRAME_BYTES.saturating_add(usize::try_from(length).unwrap_or(usize::MAX));
    if let Some(body) = rest.get_mut(FRAME_BYTES..end) {
        body[0] |= MORE;
        let crc = checksum(length, body);
        rest[4..FRAME_BYTES].copy_from_slice(&crc.to_le_bytes());
    }
}

/// Reads the record at `position`; `None` at the end of the bytes.
pub fn decode(bytes: &[u8], position: usize) -> Result<Option<Framed>, Damage> {
    let rest = bytes.get(position..).unwrap_or_default();
    if rest.is_empty() {
        return Ok(None);
    }
    let (length, crc) = frame(rest).ok_or(Damage::Torn(position))?;
    let body_length = usize::try_from(length).unwrap_or(usize::MAX);
    if !plausible(body_length) {
        return Err(Damage::Garbled(position));
    }
    let body = rest.get(FRAME_BYTES..FRAME_BYTES + body_length).ok_or(Damage::Torn(position))?;
    if checksum(length, body) != crc {
        return Err(Damage::Garbled(position));
    }
    let (version, lsn, synced, payload) = fields(body).ok_or(Damage::Garbled(position))?;
    let more = version & MORE != 0;
    let version = version & !MORE;
    let foreign = Damage::Foreign { position, version };
    if version != VERSION {
        return Err(foreign);
    }
    let record = options().deserialize(payload).map_err(|_| foreign)?;
    Ok(Some(Framed { lsn, synced, more, record, length: FRAME_BYTES + body_length }))
}

/// Finds the first whole record at or after `from`, of a position that may come after `after`; any, if that is `None`.
///
/// Cheap tests come first, so that only few offsets of arbitrary bytes are ever checksummed.
pub fn find(bytes: &[u8], from: usize, after: Option<u64>) -> Option<(usize, Framed)> {
    let likely = |position: &usize| {
        let rest = bytes.get(*position..).unwrap_or_default();
        let length = frame(rest).and_then(|(length, _)| usize::try_from(length).ok());
        let fits = length.is_some_and(|length| plausible(length) && length <= rest.len() - FRAME_BYTES);
        let fields = rest.get(FRAME_BYTES..).and_then(fields);
        // A record has more than one byte: so many positions at most lie between.
        let most = bytes.len() as u64;
        let near = |lsn: u64| after.is_none_or(|after| lsn > after && lsn - after <= most);
        fits && fields.is_some_and(|(version, lsn, _, _)| version & !MORE == VERSION && near(lsn))
    };
    (from..bytes.len())
        .filter(likely)
        .find_map(|position| decode(bytes, position).ok().flatten().map(|framed| (position, framed)))
}

fn plausible(body_length: usize) -> bool {
    (FIELDS_BYTES + 1..=FIELDS_BYTES + RECORD_BYTES_MAX as usize).contains(&body_length)
}

fn frame(rest: &[u8]) -> Option<(u32, u32)> {
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let (crc, _) = rest.split_first_chunk::<4>()?;
    Some((u32::from_le_bytes(*length), u32::from_le_bytes(*crc)))
}

fn fields(body: &[u8]) -> Option<(u8, u64, u32, &[u8])> {
    let (version, rest) = body.split_first()?;
    let (lsn, rest) = rest.split_first_chunk::<8>()?;
    let (synced, payload) = rest.split_first_chunk::<4>()?;
    Some((*version, u64::from_le_bytes(*lsn), u32::from_le_bytes(*synced), payload))
}

fn checksum(length: u32, body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&length.to_le_bytes());
    hasher.update(body);
    hasher.finalize()
}

#[cfg(test)]
mod tests {
    use model::{Clock, Dot, Op, ReplicaId, SiteId};
    use proptest::prelude::*;

    use super::*;

    fn record(name: String) -> Record {
        let site = SiteId::new(3).unwrap();
        let stamp = Clock::new(site).issue(model::clock::STAMP_EPOCH_UNIX_MS + 5);
        let dot = Dot::new(ReplicaId::new(site, 1), 9).unwrap();
        Record { dot, stamp, modseq: stamp.into(), op: Op::Subscribe { name, on: true } }
    }

    fn encoded(lsn: u64, synced: u32, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        encode(&mut bytes, lsn, synced, &record(name.to_owned())).unwrap();
        bytes
    }

    #[test]
    fn a_record_too_long_is_refused_before_anything_is_written() {
        let mut bytes = vec![7];
        let long = record("x".repeat(RECORD_BYTES_MAX as usize));
        assert!(matches!(encode(&mut bytes, 1, 0, &long), Err(EncodeError::TooLong)));
        assert_eq!(bytes, [7]);
    }

    #[test]
    fn a_record_of_a_newer_version_is_not_taken_for_a_torn_one() {
        let mut bytes = encoded(1, 0, "x");
        bytes[FRAME_BYTES] = VERSION + 1;
        let length = u32::try_from(bytes.len() - FRAME_BYTES).unwrap();
        let crc = checksum(length, &bytes[FRAME_BYTES..]);
        bytes[4..8].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(decode(&bytes, 0), Err(Damage::Foreign { position: 0, version: VERSION + 1 }));
    }

    #[test]
    fn a_record_says_whether_more_of_its_sync_follows() {
        let mut bytes = encoded(1, 0, "x");
        note_more(&mut bytes, 0);
        assert!(decode(&bytes, 0).unwrap().unwrap().more);
        assert_eq!(find(&bytes, 0, None).map(|(position, framed)| (position, framed.lsn)), Some((0, 1)));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(lsn: u64, synced: u32, name in ".{0,40}") {
            let bytes = encoded(lsn, synced, &name);
            let framed = decode(&bytes, 0).unwrap().unwrap();
            prop_assert_eq!(framed, Framed { lsn, synced, more: false, record: record(name), length: bytes.len() });
            prop_assert_eq!(decode(&bytes, bytes.len()), Ok(None));
        }

        #[test]
        fn a_changed_byte_or_a_missing_one_is_noticed(at: prop::sample::Index, flip in 1_u8.., cut: prop::sample::Index) {
            let whole = encoded(5, 77, "Entwürfe");
            let mut changed = whole.clone();
            changed[at.index(whole.len())] ^= flip;
            prop_assert!(decode(&changed, 0).is_err());
            let cut = cut.index(whole.len());
            prop_assert_eq!(decode(&whole[..cut], 0), if cut == 0 { Ok(None) } else { Err(Damage::Torn(0)) });
        }

        #[test]
        fn any_bytes_can_be_decoded_and_searched(bytes in prop::collection::vec(any::<u8>(), 0..300), at in 0_usize..400) {
            drop(decode(&bytes, at));
            prop_assert_eq!(find(&bytes, at, None), None);
        }

        #[test]
        fn the_next_whole_record_is_found_behind_garbage(garbage in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut bytes = garbage.clone();
            bytes.extend(encoded(8, 0, "x"));
            let (position, framed) = find(&bytes, 0, Some(7)).unwrap();
            prop_assert_eq!((position, framed.lsn), (garbage.len(), 8));
            prop_assert_eq!(find(&bytes, 0, Some(8)), None);
        }
    }
}
