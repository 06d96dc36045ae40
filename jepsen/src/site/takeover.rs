//! How long an account can't be changed when its owner dies, or when it is moved: from that moment to the next delivery
//! that is acknowledged, through a node that lives.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

use super::{Options, Site, Work, commands};
use crate::dice::Dice;
use crate::hosts::Number;
use crate::server::user;
use crate::wait;

/// A delivery that takes longer is a failure, not a measurement.
const PATIENCE: Duration = Duration::from_secs(60);
const READY: Duration = Duration::from_secs(60);

/// How an owner goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Way {
    /// kill -9, and it stays dead
    Dead,
    /// kill -9, and a supervisor starts it again at once
    Restarted,
    /// kill -9, and an operator declares it dead at once
    Declared,
    /// It lives, and gives the account to another node
    Moved,
}

impl Way {
    /// The command of `roost cluster` that it takes.
    fn command(self) -> Option<&'static str> {
        match self {
            Self::Dead | Self::Restarted => None,
            Self::Declared => Some("declare-dead"),
            Self::Moved => Some("move"),
        }
    }

    /// What is promised of 99 of 100.
    fn promised(self, lease_s: u64) -> Duration {
        match self {
            Self::Dead => Duration::from_millis(lease_s * 1_300 + 1_000),
            Self::Restarted | Self::Declared => Duration::from_secs(1),
            Self::Moved => Duration::from_millis(300),
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct Measured {
    /// Times that an owner goes, for each way
    #[arg(long, default_value_t = 20)]
    pub rounds: u64,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = Way::value_variants().to_vec())]
    pub ways: Vec<Way>,
    /// cluster.lease, in seconds
    #[arg(long, value_parser = super::lease_seconds, default_value = "5s")]
    pub lease: u64,
    /// Accounts, of which all that the node owned are measured each time
    #[arg(long, default_value_t = 12)]
    pub accounts: usize,
}

/// Measures, and shows a table. Only inside of namespaces of our own.
pub fn run(measured: &Measured) -> anyhow::Result<String> {
    let site = Site::start(&Options {
        seed: measured.seed,
        seconds: 0,
        workloads: Vec::<Work>::new(),
        nemeses: Vec::new(),
        lease: measured.lease,
        nodes: 3,
        accounts: measured.accounts,
        keep: false,
        nfs: None,
        neighbours: 0,
    })?;
    let mut dice = Dice::part(measured.seed, 3);
    let mut table = "| how the owner goes | rounds | deliveries | p50 | p99 | max | promised p99 |\n\
                     |---|---|---|---|---|---|---|\n"
        .to_owned();
    for way in &measured.ways {
        let name = way.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        if let Some(command) = way.command().filter(|command| !commands::has(command)) {
            writeln!(table, "| {name} | SKIPPED: no `roost cluster {command}` here |||||")?;
            continue;
        }
        let mut times = Vec::new();
        for round in 0..measured.rounds {
            times.extend(site.round(*way, round, &mut dice)?);
        }
        times.sort_unstable();
        let at = |hundredths: usize| {
            let place = (times.len() * hundredths).div_ceil(100).saturating_sub(1);
            times.get(place).copied().unwrap_or_default().as_secs_f64() * 1_000.0
        };
        let promised = way.promised(measured.lease).as_millis();
        let (rounds, count) = (measured.rounds, times.len());
        let (p50, p99, max) = (at(50), at(99), at(100));
        writeln!(
            table,
            "| {name} | {rounds} | {count} | {p50:.0} ms | {p99:.0} ms | {max:.0} ms | {promised} ms |"
        )?;
    }
    Ok(table)
}

impl Site {
    /// One owner goes; the times of all the accounts that it owned.
    fn round(&self, way: Way, round: u64, dice: &mut Dice) -> anyhow::Result<Vec<Duration>> {
        self.wait_ready(READY)?;
        let accounts = self.accounts();
        for account in 0..accounts {
            self.deliver(1, account, &format!("{way:?}-{round}-before-{account}"))?;
        }
        let owned = wait::until(READY, || {
            let mut owned: BTreeMap<Number, Vec<usize>> = BTreeMap::new();
            for account in 0..accounts {
                owned.entry(self.owner(account)?).or_default().push(account);
            }
            Some(owned)
        });
        let owned: Vec<_> = owned.context("accounts that nobody owns")?.into_iter().collect();
        let (owner, mut owned) = dice.pick(&owned).cloned().context("nobody owns anything")?;
        let others: Vec<Number> = self.nodes().filter(|node| *node != owner).collect();
        let through = dice.pick(&others).copied().context("a site of one node")?;
        if way == Way::Moved {
            owned.truncate(1);
        }
        // Somewhere between two renewals of its session.
        std::thread::sleep(Duration::from_millis(dice.below(2_000)));
        let begun = Instant::now();
        match way {
            Way::Dead | Way::Declared => self.take_down(owner, "takeover")?,
            Way::Restarted => {
                self.take_down(owner, "takeover")?;
                self.bring_up(owner, "takeover")?;
            }
            Way::Moved => {}
        }
        let times = std::thread::scope(|scope| -> anyhow::Result<Vec<Duration>> {
            let commanded = scope.spawn(|| match way {
                Way::Dead | Way::Restarted => Ok(()),
                Way::Declared => self
                    .ask(through, &["cluster", "declare-dead", "--yes-it-is-dead", &owner.to_string()])
                    .map(drop),
                Way::Moved => {
                    let account = owned.first().copied().unwrap_or(0);
                    self.ask(through, &["cluster", "move", &user(account), &through.to_string()]).map(drop)
                }
            });
            let each: Vec<_> = owned
                .iter()
                .map(|account| {
                    scope.spawn(move || {
                        self.deliver(through, *account, &format!("{way:?}-{round}-{account}"))?;
                        Ok(begun.elapsed())
                    })
                })
                .collect();
            let times = each.into_iter().map(|one| one.join().unwrap_or_else(|_| Ok(PATIENCE))).collect();
            commanded.join().unwrap_or(Ok(()))?;
            times
        });
        if !self.node(owner)?.runs() {
            self.bring_up(owner, "takeover")?;
        }
        times
    }

    /// Delivers, however often that must be tried.
    fn deliver(&self, through: Number, account: usize, token: &str) -> anyhow::Result<()> {
        let doors = self.arena.doors.get(usize::from(through) - 1).context("no such node")?;
        let mut attempt = 0;
        let delivered = wait::until(PATIENCE, || {
            attempt += 1;
            self.arena.deliver_one(doors, account, &format!("{token}-{attempt}"), PATIENCE).then_some(())
        });
        ensure!(delivered.is_some(), "{token} was not delivered through a{through} within {PATIENCE:?}");
        Ok(())
    }
}
