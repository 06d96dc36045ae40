//! What protocols show of an account's mailboxes (`replication.md` §3, V4 and V5), as a function of the state.
//!
//! Invariants
//! - Every site that has seen the same operations shows the same names.
//! - No two mailboxes have one name, and every name is valid. A mailbox whose name cannot be shown where it was put
//!   (a cycle, too deep, too long, not a name) is shown at the top: nothing that holds messages is ever out of reach.
//! - INBOX is always there, and always the same mailbox.
//!
//! Walks all mailboxes, and entries only of those that no claim keeps alive: to be computed again when `Effects` names a mailbox or the account.

#[cfg(test)]
mod tests;
mod tree;

use std::collections::{BTreeMap, BTreeSet};

use crate::state::{AccountState, Mailbox};
use crate::{MailboxId, MailboxName, SpecialUse, UidValidity};
use tree::Tree;

/// A mailbox as LIST shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownMailbox {
    pub id: MailboxId,
    /// All levels, joined by `/`.
    pub name: MailboxName,
    /// If not, the mailbox is gone and only its children are there: `\NonExistent` (RFC 9051 §7.3.1, V4).
    pub selectable: bool,
    pub has_children: bool,
    pub subscribed: bool,
    pub special_use: Option<SpecialUse>,
    /// `None` for a gone mailbox, and for one that no claim has named.
    pub uid_validity: Option<UidValidity>,
}

/// The mailboxes of an account, sorted by name.
pub fn mailboxes(state: &AccountState) -> Vec<ShownMailbox> {
    let names = Tree::of(state).names();
    let parents: BTreeSet<_> = names.iter().flat_map(|named| ancestors(&named.name)).collect();
    let mut shown: BTreeMap<MailboxName, ShownMailbox> = BTreeMap::new();
    for named in names {
        let mailbox = state.mailbox(named.id).filter(|_| named.exists);
        let one = ShownMailbox {
            id: named.id,
            selectable: named.exists,
            has_children: parents.contains(&named.name),
            subscribed: state.is_subscribed(named.name.as_str()),
            special_use: mailbox.and_then(Mailbox::special_use),
            uid_validity: mailbox.and_then(Mailbox::uid_validity),
            name: named.name,
        };
        // A gone mailbox lends its children to the one that has its name now; of several gone ones the first is shown.
        let known = shown.get(&one.name);
        if known.is_none_or(|known| one.selectable && !known.selectable) {
            shown.insert(one.name.clone(), one);
        }
    }
    shown.into_values().collect()
}

/// Names subscribed to that no shown mailbox has: LSUB and LIST (SUBSCRIBED) name them too (RFC 9051 §6.3.9).
pub fn subscriptions_without_mailbox(state: &AccountState, shown: &[ShownMailbox]) -> Vec<MailboxName> {
    let names: BTreeSet<_> = shown.iter().map(|mailbox| &mailbox.name).collect();
    let subscribed: BTreeSet<_> =
        state.subscriptions().filter_map(|name| MailboxName::new(name).ok()).collect();
    subscribed.into_iter().filter(|name| !names.contains(name)).collect()
}

fn ancestors(name: &MailboxName) -> impl Iterator<Item = MailboxName> {
    std::iter::successors(name.parent(), MailboxName::parent)
}
