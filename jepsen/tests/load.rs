//! Idle and busy sessions for a while: `ROOST_LOAD_SECONDS=60` for as long as the README says.

use jepsen::server::Setup;
use jepsen::strangers::skip;
use jepsen::workload::load::{Options, run};

#[test]
fn idle_sessions_cost_little_and_nothing_stays_behind() -> anyhow::Result<()> {
    let setup = Setup::from_environment();
    if let Some(why) = setup.kind.missing() {
        skip("idle_sessions_cost_little_and_nothing_stays_behind", &why);
        return Ok(());
    }
    let seconds = std::env::var("ROOST_LOAD_SECONDS").map_or(Ok(10), |value| value.parse())?;
    let report = run(&Options { setup, idle: 1000, busy: 50, seconds })?;
    println!("{report:?}");
    Ok(())
}
