//! The MANIFEST of a collection: its settings, and its segments in order.
//!
//! ```text
//! magic       8   "nearman\0"
//! version     4   1 to 3
//! collection 16   its random name
//! width       2   bits of a code
//! settings    varint length, bytes that only the collection understands
//! next        8   the number that the next segment gets; not in version 1
//! segments    varint count, then each:
//!   segment   8   its number: the file segments/00000001.seg
//!   length    8   bytes of it that are known to be durable
//!   checksum  4   crc of the last group header within them (of the segment header if none)
//! crc         4   of all above
//! ```
//!
//! The last segment is open: it may be longer than the MANIFEST says. The others are sealed and
//! are exactly as long. The file is replaced as a whole, so it is never torn. A file in `segments`
//! that it does not name is no part of the collection: its number is below `next`, so that it was
//! part of it once or was to become a part, or it holds no record yet.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::files::Files;
use super::format::{MAX_NUMBER, Parsed, check_version, read_crc, write_crc};
use super::wire::{Reader, write_bytes, write_varint};
use crate::code::Width;
use crate::error::{Error, Result};

/// What MANIFEST becomes when its collection is removed.
pub(super) const DELETED: &str = "DELETED";

const MAGIC: [u8; 8] = *b"nearman\0";
/// More than any MANIFEST has: a segment takes 20 bytes of it.
const MAX_BYTES: u64 = 64 << 20;

/// What a MANIFEST says.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Manifest {
    /// The version of the format that the collection is written in.
    pub(super) version: u32,
    pub(super) collection: [u8; 16],
    pub(super) width: Width,
    pub(super) settings: Vec<u8>,
    /// The number that the next segment gets.
    pub(super) next: u64,
    pub(super) segments: Vec<Known>,
}

/// What is known of a segment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Known {
    pub(super) segment: u64,
    /// Bytes that are durable.
    pub(super) length: u64,
    /// The crc of the last group header within `length`.
    pub(super) checksum: u32,
}

impl Manifest {
    /// The MANIFEST of the collection in `dir`.
    pub(super) fn path(dir: &Path) -> PathBuf {
        dir.join("MANIFEST")
    }

    /// Whether a file of `segments` that it does not name may be thrown away, whatever it holds:
    /// its number was given away, so that it was a part of the collection once, or was to become
    /// one. In version 1 nothing was ever taken out.
    pub(super) fn gave_away(&self, segment: u64) -> bool {
        self.version > 1 && segment < self.next
    }

    /// The same, but that `open` is known of the open segment.
    pub(super) fn with_open(mut self, open: Known) -> Self {
        self.segments.pop();
        self.segments.push(open);
        self
    }

    /// Reads the MANIFEST of the collection in `dir`.
    pub(super) fn read(files: &Files, dir: &Path) -> Result<Self> {
        let path = Self::path(dir);
        Self::read_bytes(&path, &files.read(&path, MAX_BYTES)?)
    }

    /// Reads the MANIFEST at `path`, which holds `bytes`.
    pub(super) fn read_bytes(path: &Path, bytes: &[u8]) -> Result<Self> {
        let version = check_version(path, bytes, MAGIC)?;
        read_manifest(version, bytes).map_err(|flaw| Error::damaged(path, None, flaw))
    }

    /// Replaces the MANIFEST of the collection in `dir`.
    pub(super) fn write(&self, files: &Files, dir: &Path) -> Result<()> {
        files.write_atomically(&Self::path(dir), &write_manifest(self))
    }
}

/// The bytes of a MANIFEST.
pub(super) fn write_manifest(manifest: &Manifest) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&manifest.version.to_le_bytes());
    out.extend_from_slice(&manifest.collection);
    out.extend_from_slice(&(manifest.width.bits() as u16).to_le_bytes());
    write_bytes(&manifest.settings, &mut out);
    if manifest.version > 1 {
        out.extend_from_slice(&manifest.next.to_le_bytes());
    }
    write_varint(manifest.segments.len() as u64, &mut out);
    for known in &manifest.segments {
        out.extend_from_slice(&known.segment.to_le_bytes());
        out.extend_from_slice(&known.length.to_le_bytes());
        out.extend_from_slice(&known.checksum.to_le_bytes());
    }
    write_crc(&mut out, 0);
    out
}

fn read_manifest(version: u32, bytes: &[u8]) -> Parsed<Manifest> {
    let mut reader = Reader(read_crc(bytes)?);
    let read = |reader: &mut Reader| {
        reader.take(12)?;
        let collection = reader.array()?;
        let width = Width::new(usize::from(reader.u16()?)).ok()?;
        let settings = reader.bytes()?.to_vec();
        let stored_next = if version > 1 { Some(reader.u64()?) } else { None };
        let mut segments: Vec<Known> = Vec::new();
        for _ in 0..reader.varint()? {
            let (segment, length) = (reader.u64()?, reader.u64()?);
            segments.push(Known { segment, length, checksum: reader.u32()? });
        }
        let names: BTreeSet<u64> = segments.iter().map(|known| known.segment).collect();
        let next = stored_next.unwrap_or(names.last()?.checked_add(1)?);
        // What names no more is not beyond what a number may be.
        let each_once =
            names.len() == segments.len() && *names.last()? < next && next <= MAX_NUMBER;
        let complete = reader.0.is_empty() && each_once;
        let manifest = Manifest { version, collection, width, settings, next, segments };
        complete.then_some(manifest)
    };
    read(&mut reader).ok_or_else(|| "its parts do not fit".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::FORMAT_VERSION;

    fn example() -> Result<Manifest> {
        let known = |segment| Known { segment, length: 1000 * segment, checksum: 17 };
        Ok(Manifest {
            version: FORMAT_VERSION,
            collection: *b"0123456789abcdef",
            width: Width::new(64)?,
            settings: b"{\"keep\":\"text\"}".to_vec(),
            next: 7,
            segments: vec![known(1), known(6), known(5)],
        })
    }

    #[test]
    fn it_reads_back_and_every_flipped_bit_and_cut_is_found() -> Result<()> {
        let manifest = example()?;
        let bytes = write_manifest(&manifest);
        let read_manifest = |bytes: &[u8]| read_manifest(FORMAT_VERSION, bytes);
        assert_eq!(read_manifest(&bytes), Ok(manifest));
        for end in 0..bytes.len() {
            assert!(read_manifest(&bytes[..end]).is_err(), "cut at {end}");
        }
        for bit in 0..8 * bytes.len() {
            let mut bytes = bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!(read_manifest(&bytes).is_err(), "bit {bit}");
        }
        Ok(())
    }

    #[test]
    fn a_segment_stands_once_and_below_the_next() -> Result<()> {
        let manifest = example()?;
        let refused = |change: fn(&mut Manifest)| {
            let mut manifest = manifest.clone();
            change(&mut manifest);
            read_manifest(FORMAT_VERSION, &write_manifest(&manifest)).is_err()
        };
        assert!(!refused(|_| ()));
        assert!(refused(|manifest| manifest.next = 6));
        assert!(refused(|manifest| manifest.next = u64::MAX));
        assert!(refused(|manifest| manifest.segments[0].segment = 5));
        assert!(refused(|manifest| manifest.segments.clear()));
        Ok(())
    }

    #[test]
    fn version_1_gives_numbers_away_in_order() -> Result<()> {
        let old = Manifest { version: 1, ..example()? };
        let read = read_manifest(1, &write_manifest(&old));
        assert_eq!(read, Ok(Manifest { next: 7, ..old.clone() }));
        assert!(!old.gave_away(2) && Manifest { version: 2, ..old }.gave_away(2));
        Ok(())
    }

    #[test]
    fn a_newer_version_is_refused_by_name() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("create", "tempdir"))?;
        let mut bytes = write_manifest(&example()?);
        let newer = FORMAT_VERSION + 1;
        bytes[8] = newer as u8;
        let files = Files::disk();
        files.write_atomically(&Manifest::path(dir.path()), &bytes)?;
        let refused = Manifest::read(&files, dir.path()).map_err(|error| error.to_string());
        let told = format!(
            "it has format version {newer}, and this nearbit reads 1 to {FORMAT_VERSION}; open it with a \
             nearbit that is newer"
        );
        assert!(refused.is_err_and(|message| message.contains(&told)));
        Ok(())
    }
}
