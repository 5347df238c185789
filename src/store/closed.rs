//! What a store leaves when it is closed: `CLOSED`, with which the next open that needs no codes in
//! memory need not read the segments.
//!
//! ```text
//! magic       8   "nearclo\0"
//! version     8   4; older ones are laid out otherwise, and the segments are read instead
//! collection 16   its random name
//! stamp      16   that of both trees in the table
//! trees           of ids and of codes: entries, blocks, bytes, 8 bytes each
//! known ids       hashes that it holds, 8 bytes; count, and the words of the Bloom filter
//! segments    8   how many, then of each:
//!   known    24   number, length, checksum, as in MANIFEST, 8 bytes each
//!   outline       where its records begin, and which are dead (`segment/outline.rs`)
//! crc         4   of all above
//! ```
//!
//! It is believed only where all that can be seen at little cost agrees: MANIFEST names the same
//! segments, each file has its length and its header, and both trees reach all records and bear the
//! stamp. The stamp is new with each file, so that a table of another time or one that was filled
//! again is noticed. Before the file gets its name the table is synced, as sled itself does not do; and
//! before sled is told anything again, for whichever collection, the file is renamed
//! (`table.rs`). Then a crash costs it: the segments are read, and the table is compared with them.
//! What is written to the segments shows in their lengths and in MANIFEST. So what is spared is only
//! what no crash can cause: that bytes on the disk changed. Every record and every block has a
//! checksum that is compared whenever it is read.

use std::path::Path;

use super::bloom::Bloom;
use super::files::Files;
use super::manifest::{Known, Manifest};
use super::pieces::{Reader, Writer};
use super::replay;
use super::segment::Segments;
use super::table::{Table, take_away, taken_away};
use super::tree::Counts;
use super::trees::Trees;
use super::{Shared, State, lock_mutex};
use crate::error::{Error, Result};

const MAGIC: [u8; 8] = *b"nearclo\0";
const VERSION: u64 = 4;
const CLOSED: &str = "CLOSED";

/// What `CLOSED` said, and what agrees with it.
pub(super) struct Closed {
    pub(super) segments: Segments,
    pub(super) known_ids: Bloom,
}

/// What `CLOSED` says; `None` where there is none, or one that does not agree with what is there.
pub(super) fn open(
    files: &Files,
    dir: &Path,
    manifest: &Manifest,
    table: &Table,
    trees: &Trees,
) -> Result<Option<Closed>> {
    let path = dir.join(CLOSED);
    if !files.exists(&path)? {
        return Ok(None);
    }
    let read = read(files, dir, manifest, trees).and_then(|(closed, stamp)| {
        let stamps = trees.stamps().map_err(|broken| table.error(broken))?;
        match stamps == [Some(stamp), Some(stamp)] {
            true => Ok(closed),
            false => Err(Error::damaged(table.dir(), None, "it is of another time")),
        }
    });
    match read {
        Ok(closed) => {
            table.vouched_by(files, path);
            Ok(Some(closed))
        }
        Err(error) => {
            tracing::warn!(collection = %dir.display(), %error, "the segments are read instead");
            take_away(files, &path)?;
            Ok(None)
        }
    }
}

/// What `CLOSED` says, and the stamp that it bears; an error where it does not agree with what is there.
pub(super) fn read(
    files: &Files,
    dir: &Path,
    manifest: &Manifest,
    trees: &Trees,
) -> Result<(Closed, [u8; 16])> {
    let file = files.open(&dir.join(CLOSED))?;
    let mut reader = Reader::new(&file)?;
    let start = (reader.array()?, reader.u64()?, reader.array()?);
    if start != (MAGIC, VERSION, manifest.collection) {
        return Err(reader.flaw("it is of another version or another collection"));
    }
    let stamp = reader.array()?;
    let mut counts = || -> Result<Counts> {
        Ok(Counts { entries: reader.u64()?, blocks: reader.u64()?, bytes: reader.u64()? })
    };
    let counts = [counts()?, counts()?];
    let held = reader.u64()? as usize;
    let known_ids = Bloom::from_words(reader.u64s()?, held)
        .ok_or_else(|| reader.flaw("the filter of ids has no size that one has"))?;
    if reader.u64()? != manifest.segments.len() as u64 {
        return Err(reader.flaw("it names other segments than MANIFEST"));
    }
    let mut segments: Option<Segments> = None;
    for known in &manifest.segments {
        let [segment, length, checksum] = [reader.u64()?, reader.u64()?, reader.u64()?];
        let said = Known { segment, length, checksum: checksum as u32 };
        if said != *known {
            return Err(reader.flaw("it names other segments than MANIFEST"));
        }
        let after = segments.as_ref().map_or(0, Segments::next);
        let mut segment = replay::open_named(files, dir, manifest, known, after)?;
        let len = segment.file.len()?;
        if len != known.length {
            let message = format!("expected {} bytes, got {len}", known.length);
            return Err(Error::damaged(segment.file.path(), None, message));
        }
        (segment.length, segment.checksum) = (known.length, known.checksum);
        segment.note_synced();
        segment.read_outline(&mut reader)?;
        match &mut segments {
            None => segments = Some(Segments::new(segment)),
            Some(segments) => segments.roll(segment),
        }
    }
    let segments = segments.ok_or_else(|| reader.flaw("it names no segment"))?;
    reader.finish()?;
    let trees_reach =
        trees.reach().map_err(|broken| Error::damaged(dir, None, broken.to_string()))?;
    if trees_reach != segments.next() {
        let (next, reach) = (segments.next(), trees_reach);
        let message = format!("the table reaches record {reach}, the segments {next}");
        return Err(Error::damaged(dir, None, message));
    }
    trees.set_counts(counts);
    Ok((Closed { segments, known_ids }, stamp))
}

impl Shared {
    /// Whether `CLOSED` is left: not where few records are read into memory anyway.
    pub(super) fn leaves_closed(&self) -> bool {
        self.lean || self.state().segments.live() >= self.limits.closed_records
    }

    /// Gives the trees a stamp, where they changed since they got one: the last that sled is told.
    pub(super) fn stamp(&self) -> Result<()> {
        let moves = self.state().moves;
        let as_opened = self.is_as_opened(moves, &lock_mutex(&self.manifest));
        let mut stamped = lock_mutex(&self.stamped);
        if !as_opened && stamped.is_none_or(|(then, _)| then != moves) {
            let stamp = uuid::Uuid::now_v7().into_bytes();
            self.trees.set_stamp(&stamp).map_err(|broken| self.table.error(broken))?;
            *stamped = Some((moves, stamp));
        }
        Ok(())
    }

    /// Leaves `CLOSED`, where everything is durable and in the table. Nobody writes any more.
    pub(super) fn leave_closed(&self) -> Result<()> {
        let path = self.dir.join(CLOSED);
        if !self.leaves_closed() {
            // What it left when it held more.
            return match self.files.exists(&taken_away(&path))? {
                true => self.files.remove_file(&taken_away(&path)),
                false => Ok(()),
            };
        }
        let state = self.state();
        let manifest = lock_mutex(&self.manifest).clone();
        let whole = state.broken.is_none()
            && !self.trees.given_up()
            && state.reach == state.segments.next()
            && state.segments.iter().map(|segment| segment.known).eq(manifest.segments.clone())
            && state.segments.open().is_synced();
        if !whole {
            return Ok(());
        }
        let unchanged = self.is_as_opened(state.moves, &manifest);
        if unchanged && self.files.exists(&path)? {
            return Ok(());
        }
        let stamped = *lock_mutex(&self.stamped);
        match stamped {
            // Sled was told something for another collection.
            _ if unchanged => {}
            Some((moves, stamp)) if moves == state.moves => {
                self.write_closed(&state, &manifest, stamp, &taken_away(&path))?;
            }
            _ => return Ok(()),
        }
        self.table.sync()?;
        self.files.rename(&taken_away(&path), &path)?;
        self.files.sync_dir(&self.dir)?;
        self.table.vouched_by(&self.files, path);
        Ok(())
    }

    /// Whether all is as `CLOSED` said when it was opened.
    fn is_as_opened(&self, moves: u64, manifest: &Manifest) -> bool {
        moves == 0 && self.opened_as.as_ref().is_some_and(|opened| *opened == manifest.segments)
    }

    fn write_closed(
        &self,
        state: &State,
        manifest: &Manifest,
        stamp: [u8; 16],
        path: &Path,
    ) -> Result<()> {
        if self.files.exists(path)? {
            self.files.remove_file(path)?;
        }
        let file = self.files.create(path)?;
        let mut out = Writer::new(&file);
        out.bytes(&MAGIC)?;
        out.u64(VERSION)?;
        out.bytes(&manifest.collection)?;
        out.bytes(&stamp)?;
        for Counts { entries, blocks, bytes } in self.trees.counts() {
            [entries, blocks, bytes].into_iter().try_for_each(|count| out.u64(count))?;
        }
        out.u64(state.known_ids.held() as u64)?;
        out.u64s(&state.known_ids.words())?;
        out.u64(manifest.segments.len() as u64)?;
        for segment in state.segments.iter() {
            let Known { segment: number, length, checksum } = segment.known;
            [number, length, u64::from(checksum)].into_iter().try_for_each(|n| out.u64(n))?;
            segment.write_outline(&mut out)?;
        }
        out.finish()
    }
}
