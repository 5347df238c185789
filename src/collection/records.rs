//! Records: written and deleted in groups, read by id or page by page.

use std::collections::HashMap;

use half::f16;

use super::{Collection, Inner, KeepVectors};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::record::{NewRecord, Record, RecordId, Source};
use crate::store::{Durability, Operation, Outcome};

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

impl Collection {
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
        for (row, (_, record)) in records.iter().enumerate() {
            let checked = record.source.as_ref().map_or(Ok(()), |s| self.check_precision(s));
            checked.map_err(|error| error.within(&format!("records[{row}].")))?;
        }
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
        let Some(source) = &record.source else { return Ok(()) };
        self.inner.encoder.check(source)?;
        self.check_precision(source)
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

    /// Refuses vectors that are to be kept in half precision and have numbers beyond it.
    fn check_precision(&self, source: &Source) -> Result<()> {
        let Source::Vector(vector) = source else { return Ok(()) };
        let too_large = |x: &&f32| x.is_finite() && !f16::from_f32(**x).is_finite();
        match vector.iter().find(too_large) {
            Some(x) if self.inner.settings.keep_vectors == KeepVectors::F16 => {
                let hint = "scale the vectors, or keep them as f32";
                let message =
                    format!("expected numbers up to {} to keep as f16, got {x}; {hint}", f16::MAX);
                Err(Error::invalid("vector", message))
            }
            _ => Ok(()),
        }
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

    /// Gives a group to the store, whose listeners make it visible, and notes its fields.
    fn commit(&self, operations: Vec<Operation>, durability: Durability) -> Result<Vec<Outcome>> {
        let Inner { fields, store, .. } = &*self.inner;
        let contents = fields.contents(&operations);
        let outcomes = store.commit_with(operations, durability)?;
        fields.apply(contents, &outcomes);
        Ok(outcomes)
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
