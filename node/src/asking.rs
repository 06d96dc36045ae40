//! Answers a session's questions: from the user databases, the accounts, the spool and the message files.
//!
//! Slow things run on blocking threads. What a session has under way in between (a SASL conversation, a message that
//! comes in, the file it reads) lives here.

use std::net::IpAddr;
use std::sync::Arc;

use account::door::{Done, Reply};
use account::reader::{ReadError, Reader};
use account::{MessageView, Refused, Request, Snapshot};
use auth::{Authenticator, Checked, Exchange, Facts, Outcome, Progress, UserRecord};
use bytes::Bytes;
use futures::future::BoxFuture;
use locking::Standing;
use model::{AccountId, EntryId, MailboxId};
use rpc::relay::{Login, Open, Pipe};
use session::{
    Answer, Elsewhere, HandOver, LockRefused, LoggedIn, LoginFailed, PendingLogin, Question, Read,
    ReadFailed, RecipientId, RecipientRefused, SpoolFailed, Ticket,
};
use store::body::Body;
use store::spool::{Incoming, Spool};

use crate::forward::{Delivery, Gathering};
use crate::handover::Departures;
use crate::live::Live;
use crate::metrics::{ByResult, Metrics};
use crate::registry::{Account, MaildropGuard, Registry, SessionGuard};
use crate::router::{Carried, NotCarried, OWNER_WAIT, Owner, Place, Router};
use crate::time;
use crate::users::{Homes, account_id};

/// What all sessions share.
pub struct Services {
    pub auth: Arc<Authenticator>,
    pub registry: Arc<Registry>,
    pub spool: Arc<Spool>,
    pub homes: Homes,
    pub live: Arc<Live>,
    pub sessions_per_user_max: usize,
    /// Between user and detail in a recipient's address; empty: addresses have no detail.
    pub recipient_delimiter: String,
    pub metrics: Arc<Metrics>,
    pub router: Router,
    /// Buckets that are on their way to other nodes.
    pub departures: Departures,
}

/// The account of a session, once somebody logged in.
pub struct Joined {
    pub account: Arc<Account>,
    pub user: String,
    /// What was last known here of an account that may be open no longer: what a site without a majority shows.
    known: Known,
    _counted: Option<SessionGuard>,
}

/// How an account looked, and what reads its messages. Both are of what counts (L-CM1).
struct Known {
    snapshot: Option<Arc<Snapshot>>,
    reader: Option<Reader>,
}

impl Joined {
    fn new(account: Arc<Account>, user: String) -> Self {
        let known = Known { snapshot: account.snapshot(), reader: account.reader() };
        Self { known, _counted: account.join(), account, user }
    }

    /// How the account looks, or looked when it was last open here.
    pub fn snapshot(&self) -> Option<Arc<Snapshot>> {
        self.account.snapshot().or_else(|| self.known.snapshot.clone())
    }

    /// The account looks like this now.
    pub fn knows(&mut self, snapshot: &Arc<Snapshot>) {
        self.known.snapshot = Some(Arc::clone(snapshot));
        if let Some(reader) = self.account.reader() {
            self.known.reader = Some(reader);
        }
    }
}

/// Whether what a session says may be shown (L-LE1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Showing {
    Yes,
    /// Only to a client that was told that it may be out of date.
    Marked,
    /// That is not known yet.
    Later,
    No,
}

/// One session's side of its questions.
pub struct Asking {
    services: Arc<Services>,
    facts: Facts,
    pub joined: Option<Joined>,
    exchange: Option<Exchange>,
    incoming: Option<Incoming>,
    recipients: Vec<UserRecord>,
    maildrop: Option<MaildropGuard>,
    open_body: Option<OpenBody>,
    /// Recipients at other nodes of the message that is being delivered.
    gathering: Option<Arc<Gathering>>,
    /// The session's id.
    session: String,
    /// A lease ended since the session came to its account: what it knows of that is not shown under another one.
    pub cut: bool,
}

/// A session that goes on at another node.
pub struct HandedOver {
    pub account: AccountId,
    pub user: String,
    pub node: u8,
    pub pipe: Pipe,
}

/// What has come of a question.
pub enum Told {
    Answer(Answer),
    /// Nobody asks any more: the session goes on elsewhere.
    Carried(Box<HandedOver>),
}

/// A user who has proven to be one, and where the account is.
pub enum Found {
    Here(Arc<Account>, String),
    Elsewhere(String),
}

/// What comes back from an answer that was worked out elsewhere.
pub enum Settled {
    Answer(Answer),
    /// A SASL exchange goes on, or ended.
    Sasl(Option<Box<(Exchange, Progress)>>),
    Login(Checked),
    Opened(Result<Found, LoginFailed>),
    Carried(Box<HandedOver>),
    Octets(Result<Bytes, ReadFailed>, Option<OpenBody>),
    Recipient(Result<UserRecord, RecipientRefused>),
}

/// The message that a session reads, where it is, and how far it was read.
pub type OpenBody = (MailboxId, EntryId, Body);

pub type Working = BoxFuture<'static, (Ticket, Settled)>;

impl Asking {
    /// For a session whose user another node has authenticated.
    pub fn admitted(
        services: Arc<Services>,
        service: &'static str,
        remote: IpAddr,
        tls: bool,
        account: Arc<Account>,
        user: String,
        session: String,
    ) -> Self {
        let mut asking = Self::new(services, service, remote, tls, session);
        asking.joined = Some(Joined::new(account, user));
        asking
    }

    pub fn new(
        services: Arc<Services>,
        service: &'static str,
        remote: IpAddr,
        tls: bool,
        session: String,
    ) -> Self {
        Self {
            services,
            facts: Facts { service, remote, tls },
            joined: None,
            exchange: None,
            incoming: None,
            recipients: Vec::new(),
            maildrop: None,
            open_body: None,
            gathering: None,
            session,
            cut: false,
        }
    }

    /// The account is used here no more.
    pub fn leave(&mut self) {
        (self.joined, self.maildrop, self.open_body) = (None, None, None);
    }

    /// Takes the maildrop of a session whose user is known; false: another session has it.
    pub fn take_maildrop(&mut self) -> bool {
        self.maildrop = self.joined.as_ref().and_then(|joined| joined.account.lock_maildrop());
        self.maildrop.is_some()
    }

    /// A session as another node is to take it.
    pub fn open(&self, user: String, login: Login, unread: Bytes) -> Open {
        let Facts { remote, tls, .. } = self.facts;
        Open { user, remote, tls, session: self.session.clone(), login, unread, moves: true, known: 0 }
    }

    /// L-LE1, before anything is shown to a client.
    pub fn showing(&self) -> Showing {
        let Some(joined) = &self.joined else { return Showing::Yes };
        if !self.cut && joined.account.may_be_shown() {
            return Showing::Yes;
        }
        match self.services.router.standing() {
            Standing::Frozen => Showing::Marked,
            Standing::Asking | Standing::Returning => Showing::Later,
            Standing::Held | Standing::Over => Showing::No,
        }
    }

    pub fn is_tls(&self) -> bool {
        self.facts.tls
    }

    pub fn tls_started(&mut self) {
        self.facts.tls = true;
    }

    /// Takes a question. What can be answered at once is; the rest is a future whose result comes to
    /// [`settle`](Self::settle).
    pub async fn ask(&mut self, ticket: Ticket, question: Question) -> Option<Working> {
        match question {
            Question::SaslStart { mechanism, initial } => Some(self.sasl_start(ticket, mechanism, initial)),
            Question::SaslResponse(response) => self.sasl_response(ticket, response),
            Question::SaslCancel => {
                self.exchange = None;
                Some(ready(ticket, Answer::LoginFailed(LoginFailed::Credentials)))
            }
            Question::Login { user, password } => Some(self.login(ticket, user, password.0)),
            Question::HandOver(hand_over) => Some(self.hand_over(ticket, hand_over)),
            Question::Account(request) => Some(self.request(ticket, request)),
            Question::Read(read) => Some(self.read(ticket, read)),
            Question::LockMaildrop => Some(self.lock_maildrop(ticket)),
            Question::BeginTransaction => {
                self.recipients.clear();
                None
            }
            Question::FindRecipient { address } => Some(self.find_recipient(ticket, address)),
            Question::Deliver { recipient, append } => Some(self.deliver(ticket, recipient, append)),
            Question::SpoolBegin => {
                self.incoming = Some(self.services.spool.begin());
                None
            }
            Question::SpoolWrite(octets) => self.spool_write(ticket, octets).await,
            Question::SpoolFinish => Some(self.spool_finish(ticket)),
            Question::SpoolAbandon => {
                self.incoming = None;
                None
            }
        }
    }

    /// Takes what was worked out. The answer for the session, or more work.
    pub fn settle(&mut self, ticket: Ticket, settled: Settled) -> Result<Told, Working> {
        if let Settled::Carried(handed_over) = settled {
            return Ok(Told::Carried(handed_over));
        }
        self.answer(ticket, settled).map(Told::Answer)
    }

    fn answer(&mut self, ticket: Ticket, settled: Settled) -> Result<Answer, Working> {
        match settled {
            Settled::Answer(answer) => Ok(answer),
            Settled::Sasl(None) => Ok(Answer::LoginFailed(LoginFailed::MechanismUnavailable)),
            Settled::Sasl(Some(state)) => {
                let (exchange, progress) = *state;
                match progress {
                    Progress::Challenge(challenge) => {
                        self.exchange = Some(exchange);
                        Ok(Answer::Sasl(challenge))
                    }
                    Progress::Finished(checked) => self.checked(ticket, checked),
                }
            }
            Settled::Login(checked) => self.checked(ticket, checked),
            Settled::Opened(opened) => Ok(self.logged_in(opened)),
            Settled::Carried(_) => Ok(Answer::LoginFailed(LoginFailed::Unavailable("carried".into()))),
            Settled::Octets(octets, body) => {
                self.open_body = body;
                Ok(Answer::Octets(octets))
            }
            Settled::Recipient(found) => Ok(Answer::Recipient(found.map(|record| {
                self.recipients.push(record);
                RecipientId(u32::try_from(self.recipients.len() - 1).unwrap_or(u32::MAX))
            }))),
        }
    }

    fn sasl_start(&self, ticket: Ticket, mechanism: String, initial: Option<Vec<u8>>) -> Working {
        let (auth, facts) = (Arc::clone(&self.services.auth), self.facts);
        Box::pin(async move {
            let begun = auth.begin(&mechanism, initial.as_deref(), facts, time::now()).await;
            (ticket, Settled::Sasl(begun.map(Box::new)))
        })
    }

    fn sasl_response(&mut self, ticket: Ticket, response: Vec<u8>) -> Option<Working> {
        let Some(mut exchange) = self.exchange.take() else {
            return Some(ready(ticket, Answer::LoginFailed(LoginFailed::Credentials)));
        };
        let auth = Arc::clone(&self.services.auth);
        Some(Box::pin(async move {
            let progress = auth.step(&mut exchange, &response, time::now()).await;
            (ticket, Settled::Sasl(Some(Box::new((exchange, progress)))))
        }))
    }

    fn login(&self, ticket: Ticket, user: Vec<u8>, password: Vec<u8>) -> Working {
        let (auth, facts) = (Arc::clone(&self.services.auth), self.facts);
        Box::pin(async move {
            let user = String::from_utf8_lossy(&user).into_owned();
            let password = auth::Password::new(String::from_utf8_lossy(&password).into_owned());
            (ticket, Settled::Login(auth.login(&user, &password, &facts, time::now()).await))
        })
    }

    /// Waits as long as the address deserves, then opens the account of a user who may log in.
    fn checked(&self, ticket: Ticket, checked: Checked) -> Result<Answer, Working> {
        let services = Arc::clone(&self.services);
        let result = match checked.outcome {
            Outcome::Ok(_) => "ok",
            Outcome::BadCredentials => "credentials",
            Outcome::Disabled => "disabled",
            Outcome::TemporaryFailure(_) => "unavailable",
            Outcome::PlaintextForbidden => "plaintext",
        };
        services.metrics.logins.get_or_create(&ByResult { protocol: self.facts.service, result }).inc();
        Err(Box::pin(async move {
            tokio::time::sleep(checked.delay).await;
            let opened = match checked.outcome {
                Outcome::Ok(record) => services.open_for_session(&record).await,
                Outcome::BadCredentials | Outcome::Disabled => Err(LoginFailed::Credentials),
                Outcome::TemporaryFailure(reason) => Err(LoginFailed::Unavailable(reason)),
                Outcome::PlaintextForbidden => Err(LoginFailed::PlaintextForbidden),
            };
            (ticket, Settled::Opened(opened))
        }))
    }

    /// Opens the session where its account is; the account may have come here meanwhile.
    fn hand_over(&self, ticket: Ticket, hand_over: HandOver) -> Working {
        let services = Arc::clone(&self.services);
        let HandOver { user, login, unread } = hand_over;
        let login = match login {
            PendingLogin::Imap { tag } => Login::Imap { tag: tag.as_str().to_owned() },
            PendingLogin::Pop3 => Login::Pop3,
        };
        let open = self.open(user, login, unread);
        Box::pin(async move { (ticket, services.carry(open).await) })
    }

    fn logged_in(&mut self, opened: Result<Found, LoginFailed>) -> Answer {
        let (account, user) = match opened {
            Ok(Found::Here(account, user)) => (account, user),
            Ok(Found::Elsewhere(user)) => return Answer::Elsewhere(Elsewhere { user, final_data: None }),
            Err(failed) => return Answer::LoginFailed(failed),
        };
        let Some(snapshot) = account.snapshot() else {
            return Answer::LoginFailed(LoginFailed::Unavailable("the account was closed".into()));
        };
        self.joined = Some(Joined::new(account, user.clone()));
        Answer::LoggedIn(LoggedIn { user, snapshot, final_data: None })
    }

    fn request(&mut self, ticket: Ticket, request: Request) -> Working {
        let Some(joined) = &self.joined else { return ready(ticket, not_logged_in()) };
        if self.services.router.standing().keeps_sessions() {
            self.cut = true;
            return ready(ticket, Answer::Account(frozen(joined, &request)));
        }
        let account = Arc::clone(&joined.account);
        Box::pin(async move { (ticket, Settled::Answer(Answer::Account(account.ask(request).await))) })
    }

    fn lock_maildrop(&mut self, ticket: Ticket) -> Working {
        let locked = if self.take_maildrop() { Ok(()) } else { Err(LockRefused::InUse) };
        ready(ticket, Answer::Locked(locked))
    }

    fn read(&mut self, ticket: Ticket, read: Read) -> Working {
        let known = |joined: &Joined| joined.account.reader().or_else(|| joined.known.reader.clone());
        let reader = self.joined.as_ref().and_then(known);
        let Some(reader) = reader else { return ready(ticket, read_without_account(&read)) };
        match read {
            Read::Describe { mailbox, messages } => Box::pin(async move {
                let describe =
                    move || messages.iter().map(|m| reader.describe(mailbox, m).map_err(failed)).collect();
                (ticket, Settled::Answer(blocking(describe).await.map_or_else(lost, Answer::Described)))
            }),
            Read::Search { mailbox, messages, query } => Box::pin(async move {
                let search = move || {
                    let found = reader.search(mailbox, &messages, &query);
                    found.into_iter().map(|found| found.map_err(failed)).collect()
                };
                (ticket, Settled::Answer(blocking(search).await.map_or_else(lost, Answer::Found)))
            }),
            Read::Octets { mailbox, message, offset, length } => {
                let body =
                    self.open_body.take().filter(|(at, entry, _)| *at == mailbox && *entry == message.entry);
                let body = body.map(|(_, _, body)| body);
                Box::pin(async move {
                    let octets = move || read_octets(&reader, mailbox, &message, body, offset, length);
                    let (octets, body) = match blocking(octets).await {
                        Ok(read) => read,
                        Err(reason) => (Err(ReadFailed::Failed(reason)), None),
                    };
                    (ticket, Settled::Octets(octets, body))
                })
            }
        }
    }

    fn find_recipient(&self, ticket: Ticket, address: String) -> Working {
        let services = Arc::clone(&self.services);
        Box::pin(async move { (ticket, Settled::Recipient(services.find_recipient(&address).await)) })
    }

    fn deliver(&mut self, ticket: Ticket, recipient: RecipientId, append: account::door::Append) -> Working {
        let services = Arc::clone(&self.services);
        let Some(record) = self.recipients.get(recipient.0 as usize).cloned() else {
            let why = account::Refused::Unavailable("no such recipient in this session".into());
            return ready(ticket, Answer::Delivered(Err(session::refused::lmtp(&why))));
        };
        let account = account_id(&record.user);
        if services.router.owner(account) == Owner::Here && !services.departures.is_leaving(account.bucket())
        {
            let session = self.session.clone();
            return Box::pin(async move {
                let delivered = services.deliver(&session, record, append).await;
                (ticket, Settled::Answer(Answer::Delivered(delivered)))
            });
        }
        self.deliver_elsewhere(ticket, record, append)
    }

    /// Recipients that are named before the first of them is waited for travel together.
    fn deliver_elsewhere(
        &mut self,
        ticket: Ticket,
        record: UserRecord,
        append: account::door::Append,
    ) -> Working {
        let Some(body) = append.messages.first().map(|message| Arc::clone(&message.body)) else {
            return ready(ticket, Answer::Delivered(Ok(())));
        };
        let (delivery, answered) = Delivery::new(record, append);
        let joined = match &self.gathering {
            Some(gathering) => gathering.join(&body, delivery),
            None => Some(delivery),
        };
        let first = joined.map(|delivery| Arc::new(Gathering::new(body, delivery)));
        if first.is_some() {
            self.gathering.clone_from(&first);
        }
        let (services, session) = (Arc::clone(&self.services), self.session.clone());
        Box::pin(async move {
            if let Some(gathering) = first {
                gathering.leave(&services, &session).await;
            }
            // The answer is lost only with the transfer: what it did is not known.
            let lost = || Err(session::refused::lmtp(&account::Refused::Unknown));
            (ticket, Settled::Answer(Answer::Delivered(answered.await.unwrap_or_else(|_| lost()))))
        })
    }

    async fn spool_write(&mut self, ticket: Ticket, octets: Bytes) -> Option<Working> {
        let mut incoming = self.incoming.take()?;
        let written = if incoming.would_block(octets.len()) {
            let write = move || {
                let written = incoming.write(&octets);
                (incoming, written)
            };
            match blocking(write).await {
                Ok((back, written)) => {
                    incoming = back;
                    written.map_err(spool_failed)
                }
                Err(reason) => return Some(ready(ticket, Answer::Spooled(Err(SpoolFailed::Failed(reason))))),
            }
        } else {
            incoming.write(&octets).map_err(spool_failed)
        };
        match written {
            Ok(()) => {
                self.incoming = Some(incoming);
                None
            }
            Err(failed) => Some(ready(ticket, Answer::Spooled(Err(failed)))),
        }
    }

    fn spool_finish(&mut self, ticket: Ticket) -> Working {
        let Some(incoming) = self.incoming.take() else {
            let failed = SpoolFailed::Failed("nothing was begun".into());
            return ready(ticket, Answer::Spooled(Err(failed)));
        };
        Box::pin(async move {
            let finished = match blocking(move || incoming.finish()).await {
                Ok(finished) => finished.map(Arc::new).map_err(spool_failed),
                Err(reason) => Err(SpoolFailed::Failed(reason)),
            };
            (ticket, Settled::Answer(Answer::Spooled(finished)))
        })
    }
}

impl Services {
    /// The user of an address: as it stands, or without the detail behind the delimiter.
    async fn find_recipient(&self, address: &str) -> Result<UserRecord, RecipientRefused> {
        let unavailable = |error: auth::Unavailable| RecipientRefused::Unavailable(error.to_string());
        if let Some(record) = self.auth.lookup(address).await.map_err(unavailable)? {
            return Ok(record);
        }
        let bare = without_detail(address, &self.recipient_delimiter).ok_or(RecipientRefused::UnknownUser)?;
        self.auth.lookup(&bare).await.map_err(unavailable)?.ok_or(RecipientRefused::UnknownUser)
    }

    /// Opens a user's account.
    pub async fn open(&self, record: &UserRecord) -> Result<Arc<Account>, String> {
        let home = self.homes.home(record).map_err(|error| error.to_string())?;
        self.registry.open(account_id(&record.user), record.user.as_str(), home).await
    }

    /// Finds the account of a user who has logged in. Waits for its owner, if it has none now.
    async fn open_for_session(&self, record: &UserRecord) -> Result<Found, LoginFailed> {
        let (until, id) = (time::now() + OWNER_WAIT, account_id(&record.user));
        loop {
            self.departures.settled(id.bucket()).await;
            match self.router.place(id, until).await.map_err(not_carried)? {
                Place::Node(_) => return Ok(Found::Elsewhere(record.user.as_str().to_owned())),
                Place::Here => match self.open_here(record).await {
                    Ok((account, user)) => return Ok(Found::Here(account, user)),
                    // It began to leave at that moment.
                    Err(_) if self.is_on_its_way(id) && time::now() < until => {}
                    Err(failed) => return Err(failed),
                },
            }
        }
    }

    /// Whether the account is another node's, or about to be.
    pub fn is_on_its_way(&self, account: AccountId) -> bool {
        self.departures.is_leaving(account.bucket()) || self.router.owner(account) != Owner::Here
    }

    /// Opens a session where its account is by then.
    pub async fn carry(&self, open: Open) -> Settled {
        let unavailable = |why: String| Settled::Opened(Err(LoginFailed::Unavailable(why)));
        let record = match self.auth.lookup(&open.user).await {
            Ok(Some(record)) => record,
            Ok(None) => return unavailable("the user is gone".into()),
            Err(error) => return unavailable(error.to_string()),
        };
        let (account, until) = (account_id(&record.user), time::now() + OWNER_WAIT);
        loop {
            self.departures.settled(account.bucket()).await;
            match self.router.carry(account, &open).await {
                Ok(Carried::To(node, pipe)) => {
                    let user = open.user.clone();
                    return Settled::Carried(Box::new(HandedOver { account, user, node, pipe }));
                }
                Ok(Carried::Here) => match self.open_here(&record).await {
                    // It began to leave at that moment.
                    Err(_) if self.is_on_its_way(account) && time::now() < until => {}
                    opened => {
                        return Settled::Opened(opened.map(|(account, user)| Found::Here(account, user)));
                    }
                },
                Err(failed) => return Settled::Opened(Err(not_carried(failed))),
            }
        }
    }

    /// Opens the account, which is this node's, for one more session.
    pub async fn open_here(&self, record: &UserRecord) -> Result<(Arc<Account>, String), LoginFailed> {
        let user = record.user.as_str();
        if self.live.count_of(user) >= self.sessions_per_user_max {
            return Err(LoginFailed::TooManySessions);
        }
        let account = self.open(record).await.map_err(LoginFailed::Unavailable)?;
        Ok((account, user.to_owned()))
    }
}

fn not_carried(failed: NotCarried) -> LoginFailed {
    match failed {
        NotCarried::TooManySessions => LoginFailed::TooManySessions,
        NotCarried::Unavailable(why) => LoginFailed::Unavailable(why),
    }
}

/// `user+detail@domain` as `user@domain`; `None` without a detail.
fn without_detail(address: &str, delimiter: &str) -> Option<String> {
    let (local, domain) =
        address.rsplit_once('@').map_or((address, None), |(local, domain)| (local, Some(domain)));
    let (user, _) =
        local.split_once(delimiter).filter(|(user, _)| !delimiter.is_empty() && !user.is_empty())?;
    Some(domain.map_or_else(|| user.to_owned(), |domain| format!("{user}@{domain}")))
}

/// Reads on in an open message, or opens it.
fn read_octets(
    reader: &Reader,
    mailbox: MailboxId,
    message: &MessageView,
    body: Option<Body>,
    offset: u64,
    length: u32,
) -> (Result<Bytes, ReadFailed>, Option<OpenBody>) {
    let mut body = match body.map_or_else(|| reader.open(mailbox, message), Ok) {
        Ok(body) => body,
        Err(error) => return (Err(failed(error)), None),
    };
    match body.read_wire(offset, length as usize) {
        Ok(octets) => (Ok(octets.into()), Some((mailbox, message.entry, body))),
        Err(error) => (Err(ReadFailed::Failed(error.to_string())), None),
    }
}

fn failed(error: ReadError) -> ReadFailed {
    match error {
        ReadError::Gone => ReadFailed::Gone,
        ReadError::Failed(reason) => ReadFailed::Failed(reason),
    }
}

fn spool_failed(error: nfs_compat::Error) -> SpoolFailed {
    if error.is_full() { SpoolFailed::NoSpace } else { SpoolFailed::Failed(error.to_string()) }
}

/// What comes of a request while nothing can count: a look shows what is known, and nothing is changed.
fn frozen(joined: &Joined, request: &Request) -> Result<Done, Refused> {
    match request {
        Request::Observe { .. } => {
            let snapshot = joined.snapshot().ok_or(Refused::NoMajority)?;
            Ok(Done { reply: Reply::Done, snapshot })
        }
        Request::Append(_)
        | Request::Copy { .. }
        | Request::Move { .. }
        | Request::EditFlags(_)
        | Request::Expunge { .. }
        | Request::Create { .. }
        | Request::Delete { .. }
        | Request::Rename { .. }
        | Request::Subscribe { .. }
        | Request::Settle
        | Request::RebuildIndex => Err(Refused::NoMajority),
    }
}

fn ready(ticket: Ticket, answer: Answer) -> Working {
    Box::pin(std::future::ready((ticket, Settled::Answer(answer))))
}

fn not_logged_in() -> Answer {
    Answer::Account(Err(account::Refused::Unavailable("nobody is logged in".into())))
}

fn read_without_account(read: &Read) -> Answer {
    let failed = || ReadFailed::Failed("the account is being opened again".into());
    match read {
        Read::Describe { messages, .. } => {
            Answer::Described(messages.iter().map(|_| Err(failed())).collect())
        }
        Read::Search { messages, .. } => Answer::Found(messages.iter().map(|_| Err(failed())).collect()),
        Read::Octets { .. } => Answer::Octets(Err(failed())),
    }
}

/// The thread that was to read died.
fn lost(reason: String) -> Answer {
    Answer::Octets(Err(ReadFailed::Failed(reason)))
}

/// Runs slow work off the async threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(work).await.map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_detail_is_left_off_and_nothing_else() {
        assert_eq!(without_detail("ada+lists@example.org", "+").as_deref(), Some("ada@example.org"));
        assert_eq!(without_detail("ada+a+b", "+").as_deref(), Some("ada"));
        assert_eq!(without_detail("ada@example.org", "+"), None);
        assert_eq!(without_detail("+x@example.org", "+"), None);
        assert_eq!(without_detail("ada+x@example.org", ""), None);
    }
}
