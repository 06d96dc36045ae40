//! Neighbours on the same mount: another NFS client where procmail and a plain script deliver into `new`, and where a mail
//! program renames flags, while nodes of the site serve the account.
//!
//! What they do must show to IMAP clients at every node within `mail.observe`; no UID may name two messages, and every
//! message is there once.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use clap::Args;

use super::{Options, Site, lease_seconds, reading};
use crate::checker;
use crate::client::imap::Imap;
use crate::history::{Op, Outcome, Place};
use crate::lab::{self, Guest, MOUNTED};
use crate::strangers::{find, with_lf};
use crate::wait;
use crate::workload::kill::message::{compose, token_of};

/// `mail.observe`, which the site's configuration leaves at its default.
const OBSERVE: Duration = Duration::from_secs(10);
/// What guests need that share two processors with everything else.
const SLACK: Duration = Duration::from_secs(8);
const PATIENCE: Duration = Duration::from_secs(60);
const NODES: u8 = 3;
/// The guest beside those of nodes.
const NEIGHBOUR: u8 = NODES + 1;
const ACCOUNT: usize = 0;
const CLIENT: u32 = 9;

#[derive(Args, Clone, Debug)]
pub struct Beside {
    #[arg(long, value_enum, default_value = "4.2")]
    pub vers: lab::Version,
    /// Names the messages
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Deliveries of each neighbour, with as many of the site's own at the same time
    #[arg(long, default_value_t = 4)]
    pub rounds: u64,
    /// cluster.lease, in seconds
    #[arg(long, value_parser = lease_seconds, default_value = "5s")]
    pub lease: u64,
}

/// Who delivers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Neighbour {
    Procmail,
    /// Writes a file in `tmp` and moves it to `new`, as every Maildir writer does.
    Script,
}

/// Does it, and tells how soon what they did was seen. Only inside of namespaces of our own.
pub fn run(options: &Beside) -> anyhow::Result<String> {
    ensure!(find("neomutt").is_some() && find("script").is_some(), "no neomutt or no script here");
    let mut site = Site::start(&Options {
        seed: options.seed,
        seconds: 0,
        workloads: Vec::new(),
        nemeses: Vec::new(),
        lease: options.lease,
        nodes: NODES,
        accounts: 1,
        keep: false,
        nfs: Some(options.vers),
        neighbours: 1,
    })?;
    let told = site.beside_neighbours(options);
    if told.is_err() {
        site.dir.disable_cleanup(true);
    }
    let again = || {
        let (vers, seed, rounds) = (options.vers.name(), options.seed, options.rounds);
        format!(
            "{}seed {seed}; run it again: cargo run -p jepsen -- neighbours --vers {vers} --seed {seed} --rounds {rounds}\nlogs \
             and disks are in {dir}",
            site.log_tails(),
            dir = site.dir().display()
        )
    };
    told.with_context(again)
}

/// IMAP sessions at every node, which stay.
struct Watchers<'a> {
    site: &'a Site,
    sessions: Vec<(u8, Imap, u32)>,
}

impl Site {
    fn beside_neighbours(&self, options: &Beside) -> anyhow::Result<String> {
        let lab = self.lab()?;
        let street = Street::furnish(self, lab.client(NEIGHBOUR)?)?;
        let ours = |token: &str, node: usize| {
            let doors = self.arena.doors.get(node % self.arena.doors.len()).context("no node")?;
            ensure!(self.arena.deliver_one(doors, ACCOUNT, token, PATIENCE), "{token} is not acknowledged");
            anyhow::Ok(())
        };
        ours(&format!("n{}-first", options.seed), 0)?;
        let mut watchers = Watchers::watch(self)?;
        let mut seen: BTreeMap<&str, Vec<Duration>> = BTreeMap::new();
        let mut names = Vec::new();
        for (round, node) in (1..=options.rounds).zip(0..) {
            for (neighbour, what) in
                [(Neighbour::Procmail, "procmail delivers"), (Neighbour::Script, "a script delivers")]
            {
                let token = format!("n{}-{neighbour:?}-{round}", options.seed);
                let beside = format!("{token}-beside");
                // Both at once: they must not be given one UID.
                std::thread::scope(|scope| {
                    let beside = scope.spawn(|| ours(&beside, node));
                    street.deliver(self, neighbour, &token)?;
                    beside.join().unwrap_or_else(|_| Err(anyhow::anyhow!("it panicked")))
                })?;
                let times = watchers.until_all("delivered", &token, |_| true)?;
                seen.entry(what).or_default().extend(times);
                names.push(token);
            }
        }
        for token in names.iter().take(3) {
            street.flag(token)?;
            let times =
                watchers.until_all("flagged", token, |flags| flags.contains(&"\\Flagged".to_owned()))?;
            seen.entry("neomutt flags").or_default().extend(times);
        }
        let differ =
            reading::read_all(&self.arena).map_err(|failure| anyhow::anyhow!("reading: {failure}"))?;
        ensure!(differ.is_empty(), "nodes show different mailboxes: {differ:?}");
        let broken = checker::check_site(&self.arena.recorder.history());
        let broken: Vec<String> = broken.iter().map(ToString::to_string).collect();
        ensure!(broken.is_empty(), "{}", broken.join("\n"));
        let mut told = format!("nfs={} seed={}\n", options.vers.name(), options.seed);
        for (what, times) in seen {
            let most = times.iter().max().copied().unwrap_or_default();
            writeln!(told, "{what}: seen at every node {} times, after {most:.1?} at most", times.len())?;
        }
        Ok(told)
    }
}

/// What the neighbours have: their guest, and their files.
struct Street<'a> {
    guest: &'a Guest,
    dir: PathBuf,
    maildir: String,
}

impl<'a> Street<'a> {
    fn furnish(site: &Site, guest: &'a Guest) -> anyhow::Result<Self> {
        let dir = site.dir().join("neighbours");
        fs::create_dir(&dir)?;
        let maildir = format!("{MOUNTED}/mail/example.org/user0/Maildir");
        let rules =
            format!("MAILDIR=/tmp\nORGMAIL=/tmp/orgmail\nLOGFILE=/tmp/procmail.log\nDEFAULT={maildir}/\n");
        fs::write(dir.join("procmailrc"), rules)?;
        for path in [dir.clone(), dir.join("procmailrc")] {
            super::give(&path)?;
        }
        Ok(Self { guest, dir, maildir })
    }

    /// As the user whom the mail belongs to.
    fn shell(&self, line: &str, input: &str) -> anyhow::Result<()> {
        let words = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "sh", "-ec", line];
        let ran = self.guest.run_with(&words, input, PATIENCE)?;
        ensure!(ran.status.success(), "`{line}`: {} {}", ran.status, ran.said().trim());
        Ok(())
    }

    fn deliver(&self, site: &Site, neighbour: Neighbour, token: &str) -> anyhow::Result<()> {
        let begun = site.arena.recorder.now_us();
        let message = String::from_utf8(with_lf(&compose(token)))?;
        let maildir = &self.maildir;
        let line = match neighbour {
            Neighbour::Procmail => format!("procmail {}/procmailrc", self.dir.display()),
            Neighbour::Script => {
                format!(
                    "name=$(date +%s).{token}.neighbour; cat > {maildir}/tmp/$name; mv {maildir}/tmp/$name {maildir}/new/$name"
                )
            }
        };
        self.shell(&line, &message)?;
        let op = Op::Add { token: token.to_owned(), mailbox: "INBOX".to_owned(), placed: None };
        site.arena.recorder.told(CLIENT, ACCOUNT, begun, Outcome::Ok, op);
        Ok(())
    }

    /// By the keys that a user would press.
    fn flag(&self, token: &str) -> anyhow::Result<()> {
        let rc = self.dir.join(format!("neomutt-{token}"));
        let settings = format!(
            "set folder = \"{maildir}\"\nset spoolfile = \"{maildir}\"\nset mbox_type = Maildir\nset quit = yes\n\
             set sleep_time = 0\nset wait_key = no\nset move = no\nunset mark_old\nset sort = date\n\
             push \"<search>~s '{token}$'<enter><flag-message><sync-mailbox><quit>\"\n",
            maildir = self.maildir
        );
        fs::write(&rc, settings)?;
        super::give(&rc)?;
        let line = format!(
            "HOME=/tmp TERM=xterm LANG=C.UTF-8 script -qec 'neomutt -n -F {} -f {}' /dev/null",
            rc.display(),
            self.maildir
        );
        self.shell(&line, "")
    }
}

impl<'a> Watchers<'a> {
    fn watch(site: &'a Site) -> anyhow::Result<Self> {
        let mut sessions = Vec::new();
        for (doors, node) in site.arena.doors.iter().zip(1..) {
            let mut imap = doors.imap(ACCOUNT, PATIENCE)?;
            let selected = imap.select("INBOX")?;
            sessions.push((node, imap, selected.uidvalidity));
        }
        Ok(Self { site, sessions })
    }

    /// Waits until every session shows this message, with flags that will do; tells how long each took.
    fn until_all(
        &mut self,
        what: &str,
        token: &str,
        will_do: impl Fn(&[String]) -> bool,
    ) -> anyhow::Result<Vec<Duration>> {
        let begun = Instant::now();
        let recorder = &self.site.arena.recorder;
        let mut times = Vec::new();
        for (node, imap, uidvalidity) in &mut self.sessions {
            let mut failed = None;
            let shown = wait::until(OBSERVE + SLACK, || {
                let at = recorder.now_us();
                let looked = imap
                    .command("NOOP")
                    .and_then(|_| imap.uid_fetch("1:*", "(UID FLAGS BODY.PEEK[HEADER.FIELDS (X-Token)])"));
                let messages = match looked {
                    Ok(messages) => messages,
                    Err(failure) => {
                        failed = Some(failure);
                        return Some(());
                    }
                };
                let mut found = false;
                for one in messages {
                    let (Some(uid), Some(name)) = (one.uid(), one.body().and_then(token_of)) else {
                        continue;
                    };
                    let flags: Vec<String> = one.flags().unwrap_or_default().into_iter().collect();
                    found |= name == token && will_do(&flags);
                    let place = Place { mailbox: "INBOX".to_owned(), uidvalidity: *uidvalidity, uid };
                    recorder.told(CLIENT, ACCOUNT, at, Outcome::Ok, Op::Met { token: name, place });
                }
                found.then_some(())
            });
            if let Some(failure) = failed {
                anyhow::bail!("a session at a{node}: {failure}");
            }
            shown.with_context(|| {
                format!("{token} was {what}, and a{node} does not show that within {:?}", OBSERVE + SLACK)
            })?;
            times.push(begun.elapsed());
        }
        Ok(times)
    }
}
