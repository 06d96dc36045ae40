//! What a node runs on: a host made of namespaces beside us, or a guest that mounts its mail from a file server.

use std::fs::{self, OpenOptions};
use std::net::Ipv4Addr;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::layout::give;
use crate::hosts::{self, Number, disk::Disk};
use crate::lab::{DISK, Lab, MOUNTED, Running};
use crate::server::roost_binary;
use crate::strangers::{Ran, run_with};
use crate::wait;

/// Intercepts the wall clock; the clocks of leases are the kernel's.
const FAKETIME: [&str; 3] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib/aarch64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
];
/// Room for a node's state.
const DISK_BYTES: u64 = 192 << 20;
/// A process that waits for a file server may not die before that answers, or the kernel gives up.
const DIES_WITHIN: Duration = Duration::from_secs(150);

/// The library that shifts a wall clock, if it is here.
pub fn faketime() -> Option<&'static Path> {
    FAKETIME.iter().map(Path::new).find(|path| path.exists())
}

#[derive(Debug)]
pub(super) enum Place {
    Host(Host),
    Guest(Number, Arc<Lab>),
}

#[derive(Debug)]
pub(super) struct Host {
    number: Number,
    dir: PathBuf,
    pub(super) disk: Disk,
    /// By how much its monotonic clocks are ahead of ours: hosts were not booted together.
    pub(super) clock_ahead_s: u64,
}

impl Host {
    pub(super) fn make(number: Number, dir: &Path, run: &str, clock_ahead_s: u64) -> anyhow::Result<Self> {
        let disk = Disk::make(&dir.join("disk.img"), &dir.join("disk"), DISK_BYTES)?;
        let disk = disk.grouped(&format!("{run}-{number}"));
        let host = Self { number, dir: dir.to_owned(), disk, clock_ahead_s };
        let state = host.dir.join("disk").join("state");
        fs::create_dir(&state)?;
        fs::write(host.clock(), "+0s\n")?;
        for path in [state, host.clock()] {
            give(&path)?;
        }
        Ok(host)
    }

    pub(super) fn clock(&self) -> PathBuf {
        self.dir.join("clock")
    }

    fn start(&self, words: &[String], log: &Path) -> anyhow::Result<Child> {
        let log = OpenOptions::new().create(true).append(true).open(log)?;
        let mut command = hosts::command(self.number, self.clock_ahead_s, &roost_binary()?);
        command.args(words).stdout(log.try_clone()?).stderr(log).process_group(0).current_dir(&self.dir);
        if let Some(library) = faketime() {
            command.env("LD_PRELOAD", library).env("FAKETIME_TIMESTAMP_FILE", self.clock());
            command.env("FAKETIME_CACHE_DURATION", "1");
            command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("DONT_FAKE_MONOTONIC", "1");
        }
        let child = command.spawn().context("a node does not start")?;
        self.disk.takes(child.id())?;
        Ok(child)
    }
}

/// The process of a node.
#[derive(Debug)]
pub(super) enum Process {
    Here(Child),
    InGuest(Running),
}

impl Place {
    pub(super) fn address(&self, number: Number) -> Ipv4Addr {
        match self {
            Self::Host(_) => hosts::address(number),
            Self::Guest(guest, lab) => {
                lab.client(*guest).map_or(Ipv4Addr::UNSPECIFIED, crate::lab::Guest::address)
            }
        }
    }

    /// As the node sees it.
    pub(super) fn state(&self) -> PathBuf {
        match self {
            Self::Host(host) => host.dir.join("disk").join("state"),
            Self::Guest(..) => Path::new(DISK).join("state"),
        }
    }

    pub(super) fn socket(&self) -> PathBuf {
        match self {
            Self::Host(host) => host.dir.join("admin.sock"),
            Self::Guest(..) => "/run/admin.sock".into(),
        }
    }

    /// `shared` is the tree of nodes that run beside us.
    pub(super) fn mail(&self, shared: &Path) -> PathBuf {
        match self {
            Self::Host(_) => shared.to_owned(),
            Self::Guest(..) => Path::new(MOUNTED).join("mail"),
        }
    }

    pub(super) fn log(&self) -> PathBuf {
        match self {
            Self::Host(host) => host.dir.join("log"),
            Self::Guest(guest, lab) => lab.shared(&log_of(*guest)),
        }
    }

    /// `roost WORDS`, which is not waited for.
    pub(super) fn start(&self, words: &[String]) -> anyhow::Result<Process> {
        match self {
            Self::Host(host) => Ok(Process::Here(host.start(words, &self.log())?)),
            Self::Guest(number, lab) => {
                let program = roost_binary()?.display().to_string();
                let words: Vec<String> = std::iter::once(program).chain(words.iter().cloned()).collect();
                let running = lab.client(*number)?.start(&words, Path::new("/run"), &log_of(*number));
                Ok(Process::InGuest(running.context("a node does not start")?))
            }
        }
    }

    pub(super) fn counter(&self) -> Counter {
        match self {
            Self::Host(_) => Counter::Here,
            Self::Guest(number, lab) => Counter::InGuest(*number, Arc::clone(lab)),
        }
    }

    pub(super) fn signal(&self, process: &Process, signal: Signal) {
        match (self, process) {
            (_, Process::Here(child)) => {
                let process = i32::try_from(child.id()).ok();
                let _gone = process.map(|process| kill(Pid::from_raw(process), signal));
            }
            (Self::Guest(number, lab), Process::InGuest(running)) => {
                let line = format!("kill -{} -{}", signal as i32, running.process());
                // It, or its guest, has gone.
                let _gone = lab.client(*number).and_then(|guest| guest.run(&["sh", "-c", &line]));
            }
            (Self::Host(_), Process::InGuest(_)) => {}
        }
    }
}

/// Where a node is asked: by who has its admin socket.
#[derive(Debug)]
pub(super) enum Counter {
    Here,
    InGuest(Number, Arc<Lab>),
}

impl Counter {
    /// `roost WORDS` to its end.
    pub(super) fn ask(&self, words: &[&str], patience: Duration) -> anyhow::Result<Ran> {
        let roost = roost_binary()?;
        match self {
            Self::Here => run_with(Command::new(roost).args(words), b"", patience),
            Self::InGuest(number, lab) => {
                let roost = roost.display().to_string();
                let words: Vec<&str> = std::iter::once(roost.as_str()).chain(words.iter().copied()).collect();
                lab.client(*number)?.run_with(&words, "", patience)
            }
        }
    }
}

fn log_of(guest: Number) -> String {
    format!("a{guest}.log")
}

impl Process {
    pub(super) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        match self {
            Self::Here(child) => Ok(child.try_wait()?),
            Self::InGuest(running) => Ok(running.ended()),
        }
    }

    /// After SIGKILL: until it is gone.
    pub(super) fn reap(mut self) {
        let gone = wait::until(DIES_WITHIN, || match self.ended() {
            Ok(ended) => ended,
            Err(_) => Some(ExitStatus::from_raw(0)),
        });
        if gone.is_none() {
            eprintln!("a process outlives SIGKILL by {DIES_WITHIN:?}");
        }
    }
}
