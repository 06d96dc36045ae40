//! Message text after DATA (RFC 5321 §4.1.1.4, §4.5.2).
//!
//! Only CRLF ends a line here. A dot between other line ends is text, never the end of the message: were it the end for
//! us and not for the sender, a message could carry another one past the sender's checks. Octets come out as they
//! came in, but for the dots that the client added at line starts, and the line with the final dot.

use bytes::BytesMut;
use memchr::memchr;

/// Takes the message out of the stream, in chunks of any size.
#[derive(Clone, Copy, Debug, Default)]
pub struct DataReader {
    state: State,
}

/// What was read last.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// CRLF, or DATA itself.
    #[default]
    LineStart,
    Text,
    /// CR within a line, handed on already.
    Cr,
    /// A dot at a line's start, held back.
    Dot,
    /// That and CR, both held back.
    DotCr,
    /// The final dot's line.
    End,
}

impl DataReader {
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends the text in `input` to `out`. Returns how many octets of it belong to the message once that has
    /// ended; the commands that follow come after them. `None` while there is more to come.
    pub fn push(&mut self, input: &[u8], out: &mut BytesMut) -> Option<usize> {
        let mut rest = input;
        while self.state != State::End {
            if self.state == State::Text {
                // Runs of text are copied at once.
                let run = memchr(b'\r', rest).unwrap_or(rest.len());
                let (text, after) = rest.split_at_checked(run)?;
                out.extend_from_slice(text);
                rest = after;
            }
            let (&byte, after) = rest.split_first()?;
            rest = after;
            self.step(byte, out);
        }
        Some(input.len() - rest.len())
    }

    /// Returns whether the message has ended.
    pub fn is_done(&self) -> bool {
        self.state == State::End
    }

    fn step(&mut self, byte: u8, out: &mut BytesMut) {
        match self.state {
            State::LineStart if byte == b'.' => self.state = State::Dot,
            State::Dot if byte == b'\r' => self.state = State::DotCr,
            State::DotCr if byte == b'\n' => self.state = State::End,
            State::DotCr => {
                // The dot was added by the client, the CR was not.
                out.extend_from_slice(&[b'\r', byte]);
                self.state = if byte == b'\r' { State::Cr } else { State::Text };
            }
            State::LineStart | State::Dot | State::Text | State::Cr => {
                out.extend_from_slice(&[byte]);
                self.state = match byte {
                    b'\r' => State::Cr,
                    b'\n' if self.state == State::Cr => State::LineStart,
                    _ => State::Text,
                };
            }
            State::End => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Text, and how many octets belonged to it.
    fn read(chunks: &[&[u8]]) -> (Vec<u8>, Option<usize>) {
        let (mut out, mut reader, mut before) = (BytesMut::new(), DataReader::new(), 0);
        for chunk in chunks {
            if let Some(consumed) = reader.push(chunk, &mut out) {
                return (out.to_vec(), Some(before + consumed));
            }
            before += chunk.len();
        }
        (out.to_vec(), None)
    }

    fn whole(input: &str) -> (String, Option<usize>) {
        let (text, consumed) = read(&[input.as_bytes()]);
        (String::from_utf8(text).unwrap(), consumed)
    }

    #[test]
    fn dots_are_taken_off_and_commands_after_the_end_are_kept() {
        assert_eq!(whole("a\r\n..b\r\n.c\r\n.\r\nQUIT\r\n"), ("a\r\n.b\r\nc\r\n".into(), Some(15)));
        assert_eq!(whole(".\r\nRSET"), ("".into(), Some(3)));
        assert_eq!(whole("\r\n.\r\n"), ("\r\n".into(), Some(5)));
        assert_eq!(whole("a\r\n.\r"), ("a\r\n".into(), None));
    }

    #[test]
    fn only_crlf_dot_crlf_ends_a_message() {
        for smuggled in
            ["a\n.\nb", "a\n.\r\nb", "a\r.\r\nb", "a\r\n.\nb", "a\r\n.\rb", "a\r\r.\r\r\nb", "a\n\r.\r\n"]
        {
            assert_eq!(whole(smuggled).1, None, "{smuggled:?}");
        }
        assert_eq!(whole("a\n.\r\nb\r\n.\r\n"), ("a\n.\r\nb\r\n".into(), Some(11)));
        assert_eq!(whole("a\r\n.\rb\r\n.\r\n"), ("a\r\n\rb\r\n".into(), Some(11)));
        assert_eq!(whole("a\r\n.\r\r\n.\r\n"), ("a\r\n\r\r\n".into(), Some(10)));
    }

    /// Looks at the whole stream, line by line.
    fn oracle(input: &str) -> (String, Option<usize>) {
        let (mut text, mut at) = (String::new(), 0);
        for line in input.split_inclusive("\r\n") {
            at += line.len();
            if line == ".\r\n" {
                return (text, Some(at));
            }
            text.push_str(line.strip_prefix('.').unwrap_or(line));
        }
        (text, None)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn every_split_reads_as_the_whole(input in "([a.\r\n]|\r\n|\r\n\\.){0,12}") {
            let (text, consumed) = oracle(&input);
            for at in 0..=input.len() {
                let (one, two) = input.as_bytes().split_at(at);
                let (found, end) = read(&[one, two]);
                prop_assert_eq!(end, consumed);
                // What may yet be the final dot's line is held back.
                prop_assert!(found == text.as_bytes() || consumed.is_none() && text.as_bytes().starts_with(&found));
            }
            let bytes: Vec<_> = input.as_bytes().chunks(1).collect();
            prop_assert_eq!(read(&bytes), read(&[input.as_bytes()]));
            let finished = format!("{input}x\r\n.\r\n");
            prop_assert_eq!(whole(&finished), oracle(&finished));
        }
    }
}
