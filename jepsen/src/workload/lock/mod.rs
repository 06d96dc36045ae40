//! The coordination service by itself: three voters that are killed, paused and cut off from each other, clients that
//! grant, release, witness and read, and one history that must be linearizable per bucket (J1).
//!
//! The seed decides what clients and nemesis do, not how threads are scheduled.

mod clients;
mod node;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;

use crate::checker::{self, Violation};
use crate::dice::Dice;
use crate::history::lock::LockOp;
use crate::history::{Entry, Fault, Outcome, Phase, Recorder, to_edn, to_json};
use crate::timeline;
use crate::wait;
use clients::{Arena, Client};
use node::{NODES, Site};

const LEASE: Duration = Duration::from_millis(1500);
const CLIENTS_PER_BUCKET: u32 = 4;
/// After everything is healed: longer than a lease, an election and a slow machine take.
const AGAIN: Duration = Duration::from_secs(60);
const HISTORY: &str = "history.json";
const SHOWN_MAX: usize = 10;

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub seconds: u64,
    pub buckets: usize,
    /// Each voter on a host of its own; only where hosts can be made.
    pub on_hosts: bool,
    /// What is wrong with the voters, on purpose.
    pub bug: Option<String>,
    /// Where the history goes; it is kept then, whatever comes of it.
    pub keep: Option<PathBuf>,
}

/// What a run without violations saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub ok: usize,
    pub fail: usize,
    pub unknown: usize,
    pub granted: u64,
    pub accepted: u64,
    pub faults: usize,
    pub check: Duration,
}

/// Why the voters can't be run here, if so.
pub fn missing() -> Option<String> {
    node::binary().err().map(|error| error.to_string())
}

/// Runs it all. An error names the violations, the seed, the command that runs it again, and where the evidence is.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let mut temporary = tempfile::Builder::new().prefix("jepsen-lock-").tempdir()?;
    let dir = options.keep.clone().unwrap_or_else(|| temporary.path().to_owned());
    fs::create_dir_all(&dir)?;
    let mut site = Site::prepare(&dir, LEASE, options.on_hosts, options.bug.as_deref())?;
    for node in &mut site.nodes {
        node.start()?;
    }
    let recorder = Recorder::writing_to(&dir.join(HISTORY))?;
    let addresses = site.nodes.iter().map(|node| node.address).collect();
    let arena = Arena::new(addresses, recorder, options.buckets);
    let mut wrong: Vec<String> = Vec::new();
    let outcome = play(&mut site, &arena, options, &mut wrong);
    wrong.extend(outcome.err().map(|error| format!("{error:#}")));
    wrong.extend(arena.recorder.failure().map(|why| format!("the history is not complete: {why}")));
    let history = arena.recorder.history();
    let begun = Instant::now();
    let violations = checker::lock::check(&history);
    let check = begun.elapsed();
    wrong.extend(violations.iter().map(ToString::to_string));
    if !wrong.is_empty() || options.keep.is_some() {
        temporary.disable_cleanup(options.keep.is_none());
        evidence(&dir, &history, &violations)?;
    }
    if !wrong.is_empty() {
        let shown = wrong.get(..SHOWN_MAX).unwrap_or(&wrong).join("\n  ");
        bail!(
            "{} violations:\n  {shown}\nseed {}; run it again: cargo run -p jepsen -- lock --seed {} --seconds {} \
             --buckets {}{}\nhistory, timeline and logs are in {}\n{}",
            wrong.len(),
            options.seed,
            options.seed,
            options.seconds,
            options.buckets,
            if options.on_hosts { " --hosts" } else { "" },
            dir.display(),
            site.log_tails()
        );
    }
    let report = Report { check, ..count(&arena, &history) };
    // A run in which nothing is accepted would show nothing.
    if report.accepted < 10 || report.granted < 3 {
        bail!("too little was granted and accepted, this run shows nothing: {report:?}");
    }
    Ok(report)
}

fn play(site: &mut Site, arena: &Arena, options: &Options, wrong: &mut Vec<String>) -> anyhow::Result<()> {
    let everybody = |bucket: usize| (0..CLIENTS_PER_BUCKET).map(move |client| (bucket, client));
    std::thread::scope(|scope| {
        let working: Vec<_> = (0..options.buckets)
            .flat_map(everybody)
            .zip(1_u32..)
            .map(|((bucket, _), number)| {
                let client = Client::new(arena, number, bucket, options.seed);
                scope.spawn(move || client.work())
            })
            .collect();
        let until = Instant::now() + Duration::from_secs(options.seconds);
        let struck = Nemesis { site, arena, dice: Dice::part(options.seed, 1 << 32), until }.run();
        let revived = revive(arena, options);
        arena.stopping.store(true, Ordering::Release);
        for client in working {
            wrong.extend(client.join().unwrap_or_else(|_| vec!["a client panicked".to_owned()]));
        }
        struck.and(revived)
    })?;
    let first = 1 << 20;
    for bucket in 0..options.buckets {
        for (node, number) in (0..NODES.len()).zip(first..) {
            let reader = Client::new(arena, number, bucket, options.seed);
            reader.read_all(node, AGAIN).map_err(anyhow::Error::msg)?;
        }
    }
    for node in &mut site.nodes {
        node.alive()?;
    }
    Ok(())
}

/// Once everything is healed, every bucket can be owned and witnessed.
fn revive(arena: &Arena, options: &Options) -> anyhow::Result<()> {
    for (bucket, number) in (0..options.buckets).zip(1_u32 << 16..) {
        let client = Client::new(arena, number, bucket, options.seed);
        client.grant_and_witness(AGAIN).map_err(anyhow::Error::msg)?;
    }
    Ok(())
}

struct Nemesis<'a> {
    site: &'a mut Site,
    arena: &'a Arena,
    dice: Dice,
    until: Instant,
}

impl Nemesis<'_> {
    fn run(mut self) -> anyhow::Result<()> {
        while self.lasts(500, 3000) {
            let node = self.dice.pick(&NODES).copied().unwrap_or(1);
            match self.dice.below(10) {
                0..3 => self.kill(&[node])?,
                3..6 => self.pause(node)?,
                6..8 => self.cut(node, &[true, false])?,
                // It hears, and nobody hears it; or the other way round.
                8 => {
                    let inward = self.dice.once_in(2);
                    self.cut(node, &[inward])?;
                }
                _ => self.kill(&NODES)?,
            }
            for node in &mut self.site.nodes {
                node.alive()?;
            }
        }
        Ok(())
    }

    /// Waits for so long, or until the run is over: then false.
    fn lasts(&mut self, low_ms: u64, high_ms: u64) -> bool {
        let time = Duration::from_millis(self.dice.between(low_ms, high_ms));
        let until = self.until;
        wait::until(time, || (Instant::now() >= until).then_some(())).is_none()
    }

    fn told(&self, kind: &str, nodes: &[u8], phase: Phase) {
        let nodes = nodes.iter().map(|node| format!("node{node}")).collect();
        let fault = LockOp::Nemesis(Fault { kind: kind.to_owned(), nodes, phase });
        let recorder = &self.arena.recorder;
        recorder.told(0, 0, recorder.now_us(), Outcome::Ok, fault);
    }

    fn kill(&mut self, nodes: &[u8]) -> anyhow::Result<()> {
        self.told("kill", nodes, Phase::Begins);
        for node in self.site.nodes.iter_mut().filter(|node| nodes.contains(&node.number)) {
            node.kill();
        }
        self.lasts(0, 3000);
        for node in self.site.nodes.iter_mut().filter(|node| nodes.contains(&node.number)) {
            node.start()?;
        }
        self.told("kill", nodes, Phase::Ends);
        Ok(())
    }

    /// Up to three leases: others take over meanwhile.
    fn pause(&mut self, number: u8) -> anyhow::Result<()> {
        self.told("pause", &[number], Phase::Begins);
        let node = self.site.nodes.iter().find(|node| node.number == number).context("no such node")?;
        node.signal(Signal::SIGSTOP);
        let longest = u64::try_from(LEASE.as_millis())? * 3;
        self.lasts(200, longest);
        let node = self.site.nodes.iter().find(|node| node.number == number).context("no such node")?;
        node.signal(Signal::SIGCONT);
        self.told("pause", &[number], Phase::Ends);
        Ok(())
    }

    fn cut(&mut self, number: u8, inward: &[bool]) -> anyhow::Result<()> {
        let kind = match inward {
            [true] => "cut inward",
            [false] => "cut outward",
            _ => "cut",
        };
        let ways: Vec<(u8, u8)> = NODES
            .into_iter()
            .filter(|other| *other != number)
            .flat_map(|other| {
                inward.iter().map(move |inward| if *inward { (other, number) } else { (number, other) })
            })
            .collect();
        self.told(kind, &[number], Phase::Begins);
        self.site.cut(&ways, true)?;
        self.lasts(500, 6000);
        self.site.cut(&ways, false)?;
        self.told(kind, &[number], Phase::Ends);
        Ok(())
    }
}

fn count(arena: &Arena, history: &[Entry<LockOp>]) -> Report {
    let mut report = Report {
        granted: arena.granted.load(Ordering::Acquire),
        accepted: arena.accepted.load(Ordering::Acquire),
        ..Report::default()
    };
    for entry in history {
        match (&entry.op, entry.outcome) {
            (LockOp::Nemesis(fault), _) => report.faults += usize::from(fault.phase == Phase::Begins),
            (_, Outcome::Ok) => report.ok += 1,
            (_, Outcome::Fail) => report.fail += 1,
            (_, Outcome::Info) => report.unknown += 1,
        }
    }
    report
}

/// Keeps what a human needs.
fn evidence(dir: &Path, history: &[Entry<LockOp>], violations: &[Violation]) -> anyhow::Result<()> {
    fs::write(dir.join(HISTORY), to_json(history)?)?;
    fs::write(dir.join("history.edn"), to_edn(history)?)?;
    fs::write(dir.join("timeline.html"), timeline::page("jepsen lock", history, violations))?;
    Ok(())
}
