//! The table is compared and filled for who needs no codes in memory: the segments are read once more
//! for each question, so that nothing of them has to be kept but where their records begin.
//!
//! When an open has read them for the first time, the dead are known. Then the live ones are summed up,
//! which tells whether the table holds them, and their ids go into the filter. What the table lacks is
//! read last: as long as it is more than writers may put into memory, it is merged piece by piece.
//!
//! A table that fails later is emptied and filled in the same way. Until that is done nothing is found in
//! it: who looks waits, as writers do.

use std::path::Path;
use std::sync::atomic::Ordering;

use super::bloom::Bloom;
use super::checkpoint::WAIT_FACTOR;
use super::code_words;
use super::format::{Kind, Parsed, RecordView};
use super::hash::{IdHasher, hash_key};
use super::recent::Recent;
use super::replay::replay;
use super::segment::{Segment, SegmentFile, Segments};
use super::table::{Broken, Table};
use super::trees::{Sum, Trees};
use super::{Limits, Live, Shared};
use crate::code::Width;
use crate::error::{Error, Result};

/// What is to be kept in memory of segments that were just read.
pub(super) struct Filled {
    pub(super) recent: Recent,
    pub(super) known_ids: Bloom,
    /// Records below this number are in the table.
    pub(super) reach: u64,
}

/// Compares the table with the segments, of which the dead are known, and fills it as far as is needed.
pub(super) fn fill(
    dir: &Path,
    table: &Table,
    trees: &Trees,
    segments: &Segments,
    hasher: IdHasher,
    width: Width,
    limits: Limits,
) -> Result<Filled> {
    let live = segments.live() as usize;
    let mut known_ids = Bloom::with_room(live + live / 8);
    let reaches = trees.reaches();
    let [ids_reach, codes_reach] = reaches.clone().unwrap_or_default();
    let [mut ids, mut codes] = [Sum::default(); 2];
    let is_live = |number| segments.is_live(number);
    each_live(&segments.files(), 0, is_live, |record| {
        let hash = hasher.hash(record.body.id.text().as_bytes());
        known_ids.insert(hash);
        if record.number < ids_reach {
            ids = ids.add(&hash_key(hash), record.number);
        }
        if let Some(code) = record.body.code.filter(|_| record.number < codes_reach) {
            codes = codes.add(code, record.number);
        }
        Ok(())
    })?;
    let checked = reaches.and_then(|reaches| trees.check(reaches, [ids, codes], segments));
    let reach = trees.or_emptied(checked, table, dir)?;

    let files = segments.iter().filter(|segment| segment.next() > reach).map(Segment::to_file);
    let files: Vec<_> = files.collect();
    let merged = merge_pieces(trees, &files, reach, is_live, hasher, width, limits)?;
    let (recent, reach) = merged.map_err(|broken| table.error(broken))?;
    Ok(Filled { recent, known_ids, reach })
}

impl Shared {
    /// Empties the table, fills it from the segments, and puts into memory no more than writers may. Who
    /// calls this holds the writer and the checkpoint.
    ///
    /// # Errors
    /// Within, of the table, in which nothing can be found then; otherwise of the segments: where they
    /// are damaged already, the table stays as it is.
    pub(super) fn refill(&self) -> Result<Result<(), Broken>> {
        let files = self.state().segments.files();
        each_live(&files, 0, |_| false, |_| Ok(()))?;
        {
            let mut state = self.state_mut();
            self.trees.set_filling(true);
            self.trees.given_up.store(false, Ordering::Release);
            (state.recent, state.merging, state.reach) = (Recent::new(self.width), None, 0);
            state.broken = Some(Broken::Filling);
            state.moves += 1;
        }
        // sled writes some of its nodes twice.
        let room = self.table.check_room(2 * self.trees.bytes());
        if let Err(error) = room.and_then(|()| self.trees.empty(&self.table)) {
            return Ok(Err(Broken::Failed(error.to_string())));
        }
        let is_live = |number| self.state().segments.is_live(number);
        let (trees, hasher) = (&self.trees, self.hasher);
        let merged = merge_pieces(trees, &files, 0, is_live, hasher, self.width, self.limits)?;
        Ok(merged.map(|(recent, reach)| {
            let mut state = self.state_mut();
            (state.recent, state.reach, state.broken) = (recent, reach, None);
            state.moves += 1;
            trees.set_filling(false);
        }))
    }
}

/// Merges the live records in `files` from number `reach` on, piece by piece. The last of them, no more
/// than writers may put into memory, are given back, with the number below which all are merged.
///
/// # Errors
/// Within, of the table; otherwise of the segments.
fn merge_pieces(
    trees: &Trees,
    files: &[SegmentFile],
    mut reach: u64,
    is_live: impl Fn(u64) -> bool,
    hasher: IdHasher,
    width: Width,
    limits: Limits,
) -> Result<Result<(Recent, u64), Broken>> {
    let most = (limits.checkpoint_records * WAIT_FACTOR) as usize;
    let (mut recent, mut words) = (Recent::new(width), Vec::new());
    let mut broken = None;
    let filled = each_live(files, reach, is_live, |record| {
        if recent.len() >= most {
            let full = std::mem::replace(&mut recent, Recent::new(width));
            if let Err(failed) = trees.merge(&full, record.number, false, |_| ()) {
                let reason = failed.to_string();
                broken = Some(failed);
                return Err(reason);
            }
            reach = record.number;
        }
        recent.insert(hasher.hash(record.body.id.text().as_bytes()), record.number);
        if let Some(code) = record.body.code {
            code_words(code, &mut words);
            let mut one = Live::new(width);
            one.push(record.number, &words).map_err(|error| error.to_string())?;
            recent.push_codes(&one, 0);
        }
        Ok(())
    });
    match broken {
        Some(broken) => Ok(Err(broken)),
        None => filled.map(|()| Ok((recent, reach))),
    }
}

/// Gives every live record from number `from` on to `each`, in the order of their numbers.
fn each_live(
    files: &[SegmentFile],
    from: u64,
    is_live: impl Fn(u64) -> bool,
    mut each: impl FnMut(&RecordView) -> Parsed<()>,
) -> Result<()> {
    for SegmentFile { file, header, crc, known, length } in files {
        let end = replay(file, header, *crc, known, *length, |_, _, record| {
            let wanted = record.kind == Kind::Put && record.number >= from;
            if wanted && is_live(record.number) { each(record) } else { Ok(()) }
        })?;
        if end.left > 0 {
            let message = format!("expected groups up to byte {length}");
            return Err(Error::damaged(file.path(), end.length, message));
        }
    }
    Ok(())
}
