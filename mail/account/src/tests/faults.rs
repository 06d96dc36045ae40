//! Full disks, failing disks, lost witnesses and rivals.

use nfs_compat::ErrorKind;
use nfs_compat::sim::Operation;

use super::world::*;
use crate::door::{Expunge, Refused, Request};
use crate::log::mark_of;
use crate::open::OpenError;
use crate::owner::Owner;
use crate::tenure::Volume;

fn with_message(volume: Volume) -> (World, Owner) {
    let mut world = World::new(volume);
    let mut owner = world.open();
    let request = world.append("INBOX", &["one"]);
    world.done(&mut owner, request);
    (world, owner)
}

/// Fails one call of a kind while a message is appended. Whatever the answer, it must be true.
fn append_with_fault(volume: Volume, operation: Operation, number: u64, kind: ErrorKind) -> Option<bool> {
    let (mut world, mut owner) = with_message(volume);
    let before = picture(&owner);
    let request = world.append("INBOX", &["two"]);
    world.sim.fail(operation, number, kind);
    let answer = world.ask(&mut owner, request);
    world.sim.clear_faults();
    let sound = owner.is_sound();
    let refused = match answer {
        Ok(_) => {
            assert_eq!(picture(&owner).texts("INBOX"), [(1, "one"), (2, "two")]);
            None
        }
        Err(Refused::Unknown) => Some(false),
        Err(refused) => {
            let full = matches!(kind, ErrorKind::NoSpace | ErrorKind::OverQuota);
            assert_eq!(matches!(refused, Refused::NoSpace(_)), full, "{refused}");
            if sound {
                assert_eq!(picture(&owner), before, "{operation:?} {number}");
            }
            Some(true)
        }
    };
    // Nobody is shown anything until another owner has read what counts.
    if !sound {
        let request = world.append("INBOX", &["never"]);
        assert!(matches!(world.ask(&mut owner, request), Err(Refused::Unavailable(_))));
    }
    drop(owner);
    world.sim.crash(number);
    let mut owner = world.open();
    match refused {
        Some(true) => assert_eq!(picture(&owner), before, "{operation:?} {number} was refused and is there"),
        Some(false) => {}
        None => {
            assert_eq!(picture(&owner).texts("INBOX"), [(1, "one"), (2, "two")], "{operation:?} {number}")
        }
    }
    let next = picture(&owner).mailboxes["INBOX"].uid_next;
    let request = world.append("INBOX", &["three"]);
    world.done(&mut owner, request);
    assert_eq!(picture(&owner).texts("INBOX").last(), Some(&(next, "three")));
    refused
}

#[test]
fn a_failure_at_any_step_refuses_and_leaves_nothing_behind() {
    let operations = [
        Operation::Create,
        Operation::Write,
        Operation::Sync,
        Operation::SyncDir,
        Operation::Link,
        Operation::Rename,
        Operation::SetModified,
        Operation::Metadata,
        Operation::Allocate,
    ];
    let mut refusals = 0;
    for volume in [Volume::Private, Volume::Shared] {
        for operation in operations {
            for number in 1..=3 {
                for kind in
                    [ErrorKind::NoSpace, ErrorKind::OverQuota, ErrorKind::Failed, ErrorKind::NotPermitted]
                {
                    refusals += u32::from(append_with_fault(volume, operation, number, kind) == Some(true));
                }
            }
        }
    }
    // The fault was met: before the journal, and in it.
    assert!(refusals >= 40, "{refusals}");
}

#[test]
fn a_journal_that_cannot_be_written_refuses_without_doubt_when_another_segment_can() {
    for volume in [Volume::Private, Volume::Shared] {
        for operation in [Operation::Write, Operation::Sync] {
            let refused = append_with_fault(volume, operation, 1, ErrorKind::NoSpace);
            assert_eq!(refused, Some(true), "{volume:?} {operation:?}");
        }
    }
}

#[test]
fn a_volume_that_is_full_to_the_last_byte_refuses_without_doubt() {
    let (mut world, mut owner) = with_message(Volume::Private);
    let before = picture(&owner);
    // Long enough for the segment to need more room.
    let names: Vec<_> = (0..200).map(|number| name(&format!("{number:0100}"))).collect();
    let batch = names.into_iter().map(|name| Request::Subscribe { name, on: true }).collect();
    world.sim.fail_when(ErrorKind::OverQuota, |call| {
        matches!(call.operation, Operation::Allocate | Operation::Write | Operation::Create)
    });
    let answers = owner.commit(world.now, batch);
    assert!(answers.iter().all(|answer| matches!(answer, Err(Refused::NoSpace(_)))), "{:?}", answers[0]);
    world.sim.clear_faults();
    drop(owner);
    assert_eq!(picture(&world.open()), before);
}

#[test]
fn on_a_full_volume_mail_is_refused_and_can_still_be_deleted() {
    let (mut world, mut owner) = with_message(Volume::Private);
    world.later(1);
    let request = world.append("INBOX", &["two"]);
    world.sim.full_after(Some(100_000));
    assert!(matches!(world.ask(&mut owner, request), Err(Refused::NoSpace(_))));
    assert!(owner.is_sound());
    let inbox = id_of(&owner, "INBOX");
    world.done(&mut owner, Request::Expunge { mailbox: inbox, which: Expunge::Exactly(uids(&[1])) });
    assert_eq!(picture(&owner).texts("INBOX"), []);
}

#[test]
fn deposed_owner_acknowledges_nothing() {
    let (mut world, mut old) = with_message(Volume::Shared);
    let mut new = world.open();
    let request = world.append("INBOX", &["of the new owner"]);
    world.done(&mut new, request);
    let before = picture(&old);
    let request = world.append("INBOX", &["of the deposed owner"]);
    assert!(matches!(world.ask(&mut old, request), Err(Refused::Unknown)));
    assert_eq!(picture(&old), before);
    assert!(!old.is_sound());
    let request = world.append("INBOX", &["again"]);
    assert!(matches!(world.ask(&mut old, request), Err(Refused::Unavailable(_))));
    drop(old);
    for mut owner in [new, world.open()] {
        world.ask(&mut owner, Request::Observe { mailbox: None }).ok();
        assert_eq!(picture(&owner).texts("INBOX"), [(1, "one"), (2, "of the new owner")]);
    }
}

#[test]
fn a_lost_answer_of_the_witness_is_asked_for_again() {
    let (mut world, mut owner) = with_message(Volume::Shared);
    world.keeper.lose_replies(2);
    let request = world.append("INBOX", &["two"]);
    world.done(&mut owner, request);
    world.keeper.lose_questions(1);
    let request = world.append("INBOX", &["three"]);
    world.done(&mut owner, request);
    assert_eq!(picture(&owner).texts("INBOX").len(), 3);
}

#[test]
fn a_delivery_whose_witness_got_no_answer_is_stored_once_when_it_is_tried_again() {
    for counts in [false, true] {
        let (mut world, mut owner) = with_message(Volume::Shared);
        if counts {
            world.keeper.lose_replies(10);
        } else {
            world.keeper.lose_questions(10);
        }
        let request = world.deliver("two", 5);
        assert!(matches!(world.ask(&mut owner, request), Err(Refused::Unknown)));
        world.keeper.lose_replies(0);
        world.keeper.lose_questions(0);
        drop(owner);
        let mut owner = world.open();
        let request = world.deliver("two", 5);
        world.done(&mut owner, request);
        assert_eq!(picture(&owner).texts("INBOX"), [(1, "one"), (2, "two")], "the first counted: {counts}");
    }
}

#[test]
fn a_journal_shorter_than_its_witness_is_not_gone_on_with() {
    for volume in [Volume::Private, Volume::Shared] {
        let (mut world, owner) = with_message(volume);
        drop(owner);
        let mark = mark_of(world.keeper.last().unwrap());
        let path = std::path::PathBuf::from(format!("/mail/ada/.roost/j/{}", mark.name()));
        world.sim.restart();
        let whole = world.fs.read(&path, 1 << 20).unwrap();
        world.fs.unlink(&path).unwrap();
        // On a shared volume it may be this host's view that is old; the volume of one node has no such excuse.
        let is_refused = |world: &mut World| match world.try_open() {
            Err(OpenError::Durability(_)) => volume == Volume::Private,
            Err(OpenError::Behind(shortfall)) => volume == Volume::Shared && shortfall.file == path,
            Err(_) | Ok(_) => false,
        };
        assert!(is_refused(&mut world), "{volume:?}");
        let cut = world.fs.create(&path).unwrap();
        cut.write_at(&whole[..whole.len() - 10], 0).unwrap();
        assert!(is_refused(&mut world), "{volume:?}");
        cut.write_at(&whole, 0).unwrap();
        assert_eq!(picture(&world.open()).texts("INBOX"), [(1, "one")]);
    }
}

#[test]
fn an_account_on_a_full_volume_can_still_be_read() {
    let (mut world, mut owner) = with_message(Volume::Private);
    owner.close(world.now);
    drop(owner);
    world.sim.fail_when(ErrorKind::NoSpace, |call| {
        matches!(
            call.operation,
            Operation::Create | Operation::Write | Operation::Rename | Operation::Link | Operation::CreateDir
        )
    });
    let owner = world.open();
    assert_eq!(picture(&owner).texts("INBOX"), [(1, "one")]);
}
