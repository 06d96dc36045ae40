//! Mailboxes: made, removed, renamed, subscribed to.
//!
//! A child knows its parent by id, so a rename is one operation whatever lies below. A parent that nobody made is one
//! that was made and removed in the same breath: it has a name and an id, and is shown as `\NonExistent` for as long as
//! something is below it (V4).

use model::op::{Claim, Path};
use model::{Dot, MailboxId, MailboxName, ModSeq, NameError, Op, SpecialUse, Stamp};

use crate::door::{Refused, Reply};
use crate::owner::Owner;
use crate::setup::Now;

/// Longest subscription, and how many of them: names of mailboxes that need not exist.
const SUBSCRIPTIONS_MAX: u64 = 20_000;

/// How a claim comes about.
#[derive(Clone, Copy)]
enum Making {
    Create,
    Rename,
}

impl Owner {
    pub(crate) fn create(
        &mut self,
        now: Now,
        name: &MailboxName,
        special_use: Option<SpecialUse>,
    ) -> Result<Reply, Refused> {
        self.check_new_name(name)?;
        self.check_mailboxes(1)?;
        let uid_validity = self.new_uid_validity(now.unix_s())?;
        let stamp = self.stamp(now);
        let mailbox = self.claim_new(stamp, stamp.into(), name, uid_validity, special_use)?;
        Ok(Reply::Created { mailbox })
    }

    pub(crate) fn delete(&mut self, now: Now, name: &MailboxName) -> Result<Reply, Refused> {
        if name.is_inbox() {
            return Err(Refused::CannotDo { name: name.clone(), why: "INBOX cannot be deleted" });
        }
        let named = self.image.building.named(&self.image.state, name);
        let named = named.ok_or_else(|| Refused::NoMailbox(name.clone()))?;
        if !named.exists {
            let why = "it holds other mailboxes and is none itself";
            return Err(Refused::CannotDo { name: name.clone(), why });
        }
        let stamp = self.stamp(now);
        self.issue_delete(stamp, stamp.into(), named.id);
        Ok(Reply::Done)
    }

    pub(crate) fn rename(
        &mut self,
        now: Now,
        from: &MailboxName,
        to: &MailboxName,
    ) -> Result<Reply, Refused> {
        if to.is_below(from) {
            return Err(Refused::CannotDo { name: to.clone(), why: "it would lie below itself" });
        }
        let named = self.image.building.named(&self.image.state, from);
        let named = named.ok_or_else(|| Refused::NoMailbox(from.clone()))?;
        if self.image.building.named(&self.image.state, to).is_some_and(|named| !named.exists) {
            let why = "it holds other mailboxes";
            return Err(Refused::CannotDo { name: to.clone(), why });
        }
        self.check_new_name(to)?;
        self.check_names_below(from, to)?;
        if from.is_inbox() {
            return self.rename_inbox(now, named.id, to);
        }
        let uid_validity = match self.uid_validity(named.id) {
            Ok(uid_validity) => uid_validity,
            Err(_) => self.new_uid_validity(now.unix_s())?,
        };
        let stamp = self.stamp(now);
        let parent = self.parent_of(stamp, stamp.into(), to)?;
        let path = Path { parent, level: to.leaf().to_owned() };
        let left = self
            .image
            .state
            .mailbox(named.id)
            .and_then(|mailbox| mailbox.name())
            .map(|claim| claim.path.clone());
        let claim = Claim { left, ..self.claim_of(named.id, path, uid_validity, None) };
        self.issue_claim(Making::Rename, stamp, stamp.into(), claim);
        if !named.exists {
            self.issue_delete(stamp, stamp.into(), named.id);
        }
        Ok(Reply::Done)
    }

    /// RFC 3501 §6.3.5: the messages move to a new mailbox, and INBOX stays, empty; what lies below it stays there
    /// too (row 41).
    fn rename_inbox(&mut self, now: Now, inbox: MailboxId, to: &MailboxName) -> Result<Reply, Refused> {
        self.check_mailboxes(1)?;
        let uid_validity = self.new_uid_validity(now.unix_s())?;
        let stamp = self.stamp(now);
        let target = self.claim_new(stamp, stamp.into(), to, uid_validity, None)?;
        let view = self.image.building.view(&self.image.state, inbox);
        let sources = view.map_or_else(Vec::new, |view| view.iter().cloned().collect());
        self.move_all(now, inbox, sources, target)?;
        Ok(Reply::Done)
    }

    pub(crate) fn subscribe(&mut self, now: Now, name: &MailboxName, on: bool) -> Result<Reply, Refused> {
        let state = &self.image.state;
        if state.is_subscribed(name.as_str()) == on {
            return Ok(Reply::Done);
        }
        if on && state.subscriptions().count() as u64 >= SUBSCRIPTIONS_MAX {
            return Err(Refused::Limit { what: "subscriptions", limit: SUBSCRIPTIONS_MAX });
        }
        let stamp = self.stamp(now);
        self.issue(stamp, Op::Subscribe { name: name.as_str().to_owned(), on });
        Ok(Reply::Done)
    }

    fn check_new_name(&mut self, name: &MailboxName) -> Result<(), Refused> {
        let named = self.image.building.named(&self.image.state, name);
        if name.is_inbox() || named.is_some_and(|named| named.exists) {
            return Err(Refused::MailboxExists(name.clone()));
        }
        self.setup.format.check_name(name)?;
        Ok(())
    }

    /// A rename gives new names to everything below: each must be one that can exist.
    fn check_names_below(&mut self, from: &MailboxName, to: &MailboxName) -> Result<(), Refused> {
        let names = self.image.building.names(&self.image.state);
        let below: Vec<_> = names.keys().filter(|name| name.is_below(from)).cloned().collect();
        for name in below {
            let rest = name.as_str().get(from.as_str().len()..).unwrap_or_default();
            let renamed = MailboxName::new(&format!("{to}{rest}")).map_err(Refused::BadName)?;
            self.setup.format.check_name(&renamed)?;
        }
        Ok(())
    }

    fn check_mailboxes(&mut self, more: u32) -> Result<(), Refused> {
        let limit = self.setup.limits.mailboxes;
        let have = self.image.building.names(&self.image.state).values().filter(|named| named.exists).count();
        if have as u64 + u64::from(more) > u64::from(limit) {
            return Err(Refused::Limit { what: "mailboxes", limit: u64::from(limit) });
        }
        Ok(())
    }
}

/// Operations on the tree.
impl Owner {
    /// Makes a mailbox of this name, which no mailbox has.
    pub(crate) fn claim_new(
        &mut self,
        stamp: Stamp,
        modseq: ModSeq,
        name: &MailboxName,
        uid_validity: model::UidValidity,
        special_use: Option<SpecialUse>,
    ) -> Result<MailboxId, Refused> {
        let id = match self.image.building.named(&self.image.state, name) {
            // Only a parent so far: it becomes a mailbox, and keeps what is below it.
            Some(named) => named.id,
            None => {
                let parent = self.parent_of(stamp, modseq, name)?;
                self.image.state.mailbox_id_for(&Path { parent, level: name.leaf().to_owned() })
            }
        };
        self.claim_as(stamp, modseq, name, id, uid_validity, special_use)?;
        Ok(id)
    }

    /// As [`claim_new`](Self::claim_new), under an id that is known.
    pub(crate) fn claim_as(
        &mut self,
        stamp: Stamp,
        modseq: ModSeq,
        name: &MailboxName,
        id: MailboxId,
        uid_validity: model::UidValidity,
        special_use: Option<SpecialUse>,
    ) -> Result<(), Refused> {
        let parent = self.parent_of(stamp, modseq, name)?;
        let path = Path { parent, level: name.leaf().to_owned() };
        // A name that was moved here before wins over one that is created (§3): then this is a move, too.
        let moved =
            self.image.state.mailbox(id).and_then(|mailbox| mailbox.name()).is_some_and(|claim| claim.moved);
        let making = if moved { Making::Rename } else { Making::Create };
        let claim = self.claim_of(id, path, uid_validity, special_use);
        self.issue_claim(making, stamp, modseq, claim);
        self.note_created(id);
        Ok(())
    }

    /// The id of the parent of this name; `None` at the top. Parents that are not there are given a name and an id.
    fn parent_of(
        &mut self,
        stamp: Stamp,
        modseq: ModSeq,
        name: &MailboxName,
    ) -> Result<Option<MailboxId>, Refused> {
        let Some(parent) = name.parent() else { return Ok(None) };
        if let Some(named) = self.image.building.named(&self.image.state, &parent) {
            return Ok(Some(named.id));
        }
        self.setup.format.check_name(&parent).map_err(|error: NameError| Refused::BadName(error))?;
        let above = self.parent_of(stamp, modseq, &parent)?;
        let path = Path { parent: above, level: parent.leaf().to_owned() };
        let id = self.image.state.mailbox_id_for(&path);
        let uid_validity = self.new_uid_validity(i64::try_from(stamp.unix_ms() / 1000).unwrap_or(0))?;
        let claim = self.claim_of(id, path, uid_validity, None);
        self.issue_claim(Making::Create, stamp, modseq, claim);
        self.issue_delete(stamp, modseq, id);
        Ok(Some(id))
    }

    fn claim_of(
        &self,
        mailbox: MailboxId,
        path: Path,
        uid_validity: model::UidValidity,
        special_use: Option<SpecialUse>,
    ) -> Claim {
        let known = self.image.state.mailbox(mailbox);
        let observed: Vec<Dot> = known.map_or_else(Vec::new, |mailbox| mailbox.observed_tags());
        let seen_deletes = known.map_or_else(Vec::new, |mailbox| mailbox.deletes_in_force());
        Claim { mailbox, path, left: None, observed, seen_deletes, uid_validity, special_use }
    }

    fn issue_claim(&mut self, making: Making, stamp: Stamp, modseq: ModSeq, claim: Claim) {
        let op = match making {
            Making::Create => Op::MailboxCreate(claim),
            Making::Rename => Op::MailboxRename(claim),
        };
        self.issue_at(stamp, modseq, op);
    }

    fn issue_delete(&mut self, stamp: Stamp, modseq: ModSeq, mailbox: MailboxId) {
        let state = &self.image.state;
        let known = state.mailbox(mailbox);
        let observed = known.map_or_else(Vec::new, |mailbox| mailbox.observed_tags());
        let nowhere = Path { parent: None, level: mailbox.to_string() };
        let gone = known.and_then(|mailbox| mailbox.name()).map_or(nowhere, |claim| claim.path.clone());
        let context = state.version().clone();
        self.issue_at(stamp, modseq, Op::MailboxDelete { mailbox, observed, context, gone });
    }
}
