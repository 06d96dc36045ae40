//! Accounts that are open here: each has one owner, on one worker at a time, and a snapshot for everybody else.
//!
//! Invariants
//! - An account has one [`Account`] at a time in this process, and that has at most one owner (L-FN1).
//! - An owner that can no longer tell what counts is dropped whole and opened again from disk; nothing that it had not
//!   published was ever seen.
//! - Requests are answered exactly once, in the order in which they were queued.
//! - An account that is held begins nothing. It goes on, or it leaves: then what waited hears that it is another node's.

use std::collections::{BTreeSet, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use account::reader::Reader;
use account::tenure::{Tenure, Volume, Witness};
use account::verify::Verified;
use account::{Limits, Now, Owner, Setup};
use account::{Refused, Request, Snapshot, door::Done};
use model::{AccountId, Epoch, MailboxName, SiteId, SpecialUse};
use nfs_compat::Fs;
use store::format::Format;
use store::format::maildir::Maildir;
use store::index::cache::Cache;
use store::paths::Home;
use tokio::sync::{oneshot, watch};

use crate::metrics::{ByKind, Metrics};
use crate::patience::{Closed, Opening};
use crate::pool::{Job, Pool};
use crate::takeovers::{TakeOver, TakeOvers};
use crate::time;

/// Requests that one commit takes together: one sync for all of them.
const BATCH_MAX: usize = 256;
/// An account that nobody used for so long is closed.
const IDLE_US: u64 = 300_000_000;

type Answer = oneshot::Sender<Result<Done, Refused>>;

/// What all accounts of this node share.
pub struct Shared {
    pub fs: Arc<dyn Fs>,
    pub site: SiteId,
    pub node: u8,
    pub volume: Volume,
    pub witness: Arc<dyn Witness>,
    pub tenures: Arc<dyn Tenures>,
    pub limits: Limits,
    pub autocreate: Vec<(MailboxName, Option<SpecialUse>)>,
    /// Directory of the field caches, in the node's own `state_dir`.
    pub caches: PathBuf,
    /// Between looks at what other programs did, while sessions are open.
    pub observe_us: u64,
    pub metrics: Arc<Metrics>,
    pub takeovers: TakeOvers,
}

/// Hands out the epoch under which an account may be owned here. Blocking.
pub trait Tenures: Send + Sync {
    fn epoch(&self, account: AccountId) -> Result<Epoch, String>;

    /// Gives the epoch back, so that what was proposed under it and not answered can never be accepted after somebody
    /// read what counts (L-CM3). Blocking.
    fn give_back(&self, account: AccountId);

    /// Whether that epoch is still ours. Not blocking.
    fn holds(&self, account: AccountId, epoch: Epoch) -> bool;
}

/// All open accounts.
pub struct Registry {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    open: Mutex<Accounts>,
    stopping: AtomicBool,
}

#[derive(Default)]
struct Accounts {
    open: HashMap<AccountId, Arc<Account>>,
    /// Buckets that are about to be another node's: nothing is opened in them.
    leaving: BTreeSet<u16>,
}

/// One account, open or about to be.
pub struct Account {
    pub id: AccountId,
    pub user: String,
    home: PathBuf,
    shared: Arc<Shared>,
    pool: Weak<Pool>,
    this: Weak<Account>,
    queue: Mutex<Queue>,
    owner: Mutex<Option<Box<Owner>>>,
    /// Epoch of the owner, 0 without one.
    epoch: AtomicU64,
    snapshot: watch::Sender<Option<Arc<Snapshot>>>,
    reader: Mutex<Option<Reader>>,
    /// POP3's exclusive lock (RFC 1939 §3).
    maildrop: AtomicBool,
    sessions: AtomicUsize,
    times: Times,
    opening: Opening,
}

/// When an open account did what, and wants to do more; microseconds since 1970.
#[derive(Default)]
struct Times {
    /// Last look at what other programs did.
    looked_us: AtomicU64,
    used_us: AtomicU64,
    /// Lazy work of the owner; `u64::MAX` for none.
    wanted_us: AtomicU64,
}

#[derive(Default)]
struct Queue {
    waiting: Vec<(Request, Answer)>,
    /// Wants to know when the account is open.
    opening: Vec<oneshot::Sender<Result<Arc<Snapshot>, String>>>,
    verifying: Vec<oneshot::Sender<Verified>>,
    tick: bool,
    /// To be opened although nobody asks now.
    reopen: bool,
    close: Option<oneshot::Sender<()>>,
    /// Wants to know when nothing is under way any more, and that nothing be begun then.
    hold: Option<oneshot::Sender<()>>,
    /// Nothing is begun.
    held: bool,
    /// In the pool's queue, or running.
    scheduled: bool,
    closed: bool,
    /// Closed because it is another node's.
    left: bool,
}

impl Registry {
    pub fn new(shared: Shared, pool: Arc<Pool>) -> Arc<Self> {
        let shared = Arc::new(shared);
        Arc::new(Self { shared, pool, open: Mutex::default(), stopping: AtomicBool::new(false) })
    }

    /// The account of this user, open. The error is for the operator's log and says what to do.
    pub async fn open(&self, id: AccountId, user: &str, home: PathBuf) -> Result<Arc<Account>, String> {
        if self.stopping.load(Ordering::Acquire) {
            return Err("this node is stopping".into());
        }
        let account = {
            let mut accounts = lock(&self.open);
            if accounts.leaving.contains(&id.bucket()) {
                return Err("the account is about to move to another node".into());
            }
            let entry = accounts.open.entry(id);
            Arc::clone(entry.or_insert_with(|| Account::closed(self, id, user, home)))
        };
        account.opened().await?;
        Ok(account)
    }

    /// When this account was taken over here.
    pub fn takeovers(&self, account: AccountId) -> Vec<TakeOver> {
        self.shared.takeovers.of(account)
    }

    /// Buckets with an account that is open.
    pub fn buckets(&self) -> BTreeSet<u16> {
        let accounts = lock(&self.open);
        let open = accounts.open.values().filter(|account| account.snapshot.borrow().is_some());
        open.map(|account| account.id.bucket()).collect()
    }

    /// Lets the accounts of a bucket end what they have begun, and begin nothing more: returns when it is so, and how many
    /// are open.
    pub async fn hold(&self, bucket: u16) -> usize {
        let accounts = {
            let mut accounts = lock(&self.open);
            accounts.leaving.insert(bucket);
            accounts.of(bucket)
        };
        let holding = accounts.iter().map(|account| {
            let (sender, held) = oneshot::channel();
            account.schedule(|queue| queue.hold = Some(sender));
            held
        });
        // One that died holds nothing.
        let _ = futures::future::join_all(holding).await;
        accounts.iter().filter(|account| account.snapshot.borrow().is_some()).count()
    }

    /// Buckets with an account that is open, or about to be.
    pub fn used(&self) -> BTreeSet<u16> {
        lock(&self.open).open.keys().map(|id| id.bucket()).collect()
    }

    /// Those of these buckets that have no account here, open or about to be. Nothing is opened in them until
    /// [`Self::free`].
    pub fn hold_unused(&self, buckets: &BTreeSet<u16>) -> BTreeSet<u16> {
        let mut accounts = lock(&self.open);
        let used: BTreeSet<u16> = accounts.open.keys().map(|id| id.bucket()).collect();
        let unused: BTreeSet<u16> = buckets.difference(&used).copied().collect();
        accounts.leaving.extend(&unused);
        unused
    }

    /// Accounts may be opened in such buckets again, if they are ours.
    pub fn free(&self, buckets: &BTreeSet<u16>) {
        lock(&self.open).leaving.retain(|bucket| !buckets.contains(bucket));
    }

    /// The bucket is another node's: its accounts are no longer here.
    pub fn let_go(&self, bucket: u16) {
        let gone = {
            let mut accounts = lock(&self.open);
            accounts.leaving.remove(&bucket);
            let gone = accounts.of(bucket);
            accounts.open.retain(|id, _| id.bucket() != bucket);
            gone
        };
        gone.iter().for_each(|account| account.leave());
    }

    /// The bucket stays: its accounts go on.
    pub fn go_on(&self, bucket: u16) {
        let accounts = {
            let mut accounts = lock(&self.open);
            accounts.leaving.remove(&bucket);
            accounts.of(bucket)
        };
        for account in accounts {
            account.schedule(|queue| (queue.hold, queue.held) = (None, false));
        }
    }

    /// Accounts that are open now.
    pub fn accounts(&self) -> Vec<Arc<Account>> {
        lock(&self.open).open.values().cloned().collect()
    }

    /// How many have an owner.
    pub fn open_count(&self) -> usize {
        lock(&self.open).open.values().filter(|account| account.snapshot.borrow().is_some()).count()
    }

    /// Gives every open account its share of lazy work, and lets go of those that nobody uses.
    pub fn tick(&self) {
        let now_us = time::unix_us();
        for account in self.accounts() {
            if account.is_due(now_us) {
                account.schedule(|queue| queue.tick = true);
            }
        }
    }

    /// Closes all accounts: everything durable, and written back for neighbours. New ones are refused.
    pub async fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        for account in self.accounts() {
            let (sender, closed) = oneshot::channel();
            account.schedule(|queue| (queue.close, queue.held) = (Some(sender), false));
            if closed.await.is_err() {
                tracing::warn!(user = %account.user, "account was not closed cleanly; its journal is complete");
            }
        }
    }
}

impl Accounts {
    fn of(&self, bucket: u16) -> Vec<Arc<Account>> {
        self.open.values().filter(|account| account.id.bucket() == bucket).cloned().collect()
    }
}

impl Account {
    /// One that is not open yet.
    fn closed(registry: &Registry, id: AccountId, user: &str, home: PathBuf) -> Arc<Self> {
        Arc::new_cyclic(|this| Self {
            id,
            user: user.to_owned(),
            home,
            shared: Arc::clone(&registry.shared),
            pool: Arc::downgrade(&registry.pool),
            this: this.clone(),
            queue: Mutex::default(),
            owner: Mutex::default(),
            epoch: AtomicU64::new(0),
            snapshot: watch::Sender::new(None),
            reader: Mutex::default(),
            maildrop: AtomicBool::new(false),
            sessions: AtomicUsize::new(0),
            times: Times::default(),
            opening: Opening::default(),
        })
    }

    /// Whether it went to another node. Should it come back, then as another `Account`.
    pub fn has_left(&self) -> bool {
        lock(&self.queue).left
    }

    /// It is another node's. Its last snapshot stays for the sessions that go there, too.
    fn leave(&self) {
        let (waiting, opening) = {
            let mut queue = lock(&self.queue);
            (queue.closed, queue.left, queue.held) = (true, true, true);
            (std::mem::take(&mut queue.waiting), std::mem::take(&mut queue.opening))
        };
        for (_, sender) in waiting {
            // Whoever asked may be gone.
            let _ = sender.send(Err(Refused::Deposed));
        }
        for sender in opening {
            let _ = sender.send(Err("the account has moved to another node".into()));
        }
        // What is left to be written back is the next owner's to write.
        *lock(&self.owner) = None;
        *lock(&self.reader) = None;
    }

    /// The newest snapshot, if it is open.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.snapshot.borrow().clone()
    }

    /// Hears of every new snapshot.
    pub fn watch(&self) -> watch::Receiver<Option<Arc<Snapshot>>> {
        self.snapshot.subscribe()
    }

    pub fn reader(&self) -> Option<Reader> {
        lock(&self.reader).clone()
    }

    /// Asks the owner. The answer comes when it is durable.
    pub async fn ask(&self, request: Request) -> Result<Done, Refused> {
        let (sender, answer) = oneshot::channel();
        if !self.schedule(|queue| queue.waiting.push((request, sender))) {
            let left = lock(&self.queue).left;
            return Err(if left {
                Refused::Deposed
            } else {
                Refused::Unavailable("this node is stopping".into())
            });
        }
        // The answer is lost only if the owner died with the question: what it did is not known.
        answer.await.unwrap_or(Err(Refused::Unknown))
    }

    /// Reads every byte and compares it with journal and index. Changes wait meanwhile; readers do not.
    pub async fn verify(&self) -> Result<Verified, String> {
        let (sender, verified) = oneshot::channel();
        if !self.schedule(|queue| queue.verifying.push(sender)) {
            return Err("this node is stopping".into());
        }
        verified.await.map_err(|_| "the account cannot be opened; the node's log says why".into())
    }

    async fn opened(&self) -> Result<Arc<Snapshot>, String> {
        // What an owner that is deposed had shown is not for somebody who comes now.
        if let Some(snapshot) = self.snapshot().filter(|_| self.may_be_shown()) {
            return Ok(snapshot);
        }
        let (sender, opened) = oneshot::channel();
        self.schedule(|queue| queue.opening.push(sender));
        opened.await.unwrap_or_else(|_| Err("the account was closed".into()))
    }

    /// Takes the maildrop for one POP3 session. Dropping the guard gives it back.
    pub fn lock_maildrop(&self) -> Option<MaildropGuard> {
        let taken = self.maildrop.swap(true, Ordering::AcqRel);
        (!taken).then(|| self.this.upgrade().map(MaildropGuard)).flatten()
    }

    /// Counts a session for as long as the guard lives: its account is observed meanwhile.
    pub fn join(&self) -> Option<SessionGuard> {
        self.sessions.fetch_add(1, Ordering::AcqRel);
        self.this.upgrade().map(SessionGuard)
    }

    pub fn sessions(&self) -> usize {
        self.sessions.load(Ordering::Acquire)
    }

    /// False once the account was closed for good.
    fn schedule(&self, change: impl FnOnce(&mut Queue)) -> bool {
        let mut queue = lock(&self.queue);
        if queue.closed {
            return false;
        }
        change(&mut queue);
        if !queue.scheduled
            && !queue.held
            && let (Some(pool), Some(this)) = (self.pool.upgrade(), self.this.upgrade())
        {
            queue.scheduled = true;
            pool.queue(this);
        }
        true
    }

    fn open_owner(&self) -> Result<Option<Box<Owner>>, Closed> {
        let shared = &self.shared;
        let began = time::now();
        let fs = Arc::clone(&shared.fs);
        let told = |error: &dyn std::fmt::Display| error.to_string();
        let home = Home::recognise(&*fs, &self.home).map_err(|error| told(&error))?;
        let epoch = shared.tenures.epoch(self.id)?;
        let tenure = Tenure { epoch, volume: shared.volume, witness: Arc::clone(&shared.witness) };
        let format: Arc<dyn Format> = Arc::new(Maildir::new(Arc::clone(&fs), &home));
        // A cache that cannot be opened costs time, never mail.
        let cache = Cache::open(&*fs, &shared.caches.join(format!("{}.cache", self.id)));
        let cache =
            cache.inspect_err(|error| tracing::warn!(user = %self.user, %error, "no field cache")).ok();
        let setup = Setup {
            account: self.id,
            user: self.user.clone(),
            site: shared.site,
            node: shared.node,
            home,
            fs,
            format,
            tenure,
            limits: shared.limits.clone(),
            autocreate: shared.autocreate.clone(),
            cache: cache.map(Arc::new),
        };
        let owner = self.opening.open(&setup, &shared.metrics, |wait| self.look_again(wait))?;
        let now_us = time::unix_us();
        self.times.looked_us.store(now_us, Ordering::Relaxed);
        self.times.used_us.store(now_us, Ordering::Relaxed);
        self.epoch.store(epoch.get(), Ordering::Relaxed);
        *lock(&self.reader) = Some(owner.reader());
        self.publish(&owner);
        let takeover = TakeOver { account: self.id, epoch, unix_s: time::unix_s(), took: began.elapsed() };
        if shared.takeovers.opened(takeover) {
            shared.metrics.takeovers.inc();
            shared.metrics.takeover_seconds.observe(takeover.took.as_secs_f64());
        }
        Ok(Some(Box::new(owner)))
    }

    /// Has the account opened after this time, whether somebody asks or not.
    fn look_again(&self, wait: Duration) {
        if let Some(pool) = self.pool.upgrade() {
            pool.queue_after(wait, Arc::new(Reopen(self.this.clone())));
        }
    }

    fn publish(&self, owner: &Owner) {
        self.snapshot.send_if_modified(|held| {
            let new = owner.snapshot();
            let changed = held.as_ref().is_none_or(|held| !Arc::ptr_eq(held, &new));
            *held = Some(new);
            changed
        });
    }

    fn commit(&self, owner: &mut Owner, waiting: Vec<(Request, Answer)>) {
        self.times.used_us.store(time::unix_us(), Ordering::Relaxed);
        let (requests, senders): (Vec<_>, Vec<_>) = waiting.into_iter().unzip();
        let answers = owner.commit(now(), requests);
        self.publish(owner);
        for (answer, sender) in answers.into_iter().zip(senders) {
            // A session that is gone does not want its answer.
            let _ = sender.send(answer);
        }
    }

    /// Lazy work, and a look at what other programs did.
    fn tick(&self, owner: &mut Owner) {
        if self.look_is_due(time::unix_us()) {
            self.times.looked_us.store(time::unix_us(), Ordering::Relaxed);
            let looked = owner.commit(now(), vec![Request::Observe { mailbox: None }]);
            for refused in looked.into_iter().filter_map(Result::err) {
                tracing::warn!(user = %self.user, %refused, "could not look at what other programs did");
            }
        }
        owner.tick(now());
    }
}

/// Looks at an account again that could not be opened.
struct Reopen(Weak<Account>);

impl Job for Reopen {
    fn run(self: Arc<Self>) {
        if let Some(account) = self.0.upgrade() {
            account.schedule(|queue| queue.reopen = true);
        }
    }
}

/// What one run of an account's job is to do.
struct Turn {
    waiting: Vec<(Request, Answer)>,
    opening: Vec<oneshot::Sender<Result<Arc<Snapshot>, String>>>,
    verifying: Vec<oneshot::Sender<Verified>>,
    tick: bool,
    reopen: bool,
    close: Option<oneshot::Sender<()>>,
    hold: Option<oneshot::Sender<()>>,
}

impl Job for Account {
    fn run(self: Arc<Self>) {
        let turn = self.take_turn();
        // The owner is out of its place while it works: one that panics is gone, and is opened again from disk.
        let owner = lock(&self.owner).take();
        let worked = catch_unwind(AssertUnwindSafe(|| self.work(owner, turn)));
        match worked {
            Ok(owner) => *lock(&self.owner) = owner,
            Err(_) => {
                tracing::error!(user = %self.user, account = %self.id, "bug: the owner panicked; read again from disk");
                self.forget();
            }
        }
        self.reschedule();
    }
}

impl Account {
    fn take_turn(&self) -> Turn {
        let mut queue = lock(&self.queue);
        let count = queue.waiting.len().min(BATCH_MAX);
        Turn {
            waiting: queue.waiting.drain(..count).collect(),
            opening: std::mem::take(&mut queue.opening),
            verifying: std::mem::take(&mut queue.verifying),
            tick: std::mem::take(&mut queue.tick),
            reopen: std::mem::take(&mut queue.reopen),
            close: queue.close.take(),
            hold: queue.hold.take(),
        }
    }

    /// Does a turn; returns the owner that is to stay.
    fn work(&self, owner: Option<Box<Owner>>, turn: Turn) -> Option<Box<Owner>> {
        let asked = !turn.waiting.is_empty() || !turn.opening.is_empty() || !turn.verifying.is_empty();
        let needed = asked || turn.reopen;
        let owner = if turn.opening.is_empty() { owner } else { self.unless_deposed(owner) };
        let owner = match owner {
            None if needed => self.open_owner(),
            owner => Ok(owner),
        };
        self.tell_opening(turn.opening, owner.as_ref().err());
        let (mut owner, waiting) = match owner {
            Ok(owner) => (owner, turn.waiting),
            Err(closed) => {
                refuse(turn.waiting, &closed.reason);
                (None, Vec::new())
            }
        };
        if let Some(open) = &mut owner {
            if !waiting.is_empty() {
                self.commit(open, waiting);
            }
            for sender in turn.verifying {
                // Whoever asked may be gone.
                let _ = sender.send(open.verify(now()));
            }
            if turn.tick && open.is_sound() {
                self.tick(open);
            }
            self.after(open);
        }
        if owner.as_ref().is_some_and(|open| !open.is_sound()) {
            tracing::error!(user = %self.user, account = %self.id, "account is read again from disk");
            if self.shared.volume == Volume::Shared {
                self.shared.tenures.give_back(self.id);
            }
            self.forget();
            owner = None;
        }
        owner = self.unless_deposed(owner);
        let idle = turn.tick && self.is_idle(time::unix_us());
        if idle || turn.close.is_some() {
            self.let_go(owner.take());
        }
        if let Some(sender) = turn.hold {
            if let Some(open) = &mut owner {
                open.hand_over(now());
                self.after(open);
            }
            lock(&self.queue).held = true;
            // Nobody waits for it any more: the bucket stays, and the account goes on.
            if sender.send(()).is_err() {
                lock(&self.queue).held = false;
            }
        }
        if let Some(sender) = turn.close {
            lock(&self.queue).closed = true;
            // Whoever asked may have given up waiting.
            let _ = sender.send(());
        }
        owner
    }

    /// An owner whose epoch is over goes. What is left to be written back is the next owner's to write.
    fn unless_deposed(&self, owner: Option<Box<Owner>>) -> Option<Box<Owner>> {
        let deposed = owner.is_some() && self.epoch_is_over();
        if deposed {
            tracing::warn!(user = %self.user, "the session with the coordination service was lost: opening again");
            self.forget();
        }
        owner.filter(|_| !deposed)
    }

    fn tell_opening(
        &self,
        opening: Vec<oneshot::Sender<Result<Arc<Snapshot>, String>>>,
        closed: Option<&Closed>,
    ) {
        if let Some(Closed { reason, is_told: false }) = closed {
            tracing::error!(user = %self.user, account = %self.id, %reason, "account cannot be opened");
        }
        for sender in opening {
            let answer = match closed {
                None => self.snapshot().ok_or_else(|| "not open".into()),
                Some(closed) => Err(closed.reason.clone()),
            };
            // Whoever asked may be gone.
            let _ = sender.send(answer);
        }
    }

    /// What every turn ends with: news for readers, for the log, and when to come again.
    fn after(&self, owner: &mut Owner) {
        self.publish(owner);
        for healed in owner.take_healed() {
            tracing::warn!(user = %self.user, account = %self.id, "healed: {healed}");
            self.shared.metrics.heals.get_or_create(&ByKind { kind: "account" }).inc();
        }
        self.times.wanted_us.store(owner.wants_tick().unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Nothing is open any more.
    fn forget(&self) {
        *lock(&self.reader) = None;
        self.epoch.store(0, Ordering::Relaxed);
        self.snapshot.send_replace(None);
    }

    /// Whether a tick would do something.
    fn is_due(&self, now_us: u64) -> bool {
        let open = self.snapshot.borrow().is_some();
        let wanted = now_us >= self.times.wanted_us.load(Ordering::Relaxed);
        open && (wanted || self.look_is_due(now_us) || self.is_idle(now_us) || self.epoch_is_over())
    }

    fn look_is_due(&self, now_us: u64) -> bool {
        let since_us = now_us.saturating_sub(self.times.looked_us.load(Ordering::Relaxed));
        self.sessions() > 0 && since_us >= self.shared.observe_us
    }

    fn is_idle(&self, now_us: u64) -> bool {
        let since_us = now_us.saturating_sub(self.times.used_us.load(Ordering::Relaxed));
        self.sessions() == 0 && since_us >= IDLE_US
    }

    /// L-LE1, L-LE2: whether what sessions know of the account may be shown. Where others could own it, only while we
    /// do, under the epoch that it was opened with, and our lease holds.
    pub fn may_be_shown(&self) -> bool {
        self.shared.volume == Volume::Private
            || (self.epoch.load(Ordering::Relaxed) != 0 && !self.epoch_is_over())
    }

    /// Whether the owner was opened under an epoch that is ours no longer.
    fn epoch_is_over(&self) -> bool {
        let epoch = self.epoch.load(Ordering::Relaxed);
        epoch != 0 && !self.shared.tenures.holds(self.id, Epoch::from_u64(epoch))
    }

    /// Writes everything back, and forgets what can be read again.
    fn let_go(&self, owner: Option<Box<Owner>>) {
        if let Some(mut owner) = owner {
            owner.close(now());
        }
        self.forget();
    }

    /// Queues itself again if more came while it ran.
    fn reschedule(&self) {
        let mut queue = lock(&self.queue);
        let asked = !queue.waiting.is_empty() || !queue.opening.is_empty() || !queue.verifying.is_empty();
        let due = asked || queue.tick || queue.reopen || queue.close.is_some() || queue.hold.is_some();
        let more = !queue.held && due;
        queue.scheduled = more;
        if more && let (Some(pool), Some(this)) = (self.pool.upgrade(), self.this.upgrade()) {
            pool.queue(this);
        }
    }
}

fn refuse(waiting: Vec<(Request, Answer)>, reason: &str) {
    for (_, sender) in waiting {
        let _ = sender.send(Err(Refused::Unavailable(reason.to_owned())));
    }
}

/// Holds the maildrop.
pub struct MaildropGuard(Arc<Account>);

impl Drop for MaildropGuard {
    fn drop(&mut self) {
        self.0.maildrop.store(false, Ordering::Release);
    }
}

/// Counts one session.
pub struct SessionGuard(Arc<Account>);

impl Drop for SessionGuard {
    fn drop(&mut self) {
        self.0.sessions.fetch_sub(1, Ordering::AcqRel);
    }
}

fn now() -> Now {
    Now { unix_us: time::unix_us() }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
