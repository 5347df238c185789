//! What every format hands to the reader of rows: one parsed row after the other.

use serde_json::{Map, Value};

use super::place::At;
use crate::error::Result;
use crate::record::{RecordId, Source};

/// The fields of a row, by name.
pub(super) type Object = Map<String, Value>;

/// What each format does: hand over the next row.
pub(super) trait ReadRows: Send {
    /// The next row. The outer error ends the file: nothing behind it can be read.
    fn next_row(&mut self) -> Result<Option<Parsed>>;

    /// The names of the columns of a table.
    fn columns(&self) -> &[String] {
        &[]
    }

    /// The row that was read last, as it stands in a file of text.
    fn text(&self) -> Option<String> {
        None
    }

    /// The number of rows, where the length of the file confirms it.
    fn checked_rows(&self) -> Option<u64> {
        None
    }
}

/// A row as its format yields it.
pub(super) struct Parsed {
    pub at: At,
    pub row: Result<Parts>,
}

/// What a record is made of.
pub(super) struct Parts {
    pub id: Option<RecordId>,
    pub source: Source,
    pub fields: Object,
}

impl Parts {
    /// A row of a format that holds nothing but sources.
    pub fn new(source: Source) -> Self {
        Self { id: None, source, fields: Object::new() }
    }
}
