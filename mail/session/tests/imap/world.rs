//! An account in memory that answers a session's questions, and the clients that talk to it.
//!
//! Every question is answered at once. A change is shown to every session as the node would: to the others first, then
//! with the answer to the one that asked.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use account::door::{self, Expunge, FlagEdit, Refused, Reply, Request};
use account::search::Query;
use account::snapshot::{MailboxEntry, MailboxView, MessageView, Snapshot};
use bytes::Bytes;
use message::search::Needle;
use model::{
    AccountId, ContentId, EntryId, Flag, Keyword, MailboxId, MailboxName, MessageId, ModSeq, SpecialUse,
    SystemFlags, Uid, UidValidity,
};
use nfs_compat::DiskFs;
use session::imap::{Imap, Options};
use session::{
    Answer, Closing, Connection, Description, Elsewhere, HandOver, Input, LoggedIn, LoginFailed, Output,
    Question, Read, ReadFailed, Session, Ticket, Timeouts,
};
use store::spool::{Incoming, Spool};

pub(crate) struct World {
    pub(crate) now: Instant,
    /// When the wall clock showed [`NOW_UNIX_S`].
    begun: Instant,
    pub(crate) boxes: BTreeMap<MailboxName, Mailbox>,
    pub(crate) subscriptions: BTreeSet<MailboxName>,
    pub(crate) clients: Vec<Client>,
    /// The next request to the account gets this answer.
    pub(crate) refuse: Option<Refused>,
    /// Messages whose bytes are gone, or end early.
    pub(crate) gone: BTreeSet<Uid>,
    pub(crate) short: BTreeSet<Uid>,
    /// The cache holds no header blocks.
    pub(crate) headers_uncached: bool,
    /// Other programs' deliveries that the next look finds.
    pub(crate) unobserved: Vec<(MailboxName, Vec<u8>)>,
    pub(crate) spool_full: bool,
    /// Sessions go on at another node whenever they can.
    pub(crate) moves: bool,
    /// How often one did.
    pub(crate) moved: usize,
    /// Clients do not take what they are sent until told to.
    pub(crate) slow: bool,
    pub(crate) questions: Vec<&'static str>,
    /// Sessions that another node is to serve; a test answers what becomes of them.
    pub(crate) handed_over: Vec<(Ticket, HandOver)>,
    bodies: HashMap<EntryId, Vec<u8>>,
    clock: u64,
    spool: Spool,
    directory: tempfile::TempDir,
    next_id: u64,
}

pub(crate) struct Mailbox {
    pub(crate) id: MailboxId,
    pub(crate) uid_validity: UidValidity,
    pub(crate) uid_next: u32,
    pub(crate) highest_modseq: u64,
    pub(crate) messages: Vec<MessageView>,
    pub(crate) vanished: Vec<(ModSeq, Uid)>,
    pub(crate) forgotten_to: u64,
    pub(crate) special_use: Option<SpecialUse>,
    recent: Arc<AtomicU32>,
}

pub(crate) struct Client {
    pub(crate) session: Imap,
    pub(crate) received: Vec<u8>,
    pub(crate) closed: Option<Closing>,
    /// Octets sent since the last `Drained`.
    pub(crate) under_way: usize,
    incoming: HashMap<Ticket, Incoming>,
    failed: BTreeSet<Ticket>,
}

/// 2026-01-02 03:04:05 UTC.
pub(crate) const NOW_UNIX_S: i64 = 1_767_323_045;

pub(crate) fn connection() -> Connection {
    Connection {
        remote: std::net::IpAddr::from([192, 0, 2, 1]),
        tls: true,
        tls_available: true,
        plaintext_without_tls: false,
        mechanisms_plain: Arc::new([]),
        mechanisms_tls: Arc::new(["PLAIN".to_owned(), "SCRAM-SHA-256".to_owned()]),
        host: "mx.example.org".into(),
    }
}

pub(crate) fn options() -> Options {
    let timeouts = Timeouts { before_login: Duration::from_secs(60), idle: Duration::from_secs(1800) };
    Options {
        timeouts,
        append_bytes_max: 1 << 20,
        line_bytes_max: 64 << 10,
        literal_bytes_max: 64 << 10,
        login_failures_max: 10,
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// An account with an empty INBOX.
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let spool = Spool::open(Arc::new(DiskFs::new()), directory.path(), 1, 1).unwrap();
        #[expect(clippy::disallowed_methods, reason = "the world's clock has to begin somewhere")]
        let now = Instant::now();
        let mut world = Self {
            now,
            begun: now,
            boxes: BTreeMap::new(),
            subscriptions: BTreeSet::new(),
            clients: Vec::new(),
            refuse: None,
            gone: BTreeSet::new(),
            short: BTreeSet::new(),
            headers_uncached: false,
            unobserved: Vec::new(),
            spool_full: false,
            moves: crate::MOVES,
            moved: 0,
            slow: false,
            questions: Vec::new(),
            handed_over: Vec::new(),
            bodies: HashMap::new(),
            clock: 1000,
            spool,
            directory,
            next_id: 0,
        };
        world.create("INBOX");
        world
    }

    pub(crate) fn connect(&mut self, connection: Connection) -> usize {
        let session = Imap::new(connection, options(), self.now, NOW_UNIX_S);
        self.enter(session)
    }

    fn enter(&mut self, session: Imap) -> usize {
        self.clients.push(Client {
            session,
            received: Vec::new(),
            closed: None,
            under_way: 0,
            incoming: HashMap::new(),
            failed: BTreeSet::new(),
        });
        let client = self.clients.len() - 1;
        self.run(client);
        client
    }

    /// A client that logged in at another node.
    pub(crate) fn admit(&mut self, tag: &str) -> usize {
        let snapshot = self.snapshot();
        let logged_in = LoggedIn { user: "ada@example.org".to_owned(), snapshot, final_data: None };
        let tag = codec::imap::Tag::new(tag.as_bytes()).unwrap();
        let session = Imap::admitted(connection(), options(), self.now, NOW_UNIX_S, logged_in, &tag);
        self.enter(session)
    }

    pub(crate) fn login(&mut self) -> usize {
        let client = self.connect(connection());
        self.send(client, b"login LOGIN ada secret\r\n");
        self.clients[client].received.clear();
        client
    }

    pub(crate) fn send(&mut self, client: usize, bytes: &[u8]) {
        // Every other time the new owner reads what the old one has taken in.
        if self.moves && self.moved.is_multiple_of(2) {
            self.clients[client].session.handle(self.now, Input::Leaving);
        }
        self.input(client, Input::Received(bytes));
    }

    pub(crate) fn input(&mut self, client: usize, input: Input<'_>) {
        self.clients[client].session.handle(self.now, input);
        self.run(client);
        if self.moves && !self.relocate(client) && self.clients[client].closed.is_none() {
            self.clients[client].session.handle(self.now, Input::Staying);
            self.run(client);
        }
    }

    /// Another node goes on with this session, if it is at a command boundary.
    pub(crate) fn relocate(&mut self, client: usize) -> bool {
        let snapshot = self.snapshot();
        let session = &mut self.clients[client].session;
        session.handle(self.now, Input::Leaving);
        session.handle(self.now, Input::Changed(Arc::clone(&snapshot)));
        self.run(client);
        let moving = &mut self.clients[client];
        if moving.closed.is_some() || moving.under_way > 0 {
            return false;
        }
        let Some(blob) = moving.session.export(self.now) else { return false };
        let blob = session::blob::Blob::read(blob.bytes().clone()).unwrap();
        let user = moving.session.doing().user.unwrap();
        let logged_in = LoggedIn { user, snapshot, final_data: None };
        let unix_s = NOW_UNIX_S + (self.now - self.begun).as_secs() as i64;
        let resumed = Imap::resumed(connection(), options(), self.now, unix_s, logged_in, &blob);
        let before = std::mem::replace(&mut moving.session, resumed.unwrap());
        assert_eq!(moving.session.doing(), before.doing());
        self.moved += 1;
        self.run(client);
        true
    }

    /// All that was sent has been taken.
    pub(crate) fn drain(&mut self, client: usize) {
        self.clients[client].under_way = 0;
        self.input(client, Input::Drained);
    }

    pub(crate) fn advance(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = |client: &Client| client.closed.is_none().then(|| client.session.deadline()).flatten();
            let next = self
                .clients
                .iter()
                .enumerate()
                .filter_map(|(index, client)| Some((due(client)?, index)))
                .min();
            match next {
                Some((at, client)) if at <= end => {
                    self.now = self.now.max(at);
                    self.input(client, Input::Expired);
                }
                _ => break,
            }
        }
        self.now = end;
    }

    fn run(&mut self, client: usize) {
        while self.clients[client].closed.is_none() {
            let Some(output) = self.clients[client].session.poll() else {
                let waits = self.clients[client].under_way > 0 && !self.slow;
                if !waits {
                    return;
                }
                self.clients[client].under_way = 0;
                self.clients[client].session.handle(self.now, Input::Drained);
                continue;
            };
            match output {
                Output::Send(bytes) => {
                    self.clients[client].received.extend_from_slice(&bytes);
                    self.clients[client].under_way += bytes.len();
                    assert!(
                        self.clients[client].under_way <= session::OUTPUT_HIGH,
                        "more than a client may leave unread"
                    );
                }
                Output::StartTls => self.clients[client].session.handle(self.now, Input::TlsStarted),
                Output::Close(why) => self.clients[client].closed = Some(why),
                Output::Ask(ticket, question) => {
                    if let Some(answer) = self.answer(client, ticket, question) {
                        self.clients[client].session.handle(self.now, Input::Answered(ticket, answer));
                    }
                }
            }
        }
    }

    fn answer(&mut self, client: usize, ticket: Ticket, question: Question) -> Option<Answer> {
        self.questions.push(name_of(&question));
        let answer = match question {
            Question::Login { user, password } => login(&user, &password.0, self.snapshot()),
            Question::SaslStart { initial: Some(initial), .. } => sasl_plain(&initial, self.snapshot()),
            Question::SaslStart { mechanism, initial: None } if mechanism == "PLAIN" => {
                Answer::Sasl(Vec::new())
            }
            Question::SaslStart { initial: None, .. } => Answer::Sasl(b"challenge".to_vec()),
            Question::SaslResponse(response) if response == b"scram" => Answer::LoggedIn(LoggedIn {
                user: "ada@example.org".to_owned(),
                snapshot: self.snapshot(),
                final_data: Some(b"v=final".to_vec()),
            }),
            Question::SaslResponse(response) if response == b"scram elsewhere" => {
                Answer::Elsewhere(Elsewhere {
                    user: "moved@example.org".to_owned(),
                    final_data: Some(b"v=final".to_vec()),
                })
            }
            Question::SaslResponse(response) => sasl_plain(&response, self.snapshot()),
            Question::HandOver(hand_over) => {
                self.handed_over.push((ticket, hand_over));
                return None;
            }
            Question::SaslCancel => return None,
            Question::Account(request) => {
                let result = self.request(request);
                let snapshot = self.snapshot();
                self.show_others(client, &snapshot);
                Answer::Account(result.map(|reply| door::Done { reply, snapshot }))
            }
            Question::Read(read) => self.read(read),
            Question::SpoolBegin => {
                let incoming = self.spool.begin();
                self.clients[client].incoming.insert(ticket, incoming);
                return None;
            }
            Question::SpoolWrite(bytes) => {
                if self.spool_full && self.clients[client].failed.insert(ticket) {
                    self.clients[client].incoming.remove(&ticket);
                    return Some(Answer::Spooled(Err(session::SpoolFailed::NoSpace)));
                }
                if let Some(incoming) = self.clients[client].incoming.get_mut(&ticket) {
                    incoming.write(&bytes).unwrap();
                }
                return None;
            }
            Question::SpoolFinish => {
                let spooled = self.clients[client].incoming.remove(&ticket)?.finish().unwrap();
                Answer::Spooled(Ok(Arc::new(spooled)))
            }
            Question::SpoolAbandon => {
                self.clients[client].incoming.remove(&ticket);
                return None;
            }
            Question::LockMaildrop
            | Question::BeginTransaction
            | Question::FindRecipient { .. }
            | Question::Deliver { .. } => {
                panic!("IMAP never asks this")
            }
        };
        Some(answer)
    }

    fn show_others(&mut self, asker: usize, snapshot: &Arc<Snapshot>) {
        for other in (0..self.clients.len()).filter(|other| *other != asker) {
            if self.clients[other].closed.is_none() {
                self.input(other, Input::Changed(Arc::clone(snapshot)));
            }
        }
    }

    /// Tells every session what the account looks like now.
    pub(crate) fn publish(&mut self) {
        let snapshot = self.snapshot();
        self.show_others(usize::MAX, &snapshot);
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let mut mailboxes = BTreeMap::new();
        for (name, mailbox) in &self.boxes {
            for parent in std::iter::successors(name.parent(), MailboxName::parent) {
                mailboxes.entry(parent).or_insert(MailboxEntry { view: None, special_use: None });
            }
            let entry =
                MailboxEntry { view: Some(Arc::new(mailbox.view())), special_use: mailbox.special_use };
            mailboxes.insert(name.clone(), entry);
        }
        Arc::new(Snapshot {
            account: AccountId::from_bytes([1; 16]),
            lsn: self.clock,
            mailboxes,
            subscriptions: Arc::new(self.subscriptions.clone()),
            used_bytes: 0,
            messages: self.boxes.values().map(|mailbox| mailbox.messages.len() as u64).sum(),
        })
    }

    fn tick(&mut self) -> u64 {
        self.clock += 1;
        self.clock
    }

    fn fresh(&mut self) -> [u8; 16] {
        self.next_id += 1;
        let mut bytes = [0; 16];
        bytes[8..].copy_from_slice(&self.next_id.to_be_bytes());
        bytes
    }

    pub(crate) fn create(&mut self, name: &str) -> MailboxId {
        let id = MailboxId::from_bytes(self.fresh());
        let tick = self.tick();
        let mailbox = Mailbox {
            id,
            uid_validity: UidValidity::new(42).unwrap(),
            uid_next: 1,
            highest_modseq: tick,
            messages: Vec::new(),
            vanished: Vec::new(),
            forgotten_to: 0,
            special_use: None,
            recent: Arc::default(),
        };
        self.boxes.insert(MailboxName::new(name).unwrap(), mailbox);
        id
    }

    pub(crate) fn mailbox(&mut self, name: &str) -> &mut Mailbox {
        self.boxes.get_mut(&MailboxName::new(name).unwrap()).unwrap()
    }

    pub(crate) fn deliver(&mut self, mailbox: &str, body: &[u8]) -> Uid {
        self.put(&MailboxName::new(mailbox).unwrap(), body, SystemFlags::NONE, &[], NOW_UNIX_S)
    }

    fn put(
        &mut self,
        name: &MailboxName,
        body: &[u8],
        system: SystemFlags,
        keywords: &[Keyword],
        date: i64,
    ) -> Uid {
        let (tick, entry, message) = (self.tick(), EntryId::from_bytes(self.fresh()), self.fresh());
        self.bodies.insert(entry, body.to_vec());
        let mailbox = self.boxes.get_mut(name).unwrap();
        let uid = Uid::new(mailbox.uid_next).unwrap();
        mailbox.uid_next += 1;
        mailbox.highest_modseq = tick;
        mailbox.messages.push(MessageView {
            uid,
            flags: system,
            keywords: (!keywords.is_empty()).then(|| keywords.into()),
            modseq: ModSeq(tick),
            internal_date: date,
            save_date: date,
            wire_size: body.len() as u64,
            size: body.len() as u64,
            entry,
            message: MessageId::from_bytes(message),
            content: ContentId::of(body),
            base: "base".into(),
            uidl: None,
        });
        uid
    }

    pub(crate) fn expunge(&mut self, mailbox: &str, uid: u32) {
        let tick = self.tick();
        self.mailbox(mailbox).expunge(tick, &[Uid::new(uid).unwrap()]);
    }

    pub(crate) fn edit_flags(&mut self, mailbox: &str, uid: u32, edit: FlagEdit, flags: &[&str]) {
        let flags: Vec<Flag> = flags.iter().map(|flag| Flag::parse(flag).unwrap()).collect();
        let tick = self.tick();
        self.mailbox(mailbox).edit(tick, &[Uid::new(uid).unwrap()], edit, &flags, None);
    }

    fn by_id(&mut self, id: MailboxId) -> Result<&mut Mailbox, Refused> {
        self.boxes.values_mut().find(|mailbox| mailbox.id == id).ok_or(Refused::MailboxGone)
    }

    fn request(&mut self, request: Request) -> Result<Reply, Refused> {
        if let Some(refused) = self.refuse.take() {
            return Err(refused);
        }
        match request {
            Request::Observe { .. } => {
                for (name, body) in std::mem::take(&mut self.unobserved) {
                    if !self.boxes.contains_key(&name) {
                        self.create(name.as_str());
                    }
                    self.deliver(name.as_str(), &body);
                }
                Ok(Reply::Done)
            }
            Request::Append(append) => self.append(append),
            Request::Copy { from, uids, to } => self.copy(from, &uids, &to),
            Request::Move { from, uids, to } => {
                let reply = self.copy(from, &uids, &to)?;
                let tick = self.tick();
                self.by_id(from)?.expunge(tick, &uids);
                Ok(reply)
            }
            Request::EditFlags(edit) => {
                let tick = self.tick();
                let mailbox = self.by_id(edit.mailbox)?;
                let modified = mailbox.edit(tick, &edit.uids, edit.edit, &edit.flags, edit.unchanged_since);
                Ok(Reply::FlagsEdited { modified })
            }
            Request::Expunge { mailbox, which } => {
                let tick = self.tick();
                let mailbox = self.by_id(mailbox)?;
                let deleted = |message: &&MessageView| message.flags.contains(model::SystemFlag::Deleted);
                let deleted: Vec<Uid> =
                    mailbox.messages.iter().filter(deleted).map(|message| message.uid).collect();
                let uids = match which {
                    Expunge::Deleted => deleted,
                    Expunge::DeletedAmong(among) => {
                        deleted.into_iter().filter(|uid| among.contains(uid)).collect()
                    }
                    Expunge::Exactly(uids) => uids,
                };
                mailbox.expunge(tick, &uids);
                Ok(Reply::Expunged { uids })
            }
            Request::Create { name, special_use } => {
                if self.boxes.contains_key(&name) {
                    return Err(Refused::MailboxExists(name));
                }
                let mailbox = self.create(name.as_str());
                self.mailbox(name.as_str()).special_use = special_use;
                Ok(Reply::Created { mailbox })
            }
            Request::Delete { name } if name.is_inbox() => {
                Err(Refused::CannotDo { name, why: "INBOX stays" })
            }
            Request::Delete { name } => {
                self.tick();
                self.boxes.remove(&name).map(|_| Reply::Done).ok_or(Refused::NoMailbox(name))
            }
            Request::Rename { from, to } => {
                self.tick();
                let mailbox = self.boxes.remove(&from).ok_or(Refused::NoMailbox(from))?;
                self.boxes.insert(to, mailbox);
                Ok(Reply::Done)
            }
            Request::Subscribe { name, on } => {
                self.tick();
                if on {
                    self.subscriptions.insert(name);
                } else {
                    self.subscriptions.remove(&name);
                }
                Ok(Reply::Done)
            }
            Request::Settle | Request::RebuildIndex => Ok(Reply::Done),
        }
    }

    fn append(&mut self, append: door::Append) -> Result<Reply, Refused> {
        if !self.boxes.contains_key(&append.mailbox) {
            return Err(Refused::NoMailbox(append.mailbox));
        }
        let mut uids = Vec::new();
        for message in append.messages {
            let body = read_file(self.directory.path(), message.body.path());
            let system = message.flags.iter().filter_map(|flag| match flag {
                Flag::System(flag) => Some(*flag),
                Flag::Keyword(_) => None,
            });
            let keywords: Vec<Keyword> = message
                .flags
                .iter()
                .filter_map(|flag| match flag {
                    Flag::Keyword(keyword) => Some(keyword.clone()),
                    Flag::System(_) => None,
                })
                .collect();
            let date = message.internal_date.unwrap_or(NOW_UNIX_S);
            uids.push(self.put(&append.mailbox, &body, system.collect(), &keywords, date));
        }
        let mailbox = self.mailbox(append.mailbox.as_str());
        Ok(Reply::Appended { mailbox: mailbox.id, uid_validity: mailbox.uid_validity, uids })
    }

    fn copy(&mut self, from: MailboxId, uids: &[Uid], to: &MailboxName) -> Result<Reply, Refused> {
        let sources: Vec<MessageView> = self
            .by_id(from)?
            .messages
            .iter()
            .filter(|message| uids.contains(&message.uid))
            .cloned()
            .collect();
        if !self.boxes.contains_key(to) {
            return Err(Refused::NoMailbox(to.clone()));
        }
        let mut pairs = Vec::new();
        for source in sources {
            let body = self.bodies[&source.entry].clone();
            let keywords = source.keywords.as_deref().unwrap_or_default();
            pairs.push((source.uid, self.put(to, &body, source.flags, keywords, source.internal_date)));
        }
        Ok(Reply::Copied { uid_validity: self.boxes[to].uid_validity, uids: pairs })
    }

    fn body(&self, message: &MessageView) -> Result<&[u8], ReadFailed> {
        if self.gone.contains(&message.uid) {
            return Err(ReadFailed::Gone);
        }
        let body = self.bodies.get(&message.entry).ok_or(ReadFailed::Gone)?;
        let end = if self.short.contains(&message.uid) { body.len() / 2 } else { body.len() };
        Ok(&body[..end])
    }

    fn read(&self, read: Read) -> Answer {
        match read {
            Read::Describe { messages, .. } => {
                let describe = |view: &MessageView| {
                    let wire = self.body(view)?;
                    let message = message::parse(wire, &message::Limits::default());
                    let header = Bytes::copy_from_slice(message.root.header.of(wire));
                    Ok(Arc::new(Description { message, header: (!self.headers_uncached).then_some(header) }))
                };
                Answer::Described(messages.iter().map(describe).collect())
            }
            Read::Octets { message, offset, length, .. } => {
                let octets = self.body(&message).map(|body| {
                    let start = (offset as usize).min(body.len());
                    let end = (start + length as usize).min(body.len());
                    Bytes::copy_from_slice(&body[start..end])
                });
                Answer::Octets(octets)
            }
            Read::Search { messages, query, .. } => {
                let search = |view: &MessageView| Ok(holds(&query, view, self.body(view)?));
                Answer::Found(messages.iter().map(search).collect())
            }
        }
    }
}

impl Mailbox {
    fn view(&self) -> MailboxView {
        let mut view = MailboxView::from_messages(self.id, self.uid_validity, self.messages.clone())
            .with_vanished(ModSeq(self.forgotten_to), self.vanished.clone());
        view.uid_next = Uid::new(self.uid_next).unwrap();
        view.highest_modseq = ModSeq(self.highest_modseq);
        view.recent = Arc::clone(&self.recent);
        view
    }

    fn expunge(&mut self, tick: u64, uids: &[Uid]) {
        self.messages.retain(|message| !uids.contains(&message.uid));
        self.vanished.extend(uids.iter().map(|uid| (ModSeq(tick), *uid)));
        self.highest_modseq = tick;
    }

    fn edit(
        &mut self,
        tick: u64,
        uids: &[Uid],
        edit: FlagEdit,
        flags: &[Flag],
        unchanged_since: Option<ModSeq>,
    ) -> Vec<Uid> {
        let mut modified = Vec::new();
        for message in self.messages.iter_mut().filter(|message| uids.contains(&message.uid)) {
            if unchanged_since.is_some_and(|since| message.modseq > since) {
                modified.push(message.uid);
                continue;
            }
            let (mut system, mut keywords) =
                (message.flags, message.keywords.as_deref().unwrap_or_default().to_vec());
            if edit == FlagEdit::Replace {
                (system, keywords) = (SystemFlags::NONE, Vec::new());
            }
            for flag in flags {
                match flag {
                    Flag::System(flag) => system.set(*flag, edit != FlagEdit::Remove),
                    Flag::Keyword(keyword) => {
                        keywords.retain(|other| other != keyword);
                        if edit != FlagEdit::Remove {
                            keywords.push(keyword.clone());
                        }
                    }
                }
            }
            keywords.sort();
            let keywords: Option<Arc<[Keyword]>> = (!keywords.is_empty()).then(|| keywords.into());
            if (system, &keywords) != (message.flags, &message.keywords) {
                (message.flags, message.keywords, message.modseq) = (system, keywords, ModSeq(tick));
                self.highest_modseq = tick;
            }
        }
        modified
    }
}

#[expect(clippy::disallowed_methods, reason = "the fake account looks at what was spooled")]
fn read_file(_root: &Path, path: &Path) -> Vec<u8> {
    std::fs::read(path).unwrap()
}

fn name_of(question: &Question) -> &'static str {
    match question {
        Question::Account(Request::EditFlags(_)) => "edit flags",
        Question::Account(_) => "account",
        Question::Read(Read::Describe { .. }) => "describe",
        Question::Read(Read::Octets { .. }) => "octets",
        Question::Read(Read::Search { .. }) => "search",
        _ => "other",
    }
}

fn login(user: &[u8], password: &[u8], snapshot: Arc<Snapshot>) -> Answer {
    if (user, password) == (b"ada", b"secret") {
        Answer::LoggedIn(LoggedIn { user: "ada@example.org".to_owned(), snapshot, final_data: None })
    } else if user == b"moved" {
        Answer::Elsewhere(Elsewhere { user: "moved@example.org".to_owned(), final_data: None })
    } else if user == b"busy" {
        Answer::LoginFailed(LoginFailed::TooManySessions)
    } else if user == b"lost" {
        Answer::LoginFailed(LoginFailed::Unavailable("passdb".to_owned()))
    } else {
        Answer::LoginFailed(LoginFailed::Credentials)
    }
}

fn sasl_plain(message: &[u8], snapshot: Arc<Snapshot>) -> Answer {
    let mut parts = message.split(|byte| *byte == 0).skip(1);
    login(parts.next().unwrap_or_default(), parts.next().unwrap_or_default(), snapshot)
}

/// What a reader answers.
fn holds(query: &Query, view: &MessageView, wire: &[u8]) -> bool {
    if let Some(answer) = query.decide(view) {
        return answer;
    }
    let message = message::parse(wire, &message::Limits::default());
    match query {
        Query::And(all) => all.iter().all(|query| holds(query, view, wire)),
        Query::Or(any) => any.iter().any(|query| holds(query, view, wire)),
        Query::Not(query) => !holds(query, view, wire),
        Query::Header { name, contains } => {
            Needle::new(contains).is_in_field(message.root.header.of(wire), name.as_bytes())
        }
        Query::Body(text) => Needle::new(text).is_in_body(&message, wire),
        Query::Text(text) => Needle::new(text).is_in_message(&message, wire),
        Query::SentFrom(day) => sent(&message).is_some_and(|sent| sent >= *day),
        Query::SentBefore(day) => sent(&message).is_some_and(|sent| sent < *day),
        other => panic!("{other:?} is decided without the bytes"),
    }
}

fn sent(message: &message::Message) -> Option<i64> {
    message::date::parse(message.envelope.date.as_deref()?).map(message::date::Date::day)
}
