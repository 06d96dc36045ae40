//! What an owner that was deposed still moves on a shared volume is brought back, and is nobody's wish.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use nfs_compat::Fs;

use super::world::*;
use crate::door::{EditFlags, Expunge, FlagEdit, Request};
use crate::owner::Owner;
use crate::tenure::Volume;

const ROOT: &str = "/mail/ada/Maildir";

/// An owner that will be late, and its successor. Both know one message in INBOX, and the mailboxes Box and Other.
fn two_owners() -> (World, Owner, Owner) {
    let mut world = World::new(Volume::Shared);
    let mut late = world.open();
    for mailbox in ["Box", "Other"] {
        world.done(&mut late, Request::Create { name: name(mailbox), special_use: None });
    }
    let request = world.append("INBOX", &["one"]);
    world.done(&mut late, request);
    world.done(&mut late, Request::Settle);
    let successor = world.open();
    (world, late, successor)
}

/// The only message file in this directory.
fn file_in(world: &World, directory: &str) -> PathBuf {
    let directory = Path::new(ROOT).join(directory);
    let entries = world.sim.read_dir(&directory).unwrap();
    assert_eq!(entries.len(), 1, "one file in {}", directory.display());
    directory.join(&entries[0].name)
}

fn moved(world: &mut World, owner: &mut Owner, from: &str, to: &str) {
    let from = id_of(owner, from);
    world.done(owner, Request::Move { from, uids: uids(&[1]), to: name(to) });
}

fn look(world: &mut World, owner: &mut Owner, mailbox: Option<&str>) {
    let mailbox = mailbox.map(|mailbox| id_of(owner, mailbox));
    world.later(5);
    world.sim.set_now(std::time::UNIX_EPOCH + std::time::Duration::from_micros(world.now.unix_us));
    world.done(owner, Request::Observe { mailbox });
    owner.tick(world.now);
}

fn set_flags(world: &mut World, owner: &mut Owner, edit: FlagEdit, flags: &[&str]) {
    let mailbox = id_of(owner, "INBOX");
    let flags = flags.iter().map(|flag| model::Flag::parse(flag).unwrap()).collect();
    let edit = EditFlags { mailbox, uids: uids(&[1]), edit, flags, unchanged_since: None };
    world.done(owner, Request::EditFlags(edit));
}

#[test]
fn a_message_that_was_carried_into_another_mailbox_is_brought_back_whichever_is_looked_at_first() {
    for first in ["INBOX", "Box", "Other"] {
        let (mut world, _late, mut owner) = two_owners();
        moved(&mut world, &mut owner, "INBOX", "Box");
        let before = picture(&owner);
        let at = file_in(&world, ".Box/new");
        let astray = Path::new(ROOT).join(".Other/cur").join(at.file_name().unwrap());
        world.sim.rename(&at, &astray).unwrap();
        assert_eq!(picture(&owner), before, "it can be read where it is");
        look(&mut world, &mut owner, Some(first));
        look(&mut world, &mut owner, None);
        assert_eq!(picture(&owner), before, "{first} first");
        file_in(&world, ".Box/new");
    }
}

#[test]
fn a_removed_message_is_taken_away_again_however_late_it_shows_up() {
    let (mut world, _late, mut owner) = two_owners();
    let mailbox = id_of(&owner, "INBOX");
    let at = file_in(&world, "new");
    world.done(&mut owner, Request::Expunge { mailbox, which: Expunge::Exactly(uids(&[1])) });
    look(&mut world, &mut owner, None);
    world.done(&mut owner, Request::Settle);
    let mut owner = world.open();
    look(&mut world, &mut owner, None);
    let slot = Path::new("/mail/ada/.roost/hold");
    let slot = slot.join(&world.sim.read_dir(slot).unwrap()[0].name);
    world.later(5);
    world.sim.set_now(std::time::UNIX_EPOCH + std::time::Duration::from_micros(world.now.unix_us));
    world.sim.rename(&slot.join(at.file_name().unwrap()), &at).unwrap();
    look(&mut world, &mut owner, None);
    assert!(picture(&owner).texts("INBOX").is_empty());
    assert!(world.sim.read_dir(at.parent().unwrap()).unwrap().is_empty(), "it is in the hold again");
}

#[test]
fn flags_of_an_epoch_that_is_over_are_written_again_also_two_owners_later() {
    let (mut world, mut late, mut owner) = two_owners();
    for owner in [&mut late, &mut owner] {
        owner.tick(world.now);
    }
    set_flags(&mut world, &mut owner, FlagEdit::Add, &["\\Seen"]);
    world.later(5);
    world.done(&mut owner, Request::Settle);
    for _ in 0..2 {
        owner = world.open();
        set_flags(&mut world, &mut owner, FlagEdit::Add, &["\\Flagged"]);
        set_flags(&mut world, &mut owner, FlagEdit::Remove, &["\\Flagged"]);
        world.later(5);
        world.done(&mut owner, Request::Settle);
    }
    let now = file_in(&world, "cur");
    let stale = now.to_string_lossy().replace(":2,S", ":2,");
    world.sim.rename(&now, Path::new(&stale)).unwrap();
    look(&mut world, &mut owner, None);
    assert_eq!(picture(&owner).flags("INBOX", 1), ["\\Seen"]);
    world.later(5);
    owner.tick(world.now);
    assert!(file_in(&world, "cur").to_string_lossy().ends_with(":2,S"));
}

#[test]
fn two_owners_never_give_one_letter_to_two_keywords() {
    let (mut world, mut late, mut owner) = two_owners();
    // The one that is late has not written its keyword when the other begins.
    drop(owner);
    set_granted_flags(&mut world, &mut late);
    owner = world.open();
    set_flags(&mut world, &mut owner, FlagEdit::Remove, &["late"]);
    set_flags(&mut world, &mut owner, FlagEdit::Add, &["soon"]);
    world.done(&mut owner, Request::Settle);
    world.later(5);
    late.tick(world.now);
    let mut owner = world.open();
    look(&mut world, &mut owner, None);
    assert_eq!(picture(&owner).flags("INBOX", 1), ["soon"]);
}

/// The owner that is late has a keyword counted, and is deposed before it writes it into the name.
fn set_granted_flags(world: &mut World, late: &mut Owner) {
    world.keeper.grant(model::Epoch::new(1, 1));
    set_flags(world, late, FlagEdit::Add, &["late"]);
}

#[test]
fn mailboxes_that_were_renamed_or_taken_away_are_where_the_journal_has_them_after_a_look() {
    let (mut world, _late, mut owner) = two_owners();
    moved(&mut world, &mut owner, "INBOX", "Box");
    let before = picture(&owner);
    let path = |directory: &str| Path::new(ROOT).join(directory);
    world.sim.rename(&path(".Box"), &path(".Before")).unwrap();
    world.sim.rename(&path(".Other"), &path(".Box")).unwrap();
    look(&mut world, &mut owner, None);
    look(&mut world, &mut owner, None);
    assert_eq!(picture(&owner), before, "renamed");
    let slot = Path::new("/mail/ada/.roost/hold/000000000001");
    world.sim.create_dir(slot.parent().unwrap()).unwrap_or_default();
    world.sim.create_dir(slot).unwrap();
    world.sim.rename(&path(".Box"), &slot.join(format!("mailbox-{}", id_of(&owner, "Box")))).unwrap();
    // Sweeping the hold finds that it is not the hold's.
    world.later(3600);
    owner.tick(world.now);
    look(&mut world, &mut owner, None);
    look(&mut world, &mut owner, None);
    assert_eq!(picture(&owner), before, "taken away");
    file_in(&world, ".Box/new");
}

#[test]
fn a_mailbox_that_an_owner_never_heard_of_is_left_alone_by_it() {
    let (mut world, mut late, mut owner) = two_owners();
    world.done(&mut owner, Request::Create { name: name("Later"), special_use: None });
    late.image.dues.arrange = true;
    late.tick(world.now);
    assert!(world.sim.exists(&Path::new(ROOT).join(".Later/cur")).unwrap());
    let format = Arc::clone(&owner.setup.format);
    assert!(format.list(id_of(&owner, "Later")).unwrap().is_empty());
}

#[test]
fn a_message_is_expunged_for_its_missing_file_only_when_no_old_listing_can_hide_it() {
    let (mut world, _late, mut owner) = two_owners();
    let before = picture(&owner);
    let at = file_in(&world, "new");
    let hidden = Path::new("/mail/ada").join(at.file_name().unwrap());
    world.sim.rename(&at, &hidden).unwrap();
    look(&mut world, &mut owner, None);
    world.later(50);
    look(&mut world, &mut owner, None);
    assert_eq!(owner.snapshot().messages, 1, "it may be there");
    world.sim.rename(&hidden, &at).unwrap();
    look(&mut world, &mut owner, None);
    assert_eq!(picture(&owner), before);
    world.later(70);
    world.sim.rename(&at, &hidden).unwrap();
    look(&mut world, &mut owner, None);
    assert_eq!(owner.snapshot().messages, 1, "it was seen meanwhile");
    world.later(70);
    look(&mut world, &mut owner, None);
    assert_eq!(owner.snapshot().messages, 0);
}
