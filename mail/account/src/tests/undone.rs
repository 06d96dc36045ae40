//! Renames that were done and not synced, and that a power cut undoes: nobody wished for what shows then.

use std::path::{Path, PathBuf};

use super::world::*;
use crate::door::{EditFlags, Expunge, FlagEdit, Request};
use crate::owner::Owner;
use crate::tenure::Volume;

const ROOT: &str = "/mail/ada/Maildir";
/// What a cut keeps of what was not synced differs by seed.
const CUTS: std::ops::Range<u64> = 0..24;

/// An owner of a mailbox with one message, all of it durable.
fn with_message(volume: Volume) -> (World, Owner) {
    let mut world = World::new(volume);
    let mut owner = world.open();
    world.done(&mut owner, Request::Create { name: name("Box"), special_use: None });
    world.done(&mut owner, Request::Create { name: name("Other"), special_use: None });
    let request = world.append("INBOX", &["one"]);
    world.done(&mut owner, request);
    world.done(&mut owner, Request::Settle);
    (world, owner)
}

fn look(world: &mut World, owner: &mut Owner, mailbox: Option<&str>) {
    let mailbox = mailbox.map(|mailbox| id_of(owner, mailbox));
    world.later(5);
    world.done(owner, Request::Observe { mailbox });
}

fn move_all(world: &mut World, owner: &mut Owner, from: &str, to: &str) {
    let from = id_of(owner, from);
    world.done(owner, Request::Move { from, uids: uids(&[1]), to: name(to) });
}

fn expunge(world: &mut World, owner: &mut Owner, mailbox: &str) {
    let mailbox = id_of(owner, mailbox);
    world.done(owner, Request::Expunge { mailbox, which: Expunge::Exactly(uids(&[1])) });
}

/// One more record, and a checkpoint after it.
fn write_checkpoint(world: &mut World, owner: &mut Owner, subscribe: bool) {
    world.done(owner, Request::Subscribe { name: name("Box"), on: subscribe });
    world.done(owner, Request::Settle);
}

fn lazy_work(world: &mut World, owner: &mut Owner) {
    for _ in 0..8 {
        world.later(2);
        owner.tick(world.now);
    }
}

#[test]
fn what_a_predecessor_removed_stays_removed_when_power_is_cut_after_a_checkpoint() {
    for (volume, cut) in [Volume::Private, Volume::Shared].into_iter().flat_map(|v| CUTS.map(move |c| (v, c)))
    {
        let (mut world, mut owner) = with_message(volume);
        expunge(&mut world, &mut owner, "INBOX");
        drop(owner);
        let mut owner = world.open();
        look(&mut world, &mut owner, None);
        write_checkpoint(&mut world, &mut owner, true);
        drop(owner);
        world.sim.crash(cut);
        let mut owner = world.open();
        look(&mut world, &mut owner, None);
        assert!(picture(&owner).texts("INBOX").is_empty(), "{volume:?}, cut {cut}");
    }
}

#[test]
fn a_removed_message_that_a_cut_put_back_is_known_after_a_checkpoint_that_came_before_the_look() {
    for (moved, cut) in [false, true].into_iter().flat_map(|moved| CUTS.map(move |cut| (moved, cut))) {
        let (mut world, mut owner) = with_message(Volume::Private);
        if moved {
            move_all(&mut world, &mut owner, "INBOX", "Box");
        }
        expunge(&mut world, &mut owner, if moved { "Box" } else { "INBOX" });
        drop(owner);
        world.sim.crash(cut);
        let mut owner = world.open();
        look(&mut world, &mut owner, Some("Box"));
        write_checkpoint(&mut world, &mut owner, true);
        drop(owner);
        let mut owner = world.open();
        look(&mut world, &mut owner, Some("INBOX"));
        look(&mut world, &mut owner, None);
        let seen = picture(&owner);
        let is_empty = seen.texts("INBOX").is_empty() && seen.texts("Box").is_empty();
        assert!(is_empty, "moved: {moved}, cut {cut}");
    }
}

#[test]
fn flags_that_a_cut_brings_back_are_no_users_wish_however_long_ago_they_were_left() {
    for (volume, cut) in [Volume::Private, Volume::Shared].into_iter().flat_map(|v| CUTS.map(move |c| (v, c)))
    {
        let (mut world, mut owner) = with_message(volume);
        let edit = EditFlags {
            mailbox: id_of(&owner, "INBOX"),
            uids: uids(&[1]),
            edit: FlagEdit::Add,
            flags: vec![model::Flag::parse("\\Seen").unwrap()],
            unchanged_since: None,
        };
        world.done(&mut owner, Request::EditFlags(edit));
        world.later(1000);
        world.done(&mut owner, Request::Settle);
        drop(owner);
        let mut owner = world.open();
        write_checkpoint(&mut world, &mut owner, true);
        drop(owner);
        world.sim.crash(cut);
        let mut owner = world.open();
        look(&mut world, &mut owner, None);
        assert_eq!(picture(&owner).flags("INBOX", 1), ["\\Seen"], "{volume:?}, cut {cut}");
    }
}

#[test]
fn a_message_that_a_cut_left_in_the_hold_is_put_back_in_its_place() {
    for held in ["", "mailbox-00112233445566778899aabbccddeeff/cur"] {
        let (mut world, owner) = with_message(Volume::Private);
        drop(owner);
        let new = Path::new(ROOT).join("new");
        let file = world.fs.read_dir(&new).unwrap().remove(0).name;
        let hold = PathBuf::from("/mail/ada/.roost/hold/000029453760").join(held);
        world.fs.create_dir_all(&hold).unwrap();
        world.fs.rename(&new.join(&file), &hold.join(&file)).unwrap();
        let mut owner = world.open();
        look(&mut world, &mut owner, None);
        assert_eq!(picture(&owner).texts("INBOX"), [(1, "one")]);
        lazy_work(&mut world, &mut owner);
        assert_eq!(world.fs.read_dir(&new).unwrap().len(), 1);
    }
}

#[test]
fn a_message_of_another_program_moved_twice_is_found_wherever_a_cut_leaves_it() {
    for cut in CUTS {
        let (mut world, mut owner) = with_message(Volume::Private);
        expunge(&mut world, &mut owner, "INBOX");
        let foreign = Path::new(ROOT).join(".Box/cur/1600000001.M1P1.h:2,");
        let file = world.fs.create(&foreign).unwrap();
        file.write_at(wire("theirs").as_bytes(), 0).unwrap();
        file.sync().unwrap();
        world.fs.sync_dir(&Path::new(ROOT).join(".Box/cur")).unwrap();
        look(&mut world, &mut owner, None);
        world.done(&mut owner, Request::Settle);
        move_all(&mut world, &mut owner, "Box", "Other");
        let from = id_of(&owner, "Other");
        world.done(&mut owner, Request::Create { name: name("Last"), special_use: None });
        world.done(&mut owner, Request::Move { from, uids: uids(&[1]), to: name("Last") });
        drop(owner);
        world.sim.crash(cut);
        let mut owner = world.open();
        lazy_work(&mut world, &mut owner);
        look(&mut world, &mut owner, None);
        assert_eq!(picture(&owner).texts("Last"), [(1, "theirs")], "cut {cut}");
        assert!(picture(&owner).texts("Box").is_empty() && picture(&owner).texts("Other").is_empty());
    }
}
