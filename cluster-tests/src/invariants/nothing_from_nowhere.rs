//! I8, J4: only what somebody asked for appears: nothing that was refused, that was settled as not stored by a later
//! owner, or that is expunged.

use crate::oracle::{Fate, Oracle, Shown, flags_of};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    for (_, message) in &shown.messages {
        let Some(token) = oracle.tokens.get(&message.content) else {
            return Err(format!("UID {} has content that nobody sent", message.uid));
        };
        let number = token.number;
        match oracle.entries.get(&message.entry) {
            Some(known) if known.is_gone => {
                return Err(format!("message {number} is back as UID {}: it had been removed", message.uid));
            }
            Some(_) => continue,
            None => {}
        }
        if token.fate == Fate::NotStored {
            return Err(format!("message {number} appears as UID {}: it was not stored", message.uid));
        }
        if message.wire_size != token.wire.len() as u64 {
            return Err(format!("message {number} shows a size of {}", message.wire_size));
        }
        let is_first = token.messages.is_empty() && token.copies == 0;
        if is_first && !token.by_neighbour {
            let flags = flags_of(message);
            if flags != token.flags {
                return Err(format!("message {number} begins with {flags:?}, not {:?}", token.flags));
            }
            if token.internal_date.is_some_and(|date| date != message.internal_date) {
                return Err(format!("message {number} has another date than it was given"));
            }
        }
    }
    Ok(())
}
