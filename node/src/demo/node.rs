//! One node of the demo: a process of its own.

use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::Serialize;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::{Child, ChildStdin, Command};

use super::layout::NodeLayout;
use super::mail::connect;
use crate::cli::exit::{Exit, Failure, complain};

/// A node that does not serve by then has not started.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Between looks.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Longer than a node takes that has a majority. One that has none waits for it; what counts is on disk.
const STOPPED_WITHIN: Duration = Duration::from_secs(3);
/// Lines of its log that are shown when it fails.
const LOG_LINES: usize = 20;

/// As in demo.json.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Addresses {
    pub(super) id: u8,
    pub(super) pid: u32,
    pub(super) config: String,
    pub(super) imap: String,
    pub(super) imaps: String,
    pub(super) pop3: String,
    pub(super) lmtp: String,
    pub(super) admin_http: String,
    pub(super) peer: String,
}

pub(super) struct Node {
    child: Child,
    /// Closes when this process ends, however it does; then the node stops. Waiting for a child would close it.
    _lifeline: Option<ChildStdin>,
    log: std::path::PathBuf,
    pub(super) addresses: Addresses,
}

impl Node {
    pub(super) fn start(layout: &NodeLayout) -> Result<Self, Failure> {
        let log = log_file(&layout.log)?;
        let mut child = Command::new(std::env::current_exe()?)
            .args(["serve", "--until-stdin-ends", "--config"])
            .arg(&layout.config)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()?;
        let addresses = Addresses {
            id: layout.id,
            pid: child.id().unwrap_or(0),
            config: layout.config.display().to_string(),
            imap: layout.imap.to_string(),
            imaps: layout.imaps.to_string(),
            pop3: layout.pop3.to_string(),
            lmtp: layout.lmtp.to_string(),
            admin_http: layout.admin_http.to_string(),
            peer: layout.peer.to_string(),
        };
        Ok(Self { _lifeline: child.stdin.take(), child, log: layout.log.clone(), addresses })
    }

    pub(super) async fn wait_until_ready(&mut self) -> Result<(), Failure> {
        let address = self.addresses.admin_http.clone();
        let ready = async {
            while !is_ready(&address).await {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        };
        let late = format!("node a{} is not ready after {READY_WITHIN:?}", self.addresses.id);
        let late = Failure::new(Exit::Software, late);
        tokio::select! {
            ready = tokio::time::timeout(READY_WITHIN, ready) => ready.map_err(|_| self.with_log(&late)),
            how = Self::wait(&mut self.child) => Err(self.with_log(&self.ended_by(&how))),
        }
    }

    /// Returns when the node has ended, which it should not.
    pub(super) async fn ended(&mut self) -> Failure {
        let how = Self::wait(&mut self.child).await;
        self.with_log(&self.ended_by(&how))
    }

    fn ended_by(&self, how: &str) -> Failure {
        Failure::new(Exit::Software, format!("node a{} ended: {how}", self.addresses.id))
    }

    async fn wait(child: &mut Child) -> String {
        match child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        }
    }

    /// Whether its log says so. It is the log of this start alone.
    pub(super) fn found_a_port_taken(&self) -> bool {
        self.log().contains(nix::errno::Errno::EADDRINUSE.desc())
    }

    fn log(&self) -> String {
        use nfs_compat::Fs as _;
        let log = nfs_compat::DiskFs::new().read(&self.log, 1 << 20).unwrap_or_default();
        String::from_utf8_lossy(&log).into_owned()
    }

    fn with_log(&self, failure: &Failure) -> Failure {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(LOG_LINES)..).unwrap_or_default().join("\n");
        Failure::new(failure.exit, format!("{failure}; its log ends\n{tail}"))
    }

    /// Lets it drain; kills it if it does not.
    pub(super) async fn stop(mut self) {
        if let Some(pid) = self.child.id().and_then(|pid| i32::try_from(pid).ok()) {
            // It may have ended by itself.
            let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
        }
        if tokio::time::timeout(STOPPED_WITHIN, self.child.wait()).await.is_err()
            && let Err(error) = self.child.kill().await
        {
            complain(format_args!("roost: process {} was not stopped: {error}", self.addresses.pid));
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a log for another process to write is no stored file")]
fn log_file(path: &std::path::Path) -> Result<std::fs::File, Failure> {
    let cannot = |error| Failure::new(Exit::CannotCreate, format!("{}: {error}", path.display()));
    std::fs::OpenOptions::new().create(true).write(true).truncate(true).open(path).map_err(cannot)
}

/// Asks `/readyz`.
async fn is_ready(address: &str) -> bool {
    let Ok(mut stream) = connect(address).await else { return false };
    let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = Vec::new();
    let asked = stream.write_all(request.as_bytes()).await;
    asked.is_ok() && stream.read_to_end(&mut answer).await.is_ok() && answer.starts_with(b"HTTP/1.1 200 ")
}
