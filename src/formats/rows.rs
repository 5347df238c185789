//! The rows of a file as records, whatever its format.

use std::sync::Arc;

use super::array::{Array, ArrayRows};
use super::csv::CsvRows;
use super::detect::detect;
use super::fields::Fields;
use super::folder::Folder;
use super::fvecs::Fvecs;
use super::jsonl::JsonlRows;
use super::labels::Labels;
use super::parsed::{Object, Parsed, Parts, ReadRows};
use super::place::Place;
use super::source::{self, Progress};
use super::{Format, Origin, ReadOptions, bad_row, column, idx, npy};
use crate::error::{Error, Result};
use crate::input::InputKind;
use crate::record::{NewRecord, Payload, RecordId, Source};

/// Opens a file for reading, row by row.
///
/// ```
/// use nearbit::formats::{Origin, ReadOptions, open};
///
/// let bytes = br#"{"id": 7, "text": "Moon"}"#.as_slice().into();
/// let origin = Origin::Bytes { name: "moon.jsonl".into(), bytes };
/// for row in open(&origin, &ReadOptions::default())? {
///     let row = row?; // an error here ends the file
///     let record = row.record?; // and here it is this row's alone
///     assert_eq!(record.id.unwrap().as_str(), "7");
/// }
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// A file that is not there, is empty, is of no known format, or has a header that is wrong.
pub fn open(origin: &Origin, options: &ReadOptions) -> Result<Rows> {
    let labels = options.labels.as_ref().map(|labels| Labels::open(labels, options)).transpose()?;
    let (file, progress, reader) = match origin {
        Origin::Path(path) if path.is_dir() => {
            let folder = Folder::open(path, options)?;
            let file = path.display().to_string();
            (file.into(), folder.progress.clone(), Box::new(folder) as Box<dyn ReadRows>)
        }
        _ => {
            let source = source::Source::open(origin)?;
            (source.name.clone(), source.progress.clone(), reader(source, options)?)
        }
    };
    let columns = [reader.columns(), labels.as_ref().map_or(&[][..], Labels::columns)];
    column::check(options, columns, &file)?;
    Ok(Rows {
        file,
        reader,
        labels,
        label_field: options.label_field().to_owned(),
        label_required: options.label_field.is_some(),
        kind: None,
        number: options.first_row,
        first: options.first_row,
        progress,
        ended: false,
    })
}

fn reader(mut source: source::Source, options: &ReadOptions) -> Result<Box<dyn ReadRows>> {
    let format = detect(&source, options.format)?;
    let has_fields = matches!(format, Format::Jsonl | Format::Csv | Format::Tsv);
    if !has_fields && options.label_field.is_some() && options.labels.is_none() {
        let message = "there are no fields, and so none for --label-field; name a file of labels with \
                       --labels";
        return Err(source.invalid(message));
    }
    Ok(match format {
        Format::Jsonl => Box::new(JsonlRows::new(source, Fields::new(options))),
        Format::Csv => Box::new(CsvRows::new(source, b',', options)?),
        Format::Tsv => Box::new(CsvRows::new(source, b'\t', options)?),
        Format::Npy => {
            let header = npy::header(&mut source)?;
            Box::new(ArrayRows::new(Array::new(source, header)?, options.source)?)
        }
        Format::Idx => {
            let header = idx::header(&mut source)?;
            Box::new(ArrayRows::new(Array::new(source, header)?, options.source)?)
        }
        Format::Fvecs | Format::Bvecs | Format::Ivecs => {
            Box::new(Fvecs::new(source, format, options.source)?)
        }
        Format::Folder => return Err(source.invalid("expected a folder, got a file")),
    })
}

/// One row of a file.
pub struct Row {
    /// Its number, from 0, or from [`ReadOptions::first_row`].
    pub number: u64,
    /// Where it stands.
    pub place: Place,
    /// Whether the row has no id and its record is named by the number.
    pub is_numbered: bool,
    /// The record, or what is wrong with this row; the rows after it can be read.
    pub record: Result<NewRecord>,
}

/// The rows of a file; made by [`open`].
///
/// An error from the iterator ends it. What is wrong with one row alone is in [`Row::record`].
pub struct Rows {
    file: Arc<str>,
    reader: Box<dyn ReadRows>,
    labels: Option<Labels>,
    label_field: String,
    label_required: bool,
    /// The kind of the first good row, which all others share.
    kind: Option<InputKind>,
    /// The number of the next row.
    number: u64,
    first: u64,
    progress: Progress,
    ended: bool,
}

impl Rows {
    /// The file's name for messages.
    pub fn name(&self) -> &str {
        &self.file
    }

    /// The number of rows, where it is known and the length of the file confirms it.
    pub fn total_rows(&self) -> Option<u64> {
        self.reader.checked_rows()
    }

    /// The row that was read last as it stands in a file of text, to be mended: a line of JSONL, the
    /// values of a row of CSV. `None` for other formats, and for a row that is too long.
    pub fn text(&self) -> Option<String> {
        self.reader.text()
    }

    /// How far the reading has come, in bytes.
    pub fn progress(&self) -> Progress {
        self.progress.clone()
    }

    /// The field of the payload that is the label.
    pub(super) fn label_field(&self) -> &str {
        &self.label_field
    }

    /// Whether a row without a label is an error.
    pub(super) fn label_required(&self) -> bool {
        self.label_required
    }

    fn read_row(&mut self) -> Result<Option<Row>> {
        let parsed = self.reader.next_row()?;
        let labels = match &mut self.labels {
            Some(labels) => labels.next_fields(parsed.is_some(), &self.file)?,
            None => None,
        };
        let Some(Parsed { at, row }) = parsed else {
            if self.number == self.first {
                return Err(Error::invalid(&*self.file, "the file holds no rows"));
            }
            return Ok(None);
        };
        let place = at.place(&self.file);
        let number = self.number;
        self.number += 1;
        let mut is_numbered = false;
        let record = row
            .and_then(|row| match labels {
                Some(fields) => fields?.join(row, &self.label_field),
                None => Ok(row),
            })
            .and_then(|row| {
                is_numbered = row.id.is_none();
                self.record(row, number)
            })
            .map_err(|error| located(error, &place));
        Ok(Some(Row { number, place, is_numbered, record }))
    }

    /// The record of a row, if it is like the rows before.
    fn record(&mut self, row: Parts, number: u64) -> Result<NewRecord> {
        self.check_kind(&row.source)?;
        let id = match row.id {
            Some(id) => id,
            None => RecordId::new(number.to_string())?,
        };
        Ok(NewRecord { id: Some(id), source: Some(row.source), payload: payload(row.fields)? })
    }

    fn check_kind(&mut self, source: &Source) -> Result<()> {
        let kind = match source {
            Source::Text(_) => InputKind::Text,
            Source::Vector(vector) => {
                check_finite(vector)?;
                InputKind::Vector { dim: vector.len() }
            }
            Source::Image(image) => InputKind::Image { height: image.height, width: image.width },
            // The width was asked for.
            Source::Code(_) => return Ok(()),
        };
        match *self.kind.get_or_insert(kind) {
            first if first == kind => Ok(()),
            first => Err(bad_row(format!("expected {first} as in the first row, got {kind}"))),
        }
    }
}

/// The payload of fields, if it is not too large.
fn payload(fields: Object) -> Result<Payload> {
    let payload = Payload::from(fields);
    let bytes = if payload.is_empty() { 0 } else { payload.to_json().len() };
    if bytes > Payload::MAX_BYTES {
        let max = Payload::MAX_BYTES;
        return Err(Error::invalid(
            "payload",
            format!("expected at most {max} bytes, got {bytes}"),
        ));
    }
    Ok(payload)
}

/// Puts the row's place before an error that names only a field, or nothing.
fn located(error: Error, place: &Place) -> Error {
    match error {
        Error::Invalid { place: field, message } if field.is_empty() => {
            Error::invalid(place.to_string(), message)
        }
        error => error.within(&format!("{place}: ")),
    }
}

fn check_finite(vector: &[f32]) -> Result<()> {
    match vector.iter().position(|x| !x.is_finite()) {
        Some(column) => Err(bad_row(format!(
            "expected finite 32-bit numbers, got {} in column {column}; remove or repair the row",
            vector[column]
        ))),
        None => Ok(()),
    }
}

impl Iterator for Rows {
    type Item = Result<Row>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let row = self.read_row().transpose();
        self.ended = !matches!(row, Some(Ok(_)));
        row
    }
}
