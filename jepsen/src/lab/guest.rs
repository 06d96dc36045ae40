//! One guest: a Linux kernel that runs as a program (user-mode Linux), with a disk, an address and caches of its own.
//!
//! Invariants
//! - Its disk outlives it: what it has synced is there when it is booted again, and what it has not is not.
//! - Nothing of it outlives us.

use std::fs::{self, File, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::agent::{PORT, Request};
use super::packages::Tools;
use super::running::Running;
use crate::hosts::network::link;
use crate::hosts::{Number, tool, words};
use crate::strangers::Ran;
use crate::wait;

const INIT: &str = include_str!("guest-init");
const UP_WITHIN: Duration = Duration::from_secs(90);
const GONE_WITHIN: Duration = Duration::from_secs(20);
const MEMORY_MIB: u32 = 384;
/// Seconds of NFSv4 lease and of grace. Real servers have 90.
const LEASE_S: u32 = 10;
pub(super) const EXPORT: &str = "/srv/export";
const EXPORTED: &str = "no_subtree_check,no_root_squash,insecure,fsid=0";
const CONSOLE_SHOWN: usize = 3_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Server,
    Client,
}

impl Role {
    fn modules(self) -> &'static [&'static str] {
        match self {
            Self::Server => &["overlay", "nfsd"],
            Self::Client => &["overlay", "nfsv3", "nfsv4"],
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }

    /// Small enough to be filled.
    fn disk_mib(self) -> u64 {
        match self {
            Self::Server => 768,
            Self::Client => 192,
        }
    }
}

/// What clients may do, and what they are promised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Export {
    Normal,
    ReadOnly,
    /// What is acknowledged is not on the disk yet, whatever a client asks for.
    Async,
}

impl Export {
    fn options(self) -> &'static str {
        match self {
            Self::Normal => "rw,sync",
            Self::ReadOnly => "ro,sync",
            Self::Async => "rw,async",
        }
    }
}

/// What all guests of a lab have in common.
#[derive(Clone, Debug)]
pub(super) struct Common {
    /// Everything of the lab lies below.
    pub(super) dir: PathBuf,
    pub(super) tools: Tools,
    /// Directories that guests see under their own path.
    pub(super) seen: Vec<PathBuf>,
}

impl Common {
    pub(super) fn share(&self) -> PathBuf {
        self.dir.join("share")
    }

    pub(super) fn memory(&self) -> PathBuf {
        self.dir.join("memory")
    }

    fn init(&self) -> PathBuf {
        self.dir.join("guest-init")
    }

    pub(super) fn write(&self) -> anyhow::Result<()> {
        for dir in [self.share(), self.memory()] {
            fs::create_dir_all(dir)?;
        }
        let mut init =
            OpenOptions::new().create(true).truncate(true).write(true).mode(0o755).open(self.init())?;
        std::io::Write::write_all(&mut init, INIT.as_bytes())?;
        tool("mount", ["-t".as_ref(), "tmpfs".as_ref(), "tmpfs".as_ref(), self.memory().as_os_str()])?;
        Ok(())
    }
}

#[derive(Debug)]
pub struct Guest {
    number: Number,
    role: Role,
    common: Common,
    child: Mutex<Option<Child>>,
}

impl Guest {
    /// Makes its disk and its link to us.
    pub(super) fn make(number: Number, role: Role, common: &Common) -> anyhow::Result<Self> {
        let guest = Self { number, role, common: common.clone(), child: Mutex::default() };
        fs::create_dir_all(guest.dir())?;
        let image = guest.image();
        File::create(&image)?.set_len(role.disk_mib() << 20)?;
        let options = ["-q", "-m", "0", "-F", "-E", "lazy_itable_init=1,nodiscard"].map(AsRef::as_ref);
        tool("mkfs.ext4", options.into_iter().chain([image.as_os_str()]))?;
        let (tap, gateway) = (guest.tap(), guest.gateway());
        words(&format!("ip tuntap add dev {tap} mode tap"))?;
        words(&format!("ip addr add {gateway}/24 dev {tap}"))?;
        words(&format!("ip link set {tap} up"))?;
        Ok(guest)
    }

    fn dir(&self) -> PathBuf {
        self.common.dir.join(format!("guest{}", self.number))
    }

    /// The file that is its disk.
    pub fn image(&self) -> PathBuf {
        self.dir().join("disk.img")
    }

    fn console(&self) -> PathBuf {
        self.dir().join("console")
    }

    fn tap(&self) -> String {
        link(self.number)
    }

    pub fn address(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 2)
    }

    /// What we are to it, and to nobody else.
    fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, self.number, 1)
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.child.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn is_on(&self) -> bool {
        self.process().is_some()
    }

    /// Starts it and does not wait.
    pub fn boot(&self) -> anyhow::Result<()> {
        let mut process = self.process();
        if process.is_some() {
            return Ok(());
        }
        let (dir, common) = (self.dir(), &self.common);
        fs::write(dir.join("env"), self.settings()?)?;
        // A guest that was killed leaves word that it runs.
        let _none = fs::remove_dir_all(dir.join("umid"));
        let console = File::create(self.console())?;
        // A PID namespace: with its first process goes every thread of it.
        let mut command = Command::new("unshare");
        command.args(["--pid", "--fork", "--kill-child=SIGKILL", "--"]).arg(common.tools.kernel());
        command.args([
            &format!("mem={MEMORY_MIB}M"),
            "umid=umid",
            &format!("uml_dir={}/", dir.display()),
            "root=none",
            "rootfstype=hostfs",
            "rootflags=/",
            "ro",
            &format!("init={}", common.init().display()),
            &format!("LAB_ENV={}/env", dir.display()),
            "con=null",
            "con0=null,fd:1",
            // Without gro, large frames between guests are lost.
            &format!("vec0:transport=tap,ifname={},depth=64,gro=1", self.tap()),
            &format!("ubd0={}", self.image().display()),
        ]);
        command.env("TMPDIR", common.memory()).stdin(Stdio::null());
        command.stdout(console.try_clone()?).stderr(console);
        *process = Some(command.spawn().context("a guest does not start")?);
        Ok(())
    }

    fn settings(&self) -> anyhow::Result<String> {
        let tools = &self.common.tools;
        let path = |path: &Path| path.display().to_string();
        let agent = std::env::current_exe()?;
        let mut seen: Vec<String> = self.common.seen.iter().map(|dir| path(dir)).collect();
        seen.extend([path(&tools.root), path(agent.parent().context("no directory")?)]);
        let settings = [
            ("NAME", format!("a{}", self.number)),
            ("ROLE", self.role.name().to_owned()),
            ("ADDRESS", self.address().to_string()),
            ("GATEWAY", self.gateway().to_string()),
            ("TOOLS", path(&tools.root)),
            ("MODULES", path(&tools.modules)),
            ("AGENT", path(&agent)),
            ("SHARE", path(&self.common.share())),
            ("SEE", seen.join(" ")),
            ("INSMOD", tools.loading(self.role.modules())?.join(" ")),
            ("LEASE", LEASE_S.to_string()),
            ("EXPORT", format!("{},{EXPORTED}", Export::Normal.options())),
            ("ARGUMENTS_lockd", format!("nlm_grace_period={LEASE_S}")),
        ];
        Ok(settings.map(|(name, value)| format!("export {name}='{value}'\n")).concat())
    }

    /// Waits until commands can be run in it.
    pub fn wait_up(&self) -> anyhow::Result<()> {
        let up = wait::until(UP_WITHIN, || match self.process().as_mut().map(Child::try_wait) {
            Some(Ok(None)) if self.said().contains("Kernel panic") => Some(Err("it panicked")),
            Some(Ok(None)) => self.run(&["true"]).is_ok().then_some(Ok(())),
            Some(Ok(Some(_)) | Err(_)) | None => Some(Err("it ended")),
        });
        let why = match up {
            Some(Ok(())) => return Ok(()),
            Some(Err(why)) => why,
            None => "it does not answer",
        };
        let said = self.said();
        let tail = said.get(said.len().saturating_sub(CONSOLE_SHOWN)..).unwrap_or(&said);
        bail!("guest {} did not come up: {why}; its console ends:\n{tail}", self.number)
    }

    fn said(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.console()).unwrap_or_default()).into_owned()
    }

    /// As when the plug is pulled.
    pub fn power_off(&self) -> anyhow::Result<()> {
        let mut process = self.process();
        let Some(mut child) = process.take() else { return Ok(()) };
        let kernel = kernel_of(child.id());
        child.kill()?;
        let _reaped = child.wait();
        // Until then it has its disk and its link.
        let gone = wait::until(GONE_WITHIN, || kernel.is_none_or(|kernel| !is_alive(kernel)).then_some(()));
        gone.with_context(|| format!("guest {} does not die", self.number))
    }

    /// The whole machine stands still.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = self.process();
        let kernel = process.as_ref().and_then(|child| kernel_of(child.id())).context("the guest is off")?;
        kill(kernel, signal).with_context(|| format!("cannot send {signal}"))
    }

    /// Starts a command that writes to this file of the share.
    pub fn start(&self, words: &[String], directory: &Path, log: &str) -> anyhow::Result<Running> {
        let log = Some(Path::new("/run/share").join(log));
        let request =
            Request { words: words.to_vec(), directory: directory.to_owned(), input: String::new(), log };
        Running::start((self.address(), PORT).into(), &request)
    }

    /// Runs a command to its end, within half a minute.
    pub fn run(&self, words: &[&str]) -> anyhow::Result<Ran> {
        self.run_with(words, "", Duration::from_secs(30))
    }

    pub fn run_with(&self, words: &[&str], input: &str, patience: Duration) -> anyhow::Result<Ran> {
        let words_owned = words.iter().map(|word| (*word).to_owned()).collect();
        let request =
            Request { words: words_owned, directory: "/".into(), input: input.to_owned(), log: None };
        let ran =
            Running::start((self.address(), PORT).into(), &request).and_then(|run| run.finish(patience));
        ran.with_context(|| format!("{words:?} in guest {}", self.number))
    }

    /// Runs a line of shell, and demands success.
    pub fn shell(&self, line: &str, patience: Duration) -> anyhow::Result<String> {
        let ran = self.run_with(&["sh", "-ec", line], "", patience)?;
        ensure!(
            ran.status.success(),
            "`{line}` in guest {}: {} {}",
            self.number,
            ran.status,
            ran.said().trim()
        );
        Ok(String::from_utf8_lossy(&ran.stdout).into_owned())
    }

    /// At the server.
    pub(super) fn export(&self, how: Export) -> anyhow::Result<()> {
        let line = format!("exportfs -o {},{EXPORTED} '*:{EXPORT}' && exportfs -f", how.options());
        self.shell(&line, Duration::from_secs(30)).map(drop)
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _gone = self.power_off();
    }
}

/// The process that is the guest: the child of the one that made its PID namespace.
fn kernel_of(parent: u32) -> Option<Pid> {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).ok()?;
    children.split_whitespace().next()?.parse().ok().map(Pid::from_raw)
}

/// Who waits to be reaped holds nothing any more.
fn is_alive(process: Pid) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    let state = stat.rsplit_once(") ").and_then(|(_, rest)| rest.chars().next());
    state.is_some_and(|state| !matches!(state, 'Z' | 'X'))
}
