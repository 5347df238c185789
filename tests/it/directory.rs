//! The directories that tests work in.

use std::fs;
use std::path::Path;

use tempfile::TempDir;

/// A directory in memory where there is room for it: these tests are not about the disk.
pub fn directory() -> TempDir {
    let memory = Path::new("/dev/shm");
    let room = rustix::fs::statvfs(memory).map_or(0, |fs| fs.f_bavail.saturating_mul(fs.f_frsize));
    if room > 4 << 30 { TempDir::new_in(memory).unwrap() } else { TempDir::new().unwrap() }
}

/// Copies a directory and all in it.
pub fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(|entry| entry.unwrap()) {
        let to = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &to),
            false => drop(fs::copy(entry.path(), to).unwrap()),
        }
    }
}
