//! Three voters, each a process of its own, joined by ways that can be cut: on hosts of their own by the network, on one
//! machine by [`Way`]s.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dice::Dice;
use crate::hosts::{self, network::Network};
use crate::server::free_port;
use crate::ways::Way;

pub(super) const NODES: [u8; 3] = [1, 2, 3];
/// On a host of its own: where clients ask, and with the caller's number added where that one calls.
const PORT: u16 = 7100;
static SITES: AtomicU32 = AtomicU32::new(0);
const LOG_TAIL_LINES: usize = 25;

/// `ROOST_LOCK_NODE`, or the example that cargo built beside us.
pub(super) fn binary() -> anyhow::Result<PathBuf> {
    if let Some(named) = std::env::var_os("ROOST_LOCK_NODE") {
        let path = PathBuf::from(named);
        return path.canonicalize().with_context(|| format!("ROOST_LOCK_NODE names {}", path.display()));
    }
    let ours = std::env::current_exe()?;
    // target/debug/jepsen, or target/debug/deps/some_test-0123.
    let mut beside = ours.ancestors().skip(1).take(2).map(|dir| dir.join("examples").join("lock_node"));
    let found = beside.find(|path| path.is_file());
    found.context(
        "no lock_node: build it (cargo build -p locking --example lock_node), or name it in ROOST_LOCK_NODE",
    )
}

pub(super) struct Node {
    pub(super) number: u8,
    pub(super) address: SocketAddr,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    child: Option<Child>,
    on_host: bool,
}

/// What joins the nodes.
enum Joined {
    /// From, to.
    Ways(BTreeMap<(u8, u8), Way>),
    Network(Network),
}

pub(super) struct Site {
    pub(super) nodes: Vec<Node>,
    joined: Joined,
}

/// Where everybody is: who listens for whom, how they are reached, and where clients ask.
struct Map {
    doors: BTreeMap<(u8, u8), SocketAddr>,
    reached: BTreeMap<(u8, u8), SocketAddr>,
    asked: BTreeMap<u8, SocketAddr>,
}

fn pairs() -> impl Iterator<Item = (u8, u8)> {
    NODES.into_iter().flat_map(|from| NODES.map(|to| (from, to))).filter(|(from, to)| from != to)
}

impl Map {
    fn of_ways(ways: &mut BTreeMap<(u8, u8), Way>) -> anyhow::Result<Self> {
        // Not from the run's seed: runs with the same seed go on side by side, also in one process.
        let site = u64::from(SITES.fetch_add(1, Ordering::Relaxed));
        let mut dice = Dice::part(u64::from(std::process::id()), 1000 + site);
        let (mut doors, mut reached, mut asked) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for pair in pairs() {
            let door = free_port(&mut dice)?;
            let way = Way::open(free_port(&mut dice)?, door)?;
            doors.insert(pair, door);
            reached.insert(pair, way.address());
            ways.insert(pair, way);
        }
        for node in NODES {
            asked.insert(node, free_port(&mut dice)?);
        }
        Ok(Self { doors, reached, asked })
    }

    fn of_hosts() -> Self {
        let at = |(from, to): (u8, u8)| ((from, to), (hosts::address(to), PORT + u16::from(from)).into());
        let doors: BTreeMap<_, SocketAddr> = pairs().map(at).collect();
        let asked = NODES.map(|node| (node, (hosts::address(node), PORT).into()));
        Self { reached: doors.clone(), doors, asked: asked.into() }
    }
}

impl Site {
    pub(super) fn prepare(
        dir: &Path,
        lease: Duration,
        on_hosts: bool,
        bug: Option<&str>,
    ) -> anyhow::Result<Self> {
        let program = binary()?;
        let mut ways = BTreeMap::new();
        let map = if on_hosts { Map::of_hosts() } else { Map::of_ways(&mut ways)? };
        let joined = if on_hosts { Joined::Network(hosts::make(3)?) } else { Joined::Ways(ways) };
        let mut nodes = Vec::new();
        for (number, address) in map.asked {
            let state = dir.join(format!("node{number}"));
            fs::create_dir_all(&state)?;
            let lease = lease.as_millis().to_string();
            let mut arguments =
                vec![number.to_string(), state.display().to_string(), lease, address.to_string()];
            let doors = map.doors.iter().filter(|((_, to), _)| *to == number);
            arguments.extend(doors.map(|((from, _), door)| format!("accept:{from}={door}")));
            let reached = map.reached.iter().filter(|((from, _), _)| *from == number);
            arguments.extend(reached.map(|((_, to), way)| format!("reach:{to}={way}")));
            arguments.extend(bug.map(|bug| format!("bug:{bug}")));
            let log = dir.join(format!("node{number}.log"));
            let program = program.clone();
            nodes.push(Node { number, address, program, arguments, log, child: None, on_host: on_hosts });
        }
        Ok(Self { nodes, joined })
    }

    /// Of these directions nothing passes any more, or all does again.
    pub(super) fn cut(&self, directions: &[(u8, u8)], cut: bool) -> anyhow::Result<()> {
        match &self.joined {
            Joined::Network(network) => network.change(|from, to, link| {
                if directions.contains(&(from, to)) {
                    link.cut = cut;
                }
            }),
            Joined::Ways(ways) => {
                for way in directions.iter().filter_map(|direction| ways.get(direction)) {
                    if cut { way.cut() } else { way.heal() }
                }
                Ok(())
            }
        }
    }

    pub(super) fn log_tails(&self) -> String {
        let tail = |node: &Node| {
            let log = fs::read(&node.log).unwrap_or_default();
            let log = String::from_utf8_lossy(&log).into_owned();
            let lines: Vec<&str> = log.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n");
            format!("--- the log of node {} ends:\n{tail}\n", node.number)
        };
        self.nodes.iter().map(tail).collect()
    }
}

impl Node {
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        if self.child.is_some() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(&self.log)?;
        let mut command = match self.on_host {
            true => hosts::command(self.number, 0, &self.program),
            false => Command::new(&self.program),
        };
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        self.child = Some(command.process_group(0).spawn().context("lock_node does not start")?);
        Ok(())
    }

    /// An error when it has ended by itself.
    pub(super) fn alive(&mut self) -> anyhow::Result<()> {
        if let Some(status) = self.child.as_mut().map(Child::try_wait).transpose()?.flatten() {
            bail!("node {} ended by itself, {status}", self.number);
        }
        Ok(())
    }

    /// `kill -9`.
    pub(super) fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(mut child) = self.child.take() {
            let _reaped = child.wait();
        }
    }

    pub(super) fn signal(&self, signal: Signal) {
        let process = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let _gone = process.map(|process| kill(Pid::from_raw(process), signal));
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
