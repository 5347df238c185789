//! Writes a group: to the open segment, durably where that is asked for, and then into memory.
//!
//! A write that fails is cut off again. When the disk is full that is all, and the next commit may
//! succeed without a reopening. That is safe because nothing was acknowledged or synced yet: what
//! is left of the group is an incomplete group at the end, which the next write overwrites, and
//! which a crash before that leaves as a torn tail like any other. After any other failed write,
//! and after every failed sync, nobody knows what the disk holds: all further writes are refused
//! until the collection is reopened, and reads go on.
//!
//! Ahead of small groups zeros are laid: they go to the disk with one of these groups, and the next
//! ones take their place. A sync then has to write no new length and no new place of the file, which
//! is half of what it does otherwise. Whoever reads the file takes zeros behind the last group for
//! nothing at all; they are cut when the segment is sealed and when the store is closed.

use std::sync::Arc;

use super::commit::Pending;
use super::durability::Durability;
use super::files::{is_failed_sync_of, is_only_full};
use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, Kind, SEGMENT_HEADER_BYTES, SegmentHeader, write_group_header,
    write_record,
};
use super::manifest::Manifest;
use super::segment::Segment;
use super::{Committed, Live, Shared, lock_mutex};
use crate::error::{Error, Result};

/// Zeros are laid ahead of groups of at most this part of them; larger ones are written no faster.
const AHEAD_SHARE: usize = 8;

/// A group that is in the file.
pub(super) struct Written {
    /// Where its records begin in the file, and the bytes that each takes.
    places: Vec<(u64, u64)>,
    /// Bytes of the segment now.
    length: u64,
    /// Where the zeros end that were laid ahead.
    ahead: u64,
    /// The crc of its header.
    checksum: u32,
    synced: bool,
}

impl Shared {
    /// Writes one group of `pending`, of which each replaces or deletes the record in `killed`;
    /// `None` where there is nothing to write. The caller holds the writer.
    pub(super) fn write(
        &self,
        pending: &[Pending],
        killed: &[Option<u64>],
        durability: Durability,
        group: &mut Vec<u8>,
    ) -> Result<Option<Written>> {
        let first = self.state().segments.next();
        group.clear();
        group.resize(GROUP_HEADER_BYTES, 0);
        let mut places = Vec::with_capacity(pending.len());
        let mut next = first;
        for (pending, killed) in pending.iter().zip(killed) {
            if pending.kind == Kind::Delete && killed.is_none() {
                continue;
            }
            let start = group.len() as u64;
            write_record(pending.kind, pending.parts, next, next, *killed, pending.body, group);
            places.push((start, group.len() as u64 - start));
            next += u64::from(pending.kind == Kind::Put);
        }
        if places.is_empty() {
            return Ok(None);
        }
        self.roll_before(group.len() as u64)?;
        let (file, crc, start, previous, durable, ahead) = {
            let state = self.state();
            let open = state.segments.open();
            let file = Arc::clone(&open.file);
            (file, open.crc, open.length, open.checksum, open.known.length, open.ahead)
        };
        let body = &group[GROUP_HEADER_BYTES..];
        let header = GroupHeader {
            length: body.len() as u32,
            count: places.len() as u32,
            previous,
            first,
            durable,
            body_crc: crc32c::crc32c(body),
        };
        let (header, checksum) = write_group_header(&header, crc);
        group[..GROUP_HEADER_BYTES].copy_from_slice(&header);
        let length = start + group.len() as u64;
        if length > ahead && group.len() <= self.limits.ahead_bytes / AHEAD_SHARE {
            group.resize(group.len() + self.limits.ahead_bytes, 0);
        }
        if let Err(error) = file.write_at(group, start) {
            let undone = file.truncate(start);
            self.state_mut().segments.open_mut().ahead = 0;
            return Err(if undone.is_ok() { self.judge(error) } else { self.fail(error) });
        }
        let synced = durability == Durability::Sync;
        if synced && let Err(error) = file.sync() {
            // So that a later open does not find what is reported here as not done.
            let _ = file.truncate(start);
            return Err(self.fail(error));
        }
        places.iter_mut().for_each(|(offset, _)| *offset += start);
        let ahead = ahead.max(start + group.len() as u64);
        Ok(Some(Written { places, length, ahead, checksum, synced }))
    }

    /// Refuses writes from now on where `error` leaves in doubt what the disk holds.
    pub(super) fn judge(&self, error: Error) -> Error {
        if is_only_full(&error) { error } else { self.fail(error) }
    }

    /// Refuses writes from now on, because of `error`.
    pub(super) fn fail(&self, error: Error) -> Error {
        self.poison(&error);
        error
    }

    /// Seals the open segment, and opens the next, where a group of `bytes` would make it too long
    /// or where compaction will have to copy it.
    fn roll_before(&self, bytes: u64) -> Result<()> {
        let (too_long, full) = {
            let state = self.state();
            let (segments, open) = (&state.segments, state.segments.open());
            let full = open.length > self.full_bytes(segments) && segments.dead() > 0;
            (open.length + bytes > self.limits.segment_bytes, full)
        };
        if too_long || (full && self.can_compact()) { self.roll() } else { Ok(()) }
    }

    /// Seals the open segment, if it holds anything, and opens the next. The caller holds the
    /// writer.
    pub(super) fn roll(&self) -> Result<()> {
        self.sync_open()?;
        let mut manifest = lock_mutex(&self.manifest);
        let (sealed, header) = {
            let state = self.state();
            let open = state.segments.open();
            if open.length == SEGMENT_HEADER_BYTES as u64 {
                return Ok(());
            }
            let (version, segment, first) = (manifest.version, manifest.next, open.next());
            (open.known, SegmentHeader { version, segment, first, ..open.header })
        };
        self.cut_ahead()?;
        let files = &self.files;
        let next = Segment::create(files, &self.dir, header).map_err(|error| self.judge(error))?;
        files.sync_dir(&self.dir.join("segments")).map_err(|error| self.fail(error))?;
        let mut longer = manifest.clone().with_open(sealed);
        longer.segments.push(next.known);
        longer.next += 1;
        if let Err(error) = longer.write(files, &self.dir) {
            // Where the disk is full the old MANIFEST stands, and the old segment goes on. After
            // anything else nobody knows which of the two will name the last segment.
            let undone = is_only_full(&error) && files.remove_file(next.file.path()).is_ok();
            return Err(if undone { error } else { self.fail(error) });
        }
        *manifest = longer;
        self.state_mut().segments.roll(next);
        Ok(())
    }

    /// Replaces the MANIFEST by another that names the same records. Where nobody knows whether it
    /// was replaced, writes are refused.
    pub(super) fn write_manifest(&self, manifest: &mut Manifest, new: Manifest) -> Result<()> {
        // Under its lock, since a collection may have been deleted meanwhile.
        self.check_poison()?;
        let written = new.write(&self.files, &self.dir);
        written.map_err(|error| match is_failed_sync_of(&error, &self.dir) {
            true => self.fail(error),
            false => error,
        })?;
        *manifest = new;
        Ok(())
    }

    /// Cuts the zeros ahead, durably. The caller holds the writer, and all is synced.
    pub(super) fn cut_ahead(&self) -> Result<()> {
        let (file, length) = {
            let state = self.state();
            let open = state.segments.open();
            if open.ahead <= open.length {
                return Ok(());
            }
            (Arc::clone(&open.file), open.length)
        };
        file.truncate(length).and_then(|()| file.sync()).map_err(|error| self.fail(error))?;
        self.state_mut().segments.open_mut().ahead = 0;
        Ok(())
    }

    /// Makes a group visible that was written, and tells what it changed.
    pub(super) fn show(
        &self,
        pending: &[Pending],
        killed: &[Option<u64>],
        written: &Written,
    ) -> Committed {
        let mut state = self.state_mut();
        let first = state.segments.next();
        let written_ones = || {
            pending.iter().zip(killed).filter(|(p, killed)| p.kind == Kind::Put || killed.is_some())
        };
        for ((pending, killed), (offset, bytes)) in written_ones().zip(&written.places) {
            match (pending.kind, *killed) {
                (Kind::Put, _) => {
                    let number = state.segments.next();
                    // Numbers of the open segment follow one another, so it takes this one.
                    state.segments.open_mut().push(number, *offset, *bytes);
                    state.recent.insert(pending.hash, number);
                    state.known_ids.insert(pending.hash);
                }
                (Kind::Delete, Some(killed)) => {
                    state.segments.open_mut().push_delete(killed, *bytes);
                }
                (Kind::Delete, None) => {}
            }
        }
        let open = state.segments.open_mut();
        (open.length, open.checksum) = (written.length, written.checksum);
        open.ahead = written.ahead;
        if written.synced {
            open.note_synced();
        }
        let mut removed = Vec::new();
        for (pending, killed) in written_ones() {
            if let Some(killed) = *killed {
                state.segments.kill(killed);
                state.recent.remove(pending.hash, killed);
                if killed < first {
                    removed.push(killed);
                }
            }
        }

        let mut added = Live::new(self.width);
        // Only where something died may one of the new records be among it.
        let all_live = killed.iter().all(Option::is_none);
        let puts = pending.iter().filter(|pending| pending.kind == Kind::Put);
        for (number, put) in (first..).zip(puts) {
            if let Some(code) = put.code.filter(|_| all_live || state.segments.is_live(number)) {
                // Its width was checked before it was written.
                let _ = added.push(number, code.words());
            }
        }
        state.recent.push_codes(&added, 0);
        Committed { added, removed }
    }
}
