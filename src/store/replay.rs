//! Replays a segment: reads it from the start, checks every byte, and hands out the records.
//!
//! A process that dies while it writes leaves a torn tail: a last group that is not whole. It was
//! never acknowledged, so it is cut. So are zeros that were laid ahead of groups (`write`), of which
//! nobody has to be told. Anything else that is not what was written is damage. The two
//! look alike at the place where they begin; what tells them apart is what is known to have been
//! durable: the length in the MANIFEST, and the length that a later group names.

use std::path::Path;

use super::files::{File, Files};
use super::format::{
    GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, Kind, Parsed, RecordView, SEGMENT_HEADER_BYTES,
    SEGMENT_MAGIC, SegmentHeader, check_group_body, check_version, read_group_header,
    read_next_record, read_segment_header,
};
use super::manifest::{Known, Manifest};
use super::segment::Segment;
use super::wire::Reader;
use crate::error::{Error, Result};

/// Bytes that are read at once, at least.
const WINDOW: u64 = 1 << 17;

/// Where a replay ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct End {
    /// Bytes of whole groups, the segment header included.
    pub(super) length: u64,
    /// Bytes that were durable when the last of them was written.
    pub(super) durable: u64,
    /// The crc of the last group header.
    pub(super) checksum: u32,
    /// Bytes behind them: a torn tail, or zeros.
    pub(super) left: u64,
    /// Whether all of those are zeros.
    pub(super) zeros: bool,
}

/// Opens a segment and checks what it says of itself.
pub(super) fn open(files: &Files, dir: &Path, known: &Known) -> Result<Segment> {
    let path = Segment::path(dir, known.segment);
    let file = files.open(&path)?;
    let mut bytes = vec![0; file.len()?.min(SEGMENT_HEADER_BYTES as u64) as usize];
    file.read_at(&mut bytes, 0)?;
    check_version(&path, &bytes, SEGMENT_MAGIC)?;
    let (header, crc) =
        read_segment_header(&bytes).map_err(|flaw| Error::damaged(&path, 0, flaw))?;
    Ok(Segment::new(file, header, crc, bytes.len() as u64))
}

/// The same of a segment of the collection in `dir`, of which no record is older than `after`.
pub(super) fn open_named(
    files: &Files,
    dir: &Path,
    manifest: &Manifest,
    known: &Known,
    after: u64,
) -> Result<Segment> {
    let segment = open(files, dir, known)?;
    let header = segment.header;
    let named = (header.segment, header.collection, header.width);
    if named != (known.segment, manifest.collection, manifest.width) {
        return Err(Error::damaged(segment.file.path(), 0, "it is a segment of another place"));
    }
    // It may be younger: compaction takes out the last records of a segment too.
    if header.first < after {
        let first = header.first;
        let message = format!("expected it to go on with record {after} or later, got {first}");
        return Err(Error::damaged(segment.file.path(), 0, message));
    }
    Ok(segment)
}

/// Reads the groups of a segment up to the byte `end`, and gives every record to `each`, with where
/// it begins and the bytes that it takes.
///
/// # Errors
/// [`Error::Damaged`] with the place of the first byte that is not what was written.
pub(super) fn replay(
    file: &File,
    header: &SegmentHeader,
    crc: u32,
    known: &Known,
    end: u64,
    mut each: impl FnMut(u64, u64, &RecordView) -> Parsed<()>,
) -> Result<End> {
    let damaged = |offset: u64, flaw: String| Err(Error::damaged(file.path(), offset, flaw));
    if end < known.length {
        return damaged(end, format!("expected {} bytes or more, got {end}", known.length));
    }
    if end > u64::from(u32::MAX) {
        return damaged(end, format!("expected at most {} bytes, got {end}", u32::MAX));
    }
    let mut window = Window { file, end, start: 0, bytes: Vec::new() };
    let mut next = header.first;
    let start = SEGMENT_HEADER_BYTES as u64;
    let mut at = End { length: start, durable: start, checksum: crc, left: 0, zeros: true };
    loop {
        if at.length == known.length && at.checksum != known.checksum {
            let (expected, got) = (known.checksum, at.checksum);
            let flaw = format!("MANIFEST expects the checksum {expected:08x} here, got {got:08x}");
            return damaged(at.length, flaw);
        }
        if at.length == end {
            return Ok(at);
        }
        let (group, checksum) = match read_group(&mut window, at, crc, next)? {
            Ok(group) => group,
            Err(flaw) if at.length < known.length => return damaged(at.length, flaw),
            Err(flaw) => match durable_beyond(file, at.length, end, crc)? {
                Some(later) => {
                    let flaw = format!("{flaw}; a whole group follows at byte {later}");
                    return damaged(at.length, flaw);
                }
                None => {
                    let zeros = is_zero(file, at.length, end)?;
                    return Ok(End { left: end - at.length, zeros, ..at });
                }
            },
        };
        let start = at.length + GROUP_HEADER_BYTES as u64;
        let length = u64::from(group.length);
        let body = window.get(start, length)?.unwrap_or_default();
        let mut reader = Reader(body);
        for _ in 0..group.count {
            let left = reader.0.len();
            let offset = start + length - left as u64;
            let record = read_next_record(&mut reader, next, header.width);
            let bytes = (left - reader.0.len()) as u64;
            match record.and_then(|record| each(offset, bytes, &record).map(|()| record)) {
                Ok(record) => next = record.number + u64::from(record.kind == Kind::Put),
                Err(flaw) => return damaged(offset, flaw),
            }
        }
        if !reader.0.is_empty() {
            return damaged(start, format!("expected {} records, got more", group.count));
        }
        if at.length < known.length && start + length > known.length {
            let flaw = format!("MANIFEST expects a group to end at byte {}", known.length);
            return damaged(at.length, flaw);
        }
        at = End { length: start + length, durable: group.durable, checksum, ..at };
    }
}

/// The header of the group that begins where `at` ends, when the whole group is as written.
fn read_group(
    window: &mut Window,
    at: End,
    segment_crc: u32,
    next: u64,
) -> Result<Parsed<(GroupHeader, u32)>> {
    let Some(header) = window.get(at.length, GROUP_HEADER_BYTES as u64)? else {
        return Ok(Err("it ends within a group header".to_owned()));
    };
    let header = header.first_chunk().ok_or("it ends within a group header".to_owned());
    let (group, crc) = match header.and_then(|bytes| read_group_header(bytes, segment_crc)) {
        Ok(read) => read,
        Err(flaw) => return Ok(Err(flaw)),
    };
    if (group.previous, group.first) != (at.checksum, next) {
        return Ok(Err(format!(
            "a group is missing or stands twice: expected one that follows {:08x} with record \
             {next}, got one that follows {:08x} with record {}",
            at.checksum, group.previous, group.first
        )));
    }
    let start = at.length + GROUP_HEADER_BYTES as u64;
    let Some(body) = window.get(start, u64::from(group.length))? else {
        let length = group.length;
        return Ok(Err(format!("it ends within a group of {length} bytes")));
    };
    Ok(check_group_body(&group, body).map(|()| (group, crc)))
}

/// Looks behind a bad group for a later one that says that the bytes at `from` were durable.
fn durable_beyond(file: &File, from: u64, end: u64, segment_crc: u32) -> Result<Option<u64>> {
    let mut window = Window { file, end, start: 0, bytes: Vec::new() };
    let mut at = from + 1;
    while at + GROUP_HEADER_BYTES as u64 <= end {
        let len = WINDOW.min(end - at);
        let bytes = window.get(at, len)?.unwrap_or_default();
        for (i, candidate) in bytes.windows(GROUP_HEADER_BYTES).enumerate() {
            if candidate[..4] != GROUP_MAGIC {
                continue;
            }
            let Some(header) = candidate.first_chunk() else { continue };
            let read = read_group_header(header, segment_crc);
            if read.is_ok_and(|(group, _)| group.durable > from) {
                return Ok(Some(at + i as u64));
            }
        }
        // The last bytes of this window may begin a header that ends in the next.
        at += len - (GROUP_HEADER_BYTES as u64 - 1);
    }
    Ok(None)
}

/// Whether the bytes from `from` to `end` are zeros.
fn is_zero(file: &File, from: u64, end: u64) -> Result<bool> {
    let mut window = Window { file, end, start: 0, bytes: Vec::new() };
    for at in (from..end).step_by(WINDOW as usize) {
        let bytes = window.get(at, WINDOW.min(end - at))?.unwrap_or_default();
        if bytes.iter().any(|byte| *byte != 0) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// A piece of a file in memory, which moves on as it is asked for bytes.
struct Window<'a> {
    file: &'a File,
    end: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window<'_> {
    /// `len` bytes from `offset` on, or `None` where they reach beyond the end.
    fn get(&mut self, offset: u64, len: u64) -> Result<Option<&[u8]>> {
        let Some(end) = offset.checked_add(len).filter(|end| *end <= self.end) else {
            return Ok(None);
        };
        if offset < self.start || end > self.start + self.bytes.len() as u64 {
            self.start = offset;
            self.bytes.resize(len.max(WINDOW.min(self.end - offset)) as usize, 0);
            self.file.read_at(&mut self.bytes, offset)?;
        }
        let from = (offset - self.start) as usize;
        Ok(self.bytes.get(from..from + len as usize))
    }
}
