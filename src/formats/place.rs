//! Places within files, for messages.

use std::fmt;
use std::sync::Arc;

/// A place within a file.
pub(super) enum At {
    /// A line, counted from 1.
    Line(u64),
    /// A row, counted from 0.
    Row(u64),
    /// A file within a folder.
    File(String),
}

impl At {
    pub fn place(self, file: &Arc<str>) -> Place {
        Place { file: file.clone(), at: self }
    }
}

/// Where a row stands: `train.jsonl:17` (lines count from 1), `codes.npy row 16` (rows from 0).
pub struct Place {
    file: Arc<str>,
    at: At,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.at {
            At::Line(line) => write!(f, "{}:{line}", self.file),
            At::Row(row) => write!(f, "{} row {row}", self.file),
            At::File(name) => write!(f, "{}/{name}", self.file),
        }
    }
}
