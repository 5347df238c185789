//! The disk, with every operation noted, one of which can be made to fail: for what sled's files are
//! moved about with, since sled itself writes to the disk only.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::disk::Disk;
use super::medium::{Medium, MediumFile, Mode, Node};

/// A clone sees and does the same.
#[derive(Clone, Debug)]
pub(in crate::store) struct Watched {
    /// What the names begin with that are not noted.
    root: PathBuf,
    watch: Arc<Mutex<Watch>>,
}

#[derive(Default, Debug)]
struct Watch {
    /// What was done, with the names from the root on.
    done: Vec<String>,
    /// So many operations from now on this one fails.
    fails_after: Option<usize>,
}

impl Watched {
    pub(in crate::store) fn new(root: &Path) -> Self {
        Self { root: root.to_owned(), watch: Arc::default() }
    }

    fn locked(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has an operation fail, so many from now on; none with `None`. What was noted is forgotten.
    pub(in crate::store) fn watch(&self, fails_after: Option<usize>) {
        *self.locked() = Watch { done: Vec::new(), fails_after };
    }

    /// What was done since, the one that failed among it.
    pub(in crate::store) fn done(&self) -> Vec<String> {
        self.locked().done.clone()
    }

    fn note(&self, doing: &str, paths: &[&Path]) -> io::Result<()> {
        let mut watch = self.locked();
        let name =
            |path: &&Path| path.strip_prefix(&self.root).unwrap_or(path).display().to_string();
        let names: Vec<_> = paths.iter().map(name).collect();
        watch.done.push(format!("{doing} {}", names.join(" ")));
        if watch.fails_after == Some(watch.done.len() - 1) {
            return Err(io::Error::other("a test says so"));
        }
        Ok(())
    }
}

impl Medium for Watched {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn MediumFile>> {
        self.note("open", &[path])?;
        let file = Disk.open(path, mode)?;
        Ok(Box::new(WatchedFile { file, path: path.to_owned(), watched: self.clone() }))
    }

    fn look(&self, path: &Path) -> io::Result<Option<Node>> {
        Disk.look(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        Disk.list(dir)
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("create directory", &[dir])?;
        Disk.create_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.note("sync directory", &[dir])?;
        Disk.sync_dir(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("rename", &[from, to])?;
        Disk.rename(from, to)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.note("link", &[from, to])?;
        Disk.link(from, to)
    }

    fn remove(&self, path: &Path, node: Node) -> io::Result<()> {
        self.note("remove", &[path])?;
        Disk.remove(path, node)
    }
}

#[derive(Debug)]
struct WatchedFile {
    file: Box<dyn MediumFile>,
    path: PathBuf,
    watched: Watched,
}

impl MediumFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_at(bytes, offset)
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.watched.note("write", &[&self.path])?;
        self.file.write_at(bytes, offset)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.watched.note("cut", &[&self.path])?;
        self.file.set_len(len)
    }

    fn sync(&self) -> io::Result<()> {
        self.watched.note("sync", &[&self.path])?;
        self.file.sync()
    }
}
