//! `cargo run -p cluster-tests --release -- --seed N --schedules M --mode private|shared|lossy`: plays histories, and prints
//! the whole history when it is one.

use std::process::ExitCode;

use clap::Parser;
use cluster_tests::{Plan, many};

#[derive(Parser)]
#[command(about = "Play seeded histories of an account on a simulated world")]
struct Arguments {
    /// First seed
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Histories to play, one a seed
    #[arg(long, default_value_t = 1)]
    schedules: u64,
    /// Volume: `private` to one node, `shared` by several, or `lossy`: shared, on a server that loses what it synced
    #[arg(long, default_value = "private")]
    mode: String,
    /// Go on after a finding, and count what was found
    #[arg(long)]
    keep_going: bool,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Some(plan) = Plan::named(&arguments.mode) else {
        eprintln!("no such mode: {} (private, shared, lossy)", arguments.mode);
        return ExitCode::from(64);
    };
    if arguments.schedules == 1 {
        return one(arguments.seed, plan);
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    if arguments.keep_going {
        return survey(&arguments, plan);
    }
    let found = many::many(arguments.seed, arguments.schedules, plan, threads);
    found.iter().for_each(|found| println!("{}", found.report));
    if found.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn one(seed: u64, plan: Plan) -> ExitCode {
    match many::one(seed, plan) {
        Ok(played) => {
            print!("{}", played.history);
            ExitCode::SUCCESS
        }
        Err(found) => {
            println!("{}", found.report);
            ExitCode::FAILURE
        }
    }
}

fn survey(arguments: &Arguments, plan: Plan) -> ExitCode {
    let mut count = 0;
    for seed in arguments.seed..arguments.seed.saturating_add(arguments.schedules) {
        if let Err(found) = many::one(seed, plan) {
            println!("{seed}: {}", found.what);
            count += 1;
        }
    }
    println!("{count} of {} histories went wrong", arguments.schedules);
    if count == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
