//! Replaces parts of a data directory: all of them or none, also when killed on the way.
//!
//! ```text
//! pending.new/   being made, and worth nothing until it is renamed
//! pending/       decided on: whoever comes next finishes it
//!   PLAN         what goes, what comes, and where that which goes is kept
//!   new/         what comes, under the names that it will have
//!   old/         what went, where it is not kept
//! ```
//!
//! The rename from `pending.new` to `pending` is the moment of decision; every step after it can be
//! done again. What goes is moved, never removed, until all that comes is in its place.

use std::path::{Component, Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::files::Files;
use super::format::check_format;
use crate::error::{Error, Result};

const MAKING: &str = "pending.new";
const DECIDED: &str = "pending";
const MAX_PLAN_BYTES: u64 = 64 << 20;

/// Paths from the data directory.
#[derive(Default, Serialize, Deserialize)]
struct Plan {
    /// Where what goes is kept; it is removed in the end where there is none.
    keep: Option<String>,
    goes: Vec<String>,
    comes: Vec<String>,
}

/// A replacement that is being prepared. Dropped before [`Replacement::decide`] it changes nothing.
pub struct Replacement {
    files: Files,
    dir: PathBuf,
    plan: Plan,
}

impl Replacement {
    /// Begins a replacement in the data directory `dir`, which nobody else may have open. What goes
    /// is kept in `keep`, a path from there.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn begin(dir: &Path, keep: Option<String>) -> Result<Self> {
        let files = Files::disk();
        files.remove_dir(&dir.join(MAKING))?;
        files.create_dir(&dir.join(MAKING).join("new"))?;
        Ok(Self { files, dir: dir.to_path_buf(), plan: Plan { keep, ..Plan::default() } })
    }

    /// Where that has to be written which is to come to `path`, in place of what is there. Its files
    /// have to be durable before the decision.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn place(&mut self, path: impl Into<String>) -> Result<PathBuf> {
        let path = path.into();
        check_path(&self.dir, &path)?;
        let place = self.root().join(&path);
        self.files.create_dir(place.parent().unwrap_or(&self.dir))?;
        self.plan.comes.push(path);
        Ok(place)
    }

    /// The directory that all places are in, as they will be in the data directory.
    pub fn root(&self) -> PathBuf {
        self.dir.join(MAKING).join("new")
    }

    /// Has `path` go.
    pub fn remove(&mut self, path: impl Into<String>) {
        self.plan.goes.push(path.into());
    }

    /// Takes back what was to come to `path`.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn take_back(&mut self, path: &str) -> Result<()> {
        self.plan.comes.retain(|comes| comes != path);
        self.files.remove_dir(&self.root().join(path))
    }

    /// Whether nothing is to change.
    pub fn is_empty(&self) -> bool {
        self.plan.goes.is_empty() && self.plan.comes.is_empty()
    }

    /// Changes nothing after all.
    ///
    /// # Errors
    /// Whatever the operating system refuses.
    pub fn give_up(self) -> Result<()> {
        self.files.remove_dir(&self.dir.join(MAKING))
    }

    /// Decides, and does it.
    ///
    /// # Errors
    /// Whatever the operating system refuses. Before the decision nothing is changed then; after it
    /// the next open goes on.
    pub fn decide(self) -> Result<()> {
        let making = self.dir.join(MAKING);
        self.files.sync_below(&making)?;
        let plan = serde_json::to_vec(&self.plan).unwrap_or_default();
        self.files.write_atomically(&making.join("PLAN"), &plan)?;
        self.files.rename(&making, &self.dir.join(DECIDED))?;
        self.files.sync_dir(&self.dir)?;
        finish_replacement(&self.dir).map(|_| ())
    }
}

/// Finishes a replacement that was decided on, and clears away one that was not; whether there was
/// one to finish. Nobody else may have the data directory open.
///
/// # Errors
/// [`Error::Invalid`] where a newer program wrote the directory, or what is to come into it;
/// [`Error::Damaged`] where its plan cannot be read; whatever the operating system refuses.
pub fn finish_replacement(dir: &Path) -> Result<bool> {
    let files = Files::disk();
    let decided = dir.join(DECIDED);
    for place in [dir, &decided.join("new")] {
        // What is damaged or missing may be what is to be replaced.
        if let Err(newer @ Error::Invalid { .. }) = check_format(place) {
            return Err(newer);
        }
    }
    files.remove_dir(&dir.join(MAKING))?;
    if !files.exists(&decided)? {
        return Ok(false);
    }
    let path = decided.join("PLAN");
    if files.exists(&path)? {
        let plan: Plan = serde_json::from_slice(&files.read(&path, MAX_PLAN_BYTES)?)
            .map_err(|flaw| Error::damaged(&path, None, flaw.to_string()))?;
        let keep = plan.keep.as_ref().map_or(decided.join("old"), |keep| dir.join(keep));
        for name in plan.goes.iter().chain(&plan.comes).chain(&plan.keep) {
            check_path(&path, name)?;
        }
        for goes in &plan.goes {
            move_to(&files, &dir.join(goes), &keep.join(goes))?;
        }
        for comes in &plan.comes {
            let new = decided.join("new").join(comes);
            if files.exists(&new)? {
                move_to(&files, &dir.join(comes), &keep.join(comes))?;
                move_to(&files, &new, &dir.join(comes))?;
            }
        }
        // Without its plan it is only in the way.
        files.remove_file(&path)?;
        files.sync_dir(&decided)?;
    }
    files.remove_dir(&decided)?;
    files.sync_dir(dir)?;
    Ok(true)
}

/// A plan names what is below the data directory and nothing else.
fn check_path(plan: &Path, name: &str) -> Result<()> {
    let mut components = Path::new(name).components();
    if !name.is_empty() && components.all(|part| matches!(part, Component::Normal(_))) {
        return Ok(());
    }
    Err(Error::damaged(plan, None, format!("{name:?} is no path in the data directory")))
}

/// Moves what stands at `from`, if anything does, durably.
fn move_to(files: &Files, from: &Path, to: &Path) -> Result<()> {
    if !files.exists(from)? {
        return Ok(());
    }
    let parents = [to.parent(), from.parent()];
    parents[0].map_or(Ok(()), |parent| files.create_dir(parent))?;
    files.rename(from, to)?;
    parents.into_iter().flatten().try_for_each(|parent| files.sync_dir(parent))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn write(path: &Path, text: &str) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    fn copy(from: &Path, to: &Path) {
        fs::create_dir_all(to).unwrap();
        for path in fs::read_dir(from).unwrap().map(|entry| entry.unwrap().path()) {
            let to = to.join(path.file_name().unwrap());
            match path.is_dir() {
                true => copy(&path, &to),
                false => assert!(fs::copy(&path, to).is_ok()),
            }
        }
    }

    /// Every state that the moves go through is taken for the one that a crash left.
    #[test]
    fn it_is_finished_from_wherever_it_was_interrupted() -> Result<()> {
        for keep in [None, Some("kept/1".to_owned())] {
            let dir = tempfile::tempdir().map_err(Error::io("create", "tempdir"))?;
            let root = dir.path();
            write(&root.join("a/one"), "old");
            write(&root.join("a/two"), "old");
            write(&root.join("b"), "old");
            let mut replacement = Replacement::begin(root, keep.clone())?;
            write(&replacement.place("a")?.join("one"), "new");
            write(&replacement.place("deep/c")?, "new");
            replacement.remove("b");
            let made = root.join(MAKING);
            let plan = serde_json::to_vec(&replacement.plan).unwrap();
            drop(replacement);
            write(&made.join("PLAN"), std::str::from_utf8(&plan).unwrap());
            // Not decided: nothing happens.
            let undecided = tempfile::tempdir().unwrap();
            copy(root, undecided.path());
            assert!(!finish_replacement(undecided.path())?);
            assert_eq!(read(&undecided.path().join("a/one")), "old");
            assert!(!undecided.path().join(MAKING).exists());

            fs::rename(&made, root.join(DECIDED)).unwrap();
            let old = keep.as_deref().map_or("pending/old".to_owned(), str::to_owned);
            let moves = [
                ("b".to_owned(), format!("{old}/b")),
                ("a".to_owned(), format!("{old}/a")),
                ("pending/new/a".to_owned(), "a".to_owned()),
                ("pending/new/deep/c".to_owned(), "deep/c".to_owned()),
            ];
            for done in 0..=moves.len() {
                let crashed = tempfile::tempdir().unwrap();
                copy(root, crashed.path());
                for (from, to) in &moves[..done] {
                    let to = crashed.path().join(to);
                    fs::create_dir_all(to.parent().unwrap()).unwrap();
                    fs::rename(crashed.path().join(from), to).unwrap();
                }
                assert!(finish_replacement(crashed.path())?, "{done} moves");
                assert!(!finish_replacement(crashed.path())?);
                let at = |name: &str| read(&crashed.path().join(name));
                assert_eq!((at("a/one").as_str(), at("deep/c").as_str()), ("new", "new"));
                assert_eq!((at("a/two").as_str(), at("b").as_str()), ("", ""));
                assert!(!crashed.path().join(DECIDED).exists());
                if let Some(keep) = &keep {
                    assert_eq!(at(&format!("{keep}/a/two")), "old");
                    assert_eq!(at(&format!("{keep}/b")), "old");
                }
            }
        }
        Ok(())
    }

    #[test]
    fn nothing_is_moved_where_a_newer_version_wrote() {
        for newer in ["FORMAT", "pending/new/FORMAT"] {
            let dir = tempfile::tempdir().unwrap();
            let root = dir.path();
            write(&root.join("a"), "old");
            write(&root.join("pending.new/x"), "half");
            write(&root.join("pending/new/a"), "new");
            let plan = Plan { comes: vec!["a".to_owned()], ..Plan::default() };
            write(&root.join("pending/PLAN"), &serde_json::to_string(&plan).unwrap());
            super::super::create_format(root).unwrap();
            let mut bytes = fs::read(root.join("FORMAT")).unwrap();
            bytes[8] = 99;
            let crc = crc32c::crc32c(&bytes[..12]);
            bytes[12..].copy_from_slice(&crc.to_le_bytes());
            fs::write(root.join(newer), bytes).unwrap();
            let refused = finish_replacement(root).unwrap_err().to_string();
            assert!(refused.contains("it has format version 99"), "{refused}");
            assert_eq!(
                (read(&root.join("a")).as_str(), read(&root.join("pending.new/x")).as_str()),
                ("old", "half")
            );
        }
    }

    #[test]
    fn a_plan_that_names_other_places_is_refused() {
        for name in ["../x", "/etc/x", "a/../../x", ""] {
            let dir = tempfile::tempdir().unwrap();
            let plan = Plan { goes: vec![name.to_owned()], ..Plan::default() };
            let plan = serde_json::to_string(&plan).unwrap();
            write(&dir.path().join("pending/PLAN"), &plan);
            assert!(matches!(finish_replacement(dir.path()), Err(Error::Damaged { .. })));
        }
    }
}
