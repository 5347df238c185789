//! Writes a group: to the open segment, durably, and then into memory.
//!
//! A write that fails is cut off again. When the disk is full that is all, and the next commit may
//! succeed without a reopening. That is safe because nothing was acknowledged or synced yet: what
//! is left of the group is an incomplete group at the end, which the next write overwrites, and
//! which a crash before that leaves as a torn tail like any other. After any other failed write,
//! and after every failed sync, nobody knows what the disk holds: all further writes are refused
//! until the collection is reopened, and reads go on.

use std::sync::Arc;

use super::commit::Pending;
use super::files::is_only_full;
use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, Kind, SEGMENT_HEADER_BYTES, SegmentHeader, write_group_header,
    write_record,
};
use super::segment::Segment;
use super::{Committed, Live, Shared, lock_mutex};
use crate::error::{Error, Result};

/// A group that is durable.
pub(super) struct Written {
    /// Where its puts begin in the file.
    offsets: Vec<u64>,
    /// Bytes of the segment now.
    length: u64,
    /// The crc of its header.
    checksum: u32,
}

impl Shared {
    /// Writes one group of `pending`, of which each replaces or deletes the record in `killed`;
    /// `None` where there is nothing to write. The caller holds the writer.
    pub(super) fn write(
        &self,
        pending: &[Pending],
        killed: &[Option<u64>],
        group: &mut Vec<u8>,
    ) -> Result<Option<Written>> {
        let first = self.state().segments.next();
        group.clear();
        group.resize(GROUP_HEADER_BYTES, 0);
        let (mut count, mut offsets) = (0, Vec::with_capacity(pending.len()));
        for (pending, killed) in pending.iter().zip(killed) {
            if pending.kind == Kind::Delete && killed.is_none() {
                continue;
            }
            let number = first + offsets.len() as u64;
            if pending.kind == Kind::Put {
                offsets.push(group.len() as u64);
            }
            write_record(pending.kind, pending.parts, number, *killed, pending.body, group);
            count += 1;
        }
        if count == 0 {
            return Ok(None);
        }
        self.roll_before(group.len() as u64)?;
        let (file, known, crc) = {
            let state = self.state();
            let open = state.segments.open();
            (Arc::clone(&open.file), open.known(), open.crc)
        };
        let (body, start) = (&group[GROUP_HEADER_BYTES..], known.length);
        let header = GroupHeader {
            length: body.len() as u32,
            count,
            previous: known.checksum,
            first,
            durable: start,
            body_crc: crc32c::crc32c(body),
        };
        let (header, checksum) = write_group_header(&header, crc);
        group[..GROUP_HEADER_BYTES].copy_from_slice(&header);
        if let Err(error) = file.write_at(group, start) {
            let undone = file.truncate(start);
            return Err(if undone.is_ok() { self.judge(error) } else { self.fail(error) });
        }
        if let Err(error) = file.sync() {
            // So that a later open does not find what is reported here as not done.
            let _ = file.truncate(start);
            return Err(self.fail(error));
        }
        offsets.iter_mut().for_each(|offset| *offset += start);
        Ok(Some(Written { offsets, length: start + group.len() as u64, checksum }))
    }

    /// Refuses writes from now on where `error` leaves in doubt what the disk holds.
    pub(super) fn judge(&self, error: Error) -> Error {
        if is_only_full(&error) { error } else { self.fail(error) }
    }

    /// Refuses writes from now on, because of `error`.
    fn fail(&self, error: Error) -> Error {
        self.poison(&error);
        error
    }

    /// Seals the open segment, and opens the next, where a group of `bytes` would make it too long.
    fn roll_before(&self, bytes: u64) -> Result<()> {
        let (sealed, header) = {
            let state = self.state();
            let open = state.segments.open();
            let full = open.length + bytes > self.limits.segment_bytes;
            if !full || open.length == SEGMENT_HEADER_BYTES as u64 {
                return Ok(());
            }
            let (segment, first) = (open.header.segment + 1, open.next());
            (open.known(), SegmentHeader { segment, first, ..open.header })
        };
        let files = &self.files;
        let next = Segment::create(files, &self.dir, header).map_err(|error| self.judge(error))?;
        files.sync_dir(&self.dir.join("segments")).map_err(|error| self.fail(error))?;
        let mut manifest = lock_mutex(&self.manifest);
        let mut longer = manifest.clone();
        longer.segments.pop();
        longer.segments.extend([sealed, next.known()]);
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

    /// Makes a group visible that is durable, and tells what it changed.
    pub(super) fn show(
        &self,
        pending: &[Pending],
        killed: &[Option<u64>],
        written: &Written,
    ) -> Committed {
        let mut state = self.state_mut();
        let first = state.segments.next();
        let mut removed = Vec::new();
        let mut offsets = written.offsets.iter();
        for (pending, killed) in pending.iter().zip(killed) {
            if let Some(killed) = *killed {
                state.segments.kill(killed);
                state.recent.remove(pending.hash, killed);
                if killed < first {
                    removed.push(killed);
                }
            }
            if pending.kind == Kind::Put
                && let Some(offset) = offsets.next()
            {
                let number = state.segments.next();
                state.segments.open_mut().push(*offset);
                state.recent.insert(pending.hash, number);
                state.known_ids.insert(pending.hash);
            }
        }
        let open = state.segments.open_mut();
        (open.length, open.checksum) = (written.length, written.checksum);

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
