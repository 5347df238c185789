//! .fvecs, .bvecs, .ivecs: vectors of f32, u8 or i32, each behind its dimension.
//!
//! All little-endian; the dimension is an i32, the same in every row. Source: H. Jegou,
//! L. Amsaleg, "Datasets for approximate nearest neighbor search", <http://corpus-texmex.irisa.fr>.

use super::number::{Encoding, Number};
use super::parsed::{Parsed, Parts, ReadRows};
use super::place::At;
use super::source::Source;
use super::{Format, MAX_ROW_BYTES, SourceKind};
use crate::error::{Error, Result};
use crate::record;

/// The rows of a file of vectors.
pub(super) struct Fvecs {
    source: Source,
    numbers: Encoding,
    wanted: Option<SourceKind>,
    /// Bytes of a row: the dimension and the numbers.
    row: Vec<u8>,
    next: u64,
}

impl Fvecs {
    /// # Errors
    /// A first dimension that cannot be, or that the length of the file contradicts.
    pub fn new(source: Source, format: Format, wanted: Option<SourceKind>) -> Result<Self> {
        let number = match format {
            Format::Bvecs => Number::U8,
            Format::Ivecs => Number::I32,
            _ => Number::F32,
        };
        let numbers = Encoding::little_endian(number);
        let Some(&dim) = source.start.first_chunk() else {
            return Err(source.invalid("cut short in the dimension of row 0"));
        };
        let dim = i32::from_le_bytes(dim);
        let max = (MAX_ROW_BYTES - 4) / numbers.bytes();
        if dim < 1 || dim as usize > max {
            return Err(source.invalid(format!(
                "expected a dimension of 1 to {max} in the first 4 bytes, got {dim}; is this a \
                 .{} file?",
                format.name()
            )));
        }
        let row_bytes = 4 + dim as usize * numbers.bytes();
        if let Some(len) = source.len
            && !len.is_multiple_of(row_bytes as u64)
        {
            return Err(source.invalid(format!(
                "the file is cut short or of another format: the first vector has {dim} numbers, \
                 so expected a multiple of {row_bytes} bytes, got {len}"
            )));
        }
        match wanted {
            Some(SourceKind::Text) => Err(source.invalid("expected texts, got vectors")),
            Some(SourceKind::Code { width, .. })
                if number != Number::U8 || dim as usize != width.bytes() =>
            {
                Err(source.invalid(format!(
                    "expected codes as .bvecs of {} bytes, got {dim} numbers of {}",
                    width.bytes(),
                    numbers.name()
                )))
            }
            _ => Ok(Self { source, numbers, wanted, row: vec![0; row_bytes], next: 0 }),
        }
    }

    fn broken(&self, message: String) -> Error {
        Error::invalid(At::Row(self.next).place(&self.source.name).to_string(), message)
    }
}

impl ReadRows for Fvecs {
    fn next_row(&mut self) -> Result<Option<Parsed>> {
        let (expected, got) = (self.row.len(), self.source.fill(&mut self.row)?);
        if got == 0 {
            return Ok(None);
        }
        if got < expected {
            return Err(self.broken(format!("cut short: expected {expected} bytes, got {got}")));
        }
        let dim = (expected - 4) / self.numbers.bytes();
        let (head, values) = self.row.split_at(4);
        if *head != (dim as i32).to_le_bytes() {
            // Where the next row begins cannot be known, so this ends the file.
            let head = i32::from_le_bytes([head[0], head[1], head[2], head[3]]);
            return Err(self.broken(format!("expected a dimension of {dim}, got {head}")));
        }
        let source = match self.wanted {
            Some(SourceKind::Code { width, bit_order }) => {
                SourceKind::code(width, bit_order, values).map(record::Source::Code)
            }
            _ => Ok(record::Source::Vector(self.numbers.floats(values))),
        };
        let at = At::Row(self.next);
        self.next += 1;
        Ok(Some(Parsed { at, row: source.map(Parts::new) }))
    }

    fn checked_rows(&self) -> Option<u64> {
        self.source.len.map(|len| len / self.row.len() as u64)
    }
}
