//! Checks a collection: every byte of its segments, and that the table holds what they hold.
//!
//! A segment is replayed as strictly as at open. Only where that fails it is walked through
//! (`walk.rs`), to find everything that is damaged and not only the first of it.

use std::cmp::Ordering;
use std::path::{Path, PathBuf};
use std::sync::MutexGuard;

use super::block::Run;
use super::files::{File, Files};
use super::finding::Finding;
use super::format::{Kind, RecordView, SEGMENT_HEADER_BYTES, SegmentHeader};
use super::hash::{HASH_BYTES, IdHasher, hash_key};
use super::manifest::{DELETED, Known, Manifest};
use super::replay::{self, End};
use super::segment::{Segment, SegmentFile};
use super::table::{Broken, Table};
use super::tree::Tree;
use super::trees::Trees;
use super::walk::{Hints, Piece, walk};
use super::{Limits, Store, lock_mutex};
use crate::code::Width;
use crate::error::{Error, Result};

/// Entries of the table that are named one by one.
const MAX_NAMED: usize = 20;

/// What a check found.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Checked {
    /// Live records.
    pub records: u64,
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// Entries of the table that were compared with them.
    pub table_entries: u64,
    /// What is damaged.
    pub findings: Vec<Finding>,
    /// What is no damage: what an interrupted write left, which the next open clears away.
    pub notes: Vec<Finding>,
}

impl Checked {
    fn find(&mut self, error: Error) -> Result<()> {
        self.findings.push(Finding::from_error(error)?);
        Ok(())
    }

    /// Notes all damage in a segment, of which a replay said `error`; the number that the next put
    /// gets, if the segment can be read at all.
    fn find_all(
        &mut self,
        files: &Files,
        path: &Path,
        hints: Hints,
        error: Error,
    ) -> Result<Option<u64>> {
        let before = self.findings.len();
        let bytes = files.read(path, u64::from(u32::MAX)).ok();
        let next = bytes.map(|bytes| {
            walk(&bytes, hints, &mut |piece| {
                if let Piece::Damage(damage) = piece {
                    self.findings.push(Finding::damage(path, damage));
                }
            })
        });
        if self.findings.len() == before {
            self.find(error)?;
        }
        Ok(next)
    }
}

/// Checks the collection in `dir`, which is not open, and changes nothing. Without a table only its
/// files are checked.
///
/// # Errors
/// Whatever the operating system refuses; damage is no error but a [`Finding`].
pub fn check(dir: &Path, table: Option<&Table>) -> Result<Checked> {
    check_with(&Files::disk(), dir, table, Limits::default())
}

/// The same on another medium and with other limits.
pub(super) fn check_with(
    files: &Files,
    dir: &Path,
    table: Option<&Table>,
    limits: Limits,
) -> Result<Checked> {
    let mut checked = Checked::default();
    let listed = segments_in(files, dir)?;
    let manifest = match Manifest::read(files, dir) {
        Ok(manifest) => manifest,
        Err(error) => {
            let finding = Finding::from_error(error)?;
            let found = files.exists(&Manifest::path(dir))? || lost_manifest(files, dir)?;
            // A crash left it while it was made or removed, and the next open takes it away.
            let list = if found { &mut checked.findings } else { &mut checked.notes };
            list.push(finding);
            return Ok(checked);
        }
    };
    let named = |path: &&PathBuf| {
        manifest.segments.iter().any(|known| **path == Segment::path(dir, known.segment))
    };
    for stranger in listed.iter().filter(|path| !named(path)) {
        let finding = Finding::of(stranger, "MANIFEST does not name it");
        match is_left_over(&manifest, stranger) || !holds_groups(files, stranger)? {
            true => checked.notes.push(finding),
            false => checked.findings.push(finding),
        }
    }
    let mut found =
        Found::new(IdHasher::new(manifest.collection, limits.hash_mask), manifest.width);
    let mut first = None;
    for (i, known) in manifest.segments.iter().enumerate() {
        first = match found.read_closed(files, dir, &manifest, i, first, &mut checked) {
            Ok(()) => Some(found.next),
            Err(error) => {
                let width = Some(manifest.width);
                let gaps = manifest.version > 1;
                let hints = Hints { width, durable: known.length, first, gaps, ..Hints::NONE };
                checked.find_all(files, &Segment::path(dir, known.segment), hints, error)?
            }
        };
    }
    found.finish(&mut checked);
    if let Some(table) = table.filter(|_| checked.findings.is_empty()) {
        match Trees::open(table, manifest.collection, manifest.width) {
            Ok(trees) => found.compare(&trees, table.dir(), &mut checked),
            Err(broken) => checked.findings.push(Finding::of(table.dir(), broken.to_string())),
        }
    }
    Ok(checked)
}

/// The settings of the collection in `dir`, if its MANIFEST can be read.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn settings_in(dir: &Path) -> Result<Option<Vec<u8>>> {
    match Manifest::read(&Files::disk(), dir) {
        Ok(manifest) => Ok(Some(manifest.settings)),
        Err(error) => Finding::from_error(error).map(|_| None),
    }
}

/// The segment files of the collection in `dir`, in order.
pub(super) fn segments_in(files: &Files, dir: &Path) -> Result<Vec<PathBuf>> {
    let segments = dir.join("segments");
    if !files.exists(&segments)? {
        return Ok(Vec::new());
    }
    let mut listed = files.list(&segments)?;
    listed.retain(|path| path.extension().is_some_and(|end| end == "seg"));
    Ok(listed)
}

/// Whether a segment that MANIFEST does not name is one that it gave away.
pub(super) fn is_left_over(manifest: &Manifest, path: &Path) -> bool {
    let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
    number.is_some_and(|number| manifest.gave_away(number))
}

/// Whether there is more in a segment than its header.
pub(super) fn holds_groups(files: &Files, path: &Path) -> Result<bool> {
    Ok(files.open_to_read(path)?.len()? > SEGMENT_HEADER_BYTES as u64)
}

/// Whether a folder without MANIFEST holds records, and nobody wanted them to go.
pub(super) fn lost_manifest(files: &Files, dir: &Path) -> Result<bool> {
    if files.exists(&dir.join(DELETED))? {
        return Ok(false);
    }
    segments_in(files, dir)?
        .iter()
        .try_fold(false, |any, path| Ok(any || holds_groups(files, path)?))
}

impl Store {
    /// Checks the collection while it is used. Writers go on; compaction waits, and checkpoints do
    /// while the last segment and the table are read. Gives the number and the code of each live
    /// record that has one to `each` whose bytes are intact.
    ///
    /// # Errors
    /// Whatever the operating system refuses; damage is no error but a [`Finding`].
    pub fn check(&self, mut each: impl FnMut(u64, &[u8])) -> Result<Checked> {
        let shared = &*self.shared;
        // Sealed segments stay what they are.
        let stay = lock_mutex(&shared.compacting);
        let mut checked = Checked::default();
        if let Err(error) = Manifest::read(&shared.files, &shared.dir) {
            checked.find(error)?;
        }
        let mut found = Found::new(shared.hasher, shared.width);
        let mut sealed = shared.state().segments.files();
        sealed.pop();
        found.read_open(&shared.files, &sealed, &mut checked)?;
        // The table does not change from here on, and reaches no further than what is read.
        let still = self.durable_and_still();
        let rest = shared.state().segments.files().split_off(sealed.len());
        found.read_open(&shared.files, &rest, &mut checked)?;
        found.finish(&mut checked);
        let believed = !shared.trees.given_up() && shared.state().broken.is_none();
        if checked.findings.is_empty() && believed {
            found.compare(&shared.trees, shared.table.dir(), &mut checked);
        }
        drop((still, stay));
        for i in 0..found.codes.len() {
            let (code, number) = found.codes.entry(i).split_at(found.codes.key_bytes());
            let number = number_of(number);
            if found.is_live(number) {
                each(number, code);
            }
        }
        // Whoever writes now tells the index before it lets go.
        drop(lock_mutex(&shared.writer));
        Ok(checked)
    }

    /// Holds checkpoints back, with all that the table may hold durable, but where writes are refused.
    fn durable_and_still(&self) -> MutexGuard<'_, ()> {
        let _writer = lock_mutex(&self.shared.writer);
        if self.shared.check_poison().is_ok() {
            // Where it fails writes are refused from then on.
            let _ = self.shared.sync_open();
        }
        lock_mutex(&self.shared.checkpointing)
    }

    /// Whether the record with this number is neither replaced nor deleted.
    pub fn is_live(&self, number: u64) -> bool {
        self.shared.state().segments.is_live(number)
    }
}

/// Everything that is damaged in a segment in use, of which a replay said `error`.
pub(super) fn damage_in(
    files: &Files,
    segment: &SegmentFile,
    error: Error,
) -> Result<Vec<Finding>> {
    let mut checked = Checked::default();
    let hints = Hints { durable: segment.known.length, ..Hints::NONE };
    checked.find_all(files, segment.file.path(), hints, error)?;
    Ok(checked.findings)
}

/// What the segments hold, as the table should hold it.
struct Found {
    hasher: IdHasher,
    ids: Run,
    codes: Run,
    /// Ascending once all is read.
    killed: Vec<u64>,
    /// The number that the next put gets.
    next: u64,
    bytes: u64,
}

impl Found {
    fn new(hasher: IdHasher, width: Width) -> Self {
        let (ids, codes) = (Run::new(HASH_BYTES), Run::new(width.bytes()));
        Self { hasher, ids, codes, killed: Vec::new(), next: 0, bytes: 0 }
    }

    fn add(&mut self, record: &RecordView) {
        let number = record.number;
        self.killed.extend(record.killed);
        if record.kind == Kind::Put {
            self.next = number + 1;
            self.ids.push(&hash_key(self.hasher.hash(record.body.id.text().as_bytes())), number);
            if let Some(code) = record.body.code {
                self.codes.push(code, number);
            }
        }
    }

    /// Reads a segment up to `end`, or as far as it is known to be durable.
    fn read(
        &mut self,
        file: &File,
        header: &SegmentHeader,
        crc: u32,
        known: &Known,
        end: Option<u64>,
    ) -> Result<End> {
        let end = end.unwrap_or(known.length);
        let read = replay::replay(file, header, crc, known, end, |_, _, record| {
            self.add(record);
            Ok(())
        })?;
        self.bytes += read.length;
        Ok(read)
    }

    /// Reads segments of a collection that is open, as far as they are durable.
    fn read_open(
        &mut self,
        files: &Files,
        segments: &[SegmentFile],
        checked: &mut Checked,
    ) -> Result<()> {
        for segment in segments {
            // Compaction may have taken out all records before it.
            self.next = segment.header.first;
            let SegmentFile { file, header, crc, known, .. } = segment;
            if let Err(error) = self.read(file, header, *crc, known, None) {
                checked.findings.extend(damage_in(files, segment, error)?);
            }
        }
        Ok(())
    }

    /// Reads segment `i` of a collection that is not open; its first put should be `first`.
    fn read_closed(
        &mut self,
        files: &Files,
        dir: &Path,
        manifest: &Manifest,
        i: usize,
        first: Option<u64>,
        checked: &mut Checked,
    ) -> Result<()> {
        let (known, last) = (&manifest.segments[i], i + 1 == manifest.segments.len());
        let segment = replay::open_named(files, dir, manifest, known, first.unwrap_or(0))?;
        let (path, header) = (segment.file.path(), segment.header);
        // Where nothing is ever taken out, nothing is missing between two segments.
        let got = header.first;
        if let Some(expected) = first.filter(|first| got > *first && manifest.version == 1) {
            let message = format!("expected it to go on with record {expected}, got {got}");
            return Err(Error::damaged(path, 0, message));
        }
        self.next = header.first;
        let len = segment.file.len()?;
        if !last && len != known.length {
            let message = format!("expected {} bytes, got {len}", known.length);
            return Err(Error::damaged(path, None, message));
        }
        let end = self.read(&segment.file, &header, segment.crc, known, Some(len))?;
        if !end.zeros {
            let message = format!("an interrupted write left {} bytes", end.left);
            let offset = Some(end.length);
            checked.notes.push(Finding { offset, ..Finding::of(path, message) });
        }
        Ok(())
    }

    fn is_live(&self, number: u64) -> bool {
        self.killed.binary_search(&number).is_err()
    }

    /// Whether there are bytes of such a record; they were added in the order of their numbers.
    fn stands(&self, number: u64) -> bool {
        let (mut from, mut to) = (0, self.ids.len());
        while from < to {
            let middle = from + (to - from) / 2;
            match number_of(self.ids.entry(middle)).cmp(&number) {
                Ordering::Less => from = middle + 1,
                Ordering::Greater => to = middle,
                Ordering::Equal => return true,
            }
        }
        false
    }

    fn finish(&mut self, checked: &mut Checked) {
        self.killed.sort_unstable();
        self.killed.dedup();
        checked.bytes = self.bytes;
        let numbers = (0..self.ids.len()).map(|i| number_of(self.ids.entry(i)));
        checked.records = numbers.filter(|number| self.is_live(*number)).count() as u64;
    }

    fn compare(&self, trees: &Trees, table: &Path, checked: &mut Checked) {
        for (name, tree, run) in
            [("ids", &trees.ids, &self.ids), ("codes", &trees.codes, &self.codes)]
        {
            if let Err(reason) = self.compare_tree(name, tree, run, table, checked) {
                let list = match reason {
                    Broken::Old => &mut checked.notes,
                    _ => &mut checked.findings,
                };
                list.push(Finding::of(table, format!("the tree of {name}: {reason}")));
            }
        }
    }

    /// Whether the tree holds what the segments hold, up to where it reaches. Dead entries may be in
    /// it.
    fn compare_tree(
        &self,
        name: &str,
        tree: &Tree,
        run: &Run,
        table: &Path,
        checked: &mut Checked,
    ) -> Result<(), Broken> {
        let Some(reach) = tree.reach()? else { return Ok(()) };
        if reach > self.next {
            let next = self.next;
            return Err(Broken::Failed(format!("it reaches record {reach}, the segments {next}")));
        }
        let mut expected = run.clone();
        expected.retain(|number| number < reach && self.is_live(number));
        expected.sort();
        let (mut found, mut interrupted) = (Run::new(run.key_bytes()), false);
        tree.each_block(|_, block| {
            interrupted |= block.reach > reach;
            // What compaction took out may stay in the tree, for no reader finds its number.
            let counts = |number| self.is_live(number) && (number >= reach || self.stands(number));
            for (key, number) in block.iter().filter(|(_, number)| counts(*number)) {
                found.push(key, number);
            }
            Ok(())
        })?;
        if interrupted {
            let message = format!("a merge into the tree of {name} was interrupted");
            checked.notes.push(Finding::of(table, message));
            return Ok(());
        }
        found.sort();
        checked.table_entries += found.len() as u64;
        let differences = differences(&expected, &found);
        let more = differences.len().saturating_sub(MAX_NAMED);
        for (number, missing) in differences.into_iter().take(MAX_NAMED) {
            let message = match missing {
                true => format!("the tree of {name} lacks a record"),
                false => format!("the tree of {name} has what the segments do not have"),
            };
            let numbers = number..number.saturating_add(1);
            checked.findings.push(Finding { numbers, ..Finding::of(table, message) });
        }
        if more > 0 {
            let message = format!("the tree of {name} differs in {more} more entries");
            checked.findings.push(Finding::of(table, message));
        }
        Ok(())
    }
}

/// The number that ends an entry.
fn number_of(entry: &[u8]) -> u64 {
    entry.last_chunk().map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// The numbers of entries that only one of two sorted runs has, and whether the second lacks it.
fn differences(expected: &Run, found: &Run) -> Vec<(u64, bool)> {
    let (mut i, mut j) = (0, 0);
    let mut differences = Vec::new();
    while i < expected.len() || j < found.len() {
        let a = (i < expected.len()).then(|| expected.entry(i));
        let b = (j < found.len()).then(|| found.entry(j));
        match (a, b) {
            (Some(a), b) if b.is_none_or(|b| a < b) => {
                differences.push((number_of(a), true));
                i += 1;
            }
            (a, Some(b)) if a.is_none_or(|a| b < a) => {
                differences.push((number_of(b), false));
                j += 1;
            }
            _ => (i, j) = (i + 1, j + 1),
        }
    }
    differences
}
