//! Encoded words in header fields (RFC 2047).
//!
//! White space between two encoded words is not text (§6.2). A word in a charset we do not know stays as it is. Longer
//! words than the 75 octets of the RFC are read: mailers write them.

use crate::decode::{self, Transfer};

/// Decodes a whole field value, unfolded or not.
pub fn decode(value: &[u8]) -> String {
    let mut text = String::new();
    decode_into(value, &mut |piece| text.push_str(piece));
    text
}

/// Decodes a field value piece by piece. Line ends are left out.
pub fn decode_into(value: &[u8], take: &mut dyn FnMut(&str)) {
    let mut rest = value;
    let mut after_word = false;
    while !rest.is_empty() {
        let start = find_word(rest);
        let at = start.as_ref().map_or(rest.len(), |found| found.at);
        let (plain, _) = rest.split_at_checked(at).unwrap_or((rest, b""));
        let gap = after_word && start.is_some() && plain.iter().all(u8::is_ascii_whitespace);
        if !gap && !plain.is_empty() {
            take_plain(plain, take);
        }
        let Some(found) = start else { return };
        rest = found.word.decode_run(found.after, take);
        after_word = true;
    }
}

fn take_plain(plain: &[u8], take: &mut dyn FnMut(&str)) {
    if memchr::memchr2(b'\r', b'\n', plain).is_none() {
        return take(&decode::undeclared(plain));
    }
    let unfolded: Vec<u8> = plain.iter().copied().filter(|byte| !b"\r\n".contains(byte)).collect();
    take(&decode::undeclared(&unfolded));
}

struct Found<'a> {
    at: usize,
    word: Word<'a>,
    after: &'a [u8],
}

#[derive(Clone, Copy)]
struct Word<'a> {
    charset: &'a [u8],
    base64: bool,
    text: &'a [u8],
}

impl<'a> Word<'a> {
    /// Reads `=?charset?Q?text?=` at the start of `bytes`.
    fn parse(bytes: &'a [u8]) -> Option<(Self, &'a [u8])> {
        let rest = bytes.strip_prefix(b"=?")?;
        let (charset, rest) = until_question_mark(rest)?;
        let (kind, rest) = until_question_mark(rest)?;
        let base64 = match kind {
            b"B" | b"b" => true,
            b"Q" | b"q" => false,
            _ => return None,
        };
        let (text, rest) = until_question_mark(rest)?;
        let rest = rest.strip_prefix(b"=")?;
        let name = charset.split(|&byte| byte == b'*').next().unwrap_or_default();
        decode::knows_charset(name).then_some((Self { charset, base64, text }, rest))
    }

    fn octets(self, out: &mut Vec<u8>) {
        let mut take = |piece: &[u8]| {
            out.extend_from_slice(piece);
            true
        };
        if self.base64 {
            return Transfer::Base64.decode(self.text, &mut take);
        }
        let spaced: Vec<u8> = self.text.iter().map(|&byte| if byte == b'_' { b' ' } else { byte }).collect();
        Transfer::QuotedPrintable.decode(&spaced, &mut take);
    }

    /// Decodes this word, and those of the same charset that follow: some mailers cut characters in two between them.
    /// Returns what follows the run.
    fn decode_run(self, after: &'a [u8], take: &mut dyn FnMut(&str)) -> &'a [u8] {
        let mut octets = Vec::new();
        self.octets(&mut octets);
        let mut rest = after;
        while let Some((next, after)) = Word::parse(rest.trim_ascii_start()) {
            if !next.charset.eq_ignore_ascii_case(self.charset) {
                break;
            }
            next.octets(&mut octets);
            rest = after;
        }
        take(&decode::to_text(self.charset, &octets));
        rest
    }
}

fn until_question_mark(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    // No white space within a word (RFC 2047 §2), but some mailers leave it in the text of Q words.
    let end = bytes.iter().position(|&byte| byte == b'?' || byte == b'\n')?;
    let (text, rest) = bytes.split_at_checked(end)?;
    Some((text, rest.strip_prefix(b"?")?))
}

/// The first encoded word. Each `=?` is tried once, and a try ends at the line's end.
fn find_word(bytes: &[u8]) -> Option<Found<'_>> {
    for at in memchr::memmem::find_iter(bytes, b"=?") {
        let Some(tail) = bytes.get(at..) else { continue };
        if let Some((word, after)) = Word::parse(tail) {
            return Some(Found { at, word, after });
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: &str) -> String {
        decode(value.as_bytes())
    }

    #[test]
    fn the_examples_of_rfc_2047_are_read() {
        assert_eq!(text("=?ISO-8859-1?Q?a?="), "a");
        assert_eq!(text("=?ISO-8859-1?Q?a?= b"), "a b");
        assert_eq!(text("=?ISO-8859-1?Q?a?= =?ISO-8859-1?Q?b?="), "ab");
        assert_eq!(text("=?ISO-8859-1?Q?a?=\r\n  =?ISO-8859-1?Q?b?="), "ab");
        assert_eq!(text("=?ISO-8859-1?Q?a_b?="), "a b");
        assert_eq!(text("=?US-ASCII?Q?Keith_Moore?= <moore@cs.utk.edu>"), "Keith Moore <moore@cs.utk.edu>");
        assert_eq!(
            text(
                "=?ISO-8859-1?B?SWYgeW91IGNhbiByZWFkIHRoaXMgeW8=?=\r\n =?ISO-8859-2?B?dSB1bmRlcnN0YW5kIHRoZSBleGFtcGxlLg==?="
            ),
            "If you can read this you understand the example."
        );
        assert_eq!(text("=?utf-8*en?q?=C3=A9?="), "é");
    }

    #[test]
    fn a_character_cut_between_words_is_whole() {
        assert_eq!(text("=?utf-8?Q?=E2=82?= =?utf-8?Q?=AC?="), "€");
    }

    #[test]
    fn what_is_no_word_stays() {
        for value in ["=?x", "=?utf-8?Q?a", "=?nonsense-8?Q?a?=", "=?utf-8?X?a?=", "a =? b ?= c", "=?=?=?=?"]
        {
            assert_eq!(text(value), value);
        }
        assert_eq!(decode(b"caf\xe9"), "café");
        assert_eq!(decode("café".as_bytes()), "café");
    }
}
