//! An MTA, and a driver with a spool in memory, a few users and accounts that remember what was delivered.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use account::Snapshot;
use account::door::{Done, Refused, Reply};
use model::{AccountId, DeliveryKey, MailboxId, MailboxName, UidValidity};
use nfs_compat::{Fs, SimFs};
use session::lmtp::{Lmtp, Options};
use session::{
    Answer, Closing, Connection, Input, OUTPUT_HIGH, Output, Question, RecipientId, RecipientRefused,
    Session, SpoolFailed, Ticket,
};
use store::spool::{Incoming, Spool};

pub(crate) struct World {
    pub(crate) session: Lmtp,
    pub(crate) now: Instant,
    pub(crate) received: Vec<u8>,
    pub(crate) closed: Option<Closing>,
    /// Recipient and octets of each delivery, in the order asked.
    pub(crate) delivered: Vec<(String, Vec<u8>)>,
    pub(crate) keys: Vec<Option<DeliveryKey>>,
    pub(crate) found: Vec<String>,
    /// What the account of a recipient says.
    pub(crate) refuses: BTreeMap<&'static str, fn() -> Refused>,
    /// The spool fails at its n-th question (begin, writes, finish), counted from 0 for each message.
    pub(crate) spool_fails: Option<(usize, SpoolFailed)>,
    /// Trouble is reported only when the next answer is due, as a slow disk would.
    pub(crate) trouble_is_late: bool,
    late: Vec<(Ticket, Answer)>,
    spool_steps: usize,
    spool: Spool,
    incoming: Option<Incoming>,
    octets: Vec<u8>,
    pub(crate) holds: bool,
    pub(crate) held: Vec<(Ticket, Question)>,
    pub(crate) stalls: bool,
    pub(crate) abandoned: usize,
    under_way: usize,
}

pub(crate) fn connection() -> Connection {
    Connection {
        remote: IpAddr::V4(Ipv4Addr::LOCALHOST),
        tls: false,
        tls_available: true,
        plaintext_without_tls: true,
        mechanisms_plain: [].into(),
        mechanisms_tls: [].into(),
        host: "mx.example.org".into(),
    }
}

pub(crate) fn options() -> Options {
    Options { message_bytes_max: 1000, recipients_max: 100, idle: Duration::from_secs(300) }
}

#[expect(clippy::disallowed_methods, reason = "any moment will do, and there is no other way to have one")]
fn start() -> Instant {
    Instant::now()
}

impl World {
    pub(crate) fn with(options: Options) -> Self {
        let now = start();
        let fs: Arc<dyn Fs> = Arc::new(SimFs::new(1));
        let mut world = Self {
            session: Lmtp::new(now, connection(), options),
            now,
            received: Vec::new(),
            closed: None,
            delivered: Vec::new(),
            keys: Vec::new(),
            found: Vec::new(),
            refuses: BTreeMap::new(),
            spool_fails: None,
            trouble_is_late: false,
            late: Vec::new(),
            spool_steps: 0,
            spool: Spool::open(fs, Path::new("/mail"), 1, 1).unwrap(),
            incoming: None,
            octets: Vec::new(),
            holds: false,
            held: Vec::new(),
            stalls: false,
            abandoned: 0,
            under_way: 0,
        };
        world.pump();
        assert_eq!(world.takes(), "220 mx.example.org LMTP Roost ready\r\n");
        world
    }

    /// After LHLO.
    pub(crate) fn new() -> Self {
        let mut world = Self::with(options());
        world.says("LHLO client");
        world
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

    pub(crate) fn takes(&mut self) -> String {
        String::from_utf8(std::mem::take(&mut self.received)).unwrap()
    }

    pub(crate) fn says(&mut self, line: &str) -> String {
        self.feed(format!("{line}\r\n").as_bytes());
        self.takes()
    }

    /// Sends bytes, as one, and hears the codes of the replies.
    pub(crate) fn codes(&mut self, text: &str) -> Vec<u16> {
        self.feed(text.as_bytes());
        codes(&self.takes())
    }

    pub(crate) fn drains(&mut self) {
        self.under_way = 0;
        self.handle(Input::Drained);
    }

    /// Answers the questions that were kept; from the last to the first, if so wanted.
    pub(crate) fn answers_held(&mut self, backwards: bool) {
        let mut held = std::mem::take(&mut self.held);
        if backwards {
            held.reverse();
        }
        for (ticket, question) in held {
            if let Some(answer) = self.answer(ticket, question) {
                self.handle(Input::Answered(ticket, answer));
            }
        }
    }

    fn pump(&mut self) {
        loop {
            match self.session.poll() {
                Some(_) if self.closed.is_some() => panic!("something came after the end"),
                Some(Output::Send(bytes)) => {
                    self.under_way += bytes.len();
                    assert!(self.under_way <= OUTPUT_HIGH, "too much output under way");
                    self.received.extend_from_slice(&bytes);
                }
                Some(Output::Ask(
                    ticket,
                    question @ (Question::FindRecipient { .. } | Question::Deliver { .. }),
                )) if self.holds => {
                    self.held.push((ticket, question));
                }
                Some(Output::Ask(ticket, question)) => {
                    if let Some(answer) = self.answer(ticket, question) {
                        self.session.handle(self.now, Input::Answered(ticket, answer));
                    }
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

    fn answer(&mut self, ticket: Ticket, question: Question) -> Option<Answer> {
        match question {
            Question::BeginTransaction => {
                self.found.clear();
                None
            }
            Question::FindRecipient { address } => Some(Answer::Recipient(self.find(address))),
            Question::Deliver { recipient, append } => {
                let delivered = self.deliver(recipient, append);
                Some(Answer::Delivered(delivered.map(drop).map_err(|why| session::refused::lmtp(&why))))
            }
            Question::SpoolBegin => {
                self.incoming = Some(self.spool.begin());
                self.octets.clear();
                self.spool_steps = 0;
                self.trouble(ticket)
            }
            Question::SpoolWrite(octets) => {
                // After trouble what still comes is dropped, as the driver does.
                self.incoming.as_mut()?.write(&octets).unwrap();
                self.octets.extend_from_slice(&octets);
                self.trouble(ticket)
            }
            Question::SpoolFinish => {
                let trouble = self.trouble(ticket);
                for (ticket, answer) in std::mem::take(&mut self.late) {
                    self.session.handle(self.now, Input::Answered(ticket, answer));
                }
                if trouble.is_some() {
                    return trouble;
                }
                let Some(incoming) = self.incoming.take() else {
                    return Some(Answer::Spooled(Err(SpoolFailed::Failed("nothing was begun".into()))));
                };
                Some(Answer::Spooled(Ok(Arc::new(incoming.finish().unwrap()))))
            }
            Question::SpoolAbandon => {
                self.abandoned += 1;
                self.incoming = None;
                None
            }
            other => panic!("LMTP does not ask {other:?}"),
        }
    }

    fn trouble(&mut self, ticket: Ticket) -> Option<Answer> {
        let step = self.spool_steps;
        self.spool_steps += 1;
        let (_, failed) = self.spool_fails.clone().filter(|(fails, _)| *fails == step)?;
        self.incoming = None;
        let answer = Answer::Spooled(Err(failed));
        if self.trouble_is_late {
            self.late.push((ticket, answer));
            return None;
        }
        Some(answer)
    }

    fn find(&mut self, address: String) -> Result<RecipientId, RecipientRefused> {
        if address.starts_with("nobody") {
            return Err(RecipientRefused::UnknownUser);
        } else if address.starts_with("bad") {
            return Err(RecipientRefused::BadAddress);
        } else if address.starts_with("later") {
            return Err(RecipientRefused::Unavailable("down".into()));
        }
        self.found.push(address);
        Ok(RecipientId(self.found.len() as u32 - 1))
    }

    fn deliver(&mut self, recipient: RecipientId, append: account::door::Append) -> Result<Done, Refused> {
        let user = self.found[recipient.0 as usize].clone();
        assert_eq!((append.mailbox, append.create, append.messages.len()), (MailboxName::inbox(), true, 1));
        assert_eq!(append.messages[0].body.size, self.octets.len() as u64);
        if let Some(refused) = self.refuses.get(user.as_str()) {
            return Err(refused());
        }
        self.delivered.push((user, self.octets.clone()));
        self.keys.push(append.delivery);
        let snapshot = Arc::new(Snapshot {
            account: AccountId::from_bytes([1; 16]),
            lsn: 1,
            mailboxes: BTreeMap::new(),
            subscriptions: Arc::default(),
            used_bytes: 0,
            messages: 0,
        });
        let (mailbox, uid_validity) = (MailboxId::from_bytes([7; 16]), UidValidity::new(1).unwrap());
        Ok(Done { reply: Reply::Appended { mailbox, uid_validity, uids: Vec::new() }, snapshot })
    }
}

/// The code of each reply, of several lines or one.
pub(crate) fn codes(said: &str) -> Vec<u16> {
    let last_lines = said.lines().filter(|line| line.as_bytes()[3] == b' ');
    last_lines.map(|line| line[..3].parse().unwrap()).collect()
}
