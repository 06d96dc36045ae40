//! What a client of the account may rely on, and what of it has come true.
//!
//! The oracle follows the snapshots of the account's owners in order. Between two of them only that may change which
//! somebody asked for: a request permits its changes, an answer that nothing was done takes the permission back, and
//! the next owner's first snapshot settles what was unknown (L-CM2).
//!
//! Invariants
//! - Nothing here looks at files, journals or an owner's memory: what clients can see decides.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use account::door::{Expunge, FlagEdit};
use account::snapshot::{MessageView, Snapshot};
use account::{Refused, Request};
use model::{
    ContentId, DeliveryKey, EntryId, Flag, MailboxId, MailboxName, MessageId, ModSeq, SystemFlag, Uid,
};

use crate::invariants;

/// What is known about a message that somebody wanted stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// Asked for; no answer yet, or none that tells.
    Unknown,
    Acknowledged,
    /// It was not stored, and must not appear.
    NotStored,
}

/// One message that somebody wanted stored, known by its content.
pub struct Token {
    pub number: u32,
    pub wire: Vec<u8>,
    pub flags: BTreeSet<Flag>,
    pub internal_date: Option<i64>,
    pub key: Option<DeliveryKey>,
    pub mailbox: MailboxName,
    /// Another program put it into the store.
    pub by_neighbour: bool,
    pub fate: Fate,
    pub asked_at_us: u64,
    pub messages: BTreeSet<MessageId>,
    pub entries: BTreeSet<EntryId>,
    /// Copies that were asked for, whatever became of them.
    pub copies: usize,
    /// A delivery of unknown fate whose mailbox was gone at the next look: it may have been stored and deleted with the
    /// mailbox, by requests of one unanswered batch. Tried again it is rightly acknowledged, and stored no more.
    pub may_have_gone: bool,
}

/// One entry that was shown.
pub struct Known {
    pub content: ContentId,
    pub base: Arc<str>,
    pub mailbox: MailboxId,
    pub uid: Uid,
    pub flags: BTreeSet<Flag>,
    pub is_gone: bool,
    pub may_go: bool,
    pub may_move: bool,
    /// Changes that were asked for.
    pub may_change: BTreeSet<(Flag, bool)>,
    /// Another program renamed its file: its flags are anybody's guess from then on.
    pub is_wild: bool,
    /// Another program removed its file.
    pub is_unreadable: bool,
}

/// A mailbox as a client that never forgets has it.
pub struct Cached {
    pub name: MailboxName,
    pub uid_validity: u32,
    pub uid_next: u32,
    pub highest_modseq: ModSeq,
    pub messages: BTreeMap<Uid, (EntryId, ModSeq, BTreeSet<Flag>)>,
    pub is_gone: bool,
    pub may_go: bool,
    pub may_be_called: BTreeSet<MailboxName>,
}

#[derive(Default)]
pub struct Oracle {
    pub tokens: BTreeMap<ContentId, Token>,
    /// Octets as they were sent, for those who send them again.
    pub octets: BTreeMap<ContentId, Vec<u8>>,
    pub entries: BTreeMap<EntryId, Known>,
    pub mailboxes: BTreeMap<MailboxId, Cached>,
    pub uids: BTreeMap<(MailboxId, u32, Uid), EntryId>,
    pub names: BTreeMap<(MailboxName, u32), MailboxId>,
    /// Names that somebody wanted a mailbox to have.
    pub creatable: BTreeSet<MailboxName>,
    pub lsn: u64,
    pub last: Option<Arc<Snapshot>>,
    /// Bases of what neighbours delivered into INBOX.
    pub arrivals: BTreeMap<ContentId, String>,
    /// Bases of files that other programs renamed or removed: whatever message they belong to.
    pub renamed: BTreeSet<String>,
    pub removed: BTreeSet<String>,
    /// As [`Plan::only`](crate::Plan::only).
    pub only: Option<&'static str>,
}

/// A snapshot, taken apart.
pub struct Shown<'a> {
    pub snapshot: &'a Snapshot,
    pub messages: Vec<(MailboxId, &'a MessageView)>,
}

impl<'a> Shown<'a> {
    pub fn new(snapshot: &'a Snapshot) -> Self {
        let views = snapshot.mailboxes.values().filter_map(|entry| entry.view.as_ref());
        let messages = views.flat_map(|view| view.iter().map(|message| (view.id, message))).collect();
        Self { snapshot, messages }
    }
}

/// Every flag that a message shows.
pub fn flags_of(message: &MessageView) -> BTreeSet<Flag> {
    let keywords = message.keywords.iter().flat_map(|keywords| keywords.iter().cloned()).map(Flag::Keyword);
    message.flags.iter().map(Flag::System).chain(keywords).collect()
}

/// Permissions.
impl Oracle {
    /// Permits what these requests do. Call it again without `first` after [`forbid`](Self::forbid).
    pub fn permit<'a>(&mut self, requests: impl IntoIterator<Item = &'a Request>, first: bool) {
        let requests: Vec<_> = requests.into_iter().collect();
        let (mut deletes, mut removes) = (false, false);
        for request in &requests {
            self.permit_one(request, first);
            deletes |= matches!(request, Request::Delete { .. });
            removes |= matches!(request, Request::Delete { .. } | Request::Expunge { .. });
        }
        if removes {
            requests.iter().for_each(|request| self.may_go_unseen(request));
        }
        // What moves into a mailbox that is deleted in the same breath goes with it.
        if deletes {
            self.entries.values_mut().filter(|known| known.may_move).for_each(|known| known.may_go = true);
        }
    }

    /// Takes back everything that was permitted and has not happened.
    pub fn forbid(&mut self) {
        for known in self.entries.values_mut() {
            known.may_go = known.is_unreadable;
            known.may_move = false;
            known.may_change.clear();
        }
        for mailbox in self.mailboxes.values_mut() {
            mailbox.may_go = false;
            mailbox.may_be_called.clear();
        }
    }

    fn permit_one(&mut self, request: &Request, first: bool) {
        match request {
            Request::Append(append) => {
                if append.create {
                    self.permit_name(&append.mailbox);
                }
                if first {
                    for message in &append.messages {
                        self.asked_for(message.body.content);
                    }
                }
            }
            Request::Copy { from, uids, .. } if first => self.permit_copies(*from, uids),
            Request::Copy { .. } => {}
            Request::Move { from, uids, .. } => {
                if first {
                    self.permit_copies(*from, uids);
                }
                for known in self.named(*from, uids) {
                    known.may_move = true;
                    // One that meets a namesake goes as a copy.
                    known.may_go |= account_of(&known.base).is_none();
                }
            }
            Request::EditFlags(edit) => {
                for known in self.named(edit.mailbox, &edit.uids) {
                    permit_edit(known, edit.edit, &edit.flags);
                }
            }
            Request::Expunge { mailbox, which } => self.permit_expunge(*mailbox, which),
            Request::Create { name, .. } => self.permit_name(name),
            Request::Delete { name } => self.permit_delete(name),
            Request::Rename { from, to } => self.permit_rename(from, to),
            Request::Subscribe { .. } | Request::Observe { .. } | Request::Settle | Request::RebuildIndex => {
            }
        }
    }

    /// What one batch stores and removes is never shown, and tried again it is not stored again.
    fn may_go_unseen(&mut self, request: &Request) {
        let Request::Append(append) = request else { return };
        for message in &append.messages {
            let token = self.tokens.get_mut(&message.body.content).filter(|token| token.key.is_some());
            token.into_iter().for_each(|token| token.may_have_gone = true);
        }
    }

    fn asked_for(&mut self, content: ContentId) {
        if let Some(token) = self.tokens.get_mut(&content)
            && token.fate == Fate::NotStored
        {
            token.fate = Fate::Unknown;
        }
    }

    fn permit_name(&mut self, name: &MailboxName) {
        self.creatable.insert(name.clone());
    }

    fn named<'a>(&'a mut self, mailbox: MailboxId, uids: &'a [Uid]) -> impl Iterator<Item = &'a mut Known> {
        let there = move |known: &&mut Known| !known.is_gone && known.mailbox == mailbox;
        self.entries.values_mut().filter(there).filter(|known| uids.contains(&known.uid))
    }

    fn permit_copies(&mut self, mailbox: MailboxId, uids: &[Uid]) {
        let contents: Vec<_> = self.named(mailbox, uids).map(|known| known.content).collect();
        for content in contents {
            if let Some(token) = self.tokens.get_mut(&content) {
                token.copies += 1;
            }
        }
    }

    fn permit_expunge(&mut self, mailbox: MailboxId, which: &Expunge) {
        let deleted = Flag::System(SystemFlag::Deleted);
        // What an earlier request of the batch moves here may be meant, too.
        let is_there = |known: &&mut Known| !known.is_gone && (known.mailbox == mailbox || known.may_move);
        for known in self.entries.values_mut().filter(is_there) {
            let may_be_deleted = known.is_wild
                || known.flags.contains(&deleted)
                || known.may_change.contains(&(deleted.clone(), true));
            let is_meant = match which {
                Expunge::Deleted => may_be_deleted,
                Expunge::DeletedAmong(uids) => may_be_deleted && uids.contains(&known.uid),
                Expunge::Exactly(uids) => uids.contains(&known.uid),
            };
            known.may_go |= is_meant;
        }
    }

    fn permit_delete(&mut self, name: &MailboxName) {
        for (id, mailbox) in &mut self.mailboxes {
            if !mailbox.is_gone && (mailbox.name == *name || mailbox.may_be_called.contains(name)) {
                mailbox.may_go = true;
                let inside = self.entries.values_mut().filter(|known| known.mailbox == *id);
                inside.for_each(|known| known.may_go = true);
            }
        }
    }

    fn permit_rename(&mut self, from: &MailboxName, to: &MailboxName) {
        self.creatable.insert(to.clone());
        // What an earlier request of the batch created goes along.
        let below: Vec<_> = self.creatable.iter().filter_map(|name| renamed(name, from, to)).collect();
        self.creatable.extend(below);
        for (id, mailbox) in self.mailboxes.iter_mut().filter(|(_, mailbox)| !mailbox.is_gone) {
            if from.is_inbox() {
                if mailbox.name.is_inbox() {
                    let inside = self.entries.values_mut().filter(|known| known.mailbox == *id);
                    inside.for_each(|known| known.may_move = true);
                }
                continue;
            }
            let names: Vec<_> = mailbox.may_be_called.iter().chain([&mailbox.name]).cloned().collect();
            mailbox.may_be_called.extend(names.iter().filter_map(|name| renamed(name, from, to)));
        }
    }
}

/// What a mailbox is called after a rename of itself or of one above it.
fn renamed(name: &MailboxName, from: &MailboxName, to: &MailboxName) -> Option<MailboxName> {
    let rest = name.as_str().strip_prefix(from.as_str())?;
    let is_it = rest.is_empty() || rest.starts_with(model::name::SEPARATOR);
    MailboxName::new(&format!("{to}{rest}")).ok().filter(|_| is_it)
}

fn permit_edit(known: &mut Known, edit: FlagEdit, flags: &[Flag]) {
    match edit {
        FlagEdit::Add => known.may_change.extend(flags.iter().map(|flag| (flag.clone(), true))),
        FlagEdit::Remove => known.may_change.extend(flags.iter().map(|flag| (flag.clone(), false))),
        FlagEdit::Replace => {
            let asked = known.may_change.iter().map(|(flag, _)| flag);
            let others: Vec<_> =
                known.flags.iter().chain(asked).filter(|flag| !flags.contains(flag)).cloned().collect();
            known.may_change.extend(others.into_iter().map(|flag| (flag, false)));
            known.may_change.extend(flags.iter().map(|flag| (flag.clone(), true)));
        }
    }
}

/// The owner's mark in a base name of ours; `None` for a file that another program named.
fn account_of(base: &str) -> Option<&str> {
    base.split(',').next()?.strip_suffix(".roost")
}

/// Answers.
impl Oracle {
    /// Takes in what the clients of a commit were told. Several attempts at one delivery may stand in one batch, so
    /// the answer that says most comes last.
    pub fn answered(&mut self, answered: &[(Request, Result<(), Refused>)]) {
        let contents = |request: &Request| {
            let Request::Append(append) = request else { return Vec::new() };
            append.messages.iter().map(|message| message.body.content).collect()
        };
        let ranked = |answer: &Result<(), Refused>| match answer {
            Err(refused) if nothing_was_done(refused) => 0,
            Err(_) => 1,
            Ok(()) => 2,
        };
        for rank in 0..3 {
            for (request, _) in answered.iter().filter(|(_, answer)| ranked(answer) == rank) {
                for content in contents(request) {
                    let Some(token) = self.tokens.get_mut(&content) else { continue };
                    match (rank, token.fate) {
                        (0, Fate::Unknown) => token.fate = Fate::NotStored,
                        (1, Fate::NotStored) => token.fate = Fate::Unknown,
                        (2, _) => token.fate = Fate::Acknowledged,
                        _ => {}
                    }
                }
            }
        }
        let stand = |answer: &Result<(), Refused>| ranked(answer) > 0;
        self.forbid();
        let standing = answered.iter().filter(|(_, answer)| stand(answer)).map(|(request, _)| request);
        self.permit(standing, false);
    }
}

/// Neighbours. A file may belong to a message that nobody was shown yet.
impl Oracle {
    pub fn renamed_by_neighbour(&mut self, base: &str) {
        self.renamed.insert(base.to_owned());
        self.entries.values_mut().filter(|known| *known.base == *base).for_each(|known| known.is_wild = true);
    }

    pub fn removed_by_neighbour(&mut self, base: &str) {
        self.removed.insert(base.to_owned());
        for known in self.entries.values_mut().filter(|known| *known.base == *base) {
            (known.is_unreadable, known.may_go) = (true, true);
        }
    }
}

/// Whether a refusal says that nothing was done.
pub fn nothing_was_done(refused: &Refused) -> bool {
    match refused {
        Refused::Unknown => false,
        Refused::NoMailbox(_)
        | Refused::MailboxGone
        | Refused::MailboxExists(_)
        | Refused::CannotDo { .. }
        | Refused::BadName(_)
        | Refused::Limit { .. }
        | Refused::OverQuota { .. }
        | Refused::NoSpace(_)
        | Refused::Deposed
        | Refused::NoMajority
        | Refused::NotStored(_)
        | Refused::Unavailable(_) => true,
    }
}

/// Snapshots.
impl Oracle {
    /// Compares the next snapshot with what may be, and takes it in. `opened`: by a new owner, so that what was
    /// unknown before is settled by it.
    pub fn look(&mut self, snapshot: &Arc<Snapshot>, opened: bool) -> Result<(), String> {
        let shown = Shown::new(snapshot);
        let counts = |tag: &str| self.only.is_none_or(|only| tag.contains(only));
        for (tag, check) in invariants::OF_SNAPSHOTS.into_iter().filter(|(tag, _)| counts(tag)) {
            check(self, &shown).map_err(|what| format!("{tag}: {what}"))?;
        }
        self.learn(&shown);
        self.forbid();
        if opened {
            let unsettled = |token: &&mut Token| token.fate == Fate::Unknown && !token.by_neighbour;
            for token in self.tokens.values_mut().filter(unsettled) {
                if token.entries.is_empty() {
                    token.fate = Fate::NotStored;
                    let is_gone = snapshot.by_name(&token.mailbox).is_none_or(|entry| entry.view.is_none());
                    token.may_have_gone |= token.key.is_some() && is_gone;
                }
            }
        }
        self.lsn = snapshot.lsn;
        self.last = Some(Arc::clone(snapshot));
        Ok(())
    }

    fn learn(&mut self, shown: &Shown<'_>) {
        self.entries.values_mut().for_each(|known| known.is_gone = true);
        for (mailbox, message) in &shown.messages {
            let flags = flags_of(message);
            if let Some(token) = self.tokens.get_mut(&message.content) {
                token.entries.insert(message.entry);
                token.messages.insert(message.message);
            }
            let known = self.entries.entry(message.entry).or_insert_with(|| Known {
                content: message.content,
                base: Arc::clone(&message.base),
                mailbox: *mailbox,
                uid: message.uid,
                flags: BTreeSet::new(),
                is_gone: false,
                may_go: false,
                may_move: false,
                may_change: BTreeSet::new(),
                is_wild: self.renamed.contains(&*message.base),
                is_unreadable: self.removed.contains(&*message.base),
            });
            (known.mailbox, known.uid, known.flags, known.is_gone) = (*mailbox, message.uid, flags, false);
        }
        self.learn_mailboxes(shown);
    }

    fn learn_mailboxes(&mut self, shown: &Shown<'_>) {
        self.mailboxes.values_mut().for_each(|mailbox| mailbox.is_gone = true);
        for (name, entry) in &shown.snapshot.mailboxes {
            let Some(view) = &entry.view else { continue };
            let uid_validity = view.uid_validity.get();
            self.names.insert((name.clone(), uid_validity), view.id);
            let messages = view.iter().map(|message| {
                self.uids.insert((view.id, uid_validity, message.uid), message.entry);
                (message.uid, (message.entry, message.modseq, flags_of(message)))
            });
            let cached = Cached {
                name: name.clone(),
                uid_validity,
                uid_next: view.uid_next.get(),
                highest_modseq: view.highest_modseq,
                messages: messages.collect(),
                is_gone: false,
                may_go: false,
                may_be_called: BTreeSet::new(),
            };
            self.mailboxes.insert(view.id, cached);
        }
    }
}
