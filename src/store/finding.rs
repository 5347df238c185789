//! What is said of stored bytes that are not as they should be.

use std::fmt;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use super::walk::Damage;
use crate::error::{Error, Result};

/// Something in a file that is not as it should be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// Where in it, in bytes, if one place is known.
    pub offset: Option<u64>,
    /// The numbers of the records that it is about; often none.
    pub numbers: Range<u64>,
    /// The id of the record, or what stands where it stood.
    pub id: Option<String>,
    /// What is wrong.
    pub message: String,
}

impl Finding {
    /// Of a file as a whole.
    pub fn of(file: impl AsRef<Path>, message: impl Into<String>) -> Self {
        let file = file.as_ref().to_path_buf();
        Self { file, offset: None, numbers: 0..0, id: None, message: message.into() }
    }

    /// Of damage in the segment `file`.
    pub(super) fn damage(file: &Path, damage: Damage) -> Self {
        let Damage { range, flaw, lost, seems, .. } = damage;
        let offset = Some(range.start);
        Self { offset, numbers: lost, id: seems.map(|seems| seems.id), ..Self::of(file, flaw) }
    }

    /// What an error says of stored bytes; any other error is given back.
    ///
    /// # Errors
    /// `error` itself where it is about something else.
    pub fn from_error(error: Error) -> Result<Self> {
        match error {
            Error::Damaged { file, offset, message } => {
                Ok(Self { offset, ..Self::of(file, message) })
            }
            Error::Invalid { place, message } => Ok(Self::of(place, message)),
            Error::Io { path, source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Ok(Self::of(path, "it is missing"))
            }
            Error::NotFound { kind: "file", name, .. } => Ok(Self::of(name, "it is missing")),
            other => Err(other),
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(offset) = self.offset {
            write!(f, " at byte {offset}")?;
        }
        write!(f, ": {}", self.message)?;
        match self.numbers.end.saturating_sub(self.numbers.start) {
            0 => {}
            1 => write!(f, ", record {}", self.numbers.start)?,
            _ => write!(f, ", records {} to {}", self.numbers.start, self.numbers.end - 1)?,
        }
        self.id.as_ref().map_or(Ok(()), |id| write!(f, ", id {id:?}"))
    }
}
