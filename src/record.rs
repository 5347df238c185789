//! Records: an id, at most one source, a payload, a code.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::code::Code;
use crate::error::{Error, Result};
use crate::input::Image;

/// The name of a record within its collection: 1 to 512 bytes of UTF-8.
///
/// ```
/// use nearbit::RecordId;
///
/// let id = RecordId::new("moon-1")?;
/// assert_eq!(id.as_str(), "moon-1");
/// assert!(RecordId::new("x".repeat(RecordId::MAX_BYTES + 1)).is_err());
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct RecordId(Box<str>);

impl RecordId {
    /// The longest id, in bytes.
    pub const MAX_BYTES: usize = 512;

    /// An id, or an error where it is empty or too long.
    ///
    /// ```
    /// use nearbit::RecordId;
    ///
    /// assert!(RecordId::new("moon-1").is_ok());
    /// assert!(RecordId::new("").is_err());
    /// ```
    pub fn new(id: impl Into<String>) -> Result<Self> {
        let id = id.into();
        match id.len() {
            1..=Self::MAX_BYTES => Ok(Self(id.into())),
            len => Err(Error::invalid(
                "id",
                format!("expected 1 to {} bytes, got {len}", Self::MAX_BYTES),
            )),
        }
    }

    /// A new id for a record that came without one: a UUIDv7, whose order is that of time.
    ///
    /// ```
    /// use nearbit::RecordId;
    ///
    /// assert_ne!(RecordId::generate(), RecordId::generate());
    /// ```
    pub fn generate() -> Self {
        Self(uuid::Uuid::now_v7().to_string().into())
    }

    /// The id as text.
    ///
    /// ```
    /// assert_eq!(nearbit::RecordId::new("moon-1")?.as_str(), "moon-1");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl From<RecordId> for String {
    fn from(id: RecordId) -> Self {
        id.0.into()
    }
}

impl FromStr for RecordId {
    type Err = Error;

    fn from_str(id: &str) -> Result<Self> {
        Self::new(id)
    }
}

/// What a code is made from.
///
/// ```
/// use nearbit::{Image, Source};
///
/// let picture = Source::Image(Image { height: 2, width: 2, pixels: vec![0, 255, 255, 0] });
/// assert_eq!(picture.kind(), "image");
/// ```
#[derive(Clone, PartialEq, Debug)]
pub enum Source {
    /// Running text.
    Text(String),
    /// A dense vector of finite numbers.
    Vector(Vec<f32>),
    /// A grey picture.
    Image(Image),
    /// The code itself, made elsewhere.
    Code(Code),
}

impl Source {
    /// The kind as a word: `text`, `vector`, `image` or `code`.
    ///
    /// ```
    /// assert_eq!(nearbit::Source::Vector(vec![0.5, 1.0]).kind(), "vector");
    /// ```
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Text(_) => "text",
            Self::Vector(_) => "vector",
            Self::Image(_) => "image",
            Self::Code(_) => "code",
        }
    }
}

/// A JSON object that travels with a record.
///
/// ```
/// use nearbit::Payload;
///
/// let payload = Payload::from_json(r#"{"label": "sci.space", "year": 1993}"#)?;
/// assert_eq!(payload.text("label").as_deref(), Some("sci.space"));
/// assert_eq!(payload.to_json(), r#"{"label":"sci.space","year":1993}"#);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Payload(Map<String, Value>);

impl Payload {
    /// The largest payload, in bytes of JSON.
    pub const MAX_BYTES: usize = 1 << 20;

    /// A payload from JSON text.
    ///
    /// ```
    /// use nearbit::Payload;
    ///
    /// assert!(Payload::from_json(r#"{"year": 1993, "tags": ["a", "b"]}"#).is_ok());
    /// let error = Payload::from_json("[1, 2]").unwrap_err().to_string();
    /// assert!(error.contains("expected a JSON object"), "{error}");
    /// ```
    ///
    /// # Errors
    /// Text that is no JSON, is no object, or is longer than [`Payload::MAX_BYTES`].
    pub fn from_json(json: &str) -> Result<Self> {
        if json.len() > Self::MAX_BYTES {
            return Err(Error::invalid(
                "payload",
                format!("expected at most {} bytes, got {}", Self::MAX_BYTES, json.len()),
            ));
        }
        serde_json::from_str(json)
            .map_err(|e| Error::invalid("payload", format!("expected a JSON object: {e}")))
    }

    /// The payload as compact JSON text.
    ///
    /// ```
    /// let payload = nearbit::Payload::from_json(r#"{ "year": 1993 }"#)?;
    /// assert_eq!(payload.to_json(), r#"{"year":1993}"#);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn to_json(&self) -> String {
        Value::Object(self.0.clone()).to_string()
    }

    /// The fields, as JSON.
    pub(crate) fn fields(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether there is no field.
    ///
    /// ```
    /// assert!(nearbit::Payload::default().is_empty());
    /// ```
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The field `name` as text: a string as it is, a number or a boolean as JSON writes it.
    ///
    /// ```
    /// let payload = nearbit::Payload::from_json(r#"{"year": 1993, "tags": ["a", "b"]}"#)?;
    /// assert_eq!(payload.text("year").as_deref(), Some("1993"));
    /// assert_eq!(payload.text("tags"), None);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn text(&self, name: &str) -> Option<String> {
        match self.0.get(name)? {
            Value::String(text) => Some(text.clone()),
            value @ (Value::Number(_) | Value::Bool(_)) => Some(value.to_string()),
            _ => None,
        }
    }

    /// Sets the field `name` to a text.
    ///
    /// ```
    /// let mut payload = nearbit::Payload::default();
    /// payload.set_text("label", "sci.space");
    /// assert_eq!(payload.to_json(), r#"{"label":"sci.space"}"#);
    /// ```
    pub fn set_text(&mut self, name: impl Into<String>, text: impl Into<String>) {
        self.0.insert(name.into(), Value::String(text.into()));
    }
}

impl From<Map<String, Value>> for Payload {
    fn from(fields: Map<String, Value>) -> Self {
        Self(fields)
    }
}

/// A record as it is given to a collection.
///
/// ```
/// use nearbit::NewRecord;
///
/// let record = NewRecord::text("the orbit of the moon").with_id("moon-1")?;
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Default, Debug)]
pub struct NewRecord {
    /// The id; one is made where it is `None`.
    pub id: Option<RecordId>,
    /// What the code is made from; a record without a source is found by id only.
    pub source: Option<Source>,
    /// The payload.
    pub payload: Payload,
}

impl NewRecord {
    /// A record whose code is made from `source`.
    ///
    /// ```
    /// use nearbit::{NewRecord, Source};
    ///
    /// let record = NewRecord::new(Source::Vector(vec![0.5, 1.0]));
    /// assert_eq!(record, NewRecord::vector([0.5, 1.0]));
    /// ```
    pub fn new(source: Source) -> Self {
        Self { source: Some(source), ..Self::default() }
    }

    /// A record whose code is made from a text.
    ///
    /// ```
    /// let record = nearbit::NewRecord::text("the orbit of the moon");
    /// ```
    pub fn text(text: impl Into<String>) -> Self {
        Self::new(Source::Text(text.into()))
    }

    /// A record whose code is made from a vector.
    ///
    /// ```
    /// let record = nearbit::NewRecord::vector([0.25, -1.0, 0.5]);
    /// ```
    pub fn vector(vector: impl Into<Vec<f32>>) -> Self {
        Self::new(Source::Vector(vector.into()))
    }

    /// A record that brings its code.
    ///
    /// ```
    /// use nearbit::{Code, NewRecord, Width};
    ///
    /// let record = NewRecord::code(Code::parse("5a", Width::new(8)?)?);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    pub fn code(code: Code) -> Self {
        Self::new(Source::Code(code))
    }

    /// The same record with an id.
    ///
    /// ```
    /// use nearbit::NewRecord;
    ///
    /// let record = NewRecord::text("the orbit of the moon").with_id("moon-1")?;
    /// assert_eq!(record.id.unwrap().as_str(), "moon-1");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// An id that is empty or longer than [`RecordId::MAX_BYTES`].
    pub fn with_id(mut self, id: impl Into<String>) -> Result<Self> {
        self.id = Some(RecordId::new(id)?);
        Ok(self)
    }

    /// The same record with a payload.
    ///
    /// ```
    /// use nearbit::{NewRecord, Payload};
    ///
    /// let payload = Payload::from_json(r#"{"label": "sci.space"}"#)?;
    /// let record = NewRecord::text("the orbit of the moon").with_payload(payload);
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    #[must_use]
    pub fn with_payload(mut self, payload: Payload) -> Self {
        self.payload = payload;
        self
    }
}

/// A record as a collection keeps it.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let page = notes.list(None, 1)?;
/// let record = &page.records[0];
/// assert_eq!(record.id.as_str(), "moon");
/// assert_eq!(record.code.as_ref().unwrap().width(), notes.width());
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug)]
pub struct Record {
    /// The id.
    pub id: RecordId,
    /// The code; `None` for a record that came without a source.
    pub code: Option<Code>,
    /// The payload.
    pub payload: Payload,
    /// The text, where the collection keeps texts.
    pub text: Option<String>,
    /// The vector, where the collection keeps vectors.
    pub vector: Option<Vec<f32>>,
}
