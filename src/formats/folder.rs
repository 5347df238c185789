//! A folder of text files: `sci.space/60200.txt` is a text with the label `sci.space`.
//!
//! The id is the path within the folder; files lie in the order of their paths, at any depth.
//! Hidden files and links to folders are passed over.

use std::fs;
use std::path::{Path, PathBuf};
use std::vec::IntoIter;

use super::parsed::{Parsed, Parts, ReadRows};
use super::place::At;
use super::source::{Progress, Source};
use super::{MAX_ROW_BYTES, Origin, ReadOptions, SourceKind, bad_row};
use crate::error::{Error, Result};
use crate::record::{self, RecordId};

/// The texts of a folder.
pub(super) struct Folder {
    root: PathBuf,
    files: IntoIter<PathBuf>,
    total: u64,
    label_field: String,
    pub progress: Progress,
}

impl Folder {
    /// Lists the files.
    pub fn open(root: &Path, options: &ReadOptions) -> Result<Self> {
        if matches!(options.source, Some(SourceKind::Vector | SourceKind::Code { .. })) {
            let place = root.display().to_string();
            return Err(Error::invalid(
                place,
                "a folder holds texts; name a file of vectors or codes",
            ));
        }
        let (mut files, mut bytes) = (Vec::new(), 0);
        list(root, &mut files, &mut bytes)?;
        files.sort();
        Ok(Self {
            root: root.to_path_buf(),
            total: files.len() as u64,
            files: files.into_iter(),
            label_field: options.label_field().to_owned(),
            progress: Progress::new(Some(bytes)),
        })
    }

    fn parts(&self, path: &Path, id: &str) -> Result<Parts> {
        let source = record::Source::Text(read(path, &self.progress)?);
        let label = id.rsplit_once('/').map(|(label, _)| (self.label_field.clone(), label.into()));
        Ok(Parts { id: Some(RecordId::new(id)?), source, fields: label.into_iter().collect() })
    }
}

/// Adds the files below `folder` and their bytes.
fn list(folder: &Path, files: &mut Vec<PathBuf>, bytes: &mut u64) -> Result<()> {
    for entry in fs::read_dir(folder).map_err(Error::io("list", folder))? {
        let entry = entry.map_err(Error::io("list", folder))?;
        if entry.file_name().as_encoded_bytes().starts_with(b".") {
            continue;
        }
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("read", &path))?;
        if kind.is_dir() {
            list(&path, files, bytes)?;
        } else {
            // Follows links to files; a dangling one is found when it is read.
            match fs::metadata(&path) {
                Ok(metadata) if !metadata.is_file() => continue,
                Ok(metadata) => *bytes += metadata.len(),
                Err(_) => {}
            }
            files.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path, progress: &Progress) -> Result<String> {
    let mut source = Source::open(&Origin::Path(path.to_path_buf())).map_err(|e| match e {
        Error::Invalid { message, .. } => bad_row(message),
        other => other,
    })?;
    let mut text = vec![0; source.len.unwrap_or(0).min(MAX_ROW_BYTES as u64) as usize + 1];
    let mut length = source.fill(&mut text)?;
    while length == text.len() {
        if length > MAX_ROW_BYTES {
            return Err(bad_row(format!("expected a text of at most {MAX_ROW_BYTES} bytes")));
        }
        // Compressed: the length is not known before the end.
        text.resize((2 * length).clamp(4096, MAX_ROW_BYTES + 1), 0);
        length += source.fill(&mut text[length..])?;
    }
    progress.add(source.progress.read());
    text.truncate(length);
    String::from_utf8(text).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        bad_row(format!("expected UTF-8 text, got another byte at {at}; convert it with iconv"))
    })
}

impl ReadRows for Folder {
    fn next_row(&mut self) -> Result<Option<Parsed>> {
        let Some(path) = self.files.next() else { return Ok(None) };
        let name = path.strip_prefix(&self.root).unwrap_or(&path);
        let row = match name.to_str() {
            // One separator on every system.
            Some(name) => self.parts(&path, &name.replace(std::path::MAIN_SEPARATOR, "/")),
            None => Err(bad_row("expected a file name in UTF-8")),
        };
        let at = At::File(name.display().to_string());
        Ok(Some(Parsed { at, row }))
    }

    fn checked_rows(&self) -> Option<u64> {
        Some(self.total)
    }
}
