//! A walk through a segment that may be damaged: all that is intact, and all that is not, in order.
//!
//! The replay (`replay.rs`) stops at the first byte that is wrong; this goes on behind it, for those
//! who show, check or mend a segment. What it goes by:
//!
//! - Groups name the number of their first put, so groups that are missing, doubled or swapped show,
//!   and the records of a group need no group before it.
//! - The end of a damaged group is the next place where the header of a later one passes.
//! - Each record has a checksum of its own that covers its number. So behind a damaged record the
//!   next one is looked for byte by byte, and the number that it passes with tells how many are
//!   missing between the two.
//! - Where the segment's own header is gone, the first group still names its checksum, and proves it.

use std::ops::Range;

use super::format::{
    GROUP_HEADER_BYTES, GROUP_MAGIC, GroupHeader, Kind, RecordView, SEGMENT_HEADER_BYTES,
    SegmentHeader, check_group_body, find_next, read_damaged, read_group_header, read_next_record,
    read_segment_header, write_segment_header,
};
use super::wire::Reader;
use crate::code::Width;

/// The fewest bytes of a record: its length, checksum, parts, and an id of one byte.
const MIN_RECORD_BYTES: u64 = 7;
/// Behind so many bytes no further record of the same group is looked for.
const MAX_GAP: usize = 4 << 20;
/// Where blocks were swapped a record may stand before so many older ones, or behind so many.
const MAX_SHIFT: u64 = 1000;

/// A piece of a segment, and where it stands in the file.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    /// The header of the segment.
    Header(SegmentHeader),
    /// The header of a group, and whether what follows it is as it was written.
    Group { range: Range<u64>, header: GroupHeader },
    /// An intact record.
    Record { range: Range<u64>, record: RecordView<'a> },
    /// Bytes that are not what was written.
    Damage(Damage),
    /// Zeros for the groups to come.
    Ahead { range: Range<u64> },
    /// A write that was interrupted before it was acknowledged.
    Torn { range: Range<u64>, flaw: String },
}

/// Bytes that are not what was written, and what stood there.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Damage {
    /// Empty where something is missing altogether.
    pub(super) range: Range<u64>,
    pub(super) flaw: String,
    /// The numbers of the puts that are lost with it.
    pub(super) lost: Range<u64>,
    /// Whether something may be lost with it, be it a put or a delete.
    pub(super) loses: bool,
    /// What stands where the first lost record stood.
    pub(super) seems: Option<Seems>,
}

/// What a damaged record says of itself, for what that is worth.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Seems {
    pub(super) id: String,
    /// The number that it replaces or deletes.
    pub(super) killed: Option<u64>,
}

/// What is known of a segment without reading it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Hints {
    /// The width of its codes, should its header not tell.
    pub(super) width: Option<Width>,
    /// Its header as it should be.
    pub(super) header: Option<SegmentHeader>,
    /// Bytes that are known to have been durable: no torn tail begins before.
    pub(super) durable: u64,
    /// The number of its first put.
    pub(super) first: Option<u64>,
    /// The number of the first put of the segment after it.
    pub(super) last: Option<u64>,
    /// Whether a compaction may have taken out records, so that numbers may be missing.
    pub(super) gaps: bool,
}

impl Hints {
    /// Nothing is known.
    pub(super) const NONE: Self =
        Self { width: None, header: None, durable: 0, first: None, last: None, gaps: true };
}

/// Gives the pieces of a segment to `each`, and returns the number that the next put gets.
pub(super) fn walk(bytes: &[u8], hints: Hints, each: &mut dyn FnMut(Piece)) -> u64 {
    // Zeros behind all that is known are no part of what is to be mended.
    if let Some((known, ahead)) = bytes.split_at_checked(hints.durable as usize)
        && hints.durable > SEGMENT_HEADER_BYTES as u64
        && !ahead.is_empty()
        && is_zero(ahead)
    {
        let next = walk(known, hints, each);
        each(Piece::Ahead { range: hints.durable..bytes.len() as u64 });
        return next;
    }
    let next = hints.first.unwrap_or(0);
    let mut walk = Walk { bytes, crc: 0, width: None, first: next, next, last: hints.last, each };
    let previous = match read_segment_header(bytes) {
        Ok((header, crc)) => walk.header(header, crc, hints),
        Err(flaw) => walk.without_header(flaw, hints),
    };
    if let Some(previous) = previous {
        walk.groups(previous, hints);
    }
    if (bytes.len() as u64) < hints.durable {
        let flaw = format!("expected {} bytes or more, got {}", hints.durable, bytes.len());
        walk.loss(bytes.len()..bytes.len(), &flaw, 0..0);
    }
    if let Some(last) = hints.last.filter(|last| *last > walk.next && !hints.gaps) {
        walk.damage(bytes.len()..bytes.len(), "records are missing", walk.next..last);
        walk.next = last;
    }
    walk.next
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

struct Walk<'a, 'e> {
    bytes: &'a [u8],
    /// The crc of the segment header.
    crc: u32,
    width: Option<Width>,
    /// The number of the first put, the number that the next one has, and that after the last.
    first: u64,
    next: u64,
    last: Option<u64>,
    each: &'e mut dyn FnMut(Piece),
}

impl<'a> Walk<'a, '_> {
    /// An intact header; returns its crc.
    fn header(&mut self, header: SegmentHeader, crc: u32, hints: Hints) -> Option<u32> {
        (self.crc, self.width) = (crc, Some(header.width));
        (self.first, self.next) =
            (hints.first.unwrap_or(header.first).min(header.first), header.first);
        let is_wrong =
            |first: &u64| header.first < *first || (header.first > *first && !hints.gaps);
        if let Some(first) = hints.first.filter(is_wrong) {
            let flaw = format!("expected it to go on with record {first}, got {}", header.first);
            self.damage(0..SEGMENT_HEADER_BYTES, flaw, first..header.first.max(first));
        }
        (self.each)(Piece::Header(header));
        Some(crc)
    }

    /// The crc of a header that is damaged follows from what should stand there; else the first group
    /// tells it, and is itself checked with it.
    fn without_header(&mut self, flaw: String, hints: Hints) -> Option<u32> {
        let end = self.bytes.len().min(SEGMENT_HEADER_BYTES);
        self.damage(0..end, flaw, 0..0);
        self.width = hints.width;
        let first = self.bytes.get(SEGMENT_HEADER_BYTES..).and_then(<[u8]>::first_chunk);
        let named = first.and_then(|first| {
            let named = u32::from_le_bytes([first[12], first[13], first[14], first[15]]);
            Some((named, read_group_header(first, named).ok()?.0.first))
        });
        let made = hints.header.map(|header| (write_segment_header(&header).1, header.first));
        let Some((crc, first)) = named.or(made).filter(|_| self.width.is_some()) else {
            if end < self.bytes.len() {
                let flaw = "without its header nothing in it can be checked";
                self.loss(end..self.bytes.len(), flaw, 0..0);
            }
            return None;
        };
        (self.crc, self.first, self.next) = (crc, hints.first.unwrap_or(first).min(first), first);
        Some(crc)
    }

    /// All groups; the crc of what comes before the first is `previous`.
    fn groups(&mut self, previous: u32, hints: Hints) {
        let mut previous = Some(previous);
        let mut at = SEGMENT_HEADER_BYTES;
        while at < self.bytes.len() {
            match self.group_at(at) {
                Ok((header, crc)) => {
                    let broken = previous.is_some_and(|previous| previous != header.previous);
                    at = self.group(at, &header, broken, hints.last);
                    previous = Some(crc);
                }
                Err(flaw) => {
                    let after = self.next_group(at + 1);
                    let end = after.map_or(self.bytes.len(), |(end, _)| end);
                    if after.is_none() && at as u64 >= hints.durable {
                        let range = at as u64..end as u64;
                        if is_zero(&self.bytes[at..]) {
                            (self.each)(Piece::Ahead { range });
                            return;
                        }
                        (self.each)(Piece::Torn { range, flaw });
                        return;
                    }
                    let last = after.map(|(_, header)| header.first).or(hints.last);
                    let last = last.filter(|last| *last >= self.next);
                    // A group may also have ended elsewhere than the header told that got here.
                    let record = self.resume(at, end).map_or(end, |(record, ..)| record);
                    let header_end = (at + GROUP_HEADER_BYTES).min(record);
                    if record == at + GROUP_HEADER_BYTES {
                        self.damage(at..header_end, flaw, 0..0);
                    } else {
                        self.loss(at..header_end, &flaw, 0..0);
                    }
                    self.records(header_end..end, last, None);
                    previous = None;
                    at = end;
                }
            }
        }
    }

    /// Damage that loses the puts in `lost`, and nothing else.
    fn damage(&mut self, range: Range<usize>, flaw: impl Into<String>, lost: Range<u64>) {
        let loses = !lost.is_empty();
        let seems = loses.then(|| self.seems(&range, &lost)).flatten();
        let range = range.start as u64..range.end as u64;
        (self.each)(Piece::Damage(Damage { range, flaw: flaw.into(), lost, loses, seems }));
    }

    /// Damage that loses a record at least, which may be a delete.
    fn loss(&mut self, range: Range<usize>, flaw: &str, lost: Range<u64>) {
        let (seems, flaw) = (self.seems(&range, &lost), flaw.to_owned());
        let range = range.start as u64..range.end as u64;
        (self.each)(Piece::Damage(Damage { range, flaw, lost, loses: true, seems }));
    }

    /// The header of the group that begins at `at`, if it passes and its records fit the file. One
    /// that got here without its records, from elsewhere in the file, says nothing of what is here.
    fn group_at(&self, at: usize) -> Result<(GroupHeader, u32), String> {
        let bytes = self.bytes[at..].first_chunk().ok_or("it ends within a group header")?;
        let (header, crc) = read_group_header(bytes, self.crc)?;
        let room = self.bytes.len() - at - GROUP_HEADER_BYTES;
        if header.length as usize > room {
            return Err(format!("it ends within a group of {} bytes", header.length));
        }
        let body = &self.bytes[at + GROUP_HEADER_BYTES..][..header.length as usize];
        let elsewhere = header.durable > at as u64 || header.first < self.next;
        if elsewhere && check_group_body(&header, body).is_err() {
            return Err("the header of another group stands here".to_owned());
        }
        Ok((header, crc))
    }

    /// The next place from `from` on where the header of a group passes.
    fn next_group(&self, from: usize) -> Option<(usize, GroupHeader)> {
        let windows = self.bytes.get(from..)?.windows(GROUP_HEADER_BYTES).zip(from..);
        let mut candidates = windows.filter(|(window, _)| window[..4] == GROUP_MAGIC);
        candidates.find_map(|(_, at)| Some((at, self.group_at(at).ok()?.0)))
    }

    /// A group whose header passes; returns its end. `last` is the number of the first put behind
    /// the segment.
    fn group(&mut self, at: usize, header: &GroupHeader, broken: bool, last: Option<u64>) -> usize {
        let body = at + GROUP_HEADER_BYTES..at + GROUP_HEADER_BYTES + header.length as usize;
        let (expected, got, end) = (self.next, header.first, body.end);
        if got < expected {
            let flaw =
                format!("a group stands twice, or too late: expected record {expected}, got {got}");
            self.damage(at..at, flaw, 0..0);
        } else if broken || got > expected {
            let flaw = format!("a group is missing: expected record {expected}, got {got}");
            self.damage(at..at, flaw, expected..got);
        }
        self.next = got;
        (self.each)(Piece::Group { range: at as u64..end as u64, header: *header });
        if check_group_body(header, &self.bytes[body.clone()]).is_ok() {
            self.records(body, None, Some(header.count));
        } else if self.group_at(end).is_err() && !is_zero(&self.bytes[end..]) {
            // Nothing follows where it should end: bytes came or went, and it ends elsewhere.
            let after = self.next_group(body.start);
            let end = after.map_or(self.bytes.len(), |(at, _)| at);
            let last = after.map_or(last, |(_, after)| Some(after.first));
            let last = last.filter(|last| *last >= self.next);
            self.records(body.start..end, last, None);
            self.next = self.next.max(expected);
            return end;
        } else {
            let after = self.group_at(end).ok().map(|(after, _)| after.first);
            let after = after.or(last.filter(|_| end == self.bytes.len()));
            let most = header.first + u64::from(header.count);
            let after = after.filter(|after| (header.first..=most).contains(after));
            self.records(body, after, Some(header.count));
        }
        self.next = self.next.max(expected);
        end
    }

    /// The records in `range`: `count` of them, of which the last put has the number before `last`.
    ///
    /// Where blocks were swapped a record may stand before an older one, and behind the header of
    /// another group; so behind damage many numbers are tried.
    fn records(&mut self, range: Range<usize>, last: Option<u64>, count: Option<u32>) {
        let (mut at, mut left) = (range.start, count.map(u64::from));
        while at < range.end {
            // Where nothing tells, all that are left are taken for lost puts.
            let most = last.or(left.map(|left| self.next + left));
            let found =
                self.record_at(at, self.next, range.end).map(|found| (at, self.next, found));
            let found = found.or_else(|| self.resume(at, range.end));
            let Some((start, next, (end, record))) = found else {
                let lost = self.next..most.unwrap_or(self.next).max(self.next);
                self.next = lost.end;
                self.loss(at..range.end, "a record is damaged", lost);
                return;
            };
            if start > at || next > self.next {
                let lost = self.next..next.max(self.next);
                left = left.map(|left| left.saturating_sub((lost.end - lost.start).max(1)));
                self.loss(at..start, "a record is damaged", lost);
            }
            self.next = self.next.max(record.number + u64::from(record.kind == Kind::Put));
            left = left.map(|left| left.saturating_sub(1));
            (self.each)(Piece::Record { range: start as u64..end as u64, record });
            at = end;
        }
        if let Some(last) = last.filter(|last| *last > self.next) {
            self.damage(at..at, "records are missing", self.next..last);
            self.next = last;
        }
    }

    /// The record that begins at `at`, if it passes where `number` is the next, and its end.
    fn record_at(&self, at: usize, number: u64, end: usize) -> Option<(usize, RecordView<'a>)> {
        let mut reader = Reader(&self.bytes[at..end]);
        let record = read_next_record(&mut reader, number, self.width?).ok()?;
        Some((end - reader.0.len(), record))
    }

    /// The next record from `from` on, whatever its number: where it begins, which number was the
    /// next for it, its end and what it is.
    fn resume(&self, from: usize, end: usize) -> Option<(usize, u64, (usize, RecordView<'a>))> {
        let first = self.next.saturating_sub(MAX_SHIFT).max(self.first);
        let last = self.last.unwrap_or(u64::MAX);
        let width = self.width?;
        (from..end.min(from + MAX_GAP)).find_map(|at| {
            let room = (at - from) as u64 / MIN_RECORD_BYTES + 1;
            let within = first..=last.min(self.next.saturating_add(room + MAX_SHIFT));
            find_next(&self.bytes[at..end], width, within)
                .find_map(|next| Some((at, next, self.record_at(at, next, end)?)))
        })
    }

    /// What a damaged record says of itself, the first of the puts that are `lost`. What it replaces
    /// or deletes is believed only of one that fills its place, so that no piece of a record from
    /// elsewhere condemns an intact one.
    fn seems(&self, range: &Range<usize>, lost: &Range<u64>) -> Option<Seems> {
        let next = Some(lost.start).filter(|_| !lost.is_empty());
        let (id, killed) = read_damaged(self.bytes.get(range.clone())?, next, self.width?)?;
        let id = id.text();
        let plain = (1..=512).contains(&id.len()) && !id.chars().any(char::is_control);
        plain.then(|| Seems { id: id.to_string(), killed })
    }
}
