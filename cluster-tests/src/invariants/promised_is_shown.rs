//! L-CM1: an answer says what was done, and the snapshot that comes with it shows that.
//!
//! A batch is answered with the snapshot after all of it, so what a later request of the batch may have changed again
//! is not asked for.

use std::collections::BTreeSet;

use account::door::{Done, EditFlags, FlagEdit};
use account::{Reply, Request};
use model::{ContentId, Flag, MailboxId};

use crate::oracle::{Known, Oracle, flags_of};

/// `before` is the oracle as it was when the request was made; `is_last`: nothing came after it.
pub fn check(oracle: &Oracle, request: &Request, done: &Done, is_last: bool) -> Result<(), String> {
    let failed = |what: String| format!("promised_is_shown (L-CM1): {what}");
    match (request, &done.reply) {
        (Request::Append(append), Reply::Appended { uids, .. }) => {
            // Nothing was stored now: an earlier attempt was, which may have gone unseen since.
            let may_be_gone = |content: &ContentId| {
                uids.is_empty() && oracle.tokens.get(content).is_some_and(|token| token.may_have_gone)
            };
            let mut contents = append.messages.iter().map(|message| message.body.content);
            let lost = contents
                .find(|content| is_last && !is_stored(oracle, done, *content) && !may_be_gone(content));
            lost.map_or(Ok(()), |content| {
                Err(failed(format!("{content} was acknowledged, and is not there")))
            })
        }
        (Request::EditFlags(edit), Reply::FlagsEdited { modified }) if is_last => {
            let mut meant = edit.uids.iter().copied().filter(|uid| !modified.contains(uid));
            meant.try_for_each(|uid| edited(edit, uid, done)).map_err(failed)
        }
        (Request::Expunge { mailbox, .. }, Reply::Expunged { uids }) => {
            let still = uids.iter().find(|uid| shows(done, *mailbox, **uid));
            still.map_or(Ok(()), |uid| Err(failed(format!("UID {uid} was expunged, and is there"))))
        }
        (Request::Copy { from, to, .. } | Request::Move { from, to, .. }, Reply::Copied { uids, .. })
            if is_last =>
        {
            let target = done.snapshot.by_name(to).and_then(|entry| entry.view.as_ref());
            let source = |uid| oracle.entries.values().find(move |known| is_at(known, *from, uid));
            for (old, new) in uids {
                let copy = target.and_then(|view| view.by_uid(*new));
                let content = source(*old).map(|known| known.content);
                if copy.map(|copy| copy.content) != content && content.is_some() {
                    return Err(failed(format!("UID {old} was copied to {new}, and is not there")));
                }
                if matches!(request, Request::Move { .. }) && shows(done, *from, *old) {
                    return Err(failed(format!("UID {old} was moved, and is still there")));
                }
            }
            Ok(())
        }
        (Request::Create { name, .. }, Reply::Created { mailbox }) if is_last => {
            let made = done.snapshot.by_name(name).and_then(|entry| entry.view.as_ref());
            if made.is_some_and(|view| view.id == *mailbox) {
                Ok(())
            } else {
                Err(failed(format!("{name} is missing")))
            }
        }
        (Request::Delete { name }, Reply::Done) if is_last => {
            let view = done.snapshot.by_name(name).and_then(|entry| entry.view.as_ref());
            view.map_or(Ok(()), |_| Err(failed(format!("{name} was deleted, and is there"))))
        }
        (Request::Rename { to, .. }, Reply::Done) if is_last => done
            .snapshot
            .by_name(to)
            .map_or_else(|| Err(failed(format!("nothing is called {to}"))), |_| Ok(())),
        _ => Ok(()),
    }
}

fn shows(done: &Done, mailbox: MailboxId, uid: model::Uid) -> bool {
    done.snapshot
        .by_id(mailbox)
        .and_then(|(_, entry)| entry.view.as_ref())
        .is_some_and(|view| view.by_uid(uid).is_some())
}

fn is_at(known: &Known, mailbox: MailboxId, uid: model::Uid) -> bool {
    !known.is_gone && known.mailbox == mailbox && known.uid == uid
}

/// There, or there once and removed since: a delivery that is tried again is not stored again.
fn is_stored(oracle: &Oracle, done: &Done, content: ContentId) -> bool {
    let views = done.snapshot.mailboxes.values().filter_map(|entry| entry.view.as_ref());
    let is_there = views.flat_map(|view| view.iter()).any(|message| message.content == content);
    is_there || oracle.tokens.get(&content).is_some_and(|token| !token.entries.is_empty())
}

fn edited(edit: &EditFlags, uid: model::Uid, done: &Done) -> Result<(), String> {
    let view = done.snapshot.by_id(edit.mailbox).and_then(|(_, entry)| entry.view.as_ref());
    let Some(message) = view.and_then(|view| view.by_uid(uid)) else { return Ok(()) };
    let (flags, wanted) = (flags_of(message), edit.flags.iter().cloned().collect::<BTreeSet<Flag>>());
    let is_done = match edit.edit {
        FlagEdit::Add => wanted.is_subset(&flags),
        FlagEdit::Remove => wanted.is_disjoint(&flags),
        FlagEdit::Replace => wanted == flags,
    };
    if is_done { Ok(()) } else { Err(format!("UID {uid} has {flags:?} after {:?} {wanted:?}", edit.edit)) }
}
