//! The network between hosts, link by link and direction by direction.
//!
//! Invariants
//! - What is lost is lost silently: nobody is told that a link is cut, connections that exist included.
//! - The rules of a host follow from the state of its links; many may change them, and each change is whole.

use std::io::Write as _;
use std::ops::RangeInclusive;
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

/// Who drops what is not to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Filter {
    /// The host that it is for.
    AtHosts,
    /// We, who forward between hosts.
    Forwarding,
}

/// The link of ours that leads to a host to which we forward.
pub(crate) fn link(host: Number) -> String {
    format!("tap{host}")
}

#[derive(Debug)]
pub struct Network {
    hosts: RangeInclusive<Number>,
    filter: Filter,
    /// `links[to][from]`.
    links: Mutex<Vec<Vec<Link>>>,
    delays: bool,
}

impl Network {
    /// Hosts at one switch.
    pub(super) fn switched(hosts: Number) -> anyhow::Result<Self> {
        // Some kernels can delay packets, some can't.
        let delays = words("tc qdisc add dev port1 root netem delay 1ms").is_ok();
        if delays {
            words("tc qdisc del dev port1 root")?;
        }
        Ok(Self { delays, ..Self::of(1..=hosts, Filter::AtHosts) })
    }

    /// Hosts between which we forward.
    pub(crate) fn forwarded(hosts: RangeInclusive<Number>) -> Self {
        Self::of(hosts, Filter::Forwarding)
    }

    fn of(hosts: RangeInclusive<Number>, filter: Filter) -> Self {
        let count = usize::from(*hosts.end()) + 1;
        let links = Mutex::new(vec![vec![Link::default(); count]; count]);
        Self { hosts, filter, links, delays: false }
    }

    pub fn hosts(&self) -> impl Iterator<Item = Number> + use<> {
        self.hosts.clone()
    }

    /// Changes some of the directions between two hosts.
    pub fn change(&self, change: impl Fn(Number, Number, &mut Link)) -> anyhow::Result<()> {
        let mut links = self.links.lock().unwrap_or_else(PoisonError::into_inner);
        for to in self.hosts() {
            for from in self.hosts().filter(|from| *from != to) {
                let row = links.get_mut(usize::from(to)).context("no such host")?;
                change(from, to, row.get_mut(usize::from(from)).context("no such host")?);
            }
        }
        let rows = links.iter().skip(usize::from(*self.hosts.start()));
        match self.filter {
            Filter::AtHosts => self.hosts().zip(rows).try_for_each(|(to, row)| {
                let rules = self.rules(row, |from| format!("ip saddr {}", address(from)));
                filter(
                    Command::new("nsenter").arg(format!("--net=/run/netns/{}", name(to))).arg("nft"),
                    "input",
                    &rules,
                )
            }),
            Filter::Forwarding => {
                let rules: String = self
                    .hosts()
                    .zip(rows)
                    .map(|(to, row)| {
                        self.rules(row, |from| format!("iifname {} oifname {}", link(from), link(to)))
                    })
                    .collect();
                filter(&mut Command::new("nft"), "forward", &rules)
            }
        }
    }

    /// What one host is not to hear.
    fn rules(&self, links: &[Link], is_from: impl Fn(Number) -> String) -> String {
        let each = self.hosts().map(|from| {
            let Link { cut, loss } = links.get(usize::from(from)).copied().unwrap_or_default();
            let which = is_from(from);
            match (cut, loss) {
                (true, _) => format!("add rule inet jepsen drops {which} drop\n"),
                (false, 0) => String::new(),
                (false, loss) => {
                    format!("add rule inet jepsen drops {which} numgen random mod 100 < {loss} drop\n")
                }
            }
        });
        each.collect()
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

/// Gives an `nft` its rules, all of them at once.
fn filter(nft: &mut Command, hook: &str, rules: &str) -> anyhow::Result<()> {
    let rules = format!(
        "add table inet jepsen\nadd chain inet jepsen drops {{ type filter hook {hook} priority 0; }}\n\
         flush chain inet jepsen drops\n{rules}"
    );
    let mut child = nft.args(["-f", "-"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    child.stdin.take().context("no stdin")?.write_all(rules.as_bytes())?;
    let output = child.wait_with_output()?;
    if !output.status.success() {
        bail!("nft refused\n{rules}{}", String::from_utf8_lossy(&output.stderr));
    }
    Ok(())
}
