//! Many histories on all cores: each thread has seeds of its own, and nothing in common.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::Plan;
use crate::schedule::{self, Played};

/// Lines of a history that a failure shows.
const TAIL: usize = 150;

/// A history in which something was wrong.
#[derive(Debug)]
pub struct Found {
    pub seed: u64,
    pub what: String,
    pub report: String,
}

/// Plays one seed; a panic of the code is a finding too.
pub fn one(seed: u64, plan: Plan) -> Result<Played, Found> {
    let played = catch_unwind(AssertUnwindSafe(|| schedule::run(seed, plan)));
    let (what, tail) = match played {
        Ok(Played { wrong: None, history }) => return Ok(Played { wrong: None, history }),
        Ok(Played { wrong: Some(what), history }) => (what, last_lines(&history)),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("?");
            (format!("panic: {text}"), String::new())
        }
    };
    let mode = plan.mode();
    let report = format!(
        "{tail}\n\nseed {seed} ({mode} volume): {what}\nreplay: cargo run -p cluster-tests --release -- --seed {seed} --mode {mode}\n"
    );
    Err(Found { seed, what, report })
}

fn last_lines(history: &str) -> String {
    let lines: Vec<_> = history.lines().collect();
    lines[lines.len().saturating_sub(TAIL)..].join("\n")
}

/// Plays `count` seeds from `first` on, and returns the first finding of each thread, lowest seed first.
pub fn many(first: u64, count: u64, plan: Plan, threads: usize) -> Vec<Found> {
    let next = AtomicU64::new(first);
    let stop = AtomicBool::new(false);
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first.saturating_add(count) {
                break;
            }
            if let Err(found) = one(seed, plan) {
                stop.store(true, Ordering::Relaxed);
                return Some(found);
            }
        }
        None
    };
    let mut found: Vec<_> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok().flatten()).collect()
    });
    found.sort_by_key(|found| found.seed);
    found
}
