//! One command, read from a buffer that the framer filled.

mod command;
mod cursor;
mod fetch;
mod list;
mod search;

use super::command::{BadCommand, BadKind, Command, Tag};
use cursor::{Cursor, Stop};

pub(crate) use cursor::is_astring_char;

/// What a buffer holds.
pub(crate) enum Outcome {
    Command(Command),
    /// Right so far; it goes on after a literal. Only where `whole` was false.
    Incomplete,
    Bad(BadCommand),
}

/// Reads a command. `whole`: its last line is in `bytes`, without the line's end. Otherwise `bytes` ends with the
/// line that announces a literal, and an APPEND whose message comes next is a `Command`.
pub(crate) fn parse(bytes: &[u8], whole: bool) -> Outcome {
    let mut cursor = Cursor::new(bytes, whole);
    let word = cursor.take_while(|byte| is_astring_char(byte) && byte != b'+');
    let Some(tag) = Tag::new(word) else {
        return Outcome::Bad(BadCommand { tag: None, kind: BadKind::Syntax, message: "Missing tag".into() });
    };
    let body = match cursor.peek() {
        Some(b' ') | None => cursor.space().and_then(|()| command::body(&mut cursor)),
        Some(_) => {
            return Outcome::Bad(BadCommand {
                tag: None,
                kind: BadKind::Syntax,
                message: "Invalid tag".into(),
            });
        }
    };
    let (kind, message) = match body {
        Ok(body) => return Outcome::Command(Command { tag, body }),
        Err(Stop::Incomplete) => return Outcome::Incomplete,
        Err(Stop::Syntax(message)) => (BadKind::Syntax, message.into_owned()),
        Err(Stop::UseAttr) => (BadKind::UseAttr, "No such special use".to_owned()),
    };
    Outcome::Bad(BadCommand { tag: Some(tag), kind, message })
}

/// The tag alone, for a line that was not kept whole.
pub(crate) fn tag_of(bytes: &[u8]) -> Option<Tag> {
    let end = bytes.iter().position(|byte| *byte == b' ')?;
    bytes.get(..end).and_then(Tag::new)
}
