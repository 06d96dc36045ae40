//! A file server that loses what it had promised to keep: its volume is put back to an old snapshot, or it exports `async` and
//! loses power. No server of mail can bring that back; what can be demanded is that nobody is shown less without a word.
//!
//! Of every account, whoever asks: either everything that was acknowledged is there, or the account is refused and a node's
//! log has an alarm that names it. When the volume shows everything again, so does the account.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::{Args, ValueEnum};

use super::{Options, Site, lease_seconds};
use crate::client::Failure;
use crate::dice::Dice;
use crate::history::MailboxView;
use crate::hosts::tool;
use crate::lab::{self, Export};
use crate::server::user;
use crate::wait;
use crate::workload::kill::reader::all_mailboxes;

/// A view may be old for 65 seconds before it counts as lost; beyond that nodes start, and accounts change owners.
const JUDGED_WITHIN: Duration = Duration::from_secs(65 + 60);
const PATIENCE: Duration = Duration::from_secs(30);
const COMMAND_PATIENCE: Duration = Duration::from_secs(60);
const ALARM: &str = "ALARM: account offline (durability)";

/// How a file server loses what it had acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Loss {
    /// The volume is put back to a snapshot, and later to what it was
    Snapshot,
    /// It exports `async`, and loses power
    Async,
}

#[derive(Args, Clone, Debug)]
pub struct Lossy {
    #[arg(long, value_enum, default_value = "4.2")]
    pub vers: lab::Version,
    #[arg(long, value_enum, default_value = "snapshot")]
    pub loss: Loss,
    /// Decides how much is delivered, and what happens to nodes
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// cluster.lease, in seconds
    #[arg(long, value_parser = lease_seconds, default_value = "5s")]
    pub lease: u64,
    #[arg(long, default_value_t = 6)]
    pub accounts: usize,
}

/// What became of an account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fate {
    /// All that was acknowledged is there.
    Whole,
    /// It is refused, and an alarm names it.
    Reported,
}

type Acknowledged = BTreeMap<usize, BTreeSet<String>>;

/// Does it, and tells what became of each account. Only inside of namespaces of our own.
pub fn run(options: &Lossy) -> anyhow::Result<String> {
    let mut site = Site::start(&Options {
        seed: options.seed,
        seconds: 0,
        workloads: Vec::new(),
        nemeses: Vec::new(),
        lease: options.lease,
        nodes: 3,
        accounts: options.accounts,
        keep: false,
        nfs: Some(options.vers),
        neighbours: 0,
    })?;
    let told = play(&site, options);
    if told.is_err() {
        site.dir.disable_cleanup(true);
    }
    let again = || {
        let loss =
            options.loss.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default();
        let vers = options.vers.name();
        format!(
            "{}seed {seed}; run it again: cargo run -p jepsen -- rollback --vers {vers} --loss {loss} --seed {seed}\nlogs \
             and disks are in {dir}",
            site.log_tails(),
            seed = options.seed,
            dir = site.dir().display()
        )
    };
    told.with_context(again)
}

fn play(site: &Site, options: &Lossy) -> anyhow::Result<String> {
    let mut dice = Dice::part(options.seed, 11);
    let lab = site.lab()?;
    if options.loss == Loss::Async {
        lab.export(Export::Async)?;
    }
    let mut acknowledged = Acknowledged::new();
    site.deliver_some(&mut acknowledged, &mut dice, "before", |_| true)?;
    lab.server().shell("sync", COMMAND_PATIENCE)?;
    let (disk, aside) = (lab.server().image(), lab.server().image().with_extension("aside"));
    if options.loss == Loss::Snapshot {
        lab.server().pause()?;
        let copied = copy(&disk, &aside);
        lab.server().resume()?;
        copied?;
    }
    // The others have lost nothing, and nothing may be said of them.
    site.deliver_some(&mut acknowledged, &mut dice, "after", |account| account % 2 == 0)?;
    lab.server().power_off()?;
    let newest = disk.with_extension("newest");
    if options.loss == Loss::Snapshot {
        fs::rename(&disk, &newest)?;
        fs::rename(&aside, &disk)?;
    }
    lab.boot(lab.server())?;
    site.restart_all(dice.once_in(2))?;
    let fates = site.judge(&acknowledged, JUDGED_WITHIN)?;
    let mut told = table(options, &acknowledged, &fates)?;
    let reported: Vec<usize> =
        fates.iter().filter(|(_, fate)| **fate == Fate::Reported).map(|(account, _)| *account).collect();
    if options.loss == Loss::Snapshot {
        let expected: Vec<usize> = (0..options.accounts).filter(|account| account % 2 == 0).collect();
        ensure!(
            reported == expected,
            "accounts {expected:?} have lost messages, and {reported:?} are reported"
        );
        lab.server().power_off()?;
        fs::rename(&newest, &disk)?;
        lab.boot(lab.server())?;
        acknowledged.retain(|account, _| reported.contains(account));
        let fates = site.judge_until_whole(&acknowledged)?;
        writeln!(told, "when the volume was as before: {} of {} whole again", fates.len(), reported.len())?;
    }
    Ok(told)
}

/// A copy with the holes of the original.
fn copy(from: &std::path::Path, to: &std::path::Path) -> anyhow::Result<()> {
    tool("cp", ["--sparse=always".as_ref(), from.as_os_str(), to.as_os_str()]).map(drop)
}

fn table(
    options: &Lossy,
    acknowledged: &Acknowledged,
    fates: &BTreeMap<usize, Fate>,
) -> anyhow::Result<String> {
    let mut told = format!("nfs={} seed={} loss={:?}\n", options.vers.name(), options.seed, options.loss);
    for (account, fate) in fates {
        let count = acknowledged.get(account).map_or(0, BTreeSet::len);
        writeln!(told, "{}: {count} messages were acknowledged; {fate:?}", user(*account))?;
    }
    Ok(told)
}

impl Site {
    /// Delivers through every node to these accounts, and remembers what was acknowledged.
    fn deliver_some(
        &self,
        acknowledged: &mut Acknowledged,
        dice: &mut Dice,
        stage: &str,
        is_for: impl Fn(usize) -> bool,
    ) -> anyhow::Result<()> {
        for account in (0..self.accounts()).filter(|account| is_for(*account)) {
            for number in 0..dice.between(2, 8) {
                let doors = dice.pick(&self.arena.doors).copied().context("no node")?;
                let token = format!("{stage}-{account}-{number}");
                let delivered = self.arena.deliver_one(&doors, account, &token, PATIENCE);
                ensure!(delivered, "{token} is not acknowledged, with nothing wrong");
                acknowledged.entry(account).or_default().insert(token);
            }
        }
        Ok(())
    }

    /// Nodes know nothing any more, and if their machines went off, nor do these.
    fn restart_all(&self, machines: bool) -> anyhow::Result<()> {
        let lab = self.lab()?;
        for node in self.nodes() {
            if machines {
                lab.client(node)?.power_off()?;
                self.lose(node, "power-off")?;
            } else {
                self.take_down(node, "kill-all")?;
            }
        }
        for node in self.nodes() {
            lab.boot_if_off(lab.client(node)?)?;
            self.bring_up(node, if machines { "power-off" } else { "kill-all" })?;
        }
        lab.wait_answers()?;
        self.wait_ready(COMMAND_PATIENCE)
    }

    /// What becomes of each account; an error for one that is shown with less, or neither shown nor reported.
    fn judge(
        &self,
        acknowledged: &Acknowledged,
        patience: Duration,
    ) -> anyhow::Result<BTreeMap<usize, Fate>> {
        let mut fates = BTreeMap::new();
        let mut wrong = None;
        let mut last = BTreeMap::new();
        let all = wait::until(patience, || {
            for (account, tokens) in acknowledged {
                if fates.contains_key(account) {
                    continue;
                }
                match self.look(*account, tokens) {
                    Ok(Some(fate)) => {
                        fates.insert(*account, fate);
                    }
                    Ok(None) => {}
                    Err(Failure::Broken(what)) => wrong = Some(what),
                    Err(failure @ (Failure::Refused(_) | Failure::Lost(_))) => {
                        last.insert(*account, failure);
                    }
                }
            }
            (wrong.is_some() || fates.len() == acknowledged.len()).then_some(())
        });
        ensure!(wrong.is_none(), "{}", wrong.unwrap_or_default());
        last.retain(|account, _| !fates.contains_key(account));
        ensure!(all.is_some(), "neither shown nor reported within {patience:?}: {last:?}");
        Ok(fates)
    }

    /// Reported accounts come back once the volume has everything.
    fn judge_until_whole(&self, acknowledged: &Acknowledged) -> anyhow::Result<BTreeMap<usize, Fate>> {
        let mut fates = BTreeMap::new();
        let whole = wait::until(JUDGED_WITHIN, || {
            match self.judge(acknowledged, PATIENCE) {
                Ok(found) => fates = found,
                Err(error) => return Some(Err(error)),
            }
            fates.values().all(|fate| *fate == Fate::Whole).then_some(Ok(()))
        });
        whole
            .with_context(|| format!("the volume is as it was, and these accounts are not: {fates:?}"))??;
        Ok(fates)
    }

    /// One account, through every node; `None` while it is refused and no alarm was heard.
    fn look(&self, account: usize, tokens: &BTreeSet<String>) -> crate::client::Result<Option<Fate>> {
        let mut refused = None;
        for (doors, node) in self.arena.doors.iter().zip(1..) {
            match doors.imap(account, PATIENCE).and_then(all_mailboxes) {
                Ok(mailboxes) => lacks_none(account, node, tokens, &mailboxes)?,
                Err(failure @ Failure::Broken(_)) => return Err(failure),
                Err(failure @ (Failure::Refused(_) | Failure::Lost(_))) => refused = Some(failure),
            }
        }
        match refused {
            None => Ok(Some(Fate::Whole)),
            Some(_) if self.is_alarmed(account) => Ok(Some(Fate::Reported)),
            Some(failure) => Err(failure),
        }
    }

    fn is_alarmed(&self, account: usize) -> bool {
        let name = user(account);
        let logs = self.nodes().filter_map(|node| Some(self.node(node).ok()?.log()));
        logs.into_iter().any(|log| log.lines().any(|line| line.contains(ALARM) && line.contains(&name)))
    }
}

/// Whoever is shown an account is shown all of it.
fn lacks_none(
    account: usize,
    node: u8,
    tokens: &BTreeSet<String>,
    mailboxes: &[MailboxView],
) -> crate::client::Result<()> {
    let messages = || mailboxes.iter().flat_map(|mailbox| &mailbox.messages);
    let shown: BTreeSet<String> = messages().map(|message| message.token.clone()).collect();
    let lost: Vec<&String> = tokens.difference(&shown).collect();
    let changed: Vec<&String> =
        messages().filter(|message| !message.intact).map(|message| &message.token).collect();
    if lost.is_empty() && changed.is_empty() {
        return Ok(());
    }
    Err(Failure::Broken(format!(
        "a{node} shows {} without a word that {lost:?} were lost and {changed:?} are not as they came",
        user(account)
    )))
}
