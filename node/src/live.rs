//! Live sessions: who is connected, what they do, and how to end them (`roost who`, `roost kick`).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;
use session::Doing;
use tokio::sync::watch;

/// How a session is told to end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    None,
    Kicked(&'static str),
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
        };
        self.lock().insert(number, Entry { who, end: sender });
        Place { live: Arc::clone(self), number, end }
    }

    pub fn list(&self) -> Vec<Who> {
        self.lock().values().map(|entry| entry.who.clone()).collect()
    }

    pub fn count(&self, protocol: &str) -> usize {
        self.lock().values().filter(|entry| entry.who.protocol == protocol).count()
    }

    /// Sessions of one user, of all protocols.
    pub fn count_of(&self, user: &str) -> usize {
        self.lock().values().filter(|entry| entry.who.user.as_deref() == Some(user)).count()
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
