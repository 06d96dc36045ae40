//! What a node may show when its lease is over: nothing, unless the whole site has no majority (`locking.md` §8).
//!
//! Pure: `now` is the reading of the clock of [`lease`](crate::lease), and what others say is an argument. From inside, a
//! site without a majority and a node that is cut off from one look alike. So whoever shows something here marks it, and
//! shows it to nobody but sessions that were there before.
//!
//! Invariants
//! - After the lease nothing is shown before all others were asked, in a round that began after its end, and none of them
//!   was heard to know a leader. A round permits for [`FRESH`] and no longer: a node that stood still asks again first.
//! - It ends when anybody is heard of who knows a leader, and after the longest time allowed, and does not begin again
//!   before there was another lease. Sessions wait a little for that lease, and are shown nothing meanwhile.

use std::collections::BTreeMap;
use std::time::Duration;

/// A round ends by then, whoever has not answered.
pub const ROUND_MAX: Duration = Duration::from_millis(750);
/// Between two rounds.
pub const ROUND_EVERY: Duration = Duration::from_millis(250);
/// How long a round counts, from its beginning. A majority that comes back meanwhile gives nothing of ours away so soon: a
/// new leader waits for our session first.
pub const FRESH: Duration = Duration::from_millis(2500);
/// How long sessions wait for another lease once a leader is known. An attempt to get it takes 2 s at most.
pub const RETURN_MAX: Duration = Duration::from_secs(3);
const _: () = assert!(2 * ROUND_MAX.as_millis() + ROUND_EVERY.as_millis() < FRESH.as_millis());

/// What a node may show, and to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// As its lease says, bucket by bucket.
    Held,
    /// The lease is over, and whether the others go on without this node is being found out. Nothing.
    Asking,
    /// Nobody who is heard of knows a leader. What counted when the lease ended, marked, to whom it was shown before; and
    /// nothing is changed.
    Frozen,
    /// Somebody knows a leader. Nothing, but another lease may come soon.
    Returning,
    /// The others go on without this node, or the time is up. Nothing, until there is another lease.
    Over,
}

impl Standing {
    /// The lease is over, and sessions that were there before stay.
    pub fn keeps_sessions(self) -> bool {
        match self {
            Self::Asking | Self::Frozen | Self::Returning => true,
            Self::Held | Self::Over => false,
        }
    }
}

#[derive(Clone, Copy, Debug)]
enum State {
    Held,
    Asking,
    /// The last round began then.
    Frozen {
        asked: Duration,
    },
    /// Since a leader was heard of.
    Returning {
        since: Duration,
    },
    Over,
}

/// One node's standing, as its clock goes on and as the others answer.
#[derive(Clone, Copy, Debug)]
pub struct Watch {
    longest: Duration,
    /// When the last lease ended.
    since: Duration,
    state: State,
}

impl Watch {
    /// `longest`: how long something may be shown after a lease; zero for not at all.
    pub fn new(longest: Duration) -> Self {
        Self { longest, since: Duration::ZERO, state: State::Held }
    }

    /// How it stands now. `valid_until`: the end of the present lease.
    pub fn look(&mut self, now: Duration, valid_until: Duration) -> Standing {
        if now < valid_until {
            self.state = State::Held;
        } else if matches!(self.state, State::Held) {
            (self.state, self.since) = (State::Asking, valid_until);
        }
        match self.state {
            State::Asking | State::Frozen { .. } if now >= self.since + self.longest => {
                self.state = State::Over;
            }
            State::Frozen { asked } if now >= asked + FRESH => self.state = State::Asking,
            State::Returning { since } if now >= since + RETURN_MAX => self.state = State::Over,
            State::Held | State::Asking | State::Frozen { .. } | State::Returning { .. } | State::Over => {}
        }
        match self.state {
            State::Held => Standing::Held,
            State::Asking => Standing::Asking,
            State::Frozen { .. } => Standing::Frozen,
            State::Returning { .. } => Standing::Returning,
            State::Over => Standing::Over,
        }
    }

    /// A round that began then has ended at `now`: whether anybody knows a leader.
    pub fn heard(&mut self, began: Duration, now: Duration, leader: bool) {
        match self.state {
            State::Asking | State::Frozen { .. } if leader => self.state = State::Returning { since: now },
            State::Asking if began >= self.since => self.state = State::Frozen { asked: began },
            State::Frozen { asked } => self.state = State::Frozen { asked: asked.max(began) },
            State::Held | State::Asking | State::Returning { .. } | State::Over => {}
        }
    }
}

/// Whether a leader is known, by what each node that answered says of itself: whom it follows, or that it leads a
/// quorum. Who is said to lead and says that it does not is no leader.
pub fn leader_is_known(answers: &BTreeMap<u8, Option<u8>>) -> bool {
    answers.values().flatten().any(|leader| answers.get(leader) != Some(&None))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_secs(60);
    /// The end of the lease in all these tests.
    const END: Duration = Duration::from_secs(100);

    fn at(ms: u64) -> Duration {
        END + Duration::from_millis(ms)
    }

    fn ended() -> Watch {
        let mut watch = Watch::new(LONGEST);
        assert_eq!(watch.look(END - Duration::from_millis(1), END), Standing::Held);
        assert_eq!(watch.look(at(0), END), Standing::Asking);
        watch
    }

    #[test]
    fn after_the_lease_nothing_is_shown_before_all_were_asked() {
        let mut watch = ended();
        assert_eq!(watch.look(at(30_000), END), Standing::Asking, "however long that takes");
        watch.heard(at(29_900), at(29_900), false);
        assert_eq!(watch.look(at(30_000), END), Standing::Frozen);
    }

    #[test]
    fn a_round_that_began_before_the_end_says_nothing_of_it() {
        let mut watch = ended();
        watch.heard(END - Duration::from_millis(1), END - Duration::from_millis(1), false);
        assert_eq!(watch.look(at(1), END), Standing::Asking);
    }

    #[test]
    fn it_ends_when_somebody_knows_a_leader_and_does_not_begin_again() {
        let mut watch = ended();
        watch.heard(at(1), at(1), false);
        watch.heard(at(500), at(700), true);
        assert_eq!(watch.look(at(701), END), Standing::Returning);
        watch.heard(at(1000), at(1000), false);
        assert_eq!(watch.look(at(3699), END), Standing::Returning);
        assert_eq!(watch.look(at(3700), END), Standing::Over, "another lease does not come");
        watch.heard(at(3800), at(3800), false);
        assert_eq!(watch.look(at(3801), END), Standing::Over);
        let mut watch = ended();
        watch.heard(at(1), at(1), true);
        assert_eq!(watch.look(at(2), END), Standing::Returning, "nor does it begin then");
    }

    #[test]
    fn it_lasts_no_longer_than_it_may_counted_from_the_end_of_the_lease() {
        let mut watch = ended();
        for ms in (0..59_000).step_by(1000) {
            watch.heard(at(ms), at(ms), false);
            assert_eq!(watch.look(at(ms + 500), END), Standing::Frozen, "{ms}");
        }
        watch.heard(at(59_900), at(59_900), false);
        assert_eq!(watch.look(at(59_999), END), Standing::Frozen);
        assert_eq!(watch.look(at(60_000), END), Standing::Over);
        let mut none = Watch::new(Duration::ZERO);
        assert_eq!(none.look(at(0), END), Standing::Over);
    }

    #[test]
    fn a_node_that_stood_still_shows_nothing_before_it_has_asked_again() {
        // It stood still over the end of its lease, and then while it was frozen.
        let mut watch = Watch::new(LONGEST);
        watch.look(END - Duration::from_secs(3), END);
        assert_eq!(watch.look(at(20_000), END), Standing::Asking);
        watch.heard(at(20_100), at(20_100), false);
        assert_eq!(watch.look(at(20_200), END), Standing::Frozen);
        assert_eq!(watch.look(at(32_000), END), Standing::Asking);
        // A round that was under way meanwhile is as old.
        watch.heard(at(20_900), at(20_900), false);
        assert_eq!(watch.look(at(32_001), END), Standing::Asking);
        watch.heard(at(32_100), at(32_100), false);
        assert_eq!(watch.look(at(32_200), END), Standing::Frozen);
        assert_eq!(watch.look(at(90_000), END), Standing::Over, "longer than it may");
    }

    #[test]
    fn another_lease_ends_it_and_its_end_is_another_one() {
        let mut watch = ended();
        watch.heard(at(1), at(1), false);
        assert_eq!(watch.look(at(10_000), at(14_000)), Standing::Held);
        assert_eq!(watch.look(at(14_000), at(14_000)), Standing::Asking);
        watch.heard(at(10), at(10), false);
        assert_eq!(watch.look(at(14_001), at(14_000)), Standing::Asking, "an answer of the last time");
        let mut returning = ended();
        returning.heard(at(1), at(1), true);
        assert_eq!(returning.look(at(3000), at(9000)), Standing::Held);
        let mut over = ended();
        over.heard(at(1), at(1), true);
        assert_eq!(over.look(at(3001), END), Standing::Over);
        assert_eq!(over.look(at(4000), at(9000)), Standing::Held);
    }

    #[test]
    fn a_leader_is_known_if_anybody_says_so_but_who_is_none() {
        let known = |answers: &[(u8, Option<u8>)]| leader_is_known(&answers.iter().copied().collect());
        assert!(!known(&[]) && !known(&[(1, None), (2, None)]));
        assert!(known(&[(1, None), (2, Some(2))]), "it leads");
        assert!(known(&[(1, None), (2, Some(3))]), "it follows one that we do not reach");
        assert!(!known(&[(1, None), (2, Some(3)), (3, None)]), "it follows one that leads nobody");
        assert!(!known(&[(1, None), (2, Some(1))]), "it follows us, and we lead no quorum");
    }
}
