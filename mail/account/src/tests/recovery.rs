//! After damage: nothing that can be proved is lost, nothing is numbered twice, and the operator is told.

use std::path::{Path, PathBuf};

use super::world::*;
use crate::door::{Expunge, Request};
use crate::owner::Owner;
use crate::tenure::Volume;

fn paths(world: &World, directory: &str) -> Vec<PathBuf> {
    let directory = Path::new("/mail/ada/.roost").join(directory);
    let entries = world.fs.read_dir(&directory).unwrap();
    let mut paths: Vec<_> = entries.into_iter().map(|entry| directory.join(entry.name)).collect();
    paths.sort();
    paths
}

fn garble(world: &World, path: &Path, at: u64) {
    let file = world.fs.open_write(path).unwrap();
    file.write_at(b"garbled", at).unwrap();
    file.sync().unwrap();
}

fn history(world: &mut World) -> Owner {
    let mut owner = world.open();
    for text in ["one", "two", "three", "four"] {
        let request = world.append("INBOX", &[text]);
        world.done(&mut owner, request);
    }
    let inbox = id_of(&owner, "INBOX");
    world.done(&mut owner, Request::Expunge { mailbox: inbox, which: Expunge::Exactly(uids(&[2])) });
    owner
}

#[test]
fn a_garbled_checkpoint_costs_nothing() {
    for volume in [Volume::Private, Volume::Shared] {
        let mut world = World::new(volume);
        let mut owner = history(&mut world);
        owner.close(world.now);
        let request = world.append("INBOX", &["five"]);
        world.done(&mut owner, request);
        owner.close(world.now);
        let request = world.append("INBOX", &["six"]);
        world.done(&mut owner, request);
        let before = picture(&owner);
        drop(owner);
        let newest = paths(&world, "c").pop().unwrap();
        garble(&world, &newest, 40);
        assert_eq!(picture(&world.open()), before, "{volume:?}");
        // And the next start does not even need the old one.
        assert_eq!(picture(&world.open()), before, "{volume:?}");
        for path in paths(&world, "c") {
            garble(&world, &path, 40);
        }
        if let Ok(owner) = world.try_open() {
            assert_eq!(picture(&owner), before, "{volume:?}");
        }
    }
}

#[test]
fn a_missing_checkpoint_of_a_young_account_is_made_again_from_its_journal() {
    let mut world = World::new(Volume::Private);
    let mut owner = history(&mut world);
    owner.close(world.now);
    let before = picture(&owner);
    drop(owner);
    for path in paths(&world, "c") {
        world.fs.unlink(&path).unwrap();
    }
    assert_eq!(picture(&world.open()), before);
}

#[test]
fn a_garbled_journal_gives_back_every_message_and_no_number_twice() {
    let mut world = World::new(Volume::Private);
    let owner = history(&mut world);
    let before = picture(&owner);
    drop(owner);
    let segment = paths(&world, "j").pop().unwrap();
    let length = world.fs.metadata(&segment).unwrap().length;
    for at in (120..length - 400).step_by(97) {
        let mut world = World::new(Volume::Private);
        drop(history(&mut world));
        let segment = paths(&world, "j").pop().unwrap();
        garble(&world, &segment, at);
        let mut owner = world.open();
        assert!(!owner.take_healed().is_empty(), "at {at}: the operator is told");
        world.later(10);
        world.done(&mut owner, Request::Observe { mailbox: None });
        let found = picture(&owner);
        let texts: Vec<_> = found.texts("INBOX").into_iter().map(|(_, text)| text.to_owned()).collect();
        for text in ["one", "three", "four"] {
            assert_eq!(texts.iter().filter(|found| *found == text).count(), 1, "at {at}: {texts:?}");
        }
        let old = &before.mailboxes["INBOX"];
        let new = &found.mailboxes["INBOX"];
        for (uid, (text, _)) in &new.messages {
            let same = old.messages.get(uid).is_some_and(|(was, _)| was == text);
            let fresh = new.uid_validity != old.uid_validity || *uid > old.uid_next;
            assert!(same || fresh, "at {at}: UID {uid} is {text}");
        }
        assert!(new.uid_validity > old.uid_validity || new.uid_next > old.uid_next + 60_000, "at {at}");
        let request = world.append("INBOX", &["after"]);
        world.done(&mut owner, request);
        let after = picture(&owner);
        drop(owner);
        let mut owner = world.open();
        assert_eq!(picture(&owner), after, "at {at}");
        assert!(owner.take_healed().is_empty(), "at {at}: it is sound again");
    }
}

#[test]
fn an_account_that_lost_everything_but_its_messages_is_made_again() {
    let mut world = World::new(Volume::Private);
    let mut owner = history(&mut world);
    owner.close(world.now);
    let before = picture(&owner);
    drop(owner);
    let request = {
        let mut owner = world.open();
        let request = world.append("INBOX", &["after the lists were written"]);
        world.done(&mut owner, request)
    };
    drop(request);
    for part in ["j", "c"] {
        for path in paths(&world, part) {
            world.fs.unlink(&path).unwrap();
        }
    }
    world.keeper = std::sync::Arc::default();
    let mut owner = world.open();
    assert!(!owner.take_healed().is_empty());
    let found = picture(&owner);
    assert_eq!(found.mailboxes["INBOX"].uid_validity, before.mailboxes["INBOX"].uid_validity);
    let texts = found.texts("INBOX");
    assert_eq!(texts[..3], before.texts("INBOX")[..]);
    assert_eq!(texts[3].1, "after the lists were written");
    // It may have been shown under any number above the list's.
    assert!(texts[3].0 > 65_536);
}

#[test]
fn an_operator_can_accept_what_is_lost() {
    for volume in [Volume::Private, Volume::Shared] {
        let mut world = World::new(volume);
        let owner = history(&mut world);
        let before = picture(&owner);
        drop(owner);
        let segment = paths(&world, "j").pop().unwrap();
        let whole = world.fs.read(&segment, 1 << 20).unwrap();
        world.fs.unlink(&segment).unwrap();
        let cut = world.fs.create(&segment).unwrap();
        cut.write_at(&whole[..whole.len() - 20], 0).unwrap();
        assert!(world.try_open().is_err());
        let setup = world.setup().unwrap();
        let mut owner = Owner::open_accepting_loss(setup, world.now).unwrap();
        world.later(10);
        world.done(&mut owner, Request::Observe { mailbox: None });
        let found = picture(&owner);
        assert!(found.mailboxes["INBOX"].uid_next > before.mailboxes["INBOX"].uid_next + 60_000);
        for (uid, message) in &before.mailboxes["INBOX"].messages {
            assert_eq!(found.mailboxes["INBOX"].messages.get(uid), Some(message), "{volume:?}");
        }
        drop(owner);
        assert_eq!(picture(&world.open()), found);
    }
}

#[test]
fn a_checkpoint_comes_after_many_records_and_old_segments_go() {
    let mut world = World::new(Volume::Private);
    let mut owner = world.open();
    for round in 0..4 {
        for number in 0..800 {
            let on = number % 2 == 0;
            world.done(&mut owner, Request::Subscribe { name: name(&format!("s{round}")), on });
        }
        owner.tick(world.now);
    }
    owner.close(world.now);
    world.done(&mut owner, Request::Subscribe { name: name("x"), on: true });
    owner.close(world.now);
    world.done(&mut owner, Request::Subscribe { name: name("y"), on: true });
    owner.close(world.now);
    assert!(paths(&world, "c").len() <= 2, "{:?}", paths(&world, "c"));
    assert!(paths(&world, "j").len() <= 4, "{:?}", paths(&world, "j"));
    let before = picture(&owner);
    drop(owner);
    assert_eq!(picture(&world.open()), before);
}

/// I6: what configuration creates has a modseq of its own, and a change after a restart comes after it.
#[test]
fn a_change_after_a_restart_has_a_greater_modseq_even_if_the_clock_stands() {
    let mut world = World::new(Volume::Private);
    world.autocreate = vec![(name("Archive"), Some(model::SpecialUse::Archive))];
    drop(world.open());
    let mut owner = world.open();
    let highest = |owner: &Owner| {
        let snapshot = owner.snapshot();
        let entry = snapshot.by_name(&name("INBOX")).unwrap();
        entry.view.as_ref().unwrap().highest_modseq
    };
    let before = highest(&owner);
    let request = world.append("INBOX", &["one"]);
    // Not by `World::ask`, which lets time pass.
    owner.commit(world.now, vec![request]).remove(0).unwrap();
    assert!(highest(&owner) > before);
}

/// A message that is moved into a mailbox which is deleted in the same turn leaves nothing behind where it was.
#[test]
fn a_message_deleted_on_its_way_does_not_come_back() {
    let mut world = World::new(Volume::Private);
    let mut owner = world.open();
    let request = world.append("INBOX", &["one"]);
    world.done(&mut owner, request);
    world.done(&mut owner, Request::Create { name: name("Gone"), special_use: None });
    let from = id_of(&owner, "INBOX");
    let batch = vec![
        Request::Move { from, uids: uids(&[1]), to: name("Gone") },
        Request::Delete { name: name("Gone") },
    ];
    for answer in owner.commit(world.now, batch) {
        answer.unwrap();
    }
    world.done(&mut owner, Request::Observe { mailbox: None });
    assert!(picture(&owner).texts("INBOX").is_empty());
}
