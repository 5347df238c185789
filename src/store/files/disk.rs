//! Files of the operating system.

use std::fs;
use std::io;
use std::io::ErrorKind::{NotADirectory, NotFound};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::medium::{Medium, MediumFile, Mode, Node};

/// The file system.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Disk;

impl Medium for Disk {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn MediumFile>> {
        let mut options = fs::File::options();
        options.read(true).write(mode != Mode::Read);
        match mode {
            Mode::Read | Mode::Existing => &mut options,
            Mode::New => options.create_new(true),
            Mode::Emptied => options.create(true).truncate(true),
        };
        Ok(Box::new(options.open(path)?))
    }

    fn look(&self, path: &Path) -> io::Result<Option<Node>> {
        match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => Ok(Some(Node::Dir)),
            Ok(_) => Ok(Some(Node::File)),
            Err(error) if matches!(error.kind(), NotFound | NotADirectory) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| entry.map(|entry| entry.path())).collect()
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        fs::File::open(dir)?.sync_all()
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn remove(&self, path: &Path, node: Node) -> io::Result<()> {
        match node {
            Node::File => fs::remove_file(path),
            Node::Dir => fs::remove_dir(path),
        }
    }
}

impl MediumFile for fs::File {
    fn len(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.read_exact_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.write_all_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        fs::File::set_len(self, len)
    }

    fn sync(&self) -> io::Result<()> {
        // `fdatasync`: it takes the length of the file along, which is all that is needed of its
        // metadata to read it back.
        self.sync_data()
    }
}
