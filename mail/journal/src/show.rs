//! The journal for people: every record that is still there, and what is wrong between them.
//!
//! Changes nothing and syncs nothing, so an owner may be at work meanwhile. For the same reason a torn end may be a
//! record that is just being written.

use std::collections::VecDeque;
use std::path::Path;

use model::AccountId;
use nfs_compat::Fs;

use crate::name::SegmentName;
use crate::reader::{Chain, Orphan, ReadError, Torn, segment_names};
use crate::scan::{End, Entry, Found, load};

/// One line of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::large_enum_variant, reason = "nearly every line is a record")]
pub enum Shown {
    Record(Entry),
    /// Bytes at the end that are no record.
    Torn(Torn),
    /// Synced bytes that cannot be read. Records behind them in the segment follow.
    Garbled {
        segment: SegmentName,
        offset: u32,
    },
    /// A segment that nobody continues from, and is not continued.
    Orphan(Orphan),
}

/// Goes through the chain that ends in the newest segment, from its oldest segment onwards, one at a time.
pub struct Show<'a> {
    fs: &'a dyn Fs,
    directory: &'a Path,
    account: AccountId,
    /// Segments to come, with the length that counts.
    segments: VecDeque<(SegmentName, u32)>,
    lines: VecDeque<Shown>,
}

impl<'a> Show<'a> {
    pub fn new(fs: &'a dyn Fs, directory: &'a Path, account: AccountId) -> Result<Self, ReadError> {
        let names = segment_names(fs, directory)?;
        let chain = Chain { fs, directory, account, expected: None };
        let mut orphans = Vec::new();
        let mut segments = VecDeque::new();
        if let Some(last) = chain.newest(&names, &mut orphans)? {
            segments.push_front((last.name(), last.length()));
            let mut header = last.header;
            // What was trimmed, or cannot be read, ends it: that is a beginning too.
            while let Some(pin) = header.previous.filter(|pin| pin.name < header.name)
                && let Found::Segment(loaded) = load(fs, directory, account, pin.name)?
            {
                segments.push_front((pin.name, pin.length));
                header = loaded.header;
            }
        }
        let lines = orphans.into_iter().map(Shown::Orphan).collect();
        Ok(Self { fs, directory, account, segments, lines })
    }

    fn read(&mut self, name: SegmentName, limit: u32) -> Result<(), ReadError> {
        let Found::Segment(loaded) = load(self.fs, self.directory, self.account, name)? else {
            self.lines.push_back(Shown::Garbled { segment: name, offset: 0 });
            return Ok(());
        };
        let scan = loaded.scan(limit);
        self.lines.extend(scan.entries.into_iter().map(Shown::Record));
        let torn = |bytes| Shown::Torn(Torn { segment: name, offset: scan.length, bytes });
        match scan.end {
            End::Clean if scan.length < limit => self.lines.push_back(torn(limit - scan.length)),
            End::Clean => {}
            End::Torn(_) => self.lines.push_back(torn(limit.saturating_sub(scan.length))),
            End::Garbled(behind) => {
                self.lines.push_back(Shown::Garbled { segment: name, offset: scan.length });
                self.lines.extend(behind.into_iter().map(Shown::Record));
            }
            End::Foreign { version } => {
                return Err(ReadError::Foreign { segment: name, offset: scan.length, version });
            }
        }
        Ok(())
    }
}

impl Iterator for Show<'_> {
    type Item = Result<Shown, ReadError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(line) = self.lines.pop_front() {
                return Some(Ok(line));
            }
            let (name, limit) = self.segments.pop_front()?;
            if let Err(error) = self.read(name, limit) {
                return Some(Err(error));
            }
        }
    }
}
