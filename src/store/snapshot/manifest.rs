//! What a snapshot says of itself, and whether that is so.

use std::path::{Component, Path};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::store::files::Files;
use crate::store::finding::Finding;

/// Its file.
pub(super) const MANIFEST: &str = "SNAPSHOT";
pub(super) const MAX_MANIFEST_BYTES: u64 = 256 << 20;
pub(super) const VERSION: u32 = 1;

/// What a snapshot says of itself.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Manifest {
    /// The version of this manifest.
    pub version: u32,
    /// The name that it was given.
    pub name: String,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// The collections and how many live records each has.
    pub collections: Vec<(String, u64)>,
    /// Every other file in it, by path.
    pub files: Vec<SnapshotFile>,
}

/// A file of a snapshot.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SnapshotFile {
    /// Where it is, from the directory of the snapshot.
    pub path: String,
    /// Its length.
    pub bytes: u64,
    /// The BLAKE3 of its bytes, in hexadecimal digits.
    pub blake3: String,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().fold(0, |sum, file| sum.saturating_add(file.bytes))
    }

    /// Live records of all collections.
    pub fn records(&self) -> u64 {
        self.collections.iter().fold(0, |sum, (_, records)| sum.saturating_add(*records))
    }

    /// Reads what the snapshot in `dir` says of itself.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not what was written, or names what is outside of the
    /// snapshot; [`Error::Invalid`] where a newer program made it.
    pub fn read(dir: &Path) -> Result<Self> {
        let path = dir.join(MANIFEST);
        Self::parse(Files::disk().read(&path, MAX_MANIFEST_BYTES)?, &path)
    }

    /// The manifest in the bytes of the file at `path`; errors as [`Manifest::read`] has them.
    pub(in crate::store) fn parse(bytes: Vec<u8>, path: &Path) -> Result<Self> {
        let damaged = |flaw: String| Error::damaged(path, None, flaw);
        let text = String::from_utf8(bytes).map_err(|flaw| damaged(flaw.to_string()))?;
        let (json, digest) = text.split_once('\n').unwrap_or((&text, ""));
        let got = blake3::hash(json.as_bytes()).to_hex();
        if digest != format!("{got}\n") {
            let digest: String = digest.chars().take(64).collect();
            return Err(damaged(format!("expected the checksum {digest:?}, got {got}")));
        }
        let version: Version =
            serde_json::from_str(json).map_err(|flaw| damaged(flaw.to_string()))?;
        if version.version != VERSION {
            let got = version.version;
            let message = format!("expected a snapshot of version {VERSION}, got {got}");
            return Err(Error::invalid(path.display().to_string(), message));
        }
        let manifest: Self =
            serde_json::from_str(json).map_err(|flaw| damaged(flaw.to_string()))?;
        for file in &manifest.files {
            if !is_inside(&file.path) {
                let name = &file.path;
                return Err(damaged(format!("{name:?} is no path in a snapshot")));
            }
        }
        if !manifest.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err(damaged("a file stands twice, or out of order".to_owned()));
        }
        Ok(manifest)
    }

    pub(super) fn write(&self, files: &Files, dir: &Path) -> Result<()> {
        files.write_atomically(&dir.join(MANIFEST), self.to_text().as_bytes())
    }

    /// The text of the file.
    pub(in crate::store) fn to_text(&self) -> String {
        let json = serde_json::to_string(self).unwrap_or_default();
        format!("{json}\n{}\n", blake3::hash(json.as_bytes()).to_hex())
    }

    /// Compares the files of the snapshot in `dir` with what they should be: each is there, is as
    /// long and has the same bytes, and there is no other.
    ///
    /// # Errors
    /// Whatever the operating system refuses; what differs is no error but a [`Finding`].
    pub fn compare(&self, dir: &Path) -> Result<Vec<Finding>> {
        let files = Files::disk();
        let mut findings = self.strangers(dir)?;
        for file in &self.files {
            let path = dir.join(&file.path);
            if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
                findings.push(Finding::of(path, "it is missing, or no plain file"));
                continue;
            }
            if let Err(error) = file.check(digest(&files, &path)?, &path) {
                findings.push(Finding::from_error(error)?);
            }
        }
        Ok(findings)
    }

    /// Which of the files has this path.
    pub(super) fn position(&self, path: &str) -> Option<usize> {
        self.files.binary_search_by(|file| (*file.path).cmp(path)).ok()
    }

    /// What stands in the snapshot in `dir` and does not belong there.
    pub fn strangers(&self, dir: &Path) -> Result<Vec<Finding>> {
        let known = |path: &str| path == MANIFEST || self.position(path).is_some();
        let mut found = Vec::new();
        paths_below(&Files::disk(), dir, Path::new(""), &mut found)?;
        let strangers = found.into_iter().filter(|path| !known(path));
        Ok(strangers.map(|path| Finding::of(dir.join(path), "SNAPSHOT does not name it")).collect())
    }
}

/// What every version of the manifest has.
#[derive(Deserialize)]
struct Version {
    version: u32,
}

impl SnapshotFile {
    /// Copies the file from the snapshot in `dir` to `to`, durable but for its name, and checks what
    /// was written.
    ///
    /// # Errors
    /// [`Error::Damaged`] where it is not what was put into the snapshot; whatever the operating
    /// system refuses.
    pub fn copy_from(&self, dir: &Path, to: &Path) -> Result<()> {
        let files = Files::disk();
        let path = dir.join(&self.path);
        if !path.symlink_metadata().is_ok_and(|metadata| metadata.is_file()) {
            return Err(Error::damaged(path, None, "it is missing, or no plain file"));
        }
        let from = files.open_to_read(&path)?;
        if from.len()? == self.bytes {
            files.copy(&from, self.bytes, to)?;
            return self.check(digest(&files, to)?, &path);
        }
        self.check((from.len()?, String::new()), &path)
    }

    /// Compares length and digest of the file at `path` with what they should be.
    pub(super) fn check(&self, (bytes, blake3): (u64, String), path: &Path) -> Result<()> {
        if bytes != self.bytes {
            let message = format!("expected {} bytes, got {bytes}", self.bytes);
            return Err(Error::damaged(path, None, message));
        }
        if blake3 != self.blake3 {
            let message = format!("expected the BLAKE3 {}, got {blake3}", self.blake3);
            return Err(Error::damaged(path, None, message));
        }
        Ok(())
    }
}

/// Length and BLAKE3 of a file.
pub(super) fn digest(files: &Files, path: &Path) -> Result<(u64, String)> {
    let file = files.open_to_read(path)?;
    let length = file.len()?;
    let mut hasher = blake3::Hasher::new();
    file.read_pieces(length, |_, piece| {
        hasher.update(piece);
        Ok(())
    })?;
    Ok((length, hasher.finalize().to_hex().to_string()))
}

/// The files below `dir`, as paths from there with forward slashes; links are files here.
pub(super) fn paths_below(
    files: &Files,
    dir: &Path,
    below: &Path,
    found: &mut Vec<String>,
) -> Result<()> {
    for path in files.list(dir)? {
        let below = below.join(path.file_name().unwrap_or_default());
        match files.is_dir(&path)? {
            true => paths_below(files, &path, &below, found)?,
            false => found.push(below.to_string_lossy().into_owned()),
        }
    }
    Ok(())
}

/// Whether a path goes only down.
fn is_inside(path: &str) -> bool {
    let mut components = Path::new(path).components();
    !path.is_empty() && components.all(|part| matches!(part, Component::Normal(_)))
}
