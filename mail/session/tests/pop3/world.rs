//! A client, and a driver that answers a session's questions from a handful of messages in memory.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use account::door::{Done, Expunge, Refused, Reply, Request};
use account::snapshot::MailboxEntry;
use account::{MailboxView, MessageView, Snapshot};
use model::{
    AccountId, ContentId, EntryId, MailboxId, MailboxName, MessageId, ModSeq, SystemFlags, Uid, UidValidity,
};
use session::pop3::{Options, Pop3};
use session::{
    Answer, Closing, Connection, Elsewhere, Input, LockRefused, LoggedIn, LoginFailed, OUTPUT_HIGH, Output,
    Question, Read, ReadFailed, Session, Ticket,
};

pub(crate) const INBOX: MailboxId = MailboxId::from_bytes([7; 16]);

pub(crate) struct World {
    pub(crate) session: Pop3,
    pub(crate) now: Instant,
    /// What the client received and no test has looked at yet.
    pub(crate) received: Vec<u8>,
    pub(crate) closed: Option<Closing>,
    /// Questions, as far as tests want to know of them.
    pub(crate) asked: Vec<String>,
    pub(crate) messages: BTreeMap<u32, Vec<u8>>,
    /// Mail that another program has left, which only a look finds.
    pub(crate) unseen: BTreeMap<u32, Vec<u8>>,
    pub(crate) uidls: BTreeMap<u32, &'static str>,
    pub(crate) removed: Vec<u32>,
    pub(crate) lock: Result<(), LockRefused>,
    pub(crate) login: Option<LoginFailed>,
    /// The account is another node's.
    pub(crate) elsewhere: bool,
    pub(crate) observe: Option<Refused>,
    pub(crate) expunge: Option<Refused>,
    /// Octets of each message that can be read, and what there is instead of the rest.
    pub(crate) readable: BTreeMap<u32, (u64, Result<(), ReadFailed>)>,
    /// Sizes that are announced, where they are not the true ones.
    pub(crate) sizes: BTreeMap<u32, u64>,
    /// Questions are kept for the test to answer.
    pub(crate) holds: bool,
    pub(crate) held: Vec<(Ticket, Question)>,
    /// The client takes nothing, beyond what the system has room for.
    pub(crate) stalls: bool,
    under_way: usize,
    pub(crate) most_under_way: usize,
}

pub(crate) fn connection() -> Connection {
    Connection {
        remote: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: false,
        tls_available: true,
        plaintext_without_tls: true,
        mechanisms_plain: ["SCRAM-SHA-256".to_owned()].into(),
        mechanisms_tls: ["SCRAM-SHA-256".to_owned(), "PLAIN".to_owned()].into(),
        host: "mx.example.org".into(),
    }
}

pub(crate) fn options() -> Options {
    Options {
        before_login: Duration::from_secs(60),
        idle: Duration::from_secs(600),
        uidl_format: "%08Xu%08Xv".to_owned(),
        lock: true,
        login_failures_max: 10,
    }
}

#[expect(clippy::disallowed_methods, reason = "any moment will do, and there is no other way to have one")]
fn start() -> Instant {
    Instant::now()
}

impl World {
    pub(crate) fn with(connection: Connection, options: Options) -> Self {
        let now = start();
        let mut world = Self {
            session: Pop3::new(now, connection, options),
            now,
            received: Vec::new(),
            closed: None,
            asked: Vec::new(),
            messages: BTreeMap::new(),
            unseen: BTreeMap::new(),
            uidls: BTreeMap::new(),
            removed: Vec::new(),
            lock: Ok(()),
            login: None,
            elsewhere: false,
            observe: None,
            expunge: None,
            readable: BTreeMap::new(),
            sizes: BTreeMap::new(),
            holds: false,
            held: Vec::new(),
            stalls: false,
            under_way: 0,
            most_under_way: 0,
        };
        world.pump();
        assert_eq!(world.takes(), "+OK mx.example.org POP3 Roost ready\r\n");
        world
    }

    /// A client that logged in at another node.
    pub(crate) fn admit(&mut self) {
        let logged_in =
            LoggedIn { user: "ada@example.org".to_owned(), snapshot: self.snapshot(), final_data: None };
        self.session = Pop3::admitted(self.now, connection(), options(), logged_in);
        self.pump();
    }

    /// Another node goes on with this session; `false`: it is not at a command boundary.
    pub(crate) fn relocate(&mut self) -> bool {
        let snapshot = self.snapshot();
        self.handle(Input::Leaving);
        self.handle(Input::Changed(Arc::clone(&snapshot)));
        let Some(blob) = self.session.export(self.now) else { return false };
        let logged_in = LoggedIn { user: "ada@example.org".to_owned(), snapshot, final_data: None };
        let resumed = Pop3::resumed(self.now, connection(), options(), logged_in, &blob).unwrap();
        self.session = resumed;
        self.pump();
        true
    }

    pub(crate) fn new() -> Self {
        Self::with(connection(), options())
    }

    /// The maildrop of RFC 1939's examples: 120 and 200 octets.
    pub(crate) fn rfc() -> Self {
        let mut world = Self::new();
        world.messages.insert(3, message_of(120));
        world.messages.insert(5, message_of(200));
        world
    }

    pub(crate) fn logged_in(mut self) -> Self {
        self.feed(b"USER ada\r\nPASS secret\r\n");
        let said = self.takes();
        assert!(said.starts_with("+OK") && said.contains("Maildrop has"), "{said}");
        self
    }

    pub(crate) fn feed(&mut self, bytes: &[u8]) {
        assert!(self.session.wants_input() || self.closed.is_some(), "the session takes no input now");
        self.handle(Input::Received(bytes));
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) {
        self.session.handle(self.now, input);
        self.pump();
    }

    pub(crate) fn later(&mut self, seconds: u64) {
        self.now += Duration::from_secs(seconds);
        if self.session.deadline().is_some_and(|deadline| deadline <= self.now) {
            self.handle(Input::Expired);
        }
    }

    /// What the client received since the last look.
    pub(crate) fn takes(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    /// Says a line, hears what comes back.
    pub(crate) fn says(&mut self, line: &str) -> String {
        self.feed(format!("{line}\r\n").as_bytes());
        self.takes()
    }

    pub(crate) fn drains(&mut self) {
        self.under_way = 0;
        self.handle(Input::Drained);
    }

    pub(crate) fn answers_held(&mut self) {
        for (ticket, question) in std::mem::take(&mut self.held) {
            let answer = self.answer(question);
            self.handle(Input::Answered(ticket, answer));
        }
    }

    fn pump(&mut self) {
        loop {
            match self.session.poll() {
                Some(_) if self.closed.is_some() => panic!("something came after the end"),
                Some(Output::Send(bytes)) => {
                    self.under_way += bytes.len();
                    self.most_under_way = self.most_under_way.max(self.under_way);
                    assert!(self.under_way <= OUTPUT_HIGH, "too much output under way");
                    self.received.extend_from_slice(&bytes);
                }
                Some(Output::Ask(ticket, question)) if self.holds => self.held.push((ticket, question)),
                Some(Output::Ask(ticket, question)) => {
                    let answer = self.answer(question);
                    self.session.handle(self.now, Input::Answered(ticket, answer));
                }
                Some(Output::StartTls) => self.session.handle(self.now, Input::TlsStarted),
                Some(Output::Close(closing)) => self.closed = Some(closing),
                None if self.under_way > 0 && !self.stalls => {
                    self.under_way = 0;
                    self.session.handle(self.now, Input::Drained);
                }
                None => return,
            }
        }
    }

    fn answer(&mut self, question: Question) -> Answer {
        match question {
            Question::Login { user, password } => {
                let known =
                    user == b"ada" && password.0 == b"secret" || user == b"eve" && password.0 == b" a b ";
                self.checked(known)
            }
            Question::SaslStart { mechanism, initial } => {
                self.asked.push(format!("{mechanism} {initial:?}"));
                match (mechanism.as_str(), initial) {
                    ("PLAIN", Some(message)) => self.checked(message == b"\0ada\0secret"),
                    (_, _) => Answer::Sasl(Vec::new()),
                }
            }
            Question::SaslResponse(response) if response == b"client first" => {
                Answer::Sasl(b"server first".to_vec())
            }
            Question::SaslResponse(response) if response == b"client final" => match self.checked(true) {
                Answer::LoggedIn(logged_in) => {
                    Answer::LoggedIn(LoggedIn { final_data: Some(b"v=yes".to_vec()), ..logged_in })
                }
                Answer::Elsewhere(elsewhere) => {
                    Answer::Elsewhere(Elsewhere { final_data: Some(b"v=yes".to_vec()), ..elsewhere })
                }
                other => other,
            },
            Question::SaslResponse(response) => self.checked(response == b"\0ada\0secret"),
            Question::SaslCancel => {
                self.asked.push("cancel".to_owned());
                Answer::LoginFailed(LoginFailed::Credentials)
            }
            Question::HandOver(hand_over) => {
                self.asked.push(format!("hand over {hand_over:?}"));
                Answer::LoginFailed(LoginFailed::Unavailable("no node has the account".to_owned()))
            }
            Question::LockMaildrop => Answer::Locked(self.lock),
            Question::Account(request) => Answer::Account(self.request(request)),
            Question::Read(read) => self.read(read),
            other => panic!("POP3 does not ask {other:?}"),
        }
    }

    fn checked(&mut self, known: bool) -> Answer {
        match self.login.clone() {
            None if known && self.elsewhere => {
                Answer::Elsewhere(Elsewhere { user: "ada@example.org".to_owned(), final_data: None })
            }
            Some(failed) => Answer::LoginFailed(failed),
            None if !known => Answer::LoginFailed(LoginFailed::Credentials),
            None => Answer::LoggedIn(LoggedIn {
                user: "ada@example.org".to_owned(),
                snapshot: self.snapshot(),
                final_data: None,
            }),
        }
    }

    fn request(&mut self, request: Request) -> Result<Done, Refused> {
        let (refused, reply) = match request {
            Request::Observe { mailbox } => {
                assert_eq!(mailbox, Some(INBOX));
                self.messages.append(&mut self.unseen);
                (self.observe.take(), Reply::Done)
            }
            Request::Expunge { mailbox, which: Expunge::Exactly(uids) } => {
                assert_eq!(mailbox, INBOX);
                let refused = self.expunge.take();
                if refused.is_none() {
                    self.removed.extend(uids.iter().map(|uid| uid.get()));
                }
                (refused, Reply::Expunged { uids })
            }
            other => panic!("POP3 does not want {other:?}"),
        };
        match refused {
            Some(refused) => Err(refused),
            None => Ok(Done { reply, snapshot: self.snapshot() }),
        }
    }

    fn read(&mut self, read: Read) -> Answer {
        let Read::Octets { mailbox, message, offset, length } = read else {
            panic!("POP3 reads octets only")
        };
        assert_eq!(mailbox, INBOX);
        let uid = message.uid.get();
        let octets = &self.messages[&uid];
        let (readable, end) = self.readable.get(&uid).cloned().unwrap_or((octets.len() as u64, Ok(())));
        if offset >= readable {
            return Answer::Octets(end.map(|()| bytes::Bytes::new()));
        }
        let to = readable.min(offset + u64::from(length));
        Answer::Octets(Ok(octets[offset as usize..to as usize].to_vec().into()))
    }

    pub(crate) fn snapshot(&self) -> Arc<Snapshot> {
        let messages = self.messages.iter().map(|(uid, octets)| MessageView {
            uid: Uid::new(*uid).unwrap(),
            flags: SystemFlags::NONE,
            keywords: None,
            modseq: ModSeq(1),
            internal_date: 0,
            save_date: 0,
            wire_size: self.sizes.get(uid).copied().unwrap_or(octets.len() as u64),
            size: octets.len() as u64,
            entry: EntryId::from_bytes([0; 16]),
            message: MessageId::from_bytes([0; 16]),
            content: ContentId::of(octets),
            base: format!("base{uid}").into(),
            uidl: self.uidls.get(uid).map(|uidl| (*uidl).into()),
        });
        let validity = UidValidity::new(1_795_319_790).unwrap();
        let view = MailboxView::from_messages(INBOX, validity, messages.collect());
        let entry = MailboxEntry { view: Some(Arc::new(view)), special_use: None };
        Arc::new(Snapshot {
            account: AccountId::from_bytes([1; 16]),
            lsn: 1,
            mailboxes: BTreeMap::from([(MailboxName::inbox(), entry)]),
            subscriptions: Arc::default(),
            used_bytes: 0,
            messages: self.messages.len() as u64,
        })
    }
}

/// A message of so many octets, a header and one line of text.
pub(crate) fn message_of(octets: usize) -> Vec<u8> {
    let mut message = b"Subject: a\r\n\r\n".to_vec();
    message.resize(octets - 2, b'x');
    message.extend_from_slice(b"\r\n");
    message
}

/// Plays a conversation: `C:` lines are sent, `S:` lines must come, in this order and no others between them. `...`
/// at the end of a line stands for anything; white space at line ends does not count.
pub(crate) fn check(world: &mut World, script: &str) {
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        if let Some(said) = line.strip_prefix("C:") {
            let unheard = world.takes();
            assert_eq!(unheard, "", "before {line}");
            world.feed(format!("{}\r\n", said.strip_prefix(' ').unwrap_or(said)).as_bytes());
        } else if let Some(expected) = line.strip_prefix("S:") {
            let expected = expected.strip_prefix(' ').unwrap_or(expected);
            let end = world.received.windows(2).position(|pair| pair == b"\r\n");
            let end = end.unwrap_or_else(|| panic!("expected {expected:?}, nothing came"));
            let came: Vec<u8> = world.received.drain(..end + 2).collect();
            let came = String::from_utf8_lossy(&came[..end]).trim_end().to_owned();
            match expected.strip_suffix("...") {
                Some(start) => assert!(came.starts_with(start), "expected {expected:?}, came {came:?}"),
                None => assert_eq!(came, expected),
            }
        } else {
            panic!("no script line: {line}");
        }
    }
    let rest = world.takes();
    assert_eq!(rest, "", "after the script");
}
