//! How the program ends: exit codes that scripts can rely on, and failures that people can read.

use std::io;
use std::process::ExitCode;

use nearbit::Error;

/// The exit codes, for `nearbit --help`.
pub const HELP: &str = "\
Exit codes:
  0  done                          5  unavailable: held by another process, port in use
  1  failed: bad input, full disk  7  the deadline passed
  2  wrong usage                   8  stored bytes are damaged
  3  not found
  4  some records were rejected, the others are done

Start with: nearbit demo";

/// An exit code. 6 is kept for servers that ask who is there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub enum Exit {
    Done = 0,
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    Rejected = 4,
    Unavailable = 5,
    Timeout = 7,
    Damaged = 8,
}

impl Exit {
    /// The code of an error of the library.
    fn of(error: &Error) -> Self {
        match error {
            Error::Invalid { .. } | Error::Exists { .. } | Error::Io { .. } => Self::Failed,
            Error::NotFound { .. } => Self::NotFound,
            Error::Unavailable { .. } => Self::Unavailable,
            Error::Timeout => Self::Timeout,
            Error::Damaged { .. } => Self::Damaged,
            // Interrupted, and what later versions of the library may add.
            _ => Self::Failed,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command could not do its work.
pub enum Failure {
    /// An error of the library.
    Error(Error),
    /// Flags that do not go together.
    Usage(String),
    /// Standard output cannot be written.
    Output(io::Error),
}

impl Failure {
    pub fn usage(message: impl Into<String>) -> Self {
        Self::Usage(message.into())
    }

    /// Tells standard error, and gives the exit code.
    pub fn report(self) -> Exit {
        match self {
            Self::Error(error) => {
                eprintln!("error: {error}");
                Exit::of(&error)
            }
            Self::Usage(message) => {
                eprintln!("error: {message}\n\nFor more information, try '--help'.");
                Exit::Usage
            }
            // Whoever read the output has seen enough, as in `nearbit search ... | head`.
            Self::Output(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Done,
            Self::Output(error) => {
                eprintln!("error: could not write to standard output: {error}");
                Exit::Failed
            }
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}
