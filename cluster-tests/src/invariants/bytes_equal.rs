//! J8, L-UN: what a snapshot shows can be read, octet by octet as it was sent.

use account::Reader;
use account::snapshot::Snapshot;

use crate::oracle::{Oracle, Shown};

/// More than any message here has.
const OCTETS_MAX: usize = 1 << 20;

pub fn check(oracle: &Oracle, reader: &Reader, snapshot: &Snapshot) -> Result<(), String> {
    for (mailbox, message) in Shown::new(snapshot).messages {
        let Some(token) = oracle.tokens.get(&message.content) else { continue };
        if oracle.entries.get(&message.entry).is_some_and(|known| known.is_unreadable) {
            continue;
        }
        let (number, uid) = (token.number, message.uid);
        let failed = |why: String| format!("bytes_equal (J8): message {number} (UID {uid}): {why}");
        let mut body = reader.open(mailbox, message).map_err(|error| failed(error.to_string()))?;
        let wire = body.read_all(OCTETS_MAX).map_err(|error| failed(error.to_string()))?;
        if wire != token.wire {
            return Err(failed(format!(
                "{} octets that differ from the {} sent",
                wire.len(),
                token.wire.len()
            )));
        }
    }
    Ok(())
}
