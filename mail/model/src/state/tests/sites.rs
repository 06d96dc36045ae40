//! A site that issues operations against its own view, as the account's owner does, and passes its journal on.

use std::collections::{BTreeMap, BTreeSet};

use crate::clock::STAMP_EPOCH_UNIX_MS;
use crate::op::{Append, Claim, Header, NumberedUid, Path, digest};
use crate::state::{AccountState, Applied, Home, Mailbox, Place, ShownScript};
use crate::view::{self, ShownMailbox};
use crate::{
    AccountId, ContentId, DeliveryKey, Dot, EntryId, Flag, MailboxId, MailboxName, MessageId, ModSeq, Op,
    Record, ReplicaId, SiteId, Stamp, SystemFlags, Uid, UidValidity,
};

pub(crate) type Apply = fn(&mut AccountState, &Record) -> Applied;

pub(crate) const NOW_MS: u64 = STAMP_EPOCH_UNIX_MS + 1_000;

pub(crate) fn account() -> AccountId {
    AccountId::derive("test", "ada@example.org", 0)
}

pub(crate) fn content_digest(record: &Record) -> u64 {
    digest(record.dot, record.stamp, &bincode::serialize(&record.op).unwrap())
}

pub(crate) fn honest(state: &mut AccountState, record: &Record) -> Applied {
    state.apply(record, content_digest(record))
}

pub(crate) fn flag(text: &str) -> Flag {
    Flag::parse(text).unwrap()
}

fn flags(text: &str) -> Vec<Flag> {
    text.split_whitespace().map(flag).collect()
}

#[derive(Clone)]
pub(crate) struct Site {
    pub(crate) state: AccountState,
    pub(crate) journal: Vec<Record>,
    pub(crate) now_ms: u64,
    rid: ReplicaId,
    apply: Apply,
}

impl Site {
    pub(crate) fn new(slot: u8, apply: Apply) -> Self {
        let site = SiteId::new(slot).unwrap();
        let state = AccountState::new(account(), site);
        Self { state, journal: Vec::new(), now_ms: NOW_MS, rid: ReplicaId::new(site, 1), apply }
    }

    pub(crate) fn site(&self) -> SiteId {
        self.rid.site()
    }

    pub(crate) fn own_seq(&self) -> u64 {
        self.state.version().seq(self.rid)
    }

    pub(crate) fn covers_own_of(&self, other: &Site) -> bool {
        self.state.version().seq(other.rid) == other.own_seq()
    }

    fn next_dot(&self) -> Dot {
        self.state.version().next_dot(self.rid).unwrap()
    }

    pub(crate) fn issue(&mut self, op: Op) -> Dot {
        let stamp = self.state.clock_mut().issue(self.now_ms);
        self.issue_at(stamp, op)
    }

    pub(crate) fn issue_at(&mut self, stamp: Stamp, op: Op) -> Dot {
        let dot = self.next_dot();
        let record = Record { dot, stamp, modseq: ModSeq::from(stamp), op };
        assert!(matches!(self.take(&record), Applied::Done(_)));
        dot
    }

    pub(crate) fn take(&mut self, record: &Record) -> Applied {
        let applied = (self.apply)(&mut self.state, record);
        if matches!(applied, Applied::Done(_)) {
            self.journal.push(record.clone());
        }
        applied
    }

    /// What this site would send to `to`, in order (R-JR3).
    pub(crate) fn missing_at(&self, to: &Site) -> Vec<Record> {
        self.journal.iter().filter(|record| !to.state.version().covers(record.dot)).cloned().collect()
    }

    pub(crate) fn send_all(&self, to: &mut Site) {
        for record in self.missing_at(to) {
            assert!(matches!(to.take(&record), Applied::Done(_)));
        }
    }
}

/// What users do.
impl Site {
    fn append_op(&self, mailbox: MailboxId, text: &str, key: Option<u64>) -> Append {
        let content = ContentId::of(text.as_bytes());
        let entry = EntryId::new(self.next_dot(), 7);
        let mut message = [0; 16];
        message.copy_from_slice(&content.as_bytes()[..16]);
        let header = Header {
            message: MessageId::from_bytes(message),
            content,
            size: text.len() as u64,
            wire_size: text.len() as u64,
            internal_date: -1,
            save_date: 1,
            base: text.into(),
            delivery: key.map(DeliveryKey),
            uidl: None,
        };
        Append { entry, mailbox, header, flags: Vec::new(), uid: None }
    }

    pub(crate) fn append(&mut self, mailbox: MailboxId, text: &str) -> EntryId {
        self.deliver(mailbox, text, None)
    }

    pub(crate) fn deliver(&mut self, mailbox: MailboxId, text: &str, key: Option<u64>) -> EntryId {
        let append = self.append_op(mailbox, text, key);
        let entry = append.entry;
        self.issue(Op::Append(append));
        entry
    }

    pub(crate) fn copy(&mut self, source: EntryId, mailbox: MailboxId) -> EntryId {
        let header = self.state.entry(source).unwrap().header().clone();
        let append = Append { header, ..self.append_op(mailbox, "", None) };
        let entry = append.entry;
        self.issue(Op::Copy { source, append });
        entry
    }

    pub(crate) fn move_to(&mut self, entry: EntryId, to: MailboxId) -> Dot {
        let observed = self.state.observed_tags(entry);
        self.issue(Op::Move { entry, observed, to, uid: None })
    }

    pub(crate) fn expunge(&mut self, entry: EntryId) {
        let observed = self.state.observed_tags(entry);
        self.issue(Op::Expunge { entries: vec![(entry, observed)] });
    }

    pub(crate) fn store(&mut self, entry: EntryId, set: &str, clear: &str) {
        self.issue(Op::Flags { entries: vec![entry], set: flags(set), clear: flags(clear) });
    }

    pub(crate) fn number(&mut self, entry: EntryId, uid: u32) {
        let place = self.state.place_of(entry).unwrap();
        let validity = self.state.mailbox(place.mailbox).and_then(Mailbox::uid_validity);
        let uid: NumberedUid = (validity.unwrap_or(validity_of(1)), Uid::new(uid).unwrap());
        self.issue(Op::AssignUid { uids: vec![(entry, place.tag, uid)] });
    }

    fn claim(&self, mailbox: MailboxId, path: Path, left: Option<Path>) -> Claim {
        let known = self.state.mailbox(mailbox);
        Claim {
            mailbox,
            path,
            left,
            observed: known.map_or_else(Vec::new, Mailbox::observed_tags),
            seen_deletes: known.map_or_else(Vec::new, Mailbox::deletes_in_force),
            uid_validity: known.and_then(Mailbox::uid_validity).unwrap_or(validity_of(self.site().slot())),
            special_use: None,
        }
    }

    pub(crate) fn create(&mut self, parent: Option<MailboxId>, level: &str) -> MailboxId {
        let path = Path { parent, level: level.to_owned() };
        let mailbox = self.state.mailbox_id_for(&path);
        let claim = self.claim(mailbox, path, None);
        self.issue(Op::MailboxCreate(claim));
        mailbox
    }

    /// INBOX, as every site makes it by itself (R-ID2).
    pub(crate) fn create_inbox(&mut self) -> MailboxId {
        let path = Path { parent: None, level: "INBOX".to_owned() };
        let mailbox = self.state.mailbox_id_for(&path);
        let claim = self.claim(mailbox, path, None);
        self.issue_at(Stamp::ZERO, Op::MailboxCreate(claim));
        mailbox
    }

    pub(crate) fn path_of(&self, mailbox: MailboxId) -> Path {
        self.state.mailbox(mailbox).and_then(Mailbox::name).unwrap().path.clone()
    }

    pub(crate) fn rename(&mut self, mailbox: MailboxId, parent: Option<MailboxId>, level: &str) {
        let left = Some(self.path_of(mailbox));
        let claim = self.claim(mailbox, Path { parent, level: level.to_owned() }, left);
        self.issue(Op::MailboxRename(claim));
    }

    pub(crate) fn undelete(&mut self, mailbox: MailboxId) {
        let claim = self.claim(mailbox, self.path_of(mailbox), None);
        self.issue(Op::MailboxUndelete(claim));
    }

    pub(crate) fn delete(&mut self, mailbox: MailboxId) {
        let observed = self.state.mailbox(mailbox).map_or_else(Vec::new, Mailbox::observed_tags);
        let (context, gone) = (self.state.version().clone(), self.path_of(mailbox));
        self.issue(Op::MailboxDelete { mailbox, observed, context, gone });
    }

    pub(crate) fn set_acl(&mut self, mailbox: MailboxId, identifier: &str, rights: Option<&str>) {
        let observed = self.state.mailbox(mailbox).map_or_else(Vec::new, |m| m.acl_observed(identifier));
        let (identifier, rights) = (identifier.to_owned(), rights.map(str::to_owned));
        self.issue(Op::Acl { mailbox, identifier, rights, observed });
    }

    pub(crate) fn put_script(&mut self, name: &str, text: &str) {
        let observed = self.script(name).map(|script| script.stamp);
        self.issue(Op::ScriptPut { name: name.to_owned(), text: text.into(), observed });
    }

    pub(crate) fn delete_script(&mut self, name: &str) {
        let observed = self.script(name).map(|script| script.stamp);
        self.issue(Op::ScriptDelete { name: name.to_owned(), observed });
    }

    pub(crate) fn script(&self, name: &str) -> Option<ShownScript> {
        self.state.scripts().into_iter().find(|script| script.name == name)
    }
}

/// What users see.
impl Site {
    pub(crate) fn names(&self) -> Vec<String> {
        let shown = view::mailboxes(&self.state);
        shown.iter().filter(|mailbox| mailbox.selectable).map(|mailbox| mailbox.name.to_string()).collect()
    }

    pub(crate) fn name_of(&self, mailbox: MailboxId) -> Option<String> {
        let shown = view::mailboxes(&self.state);
        shown.iter().find(|shown| shown.id == mailbox).map(|shown| shown.name.to_string())
    }

    pub(crate) fn messages(&self, mailbox: MailboxId) -> Vec<EntryId> {
        self.state.entries_in(mailbox).map(|(id, _, _)| id).collect()
    }

    pub(crate) fn flags(&self, entry: EntryId) -> String {
        let mut names: Vec<_> =
            self.state.system_flags(entry).iter().map(|flag| flag.as_str().to_owned()).collect();
        names.extend(self.state.keywords(entry).iter().map(|k| k.as_str().to_owned()));
        names.join(" ")
    }
}

pub(crate) fn validity_of(slot: u8) -> UidValidity {
    UidValidity::new(1_764_000_000 + u32::from(slot)).unwrap()
}

/// Everything that any client can see.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Shown {
    pub(crate) entries: BTreeMap<EntryId, (Place, SystemFlags, Vec<String>)>,
    pub(crate) mailboxes: Vec<ShownMailbox>,
    subscribed: Vec<MailboxName>,
    on_mailboxes: BTreeMap<MailboxId, OnMailbox>,
    metadata: Vec<(String, Vec<u8>)>,
    scripts: Vec<ShownScript>,
    active: Option<String>,
    home: Option<Home>,
}

/// Metadata, rights and horizon of one mailbox.
type OnMailbox = (Vec<(String, Vec<u8>)>, Vec<(String, String)>, Option<u32>);

pub(crate) fn shown(state: &AccountState) -> Shown {
    let owned = |(key, value): (&str, &[u8])| (key.to_owned(), value.to_vec());
    let mut entries = BTreeMap::new();
    let mut on_mailboxes = BTreeMap::new();
    for (id, mailbox) in state.mailboxes() {
        for (entry, _, place) in state.entries_in(id) {
            let lower = |keyword: &crate::Keyword| keyword.as_str().to_ascii_lowercase();
            let keywords = state.keywords(entry).iter().map(lower).collect();
            let twice = entries.insert(entry, (place, state.system_flags(entry), keywords));
            assert!(twice.is_none(), "{entry} is shown twice (I2)");
        }
        let rights = mailbox.acl().map(|(identifier, rights)| (identifier.to_owned(), rights)).collect();
        let horizon = mailbox.uid_validity().map(|validity| mailbox.horizon(validity));
        on_mailboxes.insert(id, (mailbox.metadata().map(owned).collect(), rights, horizon));
    }
    let mailboxes = view::mailboxes(state);
    Shown {
        entries,
        subscribed: view::subscriptions_without_mailbox(state, &mailboxes),
        mailboxes,
        on_mailboxes,
        metadata: state.metadata().map(owned).collect(),
        scripts: state.scripts(),
        active: state.active_script().map(str::to_owned),
        home: state.home(),
    }
}

impl Shown {
    /// Entries that look different in `after`.
    pub(crate) fn changed_entries(&self, after: &Self) -> BTreeSet<EntryId> {
        let ids = self.entries.keys().chain(after.entries.keys()).copied();
        ids.filter(|id| self.entries.get(id) != after.entries.get(id)).collect()
    }

    /// Mailboxes that came, went, or have other values on them in `after`.
    pub(crate) fn changed_mailboxes(&self, after: &Self) -> BTreeSet<MailboxId> {
        let facts = |shown: &Self, id: MailboxId| {
            let mailbox = shown.mailboxes.iter().find(|mailbox| mailbox.id == id && mailbox.selectable);
            let facts = mailbox.map(|mailbox| (mailbox.special_use, mailbox.uid_validity));
            let written = shown.on_mailboxes.get(&id).filter(|on| !on.0.is_empty() || !on.1.is_empty());
            (facts, written.cloned())
        };
        let ids = self.mailboxes.iter().chain(&after.mailboxes).map(|mailbox| mailbox.id);
        ids.filter(|id| facts(self, *id) != facts(after, *id)).collect()
    }

    /// Whether something else than entries looks different in `after`.
    pub(crate) fn differs_beside_entries(&self, after: &Self) -> bool {
        let without = |shown: &Self| {
            let mut shown = shown.clone();
            shown.entries.clear();
            // A mailbox that was only just named shows nothing yet.
            shown.on_mailboxes.retain(|_, on| !on.0.is_empty() || !on.1.is_empty());
            shown
        };
        without(self) != without(after)
    }
}
