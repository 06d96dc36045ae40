//! A site of several nodes, each on a host of its own, over one mail tree; clients at all of them; and what is done to it
//! meanwhile.
//!
//! A run: clients work while nemeses strike; then all is healed, and every node must serve again, deliveries be
//! acknowledged soon (J7), what is unknown be delivered when it is tried again, and all nodes show the same. The whole
//! history is checked.
//!
//! The seed decides what clients and nemeses do and for how long, not how threads and packets are scheduled.

mod clients;
pub(crate) mod commands;
mod layout;
pub mod neighbours;
pub mod node;
mod place;
mod reading;
pub mod rollback;
mod run;
pub mod slices;
pub mod takeover;

use std::path::Path;
use std::process::ExitStatus;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use tempfile::TempDir;

use crate::dice::Dice;
use crate::history::{Fault, Op, Outcome, Phase, Recorder};
use crate::hosts::{self, Number, disk::Disk, network::Network};
use crate::lab::{self, Lab};
use crate::nemesis::Kind;
use crate::server::roost_binary;
use crate::wait;
use clients::{Arena, Doors};
use node::Node;

pub(crate) use layout::give;
pub use run::{Report, run};

/// A supervisor starts again what has ended after this.
const RESTARTED_AFTER: Duration = Duration::from_secs(1);
/// What a node may still do wrong because of something that is over.
const EXCUSED_AFTER: Duration = Duration::from_secs(3);
/// What happened, as it happens.
const HISTORY: &str = "history.json";
/// Room for the mail of a run.
const MAIL_BYTES: u64 = 2 << 30;
const START_PATIENCE: Duration = Duration::from_secs(60);

/// What clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Work {
    /// Every acknowledged message is there exactly once
    Deliver,
    /// A UID names one message for ever; UIDNEXT and HIGHESTMODSEQ never fall
    Uid,
    /// Keywords that were acknowledged or seen stay
    Flags,
    /// One session holds a maildrop; what it deleted does not return
    Pop3,
}

impl Work {
    fn clients(self) -> usize {
        match self {
            Self::Deliver => 4,
            Self::Uid => 3,
            Self::Flags => 2,
            Self::Pop3 => 3,
        }
    }
}

/// A run.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// Decides what clients and nemeses do
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long clients work
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Work::value_variants().to_vec())]
    pub workloads: Vec<Work>,
    /// What is done; all by default
    #[arg(long, value_enum, value_delimiter = ',')]
    pub nemeses: Vec<Kind>,
    /// cluster.lease, in seconds
    #[arg(long, value_parser = lease_seconds, default_value = "5s")]
    pub lease: u64,
    #[arg(long, default_value_t = 3)]
    pub nodes: Number,
    #[arg(long, default_value_t = 6)]
    pub accounts: usize,
    /// Keep the directory of a run that went well
    #[arg(long)]
    pub keep: bool,
    /// Nodes run in guests that mount the mail tree over this version of NFS
    #[arg(skip)]
    pub nfs: Option<lab::Version>,
    /// Guests that mount it too, and run no node
    #[arg(skip)]
    pub neighbours: Number,
}

fn lease_seconds(text: &str) -> Result<u64, String> {
    text.trim_end_matches('s').parse().map_err(|_| format!("{text} is no time like 5s"))
}

/// A node and what is expected of it.
struct Seat {
    node: Mutex<Node>,
    /// It is meant to be down.
    down: AtomicBool,
    /// It may end by itself.
    excuse: Mutex<Excuse>,
}

#[derive(Default)]
struct Excuse {
    held: u32,
    until: Option<Instant>,
}

/// A site that runs.
pub struct Site {
    pub(crate) network: Network,
    /// Nodes run in its guests.
    lab: Option<Arc<Lab>>,
    seats: Vec<Seat>,
    arena: Arena,
    /// What the mail tree of nodes beside us lies on. Unmounted before the directory goes.
    mail: Mutex<Option<Disk>>,
    dir: TempDir,
}

/// As long as it lives, a node may end by itself.
pub(crate) struct Excused<'a>(&'a Seat);

impl Drop for Excused<'_> {
    fn drop(&mut self) {
        let mut excuse = self.0.excuse.lock().unwrap_or_else(PoisonError::into_inner);
        excuse.held = excuse.held.saturating_sub(1);
        excuse.until = Some(Instant::now() + EXCUSED_AFTER);
    }
}

impl Site {
    /// Founds a site and waits until all nodes serve. Only inside of namespaces of our own.
    pub fn start(options: &Options) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("jepsen-site-").tempdir()?;
        let run = dir.path().file_name().and_then(|name| name.to_str()).context("no name")?.to_owned();
        let (network, lab) = match options.nfs {
            None => (hosts::make(options.nodes)?, None),
            Some(version) => {
                let (lab, network) = make_lab(options.nodes + options.neighbours, version, dir.path())?;
                (network, Some(Arc::new(lab)))
            }
        };
        let mail = match &lab {
            None => {
                Some(Disk::make(&dir.path().join("mail.img"), &dir.path().join(layout::MAIL), MAIL_BYTES)?)
            }
            Some(_) => None,
        };
        let mut dice = Dice::part(options.seed, 7);
        let nodes: anyhow::Result<Vec<Node>> = (1..=options.nodes)
            .map(|number| match &lab {
                None => Node::new(number, dir.path(), &run, dice.below(10_000_000)),
                Some(lab) => Node::in_guest(number, dir.path(), lab),
            })
            .collect();
        let nodes = nodes?;
        layout::write(dir.path(), &nodes.iter().collect::<Vec<_>>(), options.accounts, options.lease)?;
        let recorder = Recorder::writing_to(&dir.path().join(HISTORY))?;
        let arena = Arena::new(nodes.iter().map(Doors::of).collect(), options.accounts, recorder);
        let seats = nodes.into_iter().map(|node| Seat {
            node: Mutex::new(node),
            down: AtomicBool::new(false),
            excuse: Mutex::default(),
        });
        let mail = Mutex::new(mail);
        let site = Self { network, lab, seats: seats.collect(), arena, mail, dir };
        for number in site.nodes() {
            site.node(number)?.start()?;
        }
        if let Err(error) = site.founded() {
            return Err(error.context(format!("the site does not start\n{}", site.log_tails())));
        }
        Ok(site)
    }

    fn founded(&self) -> anyhow::Result<()> {
        for number in self.nodes() {
            let ready = wait::until(START_PATIENCE, || match self.node(number) {
                Ok(mut node) => match node.ended() {
                    Ok(None) => node.is_ready().then_some(Ok(())),
                    Ok(Some(status)) => Some(Err(anyhow::anyhow!("node {number} ended: {status}"))),
                    Err(error) => Some(Err(error)),
                },
                Err(error) => Some(Err(error)),
            });
            ready.unwrap_or_else(|| bail!("node {number} does not serve within {START_PATIENCE:?}"))?;
        }
        Ok(())
    }

    pub fn nodes(&self) -> impl Iterator<Item = Number> + use<> {
        1..=Number::try_from(self.seats.len()).unwrap_or(Number::MAX)
    }

    fn seat(&self, number: Number) -> anyhow::Result<&Seat> {
        self.seats.get(usize::from(number).wrapping_sub(1)).with_context(|| format!("no node {number}"))
    }

    pub(crate) fn node(&self, number: Number) -> anyhow::Result<MutexGuard<'_, Node>> {
        Ok(self.seat(number)?.node.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn accounts(&self) -> usize {
        self.arena.accounts
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn lab(&self) -> anyhow::Result<&Lab> {
        self.lab.as_deref().context("this site has no file server")
    }

    /// Records what is done, or has happened, to nodes.
    pub(crate) fn fault(&self, kind: &str, nodes: &[Number], phase: Phase) {
        let recorder = &self.arena.recorder;
        let nodes = nodes.iter().map(|node| format!("a{node}")).collect();
        let fault = Fault { kind: kind.to_owned(), nodes, phase };
        recorder.told(0, 0, recorder.now_us(), Outcome::Info, Op::Nemesis(fault));
    }

    /// A node whose machine has gone is down as well.
    pub(crate) fn lose(&self, number: Number, why: &str) -> anyhow::Result<()> {
        self.seat(number)?.down.store(true, Ordering::Release);
        self.fault(why, &[number], Phase::Begins);
        self.node(number)?.lose();
        Ok(())
    }

    pub(crate) fn take_down(&self, number: Number, why: &str) -> anyhow::Result<()> {
        self.seat(number)?.down.store(true, Ordering::Release);
        self.fault(why, &[number], Phase::Begins);
        self.node(number)?.kill();
        Ok(())
    }

    /// SIGTERM, and waits for the end.
    pub(crate) fn end(&self, number: Number, why: &str) -> anyhow::Result<()> {
        self.seat(number)?.down.store(true, Ordering::Release);
        self.fault(why, &[number], Phase::Begins);
        self.node(number)?.stop()
    }

    pub(crate) fn bring_up(&self, number: Number, why: &str) -> anyhow::Result<()> {
        self.node(number)?.start()?;
        self.seat(number)?.down.store(false, Ordering::Release);
        self.fault(why, &[number], Phase::Ends);
        Ok(())
    }

    /// The power of all hosts and of what the mail lies on fails and comes back. All nodes are down by then.
    pub(crate) fn power_fails(&self) -> anyhow::Result<()> {
        let mut mail = self.mail.lock().unwrap_or_else(PoisonError::into_inner);
        let mail = mail.as_mut().context("the disk of a file server is its own")?;
        mail.cut_power()?;
        for number in self.nodes() {
            self.node(number)?.power_fails()?;
        }
        mail.boot()
    }

    pub(crate) fn excuse(&self, number: Number) -> anyhow::Result<Excused<'_>> {
        let seat = self.seat(number)?;
        seat.excuse.lock().unwrap_or_else(PoisonError::into_inner).held += 1;
        Ok(Excused(seat))
    }

    /// Waits until every node says that it can acknowledge a change.
    pub(crate) fn wait_ready(&self, patience: Duration) -> anyhow::Result<()> {
        let mut late = Vec::new();
        let ready = wait::until(patience, || {
            late = self.nodes().filter(|node| !self.node(*node).is_ok_and(|node| node.is_ready())).collect();
            late.is_empty().then_some(())
        });
        ready.with_context(|| format!("nodes {late:?} don't serve within {patience:?}"))
    }

    /// Starts nodes again that have ended by themselves, until `over`; tells of those that had no excuse.
    fn supervise(&self, over: &AtomicBool) -> Vec<String> {
        let mut wrong = Vec::new();
        let mut ended: Vec<Option<Instant>> = vec![None; self.seats.len()];
        while !over.load(Ordering::Acquire) {
            for ((number, seat), ended) in self.nodes().zip(&self.seats).zip(&mut ended) {
                match seat.look() {
                    Ok(Some(status)) => {
                        *ended = Some(Instant::now());
                        self.fault(&format!("ended by itself, {status}"), &[number], Phase::Once);
                        if !seat.is_excused() {
                            wrong.push(format!("node {number} ended by itself: {status}"));
                        }
                    }
                    Ok(None) => {}
                    Err(error) => wrong.push(format!("node {number}: {error:#}")),
                }
                if ended.is_some_and(|ended| ended.elapsed() > RESTARTED_AFTER) {
                    *ended = None;
                    let started = seat.start_if_meant();
                    wrong.extend(started.err().map(|error| format!("node {number}: {error:#}")));
                }
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        wrong
    }

    /// Lines in which nodes complain of what they found.
    pub(crate) fn errors(&self) -> usize {
        let logs = self.nodes().filter_map(|number| Some(self.node(number).ok()?.log()));
        let complaints = |log: String| {
            let lines = log.lines();
            lines.filter(|line| line.contains(" ERROR ") || line.contains("panicked at")).count()
        };
        logs.map(complaints).sum()
    }

    fn log_tails(&self) -> String {
        let tails = self.nodes().filter_map(|number| {
            let tail = self.node(number).ok()?.log_tail();
            Some(format!("--- the log of a{number} ends:\n{tail}\n"))
        });
        tails.collect()
    }
}

/// A file server and guests that mount it, with room for the site's mail.
fn make_lab(guests: Number, version: lab::Version, dir: &Path) -> anyhow::Result<(Lab, Network)> {
    let roost = roost_binary()?;
    let seen =
        vec![dir.to_owned(), roost.parent().context("the server's binary has no directory")?.to_owned()];
    let (lab, network) = Lab::make(guests, version, dir, seen)?;
    let line = "mkdir -p /srv/export/mail && chown nobody /srv/export/mail";
    lab.server().shell(line, START_PATIENCE)?;
    Ok((lab, network))
}

impl Seat {
    fn look(&self) -> anyhow::Result<Option<ExitStatus>> {
        self.node.lock().unwrap_or_else(PoisonError::into_inner).ended()
    }

    fn is_excused(&self) -> bool {
        let excuse = self.excuse.lock().unwrap_or_else(PoisonError::into_inner);
        excuse.held > 0 || excuse.until.is_some_and(|until| Instant::now() < until)
    }

    fn start_if_meant(&self) -> anyhow::Result<()> {
        let mut node = self.node.lock().unwrap_or_else(PoisonError::into_inner);
        if self.down.load(Ordering::Acquire) { Ok(()) } else { node.start() }
    }
}
