//! What is asked of the coordination service.
//!
//! The bucket is the entry's `account`. A counter of a subkey is used for one value only.

use serde::{Deserialize, Serialize};

use super::{Did, Fault};

/// What the service remembers under a subkey.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Witness {
    pub epoch: u64,
    pub counter: u64,
    pub value: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "f", content = "value")]
pub enum LockOp {
    /// *ok*: this session owns the bucket, under this epoch. *fail*: somebody else does.
    Grant {
        session: u64,
        epoch: u64,
    },
    Release {
        epoch: u64,
    },
    Witness {
        subkey: u8,
        epoch: u64,
        counter: u64,
        value: u64,
    },
    Read {
        subkey: u8,
        found: Option<Witness>,
    },
    Nemesis(Fault),
}

impl Did for LockOp {
    fn fault(&self) -> Option<Fault> {
        match self {
            Self::Nemesis(fault) => Some(fault.clone()),
            Self::Grant { .. } | Self::Release { .. } | Self::Witness { .. } | Self::Read { .. } => None,
        }
    }

    fn names(&self) -> Vec<&str> {
        Vec::new()
    }
}
