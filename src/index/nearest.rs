//! Keeps the best of what is found: at most `limit` neighbours within a radius.
//!
//! The simplest true version keeps everything, sorts it and cuts it. This one throws away now and
//! then what can no longer be among the best. The farthest of those kept then gives the radius that
//! a kernel still needs to look within, which falls fast.

use super::query::Neighbour;

/// Below this many it is not worth while to throw anything away in the middle of a block.
const ROOM: usize = 1024;

pub(super) struct Nearest {
    limit: usize,
    /// Nothing farther can be among the best.
    radius: u32,
    /// Whether anything was thrown away yet.
    is_cut: bool,
    /// What was found; over `limit` of them between two cuts.
    kept: Vec<Neighbour>,
}

impl Nearest {
    /// Nothing yet.
    pub(super) fn new(limit: usize, radius: u32) -> Self {
        Self { limit, radius, is_cut: false, kept: Vec::new() }
    }

    /// What lies farther than this from the query must not be pushed.
    pub(super) fn radius(&self) -> u32 {
        self.radius
    }

    /// Takes a neighbour within the radius; there is none to take where the limit is 0.
    ///
    /// Whether it is older than those at the same distance shows at the next cut: to ask here would
    /// be to wait until its number has come from memory, and costs more than to keep it so long.
    #[inline]
    pub(super) fn push(&mut self, neighbour: Neighbour) {
        self.kept.push(neighbour);
        if self.kept.len() >= self.limit.saturating_mul(2).max(ROOM) {
            self.cut();
        }
    }

    /// Throws away all but the best, which brings the radius down.
    pub(super) fn cut(&mut self) {
        if self.kept.len() >= self.limit.max(1) {
            let (_, worst, _) = self.kept.select_nth_unstable(self.limit - 1);
            self.radius = worst.distance;
            self.kept.truncate(self.limit);
            self.is_cut = true;
        }
    }

    /// Does so where enough has come since the last cut that the radius may have come down.
    pub(super) fn settle(&mut self) {
        // Before the first cut there is no radius to speak of.
        let more = if self.is_cut { self.limit / 4 } else { 0 };
        if self.kept.len() > self.limit.saturating_add(more) {
            self.cut();
        }
    }

    /// Forgets what was found, to find it again, but not the radius: it still holds.
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
                if neighbour.distance <= nearest.radius() {
                    nearest.push(neighbour);
                }
                if i % every == 0 {
                    nearest.cut();
                } else if i % 3 == 0 {
                    nearest.settle();
                }
            }
            all.retain(|neighbour| neighbour.distance <= radius);
            all.sort();
            all.truncate(limit);
            prop_assert_eq!(nearest.into_sorted(), all);
        }
    }
}
