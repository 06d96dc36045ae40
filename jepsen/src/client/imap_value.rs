//! What an IMAP server says, as values: atoms, strings and lists (RFC 3501 §4, §7).

use std::collections::BTreeSet;

use super::{Failure, Result, shown};

/// Lists deeper than this are not read; ours never are, but a BODYSTRUCTURE may come near.
const DEPTH_MAX: usize = 2000;

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Nil,
    Atom(String),
    Text(Vec<u8>),
    List(Vec<Value>),
}

impl Value {
    pub fn number(&self) -> Option<u64> {
        self.atom()?.parse().ok()
    }

    pub fn atom(&self) -> Option<&str> {
        if let Self::Atom(atom) = self { Some(atom) } else { None }
    }

    /// A string of any kind: atom, quoted or literal.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Self::Atom(atom) => Some(atom.as_bytes()),
            Self::Text(text) => Some(text),
            Self::Nil | Self::List(_) => None,
        }
    }

    pub fn list(&self) -> Option<&[Value]> {
        if let Self::List(list) = self { Some(list) } else { None }
    }
}

/// How a command or a greeting ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Ok,
    No,
    Bad,
    Bye,
    Preauth,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    pub kind: Kind,
    /// Inside of the brackets: `UIDNEXT 7`.
    pub code: Option<String>,
    pub text: String,
}

impl Status {
    /// The words of the code, when it is of this name.
    pub fn code_words(&self, name: &str) -> Option<Vec<&str>> {
        let mut words = self.code.as_deref()?.split(' ');
        words.next()?.eq_ignore_ascii_case(name).then(|| words.collect())
    }
}

/// One FETCH response.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Fetched {
    pub number: u32,
    pub items: Vec<(String, Value)>,
}

impl Fetched {
    pub fn item(&self, name: &str) -> Option<&Value> {
        self.items.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    pub fn uid(&self) -> Option<u32> {
        self.item("UID")?.number()?.try_into().ok()
    }

    pub fn modseq(&self) -> Option<u64> {
        self.item("MODSEQ")?.list()?.first()?.number()
    }

    pub fn flags(&self) -> Option<BTreeSet<String>> {
        let flags = self.item("FLAGS")?.list()?;
        Some(flags.iter().filter_map(Value::atom).map(str::to_owned).collect())
    }

    /// The first `BODY[...]` item.
    pub fn body(&self) -> Option<&[u8]> {
        let (_, value) = self.items.iter().find(|(name, _)| name.starts_with("BODY["))?;
        // NIL stands for an empty part in some servers' answers.
        Some(value.bytes().unwrap_or_default())
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Untagged {
    Status(Status),
    Exists(u32),
    Recent(u32),
    Expunge(u32),
    Fetch(Fetched),
    Other(Vec<Value>),
}

/// Reads what follows `* `. Literals stand in it behind their `{n}` CRLF.
pub fn untagged(bytes: &[u8]) -> Result<Untagged> {
    if let Some(status) = status(bytes) {
        return Ok(Untagged::Status(status));
    }
    let mut reader = Reader { bytes, at: 0 };
    let values = reader.values(0, None)?;
    let number = values.first().and_then(Value::number).and_then(|number| u32::try_from(number).ok());
    let word = values.get(1).and_then(Value::atom).map(str::to_ascii_uppercase);
    match (number, word.as_deref()) {
        (Some(number), Some("EXISTS")) => Ok(Untagged::Exists(number)),
        (Some(number), Some("RECENT")) => Ok(Untagged::Recent(number)),
        (Some(number), Some("EXPUNGE")) => Ok(Untagged::Expunge(number)),
        (Some(number), Some("FETCH")) => {
            let list = values.get(2).and_then(Value::list);
            let list =
                list.ok_or_else(|| Failure::Broken(format!("FETCH without a list: {}", shown(bytes))))?;
            Ok(Untagged::Fetch(Fetched { number, items: pairs(list, bytes)? }))
        }
        (_, _) => Ok(Untagged::Other(values)),
    }
}

fn pairs(list: &[Value], bytes: &[u8]) -> Result<Vec<(String, Value)>> {
    let (pairs, odd) = list.as_chunks::<2>();
    let named = pairs.iter().map(|[name, value]| Some((name.atom()?.to_owned(), value.clone()))).collect();
    match named {
        Some(named) if odd.is_empty() => Ok(named),
        Some(_) | None => Err(Failure::Broken(format!("FETCH not in pairs: {}", shown(bytes)))),
    }
}

/// Reads `OK [CODE] text` and its like; `None` when it is none of them.
pub fn status(bytes: &[u8]) -> Option<Status> {
    let line = String::from_utf8_lossy(bytes);
    let (word, rest) = line.split_once(' ').unwrap_or((&line, ""));
    let kind = match word.to_ascii_uppercase().as_str() {
        "OK" => Kind::Ok,
        "NO" => Kind::No,
        "BAD" => Kind::Bad,
        "BYE" => Kind::Bye,
        "PREAUTH" => Kind::Preauth,
        _ => return None,
    };
    let coded = rest.strip_prefix('[').and_then(|rest| rest.split_once(']'));
    let (code, text) = coded.map_or((None, rest), |(code, text)| (Some(code.to_owned()), text.trim_start()));
    Some(Status { kind, code, text: text.to_owned() })
}

struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    fn broken(&self, what: &str) -> Failure {
        Failure::Broken(format!("{what} at {} of {}", self.at, shown(self.bytes)))
    }

    fn values(&mut self, depth: usize, until: Option<u8>) -> Result<Vec<Value>> {
        if depth > DEPTH_MAX {
            return Err(self.broken("a list too deep"));
        }
        let mut values = Vec::new();
        loop {
            match self.peek() {
                None if until.is_none() => return Ok(values),
                None => return Err(self.broken("a list that does not end")),
                Some(b' ') => self.at += 1,
                Some(byte) if Some(byte) == until => {
                    self.at += 1;
                    return Ok(values);
                }
                Some(b'(') => {
                    self.at += 1;
                    values.push(Value::List(self.values(depth + 1, Some(b')'))?));
                }
                Some(b'"') => values.push(Value::Text(self.quoted()?)),
                Some(b'{') => values.push(Value::Text(self.literal()?)),
                Some(b')') => return Err(self.broken("a stray )")),
                Some(_) => values.push(self.atom()?),
            }
        }
    }

    fn quoted(&mut self) -> Result<Vec<u8>> {
        let mut text = Vec::new();
        loop {
            self.at += 1;
            match self.peek() {
                Some(b'"') => break,
                Some(b'\\') => {
                    self.at += 1;
                    text.extend(self.peek());
                }
                // RFC 3501 §9: a quoted string has no CR, LF or NUL.
                None | Some(b'\r' | b'\n' | 0) => return Err(self.broken("a bad quoted string")),
                Some(byte) => text.push(byte),
            }
        }
        self.at += 1;
        Ok(text)
    }

    fn literal(&mut self) -> Result<Vec<u8>> {
        let rest = self.bytes.get(self.at + 1..).unwrap_or_default();
        let end = rest.windows(3).position(|window| window == b"}\r\n");
        let digits = end.and_then(|end| rest.get(..end)).unwrap_or_default();
        let count: usize = std::str::from_utf8(digits)
            .ok()
            .and_then(|digits| digits.parse().ok())
            .ok_or_else(|| self.broken("a bad literal"))?;
        let start = digits.len() + 3;
        let text = rest.get(start..start + count).ok_or_else(|| self.broken("a short literal"))?;
        self.at += 1 + start + count;
        Ok(text.to_vec())
    }

    /// An atom; `BODY[HEADER.FIELDS (SUBJECT)]<0>` counts as one.
    fn atom(&mut self) -> Result<Value> {
        let start = self.at;
        let mut brackets = 0_u32;
        while let Some(byte) = self.peek() {
            match byte {
                b'[' => brackets += 1,
                b']' => brackets = brackets.saturating_sub(1),
                b' ' | b'(' | b')' if brackets == 0 => break,
                _ => {}
            }
            self.at += 1;
        }
        let atom = String::from_utf8_lossy(self.bytes.get(start..self.at).unwrap_or_default()).into_owned();
        if atom.is_empty() {
            return Err(self.broken("nothing where a value stands"));
        }
        Ok(if atom.eq_ignore_ascii_case("NIL") { Value::Nil } else { Value::Atom(atom) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fetch_with_literal_and_section_name_is_read() {
        let bytes = b"12 FETCH (UID 7 FLAGS (\\Seen x) BODY[HEADER.FIELDS (X-Y)] {4}\r\na)\"b MODSEQ (9))";
        let Untagged::Fetch(fetched) = untagged(bytes).unwrap() else { panic!() };
        assert_eq!((fetched.number, fetched.uid(), fetched.modseq()), (12, Some(7), Some(9)));
        assert_eq!(fetched.body(), Some(&b"a)\"b"[..]));
        assert_eq!(fetched.flags().unwrap().len(), 2);
    }

    #[test]
    fn status_gives_up_its_code() {
        let Untagged::Status(status) = untagged(b"OK [UIDNEXT 4392] Predicted").unwrap() else { panic!() };
        assert_eq!(status.code_words("uidnext"), Some(vec!["4392"]));
        assert_eq!(status.text, "Predicted");
    }

    #[test]
    fn what_is_not_in_the_protocol_is_broken() {
        for bytes in
            [&b"LIST (\\HasNoChildren"[..], b"1 FETCH (UID)", b"LIST () \"a", b"1 FETCH (A {9}\r\nx)"]
        {
            assert!(matches!(untagged(bytes), Err(Failure::Broken(_))), "{}", shown(bytes));
        }
    }
}
