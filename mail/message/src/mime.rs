//! The MIME fields of one part (RFC 2045, 2183, 2231, 3282, 2557).
//!
//! Parameters are kept as BODYSTRUCTURE shows them: continuations joined (`name*0`, `name*1` become `name`), but charset
//! and percent encoding left in place under the name `name*`. [`decoded_param`] reads them.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::header::Field;
use crate::token::Cursor;
use crate::{Limits, decode};

/// Parameters kept of one field.
const PARAMS_MAX: usize = 256;
const LANGUAGES_MAX: usize = 64;

/// Parameter: name, value.
pub type Param = (Vec<u8>, Vec<u8>);

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentType {
    /// The type, in the case it was written.
    pub kind: Vec<u8>,
    pub subtype: Vec<u8>,
    pub params: Vec<Param>,
}

impl ContentType {
    /// What a part without Content-Type is (RFC 2045 §5.2).
    pub fn text_plain() -> Self {
        let params = vec![(b"charset".to_vec(), b"us-ascii".to_vec())];
        Self { kind: b"text".to_vec(), subtype: b"plain".to_vec(), params }
    }

    /// What a part of a digest without Content-Type is (RFC 2046 §5.1.5).
    pub(crate) fn message_rfc822() -> Self {
        Self { kind: b"message".to_vec(), subtype: b"rfc822".to_vec(), params: Vec::new() }
    }

    /// What is not interpreted further.
    pub(crate) fn opaque() -> Self {
        Self { kind: b"application".to_vec(), subtype: b"octet-stream".to_vec(), params: Vec::new() }
    }

    pub fn is(&self, kind: &str, subtype: &str) -> bool {
        self.is_kind(kind) && self.subtype.eq_ignore_ascii_case(subtype.as_bytes())
    }

    pub fn is_kind(&self, kind: &str) -> bool {
        self.kind.eq_ignore_ascii_case(kind.as_bytes())
    }

    pub fn param(&self, name: &str) -> Option<&[u8]> {
        let named = |param: &&Param| param.0.eq_ignore_ascii_case(name.as_bytes());
        self.params.iter().find(named).map(|(_, value)| value.as_slice())
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let mut cursor = Cursor::new(value);
        cursor.skip_cfws();
        let kind = cursor.mime_token()?.to_vec();
        if !cursor.eat(b'/') {
            return None;
        }
        cursor.skip_cfws();
        let subtype = cursor.mime_token()?.to_vec();
        Some(Self { kind, subtype, params: params(&mut cursor) })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Disposition {
    pub kind: Vec<u8>,
    pub params: Vec<Param>,
}

/// What a part says about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mime {
    pub content_type: ContentType,
    /// Content-Transfer-Encoding, in the case it was written. `None` means 7bit.
    pub encoding: Option<Vec<u8>>,
    pub id: Option<Vec<u8>>,
    pub description: Option<Vec<u8>>,
    pub md5: Option<Vec<u8>>,
    pub disposition: Option<Disposition>,
    pub language: Vec<Vec<u8>>,
    pub location: Option<Vec<u8>>,
}

/// Collects the MIME fields of one header. Of a field that occurs twice the first counts.
#[derive(Default)]
pub(crate) struct Collector {
    /// Seen but unreadable is `Some(None)`: then the default type holds.
    content_type: Option<Option<ContentType>>,
    encoding: Option<Vec<u8>>,
    id: Option<Vec<u8>>,
    description: Option<Vec<u8>>,
    md5: Option<Vec<u8>>,
    disposition: Option<Disposition>,
    language: Vec<Vec<u8>>,
    location: Option<Vec<u8>>,
}

impl Collector {
    pub(crate) fn note(&mut self, field: &Field<'_>, limits: &Limits) {
        let Some((prefix, name)) = field.name.split_at_checked(8) else { return };
        if !prefix.eq_ignore_ascii_case(b"content-") {
            return;
        }
        let value = || field.unfolded(limits.value_bytes_max);
        match name.to_ascii_lowercase().as_slice() {
            b"type" => {
                self.content_type.get_or_insert_with(|| ContentType::parse(&value()));
            }
            b"transfer-encoding" => self.encoding = self.encoding.take().or_else(|| token(&value())),
            b"id" => {
                self.id.get_or_insert_with(value);
            }
            b"description" => {
                self.description.get_or_insert_with(value);
            }
            b"md5" => {
                self.md5.get_or_insert_with(value);
            }
            b"location" => {
                self.location.get_or_insert_with(value);
            }
            b"disposition" => {
                self.disposition = self.disposition.take().or_else(|| disposition(&value()));
            }
            b"language" if self.language.is_empty() => self.language = languages(&value()),
            _ => {}
        }
    }

    pub(crate) fn finish(self, default: ContentType) -> Mime {
        let content_type = match self.content_type {
            Some(Some(content_type)) => content_type,
            Some(None) => ContentType::text_plain(),
            None => default,
        };
        Mime {
            content_type,
            encoding: self.encoding,
            id: self.id,
            description: self.description,
            md5: self.md5,
            disposition: self.disposition,
            language: self.language,
            location: self.location,
        }
    }
}

fn token(value: &[u8]) -> Option<Vec<u8>> {
    let mut cursor = Cursor::new(value);
    cursor.skip_cfws();
    cursor.mime_token().map(<[u8]>::to_vec)
}

fn disposition(value: &[u8]) -> Option<Disposition> {
    let mut cursor = Cursor::new(value);
    cursor.skip_cfws();
    let kind = cursor.mime_token()?.to_vec();
    Some(Disposition { kind, params: params(&mut cursor) })
}

fn languages(value: &[u8]) -> Vec<Vec<u8>> {
    let mut cursor = Cursor::new(value);
    let mut languages = Vec::new();
    loop {
        cursor.skip_cfws();
        let Some(language) = cursor.mime_token() else { break };
        languages.push(language.to_vec());
        if languages.len() >= LANGUAGES_MAX || !cursor.eat(b',') {
            break;
        }
    }
    languages
}

/// Reads `; name=value` until the value ends. What cannot be read is skipped up to the next semicolon.
fn params(cursor: &mut Cursor<'_>) -> Vec<Param> {
    let mut raw = Vec::new();
    while raw.len() < PARAMS_MAX {
        cursor.skip_to(b";");
        if !cursor.eat(b';') {
            break;
        }
        cursor.skip_cfws();
        let Some(name) = cursor.mime_token() else { continue };
        if !cursor.eat(b'=') {
            continue;
        }
        cursor.skip_cfws();
        let value = match cursor.peek() {
            Some(b'"') => cursor.quoted_string().unwrap_or_default(),
            _ => loose_value(cursor),
        };
        raw.push((name.to_vec(), value));
    }
    join_continuations(raw)
}

/// An unquoted value. Mailers forget quotes around names with spaces, slashes and the like: it goes up to the semicolon.
fn loose_value(cursor: &mut Cursor<'_>) -> Vec<u8> {
    let start = cursor.rest();
    let end = start.iter().position(|&byte| byte == b';').unwrap_or(start.len());
    let (value, rest) = start.split_at_checked(end).unwrap_or((start, b""));
    // A comment after the value is none of it (RFC 2045 §5.1).
    let value = match value.windows(2).position(|pair| pair == b" (" || pair == b"\t(") {
        Some(at) => value.get(..at).unwrap_or(value),
        None => value,
    };
    cursor.reset(rest);
    value.trim_ascii().to_vec()
}

/// One numbered piece of a parameter (RFC 2231 §3): base name, number, whether it is percent-encoded.
fn continuation(name: &[u8]) -> Option<(Vec<u8>, u16, bool)> {
    let (name, encoded) = match name.strip_suffix(b"*") {
        Some(name) => (name, true),
        None => (name, false),
    };
    let star = name.iter().rposition(|&byte| byte == b'*')?;
    let digits = std::str::from_utf8(name.get(star + 1..)?).ok()?;
    let number = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok()).flatten()?;
    Some((name.get(..star)?.to_vec(), number, encoded))
}

/// By number: the text of each piece, and whether it is percent-encoded.
type Pieces = BTreeMap<u16, (Vec<u8>, bool)>;

fn join_continuations(raw: Vec<Param>) -> Vec<Param> {
    let mut params = Vec::new();
    let mut pieces: BTreeMap<Vec<u8>, Pieces> = BTreeMap::new();
    for (name, value) in raw {
        match continuation(&name) {
            Some((base, number, encoded)) => {
                let base = base.to_ascii_lowercase();
                pieces.entry(base).or_default().entry(number).or_insert((value, encoded));
            }
            None => params.push((name, value)),
        }
    }
    for (mut name, pieces) in pieces {
        let any_encoded = pieces.values().any(|(_, encoded)| *encoded);
        let mut joined = Vec::new();
        // A number that is missing ends the value (RFC 2231 §3: numbers are consecutive from 0).
        for (_, (index, (value, encoded))) in
            pieces.into_iter().enumerate().take_while(|(at, (n, _))| *at == usize::from(*n))
        {
            if index == 0 && any_encoded && !encoded {
                joined.extend_from_slice(b"''");
            }
            match any_encoded && !encoded {
                true => value.iter().for_each(|&byte| push_percent(&mut joined, byte)),
                false => joined.extend_from_slice(&value),
            }
        }
        if any_encoded {
            name.push(b'*');
        }
        params.push((name, joined));
    }
    params
}

fn push_percent(out: &mut Vec<u8>, byte: u8) {
    const HEX: [u8; 16] = *b"0123456789ABCDEF";
    if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`{}~".contains(&byte) {
        out.push(byte);
    } else {
        out.extend([b'%', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
    }
}

/// Returns a parameter as text: RFC 2231 encoding undone, else encoded words that some mailers put there.
pub fn decoded_param(params: &[Param], name: &str) -> Option<String> {
    let star = format!("{name}*");
    let find = |wanted: &str| params.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted.as_bytes()));
    if let Some((_, value)) = find(&star) {
        let mut pieces = value.splitn(3, |&byte| byte == b'\'');
        if let (Some(charset), Some(_language), Some(text)) = (pieces.next(), pieces.next(), pieces.next()) {
            return Some(decode::to_text(charset, &decode::percent(text)));
        }
    }
    find(name).map(|(_, value)| crate::words::decode(value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content_type(value: &str) -> Option<ContentType> {
        ContentType::parse(value.as_bytes())
    }

    #[test]
    fn parameters_are_read_with_and_without_quotes() {
        let ct = content_type("text/plain (a comment); charset=\"utf-8\" ; format = flowed; name=a b.txt")
            .unwrap();
        assert!(ct.is("TEXT", "Plain"));
        assert_eq!(ct.param("Charset"), Some(&b"utf-8"[..]));
        assert_eq!(ct.param("format"), Some(&b"flowed"[..]));
        assert_eq!(ct.param("name"), Some(&b"a b.txt"[..]));
        assert_eq!(content_type("text"), None);
        assert_eq!(content_type("/x"), None);
        assert_eq!(
            content_type("multipart/mixed; boundary==_x; junk; =").unwrap().param("boundary"),
            Some(&b"=_x"[..])
        );
    }

    #[test]
    fn continuations_are_joined() {
        // RFC 2231 §4.1
        let ct = content_type(
            "application/x-stuff; title*0*=us-ascii'en'This%20is%20even%20more%20; title*1*=%2A%2A%2Afun%2A%2A%2A%20; title*2=\"isn't it!\"",
        )
        .unwrap();
        assert_eq!(decoded_param(&ct.params, "title").unwrap(), "This is even more ***fun*** isn't it!");
        let ct = content_type("message/external-body; URL*0=\"ftp://\"; URL*1=\"cs.utk.edu/x\"").unwrap();
        assert_eq!(ct.param("url"), Some(&b"ftp://cs.utk.edu/x"[..]));
        let ct = content_type("a/b; n*0=x; n*2=z").unwrap();
        assert_eq!(ct.param("n"), Some(&b"x"[..]));
        let ct = content_type("a/b; name*=iso-8859-1''%E9t%e9").unwrap();
        assert_eq!(decoded_param(&ct.params, "name").unwrap(), "été");
        let ct = content_type("a/b; name=\"=?utf-8?Q?=C3=A9?=\"").unwrap();
        assert_eq!(decoded_param(&ct.params, "name").unwrap(), "é");
    }
}
