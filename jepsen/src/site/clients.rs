//! Clients of a site: each session through a node of its own choice, whatever happens to nodes meanwhile.
//!
//! Invariants
//! - Nothing is believed but answers. A delivery that was not acknowledged is unknown, also when it was refused: what it
//!   says then is "try again", and it is, through any node, with the queue id it had.
//! - Only one client sets flags in an account, and none takes one away; only POP3 deletes.
//! - A sight is dated by when its session, or its NOOP, began: an older one may be what the server rightly showed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use super::{Work, node::Node};
use crate::client::imap::{Imap, Selected};
use crate::client::lmtp::Lmtp;
use crate::client::pop3::{FROZEN, Pop3};
use crate::client::{Failure, Result};
use crate::dice::Dice;
use crate::history::{Op, Outcome, Place, Recorder};
use crate::server::{password, user};
use crate::wait;
use crate::workload::kill::message::{compose, token_of};

/// Readers look at so many of the newest messages.
const NEWEST: u32 = 40;
/// A Maildir name has letters for 26 keywords a mailbox; we use fewer.
const MARKS_MAX: u32 = 24;

/// Where a node listens.
#[derive(Clone, Copy, Debug)]
pub(super) struct Doors {
    pub(super) imap: SocketAddr,
    pub(super) pop3: SocketAddr,
    pub(super) lmtp: SocketAddr,
}

impl Doors {
    pub(super) fn of(node: &Node) -> Self {
        Self { imap: node.imap(), pop3: node.pop3(), lmtp: node.lmtp() }
    }

    pub(super) fn imap(&self, account: usize, patience: Duration) -> Result<Imap> {
        Imap::login(self.imap, &user(account), &password(account), patience)
    }

    pub(super) fn pop3(&self, account: usize, patience: Duration) -> Result<Pop3> {
        Pop3::login(self.pop3, &user(account), &password(account), patience)
    }
}

/// A delivery whose fate is unknown for these accounts.
#[derive(Clone, Debug)]
struct Undelivered {
    token: String,
    accounts: Vec<usize>,
}

/// What all clients of a run share.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) doors: Vec<Doors>,
    pub(super) accounts: usize,
    pub(super) recorder: Recorder,
    pub(super) stopping: AtomicBool,
    acknowledged: AtomicUsize,
    sessions: AtomicU64,
    places: Mutex<BTreeMap<(usize, String), Place>>,
    undelivered: Mutex<Vec<Undelivered>>,
    faults: Mutex<Vec<String>>,
}

pub(super) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    pub(super) fn new(doors: Vec<Doors>, accounts: usize, recorder: Recorder) -> Self {
        Self {
            doors,
            accounts,
            recorder,
            stopping: AtomicBool::new(false),
            acknowledged: AtomicUsize::new(0),
            sessions: AtomicU64::new(1),
            places: Mutex::default(),
            undelivered: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    pub(super) fn fault(&self, what: String) {
        locked(&self.faults).push(what);
    }

    pub(super) fn faults(&self) -> Vec<String> {
        locked(&self.faults).clone()
    }

    pub(super) fn waiting(&self) -> usize {
        locked(&self.undelivered).len()
    }

    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// A number of its own for a session.
    fn session(&self) -> u64 {
        self.sessions.fetch_add(1, Ordering::AcqRel)
    }

    fn working(&self) -> bool {
        !self.stopping.load(Ordering::Acquire)
    }

    pub(super) fn spawn<'scope, 'arena: 'scope>(
        &'arena self,
        scope: &'scope Scope<'scope, '_>,
        seed: u64,
        works: &[Work],
    ) {
        let each = works.iter().flat_map(|work| (0..work.clients()).map(move |share| (*work, share)));
        for (client, (work, share)) in (1_u32..).zip(each) {
            let dice = Dice::part(seed, u64::from(client));
            let marks = BTreeMap::new();
            let mut worker = Worker { arena: self, client, share, seed, dice, made: 0, marks };
            scope.spawn(move || worker.work(work));
        }
    }

    /// Delivers through a node to these accounts; whatever was not acknowledged is kept to be tried again.
    fn deliver(&self, lmtp: &mut Lmtp, client: u32, token: &str, accounts: &[usize]) -> Result<()> {
        let begun = self.recorder.now_us();
        let recipients: Vec<String> = accounts.iter().map(|account| user(*account)).collect();
        let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let verdicts = lmtp.deliver("s@example.net", &to, &compose(token));
        let (each, mut end) = match verdicts {
            Ok(each) => (each, Ok(())),
            Err(failure) => (Vec::new(), Err(failure)),
        };
        let mut each = each.into_iter();
        let mut unknown = Vec::new();
        for account in accounts {
            let verdict = each.next().unwrap_or_else(|| Err(Failure::Lost(String::new())));
            let outcome = if verdict.is_ok() { Outcome::Ok } else { Outcome::Info };
            if verdict.is_ok() {
                self.acknowledged.fetch_add(1, Ordering::AcqRel);
            } else {
                unknown.push(*account);
            }
            let op = Op::Add { token: token.to_owned(), mailbox: "INBOX".to_owned(), placed: None };
            self.recorder.told(client, *account, begun, outcome, op);
            if matches!(verdict, Err(Failure::Lost(_) | Failure::Broken(_))) && end.is_ok() {
                end = verdict;
            }
        }
        if !unknown.is_empty() {
            locked(&self.undelivered).push(Undelivered { token: token.to_owned(), accounts: unknown });
        }
        end
    }

    /// One delivery of a new message, for who wants to know whether it works.
    pub(super) fn deliver_one(&self, node: &Doors, account: usize, token: &str, patience: Duration) -> bool {
        let before = self.waiting();
        let done = Lmtp::connect(node.lmtp, patience)
            .and_then(|mut lmtp| self.deliver(&mut lmtp, 0, token, &[account]));
        done.is_ok() && self.waiting() <= before
    }

    /// Tries again what may or may not have been delivered, through this node.
    pub(super) fn deliver_again(&self, node: &Doors, patience: Duration) -> Result<()> {
        let mut lmtp = Lmtp::connect(node.lmtp, patience)?;
        let again = std::mem::take(&mut *locked(&self.undelivered));
        let mut again = again.into_iter();
        for Undelivered { token, accounts } in again.by_ref() {
            if let Err(failure) = self.deliver(&mut lmtp, 0, &token, &accounts) {
                locked(&self.undelivered).extend(again);
                return Err(failure);
            }
        }
        lmtp.quit()
    }
}

struct Worker<'a> {
    arena: &'a Arena,
    client: u32,
    /// Which of the clients that do the same it is.
    share: usize,
    seed: u64,
    dice: Dice,
    made: u32,
    /// The last keyword that each message was given.
    marks: BTreeMap<(usize, String), u32>,
}

impl Worker<'_> {
    fn work(&mut self, work: Work) {
        while self.arena.working() {
            let ended = match work {
                Work::Deliver => self.deliver(),
                Work::Uid => self.look(),
                Work::Flags => self.mark(),
                Work::Pop3 => self.pop(),
            };
            match ended {
                Ok(()) => {}
                Err(Failure::Broken(what)) => self.arena.fault(format!("client {}: {what}", self.client)),
                Err(Failure::Refused(_) | Failure::Lost(_)) => self.rest(50, 300),
            }
        }
    }

    /// The pace of a person or a mailer, not that of a benchmark.
    fn rest(&mut self, low_ms: u64, high_ms: u64) {
        let time = Duration::from_millis(self.dice.between(low_ms, high_ms));
        let _over = wait::until(time, || (!self.arena.working()).then_some(()));
    }

    fn node(&mut self) -> Doors {
        let all = &self.arena.doors;
        all[self.dice.index(all.len())]
    }

    fn patience(&mut self) -> Duration {
        Duration::from_millis(self.dice.between(3_000, 26_000))
    }

    fn account(&mut self) -> usize {
        self.dice.index(self.arena.accounts)
    }

    fn told(&self, account: usize, begun: u64, outcome: Outcome, op: Op) {
        self.arena.recorder.told(self.client, account, begun, outcome, op);
    }

    fn deliver(&mut self) -> Result<()> {
        let mut lmtp = Lmtp::connect(self.node().lmtp, self.patience())?;
        for _ in 0..self.dice.between(1, 10) {
            if !self.arena.working() {
                break;
            }
            let again = if self.dice.once_in(2) { locked(&self.arena.undelivered).pop() } else { None };
            let Undelivered { token, accounts } = again.unwrap_or_else(|| self.new_message());
            self.arena.deliver(&mut lmtp, self.client, &token, &accounts)?;
            self.rest(10, 80);
        }
        lmtp.quit()
    }

    fn new_message(&mut self) -> Undelivered {
        self.made += 1;
        let token = format!("s{}-c{}-{}", self.seed, self.client, self.made);
        let mut accounts = BTreeSet::from([self.account()]);
        if self.dice.once_in(5) {
            accounts.insert(self.account());
        }
        Undelivered { token, accounts: accounts.into_iter().collect() }
    }

    /// A session that looks at INBOX once, or stays and looks again and again.
    fn look(&mut self) -> Result<()> {
        let (node, account, patience) = (self.node(), self.account(), self.patience());
        let mut imap = node.imap(account, patience)?;
        let mut begun = self.arena.recorder.now_us();
        let selected = imap.select("INBOX")?;
        self.selected(account, begun, &selected, imap.is_frozen());
        let session = self.arena.session();
        let looks = if self.dice.once_in(3) { self.dice.between(5, 40) } else { 1 };
        for look in 1..=looks {
            let first = selected.uidnext.saturating_sub(NEWEST).max(1);
            let items = "(UID FLAGS BODY.PEEK[HEADER.FIELDS (X-Token)])";
            let mut counters = BTreeMap::new();
            for one in imap.uid_fetch(&format!("{first}:*"), items)? {
                let (Some(uid), Some(token)) = (one.uid(), one.body().and_then(token_of)) else { continue };
                let place = Place { mailbox: "INBOX".to_owned(), uidvalidity: selected.uidvalidity, uid };
                counters.insert(token.clone(), counter(&one.flags().unwrap_or_default()));
                locked(&self.arena.places).insert((account, token.clone()), place.clone());
                self.told(account, begun, Outcome::Ok, Op::Met { token, place });
            }
            let frozen = imap.is_frozen();
            self.told(account, begun, Outcome::Ok, Op::Counters { session, frozen, counters });
            self.rest(50, 300);
            if look == looks || !self.arena.working() {
                break;
            }
            begun = self.arena.recorder.now_us();
            imap.command("NOOP")?;
        }
        imap.logout()
    }

    fn selected(&self, account: usize, begun: u64, selected: &Selected, frozen: bool) {
        let (uidvalidity, uidnext, modseq) = (selected.uidvalidity, selected.uidnext, selected.modseq);
        let mailbox = "INBOX".to_owned();
        let op = Op::Glance { frozen, mailbox, uidvalidity, uidnext, modseq };
        self.told(account, begun, Outcome::Ok, op);
    }

    /// Gives messages one keyword after the other.
    fn mark(&mut self) -> Result<()> {
        let (node, patience, clients) = (self.node(), self.patience(), Work::Flags.clients());
        let account = self.account() / clients * clients + self.share;
        if account >= self.arena.accounts {
            return Ok(());
        }
        let mut imap = node.imap(account, patience)?;
        let begun = self.arena.recorder.now_us();
        let selected = imap.select("INBOX")?;
        self.selected(account, begun, &selected, imap.is_frozen());
        for _ in 0..self.dice.between(1, 12) {
            let Some((token, uid)) = self.some_message(account, selected.uidvalidity) else { break };
            let mark = self.marks.entry((account, token.clone())).or_default();
            *mark += 1;
            if *mark > MARKS_MAX {
                continue;
            }
            let flag = format!("n{mark}");
            let begun = self.arena.recorder.now_us();
            let verdict = imap.command(&format!("UID STORE {uid} +FLAGS ({flag})"));
            let verdict = verdict.map(|reply| reply.fetched().iter().any(|one| one.uid() == Some(uid)));
            let outcome = match &verdict {
                Ok(true) => Outcome::Ok,
                // Deleted since somebody saw it.
                Ok(false) => Outcome::Fail,
                Err(_) => Outcome::Info,
            };
            let counter = u64::from(*mark);
            self.told(account, begun, outcome, Op::Flag { token: token.clone(), flag, set: true });
            self.told(account, begun, outcome, Op::Raise { token, counter });
            verdict?;
            self.rest(20, 120);
        }
        imap.logout()
    }

    fn some_message(&mut self, account: usize, uidvalidity: u32) -> Option<(String, u32)> {
        let places = locked(&self.arena.places);
        let ours =
            places.iter().filter(|((of, _), place)| *of == account && place.uidvalidity == uidvalidity);
        let mut ours: Vec<_> = ours.map(|((_, token), place)| (place.uid, token)).collect();
        ours.sort_unstable();
        // The newest, so that some get many keywords while readers look at them.
        let newest = ours.get(ours.len().saturating_sub(5)..)?;
        self.dice.pick(newest).map(|(uid, token)| ((*token).clone(), *uid))
    }

    /// Holds a maildrop for a while, and takes some messages away.
    fn pop(&mut self) -> Result<()> {
        // The last accounts are POP3's: enough messages stay in the others.
        let account = self.arena.accounts.saturating_sub(1 + self.dice.index(2));
        let (node, patience) = (self.node(), self.patience());
        let session = self.arena.session();
        let begun = self.arena.recorder.now_us();
        let mut pop3 = node.pop3(account, patience)?;
        self.told(account, begun, Outcome::Ok, Op::MaildropOpened { session });
        let marked = self.hold(&mut pop3, account, session)?;
        let begun = self.arena.recorder.now_us();
        let verdict = pop3.quit();
        // Refused means that some are left (RFC 1939 §6), not which.
        let certain = verdict.as_ref().is_ok_and(|told| !told.contains(FROZEN));
        let outcome = if certain { Outcome::Ok } else { Outcome::Info };
        self.told(account, begun, outcome, Op::Quit { session });
        for token in marked {
            locked(&self.arena.places).remove(&(account, token.clone()));
            self.told(account, begun, outcome, Op::Expunge { token, mailbox: "INBOX".to_owned() });
        }
        verdict?;
        self.rest(50, 400);
        Ok(())
    }

    /// Looks at some messages, marks some, and stays for a while. Tells which were marked.
    fn hold(&mut self, pop3: &mut Pop3, account: usize, session: u64) -> Result<Vec<String>> {
        let mut marked = Vec::new();
        for (number, _) in pop3.uidl()?.into_iter().take(12) {
            let begun = self.arena.recorder.now_us();
            let (told, head) = pop3.top(number)?;
            let token = token_of(&head).ok_or_else(|| Failure::Broken("TOP without token".to_owned()))?;
            self.answered(account, begun, session, &told);
            if self.dice.once_in(2) {
                let begun = self.arena.recorder.now_us();
                pop3.delete(number)?;
                self.told(account, begun, Outcome::Ok, Op::Marked { session, token: token.clone() });
                marked.push(token);
            }
        }
        for _ in 0..self.dice.below(15) {
            self.rest(50, 150);
            let begun = self.arena.recorder.now_us();
            let told = pop3.command("NOOP")?;
            self.answered(account, begun, session, &told);
        }
        Ok(marked)
    }

    /// A session that has its maildrop was answered. One that the server marks as perhaps behind may have it no longer.
    fn answered(&self, account: usize, begun: u64, session: u64, told: &str) {
        if !told.contains(FROZEN) {
            self.told(account, begun, Outcome::Ok, Op::MaildropAnswered { session });
        }
    }
}

/// A counter is the highest of the keywords `n1`, `n2` and so on.
fn counter(flags: &BTreeSet<String>) -> u64 {
    flags.iter().filter_map(|flag| flag.strip_prefix('n')?.parse().ok()).max().unwrap_or(0)
}
