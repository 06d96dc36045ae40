//! Where one response ends and the next begins, in a stream that somebody else writes.
//!
//! A node that carries a session to the owner of its account sees bytes, and does not parse them. When the owner dies it
//! has to know one thing: whether a BYE of its own would be read as one, or as the inside of a message.

use memchr::memchr;

/// Longest end of a line that can announce a literal: `{18446744073709551615}` and the line's end.
const TAIL_BYTES_MAX: usize = 24;

/// Follows the server's side of an IMAP connection.
#[derive(Debug, Default)]
pub struct Boundary {
    /// The end of the line so far.
    tail: Vec<u8>,
    /// Octets of the literal that have not come yet.
    literal: u64,
    /// Something of a response has come, and not its end.
    within: bool,
}

impl Boundary {
    /// Takes what the server sent.
    pub fn feed(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.literal > 0 {
                let count = usize::try_from(self.literal).unwrap_or(usize::MAX).min(bytes.len());
                self.literal -= count as u64;
                bytes = bytes.get(count..).unwrap_or_default();
                continue;
            }
            let end = memchr(b'\n', bytes);
            let (line, rest) = bytes.split_at(end.map_or(bytes.len(), |end| end + 1));
            self.keep(line);
            self.within = true;
            if end.is_some() {
                self.literal = announced(&self.tail).unwrap_or(0);
                self.within = announced(&self.tail).is_some();
                self.tail.clear();
            }
            bytes = rest;
        }
    }

    /// Whether a response may begin here.
    pub fn is_between_responses(&self) -> bool {
        !self.within
    }

    /// Remembers the last octets of the line.
    fn keep(&mut self, line: &[u8]) {
        let from = line.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.extend_from_slice(line.get(from..).unwrap_or_default());
        let surplus = self.tail.len().saturating_sub(TAIL_BYTES_MAX);
        self.tail.drain(..surplus);
    }
}

/// The length in `{123}` at the end of a line (RFC 3501 §4.3).
fn announced(line: &[u8]) -> Option<u64> {
    let line = line.strip_suffix(b"}\r\n")?;
    let open = line.iter().rposition(|byte| *byte == b'{')?;
    let digits = std::str::from_utf8(line.get(open + 1..)?).ok()?;
    digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After how many octets a response may begin, whatever the pieces.
    fn boundaries(text: &str) -> Vec<usize> {
        let all = |step: usize| {
            let mut boundary = Boundary::default();
            let mut found = Vec::new();
            for (index, piece) in text.as_bytes().chunks(step).enumerate() {
                boundary.feed(piece);
                if boundary.is_between_responses() {
                    found.push(index * step + piece.len());
                }
            }
            found
        };
        let found = all(1);
        for step in 2..9 {
            let coarse: Vec<_> =
                found.iter().copied().filter(|at| at % step == 0 || *at == text.len()).collect();
            assert_eq!(all(step), coarse, "in pieces of {step}");
        }
        found
    }

    #[test]
    fn responses_end_with_their_lines_and_not_within_a_literal() {
        assert_eq!(boundaries("* 1 EXISTS\r\na OK done\r\n"), [12, 23]);
        let fetch = "* 1 FETCH (BODY[] {8}\r\nab\r\ncd\r\n UID 3)\r\n* 2 EXISTS\r\n";
        assert_eq!(boundaries(fetch), [fetch.len() - 12, fetch.len()]);
        let nested = "* 1 FETCH (A {3}\r\n{1} B {0}\r\n)\r\n";
        assert_eq!(boundaries(nested), [nested.len()]);
    }

    #[test]
    fn braces_that_announce_nothing_are_text() {
        assert_eq!(boundaries("* OK {x}\r\n* OK {}\r\n* OK }\r\n").len(), 3);
        assert_eq!(boundaries("* OK {99999999999999999999999}\r\n").len(), 1);
    }

    #[test]
    fn nothing_said_is_a_boundary() {
        assert!(Boundary::default().is_between_responses());
    }
}
