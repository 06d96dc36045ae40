//! The last thing that a guest starts: it runs what it is told to, over TCP, a connection for each command.
//!
//! Invariants
//! - A command lives as long as the connection it came by: who hangs up kills it, and all that it started.
//! - Both ends speak lines of JSON: a [`Request`]; a [`Began`]; an [`Ended`].

use std::fs::OpenOptions;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::Context as _;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

pub(super) const PORT: u16 = 7707;

#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Request {
    pub(super) words: Vec<String>,
    pub(super) directory: PathBuf,
    /// What it reads.
    pub(super) input: String,
    /// The file that gets what it writes; not set = that comes with [`Ended`].
    pub(super) log: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Began {
    /// The command leads a process group of this number.
    Process(u32),
    Not(String),
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Ended {
    /// As wait(2) has it.
    pub(super) status: i32,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

/// Serves for ever.
pub fn serve(address: Ipv4Addr) -> anyhow::Result<()> {
    let listener =
        TcpListener::bind((address, PORT)).with_context(|| format!("cannot listen on {address}"))?;
    for stream in listener.incoming() {
        let Ok(stream) = stream else { continue };
        std::thread::spawn(move || {
            // Who asked has gone.
            let _unheard = answer(&stream);
        });
    }
    Ok(())
}

pub(super) fn say(mut stream: &TcpStream, what: &impl Serialize) -> anyhow::Result<()> {
    let mut line = serde_json::to_vec(what)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    Ok(())
}

fn answer(stream: &TcpStream) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut line = String::new();
    reader.read_line(&mut line)?;
    let request: Request = serde_json::from_str(&line)?;
    let mut child = match start(&request) {
        Ok(child) => child,
        Err(error) => return say(stream, &Began::Not(format!("{error:#}"))),
    };
    let group = Pid::from_raw(i32::try_from(child.id())?);
    say(stream, &Began::Process(child.id()))?;
    std::thread::spawn(move || {
        // Nothing more is said: this returns when the other end has hung up, or when we do.
        let _over = reader.read_to_end(&mut Vec::new());
        let _gone = killpg(group, Signal::SIGKILL);
    });
    let ended = finish(&mut child, request.input)?;
    say(stream, &ended)?;
    stream.shutdown(Shutdown::Both)?;
    Ok(())
}

fn start(request: &Request) -> anyhow::Result<Child> {
    let (program, arguments) = request.words.split_first().context("no command")?;
    let mut command = Command::new(program);
    command.args(arguments).current_dir(&request.directory).process_group(0).stdin(Stdio::piped());
    match &request.log {
        Some(log) => {
            let log = OpenOptions::new().create(true).append(true).open(log)?;
            command.stdout(log.try_clone()?).stderr(log);
        }
        None => {
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
        }
    }
    command.spawn().with_context(|| format!("cannot run {program}"))
}

fn finish(child: &mut Child, input: String) -> anyhow::Result<Ended> {
    let stdin = child.stdin.take();
    std::thread::spawn(move || {
        // It may end without reading all of it.
        let _unread = stdin.map(|mut stdin| stdin.write_all(input.as_bytes()));
    });
    let reading = child.stderr.take().map(|mut pipe| {
        std::thread::spawn(move || {
            let mut bytes = Vec::new();
            let _end = pipe.read_to_end(&mut bytes);
            bytes
        })
    });
    let mut stdout = Vec::new();
    if let Some(mut pipe) = child.stdout.take() {
        pipe.read_to_end(&mut stdout)?;
    }
    let stderr = reading.and_then(|reading| reading.join().ok()).unwrap_or_default();
    let status = child.wait()?.into_raw();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok(Ended { status, stdout: text(stdout), stderr: text(stderr) })
}
