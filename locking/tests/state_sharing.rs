//! J1 where buckets are kept by groups of their own: whatever order these are told of sessions in, however late and
//! often, a session that is over is granted nothing and witnesses nothing once another has its bucket.

use std::collections::{BTreeMap, BTreeSet};

use locking::command::*;
use locking::state::*;
use model::Epoch;
use proptest::prelude::*;

const GROUPS: u16 = 2;
const SUBKEY: Subkey = [1; 16];

#[derive(Clone, Copy, Debug)]
enum Step {
    Open(u8),
    Expire(u8),
    /// What the first group knows now is sent to a group.
    Send(u16),
    /// Something that was sent arrives, perhaps not for the first time.
    Arrive(usize),
    Grant(u8, u16),
    /// Under any epoch that was ever granted.
    Witness(usize),
}

struct World {
    first: State,
    groups: [State; GROUPS as usize],
    index: u64,
    sent: Vec<Mirror>,
    newest: BTreeMap<u8, SessionId>,
    /// Of each grant: whose, of what, under which epoch; in order.
    grants: Vec<(SessionId, Bucket, Epoch)>,
    /// Sessions that a group was told are over, with that group.
    over: BTreeSet<(u16, SessionId)>,
}

impl World {
    fn new() -> Self {
        let states = [State::default(), State::default()];
        let mut world = Self {
            first: State::default(),
            groups: states,
            index: 0,
            sent: Vec::new(),
            newest: BTreeMap::new(),
            grants: Vec::new(),
            over: BTreeSet::new(),
        };
        world.tell(Command::FoundGroups { site: 1, incarnation: 1, groups: GROUPS });
        world
    }

    fn request(&mut self, command: Command) -> (u64, Request) {
        self.index += 1;
        (self.index, Request { id: RequestId { client: 1, seq: self.index }, command })
    }

    fn tell(&mut self, command: Command) -> Answer {
        let (index, request) = self.request(command);
        self.first.apply(index, &request, &mut Touched::default())
    }

    fn tell_group(&mut self, group: u16, command: Command) -> Answer {
        let (index, request) = self.request(command);
        self.groups[usize::from(group - 1)].apply(index, &request, &mut Touched::default())
    }

    fn mirror(&self, group: u16) -> Mirror {
        let sessions = self.first.live_sessions().map(|(id, session)| (id, session.node)).collect();
        Mirror {
            at: self.index,
            site: 1,
            incarnation: 1,
            group,
            groups: GROUPS,
            sessions,
            draining: Vec::new(),
        }
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Open(node) => {
                let open = Command::SessionOpen { node: NodeId(node), replaces_older: true };
                let Answer::Opened(session) = self.tell(open) else { panic!("not opened") };
                self.newest.insert(node, session);
            }
            Step::Expire(node) => {
                let Some(session) = self.newest.get(&node).copied() else { return };
                self.tell(Command::SessionExpire { session });
            }
            Step::Send(group) => self.sent.push(self.mirror(group)),
            Step::Arrive(place) => self.arrive(place),
            Step::Grant(node, bucket) => self.grant(node, bucket),
            Step::Witness(place) => self.witness(place),
        }
    }

    fn arrive(&mut self, place: usize) {
        let Some(mirror) = self.sent.get(place % self.sent.len().max(1)).cloned() else { return };
        let group = mirror.group;
        let live = |state: &State| state.live_sessions().map(|(id, _)| id).collect::<BTreeSet<_>>();
        let before = live(&self.groups[usize::from(group - 1)]);
        assert_eq!(self.tell_group(group, Command::Mirror(Box::new(mirror))), Answer::Done);
        let after = live(&self.groups[usize::from(group - 1)]);
        self.over.extend(before.difference(&after).map(|session| (group, *session)));
        let revived = after.iter().find(|session| self.over.contains(&(group, **session)));
        assert_eq!(revived, None, "a session that is over is not live again (L-LE2)");
    }

    fn grant(&mut self, node: u8, bucket: Bucket) {
        let Some(session) = self.newest.get(&node).copied() else { return };
        let group = bucket % GROUPS + 1;
        let wanted = Wanted::These(vec![bucket]);
        let Answer::Granted(runs) = self.tell_group(group, Command::Grant { session, wanted }) else {
            return;
        };
        let Some(run) = runs.first() else { return };
        assert!(!self.over.contains(&(group, session)), "nothing is granted to a session that is over");
        let last = self.grants.iter().rev().find(|(_, of, _)| *of == bucket);
        if let Some((whose, _, epoch)) = last
            && (*whose, *epoch) != (session, run.epoch)
        {
            assert!(run.epoch > *epoch, "epochs rise with every grant (J1)");
        }
        self.grants.push((session, bucket, run.epoch));
    }

    fn witness(&mut self, place: usize) {
        let Some((session, bucket, epoch)) = self.grants.get(place % self.grants.len().max(1)).copied()
        else {
            return;
        };
        let value = Value::new(b"v").expect("short");
        let records = vec![Record { bucket, epoch, subkey: SUBKEY, value, counter: 1 }];
        let answer = self.tell_group(bucket % GROUPS + 1, Command::Witness { records });
        let Answer::Witnessed { refused } = answer else { panic!("{answer:?}") };
        let newest = self.grants.iter().rev().find(|(_, of, _)| *of == bucket).copied();
        if refused.is_empty() {
            assert_eq!(newest, Some((session, bucket, epoch)), "only the newest owner witnesses (J1, L-SM2)");
            assert!(!self.over.contains(&(bucket % GROUPS + 1, session)));
        }
    }
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0u8..3).prop_map(Step::Open),
        1 => (0u8..3).prop_map(Step::Expire),
        2 => (1..=GROUPS).prop_map(Step::Send),
        4 => (0usize..12).prop_map(Step::Arrive),
        4 => (0u8..3, 0u16..4).prop_map(|(node, bucket)| Step::Grant(node, bucket)),
        4 => (0usize..24).prop_map(Step::Witness),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn a_session_that_is_over_neither_is_granted_nor_witnesses_whatever_order_groups_hear_of_it_in(
        steps in prop::collection::vec(any_step(), 1..120)
    ) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        prop_assert!(world.groups.iter().all(State::is_sound));
    }
}

#[test]
fn a_group_that_has_not_heard_of_a_session_grants_it_nothing_and_late_words_change_nothing() {
    let mut world = World::new();
    world.step(Step::Open(1));
    let session = world.newest[&1];
    let grant = || Command::Grant { session, wanted: Wanted::These(vec![0]) };
    assert_eq!(world.tell_group(1, grant()), Answer::Refused(Refusal::NotFounded));
    let early = world.mirror(1);
    world.tell_group(1, Command::Mirror(Box::new(early.clone())));
    assert!(matches!(world.tell_group(1, grant()), Answer::Granted(runs) if runs.len() == 1));
    world.step(Step::Expire(1));
    let late = world.mirror(1);
    world.tell_group(1, Command::Mirror(Box::new(late)));
    assert_eq!(world.tell_group(1, Command::Mirror(Box::new(early))), Answer::Done, "heard, and too old");
    assert_eq!(world.tell_group(1, grant()), Answer::Refused(Refusal::NoSession));
}

#[test]
fn groups_keep_to_their_own_business() {
    let mut world = World::new();
    world.step(Step::Open(1));
    let session = world.newest[&1];
    let all = || Command::Grant { session, wanted: Wanted::AllFree };
    assert_eq!(world.tell(all()), Answer::Granted(Vec::new()), "the first group keeps no buckets");
    for group in 1..=GROUPS {
        let mirror = world.mirror(group);
        world.tell_group(group, Command::Mirror(Box::new(mirror)));
        let Answer::Granted(runs) = world.tell_group(group, all()) else { panic!("not granted") };
        assert_eq!(runs.len(), BUCKETS / usize::from(GROUPS));
        assert!(runs.iter().all(|run| run.first == run.last && run.first % GROUPS == group - 1));
        let open = Command::SessionOpen { node: NodeId(2), replaces_older: true };
        assert_eq!(world.tell_group(group, open), Answer::Refused(Refusal::OtherGroup));
    }
    let strangers = [
        (Mirror { group: 2, ..world.mirror(1) }, Refusal::OtherGroup),
        (Mirror { groups: 3, ..world.mirror(1) }, Refusal::OtherGroup),
        (Mirror { site: 2, ..world.mirror(1) }, Refusal::FoundedOtherwise),
        (world.mirror(0), Refusal::OtherGroup),
    ];
    for (mirror, refusal) in strangers {
        let answer = world.tell_group(1, Command::Mirror(Box::new(mirror)));
        assert_eq!(answer, Answer::Refused(refusal));
    }
    let mirror = world.mirror(1);
    assert_eq!(world.tell(Command::Mirror(Box::new(mirror))), Answer::Refused(Refusal::OtherGroup));
}
