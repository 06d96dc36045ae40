//! Search keys as a query: the same for SEARCH and for an operator's commands (RFC 3501 §6.4.4).

use account::MailboxView;
use account::search::Query;
use codec::imap::date::Date;
use codec::imap::{SearchKey, SequenceSet};
use model::{Flag, MessageId, ModSeq, SystemFlag, Uid};

use super::selected::ranks;

const DAY_S: i64 = 86_400;

/// Why keys are no query.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoQuery {
    #[error("no such message")]
    NoSuchMessage,
    #[error("a text to search for is not UTF-8")]
    Charset,
}

/// What keys are about: a mailbox as the asker sees it, and the time.
#[derive(Debug)]
pub struct Criteria<'a> {
    /// Sequence numbers count in it.
    pub view: &'a MailboxView,
    /// Runs of UIDs that are `\Recent` to the asker, ascending.
    pub recent: Vec<(Uid, Uid)>,
    pub now_unix_s: i64,
}

impl Criteria<'_> {
    /// Turns keys into a query about messages, apart from sequence numbers and the asker. Depth is bounded by the
    /// parser (`SEARCH_DEPTH_MAX`).
    pub fn query(&self, key: &SearchKey) -> Result<Query, NoQuery> {
        let all = |keys: &[SearchKey]| keys.iter().map(|key| self.query(key)).collect::<Result<Vec<_>, _>>();
        let query = match key {
            SearchKey::And(keys) => Query::And(all(keys)?),
            SearchKey::Or(keys) => Query::Or(all(keys)?),
            SearchKey::Not(key) => not(self.query(key)?),
            SearchKey::All => Query::All,
            SearchKey::Answered => has(SystemFlag::Answered),
            SearchKey::Deleted => has(SystemFlag::Deleted),
            SearchKey::Draft => has(SystemFlag::Draft),
            SearchKey::Flagged => has(SystemFlag::Flagged),
            SearchKey::Seen => has(SystemFlag::Seen),
            SearchKey::Unanswered => not(has(SystemFlag::Answered)),
            SearchKey::Undeleted => not(has(SystemFlag::Deleted)),
            SearchKey::Undraft => not(has(SystemFlag::Draft)),
            SearchKey::Unflagged => not(has(SystemFlag::Flagged)),
            SearchKey::Unseen => not(has(SystemFlag::Seen)),
            SearchKey::Keyword(keyword) => Query::Flag(Flag::Keyword(keyword.clone())),
            SearchKey::Unkeyword(keyword) => not(Query::Flag(Flag::Keyword(keyword.clone()))),
            SearchKey::Recent => self.recent(),
            SearchKey::New => Query::And(vec![self.recent(), not(has(SystemFlag::Seen))]),
            SearchKey::Old => not(self.recent()),
            SearchKey::Bcc(value) => header("Bcc", value)?,
            SearchKey::Cc(value) => header("Cc", value)?,
            SearchKey::From(value) => header("From", value)?,
            SearchKey::Subject(value) => header("Subject", value)?,
            SearchKey::To(value) => header("To", value)?,
            SearchKey::Header { name, value } => header(&text(name)?, value)?,
            SearchKey::Body(value) => Query::Body(text(value)?),
            SearchKey::Text(value) => Query::Text(text(value)?),
            SearchKey::Before(date) => Query::ReceivedBefore(start(*date)),
            SearchKey::Since(date) => Query::ReceivedFrom(start(*date)),
            SearchKey::On(date) => {
                let from = start(*date);
                Query::And(vec![Query::ReceivedFrom(from), Query::ReceivedBefore(from.saturating_add(DAY_S))])
            }
            SearchKey::SentBefore(date) => Query::SentBefore(date.days()),
            SearchKey::SentSince(date) => Query::SentFrom(date.days()),
            SearchKey::SentOn(date) => {
                Query::And(vec![Query::SentFrom(date.days()), Query::SentBefore(date.days() + 1)])
            }
            // RFC 5032 §2: "within the last N seconds", and the others.
            SearchKey::Younger(seconds) => Query::ReceivedFrom(self.now_unix_s - i64::from(*seconds)),
            SearchKey::Older(seconds) => Query::ReceivedBefore(self.now_unix_s - i64::from(*seconds) + 1),
            SearchKey::Larger(size) => Query::LargerThan(*size),
            SearchKey::Smaller(size) => Query::SmallerThan(*size),
            SearchKey::ModSeq(modseq) => Query::ModSeqFrom(ModSeq(*modseq)),
            SearchKey::EmailId(id) => MessageId::parse_hex(id).map_or(Query::None, Query::Message),
            // Messages are not put into threads (RFC 8474 §5.2).
            SearchKey::ThreadId(_) => Query::None,
            SearchKey::Sequence(set) => self.sequence(set)?,
            SearchKey::Uid(set) => self.uids(set),
        };
        Ok(query)
    }

    fn recent(&self) -> Query {
        Query::Uids(self.recent.clone())
    }

    fn sequence(&self, set: &SequenceSet) -> Result<Query, NoQuery> {
        let held = self.view;
        let ranks = ranks(set, false, held).map_err(|_| NoQuery::NoSuchMessage)?;
        let ends = |range: &std::ops::Range<u32>| {
            Some((held.get(range.start)?.uid, held.get(range.end.checked_sub(1)?)?.uid))
        };
        Ok(Query::Uids(ranks.iter().filter_map(ends).collect()))
    }

    fn uids(&self, set: &SequenceSet) -> Query {
        let greatest = self.view.iter().next_back().map_or(0, |message| message.uid.get());
        let runs = set.resolve(greatest);
        Query::Uids(
            runs.iter().filter_map(|run| Some((Uid::new(*run.start())?, Uid::new(*run.end())?))).collect(),
        )
    }
}

fn has(flag: SystemFlag) -> Query {
    Query::Flag(Flag::System(flag))
}

fn not(query: Query) -> Query {
    Query::Not(Box::new(query))
}

fn header(name: &str, value: &[u8]) -> Result<Query, NoQuery> {
    Ok(Query::Header { name: name.to_owned(), contains: text(value)? })
}

fn text(bytes: &[u8]) -> Result<String, NoQuery> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| NoQuery::Charset)
}

/// The day's first second. Days are those of UTC, the zone in which INTERNALDATE is told.
fn start(date: Date) -> i64 {
    date.days().saturating_mul(DAY_S)
}
