//! The rules of the replicated state machine, one by one.

use locking::command::*;
use locking::marks::Marks;
use locking::state::*;
use model::Epoch;

/// A service that is fed one request after the other.
struct Service {
    state: State,
    index: u64,
}

impl Service {
    fn new() -> Self {
        Self { state: State::default(), index: 0 }
    }

    fn founded(incarnation: u32) -> Self {
        let mut service = Self::new();
        assert_eq!(service.ask(Command::Found { site: 1, incarnation }), Answer::Done);
        service
    }

    fn send(&mut self, id: RequestId, command: Command) -> Answer {
        self.index += 1;
        let answer = self.state.apply(self.index, &Request { id, command }, &mut Touched::default());
        assert!(self.state.is_sound());
        answer
    }

    fn ask(&mut self, command: Command) -> Answer {
        let id = RequestId { client: 1, seq: self.index + 1 };
        self.send(id, command)
    }

    fn open(&mut self, node: u8) -> SessionId {
        let answer = self.ask(Command::SessionOpen { node: NodeId(node), replaces_older: false });
        let Answer::Opened(session) = answer else { panic!("{answer:?}") };
        session
    }

    fn grant(&mut self, session: SessionId, bucket: Bucket) -> Option<Epoch> {
        let answer = self.ask(grant_of(session, bucket));
        let Answer::Granted(runs) = answer else { panic!("{answer:?}") };
        runs.first().map(|run| run.epoch)
    }

    fn witness(&mut self, bucket: Bucket, epoch: Epoch, counter: u64) -> Result<(), Refusal> {
        let answer = self.ask(Command::Witness { records: vec![record(bucket, epoch, counter)] });
        let Answer::Witnessed { refused } = answer else { panic!("{answer:?}") };
        refused.first().map_or(Ok(()), |(_, refusal)| Err(*refusal))
    }
}

fn record(bucket: Bucket, epoch: Epoch, counter: u64) -> Record {
    let value = Value::new(&counter.to_le_bytes()).expect("short");
    Record { bucket, epoch, subkey: [7; 16], value, counter }
}

#[test]
fn nothing_is_granted_before_the_service_is_founded_and_it_is_founded_once() {
    let mut service = Service::new();
    let open = Command::SessionOpen { node: NodeId(1), replaces_older: false };
    assert_eq!(service.ask(open), Answer::Refused(Refusal::NotFounded));
    assert_eq!(service.ask(Command::Found { site: 1, incarnation: 3 }), Answer::Done);
    assert_eq!(service.ask(Command::Found { site: 1, incarnation: 3 }), Answer::Done);
    let other = Command::Found { site: 1, incarnation: 4 };
    assert_eq!(service.ask(other), Answer::Refused(Refusal::FoundedOtherwise));
}

#[test]
fn a_bucket_goes_to_nobody_else_while_its_session_is_live() {
    // (L-SM1)
    let mut service = Service::founded(5);
    let (one, two) = (service.open(1), service.open(2));
    assert_eq!(service.grant(one, 9), Some(Epoch::new(5, 1)));
    assert_eq!(service.grant(two, 9), None);
    assert_eq!(service.grant(one, 9), Some(Epoch::new(5, 1)), "what it holds is answered as it is");
    service.ask(Command::SessionExpire { session: one });
    assert_eq!(service.grant(two, 9), Some(Epoch::new(5, 2)));
    assert_eq!(service.ask(grant_of(one, 9)), Answer::Refused(Refusal::NoSession));
}

fn grant_of(session: SessionId, bucket: Bucket) -> Command {
    Command::Grant { session, wanted: Wanted::These(vec![bucket]) }
}

#[test]
fn every_grant_has_a_higher_epoch_even_to_the_same_node() {
    // (L-SM1, J1)
    let mut service = Service::founded(1);
    let mut epochs = Vec::new();
    for _ in 0..3 {
        let session = service.open(1);
        epochs.extend(service.grant(session, 0));
        service.ask(Command::SessionClose { session });
    }
    let session = service.open(1);
    for _ in 0..2 {
        let epoch = service.grant(session, 0).expect("free");
        epochs.push(epoch);
        assert_eq!(service.ask(Command::Release { bucket: 0, epoch }), Answer::Done);
    }
    assert_eq!(epochs, (1..=5).map(|counter| Epoch::new(1, counter)).collect::<Vec<_>>());
}

#[test]
fn a_deposed_owner_is_refused_its_witness() {
    // (L-SM2, locking.md §12.1: the paused writer)
    let mut service = Service::founded(1);
    let paused = service.open(1);
    let old = service.grant(paused, 3).expect("free");
    assert_eq!(service.witness(3, old, 4096), Ok(()));
    service.ask(Command::SessionExpire { session: paused });
    assert_eq!(service.witness(3, old, 4200), Err(Refusal::StaleEpoch), "expired, though nobody has it yet");
    let other = service.open(2);
    let new = service.grant(other, 3).expect("its owner is gone");
    // (L-SM3): what the grant found is final.
    assert_eq!(service.state.witness(3, &[7; 16]).expect("witnessed").counter, 4096);
    assert_eq!(service.witness(3, old, 4200), Err(Refusal::StaleEpoch));
    assert_eq!(service.witness(3, new, 4097), Ok(()));
    assert_eq!(service.state.witness(3, &[7; 16]).expect("witnessed").epoch, new);
}

#[test]
fn an_epoch_that_was_never_granted_witnesses_nothing() {
    let mut service = Service::founded(1);
    let session = service.open(1);
    assert_eq!(
        service.witness(3, Epoch::new(0, 0), 1),
        Err(Refusal::StaleEpoch),
        "a free bucket's own epoch"
    );
    let epoch = service.grant(session, 3).expect("free");
    assert_eq!(service.witness(4, epoch, 1), Err(Refusal::StaleEpoch), "of another bucket");
    assert_eq!(service.witness(3, epoch.next().expect("low"), 1), Err(Refusal::StaleEpoch));
    service.ask(Command::Release { bucket: 3, epoch });
    assert_eq!(service.witness(3, epoch, 1), Err(Refusal::StaleEpoch), "released");
}

#[test]
fn counters_never_go_backwards_whoever_owns_the_bucket() {
    // (L-SM2, J3)
    let mut service = Service::founded(1);
    let session = service.open(1);
    let epoch = service.grant(session, 3).expect("free");
    assert_eq!(service.witness(3, epoch, 10), Ok(()));
    assert_eq!(service.witness(3, epoch, 9), Err(Refusal::Backwards));
    service.ask(Command::Release { bucket: 3, epoch });
    let epoch = service.grant(session, 3).expect("free");
    assert_eq!(service.witness(3, epoch, 9), Err(Refusal::Backwards));
    assert_eq!(service.witness(3, epoch, 11), Ok(()));
}

#[test]
fn the_same_witness_is_accepted_again() {
    // (L-CM3): a lost answer is asked for again.
    let mut service = Service::founded(1);
    let session = service.open(1);
    let epoch = service.grant(session, 3).expect("free");
    assert_eq!(service.witness(3, epoch, 10), Ok(()));
    let before = service.state.witness(3, &[7; 16]);
    assert_eq!(service.witness(3, epoch, 10), Ok(()));
    assert_eq!(service.state.witness(3, &[7; 16]), before);
}

#[test]
fn each_record_of_a_batch_has_its_own_result() {
    // (L-SM2)
    let mut service = Service::founded(1);
    let session = service.open(1);
    let epoch = service.grant(session, 3).expect("free");
    let stale = Epoch::new(1, 99);
    let records = vec![
        record(3, epoch, 5),
        record(3, stale, 6),
        record(3, epoch, 4),
        record(3, epoch, 7),
        record(8, epoch, 1),
    ];
    let refused = vec![(1, Refusal::StaleEpoch), (2, Refusal::Backwards), (4, Refusal::StaleEpoch)];
    assert_eq!(service.ask(Command::Witness { records }), Answer::Witnessed { refused });
    assert_eq!(service.state.witness(3, &[7; 16]).expect("witnessed").counter, 7);
    assert_eq!(service.state.witness_count(), 1);
}

#[test]
fn a_request_that_comes_again_is_answered_as_before_and_changes_nothing() {
    let mut service = Service::founded(1);
    let id = RequestId { client: 77, seq: 1 };
    let open = Command::SessionOpen { node: NodeId(1), replaces_older: false };
    let first = service.send(id, open.clone());
    assert_eq!(service.send(id, open), first, "not a second session");
    assert_eq!(service.state.sessions.len(), 1);

    let Answer::Opened(session) = first else { panic!("{first:?}") };
    let epoch = service.grant(session, 3).expect("free");
    let early = Command::Witness { records: vec![record(3, epoch, 1)] };
    let accepted = service.send(RequestId { client: 77, seq: 2 }, early.clone());
    assert_eq!(service.witness(3, epoch, 2), Ok(()));
    assert_eq!(
        service.send(RequestId { client: 77, seq: 2 }, early),
        accepted,
        "it was accepted when it came"
    );
    assert_eq!(service.state.witness(3, &[7; 16]).expect("witnessed").counter, 2);
}

#[test]
fn a_request_older_than_the_memory_is_not_carried_out() {
    let mut service = Service::founded(1);
    let session = service.open(1);
    let epoch = service.grant(session, 3).expect("free");
    for seq in 1..=ANSWERS_MAX as u64 + 1 {
        service.send(RequestId { client: 77, seq }, Command::Drain { bucket: 3, epoch, to: None });
    }
    let late = service.send(RequestId { client: 77, seq: 1 }, Command::Release { bucket: 3, epoch });
    assert_eq!(late, Answer::Refused(Refusal::TooOld));
    assert_eq!(service.state.bucket(3).holder, Holder::Owned(session));
}

#[test]
fn memory_of_clients_and_sessions_is_bounded() {
    let mut service = Service::founded(1);
    for client in 0..2 * CLIENTS_MAX as u64 {
        let open = Command::SessionOpen { node: NodeId(1), replaces_older: true };
        let Answer::Opened(session) = service.send(RequestId { client: 1000 + client, seq: 1 }, open) else {
            panic!("not opened")
        };
        service.grant(session, 3);
    }
    assert!(service.state.clients.len() <= CLIENTS_MAX);
    assert_eq!(service.state.sessions.len(), 1, "those before it lost their last bucket");
}

#[test]
fn a_restarted_node_has_its_buckets_back_at_once_under_higher_epochs() {
    // (L-LE4, L-LE3)
    let mut service = Service::founded(1);
    let killed = service.open(1);
    let neighbour = service.open(2);
    assert_eq!(service.grant(neighbour, 4), Some(Epoch::new(1, 1)));
    assert_eq!(service.grant(killed, 3), Some(Epoch::new(1, 1)));
    let open = Command::SessionOpen { node: NodeId(1), replaces_older: true };
    let Answer::Opened(session) = service.ask(open) else { panic!("not opened") };
    let Answer::Granted(runs) = service.ask(Command::Grant { session, wanted: Wanted::AllFree }) else {
        panic!("not granted")
    };
    assert_eq!(
        runs,
        [
            Run { first: 0, last: 2, epoch: Epoch::new(1, 1) },
            Run { first: 3, last: 3, epoch: Epoch::new(1, 2) },
            Run { first: 5, last: u16::MAX, epoch: Epoch::new(1, 1) },
        ],
        "all but the neighbour's"
    );
}

#[test]
fn a_draining_owner_keeps_witnessing_until_it_releases() {
    // (§7.1)
    let mut service = Service::founded(1);
    let (one, two) = (service.open(1), service.open(2));
    let epoch = service.grant(one, 3).expect("free");
    assert_eq!(service.ask(Command::Drain { bucket: 3, epoch, to: Some(NodeId(2)) }), Answer::Done);
    assert_eq!(service.state.bucket(3).holder, Holder::Draining(one, NodeId(2)));
    assert_eq!(service.witness(3, epoch, 1), Ok(()));
    assert_eq!(service.grant(two, 3), None);
    assert_eq!(service.ask(Command::Release { bucket: 3, epoch }), Answer::Done);
    assert_eq!(service.ask(Command::Release { bucket: 3, epoch }), Answer::Done, "once is as good as twice");
    assert!(service.grant(two, 3).expect("free") > epoch);
    assert_eq!(service.ask(Command::Release { bucket: 3, epoch }), Answer::Refused(Refusal::StaleEpoch));
}

#[test]
fn only_the_owner_has_an_account_forgotten() {
    let mut service = Service::founded(1);
    let session = service.open(1);
    let epoch = service.grant(session, 3).expect("free");
    assert_eq!(service.witness(3, epoch, 1), Ok(()));
    let stale = Command::Forget { bucket: 3, epoch: Epoch::new(1, 9), subkey: [7; 16] };
    assert_eq!(service.ask(stale), Answer::Refused(Refusal::StaleEpoch));
    assert_eq!(service.ask(Command::Forget { bucket: 3, epoch, subkey: [7; 16] }), Answer::Done);
    assert_eq!(service.state.witness(3, &[7; 16]), None);
}

#[test]
fn a_value_that_is_too_long_is_no_value() {
    assert!(Value::new(&[0; VALUE_BYTES_MAX]).is_some());
    assert!(Value::new(&[0; VALUE_BYTES_MAX + 1]).is_none());
    let mut service = Service::founded(1);
    let records = vec![record(0, Epoch::new(1, 1), 1); RECORDS_MAX + 1];
    assert_eq!(service.ask(Command::Witness { records }), Answer::Refused(Refusal::TooMany));
}

#[test]
fn a_copy_taken_before_a_request_does_not_change_with_it() {
    let mut service = Service::founded(1);
    let session = service.open(1);
    let epoch = service.grant(session, 3).expect("free");
    assert_eq!(service.witness(3, epoch, 1), Ok(()));
    let frozen = service.state.clone();
    assert_eq!(service.witness(3, epoch, 2), Ok(()));
    assert_eq!(frozen.witness(3, &[7; 16]).expect("witnessed").counter, 1);
}

#[test]
fn a_node_is_known_by_the_disk_that_was_named_first() {
    // (L-RS2, A-5)
    let mut service = Service::founded(1);
    let member = |service: &Service| service.state.members[&NodeId(3)];
    service.ask(Command::Bind { node: NodeId(3), store: 30 });
    service.ask(Command::Bind { node: NodeId(3), store: 31 });
    assert_eq!(member(&service), Member { store: 30, instance: 0, removed: false });
    service.ask(Command::Enlist { node: NodeId(3), store: 31 });
    assert_eq!(member(&service).store, 30, "not beside one that was not removed");

    service.ask(Command::Retire { node: NodeId(3) });
    service.ask(Command::Enlist { node: NodeId(3), store: 30 });
    service.ask(Command::Bind { node: NodeId(3), store: 30 });
    assert!(member(&service).removed, "what was removed stays out");
    service.ask(Command::Enlist { node: NodeId(3), store: 31 });
    let first = member(&service);
    assert_eq!((first.store, first.instance, first.removed), (31, service.index, false));
    service.ask(Command::Enlist { node: NodeId(3), store: 31 });
    assert_eq!(member(&service), first, "asked for twice, let in once");

    service.ask(Command::Retire { node: NodeId(3) });
    service.ask(Command::Enlist { node: NodeId(3), store: 32 });
    assert!(member(&service).instance > first.instance, "an instance is never used twice");
}

fn drain(bucket: Bucket, epoch: Epoch, to: u8) -> Command {
    Command::Drain { bucket, epoch, to: Some(NodeId(to)) }
}

#[test]
fn a_bucket_that_is_handed_over_is_at_no_time_nobodys() {
    // (§7.1, L-SM1)
    let mut service = Service::founded(1);
    let (one, two) = (service.open(1), service.open(2));
    let epoch = service.grant(one, 3).expect("free");
    assert_eq!(service.witness(3, epoch, 10), Ok(()));
    let give = Command::HandOver { bucket: 3, epoch };
    assert_eq!(service.ask(give.clone()), Answer::Refused(Refusal::NotDraining), "nobody asked for it");
    service.ask(drain(3, epoch, 2));
    service.ask(Command::Drain { bucket: 3, epoch, to: None });
    assert_eq!(service.ask(give.clone()), Answer::Refused(Refusal::NotDraining), "the wish was taken back");
    assert_eq!(service.witness(3, epoch, 11), Ok(()), "it stays");

    service.ask(drain(3, epoch, 2));
    let id = RequestId { client: 77, seq: 1 };
    assert_eq!(service.send(id, give.clone()), Answer::Done);
    let given = service.state.bucket(3);
    assert_eq!(given.holder, Holder::Owned(two));
    assert!(given.epoch > epoch);
    assert_eq!(service.witness(3, epoch, 12), Err(Refusal::StaleEpoch));
    assert_eq!(service.witness(3, given.epoch, 12), Ok(()));
    assert_eq!(service.send(id, give.clone()), Answer::Done, "its answer was lost");
    assert_eq!(service.ask(give), Answer::Refused(Refusal::StaleEpoch), "it is another's now");
    assert_eq!(service.state.bucket(3), given);
}

#[test]
fn a_bucket_for_a_node_that_is_gone_is_anybodys() {
    let mut service = Service::founded(1);
    let (one, two, three) = (service.open(1), service.open(2), service.open(3));
    let handed = service.grant(one, 3).expect("free");
    service.ask(drain(3, handed, 2));
    let released = service.grant(one, 4).expect("free");
    service.ask(drain(4, released, 2));
    let orphaned = service.grant(one, 5).expect("free");
    service.ask(drain(5, orphaned, 2));
    service.ask(Command::SessionExpire { session: two });
    assert_eq!(service.ask(Command::HandOver { bucket: 3, epoch: handed }), Answer::Done);
    assert_eq!(service.state.bucket(3).holder, Holder::Free);
    service.ask(Command::Release { bucket: 4, epoch: released });
    service.ask(Command::SessionExpire { session: one });
    for (bucket, epoch) in [(3, handed), (4, released), (5, orphaned)] {
        assert!(service.grant(three, bucket).expect("anybody's") > epoch, "bucket {bucket}");
    }
}

#[test]
fn an_owner_gives_many_buckets_away_in_one_step_and_only_its_own() {
    // (§7.1, L-SM1, L-SM2)
    let mut service = Service::founded(1);
    let (one, two, three) = (service.open(1), service.open(2), service.open(3));
    let granted: Vec<Epoch> = (3..=6).map(|bucket| service.grant(one, bucket).expect("free")).collect();
    let first = granted[0];
    let (others, theirs) = (service.grant(three, 7).expect("free"), service.grant(two, 8).expect("free"));
    service.ask(drain(6, first, 3));
    let stale = first.next().expect("low");
    let buckets =
        vec![(3, first), (4, first), (5, stale), (6, first), (7, others.next().expect("low")), (8, first)];
    let give = Command::GiveAway { buckets: buckets.clone(), to: NodeId(2) };
    let higher = first.next().expect("low");
    let runs = vec![Run { first: 3, last: 4, epoch: higher }, Run { first: 8, last: 8, epoch: theirs }];
    assert_eq!(service.ask(give.clone()), Answer::Granted(runs.clone()));
    assert_eq!(service.ask(give), Answer::Granted(runs), "its answer was lost");
    let holder = |service: &Service, bucket| service.state.bucket(bucket).holder;
    assert_eq!([3, 4, 8].map(|bucket| holder(&service, bucket)), [Holder::Owned(two); 3]);
    assert_eq!(holder(&service, 5), Holder::Owned(one), "of an epoch that is not its own");
    assert_eq!(holder(&service, 6), Holder::Draining(one, NodeId(3)), "it was asked for by another");
    assert_eq!(holder(&service, 7), Holder::Owned(three));
    assert_eq!(service.witness(3, first, 1), Err(Refusal::StaleEpoch));
    assert_eq!(service.witness(3, higher, 1), Ok(()));
    assert_eq!(service.witness(5, first, 1), Ok(()));

    let again = Command::GiveAway { buckets: vec![(5, first)], to: NodeId(2) };
    service.ask(Command::SetDraining { node: NodeId(2), draining: true });
    assert_eq!(service.ask(again.clone()), Answer::Refused(Refusal::NodeDraining));
    service.ask(Command::SetDraining { node: NodeId(2), draining: false });
    service.ask(Command::SessionExpire { session: two });
    assert_eq!(service.ask(again), Answer::Refused(Refusal::NoSession));
    assert_eq!(service.witness(5, first, 2), Ok(()), "what could not be given stays");
    service.ask(Command::SessionExpire { session: one });
    let dead = Command::GiveAway { buckets: vec![(5, first)], to: NodeId(3) };
    assert_eq!(service.ask(dead), Answer::Granted(Vec::new()), "only by a live owner");
}

#[test]
fn only_the_live_owner_hands_a_bucket_over() {
    // (L-SM2)
    let mut service = Service::founded(1);
    let (one, _two) = (service.open(1), service.open(2));
    let epoch = service.grant(one, 3).expect("free");
    service.ask(drain(3, epoch, 2));
    let other = Command::HandOver { bucket: 3, epoch: epoch.next().expect("low") };
    assert_eq!(service.ask(other), Answer::Refused(Refusal::StaleEpoch));
    service.ask(Command::SessionExpire { session: one });
    assert_eq!(service.ask(Command::HandOver { bucket: 3, epoch }), Answer::Refused(Refusal::StaleEpoch));
}

#[test]
fn buckets_are_assigned_to_a_live_node_unless_a_live_session_holds_them() {
    let mut service = Service::founded(1);
    let (one, two, three) = (service.open(1), service.open(2), service.open(3));
    let held = service.grant(one, 3).expect("free");
    let mine = service.grant(two, 4).expect("free");
    let lost = service.grant(three, 5).expect("free");
    service.ask(Command::SessionExpire { session: three });
    let assign = Command::Assign { buckets: vec![6, 5, 4, 3, 3], to: NodeId(2) };
    let higher = lost.next().expect("low");
    let runs = vec![
        Run { first: 4, last: 4, epoch: mine },
        Run { first: 5, last: 5, epoch: higher },
        Run { first: 6, last: 6, epoch: Epoch::new(1, 1) },
    ];
    assert_eq!(service.ask(assign.clone()), Answer::Granted(runs.clone()));
    assert_eq!(service.ask(assign), Answer::Granted(runs), "asked for twice, given once");
    assert_eq!(service.state.bucket(3).epoch, held);
    let gone = Command::Assign { buckets: vec![9], to: NodeId(3) };
    assert_eq!(service.ask(gone), Answer::Refused(Refusal::NoSession));
}

#[test]
fn a_node_that_is_emptied_is_given_nothing_while_another_could_have_it() {
    let mut service = Service::founded(1);
    let (one, two) = (service.open(1), service.open(2));
    let epoch = service.grant(one, 3).expect("free");
    service.ask(Command::SetDraining { node: NodeId(1), draining: true });
    assert_eq!(service.grant(one, 3), Some(epoch), "what it holds it holds until it hands it over");
    assert_eq!(service.witness(3, epoch, 1), Ok(()));
    assert_eq!(service.grant(one, 4), None);
    let all = service.ask(Command::Grant { session: one, wanted: Wanted::AllFree });
    assert_eq!(all, Answer::Granted(vec![Run { first: 3, last: 3, epoch }]));
    let assign = Command::Assign { buckets: vec![4], to: NodeId(1) };
    assert_eq!(service.ask(assign), Answer::Refused(Refusal::NodeDraining));
    let other = service.grant(two, 5).expect("free");
    service.ask(drain(5, other, 1));
    service.ask(Command::HandOver { bucket: 5, epoch: other });
    assert_eq!(service.state.bucket(5).holder, Holder::Free, "not to a node that is emptied either");

    service.ask(Command::SetDraining { node: NodeId(2), draining: true });
    assert!(service.grant(one, 4).is_some(), "all are emptied: somebody must serve");
    service.ask(Command::SetDraining { node: NodeId(2), draining: false });
    service.ask(Command::SessionExpire { session: two });
    assert!(service.grant(one, 6).is_some(), "nobody else lives");
    service.open(2);
    assert_eq!(service.grant(one, 7), None);
    service.ask(Command::SetDraining { node: NodeId(1), draining: false });
    assert!(service.grant(one, 7).is_some());
}

#[test]
fn a_node_that_leaves_the_site_is_not_being_emptied_when_it_comes_back() {
    let mut service = Service::founded(1);
    service.ask(Command::Bind { node: NodeId(3), store: 30 });
    service.ask(Command::SetDraining { node: NodeId(3), draining: true });
    service.ask(Command::Retire { node: NodeId(3) });
    assert!(service.state.draining.is_empty());
}

#[test]
fn the_site_remembers_the_last_mark_of_a_store_and_knows_an_older_copy_by_it() {
    // (L-RS2)
    let mut service = Service::founded(1);
    let node = NodeId(3);
    let tell = |service: &mut Service, store, marks: &Marks| {
        service.ask(Command::Mark { node, store, marks: marks.clone() })
    };
    let refused = Answer::Refused(Refusal::OtherLife);
    let first = Marks::default().with(11);
    assert_eq!(tell(&mut service, 30, &first), refused, "it is no member");
    service.ask(Command::Bind { node, store: 30 });
    assert_eq!(tell(&mut service, 31, &first), refused, "it is another store");
    assert_eq!(tell(&mut service, 30, &first), Answer::Done);
    assert_eq!(tell(&mut service, 30, &first), Answer::Done, "told twice");
    let (one, other) = (first.with(12), first.with(13));
    assert_eq!(tell(&mut service, 30, &one), Answer::Done);
    assert_eq!(tell(&mut service, 30, &first), refused, "put back");
    assert_eq!(tell(&mut service, 30, &other), refused, "the second of two copies");
    assert_eq!(tell(&mut service, 30, &other.with(14)), refused, "and later, too");
    assert_eq!(service.state.marks[&node], one.last().expect("one"));

    service.ask(Command::Retire { node });
    assert_eq!(tell(&mut service, 30, &one.with(15)), refused, "it was removed");
    service.ask(Command::Enlist { node, store: 31 });
    assert_eq!(tell(&mut service, 31, &Marks::default().with(16)), Answer::Done, "a new store begins anew");
}
