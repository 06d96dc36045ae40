//! What programs do to mail that they share over NFS without agreeing with each other, counted: two Dovecots as Debian has
//! them, on two clients of one export, over one mdbox or one Maildir. And the same load on Roost.
//!
//! Clients of both servers deliver, set flags and expunge, in the same accounts. Then nobody works any more until the last
//! old view is over, everything is read, and compared with what was acknowledged.
//!
//! Invariants
//! - Only what was acknowledged is counted, and a delivery is never tried again: what is doubled was doubled by the server.
//! - A message is either one to be expunged or one to be flagged, by its token: who misses one knows why.

mod dovecot;
mod load;
mod tally;

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use crate::lab;
use crate::site::{self, Site};
use dovecot::Dovecots;
pub use tally::Tally;

/// What shares the mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum System {
    /// Two Dovecots over mdbox, with defaults
    Mdbox,
    /// Two Dovecots over Maildir, with defaults
    Maildir,
    /// Over mdbox, with the options that Dovecot's documentation advises for NFS
    MdboxAdvised,
    /// Over Maildir, with these
    MaildirAdvised,
    /// Two nodes of a site of three
    Roost,
}

impl System {
    fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    fn heading(self) -> &'static str {
        match self {
            Self::Mdbox => "two Dovecots, mdbox",
            Self::Maildir => "two Dovecots, Maildir",
            Self::MdboxAdvised => "mdbox, advised options",
            Self::MaildirAdvised => "Maildir, advised options",
            Self::Roost => "Roost, Maildir",
        }
    }
}

#[derive(Args, Clone, Debug)]
pub struct Options {
    #[arg(long, value_enum, default_value = "4.2")]
    pub vers: lab::Version,
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// How long clients work
    #[arg(long, default_value_t = 60)]
    pub seconds: u64,
    #[arg(long, default_value_t = 2)]
    pub accounts: usize,
    #[arg(long, value_enum, value_delimiter = ',', default_values_t = System::value_variants().to_vec())]
    pub systems: Vec<System>,
    /// Print what was counted as JSON instead of a table; for one system
    #[arg(long)]
    pub json: bool,
}

/// What one system came to.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Column {
    heading: String,
    tally: Tally,
}

/// A table, for which this program runs again for each system: each in namespaces of its own.
pub fn table(options: &Options) -> anyhow::Result<String> {
    let mut columns = Vec::new();
    for system in &options.systems {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(["shared", "--json", "--systems", &system.name(), "--vers", options.vers.name()]);
        command.args(["--seed", &options.seed.to_string(), "--seconds", &options.seconds.to_string()]);
        let output = command.args(["--accounts", &options.accounts.to_string()]).output()?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "{}: {said}", system.name());
        let column: Column = serde_json::from_slice(&output.stdout).with_context(|| said.into_owned())?;
        columns.push(column);
    }
    let mut told = "| ".to_owned();
    for column in &columns {
        write!(told, "| {} ", column.heading)?;
    }
    writeln!(told, "|\n|{}", "---|".repeat(columns.len() + 1))?;
    for (row, what) in tally::ROWS.iter().enumerate() {
        write!(told, "| {what} ")?;
        for column in &columns {
            write!(told, "| {} ", column.tally.rows().get(row).copied().unwrap_or_default())?;
        }
        writeln!(told, "|")?;
    }
    Ok(told)
}

/// One system. Only inside of namespaces of our own.
pub fn json(options: &Options) -> anyhow::Result<String> {
    let system = *options.systems.first().context("no system")?;
    let tally = match system {
        System::Mdbox | System::Maildir | System::MdboxAdvised | System::MaildirAdvised => {
            let dovecots = Dovecots::start(options, system)?;
            let tally = measure(options, dovecots.addresses()?)?;
            Tally { errors: dovecots.errors()?, ..tally }
        }
        System::Roost => {
            let site = Site::start(&site::Options {
                seed: options.seed,
                seconds: 0,
                workloads: Vec::new(),
                nemeses: Vec::new(),
                lease: 5,
                nodes: 3,
                accounts: options.accounts,
                keep: false,
                nfs: Some(options.vers),
                neighbours: 0,
            })?;
            let addresses = [site.lab()?.client(1)?.address(), site.lab()?.client(2)?.address()];
            let tally = measure(options, addresses)?;
            Tally { errors: site.errors(), ..tally }
        }
    };
    Ok(serde_json::to_string(&Column { heading: system.heading().to_owned(), tally })?)
}

fn measure(options: &Options, servers: [Ipv4Addr; 2]) -> anyhow::Result<Tally> {
    let ledger = load::run(options.seed, servers, options.accounts, Duration::from_secs(options.seconds));
    // An NFS client believes what it has for a minute at most.
    std::thread::sleep(Duration::from_secs(65));
    let readings = load::read(servers, options.accounts);
    Ok(tally::count(&ledger, &readings))
}
