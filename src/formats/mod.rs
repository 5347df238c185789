//! Readers and writers of other people's files.
//!
//! A file is rows; a row becomes a [`NewRecord`](crate::NewRecord): an id, a source (text, vector, picture or code)
//! and a payload. [`open`] finds the format by content and ending and streams the rows; [`load`]
//! collects them for an encoder.
//!
//! | format | rows | ids |
//! |---|---|---|
//! | JSONL | one JSON object a line; fields `text`, `vector` or `code` | field `id` |
//! | CSV, TSV | a header line, then one row a record; the same fields | field `id` |
//! | .npy | a matrix of numbers, or u8 codes (rows, bytes), or u8 pictures (rows, height, width) | row number |
//! | .fvecs, .bvecs, .ivecs | vectors, each behind its dimension | row number |
//! | IDX (MNIST) | u8 pictures, or a matrix of numbers | row number |
//! | a folder | one text a file; the label is the name of its folder | path in the folder |
//!
//! Any of them may be compressed with gzip or zstd, which is found by content, and `-` is the
//! standard input. What is read neither as the id nor as the source becomes the payload. Other
//! people's files are not to be trusted: sizes in headers are checked against the length of the
//! file before memory is taken, a row has at most [`MAX_ROW_BYTES`], and memory does not grow
//! with the file, except for Fortran-ordered arrays and the list of a folder's files.

mod array;
mod column;
mod csv;
mod dataset;
mod detect;
mod fields;
mod folder;
mod fvecs;
mod idx;
mod jsonl;
mod labels;
mod npy;
mod number;
mod parsed;
mod place;
mod rows;
mod source;
#[cfg(test)]
mod tests;
mod write;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::code::{Code, Width};
use crate::error::{Error, Result};

pub use column::ColumnType;
pub use dataset::{Dataset, load, load_codes, load_spread};
pub use fields::nearest_name;
pub use place::Place;
pub use rows::{Row, Rows, open};
pub use source::Progress;
pub use write::{Element, NpyWriter};

/// The most bytes that a row may have in its file: a line, a vector, a picture, a text.
pub const MAX_ROW_BYTES: usize = 16 << 20;

/// The formats that can be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    /// One JSON object a line.
    Jsonl,
    /// Comma-separated values below a header line.
    Csv,
    /// Tab-separated values below a header line.
    Tsv,
    /// numpy's array format.
    Npy,
    /// Vectors of f32, each behind its dimension.
    Fvecs,
    /// Vectors of u8, each behind its dimension.
    Bvecs,
    /// Vectors of i32, each behind its dimension.
    Ivecs,
    /// The format of MNIST.
    Idx,
    /// A folder of text files.
    Folder,
}

impl Format {
    /// Every format.
    pub const ALL: [Self; 9] = [
        Self::Jsonl,
        Self::Csv,
        Self::Tsv,
        Self::Npy,
        Self::Fvecs,
        Self::Bvecs,
        Self::Ivecs,
        Self::Idx,
        Self::Folder,
    ];

    /// The format's name, which is also the usual ending of its files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Jsonl => "jsonl",
            Self::Csv => "csv",
            Self::Tsv => "tsv",
            Self::Npy => "npy",
            Self::Fvecs => "fvecs",
            Self::Bvecs => "bvecs",
            Self::Ivecs => "ivecs",
            Self::Idx => "idx",
            Self::Folder => "folder",
        }
    }
}

/// In which order a byte holds its eight bits in a file of codes.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BitOrder {
    /// The first bit is the highest: numpy's `packbits` default, and the order of [`Code`].
    #[default]
    Msb,
    /// The first bit is the lowest: `packbits(bitorder="little")`, faiss.
    Lsb,
}

/// What a row's source is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SourceKind {
    /// A text field.
    Text,
    /// A vector field, or a matrix of any numbers.
    Vector,
    /// A code field, or a matrix of bytes.
    Code {
        /// Bits a code.
        width: Width,
        /// The order of the bits within a byte of the file.
        bit_order: BitOrder,
    },
}

impl SourceKind {
    /// The code in packed bytes of a file: `width.bytes()` of them.
    fn code(width: Width, bit_order: BitOrder, bytes: &[u8]) -> Result<Code> {
        match bit_order {
            BitOrder::Msb => Code::from_bytes(width, bytes),
            BitOrder::Lsb => {
                let reversed: Vec<u8> = bytes.iter().map(|byte| byte.reverse_bits()).collect();
                Code::from_bytes(width, &reversed)
            }
        }
    }
}

/// Where a file comes from.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Origin {
    /// A file or a folder.
    Path(PathBuf),
    /// The standard input.
    Stdin,
    /// Bytes that are in memory already.
    Bytes {
        /// The name for messages; its ending helps to find the format.
        name: String,
        /// The file's content.
        bytes: Arc<[u8]>,
    },
}

impl From<&Path> for Origin {
    /// The path `-` is the standard input.
    fn from(path: &Path) -> Self {
        if path == Path::new("-") { Self::Stdin } else { Self::Path(path.to_path_buf()) }
    }
}

/// How to read a file. The default reads what [the module](self) describes.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct ReadOptions {
    /// The format; found by content and ending where it is `None`.
    pub format: Option<Format>,
    /// What a row's source is; what the file suggests where it is `None`. A matrix of integers
    /// suggests nothing: it may hold vectors or codes.
    pub source: Option<SourceKind>,
    /// The field with the id. `None`: the field `id` where the first row has one, else row
    /// numbers.
    pub id_field: Option<String>,
    /// The field with the text; `None`: `text`.
    pub text_field: Option<String>,
    /// The field with the vector; `None`: `vector`.
    pub vector_field: Option<String>,
    /// The field with the code; `None`: `code`.
    pub code_field: Option<String>,
    /// The field with the payload, an object, as an export has it; `None`: all fields that are neither
    /// id nor source.
    pub payload_field: Option<String>,
    /// The field with the label; `None`: `label`, where there is one.
    pub label_field: Option<String>,
    /// A second file that says more about each row, joined by row number: labels in IDX or
    /// integer .npy, or JSONL or CSV whose fields join the payload and whose `id` names the
    /// record.
    pub labels: Option<Origin>,
    /// What stands between the values of a row; `None`: a comma in CSV, a tab in TSV.
    pub delimiter: Option<u8>,
    /// What columns of CSV and TSV hold where it is not text, by name: of this file, or of `labels`.
    pub column_types: Vec<(String, ColumnType)>,
    /// The number of the first row, for files that continue another.
    pub first_row: u64,
}

impl ReadOptions {
    /// The name of the label field.
    pub fn label_field(&self) -> &str {
        self.label_field.as_deref().unwrap_or("label")
    }
}

/// Bad input in one row; the reader of rows puts the file and row before it.
fn bad_row(message: impl Into<String>) -> Error {
    Error::invalid("", message)
}
