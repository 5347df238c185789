//! Merging into a tree: blocks are replaced in batches, which sled applies as a whole or, where it
//! fails, in part: then nothing is read from the tree any more until it was cleared.

use std::ops::Bound;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

use super::{Counts, Item, MARK, Tree};
use crate::store::block::Run;
use crate::store::table::{Broken, guarded};

/// Blocks in one sled batch. Batches of more than 1,000 keys cost memory out of all proportion.
const BATCH_BLOCKS: usize = 500;

/// What a batch changes.
#[derive(Default)]
struct Changes {
    batch: sled::Batch,
    blocks: usize,
    taken: Counts,
    put: Counts,
}

impl Tree {
    /// Merges the sorted entries of `run`: then the tree reaches `reach`. `prune` takes dead
    /// entries out of what is written; with `sweep` every block is, not only those that change.
    pub(in crate::store) fn merge(
        &self,
        run: &Run,
        reach: u64,
        sweep: bool,
        prune: impl Fn(&mut Run),
    ) -> Result<(), Broken> {
        guarded(|| {
            self.tree.whole()?;
            let mut changes = Changes::default();
            let mut done = 0;
            // Merges what the run has for the blocks before `after` into the entries of a block.
            let merged = |entries: Run, done: &mut usize, after: Option<&Item>| {
                let count = run.count_below(*done, after.map(|(name, _)| &name[1..]));
                let mut entries = entries.merge(run, *done..*done + count);
                *done += count;
                prune(&mut entries);
                entries
            };
            let mut at = if sweep { Some(self.lowest()) } else { self.covering(run.first())? };
            while let Some(name) = at {
                let old = match self.tree.now().get(&name)? {
                    Some(bytes) => self.take(&(name.as_slice().into(), bytes), &mut changes)?,
                    None => Run::new(self.key_bytes),
                };
                let mut after = self.block_after(&name)?;
                let mut entries = merged(old, &mut done, after.as_ref());
                // A small block takes in the one after it.
                while entries.len() < entries.block_capacity() / 4
                    && let Some(item) = after
                {
                    after = self.block_after(&item.0)?;
                    let more = self.take(&item, &mut changes)?;
                    entries.append(&merged(more, &mut done, after.as_ref()));
                    changes.batch.remove(item.0);
                }
                self.put(name, &entries, reach, &mut changes);
                if changes.blocks >= BATCH_BLOCKS {
                    self.apply(std::mem::take(&mut changes))?;
                }
                at = match after {
                    Some((name, _)) if sweep => Some(name.to_vec()),
                    Some(_) if done < run.len() => self.covering(Some(run.entry(done)))?,
                    _ => None,
                };
            }
            changes.batch.insert(MARK, self.mark(reach));
            self.apply(changes)?;
            self.tree.now().flush()?;
            Ok(())
        })
    }

    /// The name of the block that covers an entry.
    fn covering(&self, entry: Option<&[u8]>) -> Result<Option<Vec<u8>>, Broken> {
        let Some(entry) = entry else { return Ok(None) };
        let name = [b"B", entry].concat();
        let block = self.blocks_down_from(&name).next().transpose()?;
        Ok(Some(block.map_or_else(|| self.lowest(), |(name, _)| name.to_vec())))
    }

    fn block_after(&self, name: &[u8]) -> Result<Option<Item>, Broken> {
        let after = (Bound::Excluded(name), Bound::Excluded(b"C".as_slice()));
        Ok(self.tree.now().range::<&[u8], _>(after).next().transpose()?)
    }

    /// The entries of a block that is to be replaced or removed.
    fn take(&self, item: &Item, changes: &mut Changes) -> Result<Run, Broken> {
        let block = self.read(item)?;
        changes.taken.add(item.0.len() + item.1.len(), block.len());
        Ok(block.to_run())
    }

    /// Writes entries as one block or more, of which the first has the name `name`.
    fn put(&self, name: Vec<u8>, entries: &Run, reach: u64, changes: &mut Changes) {
        let (len, capacity) = (entries.len(), entries.block_capacity());
        let pieces = len.div_ceil(capacity);
        if pieces == 0 {
            changes.batch.remove(name);
            changes.blocks += 1;
            return;
        }
        for i in 0..pieces {
            let range = i * len / pieces..(i + 1) * len / pieces;
            let name = match i {
                0 => name.clone(),
                _ => [b"B", entries.entry(range.start)].concat(),
            };
            let block = entries.write_block(range.clone(), &name, reach);
            changes.put.add(name.len() + block.len(), range.len());
            changes.batch.insert(name, block);
            changes.blocks += 1;
        }
    }

    fn apply(&self, changes: Changes) -> Result<(), Broken> {
        let _change = self.table.change()?;
        let _alone = self.batches.write().unwrap_or_else(PoisonError::into_inner);
        // sled applies a batch to what it has in memory one value after the other, and where it fails
        // half-way it goes on from there.
        self.tree.torn.store(true, Ordering::Release);
        #[cfg(test)]
        self.table.fault().inspect_err(|_| self.remove_a_block())?;
        self.tree.now().apply_batch(changes.batch)?;
        self.tree.torn.store(false, Ordering::Release);
        let counts = self.counts();
        let new = |now: u64, put: u64, taken: u64| (now + put).saturating_sub(taken);
        self.set_counts(Counts {
            entries: new(counts.entries, changes.put.entries, changes.taken.entries),
            blocks: new(counts.blocks, changes.put.blocks, changes.taken.blocks),
            bytes: new(counts.bytes, changes.put.bytes, changes.taken.bytes),
        });
        Ok(())
    }

    /// What a batch may do that fails.
    #[cfg(test)]
    fn remove_a_block(&self) {
        if let Some(Ok((name, _))) = self.blocks_down_from(b"C").next() {
            let _ = self.tree.now().remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;
    use crate::store::table::Table;

    /// Keys this long make blocks of about 30 entries.
    const KEY_BYTES: usize = 128;

    fn key(value: u16) -> Vec<u8> {
        [value.to_be_bytes().as_slice(), &[7; KEY_BYTES - 2]].concat()
    }

    fn run_of(entries: &BTreeSet<(u16, u64)>) -> Run {
        let mut run = Run::new(KEY_BYTES);
        entries.iter().for_each(|(value, number)| run.push(&key(*value), *number));
        run
    }

    fn check(tree: &Tree, reach: u64, expected: &BTreeSet<(u16, u64)>) -> Result<(), Broken> {
        let mut found = Run::new(KEY_BYTES);
        let counts = tree.counts();
        tree.check(reach, |key, number| found.push(key, number))?;
        assert_eq!(found, run_of(expected));
        assert_eq!(tree.counts(), counts, "counted while merging and counted anew");
        let keys: Vec<_> = (0..300).map(key).collect();
        let mut found = BTreeSet::new();
        tree.find(&keys, |i, number| assert!(found.insert((i as u16, number)), "found twice"))?;
        assert_eq!(found, expected.iter().copied().filter(|(value, _)| *value < 300).collect());
        Ok(())
    }

    proptest! {
        #![proptest_config(ProptestConfig {
            cases: 30,
            failure_persistence: None,
            rng_seed: proptest::test_runner::RngSeed::Fixed(3),
            ..ProptestConfig::default()
        })]

        /// Merges against a set, with keys that many entries share, and with waves of deaths, so
        /// that blocks split, shrink, take in their neighbours and vanish.
        #[test]
        fn merging_is_the_union_less_the_dead(
            rounds in prop::collection::vec(
                (prop::collection::vec(0u16..320, 0..200), 0u64..=10, any::<bool>()),
                1..12,
            ),
        ) {
            let run = || -> Result<(), Broken> {
                let dir = tempfile::tempdir().map_err(|error| Broken::Failed(error.to_string()))?;
                let table = Table::open(dir.path()).map_err(|error| Broken::Failed(error.to_string()))?;
                let tree = Tree::open(&table, [1; 16], "codes", KEY_BYTES, &std::sync::Arc::default())?;
                let (mut expected, mut next) = (BTreeSet::new(), 0);
                for (values, dying, sweep) in &rounds {
                    let added: BTreeSet<_> =
                        values.iter().map(|value| value / 40 * 40).zip(next..).collect();
                    next += values.len() as u64;
                    // In most rounds a few die; in some nearly all.
                    let lives = |number: u64| number * 7 % 10 >= *dying || number + 20 > next;
                    tree.merge(&run_of(&added), next, *sweep, |run| {
                        if *sweep { run.retain(lives) }
                    })?;
                    expected.extend(added);
                    expected.retain(|(_, number)| !sweep || lives(*number));
                    assert_eq!(tree.reach()?, Some(next));
                    check(&tree, next, &expected)?;
                }
                tree.clear(&table.change()?)?;
                assert_eq!(tree.reach()?, None);
                check(&tree, 0, &BTreeSet::new())
            };
            prop_assert_eq!(run(), Ok(()));
        }
    }
}
