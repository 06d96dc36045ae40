//! A command in a guest, as we see it.

use std::io::{BufRead as _, BufReader};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::unix::process::ExitStatusExt as _;
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, bail};

use super::agent::{Began, Ended, Request, say};
use crate::strangers::Ran;
use crate::wait;

const CONNECTED_WITHIN: Duration = Duration::from_secs(5);
const BEGUN_WITHIN: Duration = Duration::from_secs(30);
/// What a command ends with whose guest has gone: that of a process that was killed.
const KILLED: i32 = 9;

/// It dies with this value.
#[derive(Debug)]
pub struct Running {
    stream: TcpStream,
    process: u32,
    ended: Arc<Mutex<Option<Ended>>>,
}

impl Running {
    pub(super) fn start(agent: SocketAddr, request: &Request) -> anyhow::Result<Self> {
        let stream = TcpStream::connect_timeout(&agent, CONNECTED_WITHIN)
            .with_context(|| format!("the guest at {agent} does not answer"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(BEGUN_WITHIN))?;
        say(&stream, request)?;
        let mut reader = BufReader::new(stream.try_clone()?);
        let mut line = String::new();
        reader.read_line(&mut line).context("the guest said nothing")?;
        let process = match serde_json::from_str(&line).context("the guest hung up")? {
            Began::Process(process) => process,
            Began::Not(why) => bail!("{why}"),
        };
        stream.set_read_timeout(None)?;
        let ended = Arc::new(Mutex::new(None));
        let tell = Arc::clone(&ended);
        std::thread::spawn(move || {
            let mut line = String::new();
            let heard = reader.read_line(&mut line).is_ok();
            let told = serde_json::from_str(&line).ok().filter(|_| heard);
            let gone =
                || Ended { status: KILLED, stdout: String::new(), stderr: "the guest has gone".to_owned() };
            *tell.lock().unwrap_or_else(PoisonError::into_inner) = Some(told.unwrap_or_else(gone));
        });
        Ok(Self { stream, process, ended })
    }

    /// Its number, in the guest.
    pub fn process(&self) -> u32 {
        self.process
    }

    fn look(&self) -> Option<Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub fn ended(&self) -> Option<ExitStatus> {
        self.look().map(|ended| ExitStatus::from_raw(ended.status))
    }

    /// Waits for its end; an error, and it is killed, when that takes longer than this.
    pub(super) fn finish(self, patience: Duration) -> anyhow::Result<Ran> {
        let ended = wait::until(patience, || self.look());
        let ended = ended.with_context(|| format!("no end within {patience:?}"))?;
        let status = ExitStatus::from_raw(ended.status);
        Ok(Ran { status, stdout: ended.stdout.into_bytes(), stderr: ended.stderr.into_bytes() })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _gone = self.stream.shutdown(Shutdown::Both);
    }
}
