//! QUERY as it is typed: IMAP's search keys, with `MAILBOX NAME`, as words of a shell or in one quoted word.
//!
//! Words stand for themselves: `subject "two words"` needs no second pair of quotes. Only a word in the place of a key
//! that has spaces or parentheses in it is cut up as IMAP would.
//!
//! Invariant: functions here call each other at most [`DEPTH_MAX`] deep.

use std::collections::VecDeque;

use account::MailboxView;
use account::search::Query;
use codec::imap::{Body, Frame, Framer, Limits, SearchKey};
use model::{MailboxName, Uid};
use session::imap::criteria::Criteria;

use super::exit::Failure;
use super::{when, wildcard};

/// Parentheses, NOT and OR below each other.
const DEPTH_MAX: usize = 100;
const DAY_S: i64 = 86_400;

/// What QUERY says, before it is about a certain mailbox.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Typed {
    And(Vec<Typed>),
    Or(Box<Typed>, Box<Typed>),
    Not(Box<Typed>),
    /// Messages of mailboxes whose name is like this.
    Mailbox(String),
    MailboxGuid(String),
    Key(Box<SearchKey>),
    Query(Query),
}

impl Typed {
    /// Reads words. At least one key must be there: whoever means all messages writes ALL.
    pub(crate) fn parse(words: &[String], now_unix_s: i64) -> Result<Self, Failure> {
        if words.is_empty() {
            return Err(Failure::usage("a QUERY is missing: write search keys, or ALL"));
        }
        let mut parser = Parser { words: words.iter().cloned().map(Word::Typed).collect(), now_unix_s };
        let mut keys = Vec::new();
        while parser.split_next()? {
            keys.push(parser.key(0)?);
        }
        Ok(all_of(keys))
    }

    /// The same about one mailbox; `Query::None` where nothing in it can be meant.
    pub(crate) fn query(
        &self,
        name: &MailboxName,
        view: &MailboxView,
        now_unix_s: i64,
    ) -> Result<Query, Failure> {
        let recent = Uid::new(view.recent.load(std::sync::atomic::Ordering::Acquire).saturating_add(1));
        let last = Uid::new(u32::MAX);
        let criteria = Criteria { view, recent: recent.zip(last).into_iter().collect(), now_unix_s };
        self.compile(name, &criteria)
    }

    fn compile(&self, name: &MailboxName, criteria: &Criteria<'_>) -> Result<Query, Failure> {
        let whether = |holds: bool| Ok(if holds { Query::All } else { Query::None });
        match self {
            Self::And(all) => {
                Ok(Query::And(all.iter().map(|one| one.compile(name, criteria)).collect::<Result<_, _>>()?))
            }
            Self::Or(a, b) => Ok(Query::Or(vec![a.compile(name, criteria)?, b.compile(name, criteria)?])),
            Self::Not(one) => Ok(Query::Not(Box::new(one.compile(name, criteria)?))),
            Self::Mailbox(pattern) => whether(is_mailbox(pattern, name)),
            Self::MailboxGuid(guid) => whether(criteria.view.id.to_string().eq_ignore_ascii_case(guid)),
            Self::Key(key) => criteria.query(key).map_err(|error| Failure::usage(error.to_string())),
            Self::Query(query) => Ok(query.clone()),
        }
    }
}

/// `INBOX` in any case is INBOX; `*` and `%` as in LIST.
pub(crate) fn is_mailbox(pattern: &str, name: &MailboxName) -> bool {
    if pattern.contains(['*', '%', '?']) {
        return wildcard::matches(pattern, name.as_str());
    }
    MailboxName::new(pattern).is_ok_and(|wanted| wanted == *name)
}

enum Word {
    /// One word of the shell.
    Typed(String),
    /// A piece of one that was cut up, and has no more to cut.
    Piece(String),
    Open,
    Close,
}

struct Parser {
    words: VecDeque<Word>,
    now_unix_s: i64,
}

impl Parser {
    /// Cuts the next word up, if it is more than a key. False at the end.
    fn split_next(&mut self) -> Result<bool, Failure> {
        while let Some(Word::Typed(word)) = self.words.front() {
            let pieces = pieces(word)?;
            self.words.pop_front();
            for piece in pieces.into_iter().rev() {
                self.words.push_front(piece);
            }
        }
        Ok(!self.words.is_empty())
    }

    fn key(&mut self, depth: usize) -> Result<Typed, Failure> {
        if depth >= DEPTH_MAX {
            return Err(Failure::usage("the QUERY is nested too deeply"));
        }
        if !self.split_next()? {
            return Err(Failure::usage("the QUERY ends where a search key is expected"));
        }
        let name = match self.words.pop_front() {
            Some(Word::Open) => return self.list(depth),
            Some(Word::Close) => return Err(Failure::usage("the QUERY has a ) too many")),
            Some(Word::Piece(name) | Word::Typed(name)) => name,
            None => return Err(Failure::usage("the QUERY ends where a search key is expected")),
        };
        let upper = name.to_ascii_uppercase();
        match upper.as_str() {
            "NOT" => Ok(Typed::Not(Box::new(self.key(depth + 1)?))),
            "OR" => Ok(Typed::Or(Box::new(self.key(depth + 1)?), Box::new(self.key(depth + 1)?))),
            "MAILBOX" => Ok(Typed::Mailbox(self.argument(&name)?)),
            "MAILBOX-GUID" => Ok(Typed::MailboxGuid(self.argument(&name)?)),
            "BEFORE" => Ok(Typed::Query(Query::ReceivedBefore(self.moment(&name)?))),
            "SINCE" => Ok(Typed::Query(Query::ReceivedFrom(self.moment(&name)?))),
            "SAVEDBEFORE" => Ok(Typed::Query(Query::SavedBefore(self.moment(&name)?))),
            "SAVEDSINCE" => Ok(Typed::Query(Query::SavedFrom(self.moment(&name)?))),
            "ON" => {
                let from = self.moment(&name)?;
                Ok(during(Query::ReceivedFrom(from), Query::ReceivedBefore(from.saturating_add(DAY_S))))
            }
            "SAVEDON" => {
                let from = self.moment(&name)?;
                Ok(during(Query::SavedFrom(from), Query::SavedBefore(from.saturating_add(DAY_S))))
            }
            _ => self.imap_key(&name, &upper),
        }
    }

    fn list(&mut self, depth: usize) -> Result<Typed, Failure> {
        let mut keys = Vec::new();
        loop {
            if !self.split_next()? {
                return Err(Failure::usage("the QUERY lacks a )"));
            }
            if matches!(self.words.front(), Some(Word::Close)) {
                self.words.pop_front();
                break;
            }
            keys.push(self.key(depth + 1)?);
        }
        if keys.is_empty() {
            Err(Failure::usage("the QUERY has nothing between ( and )"))
        } else {
            Ok(all_of(keys))
        }
    }

    /// A key that IMAP has, in IMAP's words: texts as literals, so that whatever was typed is what is looked for.
    fn imap_key(&mut self, name: &str, upper: &str) -> Result<Typed, Failure> {
        let mut line = name.as_bytes().to_vec();
        let texts = match upper {
            "BCC" | "BODY" | "CC" | "FROM" | "SUBJECT" | "TEXT" | "TO" => 1,
            "HEADER" => 2,
            _ => 0,
        };
        for _ in 0..texts {
            let text = self.argument(name)?;
            line.extend_from_slice(format!(" {{{}+}}\r\n", text.len()).as_bytes());
            line.extend_from_slice(text.as_bytes());
        }
        match upper {
            "EMAILID" | "KEYWORD" | "LARGER" | "MODSEQ" | "OLDER" | "SMALLER" | "THREADID" | "UID"
            | "UNKEYWORD" | "YOUNGER" => {
                line.extend_from_slice(format!(" {}", self.argument(name)?).as_bytes())
            }
            "SENTBEFORE" | "SENTON" | "SENTSINCE" => {
                let typed = self.argument(name)?;
                let day = when::day(&typed).ok_or_else(|| not_a_day(name, &typed))?;
                line.extend_from_slice(format!(" {day}").as_bytes());
            }
            _ => {}
        }
        imap(&line)
            .map(|key| Typed::Key(Box::new(key)))
            .map_err(|error| Failure::usage(format!("QUERY: {error}")))
    }

    /// The next word, as it is.
    fn argument(&mut self, key: &str) -> Result<String, Failure> {
        match self.words.pop_front() {
            Some(Word::Typed(text) | Word::Piece(text)) => Ok(text),
            Some(Word::Open | Word::Close) | None => {
                Err(Failure::usage(format!("{} needs something to look for", key.to_ascii_uppercase())))
            }
        }
    }

    fn moment(&mut self, key: &str) -> Result<i64, Failure> {
        let typed = self.argument(key)?;
        when::parse(&typed, self.now_unix_s).ok_or_else(|| not_a_day(key, &typed))
    }
}

fn not_a_day(key: &str, typed: &str) -> Failure {
    let key = key.to_ascii_uppercase();
    Failure::usage(format!(
        "{key}: {typed:?} is no day; write 2026-02-01 or 1-Feb-2026 (or, but for SENT..., 30d)"
    ))
}

fn during(from: Query, before: Query) -> Typed {
    Typed::And(vec![Typed::Query(from), Typed::Query(before)])
}

fn all_of(mut keys: Vec<Typed>) -> Typed {
    if keys.len() == 1
        && let Some(only) = keys.pop()
    {
        return only;
    }
    Typed::And(keys)
}

/// Cuts a word at spaces and parentheses; what stands in double quotes is one piece.
fn pieces(word: &str) -> Result<Vec<Word>, Failure> {
    let mut pieces = Vec::new();
    let mut characters = word.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '(' => pieces.push(Word::Open),
            ')' => pieces.push(Word::Close),
            '"' => {
                let mut text = String::new();
                loop {
                    match characters.next() {
                        Some('"') => break,
                        Some('\\') => text.extend(characters.next()),
                        Some(character) => text.push(character),
                        None => {
                            return Err(Failure::usage(format!("QUERY: a quote does not end in {word:?}")));
                        }
                    }
                }
                pieces.push(Word::Piece(text));
            }
            character if character.is_whitespace() => {}
            character => {
                let mut text = String::from(character);
                let more = |next: &char| !next.is_whitespace() && !matches!(next, '(' | ')' | '"');
                while let Some(next) = characters.next_if(more) {
                    text.push(next);
                }
                pieces.push(Word::Piece(text));
            }
        }
    }
    Ok(pieces)
}

/// One key, read as the server would read it from a client.
fn imap(key: &[u8]) -> Result<SearchKey, String> {
    let mut framer = Framer::new(Limits::AFTER_LOGIN);
    framer.push(b"q SEARCH ");
    framer.push(key);
    framer.push(b"\r\n");
    match framer.next_frame() {
        Some(Frame::Command(Ok(command))) => {
            let Body::Search(search) = command.body else { return Err("not a search key".to_owned()) };
            Ok(search.key)
        }
        Some(Frame::Command(Err(bad)) | Frame::Fatal(bad)) => Err(bad.message),
        Some(
            Frame::NeedContinuation
            | Frame::AppendStart(_)
            | Frame::LiteralChunk(_)
            | Frame::LiteralEnd(_)
            | Frame::Line(_),
        )
        | None => Err(format!("{} is not a search key", String::from_utf8_lossy(key))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<Typed, Failure> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        Typed::parse(&words, 1_000_000)
    }

    fn key(key: SearchKey) -> Typed {
        Typed::Key(Box::new(key))
    }

    #[test]
    fn words_of_the_shell_stand_for_themselves() {
        let expected = Typed::And(vec![
            Typed::Mailbox("Sent Items".into()),
            key(SearchKey::Subject(b"two \"words\" (x)".to_vec())),
        ]);
        assert_eq!(parse(&["mailbox", "Sent Items", "subject", "two \"words\" (x)"]).unwrap(), expected);
    }

    #[test]
    fn a_quoted_query_is_cut_up_as_imap_does() {
        let expected = Typed::And(vec![
            Typed::Or(Box::new(key(SearchKey::Seen)), Box::new(Typed::Mailbox("a b".into()))),
            Typed::Not(Box::new(key(SearchKey::From(b"ada".to_vec())))),
        ]);
        assert_eq!(parse(&["OR (SEEN) MAILBOX \"a b\" NOT FROM ada"]).unwrap(), expected);
        assert_eq!(
            parse(&["or", "(", "seen", ")", "mailbox", "a b", "not", "from", "ada"]).unwrap(),
            expected
        );
    }

    #[test]
    fn days_can_be_counted_back() {
        assert_eq!(parse(&["savedbefore", "1d"]).unwrap(), Typed::Query(Query::SavedBefore(913_600)));
        assert!(parse(&["sentsince", "2026-02-01"]).is_ok());
    }

    #[test]
    fn what_is_no_query_is_a_usage_error() {
        let deep = "(".repeat(10_000);
        let not = "not ".repeat(10_000);
        for bad in [
            &[][..],
            &["nonsense"],
            &["from"],
            &["(", "seen"],
            &["seen", ")"],
            &["()"],
            &["from \"x"],
            &["before", "yesterday"],
            &["uid", "x"],
            &["header", "subject"],
            &[deep.as_str()],
            &[not.as_str()],
            &["text", "a\0b"],
        ] {
            assert_eq!(parse(bad).unwrap_err().exit, super::super::exit::Exit::Usage, "{bad:?}");
        }
    }
}
