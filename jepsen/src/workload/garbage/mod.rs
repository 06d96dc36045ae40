//! Bad input and bad luck: each gets a clear answer, nothing acknowledged is lost, nobody else notices, the server stays.
//!
//! A case has one server. While it runs, a neighbour reads mail on the same server, over and over; afterwards the process
//! is still the same one, the neighbour has seen nothing strange, and what was acknowledged before is there.

mod damage;
mod protocol;
mod resources;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::client::Result;
use crate::corpus;
use crate::server::{Kind, Ports, Server, Setup, password, user};

/// Whom bad things happen to, and who must not notice.
pub(super) const VICTIM: usize = 0;
const NEIGHBOUR: usize = 1;
const MESSAGES: u64 = 3;
/// A neighbour that waits longer for an answer has noticed something. Generous, for slow build machines.
const NOTICED: Duration = Duration::from_secs(15);

/// What a case works with.
pub struct Scene {
    pub server: Server,
    /// UIDs of the victim's acknowledged messages.
    pub uids: Vec<u32>,
}

/// What a case found.
pub enum Verdict {
    Passed,
    /// Not possible here, and why.
    Skipped(String),
}

#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    prepare: fn(&mut Setup) -> anyhow::Result<Option<String>>,
    run: fn(&mut Scene) -> anyhow::Result<()>,
    /// Whether the server goes down in the course of it: then the neighbour comes afterwards.
    restarts: bool,
}

const fn plain(name: &'static str, run: fn(&mut Scene) -> anyhow::Result<()>) -> Case {
    Case { name, prepare: |_| Ok(None), run, restarts: false }
}

const fn restarting(name: &'static str, run: fn(&mut Scene) -> anyhow::Result<()>) -> Case {
    Case { name, prepare: |_| Ok(None), run, restarts: true }
}

/// For what only Roost promises.
fn only_ours(setup: &mut Setup) -> anyhow::Result<Option<String>> {
    Ok((setup.kind == Kind::Dovecot).then(|| "Dovecot promises nothing here".to_owned()))
}

pub const CASES: &[Case] = &[
    plain("malformed-commands", protocol::malformed_commands),
    plain("endless-lines", protocol::endless_lines),
    Case { name: "oversize-literals", prepare: only_ours, run: protocol::oversize_literals, restarts: false },
    plain("nuls", protocol::nuls),
    plain("deep-parentheses", protocol::deep_parentheses),
    plain("bad-names", protocol::bad_names),
    plain("many-recipients", protocol::many_recipients),
    plain("deep-mime", protocol::deep_mime),
    plain("long-header", protocol::long_header),
    plain("half-open", resources::half_open),
    Case {
        name: "slow-reader",
        prepare: resources::short_stall,
        run: resources::slow_reader,
        restarts: false,
    },
    Case { name: "full-disk", prepare: resources::small_disk, run: resources::full_disk, restarts: true },
    plain("unwritable-directory", resources::unwritable_directory),
    Case {
        name: "stepped-clock",
        prepare: resources::own_clock,
        run: resources::stepped_clock,
        restarts: false,
    },
    plain("message-removed", damage::message_removed),
    plain("message-garbled", damage::message_garbled),
    restarting("index-garbled", damage::index_garbled),
    Case {
        name: "journal-tail-garbled",
        prepare: only_ours,
        run: damage::journal_tail_garbled,
        restarts: true,
    },
    restarting("uidlist-garbled", damage::uidlist_garbled),
];

pub fn case(name: &str) -> anyhow::Result<&'static Case> {
    CASES.iter().find(|case| case.name == name).with_context(|| format!("no case {name}"))
}

/// Runs one case from the start of its server to the last look at it.
pub fn run(case: &Case, mut setup: Setup) -> anyhow::Result<Verdict> {
    setup.users = 4;
    if let Some(why) = (case.prepare)(&mut setup)? {
        return Ok(Verdict::Skipped(why));
    }
    let server = Server::start(setup)?;
    let mut scene = Scene { server, uids: Vec::new() };
    let outcome = scene.play(case);
    let tail = || format!("case {}; the server's log ends:\n{}", case.name, scene.server.log_tail());
    let outcome = outcome.with_context(tail);
    resources::clean_up(&scene);
    outcome.map(|()| Verdict::Passed)
}

impl Scene {
    fn play(&mut self, case: &Case) -> anyhow::Result<()> {
        for account in [VICTIM, NEIGHBOUR] {
            let mut imap = self.server.imap(account)?;
            for number in 0..MESSAGES {
                let placed = imap.append("INBOX", "", &corpus::message(5, number).bytes)?;
                let (_, uid) = placed.context("no APPENDUID")?;
                if account == VICTIM {
                    self.uids.push(uid);
                }
            }
            imap.logout()?;
        }
        let pid = self.server.pid();
        if case.restarts {
            (case.run)(self)?;
        } else {
            self.beside_neighbour(case)?;
            ensure!(self.server.pid() == pid, "another process");
        }
        self.server.alive()?;
        self.nothing_is_lost()?;
        look(self.server.ports(), NEIGHBOUR).context("the neighbour, afterwards")?;
        Ok(())
    }

    fn beside_neighbour(&mut self, case: &Case) -> anyhow::Result<()> {
        let (ports, stopping) = (self.server.ports(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let neighbour = scope.spawn(|| live_on(ports, &stopping));
            let outcome = (case.run)(self);
            stopping.store(true, Ordering::Release);
            let Ok(noticed) = neighbour.join() else { bail!("the neighbour died") };
            outcome?;
            let slowest = noticed.context("the neighbour noticed")?;
            ensure!(slowest < NOTICED, "the neighbour waited {slowest:?} for an answer");
            Ok(())
        })
    }

    /// The victim's messages are there, with their UIDs and bytes.
    pub fn nothing_is_lost(&self) -> anyhow::Result<()> {
        self.all_but(&[])
    }

    /// The same, but for messages that the case has destroyed.
    pub fn all_but(&self, destroyed: &[u32]) -> anyhow::Result<()> {
        let mut imap = self.server.imap(VICTIM)?;
        imap.select("INBOX")?;
        for (uid, number) in self.uids.iter().zip(0..).filter(|(uid, _)| !destroyed.contains(uid)) {
            let fetched = imap.uid_fetch(&uid.to_string(), "(UID BODY.PEEK[])")?;
            let body = fetched.first().and_then(|one| one.body());
            let body = body.with_context(|| format!("acknowledged UID {uid} is lost"))?;
            ensure!(body == corpus::message(5, number).bytes, "acknowledged UID {uid} has changed");
        }
        imap.logout()?;
        Ok(())
    }
}

/// Reads mail until told to stop; returns how long the slowest answer took.
fn live_on(ports: Ports, stopping: &AtomicBool) -> anyhow::Result<Duration> {
    let mut slowest = Duration::ZERO;
    let mut imap = ports.imap(NEIGHBOUR)?;
    imap.select("INBOX")?;
    while !stopping.load(Ordering::Acquire) {
        let begun = Instant::now();
        let fetched = imap.uid_fetch("1:*", "(UID FLAGS BODY.PEEK[])")?;
        ensure!(fetched.len() as u64 == MESSAGES, "{} messages instead of {MESSAGES}", fetched.len());
        imap.command("NOOP")?;
        look(ports, NEIGHBOUR)?;
        slowest = slowest.max(begun.elapsed());
    }
    imap.logout()?;
    Ok(slowest)
}

/// A whole session, from login to logout.
fn look(ports: Ports, account: usize) -> Result<()> {
    let mut imap = ports.imap(account)?;
    imap.select("INBOX")?;
    imap.uid_fetch("1:*", "(UID BODY.PEEK[])")?;
    imap.logout()
}

/// LOGIN of the victim, for cases that write the wire themselves.
fn login_line() -> String {
    format!("l LOGIN \"{}\" \"{}\"\r\n", user(VICTIM), password(VICTIM))
}
