//! One segment, read: its header, its records, and how it ends.

use std::path::Path;

use model::{AccountId, Record};
use nfs_compat::{ErrorKind, Fs};

use crate::name::SegmentName;
use crate::record::{self, Damage, Framed};
use crate::segment::{Header, HeaderDamage, SEGMENT_BYTES_MAX, content_hash};

/// A record and where it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub lsn: u64,
    pub segment: SegmentName,
    /// Of its first byte in the segment.
    pub offset: u32,
    pub record: Record,
}

/// A segment whose header is whole.
pub(crate) struct Loaded {
    pub(crate) header: Header,
    header_length: u32,
    bytes: Vec<u8>,
}

/// What is in a segment besides its header.
pub(crate) struct Headless {
    pub(crate) bytes: u32,
    pub(crate) entries: Vec<Entry>,
    /// A record in it was written after an earlier sync, which had covered the header.
    pub(crate) was_synced: bool,
}

/// What a name led to.
pub(crate) enum Found {
    Segment(Loaded),
    Missing,
    /// No header that could be read, or that of another file.
    Headless(Headless),
    Foreign {
        version: u8,
    },
}

/// How the records of a segment end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum End {
    Clean,
    /// The rest was never synced, not even the records in it that arrived whole.
    Torn(Vec<Entry>),
    /// Bytes that were synced are not readable. The records behind them are.
    Garbled(Vec<Entry>),
    Foreign {
        version: u8,
    },
}

/// The records of a beginning of a segment.
pub(crate) struct Scan {
    pub(crate) entries: Vec<Entry>,
    /// Where reading ended.
    pub(crate) length: u32,
    /// Position of the last record, or of the last before this segment.
    pub(crate) lsn: u64,
    pub(crate) end: End,
    /// Entries, length and position up to which every sync is complete.
    whole: (usize, u32, u64),
}

impl Scan {
    /// What counts if this is the end of the journal: of a sync that is not all there, nothing. It was torn, so that
    /// nobody was told of it.
    pub(crate) fn without_unfinished(mut self) -> Self {
        let (entries, length, lsn) = self.whole;
        if entries < self.entries.len() && matches!(self.end, End::Clean | End::Torn(_)) {
            self.end = End::Torn(self.entries.split_off(entries));
            (self.length, self.lsn) = (length, lsn);
        }
        self
    }
}

pub(crate) fn load(
    fs: &dyn Fs,
    directory: &Path,
    account: AccountId,
    name: SegmentName,
) -> nfs_compat::Result<Found> {
    let bytes = match fs.read(&directory.join(name.to_string()), u64::from(SEGMENT_BYTES_MAX)) {
        Ok(bytes) => bytes,
        Err(error) if error.is_not_found() || error.kind == ErrorKind::Stale => return Ok(Found::Missing),
        Err(error) => return Err(error),
    };
    Ok(match Header::decode(&bytes) {
        Ok((header, header_length)) if header.name == name && header.account == account => {
            Found::Segment(Loaded { header, header_length, bytes })
        }
        Ok(_) | Err(HeaderDamage::Unreadable) => Found::Headless(salvage(name, &bytes)),
        Err(HeaderDamage::Foreign { version }) => Found::Foreign { version },
    })
}

fn salvage(name: SegmentName, bytes: &[u8]) -> Headless {
    let mut found = Headless { bytes: narrow(bytes.len()), entries: Vec::new(), was_synced: false };
    let (mut from, mut lsn) = (0, None);
    while let Some((position, framed)) = record::find(bytes, from, lsn) {
        found.was_synced |= framed.synced > 0;
        from = position + framed.length;
        lsn = Some(framed.lsn);
        found.entries.push(entry(name, position, framed));
    }
    found
}

/// Where nobody can write, reading is all there is: mail stays readable on a volume that turned read-only.
fn is_read_only(error: &nfs_compat::Error) -> bool {
    matches!(error.kind, ErrorKind::ReadOnly | ErrorKind::NotPermitted)
}

impl Loaded {
    pub(crate) fn name(&self) -> SegmentName {
        self.header.name
    }

    /// Writes what was read over itself, and syncs: after a sync that failed, memory says of bytes that they are on
    /// disk, and a mere sync believes it (L-FS2).
    pub(crate) fn make_durable(&self, fs: &dyn Fs, directory: &Path) -> nfs_compat::Result<()> {
        let path = directory.join(self.header.name.to_string());
        let file = match fs.open_write(&path) {
            Err(error) if is_read_only(&error) => return Ok(()),
            file => file?,
        };
        match file.write_at(&self.bytes, 0) {
            Err(error) if is_read_only(&error) => return Ok(()),
            // A file system that writes nothing in place may be too full for it, and has kept what was synced.
            Err(error) if !error.is_full() => return Err(error),
            Ok(()) | Err(_) => {}
        }
        file.sync()
    }

    pub(crate) fn length(&self) -> u32 {
        narrow(self.bytes.len())
    }

    /// Hash of the first `length` bytes, or `None` if there are fewer.
    pub(crate) fn hash(&self, length: u32) -> Option<u64> {
        self.bytes.get(..length as usize).map(content_hash)
    }

    /// Reads the records of the first `limit` bytes.
    pub(crate) fn scan(&self, limit: u32) -> Scan {
        let bytes = self.bytes.get(..limit as usize).unwrap_or(&self.bytes);
        let mut scan = Scan {
            entries: Vec::new(),
            length: self.header_length,
            lsn: self.header.first_lsn.saturating_sub(1),
            end: End::Clean,
            whole: (0, self.header_length, self.header.first_lsn.saturating_sub(1)),
        };
        loop {
            let position = scan.length as usize;
            match record::decode(bytes, position) {
                Ok(None) => return scan,
                Ok(Some(framed)) if framed.lsn == scan.lsn.saturating_add(1) => {
                    scan.lsn = framed.lsn;
                    scan.length = narrow(position + framed.length);
                    let more = framed.more;
                    scan.entries.push(entry(self.name(), position, framed));
                    if !more {
                        scan.whole = (scan.entries.len(), scan.length, scan.lsn);
                    }
                }
                // Whole, but not the next: something between is missing, or it stands where it does not belong.
                Ok(Some(_)) | Err(Damage::Torn(_) | Damage::Garbled(_)) => {
                    scan.end = self.torn_or_garbled(bytes, position, scan.lsn);
                    return scan;
                }
                Err(Damage::Foreign { version, .. }) => {
                    scan.end = End::Foreign { version };
                    return scan;
                }
            }
        }
    }

    /// Nothing can be read at `damaged`. If a later record knows that these bytes were synced, they were lost.
    fn torn_or_garbled(&self, bytes: &[u8], damaged: usize, lsn: u64) -> End {
        let mut behind = Vec::new();
        let mut was_synced = false;
        let (mut from, mut lsn) = (damaged, lsn);
        while let Some((position, framed)) = record::find(bytes, from, Some(lsn)) {
            was_synced |= framed.synced as usize > damaged;
            from = position + framed.length;
            lsn = framed.lsn;
            behind.push(entry(self.name(), position, framed));
        }
        if was_synced { End::Garbled(behind) } else { End::Torn(behind) }
    }
}

fn entry(segment: SegmentName, position: usize, framed: Framed) -> Entry {
    Entry { lsn: framed.lsn, segment, offset: narrow(position), record: framed.record }
}

/// Offsets in a segment fit: it was read with a limit.
fn narrow(offset: usize) -> u32 {
    u32::try_from(offset).unwrap_or(u32::MAX)
}
