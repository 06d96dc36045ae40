//! The log as the consensus library sees it.
//!
//! Invariants
//! - Entries are readable as soon as they are asked to be appended, and reported only when they are durable.
//! - All entries that are not purged are in memory; snapshots keep them few (`server.rs`).

use std::collections::VecDeque;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use nfs_compat::Fs;
use openraft::entry::RaftEntry;
use openraft::storage::{IOFlushed, LogState, RaftLogStorage};
use openraft::{EntryPayload, OptionalSend, RaftLogReader};
use tokio::sync::oneshot;

use super::coding;
use super::frame::Kind;
use super::log::{Done, Log, LogOptions, OpenError, Operation, Replayed};
use super::{Entry, LogId, TypeConfig, Vote};
use crate::command::{Command, NodeId};
use crate::marks::Mark;

/// What the log holds, in memory.
#[derive(Default)]
struct Contents {
    purged: Option<LogId>,
    /// Without gaps, the first after `purged`.
    entries: VecDeque<(Entry, usize)>,
    bytes: usize,
    vote: Option<Vote>,
    committed: Option<LogId>,
}

impl Contents {
    fn next_index(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn last(&self) -> Option<LogId> {
        self.entries.back().map(|(entry, _)| entry.log_id()).or(self.purged)
    }

    fn push(&mut self, entry: Entry, bytes: usize) -> io::Result<()> {
        // The very first entry may have any index; afterwards there are no gaps.
        if self.last().is_some() && entry.index() != self.next_index() {
            return Err(io::Error::other(format!(
                "gap in the log: entry {} where {} belongs",
                entry.index(),
                self.next_index()
            )));
        }
        self.bytes += bytes;
        self.entries.push_back((entry, bytes));
        Ok(())
    }

    fn truncate_from(&mut self, index: u64) {
        while self.entries.back().is_some_and(|(entry, _)| entry.index() >= index) {
            self.bytes -= self.entries.pop_back().map_or(0, |(_, bytes)| bytes);
        }
    }

    fn purge_to(&mut self, last: LogId) {
        while self.entries.front().is_some_and(|(entry, _)| entry.index() <= last.index) {
            self.bytes -= self.entries.pop_front().map_or(0, |(_, bytes)| bytes);
        }
        self.purged = self.purged.max(Some(last));
    }

    fn between(&self, range: impl RangeBounds<u64>) -> Vec<Entry> {
        let Some((first, _)) = self.entries.front() else { return Vec::new() };
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let skip = usize::try_from(from.saturating_sub(first.index())).unwrap_or(usize::MAX);
        let entries = self.entries.iter().skip(skip).map(|(entry, _)| entry);
        entries.take_while(|entry| range.contains(&entry.index())).cloned().collect()
    }
}

/// Rebuilds the contents from what the files said, in order.
fn replay(records: &[Replayed]) -> io::Result<Contents> {
    let mut contents = Contents::default();
    // Segments that only held what was purged later are gone, so the last purge is known before the entries.
    let purge = records.iter().rev().find(|record| record.kind == Kind::PurgeTo);
    contents.purged = purge.map(|record| coding::decode(&record.payload)).transpose()?;
    let purged = contents.purged;
    for record in records {
        match record.kind {
            Kind::Append if purged.is_some_and(|purged| record.index <= purged.index) => {}
            Kind::Append => {
                let entry: Entry = coding::decode(&record.payload)?;
                if entry.index() != record.index {
                    return Err(coding::invalid(format!(
                        "entry {} stored as {}",
                        entry.index(),
                        record.index
                    )));
                }
                contents.push(entry, record.payload.len())?;
            }
            Kind::TruncateFrom => contents.truncate_from(record.index),
            Kind::PurgeTo => {}
            Kind::Vote => contents.vote = Some(coding::decode(&record.payload)?),
            Kind::Committed => contents.committed = coding::decode(&record.payload)?,
        }
    }
    Ok(contents)
}

/// Locks what only ever holds whole values; a panic elsewhere does not make them less so.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The store that the library owns. Dropping it ends the writing thread.
pub struct LogStore {
    contents: Arc<Mutex<Contents>>,
    writer: Sender<Operation>,
    store: u64,
}

#[derive(Clone)]
pub struct LogReader {
    contents: Arc<Mutex<Contents>>,
}

impl LogReader {
    /// Whether nothing was ever voted for or appended: a voter with this store has promised nothing.
    pub fn is_blank(&self) -> bool {
        let contents = lock(&self.contents);
        contents.vote.is_none() && contents.last().is_none()
    }

    /// Index of the last entry, whether or not it is purged.
    pub fn last_index(&self) -> Option<u64> {
        lock(&self.contents).last().map(|last| last.index)
    }

    /// The newest marks of voters that are in the log, applied or not (L-RS2).
    pub fn marks(&self) -> Vec<(NodeId, u64, Mark)> {
        let contents = lock(&self.contents);
        let commands = contents.entries.iter().filter_map(|(entry, _)| match &entry.payload {
            EntryPayload::Normal(proposal) => Some(&proposal.0.command),
            EntryPayload::Blank | EntryPayload::Membership(_) => None,
        });
        let marks = commands.filter_map(|command| {
            if let Command::Mark { node, store, marks } = command {
                marks.last().map(|mark| (*node, *store, mark))
            } else {
                None
            }
        });
        marks.collect()
    }

    /// Bytes of the entries that are not purged.
    pub fn bytes(&self) -> usize {
        lock(&self.contents).bytes
    }
}

impl LogStore {
    /// Opens or makes the store. Blocking. The thread ends when the store is dropped.
    pub fn open(
        fs: Arc<dyn Fs>,
        directory: &Path,
        options: LogOptions,
        new_store: u64,
    ) -> Result<(Self, JoinHandle<()>), OpenError> {
        let (log, records) = Log::open(fs, directory, options, new_store)?;
        let damaged = |error: io::Error| OpenError::Damaged {
            path: PathBuf::from(directory),
            offset: 0,
            what: format!("its records contradict each other: {error}"),
        };
        let contents = replay(&records).map_err(damaged)?;
        let store = log.store();
        let (writer, thread) =
            log.run().map_err(|error| nfs_compat::Error::new("start a thread for", directory, error))?;
        Ok((Self { contents: Arc::new(Mutex::new(contents)), writer, store }, thread))
    }

    pub fn reader(&self) -> LogReader {
        LogReader { contents: Arc::clone(&self.contents) }
    }

    /// The random number that tells this store from all others (L-RS2).
    pub fn store(&self) -> u64 {
        self.store
    }

    fn send(&self, kind: Kind, records: Vec<(u64, Vec<u8>)>, done: Option<Done>) -> io::Result<()> {
        let sent = self.writer.send(Operation { kind, records, done });
        sent.map_err(|_| io::Error::other("the log's thread has ended"))
    }

    async fn write(&self, kind: Kind, index: u64, payload: Vec<u8>) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        let done: Done = Box::new(move |result| {
            // Whoever waited may have gone away; the record is written all the same.
            let _ = sender.send(result);
        });
        self.send(kind, vec![(index, payload)], Some(done))?;
        receiver.await.map_err(|_| io::Error::other("the log's thread has ended"))?
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        Ok(lock(&self.contents).between(range))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(lock(&self.contents).vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let contents = lock(&self.contents);
        Ok(LogState { last_purged_log_id: contents.purged, last_log_id: contents.last() })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        lock(&self.contents).vote = Some(*vote);
        self.write(Kind::Vote, 0, coding::encode(vote)?).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        lock(&self.contents).committed = committed;
        // Only shortens a restart, so it goes with the next fsync.
        self.send(Kind::Committed, vec![(0, coding::encode(&committed)?)], None)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        let contents = lock(&self.contents);
        // A commit can be noted before a tail that it covered is lost with an unsynced frame of another voter.
        Ok(contents.committed.min(contents.last()))
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut records = Vec::new();
        for entry in entries {
            let bytes = coding::encode(&entry)?;
            let index = entry.index();
            lock(&self.contents).push(entry, bytes.len())?;
            records.push((index, bytes));
        }
        self.send(Kind::Append, records, Some(Box::new(move |result| callback.io_completed(result))))
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        let from = last.map_or(0, |last| last.index.saturating_add(1));
        lock(&self.contents).truncate_from(from);
        self.write(Kind::TruncateFrom, from, Vec::new()).await
    }

    async fn purge(&mut self, last: LogId) -> io::Result<()> {
        lock(&self.contents).purge_to(last);
        self.write(Kind::PurgeTo, last.index, coding::encode(&last)?).await
    }
}
