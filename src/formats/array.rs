//! Arrays of numbers, as .npy and IDX hold them: a header, then rows of one size.

use std::io::Read;

use super::number::{Encoding, Number};
use super::parsed::{Parsed, Parts, ReadRows};
use super::place::At;
use super::source::Source;
use super::{BitOrder, MAX_ROW_BYTES, SourceKind, bad_row};
use crate::code::Width;
use crate::error::{Error, Result};
use crate::input::Image;
use crate::record;

/// What a header says.
#[derive(Debug, PartialEq)]
pub(super) struct Header {
    /// Rows first.
    pub shape: Vec<u64>,
    pub numbers: Encoding,
    /// Whether the first index runs fastest.
    pub fortran_order: bool,
    /// The length of the header itself.
    pub bytes: u64,
}

/// The rows of an array as bytes.
pub(super) struct Array {
    source: Source,
    pub numbers: Encoding,
    pub rows: u64,
    /// The shape of one row: empty, (cols) or (height, width).
    pub row_shape: Vec<usize>,
    next: u64,
    /// The row that was read last.
    row: Vec<u8>,
    /// The whole array, where its rows do not lie one after the other.
    transposed: Option<Vec<u8>>,
    /// Whether the length of the file confirms the header.
    checked: bool,
}

impl Array {
    /// Checks what the header says, before any memory is taken for it.
    pub fn new(source: Source, header: Header) -> Result<Self> {
        let Header { shape, numbers, fortran_order, bytes: header_bytes } = header;
        let shown = format!("{} of shape {shape:?}", numbers.name());
        let too_large = || source.invalid(format!("the header claims {shown}: too large to be"));
        let (&rows, row_shape) = match shape.split_first() {
            Some(split) if split.1.len() <= 2 => split,
            _ => {
                return Err(source.invalid(format!(
                    "expected an array of rank 1 to 3, got {shown}; reshape it"
                )));
            }
        };
        let row_numbers = row_shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let row_bytes = row_numbers
            .and_then(|n| n.checked_mul(numbers.bytes() as u64))
            .ok_or_else(too_large)?;
        let bytes = rows.checked_mul(row_bytes).ok_or_else(too_large)?;
        if bytes == 0 {
            return Err(source.invalid(format!("there are no rows: {shown}")));
        }
        if row_bytes > MAX_ROW_BYTES as u64 {
            return Err(source.invalid(format!(
                "expected at most {MAX_ROW_BYTES} bytes a row, got {row_bytes}: {shown}"
            )));
        }
        if let Some(len) = source.len {
            let got = len.saturating_sub(header_bytes);
            if got != bytes {
                let what = if got < bytes { "is cut short" } else { "is too long" };
                return Err(source.invalid(format!(
                    "the file {what}: the header says {shown}, {bytes} bytes; there are {got}"
                )));
            }
        }
        // As row_bytes is small, so are the sides of a row.
        let row_shape = row_shape.iter().map(|&n| n as usize).collect();
        let mut array = Self {
            checked: source.len.is_some(),
            source,
            numbers,
            rows,
            row_shape,
            next: 0,
            row: vec![0; row_bytes as usize],
            transposed: None,
        };
        if fortran_order && !array.row_shape.is_empty() {
            array.transposed = Some(array.read_all(bytes)?);
        }
        Ok(array)
    }

    /// The number of rows, where the file is as long as that needs.
    pub fn checked_rows(&self) -> Option<u64> {
        self.checked.then_some(self.rows)
    }

    /// The whole array; memory grows with what is there, not with what is claimed.
    fn read_all(&mut self, bytes: u64) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        let read = (&mut self.source.reader).take(bytes).read_to_end(&mut all);
        read.map_err(|e| self.source.read_error(e))?;
        if (all.len() as u64) < bytes {
            return Err(self.cut_short(all.len() as u64 / self.row.len() as u64));
        }
        Ok(all)
    }

    fn cut_short(&self, rows: u64) -> Error {
        self.source.invalid(format!(
            "the file is cut short: the header says {} rows, there are {rows}",
            self.rows
        ))
    }

    /// The bytes of the next row.
    pub fn next_bytes(&mut self) -> Result<Option<&[u8]>> {
        if self.next == self.rows {
            if !self.source.at_end()? {
                let message = format!("the file is too long for its {} rows", self.rows);
                return Err(self.source.invalid(message));
            }
            return Ok(None);
        }
        match &self.transposed {
            Some(all) => {
                gather(all, &mut self.row, self.numbers.bytes(), &self.row_shape, self.next);
            }
            None => {
                if self.source.fill(&mut self.row)? < self.row.len() {
                    return Err(self.cut_short(self.next));
                }
            }
        }
        self.next += 1;
        Ok(Some(&self.row))
    }
}

/// Copies row `i` out of an array whose first index runs fastest.
fn gather(all: &[u8], row: &mut [u8], size: usize, row_shape: &[usize], i: u64) {
    let rows = all.len() / row.len();
    let width = row_shape.get(1).copied().unwrap_or(1);
    let height = row_shape[0];
    for (j, number) in row.chunks_exact_mut(size).enumerate() {
        let (y, x) = (j / width, j % width);
        let start = (i as usize + rows * (y + height * x)) * size;
        number.copy_from_slice(&all[start..start + size]);
    }
}

/// What a row of an array is.
enum RowKind {
    Vector,
    Image { height: usize, width: usize },
    Code(Width, BitOrder),
}

/// The rows of an array as records.
pub(super) struct ArrayRows {
    array: Array,
    kind: RowKind,
}

impl ArrayRows {
    /// # Errors
    /// An array whose rows are not what is `wanted`, or could be several things.
    pub fn new(array: Array, wanted: Option<SourceKind>) -> Result<Self> {
        let kind = row_kind(&array, wanted).map_err(|message| array.source.invalid(message))?;
        Ok(Self { array, kind })
    }
}

fn row_kind(array: &Array, wanted: Option<SourceKind>) -> Result<RowKind, String> {
    let Array { numbers, rows, row_shape, .. } = array;
    let number = numbers.name();
    let is_bytes = numbers.number == Number::U8;
    match (&row_shape[..], wanted) {
        (_, Some(SourceKind::Text)) => {
            Err(format!("expected texts, got an array of {number}; use JSONL, CSV or a folder"))
        }
        ([], _) => Err(format!(
            "expected an array of rank 2 (rows, numbers a row), got rank 1 ({rows} of {number}); \
             reshape a single vector to (1, {rows}); labels go with --labels"
        )),
        (&[height, width], None | Some(SourceKind::Vector)) if is_bytes => {
            Ok(RowKind::Image { height, width })
        }
        (&[bytes], Some(SourceKind::Code { width, bit_order })) if is_bytes => {
            if bytes == width.bytes() {
                Ok(RowKind::Code(width, bit_order))
            } else {
                let expected = width.bytes();
                Err(format!("expected {expected} bytes a row for {width}, got {bytes}"))
            }
        }
        ([_], Some(SourceKind::Code { .. })) if numbers.number == Number::I8 => Err(
            "expected codes as uint8, got int8 (sentence-transformers' \"binary\" is shifted by \
             128); use its \"ubinary\""
                .to_owned(),
        ),
        (shape, Some(SourceKind::Code { width, .. })) => Err(format!(
            "expected codes as uint8 of shape (rows, {}), got rows of {number} of shape {shape:?}",
            width.bytes()
        )),
        ([_], None) if !numbers.is_float() => Err(format!(
            "rows of {number} may be vectors or codes: save vectors as float32 or name \
             --preset vector; codes go into a collection made with --codes"
        )),
        ([_], _) => Ok(RowKind::Vector),
        (shape, _) => Err(format!(
            "expected rows of rank 1, or pictures of uint8, got rows of {number} of shape \
             {shape:?}"
        )),
    }
}

impl ReadRows for ArrayRows {
    fn next_row(&mut self) -> Result<Option<Parsed>> {
        let number = self.array.next;
        let numbers = self.array.numbers;
        let Some(bytes) = self.array.next_bytes()? else { return Ok(None) };
        let source = match self.kind {
            RowKind::Vector => Ok(record::Source::Vector(numbers.floats(bytes))),
            RowKind::Image { height, width } => {
                Ok(record::Source::Image(Image { height, width, pixels: bytes.to_vec() }))
            }
            RowKind::Code(width, bit_order) => {
                SourceKind::code(width, bit_order, bytes).map(record::Source::Code)
            }
        };
        Ok(Some(Parsed { at: At::Row(number), row: source.map(Parts::new) }))
    }

    fn checked_rows(&self) -> Option<u64> {
        self.array.checked_rows()
    }
}

/// The integers of an array of rank 1, or of one column.
pub(super) struct Integers {
    array: Array,
}

impl Integers {
    pub fn new(array: Array) -> Result<Self> {
        if !matches!(array.row_shape[..], [] | [1]) || array.numbers.is_float() {
            return Err(array.source.invalid(format!(
                "expected labels as integers of shape (rows), got {} with rows of shape {:?}",
                array.numbers.name(),
                array.row_shape
            )));
        }
        Ok(Self { array })
    }

    pub fn next_integer(&mut self) -> Result<Option<Result<i64>>> {
        let numbers = self.array.numbers;
        let Some(bytes) = self.array.next_bytes()? else { return Ok(None) };
        let integer = numbers.integer(bytes);
        Ok(Some(integer.ok_or_else(|| bad_row("expected a label of at most 63 bits"))))
    }
}
