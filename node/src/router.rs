//! Who owns an account, and the way there (L-CN1).
//!
//! Every node is an edge: a client or an MTA may come to any. What it wants is done by the owner of the account; an
//! account that is owned here takes no other way than it would on a single node.
//!
//! Invariants
//! - A session or a delivery is begun at a node that says it owns the account, and at no other.
//! - Whatever was refused was not begun, so it may be tried elsewhere: at most [`NOT_OWNER_MAX`] times by nodes that are
//!   reached, and as long as [`OWNER_WAIT`] while nobody owns the account or its owner cannot be reached.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::BoxFuture;
use locking::{NodeId, Standing};
use model::AccountId;
use rpc::peer::{Channel, Channels};
use rpc::relay::{self, CarryError, Declined, Open, Pipe};
use tokio::sync::watch;

use crate::handover::any_account;
use crate::live::Live;
use crate::metrics::{ByKind, Metrics};
use crate::time;

/// How long logins and deliveries wait for an owner, before the client is told to try again (`locking.md` §7.2: a node
/// that died is replaced within 15 s).
pub const OWNER_WAIT: Duration = Duration::from_secs(20);
/// Nodes that may say "not I" before we give up. Each answer is newer than what we knew.
pub const NOT_OWNER_MAX: u32 = 3;
/// An owner answers whether it takes a session within; it may have to open the account.
pub const ADMIT_WAIT: Duration = Duration::from_secs(10);
/// Between two looks at an owner that cannot be reached, if nothing is heard of it.
pub const LOOK_AGAIN: Duration = Duration::from_millis(250);
/// Between two looks at which sessions are to end.
const BURST: Duration = Duration::from_millis(100);
/// How long we wait to learn what another node knows already.
const LEARN_WAIT: Duration = Duration::from_secs(2);

/// The owner of an account, as far as this node knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    Here,
    Node(u8),
    /// Its owner died, or it never had one, and none was granted yet.
    Nobody,
}

/// Knows the owners of accounts.
pub trait Owners: Send + Sync + 'static {
    /// Not blocking.
    fn owner(&self, account: AccountId) -> Owner;

    /// How far this knowledge goes: a position in the history of ownership that all nodes share. The receiver hears of
    /// every step after which some answer of [`owner`](Self::owner) may differ.
    fn version(&self) -> watch::Receiver<u64>;

    /// An account that nobody owns is wanted here. Who is to own it may depend on that; nothing need come of it.
    fn wanted(&self, account: AccountId);

    /// Buckets of this node that another node is to own, and which.
    fn to_hand_over(&self) -> Vec<(u16, u8)> {
        Vec::new()
    }

    /// Makes the other node the owner of such a bucket. Nothing is under way for its accounts, and nothing is begun.
    fn hand_over(&self, _bucket: u16) -> Handing {
        Box::pin(std::future::ready(Err(NOTHING_TO_GIVE.to_owned())))
    }

    /// Such a bucket stays here after all.
    fn keep(&self, _bucket: u16) -> Handing {
        Box::pin(std::future::ready(Err(NOTHING_TO_GIVE.to_owned())))
    }

    /// Wants another node to own a bucket of this one.
    fn send_away(&self, _bucket: u16, _to: u8) -> Handing {
        Box::pin(std::future::ready(Err(NOTHING_TO_GIVE.to_owned())))
    }

    /// Nodes that could own what is this node's.
    fn others(&self) -> Vec<u8> {
        Vec::new()
    }

    /// If this node is being emptied: its buckets that it was not asked to hand over, and who can have them, with how many
    /// each of those owns.
    fn to_give_away(&self) -> Option<(Vec<u16>, BTreeMap<NodeId, usize>)> {
        None
    }

    /// Makes another node the owner of such buckets, which nothing is under way in. Says which are gone.
    fn give_away(
        &self,
        _buckets: Vec<u16>,
        _to: NodeId,
    ) -> BoxFuture<'static, Result<BTreeSet<u16>, String>> {
        Box::pin(std::future::ready(Err(NOTHING_TO_GIVE.to_owned())))
    }

    /// What this node may show when it has no lease. Not blocking.
    fn standing(&self) -> Standing {
        Standing::Held
    }

    /// Tells when [`standing`](Self::standing) has changed; `None`: it never does.
    fn standings(&self) -> Option<watch::Receiver<Standing>> {
        None
    }
}

/// What comes of giving a bucket away. The error is for the log.
pub type Handing = BoxFuture<'static, Result<(), String>>;

const NOTHING_TO_GIVE: &str = "this node gives nothing away";

/// A site of one node.
pub struct AllHere {
    version: watch::Sender<u64>,
}

impl Default for AllHere {
    fn default() -> Self {
        Self { version: watch::Sender::new(0) }
    }
}

impl Owners for AllHere {
    fn owner(&self, _account: AccountId) -> Owner {
        Owner::Here
    }

    fn version(&self) -> watch::Receiver<u64> {
        self.version.subscribe()
    }

    fn wanted(&self, _account: AccountId) {}
}

/// Where an account can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    Here,
    Node(u8),
}

/// What came of a session that was to be carried.
pub enum Carried {
    /// The account came here meanwhile.
    Here,
    To(u8, Pipe),
}

/// Why nobody takes a session. Nothing was begun.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotCarried {
    #[error("as many sessions as the user may have")]
    TooManySessions,
    #[error("{0}")]
    Unavailable(String),
}

/// Knows the way to owners. Cheap to clone.
#[derive(Clone)]
pub struct Router {
    owners: Arc<dyn Owners>,
    /// `None`: a node without peers.
    channels: Option<Channels>,
    metrics: Arc<Metrics>,
    /// Nothing is learnt about owners any more.
    closed: watch::Sender<bool>,
}

impl Router {
    pub fn new(owners: Arc<dyn Owners>, channels: Option<Channels>, metrics: Arc<Metrics>) -> Self {
        Self { owners, channels, metrics, closed: watch::Sender::new(false) }
    }

    /// This node stops without a majority: it hears of no owner any more, and whoever waits for one has waited enough.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }

    pub fn owner(&self, account: AccountId) -> Owner {
        self.owners.owner(account)
    }

    /// An account that nobody owns is wanted here.
    pub fn want(&self, account: AccountId) {
        self.owners.wanted(account);
    }

    pub fn version(&self) -> watch::Receiver<u64> {
        self.owners.version()
    }

    /// A node is at this address now.
    pub fn learn_address(&self, node: u8, address: &str) {
        if let Some(channels) = self.channels.as_ref().filter(|_| !address.is_empty()) {
            channels.set_address(node, address.to_owned());
        }
    }

    /// How far the knowledge of this node goes.
    pub fn known(&self) -> u64 {
        *self.owners.version().borrow()
    }

    pub fn to_hand_over(&self) -> Vec<(u16, u8)> {
        self.owners.to_hand_over()
    }

    pub async fn hand_over(&self, bucket: u16) -> Result<(), String> {
        self.owners.hand_over(bucket).await
    }

    /// Takes the wish back that a bucket leave, and waits until this node sees that it is gone.
    pub async fn keep(&self, bucket: u16, until: Instant) {
        if let Err(why) = self.owners.keep(bucket).await {
            tracing::debug!(bucket, %why, "a bucket was not kept");
        }
        let mut version = self.owners.version();
        while self.owners.to_hand_over().iter().any(|(wanted, _)| *wanted == bucket) {
            if !self.wait(&mut version, until).await {
                return;
            }
        }
    }

    pub async fn send_away(&self, bucket: u16, to: u8) -> Result<(), String> {
        self.owners.send_away(bucket, to).await
    }

    pub fn others(&self) -> Vec<u8> {
        self.owners.others()
    }

    pub fn to_give_away(&self) -> Option<(Vec<u16>, BTreeMap<NodeId, usize>)> {
        self.owners.to_give_away()
    }

    pub async fn give_away(&self, buckets: Vec<u16>, to: NodeId) -> Result<BTreeSet<u16>, String> {
        self.owners.give_away(buckets, to).await
    }

    pub fn standing(&self) -> Standing {
        self.owners.standing()
    }

    pub fn standings(&self) -> Option<watch::Receiver<Standing>> {
        self.owners.standings()
    }

    /// Whether the account has another owner than that. Nobody has, as long as that is being found out or the site has no
    /// majority: then sessions stay where they are.
    fn has_moved(&self, account: AccountId, was: Owner) -> bool {
        let owner = self.owners.owner(account);
        // Asked after the owner, who is nobody from the moment at which the lease ends.
        owner != was && (owner != Owner::Nobody || !self.standing().keeps_sessions())
    }

    /// Waits until this node, too, sees that the bucket has another owner.
    pub async fn left(&self, bucket: u16, until: Instant) {
        let account = any_account(bucket);
        let mut version = self.owners.version();
        while !matches!(self.owners.owner(account), Owner::Node(_)) {
            version.borrow_and_update();
            if matches!(self.owners.owner(account), Owner::Node(_)) || !self.wait(&mut version, until).await {
                return;
            }
        }
    }

    pub fn channel(&self, node: u8) -> Option<Channel> {
        self.channels.as_ref()?.to(node)
    }

    /// Waits for the account to have an owner.
    pub async fn place(&self, account: AccountId, until: Instant) -> Result<Place, NotCarried> {
        let mut version = self.owners.version();
        loop {
            version.borrow_and_update();
            match self.owners.owner(account) {
                Owner::Here => return Ok(Place::Here),
                Owner::Node(node) => return Ok(Place::Node(node)),
                Owner::Nobody => self.owners.wanted(account),
            }
            if !self.wait(&mut version, until).await {
                return Err(NotCarried::Unavailable("no node owns the account now".into()));
            }
        }
    }

    /// Opens a session at the owner of the account, wherever that is by then.
    pub async fn carry(&self, account: AccountId, open: &Open) -> Result<Carried, NotCarried> {
        let until = time::now() + OWNER_WAIT;
        let (mut not_owners, mut last) = (0, None);
        loop {
            let Place::Node(node) = self.place(account, until).await? else { return Ok(Carried::Here) };
            let tried = match self.channel(node) {
                Some(channel) => {
                    let open = Open { known: self.known(), ..open.clone() };
                    relay::carry(channel, &open, ADMIT_WAIT).await
                }
                None => Err(CarryError::Unreachable(unknown_node(node))),
            };
            match tried {
                Ok(pipe) => return Ok(Carried::To(node, pipe)),
                Err(CarryError::Declined(Declined::NotOwner(version))) => {
                    // Another node says it of another moment.
                    not_owners = if last.replace(node) == Some(node) { not_owners + 1 } else { 1 };
                    self.count_retry("not_owner");
                    if not_owners > NOT_OWNER_MAX || time::now() >= until {
                        let why =
                            format!("node {node} does not own the account, though it seems so from here");
                        return Err(NotCarried::Unavailable(why));
                    }
                    self.learn(version).await;
                    // As much is known there, too; that we ask the same node again would be in vain.
                    if self.owners.owner(account) == Owner::Node(node) {
                        self.look_again(until).await;
                    }
                }
                Err(CarryError::Declined(Declined::TooManySessions)) => {
                    return Err(NotCarried::TooManySessions);
                }
                Err(CarryError::Declined(Declined::Unavailable(why))) => {
                    return Err(NotCarried::Unavailable(format!("node {node}: {why}")));
                }
                Err(CarryError::Refused(why)) => {
                    tracing::error!(node, "a session cannot be carried: {why}");
                    return Err(NotCarried::Unavailable(why));
                }
                Err(CarryError::Unreachable(why)) => {
                    tracing::warn!(node, "a session waits: its owner cannot be reached: {why}");
                    self.count_retry("unreachable");
                    if !self.look_again(until).await {
                        return Err(NotCarried::Unavailable(format!("node {node} cannot be reached: {why}")));
                    }
                }
            }
        }
    }

    /// Waits until this node knows as much as one that said "not I". One that does not get there asks again all the same.
    pub async fn learn(&self, version: u64) {
        let mut known = self.owners.version();
        let learnt = known.wait_for(|known| *known >= version);
        // Either way the next look decides.
        let _ = tokio::time::timeout(LEARN_WAIT, learnt).await;
    }

    /// Waits a little, less if owners change. False: the time is over.
    pub async fn look_again(&self, until: Instant) -> bool {
        let mut version = self.owners.version();
        version.borrow_and_update();
        let heard = self.wait(&mut version, until.min(time::now() + LOOK_AGAIN)).await;
        heard || (!*self.closed.borrow() && time::now() < until)
    }

    /// Waits for news. False: the time is over first, or there is no news any more.
    async fn wait(&self, version: &mut watch::Receiver<u64>, until: Instant) -> bool {
        let mut closed = self.closed.subscribe();
        tokio::select! {
            news = tokio::time::timeout_at(until.into(), version.changed()) => matches!(news, Ok(Ok(()))),
            _ = closed.wait_for(|closed| *closed) => false,
        }
    }

    pub fn count_retry(&self, kind: &'static str) {
        self.metrics.router_retries.get_or_create(&ByKind { kind }).inc();
    }
}

/// Ends sessions whose account gets another owner, for as long as the node lives.
pub async fn end_moved(router: Router, live: Arc<Live>) {
    let (mut version, mut standings) = (router.version(), router.standings());
    loop {
        tokio::select! {
            known = version.changed() => if known.is_err() { return },
            () = changed(standings.as_mut()) => {}
        }
        version.borrow_and_update();
        let ended = live.end_moved(|account, was| router.has_moved(account, was));
        if ended > 0 {
            tracing::info!(sessions = ended, "sessions end: their accounts have other owners");
        }
        // Owners change in bursts: a look at all sessions serves many changes.
        tokio::time::sleep(BURST).await;
    }
}

/// Never, where nothing is watched.
pub async fn changed(standings: Option<&mut watch::Receiver<Standing>>) {
    let Some(standings) = standings else { return std::future::pending().await };
    if standings.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}

pub fn unknown_node(node: u8) -> String {
    format!("no [[cluster.member]] says where node {node} is")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    /// Owners as a test says. Every account that it does not name is here.
    struct Told {
        owners: Mutex<BTreeMap<AccountId, Owner>>,
        version: watch::Sender<u64>,
        wanted: Mutex<Vec<AccountId>>,
    }

    impl Default for Told {
        fn default() -> Self {
            Self { owners: Mutex::default(), version: watch::Sender::new(1), wanted: Mutex::default() }
        }
    }

    impl Told {
        fn set(&self, account: AccountId, owner: Owner) {
            self.owners.lock().unwrap().insert(account, owner);
            self.version.send_modify(|version| *version += 1);
        }
    }

    impl Owners for Told {
        fn owner(&self, account: AccountId) -> Owner {
            self.owners.lock().unwrap().get(&account).copied().unwrap_or(Owner::Here)
        }

        fn version(&self) -> watch::Receiver<u64> {
            self.version.subscribe()
        }

        fn wanted(&self, account: AccountId) {
            self.wanted.lock().unwrap().push(account);
        }
    }

    fn account(user: &str) -> AccountId {
        AccountId::derive("test", user, 0)
    }

    #[tokio::test]
    async fn nobody_waits_for_an_owner_at_a_node_that_hears_of_none_any_more() {
        let told = Arc::new(Told::default());
        let router = Router::new(told.clone(), None, Metrics::new());
        let ada = account("ada");
        told.set(ada, Owner::Nobody);
        let later = time::now() + Duration::from_secs(600);
        let (place, ()) = tokio::join!(router.place(ada, later), async {
            tokio::task::yield_now().await;
            router.close();
        });
        assert!(matches!(place, Err(NotCarried::Unavailable(_))));
        assert!(!router.look_again(later).await);
        told.set(ada, Owner::Node(2));
        assert_eq!(router.place(ada, later).await, Ok(Place::Node(2)), "what is known is known");
        assert!(time::now() < later - Duration::from_secs(500));
    }

    #[tokio::test]
    async fn an_account_without_an_owner_is_waited_for_and_not_for_ever() {
        let told = Arc::new(Told::default());
        let router = Router::new(told.clone(), None, Metrics::new());
        let ada = account("ada");
        told.set(ada, Owner::Nobody);
        let soon = time::now() + Duration::from_millis(50);
        assert!(router.place(ada, soon).await.is_err());
        assert_eq!(*told.wanted.lock().unwrap(), [ada]);
        let later = time::now() + Duration::from_secs(10);
        let (place, ()) = tokio::join!(router.place(ada, later), async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            told.set(ada, Owner::Node(3));
        });
        assert_eq!(place, Ok(Place::Node(3)));
        assert_eq!(router.place(account("grace"), soon).await, Ok(Place::Here));
    }
}
