//! Many sessions that do nothing and some that work: what one costs, and whether anything stays behind.
//!
//! Resident memory is read from outside, of the server's process. It is read when every account has been opened once, so
//! that the difference is that of the sessions; then a whole cycle of idle sessions and of work is run before the
//! reading that a second cycle is compared with: what an allocator keeps, it keeps once.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::client::imap::Imap;
use crate::client::imap_value::Untagged;
use crate::client::{Failure, Result};
use crate::corpus;
use crate::server::{Ports, Server, Setup, open_files, raise_file_limit, resident_kib};
use crate::wait;

/// Sessions of one user; the server's own limit is 50.
const PER_USER: usize = 25;
/// Busy sessions of one account: the first delivers, the others read and tidy up after it.
const WORKERS: usize = 5;
/// Messages of an account under work; above it they are expunged.
const MESSAGES_MAX: u32 = 20;
/// Memory that an idle session may cost (issue "First light").
pub const IDLE_KIB_MAX: u64 = 30;
/// What may be left when all have gone, for the allocator's sake.
const LEFT_KIB_MAX: u64 = 16 << 10;
/// Files that may be open more than before: accounts keep their journals open for a while.
const LEFT_FILES_MAX: usize = 64;
const SETTLE_PATIENCE: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct Options {
    pub setup: Setup,
    pub idle: usize,
    pub busy: usize,
    pub seconds: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub kib_without_sessions: u64,
    pub kib_with_idle: u64,
    pub kib_per_idle_session: u64,
    pub kib_after_first_cycle: u64,
    pub kib_after_second_cycle: u64,
    pub files_before: usize,
    pub files_after: usize,
    pub commands: u64,
    pub slowest_ms: u64,
}

struct Idler {
    imap: Imap,
    tag: String,
}

/// Runs it, and fails when a session costs too much or something stays behind.
pub fn run(options: &Options) -> anyhow::Result<Report> {
    let files_max = raise_file_limit()?;
    let wanted = u64::try_from(options.idle + options.busy)? + 200;
    ensure!(files_max >= wanted, "only {files_max} files may be open, {wanted} are needed");
    let mut setup = options.setup.clone();
    setup.users = options.idle.div_ceil(PER_USER).max(options.busy.div_ceil(WORKERS)).max(1);
    let users = setup.users;
    let mut server = Server::start(setup)?;
    let pid = server.pid().context("not started")?;
    let ports = server.ports();
    let mut report = Report::default();

    for user in 0..users {
        server.deliver(user, &corpus::message(1, 0).bytes)?;
        let mut imap = server.imap(user)?;
        imap.select("INBOX")?;
        imap.uid_fetch("1:*", "(UID FLAGS ENVELOPE)")?;
        imap.logout()?;
    }
    report.kib_without_sessions = resident_kib(pid)?;
    report.files_before = open_files(pid)?;

    let idlers = idle(ports, options.idle, users)?;
    report.kib_with_idle = resident_kib(pid)?;
    let cost = report.kib_with_idle.saturating_sub(report.kib_without_sessions);
    report.kib_per_idle_session = cost / u64::try_from(options.idle.max(1))?;
    let half = Duration::from_secs(options.seconds) / 2;
    work(ports, options.busy, users, half, &mut report)?;
    leave(idlers)?;
    gone(pid, &mut report, 1)?;

    let idlers = idle(ports, options.idle, users)?;
    work(ports, options.busy, users, half, &mut report)?;
    leave(idlers)?;
    gone(pid, &mut report, 2)?;
    server.alive()?;
    judge(&report)?;
    Ok(report)
}

fn judge(report: &Report) -> anyhow::Result<()> {
    let mut wrong = Vec::new();
    if report.kib_per_idle_session >= IDLE_KIB_MAX {
        wrong.push(format!("an idle session costs {} KiB", report.kib_per_idle_session));
    }
    let left = report.kib_after_second_cycle.saturating_sub(report.kib_after_first_cycle);
    if left > LEFT_KIB_MAX {
        wrong.push(format!("{left} KiB more after the second cycle than after the first"));
    }
    if report.files_after > report.files_before + LEFT_FILES_MAX {
        wrong.push(format!("{} open files, {} before", report.files_after, report.files_before));
    }
    if report.commands == 0 {
        wrong.push("nothing was answered".to_owned());
    }
    if !wrong.is_empty() {
        bail!("{}\n{report:#?}", wrong.join("; "));
    }
    Ok(())
}

fn idle(ports: Ports, count: usize, users: usize) -> anyhow::Result<Vec<Idler>> {
    let mut idlers = Vec::new();
    for number in 0..count {
        let mut imap = ports.imap(number % users).with_context(|| format!("idle session {number}"))?;
        imap.select("INBOX")?;
        let tag = imap.idle()?;
        idlers.push(Idler { imap, tag });
    }
    Ok(idlers)
}

/// Every one of them must still be there.
fn leave(idlers: Vec<Idler>) -> anyhow::Result<()> {
    for (number, mut idler) in idlers.into_iter().enumerate() {
        idler.imap.idle_end(&idler.tag).with_context(|| format!("idle session {number} was lost"))?;
        idler.imap.logout()?;
    }
    Ok(())
}

/// Waits until the server has let go of sockets, then reads.
fn gone(pid: u32, report: &mut Report, cycle: u32) -> anyhow::Result<()> {
    let files_max = report.files_before + LEFT_FILES_MAX;
    let _in_time = wait::until(SETTLE_PATIENCE, || (open_files(pid).ok()? <= files_max).then_some(()));
    report.files_after = open_files(pid)?;
    let resident = resident_kib(pid)?;
    if cycle == 1 {
        report.kib_after_first_cycle = resident;
    } else {
        report.kib_after_second_cycle = resident;
    }
    Ok(())
}

fn work(ports: Ports, count: usize, users: usize, time: Duration, report: &mut Report) -> anyhow::Result<()> {
    let (stopping, commands, slowest) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let outcomes: Vec<Result<()>> = std::thread::scope(|scope| {
        let start = |number: usize| {
            let (stopping, commands, slowest) = (&stopping, &commands, &slowest);
            scope.spawn(move || {
                while !stopping.load(Ordering::Acquire) {
                    let begun = Instant::now();
                    let user = number / WORKERS % users;
                    let delivers = number.is_multiple_of(WORKERS);
                    let done = if delivers { deliver(ports, user) } else { read(ports, user) }?;
                    commands.fetch_add(done, Ordering::Relaxed);
                    let took = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
                    slowest.fetch_max(took, Ordering::Relaxed);
                }
                Ok(())
            })
        };
        let threads: Vec<_> = (0..count).map(start).collect();
        let ended = wait::until(time, || threads.iter().any(|thread| thread.is_finished()).then_some(()));
        stopping.store(true, Ordering::Release);
        let early = ended.is_some();
        let died = || Err(Failure::Broken(format!("a client died; one ended early: {early}")));
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| died())).collect()
    });
    for outcome in outcomes {
        outcome.context("a busy session")?;
    }
    report.commands += commands.into_inner();
    report.slowest_ms = report.slowest_ms.max(slowest.into_inner());
    Ok(())
}

/// Delivers ten messages in one connection; returns how many commands that was.
fn deliver(ports: Ports, user: usize) -> Result<u64> {
    let mut lmtp = ports.lmtp()?;
    let recipient = crate::server::user(user);
    for number in 0..10 {
        for verdict in lmtp.deliver("s@example.net", &[&recipient], &corpus::message(2, number).bytes)? {
            verdict?;
        }
    }
    lmtp.quit()?;
    Ok(30)
}

/// A session as a mail program has it: look, fetch, flag, tidy up, wait a moment in IDLE.
fn read(ports: Ports, user: usize) -> Result<u64> {
    let mut imap = ports.imap(user)?;
    let selected = imap.select("INBOX")?;
    imap.uid_fetch("1:*", "(UID FLAGS ENVELOPE RFC822.SIZE BODYSTRUCTURE)")?;
    imap.command("UID STORE 1:* +FLAGS.SILENT (\\Seen)")?;
    imap.uid_search("SINCE 1-Jan-2024 FROM example")?;
    if selected.exists > MESSAGES_MAX {
        let surplus = selected.exists - MESSAGES_MAX;
        // Another session may have tidied up already: fewer are there, and BAD or NO is right.
        match imap.command(&format!("STORE 1:{surplus} +FLAGS.SILENT (\\Deleted)")) {
            Ok(_) | Err(Failure::Refused(_)) => {}
            Err(failure) => return Err(failure),
        }
        imap.command("EXPUNGE")?;
    }
    let newest = imap.command("UID FETCH * (UID BODY.PEEK[])")?;
    let fetched = newest.untagged.iter().filter(|one| matches!(one, Untagged::Fetch(_))).count();
    if fetched == 0 && selected.exists > MESSAGES_MAX {
        return Err(Failure::Broken("UID FETCH * shows nothing of many".to_owned()));
    }
    let tag = imap.idle()?;
    imap.idle_end(&tag)?;
    imap.logout()?;
    Ok(9)
}
