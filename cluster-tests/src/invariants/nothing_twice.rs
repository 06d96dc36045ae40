//! I2, L-CM2: an entry is in one place, and a message that was stored once is there once, however often it was tried.

use std::collections::{BTreeMap, BTreeSet};

use crate::oracle::{Oracle, Shown};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    let mut places = BTreeSet::new();
    let mut seen: BTreeMap<_, (BTreeSet<_>, usize)> = BTreeMap::new();
    for (_, message) in &shown.messages {
        if !places.insert(message.entry) {
            return Err(format!("entry {} is shown in two places", message.entry));
        }
        let (messages, entries) = seen.entry(message.content).or_default();
        messages.insert(message.message);
        *entries += 1;
    }
    for (content, (messages, entries)) in seen {
        let Some(token) = oracle.tokens.get(&content) else { continue };
        let ever: BTreeSet<_> = token.messages.union(&messages).collect();
        if ever.len() > 1 {
            return Err(format!("message {} was stored {} times", token.number, ever.len()));
        }
        if entries > 1 + token.copies {
            let (number, copies) = (token.number, token.copies);
            return Err(format!("message {number} is shown {entries} times, with {copies} copies asked for"));
        }
    }
    Ok(())
}
