//! What a search asks of messages (RFC 3501 §6.4.4), apart from any protocol's grammar.
//!
//! [`Query::decide`] answers from the snapshot alone where it can; what needs a message's bytes is answered by a
//! reader off the async threads, cheapest keys first.

use model::{Flag, MessageId, ModSeq, Uid};

use crate::snapshot::MessageView;

/// A condition on one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Query {
    All,
    None,
    And(Vec<Query>),
    Or(Vec<Query>),
    Not(Box<Query>),
    /// Ranges of UIDs, ascending and disjoint. Sequence numbers have become UIDs before.
    Uids(Vec<(Uid, Uid)>),
    Flag(Flag),
    LargerThan(u64),
    SmallerThan(u64),
    /// Internal date in UNIX seconds: at or after, before.
    ReceivedFrom(i64),
    ReceivedBefore(i64),
    SavedFrom(i64),
    SavedBefore(i64),
    /// RFC 7162 §3.1.5: modseq at least this.
    ModSeqFrom(ModSeq),
    Message(MessageId),
    /// `Date:` header, day as written there (RFC 3501 §6.4.4 SENTON): days since 1970-01-01, from and before.
    SentFrom(i64),
    SentBefore(i64),
    /// The header field exists and, decoded, contains the text. An empty text: the field exists.
    Header {
        name: String,
        contains: String,
    },
    /// Decoded text of the body.
    Body(String),
    /// Decoded headers and body.
    Text(String),
}

impl Query {
    /// The answer, if the snapshot is enough for it.
    pub fn decide(&self, message: &MessageView) -> Option<bool> {
        match self {
            Self::All => Some(true),
            Self::None => Some(false),
            Self::And(all) => fold(all, message, false),
            Self::Or(any) => fold(any, message, true),
            Self::Not(query) => query.decide(message).map(|holds| !holds),
            Self::Uids(ranges) => {
                let at = ranges.partition_point(|(_, last)| *last < message.uid);
                Some(ranges.get(at).is_some_and(|(first, _)| *first <= message.uid))
            }
            Self::Flag(Flag::System(flag)) => Some(message.flags.contains(*flag)),
            Self::Flag(Flag::Keyword(keyword)) => {
                Some(message.keywords.as_ref().is_some_and(|keywords| keywords.contains(keyword)))
            }
            Self::LargerThan(size) => Some(message.wire_size > *size),
            Self::SmallerThan(size) => Some(message.wire_size < *size),
            Self::ReceivedFrom(from) => Some(message.internal_date >= *from),
            Self::ReceivedBefore(before) => Some(message.internal_date < *before),
            Self::SavedFrom(from) => Some(message.save_date >= *from),
            Self::SavedBefore(before) => Some(message.save_date < *before),
            Self::ModSeqFrom(from) => Some(message.modseq >= *from),
            Self::Message(id) => Some(message.message == *id),
            Self::SentFrom(_) | Self::SentBefore(_) | Self::Header { .. } | Self::Body(_) | Self::Text(_) => {
                None
            }
        }
    }
}

/// `decisive` is the answer of one part that settles the whole: `false` for And, `true` for Or.
fn fold(parts: &[Query], message: &MessageView, decisive: bool) -> Option<bool> {
    let mut open = false;
    for part in parts {
        match part.decide(message) {
            Some(answer) if answer == decisive => return Some(decisive),
            Some(_) => {}
            None => open = true,
        }
    }
    (!open).then_some(!decisive)
}
