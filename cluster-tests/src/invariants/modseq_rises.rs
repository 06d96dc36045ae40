//! I6: a client that asks only for what changed since it last looked has exactly what is there (RFC 7162).

use std::collections::BTreeSet;

use account::snapshot::MailboxView;

use crate::oracle::{Cached, Oracle, Shown, flags_of};

pub(super) fn check(oracle: &Oracle, shown: &Shown<'_>) -> Result<(), String> {
    for (name, entry) in &shown.snapshot.mailboxes {
        let Some(view) = &entry.view else { continue };
        if let Some(message) = view.iter().find(|message| message.modseq > view.highest_modseq) {
            return Err(format!("{name}: UID {} has a modseq above HIGHESTMODSEQ", message.uid));
        }
        let cached =
            oracle.mailboxes.get(&view.id).filter(|cached| cached.uid_validity == view.uid_validity.get());
        if let Some(cached) = cached {
            resync(cached, view).map_err(|what| format!("{name}: {what}"))?;
        }
    }
    Ok(())
}

fn resync(cached: &Cached, view: &MailboxView) -> Result<(), String> {
    let since = cached.highest_modseq;
    if view.highest_modseq < since {
        return Err("HIGHESTMODSEQ fell".to_owned());
    }
    for message in view.iter().filter(|message| message.modseq <= since) {
        let uid = message.uid;
        let Some((entry, modseq, flags)) = cached.messages.get(&uid) else {
            return Err(format!("UID {uid} is new, but its modseq is not"));
        };
        if *entry != message.entry || *modseq != message.modseq || *flags != flags_of(message) {
            return Err(format!("UID {uid} changed, but its modseq did not rise"));
        }
    }
    let Some(vanished) = view.vanished_since(since) else { return Ok(()) };
    let vanished: BTreeSet<_> = vanished.into_iter().collect();
    if let Some(uid) =
        cached.messages.keys().find(|uid| view.by_uid(**uid).is_none() && !vanished.contains(uid))
    {
        return Err(format!("UID {uid} vanished, but is not named among the vanished"));
    }
    match vanished.iter().find(|uid| view.by_uid(**uid).is_some()) {
        Some(uid) => Err(format!("UID {uid} is named among the vanished, but is there")),
        None => Ok(()),
    }
}
