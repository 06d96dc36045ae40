//! What is done to hosts and the network while clients work. An episode begins, lasts, and undoes itself; several lanes of
//! episodes run side by side, one for the network and one for hosts.
//!
//! Invariants
//! - An episode leaves nothing behind, also when the run ends in the middle of it.
//! - Beginning and end of each stand in the history.

mod commands;
mod hosts;
mod network;
mod nfs;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use clap::ValueEnum;

use crate::dice::Dice;
use crate::hosts::Number;
use crate::site::Site;
use crate::site::commands::has;
use crate::site::node::faketime;
use crate::wait;

/// What can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Kind {
    /// Two halves of hosts that don't reach each other, or one that reaches both others, who don't
    Cut,
    /// A link that carries one way only
    OneWay,
    /// A host that is cut off and back again, many times
    Flap,
    /// Packets lost
    Loss,
    /// Packets late
    Slow,
    /// A cable pulled out: clients don't reach the host either
    Cable,
    /// SIGSTOP for 1 to 60 s
    Stop,
    /// kill -9, and a start after a while
    Kill,
    /// kill -9, and a start at once
    Bounce,
    /// All nodes killed at once
    KillAll,
    /// SIGTERM and a start, one node after the other
    Rolling,
    /// A host that went down and was booted: its monotonic clocks are others
    Boot,
    /// A host without power, and booted again: what its disk was not handed is lost
    Power,
    /// All hosts and what the mail lies on without power, and booted again
    PowerAll,
    /// The wall clock of a host steps
    Clock,
    /// The disk of a `state_dir` is full
    FullDisk,
    /// The disk of a `state_dir` is slow
    SlowDisk,
    /// A `state_dir` is removed under a killed node, which is then replaced by a new member
    Wiped,
    /// Accounts given from node to node
    Move,
    /// A node drained and undrained
    Drain,
    /// Another leader
    Leader,
    /// The file server without power, and booted again
    ServerRestart,
    /// The file server stands still for 1 to 90 s
    ServerPause,
    /// A client and the file server that don't reach each other
    ServerCut,
    /// What a client sends to the file server is lost, or what it answers
    ServerOneWay,
    /// A client without power, and booted again
    PowerOff,
    /// The disk of the export is full
    ExportFull,
    /// The export takes no writes
    ExportReadOnly,
}

/// Where something can be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    /// To nodes, whatever they run on
    Anywhere,
    /// To hosts made of namespaces, with disks that we can reach
    Hosts,
    /// To guests and their file server
    Guests,
}

impl Kind {
    /// All that can be done to hosts, or to guests that mount NFS.
    pub fn all(nfs: bool) -> Vec<Self> {
        let place = if nfs { Where::Guests } else { Where::Hosts };
        let fits = |kind: &&Self| [Where::Anywhere, place].contains(&kind.place());
        Self::value_variants().iter().filter(fits).copied().collect()
    }

    fn place(self) -> Where {
        match self {
            Self::Cut | Self::OneWay | Self::Flap | Self::Loss => Where::Anywhere,
            Self::Stop | Self::Kill | Self::Bounce | Self::KillAll => Where::Anywhere,
            Self::Move | Self::Drain | Self::Leader => Where::Anywhere,
            // A node that is told to stop while it does not reach its mail can't hand over in time.
            Self::Rolling => Where::Hosts,
            Self::Slow | Self::Cable | Self::Boot | Self::Clock => Where::Hosts,
            Self::FullDisk | Self::SlowDisk | Self::Wiped | Self::Power | Self::PowerAll => Where::Hosts,
            Self::ServerRestart | Self::ServerPause | Self::ServerCut | Self::ServerOneWay => Where::Guests,
            Self::PowerOff | Self::ExportFull | Self::ExportReadOnly => Where::Guests,
        }
    }

    fn is_of_network(self) -> bool {
        match self {
            Self::Cut | Self::OneWay | Self::Flap | Self::Loss | Self::Slow | Self::Cable => true,
            Self::ServerCut | Self::ServerOneWay => true,
            Self::Stop | Self::Kill | Self::Bounce | Self::KillAll | Self::Rolling | Self::Boot => false,
            Self::Clock | Self::FullDisk | Self::SlowDisk | Self::Wiped => false,
            Self::Power | Self::PowerAll => false,
            Self::Move | Self::Drain | Self::Leader => false,
            Self::ServerRestart | Self::ServerPause | Self::PowerOff => false,
            Self::ExportFull | Self::ExportReadOnly => false,
        }
    }

    /// Why it can't be done to these, if so.
    pub(crate) fn missing(self, nfs: bool) -> Option<String> {
        match (self.place(), nfs) {
            (Where::Hosts, true) => return Some("guests have no such thing".to_owned()),
            (Where::Guests, false) => return Some("it takes `jepsen nfs`".to_owned()),
            (Where::Anywhere, _) | (Where::Hosts, false) | (Where::Guests, true) => {}
        }
        let command = match self {
            Self::Clock if faketime().is_none() => return Some("no libfaketime here".to_owned()),
            Self::Move => "move",
            Self::Drain => "drain",
            Self::Leader => "transfer-leader",
            Self::Cut | Self::OneWay | Self::Flap | Self::Loss | Self::Slow | Self::Cable => return None,
            Self::Stop | Self::Kill | Self::Bounce | Self::KillAll | Self::Rolling | Self::Boot => {
                return None;
            }
            Self::Clock | Self::FullDisk | Self::SlowDisk | Self::Wiped => return None,
            Self::Power | Self::PowerAll => return None,
            Self::ServerRestart | Self::ServerPause | Self::ServerCut | Self::ServerOneWay => return None,
            Self::PowerOff | Self::ExportFull | Self::ExportReadOnly => return None,
        };
        (!has(command)).then(|| format!("this server has no `roost cluster {command}`"))
    }

    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }
}

/// How often each was done.
pub type Done = BTreeMap<Kind, u32>;

/// One lane of episodes.
pub(crate) struct Lane<'a> {
    site: &'a Site,
    over: &'a AtomicBool,
    dice: Dice,
}

/// Runs episodes of these kinds until `over`; tells what was done, and what went wrong in the doing.
pub(crate) fn run(site: &Site, over: &AtomicBool, seed: u64, kinds: &[Kind]) -> (Done, Vec<String>) {
    let lanes: Vec<(u64, Vec<Kind>)> = [true, false]
        .into_iter()
        .zip(1..)
        .map(|(network, lane)| {
            (lane, kinds.iter().copied().filter(|kind| kind.is_of_network() == network).collect())
        })
        .collect();
    std::thread::scope(|scope| {
        let running: Vec<_> = lanes
            .iter()
            .filter(|(_, kinds)| !kinds.is_empty())
            .map(|(lane, kinds)| {
                let mut lane = Lane { site, over, dice: Dice::part(seed, 1_000_000 + lane) };
                scope.spawn(move || lane.run(kinds))
            })
            .collect();
        let mut all = (Done::new(), Vec::new());
        for lane in running {
            match lane.join() {
                Ok((done, wrong)) => {
                    all.0.extend(done);
                    all.1.extend(wrong);
                }
                Err(_) => all.1.push("a nemesis panicked".to_owned()),
            }
        }
        all
    })
}

impl Lane<'_> {
    fn run(&mut self, kinds: &[Kind]) -> (Done, Vec<String>) {
        let (mut done, mut wrong) = (Done::new(), Vec::new());
        // Each kind comes once before any comes again.
        let mut left: Vec<Kind> = Vec::new();
        while self.lasts(1_000, 6_000) {
            if left.is_empty() {
                left = kinds.to_vec();
            }
            let kind = left.swap_remove(self.dice.index(left.len()));
            *done.entry(kind).or_default() += 1;
            if let Err(error) = self.episode(kind) {
                wrong.push(format!("nemesis {}: {error:#}", kind.name()));
            }
        }
        (done, wrong)
    }

    fn episode(&mut self, kind: Kind) -> anyhow::Result<()> {
        match kind {
            Kind::Cut => self.cut(),
            Kind::OneWay => self.one_way(),
            Kind::Flap => self.flap(),
            Kind::Loss => self.loss(),
            Kind::Slow => self.slow(),
            Kind::Cable => self.cable(),
            Kind::Stop => self.stop(),
            Kind::Kill => self.kill(),
            Kind::Bounce => self.bounce(),
            Kind::KillAll => self.kill_all(),
            Kind::Rolling => self.rolling(),
            Kind::Boot => self.boot(),
            Kind::Power => self.power(),
            Kind::PowerAll => self.power_all(),
            Kind::Clock => self.clock(),
            Kind::FullDisk => self.full_disk(),
            Kind::SlowDisk => self.slow_disk(),
            Kind::Wiped => self.wiped(),
            Kind::Move => self.moves(),
            Kind::Drain => self.drain(),
            Kind::Leader => self.leader(),
            Kind::ServerRestart => self.server_restart(),
            Kind::ServerPause => self.server_pause(),
            Kind::ServerCut => self.server_cut(),
            Kind::ServerOneWay => self.server_one_way(),
            Kind::PowerOff => self.power_off(),
            Kind::ExportFull => self.export_full(),
            Kind::ExportReadOnly => self.export_read_only(),
        }
    }

    /// Waits for so long, or until the run is over: then false.
    fn lasts(&mut self, low_ms: u64, high_ms: u64) -> bool {
        let time = Duration::from_millis(self.dice.between(low_ms, high_ms));
        wait::until(time, || self.over.load(Ordering::Acquire).then_some(())).is_none()
    }

    fn host(&mut self) -> Number {
        let count = self.site.nodes().count();
        Number::try_from(self.dice.index(count) + 1).unwrap_or(1)
    }

    fn other_than(&mut self, host: Number) -> Number {
        let others: Vec<Number> = self.site.nodes().filter(|other| *other != host).collect();
        self.dice.pick(&others).copied().unwrap_or(host)
    }
}
