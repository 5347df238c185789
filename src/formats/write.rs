//! Writes .npy: rows are streamed into a file aside, which takes its name when it is complete.

use std::fs::{self, File};
use std::io::{BufWriter, Seek, SeekFrom, Write};
use std::marker::PhantomData;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

/// A multiple of 64, as numpy aligns it; room for any number of rows.
const HEADER_BYTES: usize = 128;

/// The numbers that can be written.
pub trait Element: Copy {
    /// numpy's word for the type.
    const DESCR: &str;
    /// Appends the little-endian bytes of `values`.
    fn append(values: &[Self], bytes: &mut Vec<u8>);
}

impl Element for u8 {
    const DESCR: &str = "|u1";

    fn append(values: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend_from_slice(values);
    }
}

impl Element for f32 {
    const DESCR: &str = "<f4";

    fn append(values: &[Self], bytes: &mut Vec<u8>) {
        bytes.extend(values.iter().flat_map(|x| x.to_le_bytes()));
    }
}

/// Writes a matrix of shape (rows, cols), row by row.
///
/// ```
/// use nearbit::formats::NpyWriter;
///
/// let folder = tempfile::tempdir().unwrap();
/// let mut codes = NpyWriter::<u8>::create(&folder.path().join("codes.npy"), 2)?;
/// codes.write(&[0xff, 0x00, 0x0f, 0xf0])?; // two rows
/// assert_eq!(codes.finish()?, 2);
/// # Ok::<(), nearbit::Error>(())
/// ```
pub struct NpyWriter<T> {
    path: PathBuf,
    aside: Aside,
    file: BufWriter<File>,
    cols: usize,
    values: u64,
    bytes: Vec<u8>,
    element: PhantomData<T>,
}

/// A file that is not to stay, unless it was given its name.
struct Aside(PathBuf);

impl Drop for Aside {
    fn drop(&mut self) {
        // Nothing is lost if it stays, and after the renaming it is not there.
        let _ = fs::remove_file(&self.0);
    }
}

impl<T: Element> NpyWriter<T> {
    /// Begins a file. It is not there under its name, and one that is there stays, until
    /// [`finish`](Self::finish).
    ///
    /// # Errors
    /// A path that cannot be written, or that is no plain file.
    pub fn create(path: &Path, cols: usize) -> Result<Self> {
        if fs::metadata(path).is_ok_and(|metadata| !metadata.is_file()) {
            let message = "expected the name of a plain file to write";
            return Err(Error::invalid(path.display().to_string(), message));
        }
        let name = path.file_name().ok_or_else(|| {
            Error::invalid(path.display().to_string(), "expected the name of a file to write")
        })?;
        let mut aside_name = std::ffi::OsString::from(".");
        aside_name.push(name);
        aside_name.push(format!(".{}", std::process::id()));
        let aside = path.with_file_name(aside_name);
        let file = File::create(&aside).map_err(Error::io("create", path))?;
        let aside = Aside(aside);
        let mut writer = Self {
            path: path.to_path_buf(),
            aside,
            file: BufWriter::with_capacity(1 << 20, file),
            cols,
            values: 0,
            bytes: Vec::new(),
            element: PhantomData,
        };
        writer.write_header()?;
        Ok(writer)
    }

    fn write_header(&mut self) -> Result<()> {
        let rows = self.values / self.cols.max(1) as u64;
        let (descr, cols) = (T::DESCR, self.cols);
        let text =
            format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({rows}, {cols}), }}");
        let mut header = b"\x93NUMPY\x01\x00".to_vec();
        header.extend((HEADER_BYTES as u16 - 10).to_le_bytes());
        header.extend(format!("{text:<width$}\n", width = HEADER_BYTES - 11).bytes());
        self.file.write_all(&header).map_err(Error::io("write", &self.path))
    }

    /// Writes rows, one after the other.
    ///
    /// # Panics
    /// Where `values` are no whole rows.
    pub fn write(&mut self, values: &[T]) -> Result<()> {
        assert!(
            values.len().is_multiple_of(self.cols),
            "{} values, {} a row",
            values.len(),
            self.cols
        );
        self.bytes.clear();
        T::append(values, &mut self.bytes);
        self.values += values.len() as u64;
        self.file.write_all(&self.bytes).map_err(Error::io("write", &self.path))
    }

    /// Completes the file and gives it its name; the number of rows.
    pub fn finish(mut self) -> Result<u64> {
        self.file.seek(SeekFrom::Start(0)).map_err(Error::io("write", &self.path))?;
        self.write_header()?;
        self.file.flush().map_err(Error::io("write", &self.path))?;
        self.file.get_ref().sync_all().map_err(Error::io("sync", &self.path))?;
        fs::rename(&self.aside.0, &self.path).map_err(Error::io("write", &self.path))?;
        Ok(self.values / self.cols.max(1) as u64)
    }
}
