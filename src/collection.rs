//! A collection: the one room where encoder, index and store meet.
//!
//! A write goes down the stairs: sources become codes, the store makes the group durable, the
//! index shows it, the caller is told. A search goes up: the query becomes a code, the index
//! finds record numbers, the store turns numbers into ids and payloads.

mod ball;
mod check;
mod diversity;
mod duplicates;
mod fields;
mod finder;
mod group;
mod info;
mod matching;
mod records;
mod rescore;
mod search;
mod selection;
mod settings;
mod upkeep;

use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::ball::Ball;
use self::fields::Fields;
use self::finder::Finder;
pub use self::info::{CollectionInfo, IndexedField, Sizes};
pub use self::records::{Page, Upserted};
pub(crate) use self::settings::Settings;
pub use self::settings::{CollectionSettings, IndexPlace, KeepVectors, Metric};
use crate::code::{Code, Width};
use crate::encoder::{Encoder, EncoderInfo};
use crate::error::{Error, Result};
use crate::filter::Field;
use crate::input::InputKind;
use crate::record::Source;
use crate::store::{self, Durability, Store, Table};

/// A handle on one collection. Clones are cheap and share it; every method may be called from
/// many threads at once. A reader never waits for a file that is being written; one with a filter
/// waits for a group's place in the indexes of fields, which are in memory.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let reader = {
///     let notes = notes.clone();
///     std::thread::spawn(move || notes.search(&nearbit::Search::text("rye bread")))
/// };
/// notes.upsert(vec![nearbit::NewRecord::text("a map of the moon")])?;
/// assert_eq!(reader.join().unwrap()?.hits[0].id.as_str(), "bread");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone)]
pub struct Collection {
    inner: Arc<Inner>,
}

struct Inner {
    name: String,
    settings: Settings,
    encoder: Encoder,
    /// Before the store, which is closed by the last who holds it.
    fields: Fields,
    store: Arc<Store>,
    finder: Finder,
    /// When a write is durable that does not say so itself.
    durability: Mutex<Durability>,
    /// Held while the settings that are kept are changed.
    changing: Mutex<()>,
    /// Set when the collection is deleted while handles on it are still about.
    deleted: AtomicBool,
}

impl Collection {
    /// Makes the folder of a new collection, in this version of the format.
    pub(crate) fn create(
        folder: &Path,
        version: u32,
        settings: &Settings,
        width: Width,
        table: &Table,
    ) -> Result<()> {
        Store::create(folder, version, &settings.to_bytes(), width, table).map(drop)
    }

    /// Opens the collection in `folder`, where its settings say or all the same `on_disk`; `encoder`
    /// makes the encoder that its settings describe.
    pub(crate) fn open(
        name: &str,
        folder: &Path,
        on_disk: bool,
        table: &Table,
        encoder: impl FnOnce(&EncoderInfo) -> Result<Encoder>,
    ) -> Result<Self> {
        let (store, finder) = if on_disk || place_of_index(folder)? == IndexPlace::Disk {
            (Store::open_lean(folder, table)?, Finder::Disk)
        } else {
            let (store, live) = Store::open(folder, table)?;
            let finder = Finder::in_memory(&store, live);
            (store, finder)
        };
        let settings = Settings::from_bytes(&store.settings(), folder)?;
        let fields = settings.fields().map_err(|error| {
            Error::damaged(folder, None, format!("expected the collection's settings: {error}"))
        })?;
        let encoder = encoder(&settings.encoder)?;
        let store = Arc::new(store);
        Ok(Self {
            inner: Arc::new(Inner {
                name: name.to_owned(),
                durability: Mutex::new(settings.durability),
                settings,
                encoder,
                fields: Fields::new(fields, Arc::clone(&store)),
                store,
                finder,
                changing: Mutex::default(),
                deleted: AtomicBool::new(false),
            }),
        })
    }

    /// The name.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.name(), "notes");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn name(&self) -> &str {
        &self.inner.name
    }

    /// Records in it.
    pub(crate) fn len(&self) -> u64 {
        self.inner.store.len()
    }

    /// The width of every code in it.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.width().bits(), 64);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn width(&self) -> Width {
        self.inner.encoder.width()
    }

    /// The kind and shape of the sources that it takes; `None` where records bring their codes.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.input(), Some(nearbit::InputKind::Text));
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn input(&self) -> Option<InputKind> {
        self.inner.encoder.input()
    }

    /// Indexes a field of payloads from now on, so that filters on it need not read them; says
    /// whether it was not indexed before. Records that are there already are added in the
    /// background; until then filters on the field are as right as ever, and slower.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert!(notes.index_field("author.name".parse()?)?);
    /// assert!(!notes.index_field("author.name".parse()?)?);
    /// assert!(notes.drop_field_index(&"author.name".parse()?)?);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A disk that does not answer.
    pub fn index_field(&self, field: Field) -> Result<bool> {
        let _one_at_a_time = self.check_alive().map(|()| self.changing())?;
        let mut fields = self.inner.fields.names();
        if fields.contains(&field) {
            return Ok(false);
        }
        fields.push(field.clone());
        self.keep_settings(&fields, self.durability())?;
        self.inner.fields.add(field);
        Ok(true)
    }

    /// Drops the index of a field; says whether there was one.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::filter::Field;
    ///
    /// let label: Field = "label".parse()?;
    /// notes.index_field(label.clone())?;
    /// assert!(notes.drop_field_index(&label)?);
    /// assert!(!notes.drop_field_index(&label)?); // there is none any more
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A disk that does not answer.
    pub fn drop_field_index(&self, field: &Field) -> Result<bool> {
        let _one_at_a_time = self.check_alive().map(|()| self.changing())?;
        let mut fields = self.inner.fields.names();
        let before = fields.len();
        fields.retain(|known| known != field);
        if fields.len() == before {
            return Ok(false);
        }
        self.keep_settings(&fields, self.durability())?;
        self.inner.fields.remove(field);
        Ok(true)
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        // It guards settings on disk, which are whole even after a panic.
        self.inner.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Keeps the settings that may change; whoever calls holds `changing`.
    fn keep_settings(&self, fields: &[Field], durability: Durability) -> Result<()> {
        let index_fields = Settings::names(fields);
        let settings = Settings { index_fields, durability, ..self.inner.settings.clone() };
        self.inner.store.set_settings(&settings.to_bytes())
    }

    /// The code that `source` would have here.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Source;
    ///
    /// let code = notes.encode_one(&Source::Text("the moon".to_owned()))?;
    /// assert_eq!(code.width(), notes.width());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A source that the encoder does not take.
    pub fn encode_one(&self, source: &Source) -> Result<Code> {
        let codes = self.inner.encoder.encode(&[source]).map_err(|(_, error)| error)?;
        codes.into_iter().next().ok_or_else(|| Error::invalid("query", "expected a source"))
    }

    /// Brings the hash table on disk up to date, so that the next open is quick. Nothing depends
    /// on it: what was acknowledged is safe without.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// notes.checkpoint()?;
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A disk that does not answer.
    pub fn checkpoint(&self) -> Result<()> {
        self.check_alive()?;
        self.inner.store.checkpoint()
    }

    /// Puts it as it is now into `dir`, a new directory; how many records it has.
    pub(crate) fn copy_into(&self, dir: &Path) -> Result<u64> {
        self.inner.store.copy_into(dir)
    }

    /// Refuses everything from now on, because the files are about to be removed.
    pub(crate) fn retire(&self) {
        self.inner.deleted.store(true, Ordering::Release);
        self.inner.store.retire();
    }

    fn check_alive(&self) -> Result<()> {
        if self.inner.deleted.load(Ordering::Acquire) {
            return Err(Error::not_found("collection", self.name(), "it was deleted meanwhile"));
        }
        Ok(())
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collection({}, {} x {})", self.name(), self.inner.store.len(), self.width())
    }
}

/// Where the collection in `folder` is searched, by its settings. Whatever is wrong with those is
/// said by who opens it.
fn place_of_index(folder: &Path) -> Result<IndexPlace> {
    let settings = store::settings_in(folder)?;
    let settings = settings.and_then(|bytes| Settings::from_bytes(&bytes, folder).ok());
    Ok(settings.map_or(IndexPlace::Memory, |settings| settings.index))
}
