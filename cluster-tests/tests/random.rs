//! Random histories: every seed is one, and each must end well (J1 to J8; I1 to I6).
//!
//! Budgets: CI plays 5,000 histories on a private and on a shared volume each, and 1,000 on one that loses what it synced:
//! some six minutes of one core in a debug build. A night plays a million of each kind in a release build:
//! `cargo run -p cluster-tests --release -- --mode shared --seed N --schedules 1000000`, N another every night.

use account::tenure::Volume;
use cluster_tests::{Plan, many};

/// Histories of each kind that are played if `ROOST_SCHEDULES` does not say otherwise.
const SCHEDULES: u64 = 5_000;
/// Seeds of a night differ from those of a run of CI; these are always the same.
const FIRST_SEED: u64 = 0;

fn schedules() -> u64 {
    std::env::var("ROOST_SCHEDULES").ok().and_then(|count| count.parse().ok()).unwrap_or(SCHEDULES)
}

fn all_end_well(plan: Plan, schedules: u64) {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let found = many::many(FIRST_SEED, schedules, plan, threads.div_ceil(2));
    assert!(found.is_empty(), "{}", found[0].report);
}

#[test]
fn an_account_on_a_private_volume_survives_whatever_happens() {
    all_end_well(Plan::new(Volume::Private), schedules());
}

#[test]
fn an_account_on_a_shared_volume_survives_whatever_happens() {
    all_end_well(Plan::new(Volume::Shared), schedules());
}

/// §6.3: on a server that loses what it synced, the account is offline and says so, or it has everything.
#[test]
fn what_a_file_server_loses_is_never_gone_silently() {
    let plan = Plan { loses: true, ..Plan::new(Volume::Shared) };
    all_end_well(plan, schedules().div_ceil(5));
    let is_offline = |seed: &u64| {
        many::one(*seed, plan).is_ok_and(|played| played.history.contains("offline (durability)"))
    };
    assert!((0..200).filter(is_offline).count() > 0, "no history lost anything");
}

/// Seeds that once found something: `mode seed`, and what it was.
#[test]
fn histories_that_once_went_wrong_end_well() {
    let mut played = 0;
    for line in include_str!("seeds.txt").lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let mut words = line.split_whitespace();
        let plan = words.next().and_then(Plan::named);
        let seed = words.next().and_then(|seed| seed.parse().ok());
        let (Some(plan), Some(seed)) = (plan, seed) else { panic!("seeds.txt: {line}") };
        if let Err(found) = many::one(seed, plan) {
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
