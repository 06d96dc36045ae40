//! Search keys (RFC 3501 §6.4.4, RFC 5032, RFC 7162 §3.1.5, RFC 8474 §4.3).

use model::Keyword;

use super::date::Date;
use super::set::SequenceSet;

/// Parentheses, NOT and OR below each other. A right-leaning chain of ORs counts once.
pub const SEARCH_DEPTH_MAX: usize = 100;

/// What messages a search chooses. Strings are as the client sent them, in the search's charset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SearchKey {
    /// All of them: a parenthesised list, or the command's whole list. Two at least.
    And(Vec<SearchKey>),
    /// Any of them: `OR a OR b c` is one `Or` of three. Two at least.
    Or(Vec<SearchKey>),
    Not(Box<SearchKey>),
    All,
    Answered,
    Bcc(Vec<u8>),
    Before(Date),
    Body(Vec<u8>),
    Cc(Vec<u8>),
    Deleted,
    Draft,
    EmailId(String),
    Flagged,
    From(Vec<u8>),
    /// An empty value asks for the presence of the field.
    Header {
        name: Vec<u8>,
        value: Vec<u8>,
    },
    Keyword(Keyword),
    Larger(u64),
    /// Greater or equal. The entry name that RFC 7162 allows is read and has no meaning here: flags have one modseq.
    ModSeq(u64),
    New,
    Old,
    /// Older than so many seconds, by internal date.
    Older(u32),
    On(Date),
    Recent,
    Seen,
    SentBefore(Date),
    SentOn(Date),
    SentSince(Date),
    Sequence(SequenceSet),
    Since(Date),
    Smaller(u64),
    Subject(Vec<u8>),
    Text(Vec<u8>),
    ThreadId(String),
    To(Vec<u8>),
    Uid(SequenceSet),
    Unanswered,
    Undeleted,
    Undraft,
    Unflagged,
    Unkeyword(Keyword),
    Unseen,
    /// Younger than so many seconds, by internal date.
    Younger(u32),
}
