//! Three nodes that mount their mail from a file server, each a Linux kernel of its own, over NFSv3 or NFSv4.2 in turns.
//! `ROOST_NFS_SECONDS=90` for longer, `ROOST_NFS_SEED=n` for what was done another time (even: v4.2, odd: v3); a seed of its
//! own otherwise.

use std::hash::{BuildHasher as _, RandomState};
use std::process::Command;

use jepsen::hosts::Missing;
use jepsen::lab::missing;
use jepsen::server::Kind;
use jepsen::strangers::{find, skip};

/// What half a minute has time for; `jepsen nfs` does more.
const NEMESES: &str =
    "server-restart,server-cut,server-one-way,power-off,kill,stop,export-full,export-read-only";

/// Whether there can be guests here.
fn guests_for(test: &str) -> bool {
    if let Some(why) = Kind::Roost.missing() {
        skip(test, &why);
        return false;
    }
    match missing() {
        None => true,
        // Whoever may not make namespaces and links can't run this, however much it is required.
        Some(why @ Missing::Privilege(_)) => {
            eprintln!("SKIPPED: {test}: {why}");
            false
        }
        Some(why @ Missing::Tool(..)) => {
            skip(test, &why.to_string());
            false
        }
    }
}

#[test]
fn a_site_over_nfs_loses_nothing_when_its_file_server_fails() -> anyhow::Result<()> {
    const NAME: &str = "a_site_over_nfs_loses_nothing_when_its_file_server_fails";
    if !guests_for(NAME) {
        return Ok(());
    }
    let fresh = RandomState::new().hash_one(NAME) % 1_000_000;
    let seed: u64 = std::env::var("ROOST_NFS_SEED").map_or(Ok(fresh), |seed| seed.parse())?;
    let seconds = std::env::var("ROOST_NFS_SECONDS").unwrap_or_else(|_| "20".to_owned());
    let version = if seed.is_multiple_of(2) { "4.2" } else { "3" };
    let seed = seed.to_string();
    play(&["nfs", "--vers", version, "--seed", &seed, "--seconds", &seconds, "--nemeses", NEMESES])
}

#[test]
fn what_neighbours_on_the_mount_do_is_seen_at_every_node_in_time() -> anyhow::Result<()> {
    const NAME: &str = "what_neighbours_on_the_mount_do_is_seen_at_every_node_in_time";
    for program in ["neomutt", "script"] {
        if find(program).is_none() {
            skip(NAME, &format!("no {program} here"));
            return Ok(());
        }
    }
    if !guests_for(NAME) {
        return Ok(());
    }
    let seed = RandomState::new().hash_one(NAME) % 1_000_000;
    let version = if seed.is_multiple_of(2) { "3" } else { "4.2" };
    play(&["neighbours", "--vers", version, "--seed", &seed.to_string(), "--rounds", "1"])
}

fn play(arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_jepsen")).args(arguments).output()?;
    let told =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{told}");
    assert!(output.status.success(), "jepsen {}: {told}", arguments.join(" "));
    Ok(())
}
