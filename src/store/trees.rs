//! The two trees of a collection, and whether they hold what the segments hold.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::block::{BLOCK_BYTES, Run};
use super::hash::{HASH_BYTES, hash_key};
use super::recent::Recent;
use super::segment::Segments;
use super::table::{Broken, Change, Table};
use super::tree::{Counts, Tree};
use crate::code::Width;

/// The room that a merge needs beside the blocks, for sled's segments.
const SPARE_ROOM: u64 = 2 << 20;

/// The two trees of a collection.
#[derive(Debug)]
pub(super) struct Trees {
    /// From the hash of an id to record numbers.
    pub(super) ids: Tree,
    /// From a code to record numbers.
    pub(super) codes: Tree,
    /// Set when sled does not even forget: everything stays in memory then, until a checkpoint finds
    /// that it works again.
    pub(super) given_up: AtomicBool,
    /// While it is set nothing is found in them: they are filled from the beginning.
    filling: Arc<AtomicBool>,
}

impl Trees {
    pub(super) fn open(table: &Table, collection: [u8; 16], width: Width) -> Result<Self, Broken> {
        let filling = Arc::default();
        Ok(Self {
            ids: Tree::open(table, collection, "ids", HASH_BYTES, &filling)?,
            codes: Tree::open(table, collection, "codes", width.bytes(), &filling)?,
            given_up: AtomicBool::new(false),
            filling,
        })
    }

    /// Finds the records whose id has one of the hashes, which are quick to find in order: `each`
    /// gets the index of the hash, and a number.
    pub(super) fn find_ids(
        &self,
        hashes: &[u64],
        each: impl FnMut(usize, u64),
    ) -> Result<(), Broken> {
        if self.given_up() {
            return Ok(());
        }
        let keys: Vec<_> = hashes.iter().map(|hash| hash_key(*hash)).collect();
        self.ids.find(&keys, each)
    }

    /// The bytes of all blocks.
    pub(super) fn bytes(&self) -> u64 {
        self.ids.counts().bytes + self.codes.counts().bytes
    }

    /// What each holds.
    pub(super) fn counts(&self) -> [Counts; 2] {
        [self.ids.counts(), self.codes.counts()]
    }

    /// Notes what each holds, which nobody counted.
    pub(super) fn set_counts(&self, [ids, codes]: [Counts; 2]) {
        self.ids.set_counts(ids);
        self.codes.set_counts(codes);
    }

    /// How far both reach, as they say.
    pub(super) fn reach(&self) -> Result<u64, Broken> {
        self.reaches().map(|[ids, codes]| ids.min(codes))
    }

    /// The stamp of each.
    pub(super) fn stamps(&self) -> Result<[Option<[u8; 16]>; 2], Broken> {
        Ok([self.ids.stamp()?, self.codes.stamp()?])
    }

    /// Gives both a stamp.
    pub(super) fn set_stamp(&self, stamp: &[u8; 16]) -> Result<(), Broken> {
        self.ids.set_stamp(stamp)?;
        self.codes.set_stamp(stamp)
    }

    /// The bytes that a merge of `recent` may write: sled writes some nodes more than once.
    pub(super) fn merge_bytes(&self, recent: u64, sweep: bool) -> u64 {
        let bytes = |tree: &Tree| {
            let blocks = tree.counts().blocks;
            let changed = if sweep { blocks } else { blocks.min(recent) };
            changed * BLOCK_BYTES as u64 + recent * tree.entry_bytes()
        };
        2 * (bytes(&self.ids) + bytes(&self.codes)) + SPARE_ROOM
    }

    /// Whether everything stays in memory.
    pub(super) fn given_up(&self) -> bool {
        self.given_up.load(Ordering::Acquire)
    }

    /// Sets whether they are being filled from the beginning.
    pub(super) fn set_filling(&self, filling: bool) {
        self.filling.store(filling, Ordering::Release);
    }

    /// Forgets everything.
    pub(super) fn clear(&self, change: &Change) -> Result<(), Broken> {
        self.ids.clear(change)?;
        self.codes.clear(change)
    }

    /// How far each reaches, as it says.
    pub(super) fn reaches(&self) -> Result<[u64; 2], Broken> {
        Ok([self.ids.reach()?.unwrap_or(0), self.codes.reach()?.unwrap_or(0)])
    }

    /// How far both trees reach, if what they hold below their `reaches` is what is `expected` there.
    ///
    /// Dead entries may still be in a tree. The others are compared by their count and by a sum of
    /// fingerprints, which needs no order.
    pub(super) fn check(
        &self,
        reaches: [u64; 2],
        expected: [Sum; 2],
        segments: &Segments,
    ) -> Result<u64, Broken> {
        for ((tree, reach), expected) in
            [&self.ids, &self.codes].into_iter().zip(reaches).zip(expected)
        {
            check_tree(tree, segments, reach, expected)?;
        }
        Ok(reaches[0].min(reaches[1]))
    }

    /// How far they reach, as a check found, or that they are empty now.
    pub(super) fn or_emptied(
        &self,
        checked: Result<u64, Broken>,
        table: &Table,
        dir: &Path,
    ) -> crate::Result<u64> {
        checked.or_else(|reason| {
            tracing::warn!(
                collection = %dir.display(), %reason,
                "the table does not agree with the segments; it is filled again from them"
            );
            self.empty(table).map(|()| 0)
        })
    }

    /// Forgets everything, also where sled is too damaged for that: then the table is written anew.
    pub(super) fn empty(&self, table: &Table) -> crate::Result<()> {
        let clear = || table.change().and_then(|change| self.clear(&change));
        if clear().is_err() {
            table.renew(|| Ok(true), || Ok(()))?;
            clear().map_err(|broken| table.error(broken))?;
        }
        self.given_up.store(false, Ordering::Release);
        Ok(())
    }

    /// Merges what is in memory into both.
    pub(super) fn merge(
        &self,
        recent: &Recent,
        reach: u64,
        sweep: bool,
        prune: impl Fn(&mut Run),
    ) -> Result<(), Broken> {
        self.ids.merge(&recent.id_run(), reach, sweep, &prune)?;
        self.codes.merge(&recent.code_run(), reach, sweep, prune)
    }
}

/// Fails where the live entries of `tree` do not sum up to what is expected.
fn check_tree(tree: &Tree, segments: &Segments, reach: u64, expected: Sum) -> Result<(), Broken> {
    if reach > segments.next() {
        let next = segments.next();
        return Err(Broken::Failed(format!("it reaches record {reach}, the segments {next}")));
    }
    let mut found = Sum::default();
    tree.check(reach, |key, number| {
        if number >= reach || segments.is_live(number) {
            found = found.add(key, number);
        }
    })?;
    if found != expected {
        let (found, expected) = (found.entries, expected.entries);
        return Err(Broken::Failed(format!(
            "below record {reach} it holds {found} live entries and the segments {expected}, or \
             they are not the same"
        )));
    }
    Ok(())
}

/// The number of entries and the sum of their fingerprints.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub(super) struct Sum {
    entries: u64,
    prints: u64,
}

impl Sum {
    pub(super) fn add(self, key: &[u8], number: u64) -> Self {
        // Odd factors with bits all over (from the golden ratio and from MurmurHash3's mixer).
        let mix = |hash: u64, word: u64| {
            let mixed = (hash ^ word).wrapping_mul(0xff51_afd7_ed55_8ccd);
            mixed ^ mixed >> 33
        };
        let (words, tail) = key.as_chunks();
        let mut print = mix(0x9e37_79b9_7f4a_7c15, number);
        for word in words {
            print = mix(print, u64::from_be_bytes(*word));
        }
        for byte in tail {
            print = mix(print, u64::from(*byte));
        }
        Self { entries: self.entries + 1, prints: self.prints.wrapping_add(mix(print, 0)) }
    }
}
