//! What an owner is handed when it begins: its epoch, and who keeps its witnesses. Who that is stays unseen.

use std::sync::Arc;

use model::{AccountId, Epoch};

/// How far an account's journal counts (`locking.md` §0.4). Opaque to whoever keeps it, but for `lsn`, which never
/// goes backwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Witnessed {
    pub epoch: Epoch,
    pub segment: u16,
    pub length: u32,
    pub hash: u64,
    pub lsn: u64,
}

impl Witnessed {
    /// The file that it is about.
    pub fn segment_name(&self) -> String {
        journal::SegmentName { epoch: self.epoch, segment: self.segment }.to_string()
    }
}

/// Keeps one witness an account, and accepts a new one only from the epoch that holds its bucket (L-SM2). Blocking.
pub trait Witness: Send + Sync {
    /// The last accepted witness, read after our grant (L-SM3).
    fn read(&self, account: AccountId) -> Result<Option<Witnessed>, WitnessError>;

    /// Has `witnessed` accepted under `tenure`'s epoch, or learns that it is not.
    fn accept(&self, account: AccountId, tenure: Epoch, witnessed: Witnessed) -> Result<(), WitnessError>;

    /// As `accept`, without waiting for the answer. For volumes that this node alone can mount (L-CM4), where a
    /// change counts once it is synced and the witness only tells a lost disk from an empty one.
    fn note(&self, account: AccountId, tenure: Epoch, witnessed: Witnessed);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WitnessError {
    /// Another owner has the bucket. What we wrote does not count.
    #[error("deposed")]
    StaleEpoch,
    /// The question got no answer: it may or may not have been accepted.
    #[error("no answer")]
    Unknown,
}

/// Who can mount the volume that the account lies on (`design` decision 2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Volume {
    /// This node alone: visible = synced (L-CM4).
    Private,
    /// Several: visible = witnessed (L-CM1).
    Shared,
}

/// One ownership of one account.
#[derive(Clone)]
pub struct Tenure {
    pub epoch: Epoch,
    pub volume: Volume,
    pub witness: Arc<dyn Witness>,
}
