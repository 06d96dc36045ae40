//! Giving accounts away while they are in use (`locking.md` §7.1, L-CN3): the side of the node that has them.
//!
//! A bucket that is draining leaves in four steps. New sessions and deliveries wait at the door. Sessions end the command
//! that runs and stop at its end. The accounts end what they have begun, and begin nothing. Then one entry of the log
//! makes the other node the owner, sessions go on there, and what waited at the door is sent there.
//!
//! Invariants
//! - From the moment at which the other node may own the bucket, nothing is begun here for its accounts.
//! - A bucket that has not left within [`CAP`] stays: everything goes on here as if nothing had been.
//! - A session is told by its old owner or by its new one, and of nothing by both.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::stream::{self, StreamExt};
use model::AccountId;
use tokio::sync::{mpsc, watch};

use crate::asking::Services;
use crate::registry::Account;
use crate::router::Owner;
use crate::time;

/// A bucket that has not left within stays (`locking.md` §7.1).
pub const CAP: Duration = Duration::from_secs(2);
/// Sessions that wait for the rest of their client's command are left behind by then: they end with BYE.
const CLIENTS_WAIT: Duration = Duration::from_millis(1200);
/// Sessions whose command is not done by then keep the bucket here.
const SESSIONS_WAIT: Duration = Duration::from_millis(1700);
const _: () = assert!(
    CLIENTS_WAIT.as_millis() < SESSIONS_WAIT.as_millis() && SESSIONS_WAIT.as_millis() < CAP.as_millis()
);
/// How long we wait to see that the bucket is the other node's, once it is.
pub(crate) const SEEN_WAIT: Duration = Duration::from_secs(2);
/// Buckets that leave at a time.
const AT_ONCE: usize = 64;
/// Between two looks at what is to leave, should no change of the map be heard of.
const LOOK: Duration = Duration::from_secs(1);
/// A node that stops gives its accounts away within.
pub const AWAY_WAIT: Duration = Duration::from_secs(8);

/// How a bucket's leaving came out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    Left,
    Stays,
}

/// Tells a session that its account is about to leave.
#[derive(Clone, Debug)]
pub struct Leaving {
    /// Held as long as the session has a command to end.
    _busy: Option<mpsc::Sender<Infallible>>,
    outcome: watch::Receiver<Option<Outcome>>,
    clients_until: Instant,
}

impl Leaving {
    /// For a session whose account has left already: nobody waits for it.
    pub fn left() -> Self {
        let (_, outcome) = watch::channel(Some(Outcome::Left));
        Self { _busy: None, outcome, clients_until: time::now() + CLIENTS_WAIT }
    }

    /// Until when a client may send the rest of its command.
    pub fn clients_until(&self) -> Instant {
        self.clients_until
    }

    /// Whether it is known that the account stays.
    pub fn stays(&self) -> bool {
        *self.outcome.borrow() == Some(Outcome::Stays)
    }

    /// The session stands at a command boundary. Waits for how the leaving comes out.
    pub async fn arrive(self) -> Outcome {
        let Self { _busy, mut outcome, .. } = self;
        drop(_busy);
        let known = outcome.wait_for(Option::is_some).await.map(|outcome| *outcome);
        // Nobody will tell: whoever was to is gone, and with it the attempt.
        known.ok().flatten().unwrap_or(Outcome::Stays)
    }
}

/// Buckets that are leaving. Shared by all who might begin something for their accounts.
pub struct Departures {
    leaving: watch::Sender<BTreeSet<u16>>,
    /// The node stops: buckets that are asked for are given away.
    all: watch::Sender<bool>,
}

impl Default for Departures {
    fn default() -> Self {
        Self { leaving: watch::Sender::default(), all: watch::Sender::new(false) }
    }
}

impl Departures {
    pub fn is_leaving(&self, bucket: u16) -> bool {
        self.leaving.borrow().contains(&bucket)
    }

    /// Waits while the bucket is leaving. Whose it is then, the map tells.
    pub async fn settled(&self, bucket: u16) {
        // The sender is `self`.
        let _ = self.leaving.subscribe().wait_for(|leaving| !leaving.contains(&bucket)).await;
    }

    fn begin(&self, bucket: u16) -> bool {
        let has_room = |leaving: &BTreeSet<u16>| leaving.len() < AT_ONCE;
        self.leaving.send_if_modified(|leaving| has_room(leaving) && leaving.insert(bucket))
    }

    /// Enters those of many that nothing else has entered yet. Nothing is waited for in them, so there may be many.
    pub(crate) fn begin_unused(&self, buckets: &[u16]) -> BTreeSet<u16> {
        let mut begun = BTreeSet::new();
        self.leaving.send_modify(|leaving| {
            begun.extend(buckets.iter().copied().filter(|bucket| leaving.insert(*bucket)));
        });
        begun
    }

    pub(crate) fn end_unused(&self, buckets: &BTreeSet<u16>) {
        self.leaving.send_modify(|leaving| leaving.retain(|bucket| !buckets.contains(bucket)));
    }

    fn end(&self, bucket: u16) {
        self.leaving.send_modify(|leaving| {
            leaving.remove(&bucket);
        });
    }
}

/// Gives away what is to be given away, for as long as the node lives.
pub async fn follow(services: Arc<Services>, mut ended: watch::Receiver<bool>) {
    let mut version = services.router.version();
    let mut freed = services.departures.leaving.subscribe();
    loop {
        version.borrow_and_update();
        freed.borrow_and_update();
        for (bucket, to) in services.router.to_hand_over() {
            if services.departures.begin(bucket) {
                tokio::spawn(depart(Arc::clone(&services), bucket, to));
            }
        }
        tokio::select! {
            changed = version.changed() => if changed.is_err() { return },
            _ = freed.changed() => {}
            () = tokio::time::sleep(LOOK) => {}
            _ = ended.wait_for(|ended| *ended) => return,
        }
    }
}

/// One bucket leaves, or stays after all. It is entered as leaving.
async fn depart(services: Arc<Services>, bucket: u16, to: u8) {
    let begun = time::now();
    let (sender, outcome) = watch::channel(None);
    let (busy, arrived) = mpsc::channel(1);
    let leaving = Leaving { _busy: Some(busy), outcome, clients_until: begun + CLIENTS_WAIT };
    let sessions = services.live.leave(bucket, &leaving);
    drop(leaving);
    let left = leave(&services, bucket, arrived, begun).await;
    match &left {
        Ok(accounts) => {
            services.registry.let_go(bucket);
            services.router.left(bucket, begun + CAP + SEEN_WAIT).await;
            sender.send_replace(Some(Outcome::Left));
            let ms = millis(begun);
            tracing::info!(bucket, to, accounts, sessions, ms, "accounts have moved to another node");
        }
        Err(why) => {
            tracing::warn!(bucket, to, %why, ms = millis(begun), "accounts stay here: they could not leave in time");
            services.router.keep(bucket, time::now() + SEEN_WAIT).await;
            services.registry.go_on(bucket);
            sender.send_replace(Some(Outcome::Stays));
        }
    }
    services.departures.end(bucket);
}

fn millis(begun: Instant) -> u64 {
    u64::try_from(time::now().saturating_duration_since(begun).as_millis()).unwrap_or(u64::MAX)
}

/// Says how many accounts left.
async fn leave(
    services: &Services,
    bucket: u16,
    mut arrived: mpsc::Receiver<Infallible>,
    begun: Instant,
) -> Result<usize, String> {
    // All that were told have come to their boundary, or are gone.
    let arrived = tokio::time::timeout_at((begun + SESSIONS_WAIT).into(), arrived.recv()).await;
    arrived.map_err(|_| "commands that were begun are not done".to_owned())?;
    let held = tokio::time::timeout_at((begun + CAP).into(), services.registry.hold(bucket)).await;
    let accounts = held.map_err(|_| "changes that were begun are not done".to_owned())?;
    services.router.hand_over(bucket).await?;
    Ok(accounts)
}

impl Services {
    /// The node is about to stop: gives every open account to another node, spread evenly, and says how many buckets
    /// stayed. Bounded by [`AWAY_WAIT`].
    pub async fn give_away(self: &Arc<Self>) -> usize {
        let buckets: Vec<u16> = self.registry.buckets().into_iter().collect();
        self.departures.all.send_replace(true);
        if self.router.others().is_empty() {
            return 0;
        }
        let away = stream::iter(buckets).for_each_concurrent(AT_ONCE, |bucket| self.send_away(bucket));
        // What stays is free for others as soon as our session is closed.
        let _ = tokio::time::timeout(AWAY_WAIT, away).await;
        self.registry.buckets().len()
    }

    /// For a session that comes to an account which is leaving, or has left by now: nobody waits for it, and it goes along.
    pub fn too_late(self: &Arc<Self>, account: &Arc<Account>) -> Option<Leaving> {
        if !self.is_on_its_way(account.id) && !account.has_left() {
            return None;
        }
        let (sender, outcome) = watch::channel(None);
        let (services, account) = (Arc::clone(self), Arc::clone(account));
        tokio::spawn(async move {
            services.departures.settled(account.id.bucket()).await;
            // It may have come back, as another.
            let left = account.has_left() || services.router.owner(account.id) != Owner::Here;
            // A session that has ended does not want to know.
            let _ = sender.send(Some(if left { Outcome::Left } else { Outcome::Stays }));
        });
        Some(Leaving { _busy: None, outcome, clients_until: time::now() + CLIENTS_WAIT })
    }

    /// Waits until it is known whose the account is, before something is begun for it here. A node that stops begins
    /// nothing: it gives the account away, and whoever asked is to ask there.
    pub async fn settled(&self, account: AccountId) {
        let bucket = account.bucket();
        if *self.departures.all.borrow() && self.router.owner(account) == Owner::Here {
            self.send_away(bucket).await;
        }
        self.departures.settled(bucket).await;
    }

    /// Gives a bucket of ours to one of the other nodes.
    async fn send_away(&self, bucket: u16) {
        let others = self.router.others();
        let Some(to) = others.get(usize::from(bucket) % others.len().max(1)) else { return };
        if let Err(why) = self.router.send_away(bucket, *to).await {
            tracing::warn!(bucket, to, %why, "a bucket could not be given away");
            return;
        }
        let (until, account) = (time::now() + CAP + SEEN_WAIT, any_account(bucket));
        let mut version = self.router.version();
        while self.router.owner(account) == Owner::Here {
            version.borrow_and_update();
            let changed = tokio::time::timeout_at(until.into(), version.changed()).await;
            if changed.is_err() {
                return;
            }
        }
    }
}

/// An account of this bucket: owners are the same for all of them.
pub fn any_account(bucket: u16) -> AccountId {
    let mut bytes = [0; AccountId::BYTES];
    bytes[..2].copy_from_slice(&bucket.to_be_bytes());
    AccountId::from_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_can_be_named_by_its_bucket() {
        for bucket in [0, 1, 255, 256, 40_000, u16::MAX] {
            assert_eq!(any_account(bucket).bucket(), bucket);
        }
    }

    #[tokio::test]
    async fn whoever_begins_something_waits_while_its_bucket_leaves() {
        let departures = Arc::new(Departures::default());
        assert!(departures.begin(7) && !departures.begin(7));
        assert!(departures.is_leaving(7) && !departures.is_leaving(8));
        departures.settled(8).await;
        let waiting = tokio::spawn({
            let departures = Arc::clone(&departures);
            async move { departures.settled(7).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        departures.end(7);
        waiting.await.unwrap();
    }

    #[tokio::test]
    async fn a_session_that_ends_is_not_waited_for() {
        let (sender, outcome) = watch::channel(None);
        let (busy, mut arrived) = mpsc::channel(1);
        let leaving = Leaving { _busy: Some(busy), outcome, clients_until: time::now() };
        let (stays, ends) = (leaving.clone(), leaving.clone());
        drop((leaving, ends));
        let arriving = tokio::spawn(stays.arrive());
        assert_eq!(arrived.recv().await, None);
        sender.send_replace(Some(Outcome::Left));
        assert_eq!(arriving.await.unwrap(), Outcome::Left);
    }
}
