//! Messages that a QUERY chooses, mailbox by mailbox.

use std::sync::Arc;

use account::reader::Reader;
use account::{MailboxView, MessageView, Snapshot};
use clap::Args;
use model::{MailboxName, Uid};

use super::choose::{One, Whom};
use super::exit::Failure;
use super::query::Typed;
use crate::time;

/// Messages searched together.
const BATCH: usize = 100;
/// Messages changed together.
pub(crate) const CHANGE_BATCH: usize = 1000;

/// USER and QUERY, where nothing else is typed.
#[derive(Debug, Args)]
pub(crate) struct UserAndQuery {
    #[command(flatten)]
    pub(crate) whom: Whom,
    /// The user, then IMAP search keys and MAILBOX NAME, such as: mailbox INBOX from ada since 2026-01-01
    #[arg(value_names = ["USER", "QUERY"], num_args = 1.., required = true)]
    pub(crate) words: Vec<String>,
}

/// Those of one mailbox.
pub(crate) struct Found {
    pub(crate) name: MailboxName,
    pub(crate) view: Arc<MailboxView>,
    /// Ascending.
    pub(crate) messages: Vec<MessageView>,
}

impl Found {
    pub(crate) fn uids(&self) -> Vec<Uid> {
        self.messages.iter().map(|message| message.uid).collect()
    }
}

/// Searches all mailboxes. Blocking. A message whose bytes are gone is not found; one that cannot be read is an error.
pub(crate) fn search(snapshot: &Snapshot, reader: &Reader, typed: &Typed) -> Result<Vec<Found>, Failure> {
    let mut all = Vec::new();
    for (name, entry) in &snapshot.mailboxes {
        let Some(view) = &entry.view else { continue };
        let query = typed.query(name, view, time::unix_s())?;
        let mut messages = Vec::new();
        let mut unsure: Vec<MessageView> = Vec::new();
        for message in view.iter() {
            match query.decide(message) {
                Some(true) => messages.push(message.clone()),
                Some(false) => {}
                None => unsure.push(message.clone()),
            }
        }
        for batch in unsure.chunks(BATCH) {
            let answers = reader.search(view.id, batch, &query);
            for (message, answer) in batch.iter().zip(answers) {
                match answer {
                    Ok(true) => messages.push(message.clone()),
                    Ok(false) | Err(account::ReadError::Gone) => {}
                    Err(error) => return Err(unreadable(name, message, error)),
                }
            }
        }
        if !messages.is_empty() {
            messages.sort_by_key(|message| message.uid);
            all.push(Found { name: name.clone(), view: Arc::clone(view), messages });
        }
    }
    Ok(all)
}

/// The same, from an async task.
pub(crate) async fn search_of(one: &One, typed: &Typed) -> Result<Vec<Found>, Failure> {
    let (snapshot, reader, typed) = (one.snapshot()?, one.reader()?, typed.clone());
    tokio::task::spawn_blocking(move || search(&snapshot, &reader, &typed)).await?
}

pub(crate) fn unreadable(name: &MailboxName, message: &MessageView, error: account::ReadError) -> Failure {
    let failure = Failure::from(error);
    Failure::new(failure.exit, format!("{name}, UID {}: {failure}", message.uid))
}
