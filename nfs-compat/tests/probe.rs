//! What the probe says of volumes that keep the rules, and of simulated ones that do not.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]
#![expect(clippy::disallowed_methods, reason = "a real directory is examined by a real clock")]

use std::path::Path;
use std::time::{Duration, SystemTime};

use nfs_compat::probe::{Asked, Party, Report, Severity, Step, examine, try_out};
use nfs_compat::sim::{Habit, NfsClient, NfsOptions, NfsVersion, Old};
use nfs_compat::{DiskFs, ErrorKind, Fs, SimClient, SimFs, sim::Operation};

const INSIDE: &str = ".ours/probe";

fn tried(fs: &SimFs) -> Report {
    tried_as(fs, true)
}

fn tried_as(fs: &SimFs, thorough: bool) -> Report {
    let mut report = Report::default();
    fs.create_dir_all(Path::new("/mail")).unwrap();
    let now = || fs.now();
    let asked =
        Asked { root: Path::new("/mail"), inside: Path::new(INSIDE), name: "here", thorough, now: &now };
    try_out(fs, &asked, &mut report);
    report
}

fn codes(report: &Report) -> Vec<(Severity, &'static str)> {
    let mut codes: Vec<_> = report.findings.iter().map(|finding| (finding.severity, finding.code)).collect();
    codes.dedup();
    codes
}

#[test]
fn a_volume_that_keeps_the_rules_is_found_to_and_is_left_as_it_was() {
    for seed in 0..4 {
        let fs = SimFs::new(seed);
        assert_eq!(codes(&tried(&fs)), []);
        assert!(fs.read_dir(Path::new("/mail")).unwrap().is_empty());
    }
}

#[test]
fn a_local_directory_is_found_fit_and_is_left_as_it_was() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join(".ours/kept")).unwrap();
    let asked = Asked {
        root: directory.path(),
        inside: Path::new(INSIDE),
        name: "here",
        thorough: true,
        now: &SystemTime::now,
    };
    let report = examine(&DiskFs::new(), &asked);
    assert_eq!(report.refused().collect::<Vec<_>>(), Vec::<&nfs_compat::probe::Finding>::new());
    assert!(report.mount.is_some() && report.measured.space.is_some() && report.measured.sync.is_some());
    assert!(report.measured.clock_ahead_ms.unwrap().abs() < 1000);
    let left: Vec<_> = DiskFs::new().read_dir(&directory.path().join(".ours")).unwrap();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_directory_that_is_missing_is_refused() {
    let asked = Asked {
        root: Path::new("/no/such/directory"),
        inside: Path::new(INSIDE),
        name: "here",
        thorough: false,
        now: &SystemTime::now,
    };
    assert_eq!(codes(&examine(&DiskFs::new(), &asked)), [(Severity::Refuse, "missing")]);
}

#[test]
fn a_rename_that_leaves_a_moment_without_either_name_is_refused() {
    let fs = SimFs::new(0);
    fs.take_up(Habit::RenamesInTwoSteps);
    let report = tried(&fs);
    assert!(codes(&report).contains(&(Severity::Refuse, "rename")), "{report:?}");
    assert!(
        report.findings.iter().any(|finding| finding.what.contains("neither its old name nor its new one"))
    );
}

#[test]
fn answers_that_are_lost_are_warned_of_and_do_no_other_harm() {
    let fs = SimFs::new(0);
    fs.create_dir_all(Path::new("/mail/.ours/probe")).unwrap();
    fs.take_up(Habit::LosesAnswers);
    assert_eq!(codes(&tried_as(&fs, false)), [(Severity::Warn, "replies")]);
}

#[test]
fn names_that_are_not_kept_apart_are_refused() {
    let fs = SimFs::new(0);
    fs.take_up(Habit::FoldsCase);
    assert_eq!(codes(&tried(&fs)), [(Severity::Refuse, "names")]);
}

#[test]
fn a_volume_that_takes_nothing_is_refused_with_the_error() {
    let fs = SimFs::new(0);
    fs.fail_when(ErrorKind::ReadOnly, |call| {
        call.operation == Operation::CreateDir && call.path != Path::new("/mail")
    });
    let report = tried(&fs);
    assert_eq!(codes(&report), [(Severity::Refuse, "write")]);
    assert!(report.findings[0].to_string().contains("cannot create directory"));
}

#[test]
fn a_call_that_fails_does_not_keep_the_other_trials_from_running() {
    let fs = SimFs::new(0);
    fs.fail_when(ErrorKind::NotPermitted, |call| call.operation == Operation::Link);
    fs.fail_when(ErrorKind::Failed, |call| call.operation == Operation::SetModified);
    assert_eq!(codes(&tried(&fs)), [(Severity::Refuse, "link"), (Severity::Refuse, "times")]);
}

#[test]
fn a_volume_that_is_nearly_full_is_warned_of() {
    let fs = SimFs::new(0);
    fs.full_after(Some(1 << 20));
    let ballast = fs.create(Path::new("/ballast")).unwrap();
    ballast.allocate((1 << 20) - 60_000).unwrap();
    assert!(codes(&tried(&fs)).contains(&(Severity::Warn, "space")));
}

/// How late each change was seen.
type Seen = Vec<(&'static str, Option<Duration>)>;

/// Two hosts that run the trial by turns, on clocks of their own.
fn together(hosts: [&dyn Fs; 2], volume: &SimFs, tick: impl Fn(Duration)) -> [(Report, Seen); 2] {
    let start = volume.now();
    let root = Path::new("/mail");
    volume.create_dir_all(root).unwrap();
    let mut parties = ["a", "b"].map(|me| Party::new(root, Path::new(INSIDE), "token", me, start));
    let mut reports = [Report::default(), Report::default()];
    let mut done = [None, None];
    for (party, host) in parties.iter_mut().zip(hosts) {
        party.begin(host, start).unwrap();
    }
    let mut elapsed = Duration::ZERO;
    while done.iter().any(Option::is_none) {
        assert!(elapsed < Duration::from_secs(300), "no end");
        volume.set_now(start + elapsed);
        tick(elapsed);
        for number in 0..2 {
            if done[number].is_none()
                && let Step::Done(seen) =
                    parties[number].step(hosts[number], start + elapsed, &mut reports[number]).unwrap()
            {
                done[number] = Some(seen);
            }
        }
        elapsed += Duration::from_millis(100);
    }
    let [one, two] = reports;
    let [seen_one, seen_two] = done;
    [(one, seen_one.unwrap()), (two, seen_two.unwrap())]
}

#[test]
fn two_hosts_that_see_everything_at_once_find_nothing_and_leave_nothing() {
    let volume = SimFs::new(1);
    let hosts = [SimClient::new(volume.clone()), SimClient::new(volume.clone())];
    for (report, seen) in together([&hosts[0], &hosts[1]], &volume, |_| {}) {
        assert_eq!(codes(&report), []);
        assert_eq!(seen.len(), 8);
        assert!(
            seen.iter().all(|(_, late)| late.is_some_and(|late| late < Duration::from_secs(1))),
            "{seen:?}"
        );
    }
    assert!(volume.read_dir(Path::new("/mail")).unwrap().is_empty());
}

#[test]
fn what_a_host_sees_late_is_told_with_its_seconds_and_what_it_never_sees_is_refused() {
    let volume = SimFs::new(1);
    let hosts = [SimClient::new(volume.clone()), SimClient::new(volume.clone())];
    let of_a = |case: &str| format!("/mail/{INSIDE}/with-token/a/{case}/new/file");
    let (minute, hour) = (Duration::from_secs(30), Duration::from_secs(3600));
    // The host looks for a name in vain, and believes that for half a minute.
    hosts[1].believe(Path::new(&of_a("missing")), Old::Missing, minute, false);
    hosts[1].believe(Path::new(&of_a("grown-asked")), Old::Shorter(3), hour, true);
    let [(one, _), (two, seen)] =
        together([&hosts[0], &hosts[1]], &volume, |elapsed| hosts[1].set_elapsed(elapsed));
    assert_eq!(codes(&one), []);
    assert_eq!(codes(&two), [(Severity::Refuse, "stale"), (Severity::Note, "stale")]);
    let late = seen.iter().find(|(case, _)| *case == "a name that was missing before").unwrap().1.unwrap();
    assert!(late > Duration::from_secs(29) && late < Duration::from_secs(31), "{late:?}");
    assert!(two.findings[0].what.contains("not within 70 s"), "{two:?}");
}

#[test]
fn two_linux_hosts_with_their_caches_on_are_late_by_their_timers_and_at_once_when_asked() {
    for version in [NfsVersion::V3, NfsVersion::V4] {
        let volume = SimFs::new(1);
        let hosts = [0, 1].map(|_| NfsClient::mount(&volume, NfsOptions::default_of(version)));
        for (report, seen) in together([&hosts[0], &hosts[1]], &volume, |_| {}) {
            assert!(report.refused().next().is_none(), "{report:?}");
            let late = |what: &str| {
                let (_, late) = seen.iter().find(|(case, _)| *case == what).unwrap();
                late.unwrap().as_secs_f64()
            };
            assert!((29.0..=30.5).contains(&late("a name that was missing before")), "{version:?} {seen:?}");
            assert!((2.0..=3.5).contains(&late("the length of a file that grew")), "{version:?} {seen:?}");
            for prompt in [
                "what was added to a file, opening it anew",
                "a rename, in listings",
                "a name never looked for",
            ] {
                assert!(late(prompt) < 0.5, "{version:?} {seen:?}");
            }
            let asked = seen.iter().filter(|(what, _)| *what == "the same, the server being asked again");
            assert!(asked.map(|(_, late)| late.unwrap().as_secs_f64()).all(|late| late < 0.5), "{seen:?}");
        }
    }
}

#[test]
fn a_node_that_waits_in_vain_takes_its_files_away() {
    let fs = SimFs::new(0);
    fs.create_dir_all(Path::new("/mail")).unwrap();
    let mut party = Party::new(Path::new("/mail"), Path::new(INSIDE), "token", "a", fs.now());
    party.begin(&fs, fs.now()).unwrap();
    assert!(matches!(party.step(&fs, fs.now(), &mut Report::default()).unwrap(), Step::Again(_)));
    assert!(party.is_alone());
    party.give_up(&fs).unwrap();
    assert!(fs.read_dir(Path::new("/mail")).unwrap().is_empty());
}

#[test]
fn a_node_that_starts_lets_the_directories_be_that_others_have_seen() {
    let fs = SimFs::new(5);
    assert_eq!(codes(&tried_as(&fs, false)), []);
    assert!(fs.read_dir(&Path::new("/mail").join(INSIDE)).unwrap().is_empty(), "its own is gone");
}
