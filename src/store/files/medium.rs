//! What files lie on: a disk, or something that tests can look into.
//!
//! The few operations that the store needs, each no more than the operating system promises of
//! it. What is written to a file is durable after [`MediumFile::sync`]; a name that was made,
//! moved or removed is durable after [`Medium::sync_dir`] of its directory; before that any part
//! of it may be lost in a power cut, in any order.

use std::fmt::Debug;
use std::io;
use std::path::{Path, PathBuf};

/// How a file is opened. It is read and, unless told otherwise, written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Mode {
    /// It must be there, and is only read.
    Read,
    /// It must be there.
    Existing,
    /// It must not be there.
    New,
    /// It is emptied where it is there.
    Emptied,
}

/// What stands at a path.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Node {
    /// A file, or a link: what is no directory.
    File,
    /// A directory.
    Dir,
}

/// Files and directories.
pub(in crate::store) trait Medium: Debug + Send + Sync {
    /// Opens a file.
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn MediumFile>>;
    /// What stands at `path`, if anything does.
    fn look(&self, path: &Path) -> io::Result<Option<Node>>;
    /// The paths of what a directory holds, in any order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes a directory in one that is there.
    fn create_dir(&self, dir: &Path) -> io::Result<()>;
    /// Makes the names in a directory durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Moves a file or directory; a file that has the name is replaced, in one step.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Gives a file a second name; refused where the medium cannot, or where the name is taken.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a file or an empty directory.
    fn remove(&self, path: &Path, node: Node) -> io::Result<()>;
}

/// An open file.
pub(in crate::store) trait MediumFile: Debug + Send + Sync {
    /// Its length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Fills `bytes` from `offset` on; an error where the file ends before.
    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()>;
    /// Writes `bytes` at `offset`; after an error any part of them may be written.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Cuts what stands beyond `len`, or fills up to it with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Makes all that was written durable. After an error nobody knows what is, and another try
    /// may succeed without having written anything.
    fn sync(&self) -> io::Result<()>;
}
