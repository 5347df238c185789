//! A tree of the table: sorted (key, number) entries in blocks, a block a sled value.
//!
//! A block's name is `B` and an entry (key, number), and it covers the entries from there up to
//! the name of the next block; below the first name there is nothing. One more value, `M`, tells
//! what the tree is: the collection, and the reach: entries of all records below that number have
//! been merged into it. It is written last, so a merge that was interrupted shows: blocks that
//! reach further than the tree. A tree whose store was closed without its codes in memory has a
//! value `S` too, which `closed.rs` compares.
//!
//! What changes it replaces blocks in batches (`merge`). A look-up may need two neighbouring blocks, so
//! it and a batch exclude one another by a lock.

mod merge;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard};

use super::block::Block;
use super::table::{Broken, Change, Handle, Table, guarded};
use super::wire::Reader;

/// In version 1 a hash of an id had eight bytes.
const TREE_VERSION: u8 = 2;
const MARK: &[u8] = b"M";
const STAMP: &[u8] = b"S";
const PROBE: &[u8] = b"P";

/// What a tree holds, counted.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Counts {
    pub(super) entries: u64,
    pub(super) blocks: u64,
    pub(super) bytes: u64,
}

impl Counts {
    fn add(&mut self, bytes: usize, entries: usize) {
        self.entries += entries as u64;
        self.blocks += 1;
        self.bytes += bytes as u64;
    }
}

/// One sorted map from keys to numbers.
#[derive(Debug)]
pub(super) struct Tree {
    tree: Arc<Handle>,
    table: Table,
    collection: [u8; 16],
    key_bytes: usize,
    counts: Mutex<Counts>,
    /// Held to read by look-ups and to write while a batch is applied.
    batches: RwLock<()>,
    /// Set while the trees of the collection are filled from the beginning, and for good where that
    /// fails: nothing is found then.
    filling: Arc<AtomicBool>,
}

/// A name and a block.
pub(super) type Item = (sled::IVec, sled::IVec);

impl Tree {
    /// The tree `kind` of a collection, whose keys have `key_bytes` bytes.
    pub(super) fn open(
        table: &Table,
        collection: [u8; 16],
        kind: &str,
        key_bytes: usize,
        filling: &Arc<AtomicBool>,
    ) -> Result<Self, Broken> {
        let (tree, table) = (table.tree(collection, kind)?, table.clone());
        let (counts, batches, filling) = (Mutex::default(), RwLock::default(), Arc::clone(filling));
        Ok(Self { tree, table, collection, key_bytes, counts, batches, filling })
    }

    /// How far the tree reaches, as it says; `None` where nothing was merged yet.
    pub(super) fn reach(&self) -> Result<Option<u64>, Broken> {
        let Some(mark) = guarded(|| Ok(self.tree.now().get(MARK)?))? else { return Ok(None) };
        let read = |mut reader: Reader| {
            let (crc, body) = (reader.u32()?, reader.0);
            let (reach, version) = (reader.u64()?, reader.u8()?);
            let is_ours = crc == crc32c::crc32c(body) && body.ends_with(&self.collection);
            match version {
                ..TREE_VERSION if is_ours => Some(Err(Broken::Old)),
                _ => (mark == self.mark(reach)).then_some(Ok(Some(reach))),
            }
        };
        read(Reader(&mark)).unwrap_or_else(|| {
            let reason = "it is of a newer version or another collection, or damaged";
            Err(Broken::Failed(reason.to_owned()))
        })
    }

    /// The value of `M`.
    fn mark(&self, reach: u64) -> Vec<u8> {
        let mut mark = vec![0; 4];
        mark.extend_from_slice(&reach.to_le_bytes());
        mark.extend_from_slice(&[TREE_VERSION, self.key_bytes as u8]);
        mark.extend_from_slice(&self.collection);
        let crc = crc32c::crc32c(&mark[4..]);
        mark[..4].copy_from_slice(&crc.to_le_bytes());
        mark
    }

    /// What it holds.
    pub(super) fn counts(&self) -> Counts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes of an entry in memory, which are more than it takes in a block.
    pub(super) fn entry_bytes(&self) -> u64 {
        self.key_bytes as u64 + 8
    }

    /// Notes what it holds.
    pub(super) fn set_counts(&self, counts: Counts) {
        self.tree.bytes.store(counts.bytes, Ordering::Relaxed);
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
    }

    /// The stamp that it was given last, if it was not cleared since.
    pub(super) fn stamp(&self) -> Result<Option<[u8; 16]>, Broken> {
        guarded(|| Ok(self.tree.now().get(STAMP)?.and_then(|stamp| stamp.as_ref().try_into().ok())))
    }

    /// Gives it a stamp.
    pub(super) fn set_stamp(&self, stamp: &[u8; 16]) -> Result<(), Broken> {
        let _change = self.table.change()?;
        guarded(|| {
            let tree = self.tree.now();
            tree.insert(STAMP, stamp)?;
            tree.flush()?;
            Ok(())
        })
    }

    /// The name of the block that begins with this entry.
    fn name(&self, key: &[u8], number: u64) -> Vec<u8> {
        [b"B", key, &number.to_be_bytes()].concat()
    }

    /// The name before which no block can stand.
    pub(super) fn lowest(&self) -> Vec<u8> {
        self.name(&vec![0; self.key_bytes], 0)
    }

    /// The blocks that may hold entries up to `name`, the last first.
    fn blocks_down_from<'a>(
        &self,
        name: &'a [u8],
    ) -> impl Iterator<Item = Result<Item, Broken>> + use<'a> {
        self.tree.now().range(b"B".as_slice()..=name).rev().map(|item| Ok(item?))
    }

    fn read<'a>(&self, (name, bytes): &'a Item) -> Result<Block<'a>, Broken> {
        Block::read(name, bytes, self.key_bytes).map_err(Broken::Failed)
    }

    /// Held by look-ups; fails where there is nothing to be found.
    fn quiet(&self) -> Result<RwLockReadGuard<'_, ()>, Broken> {
        let quiet = self.batches.read().unwrap_or_else(PoisonError::into_inner);
        if self.filling.load(Ordering::Acquire) {
            return Err(Broken::Filling);
        }
        self.tree.whole().map(|()| quiet)
    }

    /// Finds the entries of many keys: `each` gets the index of the key, and a number. Quick where
    /// the keys are sorted, as neighbours share a block.
    pub(super) fn find<K: AsRef<[u8]>>(
        &self,
        keys: &[K],
        mut each: impl FnMut(usize, u64),
    ) -> Result<(), Broken> {
        guarded(|| {
            let _quiet = self.quiet()?;
            let mut last: Option<Item> = None;
            for (i, key) in keys.iter().map(AsRef::as_ref).enumerate() {
                let (low, high) = (self.name(key, 0), self.name(key, u64::MAX));
                if let Some(item) = last.as_ref().filter(|(name, _)| **name <= *low) {
                    // Checked when it was fetched.
                    let block =
                        Block::read_again(&item.1, self.key_bytes).map_err(Broken::Failed)?;
                    if block.last_key().is_some_and(|last| key < last) {
                        block.find(key, |number| each(i, number));
                        continue;
                    }
                }
                for item in self.blocks_down_from(&high) {
                    let item = item?;
                    self.read(&item)?.find(key, |number| each(i, number));
                    let reached = *item.0 <= *low;
                    last = Some(item);
                    if reached {
                        break;
                    }
                }
            }
            Ok(())
        })
    }

    /// Gives every block in order to `each`.
    pub(super) fn each_block(
        &self,
        mut each: impl FnMut(&Item, Block) -> Result<(), Broken>,
    ) -> Result<(), Broken> {
        guarded(|| {
            let _quiet = self.quiet()?;
            for item in self.tree.now().range(b"B".as_slice()..b"C".as_slice()) {
                let item = item?;
                each(&item, self.read(&item)?)?;
            }
            Ok(())
        })
    }

    /// Gives the entries from the name `from` on to `each`, of at most so many blocks; the name to
    /// go on from. What was in the tree when the first block was read is given once, whatever is
    /// merged between two calls.
    pub(super) fn some_blocks(
        &self,
        from: &[u8],
        blocks: usize,
        mut each: impl FnMut(Block),
    ) -> Result<Option<Vec<u8>>, Broken> {
        guarded(|| {
            let _quiet = self.quiet()?;
            let covering = self.blocks_down_from(from).next().transpose()?;
            let start = covering.as_ref().map_or(from, |(name, _)| name);
            for (i, item) in self.tree.now().range(start..b"C".as_slice()).enumerate() {
                let item = item?;
                if i == blocks {
                    return Ok(Some(item.0.to_vec()));
                }
                // A block may have taken in the one that is to be gone on from.
                let block = self.read(&item)?;
                each(if i == 0 { block.from(&from[1..]) } else { block });
            }
            Ok(None)
        })
    }

    /// Gives every entry in order to `each`, and counts the tree anew.
    ///
    /// # Errors
    /// A block that is damaged, overlaps another, or reaches beyond `reach`.
    pub(super) fn check(&self, reach: u64, mut each: impl FnMut(&[u8], u64)) -> Result<(), Broken> {
        let mut counts = Counts::default();
        let mut last = Vec::new();
        self.each_block(|item, block| {
            if block.reach > reach {
                return Err(Broken::Failed("a merge into it was interrupted".to_owned()));
            }
            if *item.0 <= *last {
                return Err(Broken::Failed("two of its blocks overlap".to_owned()));
            }
            counts.add(item.0.len() + item.1.len(), block.len());
            if let Some((key, number)) =
                block.iter().inspect(|(key, number)| each(key, *number)).last()
            {
                last = self.name(key, number);
            }
            Ok(())
        })?;
        self.set_counts(counts);
        Ok(())
    }

    /// Forgets everything.
    pub(super) fn clear(&self, _change: &Change) -> Result<(), Broken> {
        guarded(|| {
            let _alone = self.batches.write().unwrap_or_else(PoisonError::into_inner);
            #[cfg(test)]
            self.table.fault()?;
            let tree = self.tree.now();
            // The mark first: a tree that is half cleared is then one that was never filled.
            tree.remove(MARK)?;
            tree.clear()?;
            // sled says that it cannot write when it has to, and not before.
            tree.insert(PROBE, b"")?;
            tree.remove(PROBE)?;
            tree.flush()?;
            self.tree.torn.store(false, Ordering::Release);
            self.set_counts(Counts::default());
            Ok(())
        })
    }
}
