//! Registers: the values that users set, and how two concurrent settings join.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::digest::Canon;
use crate::{Dot, SiteId, Stamp};

/// Last writer wins: the greatest stamp, and of equal stamps the greater value.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Lww<T> {
    stamp: Stamp,
    value: T,
}

impl<T: Ord> Lww<T> {
    pub(super) fn join(slot: &mut Option<Self>, value: T, stamp: Stamp) {
        if slot.as_ref().is_none_or(|known| (known.stamp, &known.value) < (stamp, &value)) {
            *slot = Some(Self { stamp, value });
        }
    }

    pub(super) fn get(&self) -> &T {
        &self.value
    }

    pub(super) fn stamp(&self) -> Stamp {
        self.stamp
    }
}

/// Joins a value into the register of one key.
pub(super) fn join_key<T: Ord>(map: &mut BTreeMap<String, Lww<T>>, key: &str, value: T, stamp: Stamp) {
    let mut slot = map.remove(key);
    Lww::join(&mut slot, value, stamp);
    if let Some(register) = slot {
        map.insert(key.to_owned(), register);
    }
}

/// The keys that have a value.
pub(super) fn present(map: &BTreeMap<String, Lww<Option<Vec<u8>>>>) -> impl Iterator<Item = (&str, &[u8])> {
    map.iter().filter_map(|(key, value)| Some((key.as_str(), value.get().as_deref()?)))
}

/// Which site assigns UIDs; the greatest (epoch, site) wins (§3, R-U8).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Home {
    pub epoch: u64,
    pub site: SiteId,
    /// Epoch and site of the last unplanned change.
    pub lineage: (u64, SiteId),
}

/// Access rights: for each identifier, the values that no other value has replaced.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Acl(BTreeMap<String, BTreeMap<Dot, Option<String>>>);

impl Acl {
    pub(super) fn join(&mut self, identifier: &str, rights: Option<&str>, observed: &[Dot], dot: Dot) {
        let values = self.0.entry(identifier.to_owned()).or_default();
        values.retain(|value, _| !observed.contains(value));
        values.insert(dot, rights.map(str::to_owned));
    }

    pub(super) fn observed(&self, identifier: &str) -> Vec<Dot> {
        self.0.get(identifier).map_or_else(Vec::new, |values| values.keys().copied().collect())
    }

    /// No merge grants what some concurrent writer withheld (V6, I13). An identifier that begins with `-` takes rights
    /// away (RFC 4314 §2), so there the union is the lesser privilege.
    pub(super) fn effective(&self) -> impl Iterator<Item = (&str, String)> {
        self.0.iter().filter_map(|(identifier, values)| {
            let mut sets = values.values().map(|rights| rights.iter().flat_map(|r| r.chars()).collect());
            let first: BTreeSet<char> = sets.next()?;
            let rights: String = if identifier.starts_with('-') {
                sets.fold(first, |all, set| &all | &set).into_iter().collect()
            } else {
                sets.fold(first, |all, set| &all & &set).into_iter().collect()
            };
            (!rights.is_empty()).then_some((identifier.as_str(), rights))
        })
    }

    pub(super) fn digest_into(&self, canon: &mut Canon) {
        canon.count(self.0.len());
        for (identifier, values) in &self.0 {
            canon.text(identifier).count(values.len());
            for (dot, rights) in values {
                canon.dot(*dot).optional(rights.as_ref().map(String::as_bytes));
            }
        }
    }
}

/// Sieve scripts: for each name, the versions that no edit or deletion has replaced, by stamp.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Scripts {
    versions: BTreeMap<String, BTreeMap<Stamp, Arc<[u8]>>>,
    active: Option<Lww<Option<String>>>,
}

/// A script as ManageSieve lists it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShownScript {
    pub name: String,
    pub text: Arc<[u8]>,
    /// What an edit or deletion of it names as observed.
    pub stamp: Stamp,
    pub active: bool,
}

impl Scripts {
    pub(super) fn put(&mut self, name: &str, text: &[u8], observed: Option<Stamp>, stamp: Stamp) {
        self.take_off(name, observed);
        let versions = self.versions.entry(name.to_owned()).or_default();
        // One command can put a name once only; should a peer do it twice, the greater text stays.
        let version = versions.entry(stamp).or_insert_with(|| text.into());
        if **version < *text {
            *version = text.into();
        }
    }

    pub(super) fn delete(&mut self, name: &str, observed: Option<Stamp>) {
        self.take_off(name, observed);
    }

    pub(super) fn activate(&mut self, name: Option<String>, stamp: Stamp) {
        Lww::join(&mut self.active, name, stamp);
    }

    pub(super) fn active(&self) -> Option<&str> {
        self.active.as_ref().and_then(|active| active.get().as_deref())
    }

    /// Removes the version that was observed under this shown name, which may be that of a conflict copy.
    fn take_off(&mut self, shown: &str, observed: Option<Stamp>) {
        let Some(observed) = observed else { return };
        let origin = shown.strip_suffix(&conflict_suffix(observed));
        for name in [Some(shown), origin].into_iter().flatten() {
            let Some(versions) = self.versions.get_mut(name) else { continue };
            versions.remove(&observed);
            if versions.is_empty() {
                self.versions.remove(name);
            }
        }
    }

    /// The greatest stamp has the name; what was written beside it is kept, inactive, under a name that tells
    /// (§7 row 36).
    pub(super) fn shown(&self) -> Vec<ShownScript> {
        let active = self.active();
        let mut shown = Vec::new();
        for (name, versions) in &self.versions {
            for (age, (stamp, text)) in versions.iter().rev().enumerate() {
                let name = if age == 0 { name.clone() } else { format!("{name}{}", conflict_suffix(*stamp)) };
                let active = age == 0 && active == Some(&name);
                shown.push(ShownScript { name, text: text.clone(), stamp: *stamp, active });
            }
        }
        shown
    }

    pub(super) fn digest_into(&self, canon: &mut Canon) {
        canon.count(self.versions.len());
        for (name, versions) in &self.versions {
            canon.text(name).count(versions.len());
            for (stamp, text) in versions {
                canon.number(stamp.get()).bytes(text);
            }
        }
        canon.count(usize::from(self.active.is_some()));
        if let Some(active) = &self.active {
            canon.number(active.stamp().get()).optional(active.get().as_ref().map(String::as_bytes));
        }
    }
}

fn conflict_suffix(stamp: Stamp) -> String {
    format!(".conflict-{}-{stamp}", stamp.site())
}
