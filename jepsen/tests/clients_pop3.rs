//! getmail6 and fetchmail over POP3.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use jepsen::client::shown;
use jepsen::corpus::{self, Kind};
use jepsen::server::{Server, Setup, password, user};
use jepsen::strangers::{run_with, server_for, unprivileged_command, with_lf};

const PATIENCE: Duration = Duration::from_secs(240);
/// It makes a process for each message: few do.
const COUNT: u64 = 200;

fn fill(server: &Server, messages: &[corpus::Message]) -> anyhow::Result<()> {
    let mut imap = server.imap(0)?;
    for message in messages {
        imap.append("INBOX", "", &message.bytes)?;
    }
    Ok(imap.logout()?)
}

fn maildir(path: &Path) -> anyhow::Result<()> {
    for part in ["cur", "new", "tmp"] {
        fs::create_dir_all(path.join(part))?;
    }
    Ok(())
}

#[test]
fn getmail_takes_every_message_as_it_is_and_only_once() -> anyhow::Result<()> {
    let test = "getmail_takes_every_message_as_it_is_and_only_once";
    let Some(server) = server_for(test, &["getmail"], Setup::from_environment())? else { return Ok(()) };
    // getmail puts what it reads through Python's email parser, which writes some broken messages its own way.
    let kept = |message: &corpus::Message| {
        let double_space = message.bytes.starts_with(b"From:  <");
        message.kind.survives_mailers() && message.kind != Kind::BrokenMime && !double_space
    };
    let messages: Vec<corpus::Message> = corpus::messages(31, COUNT * 2).into_iter().filter(kept).collect();
    let messages = messages.get(..usize::try_from(COUNT)?).unwrap_or(&messages);
    fill(&server, messages)?;
    let home = server.dir().join("getmail");
    let out = home.join("Maildir");
    maildir(&out)?;
    let config = format!(
        "[retriever]\ntype = SimplePOP3Retriever\nserver = 127.0.0.1\nport = {port}\nusername = {user}\npassword = {password}\n[destination]\ntype = Maildir\npath = {out}/\n\
         [options]\ndelivered_to = false\nreceived = false\nread_all = false\ndelete = false\nverbose = 0\n",
        port = server.ports().pop3.port(),
        user = user(0),
        password = password(0),
        out = out.display(),
    );
    fs::write(home.join("getmailrc"), config)?;
    for dir in [&home, &out, &out.join("new"), &out.join("cur"), &out.join("tmp")] {
        server.own(dir)?;
    }
    let getmail = || -> anyhow::Result<()> {
        // It delivers nothing as root.
        let mut command = unprivileged_command("getmail")?;
        command.arg("--getmaildir").arg(&home).args(["--rcfile", "getmailrc"]).env("HOME", &home);
        let ran = run_with(&mut command, b"", PATIENCE)?;
        anyhow::ensure!(ran.status.success(), "getmail ended with {}: {}", ran.status, ran.said());
        Ok(())
    };
    getmail()?;
    let read = || -> anyhow::Result<Vec<Vec<u8>>> {
        let files = fs::read_dir(out.join("new"))?.map(|entry| anyhow::Ok(fs::read(entry?.path())?));
        // It puts a Return-Path above each.
        let bare =
            |one: Vec<u8>| one.strip_prefix(b"Return-Path: <unknown>\n").map_or(one.clone(), <[u8]>::to_vec);
        files.map(|one| one.map(bare)).collect()
    };
    let mut taken = read()?;
    let mut sent: Vec<Vec<u8>> = messages.iter().map(|message| with_lf(&message.bytes)).collect();
    taken.sort();
    sent.sort();
    assert_eq!(taken.len(), sent.len());
    for (taken, sent) in taken.iter().zip(&sent) {
        assert!(taken == sent, "changed: {} for {}", shown(taken), shown(sent));
    }
    // Unique ids are the same the next time: nothing is new.
    getmail()?;
    assert_eq!(read()?.len(), sent.len());
    Ok(())
}

#[test]
fn fetchmail_takes_and_deletes_every_message() -> anyhow::Result<()> {
    let test = "fetchmail_takes_and_deletes_every_message";
    let Some(server) = server_for(test, &["fetchmail"], Setup::from_environment())? else { return Ok(()) };
    let all = corpus::messages(32, 320);
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
