//! Adding messages: delivery and APPEND.

use std::sync::Arc;

use model::op::{self, Header, NumberedUid};
use model::{EntryId, Flag, MailboxId, MailboxName, MessageId, Op, UidValidity};
use store::format::Source;

use crate::door::{Append, NewMessage, Refused, Reply};
use crate::owner::Owner;
use crate::setup::Now;

/// A message that is on stage and waits for its record.
struct Staged {
    entry: EntryId,
    base: Arc<str>,
}

impl Owner {
    pub(crate) fn append(&mut self, now: Now, append: Append) -> Result<Reply, Refused> {
        let mailbox = self.existing(&append.mailbox)?;
        if let Some(reply) = self.delivered_before(mailbox, &append) {
            return Ok(reply);
        }
        self.check_append(mailbox, &append.messages)?;
        let uids = self.assign_uids(mailbox, append.messages.len())?;
        let staged = self.stage_all(now, mailbox, &append.messages)?;
        let stamp = self.stamp(now);
        for ((message, staged), uid) in append.messages.iter().zip(staged).zip(&uids.uids) {
            let header = Header {
                message: new_message_id(staged.entry),
                content: message.body.content,
                size: message.body.size,
                wire_size: message.body.wire_size,
                internal_date: message.internal_date.unwrap_or(now.unix_s()),
                save_date: now.unix_s(),
                base: Arc::clone(&staged.base),
                delivery: append.delivery,
                uidl: None,
            };
            self.note_staged(mailbox, staged.base);
            let flags = message.flags.clone();
            let uid = Some((uids.uid_validity, *uid));
            let append = op::Append { entry: staged.entry, mailbox, header, flags, uid };
            self.issue(stamp, Op::Append(append));
        }
        Ok(Reply::Appended { mailbox, uid_validity: uids.uid_validity, uids: uids.uids })
    }

    /// The mailbox of this name, as one that messages may be added to.
    pub(crate) fn existing(&mut self, name: &MailboxName) -> Result<MailboxId, Refused> {
        let named = self.image.building.named(&self.image.state, name).filter(|named| named.exists);
        let id = named.map(|named| named.id).ok_or_else(|| Refused::NoMailbox(name.clone()))?;
        if self.is_taking_over(id) {
            return Err(Refused::Unavailable(format!(
                "mailbox {name} is not taken over from its old server yet"
            )));
        }
        Ok(id)
    }

    pub(crate) fn uid_validity(&self, mailbox: MailboxId) -> Result<UidValidity, Refused> {
        let known = self.image.state.mailbox(mailbox).and_then(|mailbox| mailbox.uid_validity());
        known.ok_or(Refused::MailboxGone)
    }

    /// The answer to a delivery that was carried out before (L-CM2). A message that was expunged meanwhile is not
    /// stored again: it was delivered.
    fn delivered_before(&mut self, mailbox: MailboxId, append: &Append) -> Option<Reply> {
        let key = append.delivery?;
        let mut found: Vec<NumberedUid> = Vec::new();
        let mut holder = mailbox;
        for message in &append.messages {
            let entry = self.image.state.delivered(key, message.body.content)?;
            if let Some(place) = self.image.state.place_of(entry) {
                holder = place.mailbox;
                found.extend(place.uid);
            }
        }
        let uid_validity = self.uid_validity(holder).ok()?;
        let uids = found.into_iter().filter(|(validity, _)| *validity == uid_validity).map(|(_, uid)| uid);
        Some(Reply::Appended { mailbox: holder, uid_validity, uids: uids.collect() })
    }

    fn check_append(&mut self, mailbox: MailboxId, messages: &[NewMessage]) -> Result<(), Refused> {
        for message in messages {
            self.check_keywords(&message.flags)?;
        }
        self.check_room(mailbox, messages.len())?;
        let wire: u64 = messages.iter().map(|message| message.body.wire_size).sum();
        self.check_quota(wire)?;
        // The bytes are on the volume already, as the spool's; what is to be written is names and records.
        self.check_space()
    }

    /// Puts all of them on stage, or none.
    fn stage_all(
        &mut self,
        now: Now,
        mailbox: MailboxId,
        messages: &[NewMessage],
    ) -> Result<Vec<Staged>, Refused> {
        let mut staged: Vec<Staged> = Vec::with_capacity(messages.len());
        for (message, ahead) in messages.iter().zip(0..) {
            let entry = self.new_entry(ahead)?;
            let (size, wire_size) = (message.body.size, message.body.wire_size);
            let epoch = self.setup.tenure.epoch;
            let format = &self.setup.format;
            let base = format.base(entry, epoch, now.unix_us, size, wire_size);
            let date = message.internal_date.unwrap_or(now.unix_s());
            let put = format.stage(mailbox, &base, Source::Spooled(message.body.path()), date);
            staged.push(Staged { entry, base });
            if let Err(error) = put {
                staged.iter().for_each(|staged| format.unstage(mailbox, &staged.base));
                self.note_missing(&error);
                return Err(refused_by_disk(&error));
            }
        }
        Ok(staged)
    }
}

/// A new message's id is that of its first entry; copies share it.
pub(crate) fn new_message_id(entry: EntryId) -> MessageId {
    MessageId::from_bytes(*entry.as_bytes())
}

/// What a failure before anything was journaled means: nothing was done.
pub(crate) fn refused_by_disk(error: &nfs_compat::Error) -> Refused {
    if error.is_full() { Refused::NoSpace(error.to_string()) } else { Refused::NotStored(error.to_string()) }
}

/// The keywords among flags.
pub(crate) fn keywords(flags: &[Flag]) -> impl Iterator<Item = &model::Keyword> {
    flags.iter().filter_map(|flag| match flag {
        Flag::Keyword(keyword) => Some(keyword),
        Flag::System(_) => None,
    })
}
