//! Joins an owner's witness to the service that keeps it.
//!
//! `account` asks from a worker thread and waits; `locking` answers on the async side.

use std::sync::Arc;

use account::tenure::{Witness, WitnessError, Witnessed};
use locking::{Locking, WitnessRefused};
use model::{AccountId, Epoch};
use tokio::runtime::Handle;

/// A [`Witness`] kept by Raft.
pub struct Keeper {
    locking: Locking,
    runtime: Handle,
}

impl Keeper {
    pub fn new(locking: Locking, runtime: Handle) -> Arc<Self> {
        Arc::new(Self { locking, runtime })
    }
}
