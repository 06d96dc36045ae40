//! I4: UIDNEXT never falls, lies above every UID, and what is new has a UID from there on.

use crate::oracle::{Oracle, Shown};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    for entry in shown.snapshot.mailboxes.values() {
        let Some(view) = &entry.view else { continue };
        let next = view.uid_next.get();
        if let Some(last) = view.iter().next_back().filter(|last| last.uid.get() >= next) {
            return Err(format!("UIDNEXT {next} of mailbox {} is not above UID {}", view.id, last.uid));
        }
        let cached =
            oracle.mailboxes.get(&view.id).filter(|cached| cached.uid_validity == view.uid_validity.get());
        let Some(cached) = cached else { continue };
        if next < cached.uid_next {
            return Err(format!("UIDNEXT of mailbox {} fell from {} to {next}", view.id, cached.uid_next));
        }
        for message in view.iter() {
            if message.uid.get() < cached.uid_next && !cached.messages.contains_key(&message.uid) {
                let (uid, before) = (message.uid, cached.uid_next);
                return Err(format!("UID {uid} of mailbox {} appears below a UIDNEXT of {before}", view.id));
            }
        }
    }
    Ok(())
}
