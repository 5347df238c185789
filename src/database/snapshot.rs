//! Snapshots of a whole database, and going back to one.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::{Database, is_new, names};
use crate::error::{Error, Result};
use crate::store::{self, Finding, Replacement, SnapshotManifest, Snapshots};

/// A snapshot, described.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let snapshot = database.create_snapshot("before-the-move")?;
/// assert_eq!(snapshot.collections, [("notes".to_owned(), 2)]);
/// assert!(snapshot.dir.join("collections/notes/MANIFEST").exists());
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Snapshot {
    /// The name.
    pub name: String,
    /// Where it is: a directory that can be copied elsewhere as a whole.
    pub dir: PathBuf,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The collections, and how many records each has.
    pub collections: Vec<(String, u64)>,
    /// Records of all collections.
    pub records: u64,
    /// Files in it.
    pub files: u64,
    /// Their bytes. Sealed segments share theirs with the database, where the file system allows.
    pub bytes: u64,
}

impl Snapshot {
    fn new(manifest: SnapshotManifest, dir: PathBuf) -> Self {
        Self {
            dir,
            created: manifest.created,
            records: manifest.records(),
            files: manifest.files.len() as u64,
            bytes: manifest.bytes(),
            collections: manifest.collections,
            name: manifest.name,
        }
    }
}

impl Database {
    /// Makes a snapshot of all collections and models, in `snapshots/<name>`. Writers go on: of each
    /// collection it has what was acknowledged when its turn came, and whole groups only.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// database.create_snapshot("monday")?;
    /// assert!(database.create_snapshot("monday").is_err()); // there is one of that name
    /// assert!(database.create_snapshot("../monday").is_err());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A name that is taken or not allowed: 1 to 64 of `a-z`, `0-9`, `.`, `_` and `-`, beginning
    /// with a letter or digit, without `..`; a collection that could not be opened; a disk that does
    /// not answer.
    pub fn create_snapshot(&self, name: &str) -> Result<Snapshot> {
        // No collection comes or goes meanwhile.
        let _one_at_a_time = self.making_locked();
        if let Some((_, error)) = self.unopened().into_iter().next() {
            // Nobody is to believe that it is safe.
            return Err(error);
        }
        let snapshots = Snapshots::of(self.dir());
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let manifest = snapshots.create(name, now.as_secs(), |making| {
            store::link_or_copy(&self.dir().join("FORMAT"), &making.join("FORMAT"))?;
            let models = making.join("models");
            store::create_dir(&models)?;
            for name in names(&self.dir().join("models"))? {
                if name.ends_with(".safetensors") {
                    store::link_or_copy(
                        &self.dir().join("models").join(&name),
                        &models.join(name),
                    )?;
                }
            }
            let folder = making.join("collections");
            store::create_dir(&folder)?;
            let collections = self.collections();
            collections
                .iter()
                .map(|collection| {
                    let records = collection.copy_into(&folder.join(collection.name()))?;
                    Ok((collection.name().to_owned(), records))
                })
                .collect()
        })?;
        Ok(Snapshot::new(manifest, snapshots.path(name)?))
    }

    /// The snapshots, by name.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// database.create_snapshot("monday")?;
    /// assert_eq!(database.snapshots()?[0].name, "monday");
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// One whose manifest is damaged; a disk that does not answer.
    pub fn snapshots(&self) -> Result<Vec<Snapshot>> {
        list_snapshots(self.dir())
    }

    /// What is not in a snapshot as it was put there: see [`verify_snapshot`].
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// database.create_snapshot("monday")?;
    /// assert!(database.verify_snapshot("monday")?.is_empty());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none of that name; a disk that does not answer.
    pub fn verify_snapshot(&self, name: &str) -> Result<Vec<Finding>> {
        verify_snapshot(&Snapshots::of(self.dir()).find(name)?)
    }

    /// Deletes a snapshot.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// database.create_snapshot("monday")?;
    /// database.delete_snapshot("monday")?;
    /// assert!(database.delete_snapshot("monday").is_err());
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// There is none of that name; a disk that does not answer.
    pub fn delete_snapshot(&self, name: &str) -> Result<()> {
        let _one_at_a_time = self.making_locked();
        Snapshots::of(self.dir()).delete(name)
    }
}

/// The snapshots of the data directory `dir`, which need not be one that opens, by name.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// assert!(nearbit::database::list_snapshots(dir.path())?.is_empty());
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// One whose manifest is damaged; a disk that does not answer.
pub fn list_snapshots(dir: &Path) -> Result<Vec<Snapshot>> {
    let snapshots = Snapshots::of(dir);
    let names = snapshots.names()?;
    names.iter().map(|name| describe_snapshot(&snapshots.path(name)?)).collect()
}

/// The snapshot of this name in the data directory `dir`, which need not be one that opens.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::database::find_snapshot;
///
/// let made = database.create_snapshot("monday")?;
/// assert_eq!(find_snapshot(dir.path(), "monday")?, made.dir);
/// assert!(find_snapshot(dir.path(), "tuesday").is_err());
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// There is none; a name that is not allowed.
pub fn find_snapshot(dir: &Path, name: &str) -> Result<PathBuf> {
    Snapshots::of(dir).find(name)
}

/// The snapshot in the directory `dir`, described.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let made = database.create_snapshot("monday")?;
/// assert_eq!(nearbit::database::describe_snapshot(&made.dir)?, made);
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// Its manifest is damaged, or a newer program made it.
pub fn describe_snapshot(dir: &Path) -> Result<Snapshot> {
    Ok(Snapshot::new(SnapshotManifest::read(dir)?, dir.to_path_buf()))
}

/// Puts the snapshot in the directory `from` into one file, a tar archive compressed with zstd, which
/// is durable then; how long it is.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::database::{pack_snapshot, unpack_snapshot, verify_snapshot};
///
/// let made = database.create_snapshot("monday")?;
/// let (archive, elsewhere) = (dir.path().join("monday.tar.zst"), dir.path().join("elsewhere"));
/// pack_snapshot(&made.dir, &archive)?;
/// assert_eq!(unpack_snapshot(&archive, &elsewhere)?.records, 2);
/// assert!(verify_snapshot(&elsewhere)?.is_empty());
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// [`Error::Exists`] where there is something at `to`; [`Error::Damaged`] where the snapshot is not
/// what was made; a disk that does not answer.
pub fn pack_snapshot(from: &Path, to: &Path) -> Result<u64> {
    store::pack(from, to)
}

/// Makes the directory `to`, a snapshot to restore from, of an archive that [`pack_snapshot`] made.
/// The archive may come from anywhere: all that is in it is compared with what it says of itself.
///
/// # Errors
/// [`Error::Exists`] where there is something at `to`; [`Error::Damaged`] where the archive is not
/// what was made; a disk that does not answer. Nothing is at `to` then.
pub fn unpack_snapshot(archive: &Path, to: &Path) -> Result<Snapshot> {
    Ok(Snapshot::new(store::unpack(archive, to)?, to.to_path_buf()))
}

/// What is not as it was put into the snapshot in the directory `dir`: files that are missing or
/// more, that have another length or other bytes, and collections that do not pass a check or have
/// another number of records.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::database::verify_snapshot;
///
/// let made = database.create_snapshot("monday")?;
/// std::fs::write(made.dir.join("FORMAT"), "no").unwrap();
/// let found = verify_snapshot(&made.dir)?;
/// assert!(found[0].to_string().contains("FORMAT: expected 16 bytes, got 2"), "{found:?}");
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// A disk that does not answer, a snapshot that a newer program made.
pub fn verify_snapshot(dir: &Path) -> Result<Vec<Finding>> {
    let manifest = match SnapshotManifest::read(dir) {
        Err(newer @ Error::Invalid { .. }) => return Err(newer),
        Err(error) => return Ok(vec![Finding::from_error(error)?]),
        Ok(manifest) => manifest,
    };
    let mut findings = manifest.compare(dir)?;
    if findings.is_empty() {
        findings = check_collections(&manifest, &dir.join("collections"))?;
    }
    Ok(findings)
}

/// Whether the collections in `folder` are sound and have as many records as the manifest says.
fn check_collections(manifest: &SnapshotManifest, folder: &Path) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    for (name, records) in &manifest.collections {
        let folder = folder.join(name);
        let checked = store::check(&folder, None)?;
        findings.extend(checked.findings);
        if checked.records != *records {
            let message = format!("expected {records} records, got {}", checked.records);
            findings.push(Finding::of(folder, message));
        }
    }
    Ok(findings)
}

/// Makes the data directory `dir`, which nobody has open, what the snapshot in the directory `from`
/// holds. Where there are collections or models in it already they are replaced, all of them, if
/// `replace` says so; its snapshots stay.
///
/// Everything is copied to a place aside and checked there; then the new takes the place of the old
/// at once. An error before that, or a kill, leaves the old as it was. `from` may be copied from
/// another machine.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::Database;
/// use nearbit::database::restore;
///
/// let snapshot = database.create_snapshot("monday")?;
/// database.delete_collection("notes")?;
/// drop((database, notes));
///
/// restore(dir.path(), &snapshot.dir, true)?;
/// assert_eq!(Database::open(&dir)?.collection("notes")?.info().records, 2);
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// [`Error::Damaged`] where the snapshot is not what was made; [`Error::Exists`] where there is
/// something to replace and `replace` does not say so; a directory that a process holds or that is
/// no database; a disk that does not answer.
pub fn restore(dir: &Path, from: &Path, replace: bool) -> Result<Snapshot> {
    let manifest = SnapshotManifest::read(from)?;
    if let Some(stranger) = manifest.strangers(from)?.into_iter().next() {
        return Err(Error::damaged(stranger.file, None, stranger.message));
    }
    store::create_dir(dir)?;
    let decided = store::exists(&dir.join("pending"))?;
    if !decided && !store::exists(&dir.join("FORMAT"))? {
        // Refuses a directory that is something else.
        is_new(dir)?;
    }
    let _lock = store::lock(dir)?;
    store::finish_replacement(dir)?;
    let mut there = Vec::new();
    for folder in ["collections", "models"] {
        if store::exists(&dir.join(folder))? {
            let names = names(&dir.join(folder))?;
            there.extend(names.into_iter().map(|name| format!("{folder}/{name}")));
        }
    }
    if !there.is_empty() && !replace {
        return Err(Error::Exists {
            kind: "database",
            name: dir.display().to_string(),
            hint: "restore into another directory, or have it replaced (--replace)".to_owned(),
        });
    }
    let mut replacement = Replacement::begin(dir, None)?;
    let prepared = prepare(&manifest, from, &mut replacement);
    if let Err(error) = prepared {
        // What matters is the first error; the next open clears the rest away.
        let _ = replacement.give_up();
        return Err(error);
    }
    there.into_iter().for_each(|path| replacement.remove(path));
    replacement.remove("table");
    replacement.decide()?;
    Ok(Snapshot::new(manifest, from.to_path_buf()))
}

/// Copies a snapshot to where the replacement wants it, and checks the copy.
fn prepare(manifest: &SnapshotManifest, from: &Path, replacement: &mut Replacement) -> Result<()> {
    let collections = manifest.collections.iter().map(|(name, _)| format!("collections/{name}"));
    let collections: Vec<String> = collections.collect();
    let root = replacement.root();
    for path in &collections {
        replacement.place(path.as_str())?;
    }
    for file in &manifest.files {
        let path = Path::new(&file.path);
        if path == Path::new("FORMAT") || path.starts_with("models") {
            replacement.place(file.path.as_str())?;
        } else if !collections.iter().any(|collection| path.starts_with(collection)) {
            return Err(Error::damaged(from.join(path), None, "it is no file of a database"));
        }
        let to = root.join(&file.path);
        store::create_dir(to.parent().unwrap_or(&root))?;
        file.copy_from(from, &to)?;
    }
    store::check_format(&root)?;
    let findings = check_collections(manifest, &root.join("collections"))?;
    match findings.into_iter().next() {
        None => Ok(()),
        Some(finding) => Err(Error::damaged(finding.file, finding.offset, finding.message)),
    }
}
