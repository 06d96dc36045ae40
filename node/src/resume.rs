//! Sessions that go on here though they began at another node, or at another owner (L-CN3).

use std::sync::Arc;

use session::blob::{Blob, Protocol};
use session::{Connection, LoggedIn, Session};

use crate::asking::{Asking, Services};
use crate::protocols::Admit;
use crate::registry::Account;

/// What it takes to go on with the session of a connection.
#[derive(Clone)]
pub struct Resuming {
    pub services: Arc<Services>,
    pub admit: Arc<Admit>,
    pub connection: Connection,
    /// The session's id, where its client is.
    pub id: String,
}

/// A session, and what answers its questions.
pub struct Resumed {
    pub session: Box<dyn Session>,
    pub asking: Asking,
}

/// As metrics and log call it.
pub fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Imap => "imap",
        Protocol::Pop3 => "pop3",
    }
}

impl Resuming {
    /// Goes on with a session of an account that is open here. The error is for the log.
    pub fn go_on(&self, account: Arc<Account>, user: String, blob: &Blob) -> Result<Resumed, String> {
        let told = |error: session::blob::BlobRefused| error.to_string();
        let protocol = blob.protocol().map_err(told)?;
        let Connection { remote, tls, .. } = self.connection;
        let snapshot = account.snapshot().ok_or("the account was closed")?;
        let logged_in = LoggedIn { user: user.clone(), snapshot, final_data: None };
        let services = Arc::clone(&self.services);
        let name = protocol_name(protocol);
        let mut asking = Asking::admitted(services, name, remote, tls, account, user, self.id.clone());
        if protocol == Protocol::Pop3 && self.admit.locks_maildrop() && !asking.take_maildrop() {
            return Err("another POP3 session has this maildrop".into());
        }
        let session = self.admit.resume(self.connection.clone(), logged_in, blob).map_err(told)?;
        Ok(Resumed { session, asking })
    }
}
