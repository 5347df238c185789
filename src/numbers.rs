//! A set of record numbers, compressed: which records a search may find.
//!
//! Numbers are given in ascending order, so the sets that conditions on records make are dense in
//! places and empty in others. Roaring bitmaps (Chambi, Lemire, Kaser, Godin: *Better bitmap
//! performance with Roaring bitmaps*, 2016) hold both kinds in few bytes.

use std::fmt;
use std::ops::{BitAndAssign, BitOrAssign, Range, SubAssign};

use roaring::bitmap::Iter;
use roaring::{MultiOps, RoaringTreemap};

/// A set of record numbers.
///
/// ```
/// use nearbit::numbers::Numbers;
///
/// let mut spring: Numbers = [3, 4, 5].into_iter().collect();
/// spring &= &[4, 5, 6].into_iter().collect();
/// assert!(spring.contains(4) && !spring.contains(3));
/// assert_eq!(spring.iter().collect::<Vec<_>>(), [4, 5]);
/// ```
#[derive(Clone, PartialEq, Default)]
pub struct Numbers(RoaringTreemap);

impl Numbers {
    /// No number.
    pub fn new() -> Self {
        Self::default()
    }

    /// What is in one of some sets, or in more.
    pub fn union<'a>(sets: impl IntoIterator<Item = &'a Numbers>) -> Self {
        Self(sets.into_iter().map(|set| &set.0).union())
    }

    /// Adds a number; says whether it is new.
    pub fn insert(&mut self, number: u64) -> bool {
        self.0.insert(number)
    }

    /// Adds every number of a range.
    pub fn insert_range(&mut self, range: Range<u64>) {
        self.0.insert_range(range);
    }

    /// Takes every number of a range out.
    pub fn remove_range(&mut self, range: Range<u64>) {
        self.0.remove_range(range);
    }

    /// Takes a number out; says whether it was there.
    pub fn remove(&mut self, number: u64) -> bool {
        self.0.remove(number)
    }

    /// Whether the number is in the set.
    pub fn contains(&self, number: u64) -> bool {
        self.0.contains(number)
    }

    /// How many numbers there are.
    pub fn len(&self) -> u64 {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers, ascending.
    pub fn iter(&self) -> impl Iterator<Item = u64> + '_ {
        let mut bitmaps = self.0.bitmaps().map(|(high, low)| {
            (u64::from(high) << 32, low.iter(), low.statistics().n_run_containers > 0)
        });
        let mut bitmap = bitmaps.next();
        // Many at a time take half as long as one by one.
        let (mut some, mut next, mut end) = ([0; 256], 0, 0);
        std::iter::from_fn(move || {
            while next == end {
                let (_, low, has_runs) = bitmap.as_mut()?;
                (next, end) = (0, next_of(low, *has_runs, &mut some));
                if end == 0 {
                    bitmap = bitmaps.next();
                }
            }
            next += 1;
            Some(bitmap.as_ref()?.0 | u64::from(some[next - 1]))
        })
    }
}

/// The next numbers into `some`; how many they are. A call of its own, or the loop over them would be
/// too long to be inlined where each is asked for.
#[inline(never)]
fn next_of(numbers: &mut Iter, has_runs: bool, some: &mut [u32; 256]) -> usize {
    if !has_runs {
        return numbers.next_many(some).len();
    }
    // In roaring 0.12.0 `next_many` passes over a run of 65,536 numbers.
    some.iter_mut().zip(numbers).map(|(place, number)| *place = number).count()
}

impl From<Range<u64>> for Numbers {
    fn from(range: Range<u64>) -> Self {
        let mut numbers = Self::new();
        numbers.insert_range(range);
        numbers
    }
}

impl FromIterator<u64> for Numbers {
    /// Quickest where the numbers ascend.
    fn from_iter<I: IntoIterator<Item = u64>>(numbers: I) -> Self {
        Self(numbers.into_iter().collect())
    }
}

impl BitAndAssign<&Numbers> for Numbers {
    /// Keeps what is in both.
    fn bitand_assign(&mut self, other: &Numbers) {
        self.0 &= &other.0;
    }
}

impl BitOrAssign<&Numbers> for Numbers {
    /// Adds what is in the other.
    fn bitor_assign(&mut self, other: &Numbers) {
        self.0 |= &other.0;
    }
}

impl SubAssign<&Numbers> for Numbers {
    /// Takes out what is in the other.
    fn sub_assign(&mut self, other: &Numbers) {
        self.0 -= &other.0;
    }
}

impl fmt::Debug for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Numbers({} of them)", self.len())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// So do those that are made of others.
    #[test]
    fn sets_of_whole_blocks_unite_intersect_and_differ() {
        const BLOCK: u64 = 1 << 16;
        let sets: [BTreeSet<u64>; 5] = [
            (0..3 * BLOCK + 7).collect(),
            (5..2 * BLOCK).collect(),
            (BLOCK..2 * BLOCK).collect(),
            (0..3 * BLOCK).step_by(3).collect(),
            (0..3 * BLOCK).step_by(1000).collect(),
        ];
        // As a range where it is one, and of single numbers.
        let made = |set: &BTreeSet<u64>| {
            let range = set.first().copied().unwrap_or(0)..set.last().map_or(0, |last| last + 1);
            match set.len() as u64 == range.end - range.start {
                true => Numbers::from(range),
                false => set.iter().copied().collect(),
            }
        };
        for a in &sets {
            for b in &sets {
                let other = made(b);
                let mut all: [Numbers; 3] = std::array::from_fn(|_| made(a));
                all[0] &= &other;
                all[1] |= &other;
                all[2] -= &other;
                assert!(all[0].iter().eq(a.intersection(b).copied()));
                assert!(all[1].iter().eq(a.union(b).copied()));
                assert!(all[2].iter().eq(a.difference(b).copied()));
                assert!(Numbers::union([&made(a), &other]).iter().eq(a.union(b).copied()));
            }
        }
    }

    /// Sets of ranges and of single numbers, as they are and less some, against a plain list.
    #[test]
    fn all_numbers_come_back_in_order_however_they_came_in() {
        const BLOCK: u64 = 1 << 16;
        let ranges = [0..BLOCK, 0..3 * BLOCK + 7, 5..2 * BLOCK, BLOCK - 1..BLOCK + 1, 0..0];
        let highs = [0, 9 * BLOCK, 7 << 32, (1 << 32) - BLOCK];
        let singles = [0, 1, BLOCK - 1, BLOCK, 2 * BLOCK, 10 * BLOCK + 5, (7 << 32) + 3, u64::MAX];
        for range in &ranges {
            for high in highs {
                let range = range.start + high..range.end + high;
                let set = Numbers::from(range.clone());
                assert!(set.iter().eq(range.clone()), "{range:?}");
                let mut with: BTreeSet<u64> = range.clone().collect();
                let (mut set_with, mut less) = (set.clone(), set);
                for single in singles {
                    with.insert(single);
                    set_with.insert(single);
                    less.remove(single);
                }
                assert!(set_with.iter().eq(with.iter().copied()), "{range:?} and single ones");
                let left = range.clone().filter(|number| !singles.contains(number));
                assert!(less.iter().eq(left), "{range:?} less single ones");
            }
        }
    }

    #[test]
    fn all_numbers_come_back_in_order_however_many_and_high() {
        let numbers = (0..70_000).chain((0..300).map(|i| 3 * i + (7 << 32)));
        let numbers: Vec<u64> = numbers.chain([u64::MAX]).collect();
        let set: Numbers = numbers.iter().copied().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), numbers);
        assert_eq!(Numbers::new().iter().count(), 0);
    }
}
