//! LIST with the extensions of RFC 5258, 5819 and 6154, and LSUB.

use std::collections::{BTreeSet, HashSet};
use std::sync::Arc;

use account::snapshot::MailboxEntry;
use account::{MailboxView, Snapshot};
use codec::imap::command::{ListCommand, ListReturn, ListSelection, StatusItem};
use codec::imap::response::{ListAttribute, ListEntry};
use codec::imap::{Code, Encoder, ListPattern, MailboxError, WireMailbox};
use model::MailboxName;
use model::name::{NAME_BYTES_MAX, SEPARATOR};

use super::mailbox::status_values;
use super::{Begun, Ending, Imap, NAMES, User, no, ok};

/// Patterns in one LIST.
const PATTERNS_MAX: usize = 64;

impl Imap {
    pub(super) fn list(&mut self, list: &ListCommand) -> Begun {
        let reference = list.reference.text(NAMES).map_err(bad_name)?;
        if list.patterns.len() > PATTERNS_MAX {
            return Err(no(Code::Limit, format!("At most {PATTERNS_MAX} patterns")));
        }
        let patterns = list
            .patterns
            .iter()
            .map(|pattern| Pattern::new(&reference, pattern))
            .collect::<Result<Vec<_>, _>>()?;
        // "An empty ("" string) mailbox name argument is a special request to return the hierarchy delimiter and the
        // root name of the name given in the reference" (RFC 3501 §6.3.8).
        if !list.extended && list.patterns.iter().all(|pattern| pattern.as_bytes().is_empty()) {
            let root = if reference.starts_with(SEPARATOR) { "/" } else { "" };
            self.encoder().list_root(root);
            return Err(ok("List completed"));
        }
        let Some(user) = &self.user else { return Err(super::client_bug("Log in first")) };
        let rows = rows(&user.snapshot, &patterns, list.selection, &list.returns, list.extended);
        let items = list.returns.status.clone();
        if items.as_ref().is_some_and(|items| items.contains(&StatusItem::HighestModSeq)) {
            self.enable_condstore();
        }
        self.out.lines(rows, move |out, row: Row| {
            let mut encoder = Encoder::new(out, NAMES);
            encoder.list(&row.entry);
            if let (Some(items), Some(view)) = (&items, &row.view) {
                encoder.status(&row.entry.name, &status_values(view, items));
            }
        });
        Err(ok("List completed"))
    }

    pub(super) fn lsub(&mut self, reference: &WireMailbox, pattern: &ListPattern) -> Begun {
        let reference = reference.text(NAMES).map_err(bad_name)?;
        let pattern = Pattern::new(&reference, pattern)?;
        let Some(user) = &self.user else { return Err(super::client_bug("Log in first")) };
        let rows = subscribed_rows(user, &pattern);
        self.out.lines(rows, |out, (name, attributes): (MailboxName, Vec<ListAttribute>)| {
            Encoder::new(out, NAMES).lsub(&attributes, &name);
        });
        Err(ok("Lsub completed"))
    }
}

fn bad_name(error: MailboxError) -> Ending {
    no(Code::Cannot, error.to_string())
}

struct Row {
    entry: ListEntry,
    /// For LIST-STATUS: of mailboxes that can be selected.
    view: Option<Arc<MailboxView>>,
}

fn rows(
    snapshot: &Snapshot,
    patterns: &[Pattern],
    selection: ListSelection,
    returns: &ListReturn,
    extended: bool,
) -> Vec<Row> {
    let parents = ancestors(snapshot.mailboxes.keys());
    let above_subscribed =
        if selection.recursive_match { ancestors(snapshot.subscriptions.iter()) } else { HashSet::new() };
    let tell_subscribed = returns.subscribed || selection.subscribed;
    let mut rows = Vec::new();
    for (name, entry) in candidates(snapshot, selection) {
        if !patterns.iter().any(|pattern| pattern.matches(name.as_str())) {
            continue;
        }
        let subscribed = snapshot.is_subscribed(&name);
        let special_use = entry.and_then(|entry| entry.special_use);
        let child_subscribed = above_subscribed.contains(name.as_str());
        if (selection.subscribed && !subscribed && !child_subscribed)
            || (selection.special_use && special_use.is_none())
        {
            continue;
        }
        let view = entry.and_then(|entry| entry.view.clone());
        let mut attributes = Vec::new();
        if view.is_none() {
            // `\NonExistent` implies `\Noselect` (RFC 5258 §3.4), but old clients only know the latter.
            if extended {
                attributes.push(ListAttribute::NonExistent);
            }
            attributes.push(ListAttribute::NoSelect);
        }
        let has_children = parents.contains(name.as_str());
        attributes.push(if has_children { ListAttribute::HasChildren } else { ListAttribute::HasNoChildren });
        if tell_subscribed && subscribed {
            attributes.push(ListAttribute::Subscribed);
        }
        attributes.extend(special_use.map(ListAttribute::SpecialUse));
        rows.push(Row { entry: ListEntry { attributes, name, child_subscribed, old_name: None }, view });
    }
    rows
}

/// Names that LIST may show, in order: mailboxes and their parents; for SUBSCRIBED also names without a mailbox.
fn candidates(snapshot: &Snapshot, selection: ListSelection) -> Vec<(MailboxName, Option<&MailboxEntry>)> {
    let mut names: BTreeSet<MailboxName> = BTreeSet::new();
    if selection.subscribed {
        names.extend(snapshot.subscriptions.iter().cloned());
        if selection.recursive_match {
            for name in snapshot.subscriptions.iter() {
                names.extend(std::iter::successors(name.parent(), MailboxName::parent));
            }
        }
    } else {
        names.extend(snapshot.mailboxes.keys().cloned());
    }
    names
        .into_iter()
        .map(|name| {
            let entry = snapshot.mailboxes.get(&name);
            (name, entry)
        })
        .collect()
}

/// Every level above one of these names.
fn ancestors<'a>(names: impl Iterator<Item = &'a MailboxName>) -> HashSet<&'a str> {
    let mut above = HashSet::new();
    for name in names {
        let mut rest = name.as_str();
        while let Some((parent, _)) = rest.rsplit_once(SEPARATOR) {
            if !above.insert(parent) {
                break;
            }
            rest = parent;
        }
    }
    above
}

/// "A special situation occurs when using LSUB with the % wildcard": a level that is not subscribed, but has something
/// subscribed below, comes with `\Noselect` (RFC 3501 §6.3.9).
fn subscribed_rows(user: &User, pattern: &Pattern) -> Vec<(MailboxName, Vec<ListAttribute>)> {
    let subscriptions = &user.snapshot.subscriptions;
    let mut names: BTreeSet<MailboxName> = subscriptions.iter().cloned().collect();
    if pattern.has_percent {
        for name in subscriptions.iter() {
            names.extend(std::iter::successors(name.parent(), MailboxName::parent));
        }
    }
    let matching = names.into_iter().filter(|name| pattern.matches(name.as_str()));
    matching
        .map(|name| {
            let attributes =
                if subscriptions.contains(&name) { Vec::new() } else { vec![ListAttribute::NoSelect] };
            (name, attributes)
        })
        .collect()
}

/// A pattern in a form that is cheap to match.
struct Pattern {
    items: Vec<Item>,
    has_percent: bool,
    /// It has more letters than a name can.
    matches_nothing: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Item {
    Byte(u8),
    /// `%`: anything but a separator.
    Level,
    /// `*`
    Any,
}

impl Pattern {
    fn new(reference: &str, pattern: &ListPattern) -> Result<Self, Ending> {
        let text = pattern.text(NAMES).map_err(bad_name)?;
        let mut items: Vec<Item> = reference.bytes().map(Item::Byte).collect();
        for byte in text.bytes() {
            let item = match byte {
                b'*' => Item::Any,
                b'%' => Item::Level,
                letter => Item::Byte(letter),
            };
            match (items.last_mut(), item) {
                // Wildcards that follow each other are one, so that a pattern is not longer than what it can match.
                (Some(Item::Any), Item::Any | Item::Level) | (Some(Item::Level), Item::Level) => {}
                (Some(last @ Item::Level), Item::Any) => *last = Item::Any,
                (Some(_) | None, item) => items.push(item),
            }
        }
        let letters = items.iter().filter(|item| matches!(item, Item::Byte(_))).count();
        let has_percent = text.contains('%');
        Ok(Self { has_percent, matches_nothing: letters > NAME_BYTES_MAX, items })
    }

    /// Follows all ways to match at once: `reached[n]` says that the pattern so far can match the first n bytes.
    fn matches(&self, name: &str) -> bool {
        if self.matches_nothing {
            return false;
        }
        let name = name.as_bytes();
        let inbox = name == b"INBOX" || name.starts_with(b"INBOX/");
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        for item in &self.items {
            let mut next = vec![false; name.len() + 1];
            let mut before = false;
            let mut any = false;
            for at in 0..=name.len() {
                let previous = at.checked_sub(1).and_then(|index| name.get(index));
                next[at] = match *item {
                    Item::Any => reached[at] || before,
                    Item::Level => reached[at] || (before && previous != Some(&b'/')),
                    Item::Byte(letter) => at.checked_sub(1).is_some_and(|index| {
                        let same = |byte: &u8| {
                            *byte == letter || (inbox && index < 5 && byte.eq_ignore_ascii_case(&letter))
                        };
                        reached[index] && previous.is_some_and(same)
                    }),
                };
                before = next[at];
                any |= before;
            }
            if !any {
                return false;
            }
            reached = next;
        }
        reached.last().copied().unwrap_or(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_as_rfc_3501_says() {
        for (reference, pattern, name, expected) in [
            ("", "*", "a/b/c", true),
            ("", "%", "a", true),
            ("", "%", "a/b", false),
            ("", "a/%", "a/b", true),
            ("", "a/%", "a/b/c", false),
            ("", "%/%", "a/b", true),
            ("", "a*c", "a/b/c", true),
            ("", "a%c", "abc", true),
            ("", "a%c", "a/c", false),
            ("a/", "b", "a/b", true),
            ("", "inbox", "INBOX", true),
            ("", "iN%", "INBOX", true),
            ("", "inbox/sent", "INBOX/Sent", false),
            ("", "Inbox/Sent", "INBOX/Sent", true),
            ("", "inboxes", "Inboxes", false),
            ("", "", "a", false),
            ("", "*%*", "a/b", true),
            ("", "%*", "a/b", true),
        ] {
            let matches = Pattern::new(reference, &ListPattern::new(pattern)).ok().unwrap().matches(name);
            assert_eq!(matches, expected, "{reference:?} {pattern:?} {name:?}");
        }
    }

    #[test]
    fn a_pattern_longer_than_any_name_matches_nothing_cheaply() {
        let pattern = Pattern::new("", &ListPattern::new("a*".repeat(30_000))).ok().unwrap();
        assert!(pattern.matches_nothing);
        assert!(Pattern::new("", &ListPattern::new("*%".repeat(30_000))).ok().unwrap().items.len() < 3);
    }
}
