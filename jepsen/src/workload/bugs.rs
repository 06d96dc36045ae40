//! Whether the suite would find what it is there to find: a server in which a bug was planted (feature `seeded-bugs`) is
//! given to the site workload, with nemeses that may bring the bug out, until a checker says so.
//!
//! First the same server runs without a bug: what is found then is not the bug's doing.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::wait;

/// A bug must be found within this.
const FOUND_WITHIN: Duration = Duration::from_secs(600);
/// One run of the site: longer than clients work, and all is healed and read.
const RUN_SECONDS: u64 = 40;
const SHOWN_MAX: usize = 200;
const ALL: &str = "deliver,uid,flags,pop3";
/// Without a bug: everything that the bugs are given.
const NONE: Bug = Bug {
    name: "",
    nemeses: "kill,bounce,kill-all,stop,cut,flap",
    workloads: ALL,
    accounts: "8",
    rules: &["set", "uid", "flags", "pop3"],
};
/// What a program says that was not permitted to do anything.
const SKIPPED: i32 = 77;

/// A bug that can be planted.
#[derive(Clone, Copy, Debug)]
pub struct Bug {
    pub name: &'static str,
    /// What brings it out.
    nemeses: &'static str,
    workloads: &'static str,
    /// Where each is changed often, a node that can't have changes witnessed soon finds out.
    accounts: &'static str,
    /// Rules of which one must say so.
    rules: &'static [&'static str],
}

pub const BUGS: [Bug; 4] = [
    Bug {
        name: "ack-before-witness",
        nemeses: "kill,bounce,kill-all,stop,cut",
        workloads: ALL,
        accounts: "4",
        rules: &["set", "flags", "pop3"],
    },
    Bug {
        name: "epoch-check",
        nemeses: "stop,cut,flap",
        workloads: ALL,
        accounts: "4",
        rules: &["set", "uid", "flags", "pop3"],
    },
    Bug {
        name: "uid-reuse",
        nemeses: "kill,bounce,kill-all",
        workloads: ALL,
        accounts: "4",
        rules: &["uid"],
    },
    Bug {
        name: "lease-ignored",
        nemeses: "cut",
        // Many look: whoever looks at an account that is owned beyond the cut waits.
        workloads: "deliver,flags,uid,uid,uid,uid,uid",
        accounts: "12",
        rules: &["flags", "uid"],
    },
];

#[derive(Clone, Debug)]
pub struct Options {
    pub seed: u64,
    pub only: Option<String>,
    /// Adds a line for each bug to this file.
    pub list: Option<PathBuf>,
}

/// What became of one bug.
#[derive(Clone, Debug)]
struct Found {
    seed: u64,
    runs: u64,
    after: Duration,
    what: String,
}

/// Looks for each bug. An error names those that were not found.
pub fn run(options: &Options) -> anyhow::Result<()> {
    let server = std::env::var_os("ROOST_BUGGY_BIN").map(PathBuf::from);
    let server = server.context(
        "ROOST_BUGGY_BIN names no server: cargo build -p roost --features seeded-bugs, and name what it built",
    )?;
    let server =
        server.canonicalize().with_context(|| format!("ROOST_BUGGY_BIN names {}", server.display()))?;
    let bugs: Vec<Bug> =
        BUGS.into_iter().filter(|bug| options.only.as_ref().is_none_or(|only| only == bug.name)).collect();
    if bugs.is_empty() {
        bail!("no such bug: there are {}", BUGS.map(|bug| bug.name).join(", "));
    }
    control(&server, options.seed)?;
    let mut missed = Vec::new();
    for bug in bugs {
        let line = match look_for(&server, bug, options.seed)? {
            Some(Found { seed, runs, after, what }) => {
                format!(
                    "{}: found after {:.0} s in run {runs}, seed {seed}: {what}",
                    bug.name,
                    after.as_secs_f64()
                )
            }
            None => {
                missed.push(bug.name);
                format!(
                    "{}: NOT FOUND within {} s, from seed {}",
                    bug.name,
                    FOUND_WITHIN.as_secs(),
                    options.seed
                )
            }
        };
        println!("{line}");
        if let Some(list) = &options.list {
            let before = fs::read_to_string(list).unwrap_or_default();
            fs::write(list, format!("{before}{line}\n"))?;
        }
    }
    if !missed.is_empty() {
        bail!("the suite does not find {}", missed.join(", "));
    }
    Ok(())
}

/// The server without a bug. How soon it recovers is not asked here.
fn control(server: &Path, seed: u64) -> anyhow::Result<()> {
    let (status, told) = site(server, NONE, seed, FOUND_WITHIN)?;
    if let Some(what) = finding(&told, NONE.rules) {
        bail!("without a bug the run with seed {seed} finds {what}\n{told}");
    }
    if status.is_none() || !told.contains("verdict=") {
        bail!("without a bug the run with seed {seed} shows nothing:\n{told}");
    }
    println!("without a bug: no rule is broken, seed {seed}");
    Ok(())
}

fn look_for(server: &Path, bug: Bug, seed: u64) -> anyhow::Result<Option<Found>> {
    let begun = Instant::now();
    for (runs, seed) in (1..).zip(seed..) {
        let left = FOUND_WITHIN.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return Ok(None);
        }
        let (_, told) = site(server, bug, seed, left)?;
        if let Some(what) = finding(&told, bug.rules) {
            return Ok(Some(Found { seed, runs, after: begun.elapsed(), what }));
        }
    }
    Ok(None)
}

/// The first violation of one of these rules.
fn finding(told: &str, rules: &[&str]) -> Option<String> {
    let is_one = |line: &&str| rules.iter().any(|rule| line.starts_with(&format!("{rule}: account ")));
    let found = told.lines().map(str::trim).find(is_one)?;
    Some(found.chars().take(SHOWN_MAX).collect())
}

/// One run of the site on hosts of their own, and what it said; no status if it was cut short.
fn site(
    server: &Path,
    bug: Bug,
    seed: u64,
    patience: Duration,
) -> anyhow::Result<(Option<ExitStatus>, String)> {
    let dir = tempfile::tempdir()?;
    let said = dir.path().join("said");
    let file = File::create(&said)?;
    let (seed, seconds) = (seed.to_string(), RUN_SECONDS.to_string());
    let mut command = Command::new(std::env::current_exe()?);
    command.args(["site", "--seed", &seed, "--seconds", &seconds, "--lease", "3s"]);
    let Bug { name, nemeses, workloads, accounts, .. } = bug;
    command.args(["--nemeses", nemeses, "--workloads", workloads, "--accounts", accounts]);
    command.env("ROOST_BIN", server).env_remove("ROOST_SEEDED_BUG");
    // What a run with violations keeps is not kept.
    command.env("TMPDIR", dir.path());
    if !name.is_empty() {
        command.env("ROOST_SEEDED_BUG", name);
    }
    let mut child =
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file).spawn().context("jepsen site")?;
    let ended = wait::until(patience, || child.try_wait().transpose()).transpose()?;
    if ended.is_none() {
        // What it started dies with it.
        child.kill()?;
        let _reaped = child.wait();
    }
    let told = String::from_utf8_lossy(&fs::read(&said)?).into_owned();
    if ended.and_then(|status| status.code()) == Some(SKIPPED) {
        bail!("{}", told.trim());
    }
    Ok((ended, told))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finding_is_a_violation_of_a_rule_that_knows_the_bug() {
        let told = "seed=1 ok\nliveness: late\n  uid: account 3: INBOX: UIDNEXT fell\n";
        assert_eq!(finding(told, &["set", "uid"]).as_deref(), Some("uid: account 3: INBOX: UIDNEXT fell"));
        assert_eq!(finding(told, &["set"]), None);
    }
}
