//! Clients: what sessions ask for, drawn by seed from what they were shown.

use std::collections::BTreeSet;
use std::sync::Arc;

use account::Request;
use account::door::{Append, EditFlags, Expunge, FlagEdit, NewMessage};
use account::snapshot::{MailboxView, Snapshot};
use model::{ContentId, DeliveryKey, Flag, Keyword, MailboxId, MailboxName, SystemFlag, Uid};
use rand::RngExt;
use rand::rngs::StdRng;
use store::spool::{Spool, Spooled};

use crate::oracle::{Fate, Oracle, Token};

/// Names that clients use. Few, so that they meet.
const NAMES: [&str; 8] = ["INBOX", "INBOX", "INBOX", "Archive", "Work", "Work/2024", "Work/2024/Q1", "Grüße"];
const KEYWORDS: [&str; 4] = ["work", "later", "$Forwarded", "Work"];
/// A retry within this time is recognised (L-CM2 says an hour).
const RETRY_US: u64 = 50 * 60 * 1_000_000;

/// What a client wants, before its bytes are on the spool.
pub enum Wish {
    /// Octets of each message come first.
    Append(Append, Vec<(Vec<u8>, BTreeSet<Flag>)>, Option<i64>),
    Other(Request),
}

/// A name by seed.
pub fn name(rng: &mut StdRng) -> MailboxName {
    MailboxName::new(NAMES[rng.random_range(0..NAMES.len())]).unwrap_or_else(|_| MailboxName::inbox())
}

/// A client that has seen `oracle.last` decides what to do next.
pub fn wish(rng: &mut StdRng, oracle: &mut Oracle, now_us: u64, elapsed_us: u64, keyless: bool) -> Wish {
    let snapshot = oracle.last.clone();
    let Some(snapshot) = snapshot else { return deliver(rng, oracle, elapsed_us, keyless) };
    match rng.random_range(0..100) {
        0..22 => deliver(rng, oracle, elapsed_us, keyless),
        22..32 => append(rng, oracle, now_us, elapsed_us),
        32..40 => retry(rng, oracle, elapsed_us, keyless),
        40..56 => Wish::Other(edit(rng, &snapshot)),
        56..63 => Wish::Other(expunge(rng, &snapshot)),
        63..70 => {
            let (from, uids) = some_messages(rng, &snapshot);
            Wish::Other(Request::Copy { from, uids, to: name(rng) })
        }
        70..78 => {
            let (from, uids) = some_messages(rng, &snapshot);
            Wish::Other(Request::Move { from, uids, to: name(rng) })
        }
        78..83 => Wish::Other(Request::Create { name: name(rng), special_use: None }),
        83..86 => Wish::Other(Request::Delete { name: name(rng) }),
        86..89 => Wish::Other(Request::Rename { from: name(rng), to: name(rng) }),
        89..91 => Wish::Other(Request::Subscribe { name: name(rng), on: rng.random() }),
        91..97 => Wish::Other(Request::Observe { mailbox: None }),
        97..99 => Wish::Other(Request::Settle),
        _ => Wish::Other(Request::RebuildIndex),
    }
}

/// Puts what the wish brings along on the spool.
pub fn spool(spool: &Spool, wish: &Wish) -> nfs_compat::Result<Vec<Arc<Spooled>>> {
    let Wish::Append(_, messages, _) = wish else { return Ok(Vec::new()) };
    let put = |octets: &[u8]| {
        let mut incoming = spool.begin();
        incoming.write(octets)?;
        incoming.finish().map(Arc::new)
    };
    messages.iter().map(|(octets, _)| put(octets)).collect()
}

/// The request, once its bytes are on the spool.
pub fn request(wish: Wish, bodies: Vec<Arc<Spooled>>) -> Request {
    match wish {
        Wish::Other(request) => request,
        Wish::Append(append, messages, internal_date) => {
            let message = |(body, (_, flags)): (Arc<Spooled>, (Vec<u8>, BTreeSet<Flag>))| NewMessage {
                body,
                flags: flags.into_iter().collect(),
                internal_date,
            };
            let messages = bodies.into_iter().zip(messages).map(message).collect();
            Request::Append(Append { messages, ..append })
        }
    }
}

/// A new message that nobody has sent before; known to the oracle from now on.
pub fn new_message(rng: &mut StdRng, oracle: &mut Oracle, token: NewToken) -> Vec<u8> {
    let number = u32::try_from(oracle.tokens.len()).unwrap_or(u32::MAX);
    let line_end = if rng.random_bool(0.3) { "\n" } else { "\r\n" };
    let length = if rng.random_bool(0.1) { rng.random_range(0..6000) } else { rng.random_range(0..200) };
    let filler: String = (0..length).map(|_| char::from(rng.random_range(b' '..b'~'))).collect();
    let text =
        format!("Subject: {number}{line_end}X-Random: {}{line_end}{line_end}{filler}", rng.random::<u64>());
    let octets = text.into_bytes();
    let wire = to_wire(&octets);
    let NewToken { flags, internal_date, key, mailbox, by_neighbour, asked_at_us } = token;
    let token = Token {
        number,
        wire,
        flags,
        internal_date,
        key,
        mailbox,
        by_neighbour,
        fate: if by_neighbour { Fate::Unknown } else { Fate::NotStored },
        asked_at_us,
        messages: BTreeSet::new(),
        entries: BTreeSet::new(),
        copies: 0,
        may_have_gone: false,
    };
    oracle.tokens.insert(ContentId::of(&octets), token);
    oracle.octets.insert(ContentId::of(&octets), octets.clone());
    octets
}

/// What is decided about a message before its octets are.
pub struct NewToken {
    pub flags: BTreeSet<Flag>,
    pub internal_date: Option<i64>,
    pub key: Option<DeliveryKey>,
    pub mailbox: MailboxName,
    pub by_neighbour: bool,
    pub asked_at_us: u64,
}

fn to_wire(octets: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(octets.len() + 16);
    message::wire::Converter::default().push(octets, &mut wire);
    wire
}

pub fn deliver(rng: &mut StdRng, oracle: &mut Oracle, elapsed_us: u64, keyless: bool) -> Wish {
    let mailbox = if rng.random_bool(0.8) { MailboxName::inbox() } else { name(rng) };
    let key = DeliveryKey(rng.random());
    let token = NewToken {
        flags: BTreeSet::new(),
        internal_date: None,
        key: Some(key),
        mailbox: mailbox.clone(),
        by_neighbour: false,
        asked_at_us: elapsed_us,
    };
    let octets = new_message(rng, oracle, token);
    let delivery = (!keyless).then_some(key);
    let append = Append { mailbox, create: rng.random_bool(0.3), messages: Vec::new(), delivery };
    Wish::Append(append, vec![(octets, BTreeSet::new())], None)
}

/// The MTA has no answer, or lost it: it sends the same message under the same queue id again.
fn retry(rng: &mut StdRng, oracle: &mut Oracle, elapsed_us: u64, keyless: bool) -> Wish {
    let due = |token: &&Token| token.key.is_some() && elapsed_us.saturating_sub(token.asked_at_us) < RETRY_US;
    let tried: Vec<_> = oracle.tokens.iter().filter(|(_, token)| due(token)).collect();
    let unsure: Vec<_> = tried.iter().filter(|(_, token)| token.fate != Fate::Acknowledged).collect();
    let picked = match (unsure.is_empty(), tried.is_empty()) {
        (false, _) => *unsure[rng.random_range(0..unsure.len())],
        (true, false) => tried[rng.random_range(0..tried.len())],
        (true, true) => return deliver(rng, oracle, elapsed_us, keyless),
    };
    let (content, token) = picked;
    let (mailbox, delivery) = (token.mailbox.clone(), token.key.filter(|_| !keyless));
    let octets = oracle.octets.get(content).cloned().unwrap_or_default();
    let append = Append { mailbox, create: true, messages: Vec::new(), delivery };
    Wish::Append(append, vec![(octets, BTreeSet::new())], None)
}

fn append(rng: &mut StdRng, oracle: &mut Oracle, now_us: u64, elapsed_us: u64) -> Wish {
    let mailbox = name(rng);
    let internal_date = rng.random_bool(0.5).then(|| i64::try_from(now_us / 1_000_000).unwrap_or(0) - 86_400);
    let count = if rng.random_bool(0.2) { 3 } else { 1 };
    let mut messages = Vec::new();
    for _ in 0..count {
        let flags: BTreeSet<_> = some_flags(rng).into_iter().collect();
        let token = NewToken {
            flags: flags.clone(),
            internal_date,
            key: None,
            mailbox: mailbox.clone(),
            by_neighbour: false,
            asked_at_us: elapsed_us,
        };
        messages.push((new_message(rng, oracle, token), flags));
    }
    let append = Append { mailbox, create: false, messages: Vec::new(), delivery: None };
    Wish::Append(append, messages, internal_date)
}

fn some_flags(rng: &mut StdRng) -> Vec<Flag> {
    let mut flags = Vec::new();
    for _ in 0..rng.random_range(0..3) {
        let flag = if rng.random_bool(0.6) {
            Some(Flag::System(SystemFlag::ALL[rng.random_range(0..SystemFlag::ALL.len())]))
        } else {
            Keyword::new(KEYWORDS[rng.random_range(0..KEYWORDS.len())]).map(Flag::Keyword)
        };
        flags.extend(flag.filter(|flag| !flags.contains(flag)));
    }
    flags
}

fn view<'a>(rng: &mut StdRng, snapshot: &'a Snapshot) -> Option<&'a Arc<MailboxView>> {
    let views: Vec<_> = snapshot.mailboxes.values().filter_map(|entry| entry.view.as_ref()).collect();
    let full: Vec<_> = views.iter().filter(|view| !view.is_empty()).collect();
    match (full.is_empty(), views.is_empty()) {
        (false, _) => Some(full[rng.random_range(0..full.len())]),
        (true, false) => Some(views[rng.random_range(0..views.len())]),
        (true, true) => None,
    }
}

fn some_messages(rng: &mut StdRng, snapshot: &Snapshot) -> (MailboxId, Vec<Uid>) {
    let Some(view) = view(rng, snapshot) else { return (MailboxId::from_bytes([0; 16]), Vec::new()) };
    let all = rng.random_bool(0.15);
    let mut uids: Vec<_> = view.iter().map(|message| message.uid).collect();
    uids.retain(|_| all || rng.random_bool(0.3));
    // Somebody else may have expunged it meanwhile.
    let other = Uid::new(rng.random_range(0..view.uid_next.get()));
    uids.extend(other.filter(|uid| rng.random_bool(0.1) && !uids.contains(uid)));
    (view.id, uids)
}

fn edit(rng: &mut StdRng, snapshot: &Snapshot) -> Request {
    let (mailbox, uids) = some_messages(rng, snapshot);
    let edit = match rng.random_range(0..3) {
        0 => FlagEdit::Add,
        1 => FlagEdit::Remove,
        _ => FlagEdit::Replace,
    };
    let highest =
        snapshot.by_id(mailbox).and_then(|(_, entry)| entry.view.as_ref()).map(|view| view.highest_modseq);
    let unchanged_since = highest.filter(|_| rng.random_bool(0.1));
    Request::EditFlags(EditFlags { mailbox, uids, edit, flags: some_flags(rng), unchanged_since })
}

fn expunge(rng: &mut StdRng, snapshot: &Snapshot) -> Request {
    let (mailbox, uids) = some_messages(rng, snapshot);
    let which = match rng.random_range(0..4) {
        0 | 1 => Expunge::Deleted,
        2 => Expunge::DeletedAmong(uids),
        _ => Expunge::Exactly(uids),
    };
    Request::Expunge { mailbox, which }
}
