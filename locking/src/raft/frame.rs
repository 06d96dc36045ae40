//! The bytes of the Raft log: segments, frames, records.
//!
//! A frame is what one fsync makes durable. The next is written only after that fsync. So a bad frame with a good one
//! behind it was damaged after it had been durable, and a bad frame with nothing behind it was never reported: the
//! two are told apart although the disk may keep the parts of an unsynced frame in any order.
//!
//! Invariants
//! - Frame numbers rise by one, through all segments. A frame is valid only in the segment it was written to.
//!
//! Layout, little-endian. Segment: header, then frames, then zeros.
//!   header   magic "ROOSTLG1", segment u64, first frame number u64, store u64, crc32 of these
//!   frame    magic "RFR1", length of the body u32, number u64, crc32 of segment, length, number and body; body
//!   record   kind u8, index u64, length of the payload u32, payload

use std::ops::Range;

pub const HEADER_BYTES: usize = 36;
pub const FRAME_HEADER_BYTES: usize = 20;
const SEGMENT_MAGIC: &[u8; 8] = b"ROOSTLG1";
const FRAME_MAGIC: &[u8; 4] = b"RFR1";
const RECORD_HEADER_BYTES: usize = 13;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub segment: u64,
    pub first_frame: u64,
    /// Drawn at random when the store was made; the same in all its segments (L-RS2).
    pub store: u64,
}

impl Header {
    pub fn encode(&self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(SEGMENT_MAGIC);
        bytes[8..16].copy_from_slice(&self.segment.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.first_frame.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.store.to_le_bytes());
        let crc = crc32fast::hash(&bytes[..32]);
        bytes[32..].copy_from_slice(&crc.to_le_bytes());
        bytes
    }

    /// Returns the header, or `None` when these bytes are not a whole one.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let whole =
            bytes.starts_with(SEGMENT_MAGIC) && u32_at(bytes, 32)? == crc32fast::hash(bytes.get(..32)?);
        whole.then_some(())?;
        Some(Self { segment: u64_at(bytes, 8)?, first_frame: u64_at(bytes, 16)?, store: u64_at(bytes, 24)? })
    }
}

/// What stands at an offset where a frame could begin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The place of the body; the next frame begins at its end.
    Frame(Range<usize>),
    NoFrame,
}

pub fn encode_frame(segment: u64, number: u64, body: &[u8]) -> Option<Vec<u8>> {
    let length = u32::try_from(body.len()).ok()?;
    let mut bytes = Vec::with_capacity(FRAME_HEADER_BYTES + body.len());
    bytes.extend_from_slice(FRAME_MAGIC);
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&number.to_le_bytes());
    bytes.extend_from_slice(&frame_crc(segment, length, number, body).to_le_bytes());
    bytes.extend_from_slice(body);
    Some(bytes)
}

fn frame_crc(segment: u64, length: u32, number: u64, body: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(&segment.to_le_bytes());
    crc.update(&length.to_le_bytes());
    crc.update(&number.to_le_bytes());
    crc.update(body);
    crc.finalize()
}

/// Reads the frame of this number at this offset of a segment.
pub fn frame_at(bytes: &[u8], offset: usize, segment: u64, number: u64) -> Found {
    match valid_frame(bytes, offset, segment) {
        Some((found, body)) if found == number => Found::Frame(body),
        Some(_) | None => Found::NoFrame,
    }
}

/// Returns where a valid frame of any number begins at or after the offset.
pub fn any_frame_after(bytes: &[u8], offset: usize, segment: u64) -> Option<usize> {
    let mut at = offset;
    loop {
        at += memchr::memmem::find(bytes.get(at..)?, FRAME_MAGIC)?;
        if valid_frame(bytes, at, segment).is_some() {
            return Some(at);
        }
        at += 1;
    }
}

fn valid_frame(bytes: &[u8], offset: usize, segment: u64) -> Option<(u64, Range<usize>)> {
    let bytes_here = bytes.get(offset..)?;
    if !bytes_here.starts_with(FRAME_MAGIC) {
        return None;
    }
    let length = u32_at(bytes_here, 4)?;
    let number = u64_at(bytes_here, 8)?;
    let start = FRAME_HEADER_BYTES;
    let end = start.checked_add(usize::try_from(length).ok()?)?;
    let body = bytes_here.get(start..end)?;
    (u32_at(bytes_here, 16)? == frame_crc(segment, length, number, body)).then_some(())?;
    Some((number, offset + start..offset + end))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An entry follows the one before it.
    Append,
    /// All entries from this index on are void.
    TruncateFrom,
    /// All entries up to this index are in a snapshot; the payload is the last one's id.
    PurgeTo,
    Vote,
    Committed,
}

impl Kind {
    fn byte(self) -> u8 {
        match self {
            Self::Append => 1,
            Self::TruncateFrom => 2,
            Self::PurgeTo => 3,
            Self::Vote => 4,
            Self::Committed => 5,
        }
    }

    fn from_byte(byte: u8) -> Option<Self> {
        [Self::Append, Self::TruncateFrom, Self::PurgeTo, Self::Vote, Self::Committed]
            .into_iter()
            .find(|kind| kind.byte() == byte)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogRecord<'a> {
    pub kind: Kind,
    pub index: u64,
    pub payload: &'a [u8],
}

impl LogRecord<'_> {
    /// Appends the record to a frame's body. Returns `None` when the payload is too long for any frame.
    pub fn encode(&self, body: &mut Vec<u8>) -> Option<()> {
        let length = u32::try_from(self.payload.len()).ok()?;
        body.push(self.kind.byte());
        body.extend_from_slice(&self.index.to_le_bytes());
        body.extend_from_slice(&length.to_le_bytes());
        body.extend_from_slice(self.payload);
        Some(())
    }
}

/// Reads all records of a frame's body, or `None` when it is not made of records.
pub fn records(mut body: &[u8]) -> Option<Vec<LogRecord<'_>>> {
    let mut records = Vec::new();
    while let Some(kind) = body.first() {
        let length = usize::try_from(u32_at(body, 9)?).ok()?;
        let end = RECORD_HEADER_BYTES.checked_add(length)?;
        let payload = body.get(RECORD_HEADER_BYTES..end)?;
        records.push(LogRecord { kind: Kind::from_byte(*kind)?, index: u64_at(body, 1)?, payload });
        body = body.get(end..)?;
    }
    Some(records)
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_comes_back_and_a_changed_one_does_not() {
        let header = Header { segment: 3, first_frame: 99, store: 0xfeed };
        let bytes = header.encode();
        assert_eq!(Header::decode(&bytes), Some(header));
        for at in 0..bytes.len() {
            let mut changed = bytes;
            changed[at] ^= 0x10;
            assert_eq!(Header::decode(&changed), None, "byte {at}");
            assert_eq!(Header::decode(&bytes[..at]), None, "{at} bytes");
        }
    }

    #[test]
    fn a_frame_is_valid_only_whole_in_its_segment_and_turn() {
        let mut body = Vec::new();
        LogRecord { kind: Kind::Append, index: 5, payload: b"entry" }.encode(&mut body).expect("short");
        let bytes = encode_frame(2, 7, &body).expect("short");
        let Found::Frame(place) = frame_at(&bytes, 0, 2, 7) else { panic!("no frame") };
        assert_eq!(
            records(&bytes[place]).expect("records"),
            [LogRecord { kind: Kind::Append, index: 5, payload: b"entry" }]
        );
        assert_eq!(frame_at(&bytes, 0, 2, 8), Found::NoFrame);
        assert_eq!(frame_at(&bytes, 0, 3, 7), Found::NoFrame);
        assert_eq!(frame_at(&bytes, usize::MAX, 2, 7), Found::NoFrame);
        for at in 0..bytes.len() {
            let mut changed = bytes.clone();
            changed[at] ^= 1;
            assert_eq!(frame_at(&changed, 0, 2, 7), Found::NoFrame, "byte {at}");
            assert_eq!(frame_at(&bytes[..at], 0, 2, 7), Found::NoFrame, "{at} bytes");
        }
    }

    #[test]
    fn a_frame_is_found_behind_garbage_that_looks_like_one() {
        let mut bytes = b"xxRFR1RFRFR1".to_vec();
        let begin = bytes.len();
        bytes.extend(encode_frame(1, 4, b"").expect("short"));
        assert_eq!(any_frame_after(&bytes, 0, 1), Some(begin));
        assert_eq!(any_frame_after(&bytes, begin + 1, 1), None);
        assert_eq!(any_frame_after(&bytes, 0, 2), None, "of another segment");
    }

    #[test]
    fn bytes_that_are_no_records_are_refused() {
        assert_eq!(records(b""), Some(vec![]));
        assert_eq!(records(&[9; 13]), None, "unknown kind, long payload");
        assert_eq!(records(&[1, 0, 0]), None, "cut");
        assert_eq!(
            records(&[1, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255]),
            None,
            "payload beyond the body"
        );
    }
}
