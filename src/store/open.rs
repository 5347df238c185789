//! Creating, opening, removing: the segments are replayed, and the table is compared with them.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, OnceLock, RwLock};

use super::background::Background;
use super::bloom::Bloom;
use super::check::lost_manifest;
use super::commit::Listeners;
use super::contents::{Contents, read_segments};
use super::durability::Syncer;
use super::files::{Files, is_only_full};
use super::fill::{Filled, fill};
use super::format::{SEGMENT_HEADER_BYTES, SegmentHeader};
use super::hash::IdHasher;
use super::hold::Retired;
use super::manifest::{DELETED, Known, Manifest};
use super::queue::Queue;
use super::recent::Recent;
use super::scrub::Damages;
use super::segment::{Segment, Segments};
use super::table::Table;
use super::trees::Trees;
use super::{Limits, Live, Shared, State, Store, closed};
use crate::code::Width;
use crate::error::{Error, Result};

impl Store {
    /// Makes an empty collection in `dir`, in a `version` of the format that is read here.
    /// `settings` are kept for the caller and mean nothing here.
    ///
    /// # Errors
    /// [`Error::Exists`] where `dir` holds a collection; whatever the operating system refuses.
    pub fn create(
        dir: &Path,
        version: u32,
        settings: &[u8],
        width: Width,
        table: &Table,
    ) -> Result<Self> {
        let files = Files::disk();
        Self::create_on(&files, dir, version, settings, width, table, Limits::default())
    }

    /// The same on another medium and with other limits.
    pub(super) fn create_on(
        files: &Files,
        dir: &Path,
        version: u32,
        settings: &[u8],
        width: Width,
        table: &Table,
        limits: Limits,
    ) -> Result<Self> {
        if files.exists(&Manifest::path(dir))? {
            let hint = "open it, or remove it first";
            let (kind, name) = ("collection", dir.display().to_string());
            return Err(Error::Exists { kind, name, hint: hint.to_owned() });
        }
        // Segments without a MANIFEST are what a crash left of an earlier attempt.
        let segments = dir.join("segments");
        files.remove_dir(&segments)?;
        files.create_dir(&segments)?;
        let collection = uuid::Uuid::now_v7().into_bytes();
        let header = SegmentHeader { version, segment: 1, collection, width, first: 0 };
        let first = Segment::create(files, dir, header)?;
        files.sync_dir(&segments)?;
        let settings = settings.to_vec();
        let segments = vec![first.known];
        let manifest = Manifest { version, collection, width, settings, next: 2, segments };
        manifest.write(files, dir)?;
        let trees = Trees::open(table, collection, width).map_err(|broken| table.error(broken))?;
        let state = State::new(Segments::new(first), Recent::new(width), Bloom::with_room(0), 0);
        let opened = Opened { manifest, trees, state, lean: false, opened_as: None };
        Ok(opened.store(files, dir, table, limits))
    }

    /// Opens the collection in `dir`: reads and checks every byte of its segments, cuts a torn
    /// tail, and compares the table with them. Gives the codes of all live records too.
    ///
    /// # Errors
    /// [`Error::Damaged`] with file and byte where a segment is not what was written,
    /// [`Error::Invalid`] where a newer program wrote it, [`Error::Io`] where a file is missing.
    pub fn open(dir: &Path, table: &Table) -> Result<(Self, Live)> {
        Self::open_on(&Files::disk(), dir, table, Limits::default())
    }

    /// The same, but that a few records fill a segment, and no zeros are laid ahead.
    #[cfg(test)]
    pub(crate) fn open_with_small_segments(dir: &Path, table: &Table) -> Result<Self> {
        let limits = Limits { segment_bytes: 1500, ahead_bytes: 0, ..Limits::default() };
        Self::open_on(&Files::disk(), dir, table, limits).map(|(store, _)| store)
    }

    /// The same on another medium and with other limits.
    pub(super) fn open_on(
        files: &Files,
        dir: &Path,
        table: &Table,
        limits: Limits,
    ) -> Result<(Self, Live)> {
        let (opened, live) = Opened::read_all(files, dir, table, limits)?;
        Ok((opened.store(files, dir, table, limits), live))
    }

    /// Opens the collection in `dir` for who needs no codes in memory. After a clean close neither
    /// the segments nor the table are read; otherwise they are, as by [`Store::open`].
    ///
    /// # Errors
    /// As [`Store::open`]. What is damaged in a segment may be noticed when it is read only.
    pub fn open_lean(dir: &Path, table: &Table) -> Result<Self> {
        Self::open_lean_on(&Files::disk(), dir, table, Limits::default())
    }

    /// The same on another medium and with other limits.
    pub(super) fn open_lean_on(
        files: &Files,
        dir: &Path,
        table: &Table,
        limits: Limits,
    ) -> Result<Self> {
        let opened = match Opened::as_closed(files, dir, table)? {
            Some(opened) => opened,
            None => Opened::read_again_and_again(files, dir, table, limits)?,
        };
        Ok(Opened { lean: true, ..opened }.store(files, dir, table, limits))
    }

    /// Whether `dir` holds a collection: it does from the moment that its MANIFEST stands.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn exists(dir: &Path) -> Result<bool> {
        Files::disk().exists(&Manifest::path(dir))
    }

    /// Removes what a crash left in `dir` while a collection was made or removed there, in which no
    /// MANIFEST stands. What is no collection is left alone.
    ///
    /// # Errors
    /// [`Error::Damaged`] where segments hold records: there MANIFEST was lost.
    pub fn remove_leftover(dir: &Path, table: &Table) -> Result<()> {
        let files = Files::disk();
        let is_ours = |path: &PathBuf| OURS.iter().any(|name| path.ends_with(name));
        let stranger = files.list(dir)?.into_iter().find(|path| !is_ours(path));
        if let Some(stranger) = stranger {
            tracing::warn!(path = %stranger.display(), "it belongs to no collection; left alone");
            return Ok(());
        }
        if lost_manifest(&files, dir)? {
            let message = "it is missing, yet there are segments that hold records: put it back, or \
                           save them with: nearbit check --repair";
            return Err(Error::damaged(Manifest::path(dir), None, message));
        }
        tracing::warn!(dir = %dir.display(), "removing a collection that was half made or half deleted");
        Self::remove_on(&files, dir, table)
    }

    /// Removes the collection in `dir` and its part of the table. It must not be open.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn remove(dir: &Path, table: &Table) -> Result<()> {
        Self::remove_on(&Files::disk(), dir, table)
    }

    /// The same on another medium.
    pub(super) fn remove_on(files: &Files, dir: &Path, table: &Table) -> Result<()> {
        let manifest = Manifest::read(files, dir);
        // From here on it is to go, whatever of it is still there.
        if files.exists(&Manifest::path(dir))? {
            files.rename(&Manifest::path(dir), &dir.join(DELETED))?;
            files.sync_dir(dir)?;
        }
        // Before the mark, without which they would count as lost.
        files.remove_dir(&dir.join("segments"))?;
        files.remove_dir(dir)?;
        if let Some(parent) = dir.parent() {
            files.sync_dir(parent)?;
        }
        if let Ok(manifest) = manifest
            && let Err(reason) = table.drop_collection(manifest.collection)
        {
            // Blocks of a name that is never used again: they take room and harm nobody.
            tracing::warn!(collection = %dir.display(), %reason, "its part of the table stays");
        }
        table.renew_if_due(|| Ok(()));
        Ok(())
    }
}

/// All that the folder of a collection without MANIFEST may hold.
const OURS: [&str; 5] = ["segments", "MANIFEST.new", DELETED, "CLOSED", "CLOSED.in-use"];

/// What an open found.
struct Opened {
    manifest: Manifest,
    trees: Trees,
    state: State,
    lean: bool,
    opened_as: Option<Vec<Known>>,
}

impl Opened {
    /// As a clean close left it, where it did and nothing is different since.
    fn as_closed(files: &Files, dir: &Path, table: &Table) -> Result<Option<Self>> {
        let manifest = Manifest::read(files, dir)?;
        let strangers = strangers(files, dir, &manifest)?;
        let trees = Trees::open(table, manifest.collection, manifest.width);
        let trees = trees.map_err(|broken| table.error(broken))?;
        let Some(closed) = closed::open(files, dir, &manifest, table, &trees)? else {
            return Ok(None);
        };
        clear_away(files, &strangers)?;
        let (recent, reach) = (Recent::new(manifest.width), closed.segments.next());
        let state = State::new(closed.segments, recent, closed.known_ids, reach);
        let opened_as = Some(manifest.segments.clone());
        Ok(Some(Self { manifest, trees, state, lean: true, opened_as }))
    }

    /// Reads all segments, and compares the table with them.
    fn read_all(files: &Files, dir: &Path, table: &Table, limits: Limits) -> Result<(Self, Live)> {
        let (manifest, strangers) = named(files, dir)?;
        let hasher = IdHasher::new(manifest.collection, limits.hash_mask);
        let mut contents = Contents::new(hasher, manifest.width);
        let segments = read_segments(files, dir, &manifest, Some(&mut contents))?;
        // Not before all that MANIFEST names was found to be there.
        clear_away(files, &strangers)?;

        let trees = Trees::open(table, manifest.collection, manifest.width);
        let trees = trees.map_err(|broken| table.error(broken))?;
        // Before sled may be told something. Where the table agrees too, it is left again.
        let closed = closed::open(files, dir, &manifest, table, &trees)?;
        let checked = trees
            .reaches()
            .and_then(|reaches| trees.check(reaches, contents.sums(&segments, reaches), &segments));
        let reach = trees.or_emptied(checked, table, dir)?;

        let recent = contents.recent(&segments, reach);
        let agrees = closed.is_some() && reach == segments.next();
        let opened_as = agrees.then(|| manifest.segments.clone());
        let known_ids = closed.map(|closed| closed.known_ids).unwrap_or_else(|| {
            let mut known_ids = Bloom::with_room(2 * segments.live() as usize);
            contents.ids(&segments, 0).for_each(|(_, hash)| known_ids.insert(hash));
            known_ids
        });
        let manifest = with_length(files, dir, manifest, &segments)?;
        let state = State::new(segments, recent, known_ids, reach);
        let opened = Self { manifest, trees, state, lean: false, opened_as };
        Ok((opened, contents.codes))
    }

    /// The same for who needs no codes in memory: with time instead of memory.
    fn read_again_and_again(
        files: &Files,
        dir: &Path,
        table: &Table,
        limits: Limits,
    ) -> Result<Self> {
        let (manifest, strangers) = named(files, dir)?;
        let segments = read_segments(files, dir, &manifest, None)?;
        clear_away(files, &strangers)?;
        let trees = Trees::open(table, manifest.collection, manifest.width);
        let trees = trees.map_err(|broken| table.error(broken))?;
        let hasher = IdHasher::new(manifest.collection, limits.hash_mask);
        let Filled { recent, known_ids, reach } =
            fill(dir, table, &trees, &segments, hasher, manifest.width, limits)?;
        let manifest = with_length(files, dir, manifest, &segments)?;
        let state = State::new(segments, recent, known_ids, reach);
        Ok(Self { manifest, trees, state, lean: true, opened_as: None })
    }

    fn store(self, files: &Files, dir: &Path, table: &Table, limits: Limits) -> Store {
        let Self { manifest, trees, state, lean, opened_as } = self;
        let shared = Shared {
            files: files.clone(),
            dir: dir.to_path_buf(),
            width: manifest.width,
            hasher: IdHasher::new(manifest.collection, limits.hash_mask),
            limits,
            table: table.clone(),
            trees,
            queue: Queue::default(),
            listeners: Listeners::default(),
            checkpointer: Background::new("checkpoint"),
            compactor: Background::new("compaction"),
            compacting: Mutex::default(),
            writer: Mutex::default(),
            checkpointing: Mutex::default(),
            manifest: Mutex::new(manifest),
            state: RwLock::new(state),
            poison: OnceLock::new(),
            lean,
            opened_as,
            stamped: Mutex::default(),
            stopping: AtomicBool::new(false),
            patient_until: Mutex::default(),
            patience: AtomicU64::new(0),
            syncer: Syncer::default(),
            damages: Damages::default(),
        };
        let shared = Arc::new(shared);
        shared.checkpoint_if_due();
        shared.compact_if_due();
        Store { shared }
    }
}

impl State {
    fn new(segments: Segments, recent: Recent, known_ids: Bloom, reach: u64) -> Self {
        Self {
            segments,
            retired: Retired::default(),
            known_ids,
            recent,
            merging: None,
            reach,
            moves: 0,
            broken: None,
        }
    }
}

/// What MANIFEST says, and the segments that it does not name.
fn named(files: &Files, dir: &Path) -> Result<(Manifest, Vec<PathBuf>)> {
    let manifest = Manifest::read(files, dir)?;
    // Whoever wrote it may have been killed before its name was durable.
    files.sync_dir(dir)?;
    let strangers = strangers(files, dir, &manifest)?;
    Ok((manifest, strangers))
}

/// Notes in MANIFEST how much of the open segment was found to be durable.
fn with_length(
    files: &Files,
    dir: &Path,
    mut manifest: Manifest,
    segments: &Segments,
) -> Result<Manifest> {
    let open = segments.open().known;
    if let Some(last) = manifest.segments.last_mut()
        && *last != open
    {
        let before = std::mem::replace(last, open);
        match manifest.write(files, dir) {
            // Where there is no room it can be read all the same: the old MANIFEST stands.
            Err(error) if is_only_full(&error) => {
                tracing::warn!(%error, "opened as it is; writes will be refused");
                manifest = manifest.with_open(before);
            }
            written => written?,
        }
    }
    Ok(manifest)
}

/// Removes what [`strangers`] found.
fn clear_away(files: &Files, strangers: &[PathBuf]) -> Result<()> {
    strangers.iter().try_for_each(|path| {
        tracing::warn!(file = %path.display(), "an interrupted write left it; removed");
        files.remove_file(path)
    })
}

/// Segments that the MANIFEST does not name, to be removed: a crash while one was added or replaced
/// left them.
///
/// # Errors
/// [`Error::Damaged`] for one that holds records and may be newer than the MANIFEST.
fn strangers(files: &Files, dir: &Path, manifest: &Manifest) -> Result<Vec<PathBuf>> {
    let known: Vec<_> =
        manifest.segments.iter().map(|known| Segment::path(dir, known.segment)).collect();
    let mut strangers = files.list(&dir.join("segments"))?;
    strangers
        .retain(|path| !known.contains(path) && path.extension().is_some_and(|end| end == "seg"));
    for path in &strangers {
        let number = path.file_stem().and_then(|stem| stem.to_str()?.parse().ok());
        let gave_away = number.is_some_and(|number| manifest.gave_away(number));
        if !gave_away && files.open(path)?.len()? > SEGMENT_HEADER_BYTES as u64 {
            let message = "MANIFEST does not name it, yet it holds records (is MANIFEST an old \
                           copy?)";
            return Err(Error::damaged(path, None, message));
        }
    }
    Ok(strangers)
}
