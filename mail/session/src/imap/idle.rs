//! IDLE (RFC 2177), and what the clock says: keepalives, silence that ends a conversation, and other ends.

use std::time::Instant;

use codec::imap::{Code, Frame, Status, Tag};

use super::sync::Moment;
use super::{Begun, Closing, Imap, KEEPALIVE, What, bad, ok};

/// An IDLE that waits for DONE.
pub(super) struct Idle {
    pub(super) keepalive_at: Instant,
}

impl Imap {
    pub(super) fn idle(&mut self) -> Begun {
        self.encoder().continuation("idling");
        self.framer.expect_line();
        // What was held back until now.
        self.sync(Moment::Any);
        Ok(What::Idle(Idle { keepalive_at: self.now + KEEPALIVE }))
    }

    pub(super) fn is_idling(&self) -> bool {
        self.running.as_ref().is_some_and(|running| matches!(running.what, What::Idle(_)))
    }

    /// IDLE is a command in progress in which everything may be told. A client that does not read hears later.
    pub(super) fn push_to_idle(&mut self) {
        if self.out.has_room(super::COMMAND_ROOM) {
            self.sync(Moment::Any);
        }
    }

    pub(super) fn idle_line(&mut self, tag: Tag, name: &'static str, idle: Idle) -> bool {
        if self.is_held_back() && !self.stopping {
            self.keep(tag, name, What::Idle(idle));
            return false;
        }
        let frame = self.framer.next_frame();
        match frame {
            None if self.stopping => self.say_stopping(),
            None if self.hung_up => self.end(Closing::ClientHungUp),
            None => {
                self.keep(tag, name, What::Idle(idle));
                self.push_to_idle();
                return false;
            }
            Some(Frame::Line(Ok(line))) if line.trim_ascii().eq_ignore_ascii_case(b"DONE") => {
                self.finish(&tag, ok("Idle completed"), Moment::Any);
            }
            Some(_) => self.finish(&tag, bad("Expected DONE"), Moment::Any),
        }
        true
    }

    pub(super) fn say_stopping(&mut self) {
        self.bye(Some(&Code::Unavailable), "Server is going down, please connect again", Closing::Stopping);
    }

    /// When something is to be done though nobody says anything.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        if self.ended {
            return self.out.is_blocked().then(|| self.heard + self.options.timeouts.before_login);
        }
        // Silence is ours, while a question is open.
        if self.waiting.is_some() {
            return None;
        }
        let silent = self.silent_until();
        match self.running.as_ref().map(|running| &running.what) {
            Some(What::Idle(idle)) => Some(silent.min(idle.keepalive_at)),
            _ => Some(silent),
        }
    }

    fn silent_until(&self) -> Instant {
        let timeouts = self.options.timeouts;
        self.heard + if self.user.is_some() { timeouts.idle } else { timeouts.before_login }
    }

    pub(super) fn expired(&mut self) {
        if self.waiting.is_some() {
            return;
        }
        if self.now >= self.silent_until() {
            let why = if self.user.is_some() { "idle for too long" } else { "no login" };
            if self.is_amid_line() || self.out.is_blocked() {
                // A client that does not read will not read this either.
                self.out.discard();
                return self.end(Closing::TimedOut("output was not taken"));
            }
            return self.bye(None, "Disconnected for inactivity", Closing::TimedOut(why));
        }
        let now = self.now;
        let due = match self.running.as_mut().map(|running| &mut running.what) {
            Some(What::Idle(idle)) if now >= idle.keepalive_at => {
                idle.keepalive_at = now + KEEPALIVE;
                true
            }
            _ => false,
        };
        if due && self.out.has_room(super::COMMAND_ROOM) {
            self.untagged(Status::Ok, None, "Still here");
        }
    }

    /// Somebody ended this session: at once, with a goodbye where the grammar has room for one.
    pub(super) fn kicked(&mut self, reason: &'static str) {
        if self.is_amid_line() {
            self.out.discard();
            return self.end(Closing::Kicked(reason));
        }
        self.bye(Some(&Code::Unavailable), reason, Closing::Kicked(reason));
    }

    /// The site has no majority: what is said from now on is marked, before any of it. Where a response has begun there is
    /// no place for the mark, and the client is disconnected.
    pub(super) fn freeze(&mut self) {
        if self.user.is_none() {
            return;
        }
        if !self.out.may_begin() {
            self.out.discard();
            return self.end(Closing::Kicked("read-only, in the middle of a response"));
        }
        let mut mark = bytes::BytesMut::new();
        codec::imap::Encoder::new(&mut mark, super::NAMES).untagged(
            Status::Ok,
            Some(&Code::Alert),
            super::FROZEN,
        );
        self.out.begin_with(mark);
    }

    /// Whether an unfinished FETCH response has begun.
    pub(super) fn is_amid_line(&self) -> bool {
        match self.running.as_ref().map(|running| &running.what) {
            Some(What::Fetch(fetch)) => fetch.is_amid_line(),
            _ => false,
        }
    }
}
