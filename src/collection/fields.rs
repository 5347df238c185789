//! The indexes of a collection's fields: kept in memory, filled from the store in the background,
//! and told of every write.
//!
//! Nothing waits for them and nothing is wrong without them: of a record that an index has not
//! seen, a search reads the payload.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::IndexedField;
use crate::error::Result;
use crate::filter::{Content, Field, FieldIndex};
use crate::numbers::Numbers;
use crate::store::{Operation, Outcome, Store};

/// Records that are read and added at a time in the background.
const CHUNK: usize = 1024;

/// Dead records are dropped from the indexes once there are so many of them, and one for every
/// four live ones: each time goes through all values.
const FORGET: u64 = 16 * 1024;

/// After an error, such as a damaged record, they are not filled again for so long.
const PATIENCE: Duration = Duration::from_secs(60);

/// The indexes of a collection's fields. Dropping it ends the work in the background.
pub(super) struct Fields {
    shared: Arc<Shared>,
    store: Arc<Store>,
    builder: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Default)]
struct Shared {
    indexes: RwLock<Indexes>,
    stop: AtomicBool,
    /// Whether somebody fills them, who looks once more before it is set to false.
    filling: Mutex<bool>,
    /// When filling them failed last.
    failed: Mutex<Option<Instant>>,
}

/// The indexes at one moment.
#[derive(Default)]
pub(super) struct Indexes {
    pub(super) by_field: BTreeMap<Field, FieldIndex>,
    /// Records in the indexes that were replaced or deleted.
    dead: Numbers,
}

/// What the puts of a group have in each field, in their order.
pub(super) struct Contents(Vec<(Field, Vec<Content>)>);

impl Fields {
    pub(super) fn new(fields: impl IntoIterator<Item = Field>, store: Arc<Store>) -> Self {
        let new = Self { shared: Arc::default(), store, builder: Mutex::default() };
        fields.into_iter().for_each(|field| new.add(field));
        new
    }

    /// The fields.
    pub(super) fn names(&self) -> Vec<Field> {
        self.read().by_field.keys().cloned().collect()
    }

    /// Whether a field is indexed, and every record in the index.
    pub(super) fn is_complete(&self, field: &Field) -> bool {
        let end = self.store.next_number();
        self.read().by_field.get(field).is_some_and(|index| index.first_unseen(end).is_none())
    }

    /// The fields, described.
    pub(super) fn info(&self) -> Vec<IndexedField> {
        let end = self.store.next_number();
        let describe = |(field, index): (&Field, &FieldIndex)| IndexedField {
            field: field.clone(),
            values: index.values(),
            complete: index.first_unseen(end).is_none(),
        };
        self.read().by_field.iter().map(describe).collect()
    }

    /// The indexes as they are; while they are held, no write changes them.
    pub(super) fn read(&self) -> RwLockReadGuard<'_, Indexes> {
        self.shared.read()
    }

    /// Adds the index of a field, and begins to fill it.
    pub(super) fn add(&self, field: Field) {
        self.shared.write().by_field.entry(field).or_default();
        *self.shared.failed() = None;
        self.fill();
    }

    /// Drops the index of a field.
    pub(super) fn remove(&self, field: &Field) {
        self.shared.write().by_field.remove(field);
    }

    /// What a group that is about to be written has in the fields.
    pub(super) fn contents(&self, operations: &[Operation]) -> Contents {
        let fields = self.names();
        let payloads = || {
            operations.iter().filter_map(|operation| match operation {
                Operation::Put { record, .. } => Some(&record.payload),
                Operation::Delete(_) => None,
            })
        };
        let contents = |field: Field| {
            let contents = payloads().map(|payload| Content::of(&field, payload)).collect();
            (field, contents)
        };
        Contents(fields.into_iter().map(contents).collect())
    }

    /// Adds a group that was written.
    pub(super) fn apply(&self, contents: Contents, outcomes: &[Outcome]) {
        // Where there is none, no writer waits for those who search.
        if self.read().by_field.is_empty() {
            return;
        }
        let mut indexes = self.shared.write();
        let number = |outcome: &Outcome| match *outcome {
            Outcome::Inserted(new) | Outcome::Replaced { new, .. } => Some(new),
            Outcome::Deleted(_) | Outcome::Missing => None,
        };
        for (field, contents) in contents.0 {
            let Some(index) = indexes.by_field.get_mut(&field) else { continue };
            for (number, content) in outcomes.iter().filter_map(number).zip(contents) {
                index.insert(number, content);
                index.saw(number..number + 1);
            }
        }
        for outcome in outcomes {
            if let Outcome::Replaced { old, .. } | Outcome::Deleted(old) = *outcome {
                indexes.dead.insert(old);
            }
        }
        if indexes.dead.len() >= FORGET.max(self.store.len() / 4) {
            let dead = std::mem::take(&mut indexes.dead);
            indexes.by_field.values_mut().for_each(|index| index.forget(&dead));
        }
        // An index that was added while the group was on its way has not seen it.
        let unseen = indexes.first_unseen(self.store.next_number()).is_some();
        drop(indexes);
        if unseen {
            self.fill();
        }
    }

    /// Fills the indexes in the background, unless that is under way.
    fn fill(&self) {
        let mut builder = self.builder.lock().unwrap_or_else(PoisonError::into_inner);
        let mut filling = self.shared.filling();
        let at_work = *filling && builder.as_ref().is_some_and(|running| !running.is_finished());
        if at_work || self.shared.failed().is_some_and(|at| at.elapsed() < PATIENCE) {
            return;
        }
        let (shared, store) = (Arc::clone(&self.shared), Arc::clone(&self.store));
        let fill = move || {
            loop {
                let filled = shared.fill(&store);
                if let Err(error) = &filled {
                    *shared.failed() = Some(Instant::now());
                    tracing::warn!(%error, "fields are not indexed; searches read payloads instead");
                }
                // Who added a field meanwhile took this for at work.
                let mut filling = shared.filling();
                let unseen = || shared.read().first_unseen(store.next_number()).is_some();
                if filled.is_err() || shared.stop.load(Ordering::Relaxed) || !unseen() {
                    *filling = false;
                    return;
                }
            }
        };
        let thread = std::thread::Builder::new().name("fields".to_owned()).spawn(fill);
        *builder = thread
            .inspect_err(|error| tracing::warn!(%error, "no thread to index fields with"))
            .ok();
        *filling = builder.is_some();
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        let builder = self.builder.get_mut().unwrap_or_else(PoisonError::into_inner);
        if let Some(builder) = builder.take() {
            // It logs what goes wrong; a panic of it harms nobody.
            let _ = builder.join();
        }
    }
}

impl Indexes {
    /// The first record below `end` that an index has not seen.
    pub(super) fn first_unseen(&self, end: u64) -> Option<u64> {
        self.by_field.values().filter_map(|index| index.first_unseen(end)).min()
    }
}

impl Shared {
    // What is guarded is derived and only grows: after a panic it lacks a record at most.
    fn read(&self) -> RwLockReadGuard<'_, Indexes> {
        self.indexes.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Indexes> {
        self.indexes.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn filling(&self) -> MutexGuard<'_, bool> {
        self.filling.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self) -> MutexGuard<'_, Option<Instant>> {
        self.failed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Shows the indexes every record that they have not seen.
    fn fill(&self, store: &Store) -> Result<()> {
        while !self.stop.load(Ordering::Relaxed) {
            let end = store.next_number();
            let (from, fields) = {
                let indexes = self.read();
                let Some(from) = indexes.first_unseen(end) else { return Ok(()) };
                (from, indexes.by_field.keys().cloned().collect::<Vec<_>>())
            };
            let records = store.list(from.checked_sub(1), CHUNK)?;
            let last = records.last().map_or(0, |(number, _)| number + 1);
            let to = if records.len() == CHUNK { last } else { last.max(end) };
            for field in fields {
                let contents: Vec<(u64, Content)> = records
                    .iter()
                    .map(|(number, record)| (*number, Content::of(&field, &record.payload)))
                    .collect();
                let mut indexes = self.write();
                let Some(index) = indexes.by_field.get_mut(&field) else { continue };
                contents.into_iter().for_each(|(number, content)| index.insert(number, content));
                index.saw(from..to);
            }
        }
        Ok(())
    }
}
