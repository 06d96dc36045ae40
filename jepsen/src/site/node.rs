//! One node: a `roost serve` on a host of its own, and what can be done to it.
//!
//! Invariants
//! - A node that should run and has ended by itself is noticed, and started again as a supervisor would.

use std::fs::{self, OpenOptions};
use std::net::SocketAddr;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::{HTTP, IMAP, LMTP, POP3, give};
use crate::hosts::{self, Number, disk::Disk};
use crate::server::{is_ready, roost_binary};
use crate::wait;

/// SIGTERM and on: what a hand-over and a last sync may take.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
const LOG_TAIL_LINES: usize = 25;
/// Intercepts the wall clock; the clocks of leases are the kernel's.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];

/// The library that shifts a wall clock, if it is here.
pub fn faketime() -> Option<&'static Path> {
    FAKETIME.iter().map(Path::new).find(|path| path.exists())
}

#[derive(Debug)]
pub struct Node {
    pub number: Number,
    dir: PathBuf,
    pub disk: Disk,
    child: Option<Child>,
    paused: bool,
    /// By how much its monotonic clocks are ahead of ours: hosts were not booted together.
    clock_ahead_s: u64,
}

impl Node {
    pub fn new(number: Number, site: &Path, run: &str, clock_ahead_s: u64) -> anyhow::Result<Self> {
        let dir = site.join(format!("a{number}"));
        fs::create_dir_all(&dir)?;
        let disk = Disk::make(number, &dir.join("disk.img"), &dir.join("disk"), run)?;
        let node = Self { number, dir, disk, child: None, paused: false, clock_ahead_s };
        fs::create_dir(node.state())?;
        fs::write(node.clock(), "+0s\n")?;
        for path in [node.dir.clone(), node.state(), node.clock()] {
            give(&path)?;
        }
        Ok(node)
    }

    pub fn state(&self) -> PathBuf {
        self.dir.join("disk").join("state")
    }

    fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("roost.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.dir.join("admin.sock")
    }

    pub fn imap(&self) -> SocketAddr {
        self.at(IMAP)
    }

    pub fn pop3(&self) -> SocketAddr {
        self.at(POP3)
    }

    pub fn lmtp(&self) -> SocketAddr {
        self.at(LMTP)
    }

    fn at(&self, port: u16) -> SocketAddr {
        (hosts::address(self.number), port).into()
    }

    pub fn is_ready(&self) -> bool {
        is_ready(self.at(HTTP))
    }

    pub fn runs(&self) -> bool {
        self.child.is_some()
    }

    /// Starts it and does not wait.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.runs() {
            return Ok(());
        }
        let log = OpenOptions::new().create(true).append(true).open(self.dir.join("log"))?;
        let mut command = hosts::command(self.number, self.clock_ahead_s, &roost_binary()?);
        command.args(["serve", "--config"]).arg(self.config());
        command.stdout(log.try_clone()?).stderr(log).process_group(0).current_dir(&self.dir);
        if let Some(library) = faketime() {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.clock());
            command.env("FAKETIME_CACHE_DURATION", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.spawn().context("a node does not start")?;
        self.disk.takes(child.id())?;
        self.child = Some(child);
        self.paused = false;
        Ok(())
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(mut child) = self.child.take() {
            let _reaped = child.wait();
        }
    }

    /// SIGTERM; demands that it ends in time and, if it served, says that all is well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let served = self.is_ready();
        self.signal(Signal::SIGTERM);
        let Some(mut child) = self.child.take() else { return Ok(()) };
        let ended = wait::until(STOP_PATIENCE, || child.try_wait().transpose());
        let Some(status) = ended.transpose()? else {
            child.kill()?;
            let _reaped = child.wait();
            bail!("node {} did not stop within {STOP_PATIENCE:?} of SIGTERM", self.number);
        };
        if served && !status.success() {
            bail!("node {} stopped with {status}", self.number);
        }
        Ok(())
    }

    pub fn pause(&mut self) {
        self.paused = true;
        self.signal(Signal::SIGSTOP);
    }

    pub fn resume(&mut self) {
        self.paused = false;
        self.signal(Signal::SIGCONT);
    }

    fn signal(&self, signal: Signal) {
        let process = self.child.as_ref().and_then(|child| i32::try_from(child.id()).ok());
        let _gone = process.map(|process| kill(Pid::from_raw(process), signal));
    }

    /// How it ended, if it has ended by itself.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(child) = &mut self.child else { return Ok(None) };
        let status = child.try_wait()?;
        if status.is_some() {
            self.child = None;
        }
        Ok(status)
    }

    /// Shifts its wall clock, from within a second on.
    pub fn shift_clock(&self, seconds: i64) -> anyhow::Result<()> {
        // Not published by renaming: the library holds the file open.
        fs::write(self.clock(), format!("{seconds:+}s\n")).context("cannot shift the clock")
    }

    /// From its next start on: the host was booted at another time.
    pub fn boot_at(&mut self, clock_ahead_s: u64) {
        self.clock_ahead_s = clock_ahead_s;
    }

    pub fn log(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    pub fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(LOG_TAIL_LINES)..).unwrap_or_default().join("\n")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}
