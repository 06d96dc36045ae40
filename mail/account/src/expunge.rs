//! Removing messages.

use model::{EntryId, MailboxId, Op, Stamp, SystemFlag};

use crate::door::{Expunge, Refused, Reply};
use crate::owner::{OP_ENTRIES_MAX, Owner};
use crate::setup::Now;
use crate::snapshot::MessageView;

impl Owner {
    pub(crate) fn expunge(&mut self, now: Now, mailbox: MailboxId, which: Expunge) -> Result<Reply, Refused> {
        let is_deleted = |message: &MessageView| message.flags.contains(SystemFlag::Deleted);
        let mut gone: Vec<MessageView> = match which {
            Expunge::Deleted => {
                let view =
                    self.image.building.view(&self.image.state, mailbox).ok_or(Refused::MailboxGone)?;
                view.iter().filter(|message| is_deleted(message)).cloned().collect()
            }
            Expunge::DeletedAmong(uids) => {
                self.messages(mailbox, &uids)?.into_iter().filter(is_deleted).collect()
            }
            Expunge::Exactly(uids) => self.messages(mailbox, &uids)?,
        };
        gone.sort_by_key(|message| message.uid);
        if !gone.is_empty() {
            let stamp = self.stamp(now);
            let entries: Vec<_> = gone.iter().map(|message| message.entry).collect();
            self.issue_expunge(stamp, &entries);
        }
        Ok(Reply::Expunged { uids: gone.into_iter().map(|message| message.uid).collect() })
    }

    pub(crate) fn issue_expunge(&mut self, stamp: Stamp, entries: &[EntryId]) {
        for entries in entries.chunks(OP_ENTRIES_MAX) {
            let observed = entries.iter().map(|entry| (*entry, self.image.state.observed_tags(*entry)));
            let entries = observed.collect();
            self.issue(stamp, Op::Expunge { entries });
        }
    }
}
