//! A volume, a witness keeper and one account on them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use model::{AccountId, DeliveryKey, Epoch, Flag, MailboxId, MailboxName, SiteId, Uid};
use nfs_compat::{Fs, SimFs};
use store::format::maildir::Maildir;
use store::paths::Home;
use store::spool::{Spool, Spooled};

use crate::door::{Append, Done, NewMessage, Refused, Reply, Request};
use crate::open::OpenError;
use crate::owner::{Limits, Now, Owner, Setup};
use crate::tenure::{Tenure, Volume, Witness, WitnessError, Witnessed};

pub(super) const START_US: u64 = 1_767_225_600_000_000;

/// Keeps one account's witness, and fails when a test says so.
#[derive(Default)]
pub(super) struct Keeper(Mutex<Kept>);

#[derive(Default)]
struct Kept {
    last: Option<Witnessed>,
    holder: Option<Epoch>,
    lose_questions: u32,
    lose_replies: u32,
}

impl Keeper {
    pub(super) fn grant(&self, epoch: Epoch) {
        self.0.lock().unwrap().holder = Some(epoch);
    }

    pub(super) fn lose_replies(&self, count: u32) {
        self.0.lock().unwrap().lose_replies = count;
    }

    pub(super) fn lose_questions(&self, count: u32) {
        self.0.lock().unwrap().lose_questions = count;
    }

    pub(super) fn last(&self) -> Option<Witnessed> {
        self.0.lock().unwrap().last
    }
}

impl Witness for Keeper {
    fn read(&self, _: AccountId) -> Result<Option<Witnessed>, WitnessError> {
        Ok(self.last())
    }

    fn accept(&self, _: AccountId, tenure: Epoch, witnessed: Witnessed) -> Result<(), WitnessError> {
        let mut kept = self.0.lock().unwrap();
        if kept.lose_questions > 0 {
            kept.lose_questions -= 1;
            return Err(WitnessError::Unknown);
        }
        if kept.holder != Some(tenure) {
            return Err(WitnessError::StaleEpoch);
        }
        let place = |w: &Witnessed| (w.epoch, w.segment, w.length);
        let backwards =
            kept.last.is_some_and(|last| last.lsn > witnessed.lsn || place(&last) > place(&witnessed));
        assert!(!backwards, "a witness goes backwards: {:?} then {witnessed:?}", kept.last);
        kept.last = Some(witnessed);
        if kept.lose_replies > 0 {
            kept.lose_replies -= 1;
            return Err(WitnessError::Unknown);
        }
        Ok(())
    }

    fn note(&self, _: AccountId, _: Epoch, witnessed: Witnessed) {
        self.0.lock().unwrap().last = Some(witnessed);
    }
}

pub(super) struct World {
    pub(super) sim: SimFs,
    /// What the owner is given: the simulator, or something around it.
    pub(super) fs: Arc<dyn Fs>,
    pub(super) keeper: Arc<Keeper>,
    pub(super) volume: Volume,
    pub(super) epoch: u32,
    pub(super) now: Now,
    pub(super) limits: Limits,
    pub(super) autocreate: Vec<(MailboxName, Option<model::SpecialUse>)>,
    runs: u64,
}

impl World {
    pub(super) fn new(volume: Volume) -> Self {
        let sim = SimFs::new(7);
        let fs: Arc<dyn Fs> = Arc::new(sim.clone());
        Self {
            sim,
            fs,
            keeper: Arc::default(),
            volume,
            epoch: 0,
            now: Now { unix_us: START_US },
            limits: Limits::default(),
            autocreate: Vec::new(),
            runs: 0,
        }
    }

    pub(super) fn setup(&mut self) -> nfs_compat::Result<Setup> {
        self.epoch += 1;
        let epoch = Epoch::new(1, self.epoch);
        self.keeper.grant(epoch);
        let fs = Arc::clone(&self.fs);
        let home = Home::recognise(&*fs, Path::new("/mail/ada"))?;
        Ok(Setup {
            account: account(),
            user: "ada".to_owned(),
            site: SiteId::new(0).unwrap(),
            node: 1,
            format: Arc::new(Maildir::new(Arc::clone(&fs), &home)),
            home,
            fs,
            tenure: Tenure {
                epoch,
                volume: self.volume,
                witness: Arc::clone(&self.keeper) as Arc<dyn Witness>,
            },
            limits: self.limits.clone(),
            autocreate: self.autocreate.clone(),
            cache: None,
        })
    }

    pub(super) fn try_open(&mut self) -> Result<Owner, OpenError> {
        let setup = self.setup()?;
        Owner::open(setup, self.now)
    }

    pub(super) fn open(&mut self) -> Owner {
        self.try_open().unwrap()
    }

    /// A message in the spool.
    pub(super) fn try_spool(&mut self, text: &str) -> nfs_compat::Result<Arc<Spooled>> {
        self.runs += 1;
        // Each message comes from a spool of its own node number, so that none is swept by the next.
        let node = (self.runs % 250) as u8;
        let spool = Spool::open(Arc::clone(&self.fs), Path::new("/mail"), node, self.runs)?;
        let mut incoming = spool.begin();
        incoming.write(text.as_bytes())?;
        incoming.finish().map(Arc::new)
    }

    pub(super) fn message(&mut self, text: &str, flags: &[&str]) -> NewMessage {
        self.try_message(text, flags).unwrap()
    }

    fn try_message(&mut self, text: &str, flags: &[&str]) -> nfs_compat::Result<NewMessage> {
        let body = self.try_spool(&wire(text))?;
        let flags = flags.iter().map(|flag| Flag::parse(flag).unwrap()).collect();
        Ok(NewMessage { body, flags, internal_date: Some(1_700_000_000) })
    }

    pub(super) fn append(&mut self, mailbox: &str, texts: &[&str]) -> Request {
        self.try_append(mailbox, texts, None).unwrap()
    }

    pub(super) fn deliver(&mut self, text: &str, key: u64) -> Request {
        self.try_append("INBOX", &[text], Some(key)).unwrap()
    }

    /// With a delivery key it is a delivery, which creates the mailbox.
    pub(super) fn try_append(
        &mut self,
        mailbox: &str,
        texts: &[&str],
        key: Option<u64>,
    ) -> nfs_compat::Result<Request> {
        let messages = texts.iter().map(|text| self.try_message(text, &[])).collect::<Result<_, _>>()?;
        let (create, delivery) = (key.is_some(), key.map(DeliveryKey));
        Ok(Request::Append(Append { mailbox: name(mailbox), create, messages, delivery }))
    }

    pub(super) fn ask(&mut self, owner: &mut Owner, request: Request) -> Result<Done, Refused> {
        self.now.unix_us += 1_000;
        let mut answers = owner.commit(self.now, vec![request]);
        assert_eq!(answers.len(), 1);
        answers.remove(0)
    }

    pub(super) fn done(&mut self, owner: &mut Owner, request: Request) -> Reply {
        self.ask(owner, request).unwrap().reply
    }

    pub(super) fn later(&mut self, seconds: u64) {
        self.now.unix_us += seconds * 1_000_000;
    }
}

pub(super) fn account() -> AccountId {
    AccountId::derive("test", "ada", 0)
}

pub(super) fn name(text: &str) -> MailboxName {
    MailboxName::new(text).unwrap()
}

pub(super) fn uid(number: u32) -> Uid {
    Uid::new(number).unwrap()
}

pub(super) fn uids(numbers: &[u32]) -> Vec<Uid> {
    numbers.iter().map(|number| uid(*number)).collect()
}

pub(super) fn wire(text: &str) -> String {
    format!("Subject: {text}\n\nThis is {text}.\n")
}

pub(super) fn id_of(owner: &Owner, mailbox: &str) -> MailboxId {
    owner.snapshot().by_name(&name(mailbox)).unwrap().view.as_ref().unwrap().id
}

/// What a client sees of one message: its text and flags.
pub(super) type Seen = (String, Vec<String>);

/// What a client sees of the account.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Picture {
    pub(super) mailboxes: BTreeMap<String, Mailbox>,
    pub(super) subscriptions: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Mailbox {
    pub(super) uid_validity: u32,
    pub(super) uid_next: u32,
    pub(super) messages: BTreeMap<u32, Seen>,
}

/// Reads everything, bytes included.
pub(super) fn picture(owner: &Owner) -> Picture {
    try_picture(owner).unwrap()
}

pub(super) fn try_picture(owner: &Owner) -> Result<Picture, String> {
    let (snapshot, reader) = (owner.snapshot(), owner.reader());
    let mut picture = Picture::default();
    for (name, entry) in &snapshot.mailboxes {
        let Some(view) = &entry.view else { continue };
        let mut messages = BTreeMap::new();
        for message in view.iter() {
            let body = reader.open(view.id, message);
            let octets =
                body.map_err(|error| format!("{}: {error}", message.base))?.read_all(10_000).unwrap();
            let text = String::from_utf8(octets).map_err(|error| error.to_string())?;
            let subject =
                text.lines().next().and_then(|line| line.strip_prefix("Subject: ")).unwrap_or_default();
            let subject = subject.to_owned();
            if text != wire(&subject).replace('\n', "\r\n") || text.len() as u64 != message.wire_size {
                return Err(format!("{}: {text:?}", message.base));
            }
            let keywords = message.keywords.iter().flat_map(|keywords| keywords.iter());
            let mut flags: Vec<_> = message.flags.iter().map(|flag| flag.as_str().to_owned()).collect();
            flags.extend(keywords.map(|keyword| keyword.as_str().to_owned()));
            messages.insert(message.uid.get(), (subject, flags));
        }
        assert_eq!(view.len() as usize, messages.len());
        assert_eq!(view.size_bytes, view.iter().map(|message| message.wire_size).sum::<u64>());
        let unseen =
            messages.values().filter(|(_, flags)| !flags.iter().any(|flag| flag == "\\Seen")).count();
        assert_eq!(view.unseen as usize, unseen);
        let mailbox =
            Mailbox { uid_validity: view.uid_validity.get(), uid_next: view.uid_next.get(), messages };
        picture.mailboxes.insert(name.as_str().to_owned(), mailbox);
    }
    picture.subscriptions = snapshot.subscriptions.iter().map(|name| name.as_str().to_owned()).collect();
    Ok(picture)
}

impl Picture {
    /// Texts in a mailbox, by UID.
    pub(super) fn texts(&self, mailbox: &str) -> Vec<(u32, &str)> {
        let mailbox = &self.mailboxes[mailbox];
        mailbox.messages.iter().map(|(uid, (text, _))| (*uid, text.as_str())).collect()
    }

    pub(super) fn flags(&self, mailbox: &str, uid: u32) -> Vec<&str> {
        self.mailboxes[mailbox].messages[&uid].1.iter().map(String::as_str).collect()
    }
}
