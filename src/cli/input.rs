//! The flags that say how to read a file, and filters.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use nearbit::formats::{self, BitOrder, Origin, ReadOptions, SourceKind};
use nearbit::{Error, Filter};

/// How to read a file; what is not said is found by content and ending.
#[derive(Args)]
#[command(next_help_heading = "Reading")]
pub struct Reading {
    /// The format [default: found by content and ending]
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
    /// What stands between the values of CSV: one character, as in ';' [default: a comma; a tab in TSV]
    #[arg(long, value_name = "CHARACTER", value_parser = delimiter)]
    pub delimiter: Option<u8>,
    /// The field with the id [default: id; without one, the row number]
    #[arg(long, value_name = "FIELD")]
    pub id_field: Option<String>,
    /// The field with the text [default: text]
    #[arg(long, value_name = "FIELD")]
    pub text_field: Option<String>,
    /// The field with the vector [default: vector]
    #[arg(long, value_name = "FIELD")]
    pub vector_field: Option<String>,
    /// The field with the code [default: code]
    #[arg(long, value_name = "FIELD")]
    pub code_field: Option<String>,
}

impl Reading {
    /// The options for a file whose rows are to be `source`.
    pub fn options(&self, source: Option<SourceKind>) -> ReadOptions {
        ReadOptions {
            format: self.format.map(Format::into),
            source,
            delimiter: self.delimiter,
            id_field: self.id_field.clone(),
            text_field: self.text_field.clone(),
            vector_field: self.vector_field.clone(),
            code_field: self.code_field.clone(),
            ..ReadOptions::default()
        }
    }
}

fn delimiter(text: &str) -> Result<u8, String> {
    match (text, text.as_bytes()) {
        ("\\t", _) => Ok(b'\t'),
        (_, &[byte]) if byte.is_ascii() && !matches!(byte, b'"' | b'\n' | b'\r') => Ok(byte),
        _ => {
            Err("expected one ASCII character that is neither a quote nor the end of a line".into())
        }
    }
}

/// Labels, for the commands that look at them.
#[derive(Args)]
#[command(next_help_heading = "Labels")]
pub struct Labels {
    /// The field with the label [default: label]
    #[arg(long, value_name = "FIELD")]
    pub label_field: Option<String>,
    /// A second file that says more about each row, by row number: IDX or integer .npy labels,
    /// or JSONL or CSV
    #[arg(long, value_name = "FILE")]
    pub labels: Option<PathBuf>,
}

impl Labels {
    pub fn add_to(&self, options: ReadOptions) -> ReadOptions {
        ReadOptions {
            label_field: self.label_field.clone(),
            labels: self.labels.as_deref().map(Origin::from),
            ..options
        }
    }
}

/// The formats, as flags name them.
#[derive(Clone, Copy, ValueEnum)]
pub enum Format {
    Jsonl,
    Csv,
    Tsv,
    Npy,
    Fvecs,
    Bvecs,
    Ivecs,
    Idx,
    Folder,
}

impl From<Format> for formats::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Jsonl => Self::Jsonl,
            Format::Csv => Self::Csv,
            Format::Tsv => Self::Tsv,
            Format::Npy => Self::Npy,
            Format::Fvecs => Self::Fvecs,
            Format::Bvecs => Self::Bvecs,
            Format::Ivecs => Self::Ivecs,
            Format::Idx => Self::Idx,
            Format::Folder => Self::Folder,
        }
    }
}

/// Orders of bits, as flags name them.
#[derive(Clone, Copy, ValueEnum)]
pub enum Order {
    /// The first bit is the highest: numpy.packbits
    Msb,
    /// The first bit is the lowest: numpy.packbits(bitorder="little"), faiss
    Lsb,
}

impl From<Order> for BitOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Msb => Self::Msb,
            Order::Lsb => Self::Lsb,
        }
    }
}

/// How filters are written, for the help of the commands that take one.
pub const FILTERS: &str = "\
Filters:
  label == \"space\"  year >= 1990  day < \"2024-05-01\"  label in [\"a\", \"b\"]  id in [\"x\"]
  tags contains \"a\"  tags contains any [\"a\", \"b\"]  tags contains all [\"a\", \"b\"]
  author.name exists  author.name is null
  joined by and, or, not and parentheses; != and not in match records that lack the field";

/// A number from 1 to `MOST`, for clap.
pub fn up_to<const MOST: usize>(text: &str) -> Result<usize, String> {
    let count = text.parse().ok().filter(|count| (1..=MOST).contains(count));
    count.ok_or_else(|| format!("expected 1 to {MOST}, got {text}"))
}

/// A filter, for clap.
pub fn parse_filter(text: &str) -> Result<Filter, String> {
    Filter::parse(text).map_err(|error| match error {
        Error::Invalid { message, .. } => message,
        other => other.to_string(),
    })
}
