//! Which mailboxes there are, below which others, and the names that come of it (V4, V5).
//!
//! Names are given one depth at a time, so that clashes are found where they show: among all that want the same path,
//! whichever parents they have.

use std::collections::{BTreeMap, BTreeSet};

use crate::name::SEPARATOR;
use crate::state::{AccountState, Mailbox};
use crate::{MailboxId, MailboxName, Stamp};

/// What a mailbox at the top is called when its own level is no name.
const NAMELESS: &str = "Mailbox";
/// Hex digits of its id that a mailbox's name gets at least, when another has the name.
const SUFFIX_DIGITS: usize = 4;

pub(super) struct Tree {
    nodes: BTreeMap<MailboxId, Node>,
}

struct Node {
    parent: Option<MailboxId>,
    level: String,
    /// Selectable (V4). If not it is here for its descendants.
    exists: bool,
    /// Who keeps a name that several want: INBOX, then claimed mailboxes before those that are there only for late
    /// entries (§7 row 28), then the oldest claim (V5).
    rank: Rank,
    /// Taken out of a cycle: shows at the top, with a suffix.
    uprooted: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_other: bool,
    unclaimed: bool,
    stamp: Stamp,
    id: MailboxId,
}

/// A mailbox and the name it shows. Gone ones can have the name of another.
pub(super) struct Named {
    pub(super) id: MailboxId,
    pub(super) name: MailboxName,
    pub(super) exists: bool,
}

impl Tree {
    pub(super) fn of(state: &AccountState) -> Self {
        let inbox = state.inbox();
        let mut nodes = BTreeMap::from([(inbox, Node::inbox(inbox))]);
        for (id, mailbox) in state.mailboxes() {
            if id != inbox && (mailbox.is_live() || state.has_entries(id)) {
                nodes.insert(id, Node::of(id, mailbox, true));
            }
        }
        let mut tree = Self { nodes };
        tree.add_gone_ancestors(state);
        tree.break_cycles();
        tree
    }

    /// A deleted mailbox is still the parent of what was put below it (§7 row 29).
    fn add_gone_ancestors(&mut self, state: &AccountState) {
        let mut wanted: Vec<_> = self.nodes.values().filter_map(|node| node.parent).collect();
        while let Some(id) = wanted.pop() {
            if let Some(mailbox) = state.mailbox(id).filter(|_| !self.nodes.contains_key(&id)) {
                let node = Node::of(id, mailbox, false);
                wanted.extend(node.parent);
                self.nodes.insert(id, node);
            }
        }
    }

    /// Takes out of every cycle the edge with the lowest stamp (V5). Each node has one parent at most, so a walk
    /// upwards meets one cycle at most.
    fn break_cycles(&mut self) {
        let mut walked: BTreeSet<MailboxId> = BTreeSet::new();
        let starts: Vec<_> = self.nodes.keys().copied().collect();
        for start in starts {
            let mut path = Vec::new();
            let mut on_path = BTreeSet::new();
            let mut next = Some(start);
            while let Some(id) = next.filter(|id| !walked.contains(id) && on_path.insert(*id)) {
                path.push(id);
                next = self.nodes.get(&id).and_then(|node| node.parent);
            }
            walked.extend(&path);
            let Some(meeting) = next.filter(|id| on_path.contains(id)) else { continue };
            let cycle = path.iter().skip_while(|id| **id != meeting);
            let lowest = cycle.min_by_key(|id| self.nodes.get(id).map(|node| (node.rank.stamp, **id)));
            if let Some(node) = lowest.and_then(|id| self.nodes.get_mut(id)) {
                (node.parent, node.uprooted) = (None, true);
            }
        }
    }

    pub(super) fn names(&self) -> Vec<Named> {
        let mut children: BTreeMap<MailboxId, Vec<MailboxId>> = BTreeMap::new();
        let mut top = Vec::new();
        for (id, node) in &self.nodes {
            match node.parent.filter(|parent| self.nodes.contains_key(parent)) {
                Some(parent) => children.entry(parent).or_default().push(*id),
                // Of a parent that no operation has named nothing can be shown.
                None => top.push(*id),
            }
        }
        let mut naming = Naming { nodes: &self.nodes, names: BTreeMap::new(), taken: BTreeSet::new() };
        let mut astray = naming.descend(top, &children);
        while let Some(id) = astray.pop() {
            naming.name_at_top(id);
            let below = children.get(&id).cloned().unwrap_or_default();
            astray.extend(naming.descend(below, &children));
        }
        let named = |(id, name)| {
            let exists = self.nodes.get(&id).is_some_and(|node| node.exists);
            Named { id, name, exists }
        };
        naming.names.into_iter().map(named).collect()
    }
}

impl Node {
    fn inbox(id: MailboxId) -> Self {
        let rank = Rank { is_other: false, unclaimed: false, stamp: Stamp::ZERO, id };
        Self { parent: None, level: "INBOX".to_owned(), exists: true, rank, uprooted: false }
    }

    fn of(id: MailboxId, mailbox: &Mailbox, exists: bool) -> Self {
        let claim = mailbox.name();
        let stamp = claim.map_or(Stamp::ZERO, |claim| claim.stamp);
        Self {
            parent: claim.and_then(|claim| claim.path.parent),
            level: claim.map_or_else(String::new, |claim| claim.path.level.clone()),
            exists,
            rank: Rank { is_other: true, unclaimed: !mailbox.is_live(), stamp, id },
            uprooted: false,
        }
    }

    /// The level, if it is one.
    fn level(&self) -> Option<&str> {
        let valid = !self.level.contains(SEPARATOR) && MailboxName::new(&self.level).is_ok();
        valid.then_some(self.level.as_str())
    }
}

struct Naming<'a> {
    nodes: &'a BTreeMap<MailboxId, Node>,
    names: BTreeMap<MailboxId, MailboxName>,
    /// Names of mailboxes that exist.
    taken: BTreeSet<MailboxName>,
}

impl Naming<'_> {
    /// Names these and everything below them, depth by depth. Returns those that have no valid name there.
    fn descend(
        &mut self,
        from: Vec<MailboxId>,
        children: &BTreeMap<MailboxId, Vec<MailboxId>>,
    ) -> Vec<MailboxId> {
        let mut astray = Vec::new();
        let mut depth = from;
        while !depth.is_empty() {
            let lost = self.name_one_depth(&depth);
            let named = depth.iter().filter(|id| !lost.contains(id));
            depth = named.filter_map(|id| children.get(id)).flatten().copied().collect();
            astray.extend(lost);
        }
        // From the end, so the oldest claim is named first.
        astray.sort_by_key(|id| std::cmp::Reverse(self.nodes.get(id).map(|node| node.rank)));
        astray
    }

    fn name_one_depth(&mut self, depth: &[MailboxId]) -> BTreeSet<MailboxId> {
        let mut nodes: Vec<_> = depth.iter().filter_map(|id| Some((*id, self.nodes.get(id)?))).collect();
        nodes.sort_by_key(|(_, node)| (node.uprooted, node.rank));
        let mut lost = BTreeSet::new();
        let mut without = Vec::new();
        for (id, node) in nodes {
            match self.plain_name(node) {
                None => _ = lost.insert(id),
                Some(name) if !node.exists && !node.uprooted => _ = self.names.insert(id, name),
                Some(name) if !node.uprooted && self.taken.insert(name.clone()) => {
                    self.names.insert(id, name);
                }
                Some(name) => without.push((id, name)),
            }
        }
        for (id, name) in without {
            match self.suffixed(id, name.as_str()) {
                Some(name) => self.give(id, name),
                None => _ = lost.insert(id),
            }
        }
        lost
    }

    /// The name that the mailbox was given, below the name that its parent shows.
    fn plain_name(&self, node: &Node) -> Option<MailboxName> {
        let level = node.level()?;
        let parent = node.parent.and_then(|parent| self.names.get(&parent));
        let name = parent.map_or_else(|| level.to_owned(), |parent| format!("{parent}{SEPARATOR}{level}"));
        MailboxName::new(&name).ok()
    }

    /// `name~hhhh`, with as many digits of the id as make it the only one.
    fn suffixed(&self, id: MailboxId, name: &str) -> Option<MailboxName> {
        let hex = id.to_string();
        let digits = (SUFFIX_DIGITS..=hex.len()).filter_map(|digits| hex.get(..digits));
        let mut candidates = digits.map_while(|digits| MailboxName::new(&format!("{name}~{digits}")).ok());
        candidates.find(|name| self.is_free(name))
    }

    /// Neither a mailbox's nor the name of a gone one, which the next claim may want.
    fn is_free(&self, name: &MailboxName) -> bool {
        !self.taken.contains(name) && !self.names.values().any(|used| used == name)
    }

    fn give(&mut self, id: MailboxId, name: MailboxName) {
        self.taken.insert(name.clone());
        self.names.insert(id, name);
    }

    fn name_at_top(&mut self, id: MailboxId) {
        let level = self.nodes.get(&id).and_then(Node::level);
        let own = level.and_then(|level| self.suffixed(id, level)).or_else(|| self.suffixed(id, NAMELESS));
        // All 32 digits are taken only by a mailbox that someone called so. Numbers then, until one is free.
        let numbered = || (0u64..).find_map(|n| self.suffixed(id, &format!("{NAMELESS}~{n}")));
        if let Some(name) = own.or_else(numbered) {
            self.give(id, name);
        }
    }
}
