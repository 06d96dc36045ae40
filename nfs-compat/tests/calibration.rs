//! The simulated NFS client beside three real ones: each behaviour that was measured on Linux 6.1 (user-mode Linux guests,
//! knfsd on ext4, default mount options unless said) is shown by the simulator too. Where several runs differed, the
//! simulator is as late as the latest.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::time::Duration;

use nfs_compat::sim::{Habit, LookupCache, NfsClient, NfsOptions, NfsVersion};
use nfs_compat::{ErrorKind, File, Fs, SimFs, publish};

const BOTH: [NfsVersion; 2] = [NfsVersion::V3, NfsVersion::V4];

/// A volume with an empty directory `/d`, its changer A and its observer B.
struct Lab {
    volume: SimFs,
    a: NfsClient,
    b: NfsClient,
}

impl Lab {
    fn new(options: NfsOptions) -> Self {
        let volume = SimFs::new(7);
        let [a, b] = [0, 1].map(|_| NfsClient::mount(&volume, options));
        a.create_dir(Path::new("/d")).unwrap();
        Self { volume, a, b }
    }

    fn default_of(version: NfsVersion) -> Self {
        Self::new(NfsOptions::default_of(version))
    }

    /// As long as real steps took, so that no two changes have one time.
    fn pause(&self) {
        self.wait(Duration::from_millis(50));
    }

    fn wait(&self, time: Duration) {
        self.volume.set_now(self.volume.now() + time);
    }

    /// How long after now B sees what it looks for, looking ten times a second.
    fn seen_after(&self, mut look: impl FnMut(&NfsClient) -> bool) -> f64 {
        let start = self.volume.now();
        loop {
            let waited = self.volume.now().duration_since(start).unwrap();
            if look(&self.b) {
                return waited.as_secs_f64();
            }
            assert!(waited < Duration::from_secs(200), "never");
            self.wait(Duration::from_millis(100));
        }
    }
}

fn path(text: &str) -> &Path {
    Path::new(text)
}

fn write(fs: &NfsClient, name: &str, bytes: &[u8]) {
    let file = fs.create(path(name)).unwrap();
    file.write_at(bytes, 0).unwrap();
    file.sync().unwrap();
}

fn rewrite(fs: &NfsClient, name: &str, bytes: &[u8]) {
    fs.open_write(path(name)).unwrap().write_at(bytes, 0).unwrap();
}

fn read(fs: &NfsClient, name: &str) -> Vec<u8> {
    fs.read(path(name), 1000).unwrap()
}

fn names(fs: &dyn Fs, directory: &str) -> Vec<String> {
    let entries = fs.read_dir(path(directory)).unwrap().into_iter();
    let mut names: Vec<_> = entries.map(|entry| entry.name.into_string().unwrap()).collect();
    names.sort();
    names
}

fn about(seconds: f64, expected: f64) {
    assert!((seconds - expected).abs() <= 0.2, "{seconds} s instead of {expected}");
}

#[test]
fn a_missing_name_stays_missing_for_thirty_seconds_to_stat_and_to_open() {
    for version in BOTH {
        let looks: [fn(&NfsClient) -> bool; 2] =
            [|b| b.exists(path("/d/new")).unwrap(), |b| b.open(path("/d/new")).is_ok()];
        for look in looks {
            let lab = Lab::default_of(version);
            assert!(!look(&lab.b));
            lab.pause();
            write(&lab.a, "/d/new", b"x");
            about(lab.seen_after(look), 30.0);
        }
    }
}

#[test]
fn a_name_that_was_never_looked_for_is_seen_at_once() {
    // L-FN3.
    for version in BOTH {
        let lab = Lab::default_of(version);
        assert!(!lab.b.exists(path("/d/other")).unwrap());
        write(&lab.a, "/d/new", b"x");
        assert_eq!(read(&lab.b, "/d/new"), b"x");
    }
}

#[test]
fn a_listing_that_opens_its_directory_anew_shows_a_new_name_and_has_it_found() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        assert!(names(&lab.b, "/d").is_empty() && !lab.b.exists(path("/d/new")).unwrap());
        lab.pause();
        write(&lab.a, "/d/new", b"x");
        assert_eq!(names(&lab.b, "/d"), ["new"]);
        assert!(
            lab.b.exists(path("/d/new")).unwrap(),
            "what was missing is looked for again after the listing"
        );
    }
}

#[test]
fn a_directory_that_is_asked_for_shows_a_neighbours_change_and_one_that_is_looked_up_does_not() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        let before = lab.b.metadata(path("/d")).unwrap().modified;
        lab.pause();
        write(&lab.a, "/d/new", b"x");
        assert_eq!(lab.b.metadata(path("/d")).unwrap().modified, before);
        assert!(lab.b.directory(path("/d")).unwrap().modified > before);
    }
}

#[test]
fn a_directory_that_is_held_open_is_listed_as_it_was_for_thirty_seconds_on_v3() {
    for (version, seconds) in [(NfsVersion::V3, 30.0), (NfsVersion::V4, 0.0)] {
        let lab = Lab::default_of(version);
        assert!(lab.b.list_held(path("/d")).unwrap().is_empty());
        lab.pause();
        write(&lab.a, "/d/new", b"x");
        about(lab.seen_after(|b| !b.list_held(path("/d")).unwrap().is_empty()), seconds);
    }
}

#[test]
fn a_maildir_move_is_seen_at_once_in_both_listings() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        for directory in ["/d/new", "/d/cur"] {
            lab.a.create_dir(path(directory)).unwrap();
        }
        write(&lab.a, "/d/new/m", b"x");
        assert_eq!((names(&lab.b, "/d/new").len(), names(&lab.b, "/d/cur").len()), (1, 0));
        lab.pause();
        lab.a.rename(path("/d/new/m"), path("/d/cur/m:2,S")).unwrap();
        assert!(names(&lab.b, "/d/new").is_empty());
        assert_eq!(names(&lab.b, "/d/cur"), ["m:2,S"]);
    }
}

#[test]
fn the_length_of_a_file_that_grows_is_old_for_three_seconds() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"x");
        assert_eq!(lab.b.metadata(path("/d/f")).unwrap().length, 1);
        lab.pause();
        rewrite(&lab.a, "/d/f", b"xyz");
        about(lab.seen_after(|b| b.metadata(path("/d/f")).unwrap().length == 3), 3.0);
    }
}

#[test]
fn the_length_of_a_file_that_has_not_changed_for_long_is_old_for_up_to_a_minute() {
    // It depends on how long ago the attributes were asked for.
    let seconds = |version, asked_for: u64| {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"x");
        for _ in 0..600 + asked_for {
            lab.wait(Duration::from_secs(1));
            assert_eq!(lab.b.metadata(path("/d/f")).unwrap().length, 1);
        }
        rewrite(&lab.a, "/d/f", b"xyz");
        lab.seen_after(|b| b.metadata(path("/d/f")).unwrap().length == 3)
    };
    for version in BOTH {
        let latest = (0..60).step_by(4).map(|asked_for| seconds(version, asked_for)).fold(0.0, f64::max);
        assert!((55.0..=60.1).contains(&latest), "{latest}");
    }
}

#[test]
fn a_file_that_is_held_open_is_read_as_it_was_for_three_seconds() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"old");
        let held = lab.b.open(path("/d/f")).unwrap();
        let first = |held: &dyn File| {
            let mut bytes = [0; 3];
            held.read_at(&mut bytes, 0).unwrap();
            bytes
        };
        assert_eq!(&first(&*held), b"old");
        lab.pause();
        rewrite(&lab.a, "/d/f", b"new");
        about(lab.seen_after(|_| &first(&*held) == b"new"), 3.0);
    }
}

#[test]
fn what_is_rewritten_or_renamed_over_is_read_at_once_by_who_opens_anew() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"old");
        assert_eq!(read(&lab.b, "/d/f"), b"old");
        lab.pause();
        rewrite(&lab.a, "/d/f", b"new");
        assert_eq!(read(&lab.b, "/d/f"), b"new");
        lab.pause();
        publish(&lab.a, path("/d"), "f", b"another").unwrap();
        assert_eq!(read(&lab.b, "/d/f"), b"another");
    }
}

#[test]
fn a_removed_name_is_there_for_three_seconds_at_most() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"x");
        assert!(lab.b.exists(path("/d/f")).unwrap());
        lab.pause();
        lab.a.unlink(path("/d/f")).unwrap();
        assert!(lab.seen_after(|b| !b.exists(path("/d/f")).unwrap()) <= 3.1);
    }
}

#[test]
fn without_caches_everything_is_seen_at_once() {
    for version in BOTH {
        let lab = Lab::new(NfsOptions::default_of(version).timeouts(Duration::ZERO));
        write(&lab.a, "/d/f", b"x");
        assert!(!lab.b.exists(path("/d/new")).unwrap());
        assert_eq!(lab.b.metadata(path("/d/f")).unwrap().length, 1);
        lab.pause();
        write(&lab.a, "/d/new", b"x");
        rewrite(&lab.a, "/d/f", b"xyz");
        assert!(lab.b.exists(path("/d/new")).unwrap());
        assert_eq!(lab.b.metadata(path("/d/f")).unwrap().length, 3);
    }
}

#[test]
fn with_lookupcache_none_or_positive_a_name_that_was_missing_is_found_at_once() {
    for lookup_cache in [LookupCache::None, LookupCache::Positive] {
        let lab = Lab::new(NfsOptions { lookup_cache, ..NfsOptions::default_of(NfsVersion::V4) });
        assert!(!lab.b.exists(path("/d/new")).unwrap());
        lab.pause();
        write(&lab.a, "/d/new", b"x");
        assert!(lab.b.exists(path("/d/new")).unwrap());
    }
}

#[test]
fn two_rewrites_of_one_length_within_a_tick_stay_unseen_on_v3_though_opened_anew() {
    for (version, seen) in [(NfsVersion::V3, b"one"), (NfsVersion::V4, b"two")] {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"nil");
        lab.pause();
        rewrite(&lab.a, "/d/f", b"one");
        assert_eq!(read(&lab.b, "/d/f"), b"one");
        rewrite(&lab.a, "/d/f", b"two");
        assert_eq!(read(&lab.b, "/d/f"), seen);
        lab.wait(Duration::from_secs(75));
        assert_eq!(read(&lab.b, "/d/f"), seen, "and no time mends it");
        // Dropping the pages does (`locking.md` §6.2).
        lab.b.revalidate(path("/d/f")).unwrap();
        assert_eq!(read(&lab.b, "/d/f"), b"two");
    }
}

#[test]
fn two_hosts_that_booted_alike_both_win_an_exclusive_create_on_v3() {
    for (version, boots_alike, both_win) in
        [(NfsVersion::V3, true, true), (NfsVersion::V3, false, false), (NfsVersion::V4, true, false)]
    {
        let lab = Lab::new(NfsOptions { boots_alike, ..NfsOptions::default_of(version) });
        let first = lab.a.create(path("/d/lock")).unwrap();
        let second = lab.b.create(path("/d/lock"));
        assert_eq!(second.is_ok(), both_win, "{version:?} {boots_alike}");
        // Once the first has set its attributes, the second is too late.
        first.write_at(b"mine", 0).unwrap();
        first.sync().unwrap();
        assert_eq!(lab.b.create(path("/d/lock")).err().unwrap().kind, ErrorKind::Exists);
    }
}

#[test]
fn appends_of_two_hosts_overwrite_each_other() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"");
        let files = [lab.a.open_write(path("/d/f")).unwrap(), lab.b.open_write(path("/d/f")).unwrap()];
        for (file, line) in files.iter().zip([b"from a\n", b"from b\n"]) {
            let end = file.metadata().unwrap().length;
            file.write_at(line, end).unwrap();
        }
        drop(files);
        lab.pause();
        assert_eq!(read(&lab.a, "/d/f").len(), 7, "one of two lines is lost");
    }
}

#[test]
fn a_file_that_another_host_removed_or_replaced_is_stale_on_v3_and_readable_while_held_on_v4() {
    let ends: [fn(&NfsClient); 2] =
        [|a| a.unlink(path("/d/f")).unwrap(), |a| a.rename(path("/d/other"), path("/d/f")).unwrap()];
    for end in ends {
        for version in BOTH {
            let lab = Lab::default_of(version);
            write(&lab.a, "/d/f", b"bytes");
            write(&lab.a, "/d/other", b"other");
            let held = lab.b.open_write(path("/d/f")).unwrap();
            lab.pause();
            end(&lab.a);
            lab.wait(Duration::from_secs(4));
            let mut bytes = [0; 5];
            if version == NfsVersion::V3 {
                assert_eq!(held.metadata().unwrap_err().kind, ErrorKind::Stale);
                assert_eq!(held.read_at(&mut bytes, 0).unwrap_err().kind, ErrorKind::Stale);
                let written = held.write_at(b"x", 0).and_then(|()| held.sync());
                assert_eq!(written.unwrap_err().kind, ErrorKind::Stale);
            } else {
                assert_eq!(held.metadata().unwrap().links, 0);
                assert_eq!((held.read_at(&mut bytes, 0).unwrap(), &bytes), (5, b"bytes"));
                held.write_at(b"x", 0).and_then(|()| held.sync()).unwrap();
            }
        }
    }
}

#[test]
fn a_file_removed_while_open_has_a_silly_name_until_it_is_closed() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"bytes");
        let held = lab.b.open(path("/d/f")).unwrap();
        lab.b.unlink(path("/d/f")).unwrap();
        let there = names(&lab.volume, "/d");
        assert!(matches!(there.as_slice(), [name] if name.starts_with(".nfs")), "{there:?}");
        assert!(names(&lab.a, "/d").is_empty(), "no room above has to know of it");
        assert_eq!(lab.a.remove_dir(path("/d")).unwrap_err().kind, ErrorKind::NotEmpty);
        let mut bytes = [0; 5];
        assert_eq!((held.read_at(&mut bytes, 0).unwrap(), &bytes), (5, b"bytes"));
        drop(held);
        assert!(names(&lab.volume, "/d").is_empty());
        lab.a.remove_dir(path("/d")).unwrap();
    }
}

#[test]
fn what_is_written_stays_on_the_host_until_it_is_synced_or_closed() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        let file = lab.a.create(path("/d/f")).unwrap();
        file.write_at(b"synced", 0).unwrap();
        assert!(read(&lab.b, "/d/f").is_empty());
        lab.pause();
        file.sync().unwrap();
        assert_eq!(read(&lab.b, "/d/f"), b"synced");
        file.write_at(b" and closed", 6).unwrap();
        lab.pause();
        drop(file);
        assert_eq!(read(&lab.b, "/d/f"), b"synced and closed");
    }
}

#[test]
fn a_paused_host_writes_late_and_a_rebooted_one_never() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        let files = ["/d/paused", "/d/rebooted"].map(|name| {
            write(&lab.a, name, b"witnessed");
            lab.a.open_write(path(name)).unwrap()
        });
        files[0].write_at(b"late", 9).unwrap();
        lab.wait(Duration::from_secs(60));
        assert_eq!(read(&lab.b, "/d/paused"), b"witnessed");
        lab.a.write_back().unwrap();
        assert_eq!(read(&lab.b, "/d/paused"), b"witnessedlate");
        files[1].write_at(b"lost", 9).unwrap();
        lab.a.reboot();
        assert!(SimFs::was_killed(&files[1].sync().unwrap_err()));
        drop(files);
        assert_eq!(read(&lab.a, "/d/rebooted"), b"witnessed");
    }
}

#[test]
fn a_restarted_server_has_what_was_synced_unless_its_export_is_async() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        let file = lab.a.create(path("/d/f")).unwrap();
        file.write_at(b"synced", 0).unwrap();
        file.sync().unwrap();
        for seed in 0..20 {
            lab.volume.crash(seed);
        }
        // Descriptors live on, and what was not sent before is sent now.
        file.write_at(b" and on", 6).unwrap();
        file.sync().unwrap();
        assert_eq!(read(&lab.b, "/d/f"), b"synced and on");

        lab.volume.take_up(Habit::SyncsNothing);
        file.write_at(b" and gone", 13).unwrap();
        file.sync().unwrap();
        let lost = (0..200).find(|seed| {
            lab.volume.crash(*seed);
            lab.pause();
            read(&lab.b, "/d/f") == b"synced and on"
        });
        assert!(lost.is_some(), "an async export loses what it acknowledged");
    }
}

#[test]
fn an_answer_that_was_lost_is_told_from_a_failure() {
    // L-FS1.
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"x");
        lab.volume.take_up(Habit::LosesAnswers);
        lab.a.link(path("/d/f"), path("/d/g")).unwrap();
        lab.a.rename(path("/d/g"), path("/d/h")).unwrap();
        lab.a.unlink(path("/d/f")).unwrap();
        assert_eq!(names(&lab.b, "/d"), ["h"]);
        assert_eq!(lab.a.unlink(path("/d/f")).unwrap_err().kind, ErrorKind::NotFound);
        // Of a create nobody can tell; its caller has a new name, and takes another.
        assert_eq!(lab.a.create(path("/d/new")).err().unwrap().kind, ErrorKind::Exists);
    }
}

#[test]
fn asking_again_ends_every_belief() {
    for version in BOTH {
        let lab = Lab::default_of(version);
        write(&lab.a, "/d/f", b"x");
        assert!(!lab.b.exists(path("/d/new")).unwrap());
        assert_eq!(read(&lab.b, "/d/f"), b"x");
        lab.pause();
        write(&lab.a, "/d/new", b"x");
        rewrite(&lab.a, "/d/f", b"xyz");
        lab.b.revalidate(path("/d/new")).unwrap();
        lab.b.revalidate(path("/d/f")).unwrap();
        assert!(lab.b.exists(path("/d/new")).unwrap());
        assert_eq!(lab.b.metadata(path("/d/f")).unwrap().length, 3);
    }
}
