//! Text search in headers and bodies (RFC 3501 §6.4.4: "case-insensitive", "contained in").
//!
//! Both sides are compared in Unicode lower case, character by character; a tab, which folds many a header, is a space. Headers are searched with encoded words undone,
//! text parts with transfer encoding and charset undone, other parts not at all. A match is found across
//! piece and line ends within one field or one part, and memory does not grow with the part.

use memchr::memmem::Finder;

use crate::decode::{self, Text, Transfer};
use crate::header::{self, Field};
use crate::{Content, Message, Part, words};

/// What is searched for. Prepared once, used on many messages.
#[derive(Clone, Debug)]
pub struct Needle {
    finder: Finder<'static>,
}

impl Needle {
    pub fn new(text: &str) -> Self {
        let mut folded = Vec::new();
        fold(text, &mut folded);
        Self { finder: Finder::new(&folded).into_owned() }
    }

    fn is_empty(&self) -> bool {
        self.finder.needle().is_empty()
    }

    /// Returns whether `text` contains the needle.
    pub fn is_in(&self, text: &str) -> bool {
        Window::new(self).push(text)
    }

    /// As IMAP's `HEADER name text`: an empty needle asks only whether there is such a field.
    pub fn is_in_field(&self, header: &[u8], name: &[u8]) -> bool {
        let mut fields = header::fields(header).filter(|field| field.is(name));
        fields.any(|field| self.is_in_value(&field))
    }

    fn is_in_value(&self, field: &Field<'_>) -> bool {
        let mut window = Window::new(self);
        words::decode_into(field.value.trim_ascii(), &mut |piece| {
            window.push(piece);
        });
        window.found
    }

    /// Any field of this header, names included.
    fn is_in_header(&self, header: &[u8]) -> bool {
        header::fields(header).any(|field| {
            let mut window = Window::new(self);
            words::decode_into(field.raw.trim_ascii(), &mut |piece| {
                window.push(piece);
            });
            window.found
        })
    }

    /// As IMAP's `TEXT`: header and body.
    pub fn is_in_message(&self, message: &Message, wire: &[u8]) -> bool {
        self.is_empty() || self.is_in_header(message.root.header.of(wire)) || self.is_in_body(message, wire)
    }

    /// As IMAP's `BODY`: everything below the header, headers of parts included.
    pub fn is_in_body(&self, message: &Message, wire: &[u8]) -> bool {
        self.is_empty() || self.is_in_part(&message.root, wire)
    }

    /// Depth is bounded by what `parse` allows.
    fn is_in_part(&self, part: &Part, wire: &[u8]) -> bool {
        let with_header =
            |part: &Part| self.is_in_header(part.header.of(wire)) || self.is_in_part(part, wire);
        match &part.content {
            Content::Multipart(children) => children.iter().any(with_header),
            Content::Message(inner) => with_header(&inner.root),
            Content::Leaf => {
                let kind = &part.mime.content_type;
                (kind.is_kind("text") || kind.is_kind("message")) && self.is_in_text(part, wire)
            }
        }
    }

    fn is_in_text(&self, part: &Part, wire: &[u8]) -> bool {
        let charset = part.mime.content_type.param("charset").unwrap_or(b"us-ascii");
        let mut text = Text::new(decode::charset(charset));
        let mut window = Window::new(self);
        let transfer = Transfer::named(part.mime.encoding.as_deref());
        transfer.decode(part.body.of(wire), &mut |piece| !window.push(text.push(piece, false)));
        window.found || window.push(text.push(b"", true))
    }
}

/// Lower case, so that it does not depend on what stands around a character: final sigma is sigma. Tabs as spaces.
fn fold(text: &str, out: &mut Vec<u8>) {
    let mut buffer = [0; 4];
    for character in text.chars() {
        if character.is_ascii() {
            out.push(if character == '\t' { b' ' } else { (character as u8).to_ascii_lowercase() });
            continue;
        }
        for lower in character.to_lowercase() {
            let lower = if lower == 'ς' { 'σ' } else { lower };
            out.extend_from_slice(lower.encode_utf8(&mut buffer).as_bytes());
        }
    }
}

/// The folded text that a match may still begin in.
struct Window<'n> {
    needle: &'n Needle,
    text: Vec<u8>,
    found: bool,
}

impl<'n> Window<'n> {
    fn new(needle: &'n Needle) -> Self {
        Self { needle, text: Vec::new(), found: needle.is_empty() }
    }

    /// Goes on with the next piece of text. Returns whether the needle was found, now or before.
    fn push(&mut self, piece: &str) -> bool {
        if self.found {
            return true;
        }
        fold(piece, &mut self.text);
        self.found = self.needle.finder.find(&self.text).is_some();
        let keep = self.needle.finder.needle().len().saturating_sub(1);
        let drop = self.text.len().saturating_sub(keep);
        self.text.drain(..drop);
        self.found
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Limits, parse};

    fn in_message(wire: &[u8], text: &str) -> bool {
        Needle::new(text).is_in_message(&parse(wire, &Limits::default()), wire)
    }

    fn in_body(wire: &[u8], text: &str) -> bool {
        Needle::new(text).is_in_body(&parse(wire, &Limits::default()), wire)
    }

    #[test]
    fn case_does_not_matter_in_any_script() {
        assert!(Needle::new("JÜRGEN").is_in("xjürgeny"));
        assert!(Needle::new("οδος").is_in("ΟΔΟΣ"));
        assert!(Needle::new("").is_in("x"));
        assert!(!Needle::new("a b").is_in("ab"));
    }

    #[test]
    fn header_fields_are_searched_decoded() {
        let header = b"Subject: =?utf-8?Q?Gr=C3=BC=C3=9Fe?= aus\r\n Wien\r\nX: y\r\n\r\nSubject: body\r\n";
        let is_in = |text: &str, name: &[u8]| Needle::new(text).is_in_field(header, name);
        assert!(is_in("grüße AUS wien", b"subject"));
        assert!(is_in("", b"x"));
        assert!(!is_in("", b"z"));
        assert!(!is_in("body", b"subject"));
    }

    #[test]
    fn a_subject_folded_with_a_tab_is_found_with_a_space() {
        let header = b"Subject: Report of\r\n\tMarch\r\n\r\n";
        assert!(Needle::new("report of march").is_in_field(header, b"subject"));
        assert!(Needle::new("of\tmarch").is_in_field(header, b"subject"));
    }

    #[test]
    fn bodies_are_searched_decoded() {
        let wire = b"Subject: top\r\nContent-Type: multipart/mixed; boundary=b\r\n\r\n--b\r\nContent-Type: text/plain; charset=iso-8859-1\r\nContent-Transfer-Encoding: quoted-printable\r\n\r\ncaf=\r\n=E9 noir\r\n--b\r\nContent-Type: application/x\r\n\r\nsecret\r\n--b\r\nContent-Type: text/html; name=\"Report\"\r\nContent-Transfer-Encoding: base64\r\n\r\nPGI+aGVs\r\nbG88L2I+\r\n--b--\r\n";
        assert!(in_body(wire, "CAFÉ NOIR"));
        assert!(in_body(wire, "<b>hello"));
        assert!(in_body(wire, "report"));
        assert!(!in_body(wire, "secret"));
        assert!(!in_body(wire, "top"));
        assert!(in_message(wire, "TOP"));
        assert!(in_message(wire, "subject: top"));
    }

    #[test]
    fn matches_are_found_across_pieces() {
        for pad in 8_180..8_200 {
            let mut wire = b"\r\n".to_vec();
            wire.extend(vec![b'x'; pad]);
            wire.extend_from_slice("Straße".as_bytes());
            assert!(in_body(&wire, "straße"), "{pad}");
        }
    }
}
