//! The network between hosts, link by link and direction by direction.
//!
//! Invariants
//! - What is lost is lost silently: nobody is told that a link is cut, connections that exist included.
//! - The rules of a host follow from the state of its links; many may change them, and each change is whole.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};

use anyhow::{Context as _, bail};

use super::{Number, address, name, words};

/// One direction between two hosts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    pub cut: bool,
    /// Packets lost, of a hundred.
    pub loss: u8,
}

#[derive(Debug)]
pub struct Network {
    hosts: Number,
    /// `links[to][from]`.
    links: Mutex<Vec<Vec<Link>>>,
    delays: bool,
}

impl Network {
    pub(super) fn new(hosts: Number) -> anyhow::Result<Self> {
        let count = usize::from(hosts) + 1;
        // Some kernels can delay packets, some can't.
        let delays = words("tc qdisc add dev port1 root netem delay 1ms").is_ok();
        if delays {
            words("tc qdisc del dev port1 root")?;
        }
        Ok(Self { hosts, links: Mutex::new(vec![vec![Link::default(); count]; count]), delays })
    }

    pub fn hosts(&self) -> impl Iterator<Item = Number> {
        1..=self.hosts
    }

    /// Changes some of the directions between two hosts.
    pub fn change(&self, change: impl Fn(Number, Number, &mut Link)) -> anyhow::Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        for to in self.hosts() {
            for from in self.hosts().filter(|from| *from != to) {
                let row = links.get_mut(usize::from(to)).context("no such host")?;
                change(from, to, row.get_mut(usize::from(from)).context("no such host")?);
            }
            let row = links.get(usize::from(to)).context("no such host")?;
            self.apply(to, row)?;
        }
        Ok(())
    }

    fn apply(&self, to: Number, links: &[Link]) -> anyhow::Result<()> {
        let mut rules = String::from(
            "add table inet jepsen\nadd chain inet jepsen in { type filter hook input priority 0; }\n\
             flush chain inet jepsen in\n",
        );
        for from in self.hosts() {
            let Link { cut, loss } = links.get(usize::from(from)).copied().unwrap_or_default();
            let source = address(from);
            if cut {
                rules.push_str(&format!("add rule inet jepsen in ip saddr {source} drop\n"));
            } else if loss > 0 {
                rules.push_str(&format!(
                    "add rule inet jepsen in ip saddr {source} numgen random mod 100 < {loss} drop\n"
                ));
            }
        }
        filter(to, &rules)
    }

    /// Pulls a host's cable out or puts it back: clients can't reach it either.
    pub fn cable(&self, host: Number, plugged: bool) -> anyhow::Result<()> {
        words(&format!("ip link set port{host} {}", if plugged { "up" } else { "down" })).map(drop)
    }

    /// Makes what a host is sent late: by a delay, or where the kernel has none by a link so slow that packets queue.
    /// Tells which.
    pub fn slow(&self, host: Number, milliseconds: u64) -> anyhow::Result<String> {
        let how = if self.delays {
            format!("netem delay {milliseconds}ms {}ms", milliseconds / 3)
        } else {
            format!("tbf rate 256kbit burst 2kb latency {milliseconds}ms")
        };
        words(&format!("tc qdisc replace dev port{host} root {how}"))?;
        Ok(how)
    }

    pub fn fast(&self, host: Number) -> anyhow::Result<()> {
        words(&format!("tc qdisc del dev port{host} root")).map(drop)
    }
}

/// Gives a host its filter, all of it at once.
fn filter(host: Number, rules: &str) -> anyhow::Result<()> {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{}", name(host))).args(["nft", "-f", "-"]);
    let mut child = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("nft refused\n{rules}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
