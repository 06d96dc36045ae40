//! SEARCH (RFC 3501 §6.4.4, RFC 4731, RFC 5032, RFC 7162 §3.1.5, RFC 8474).
//!
//! Invariant: functions here call each other at most `SEARCH_DEPTH_MAX` deep, and so does dropping the key.

use model::Keyword;

use super::command::{bare_set, set};
use super::cursor::{Cursor, Parsed, shortened, syntax};
use crate::imap::command::{Body, SearchCommand, SearchReturn};
use crate::imap::date::Date;
use crate::imap::search::{SEARCH_DEPTH_MAX, SearchKey};

pub(super) fn search(cursor: &mut Cursor<'_>, uid: bool) -> Parsed<Body> {
    cursor.space()?;
    let mut asked = None;
    if cursor.try_word("RETURN") {
        cursor.space()?;
        asked = Some(returns(cursor)?);
        cursor.space()?;
    }
    let mut charset = None;
    if cursor.try_word("CHARSET") {
        cursor.space()?;
        charset = Some(String::from_utf8(cursor.astring()?).or_else(|_| syntax("Invalid charset"))?);
        cursor.space()?;
    }
    let mut keys = vec![key(cursor, 0)?];
    while cursor.try_byte(b' ') {
        keys.push(key(cursor, 0)?);
    }
    Ok(Body::Search(SearchCommand { uid, returns: asked, charset, key: all_of(keys) }))
}

fn returns(cursor: &mut Cursor<'_>) -> Parsed<SearchReturn> {
    let mut returns = SearchReturn::default();
    cursor.list(true, |cursor| {
        match cursor.word()?.as_str() {
            "MIN" => returns.min = true,
            "MAX" => returns.max = true,
            "ALL" => returns.all = true,
            "COUNT" => returns.count = true,
            _ => return syntax("Invalid SEARCH return option"),
        }
        Ok(())
    })?;
    // RFC 4731 §3.1: an empty list means ALL.
    if returns == SearchReturn::default() {
        returns.all = true;
    }
    Ok(returns)
}

/// One key stands for itself.
fn all_of(mut keys: Vec<SearchKey>) -> SearchKey {
    match keys.pop() {
        Some(only) if keys.is_empty() => only,
        Some(last) => {
            keys.push(last);
            SearchKey::And(keys)
        }
        None => SearchKey::All,
    }
}

fn key(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<SearchKey> {
    if depth >= SEARCH_DEPTH_MAX {
        return syntax("Search is nested too deeply");
    }
    match cursor.peek() {
        Some(b'(') => cursor.list(false, |cursor| key(cursor, depth + 1)).map(all_of),
        Some(b'0'..=b'9' | b'*') => bare_set(cursor).map(SearchKey::Sequence),
        Some(_) | None => {
            let name = cursor.word()?;
            match name.as_str() {
                "NOT" => {
                    cursor.space()?;
                    Ok(SearchKey::Not(Box::new(key(cursor, depth + 1)?)))
                }
                "OR" => any_of(cursor, depth),
                _ => simple(&name).map_or_else(|| with_argument(&name, cursor), Ok),
            }
        }
    }
}

/// After `OR`. Clients join hundreds of keys as `OR a OR b OR c d`; the chain is read in a loop.
fn any_of(cursor: &mut Cursor<'_>, depth: usize) -> Parsed<SearchKey> {
    let mut keys = Vec::new();
    loop {
        cursor.space()?;
        keys.push(key(cursor, depth + 1)?);
        cursor.space()?;
        if !cursor.try_word("OR") {
            keys.push(key(cursor, depth + 1)?);
            return Ok(SearchKey::Or(keys));
        }
    }
}

fn simple(name: &str) -> Option<SearchKey> {
    let key = match name {
        "ALL" => SearchKey::All,
        "ANSWERED" => SearchKey::Answered,
        "DELETED" => SearchKey::Deleted,
        "DRAFT" => SearchKey::Draft,
        "FLAGGED" => SearchKey::Flagged,
        "NEW" => SearchKey::New,
        "OLD" => SearchKey::Old,
        "RECENT" => SearchKey::Recent,
        "SEEN" => SearchKey::Seen,
        "UNANSWERED" => SearchKey::Unanswered,
        "UNDELETED" => SearchKey::Undeleted,
        "UNDRAFT" => SearchKey::Undraft,
        "UNFLAGGED" => SearchKey::Unflagged,
        "UNSEEN" => SearchKey::Unseen,
        _ => return None,
    };
    Some(key)
}

fn with_argument(name: &str, cursor: &mut Cursor<'_>) -> Parsed<SearchKey> {
    let key = match name {
        "BCC" => SearchKey::Bcc(text(cursor)?),
        "BEFORE" => SearchKey::Before(date(cursor)?),
        "BODY" => SearchKey::Body(text(cursor)?),
        "CC" => SearchKey::Cc(text(cursor)?),
        "EMAILID" => SearchKey::EmailId(object_id(cursor)?),
        "FROM" => SearchKey::From(text(cursor)?),
        "HEADER" => SearchKey::Header { name: text(cursor)?, value: text(cursor)? },
        "KEYWORD" => SearchKey::Keyword(keyword(cursor)?),
        "LARGER" => SearchKey::Larger(size(cursor)?),
        "MODSEQ" => SearchKey::ModSeq(modseq(cursor)?),
        "OLDER" => SearchKey::Older(interval(cursor)?),
        "ON" => SearchKey::On(date(cursor)?),
        "SENTBEFORE" => SearchKey::SentBefore(date(cursor)?),
        "SENTON" => SearchKey::SentOn(date(cursor)?),
        "SENTSINCE" => SearchKey::SentSince(date(cursor)?),
        "SINCE" => SearchKey::Since(date(cursor)?),
        "SMALLER" => SearchKey::Smaller(size(cursor)?),
        "SUBJECT" => SearchKey::Subject(text(cursor)?),
        "TEXT" => SearchKey::Text(text(cursor)?),
        "THREADID" => SearchKey::ThreadId(object_id(cursor)?),
        "TO" => SearchKey::To(text(cursor)?),
        "UID" => SearchKey::Uid(set(cursor)?),
        "UNKEYWORD" => SearchKey::Unkeyword(keyword(cursor)?),
        "YOUNGER" => SearchKey::Younger(interval(cursor)?),
        _ => return syntax(format!("Unknown search key {}", shortened(name))),
    };
    Ok(key)
}

// Arguments: a space, and then what the name says.

fn text(cursor: &mut Cursor<'_>) -> Parsed<Vec<u8>> {
    cursor.space()?;
    cursor.astring()
}

fn size(cursor: &mut Cursor<'_>) -> Parsed<u64> {
    cursor.space()?;
    cursor.number64()
}

fn interval(cursor: &mut Cursor<'_>) -> Parsed<u32> {
    cursor.space()?;
    cursor.nz_number()
}

/// With or without quotes.
fn date(cursor: &mut Cursor<'_>) -> Parsed<Date> {
    Date::parse(&text(cursor)?).map_or_else(|| syntax("Invalid date"), Ok)
}

fn keyword(cursor: &mut Cursor<'_>) -> Parsed<Keyword> {
    cursor.space()?;
    Keyword::new(cursor.atom()?).map_or_else(|| syntax("Invalid keyword"), Ok)
}

/// RFC 8474 §7 objectid.
fn object_id(cursor: &mut Cursor<'_>) -> Parsed<String> {
    cursor.space()?;
    let id = cursor.atom()?;
    let good =
        id.len() <= 255 && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-".contains(&byte));
    if good { Ok(id.to_owned()) } else { syntax("Invalid object id") }
}

/// `["/flags/\\Seen" all] 620162338`, RFC 7162 §7.
fn modseq(cursor: &mut Cursor<'_>) -> Parsed<u64> {
    cursor.space()?;
    if cursor.peek() == Some(b'"') {
        if !cursor.quoted()?.starts_with(b"/flags/") {
            return syntax("Invalid MODSEQ entry name");
        }
        cursor.space()?;
        if !matches!(cursor.word()?.as_str(), "ALL" | "PRIV" | "SHARED") {
            return syntax("Invalid MODSEQ entry type");
        }
        cursor.space()?;
    }
    cursor.number64()
}
