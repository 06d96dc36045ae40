//! What one host sees of names while they change: a reader against a writer, for a bounded number of rounds.
//!
//! Invariants
//! - A name that is being replaced is always there, with one file's bytes or the other's.
//! - A listing that misses files which nobody touched is warned of; what it says of the one that moves is not.

use std::ffi::OsStr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Finding, Report, Severity};
use crate::{Fs, Result, publish};

const ROUNDS: usize = 60;
/// Enough for a directory to have more than one block at most servers.
const STEADY_FILES: usize = 150;

pub(super) fn run(fs: &dyn Fs, directory: &Path, report: &mut Report) {
    let raced = replacing(fs, directory, report).and_then(|()| listing(fs, directory, report));
    if let Err(error) = raced {
        let change = "see what the error says; run `roost doctor` again";
        report.add(Finding::new(Severity::Warn, "race", format!("a trial came to no end: {error}"), change));
    }
}

/// Runs the writer's rounds in a thread, and the reader's until they end. At least one of these is run.
fn against(write: impl Fn() -> Result<()> + Send + Sync, mut read: impl FnMut() -> Result<()>) -> Result<()> {
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = (0..ROUNDS).try_for_each(|_| write());
            done.store(true, Ordering::Release);
            written
        });
        let mut outcome = Ok(());
        loop {
            let is_last = done.load(Ordering::Acquire);
            outcome = outcome.and_then(|()| read());
            if is_last {
                break;
            }
        }
        // A thread that panicked has nothing to add to its message.
        writer.join().unwrap_or(Ok(())).and(outcome)
    })
}

fn replacing(fs: &dyn Fs, directory: &Path, report: &mut Report) -> Result<()> {
    let path = directory.join("replaced");
    publish(fs, directory, "replaced", &[b'a'; 512])?;
    let toggle = AtomicBool::new(false);
    let write = || {
        let byte = if toggle.fetch_xor(true, Ordering::AcqRel) { b'a' } else { b'b' };
        publish(fs, directory, "replaced", &[byte; 512])
    };
    let (mut missing, mut mixed) = (false, false);
    let read = || {
        match fs.read(&path, 1024) {
            Err(error) if error.is_not_found() => missing = true,
            // The file was replaced after it was opened (NFS 3): it was there.
            Err(error) if error.kind == crate::ErrorKind::Stale => {}
            bytes => {
                let bytes = bytes?;
                mixed |= bytes.len() != 512 || bytes.iter().any(|byte| byte != &bytes[0]);
            }
        }
        Ok(())
    };
    against(write, read)?;
    for (seen, what) in [
        (missing, "while a file is replaced by a rename, its name is missing for a moment"),
        (mixed, "while a file is replaced by a rename, its name shows a mixture of both files"),
    ] {
        if seen {
            let change = "use a local disk, or NFS 4.2 from a server that keeps POSIX's rules";
            report.add(Finding::new(Severity::Refuse, "rename", what, change));
        }
    }
    Ok(())
}

fn listing(fs: &dyn Fs, directory: &Path, report: &mut Report) -> Result<()> {
    let listed = directory.join("listed");
    fs.create_dir(&listed)?;
    for number in 0..STEADY_FILES {
        drop(fs.create(&listed.join(format!("steady.{number}:2,S")))?);
    }
    let names = [listed.join("moving:2,"), listed.join("moving:2,S")];
    drop(fs.create(&names[0])?);
    let at = AtomicBool::new(false);
    let write = || {
        let (from, to) = if at.fetch_xor(true, Ordering::AcqRel) { (1, 0) } else { (0, 1) };
        fs.rename(&names[from], &names[to])
    };
    let (mut lists, mut short, mut odd) = (0_u64, 0_u64, 0_u64);
    let read = || {
        let entries = fs.read_dir(&listed)?;
        let is_moving = |name: &OsStr| name.to_string_lossy().starts_with("moving");
        let moving = entries.iter().filter(|entry| is_moving(&entry.name)).count();
        lists += 1;
        short += u64::from(entries.len() - moving != STEADY_FILES);
        odd += u64::from(moving != 1);
        Ok(())
    };
    against(write, read)?;
    if short > 0 {
        let what = format!(
            "{short} of {lists} listings missed files that nobody touched, while another was renamed"
        );
        let change =
            "nothing for Roost, which does not go by listings; keep other mail programs off this tree";
        report.add(Finding::new(Severity::Warn, "listing", what, change));
    } else if odd > 0 {
        let what =
            format!("{odd} of {lists} listings showed a file that was being renamed twice or not at all");
        let change = "nothing: POSIX allows it, and Roost does not go by listings";
        report.add(Finding::new(Severity::Note, "listing", what, change));
    }
    Ok(())
}
