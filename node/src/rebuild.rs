//! A coordination service founded anew from the volume, when all nodes have lost theirs (`locking.md` §10).
//!
//! Invariants
//! - It happens only while no node of the site runs, and where nothing is known of the service that was.
//! - The volume's incarnation is raised before anything is read: whoever was forgotten comes too late.
//! - The witness of an account is the longest chain of its journal that holds. An account whose journal cannot be read
//!   is told, and on a shared volume stays closed: it is never opened as an empty one.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use account::tenure::{Volume, Witnessed};
use anyhow::{Context, Result, bail};
use config::Config;
use journal::{Mark, ReadError, read_tail};
use locking::Founding;
use model::{AccountId, Epoch};
use nfs_compat::lock::DirectoryLock;
use nfs_compat::{DiskFs, EntryKind, Fs};

use crate::peer::{self, Doors};
use crate::{bind, privileges, tenure, volume};

/// Longer than a host believes what it knew of a network filesystem (`locking.md` §1).
const QUIET: Duration = Duration::from_secs(65);
/// Directories below the mail root that are looked into for accounts.
const DEPTH_MAX: u32 = 16;
/// Accounts between two words about how far it is.
const SAY_EVERY: u64 = 1000;

/// What became of the accounts.
#[derive(Debug, Default)]
pub struct Rebuilt {
    pub incarnation: u32,
    pub accounts: u64,
    /// Accounts without a record in their journal.
    pub empty: u64,
    /// Accounts whose journal cannot be read, and why.
    pub skipped: Vec<(PathBuf, String)>,
    /// Other members of the site.
    pub others: Vec<u8>,
}

/// Rebuilds. `say` is told what happens meanwhile.
pub fn run(config: &Config, say: &mut dyn FnMut(String)) -> Result<Rebuilt> {
    if config.cluster.groups > 1 {
        bail!("a site with cluster.groups above 1 cannot be rebuilt yet");
    }
    let run_as = privileges::run_as(config.node.run_as.as_deref())?;
    bind::prepare_directories(config, run_as)?;
    if let Some(run_as) = run_as {
        run_as.become_it()?;
    }
    let _lock = DirectoryLock::acquire(&config.node.state_dir).context("stop this node first")?;
    let fs: Arc<dyn Fs> = Arc::new(DiskFs::new());
    let (root, site) = (&config.mail.root, &config.cluster.site);
    let Some(block) = volume::read(&*fs, root, site)? else {
        bail!("{} was never served: start the nodes, there is nothing to rebuild", root.display());
    };
    let state_dir = config.node.state_dir.join("raft");
    if let Some(what) = Founding::in_the_way(&fs, &state_dir)? {
        bail!(
            "this node still has its coordination state ({what}): start it. Only if that is lost on all nodes, or worth \
             nothing, move {} away and run this again",
            state_dir.display()
        );
    }
    let incarnation = block.incarnation.checked_add(1).context("the volume's incarnations are used up")?;
    let mut founding = Founding::new(config.replication.slot, incarnation);
    let others = nobody_runs(config, &fs, &founding)?;
    volume::write(&*fs, root, &volume::Superblock { incarnation, ..block })?;
    say(format!("incarnation {incarnation}: what older nodes still hold is refused from now on"));

    if volume::is_on_network(root)? {
        say(format!("waiting {} s for what other hosts have not written yet", QUIET.as_secs()));
        std::thread::sleep(QUIET);
    }
    let kind = volume::kind(root, others.len() + 1)?;
    let mut rebuilt = Rebuilt { incarnation, others, ..Rebuilt::default() };
    let mut scan = Scan { fs: &*fs, kind, founding: &mut founding, rebuilt: &mut rebuilt, say };
    scan.look_into(root, DEPTH_MAX)?;
    let mut voters = rebuilt.others.clone();
    voters.push(config.node.id);
    voters.sort_unstable();
    founding.write(&fs, &state_dir, config.node.id, &voters)?;
    Ok(rebuilt)
}

/// The other members, of which none may answer.
fn nobody_runs(config: &Config, fs: &Arc<dyn Fs>, founding: &Founding) -> Result<Vec<u8>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let others: Vec<u8> =
        config.cluster.member.0.iter().map(|member| member.id).filter(|id| *id != config.node.id).collect();
    let answering = runtime.block_on(async {
        let tls = peer::tls(config, &**fs)?;
        let Some(site) = peer::site(&tls, config, &Doors::default()) else { return Ok(Vec::new()) };
        anyhow::Ok(founding.who_answers(&site.peers, &others).await)
    })?;
    if let Some(node) = answering.first() {
        bail!(
            "node {node} is running: it may know what this would forget. If its state_dir is lost, too, stop it and all \
             other nodes first; if it has its state, let the others in with `roost cluster add`"
        );
    }
    Ok(others)
}

struct Scan<'a> {
    fs: &'a dyn Fs,
    kind: Volume,
    founding: &'a mut Founding,
    rebuilt: &'a mut Rebuilt,
    say: &'a mut dyn FnMut(String),
}

impl Scan<'_> {
    /// Finds the accounts in a directory and below it.
    fn look_into(&mut self, directory: &Path, depth: u32) -> Result<()> {
        let journal = directory.join(".roost").join("j");
        if self.fs.exists(&journal)? {
            return self.take(directory, &journal);
        }
        if depth == 0 {
            return Ok(());
        }
        let mut entries = self.fs.read_dir(directory)?;
        entries.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        for entry in entries {
            let own = entry.name == ".roost" || ["cur", "new", "tmp"].iter().any(|name| entry.name == *name);
            match entry.kind {
                EntryKind::Directory if !own => self.look_into(&directory.join(&entry.name), depth - 1)?,
                EntryKind::Directory | EntryKind::File | EntryKind::Other => {}
            }
        }
        Ok(())
    }

    fn take(&mut self, home: &Path, journal: &Path) -> Result<()> {
        self.rebuilt.accounts += 1;
        if self.rebuilt.accounts.is_multiple_of(SAY_EVERY) {
            (self.say)(format!("{} accounts", self.rebuilt.accounts));
        }
        match journal::whose(self.fs, journal) {
            Ok(Some(account)) => self.witness(home, journal, account),
            Ok(None) => {
                self.rebuilt.empty += 1;
                Ok(())
            }
            Err(error) => {
                self.skip(home, error.to_string());
                Ok(())
            }
        }
    }

    fn skip(&mut self, home: &Path, why: String) {
        self.rebuilt.skipped.push((home.to_owned(), why));
    }

    fn witness(&mut self, home: &Path, journal: &Path, account: AccountId) -> Result<()> {
        match read_tail(self.fs, journal, account, None) {
            Ok(tail) => match tail.mark {
                Some(mark) => self.remember(account, &mark),
                None => {
                    self.rebuilt.empty += 1;
                    Ok(())
                }
            },
            Err(error) => {
                self.skip(home, error.to_string());
                match self.kind {
                    // Without a witness it would be opened as if it had never been written to.
                    Volume::Shared => self.remember(account, &beyond_reach(&error)),
                    // Its owner reads what can be read, and says what is lost.
                    Volume::Private => Ok(()),
                }
            }
        }
    }

    fn remember(&mut self, account: AccountId, mark: &Mark) -> Result<()> {
        let Mark { epoch, segment, length, hash, lsn } = *mark;
        let value = tenure::value(&Witnessed { epoch, segment, length, hash, lsn });
        let value = value.context("a witness is too long")?;
        let (bucket, subkey) = tenure::key(account);
        self.founding.witness(bucket, &subkey, value, lsn, epoch);
        Ok(())
    }
}

/// A mark that no journal satisfies: whoever opens the account is told that changes are missing.
fn beyond_reach(error: &ReadError) -> Mark {
    let (segment, lsn) = match error {
        ReadError::Garbled(garbled) => {
            let last = garbled.before.iter().chain(&garbled.after).map(|entry| entry.lsn).max();
            (Some(garbled.segment), last.unwrap_or(0))
        }
        ReadError::Stale { segment, .. }
        | ReadError::Mismatch { segment }
        | ReadError::Foreign { segment, .. } => (Some(*segment), 0),
        ReadError::Fs(_) => (None, 0),
    };
    let epoch = segment.map_or(Epoch::from_u64(0), |segment| segment.epoch);
    Mark { epoch, segment: segment.map_or(0, |segment| segment.segment), length: u32::MAX, hash: 0, lsn }
}
