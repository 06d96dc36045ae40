//! A POP3 client (RFC 1939).

use std::net::SocketAddr;
use std::time::Duration;

use super::{Failure, Result, Wire, shown};

/// Stands in answers of a server that may be behind, and lets nothing be changed.
pub const FROZEN: &str = "read-only for now";

#[derive(Debug)]
pub struct Pop3 {
    wire: Wire,
}

impl Pop3 {
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Self> {
        let mut pop3 = Self { wire: Wire::connect(address, patience)? };
        pop3.answer()?;
        Ok(pop3)
    }

    pub fn login(address: SocketAddr, user: &str, password: &str, patience: Duration) -> Result<Self> {
        let mut pop3 = Self::connect(address, patience)?;
        pop3.command(&format!("USER {user}"))?;
        pop3.command(&format!("PASS {password}"))?;
        Ok(pop3)
    }

    pub fn wire(&mut self) -> &mut Wire {
        &mut self.wire
    }

    /// Sends a command; returns what follows `+OK`.
    pub fn command(&mut self, command: &str) -> Result<String> {
        self.wire.send(format!("{command}\r\n").as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let line = self.wire.line()?;
        if let Some(rest) = line.strip_prefix(b"+OK") {
            return Ok(String::from_utf8_lossy(rest).trim().to_owned());
        }
        if line.starts_with(b"-ERR") {
            Err(Failure::Refused(shown(&line)))
        } else {
            Err(Failure::Broken(shown(&line)))
        }
    }

    /// The lines of a multi-line answer, dots unstuffed.
    fn lines(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut lines = Vec::new();
        loop {
            let mut line = self.wire.line()?;
            if line == b"." {
                return Ok(lines);
            }
            if line.first() == Some(&b'.') {
                line.remove(0);
            }
            lines.push(line);
        }
    }

    /// Number of messages and their bytes.
    pub fn stat(&mut self) -> Result<(u32, u64)> {
        let told = self.command("STAT")?;
        let mut words = told.split(' ');
        let mut number = || words.next().and_then(|word| word.parse::<u64>().ok());
        let both =
            number().zip(number()).and_then(|(count, bytes)| Some((u32::try_from(count).ok()?, bytes)));
        both.ok_or_else(|| Failure::Broken(told.clone()))
    }

    /// Message numbers and their unique ids.
    pub fn uidl(&mut self) -> Result<Vec<(u32, String)>> {
        self.command("UIDL")?;
        let lines = self.lines()?;
        let each = lines.iter().map(|line| {
            let text = String::from_utf8_lossy(line);
            let (number, id) = text.split_once(' ')?;
            Some((number.parse().ok()?, id.to_owned()))
        });
        each.collect::<Option<_>>().ok_or_else(|| Failure::Broken("UIDL line".to_owned()))
    }

    /// A message; every line ends in CRLF, also one that did not.
    pub fn retr(&mut self, number: u32) -> Result<Vec<u8>> {
        self.multiline(&format!("RETR {number}")).map(|(_, message)| message)
    }

    /// What the server says of it, and the header of a message.
    pub fn top(&mut self, number: u32) -> Result<(String, Vec<u8>)> {
        self.multiline(&format!("TOP {number} 0"))
    }

    fn multiline(&mut self, command: &str) -> Result<(String, Vec<u8>)> {
        let told = self.command(command)?;
        let mut message = Vec::new();
        for line in self.lines()? {
            message.extend_from_slice(&line);
            message.extend_from_slice(b"\r\n");
        }
        Ok((told, message))
    }

    pub fn delete(&mut self, number: u32) -> Result<()> {
        self.command(&format!("DELE {number}")).map(drop)
    }

    /// Ends the session; deletions happen here. Returns what the server says of it.
    pub fn quit(mut self) -> Result<String> {
        self.command("QUIT")
    }
}
