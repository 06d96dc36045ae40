//! Names of segments and checkpoints. Both begin with the epoch of their only writer (L-FN1).

use std::fmt;

use model::Epoch;
use serde::{Deserialize, Serialize};

/// Positions fit 48 bits, as the witness keeps them.
pub const LSN_MAX: u64 = (1 << 48) - 1;

/// `<epoch, 16 hex>-<segment, 4 hex>.seg`. In the order of writing: names of one account rise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SegmentName {
    pub epoch: Epoch,
    pub segment: u16,
}

impl SegmentName {
    pub fn first(epoch: Epoch) -> Self {
        Self { epoch, segment: 0 }
    }

    /// The next name of the same epoch, or `None` when only a new epoch can help.
    pub fn next(self) -> Option<Self> {
        self.segment.checked_add(1).map(|segment| Self { epoch: self.epoch, segment })
    }

    /// Reads what `Display` wrote, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, segment) = text.strip_suffix(".seg")?.split_once('-')?;
        let segment = u16::try_from(hex(segment, 4)?).ok()?;
        Some(Self { epoch: Epoch::parse_hex(epoch)?, segment })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:04x}.seg", self.epoch, self.segment)
    }
}

/// `<epoch, 16 hex>-<lsn, 12 hex>.ckp`: the state after the record of that position.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct CheckpointName {
    pub epoch: Epoch,
    pub lsn: u64,
}

impl CheckpointName {
    /// Reads what `Display` wrote, and nothing else.
    pub fn parse(text: &str) -> Option<Self> {
        let (epoch, lsn) = text.strip_suffix(".ckp")?.split_once('-')?;
        Some(Self { epoch: Epoch::parse_hex(epoch)?, lsn: hex(lsn, 12)? })
    }
}

impl fmt::Display for CheckpointName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:012x}.ckp", self.epoch, self.lsn)
    }
}

fn hex(text: &str, digits: usize) -> Option<u64> {
    let lower = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let fits = text.len() == digits && text.bytes().all(lower);
    fits.then(|| u64::from_str_radix(text, 16).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written_and_rise() {
        let name = SegmentName { epoch: Epoch::new(1, 7), segment: 0x2a };
        assert_eq!(name.to_string(), "0000000100000007-002a.seg");
        assert_eq!(SegmentName::parse(&name.to_string()), Some(name));
        assert!(name.next().unwrap() > name && SegmentName::first(Epoch::new(1, 8)) > name.next().unwrap());
        assert_eq!(SegmentName { segment: u16::MAX, ..name }.next(), None);
        let checkpoint = CheckpointName { epoch: name.epoch, lsn: 300 };
        assert_eq!(checkpoint.to_string(), "0000000100000007-00000000012c.ckp");
        assert_eq!(CheckpointName::parse(&checkpoint.to_string()), Some(checkpoint));
    }

    #[test]
    fn other_names_are_not_ours() {
        for name in ["", "-.seg", "0000000100000007-02A.seg", "0000000100000007-+02a.seg", "7-002a.seg"] {
            assert_eq!(SegmentName::parse(name), None, "{name}");
        }
        assert_eq!(SegmentName::parse("0000000100000007-002A.seg"), None);
        assert_eq!(CheckpointName::parse("0000000100000007-002a.ckp"), None);
    }
}
