//! What the present session holds: what it was answered, and what the applied map says that others have given it.
//!
//! Invariants
//! - An epoch that is held was granted to the present session, and to no other (L-LE3).
//! - Of a bucket's epochs a newer one is never forgotten for what an older map says.
//! - A bucket that is being given up is not held from before the service hears of it, until it is known to have stayed.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use model::Epoch;

use super::lock;
use crate::command::{BUCKETS, Bucket, Run, SessionId};
use crate::raft::machine::Moved;
use crate::state::State;

pub(super) struct Holdings {
    /// Epoch of each bucket that the session holds, 0 for none. Written under the lock of `whose` only.
    epochs: Box<[AtomicU64]>,
    whose: Mutex<Whose>,
    /// Groups that keep buckets, each those with its own remainder.
    shards: usize,
}

struct Whose {
    session: SessionId,
    /// Buckets that are being given up, with the epoch that is.
    leaving: BTreeMap<Bucket, Epoch>,
}

impl Holdings {
    pub(super) fn new(session: SessionId, shards: usize) -> Self {
        let epochs = (0..BUCKETS).map(|_| AtomicU64::new(0)).collect();
        Self { epochs, whose: Mutex::new(Whose { session, leaving: BTreeMap::new() }), shards }
    }

    fn load(&self, bucket: Bucket) -> u64 {
        self.epochs[usize::from(bucket)].load(Ordering::Acquire)
    }

    fn store(&self, bucket: Bucket, epoch: u64) {
        self.epochs[usize::from(bucket)].store(epoch, Ordering::Release);
    }

    pub(super) fn held(&self, bucket: Bucket) -> Option<Epoch> {
        Some(self.load(bucket)).filter(|epoch| *epoch != 0).map(Epoch::from_u64)
    }

    pub(super) fn count(&self) -> usize {
        self.epochs.iter().filter(|epoch| epoch.load(Ordering::Relaxed) != 0).count()
    }

    /// The service has answered that a session holds these. One that was lost meanwhile has nothing.
    pub(super) fn granted(&self, session: SessionId, runs: &[Run]) {
        let mut whose = lock(&self.whose);
        if whose.session != session {
            return;
        }
        for run in runs {
            for bucket in run.first..=run.last {
                whose.leaving.remove(&bucket);
                self.store(bucket, self.load(bucket).max(run.epoch.get()));
            }
        }
    }

    /// Owners have changed in the map of a group. Of buckets that are not its own it knows nothing.
    pub(super) fn moved(&self, shard: usize, state: &State, moved: Moved<'_>) {
        let mut whose = lock(&self.whose);
        let is_kept = |bucket: &Bucket| usize::from(*bucket) % self.shards == shard;
        match moved {
            Moved::These(buckets) => {
                let kept = buckets.iter().copied().filter(is_kept);
                kept.for_each(|bucket| self.follow(&mut whose, bucket, state));
            }
            Moved::Any => {
                let kept = (0..=Bucket::MAX).filter(is_kept);
                kept.for_each(|bucket| self.follow(&mut whose, bucket, state));
            }
        }
    }

    fn follow(&self, whose: &mut Whose, bucket: Bucket, state: &State) {
        let (found, known) = (state.bucket(bucket), self.load(bucket));
        let ours = found.session() == Some(whose.session) && state.is_live(whose.session);
        if ours && whose.leaving.get(&bucket) == Some(&found.epoch) {
            return;
        }
        // What was answered can be newer than the map here.
        if found.epoch.get() >= known {
            whose.leaving.remove(&bucket);
            self.store(bucket, if ours { found.epoch.get() } else { 0 });
        }
    }

    /// Begins to give a bucket up. Returns the epoch that is to end, if it is held.
    pub(super) fn leave(&self, bucket: Bucket) -> Option<Epoch> {
        let mut whose = lock(&self.whose);
        let epoch = self.held(bucket)?;
        whose.leaving.insert(bucket, epoch);
        self.store(bucket, 0);
        Some(epoch)
    }

    /// It was not given up after all: it is as the map says.
    pub(super) fn stay(&self, bucket: Bucket, state: &State) {
        let mut whose = lock(&self.whose);
        whose.leaving.remove(&bucket);
        self.follow(&mut whose, bucket, state);
    }

    /// Another session takes the place of the one before. What the maps say that it holds already, it holds when they
    /// have been looked through again.
    pub(super) fn adopt(&self, session: SessionId) {
        let mut whose = lock(&self.whose);
        *whose = Whose { session, leaving: BTreeMap::new() };
        (0..=Bucket::MAX).for_each(|bucket| self.store(bucket, 0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Answer, Command, NodeId, Request, RequestId, Wanted};
    use crate::state::Touched;

    /// The map as one node applies it, and what its session holds.
    struct Node {
        state: State,
        index: u64,
        holdings: Holdings,
    }

    impl Node {
        fn new() -> Self {
            let mut node =
                Self { state: State::default(), index: 0, holdings: Holdings::new(SessionId(0), 1) };
            node.apply(Command::Found { site: 1, incarnation: 1 });
            node
        }

        fn apply(&mut self, command: Command) -> Answer {
            self.index += 1;
            let id = RequestId { client: 1, seq: self.index };
            let answer = self.state.apply(self.index, &Request { id, command }, &mut Touched::default());
            self.holdings.moved(0, &self.state, Moved::Any);
            answer
        }

        fn adopt(&self, session: SessionId) {
            self.holdings.adopt(session);
            self.holdings.moved(0, &self.state, Moved::Any);
        }

        fn open(&mut self, node: u8) -> SessionId {
            let open = Command::SessionOpen { node: NodeId(node), replaces_older: true };
            let Answer::Opened(session) = self.apply(open) else { panic!("not opened") };
            session
        }

        fn assign(&mut self, bucket: Bucket, node: u8) -> Epoch {
            self.apply(Command::Assign { buckets: vec![bucket], to: NodeId(node) });
            self.state.bucket(bucket).epoch
        }
    }

    #[test]
    fn what_others_give_us_is_held_and_what_we_lose_is_not() {
        let mut node = Node::new();
        let session = node.open(1);
        node.open(2);
        node.adopt(session);
        let epoch = node.assign(9, 1);
        assert_eq!(node.holdings.held(9), Some(epoch));
        node.assign(10, 2);
        assert_eq!(node.holdings.held(10), None);
        node.apply(Command::SessionExpire { session });
        assert_eq!(node.holdings.held(9), None, "not once the map says that the session is over");
    }

    #[test]
    fn what_is_being_given_up_is_not_held_whatever_the_map_says_meanwhile() {
        let mut node = Node::new();
        let session = node.open(1);
        node.adopt(session);
        let epoch = node.assign(9, 1);
        assert_eq!(node.holdings.leave(9), Some(epoch));
        node.open(2);
        assert_eq!(node.holdings.held(9), None, "the map changed elsewhere");
        let again = node.apply(Command::Grant { session, wanted: Wanted::These(vec![9]) });
        let Answer::Granted(runs) = again else { panic!("{again:?}") };
        node.holdings.granted(session, &runs);
        assert_eq!(node.holdings.held(9), Some(epoch), "asked for again, it has stayed");
        node.holdings.leave(9);
        node.holdings.stay(9, &node.state);
        assert_eq!(node.holdings.held(9), Some(epoch), "and so it has when the service would not take it");
        node.holdings.leave(9);
        node.apply(Command::Release { bucket: 9, epoch });
        let higher = node.assign(9, 1);
        assert_eq!(node.holdings.held(9), Some(higher), "given anew");
    }

    #[test]
    fn an_epoch_of_a_lost_session_is_never_held_under_the_next() {
        // (L-LE3)
        let mut node = Node::new();
        let old = node.open(1);
        node.adopt(old);
        let epoch = node.assign(9, 1);
        let runs = [Run { first: 9, last: 9, epoch }];
        // The service gives the new session a bucket before this node knows that the session is its own.
        let new = node.open(1);
        let given = node.assign(10, 1);
        node.adopt(new);
        assert_eq!((node.holdings.held(9), node.holdings.held(10)), (None, Some(given)));
        node.holdings.granted(old, &runs);
        assert_eq!(node.holdings.held(9), None, "a late answer to the old session");
    }

    #[test]
    fn an_older_map_forgets_nothing_that_was_answered_since() {
        let mut node = Node::new();
        let session = node.open(1);
        node.adopt(session);
        let first = node.assign(9, 1);
        node.apply(Command::Release { bucket: 9, epoch: first });
        let newer = first.next().expect("low");
        node.holdings.granted(session, &[Run { first: 9, last: 9, epoch: newer }]);
        node.open(2);
        assert_eq!(node.holdings.held(9), Some(newer), "the map here ends before that grant");
    }
}
