//! Every touch of the file system: one file of the store reads, writes, syncs, renames.
//!
//! The rules that make a write last through a power cut stand here once. Bytes of a file are
//! durable after `fdatasync`; a new name in a directory is durable after a sync of the directory;
//! a file is replaced by writing another aside, syncing it, renaming it over, syncing the
//! directory. A failed sync is never tried again: the kernel may have dropped the pages.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::error::{Error, Result};

/// A file that is read at any place and written at its end.
#[derive(Debug)]
pub(super) struct File {
    file: fs::File,
    path: PathBuf,
    /// Tests put the operation that is to fail here, once.
    #[cfg(test)]
    pub(super) fault: std::sync::Mutex<Option<(&'static str, io::ErrorKind)>>,
}

impl File {
    /// Makes a file that does not exist yet.
    pub(super) fn create(path: &Path) -> Result<Self> {
        let file = fs::File::options().read(true).write(true).create_new(true).open(path);
        Ok(Self::new(file.map_err(Error::io("create", path))?, path))
    }

    /// Opens a file to read and write.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let file = fs::File::options().read(true).write(true).open(path);
        Ok(Self::new(file.map_err(Error::io("open", path))?, path))
    }

    fn new(file: fs::File, path: &Path) -> Self {
        Self {
            file,
            path: path.to_path_buf(),
            #[cfg(test)]
            fault: std::sync::Mutex::new(None),
        }
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Its length in bytes.
    pub(super) fn len(&self) -> Result<u64> {
        let metadata = self.file.metadata().map_err(Error::io("read the length of", &self.path))?;
        Ok(metadata.len())
    }

    /// Fills `bytes` from `offset` on.
    pub(super) fn read_at(&self, bytes: &mut [u8], offset: u64) -> Result<()> {
        self.file.read_exact_at(bytes, offset).map_err(Error::io("read", &self.path))
    }

    /// Writes `bytes` at `offset`; durable after the next [`File::sync`].
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> Result<()> {
        self.refuse("write to", || self.file.write_all_at(&bytes[..bytes.len() / 2], offset))?;
        self.file.write_all_at(bytes, offset).map_err(Error::io("write to", &self.path))
    }

    /// Makes what was written durable: `fdatasync`.
    pub(super) fn sync(&self) -> Result<()> {
        self.refuse("sync", || Ok(()))?;
        self.file.sync_data().map_err(Error::io("sync", &self.path))
    }

    /// Cuts what stands beyond `length`.
    pub(super) fn truncate(&self, length: u64) -> Result<()> {
        self.file.set_len(length).map_err(Error::io("cut", &self.path))
    }

    /// Fails once where a test asked for it, after doing `half` of the work.
    #[cfg(test)]
    fn refuse(&self, doing: &'static str, half: impl FnOnce() -> io::Result<()>) -> Result<()> {
        let mut fault = self.fault.lock().map_err(|_| Error::Interrupted)?;
        match fault.take_if(|(what, _)| *what == doing) {
            None => Ok(()),
            Some((_, kind)) => {
                half().map_err(Error::io(doing, &self.path))?;
                Err(Error::io(doing, &self.path)(kind.into()))
            }
        }
    }

    #[cfg(not(test))]
    #[inline]
    fn refuse(&self, _: &'static str, _: impl FnOnce() -> io::Result<()>) -> Result<()> {
        Ok(())
    }
}

/// Replaces the file at `path` by one that holds `bytes`: after a crash there is the old one or
/// the new one, whole. Durable on return.
///
/// # Errors
/// Whatever the operating system refuses. After a refused sync of the directory nobody knows which
/// of the two a power cut would leave.
pub(super) fn write_atomically(path: &Path, bytes: &[u8]) -> Result<()> {
    let aside = aside(path);
    let write = || {
        let mut file = fs::File::create(&aside).map_err(Error::io("create", &aside))?;
        file.write_all(bytes).map_err(Error::io("write to", &aside))?;
        file.sync_all().map_err(Error::io("sync", &aside))?;
        fs::rename(&aside, path).map_err(Error::io("replace", path))
    };
    if let Err(error) = write() {
        // What was written aside is of no use; what matters is the first error.
        let _ = fs::remove_file(&aside);
        return Err(error);
    }
    sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// Where a file is written before it takes the place of `path`.
fn aside(path: &Path) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(".new");
    name.into()
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<()> {
    let synced = fs::File::open(dir).and_then(|dir| dir.sync_all());
    synced.map_err(Error::io("sync", dir))
}

/// The bytes of a file of at most `limit` bytes, whose size is asked before room is made.
pub(super) fn read(path: &Path, limit: u64) -> Result<Vec<u8>> {
    let mut file = fs::File::open(path).map_err(Error::io("open", path))?;
    let len = file.metadata().map_err(Error::io("read the length of", path))?.len();
    if len > limit {
        let message = format!("expected at most {limit} bytes, got {len}");
        return Err(Error::damaged(path, None, message));
    }
    let mut bytes = Vec::with_capacity(len as usize);
    file.read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Whether something stands at `path`.
pub fn exists(path: &Path) -> Result<bool> {
    path.try_exists().map_err(Error::io("look for", path))
}

/// Makes a directory and those above it, each name durable.
pub fn create_dir(dir: &Path) -> Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
    if let Some(parent) = parent {
        create_dir(parent)?;
    }
    match fs::create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(Error::io("create", dir)(error))
        }
        _ => sync_dir(parent.unwrap_or(Path::new("."))),
    }
}

/// The paths of what a directory holds, sorted by name.
pub fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(dir).map_err(Error::io("list", dir))?;
    let paths = entries.map(|entry| entry.map(|entry| entry.path()));
    let mut paths: Vec<_> = paths.collect::<io::Result<_>>().map_err(Error::io("list", dir))?;
    paths.sort();
    Ok(paths)
}

/// Renames; durable after the directory is synced.
pub(super) fn rename(from: &Path, to: &Path) -> Result<()> {
    fs::rename(from, to).map_err(Error::io("rename", from))
}

/// Removes a file, if it is there.
pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Removes a directory and all below it, if it is there.
pub(super) fn remove_dir(dir: &Path) -> Result<()> {
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(Error::io("remove", dir)(error))
        }
        _ => Ok(()),
    }
}

/// The proof that no other process works in a directory; given back when it is dropped.
#[derive(Debug)]
pub struct Lock {
    _file: fs::File,
}

/// Takes the directory for this process, by a lock on the file `LOCK` in it.
///
/// # Errors
/// [`Error::Unavailable`] where another process (or another handle in this one) holds it.
pub fn lock(dir: &Path) -> Result<Lock> {
    let path = dir.join("LOCK");
    let file = fs::File::options().read(true).write(true).create(true).truncate(false).open(&path);
    let file = file.map_err(Error::io("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(Lock { _file: file }),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Unavailable {
            what: format!("{} is in use by another process", dir.display()),
            hint: "stop that process, or ask it over gRPC".to_owned(),
        }),
        Err(fs::TryLockError::Error(error)) => Err(Error::io("lock", &path)(error)),
    }
}

/// Waits until nobody holds a lock on the file at `path`, if there is one, as long as `patience`;
/// false where somebody still does.
pub(super) fn wait_until_free(path: &Path, patience: Duration) -> Result<bool> {
    if !exists(path)? {
        return Ok(true);
    }
    let file = fs::File::open(path).map_err(Error::io("open", path))?;
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
        write_atomically(&path, b"first")?;
        write_atomically(&path, b"second")?;
        assert_eq!(read(&path, 6)?, b"second");
        assert!(matches!(read(&path, 5), Err(Error::Damaged { .. })));
        assert_eq!(list(dir.path())?, [path]);
        Ok(())
    }

    #[test]
    fn a_directory_has_one_holder() -> Result<()> {
        let dir = tempfile::tempdir().map_err(Error::io("create", "tempdir"))?;
        let held = lock(dir.path())?;
        let refused = lock(dir.path()).map(|_| ()).map_err(|e| e.to_string());
        assert!(refused.is_err_and(|e| e.contains("in use by another process")));
        drop(held);
        lock(dir.path()).map(|_| ())
    }
}
