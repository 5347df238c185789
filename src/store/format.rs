//! The bytes of a segment, drawn once, with a pair of functions to write and to read each part.
//!
//! A segment is a header and then groups. A **group** is what one sync made durable: the records
//! of all callers that waited together. It counts whole or not at all.
//!
//! ```text
//! segment   | header | group | group | ... | group |          (then perhaps zeros, or a torn tail)
//! group     | header | record | record | ... | record |
//!
//! segment header, 52 bytes                 group header, 40 bytes
//!   magic       8  "nearseg\0"               magic      4  "ngrp"
//!   version     4  1, 2 or 3                 length     4  bytes of the records
//!   width       2  bits of a code            count      4  records
//!   zero        2                            previous   4  crc of the group header before, or
//!   segment     8  number of the segment                   of the segment header
//!   collection 16  its random name           first      8  number of the first put
//!   first       8  number of the first put   durable    8  bytes of the file that were synced
//!   crc         4  of the 48 bytes above                   when this was written
//!                                            body crc   4  of the records
//!                                            crc        4  of the 36 bytes above, going on from
//!                                                          the segment header's crc
//!
//! record, of version 1 and 2
//!   length   varint  bytes after this field
//!   crc      4       of the record number (8 bytes) and of what follows
//!   kind     1       1 put, 2 delete, 3 put after a gap; another layout gets another kind: the
//!                    record's version
//!   parts    1       put: bit 0 replaces, 1 code, 2 payload, 3 text, 4 f32 vector, 5 f16 vector
//!   gap      varint  put after a gap: how many numbers are left out before its own
//!   number   varint  put that replaces: how far back the replaced number is; delete: the number
//!   id       varint length, UTF-8
//!   code     bits / 8 bytes, rounded up
//!   payload  varint length, JSON
//!   text     varint length, UTF-8
//!   vector   varint numbers, 4 or 2 bytes each
//!
//! put, of version 3 (a delete is as above)
//!   length   varint  bytes after this field
//!   crc      4       of the record number (8 bytes) and of what follows
//!   parts    1       bit 0 replaces, 1 code, 2 payload, 3 text, 4 vector, 5 gap, 6 packed id, 7 set
//!   gap      varint  where bit 5 is set: how many numbers are left out before its own
//!   number   varint  where it replaces: how far back the replaced number is
//!   code     bits / 8 bytes, rounded up
//!   id       varint length, UTF-8; or packed (`id`): 16 bytes of a UUID, 1 to 8 of a number
//!   payload  varint length, JSON
//!   text     varint length, UTF-8
//!   vector   4 or 2: bytes of a number; the numbers
//!            the last of these four ends with the record, and has no length
//! ```
//!
//! All numbers are little-endian; every crc is CRC-32C. Why each odd field is there:
//!
//! - A put has no number of its own: it is the number before, plus one, and plus the gap that a
//!   compaction left (`compact`). The crc covers it, so a record read at the wrong place does not
//!   pass for another. A delete is covered with the number that the next put will get.
//! - A put names the number that it replaces, and a delete the one that it deletes, so a replay
//!   needs no map of ids, only a bit a record.
//! - A group header has a crc of its own, so that its length can be believed before the records
//!   are read; that crc starts from the segment's, so a group of another segment does not pass;
//!   and `previous` chains the groups, so a missing, doubled or swapped one is found.
//! - `durable` tells a torn tail from damage: bytes below what a later group calls durable cannot
//!   be torn.
//!
//! Version 2 is version 1 with the third kind of record, and with a MANIFEST that says which numbers
//! of segments were given away. Version 3 is version 2 with puts that take fewer bytes: two in all, 20
//! more where the id is a UUID. They may stand in a segment that was begun before. A collection is of
//! the version that its MANIFEST has, and all that is written to it is of that version, so that a
//! directory of version 1 can be used by the program that made it even after this one wrote to it.
//! What version 1 cannot say, that is to compact, is refused until the directory is upgraded
//! (`Database::upgrade`): first the file `FORMAT`, then each MANIFEST. A crash in between leaves a
//! directory of the new version with collections of an old one, which the next open upgrades too. A
//! program that knows older versions only refuses `FORMAT`, by name. What was written before stays as
//! it is until a compaction writes it again.

mod id;
mod number;
mod record;

use std::path::Path;

pub(super) use record::{
    Body, Kind, Layout, RecordView, find_next, read_damaged, read_next_record, read_record,
    read_record_len, write_delete_body, write_put, write_record,
};

use super::files::Files;
use super::wire::Reader;
use crate::code::Width;
use crate::error::{Error, Result};

/// The version of all files of the store that this program makes.
pub const FORMAT_VERSION: u32 = 3;
/// The oldest version that it reads.
pub const OLDEST_READABLE: u32 = 1;

/// The largest number that a record may have: sums of it and of what a header counts fit in 64 bits.
pub(super) const MAX_NUMBER: u64 = (1 << 63) - 1;

const DIRECTORY_MAGIC: [u8; 8] = *b"nearbit\0";
pub(super) const SEGMENT_MAGIC: [u8; 8] = *b"nearseg\0";
pub(super) const SEGMENT_HEADER_BYTES: usize = 52;
pub(super) const GROUP_MAGIC: [u8; 4] = *b"ngrp";
pub(super) const GROUP_HEADER_BYTES: usize = 40;

/// What is read, or what was expected and found instead.
pub(super) type Parsed<T> = std::result::Result<T, String>;

/// The version that a file begins with, behind its magic.
///
/// # Errors
/// [`Error::Damaged`] for another magic; [`Error::Invalid`] for a version that is not read here,
/// which is named.
pub(super) fn check_version(path: &Path, bytes: &[u8], magic: [u8; 8]) -> Result<u32> {
    let mut reader = Reader(bytes);
    let start = reader.array().and_then(|found: [u8; 8]| Some((found, reader.u32()?)));
    let Some((found, version)) = start else {
        return Err(Error::damaged(path, 0, "it ends within its first 12 bytes"));
    };
    if found != magic {
        let (expected, got) = (magic.escape_ascii(), found.escape_ascii());
        let message = format!("expected it to begin with \"{expected}\", got \"{got}\"");
        return Err(Error::damaged(path, 0, message));
    }
    if !(OLDEST_READABLE..=FORMAT_VERSION).contains(&version) {
        let age = if version > FORMAT_VERSION { "newer" } else { "older" };
        return Err(Error::invalid(
            path.display().to_string(),
            format!(
                "it has format version {version}, and this nearbit reads {OLDEST_READABLE} to \
                 {FORMAT_VERSION}; open it with a nearbit that is {age}"
            ),
        ));
    }
    Ok(version)
}

/// Writes the file `FORMAT`, which marks `dir` as a data directory of this version, or replaces one
/// of an older version.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn create_format(dir: &Path) -> Result<()> {
    let mut out = DIRECTORY_MAGIC.to_vec();
    out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
    write_crc(&mut out, 0);
    Files::disk().write_atomically(&dir.join("FORMAT"), &out)
}

/// Reads the file `FORMAT`, before anything else in `dir` is believed, and gives the version.
///
/// # Errors
/// [`Error::Invalid`] where a newer or a much older program made the directory,
/// [`Error::Damaged`] where the file is not what was written, [`Error::Io`] where it is missing.
pub fn check_format(dir: &Path) -> Result<u32> {
    let path = dir.join("FORMAT");
    let files = Files::disk();
    let version = check_format_bytes(&path, &files.read(&path, 16)?)?;
    // Whoever made it may have been killed before its name was durable.
    files.sync_dir(dir)?;
    Ok(version)
}

/// The version in a file `FORMAT` that holds `bytes`.
pub(super) fn check_format_bytes(path: &Path, bytes: &[u8]) -> Result<u32> {
    let body = read_crc(bytes).map_err(|flaw| Error::damaged(path, None, flaw));
    let version = match check_version(path, bytes, DIRECTORY_MAGIC) {
        // As long as one of this version, but for its checksum: no other program made it.
        Err(Error::Invalid { .. }) if bytes.len() == 16 && body.is_err() => 0,
        checked => checked?,
    };
    body.map(|_| version)
}

/// Appends the CRC-32C of everything that `out` holds from `start` on.
pub(super) fn write_crc(out: &mut Vec<u8>, start: usize) -> u32 {
    let crc = crc32c::crc32c(&out[start..]);
    out.extend_from_slice(&crc.to_le_bytes());
    crc
}

/// Checks the crc that ends `bytes`, and gives what stands before it.
pub(super) fn read_crc(bytes: &[u8]) -> Parsed<&[u8]> {
    let (body, stored) = bytes.split_last_chunk().ok_or("it is too short for its checksum")?;
    check_crc(crc32c::crc32c(body), u32::from_le_bytes(*stored))?;
    Ok(body)
}

fn check_crc(found: u32, stored: u32) -> Parsed<()> {
    if found == stored {
        return Ok(());
    }
    Err(format!("expected the checksum {stored:08x}, got {found:08x}"))
}

/// What a segment says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct SegmentHeader {
    /// The version of the format that it is written in.
    pub(super) version: u32,
    pub(super) segment: u64,
    pub(super) collection: [u8; 16],
    pub(super) width: Width,
    /// The number that the first put in it has, unless a gap comes before it.
    pub(super) first: u64,
}

/// The bytes of a segment header, and its crc.
pub(super) fn write_segment_header(header: &SegmentHeader) -> (Vec<u8>, u32) {
    let mut out = Vec::with_capacity(SEGMENT_HEADER_BYTES);
    out.extend_from_slice(&SEGMENT_MAGIC);
    out.extend_from_slice(&header.version.to_le_bytes());
    out.extend_from_slice(&(header.width.bits() as u16).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    out.extend_from_slice(&header.segment.to_le_bytes());
    out.extend_from_slice(&header.collection);
    out.extend_from_slice(&header.first.to_le_bytes());
    let crc = write_crc(&mut out, 0);
    (out, crc)
}

/// A segment header and its crc.
pub(super) fn read_segment_header(bytes: &[u8]) -> Parsed<(SegmentHeader, u32)> {
    let header = bytes.get(..SEGMENT_HEADER_BYTES).ok_or("it ends within its header")?;
    let body = read_crc(header)?;
    let read = |mut reader: Reader| {
        reader.take(8)?;
        let version = reader.u32()?;
        let (bits, _zero) = (reader.u16()?, reader.u16()?);
        let (segment, collection, first) = (reader.u64()?, reader.array()?, reader.u64()?);
        let width = Width::new(usize::from(bits)).ok().filter(|_| first <= MAX_NUMBER)?;
        Some(SegmentHeader { version, segment, collection, width, first })
    };
    let header = read(Reader(body)).ok_or("its header makes no sense")?;
    Ok((header, crc32c::crc32c(body)))
}

/// What a group says of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct GroupHeader {
    /// Bytes of the records.
    pub(super) length: u32,
    /// Records.
    pub(super) count: u32,
    /// The crc of the group header before it.
    pub(super) previous: u32,
    /// The number that its first put has, unless a gap comes before it.
    pub(super) first: u64,
    /// Bytes of the file that were durable when it was written.
    pub(super) durable: u64,
    /// The crc of the records.
    pub(super) body_crc: u32,
}

/// The bytes of a group header in the segment whose header has the crc `segment_crc`, and its crc.
pub(super) fn write_group_header(
    header: &GroupHeader,
    segment_crc: u32,
) -> ([u8; GROUP_HEADER_BYTES], u32) {
    let mut out = [0; GROUP_HEADER_BYTES];
    out[0..4].copy_from_slice(&GROUP_MAGIC);
    out[4..8].copy_from_slice(&header.length.to_le_bytes());
    out[8..12].copy_from_slice(&header.count.to_le_bytes());
    out[12..16].copy_from_slice(&header.previous.to_le_bytes());
    out[16..24].copy_from_slice(&header.first.to_le_bytes());
    out[24..32].copy_from_slice(&header.durable.to_le_bytes());
    out[32..36].copy_from_slice(&header.body_crc.to_le_bytes());
    let crc = crc32c::crc32c_append(segment_crc, &out[..36]);
    out[36..40].copy_from_slice(&crc.to_le_bytes());
    (out, crc)
}

/// A group header and its crc.
pub(super) fn read_group_header(
    bytes: &[u8; GROUP_HEADER_BYTES],
    segment_crc: u32,
) -> Parsed<(GroupHeader, u32)> {
    let read = |mut reader: Reader| {
        let header = GroupHeader {
            length: reader.u32()?,
            count: reader.u32()?,
            previous: reader.u32()?,
            first: reader.u64()?,
            durable: reader.u64()?,
            body_crc: reader.u32()?,
        };
        Some((header, reader.u32()?))
    };
    if bytes[..4] != GROUP_MAGIC {
        return Err("no group begins here".to_owned());
    }
    let (header, stored) = read(Reader(&bytes[4..])).ok_or("it ends within a group header")?;
    check_crc(crc32c::crc32c_append(segment_crc, &bytes[..36]), stored)?;
    if header.first > MAX_NUMBER {
        return Err("the header of a group makes no sense".to_owned());
    }
    Ok((header, stored))
}

/// Checks the records of a group as a whole.
pub(super) fn check_group_body(header: &GroupHeader, body: &[u8]) -> Parsed<()> {
    check_crc(crc32c::crc32c(body), header.body_crc)
}
