//! Scrubbing: every checksum is compared while the collection is used, so that damage is found before
//! somebody asks for what it hit.
//!
//! A pass reads the segments as far as they are durable, then the blocks of the table, and is told
//! again and again whether to go on, by who decides how fast it may be. Reads and writes go on
//! meanwhile. What is damaged in a segment stays an error for who reads it; a damaged table is filled
//! again from the segments. Both are warned of, once for each place, and counted until the store is
//! closed, as is what readers come upon themselves. Bytes are compared as the operating system and
//! sled give them, so from a cache where they are in one.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use super::check::damage_in;
use super::finding::Finding;
use super::replay::replay;
use super::segment::{Segment, SegmentFile};
use super::table::Broken;
use super::tree::Tree;
use super::{Shared, Store, lock_mutex};
use crate::error::{Error, Result};

/// Bytes that are read between two questions whether to go on.
const PIECE: u64 = 256 << 10;
/// Blocks of the table that are read between them.
const BLOCKS: usize = 64;
/// Places that are told apart.
const MOST_PLACES: usize = 10_000;

/// What was found damaged since the store was opened, and how much was looked at.
#[derive(Debug, Default)]
pub(super) struct Damages {
    places: Mutex<BTreeSet<(PathBuf, Option<u64>)>>,
    pub(super) passes: AtomicU64,
    pub(super) bytes: AtomicU64,
}

impl Damages {
    /// How many places were found damaged.
    pub(super) fn count(&self) -> u64 {
        lock_mutex(&self.places).len() as u64
    }

    /// Counts a place, and warns of it where it is new.
    pub(super) fn note(&self, finding: &Finding) {
        let mut places = lock_mutex(&self.places);
        let new =
            places.len() < MOST_PLACES && places.insert((finding.file.clone(), finding.offset));
        if new {
            tracing::warn!(
                file = %finding.file.display(), offset = finding.offset, %finding,
                "stored bytes are damaged; nearbit check names all that is"
            );
        }
    }

    /// Counts what an error says of stored bytes.
    pub(super) fn note_error(&self, error: &Error) {
        if let Error::Damaged { file, offset, message } = error {
            self.note(&Finding { offset: *offset, ..Finding::of(file, message) });
        }
    }
}

impl Store {
    /// Compares every checksum of what is durable. `pace` is told of the bytes that were read since
    /// the last time, may take its time, and says whether to go on; the answer is whether it did
    /// to the end.
    ///
    /// # Errors
    /// Whatever the operating system refuses. Damage is no error here: it is counted in
    /// [`StoreStats::damaged`](super::StoreStats::damaged) and warned of in the log.
    pub fn scrub(&self, mut pace: impl FnMut(u64) -> bool) -> Result<bool> {
        let shared = &*self.shared;
        let mut pace = |bytes| {
            shared.damages.bytes.fetch_add(bytes, Ordering::Relaxed);
            pace(bytes)
        };
        let number = |segment: &Segment| segment.header.segment;
        let numbers: Vec<u64> = shared.state().segments.iter().map(number).collect();
        for number in numbers {
            // One by one, so that the room of those that are replaced meanwhile becomes free.
            let segment = shared.state().segments.file(number);
            if let Some(segment) = segment
                && !shared.scrub_segment(&segment, &mut pace)?
            {
                return Ok(false);
            }
        }
        for (name, tree) in [("ids", &shared.trees.ids), ("codes", &shared.trees.codes)] {
            if shared.trees.given_up() || shared.state().broken.is_some() {
                break;
            }
            match shared.scrub_tree(tree, &mut pace) {
                Ok(true) => {}
                Ok(false) => return Ok(false),
                Err(Broken::Filling) => break,
                Err(reason) => {
                    let message = format!("the tree of {name}: {reason}");
                    shared.damages.note(&Finding::of(shared.table.dir(), message));
                    shared.state_mut().broken = Some(reason);
                    self.checkpoint()?;
                }
            }
        }
        shared.damages.passes.fetch_add(1, Ordering::Relaxed);
        Ok(true)
    }
}

impl Shared {
    /// Reads one segment; false where it was told not to go on.
    fn scrub_segment(
        &self,
        segment: &SegmentFile,
        pace: &mut impl FnMut(u64) -> bool,
    ) -> Result<bool> {
        let SegmentFile { file, header, crc, known, .. } = segment;
        let (mut read, mut stopped) = (0, false);
        let each = replay(file, header, *crc, known, known.length, |_, bytes, _| {
            read += bytes;
            if read >= PIECE {
                stopped = !pace(std::mem::take(&mut read));
            }
            if stopped { Err("the scrub was stopped".to_owned()) } else { Ok(()) }
        });
        if stopped {
            return Ok(false);
        }
        if let Err(error) = each {
            let findings = damage_in(&self.files, segment, error)?;
            findings.iter().for_each(|finding| self.damages.note(finding));
        }
        Ok(pace(read))
    }

    /// Reads one tree; false where it was told not to go on.
    fn scrub_tree(&self, tree: &Tree, pace: &mut impl FnMut(u64) -> bool) -> Result<bool, Broken> {
        let before = (self.moves_and_reach(), tree.counts());
        let mut entries = 0;
        let mut from = Some(tree.lowest());
        while let Some(name) = from {
            let mut read = 0;
            from = tree.some_blocks(&name, BLOCKS, |block| {
                read += block.bytes() as u64;
                entries += block.len() as u64;
            })?;
            if !pace(read) {
                return Ok(false);
            }
        }
        let expected = tree.counts().entries;
        // While something is merged into it they may differ.
        let still = before == (self.moves_and_reach(), tree.counts());
        if still && entries != expected {
            return Err(Broken::Failed(format!("expected {expected} entries, got {entries}")));
        }
        Ok(true)
    }
}
