//! Three voters that are killed, paused and cut off for a while: `ROOST_LOCK_SECONDS=600` and `ROOST_LOCK_SEED=n` for more
//! and for others.

use jepsen::strangers::skip;
use jepsen::workload::lock::{Options, missing, run};

fn from_environment(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    std::env::var(name).map_or(Ok(otherwise), |value| Ok(value.parse()?))
}

#[test]
fn grants_and_witnesses_are_linearizable_whatever_is_done_to_the_voters() -> anyhow::Result<()> {
    if let Some(why) = missing() {
        skip("grants_and_witnesses_are_linearizable_whatever_is_done_to_the_voters", &why);
        return Ok(());
    }
    let (seed, seconds) =
        (from_environment("ROOST_LOCK_SEED", 1)?, from_environment("ROOST_LOCK_SECONDS", 20)?);
    let report = run(&Options { seed, seconds, buckets: 4, on_hosts: false, bug: None, keep: None })?;
    println!("{report:?}");
    Ok(())
}

#[test]
fn voters_that_accept_under_an_epoch_that_is_over_are_caught() -> anyhow::Result<()> {
    if let Some(why) = missing() {
        skip("voters_that_accept_under_an_epoch_that_is_over_are_caught", &why);
        return Ok(());
    }
    let dir = tempfile::tempdir()?;
    let (bug, keep) = (Some("stale".to_owned()), Some(dir.path().to_owned()));
    let outcome = run(&Options { seed: 1, seconds: 10, buckets: 4, on_hosts: false, bug, keep });
    let told = outcome.map(|report| format!("{report:?}")).unwrap_or_else(|error| error.to_string());
    assert!(told.contains("lock: bucket"), "{told}");
    Ok(())
}
