//! Transfer encodings and charsets, undone in pieces of bounded size.
//!
//! Decoding never fails: mail is damaged often, and a reader wants what can be read. Octets that are no base64 are
//! skipped, `=` that is no escape stands for itself, unknown charsets are read as UTF-8 with replacements.

use encoding_rs::{Encoding, UTF_8, WINDOWS_1252};

/// Octets decoded at a time.
const PIECE_BYTES: usize = 8 << 10;

/// How a body is encoded (RFC 2045 §6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transfer {
    Identity,
    QuotedPrintable,
    Base64,
}

impl Transfer {
    /// Reads the name in Content-Transfer-Encoding; unknown ones are left alone.
    pub fn named(name: Option<&[u8]>) -> Self {
        match name.map(<[u8]>::to_ascii_lowercase).as_deref() {
            Some(b"quoted-printable") => Self::QuotedPrintable,
            Some(b"base64") => Self::Base64,
            Some(_) | None => Self::Identity,
        }
    }

    /// Decodes `body`, piece by piece. Stops when `take` returns false.
    pub fn decode(self, body: &[u8], take: &mut dyn FnMut(&[u8]) -> bool) {
        match self {
            Self::Identity => {
                body.chunks(PIECE_BYTES).all(take);
            }
            Self::QuotedPrintable => quoted_printable(body, take),
            Self::Base64 => base64(body, take),
        }
    }
}

/// Collects octets and hands them on in pieces.
struct Pieces<'t> {
    piece: Vec<u8>,
    take: &'t mut dyn FnMut(&[u8]) -> bool,
}

impl<'t> Pieces<'t> {
    fn new(take: &'t mut dyn FnMut(&[u8]) -> bool) -> Self {
        Self { piece: Vec::with_capacity(PIECE_BYTES), take }
    }

    /// Returns whether more is wanted.
    fn push(&mut self, bytes: &[u8]) -> bool {
        self.piece.extend_from_slice(bytes);
        self.piece.len() < PIECE_BYTES || self.flush()
    }

    fn flush(&mut self) -> bool {
        let more = self.piece.is_empty() || (self.take)(&self.piece);
        self.piece.clear();
        more
    }
}

fn base64_value(byte: u8) -> Option<u32> {
    let value = match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        b'/' => 63,
        _ => return None,
    };
    Some(u32::from(value))
}

fn base64(body: &[u8], take: &mut dyn FnMut(&[u8]) -> bool) {
    let mut pieces = Pieces::new(take);
    let (mut bits, mut count) = (0u32, 0u32);
    for &byte in body {
        if byte == b'=' {
            // Padding ends a group; what was joined from several encodings goes on after it.
            (bits, count) = (0, 0);
            continue;
        }
        let Some(value) = base64_value(byte) else { continue };
        bits = bits << 6 | value;
        count += 6;
        if count >= 8 {
            count -= 8;
            let [.., octet] = (bits >> count).to_be_bytes();
            bits &= (1 << count) - 1;
            if !pieces.push(&[octet]) {
                return;
            }
        }
    }
    pieces.flush();
}

fn hex(high: Option<&u8>, low: Option<&u8>) -> Option<u8> {
    let high = char::from(*high?).to_digit(16)?;
    let low = char::from(*low?).to_digit(16)?;
    u8::try_from(high * 16 + low).ok()
}

fn quoted_printable(body: &[u8], take: &mut dyn FnMut(&[u8]) -> bool) {
    let mut pieces = Pieces::new(take);
    let mut rest = body;
    while !rest.is_empty() {
        let plain = memchr::memchr(b'=', rest).unwrap_or(rest.len()).clamp(0, PIECE_BYTES);
        let (text, escape) = rest.split_at_checked(plain).unwrap_or((rest, b""));
        if !pieces.push(text) {
            return;
        }
        rest = escape;
        if rest.first() != Some(&b'=') {
            continue;
        }
        if let Some(octet) = hex(rest.get(1), rest.get(2)) {
            if !pieces.push(&[octet]) {
                return;
            }
            rest = rest.get(3..).unwrap_or_default();
        } else if let Some(after) = soft_break(rest) {
            rest = after;
        } else {
            if !pieces.push(b"=") {
                return;
            }
            rest = rest.get(1..).unwrap_or_default();
        }
    }
    pieces.flush();
}

/// `=`, white space added on the way, line end (RFC 2045 §6.7).
fn soft_break(rest: &[u8]) -> Option<&[u8]> {
    let after = rest.strip_prefix(b"=")?;
    let blank = after.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
    let after = after.get(blank..)?;
    after
        .strip_prefix(b"\r\n")
        .or_else(|| after.strip_prefix(b"\n"))
        .or_else(|| after.is_empty().then_some(after))
}

/// Undoes percent encoding (RFC 2231 §4).
pub fn percent(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&first, after)) = rest.split_first() {
        match hex(after.first(), after.get(1)).filter(|_| first == b'%') {
            Some(octet) => {
                out.push(octet);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                out.push(first);
                rest = after;
            }
        }
    }
    out
}

/// The encoding of this name. US-ASCII and unknown names are UTF-8, which tells the truth more often than Latin-1 would.
pub fn charset(name: &[u8]) -> &'static Encoding {
    let name = name.trim_ascii();
    // RFC 2231 §5 lets a language follow.
    let name = name.split(|&byte| byte == b'*').next().unwrap_or_default();
    if name.eq_ignore_ascii_case(b"us-ascii") || name.eq_ignore_ascii_case(b"ascii") {
        return UTF_8;
    }
    Encoding::for_label_no_replacement(name).unwrap_or(UTF_8)
}

/// Returns whether we can read this charset by its name.
pub fn knows_charset(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"us-ascii") || Encoding::for_label_no_replacement(name).is_some()
}

/// Decodes a short text.
pub fn to_text(charset_name: &[u8], bytes: &[u8]) -> String {
    charset(charset_name).decode_without_bom_handling(bytes).0.into_owned()
}

/// Octets without a charset: UTF-8 if they are, else Latin-1 as most old mail meant it.
pub fn undeclared(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => WINDOWS_1252.decode_without_bom_handling(bytes).0.into_owned(),
    }
}

/// Charset decoding that goes on from piece to piece.
pub struct Text {
    decoder: encoding_rs::Decoder,
    piece: String,
}

impl Text {
    pub fn new(encoding: &'static Encoding) -> Self {
        Self { decoder: encoding.new_decoder_without_bom_handling(), piece: String::new() }
    }

    /// Decodes the next piece; `last` flushes a character cut short.
    pub fn push(&mut self, bytes: &[u8], last: bool) -> &str {
        self.piece.clear();
        let need = self.decoder.max_utf8_buffer_length(bytes.len()).unwrap_or(bytes.len());
        self.piece.reserve(need);
        // The capacity asked for suffices by the decoder's own account, so one call consumes everything.
        let (_, read, _) = self.decoder.decode_to_string(bytes, &mut self.piece, last);
        debug_assert_eq!(read, bytes.len());
        &self.piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(transfer: Transfer, body: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        transfer.decode(body, &mut |piece| {
            out.extend_from_slice(piece);
            true
        });
        out
    }

    #[test]
    fn base64_is_read_across_lines_and_dirt() {
        assert_eq!(decoded(Transfer::Base64, b"SGVs\r\nbG8s!IHdvcmxk\r\n"), b"Hello, world");
        assert_eq!(decoded(Transfer::Base64, b"SGk=SGk="), b"HiHi");
        assert_eq!(decoded(Transfer::Base64, b"SGk"), b"Hi");
    }

    #[test]
    fn quoted_printable_is_read_with_its_mistakes() {
        assert_eq!(
            decoded(Transfer::QuotedPrintable, b"a=3Db=\r\nc= \t\r\nd=zz=e9=C3=A9="),
            b"a=bcd=zz\xe9\xc3\xa9"
        );
        let long = vec![b'x'; 100_000];
        assert_eq!(decoded(Transfer::QuotedPrintable, &long), long);
    }

    #[test]
    fn characters_cut_between_pieces_are_whole() {
        let mut text = Text::new(UTF_8);
        assert_eq!(text.push(b"\xe2\x82", false), "");
        assert_eq!(text.push(b"\xac", false), "€");
        assert_eq!(text.push(b"\xe2", true), "\u{fffd}");
        assert_eq!(to_text(b"iso-2022-jp", b"\x1b$B$3\x1b(B"), "こ");
        assert_eq!(undeclared(b"\xe9"), "é");
    }
}
