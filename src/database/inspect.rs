//! Prints a data directory, or anything in it, as text: damaged or not, in use or not.

use std::path::Path;

use crate::error::{Error, Result};
use crate::model::Model;
use crate::store::{self, Item};

/// Gives everything in `path` to `each`: in a data directory, the directory of a collection, one
/// segment, a `MANIFEST`, a `FORMAT` or a model file. Nothing is changed and nothing locked: where
/// a process writes to the directory, its last group may look like a torn tail.
///
/// ```
/// # let (dir, database, notes) = include!(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/doc/notes.rs"));
/// use nearbit::database::inspect;
///
/// let mut puts = Vec::new();
/// inspect(dir.path(), &mut |item| {
///     assert!(!item.is_damage(), "{item:?}");
///     if item.what == "put" {
///         puts.push((item.number, item.id));
///     }
/// })?;
/// assert_eq!(puts, [(Some(0), Some("moon".to_owned())), (Some(1), Some("bread".to_owned()))]);
/// # Ok::<(), nearbit::Error>(())
/// ```
///
/// # Errors
/// There is nothing at `path`, or the operating system refuses; damage is no error here but an
/// [`Item`].
pub fn inspect(path: &Path, each: &mut dyn FnMut(Item)) -> Result<()> {
    if !store::exists(path)? {
        let name = path.display().to_string();
        return Err(Error::not_found("file", name, "name a data directory or a file in one"));
    }
    if path.extension().is_some_and(|end| end == "safetensors") {
        return inspect_model(path, each);
    }
    if !path.join("collections").is_dir() {
        return store::inspect(path, each);
    }
    for entry in store::list(path)? {
        let name = entry.file_name().unwrap_or_default().to_string_lossy();
        match &*name {
            "LOCK" => {}
            "FORMAT" => store::inspect(&entry, each)?,
            "models" => store::list(&entry)?.iter().try_for_each(|model| inspect(model, each))?,
            "collections" => {
                store::list(&entry)?.iter().try_for_each(|dir| store::inspect(dir, each))?;
            }
            "table" => whole(&entry, "table", "derived from the segments", each)?,
            "snapshots" => {
                let snapshots = store::list(&entry)?;
                snapshots.iter().try_for_each(|dir| whole(dir, "snapshot", "", each))?;
            }
            _ => whole(&entry, "unknown", "no part of the database", each)?,
        }
    }
    if !store::exists(&path.join("FORMAT"))? {
        each(Item::file(&path.join("FORMAT"), "damage", 0, "it is missing"));
    }
    Ok(())
}

/// A directory or file that is not looked into.
fn whole(path: &Path, what: &'static str, detail: &str, each: &mut dyn FnMut(Item)) -> Result<()> {
    each(Item::file(path, what, bytes(path)?, detail));
    Ok(())
}

/// The bytes of a file, or of all files in a directory.
fn bytes(path: &Path) -> Result<u64> {
    let metadata = path.symlink_metadata().map_err(Error::io("look for", path))?;
    if !metadata.is_dir() {
        return Ok(metadata.len());
    }
    store::list(path)?.iter().map(|path| bytes(path)).sum()
}

fn inspect_model(path: &Path, each: &mut dyn FnMut(Item)) -> Result<()> {
    let bytes = bytes(path)?;
    let item = match Model::load(path) {
        Ok(model) => {
            let layers: Vec<String> = model.info().encoder.iter().map(usize::to_string).collect();
            let (digest, width, input) = (model.digest(), model.width(), &model.info().input);
            let layers = layers.join(" > ");
            let detail = format!("{width} of {input}, layers {layers}, digest {digest}");
            Item::file(path, "model", bytes, detail)
        }
        Err(Error::Damaged { message, .. } | Error::Invalid { message, .. }) => {
            Item::file(path, "damage", bytes, message)
        }
        Err(error) => return Err(error),
    };
    each(item);
    Ok(())
}
