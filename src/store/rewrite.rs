//! Sealed segments written again as one: what compaction does to their bytes.
//!
//! Every group and record of the old ones is checked on the way, and the new one is read back before
//! anybody is told of it.

use bitvec::vec::BitVec;

use super::contents::load;
use super::files::File;
use super::format::{
    GROUP_HEADER_BYTES, GroupHeader, Kind, Layout, RecordView, SEGMENT_HEADER_BYTES, SegmentHeader,
    write_delete_body, write_group_header, write_record, write_segment_header,
};
use super::manifest::Known;
use super::row::Row;
use super::segment::{Segment, SegmentFile};
use super::{Shared, lock_mutex, replay};
use crate::error::{Error, Result};

/// Bytes of the groups that are written.
const GROUP_BYTES: usize = 1 << 20;

impl Shared {
    /// Copies what must stay of `victims` into a new segment: durable, read back, and the same.
    pub(super) fn copy(
        &self,
        number: u64,
        victims: &[SegmentFile],
        dead: &[BitVec],
        go_on: &impl Fn() -> Result<()>,
    ) -> Result<Option<Segment>> {
        let (Some(first), Some(last)) = (victims.first(), victims.last()) else { return Ok(None) };
        let header = SegmentHeader {
            version: lock_mutex(&self.manifest).version,
            segment: number,
            ..first.header
        };
        let mut copy = NewSegment::new(self, header);
        let range = first.header.first..self.end_of(last);
        // What is in the victims and dead is left out with them.
        let needed = |killed: u64| !range.contains(&killed) && self.state().segments.stands(killed);
        for (victim, dead) in victims.iter().zip(dead) {
            go_on()?;
            let SegmentFile { file, header, crc, known, .. } = victim;
            let (mut place, mut failed) = (0, None);
            let replayed =
                replay::replay(file, header, *crc, known, known.length, |_, _, record| {
                    let killed = record.killed.filter(|killed| needed(*killed));
                    let lives = record.kind == Kind::Put && {
                        place += 1;
                        dead.get(place - 1).is_some_and(|dead| !*dead)
                    };
                    let copied = match (lives, killed) {
                        (true, killed) => copy.put(record, killed, go_on),
                        (false, Some(killed)) => copy.delete(record, killed, go_on),
                        (false, None) => Ok(()),
                    };
                    copied.map_err(|error| {
                        failed = Some(error);
                        "it could not be copied".to_owned()
                    })
                });
            failed.map_or(Ok(()), Err)?;
            replayed?;
        }
        copy.finish()
    }

    /// The number from which on the segment after this one may have records.
    fn end_of(&self, segment: &SegmentFile) -> u64 {
        let state = self.state();
        let mut later = state.segments.iter().skip_while(|other| other.header != segment.header);
        later.nth(1).map_or(u64::MAX, |next| next.header.first)
    }
}

/// A segment that is being written, group by group; there is no file before the first of them.
struct NewSegment<'a> {
    shared: &'a Shared,
    header: SegmentHeader,
    file: Option<File>,
    crc: u32,
    /// What was written of it.
    known: Known,
    /// The numbers that it holds.
    numbers: Row,
    /// The next group: room for its header, and the records.
    group: Vec<u8>,
    count: u32,
    /// The number that the first put of the group would have without a gap.
    first: u64,
}

impl<'a> NewSegment<'a> {
    fn new(shared: &'a Shared, header: SegmentHeader) -> Self {
        Self {
            shared,
            header,
            file: None,
            crc: 0,
            known: Known { segment: header.segment, length: 0, checksum: 0 },
            numbers: Row::new(header.first),
            group: vec![0; GROUP_HEADER_BYTES],
            count: 0,
            first: header.first,
        }
    }

    fn put(
        &mut self,
        record: &RecordView,
        replaces: Option<u64>,
        go_on: &impl Fn() -> Result<()>,
    ) -> Result<()> {
        let (next, number) = (self.numbers.next(), record.number);
        let group = &mut self.group;
        let mut body = Vec::new();
        let parts = record.body.write(Layout::of(self.header.version), &mut body);
        write_record(Kind::Put, parts, next, number, replaces, &body, group);
        if !self.numbers.push(number) {
            let message = format!("record {number} is too far from the first one of the segment");
            return Err(Error::damaged(&self.shared.dir, None, message));
        }
        self.wrote(go_on)
    }

    fn delete(
        &mut self,
        record: &RecordView,
        killed: u64,
        go_on: &impl Fn() -> Result<()>,
    ) -> Result<()> {
        let mut body = Vec::new();
        write_delete_body(&record.body.id.text(), &mut body);
        let next = self.numbers.next();
        write_record(Kind::Delete, 0, next, next, Some(killed), &body, &mut self.group);
        self.wrote(go_on)
    }

    fn wrote(&mut self, go_on: &impl Fn() -> Result<()>) -> Result<()> {
        self.count += 1;
        if self.group.len() < GROUP_BYTES.min(self.shared.limits.group_bytes) {
            return Ok(());
        }
        go_on()?;
        self.flush()
    }

    /// Writes the group.
    fn flush(&mut self) -> Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => {
                let path = Segment::path(&self.shared.dir, self.header.segment);
                let file = self.file.insert(self.shared.files.create(&path)?);
                let (bytes, crc) = write_segment_header(&self.header);
                file.write_at(&bytes, 0)?;
                (self.crc, self.known.checksum) = (crc, crc);
                self.known.length = SEGMENT_HEADER_BYTES as u64;
                file
            }
        };
        let body = &self.group[GROUP_HEADER_BYTES..];
        let header = GroupHeader {
            length: body.len() as u32,
            count: self.count,
            previous: self.known.checksum,
            first: self.first,
            durable: 0,
            body_crc: crc32c::crc32c(body),
        };
        let (header, checksum) = write_group_header(&header, self.crc);
        self.group[..GROUP_HEADER_BYTES].copy_from_slice(&header);
        file.write_at(&self.group, self.known.length)?;
        self.known.length += self.group.len() as u64;
        self.known.checksum = checksum;
        self.group.truncate(GROUP_HEADER_BYTES);
        (self.count, self.first) = (0, self.numbers.next());
        Ok(())
    }

    /// Makes it durable, its name too, and reads it as the next open will.
    fn finish(mut self) -> Result<Option<Segment>> {
        if self.count > 0 {
            self.flush()?;
        }
        let (Some(file), Shared { files, dir, .. }) = (&self.file, self.shared) else {
            return Ok(None);
        };
        file.sync()?;
        files.sync_dir(&dir.join("segments"))?;
        let mut segment = replay::open(files, dir, &self.known)?;
        load(&mut segment, &self.known, self.known.length, |_| Ok(()))?;
        if segment.header != self.header || !segment.numbers().iter().eq(self.numbers.iter()) {
            let message = "it does not read back as it was written";
            return Err(Error::damaged(file.path(), None, message));
        }
        Ok(Some(segment))
    }
}
