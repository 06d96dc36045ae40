//! A site that is played: nodes crash, come, are emptied; owners are slow, refuse, and take their time.

use std::collections::BTreeMap;
use std::time::Duration;

use locking::{Bucket, NodeId, Placed};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::plan::{ASSIGN_MAX, Act, Balancer, EXCESS_MIN, Member, PAIR_MAX, SITE_MAX, share_out};

const TURN: Duration = Duration::from_millis(100);
const BUCKETS: usize = 512;

/// What an owner does with the wish to hand a bucket over.
#[derive(Clone, Copy)]
enum Manners {
    /// Within so many turns.
    HandsOver(u32),
    /// Nothing comes of it until it is taken back.
    Hangs,
}

struct World {
    random: StdRng,
    now: Duration,
    map: Vec<Placed>,
    members: BTreeMap<NodeId, Member>,
    balancer: Balancer,
    /// When and between whom hand-overs began.
    begun: Vec<(Duration, NodeId, NodeId)>,
    /// Those under way, and what comes of them when.
    handing: BTreeMap<Bucket, (NodeId, Duration, Manners)>,
    /// One of so many hand-overs hangs; 0: none.
    hangs_one_in: u32,
}

impl World {
    fn new(seed: u64, nodes: u8) -> Self {
        let member = |id| (NodeId(id), Member { node: NodeId(id), live: true, draining: false });
        Self {
            random: StdRng::seed_from_u64(seed),
            now: Duration::ZERO,
            map: vec![Placed::Free; BUCKETS],
            members: (1..=nodes).map(member).collect(),
            balancer: Balancer::new(BUCKETS),
            begun: Vec::new(),
            handing: BTreeMap::new(),
            hangs_one_in: 0,
        }
    }

    fn may_own(&self, node: NodeId) -> bool {
        let eligible = |member: &Member| member.live && !member.draining;
        let any = self.members.values().any(eligible);
        self.members.get(&node).is_some_and(|member| if any { eligible(member) } else { member.live })
    }

    fn turn(&mut self) -> usize {
        let members: Vec<Member> = self.members.values().copied().collect();
        let acts = self.balancer.plan(self.now, &self.map, &members);
        let count = acts.len();
        for act in acts {
            self.carry_out(act);
        }
        self.check_limits();
        self.now += TURN;
        self.owners_go_on();
        count
    }

    fn carry_out(&mut self, act: Act) {
        match act {
            Act::Assign { buckets, to } => {
                assert!(self.may_own(to), "{to} is given {} buckets", buckets.len());
                for bucket in buckets {
                    let place = &mut self.map[usize::from(bucket)];
                    assert_eq!(*place, Placed::Free, "only what nobody holds is assigned");
                    *place = Placed::Owned(to);
                }
            }
            Act::Move { bucket, from, to } => {
                assert!(self.may_own(to) && from != to, "bucket {bucket} goes from {from} to {to}");
                assert_eq!(self.map[usize::from(bucket)], Placed::Owned(from));
                self.map[usize::from(bucket)] = Placed::Draining { from, to };
                self.begun.push((self.now, from, to));
                let hangs = self.hangs_one_in > 0 && self.random.random_ratio(1, self.hangs_one_in);
                let manners =
                    if hangs { Manners::Hangs } else { Manners::HandsOver(self.random.random_range(0..5)) };
                self.handing.insert(bucket, (from, self.now, manners));
            }
            Act::TakeBack { bucket } => {
                let Placed::Draining { from, .. } = self.map[usize::from(bucket)] else {
                    panic!("only what is under way is taken back")
                };
                self.map[usize::from(bucket)] = Placed::Owned(from);
                self.handing.remove(&bucket);
            }
        }
    }

    fn owners_go_on(&mut self) {
        let now = self.now;
        self.handing.retain(|bucket, (owner, since, manners)| {
            let place = &mut self.map[usize::from(*bucket)];
            let Placed::Draining { from, to } = *place else { return false };
            assert_eq!(from, *owner);
            match manners {
                Manners::HandsOver(turns) if now.saturating_sub(*since) >= TURN * *turns => {
                    let lives = self.members.get(&to).is_some_and(|member| member.live);
                    *place = if lives { Placed::Owned(to) } else { Placed::Free };
                    false
                }
                Manners::HandsOver(_) | Manners::Hangs => true,
            }
        });
    }

    /// §7.1.
    fn check_limits(&mut self) {
        let now = self.now;
        self.begun.retain(|(at, _, _)| now.saturating_sub(*at) < Duration::from_secs(1));
        assert!(self.begun.len() <= SITE_MAX, "{} in a second", self.begun.len());
        let mut pairs: BTreeMap<(NodeId, NodeId), usize> = BTreeMap::new();
        for (_, from, to) in &self.begun {
            *pairs.entry((*from, *to)).or_default() += 1;
        }
        assert!(pairs.values().all(|count| *count <= PAIR_MAX), "{pairs:?}");
    }

    fn set_live(&mut self, node: NodeId, live: bool) {
        let member = self.members.entry(node).or_insert(Member { node, live, draining: false });
        member.live = live;
        if !live {
            for place in &mut self.map {
                match *place {
                    Placed::Owned(owner) | Placed::Draining { from: owner, .. } if owner == node => {
                        *place = Placed::Free
                    }
                    Placed::Owned(_) | Placed::Draining { .. } | Placed::Free => {}
                }
            }
        }
    }

    fn something_happens(&mut self, nodes: u8) {
        let node = NodeId(self.random.random_range(1..=nodes));
        match self.random.random_range(0..6) {
            0 => self.set_live(node, false),
            1 | 2 => self.set_live(node, true),
            3 => drop(self.members.get_mut(&node).map(|member| member.draining = true)),
            4 => drop(self.members.get_mut(&node).map(|member| member.draining = false)),
            // Another leader: it knows nothing of what was before.
            _ => self.balancer = Balancer::new(BUCKETS),
        }
    }

    fn owned(&self, node: NodeId) -> usize {
        self.map.iter().filter(|placed| **placed == Placed::Owned(node)).count()
    }

    /// Plays until nothing is left to do. Returns how many turns that took.
    fn settle(&mut self, within: u32) -> u32 {
        let mut quiet = 0;
        for turn in 0..within {
            let acts = self.turn();
            quiet = if acts == 0 && self.handing.is_empty() { quiet + 1 } else { 0 };
            // Longer than any pause.
            if quiet > 700 {
                return turn;
            }
        }
        panic!("not settled after {within} turns");
    }

    fn check_settled(&self) {
        let eligible: Vec<&Member> =
            self.members.values().filter(|member| self.may_own(member.node)).collect();
        if eligible.is_empty() {
            return;
        }
        let total: usize = eligible.iter().map(|member| self.owned(member.node)).sum();
        assert_eq!(total, BUCKETS, "every bucket has an owner that may own");
        let share = BUCKETS.div_ceil(eligible.len());
        for member in eligible {
            let owned = self.owned(member.node);
            assert!(
                owned <= share + EXCESS_MIN.max(share / 20),
                "node {} owns {owned} of {share}",
                member.node
            );
        }
    }
}

#[test]
fn at_the_start_all_buckets_are_spread_in_a_few_entries() {
    for nodes in [2, 3, 5, 100, 255] {
        let mut world = World::new(1, nodes);
        let acts = world.turn();
        assert!(acts <= usize::from(nodes), "{acts} entries for {nodes} nodes");
        world.check_settled();
        assert_eq!(world.turn(), 0, "and that is all");
    }
}

#[test]
fn what_was_asked_for_first_stays_where_it_is() {
    let mut world = World::new(2, 3);
    world.map[7] = Placed::Owned(NodeId(3));
    world.map[9] = Placed::Owned(NodeId(3));
    world.turn();
    assert_eq!((world.map[7], world.map[9]), (Placed::Owned(NodeId(3)), Placed::Owned(NodeId(3))));
}

#[test]
fn a_leader_waits_for_nodes_that_are_still_starting_but_not_for_ever() {
    let mut world = World::new(3, 3);
    world.set_live(NodeId(3), false);
    assert_eq!(world.turn(), 0, "nobody has owned anything, and one may come");
    world.set_live(NodeId(3), true);
    world.turn();
    assert!(world.owned(NodeId(3)) > BUCKETS / 4);
    let mut world = World::new(3, 3);
    world.set_live(NodeId(3), false);
    world.settle(2000);
    world.check_settled();
}

#[test]
fn what_a_dead_node_owned_goes_to_the_others_at_once_and_back_to_it_if_it_is_there_again() {
    let mut world = World::new(4, 3);
    world.turn();
    let before = world.map.clone();
    world.set_live(NodeId(2), false);
    world.set_live(NodeId(2), true);
    assert_eq!(world.turn(), 1);
    assert_eq!(world.map, before, "a restart that nobody saw as an absence");
    world.set_live(NodeId(2), false);
    assert!(world.turn() <= 2, "an entry for each other");
    world.check_settled();
}

#[test]
fn a_node_that_is_emptied_owns_nothing_in_the_end() {
    let mut world = World::new(5, 3);
    world.turn();
    world.members.get_mut(&NodeId(1)).unwrap().draining = true;
    world.settle(5000);
    assert_eq!(world.owned(NodeId(1)), 0);
}

#[test]
fn what_is_given_away_together_makes_the_others_even() {
    let loads = |of: [usize; 3]| (1..).map(NodeId).zip(of).collect::<BTreeMap<_, _>>();
    for of in [[0, 0, 0], [100, 7, 100], [21_845, 21_846, 0], [5000, 0, 0]] {
        let buckets: Vec<Bucket> = (1000..6000).collect();
        let given = share_out(&buckets, &loads(of));
        let mut together: Vec<Bucket> = given.iter().flat_map(|(_, buckets)| buckets.clone()).collect();
        together.sort_unstable();
        assert_eq!(together, buckets, "each once");
        assert!(given.iter().all(|(_, buckets)| (1..=ASSIGN_MAX).contains(&buckets.len())));
        let most = (of.iter().sum::<usize>() + buckets.len()).div_ceil(3);
        for (node, before) in loads(of) {
            let gets: usize = given.iter().filter(|(to, _)| *to == node).map(|(_, got)| got.len()).sum();
            assert!(gets == 0 || before + gets <= most, "{node} has {before} and gets {gets}");
        }
    }
    assert_eq!(share_out(&[1, 2], &BTreeMap::new()), [], "there is nobody");
}

#[test]
fn a_node_that_comes_is_filled_up_and_nothing_goes_to_and_fro() {
    let mut world = World::new(6, 3);
    world.turn();
    let before = world.map.clone();
    world.set_live(NodeId(4), true);
    world.settle(10_000);
    world.check_settled();
    let moved: Vec<_> = before.iter().zip(&world.map).filter(|(before, after)| before != after).collect();
    assert!(moved.iter().all(|(_, after)| **after == Placed::Owned(NodeId(4))), "only the new one gets any");
}

#[test]
fn an_owner_that_hangs_is_asked_less_and_less() {
    let mut world = World::new(7, 2);
    world.turn();
    world.hangs_one_in = 1;
    world.members.get_mut(&NodeId(1)).unwrap().draining = true;
    let mut begun = Vec::new();
    for _ in 0..10 {
        let before = world.now;
        let mut count = 0;
        while world.now < before + Duration::from_secs(30) {
            world.turn();
            count += world.begun.iter().filter(|(at, _, _)| *at + TURN == world.now).count();
        }
        begun.push(count);
    }
    assert!(begun[9] * 10 < begun[0], "{begun:?}");
    world.hangs_one_in = 0;
    world.settle(20_000);
    assert_eq!(world.owned(NodeId(1)), 0, "and it ends well when the owner does");
}

#[test]
fn whatever_happens_it_converges_within_its_limits() {
    for seed in 0..12 {
        let mut world = World::new(seed, 3);
        let nodes = world.random.random_range(2..=9);
        world.hangs_one_in = [0, 20, 3][seed as usize % 3];
        for _ in 0..400 {
            if world.random.random_ratio(1, 20) {
                world.something_happens(nodes);
            }
            world.turn();
        }
        world.hangs_one_in = 0;
        world.settle(40_000);
        world.check_settled();
    }
}

#[test]
fn a_second_has_no_more_hand_overs_however_often_is_looked() {
    let mut world = World::new(8, 2);
    world.turn();
    world.members.get_mut(&NodeId(1)).unwrap().draining = true;
    let members: Vec<Member> = world.members.values().copied().collect();
    let mut begun = 0;
    for _ in 0..99 {
        world.now += Duration::from_millis(10);
        for act in world.balancer.plan(world.now, &world.map, &members) {
            let Act::Move { bucket, from, to } = act else { panic!("{act:?}") };
            world.map[usize::from(bucket)] = Placed::Draining { from, to };
            begun += 1;
        }
    }
    assert_eq!(begun, PAIR_MAX);
}
