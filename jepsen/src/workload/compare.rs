//! Roost and Dovecot side by side, in one run: the same clients, the same messages, on the same disk, in turns.
//!
//! What counts is the ratio: both are measured under the same other load. Processor time is that of all processes of the
//! server, read before and after from outside. Rounds alternate which server goes first.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::client::Failure;
use crate::corpus;
use crate::server::{Kind, Ports, Server, Setup, processor_time};

const USERS: usize = 4;
/// Messages of a delivery task, over all its connections.
const DELIVERED: usize = 500;
const APPENDED: usize = 200;
const LOGINS: usize = 200;
/// Messages in the mailbox that is read.
const READ: usize = 2000;
const MESSAGE_BYTES: usize = 4096;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub rounds: usize,
}

/// Medians over the rounds.
#[derive(Clone, Debug)]
pub struct Line {
    pub task: &'static str,
    pub roost: Cost,
    pub dovecot: Cost,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub wall: Duration,
    pub processor: Duration,
}

struct Task {
    name: &'static str,
    run: fn(Ports) -> Result<(), Failure>,
}

const TASKS: &[Task] = &[
    Task { name: "deliver, 1 connection", run: |ports| deliver(ports, 1) },
    Task { name: "deliver, 10 connections", run: |ports| deliver(ports, 10) },
    Task { name: "deliver, 50 connections", run: |ports| deliver(ports, 50) },
    Task { name: "append, 1 session", run: append },
    Task { name: "login, select, logout", run: login },
    Task { name: "fetch what a list shows", run: |ports| fetch(ports, "(UID FLAGS ENVELOPE BODYSTRUCTURE)") },
    Task { name: "fetch flags", run: |ports| fetch(ports, "(UID FLAGS)") },
    Task { name: "fetch bodies", run: |ports| fetch(ports, "(BODY.PEEK[])") },
    Task { name: "set and clear a flag", run: store },
    Task { name: "search a header", run: |ports| search(ports, "SUBJECT nowhere") },
    Task { name: "search bodies", run: |ports| search(ports, "BODY nowhere") },
];

/// The account that is read, not delivered to.
const READER: usize = USERS;

pub fn run(options: Options) -> anyhow::Result<Vec<Line>> {
    let servers = [start(Kind::Roost)?, start(Kind::Dovecot)?];
    let mut lines = Vec::new();
    for task in TASKS {
        let mut costs = [Vec::new(), Vec::new()];
        for round in 0..=options.rounds {
            for turn in 0..servers.len() {
                let which = (round + turn) % servers.len();
                let cost = measure(&servers[which], task)
                    .with_context(|| format!("{:?}: {}", servers[which].kind(), task.name))?;
                // The first round warms up.
                if round > 0 {
                    costs[which].push(cost);
                }
            }
        }
        let [roost, dovecot] = costs.map(median);
        lines.push(Line { task: task.name, roost, dovecot });
    }
    Ok(lines)
}

fn start(kind: Kind) -> anyhow::Result<Server> {
    if let Some(missing) = kind.missing() {
        anyhow::bail!(missing);
    }
    let server = Server::start(Setup { users: USERS + 1, ..Setup::of(kind) })?;
    let mut lmtp = server.lmtp()?;
    let recipient = crate::server::user(READER);
    for number in 0..READ {
        for verdict in lmtp.deliver("s@example.net", &[&recipient], &message(number))? {
            verdict?;
        }
    }
    lmtp.quit()?;
    Ok(server)
}

fn measure(server: &Server, task: &Task) -> anyhow::Result<Cost> {
    let pid = server.pid().context("not started")?;
    let (before, begun) = (processor_time(pid)?, Instant::now());
    (task.run)(server.ports())?;
    let wall = begun.elapsed();
    Ok(Cost { wall, processor: processor_time(pid)?.saturating_sub(before) })
}

fn median(mut costs: Vec<Cost>) -> Cost {
    let mut middle = |by: fn(&Cost) -> Duration| {
        costs.sort_by_key(by);
        costs.get(costs.len() / 2).map(by).unwrap_or_default()
    };
    Cost { wall: middle(|cost| cost.wall), processor: middle(|cost| cost.processor) }
}

/// Text of the size that most mail has.
fn message(number: usize) -> Vec<u8> {
    let mut bytes = corpus::message(3, number as u64 % 16).with_final_newline();
    let mut text = format!(
        "From: Ada <ada@example.org>\r\nTo: Grace <grace@example.org>\r\nSubject: number {number}\r\nDate: Tue, 24 Nov \
         2026 08:00:00 +0000\r\nMessage-ID: <{number}@example.org>\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; \
         charset=utf-8\r\n\r\n"
    )
    .into_bytes();
    while text.len() < MESSAGE_BYTES {
        text.extend_from_slice(
            b"All work and no play makes Jack a dull boy, said nobody here, ever, at all.\r\n",
        );
    }
    // Two of three are plain; the others are what the corpus has, if it is not large.
    if number.is_multiple_of(3) && bytes.len() <= 4 * MESSAGE_BYTES {
        std::mem::swap(&mut bytes, &mut text);
    }
    text
}

/// Each connection delivers its share, to one of the accounts.
fn deliver(ports: Ports, connections: usize) -> Result<(), Failure> {
    let share = |connection: usize| -> Result<(), Failure> {
        let mut lmtp = ports.lmtp()?;
        let recipient = crate::server::user(connection % USERS);
        for number in 0..DELIVERED / connections {
            for verdict in lmtp.deliver("s@example.net", &[&recipient], &message(number))? {
                verdict?;
            }
        }
        lmtp.quit()
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|number| scope.spawn(move || share(number))).collect();
        let died = || Err(Failure::Broken("a client died".to_owned()));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(|_| died()))
    })
}

fn append(ports: Ports) -> Result<(), Failure> {
    let mut imap = ports.imap(0)?;
    for number in 0..APPENDED {
        imap.append("INBOX", "", &message(number))?;
    }
    imap.logout()
}

fn login(ports: Ports) -> Result<(), Failure> {
    for _ in 0..LOGINS {
        let mut imap = ports.imap(READER)?;
        imap.select("INBOX")?;
        imap.logout()?;
    }
    Ok(())
}

fn fetch(ports: Ports, items: &str) -> Result<(), Failure> {
    let mut imap = ports.imap(READER)?;
    imap.select("INBOX")?;
    let fetched = imap.uid_fetch("1:*", items)?.len();
    if fetched != READ {
        return Err(Failure::Broken(format!("{fetched} of {READ} messages fetched")));
    }
    imap.logout()
}

fn store(ports: Ports) -> Result<(), Failure> {
    let mut imap = ports.imap(READER)?;
    imap.select("INBOX")?;
    imap.command("UID STORE 1:* +FLAGS.SILENT (\\Flagged)")?;
    imap.command("UID STORE 1:* -FLAGS.SILENT (\\Flagged)")?;
    imap.logout()
}

fn search(ports: Ports, query: &str) -> Result<(), Failure> {
    let mut imap = ports.imap(READER)?;
    imap.select("INBOX")?;
    let found = imap.uid_search(query)?;
    if !found.is_empty() {
        return Err(Failure::Broken("found what is nowhere".to_owned()));
    }
    imap.logout()
}

/// For people, and for the notes: time and processor time of both, and Roost's as a share of Dovecot's.
pub fn table(lines: &[Line]) -> anyhow::Result<String> {
    ensure!(!lines.is_empty(), "nothing was measured");
    let mut text = format!(
        "{:<26} {:>10} {:>10} {:>6}   {:>10} {:>10} {:>6}\n",
        "", "roost", "dovecot", "ratio", "roost cpu", "dovecot cpu", "ratio"
    );
    let ms = |time: Duration| time.as_secs_f64() * 1000.0;
    for Line { task, roost, dovecot } in lines {
        text.push_str(&format!(
            "{task:<26} {:>7.0} ms {:>7.0} ms {:>6.2}   {:>7.0} ms {:>8.0} ms {:>6.2}\n",
            ms(roost.wall),
            ms(dovecot.wall),
            roost.wall.as_secs_f64() / dovecot.wall.as_secs_f64().max(1e-6),
            ms(roost.processor),
            ms(dovecot.processor),
            // Clocks of processes tick a hundred times a second.
            roost.processor.as_secs_f64() / dovecot.processor.as_secs_f64().max(0.01),
        ));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_are_of_each_figure_by_itself() {
        let cost = |wall, processor| Cost {
            wall: Duration::from_millis(wall),
            processor: Duration::from_millis(processor),
        };
        let middle = median(vec![cost(1, 30), cost(3, 10), cost(2, 20)]);
        assert_eq!((middle.wall.as_millis(), middle.processor.as_millis()), (2, 20));
    }
}
