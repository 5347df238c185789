//! Checks a database as a whole, and repairs one that is damaged.
//!
//! A repair writes new files beside the old ones and then has them take their place (all at once,
//! also when it is killed); what was damaged is kept in a directory in `lost+found`.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use super::{Database, folders};
use crate::collection::Settings;
use crate::encoder::EncoderInfo;
use crate::error::{Error, Result};
use crate::model::Model;
use crate::store::{self, Checked, FORMAT_VERSION, Finding, Replacement, Salvaged, Table};

/// What a check of a database found.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// let report = database.check()?;
/// assert_eq!((report.collections, report.records), (1, 2));
/// assert!(report.findings.is_empty());
/// # Ok::<(), nearbit::Error>(())
/// ```
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Report {
    /// Collections.
    pub collections: u64,
    /// Models.
    pub models: u64,
    /// Live records in all collections.
    pub records: u64,
    /// Bytes of segments that were read.
    pub bytes: u64,
    /// Entries of the table that were compared with them.
    pub table_entries: u64,
    /// What is damaged.
    pub findings: Vec<Finding>,
    /// What is no damage: what an interrupted write left, which the next open clears away.
    pub notes: Vec<Finding>,
}

impl Report {
    fn add(&mut self, checked: Checked) {
        self.collections += 1;
        self.records += checked.records;
        self.bytes += checked.bytes;
        self.table_entries += checked.table_entries;
        self.findings.extend(checked.findings);
        self.notes.extend(checked.notes);
    }

    /// Takes an error that is about stored bytes for a finding.
    fn note(&mut self, result: Result<()>) -> Result<()> {
        if let Err(error) = result {
            let finding = Finding::from_error(error)?;
            // A model is looked at as a file, and for each collection that it encodes for.
            if !self.findings.contains(&finding) {
                self.findings.push(finding);
            }
        }
        Ok(())
    }
}

/// What a repair did.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct Repaired {
    /// What was found before.
    pub report: Report,
    /// What was done, in words.
    pub done: Vec<String>,
    /// What could not be saved.
    pub lost: Vec<Finding>,
    /// Where the damaged files are now.
    pub kept_in: Option<PathBuf>,
}

impl Database {
    /// Checks everything while it is used: each checksum of each file, and that the hash table and
    /// the index hold what the segments hold. Writers go on.
    ///
    /// ```
    /// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
    /// for finding in database.check()?.findings {
    ///     eprintln!("{finding}");
    /// }
    /// # Ok::<(), nearbit::Error>(())
    /// ```
    ///
    /// # Errors
    /// A disk that does not answer. Damage is no error but a [`Finding`].
    pub fn check(&self) -> Result<Report> {
        let mut report = Report::default();
        report.note(store::check_format(self.dir()).map(|_| ()))?;
        check_models(self.dir(), &mut report)?;
        for (_, error) in self.unopened() {
            report.note(Err(error))?;
        }
        for collection in self.collections() {
            match collection.check_stored() {
                // It was deleted meanwhile.
                Err(Error::NotFound { .. }) => {}
                checked => report.add(checked?),
            }
        }
        Ok(report)
    }
}

/// Checks the database in `dir`, which nobody has open, as [`Database::check`] does; it need not
/// be one that opens. Nothing in it is changed: the hash table is looked at in a copy, in the
/// directory for temporary files.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// drop((database, notes));
/// assert!(nearbit::database::check(dir.path())?.findings.is_empty());
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// A directory that a process holds, or that is no database; a newer version; a disk that does not
/// answer. Damage is no error but a [`Finding`].
pub fn check(dir: &Path) -> Result<Report> {
    let lock = dir.join("LOCK");
    let _lock = if store::exists(&lock)? { Some(store::lock(dir)?) } else { None };
    check_unlocked(dir)
}

fn check_unlocked(dir: &Path) -> Result<Report> {
    if !dir.join("collections").is_dir() {
        let name = dir.display().to_string();
        return Err(Error::not_found("data directory", name, "name one that holds collections"));
    }
    let mut report = Report::default();
    match store::check_format(dir) {
        // What a newer program made is none of this one's business.
        Err(newer @ Error::Invalid { .. }) => return Err(newer),
        checked => report.note(checked.map(|_| ()))?,
    }
    if dir.join("pending").exists() {
        let message = "a repair or restore was interrupted; the next open finishes it";
        report.notes.push(Finding::of(dir.join("pending"), message));
    }
    check_models(dir, &mut report)?;
    let scratch = Scratch::new()?;
    let table = copied_table(dir, &scratch, &mut report)?;
    for name in folders(&dir.join("collections"))? {
        let folder = dir.join("collections").join(name);
        let mut checked = store::check(&folder, table.as_ref())?;
        for finding in checked.findings.iter_mut().chain(&mut checked.notes) {
            if finding.file.starts_with(&scratch.0) {
                finding.file = dir.join("table");
            }
        }
        report.add(checked);
        report.note(encoder_of(dir, &folder).map(|_| ()))?;
    }
    Ok(report)
}

fn check_models(dir: &Path, report: &mut Report) -> Result<()> {
    for path in model_files(dir)? {
        report.models += 1;
        report.note(Model::load(&path).map(|_| ()))?;
    }
    Ok(())
}

fn model_files(dir: &Path) -> Result<Vec<PathBuf>> {
    let models = dir.join("models");
    let mut listed = if store::exists(&models)? { store::list(&models)? } else { Vec::new() };
    listed.retain(|path| path.extension().is_some_and(|end| end == "safetensors"));
    Ok(listed)
}

/// The settings of a collection, after a look at the model that they name. A collection that was
/// half made has none.
fn encoder_of(dir: &Path, folder: &Path) -> Result<Option<Settings>> {
    let Some(bytes) = store::settings_in(folder)? else { return Ok(None) };
    let settings = Settings::from_bytes(&bytes, folder)?;
    if let EncoderInfo::Model { name, digest } = &settings.encoder {
        let path = dir.join("models").join(format!("{name}.safetensors"));
        let found = Model::load(&path)?.digest().to_string();
        if found != *digest {
            let message = format!("expected the model with digest {digest}, got {found}");
            return Err(Error::damaged(path, None, message));
        }
    }
    Ok(Some(settings))
}

/// A directory for temporary files, removed in the end.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("nearbit-check-{}", uuid::Uuid::now_v7()));
        fs::create_dir(&path).map_err(Error::io("create", &path))?;
        Ok(Self(path))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // What stays is of no use and in nobody's way.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Opens a copy of the table: sled writes to what it opens.
fn copied_table(dir: &Path, scratch: &Scratch, report: &mut Report) -> Result<Option<Table>> {
    let table = dir.join("table");
    if !store::exists(&table)? {
        return Ok(None);
    }
    let copy = scratch.0.join("table");
    copy_dir(&table, &copy)?;
    let opened = Table::open(&copy)?;
    if opened.rebuilt() {
        let message = "it does not open; the next open fills it again from the segments";
        report.findings.push(Finding::of(table, message));
        return Ok(None);
    }
    Ok(Some(opened))
}

fn copy_dir(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir(to).map_err(Error::io("create", to))?;
    for path in store::list(from)? {
        let to = to.join(path.file_name().unwrap_or_default());
        match path.is_dir() {
            true => copy_dir(&path, &to)?,
            false => drop(fs::copy(&path, &to).map_err(Error::io("copy", &path))?),
        }
    }
    Ok(())
}

/// Repairs the database in `dir`, which nobody has open: keeps what is intact, and says what is
/// lost. Where nothing is damaged nothing is changed.
///
/// - A damaged collection is written anew from its intact records, which get new numbers in the same
///   order.
/// - A damaged model is taken out. Collections that it encoded for become collections of codes, as
///   do those whose settings are lost; records are found by id and by code as before.
/// - A damaged hash table is taken out; the next open makes it anew.
///
/// What was damaged is kept in `lost+found`. Killed on the way, a repair leaves all as it was or
/// all repaired.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// drop((database, notes));
/// let segment = dir.path().join("collections/notes/segments/00000001.seg");
/// let mut bytes = std::fs::read(&segment).unwrap();
/// bytes[120] ^= 1; // in the first record
/// std::fs::write(&segment, bytes).unwrap();
/// assert!(nearbit::Database::open(&dir)?.collection("notes").is_err());
///
/// let repaired = nearbit::database::repair(dir.path())?;
/// assert_eq!(repaired.lost[0].id.as_deref(), Some("moon"));
/// assert_eq!(nearbit::Database::open(&dir)?.collection("notes")?.info().records, 1);
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// As [`check`].
pub fn repair(dir: &Path) -> Result<Repaired> {
    if !dir.join("collections").is_dir() {
        return check_unlocked(dir).map(|_| Repaired::default());
    }
    let _lock = store::lock(dir)?;
    store::finish_replacement(dir)?;
    let report = check_unlocked(dir)?;
    let mut repaired = Repaired { report, ..Repaired::default() };
    if repaired.report.findings.is_empty() {
        return Ok(repaired);
    }
    let keep = free_name(dir)?;
    let damaged: BTreeSet<PathBuf> =
        repaired.report.findings.iter().map(|finding| finding.file.clone()).collect();
    // Where FORMAT is damaged it will be of the newest.
    let version = store::check_format(dir).unwrap_or(FORMAT_VERSION);
    let mut replacement = Replacement::begin(dir, Some(keep.clone()))?;
    let scratch = Scratch::new()?;
    let table = Table::open(&scratch.0.join("table"))?;
    for path in model_files(dir)? {
        if damaged.contains(&path) {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            repaired.done.push(format!("took out the model {name}"));
            repaired.lost.push(Finding::of(&path, "the model is lost"));
            replacement.remove(format!("models/{name}"));
        }
    }
    for name in folders(&dir.join("collections"))? {
        let folder = dir.join("collections").join(&name);
        let encoder = encoder_of(dir, &folder);
        if let Err(Error::NotFound { name, .. }) = &encoder {
            repaired.lost.push(Finding::of(name, "the model is missing"));
        }
        if encoder.is_err() || !store::check(&folder, None)?.findings.is_empty() {
            let has_settings = matches!(encoder, Ok(Some(_)));
            let place = replacement.place(format!("collections/{name}"))?;
            let salvaged = store::salvage(&folder, &place, version, &table, |known, width| {
                let codes = || Settings::of_codes(width, known);
                encoder.ok().flatten().unwrap_or_else(codes).to_bytes()
            });
            repaired.collection(&name, has_settings, salvaged, &mut replacement)?;
        }
    }
    if damaged.contains(&dir.join("table")) {
        repaired.done.push("took out the hash table, which the next open makes anew".to_owned());
        replacement.remove("table");
    }
    if damaged.contains(&dir.join("FORMAT")) {
        let kept = dir.join(&keep);
        store::create_dir(&kept)?;
        if dir.join("FORMAT").exists() {
            let copied = fs::copy(dir.join("FORMAT"), kept.join("FORMAT"));
            copied.map_err(Error::io("copy", dir.join("FORMAT")))?;
        }
        store::create_format(dir)?;
        repaired.done.push("wrote FORMAT anew".to_owned());
    }
    match replacement.is_empty() {
        true => replacement.give_up()?,
        false => replacement.decide()?,
    }
    repaired.kept_in = Some(dir.join(keep));
    Ok(repaired)
}

impl Repaired {
    /// What came of a collection.
    fn collection(
        &mut self,
        name: &str,
        has_settings: bool,
        salvaged: Result<Salvaged>,
        replacement: &mut Replacement,
    ) -> Result<()> {
        match salvaged {
            Ok(salvaged) => {
                let records = salvaged.records;
                self.done.push(format!("wrote {name} anew with {records} records"));
                if !has_settings {
                    self.done.push(format!("{name} is a collection of codes now, without encoder"));
                }
                self.lost.extend(salvaged.lost);
            }
            Err(Error::Damaged { file, message, .. }) => {
                let path = format!("collections/{name}");
                replacement.take_back(&path)?;
                replacement.remove(path);
                self.done.push(format!("took out {name}, of which nothing can be read"));
                self.lost.push(Finding::of(file, message));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

/// A name in `lost+found` that is not taken.
fn free_name(dir: &Path) -> Result<String> {
    for n in 1u32.. {
        let name = format!("lost+found/{n}");
        if !store::exists(&dir.join(&name))? {
            return Ok(name);
        }
    }
    Err(Error::invalid(dir.display().to_string(), "lost+found is full"))
}
