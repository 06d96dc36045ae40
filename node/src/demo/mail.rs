//! A few real messages: in by LMTP, out by IMAP and POP3, the way any client does it.

use std::time::Duration;

use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use super::Account;
use super::node::Addresses;
use crate::cli::exit::{Exit, Failure};
use crate::cli::rfc5322;
use crate::time;

/// For one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);
/// Longest answer that is read; those of the demo's own messages are far below.
const ANSWER_BYTES_MAX: u64 = 1 << 20;

/// Delivers at one node and reads back at others; returns what to show.
pub(super) async fn show(nodes: &[Addresses], accounts: &[Account]) -> Result<Vec<String>, Failure> {
    let [first, second, third, ..] = nodes else {
        return Err(Failure::new(Exit::Software, "the demo has three nodes"));
    };
    let [ada, grace, ..] = accounts else {
        return Err(Failure::new(Exit::Software, "the demo has two users"));
    };
    let mut lines = deliver(&first.lmtp, &ada.user, &grace.user).await?;
    lines.extend(by_imap(&second.imap, grace).await?);
    lines.extend(by_pop3(&third.pop3, ada).await?);
    Ok(lines)
}

#[expect(clippy::disallowed_methods, reason = "the demo is a client of its own nodes")]
pub(super) async fn connect(address: &str) -> std::io::Result<TcpStream> {
    TcpStream::connect(address).await
}

async fn deliver(address: &str, ada: &str, grace: &str) -> Result<Vec<String>, Failure> {
    let mut client = Client::connect(address, "LMTP").await?;
    client.expect("220").await?;
    client.say("LHLO demo.example.org").await?;
    client.expect("250").await?;
    let mut lines = Vec::new();
    for (from, recipients, message) in messages(ada, grace) {
        client.say(&format!("MAIL FROM:<{from}>")).await?;
        client.expect("250").await?;
        for recipient in &recipients {
            client.say(&format!("RCPT TO:<{recipient}>")).await?;
            client.expect("250").await?;
        }
        client.say("DATA").await?;
        client.expect("354").await?;
        client.say(&format!("{message}\r\n.")).await?;
        // A reply for each recipient (RFC 2033 §4.2).
        for recipient in &recipients {
            let answer = client.expect("250").await?;
            lines.push(format!("LMTP  for {recipient}: {answer}"));
        }
    }
    client.say("QUIT").await?;
    Ok(lines)
}

/// Sender, recipients, and the message with CRLF line ends. No line begins with a dot.
fn messages(ada: &str, grace: &str) -> Vec<(String, Vec<String>, String)> {
    let now = time::unix_s();
    let date = rfc5322(now);
    let head = |from: &str, to: &str, subject: &str| {
        // An MTA's queue id makes a retry recognisable (L-CM2); each of these is sent once.
        let id: u64 = rand::random();
        format!(
            "Received: from demo.example.org by localhost with ESMTP id {id:016X}; {date}\nFrom: <{from}>\nTo: <{to}>\n\
             Subject: {subject}\nDate: {date}\nMessage-ID: <{id:016x}@demo.example.org>\nMIME-Version: 1.0\n"
        )
    };
    let plain = format!(
        "{}Content-Type: text/plain; charset=utf-8\nContent-Transfer-Encoding: 8bit\n\nDear Grace,\n\nthis came in by \
         LMTP and was read back by IMAP. Grüße!\n\nAda",
        head(ada, grace, "Hello from the demo")
    );
    let mixed = format!(
        "{}Content-Type: multipart/mixed; boundary=\"demo\"\n\n--demo\nContent-Type: text/plain; charset=us-ascii\n\n\
         A small table is attached.\n--demo\nContent-Type: text/csv; name=\"nodes.csv\"\nContent-Disposition: \
         attachment; filename=\"nodes.csv\"\nContent-Transfer-Encoding: base64\n\nbm9kZSxzaXRlCjEsYQo=\n--demo--",
        head(ada, grace, "With an attachment")
    );
    let both = format!(
        "{}Content-Type: text/plain; charset=us-ascii\n\nOne delivery, two recipients, a reply for each.",
        head(grace, &format!("{ada}>, <{grace}"), "To both of us")
    );
    let message = |from: &str, recipients: &[&str], text: String| {
        let recipients = recipients.iter().map(|recipient| (*recipient).to_owned()).collect();
        (from.to_owned(), recipients, text.replace('\n', "\r\n"))
    };
    vec![message(ada, &[grace], plain), message(ada, &[grace], mixed), message(grace, &[ada, grace], both)]
}

async fn by_imap(address: &str, account: &Account) -> Result<Vec<String>, Failure> {
    let Account { user, password } = account;
    let mut client = Client::connect(address, "IMAP").await?;
    client.expect("* OK").await?;
    client.command("a", &format!("LOGIN {user} {password}")).await?;
    client.command("b", "EXAMINE INBOX").await?;
    let fetched =
        client.command("c", "FETCH 1:* (UID RFC822.SIZE BODY.PEEK[HEADER.FIELDS (FROM SUBJECT)])").await?;
    client.command("d", "LOGOUT").await?;
    let mut lines = vec![format!("IMAP  {user} has in INBOX:")];
    let (mut facts, mut from) = (String::new(), String::new());
    for line in fetched.lines() {
        if let Some((number, rest)) = line.strip_prefix("* ").and_then(|line| line.split_once(" FETCH (")) {
            facts = format!("{number}  {}", rest.split(" BODY[").next().unwrap_or_default());
        } else if let Some(sender) = line.strip_prefix("From: ") {
            from = sender.to_owned();
        } else if let Some(subject) = line.strip_prefix("Subject: ") {
            lines.push(format!("      {facts}  {subject:24} from {from}"));
        }
    }
    Ok(lines)
}

async fn by_pop3(address: &str, account: &Account) -> Result<Vec<String>, Failure> {
    let Account { user, password } = account;
    let mut client = Client::connect(address, "POP3").await?;
    client.expect("+OK").await?;
    client.say(&format!("USER {user}")).await?;
    client.expect("+OK").await?;
    client.say(&format!("PASS {password}")).await?;
    client.expect("+OK").await?;
    client.say("STAT").await?;
    let stat = client.expect("+OK").await?;
    let count = stat.split(' ').nth(1).unwrap_or("0").to_owned();
    client.say(&format!("RETR {count}")).await?;
    client.expect("+OK").await?;
    let mut lines = vec![format!("POP3  {user} has {count}; the last one:")];
    loop {
        let line = client.line().await?;
        if line == "." {
            break;
        }
        // A dot at a line's beginning was doubled (RFC 1939 §3).
        lines.push(format!("      | {}", line.strip_prefix('.').unwrap_or(&line)));
    }
    client.say("QUIT").await?;
    client.expect("+OK").await?;
    Ok(lines)
}

/// A conversation line by line.
struct Client {
    stream: BufReader<TcpStream>,
    protocol: &'static str,
}

impl Client {
    async fn connect(address: &str, protocol: &'static str) -> Result<Self, Failure> {
        let stream = connect(address).await?;
        Ok(Self { stream: BufReader::new(stream), protocol })
    }

    async fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.stream.write_all(format!("{line}\r\n").as_bytes()).await?;
        Ok(self.stream.flush().await?)
    }

    async fn line(&mut self) -> Result<String, Failure> {
        let mut line = Vec::new();
        let mut limited = (&mut self.stream).take(ANSWER_BYTES_MAX);
        let read = tokio::time::timeout(ANSWER_WITHIN, limited.read_until(b'\n', &mut line)).await;
        let read = read.map_err(|_| self.odd("no answer"))??;
        if read == 0 {
            return Err(self.odd("the server hung up"));
        }
        Ok(String::from_utf8_lossy(&line).trim_end_matches(['\r', '\n']).to_owned())
    }

    /// The last line of an answer, which must begin like this; `250-` is not yet the last.
    async fn expect(&mut self, start: &str) -> Result<String, Failure> {
        loop {
            let line = self.line().await?;
            if line.as_bytes().get(3) == Some(&b'-') && line.starts_with(start) {
                continue;
            }
            return if line.starts_with(start) { Ok(line) } else { Err(self.odd(&line)) };
        }
    }

    /// An IMAP command; returns what came before its tagged OK.
    async fn command(&mut self, tag: &str, command: &str) -> Result<String, Failure> {
        self.say(&format!("{tag} {command}")).await?;
        let mut answer = String::new();
        loop {
            let line = self.line().await?;
            if let Some(end) = line.strip_prefix(tag).and_then(|rest| rest.strip_prefix(' ')) {
                return if end.starts_with("OK") { Ok(answer) } else { Err(self.odd(&line)) };
            }
            answer.push_str(&line);
            answer.push('\n');
        }
    }

    fn odd(&self, what: &str) -> Failure {
        Failure::new(Exit::Software, format!("{}: unexpected: {what}", self.protocol))
    }
}
