//! A server under test: started, killed, started again in place, on free loopback ports, with everything it has in one
//! directory that goes when we do.
//!
//! Invariants
//! - A server that does not come up in time, or goes by itself, is an error that shows the tail of its log.
//! - Nothing of it outlives [`Server`]: its whole process group is killed on drop.

mod dovecot;
mod ports;
mod roost;

use std::fs::{self, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::{Gid, Pid, Uid, User};
use tempfile::TempDir;

use crate::client::imap::Imap;
use crate::client::lmtp::Lmtp;
use crate::client::pop3::Pop3;
use crate::client::{Failure, Result};
use crate::wait;

pub use ports::one as free_port;
pub(crate) use roost::{TOKEN, binary as roost_binary, is_ready};

const START_PATIENCE: Duration = Duration::from_secs(60);
const STOP_PATIENCE: Duration = Duration::from_secs(60);
const CLIENT_PATIENCE: Duration = Duration::from_secs(60);
/// Another process may take a port between our look and the server's bind.
const PORT_ATTEMPTS: u32 = 3;
const LOG_TAIL_LINES: usize = 60;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Roost,
    Dovecot,
}

impl Kind {
    /// What the tests run against: Roost, or with `JEPSEN_SERVER=dovecot` the server that checks the tests.
    pub fn from_environment() -> Self {
        match std::env::var("JEPSEN_SERVER").as_deref() {
            Ok("dovecot") => Self::Dovecot,
            Ok(_) | Err(_) => Self::Roost,
        }
    }

    /// Why this server can't be run here, if so.
    pub fn missing(self) -> Option<String> {
        match self {
            Self::Roost => roost::binary().err().map(|error| error.to_string()),
            Self::Dovecot => (!Path::new(dovecot::BINARY).exists()).then(|| "no Dovecot here".to_owned()),
        }
    }
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Ports {
    pub imap: SocketAddr,
    pub pop3: SocketAddr,
    pub lmtp: SocketAddr,
    pub imaps: SocketAddr,
    pub admin_http: SocketAddr,
    pub peer: SocketAddr,
}

impl Ports {
    pub fn imap(&self, number: usize) -> Result<Imap> {
        Imap::login(self.imap, &user(number), &password(number), CLIENT_PATIENCE)
    }

    pub fn pop3(&self, number: usize) -> Result<Pop3> {
        Pop3::login(self.pop3, &user(number), &password(number), CLIENT_PATIENCE)
    }

    pub fn lmtp(&self) -> Result<Lmtp> {
        Lmtp::connect(self.lmtp, CLIENT_PATIENCE)
    }

    /// Delivers one message to one user.
    pub fn deliver(&self, number: usize, message: &[u8]) -> Result<()> {
        let mut lmtp = self.lmtp()?;
        let verdict = lmtp.deliver("sender@example.net", &[&user(number)], message)?.pop();
        verdict.unwrap_or_else(|| Err(Failure::Broken("no answer for the recipient".to_owned())))?;
        lmtp.quit()
    }
}

/// How a server is to be set up.
#[derive(Clone, Debug)]
pub struct Setup {
    pub kind: Kind,
    /// As many users as this: `user(0)` and on.
    pub users: usize,
    /// Where mail lies; not set = in the server's own directory.
    pub mail_root: Option<PathBuf>,
    /// Keys of Roost's `[limits]`, as TOML lines.
    pub limits: String,
    /// A command before the server's own: `faketime ...`.
    pub wrapper: Vec<String>,
}

impl Setup {
    pub fn of(kind: Kind) -> Self {
        Self { kind, users: 4, mail_root: None, limits: String::new(), wrapper: Vec::new() }
    }

    pub fn from_environment() -> Self {
        Self::of(Kind::from_environment())
    }
}

pub fn user(number: usize) -> String {
    format!("user{number}@example.org")
}

pub fn password(number: usize) -> String {
    format!("secret-{number}")
}

/// Whom files belong to and the server runs as, when we are root.
#[derive(Clone, Copy, Debug)]
pub struct Unprivileged {
    pub uid: Uid,
    pub gid: Gid,
}

/// `None` when we are not root ourselves.
pub fn unprivileged() -> anyhow::Result<Option<Unprivileged>> {
    if !Uid::effective().is_root() {
        return Ok(None);
    }
    let nobody = User::from_name("nobody")?.context("no user nobody")?;
    Ok(Some(Unprivileged { uid: nobody.uid, gid: nobody.gid }))
}

#[derive(Debug)]
pub struct Server {
    setup: Setup,
    dir: TempDir,
    ports: Ports,
    child: Option<Child>,
}

impl Server {
    /// Writes the configuration, starts the server and waits until it serves.
    pub fn start(setup: Setup) -> anyhow::Result<Self> {
        let dir = tempfile::Builder::new().prefix("jepsen-").tempdir()?;
        let mut server = Self { setup, dir, ports: ports::free()?, child: None };
        for attempt in 1.. {
            server.configure()?;
            match server.restart() {
                Ok(()) => break,
                Err(error) if attempt == PORT_ATTEMPTS || !server.log().contains("in use") => {
                    return Err(error);
                }
                Err(_) => server.ports = ports::free()?,
            }
        }
        Ok(server)
    }

    fn configure(&self) -> anyhow::Result<()> {
        let state = self.dir.path().join("state");
        for dir in [&state, &self.mail_root()] {
            fs::create_dir_all(dir)?;
        }
        match self.setup.kind {
            Kind::Roost => roost::configure(self)?,
            Kind::Dovecot => dovecot::configure(self)?,
        }
        self.own(self.dir.path())?;
        self.own(&state)?;
        self.own(&self.mail_root())
    }

    /// Gives a path to the user the server runs as.
    pub fn own(&self, path: &Path) -> anyhow::Result<()> {
        if let Some(owner) = unprivileged()? {
            nix::unistd::chown(path, Some(owner.uid), Some(owner.gid))
                .with_context(|| format!("chown {}", path.display()))?;
        }
        Ok(())
    }

    /// Starts it again where it was, and waits until it serves.
    pub fn restart(&mut self) -> anyhow::Result<()> {
        self.launch()?;
        self.wait_ready()
    }

    /// Starts it and does not wait.
    pub fn launch(&mut self) -> anyhow::Result<()> {
        self.kill();
        let log = OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let (program, arguments) = match self.setup.kind {
            Kind::Roost => roost::command(self)?,
            Kind::Dovecot => dovecot::command(self),
        };
        let mut words = self.setup.wrapper.iter().cloned().chain([program]).chain(arguments);
        let mut command = Command::new(words.next().context("no command")?);
        command.args(words).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).process_group(0);
        command.current_dir(self.dir.path());
        if let (Kind::Dovecot, Some(owner)) = (self.setup.kind, unprivileged()?) {
            command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
        }
        self.child = Some(command.spawn().context("the server does not start")?);
        Ok(())
    }

    pub fn wait_ready(&mut self) -> anyhow::Result<()> {
        let (kind, ports) = (self.setup.kind, self.ports);
        let ready = wait::until(START_PATIENCE, || {
            if let Err(gone) = self.alive() {
                return Some(Err(gone));
            }
            let ready = match kind {
                Kind::Roost => roost::is_ready(ports.admin_http),
                Kind::Dovecot => TcpStream::connect(ports.imap).is_ok(),
            };
            ready.then_some(Ok(()))
        });
        match ready {
            Some(outcome) => outcome,
            None => bail!("not ready within {START_PATIENCE:?}; its log ends:\n{}", self.log_tail()),
        }
    }

    /// An error when the process has ended.
    pub fn alive(&mut self) -> anyhow::Result<()> {
        let child = self.child.as_mut().context("not started")?;
        if let Some(status) = child.try_wait()? {
            bail!("the server ended by itself, {status}; its log ends:\n{}", self.log_tail());
        }
        Ok(())
    }

    /// `kill -9`, for all its processes at once.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            signal(&child, Signal::SIGKILL);
            let _reaped = child.wait();
        }
    }

    /// SIGTERM; waits for the end and demands exit code 0.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let mut child = self.child.take().context("not started")?;
        signal(&child, Signal::SIGTERM);
        let ended = wait::until(STOP_PATIENCE, || child.try_wait().transpose());
        let Some(status) = ended.transpose()? else {
            signal(&child, Signal::SIGKILL);
            bail!("did not stop within {STOP_PATIENCE:?}; its log ends:\n{}", self.log_tail());
        };
        if !status.success() {
            bail!("stopped with {status}; its log ends:\n{}", self.log_tail());
        }
        Ok(())
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub fn kind(&self) -> Kind {
        self.setup.kind
    }

    pub fn ports(&self) -> Ports {
        self.ports
    }

    pub fn setup(&self) -> &Setup {
        &self.setup
    }

    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join(match self.setup.kind {
            Kind::Roost => "roost.toml",
            Kind::Dovecot => "dovecot.conf",
        })
    }

    pub fn mail_root(&self) -> PathBuf {
        self.setup.mail_root.clone().unwrap_or_else(|| self.dir.path().join("mail"))
    }

    /// The home of a user's account.
    pub fn account_dir(&self, number: usize) -> PathBuf {
        self.mail_root().join("example.org").join(format!("user{number}"))
    }

    fn log_path(&self) -> PathBuf {
        self.dir.path().join("log")
    }

    pub fn log(&self) -> String {
        fs::read(self.log_path()).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n")
    }

    /// Keeps the directory for a human to look at, and tells where it is.
    pub fn keep(mut self) -> PathBuf {
        self.kill();
        self.dir.disable_cleanup(true);
        self.dir.path().to_owned()
    }

    pub fn imap(&self, number: usize) -> Result<Imap> {
        self.ports.imap(number)
    }

    pub fn pop3(&self, number: usize) -> Result<Pop3> {
        self.ports.pop3(number)
    }

    pub fn lmtp(&self) -> Result<Lmtp> {
        self.ports.lmtp()
    }

    pub fn deliver(&self, number: usize, message: &[u8]) -> Result<()> {
        self.ports.deliver(number, message)
    }

    fn write(&self, name: &str, content: &str) -> anyhow::Result<PathBuf> {
        let path = self.dir.path().join(name);
        fs::write(&path, content)?;
        self.own(&path)?;
        Ok(path)
    }

    /// One line a user, in the syntax that Dovecot and Roost share.
    fn write_users(&self) -> anyhow::Result<PathBuf> {
        let lines: String = (0..self.setup.users)
            .map(|each| format!("{}:{{PLAIN}}{}::::::\n", user(each), password(each)))
            .collect();
        self.write("users", &lines)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("the server's log ends:\n{}", self.log_tail());
        }
    }
}

fn signal(child: &Child, signal: Signal) {
    if let Ok(group) = i32::try_from(child.id()) {
        let target = Pid::from_raw(group);
        // SIGTERM is for the server alone: it tells its own children.
        let alone = signal == Signal::SIGTERM;
        let _gone = if alone { nix::sys::signal::kill(target, signal) } else { killpg(target, signal) };
    }
}

/// Raises our own limit of open files, and so that of the servers we start, to what the system allows.
pub fn raise_file_limit() -> anyhow::Result<u64> {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    Ok(hard)
}

/// Resident memory of a process, in KiB.
pub fn resident_kib(pid: u32) -> anyhow::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    line.trim().trim_end_matches("kB").trim().parse().context("VmRSS is no number")
}

/// Open files of a process.
pub fn open_files(pid: u32) -> anyhow::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}

/// Processor time that all processes of a server have used, those that have ended and were waited for included.
pub fn processor_time(group: u32) -> anyhow::Result<Duration> {
    let ticks_a_second = nix::unistd::sysconf(nix::unistd::SysconfVar::CLK_TCK)?.context("no clock tick")?;
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")? {
        let stat = entry?.path().join("stat");
        // It may have ended meanwhile, or be no process.
        let Ok(stat) = fs::read_to_string(stat) else { continue };
        // proc(5): after the name in parentheses: state, ppid, pgrp, and the times as the 14th to 17th field.
        let Some((_, fields)) = stat.rsplit_once(") ") else { continue };
        let fields: Vec<&str> = fields.split(' ').collect();
        if fields.get(2).and_then(|pgrp| pgrp.parse().ok()) == Some(group) {
            let times = fields.get(11..15).unwrap_or_default();
            ticks += times.iter().filter_map(|time| time.parse::<u64>().ok()).sum::<u64>();
        }
    }
    Ok(Duration::from_millis(ticks * 1000 / u64::try_from(ticks_a_second)?))
}
