//! Histories of one bucket, good ones and ones with one fault.

use super::super::Violation;
use super::check;
use crate::history::lock::{LockOp, Witness};
use crate::history::{Entry, Outcome};

const OK: Outcome = Outcome::Ok;
const INFO: Outcome = Outcome::Info;
const FAIL: Outcome = Outcome::Fail;

fn grant(session: u64, epoch: u64) -> LockOp {
    LockOp::Grant { session, epoch }
}

fn witness(epoch: u64, counter: u64) -> LockOp {
    LockOp::Witness { subkey: 0, epoch, counter, value: counter * 10 }
}

fn read(found: Option<(u64, u64)>) -> LockOp {
    let found = found.map(|(epoch, counter)| Witness { epoch, counter, value: counter * 10 });
    LockOp::Read { subkey: 0, found }
}

/// One after the other.
fn sequence(steps: Vec<(Outcome, LockOp)>) -> Vec<Entry<LockOp>> {
    let entry = |(at, (outcome, op)): (u64, (Outcome, LockOp))| Entry {
        client: u32::try_from(at).unwrap(),
        account: 5,
        begun_us: at * 10,
        told_us: at * 10 + 9,
        outcome,
        op,
    };
    (1..).zip(steps).map(entry).collect()
}

fn wrong(history: &[Entry<LockOp>]) -> Vec<String> {
    check(history).into_iter().map(|Violation { what, .. }| what).collect()
}

fn in_turn(steps: Vec<(Outcome, LockOp)>) -> Vec<String> {
    wrong(&sequence(steps))
}

fn caught(steps: Vec<(Outcome, LockOp)>, by: &str) {
    let wrong = in_turn(steps);
    assert!(wrong.iter().any(|what| what.contains(by)), "{wrong:?}");
}

#[test]
fn good_histories_pass() {
    let steps = vec![
        (OK, read(None)),
        (OK, grant(1, 1)),
        (OK, witness(1, 1)),
        (OK, read(Some((1, 1)))),
        (FAIL, grant(2, 0)),
        (OK, grant(1, 1)),
        (OK, LockOp::Release { epoch: 1 }),
        (FAIL, witness(1, 2)),
        (OK, grant(2, 2)),
        (OK, read(Some((1, 1)))),
        (OK, witness(2, 2)),
        (OK, read(Some((2, 2)))),
    ];
    assert_eq!(in_turn(steps), Vec::<String>::new());
}

#[test]
fn a_witness_without_an_answer_may_have_been_accepted_or_not_or_come_later() {
    for found in [Some((1, 1)), Some((1, 2))] {
        let steps = vec![(OK, grant(1, 1)), (OK, witness(1, 1)), (INFO, witness(1, 2)), (OK, read(found))];
        assert_eq!(in_turn(steps), Vec::<String>::new());
    }
    let late = vec![
        (OK, grant(1, 1)),
        (INFO, witness(1, 2)),
        (OK, read(None)),
        (OK, read(Some((1, 2)))),
        (OK, grant(2, 2)),
        (OK, read(Some((1, 2)))),
    ];
    assert_eq!(in_turn(late), Vec::<String>::new());
}

#[test]
fn a_witness_that_comes_after_a_grant_is_caught() {
    let steps = vec![
        (OK, grant(1, 1)),
        (INFO, witness(1, 2)),
        (OK, grant(2, 2)),
        (OK, read(None)),
        (OK, read(Some((1, 2)))),
    ];
    caught(steps, "no order explains Read");
}

#[test]
fn what_is_under_way_at_once_may_happen_in_any_order() {
    let mut history =
        sequence(vec![(OK, grant(1, 1)), (OK, witness(1, 1)), (OK, grant(2, 2)), (OK, witness(2, 3))]);
    // The old owner's witness and the grant to the new one, at once.
    history[1].told_us = history[2].told_us;
    assert_eq!(wrong(&history), Vec::<String>::new());
    let mut history = sequence(vec![(OK, grant(1, 1)), (OK, witness(1, 2)), (OK, witness(1, 1))]);
    history[1].told_us = history[2].told_us;
    assert_eq!(wrong(&history), Vec::<String>::new());
}

#[test]
fn a_grant_without_an_answer_may_have_been_granted_and_others_told_of_it() {
    let learnt = vec![
        (OK, grant(1, 1)),
        (OK, witness(1, 1)),
        (INFO, grant(0, 0)),
        (OK, witness(2, 2)),
        (OK, read(Some((2, 2)))),
        (OK, grant(2, 3)),
        (OK, witness(3, 3)),
    ];
    assert_eq!(in_turn(learnt), Vec::<String>::new());
    let back = vec![(OK, grant(1, 1)), (INFO, grant(0, 0)), (OK, witness(2, 1)), (OK, witness(1, 2))];
    caught(back, "no order explains Witness");
}

#[test]
fn an_epoch_that_nobody_was_granted_is_caught() {
    caught(vec![(OK, grant(1, 1)), (OK, witness(2, 1))], "epoch 2 was used, and nobody was granted it");
}

#[test]
fn who_had_lost_a_bucket_before_gives_nothing_back() {
    let steps =
        vec![(OK, grant(1, 1)), (OK, grant(2, 2)), (OK, LockOp::Release { epoch: 1 }), (OK, witness(2, 1))];
    assert_eq!(in_turn(steps), Vec::<String>::new());
}

#[test]
fn an_epoch_of_two_sessions_is_caught() {
    caught(vec![(OK, grant(1, 1)), (OK, grant(2, 1))], "epoch 1 was granted to sessions 1 and 2");
}

#[test]
fn an_epoch_that_falls_is_caught() {
    caught(vec![(OK, grant(1, 2)), (OK, grant(2, 1))], "under epoch 1 granted, after epoch 2");
}

#[test]
fn a_witness_of_a_deposed_owner_is_caught() {
    caught(
        vec![(OK, grant(1, 1)), (OK, grant(2, 2)), (OK, witness(1, 1))],
        "under epoch 1 a witness was accepted, after epoch 2 was granted",
    );
}

#[test]
fn witnesses_of_two_epochs_that_overlap_are_caught() {
    // Each could be, were it not for the read between: the new owner's was there, then the old owner's.
    let mut history = sequence(vec![
        (OK, grant(1, 1)),
        (OK, witness(1, 5)),
        (OK, grant(2, 2)),
        (OK, read(Some((2, 3)))),
        (OK, witness(2, 3)),
        (OK, read(Some((1, 5)))),
    ]);
    // Everything but the last read is under way at once.
    let end = history[4].told_us;
    for entry in &mut history[1..5] {
        entry.told_us = end;
    }
    for entry in &mut history[1..5] {
        entry.begun_us = 20;
    }
    let wrong = wrong(&history);
    assert_eq!(wrong.len(), 1, "{wrong:?}");
    assert!(wrong[0].contains("no order explains"), "{wrong:?}");
}

#[test]
fn a_witness_after_its_owner_released_is_caught() {
    caught(
        vec![(OK, grant(1, 1)), (OK, LockOp::Release { epoch: 1 }), (OK, witness(1, 1))],
        "no order explains Witness",
    );
}

#[test]
fn a_counter_that_goes_back_is_caught() {
    caught(vec![(OK, grant(1, 1)), (OK, witness(1, 2)), (OK, witness(1, 1))], "no order explains Witness");
    let lost = vec![(OK, grant(1, 1)), (OK, witness(1, 2)), (OK, read(None))];
    caught(lost, "counter 2 was known, and then 0 read");
}

#[test]
fn a_value_that_nobody_witnessed_is_caught() {
    let other = LockOp::Read { subkey: 0, found: Some(Witness { epoch: 1, counter: 2, value: 9 }) };
    caught(vec![(OK, grant(1, 1)), (OK, witness(1, 2)), (OK, other)], "no order explains Read");
    let refused = vec![(OK, grant(1, 1)), (FAIL, witness(1, 2)), (OK, read(Some((1, 2))))];
    caught(refused, "no order explains Read");
}

#[test]
fn buckets_are_not_mixed_up() {
    let mut history = sequence(vec![(OK, grant(1, 2)), (OK, grant(2, 1))]);
    history[1].account = 6;
    assert_eq!(wrong(&history), Vec::<String>::new());
}

#[test]
fn a_long_history_with_many_unknowns_is_decided_quickly() {
    let mut steps = Vec::new();
    let mut last = None;
    for epoch in 1..=200 {
        steps.push((OK, grant(epoch % 3, epoch)));
        for round in 1..=10 {
            let counter = epoch * 100 + round;
            let outcome = if round % 3 == 0 { INFO } else { OK };
            steps.push((outcome, witness(epoch, counter)));
            if outcome == OK {
                last = Some((epoch, counter));
            }
            if round % 3 == 1 {
                steps.push((OK, read(last)));
            }
        }
    }
    let mut history = sequence(steps);
    // Always three under way at once.
    for entry in &mut history {
        entry.begun_us = entry.begun_us.saturating_sub(20).max(1);
    }
    let begun = std::time::Instant::now();
    assert_eq!(wrong(&history), Vec::<String>::new());
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
}
