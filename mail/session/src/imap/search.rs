//! SEARCH and UID SEARCH (RFC 3501 §6.4.4, RFC 4731, RFC 5032, RFC 7162 §3.1.5).
//!
//! What the snapshot knows is decided here; where a message's bytes are needed, readers are asked for a batch at a time.
//! Searched is what the client knows of, with the latest flags; what was expunged meanwhile does not match.

use std::sync::Arc;

use account::MailboxView;
use account::search::Query;
use codec::imap::command::{SearchCommand, SearchReturn};
use codec::imap::response::SearchResult;
use codec::imap::{Code, SearchKey, Tag};
use model::{ModSeq, Uid};

use super::criteria::{Criteria, NoQuery};
use super::out::STEP;
use super::sync::{Moment, put};
use super::{Begun, Ending, Imap, What, bad, no, ok};
use crate::{Question, Read, ReadFailed};

/// Messages whose bytes are searched together.
const BATCH: usize = 100;
const CHARSETS: [&str; 2] = ["US-ASCII", "UTF-8"];

pub(super) struct Search {
    uid: bool,
    returns: Option<SearchReturn>,
    tells_modseq: bool,
    query: Arc<Query>,
    held: Arc<MailboxView>,
    latest: Arc<MailboxView>,
    /// Rank in `latest` of the next message to look at.
    next: u32,
    /// Messages that the open question is about.
    asked: Vec<Uid>,
    found: Vec<Uid>,
    some_unreadable: bool,
}

impl Imap {
    pub(super) fn search(&mut self, search: SearchCommand) -> Begun {
        let SearchCommand { uid, returns, charset, key } = search;
        if charset.is_some_and(|charset| !CHARSETS.iter().any(|known| known.eq_ignore_ascii_case(&charset))) {
            return Err(bad_charset());
        }
        let now_unix_s = self.unix_s();
        let tells_modseq = names_modseq(&key);
        let Some(selected) = self.selected() else { return Err(super::client_bug("Select a mailbox first")) };
        let criteria =
            Criteria { view: &selected.held, recent: selected.recent.runs().collect(), now_unix_s };
        let query = criteria.query(&key).map_err(refused)?;
        let held = Arc::clone(&selected.held);
        if tells_modseq {
            self.enable_condstore();
        }
        let latest = self.latest().unwrap_or_else(|| Arc::clone(&held));
        Ok(What::Search(Box::new(Search {
            uid,
            returns,
            tells_modseq,
            query: Arc::new(query),
            held,
            latest,
            next: 0,
            asked: Vec::new(),
            found: Vec::new(),
            some_unreadable: false,
        })))
    }

    /// Looks at messages until a batch needs its bytes, or there is none left.
    pub(super) fn search_step(&mut self, tag: Tag, name: &'static str, mut search: Box<Search>) -> bool {
        let latest = Arc::clone(&search.latest);
        let mut messages = Vec::new();
        for message in latest.iter_from(search.next) {
            search.next += 1;
            match search.query.decide(message) {
                Some(false) => {}
                _ if search.held.rank_of(message.uid).is_err() => {}
                Some(true) => search.found.push(message.uid),
                None => {
                    search.asked.push(message.uid);
                    messages.push(message.clone());
                }
            }
            if messages.len() == BATCH {
                break;
            }
        }
        if messages.is_empty() {
            self.search_done(&tag, *search);
            return true;
        }
        let (mailbox, query) = (search.held.id, Arc::clone(&search.query));
        self.ask(Question::Read(Read::Search { mailbox, messages, query }));
        self.keep(tag, name, What::Search(search));
        true
    }

    pub(super) fn search_answered(
        &mut self,
        tag: Tag,
        name: &'static str,
        mut search: Box<Search>,
        found: &[Result<bool, ReadFailed>],
    ) {
        let asked = std::mem::take(&mut search.asked);
        if asked.len() != found.len() {
            return self.fail("answers about other messages than were searched".to_owned());
        }
        for (uid, found) in asked.into_iter().zip(found) {
            match found {
                Ok(true) => search.found.push(uid),
                Ok(false) | Err(ReadFailed::Gone) => {}
                Err(ReadFailed::Failed(error)) => {
                    tracing::warn!(%error, "a message could not be searched");
                    search.some_unreadable = true;
                }
            }
        }
        self.keep(tag, name, What::Search(search));
    }

    fn search_done(&mut self, tag: &Tag, search: Search) {
        let Search { uid, returns, tells_modseq, held, latest, mut found, some_unreadable, .. } = search;
        found.sort_unstable();
        let number = |uid_found: &Uid| {
            if uid { Some(uid_found.get()) } else { held.rank_of(*uid_found).ok().map(|rank| rank + 1) }
        };
        let numbers: Vec<u32> = found.iter().filter_map(number).collect();
        let modseq = if tells_modseq { modseq_of(&latest, &found, returns) } else { None };
        match returns {
            None => self.tell_found(numbers, modseq),
            Some(returns) => {
                let count = u32::try_from(numbers.len()).unwrap_or(u32::MAX);
                let result = SearchResult {
                    min: numbers.first().copied().filter(|_| returns.min),
                    max: numbers.last().copied().filter(|_| returns.max),
                    count: returns.count.then_some(count),
                    all: returns.all.then_some(numbers),
                    modseq,
                };
                self.encoder().esearch(tag, uid, &result);
            }
        }
        let ending = if some_unreadable {
            no(Code::ServerBug, "Some of the messages could not be searched")
        } else {
            ok("Search completed")
        };
        self.finish(tag, ending, Moment::of_message_command(uid));
    }

    /// `* SEARCH 2 3 5`, bit by bit: it has no bound but the mailbox's size.
    fn tell_found(&mut self, numbers: Vec<u32>, modseq: Option<ModSeq>) {
        self.out.text().extend_from_slice(b"* SEARCH");
        let mut numbers = numbers.into_iter();
        self.out.lazy(Box::new(move |out| {
            while out.len() < STEP {
                match numbers.next() {
                    Some(number) => put(out, format_args!(" {number}")),
                    None => {
                        if let Some(modseq) = modseq {
                            put(out, format_args!(" (MODSEQ {modseq})"));
                        }
                        out.extend_from_slice(b"\r\n");
                        return false;
                    }
                }
            }
            true
        }));
    }
}

/// The mod-sequence that goes with the result: of MIN, of MAX, of the greater of both, or of all (RFC 7162 §3.1.10).
fn modseq_of(view: &MailboxView, found: &[Uid], returns: Option<SearchReturn>) -> Option<ModSeq> {
    let of = |uid: &Uid| view.by_uid(*uid).map(|message| message.modseq);
    let ends = returns.filter(|returns| !returns.all && !returns.count && (returns.min || returns.max));
    match ends {
        Some(returns) => {
            let min = found.first().filter(|_| returns.min).and_then(of);
            let max = found.last().filter(|_| returns.max).and_then(of);
            min.max(max)
        }
        None => found.iter().filter_map(of).max(),
    }
}

fn names_modseq(key: &SearchKey) -> bool {
    if let SearchKey::And(keys) | SearchKey::Or(keys) = key {
        return keys.iter().any(names_modseq);
    }
    if let SearchKey::Not(key) = key {
        return names_modseq(key);
    }
    matches!(key, SearchKey::ModSeq(_))
}

fn refused(why: NoQuery) -> Ending {
    match why {
        NoQuery::NoSuchMessage => bad("No such message"),
        NoQuery::Charset => bad_charset(),
    }
}

fn bad_charset() -> Ending {
    let charsets = CHARSETS.iter().map(|charset| (*charset).to_owned()).collect();
    no(Code::BadCharset(charsets), "Unknown charset")
}
