//! FETCH and UID FETCH (RFC 3501 §6.4.5, RFC 7162 §3.1.4, §3.2.6): messages in batches, octets in chunks.
//!
//! For each batch: set `\Seen` where a body is asked for, ask for descriptions where the items need them, then write
//! line by line (`fetch_line.rs`) while the client takes them.
//!
//! Invariants
//! - No more than a batch of messages and a chunk of octets is held, however many messages are asked for.
//! - A line is begun when its first octets are here. What cannot be read before is left out, and the answer is NO; what
//!   ends short after its size was announced ends the connection, for the client would take what follows for it.
//! - Flags are the latest; which messages there are, and their numbers, is what the client has been told.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use account::door::{EditFlags, FlagEdit};
use account::{MailboxView, MessageView, Request};
use codec::imap::command::FetchCommand;
use codec::imap::{Code, FetchItem, Tag};
use model::{Flag, ModSeq, SystemFlag, Uid};

use super::fetch_line::{Line, Need, Shape, needs_description};
use super::selected::ranks;
use super::sync::Moment;
use super::{Begun, Closing, Ending, Imap, What, bad, no, ok};
use crate::{Answer, Description, Question, Read, ReadFailed};

/// Messages that are looked at together.
const BATCH: usize = 64;
/// Octets of one read.
const CHUNK: u32 = 64 * 1024;

pub(super) struct Fetch {
    uid: bool,
    shape: Shape,
    changed_since: Option<ModSeq>,
    sets_seen: bool,
    describes: bool,
    held: Arc<MailboxView>,
    /// Ranks that are still to do.
    todo: VecDeque<Range<u32>>,
    /// Messages that are ready to be written.
    batch: VecDeque<Message>,
    asked: Asked,
    line: Option<Box<Line>>,
    some_gone: bool,
    some_unreadable: bool,
}

/// What the open question is about.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Nothing,
    Seen,
    Descriptions,
    Octets,
}

/// A message on its way to the client.
pub(super) struct Message {
    pub(super) rank: u32,
    pub(super) view: MessageView,
    pub(super) description: Option<Arc<Description>>,
    /// Its flags changed because it was fetched, so they are told unasked.
    pub(super) seen_now: bool,
}

impl Fetch {
    pub(super) fn is_amid_line(&self) -> bool {
        self.line.as_ref().is_some_and(|line| line.is_begun())
    }

    fn moment(&self) -> Moment {
        Moment::of_message_command(self.uid)
    }

    /// Takes the next messages, as they are in the latest view or, when they are expunged there, as they were.
    fn fill(&mut self, latest: &Arc<MailboxView>) {
        let held = Arc::clone(&self.held);
        let is_latest = Arc::ptr_eq(latest, &held);
        while self.batch.len() < BATCH {
            let Some(range) = self.todo.front_mut() else { return };
            for known in held.iter_from(range.start).take((range.end - range.start) as usize) {
                let rank = range.start;
                range.start += 1;
                let current = if is_latest { Some(known) } else { latest.by_uid(known.uid) };
                let is_old = |since| current.is_none_or(|message| message.modseq <= since);
                if self.changed_since.is_some_and(is_old) {
                    continue;
                }
                let view = current.unwrap_or(known).clone();
                self.batch.push_back(Message { rank, view, description: None, seen_now: false });
                if self.batch.len() == BATCH {
                    break;
                }
            }
            if range.start >= range.end {
                self.todo.pop_front();
            }
        }
    }

    fn unseen(&self, latest: &MailboxView) -> Vec<Uid> {
        let unseen = |message: &&Message| {
            !message.view.flags.contains(SystemFlag::Seen) && latest.by_uid(message.view.uid).is_some()
        };
        self.batch.iter().filter(unseen).map(|message| message.view.uid).collect()
    }

    fn ending(&self) -> Ending {
        if self.some_unreadable {
            no(Code::ServerBug, "Some of the messages could not be read")
        } else if self.some_gone {
            no(Code::ExpungeIssued, "Some of the messages no longer exist")
        } else {
            ok("Fetch completed")
        }
    }

    fn failed(&mut self, why: &ReadFailed) {
        match why {
            ReadFailed::Gone => self.some_gone = true,
            ReadFailed::Failed(error) => {
                tracing::warn!(%error, "a message could not be read");
                self.some_unreadable = true;
            }
        }
    }
}

impl Imap {
    pub(super) fn fetch(&mut self, fetch: FetchCommand) -> Begun {
        let FetchCommand { uid, set, items, changed_since, vanished } = fetch;
        let Some(selected) = self.selected() else { return Err(super::client_bug("Select a mailbox first")) };
        let (held, read_only) = (Arc::clone(&selected.held), selected.read_only);
        let todo = ranks(&set, uid, &held).map_err(|_| bad("No such message"))?;
        if vanished && !self.user.as_ref().is_some_and(|user| user.qresync) {
            return Err(bad("QRESYNC is not enabled"));
        }
        if changed_since.is_some() || items.contains(&FetchItem::ModSeq) {
            self.enable_condstore();
        }
        let changed_since = changed_since.map(ModSeq);
        if let Some(since) = changed_since.filter(|_| vanished) {
            let greatest = held.iter().next_back().map_or(0, |message| message.uid.get());
            let runs: Vec<_> = set.resolve(greatest).iter().map(|run| (*run.start(), *run.end())).collect();
            let gone = super::select::vanished_among(&held, since, &runs);
            self.tell_vanished(gone, true);
        }
        let condstore = self.user.as_ref().is_some_and(|user| user.condstore);
        let sets_seen = !read_only && items.iter().any(FetchItem::sets_seen);
        let describes = items.iter().any(needs_description);
        Ok(What::Fetch(Box::new(Fetch {
            uid,
            shape: Shape::new(items, uid, changed_since.is_some(), condstore),
            changed_since,
            sets_seen,
            describes,
            held,
            todo: todo.into(),
            batch: VecDeque::new(),
            asked: Asked::Nothing,
            line: None,
            some_gone: false,
            some_unreadable: false,
        })))
    }

    pub(super) fn fetch_step(&mut self, tag: Tag, name: &'static str, mut fetch: Box<Fetch>) -> bool {
        while self.waiting.is_none() {
            if !self.out.has_room(CHUNK as usize) {
                self.keep(tag, name, What::Fetch(fetch));
                return false;
            }
            if let Some(line) = fetch.line.take() {
                self.write_line(&mut fetch, line);
            } else if let Some(message) = fetch.batch.pop_front() {
                let recent =
                    self.selected().is_some_and(|selected| selected.recent.contains(message.view.uid));
                self.write_line(&mut fetch, Box::new(Line::begin(message, recent)));
            } else if fetch.todo.is_empty() {
                let (ending, moment) = (fetch.ending(), fetch.moment());
                self.finish(&tag, ending, moment);
                return true;
            } else {
                self.next_batch(&mut fetch);
            }
        }
        self.keep(tag, name, What::Fetch(fetch));
        true
    }

    fn next_batch(&mut self, fetch: &mut Fetch) {
        let latest = self.latest().unwrap_or_else(|| Arc::clone(&fetch.held));
        fetch.fill(&latest);
        let unseen = if fetch.sets_seen { fetch.unseen(&latest) } else { Vec::new() };
        if unseen.is_empty() {
            return self.describe_batch(fetch);
        }
        fetch.asked = Asked::Seen;
        self.ask(Question::Account(Request::EditFlags(EditFlags {
            mailbox: fetch.held.id,
            uids: unseen,
            edit: FlagEdit::Add,
            flags: vec![Flag::System(SystemFlag::Seen)],
            unchanged_since: None,
        })));
    }

    fn describe_batch(&mut self, fetch: &mut Fetch) {
        fetch.asked = Asked::Nothing;
        if fetch.describes && !fetch.batch.is_empty() {
            fetch.asked = Asked::Descriptions;
            let messages = fetch.batch.iter().map(|message| message.view.clone()).collect();
            self.ask(Question::Read(Read::Describe { mailbox: fetch.held.id, messages }));
        }
    }

    /// Writes as far as there are octets, and asks for more.
    fn write_line(&mut self, fetch: &mut Fetch, mut line: Box<Line>) {
        match line.advance(&fetch.shape) {
            Need::Nothing => {
                self.out.octets(line.take_text());
                self.told(fetch, &line);
            }
            Need::Octets { offset, length } => {
                if line.is_begun() {
                    self.out.octets(line.take_text());
                }
                fetch.asked = Asked::Octets;
                let message = line.message().view.clone();
                let length = u32::try_from(length).map_or(CHUNK, |length| length.min(CHUNK));
                self.ask(Question::Read(Read::Octets { mailbox: fetch.held.id, message, offset, length }));
                fetch.line = Some(line);
            }
        }
    }

    /// Remembers flags that are newer than the held view, so that `sync` does not tell them again.
    fn told(&mut self, fetch: &Fetch, line: &Line) {
        let message = line.message();
        if !fetch.shape.tells_flags(message.seen_now) {
            return;
        }
        let (uid, modseq) = (message.view.uid, message.view.modseq);
        let is_news = fetch.held.get(message.rank).is_some_and(|held| held.modseq != modseq);
        if let Some(selected) = self.selected().filter(|_| is_news) {
            selected.tell(uid, modseq);
        }
    }

    pub(super) fn fetch_answered(
        &mut self,
        tag: Tag,
        name: &'static str,
        mut fetch: Box<Fetch>,
        answer: Answer,
    ) {
        let asked = std::mem::replace(&mut fetch.asked, Asked::Nothing);
        match (asked, answer) {
            (Asked::Seen, Answer::Account(Ok(done))) => {
                self.see(done.snapshot);
                self.refresh_batch(&mut fetch);
                self.describe_batch(&mut fetch);
            }
            (Asked::Seen, Answer::Account(Err(account::Refused::Unknown))) => return self.unknown_fate(),
            // Mail can be read though it cannot be marked: on a full volume, say.
            (Asked::Seen, Answer::Account(Err(refused))) => {
                tracing::info!(%refused, "messages stay unseen");
                self.describe_batch(&mut fetch);
            }
            (Asked::Descriptions, Answer::Described(answers)) => {
                let batch = std::mem::take(&mut fetch.batch);
                if answers.len() != batch.len() {
                    return self.fail("descriptions of other messages than were asked about".to_owned());
                }
                for (mut message, answer) in batch.into_iter().zip(answers) {
                    match answer {
                        Ok(description) => {
                            message.description = Some(description);
                            fetch.batch.push_back(message);
                        }
                        Err(why) => fetch.failed(&why),
                    }
                }
            }
            (Asked::Octets, Answer::Octets(result)) => return self.octets_came(tag, name, fetch, result),
            _ => return self.fail("an answer of the wrong kind to FETCH".to_owned()),
        }
        self.keep(tag, name, What::Fetch(fetch));
    }

    /// `\Seen` is set: shows the messages with it.
    fn refresh_batch(&mut self, fetch: &mut Fetch) {
        let Some(latest) = self.latest() else { return };
        for message in &mut fetch.batch {
            let Some(current) = latest.by_uid(message.view.uid) else { continue };
            message.seen_now =
                current.flags.contains(SystemFlag::Seen) && !message.view.flags.contains(SystemFlag::Seen);
            message.view = current.clone();
        }
    }

    fn octets_came(
        &mut self,
        tag: Tag,
        name: &'static str,
        mut fetch: Box<Fetch>,
        result: Result<bytes::Bytes, ReadFailed>,
    ) {
        let Some(mut line) = fetch.line.take() else {
            return self.fail("octets that no line waits for".to_owned());
        };
        let why = match result {
            Ok(octets) if !octets.is_empty() => {
                line.take_octets(&octets);
                if !line.is_picking() {
                    self.out.octets(line.take_text());
                }
                fetch.line = Some(line);
                return self.keep(tag, name, What::Fetch(fetch));
            }
            Ok(_) => ReadFailed::Failed("the message is shorter than its size says".to_owned()),
            Err(why) => why,
        };
        if line.is_begun() {
            // Its size was announced; only hanging up keeps the client from taking other octets for the message's.
            return self.end(Closing::Failed(format!("message {} ended short", line.message().view.uid)));
        }
        fetch.failed(&why);
        self.keep(tag, name, What::Fetch(fetch));
    }
}
