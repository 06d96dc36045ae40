//! Setting and clearing flags.
//!
//! `STORE FLAGS (...)` becomes what it sets and what it clears on each message, as the command saw it (row 9 of
//! `replication.md` §7); messages for which that is the same share an operation.

use std::collections::BTreeMap;

use model::{EntryId, Flag, Op};

use crate::door::{EditFlags, FlagEdit, Refused, Reply};
use crate::owner::{OP_ENTRIES_MAX, Owner};
use crate::setup::Now;
use crate::snapshot::MessageView;
use crate::transfer::all_flags;

/// What one message's flags need: set these, clear those. Both sorted.
type Change = (Vec<Flag>, Vec<Flag>);

impl Owner {
    pub(crate) fn edit_flags(&mut self, now: Now, edit: &EditFlags) -> Result<Reply, Refused> {
        let messages = self.messages(edit.mailbox, &edit.uids)?;
        if edit.edit != FlagEdit::Remove {
            self.check_keywords(&edit.flags)?;
        }
        let mut modified = Vec::new();
        let mut changes: BTreeMap<Change, Vec<EntryId>> = BTreeMap::new();
        for message in &messages {
            // RFC 7162 §3.1.3: "the server MUST NOT perform the operation" on such a message.
            if edit.unchanged_since.is_some_and(|since| message.modseq > since) {
                modified.push(message.uid);
                continue;
            }
            let change = change(message, edit.edit, &edit.flags);
            if change.0.is_empty() && change.1.is_empty() {
                continue;
            }
            self.check_flags_after(message, &change)?;
            changes.entry(change).or_default().push(message.entry);
        }
        if !changes.is_empty() {
            let stamp = self.stamp(now);
            for ((set, clear), entries) in changes {
                self.issue_flags(stamp, &entries, &set, &clear);
            }
        }
        modified.sort();
        Ok(Reply::FlagsEdited { modified })
    }

    pub(crate) fn issue_flags(
        &mut self,
        stamp: model::Stamp,
        entries: &[EntryId],
        set: &[Flag],
        clear: &[Flag],
    ) {
        for entries in entries.chunks(OP_ENTRIES_MAX) {
            let (entries, set, clear) = (entries.to_vec(), set.to_vec(), clear.to_vec());
            self.issue(stamp, Op::Flags { entries, set, clear });
        }
    }

    fn check_flags_after(&self, message: &MessageView, (set, clear): &Change) -> Result<(), Refused> {
        let limit = u64::from(self.setup.limits.message_keywords);
        let keywords = |flags: &[Flag]| crate::append::keywords(flags).count() as u64;
        let have = message.keywords.as_ref().map_or(0, |keywords| keywords.len() as u64);
        let after = (have + keywords(set)).saturating_sub(keywords(clear));
        if keywords(set) > 0 && after > limit {
            return Err(Refused::Limit { what: "keywords on a message", limit });
        }
        Ok(())
    }
}

/// What makes the message's flags what the edit wants.
fn change(message: &MessageView, edit: FlagEdit, flags: &[Flag]) -> Change {
    let has = |flag: &Flag| match flag {
        Flag::System(flag) => message.flags.contains(*flag),
        Flag::Keyword(keyword) => {
            message.keywords.as_ref().is_some_and(|keywords| keywords.contains(keyword))
        }
    };
    let sorted = |mut flags: Vec<Flag>| {
        flags.sort();
        flags.dedup();
        flags
    };
    let missing = || sorted(flags.iter().filter(|flag| !has(flag)).cloned().collect());
    match edit {
        FlagEdit::Add => (missing(), Vec::new()),
        FlagEdit::Remove => (Vec::new(), sorted(flags.iter().filter(|flag| has(flag)).cloned().collect())),
        FlagEdit::Replace => {
            let unwanted = all_flags(message).into_iter().filter(|flag| !flags.contains(flag));
            (missing(), sorted(unwanted.collect()))
        }
    }
}
