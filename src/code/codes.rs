//! Many codes, packed.

use std::fmt;

use super::{Code, Width, check_words, pack_words, unpack_words};
use crate::error::{Error, Result};

/// Many codes of one width, packed one after the other: a matrix of shape (rows, words).
///
/// ```
/// use nearbit::{Code, Codes, Width};
///
/// let width = Width::new(12)?;
/// let mut codes = Codes::from_bytes(width, &[0x5a, 0x10, 0x00, 0x00])?;
/// codes.push(&Code::parse("fff0", width)?)?;
/// assert_eq!(codes.len(), 3);
/// assert_eq!(codes.get(2).to_hex(), "fff0");
/// assert_eq!(codes.rows().filter(|row| row[0] == 0).count(), 1);
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Codes {
    width: Width,
    words: Vec<u64>,
}

impl Codes {
    /// No codes yet.
    pub fn new(width: Width) -> Self {
        Self { width, words: Vec::new() }
    }

    /// No codes yet, and room for `rows`.
    pub fn with_capacity(width: Width, rows: usize) -> Self {
        Self { width, words: Vec::with_capacity(rows * width.words()) }
    }

    /// Codes from packed bytes, one row after the other: shape (rows, `width.bytes()`).
    ///
    /// # Errors
    /// A number of bytes that is no multiple of a row, or bits set beyond the width, with the row.
    pub fn from_bytes(width: Width, bytes: &[u8]) -> Result<Self> {
        if !bytes.len().is_multiple_of(width.bytes()) {
            return Err(Error::invalid(
                "codes",
                format!(
                    "expected a multiple of {} bytes for {width}, got {}",
                    width.bytes(),
                    bytes.len()
                ),
            ));
        }
        let mut codes = Self::with_capacity(width, bytes.len() / width.bytes());
        let mut row = vec![0; width.words()];
        for (i, bytes) in bytes.chunks_exact(width.bytes()).enumerate() {
            pack_words(bytes, &mut row);
            codes.push_words(&row).map_err(|e| e.within(&format!("row {i}: ")))?;
        }
        Ok(codes)
    }

    /// The packed bytes, one row after the other: shape (rows, `width.bytes()`).
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.len() * self.width.bytes());
        self.rows().for_each(|row| unpack_words(row, self.width, &mut bytes));
        bytes
    }

    /// Adds one code.
    ///
    /// # Errors
    /// A code of another width.
    pub fn push(&mut self, code: &Code) -> Result<()> {
        if code.width != self.width {
            let message = format!("expected {}, got {}", self.width, code.width);
            return Err(Error::invalid("code", message));
        }
        self.words.extend_from_slice(&code.words);
        Ok(())
    }

    /// Adds one code given as words.
    ///
    /// # Errors
    /// The wrong number of words, or bits set beyond the width.
    pub fn push_words(&mut self, words: &[u64]) -> Result<()> {
        check_words(self.width, words)?;
        self.words.extend_from_slice(words);
        Ok(())
    }

    /// The width of every code.
    pub fn width(&self) -> Width {
        self.width
    }

    /// The number of codes.
    pub fn len(&self) -> usize {
        self.words.len() / self.width.words()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// The words of code `row`.
    ///
    /// # Panics
    /// Where `row` is not below `len()`, as indexing a slice does.
    pub fn row(&self, row: usize) -> &[u64] {
        let n = self.width.words();
        &self.words[row * n..(row + 1) * n]
    }

    /// Code `row`.
    ///
    /// # Panics
    /// Where `row` is not below `len()`, as indexing a slice does.
    pub fn get(&self, row: usize) -> Code {
        Code { words: self.row(row).into(), width: self.width }
    }

    /// The words of every code in turn.
    pub fn rows(&self) -> impl ExactSizeIterator<Item = &[u64]> {
        self.words.chunks_exact(self.width.words())
    }

    /// All words, row after row.
    pub fn as_words(&self) -> &[u64] {
        &self.words
    }
}

impl fmt::Debug for Codes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Codes({} x {})", self.len(), self.width)
    }
}
