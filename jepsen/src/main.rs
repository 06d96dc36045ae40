//! `jepsen`: what the tests run, by hand and for longer.

use clap::{Parser, Subcommand, ValueEnum};
use jepsen::server::{Kind, Setup};
use jepsen::workload::garbage::{self, Verdict};
use jepsen::workload::{compare, kill, load};

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
    /// Send what no server should be sent, and damage what it keeps
    Garbage {
        /// Run this case alone
        #[arg(long)]
        case: Option<String>,
    },
}

fn main() -> anyhow::Result<()> {
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
        Workload::Garbage { case } => garbage(kind, case.as_deref())?,
    }
    Ok(())
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
