//! Clients of two servers at work in the same accounts, and what they were told.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::client::imap::Imap;
use crate::client::lmtp::Lmtp;
use crate::client::{Failure, Result};
use crate::dice::Dice;
use crate::server::{password, user};
use crate::strangers::is_below_trace;
use crate::workload::kill::message::{compose, token_of};

pub(super) const IMAP: u16 = 143;
pub(super) const LMTP: u16 = 24;
const PATIENCE: Duration = Duration::from_secs(60);
/// Of so many messages, one is to be expunged.
const EXPUNGED: u32 = 3;
const FLAGS: [&str; 4] = ["\\Flagged", "\\Answered", "$Forwarded", "Later"];

/// A message of an account.
pub(super) type Name = (usize, String);

/// What clients were told.
#[derive(Clone, Debug, Default)]
pub(super) struct Ledger {
    pub(super) delivered: BTreeSet<Name>,
    pub(super) expunging: BTreeSet<Name>,
    pub(super) expunged: BTreeSet<Name>,
    pub(super) flagged: BTreeSet<(Name, String)>,
    /// Account, UIDVALIDITY and UID, and what they were seen to name.
    pub(super) places: BTreeMap<(usize, u32, u32), BTreeSet<String>>,
    /// Operations that were refused, or that the server hung up on.
    pub(super) refused: usize,
}

/// INBOX as one server shows it; not set where it could not be read.
pub(super) type Reading = Option<Vec<Message>>;

#[derive(Clone, Debug)]
pub(super) struct Message {
    pub(super) uidvalidity: u32,
    pub(super) uid: u32,
    /// Not set where it has none: it is not what was sent.
    pub(super) token: Option<String>,
    pub(super) flags: BTreeSet<String>,
    pub(super) intact: bool,
}

struct Worker<'a> {
    server: Ipv4Addr,
    account: usize,
    name: String,
    dice: Dice,
    until: Instant,
    ledger: &'a Mutex<Ledger>,
}

pub(super) fn run(seed: u64, servers: [Ipv4Addr; 2], accounts: usize, lasting: Duration) -> Ledger {
    let ledger = Mutex::new(Ledger::default());
    let until = Instant::now() + lasting;
    std::thread::scope(|scope| {
        let mut number = 0;
        for (server, at) in servers.iter().zip(1..) {
            for account in 0..accounts {
                for delivers in [true, true, false, false] {
                    number += 1;
                    let mut worker = Worker {
                        server: *server,
                        account,
                        name: format!("s{seed}-{at}-{number}"),
                        dice: Dice::part(seed, number),
                        until,
                        ledger: &ledger,
                    };
                    scope.spawn(move || worker.work(delivers));
                }
            }
        }
    });
    ledger.into_inner().unwrap_or_else(PoisonError::into_inner)
}

impl Worker<'_> {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn goes_on(&self) -> bool {
        Instant::now() < self.until
    }

    /// The pace of people and mailers.
    fn rest(&mut self) {
        std::thread::sleep(Duration::from_millis(self.dice.between(10, 60)));
    }

    fn work(&mut self, delivers: bool) {
        let mut number = 0;
        while self.goes_on() {
            let ended = if delivers { self.deliver(&mut number) } else { self.change() };
            if ended.is_err() {
                self.ledger().refused += 1;
            }
            self.rest();
        }
    }

    fn deliver(&mut self, number: &mut u32) -> Result<()> {
        let mut lmtp = Lmtp::connect((self.server, LMTP).into(), PATIENCE)?;
        for _ in 0..self.dice.between(1, 5) {
            *number += 1;
            let token = format!("{}-{number}", self.name);
            let verdict = lmtp.deliver("s@example.net", &[&user(self.account)], &compose(&token))?.pop();
            match verdict {
                Some(Ok(())) => {
                    self.ledger().delivered.insert((self.account, token));
                }
                Some(Err(_)) | None => self.ledger().refused += 1,
            }
            self.rest();
        }
        lmtp.quit()
    }

    /// A session that looks, flags and expunges.
    fn change(&mut self) -> Result<()> {
        let mut imap =
            Imap::login((self.server, IMAP).into(), &user(self.account), &password(self.account), PATIENCE)?;
        let selected = imap.select("INBOX")?;
        for _ in 0..self.dice.between(1, 8) {
            let mut seen = BTreeMap::new();
            let first = selected.uidnext.saturating_sub(30).max(1);
            for one in imap.uid_fetch(&format!("{first}:*"), "(UID BODY.PEEK[HEADER.FIELDS (X-Token)])")? {
                let (Some(uid), Some(token)) = (one.uid(), one.body().and_then(token_of)) else { continue };
                let place = (self.account, selected.uidvalidity, uid);
                self.ledger().places.entry(place).or_default().insert(token.clone());
                seen.insert(uid, token);
            }
            let seen: Vec<(u32, String)> = seen.into_iter().collect();
            for _ in 0..3 {
                let Some((uid, token)) = self.dice.pick(&seen).cloned() else { break };
                self.change_one(&mut imap, uid, (self.account, token))?;
                self.rest();
            }
            if !self.goes_on() {
                break;
            }
        }
        imap.logout()
    }

    fn change_one(&mut self, imap: &mut Imap, uid: u32, name: Name) -> Result<()> {
        if is_expunged(&name.1) {
            self.ledger().expunging.insert(name.clone());
            imap.command(&format!("UID STORE {uid} +FLAGS (\\Deleted)"))?;
            imap.command(&format!("UID EXPUNGE {uid}"))?;
            self.ledger().expunged.insert(name);
            return Ok(());
        }
        let flag = self.dice.pick(&FLAGS).copied().unwrap_or("\\Flagged");
        let reply = imap.command(&format!("UID STORE {uid} +FLAGS ({flag})"))?;
        let told = reply
            .fetched()
            .iter()
            .any(|one| one.uid() == Some(uid) && one.flags().is_some_and(|flags| flags.contains(flag)));
        if told {
            self.ledger().flagged.insert((name, flag.to_owned()));
        }
        Ok(())
    }
}

/// Whether a message is one to be expunged.
fn is_expunged(token: &str) -> bool {
    let sum = token.bytes().fold(0_u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(byte)));
    sum.is_multiple_of(EXPUNGED)
}

/// Every account through both servers, one after the other.
pub(super) fn read(servers: [Ipv4Addr; 2], accounts: usize) -> Vec<[Reading; 2]> {
    (0..accounts).map(|account| servers.map(|server| inbox(server, account).ok())).collect()
}

fn inbox(server: Ipv4Addr, account: usize) -> Result<Vec<Message>> {
    let mut imap = Imap::login((server, IMAP).into(), &user(account), &password(account), PATIENCE)?;
    let selected = imap.select("INBOX")?;
    let mut messages = Vec::new();
    if selected.exists > 0 {
        for one in imap.uid_fetch("1:*", "(UID FLAGS BODY.PEEK[])")? {
            let broken = || Failure::Broken("FETCH without UID".to_owned());
            let token = one.body().and_then(token_of);
            let sent = token.as_deref().map(compose);
            let intact = sent.zip(one.body()).is_some_and(|(sent, body)| is_below_trace(body, &sent));
            let (uid, flags) = (one.uid().ok_or_else(broken)?, one.flags().unwrap_or_default());
            messages.push(Message { uidvalidity: selected.uidvalidity, uid, token, flags, intact });
        }
    }
    imap.logout()?;
    Ok(messages)
}
