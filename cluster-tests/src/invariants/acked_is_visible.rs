//! I1, J2: what was acknowledged, and what was shown, is there until somebody asked for it to be removed.

use std::collections::BTreeSet;

use crate::oracle::{Oracle, Shown};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    let visible: BTreeSet<_> = shown.messages.iter().map(|(_, message)| message.entry).collect();
    for (entry, known) in &oracle.entries {
        if !known.is_gone && !known.may_go && !visible.contains(entry) {
            let number = oracle.tokens.get(&known.content).map_or(0, |token| token.number);
            return Err(format!("message {number} (UID {}) is lost: nobody removed it", known.uid));
        }
    }
    Ok(())
}
