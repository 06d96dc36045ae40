//! One mailbox: the tags that keep it alive, its deletions, its name, its numbers, and what users write on it.
//!
//! A deletion hides the entries that it saw, unless a rename that it did not see is live: then the mailbox lives on
//! with all its messages (V2). A later claim must not bring such a voided deletion back into force. So a claim's
//! `seen_deletes` names only deletions *in force*, which is what [`Mailbox::deletes_in_force`] lists.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::op::{Claim, Path};
use crate::state::registers::{self, Acl, Lww};
use crate::{Dot, SiteId, SpecialUse, Stamp, UidValidity, VersionVector};

/// UIDs of stripe 0 belong to homes of the first lineage, so every horizon is at least this (`replication.md` §6).
pub const STRIPE_0_END: u32 = 65_536;

/// A mailbox as operations describe it. Deleted ones stay known: their number is small, and entries may still come.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Mailbox {
    tags: Vec<Tag>,
    deletes: BTreeMap<Dot, VersionVector>,
    name: Option<NameClaim>,
    uid_validity: Option<UidValidity>,
    /// Greatest UID seen in any operation, kept when the entries are gone (R-U0).
    greatest_uid: BTreeMap<UidValidity, u32>,
    /// Greatest UIDNEXT that any site reported to have exposed (R-U5).
    exposed_next: u32,
    horizons: Vec<Horizon>,
    special_use: Option<Lww<Option<SpecialUse>>>,
    metadata: BTreeMap<String, Lww<Option<Vec<u8>>>>,
    acl: Acl,
}

/// How a mailbox was claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ClaimKind {
    Create,
    Rename,
    /// Takes a deleted mailbox back under a name. Like a rename it voids deletions that it did not see; those that it
    /// did see stay in force, and what they hid is appended anew from the hold (R-GC2), since other sites may have
    /// forgotten it by then.
    Undelete,
}

/// The name register: the greatest claim wins, a rename before any create.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct NameClaim {
    /// Renamed or undeleted, not just created.
    pub moved: bool,
    pub stamp: Stamp,
    pub path: Path,
}

/// A promise about fallback UIDs, with the operation that made it (R-U1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Horizon {
    pub uid_validity: UidValidity,
    pub lineage: (u64, SiteId),
    pub horizon: u32,
    pub dot: Dot,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Tag {
    dot: Dot,
    kind: ClaimKind,
    seen_deletes: Vec<Dot>,
}

impl Mailbox {
    /// Whether a claim keeps it alive. A mailbox without one is shown as long as entries are placed in it (V4).
    pub fn is_live(&self) -> bool {
        !self.tags.is_empty()
    }

    /// Its live tags: what a claim or deletion must name as observed.
    pub fn observed_tags(&self) -> Vec<Dot> {
        self.tags.iter().map(|tag| tag.dot).collect()
    }

    /// The deletions that hide entries: what a claim must name as seen, and no others.
    pub fn deletes_in_force(&self) -> Vec<Dot> {
        let in_force =
            |(dot, context): (&Dot, &VersionVector)| (!self.is_void(*dot, context)).then_some(*dot);
        self.deletes.iter().filter_map(in_force).collect()
    }

    /// Every deletion that was ever asked for, in force or void.
    pub fn deletes(&self) -> impl Iterator<Item = Dot> {
        self.deletes.keys().copied()
    }

    /// Name register. `None` when only entries have named the mailbox.
    pub fn name(&self) -> Option<&NameClaim> {
        self.name.as_ref()
    }

    pub fn uid_validity(&self) -> Option<UidValidity> {
        self.uid_validity
    }

    /// Greatest UID known under this UIDVALIDITY, used or promised as exposed; 0 when there is none (R-U0).
    pub fn greatest_uid(&self, uid_validity: UidValidity) -> u32 {
        let used = self.greatest_uid.get(&uid_validity).copied().unwrap_or(0);
        used.max(self.exposed_next.saturating_sub(1))
    }

    /// Fallback UIDs lie above this (§6).
    pub fn horizon(&self, uid_validity: UidValidity) -> u32 {
        self.horizons(uid_validity).map(|horizon| horizon.horizon).fold(STRIPE_0_END, u32::max)
    }

    /// Every horizon under this UIDVALIDITY, for finding the greatest that all members acknowledged (R-U1).
    pub fn horizons(&self, uid_validity: UidValidity) -> impl Iterator<Item = &Horizon> {
        self.horizons.iter().filter(move |horizon| horizon.uid_validity == uid_validity)
    }

    pub fn special_use(&self) -> Option<SpecialUse> {
        self.special_use.as_ref().and_then(|purpose| *purpose.get())
    }

    pub fn metadata(&self) -> impl Iterator<Item = (&str, &[u8])> {
        registers::present(&self.metadata)
    }

    /// Identifiers with the rights that every concurrent writer granted them (V6), sorted.
    pub fn acl(&self) -> impl Iterator<Item = (&str, String)> {
        self.acl.effective()
    }

    /// The values that a new one for this identifier replaces.
    pub fn acl_observed(&self, identifier: &str) -> Vec<Dot> {
        self.acl.observed(identifier)
    }

    /// Whether a deletion in force hides the tag of this dot (V2).
    pub(super) fn hides(&self, tag: Dot) -> bool {
        self.deletes.iter().any(|(dot, context)| context.covers(tag) && !self.is_void(*dot, context))
    }

    /// As [`hides`](Self::hides), counting only deletions that `stable` covers.
    pub(super) fn hides_for_good(&self, tag: Dot, stable: &VersionVector) -> bool {
        self.deletes
            .iter()
            .any(|(dot, context)| stable.covers(*dot) && context.covers(tag) && !self.is_void(*dot, context))
    }

    /// Whether a live rename or undelete is concurrent with the deletion (V2).
    fn is_void(&self, delete: Dot, context: &VersionVector) -> bool {
        self.tags.iter().any(|tag| {
            let voids = match tag.kind {
                ClaimKind::Create => false,
                ClaimKind::Rename | ClaimKind::Undelete => true,
            };
            voids && !context.covers(tag.dot) && !tag.seen_deletes.contains(&delete)
        })
    }

    /// What a deletion had seen.
    pub(super) fn delete_context(&self, delete: Dot) -> Option<&VersionVector> {
        self.deletes.get(&delete)
    }
}

/// Joins. Each says nothing of what follows from it; `apply` compares before and after.
impl Mailbox {
    pub(super) fn join_claim(&mut self, kind: ClaimKind, claim: &Claim, dot: Dot, stamp: Stamp) {
        self.tags.retain(|tag| !claim.observed.contains(&tag.dot));
        self.tags.push(Tag { dot, kind, seen_deletes: claim.seen_deletes.clone() });
        let moved = kind != ClaimKind::Create;
        let name = NameClaim { moved, stamp, path: claim.path.clone() };
        if self.name.as_ref().is_none_or(|known| *known < name) {
            self.name = Some(name);
        }
        self.uid_validity = self.uid_validity.max(Some(claim.uid_validity));
        if claim.special_use.is_some() {
            self.join_special_use(claim.special_use, stamp);
        }
    }

    pub(super) fn join_delete(&mut self, observed: &[Dot], context: &VersionVector, dot: Dot) {
        self.tags.retain(|tag| !observed.contains(&tag.dot));
        self.deletes.insert(dot, context.clone());
    }

    pub(super) fn join_special_use(&mut self, purpose: Option<SpecialUse>, stamp: Stamp) {
        Lww::join(&mut self.special_use, purpose, stamp);
    }

    pub(super) fn join_metadata(&mut self, key: &str, value: Option<Vec<u8>>, stamp: Stamp) {
        registers::join_key(&mut self.metadata, key, value, stamp);
    }

    pub(super) fn join_acl(&mut self, identifier: &str, rights: Option<&str>, observed: &[Dot], dot: Dot) {
        self.acl.join(identifier, rights, observed, dot);
    }

    pub(super) fn join_horizon(&mut self, horizon: Horizon) {
        self.horizons.push(horizon);
    }

    pub(super) fn note_uid(&mut self, (uid_validity, uid): crate::op::NumberedUid) {
        let greatest = self.greatest_uid.entry(uid_validity).or_default();
        *greatest = uid.get().max(*greatest);
    }

    pub(super) fn note_exposed(&mut self, exposed_next: u32) {
        self.exposed_next = exposed_next.max(self.exposed_next);
    }
}

/// What the digest reads and nobody else.
impl Mailbox {
    pub(super) fn digest_into(&self, canon: &mut super::digest::Canon) {
        let mut tags: Vec<_> = self.tags.iter().collect();
        tags.sort_by_key(|tag| tag.dot);
        canon.count(tags.len());
        for tag in tags {
            canon.dot(tag.dot).number(tag.kind as u64).dots(&tag.seen_deletes);
        }
        canon.count(self.deletes.len());
        for (dot, context) in &self.deletes {
            canon.dot(*dot).version(context);
        }
        canon.count(usize::from(self.name.is_some()));
        if let Some(name) = &self.name {
            canon.number(u64::from(name.moved)).number(name.stamp.get()).path(&name.path);
        }
        canon.number(u64::from(self.uid_validity.map_or(0, UidValidity::get)));
        canon.count(self.greatest_uid.len());
        for (uid_validity, uid) in &self.greatest_uid {
            canon.number(u64::from(uid_validity.get())).number(u64::from(*uid));
        }
        canon.number(u64::from(self.exposed_next));
        let mut horizons = self.horizons.clone();
        horizons.sort();
        canon.count(horizons.len());
        for horizon in horizons {
            canon.number(u64::from(horizon.uid_validity.get())).number(u64::from(horizon.horizon));
            canon.number(horizon.lineage.0).number(u64::from(horizon.lineage.1.slot())).dot(horizon.dot);
        }
        canon.count(usize::from(self.special_use.is_some()));
        if let Some(purpose) = &self.special_use {
            canon.number(purpose.stamp().get()).text(purpose.get().map_or("", SpecialUse::as_str));
        }
        canon.metadata(&self.metadata);
        self.acl.digest_into(canon);
    }
}
