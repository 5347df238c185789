//! A snapshot as one file: a tar archive, compressed with zstd.
//!
//! ```text
//! SNAPSHOT                                         first, so that it says what may follow
//! FORMAT  collections/...  models/...              the files that it names, in its order
//! ```
//!
//! An archive may come from anywhere, so nothing in it is believed. Its entries are plain files that
//! SNAPSHOT names, each once, of the length and the BLAKE3 that it tells. Links, directories, and
//! the long names and sparse files that other formats of tar know are refused. The archive is written
//! under another name, ending with `.new`, and renamed when it is whole; what is unpacked as well.

use std::fs;
use std::io::{BufRead, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use tar::{Archive, Builder, Entry, EntryType, Header};

use super::manifest::{MANIFEST, MAX_MANIFEST_BYTES, Manifest, SnapshotFile, digest};
use crate::error::{Error, Result};
use crate::store::files::{Files, aside};

/// What zstd data begins with.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// Entries are copied in pieces of so many bytes.
const PIECE_BYTES: usize = 64 << 10;

/// Writes the snapshot in `from` into the archive `to`, which is durable then; how long it is.
///
/// # Errors
/// [`Error::Exists`] where there is something at `to`; [`Error::Damaged`] where a file is not what
/// was put into the snapshot; whatever the operating system refuses.
pub fn pack(from: &Path, to: &Path) -> Result<u64> {
    let (files, manifest, making) = (Files::disk(), Manifest::read(from)?, making(to)?);
    let packed = write(&files, from, &manifest, &making).and_then(|bytes| {
        files.rename(&making, to)?;
        files.sync_dir(parent(to))?;
        Ok(bytes)
    });
    if packed.is_err() {
        // What matters is the first error.
        let _ = files.remove_file(&making);
    }
    packed
}

fn write(files: &Files, from: &Path, manifest: &Manifest, to: &Path) -> Result<u64> {
    let failed = |error| Error::io("write", to)(error);
    let file = fs::File::create(to).map_err(Error::io("create", to))?;
    let compressed = zstd::Encoder::new(BufWriter::new(file), zstd::DEFAULT_COMPRESSION_LEVEL);
    let mut archive = Builder::new(compressed.map_err(failed)?);
    let paths = manifest.files.iter().map(|file| file.path.as_str());
    for path in std::iter::once(MANIFEST).chain(paths) {
        let source = from.join(path);
        let read = fs::File::open(&source).map_err(Error::io("read", &source))?;
        let bytes = read.metadata().map_err(Error::io("read", &source))?.len();
        if let Some(i) = manifest.position(path) {
            manifest.files[i].check(digest(files, &source)?, &source)?;
        }
        let mut header = Header::new_ustar();
        header.set_entry_type(EntryType::Regular);
        header.set_size(bytes);
        header.set_mode(0o644);
        header.set_mtime(manifest.created);
        // The name has to fit into a header of its own.
        header.set_path(path).map_err(failed)?;
        header.set_cksum();
        archive.append(&header, read.take(bytes)).map_err(failed)?;
    }
    let compressed = archive.into_inner().map_err(failed)?;
    let mut buffered = compressed.finish().map_err(failed)?;
    buffered.flush().map_err(failed)?;
    let file = buffered.into_inner().map_err(|error| failed(error.into_error()))?;
    file.sync_all().map_err(Error::io("sync", to))?;
    Ok(file.metadata().map_err(Error::io("read", to))?.len())
}

/// Makes the directory `to`, a snapshot, of an archive, which may be compressed or not.
///
/// # Errors
/// [`Error::Exists`] where there is something at `to`; [`Error::Damaged`] where the archive is not
/// what [`pack`] writes; whatever the operating system refuses. Nothing is at `to` then.
pub fn unpack(archive: &Path, to: &Path) -> Result<Manifest> {
    let (files, making) = (Files::disk(), making(to)?);
    let file = fs::File::open(archive).map_err(Error::io("open", archive))?;
    let mut file = BufReader::new(file);
    let start = file.fill_buf().map_err(Error::io("read", archive))?;
    let is_packed = start.starts_with(&ZSTD_MAGIC);
    // A tar archive says so in its first header; one of nothing is all zeros.
    if !is_packed && start.get(257..262) != Some(b"ustar") && start.first() != Some(&0) {
        let message = "expected an archive that snapshot pack wrote, tar compressed with zstd; this is \
                       another file";
        return Err(Error::invalid(archive.display().to_string(), message));
    }
    files.remove_dir(&making)?;
    files.create_dir(&making)?;
    let unpacked = match is_packed {
        true => zstd::Decoder::with_buffer(file)
            .map_err(Error::io("read", archive))
            .and_then(|decoder| read(&files, archive, decoder, &making)),
        false => read(&files, archive, file, &making),
    };
    let unpacked = unpacked.and_then(|manifest| {
        files.sync_below(&making)?;
        files.rename(&making, to)?;
        files.sync_dir(parent(to))?;
        Ok(manifest)
    });
    if unpacked.is_err() {
        // What matters is the first error.
        let _ = files.remove_dir(&making);
    }
    unpacked
}

fn read(files: &Files, archive: &Path, bytes: impl Read, to: &Path) -> Result<Manifest> {
    let damaged = |flaw: String| Error::damaged(archive, None, flaw);
    let mut tar = Archive::new(bytes);
    // Raw: as they are, without the formats' ways to describe an entry in another.
    let mut entries = tar.entries().map_err(|e| damaged(e.to_string()))?.raw(true);
    let mut manifest: Option<(Manifest, Vec<bool>)> = None;
    for entry in &mut entries {
        let mut entry = entry.map_err(|e| damaged(e.to_string()))?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if entry.header().entry_type() != EntryType::Regular {
            return Err(damaged(format!("{path:?} is no plain file")));
        }
        let Some((manifest, done)) = &mut manifest else {
            manifest = Some(begin(archive, &path, &mut entry, files, to)?);
            continue;
        };
        let Some(i) = manifest.position(&path) else {
            return Err(damaged(format!("SNAPSHOT does not name {path:?}")));
        };
        if std::mem::replace(&mut done[i], true) {
            return Err(damaged(format!("{path:?} stands twice")));
        }
        extract(files, archive, &manifest.files[i], &mut entry, &to.join(&path))?;
    }
    let Some((manifest, done)) = manifest else {
        return Err(damaged("expected an archive of a snapshot, got one without files".to_owned()));
    };
    match manifest.files.iter().zip(done).find(|(_, done)| !done) {
        Some((file, _)) => Err(damaged(format!("{:?} is missing", file.path))),
        None => Ok(manifest),
    }
}

/// The manifest, which is the first entry, and what of it is there: nothing yet.
fn begin(
    archive: &Path,
    path: &str,
    entry: &mut Entry<impl Read>,
    files: &Files,
    to: &Path,
) -> Result<(Manifest, Vec<bool>)> {
    let damaged = |flaw: String| Error::damaged(archive, None, flaw);
    if path != MANIFEST || entry.size() > MAX_MANIFEST_BYTES {
        return Err(damaged(format!(
            "expected {MANIFEST} first, of {MAX_MANIFEST_BYTES} bytes at most, got {path:?} of {}",
            entry.size()
        )));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|e| damaged(e.to_string()))?;
    files.write_atomically(&to.join(MANIFEST), &bytes)?;
    let manifest = Manifest::parse(bytes, &archive.join(MANIFEST))?;
    let done = vec![false; manifest.files.len()];
    Ok((manifest, done))
}

/// Writes an entry that should be `file` to `to`.
fn extract(
    files: &Files,
    archive: &Path,
    file: &SnapshotFile,
    entry: &mut Entry<impl Read>,
    to: &Path,
) -> Result<()> {
    let named = archive.join(&file.path);
    // Before a byte of it is written.
    if entry.size() != file.bytes {
        return file.check((entry.size(), String::new()), &named);
    }
    files.create_dir(parent(to))?;
    let written = files.create(to)?;
    let (mut piece, mut offset) = (vec![0; PIECE_BYTES], 0);
    loop {
        // A failed read is the archive's, a failed write the disk's.
        let count = entry.read(&mut piece);
        let count = count.map_err(|e| Error::damaged(archive, None, e.to_string()))?;
        if count == 0 {
            break;
        }
        written.write_at(&piece[..count], offset)?;
        offset += count as u64;
    }
    written.sync()?;
    file.check(digest(files, to)?, &named)
}

/// Where `to` is made before it gets its name.
fn making(to: &Path) -> Result<PathBuf> {
    if to.symlink_metadata().is_ok() {
        let hint = "choose another name or remove it first".to_owned();
        return Err(Error::Exists { kind: "file", name: to.display().to_string(), hint });
    }
    Ok(aside(to))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

#[cfg(test)]
mod tests {
    use super::super::{Snapshots, tests::fill};
    use super::*;

    struct Case {
        dir: tempfile::TempDir,
        snapshot: PathBuf,
    }

    fn case() -> Case {
        let dir = tempfile::tempdir().unwrap();
        let snapshots = Snapshots::of(dir.path());
        snapshots.create("s", 1, fill).unwrap();
        Case { snapshot: snapshots.find("s").unwrap(), dir }
    }

    /// An entry of an archive: type, path, the length that is told, and bytes.
    type Told<'a> = (EntryType, &'a [u8], u64, &'a [u8]);

    /// An archive of anything, not compressed.
    fn archive(entries: &[Told]) -> Vec<u8> {
        let mut archive = Builder::new(Vec::new());
        for (kind, path, size, bytes) in entries {
            let mut header = Header::new_ustar();
            header.set_entry_type(*kind);
            header.set_size(*size);
            header.as_mut_bytes()[..path.len()].copy_from_slice(path);
            header.set_cksum();
            archive.append(&header, *bytes).unwrap();
        }
        archive.into_inner().unwrap()
    }

    impl Case {
        fn manifest(&self) -> Vec<u8> {
            fs::read(self.snapshot.join(MANIFEST)).unwrap()
        }

        /// Unpacks `bytes`; nothing is left of what is refused.
        fn unpack(&self, bytes: &[u8]) -> Result<Manifest> {
            let (file, to) = (self.dir.path().join("a.tar"), self.dir.path().join("out"));
            fs::write(&file, bytes).unwrap();
            let unpacked = unpack(&file, &to);
            let left: Vec<_> = fs::read_dir(self.dir.path()).unwrap().collect();
            // The snapshots, the archive, and what came of it.
            assert_eq!(left.len(), 2 + usize::from(unpacked.is_ok()), "{left:?}");
            Files::disk().remove_dir(&to).unwrap();
            fs::remove_file(&file).unwrap();
            unpacked
        }
    }

    #[test]
    fn what_is_packed_comes_out_again() -> Result<()> {
        let case = case();
        let (packed, out) = (case.dir.path().join("s.tar.zst"), case.dir.path().join("out"));
        assert_eq!(pack(&case.snapshot, &packed)?, packed.metadata().unwrap().len());
        let manifest = unpack(&packed, &out)?;
        assert_eq!(manifest, Manifest::read(&case.snapshot)?);
        assert_eq!(manifest.compare(&out)?, []);
        for taken in [pack(&case.snapshot, &packed).err(), unpack(&packed, &out).err()] {
            assert!(matches!(taken, Some(Error::Exists { .. })), "{taken:?}");
        }
        // The same without compression, as other programs may leave it.
        let plain = zstd::decode_all(fs::File::open(&packed).unwrap()).unwrap();
        fs::remove_file(&packed).unwrap();
        Files::disk().remove_dir(&out)?;
        assert_eq!(case.unpack(&plain)?, manifest);

        // What is damaged is not packed.
        fs::write(case.snapshot.join("deep/file"), b"BYTES").unwrap();
        let refused = pack(&case.snapshot, &packed);
        assert!(matches!(refused, Err(Error::Damaged { .. })), "{refused:?}");
        assert_eq!(fs::read_dir(case.dir.path()).unwrap().count(), 1);
        Ok(())
    }

    #[test]
    fn an_archive_that_lies_is_refused() -> Result<()> {
        let case = case();
        let manifest = case.manifest();
        let plain = EntryType::Regular;
        let first: Told = (plain, b"SNAPSHOT", manifest.len() as u64, &manifest);
        let file: Told = (plain, b"deep/file", 5, b"bytes");
        let empty: Told = (plain, b"empty", 0, b"");
        case.unpack(&archive(&[first, empty, file]))?;
        let lies: [(&[Told], &str); 16] = [
            (&[], "without files"),
            (&[file, first, empty], "expected SNAPSHOT first"),
            (&[(plain, b"SNAPSHOT", 3, b"{}\n")], "expected the checksum"),
            (&[(plain, b"SNAPSHOT", 1 << 40, b"{}\n")], "expected SNAPSHOT first"),
            (&[(plain, b"SNAPSHOT", 1 << 20, b"{}\n")], "expected the checksum"),
            (&[first, empty], "\"deep/file\" is missing"),
            (&[first, file, file, empty], "stands twice"),
            (&[first, first, file, empty], "does not name \"SNAPSHOT\""),
            (&[first, file, empty, (plain, b"../x", 1, b"x")], "does not name \"../x\""),
            (&[first, file, empty, (plain, b"/etc/x", 1, b"x")], "does not name \"/etc/x\""),
            (&[first, file, empty, (plain, b"deep/../empty", 0, b"")], "does not name"),
            (&[first, empty, (plain, b"deep/file", 4, b"byte")], "expected 5 bytes, got 4"),
            (&[first, empty, (plain, b"deep/file", 5, b"BYTES")], "expected the BLAKE3"),
            (&[first, empty, (EntryType::Symlink, b"deep/file", 5, b"bytes")], "no plain file"),
            (&[first, empty, (EntryType::Link, b"deep/file", 0, b"")], "no plain file"),
            (&[first, (EntryType::GNULongName, b"././@LongLink", 9, b"deep/file")], "no plain"),
        ];
        for (entries, flaw) in lies {
            match case.unpack(&archive(entries)) {
                Err(error @ Error::Damaged { .. }) => {
                    assert!(error.to_string().contains(flaw), "expected {flaw:?}, got {error}");
                }
                other => panic!("expected {flaw:?}, got {other:?}"),
            }
        }
        let other = case.unpack(b"{\"text\":\"a\"}\n").unwrap_err();
        assert!(matches!(other, Error::Invalid { .. }), "{other}");
        let whole = archive(&[first, empty, file]);
        for length in (0..whole.len() - 1024).step_by(97) {
            assert!(case.unpack(&whole[..length]).is_err(), "cut to {length} bytes");
        }
        Ok(())
    }
}
