//! The test of the test: bugs that are put in on purpose are found, and soon.

use account::tenure::Volume;
use cluster_tests::many::{self, Found};
use cluster_tests::{Mutant, Plan};

/// Histories within which a bug must be found.
const SCHEDULES: u64 = 1_500;

/// A history that goes wrong with the bug, and ends well without it.
fn is_found(volume: Volume, mutant: Mutant) -> Found {
    let sound = Plan::new(volume);
    let sick = Plan { mutant: Some(mutant), ..sound };
    let found = |seed| many::one(seed, sick).err().filter(|_| many::one(seed, sound).is_ok());
    (0..SCHEDULES).find_map(found).unwrap_or_else(|| panic!("{mutant:?} on a {volume:?} volume is not found"))
}

#[test]
fn acknowledging_before_the_sync_is_found_and_the_failure_says_how_to_replay_it() {
    let found = is_found(Volume::Private, Mutant::SegmentsNotSynced);
    let seed = found.seed;
    let replay = format!("cargo run -p cluster-tests --release -- --seed {seed} --mode private");
    assert!(found.report.contains(&replay), "{}", found.report);
    is_found(Volume::Shared, Mutant::SegmentsNotSynced);
}

#[test]
fn names_that_are_not_made_durable_are_found() {
    is_found(Volume::Private, Mutant::DirectoriesNotSynced);
}

#[test]
fn message_bytes_that_are_not_synced_are_found() {
    is_found(Volume::Private, Mutant::BodiesNotSynced);
}

#[test]
fn a_witness_accepted_under_an_epoch_that_is_over_is_found() {
    is_found(Volume::Shared, Mutant::StaleEpochAccepted);
}

#[test]
fn acknowledging_before_the_witness_is_found() {
    is_found(Volume::Shared, Mutant::AcknowledgedBeforeWitness);
}

#[test]
fn uids_that_are_not_the_journals_are_found() {
    let found = is_found(Volume::Shared, Mutant::OldWitnessRead);
    assert!(found.what.contains("J5"), "{}", found.what);
}

#[test]
fn a_read_after_the_lease_is_found() {
    let found = is_found(Volume::Shared, Mutant::LeaseIgnored);
    assert!(found.what.contains("J6"), "{}", found.what);
}

#[test]
fn unlinking_before_the_witness_is_found() {
    let found = is_found(Volume::Shared, Mutant::UnlinkedBeforeWitness);
    assert!(found.what.contains("J8"), "{}", found.what);
}

#[test]
fn a_delivery_whose_key_is_ignored_is_found() {
    let found = is_found(Volume::Private, Mutant::KeyDropped);
    assert!(found.what.contains("nothing_twice"), "{}", found.what);
}
