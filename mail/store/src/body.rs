//! Reading a message: wire octets (every line end CRLF) from whatever line ends the file has.
//!
//! Invariants
//! - Offsets and lengths are of wire octets. Reading on from where the last read ended costs what it returns; going
//!   back in a file that needs conversion starts again at its beginning.

use message::wire;
use nfs_compat::{File, Result};

/// Bytes read from the file at a time when line ends are converted.
const CHUNK: usize = 64 * 1024;

/// An open message.
pub struct Body {
    file: Box<dyn File>,
    /// Whether the file holds wire octets as they are.
    is_wire: bool,
    converted: Converted,
}

/// Where conversion stands.
#[derive(Default)]
struct Converted {
    /// Octets of the file already converted.
    stored: u64,
    /// Wire offset of the first octet in `ready`.
    wire: u64,
    ready: Vec<u8>,
    state: wire::Converter,
}

impl Body {
    /// `is_wire`: the file is known to have no bare LF (its size is its wire size).
    pub fn new(file: Box<dyn File>, is_wire: bool) -> Self {
        Self { file, is_wire, converted: Converted::default() }
    }

    /// Octets stored.
    pub fn size(&self) -> Result<u64> {
        Ok(self.file.metadata()?.length)
    }

    pub fn file(&self) -> &dyn File {
        &*self.file
    }

    /// Wire octets from `offset`, up to `length` of them; fewer only at the end.
    pub fn read_wire(&mut self, offset: u64, length: usize) -> Result<Vec<u8>> {
        if self.is_wire { self.read_plain(offset, length) } else { self.read_converted(offset, length) }
    }

    /// The whole message as wire octets, `limit` of them at most.
    pub fn read_all(&mut self, limit: usize) -> Result<Vec<u8>> {
        self.read_wire(0, limit)
    }

    fn read_plain(&self, offset: u64, length: usize) -> Result<Vec<u8>> {
        let size = self.size()?;
        let rest = usize::try_from(size.saturating_sub(offset)).unwrap_or(usize::MAX);
        let mut octets = vec![0; length.min(rest)];
        let mut filled = 0;
        while filled < octets.len() {
            match self.file.read_at(&mut octets[filled..], offset + filled as u64)? {
                0 => break,
                count => filled += count,
            }
        }
        octets.truncate(filled);
        Ok(octets)
    }

    fn read_converted(&mut self, offset: u64, length: usize) -> Result<Vec<u8>> {
        if offset < self.converted.wire {
            self.converted = Converted::default();
        }
        let mut octets = Vec::new();
        loop {
            let ready = &self.converted.ready;
            let skip =
                usize::try_from(offset + octets.len() as u64 - self.converted.wire).unwrap_or(usize::MAX);
            if skip < ready.len() {
                let take = (length - octets.len()).min(ready.len() - skip);
                octets.extend_from_slice(&ready[skip..skip + take]);
            }
            if octets.len() == length || !self.convert_more()? {
                return Ok(octets);
            }
        }
    }

    /// Replaces `ready` by the next chunk. False at the end of the file.
    fn convert_more(&mut self) -> Result<bool> {
        let mut chunk = vec![0; CHUNK];
        let count = self.file.read_at(&mut chunk, self.converted.stored)?;
        if count == 0 {
            return Ok(false);
        }
        self.converted.stored += count as u64;
        self.converted.wire += self.converted.ready.len() as u64;
        self.converted.ready.clear();
        self.converted.state.push(&chunk[..count], &mut self.converted.ready);
        Ok(true)
    }
}
