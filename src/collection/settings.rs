//! What a collection is like: chosen when it is made, kept with it.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::code::Width;
use crate::encoder::{EncoderInfo, EncoderSpec};
use crate::error::{Error, Result};
use crate::filter::Field;
use crate::store::{Durability, Precision};

/// What a new collection is to be like. Only the indexed fields and the durability can be changed
/// later.
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
    /// How kept vectors are compared.
    pub metric: Metric,
    /// The fields of payloads that are indexed, so that filters on them read no payload.
    pub index_fields: Vec<Field>,
    /// When a write is durable that does not say so itself.
    pub durability: Durability,
    /// Where it is searched.
    pub index: IndexPlace,
}

impl CollectionSettings {
    /// Settings with an encoder; texts are kept, vectors are not, no field is indexed, every write
    /// is synced before it is acknowledged, and the index is in memory.
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
        Self {
            encoder,
            keep_text: true,
            keep_vectors: KeepVectors::None,
            metric: Metric::Cosine,
            index_fields: Vec::new(),
            durability: Durability::Sync,
            index: IndexPlace::Memory,
        }
    }
}

/// Where a collection is searched. The hits and their order are the same.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::{Code, CollectionSettings, EncoderSpec, IndexPlace, NewRecord, Search, Width};
///
/// let width = Width::new(64)?;
/// let encoder = EncoderSpec::Codes { width };
/// let settings =
///     CollectionSettings { index: IndexPlace::Disk, ..CollectionSettings::new(encoder) };
/// let many = database.create_collection("many", &settings)?;
/// many.upsert(vec![NewRecord::code(Code::zero(width)).with_id("zero")?])?;
/// let answer = many.search(&Search::code(Code::zero(width)).radius(2))?;
/// assert_eq!(answer.hits[0].id.as_str(), "zero");
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IndexPlace {
    /// In an index in memory, which is built from all records at every open: the fastest search.
    #[default]
    Memory,
    /// In the hash table on disk: about seven bytes of memory a record, and an open that reads no
    /// records. Small balls are found in a fraction of a millisecond; whatever is farther away
    /// takes a pass over the table. What needs all codes at once, such as
    /// [`near_duplicates`](crate::Collection::near_duplicates), is refused. Indexes of fields are in
    /// memory in any case. After a crash of a process that wrote, the next open reads all records.
    Disk,
}

/// How alike two vectors are: more is nearer.
///
/// ```
/// use nearbit::{CollectionSettings, EncoderSpec, InputKind, KeepVectors, Metric, Width};
///
/// let input = InputKind::Vector { dim: 384 };
/// let encoder = EncoderSpec::Hyperplanes { input, width: Width::new(128)?, seed: 0 };
/// let settings = CollectionSettings {
///     keep_vectors: KeepVectors::F16,
///     metric: Metric::L2,
///     ..CollectionSettings::new(encoder)
/// };
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// The cosine of the angle between them, -1 to 1; 0 where one of them is all zeros.
    #[default]
    Cosine,
    /// Their scalar product.
    Dot,
    /// The negative of their Euclidean distance.
    L2,
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

impl IndexPlace {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl KeepVectors {
    pub(super) fn precision(self) -> Precision {
        match self {
            Self::F16 => Precision::F16,
            Self::None | Self::F32 => Precision::F32,
        }
    }
}

/// What the store keeps for a collection, as JSON.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Settings {
    pub(crate) encoder: EncoderInfo,
    pub(crate) keep_text: bool,
    pub(crate) keep_vectors: KeepVectors,
    pub(crate) created: u64,
    /// Collections of version 0.1.0 have none.
    #[serde(default)]
    pub(crate) metric: Metric,
    /// The names of each indexed field; collections of version 0.1.0 have none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) index_fields: Vec<Vec<String>>,
    /// Collections of version 0.1.0 have none: they sync.
    #[serde(default)]
    pub(crate) durability: Durability,
    /// Where there is none it is in memory, and is not written, as before there was a choice.
    #[serde(default, skip_serializing_if = "IndexPlace::is_default")]
    pub(crate) index: IndexPlace,
}

impl Settings {
    pub(crate) fn new(settings: &CollectionSettings, encoder: EncoderInfo) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            encoder,
            keep_text: settings.keep_text,
            keep_vectors: settings.keep_vectors,
            created: now.as_secs(),
            metric: settings.metric,
            index_fields: Self::names(&settings.index_fields),
            durability: settings.durability,
            index: settings.index,
        }
    }

    /// Those of a collection that has lost its encoder, and of its settings what can be read.
    pub(crate) fn of_codes(width: Width, known: Option<&[u8]>) -> Self {
        let known: Option<Self> = known.and_then(|known| serde_json::from_slice(known).ok());
        let encoder = EncoderInfo::Codes { bits: width.bits() };
        let spec = CollectionSettings::new(EncoderSpec::Codes { width });
        match known {
            Some(known) => Self { encoder, ..known },
            None => Self::new(&spec, encoder),
        }
    }

    /// The fields as they are kept.
    pub(super) fn names<'a>(fields: impl IntoIterator<Item = &'a Field>) -> Vec<Vec<String>> {
        let fields: BTreeSet<&Field> = fields.into_iter().collect();
        fields.into_iter().map(|field| field.names().to_vec()).collect()
    }

    pub(super) fn fields(&self) -> Result<Vec<Field>> {
        self.index_fields.iter().map(Field::new).collect()
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
