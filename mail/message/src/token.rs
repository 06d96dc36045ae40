//! The words that header fields are made of (RFC 5322 §3.2, RFC 2045 §5.1).
//!
//! A cursor over an unfolded field value. It never fails: what is asked for and not there yields `None` and leaves the
//! cursor where it was, and unterminated strings and comments end with the value. Comments nest without recursion.

pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    /// Text of the comment skipped last: old mailers put names there.
    pub(crate) comment: Vec<u8>,
}

pub(crate) fn is_atext(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !b"()<>@,;:\\\".[]".contains(&byte)
}

/// RFC 2045 tokens, and 8-bit octets that mailers put into them.
fn is_mime_token(byte: u8) -> bool {
    byte > b' ' && byte != 0x7f && !b"()<>@,;:\\\"/[]?=".contains(&byte)
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(value: &'a [u8]) -> Self {
        Self { rest: value, comment: Vec::new() }
    }

    pub(crate) fn rest(&self) -> &'a [u8] {
        self.rest
    }

    pub(crate) fn reset(&mut self, rest: &'a [u8]) {
        self.rest = rest;
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    pub(crate) fn bump(&mut self) -> Option<u8> {
        let (&first, rest) = self.rest.split_first()?;
        self.rest = rest;
        Some(first)
    }

    /// Steps over `byte` if it is next.
    pub(crate) fn eat(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        if there {
            self.bump();
        }
        there
    }

    /// Skips white space and comments.
    pub(crate) fn skip_cfws(&mut self) {
        while let Some(byte) = self.peek() {
            match byte {
                b' ' | b'\t' | b'\r' | b'\n' => {
                    self.bump();
                }
                b'(' => self.skip_comment(),
                _ => break,
            }
        }
    }

    fn skip_comment(&mut self) {
        self.comment.clear();
        let mut depth = 0usize;
        while let Some(byte) = self.bump() {
            match byte {
                b'(' => {
                    depth += 1;
                    if depth == 1 {
                        continue;
                    }
                }
                b')' => {
                    depth -= 1;
                    if depth == 0 {
                        break;
                    }
                }
                b'\\' => {
                    let quoted = self.bump();
                    self.comment.extend(quoted);
                    continue;
                }
                _ => {}
            }
            self.comment.push(byte);
        }
    }

    fn run(&mut self, belongs: impl Fn(u8) -> bool) -> Option<&'a [u8]> {
        let end = self.rest.iter().position(|&byte| !belongs(byte)).unwrap_or(self.rest.len());
        let (run, rest) = self.rest.split_at_checked(end)?;
        self.rest = rest;
        (!run.is_empty()).then_some(run)
    }

    /// One atom, without what surrounds it.
    pub(crate) fn atom(&mut self) -> Option<&'a [u8]> {
        self.run(is_atext)
    }

    /// A MIME token, then white space.
    pub(crate) fn mime_token(&mut self) -> Option<&'a [u8]> {
        let token = self.run(is_mime_token)?;
        self.skip_cfws();
        Some(token)
    }

    /// The text of a quoted string, without quotes and backslashes.
    pub(crate) fn quoted_string(&mut self) -> Option<Vec<u8>> {
        if !self.eat(b'"') {
            return None;
        }
        let mut text = Vec::new();
        while let Some(byte) = self.bump() {
            match byte {
                b'"' => break,
                b'\\' => text.extend(self.bump()),
                b'\r' | b'\n' => {}
                _ => text.push(byte),
            }
        }
        Some(text)
    }

    /// Words of a display name, joined by one space. Dots may stand in it (RFC 5322 §4.1 obs-phrase).
    pub(crate) fn phrase(&mut self) -> Vec<u8> {
        let mut text = Vec::new();
        let mut spaced = false;
        while let Some(byte) = self.peek() {
            let before = self.rest.len();
            let word = match byte {
                b'"' => self.quoted_string(),
                b'.' => self.bump().map(|dot| vec![dot]),
                _ => self.atom().map(<[u8]>::to_vec),
            };
            let Some(word) = word else { break };
            if spaced && !text.is_empty() {
                text.push(b' ');
            }
            text.extend_from_slice(&word);
            let after_word = self.rest.len();
            debug_assert!(after_word < before);
            self.skip_cfws();
            spaced = self.rest.len() < after_word;
        }
        text
    }

    /// Words joined by dots, white space and comments around them left out. `None` where there is no word.
    pub(crate) fn dotted_words(&mut self) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        let mut found = false;
        while let Some(byte) = self.peek() {
            match byte {
                b'"' => text.extend(self.quoted_string().unwrap_or_default()),
                _ => match self.atom() {
                    Some(atom) => text.extend_from_slice(atom),
                    // Adjacent and final dots are common enough to be let through.
                    None if byte != b'.' => break,
                    None => {}
                },
            }
            found = true;
            self.skip_cfws();
            if !self.eat(b'.') {
                break;
            }
            text.push(b'.');
            self.skip_cfws();
        }
        found.then_some(text)
    }

    /// A domain or a domain literal with its brackets.
    pub(crate) fn domain(&mut self) -> Option<Vec<u8>> {
        if self.peek() != Some(b'[') {
            return self.dotted_words();
        }
        let mut text = Vec::new();
        while let Some(byte) = self.bump() {
            match byte {
                b'\\' => text.extend(self.bump()),
                b' ' | b'\t' | b'\r' | b'\n' => {}
                _ => text.push(byte),
            }
            if byte == b']' {
                break;
            }
        }
        self.skip_cfws();
        Some(text)
    }

    /// Skips to the next of `stops` that is not inside a quoted string or comment.
    pub(crate) fn skip_to(&mut self, stops: &[u8]) {
        while let Some(byte) = self.peek() {
            match byte {
                _ if stops.contains(&byte) => break,
                b'"' => {
                    self.quoted_string();
                }
                b'(' => self.skip_comment(),
                b'\\' => {
                    self.bump();
                    self.bump();
                }
                _ => {
                    self.bump();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_nest_ten_thousand_deep() {
        let mut value = vec![b'('; 10_000];
        value.extend(vec![b')'; 10_000]);
        value.extend_from_slice(b" word");
        let mut cursor = Cursor::new(&value);
        cursor.skip_cfws();
        assert_eq!(cursor.atom(), Some(&b"word"[..]));
    }

    #[test]
    fn unterminated_strings_end_with_the_value() {
        assert_eq!(Cursor::new(b"\"abc").quoted_string(), Some(b"abc".to_vec()));
        assert_eq!(Cursor::new(b"\"abc\\").quoted_string(), Some(b"abc".to_vec()));
        let mut cursor = Cursor::new(b"((x)");
        cursor.skip_cfws();
        assert_eq!(cursor.peek(), None);
    }

    #[test]
    fn phrases_join_words_by_single_spaces() {
        assert_eq!(Cursor::new(b"John \"Q.\"  (x) Public <a@b>").phrase(), b"John Q. Public");
        assert_eq!(Cursor::new(b"J. R. Tolkien <a@b>").phrase(), b"J. R. Tolkien");
    }
}
