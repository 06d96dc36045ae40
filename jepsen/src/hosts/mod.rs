//! Hosts made of network namespaces: each with an interface, an address, a disk for its state and a clock that started
//! when it did, all on one switch.
//!
//! Invariants
//! - Everything lies in namespaces of one process tree ([`inside()`]): two runs don't meet, and nothing that runs, is mounted
//!   or has an address is left of a run, however it ends.
//! - Clients sit at the switch: what cuts hosts from each other does not cut clients from hosts.
//! - What can't be made here is an error that names it ([`Missing`]), never passed over.

pub mod disk;
mod inside;
pub mod network;

use std::ffi::OsStr;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

pub use inside::{Missing, inside, is_inside, missing};

/// Hosts are numbered from 1, as nodes are.
pub type Number = u8;

/// Where clients are: the switch itself.
const SWITCH: &str = "10.7.0.254/24";

pub fn address(host: Number) -> Ipv4Addr {
    Ipv4Addr::new(10, 7, 0, host)
}

fn name(host: Number) -> String {
    format!("h{host}")
}

/// Makes the switch and as many hosts as this. Only inside of namespaces of our own.
pub fn make(count: Number) -> anyhow::Result<network::Network> {
    std::fs::create_dir_all("/run/netns")?;
    tool("mount", ["-t", "tmpfs", "tmpfs", "/run/netns"])?;
    words("ip link set lo up")?;
    words("ip link add name switch type bridge forward_delay 0")?;
    words(&format!("ip addr add {SWITCH} dev switch"))?;
    words("ip link set switch up")?;
    for host in 1..=count {
        let name = name(host);
        words(&format!("ip netns add {name}"))?;
        words(&format!("ip link add name port{host} type veth peer name eth0 netns {name}"))?;
        words(&format!("ip link set port{host} master switch up"))?;
        words(&format!("ip -n {name} addr add {}/24 dev eth0", address(host)))?;
        words(&format!("ip -n {name} link set eth0 up"))?;
        words(&format!("ip -n {name} link set lo up"))?;
    }
    network::Network::switched(count)
}

/// A command that runs on a host whose monotonic clocks are this many seconds ahead of ours.
pub fn command(host: Number, clock_ahead_s: u64, program: &Path) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", name(host))).arg("--");
    let ahead = clock_ahead_s.to_string();
    command.args(["unshare", "--time", "--monotonic", &ahead, "--boottime", &ahead, "--"]);
    command.arg(program).stdin(Stdio::null());
    command
}

/// Runs a command given as words.
pub(crate) fn words(line: &str) -> anyhow::Result<String> {
    let mut words = line.split(' ');
    tool(words.next().context("no command")?, words)
}

/// Runs a tool to its end; what it wrote, or an error with what it complained of.
pub fn tool<S: AsRef<OsStr>>(
    program: &str,
    arguments: impl IntoIterator<Item = S>,
) -> anyhow::Result<String> {
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("cannot run {program}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        bail!("{command:?} failed ({}): {said}", output.status);
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
