//! Whatever the moment at which a node dies: what was acknowledged is there, once, and nothing else.

use std::sync::Arc;

use nfs_compat::{DirEntry, File, Fs, Metadata, Space};

use super::world::*;
use crate::door::{EditFlags, Expunge, FlagEdit, Refused, Request};
use crate::owner::{Now, Owner};
use crate::tenure::Volume;

const STEPS: u32 = 14;

/// One request of the history. Its answer depends on what came before only, so every run makes the same.
fn step(world: &mut World, owner: &Owner, number: u32) -> nfs_compat::Result<Request> {
    let inbox = id_of(owner, "INBOX");
    let edit = |numbers: &[u32], flag: &str| {
        Request::EditFlags(EditFlags {
            mailbox: inbox,
            uids: uids(numbers),
            edit: FlagEdit::Add,
            flags: vec![model::Flag::parse(flag).unwrap()],
            unchanged_since: None,
        })
    };
    Ok(match number {
        0 => world.try_append("INBOX", &["one"], None)?,
        1 => Request::Create { name: name("a/b"), special_use: None },
        2 => world.try_append("INBOX", &["two"], Some(2))?,
        3 => edit(&[1], "\\Seen"),
        4 => Request::Copy { from: inbox, uids: uids(&[2]), to: name("a/b") },
        5 => Request::Move { from: inbox, uids: uids(&[1]), to: name("a/b") },
        6 => Request::Settle,
        7 => world.try_append("INBOX", &["three"], Some(3))?,
        8 => edit(&[2, 3], "later"),
        9 => Request::Expunge { mailbox: inbox, which: Expunge::Exactly(uids(&[3])) },
        10 => Request::Rename { from: name("a/b"), to: name("c") },
        11 => Request::Subscribe { name: name("c"), on: true },
        12 => world.try_append("c", &["four"], None)?,
        _ => Request::Observe { mailbox: None },
    })
}

/// What an interrupted run leaves.
struct Interrupted {
    acknowledged: usize,
    /// The step that was not acknowledged said that nothing was done.
    refused_cleanly: bool,
    /// Every step was carried out.
    complete: bool,
}

fn now_of(number: u32) -> Now {
    Now { unix_us: START_US + u64::from(number) * 10_000_000 }
}

/// Runs the history until it is killed or done. `pictures` is filled with what clients see after each step.
fn run(world: &mut World, mut pictures: Option<&mut Vec<Picture>>) -> Interrupted {
    let mut interrupted = Interrupted { acknowledged: 0, refused_cleanly: false, complete: false };
    world.now = now_of(0);
    let Ok(mut owner) = world.try_open() else { return interrupted };
    if let Some(pictures) = &mut pictures {
        pictures.push(picture(&owner));
    }
    for number in 0..STEPS {
        world.now = now_of(number + 1);
        // Killed while the message was spooled: nobody was asked anything.
        let Ok(request) = step(world, &owner, number) else { return interrupted };
        match world.ask(&mut owner, request) {
            Ok(_) => interrupted.acknowledged += 1,
            Err(refused) => {
                interrupted.refused_cleanly = !matches!(refused, Refused::Unknown);
                return interrupted;
            }
        }
        if let Some(pictures) = &mut pictures {
            pictures.push(picture(&owner));
        }
        owner.tick(world.now);
    }
    owner.close(world.now);
    interrupted.complete = true;
    interrupted
}

/// What the checker finds wrong with what is there after a crash.
fn wrong(found: &Picture, pictures: &[Picture], interrupted: &Interrupted) -> Option<String> {
    let before = &pictures[interrupted.acknowledged];
    if found == before {
        return None;
    }
    match pictures.get(interrupted.acknowledged + 1) {
        Some(after) if found == after && !interrupted.refused_cleanly => None,
        _ => Some(format!("after {} steps\nfound {found:#?}\nbefore {before:#?}", interrupted.acknowledged)),
    }
}

fn world_with(volume: Volume, wrap: fn(Arc<dyn Fs>) -> Arc<dyn Fs>) -> World {
    let mut world = World::new(volume);
    world.fs = wrap(Arc::clone(&world.fs));
    world
}

/// Kills the node after every operation on the volume in turn. Returns what was found wrong.
fn crash_everywhere(volume: Volume, stride: usize, wrap: fn(Arc<dyn Fs>) -> Arc<dyn Fs>) -> Vec<String> {
    let mut pictures = Vec::new();
    let mut world = world_with(volume, wrap);
    assert!(run(&mut world, Some(&mut pictures)).complete, "the history must run when nothing happens");
    assert_eq!(pictures.len() as u32, STEPS + 1);
    let operations = world.sim.operations();
    let mut found_wrong = Vec::new();
    for at in (0..operations).step_by(stride) {
        let mut world = world_with(volume, wrap);
        world.sim.stop_after(at);
        let interrupted = run(&mut world, None);
        world.sim.crash(at);
        world.now = now_of(100);
        let mut owner = match world.try_open() {
            Ok(owner) => owner,
            Err(error) => {
                found_wrong.push(format!("killed after {at}: {error}"));
                continue;
            }
        };
        let found = match try_picture(&owner) {
            Ok(found) => found,
            Err(error) => {
                found_wrong.push(format!("killed after {at}: {error}"));
                continue;
            }
        };
        if interrupted.acknowledged > 0
            || found.mailboxes["INBOX"].uid_validity == pictures[0].mailboxes["INBOX"].uid_validity
        {
            found_wrong.extend(
                wrong(&found, &pictures, &interrupted)
                    .map(|wrong| format!("killed after {at} of {operations}: {wrong}")),
            );
        }
        found_wrong.extend(
            goes_on(&mut world, &mut owner, &found).map(|wrong| format!("killed after {at}, then: {wrong}")),
        );
    }
    found_wrong
}

/// The account takes more mail, looks around, and is the same after another start.
fn goes_on(world: &mut World, owner: &mut Owner, before: &Picture) -> Option<String> {
    let next = before.mailboxes["INBOX"].uid_next;
    let request = world.append("INBOX", &["after"]);
    if let Err(refused) = world.ask(owner, request) {
        return Some(format!("{refused}"));
    }
    if let Err(refused) = world.ask(owner, Request::Observe { mailbox: None }) {
        return Some(format!("{refused}"));
    }
    let mut expected = before.clone();
    let inbox = expected.mailboxes.get_mut("INBOX").unwrap();
    inbox.messages.insert(next, ("after".to_owned(), vec![]));
    inbox.uid_next = next + 1;
    let found = match try_picture(owner) {
        Ok(found) => found,
        Err(error) => return Some(error),
    };
    if found != expected {
        return Some(format!("found {found:#?}\nexpected {expected:#?}"));
    }
    owner.close(world.now);
    let again = picture(&world.open());
    (again != expected).then(|| format!("after another start {again:#?}"))
}

fn same(fs: Arc<dyn Fs>) -> Arc<dyn Fs> {
    fs
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_every_operation_of_a_private_volume() {
    let wrong = crash_everywhere(Volume::Private, 1, same);
    assert!(wrong.is_empty(), "{} wrong, first: {}", wrong.len(), wrong[0]);
}

#[test]
fn what_was_acknowledged_survives_a_crash_at_every_operation_of_a_shared_volume() {
    let wrong = crash_everywhere(Volume::Shared, 1, same);
    assert!(wrong.is_empty(), "{} wrong, first: {}", wrong.len(), wrong[0]);
}

/// A disk that says it synced, and did not.
struct Lying(Arc<dyn Fs>);

struct LyingFile(Box<dyn File>);

impl Fs for Lying {
    fn open(&self, path: &std::path::Path) -> nfs_compat::Result<Box<dyn File>> {
        self.0.open(path)
    }
    fn open_write(&self, path: &std::path::Path) -> nfs_compat::Result<Box<dyn File>> {
        self.0.open_write(path).map(|file| Box::new(LyingFile(file)) as Box<dyn File>)
    }
    fn create(&self, path: &std::path::Path) -> nfs_compat::Result<Box<dyn File>> {
        self.0.create(path).map(|file| Box::new(LyingFile(file)) as Box<dyn File>)
    }
    fn link(&self, from: &std::path::Path, to: &std::path::Path) -> nfs_compat::Result<()> {
        self.0.link(from, to)
    }
    fn rename(&self, from: &std::path::Path, to: &std::path::Path) -> nfs_compat::Result<()> {
        self.0.rename(from, to)
    }
    fn unlink(&self, path: &std::path::Path) -> nfs_compat::Result<()> {
        self.0.unlink(path)
    }
    fn create_dir(&self, path: &std::path::Path) -> nfs_compat::Result<()> {
        self.0.create_dir(path)
    }
    fn remove_dir(&self, path: &std::path::Path) -> nfs_compat::Result<()> {
        self.0.remove_dir(path)
    }
    fn read_dir(&self, path: &std::path::Path) -> nfs_compat::Result<Vec<DirEntry>> {
        self.0.read_dir(path)
    }
    fn sync_dir(&self, path: &std::path::Path) -> nfs_compat::Result<()> {
        self.0.sync_dir(path)
    }
    fn metadata(&self, path: &std::path::Path) -> nfs_compat::Result<Metadata> {
        self.0.metadata(path)
    }
    fn directory(&self, path: &std::path::Path) -> nfs_compat::Result<Metadata> {
        self.0.directory(path)
    }
    fn space(&self, path: &std::path::Path) -> nfs_compat::Result<Space> {
        self.0.space(path)
    }
    fn set_modified(&self, path: &std::path::Path, to: std::time::SystemTime) -> nfs_compat::Result<()> {
        self.0.set_modified(path, to)
    }
    fn revalidate(&self, path: &std::path::Path) -> nfs_compat::Result<()> {
        self.0.revalidate(path)
    }
}

impl File for LyingFile {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> nfs_compat::Result<usize> {
        self.0.read_at(buffer, offset)
    }
    fn write_at(&self, bytes: &[u8], offset: u64) -> nfs_compat::Result<()> {
        self.0.write_at(bytes, offset)
    }
    fn sync(&self) -> nfs_compat::Result<()> {
        Ok(())
    }
    fn allocate(&self, length: u64) -> nfs_compat::Result<()> {
        self.0.allocate(length)
    }
    fn set_modified(&self, to: std::time::SystemTime) -> nfs_compat::Result<()> {
        self.0.set_modified(to)
    }
    fn metadata(&self) -> nfs_compat::Result<Metadata> {
        self.0.metadata()
    }
    fn path(&self) -> &std::path::Path {
        self.0.path()
    }
}

/// A checker that cannot fail is no checker: a disk that does not sync must be caught.
#[test]
fn a_disk_that_does_not_sync_is_caught_by_the_same_check() {
    let lying = |fs| Arc::new(Lying(fs)) as Arc<dyn Fs>;
    assert!(!crash_everywhere(Volume::Private, 7, lying).is_empty());
    assert!(!crash_everywhere(Volume::Shared, 7, lying).is_empty());
}
