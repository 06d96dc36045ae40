//! Joins an owner's witness and epoch to the service that keeps them.
//!
//! `account` asks from a worker thread and waits; `locking` knows buckets, subkeys and opaque values.

use account::tenure::{Witness, WitnessError, Witnessed};
use locking::{Locking, Owner, Record, Subkey, Value};
use model::{AccountId, Epoch};
use tokio::runtime::Handle;

use crate::registry::Tenures;

/// Layout of a witness's value: version, epoch, segment, length, hash, lsn; little-endian.
const VERSION: u8 = 1;
const VALUE_BYTES: usize = 1 + 8 + 2 + 4 + 8 + 8;

/// Witnesses and epochs kept by Raft.
pub struct Keeper {
    locking: Locking,
    runtime: Handle,
    #[cfg(feature = "seeded-bugs")]
    before: crate::seeded::Before<VALUE_BYTES>,
}

impl Keeper {
    pub fn new(locking: Locking, runtime: Handle) -> Self {
        Self {
            locking,
            runtime,
            #[cfg(feature = "seeded-bugs")]
            before: crate::seeded::Before::default(),
        }
    }
}

impl Keeper {
    fn record(&self, account: AccountId, epoch: Epoch, witnessed: Witnessed) -> Result<Record, WitnessError> {
        let (bucket, subkey) = key(account);
        let value = encode(&witnessed);
        #[cfg(feature = "seeded-bugs")]
        let value = self.before.write(account, value);
        let value = Value::new(&value).ok_or(WitnessError::Unknown)?;
        Ok(Record { bucket, epoch, subkey, value, counter: witnessed.lsn })
    }
}

impl Tenures for Keeper {
    fn epoch(&self, account: AccountId) -> Result<Epoch, String> {
        let granted = self.runtime.block_on(self.locking.grant(account.bucket()));
        granted.map_err(|error| match self.locking.owner(account.bucket()) {
            Owner::Node(node) => format!("node {node} owns this account: ask there"),
            Owner::Here(_) | Owner::Nobody => error.to_string(),
        })
    }

    fn give_back(&self, account: AccountId) {
        // A bucket that stays ours is refused to nobody; the next grant raises its epoch all the same.
        if let Err(error) = self.runtime.block_on(self.locking.release(account.bucket())) {
            tracing::warn!(%account, %error, "the epoch could not be given back");
        }
    }

    fn holds(&self, account: AccountId, epoch: Epoch) -> bool {
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::has(crate::seeded::Bug::LeaseIgnored) {
            return self.locking.held(account.bucket()) == Some(epoch);
        } else if crate::seeded::has(crate::seeded::Bug::EpochCheck) {
            return self.locking.may_read();
        }
        // L-LE2: without a lease nothing that is known counts, and nothing can be acknowledged.
        self.locking.may_read() && self.locking.held(account.bucket()) == Some(epoch)
    }
}

impl Witness for Keeper {
    fn read(&self, account: AccountId) -> Result<Option<Witnessed>, WitnessError> {
        let (bucket, subkey) = key(account);
        let read = self.runtime.block_on(self.locking.read_witness(bucket, &subkey));
        let Some(witness) = read.map_err(|_| WitnessError::Unknown)? else { return Ok(None) };
        #[cfg(feature = "seeded-bugs")]
        let witness = locking::Witness {
            value: Value::new(&self.before.read(account, witness.value.as_bytes()))
                .ok_or(WitnessError::Unknown)?,
            ..witness
        };
        decode(witness.value.as_bytes()).map(Some).ok_or_else(|| {
            tracing::error!(%account, "the witness was written by a newer version: run that, or one after it");
            WitnessError::Unknown
        })
    }

    fn accept(&self, account: AccountId, tenure: Epoch, witnessed: Witnessed) -> Result<(), WitnessError> {
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::has(crate::seeded::Bug::AckBeforeWitness) {
            self.note(account, tenure, witnessed);
            return Ok(());
        }
        let answer = self.locking.submit(self.record(account, tenure, witnessed)?).wait();
        #[cfg(feature = "seeded-bugs")]
        if crate::seeded::has(crate::seeded::Bug::EpochCheck)
            && answer == Err(locking::WitnessError::StaleEpoch)
        {
            return Ok(());
        }
        answer.map_err(|error| match error {
            locking::WitnessError::StaleEpoch => WitnessError::StaleEpoch,
            locking::WitnessError::Backwards | locking::WitnessError::Unknown => WitnessError::Unknown,
        })
    }

    fn note(&self, account: AccountId, tenure: Epoch, witnessed: Witnessed) {
        if let Ok(record) = self.record(account, tenure, witnessed) {
            // Nothing waits for it: on a private volume the next one says more (L-CM4).
            drop(self.locking.submit(record));
        }
    }
}

/// What the service remembers of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Witnessing {
    /// Under which it was accepted.
    pub epoch: Epoch,
    pub witnessed: Witnessed,
}

/// Reads the witness of an account, as of now or later. `None`: the account is new, or written by a newer version.
pub async fn witness(locking: &Locking, account: AccountId) -> Result<Option<Witnessing>, locking::NoAnswer> {
    let (bucket, subkey) = key(account);
    let found = locking.read_witness(bucket, &subkey).await?;
    Ok(found.and_then(|found| {
        let witnessed = decode(found.value.as_bytes())?;
        Some(Witnessing { epoch: found.epoch, witnessed })
    }))
}

/// Bucket and subkey of an account.
pub(crate) fn key(account: AccountId) -> (u16, Subkey) {
    (account.bucket(), *account.as_bytes())
}

/// A witness as the service keeps it.
pub(crate) fn value(witnessed: &Witnessed) -> Option<Value> {
    Value::new(&encode(witnessed))
}

fn encode(witnessed: &Witnessed) -> [u8; VALUE_BYTES] {
    let mut value = [0; VALUE_BYTES];
    value[0] = VERSION;
    value[1..9].copy_from_slice(&witnessed.epoch.get().to_le_bytes());
    value[9..11].copy_from_slice(&witnessed.segment.to_le_bytes());
    value[11..15].copy_from_slice(&witnessed.length.to_le_bytes());
    value[15..23].copy_from_slice(&witnessed.hash.to_le_bytes());
    value[23..31].copy_from_slice(&witnessed.lsn.to_le_bytes());
    value
}

fn decode(value: &[u8]) -> Option<Witnessed> {
    let value: &[u8; VALUE_BYTES] = value.try_into().ok()?;
    let number = |from: usize, length: usize| {
        value[from..from + length].iter().rev().fold(0u64, |number, byte| number << 8 | u64::from(*byte))
    };
    (value[0] == VERSION).then(|| Witnessed {
        epoch: Epoch::from_u64(number(1, 8)),
        segment: number(9, 2) as u16,
        length: number(11, 4) as u32,
        hash: number(15, 8),
        lsn: number(23, 8),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_witness_survives_its_encoding() {
        let witnessed = Witnessed {
            epoch: Epoch::new(3, 9),
            segment: 7,
            length: 1 << 30,
            hash: u64::MAX - 5,
            lsn: 1 << 47,
        };
        assert_eq!(decode(&encode(&witnessed)), Some(witnessed));
        assert_eq!(decode(&[1, 2, 3]), None);
    }
}
