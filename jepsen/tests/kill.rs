//! `kill -9` at random moments, a few rounds: `ROOST_KILL_ROUNDS=200` and `ROOST_KILL_SEED=n` for more and for others.

use jepsen::server::Kind;
use jepsen::strangers::skip;
use jepsen::workload::kill::{Options, run};

fn from_environment(name: &str, otherwise: u64) -> anyhow::Result<u64> {
    std::env::var(name).map_or(Ok(otherwise), |value| Ok(value.parse()?))
}

#[test]
fn what_was_acknowledged_survives_kill_9() -> anyhow::Result<()> {
    if let Some(why) = Kind::Roost.missing() {
        skip("what_was_acknowledged_survives_kill_9", &why);
        return Ok(());
    }
    let rounds = from_environment("ROOST_KILL_ROUNDS", 10)?.try_into()?;
    let seed = from_environment("ROOST_KILL_SEED", 1)?;
    let report = run(Options { kind: Kind::Roost, rounds, seed, gentle: false })?;
    println!("{report:?}");
    Ok(())
}

/// A server that keeps no delivery keys stores a retried message twice; the check must say so.
#[test]
fn a_server_that_stores_twice_is_caught() -> anyhow::Result<()> {
    if let Some(why) = Kind::Dovecot.missing() {
        skip("a_server_that_stores_twice_is_caught", &why);
        return Ok(());
    }
    let outcome = run(Options { kind: Kind::Dovecot, rounds: 20, seed: 1, gentle: false });
    let told = outcome.map(|report| format!("{report:?}")).unwrap_or_else(|error| error.to_string());
    assert!(told.contains("is there 2 times"), "{told}");
    assert!(told.contains("--seed 1 --server dovecot"), "{told}");
    Ok(())
}
