//! Message text as the body of a multi-line answer (RFC 1939 §3), and its beginning for TOP (§7).
//!
//! Input is in wire form, in chunks of any size; the output does not depend on where they end.

use bytes::BytesMut;
use memchr::memchr_iter;

/// Doubles dots at line starts and ends the answer.
#[derive(Clone, Copy, Debug)]
pub struct DotStuffer {
    at_line_start: bool,
    after_cr: bool,
}

impl Default for DotStuffer {
    fn default() -> Self {
        Self { at_line_start: true, after_cr: false }
    }
}

impl DotStuffer {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the next chunk of the message.
    pub fn push(&mut self, chunk: &[u8], out: &mut BytesMut) {
        out.reserve(chunk.len());
        for piece in chunk.split_inclusive(|&byte| byte == b'\n') {
            if self.at_line_start && piece.first() == Some(&b'.') {
                out.extend_from_slice(b".");
            }
            out.extend_from_slice(piece);
            self.at_line_start = match piece.strip_suffix(b"\n") {
                Some(text) => text.last().map_or(self.after_cr, |&last| last == b'\r'),
                None => false,
            };
            self.after_cr = piece.last() == Some(&b'\r');
        }
    }

    /// Appends the end of the answer, with a line end before it where the message has none.
    pub fn finish(self, out: &mut BytesMut) {
        if !self.at_line_start {
            out.extend_from_slice(b"\r\n");
        }
        out.extend_from_slice(b".\r\n");
    }
}

/// Where the answer to TOP ends: after the header, its empty line, and so many lines of the body.
#[derive(Clone, Copy, Debug)]
pub struct Top {
    lines_left: u64,
    in_header: bool,
    /// The current header line is empty so far.
    line_is_empty: bool,
    done: bool,
}

impl Top {
    pub fn new(lines: u64) -> Self {
        Self { lines_left: lines, in_header: true, line_is_empty: true, done: false }
    }

    /// Returns the part of this chunk that belongs to the answer.
    pub fn cut<'c>(&mut self, chunk: &'c [u8]) -> &'c [u8] {
        let mut from = 0;
        for end in memchr_iter(b'\n', chunk) {
            if self.done {
                break;
            }
            let line = chunk.get(from..end).unwrap_or_default();
            from = end + 1;
            if self.in_header {
                self.in_header = !(self.line_is_empty && line.iter().all(|&byte| byte == b'\r'));
                self.line_is_empty = true;
                self.done = !self.in_header && self.lines_left == 0;
            } else {
                self.lines_left -= 1;
                self.done = self.lines_left == 0;
            }
            if self.done {
                return chunk.get(..from).unwrap_or(chunk);
            }
        }
        if self.done {
            return b"";
        }
        let tail = chunk.get(from..).unwrap_or_default();
        self.line_is_empty &= tail.iter().all(|&byte| byte == b'\r');
        chunk
    }

    /// Returns whether nothing more belongs to the answer.
    pub fn is_done(&self) -> bool {
        self.done
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn stuffed(chunks: &[&[u8]]) -> Vec<u8> {
        let (mut out, mut stuffer) = (BytesMut::new(), DotStuffer::new());
        for chunk in chunks {
            stuffer.push(chunk, &mut out);
        }
        stuffer.finish(&mut out);
        out.to_vec()
    }

    #[test]
    fn dots_at_line_starts_are_doubled() {
        assert_eq!(stuffed(&[b".a\r\n.\r\nb.\r\n"]), b"..a\r\n..\r\nb.\r\n.\r\n");
        assert_eq!(stuffed(&[b"a\r", b"\n", b".", b"b"]), b"a\r\n..b\r\n.\r\n");
        assert_eq!(stuffed(&[]), b".\r\n");
        assert_eq!(stuffed(&[b"a\r"]), b"a\r\r\n.\r\n");
    }

    #[test]
    fn top_shows_the_header_and_so_many_lines() {
        let mail = b"A: b\r\n c\r\n\r\n1\r\n\r\n3\r\n";
        assert_eq!(Top::new(0).cut(mail), b"A: b\r\n c\r\n\r\n");
        assert_eq!(Top::new(2).cut(mail), b"A: b\r\n c\r\n\r\n1\r\n\r\n");
        assert_eq!(Top::new(9).cut(mail), mail);
        assert_eq!(Top::new(0).cut(b"\r\nbody"), b"\r\n");
        assert_eq!(Top::new(0).cut(b"A: b"), b"A: b");
    }

    proptest! {
        #[test]
        fn chunks_do_not_matter(mail in "([a.]|\r\n|\r){0,20}", at in 0usize..40, lines in 0u64..4) {
            let mail = mail.as_bytes();
            let (one, two) = mail.split_at(at.min(mail.len()));
            prop_assert_eq!(stuffed(&[one, two]), stuffed(&[mail]));
            let mut top = Top::new(lines);
            let cut = [top.cut(one), top.cut(two)].concat();
            prop_assert_eq!(&cut[..], Top::new(lines).cut(mail));
            // What a client unstuffs is the message, with a line end at its end.
            let sent = stuffed(&[mail]);
            let text = sent.strip_suffix(b".\r\n").unwrap();
            let mut received = String::new();
            for line in String::from_utf8_lossy(text).split_inclusive("\r\n") {
                received.push_str(line.strip_prefix('.').unwrap_or(line));
            }
            let whole = mail.is_empty() || mail.ends_with(b"\r\n");
            let expected = if whole { mail.to_vec() } else { [mail, b"\r\n"].concat() };
            prop_assert_eq!(received.as_bytes(), &expected[..]);
        }
    }
}
