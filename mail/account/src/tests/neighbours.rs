//! Other programs deliver into the store, rename in it, and remove from it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use super::world::*;
use crate::door::{EditFlags, FlagEdit, Request};
use crate::owner::Owner;
use crate::tenure::Volume;

const ROOT: &str = "/mail/ada/Maildir";

fn put(world: &World, path: &str, text: &str) {
    let path = Path::new(ROOT).join(path);
    if let Some(parent) = path.parent() {
        world.fs.create_dir_all(parent).unwrap();
    }
    let file = world.fs.create(&path).unwrap();
    file.write_at(text.as_bytes(), 0).unwrap();
    file.set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_600_000_000)).unwrap();
    file.sync().unwrap();
}

fn files(world: &World, directory: &str) -> Vec<String> {
    let entries = world.fs.read_dir(&Path::new(ROOT).join(directory)).unwrap();
    let mut names: Vec<_> = entries.into_iter().map(|entry| entry.name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn rename(world: &World, directory: &str, from: &str, to: &str) {
    let directory = PathBuf::from(ROOT).join(directory);
    world.fs.rename(&directory.join(from), &directory.join(to)).unwrap();
}

/// Other programs' time goes on as ours does.
fn pass(world: &mut World) {
    world.later(5);
    world.sim.set_now(SystemTime::UNIX_EPOCH + Duration::from_micros(world.now.unix_us));
}

fn look(world: &mut World, owner: &mut Owner) {
    pass(world);
    world.done(owner, Request::Observe { mailbox: None });
    pass(world);
}

fn set_seen(world: &mut World, owner: &mut Owner, number: u32) {
    let edit = EditFlags {
        mailbox: id_of(owner, "INBOX"),
        uids: uids(&[number]),
        edit: FlagEdit::Add,
        flags: vec![model::Flag::parse("\\Seen").unwrap()],
        unchanged_since: None,
    };
    world.done(owner, Request::EditFlags(edit));
}

fn with_message(volume: Volume) -> (World, Owner) {
    let mut world = World::new(volume);
    let mut owner = world.open();
    let request = world.append("INBOX", &["one"]);
    world.done(&mut owner, request);
    look(&mut world, &mut owner);
    (world, owner)
}

#[test]
fn what_others_deliver_becomes_mail_in_the_order_of_its_names() {
    let (mut world, mut owner) = with_message(Volume::Private);
    put(&world, "new/1600000002.M5P1.h", &wire("third"));
    put(&world, "cur/1600000001.M9P1.h:2,FS", &wire("second"));
    put(&world, "tmp/1600000000.M1P1.h", &wire("half written"));
    look(&mut world, &mut owner);
    let seen = picture(&owner);
    assert_eq!(seen.texts("INBOX"), [(1, "one"), (2, "second"), (3, "third")]);
    assert_eq!(seen.flags("INBOX", 2), ["\\Flagged", "\\Seen"]);
    let snapshot = owner.snapshot();
    let view = snapshot.by_name(&name("INBOX")).unwrap().view.as_ref().unwrap();
    assert_eq!(view.by_uid(uid(2)).unwrap().internal_date, 1_600_000_000);
    look(&mut world, &mut owner);
    drop(owner);
    world.sim.crash(1);
    assert_eq!(picture(&world.open()), seen);
}

#[test]
fn a_flag_changed_in_a_name_is_changed_for_all() {
    let (mut world, mut owner) = with_message(Volume::Private);
    let file = files(&world, "new").remove(0);
    let base = PathBuf::from(ROOT);
    world.fs.rename(&base.join("new").join(&file), &base.join("cur").join(format!("{file}:2,FS"))).unwrap();
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).flags("INBOX", 1), ["\\Flagged", "\\Seen"]);
    rename(&world, "cur", &format!("{file}:2,FS"), &format!("{file}:2,S"));
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).flags("INBOX", 1), ["\\Seen"]);
}

#[test]
fn a_file_that_others_removed_is_expunged() {
    let (mut world, mut owner) = with_message(Volume::Private);
    let file = files(&world, "new").remove(0);
    world.fs.unlink(&Path::new(ROOT).join("new").join(file)).unwrap();
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).texts("INBOX"), []);
}

#[test]
fn a_message_that_is_restored_from_a_backup_or_copied_by_hand_is_a_message() {
    let (mut world, mut owner) = with_message(Volume::Private);
    let file = files(&world, "new").remove(0);
    world.done(&mut owner, Request::Create { name: name("Box"), special_use: None });
    put(&world, &format!(".Box/cur/{file}:2,S"), &wire("one"));
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).texts("Box"), [(1, "one")]);
    assert_eq!(picture(&owner).texts("INBOX"), [(1, "one")]);
    let inbox = id_of(&owner, "INBOX");
    let gone = Request::Expunge { mailbox: inbox, which: crate::door::Expunge::Exactly(uids(&[1])) };
    world.done(&mut owner, gone);
    look(&mut world, &mut owner);
    put(&world, &format!("cur/{file}:2,"), &wire("one"));
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).texts("INBOX"), [(2, "one")]);
    owner.close(world.now);
    drop(owner);
    let mut owner = world.open();
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).texts("INBOX"), [(2, "one")]);
    assert_eq!(picture(&owner).texts("Box"), [(1, "one")]);
}

#[test]
fn a_message_that_a_script_moves_by_its_file_is_moved() {
    let (mut world, mut owner) = with_message(Volume::Private);
    world.done(&mut owner, Request::Create { name: name("Archive"), special_use: None });
    look(&mut world, &mut owner);
    let file = files(&world, "new").remove(0);
    let root = Path::new(ROOT);
    world.fs.rename(&root.join("new").join(&file), &root.join(format!(".Archive/cur/{file}:2,S"))).unwrap();
    look(&mut world, &mut owner);
    let seen = picture(&owner);
    assert_eq!((seen.texts("INBOX"), seen.texts("Archive")), (vec![], vec![(1, "one")]));
    assert_eq!(seen.flags("Archive", 1), ["\\Seen"]);
}

#[test]
fn flags_are_written_into_names_for_others_to_see() {
    let (mut world, mut owner) = with_message(Volume::Private);
    set_seen(&mut world, &mut owner, 1);
    world.later(10);
    owner.tick(world.now);
    assert!(files(&world, "cur")[0].ends_with(":2,S"));
    assert!(files(&world, "new").is_empty());
}

#[test]
fn a_name_that_a_crash_left_behind_is_no_users_wish() {
    // L-OB1: the journal held "no flags" lately, so a name without letters is late, not somebody's change.
    for volume in [Volume::Private, Volume::Shared] {
        let (mut world, mut owner) = with_message(volume);
        set_seen(&mut world, &mut owner, 1);
        drop(owner);
        world.sim.crash(3);
        let mut owner = world.open();
        look(&mut world, &mut owner);
        assert_eq!(picture(&owner).flags("INBOX", 1), ["\\Seen"]);
        owner.close(world.now);
        assert!(files(&world, "cur")[0].ends_with(":2,S"));
    }
}

#[test]
fn a_deposed_owners_late_rename_is_no_users_wish() {
    let (mut world, mut owner) = with_message(Volume::Shared);
    let base = files(&world, "new").remove(0);
    set_seen(&mut world, &mut owner, 1);
    owner.close(world.now);
    let mut new = world.open();
    look(&mut world, &mut new);
    // The old owner's write of the flags that it knew before arrives only now.
    rename(&world, "cur", &format!("{base}:2,S"), &format!("{base}:2,"));
    look(&mut world, &mut new);
    assert_eq!(picture(&new).flags("INBOX", 1), ["\\Seen"]);
    // A user's change in another program still counts.
    new.close(world.now);
    let file = files(&world, "cur").remove(0);
    pass(&mut world);
    rename(&world, "cur", &file, &format!("{base}:2,FS"));
    look(&mut world, &mut new);
    assert_eq!(picture(&new).flags("INBOX", 1), ["\\Flagged", "\\Seen"]);
}

#[test]
fn a_mailbox_that_others_made_is_taken_over() {
    let (mut world, mut owner) = with_message(Volume::Private);
    put(&world, ".Work.Projects/cur/1600000001.M9P1.h:2,", &wire("plan"));
    world.fs.create_dir(&Path::new(ROOT).join(".Work.Projects/new")).unwrap();
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).texts("Work/Projects"), [(1, "plan")]);
    assert!(owner.snapshot().by_name(&name("Work")).unwrap().view.is_none());
}

fn dovecot_store(world: &World) {
    put(world, "cur/1600000001.M1P1.h,S=29:2,S", &wire("first"));
    put(world, "cur/1600000002.M1P1.h:2,Fa", &wire("second"));
    put(world, "new/1600000009.M1P1.h", &wire("unlisted"));
    put(world, "tmp/x", "");
    put(world, "dovecot-keywords", "0 work\n");
    put(
        world,
        "dovecot-uidlist",
        "3 V1234567890 N20 G4048c60bee67026b3a03000083ecc375\n3 P0abc :1600000001.M1P1.h,S=29\n7 :1600000002.M1P1.h\n",
    );
    put(world, "subscriptions", "INBOX\nGone\n");
    put(world, ".Sent/cur/1600000001.M1P1.h,S=29:2,S", &wire("first"));
    put(
        world,
        ".Sent/dovecot-uidlist",
        "3 V1234567899 N2 G5048c60bee67026b3a03000083ecc375\n1 :1600000001.M1P1.h,S=29\n",
    );
}

#[test]
fn a_dovecot_store_keeps_its_numbers_flags_keywords_uidls_and_subscriptions() {
    let mut world = World::new(Volume::Private);
    dovecot_store(&world);
    let owner = world.open();
    let seen = picture(&owner);
    let inbox = &seen.mailboxes["INBOX"];
    assert_eq!((inbox.uid_validity, inbox.uid_next), (1_234_567_890, 21));
    // What stands in no list comes after every number that the list may have given out.
    assert_eq!(seen.texts("INBOX"), [(3, "first"), (7, "second"), (20, "unlisted")]);
    assert_eq!(seen.flags("INBOX", 3), ["\\Seen"]);
    assert_eq!(seen.flags("INBOX", 7), ["\\Flagged", "work"]);
    assert_eq!(seen.subscriptions, ["Gone", "INBOX"]);
    assert_eq!(seen.mailboxes["Sent"].uid_validity, 1_234_567_899);
    let snapshot = owner.snapshot();
    let view = snapshot.by_name(&name("INBOX")).unwrap().view.as_ref().unwrap();
    assert_eq!(view.by_uid(uid(3)).unwrap().uidl.as_deref(), Some("0abc"));
    assert_eq!(view.by_uid(uid(7)).unwrap().uidl, None);
    // Two copies of one message are two entries of it.
    let sent = snapshot.by_name(&name("Sent")).unwrap().view.as_ref().unwrap();
    let (here, there) = (view.by_uid(uid(3)).unwrap(), sent.by_uid(uid(1)).unwrap());
    assert!(here.message == there.message && here.entry != there.entry);
}

#[test]
fn taking_a_store_over_survives_a_crash_at_every_operation() {
    let mut whole = World::new(Volume::Private);
    dovecot_store(&whole);
    let before = whole.sim.operations();
    let expected = picture(&whole.open());
    let operations = whole.sim.operations() - before;
    for at in 0..operations {
        let mut world = World::new(Volume::Private);
        dovecot_store(&world);
        sync_all(&world, Path::new("/"));
        world.sim.stop_after(at);
        drop(world.try_open());
        world.sim.crash(at);
        world.later(100);
        assert_eq!(picture(&world.open()), expected, "killed after {at} of {operations}");
    }
}

fn sync_all(world: &World, directory: &Path) {
    for entry in world.fs.read_dir(directory).unwrap() {
        let path = directory.join(entry.name);
        match entry.kind {
            nfs_compat::EntryKind::Directory => sync_all(world, &path),
            nfs_compat::EntryKind::File | nfs_compat::EntryKind::Other => {
                world.fs.open(&path).unwrap().sync().unwrap()
            }
        }
    }
    world.fs.sync_dir(directory).unwrap();
}

#[test]
fn moving_an_imported_message_to_where_its_copy_is_keeps_both() {
    let mut world = World::new(Volume::Private);
    dovecot_store(&world);
    let mut owner = world.open();
    let inbox = id_of(&owner, "INBOX");
    world.done(&mut owner, Request::Move { from: inbox, uids: uids(&[3, 7]), to: name("Sent") });
    assert_eq!(picture(&owner).texts("Sent"), [(1, "first"), (2, "first"), (3, "second")]);
    look(&mut world, &mut owner);
    assert_eq!(picture(&owner).texts("Sent"), [(1, "first"), (2, "first"), (3, "second")]);
    assert_eq!(picture(&owner).texts("INBOX"), [(20, "unlisted")]);
}

#[test]
fn the_lists_are_complete_after_a_clean_stop() {
    let (mut world, mut owner) = with_message(Volume::Private);
    world.done(&mut owner, Request::Subscribe { name: name("INBOX"), on: true });
    owner.close(world.now);
    let read =
        |path: &str| String::from_utf8(world.fs.read(&Path::new(ROOT).join(path), 10_000).unwrap()).unwrap();
    let validity = picture(&owner).mailboxes["INBOX"].uid_validity;
    assert!(
        read("dovecot-uidlist").starts_with(&format!("3 V{validity} N2 ")),
        "{}",
        read("dovecot-uidlist")
    );
    assert!(read("dovecot-uidlist").contains("\n1 "));
    assert!(read("subscriptions").contains("INBOX"));
}
