//! FETCH (RFC 3501 §6.4.5, RFC 7162 §3.1.4 and §3.2.6, RFC 8474).

use super::command::set;
use super::cursor::{Cursor, Parsed, syntax};
use crate::imap::command::{Body, FetchCommand};
use crate::imap::fetch::{FetchItem, PART_DEPTH_MAX, Partial, Section, SectionText};

/// Items in one FETCH.
const ITEMS_MAX: usize = 256;
/// Longest name of a header field that can be asked for.
const FIELD_NAME_BYTES_MAX: usize = 255;

pub(super) fn fetch(cursor: &mut Cursor<'_>, uid: bool) -> Parsed<Body> {
    let set = set(cursor)?;
    cursor.space()?;
    let items = items(cursor)?;
    let mut command = FetchCommand { uid, set, items, changed_since: None, vanished: false };
    if cursor.try_byte(b' ') {
        modifiers(cursor, &mut command)?;
    }
    Ok(Body::Fetch(command))
}

fn items(cursor: &mut Cursor<'_>) -> Parsed<Vec<FetchItem>> {
    const FAST: [FetchItem; 3] = [FetchItem::Flags, FetchItem::InternalDate, FetchItem::Rfc822Size];
    let mut items = Vec::new();
    if cursor.peek() == Some(b'(') {
        cursor.list(false, |cursor| {
            let item = item(cursor)?;
            if items.len() == ITEMS_MAX {
                return syntax("Too many FETCH items");
            }
            if !items.contains(&item) {
                items.push(item);
            }
            Ok(())
        })?;
    } else if cursor.try_word("FAST") {
        items.extend(FAST);
    } else if cursor.try_word("ALL") {
        items.extend(FAST);
        items.push(FetchItem::Envelope);
    } else if cursor.try_word("FULL") {
        items.extend(FAST);
        items.extend([FetchItem::Envelope, FetchItem::Body]);
    } else {
        items.push(item(cursor)?);
    }
    Ok(items)
}

fn item(cursor: &mut Cursor<'_>) -> Parsed<FetchItem> {
    let name = cursor.take_while(|byte| byte.is_ascii_alphanumeric() || byte == b'.').to_ascii_uppercase();
    let sectioned = cursor.peek() == Some(b'[');
    let item = match name.as_slice() {
        b"" => return cursor.fail("Expected a FETCH item"),
        b"BODY" if sectioned => return section_item(cursor, false),
        b"BODY.PEEK" if sectioned => return section_item(cursor, true),
        b"BODY" => FetchItem::Body,
        b"BODYSTRUCTURE" => FetchItem::BodyStructure,
        b"EMAILID" => FetchItem::EmailId,
        b"ENVELOPE" => FetchItem::Envelope,
        b"FLAGS" => FetchItem::Flags,
        b"INTERNALDATE" => FetchItem::InternalDate,
        b"MODSEQ" => FetchItem::ModSeq,
        b"RFC822" => FetchItem::Rfc822,
        b"RFC822.HEADER" => FetchItem::Rfc822Header,
        b"RFC822.SIZE" => FetchItem::Rfc822Size,
        b"RFC822.TEXT" => FetchItem::Rfc822Text,
        b"THREADID" => FetchItem::ThreadId,
        b"UID" => FetchItem::Uid,
        _ => return syntax("Unknown FETCH item"),
    };
    Ok(item)
}

fn section_item(cursor: &mut Cursor<'_>, peek: bool) -> Parsed<FetchItem> {
    cursor.byte(b'[')?;
    let section = section(cursor)?;
    cursor.byte(b']')?;
    let partial = if cursor.peek() == Some(b'<') { Some(partial(cursor)?) } else { None };
    Ok(FetchItem::Section { peek, section, partial })
}

fn section(cursor: &mut Cursor<'_>) -> Parsed<Section> {
    let mut part = Vec::new();
    while cursor.peek().is_some_and(|byte| byte.is_ascii_digit()) {
        if part.len() == PART_DEPTH_MAX {
            return syntax("Section is too deep");
        }
        part.push(cursor.nz_number()?);
        if !cursor.try_byte(b'.') {
            return Ok(Section { part, text: SectionText::Whole });
        }
    }
    let name = cursor.take_while(|byte| byte.is_ascii_alphabetic() || byte == b'.').to_ascii_uppercase();
    let text = match name.as_slice() {
        b"" if part.is_empty() => SectionText::Whole,
        b"HEADER" => SectionText::Header,
        b"TEXT" => SectionText::Text,
        b"MIME" if !part.is_empty() => SectionText::Mime,
        b"HEADER.FIELDS" => SectionText::HeaderFields(field_names(cursor)?),
        b"HEADER.FIELDS.NOT" => SectionText::HeaderFieldsNot(field_names(cursor)?),
        _ => return syntax("Invalid section"),
    };
    Ok(Section { part, text })
}

fn field_names(cursor: &mut Cursor<'_>) -> Parsed<Vec<String>> {
    cursor.space()?;
    cursor.list(false, |cursor| match String::from_utf8(cursor.astring()?) {
        Ok(name) if is_field_name(&name) => Ok(name),
        Ok(_) | Err(_) => syntax("Invalid header field name"),
    })
}

/// Printable ASCII without `:` (RFC 5322 §2.2).
fn is_field_name(name: &str) -> bool {
    let good = |byte: u8| byte.is_ascii_graphic() && byte != b':';
    !name.is_empty() && name.len() <= FIELD_NAME_BYTES_MAX && name.bytes().all(good)
}

fn partial(cursor: &mut Cursor<'_>) -> Parsed<Partial> {
    cursor.byte(b'<')?;
    let offset = cursor.number64()?;
    cursor.byte(b'.')?;
    let length = cursor.number64()?;
    if length == 0 {
        return syntax("A partial must not be empty");
    }
    cursor.byte(b'>')?;
    Ok(Partial { offset, length })
}

fn modifiers(cursor: &mut Cursor<'_>, command: &mut FetchCommand) -> Parsed<()> {
    cursor.list(false, |cursor| {
        match cursor.word()?.as_str() {
            "CHANGEDSINCE" if command.changed_since.is_none() => {
                cursor.space()?;
                command.changed_since = Some(cursor.number64()?);
            }
            "VANISHED" => command.vanished = true,
            _ => return syntax("Invalid FETCH modifier"),
        }
        Ok(())
    })?;
    // RFC 7162 §3.2.6: only with UID FETCH and CHANGEDSINCE.
    if command.vanished && (!command.uid || command.changed_since.is_none()) {
        return syntax("VANISHED needs UID FETCH and CHANGEDSINCE");
    }
    Ok(())
}
