//! Bugs planted on purpose, so that the black-box suite can show that it would find them.
//!
//! Only in builds with the feature `seeded-bugs`, which no default or release package has. `ROOST_SEEDED_BUG` names one;
//! such a node says loudly at its start that it loses mail.
//!
//! Each takes away one of the things that keep mail safe, at the seam where the rest of the server trusts it:
//! - `ack-before-witness`: a change is acknowledged when it is synced; its witness is sent and forgotten (against L-CM1).
//! - `epoch-check`: a witness that was refused for its epoch is taken for accepted, and a deposed owner goes on (L-SM2).
//! - `uid-reuse`: an account is opened from the witness before the last, so its newest UIDs are given again (L-SM3).
//! - `lease-ignored`: what a node knows is shown whether or not its lease holds (L-LE1).

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use anyhow::{Result, bail};
use model::AccountId;

const VARIABLE: &str = "ROOST_SEEDED_BUG";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    AckBeforeWitness,
    EpochCheck,
    UidReuse,
    LeaseIgnored,
}

const NAMES: [(&str, Bug); 4] = [
    ("ack-before-witness", Bug::AckBeforeWitness),
    ("epoch-check", Bug::EpochCheck),
    ("uid-reuse", Bug::UidReuse),
    ("lease-ignored", Bug::LeaseIgnored),
];

static PLANTED: OnceLock<Option<Bug>> = OnceLock::new();

/// Reads which bug is to be planted. Before anything is served.
pub fn plant() -> Result<()> {
    let planted = match std::env::var(VARIABLE) {
        Err(_) => None,
        Ok(name) => match NAMES.iter().find(|(known, _)| *known == name) {
            Some((_, bug)) => Some(*bug),
            None => {
                let known = NAMES.map(|(known, _)| known).join(", ");
                bail!("{VARIABLE} is {name:?}: it takes one of {known}");
            }
        },
    };
    match planted {
        Some(bug) => tracing::error!(?bug, "THIS NODE LOSES MAIL: a bug was planted for a test"),
        None => tracing::error!("this build can plant bugs: never give it real mail"),
    }
    let _before = PLANTED.set(planted);
    Ok(())
}

/// Whether this bug is planted.
pub fn has(bug: Bug) -> bool {
    PLANTED.get().copied().flatten() == Some(bug)
}

/// Bytes of one witness, and the last that each account had when it was written or read here.
type Last<const N: usize> = HashMap<AccountId, [u8; N]>;

/// Remembers for `uid-reuse` what was witnessed before, behind the witness itself.
pub struct Before<const N: usize>(Mutex<Last<N>>);

impl<const N: usize> Default for Before<N> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<const N: usize> Before<N> {
    /// The witness with the one before it, and both for ever.
    pub fn write(&self, account: AccountId, value: [u8; N]) -> Vec<u8> {
        let mut bytes = value.to_vec();
        if has(Bug::UidReuse) {
            let before = self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(account, value);
            bytes.extend_from_slice(&before.unwrap_or(value));
        }
        bytes
    }

    /// The witness before the last, if it was written so.
    pub fn read(&self, account: AccountId, value: &[u8]) -> Vec<u8> {
        let before = value.get(N..).filter(|before| !before.is_empty()).unwrap_or(value);
        if let Ok(before) = <[u8; N]>::try_from(before) {
            self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(account, before);
        }
        before.to_vec()
    }
}
