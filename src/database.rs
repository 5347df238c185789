//! A database: named collections and models in one data directory.

mod check;
#[cfg(test)]
mod fixtures;
mod inspect;
mod models;
mod scrub;
mod snapshot;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;

pub use self::check::{Repaired, Report, check, repair};
pub use self::inspect::inspect;
pub use self::scrub::Scrub;
use self::scrub::Scrubber;
pub use self::snapshot::{
    Snapshot, describe_snapshot, find_snapshot, list_snapshots, pack_snapshot, restore,
    unpack_snapshot, verify_snapshot,
};

use crate::code::Width;
use crate::collection::{Collection, CollectionSettings, Settings};
use crate::encoder::{Encoder, EncoderInfo, EncoderSpec};
use crate::error::{Error, Result};
use crate::model::Model;
use crate::model::hyperplanes::Hyperplanes;
use crate::store::{self, FORMAT_VERSION, Lock, Snapshots, Store, Table};

/// The longest name of a collection, in bytes.
const MAX_NAME_BYTES: usize = 128;

/// A handle on one data directory. Clones are cheap and share it; the directory is locked until
/// the last one is gone.
///
/// ```
/// use nearbit::{CollectionSettings, Database, EncoderSpec, InputKind, NewRecord, Search, Width};
///
/// # let dir = tempfile::tempdir().unwrap();
/// # let dir = dir.path();
/// let database = Database::open(dir)?;
/// let notes = database.create_collection(
///     "notes",
///     &CollectionSettings::new(EncoderSpec::Hyperplanes {
///         input: InputKind::Text,
///         width: Width::new(64)?,
///         seed: 0,
///     }),
/// )?;
/// notes.upsert(vec![
///     NewRecord::text("the far side of the moon").with_id("moon")?,
///     NewRecord::text("a loaf of rye bread").with_id("bread")?,
/// ])?;
/// let answer = notes.search(&Search::text("the dark side of the moon").limit(1))?;
/// assert_eq!(answer.hits[0].id.as_str(), "moon");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

/// Replaced as a whole, so that nobody who looks one up waits for one that is being made.
type Collections = ArcSwap<BTreeMap<String, Collection>>;

struct Inner {
    dir: PathBuf,
    /// Ends before what it reads is closed.
    scrubber: Mutex<Option<Scrubber>>,
    /// The version of the format that `FORMAT` names.
    version: AtomicU32,
    table: Table,
    /// Whether every collection is searched on disk, whatever its settings say.
    on_disk: bool,
    collections: Arc<Collections>,
    /// Collections that could not be opened, and why.
    unopened: Mutex<BTreeMap<String, Error>>,
    /// Held while a collection or model is made or deleted, so that a name is taken once.
    making: Mutex<()>,
    /// Last, so that it is given back after everything else is closed.
    _lock: Lock,
}

impl Database {
    /// Opens the database in `dir`, and makes it where there is none.
    ///
    /// ```
    /// # let dir = tempfile::tempdir().unwrap();
    /// use nearbit::Database;
    ///
    /// let database = Database::open(&dir)?;
    /// assert!(database.collections().is_empty());
    /// assert!(Database::open(&dir).is_err()); // it is held by the first one
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// A collection that is damaged harms no other: who asks for it gets the error (see
    /// [`Database::unopened`]).
    ///
    /// # Errors
    /// A directory that another process holds, that is no database, or that a newer version wrote.
    pub fn open(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_at(dir.as_ref(), false)
    }

    /// The same for a few reads or writes: whatever its settings say, each collection is searched on
    /// disk. Ten million records are open in a tenth of a second then, after a clean close; a search
    /// finds the same, and takes longer.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// # drop((notes, database));
    /// use nearbit::{Database, IndexPlace, Search};
    ///
    /// let database = Database::open_on_disk(&dir)?;
    /// let notes = database.collection("notes")?;
    /// assert_eq!(notes.search(&Search::text("the moon"))?.hits.len(), 2);
    /// assert_eq!(notes.info().index, IndexPlace::Memory); // its settings are as they were
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Database::open`].
    pub fn open_on_disk(dir: impl AsRef<Path>) -> Result<Self> {
        Self::open_at(dir.as_ref(), true)
    }

    fn open_at(dir: &Path, on_disk: bool) -> Result<Self> {
        store::create_dir(dir)?;
        // A directory that is being replaced may lack anything.
        let is_new = !store::exists(&dir.join("pending"))? && is_new(dir)?;
        let lock = store::lock(dir)?;
        store::finish_replacement(dir)?;
        if is_new {
            store::create_format(dir)?;
        }
        let version = store::check_format(dir)?;
        Snapshots::of(dir).clear()?;
        store::create_dir(&dir.join("collections"))?;
        store::create_dir(&dir.join("models"))?;
        let table = Table::open(&dir.join("table"))?;
        let database = Self {
            inner: Arc::new(Inner {
                dir: dir.to_path_buf(),
                version: AtomicU32::new(version),
                scrubber: Mutex::default(),
                table,
                on_disk,
                collections: Arc::default(),
                unopened: Mutex::default(),
                making: Mutex::default(),
                _lock: lock,
            }),
        };
        database.open_collections()?;
        if version == FORMAT_VERSION {
            // An upgrade may have been interrupted; where there is no room it is later gone on with.
            database.collections().iter().try_for_each(|collection| {
                match collection.upgrade() {
                    Err(error) if error.is_full() => {
                        tracing::warn!(collection = collection.name(), %error, "not upgraded yet");
                        Ok(())
                    }
                    upgraded => upgraded,
                }
            })?;
        }
        Ok(database)
    }

    /// The version of the format that new collections are written in.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(database.format_version(), nearbit::store::FORMAT_VERSION);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn format_version(&self) -> u32 {
        self.inner.version.load(Ordering::Acquire)
    }

    /// Goes over to the newest version of the format, for good: a program that knows older ones
    /// only will refuse the directory, by name. Nothing is rewritten for it. A directory of an older
    /// version is read and written as it is until this is called; what version 1 cannot say, as
    /// [`Collection::compact`] has to, is refused until then.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// database.upgrade()?; // where it is of the newest version, nothing happens
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A disk that does not answer. What was not done then is done by the next call, or, once
    /// `FORMAT` names the new version, by the next open.
    pub fn upgrade(&self) -> Result<()> {
        let _one_at_a_time = self.making_locked();
        if self.format_version() < FORMAT_VERSION {
            // First, so that no older program meets what it does not know.
            store::create_format(self.dir())?;
            self.inner.version.store(FORMAT_VERSION, Ordering::Release);
        }
        self.collections().iter().try_for_each(Collection::upgrade)
    }

    /// The data directory.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(database.dir(), dir.path());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn dir(&self) -> &Path {
        &self.inner.dir
    }

    /// Makes a collection.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{CollectionSettings, EncoderSpec, InputKind, Width};
    ///
    /// let encoder = EncoderSpec::Hyperplanes {
    ///     input: InputKind::Vector { dim: 384 },
    ///     width: Width::new(128)?,
    ///     seed: 0,
    /// };
    /// let vectors = database.create_collection("vectors", &CollectionSettings::new(encoder.clone()))?;
    /// assert_eq!(vectors.info().records, 0);
    /// assert!(database.create_collection("vectors", &CollectionSettings::new(encoder)).is_err());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A name that is taken or not allowed, or a model that is not there.
    pub fn create_collection(
        &self,
        name: &str,
        settings: &CollectionSettings,
    ) -> Result<Collection> {
        check_name("collection", name, MAX_NAME_BYTES)?;
        let _one_at_a_time = self.making_locked();
        let exists = self.inner.collections.load().contains_key(name);
        if exists || self.unopened_locked().contains_key(name) {
            return Err(Error::Exists {
                kind: "collection",
                name: name.to_owned(),
                hint: "choose another name or delete it first".to_owned(),
            });
        }
        let (info, width) = self.describe(&settings.encoder)?;
        let folder = self.collections_dir().join(name);
        let (settings, table) = (Settings::new(settings, info), &self.inner.table);
        Collection::create(&folder, self.format_version(), &settings, width, table)?;
        let collection = self.open_collection(name, &folder)?;
        self.change(|collections| collections.insert(name.to_owned(), collection.clone()));
        Ok(collection)
    }

    /// The collection of that name.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(database.collection("notes")?.info().records, 2);
    /// let error = database.collection("note").unwrap_err().to_string();
    /// assert!(error.contains("the database has notes"), "{error}");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none, or it could not be opened.
    pub fn collection(&self, name: &str) -> Result<Collection> {
        if let Some(collection) = self.inner.collections.load().get(name) {
            return Ok(collection.clone());
        }
        let unopened = self.unopened_locked();
        let Some(error) = unopened.get(name) else {
            let collections = self.inner.collections.load();
            let names: Vec<&String> = collections.keys().chain(unopened.keys()).collect();
            return Err(Error::not_found("collection", name, what_there_is(&names)));
        };
        Err(error.repeated())
    }

    /// The collections that could not be opened, by name, each with the reason: what
    /// [`Database::collection`] answers for it. They stay as they are until they are deleted, or saved
    /// by [`repair`].
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// # drop((notes, database));
    /// use nearbit::Database;
    ///
    /// # let file = dir.path().join("collections/notes/MANIFEST");
    /// # let mut bytes = std::fs::read(&file).unwrap();
    /// # bytes[30] ^= 1;
    /// # std::fs::write(&file, bytes).unwrap();
    /// let database = Database::open(&dir)?; // a bit of the file MANIFEST was flipped
    /// let (name, error) = &database.unopened()[0];
    /// assert_eq!(name, "notes");
    /// assert!(error.to_string().contains("MANIFEST is damaged"));
    /// assert!(matches!(database.collection("notes"), Err(nearbit::Error::Damaged { .. })));
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn unopened(&self) -> Vec<(String, Error)> {
        let unopened = self.unopened_locked();
        unopened.iter().map(|(name, error)| (name.clone(), error.repeated())).collect()
    }

    /// Every collection that could be opened, by name.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// let names: Vec<String> = database.collections().iter().map(|c| c.name().to_owned()).collect();
    /// assert_eq!(names, ["notes"]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn collections(&self) -> Vec<Collection> {
        self.inner.collections.load().values().cloned().collect()
    }

    /// Deletes a collection and all its records for good. Handles on it refuse everything from
    /// then on.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// database.delete_collection("notes")?;
    /// assert!(database.collection("notes").is_err());
    /// assert!(notes.list(None, 1).is_err()); // a handle from before
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none, or the disk does not answer.
    pub fn delete_collection(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.making_locked();
        if !self.unopened_locked().contains_key(name) {
            self.collection(name)?.retire();
        }
        self.change(|collections| collections.remove(name));
        Store::remove(&self.collections_dir().join(name), &self.inner.table)?;
        self.unopened_locked().remove(name);
        Ok(())
    }

    fn making_locked(&self) -> MutexGuard<'_, ()> {
        // It guards names on disk, which are whole even after a panic.
        self.inner.making.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unopened_locked(&self) -> MutexGuard<'_, BTreeMap<String, Error>> {
        self.inner.unopened.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the map of collections; whoever calls holds `making`.
    fn change<T>(&self, change: impl FnOnce(&mut BTreeMap<String, Collection>) -> T) {
        let mut collections = BTreeMap::clone(&self.inner.collections.load());
        change(&mut collections);
        self.inner.collections.store(Arc::new(collections));
    }

    fn collections_dir(&self) -> PathBuf {
        self.inner.dir.join("collections")
    }

    fn open_collections(&self) -> Result<()> {
        for name in folders(&self.collections_dir())? {
            let folder = self.collections_dir().join(&name);
            let opened = match Store::exists(&folder) {
                Ok(true) => self.open_collection(&name, &folder).map(Some),
                Ok(false) => Store::remove_leftover(&folder, &self.inner.table).map(|()| None),
                Err(error) => Err(error),
            };
            match opened {
                Ok(Some(collection)) => {
                    self.change(|collections| collections.insert(name, collection));
                }
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(collection = name, %error, "it is not opened; the others are");
                    self.unopened_locked().insert(name, error);
                }
            }
        }
        Ok(())
    }

    fn open_collection(&self, name: &str, folder: &Path) -> Result<Collection> {
        let Inner { on_disk, table, .. } = &*self.inner;
        Collection::open(name, folder, *on_disk, table, |info| self.encoder(info))
    }

    /// What a collection will remember of the encoder it is to have.
    fn describe(&self, spec: &EncoderSpec) -> Result<(EncoderInfo, Width)> {
        Ok(match spec {
            EncoderSpec::Model(name) => {
                let (name, version) = self.resolve_model(name)?;
                let model = Model::load(self.model_file(&name, version))?;
                let digest = model.digest().to_string();
                (EncoderInfo::Model { name: format!("{name}@{version}"), digest }, model.width())
            }
            EncoderSpec::Hyperplanes { input, width, seed } => {
                let (input, seed) = (*input, *seed);
                // Refused now, and not when a folder for it is there already.
                Hyperplanes::new(input, *width, seed)?;
                (EncoderInfo::Hyperplanes { input, bits: width.bits(), seed }, *width)
            }
            EncoderSpec::Codes { width } => (EncoderInfo::Codes { bits: width.bits() }, *width),
        })
    }

    /// The encoder that a collection remembers.
    fn encoder(&self, info: &EncoderInfo) -> Result<Encoder> {
        Ok(match info {
            EncoderInfo::Model { name, digest } => {
                let (plain, version) = self.resolve_model(name)?;
                let file = self.model_file(&plain, version);
                let model = Model::load(&file)?;
                if model.digest().to_string() != *digest {
                    return Err(Error::damaged(
                        file,
                        None,
                        format!("expected the model with digest {digest}, got {}", model.digest()),
                    ));
                }
                Encoder::Model(model)
            }
            EncoderInfo::Hyperplanes { input, bits, seed } => {
                Encoder::Hyperplanes(Hyperplanes::new(*input, Width::new(*bits)?, *seed)?)
            }
            EncoderInfo::Codes { bits } => Encoder::Codes(Width::new(*bits)?),
        })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nothing reads or writes in the background of what is closed.
        self.scrubber.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        for collection in self.collections.load().values() {
            if let Err(error) = collection.settle() {
                tracing::warn!(collection = collection.name(), %error, "the next open reads more");
            }
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({})", self.dir().display())
    }
}

/// Whether `dir` is empty and may become a database; one that holds something else is refused.
fn is_new(dir: &Path) -> Result<bool> {
    if store::exists(&dir.join("FORMAT"))? {
        return Ok(false);
    }
    // A crash between the first steps leaves a lock, and a FORMAT that did not get its name yet, or
    // what was to be restored.
    let first = ["LOCK", "FORMAT.new", "pending.new"];
    let ours = |path: &PathBuf| first.iter().any(|name| path.ends_with(name));
    let stranger = store::list(dir)?.into_iter().find(|path| !ours(path));
    match stranger.as_deref().and_then(Path::file_name) {
        None => Ok(true),
        Some(stranger) => Err(Error::invalid(
            dir.display().to_string(),
            format!(
                "expected a data directory, got one that holds other files, such as {}; name an \
                 empty or a new directory",
                stranger.display()
            ),
        )),
    }
}

/// The names of what a directory holds, sorted; those that are not UTF-8 are none of ours.
fn names(dir: &Path) -> Result<Vec<String>> {
    let name = |path: PathBuf| Some(path.file_name()?.to_str()?.to_owned());
    Ok(store::list(dir)?.into_iter().filter_map(name).collect())
}

/// The names of the directories in a directory, sorted.
fn folders(dir: &Path) -> Result<Vec<String>> {
    let mut names = names(dir)?;
    names.retain(|name| dir.join(name).is_dir());
    Ok(names)
}

/// The way out where a name is not found.
fn what_there_is(names: &[impl AsRef<str>]) -> String {
    match names {
        [] => "the database has none yet: create it first".to_owned(),
        names => {
            let names: Vec<&str> = names.iter().map(AsRef::as_ref).collect();
            format!("the database has {}", names.join(", "))
        }
    }
}

/// Names become names of files: letters, digits and `_ - .`, not beginning with a dot.
fn check_name(kind: &'static str, name: &str, max_bytes: usize) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    if (1..=max_bytes).contains(&name.len()) && name.chars().all(allowed) && !name.starts_with('.')
    {
        return Ok(());
    }
    Err(Error::invalid(
        kind,
        format!(
            "expected a name of 1 to {max_bytes} letters, digits, '_', '-' or '.', not \
             beginning with '.', got {name:?}"
        ),
    ))
}
