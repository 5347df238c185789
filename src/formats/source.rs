//! Bytes in: a file, the standard input or memory, decompressed where the content says so.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Cursor, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use flate2::read::MultiGzDecoder;

use super::Origin;
use crate::error::{Error, Result};

/// How much is looked at to find a format.
const PEEK_BYTES: usize = 64;

const BUFFER_BYTES: usize = 256 << 10;

/// How far the reading of a file has come. Clones tell of the same file.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    read: Arc<AtomicU64>,
    total: Option<u64>,
}

impl Progress {
    pub(super) fn new(total: Option<u64>) -> Self {
        Self { read: Arc::default(), total }
    }

    pub(super) fn add(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Bytes of the file that were read so far, before decompression.
    pub fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }

    /// Bytes of the file; `None` for pipes.
    pub fn total(&self) -> Option<u64> {
        self.total
    }
}

/// A stream of decompressed bytes with a name.
pub(super) struct Source {
    pub name: Arc<str>,
    pub reader: Box<dyn BufRead + Send>,
    /// The first bytes, at most [`PEEK_BYTES`]; they are still to be read.
    pub start: Vec<u8>,
    /// How many bytes there are, where that is known before they are read.
    pub len: Option<u64>,
    pub progress: Progress,
}

impl Source {
    /// Opens a file; an empty one is an error.
    pub fn open(origin: &Origin) -> Result<Self> {
        match origin {
            Origin::Stdin => Self::new("stdin", io::stdin(), None),
            Origin::Bytes { name, bytes } => {
                Self::new(name, Cursor::new(Arc::clone(bytes)), Some(bytes.len() as u64))
            }
            Origin::Path(path) => {
                let file = File::open(path).map_err(|error| match error.kind() {
                    io::ErrorKind::NotFound => Error::not_found(
                        "file",
                        path.display().to_string(),
                        "check the path; relative paths start at the current directory",
                    ),
                    _ => Error::io("open", path)(error),
                })?;
                let metadata = file.metadata().map_err(Error::io("read", path))?;
                // A pipe has no length, and 0 would be a wrong one.
                let len = metadata.is_file().then_some(metadata.len());
                Self::new(&path.display().to_string(), file, len)
            }
        }
    }

    fn new(name: &str, raw: impl Read + Send + 'static, len: Option<u64>) -> Result<Self> {
        let progress = Progress::new(len);
        let counted = Counted { raw, progress: progress.clone() };
        let raw = BufReader::with_capacity(BUFFER_BYTES, counted);
        let mut source = Self {
            name: name.into(),
            reader: Box::new(io::empty()),
            start: Vec::new(),
            len: None,
            progress,
        };
        let (magic, raw) = peek(raw).map_err(|e| source.read_error(e))?;
        let (start, reader) = if magic.starts_with(&[0x1f, 0x8b]) {
            peek_boxed(BufReader::with_capacity(BUFFER_BYTES, MultiGzDecoder::new(raw)))
        } else if magic.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
            let decoder = zstd::Decoder::with_buffer(raw).map_err(|e| source.read_error(e))?;
            peek_boxed(BufReader::with_capacity(BUFFER_BYTES, decoder))
        } else {
            source.len = len;
            Ok((magic, Box::new(raw) as Box<dyn BufRead + Send>))
        }
        .map_err(|e| source.read_error(e))?;
        source.start = start;
        source.reader = reader;
        if source.start.is_empty() {
            return Err(source.invalid("the file is empty"));
        }
        Ok(source)
    }

    /// Bad input in this file as a whole.
    pub fn invalid(&self, message: impl Into<String>) -> Error {
        Error::invalid(&*self.name, message)
    }

    /// What a failed read means.
    pub fn read_error(&self, error: io::Error) -> Error {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => {
                self.invalid("the compressed data is cut short; copy the file again")
            }
            // Decoders report damage as these, and zstd as `Other`; the system's own refusals
            // carry an error number.
            _ if error.raw_os_error().is_none() => {
                self.invalid(format!("the compressed data is damaged: {error}"))
            }
            _ => Error::Io { doing: "read", path: self.name.as_ref().into(), source: error },
        }
    }

    /// Fills `buffer` as far as the file goes; the number of bytes.
    pub fn fill(&mut self, buffer: &mut [u8]) -> Result<usize> {
        let mut filled = 0;
        while filled < buffer.len() {
            match self.reader.read(&mut buffer[filled..]) {
                Ok(0) => break,
                Ok(n) => filled += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.read_error(error)),
            }
        }
        Ok(filled)
    }

    /// The next `N` bytes, which belong to `what`.
    pub fn array<const N: usize>(&mut self, what: &str) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        match self.fill(&mut bytes)? {
            n if n == N => Ok(bytes),
            n => Err(self.invalid(format!("cut short in {what}: expected {N} bytes, got {n}"))),
        }
    }

    /// Whether every byte was read.
    pub fn at_end(&mut self) -> Result<bool> {
        let rest = self.reader.fill_buf().map(<[u8]>::is_empty);
        rest.map_err(|e| self.read_error(e))
    }
}

type Peeked<R> = (Vec<u8>, io::Chain<Cursor<Vec<u8>>, R>);

/// The first bytes of `reader`, and a reader that yields them again.
fn peek<R: BufRead>(mut reader: R) -> io::Result<Peeked<R>> {
    let mut start = Vec::with_capacity(PEEK_BYTES);
    reader.by_ref().take(PEEK_BYTES as u64).read_to_end(&mut start)?;
    Ok((start.clone(), Cursor::new(start).chain(reader)))
}

fn peek_boxed(
    reader: impl BufRead + Send + 'static,
) -> io::Result<(Vec<u8>, Box<dyn BufRead + Send>)> {
    peek(reader).map(|(start, reader)| (start, Box::new(reader) as Box<dyn BufRead + Send>))
}

/// Counts what goes through.
struct Counted<R> {
    raw: R,
    progress: Progress,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let n = self.raw.read(buffer)?;
        self.progress.add(n as u64);
        Ok(n)
    }
}
