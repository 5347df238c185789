//! The table: one sled database per data directory, shared by all collections.
//!
//! It holds nothing that the segments do not hold, so it may be thrown away at any time. sled
//! 0.34.7 loses what it was told at a power cut and can panic over one flipped bit; so nothing that
//! it says is believed without a check, and no panic of it gets out of here. Each collection has
//! two trees in it, see `tree.rs`. Its files only grow, until they are written anew, see
//! `table/renew.rs`.

mod renew;

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock, RwLockReadGuard, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use super::files::{Files, wait_until_free};
use super::lock_mutex;
use crate::error::{Error, Result};

/// Memory that sled may use for blocks, of all collections together.
const CACHE_BYTES: u64 = 256 << 20;

/// How long an open waits for a table that is just being closed.
const PATIENCE: Duration = Duration::from_secs(5);

/// Why nothing is found in the table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Broken {
    /// It cannot be believed, for this reason.
    Failed(String),
    /// It is being filled from the beginning, or that failed.
    Filling,
    /// An older program wrote it; who opens the collection fills it again.
    Old,
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Failed(reason) => reason,
            Self::Filling => "it is being filled",
            Self::Old => "an older version wrote it; the next open fills it again",
        })
    }
}

impl From<sled::Error> for Broken {
    fn from(error: sled::Error) -> Self {
        Self::Failed(format!("sled says: {error}"))
    }
}

/// Does `work` on the table; a panic in it comes back as an error.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Broken>) -> Result<T, Broken> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let said = panic.downcast_ref::<String>().map(String::as_str);
        let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no reason");
        Err(Broken::Failed(format!("sled panicked: {said}")))
    })
}

/// The table of a data directory. A clone is another handle on the same table.
#[derive(Clone, Debug)]
pub struct Table(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    files: Files,
    dir: PathBuf,
    rebuilt: bool,
    db: ArcSwap<sled::Db>,
    /// The trees in use, by name.
    trees: Mutex<Vec<(String, Weak<Handle>)>>,
    /// Held to read by whoever tells sled something, and to write while all is copied.
    changes: RwLock<()>,
    /// Files that are true as long as sled is told nothing.
    notes: Mutex<Vec<(Files, PathBuf)>>,
    /// The bytes that it had after it was written anew, or after that was tried.
    tried_at: AtomicU64,
    /// Those of them that no tree in use accounted for then.
    others: AtomicU64,
    #[cfg(test)]
    faults: Faults,
}

/// What tests make fail.
#[cfg(test)]
#[derive(Default, Debug)]
pub(super) struct Faults {
    /// sled takes nothing more, and does the first change in part. Over when it is replaced.
    pub(super) dead: AtomicBool,
    /// It is not replaced.
    pub(super) stuck: AtomicBool,
}

/// A tree of the table, wherever that stands now.
#[derive(Debug)]
pub(super) struct Handle {
    tree: ArcSwap<sled::Tree>,
    /// The bytes of its blocks, as far as they were counted.
    pub(super) bytes: AtomicU64,
    /// Set while it is changed, and for good where that fails: then some of it may be missing, and
    /// nothing shows which.
    pub(super) torn: AtomicBool,
}

impl Handle {
    /// The tree as it stands now. Who holds it may go on reading it; to change it a [`Change`] is
    /// needed, from before.
    pub(super) fn now(&self) -> Arc<sled::Tree> {
        self.tree.load_full()
    }

    /// Fails where it is torn.
    pub(super) fn whole(&self) -> Result<(), Broken> {
        match self.torn.load(Ordering::Acquire) {
            true => Err(Broken::Failed("a change of it failed half-way".to_owned())),
            false => Ok(()),
        }
    }
}

/// Whoever has one may tell sled something: no file claims that the table is durable, and nobody
/// copies it.
pub(super) struct Change<'a>(#[expect(dead_code, reason = "held")] RwLockReadGuard<'a, ()>);

impl Table {
    /// Opens the table in `dir`, and makes it where there is none. A table that does not open is
    /// moved aside, to `<dir>.damaged-1` and so on, and a new one is made; each collection then
    /// fills its part again from its segments.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where another handle or another process has it open; whatever the
    /// operating system refuses.
    pub fn open(dir: &Path) -> Result<Self> {
        Self::open_on(&Files::disk(), dir)
    }

    /// The same, with other hands on sled's files; sled itself writes to the disk.
    pub(super) fn open_on(files: &Files, dir: &Path) -> Result<Self> {
        // A table in use must not pass for one that is broken. And sled's own threads may keep it
        // open a moment longer than the last handle.
        for place in [dir, &renew::old(dir)] {
            if !wait_until_free(&place.join("db"), PATIENCE)? {
                return Err(Error::Unavailable {
                    what: format!("{} is open elsewhere", dir.display()),
                    hint: "close the other handle first, or stop the other process".to_owned(),
                });
            }
        }
        renew::settle(files, dir)?;
        files.create_dir(dir)?;
        let (db, rebuilt) = match open_sled(files, dir) {
            Ok(db) => (db, false),
            Err(reason) => {
                let aside = (1u32..)
                    .map(|n| PathBuf::from(format!("{}.damaged-{n}", dir.display())))
                    .find(|aside| !aside.exists())
                    .unwrap_or_else(|| dir.with_extension("damaged"));
                tracing::warn!(
                    table = %dir.display(), moved_to = %aside.display(), %reason,
                    "the table does not open; it is made anew from the segments"
                );
                files.rename(dir, &aside)?;
                let made_anew = files.create_dir(dir).and_then(|()| {
                    open_sled(files, dir).map_err(|reason| Error::Unavailable {
                        what: format!("a new table in {} does not open: {reason}", dir.display()),
                        hint: "is the disk full, or read-only? Nothing was lost".to_owned(),
                    })
                });
                if made_anew.is_err() {
                    // Then it was not the table that was wrong: it goes back to its place.
                    let _ = files.remove_dir(dir);
                    let _ = files.rename(&aside, dir);
                }
                (made_anew?, true)
            }
        };
        Ok(Self(Arc::new(Inner {
            files: files.clone(),
            dir: dir.to_path_buf(),
            rebuilt,
            db: ArcSwap::from_pointee(db),
            trees: Mutex::default(),
            changes: RwLock::default(),
            notes: Mutex::default(),
            tried_at: AtomicU64::new(0),
            others: AtomicU64::new(0),
            #[cfg(test)]
            faults: Faults::default(),
        })))
    }

    /// Whether there was a table that did not open, so that this is a new one.
    pub fn rebuilt(&self) -> bool {
        self.0.rebuilt
    }

    /// Where it is.
    pub fn dir(&self) -> &Path {
        &self.0.dir
    }

    /// The bytes of its files, for all collections.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn bytes(&self) -> Result<u64> {
        let _stays = self.still();
        self.length()
    }

    /// The same, for who sees to it that it stays where it is.
    fn length(&self) -> Result<u64> {
        let (files, mut bytes) = (&self.0.files, 0);
        each_file(files, self.dir(), &mut |path| {
            bytes += files.open_to_read(path)?.len()?;
            Ok(())
        })?;
        Ok(bytes)
    }

    /// Has the file `note`, which says that the table is durable, taken away before sled is told
    /// anything: what a power cut then leaves of any part of the table is not known.
    pub(super) fn vouched_by(&self, files: &Files, note: PathBuf) {
        lock_mutex(&self.0.notes).push((files.clone(), note));
    }

    /// To be held by whoever tells sled something. It may take as long as a copy of the table.
    pub(super) fn change(&self) -> Result<Change<'_>, Broken> {
        let still = self.still();
        self.take_notes_away().map_err(|error| Broken::Failed(error.to_string()))?;
        Ok(Change(still))
    }

    /// As long as this is held the table stays where it is.
    fn still(&self) -> RwLockReadGuard<'_, ()> {
        self.0.changes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_notes_away(&self) -> Result<()> {
        let mut notes = lock_mutex(&self.0.notes);
        while let Some((files, note)) = notes.last() {
            // Where it is not there its collection was removed.
            if files.exists(note)? {
                take_away(files, note)?;
            }
            notes.pop();
        }
        Ok(())
    }

    /// Makes durable what sled was told: its own flush leaves that to the operating system.
    pub(super) fn sync(&self) -> Result<()> {
        let _stays = self.still();
        guarded(|| Ok(self.0.db.load().flush()?)).map_err(|broken| self.error(broken))?;
        sync_files(&self.0.files, self.dir())
    }

    #[cfg(test)]
    pub(super) fn faults(&self) -> &Faults {
        &self.0.faults
    }

    /// What sled says of a change when a test wants it to fail.
    #[cfg(test)]
    pub(super) fn fault(&self) -> Result<(), Broken> {
        match self.0.faults.dead.load(Ordering::Relaxed) {
            true => Err(Broken::Failed("sled says: No space left on device".to_owned())),
            false => Ok(()),
        }
    }

    /// Forgets the trees of a collection.
    pub(super) fn drop_collection(&self, collection: [u8; 16]) -> Result<(), Broken> {
        let _change = self.change()?;
        let names = ["ids", "codes"].map(|kind| tree_name(collection, kind));
        lock_mutex(&self.0.trees).retain(|(name, _)| !names.contains(name));
        // What the last renewal could not give back may be given back now.
        self.0.tried_at.store(0, Ordering::Relaxed);
        let db = self.0.db.load();
        guarded(|| Ok(names.iter().try_for_each(|name| db.drop_tree(name).map(|_| ()))?))
    }

    /// A tree of a collection.
    pub(super) fn tree(&self, collection: [u8; 16], kind: &str) -> Result<Arc<Handle>, Broken> {
        let name = tree_name(collection, kind);
        let still = self.still();
        let db = self.0.db.load();
        if !db.tree_names().iter().any(|known| known == name.as_bytes()) {
            self.take_notes_away().map_err(|error| Broken::Failed(error.to_string()))?;
        }
        let tree = guarded(|| Ok(ArcSwap::from_pointee(db.open_tree(&name)?)))?;
        let (bytes, torn) = (AtomicU64::new(0), AtomicBool::new(false));
        let handle = Arc::new(Handle { tree, bytes, torn });
        let mut trees = lock_mutex(&self.0.trees);
        trees.retain(|(_, tree)| tree.strong_count() > 0);
        trees.push((name, Arc::downgrade(&handle)));
        drop(still);
        Ok(handle)
    }

    pub(super) fn error(&self, broken: Broken) -> Error {
        Error::damaged(self.dir(), None, broken.to_string())
    }
}

/// The name of a note that was taken away.
pub(super) fn taken_away(note: &Path) -> PathBuf {
    note.with_extension("in-use")
}

/// Gives a note another name, for good.
pub(super) fn take_away(files: &Files, note: &Path) -> Result<()> {
    files.rename(note, &taken_away(note))?;
    files.sync_dir(note.parent().unwrap_or(Path::new(".")))
}

fn tree_name(collection: [u8; 16], kind: &str) -> String {
    format!("{:032x}.{kind}", u128::from_be_bytes(collection))
}

/// Gives every file below a directory to `each`.
fn each_file(files: &Files, dir: &Path, each: &mut impl FnMut(&Path) -> Result<()>) -> Result<()> {
    for path in files.list(dir)? {
        match files.is_dir(&path)? {
            true => each_file(files, &path, each)?,
            false => each(&path)?,
        }
    }
    Ok(())
}

/// Makes a directory and all files below it durable.
fn sync_files(files: &Files, dir: &Path) -> Result<()> {
    each_file(files, dir, &mut |path| files.open(path)?.sync())?;
    files.sync_below(dir)
}

fn open_sled(files: &Files, dir: &Path) -> Result<sled::Db, Broken> {
    // A process that was killed while it opened the table leaves `snap.*.generating`; with it
    // sled never opens again.
    let stale = |path: &PathBuf| path.extension().is_some_and(|end| end == "generating");
    let listed = files.list(dir).map_err(|error| Broken::Failed(error.to_string()))?;
    for path in listed.iter().filter(|path| stale(path)) {
        files.remove_file(path).map_err(|error| Broken::Failed(error.to_string()))?;
    }
    guarded(|| {
        let config = sled::Config::new().path(dir).cache_capacity(CACHE_BYTES);
        // Each checkpoint flushes; in between there is nothing to flush.
        Ok(config.flush_every_ms(None).open()?)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// sled lets go of its lock some time after its last handle: an open that came too early took
    /// the table for broken, and moved it aside.
    #[test]
    fn a_table_is_opened_again_at_once_and_stays() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("create", "a directory for a test"))?;
        for round in 0..30u8 {
            let table = Table::open(&dir.path().join("table"))?;
            assert!(!table.rebuilt(), "round {round}");
            let tree = table.tree([0; 16], "ids").map_err(|broken| table.error(broken))?;
            let tree = tree.now();
            tree.insert([round], &[round]).map_err(|error| table.error(error.into()))?;
            assert_eq!(tree.len(), usize::from(round) + 1);
        }
        Ok(())
    }

    #[test]
    fn a_table_in_use_is_not_moved_aside() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("create", "a directory for a test"))?;
        let path = dir.path().join("table");
        let table = Table::open(&path)?;
        let free = wait_until_free(&path.join("db"), Duration::from_millis(1))?;
        assert!(!free);
        drop(table);
        assert!(wait_until_free(&path.join("db"), PATIENCE)?);
        Ok(())
    }
}
