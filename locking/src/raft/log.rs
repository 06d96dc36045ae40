//! The Raft log on disk: segments of frames, written by one thread.
//!
//! Invariants
//! - What was reported is durable, in the order in which it was asked for; votes are in the same order (L-RS1).
//! - The first failure is final: nothing is written, synced or reported as done afterwards.
//! - A torn tail is what was never reported, and is erased at open. Anything else that does not read is damage, and
//!   the store refuses to open.
//! - Every segment begins with the vote, the commit and the purge as they stood, so older ones can be removed.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;

use nfs_compat::{File, Fs};

use super::frame::{self, Found, HEADER_BYTES, Header, Kind, LogRecord};

#[derive(Clone, Copy, Debug)]
pub struct LogOptions {
    /// A new segment begins after this many bytes.
    pub segment_bytes: u64,
    /// Zeros are written ahead in such steps, so that an fsync need not store a new file size every time.
    pub ahead_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, ahead_bytes: 4 << 20 }
    }
}

/// Most bytes that are gathered for one fsync; a single larger operation still goes as one.
const GROUP_BYTES: usize = 4 << 20;
/// Largest segment that is read. Segments end soon after `segment_bytes`.
const SEGMENT_BYTES_MAX: u64 = 1 << 31;

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Fs(#[from] nfs_compat::Error),
    /// Acknowledged data is not there. The operator restores the disk, or removes this voter and adds a new one.
    #[error("the coordination log is damaged: {} at byte {offset}: {what}; refusing to start", path.display())]
    Damaged { path: PathBuf, offset: usize, what: String },
}

/// Called once with what became of an operation.
pub type Done = Box<dyn FnOnce(io::Result<()>) + Send>;

/// One thing to be made durable.
pub struct Operation {
    pub kind: Kind,
    /// Records of one kind, by index.
    pub records: Vec<(u64, Vec<u8>)>,
    /// `None`: it can wait for the next fsync.
    pub done: Option<Done>,
}

/// A record that was read back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replayed {
    pub kind: Kind,
    pub index: u64,
    pub payload: Vec<u8>,
}

struct Segment {
    number: u64,
    path: PathBuf,
    /// Highest index of an entry in it, 0 for none.
    last_index: u64,
}

/// The log's files and the place where the next frame goes. Owned by one thread.
pub struct Log {
    fs: Arc<dyn Fs>,
    directory: PathBuf,
    options: LogOptions,
    store: u64,
    segments: VecDeque<Segment>,
    file: Box<dyn File>,
    offset: u64,
    zeroed: u64,
    next_frame: u64,
    vote: Option<Vec<u8>>,
    committed: Option<Vec<u8>>,
    purged: Option<(u64, Vec<u8>)>,
}

fn segment_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number:016x}.seg"))
}

fn segment_number(name: &std::ffi::OsStr) -> Option<u64> {
    let digits = name.to_str()?.strip_suffix(".seg").filter(|digits| digits.len() == 16)?;
    u64::from_str_radix(digits, 16).ok()
}

/// What one segment's bytes say.
struct ReadSegment {
    header: Header,
    records: Vec<Replayed>,
    end: usize,
    next_frame: u64,
    /// Something stands behind the end that is not zeros.
    torn: bool,
    length: u64,
}

impl Log {
    /// Opens or makes the store in this directory, and reads back all that was durable, in order. `new_store` is a
    /// random number for a store that does not exist yet.
    pub fn open(
        fs: Arc<dyn Fs>,
        directory: &Path,
        options: LogOptions,
        new_store: u64,
    ) -> Result<(Self, Vec<Replayed>), OpenError> {
        fs.create_dir_all(directory)?;
        let mut numbers: Vec<u64> =
            fs.read_dir(directory)?.iter().filter_map(|entry| segment_number(&entry.name)).collect();
        numbers.sort_unstable();
        drop_unfinished(&*fs, directory, &mut numbers)?;
        if numbers.is_empty() {
            let log = Self::make(fs, directory, options, new_store)?;
            return Ok((log, Vec::new()));
        }
        Self::reopen(fs, directory, options, &numbers)
    }

    fn make(fs: Arc<dyn Fs>, directory: &Path, options: LogOptions, store: u64) -> Result<Self, OpenError> {
        let header = Header { segment: 1, first_frame: 1, store };
        let file = create_segment(&*fs, directory, &header, options)?;
        let segment = Segment { number: 1, path: segment_path(directory, 1), last_index: 0 };
        Ok(Self {
            fs,
            directory: directory.to_owned(),
            options,
            store,
            segments: VecDeque::from([segment]),
            file,
            offset: HEADER_BYTES as u64,
            zeroed: options.ahead_bytes.max(HEADER_BYTES as u64),
            next_frame: 1,
            vote: None,
            committed: None,
            purged: None,
        })
    }

    fn reopen(
        fs: Arc<dyn Fs>,
        directory: &Path,
        options: LogOptions,
        numbers: &[u64],
    ) -> Result<(Self, Vec<Replayed>), OpenError> {
        let mut records = Vec::new();
        let mut segments = VecDeque::new();
        let mut before: Option<(u64, ReadSegment)> = None;
        for number in numbers {
            let path = segment_path(directory, *number);
            let mut read = read_segment(&*fs, &path, *number)?;
            if let Some((previous, last)) = &before {
                follows(&path, *previous, last, *number, &read.header)?;
            }
            let entries = read.records.iter().filter(|record| record.kind == Kind::Append);
            let last_index = entries.map(|record| record.index).max().unwrap_or(0);
            records.append(&mut read.records);
            segments.push_back(Segment { number: *number, path, last_index });
            before = Some((*number, read));
        }
        let (number, last) = before.expect("there is a segment");
        let path = segment_path(directory, number);
        let file = fs.open_write(&path)?;
        let offset = last.end as u64;
        if last.torn {
            write_zeros(&*file, offset, last.length)?;
            file.sync()?;
        }
        let mut log = Self {
            fs,
            directory: directory.to_owned(),
            options,
            store: last.header.store,
            segments,
            file,
            offset,
            zeroed: last.length,
            next_frame: last.next_frame,
            vote: None,
            committed: None,
            purged: None,
        };
        for record in &records {
            log.note(record.kind, record.index, &record.payload);
        }
        if last.end == HEADER_BYTES && log.segments.len() > 1 {
            log.restate().map_err(|error| nfs_compat::Error::new("write", &path, error))?;
        }
        Ok((log, records))
    }

    /// The random number that tells this store from all others (L-RS2).
    pub fn store(&self) -> u64 {
        self.store
    }

    fn note(&mut self, kind: Kind, index: u64, payload: &[u8]) {
        match kind {
            Kind::Append => {
                if let Some(segment) = self.segments.back_mut() {
                    segment.last_index = segment.last_index.max(index);
                }
            }
            Kind::TruncateFrom => {}
            Kind::PurgeTo => self.purged = Some((index, payload.to_owned())),
            Kind::Vote => self.vote = Some(payload.to_owned()),
            Kind::Committed => self.committed = Some(payload.to_owned()),
        }
    }

    /// Makes the operations durable with one fsync.
    fn write(&mut self, operations: &[Operation]) -> io::Result<()> {
        let mut body = Vec::new();
        for operation in operations {
            for (index, payload) in &operation.records {
                let record = LogRecord { kind: operation.kind, index: *index, payload };
                record.encode(&mut body).ok_or_else(|| io::Error::other("log record too long"))?;
                self.note(operation.kind, *index, payload);
            }
        }
        self.write_frame(&body)?;
        if self.offset >= self.options.segment_bytes {
            self.begin_segment()?;
        }
        if operations.iter().any(|operation| operation.kind == Kind::PurgeTo) {
            self.remove_purged()?;
        }
        Ok(())
    }

    fn write_frame(&mut self, body: &[u8]) -> io::Result<()> {
        let segment = self.segments.back().map_or(0, |segment| segment.number);
        let bytes = frame::encode_frame(segment, self.next_frame, body)
            .ok_or_else(|| io::Error::other("log frame too long"))?;
        self.file.write_at(&bytes, self.offset).map_err(io::Error::other)?;
        self.offset += bytes.len() as u64;
        if self.offset > self.zeroed {
            let until = self.offset + self.options.ahead_bytes;
            write_zeros(&*self.file, self.offset, until).map_err(io::Error::other)?;
            self.zeroed = until;
        }
        self.file.sync().map_err(io::Error::other)?;
        self.next_frame += 1;
        Ok(())
    }

    fn begin_segment(&mut self) -> io::Result<()> {
        let number = self.segments.back().map_or(0, |segment| segment.number) + 1;
        let header = Header { segment: number, first_frame: self.next_frame, store: self.store };
        self.file =
            create_segment(&*self.fs, &self.directory, &header, self.options).map_err(io::Error::other)?;
        self.offset = HEADER_BYTES as u64;
        self.zeroed = self.options.ahead_bytes.max(self.offset);
        self.segments.push_back(Segment {
            number,
            path: segment_path(&self.directory, number),
            last_index: 0,
        });
        self.restate()
    }

    /// Writes the first frame of a segment.
    fn restate(&mut self) -> io::Result<()> {
        let mut body = Vec::new();
        let purged = self.purged.iter().map(|(index, payload)| (Kind::PurgeTo, *index, payload));
        let vote = self.vote.iter().map(|payload| (Kind::Vote, 0, payload));
        let committed = self.committed.iter().map(|payload| (Kind::Committed, 0, payload));
        for (kind, index, payload) in vote.chain(committed).chain(purged) {
            LogRecord { kind, index, payload }.encode(&mut body);
        }
        self.write_frame(&body)
    }

    /// Removes the oldest segments while all their entries are purged. The newest states all else that they said.
    fn remove_purged(&mut self) -> io::Result<()> {
        let purged = self.purged.as_ref().map_or(0, |(index, _)| *index);
        let mut removed = false;
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|oldest| oldest.last_index <= purged)
        {
            if let Some(segment) = self.segments.pop_front() {
                self.fs.unlink(&segment.path).map_err(io::Error::other)?;
                // Oldest first, and durably so: a crash must not leave a gap.
                self.fs.sync_dir(&self.directory).map_err(io::Error::other)?;
                removed = true;
            }
        }
        if removed {
            tracing::debug!(purged, segments = self.segments.len(), "removed purged log segments");
        }
        Ok(())
    }

    /// Starts the one thread that writes. It ends when all senders are gone.
    pub fn run(self) -> io::Result<(mpsc::Sender<Operation>, JoinHandle<()>)> {
        let (sender, receiver) = mpsc::channel();
        let thread =
            std::thread::Builder::new().name("raft-log".to_owned()).spawn(move || self.serve(&receiver))?;
        Ok((sender, thread))
    }

    fn serve(mut self, receiver: &mpsc::Receiver<Operation>) {
        let mut failure: Option<String> = None;
        let mut lazy: Vec<Operation> = Vec::new();
        while let Ok(first) = receiver.recv() {
            let mut group = std::mem::take(&mut lazy);
            let mut bytes = size(&first);
            group.push(first);
            while bytes < GROUP_BYTES {
                let Ok(next) = receiver.try_recv() else { break };
                bytes += size(&next);
                group.push(next);
            }
            if group.iter().all(|operation| operation.done.is_none()) {
                // Only the newest of what can wait is worth writing.
                lazy = group.pop().into_iter().collect();
                continue;
            }
            if failure.is_none() {
                failure = self.write(&group).err().map(|error| error.to_string());
            }
            if let Some(failure) = &failure {
                tracing::error!(%failure, "the coordination log cannot be written; this voter stops");
            }
            for done in group.into_iter().filter_map(|operation| operation.done) {
                done(failure.as_ref().map_or(Ok(()), |failure| Err(io::Error::other(failure.clone()))));
            }
        }
    }
}

fn size(operation: &Operation) -> usize {
    operation.records.iter().map(|(_, payload)| payload.len()).sum()
}

/// Removes the newest segment if a crash interrupted its making. Its header is synced before anything else is
/// written to it, so a segment with a bad header and no frame has never held anything.
fn drop_unfinished(fs: &dyn Fs, directory: &Path, numbers: &mut Vec<u64>) -> Result<(), OpenError> {
    let Some(&newest) = numbers.last() else { return Ok(()) };
    let path = segment_path(directory, newest);
    let bytes = fs.read(&path, SEGMENT_BYTES_MAX)?;
    if Header::decode(&bytes).is_none() && frame::any_frame_after(&bytes, 0, newest).is_none() {
        tracing::warn!(path = %path.display(), "removing a log segment whose making was interrupted");
        fs.unlink(&path)?;
        fs.sync_dir(directory)?;
        numbers.pop();
    }
    Ok(())
}

fn create_segment(
    fs: &dyn Fs,
    directory: &Path,
    header: &Header,
    options: LogOptions,
) -> nfs_compat::Result<Box<dyn File>> {
    let file = fs.create(&segment_path(directory, header.segment))?;
    file.write_at(&header.encode(), 0)?;
    write_zeros(&*file, HEADER_BYTES as u64, options.ahead_bytes)?;
    file.sync()?;
    fs.sync_dir(directory)?;
    Ok(file)
}

fn write_zeros(file: &dyn File, from: u64, until: u64) -> nfs_compat::Result<()> {
    const STEP: u64 = 64 << 10;
    let zeros = [0; STEP as usize];
    let mut at = from;
    while at < until {
        let count = (until - at).min(STEP);
        file.write_at(&zeros[..count as usize], at)?;
        at += count;
    }
    Ok(())
}

fn read_segment(fs: &dyn Fs, path: &Path, number: u64) -> Result<ReadSegment, OpenError> {
    let damaged =
        |offset, what: &str| OpenError::Damaged { path: path.to_owned(), offset, what: what.to_owned() };
    let bytes = fs.read(path, SEGMENT_BYTES_MAX)?;
    let header = Header::decode(&bytes).ok_or_else(|| damaged(0, "its header does not read"))?;
    if header.segment != number {
        return Err(damaged(0, "it is another segment under this name"));
    }
    let mut records = Vec::new();
    let mut end = HEADER_BYTES;
    let mut next_frame = header.first_frame;
    while let Found::Frame(body) = frame::frame_at(&bytes, end, number, next_frame) {
        let next = body.end;
        let read =
            frame::records(&bytes[body]).ok_or_else(|| damaged(end, "a frame holds unknown records"))?;
        records.extend(read.into_iter().map(|record| Replayed {
            kind: record.kind,
            index: record.index,
            payload: record.payload.to_owned(),
        }));
        end = next;
        next_frame += 1;
    }
    if let Some(behind) = frame::any_frame_after(&bytes, end, number) {
        return Err(damaged(end, &format!("unreadable, but valid data follows at byte {behind}")));
    }
    let torn = bytes[end..].iter().any(|byte| *byte != 0);
    if torn {
        tracing::warn!(path = %path.display(), offset = end, "the log's tail is torn; it was never acknowledged");
    }
    Ok(ReadSegment { header, records, end, next_frame, torn, length: bytes.len() as u64 })
}

fn follows(
    path: &Path,
    previous: u64,
    last: &ReadSegment,
    number: u64,
    header: &Header,
) -> Result<(), OpenError> {
    let damaged = |what: String| OpenError::Damaged { path: path.to_owned(), offset: 0, what };
    if number != previous + 1 {
        return Err(damaged(format!("segment {} before it is missing", number - 1)));
    }
    if header.first_frame != last.next_frame {
        let lost = header.first_frame.wrapping_sub(last.next_frame);
        return Err(damaged(format!("the segment before it has lost its last {lost} frames")));
    }
    if header.store != last.header.store {
        return Err(damaged("it belongs to another store".to_owned()));
    }
    Ok(())
}
