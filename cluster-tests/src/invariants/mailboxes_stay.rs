//! J2 for mailboxes: they come, go, move their messages and change their names only when somebody asked for it.

use crate::oracle::{Oracle, Shown};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    for (id, cached) in oracle.mailboxes.iter().filter(|(_, cached)| !cached.is_gone) {
        match shown.snapshot.by_id(*id) {
            None if !cached.may_go => {
                return Err(format!("mailbox {} is lost: nobody deleted it", cached.name));
            }
            Some((name, _)) if *name != cached.name && !cached.may_be_called.contains(name) => {
                return Err(format!("mailbox {} is called {name}: nobody renamed it", cached.name));
            }
            None | Some(_) => {}
        }
    }
    for (name, entry) in &shown.snapshot.mailboxes {
        let Some(view) = &entry.view else { continue };
        let is_new = !oracle.mailboxes.contains_key(&view.id);
        if is_new && oracle.last.is_some() && !oracle.creatable.contains(name) {
            return Err(format!("mailbox {name} appears: nobody created it"));
        }
        // A mailbox that holds others up is made again under its id, and is another by its UIDVALIDITY.
        let was = oracle.mailboxes.get(&view.id);
        if was.is_some_and(|was| was.is_gone && was.uid_validity == view.uid_validity.get()) {
            return Err(format!("mailbox {name} is back: it had been deleted"));
        }
    }
    for (mailbox, message) in &shown.messages {
        let known = oracle.entries.get(&message.entry).filter(|known| !known.may_move);
        if known.is_some_and(|known| known.mailbox != *mailbox || known.uid != message.uid) {
            return Err(format!("entry {} moved: nobody asked for it", message.entry));
        }
    }
    Ok(())
}
