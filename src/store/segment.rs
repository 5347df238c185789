//! Segments in memory: where each record stands, and which are dead. Four bytes and a bit a record.
//!
//! Numbers within a segment follow one another without a gap, so a record is found by an index.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitvec::vec::BitVec;

use super::files::{File, Files};
use super::format::{
    Parsed, RecordView, SegmentHeader, read_record, read_record_len, write_segment_header,
};
use super::manifest::Known;
use super::wire::Reader;
use crate::code::Width;
use crate::error::{Error, Result};

/// The first read of a record takes no more than this, should what stands behind it be long.
const FIRST_READ: u64 = 64 << 10;

/// One segment: its file and its records.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) file: Arc<File>,
    pub(super) header: SegmentHeader,
    /// The crc of the segment header.
    pub(super) crc: u32,
    /// Bytes that hold groups (and the header), all durable.
    pub(super) length: u64,
    /// The crc of the last group header.
    pub(super) checksum: u32,
    /// Where record `header.first + i` begins.
    offsets: Vec<u32>,
    /// Whether record `header.first + i` was replaced or deleted.
    dead: BitVec,
}

impl Segment {
    /// The file of a segment of the collection in `dir`.
    pub(super) fn path(dir: &Path, segment: u64) -> PathBuf {
        dir.join("segments").join(format!("{segment:08}.seg"))
    }

    /// Makes an empty segment, durable but for its name in the directory.
    pub(super) fn create(files: &Files, dir: &Path, header: SegmentHeader) -> Result<Self> {
        let file = files.create(&Self::path(dir, header.segment))?;
        let (bytes, crc) = write_segment_header(&header);
        if let Err(error) = file.write_at(&bytes, 0).and_then(|()| file.sync()) {
            // It is no part of the collection; the next open would remove it as well.
            let _ = files.remove_file(file.path());
            return Err(error);
        }
        Ok(Self::new(file, header, crc, bytes.len() as u64))
    }

    /// A segment whose records are not known yet.
    pub(super) fn new(file: File, header: SegmentHeader, crc: u32, length: u64) -> Self {
        Self {
            file: Arc::new(file),
            header,
            crc,
            length,
            checksum: crc,
            offsets: Vec::new(),
            dead: BitVec::new(),
        }
    }

    /// Adds the next record, which begins at `offset`.
    pub(super) fn push(&mut self, offset: u64) {
        self.offsets.push(offset as u32);
        self.dead.push(false);
    }

    /// The number that the next put in it gets.
    pub(super) fn next(&self) -> u64 {
        self.header.first + self.offsets.len() as u64
    }

    /// What a MANIFEST says of it.
    pub(super) fn known(&self) -> Known {
        Known { segment: self.header.segment, length: self.length, checksum: self.checksum }
    }

    /// The index of a record in it.
    fn index(&self, number: u64) -> Option<usize> {
        let i = usize::try_from(number.checked_sub(self.header.first)?).ok()?;
        (i < self.offsets.len()).then_some(i)
    }
}

/// The segments of a collection, in order; there is always one, and the last is open.
#[derive(Debug)]
pub(super) struct Segments {
    sealed: Vec<Segment>,
    open: Segment,
    dead: u64,
}

impl Segments {
    pub(super) fn new(first: Segment) -> Self {
        Self { sealed: Vec::new(), open: first, dead: 0 }
    }

    /// Seals the open segment and goes on with `next`.
    pub(super) fn roll(&mut self, next: Segment) {
        self.sealed.push(std::mem::replace(&mut self.open, next));
    }

    /// The segment that is written to.
    pub(super) fn open(&self) -> &Segment {
        &self.open
    }

    /// The segment that is written to.
    pub(super) fn open_mut(&mut self) -> &mut Segment {
        &mut self.open
    }

    /// All segments in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().chain([&self.open])
    }

    /// All segments as files, to read them again.
    pub(super) fn files(&self) -> Vec<SegmentFile> {
        let file = |segment: &Segment| SegmentFile {
            file: Arc::clone(&segment.file),
            header: segment.header,
            crc: segment.crc,
            known: segment.known(),
        };
        self.iter().map(file).collect()
    }

    /// The number that the next put gets.
    pub(super) fn next(&self) -> u64 {
        self.open.next()
    }

    /// Records that are neither replaced nor deleted.
    pub(super) fn live(&self) -> u64 {
        self.iter().map(|segment| segment.offsets.len() as u64).sum::<u64>() - self.dead
    }

    /// Records that were replaced or deleted and still take room.
    pub(super) fn dead(&self) -> u64 {
        self.dead
    }

    /// The index of the sealed segment that would hold `number`; `None` for the open one.
    fn holder(&self, number: u64) -> Option<usize> {
        let sealed = number < self.open.header.first;
        let after = || self.sealed.partition_point(|segment| segment.header.first <= number);
        sealed.then(after)?.checked_sub(1)
    }

    fn segment(&self, number: u64) -> &Segment {
        self.holder(number).map_or(&self.open, |i| &self.sealed[i])
    }

    /// Whether there is such a record and it is neither replaced nor deleted.
    pub(super) fn is_live(&self, number: u64) -> bool {
        let segment = self.segment(number);
        segment.index(number).is_some_and(|i| !segment.dead[i])
    }

    /// Marks a record as dead.
    pub(super) fn kill(&mut self, number: u64) {
        let segment = match self.holder(number) {
            None => &mut self.open,
            Some(i) => &mut self.sealed[i],
        };
        if let Some(i) = segment.index(number) {
            self.dead += u64::from(!segment.dead.replace(i, true));
        }
    }

    /// Where a live record stands.
    pub(super) fn locate(&self, number: u64) -> Option<Place> {
        let segment = self.segment(number);
        segment.index(number).filter(|i| !segment.dead[*i])?;
        self.locate_any(number)
    }

    /// Where a record stands, be it live or dead.
    pub(super) fn locate_any(&self, number: u64) -> Option<Place> {
        let segment = self.segment(number);
        let i = segment.index(number)?;
        let end = segment.offsets.get(i + 1).map_or(segment.length, |end| u64::from(*end));
        let offset = u64::from(segment.offsets[i]);
        Some(Place { file: Arc::clone(&segment.file), number, offset, end })
    }

    /// The next live number after `number`, `number` itself included.
    pub(super) fn live_from(&self, number: u64) -> Option<u64> {
        self.iter().find_map(|segment| {
            let from = number.saturating_sub(segment.header.first);
            let from = usize::try_from(from).ok().filter(|from| *from < segment.dead.len())?;
            let i = from + segment.dead[from..].first_zero()?;
            Some(segment.header.first + i as u64)
        })
    }
}

/// A segment as a file.
#[derive(Debug)]
pub(super) struct SegmentFile {
    pub(super) file: Arc<File>,
    pub(super) header: SegmentHeader,
    /// The crc of the segment header.
    pub(super) crc: u32,
    /// How much of it is durable.
    pub(super) known: Known,
}

/// Where a record stands: it begins at `offset` and ends at `end` or before.
#[derive(Debug)]
pub(super) struct Place {
    file: Arc<File>,
    pub(super) number: u64,
    offset: u64,
    end: u64,
}

impl Place {
    /// Reads the record, checks it, and gives it to `take`: one read of the file, unless the
    /// record is long.
    ///
    /// # Errors
    /// [`Error::Damaged`] where the bytes are not what was written.
    pub(super) fn read<T>(
        &self,
        width: Width,
        take: impl FnOnce(RecordView) -> Parsed<T>,
    ) -> Result<T> {
        let room = self.end - self.offset;
        let mut bytes = vec![0; room.min(FIRST_READ) as usize];
        self.file.read_at(&mut bytes, self.offset)?;
        if let Some(len) = read_record_len(&bytes)
            && len > bytes.len()
            && len as u64 <= room
        {
            bytes.resize(len, 0);
            self.file.read_at(&mut bytes, self.offset)?;
        }
        let record = read_record(&mut Reader(&bytes), self.number, width);
        record.and_then(take).map_err(|flaw| Error::damaged(self.file.path(), self.offset, flaw))
    }
}
