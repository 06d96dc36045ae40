//! An LMTP client (RFC 2033), and an SMTP one where the two are the same.

use std::net::SocketAddr;
use std::time::Duration;

use super::{Failure, Result, Wire, shown};

#[derive(Debug)]
pub struct Lmtp {
    wire: Wire,
    extensions: Vec<String>,
    /// SMTP answers once a message, LMTP once a recipient.
    answers_each: bool,
}

impl Lmtp {
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Self> {
        Self::greet(address, patience, true)
    }

    pub fn connect_smtp(address: SocketAddr, patience: Duration) -> Result<Self> {
        Self::greet(address, patience, false)
    }

    fn greet(address: SocketAddr, patience: Duration, answers_each: bool) -> Result<Self> {
        let mut lmtp = Self { wire: Wire::connect(address, patience)?, extensions: Vec::new(), answers_each };
        lmtp.answer()?;
        let hello = if answers_each { "LHLO" } else { "EHLO" };
        let told = lmtp.command(&format!("{hello} stranger.example"))?;
        lmtp.extensions = told.lines().skip(1).map(str::to_ascii_uppercase).collect();
        Ok(lmtp)
    }

    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    pub fn offers(&self, extension: &str) -> bool {
        self.extensions.iter().any(|have| have.split(' ').next() == Some(extension))
    }

    /// Sends a command; returns its text, a line each, without codes. Refused unless 2xx or 3xx.
    pub fn command(&mut self, command: &str) -> Result<String> {
        self.wire.send(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    pub fn answer(&mut self) -> Result<String> {
        let mut text = String::new();
        loop {
            let line = self.wire.line()?;
            let told = String::from_utf8_lossy(&line).into_owned();
            let (Some(code), Some(rest)) = (told.get(..3), told.get(3..)) else {
                return Err(Failure::Broken(shown(&line)));
            };
            if !code.bytes().all(|byte| byte.is_ascii_digit()) {
                return Err(Failure::Broken(shown(&line)));
            }
            text.push_str(rest.get(1..).unwrap_or_default());
            if rest.starts_with('-') {
                text.push('\n');
                continue;
            }
            return match code.as_bytes().first() {
                Some(b'2' | b'3') => Ok(text),
                // 421: the server is about to hang up; what was sent is not accepted (RFC 5321 §3.8).
                Some(b'4' | b'5') => Err(Failure::Refused(told)),
                Some(_) | None => Err(Failure::Broken(told)),
            };
        }
    }

    /// Delivers one message; an answer for each recipient. Lost or broken in the midst: that answer for all that follow.
    pub fn deliver(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<Vec<Result<()>>> {
        let accepted = self.envelope(from, to)?;
        if accepted.iter().any(Result::is_ok) {
            self.wire.send(b"DATA\r\n")?;
            self.answer()?;
            self.wire.send(&dotted(message))?;
        }
        Ok(self.verdicts(accepted))
    }

    /// The same by BDAT (RFC 3030), which can say that the last line has no end.
    pub fn deliver_chunked(&mut self, from: &str, to: &[&str], message: &[u8]) -> Result<Vec<Result<()>>> {
        let accepted = self.envelope(from, to)?;
        if accepted.iter().any(Result::is_ok) {
            let (first, last) = message.split_at(message.len() / 2);
            self.wire.send(format!("BDAT {}\r\n", first.len()).as_bytes())?;
            self.wire.send(first)?;
            self.answer()?;
            self.wire.send(format!("BDAT {} LAST\r\n", last.len()).as_bytes())?;
            self.wire.send(last)?;
        }
        Ok(self.verdicts(accepted))
    }

    fn envelope(&mut self, from: &str, to: &[&str]) -> Result<Vec<Result<()>>> {
        self.command(&format!("MAIL FROM:<{from}>"))?;
        let mut accepted = Vec::new();
        for recipient in to {
            match self.command(&format!("RCPT TO:<{recipient}>")) {
                Ok(_) => accepted.push(Ok(())),
                Err(Failure::Refused(why)) => accepted.push(Err(Failure::Refused(why))),
                Err(failure) => return Err(failure),
            }
        }
        if accepted.iter().all(Result::is_err) {
            self.command("RSET")?;
        }
        Ok(accepted)
    }

    fn verdicts(&mut self, accepted: Vec<Result<()>>) -> Vec<Result<()>> {
        if self.answers_each {
            let mut lost = None;
            let each = accepted.into_iter().map(|one| {
                one?;
                // What comes after a silence may be the answer for the recipient before.
                if let Some(why) = &lost {
                    return Err(Failure::Lost(format!("after a recipient without answer: {why}")));
                }
                let verdict = self.answer().map(drop);
                if let Err(why @ (Failure::Lost(_) | Failure::Broken(_))) = &verdict {
                    lost = Some(why.to_string());
                }
                verdict
            });
            return each.collect();
        }
        let verdict = self.answer().map(drop);
        let again = |failure: &Failure| match failure {
            Failure::Refused(why) => Failure::Refused(why.clone()),
            Failure::Lost(why) => Failure::Lost(why.clone()),
            Failure::Broken(why) => Failure::Broken(why.clone()),
        };
        accepted.into_iter().map(|one| one.and_then(|()| verdict.as_ref().copied().map_err(again))).collect()
    }

    pub fn quit(mut self) -> Result<()> {
        self.command("QUIT").map(drop)
    }
}

/// The message with dots stuffed, its last line ended, and the dot after it (RFC 5321 §4.5.2).
fn dotted(message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(message.len() + 64);
    let mut at_start = true;
    for byte in message {
        if at_start && *byte == b'.' {
            out.push(b'.');
        }
        out.push(*byte);
        at_start = *byte == b'\n';
    }
    if !at_start {
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b".\r\n");
    out
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, Write as _};
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn an_answer_that_comes_late_is_not_taken_for_that_of_the_next_recipient() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(b"220 a\r\n").unwrap();
            for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                match line.unwrap().as_str() {
                    "DATA" => stream.write_all(b"354 go\r\n").unwrap(),
                    // Silence until the client has given up on the first recipient.
                    "." => {
                        std::thread::sleep(Duration::from_millis(300));
                        let _gone = stream.write_all(b"250 first\r\n");
                    }
                    line if line.starts_with(['L', 'M', 'R']) => stream.write_all(b"250 ok\r\n").unwrap(),
                    _ => {}
                }
            }
        });
        let mut lmtp = Lmtp::connect(address, Duration::from_millis(200)).unwrap();
        let verdicts = lmtp.deliver("s@example.net", &["a@b", "c@d"], b"x\r\n").unwrap();
        assert!(verdicts.iter().all(|verdict| matches!(verdict, Err(Failure::Lost(_)))), "{verdicts:?}");
        drop(lmtp);
        server.join().unwrap();
    }

    #[test]
    fn dots_are_stuffed_and_the_last_line_ends() {
        assert_eq!(dotted(b".a\r\n..\r\nb"), b"..a\r\n...\r\nb\r\n.\r\n");
        assert_eq!(dotted(b""), b".\r\n");
    }
}
