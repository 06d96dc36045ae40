//! `jepsen`: what the tests run, by hand and for longer.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand, ValueEnum};
use jepsen::hosts::{Missing, inside, is_inside, missing};
use jepsen::lab;
use jepsen::server::{Kind, Setup};
use jepsen::shared;
use jepsen::site::{self, neighbours, rollback, takeover};
use jepsen::workload::garbage::{self, Verdict};
use jepsen::workload::{bugs, compare, kill, load, lock, scale};

/// What a program says that was not permitted to do anything.
const SKIPPED: u8 = 77;

/// Run strangers against a mail server and check what it promised
#[derive(Parser, Debug)]
#[command(name = "jepsen")]
struct Arguments {
    /// Server to test
    #[arg(long, value_enum, default_value = "roost", global = true)]
    server: Which,
    #[command(subcommand)]
    command: Workload,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Which {
    Roost,
    Dovecot,
}

#[derive(Subcommand, Debug)]
enum Workload {
    /// Kill the server at random moments under load; every acknowledged change must be there
    Kill {
        #[arg(long, default_value_t = 200)]
        rounds: u32,
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Stop clients and server properly instead
        #[arg(long)]
        gentle: bool,
    },
    /// Keep idle and busy sessions for a while; measure memory and look for what stays behind
    Load {
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        #[arg(long, default_value_t = 1000)]
        idle: usize,
        #[arg(long, default_value_t = 50)]
        busy: usize,
    },
    /// Measure Roost beside Dovecot, both in turns, as a ratio (build with --release)
    Compare {
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Measure a site of three nodes beside a single node, both in turns, as a ratio (build with --release)
    Scale {
        #[arg(long, default_value_t = 5)]
        rounds: usize,
    },
    /// Kill, pause and cut off three voters; grants and witnesses must be linearizable
    Lock {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        #[arg(long, default_value_t = 60)]
        seconds: u64,
        #[arg(long, default_value_t = 4)]
        buckets: usize,
        /// Each voter on a host of its own, as `site` has them
        #[arg(long)]
        hosts: bool,
        /// Plant one in the voters: early, stale or memory
        #[arg(long, value_name = "NAME")]
        bug: Option<String>,
        /// Keep the history and its timeline here
        #[arg(long, value_name = "DIRECTORY")]
        timeline: Option<PathBuf>,
    },
    /// Look for bugs that were planted in the server that ROOST_BUGGY_BIN names, ten minutes each at most
    Bugs {
        #[arg(long, default_value_t = 1)]
        seed: u64,
        /// Look for this one alone
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
        /// Add a line for each bug to this file
        #[arg(long)]
        list: Option<PathBuf>,
    },
    /// Send what no server should be sent, and damage what it keeps
    Garbage {
        /// Run this case alone
        #[arg(long)]
        case: Option<String>,
    },
    #[command(args_override_self = true)]
    /// Run a site of several nodes on hosts of their own, and do everything to it that hosts and networks do
    Site {
        #[command(flatten)]
        options: site::Options,
        /// Runs one after the other, with one seed after the other
        #[arg(long, default_value_t = 1)]
        slices: u64,
        /// Add a line for each run to this file
        #[arg(long)]
        list: Option<PathBuf>,
    },
    #[command(args_override_self = true)]
    /// Run a site whose nodes mount its mail over NFS, each a kernel of its own, and do to it what networks and file servers do
    Nfs {
        #[arg(long, value_enum, default_value = "4.2")]
        vers: lab::Version,
        #[command(flatten)]
        options: site::Options,
        /// Runs one after the other, with one seed after the other
        #[arg(long, default_value_t = 1)]
        slices: u64,
        /// Add a line for each run to this file
        #[arg(long)]
        list: Option<PathBuf>,
    },
    /// Let the file server lose what it had promised to keep; every account shows all of it, or is reported
    Rollback {
        #[command(flatten)]
        options: rollback::Lossy,
    },
    /// Let procmail, a script and a mail program change a Maildir on NFS from another client while a site serves it
    Neighbours {
        #[command(flatten)]
        options: neighbours::Beside,
    },
    /// Count what two Dovecots do to one mail store on NFS that they share, and what Roost does
    Shared {
        #[command(flatten)]
        options: shared::Options,
    },
    /// What a guest of `nfs` runs
    #[command(hide = true)]
    Agent { address: Ipv4Addr },
    /// Measure how long an account can't be changed when its owner dies, or when it is moved
    Takeover {
        #[command(flatten)]
        measured: takeover::Measured,
    },
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    let kind = match arguments.server {
        Which::Roost => Kind::Roost,
        Which::Dovecot => Kind::Dovecot,
    };
    match arguments.command {
        Workload::Kill { rounds, seed, gentle } => {
            let report = kill::run(kill::Options { kind, rounds, seed, gentle })?;
            println!("{report:#?}");
        }
        Workload::Load { seconds, idle, busy } => {
            let report = load::run(&load::Options { setup: Setup::of(kind), idle, busy, seconds })?;
            println!("{report:#?}");
        }
        Workload::Compare { rounds } => {
            print!("{}", compare::table(&compare::run(compare::Options { rounds })?)?);
        }
        Workload::Scale { rounds } => {
            let (rates, lone) = scale::run(scale::Options { rounds })?;
            print!("{}", scale::table(&rates, &lone)?);
        }
        Workload::Lock { seed, seconds, buckets, hosts, bug, timeline } => {
            if hosts && let On::Elsewhere(code) = on_hosts(false)? {
                return Ok(code);
            }
            let options = lock::Options { seed, seconds, buckets, on_hosts: hosts, bug, keep: timeline };
            let report = lock::run(&options)?;
            println!("{report:#?}");
        }
        Workload::Bugs { seed, only, list } => bugs::run(&bugs::Options { seed, only, list })?,
        Workload::Garbage { case } => garbage(kind, case.as_deref())?,
        Workload::Site { options, slices, list } => return site(&options, slices, list.as_deref()),
        Workload::Nfs { vers, options, slices, list } => {
            let options = site::Options { nfs: Some(vers), ..options };
            return site(&options, slices, list.as_deref());
        }
        Workload::Rollback { options } => {
            if let On::Elsewhere(code) = on_hosts(true)? {
                return Ok(code);
            }
            print!("{}", rollback::run(&options)?);
        }
        Workload::Neighbours { options } => {
            if let On::Elsewhere(code) = on_hosts(true)? {
                return Ok(code);
            }
            print!("{}", neighbours::run(&options)?);
        }
        Workload::Shared { options } if options.json => {
            if let On::Elsewhere(code) = on_hosts(true)? {
                return Ok(code);
            }
            println!("{}", shared::json(&options)?);
        }
        Workload::Shared { options } => print!("{}", shared::table(&options)?),
        Workload::Agent { address } => lab::agent::serve(address)?,
        Workload::Takeover { measured } => {
            if let On::Elsewhere(code) = on_hosts(false)? {
                return Ok(code);
            }
            print!("{}", takeover::run(&measured)?);
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Each slice in namespaces of its own: the whole program runs again for it.
fn site(options: &site::Options, slices: u64, list: Option<&Path>) -> anyhow::Result<ExitCode> {
    if slices > 1 {
        return series(options, slices);
    }
    if let On::Elsewhere(code) = on_hosts(options.nfs.is_some())? {
        return Ok(code);
    }
    let report = site::run(options)?;
    println!("{}", report.line());
    if let Some(list) = list {
        site::slices::record(list, &report)?;
    }
    Ok(if report.violations.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn series(options: &site::Options, slices: u64) -> anyhow::Result<ExitCode> {
    let mut all_well = true;
    for seed in (options.seed..).take(usize::try_from(slices)?) {
        let mut command = Command::new(std::env::current_exe()?);
        command.args(std::env::args_os().skip(1)).args(["--slices", "1", "--seed", &seed.to_string()]);
        all_well &= command.status()?.success();
    }
    Ok(if all_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

enum On {
    /// We are where hosts can be made.
    Hosts,
    /// Another process has done it, or nobody can.
    Elsewhere(ExitCode),
}

/// With guests, or without.
fn on_hosts(guests: bool) -> anyhow::Result<On> {
    if !is_inside() {
        match if guests { lab::missing() } else { missing() } {
            None if guests => lab::fetch()?,
            None => {}
            Some(why @ Missing::Privilege(_)) => {
                eprintln!("SKIPPED: {why}");
                return Ok(On::Elsewhere(ExitCode::from(SKIPPED)));
            }
            Some(why @ Missing::Tool(..)) => return Err(why.into()),
        }
    }
    Ok(match inside()? {
        None => On::Hosts,
        Some(status) if status.success() => On::Elsewhere(ExitCode::SUCCESS),
        Some(_) => On::Elsewhere(ExitCode::FAILURE),
    })
}

fn garbage(kind: Kind, only: Option<&str>) -> anyhow::Result<()> {
    let mut failed = 0;
    for case in garbage::CASES.iter().filter(|case| only.is_none_or(|only| only == case.name)) {
        match garbage::run(case, Setup::of(kind)) {
            Ok(Verdict::Passed) => println!("{}: passed", case.name),
            Ok(Verdict::Skipped(why)) => println!("SKIPPED: {}: {why}", case.name),
            Err(error) => {
                failed += 1;
                println!("{}: FAILED: {error:?}", case.name);
            }
        }
    }
    anyhow::ensure!(failed == 0, "{failed} cases failed");
    Ok(())
}
