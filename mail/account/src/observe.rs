//! What other programs did to the store becomes operations (design decision 5).
//!
//! Invariants
//! - A file that another program delivered becomes a message once, with the UID that a neighbour's list gave it if that
//!   lies above every UID known, else the next.
//! - A message is expunged because its file is missing only after a second look, and never while its bytes are still to
//!   be placed or lie in the hold, where only we put anything.
//! - On a shared volume, what an owner that was deposed can have moved is looked for everywhere first
//!   ([`crate::astray`]).
//! - What a rename of ours explains that a power cut undid is nobody's wish ([`crate::dues`]): a file that left and is
//!   there at the first look after a start is retired again. A file that shows up later, under whatever name, somebody
//!   put there: it is a message.
//! - An observed flag suffix counts as somebody's change only if the journal has not held the same state for the
//!   message lately (L-OB1).

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use model::op::{Append, Header};
use model::{Dot, EntryId, Flag, MailboxId, MessageId, Op, ReplicaId, Stamp, Uid};
use store::format::maildir::arrival_order;
use store::format::{Examined, ObservedFile};

use crate::append::{new_message_id, refused_by_disk};
use crate::astray::LATE_US;
use crate::door::{Refused, Reply};
use crate::dues::{Departed, FlagState, Placing};
use crate::owner::Owner;
use crate::setup::Now;
use crate::snapshot::MessageView;

/// Records of one turn while a store is taken over.
const TURN_RECORDS: usize = 2000;
/// A file that is no message yet.
struct Arrival {
    file: ObservedFile,
    examined: Examined,
    entry: Option<EntryId>,
    listed: Option<Listed>,
}

/// What a neighbour's list says of a file.
#[derive(Clone)]
struct Listed {
    uid: Uid,
    uidl: Option<Arc<str>>,
}

/// What a neighbour wrote about a mailbox.
#[derive(Default)]
struct Neighbour {
    uid_next: u32,
    listed: HashMap<Arc<str>, Listed>,
}

impl Owner {
    pub(crate) fn observe(&mut self, now: Now, mailbox: Option<MailboxId>) -> Result<Reply, Refused> {
        match mailbox {
            Some(id) if self.image.building.name_of(&self.image.state, id).is_none() => {
                return Err(Refused::MailboxGone);
            }
            Some(id) => self.observe_mailbox(now, id, false)?,
            None => {
                self.straighten(now)?;
                self.observe_all(now, false)?;
            }
        }
        Ok(Reply::Done)
    }

    pub(crate) fn observe_all(&mut self, now: Now, thorough: bool) -> Result<(), Refused> {
        self.discover(now)?;
        for (id, _) in self.wanted() {
            self.observe_mailbox(now, id, thorough)?;
        }
        Ok(())
    }

    pub(crate) fn observe_mailbox(&mut self, now: Now, id: MailboxId, thorough: bool) -> Result<(), Refused> {
        let format = Arc::clone(&self.setup.format);
        let observed = format.observe(id, now.unix_us, thorough).map_err(|error| {
            self.note_missing(&error);
            refused_by_disk(&error)
        })?;
        let Some(observed) = observed else { return self.miss_again(now, id) };
        self.healed.extend(observed.healed);
        let Some(view) = self.image.building.view(&self.image.state, id) else { return Ok(()) };
        let known: HashMap<&str, &MessageView> =
            view.iter().map(|message| (&*message.base, message)).collect();

        self.observe_flags(now, id, &known, &observed.files);
        let unknown: Vec<_> =
            observed.files.iter().filter(|file| !known.contains_key(&*file.base)).cloned().collect();
        let seen: HashSet<&str> = observed.files.iter().map(|file| &*file.base).collect();
        let missing: Vec<_> =
            view.iter().filter(|message| self.is_missing(message, &seen)).cloned().collect();
        if !unknown.is_empty() {
            self.observe_unknown(now, id, unknown)?;
        }
        self.image.dues.looked.insert(id);
        self.forget_departed(now);
        if missing.is_empty() {
            self.missed.retain(|_, (mailbox, _)| *mailbox != id);
            return Ok(());
        }
        self.observe_missing(now, id, missing)
    }

    /// What a crash put back was met, once every mailbox was looked at; when that is durable, it cannot come back.
    fn forget_departed(&mut self, now: Now) {
        if self.image.dues.departed.is_empty() {
            return;
        }
        let since = now.unix_us.saturating_sub(self.image.dues.departed_unix_us);
        if self.is_shared() && since < LATE_US {
            return;
        }
        let wanted = self.wanted();
        if wanted.iter().any(|(id, _)| !self.image.dues.looked.contains(id)) {
            return;
        }
        match self.sync_placed(now) {
            Ok(()) => self.image.dues.departed.clear(),
            Err(error) => {
                tracing::warn!(account = %self.setup.account, %error, "renames are not durable yet");
            }
        }
    }

    /// Takes over mailbox directories that other programs made.
    pub(crate) fn discover(&mut self, now: Now) -> Result<(), Refused> {
        let mut found = self.setup.format.mailboxes().map_err(|error| refused_by_disk(&error))?;
        // Parents first.
        found.sort_by(|a, b| a.name.cmp(&b.name));
        for found in found {
            let is_known = |id| self.image.state.mailbox(id).is_some() && !self.is_taking_over(id);
            if found.id.is_some_and(is_known) {
                continue;
            }
            if let Err(refused) = self.adopt_mailbox(now, &found) {
                self.check_sound()?;
                self.report(
                    "a mailbox directory cannot be taken over",
                    &format!("{}: {refused}", found.name),
                );
            }
        }
        Ok(())
    }

    fn is_missing(&self, message: &MessageView, seen: &HashSet<&str>) -> bool {
        !seen.contains(&*message.base) && !self.image.dues.place.contains_key(&message.entry)
    }
}

/// Flags.
impl Owner {
    fn observe_flags(
        &mut self,
        now: Now,
        id: MailboxId,
        known: &HashMap<&str, &MessageView>,
        files: &[ObservedFile],
    ) {
        let mut changes: BTreeMap<(Vec<Flag>, Vec<Flag>), Vec<EntryId>> = BTreeMap::new();
        for file in files {
            let Some(message) = known.get(&*file.base) else { continue };
            let seen = FlagState { system: file.flags, keywords: file.keywords.clone() };
            let (set, clear) = wished(message, &seen, file);
            if set.is_empty() && clear.is_empty() {
                continue;
            }
            if self.image.dues.was_ours(message.entry, &seen) {
                self.image.dues.write_name(message.entry);
            } else if self.check_keywords(&set).is_ok() {
                changes.entry((set, clear)).or_default().push(message.entry);
            }
        }
        if changes.is_empty() {
            return;
        }
        tracing::debug!(account = %self.setup.account, mailbox = %id, "other programs changed flags");
        let stamp = self.stamp(now);
        for ((set, clear), entries) in changes {
            self.issue_flags(stamp, &entries, &set, &clear);
        }
    }
}

/// What the suffix says that the journal does not: flags to set, flags to clear.
fn wished(message: &MessageView, seen: &FlagState, file: &ObservedFile) -> (Vec<Flag>, Vec<Flag>) {
    let have = FlagState::of(message);
    let before = file.changed_from.clone().map(|(system, keywords)| FlagState { system, keywords });
    let in_state = |flags: &FlagState, flag: &Flag| match flag {
        Flag::System(flag) => flags.system.contains(*flag),
        Flag::Keyword(keyword) => flags.keywords.contains(keyword),
    };
    let all = |flags: &FlagState| {
        let keywords = flags.keywords.iter().cloned().map(Flag::Keyword);
        flags.system.iter().map(Flag::System).chain(keywords).collect::<Vec<_>>()
    };
    let set = all(seen).into_iter().filter(|flag| {
        !in_state(&have, flag) && before.as_ref().is_none_or(|before| !in_state(before, flag))
    });
    // A name has no letter for some keywords: only one that had it before shows that it was taken off.
    let base = before.as_ref().unwrap_or(&have);
    let clear = all(base).into_iter().filter(|flag| {
        let provable = before.is_some() || matches!(flag, Flag::System(_));
        provable && !in_state(seen, flag) && in_state(&have, flag)
    });
    (set.collect(), clear.collect())
}

/// Files that the mailbox has no message for.
impl Owner {
    fn observe_unknown(
        &mut self,
        now: Now,
        id: MailboxId,
        unknown: Vec<ObservedFile>,
    ) -> Result<(), Refused> {
        let mut listed = Vec::new();
        let mut unlisted = Vec::new();
        let mut neighbour: Option<Neighbour> = None;
        for file in unknown {
            let own = entry_in(&file.base);
            if self.is_astray(now, id, &file.base, own)? {
                continue;
            }
            if self.is_accounted_for(now, id, &file, own) {
                continue;
            }
            let examined = match self.setup.format.examine(id, &file.base) {
                // It left while we looked.
                Err(error) if error.is_not_found() => continue,
                Err(error) => {
                    self.report("a message file cannot be read", &error.to_string());
                    continue;
                }
                Ok(examined) => examined,
            };
            let neighbour = match &mut neighbour {
                Some(neighbour) => neighbour,
                None => neighbour.insert(self.neighbour(id)),
            };
            match neighbour.listed.get(&file.base).cloned() {
                Some(entry) => listed.push(Arrival { file, examined, entry: own, listed: Some(entry) }),
                None => unlisted.push(Arrival { file, examined, entry: own, listed: None }),
            }
        }
        listed.sort_by_key(|arrival| arrival.listed.as_ref().map(|listed| listed.uid));
        unlisted.sort_by(|a, b| arrival_order(&a.file.base, &b.file.base));
        self.take_in_all(now, id, &listed)?;
        // What stands in no list comes after every number that the neighbour may have shown somebody.
        self.raise_uid_next(now, id, neighbour.map_or(0, |neighbour| neighbour.uid_next));
        if self.lost_state && !unlisted.is_empty() {
            self.skip_uids(now, id);
        }
        self.take_in_all(now, id, &unlisted)
    }

    /// Takes them in, some at a time: what counts of many is not lost with the last.
    fn take_in_all(&mut self, now: Now, id: MailboxId, arrivals: &[Arrival]) -> Result<(), Refused> {
        for some in arrivals.chunks(TURN_RECORDS) {
            self.take_in(now, id, some)?;
            if arrivals.len() > TURN_RECORDS {
                self.finish_turn(now, Vec::new());
                self.check_sound()?;
            }
        }
        Ok(())
    }

    /// Whether a file that the mailbox has no message for is known all the same. What a crash put back after it was
    /// retired is retired again.
    fn is_accounted_for(
        &mut self,
        now: Now,
        id: MailboxId,
        file: &ObservedFile,
        own: Option<EntryId>,
    ) -> bool {
        let departed = Departed { mailbox: id, base: Arc::clone(&file.base) };
        if self.image.dues.has_departed(id, &file.base, own.is_some(), self.is_shared()) {
            self.retire_again(now, departed);
            return true;
        }
        let dues = &self.image.dues;
        let is_hidden = own.and_then(|entry| self.image.state.place_of(entry)).is_some_and(|place| {
            // Shown under no number here, as one of two that are the same delivery (V7).
            place.mailbox == id
        });
        let is_on_its_way = || {
            let mut placing = dues.place.values().filter(|placing| placing.base == file.base);
            placing.any(|placing| placing.mailbox == id || placing.from.contains(&id))
        };
        is_hidden || dues.retire.contains(&departed) || is_on_its_way()
    }

    /// What a neighbour wrote about the mailbox: numbers count only under the same UIDVALIDITY.
    fn neighbour(&mut self, id: MailboxId) -> Neighbour {
        let Some(name) = self.image.building.name_of(&self.image.state, id) else {
            return Neighbour::default();
        };
        let lists = match self.setup.format.former_lists(&name) {
            Ok(lists) => lists,
            Err(error) => {
                self.report("a neighbour's list cannot be read", &error.to_string());
                return Neighbour::default();
            }
        };
        if lists.uid_validity.is_none() || lists.uid_validity != self.uid_validity(id).ok().map(|v| v.get()) {
            return Neighbour::default();
        }
        let listed = |(uid, base, uidl)| Some((base, Listed { uid: Uid::new(uid)?, uidl }));
        Neighbour {
            uid_next: lists.uid_next.unwrap_or(0),
            listed: lists.uids.into_iter().filter_map(listed).collect(),
        }
    }

    fn take_in(&mut self, now: Now, id: MailboxId, arrivals: &[Arrival]) -> Result<(), Refused> {
        let stamp = self.stamp(now);
        for arrival in arrivals {
            let uid_validity = self.uid_validity(id)?;
            let next = self.assign_uids(id, 1)?.uids.first().copied().ok_or(Refused::MailboxGone)?;
            let listed = arrival.listed.as_ref();
            let uid = listed.map(|listed| listed.uid).filter(|uid| *uid >= next).unwrap_or(next);
            let (entry, message) = self.identity(id, arrival, uid_validity.get(), uid)?;
            let header = Header {
                message,
                content: arrival.examined.content,
                size: arrival.examined.size,
                wire_size: arrival.examined.wire_size,
                internal_date: arrival.examined.internal_date,
                save_date: now.unix_s(),
                base: Arc::clone(&arrival.file.base),
                delivery: None,
                uidl: listed.and_then(|listed| listed.uidl.clone()),
            };
            let keywords = arrival.file.keywords.iter().cloned().map(Flag::Keyword);
            let flags: Vec<_> = arrival.file.flags.iter().map(Flag::System).chain(keywords).collect();
            let append = Append { entry, mailbox: id, header, flags, uid: Some((uid_validity, uid)) };
            self.issue(stamp, Op::Append(append));
            // It lies where it belongs.
            self.image.dues.place.remove(&entry);
        }
        Ok(())
    }

    /// A message keeps the identity that its name carries, or, coming from another server, gets one that another site
    /// which imports the same store derives too (R-ID5).
    fn identity(
        &mut self,
        id: MailboxId,
        arrival: &Arrival,
        uid_validity: u32,
        uid: Uid,
    ) -> Result<(EntryId, MessageId), Refused> {
        // An entry that the state has seen was removed, and stays so: what is put back is another.
        let is_new = |entry: &EntryId| {
            self.image.state.entry(*entry).is_none() && !self.image.state.version().covers(entry.creation())
        };
        if let Some(entry) = arrival.entry.filter(is_new) {
            return Ok((entry, new_message_id(entry)));
        }
        if arrival.listed.is_none() {
            let entry = self.new_entry(0)?;
            return Ok((entry, new_message_id(entry)));
        }
        // Without a GUID of its own in the list a message's GUID is its base name (maildir.md §5.1).
        let guid = arrival.file.base.as_bytes();
        let mut hasher = blake3::Hasher::new_derive_key("roost 2026 imported entry");
        hasher.update(id.as_bytes()).update(&uid_validity.to_le_bytes()).update(&uid.get().to_le_bytes());
        hasher.update(guid);
        let mut random = [0; 8];
        random.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        let batch = Dot::new(ReplicaId::new(self.setup.site, 0), 1);
        let entry = match batch {
            Some(batch) => EntryId::new(batch, u64::from_le_bytes(random)),
            None => self.new_entry(0)?,
        };
        let mut hasher = blake3::Hasher::new_derive_key("roost 2026 imported message");
        hasher.update(guid).update(arrival.examined.content.as_bytes());
        let mut message = [0; 16];
        message.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
        Ok((entry, MessageId::from_bytes(message)))
    }
}

/// Messages whose files are not there.
impl Owner {
    pub(crate) fn observe_missing(
        &mut self,
        now: Now,
        id: MailboxId,
        missing: Vec<MessageView>,
    ) -> Result<(), Refused> {
        let format = Arc::clone(&self.setup.format);
        let again = format.list(id).map_err(|error| refused_by_disk(&error))?;
        let seen: HashSet<&str> = again.iter().map(|base| &**base).collect();
        let mut missing: Vec<_> =
            missing.into_iter().filter(|message| self.is_missing(message, &seen)).collect();
        let held = self.put_back(id, &missing).map_err(|error| refused_by_disk(&error))?;
        missing.retain(|message| !held.contains(&message.base));
        self.bring_back_strays(id, &mut missing).map_err(|error| refused_by_disk(&error))?;
        self.keep_long_missed(now, id, &mut missing);
        if missing.is_empty() {
            return Ok(());
        }
        // What somebody else removed a power cut puts back as well.
        self.image.dues.unsynced.insert(id);
        let stamp: Stamp = self.stamp(now);
        let entries: Vec<_> = missing.iter().map(|message| message.entry).collect();
        self.issue_expunge(stamp, &entries);
        // There is nothing to be retired.
        self.image.dues.retire.retain(|departed| departed.mailbox != id || seen.contains(&*departed.base));
        Ok(())
    }

    /// Bytes of messages that count and lie in the hold, where nobody but us puts anything: a power cut undid the rename
    /// that took them out of it. They are placed again.
    fn put_back(&mut self, id: MailboxId, missing: &[MessageView]) -> nfs_compat::Result<HashSet<Arc<str>>> {
        // Another message may have been put back by hand under the name of one that left.
        let is_its_name =
            |message: &&MessageView| entry_in(&message.base).is_none_or(|entry| entry == message.entry);
        let own: Vec<_> = missing.iter().filter(is_its_name).collect();
        let bases = own.iter().map(|message| Arc::clone(&message.base)).collect();
        let held = self.setup.format.held(&bases)?;
        for message in own.into_iter().filter(|message| held.contains(&message.base)) {
            let base = Arc::clone(&message.base);
            let placing = Placing { mailbox: id, base, from: Vec::new(), attempts: 0 };
            self.image.dues.place.insert(message.entry, placing);
        }
        Ok(held)
    }
}

/// The entry that a base of ours names: thirty-two hex digits in a row, and no digit beside them.
pub(crate) fn entry_in(base: &str) -> Option<EntryId> {
    const DIGITS: usize = 2 * EntryId::BYTES;
    let is_hex = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
    let mut rest = base.as_bytes();
    let mut before = 0;
    while let Some(skip) = rest.iter().position(is_hex) {
        let run = rest.get(skip..)?;
        let length = run.iter().take_while(|byte| is_hex(byte)).count();
        before += skip;
        if length == DIGITS {
            return EntryId::parse_hex(base.get(before..before + DIGITS)?);
        }
        rest = run.get(length..)?;
        before += length;
    }
    None
}
