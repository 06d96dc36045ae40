//! LMTP replies (RFC 5321 §4.2, RFC 2034).

use std::borrow::Cow;

use bytes::BytesMut;

/// Longest reply line with its line end (RFC 5321 §4.5.3.1.5).
const LINE_BYTES_MAX: usize = 512;

/// One reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// Three digits.
    pub code: u16,
    /// Not in greetings, answers to LHLO and 3yz replies (RFC 2034 §4).
    pub enhanced: Option<&'static str>,
    pub lines: Vec<Cow<'static, str>>,
}

impl Reply {
    pub fn new(code: u16, enhanced: Option<&'static str>, text: impl Into<Cow<'static, str>>) -> Self {
        Self { code, enhanced, lines: vec![text.into()] }
    }

    /// The answer to LHLO: our name, then a line for each extension.
    pub fn lhlo(lines: Vec<Cow<'static, str>>) -> Self {
        Self { code: 250, enhanced: None, lines }
    }

    /// Appends the reply. Whatever the texts hold, one line comes out for each, not longer than allowed.
    pub fn encode(&self, out: &mut BytesMut) {
        const NOTHING: &[Cow<'static, str>] = &[Cow::Borrowed("")];
        let lines = if self.lines.is_empty() { NOTHING } else { self.lines.as_slice() };
        let last = lines.len() - 1;
        for (index, text) in lines.iter().enumerate() {
            let start = out.len();
            let separator = if index == last { ' ' } else { '-' };
            out.extend_from_slice(format!("{:03}{separator}", self.code).as_bytes());
            if let Some(enhanced) = self.enhanced {
                out.extend_from_slice(enhanced.as_bytes());
                out.extend_from_slice(b" ");
            }
            for character in text.chars() {
                if out.len() - start + character.len_utf8() > LINE_BYTES_MAX - 2 {
                    break;
                }
                let shown = if character.is_control() { ' ' } else { character };
                out.extend_from_slice(shown.encode_utf8(&mut [0; 4]).as_bytes());
            }
            out.extend_from_slice(b"\r\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoded(reply: &Reply) -> String {
        let mut out = BytesMut::new();
        reply.encode(&mut out);
        String::from_utf8(out.to_vec()).unwrap()
    }

    #[test]
    fn the_last_line_has_a_space_after_the_code() {
        assert_eq!(encoded(&Reply::new(250, Some("2.1.5"), "OK")), "250 2.1.5 OK\r\n");
        assert_eq!(
            encoded(&Reply::lhlo(vec!["mx".into(), "PIPELINING".into(), "SIZE 1".into()])),
            "250-mx\r\n250-PIPELINING\r\n250 SIZE 1\r\n"
        );
        assert_eq!(encoded(&Reply { code: 354, enhanced: None, lines: Vec::new() }), "354 \r\n");
    }

    #[test]
    fn texts_cannot_forge_lines() {
        assert_eq!(encoded(&Reply::new(550, Some("5.1.1"), "a\r\n250 b")), "550 5.1.1 a  250 b\r\n");
        assert!(encoded(&Reply::new(550, None, "é".repeat(999))).len() <= 512);
    }
}
