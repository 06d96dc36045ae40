//! Going on after a loss: a garbled journal, or files that outlived it.
//!
//! What can still be proved stands: the checkpoint, every record that can be read, and every message file. What cannot
//! be is told. Whatever a client may have been shown in the lost part is never contradicted: UIDNEXT of every mailbox
//! rises by [`UIDS_SKIPPED`], and a new incarnation of the replica issues the operations from now on (R-JR6), so that no
//! UID and no dot is used twice.

use std::collections::BTreeMap;

use journal::{Entry, Mark, SegmentName};
use model::op::Claim;
use model::{Dot, Epoch, MailboxId, Op, Record, ReplicaId};

use crate::log::CheckpointFailure;
use crate::open::OpenError;
use crate::owner::Owner;
use crate::setup::{Now, Setup};

/// UIDs of each mailbox that are never given to a message after a loss (`locking.md` §6.3).
pub(crate) const UIDS_SKIPPED: u32 = 65_536;

/// What was lost, and what is left behind it.
pub(crate) struct Loss {
    pub(crate) what: String,
    /// The damaged file, to be put aside.
    pub(crate) segment: Option<SegmentName>,
    /// Records behind the damage, of which those before them are missing.
    pub(crate) after: Vec<Record>,
    /// No position up to here is given again.
    pub(crate) lsn: u64,
}

impl Loss {
    /// The last position that may have been given.
    pub(crate) fn lsn_after<'a>(entries: impl Iterator<Item = &'a Entry>, witness: Option<&Mark>) -> u64 {
        let read = entries.map(|entry| entry.lsn).max().unwrap_or(0);
        read.max(witness.map_or(0, |mark| mark.lsn))
    }

    /// Where the journal goes on. Nothing before it is read again, because a checkpoint stands for it: so that nothing
    /// pins what is damaged, the predecessor is one that was never written.
    pub(crate) fn mark(_: &Setup, lsn: u64) -> Mark {
        Mark { epoch: Epoch::from_u64(0), segment: 0, length: 0, hash: 0, lsn }
    }
}

impl Owner {
    /// Makes a sound account of what could be read, in one checkpoint: after a crash on the way it is done again.
    pub(crate) fn recover(&mut self, now: Now, loss: Loss) -> Result<(), OpenError> {
        self.report("acknowledged changes are lost", &loss.what);
        self.replica = next_incarnation(self.replica, now);
        let mut renamed = BTreeMap::new();
        for record in loss.after {
            if let Some(dot) = self.next_dot(0) {
                renamed.insert(record.dot, dot);
            }
            self.issue_at(record.stamp, record.modseq, with_dots(record.op, &renamed));
        }
        let mailboxes: Vec<_> = self.image.state.mailboxes().map(|(id, _)| id).collect();
        for id in mailboxes {
            self.skip_uids(now, id);
        }
        self.forget_turn().map_err(OpenError::NotStored)?;
        self.publish();
        let payload = self.image.encode().map_err(OpenError::NotStored)?;
        match self.log.checkpoint(&payload) {
            Ok(()) => {}
            Err(CheckpointFailure::Kept(what)) => return Err(OpenError::NotStored(what)),
            Err(CheckpointFailure::Broken(failure)) => {
                self.end(&failure);
                return Err(OpenError::NotStored(failure.to_string()));
            }
        }
        if let Some(segment) = loss.segment {
            self.put_aside(segment);
        }
        Ok(())
    }

    /// Gives up the UIDs that may have been shown.
    pub(crate) fn skip_uids(&mut self, now: Now, mailbox: MailboxId) {
        let Ok(uid_validity) = self.uid_validity(mailbox) else { return };
        let greatest = self.image.state.mailbox(mailbox).map_or(0, |known| known.greatest_uid(uid_validity));
        self.raise_uid_next(now, mailbox, greatest.saturating_add(1).saturating_add(UIDS_SKIPPED));
    }

    /// There is no journal. If there are mailboxes of ours all the same, there was one.
    pub(crate) fn outlive_lost_state(&mut self, now: Now) -> Result<(), OpenError> {
        let found = self.setup.format.mailboxes()?;
        if found.iter().any(|found| found.id.is_some()) {
            self.report("the account's journal is gone", "its state is made again from the message files");
            self.lost_state = true;
            self.replica = next_incarnation(self.replica, now);
        }
        Ok(())
    }

    /// For whoever wants to look at it. It is not needed any more, so that it cannot be moved is no harm.
    fn put_aside(&mut self, segment: SegmentName) {
        let (fs, home) = (&self.setup.fs, &self.setup.home);
        let name = segment.to_string();
        let moved = fs.create_dir_all(&home.aside()).and_then(|()| {
            let to = home.aside().join(&name);
            if fs.exists(&to)? {
                return Ok(());
            }
            fs.rename(&home.journal().join(&name), &to)
        });
        if let Err(error) = moved {
            tracing::warn!(account = %self.setup.account, %error, "damaged segment stays where it is");
        }
    }
}

/// An incarnation that was never used, also if the newest one was lost with the state: incarnations rise by one for
/// each loss, and there is no loss every hour for ever.
fn next_incarnation(replica: ReplicaId, now: Now) -> ReplicaId {
    const HOUR_MS: u64 = 3_600_000;
    let hours = now.unix_ms().saturating_sub(model::clock::STAMP_EPOCH_UNIX_MS) / HOUR_MS;
    let hours = u32::try_from(hours).unwrap_or(u32::MAX);
    ReplicaId::new(replica.site(), replica.incarnation().saturating_add(1).max(hours))
}

/// The operation with the dots that its predecessors were re-issued under.
fn with_dots(op: Op, renamed: &BTreeMap<Dot, Dot>) -> Op {
    let dot = |dot: Dot| renamed.get(&dot).copied().unwrap_or(dot);
    let dots = |dots: Vec<Dot>| dots.into_iter().map(dot).collect::<Vec<_>>();
    let claim = |claim: Claim| Claim {
        observed: dots(claim.observed.clone()),
        seen_deletes: dots(claim.seen_deletes.clone()),
        ..claim
    };
    match op {
        Op::Move { entry, observed, to, uid } => Op::Move { entry, observed: dots(observed), to, uid },
        Op::Expunge { entries } => {
            let entries = entries.into_iter().map(|(entry, observed)| (entry, dots(observed)));
            Op::Expunge { entries: entries.collect() }
        }
        Op::AssignUid { uids } => {
            Op::AssignUid { uids: uids.into_iter().map(|(entry, tag, uid)| (entry, dot(tag), uid)).collect() }
        }
        Op::UidLate { mailbox, tags, exposed_next } => {
            let tags = tags.into_iter().map(|(entry, tag)| (entry, dot(tag))).collect();
            Op::UidLate { mailbox, tags, exposed_next }
        }
        Op::MailboxCreate(created) => Op::MailboxCreate(claim(created)),
        Op::MailboxRename(renamed) => Op::MailboxRename(claim(renamed)),
        Op::MailboxUndelete(undeleted) => Op::MailboxUndelete(claim(undeleted)),
        Op::MailboxDelete { mailbox, observed, mut context, gone } => {
            for (before, after) in renamed {
                if context.covers(*before) {
                    context.join(&covering(*after));
                }
            }
            Op::MailboxDelete { mailbox, observed: dots(observed), context, gone }
        }
        Op::Acl { mailbox, identifier, rights, observed } => {
            Op::Acl { mailbox, identifier, rights, observed: dots(observed) }
        }
        op @ (Op::Append(_)
        | Op::Copy { .. }
        | Op::Flags { .. }
        | Op::Horizon { .. }
        | Op::Subscribe { .. }
        | Op::Metadata { .. }
        | Op::SpecialUse { .. }
        | Op::ScriptPut { .. }
        | Op::ScriptDelete { .. }
        | Op::ScriptActivate { .. }
        | Op::Home { .. }) => op,
    }
}

/// A version vector that covers operations up to this one.
fn covering(dot: Dot) -> model::VersionVector {
    let mut version = model::VersionVector::default();
    for seq in 1..=dot.seq() {
        if let Some(dot) = Dot::new(dot.rid(), seq) {
            version.advance(dot, 0);
        }
    }
    version
}
