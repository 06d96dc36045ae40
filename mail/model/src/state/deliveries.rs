//! Deliveries of the last hour, so that the same one tried again is stored once (L-CM2).
//!
//! The hour is counted back from the newest stamp of any record, and the bound keeps the newest: both depend on the
//! set of operations only, not on the order they came in. Expunged entries stay in here.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::digest::Canon;
use crate::{ContentId, DeliveryKey, EntryId, Stamp};

const WINDOW_MS: u64 = 60 * 60 * 1000;
const DELIVERIES_MAX: usize = 65_536;

#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct Deliveries {
    by_age: BTreeSet<(Stamp, EntryId, DeliveryKey, ContentId)>,
    /// The same by key; derived.
    #[serde(skip)]
    by_key: BTreeSet<(DeliveryKey, ContentId, Stamp, EntryId)>,
}

impl Deliveries {
    pub(super) fn add(&mut self, key: DeliveryKey, content: ContentId, stamp: Stamp, entry: EntryId) {
        self.by_age.insert((stamp, entry, key, content));
        self.by_key.insert((key, content, stamp, entry));
    }

    /// Forgets what lies more than an hour before `newest`, and beyond the bound.
    pub(super) fn prune(&mut self, newest: Stamp) {
        while let Some((stamp, entry, key, content)) = self.by_age.first().copied() {
            let old = newest.unix_ms().saturating_sub(stamp.unix_ms()) > WINDOW_MS;
            if !old && self.by_age.len() <= DELIVERIES_MAX {
                return;
            }
            self.by_age.pop_first();
            self.by_key.remove(&(key, content, stamp, entry));
        }
    }

    /// The earliest delivery of this key and content.
    pub(super) fn find(&self, key: DeliveryKey, content: ContentId) -> Option<EntryId> {
        let from = (key, content, Stamp::ZERO, EntryId::from_bytes([0; 16]));
        let (found_key, found_content, _, entry) = self.by_key.range(from..).next()?;
        ((*found_key, *found_content) == (key, content)).then_some(*entry)
    }

    pub(super) fn rebuild(&mut self) {
        let by_key = |(stamp, entry, key, content): &(_, _, _, _)| (*key, *content, *stamp, *entry);
        self.by_key = self.by_age.iter().map(by_key).collect();
    }

    pub(super) fn digest_into(&self, canon: &mut Canon) {
        canon.count(self.by_age.len());
        for (stamp, entry, key, content) in &self.by_age {
            canon.number(stamp.get()).bytes(entry.as_bytes()).number(key.0).bytes(content.as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Clock, SiteId};

    #[test]
    fn a_delivery_is_known_for_an_hour_whatever_else_has_the_key() {
        let mut clock = Clock::new(SiteId::new(1).unwrap());
        let start = crate::clock::STAMP_EPOCH_UNIX_MS + 1;
        let (early, late) = (clock.issue(start), clock.issue(start + WINDOW_MS + 1));
        let (one, two) = (ContentId::of(b"one"), ContentId::of(b"two"));
        let entry = EntryId::from_bytes([1; 16]);
        let mut deliveries = Deliveries::default();
        deliveries.add(DeliveryKey(7), one, early, entry);
        deliveries.prune(early);
        assert_eq!(deliveries.find(DeliveryKey(7), one), Some(entry));
        assert_eq!(deliveries.find(DeliveryKey(7), two), None);
        assert_eq!(deliveries.find(DeliveryKey(6), one), None);
        deliveries.prune(late);
        assert_eq!(deliveries.find(DeliveryKey(7), one), None);
    }

    #[test]
    fn the_oldest_go_first_when_there_are_too_many() {
        let mut clock = Clock::new(SiteId::new(1).unwrap());
        let content = ContentId::of(b"x");
        let mut deliveries = Deliveries::default();
        for key in 0..=DELIVERIES_MAX as u64 {
            let stamp = clock.issue(crate::clock::STAMP_EPOCH_UNIX_MS);
            deliveries.add(DeliveryKey(key), content, stamp, EntryId::from_bytes([0; 16]));
            deliveries.prune(stamp);
        }
        assert_eq!(deliveries.find(DeliveryKey(0), content), None);
        assert!(deliveries.find(DeliveryKey(1), content).is_some());
    }
}
