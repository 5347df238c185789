//! CSV and TSV: a header line with the names of the fields, then a row a record.
//!
//! Values stay text: `007` may be a number or a name, and only its owner knows, who says so with
//! [`ColumnType`]s. Quoting is RFC 4180's.

use std::io::{self, BufRead, Read};
use std::sync::Arc;

use ::csv::{ByteRecord, ReaderBuilder, WriterBuilder};
use serde_json::Value;

use super::column::ColumnType;
use super::fields::Fields;
use super::parsed::{Object, Parsed, ReadRows};
use super::place::At;
use super::source::Source;
use super::{MAX_ROW_BYTES, ReadOptions, bad_row};
use crate::error::{Error, Result};

/// The rows of a file as objects.
pub(super) struct Table {
    name: Arc<str>,
    reader: ::csv::Reader<Budget>,
    delimiter: u8,
    header: Vec<String>,
    /// What is said of the cells of each column.
    types: Vec<Option<ColumnType>>,
    row: ByteRecord,
    /// The line on which the last row began, counted from 1.
    pub line: u64,
}

impl Table {
    /// Reads the header.
    pub fn new(source: Source, delimiter: u8, options: &ReadOptions) -> Result<Self> {
        let name = source.name.clone();
        let (usual, delimiter) = (delimiter, options.delimiter.unwrap_or(delimiter));
        let reader = ReaderBuilder::new()
            .delimiter(delimiter)
            .flexible(true)
            .has_headers(false)
            .from_reader(Budget { source, left: MAX_ROW_BYTES, quotes: Quotes::new(delimiter) });
        let row = ByteRecord::new();
        let (header, types) = (Vec::new(), Vec::new());
        let mut table = Self { name, reader, delimiter, header, types, row, line: 0 };
        let header = match table.next_row()? {
            Some(Ok(header)) => header,
            Some(Err(error)) => return Err(error.within(&table.name)),
            None => {
                return Err(Error::invalid(&*table.name, "expected a header line, got nothing"));
            }
        };
        for (i, field) in header.iter().enumerate() {
            if header[..i].contains(field) {
                let message = format!("the header names the field {field:?} twice");
                return Err(Error::invalid(&*table.name, message));
            }
        }
        if let (None, [field]) = (options.delimiter, &header[..])
            && let Some(other) = [',', ';', '\t', '|'].into_iter().find(|c| field.contains(*c))
        {
            let (usual, other) = (char::from(usual), other.escape_default());
            let message = format!(
                "expected a header of values with {usual:?} between them, got the one value {field:?}; \
                 name what is between them, as in --delimiter '{other}'"
            );
            return Err(Error::invalid(&*table.name, message));
        }
        let named = |field: &String| options.column_types.iter().find(|(name, _)| name == field);
        table.types = header.iter().map(|field| named(field).map(|(_, kind)| *kind)).collect();
        table.header = header;
        Ok(table)
    }

    /// The names of the columns.
    pub fn columns(&self) -> &[String] {
        &self.header
    }

    /// The values of the next row.
    fn next_row(&mut self) -> Result<Option<Result<Vec<String>>>> {
        self.reader.get_mut().left = MAX_ROW_BYTES;
        let line = self.reader.position().line();
        let more = self.reader.read_byte_record(&mut self.row).map_err(|error| {
            let place = format!("{}:{line}", self.name);
            match error.into_kind() {
                ::csv::ErrorKind::Io(error) if error.kind() == io::ErrorKind::FileTooLarge => {
                    let max = MAX_ROW_BYTES;
                    let message =
                        format!("expected a row of at most {max} bytes; is a quote open?");
                    Error::invalid(place, message)
                }
                ::csv::ErrorKind::Io(error) => self.reader.get_ref().source.read_error(error),
                other => Error::invalid(place, format!("{other:?}")),
            }
        })?;
        if !more {
            return Ok(None);
        }
        self.line = self.row.position().map_or(line, ::csv::Position::line);
        if self.reader.get_ref().quotes.open_at_end() {
            return Ok(Some(Err(bad_row(
                "a quote opens in this row, and the file ends before it closes; close it, or write a \
                 quote that stands for itself as \"\" between quotes",
            ))));
        }
        let values = self.row.iter().enumerate().map(|(column, value)| {
            std::str::from_utf8(value).map(str::to_owned).map_err(|_| {
                bad_row(format!("expected UTF-8 text in column {column}; convert it with iconv"))
            })
        });
        Ok(Some(values.collect()))
    }

    /// The next row, or what is wrong with it.
    pub fn next_object(&mut self) -> Result<Option<Result<Object>>> {
        let Some(values) = self.next_row()? else { return Ok(None) };
        Ok(Some(values.and_then(|values| {
            let (expected, got) = (self.header.len(), values.len());
            if expected != got {
                let message = format!("expected {expected} values as in the header, got {got}");
                return Err(bad_row(message));
            }
            let mut object = Object::new();
            for ((field, kind), cell) in self.header.iter().zip(&self.types).zip(values) {
                let value = match kind {
                    None => Value::String(cell),
                    Some(_) if cell.trim().is_empty() => continue,
                    Some(kind) => kind.value(&cell).map_err(|why| Error::invalid(field, why))?,
                };
                object.insert(field.clone(), value);
            }
            Ok(object)
        })))
    }

    /// The row that was read last, without the end of its line.
    fn text(&self) -> Option<String> {
        let mut writer = WriterBuilder::new().delimiter(self.delimiter).from_writer(Vec::new());
        writer.write_byte_record(&self.row).ok()?;
        let line = writer.into_inner().ok()?;
        Some(String::from_utf8_lossy(&line).trim_end_matches('\n').to_owned())
    }

    /// Bad input in this file as a whole.
    pub fn invalid(&self, error: Error) -> Error {
        match error {
            Error::Invalid { message, .. } => Error::invalid(&*self.name, message),
            other => other,
        }
    }
}

/// Reads no more for one row than a row may have, so that an open quote does not pull the whole
/// file into memory.
struct Budget {
    source: Source,
    left: usize,
    quotes: Quotes,
}

/// Whether a quote is open: the reader of CSV closes one at the end of the file by itself, and all rows
/// from there on would be one value.
struct Quotes {
    delimiter: u8,
    state: Within,
    is_at_end: bool,
}

/// Where the last byte stands, as RFC 4180 has it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Within {
    /// Before a value.
    Between,
    Plain,
    Quoted,
    /// Behind a quote in a quoted value: one half of two quotes, or the end.
    Closing,
}

impl Quotes {
    fn new(delimiter: u8) -> Self {
        Self { delimiter, state: Within::Between, is_at_end: false }
    }

    /// Goes over what was read; nothing is the end.
    fn read(&mut self, bytes: &[u8]) {
        self.is_at_end = bytes.is_empty();
        for &byte in bytes {
            self.state = match (self.state, byte) {
                (Within::Between | Within::Closing, b'"') => Within::Quoted,
                (Within::Quoted, b'"') => Within::Closing,
                (Within::Quoted, _) => Within::Quoted,
                // The mark of UTF-8, before the header.
                (Within::Between, 0xef | 0xbb | 0xbf) => Within::Between,
                (_, byte) if byte == self.delimiter || byte == b'\n' || byte == b'\r' => {
                    Within::Between
                }
                _ => Within::Plain,
            };
        }
    }

    fn open_at_end(&self) -> bool {
        self.is_at_end && self.state == Within::Quoted
    }
}

impl Read for Budget {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.left == 0 {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let buffered = self.source.reader.fill_buf()?;
        let n = buffered.len().min(buffer.len()).min(self.left);
        buffer[..n].copy_from_slice(&buffered[..n]);
        self.quotes.read(&buffered[..n]);
        self.source.reader.consume(n);
        self.left -= n;
        Ok(n)
    }
}

/// The rows of a file as records.
pub(super) struct CsvRows {
    table: Table,
    fields: Fields,
}

impl CsvRows {
    pub fn new(source: Source, delimiter: u8, options: &ReadOptions) -> Result<Self> {
        Ok(Self { table: Table::new(source, delimiter, options)?, fields: Fields::new(options) })
    }
}

impl ReadRows for CsvRows {
    fn columns(&self) -> &[String] {
        self.table.columns()
    }

    fn text(&self) -> Option<String> {
        self.table.text()
    }

    fn next_row(&mut self) -> Result<Option<Parsed>> {
        let Some(object) = self.table.next_object()? else { return Ok(None) };
        let at = At::Line(self.table.line);
        let row = match object {
            Ok(object) => self.fields.split(object).map_err(|e| self.table.invalid(e))?,
            Err(error) => Err(error),
        };
        Ok(Some(Parsed { at, row }))
    }
}
