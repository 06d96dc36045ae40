//! The whole account as plain values, for `roost dump` and for comparing stores: as clients would see it.

use model::UidValidity;
use model::utf7::encode_utf7;
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::reader::{ReadError, Reader};
use crate::snapshot::{MailboxEntry, MailboxView, MessageView, Snapshot};

/// Octets hashed at a time.
const CHUNK: usize = 1 << 20;

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Dump {
    pub subscriptions: Vec<String>,
    /// UIDLs of INBOX, in POP3's order.
    pub pop3_uidl_inbox: Vec<String>,
    pub mailboxes: Vec<DumpedMailbox>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpedMailbox {
    pub name: String,
    /// As IMAP sends it.
    pub raw_name: String,
    pub list_flags: Vec<String>,
    /// A name that is no mailbox itself has nothing more.
    #[serde(flatten)]
    pub content: Option<DumpedContent>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpedContent {
    pub uidvalidity: u32,
    pub uidnext: u32,
    pub highestmodseq: u64,
    pub messages: u32,
    pub unseen: u32,
    pub recent: u32,
    pub guid: String,
    pub msgs: Vec<DumpedMessage>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DumpedMessage {
    pub uid: u32,
    pub flags: Vec<String>,
    pub keywords: Vec<String>,
    pub internaldate: i64,
    pub size: u64,
    pub size_physical: u64,
    /// Of `BODY[]`; absent if the bytes cannot be read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_sha256: Option<String>,
    pub guid: String,
    pub modseq: u64,
    pub date_saved: i64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pop3_uidl_stored: Option<String>,
}

/// Everything that the snapshot shows, bytes hashed. `uidl` says what POP3 calls a message.
pub fn dump(
    snapshot: &Snapshot,
    reader: &Reader,
    uidl: impl Fn(UidValidity, &MessageView) -> String,
) -> Dump {
    let inbox = snapshot.by_name(&model::MailboxName::inbox()).and_then(|inbox| inbox.view.as_ref());
    Dump {
        subscriptions: snapshot.subscriptions.iter().map(|name| name.as_str().to_owned()).collect(),
        pop3_uidl_inbox: inbox.map_or_else(Vec::new, |view| {
            view.iter().map(|message| uidl(view.uid_validity, message)).collect()
        }),
        mailboxes: snapshot
            .mailboxes
            .iter()
            .map(|(name, entry)| mailbox(snapshot, name, entry, reader))
            .collect(),
    }
}

fn mailbox(
    snapshot: &Snapshot,
    name: &model::MailboxName,
    entry: &MailboxEntry,
    reader: &Reader,
) -> DumpedMailbox {
    let has_children = snapshot.mailboxes.keys().any(|other| other.is_below(name));
    let mut list_flags = vec![if has_children { "\\HasChildren" } else { "\\HasNoChildren" }.to_owned()];
    if entry.view.is_none() {
        list_flags.push("\\NonExistent".to_owned());
    }
    list_flags.extend(entry.special_use.map(|purpose| purpose.as_str().to_owned()));
    DumpedMailbox {
        name: name.as_str().to_owned(),
        raw_name: encode_utf7(name.as_str()),
        list_flags,
        content: entry.view.as_ref().map(|view| content(view, reader)),
    }
}

fn content(view: &MailboxView, reader: &Reader) -> DumpedContent {
    let claimed = view.recent.load(std::sync::atomic::Ordering::Acquire);
    DumpedContent {
        uidvalidity: view.uid_validity.get(),
        uidnext: view.uid_next.get(),
        highestmodseq: view.highest_modseq.0,
        messages: view.len(),
        unseen: view.unseen,
        recent: view.iter().filter(|message| message.uid.get() > claimed).count() as u32,
        guid: view.id.to_string(),
        msgs: view.iter().map(|dumped| message(view, dumped, reader)).collect(),
    }
}

fn message(view: &MailboxView, message: &MessageView, reader: &Reader) -> DumpedMessage {
    let mut flags: Vec<_> = message.flags.iter().map(|flag| flag.as_str().to_owned()).collect();
    flags.sort();
    let keywords = message.keywords.as_deref().unwrap_or_default();
    let mut keywords: Vec<_> = keywords.iter().map(|keyword| keyword.as_str().to_owned()).collect();
    keywords.sort();
    DumpedMessage {
        uid: message.uid.get(),
        flags,
        keywords,
        internaldate: message.internal_date,
        size: message.wire_size,
        size_physical: message.size,
        body_sha256: sha256(view, message, reader).ok(),
        guid: message.message.to_string(),
        modseq: message.modseq.0,
        date_saved: message.save_date,
        pop3_uidl_stored: message.uidl.as_ref().map(|uidl| uidl.to_string()),
    }
}

fn sha256(view: &MailboxView, message: &MessageView, reader: &Reader) -> Result<String, ReadError> {
    let mut body = reader.open(view.id, message)?;
    let mut hasher = Sha256::new();
    let mut offset = 0;
    loop {
        let octets = body.read_wire(offset, CHUNK)?;
        if octets.is_empty() {
            return Ok(hasher.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        offset += octets.len() as u64;
        hasher.update(&octets);
    }
}
