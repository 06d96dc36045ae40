//! Does what the account says agree with what lies on disk? For `roost verify`.
//!
//! What other programs did is taken in first, as ever: then a file without a message, or a message without a file, is
//! no neighbour's work.

use std::collections::HashSet;

use model::{MailboxId, MailboxName};
use serde::Serialize;
use store::format::Format;

use crate::door::Request;
use crate::log::mark_of;
use crate::open::Start;
use crate::owner::Owner;
use crate::setup::{Now, Setup};
use crate::snapshot::{MailboxView, MessageView, Snapshot};
use crate::tenure::Volume;

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub mailboxes: u64,
    pub messages: u64,
    pub bytes: u64,
    pub problems: Vec<Problem>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "problem")]
pub enum Problem {
    /// A message without bytes.
    Missing { mailbox: String, uid: u32, base: String },
    /// Its bytes cannot be read.
    Unreadable { mailbox: String, uid: u32, base: String, error: String },
    /// Its bytes are not those that were delivered.
    Changed { mailbox: String, uid: u32, base: String, what: String },
    /// A file in the mailbox that is no message.
    Orphan { mailbox: String, base: String },
    /// Found, and put right or put aside.
    Healed { what: String },
    /// The journal, read again, does not come to what readers are shown.
    Journal { what: String },
}

impl Owner {
    /// Compares every message with its bytes, and the journal with the snapshot.
    pub fn verify(&mut self, now: Now) -> Verified {
        let mut verified = Verified::default();
        let looked = self.commit(now, vec![Request::Observe { mailbox: None }]);
        let refused = looked.into_iter().filter_map(Result::err).map(|refused| refused.to_string());
        let healed = refused.chain(self.take_healed()).map(|what| Problem::Healed { what });
        verified.problems.extend(healed);
        let snapshot = self.snapshot();
        for (name, entry) in &snapshot.mailboxes {
            let Some(view) = &entry.view else { continue };
            verified.mailboxes += 1;
            for message in view.iter() {
                verified.messages += 1;
                verified.bytes += message.size;
                verified.problems.extend(bytes_problem(&*self.setup.format, name, view.id, message));
            }
            verified.problems.extend(orphans(&*self.setup.format, name, view));
        }
        verified
            .problems
            .extend(journal_problem(&self.setup, &snapshot).map(|what| Problem::Journal { what }));
        verified
    }
}

fn bytes_problem(
    format: &dyn Format,
    name: &MailboxName,
    id: MailboxId,
    message: &MessageView,
) -> Option<Problem> {
    let (mailbox, uid, base) = (name.as_str().to_owned(), message.uid.get(), message.base.to_string());
    let examined = match format.examine(id, &message.base) {
        Err(error) if error.is_not_found() => return Some(Problem::Missing { mailbox, uid, base }),
        Err(error) => return Some(Problem::Unreadable { mailbox, uid, base, error: error.to_string() }),
        Ok(examined) => examined,
    };
    let what = if examined.size != message.size {
        format!("{} bytes, not {}", examined.size, message.size)
    } else if examined.content != message.content {
        format!("content {}, not {}", examined.content, message.content)
    } else if examined.wire_size != message.wire_size {
        format!("{} octets on the wire, not {}", examined.wire_size, message.wire_size)
    } else {
        return None;
    };
    Some(Problem::Changed { mailbox, uid, base, what })
}

fn orphans(format: &dyn Format, name: &MailboxName, view: &MailboxView) -> Vec<Problem> {
    let mailbox = name.as_str();
    let files = match format.list(view.id) {
        Ok(files) => files,
        Err(error) => return vec![Problem::Healed { what: format!("{mailbox}: {error}") }],
    };
    let known: HashSet<&str> = view.iter().map(|message| &*message.base).collect();
    let unknown = files.iter().filter(|base| !known.contains(&***base));
    unknown.map(|base| Problem::Orphan { mailbox: mailbox.to_owned(), base: base.to_string() }).collect()
}

/// Reads the journal as a start would, without going on from it.
fn journal_problem(setup: &Setup, shown: &Snapshot) -> Option<String> {
    let witness = match setup.tenure.witness.read(setup.account) {
        Ok(witness) => witness.map(mark_of),
        Err(error) => return Some(error.to_string()),
    };
    let start = match (setup.tenure.volume, &witness) {
        (Volume::Shared, Some(mark)) => Start::exactly(setup, mark),
        (Volume::Shared, None) => return None,
        (Volume::Private, witness) => Start::tail(setup, witness.as_ref()),
    };
    let mut start = match start {
        Ok(start) => start,
        Err(error) => return Some(error.to_string()),
    };
    let lsn = start.found.mark.map_or(0, |mark| mark.lsn);
    let read = start.image.building.snapshot(&start.image.state, lsn);
    (fingerprint(&read) != fingerprint(shown))
        .then(|| format!("it comes to another state at record {lsn} than is shown at record {}", shown.lsn))
}

/// Everything that a client could tell apart.
fn fingerprint(snapshot: &Snapshot) -> blake3::Hash {
    let mut hasher = blake3::Hasher::new();
    let mut note = |bytes: &[u8]| {
        hasher.update(&(bytes.len() as u64).to_le_bytes());
        hasher.update(bytes);
    };
    note(&snapshot.lsn.to_le_bytes());
    for (name, entry) in &snapshot.mailboxes {
        note(name.as_str().as_bytes());
        let Some(view) = &entry.view else { continue };
        note(view.id.as_bytes());
        note(&view.uid_validity.get().to_le_bytes());
        note(&view.uid_next.get().to_le_bytes());
        for message in view.iter() {
            note(&message.uid.get().to_le_bytes());
            note(message.entry.as_bytes());
            note(message.content.as_bytes());
            note(message.base.as_bytes());
            for flag in message.flags.iter() {
                note(flag.as_str().as_bytes());
            }
            for keyword in message.keywords.iter().flat_map(|keywords| keywords.iter()) {
                note(keyword.as_str().as_bytes());
            }
        }
    }
    for name in snapshot.subscriptions.iter() {
        note(name.as_str().as_bytes());
    }
    hasher.finalize()
}
