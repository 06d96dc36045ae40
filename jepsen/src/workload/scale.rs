//! What several nodes cost: a site of three nodes over one tree beside a single node, in one run, in turns.
//!
//! Both share the processors, so a site has no more of them than the node alone: what is measured is what consensus and
//! the way to the owner cost. The site is the demo's, with more users; the single node is the one of all other tests.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::Deserialize;
use tempfile::TempDir;

use crate::client::Failure;
use crate::client::lmtp::Lmtp;
use crate::server::{Kind, Server, Setup, password, roost_binary, user};
use crate::wait;

const USERS: usize = 60;
const CONNECTIONS: [usize; 3] = [10, 50, 100];
/// Of a round, over all connections.
const DELIVERED: usize = 4000;
/// One after the other, to find out what one takes.
const LONE: usize = 200;
const MESSAGE_LINES: usize = 90;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub rounds: usize,
}

/// Deliveries a second, median over the rounds.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    pub connections: usize,
    pub single: f64,
    pub site: f64,
}

/// Median time of a delivery that is alone.
#[derive(Clone, Copy, Debug)]
pub struct Lone {
    pub single: Duration,
    /// At the node that owns the account: what the witness adds.
    pub at_owner: Duration,
    /// At another.
    pub carried: Duration,
}

#[derive(Debug, Deserialize)]
struct Told {
    sites: Vec<ToldSite>,
}

#[derive(Debug, Deserialize)]
struct ToldSite {
    nodes: Vec<ToldNode>,
}

#[derive(Debug, Deserialize)]
struct ToldNode {
    lmtp: SocketAddr,
}

/// `roost demo`, with users of ours. Dropping it ends it.
struct Demo {
    child: Child,
    doors: Vec<SocketAddr>,
    _dir: TempDir,
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Ok(group) = i32::try_from(self.child.id()) {
            // It may have ended by itself.
            let _gone = killpg(Pid::from_raw(group), Signal::SIGKILL);
        }
        let _reaped = self.child.wait();
    }
}

impl Demo {
    fn start() -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("jepsen-scale-").tempdir()?;
        let at = dir.path().join("demo");
        let mut command = Command::new(roost_binary()?);
        command.arg("demo").arg("--dir").arg(&at).arg("--json").process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().context("the demo does not start")?;
        let mut demo = Self { child, doors: Vec::new(), _dir: dir };
        let told = wait::until(PATIENCE, || {
            let told = fs::read(at.join("demo.json")).ok()?;
            serde_json::from_slice::<Told>(&told).ok()
        });
        let site = told.context("no demo.json")?.sites.into_iter().next().context("a demo without a site")?;
        demo.doors = site.nodes.iter().map(|node| node.lmtp).collect();
        let users = at.join("users");
        let more: String =
            (0..USERS).map(|each| format!("{}:{{PLAIN}}{}::::::\n", user(each), password(each))).collect();
        let before = fs::read_to_string(&users)?;
        fs::write(&users, before + &more)?;
        Ok(demo)
    }
}

/// Rates and times of a single node and of a site.
pub fn run(options: Options) -> anyhow::Result<(Vec<Rate>, Lone)> {
    let alone = Server::start(Setup { users: USERS, ..Setup::of(Kind::Roost) })?;
    let demo = Demo::start()?;
    let single = [alone.ports().lmtp];
    for doors in [&single[..], &demo.doors] {
        // Every account is opened, and has an owner.
        wait::until(PATIENCE, || deliver(doors, 6, 5 * USERS).ok()).context("no delivery is taken")?;
    }
    let mut rates = Vec::new();
    for connections in CONNECTIONS {
        let mut measured = [Vec::new(), Vec::new()];
        for round in 0..options.rounds {
            for turn in 0..2 {
                let which = (round + turn) % 2;
                let doors = if which == 0 { &single[..] } else { &demo.doors };
                measured[which].push(deliver(doors, connections, DELIVERED)?);
            }
        }
        let [single, site] = measured.map(median);
        rates.push(Rate { connections, single, site });
    }
    Ok((rates, lone(single[0], &demo.doors)?))
}

/// Deliveries a second, of connections spread over these doors, to all accounts.
fn deliver(doors: &[SocketAddr], connections: usize, messages: usize) -> Result<f64, Failure> {
    let begun = Instant::now();
    let share = |connection: usize| -> Result<(), Failure> {
        let mut lmtp = Lmtp::connect(doors[connection % doors.len()], PATIENCE)?;
        for number in 0..messages / connections {
            one(&mut lmtp, (connection + 7 * number) % USERS, &format!("{connection}-{number}"))?;
        }
        lmtp.quit()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|each| scope.spawn(move || share(each))).collect();
        let died = || Err(Failure::Broken("a client died".to_owned()));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| died()))
    })?;
    Ok((messages / connections * connections) as f64 / begun.elapsed().as_secs_f64())
}

fn one(lmtp: &mut Lmtp, recipient: usize, what: &str) -> Result<(), Failure> {
    let body = "All work and no play makes Jack a dull boy.\r\n".repeat(MESSAGE_LINES);
    let text = format!("From: s@example.net\r\nSubject: {what}\r\n\r\n{body}");
    lmtp.deliver("s@example.net", &[&user(recipient)], text.as_bytes())?.into_iter().collect()
}

/// The node at which deliveries to an account are fastest is its owner.
fn lone(single: SocketAddr, site: &[SocketAddr]) -> anyhow::Result<Lone> {
    let time = |door: SocketAddr| -> anyhow::Result<f64> {
        let mut lmtp = Lmtp::connect(door, PATIENCE)?;
        let mut times = Vec::new();
        for number in 0..LONE {
            let begun = Instant::now();
            one(&mut lmtp, 0, &number.to_string())?;
            times.push(begun.elapsed().as_secs_f64());
        }
        Ok(median(times))
    };
    let mut of_site = site.iter().map(|door| time(*door)).collect::<anyhow::Result<Vec<f64>>>()?;
    of_site.sort_by(f64::total_cmp);
    let (at_owner, carried) = of_site.split_first().context("a site without nodes")?;
    Ok(Lone {
        single: Duration::from_secs_f64(time(single)?),
        at_owner: Duration::from_secs_f64(*at_owner),
        carried: Duration::from_secs_f64(median(carried.to_vec())),
    })
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

/// For people, and for the notes.
pub fn table(rates: &[Rate], lone: &Lone) -> anyhow::Result<String> {
    ensure!(!rates.is_empty(), "nothing was measured");
    let mut text = format!("{:<26} {:>10} {:>12} {:>6}\n", "", "one node", "three nodes", "ratio");
    for Rate { connections, single, site } in rates {
        let what = format!("deliver, {connections} connections");
        text.push_str(&format!("{what:<26} {single:>8.0}/s {site:>10.0}/s {:>6.2}\n", site / single));
    }
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    let Lone { single, at_owner, carried } = lone;
    text.push_str(&format!(
        "a delivery alone: {:.2} ms at one node, {:.2} ms at the owner in a site, {:.2} ms at another node of it\n",
        ms(*single),
        ms(*at_owner),
        ms(*carried)
    ));
    Ok(text)
}
