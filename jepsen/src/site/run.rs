//! One run from founding to verdict.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::{Options, Site, Work, reading};
use crate::checker::{self, Violation};
use crate::client::Failure;
use crate::history::{Entry, Op, Outcome, Phase, to_edn};
use crate::lab::Version;
use crate::nemesis::{self, Done, Kind};
use crate::server::user;
use crate::{timeline, wait};

/// After everything is healed, deliveries to everybody through every node are acknowledged within this (J7).
const ACKNOWLEDGED_AGAIN: Duration = Duration::from_secs(15);
/// Guests are kernels that share our processors, and a delivery is a dozen requests to the file server.
const ACKNOWLEDGED_AGAIN_IN_GUESTS: Duration = Duration::from_secs(30);
const READY_AGAIN: Duration = Duration::from_secs(30);
const RETRIED: Duration = Duration::from_secs(60);
const SHOWN_MAX: usize = 20;

/// What a run saw.
#[derive(Clone, Debug)]
pub struct Report {
    pub seed: u64,
    pub seconds: u64,
    pub lease_s: u64,
    pub nfs: Option<Version>,
    pub done: Done,
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    /// From healed to everybody's delivery acknowledged.
    pub recovered: Duration,
    pub violations: Vec<String>,
    /// Where everything is, when it was kept.
    pub kept: Option<PathBuf>,
}

impl Report {
    /// One line for a list of runs.
    pub fn line(&self) -> String {
        let done: Vec<String> =
            self.done.iter().map(|(kind, count)| format!("{}:{count}", kind.name())).collect();
        let verdict = match self.violations.as_slice() {
            [] => "ok".to_owned(),
            [first, rest @ ..] => format!("VIOLATED ({} more) {first}", rest.len()),
        };
        format!(
            "{}seed={} seconds={} lease={}s nemeses={} ok={} fail={} info={} recovered={:.1}s verdict={verdict}",
            self.nfs.map(|version| format!("nfs={} ", version.name())).unwrap_or_default(),
            self.seed,
            self.seconds,
            self.lease_s,
            done.join(","),
            self.acknowledged,
            self.refused,
            self.unknown,
            self.recovered.as_secs_f64(),
        )
    }
}

/// Runs it all. Violations are in the report; an error means that nothing was shown.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let mut site = Site::start(options)?;
    let kinds = possible(options)?;
    let struck = AtomicBool::new(false);
    let over = AtomicBool::new(false);
    let mut violations = Vec::new();
    let mut done = Done::new();
    let mut recovered = Duration::ZERO;
    std::thread::scope(|scope| {
        let supervisor = scope.spawn(|| site.supervise(&over));
        let nemeses = scope.spawn(|| nemesis::run(&site, &struck, options.seed, &kinds));
        std::thread::scope(|working| {
            site.arena.spawn(working, options.seed, &options.workloads);
            std::thread::sleep(Duration::from_secs(options.seconds));
            struck.store(true, Ordering::Release);
            if let Ok((what, wrong)) = nemeses.join() {
                done = what;
                violations.extend(wrong);
            }
            site.fault("healed", &[], Phase::Once);
            match recover(&site, options) {
                Ok(after) => recovered = after,
                Err(error) => violations.push(format!("liveness: {error:#}")),
            }
            site.arena.stop();
        });
        violations.extend(read(&site));
        over.store(true, Ordering::Release);
        violations.extend(supervisor.join().unwrap_or_default());
    });
    violations.extend(site.arena.faults());
    violations.extend(panics(&site));
    let history = site.arena.recorder.history();
    violations.extend(idle(options, &history));
    let broken = checker::check_site(&history);
    violations.extend(broken.iter().map(ToString::to_string));
    let [acknowledged, refused, unknown] =
        [Outcome::Ok, Outcome::Fail, Outcome::Info].map(|outcome| count(&history, outcome));
    let kept =
        if violations.is_empty() && !options.keep { None } else { Some(keep(&mut site, &history, &broken)?) };
    let (seed, seconds, lease_s) = (options.seed, options.seconds, options.lease);
    let nfs = options.nfs;
    let report = Report {
        seed,
        seconds,
        lease_s,
        nfs,
        done,
        acknowledged,
        refused,
        unknown,
        recovered,
        violations,
        kept,
    };
    if !report.violations.is_empty() {
        eprintln!("{}", evidence(&site, options, &report));
    }
    Ok(report)
}

/// Those that can be done here; what can't is said.
fn possible(options: &Options) -> anyhow::Result<Vec<Kind>> {
    let nfs = options.nfs.is_some();
    let kinds = if options.nemeses.is_empty() { Kind::all(nfs) } else { options.nemeses.clone() };
    let mut possible = Vec::new();
    for kind in kinds {
        match kind.missing(nfs) {
            None => possible.push(kind),
            Some(why) => {
                eprintln!("SKIPPED: nemesis {}: {why}", kind.name());
                let required = std::env::var("ROOST_TESTS").is_ok_and(|value| value == "require");
                anyhow::ensure!(!required, "nemesis {}: {why}", kind.name());
            }
        }
    }
    Ok(possible)
}

/// Waits until everybody's delivery is acknowledged through every node; tells how long that took.
fn recover(site: &Site, options: &Options) -> anyhow::Result<Duration> {
    for number in site.nodes() {
        site.node(number)?.start()?;
    }
    if options.nfs.is_some() {
        // What is promised is promised of a site that reaches its mail; until its kernels do, it may take what it takes.
        site.lab()?.wait_answers()?;
    }
    let within = if options.nfs.is_some() { ACKNOWLEDGED_AGAIN_IN_GUESTS } else { ACKNOWLEDGED_AGAIN };
    let begun = Instant::now();
    site.wait_ready(READY_AGAIN)?;
    let left = within.saturating_sub(begun.elapsed());
    let late: Vec<String> = std::thread::scope(|scope| {
        let each: Vec<_> = site
            .arena
            .doors
            .iter()
            .zip(1..)
            .map(|(doors, node)| {
                scope.spawn(move || {
                    let undelivered = (0..options.accounts).filter(|account| {
                        let mut attempt = 0;
                        let left = within.saturating_sub(begun.elapsed());
                        let delivered = wait::until(left, || {
                            attempt += 1;
                            let token = format!("after-{node}-{account}-{attempt}");
                            site.arena.deliver_one(doors, *account, &token, within).then_some(())
                        });
                        delivered.is_none()
                    });
                    undelivered
                        .map(|account| format!("{} through a{node}", user(account)))
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        each.into_iter().flat_map(|thread| thread.join().unwrap_or_default()).collect()
    });
    let after = begun.elapsed();
    anyhow::ensure!(
        late.is_empty() && after <= within,
        "{after:.1?} after all was healed ({left:.1?} after all were ready), no delivery was acknowledged for {late:?}"
    );
    Ok(after)
}

/// Delivers what is unknown, then reads everything from everywhere.
fn read(site: &Site) -> Vec<String> {
    let mut last = None;
    let mut turn = 0;
    let delivered = wait::until(RETRIED, || {
        turn += 1;
        let doors = site.arena.doors.get(turn % site.arena.doors.len())?;
        last = site.arena.deliver_again(doors, ACKNOWLEDGED_AGAIN).err();
        (site.arena.waiting() == 0).then_some(())
    });
    let mut wrong = Vec::new();
    if delivered.is_none() {
        let waiting = site.arena.waiting();
        wrong.push(format!(
            "liveness: {waiting} deliveries are not acknowledged however often tried: {last:?}"
        ));
    }
    match reading::read_all(&site.arena) {
        Ok(differ) => wrong.extend(differ.into_iter().map(|what| format!("views: {what}"))),
        Err(failure @ (Failure::Refused(_) | Failure::Lost(_) | Failure::Broken(_))) => {
            wrong.push(format!("views: a healed site can't be read: {failure}"));
        }
    }
    wrong
}

/// Workloads that nothing came of: a run in which nobody was served shows nothing.
fn idle(options: &Options, history: &[Entry]) -> Vec<String> {
    let came_of = |work: Work| {
        let ok = history.iter().filter(|entry| entry.outcome == Outcome::Ok && entry.client != 0);
        ok.filter(|entry| match entry.op {
            Op::Add { .. } => work == Work::Deliver,
            Op::Glance { .. } => work == Work::Uid,
            Op::Raise { .. } => work == Work::Flags,
            Op::MaildropOpened { .. } => work == Work::Pop3,
            Op::Met { .. } | Op::Counters { .. } | Op::Read { .. } | Op::Popped { .. } => false,
            Op::MaildropAnswered { .. } | Op::Marked { .. } | Op::Quit { .. } => false,
            Op::Move { .. } | Op::Flag { .. } | Op::Expunge { .. } | Op::Kill | Op::Nemesis(_) => false,
        })
        .count()
    };
    let idle = options.workloads.iter().filter(|work| came_of(**work) == 0);
    idle.map(|work| format!("nothing came of {work:?}: this run shows nothing")).collect()
}

fn panics(site: &Site) -> Vec<String> {
    let logs = site.nodes().filter_map(|number| Some((number, site.node(number).ok()?.log())));
    let each = logs.flat_map(|(number, log)| {
        let lines: Vec<String> = log
            .lines()
            .filter(|line| line.contains("panicked at"))
            .map(|line| format!("node {number}: {line}"))
            .collect();
        lines
    });
    each.collect()
}

fn count(history: &[Entry], outcome: Outcome) -> usize {
    let changes = history.iter().filter(|entry| match entry.op {
        Op::Add { .. } | Op::Move { .. } | Op::Expunge { .. } | Op::Flag { .. } => true,
        Op::Met { .. } | Op::Read { .. } | Op::Popped { .. } | Op::Glance { .. } => false,
        Op::Raise { .. } | Op::Counters { .. } | Op::Kill | Op::Nemesis(_) => false,
        Op::MaildropOpened { .. } | Op::MaildropAnswered { .. } => false,
        Op::Marked { .. } | Op::Quit { .. } => false,
    });
    changes.filter(|entry| entry.outcome == outcome).count()
}

fn keep(site: &mut Site, history: &[Entry], broken: &[Violation]) -> anyhow::Result<PathBuf> {
    let dir = site.dir().to_owned();
    fs::write(dir.join("timeline.html"), timeline::page("jepsen site", history, broken))?;
    fs::write(dir.join("history.edn"), to_edn(history)?)?;
    site.dir.disable_cleanup(true);
    Ok(dir)
}

/// What a human needs.
fn evidence(site: &Site, options: &Options, report: &Report) -> String {
    let all = &report.violations;
    let shown = all.get(..SHOWN_MAX).unwrap_or(all).join("\n  ");
    let names: Vec<String> = options.nemeses.iter().map(|kind| kind.name()).collect();
    let only = if names.is_empty() { String::new() } else { format!(" --nemeses {}", names.join(",")) };
    let what =
        options.nfs.map_or_else(|| "site".to_owned(), |version| format!("nfs --vers {}", version.name()));
    let dir = report.kept.as_ref().map(|dir| dir.display().to_string()).unwrap_or_default();
    format!(
        "{}{} violations:\n  {shown}\nseed {seed}; run it again: cargo run -p jepsen -- {what} --seed {seed} --seconds {} \
         --lease {}s{only}\nhistory, timeline, logs and mail are in {dir}",
        site.log_tails(),
        all.len(),
        options.seconds,
        options.lease,
        seed = options.seed,
    )
}
