//! Snapshots: a database as it was at one moment, in a directory that can be copied anywhere.
//!
//! ```text
//! snapshots/<name>/
//!   SNAPSHOT           what is in it: JSON on one line, and its BLAKE3 on the next
//!   FORMAT  models/  collections/        as in a data directory
//! ```
//!
//! A sealed segment is never written again, so it is no copy but a second name of the same file,
//! where the file system has such; compaction may then remove the first name. Of the open segment
//! that much is copied as was durable at that moment. The hash table is left out: it is derived. A
//! snapshot is made under another name, beginning with a dot, and renamed when it is whole.

mod archive;
mod manifest;

use std::path::{Path, PathBuf};

pub use self::archive::{pack, unpack};
pub use self::manifest::{Manifest, SnapshotFile};
use self::manifest::{VERSION, digest, paths_below};
use super::Store;
use super::files::Files;
use super::lock_mutex;
use super::manifest::Manifest as CollectionManifest;
use super::segment::Segment;
use crate::error::{Error, Result};

const MAX_NAME_BYTES: usize = 64;

/// The snapshots of a data directory.
#[derive(Clone, Debug)]
pub struct Snapshots {
    files: Files,
    dir: PathBuf,
}

impl Snapshots {
    /// Those of the data directory `dir`.
    pub fn of(dir: &Path) -> Self {
        Self { files: Files::disk(), dir: dir.join("snapshots") }
    }

    /// Where the snapshot of this name is, or would be.
    ///
    /// # Errors
    /// [`Error::Invalid`] for a name that is not allowed.
    pub fn path(&self, name: &str) -> Result<PathBuf> {
        let allowed = |c: char| matches!(c, 'a'..='z' | '0'..='9' | '.' | '_' | '-');
        let first = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
        let plain = first && name.chars().all(allowed) && !name.contains("..");
        if plain && name.len() <= MAX_NAME_BYTES {
            return Ok(self.dir.join(name));
        }
        let message = format!(
            "expected a name of 1 to {MAX_NAME_BYTES} of a-z, 0-9, '.', '_' and '-', beginning with \
             a letter or digit and without '..', got {name:?}"
        );
        Err(Error::invalid("snapshot", message))
    }

    /// The snapshot of this name, which is there.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none.
    pub fn find(&self, name: &str) -> Result<PathBuf> {
        let path = self.path(name)?;
        if self.files.exists(&path)? {
            return Ok(path);
        }
        let hint = match self.names()?.as_slice() {
            [] => "there are none yet: create one first".to_owned(),
            names => format!("there are {}", names.join(", ")),
        };
        Err(Error::not_found("snapshot", name, hint))
    }

    /// The names, sorted.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn names(&self) -> Result<Vec<String>> {
        if !self.files.exists(&self.dir)? {
            return Ok(Vec::new());
        }
        let listed = self.files.list(&self.dir)?;
        let name = |path: &PathBuf| Some(path.file_name()?.to_str()?.to_owned());
        Ok(listed.iter().filter_map(name).filter(|name| self.path(name).is_ok()).collect())
    }

    /// Makes a snapshot. `fill` puts all files into the directory that it gets, by hard links and
    /// durable copies, and tells the collections and how many records each has.
    ///
    /// # Errors
    /// [`Error::Exists`] where the name is taken; what `fill` says; whatever the operating system
    /// refuses. No snapshot is made then.
    pub fn create(
        &self,
        name: &str,
        created: u64,
        fill: impl FnOnce(&Path) -> Result<Vec<(String, u64)>>,
    ) -> Result<Manifest> {
        let path = self.path(name)?;
        if self.files.exists(&path)? {
            let hint = "choose another name or delete it first".to_owned();
            return Err(Error::Exists { kind: "snapshot", name: name.to_owned(), hint });
        }
        let making = self.dir.join(format!(".{name}.new"));
        self.files.remove_dir(&making)?;
        self.files.create_dir(&making)?;
        let made = self.fill(name, created, &making, fill).and_then(|manifest| {
            self.files.rename(&making, &path)?;
            self.files.sync_dir(&self.dir)?;
            Ok(manifest)
        });
        if made.is_err() {
            // What matters is the first error; the next snapshot of this name clears it away.
            let _ = self.files.remove_dir(&making);
        }
        made
    }

    fn fill(
        &self,
        name: &str,
        created: u64,
        making: &Path,
        fill: impl FnOnce(&Path) -> Result<Vec<(String, u64)>>,
    ) -> Result<Manifest> {
        let collections = fill(making)?;
        let mut paths = Vec::new();
        paths_below(&self.files, making, Path::new(""), &mut paths)?;
        paths.sort();
        let file = |path: String| {
            let (bytes, blake3) = digest(&self.files, &making.join(&path))?;
            Ok(SnapshotFile { path, bytes, blake3 })
        };
        let listed = paths.into_iter().map(file).collect::<Result<_>>()?;
        let (version, name) = (VERSION, name.to_owned());
        let manifest = Manifest { version, name, created, collections, files: listed };
        self.files.sync_below(making)?;
        manifest.write(&self.files, making)?;
        Ok(manifest)
    }

    /// Removes a snapshot: in one step it is none any more, then its files go.
    ///
    /// # Errors
    /// [`Error::NotFound`] where there is none; whatever the operating system refuses.
    pub fn delete(&self, name: &str) -> Result<()> {
        let path = self.find(name)?;
        let gone = self.dir.join(format!(".{name}.deleted"));
        self.files.remove_dir(&gone)?;
        self.files.rename(&path, &gone)?;
        self.files.sync_dir(&self.dir)?;
        self.files.remove_dir(&gone)
    }

    /// Clears away what was interrupted while it was made or removed.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn clear(&self) -> Result<()> {
        if !self.files.exists(&self.dir)? {
            return Ok(());
        }
        for path in self.files.list(&self.dir)? {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            if name.starts_with('.') && (name.ends_with(".new") || name.ends_with(".deleted")) {
                self.files.remove_dir(&path)?;
            }
        }
        Ok(())
    }
}

impl Store {
    /// Puts the collection as it is now into `dir`, a new directory, as one that can be opened; how
    /// many records it has. Writers wait for a sync at most.
    ///
    /// # Errors
    /// Whatever the operating system refuses; [`Error::Unavailable`] where an earlier failure leaves
    /// in doubt what of the collection is durable.
    pub fn copy_into(&self, dir: &Path) -> Result<u64> {
        let shared = &*self.shared;
        let files = &shared.files;
        let (manifest, segments, records) = {
            let _writer = lock_mutex(&shared.writer);
            if !shared.state().segments.open().is_synced() {
                // What was acknowledged before its sync belongs to this moment too.
                shared.check_poison()?;
                shared.sync_open()?;
            }
            let manifest = lock_mutex(&shared.manifest);
            let state = shared.state();
            let segments = state.segments.files();
            let known = segments.iter().map(|segment| segment.known).collect();
            let manifest = CollectionManifest { segments: known, ..manifest.clone() };
            (manifest, segments, state.segments.live())
        };
        files.create_dir(&dir.join("segments"))?;
        let last = segments.len().saturating_sub(1);
        for (i, segment) in segments.iter().enumerate() {
            let to = Segment::path(dir, segment.known.segment);
            // The name of a sealed one may be gone meanwhile; its file is still open.
            match i == last {
                true => files.copy(&segment.file, segment.known.length, &to)?,
                false => files.link_or_copy(&segment.file, segment.known.length, &to)?,
            }
        }
        manifest.write(files, dir)?;
        Ok(records)
    }
}

/// Puts a file that is never written again into a snapshot.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn link_or_copy(from: &Path, to: &Path) -> Result<()> {
    let files = Files::disk();
    let file = files.open_to_read(from)?;
    files.link_or_copy(&file, file.len()?, to)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::fs;

    use super::*;

    fn snapshots() -> (tempfile::TempDir, Snapshots) {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::of(dir.path());
        (dir, snapshots)
    }

    pub fn fill(dir: &Path) -> Result<Vec<(String, u64)>> {
        fs::create_dir(dir.join("deep")).unwrap();
        fs::write(dir.join("deep/file"), b"bytes").unwrap();
        fs::write(dir.join("empty"), b"").unwrap();
        Ok(vec![("c".to_owned(), 7)])
    }

    #[test]
    fn names_are_plain() {
        let (_dir, snapshots) = snapshots();
        for name in ["a", "7", "nightly-2026.11_21", &"a".repeat(64)] {
            assert!(snapshots.path(name).is_ok(), "{name}");
        }
        let long = "a".repeat(65);
        for name in ["", ".", "..", "a..b", ".a", "-a", "_a", "A", "a/b", "a\\b", "ä", "a b", &long]
        {
            assert!(snapshots.path(name).is_err(), "{name}");
        }
    }

    #[test]
    fn it_says_what_is_in_it_and_is_made_whole_or_not_at_all() -> Result<()> {
        let (dir, snapshots) = snapshots();
        assert!(snapshots.names()?.is_empty());
        let failed = snapshots.create("s", 1, |dir| {
            fill(dir)?;
            Err(Error::Interrupted)
        });
        assert!(matches!(failed, Err(Error::Interrupted)));
        assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
        fs::create_dir(dir.path().join("snapshots/.s.new")).unwrap();
        fs::write(dir.path().join("snapshots/.s.new/half"), b"x").unwrap();
        let made = snapshots.create("s", 1, fill)?;
        assert_eq!((made.bytes(), made.records(), made.files.len()), (5, 7, 2));
        assert!(matches!(snapshots.create("s", 1, fill), Err(Error::Exists { .. })));
        assert_eq!(Manifest::read(&snapshots.find("s")?)?, made);
        assert_eq!(made.compare(&snapshots.find("s")?)?, []);
        assert_eq!(snapshots.names()?, ["s"]);
        snapshots.delete("s")?;
        assert!(matches!(snapshots.find("s"), Err(Error::NotFound { .. })));
        assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
        Ok(())
    }

    /// A manifest of somebody else's making, with a checksum that is right.
    #[test]
    fn a_manifest_that_lies_is_refused() -> Result<()> {
        let (_dir, snapshots) = snapshots();
        let made = snapshots.create("s", 1, fill)?;
        let path = snapshots.find("s")?;
        let files = Files::disk();
        for lie in ["../x", "/etc/passwd", "deep/../../x", "", "deep/./../.."] {
            let mut lying = made.clone();
            lying.files[0].path = lie.to_owned();
            lying.write(&files, &path)?;
            assert!(matches!(Manifest::read(&path), Err(Error::Damaged { .. })), "{lie}");
        }
        let mut twice = made.clone();
        twice.files.insert(0, twice.files[0].clone());
        twice.write(&files, &path)?;
        assert!(matches!(Manifest::read(&path), Err(Error::Damaged { .. })));
        let mut newer = made.clone();
        newer.version = 2;
        newer.write(&files, &path)?;
        assert!(matches!(Manifest::read(&path), Err(Error::Invalid { .. })));
        let mut longer = made.clone();
        longer.files[0].bytes = 1 << 60;
        assert_eq!(longer.compare(&path)?.len(), 1);
        let to = path.join("copy");
        assert!(matches!(longer.files[0].copy_from(&path, &to), Err(Error::Damaged { .. })));
        #[cfg(unix)]
        {
            fs::remove_file(path.join("deep/file")).unwrap();
            std::os::unix::fs::symlink("/etc/passwd", path.join("deep/file")).unwrap();
            assert_eq!(made.compare(&path)?.len(), 1);
            assert!(matches!(made.files[0].copy_from(&path, &to), Err(Error::Damaged { .. })));
        }
        Ok(())
    }
}
