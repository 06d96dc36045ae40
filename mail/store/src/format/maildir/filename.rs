//! Names of message files: `BASE[:2,LETTERS]` (maildir.md §2).
//!
//! Invariants
//! - A base never has `/`, `:`, CR or LF, and does not begin with `.`.
//! - What we do not understand in a suffix (letters, a second list) is kept when flags change.

use std::ffi::OsStr;

use model::{EntryId, Epoch, Keyword, SystemFlag, SystemFlags};

use super::keywords::Keywords;

/// A file's name, taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct FileName<'a> {
    pub(super) base: &'a str,
    /// From the colon on; empty in `new`.
    pub(super) suffix: &'a str,
}

/// What a directory entry is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Seen<'a> {
    Message(FileName<'a>),
    /// A message whose name is broken: it needs another.
    Broken,
    /// Hidden, or no message.
    Ignored,
}

pub(super) fn read(name: &OsStr) -> Seen<'_> {
    let Some(name) = name.to_str() else { return Seen::Broken };
    if name.starts_with('.') || name.contains(['\n', '\r']) {
        return Seen::Ignored;
    }
    match name.find(':') {
        Some(0) => Seen::Broken,
        Some(colon) => Seen::Message(FileName { base: &name[..colon], suffix: &name[colon..] }),
        None if name.is_empty() => Seen::Ignored,
        None => Seen::Message(FileName { base: name, suffix: "" }),
    }
}

const LETTERS: [(char, SystemFlag); 5] = [
    ('D', SystemFlag::Draft),
    ('F', SystemFlag::Flagged),
    ('R', SystemFlag::Answered),
    ('S', SystemFlag::Seen),
    ('T', SystemFlag::Deleted),
];

/// The letters after the last `:2,`, up to the next comma.
fn letters(suffix: &str) -> &str {
    let list = suffix.rfind(':').and_then(|colon| suffix[colon..].strip_prefix(":2,"));
    list.map_or("", |list| list.split(',').next().unwrap_or(list))
}

/// Flags that a suffix shows.
pub(super) fn flags(suffix: &str, keywords: &Keywords) -> (SystemFlags, Vec<Keyword>) {
    let mut system = SystemFlags::NONE;
    let mut named = Vec::new();
    for letter in letters(suffix).chars() {
        match letter {
            'a'..='z' => named.push(keywords.name(letter as usize - 'a' as usize)),
            _ => {
                if let Some((_, flag)) = LETTERS.iter().find(|(known, _)| *known == letter) {
                    system.set(*flag, true);
                }
            }
        }
    }
    named.sort();
    named.dedup();
    (system, named)
}

/// The suffix that shows these flags and keeps what `old` has besides.
pub(super) fn suffix(old: &str, system: SystemFlags, keyword_letters: &[char]) -> String {
    let known = |letter: &char| letter.is_ascii_lowercase() || LETTERS.iter().any(|(flag, _)| flag == letter);
    let mut all: Vec<char> = letters(old).chars().filter(|letter| !known(letter)).collect();
    all.extend(LETTERS.iter().filter(|(_, flag)| system.contains(*flag)).map(|(letter, _)| *letter));
    all.extend(keyword_letters);
    all.sort_unstable();
    all.dedup();
    let rest = old.rfind(":2,").and_then(|at| old[at + 3..].find(',').map(|comma| &old[at + 3 + comma..]));
    format!(":2,{}{}", all.into_iter().collect::<String>(), rest.unwrap_or(""))
}

/// Sizes that a base names: `,S=` and `,W=`. Digits must be followed by `,` or the end, else the field does not count.
pub(super) fn sizes(base: &str) -> (Option<u64>, Option<u64>) {
    let field = |key: &str| base.split(',').skip(1).find_map(|part| part.strip_prefix(key)?.parse().ok());
    (field("S="), field("W="))
}

/// A base of ours: readable time first, then the entry and the epoch that make it unique (L-FN1).
pub(super) fn own(entry: EntryId, epoch: Epoch, unix_us: u64, size: u64, wire_size: u64) -> String {
    let (seconds, micros) = (unix_us / 1_000_000, unix_us % 1_000_000);
    format!("{seconds}.M{micros:06}R{entry}E{epoch}.roost,S={size},W={wire_size}")
}

/// The entry and epoch of a base of ours; `None` for every other.
pub(super) fn read_own(base: &str) -> Option<(EntryId, Epoch)> {
    let name = base.split(',').next()?.strip_suffix(".roost")?;
    let ids = &name[name.find('R')? + 1..];
    let (entry, epoch) = ids.split_once('E')?;
    Some((EntryId::parse_hex(entry)?, Epoch::parse_hex(epoch)?))
}

/// The epoch under which a base of ours was made.
pub fn made_under(base: &str) -> Option<Epoch> {
    read_own(base).map(|(_, epoch)| epoch)
}

/// Order in which files without a UID get theirs (maildir.md §3).
pub fn arrival_order(a: &str, b: &str) -> std::cmp::Ordering {
    let number = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let key = |base: &str| {
        let digits = number(base);
        let seconds = base[..digits].parse::<u64>().unwrap_or(0);
        let micros =
            base[digits..].strip_prefix(".M").map(|rest| rest[..number(rest)].parse::<u64>().unwrap_or(0));
        (seconds, micros)
    };
    let ((a_s, a_us), (b_s, b_us)) = (key(a), key(b));
    let micros = match (a_us, b_us) {
        (Some(a_us), Some(b_us)) => a_us.cmp(&b_us),
        (None | Some(_), None | Some(_)) => std::cmp::Ordering::Equal,
    };
    a_s.cmp(&b_s).then(micros).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_keep_what_they_do_not_understand() {
        assert_eq!(suffix("", SystemFlags::NONE, &[]), ":2,");
        assert_eq!(suffix(":2,PS", SystemFlags::NONE.with(SystemFlag::Flagged), &['b']), ":2,FPb");
        assert_eq!(suffix(":2,Sa,x=1", SystemFlags::NONE.with(SystemFlag::Seen), &[]), ":2,S,x=1");
        assert_eq!(suffix(":1,foo", SystemFlags::NONE, &[]), ":2,");
    }

    #[test]
    fn own_bases_are_recognised_and_others_are_not() {
        let entry = EntryId::from_bytes([0x5a; 16]);
        let base = own(entry, Epoch::new(1, 7), 1_795_319_790_210_291, 182, 188);
        assert_eq!(read_own(&base), Some((entry, Epoch::new(1, 7))));
        assert_eq!(sizes(&base), (Some(182), Some(188)));
        assert_eq!(read_own("1795319790.M210291P826.mx1,S=182,W=188"), None);
        assert_eq!(sizes("a,S=12x,W=9"), (None, Some(9)));
    }

    #[test]
    fn broken_and_hidden_names_are_told_apart() {
        assert_eq!(read(OsStr::new(":2,S")), Seen::Broken);
        assert_eq!(read(OsStr::new(".nfs0001")), Seen::Ignored);
        assert_eq!(read(OsStr::new("a\nb")), Seen::Ignored);
        assert_eq!(read(OsStr::new("a:2,S")), Seen::Message(FileName { base: "a", suffix: ":2,S" }));
    }

    #[test]
    fn files_without_uid_are_numbered_as_dovecot_would() {
        let mut bases = ["9.M2P1.h", "10.b", "10.M5P1.h", "9.M10P1.h", "x", "10.M40P1.h"];
        bases.sort_by(|a, b| arrival_order(a, b));
        assert_eq!(bases[..3], ["x", "9.M2P1.h", "9.M10P1.h"]);
    }
}
