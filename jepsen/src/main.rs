//! `jepsen`: what the tests run, by hand and for longer.

use clap::{Parser, Subcommand, ValueEnum};
use jepsen::server::{Kind, Setup};
use jepsen::workload::{kill, load};

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
    }
    Ok(())
}
