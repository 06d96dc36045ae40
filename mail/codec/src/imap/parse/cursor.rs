//! The words of IMAP's grammar (RFC 3501 §9), read from a buffer that holds one command.
//!
//! A buffer holds the command's lines and literals as they came, without the last line's end. It may also end right
//! after the announcement of a literal whose octets are still to come: then whatever needs more is `Incomplete`, and
//! what is wrong already is found before the client is asked to send the literal.
//!
//! Invariants
//! - Reading never goes backwards, and never past the end.
//! - Nothing is allocated from a number that the client wrote, only from bytes that it sent.

use std::borrow::Cow;

use model::Flag;

/// Why reading ended early.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    /// All is well so far; the octets of a literal are missing.
    Incomplete,
    Syntax(Cow<'static, str>),
    /// A special use that does not exist: NO, not BAD (RFC 6154 §3).
    UseAttr,
}

pub(crate) type Parsed<T> = Result<T, Stop>;

pub(crate) fn syntax<T>(message: impl Into<Cow<'static, str>>) -> Parsed<T> {
    Err(Stop::Syntax(message.into()))
}

/// Any CHAR except atom-specials.
pub(crate) fn is_atom_char(byte: u8) -> bool {
    byte > b' ' && byte < 0x7f && !b"(){%*\"\\]".contains(&byte)
}

pub(crate) fn is_astring_char(byte: u8) -> bool {
    is_atom_char(byte) || byte == b']'
}

fn is_list_char(byte: u8) -> bool {
    is_astring_char(byte) || byte == b'%' || byte == b'*'
}

/// The end of a line that announces a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announcement {
    pub(crate) size: u64,
    pub(crate) non_sync: bool,
}

pub(crate) struct Cursor<'a> {
    rest: &'a [u8],
    /// Whether the last line of the command is in the buffer.
    whole: bool,
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(bytes: &'a [u8], whole: bool) -> Self {
        Self { rest: bytes, whole }
    }

    pub(crate) fn peek(&self) -> Option<u8> {
        self.rest.first().copied()
    }

    fn advance(&mut self, count: usize) -> &'a [u8] {
        let (read, rest) = self.rest.split_at(count.min(self.rest.len()));
        self.rest = rest;
        read
    }

    /// `message`, unless the buffer ended because more is to come.
    pub(crate) fn fail<T>(&self, message: impl Into<Cow<'static, str>>) -> Parsed<T> {
        if self.rest.is_empty() && !self.whole { Err(Stop::Incomplete) } else { syntax(message) }
    }

    /// The command must end here.
    pub(crate) fn end(&self) -> Parsed<()> {
        if self.rest.is_empty() && self.whole {
            Ok(())
        } else {
            self.fail("Unexpected text after the command")
        }
    }

    /// Reads `byte` if it is next.
    pub(crate) fn try_byte(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.advance(1);
        }
        found
    }

    pub(crate) fn byte(&mut self, byte: u8) -> Parsed<()> {
        if self.try_byte(byte) {
            return Ok(());
        }
        self.fail(format!("Expected {:?}", char::from(byte)))
    }

    pub(crate) fn space(&mut self) -> Parsed<()> {
        if self.try_byte(b' ') { Ok(()) } else { self.fail("Missing argument") }
    }

    pub(crate) fn take_while(&mut self, good: impl Fn(u8) -> bool) -> &'a [u8] {
        let count = self.rest.iter().position(|byte| !good(*byte)).unwrap_or(self.rest.len());
        self.advance(count)
    }

    pub(crate) fn atom(&mut self) -> Parsed<&'a str> {
        let word = self.take_while(is_atom_char);
        match std::str::from_utf8(word) {
            Ok(word) if !word.is_empty() => Ok(word),
            Ok(_) | Err(_) => self.fail("Expected an atom"),
        }
    }

    /// An atom whose case does not matter.
    pub(crate) fn word(&mut self) -> Parsed<String> {
        Ok(self.atom()?.to_ascii_uppercase())
    }

    /// Reads `word`, if it is next and nothing of an atom follows it.
    pub(crate) fn try_word(&mut self, word: &str) -> bool {
        let next = self.rest.get(..word.len()).is_some_and(|next| next.eq_ignore_ascii_case(word.as_bytes()));
        let found = next && !self.rest.get(word.len()).is_some_and(|byte| is_atom_char(*byte));
        if found {
            self.advance(word.len());
        }
        found
    }

    pub(crate) fn number64(&mut self) -> Parsed<u64> {
        let digits = self.take_while(|byte| byte.is_ascii_digit());
        if digits.is_empty() {
            return self.fail("Expected a number");
        }
        match std::str::from_utf8(digits).ok().and_then(|digits| digits.parse::<u64>().ok()) {
            // RFC 9051 §9 number64 and RFC 7162 §7 have 63 bits.
            Some(number) if number <= i64::MAX as u64 => Ok(number),
            Some(_) | None => syntax("Number is too large"),
        }
    }

    pub(crate) fn number(&mut self) -> Parsed<u32> {
        u32::try_from(self.number64()?).or_else(|_| syntax("Number is too large"))
    }

    pub(crate) fn nz_number(&mut self) -> Parsed<u32> {
        match self.number()? {
            0 => syntax("Number must not be 0"),
            number => Ok(number),
        }
    }

    pub(crate) fn astring(&mut self) -> Parsed<Vec<u8>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            Some(_) | None => self.bare(is_astring_char),
        }
    }

    /// As `astring`, where `%` and `*` are part of the word.
    pub(crate) fn list_mailbox(&mut self) -> Parsed<Vec<u8>> {
        match self.peek() {
            Some(b'"' | b'{') => self.string(),
            Some(_) | None => self.bare(is_list_char),
        }
    }

    fn bare(&mut self, good: impl Fn(u8) -> bool) -> Parsed<Vec<u8>> {
        let word = self.take_while(good);
        if word.is_empty() { self.fail("Expected a string") } else { Ok(word.to_vec()) }
    }

    pub(crate) fn string(&mut self) -> Parsed<Vec<u8>> {
        match self.peek() {
            Some(b'"') => self.quoted(),
            Some(b'{') => self.literal().map(<[u8]>::to_vec),
            Some(_) | None => self.fail("Expected a quoted string or a literal"),
        }
    }

    pub(crate) fn nstring(&mut self) -> Parsed<Option<Vec<u8>>> {
        if self.try_word("NIL") { Ok(None) } else { self.string().map(Some) }
    }

    /// 8-bit characters are read: UTF-8 is legal in a session that enabled it (RFC 6855 §3), and elsewhere the
    /// meaning of the string decides.
    pub(crate) fn quoted(&mut self) -> Parsed<Vec<u8>> {
        self.byte(b'"')?;
        let mut text = Vec::new();
        loop {
            text.extend_from_slice(self.take_while(|byte| !b"\"\\\r\n\0".contains(&byte)));
            match self.peek() {
                Some(b'"') => {
                    self.advance(1);
                    return Ok(text);
                }
                Some(b'\\') => {
                    self.advance(1);
                    match self.peek() {
                        Some(escaped @ (b'"' | b'\\')) => text.push(escaped),
                        Some(_) | None => return syntax("Only '\"' and '\\' can be escaped"),
                    }
                    self.advance(1);
                }
                // Even where more is to come: a quoted string never spans lines.
                Some(_) | None => return syntax("Unterminated quoted string"),
            }
        }
    }

    /// Reads `{12}` or `{12+}` and the end of the line.
    pub(crate) fn announcement(&mut self) -> Parsed<Announcement> {
        self.byte(b'{')?;
        let size = self.number64()?;
        let non_sync = self.try_byte(b'+');
        self.byte(b'}')?;
        self.try_byte(b'\r');
        self.byte(b'\n')?;
        Ok(Announcement { size, non_sync })
    }

    fn literal(&mut self) -> Parsed<&'a [u8]> {
        let announced = self.announcement()?;
        let octets = usize::try_from(announced.size).ok().and_then(|size| self.rest.get(..size));
        let Some(octets) = octets else {
            return if self.whole { syntax("Literal is cut short") } else { Err(Stop::Incomplete) };
        };
        if octets.contains(&0) {
            return syntax("NUL in a literal");
        }
        self.advance(octets.len());
        Ok(octets)
    }

    /// `(a b c)`. Reads each item with `item`, which sees the cursor at its first byte. May be empty if `or_empty`.
    pub(crate) fn list<T>(
        &mut self,
        or_empty: bool,
        mut item: impl FnMut(&mut Self) -> Parsed<T>,
    ) -> Parsed<Vec<T>> {
        self.byte(b'(')?;
        let mut items = Vec::new();
        if self.try_byte(b')') {
            return if or_empty { Ok(items) } else { syntax("List must not be empty") };
        }
        loop {
            items.push(item(self)?);
            if self.try_byte(b')') {
                return Ok(items);
            }
            self.space()?;
        }
    }

    pub(crate) fn flag(&mut self) -> Parsed<Flag> {
        let system = self.try_byte(b'\\');
        let name = self.atom()?;
        let parsed = if system { Flag::parse(&format!("\\{name}")) } else { Flag::parse(name) };
        match parsed {
            Some(flag) => Ok(flag),
            None if system => syntax(format!("Invalid system flag \\{}", shortened(name))),
            None => syntax(format!("Invalid keyword {}", shortened(name))),
        }
    }

    pub(crate) fn flag_list(&mut self) -> Parsed<Vec<Flag>> {
        self.list(true, Self::flag)
    }
}

/// What the client wrote, short enough to say back to it.
pub(crate) fn shortened(text: &str) -> &str {
    text.char_indices().nth(40).map_or(text, |(end, _)| text.get(..end).unwrap_or(text))
}
