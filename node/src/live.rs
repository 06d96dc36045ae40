//! Live sessions: who is connected, what they do, and how to end them (`roost who`, `roost kick`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use model::AccountId;
use serde::Serialize;
use session::Doing;
use tokio::sync::watch;

use crate::handover::Leaving;
use crate::router::Owner;

/// How a session is told to end, or to go on elsewhere.
#[derive(Clone, Debug, Default)]
pub enum End {
    #[default]
    None,
    Kicked(&'static str),
    /// The account has another owner now.
    Moved,
    /// The account is about to have another owner, where the session can go on.
    Leaving(Leaving),
}

/// The other end of a session that is carried between two nodes. It is listed at both.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Via {
    /// The client is at that node, under that id.
    From { node: u8, session: String },
    /// The account is at that node.
    To { node: u8 },
}

impl std::fmt::Display for Via {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::From { node, session } => write!(f, "from node {node} ({session})"),
            Self::To { node } => write!(f, "to node {node}"),
        }
    }
}

/// One session, for `roost who`.
#[derive(Clone, Debug, Serialize)]
pub struct Who {
    pub session: String,
    pub protocol: &'static str,
    pub user: Option<String>,
    pub remote: IpAddr,
    pub tls: bool,
    pub since_unix_s: i64,
    pub command: &'static str,
    pub mailbox: Option<String>,
    /// Whose other end it is, if it is carried.
    pub via: Option<Via>,
}

/// The table of live sessions.
#[derive(Default)]
pub struct Live {
    next: AtomicU64,
    sessions: Mutex<BTreeMap<u64, Entry>>,
}

struct Entry {
    who: Who,
    end: watch::Sender<End>,
    /// The account, and its owner when the session began to use it.
    account: Option<(AccountId, Owner)>,
}

/// A session's place in the table; leaving it takes the session out.
pub struct Place {
    live: Arc<Live>,
    number: u64,
    pub end: watch::Receiver<End>,
}

impl Live {
    /// Enters a session. `run` tells the ids of this run from those of others.
    pub fn enter(self: &Arc<Self>, run: u32, protocol: &'static str, remote: IpAddr, tls: bool) -> Place {
        self.enter_via(run, protocol, remote, tls, None)
    }

    /// Enters a session that another node has carried here.
    pub fn enter_via(
        self: &Arc<Self>,
        run: u32,
        protocol: &'static str,
        remote: IpAddr,
        tls: bool,
        via: Option<Via>,
    ) -> Place {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, end) = watch::channel(End::None);
        let who = Who {
            session: format!("{run:08x}-{number:x}"),
            protocol,
            user: None,
            remote,
            tls,
            since_unix_s: crate::time::unix_s(),
            command: "waiting",
            mailbox: None,
            via,
        };
        self.lock().insert(number, Entry { who, end: sender, account: None });
        Place { live: Arc::clone(self), number, end }
    }

    pub fn list(&self) -> Vec<Who> {
        self.lock().values().map(|entry| entry.who.clone()).collect()
    }

    pub fn count(&self, protocol: &str) -> usize {
        self.lock().values().filter(|entry| entry.who.protocol == protocol).count()
    }

    /// Sessions of one user, of all protocols, that are served here.
    pub fn count_of(&self, user: &str) -> usize {
        let served =
            |who: &Who| who.user.as_deref() == Some(user) && !matches!(who.via, Some(Via::To { .. }));
        self.lock().values().filter(|entry| served(&entry.who)).count()
    }

    /// Ends the sessions whose account has another owner than when they began. Returns how many there were.
    pub fn end_moved(&self, has_moved: impl Fn(AccountId, Owner) -> bool) -> usize {
        let sessions = self.lock();
        let moved = |entry: &&Entry| entry.account.is_some_and(|(account, was)| has_moved(account, was));
        let mut count = 0;
        for entry in sessions.values().filter(moved) {
            entry.end.send_replace(End::Moved);
            count += 1;
        }
        count
    }

    /// Tells the sessions that use accounts of this bucket here. Returns how many there were.
    pub fn leave(&self, bucket: u16, leaving: &Leaving) -> usize {
        let sessions = self.lock();
        let theirs = |entry: &&Entry| {
            entry.account.is_some_and(|(account, owner)| account.bucket() == bucket && owner == Owner::Here)
        };
        let mut count = 0;
        for entry in sessions.values().filter(theirs) {
            entry.end.send_replace(End::Leaving(leaving.clone()));
            count += 1;
        }
        count
    }

    /// Connections of one address that have not logged in, but for those of one protocol.
    pub fn strangers(&self, remote: IpAddr, but: &str) -> usize {
        let stranger = |who: &Who| who.user.is_none() && who.remote == remote && who.protocol != but;
        self.lock().values().filter(|entry| stranger(&entry.who)).count()
    }

    /// Ends the sessions of a user. Returns how many there were.
    pub fn kick(&self, user: &str, why: &'static str) -> usize {
        let sessions = self.lock();
        let theirs = sessions.values().filter(|entry| entry.who.user.as_deref() == Some(user));
        let mut count = 0;
        for entry in theirs {
            entry.end.send_replace(End::Kicked(why));
            count += 1;
        }
        count
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, Entry>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Place {
    /// The session's id, as it stands in the log.
    pub fn id(&self) -> String {
        self.live.lock().get(&self.number).map(|entry| entry.who.session.clone()).unwrap_or_default()
    }

    /// The session uses this account from here on; when it gets another owner, the session ends. What was said of an
    /// owner before means nothing any more.
    pub fn bind(&self, account: AccountId, owner: Owner) {
        if let Some(entry) = self.live.lock().get_mut(&self.number) {
            entry.account = Some((account, owner));
            entry.end.send_if_modified(|end| {
                if matches!(end, End::Moved) {
                    *end = End::None;
                }
                false
            });
        }
    }

    /// The account is at another node, and the session is carried there.
    pub fn carried(&self, user: String, node: u8) {
        if let Some(entry) = self.live.lock().get_mut(&self.number) {
            entry.who.user = Some(user);
            entry.who.command = "carried";
            entry.who.via = Some(Via::To { node });
        }
    }

    /// The account has come to this node, and the session is served here.
    pub fn served_here(&self) {
        if let Some(entry) = self.live.lock().get_mut(&self.number) {
            entry.who.via = None;
        }
    }

    /// How the session is to end, now that `end` has changed. It is told once.
    pub fn ending(&mut self) -> End {
        self.end.mark_unchanged();
        let mut told = End::None;
        if let Some(entry) = self.live.lock().get(&self.number) {
            entry.end.send_if_modified(|end| {
                told = std::mem::take(end);
                false
            });
        }
        told
    }

    /// Ends this session, whoever holds it.
    pub fn ender(&self) -> watch::Sender<End> {
        let ender = self.live.lock().get(&self.number).map(|entry| entry.end.clone());
        // It is in the table as long as it has a place.
        ender.unwrap_or_default()
    }

    pub fn update(&self, doing: Doing, tls: bool) {
        if let Some(entry) = self.live.lock().get_mut(&self.number) {
            entry.who.user = doing.user;
            entry.who.command = doing.command;
            entry.who.mailbox = doing.mailbox;
            entry.who.tls = tls;
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.live.lock().remove(&self.number);
    }
}
