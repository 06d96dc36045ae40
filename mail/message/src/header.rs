//! Fields of a header, found without interpreting them.
//!
//! A field ends where a line begins that is not its continuation. Lines without a colon are fields too, without a name
//! or value, so that every octet of a header belongs to exactly one field or to the empty line at its end.

use memchr::memchr;

/// One field as it stands in the header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Without colon and the white space before it. Empty where there is no colon.
    pub name: &'a [u8],
    /// What follows the colon, still folded, line end included.
    pub value: &'a [u8],
    /// All of it: name, colon, value, line ends.
    pub raw: &'a [u8],
}

impl<'a> Field<'a> {
    fn new(raw: &'a [u8]) -> Self {
        let (name, value) = match memchr(b':', raw) {
            // A colon in a continuation line is none of a name.
            Some(at) if !raw.iter().take(at).any(|&byte| byte == b'\n') => {
                (raw.get(..at).unwrap_or_default(), raw.get(at + 1..).unwrap_or_default())
            }
            _ => (&b""[..], &b""[..]),
        };
        Self { name: name.trim_ascii_end(), value, raw }
    }

    pub fn is(&self, name: &[u8]) -> bool {
        self.name.eq_ignore_ascii_case(name)
    }

    /// The value without line ends and surrounding white space, at most `bytes_max` of it.
    pub fn unfolded(&self, bytes_max: usize) -> Vec<u8> {
        unfold(self.value, bytes_max)
    }
}

/// Takes line ends out of a value, and white space from its ends. A NUL, which no protocol carries, becomes 0x80. A CR
/// that ends no line becomes a space: what it stood between stays apart.
pub fn unfold(value: &[u8], bytes_max: usize) -> Vec<u8> {
    let value = value.trim_ascii();
    let nexts = value.iter().skip(1).copied().map(Some).chain([None]);
    let mut text: Vec<u8> = value
        .iter()
        .zip(nexts)
        .filter_map(|(&byte, next)| match byte {
            b'\n' => None,
            b'\r' if next == Some(b'\n') => None,
            b'\r' => Some(b' '),
            0 => Some(0x80),
            _ => Some(byte),
        })
        .take(bytes_max)
        .collect();
    text.truncate(text.trim_ascii_end().len());
    text
}

/// Iterates over the fields of a header; stops at the empty line.
pub fn fields(header: &[u8]) -> Fields<'_> {
    Fields { rest: header }
}

#[derive(Clone, Debug)]
pub struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// What has not been read: from the empty line on, once the iterator is exhausted.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Field<'a>;

    fn next(&mut self) -> Option<Field<'a>> {
        if self.rest.is_empty() || is_blank(line(self.rest)) {
            return None;
        }
        let mut end = line(self.rest).len();
        while let Some(next) = self.rest.get(end..).filter(|next| matches!(next.first(), Some(b' ' | b'\t')))
        {
            end += line(next).len();
        }
        let (raw, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        Some(Field::new(raw))
    }
}

/// The first line of `bytes`, with its line end if it has one.
pub(crate) fn line(bytes: &[u8]) -> &[u8] {
    let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
    bytes.get(..end).unwrap_or(bytes)
}

pub(crate) fn is_blank(line: &[u8]) -> bool {
    line == b"\r\n" || line == b"\n"
}

/// The length of the header at the start of `wire`, the empty line included. All of it, if there is none.
pub fn header_len(wire: &[u8]) -> usize {
    let mut at = 0;
    while let Some(rest) = wire.get(at..).filter(|rest| !rest.is_empty()) {
        let line = line(rest);
        at += line.len();
        if is_blank(line) {
            break;
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folded_fields_stay_together() {
        let header = b"Subject : one\r\n two\r\nno colon here\r\nX:y\r\n\r\nbody";
        let all: Vec<_> = fields(header).collect();
        assert_eq!(all.len(), 3);
        assert!(all[0].is(b"SUBJECT"));
        assert_eq!(all[0].unfolded(100), b"one two");
        assert_eq!(all[0].raw, b"Subject : one\r\n two\r\n");
        assert_eq!((all[1].name, all[1].raw), (&b""[..], &b"no colon here\r\n"[..]));
        assert_eq!(header_len(header), header.len() - 4);
    }

    #[test]
    fn a_header_line_of_ten_mebibytes_is_one_field() {
        let mut header = b"Subject: ".to_vec();
        header.extend(vec![b'x'; 10 << 20]);
        header.extend_from_slice(b"\r\n\r\n");
        let field = fields(&header).next().unwrap();
        assert_eq!(field.unfolded(1000).len(), 1000);
        assert_eq!(field.raw.len(), header.len() - 2);
    }

    #[test]
    fn a_line_that_is_only_a_name_is_not_that_field() {
        let header = b"Subject\r\nSubject\r\n : folded\r\nSubject: x\r\n\r\n";
        let named: Vec<_> = fields(header).filter(|field| field.is(b"subject")).collect();
        assert_eq!(named.len(), 1);
        assert_eq!(named[0].unfolded(100), b"x");
    }

    #[test]
    fn a_lone_cr_joins_nothing() {
        assert_eq!(unfold(b" a@b.org\rc@d\r\r\n e\r\n", 100), b"a@b.org c@d  e");
        assert_eq!(unfold(b"\ra\r", 100), b"a");
    }

    #[test]
    fn nul_never_reaches_a_protocol() {
        assert_eq!(unfold(b" a\0b \r\n", 100), b"a\x80b");
    }
}
