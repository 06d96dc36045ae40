//! An account's journal over the simulated volume: written, cut, flipped, crashed, and read back.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says where")]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use journal::trim::{self, Retention};
use journal::{
    CheckpointName, CheckpointPin, Entry, Header, Mark, ReadError, SEGMENT_BYTES_MAX, SegmentName, Show,
    Shown, Tail, WriteError, Writer, content_hash, read_exact, read_tail,
};
use model::{AccountId, Clock, Dot, Epoch, Op, Record, ReplicaId, SiteId};
use nfs_compat::sim::Operation;
use nfs_compat::{ErrorKind, Fs, SimFs};
use proptest::prelude::*;

const ACCOUNT: AccountId = AccountId::from_bytes([7; 16]);

fn j() -> &'static Path {
    Path::new("/account/j")
}

fn c() -> &'static Path {
    Path::new("/account/c")
}

fn epoch(counter: u32) -> Epoch {
    Epoch::new(1, counter)
}

fn name(counter: u32, segment: u16) -> SegmentName {
    SegmentName { epoch: epoch(counter), segment }
}

fn record(number: u64) -> Record {
    let site = SiteId::new(0).unwrap();
    let stamp = Clock::new(site).issue(1_800_000_000_000 + number);
    let dot = Dot::new(ReplicaId::new(site, 1), number).unwrap();
    Record { dot, stamp, modseq: stamp.into(), op: Op::Subscribe { name: format!("box {number}"), on: true } }
}

fn create(fs: &SimFs, header: Header) -> Writer {
    Writer::create(Arc::new(fs.clone()), j(), header).unwrap()
}

/// Appends so many records, each its own position as content, and syncs.
fn write(writer: &mut Writer, count: u64) -> Mark {
    for _ in 0..count {
        let next = writer.lsn() + 1;
        assert_eq!(writer.append(&record(next)).unwrap().lsn, next);
    }
    writer.sync().unwrap()
}

fn after(mark: &Mark, name: SegmentName, checkpoint: Option<CheckpointPin>) -> Header {
    Header::after(ACCOUNT, name, 1, mark, checkpoint)
}

fn tail(fs: &SimFs) -> Result<Tail, ReadError> {
    read_tail(fs, j(), ACCOUNT, None)
}

fn numbers(entries: &[Entry]) -> Vec<u64> {
    for entry in entries {
        assert_eq!(entry.record, record(entry.lsn));
    }
    entries.iter().map(|entry| entry.lsn).collect()
}

fn upto(last: u64) -> Vec<u64> {
    (1..=last).collect()
}

fn checkpoint(fs: &SimFs, epoch: Epoch, lsn: u64) -> CheckpointPin {
    let name = CheckpointName { epoch, lsn };
    fs.create_dir_all(c()).unwrap();
    nfs_compat::publish_new(fs, c(), &name.to_string(), b"state").unwrap();
    CheckpointPin { name, length: 5, hash: content_hash(b"state") }
}

fn bytes_of(fs: &SimFs, name: SegmentName) -> Vec<u8> {
    fs.read(&j().join(name.to_string()), u64::from(SEGMENT_BYTES_MAX)).unwrap()
}

/// Puts other bytes under a segment's name.
fn put(fs: &SimFs, name: SegmentName, bytes: &[u8]) {
    nfs_compat::publish(fs, j(), &name.to_string(), bytes).unwrap();
}

/// Three owners: two segments of the first (two syncs in the first of them), one of the second, two syncs in that of
/// the third. Records 1 to 12.
fn three_owners(fs: &SimFs) -> Mark {
    let mut writer = create(fs, Header::first(ACCOUNT, epoch(1), 1));
    write(&mut writer, 2);
    let mark = write(&mut writer, 2);
    let mark = write(&mut create(fs, after(&mark, name(1, 1), None)), 2);
    let mark = write(&mut create(fs, after(&mark, name(2, 0), None)), 2);
    let mut writer = create(fs, after(&mark, name(5, 0), None));
    write(&mut writer, 2);
    write(&mut writer, 2)
}

const OWNERS_SEGMENTS: [(u32, u16); 4] = [(1, 0), (1, 1), (2, 0), (5, 0)];

#[test]
fn what_three_owners_wrote_is_read_in_order() {
    let fs = SimFs::new(1);
    let mark = three_owners(&fs);
    let replay = read_exact(&fs, j(), ACCOUNT, &mark).unwrap();
    assert_eq!(numbers(&replay.entries), upto(12));
    assert_eq!((replay.checkpoint, replay.mark), (None, mark));
    let tail = tail(&fs).unwrap();
    assert_eq!((numbers(&tail.entries), tail.mark), (upto(12), Some(mark)));
    assert_eq!((tail.torn, tail.orphans, tail.newest), (None, vec![], Some(name(5, 0))));
    let shown: Vec<_> = Show::new(&fs, j(), ACCOUNT).unwrap().map(Result::unwrap).collect();
    assert_eq!(shown, replay.entries.into_iter().map(Shown::Record).collect::<Vec<_>>());
}

#[test]
fn an_account_without_a_journal_has_none() {
    let fs = SimFs::new(1);
    assert_eq!(tail(&fs).unwrap(), Tail::default());
    assert_eq!(Show::new(&fs, j(), ACCOUNT).unwrap().count(), 0);
}

#[test]
fn the_next_name_is_greater_than_all_or_there_is_none() {
    let fs = SimFs::new(1);
    three_owners(&fs);
    let tail = tail(&fs).unwrap();
    assert_eq!(tail.next_name(epoch(6)), Some(name(6, 0)));
    assert_eq!(tail.next_name(epoch(5)), Some(name(5, 1)));
    assert_eq!(tail.next_name(epoch(4)), None);
    assert_eq!(Tail::default().next_name(epoch(4)), Some(name(4, 0)));
}

#[test]
fn a_segment_is_created_once() {
    let fs = Arc::new(SimFs::new(1));
    let first = || Writer::create(fs.clone(), j(), Header::first(ACCOUNT, epoch(1), 1));
    drop(first().unwrap());
    assert!(matches!(first(), Err(WriteError::Fs(error)) if error.is_exists()));
}

#[test]
fn an_owner_without_changes_marks_its_header() {
    let fs = SimFs::new(1);
    let mark = three_owners(&fs);
    let mut writer = create(&fs, after(&mark, name(6, 0), None));
    assert!(writer.is_empty());
    let own = writer.sync().unwrap();
    assert_eq!((own.lsn, u64::from(own.length)), (12, writer.len()));
    assert_eq!(writer.sync().unwrap(), own);
    assert_eq!(numbers(&read_exact(&fs, j(), ACCOUNT, &own).unwrap().entries), upto(12));
}

#[test]
fn late_bytes_of_a_deposed_owner_are_never_read() {
    // J4: N1 is paused after a sync that was not witnessed, N2 takes over, N1 goes on.
    let fs = SimFs::new(1);
    let mut deposed = create(&fs, Header::first(ACCOUNT, epoch(7), 1));
    let witnessed = write(&mut deposed, 3);
    write(&mut deposed, 1);
    assert_eq!(numbers(&read_exact(&fs, j(), ACCOUNT, &witnessed).unwrap().entries), upto(3));
    let mut owner = create(&fs, after(&witnessed, name(8, 0), None));
    let mark = write(&mut owner, 2);
    write(&mut deposed, 5);
    let replay = read_exact(&fs, j(), ACCOUNT, &mark).unwrap();
    assert_eq!(numbers(&replay.entries), upto(5));
    assert_eq!(replay.entries[3].segment, name(8, 0));
    assert_eq!(tail(&fs).unwrap().entries, replay.entries);
}

#[test]
fn a_deposed_owners_own_segment_is_an_orphan() {
    let fs = SimFs::new(1);
    let mark = write(&mut create(&fs, Header::first(ACCOUNT, epoch(7), 1)), 3);
    write(&mut create(&fs, after(&mark, name(8, 0), None)), 4);
    write(&mut create(&fs, after(&mark, name(9, 0), None)), 1);
    let tail = tail(&fs).unwrap();
    assert_eq!(numbers(&tail.entries), upto(4));
    assert_eq!(
        tail.orphans.iter().map(|orphan| (orphan.name, orphan.records)).collect::<Vec<_>>(),
        [(name(8, 0), 4)]
    );
}

#[test]
fn an_older_view_is_stale_and_another_file_is_a_mismatch() {
    let fs = SimFs::new(1);
    let mark = three_owners(&fs);
    let read = |mark: &Mark| read_exact(&fs, j(), ACCOUNT, mark).unwrap_err();
    let want = mark.length;
    let longer = Mark { length: want + 1, ..mark };
    assert!(matches!(read(&longer), ReadError::Stale { have, .. } if have == want));
    let missing = Mark { segment: 9, ..mark };
    assert!(matches!(read(&missing), ReadError::Stale { have: 0, .. }));
    assert!(matches!(read(&Mark { hash: 1, ..mark }), ReadError::Mismatch { .. }));
    assert!(matches!(read(&Mark { lsn: 99, ..mark }), ReadError::Mismatch { .. }));
    let other = AccountId::from_bytes([8; 16]);
    assert!(matches!(read_exact(&fs, j(), other, &mark), Err(ReadError::Mismatch { .. })));
    fs.unlink(&j().join(name(1, 1).to_string())).unwrap();
    assert!(matches!(read(&mark), ReadError::Stale { segment, .. } if segment == name(1, 1)));
}

#[test]
fn a_tail_must_contain_the_mark_that_is_known() {
    let fs = SimFs::new(1);
    let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
    let early = write(&mut writer, 2);
    let mark = write(&mut writer, 2);
    write(&mut create(&fs, after(&mark, name(2, 0), None)), 1);
    for known in [early, mark] {
        assert_eq!(numbers(&read_tail(&fs, j(), ACCOUNT, Some(&known)).unwrap().entries), upto(5));
    }
    let unknown = |mark: Mark| read_tail(&fs, j(), ACCOUNT, Some(&mark)).unwrap_err();
    assert!(matches!(unknown(Mark { length: mark.length + 1, ..mark }), ReadError::Stale { .. }));
    assert!(matches!(unknown(Mark { hash: 1, ..mark }), ReadError::Mismatch { .. }));
    assert!(matches!(unknown(Mark { epoch: epoch(3), ..mark }), ReadError::Stale { .. }));
    let empty = SimFs::new(1);
    assert!(matches!(read_tail(&empty, j(), ACCOUNT, Some(&mark)), Err(ReadError::Stale { have: 0, .. })));
}

#[test]
fn a_checkpoint_is_where_reading_begins() {
    let fs = SimFs::new(1);
    let mark = three_owners(&fs);
    // In the middle of what the third owner wrote, and then named by two segments.
    let pin = checkpoint(&fs, epoch(5), 10);
    let mark = write(&mut create(&fs, after(&mark, name(5, 1), Some(pin))), 1);
    let mark = write(&mut create(&fs, after(&mark, name(6, 0), Some(pin))), 1);
    let replay = read_exact(&fs, j(), ACCOUNT, &mark).unwrap();
    assert_eq!((numbers(&replay.entries), replay.checkpoint), (vec![11, 12, 13, 14], Some(pin)));
    assert_eq!(tail(&fs).unwrap().entries, replay.entries);
    // What only leads up to it need not be there.
    fs.unlink(&j().join(name(2, 0).to_string())).unwrap();
    assert_eq!(read_exact(&fs, j(), ACCOUNT, &mark).unwrap(), replay);
}

#[test]
fn a_cut_at_any_byte_leaves_the_longest_valid_beginning() {
    let fs = SimFs::new(1);
    let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
    let mut ends = vec![writer.len()];
    for number in 1..=4 {
        writer.append(&record(number)).unwrap();
        writer.sync().unwrap();
        ends.push(writer.len());
    }
    let whole = bytes_of(&fs, name(1, 0));
    for cut in 0..=whole.len() {
        put(&fs, name(1, 0), &whole[..cut]);
        let tail = tail(&fs).unwrap();
        let records = ends.iter().filter(|end| **end <= cut as u64).count().saturating_sub(1);
        assert_eq!(numbers(&tail.entries), upto(records as u64), "cut at {cut}");
        assert_eq!(tail.mark.is_some(), cut as u64 >= ends[0]);
        assert_eq!(tail.mark.is_none(), tail.orphans.len() == 1);
        assert_eq!(tail.torn.is_some(), cut as u64 > ends[0] && !ends.contains(&(cut as u64)));
        if let Some(mark) = tail.mark {
            assert_eq!(read_exact(&fs, j(), ACCOUNT, &mark).unwrap().entries, tail.entries);
        }
    }
}

#[test]
fn of_records_under_one_sync_a_cut_leaves_all_or_none() {
    let fs = SimFs::new(1);
    let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
    let first = write(&mut writer, 1);
    write(&mut writer, 3);
    let whole = bytes_of(&fs, name(1, 0));
    for cut in first.length as usize..whole.len() {
        put(&fs, name(1, 0), &whole[..cut]);
        let tail = tail(&fs).unwrap();
        assert_eq!((numbers(&tail.entries), tail.mark), (upto(1), Some(first)), "cut at {cut}");
        assert_eq!(tail.torn.is_some(), cut > first.length as usize);
    }
    put(&fs, name(1, 0), &whole);
    assert_eq!(numbers(&tail(&fs).unwrap().entries), upto(4));
}

#[test]
fn garbled_bytes_in_the_middle_are_told_from_a_torn_end() {
    let fs = SimFs::new(1);
    let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
    let early = write(&mut writer, 3);
    write(&mut writer, 2);
    let whole = bytes_of(&fs, name(1, 0));
    let mut changed = whole.clone();
    changed[early.length as usize - 1] ^= 1;
    put(&fs, name(1, 0), &changed);
    let Err(ReadError::Garbled(garbled)) = tail(&fs) else { panic!("not garbled") };
    assert_eq!((numbers(&garbled.before), numbers(&garbled.after)), (vec![1, 2], vec![4, 5]));
    assert_eq!(garbled.segment, name(1, 0));
    let shown: Vec<_> = Show::new(&fs, j(), ACCOUNT).unwrap().map(Result::unwrap).collect();
    assert_eq!(shown.len(), 5);
    assert_eq!(shown[2], Shown::Garbled { segment: name(1, 0), offset: garbled.offset });

    // The first record of the last batch: nothing says that it was ever synced.
    let mut changed = whole;
    changed[early.length as usize + 9] ^= 1;
    put(&fs, name(1, 0), &changed);
    let tail = tail(&fs).unwrap();
    assert_eq!(numbers(&tail.entries), upto(3));
    assert_eq!(tail.torn.unwrap().offset, early.length);
    assert_eq!(tail.mark.unwrap(), early);
}

#[test]
fn a_damaged_predecessor_is_garbled_and_both_sides_are_returned() {
    let fs = SimFs::new(1);
    three_owners(&fs);
    let mut changed = bytes_of(&fs, name(2, 0));
    let last = changed.len() - 1;
    changed[last] ^= 1;
    put(&fs, name(2, 0), &changed);
    let Err(ReadError::Garbled(garbled)) = tail(&fs) else { panic!("not garbled") };
    assert_eq!((numbers(&garbled.before), numbers(&garbled.after)), (upto(7), vec![9, 10, 11, 12]));
    fs.unlink(&j().join(name(2, 0).to_string())).unwrap();
    let Err(ReadError::Garbled(garbled)) = tail(&fs) else { panic!("not garbled") };
    assert_eq!((garbled.segment, numbers(&garbled.after)), (name(2, 0), vec![9, 10, 11, 12]));
}

#[test]
fn a_newest_segment_that_lost_its_synced_header_is_garbled() {
    let fs = SimFs::new(1);
    three_owners(&fs);
    let mut changed = bytes_of(&fs, name(5, 0));
    changed[20] ^= 1;
    put(&fs, name(5, 0), &changed);
    let Err(ReadError::Garbled(garbled)) = tail(&fs) else { panic!("not garbled") };
    assert_eq!((numbers(&garbled.before), numbers(&garbled.after)), (upto(8), vec![9, 10, 11, 12]));

    // The same in the only segment there is, and cut off where its first sync ended: then nothing can tell.
    let fs = SimFs::new(1);
    let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
    let first = write(&mut writer, 2);
    write(&mut writer, 2);
    let mut changed = bytes_of(&fs, name(1, 0));
    changed[20] ^= 1;
    put(&fs, name(1, 0), &changed);
    let Err(ReadError::Garbled(garbled)) = tail(&fs) else { panic!("not garbled") };
    assert_eq!((numbers(&garbled.before), numbers(&garbled.after)), (vec![], upto(4)));
    put(&fs, name(1, 0), &changed[..first.length as usize]);
    let tail = tail(&fs).unwrap();
    assert_eq!((tail.entries.len(), tail.orphans.len(), tail.orphans[0].records), (0, 1, 2));
}

#[test]
fn a_segment_of_a_newer_program_is_not_skipped() {
    let fs = SimFs::new(1);
    let mark = three_owners(&fs);
    let mut newer = bytes_of(&fs, name(5, 0));
    let body = usize::from(u16::from_le_bytes([newer[9], newer[10]]));
    newer[8] += 1;
    let crc = crc32fast::hash(&[&newer[8..11], &newer[15..15 + body]].concat());
    newer[11..15].copy_from_slice(&crc.to_le_bytes());
    put(&fs, name(5, 0), &newer);
    assert!(matches!(tail(&fs), Err(ReadError::Foreign { version: 2, .. })));
    assert!(matches!(read_exact(&fs, j(), ACCOUNT, &mark), Err(ReadError::Foreign { version: 2, .. })));
}

#[test]
fn a_full_segment_refuses_and_goes_on_in_the_next() {
    let fs = SimFs::new(1);
    let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
    let mut large = record(1);
    large.op = Op::Subscribe { name: "x".repeat(15 << 20), on: true };
    let full = loop {
        match writer.append(&large) {
            Ok(_) => {}
            Err(error) => break error,
        }
    };
    assert!(matches!(full, WriteError::Full(at) if at == name(1, 0)));
    assert_eq!(writer.records(), 4);
    let mark = writer.sync().unwrap();
    let next = writer.successor(name(1, 1));
    assert_eq!((next.first_lsn, next.previous), (5, Some(mark.pin())));
    let mark = create(&fs, next).sync().unwrap();
    assert_eq!(read_exact(&fs, j(), ACCOUNT, &mark).unwrap().entries.len(), 4);
}

#[test]
fn after_a_failed_write_or_sync_the_next_segment_goes_on_from_the_last_mark() {
    // L-FS2.
    for operation in [Operation::Write, Operation::Sync] {
        let fs = SimFs::new(1);
        let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
        let mark = write(&mut writer, 3);
        fs.fail(operation, 1, ErrorKind::NoSpace);
        writer.append(&record(4)).unwrap();
        assert!(matches!(writer.sync(), Err(WriteError::Fs(error)) if error.is_full()));
        assert!(matches!(writer.sync(), Err(WriteError::Dead(_))));
        assert!(matches!(writer.append(&record(5)), Err(WriteError::Dead(_))));
        assert!(writer.is_dead());
        assert_eq!(writer.mark(), Some(mark));
        let mut next = create(&fs, writer.successor(name(1, 1)));
        let mark = write(&mut next, 2);
        for seed in 0..20 {
            assert_eq!(numbers(&tail(&fs).unwrap().entries), upto(5));
            assert_eq!(numbers(&read_exact(&fs, j(), ACCOUNT, &mark).unwrap().entries), upto(5));
            fs.crash(seed);
        }
    }
}

#[test]
fn a_segment_whose_first_sync_failed_is_followed_from_where_it_began() {
    let fs = SimFs::new(1);
    fs.fail(Operation::Sync, 1, ErrorKind::Failed);
    let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
    writer.append(&record(1)).unwrap();
    writer.sync().unwrap_err();
    let header = writer.successor(name(1, 1));
    assert_eq!((header.previous, header.first_lsn), (None, 1));
    write(&mut create(&fs, header), 2);
    assert_eq!(numbers(&tail(&fs).unwrap().entries), upto(2));
}

/// What a life of several owners had synced when it ended, and whether it came to its end.
fn life(fs: &SimFs) -> (Option<Mark>, bool) {
    let mut synced = None;
    let mut live = || -> Result<(), Box<dyn std::error::Error>> {
        for counter in 1..=3 {
            let tail = read_tail(fs, j(), ACCOUNT, synced.as_ref())?;
            let first = Header::first(ACCOUNT, epoch(counter), 1);
            let next = tail.next_name(epoch(counter)).ok_or("names are used up")?;
            let header = tail.mark.map_or(first, |mark| after(&mark, next, None));
            let mut writer = Writer::create(Arc::new(fs.clone()), j(), header)?;
            for _ in 0..2 {
                writer.append(&record(writer.lsn() + 1))?;
                writer.append(&record(writer.lsn() + 1))?;
                synced = Some(writer.sync()?);
            }
        }
        Ok(())
    };
    let finished = live().is_ok();
    (synced, finished)
}

#[test]
fn what_was_synced_survives_death_at_every_call() {
    for step in 0.. {
        let mut finished = false;
        for seed in 0..12 {
            let fs = SimFs::new(seed);
            fs.stop_after(step);
            let (synced, came_to_its_end) = life(&fs);
            finished = came_to_its_end;
            if seed % 3 == 0 {
                fs.restart();
            } else {
                fs.crash(seed);
            }
            let found = read_tail(&fs, j(), ACCOUNT, synced.as_ref()).unwrap();
            let last = found.mark.map_or(0, |mark| mark.lsn);
            assert_eq!(numbers(&found.entries), upto(last));
            assert!(last >= synced.map_or(0, |mark| mark.lsn), "step {step} seed {seed}");
            if let Some(mark) = synced {
                let replay = read_exact(&fs, j(), ACCOUNT, &mark).unwrap();
                assert_eq!(numbers(&replay.entries), upto(mark.lsn));
            }
            // What was shown as the tail is durable now: it stays after another crash.
            fs.crash(seed + 1);
            assert_eq!(read_tail(&fs, j(), ACCOUNT, found.mark.as_ref()).unwrap().entries, found.entries);
        }
        if finished {
            break;
        }
    }
}

#[test]
fn trimming_removes_what_the_checkpoint_and_every_site_have_passed() {
    let fs = SimFs::new(1);
    let mark = three_owners(&fs);
    write(&mut create(&fs, after(&mark, name(6, 0), None)), 3);
    let old = checkpoint(&fs, epoch(5), 2);
    let pin = checkpoint(&fs, epoch(7), 12);
    let unpinned = checkpoint(&fs, epoch(7), 13);
    let mark = write(&mut create(&fs, after(&mark, name(7, 0), Some(pin))), 1);
    let plan = |passed_lsn, orphans_before| {
        let retention = Retention { passed_lsn, orphans_before };
        trim::plan(&fs, j(), c(), ACCOUNT, &mark, &retention).unwrap()
    };
    let (now, later) = (fs.now(), fs.now() + Duration::from_secs(1));
    // The second owner's first record is 7; who has passed 6 still wants it.
    assert_eq!(plan(6, now).segments, [name(1, 0), name(1, 1)]);
    assert_eq!(plan(u64::MAX, now).segments, OWNERS_SEGMENTS.map(|(epoch, segment)| name(epoch, segment)));
    assert!(plan(0, later).segments == [name(6, 0)]);
    let everything = plan(u64::MAX, later);
    assert_eq!((everything.segments.len(), &everything.checkpoints), (5, &vec![old.name]));
    trim::remove(&fs, j(), c(), &everything).unwrap();
    trim::remove(&fs, j(), c(), &everything).unwrap();
    fs.crash(1);
    assert_eq!(numbers(&read_exact(&fs, j(), ACCOUNT, &mark).unwrap().entries), [13]);
    assert_eq!(numbers(&tail(&fs).unwrap().entries), [13]);
    assert_eq!(trim::checkpoint_names(&fs, c()).unwrap(), [pin.name, unpinned.name]);
    assert_eq!(Show::new(&fs, j(), ACCOUNT).unwrap().count(), 1);
}

#[test]
fn nothing_is_trimmed_before_the_first_checkpoint() {
    let fs = SimFs::new(1);
    let mark = three_owners(&fs);
    let retention = Retention { passed_lsn: u64::MAX, orphans_before: fs.now() + Duration::from_secs(1) };
    assert_eq!(trim::plan(&fs, j(), c(), ACCOUNT, &mark, &retention).unwrap(), trim::Plan::default());
}

proptest! {
    #[test]
    fn any_changed_byte_is_noticed(segment in 0..4_usize, at: prop::sample::Index, flip in 1_u8..) {
        let fs = SimFs::new(1);
        let mark = three_owners(&fs);
        let (counter, number) = OWNERS_SEGMENTS[segment];
        let mut bytes = bytes_of(&fs, name(counter, number));
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        put(&fs, name(counter, number), &bytes);
        prop_assert!(read_exact(&fs, j(), ACCOUNT, &mark).is_err());
        match tail(&fs) {
            // Only the last batch, of which no later record says that it was synced, can pass for torn.
            Ok(tail) => {
                prop_assert_eq!(numbers(&tail.entries), upto(tail.mark.unwrap().lsn));
                prop_assert!(tail.torn.is_some() && tail.mark.unwrap().lsn >= 10);
            }
            Err(ReadError::Garbled(garbled)) => {
                prop_assert!(numbers(&garbled.before).len() + numbers(&garbled.after).len() <= 12);
            }
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn any_bytes_under_a_segments_name_can_be_read(bytes in prop::collection::vec(any::<u8>(), 0..200), keep in 0..100_usize) {
        let fs = SimFs::new(1);
        let mark = three_owners(&fs);
        let mut whole = bytes_of(&fs, name(5, 0));
        whole.truncate(keep);
        whole.extend(bytes);
        put(&fs, name(5, 0), &whole);
        prop_assert!(read_exact(&fs, j(), ACCOUNT, &mark).is_err());
        let tail = tail(&fs).unwrap();
        prop_assert!(tail.mark.unwrap().lsn == 8);
        drop(Show::new(&fs, j(), ACCOUNT).unwrap().collect::<Vec<_>>());
    }
}

/// L-FS2: memory keeps the bytes of a sync that failed, and no other sync writes them.
#[test]
fn what_a_failed_sync_left_in_memory_is_durable_once_it_was_read_back() {
    for seed in 0..50 {
        let fs = SimFs::new(seed);
        fs.create_dir_all(j()).unwrap();
        let mut writer = create(&fs, Header::first(ACCOUNT, epoch(1), 1));
        writer.append(&record(1)).unwrap();
        fs.fail(Operation::Sync, 1, ErrorKind::Failed);
        assert!(writer.sync().is_err());
        let read = tail(&fs).unwrap();
        fs.crash(seed);
        assert_eq!(tail(&fs).unwrap().entries, read.entries, "seed {seed}");
    }
}
