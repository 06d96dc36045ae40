//! Dots and version vectors: which operations a site has seen (`replication.md` §1, §5).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::SiteId;

/// One incarnation of a site, for one account: site 4 bits, incarnation 20 bits. Real incarnations start at 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ReplicaId(u32);

/// Incarnations of a site an account can have.
pub const INCARNATION_MAX: u32 = (1 << 20) - 1;

impl ReplicaId {
    /// `incarnation` above [`INCARNATION_MAX`] is an operator's problem long before: it saturates.
    pub fn new(site: SiteId, incarnation: u32) -> Self {
        Self(u32::from(site.slot()) << 20 | incarnation.min(INCARNATION_MAX))
    }

    pub fn site(self) -> SiteId {
        SiteId::new((self.0 >> 20 & 0xf) as u8).unwrap_or_else(|| unreachable!("four bits are at most 15"))
    }

    pub fn incarnation(self) -> u32 {
        self.0 & INCARNATION_MAX
    }
}

impl fmt::Display for ReplicaId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.site(), self.incarnation())
    }
}

/// One operation of one replica. Never reused (I9).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Dot {
    rid: ReplicaId,
    seq: u64,
}

/// Operations one replica can issue.
pub const SEQ_MAX: u64 = (1 << 40) - 1;

impl Dot {
    /// Returns the dot, or `None` unless `1 <= seq <= SEQ_MAX`.
    pub fn new(rid: ReplicaId, seq: u64) -> Option<Self> {
        (1..=SEQ_MAX).contains(&seq).then_some(Self { rid, seq })
    }

    pub fn rid(self) -> ReplicaId {
        self.rid
    }

    pub fn seq(self) -> u64 {
        self.seq
    }

    pub fn pack(self) -> u64 {
        u64::from(self.rid.0) << 40 | self.seq
    }

    pub fn unpack(packed: u64) -> Self {
        Self { rid: ReplicaId((packed >> 40) as u32), seq: packed & SEQ_MAX }
    }
}

impl fmt::Display for Dot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.rid, self.seq)
    }
}

/// For each replica, how many of its operations are in the state: a contiguous prefix (I9), with the chain hash of
/// that prefix, so that a forked history is recognised (R-JR6).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VersionVector {
    entries: BTreeMap<ReplicaId, Head>,
}

/// The end of the prefix of one replica's operations.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub chain: u64,
}

impl VersionVector {
    pub fn covers(&self, dot: Dot) -> bool {
        self.seq(dot.rid) >= dot.seq
    }

    pub fn seq(&self, rid: ReplicaId) -> u64 {
        self.entries.get(&rid).map_or(0, |head| head.seq)
    }

    pub fn head(&self, rid: ReplicaId) -> Head {
        self.entries.get(&rid).copied().unwrap_or_default()
    }

    pub fn iter(&self) -> impl Iterator<Item = (ReplicaId, Head)> + '_ {
        self.entries.iter().map(|(rid, head)| (*rid, *head))
    }

    /// The dot that `rid` issues next, or `None` when the replica's 2^40 operations are used up.
    pub fn next_dot(&self, rid: ReplicaId) -> Option<Dot> {
        Dot::new(rid, self.seq(rid) + 1)
    }

    /// Takes in the operation of `dot`, whose content hashes to `digest`. Returns false, and changes nothing, unless
    /// the dot is exactly the next of its replica.
    pub fn advance(&mut self, dot: Dot, digest: u64) -> bool {
        let head = self.entries.entry(dot.rid).or_default();
        if head.seq + 1 != dot.seq {
            if head.seq == 0 {
                self.entries.remove(&dot.rid);
            }
            return false;
        }
        *head = Head { seq: dot.seq, chain: chain(head.chain, digest) };
        true
    }

    /// Whether every operation that `other` has seen is in here too.
    pub fn covers_all(&self, other: &Self) -> bool {
        other.entries.iter().all(|(rid, head)| self.seq(*rid) >= head.seq)
    }

    /// Joins: the longer prefix of each replica.
    pub fn join(&mut self, other: &Self) {
        for (rid, theirs) in &other.entries {
            let ours = self.entries.entry(*rid).or_default();
            if theirs.seq > ours.seq {
                *ours = *theirs;
            }
        }
    }
}

/// Chain hash of a prefix from that of the prefix one shorter and the digest of the operation.
fn chain(before: u64, digest: u64) -> u64 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&before.to_le_bytes()).update(&digest.to_le_bytes());
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_vector_takes_only_the_next_dot_of_a_replica() {
        let rid = ReplicaId::new(SiteId::new(2).unwrap(), 1);
        let dot = |seq| Dot::new(rid, seq).unwrap();
        let mut seen = VersionVector::default();
        assert!(!seen.advance(dot(2), 0));
        assert!(seen.advance(dot(1), 0));
        assert!(!seen.advance(dot(1), 0));
        assert!(seen.advance(dot(2), 0));
        assert!(seen.covers(dot(2)) && !seen.covers(dot(3)));
        assert_eq!(Dot::unpack(dot(7).pack()), dot(7));
    }
}
