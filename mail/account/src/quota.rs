//! Limits: what a request may not go beyond. Each is checked before anything is done.

use model::{Flag, MailboxId};

use crate::append::keywords;
use crate::door::Refused;
use crate::owner::Owner;
use crate::setup::SPACE_RESERVE_BYTES;

impl Owner {
    /// Whether messages of so many octets may be added.
    pub(crate) fn check_quota(&self, message_bytes: u64) -> Result<(), Refused> {
        let used_bytes = self.image.building.used_bytes();
        match self.setup.limits.quota_bytes {
            Some(limit_bytes) if used_bytes.saturating_add(message_bytes) > limit_bytes => {
                Err(Refused::OverQuota { used_bytes, limit_bytes, message_bytes })
            }
            Some(_) | None => Ok(()),
        }
    }

    /// Whether the volume has room for more mail. The last of it is for deleting.
    pub(crate) fn check_space(&self) -> Result<(), Refused> {
        match self.setup.fs.space(self.setup.home.home()) {
            Ok(space) if space.available_bytes < SPACE_RESERVE_BYTES => {
                Err(Refused::NoSpace(format!("{} bytes are free", space.available_bytes)))
            }
            // A volume that does not tell its space tells when it is full.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Whether the mailbox may have so many more messages.
    pub(crate) fn check_room(&mut self, mailbox: MailboxId, more: usize) -> Result<(), Refused> {
        let limit = self.setup.limits.mailbox_messages;
        let have = self.image.building.view(&self.image.state, mailbox).map_or(0, |view| view.len());
        if u64::from(have) + more as u64 > u64::from(limit) {
            return Err(Refused::Limit { what: "messages in a mailbox", limit: u64::from(limit) });
        }
        Ok(())
    }

    /// Whether one message may carry these flags, and the account know so many keywords.
    pub(crate) fn check_keywords(&self, flags: &[Flag]) -> Result<(), Refused> {
        let limits = &self.setup.limits;
        let limit = u64::from(limits.message_keywords);
        if keywords(flags).count() as u64 > limit {
            return Err(Refused::Limit { what: "keywords on a message", limit });
        }
        let limit = u64::from(limits.keywords);
        let state = &self.image.state;
        let new =
            keywords(flags).filter(|keyword| state.known_keywords().all(|known| known != *keyword)).count();
        if new > 0 && (state.known_keywords().count() + new) as u64 > limit {
            return Err(Refused::Limit { what: "keywords of an account", limit });
        }
        Ok(())
    }
}
