//! What the processes run on: a volume, a clock that steps and jumps, the coordination service.
//!
//! Invariants
//! - Everything is decided by the seed: no threads, no real time, no real files.
//! - Names and bytes that are old are on stable storage: a kernel writes back by itself within half a minute.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use account::tenure::{Tenure, Volume, Witness};
use account::{Limits, Now, OpenError, Owner, Setup, Shortfall};
use locking::SessionId;
use model::{AccountId, Epoch, MailboxName, SiteId};
use nfs_compat::{EntryKind, Fs, SimFs};
use rand::SeedableRng;
use rand::rngs::StdRng;
use store::format::Format;
use store::format::maildir::Maildir;
use store::paths::Home;
use store::spool::Spool;

use crate::coordination::{Line, Service};
use crate::process::{Gate, ProcessFs, Trace};
use crate::view::HostView;
use crate::{Mutant, Plan};

pub const ROOT: &str = "/mail";
pub const HOME: &str = "/mail/ada";
/// Clock moves longer than this let the kernel write back.
const WRITE_BACK_US: i64 = 30_000_000;
/// Machines that processes run on, one after the other.
const HOSTS: usize = 3;

pub struct World {
    pub volume: SimFs,
    pub kind: Volume,
    pub service: Arc<Service>,
    pub account: AccountId,
    pub now: Now,
    /// How far the time of the service has been followed.
    seen_us: u64,
    /// Microseconds by which the clock went forward, all together.
    pub elapsed_us: u64,
    /// What owners unlinked.
    pub trace: Trace,
    hosts: [HostView; HOSTS],
    /// Whether hosts go by old views: in every other history of a shared volume.
    are_behind: bool,
    mutant: Option<Mutant>,
    processes: u64,
    /// For what hosts believe.
    rng: StdRng,
}

/// A process, with the account open or not.
pub struct Process {
    pub number: u64,
    pub node: u8,
    pub gate: Arc<Gate>,
    pub fs: Arc<dyn Fs>,
    pub session: SessionId,
    pub spool: Option<Spool>,
    pub owner: Option<Box<Owner>>,
    pub epoch: Option<Epoch>,
    /// When another was let in.
    pub deposed_at: Now,
}

/// Why a process has no owner.
#[derive(Debug)]
pub enum NotOpen {
    /// The volume or the service did not do what was asked. It is tried again.
    Trouble(String),
    /// The host shows less than what counts: it is looked at again (`locking.md` §6.2).
    Behind(Box<Shortfall>),
    /// The code says that acknowledged changes are gone, or that a newer version wrote them.
    Wrong(String),
}

impl World {
    pub fn new(seed: u64, plan: Plan) -> Self {
        let Plan { volume: kind, mutant, loses, only: _ } = plan;
        let volume = SimFs::new(seed);
        let start = nfs_compat::sim::CLOCK_START_UNIX * 1_000_000;
        // The operator made the home; everything in it is ours to make.
        for directory in [ROOT, HOME] {
            let made = volume.create_dir(Path::new(directory)).and_then(|()| volume.sync_dir(Path::new("/")));
            assert!(made.is_ok(), "an empty volume takes a directory");
        }
        assert!(volume.sync_dir(Path::new(ROOT)).is_ok(), "an empty volume syncs");
        let account = AccountId::derive("example.org", "ada@example.org", 0);
        Self {
            kind,
            service: Arc::new(Service::new(seed ^ 0x5eed, account, mutant)),
            seen_us: 0,
            account,
            now: Now { unix_us: start },
            elapsed_us: 0,
            trace: Trace::default(),
            hosts: [(); HOSTS].map(|()| HostView::new(&volume)),
            rng: StdRng::seed_from_u64(seed ^ 0x0001_d01d),
            are_behind: kind == Volume::Shared && seed.is_multiple_of(2),
            // A server that answers before it wrote is as a program that does not sync.
            mutant: mutant.or(loses.then_some(Mutant::SegmentsNotSynced)),
            processes: 0,
            volume,
        }
    }

    /// Moves the clock: forward by letting time pass, or backwards.
    pub fn step_clock(&mut self, by_us: i64) {
        match u64::try_from(by_us) {
            Ok(by_us) => self.service.pass(by_us),
            Err(_) => self.set_clock(by_us),
        }
        self.catch_up();
    }

    /// Time has passed while somebody waited for an answer.
    pub fn catch_up(&mut self) {
        let now_us = self.service.now_us();
        let passed_us = now_us - self.seen_us;
        self.seen_us = now_us;
        if passed_us > 0 {
            self.set_clock(i64::try_from(passed_us).unwrap_or(i64::MAX));
        }
    }

    fn set_clock(&mut self, by_us: i64) {
        self.now.unix_us = self.now.unix_us.saturating_add_signed(by_us);
        self.elapsed_us += u64::try_from(by_us).unwrap_or(0);
        self.hosts.iter().for_each(|host| host.set_elapsed(self.elapsed_us));
        self.volume.set_now(UNIX_EPOCH + Duration::from_micros(self.now.unix_us));
        if by_us >= WRITE_BACK_US {
            self.write_back(Path::new("/"));
        }
    }

    fn write_back(&self, directory: &Path) {
        let fs = &self.volume;
        let Ok(entries) = fs.read_dir(directory) else { return };
        for entry in entries {
            let path = directory.join(entry.name);
            match entry.kind {
                EntryKind::Directory => self.write_back(&path),
                EntryKind::File => drop(fs.open_write(&path).and_then(|file| file.sync())),
                EntryKind::Other => {}
            }
        }
        // The kernel does what it can.
        let _synced = fs.sync_dir(directory);
    }

    /// Every host asks the server anew.
    pub fn forget_views(&self) {
        self.hosts.iter().for_each(HostView::forget);
    }

    /// Starts a process. Earlier ones of the same node are dead.
    pub fn start(&mut self, node: u8) -> Process {
        self.processes += 1;
        let gate = Arc::new(Gate::default());
        let fs = ProcessFs::new(&self.volume, Arc::clone(&gate), self.trace.clone(), self.mutant);
        let host = usize::try_from(self.processes).unwrap_or(0) % HOSTS;
        let fs = if self.are_behind {
            for directory in ["j", "c"].map(|name| Path::new(HOME).join(".roost").join(name)) {
                self.hosts[host].grow_old(&mut self.rng, &self.volume, &directory);
            }
            fs.behind(self.hosts[host].clone())
        } else {
            fs
        };
        let fs: Arc<dyn Fs> = Arc::new(fs);
        // Without an answer it asks again when it needs a session.
        let session = self.service.open_session(self.processes, node).unwrap_or(SessionId(0));
        let deposed_at = self.now;
        let (number, spool, owner, epoch) = (self.processes, None, None, None);
        Process { number, node, gate, fs, session, spool, owner, epoch, deposed_at }
    }
}

impl World {
    /// Every file of the volume, for whoever looks into a history that went wrong.
    pub fn files(&self) -> Vec<String> {
        let mut files = Vec::new();
        let mut directories = vec![PathBuf::from(ROOT)];
        while let Some(directory) = directories.pop() {
            for entry in self.volume.read_dir(&directory).unwrap_or_default() {
                let path = directory.join(entry.name);
                match entry.kind {
                    EntryKind::Directory => directories.push(path),
                    EntryKind::File | EntryKind::Other => files.push(path.display().to_string()),
                }
            }
        }
        files.sort();
        files
    }
}

/// What opening needs of the world, so that nothing of it is held meanwhile.
#[derive(Clone)]
pub struct Opening {
    service: Arc<Service>,
    account: AccountId,
    kind: Volume,
    now: Now,
}

impl World {
    pub fn opening(&self) -> Opening {
        Opening { service: Arc::clone(&self.service), account: self.account, kind: self.kind, now: self.now }
    }
}

impl Opening {
    /// Opens the account in this process, as a node does on first use.
    pub fn open(&self, process: &mut Process) -> Result<(), NotOpen> {
        let trouble = |error: nfs_compat::Error| NotOpen::Trouble(error.to_string());
        if process.spool.is_none() {
            let spool = Spool::open(Arc::clone(&process.fs), Path::new(ROOT), process.node, process.number);
            process.spool = Some(spool.map_err(trouble)?);
        }
        if !self.service.believes(process.number) {
            // L-LE2: a session whose lease is over is never used again.
            let session = self.service.open_session(process.number, process.node);
            process.session =
                session.ok_or_else(|| NotOpen::Trouble("the service does not answer".to_owned()))?;
        }
        let epoch = self.service.grant(process.number, process.session);
        let epoch = epoch.ok_or_else(|| NotOpen::Trouble("another node has the account".to_owned()))?;
        process.epoch = Some(epoch);
        let home = Home::recognise(&*process.fs, &PathBuf::from(HOME)).map_err(trouble)?;
        let line = Line {
            service: Arc::clone(&self.service),
            gate: Arc::clone(&process.gate),
            process: process.number,
        };
        let witness: Arc<dyn Witness> = Arc::new(line);
        let format: Arc<dyn Format> = Arc::new(Maildir::new(Arc::clone(&process.fs), &home));
        let setup = Setup {
            account: self.account,
            user: "ada@example.org".to_owned(),
            site: SiteId::new(1).ok_or_else(|| NotOpen::Wrong("site 1 exists".to_owned()))?,
            node: process.node,
            home,
            fs: Arc::clone(&process.fs),
            format,
            tenure: Tenure { epoch, volume: self.kind, witness },
            limits: Limits::default(),
            autocreate: MailboxName::new("Archive").into_iter().map(|name| (name, None)).collect(),
            cache: None,
        };
        match Owner::open(setup, self.now) {
            Ok(owner) => {
                process.owner = Some(Box::new(owner));
                Ok(())
            }
            Err(OpenError::Behind(shortfall)) => Err(NotOpen::Behind(shortfall)),
            Err(error @ (OpenError::Durability(_) | OpenError::Newer(_))) => {
                Err(NotOpen::Wrong(error.to_string()))
            }
            Err(error @ (OpenError::Witness(_) | OpenError::Fs(_) | OpenError::NotStored(_))) => {
                Err(NotOpen::Trouble(error.to_string()))
            }
        }
    }
}
