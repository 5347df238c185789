//! A collection, described: how it was made, and what it takes.

use super::{Collection, IndexPlace, KeepVectors, Metric};
use crate::code::Width;
use crate::encoder::EncoderInfo;
use crate::filter::Field;
use crate::index::Memory;
use crate::store::{Durability, StoreStats};

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

impl Collection {
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
            index: settings.index,
        }
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
}
