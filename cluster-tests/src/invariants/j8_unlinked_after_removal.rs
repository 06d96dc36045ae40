//! J8: a message is removed from the disk only after its removal was witnessed: no name of a message that somebody is
//! shown is ever unlinked, by its owner or by one that is late. (That what is shown can be read is `bytes_equal`.)

use crate::oracle::Oracle;

/// `base` is the name that an owner unlinked.
pub fn check(oracle: &Oracle, base: &str) -> Result<(), String> {
    let is_shown = |known: &&crate::oracle::Known| !known.is_gone && *known.base == *base;
    match oracle.entries.values().find(is_shown) {
        Some(known) if !known.is_unreadable => {
            Err(format!("J8: {base} (UID {}) was unlinked, and its removal does not count", known.uid))
        }
        Some(_) | None => Ok(()),
    }
}
