//! COPY and MOVE.
//!
//! A copy is another entry whose bytes are a link. A moved message stays the same entry, under a new UID, and its bytes
//! keep their name; only one that came from another server can meet a namesake where it goes, because there copies
//! share a name. Then it goes as a copy.

use std::collections::HashSet;
use std::sync::Arc;

use model::op::{Append, Header};
use model::{EntryId, Flag, MailboxId, MailboxName, Op, Stamp, Uid};
use store::format::Source;

use crate::append::refused_by_disk;
use crate::door::{Refused, Reply};
use crate::owner::Owner;
use crate::setup::Now;
use crate::snapshot::MessageView;
use crate::uid::Assigned;

/// A copy on stage.
struct Copied {
    source: MessageView,
    entry: EntryId,
    base: Arc<str>,
}

impl Owner {
    pub(crate) fn copy(
        &mut self,
        now: Now,
        from: MailboxId,
        uids: &[Uid],
        to: &MailboxName,
    ) -> Result<Reply, Refused> {
        let sources = self.messages(from, uids)?;
        let to = self.existing(to)?;
        self.check_room(to, sources.len())?;
        self.check_quota(sources.iter().map(|source| source.wire_size).sum())?;
        self.check_space()?;
        let assigned = self.assign_uids(to, sources.len())?;
        let copies = self.stage_copies(now, from, to, sources)?;
        let pairs = copies.iter().map(|copy| copy.source.uid).zip(assigned.uids.iter().copied()).collect();
        let stamp = self.stamp(now);
        for (copy, uid) in copies.into_iter().zip(&assigned.uids) {
            self.issue_copy(now, stamp, to, copy, (assigned.uid_validity, *uid));
        }
        Ok(Reply::Copied { uid_validity: assigned.uid_validity, uids: pairs })
    }

    pub(crate) fn move_messages(
        &mut self,
        now: Now,
        from: MailboxId,
        uids: &[Uid],
        to: &MailboxName,
    ) -> Result<Reply, Refused> {
        let sources = self.messages(from, uids)?;
        let to = self.existing(to)?;
        self.move_all(now, from, sources, to)
    }

    pub(crate) fn move_all(
        &mut self,
        now: Now,
        from: MailboxId,
        sources: Vec<MessageView>,
        to: MailboxId,
    ) -> Result<Reply, Refused> {
        if from != to {
            self.check_room(to, sources.len())?;
        }
        let Assigned { uid_validity, uids } = self.assign_uids(to, sources.len())?;
        let pairs = sources.iter().map(|source| source.uid).zip(uids.iter().copied()).collect();
        let namesakes = self.namesakes(from, to, &sources);
        let (as_copies, plain): (Vec<_>, Vec<_>) =
            sources.into_iter().zip(uids).partition(|(source, _)| namesakes.contains(&source.base));
        let (clashing, clashing_uids): (Vec<_>, Vec<_>) = as_copies.into_iter().unzip();
        let copies = self.stage_copies(now, from, to, clashing)?;
        let stamp = self.stamp(now);
        // Copies first: their entries were made for the next dots.
        let mut gone = Vec::with_capacity(copies.len());
        for (copy, uid) in copies.into_iter().zip(clashing_uids) {
            gone.push(copy.source.entry);
            self.issue_copy(now, stamp, to, copy, (uid_validity, uid));
        }
        self.issue_expunge(stamp, &gone);
        for (source, uid) in plain {
            let entry = source.entry;
            let observed = self.image.state.observed_tags(entry);
            self.issue(stamp, Op::Move { entry, observed, to, uid: Some((uid_validity, uid)) });
        }
        Ok(Reply::Copied { uid_validity, uids: pairs })
    }

    /// The messages of these UIDs, in the order asked. What is gone is left out.
    pub(crate) fn messages(&self, mailbox: MailboxId, uids: &[Uid]) -> Result<Vec<MessageView>, Refused> {
        self.uid_validity(mailbox)?;
        let mut seen = HashSet::with_capacity(uids.len());
        let wanted = uids.iter().filter(|uid| seen.insert(**uid));
        Ok(wanted.filter_map(|uid| self.image.building.message(mailbox, *uid).cloned()).collect())
    }

    /// Names of bytes that some message of the target has too.
    fn namesakes(&mut self, from: MailboxId, to: MailboxId, sources: &[MessageView]) -> HashSet<Arc<str>> {
        let foreign = |source: &&MessageView| crate::observe::entry_in(&source.base).is_none();
        let wanted: HashSet<_> =
            sources.iter().filter(foreign).map(|source| Arc::clone(&source.base)).collect();
        if wanted.is_empty() || from == to {
            return HashSet::new();
        }
        let Some(view) = self.image.building.view(&self.image.state, to) else { return HashSet::new() };
        view.iter()
            .filter(|there| wanted.contains(&there.base))
            .map(|there| Arc::clone(&there.base))
            .collect()
    }

    /// Puts all of them on stage, or none.
    fn stage_copies(
        &mut self,
        now: Now,
        from: MailboxId,
        to: MailboxId,
        sources: Vec<MessageView>,
    ) -> Result<Vec<Copied>, Refused> {
        let mut copies: Vec<Copied> = Vec::with_capacity(sources.len());
        for (source, ahead) in sources.into_iter().zip(0..) {
            let entry = self.new_entry(ahead)?;
            let epoch = self.setup.tenure.epoch;
            let format = &self.setup.format;
            let base = format.base(entry, epoch, now.unix_us, source.size, source.wire_size);
            let bytes = Source::Message { mailbox: from, base: &source.base };
            let put = format.stage(to, &base, bytes, source.internal_date);
            copies.push(Copied { source, entry, base });
            if let Err(error) = put {
                copies.iter().for_each(|copy| format.unstage(to, &copy.base));
                self.note_missing(&error);
                return Err(refused_by_disk(&error));
            }
        }
        Ok(copies)
    }

    fn issue_copy(
        &mut self,
        now: Now,
        stamp: Stamp,
        to: MailboxId,
        copy: Copied,
        uid: (model::UidValidity, Uid),
    ) {
        let Copied { source, entry, base } = copy;
        self.note_staged(to, Arc::clone(&base));
        let header = Header {
            message: source.message,
            content: source.content,
            size: source.size,
            wire_size: source.wire_size,
            internal_date: source.internal_date,
            save_date: now.unix_s(),
            base,
            delivery: None,
            uidl: None,
        };
        let flags = all_flags(&source);
        let append = Append { entry, mailbox: to, header, flags, uid: Some(uid) };
        self.issue(stamp, Op::Copy { source: source.entry, append });
    }
}

/// Every flag that a message carries.
pub(crate) fn all_flags(message: &MessageView) -> Vec<Flag> {
    let keywords = message.keywords.iter().flat_map(|keywords| keywords.iter());
    message.flags.iter().map(Flag::System).chain(keywords.cloned().map(Flag::Keyword)).collect()
}
