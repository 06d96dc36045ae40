//! Wires between nodes of one process, which can be cut. For tests here and in the simulator.
//!
//! What is random comes from the seed. A message on a cut wire is lost: its sender waits in vain until its deadline.
//! A reply on a cut wire is lost the same way, after the message was carried out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::BoxFuture;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use rpc::coordination::CallError;

use super::message::Kind;
use super::{Door, Peers};

struct Inside {
    rng: StdRng,
    doors: BTreeMap<u8, Arc<Door>>,
    /// From, to.
    cut: BTreeSet<(u8, u8)>,
    lost_replies_percent: u32,
    delay_max: Duration,
}

/// All wires. Cheap to clone.
#[derive(Clone)]
pub struct Wires(Arc<Mutex<Inside>>);

/// The wires as one node sees them.
struct End {
    wires: Wires,
    from: u8,
    /// The process at this end. When another has taken its place, nothing of its own is sent or heard any more.
    /// `None`: it has an address of its own, where nobody looks for it.
    process: Option<Arc<Door>>,
}

/// What becomes of one message.
struct Fate {
    door: Option<Arc<Door>>,
    delays: [Duration; 2],
    arrives: bool,
    reply_lost: bool,
}

impl Wires {
    pub fn new(seed: u64) -> Self {
        Self(Arc::new(Mutex::new(Inside {
            rng: StdRng::seed_from_u64(seed),
            doors: BTreeMap::new(),
            cut: BTreeSet::new(),
            lost_replies_percent: 0,
            delay_max: Duration::ZERO,
        })))
    }

    fn inside(&self) -> MutexGuard<'_, Inside> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A node's end of the wires, and its door on them. A door that was there before is gone.
    pub fn connect(&self, node: u8, door: Arc<Door>) -> Arc<dyn Peers> {
        self.inside().doors.insert(node, Arc::clone(&door));
        Arc::new(End { wires: self.clone(), from: node, process: Some(door) })
    }

    /// An end for a second process of a node, at another address than the one where the others look for the node.
    pub fn beside(&self, node: u8) -> Arc<dyn Peers> {
        Arc::new(End { wires: self.clone(), from: node, process: None })
    }

    /// The node's process has ended: nobody listens there, and nothing comes from there.
    pub fn disconnect(&self, node: u8) {
        self.inside().doors.remove(&node);
    }

    /// Cuts one direction.
    pub fn cut(&self, from: u8, to: u8) {
        self.inside().cut.insert((from, to));
    }

    /// Cuts a node off from all others, both ways.
    pub fn isolate(&self, node: u8) {
        let mut inside = self.inside();
        for other in (0..=u8::MAX).filter(|other| *other != node) {
            inside.cut.insert((node, other));
            inside.cut.insert((other, node));
        }
    }

    pub fn heal(&self) {
        let mut inside = self.inside();
        inside.cut.clear();
        inside.lost_replies_percent = 0;
        inside.delay_max = Duration::ZERO;
    }

    pub fn lose_replies(&self, percent: u32) {
        self.inside().lost_replies_percent = percent.min(100);
    }

    pub fn delay(&self, at_most: Duration) {
        self.inside().delay_max = at_most;
    }

    fn is_cut(&self, from: u8, to: u8) -> bool {
        self.inside().cut.contains(&(from, to))
    }

    fn is_running(&self, node: u8, process: Option<&Arc<Door>>) -> bool {
        let Some(process) = process else { return true };
        self.inside().doors.get(&node).is_some_and(|door| Arc::ptr_eq(door, process))
    }

    fn draw(&self, from: u8, to: u8) -> Fate {
        let mut inside = self.inside();
        let longest = u64::try_from(inside.delay_max.as_micros()).unwrap_or(u64::MAX);
        let delays = [0, 1].map(|_| Duration::from_micros(inside.rng.random_range(0..=longest)));
        let percent = inside.lost_replies_percent;
        Fate {
            door: inside.doors.get(&to).cloned(),
            delays,
            arrives: !inside.cut.contains(&(from, to)),
            reply_lost: inside.rng.random_ratio(percent, 100),
        }
    }
}

impl Peers for End {
    fn call(
        &self,
        to: u8,
        group: u16,
        kind: Kind,
        payload: Bytes,
        deadline: Duration,
    ) -> BoxFuture<'static, Result<Bytes, CallError>> {
        let (wires, from, process) = (self.wires.clone(), self.from, self.process.clone());
        let fate = wires.draw(from, to);
        let way = async move {
            if !fate.arrives || !wires.is_running(from, process.as_ref()) {
                return std::future::pending().await;
            }
            let Some(door) = fate.door else {
                return Err(CallError::NoAnswer(format!("nobody listens at node {to}")));
            };
            tokio::time::sleep(fate.delays[0]).await;
            // Once it has arrived it is carried out, whether or not its sender still waits.
            let carried = tokio::spawn(async move { door.handle(from, group, kind.number(), payload).await });
            let answer = carried.await.map_err(|error| CallError::NoAnswer(error.to_string()))?;
            tokio::time::sleep(fate.delays[1]).await;
            if fate.reply_lost || wires.is_cut(to, from) || !wires.is_running(from, process.as_ref()) {
                return std::future::pending().await;
            }
            answer.map_err(|refused| CallError::Refused(refused.0))
        };
        Box::pin(async move {
            let late = || CallError::NoAnswer(format!("nothing within {deadline:?}"));
            tokio::time::timeout(deadline, way).await.unwrap_or_else(|_| Err(late()))
        })
    }

    fn learn(&self, _: u8, _: &str) {}
}
