//! Postfix, an instance of its own, that delivers by LMTP: `virtual_transport = lmtp:inet:...`.

#![expect(
    clippy::disallowed_methods,
    reason = "strangers live outside the walls: own sockets, files and clock"
)]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use jepsen::client::lmtp::Lmtp;
use jepsen::corpus;
use jepsen::dice::Dice;
use jepsen::server::{Server, Setup, free_port, user};
use jepsen::strangers::{find, is_below_trace, run_with, server_for, skip};
use jepsen::wait;

const PATIENCE: Duration = Duration::from_secs(60);
const DELIVERY_PATIENCE: Duration = Duration::from_secs(240);
const COUNT: u64 = 2000;

struct Postfix {
    config: PathBuf,
    smtp: std::net::SocketAddr,
}

impl Postfix {
    fn start(server: &Server) -> anyhow::Result<Self> {
        let root = server.dir().join("postfix");
        let config = root.join("etc");
        let (queue, data) = (root.join("queue"), root.join("data"));
        for dir in [&config, &queue, &data] {
            fs::create_dir_all(dir)?;
        }
        // Its daemons run as `postfix` and must come through.
        for dir in [server.dir(), &root] {
            let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
            fs::set_permissions(dir, open)?;
        }
        let owner = nix::unistd::User::from_name("postfix")?.context("no user postfix")?;
        nix::unistd::chown(&data, Some(owner.uid), None)?;
        // Another test of this process asks too: the server's own port makes the difference.
        let seed = u64::from(server.ports().lmtp.port());
        let smtp = free_port(&mut Dice::part(u64::from(std::process::id()), seed))?;
        fs::write(config.join("main.cf"), main_cf(&queue, &data, server))?;
        fs::write(config.join("master.cf"), master_cf(smtp.port()))?;
        let postfix = Self { config, smtp };
        postfix.run("postfix", &["start"], b"")?;
        wait::until(PATIENCE, || Lmtp::connect_smtp(smtp, PATIENCE).ok())
            .context("Postfix does not answer")?;
        Ok(postfix)
    }

    fn run(&self, program: &str, arguments: &[&str], input: &[u8]) -> anyhow::Result<String> {
        let mut command = Command::new(find(program).with_context(|| format!("no {program}"))?);
        command.arg(if program == "sendmail" { "-C" } else { "-c" }).arg(&self.config).args(arguments);
        let ran = run_with(&mut command, input, PATIENCE)?;
        ensure!(ran.status.success(), "{program} ended with {}: {}", ran.status, ran.said());
        Ok(ran.said())
    }

    fn log(&self) -> String {
        fs::read_to_string(self.config.join("log")).unwrap_or_default()
    }
}

impl Drop for Postfix {
    fn drop(&mut self) {
        let _stopped = self.run("postfix", &["stop"], b"");
    }
}

fn main_cf(queue: &Path, data: &Path, server: &Server) -> String {
    let (queue, data, lmtp) = (queue.display(), data.display(), server.ports().lmtp);
    format!(
        "compatibility_level = 3.6\nqueue_directory = {queue}\ndata_directory = {data}\nmyhostname = mx.example.net\n\
         mydestination =\ninet_interfaces = loopback-only\ninet_protocols = ipv4\nmaillog_file = {queue}/../etc/log\n\
         maillog_file_prefixes = /\nvirtual_mailbox_domains = example.org\nvirtual_transport = lmtp:inet:{lmtp}\n\
         virtual_alias_maps =\nalias_maps =\nlocal_recipient_maps =\nmynetworks = 127.0.0.0/8\n\
         smtpd_relay_restrictions = permit_mynetworks, reject\nlmtp_line_length_limit = 0\nline_length_limit = 100000\n\
         disable_mime_output_conversion = yes\nheader_size_limit = 1000000\nlocal_header_rewrite_clients =\n\
         smtpd_peername_lookup = no\ndisable_dns_lookups = yes\nsmtpd_client_connection_rate_limit = 0\n\
         lmtp_destination_concurrency_limit = 4\nin_flow_delay = 0s\nminimal_backoff_time = 1s\nqueue_run_delay = 1s\n",
    )
}

fn master_cf(port: u16) -> String {
    let mut lines = format!("127.0.0.1:{port} inet n - n - - smtpd\n");
    for (name, kind, wake, limit, program) in [
        ("pickup", "unix", "60", "1", "pickup"),
        ("cleanup", "unix", "-", "0", "cleanup"),
        ("qmgr", "unix", "1", "1", "qmgr"),
        ("tlsmgr", "unix", "1000?", "1", "tlsmgr"),
        ("rewrite", "unix", "-", "-", "trivial-rewrite"),
        ("bounce", "unix", "-", "0", "bounce"),
        ("defer", "unix", "-", "0", "bounce"),
        ("trace", "unix", "-", "0", "bounce"),
        ("verify", "unix", "-", "1", "verify"),
        ("flush", "unix", "1000?", "0", "flush"),
        ("proxymap", "unix", "-", "-", "proxymap"),
        ("error", "unix", "-", "-", "error"),
        ("retry", "unix", "-", "-", "error"),
        ("lmtp", "unix", "-", "-", "lmtp"),
        ("anvil", "unix", "-", "1", "anvil"),
        ("scache", "unix", "-", "1", "scache"),
        ("postlog", "unix-dgram", "-", "1", "postlogd"),
        ("showq", "unix", "-", "-", "showq"),
    ] {
        // The others' sockets are private.
        let public = ["pickup", "cleanup", "qmgr", "flush", "postlog", "showq"].contains(&name);
        let private = if public { "n" } else { "-" };
        lines.push_str(&format!("{name} {kind} {private} - n {wake} {limit} {program}\n"));
    }
    lines
}

/// Starts the server and Postfix, or says why not.
fn both(test: &str) -> anyhow::Result<Option<(Server, Postfix)>> {
    if !nix::unistd::Uid::effective().is_root() {
        skip(test, "Postfix is started by root only");
        return Ok(None);
    }
    let Some(server) = server_for(test, &["postfix", "sendmail"], Setup::from_environment())? else {
        return Ok(None);
    };
    let postfix = Postfix::start(&server)?;
    Ok(Some((server, postfix)))
}

fn wait_for(server: &Server, account: usize, count: u64, postfix: &Postfix) -> anyhow::Result<()> {
    let mut imap = server.imap(account)?;
    let arrived = wait::until(DELIVERY_PATIENCE, || match imap.select("INBOX") {
        Ok(selected) if u64::from(selected.exists) >= count => Some(Ok(())),
        Ok(_) => None,
        Err(failure) => Some(Err(failure)),
    });
    arrived.with_context(|| format!("not all {count} have arrived; Postfix says:\n{}", postfix.log()))??;
    Ok(())
}

#[test]
fn postfix_delivers_2000_varied_messages_as_it_has_them() -> anyhow::Result<()> {
    let Some((server, postfix)) = both("postfix_delivers_2000_varied_messages_as_it_has_them")? else {
        return Ok(());
    };
    // Postfix puts an empty line before a body without header, and mends some others: those kinds stay at home.
    let kinds = corpus::messages(51, COUNT * 2).into_iter().filter(|one| one.kind.survives_mailers());
    let messages: Vec<corpus::Message> = kinds.take(usize::try_from(COUNT)?).collect();
    let mut smtp = Lmtp::connect_smtp(postfix.smtp, PATIENCE)?;
    for message in &messages {
        for verdict in smtp.deliver("sender@example.net", &[&user(0)], &message.bytes)? {
            verdict?;
        }
    }
    wait_for(&server, 0, messages.len() as u64, &postfix)?;
    let mut imap = server.imap(0)?;
    imap.select("INBOX")?;
    let fetched = imap.uid_fetch("1:*", "(UID BODY.PEEK[])")?;
    assert_eq!(fetched.len(), messages.len());
    // Postfix delivers several at a time, in no order: what came is looked up by its Subject.
    let key = |bytes: &[u8]| {
        let text = String::from_utf8_lossy(bytes).into_owned();
        text.lines().find(|line| line.starts_with("Subject: ")).map(str::to_owned)
    };
    let came: std::collections::BTreeMap<_, _> = fetched
        .iter()
        .map(|one| (key(one.body().unwrap_or_default()), one.body().unwrap_or_default()))
        .collect();
    assert_eq!(came.len(), messages.len(), "some came twice");
    for message in &messages {
        let stored =
            came.get(&key(&message.bytes)).with_context(|| format!("no message {}", message.number))?;
        assert!(
            is_below_trace(stored, &message.bytes),
            "message {}, {:?}, has changed",
            message.number,
            message.kind
        );
    }
    Ok(())
}

#[test]
fn postfix_sendmail_reaches_every_recipient_once_and_bounces_nobody() -> anyhow::Result<()> {
    let test = "postfix_sendmail_reaches_every_recipient_once_and_bounces_nobody";
    let Some((server, postfix)) = both(test)? else { return Ok(()) };
    let text = b"From: root@example.net\nTo: list@example.org\nSubject: by sendmail\nDate: Mon, 1 Jan 2024 10:00:00 +0000\n\
                 Message-ID: <sm@example.net>\n\n.leading dot\nlast line\n";
    let to = [user(0), user(1), user(2)];
    let words: Vec<&str> =
        ["-i", "-f", "root@example.net"].into_iter().chain(to.iter().map(String::as_str)).collect();
    postfix.run("sendmail", &words, text)?;
    for account in 0..3 {
        wait_for(&server, account, 1, &postfix)?;
        let mut imap = server.imap(account)?;
        imap.select("INBOX")?;
        let fetched = imap.uid_fetch("1:*", "(UID BODY.PEEK[TEXT])")?;
        assert_eq!(fetched.len(), 1);
        assert_eq!(fetched[0].body(), Some(&b".leading dot\r\nlast line\r\n"[..]));
    }
    Ok(())
}
