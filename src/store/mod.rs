//! Keeps: segments, and the sled table derived from them.
//!
//! The simplest true version: a collection is a list of records in files that only grow. A write
//! appends to the last file and syncs it; to open is to read the files from the start. Then:
//!
//! - A record is found by its number through a byte or two in memory (`segment`, `ascending`).
//! - Writers that wait together share one sync (`commit`, `queue`), and who can wait for it is told
//!   before it (`durability`).
//! - A record is found by its id (`lookup`), and by a code near its own (`nearest`), in the **table**
//!   (`table`, `tree`): sorted entries in blocks in sled. What came since the last checkpoint is found in
//!   memory (`recent`); a checkpoint merges it into the table (`checkpoint`).
//! - That an id is new is nearly always known from memory (`bloom`).
//! - A clean close leaves what an open needs that wants no codes in memory (`closed`). After anything
//!   else such an open keeps little of what it reads, as does who fills a table that failed (`fill`).
//! - Every file operation goes through one small trait (`files`), so that tests can rebuild what
//!   a crash leaves at any moment, and make any operation fail.
//! - What is damaged is found before it is asked for (`scrub`), and can still be looked at, as far as
//!   it is intact (`walk`, `inspect`).
//! - What is intact of a damaged collection becomes a new one (`salvage`), a database is copied while
//!   it is used (`snapshot`), and parts of it are replaced all at once (`replace`).
//! - At open the table is compared with the segments. Where the two disagree the segments are
//!   right, and the table is filled again (`open`).
//! - Segments of which much is dead are written again without it (`compact`, `rewrite`); who reads
//!   one of them meanwhile goes on (`hold`). So is the table where sled holds on to room
//!   (`table/renew.rs`).
//!
//! ```text
//! table/                               sled, one for all collections; may be thrown away
//! collections/<name>/MANIFEST          settings, and the segments in order; replaced atomically
//! collections/<name>/segments/*.seg    the truth: append-only, every byte under a CRC-32C
//! ```
//!
//! A record number is given once: ascending in the order of commits, so it is also the age. A
//! record that is replaced gets a new number. Numbers that were never acknowledged may be given
//! again after a crash.
//!
//! Locks, in the order in which they are taken: the compaction, the writer, the checkpoint, the
//! MANIFEST, a change of the table, the state. The state is held for look-ups in memory and in the
//! table, never for a read or a write of a segment.

mod ascending;
mod background;
mod block;
mod bloom;
mod check;
mod checkpoint;
mod closed;
mod commit;
mod compact;
mod contents;
mod durability;
mod files;
mod fill;
mod finding;
mod format;
mod hash;
mod hold;
mod inspect;
mod live;
mod lookup;
mod manifest;
mod nearest;
mod open;
mod pieces;
mod queue;
mod recent;
mod replace;
mod replay;
mod rewrite;
mod row;
mod salvage;
mod scrub;
mod segment;
mod snapshot;
mod table;
mod tree;
mod trees;
mod walk;
mod wire;
mod write;

#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::sync::{RwLockReadGuard, RwLockWriteGuard};
use std::time::Instant;

pub use check::{Checked, check, settings_in};
pub use compact::Compaction;
pub use durability::{Durability, Interval};
pub use files::{Lock, create_dir, exists, list, lock, remove_file};
pub use finding::Finding;
pub use format::{FORMAT_VERSION, OLDEST_READABLE, check_format, create_format};
pub use hold::Hold;
pub use inspect::{Item, inspect};
pub use lookup::Head;
pub use nearest::{Near, Nearby, Way};
pub use replace::{Replacement, finish_replacement};
pub use salvage::{Salvaged, salvage};
pub use snapshot::{
    Manifest as SnapshotManifest, SnapshotFile, Snapshots, link_or_copy, pack, unpack,
};
pub use table::Table;

use crate::code::{Codes, Width};
use crate::error::{Error, Result};
use crate::record::{Record, RecordId};

/// How exactly a vector is kept.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Precision {
    /// Four bytes a number, as it was given.
    F32,
    /// Two bytes a number: 11 significant bits, up to 65,504.
    F16,
}

impl Precision {
    /// The bytes of a number.
    fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 => 2,
        }
    }

    /// That whose numbers have so many bytes.
    fn of_bytes(bytes: u8) -> Option<Self> {
        [Self::F32, Self::F16].into_iter().find(|precision| precision.bytes() == usize::from(bytes))
    }
}

/// One thing to do to a collection.
#[derive(Clone, PartialEq, Debug)]
pub enum Operation {
    /// Adds a record; one that has the same id is replaced.
    Put {
        /// The record.
        record: Record,
        /// How exactly its vector is kept.
        vectors: Precision,
    },
    /// Removes the record with this id, if there is one.
    Delete(RecordId),
}

/// What came of an operation; the numbers are those of records.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// The id was new.
    Inserted(u64),
    /// The id had a record, which is gone.
    Replaced {
        /// The record that was put.
        new: u64,
        /// The one that is gone.
        old: u64,
    },
    /// The record is gone.
    Deleted(u64),
    /// There was no record to delete.
    Missing,
}

/// Codes of live records, ascending by record number.
#[derive(Clone, PartialEq, Debug)]
pub struct Live {
    /// The record numbers.
    pub numbers: Vec<u64>,
    /// Their codes, in the same order.
    pub codes: Codes,
}

impl Live {
    /// No records yet.
    fn new(width: Width) -> Self {
        Self { numbers: Vec::new(), codes: Codes::new(width) }
    }

    /// Adds the code of a younger record.
    fn push(&mut self, number: u64, words: &[u64]) -> Result<()> {
        self.codes.push_words(words)?;
        self.numbers.push(number);
        Ok(())
    }
}

/// What one group changed, net: a record that came and went at once is in neither list.
#[derive(Clone, PartialEq, Debug)]
pub struct Committed {
    /// New records that have a code.
    pub added: Live,
    /// Records that were there before and were replaced or deleted.
    pub removed: Vec<u64>,
}

/// A segment that compaction does not touch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LeftAlone {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// Sizes of a store.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StoreStats {
    /// Live records.
    pub records: u64,
    /// Records that were replaced or deleted and still take room in the segments.
    pub dead: u64,
    /// Segment files.
    pub segments: u64,
    /// Their bytes.
    pub segment_bytes: u64,
    /// The bytes of the live records in them, about.
    pub live_bytes: u64,
    /// Bytes that were acknowledged and are not synced yet.
    pub unsynced_bytes: u64,
    /// Segments that are damaged, so that compaction does not touch them.
    pub left_alone: Vec<LeftAlone>,
    /// The bytes of this collection's blocks in the table.
    pub table_bytes: u64,
    /// Records below this number are in the table.
    pub table_reach: u64,
    /// Live records that are not in the table yet.
    pub recent: u64,
    /// Places in the files and the table that were found damaged since it was opened, by readers and
    /// by scrubs.
    pub damaged: u64,
    /// Whole passes of [`Store::scrub`] since then.
    pub scrubs: u64,
    /// Bytes that scrubs have verified since then.
    pub scrubbed_bytes: u64,
    /// Why writes are refused until it is opened again.
    pub refuses_writes: Option<String>,
}

/// The limits of a store; tests make them small.
#[derive(Clone, Copy, Debug)]
struct Limits {
    /// A segment that would grow beyond this is sealed.
    segment_bytes: u64,
    /// The most that one commit may hold, and the most that one sync waits for.
    group_bytes: usize,
    /// Records in memory from which on a checkpoint is due.
    checkpoint_records: u64,
    /// The bits of an id's hash that are used.
    hash_mask: u64,
    /// No compaction is due for less than this.
    spare_bytes: u64,
    /// Zeros that are laid ahead of groups which are few of that.
    ahead_bytes: usize,
    /// The most codes that are looked up where the table may not be scanned.
    look_ups: u64,
    /// The most hits that a search of the table holds.
    hits: usize,
    /// Live records from which on `CLOSED` is also left where codes are wanted in memory: fewer are
    /// read as quickly by who wants none.
    closed_records: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            segment_bytes: 256 << 20,
            group_bytes: 64 << 20,
            checkpoint_records: 256 << 10,
            hash_mask: u64::MAX,
            spare_bytes: 3 << 20,
            ahead_bytes: 128 << 10,
            look_ups: 1 << 24,
            hits: 1 << 20,
            closed_records: 1 << 16,
        }
    }
}

/// The records of one collection.
///
/// Any number of threads may read and write. A checkpoint runs when it is due, in a thread of its
/// own, and once more when the store is dropped; so does a compaction when it is due.
///
/// ```
/// use nearbit::store::{FORMAT_VERSION, Operation, Outcome, Precision, Store, Table};
/// use nearbit::{Code, Payload, Record, RecordId, Width};
///
/// # let dir = tempfile::tempdir().map_err(nearbit::Error::io("create", "a directory"))?;
/// # let dir = dir.path();
/// let width = Width::new(16)?;
/// let table = Table::open(&dir.join("table"))?;
/// let moons = dir.join("collections/moons");
/// let store = Store::create(&moons, FORMAT_VERSION, b"settings", width, &table)?;
///
/// let id = RecordId::new("io")?;
/// let record = Record {
///     id: id.clone(),
///     code: Some(Code::parse("0b0101010100000000", width)?),
///     payload: Payload::from_json(r#"{"planet": "Jupiter"}"#)?,
///     text: None,
///     vector: None,
/// };
/// let put = Operation::Put { record: record.clone(), vectors: Precision::F32 };
/// assert_eq!(store.commit(vec![put])?, [Outcome::Inserted(0)]);
/// drop(store);
///
/// let (store, live) = Store::open(&moons, &table)?;
/// assert_eq!(live.numbers, [0]);
/// assert_eq!(store.get(&id)?, Some((0, record)));
/// assert_eq!(store.within(&Code::zero(width), 4, 10)?, [(0, 4)]);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Debug)]
pub struct Store {
    shared: Arc<Shared>,
}

/// What the threads in the background see too.
#[derive(Debug)]
struct Shared {
    files: files::Files,
    dir: PathBuf,
    width: Width,
    hasher: hash::IdHasher,
    limits: Limits,
    table: Table,
    trees: trees::Trees,
    queue: queue::Queue,
    listeners: commit::Listeners,
    checkpointer: background::Background,
    compactor: background::Background,
    /// One compaction at a time.
    compacting: Mutex<()>,
    /// Held by whoever writes; the bytes of a group on their way to the file.
    writer: Mutex<Vec<u8>>,
    /// One checkpoint at a time.
    checkpointing: Mutex<()>,
    manifest: Mutex<manifest::Manifest>,
    state: RwLock<State>,
    /// Why writes are refused.
    poison: OnceLock<String>,
    /// Whether no codes are wanted in memory.
    lean: bool,
    /// The segments that `CLOSED` named when it was opened.
    opened_as: Option<Vec<manifest::Known>>,
    /// The stamp that the trees have, and the state's `moves` when they got it.
    stamped: Mutex<Option<(u64, [u8; 16])>>,
    /// Set when the store is dropped.
    stopping: AtomicBool,
    /// Until then no checkpoint begins by itself.
    patient_until: Mutex<Option<Instant>>,
    /// The spare bytes up to which no other compaction is tried.
    patience: AtomicU64,
    syncer: durability::Syncer,
    damages: scrub::Damages,
}

/// Where everything is.
#[derive(Debug)]
struct State {
    segments: segment::Segments,
    /// Segments that were replaced, for those who read them still.
    retired: hold::Retired,
    /// The hashes of the ids of all live records, and of some others.
    known_ids: bloom::Bloom,
    /// What came since the last checkpoint began.
    recent: recent::Recent,
    /// What the running checkpoint merges into the table.
    merging: Option<Arc<recent::Recent>>,
    /// Records below this number are in the table.
    reach: u64,
    /// How often something moved from memory to the table, or back.
    moves: u64,
    /// Why the table cannot be believed, until it is filled again.
    broken: Option<table::Broken>,
}

impl Store {
    /// The width of every code.
    pub fn width(&self) -> Width {
        self.shared.width
    }

    /// The number of live records.
    pub fn len(&self) -> u64 {
        self.shared.state().segments.live()
    }

    /// Whether there is no live record.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sizes.
    pub fn stats(&self) -> StoreStats {
        let state = self.shared.state();
        let merging = state.merging.as_ref().map_or(0, |merging| merging.len());
        StoreStats {
            records: state.segments.live(),
            dead: state.segments.dead(),
            segments: state.segments.iter().count() as u64,
            segment_bytes: state.segments.iter().map(|segment| segment.length).sum(),
            live_bytes: state.segments.live_bytes(),
            unsynced_bytes: {
                let open = state.segments.open();
                open.length - open.known.length
            },
            left_alone: state.segments.left_alone(),
            table_bytes: self.shared.trees.bytes(),
            table_reach: state.reach,
            recent: (state.recent.len() + merging) as u64,
            damaged: self.shared.damages.count(),
            scrubs: self.shared.damages.passes.load(Ordering::Relaxed),
            scrubbed_bytes: self.shared.damages.bytes.load(Ordering::Relaxed),
            refuses_writes: self.shared.poison.get().cloned(),
        }
    }
}

impl Shared {
    fn state(&self) -> RwLockReadGuard<'_, State> {
        self.state.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often something moved between memory and table, and how far that reaches.
    fn moves_and_reach(&self) -> (u64, u64) {
        let state = self.state();
        (state.moves, state.reach)
    }

    fn state_mut(&self) -> RwLockWriteGuard<'_, State> {
        self.state.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Refuses writes from now on.
    fn poison(&self, reason: impl ToString) {
        let reason = self.poison.get_or_init(|| reason.to_string());
        tracing::error!(collection = %self.dir.display(), reason, "writes are refused from now on");
    }

    fn check_poison(&self) -> Result<()> {
        self.poison.get().map_or(Ok(()), |reason| {
            Err(Error::Unavailable {
                what: format!("{} takes no more writes: {reason}", self.dir.display()),
                hint: "reopen the collection when the cause is gone; reads go on".to_owned(),
            })
        })
    }
}

/// Locks, also after a panic elsewhere: what is guarded here is whole at every step.
fn lock_mutex<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The bytes of the longest key: of a code of 1,024 bits.
const MAX_KEY_BYTES: usize = Width::MAX / 8;

/// The key of a code in the table: its packed bytes, put into `key`.
fn code_key<'a>(words: &[u64], width: Width, key: &'a mut [u8; MAX_KEY_BYTES]) -> &'a [u8] {
    for (bytes, word) in key.as_chunks_mut().0.iter_mut().zip(words) {
        *bytes = word.to_be_bytes();
    }
    &key[..width.bytes()]
}

/// The words of a code that is a key in the table, put into `words`.
fn code_words(key: &[u8], words: &mut Vec<u64>) {
    words.clear();
    words.extend(key.chunks(8).map(|chunk| {
        let mut word = [0; 8];
        word[..chunk.len()].copy_from_slice(chunk);
        u64::from_be_bytes(word)
    }));
}
