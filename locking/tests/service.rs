//! The whole service of one node: found, grant, witness, restart, fail.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use locking::{GrantError, Length, Locking, Options, Record, StartError, Value, WitnessError};
use model::Epoch;
use nfs_compat::sim::Operation;
use nfs_compat::{DiskFs, ErrorKind, Fs, SimFs};

fn options_on(fs: &SimFs) -> Options {
    let mut options = Options::new(PathBuf::from("/state"), Arc::new(fs.clone()), 1, 1, 0);
    options.local_copy = false;
    options
}

async fn start(options: &Options) -> Locking {
    Locking::start(options.clone()).await.unwrap_or_else(|error| panic!("{error}"))
}

/// Ends as a kill does: nothing is closed, nothing said.
async fn kill(locking: &Locking) {
    locking.voter().shutdown().await;
}

fn value(text: &str) -> Value {
    Value::new(text.as_bytes()).expect("short")
}

const SUBKEY: [u8; 16] = [3; 16];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_service_is_founded_above_every_incarnation_of_its_volume() {
    let fs = SimFs::new(1);
    let mut options = options_on(&fs);
    options.incarnation_floor = 6;
    let locking = start(&options).await;
    assert_eq!(locking.incarnation(), 7);
    assert_eq!(locking.grant(12).await.expect("free"), Epoch::new(7, 1));
    locking.shutdown().await;

    options.incarnation_floor = 7;
    let locking = start(&options).await;
    assert_eq!(locking.incarnation(), 7, "founded once");
    locking.shutdown().await;

    options.incarnation_floor = 8;
    let Err(error) = Locking::start(options.clone()).await else { panic!("an old copy was started") };
    assert!(matches!(error, StartError::OldIncarnation { found: 7, floor: 8 }), "{error}");
    options.incarnation_floor = 7;
    options.site = 2;
    let Err(error) = Locking::start(options).await else { panic!("another site's was started") };
    assert!(matches!(error, StartError::OtherSite { found: 1, wanted: 2 }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_witnessed_is_read_back_after_a_restart_and_the_old_epoch_is_over() {
    let fs = SimFs::new(2);
    let options = options_on(&fs);
    for killed in [false, true] {
        let locking = start(&options).await;
        let epoch = locking.grant(12).await.expect("free");
        assert_eq!(locking.grant(12).await.expect("held"), epoch, "idempotent within a session");
        let counter = epoch.get();
        locking.witness(12, epoch, SUBKEY, value("here"), counter).await.expect("witnessed");
        if killed {
            kill(&locking).await;
            fs.crash(5);
        } else {
            locking.shutdown().await;
        }

        let again = start(&options).await;
        assert!(again.session() > locking.session(), "never an old session (L-LE2)");
        let found = again.read_witness(12, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!((found.epoch, found.value, found.counter), (epoch, value("here"), counter));
        assert_eq!(again.held(12), None, "nothing before it is granted anew (L-LE3)");
        let refused = again.witness(12, epoch, SUBKEY, value("late"), counter + 1).await;
        assert_eq!(refused, Err(WitnessError::StaleEpoch), "the old process's epoch is over (L-LE4)");
        let higher = again.grant(12).await.expect("its owner is dead");
        assert!(higher > epoch);
        let refused = again.witness(12, higher, SUBKEY, value("back"), counter - 1).await;
        assert_eq!(refused, Err(WitnessError::Backwards));
        assert_eq!(again.status().counters.stale_epoch, 1);
        again.shutdown().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_free_buckets_are_granted_in_one_entry_and_released_one_by_one() {
    let fs = SimFs::new(3);
    let locking = start(&options_on(&fs)).await;
    let before = locking.status().group.last_log.expect("a log");
    assert_eq!(locking.grant_all().await.expect("granted"), locking::BUCKETS);
    assert_eq!(locking.status().group.last_log, Some(before + 1));
    let epoch = locking.held(65_535).expect("held");
    assert_eq!(locking.status().buckets, locking::BUCKETS);
    locking.release(65_535).await.expect("released");
    assert_eq!(locking.held(65_535), None);
    let refused = locking.witness(65_535, epoch, SUBKEY, value("late"), 1).await;
    assert_eq!(refused, Err(WitnessError::StaleEpoch));
    assert!(locking.grant(65_535).await.expect("free") > epoch);
    locking.shutdown().await;
    assert_eq!(locking.held(1), None, "the session is closed, and so is what it held");
    let error = locking.grant(1).await.expect_err("stopped");
    assert!(matches!(error, GrantError::NoAnswer(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn witnesses_of_many_accounts_share_few_entries() {
    let temporary = tempfile::tempdir().expect("a directory");
    let options = Options::new(temporary.path().join("state"), Arc::new(DiskFs::new()), 1, 1, 0);
    let locking = start(&options).await;
    locking.grant_all().await.expect("granted");
    let before = locking.status().group.last_log.expect("a log");
    let tasks = (0..200u16).map(|account| {
        let locking = locking.clone();
        let epoch = locking.held(account).expect("held");
        // Some wait on threads of their own, as the account engine does.
        if account % 10 == 0 {
            tokio::task::spawn_blocking(move || {
                (1..=20).all(|n| locking.witness_blocking(account, epoch, SUBKEY, value("b"), n).is_ok())
            })
        } else {
            tokio::spawn(async move {
                for counter in 1..=20 {
                    if locking.witness(account, epoch, SUBKEY, value("a"), counter).await.is_err() {
                        return false;
                    }
                }
                true
            })
        }
    });
    for task in tasks.collect::<Vec<_>>() {
        assert!(task.await.expect("ends"));
    }
    let status = locking.status();
    let entries = status.group.last_log.expect("a log") - before;
    assert_eq!(status.counters.records, 4000);
    assert_eq!(status.counters.batches, entries);
    assert!(entries < 1000, "{entries} entries for 4000 witnesses");
    assert_eq!(status.counters.latency.iter().sum::<u64>(), entries);
    assert_eq!(status.witnesses, 200);
    for account in 0..200 {
        let found = locking.read_witness(account, &SUBKEY).await.expect("answers").expect("is there");
        assert_eq!(found.counter, 20);
    }
    locking.shutdown().await;

    // The local copy brings it all back.
    let locking = start(&options).await;
    assert_eq!(locking.status().witnesses, 200);
    locking.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn submitted_witnesses_of_one_account_are_carried_out_in_order() {
    let fs = SimFs::new(4);
    let locking = start(&options_on(&fs)).await;
    let epoch = locking.grant(7).await.expect("free");
    let tickets: Vec<_> = (1..=3000)
        .map(|counter| {
            locking.submit(Record { bucket: 7, epoch, subkey: SUBKEY, value: value("v"), counter })
        })
        .collect();
    for ticket in tickets {
        assert_eq!(ticket.answer().await, Ok(()), "one that overtook another would send it backwards");
    }
    locking.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_disk_stops_the_service_and_nothing_more_is_acknowledged() {
    // (L-RS1)
    let fs = SimFs::new(5);
    let locking = start(&options_on(&fs)).await;
    let epoch = locking.grant(7).await.expect("free");
    locking.witness(7, epoch, SUBKEY, value("good"), 1).await.expect("witnessed");
    fs.fail(Operation::Sync, 1, ErrorKind::Failed);
    assert_eq!(locking.witness(7, epoch, SUBKEY, value("lost"), 2).await, Err(WitnessError::Unknown));
    let why = tokio::time::timeout(Duration::from_secs(10), locking.stopped()).await.expect("it stops");
    assert!(why.contains("sync"), "{why}");
    assert_eq!(locking.witness(7, epoch, SUBKEY, value("after"), 3).await, Err(WitnessError::Unknown));
    assert!(locking.grant(8).await.is_err());
    assert!(locking.status().group.failure.is_some());
    locking.shutdown().await;
}

#[tokio::test]
async fn a_process_that_was_stopped_for_longer_than_its_lease_loses_its_session() {
    // (L-LE1, L-LE2) One thread drives everything here, so sleeping on it stops the whole node.
    let fs = SimFs::new(6);
    let mut options = options_on(&fs);
    options.lease = Length::new(Duration::from_millis(800)).expect("long enough");
    let locking = start(&options).await;
    let mut sessions = locking.sessions();
    let (session, epoch) = (locking.session(), locking.grant(7).await.expect("free"));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    assert_eq!(locking.session(), session, "renewals keep it");
    assert!(locking.may_read() && locking.may_change());

    std::thread::sleep(Duration::from_millis(900));
    assert!(!locking.may_read() && !locking.may_change());
    tokio::time::timeout(Duration::from_secs(10), sessions.changed()).await.expect("in time").expect("told");
    assert!(locking.session() > session);
    assert_eq!(locking.held(7), None);
    assert_eq!(locking.witness(7, epoch, SUBKEY, value("late"), 1).await, Err(WitnessError::StaleEpoch));
    assert!(locking.grant(7).await.expect("free") > epoch);
    locking.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_shortens_the_log_and_brings_the_state_back() {
    let fs = SimFs::new(7);
    let options = options_on(&fs);
    let locking = start(&options).await;
    let epoch = locking.grant(7).await.expect("free");
    for counter in 1..=400 {
        locking.witness(7, epoch, SUBKEY, value("v"), counter).await.expect("witnessed");
    }
    let before = locking.status().group;
    locking.voter().snapshot().await.expect("begins");
    let purged = async {
        while locking.status().group.purged.is_none() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), purged).await.expect("purges");
    let after = locking.status().group;
    assert!(after.log_bytes < before.log_bytes, "{} then {}", before.log_bytes, after.log_bytes);
    locking.witness(7, epoch, SUBKEY, value("last"), 401).await.expect("witnessed");
    kill(&locking).await;
    fs.crash(1);
    let locking = start(&options).await;
    let found = locking.read_witness(7, &SUBKEY).await.expect("answers").expect("is there");
    assert_eq!((found.counter, found.value), (401, value("last")));
    locking.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_copy_costs_nothing_but_time() {
    let temporary = tempfile::tempdir().expect("a directory");
    let options = Options::new(temporary.path().join("state"), Arc::new(DiskFs::new()), 1, 1, 0);
    let locking = start(&options).await;
    let epoch = locking.grant(7).await.expect("free");
    locking.witness(7, epoch, SUBKEY, value("v"), 1).await.expect("witnessed");
    locking.shutdown().await;
    let db: &Path = &temporary.path().join("state/applied/db");
    let length = DiskFs::new().metadata(db).expect("is there").length;
    DiskFs::new()
        .open_write(db)
        .expect("opens")
        .write_at(&[0xee; 64], length.saturating_sub(64))
        .expect("writes");
    DiskFs::new().open_write(db).expect("opens").write_at(&[0xee; 64], 0).expect("writes");
    let locking = start(&options).await;
    let found = locking.read_witness(7, &SUBKEY).await.expect("answers").expect("is there");
    assert_eq!(found.counter, 1);
    assert!(locking.grant(7).await.expect("free") > epoch);
    locking.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_acknowledged_witness_is_lost_and_no_epoch_given_twice_wherever_the_process_is_killed() {
    // (J1, J2)
    for round in 0..40u64 {
        let fs = SimFs::new(round);
        let options = options_on(&fs);
        let mut acknowledged: BTreeMap<u16, u64> = BTreeMap::new();
        let mut highest: BTreeMap<u16, Epoch> = BTreeMap::new();
        for life in 0..3u64 {
            fs.stop_after(20 + (round * 7 + life * 13) % 60);
            if let Ok(locking) = Locking::start(options.clone()).await {
                live(&locking, &mut acknowledged, &mut highest).await;
                kill(&locking).await;
            }
            fs.crash(round * 3 + life);
        }
        let locking = start(&options).await;
        for (bucket, counter) in &acknowledged {
            let found = locking.read_witness(*bucket, &SUBKEY).await.expect("answers").expect("is there");
            assert!(
                found.counter >= *counter,
                "round {round}, bucket {bucket}: {} < {counter}",
                found.counter
            );
        }
        for (bucket, epoch) in &highest {
            assert!(locking.grant(*bucket).await.expect("free") > *epoch, "round {round}, bucket {bucket}");
        }
        kill(&locking).await;
    }
}

/// Witnesses in a few buckets until something fails.
async fn live(locking: &Locking, acknowledged: &mut BTreeMap<u16, u64>, highest: &mut BTreeMap<u16, Epoch>) {
    for turn in 0..1000u64 {
        let bucket = (turn % 3) as u16;
        let Ok(epoch) = locking.grant(bucket).await else { return };
        let before = highest.insert(bucket, epoch);
        assert!(turn >= 3 || before < Some(epoch), "a new session has a higher epoch (J1)");
        let counter =
            acknowledged.get(&bucket).map_or(1, |counter| counter + 1).max(epoch.get() * 10_000 + turn);
        if locking.witness(bucket, epoch, SUBKEY, value("v"), counter).await.is_err() {
            return;
        }
        acknowledged.insert(bucket, counter);
    }
}
