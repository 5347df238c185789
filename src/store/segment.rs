//! Segments in memory: where each record stands, and which are dead. A byte or two and a bit a record
//! (`ascending`), and as much again where compaction left gaps between the numbers (`row`).

mod outline;

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bitvec::vec::BitVec;

use super::LeftAlone;
use super::ascending::Ascending;
use super::files::{File, Files};
use super::format::{
    Parsed, RecordView, SEGMENT_HEADER_BYTES, SegmentHeader, read_record, read_record_len,
    write_segment_header,
};
use super::manifest::Known;
use super::row::Row;
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
    /// Bytes that hold groups (and the header).
    pub(super) length: u64,
    /// Up to here zeros were laid for the groups to come, where that is further.
    pub(super) ahead: u64,
    /// The crc of the last group header.
    pub(super) checksum: u32,
    /// How much of it is durable; all of it, unless it is open.
    pub(super) known: Known,
    /// The numbers of its records.
    numbers: Row,
    /// Where each record begins.
    offsets: Ascending,
    /// Whether each was replaced or deleted.
    dead: BitVec,
    dead_count: usize,
    /// From the beginning of each dead record to that of the next.
    dead_bytes: u64,
    /// Bytes of all puts.
    put_bytes: u64,
    /// The numbers that its deletes name.
    deletes: Vec<u64>,
    /// Bytes of all deletes.
    delete_bytes: u64,
    /// Why compaction does not touch it.
    pub(super) left_alone: Option<String>,
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
            ahead: 0,
            checksum: crc,
            known: Known { segment: header.segment, length, checksum: crc },
            numbers: Row::new(header.first),
            offsets: Ascending::default(),
            dead: BitVec::new(),
            dead_count: 0,
            dead_bytes: 0,
            put_bytes: 0,
            deletes: Vec::new(),
            delete_bytes: 0,
            left_alone: None,
        }
    }

    /// Adds the next record, which begins at `offset`; false where its number is too far from the
    /// first one.
    pub(super) fn push(&mut self, number: u64, offset: u64, bytes: u64) -> bool {
        let pushed = self.numbers.push(number);
        if pushed {
            let ascends = self.offsets.push(offset as u32);
            debug_assert!(ascends, "records stand behind one another");
            self.dead.push(false);
            self.put_bytes += bytes;
        }
        pushed
    }

    /// Adds the next delete, of record `number`.
    pub(super) fn push_delete(&mut self, number: u64, bytes: u64) {
        self.deletes.push(number);
        self.delete_bytes += bytes;
    }

    /// The number that the next put in it gets.
    pub(super) fn next(&self) -> u64 {
        self.numbers.next()
    }

    /// The numbers of its records, dead ones too.
    pub(super) fn numbers(&self) -> &Row {
        &self.numbers
    }

    /// Which of its records are dead, in their order.
    pub(super) fn dead(&self) -> &BitVec {
        &self.dead
    }

    /// Whether all of it is durable.
    pub(super) fn is_synced(&self) -> bool {
        self.known.length == self.length
    }

    /// Notes that all of it is durable.
    pub(super) fn note_synced(&mut self) {
        (self.known.length, self.known.checksum) = (self.length, self.checksum);
    }

    /// The segment as a file, to read it again.
    pub(super) fn to_file(&self) -> SegmentFile {
        SegmentFile {
            file: Arc::clone(&self.file),
            header: self.header,
            crc: self.crc,
            known: self.known,
            length: self.length,
        }
    }

    /// Where a record stands, be it live or dead.
    pub(super) fn locate(&self, number: u64) -> Option<Place> {
        let (offset, end) = self.span(self.numbers.find(number)?);
        Some(Place { file: Arc::clone(&self.file), number, offset, end })
    }

    /// Where record `i` begins, and the one after it.
    fn span(&self, i: usize) -> (u64, u64) {
        let begin = |i| self.offsets.get(i).map_or(self.length, u64::from);
        (begin(i), begin(i + 1))
    }

    fn kill(&mut self, number: u64) {
        if let Some(i) = self.numbers.find(number)
            && !self.dead.replace(i, true)
        {
            self.dead_count += 1;
            let (offset, end) = self.span(i);
            self.dead_bytes += end - offset;
        }
    }

    /// Bytes of groups.
    fn group_bytes(&self) -> u64 {
        self.length - SEGMENT_HEADER_BYTES as u64
    }

    /// Bytes of the live records: of all records the share that is not dead.
    pub(super) fn live_bytes(&self) -> u64 {
        let (dead, all) = (u128::from(self.dead_bytes), u128::from(self.group_bytes().max(1)));
        (u128::from(self.put_bytes) * all.saturating_sub(dead) / all) as u64
    }

    /// Bytes that it would lose if it were written again and none of its deletes were needed.
    pub(super) fn most_spare_bytes(&self) -> u64 {
        self.group_bytes().saturating_sub(self.live_bytes())
    }

    /// Bytes that it would lose if it were written again, where `stands` says of which numbers
    /// there still are bytes in some segment, so that their deletes are needed.
    pub(super) fn spare_bytes(&self, stands: impl Fn(u64) -> bool) -> u64 {
        let needed = self.deletes.iter().filter(|number| stands(**number)).count() as u64;
        let deletes = self.delete_bytes * needed / (self.deletes.len() as u64).max(1);
        self.most_spare_bytes().saturating_sub(deletes)
    }
}

/// The segments of a collection, in order; there is always one, and the last is open.
#[derive(Debug)]
pub(super) struct Segments {
    sealed: Vec<Segment>,
    open: Segment,
}

impl Segments {
    pub(super) fn new(first: Segment) -> Self {
        Self { sealed: Vec::new(), open: first }
    }

    /// Seals the open segment and goes on with `next`.
    pub(super) fn roll(&mut self, next: Segment) {
        self.sealed.push(std::mem::replace(&mut self.open, next));
    }

    /// Puts `new` in the place of sealed segments, and gives those back. It holds the records that
    /// were live when `dead_before` was taken from each of them; what died since is dead in it too.
    pub(super) fn replace(
        &mut self,
        range: Range<usize>,
        dead_before: &[BitVec],
        mut new: Option<Segment>,
    ) -> Vec<Segment> {
        if let Some(new) = &mut new {
            for (old, before) in self.sealed[range.clone()].iter().zip(dead_before) {
                let died = old.dead.iter_ones().filter(|i| !before[*i]);
                died.for_each(|i| new.kill(old.numbers.at(i)));
            }
        }
        self.sealed.splice(range, new).collect()
    }

    /// Notes that compaction is not to touch a sealed segment.
    pub(super) fn leave_alone(&mut self, index: usize, reason: String) {
        self.sealed[index].left_alone = Some(reason);
    }

    /// The segments that compaction does not touch.
    pub(super) fn left_alone(&self) -> Vec<LeftAlone> {
        let reason = |segment: &Segment| {
            let file = segment.file.path().to_path_buf();
            Some(LeftAlone { file, reason: segment.left_alone.clone()? })
        };
        self.sealed.iter().filter_map(reason).collect()
    }

    /// The segment that is written to.
    pub(super) fn open(&self) -> &Segment {
        &self.open
    }

    /// The segment that is written to.
    pub(super) fn open_mut(&mut self) -> &mut Segment {
        &mut self.open
    }

    /// The others, in order.
    pub(super) fn sealed(&self) -> &[Segment] {
        &self.sealed
    }

    /// All segments in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Segment> {
        self.sealed.iter().chain([&self.open])
    }

    /// All segments as files, to read them again.
    pub(super) fn files(&self) -> Vec<SegmentFile> {
        self.iter().map(Segment::to_file).collect()
    }

    /// One of them, by the number of its file.
    pub(super) fn file(&self, number: u64) -> Option<SegmentFile> {
        self.iter().find(|segment| segment.header.segment == number).map(Segment::to_file)
    }

    /// The number that the next put gets.
    pub(super) fn next(&self) -> u64 {
        self.open.next()
    }

    /// Records that are neither replaced nor deleted.
    pub(super) fn live(&self) -> u64 {
        self.iter().map(|segment| (segment.numbers.len() - segment.dead_count) as u64).sum()
    }

    /// Records that were replaced or deleted and still take room.
    pub(super) fn dead(&self) -> u64 {
        self.iter().map(|segment| segment.dead_count as u64).sum()
    }

    /// Bytes of the live records.
    pub(super) fn live_bytes(&self) -> u64 {
        self.iter().map(Segment::live_bytes).sum()
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

    /// Whether there are bytes of such a record, be it live or dead.
    pub(super) fn stands(&self, number: u64) -> bool {
        self.segment(number).numbers.find(number).is_some()
    }

    /// Whether there is such a record and it is neither replaced nor deleted.
    pub(super) fn is_live(&self, number: u64) -> bool {
        let segment = self.segment(number);
        segment.numbers.find(number).is_some_and(|i| !segment.dead[i])
    }

    /// Marks a record as dead.
    pub(super) fn kill(&mut self, number: u64) {
        match self.holder(number) {
            None => self.open.kill(number),
            Some(i) => self.sealed[i].kill(number),
        }
    }

    /// Where a live record stands.
    pub(super) fn locate(&self, number: u64) -> Option<Place> {
        self.is_live(number).then(|| self.locate_any(number))?
    }

    /// Where a record stands, be it live or dead.
    pub(super) fn locate_any(&self, number: u64) -> Option<Place> {
        self.segment(number).locate(number)
    }

    /// The next live number after `number`, `number` itself included.
    pub(super) fn live_from(&self, number: u64) -> Option<u64> {
        self.iter().find_map(|segment| {
            let from = segment.numbers.place_from(number);
            let i = from + segment.dead[from..].first_zero()?;
            Some(segment.numbers.at(i))
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
    /// How much of it there is.
    pub(super) length: u64,
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
