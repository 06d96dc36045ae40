//! Each protocol that this node serves: how its sessions begin, with which options.

use std::sync::Arc;

use config::Config;
use session::blob::{Blob, BlobRefused, Protocol};
use session::imap::{self, Imap};
use session::lmtp::{self, Lmtp};
use session::pop3::{self, Pop3};
use session::{Connection, LoggedIn, PendingLogin, Session, Timeouts};

use crate::listener::{Begin, Protocol as Served};
use crate::time;

/// The protocol of a `[listen]` key.
pub fn protocol(key: &'static str, config: &Config) -> Served {
    match key {
        "imap" | "imaps" => Served { name: "imap", implicit_tls: key == "imaps", begin: imap(config) },
        "pop3" | "pop3s" => Served { name: "pop3", implicit_tls: key == "pop3s", begin: pop3(config) },
        _ => Served { name: "lmtp", implicit_tls: false, begin: lmtp(config) },
    }
}

/// Makes the sessions of clients that are not new: they have logged in at another node, or were served there.
pub struct Admit {
    imap: imap::Options,
    pop3: pop3::Options,
}

/// The protocols whose sessions other nodes carry here.
pub fn admit(config: &Config) -> Admit {
    Admit { imap: imap_options(config), pop3: pop3_options(config) }
}

impl Admit {
    /// A client whose login is to be answered.
    pub fn begin(
        &self,
        connection: Connection,
        logged_in: LoggedIn,
        login: &PendingLogin,
    ) -> Box<dyn Session> {
        match login {
            PendingLogin::Imap { tag } => {
                let (now, unix_s) = (time::now(), time::unix_s());
                Box::new(Imap::admitted(connection, self.imap, now, unix_s, logged_in, tag))
            }
            PendingLogin::Pop3 => {
                Box::new(Pop3::admitted(time::now(), connection, self.pop3.clone(), logged_in))
            }
        }
    }

    /// A client that is to notice nothing.
    pub fn resume(
        &self,
        connection: Connection,
        logged_in: LoggedIn,
        blob: &Blob,
    ) -> Result<Box<dyn Session>, BlobRefused> {
        Ok(match blob.protocol()? {
            Protocol::Imap => {
                let (now, unix_s) = (time::now(), time::unix_s());
                Box::new(Imap::resumed(connection, self.imap, now, unix_s, logged_in, blob)?)
            }
            Protocol::Pop3 => {
                Box::new(Pop3::resumed(time::now(), connection, self.pop3.clone(), logged_in, blob)?)
            }
        })
    }

    /// Whether a POP3 session has its maildrop to itself.
    pub fn locks_maildrop(&self) -> bool {
        self.pop3.lock
    }
}

fn imap_options(config: &Config) -> imap::Options {
    imap::Options {
        timeouts: Timeouts {
            before_login: config.limits.login_timeout,
            idle: config.limits.imap_idle_timeout,
        },
        append_bytes_max: config.limits.message_size.0,
        line_bytes_max: bytes(config.limits.imap_line),
        literal_bytes_max: bytes(config.limits.imap_literal),
        login_failures_max: config.limits.login_attempts,
    }
}

fn imap(config: &Config) -> Begin {
    let options = imap_options(config);
    Arc::new(move |connection: Connection| -> Box<dyn Session> {
        Box::new(Imap::new(connection, options, time::now(), time::unix_s()))
    })
}

fn pop3_options(config: &Config) -> pop3::Options {
    pop3::Options {
        before_login: config.limits.login_timeout,
        idle: config.limits.pop3_idle_timeout,
        uidl_format: config.quirks.pop3_uidl_format.clone(),
        lock: config.quirks.pop3_lock,
        login_failures_max: config.limits.login_attempts,
    }
}

fn pop3(config: &Config) -> Begin {
    let options = pop3_options(config);
    Arc::new(move |connection: Connection| -> Box<dyn Session> {
        Box::new(Pop3::new(time::now(), connection, options.clone()))
    })
}

fn lmtp(config: &Config) -> Begin {
    let options = lmtp::Options {
        message_bytes_max: config.limits.message_size.0,
        recipients_max: config.limits.recipients as usize,
        idle: config.limits.lmtp_idle_timeout,
    };
    Arc::new(move |connection: Connection| -> Box<dyn Session> {
        Box::new(Lmtp::new(time::now(), connection, options.clone()))
    })
}

fn bytes(size: config::Size) -> usize {
    usize::try_from(size.0).unwrap_or(usize::MAX)
}
