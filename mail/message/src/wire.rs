//! Wire form: what IMAP and POP3 show of the octets in a file.
//!
//! Files may have bare LF at line ends, as Unix mailers write them; on the wire every line ends in CRLF. A CRLF pair
//! stays, a lone CR stays, an LF without CR before it gains one. All of it works chunk by chunk, and the result does not
//! depend on where chunks end.

use memchr::memchr_iter;

/// The size of `stored` in wire form (Maildir's `W=`, IMAP's RFC822.SIZE).
pub fn wire_size(stored: &[u8]) -> u64 {
    let mut counter = Counter::default();
    counter.push(stored);
    counter.size()
}

/// Returns whether these octets are in wire form already.
pub fn is_wire(stored: &[u8]) -> bool {
    wire_size(stored) == stored.len() as u64
}

/// Counts a message's wire size as its chunks go by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counter {
    stored: u64,
    bare: u64,
    after_cr: bool,
}

impl Counter {
    pub fn push(&mut self, chunk: &[u8]) {
        for at in memchr_iter(b'\n', chunk) {
            let after_cr = match at.checked_sub(1) {
                Some(before) => chunk.get(before) == Some(&b'\r'),
                None => self.after_cr,
            };
            self.bare += u64::from(!after_cr);
        }
        self.stored += chunk.len() as u64;
        if let Some(&last) = chunk.last() {
            self.after_cr = last == b'\r';
        }
    }

    /// Octets in wire form so far.
    pub fn size(&self) -> u64 {
        self.stored + self.bare
    }

    /// Octets as stored so far.
    pub fn stored(&self) -> u64 {
        self.stored
    }

    /// Returns whether the octets so far are in wire form already.
    pub fn is_wire(&self) -> bool {
        self.bare == 0
    }
}

/// Turns stored octets into wire octets, chunk by chunk.
#[derive(Clone, Copy, Debug, Default)]
pub struct Converter {
    after_cr: bool,
}

impl Converter {
    /// Appends the wire form of the next chunk to `wire`.
    pub fn push(&mut self, chunk: &[u8], wire: &mut Vec<u8>) {
        wire.reserve(chunk.len());
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(text) => {
                    let after_cr = text.last().map_or(self.after_cr, |&last| last == b'\r');
                    wire.extend_from_slice(text);
                    wire.extend_from_slice(if after_cr { b"\n" } else { b"\r\n" });
                }
                None => wire.extend_from_slice(piece),
            }
            self.after_cr = piece.last() == Some(&b'\r');
        }
    }
}

/// Converts a whole message.
pub fn convert(stored: &[u8]) -> Vec<u8> {
    let mut wire = Vec::new();
    Converter::default().push(stored, &mut wire);
    wire
}

/// Cuts a range of wire octets out of stored chunks, from the file's beginning on.
#[derive(Clone, Debug)]
pub struct Cut {
    converter: Converter,
    /// Wire octets still to pass over.
    skip: u64,
    /// Wire octets still wanted.
    left: u64,
    scratch: Vec<u8>,
}

impl Cut {
    pub fn new(offset: u64, len: u64) -> Self {
        Self { converter: Converter::default(), skip: offset, left: len, scratch: Vec::new() }
    }

    /// Appends what the next stored chunk holds of the range. Returns whether more is wanted.
    pub fn push(&mut self, chunk: &[u8], wire: &mut Vec<u8>) -> bool {
        self.scratch.clear();
        self.converter.push(chunk, &mut self.scratch);
        let len = self.scratch.len() as u64;
        let start = self.skip.min(len);
        self.skip -= start;
        let end = start + self.left.min(len - start);
        self.left -= end - start;
        // Both are at most the scratch's length, which is a usize.
        if let Some(piece) = self.scratch.get(start as usize..end as usize) {
            wire.extend_from_slice(piece);
        }
        self.left > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_bare_line_feeds_gain_a_carriage_return() {
        assert_eq!(convert(b"a\nb\r\nc\rd\n\n\r\r\n"), b"a\r\nb\r\nc\rd\r\n\r\n\r\r\n");
        assert!(is_wire(b"a\r\nb\r"));
        assert!(!is_wire(b"\n"));
    }

    fn mail() -> impl Strategy<Value = Vec<u8>> {
        proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), Just(b'x')], 0..60)
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(stored in mail(), at in 0usize..60, offset in 0u64..80, len in 0u64..80) {
            let mut naive = Vec::new();
            for (index, &byte) in stored.iter().enumerate() {
                if byte == b'\n' && (index == 0 || stored[index - 1] != b'\r') {
                    naive.push(b'\r');
                }
                naive.push(byte);
            }
            let (one, two) = stored.split_at(at.min(stored.len()));
            let (mut wire, mut converter, mut counter) = (Vec::new(), Converter::default(), Counter::default());
            let (mut cut, mut piece) = (Cut::new(offset, len), Vec::new());
            for chunk in [one, two] {
                converter.push(chunk, &mut wire);
                counter.push(chunk);
                cut.push(chunk, &mut piece);
            }
            prop_assert_eq!(counter.size(), wire.len() as u64);
            prop_assert_eq!(counter.is_wire(), wire == stored);
            let start = naive.len().min(offset as usize);
            let end = naive.len().min((offset + len) as usize);
            prop_assert_eq!(&piece, &naive[start..end]);
            prop_assert_eq!(&wire, &naive);
            prop_assert_eq!(convert(&wire), naive);
        }
    }
}
