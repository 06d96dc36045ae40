//! Reading messages: bytes, what was parsed out of them, and searches. From any thread, never waiting for the owner.
//!
//! Invariants
//! - What a snapshot shows can be read for as long as the hold keeps it (L-UN): a message that was expunged meanwhile is
//!   still served to whoever began to look at it.
//! - What was parsed is a copy of what the bytes say: bounded in memory, rebuilt whenever it is not as expected.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bincode::Options;
use bytes::Bytes;
use message::search::Needle;
use message::{Limits, Message};
use model::{EntryId, MailboxId};
use serde::{Deserialize, Serialize};
use store::body::Body;
use store::format::Format;
use store::index::cache::Cache;

use crate::search::Query;
use crate::snapshot::MessageView;

/// Headers longer than this are not kept: they are read as octets.
pub const HEADER_BYTES_MAX: usize = 32 * 1024;
/// Of descriptions kept in memory for one account, by their [`weight`]: what its clients look at right now. The rest is in the
/// cache file.
const DESCRIBED_BYTES_MAX: usize = 256 * 1024;
/// A description in memory against the same one in the cache, from measurement: it is many small pieces.
const IN_MEMORY: usize = 4;
/// Octets of one message that are parsed and searched. What lies beyond is served, not looked into.
const PARSE_BYTES_MAX: usize = 256 << 20;
/// Of a cached description. Another version is parsed again.
const CACHED_VERSION: u8 = 1;

/// Why a message cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Removed behind our back, or already swept.
    #[error("the message is gone")]
    Gone,
    /// The disk failed.
    #[error("the message cannot be read: {0}")]
    Failed(String),
}

impl From<nfs_compat::Error> for ReadError {
    fn from(error: nfs_compat::Error) -> Self {
        if error.is_not_found() { Self::Gone } else { Self::Failed(error.to_string()) }
    }
}

/// Envelope, structure and header block of a message: what FETCH asks for again and again.
#[derive(Debug)]
pub struct Described {
    /// Offsets are into the wire octets.
    pub message: Message,
    /// The header block with its empty line, wire form; `None` if it is longer than [`HEADER_BYTES_MAX`].
    pub header: Option<Bytes>,
}

#[derive(Serialize, Deserialize)]
struct Cached {
    version: u8,
    /// Ties it to the bytes that it was parsed from.
    wire_size: u64,
    message: Message,
    header: Option<Vec<u8>>,
}

/// A hand for reading. Cloning is cheap.
#[derive(Clone)]
pub struct Reader {
    format: Arc<dyn Format>,
    cache: Option<Arc<Cache>>,
    lately: Arc<Mutex<Lately>>,
}

/// Descriptions made lately, oldest first: no order to be kept at every use.
#[derive(Default)]
struct Lately {
    known: HashMap<EntryId, Arc<Described>>,
    /// With the weight of each.
    order: VecDeque<(EntryId, usize)>,
    bytes: usize,
}

impl Lately {
    /// The oldest make room. One that is too heavy by itself is not kept.
    fn insert(&mut self, entry: EntryId, described: &Arc<Described>, weight: usize) {
        if weight > DESCRIBED_BYTES_MAX / 4 || self.known.contains_key(&entry) {
            return;
        }
        self.known.insert(entry, Arc::clone(described));
        self.order.push_back((entry, weight));
        self.bytes += weight;
        while self.bytes > DESCRIBED_BYTES_MAX
            && let Some((old, weight)) = self.order.pop_front()
        {
            self.known.remove(&old);
            self.bytes -= weight;
        }
    }
}

fn weight(cached: &[u8]) -> usize {
    cached.len() * IN_MEMORY
}

impl Reader {
    pub fn new(format: Arc<dyn Format>, cache: Option<Arc<Cache>>) -> Self {
        Self { format, cache, lately: Arc::default() }
    }

    /// Opens a message's bytes.
    pub fn open(&self, mailbox: MailboxId, message: &MessageView) -> Result<Body, ReadError> {
        Ok(self.format.open(mailbox, &message.base)?)
    }

    /// Envelope, structure and header. Reads the file only if nobody has asked before.
    pub fn describe(&self, mailbox: MailboxId, message: &MessageView) -> Result<Arc<Described>, ReadError> {
        if let Some(known) = self.known(message) {
            return Ok(known);
        }
        let wire = self.wire(mailbox, message)?;
        Ok(self.parse(message, &wire))
    }

    /// Whether the query holds, for each message.
    pub fn search(
        &self,
        mailbox: MailboxId,
        messages: &[MessageView],
        query: &Query,
    ) -> Vec<Result<bool, ReadError>> {
        let prepared = Prepared::of(query);
        messages
            .iter()
            .map(|message| match query.decide(message) {
                Some(answer) => Ok(answer),
                None => Search { reader: self, mailbox, message, wire: None }.holds(&prepared),
            })
            .collect()
    }

    fn known(&self, message: &MessageView) -> Option<Arc<Described>> {
        if let Some(known) = self.lately().known.get(&message.entry) {
            return Some(Arc::clone(known));
        }
        let bytes = self.cache.as_ref()?.get(message.entry)?;
        let cached: Cached = options().deserialize(&bytes).ok()?;
        if cached.version != CACHED_VERSION || cached.wire_size != message.wire_size {
            return None;
        }
        let described = Described { message: cached.message, header: cached.header.map(Bytes::from) };
        Some(self.remember(message.entry, described, weight(&bytes)))
    }

    fn wire(&self, mailbox: MailboxId, message: &MessageView) -> Result<Bytes, ReadError> {
        Ok(self.open(mailbox, message)?.read_all(PARSE_BYTES_MAX)?.into())
    }

    fn parse(&self, view: &MessageView, wire: &[u8]) -> Arc<Described> {
        let message = message::parse(wire, &Limits::default());
        let header = message.root.header.of(wire);
        let header = (header.len() <= HEADER_BYTES_MAX).then(|| header.to_vec());
        let cached = Cached { version: CACHED_VERSION, wire_size: view.wire_size, message, header };
        let bytes = options().serialize(&cached);
        let described = Described { message: cached.message, header: cached.header.map(Bytes::from) };
        // What cannot be encoded is parsed again next time.
        let Ok(bytes) = bytes else { return Arc::new(described) };
        if let Some(cache) = &self.cache {
            cache.put(view.entry, &bytes);
        }
        self.remember(view.entry, described, weight(&bytes))
    }

    fn remember(&self, entry: EntryId, described: Described, weight: usize) -> Arc<Described> {
        let described = Arc::new(described);
        self.lately().insert(entry, &described, weight);
        described
    }

    fn lately(&self) -> MutexGuard<'_, Lately> {
        self.lately.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A query whose texts are ready to be looked for.
enum Prepared<'a> {
    And(Vec<Prepared<'a>>),
    Or(Vec<Prepared<'a>>),
    Not(Box<Prepared<'a>>),
    Header(&'a str, Needle),
    Body(Needle),
    Text(Needle),
    Sent {
        day: i64,
        before: bool,
    },
    /// The snapshot answers it.
    Known(&'a Query),
}

impl<'a> Prepared<'a> {
    fn of(query: &'a Query) -> Self {
        match query {
            Query::And(all) => Self::And(Self::cheapest_first(all)),
            Query::Or(any) => Self::Or(Self::cheapest_first(any)),
            Query::Not(query) => Self::Not(Box::new(Self::of(query))),
            Query::Header { name, contains } => Self::Header(name, Needle::new(contains)),
            Query::Body(text) => Self::Body(Needle::new(text)),
            Query::Text(text) => Self::Text(Needle::new(text)),
            Query::SentFrom(day) => Self::Sent { day: *day, before: false },
            Query::SentBefore(day) => Self::Sent { day: *day, before: true },
            Query::All
            | Query::None
            | Query::Uids(_)
            | Query::Flag(_)
            | Query::LargerThan(_)
            | Query::SmallerThan(_)
            | Query::ReceivedFrom(_)
            | Query::ReceivedBefore(_)
            | Query::SavedFrom(_)
            | Query::SavedBefore(_)
            | Query::ModSeqFrom(_)
            | Query::Message(_) => Self::Known(query),
        }
    }

    fn cheapest_first(queries: &'a [Query]) -> Vec<Self> {
        let mut prepared: Vec<_> = queries.iter().map(Self::of).collect();
        prepared.sort_by_key(Self::cost);
        prepared
    }

    /// 0 from the snapshot, 1 from the description, 2 from the whole message.
    fn cost(&self) -> u8 {
        match self {
            Self::Known(_) => 0,
            Self::Header(..) | Self::Sent { .. } => 1,
            Self::Body(_) | Self::Text(_) => 2,
            Self::And(parts) | Self::Or(parts) => parts.iter().map(Self::cost).max().unwrap_or(0),
            Self::Not(part) => part.cost(),
        }
    }
}

/// One message being searched.
struct Search<'a> {
    reader: &'a Reader,
    mailbox: MailboxId,
    message: &'a MessageView,
    wire: Option<Bytes>,
}

impl Search<'_> {
    /// Depth is that of the query, which its parser bounds.
    fn holds(&mut self, query: &Prepared<'_>) -> Result<bool, ReadError> {
        match query {
            Prepared::Known(query) => Ok(query.decide(self.message).unwrap_or(false)),
            Prepared::Not(query) => Ok(!self.holds(query)?),
            Prepared::And(all) => {
                for query in all {
                    if !self.holds(query)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            }
            Prepared::Or(any) => {
                for query in any {
                    if self.holds(query)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Prepared::Sent { day, before } => self.was_sent(*day, *before),
            Prepared::Header(name, needle) => self.has_header(name, needle),
            Prepared::Body(needle) => {
                let (described, wire) = self.read()?;
                Ok(needle.is_in_body(&described.message, &wire))
            }
            Prepared::Text(needle) => {
                let (described, wire) = self.read()?;
                Ok(needle.is_in_message(&described.message, &wire))
            }
        }
    }

    /// RFC 3501 §6.4.4: the date as the header has it, "disregarding time and timezone".
    fn was_sent(&mut self, day: i64, before: bool) -> Result<bool, ReadError> {
        let described = self.reader.describe(self.mailbox, self.message)?;
        let sent = described
            .message
            .envelope
            .date
            .as_deref()
            .and_then(message::date::parse)
            .map(message::date::Date::day);
        Ok(sent.is_some_and(|sent| if before { sent < day } else { sent >= day }))
    }

    fn has_header(&mut self, name: &str, needle: &Needle) -> Result<bool, ReadError> {
        let described = self.reader.describe(self.mailbox, self.message)?;
        if let Some(header) = &described.header {
            return Ok(needle.is_in_field(header, name.as_bytes()));
        }
        let (described, wire) = self.read()?;
        Ok(needle.is_in_field(described.message.root.header.of(&wire), name.as_bytes()))
    }

    /// The message's octets, read once, with its structure.
    fn read(&mut self) -> Result<(Arc<Described>, Bytes), ReadError> {
        let wire = match &self.wire {
            Some(wire) => wire.clone(),
            None => {
                let wire = self.reader.wire(self.mailbox, self.message)?;
                self.wire.insert(wire).clone()
            }
        };
        let described = self.reader.known(self.message);
        Ok((described.unwrap_or_else(|| self.reader.parse(self.message, &wire)), wire))
    }
}

fn options() -> impl Options {
    bincode::DefaultOptions::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_descriptions_make_room_and_a_huge_one_is_not_kept() {
        let mut lately = Lately::default();
        let message = message::parse(b"Subject: x\r\n\r\n", &Limits::default());
        let described = Arc::new(Described { message, header: None });
        let entry = |number: u8| EntryId::from_bytes([number; 16]);
        for number in 0..5 {
            lately.insert(entry(number), &described, DESCRIBED_BYTES_MAX / 4);
        }
        lately.insert(entry(9), &described, DESCRIBED_BYTES_MAX / 4 + 1);
        let kept: Vec<_> = (0..10).filter(|number| lately.known.contains_key(&entry(*number))).collect();
        assert_eq!(kept, [1, 2, 3, 4]);
        assert_eq!((lately.order.len(), lately.bytes), (4, DESCRIBED_BYTES_MAX));
    }
}
