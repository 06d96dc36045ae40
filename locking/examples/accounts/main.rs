//! What a voter needs for very many accounts: memory, a snapshot, a restart, a witness.
//!
//! `cargo run --release -p locking --example accounts -- --accounts 10000000 [--directory DIRECTORY]`

mod filled;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::time::Instant;

use filled::{Filled, resident_bytes};
use locking::raft::copy::Copy;
use locking::raft::machine::Machine;
use locking::raft::snapshot::Snapshots;
use locking::raft::{SnapshotMeta, TypeConfig};
use nfs_compat::DiskFs;
use openraft::storage::RaftStateMachine;
use openraft::{StoredMembership, testing::log_id};

type Failure = Box<dyn std::error::Error + Send + Sync>;

struct Arguments {
    accounts: u64,
    directory: Option<PathBuf>,
}

fn arguments() -> Result<Arguments, Failure> {
    let mut found = Arguments { accounts: 1_000_000, directory: None };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("{word} needs a value"))?;
        match word.as_str() {
            "--accounts" => found.accounts = value.parse()?,
            "--directory" => found.directory = Some(value.into()),
            _ => return Err(format!("no such option: {word}; there are --accounts and --directory").into()),
        }
    }
    Ok(found)
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}

/// Fills a state, and says what an account takes in it.
fn fill(accounts: u64) -> Filled {
    let mut filled = Filled::founded();
    let before = resident_bytes();
    let begun = Instant::now();
    let accepted = filled.witness(0..accounts, 1);
    let each = begun.elapsed().as_nanos() as f64 / accepted as f64;
    let taken = resident_bytes().saturating_sub(before);
    println!(
        "{accepted} accounts: {:.0} MiB resident, {:.1} bytes each; {each:.0} ns for the first witness of each",
        mib(taken),
        taken as f64 / accepted as f64
    );
    let begun = Instant::now();
    let again = filled.witness(0..accounts.min(1_000_000), 2);
    let each = begun.elapsed().as_nanos() as f64 / again as f64;
    println!("{each:.0} ns for a further one, spread over all of them");
    filled
}

/// Writes a snapshot while witnesses go on, and starts from it again.
async fn snapshot(mut filled: Filled, directory: &Path) -> Result<(), Failure> {
    let snapshots = Arc::new(Snapshots::open(Arc::new(DiskFs::new()), directory)?);
    let meta = SnapshotMeta {
        last_log_id: Some(log_id::<TypeConfig>(1, 1, 9)),
        last_membership: StoredMembership::default(),
    };
    let (frozen, writer, resident) = (filled.state.clone(), Arc::clone(&snapshots), resident_bytes());
    let begun = Instant::now();
    let writing = tokio::task::spawn_blocking(move || writer.write(&meta, &frozen));
    let meanwhile = filled.witness(0..filled.state.witness_count().min(100_000) as u64, 3);
    let written = writing.await??;
    println!(
        "snapshot: {:.2} s, {:.0} MiB; {:.0} MiB more resident than before, with {meanwhile} witnesses meanwhile",
        begun.elapsed().as_secs_f64(),
        mib(written.length()),
        mib(resident_bytes().saturating_sub(resident))
    );
    drop((filled, written));
    let begun = Instant::now();
    let newest = snapshots.newest()?.ok_or("no snapshot")?;
    let verified = begun.elapsed();
    let mut machine = Machine::new(None, Snapshots::open(Arc::new(DiskFs::new()), directory)?);
    machine.install_snapshot(&newest.0, newest.1).await?;
    println!(
        "start from the snapshot: {:.2} s, of which {:.2} s to verify it; {} accounts",
        begun.elapsed().as_secs_f64(),
        verified.as_secs_f64(),
        machine.reader().read(locking::state::State::witness_count)
    );
    copy(&machine, &directory.join("applied"))
}

/// Has the local copy made, and starts from that.
fn copy(machine: &Machine, directory: &Path) -> Result<(), Failure> {
    let begun = Instant::now();
    let resident = resident_bytes();
    let (copy, _) = Copy::open(directory, 1)?;
    let (stop, thread) = copy.follow(machine.reader())?;
    drop(stop);
    thread.join().map_err(|_| "the copy's thread panicked")?;
    println!(
        "local copy, made anew: {:.1} s, {:.0} MiB more resident meanwhile",
        begun.elapsed().as_secs_f64(),
        mib(resident_bytes().saturating_sub(resident))
    );
    let begun = Instant::now();
    let (_copy, found) = Copy::open(directory, 1)?;
    let found = found.ok_or("the copy is empty")?;
    println!(
        "start from the local copy: {:.1} s; {} accounts",
        begun.elapsed().as_secs_f64(),
        found.state.witness_count()
    );
    Ok(())
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let Arguments { accounts, directory } = arguments()?;
    let temporary = tempfile::tempdir()?;
    let filled = fill(accounts);
    snapshot(filled, directory.as_deref().unwrap_or(temporary.path())).await
}
