//! The k best of a stream of scored rows.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A row and its score. The order is that of answers: higher scores first, then lower rows, so
/// that the "greatest" is the worst and stands on top of a heap.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Scored {
    score: f64,
    row: u32,
}

impl Eq for Scored {}

impl Ord for Scored {
    fn cmp(&self, other: &Self) -> Ordering {
        other.score.total_cmp(&self.score).then(self.row.cmp(&other.row))
    }
}

impl PartialOrd for Scored {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Keeps the `k` best rows of those that are pushed, in whatever order they come.
pub(super) struct Best {
    k: usize,
    /// The worst of the kept on top.
    heap: BinaryHeap<Scored>,
}

impl Best {
    pub(super) fn new(k: usize) -> Self {
        Self { k, heap: BinaryHeap::with_capacity(k) }
    }

    /// The score below which a row has no chance any more.
    pub(super) fn floor(&self) -> f64 {
        match self.heap.peek() {
            Some(worst) if self.heap.len() == self.k => worst.score,
            _ => f64::NEG_INFINITY,
        }
    }

    pub(super) fn push(&mut self, score: f64, row: u32) {
        // -0.0 would stand behind 0.0.
        let scored = Scored { score: score + 0.0, row };
        if self.heap.len() < self.k {
            self.heap.push(scored);
        } else if let Some(mut worst) = self.heap.peek_mut()
            && scored < *worst
        {
            *worst = scored;
        }
    }

    /// The kept rows, best first.
    pub(super) fn into_rows(self) -> Vec<u32> {
        self.heap.into_sorted_vec().into_iter().map(|scored| scored.row).collect()
    }
}
