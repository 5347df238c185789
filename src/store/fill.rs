//! Opening for who needs no codes in memory: the segments are read once more for each question, so that
//! nothing of them has to be kept but where their records begin.
//!
//! When they were read for the first time, the dead are known. Then the live ones are summed up, which
//! tells whether the table holds them, and their ids go into the filter. What the table lacks is read
//! last: as long as it is more than writers may put into memory, it is merged piece by piece.

use std::path::Path;

use super::bloom::Bloom;
use super::checkpoint::WAIT_FACTOR;
use super::code_words;
use super::format::{Kind, Parsed, RecordView};
use super::hash::IdHasher;
use super::recent::Recent;
use super::replay::replay;
use super::segment::{Segment, SegmentFile, Segments};
use super::table::{Broken, Table};
use super::trees::{Sum, Trees};
use super::{Limits, Live};
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
    each_live(segments, 0, |record| {
        let hash = hasher.hash(record.id.as_bytes());
        known_ids.insert(hash);
        if record.number < ids_reach {
            ids = ids.add(&hash.to_be_bytes(), record.number);
        }
        if let Some(code) = record.code.filter(|_| record.number < codes_reach) {
            codes = codes.add(code, record.number);
        }
        Ok(())
    })?;
    let checked = reaches.and_then(|reaches| trees.check(reaches, [ids, codes], segments));
    let reach = trees.or_emptied(checked, table, dir)?;

    let most = (limits.checkpoint_records * WAIT_FACTOR) as usize;
    let (mut reach, mut recent, mut words) = (reach, Recent::new(width), Vec::new());
    let mut broken = None;
    let filled = each_live(segments, reach, |record| {
        if recent.len() >= most {
            let full = std::mem::replace(&mut recent, Recent::new(width));
            if let Err(Broken(reason)) = trees.merge(&full, record.number, false, |_| ()) {
                broken = Some(reason.clone());
                return Err(reason);
            }
            reach = record.number;
        }
        recent.insert(hasher.hash(record.id.as_bytes()), record.number);
        if let Some(code) = record.code {
            code_words(code, &mut words);
            let mut one = Live::new(width);
            one.push(record.number, &words).map_err(|error| error.to_string())?;
            recent.push_codes(&one, 0);
        }
        Ok(())
    });
    match broken {
        Some(reason) => Err(table.error(Broken(reason))),
        None => filled.map(|()| Filled { recent, known_ids, reach }),
    }
}

/// Gives every live record from number `from` on to `each`, in the order of their numbers.
fn each_live(
    segments: &Segments,
    from: u64,
    mut each: impl FnMut(&RecordView) -> Parsed<()>,
) -> Result<()> {
    let files = segments.iter().filter(|segment| segment.next() > from).map(Segment::to_file);
    for SegmentFile { file, header, crc, known, length } in files {
        let end = replay(&file, &header, crc, &known, length, |_, _, record| {
            let wanted = record.kind == Kind::Put && record.number >= from;
            match wanted && segments.is_live(record.number) {
                true => each(record),
                false => Ok(()),
            }
        })?;
        if end.torn > 0 {
            let message = format!("expected groups up to byte {length}");
            return Err(Error::damaged(file.path(), end.length, message));
        }
    }
    Ok(())
}
