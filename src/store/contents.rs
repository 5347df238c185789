//! What the segments hold, read from the start: at open, and when the table is to be filled again.

use std::path::Path;
use std::sync::Arc;

use super::files::Files;
use super::format::{Kind, Parsed, RecordView, SegmentHeader};
use super::hash::IdHasher;
use super::manifest::Manifest;
use super::recent::Recent;
use super::segment::{SegmentFile, Segments};
use super::{Live, replay};
use crate::code::Width;
use crate::error::{Error, Result};

/// What a replay collects.
pub(super) struct Contents {
    /// The number of the first record.
    first: u64,
    /// The hashes of the ids of all records, in order.
    hashes: Vec<u64>,
    /// Records that were replaced or deleted.
    killed: Vec<u64>,
    pub(super) codes: Live,
    words: Vec<u64>,
}

impl Contents {
    pub(super) fn new(width: Width) -> Self {
        let codes = Live::new(width);
        Self { first: u64::MAX, hashes: Vec::new(), killed: Vec::new(), codes, words: Vec::new() }
    }

    /// Adds the record `number`, or what a delete says.
    fn add(&mut self, number: u64, hasher: IdHasher, record: &RecordView) -> Parsed<()> {
        self.killed.extend(record.killed);
        if record.kind == Kind::Put {
            self.hashes.push(hasher.hash(record.id.as_bytes()));
            if let Some(code) = record.code {
                self.words.clear();
                self.words.extend(code.chunks(8).map(|chunk| {
                    let mut word = [0; 8];
                    word[..chunk.len()].copy_from_slice(chunk);
                    u64::from_be_bytes(word)
                }));
                self.codes.push(number, &self.words).map_err(|error| error.to_string())?;
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
        let skip = usize::try_from(from.saturating_sub(self.first)).unwrap_or(usize::MAX);
        let ids = self.hashes.iter().enumerate().skip(skip);
        let ids = ids.map(|(i, hash)| (self.first + i as u64, *hash));
        ids.filter(|(number, _)| segments.is_live(*number))
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

/// Replays all segments, and cuts a torn tail from the last.
pub(super) fn read_segments(
    files: &Files,
    dir: &Path,
    manifest: &Manifest,
    hasher: IdHasher,
    contents: &mut Contents,
) -> Result<Segments> {
    let mut segments: Option<Segments> = None;
    for (i, known) in manifest.segments.iter().enumerate() {
        let last = i + 1 == manifest.segments.len();
        let mut segment = replay::open(files, dir, known)?;
        let file = Arc::clone(&segment.file);
        let first = segments.as_ref().map_or(segment.header.first, Segments::next);
        let expected = SegmentHeader {
            segment: known.segment,
            collection: manifest.collection,
            width: manifest.width,
            first,
        };
        if segment.header != expected {
            let message = format!("expected {expected:?}, got {:?}", segment.header);
            return Err(Error::damaged(file.path(), 0, message));
        }
        let len = file.len()?;
        if !last && len != known.length {
            let message = format!("expected {} bytes, got {len}", known.length);
            return Err(Error::damaged(file.path(), None, message));
        }
        contents.first = contents.first.min(first);
        let (header, crc) = (segment.header, segment.crc);
        let end = replay::replay(&file, &header, crc, known, len, |number, offset, record| {
            if record.kind == Kind::Put {
                segment.push(offset);
            }
            contents.add(number, hasher, record)
        })?;
        (segment.length, segment.checksum) = (end.length, end.checksum);
        if end.torn > 0 {
            tracing::warn!(
                file = %file.path().display(), at = end.length, bytes = end.torn,
                "a write was interrupted before it was acknowledged; its bytes are cut"
            );
            file.truncate(end.length)?;
        }
        if last {
            // A process that is killed before its sync, or whose sync failed, leaves a whole group
            // that may be in memory only, and that the kernel may believe to be on the disk. From
            // here on it counts: it is written again. The groups before it were synced before it
            // was written. Likewise a cut that was not synced counts from here on.
            file.write_again(end.last_group.max(known.length)..end.length)?;
            file.sync()?;
        }
        match &mut segments {
            None => segments = Some(Segments::new(segment)),
            Some(segments) => segments.roll(segment),
        }
    }
    let mut segments = segments
        .ok_or_else(|| Error::damaged(Manifest::path(dir), None, "expected a segment, got none"))?;
    contents.killed.drain(..).for_each(|number| segments.kill(number));
    contents.leave_live(&segments);
    Ok(segments)
}

/// Reads segments that are in use again, as far as they are durable. The dead are among what it
/// collects.
pub(super) fn read_again(
    files: &[SegmentFile],
    hasher: IdHasher,
    width: Width,
) -> Result<Contents> {
    let mut contents = Contents::new(width);
    for SegmentFile { file, header, crc, known } in files {
        contents.first = contents.first.min(header.first);
        replay::replay(file, header, *crc, known, known.length, |number, _, record| {
            contents.add(number, hasher, record)
        })?;
    }
    Ok(contents)
}
