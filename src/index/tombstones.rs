//! Which rows are dead: a bitmap in chunks that snapshots share.
//!
//! A reader's snapshot must not change under it, so a chunk in which a row dies is copied, once a
//! group; all other chunks, and all where nothing is dead, cost nothing.

use std::sync::Arc;

/// Rows a chunk: 4 KiB of bits.
const CHUNK: usize = 32 * 1024;
type Chunk = [u64; CHUNK / 64];

/// A set of rows that died. A clone shares all chunks with the original.
#[derive(Clone, Default)]
pub(super) struct Tombstones {
    /// None where no row of the chunk is dead; chunks beyond the last are such chunks too.
    chunks: Vec<Option<Arc<Chunk>>>,
    count: usize,
}

impl Tombstones {
    /// The number of dead rows.
    pub(super) fn count(&self) -> usize {
        self.count
    }

    /// Whether `row` is dead.
    #[inline]
    pub(super) fn contains(&self, row: usize) -> bool {
        match self.chunks.get(row / CHUNK) {
            Some(Some(chunk)) => chunk[row % CHUNK / 64] >> (row % 64) & 1 == 1,
            _ => false,
        }
    }

    /// Buries `row`; it may be dead already.
    pub(super) fn insert(&mut self, row: usize) {
        if self.contains(row) {
            return;
        }
        if self.chunks.len() <= row / CHUNK {
            self.chunks.resize(row / CHUNK + 1, None);
        }
        let chunk = self.chunks[row / CHUNK].get_or_insert_with(|| Arc::new([0; CHUNK / 64]));
        Arc::make_mut(chunk)[row % CHUNK / 64] |= 1 << (row % 64);
        self.count += 1;
    }

    /// The bytes held.
    pub(super) fn memory(&self) -> usize {
        self.chunks.iter().flatten().count() * size_of::<Chunk>()
            + self.chunks.capacity() * size_of::<Option<Arc<Chunk>>>()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::index::tests::fixed;

    proptest! {
        #![proptest_config(fixed(3, 64))]

        #[test]
        fn is_a_set_and_a_clone_stays_as_it_was(
            rows in proptest::collection::vec(0usize..3 * CHUNK, 0..200), at in 0usize..200,
        ) {
            let (early, late) = rows.split_at(at.min(rows.len()));
            let mut dead = Tombstones::default();
            early.iter().for_each(|&row| dead.insert(row));
            let before = dead.clone();
            late.iter().for_each(|&row| dead.insert(row));

            for (dead, rows) in [(before, early), (dead, &rows[..])] {
                let expected: BTreeSet<usize> = rows.iter().copied().collect();
                let got: BTreeSet<usize> = (0..4 * CHUNK).filter(|&row| dead.contains(row)).collect();
                prop_assert_eq!(dead.count(), expected.len());
                prop_assert_eq!(got, expected);
            }
        }
    }
}
