//! Every command's own grammar, but for the long ones, which have files of their own.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use model::{Flag, SpecialUse, UidValidity};

use super::cursor::{Cursor, Parsed, Stop, syntax};
use super::{fetch, list, search};
use crate::imap::command::{
    AppendCommand, AppendLiteral, Authenticate, Body, IdField, Login, QresyncParameters, Select,
    SelectParameters, StatusItem, StoreAction, StoreCommand,
};
use crate::imap::date::DateTime;
use crate::imap::mailbox::WireMailbox;
use crate::imap::set::SequenceSet;

/// Everything after the tag and its space.
pub(super) fn body(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    let name = cursor.word()?;
    let body = match name.as_str() {
        "CAPABILITY" => Body::Capability,
        "NOOP" => Body::Noop,
        "LOGOUT" => Body::Logout,
        "STARTTLS" => Body::StartTls,
        "IDLE" => Body::Idle,
        "NAMESPACE" => Body::Namespace,
        "UNSELECT" => Body::Unselect,
        "CLOSE" => Body::Close,
        "CHECK" => Body::Check,
        "EXPUNGE" => Body::Expunge,
        "UID" => uid_command(cursor)?,
        // The message's literal, not the line, ends it.
        "APPEND" => return append(cursor).map(Body::Append),
        _ => with_arguments(&name, cursor)?,
    };
    cursor.end()?;
    Ok(body)
}

fn with_arguments(name: &str, cursor: &mut Cursor<'_>) -> Parsed<Body> {
    match name {
        "ID" => id(cursor),
        "AUTHENTICATE" => authenticate(cursor),
        "LOGIN" => login(cursor),
        "ENABLE" => enable(cursor),
        "SELECT" => select(cursor).map(Body::Select),
        "EXAMINE" => select(cursor).map(Body::Examine),
        "CREATE" => create(cursor),
        "DELETE" => mailbox(cursor).map(Body::Delete),
        "RENAME" => Ok(Body::Rename { from: mailbox(cursor)?, to: mailbox(cursor)? }),
        "SUBSCRIBE" => mailbox(cursor).map(Body::Subscribe),
        "UNSUBSCRIBE" => mailbox(cursor).map(Body::Unsubscribe),
        "LIST" => list::list(cursor),
        "LSUB" => list::lsub(cursor),
        "STATUS" => status(cursor),
        "SEARCH" => search::search(cursor, false),
        "FETCH" => fetch::fetch(cursor, false),
        "STORE" => store(cursor, false),
        "COPY" => Ok(Body::Copy { uid: false, set: set(cursor)?, mailbox: mailbox(cursor)? }),
        "MOVE" => Ok(Body::Move { uid: false, set: set(cursor)?, mailbox: mailbox(cursor)? }),
        // The name is not repeated: it may be a password that was sent at the wrong moment.
        _ => syntax("Unknown command"),
    }
}

fn uid_command(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    cursor.space()?;
    let name = cursor.word()?;
    match name.as_str() {
        "SEARCH" => search::search(cursor, true),
        "FETCH" => fetch::fetch(cursor, true),
        "STORE" => store(cursor, true),
        "EXPUNGE" => set(cursor).map(Body::UidExpunge),
        "COPY" => Ok(Body::Copy { uid: true, set: set(cursor)?, mailbox: mailbox(cursor)? }),
        "MOVE" => Ok(Body::Move { uid: true, set: set(cursor)?, mailbox: mailbox(cursor)? }),
        _ => syntax("Unknown UID command"),
    }
}

/// A space and a mailbox.
pub(super) fn mailbox(cursor: &mut Cursor<'_>) -> Parsed<WireMailbox> {
    cursor.space()?;
    cursor.astring().map(WireMailbox::new)
}

/// A space and a sequence set.
pub(super) fn set(cursor: &mut Cursor<'_>) -> Parsed<SequenceSet> {
    cursor.space()?;
    bare_set(cursor)
}

pub(super) fn bare_set(cursor: &mut Cursor<'_>) -> Parsed<SequenceSet> {
    let text = cursor.take_while(|byte| byte.is_ascii_digit() || b":,*".contains(&byte));
    if text.is_empty() {
        return cursor.fail("Expected a sequence set");
    }
    SequenceSet::parse(text).or_else(|error| syntax(error.to_string()))
}

fn set_without_star(cursor: &mut Cursor<'_>) -> Parsed<SequenceSet> {
    let set = bare_set(cursor)?;
    if set.has_star() { syntax("'*' has no meaning here") } else { Ok(set) }
}

fn id(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    cursor.space()?;
    if cursor.try_word("NIL") {
        return Ok(Body::Id(None));
    }
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let field = |cursor: &mut Cursor<'_>| -> Parsed<IdField> {
        let name = text(cursor.string()?);
        cursor.space()?;
        Ok((name, cursor.nstring()?.map(text)))
    };
    cursor.list(true, field).map(|fields| Body::Id(Some(fields)))
}

fn authenticate(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    cursor.space()?;
    let mechanism = cursor.word()?;
    if !cursor.try_byte(b' ') {
        return Ok(Body::Authenticate(Authenticate { mechanism, initial: None }));
    }
    let text = cursor.take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    let initial = match text {
        b"" => return cursor.fail("Missing initial response"),
        b"=" => Vec::new(),
        text => STANDARD.decode(text).or_else(|_| syntax("Initial response is not base64"))?,
    };
    Ok(Body::Authenticate(Authenticate { mechanism, initial: Some(initial) }))
}

fn login(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    cursor.space()?;
    let user = cursor.astring()?;
    cursor.space()?;
    let password = cursor.astring()?;
    Ok(Body::Login(Login { user, password }))
}

fn enable(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    let mut names = Vec::new();
    cursor.space()?;
    names.push(cursor.word()?);
    while cursor.try_byte(b' ') {
        names.push(cursor.word()?);
    }
    Ok(Body::Enable(names))
}

fn select(cursor: &mut Cursor<'_>) -> Parsed<Select> {
    let mailbox = mailbox(cursor)?;
    let mut parameters = SelectParameters::default();
    if cursor.try_byte(b' ') {
        cursor.list(false, |cursor| {
            match cursor.word()?.as_str() {
                "CONDSTORE" => parameters.condstore = true,
                "QRESYNC" if parameters.qresync.is_none() => parameters.qresync = Some(qresync(cursor)?),
                _ => return syntax("Invalid SELECT parameter"),
            }
            Ok(())
        })?;
    }
    Ok(Select { mailbox, parameters })
}

/// ` (uidvalidity modseq [known-uids] [(sequence-numbers uids)])`, RFC 7162 §7.
fn qresync(cursor: &mut Cursor<'_>) -> Parsed<QresyncParameters> {
    cursor.space()?;
    cursor.byte(b'(')?;
    let Some(uid_validity) = UidValidity::new(cursor.number()?) else {
        return syntax("UIDVALIDITY must not be 0");
    };
    cursor.space()?;
    let modseq = cursor.number64()?;
    let (mut known_uids, mut matches) = (None, None);
    let mut more = cursor.try_byte(b' ');
    if more && cursor.peek() != Some(b'(') {
        known_uids = Some(set_without_star(cursor)?);
        more = cursor.try_byte(b' ');
    }
    if more {
        cursor.byte(b'(')?;
        let numbers = set_without_star(cursor)?;
        cursor.space()?;
        matches = Some((numbers, set_without_star(cursor)?));
        cursor.byte(b')')?;
    }
    cursor.byte(b')')?;
    Ok(QresyncParameters { uid_validity, modseq, known_uids, matches })
}

fn create(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    let mailbox = mailbox(cursor)?;
    let mut special_use = Vec::new();
    if cursor.try_byte(b' ') {
        cursor.list(false, |cursor| {
            if cursor.word()? != "USE" {
                return syntax("Invalid CREATE parameter");
            }
            cursor.space()?;
            special_use.extend(cursor.list(true, |cursor| {
                cursor.byte(b'\\')?;
                let name = cursor.atom()?;
                SpecialUse::parse(&format!("\\{name}")).ok_or(Stop::UseAttr)
            })?);
            Ok(())
        })?;
    }
    Ok(Body::Create { mailbox, special_use })
}

fn status(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    let mailbox = mailbox(cursor)?;
    cursor.space()?;
    Ok(Body::Status { mailbox, items: status_items(cursor)? })
}

/// Each item once, however often it is asked for.
pub(super) fn status_items(cursor: &mut Cursor<'_>) -> Parsed<Vec<StatusItem>> {
    let mut items = Vec::new();
    cursor.list(false, |cursor| {
        match StatusItem::parse(cursor.atom()?) {
            Some(item) if !items.contains(&item) => items.push(item),
            Some(_) => {}
            None => return syntax("Invalid STATUS item"),
        }
        Ok(())
    })?;
    Ok(items)
}

fn append(cursor: &mut Cursor<'_>) -> Parsed<AppendCommand> {
    let mailbox = mailbox(cursor)?;
    cursor.space()?;
    let mut flags = Vec::new();
    if cursor.peek() == Some(b'(') {
        flags = cursor.flag_list()?;
        cursor.space()?;
    }
    let mut date = None;
    if cursor.peek() == Some(b'"') {
        let text = cursor.quoted()?;
        date = Some(DateTime::parse(&text).map_or_else(|| syntax("Invalid date-time"), Ok)?);
        cursor.space()?;
    }
    if cursor.peek() != Some(b'{') {
        return cursor.fail("Expected the message as a literal");
    }
    let announced = cursor.announcement()?;
    let literal = AppendLiteral { size: announced.size, non_sync: announced.non_sync };
    Ok(AppendCommand { mailbox, flags, date, literal })
}

fn store(cursor: &mut Cursor<'_>, uid: bool) -> Parsed<Body> {
    let set = set(cursor)?;
    cursor.space()?;
    let mut unchanged_since = None;
    if cursor.peek() == Some(b'(') {
        cursor.list(false, |cursor| {
            if cursor.word()? != "UNCHANGEDSINCE" || unchanged_since.is_some() {
                return syntax("Invalid STORE modifier");
            }
            cursor.space()?;
            unchanged_since = Some(cursor.number64()?);
            Ok(())
        })?;
        cursor.space()?;
    }
    let (action, silent) = match cursor.word()?.as_str() {
        "FLAGS" => (StoreAction::Replace, false),
        "FLAGS.SILENT" => (StoreAction::Replace, true),
        "+FLAGS" => (StoreAction::Add, false),
        "+FLAGS.SILENT" => (StoreAction::Add, true),
        "-FLAGS" => (StoreAction::Remove, false),
        "-FLAGS.SILENT" => (StoreAction::Remove, true),
        _ => return syntax("Expected FLAGS, +FLAGS or -FLAGS"),
    };
    cursor.space()?;
    let flags = store_flags(cursor)?;
    Ok(Body::Store(StoreCommand { uid, set, unchanged_since, action, silent, flags }))
}

/// In parentheses, or one or more without.
fn store_flags(cursor: &mut Cursor<'_>) -> Parsed<Vec<Flag>> {
    if cursor.peek() == Some(b'(') {
        return cursor.flag_list();
    }
    let mut flags = vec![cursor.flag()?];
    while cursor.try_byte(b' ') {
        flags.push(cursor.flag()?);
    }
    Ok(flags)
}
