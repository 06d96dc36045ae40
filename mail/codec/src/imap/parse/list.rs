//! LIST and LSUB (RFC 3501 §6.3.8 and §6.3.9, RFC 5258, RFC 5819, RFC 6154).

use super::command::{mailbox, status_items};
use super::cursor::{Cursor, Parsed, syntax};
use crate::imap::command::{Body, ListCommand, ListReturn, ListSelection};
use crate::imap::mailbox::{ListPattern, WireMailbox};

pub(super) fn lsub(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    let reference = mailbox(cursor)?;
    cursor.space()?;
    let pattern = ListPattern::new(cursor.list_mailbox()?);
    Ok(Body::Lsub { reference, pattern })
}

pub(super) fn list(cursor: &mut Cursor<'_>) -> Parsed<Body> {
    let mut extended = false;
    let mut choice = ListSelection::default();
    cursor.space()?;
    if cursor.peek() == Some(b'(') {
        extended = true;
        choice = selection(cursor)?;
        cursor.space()?;
    }
    let reference = WireMailbox::new(cursor.astring()?);
    cursor.space()?;
    let pattern = |cursor: &mut Cursor<'_>| cursor.list_mailbox().map(ListPattern::new);
    let patterns = if cursor.peek() == Some(b'(') {
        extended = true;
        cursor.list(false, pattern)?
    } else {
        vec![pattern(cursor)?]
    };
    let mut asked = ListReturn::default();
    if cursor.try_byte(b' ') {
        extended = true;
        asked = returns(cursor)?;
    }
    Ok(Body::List(ListCommand { reference, patterns, selection: choice, returns: asked, extended }))
}

fn selection(cursor: &mut Cursor<'_>) -> Parsed<ListSelection> {
    let mut selection = ListSelection::default();
    cursor.list(true, |cursor| {
        match cursor.word()?.as_str() {
            "SUBSCRIBED" => selection.subscribed = true,
            "REMOTE" => selection.remote = true,
            "RECURSIVEMATCH" => selection.recursive_match = true,
            "SPECIAL-USE" => selection.special_use = true,
            _ => return syntax("Invalid LIST selection option"),
        }
        Ok(())
    })?;
    // RFC 5258 §3.1: alone, or only with REMOTE, it chooses nothing.
    if selection.recursive_match && !selection.subscribed && !selection.special_use {
        return syntax("RECURSIVEMATCH needs another selection option");
    }
    Ok(selection)
}

fn returns(cursor: &mut Cursor<'_>) -> Parsed<ListReturn> {
    if !cursor.try_word("RETURN") {
        return cursor.fail("Expected RETURN");
    }
    cursor.space()?;
    let mut returns = ListReturn::default();
    cursor.list(true, |cursor| {
        match cursor.word()?.as_str() {
            "SUBSCRIBED" => returns.subscribed = true,
            "CHILDREN" => returns.children = true,
            "SPECIAL-USE" => returns.special_use = true,
            "STATUS" => {
                cursor.space()?;
                returns.status = Some(status_items(cursor)?);
            }
            _ => return syntax("Invalid LIST return option"),
        }
        Ok(())
    })?;
    Ok(returns)
}
