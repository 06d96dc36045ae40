//! Random histories: every seed is one, and each must end well (J2, J3, J4, J8; I1 to I6).

use account::tenure::Volume;
use cluster_tests::{Plan, many};

/// Histories of each kind that are played if `ROOST_SCHEDULES` does not say otherwise.
const SCHEDULES: u64 = 5_000;
/// Seeds of a night differ from those of a run of CI; these are always the same.
const FIRST_SEED: u64 = 0;

fn schedules() -> u64 {
    std::env::var("ROOST_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(SCHEDULES)
}

fn all_end_well(volume: Volume) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found = many::many(FIRST_SEED, schedules(), Plan::new(volume), threads.div_ceil(2));
    assert!(found.is_empty(), "{}", found[0].report);
}

#[test]
fn an_account_on_a_private_volume_survives_whatever_happens() {
    all_end_well(Volume::Private);
}

#[test]
fn an_account_on_a_shared_volume_survives_whatever_happens() {
    all_end_well(Volume::Shared);
}

/// Seeds that once found something: `mode seed`, and what it was.
#[test]
fn histories_that_once_went_wrong_end_well() {
    let mut played = 0;
    for line in include_str!("seeds.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let volume = words.next().and_then(many::volume_named);
        let seed = words.next().and_then(|seed| seed.parse().ok());
        let (Some(volume), Some(seed)) = (volume, seed) else { panic!("seeds.txt: {line}") };
        if let Err(found) = many::one(seed, Plan::new(volume)) {
            panic!("{}", found.report);
        }
        played += 1;
    }
    assert!(played > 0, "seeds.txt has seeds");
}

#[test]
fn one_seed_is_one_history_to_the_byte() {
    for volume in [Volume::Private, Volume::Shared] {
        for seed in 0..60 {
            let play = || many::one(seed, Plan::new(volume)).map(|played| played.history);
            let text = |played: Result<String, many::Found>| played.unwrap_or_else(|found| found.report);
            let (first, second) = (text(play()), text(play()));
            if first != second {
                let differ = first.lines().zip(second.lines()).find(|(first, second)| first != second);
                panic!("seed {seed} on a {volume:?} volume has two histories: {differ:?}");
            }
        }
    }
}
