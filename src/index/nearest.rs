//! Keeps the best of what is found: at most `limit` neighbours within a radius.
//!
//! The simplest true version keeps everything, sorts it and cuts it. This one counts what was found
//! at each distance: once `limit` neighbours are nearer than the radius, the radius may shrink, and
//! a kernel need not look so far. Now and then it throws away what cannot be among the best.
//!
//! A neighbour is one number, the distance above the age: they order as neighbours do.

use super::kernel::Found;

/// Below this many it is not worth while to throw anything away.
const ROOM: usize = 4096;

pub(super) struct Nearest {
    bound: Bound,
    /// What was found, and may be among the best.
    kept: Vec<u64>,
}

impl Nearest {
    /// Nothing yet.
    pub(super) fn new(limit: usize, radius: u32) -> Self {
        Self { bound: Bound::new(limit, radius), kept: Vec::new() }
    }

    /// What lies farther than this from the query must not be pushed.
    pub(super) fn radius(&self) -> u32 {
        self.bound.radius
    }

    /// Takes a neighbour; one that is farther than the radius is passed over. There is none to take
    /// where the limit is 0.
    #[inline]
    pub(super) fn push(&mut self, distance: u32, age: u32) {
        if distance > self.radius() {
            return;
        }
        self.kept.push(u64::from(distance) << 32 | u64::from(age));
        self.bound.count(distance);
        if self.kept.len() >= self.bound.limit.saturating_mul(2).max(ROOM) {
            self.cut();
        }
    }

    /// Throws away all but the best.
    fn cut(&mut self) {
        let limit = self.bound.limit;
        if self.kept.len() > limit {
            self.kept.select_nth_unstable(limit);
            self.kept.truncate(limit);
        }
    }

    /// Forgets what was found, to find it again, but not the radius: it still holds.
    pub(super) fn restart(&mut self) {
        self.kept.clear();
        self.bound.restart();
    }

    /// The best, as distance and age: nearest first, older before newer at one distance.
    pub(super) fn into_sorted(mut self) -> impl Iterator<Item = (u32, u32)> {
        self.kept.retain(|&key| (key >> 32) as u32 <= self.bound.radius);
        self.cut();
        self.kept.sort_unstable();
        self.kept.into_iter().map(|key| ((key >> 32) as u32, key as u32))
    }
}

/// Rows among which the best are, where it is known that each has a record or more, and few have
/// several: most rows that look near at first are not in the end, so nobody need ask for theirs.
///
/// To ask for the records of a row is to wait for the memory. Among uniform codes, where a search
/// for 100 has 1,700 rows before it that were near so far, this took a tenth of its time.
pub(super) struct Rows {
    bound: Bound,
    kept: Vec<Found>,
    /// Once there are so many, those that are too far by now are thrown away.
    room: usize,
}

impl Rows {
    /// Nothing yet.
    pub(super) fn new(limit: usize, radius: u32) -> Self {
        Self { bound: Bound::new(limit, radius), kept: Vec::new(), room: ROOM }
    }

    /// What lies farther than this from the query need not be pushed.
    pub(super) fn radius(&self) -> u32 {
        self.bound.radius
    }

    /// Takes a row; one that is farther than the radius is passed over.
    #[inline]
    pub(super) fn push(&mut self, found: Found) {
        if found.distance > self.bound.radius {
            return;
        }
        self.kept.push(found);
        self.bound.count(found.distance);
        if self.kept.len() >= self.room {
            self.kept.retain(|found| found.distance <= self.bound.radius);
            self.room = ROOM.max(2 * self.kept.len());
        }
    }

    /// Forgets the rows, to find them again, but not the radius.
    pub(super) fn restart(&mut self) {
        self.kept.clear();
        self.bound.restart();
    }

    /// All rows within the radius: `limit` or more where so many were pushed.
    pub(super) fn into_near(mut self) -> Vec<Found> {
        self.kept.retain(|found| found.distance <= self.bound.radius);
        self.kept
    }
}

/// How far away the last of the best can be.
struct Bound {
    limit: usize,
    /// Nothing farther can be among the best.
    radius: u32,
    /// How many were found at each distance up to the first radius; empty where there is no limit.
    counts: Vec<u32>,
    /// How many were found below the radius; fewer than `limit`.
    nearer: usize,
}

impl Bound {
    fn new(limit: usize, radius: u32) -> Self {
        let counts = if limit == usize::MAX { 0 } else { radius as usize + 1 };
        Self { limit, radius, counts: vec![0; counts], nearer: 0 }
    }

    /// Counts what was found within the radius.
    #[inline]
    fn count(&mut self, distance: u32) {
        if self.counts.is_empty() {
            return;
        }
        self.counts[distance as usize] += 1;
        if distance < self.radius {
            self.nearer += 1;
            while self.nearer >= self.limit {
                self.radius -= 1;
                self.nearer -= self.counts[self.radius as usize] as usize;
            }
        }
    }

    fn restart(&mut self) {
        self.counts.fill(0);
        self.nearer = 0;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::tests::fixed;

    proptest! {
        #![proptest_config(fixed(5, 128))]

        #[test]
        fn equals_sort_and_cut(
            distances in proptest::collection::vec(0u32..4, 0..9000),
            limit in 1usize..1500, radius in 0u32..5, again in 0usize..9000,
        ) {
            let age = |i: usize| (i as u32).wrapping_mul(7919) % 9001;
            let all = || distances.iter().enumerate().map(|(i, &distance)| (distance, age(i)));
            let mut best: Vec<(u32, u32)> =
                all().filter(|&(distance, _)| distance <= radius).collect();
            best.sort();
            best.truncate(limit);

            let mut nearest = Nearest::new(limit, radius);
            let mut rows = Rows::new(limit, radius);
            let found = |(distance, row)| Found { row, distance };
            for (i, (distance, age)) in all().enumerate() {
                nearest.push(distance, age);
                rows.push(found((distance, age)));
                prop_assert!(nearest.bound.nearer < limit);
                if i + 1 == again {
                    nearest.restart();
                    rows.restart();
                    all().take(again).for_each(|(distance, age)| nearest.push(distance, age));
                    all().take(again).for_each(|row| rows.push(found(row)));
                }
            }
            if best.len() == limit {
                prop_assert_eq!(nearest.radius(), best[limit - 1].0);
            }
            prop_assert_eq!(rows.radius(), nearest.radius());
            let radius = rows.radius();
            let near = all().filter(|&(distance, _)| distance <= radius);
            prop_assert_eq!(rows.into_near(), near.map(found).collect::<Vec<_>>());
            prop_assert_eq!(nearest.into_sorted().collect::<Vec<_>>(), best);
        }
    }
}
