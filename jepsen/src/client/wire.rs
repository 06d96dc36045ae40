//! A socket read by lines and by counts.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::Duration;

use super::{Failure, Result, shown};

/// No line of ours is longer; a server that sends one is at fault.
const LINE_MAX: usize = 64 << 20;

#[derive(Debug)]
pub struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
    taken: usize,
}

impl Wire {
    pub fn connect(address: SocketAddr, patience: Duration) -> Result<Self> {
        let stream = TcpStream::connect_timeout(&address, patience).map_err(lost)?;
        stream.set_read_timeout(Some(patience)).map_err(lost)?;
        stream.set_write_timeout(Some(patience)).map_err(lost)?;
        stream.set_nodelay(true).map_err(lost)?;
        Ok(Self { stream, buffer: Vec::new(), taken: 0 })
    }

    pub fn set_patience(&self, patience: Duration) -> Result<()> {
        self.stream.set_read_timeout(Some(patience)).map_err(lost)
    }

    pub fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.write_all(bytes).map_err(lost)
    }

    /// Sends what the peer will take; tells how much that was. For senders of rubbish, whom the peer may cut off.
    pub fn send_while_taken(&mut self, bytes: &[u8]) -> usize {
        let mut sent = 0;
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(0) | Err(_) => break,
                Ok(count) => sent += count,
            }
        }
        sent
    }

    /// The next line, without its CRLF.
    pub fn line(&mut self) -> Result<Vec<u8>> {
        let mut searched = self.taken;
        loop {
            let fresh = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = fresh.iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.get(self.taken..searched + at).unwrap_or_default();
                let Some(line) = line.strip_suffix(b"\r") else {
                    return Err(Failure::Broken(format!("bare LF after {}", shown(line))));
                };
                let line = line.to_vec();
                self.taken = searched + at + 1;
                return Ok(line);
            }
            searched = self.buffer.len();
            if searched - self.taken > LINE_MAX {
                return Err(Failure::Broken("an endless line".to_owned()));
            }
            searched -= self.fill()?;
        }
    }

    /// Exactly `count` bytes.
    pub fn exact(&mut self, count: usize) -> Result<Vec<u8>> {
        while self.buffer.len() - self.taken < count {
            self.fill()?;
        }
        let bytes = self.buffer.get(self.taken..self.taken + count).unwrap_or_default().to_vec();
        self.taken += count;
        Ok(bytes)
    }

    /// Whatever has come, up to the end of the connection or the deadline.
    pub fn rest(&mut self) -> Vec<u8> {
        while self.fill().is_ok() {}
        let rest = self.buffer.get(self.taken..).unwrap_or_default().to_vec();
        self.taken = self.buffer.len();
        rest
    }

    /// Whether the peer closes within our patience; what it sends before is thrown away.
    pub fn is_closed(&mut self) -> bool {
        let mut chunk = vec![0; 64 << 10];
        loop {
            match self.stream.read(&mut chunk) {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::ConnectionReset,
            }
        }
    }

    /// Says that nothing more will come, and goes on listening.
    pub fn half_close(&self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).map_err(lost)
    }

    /// Reads once. Returns by how much the start of the buffer has moved.
    fn fill(&mut self) -> Result<usize> {
        let moved = self.taken;
        self.buffer.drain(..self.taken);
        self.taken = 0;
        let mut chunk = [0; 16 << 10];
        match self.stream.read(&mut chunk).map_err(lost)? {
            0 => Err(Failure::Lost("the server hung up".to_owned())),
            count => {
                self.buffer.extend_from_slice(chunk.get(..count).unwrap_or_default());
                Ok(moved)
            }
        }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "shape of map_err")]
fn lost(error: std::io::Error) -> Failure {
    Failure::Lost(error.to_string())
}
