//! Announcements of literals at the end of a line: `{12}`, and `{12+}` where the client does not wait (RFC 7888).
//!
//! The framer looks for them before it knows the command; the parser reads them again in their place.

use super::command::AppendLiteral;

/// A literal whose size is beyond every number we read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Endless {
    pub(super) non_sync: bool,
}

/// The literal that a line announces at its end, as the parser reads it.
pub(super) fn announced(line: &[u8]) -> Option<Result<AppendLiteral, Endless>> {
    let inner = line.strip_suffix(b"}")?;
    let (inner, non_sync) = inner.strip_suffix(b"+").map_or((inner, false), |inner| (inner, true));
    let start = inner.iter().rposition(|byte| !byte.is_ascii_digit())?;
    let (brace, digits) = (inner.get(start)?, inner.get(start + 1..)?);
    if *brace != b'{' || digits.is_empty() {
        return None;
    }
    let size = std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok());
    let size = size.filter(|size| *size <= i64::MAX as u64);
    Some(size.map(|size| AppendLiteral { size, non_sync }).ok_or(Endless { non_sync }))
}

/// The last bytes of a line that is thrown away: enough for the announcement of a literal.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    bytes: [u8; Tail::BYTES],
    length: usize,
}

impl Tail {
    /// `{`, 19 digits, `+}` and the line's end; and one digit more, so that a number too long is seen to be so.
    const BYTES: usize = 32;

    pub(super) fn extend(&mut self, more: &[u8]) {
        let more = more.get(more.len().saturating_sub(Self::BYTES)..).unwrap_or_default();
        let keep = self.length.min(Self::BYTES - more.len());
        self.bytes.copy_within(self.length - keep..self.length, 0);
        if let Some(place) = self.bytes.get_mut(keep..keep + more.len()) {
            place.copy_from_slice(more);
        }
        self.length = keep + more.len();
    }

    /// Without the line's end.
    pub(super) fn line(&self) -> &[u8] {
        let line = self.bytes.get(..self.length).unwrap_or_default();
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        line.strip_suffix(b"\r").unwrap_or(line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_literal_is_announced_at_the_end_of_a_line_only() {
        let literal = |size, non_sync| Some(Ok(AppendLiteral { size, non_sync }));
        assert_eq!(announced(b"a LOGIN {5}"), literal(5, false));
        assert_eq!(announced(b"{0+}"), literal(0, true));
        assert_eq!(announced(b"{9223372036854775808+}"), Some(Err(Endless { non_sync: true })));
        for line in ["", "}", "{}", "{+}", "5}", "{5", "{5} ", "{-5}", "{5++}", "{a5}", "\"{5}\""] {
            assert_eq!(announced(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_tail_keeps_the_end_however_the_line_comes() {
        let line = b"a line that is longer than any tail {9223372036854775807+}\r\n";
        for size in 1..line.len() {
            let mut tail = Tail::default();
            line.chunks(size).for_each(|chunk| tail.extend(chunk));
            assert!(tail.line().ends_with(b" {9223372036854775807+}"));
            assert_eq!(tail.line().len(), Tail::BYTES - 2);
        }
    }
}
