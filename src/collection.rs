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
mod matching;
mod rescore;
mod search;
mod selection;
mod settings;
mod upkeep;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

pub use self::ball::Ball;
use self::fields::Fields;
use self::finder::Finder;
pub(crate) use self::settings::Settings;
pub use self::settings::{CollectionSettings, IndexPlace, KeepVectors, Metric};
use crate::code::{Code, Width};
use crate::encoder::{Encoder, EncoderInfo};
use crate::error::{Error, Result};
use crate::filter::Field;
use crate::index::Memory;
use crate::input::InputKind;
use crate::record::{NewRecord, Record, RecordId, Source};
use crate::store::{self, Durability, Operation, Outcome, Store, StoreStats, Table};

/// A collection, described.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let info = notes.info();
/// assert_eq!((info.name.as_str(), info.records, info.width.bits()), ("notes", 2, 64));
/// assert_eq!(info.encoder.to_string(), "random hyperplanes over text, seed 0");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct CollectionInfo {
    /// The name.
    pub name: String,
    /// The width of its codes.
    pub width: Width,
    /// What turns sources into codes.
    pub encoder: EncoderInfo,
    /// Whether texts are kept.
    pub keep_text: bool,
    /// Whether vectors are kept.
    pub keep_vectors: KeepVectors,
    /// How kept vectors are compared.
    pub metric: Metric,
    /// Records in it.
    pub records: u64,
    /// When it was created, in seconds since 1970.
    pub created: u64,
    /// The fields of payloads that are indexed.
    pub index_fields: Vec<IndexedField>,
    /// When a write is durable that does not say so itself.
    pub durability: Durability,
    /// Where it is searched.
    pub index: IndexPlace,
}

/// A field of payloads that is indexed.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// notes.index_field("label".parse()?)?;
/// for indexed in notes.info().index_fields {
///     println!("{}: {} values, complete: {}", indexed.field, indexed.values, indexed.complete);
/// }
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IndexedField {
    /// The field.
    pub field: Field,
    /// Different values in it.
    pub values: usize,
    /// Whether every record is in the index. Until then filters read the payloads of the others.
    pub complete: bool,
}

/// One record of a group that was written.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::NewRecord;
///
/// let written = notes.upsert(vec![
///     NewRecord::text("the near side of the moon").with_id("moon")?,
///     NewRecord::text("a slice of toast"),
/// ])?;
/// assert!(written[0].replaced && !written[1].replaced);
/// assert_eq!(written[1].id.as_str().len(), 36); // a UUID, made for it
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Upserted {
    /// The record's id: the one that was given, or the one that was made.
    pub id: RecordId,
    /// Whether a record of that id was there before.
    pub replaced: bool,
}

/// A page of records, oldest first.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let first = notes.list(None, 1)?;
/// let second = notes.list(first.next, 1)?;
/// assert_eq!(first.records[0].id.as_str(), "moon");
/// assert_eq!(second.records[0].id.as_str(), "bread");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Page {
    /// The records.
    pub records: Vec<Record>,
    /// Where the next page goes on; `None` on the last.
    pub next: Option<u64>,
}

/// What a collection takes on disk and in memory.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let sizes = notes.sizes();
/// println!("{} bytes in segments, {} in memory", sizes.store.segment_bytes, sizes.index.total());
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// On disk.
    pub store: StoreStats,
    /// In memory.
    pub index: Memory,
}

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

    /// Opens the collection in `folder`; `encoder` makes the encoder that its settings describe.
    pub(crate) fn open(
        name: &str,
        folder: &Path,
        table: &Table,
        encoder: impl FnOnce(&EncoderInfo) -> Result<Encoder>,
    ) -> Result<Self> {
        let (store, finder) = match place_of_index(folder)? {
            IndexPlace::Disk => (Store::open_lean(folder, table)?, Finder::Disk),
            IndexPlace::Memory => {
                let (store, live) = Store::open(folder, table)?;
                let finder = Finder::in_memory(&store, live);
                (store, finder)
            }
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

    /// How it was made and how many records it holds.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.info().records, 2);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn info(&self) -> CollectionInfo {
        let settings = &self.inner.settings;
        CollectionInfo {
            name: self.inner.name.clone(),
            width: self.width(),
            encoder: settings.encoder.clone(),
            keep_text: settings.keep_text,
            keep_vectors: settings.keep_vectors,
            metric: settings.metric,
            records: self.inner.store.len(),
            created: settings.created,
            index_fields: self.inner.fields.info(),
            durability: self.durability(),
            index: self.inner.finder.place(),
        }
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

    /// Writes a group of records: all of them or, on an error, none. When it returns every search
    /// sees them, and they are on disk where the collection's [`Durability`] is to sync. A record
    /// whose id is there already is replaced, and is then the youngest.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{NewRecord, Search};
    ///
    /// notes.upsert(vec![NewRecord::text("the rings of Saturn").with_id("saturn")?])?;
    /// let answer = notes.search(&Search::text("rings of Saturn").limit(1))?;
    /// assert_eq!(answer.hits[0].id.as_str(), "saturn");
    ///
    /// let twice = NewRecord::text("the same id twice").with_id("x")?;
    /// let error = notes.upsert(vec![twice.clone(), twice]).unwrap_err();
    /// assert!(error.to_string().starts_with("records[1].id"));
    /// assert_eq!(notes.info().records, 3);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A source that the encoder does not take or an id that stands twice in the group, named as
    /// `records[3].vector`; a store that refuses writes since one failed.
    pub fn upsert(&self, records: Vec<NewRecord>) -> Result<Vec<Upserted>> {
        self.upsert_with(records, self.durability())
    }

    /// The same, durable when `durability` says, whatever the collection has.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{Durability, NewRecord};
    ///
    /// let soon = Durability::interval(100)?; // lost only where the power fails within 100 ms
    /// notes.upsert_with(vec![NewRecord::text("a grain of sand")], soon)?;
    /// notes.sync()?; // or none at all
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collection::upsert`].
    pub fn upsert_with(
        &self,
        records: Vec<NewRecord>,
        durability: Durability,
    ) -> Result<Vec<Upserted>> {
        self.check_alive()?;
        let records: Vec<(RecordId, NewRecord)> = records
            .into_iter()
            .map(|mut r| (r.id.take().unwrap_or_else(RecordId::generate), r))
            .collect();
        check_distinct(&records)?;
        let codes = self.encode(&records)?;
        let ids: Vec<RecordId> = records.iter().map(|(id, _)| id.clone()).collect();
        let operations = records
            .into_iter()
            .zip(codes)
            .map(|((id, record), code)| self.put(id, record, code))
            .collect();
        let outcomes = self.commit(operations, durability)?;
        let replaced = |outcome: &Outcome| matches!(outcome, Outcome::Replaced { .. });
        Ok(ids
            .into_iter()
            .zip(&outcomes)
            .map(|(id, outcome)| Upserted { id, replaced: replaced(outcome) })
            .collect())
    }

    /// An error where [`Collection::upsert`] would refuse the record for its source.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::NewRecord;
    ///
    /// assert!(notes.check(&NewRecord::text("a comet")).is_ok());
    /// assert!(notes.check(&NewRecord::vector([0.5, 1.0])).is_err());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A source that the encoder does not take.
    pub fn check(&self, record: &NewRecord) -> Result<()> {
        record.source.as_ref().map_or(Ok(()), |source| self.inner.encoder.check(source))
    }

    /// Deletes records; says of each whether it was there.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::RecordId;
    ///
    /// let ids = [RecordId::new("moon")?, RecordId::new("sun")?];
    /// assert_eq!(notes.delete(&ids)?, [true, false]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A store that refuses writes since one failed.
    pub fn delete(&self, ids: &[RecordId]) -> Result<Vec<bool>> {
        self.delete_with(ids, self.durability())
    }

    /// The same, durable when `durability` says, whatever the collection has.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{Durability, RecordId};
    ///
    /// let moon = [RecordId::new("moon")?];
    /// assert_eq!(notes.delete_with(&moon, Durability::interval(100)?)?, [true]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// As [`Collection::delete`].
    pub fn delete_with(&self, ids: &[RecordId], durability: Durability) -> Result<Vec<bool>> {
        self.check_alive()?;
        let operations = ids.iter().cloned().map(Operation::Delete).collect();
        let outcomes = self.commit(operations, durability)?;
        Ok(outcomes.iter().map(|outcome| !matches!(outcome, Outcome::Missing)).collect())
    }

    /// Reads records; `None` stands for an id that is not there.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::RecordId;
    ///
    /// let found = notes.get(&[RecordId::new("moon")?, RecordId::new("sun")?])?;
    /// let moon = found[0].as_ref().unwrap();
    /// assert_eq!(moon.text.as_deref(), Some("the far side of the moon"));
    /// assert_eq!(moon.payload.text("label").as_deref(), Some("space"));
    /// assert!(found[1].is_none());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Damaged bytes, or a disk that does not answer.
    pub fn get(&self, ids: &[RecordId]) -> Result<Vec<Option<Record>>> {
        self.check_alive()?;
        ids.iter().map(|id| Ok(self.inner.store.get(id)?.map(|(_, record)| record))).collect()
    }

    /// A page of at most `limit` records, oldest first, after the place where another page ended.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// let (mut ids, mut after) = (Vec::new(), None);
    /// loop {
    ///     let page = notes.list(after, 1000)?;
    ///     ids.extend(page.records.into_iter().map(|record| record.id.to_string()));
    ///     after = page.next;
    ///     if after.is_none() {
    ///         break;
    ///     }
    /// }
    /// assert_eq!(ids, ["moon", "bread"]);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// Damaged bytes, or a disk that does not answer.
    pub fn list(&self, after: Option<u64>, limit: usize) -> Result<Page> {
        self.check_alive()?;
        let found = self.inner.store.list(after, limit)?;
        let next = found.last().filter(|_| found.len() == limit).map(|(number, _)| *number);
        Ok(Page { records: found.into_iter().map(|(_, record)| record).collect(), next })
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

    /// What it takes on disk and in memory.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.sizes().store.records, 2);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn sizes(&self) -> Sizes {
        Sizes { store: self.inner.store.stats(), index: self.inner.finder.memory() }
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

    /// The code of each record that has a source.
    fn encode(&self, records: &[(RecordId, NewRecord)]) -> Result<Vec<Option<Code>>> {
        let with_source = records.iter().enumerate().filter_map(|(i, (_, r))| {
            let source = r.source.as_ref()?;
            Some((i, source))
        });
        let (rows, sources): (Vec<usize>, Vec<&Source>) = with_source.unzip();
        let encoded = self
            .inner
            .encoder
            .encode(&sources)
            .map_err(|(i, error)| error.within(&format!("records[{}].", rows[i])))?;
        let mut codes = vec![None; records.len()];
        for (row, code) in rows.into_iter().zip(encoded) {
            codes[row] = Some(code);
        }
        Ok(codes)
    }

    /// What the store is to keep of a record.
    fn put(&self, id: RecordId, new: NewRecord, code: Option<Code>) -> Operation {
        let settings = &self.inner.settings;
        let mut record = Record { id, code, payload: new.payload, text: None, vector: None };
        match new.source {
            Some(Source::Text(text)) if settings.keep_text => record.text = Some(text),
            Some(Source::Vector(vector)) if settings.keep_vectors != KeepVectors::None => {
                record.vector = Some(vector);
            }
            _ => {}
        }
        Operation::Put { record, vectors: settings.keep_vectors.precision() }
    }

    /// Gives a group to the store, then makes it visible.
    fn commit(&self, operations: Vec<Operation>, durability: Durability) -> Result<Vec<Outcome>> {
        let Inner { finder, fields, store, .. } = &*self.inner;
        let contents = fields.contents(&operations);
        let outcomes =
            store.commit_with(operations, durability, |committed| finder.apply(committed))?;
        fields.apply(contents, &outcomes);
        Ok(outcomes)
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

/// An error where an id stands twice: which of the two was meant cannot be known.
fn check_distinct(records: &[(RecordId, NewRecord)]) -> Result<()> {
    let mut rows = HashMap::with_capacity(records.len());
    for (row, (id, _)) in records.iter().enumerate() {
        if let Some(first) = rows.insert(id, row) {
            return Err(Error::invalid(
                format!("records[{row}].id"),
                format!("{id} stands at records[{first}] too; send each id once in a group"),
            ));
        }
    }
    Ok(())
}
