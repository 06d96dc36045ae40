//! `kill -9` at random moments under delivery, append, flag, move and expunge load.
//!
//! A round: clients work until the server is killed under them, it is started again (sometimes killed in the middle of
//! that), and every account is read whole by IMAP and POP3. Deliveries of unknown fate
//! are then tried again, as a mailer does, with the queue id they had; the next round shows whether they were stored
//! twice. The whole history is checked every few rounds.
//!
//! The seed decides what clients do and after how many acknowledgements the kill comes, not how threads are scheduled.

mod clients;
pub(crate) mod message;
pub(crate) mod reader;

use std::fs;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::bail;

use crate::checker;
use crate::dice::Dice;
use crate::history::{Entry, Op, Outcome, Recorder, to_edn, to_json};
use crate::server::{Kind, Server, Setup};
use crate::timeline;
use crate::wait;
use clients::Arena;

/// Accounts under load.
pub const ACCOUNTS: usize = 2;
/// A round whose clients are told nothing for so long is ended.
const ROUND_MAX: Duration = Duration::from_secs(5);
/// In the server's directory, from the beginning of the run.
const HISTORY: &str = "history.json";
/// Rounds between two checks, each of which goes over the whole history.
const CHECKED_EVERY: u32 = 10;

#[derive(Clone, Copy, Debug)]
pub struct Options {
    pub kind: Kind,
    pub rounds: u32,
    pub seed: u64,
    /// Lets clients end what they are at and the server stop by itself: what is found then is wrong without any crash.
    pub gentle: bool,
}

/// What a run without violations saw.
#[derive(Clone, Copy, Debug, Default)]
pub struct Report {
    pub rounds: u32,
    pub acknowledged: usize,
    pub refused: usize,
    pub unknown: usize,
    pub restart_max: Duration,
    pub restart_total: Duration,
}

/// Runs it all. An error names the violations, the seed, the command that runs it again, and where the evidence is.
pub fn run(options: Options) -> anyhow::Result<Report> {
    let mut setup = Setup::of(options.kind);
    setup.users = ACCOUNTS;
    let mut server = Server::start(setup)?;
    let recorder = Recorder::writing_to(&server.dir().join(HISTORY))?;
    let arena = Arena::new(server.ports(), !options.gentle, recorder);
    let mut report = Report::default();
    for round in 0..options.rounds {
        let outcome = one_round(&mut server, &arena, options, round, &mut report);
        let mut wrong: Vec<String> = arena.faults();
        let due = (round + 1).is_multiple_of(CHECKED_EVERY) || round + 1 == options.rounds;
        if !due && outcome.is_ok() && wrong.is_empty() {
            report.rounds += 1;
            continue;
        }
        let history = arena.recorder.history();
        wrong.extend(checker::check(&history).iter().map(ToString::to_string));
        wrong.extend(outcome.err().map(|error| format!("{error:#}")));
        if !wrong.is_empty() {
            return Err(evidence(server, options, round, &history, &wrong)?);
        }
        report.rounds += 1;
    }
    count(&mut report, &arena.recorder.history());
    // Rounds in which everything is refused or unknown would show nothing.
    if report.acknowledged < usize::try_from(report.rounds)? {
        bail!("only {} operations were acknowledged: this run shows nothing", report.acknowledged);
    }
    Ok(report)
}

fn one_round(
    server: &mut Server,
    arena: &Arena,
    options: Options,
    round: u32,
    report: &mut Report,
) -> anyhow::Result<()> {
    let mut dice = Dice::part(options.seed, u64::from(round) << 8);
    let told = arena.acknowledged() + dice.index(80);
    let after = Duration::from_micros(dice.below(8000));
    arena.stopping.store(false, Ordering::Release);
    std::thread::scope(|scope| -> anyhow::Result<()> {
        arena.spawn(scope, options.seed, round);
        let _enough = wait::until(ROUND_MAX, || (arena.acknowledged() >= told).then_some(()));
        std::thread::sleep(after);
        let alive = server.alive();
        arena.stopping.store(true, Ordering::Release);
        if options.gentle {
            return alive;
        }
        let begun = arena.recorder.now_us();
        server.kill();
        arena.recorder.told(0, 0, begun, Outcome::Ok, Op::Kill);
        alive
    })?;
    if options.gentle {
        server.stop()?;
    } else if dice.once_in(6) {
        server.launch()?;
        std::thread::sleep(Duration::from_micros(dice.below(150_000)));
        server.kill();
    }
    let begun = Instant::now();
    server.restart()?;
    report.restart_max = report.restart_max.max(begun.elapsed());
    report.restart_total += begun.elapsed();
    for account in 0..ACCOUNTS {
        reader::read_account(arena, account)?;
    }
    Ok(arena.deliver_again()?)
}

fn count(report: &mut Report, history: &[Entry]) {
    for entry in history {
        match (&entry.op, entry.outcome) {
            (Op::Met { .. } | Op::Read { .. } | Op::Popped { .. } | Op::Glance { .. }, _) => {}
            (Op::Counters { .. } | Op::Kill | Op::Nemesis(_), _) => {}
            (_, Outcome::Ok) => report.acknowledged += 1,
            (_, Outcome::Fail) => report.refused += 1,
            (_, Outcome::Info) => report.unknown += 1,
        }
    }
}

/// Keeps what a human needs, and says where it is.
fn evidence(
    server: Server,
    options: Options,
    round: u32,
    history: &[Entry],
    wrong: &[String],
) -> anyhow::Result<anyhow::Error> {
    const SHOWN_MAX: usize = 20;
    let tail = server.log_tail();
    let dir = server.keep();
    fs::write(dir.join(HISTORY), to_json(history)?)?;
    fs::write(dir.join("history.edn"), to_edn(history)?)?;
    fs::write(dir.join("timeline.html"), timeline::page("jepsen kill", history, &checker::check(history)))?;
    let shown = wrong.get(..SHOWN_MAX).unwrap_or(wrong).join("\n  ");
    let (seed, kind, dir) = (options.seed, options.kind, dir.display());
    let server = if kind == Kind::Dovecot { " --server dovecot" } else { "" };
    let gentle = if options.gentle { " --gentle" } else { "" };
    Ok(anyhow::anyhow!(
        "by round {round}: {} violations:\n  {shown}\nseed {seed}; run it again: cargo run -p jepsen -- kill --rounds {} \
         --seed {seed}{server}{gentle}\nhistory, logs and mail are in {dir}\nthe server's log ends:\n{tail}",
        wrong.len(),
        options.rounds,
    ))
}
