//! Python's imaplib: a script that does what a mail program does in a day.

use std::time::Duration;

use jepsen::server::{Setup, password, user};
use jepsen::strangers::{run_ok, server_for};

#[test]
fn imaplib_gets_through_its_day() -> anyhow::Result<()> {
    let test = "imaplib_gets_through_its_day";
    let Some(server) = server_for(test, &["python3"], Setup::from_environment())? else { return Ok(()) };
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/imaplib_session.py");
    let port = server.ports().imap.port().to_string();
    let ran =
        run_ok("python3", &[script, "127.0.0.1", &port, &user(0), &password(0)], Duration::from_secs(120))?;
    assert!(ran.said().contains("done"), "{}", ran.said());
    Ok(())
}
