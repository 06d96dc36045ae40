//! neomutt in a terminal: reads, flags, copies and moves, by the keys a user would press.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

use std::fs;
use std::time::Duration;

use anyhow::Context as _;
use jepsen::server::{Setup, password, user};
use jepsen::strangers::{run_with, server_for};

const PATIENCE: Duration = Duration::from_secs(120);

fn message(number: u32) -> Vec<u8> {
    format!(
        "From: Ada <ada@example.org>\r\nTo: you@example.org\r\nSubject: number {number}\r\nDate: Mon, {number} Jan 2024 \
         10:00:00 +0000\r\nMessage-ID: <n{number}@example.org>\r\n\r\nBody {number}.\r\n",
    )
    .into_bytes()
}

#[test]
fn neomutt_copies_flags_and_moves() -> anyhow::Result<()> {
    let test = "neomutt_copies_flags_and_moves";
    let Some(server) = server_for(test, &["neomutt", "script"], Setup::from_environment())? else {
        return Ok(());
    };
    let mut imap = server.imap(0)?;
    imap.command("CREATE Kept")?;
    for number in 1..=9 {
        imap.append("INBOX", "", &message(number))?;
    }
    let home = server.dir().join("neomutt");
    fs::create_dir(&home)?;
    let out = home.join("copied");
    let rc = home.join("rc");
    // Tag all but number 5 and copy them to a local Maildir; flag number 3; save number 7 to Kept; leave.
    let config = format!(
        "set folder = \"imap://{host}/\"\nset spoolfile = \"imap://{host}/INBOX\"\nset imap_user = \"{user}\"\n\
         set imap_pass = \"{password}\"\nset ssl_starttls = no\nset ssl_force_tls = no\nset mbox_type = Maildir\n\
         set confirmappend = no\nset confirmcreate = no\nset quit = yes\nset delete = yes\nset sort = date\n\
         set header_cache = \"{home}/cache\"\nset sleep_time = 0\nset wait_key = no\nset mail_check = 5\nset move = no\n\
         set smart_wrap\nunset mark_old\nset auto_tag = no\n\
         push \"<tag-pattern>!~s 'number 5'<enter><tag-prefix><copy-message>{out}<enter><untag-pattern>~A<enter>\
         <search>~s 'number 3'<enter><flag-message><search>~s 'number 7'<enter><save-message>=Kept<enter>\
         <sync-mailbox><quit>\"\n",
        host = server.ports().imap,
        user = user(0),
        password = password(0),
        home = home.display(),
        out = out.display(),
    );
    fs::write(&rc, config)?;
    let line = format!("neomutt -n -F {}", rc.display());
    let mut command = std::process::Command::new("script");
    command.args(["-qec", &line, "/dev/null"]).env("TERM", "xterm").env("HOME", &home).env("LANG", "C.UTF-8");
    let ran = run_with(&mut command, b"", PATIENCE)?;
    assert!(ran.status.success(), "neomutt ended with {}: {}", ran.status, ran.said());

    let mut copied = Vec::new();
    for part in ["new", "cur"] {
        for entry in fs::read_dir(out.join(part)).with_context(|| ran.said())? {
            copied.push(fs::read_to_string(entry?.path())?);
        }
    }
    assert_eq!(copied.len(), 8);
    for number in [1, 2, 3, 4, 6, 7, 8, 9] {
        let body = format!("\n\nBody {number}.\n");
        let id = format!("Message-ID: <n{number}@example.org>");
        assert!(
            copied.iter().any(|one| one.contains(&id) && one.ends_with(&body)),
            "{number} was not copied"
        );
    }
    imap.select("INBOX")?;
    assert_eq!(imap.uid_search("FLAGGED")?, [3]);
    assert_eq!(imap.uid_search("ALL")?, [1, 2, 3, 4, 5, 6, 8, 9]);
    imap.select("Kept")?;
    let kept = imap.uid_fetch("1:*", "(UID BODY.PEEK[])")?;
    assert_eq!(kept.len(), 1);
    assert!(kept[0].body() == Some(&message(7)));
    Ok(())
}
