//! Follows what this node may show: looks at its lease, and asks the others once that is over.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::sync::watch;

use super::{Inner, Locking, lock};
use crate::clock::boottime;
use crate::standing::{ROUND_EVERY, ROUND_MAX, Standing};

/// Between two looks at the lease.
const LOOK: Duration = Duration::from_millis(50);

impl Locking {
    /// What this node may show now.
    pub fn standing(&self) -> Standing {
        self.0.look()
    }

    /// Tells when that has changed; what it is now is for [`Self::standing`] to say.
    pub fn standings(&self) -> watch::Receiver<Standing> {
        self.0.standings.subscribe()
    }
}

impl Inner {
    /// How this node stands, by the clock. A node alone has nobody to ask: its lease is all there is.
    pub(super) fn look(&self) -> Standing {
        let Some(standing) = &self.standing else { return Standing::Held };
        // All sessions ask, and nearly always there is nothing to be found out.
        if *self.standings.borrow() == Standing::Held && lock(&self.tenure).lease.may_read(boottime()) {
            return Standing::Held;
        }
        let mut standing = lock(standing);
        // The lease as it is now: an older one would end again.
        let valid_until = lock(&self.tenure).lease.valid_until();
        let now = standing.look(boottime(), valid_until);
        // Under the lock, so that what is told last is the last.
        self.standings.send_if_modified(|told| std::mem::replace(told, now) != now);
        now
    }

    fn heard(&self, began: Duration, leader: bool) {
        if let Some(standing) = &self.standing {
            lock(standing).heard(began, boottime(), leader);
        }
        self.look();
    }

    /// One round of asking. It is given up when there is nothing to ask about any more.
    async fn ask_around(&self) {
        let began = boottime();
        let mut round = std::pin::pin!(self.voter.look_around(ROUND_MAX));
        while self.look().keeps_sessions() {
            if let Ok(leader) = tokio::time::timeout(LOOK, &mut round).await {
                return self.heard(began, leader);
            }
        }
    }
}

/// Until the service ends.
pub(super) async fn follow(inner: Weak<Inner>) {
    loop {
        let Some(strong): Option<Arc<Inner>> = inner.upgrade() else { return };
        let mut pause = LOOK;
        if strong.look().keeps_sessions() {
            strong.ask_around().await;
            pause = ROUND_EVERY;
        }
        drop(strong);
        tokio::time::sleep(pause).await;
    }
}
