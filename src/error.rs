//! What can go wrong, sorted by what can be done about it.

use std::io;
use std::path::{Path, PathBuf};

/// The result of everything here that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error names the place, both sides where there are two, and the way out.
///
/// The variants answer one question: what can the caller do? The command line turns them into
/// exit codes and the server into gRPC statuses, each in one table.
///
/// ```
/// use nearbit::{Code, Error, Width};
///
/// match Width::new(0) {
///     Err(Error::Invalid { place, message }) => {
///         assert_eq!((place.as_str(), message.as_str()), ("bits", "expected 1 to 1024, got 0"));
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// What was given is wrong: correct it. `place` names it, as in `train.jsonl:17` or
    /// `records[3].code`.
    #[error("{place}: {message}")]
    Invalid {
        /// Where the bad input stands: a file and row, a field, an option.
        place: String,
        /// What was expected, what was found, and the way out.
        message: String,
    },
    /// It does not exist: create it or correct the name.
    #[error("there is no {kind} {name:?}; {hint}")]
    NotFound {
        /// What was looked for: `collection`, `record`, `model`, `file`.
        kind: &'static str,
        /// The name that was looked for.
        name: String,
        /// The way out.
        hint: String,
    },
    /// It exists already: choose another name or delete it first.
    #[error("{kind} {name:?} exists already; {hint}")]
    Exists {
        /// What was to be created.
        kind: &'static str,
        /// The name that is taken.
        name: String,
        /// The way out.
        hint: String,
    },
    /// Not now: another process holds the directory, or writes were stopped after a failure.
    #[error("{what}; {hint}")]
    Unavailable {
        /// What is not available, and why.
        what: String,
        /// The way out.
        hint: String,
    },
    /// Stored bytes are not what was written.
    #[error("{}{} is damaged: {message}", file.display(), at(*offset))]
    Damaged {
        /// The damaged file.
        file: PathBuf,
        /// Where in the file, in bytes, if one place is known.
        offset: Option<u64>,
        /// What was expected and what was found.
        message: String,
    },
    /// The operating system refused; a full disk is found here by its `source`.
    #[error("could not {doing} {}: {source}", path.display())]
    Io {
        /// The verb: `read`, `create`, `sync`.
        doing: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The operating system's reason.
        source: io::Error,
    },
    /// It would take more than is allowed: ask for less.
    #[error("{what}; {hint}")]
    Exhausted {
        /// What there is too much of.
        what: String,
        /// The way out.
        hint: String,
    },
    /// The deadline passed before the answer was complete.
    #[error("the deadline passed before the answer was complete; allow more time or ask for less")]
    Timeout,
    /// The caller's progress callback asked to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    /// Bad input at `place`.
    pub fn invalid(place: impl Into<String>, message: impl Into<String>) -> Self {
        Self::Invalid { place: place.into(), message: message.into() }
    }

    /// Nothing of that name.
    pub fn not_found(kind: &'static str, name: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::NotFound { kind, name: name.into(), hint: hint.into() }
    }

    /// Damaged bytes in `file`.
    pub fn damaged(
        file: impl AsRef<Path>,
        offset: impl Into<Option<u64>>,
        message: impl Into<String>,
    ) -> Self {
        Self::Damaged {
            file: file.as_ref().to_path_buf(),
            offset: offset.into(),
            message: message.into(),
        }
    }

    /// The operating system's refusal to do `doing` to `path`; for `map_err`.
    pub fn io(doing: &'static str, path: impl AsRef<Path>) -> impl FnOnce(io::Error) -> Self {
        let path = path.as_ref().to_path_buf();
        move |source| Self::Io { doing, path, source }
    }

    /// Puts `outer` before the place of bad input: `code` becomes `records[3].code`.
    ///
    /// ```
    /// use nearbit::Error;
    ///
    /// let error = Error::invalid("code", "expected 8 bytes, got 7").within("records[3].");
    /// assert_eq!(error.to_string(), "records[3].code: expected 8 bytes, got 7");
    /// ```
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        match self {
            Self::Invalid { place, message } => {
                Self::Invalid { place: format!("{outer}{place}"), message }
            }
            other => other,
        }
    }

    /// Whether the disk (or a quota on it) is full.
    ///
    /// ```
    /// use std::io;
    ///
    /// let error = nearbit::Error::io("append to", "00000001.seg")(io::ErrorKind::StorageFull.into());
    /// assert!(error.is_full());
    /// ```
    pub fn is_full(&self) -> bool {
        use io::ErrorKind::{QuotaExceeded, StorageFull};
        matches!(self, Self::Io { source, .. } if matches!(source.kind(), StorageFull | QuotaExceeded))
    }

    /// The same error once more, for another caller.
    pub(crate) fn repeated(&self) -> Self {
        match self {
            Self::Invalid { place, message } => Self::invalid(place, message),
            Self::NotFound { kind, name, hint } => Self::not_found(kind, name, hint),
            Self::Exists { kind, name, hint } => {
                Self::Exists { kind, name: name.clone(), hint: hint.clone() }
            }
            Self::Unavailable { what, hint } => {
                Self::Unavailable { what: what.clone(), hint: hint.clone() }
            }
            Self::Damaged { file, offset, message } => Self::damaged(file, *offset, message),
            Self::Io { doing, path, source } => {
                let source = match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                };
                Self::io(doing, path)(source)
            }
            Self::Exhausted { what, hint } => {
                Self::Exhausted { what: what.clone(), hint: hint.clone() }
            }
            Self::Timeout => Self::Timeout,
            Self::Interrupted => Self::Interrupted,
        }
    }
}

fn at(offset: Option<u64>) -> String {
    offset.map_or(String::new(), |offset| format!(" at byte {offset}"))
}
