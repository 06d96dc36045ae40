//! Sequence sets: `1,3:5,7:*` (RFC 3501 §9 sequence-set), of sequence numbers or of UIDs.
//!
//! Invariants
//! - A set has one to `RANGES_MAX` ranges, and no number in it is 0.
//! - Ranges keep the client's order and may overlap; [`SequenceSet::resolve`] sorts and merges them.

use std::fmt;
use std::ops::RangeInclusive;

/// Ranges in one set. A set of every second message of 128,000 still fits.
pub const RANGES_MAX: usize = 65_536;

/// One end of a range. `*` is greater than every number until it is resolved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Bound {
    /// At least 1.
    Number(u32),
    /// The greatest in use.
    Star,
}

impl Bound {
    fn resolve(self, max: u32) -> u32 {
        match self {
            Self::Number(number) => number,
            Self::Star => max,
        }
    }
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Star => f.write_str("*"),
        }
    }
}

/// A set that is not empty. Ends of a range are in either order: `5:3` is `3:5`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SequenceSet(Vec<(Bound, Bound)>);

/// Why bytes are no sequence set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SetError {
    #[error("Invalid sequence set")]
    Syntax,
    #[error("Sequence set has more than {RANGES_MAX} ranges")]
    TooManyRanges,
}

impl SequenceSet {
    /// Reads all of `text`.
    pub fn parse(text: &[u8]) -> Result<Self, SetError> {
        let mut ranges = Vec::new();
        for range in text.split(|byte| *byte == b',') {
            if ranges.len() == RANGES_MAX {
                return Err(SetError::TooManyRanges);
            }
            let mut ends = range.splitn(2, |byte| *byte == b':');
            let first = ends.next().and_then(parse_bound).ok_or(SetError::Syntax)?;
            let last = match ends.next() {
                Some(last) => parse_bound(last).ok_or(SetError::Syntax)?,
                None => first,
            };
            ranges.push((first, last));
        }
        Ok(Self(ranges))
    }

    /// The set of these ranges, or `None` when there are none, too many, or one has a 0.
    pub fn new(ranges: Vec<(Bound, Bound)>) -> Option<Self> {
        let zero = |bound: Bound| bound == Bound::Number(0);
        let good = !ranges.is_empty()
            && ranges.len() <= RANGES_MAX
            && !ranges.iter().any(|(first, last)| zero(*first) || zero(*last));
        good.then_some(Self(ranges))
    }

    pub fn ranges(&self) -> &[(Bound, Bound)] {
        &self.0
    }

    /// Whether `*` stands in it. QRESYNC's sets may have none (RFC 7162 §3.2.5).
    pub fn has_star(&self) -> bool {
        self.0.iter().any(|(first, last)| *first == Bound::Star || *last == Bound::Star)
    }

    /// The greatest number that is written in it, apart from `*`.
    pub fn greatest_number(&self) -> Option<u32> {
        let number = |bound: Bound| match bound {
            Bound::Number(number) => Some(number),
            Bound::Star => None,
        };
        self.0.iter().flat_map(|(first, last)| [number(*first), number(*last)]).flatten().max()
    }

    /// The ranges in rising order, merged, with `*` as `max`. `max` is the number of messages, or the greatest UID;
    /// 0 when there is none, and `*` then means nothing. Numbers above `max` stay: the caller decides whether they
    /// are an error (sequence numbers) or nothing (UIDs, RFC 3501 §6.4.8).
    pub fn resolve(&self, max: u32) -> Vec<RangeInclusive<u32>> {
        let mut ranges: Vec<(u32, u32)> = self
            .0
            .iter()
            .map(|(first, last)| (first.resolve(max), last.resolve(max)))
            .map(|(first, last)| (first.min(last).max(1), first.max(last)))
            .filter(|(first, last)| first <= last)
            .collect();
        ranges.sort_unstable();
        let mut merged: Vec<(u32, u32)> = Vec::with_capacity(ranges.len());
        for (first, last) in ranges {
            match merged.last_mut() {
                Some(before) if first <= before.1.saturating_add(1) => before.1 = before.1.max(last),
                Some(_) | None => merged.push((first, last)),
            }
        }
        merged.into_iter().map(|(first, last)| first..=last).collect()
    }

    /// Numbers from 1 to `max` that are in the set, rising, each once.
    pub fn iter(&self, max: u32) -> impl Iterator<Item = u32> {
        self.resolve(max).into_iter().flat_map(move |range| *range.start()..=(*range.end()).min(max))
    }

    /// Whether `number` is in the set. For many questions, `resolve` once instead.
    pub fn contains(&self, number: u32, max: u32) -> bool {
        self.0.iter().any(|(first, last)| {
            let (first, last) = (first.resolve(max), last.resolve(max));
            first.min(last) <= number && number <= first.max(last)
        })
    }

    /// Numbers in the order they are written, `3:1` falling, for sets that are matched position by position
    /// (RFC 7162 §3.2.5.2). At most `limit`, so that `1:4294967295` costs nothing. `*` yields nothing.
    pub fn in_written_order(&self, limit: usize) -> impl Iterator<Item = u32> + '_ {
        let expand = |(first, last): &(Bound, Bound)| -> Box<dyn Iterator<Item = u32>> {
            match (*first, *last) {
                (Bound::Number(first), Bound::Number(last)) if first <= last => Box::new(first..=last),
                (Bound::Number(first), Bound::Number(last)) => Box::new((last..=first).rev()),
                (Bound::Star, _) | (_, Bound::Star) => Box::new(std::iter::empty()),
            }
        };
        self.0.iter().flat_map(expand).take(limit)
    }
}

impl fmt::Display for SequenceSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (first, last)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            if first == last {
                write!(f, "{comma}{first}")?;
            } else {
                write!(f, "{comma}{first}:{last}")?;
            }
        }
        Ok(())
    }
}

fn parse_bound(text: &[u8]) -> Option<Bound> {
    if text == b"*" {
        return Some(Bound::Star);
    }
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number != 0).then_some(Bound::Number(number))
}

/// Joins numbers into runs: `1, 2, 3, 7` are `(1, 3), (7, 7)`. Keeps the order it is given, as COPYUID needs.
pub fn runs(numbers: impl IntoIterator<Item = u32>) -> impl Iterator<Item = (u32, u32)> {
    let mut numbers = numbers.into_iter().peekable();
    std::iter::from_fn(move || {
        let first = numbers.next()?;
        let mut last = first;
        while let Some(next) = numbers.next_if(|next| last.checked_add(1) == Some(*next)) {
            last = next;
        }
        Some((first, last))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(text: &str) -> SequenceSet {
        SequenceSet::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn a_set_resolves_star_and_either_order() {
        // RFC 3501 §9: `2,4:7,9,12:*` with 15 messages.
        let numbers: Vec<u32> = set("2,4:7,9,12:*").iter(15).collect();
        assert_eq!(numbers, [2, 4, 5, 6, 7, 9, 12, 13, 14, 15]);
        // §9: `*:4,5:7` with 10 messages.
        let numbers: Vec<u32> = set("*:4,5:7").iter(10).collect();
        assert_eq!(numbers, [4, 5, 6, 7, 8, 9, 10]);
        // §6.4.8: `559:*` is the last message when UIDs end below 559.
        assert_eq!(set("559:*").resolve(10), [10..=559]);
        assert!(set("559:*").contains(10, 10));
        assert_eq!(set("*").iter(0).count(), 0);
        assert_eq!(set("1:4294967295").iter(3).collect::<Vec<_>>(), [1, 2, 3]);
        assert_eq!(set("1:4294967295,5").resolve(3), [1..=u32::MAX]);
    }

    #[test]
    fn what_is_no_set_is_refused() {
        for bad in
            ["", "0", "1:", ":1", "1,,2", "1,", "1:2:3", "-1", "+1", "4294967296", "a", "1 ", "**", "0:*"]
        {
            assert_eq!(SequenceSet::parse(bad.as_bytes()), Err(SetError::Syntax), "{bad}");
        }
        let many = vec!["1"; RANGES_MAX + 1].join(",");
        assert_eq!(SequenceSet::parse(many.as_bytes()), Err(SetError::TooManyRanges));
    }

    #[test]
    fn numbers_join_into_runs_in_their_order() {
        let joined = |numbers: &[u32]| runs(numbers.iter().copied()).collect::<Vec<_>>();
        assert_eq!(joined(&[1, 2, 3, 7, 5, 6]), [(1, 3), (7, 7), (5, 6)]);
        assert_eq!(joined(&[u32::MAX - 1, u32::MAX]), [(u32::MAX - 1, u32::MAX)]);
        assert_eq!(joined(&[]), []);
    }

    #[test]
    fn a_set_keeps_written_order_for_matching() {
        assert_eq!(set("3:1,7").in_written_order(10).collect::<Vec<_>>(), [3, 2, 1, 7]);
        assert_eq!(set("1:4294967295").in_written_order(2).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(set("3:1,7,*").to_string(), "3:1,7,*");
    }
}
