//! What clients send that they should not.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Scene, VICTIM, login_line};
use crate::client::imap::Imap;
use crate::client::{Failure, Wire, shown};
use crate::server::user;

const PATIENCE: Duration = Duration::from_secs(30);
const MEBIBYTE: usize = 1 << 20;

/// Sends one line and demands a tagged or untagged refusal, or a goodbye; and the session to go on unless it said that.
fn refused(imap: &mut Imap, line: &[u8]) -> anyhow::Result<()> {
    imap.wire().send(&[line, b"\r\n"].concat())?;
    let answer = loop {
        let answer = imap.wire().line().with_context(|| format!("no answer to {}", shown(line)))?;
        let word = String::from_utf8_lossy(&answer).into_owned();
        if !word.starts_with("* ") || word.starts_with("* BAD") || word.starts_with("* BYE") {
            break word;
        }
    };
    let second = answer.split(' ').nth(1).unwrap_or_default();
    ensure!(matches!(second, "BAD" | "NO" | "BYE"), "{} was answered {answer}", shown(line));
    ensure!(second == "BYE" || imap.command("NOOP").is_ok(), "the session ended after {}", shown(line));
    Ok(())
}

pub(super) fn malformed_commands(scene: &mut Scene) -> anyhow::Result<()> {
    let lines: [&[u8]; 21] = [
        b"a",
        b"a ",
        b"a NONSENSE",
        b"a  NOOP",
        b"* NOOP",
        b"a SELECT",
        b"a SELECT \"unclosed",
        b"a FETCH",
        b"a FETCH 0 FLAGS",
        b"a FETCH 1:: FLAGS",
        b"a FETCH 99999999999999999999 FLAGS",
        b"a FETCH 1 (FLAGS",
        b"a FETCH 1 BODY[1.",
        b"a STORE 1 FLAGS \\",
        b"a SEARCH SINCE yesterday",
        b"a SEARCH CHARSET x-none TEXT x",
        b"a UID",
        b"a UID NOOP",
        b"a STATUS INBOX (NOTHING)",
        b"a LIST \"\"",
        b"a \xff\xfe\x80",
    ];
    for line in lines {
        let mut imap = scene.server.imap(VICTIM)?;
        imap.select("INBOX")?;
        refused(&mut imap, line)?;
    }
    for line in ["", "RETR", "RETR 0", "RETR 99999999999999999999", "TOP 1", "DELE -1", "NONSENSE", "LIST x"]
    {
        // A session each: after some mistakes a server may hang up.
        let answer = scene.server.pop3(VICTIM)?.command(line);
        ensure!(matches!(answer, Err(Failure::Refused(_))), "POP3: {line:?} was answered {answer:?}");
    }
    let lines =
        ["", "NONSENSE", "DATA", "RCPT TO:<a@b>", "MAIL FROM:", "MAIL FROM:<a@b> SIZE=x", "BDAT", "LHLO"];
    for line in lines {
        let answer = scene.server.lmtp()?.command(line);
        ensure!(matches!(answer, Err(Failure::Refused(_))), "LMTP: {line:?} was answered {answer:?}");
    }
    Ok(())
}

/// 64 MiB without an end: cut off, or answered and skipped; never kept.
pub(super) fn endless_lines(scene: &mut Scene) -> anyhow::Result<()> {
    let ports = scene.server.ports();
    let flood = vec![b'x'; MEBIBYTE];
    let starts =
        [("IMAP", ports.imap, "a "), ("POP3", ports.pop3, "USER "), ("LMTP", ports.lmtp, "MAIL FROM:<")];
    let pid = scene.server.pid().context("not started")?;
    let before = crate::server::resident_kib(pid)?;
    for (protocol, address, start) in starts {
        let mut wire = Wire::connect(address, PATIENCE)?;
        wire.line()?;
        wire.send(start.as_bytes())?;
        let mut taken = 0;
        while taken < 64 * MEBIBYTE {
            let sent = wire.send_while_taken(&flood);
            taken += sent;
            if sent < flood.len() {
                break;
            }
        }
        let grown = crate::server::resident_kib(pid)?.saturating_sub(before);
        ensure!(grown < 32 << 10, "{protocol}: an endless line cost {grown} KiB");
    }
    Ok(())
}

pub(super) fn oversize_literals(scene: &mut Scene) -> anyhow::Result<()> {
    for line in
        ["a APPEND INBOX {99999999999}", "a APPEND INBOX {99999999999999999999999}", "a SELECT {50000000}"]
    {
        refused(&mut scene.server.imap(VICTIM)?, line.as_bytes())?;
    }
    refused(&mut Imap::connect(scene.server.ports().imap, PATIENCE)?, b"a LOGIN {100000000}")?;
    // Without waiting (RFC 7888 §4): the server may close, or swallow and refuse; it does not keep.
    let mut imap = scene.server.imap(VICTIM)?;
    imap.wire().set_patience(PATIENCE)?;
    imap.wire().send(b"a APPEND INBOX {99999999999+}\r\n")?;
    let answer = imap.wire().line();
    let said = answer.map(|line| String::from_utf8_lossy(&line).into_owned());
    let refused = match &said {
        Ok(line) => ["a NO", "a BAD", "* BYE", "* BAD"].iter().any(|start| line.starts_with(start)),
        Err(Failure::Lost(_)) => true,
        Err(Failure::Refused(_) | Failure::Broken(_)) => false,
    };
    ensure!(refused, "an endless literal was answered {said:?}");
    let mut lmtp = scene.server.lmtp()?;
    let answer = lmtp.command("MAIL FROM:<a@example.net> SIZE=99999999999");
    ensure!(matches!(answer, Err(Failure::Refused(_))), "LMTP takes any SIZE: {answer:?}");
    Ok(())
}

pub(super) fn nuls(scene: &mut Scene) -> anyhow::Result<()> {
    for line in [&b"a NOOP\0"[..], b"\0\0\0\0", b"a SELECT \"IN\0BOX\"", b"a SEARCH SUBJECT \"\0\""] {
        refused(&mut scene.server.imap(VICTIM)?, line)?;
    }
    // In a message they are refused, or kept as they are: told either way.
    let message = b"Subject: nul\r\n\r\na\0b\r\n";
    let mut imap = scene.server.imap(VICTIM)?;
    match imap.append("INBOX", "", message) {
        Ok(placed) => {
            imap.select("INBOX")?;
            let (_, uid) = placed.context("no APPENDUID")?;
            let fetched = imap.uid_fetch(&uid.to_string(), "(UID BODY.PEEK[TEXT])")?;
            ensure!(fetched.len() == 1, "taken and not there");
        }
        Err(Failure::Refused(_)) => {}
        Err(failure) => return Err(failure.into()),
    }
    for verdict in scene.server.lmtp()?.deliver("s@example.net", &[&user(VICTIM)], message)? {
        ensure!(matches!(verdict, Ok(()) | Err(Failure::Refused(_))), "{verdict:?}");
    }
    Ok(())
}

pub(super) fn deep_parentheses(scene: &mut Scene) -> anyhow::Result<()> {
    let (open, close) = ("(".repeat(10_000), ")".repeat(10_000));
    let not = "NOT ".repeat(10_000);
    for line in [
        format!("a FETCH 1 {open}FLAGS{close}"),
        format!("a STORE 1 FLAGS {open}{close}"),
        format!("a LIST {open}{close} \"\" \"*\""),
        format!("a STATUS INBOX {open}"),
        format!("a SEARCH {open}"),
    ] {
        let mut imap = scene.server.imap(VICTIM)?;
        imap.select("INBOX")?;
        refused(&mut imap, line.as_bytes())?;
    }
    // These have a meaning; a limit on them is as good.
    for line in [format!("SEARCH {open}ALL{close}"), format!("SEARCH {not}ALL")] {
        let mut imap = scene.server.imap(VICTIM)?;
        imap.select("INBOX")?;
        let answer = imap.command(&line);
        ensure!(matches!(answer, Ok(_) | Err(Failure::Refused(_) | Failure::Lost(_))), "{answer:?}");
    }
    Ok(())
}

pub(super) fn bad_names(scene: &mut Scene) -> anyhow::Result<()> {
    let never = ["..", "../evil", "../../evil", "a/../../../evil", "/evil", "a/./b", "a/../b", "."];
    // Some have a meaning in some formats; what they name stays inside.
    let broken = ["~/evil", "&", "&&", "&AAA-x&", "&2D0-", "a\u{1}b", "\u{fffd}", ""];
    let mut imap = scene.server.imap(VICTIM)?;
    for name in never {
        let quoted = crate::client::imap::quoted(name);
        for command in
            [format!("CREATE {quoted}"), format!("RENAME INBOX {quoted}"), format!("SELECT {quoted}")]
        {
            let answer = imap.command(&command);
            ensure!(matches!(answer, Err(Failure::Refused(_))), "{command} was answered {answer:?}");
        }
        let answer = imap.append(name, "", b"Subject: evil\r\n\r\n");
        ensure!(matches!(answer, Err(Failure::Refused(_))), "APPEND to {name} was answered {answer:?}");
    }
    for name in broken {
        let answer = imap.command(&format!("CREATE {}", crate::client::imap::quoted(name)));
        ensure!(
            matches!(answer, Ok(_) | Err(Failure::Refused(_))),
            "CREATE {name:?} was answered {answer:?}"
        );
    }
    for bytes in [&b"CREATE \"\xff\xfe\""[..], b"CREATE \"\xc3\""] {
        let tag = imap.send(bytes)?;
        let answer = imap.answer(&tag);
        ensure!(matches!(answer, Err(Failure::Refused(_))), "{} was answered {answer:?}", shown(bytes));
    }
    let mut long = scene.server.imap(VICTIM)?;
    let answer = long.command(&format!("CREATE {}", "n".repeat(5000)));
    ensure!(matches!(answer, Err(Failure::Refused(_))), "a name of 5,000 letters was answered {answer:?}");
    let mut lmtp = scene.server.lmtp()?;
    lmtp.command("MAIL FROM:<s@example.net>")?;
    for name in ["../evil@example.org", "\"../evil\"@example.org", "evil@../example.org", "/evil"] {
        let answer = lmtp.command(&format!("RCPT TO:<{name}>"));
        ensure!(matches!(answer, Err(Failure::Refused(_))), "RCPT {name} was answered {answer:?}");
    }
    // Nothing has appeared beside the accounts.
    let outside = [
        scene.server.dir().to_owned(),
        scene.server.mail_root(),
        scene.server.mail_root().join("example.org"),
    ];
    for dir in outside {
        ensure!(!dir.join("evil").exists(), "a mailbox outside its account: {}", dir.join("evil").display());
    }
    Ok(())
}

pub(super) fn many_recipients(scene: &mut Scene) -> anyhow::Result<()> {
    const COUNT: usize = 100_000;
    const BATCH: usize = 500;
    let mut lmtp = scene.server.lmtp()?;
    lmtp.command("MAIL FROM:<s@example.net>")?;
    lmtp.command(&format!("RCPT TO:<{}>", user(VICTIM)))?;
    let mut accepted = 1;
    for batch in 0..COUNT / BATCH {
        let lines: String = (0..BATCH)
            .map(|each| format!("RCPT TO:<nobody{}@example.org>\r\n", batch * BATCH + each))
            .collect();
        lmtp.wire().send(lines.as_bytes())?;
        for _ in 0..BATCH {
            match lmtp.answer() {
                Ok(_) => accepted += 1,
                Err(Failure::Refused(_)) => {}
                Err(failure) => return Err(failure).context(format!("in batch {batch}")),
            }
        }
    }
    ensure!(accepted == 1, "{accepted} recipients were accepted, one exists");
    lmtp.command("DATA")?;
    lmtp.wire().send(b"Subject: many\r\n\r\nmany\r\n.\r\n")?;
    lmtp.answer().context("after 100,000 refused recipients")?;
    lmtp.quit()?;
    Ok(())
}

pub(super) fn deep_mime(scene: &mut Scene) -> anyhow::Result<()> {
    const DEPTH: usize = 10_000;
    let mut multipart = b"Subject: deep\r\nMIME-Version: 1.0\r\n".to_vec();
    for level in 0..DEPTH {
        let part = format!("Content-Type: multipart/mixed; boundary=b{level}\r\n\r\n--b{level}\r\n");
        multipart.extend_from_slice(part.as_bytes());
    }
    multipart.extend_from_slice(b"\r\nend\r\n");
    let forwarded = "Content-Type: message/rfc822\r\n\r\n".repeat(DEPTH) + "Subject: end\r\n\r\nend\r\n";
    for message in [multipart, forwarded.into_bytes()] {
        let mut imap = scene.server.imap(VICTIM)?;
        let (_, uid) = imap.append("INBOX", "", &message)?.context("no APPENDUID")?;
        imap.select("INBOX")?;
        let path = vec!["1"; 200].join(".");
        for item in ["BODYSTRUCTURE", "BODY", "ENVELOPE", "RFC822.SIZE", &format!("BODY.PEEK[{path}]")] {
            // A refusal is an answer; what is sent must be in the protocol.
            let answer = imap.uid_fetch(&uid.to_string(), &format!("(UID {item})"));
            ensure!(matches!(answer, Ok(_) | Err(Failure::Refused(_))), "{item}: {answer:?}");
        }
        imap.uid_search("BODY \"end\"")?;
        let fetched = imap.uid_fetch(&uid.to_string(), "(UID BODY.PEEK[])")?;
        ensure!(fetched.first().and_then(|one| one.body()) == Some(&message[..]), "changed");
    }
    Ok(())
}

pub(super) fn long_header(scene: &mut Scene) -> anyhow::Result<()> {
    let value = "v".repeat(10 * MEBIBYTE);
    let message = format!("Subject: {value}\r\nX-Short: yes\r\n\r\nbody\r\n").into_bytes();
    scene.server.deliver(VICTIM, &message)?;
    let mut imap = scene.server.imap(VICTIM)?;
    let newest = imap.select("INBOX")?.uidnext - 1;
    let newest = newest.to_string();
    for item in ["ENVELOPE", "BODYSTRUCTURE", "BODY.PEEK[HEADER.FIELDS (X-Short)]", "BODY.PEEK[HEADER]"] {
        let answer = imap.uid_fetch(&newest, &format!("(UID {item})"));
        ensure!(matches!(&answer, Ok(fetched) if fetched.len() == 1), "{item} was not answered");
    }
    imap.uid_search("SUBJECT \"nothing like that\"")?;
    let fetched = imap.uid_fetch(&newest, "(UID BODY.PEEK[])")?;
    let body = fetched.first().and_then(|one| one.body()).unwrap_or_default();
    ensure!(body.ends_with(&message), "changed");
    // Before login, too, a long line is no way in.
    let mut wire = Wire::connect(scene.server.ports().imap, PATIENCE)?;
    wire.line()?;
    wire.send(login_line().as_bytes())?;
    wire.line()?;
    Ok(())
}
