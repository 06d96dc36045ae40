//! curl over IMAP and POP3.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

use std::fs;
use std::time::Duration;

use jepsen::corpus;
use jepsen::server::{Setup, password, user};
use jepsen::strangers::{run_ok, server_for};

const PATIENCE: Duration = Duration::from_secs(240);
const COUNT: u64 = 2000;

fn curl(arguments: &[&str]) -> anyhow::Result<Vec<u8>> {
    let login = format!("{}:{}", user(0), password(0));
    let mut words = vec!["-sS", "--fail", "-u", &login];
    words.extend_from_slice(arguments);
    Ok(run_ok("curl", &words, PATIENCE)?.stdout)
}

#[test]
fn curl_fetches_every_message_over_imap_as_it_was_appended() -> anyhow::Result<()> {
    let test = "curl_fetches_every_message_over_imap_as_it_was_appended";
    let Some(server) = server_for(test, &["curl"], Setup::from_environment())? else { return Ok(()) };
    let messages = corpus::messages(21, COUNT);
    let mut imap = server.imap(0)?;
    for message in &messages {
        imap.append("INBOX", "", &message.bytes)?;
    }
    let out = server.dir().join("fetched");
    fs::create_dir(&out)?;
    let url = format!("imap://{}/INBOX;UID=[1-{COUNT}]", server.ports().imap);
    let names = format!("{}/#1", out.display());
    curl(&[&url, "-o", &names])?;
    for message in &messages {
        let fetched = fs::read(out.join((message.number + 1).to_string()))?;
        assert!(fetched == message.bytes, "message {}, {:?}, has changed", message.number, message.kind);
    }
    Ok(())
}

#[test]
fn curl_appends_searches_and_lists() -> anyhow::Result<()> {
    let test = "curl_appends_searches_and_lists";
    let Some(server) = server_for(test, &["curl"], Setup::from_environment())? else { return Ok(()) };
    let messages = corpus::messages(22, 48);
    let base = format!("imap://{}", server.ports().imap);
    for message in &messages {
        let path = server.dir().join(format!("m{}", message.number));
        fs::write(&path, &message.bytes)?;
    }
    let files = format!("{}/m[0-47]", server.dir().display());
    curl(&["-T", &files, &format!("{base}/INBOX")])?;
    let mut imap = server.imap(0)?;
    imap.select("INBOX")?;
    let fetched = imap.uid_fetch("1:*", "(UID BODY.PEEK[])")?;
    assert_eq!(fetched.len(), messages.len());
    for (message, one) in messages.iter().zip(&fetched) {
        assert!(one.body() == Some(&message.bytes), "message {}, {:?}", message.number, message.kind);
    }
    curl(&[&base, "-X", "CREATE Curl"])?;
    let listed = String::from_utf8_lossy(&curl(&[&base])?).into_owned();
    assert!(listed.contains("INBOX") && listed.contains("Curl"), "{listed}");
    let found =
        String::from_utf8_lossy(&curl(&[&format!("{base}/INBOX?SUBJECT%20%22Sample%2016%22")])?).into_owned();
    assert_eq!(found.trim(), "* SEARCH 17");
    Ok(())
}

#[test]
fn curl_retrieves_every_message_over_pop3() -> anyhow::Result<()> {
    let test = "curl_retrieves_every_message_over_pop3";
    let Some(server) = server_for(test, &["curl"], Setup::from_environment())? else { return Ok(()) };
    let messages = corpus::messages(23, COUNT);
    let mut imap = server.imap(0)?;
    for message in &messages {
        imap.append("INBOX", "", &message.bytes)?;
    }
    let out = server.dir().join("popped");
    fs::create_dir(&out)?;
    let base = format!("pop3://{}", server.ports().pop3);
    let names = format!("{}/#1", out.display());
    curl(&[&format!("{base}/[1-{COUNT}]"), "-o", &names])?;
    for message in &messages {
        let popped = fs::read(out.join((message.number + 1).to_string()))?;
        assert!(popped == message.with_final_newline(), "message {}, {:?}", message.number, message.kind);
    }
    let listed = curl(&[&format!("{base}/")])?;
    assert_eq!(String::from_utf8_lossy(&listed).lines().count() as u64, COUNT);
    Ok(())
}
