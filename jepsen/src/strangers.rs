//! Programs that nobody here wrote, run against the server; and what is said when one is missing.

use std::ffi::OsStr;
use std::io::{Read as _, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail};

use crate::server::{Kind, Server, Setup, unprivileged};
use crate::wait;

/// Where a program is, if it is here.
pub fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let sbin = [PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")];
    std::env::split_paths(&path).chain(sbin).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Says why a test does nothing here, past the test harness, which would keep it to itself.
///
/// # Panics
/// When `ROOST_TESTS=require`: then nothing may be skipped.
pub fn skip(test: &str, why: &str) {
    let line = format!("SKIPPED: {test}: {why}\n");
    let _unheard = std::io::stderr().write_all(line.as_bytes());
    assert!(std::env::var("ROOST_TESTS").as_deref() != Ok("require"), "{}", line.trim_end());
}

/// Starts the server for a test that needs these programs; `None` when the test is skipped.
pub fn server_for(test: &str, programs: &[&str], setup: Setup) -> anyhow::Result<Option<Server>> {
    let missing = programs.iter().find(|program| find(program).is_none());
    let why = missing.map(|program| format!("no {program} here")).or_else(|| setup.kind.missing());
    if let Some(why) = why {
        skip(test, &why);
        return Ok(None);
    }
    Server::start(setup).map(Some)
}

/// Whether what is tested is us; the oracle is excused from what only we promise.
pub fn is_ours(server: &Server) -> bool {
    server.kind() == Kind::Roost
}

#[derive(Debug)]
pub struct Ran {
    pub status: ExitStatus,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

impl Ran {
    pub fn said(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), String::from_utf8_lossy(&self.stderr))
    }
}

/// Runs a program to its end; an error when it takes longer than `patience`.
pub fn run<S: AsRef<OsStr>>(program: &str, arguments: &[S], patience: Duration) -> anyhow::Result<Ran> {
    run_with(
        Command::new(find(program).with_context(|| format!("no {program}"))?).args(arguments),
        b"",
        patience,
    )
}

/// The same for a command made elsewhere, which reads `input`.
pub fn run_with(command: &mut Command, input: &[u8], patience: Duration) -> anyhow::Result<Ran> {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().context("no stdin")?;
    let mut stdout = child.stdout.take().context("no stdout")?;
    let mut stderr = child.stderr.take().context("no stderr")?;
    let input = input.to_vec();
    // A program may end without reading all of it; that shows in what it says.
    let writer = std::thread::spawn(move || drop(stdin.write_all(&input)));
    let read_out = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stdout.read_to_end(&mut bytes).map(|_| bytes)
    });
    let read_err = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        stderr.read_to_end(&mut bytes).map(|_| bytes)
    });
    let ended = wait::until(patience, || child.try_wait().transpose()).transpose()?;
    if ended.is_none() {
        child.kill()?;
        child.wait()?;
    }
    let joined = |handle: std::thread::JoinHandle<std::io::Result<Vec<u8>>>| {
        handle.join().map_err(|_| anyhow::anyhow!("reader died"))?.map_err(anyhow::Error::from)
    };
    drop(writer.join());
    let (stdout, stderr) = (joined(read_out)?, joined(read_err)?);
    let Some(status) = ended else {
        bail!("{command:?} took longer than {patience:?}; it said: {}", String::from_utf8_lossy(&stderr));
    };
    Ok(Ran { status, stdout, stderr })
}

/// A command for a program that refuses to be root: the user that servers run as, when we are root.
pub fn unprivileged_command(program: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(find(program).with_context(|| format!("no {program}"))?);
    if let Some(owner) = unprivileged()? {
        command.uid(owner.uid.as_raw()).gid(owner.gid.as_raw());
    }
    Ok(command)
}

/// Runs a program and demands success.
pub fn run_ok<S: AsRef<OsStr>>(program: &str, arguments: &[S], patience: Duration) -> anyhow::Result<Ran> {
    let ran = run(program, arguments, patience)?;
    if !ran.status.success() {
        let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
        bail!("{program} {} ended with {}:\n{}", words.join(" "), ran.status, ran.said());
    }
    Ok(ran)
}

/// LF for CRLF, as programs on this system keep mail.
pub fn with_lf(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(bytes.len());
    for line in bytes.split_inclusive(|byte| *byte == b'\n') {
        match line.strip_suffix(b"\r\n") {
            Some(bare) => {
                out.extend_from_slice(bare);
                out.push(b'\n');
            }
            None => out.extend_from_slice(line),
        }
    }
    out
}

/// Whether `stored` is `sent` below nothing but header fields that a deliverer adds.
pub fn is_below_trace(stored: &[u8], sent: &[u8]) -> bool {
    const TRACE: [&str; 4] = ["return-path:", "delivered-to:", "received:", "x-original-to:"];
    let Some(added) = stored.strip_suffix(sent) else { return false };
    let text = String::from_utf8_lossy(added).to_ascii_lowercase();
    let ended = text.is_empty() || text.ends_with('\n');
    let mut lines = text.lines();
    let first = lines.next().is_none_or(|line| TRACE.iter().any(|name| line.starts_with(name)));
    let fields =
        |line: &str| line.starts_with([' ', '\t']) || TRACE.iter().any(|name| line.starts_with(name));
    ended && first && lines.all(fields)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trace_fields_are_told_from_changes() {
        assert!(is_below_trace(
            b"Return-Path: <a>\r\nReceived: x\r\n\tid y\r\nS: t\r\n\r\nb",
            b"S: t\r\n\r\nb"
        ));
        assert!(is_below_trace(b"S: t\r\n\r\nb", b"S: t\r\n\r\nb"));
        assert!(!is_below_trace(b"Subject: x\r\nS: t\r\n\r\nb", b"S: t\r\n\r\nb"));
        assert!(!is_below_trace(b"S: t\r\n\r\nb\r\n", b"S: t\r\n\r\nb"));
        assert!(!is_below_trace(b"Received: xS: t", b"S: t"));
    }

    #[test]
    fn a_program_that_hangs_is_stopped_and_named() {
        let slow = run("sleep", &["60"], Duration::from_millis(50)).unwrap_err();
        assert!(slow.to_string().contains("sleep"), "{slow}");
    }
}
