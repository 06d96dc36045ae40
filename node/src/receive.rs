//! What other nodes carry here: sessions and messages for accounts that this node owns.
//!
//! Invariants
//! - Nothing is begun for an account that this node does not own: the edge hears NOT_OWNER and asks elsewhere.
//! - A carried session is served by the same code as one that came here by itself; it only begins after its login.
//! - The edge's word on who the user is counts; the user's own place and limits are looked up here.

use std::net::IpAddr;
use std::sync::{Arc, OnceLock};

use account::Refused;
use account::door::{Append, NewMessage};
use auth::UserRecord;
use codec::imap::Tag;
use futures::stream::{self, StreamExt};
use model::{ContentId, DeliveryKey, MailboxName};
use rpc::PeerIdentity;
use rpc::relay::{
    Declined, EndWish, Envelope, Handler, Login, Message, Open, Outcome, Pipe, Recipient, Reply, Serve,
};
use session::blob::Blob;
use session::{Connection, Doing, LoggedIn, LoginFailed, PendingLogin, refused};
use store::spool::Spooled;
use tokio::sync::watch;
use tracing::Instrument;

use crate::asking::Asking;
use crate::driver::Conversation;
use crate::listener::{Front, log_end};
use crate::live::{End, Via};
use crate::metrics::ByDirection;
use crate::registry::Account;
use crate::resume::{Resumed, Resuming, protocol_name};
use crate::router::Owner;
use crate::standing::Following;
use crate::stream::Stream;
use crate::users::account_id;

/// Recipients of one message that are stored at a time.
const DELIVERIES_AT_ONCE: usize = 32;

/// The door for peers. It is there before the node can serve: until then it asks them to wait.
#[derive(Default)]
pub struct Door(OnceLock<Arc<Receiving>>);

/// A node that serves accounts.
pub struct Receiving {
    pub front: Arc<Front>,
    /// True once sessions that other nodes carry here are to end.
    pub closing: watch::Receiver<bool>,
    pub message_bytes_max: u64,
    /// Whose nodes are believed.
    pub site: String,
}

/// A session that is about to be served.
struct Admitted {
    edge: PeerIdentity,
    open: Open,
    protocol: &'static str,
    admitted: Resumed,
}

/// How a session begins here.
enum Beginning {
    Login(PendingLogin),
    Resumed(Blob),
}

impl Door {
    /// From now on what comes is served.
    pub fn open(&self, receiving: Receiving) {
        // A door that is open stays as it is.
        let _ = self.0.set(Arc::new(receiving));
    }

    fn receiving(&self) -> Result<Arc<Receiving>, String> {
        self.0.get().cloned().ok_or_else(|| "this node is starting".into())
    }
}

impl Handler for Door {
    async fn admit(&self, edge: PeerIdentity, open: Open) -> Result<Serve, Declined> {
        self.receiving().map_err(Declined::Unavailable)?.admit(edge, open).await
    }

    async fn deliver(&self, edge: PeerIdentity, envelope: Envelope) -> Result<Vec<Outcome>, String> {
        self.receiving()?.deliver(&edge, envelope).await
    }
}

impl Receiving {
    async fn admit(self: Arc<Self>, edge: PeerIdentity, open: Open) -> Result<Serve, Declined> {
        let services = &self.front.services;
        let (protocol, beginning) = beginning(&open.login)?;
        let record = self.record(&open.user).await.map_err(Declined::Unavailable)?;
        // Before anything else: who has given the account away while it stops knows who has it, and the edge may not yet.
        if let Some(version) = self.not_owner(&record, open.known).await {
            return Err(Declined::NotOwner(version));
        }
        if *self.closing.borrow() {
            return Err(Declined::Unavailable("this node is stopping".into()));
        }
        let id = account_id(&record.user);
        let (account, user) = services.open_here(&record).await.map_err(|failed| match failed {
            LoginFailed::TooManySessions => Declined::TooManySessions,
            // It began to leave at that moment.
            LoginFailed::Unavailable(_) if services.is_on_its_way(id) => {
                Declined::NotOwner(services.router.known())
            }
            LoginFailed::Unavailable(why) => Declined::Unavailable(why),
            other @ (LoginFailed::Credentials
            | LoginFailed::MechanismUnavailable
            | LoginFailed::PlaintextForbidden) => Declined::Unavailable(format!("{other:?}")),
        })?;
        let admitted = self.admitted(&open, account, user, beginning)?;
        let admitted = Admitted { edge, open, protocol, admitted };
        Ok(Box::new(move |pipe| Box::pin(async move { self.serve(admitted, pipe).await })))
    }

    /// Whom the edge means. It has checked the password; that there is such a user is ours to know, too.
    async fn record(&self, user: &str) -> Result<UserRecord, String> {
        let found = self.front.services.auth.lookup(user).await.map_err(|error| error.to_string())?;
        found.ok_or_else(|| format!("there is no user {user} here: the user databases of the nodes differ"))
    }

    /// Makes the session that is to be served.
    fn admitted(
        &self,
        open: &Open,
        account: Arc<Account>,
        user: String,
        beginning: Beginning,
    ) -> Result<Resumed, Declined> {
        let front = &self.front;
        let connection = connection(front, open.remote, open.tls);
        let services = Arc::clone(&front.services);
        let login = match beginning {
            Beginning::Login(login) => login,
            Beginning::Resumed(blob) => {
                let resuming =
                    Resuming { services, admit: Arc::clone(&front.admit), connection, id: String::new() };
                let resumed = resuming.go_on(account, user, &blob);
                return resumed
                    .inspect_err(|why| tracing::warn!(why, "a session cannot go on here"))
                    .map_err(Declined::Unavailable);
            }
        };
        let snapshot = account.snapshot();
        let snapshot = snapshot.ok_or_else(|| Declined::Unavailable("the account was closed".into()))?;
        let logged_in = LoggedIn { user: user.clone(), snapshot, final_data: None };
        let protocol = login_protocol(&login);
        let asking =
            Asking::admitted(services, protocol, open.remote, open.tls, account, user, String::new());
        Ok(Resumed { session: front.admit.begin(connection, logged_in, &login), asking })
    }

    /// The version of our knowledge, if the account is not ours, says that and all that the edge knows.
    async fn not_owner(&self, record: &UserRecord, known: u64) -> Option<u64> {
        let (services, id) = (&self.front.services, account_id(&record.user));
        services.settled(id).await;
        if services.router.owner(id) != Owner::Here {
            services.router.learn(known).await;
        }
        let version = services.router.known();
        (services.router.owner(id) != Owner::Here).then_some(version)
    }

    async fn serve(&self, admitted: Admitted, pipe: Pipe) {
        let Admitted { edge, open, protocol, admitted: Resumed { session, asking } } = admitted;
        let front = &self.front;
        let (remote, tls) = (open.remote, open.tls);
        let via = Via::From { node: edge.node, session: open.session.clone() };
        let place = front.services.live.enter_via(front.run, protocol, remote, tls, Some(via));
        let span = tracing::info_span!(
            "session",
            id = place.id(),
            protocol,
            edge = edge.node,
            at_edge = open.session
        );
        let (stop, stopping) = watch::channel(false);
        let wishes = pipe.wishes();
        let ender = place.ender();
        let conversation = Conversation {
            session,
            asking,
            stream: Stream::Carried(Box::new(pipe)),
            place,
            acceptor: None,
            stopping,
            output_stall: front.output_stall,
            protocol,
            metrics: Arc::clone(&front.metrics),
            told: Doing::default(),
            moved: false,
            resuming: front.resuming(connection(front, remote, tls), String::new()),
            edge_moves: open.moves,
            leaving: None,
            standing: Following::new(&front.services.router),
        };
        let by = ByDirection { protocol, direction: "from" };
        front.metrics.forwarded_sessions.get_or_create(&by).inc();
        front.metrics.forwarded_sessions_total.get_or_create(&by).inc();
        async {
            tokio::select! {
                closing = conversation.run() => log_end(&closing, remote),
                () = follow(wishes, self.closing.clone(), stop, ender) => {}
            }
        }
        .instrument(span)
        .await;
        front.metrics.forwarded_sessions.get_or_create(&by).dec();
    }

    async fn deliver(&self, edge: &PeerIdentity, envelope: Envelope) -> Result<Vec<Outcome>, String> {
        let mut recipients = Vec::new();
        for recipient in envelope.recipients {
            let found = self.find(&recipient, envelope.known).await;
            recipients.push((recipient, found));
        }
        // Who is not here needs no message.
        if recipients.iter().all(|(_, found)| found.is_err()) {
            return Ok(recipients.into_iter().filter_map(|(_, found)| found.err()).collect());
        }
        let spooled = Arc::new(self.message(edge, &envelope.message)?);
        tracing::debug!(%edge, session = envelope.session, recipients = recipients.len(), octets = spooled.size, "message received from another node");
        let stored = stream::iter(recipients).map(|(recipient, found)| {
            let spooled = Arc::clone(&spooled);
            async move {
                match found {
                    Ok(record) => self.store(&record, &recipient, spooled).await,
                    Err(outcome) => outcome,
                }
            }
        });
        Ok(stored.buffered(DELIVERIES_AT_ONCE).collect().await)
    }

    async fn find(&self, recipient: &Recipient, known: u64) -> Result<UserRecord, Outcome> {
        let unavailable = |why| told(&refused::lmtp(&Refused::Unavailable(why)));
        let record = self.record(&recipient.user).await.map_err(unavailable)?;
        match self.not_owner(&record, known).await {
            None => Ok(record),
            Some(version) => Err(Outcome::NotOwner(version)),
        }
    }

    /// The message, in the spool of the edge.
    fn message(&self, edge: &PeerIdentity, message: &Message) -> Result<Spooled, String> {
        let Message { name, size, wire_size, content } = message;
        if *size > self.message_bytes_max {
            return Err("the message is larger than limits.message_size of the node that owns the account: set the same limits on all nodes".into());
        }
        let content = ContentId::from_bytes(*content);
        Ok(self.front.services.spool.of_other(edge.node, name, *size, *wire_size, content))
    }

    async fn store(&self, record: &UserRecord, recipient: &Recipient, body: Arc<Spooled>) -> Outcome {
        let mailbox = match MailboxName::new(&recipient.mailbox) {
            Ok(mailbox) => mailbox,
            Err(error) => return told(&refused::lmtp(&Refused::BadName(error))),
        };
        let append = Append {
            mailbox,
            create: true,
            messages: vec![NewMessage { body, flags: Vec::new(), internal_date: None }],
            delivery: recipient.delivery.map(DeliveryKey),
        };
        match self.front.services.store(record, append).await {
            Ok(()) => Outcome::Stored,
            Err(Refused::Unknown) => Outcome::Unknown,
            // Nothing was done, and it is not ours any more.
            Err(Refused::Deposed) => Outcome::NotOwner(*self.front.services.router.version().borrow()),
            Err(Refused::NotStored(why)) => {
                tracing::error!(
                    user = record.user.as_str(),
                    "a message from the spool of another node was not stored; mail.root must be one tree on all nodes \
                     of the site: {why}"
                );
                told(&refused::lmtp(&Refused::NotStored(why)))
            }
            Err(why) => told(&refused::lmtp(&why)),
        }
    }
}

fn beginning(login: &Login) -> Result<(&'static str, Beginning), Declined> {
    let refused = |why: String| Declined::Unavailable(why);
    let login = match login {
        Login::Imap { tag } => {
            let tag = Tag::new(tag.as_bytes()).ok_or_else(|| refused("the edge sent no tag".into()))?;
            PendingLogin::Imap { tag }
        }
        Login::Pop3 => PendingLogin::Pop3,
        Login::Resumed { blob } => {
            let read = Blob::read(blob.clone()).and_then(|blob| Ok((protocol_name(blob.protocol()?), blob)));
            let (protocol, blob) = read.map_err(|error| refused(error.to_string()))?;
            return Ok((protocol, Beginning::Resumed(blob)));
        }
    };
    Ok((login_protocol(&login), Beginning::Login(login)))
}

fn login_protocol(login: &PendingLogin) -> &'static str {
    match login {
        PendingLogin::Imap { .. } => "imap",
        PendingLogin::Pop3 => "pop3",
    }
}

fn told(reply: &refused::LmtpReply) -> Outcome {
    let text = reply.text.chars().take(200).collect();
    Outcome::Refused(Reply { code: reply.code, enhanced: reply.enhanced.to_owned(), text })
}

fn connection(front: &Front, remote: IpAddr, tls: bool) -> Connection {
    Connection {
        remote,
        tls,
        // The client's TLS ends at the edge.
        tls_available: false,
        plaintext_without_tls: false,
        mechanisms_plain: [].into(),
        mechanisms_tls: [].into(),
        host: Arc::clone(&front.host),
    }
}

/// Passes on what the edge wishes, and that this node stops. Never ends.
async fn follow(
    mut wishes: watch::Receiver<Option<EndWish>>,
    mut node: watch::Receiver<bool>,
    stop: watch::Sender<bool>,
    end: watch::Sender<End>,
) {
    let edge = async {
        while wishes.changed().await.is_ok() {
            let wish = *wishes.borrow_and_update();
            match wish {
                Some(EndWish::Kicked) => drop(end.send_replace(End::Kicked("ended by the operator"))),
                Some(EndWish::Stopping) => drop(stop.send_replace(true)),
                None => {}
            }
        }
    };
    let node = async {
        if node.wait_for(|stopping| *stopping).await.is_ok() {
            stop.send_replace(true);
        }
    };
    tokio::join!(edge, node);
    std::future::pending::<()>().await;
}
