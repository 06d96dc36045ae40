//! One node: a `roost serve` on a host of its own, and what can be done to it.
//!
//! Invariants
//! - A node that should run and has ended by itself is noticed, and started again as a supervisor would.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use nix::sys::signal::Signal;

use super::layout::{HTTP, IMAP, LMTP, POP3, give};
use super::place::{Counter, Host, Place, Process};
use crate::hosts::{Number, disk::Disk};
use crate::lab::Lab;
use crate::server::is_ready;
use crate::wait;

pub use super::place::faketime;

/// SIGTERM and on: what a hand-over and a last sync may take.
const STOP_PATIENCE: Duration = Duration::from_secs(40);
const LOG_TAIL_LINES: usize = 25;

#[derive(Debug)]
pub struct Node {
    pub number: Number,
    dir: PathBuf,
    place: Place,
    process: Option<Process>,
    paused: bool,
}

impl Node {
    /// On a host of its own.
    pub fn new(number: Number, site: &Path, run: &str, clock_ahead_s: u64) -> anyhow::Result<Self> {
        let dir = Self::dir(number, site)?;
        let place = Place::Host(Host::make(number, &dir, run, clock_ahead_s)?);
        Ok(Self { number, dir, place, process: None, paused: false })
    }

    /// In the guest of this number.
    pub fn in_guest(number: Number, site: &Path, lab: &Arc<Lab>) -> anyhow::Result<Self> {
        let dir = Self::dir(number, site)?;
        let node =
            Self { number, dir, place: Place::Guest(number, Arc::clone(lab)), process: None, paused: false };
        let state = node.state();
        let line = format!("mkdir -p {0} && chown nobody {0}", state.display());
        lab.client(number)?.shell(&line, STOP_PATIENCE)?;
        Ok(node)
    }

    fn dir(number: Number, site: &Path) -> anyhow::Result<PathBuf> {
        let dir = site.join(format!("a{number}"));
        fs::create_dir_all(&dir)?;
        give(&dir)?;
        Ok(dir)
    }

    /// As the node sees it.
    pub fn state(&self) -> PathBuf {
        self.place.state()
    }

    /// As the node sees it; `shared` is the tree of nodes that run beside us.
    pub fn mail(&self, shared: &Path) -> PathBuf {
        self.place.mail(shared)
    }

    /// A host's disk, which we can reach.
    pub fn disk(&self) -> anyhow::Result<&Disk> {
        match &self.place {
            Place::Host(host) => Ok(&host.disk),
            Place::Guest(..) => bail!("the disk of a guest is its own"),
        }
    }

    /// The power of a host, whose processes are gone by then, fails and comes back.
    pub fn power_fails(&mut self) -> anyhow::Result<()> {
        let Place::Host(host) = &mut self.place else { bail!("the disk of a guest is its own") };
        host.disk.cut_power()?;
        host.disk.boot()
    }

    pub fn config(&self) -> PathBuf {
        self.dir.join("roost.toml")
    }

    pub fn socket(&self) -> PathBuf {
        self.place.socket()
    }

    pub fn address(&self) -> Ipv4Addr {
        self.place.address(self.number)
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
        (self.address(), port).into()
    }

    pub fn is_ready(&self) -> bool {
        is_ready(self.at(HTTP))
    }

    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Starts it and does not wait.
    pub fn start(&mut self) -> anyhow::Result<()> {
        if self.runs() {
            return Ok(());
        }
        let config = self.config().display().to_string();
        self.process = Some(self.place.start(&["serve".to_owned(), "--config".to_owned(), config])?);
        self.paused = false;
        Ok(())
    }

    /// Where it is asked by its own command line.
    pub(super) fn counter(&self) -> Counter {
        self.place.counter()
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        if let Some(process) = self.process.take() {
            process.reap();
        }
    }

    /// Its machine has gone, and tells nobody.
    pub fn lose(&mut self) {
        self.process = None;
    }

    /// SIGTERM; demands that it ends in time and, if it served, says that all is well.
    pub fn stop(&mut self) -> anyhow::Result<()> {
        let served = self.is_ready();
        self.signal(Signal::SIGTERM);
        let Some(mut process) = self.process.take() else { return Ok(()) };
        let ended = wait::until(STOP_PATIENCE, || process.ended().transpose());
        let Some(status) = ended.transpose()? else {
            self.place.signal(&process, Signal::SIGKILL);
            process.reap();
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
        if let Some(process) = &self.process {
            self.place.signal(process, signal);
        }
    }

    /// How it ended, if it has ended by itself.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        let Some(process) = &mut self.process else { return Ok(None) };
        let status = process.ended()?;
        if status.is_some() {
            self.process = None;
        }
        Ok(status)
    }

    /// Shifts its wall clock, from within a second on.
    pub fn shift_clock(&self, seconds: i64) -> anyhow::Result<()> {
        let Place::Host(host) = &self.place else { bail!("the clock of a guest is the machine's") };
        // Not published by renaming: the library holds the file open.
        fs::write(host.clock(), format!("{seconds:+}s\n")).context("cannot shift the clock")
    }

    /// From its next start on: the host was booted at another time.
    pub fn boot_at(&mut self, clock_ahead_s: u64) {
        if let Place::Host(host) = &mut self.place {
            host.clock_ahead_s = clock_ahead_s;
        }
    }

    pub fn log(&self) -> String {
        let log = fs::read(self.place.log()).unwrap_or_default();
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
