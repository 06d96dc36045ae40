//! Three nodes on hosts made of network namespaces, and what hosts and networks do to them. `ROOST_SITE_SECONDS=90` for
//! longer, `ROOST_SITE_SEED=n` for what was done another time; a seed of its own otherwise.

use std::hash::{BuildHasher as _, RandomState};
use std::process::Command;

use jepsen::hosts::{Missing, missing};
use jepsen::server::Kind;
use jepsen::strangers::skip;

/// What a minute has time for; `jepsen site` does more.
const NEMESES: &str = "cut,one-way,loss,stop,kill,bounce,kill-all,rolling,full-disk,move";

#[test]
fn a_site_whose_hosts_fail_loses_nothing() -> anyhow::Result<()> {
    const NAME: &str = "a_site_whose_hosts_fail_loses_nothing";
    if let Some(why) = Kind::Roost.missing() {
        skip(NAME, &why);
        return Ok(());
    }
    match missing() {
        None => {}
        // Whoever may not make namespaces can't run this, however much it is required.
        Some(why @ Missing::Privilege(_)) => {
            eprintln!("SKIPPED: {NAME}: {why}");
            return Ok(());
        }
        Some(why @ Missing::Tool(..)) => {
            skip(NAME, &why.to_string());
            return Ok(());
        }
    }
    let fresh = RandomState::new().hash_one(NAME) % 1_000_000;
    let seed = std::env::var("ROOST_SITE_SEED").unwrap_or_else(|_| fresh.to_string());
    let seconds = std::env::var("ROOST_SITE_SECONDS").unwrap_or_else(|_| "20".to_owned());
    let mut command = Command::new(env!("CARGO_BIN_EXE_jepsen"));
    let output =
        command.args(["site", "--seed", &seed, "--seconds", &seconds, "--nemeses", NEMESES]).output()?;
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    assert!(output.status.success(), "seed {seed}: {told}");
    Ok(())
}
