//! Compaction: sealed segments are written again without what died, while all else goes on.
//!
//! One or more neighbours are read from the start, every checksum compared, and their live records
//! copied under their old numbers into a new segment. It is synced and read back; then MANIFEST
//! names it instead of them, and their files are removed. Who reads one of them has it open (`hold`).
//!
//! # What may be left out
//!
//! - **A dead put**: one whose number a durable record replaces or deletes. The writer marks a record
//!   as dead only after the sync of the group that says so, or that sync is done here.
//! - **The word that record n died**, that is a delete, or in a put the number that it replaces: once
//!   no put of n stands in any segment but those that are being left out. Then no replay can meet n,
//!   and nothing is there to be killed. As long as one stands, the word stays: in a live put as it
//!   was; as a delete, where the put that said it is dead itself.
//!
//! That holds at every moment of a crash, since MANIFEST, which is replaced as a whole, names either
//! all of the old segments or the new one. In the first case all is as before. In the second n stands
//! nowhere, or its death does: the segments that were not rewritten are named in both, and of them
//! memory knows exactly which numbers stand in their files. And n does not come back: a number is
//! given again only where its record was never acknowledged, and one that is dead was durable.
//! The new file and its name are durable before MANIFEST names it; its number was noted as given away
//! before the file was made, so that the next open removes it where MANIFEST does not name it, as it
//! removes the old ones. A failure at any step leaves the old segments in use.
//!
//! A segment that is not what was written is left alone, with a warning: what is intact in it stays
//! readable, and what is damaged stays an error.
//!
//! # When
//!
//! On demand everything that is worth it is rewritten. By itself compaction begins when the sealed
//! segments could lose 0.3 of the bytes of all live records, or
//! [`Limits::spare_bytes`](super::Limits) where that is more, and takes the oldest segment that can
//! lose a fifth; oldest first, for the word that a record died stands behind it, and can be left out
//! in its turn. Neighbours that together are small become one, so that there are few files.
//!
//! The copy takes room too until its victims are gone. So that it is small beside what is live, the
//! open segment is sealed, and no more is copied at once, from a quarter of what may be spare on: then
//! the files have at most 0.3 + 0.075 + 0.075 more than the bytes of the live records, the copy
//! included. Not so where nothing died yet: what is only filled gets segments as long as may be, which
//! are copied whole later, once each for every fifth of them that dies.
//! The table has a bound of its own, see `table/renew.rs`.

use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bitvec::vec::BitVec;

use super::manifest::Manifest;
use super::segment::{Segment, SegmentFile, Segments};
use super::{LeftAlone, Shared, Store, lock_mutex};
use crate::error::{Error, Result};

/// Of the bytes of the live records the part that may be spare in sealed segments: 3 / 10.
const ALLOWED: (u64, u64) = (3, 10);
/// A segment is worth the work where it can lose this part of itself: by itself, and on demand.
const WORTH: u64 = 5;
const WORTH_ON_DEMAND: u64 = 16;
/// A full segment is this part of what may be spare.
const PIECES: u64 = 4;
/// Neighbours become one where they hold no more than this part of a full segment.
const SMALL: u64 = 2;

/// What a compaction did.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compaction {
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// And after.
    pub bytes_after: u64,
    /// Segment files before.
    pub segments_before: u64,
    /// And after.
    pub segments_after: u64,
    /// Bytes of the table, of all collections, before.
    pub table_bytes_before: u64,
    /// And after.
    pub table_bytes_after: u64,
    /// Segments that are damaged and were left alone.
    pub left_alone: Vec<LeftAlone>,
}

/// What became of a few segments.
pub(super) struct Rewritten {
    bytes_before: u64,
    /// 0 where nothing is left.
    bytes_after: u64,
}

impl Store {
    /// Gives back the room of dead records, and that of the table which holds nothing any more, as
    /// far as that is worth the work. Reads and writes go on. `go_on` is asked now and then; the
    /// error that it returns ends the work.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a collection of format version 1, [`Error::Io`] where the operating
    /// system refuses something, what `go_on` returns. What was done until then stays done; the
    /// rest is as it was, and writes go on.
    pub fn compact(&self, go_on: impl Fn() -> Result<()>) -> Result<Compaction> {
        let shared = &*self.shared;
        let _alone = lock_mutex(&shared.compacting);
        shared.check_poison()?;
        if !shared.can_compact() {
            let message = "it has format version 1, in which segments are not rewritten: upgrade \
                           the database first (nearbit compact --upgrade); a nearbit that knows \
                           version 1 only will not open it then";
            return Err(Error::invalid("collection", message));
        }
        let go_on = || shared.check_stop().and_then(|()| go_on());
        let (segments_before, bytes_before) = shared.extent();
        shared.seal_for_compaction()?;
        let mut at = 0;
        while let Some(range) = shared.choose(at, true) {
            at = range.start;
            let done = shared.compact_range(range, &go_on)?;
            at += usize::from(done.is_some_and(|done| done.bytes_after > 0));
        }
        let (segments_after, bytes_after) = shared.extent();
        let table_bytes_before = shared.table.bytes()?;
        shared.table.renew_on_demand(go_on)?;
        Ok(Compaction {
            bytes_before,
            bytes_after,
            segments_before,
            segments_after,
            table_bytes_before,
            table_bytes_after: shared.table.bytes()?,
            left_alone: shared.state().segments.left_alone(),
        })
    }
}

impl Shared {
    /// Starts a compaction in a thread of its own, where one is due and none runs.
    pub(super) fn compact_if_due(self: &Arc<Self>) {
        if self.may_be_due() && self.can_compact() {
            self.compactor.start(|| {
                let shared = Arc::clone(self);
                move || shared.compact_while_due()
            });
        }
    }

    /// The bytes that may be spare in sealed segments.
    pub(super) fn spare_allowed(&self, segments: &Segments) -> u64 {
        (segments.live_bytes() / ALLOWED.1 * ALLOWED.0).max(self.limits.spare_bytes)
    }

    /// The bytes of a segment that is full, where records die: a copy of it will stand beside it.
    pub(super) fn full_bytes(&self, segments: &Segments) -> u64 {
        (self.spare_allowed(segments) / PIECES).min(self.limits.segment_bytes)
    }

    /// Whether the format of the collection has what is needed.
    pub(super) fn can_compact(&self) -> bool {
        lock_mutex(&self.manifest).version > 1
    }

    /// How many segments there are, and their bytes.
    fn extent(&self) -> (u64, u64) {
        let state = self.state();
        let bytes = state.segments.iter().map(|segment| segment.length);
        (state.segments.iter().count() as u64, bytes.sum())
    }

    /// An error where the work is to end.
    pub(super) fn check_stop(&self) -> Result<()> {
        if self.stopping.load(Ordering::Acquire) {
            return Err(Error::Interrupted);
        }
        self.check_poison()
    }

    /// A quick look, which may say yes too often.
    fn may_be_due(&self) -> bool {
        let state = self.state();
        let sealed = state.segments.sealed().iter().filter(|s| s.left_alone.is_none());
        let spare: u64 = sealed.map(Segment::most_spare_bytes).sum();
        spare > self.patience.load(Ordering::Relaxed).max(self.spare_allowed(&state.segments))
    }

    /// Compacts until it is not due any more.
    fn compact_while_due(&self) {
        let _alone = lock_mutex(&self.compacting);
        while let Some(range) = self.choose_due() {
            match self.compact_range(range, &|| self.check_stop()) {
                // So that what turns out to be needed is not read again and again.
                Ok(Some(done)) if done.bytes_after > done.bytes_before - done.bytes_before / 50 => {
                    break;
                }
                Ok(_) => {}
                Err(Error::Interrupted) => return,
                Err(error) => {
                    tracing::warn!(
                        collection = %self.dir.display(), %error,
                        "a compaction failed; nothing has changed, and it will be tried again"
                    );
                    break;
                }
            }
        }
        // Where it still looks due it is tried again once there is more to gain.
        self.patience.store(0, Ordering::Relaxed);
        if self.may_be_due() {
            let state = self.state();
            let spare: u64 = state.segments.sealed().iter().map(Segment::most_spare_bytes).sum();
            let more = self.spare_allowed(&state.segments) / 4;
            self.patience.store(spare + more, Ordering::Relaxed);
        }
    }

    /// What is to be rewritten next, where that is due.
    fn choose_due(&self) -> Option<Range<usize>> {
        let due = {
            let state = self.state();
            let segments = &state.segments;
            let sealed = segments.sealed().iter().filter(|s| s.left_alone.is_none());
            let spare = sealed.map(|segment| segment.spare_bytes(|n| segments.stands(n)));
            spare.sum::<u64>() > self.spare_allowed(segments)
        };
        due.then(|| self.choose(0, false))?
    }

    /// The first sealed segments from `from` on that are worth to be rewritten, as one.
    fn choose(&self, from: usize, on_demand: bool) -> Option<Range<usize>> {
        let state = self.state();
        let segments = &state.segments;
        let worth = if on_demand { WORTH_ON_DEMAND } else { WORTH };
        let sealed = segments.sealed();
        let worthy = |segment: &Segment| {
            segment.spare_bytes(|number| segments.stands(number)) * worth > segment.length
        };
        let worthy: Vec<bool> = sealed.iter().map(worthy).collect();
        let full = self.full_bytes(segments);
        let range_from = |start: usize| {
            let (mut end, mut live) = (start, 0);
            while let Some(segment) = sealed.get(end).filter(|s| s.left_alone.is_none()) {
                let with = live + segment.live_bytes();
                let near = segment.next() - sealed[start].header.first <= u64::from(u32::MAX);
                let fits = with <= full / SMALL || (worthy[end] && with <= full);
                if end > start && !(near && fits) {
                    break;
                }
                (end, live) = (end + 1, with);
            }
            start..end
        };
        let ranges = (from..sealed.len()).map(range_from);
        ranges
            .into_iter()
            .find(|range| worthy[range.clone()].contains(&true) || (on_demand && range.len() > 1))
    }

    /// Seals the open segment where it is worth to be rewritten.
    fn seal_for_compaction(&self) -> Result<()> {
        let _writer = lock_mutex(&self.writer);
        self.check_poison()?;
        let worth = {
            let open = self.state();
            let open = open.segments.open();
            open.most_spare_bytes() * WORTH_ON_DEMAND > open.length
        };
        if worth { self.roll() } else { Ok(()) }
    }

    /// Rewrites sealed segments as one; `None` where one is damaged, which is noted. The caller is
    /// the only one who compacts.
    pub(super) fn compact_range(
        &self,
        range: Range<usize>,
        go_on: &impl Fn() -> Result<()>,
    ) -> Result<Option<Rewritten>> {
        let (victims, dead): (Vec<SegmentFile>, Vec<BitVec>) = {
            let state = self.state();
            let sealed = state.segments.sealed()[range.clone()].iter();
            sealed.map(|segment| (segment.to_file(), segment.dead().clone())).unzip()
        };
        {
            // Whoever marked a record as dead has told the index when this is held: from then on
            // only those look for it who began before, and they hold the old segments.
            let _writer = lock_mutex(&self.writer);
            self.check_poison()?;
            // And what marked it is durable.
            self.sync_open()?;
        }
        let number = self.give_number_away()?;
        let copied = self.copy(number, &victims, &dead, go_on);
        let replaced = copied.and_then(|new| {
            let bytes_before = victims.iter().map(|victim| victim.known.length).sum();
            let bytes_after = new.as_ref().map_or(0, |new| new.length);
            self.replace(range.clone(), &victims, &dead, new)?;
            Ok(Rewritten { bytes_before, bytes_after })
        });
        let error = match replaced {
            Ok(rewritten) => {
                victims.iter().for_each(|victim| self.remove(victim.file.path()));
                return Ok(Some(rewritten));
            }
            Err(error) => error,
        };
        // In doubt both are left, and the next open removes one.
        if self.check_poison().is_ok() {
            self.remove(&Segment::path(&self.dir, number));
        }
        let files = victims.iter().map(|victim| victim.file.path());
        match &error {
            Error::Damaged { file, .. } if files.clone().any(|path| path == file) => {
                tracing::warn!(
                    collection = %self.dir.display(), %error,
                    "compaction leaves a damaged segment alone"
                );
                let index = range.start + files.take_while(|path| path != file).count();
                self.state_mut().segments.leave_alone(index, error.to_string());
                Ok(None)
            }
            _ => Err(error),
        }
    }

    fn remove(&self, path: &Path) {
        if let Err(error) = self.files.remove_file(path) {
            tracing::warn!(%error, "a segment that is not in use stays until the next open");
        }
    }

    /// A number for a segment that no other will get, durably noted.
    fn give_number_away(&self) -> Result<u64> {
        let mut manifest = lock_mutex(&self.manifest);
        let number = manifest.next;
        let noted = Manifest { next: number + 1, ..manifest.clone() };
        self.write_manifest(&mut manifest, noted)?;
        Ok(number)
    }

    /// Names `new` instead of `victims`, first on disk, then in memory.
    fn replace(
        &self,
        range: Range<usize>,
        victims: &[SegmentFile],
        dead: &[BitVec],
        new: Option<Segment>,
    ) -> Result<()> {
        let mut manifest = lock_mutex(&self.manifest);
        let mut shorter = manifest.clone();
        debug_assert!(
            victims.iter().zip(&shorter.segments[range.clone()]).all(|(v, k)| v.known == *k)
        );
        shorter.segments.splice(range.clone(), new.as_ref().map(|new| new.known));
        // The deaths that were relied upon can then not pass for a torn tail.
        let shorter = shorter.with_open(self.state().segments.open().known);
        self.write_manifest(&mut manifest, shorter)?;
        let gone = {
            let mut state = self.state_mut();
            let old = state.segments.replace(range, dead, new);
            state.retired.push(old);
            state.retired.take_unheld()
        };
        // Files are closed after the state is let go of.
        drop(gone);
        Ok(())
    }
}
