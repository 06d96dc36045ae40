//! A new owner whose host goes by an old view of the volume (`locking.md` §6.2, J5).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use nfs_compat::sim::{Old, SimClient};
use nfs_compat::{EntryKind, Fs};

use super::world::*;
use crate::door::Request;
use crate::open::OpenError;
use crate::patience::Shortfall;
use crate::tenure::Volume;

const MINUTE: Duration = Duration::from_secs(60);

/// An account with two segments and a checkpoint between them, and a host that never saw it.
fn written() -> (World, SimClient) {
    let mut world = World::new(Volume::Shared);
    let mut owner = world.open();
    let request = world.append("INBOX", &["one", "two"]);
    world.done(&mut owner, request);
    world.done(&mut owner, Request::Settle);
    let request = world.append("INBOX", &["three"]);
    world.done(&mut owner, request);
    let host = SimClient::new(world.sim.clone());
    world.fs = Arc::new(host.clone());
    (world, host)
}

fn files(world: &World, directory: &str) -> Vec<PathBuf> {
    let directory = PathBuf::from("/mail/ada/.roost").join(directory);
    let entries = world.sim.read_dir(&directory).unwrap().into_iter();
    let files = entries.filter(|entry| entry.kind == EntryKind::File);
    let mut files: Vec<_> = files.map(|entry| directory.join(entry.name)).collect();
    files.sort();
    files
}

fn shortfall(world: &mut World) -> Shortfall {
    match world.try_open() {
        Err(OpenError::Behind(shortfall)) => *shortfall,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("less than the witness is served"),
    }
}

#[test]
fn a_segment_that_is_missing_short_or_blank_is_a_shortfall_and_looking_again_mends_it() {
    let (mut world, host) = written();
    let segment = files(&world, "j").pop().unwrap();
    let length = world.sim.metadata(&segment).unwrap().length;
    for old in [Old::Missing, Old::Shorter(length - 1), Old::Shorter(3), Old::Blank(length - 9)] {
        host.believe(&segment, old, MINUTE, false);
        let shortfall = shortfall(&mut world);
        assert_eq!((&shortfall.file, &shortfall.short), (&segment, &segment), "{old:?}");
        let told = shortfall.to_string();
        assert!(told.contains(&segment.display().to_string()) && told.contains("record"), "{told}");
        shortfall.revalidate(&host).unwrap();
        let owner = world.open();
        assert_eq!(picture(&owner).texts("INBOX").len(), 3, "{old:?}");
    }
}

#[test]
fn a_host_that_cannot_be_made_to_look_again_sees_everything_when_its_time_is_over() {
    let (mut world, host) = written();
    let segment = files(&world, "j").pop().unwrap();
    host.believe(&segment, Old::Shorter(100), MINUTE, true);
    for second in 0..60 {
        host.set_elapsed(Duration::from_secs(second));
        shortfall(&mut world).revalidate(&host).unwrap();
    }
    host.set_elapsed(MINUTE);
    let owner = world.open();
    assert_eq!(picture(&owner).texts("INBOX").len(), 3);
}

#[test]
fn a_checkpoint_that_is_not_seen_is_done_without_or_looked_at_again() {
    let (mut world, host) = written();
    let checkpoint = files(&world, "c").pop().unwrap();
    host.believe(&checkpoint, Old::Missing, MINUTE, false);
    // All records since the account began are still there to go by.
    let owner = world.open();
    assert_eq!(picture(&owner).texts("INBOX").len(), 3);
    for segment in files(&world, "j") {
        host.believe(&segment, Old::Missing, MINUTE, false);
    }
    shortfall(&mut world);
}

#[test]
fn what_is_truly_lost_is_a_shortfall_for_ever() {
    let (mut world, host) = written();
    let segment = files(&world, "j").pop().unwrap();
    world.sim.unlink(&segment).unwrap();
    for second in [0, 61, 3600] {
        host.set_elapsed(Duration::from_secs(second));
        let shortfall = shortfall(&mut world);
        assert!(shortfall.found.contains("0 bytes"), "{}", shortfall.found);
        shortfall.revalidate(&host).unwrap();
    }
}
