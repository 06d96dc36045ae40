//! The fencing token of one ownership (`locking.md` §2).

use std::fmt;

use serde::{Deserialize, Serialize};

/// `incarnation : 32 | counter : 32`. The counter rises on every grant of a bucket, even to the same node; the
/// incarnation when the coordination service itself was founded anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch(u64);

impl Epoch {
    pub fn new(incarnation: u32, counter: u32) -> Self {
        Self(u64::from(incarnation) << 32 | u64::from(counter))
    }

    pub fn from_u64(value: u64) -> Self {
        Self(value)
    }

    pub fn get(self) -> u64 {
        self.0
    }

    pub fn incarnation(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Returns the epoch of the next grant, or `None` when the counter is used up.
    pub fn next(self) -> Option<Self> {
        ((self.0 as u32) < u32::MAX).then(|| Self(self.0 + 1))
    }

    /// Reads what `Display` wrote.
    pub fn parse_hex(text: &str) -> Option<Self> {
        let digits =
            text.len() == 16 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
        digits.then(|| u64::from_str_radix(text, 16).ok().map(Self)).flatten()
    }
}

/// Sixteen hex digits, as in the names of files (L-FN1).
impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}
