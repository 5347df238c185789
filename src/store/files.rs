//! Every touch of the file system: one file of the store reads, writes, syncs, renames.
//!
//! The rules that make a write last through a power cut stand here once. Bytes of a file are
//! durable after `fdatasync`; a new name in a directory is durable after a sync of the directory;
//! a file is replaced by writing another aside, syncing it, renaming it over, syncing the
//! directory. A failed sync is never tried again: the kernel may have dropped the pages.
//!
//! Underneath is a [`Medium`]: the disk; in tests memory, and a recorder that can make every image
//! that a crash may leave.

mod disk;
mod medium;
#[cfg(test)]
pub(super) mod memory;
#[cfg(test)]
pub(super) mod recorder;
#[cfg(test)]
pub(super) mod watched;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use disk::Disk;
use medium::{Medium, MediumFile, Mode, Node};

use crate::error::{Error, Result};

/// Files on a medium. A clone is the same medium.
#[derive(Clone, Debug)]
pub(super) struct Files(Arc<dyn Medium>);

/// A file that is read at any place and written at its end.
#[derive(Debug)]
pub(super) struct File {
    file: Box<dyn MediumFile>,
    path: PathBuf,
}

impl File {
    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> Result<u64> {
        self.file.len().map_err(Error::io("read the length of", &self.path))
    }

    /// Fills `bytes` from `offset` on.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_at(bytes, offset).map_err(Error::io("read", &self.path))
    }

    /// Writes `bytes` at `offset`; durable after the next [`File::sync`].
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.file.write_at(bytes, offset).map_err(Error::io("write to", &self.path))
    }

    /// Gives the first `length` bytes to `each`, a piece at a time, with where it stands.
    pub(super) fn read_pieces(
        &self,
        length: u64,
        mut each: impl FnMut(u64, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let mut bytes = Vec::new();
        for start in (0..length).step_by(PIECE) {
            bytes.resize((length - start).min(PIECE as u64) as usize, 0);
            self.read_at(&mut bytes, start)?;
            each(start, &bytes)?;
        }
        Ok(())
    }

    /// Writes once more what stands in `range`, for the next sync to find.
    pub(super) fn write_again(&self, range: std::ops::Range<u64>) -> Result<()> {
        let mut bytes = Vec::new();
        for start in range.clone().step_by(PIECE) {
            bytes.resize((range.end - start).min(PIECE as u64) as usize, 0);
            self.read_at(&mut bytes, start)?;
            self.write_at(&bytes, start)?;
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub(super) fn sync(&self) -> Result<()> {
        self.file.sync().map_err(Error::io(SYNC, &self.path))
    }

    /// Cuts what stands beyond `length`.
    pub(super) fn truncate(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(Error::io("cut", &self.path))
    }
}

/// Bytes that are copied or written again at once.
const PIECE: usize = 1 << 17;

/// What errors call the operation after whose failure nobody knows what is durable.
const SYNC: &str = "sync";

/// Whether a write that failed like this left nothing in doubt: the disk was full, and a write was
/// told so, not a sync. What it wrote in part can be cut off, and it may be tried again.
pub(super) fn is_only_full(error: &Error) -> bool {
    error.is_full() && !matches!(error, Error::Io { doing: SYNC, .. })
}

/// Whether this is a failed sync of the directory `dir`: then nobody knows which names it holds.
pub(super) fn is_failed_sync_of(error: &Error, dir: &Path) -> bool {
    matches!(error, Error::Io { doing: SYNC, path, .. } if path == dir)
}

impl Files {
    /// Those of the operating system.
    pub(super) fn disk() -> Self {
        Self(Arc::new(Disk))
    }

    /// Those of another medium.
    #[cfg(test)]
    pub(super) fn on(medium: impl Medium + 'static) -> Self {
        Self(Arc::new(medium))
    }

    fn file(&self, doing: &'static str, path: &Path, mode: Mode) -> Result<File> {
        let file = self.0.open(path, mode).map_err(Error::io(doing, path))?;
        Ok(File { file, path: path.to_path_buf() })
    }

    /// Makes a file that does not exist yet.
    pub(super) fn create(&self, path: &Path) -> Result<File> {
        self.file("create", path, Mode::New)
    }

    /// Opens a file to read and write.
    pub(super) fn open(&self, path: &Path) -> Result<File> {
        self.file("open", path, Mode::Existing)
    }

    /// Replaces the file at `path` by one that holds `bytes`: after a crash there is the old one
    /// or the new one, whole. Durable on return.
    ///
    /// # Errors
    /// Whatever the operating system refuses. After a refused sync of the directory nobody knows
    /// which of the two a power cut would leave.
    pub(super) fn write_atomically(&self, path: &Path, bytes: &[u8]) -> Result<()> {
        let aside = aside(path);
        let write = || {
            let file = self.file("create", &aside, Mode::Emptied)?;
            file.write_at(bytes, 0)?;
            file.sync()?;
            self.0.rename(&aside, path).map_err(Error::io("replace", path))
        };
        if let Err(error) = write() {
            // What was written aside is of no use; what matters is the first error.
            let _ = self.remove_file(&aside);
            return Err(error);
        }
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    /// Makes the names in a directory durable.
    pub(super) fn sync_dir(&self, dir: &Path) -> Result<()> {
        self.0.sync_dir(dir).map_err(Error::io(SYNC, dir))
    }

    /// Makes every name below a directory durable.
    pub(super) fn sync_below(&self, dir: &Path) -> Result<()> {
        for path in self.list(dir)? {
            if self.is_dir(&path)? {
                self.sync_below(&path)?;
            }
        }
        self.sync_dir(dir)
    }

    /// The bytes of a file of at most `limit` bytes, whose size is asked before room is made.
    pub(super) fn read(&self, path: &Path, limit: u64) -> Result<Vec<u8>> {
        let file = self.file("open", path, Mode::Read)?;
        let len = file.len()?;
        if len > limit {
            let message = format!("expected at most {limit} bytes, got {len}");
            return Err(Error::damaged(path, None, message));
        }
        let mut bytes = vec![0; len as usize];
        file.read_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Whether something stands at `path`.
    pub(super) fn exists(&self, path: &Path) -> Result<bool> {
        Ok(self.look(path)?.is_some())
    }

    /// Whether a directory stands at `path`.
    pub(super) fn is_dir(&self, path: &Path) -> Result<bool> {
        Ok(self.look(path)? == Some(Node::Dir))
    }

    fn look(&self, path: &Path) -> Result<Option<Node>> {
        self.0.look(path).map_err(Error::io("look for", path))
    }

    /// Makes a directory and those above it, each name durable.
    pub(super) fn create_dir(&self, dir: &Path) -> Result<()> {
        let Some(parent) = dir.parent() else { return Ok(()) };
        let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
        let there = self.look(dir)? == Some(Node::Dir);
        if !there {
            if parent != Path::new(".") {
                self.create_dir(parent)?;
            }
            match self.0.create_dir(dir) {
                Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                    return Err(Error::io("create", dir)(error));
                }
                _ => {}
            }
        }
        // Also where it is there: whoever made it may have been killed before this.
        match self.sync_dir(parent) {
            // It was made by somebody who may write here, and not by this program.
            Err(Error::Io { source, .. })
                if there && source.kind() == io::ErrorKind::PermissionDenied =>
            {
                Ok(())
            }
            synced => synced,
        }
    }

    /// The paths of what a directory holds, sorted by name.
    pub(super) fn list(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        let mut paths = self.0.list(dir).map_err(Error::io("list", dir))?;
        paths.sort();
        Ok(paths)
    }

    /// Renames; durable after the directory is synced.
    pub(super) fn rename(&self, from: &Path, to: &Path) -> Result<()> {
        self.0.rename(from, to).map_err(Error::io("rename", from))
    }

    /// Gives a file that is never written again a second name, or makes a copy under that name
    /// where it can have none. The name is durable after the directory is synced.
    pub(super) fn link_or_copy(&self, file: &File, length: u64, to: &Path) -> Result<()> {
        match self.0.link(file.path(), to) {
            Ok(()) => Ok(()),
            Err(_) => self.copy(file, length, to),
        }
    }

    /// Copies the first `length` bytes of a file into a new one, durable but for its name.
    pub(super) fn copy(&self, from: &File, length: u64, to: &Path) -> Result<()> {
        let file = self.create(to)?;
        from.read_pieces(length, |offset, piece| file.write_at(piece, offset))?;
        file.sync()
    }

    /// Opens a file to read it.
    pub(super) fn open_to_read(&self, path: &Path) -> Result<File> {
        self.file("open", path, Mode::Read)
    }

    /// Removes a file, if it is there.
    pub(super) fn remove_file(&self, path: &Path) -> Result<()> {
        self.remove(path, Node::File)
    }

    /// Removes a directory of files that somebody may never close: they keep no room.
    pub(super) fn remove_emptied(&self, dir: &Path) -> Result<()> {
        if self.look(dir)? == Some(Node::Dir) {
            for path in self.list(dir)? {
                if self.look(&path)? == Some(Node::File) {
                    self.open(&path)?.truncate(0)?;
                }
            }
        }
        self.remove_dir(dir)
    }

    /// Removes a directory and all below it, if it is there.
    pub(super) fn remove_dir(&self, dir: &Path) -> Result<()> {
        match self.look(dir)? {
            None => Ok(()),
            Some(Node::File) => self.remove_file(dir),
            Some(Node::Dir) => {
                self.list(dir)?.iter().try_for_each(|path| self.remove_dir(path))?;
                self.remove(dir, Node::Dir)
            }
        }
    }

    fn remove(&self, path: &Path, node: Node) -> Result<()> {
        match self.0.remove(path, node) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::io("remove", path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Where a file is written before it takes the place of `path`.
pub(super) fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

/// The bytes that can be written before the disk of `dir` is full, as far as it says.
pub(super) fn room(dir: &Path) -> Result<u64> {
    let disk = rustix::fs::statvfs(dir);
    let disk = disk.map_err(|error| Error::io("ask for the free space of", dir)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// Whether something stands at `path`.
pub fn exists(path: &Path) -> Result<bool> {
    Files::disk().exists(path)
}

/// Makes a directory and those above it, each name durable.
pub fn create_dir(dir: &Path) -> Result<()> {
    Files::disk().create_dir(dir)
}

/// Removes a file, durably; nothing where there is none.
pub fn remove_file(path: &Path) -> Result<()> {
    let files = Files::disk();
    files.remove_file(path)?;
    path.parent().map_or(Ok(()), |dir| files.sync_dir(dir))
}

/// The paths of what a directory holds, sorted by name.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    Files::disk().list(dir)
}

/// The proof that no other process works in a directory; given back when it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

/// How long a directory's lock is waited for: a process that this one starts has all of its files
/// open for an instant, and one that ends lets go of them a little later than it prints.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Takes the directory for this process, by a lock on the file `LOCK` in it.
///
/// # Errors
/// [`Error::Unavailable`] where another process (or another handle in this one) holds it.
pub fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join("LOCK");
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(Error::io("open", &path))?;
    if lock_within(&file, &path, LOCK_PATIENCE)? {
        return Ok(Lock { _file: file });
    }
    Err(Error::Unavailable {
        what: format!("{} is in use by another process", dir.display()),
        hint: "stop that process, or ask it over gRPC".to_owned(),
    })
}

/// Waits until nobody holds a lock on the file at `path`, if there is one, as long as `patience`;
/// false where somebody still does.
pub(super) fn wait_until_free(path: &Path, patience: Duration) -> Result<bool> {
    if !exists(path)? {
        return Ok(true);
    }
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
    lock_within(&file, path, patience)
}

/// Locks a file, which may take as long as `patience`; whether it is locked.
fn lock_within(file: &fs::File, path: &Path, patience: Duration) -> Result<bool> {
    let start = Instant::now();
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(true),
            Err(fs::TryLockError::Error(error)) => return Err(Error::io("lock", path)(error)),
            Err(fs::TryLockError::WouldBlock) if start.elapsed() > patience => return Ok(false),
            Err(fs::TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_and_nothing_stays_aside() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("create", "tempdir"))?;
        let path = dir.path().join("FILE");
        for files in [Files::disk(), Files::on(memory::Memory::default())] {
            files.create_dir(dir.path())?;
            files.write_atomically(&path, b"first")?;
            files.write_atomically(&path, b"second")?;
            assert_eq!(files.read(&path, 6)?, b"second");
            assert!(matches!(files.read(&path, 5), Err(Error::Damaged { .. })));
            assert_eq!(files.list(dir.path())?, std::slice::from_ref(&path));
            files.remove_dir(dir.path())?;
            assert!(!files.exists(&path)? && !files.exists(dir.path())?);
        }
        Ok(())
    }

    #[test]
    fn a_directory_has_one_holder() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("create", "tempdir"))?;
        let held = lock(dir.path())?;
        let refused = lock(dir.path()).map(|_| ()).map_err(|e| e.to_string());
        assert!(refused.is_err_and(|e| e.contains("in use by another process")));
        // Who lets go of it soon is waited for.
        let going = thread::spawn(move || {
            thread::sleep(LOCK_PATIENCE / 20);
            drop(held);
        });
        let taken = lock(dir.path()).map(|_| ());
        going.join().map_err(|_| Error::Interrupted)?;
        taken
    }
}
