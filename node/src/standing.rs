//! A conversation whose node has lost its lease: it waits, goes on read-only, ends, or goes on as it was
//! (`locking.md` §8, [`locking::standing`]).
//!
//! Invariants
//! - Nothing is sent after the lease but behind the mark that it may be out of date.
//! - What a session learnt before another lease is never shown under that: it goes on at whoever owns the account then, as
//!   after a hand-over (L-CN3), and is told the differences; or it ends.

use std::time::Duration;

use bytes::Bytes;
use locking::Standing;
use session::{Input, Output};
use tokio::sync::watch;

use crate::asking::Showing;
use crate::driver::Conversation;
use crate::handover::Leaving;
use crate::router::{self, Router};
use crate::time;

/// Between two looks, should no change be told.
const LOOK: Duration = Duration::from_millis(100);

/// What a conversation has followed of its node's standing.
pub struct Following {
    pub(crate) changes: Option<watch::Receiver<Standing>>,
    /// The client was told that what it sees may be out of date.
    told: bool,
}

impl Following {
    pub fn new(router: &Router) -> Self {
        Self { changes: router.standings(), told: false }
    }

    /// The session is another one from here on.
    pub(crate) fn go_on(&mut self) {
        self.told = false;
        self.has_changed();
    }

    fn has_changed(&mut self) -> bool {
        let Some(changes) = &mut self.changes else { return false };
        let changed = changes.has_changed().unwrap_or(false);
        changes.mark_unchanged();
        changed
    }
}

impl Conversation {
    /// Waits until it is known whether anything may be shown, and does what follows from that for the session. Before
    /// anything else is done for it.
    pub(crate) async fn follow_standing(&mut self) {
        while !self.moved && self.asking.showing() == Showing::Later {
            self.wait().await;
        }
        let changed = self.standing.has_changed();
        if self.moved || self.asking.joined.is_none() {
            return;
        }
        // It begins to change when a lease ends.
        self.asking.cut |= changed;
        match self.resuming.services.router.standing() {
            Standing::Asking | Standing::Returning => self.asking.cut = true,
            Standing::Frozen => self.freeze(),
            Standing::Held if self.asking.cut && self.leaving.is_none() => self.prepare(Leaving::left()),
            Standing::Over if self.asking.cut => self.say_moved(),
            Standing::Held | Standing::Over => {}
        }
    }

    fn freeze(&mut self) {
        self.asking.cut = true;
        if !std::mem::replace(&mut self.standing.told, true) {
            self.session.handle(time::now(), Input::Frozen);
        }
    }

    /// L-LE1, with something to say in hand: whether it may be sent.
    pub(crate) async fn may_show(&mut self) -> bool {
        while !self.moved {
            match self.asking.showing() {
                Showing::Yes => return true,
                Showing::Marked if self.standing.told => return true,
                Showing::Later if self.standing.told => self.wait().await,
                // It was asked for behind the mark, and nothing more is.
                Showing::No if self.standing.told => self.say_moved(),
                Showing::Marked | Showing::Later | Showing::No => return false,
            }
        }
        true
    }

    async fn wait(&mut self) {
        self.asking.cut = true;
        // Looked at again in any case.
        let _ = tokio::time::timeout(LOOK, router::changed(self.standing.changes.as_mut())).await;
    }

    /// At a command boundary of a session that goes on: takes the mark away.
    pub(crate) async fn say_thawed(&mut self) -> std::io::Result<()> {
        if !std::mem::take(&mut self.standing.told) {
            return Ok(());
        }
        self.session.handle(time::now(), Input::Thawed);
        let mut pending: Vec<Bytes> = Vec::new();
        while let Some(Output::Send(bytes)) = self.session.poll() {
            pending.push(bytes);
        }
        self.write(&mut pending).await?;
        self.session.handle(time::now(), Input::Drained);
        Ok(())
    }
}
