//! Real code on a simulated world: account, journal, store and `locking`'s state machine on a volume in memory, with
//! no threads and no real time. One seed is one history, to the byte.
//!
//! [`schedule::run`] plays one history: clients and neighbours act by seed, a nemesis kills processes, cuts the power,
//! fails calls, loses answers and deposes owners that do not know it; [`oracle`] and [`invariants`] say what must be
//! true all the same. `cargo run -p cluster-tests --release -- --seed N --schedules M` plays many.

use account::tenure::Volume;

pub mod client;
pub mod coordination;
pub mod history;
pub mod invariants;
pub mod many;
pub mod neighbour;
pub mod oracle;
pub mod process;
pub mod schedule;
mod serve;
pub mod view;
pub mod world;

/// Bugs that are put in on purpose, to see that they are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutant {
    /// Journal segments are not synced: acknowledge before sync.
    SegmentsNotSynced,
    /// Names are not made durable.
    DirectoriesNotSynced,
    /// Message bytes are not synced.
    BodiesNotSynced,
    /// The service accepts a witness of an epoch that is over.
    StaleEpochAccepted,
    /// A delivery that is tried again carries no key.
    KeyDropped,
    /// The owner takes any answer of the service for a yes.
    AcknowledgedBeforeWitness,
    /// Take-over goes by the witness before the last: UIDNEXT and all else are not the journal's.
    OldWitnessRead,
    /// An owner answers reads after its lease.
    LeaseIgnored,
    /// What is to be expunged is unlinked before its removal counts.
    UnlinkedBeforeWitness,
}

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub volume: Volume,
    pub mutant: Option<Mutant>,
}

impl Plan {
    /// What CI plays.
    pub fn new(volume: Volume) -> Self {
        Self { volume, mutant: None }
    }

    /// As `--mode` has it.
    pub fn mode(&self) -> &'static str {
        match self.volume {
            Volume::Private => "private",
            Volume::Shared => "shared",
        }
    }
}
