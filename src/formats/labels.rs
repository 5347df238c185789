//! A second file that says more about each row: row i of it belongs to row i of the first.

use serde_json::Value;

use super::array::{Array, Integers};
use super::csv::Table;
use super::detect::detect;
use super::fields::{record_id, require};
use super::jsonl::Lines;
use super::parsed::{Object, Parts};
use super::source::Source;
use super::{Format, Origin, ReadOptions, idx, npy};
use crate::error::{Error, Result};

/// The rows of such a file.
pub(super) struct Labels {
    name: String,
    reader: Reader,
    /// A field that the first row must have.
    required: Option<String>,
    rows: u64,
}

enum Reader {
    Integers(Integers),
    Lines(Lines),
    Table(Table),
}

impl Labels {
    pub fn open(origin: &Origin, options: &ReadOptions) -> Result<Self> {
        let mut source = Source::open(origin)?;
        let name = source.name.to_string();
        let reader = match detect(&source, None)? {
            Format::Npy => {
                let header = npy::header(&mut source)?;
                Reader::Integers(Integers::new(Array::new(source, header)?)?)
            }
            Format::Idx => {
                let header = idx::header(&mut source)?;
                Reader::Integers(Integers::new(Array::new(source, header)?)?)
            }
            Format::Jsonl => Reader::Lines(Lines::new(source)),
            Format::Csv => Reader::Table(Table::new(source, b',', options)?),
            Format::Tsv => Reader::Table(Table::new(source, b'\t', options)?),
            other => {
                return Err(source.invalid(format!(
                    "expected labels as IDX, integer .npy, JSONL or CSV, got {}",
                    other.name()
                )));
            }
        };
        Ok(Self { name, reader, required: options.label_field.clone(), rows: 0 })
    }

    /// The names of the columns of a table.
    pub fn columns(&self) -> &[String] {
        match &self.reader {
            Reader::Table(table) => table.columns(),
            _ => &[],
        }
    }

    /// What belongs to the next row of `file`, which `is_there` or not. The two must end together.
    pub fn next_fields(&mut self, is_there: bool, file: &str) -> Result<Option<Result<Joined>>> {
        let next = match &mut self.reader {
            Reader::Integers(integers) => {
                integers.next_integer()?.map(|label| label.map(Joined::Label))
            }
            Reader::Lines(lines) => lines.next_object()?.map(|row| row.map(Joined::Fields)),
            Reader::Table(table) => table.next_object()?.map(|row| row.map(Joined::Fields)),
        };
        if next.is_some() != is_there {
            let (longer, shorter) =
                if is_there { (file, &self.name[..]) } else { (&self.name[..], file) };
            return Err(Error::invalid(
                &self.name,
                format!(
                    "expected a row for each row of {file}, but {shorter} ends after {} and {longer} goes on",
                    self.rows
                ),
            ));
        }
        if let (Some(Ok(Joined::Fields(object))), Some(field)) = (&next, self.required.take()) {
            require(object, &field, "--label-field").map_err(|error| match error {
                Error::Invalid { message, .. } => Error::invalid(&self.name, message),
                other => other,
            })?;
        }
        self.rows += 1;
        Ok(next)
    }
}

/// What is joined to a row.
pub(super) enum Joined {
    Label(i64),
    Fields(Object),
}

impl Joined {
    /// The row with a label or with fields. What the row has already stays.
    pub fn join(self, mut row: Parts, label_field: &str) -> Result<Parts> {
        match self {
            Self::Label(label) => {
                row.fields.entry(label_field).or_insert(Value::from(label));
            }
            Self::Fields(mut fields) => {
                if row.id.is_none()
                    && let Some(id) = fields.remove("id")
                {
                    let id = record_id(id).map_err(|message| Error::invalid("id", message))?;
                    row.id = Some(id);
                }
                fields.append(&mut row.fields);
                row.fields = fields;
            }
        }
        Ok(row)
    }
}
