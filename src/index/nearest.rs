//! Keeps the best of what is offered: at most `limit` neighbours within a radius.
//!
//! The simplest true version sorts everything that was offered and cuts it. This one throws away
//! now and then what can no longer be among the best, and from then on refuses the like: the worst
//! of those kept is a *bound*, and its distance is the radius that a kernel needs to look within.

use super::query::Neighbour;

/// Below this many it is not worth while to throw anything away in the middle of a block.
const ROOM: usize = 1024;

pub(super) struct Nearest {
    limit: usize,
    /// Nothing greater can be among the best.
    bound: Neighbour,
    /// What was offered within the bound; over `limit` of them between two cuts.
    kept: Vec<Neighbour>,
}

impl Nearest {
    /// Nothing yet.
    pub(super) fn new(limit: usize, radius: u32) -> Self {
        let bound = Neighbour { distance: radius, number: u64::MAX };
        Self { limit, bound, kept: Vec::new() }
    }

    /// What lies farther than this from the query need not be offered.
    pub(super) fn radius(&self) -> u32 {
        self.bound.distance
    }

    /// Takes a neighbour, or says false where it is beyond the bound. Nothing may be offered where
    /// the limit is 0.
    pub(super) fn offer(&mut self, neighbour: Neighbour) -> bool {
        if neighbour > self.bound {
            return false;
        }
        self.kept.push(neighbour);
        if self.kept.len() >= self.limit.saturating_mul(2).max(ROOM) {
            self.cut();
        }
        true
    }

    /// Throws away all but the best, which brings the bound down.
    pub(super) fn cut(&mut self) {
        if self.kept.len() >= self.limit.max(1) {
            let (_, worst, _) = self.kept.select_nth_unstable(self.limit - 1);
            self.bound = *worst;
            self.kept.truncate(self.limit);
        }
    }

    /// Whether nothing beyond `radius` can come in, asked after a cut.
    pub(super) fn is_settled_within(&self, radius: u32) -> bool {
        self.bound.distance <= radius
    }

    /// Forgets what was offered, to be offered it again, but not the bound: it still holds.
    pub(super) fn restart(&mut self) {
        self.kept.clear();
    }

    /// The best, nearest first, older before newer at one distance.
    pub(super) fn into_sorted(mut self) -> Vec<Neighbour> {
        self.cut();
        self.kept.sort_unstable();
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::index::tests::fixed;

    proptest! {
        #![proptest_config(fixed(5, 256))]

        #[test]
        fn equals_sort_and_cut(
            distances in proptest::collection::vec(0u32..4, 0..3000),
            limit in 1usize..1500, radius in 0u32..5, every in 1usize..100,
        ) {
            let mut all: Vec<Neighbour> = distances
                .iter()
                .zip(0u64..)
                .map(|(&distance, i)| Neighbour { distance, number: i * 7919 % 3001 })
                .collect();
            let mut nearest = Nearest::new(limit, radius);
            for (i, &neighbour) in all.iter().enumerate() {
                nearest.offer(neighbour);
                if i % every == 0 {
                    nearest.cut();
                }
            }
            all.retain(|neighbour| neighbour.distance <= radius);
            all.sort();
            all.truncate(limit);
            prop_assert_eq!(nearest.into_sorted(), all);
        }
    }
}
