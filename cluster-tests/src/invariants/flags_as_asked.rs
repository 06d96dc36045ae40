//! J2 for flags: a flag changes only if somebody asked for it. (That an acknowledged change happened is
//! `promised_is_shown`; that it stays follows.)

use crate::oracle::{Oracle, Shown, flags_of};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    for (_, message) in &shown.messages {
        let Some(known) = oracle.entries.get(&message.entry).filter(|known| !known.is_wild) else { continue };
        let flags = flags_of(message);
        for flag in flags.symmetric_difference(&known.flags) {
            let change = (flag.clone(), flags.contains(flag));
            if !known.may_change.contains(&change) {
                let number = oracle.tokens.get(&known.content).map_or(0, |token| token.number);
                let verb = if change.1 { "got" } else { "lost" };
                return Err(format!(
                    "message {number} (UID {}) {verb} {flag}: nobody asked for it",
                    message.uid
                ));
            }
        }
    }
    Ok(())
}
