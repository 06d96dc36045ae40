//! Numbering messages.
//!
//! Invariants
//! - A UID is above every UID that any operation has named under the same UIDVALIDITY, also of messages that are gone
//!   (R-U0, R-U7).
//! - UIDs of one request are contiguous and ascend.

use model::{MailboxId, Uid, UidValidity};

use crate::door::Refused;
use crate::owner::Owner;

/// UIDs for one request.
pub(crate) struct Assigned {
    pub(crate) uid_validity: UidValidity,
    pub(crate) uids: Vec<Uid>,
}

impl Owner {
    /// UIDs for `count` new messages. They are taken when operations name them, not before.
    pub(crate) fn assign_uids(&self, mailbox: MailboxId, count: usize) -> Result<Assigned, Refused> {
        let uid_validity = self.uid_validity(mailbox)?;
        let greatest =
            self.image.state.mailbox(mailbox).map_or(0, |mailbox| mailbox.greatest_uid(uid_validity));
        let used_up = || Refused::Limit { what: "UIDs of a mailbox", limit: u64::from(u32::MAX) };
        let count = u32::try_from(count).map_err(|_| used_up())?;
        // The last UID stays free, so that there always is a UIDNEXT.
        let last = greatest.checked_add(count).filter(|last| *last < u32::MAX).ok_or_else(used_up)?;
        Ok(Assigned { uid_validity, uids: (greatest + 1..=last).filter_map(Uid::new).collect() })
    }

    /// A UIDVALIDITY for a new mailbox, above all that the account has had (R-U10).
    pub(crate) fn new_uid_validity(&self, unix_s: i64) -> Result<UidValidity, Refused> {
        let state = &self.image.state;
        let last = state.mailboxes().filter_map(|(_, mailbox)| mailbox.uid_validity()).max();
        UidValidity::allocate(u64::try_from(unix_s).unwrap_or(0), last, self.setup.site)
            .ok_or(Refused::Limit { what: "UIDVALIDITY values", limit: u64::from(u32::MAX) })
    }
}
