//! JSONL: one JSON object a line.

use std::io::{BufRead, Read};

use super::fields::Fields;
use super::parsed::{Object, Parsed, ReadRows};
use super::place::At;
use super::source::Source;
use super::{MAX_ROW_BYTES, bad_row};
use crate::error::{Error, Result};

/// The lines of a file as objects. Blank lines are passed over.
pub(super) struct Lines {
    pub source: Source,
    buffer: Vec<u8>,
    /// Lines read so far, which is the number of the last one, counted from 1.
    pub line: u64,
}

impl Lines {
    pub fn new(source: Source) -> Self {
        Self { source, buffer: Vec::new(), line: 0 }
    }

    /// The next object, or what is wrong with its line.
    pub fn next_object(&mut self) -> Result<Option<Result<Object>>> {
        loop {
            self.buffer.clear();
            let mut limited = (&mut self.source.reader).take(MAX_ROW_BYTES as u64 + 1);
            let read = limited.read_until(b'\n', &mut self.buffer);
            if read.map_err(|e| self.source.read_error(e))? == 0 {
                return Ok(None);
            }
            self.line += 1;
            if self.buffer.len() > MAX_ROW_BYTES && !self.buffer.ends_with(b"\n") {
                self.skip_line()?;
                let message = format!("expected a line of at most {MAX_ROW_BYTES} bytes");
                return Ok(Some(Err(bad_row(message))));
            }
            let mut text = &self.buffer[..];
            if self.line == 1 {
                text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
            }
            let text = text.trim_ascii();
            if !text.is_empty() {
                return Ok(Some(parse(text)));
            }
        }
    }

    /// The line that was read last, where it is not too long.
    fn text(&self) -> Option<String> {
        let is_whole = self.buffer.len() <= MAX_ROW_BYTES || self.buffer.ends_with(b"\n");
        let line = String::from_utf8_lossy(&self.buffer);
        is_whole.then(|| line.trim_end_matches(['\n', '\r']).to_owned())
    }

    /// Reads on to the end of a line without keeping it.
    fn skip_line(&mut self) -> Result<()> {
        loop {
            let buffer = self.source.reader.fill_buf();
            let (end, used) = match buffer {
                Ok([]) => return Ok(()),
                Ok(bytes) => match bytes.iter().position(|&b| b == b'\n') {
                    Some(i) => (true, i + 1),
                    None => (false, bytes.len()),
                },
                Err(error) => return Err(self.source.read_error(error)),
            };
            self.source.reader.consume(used);
            if end {
                return Ok(());
            }
        }
    }
}

fn parse(text: &[u8]) -> Result<Object> {
    serde_json::from_slice(text).map_err(|error| {
        let reason = error.to_string();
        // serde_json counts lines within what it was given, which is one.
        let reason = reason.split(" at line ").next().unwrap_or_default();
        let column = error.column();
        bad_row(format!("expected a JSON object: {reason} at column {column}"))
    })
}

/// The lines of a file as records.
pub(super) struct JsonlRows {
    lines: Lines,
    fields: Fields,
}

impl JsonlRows {
    pub fn new(source: Source, fields: Fields) -> Self {
        Self { lines: Lines::new(source), fields }
    }
}

impl ReadRows for JsonlRows {
    fn text(&self) -> Option<String> {
        self.lines.text()
    }

    fn next_row(&mut self) -> Result<Option<Parsed>> {
        let Some(object) = self.lines.next_object()? else { return Ok(None) };
        let at = At::Line(self.lines.line);
        let row = match object {
            Ok(object) => self.fields.split(object).map_err(|error| match error {
                Error::Invalid { message, .. } => self.lines.source.invalid(message),
                other => other,
            })?,
            Err(error) => Err(error),
        };
        Ok(Some(Parsed { at, row }))
    }
}
