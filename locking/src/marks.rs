//! Marks: how a site tells a store from an older copy of it (L-RS2).
//!
//! A voter draws a mark when it starts and every minute while it runs, makes it durable in its own store, and only
//! then has the site remember it. Whoever starts from an older copy has not drawn the mark that the site remembers.
//! Two that run from copies of one store draw different marks: one of them finds that it is not meant any more.
//!
//! Invariants
//! - A store that was not put back or copied has drawn every mark that anybody knows of it, whenever it crashed.
//! - The mark that the site remembers of a store only rises.

use serde::{Deserialize, Serialize};

/// One moment in the life of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Mark {
    /// One more than that of the mark before.
    pub number: u64,
    /// Drawn at random.
    pub nonce: u64,
}

/// The marks that a store has drawn, as far as it remembers: oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(Vec<Mark>);

impl Marks {
    /// So many are remembered. More than are drawn while the site has no majority to hear of them would be needed only
    /// to tell copies apart that both ran then.
    pub const MAX: usize = 64;

    /// The marks after one more was drawn.
    #[must_use]
    pub fn with(&self, nonce: u64) -> Self {
        let mut marks = self.0.clone();
        let number = marks.last().map_or(1, |last| last.number.saturating_add(1));
        marks.push(Mark { number, nonce });
        marks.drain(..marks.len().saturating_sub(Self::MAX));
        Self(marks)
    }

    pub fn last(&self) -> Option<Mark> {
        self.0.last().copied()
    }

    /// Whether this store can have drawn the mark: it has, or it was before all that it remembers.
    pub fn may_have_drawn(&self, seen: Mark) -> bool {
        match self.0.iter().find(|mark| mark.number == seen.number) {
            Some(mark) => *mark == seen,
            None => self.0.first().is_some_and(|first| seen.number < first.number),
        }
    }

    /// Whether these can be remembered of a store after the last one that was.
    pub fn follow(&self, last: Option<Mark>) -> bool {
        self.0.len() <= Self::MAX
            && self.last().is_some()
            && last
                .is_none_or(|last| self.last().is_some_and(|ours| ours >= last) && self.may_have_drawn(last))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(nonces: impl IntoIterator<Item = u64>) -> Marks {
        nonces.into_iter().fold(Marks::default(), |marks, nonce| marks.with(nonce))
    }

    #[test]
    fn a_store_goes_on_from_whatever_the_site_has_heard_of_it() {
        let marks = drawn([5, 6, 7]);
        let heard = [None, Some((1, 5)), Some((2, 6)), Some((3, 7))];
        for heard in heard.map(|heard| heard.map(|(number, nonce)| Mark { number, nonce })) {
            assert!(marks.follow(heard), "{heard:?}: the crash came between drawing and telling");
        }
    }

    #[test]
    fn an_older_copy_and_a_second_one_do_not_follow() {
        let whole = drawn([5, 6, 7]);
        let older = drawn([5, 6]);
        assert!(!older.follow(whole.last()), "put back");
        assert!(!older.with(8).follow(whole.last()), "put back, and started");
        assert!(!older.with(8).with(9).follow(whole.last()), "put back, and started twice");
        assert!(!Marks::default().follow(whole.last()), "the marks are lost");
        assert!(older.may_have_drawn(Mark { number: 2, nonce: 6 }));
        assert!(!older.may_have_drawn(Mark { number: 2, nonce: 66 }));
    }

    #[test]
    fn a_store_that_starts_often_without_a_majority_is_still_known() {
        let marks = drawn(0..1000);
        assert_eq!(marks.0.len(), Marks::MAX);
        assert!(marks.follow(Some(Mark { number: 3, nonce: 2 })));
        assert!(marks.follow(Some(Mark { number: 999, nonce: 998 })));
        assert!(!marks.follow(Some(Mark { number: 999, nonce: 1 })));
    }
}
