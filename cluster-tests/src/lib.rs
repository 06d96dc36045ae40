//! Real code on a simulated world: account, journal, store and `locking`'s state machine on a volume in memory, with
//! no threads and no real time. One seed is one history, to the byte.
//!
//! [`schedule::run`] plays one history: clients and neighbours act by seed, a nemesis kills and stops processes, suspends
//! machines, cuts the power and the network, fails calls, loses and delays what is sent, makes hosts believe what was
//! true a minute ago, and hands accounts over; sessions end by the real leases, on clocks that are wrong; [`oracle`] and [`invariants`] say what must be
//! true all the same. `cargo run -p cluster-tests --release -- --seed N --schedules M` plays many.

use account::tenure::Volume;

pub mod client;
pub mod clock;
pub mod coordination;
pub mod history;
pub mod invariants;
pub mod leases;
pub mod many;
pub mod neighbour;
pub mod network;
pub mod oracle;
pub mod process;
pub mod schedule;
mod serve;
mod trouble;
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
    /// An owner answers reads while it hands the account over, and after.
    ReadsWhileHandingOver,
    /// A hand-over that does not come about is never called off.
    HandOverNeverEnds,
    /// What is to be expunged is unlinked before its removal counts.
    UnlinkedBeforeWitness,
}

/// What is played.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub volume: Volume,
    pub mutant: Option<Mutant>,
    /// The file server answers a sync before it has written, and may lose what it answered for (A-2, §6.3).
    pub loses: bool,
    /// Only what this invariant says is wrong counts: to see what its checkers find by themselves.
    pub only: Option<&'static str>,
}

impl Plan {
    /// What CI plays.
    pub fn new(volume: Volume) -> Self {
        Self { volume, mutant: None, loses: false, only: None }
    }

    /// As `--mode` has it.
    pub fn named(mode: &str) -> Option<Self> {
        match mode {
            "private" => Some(Self::new(Volume::Private)),
            "shared" => Some(Self::new(Volume::Shared)),
            "lossy" => Some(Self { loses: true, ..Self::new(Volume::Shared) }),
            _ => None,
        }
    }

    /// Whether a verdict counts.
    pub fn counts(&self, what: &str) -> bool {
        self.only.is_none_or(|only| what.contains(only))
    }

    pub fn mode(&self) -> &'static str {
        match (self.volume, self.loses) {
            (Volume::Private, _) => "private",
            (Volume::Shared, false) => "shared",
            (Volume::Shared, true) => "lossy",
        }
    }
}
