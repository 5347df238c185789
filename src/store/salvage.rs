//! Salvages a damaged collection: all that is intact becomes a new collection, beside the old one.
//!
//! What is intact is the records whose checksum passes, be the group around them damaged or not.
//! Which of them are live follows from what the records say of one another, and where a record that
//! said so is lost, from this:
//!
//! - Of records with the same id only the youngest is live, and none that is older than a delete of
//!   that id.
//! - Where a damaged record still shows an id and the number that it replaces or deletes, fills its
//!   place, and the record of that number has that id, it was replaced or deleted.
//!
//! A lost delete or replacement whose id cannot be read may bring an older form of a record back;
//! it is reported like every loss. Records get new numbers, in the same order.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::check::{holds_groups, is_left_over, segments_in};
use super::files::Files;
use super::finding::Finding;
use super::format::{Kind, SEGMENT_HEADER_BYTES, SegmentHeader, read_record, read_segment_header};
use super::manifest::Manifest;
use super::segment::Segment;
use super::walk::{Hints, Piece, Seems, walk};
use super::wire::Reader;
use super::{Limits, Operation, Precision, Store, Table};
use crate::code::Width;
use crate::error::{Error, Result};

/// No segment is longer: it counts its bytes with 32 bits.
const MAX_BYTES: u64 = u32::MAX as u64;
/// The new collection is written in commits of about so many bytes.
const COMMIT_BYTES: usize = 4 << 20;

/// What came of a salvage.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Salvaged {
    /// Records that are kept.
    pub records: u64,
    /// What is lost: by number, by place, and by id where it can be read.
    pub lost: Vec<Finding>,
}

/// Writes all that is intact in the collection in `from` as a new collection into `to`, in a
/// `version` of the format.
///
/// `settings` gets the settings of the old one, if they can be read, and gives those of the new one.
///
/// # Errors
/// [`Error::Damaged`] where nothing tells how wide its codes are; whatever the operating system
/// refuses.
pub fn salvage(
    from: &Path,
    to: &Path,
    version: u32,
    table: &Table,
    settings: impl FnOnce(Option<&[u8]>, Width) -> Vec<u8>,
) -> Result<Salvaged> {
    salvage_with(&Files::disk(), from, to, version, table, Limits::default(), settings)
}

/// The same on another medium and with other limits.
pub(super) fn salvage_with(
    files: &Files,
    from: &Path,
    to: &Path,
    version: u32,
    table: &Table,
    limits: Limits,
    settings: impl FnOnce(Option<&[u8]>, Width) -> Vec<u8>,
) -> Result<Salvaged> {
    let manifest = Manifest::read(files, from);
    let segments = SegmentPaths::find(files, from, manifest.as_ref().ok())?;
    let Some(width) = segments.width else {
        let message = "neither MANIFEST nor any segment tells how wide its codes are";
        return Err(Error::damaged(from, None, message));
    };
    let mut wreck = Wreck::default();
    for (i, segment) in segments.paths.iter().enumerate() {
        wreck.read(files, segment, i, segments.hints(i, wreck.next))?;
    }
    for known in manifest.iter().flat_map(|manifest| &manifest.segments) {
        let path = Segment::path(from, known.segment);
        if !segments.paths.contains(&path) {
            wreck.lost.push(Finding::of(path, "it is missing, or of another collection"));
        }
    }
    let known = manifest.as_ref().ok().map(|manifest| manifest.settings.as_slice());
    let settings = settings(known, width);
    if let Err(error) = &manifest {
        let message = format!("{}; the settings are lost", super::inspect::flaw(error));
        wreck.lost.push(Finding::of(Manifest::path(from), message));
    }
    wreck.settle();
    let store = Store::create_on(files, to, version, &settings, width, table, limits)?;
    let records = wreck.copy(files, &segments.paths, width, &store)?;
    Ok(Salvaged { records, lost: wreck.lost })
}

/// The segments that belong to a collection, in order, and what is known of each.
struct SegmentPaths {
    paths: Vec<PathBuf>,
    /// The numbers in their names.
    numbers: Vec<Option<u64>>,
    collection: Option<[u8; 16]>,
    headers: Vec<Option<SegmentHeader>>,
    /// The bytes that were durable for certain, and all.
    durable: Vec<u64>,
    lengths: Vec<u64>,
    width: Option<Width>,
    /// The version that the collection is written in, if MANIFEST tells.
    version: Option<u32>,
}

impl SegmentPaths {
    fn find(files: &Files, dir: &Path, manifest: Option<&Manifest>) -> Result<Self> {
        let mut found = Self {
            paths: Vec::new(),
            numbers: Vec::new(),
            collection: manifest.map(|manifest| manifest.collection),
            headers: Vec::new(),
            durable: Vec::new(),
            lengths: Vec::new(),
            width: manifest.map(|manifest| manifest.width),
            version: manifest.map(|manifest| manifest.version),
        };
        for path in in_order(files, dir, manifest)? {
            let known = manifest.and_then(|manifest| {
                let mut known = manifest.segments.iter();
                known.find(|known| path == Segment::path(dir, known.segment))
            });
            if let Some(manifest) = manifest.filter(|_| known.is_none())
                && (is_left_over(manifest, &path) || !holds_groups(files, &path)?)
            {
                continue;
            }
            let bytes = files.read(&path, MAX_BYTES)?;
            let header = read_segment_header(&bytes).ok().map(|(header, _)| header);
            if let Some(header) = header {
                if *found.collection.get_or_insert(header.collection) != header.collection {
                    continue;
                }
                found.width.get_or_insert(header.width);
            }
            found.durable.push(known.map_or(0, |known| known.length));
            found.lengths.push(bytes.len() as u64);
            let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
            found.numbers.push(number);
            found.paths.push(path);
            found.headers.push(header);
        }
        // All but the last are complete, however long they have become: no torn tail ends them.
        let last = found.paths.len().saturating_sub(1);
        for (durable, length) in found.durable.iter_mut().zip(&found.lengths).take(last) {
            *durable = *length.max(durable);
        }
        Ok(found)
    }

    /// What is known of segment `i`, where `next` is the number after those of the ones before.
    fn hints(&self, i: usize, next: Option<u64>) -> Hints {
        let after = self.headers.get(i + 1).copied().flatten();
        let last = after.map(|header| header.first);
        let header = || {
            let (segment, collection) = (self.numbers[i]?, self.collection?);
            let (version, first) = (self.version?, next.unwrap_or(0));
            Some(SegmentHeader { version, segment, collection, width: self.width?, first })
        };
        let (width, durable) = (self.width, self.durable[i]);
        let gaps = self.version != Some(1);
        Hints { width, header: header(), durable, first: next, last, gaps }
    }
}

/// The segment files in the order of their records, which is not that of their names where compaction
/// wrote some again: as MANIFEST names them, or else as their headers say.
fn in_order(files: &Files, dir: &Path, manifest: Option<&Manifest>) -> Result<Vec<PathBuf>> {
    let mut listed = Vec::new();
    let mut first = 0;
    for path in segments_in(files, dir)? {
        let place = match manifest {
            Some(manifest) => {
                let mut known = manifest.segments.iter();
                known.position(|known| path == Segment::path(dir, known.segment))
            }
            None => {
                let header = read_segment_header(&files.read(&path, MAX_BYTES)?);
                // One whose header is damaged comes after the one before it, as it mostly did.
                first = header.map_or(first, |(header, _)| header.first);
                Some(first as usize)
            }
        };
        // What MANIFEST does not name may be newer.
        listed.push((place.unwrap_or(usize::MAX), path));
    }
    listed.sort_by_key(|(place, _)| *place);
    Ok(listed.into_iter().map(|(_, path)| path).collect())
}

/// Where an intact put stands.
struct Put {
    segment: usize,
    offset: usize,
}

/// All that can be read of a damaged collection.
#[derive(Default)]
struct Wreck {
    puts: BTreeMap<u64, Put>,
    /// The numbers of the puts with an id, ascending.
    ids: HashMap<Box<str>, Vec<u64>>,
    /// Numbers that an intact record replaces or deletes.
    killed: HashSet<u64>,
    /// The ids that intact deletes name, and the number that the next put had then.
    deletes: Vec<(Box<str>, u64)>,
    /// What damaged records say of themselves.
    shown: Vec<Seems>,
    lost: Vec<Finding>,
    next: Option<u64>,
}

impl Wreck {
    fn read(&mut self, files: &Files, path: &Path, segment: usize, hints: Hints) -> Result<()> {
        let bytes = files.read(path, MAX_BYTES)?;
        let next = walk(&bytes, hints, &mut |piece| match piece {
            Piece::Record { range, record } => {
                let number = record.number;
                self.killed.extend(record.killed);
                if record.kind == Kind::Delete {
                    self.deletes.push(((*record.body.id.text()).into(), number));
                } else {
                    let offset = range.start as usize;
                    if self.puts.insert(number, Put { segment, offset }).is_none() {
                        self.ids.entry((*record.body.id.text()).into()).or_default().push(number);
                    }
                }
            }
            Piece::Damage(damage) => {
                self.shown.extend(damage.seems.clone());
                if damage.loses {
                    self.lost.push(Finding::damage(path, damage));
                }
            }
            Piece::Header(_) | Piece::Group { .. } | Piece::Ahead { .. } | Piece::Torn { .. } => {}
        });
        self.next = Some(next);
        Ok(())
    }

    /// Decides what is live, and what of the damage is hardly a loss.
    fn settle(&mut self) {
        for numbers in self.ids.values_mut() {
            numbers.sort_unstable();
            self.killed.extend(numbers.split_last().into_iter().flat_map(|(_, older)| older));
        }
        for (id, number) in &self.deletes {
            let older = self.ids.get(id).into_iter().flatten();
            self.killed.extend(older.filter(|older| *older < number));
        }
        for Seems { id, killed } in &self.shown {
            let numbers = self.ids.get(id.as_str());
            self.killed.extend(killed.filter(|killed| numbers.is_some_and(|n| n.contains(killed))));
        }
        let (killed, puts) = (&self.killed, &self.puts);
        let known = |number| killed.contains(&number) || puts.contains_key(&number);
        for finding in self.lost.iter_mut().filter(|finding| !finding.numbers.is_empty()) {
            if finding.numbers.clone().all(known) {
                finding.message += ", of which nothing was live; a delete may be lost with it";
            }
        }
    }

    /// Writes what is live into `store`; returns how many records.
    fn copy(
        &mut self,
        files: &Files,
        paths: &[PathBuf],
        width: Width,
        store: &Store,
    ) -> Result<u64> {
        let mut group = Vec::new();
        let (mut open, mut bytes, mut group_bytes, mut records) = (None, Vec::new(), 0, 0);
        let most = COMMIT_BYTES.min(store.shared.limits.group_bytes / 4);
        for (number, put) in &self.puts {
            if self.killed.contains(number) {
                continue;
            }
            if open != Some(put.segment) {
                bytes = files.read(&paths[put.segment], MAX_BYTES)?;
                open = Some(put.segment);
            }
            let mut reader = Reader(&bytes[put.offset..]);
            let view = read_record(&mut reader, *number, width);
            let len = bytes.len() - put.offset - reader.0.len();
            let read = view.and_then(|view| {
                let vectors = view.body.vector.map_or(Precision::F32, |(precision, _)| precision);
                Ok(Operation::Put { record: view.to_record(width)?, vectors })
            });
            match read {
                Ok(operation) => group.push(operation),
                Err(flaw) => {
                    let finding = Finding::of(&paths[put.segment], flaw);
                    let (offset, numbers) = (Some(put.offset as u64), *number..*number + 1);
                    self.lost.push(Finding { offset, numbers, ..finding });
                    continue;
                }
            }
            records += 1;
            group_bytes += len + SEGMENT_HEADER_BYTES;
            if group_bytes > most {
                store.commit(std::mem::take(&mut group))?;
                group_bytes = 0;
            }
        }
        store.commit(group)?;
        Ok(records)
    }
}
