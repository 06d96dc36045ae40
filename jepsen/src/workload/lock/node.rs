//! Three voters, each a process of its own, joined by ways that can be cut.

use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::dice::Dice;
use crate::server::free_port;
use crate::ways::Way;

pub(super) const NODES: [u8; 3] = [1, 2, 3];
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
    /// To each other node.
    ways: BTreeMap<u8, Way>,
}

pub(super) struct Site {
    pub(super) nodes: Vec<Node>,
}

impl Site {
    pub(super) fn prepare(dir: &Path, lease: Duration) -> anyhow::Result<Self> {
        let program = binary()?;
        let mut dice = Dice::part(u64::from(std::process::id()), 77);
        let mut doors = BTreeMap::new();
        for pair in NODES.iter().flat_map(|from| NODES.map(|to| (*from, to))).filter(|(from, to)| from != to)
        {
            doors.insert(pair, free_port(&mut dice)?);
        }
        let mut nodes = Vec::new();
        for number in NODES {
            let state = dir.join(format!("node{number}"));
            fs::create_dir_all(&state)?;
            let address = free_port(&mut dice)?;
            let lease = lease.as_millis().to_string();
            let mut arguments =
                vec![number.to_string(), state.display().to_string(), lease, address.to_string()];
            let mut ways = BTreeMap::new();
            for ((from, to), door) in &doors {
                if *to == number {
                    arguments.push(format!("accept:{from}={door}"));
                } else if *from == number {
                    let way = Way::open(free_port(&mut dice)?, *door)?;
                    arguments.push(format!("reach:{to}={}", way.address()));
                    ways.insert(*to, way);
                }
            }
            let log = dir.join(format!("node{number}.log"));
            nodes.push(Node { number, address, program: program.clone(), arguments, log, child: None, ways });
        }
        Ok(Self { nodes })
    }

    /// No call of `from` reaches `to` any more.
    pub(super) fn cut(&self, from: u8, to: u8, cut: bool) {
        let node = self.nodes.iter().find(|node| node.number == from);
        if let Some(way) = node.and_then(|node| node.ways.get(&to)) {
            if cut { way.cut() } else { way.heal() }
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
        let mut command = Command::new(&self.program);
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
