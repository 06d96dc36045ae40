//! `dovecot-uidlist` and `subscriptions`: what neighbours read beside the messages (maildir.md §5, §6).
//!
//! Invariants
//! - A bad or torn line costs that line only, and is told; the rest counts.
//! - What we write is whole or not there.

use std::path::Path;
use std::sync::Arc;

use model::utf7::{decode_utf7, encode_utf7};
use model::{MailboxId, MailboxName};
use nfs_compat::{Fs, Result, publish};

use super::super::{FormerLists, Lists};

const UIDLIST: &str = "dovecot-uidlist";
const SUBSCRIPTIONS: &str = "subscriptions";
/// A list of ten million messages; more is garbage.
const LIST_BYTES_MAX: u64 = 1 << 30;
const DAMAGE_TOLD_MAX: usize = 20;

pub(super) fn read_uidlist(fs: &dyn Fs, mailbox: &Path) -> Result<FormerLists> {
    let path = mailbox.join(UIDLIST);
    let bytes = match fs.read(&path, LIST_BYTES_MAX) {
        Err(error) if error.is_not_found() => return Ok(FormerLists::default()),
        bytes => bytes?,
    };
    Ok(parse_uidlist(&bytes, &path.display().to_string()))
}

fn parse_uidlist(bytes: &[u8], name: &str) -> FormerLists {
    let mut lists = FormerLists::default();
    let damage = |line: usize, what: &str, lists: &mut FormerLists| {
        if lists.damage.len() < DAMAGE_TOLD_MAX {
            lists.damage.push(format!("{name}:{line}: {what}"));
        }
    };
    let whole = bytes.is_empty() || bytes.ends_with(b"\n");
    let mut lines = bytes.split(|byte| *byte == b'\n').enumerate().peekable();
    let mut version = 3;
    while let Some((index, line)) = lines.next() {
        let last = lines.peek().is_none();
        if line.is_empty() {
            continue;
        }
        if last && !whole {
            damage(index + 1, "torn last line", &mut lists);
            continue;
        }
        let Ok(line) = std::str::from_utf8(line) else {
            damage(index + 1, "not UTF-8", &mut lists);
            continue;
        };
        if index == 0 {
            match parse_header(line, &mut lists) {
                Some(found) => version = found,
                None => damage(1, "header is not understood", &mut lists),
            }
            continue;
        }
        match parse_line(line, version) {
            Some(entry) => lists.uids.push(entry),
            None => damage(index + 1, "line is not understood", &mut lists),
        }
    }
    // The same name twice: the later line wins. The same UID twice: the first keeps it.
    let mut seen = std::collections::HashSet::new();
    lists.uids.reverse();
    lists.uids.retain(|(_, base, _)| seen.insert(Arc::clone(base)));
    lists.uids.reverse();
    lists.uids.sort_by_key(|(uid, _, _)| *uid);
    lists.uids.dedup_by_key(|(uid, _, _)| *uid);
    lists
}

fn parse_header(line: &str, lists: &mut FormerLists) -> Option<u32> {
    let mut fields = line.split(' ').filter(|field| !field.is_empty());
    let version = fields.next()?.parse().ok()?;
    match version {
        1 => {
            lists.uid_validity = fields.next()?.parse().ok().filter(|value| *value != 0);
            lists.uid_next = fields.next()?.parse().ok().filter(|value| *value != 0);
        }
        3 => {
            for field in fields {
                if let Some(value) = field.strip_prefix('V') {
                    lists.uid_validity = value.parse().ok().filter(|value| *value != 0);
                } else if let Some(value) = field.strip_prefix('N') {
                    lists.uid_next = value.parse().ok().filter(|value| *value != 0);
                } else if let Some(value) = field.strip_prefix('G') {
                    lists.guid = MailboxId::parse_hex(value).map(|id| *id.as_bytes());
                }
            }
        }
        _ => return None,
    }
    lists.uid_validity.map(|_| version)
}

type Line = (u32, Arc<str>, Option<Arc<str>>);

fn parse_line(line: &str, version: u32) -> Option<Line> {
    let (uid, rest) = line.split_once(' ')?;
    let uid = uid.parse::<u32>().ok().filter(|uid| *uid != 0)?;
    let (fields, name) = if version == 1 { ("", rest) } else { rest.split_once(':')? };
    let base = name.split(':').next().unwrap_or(name);
    if base.is_empty() || base.contains('/') {
        return None;
    }
    let uidl = fields.split(' ').find_map(|field| field.strip_prefix('P'));
    // `P` alone means: the base name.
    let uidl = uidl.map(|uidl| if uidl.is_empty() { base.into() } else { uidl.into() });
    Some((uid, base.into(), uidl))
}

pub(super) fn write_uidlist(fs: &dyn Fs, mailbox: &Path, guid: MailboxId, lists: &Lists) -> Result<()> {
    let mut text = format!("3 V{} N{} G{guid}\n", lists.uid_validity, lists.uid_next);
    for (uid, base, uidl) in &lists.uids {
        match uidl {
            Some(uidl) => text.push_str(&format!("{uid} P{uidl} :{base}\n")),
            None => text.push_str(&format!("{uid} :{base}\n")),
        }
    }
    publish::publish(fs, mailbox, UIDLIST, text.as_bytes())
}

/// Version 2 has levels separated by TAB; an existing version 1 file stays version 1 (maildir.md §6).
const VERSION_2: &str = "V\t2\n\n";

pub(super) fn read_subscriptions(fs: &dyn Fs, root: &Path) -> Result<Vec<MailboxName>> {
    let bytes = match fs.read(&root.join(SUBSCRIPTIONS), LIST_BYTES_MAX) {
        Err(error) if error.is_not_found() => return Ok(Vec::new()),
        bytes => bytes?,
    };
    let text = String::from_utf8_lossy(&bytes);
    let (text, separator) = match text.strip_prefix(VERSION_2) {
        Some(rest) => (rest, '\t'),
        None => (&*text, '.'),
    };
    let name = |line: &str| {
        let levels: Option<Vec<String>> =
            line.split(separator).map(|level| decode_utf7(unescape(level).as_bytes()).ok()).collect();
        MailboxName::new(&levels?.join("/")).ok()
    };
    Ok(text.lines().filter(|line| !line.is_empty()).filter_map(name).collect())
}

pub(super) fn write_subscriptions(fs: &dyn Fs, root: &Path, names: &[MailboxName]) -> Result<()> {
    let version_1 = match fs.read(&root.join(SUBSCRIPTIONS), 16) {
        Ok(bytes) => !bytes.is_empty() && !bytes.starts_with(b"V\t"),
        Err(_) => false,
    };
    let (mut text, separator) = if version_1 { (String::new(), ".") } else { (VERSION_2.to_owned(), "\t") };
    for name in names {
        let levels: Vec<String> = name.levels().map(encode_utf7).collect();
        text.push_str(&levels.join(separator));
        text.push('\n');
    }
    publish::publish(fs, root, SUBSCRIPTIONS, text.as_bytes())
}

/// Byte 01 escapes inside a level. Names never have what it escapes, but for foreign ones, which no name matches.
fn unescape(level: &str) -> String {
    let mut text = String::new();
    let mut characters = level.chars();
    while let Some(character) = characters.next() {
        match (character, character == '\x01') {
            (_, true) => match characters.next() {
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some('n') => text.push('\n'),
                Some('1') => text.push('\x01'),
                Some('0') | None => text.push('\0'),
                Some(other) => text.push(other),
            },
            (plain, false) => text.push(plain),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_line_costs_that_line_only() {
        let text = b"3 V1795319790 N14 G4048c60bee67026b3a03000083ecc375\n1 :a\nrubbish\n\xff\n11 P00b6 O7 :b,S=1,W=2\n12 :c/d\n13 P :e:2,S\n14 :tor";
        let lists = parse_uidlist(text, "f");
        assert_eq!(lists.uid_validity, Some(1_795_319_790));
        assert_eq!(lists.uid_next, Some(14));
        let uids: Vec<_> =
            lists.uids.iter().map(|(uid, base, uidl)| (*uid, &**base, uidl.as_deref())).collect();
        assert_eq!(uids, [(1, "a", None), (11, "b,S=1,W=2", Some("00b6")), (13, "e", Some("e"))]);
        assert_eq!(lists.damage.len(), 4);
        assert!(lists.damage[0].starts_with("f:3: "));
    }

    #[test]
    fn version_1_is_read_and_a_later_line_of_a_name_wins() {
        let lists = parse_uidlist(b"1 77 9\n1 a\n2 b\n5 a\n", "f");
        assert_eq!((lists.uid_validity, lists.uid_next), (Some(77), Some(9)));
        assert_eq!(lists.uids.iter().map(|(uid, ..)| *uid).collect::<Vec<_>>(), [2, 5]);
    }
}
