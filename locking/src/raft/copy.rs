//! The local copy of the applied state, in sled, so that a restart need not apply everything again.
//!
//! Invariants
//! - It is never the only copy of anything. Whatever is wrong with it, it is moved aside and made again.
//! - A short round is one batch that holds `last` with all that led to it. A long one takes the head away first, so that
//!   what a crash leaves of it does not count. Either ends with sled's flush and our own sync of its file, because sled
//!   does not sync (`dependencies.md`).
//! - A round leaves most of its thread's time to the service, which lives on the same cores.
//! - Above [`WITNESSES_MAX`] there is no copy: the snapshot and the log behind it start a node sooner.
//! - Opened with a hole, it is noticed: each value has a checksum, and all of them together a sum and a count.
//!
//! This is the one place beside `nfs-compat` whose files something else writes: sled.
//!
//! Keys: `m` the head; `b` page of buckets; `w` bucket, subkey of a witness. Values begin with a crc32 of key and rest.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use model::Epoch;
use nfs_compat::{DiskFs, EntryKind, Fs};
use serde::{Deserialize, Serialize};

use super::coding::{self, invalid};
use super::machine::{Applied, Reader};
use super::{LogId, StoredMembership};
use crate::clock::boottime;
use crate::command::{BUCKETS, Bucket, NodeId, SessionId};
use crate::marks::Mark;
use crate::state::{
    BucketState, Config, Holder, Member, Memory, SHARD_BUCKETS, SHARDS, Session, Shard, Share, State, Touched,
};
use crate::witnesses::Builder;

/// Buckets in one value, so that values stay small.
const PAGE_BUCKETS: usize = 64;
/// Witnesses in one batch; a round with more is a long one.
const BATCH_WITNESSES: usize = 1024;
/// Witnesses that a copy has at most.
const WITNESSES_MAX: usize = 1_000_000;
/// How far the copy may lie behind a service that is not busy.
const ROUND_EVERY: Duration = Duration::from_secs(1);
/// A batch is followed by a rest of so many times what it took.
const REST: u32 = 15;
const CACHE_BYTES: u64 = 8 << 20;
/// Directories below the copy's own that sled makes.
const DEPTH_MAX: u32 = 3;

/// What is small and changes often.
#[derive(Debug, Serialize, Deserialize)]
struct Head {
    store: u64,
    last: Option<LogId>,
    membership: StoredMembership,
    config: Option<Config>,
    sessions: BTreeMap<SessionId, Session>,
    clients: BTreeMap<u64, Memory>,
    members: BTreeMap<NodeId, Member>,
    totals: Totals,
    /// Since nodes can be emptied. A head without it is a shorter one.
    draining: BTreeSet<NodeId>,
    share: Share,
    marks: BTreeMap<NodeId, Mark>,
}

/// [`Head`] before nodes could be emptied, and buckets kept by groups of their own.
#[derive(Debug, Deserialize)]
struct HeadWithoutDraining {
    store: u64,
    last: Option<LogId>,
    membership: StoredMembership,
    config: Option<Config>,
    sessions: BTreeMap<SessionId, Session>,
    clients: BTreeMap<u64, Memory>,
    members: BTreeMap<NodeId, Member>,
    totals: Totals,
}

impl Head {
    fn decode(bytes: &[u8]) -> io::Result<Self> {
        coding::decode(bytes).or_else(|_| coding::decode(bytes).map(HeadWithoutDraining::into))
    }
}

impl From<HeadWithoutDraining> for Head {
    fn from(before: HeadWithoutDraining) -> Self {
        let HeadWithoutDraining { store, last, membership, config, sessions, clients, members, totals } =
            before;
        let (draining, share, marks) = (BTreeSet::new(), Share::WHOLE, BTreeMap::new());
        Self { store, last, membership, config, sessions, clients, members, totals, draining, share, marks }
    }
}

/// Over all values but the head.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Totals {
    count: u64,
    sum: u64,
}

impl Totals {
    fn add(&mut self, value: &[u8]) {
        self.count += 1;
        self.sum = self.sum.wrapping_add(checksum_of(value));
    }

    fn subtract(&mut self, value: &[u8]) {
        self.count = self.count.saturating_sub(1);
        self.sum = self.sum.wrapping_sub(checksum_of(value));
    }
}

fn checksum_of(value: &[u8]) -> u64 {
    value.first_chunk::<4>().map_or(0, |crc| u64::from(u32::from_le_bytes(*crc)))
}

fn checksum(key: &[u8], rest: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(key);
    crc.update(rest);
    crc.finalize()
}

fn seal(key: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut value = checksum(key, rest).to_le_bytes().to_vec();
    value.extend_from_slice(rest);
    value
}

fn unseal<'a>(key: &[u8], value: &'a [u8]) -> io::Result<&'a [u8]> {
    let (crc, rest) = value.split_first_chunk::<4>().ok_or_else(|| invalid("short value".to_owned()))?;
    let matches = u32::from_le_bytes(*crc) == checksum(key, rest);
    matches.then_some(rest).ok_or_else(|| invalid("checksum does not match".to_owned()))
}

const HEAD_KEY: &[u8] = b"m";

fn page_key(page: usize) -> Vec<u8> {
    let mut key = vec![b'b'];
    key.extend_from_slice(&(page as u16).to_be_bytes());
    key
}

fn witness_key(bucket: Bucket, subkey: &[u8; 16]) -> Vec<u8> {
    let mut key = vec![b'w'];
    key.extend_from_slice(&bucket.to_be_bytes());
    key.extend_from_slice(subkey);
    key
}

/// An open copy.
pub struct Copy {
    db: sled::Db,
    directory: PathBuf,
    store: u64,
    totals: Totals,
    witnesses_max: usize,
    /// It is empty on purpose.
    given_up: bool,
}

/// Lets a round rest between batches, unless the node is stopping.
struct Pace<'a>(&'a Receiver<()>);

impl Pace<'_> {
    fn rest(&self, after: Duration) {
        // It is over early when the sender is gone, and nothing is ever sent.
        let _ = self.0.recv_timeout(after * REST);
    }
}

fn everything(state: &State) -> Touched {
    let witnesses = state.shards.iter().flat_map(|shard| shard.witnesses.keys()).collect();
    Touched { buckets: (0..=Bucket::MAX).collect(), witnesses, heads: true }
}

impl Copy {
    /// Opens the copy of this store and what it holds. Blocking. A copy that is damaged, or of another store, is moved
    /// aside.
    pub fn open(directory: &Path, store: u64) -> io::Result<(Self, Option<Applied>)> {
        match guarded(|| Self::try_open(directory, store)) {
            Ok(opened) => Ok(opened),
            Err(error) => {
                tracing::warn!(%error, path = %directory.display(), "the local copy is unusable; making it again");
                set_aside(directory).map_err(io::Error::other)?;
                guarded(|| Self::try_open(directory, store))
            }
        }
    }

    fn try_open(directory: &Path, store: u64) -> io::Result<(Self, Option<Applied>)> {
        let config = sled::Config::new().path(directory).cache_capacity(CACHE_BYTES).flush_every_ms(None);
        let db = config.open().map_err(io::Error::other)?;
        let (applied, totals) = match load(&db, store)? {
            Some((applied, totals)) => (Some(applied), totals),
            None => (None, Totals::default()),
        };
        let (directory, witnesses_max) = (directory.to_owned(), WITNESSES_MAX);
        Ok((Self { db, directory, store, totals, witnesses_max, given_up: false }, applied))
    }

    fn put(&mut self, batch: &mut sled::Batch, key: Vec<u8>, rest: Option<Vec<u8>>) -> io::Result<()> {
        if let Some(old) = self.db.get(&key).map_err(io::Error::other)? {
            self.totals.subtract(&old);
        }
        match rest {
            Some(rest) => {
                let value = seal(&key, &rest);
                self.totals.add(&value);
                batch.insert(key, value);
            }
            None => batch.remove(key),
        }
        Ok(())
    }

    fn put_witness(
        &mut self,
        batch: &mut sled::Batch,
        state: &State,
        bucket: Bucket,
        subkey: &[u8; 16],
    ) -> io::Result<()> {
        let witness = state.witness(bucket, subkey).as_ref().map(coding::encode).transpose()?;
        self.put(batch, witness_key(bucket, subkey), witness)
    }

    /// Brings the copy to this state, of which it lacks what was touched: all of it if it was replaced.
    fn write(&mut self, applied: &Applied, touched: &Touched, replaced: bool, pace: &Pace) -> io::Result<()> {
        if applied.state.witness_count() > self.witnesses_max {
            return self.give_up();
        }
        let all = (replaced || self.given_up).then(|| everything(&applied.state));
        if all.is_some() || touched.witnesses.len() > BATCH_WITNESSES {
            self.begin_long()?;
        }
        if all.is_some() {
            self.db.clear().map_err(io::Error::other)?;
            (self.totals, self.given_up) = (Totals::default(), false);
        }
        let touched = all.as_ref().unwrap_or(touched);
        let mut batch = sled::Batch::default();
        let mut begun = boottime();
        for (place, (bucket, subkey)) in (1..).zip(&touched.witnesses) {
            self.put_witness(&mut batch, &applied.state, *bucket, subkey)?;
            if place % BATCH_WITNESSES == 0 && place < touched.witnesses.len() {
                self.db.apply_batch(std::mem::take(&mut batch)).map_err(io::Error::other)?;
                pace.rest(boottime().saturating_sub(begun));
                begun = boottime();
            }
        }
        self.put_pages(&mut batch, &applied.state, &touched.buckets)?;
        let head = self.head(applied);
        batch.insert(HEAD_KEY, seal(HEAD_KEY, &coding::encode(&head)?));
        self.db.apply_batch(batch).map_err(io::Error::other)?;
        self.sync()?;
        pace.rest(boottime().saturating_sub(begun));
        Ok(())
    }

    /// Takes the head away, without which nothing of a copy counts.
    fn begin_long(&mut self) -> io::Result<()> {
        self.db.remove(HEAD_KEY).map_err(io::Error::other)?;
        self.sync()
    }

    fn put_pages(
        &mut self,
        batch: &mut sled::Batch,
        state: &State,
        buckets: &BTreeSet<Bucket>,
    ) -> io::Result<()> {
        let pages: BTreeSet<usize> =
            buckets.iter().map(|bucket| usize::from(*bucket) / PAGE_BUCKETS).collect();
        for page in pages {
            let states: Vec<BucketState> = (page * PAGE_BUCKETS..(page + 1) * PAGE_BUCKETS)
                .filter_map(|bucket| Some(state.bucket(Bucket::try_from(bucket).ok()?)))
                .collect();
            self.put(batch, page_key(page), Some(coding::encode(&states)?))?;
        }
        Ok(())
    }

    fn head(&self, applied: &Applied) -> Head {
        Head {
            store: self.store,
            last: applied.last,
            membership: applied.membership.clone(),
            config: applied.state.config,
            sessions: applied.state.sessions.clone(),
            clients: applied.state.clients.clone(),
            members: applied.state.members.clone(),
            totals: self.totals,
            draining: applied.state.draining.clone(),
            share: applied.state.share,
            marks: applied.state.marks.clone(),
        }
    }

    /// Empties the copy of a state that has grown too large for one.
    fn give_up(&mut self) -> io::Result<()> {
        if !self.given_up {
            tracing::info!(
                accounts_max = self.witnesses_max,
                "no local copy of so many accounts is kept: snapshot and log start this node sooner"
            );
            self.db.clear().map_err(io::Error::other)?;
            (self.totals, self.given_up) = (Totals::default(), true);
            self.sync()?;
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.db.flush().map_err(io::Error::other)?;
        let file = DiskFs::new().open_write(&self.directory.join("db")).map_err(io::Error::other)?;
        file.sync().map_err(io::Error::other)
    }

    /// Starts the thread that keeps the copy close behind the state. It ends, after one last round, when the sender
    /// is dropped.
    pub fn follow(self, reader: Reader) -> io::Result<(Sender<()>, JoinHandle<()>)> {
        let (stop, stopped) = channel();
        let thread = std::thread::Builder::new().name("raft-copy".to_owned());
        Ok((stop, thread.spawn(move || self.serve(&reader, &stopped))?))
    }

    fn serve(mut self, reader: &Reader, stopped: &Receiver<()>) {
        loop {
            let waited = stopped.recv_timeout(ROUND_EVERY);
            if let Some((applied, touched, replaced)) = reader.take_changes() {
                let round = guarded(|| self.write(&applied, &touched, replaced, &Pace(stopped)));
                if let Err(error) = round {
                    // An older copy is still a copy; the next start applies the rest from the log.
                    tracing::warn!(%error, "the local copy no longer follows");
                    return;
                }
            }
            match waited {
                Ok(()) | Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }
}

/// Reads everything, or `None` from a new database.
fn load(db: &sled::Db, store: u64) -> io::Result<Option<(Applied, Totals)>> {
    let mut head: Option<Head> = None;
    let mut totals = Totals::default();
    let mut buckets = vec![BucketState { epoch: Epoch::new(0, 0), holder: Holder::Free }; BUCKETS];
    let mut witnesses: Vec<Builder> = (0..SHARDS).map(|_| Builder::default()).collect();
    for item in db.iter() {
        let (key, value) = item.map_err(io::Error::other)?;
        let rest = unseal(&key, &value)?;
        if *key == *HEAD_KEY {
            head = Some(Head::decode(rest)?);
            continue;
        }
        totals.add(&value);
        match (key.first(), key.get(1..3).and_then(|number| number.first_chunk::<2>())) {
            (Some(b'b'), Some(page)) => {
                let states: Vec<BucketState> = coding::decode(rest)?;
                let start = usize::from(u16::from_be_bytes(*page)) * PAGE_BUCKETS;
                let places = buckets.get_mut(start..start + PAGE_BUCKETS);
                let places = places.filter(|places| places.len() == states.len());
                places.ok_or_else(|| invalid("page of another size".to_owned()))?.copy_from_slice(&states);
            }
            (Some(b'w'), Some(bucket)) => {
                let subkey: [u8; 16] = key
                    .get(3..)
                    .and_then(|key| key.try_into().ok())
                    .ok_or_else(|| invalid("bad key".to_owned()))?;
                let bucket = u16::from_be_bytes(*bucket);
                // Keys come in order, and so do those of each shard.
                let witness = coding::decode(rest)?;
                let in_order = witnesses[usize::from(bucket) / SHARD_BUCKETS].push(bucket, &subkey, witness);
                in_order.then_some(()).ok_or_else(|| invalid("keys out of order".to_owned()))?;
            }
            (Some(_) | None, _) => return Err(invalid("unknown key".to_owned())),
        }
    }
    let Some(head) = head else {
        if totals != Totals::default() {
            tracing::info!("the local copy was being written when this node stopped; making it again");
            db.clear().map_err(io::Error::other)?;
        }
        return Ok(None);
    };
    if head.totals != totals {
        return Err(invalid("values are missing".to_owned()));
    }
    if head.store != store {
        return Err(invalid("it is the copy of another store".to_owned()));
    }
    let state = assemble(&head, &buckets, witnesses);
    let applied = Applied { last: head.last, membership: head.membership, state };
    applied
        .state
        .is_sound()
        .then_some(Some((applied, totals)))
        .ok_or_else(|| invalid("it is unsound".to_owned()))
}

fn assemble(head: &Head, buckets: &[BucketState], witnesses: Vec<Builder>) -> State {
    let mut state = State {
        config: head.config,
        sessions: head.sessions.clone(),
        clients: head.clients.clone(),
        members: head.members.clone(),
        draining: head.draining.clone(),
        share: head.share,
        marks: head.marks.clone(),
        ..State::default()
    };
    let parts = buckets.chunks_exact(SHARD_BUCKETS).zip(witnesses);
    for (shard, (buckets, witnesses)) in state.shards.iter_mut().zip(parts) {
        *shard = Arc::new(Shard { buckets: buckets.to_vec(), witnesses: witnesses.finish() });
    }
    state
}

/// Runs something of sled's, which panics on damage as often as it reports it.
fn guarded<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err(invalid("sled panicked".to_owned())))
}

/// Moves the copy out of the way. One that was moved before is removed.
fn set_aside(directory: &Path) -> nfs_compat::Result<()> {
    let fs = DiskFs::new();
    let mut aside = directory.as_os_str().to_owned();
    aside.push(".damaged");
    let aside = PathBuf::from(aside);
    if fs.exists(&aside)? {
        remove_tree(&fs, &aside, DEPTH_MAX)?;
    }
    fs.rename(directory, &aside)
}

pub(crate) fn remove_tree(fs: &dyn Fs, directory: &Path, depth: u32) -> nfs_compat::Result<()> {
    for entry in fs.read_dir(directory)? {
        let path = directory.join(&entry.name);
        match entry.kind {
            EntryKind::Directory if depth > 0 => remove_tree(fs, &path, depth - 1)?,
            EntryKind::Directory | EntryKind::File | EntryKind::Other => fs.unlink(&path)?,
        }
    }
    fs.remove_dir(directory)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, Record, Request, RequestId, Value, Wanted};

    const STORE: u64 = 7;

    /// A state with so many accounts, each of which has been witnessed so many times.
    fn with_accounts(accounts: u32, times: u64) -> Applied {
        let mut state = State::default();
        let record = |account: u32, counter| Record {
            bucket: (account % 4096) as Bucket,
            epoch: Epoch::new(1, 1),
            subkey: u128::from(account).to_be_bytes(),
            value: Value::new(b"value").expect("short"),
            counter,
        };
        let mut commands = vec![
            Command::Found { site: 1, incarnation: 1 },
            Command::SessionOpen { node: NodeId(1), replaces_older: true },
            Command::Grant { session: SessionId(2), wanted: Wanted::AllFree },
        ];
        for counter in 1..=times {
            let records: Vec<Record> = (0..accounts).map(|account| record(account, counter)).collect();
            commands
                .extend(records.chunks(500).map(|records| Command::Witness { records: records.to_vec() }));
        }
        let mut touched = Touched::default();
        for (index, command) in (1..).zip(commands) {
            state.apply(index, &Request { id: RequestId { client: 1, seq: index }, command }, &mut touched);
        }
        assert_eq!(state.witness_count(), accounts as usize);
        Applied { state, ..Applied::default() }
    }

    fn open(directory: &Path) -> (Copy, Option<Applied>) {
        Copy::open(directory, STORE).expect("opens")
    }

    #[test]
    fn a_long_round_that_is_cut_short_leaves_nothing_that_counts() {
        let temporary = tempfile::tempdir().expect("a directory");
        let (mut copy, _) = open(temporary.path());
        let (before, after) = (with_accounts(3000, 1), with_accounts(3000, 2));
        let (_going_on, stopped) = channel();
        let pace = Pace(&stopped);
        copy.write(&before, &Touched::default(), true, &pace).expect("writes");
        drop(copy);
        let (mut copy, found) = open(temporary.path());
        assert_eq!(found.expect("a state").state, before.state);

        // Its first batch only: `write` would go on.
        let touched = everything(&after.state);
        copy.begin_long().expect("begins");
        let mut batch = sled::Batch::default();
        for (bucket, subkey) in touched.witnesses.iter().take(BATCH_WITNESSES) {
            copy.put_witness(&mut batch, &after.state, *bucket, subkey).expect("puts");
        }
        copy.db.apply_batch(batch).expect("applies");
        copy.sync().expect("syncs");
        drop(copy);
        let (mut copy, found) = open(temporary.path());
        assert!(found.is_none(), "values of two states are not a state");
        copy.write(&after, &Touched::default(), true, &pace).expect("writes");
        drop(copy);
        assert_eq!(open(temporary.path()).1.expect("a state").state, after.state);
    }

    #[test]
    fn a_state_too_large_has_no_copy_until_it_is_smaller() {
        let temporary = tempfile::tempdir().expect("a directory");
        let (mut copy, _) = open(temporary.path());
        copy.witnesses_max = 100;
        let (small, large) = (with_accounts(100, 1), with_accounts(101, 1));
        let (_going_on, stopped) = channel();
        let (pace, changed) = (Pace(&stopped), everything(&large.state));
        copy.write(&small, &Touched::default(), true, &pace).expect("writes");
        for _ in 0..2 {
            copy.write(&large, &changed, false, &pace).expect("gives up");
        }
        drop(copy);
        let (mut copy, found) = open(temporary.path());
        assert!(found.is_none());
        copy.witnesses_max = 100;
        copy.write(&large, &Touched::default(), true, &pace).expect("gives up");
        copy.write(&small, &Touched::default(), false, &pace)
            .expect("writes all of it, whatever was touched");
        drop(copy);
        assert_eq!(open(temporary.path()).1.expect("a state").state, small.state);
    }

    #[test]
    fn the_head_of_an_earlier_version_is_read() {
        let totals = Totals { count: 1, sum: u64::MAX };
        let members = BTreeMap::from([(NodeId(1), Member { store: 5, instance: 0, removed: false })]);
        let head = Head {
            store: 7,
            last: None,
            membership: StoredMembership::default(),
            config: Some(Config { site: 1, incarnation: 1 }),
            sessions: BTreeMap::new(),
            clients: BTreeMap::new(),
            members,
            totals,
            draining: BTreeSet::from([NodeId(3)]),
            share: Share { groups: 4, group: 2, mirrored: 9 },
            marks: BTreeMap::from([(NodeId(1), Mark { number: 4, nonce: 5 })]),
        };
        let whole = coding::encode(&head).expect("encodes");
        assert_eq!(Head::decode(&whole).expect("reads").draining, head.draining);
        assert_eq!(Head::decode(&whole).expect("reads").marks, head.marks);
        let Head { store, last, membership, config, sessions, clients, members, .. } = &head;
        let old = (store, last, membership, config, sessions, clients, members, totals);
        let read = Head::decode(&coding::encode(&old).expect("encodes")).expect("reads");
        assert_eq!((read.store, read.totals, read.members.len()), (7, totals, 1));
        assert!(read.draining.is_empty());
    }
}
