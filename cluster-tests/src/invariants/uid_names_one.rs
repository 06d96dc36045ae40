//! I3, J3: a UID names one message for ever.

use crate::oracle::{Oracle, Shown};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    for entry in shown.snapshot.mailboxes.values() {
        let Some(view) = &entry.view else { continue };
        let mut before = None;
        for message in view.iter() {
            let key = (view.id, view.uid_validity.get(), message.uid);
            if oracle.uids.get(&key).is_some_and(|named| *named != message.entry) {
                return Err(format!(
                    "UID {} of mailbox {} names another message than before",
                    message.uid, view.id
                ));
            }
            if before.is_some_and(|before| before >= message.uid) {
                return Err(format!("UIDs of mailbox {} do not ascend at {}", view.id, message.uid));
            }
            before = Some(message.uid);
        }
    }
    Ok(())
}
