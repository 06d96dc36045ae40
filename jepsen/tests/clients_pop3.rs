//! getmail6 and fetchmail over POP3.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{bail, ensure};
use jepsen::client::shown;
use jepsen::corpus::{self, Kind};
use jepsen::server::{Server, Setup, password, user};
use jepsen::strangers::{Ran, run_with, server_for, unprivileged_command, with_lf};

const PATIENCE: Duration = Duration::from_secs(240);
/// Of which getmail gets a third: it makes a process for each.
const CORPUS: u64 = 320;
const GETMAIL_ATTEMPTS: u32 = 6;

fn fill(server: &Server, messages: &[corpus::Message]) -> anyhow::Result<()> {
    let mut imap = server.imap(0)?;
    for message in messages {
        imap.append("INBOX", "", &message.bytes)?;
    }
    Ok(imap.logout()?)
}

/// getmail with a home of its own.
struct Getmail {
    home: PathBuf,
    out: PathBuf,
}

impl Getmail {
    fn new(server: &Server, attempt: u32) -> anyhow::Result<Self> {
        let home = server.dir().join(format!("getmail{attempt}"));
        let out = home.join("Maildir");
        for part in ["cur", "new", "tmp"] {
            fs::create_dir_all(out.join(part))?;
        }
        let config = format!(
            "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {port}\nusername = {user}\n\
             password = {password}\ntimeout = 15\n[destination]\ntype = Maildir\npath = {out}/\n[options]\n\
             delivered_to = false\nreceived = false\nread_all = false\ndelete = false\nverbose = 0\n",
            port = server.ports().pop3.port(),
            user = user(0),
            password = password(0),
            out = out.display(),
        );
        fs::write(home.join("getmailrc"), config)?;
        for dir in [&home, &out, &out.join("new"), &out.join("cur"), &out.join("tmp")] {
            server.own(dir)?;
        }
        Ok(Self { home, out })
    }

    fn run(&self) -> anyhow::Result<Ran> {
        // It delivers nothing as root.
        let mut command = unprivileged_command("getmail")?;
        command.arg("--getmaildir").arg(&self.home).args(["--rcfile", "getmailrc"]).env("HOME", &self.home);
        run_with(&mut command, b"", PATIENCE)
    }

    /// What it has delivered, without the Return-Path that it puts above each.
    fn taken(&self) -> anyhow::Result<Vec<Vec<u8>>> {
        let mut taken = Vec::new();
        for entry in fs::read_dir(self.out.join("new"))? {
            let bytes = fs::read(entry?.path())?;
            taken.push(bytes.strip_prefix(b"Return-Path: <unknown>\n").unwrap_or(&bytes).to_vec());
        }
        taken.sort();
        Ok(taken)
    }
}

/// A first run. getmail forks a child for each message and listens for its end only afterwards: sometimes it misses that
/// and gives up ("waiting child pid ... timed out"). Then another begins anew.
fn first_getmail(server: &Server) -> anyhow::Result<Getmail> {
    for attempt in 0..GETMAIL_ATTEMPTS {
        let getmail = Getmail::new(server, attempt)?;
        let ran = getmail.run()?;
        if ran.status.success() {
            return Ok(getmail);
        }
        ensure!(
            ran.said().contains("waiting child pid"),
            "getmail ended with {}: {}",
            ran.status,
            ran.said()
        );
    }
    bail!("getmail missed the end of its child in {GETMAIL_ATTEMPTS} attempts");
}

#[test]
fn getmail_takes_every_message_as_it_is_and_only_once() -> anyhow::Result<()> {
    let test = "getmail_takes_every_message_as_it_is_and_only_once";
    let Some(server) = server_for(test, &["getmail"], Setup::from_environment())? else { return Ok(()) };
    // getmail puts what it reads through Python's email parser, which writes other kinds its own way.
    let kept = |message: &corpus::Message| {
        let simple =
            [Kind::Plain, Kind::Html, Kind::Attachment, Kind::EightBit, Kind::OddCharset, Kind::Dots];
        simple.contains(&message.kind) && !message.bytes.starts_with(b"From:  <")
    };
    let messages: Vec<corpus::Message> = corpus::messages(31, CORPUS).into_iter().filter(kept).collect();
    fill(&server, &messages)?;
    let getmail = first_getmail(&server)?;
    let taken = getmail.taken()?;
    let mut sent: Vec<Vec<u8>> = messages.iter().map(|message| with_lf(&message.bytes)).collect();
    sent.sort();
    assert_eq!(taken.len(), sent.len());
    for (taken, sent) in taken.iter().zip(&sent) {
        assert!(taken == sent, "changed: {} for {}", shown(taken), shown(sent));
    }
    // Unique ids are the same the next time: nothing is new.
    let again = getmail.run()?;
    assert!(again.status.success(), "{}", again.said());
    assert_eq!(getmail.taken()?.len(), sent.len());
    Ok(())
}

#[test]
fn fetchmail_takes_and_deletes_every_message() -> anyhow::Result<()> {
    let test = "fetchmail_takes_and_deletes_every_message";
    let Some(server) = server_for(test, &["fetchmail"], Setup::from_environment())? else { return Ok(()) };
    let all = corpus::messages(32, CORPUS);
    let messages: Vec<corpus::Message> = all.into_iter().filter(|one| one.kind.survives_mailers()).collect();
    fill(&server, &messages)?;
    let home = server.dir().join("fetchmail");
    fs::create_dir(&home)?;
    let out = home.join("taken");
    let config = format!(
        "poll 127.0.0.1 service {port} protocol pop3 uidl user \"{user}\" password \"{password}\" sslproto \"\" fetchall \
         no rewrite bsmtp \"{out}\"\n",
        port = server.ports().pop3.port(),
        user = user(0),
        password = password(0),
        out = out.display(),
    );
    let rc = home.join("fetchmailrc");
    fs::write(&rc, config)?;
    fs::set_permissions(&rc, fs::Permissions::from_mode(0o600))?;
    for path in [&home, &rc] {
        server.own(path)?;
    }
    let mut command = unprivileged_command("fetchmail")?;
    command.arg("-f").arg(&rc).arg("--nodetach").arg("--nosyslog");
    command.arg("--pidfile").arg(home.join("pid")).arg("--idfile").arg(home.join("ids"));
    command.env("HOME", &home).env("FETCHMAILHOME", &home);
    let ran = run_with(&mut command, b"", PATIENCE)?;
    assert!(ran.status.success(), "fetchmail ended with {}: {}", ran.status, ran.said());
    let taken = fs::read(&out)?;
    let text = String::from_utf8_lossy(&taken);
    for message in &messages {
        // The bare samples have no Message-ID, and are not among these.
        let subject = format!("Subject: Sample {}", message.number);
        assert!(text.lines().any(|line| line.trim_end() == subject), "no {subject}");
    }
    assert_eq!(server.pop3(0)?.stat()?, (0, 0));
    Ok(())
}
