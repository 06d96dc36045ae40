//! I5: a name and a UIDVALIDITY together mean one mailbox for ever, and the UIDVALIDITY of a mailbox never falls.

use crate::oracle::{Oracle, Shown};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    for (name, entry) in &shown.snapshot.mailboxes {
        let Some(view) = &entry.view else { continue };
        let uid_validity = view.uid_validity.get();
        if oracle.names.get(&(name.clone(), uid_validity)).is_some_and(|id| *id != view.id) {
            return Err(format!("{name} with UIDVALIDITY {uid_validity} is another mailbox than before"));
        }
        if oracle.mailboxes.get(&view.id).is_some_and(|cached| cached.uid_validity > uid_validity) {
            return Err(format!("UIDVALIDITY of {name} fell to {uid_validity}"));
        }
    }
    Ok(())
}
