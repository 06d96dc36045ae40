//! The witnesses of a shard's accounts, close together: about 70 bytes an account, all included.
//!
//! Sorted leaves of at most [`LEAF_MAX`] witnesses, each one allocation of exactly its size. Values that are no longer
//! than those of mail accounts lie in their entry; longer ones beside the leaves.
//!
//! Invariants
//! - Keys rise through all leaves; no leaf is empty or longer than [`LEAF_MAX`].
//! - A clone shares all leaves; a write copies one of them, and only when it is shared.
//! - Encoded, it is the sorted map that it stands for.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use model::Epoch;
use serde::ser::SerializeMap;
use serde::{Deserialize, Serialize};

use crate::command::{Bucket, Subkey, Value, Witness};

/// Most witnesses in a leaf: what one write behind a snapshot copies.
const LEAF_MAX: usize = 32;
/// How full leaves are that are made in order, so that not every later account splits one.
const LEAF_FILL: usize = 28;
/// Longest value that lies in its entry.
const INLINE_BYTES: usize = 31;
/// The length of a value that does not.
const BESIDE: u8 = u8::MAX;
const KEY_BYTES: usize = 18;

/// Bucket, big-endian, then subkey: bytes that sort as the two do.
type Key = [u8; KEY_BYTES];

fn key_of(bucket: Bucket, subkey: &Subkey) -> Key {
    let mut key = [0; KEY_BYTES];
    key[..2].copy_from_slice(&bucket.to_be_bytes());
    key[2..].copy_from_slice(subkey);
    key
}

fn parts_of(key: &Key) -> (Bucket, Subkey) {
    let mut subkey = [0; 16];
    subkey.copy_from_slice(&key[2..]);
    (u16::from_be_bytes([key[0], key[1]]), subkey)
}

/// One witness, without gaps between the fields.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: Key,
    epoch: [u8; 8],
    counter: [u8; 8],
    length: u8,
    value: [u8; INLINE_BYTES],
}

impl Entry {
    /// A value that does not fit is to be put beside.
    fn new(key: Key, witness: &Witness) -> Self {
        let bytes = witness.value.as_bytes();
        let mut value = [0; INLINE_BYTES];
        let mut length = BESIDE;
        if let Some(place) = value.get_mut(..bytes.len()) {
            place.copy_from_slice(bytes);
            length = bytes.len() as u8;
        }
        let (epoch, counter) = (witness.epoch.get().to_le_bytes(), witness.counter.to_le_bytes());
        Self { key, epoch, counter, length, value }
    }

    fn counter(&self) -> u64 {
        u64::from_le_bytes(self.counter)
    }
}

#[derive(Clone)]
struct Leaf {
    /// The key of its first entry, here so that looking for a leaf touches no other memory.
    first: Key,
    entries: Arc<[Entry]>,
}

impl Leaf {
    fn new(entries: impl Into<Arc<[Entry]>>) -> Self {
        let entries = entries.into();
        Self { first: entries.first().map_or([0; KEY_BYTES], |entry| entry.key), entries }
    }
}

/// A sorted map from bucket and subkey to witness.
#[derive(Clone, Default)]
pub struct Witnesses {
    leaves: Vec<Leaf>,
    count: usize,
    /// Values that are longer than an entry has room for.
    beside: BTreeMap<Key, Value>,
}

/// Where a key is, or where it belongs.
enum Place {
    Here(usize, usize),
    Before(usize, usize),
    /// There is no leaf yet.
    Nowhere,
}

impl Witnesses {
    pub fn len(&self) -> usize {
        self.count
    }

    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    fn place(&self, key: &Key) -> Place {
        let leaf = self.leaves.partition_point(|leaf| leaf.first <= *key).saturating_sub(1);
        match self.leaves.get(leaf).map(|leaf| leaf.entries.binary_search_by(|entry| entry.key.cmp(key))) {
            Some(Ok(at)) => Place::Here(leaf, at),
            Some(Err(at)) => Place::Before(leaf, at),
            None => Place::Nowhere,
        }
    }

    fn find(&self, bucket: Bucket, subkey: &Subkey) -> Option<&Entry> {
        match self.place(&key_of(bucket, subkey)) {
            Place::Here(leaf, at) => self.leaves.get(leaf)?.entries.get(at),
            Place::Before(..) | Place::Nowhere => None,
        }
    }

    pub fn get(&self, bucket: Bucket, subkey: &Subkey) -> Option<Witness> {
        self.find(bucket, subkey).and_then(|entry| self.witness_in(entry))
    }

    pub fn counter(&self, bucket: Bucket, subkey: &Subkey) -> Option<u64> {
        self.find(bucket, subkey).map(Entry::counter)
    }

    fn witness_in(&self, entry: &Entry) -> Option<Witness> {
        let value = match entry.value.get(..usize::from(entry.length)) {
            Some(bytes) => Value::new(bytes)?,
            None => self.beside.get(&entry.key)?.clone(),
        };
        Some(Witness {
            epoch: Epoch::from_u64(u64::from_le_bytes(entry.epoch)),
            value,
            counter: entry.counter(),
        })
    }

    pub fn insert(&mut self, bucket: Bucket, subkey: &Subkey, witness: Witness) {
        let key = key_of(bucket, subkey);
        let entry = Entry::new(key, &witness);
        if entry.length == BESIDE {
            self.beside.insert(key, witness.value);
        } else if !self.beside.is_empty() {
            self.beside.remove(&key);
        }
        match self.place(&key) {
            Place::Here(leaf, at) => replace(&mut self.leaves[leaf].entries, at, entry),
            Place::Before(leaf, at) => {
                self.count += 1;
                self.insert_at(leaf, at, entry);
            }
            Place::Nowhere => {
                self.count += 1;
                self.leaves.push(Leaf::new([entry]));
            }
        }
    }

    fn insert_at(&mut self, leaf: usize, at: usize, entry: Entry) {
        let old = &self.leaves[leaf].entries;
        if old.len() >= LEAF_FILL && at == old.len() && leaf + 1 == self.leaves.len() {
            // In order, as when a copy is read back.
            self.leaves.push(Leaf::new([entry]));
            return;
        }
        let mut longer = Vec::with_capacity(old.len() + 1);
        longer.extend_from_slice(&old[..at]);
        longer.push(entry);
        longer.extend_from_slice(&old[at..]);
        if longer.len() <= LEAF_MAX {
            self.leaves[leaf] = Leaf::new(longer);
            return;
        }
        let right = longer.split_off(longer.len() / 2);
        self.leaves[leaf] = Leaf::new(longer);
        self.leaves.insert(leaf + 1, Leaf::new(right));
    }

    pub fn remove(&mut self, bucket: Bucket, subkey: &Subkey) {
        let key = key_of(bucket, subkey);
        let Place::Here(leaf, at) = self.place(&key) else { return };
        self.beside.remove(&key);
        self.count -= 1;
        let mut shorter = self.leaves[leaf].entries.to_vec();
        shorter.remove(at);
        if shorter.is_empty() {
            self.leaves.remove(leaf);
        } else {
            self.leaves[leaf] = Leaf::new(shorter);
        }
    }

    /// All of them, by bucket and subkey.
    pub fn iter(&self) -> impl Iterator<Item = ((Bucket, Subkey), Witness)> {
        let entries = self.leaves.iter().flat_map(|leaf| leaf.entries.iter());
        entries.filter_map(|entry| Some((parts_of(&entry.key), self.witness_in(entry)?)))
    }

    pub fn keys(&self) -> impl Iterator<Item = (Bucket, Subkey)> {
        self.leaves.iter().flat_map(|leaf| leaf.entries.iter()).map(|entry| parts_of(&entry.key))
    }

    /// The first and the last bucket that has a witness.
    pub fn buckets(&self) -> Option<(Bucket, Bucket)> {
        let (first, last) = (self.leaves.first()?, self.leaves.last()?.entries.last()?);
        Some((parts_of(&first.first).0, parts_of(&last.key).0))
    }
}

fn replace(entries: &mut Arc<[Entry]>, at: usize, entry: Entry) {
    if Arc::get_mut(entries).is_none() {
        *entries = Arc::from(&entries[..]);
    }
    if let Some(place) = Arc::get_mut(entries).and_then(|entries| entries.get_mut(at)) {
        *place = entry;
    }
}

impl PartialEq for Witnesses {
    /// How the entries are spread over leaves is nobody's business.
    fn eq(&self, other: &Self) -> bool {
        let (ours, theirs) = (self.leaves.iter(), other.leaves.iter());
        self.count == other.count
            && self.beside == other.beside
            && ours.flat_map(|leaf| leaf.entries.iter()).eq(theirs.flat_map(|leaf| leaf.entries.iter()))
    }
}

impl Eq for Witnesses {}

impl fmt::Debug for Witnesses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Serialize for Witnesses {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.count))?;
        for (key, witness) in self.iter() {
            map.serialize_entry(&key, &witness)?;
        }
        map.end()
    }
}

impl<'de> Deserialize<'de> for Witnesses {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Sorted;
        impl<'de> serde::de::Visitor<'de> for Sorted {
            type Value = Witnesses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("witnesses in order")
            }

            fn visit_map<A: serde::de::MapAccess<'de>>(self, mut items: A) -> Result<Witnesses, A::Error> {
                let mut builder = Builder::default();
                while let Some(((bucket, subkey), witness)) =
                    items.next_entry::<(Bucket, Subkey), Witness>()?
                {
                    let in_order = builder.push(bucket, &subkey, witness);
                    in_order
                        .then_some(())
                        .ok_or_else(|| serde::de::Error::custom("witnesses out of order"))?;
                }
                Ok(builder.finish())
            }
        }
        deserializer.deserialize_map(Sorted)
    }
}

/// Makes [`Witnesses`] out of many that come in order.
#[derive(Default)]
pub struct Builder {
    made: Witnesses,
    gathered: Vec<Entry>,
    last: Option<Key>,
}

impl Builder {
    /// Returns whether this one comes behind the one before.
    #[must_use]
    pub fn push(&mut self, bucket: Bucket, subkey: &Subkey, witness: Witness) -> bool {
        let key = key_of(bucket, subkey);
        if self.last.is_some_and(|last| last >= key) {
            return false;
        }
        self.last = Some(key);
        let entry = Entry::new(key, &witness);
        if entry.length == BESIDE {
            self.made.beside.insert(key, witness.value);
        }
        self.made.count += 1;
        self.gathered.push(entry);
        if self.gathered.len() == LEAF_FILL {
            self.flush();
        }
        true
    }

    fn flush(&mut self) {
        if !self.gathered.is_empty() {
            self.made.leaves.push(Leaf::new(&self.gathered[..]));
            self.gathered.clear();
        }
    }

    pub fn finish(mut self) -> Witnesses {
        self.flush();
        self.made.leaves.shrink_to_fit();
        self.made
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::raft::coding;

    fn witness(length: usize, counter: u64) -> Witness {
        let value = Value::new(&vec![counter as u8; length]).expect("short");
        Witness { epoch: Epoch::new(1, counter as u32), value, counter }
    }

    fn subkey(number: u16) -> Subkey {
        let mut subkey = [0; 16];
        subkey[3..5].copy_from_slice(&number.wrapping_mul(40_503).to_be_bytes());
        subkey
    }

    fn is_well_formed(witnesses: &Witnesses) -> bool {
        let keys: Vec<_> = witnesses.keys().collect();
        keys.is_sorted_by(|one, next| one < next)
            && keys.len() == witnesses.len()
            && witnesses
                .leaves
                .iter()
                .all(|leaf| (1..=LEAF_MAX).contains(&leaf.entries.len()) && leaf.entries[0].key == leaf.first)
    }

    #[derive(Clone, Debug)]
    enum Step {
        Insert { bucket: u16, number: u16, length: usize, counter: u64 },
        Remove { bucket: u16, number: u16 },
        Share,
    }

    fn any_step() -> impl Strategy<Value = Step> {
        let lengths = prop_oneof![8 => Just(31usize), 1 => 0usize..=128];
        prop_oneof![
            8 => (0u16..4, 0u16..200, lengths, any::<u64>()).prop_map(|(bucket, number, length, counter)| {
                Step::Insert { bucket, number, length, counter }
            }),
            2 => (0u16..4, 0u16..200).prop_map(|(bucket, number)| Step::Remove { bucket, number }),
            1 => Just(Step::Share),
        ]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn it_is_the_sorted_map_that_it_stands_for(steps in prop::collection::vec(any_step(), 1..600)) {
            let (mut witnesses, mut map) = (Witnesses::default(), BTreeMap::new());
            let mut shared = Vec::new();
            for step in steps {
                match step {
                    Step::Insert { bucket, number, length, counter } => {
                        let witness = witness(length, counter);
                        witnesses.insert(bucket, &subkey(number), witness.clone());
                        map.insert((bucket, subkey(number)), witness);
                    }
                    Step::Remove { bucket, number } => {
                        witnesses.remove(bucket, &subkey(number));
                        map.remove(&(bucket, subkey(number)));
                    }
                    Step::Share => shared.push((witnesses.clone(), map.clone())),
                }
            }
            shared.push((witnesses, map));
            for (witnesses, map) in shared {
                prop_assert!(is_well_formed(&witnesses));
                prop_assert!(witnesses.iter().eq(map.clone()), "a clone stays as it was");
                for bucket in 0..4 {
                    for number in 0..200 {
                        let found = witnesses.get(bucket, &subkey(number));
                        prop_assert_eq!(found.as_ref(), map.get(&(bucket, subkey(number))));
                        prop_assert_eq!(
                            witnesses.counter(bucket, &subkey(number)),
                            found.map(|witness| witness.counter)
                        );
                    }
                }
                let bytes = coding::encode(&map).expect("encodes");
                prop_assert_eq!(&coding::encode(&witnesses).expect("encodes"), &bytes);
                let read: Witnesses = coding::decode(&bytes).expect("decodes");
                prop_assert!(is_well_formed(&read) && read.iter().eq(map));
            }
        }
    }

    #[test]
    fn what_is_not_in_order_is_not_decoded() {
        let pairs = |numbers: [u8; 2]| numbers.map(|number| ((1u16, [number; 16]), witness(31, 1)));
        let good = coding::encode(&pairs([1, 2]).to_vec()).expect("encodes");
        assert_eq!(coding::decode::<Witnesses>(&good).expect("decodes").len(), 2);
        for numbers in [[2, 1], [1, 1]] {
            let bad = coding::encode(&pairs(numbers).to_vec()).expect("encodes");
            assert!(coding::decode::<Witnesses>(&bad).is_err(), "{numbers:?}");
        }
    }
}
