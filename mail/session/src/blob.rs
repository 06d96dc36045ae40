//! A session on its way to another node: all that its client may rely on, at a command boundary (L-CN3).
//!
//! The old owner of an account writes it, the new one reads it, and the client notices nothing. The session's picture of
//! a mailbox goes as what the client was told (`picture.rs`), so that the new owner tells it exactly the differences.
//!
//! Invariants
//! - A blob says its version and its protocol, and one that we did not write, or that goes on behind its end, is refused.
//! - Reading allocates no more than the blob has bytes, and what stands in the account already.
//!
//! Layout: version, protocol, then what each protocol writes. Numbers are LEB128; texts and lists begin with a length.

use bytes::{BufMut, Bytes, BytesMut};

/// Rises when an older node would misunderstand it.
pub const VERSION: u8 = 1;
/// A session that is bigger ends instead. A mailbox of a million messages takes a few kilobytes, unless every other one is
/// missing.
pub const BLOB_BYTES_MAX: usize = 4 << 20;
/// A user's name, a tag, a mailbox's name, what stands in a message's file name.
pub(crate) const TEXT_BYTES_MAX: usize = 4096;
/// What a client sent and nobody has read: more than a session takes in.
pub(crate) const UNREAD_BYTES_MAX: usize = 512 * 1024;

/// A session, packed.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(Bytes);

/// Whose session it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    Imap,
    Pop3,
}

/// Why a session cannot be gone on with here. Its client is to connect again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobRefused {
    #[error(
        "a session of version {0}, this node reads {VERSION}: run the same version of roost on all nodes"
    )]
    Version(u8),
    #[error("not a session: {0}")]
    Garbled(&'static str),
    /// Read, and what it says cannot be kept true here.
    #[error("the session cannot go on: {0}")]
    Changed(&'static str),
}

impl std::fmt::Debug for Blob {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Blob {
    /// Takes what another node sent, after a look at how it begins.
    pub fn read(bytes: Bytes) -> Result<Self, BlobRefused> {
        let blob = Self(bytes);
        if blob.0.len() > BLOB_BYTES_MAX {
            return Err(BlobRefused::Garbled("too long"));
        }
        blob.open()?;
        Ok(blob)
    }

    pub fn bytes(&self) -> &Bytes {
        &self.0
    }

    pub fn protocol(&self) -> Result<Protocol, BlobRefused> {
        self.open().map(|(protocol, _)| protocol)
    }

    /// What comes behind version and protocol, which must be this one.
    pub(crate) fn reader(&self, wanted: Protocol) -> Result<Reader<'_>, BlobRefused> {
        let (protocol, reader) = self.open()?;
        if protocol == wanted { Ok(reader) } else { Err(BlobRefused::Garbled("another protocol's")) }
    }

    fn open(&self) -> Result<(Protocol, Reader<'_>), BlobRefused> {
        let mut reader = Reader(&self.0);
        match reader.byte()? {
            VERSION => {}
            other => return Err(BlobRefused::Version(other)),
        }
        let protocol = match reader.byte()? {
            1 => Protocol::Imap,
            2 => Protocol::Pop3,
            _ => return Err(BlobRefused::Garbled("an unknown protocol")),
        };
        Ok((protocol, reader))
    }
}

/// Writes a blob.
pub(crate) struct Writer(BytesMut);

impl Writer {
    pub(crate) fn begin(protocol: Protocol) -> Self {
        let mut writer = Self(BytesMut::new());
        writer.byte(VERSION);
        writer.byte(match protocol {
            Protocol::Imap => 1,
            Protocol::Pop3 => 2,
        });
        writer
    }

    /// `None`: it is too big to be carried.
    pub(crate) fn finish(self) -> Option<Blob> {
        (self.0.len() <= BLOB_BYTES_MAX).then(|| Blob(self.0.freeze()))
    }

    pub(crate) fn byte(&mut self, byte: u8) {
        self.0.put_u8(byte);
    }

    pub(crate) fn number(&mut self, number: impl Into<u64>) {
        let mut number = number.into();
        while number >= 0x80 {
            self.byte(number as u8 | 0x80);
            number >>= 7;
        }
        self.byte(number as u8);
    }

    pub(crate) fn count(&mut self, count: usize) {
        self.number(count as u64);
    }

    pub(crate) fn signed(&mut self, number: i64) {
        self.0.put_i64_le(number);
    }

    pub(crate) fn array(&mut self, bytes: &[u8]) {
        self.0.put_slice(bytes);
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.put_slice(bytes);
    }

    pub(crate) fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }
}

/// Reads a blob, and takes nothing for granted.
pub(crate) struct Reader<'a>(&'a [u8]);

const SHORT: BlobRefused = BlobRefused::Garbled("it breaks off");

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BlobRefused> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, BlobRefused> {
        let (byte, rest) = self.0.split_first().ok_or(SHORT)?;
        self.0 = rest;
        Ok(*byte)
    }

    pub(crate) fn number(&mut self) -> Result<u64, BlobRefused> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                break;
            }
            number |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(number);
            }
        }
        Err(BlobRefused::Garbled("a number that is none"))
    }

    pub(crate) fn number_32(&mut self) -> Result<u32, BlobRefused> {
        u32::try_from(self.number()?).map_err(|_| BlobRefused::Garbled("a number that is too large"))
    }

    pub(crate) fn signed(&mut self) -> Result<i64, BlobRefused> {
        self.array().map(i64::from_le_bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], BlobRefused> {
        self.take(N)?.try_into().map_err(|_| SHORT)
    }

    pub(crate) fn bytes(&mut self, most: usize) -> Result<&'a [u8], BlobRefused> {
        let count = usize::try_from(self.number()?).unwrap_or(usize::MAX);
        if count > most { Err(BlobRefused::Garbled("a field that is too long")) } else { self.take(count) }
    }

    pub(crate) fn text(&mut self) -> Result<&'a str, BlobRefused> {
        std::str::from_utf8(self.bytes(TEXT_BYTES_MAX)?)
            .map_err(|_| BlobRefused::Garbled("a text that is none"))
    }

    /// A list: each of its entries takes a byte at least, so it is never longer than what is left.
    pub(crate) fn list<T>(
        &mut self,
        mut entry: impl FnMut(&mut Self) -> Result<T, BlobRefused>,
    ) -> Result<Vec<T>, BlobRefused> {
        let count = self.number()?;
        if count > self.0.len() as u64 {
            return Err(SHORT);
        }
        (0..count).map(|_| entry(self)).collect()
    }

    /// Nothing may come any more.
    pub(crate) fn finish(self) -> Result<(), BlobRefused> {
        if self.0.is_empty() { Ok(()) } else { Err(BlobRefused::Garbled("it goes on behind its end")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn numbers_come_back_as_they_went(numbers in proptest::collection::vec(any::<u64>(), 0..20)) {
            let mut writer = Writer::begin(Protocol::Imap);
            writer.count(numbers.len());
            numbers.iter().for_each(|number| writer.number(*number));
            let blob = writer.finish().unwrap();
            let mut reader = blob.reader(Protocol::Imap).unwrap();
            prop_assert_eq!(reader.list(Reader::number).unwrap(), numbers);
            prop_assert_eq!(reader.finish(), Ok(()));
        }
    }

    #[test]
    fn other_versions_and_protocols_are_refused() {
        let refused = |bytes: &'static [u8]| Blob::read(Bytes::from_static(bytes)).unwrap_err();
        assert_eq!(refused(b"\x02\x01"), BlobRefused::Version(2));
        assert_eq!(refused(b"\x01\x09"), BlobRefused::Garbled("an unknown protocol"));
        assert_eq!(refused(b""), SHORT);
        let pop3 = Blob::read(Bytes::from_static(b"\x01\x02")).unwrap();
        assert!(pop3.reader(Protocol::Imap).is_err());
    }
}
