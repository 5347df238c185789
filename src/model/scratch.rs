//! A scratch file: blocks of bytes that are written once, one after the other, and read in any order.
//!
//! The file has no name by the time that it is written to, so that it is gone with the process, however
//! that ends.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};

pub(super) struct Scratch {
    file: File,
    /// The folder that it is in, for messages.
    folder: PathBuf,
    /// Where each block begins, and at last where the next will.
    starts: Vec<u64>,
}

impl Scratch {
    /// An empty file in `folder`.
    pub fn new(folder: &Path) -> Result<Self> {
        let path = folder.join(format!(".nearbit-scratch-{}", uuid::Uuid::now_v7()));
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(Error::io("create a scratch file in", folder))?;
        std::fs::remove_file(&path).map_err(Error::io("unlink", &path))?;
        Ok(Self { file, folder: folder.to_path_buf(), starts: vec![0] })
    }

    /// Adds a block.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let start = self.bytes();
        let written = self.file.write_all_at(bytes, start);
        written.map_err(Error::io("write to the scratch file in", &self.folder))?;
        self.starts.push(start + bytes.len() as u64);
        Ok(())
    }

    /// A block, as it was pushed.
    ///
    /// # Panics
    /// Where there are not so many.
    pub fn block(&self, number: usize) -> Result<Vec<u8>> {
        let [start, end] = [self.starts[number], self.starts[number + 1]];
        let mut bytes = vec![0; (end - start) as usize];
        let read = self.file.read_exact_at(&mut bytes, start);
        read.map_err(Error::io("read the scratch file in", &self.folder))?;
        Ok(bytes)
    }

    /// The length of the file.
    pub fn bytes(&self) -> u64 {
        self.starts.last().copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_come_back_in_any_order_and_the_file_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut scratch = Scratch::new(folder.path()).unwrap();
        let blocks: Vec<Vec<u8>> = (0..20u8).map(|i| vec![i; usize::from(i) * 7]).collect();
        for (i, block) in blocks.iter().enumerate() {
            scratch.push(block).unwrap();
            // While it is written too.
            assert_eq!(&scratch.block(i / 2).unwrap(), &blocks[i / 2]);
        }
        for (i, block) in blocks.iter().enumerate().rev() {
            assert_eq!(&scratch.block(i).unwrap(), block);
        }
        assert_eq!(scratch.bytes(), 7 * (0..20).sum::<u64>());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Scratch::new(Path::new("/not/there")).err().unwrap().to_string();
        assert!(error.starts_with("could not create a scratch file in /not/there: "), "{error}");
    }
}
