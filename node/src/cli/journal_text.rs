//! An operation in words: its name, and what it is about.

use model::op::{Append, Claim};
use model::{Dot, EntryId, Flag, Op, UidValidity};

type Fields = Vec<(&'static str, String)>;

/// Names and values have no spaces, except in names that users gave.
pub(crate) fn describe(op: &Op) -> (&'static str, Fields) {
    match op {
        Op::Append(append) => ("append", appended(append)),
        Op::Copy { source, append } => {
            let mut fields = vec![("source", source.to_string())];
            fields.extend(appended(append));
            ("copy", fields)
        }
        Op::Move { entry, to, uid, .. } => {
            let mut fields = vec![("entry", entry.to_string()), ("to", to.to_string())];
            fields.extend(numbered(*uid));
            ("move", fields)
        }
        Op::Expunge { entries } => {
            ("expunge", vec![("entries", list(entries.iter().map(|(entry, _)| entry)))])
        }
        Op::Flags { entries, set, clear } => {
            let mut fields = vec![("entries", list(entries))];
            fields.extend((!set.is_empty()).then(|| ("set", list(set))));
            fields.extend((!clear.is_empty()).then(|| ("clear", list(clear))));
            ("flags", fields)
        }
        Op::AssignUid { uids } => (
            "assign-uid",
            vec![(
                "uids",
                list(uids.iter().map(|(entry, _, (validity, uid))| format!("{entry}:{validity}/{uid}"))),
            )],
        ),
        Op::UidLate { mailbox, tags, exposed_next } => (
            "uid-late",
            vec![
                ("mailbox", mailbox.to_string()),
                ("entries", tagged(tags)),
                ("next", exposed_next.to_string()),
            ],
        ),
        Op::Horizon { mailbox, uid_validity, horizon, .. } => (
            "horizon",
            vec![
                ("mailbox", mailbox.to_string()),
                ("uidvalidity", uid_validity.to_string()),
                ("horizon", horizon.to_string()),
            ],
        ),
        Op::MailboxCreate(claim) => ("mailbox-create", claimed(claim)),
        Op::MailboxRename(claim) => ("mailbox-rename", claimed(claim)),
        Op::MailboxUndelete(claim) => ("mailbox-undelete", claimed(claim)),
        Op::MailboxDelete { mailbox, gone, .. } => {
            ("mailbox-delete", vec![("mailbox", mailbox.to_string()), ("name", gone.level.clone())])
        }
        Op::Subscribe { name, on } => {
            (if *on { "subscribe" } else { "unsubscribe" }, vec![("name", name.clone())])
        }
        Op::Metadata { mailbox, key, value } => {
            let mut fields: Fields = mailbox.iter().map(|mailbox| ("mailbox", mailbox.to_string())).collect();
            fields.push(("key", key.clone()));
            fields.push((
                "bytes",
                value.as_ref().map_or_else(|| "removed".into(), |value| value.len().to_string()),
            ));
            ("metadata", fields)
        }
        Op::SpecialUse { mailbox, purpose } => (
            "special-use",
            vec![
                ("mailbox", mailbox.to_string()),
                ("purpose", purpose.map_or("none", |purpose| purpose.as_str()).to_owned()),
            ],
        ),
        Op::Acl { mailbox, identifier, rights, .. } => (
            "acl",
            vec![
                ("mailbox", mailbox.to_string()),
                ("identifier", identifier.clone()),
                ("rights", rights.clone().unwrap_or_else(|| "removed".into())),
            ],
        ),
        Op::ScriptPut { name, text, .. } => {
            ("script-put", vec![("name", name.clone()), ("bytes", text.len().to_string())])
        }
        Op::ScriptDelete { name, .. } => ("script-delete", vec![("name", name.clone())]),
        Op::ScriptActivate { name } => {
            ("script-activate", vec![("name", name.clone().unwrap_or_else(|| "none".into()))])
        }
        Op::Home { site, home_epoch, .. } => {
            ("home", vec![("site", site.to_string()), ("epoch", home_epoch.to_string())])
        }
    }
}

fn appended(append: &Append) -> Fields {
    let Append { entry, mailbox, header, flags, uid } = append;
    let mut fields = vec![("entry", entry.to_string()), ("mailbox", mailbox.to_string())];
    fields.extend(numbered(*uid));
    fields.push(("bytes", header.size.to_string()));
    fields.push(("file", header.base.to_string()));
    fields.extend((!flags.is_empty()).then(|| ("flags", list::<&Flag>(flags))));
    fields.extend(header.delivery.map(|key| ("delivery", format!("{:016x}", key.0))));
    fields
}

fn numbered(uid: Option<(UidValidity, model::Uid)>) -> Option<(&'static str, String)> {
    uid.map(|(validity, uid)| ("uid", format!("{validity}/{uid}")))
}

fn claimed(claim: &Claim) -> Fields {
    let mut fields = vec![("mailbox", claim.mailbox.to_string()), ("name", claim.path.level.clone())];
    fields.extend(claim.path.parent.map(|parent| ("below", parent.to_string())));
    fields.extend(claim.left.as_ref().map(|left| ("was", left.level.clone())));
    fields.push(("uidvalidity", claim.uid_validity.to_string()));
    fields
}

fn tagged(tags: &[(EntryId, Dot)]) -> String {
    list(tags.iter().map(|(entry, _)| entry))
}

fn list<T: ToString>(items: impl IntoIterator<Item = T>) -> String {
    items.into_iter().map(|item| item.to_string()).collect::<Vec<_>>().join(",")
}
