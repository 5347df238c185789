//! Files in memory. Nothing is durable, or everything is: see `recorder.rs` for what lies between.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::medium::{Medium, MediumFile, Mode, Node};

/// A file: it lives as long as somebody has it open, whatever happens to its name.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct MemoryFile {
    /// Tells it from every other file of the same medium.
    pub(super) inode: u64,
    bytes: Arc<Mutex<Vec<u8>>>,
}

/// What has a name.
#[derive(Clone, Debug)]
pub(super) enum Entry {
    Dir,
    File(MemoryFile),
}

/// Files in memory. A clone is the same medium.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Memory(Arc<Mutex<Names>>);

#[derive(Debug, Default)]
struct Names {
    entries: BTreeMap<PathBuf, Entry>,
    next_inode: u64,
    /// The most bytes that the files of a directory had when one of them was removed.
    most_bytes: u64,
}

impl Memory {
    /// The most bytes that the files of a directory had when one of them was removed.
    pub(in crate::store) fn most_bytes(&self) -> u64 {
        self.names().most_bytes
    }

    /// A medium that holds copies of these; an entry whose directory is not among them is lost.
    pub(super) fn with(entries: BTreeMap<PathBuf, Entry>) -> Self {
        let next_inode = entries.values().map(|entry| entry.inode() + 1).max().unwrap_or(0);
        let memory = Self(Arc::new(Mutex::new(Names { next_inode, ..Names::default() })));
        // In the order of paths, so that a directory comes before what is in it.
        for (path, entry) in entries {
            let mut names = memory.names();
            if names.check_parent(&path).is_ok() {
                names.entries.insert(path, entry.copy());
            }
        }
        memory
    }

    /// Copies of all that it holds.
    pub(super) fn entries(&self) -> BTreeMap<PathBuf, Entry> {
        self.names().entries.iter().map(|(path, entry)| (path.clone(), entry.copy())).collect()
    }

    /// The number of the file at `path`.
    pub(super) fn inode(&self, path: &Path) -> Option<u64> {
        match self.names().entries.get(path)? {
            Entry::File(file) => Some(file.inode),
            Entry::Dir => None,
        }
    }

    /// Opens a file, as [`Medium::open`] does.
    pub(super) fn open_file(&self, path: &Path, mode: Mode) -> io::Result<MemoryFile> {
        let mut names = self.names();
        match (names.entries.get(path), mode) {
            (Some(Entry::Dir), _) => Err(ErrorKind::IsADirectory.into()),
            (Some(Entry::File(_)), Mode::New) => Err(ErrorKind::AlreadyExists.into()),
            (Some(Entry::File(file)), Mode::Emptied) => {
                file.bytes().clear();
                Ok(file.clone())
            }
            (Some(Entry::File(file)), Mode::Read | Mode::Existing) => Ok(file.clone()),
            (None, Mode::Read | Mode::Existing) => Err(ErrorKind::NotFound.into()),
            (None, Mode::New | Mode::Emptied) => {
                names.check_parent(path)?;
                let file = MemoryFile { inode: names.next_inode, bytes: Arc::default() };
                names.next_inode += 1;
                names.entries.insert(path.to_path_buf(), Entry::File(file.clone()));
                Ok(file)
            }
        }
    }

    fn names(&self) -> MutexGuard<'_, Names> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Names {
    fn check_parent(&self, path: &Path) -> io::Result<()> {
        // The root is there, and what stands in it.
        match path.parent().filter(|parent| *parent != Path::new("/")) {
            None => Ok(()),
            Some(parent) => match self.entries.get(parent) {
                Some(Entry::Dir) => Ok(()),
                Some(Entry::File(_)) => Err(ErrorKind::NotADirectory.into()),
                None => Err(ErrorKind::NotFound.into()),
            },
        }
    }

    fn bytes_beside(&self, path: &Path) -> u64 {
        let beside = path.parent().into_iter().flat_map(|dir| self.children(dir));
        let len = |path| match &self.entries[path] {
            Entry::File(file) => file.bytes().len() as u64,
            Entry::Dir => 0,
        };
        beside.map(len).sum()
    }

    fn children<'a>(&'a self, dir: &'a Path) -> impl Iterator<Item = &'a PathBuf> {
        self.entries.keys().filter(move |path| path.parent() == Some(dir))
    }
}

impl Entry {
    fn inode(&self) -> u64 {
        match self {
            Self::Dir => 0,
            Self::File(file) => file.inode,
        }
    }

    fn copy(&self) -> Self {
        match self {
            Self::Dir => Self::Dir,
            Self::File(file) => Self::File(MemoryFile {
                inode: file.inode,
                bytes: Arc::new(Mutex::new(file.bytes().clone())),
            }),
        }
    }
}

impl MemoryFile {
    /// A file with this number, empty.
    pub(super) fn new(inode: u64) -> Self {
        Self { inode, bytes: Arc::default() }
    }

    /// Its bytes.
    pub(super) fn bytes(&self) -> MutexGuard<'_, Vec<u8>> {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Medium for Memory {
    fn open(&self, path: &Path, mode: Mode) -> io::Result<Box<dyn MediumFile>> {
        Ok(Box::new(self.open_file(path, mode)?))
    }

    fn look(&self, path: &Path) -> io::Result<Option<Node>> {
        let node = |entry: &Entry| match entry {
            Entry::Dir => Node::Dir,
            Entry::File(_) => Node::File,
        };
        let root = (path == Path::new("/")).then_some(Node::Dir);
        Ok(self.names().entries.get(path).map(node).or(root))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        match self.look(dir)? {
            Some(Node::Dir) => Ok(self.names().children(dir).cloned().collect()),
            Some(Node::File) => Err(ErrorKind::NotADirectory.into()),
            None => Err(ErrorKind::NotFound.into()),
        }
    }

    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut names = self.names();
        names.check_parent(dir)?;
        if names.entries.contains_key(dir) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        names.entries.insert(dir.to_path_buf(), Entry::Dir);
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.look(dir)?.map(|_| ()).ok_or_else(|| ErrorKind::NotFound.into())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        names.check_parent(to)?;
        let below = |path: &PathBuf| path.starts_with(from);
        let moved: Vec<PathBuf> =
            names.entries.keys().filter(|path| below(path)).cloned().collect();
        if moved.is_empty() {
            return Err(ErrorKind::NotFound.into());
        }
        for path in moved {
            if let (Some(entry), Ok(rest)) = (names.entries.remove(&path), path.strip_prefix(from))
            {
                let to = if rest.as_os_str().is_empty() { to.to_path_buf() } else { to.join(rest) };
                names.entries.insert(to, entry);
            }
        }
        Ok(())
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut names = self.names();
        names.check_parent(to)?;
        let Some(Entry::File(file)) = names.entries.get(from).cloned() else {
            return Err(ErrorKind::NotFound.into());
        };
        if names.entries.contains_key(to) {
            return Err(ErrorKind::AlreadyExists.into());
        }
        names.entries.insert(to.to_path_buf(), Entry::File(file));
        Ok(())
    }

    fn remove(&self, path: &Path, node: Node) -> io::Result<()> {
        let mut names = self.names();
        match (names.entries.get(path), node) {
            (None, _) => return Err(ErrorKind::NotFound.into()),
            (Some(Entry::Dir), Node::File) => return Err(ErrorKind::IsADirectory.into()),
            (Some(Entry::File(_)), Node::Dir) => return Err(ErrorKind::NotADirectory.into()),
            (Some(_), _) => {}
        }
        if names.children(path).next().is_some() {
            return Err(ErrorKind::DirectoryNotEmpty.into());
        }
        names.most_bytes = names.most_bytes.max(names.bytes_beside(path));
        names.entries.remove(path);
        Ok(())
    }
}

impl MediumFile for MemoryFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.bytes().len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        let all = self.bytes();
        let from = usize::try_from(offset).ok().and_then(|offset| all.get(offset..));
        let found = from.and_then(|from| from.get(..bytes.len()));
        bytes.copy_from_slice(found.ok_or(ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut all = self.bytes();
        let start = usize::try_from(offset).map_err(|_| ErrorKind::FileTooLarge)?;
        let end = start + bytes.len();
        if all.len() < end {
            all.resize(end, 0);
        }
        all[start..end].copy_from_slice(bytes);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let len = usize::try_from(len).map_err(|_| ErrorKind::FileTooLarge)?;
        self.bytes().resize(len, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}
