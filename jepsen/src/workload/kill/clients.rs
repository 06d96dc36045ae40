//! Clients that work until the server dies under them.
//!
//! Invariants
//! - A message is moved and expunged by one client only, one thing at a time; anybody may set its flags.
//! - Every operation is recorded once, also that during which the server died.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::Scope;

use super::ACCOUNTS;
use super::message::{compose, token_of};
use crate::client::imap::{Imap, Placed};
use crate::client::lmtp::Lmtp;
use crate::client::{Failure, Result};
use crate::dice::Dice;
use crate::history::{MailboxView, Op, Outcome, Place, Recorder};
use crate::server::{Ports, user};

/// Above this many messages an account is thinned out, to keep rounds short.
const MESSAGES_MAX: usize = 40;
const ARCHIVE: &str = "Archive";
const FLAGS: [&str; 5] = ["\\Seen", "\\Flagged", "\\Answered", "$Forwarded", "work"];

/// A delivery whose fate is unknown for these accounts.
#[derive(Clone, Debug)]
struct Undelivered {
    token: String,
    accounts: Vec<usize>,
}

/// What all clients of a run share.
#[derive(Debug)]
pub(super) struct Arena {
    pub(super) ports: Ports,
    pub(super) recorder: Recorder,
    pub(super) stopping: AtomicBool,
    /// Whether mailers send some messages once more.
    repeating: bool,
    acknowledged: AtomicUsize,
    places: Mutex<BTreeMap<(usize, String), Place>>,
    undelivered: Mutex<Vec<Undelivered>>,
    faults: Mutex<Vec<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Arena {
    pub(super) fn new(ports: Ports, repeating: bool, recorder: Recorder) -> Self {
        Self {
            ports,
            recorder,
            stopping: AtomicBool::new(false),
            repeating,
            acknowledged: AtomicUsize::new(0),
            places: Mutex::default(),
            undelivered: Mutex::default(),
            faults: Mutex::default(),
        }
    }

    pub(super) fn acknowledged(&self) -> usize {
        self.acknowledged.load(Ordering::Acquire)
    }

    /// What clients were told that is not in the protocol.
    pub(super) fn faults(&self) -> Vec<String> {
        locked(&self.faults).clone()
    }

    pub(super) fn spawn<'scope, 'arena: 'scope>(
        &'arena self,
        scope: &'scope Scope<'scope, '_>,
        seed: u64,
        round: u32,
    ) {
        let works = [
            (0, Work::Deliver),
            (1, Work::Deliver),
            (0, Work::Append),
            (1, Work::Append),
            (0, Work::Flag),
            (0, Work::Flag),
            (1, Work::Flag),
            (0, Work::Shift),
            (1, Work::Shift),
        ];
        for (client, (account, work)) in (1_u32..).zip(works) {
            let dice = Dice::part(seed, (u64::from(round) << 8) + u64::from(client));
            let mut worker = Worker { arena: self, client, account, round, dice, made: 0 };
            scope.spawn(move || {
                if let Err(Failure::Broken(what)) = worker.work(work) {
                    locked(&self.faults).push(format!("client {client}: {what}"));
                }
            });
        }
    }

    /// Where a complete read found everything.
    pub(super) fn place_all(&self, account: usize, mailboxes: &[MailboxView]) {
        let mut places = locked(&self.places);
        places.retain(|(of, _), _| *of != account);
        for view in mailboxes {
            for seen in &view.messages {
                let (mailbox, uidvalidity) = (view.mailbox.clone(), view.uidvalidity);
                places.insert((account, seen.token.clone()), Place { mailbox, uidvalidity, uid: seen.uid });
            }
        }
    }

    /// Tries again what may or may not have been delivered, as the mailer would.
    pub(super) fn deliver_again(&self) -> Result<()> {
        let again = std::mem::take(&mut *locked(&self.undelivered));
        if again.is_empty() {
            return Ok(());
        }
        let mut lmtp = self.ports.lmtp()?;
        for Undelivered { token, accounts } in again {
            self.deliver_to(&mut lmtp, 0, &token, &accounts, false)?;
        }
        lmtp.quit()
    }

    fn deliver_to(
        &self,
        lmtp: &mut Lmtp,
        client: u32,
        token: &str,
        accounts: &[usize],
        chunked: bool,
    ) -> Result<()> {
        let begun = self.recorder.now_us();
        let recipients: Vec<String> = accounts.iter().map(|account| user(*account)).collect();
        let to: Vec<&str> = recipients.iter().map(String::as_str).collect();
        let message = compose(token);
        let verdicts = if chunked {
            lmtp.deliver_chunked("s@example.net", &to, &message)
        } else {
            lmtp.deliver("s@example.net", &to, &message)
        };
        let mut unknown = Vec::new();
        let mut worst = Ok(());
        let each = verdicts.unwrap_or_else(|failure| accounts.iter().map(|_| Err(again(&failure))).collect());
        for (account, verdict) in accounts.iter().zip(each) {
            let outcome = outcome_of(&verdict);
            if outcome == Outcome::Info {
                unknown.push(*account);
            }
            let op = Op::Add { token: token.to_owned(), mailbox: "INBOX".to_owned(), placed: None };
            self.told(client, *account, begun, outcome, op);
            if matches!(verdict, Err(Failure::Lost(_) | Failure::Broken(_))) {
                worst = verdict;
            }
        }
        if !unknown.is_empty() {
            locked(&self.undelivered).push(Undelivered { token: token.to_owned(), accounts: unknown });
        }
        worst
    }

    fn told(&self, client: u32, account: usize, begun: u64, outcome: Outcome, op: Op) {
        self.recorder.told(client, account, begun, outcome, op);
        if outcome == Outcome::Ok {
            self.acknowledged.fetch_add(1, Ordering::AcqRel);
        }
    }
}

fn again(failure: &Failure) -> Failure {
    match failure {
        Failure::Refused(why) => Failure::Refused(why.clone()),
        Failure::Lost(why) => Failure::Lost(why.clone()),
        Failure::Broken(why) => Failure::Broken(why.clone()),
    }
}

fn outcome_of<T>(verdict: &Result<T>) -> Outcome {
    match verdict {
        Ok(_) => Outcome::Ok,
        Err(Failure::Refused(_)) => Outcome::Fail,
        Err(Failure::Lost(_) | Failure::Broken(_)) => Outcome::Info,
    }
}

/// A refusal is an answer: the client goes on.
fn unless_refused<T>(verdict: Result<T>) -> Result<Option<T>> {
    match verdict {
        Ok(value) => Ok(Some(value)),
        Err(Failure::Refused(_)) => Ok(None),
        Err(failure) => Err(failure),
    }
}

#[derive(Clone, Copy)]
enum Work {
    Deliver,
    Append,
    Flag,
    Shift,
}

struct Worker<'a> {
    arena: &'a Arena,
    client: u32,
    account: usize,
    round: u32,
    dice: Dice,
    made: u32,
}

/// An IMAP session that remembers what it has selected and which UIDs it has met.
struct Eye {
    imap: Imap,
    selected: Option<(String, u32)>,
    next: u32,
}

impl Worker<'_> {
    fn work(&mut self, work: Work) -> Result<()> {
        match work {
            Work::Deliver => self.deliver(),
            Work::Append => self.append(),
            Work::Flag => self.flag(),
            Work::Shift => self.shift(),
        }
    }

    fn working(&self) -> bool {
        !self.arena.stopping.load(Ordering::Acquire)
    }

    fn token(&mut self) -> String {
        self.made += 1;
        format!("r{}-c{}-{}", self.round, self.client, self.made)
    }

    fn told(&self, begun: u64, outcome: Outcome, op: Op) {
        self.arena.told(self.client, self.account, begun, outcome, op);
    }

    fn deliver(&mut self) -> Result<()> {
        let mut lmtp = self.arena.ports.lmtp()?;
        let chunking = lmtp.offers("CHUNKING");
        let everybody: Vec<usize> = (0..ACCOUNTS).collect();
        while self.working() {
            let token = self.token();
            let accounts = if self.dice.once_in(4) { everybody.clone() } else { vec![self.account] };
            let chunked = chunking && self.dice.once_in(4);
            self.arena.deliver_to(&mut lmtp, self.client, &token, &accounts, chunked)?;
            // A mailer that lost the 250 sends it once more, perhaps at once.
            if self.dice.once_in(10) && self.arena.repeating {
                self.arena.deliver_to(&mut lmtp, self.client, &token, &accounts, false)?;
            }
        }
        Ok(())
    }

    fn append(&mut self) -> Result<()> {
        let mut imap = self.arena.ports.imap(self.account)?;
        let _there_already = unless_refused(imap.command(&format!("CREATE {ARCHIVE}")))?;
        while self.working() {
            let token = self.token();
            let mailbox = if self.dice.once_in(3) { ARCHIVE } else { "INBOX" };
            let flag = if self.dice.once_in(2) { "\\Seen" } else { "" };
            let begun = self.arena.recorder.now_us();
            let verdict = imap.append(mailbox, flag, &compose(&token));
            let outcome = outcome_of(&verdict);
            let placed = verdict.as_ref().ok().and_then(|placed| place(mailbox, *placed));
            let op = Op::Add { token: token.clone(), mailbox: mailbox.to_owned(), placed: placed.clone() };
            if !flag.is_empty() {
                let (token, flag) = (token.clone(), flag.to_owned());
                self.told(begun, outcome, Op::Flag { token, flag, set: true });
            }
            self.told(begun, outcome, op);
            if let Some(placed) = placed {
                locked(&self.arena.places).insert((self.account, token), placed);
            }
            unless_refused(verdict)?;
        }
        Ok(())
    }

    fn flag(&mut self) -> Result<()> {
        let mut eye = self.eye()?;
        while self.working() {
            self.look(&mut eye)?;
            let Some((token, place)) = self.any_message() else { continue };
            if !self.turn_to(&mut eye, &place)? {
                continue;
            }
            let flag = self.dice.pick(&FLAGS).copied().unwrap_or("\\Seen");
            let set = self.dice.once_in(2);
            let sign = if set { '+' } else { '-' };
            let begun = self.arena.recorder.now_us();
            let verdict = eye.imap.command(&format!("UID STORE {} {sign}FLAGS ({flag})", place.uid));
            let verdict = verdict.map(|reply| reply.fetched().iter().any(|one| one.uid() == Some(place.uid)));
            let outcome = match verdict {
                // Moved away or expunged since we looked: nothing to flag.
                Ok(false) => Outcome::Fail,
                Ok(true) | Err(_) => outcome_of(&verdict),
            };
            self.told(begun, outcome, Op::Flag { token, flag: flag.to_owned(), set });
            unless_refused(verdict)?;
        }
        Ok(())
    }

    /// Moves and expunges.
    fn shift(&mut self) -> Result<()> {
        let mut eye = self.eye()?;
        while self.working() {
            self.look(&mut eye)?;
            let count =
                locked(&self.arena.places).keys().filter(|(account, _)| *account == self.account).count();
            let Some((token, place)) = self.any_message() else { continue };
            if self.dice.once_in(12) {
                self.pop()?;
            } else if !self.turn_to(&mut eye, &place)? {
                continue;
            } else if count > MESSAGES_MAX || self.dice.once_in(4) {
                self.expunge(&mut eye, token, &place)?;
            } else {
                self.move_away(&mut eye, token, &place)?;
            }
        }
        Ok(())
    }

    fn expunge(&mut self, eye: &mut Eye, token: String, place: &Place) -> Result<()> {
        let (uid, mailbox) = (place.uid, place.mailbox.clone());
        let marked = unless_refused(eye.imap.command(&format!("UID STORE {uid} +FLAGS (\\Deleted)")))?;
        // Without an answer for this UID it is not there, and we would not be told by EXPUNGE either.
        if !marked.is_some_and(|reply| reply.fetched().iter().any(|one| one.uid() == Some(uid))) {
            self.forget(&token);
            return Ok(());
        }
        let begun = self.arena.recorder.now_us();
        let verdict = eye.imap.command(&format!("UID EXPUNGE {uid}"));
        self.forget(&token);
        self.told(begun, outcome_of(&verdict), Op::Expunge { token, mailbox });
        unless_refused(verdict).map(drop)
    }

    fn move_away(&mut self, eye: &mut Eye, token: String, from: &Place) -> Result<()> {
        let to = if from.mailbox == ARCHIVE { "INBOX" } else { ARCHIVE };
        let begun = self.arena.recorder.now_us();
        let verdict = eye.imap.uid_move(from.uid, to);
        let placed = verdict.as_ref().ok().and_then(|placed| place(to, *placed));
        let outcome = match &verdict {
            // No COPYUID: nothing was moved (RFC 6851 §4.3).
            Ok(None) => Outcome::Fail,
            Ok(Some(_)) | Err(_) => outcome_of(&verdict),
        };
        let (from, to) = (from.mailbox.clone(), to.to_owned());
        if let Some(placed) = placed.clone() {
            locked(&self.arena.places).insert((self.account, token.clone()), placed);
        } else {
            self.forget(&token);
        }
        self.told(begun, outcome, Op::Move { token, from, to, placed });
        unless_refused(verdict).map(drop)
    }

    /// Takes two messages by POP3: they go when QUIT is answered.
    fn pop(&mut self) -> Result<()> {
        let Some(mut pop3) = unless_refused(self.arena.ports.pop3(self.account))? else { return Ok(()) };
        let (count, _) = pop3.stat()?;
        let mut taken = Vec::new();
        for number in 1..=count.min(2) {
            let Some((_, message)) = unless_refused(pop3.top(number))? else { continue };
            pop3.delete(number)?;
            let token = token_of(&message).ok_or_else(|| Failure::Broken("TOP without token".to_owned()))?;
            taken.push(token);
        }
        let begun = self.arena.recorder.now_us();
        let verdict = pop3.quit();
        // -ERR means that some are left (RFC 1939 §6), not which.
        let outcome = if verdict.is_ok() { Outcome::Ok } else { Outcome::Info };
        for token in taken {
            self.forget(&token);
            self.told(begun, outcome, Op::Expunge { token, mailbox: "INBOX".to_owned() });
        }
        unless_refused(verdict).map(drop)
    }

    fn forget(&self, token: &str) {
        locked(&self.arena.places).remove(&(self.account, token.to_owned()));
    }

    fn any_message(&mut self) -> Option<(String, Place)> {
        let places = locked(&self.arena.places);
        let ours: Vec<_> = places.iter().filter(|((account, _), _)| *account == self.account).collect();
        self.dice.pick(&ours).map(|((_, token), place)| (token.clone(), (*place).clone()))
    }

    fn eye(&self) -> Result<Eye> {
        let mut imap = self.arena.ports.imap(self.account)?;
        let _there_already = unless_refused(imap.command(&format!("CREATE {ARCHIVE}")))?;
        Ok(Eye { imap, selected: None, next: 1 })
    }

    fn select(&self, eye: &mut Eye, mailbox: &str) -> Result<()> {
        let selected = eye.imap.select(mailbox)?;
        eye.selected = Some((mailbox.to_owned(), selected.uidvalidity));
        // What was there before we came is known from the read before; new ones are looked for.
        eye.next = selected.uidnext.saturating_sub(5).max(1);
        Ok(())
    }

    /// Whether the place is still what it was when we have turned to its mailbox.
    fn turn_to(&self, eye: &mut Eye, place: &Place) -> Result<bool> {
        if eye.selected.as_ref().is_none_or(|(mailbox, _)| *mailbox != place.mailbox) {
            self.select(eye, &place.mailbox)?;
        }
        Ok(eye.selected.as_ref().is_some_and(|(_, validity)| *validity == place.uidvalidity))
    }

    /// Learns which messages came by delivery.
    fn look(&self, eye: &mut Eye) -> Result<()> {
        if eye.selected.is_none() {
            self.select(eye, "INBOX")?;
        }
        let Some((mailbox, uidvalidity)) = eye.selected.clone() else { return Ok(()) };
        let begun = self.arena.recorder.now_us();
        let set = format!("{}:*", eye.next);
        let fetched = eye.imap.uid_fetch(&set, "(UID BODY.PEEK[HEADER.FIELDS (X-Token)])")?;
        for one in fetched {
            let (Some(uid), Some(body)) = (one.uid(), one.body()) else { continue };
            let Some(token) = token_of(body).filter(|_| uid >= eye.next) else { continue };
            eye.next = uid + 1;
            let place = Place { mailbox: mailbox.clone(), uidvalidity, uid };
            let op = Op::Met { token: token.clone(), place: place.clone() };
            self.arena.recorder.told(self.client, self.account, begun, Outcome::Ok, op);
            locked(&self.arena.places).entry((self.account, token)).or_insert(place);
        }
        Ok(())
    }
}

fn place(mailbox: &str, placed: Option<Placed>) -> Option<Place> {
    placed.map(|(uidvalidity, uid)| Place { mailbox: mailbox.to_owned(), uidvalidity, uid })
}
