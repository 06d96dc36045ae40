//! What a session has to say and to ask, in order, and never too much of it at once.
//!
//! Invariants
//! - Of the output handed to the driver at most [`OUTPUT_HIGH`] octets are under way before `Drained`.
//! - A long answer is not built: it waits as a [`Lazy`] that writes a few kilobytes whenever there is room.
//! - A response may begin with what is handed out next if nothing was handed out since all was said, and no response was
//!   under way then.
//! - Questions do not wait for output; output, the change to TLS and the end of the connection keep their order.

use std::collections::VecDeque;

use bytes::{Bytes, BytesMut};

use crate::{Closing, OUTPUT_HIGH, Output, Question, Ticket};

/// Octets that a [`Lazy`] writes in one step, about.
pub(super) const STEP: usize = 16 * 1024;

/// Octets that are cheaper to copy than to send on their own.
const COPIED_MAX: usize = 4 * 1024;

/// Writes the next part of a long answer, some [`STEP`] octets, and says whether there is more.
pub(super) type Lazy = Box<dyn FnMut(&mut BytesMut) -> bool + Send>;

enum Piece {
    Text(BytesMut),
    Octets(Bytes),
    Lazy(Lazy),
    StartTls,
    Close(Closing),
}

#[derive(Default)]
pub(super) struct Out {
    pieces: VecDeque<Piece>,
    asks: VecDeque<(Ticket, Question)>,
    /// Octets handed out since the driver last said that all have left.
    under_way: usize,
    last_ticket: u64,
    /// What was handed out last did not end a response.
    amid: bool,
}

impl Out {
    /// Where to write text that follows all that was written before.
    pub(super) fn text(&mut self) -> &mut BytesMut {
        if !matches!(self.pieces.back(), Some(Piece::Text(_))) {
            self.pieces.push_back(Piece::Text(BytesMut::new()));
        }
        match self.pieces.back_mut() {
            Some(Piece::Text(text)) => text,
            Some(Piece::Octets(_) | Piece::Lazy(_) | Piece::StartTls | Piece::Close(_)) | None => {
                unreachable!("a text was put there just now")
            }
        }
    }

    /// Octets that follow all that was written before. Small ones are joined, so that the driver has less to send.
    pub(super) fn octets(&mut self, octets: Bytes) {
        if octets.len() < COPIED_MAX {
            self.text().extend_from_slice(&octets);
        } else {
            self.pieces.push_back(Piece::Octets(octets));
        }
    }

    pub(super) fn lazy(&mut self, lazy: Lazy) {
        self.pieces.push_back(Piece::Lazy(lazy));
    }

    /// One line for each item, as late as possible.
    pub(super) fn lines<T: Send + 'static>(
        &mut self,
        items: Vec<T>,
        mut write: impl FnMut(&mut BytesMut, T) + Send + 'static,
    ) {
        let mut items = items.into_iter();
        self.lazy(Box::new(move |out| {
            while out.len() < STEP {
                match items.next() {
                    Some(item) => write(out, item),
                    None => return false,
                }
            }
            true
        }));
    }

    pub(super) fn start_tls(&mut self) {
        self.pieces.push_back(Piece::StartTls);
    }

    pub(super) fn close(&mut self, why: Closing) {
        self.pieces.push_back(Piece::Close(why));
    }

    /// Forgets all that has not been handed out, but for the end: nothing else can follow.
    pub(super) fn discard(&mut self) {
        self.pieces.retain(|piece| matches!(piece, Piece::Close(_)));
        self.under_way = 0;
    }

    /// Asks under a ticket of its own.
    pub(super) fn ask(&mut self, question: Question) -> Ticket {
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.asks.push_back((ticket, question));
        ticket
    }

    /// Goes on with what an earlier ticket began.
    pub(super) fn ask_on(&mut self, ticket: Ticket, question: Question) {
        self.asks.push_back((ticket, question));
    }

    /// Nothing more is handed out now. If that is all there is, whether a response may begin there.
    pub(super) fn all_said(&mut self, may_begin: bool) {
        if self.pieces.is_empty() {
            self.amid = !may_begin;
        }
    }

    /// Whether a response may begin with what is handed out next.
    pub(super) fn may_begin(&self) -> bool {
        !self.amid
    }

    /// Says this before all that waits.
    pub(super) fn begin_with(&mut self, text: BytesMut) {
        self.pieces.push_front(Piece::Text(text));
    }

    pub(super) fn drained(&mut self) {
        self.under_way = 0;
    }

    /// Whether all was handed out that there is to say and to ask.
    pub(super) fn is_said(&self) -> bool {
        let empty = |piece: &Piece| matches!(piece, Piece::Text(text) if text.is_empty());
        self.asks.is_empty() && self.pieces.iter().all(empty)
    }

    pub(super) fn is_blocked(&self) -> bool {
        self.under_way > 0 || !self.pieces.is_empty()
    }

    /// Whether so many octets more can be produced now.
    pub(super) fn has_room(&self, octets: usize) -> bool {
        let mut held = self.under_way;
        for piece in &self.pieces {
            held += match piece {
                Piece::Text(text) => text.len(),
                Piece::Octets(octets) => octets.len(),
                Piece::Lazy(_) => return false,
                Piece::StartTls | Piece::Close(_) => 0,
            };
        }
        held + octets <= OUTPUT_HIGH
    }

    pub(super) fn poll(&mut self) -> Option<Output> {
        if let Some((ticket, question)) = self.asks.pop_front() {
            return Some(Output::Ask(ticket, question));
        }
        loop {
            let room = OUTPUT_HIGH.saturating_sub(self.under_way);
            match self.pieces.pop_front()? {
                Piece::Text(text) if text.is_empty() => {}
                Piece::Text(text) => return self.send(text.freeze(), room),
                Piece::Octets(octets) => return self.send(octets, room),
                Piece::Lazy(mut lazy) => {
                    if room < STEP {
                        self.pieces.push_front(Piece::Lazy(lazy));
                        return None;
                    }
                    let mut text = BytesMut::new();
                    if lazy(&mut text) {
                        self.pieces.push_front(Piece::Lazy(lazy));
                    }
                    self.pieces.push_front(Piece::Text(text));
                }
                Piece::StartTls => return Some(Output::StartTls),
                Piece::Close(why) => return Some(Output::Close(why)),
            }
        }
    }

    fn send(&mut self, mut octets: Bytes, room: usize) -> Option<Output> {
        if room == 0 {
            self.pieces.push_front(Piece::Octets(octets));
            return None;
        }
        let now = octets.split_to(octets.len().min(room));
        if !octets.is_empty() {
            self.pieces.push_front(Piece::Octets(octets));
        }
        self.under_way += now.len();
        self.amid = true;
        Some(Output::Send(now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drain(out: &mut Out) -> usize {
        let mut sent = 0;
        while let Some(Output::Send(octets)) = out.poll() {
            sent += octets.len();
        }
        sent
    }

    #[test]
    fn a_long_answer_waits_for_a_slow_reader() {
        let mut out = Out::default();
        out.lines((0..100_000).collect(), |line, number: u32| {
            line.extend_from_slice(format!("{number:09}\n").as_bytes())
        });
        out.text().extend_from_slice(b"done\n");
        let mut total = 0;
        loop {
            let sent = drain(&mut out);
            assert!(sent <= OUTPUT_HIGH);
            if sent == 0 {
                break;
            }
            total += sent;
            out.drained();
        }
        assert_eq!(total, 1_000_005);
    }

    #[test]
    fn one_huge_text_leaves_in_bearable_pieces() {
        let mut out = Out::default();
        out.text().extend_from_slice(&vec![b'x'; OUTPUT_HIGH * 2 + 1]);
        assert_eq!(drain(&mut out), OUTPUT_HIGH);
        out.drained();
        assert_eq!(drain(&mut out), OUTPUT_HIGH);
        out.drained();
        assert_eq!(drain(&mut out), 1);
    }
}
