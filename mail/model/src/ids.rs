//! Identifiers (`replication.md` §1). A value that exists is valid.

use std::fmt;
use std::num::NonZeroU32;

use serde::{Deserialize, Serialize};

/// Sites an account can have; the low four bits of every stamp name one.
pub const SITES_MAX: u8 = 16;

/// A site's slot, 0 to 15, given by the operator and never reused for another place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u8", into = "u8")]
pub struct SiteId(u8);

impl SiteId {
    /// Returns the site of this slot, or `None` above 15.
    pub fn new(slot: u8) -> Option<Self> {
        (slot < SITES_MAX).then_some(Self(slot))
    }

    pub fn slot(self) -> u8 {
        self.0
    }
}

impl TryFrom<u8> for SiteId {
    type Error = &'static str;

    fn try_from(slot: u8) -> Result<Self, Self::Error> {
        Self::new(slot).ok_or("site slot above 15")
    }
}

impl From<SiteId> for u8 {
    fn from(site: SiteId) -> Self {
        site.0
    }
}

impl fmt::Display for SiteId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Declares an opaque identifier of fixed width that prints as lower-case hex.
macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident, $bytes:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub struct $name([u8; $bytes]);

        impl $name {
            pub const BYTES: usize = $bytes;

            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self {
                Self(bytes)
            }

            pub const fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }

            /// Reads what `Display` wrote: exactly two hex digits a byte.
            pub fn parse_hex(text: &str) -> Option<Self> {
                let text = text.as_bytes();
                if text.len() != $bytes * 2 {
                    return None;
                }
                let mut bytes = [0; $bytes];
                for (byte, pair) in bytes.iter_mut().zip(text.chunks_exact(2)) {
                    let high = char::from(pair[0]).to_digit(16)?;
                    let low = char::from(pair[1]).to_digit(16)?;
                    *byte = u8::try_from(high * 16 + low).ok()?;
                }
                Some(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self}")
            }
        }
    };
}

opaque_id!(
    /// One account, for ever: survives a rename of the user.
    AccountId, 16
);
opaque_id!(
    /// One mailbox. Survives RENAME; IMAP's MAILBOXID (RFC 8474).
    MailboxId, 16
);
opaque_id!(
    /// One message's content and dates, shared by COPY; IMAP's EMAILID (RFC 8474, R-ID3).
    MessageId, 16
);
opaque_id!(
    /// One instance of a message: MOVE keeps it, COPY makes another.
    /// Its first eight bytes are the creation dot, the rest is random (R-ID4).
    EntryId, 16
);
opaque_id!(
    /// BLAKE3 of the exact stored octets. Never shown to clients.
    ContentId, 32
);

impl AccountId {
    /// Derives the id of a user who has none configured (`replication.md` §1).
    pub fn derive(federation: &str, user: &str, generation: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("roost 2026 account id");
        hash_text(&mut hasher, federation);
        hash_text(&mut hasher, user);
        hasher.update(&generation.to_le_bytes());
        Self(first_16(&hasher))
    }

    /// The bucket that `locking` owns this account by: the top 16 bits of a hash (`locking.md` §2).
    pub fn bucket(self) -> u16 {
        u16::from_be_bytes([self.0[0], self.0[1]])
    }
}

impl MailboxId {
    /// Derives a mailbox's id from its path, so that two sites which create the same name agree (R-ID1).
    /// `parent` is `None` at the top; `level` is one NFC hierarchy level, INBOX in upper case.
    pub fn derive(account: AccountId, parent: Option<MailboxId>, level: &str, generation: u32) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("roost 2026 mailbox id");
        hasher.update(account.as_bytes());
        hasher.update(parent.map_or([0; 16], |parent| parent.0).as_slice());
        hash_text(&mut hasher, level);
        hasher.update(&generation.to_le_bytes());
        Self(first_16(&hasher))
    }
}

impl EntryId {
    /// An entry created by the operation of this dot.
    pub fn new(creation: crate::Dot, random: u64) -> Self {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&creation.pack().to_be_bytes());
        bytes[8..].copy_from_slice(&random.to_be_bytes());
        Self(bytes)
    }

    /// The dot of the operation that created it.
    pub fn creation(self) -> crate::Dot {
        let mut packed = [0; 8];
        packed.copy_from_slice(&self.0[..8]);
        crate::Dot::unpack(u64::from_be_bytes(packed))
    }
}

impl ContentId {
    pub fn of(octets: &[u8]) -> Self {
        Self(*blake3::hash(octets).as_bytes())
    }
}

fn hash_text(hasher: &mut blake3::Hasher, text: &str) {
    hasher.update(&(text.len() as u64).to_le_bytes());
    hasher.update(text.as_bytes());
}

fn first_16(hasher: &blake3::Hasher) -> [u8; 16] {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&hasher.finalize().as_bytes()[..16]);
    bytes
}

/// What an MTA wrote into the topmost `Received:` header (queue id), with recipient, hashed: the same
/// delivery tried again carries the same key (L-CM2, V7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeliveryKey(pub u64);

impl DeliveryKey {
    pub fn derive(queue_id: &[u8], recipient: &str) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key("roost 2026 delivery key");
        hasher.update(&(queue_id.len() as u64).to_le_bytes()).update(queue_id);
        hash_text(&mut hasher, recipient);
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&hasher.finalize().as_bytes()[..8]);
        Self(u64::from_le_bytes(bytes))
    }
}

/// IMAP unique identifier of a message, within one mailbox and one UIDVALIDITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Uid(NonZeroU32);

impl Uid {
    pub const FIRST: Self = Self(NonZeroU32::MIN);

    pub fn new(uid: u32) -> Option<Self> {
        NonZeroU32::new(uid).map(Self)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// Returns the UID after this one, or `None` when only a new UIDVALIDITY can help.
    pub fn next(self) -> Option<Self> {
        self.0.checked_add(1).map(Self)
    }
}

impl fmt::Display for Uid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// RFC 9051 §2.3.1.1: a mailbox whose UIDVALIDITY changes is another mailbox to every client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct UidValidity(NonZeroU32);

impl UidValidity {
    pub fn new(value: u32) -> Option<Self> {
        NonZeroU32::new(value).map(Self)
    }

    pub fn get(self) -> u32 {
        self.0.get()
    }

    /// A new value, above `last`, with the site in its low four bits: unique per account (R-U10).
    /// `None` when the 32 bits are used up, in the year 2106.
    pub fn allocate(now_unix_s: u64, last: Option<Self>, site: SiteId) -> Option<Self> {
        let after_last = last.map_or(1, |last| u64::from(last.get()) + 1);
        let least = now_unix_s.max(after_last).max(1);
        let slot = u64::from(site.slot());
        let sites = u64::from(SITES_MAX);
        let value = least + (slot + sites - least % sites) % sites;
        u32::try_from(value).ok().and_then(Self::new)
    }
}

impl fmt::Display for UidValidity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uidvalidity_rises_and_names_its_site() {
        let site = SiteId::new(3).unwrap();
        let mut last = None;
        for now in [0, 1_764_000_001, 1_764_000_001, 5] {
            let next = UidValidity::allocate(now, last, site).unwrap();
            assert_eq!(next.get() % 16, 3);
            assert!(last.is_none_or(|last| next > last));
            last = Some(next);
        }
    }

    #[test]
    fn an_entry_remembers_the_dot_that_created_it() {
        let dot = crate::Dot::new(crate::ReplicaId::new(SiteId::new(15).unwrap(), 77), 1 << 39).unwrap();
        assert_eq!(EntryId::new(dot, 42).creation(), dot);
        let hex = EntryId::new(dot, 42).to_string();
        assert_eq!(EntryId::parse_hex(&hex), Some(EntryId::new(dot, 42)));
        assert_eq!(EntryId::parse_hex("+f"), None);
    }
}
