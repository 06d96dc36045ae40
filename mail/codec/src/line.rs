//! Lines out of a byte stream, of bounded length.
//!
//! A line ends in CRLF, or in LF alone as some clients send it. One that is too long is reported once, as soon as that is
//! known, and discarded up to its end without being kept.

use bytes::BytesMut;
use memchr::memchr;

/// What the peer sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// Without its line end.
    Complete(BytesMut),
    TooLong,
}

/// Keeps what was received and not yet read as lines.
#[derive(Debug)]
pub struct LineReader {
    buffer: BytesMut,
    /// Octets at the start of `buffer` known to hold no line end.
    scanned: usize,
    discarding: bool,
    line_bytes_max: usize,
}

impl LineReader {
    /// `line_bytes_max` counts without the line end.
    pub fn new(line_bytes_max: usize) -> Self {
        Self { buffer: BytesMut::new(), scanned: 0, discarding: false, line_bytes_max }
    }

    /// Takes in octets. The caller stops reading from its peer while [`buffered`](Self::buffered) is large: lines sent
    /// ahead are kept here until they are asked for.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        if self.discarding {
            let Some(end) = memchr(b'\n', bytes) else { return };
            self.discarding = false;
            bytes = bytes.get(end + 1..).unwrap_or_default();
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Returns the next line, or `None` until more is fed.
    pub fn next_line(&mut self) -> Option<Line> {
        let unscanned = self.buffer.get(self.scanned..).unwrap_or_default();
        let Some(end) = memchr(b'\n', unscanned).map(|at| at + self.scanned) else {
            self.scanned = self.buffer.len();
            // One more than allowed may be the CR of the line end.
            let long = self.buffer.len() > self.line_bytes_max.saturating_add(1)
                || self.buffer.len() > self.line_bytes_max && self.buffer.last() != Some(&b'\r');
            if !long {
                return None;
            }
            self.discarding = true;
            self.scanned = 0;
            self.buffer = BytesMut::new();
            return Some(Line::TooLong);
        };
        self.scanned = 0;
        let mut line = self.buffer.split_to(end + 1);
        line.truncate(end);
        if line.last() == Some(&b'\r') {
            line.truncate(end - 1);
        }
        Some(if line.len() > self.line_bytes_max { Line::TooLong } else { Line::Complete(line) })
    }

    /// Whether the rest of a line that was too long is still to come.
    pub fn is_discarding(&self) -> bool {
        self.discarding
    }

    /// Octets fed and not yet returned.
    pub fn buffered(&self) -> usize {
        self.buffer.len()
    }

    /// The octets that [`buffered`](Self::buffered) counts.
    pub fn unread(&self) -> &[u8] {
        &self.buffer
    }

    /// Hands over what is buffered: what follows a command is not lines, but data.
    pub fn take_rest(&mut self) -> BytesMut {
        self.scanned = 0;
        self.buffer.split()
    }

    /// Forgets what is buffered: nothing sent before TLS counts after it (RFC 3207 §4.2).
    pub fn clear(&mut self) {
        self.scanned = 0;
        self.discarding = false;
        self.buffer = BytesMut::new();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn lines(reader: &mut LineReader) -> Vec<Option<Vec<u8>>> {
        std::iter::from_fn(|| reader.next_line())
            .map(|line| match line {
                Line::Complete(line) => Some(line.to_vec()),
                Line::TooLong => None,
            })
            .collect()
    }

    #[test]
    fn an_endless_line_is_reported_once_and_not_kept() {
        let mut reader = LineReader::new(10);
        let mut reports = 0;
        for _ in 0..1000 {
            reader.feed(&[b'x'; 1000]);
            reports += lines(&mut reader).len();
            assert!(reader.buffered() <= 1000);
        }
        assert_eq!(reports, 1);
        reader.feed(b"tail\r\nNOOP\r\n");
        assert_eq!(lines(&mut reader), [Some(b"NOOP".to_vec())]);
    }

    #[test]
    fn what_follows_a_line_can_be_taken() {
        let mut reader = LineReader::new(10);
        reader.feed(b"DATA\r\nmail");
        assert_eq!(reader.next_line(), Some(Line::Complete(BytesMut::from("DATA"))));
        assert_eq!(&reader.take_rest()[..], b"mail");
        assert_eq!(reader.next_line(), None);
    }

    proptest! {
        #[test]
        fn lines_do_not_depend_on_chunks(text in "[ab\r\n]{0,40}", cuts in proptest::collection::vec(0usize..40, 0..5)) {
            let mut naive: Vec<_> = text.split('\n').collect();
            naive.pop();
            let naive: Vec<_> = naive
                .into_iter()
                .map(|line| line.strip_suffix('\r').unwrap_or(line))
                .map(|line| (line.len() <= 4).then(|| line.as_bytes().to_vec()))
                .collect();
            let mut reader = LineReader::new(4);
            let mut found = Vec::new();
            let mut cuts: Vec<_> = cuts.into_iter().map(|cut| cut.min(text.len())).collect();
            cuts.sort_unstable();
            let mut from = 0;
            for to in cuts.into_iter().chain([text.len()]) {
                reader.feed(&text.as_bytes()[from..to]);
                found.extend(lines(&mut reader));
                from = to;
            }
            // A last line without end may have been reported as too long already.
            prop_assert!(found == naive || found.len() == naive.len() + 1 && found.last() == Some(&None));
            prop_assert_eq!(&found[..naive.len()], &naive[..]);
        }
    }
}
