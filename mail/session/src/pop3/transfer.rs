//! Long answers: LIST, UIDL, RETR and TOP, made as fast as the client takes them.
//!
//! A message is sent in chunks, each read when there is room for it, and `+OK` is said when the first has been read.

use codec::pop3::{Code, DotStuffer, Top};

use super::{Pop3, State};
use crate::{Closing, Question, Read, ReadFailed, Ticket};

/// Octets read at a time.
const CHUNK: u32 = 64 * 1024;
/// The same for TOP: most headers fit.
const TOP_CHUNK: u32 = 16 * 1024;
/// What a chunk can become at most: a dot is doubled once a line, and a line of it has three octets.
const CHUNK_ROOM: usize = CHUNK as usize * 4 / 3 + 1024;
/// Lines of a listing written in one step, about, and room for the last of them.
const LISTING_STEP: usize = 16 * 1024;
const LISTING_ROOM: usize = LISTING_STEP + 512;

/// LIST or UIDL of all messages.
pub(super) struct Listing {
    next: u32,
    unique_ids: bool,
}

impl Listing {
    pub(super) fn command(&self) -> &'static str {
        if self.unique_ids { "UIDL" } else { "LIST" }
    }
}

/// RETR or TOP of one message.
pub(super) struct Sending {
    number: u32,
    offset: u64,
    /// What LIST says it has.
    size: u64,
    /// The question that is out, and how many octets it asks for.
    asked: Option<(Ticket, u32)>,
    top: Option<Top>,
    stuffer: DotStuffer,
    begun: bool,
}

impl Sending {
    pub(super) fn asked(&self) -> Option<Ticket> {
        self.asked.map(|(ticket, _)| ticket)
    }

    pub(super) fn command(&self) -> &'static str {
        if self.top.is_some() { "TOP" } else { "RETR" }
    }

    /// One octet more than should be left: a message that goes on is found out without another read.
    fn wanted(&self) -> u32 {
        let chunk = if self.top.is_some() { TOP_CHUNK } else { CHUNK };
        match self.size.checked_sub(self.offset) {
            Some(left) => u32::try_from(left.saturating_add(1)).map_or(chunk, |left| left.min(chunk)),
            None => chunk,
        }
    }
}

impl Pop3 {
    pub(super) fn list(&mut self, number: Option<u32>) {
        let Some(number) = number else {
            let (count, octets) = self.maildrop.left();
            self.ok(format!("{count} messages ({octets} octets)"));
            self.state = State::Listing(Listing { next: 1, unique_ids: false });
            return;
        };
        match self.maildrop.message(number).map(|message| message.wire_size) {
            Ok(size) => self.ok(format!("{number} {size}")),
            Err(missing) => self.err(None, missing),
        }
    }

    pub(super) fn uidl(&mut self, number: Option<u32>) {
        let Some(number) = number else {
            self.ok("Unique ids follow");
            self.state = State::Listing(Listing { next: 1, unique_ids: true });
            return;
        };
        match self.maildrop.message(number).map(|_| ()) {
            Ok(()) => {
                let line = self.scan_line(number, true);
                self.ok(line);
            }
            Err(missing) => self.err(None, missing),
        }
    }

    /// Number and size, or number and unique id. Empty if the message is deleted.
    fn scan_line(&self, number: u32, unique_ids: bool) -> String {
        let (Some(view), Ok(message)) = (self.maildrop.view(), self.maildrop.message(number)) else {
            return String::new();
        };
        if unique_ids {
            format!("{number} {}", self.uidl.uidl(view.uid_validity, message))
        } else {
            format!("{number} {}", message.wire_size)
        }
    }

    /// The next lines of a listing, if there is room for them.
    pub(super) fn list_on(&mut self) -> bool {
        if !self.has_room(LISTING_ROOM) {
            return false;
        }
        let State::Listing(mut listing) = std::mem::replace(&mut self.state, State::Commands) else {
            return false;
        };
        let start = self.out.len();
        while listing.next <= self.maildrop.len() {
            if self.out.len() - start >= LISTING_STEP {
                self.state = State::Listing(listing);
                return true;
            }
            let line = self.scan_line(listing.next, listing.unique_ids);
            if !line.is_empty() {
                self.text_line(&line);
            }
            listing.next += 1;
        }
        self.text_line(".");
        true
    }

    pub(super) fn retrieve(&mut self, number: u32, lines: Option<u64>) {
        let size = match self.maildrop.message(number) {
            Ok(message) => message.wire_size,
            Err(missing) => return self.err(None, missing),
        };
        self.state = State::Sending(Box::new(Sending {
            number,
            offset: 0,
            size,
            asked: None,
            top: lines.map(Top::new),
            stuffer: DotStuffer::new(),
            begun: false,
        }));
    }

    /// Asks for the next chunk, if there is room for it.
    pub(super) fn send_on(&mut self) -> bool {
        let State::Sending(sending) = &self.state else { return false };
        if sending.asked.is_some() || !self.has_room(CHUNK_ROOM) {
            return false;
        }
        let (number, offset, length) = (sending.number, sending.offset, sending.wanted());
        let (Some(mailbox), Ok(message)) = (self.maildrop.mailbox(), self.maildrop.message(number).cloned())
        else {
            self.close(Closing::Failed(format!("message {number} is not in its maildrop")));
            return false;
        };
        let ticket = self.ask(Question::Read(Read::Octets { mailbox, message, offset, length }));
        if let State::Sending(sending) = &mut self.state {
            sending.asked = Some((ticket, length));
        }
        false
    }

    pub(super) fn octets(&mut self, mut sending: Box<Sending>, octets: Result<bytes::Bytes, ReadFailed>) {
        let octets = match octets {
            Ok(octets) => octets,
            Err(failed) => return self.unreadable(&sending, &failed),
        };
        let asked = sending.asked.take().map_or(0, |(_, length)| u64::from(length));
        let received = octets.len() as u64;
        sending.offset += received;
        if received == 0 && sending.offset < sending.size {
            let failed = ReadFailed::Failed("it is shorter than it was".to_owned());
            return self.unreadable(&sending, &failed);
        }
        if !std::mem::replace(&mut sending.begun, true) {
            match sending.top {
                Some(_) => self.ok_marked(String::new()),
                None => self.ok_marked(format!("{} octets", sending.size)),
            }
        }
        let part = match &mut sending.top {
            Some(top) => top.cut(&octets),
            None => &octets,
        };
        sending.stuffer.push(part, &mut self.out);
        let complete = received == 0 || sending.offset == sending.size && received < asked;
        if complete || sending.top.is_some_and(|top| top.is_done()) {
            sending.stuffer.finish(&mut self.out);
        } else {
            self.state = State::Sending(sending);
        }
    }

    /// Once some of a message was sent, the rest cannot be taken for its end: the client would keep half of it and
    /// delete the whole.
    fn unreadable(&mut self, sending: &Sending, failed: &ReadFailed) {
        let number = sending.number;
        match failed {
            ReadFailed::Gone if sending.begun => {
                self.close(Closing::Failed(format!("message {number} vanished while it was sent")));
            }
            ReadFailed::Failed(why) if sending.begun => {
                self.close(Closing::Failed(format!("message {number} cannot be sent to its end: {why}")));
            }
            ReadFailed::Gone => self.err(None, "Message was removed meanwhile"),
            ReadFailed::Failed(why) => {
                tracing::warn!(user = self.user, number, why, "message cannot be read");
                self.err(Some(Code::SysTemp), "Message cannot be read now");
            }
        }
    }
}
