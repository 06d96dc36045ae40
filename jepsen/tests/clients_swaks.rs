//! swaks, as an LMTP sender.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

use std::fs;
use std::time::Duration;

use jepsen::corpus;
use jepsen::server::{Setup, user};
use jepsen::strangers::{is_below_trace, run, run_ok, server_for};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn swaks_delivers_by_lmtp_as_it_is() -> anyhow::Result<()> {
    let test = "swaks_delivers_by_lmtp_as_it_is";
    let Some(server) = server_for(test, &["swaks"], Setup::from_environment())? else { return Ok(()) };
    let messages = corpus::messages(41, 16);
    let address = server.ports().lmtp.to_string();
    let both = format!("{},{}", user(0), user(1));
    for message in &messages {
        let path = server.dir().join(format!("m{}", message.number));
        // As on the wire: dots stuffed and the end marked; swaks is told to leave it alone.
        let mut wire = Vec::new();
        for line in message.with_final_newline().split_inclusive(|byte| *byte == b'\n') {
            wire.extend_from_slice(if line.starts_with(b".") { b"." } else { b"" });
            wire.extend_from_slice(line);
        }
        wire.extend_from_slice(b".");
        fs::write(&path, &wire)?;
        let data = format!("@{}", path.display());
        let words = ["--protocol", "LMTP", "--server", &address, "--from", "s@example.net", "--to", &both];
        let said =
            run_ok("swaks", &[&words[..], &["--no-data-fixup", "--data", &data]].concat(), PATIENCE)?.said();
        // One answer a recipient (RFC 2033 §4.2).
        let dot = said.find(" -> .").or_else(|| said.find("\n.\n")).unwrap_or(0);
        let answers = said.get(dot..).unwrap_or_default().matches("<-  250").count();
        assert!(answers >= 2, "{said}");
    }
    for account in [0, 1] {
        let mut imap = server.imap(account)?;
        imap.select("INBOX")?;
        let fetched = imap.uid_fetch("1:*", "(UID BODY.PEEK[])")?;
        assert_eq!(fetched.len(), messages.len());
        for (message, one) in messages.iter().zip(&fetched) {
            let stored = one.body().unwrap_or_default();
            let same = is_below_trace(stored, &message.with_final_newline());
            assert!(
                same,
                "message {}, {:?}: {}",
                message.number,
                message.kind,
                String::from_utf8_lossy(stored)
            );
        }
    }
    Ok(())
}

#[test]
fn swaks_is_told_that_a_user_does_not_exist() -> anyhow::Result<()> {
    let test = "swaks_is_told_that_a_user_does_not_exist";
    let Some(server) = server_for(test, &["swaks"], Setup::from_environment())? else { return Ok(()) };
    let address = server.ports().lmtp.to_string();
    let words = [
        "--protocol",
        "LMTP",
        "--server",
        &address,
        "--from",
        "s@example.net",
        "--to",
        "nobody-here@example.org",
    ];
    let ran = run("swaks", &words, PATIENCE)?;
    assert!(!ran.status.success());
    assert!(ran.said().contains("<** 550"), "{}", ran.said());
    Ok(())
}
