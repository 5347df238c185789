//! What the segments hold, read from the start: at open, and when the table is to be filled again.

use std::path::Path;
use std::sync::Arc;

use super::files::Files;
use super::format::{Kind, Parsed, RecordView, SegmentHeader};
use super::hash::{IdHasher, hash_key};
use super::manifest::{Known, Manifest};
use super::recent::Recent;
use super::row::Row;
use super::segment::{Segment, SegmentFile, Segments};
use super::trees::Sum;
use super::{Live, MAX_KEY_BYTES, code_key, code_words, replay};
use crate::code::Width;
use crate::error::{Error, Result};

/// What a replay collects.
pub(super) struct Contents {
    /// The numbers of all records, a row for each segment.
    numbers: Vec<Row>,
    /// The hashes of their ids, in the same order.
    hashes: Vec<u64>,
    pub(super) codes: Live,
    hasher: IdHasher,
    words: Vec<u64>,
}

impl Contents {
    pub(super) fn new(hasher: IdHasher, width: Width) -> Self {
        Self {
            numbers: Vec::new(),
            hashes: Vec::new(),
            codes: Live::new(width),
            hasher,
            words: Vec::new(),
        }
    }

    /// Goes on with a segment.
    fn begin(&mut self, header: &SegmentHeader) {
        self.numbers.push(Row::new(header.first));
    }

    /// Adds a record.
    fn add(&mut self, record: &RecordView) -> Parsed<()> {
        if record.kind == Kind::Put {
            let row = self.numbers.last_mut().ok_or("no segment was begun")?;
            if !row.push(record.number) {
                return Err(too_far(record));
            }
            self.hashes.push(self.hasher.hash(record.body.id.text().as_bytes()));
            if let Some(code) = record.body.code {
                code_words(code, &mut self.words);
                self.codes.push(record.number, &self.words).map_err(|error| error.to_string())?;
            }
        }
        Ok(())
    }

    /// Leaves out the codes of dead records.
    fn leave_live(&mut self, segments: &Segments) {
        if segments.dead() == 0 {
            return;
        }
        let width = self.codes.codes.width();
        let all = std::mem::replace(&mut self.codes, Live::new(width));
        for (number, words) in all.numbers.iter().zip(all.codes.rows()) {
            if segments.is_live(*number) {
                // The words were checked when they were pushed for the first time.
                let _ = self.codes.push(*number, words);
            }
        }
    }

    /// The number and the hash of every live record from `from` on.
    pub(super) fn ids<'a>(
        &'a self,
        segments: &'a Segments,
        from: u64,
    ) -> impl Iterator<Item = (u64, u64)> + 'a {
        let ids = self.numbers.iter().flat_map(Row::iter).zip(self.hashes.iter().copied());
        let ids = ids.filter(move |(number, _)| *number >= from);
        ids.filter(|(number, _)| segments.is_live(*number))
    }

    /// What the trees should hold of live records, each below its reach.
    pub(super) fn sums(&self, segments: &Segments, [ids, codes]: [u64; 2]) -> [Sum; 2] {
        let below = self.ids(segments, 0).take_while(|(number, _)| *number < ids);
        let id_sum =
            below.fold(Sum::default(), |sum, (number, hash)| sum.add(&hash_key(hash), number));
        let width = self.codes.codes.width();
        let rows = self.codes.numbers.iter().zip(self.codes.codes.rows());
        let rows = rows.take_while(|(number, _)| **number < codes);
        let code_sum = rows.fold(Sum::default(), |sum, (number, words)| {
            sum.add(code_key(words, width, &mut [0; MAX_KEY_BYTES]), *number)
        });
        [id_sum, code_sum]
    }

    /// The live records from `from` on, for memory.
    pub(super) fn recent(&self, segments: &Segments, from: u64) -> Recent {
        let mut recent = Recent::new(self.codes.codes.width());
        self.ids(segments, from).for_each(|(number, hash)| recent.insert(hash, number));
        let skip = self.codes.numbers.partition_point(|number| *number < from);
        recent.push_codes(&self.codes, skip);
        recent
    }
}

fn too_far(record: &RecordView) -> String {
    format!("record {} is too far from the first one of the segment", record.number)
}

/// Replays an opened segment up to the byte `end`, so that it knows its records, and gives each of
/// them to `each`.
pub(super) fn load(
    segment: &mut Segment,
    known: &Known,
    end: u64,
    mut each: impl FnMut(&RecordView) -> Parsed<()>,
) -> Result<replay::End> {
    let (file, header, crc) = (Arc::clone(&segment.file), segment.header, segment.crc);
    let end = replay::replay(&file, &header, crc, known, end, |offset, bytes, record| {
        match record.kind {
            Kind::Put if !segment.push(record.number, offset, bytes) => {
                return Err(too_far(record));
            }
            Kind::Put => {}
            Kind::Delete => record.killed.iter().for_each(|n| segment.push_delete(*n, bytes)),
        }
        each(record)
    })?;
    (segment.length, segment.checksum) = (end.length, end.checksum);
    // It is so, or the caller makes it so.
    segment.note_synced();
    Ok(end)
}

/// Replays all segments, and cuts a torn tail from the last, or zeros that were laid ahead. What they
/// hold goes into `contents`, if anybody wants it.
pub(super) fn read_segments(
    files: &Files,
    dir: &Path,
    manifest: &Manifest,
    mut contents: Option<&mut Contents>,
) -> Result<Segments> {
    let mut segments: Option<Segments> = None;
    let mut killed = Vec::new();
    for (i, known) in manifest.segments.iter().enumerate() {
        let last = i + 1 == manifest.segments.len();
        let after = segments.as_ref().map_or(0, Segments::next);
        let mut segment = replay::open_named(files, dir, manifest, known, after)?;
        let file = Arc::clone(&segment.file);
        let len = file.len()?;
        if !last && len != known.length {
            let message = format!("expected {} bytes, got {len}", known.length);
            return Err(Error::damaged(file.path(), None, message));
        }
        if let Some(contents) = &mut contents {
            contents.begin(&segment.header);
        }
        let end = load(&mut segment, known, len, |record| {
            killed.extend(record.killed);
            contents.as_mut().map_or(Ok(()), |contents| contents.add(record))
        })?;
        if !end.zeros {
            tracing::warn!(
                file = %file.path().display(), at = end.length, bytes = end.left,
                "a write was interrupted before it was acknowledged; its bytes are cut"
            );
        }
        if last {
            // A process that is killed before its sync, or whose sync failed, leaves whole groups
            // that may be in memory only, and that the kernel may believe to be on the disk. From
            // here on they count: they are written again. Likewise a cut whose sync failed.
            file.truncate(end.length)?;
            file.write_again(end.durable.max(known.length)..end.length)?;
            file.sync()?;
        }
        match &mut segments {
            None => segments = Some(Segments::new(segment)),
            Some(segments) => segments.roll(segment),
        }
    }
    let mut segments = segments
        .ok_or_else(|| Error::damaged(Manifest::path(dir), None, "expected a segment, got none"))?;
    killed.into_iter().for_each(|number| segments.kill(number));
    contents.into_iter().for_each(|contents| contents.leave_live(&segments));
    Ok(segments)
}

/// Reads segments that are in use again. The dead are among what it collects.
pub(super) fn read_again(
    files: &[SegmentFile],
    hasher: IdHasher,
    width: Width,
) -> Result<Contents> {
    let mut contents = Contents::new(hasher, width);
    for SegmentFile { file, header, crc, known, length } in files {
        contents.begin(header);
        let end = replay::replay(file, header, *crc, known, *length, |_, _, record| {
            contents.add(record)
        })?;
        if end.left > 0 {
            let message = format!("expected groups up to byte {length}");
            return Err(Error::damaged(file.path(), end.length, message));
        }
    }
    Ok(contents)
}
