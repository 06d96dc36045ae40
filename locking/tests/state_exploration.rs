//! J1, explored: at most one session has a witness accepted for a bucket at any epoch, epochs rise with every grant,
//! counters never fall. All histories to some length of two nodes and one bucket; random ones of many more steps.

use std::collections::BTreeMap;

use locking::command::*;
use locking::state::*;
use model::Epoch;
use proptest::prelude::*;

const BUCKET: Bucket = 300;
const SUBKEY: Subkey = [1; 16];

#[derive(Clone, Copy, Debug)]
enum Step {
    /// A node starts again. Whether its old process is known to be dead.
    Open {
        node: u8,
        replaces: bool,
    },
    /// The leader expires the newest session of a node.
    Expire {
        node: u8,
    },
    Grant {
        node: u8,
    },
    Release {
        node: u8,
    },
    /// Somebody wants the node's bucket to go to the other one.
    Drain {
        node: u8,
    },
    HandOver {
        node: u8,
    },
    /// Somebody gives a node what it can have; it hears of it from the map.
    Assign {
        node: u8,
    },
    Empty {
        node: u8,
        draining: bool,
    },
    /// Under the epoch that the node believes in, however old; `past` many tenures ago.
    Witness {
        node: u8,
        past: usize,
        counter: u64,
    },
}

/// The service, what each node believes, and what was seen.
#[derive(Clone)]
struct World {
    state: State,
    index: u64,
    sessions: [Option<SessionId>; 2],
    /// All epochs that were ever granted to a node, with their session.
    tenures: [Vec<(Epoch, SessionId)>; 2],
    granted: Vec<Epoch>,
    accepted_by: BTreeMap<Epoch, SessionId>,
    counter: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self {
            state: State::default(),
            index: 0,
            sessions: [None; 2],
            tenures: [Vec::new(), Vec::new()],
            granted: Vec::new(),
            accepted_by: BTreeMap::new(),
            counter: 0,
        };
        world.ask(Command::Found { site: 0, incarnation: 1 });
        world
    }

    fn ask(&mut self, command: Command) -> Answer {
        self.index += 1;
        let id = RequestId { client: 1, seq: self.index };
        self.state.apply(self.index, &Request { id, command }, &mut Touched::default())
    }

    /// Takes a step and checks what must hold. Returns whether anything was there to do.
    fn step(&mut self, step: Step) -> bool {
        match step {
            Step::Open { node, replaces } => {
                let command = Command::SessionOpen { node: NodeId(node), replaces_older: replaces };
                let Answer::Opened(session) = self.ask(command) else { panic!("not opened") };
                self.sessions[usize::from(node)] = Some(session);
            }
            Step::Expire { node } => {
                let Some(session) = self.sessions[usize::from(node)] else { return false };
                self.ask(Command::SessionExpire { session });
            }
            Step::Grant { node } => return self.grant(usize::from(node)),
            Step::Release { node } => {
                let Some((epoch, _)) = self.tenures[usize::from(node)].last().copied() else { return false };
                self.ask(Command::Release { bucket: BUCKET, epoch });
            }
            Step::Drain { node } => {
                let Some((epoch, _)) = self.tenures[usize::from(node)].last().copied() else { return false };
                self.ask(Command::Drain { bucket: BUCKET, epoch, to: Some(NodeId(1 - node)) });
            }
            Step::HandOver { node } => {
                let Some((epoch, _)) = self.tenures[usize::from(node)].last().copied() else { return false };
                let answer = self.ask(Command::HandOver { bucket: BUCKET, epoch });
                if answer == Answer::Done {
                    self.hear(1 - usize::from(node));
                }
            }
            Step::Assign { node } => {
                let answer = self.ask(Command::Assign { buckets: vec![BUCKET], to: NodeId(node) });
                if matches!(&answer, Answer::Granted(runs) if !runs.is_empty()) {
                    self.hear(usize::from(node));
                }
            }
            Step::Empty { node, draining } => {
                self.ask(Command::SetDraining { node: NodeId(node), draining });
            }
            Step::Witness { node, past, counter } => return self.witness(usize::from(node), past, counter),
        }
        true
    }

    /// A node hears from the map that it was given the bucket.
    fn hear(&mut self, node: usize) {
        let found = self.state.bucket(BUCKET);
        let Some(session) = found.session().filter(|session| self.sessions[node] == Some(*session)) else {
            return;
        };
        self.given(node, found.epoch, session);
    }

    fn given(&mut self, node: usize, epoch: Epoch, session: SessionId) {
        if self.tenures[node].last() != Some(&(epoch, session)) {
            assert!(self.granted.last() < Some(&epoch), "epochs rise with every grant (J1)");
            self.granted.push(epoch);
            self.tenures[node].push((epoch, session));
        }
    }

    fn grant(&mut self, node: usize) -> bool {
        let Some(session) = self.sessions[node] else { return false };
        let answer = self.ask(Command::Grant { session, wanted: Wanted::These(vec![BUCKET]) });
        if let Answer::Granted(runs) = answer
            && let Some(run) = runs.first()
        {
            self.given(node, run.epoch, session);
        }
        true
    }

    fn witness(&mut self, node: usize, past: usize, counter: u64) -> bool {
        let tenures = &self.tenures[node];
        let Some((epoch, session)) = tenures.len().checked_sub(past + 1).map(|place| tenures[place]) else {
            return false;
        };
        let record = Record {
            bucket: BUCKET,
            epoch,
            subkey: SUBKEY,
            value: Value::new(&[counter as u8]).expect("short"),
            counter,
        };
        let answer = self.ask(Command::Witness { records: vec![record] });
        let Answer::Witnessed { refused } = answer else { panic!("{answer:?}") };
        if refused.is_empty() {
            let by = *self.accepted_by.entry(epoch).or_insert(session);
            assert_eq!(by, session, "one session an epoch (J1)");
            assert_eq!(
                self.accepted_by.last_key_value().map(|(epoch, _)| *epoch),
                Some(epoch),
                "no late epoch (J1)"
            );
            assert_eq!(self.granted.last(), Some(&epoch), "accepted only under the newest epoch (L-SM2)");
            assert!(self.state.is_live(session), "accepted only of a live session (L-SM2)");
            assert!(counter >= self.counter, "counters never fall (L-SM2)");
            self.counter = counter;
        }
        let witness = self.state.witness(BUCKET, &SUBKEY);
        assert_eq!(witness.map_or(0, |witness| witness.counter), self.counter, "what was accepted, is there");
        true
    }
}

fn all_steps() -> Vec<Step> {
    let mut steps = Vec::new();
    for node in 0..2 {
        steps.push(Step::Open { node, replaces: false });
        steps.push(Step::Open { node, replaces: true });
        steps.push(Step::Expire { node });
        steps.push(Step::Grant { node });
        steps.push(Step::Release { node });
        steps.push(Step::Drain { node });
        steps.push(Step::HandOver { node });
        steps.push(Step::Assign { node });
        for past in 0..2 {
            steps.push(Step::Witness { node, past, counter: 1 });
        }
        steps.push(Step::Witness { node, past: 0, counter: 2 });
    }
    steps
}

fn explore(world: &World, steps: &[Step], depth: usize, seen: &mut u64) {
    if depth == 0 {
        return;
    }
    for step in steps {
        let mut next = world.clone();
        if next.step(*step) {
            *seen += 1;
            explore(&next, steps, depth - 1, seen);
        }
    }
}

#[test]
fn all_short_histories_keep_one_writer_an_epoch() {
    // Both nodes are up, node 0 owns the bucket and has witnessed: from there everything to a depth of four.
    let mut world = World::new();
    for node in 0..2 {
        assert!(world.step(Step::Open { node, replaces: false }));
    }
    assert!(world.step(Step::Grant { node: 0 }));
    assert!(world.step(Step::Witness { node: 0, past: 0, counter: 1 }));
    let mut seen = 0;
    explore(&world, &all_steps(), 4, &mut seen);
    assert!(seen > 10_000, "only {seen} histories");
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0u8..2, any::<bool>()).prop_map(|(node, replaces)| Step::Open { node, replaces }),
        1 => (0u8..2).prop_map(|node| Step::Expire { node }),
        3 => (0u8..2).prop_map(|node| Step::Grant { node }),
        1 => (0u8..2).prop_map(|node| Step::Release { node }),
        1 => (0u8..2).prop_map(|node| Step::Drain { node }),
        2 => (0u8..2).prop_map(|node| Step::HandOver { node }),
        1 => (0u8..2).prop_map(|node| Step::Assign { node }),
        1 => (0u8..2, any::<bool>()).prop_map(|(node, draining)| Step::Empty { node, draining }),
        5 => (0u8..2, 0usize..3, 0u64..6).prop_map(|(node, past, counter)| Step::Witness { node, past, counter }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn long_random_histories_keep_one_writer_an_epoch(steps in prop::collection::vec(any_step(), 1..80)) {
        let mut world = World::new();
        for step in steps {
            world.step(step);
        }
        prop_assert!(world.state.is_sound());
    }
}
