//! Taking over a store that other programs made, or that outlived its journal.
//!
//! Invariants
//! - UIDVALIDITY, UIDs, UIDNEXT, flags, keywords, dates, POP3 UIDLs and subscriptions survive (design decision 6).
//! - Nothing of the old store is changed but for a file of ours in each mailbox directory, which names the id.
//! - A mailbox that is not taken over completely says so in the journal ([`TAKING_OVER`]): after a crash it is gone on
//!   with, and until it is complete no new message can take a number that an old one has.

use std::sync::Arc;

use model::{MailboxId, MailboxName, Op, Stamp, Uid, UidValidity};
use store::format::FoundMailbox;

use crate::append::refused_by_disk;
use crate::door::Refused;
use crate::owner::Owner;
use crate::setup::Now;

/// Metadata of a mailbox whose old messages are not all in the journal yet.
const TAKING_OVER: &str = "/private/vendor/roost/taking-over";

impl Owner {
    /// Whether a mailbox is still being taken over.
    pub(crate) fn is_taking_over(&self, id: MailboxId) -> bool {
        let known = self.image.state.mailbox(id);
        known.is_some_and(|known| known.metadata().any(|(key, _)| key == TAKING_OVER))
    }

    fn note_taking_over(&mut self, now: Now, id: MailboxId, on: bool) {
        let stamp = self.stamp(now);
        let (key, value) = (TAKING_OVER.to_owned(), on.then(Vec::new));
        self.issue(stamp, Op::Metadata { mailbox: Some(id), key, value });
    }

    /// Takes over one mailbox directory, messages included.
    pub(crate) fn adopt_mailbox(&mut self, now: Now, found: &FoundMailbox) -> Result<(), Refused> {
        let format = Arc::clone(&self.setup.format);
        let former = format.former_lists(&found.name).map_err(|error| refused_by_disk(&error))?;
        for damage in &former.damage {
            self.report("a line of a neighbour's list cannot be read", damage);
        }
        let id = self.claim_found(now, found, former.uid_validity.and_then(UidValidity::new))?;
        self.finish_turn(now, Vec::new());
        self.check_sound()?;
        format.adopt(&found.name, id).map_err(|error| refused_by_disk(&error))?;
        self.observe_mailbox(now, id, true)?;
        let same = self.uid_validity(id).ok().map(UidValidity::get) == former.uid_validity;
        if same {
            self.raise_uid_next(now, id, former.uid_next.unwrap_or(0));
        }
        if self.lost_state {
            self.skip_uids(now, id);
        }
        if self.is_taking_over(id) {
            self.note_taking_over(now, id, false);
        }
        self.finish_turn(now, Vec::new());
        self.check_sound()
    }

    /// The id of a mailbox of this name, made if there is none.
    fn claim_found(
        &mut self,
        now: Now,
        found: &FoundMailbox,
        former: Option<UidValidity>,
    ) -> Result<MailboxId, Refused> {
        let named = self.image.building.named(&self.image.state, &found.name);
        if let Some(named) = named.filter(|named| named.exists) {
            return Ok(named.id);
        }
        let uid_validity = match former {
            Some(former) => former,
            None => self.new_uid_validity(now.unix_s())?,
        };
        let stamp = self.stamp(now);
        let id = match found.id.filter(|_| named.is_none()) {
            _ if found.name.is_inbox() => {
                self.claim_inbox(now, uid_validity);
                self.image.state.inbox()
            }
            Some(id) => {
                self.claim_as(stamp, stamp.into(), &found.name, id, uid_validity, None)?;
                id
            }
            None => self.claim_new(stamp, stamp.into(), &found.name, uid_validity, None)?,
        };
        self.note_taking_over(now, id, true);
        Ok(id)
    }

    /// INBOX is made by configuration: two sites make the same (R-ID2).
    fn claim_inbox(&mut self, now: Now, uid_validity: UidValidity) {
        let id = self.image.state.inbox();
        let modseq = self.stamp(now).into();
        // INBOX has a valid name and no parent, so nothing can refuse it.
        if let Err(refused) =
            self.claim_as(Stamp::ZERO, modseq, &MailboxName::inbox(), id, uid_validity, None)
        {
            self.report("INBOX cannot be made", &refused.to_string());
        }
    }

    /// Makes what every account has: INBOX, and what configuration wants.
    pub(crate) fn create_configured(&mut self, now: Now) -> Result<(), Refused> {
        let inbox = self.image.state.inbox();
        if self.uid_validity(inbox).is_err() {
            let uid_validity = self.new_uid_validity(now.unix_s())?;
            self.claim_inbox(now, uid_validity);
        }
        for (name, special_use) in self.setup.autocreate.clone() {
            let named = self.image.building.named(&self.image.state, &name);
            // One that a user removed is not made again.
            if named.is_some_and(|named| named.exists) || self.was_there(&name) {
                continue;
            }
            let modseq = self.stamp(now).into();
            let uid_validity = self.new_uid_validity(now.unix_s())?;
            self.claim_new(Stamp::ZERO, modseq, &name, uid_validity, special_use)?;
        }
        Ok(())
    }

    fn was_there(&mut self, name: &MailboxName) -> bool {
        let mut parent = None;
        for level in name.levels() {
            let path = model::op::Path { parent, level: level.to_owned() };
            if self.image.state.next_generation(&path) > 0 && level == name.leaf() {
                return true;
            }
            parent = Some(self.image.state.mailbox_id_for(&path));
        }
        false
    }

    /// Sees to it that UIDs below `uid_next` are never given to a message (R-U0).
    pub(crate) fn raise_uid_next(&mut self, now: Now, mailbox: MailboxId, uid_next: u32) {
        let greatest = self
            .image
            .state
            .mailbox(mailbox)
            .and_then(|known| known.uid_validity().map(|uid_validity| known.greatest_uid(uid_validity)));
        if Uid::new(uid_next).is_none()
            || greatest.is_none_or(|greatest| greatest >= uid_next.saturating_sub(1))
        {
            return;
        }
        let stamp = self.stamp(now);
        self.issue(stamp, Op::UidLate { mailbox, tags: Vec::new(), exposed_next: uid_next });
    }

    /// Subscriptions that a former server left.
    pub(crate) fn adopt_subscriptions(&mut self, now: Now) -> Result<(), Refused> {
        let names = self.setup.format.former_subscriptions().map_err(|error| refused_by_disk(&error))?;
        for name in names {
            self.subscribe(now, &name, true)?;
        }
        Ok(())
    }
}
