//! A collection: the one room where encoder, index and store meet.
//!
//! A write goes down the stairs: sources become codes, the store makes the group durable, the
//! index shows it, the caller is told. A search goes up: the query becomes a code, the index
//! finds record numbers, the store turns numbers into ids and payloads.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::code::{Code, Codes, Width};
use crate::encoder::{Encoder, EncoderInfo, EncoderSpec};
use crate::error::{Error, Result};
use crate::index::{self, Index, Memory};
use crate::input::InputKind;
use crate::record::{Hit, NewRecord, Record, RecordId, Source};
use crate::search::{Answer, Query, Search, SearchStats};
use crate::store::{Operation, Outcome, Precision, Store, StoreStats, Table};

/// What a new collection is to be like. It cannot be changed later.
///
/// ```
/// use nearbit::{CollectionSettings, EncoderSpec, KeepVectors, Width};
///
/// let codes = CollectionSettings::new(EncoderSpec::Codes { width: Width::new(64)? });
/// assert!(codes.keep_text && codes.keep_vectors == KeepVectors::None);
/// let vectors = CollectionSettings { keep_vectors: KeepVectors::F16, ..codes };
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct CollectionSettings {
    /// What turns sources into codes.
    pub encoder: EncoderSpec,
    /// Whether texts are kept beside their codes, to be read back.
    pub keep_text: bool,
    /// Whether vectors are kept beside their codes, and how.
    pub keep_vectors: KeepVectors,
}

impl CollectionSettings {
    /// Settings with an encoder; texts are kept, vectors are not.
    ///
    /// ```
    /// use nearbit::{CollectionSettings, EncoderSpec, InputKind, Width};
    ///
    /// let encoder = EncoderSpec::Hyperplanes {
    ///     input: InputKind::Vector { dim: 384 },
    ///     width: Width::new(128)?,
    ///     seed: 0,
    /// };
    /// let settings = CollectionSettings::new(encoder);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn new(encoder: EncoderSpec) -> Self {
        Self { encoder, keep_text: true, keep_vectors: KeepVectors::None }
    }
}

/// Whether a collection keeps vectors beside their codes.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::{CollectionSettings, EncoderSpec, InputKind, KeepVectors, NewRecord, RecordId, Width};
///
/// let encoder = EncoderSpec::Hyperplanes {
///     input: InputKind::Vector { dim: 2 },
///     width: Width::new(64)?,
///     seed: 0,
/// };
/// let settings =
///     CollectionSettings { keep_vectors: KeepVectors::F16, ..CollectionSettings::new(encoder) };
/// let points = database.create_collection("points", &settings)?;
/// points.upsert(vec![NewRecord::vector([0.5, 0.1]).with_id("p")?])?;
/// let found = points.get(&[RecordId::new("p")?])?;
/// assert_eq!(found[0].as_ref().unwrap().vector, Some(vec![0.5, 0.099975586]));
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeepVectors {
    /// Vectors are dropped once they are encoded.
    #[default]
    None,
    /// Two bytes a number, about three decimal digits.
    F16,
    /// Four bytes a number, as given.
    F32,
}

impl KeepVectors {
    fn precision(self) -> Precision {
        match self {
            Self::F16 => Precision::F16,
            Self::None | Self::F32 => Precision::F32,
        }
    }
}

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
    /// Records in it.
    pub records: u64,
    /// When it was created, in seconds since 1970.
    pub created: u64,
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
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Sizes {
    /// On disk.
    pub store: StoreStats,
    /// In memory.
    pub index: Memory,
}

/// What the store keeps for a collection, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) encoder: EncoderInfo,
    pub(crate) keep_text: bool,
    pub(crate) keep_vectors: KeepVectors,
    pub(crate) created: u64,
}

impl Settings {
    pub(crate) fn new(settings: &CollectionSettings, encoder: EncoderInfo) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            encoder,
            keep_text: settings.keep_text,
            keep_vectors: settings.keep_vectors,
            created: now.as_secs(),
        }
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    pub(crate) fn from_bytes(bytes: &[u8], file: &Path) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|e| {
            Error::damaged(file, None, format!("expected the collection's settings: {e}"))
        })
    }
}

/// A handle on one collection. Clones are cheap and share it; every method may be called from
/// many threads at once, and no reader waits for a writer.
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
    store: Store,
    index: Index,
    /// Set when the collection is deleted while handles on it are still about.
    deleted: AtomicBool,
}

impl Collection {
    /// Makes the folder of a new collection.
    pub(crate) fn create(
        folder: &Path,
        settings: &Settings,
        width: Width,
        table: &Table,
    ) -> Result<()> {
        Store::create(folder, &settings.to_bytes(), width, table).map(drop)
    }

    /// Opens the collection in `folder`; `encoder` makes the encoder that its settings describe.
    pub(crate) fn open(
        name: &str,
        folder: &Path,
        table: &Table,
        encoder: impl FnOnce(&EncoderInfo) -> Result<Encoder>,
    ) -> Result<Self> {
        let (store, live) = Store::open(folder, table)?;
        let settings = Settings::from_bytes(store.settings(), folder)?;
        let encoder = encoder(&settings.encoder)?;
        let index = Index::build(store.width(), live.numbers, live.codes);
        let deleted = AtomicBool::new(false);
        let name = name.to_owned();
        Ok(Self { inner: Arc::new(Inner { name, settings, encoder, store, index, deleted }) })
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
            records: self.inner.store.len(),
            created: settings.created,
        }
    }

    /// Writes a group of records: all of them or, on an error, none. When it returns they are on
    /// disk and every search sees them. A record whose id is there already is replaced, and is
    /// then the youngest.
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
        let outcomes = self.commit(operations)?;
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
        self.check_alive()?;
        let operations = ids.iter().cloned().map(Operation::Delete).collect();
        let outcomes = self.commit(operations)?;
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

    /// Finds the nearest records.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{RecordId, Search};
    ///
    /// let answer = notes.search(&Search::text("the dark side of the moon").limit(1))?;
    /// assert_eq!(answer.hits[0].id.as_str(), "moon");
    /// println!("{} bits away, by {}", answer.hits[0].distance, answer.stats.plan.name());
    ///
    /// // A search by id leaves the record itself out.
    /// let others = notes.search(&Search::id(RecordId::new("moon")?))?;
    /// assert_eq!(others.hits[0].id.as_str(), "bread");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A query that the encoder does not take, an id that is not there, a deadline that passed.
    pub fn search(&self, search: &Search) -> Result<Answer> {
        self.check_alive()?;
        let start = Instant::now();
        let (code, itself) = self.query_code(&search.query)?;
        let encoded = Instant::now();
        let found = self.inner.index.search(&index::Query {
            code: &code,
            // One more, where the record that was asked about will be taken out again.
            limit: search.limit.saturating_add(usize::from(itself.is_some())),
            radius: search.radius,
            only: None,
            plan: search.plan,
            deadline: search.deadline,
        });
        if !found.complete {
            return Err(Error::Timeout);
        }
        let searched = Instant::now();
        let neighbours = found.neighbours.iter().filter(|n| Some(n.number) != itself);
        let hits = neighbours
            .take(search.limit)
            .map(|n| self.hit(n.number, n.distance, search.payload))
            .collect::<Result<Vec<_>>>()?;
        Ok(Answer {
            hits,
            complete: found.complete,
            stats: SearchStats {
                plan: found.stats.plan,
                kernel: found.stats.kernel,
                radius: found.stats.radius,
                probes: found.stats.probes,
                compared: found.stats.compared,
                encoding: encoded - start,
                searching: searched - encoded,
                reading: searched.elapsed(),
            },
        })
    }

    /// Answers many searches, on all cores.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::Search;
    ///
    /// let answers = notes.search_batch(&[Search::text("the moon"), Search::text("rye bread")])?;
    /// assert_eq!(answers[1].hits[0].id.as_str(), "bread");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// The first error among them, its place preceded by `searches[3].`.
    pub fn search_batch(&self, searches: &[Search]) -> Result<Vec<Answer>> {
        searches
            .par_iter()
            .enumerate()
            .map(|(i, search)| {
                self.search(search).map_err(|e| e.within(&format!("searches[{i}].")))
            })
            .collect()
    }

    /// Everything within `radius` bits of `code`, looked up in the hash table on disk instead of
    /// the index in memory: the same hits in the same order.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// use nearbit::{Search, Source};
    ///
    /// let code = notes.encode_one(&Source::Text("the far side of the moon".to_owned()))?;
    /// let on_disk = notes.lookup(&code, 2, usize::MAX)?;
    /// assert_eq!(on_disk[0].id.as_str(), "moon");
    /// assert_eq!(on_disk, notes.search(&Search::code(code).radius(2))?.hits);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A code of another width, damaged bytes, or a disk that does not answer.
    pub fn lookup(&self, code: &Code, radius: u32, limit: usize) -> Result<Vec<Hit>> {
        self.check_alive()?;
        let found = self.inner.store.within(code, radius, limit)?;
        found.into_iter().map(|(number, distance)| self.hit(number, distance, true)).collect()
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

    /// The code of every record that has one, in no particular order.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.codes().len(), 2);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn codes(&self) -> Codes {
        let snapshot = self.inner.index.snapshot();
        let mut codes = Codes::with_capacity(snapshot.width(), snapshot.len());
        for (_, words) in snapshot.rows() {
            // The index holds codes of one width only.
            let _ = codes.push_words(words);
        }
        codes
    }

    /// How many records stand in buckets of each size: bucket size -> number of buckets.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.bucket_sizes()[&1], 2); // two codes with one record each
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn bucket_sizes(&self) -> BTreeMap<usize, usize> {
        self.inner.index.snapshot().bucket_sizes()
    }

    /// What it takes on disk and in memory.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// assert_eq!(notes.sizes().store.records, 2);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn sizes(&self) -> Sizes {
        Sizes { store: self.inner.store.stats(), index: self.inner.index.memory() }
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

    /// Makes a group durable, then visible.
    fn commit(&self, operations: Vec<Operation>) -> Result<Vec<Outcome>> {
        let index = &self.inner.index;
        self.inner.store.commit(operations, |committed| {
            index.apply(&committed.added.numbers, &committed.added.codes, &committed.removed);
        })
    }

    /// The query's code; and the record's number where the query is a stored record.
    fn query_code(&self, query: &Query) -> Result<(Code, Option<u64>)> {
        match query {
            Query::Source(source) => {
                self.encode_one(source).map(|code| (code, None)).map_err(|e| e.within("query."))
            }
            Query::Id(id) => {
                let (number, record) = self.inner.store.get(id)?.ok_or_else(|| {
                    Error::not_found("record", id.as_str(), "ask for an id that was stored")
                })?;
                let code = record.code.ok_or_else(|| {
                    Error::invalid("query.id", format!("record {id} was stored without a source"))
                })?;
                Ok((code, Some(number)))
            }
        }
    }

    fn hit(&self, number: u64, distance: u32, payload: bool) -> Result<Hit> {
        let record = self.inner.store.read(number)?.ok_or_else(|| {
            let message = format!("the index has record number {number}, the store has not");
            Error::damaged(self.name(), None, message)
        })?;
        let bits = self.width().bits() as f32;
        Ok(Hit {
            id: record.id,
            distance,
            score: 1.0 - distance as f32 / bits,
            payload: payload.then_some(record.payload),
        })
    }
}

impl fmt::Debug for Collection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Collection({}, {} x {})", self.name(), self.inner.store.len(), self.width())
    }
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
