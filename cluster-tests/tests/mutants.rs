//! The test of the test: bugs that are put in on purpose are found, and soon.

use account::tenure::Volume;
use cluster_tests::many::{self, Found};
use cluster_tests::{Mutant, Plan};

/// Histories within which a bug must be found.
const SCHEDULES: u64 = 1_500;

/// A history that goes wrong with the bug, and ends well without it.
fn is_found(volume: Volume, mutant: Mutant) -> Found {
    found_by(Plan { mutant: Some(mutant), ..Plan::new(volume) })
}

/// The checkers of one invariant find the bug by themselves, on a volume that is shared.
fn finds(invariant: &'static str, mutant: Mutant) {
    let found = found_by(Plan { mutant: Some(mutant), only: Some(invariant), ..Plan::new(Volume::Shared) });
    assert!(found.what.contains(invariant), "{}", found.what);
}

fn found_by(sick: Plan) -> Found {
    let sound = Plan::new(sick.volume);
    let found = |seed| many::one(seed, sick).err().filter(|_| many::one(seed, sound).is_ok());
    let found = (0..SCHEDULES).find_map(found);
    let found = found.unwrap_or_else(|| panic!("{sick:?} is not found"));
    println!("{:?}, judged by {}: history {} finds it", sick.mutant, sick.only.unwrap_or("all"), found.seed);
    found
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
fn j1_finds_a_witness_accepted_under_an_epoch_that_is_over() {
    finds("J1", Mutant::StaleEpochAccepted);
}

#[test]
fn j2_finds_acknowledging_before_the_witness() {
    finds("J2", Mutant::AcknowledgedBeforeWitness);
}

#[test]
fn j3_finds_uids_that_are_used_again() {
    finds("J3", Mutant::OldWitnessRead);
}

#[test]
fn j4_finds_a_deposed_owner_whose_changes_are_accepted() {
    finds("J4", Mutant::StaleEpochAccepted);
}

#[test]
fn j5_finds_a_take_over_that_goes_by_less_than_the_witness() {
    finds("J5", Mutant::OldWitnessRead);
}

#[test]
fn j6_finds_a_read_after_the_lease_and_a_read_after_a_hand_over() {
    finds("J6", Mutant::LeaseIgnored);
    finds("J6", Mutant::ReadsWhileHandingOver);
}

#[test]
fn j7_finds_a_hand_over_that_never_ends() {
    finds("J7", Mutant::HandOverNeverEnds);
}

#[test]
fn j8_finds_unlinking_before_the_witness() {
    finds("J8", Mutant::UnlinkedBeforeWitness);
}

#[test]
fn a_delivery_whose_key_is_ignored_is_found() {
    let found = is_found(Volume::Private, Mutant::KeyDropped);
    assert!(found.what.contains("nothing_twice"), "{}", found.what);
}
