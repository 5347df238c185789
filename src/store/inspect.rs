//! Prints files of the store as text, damaged or not, without changing or locking anything.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::Precision;
use super::files::Files;
use super::format::{
    Kind, RecordView, SEGMENT_HEADER_BYTES, SEGMENT_MAGIC, SegmentHeader, check_format_bytes,
    check_version, read_segment_header,
};
use super::manifest::{Known, Manifest};
use super::segment::Segment;
use super::walk::{Hints, Piece, walk};
use crate::error::{Error, Result};

/// No file of the store is longer: segments count their bytes with 32 bits.
const MAX_BYTES: u64 = u32::MAX as u64;

/// One thing in a file, or a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Item {
    /// The file that it is in.
    pub file: PathBuf,
    /// Where in the file it begins.
    pub offset: u64,
    /// Its bytes.
    pub bytes: u64,
    /// What it is: `format`, `manifest`, `named` (a segment, in a MANIFEST), `segment`, `group`,
    /// `put`, `delete`, `ahead`, `torn tail`, `damage`; `model`, `table`, `snapshot`, `unknown` of what is
    /// not a collection's.
    pub what: &'static str,
    /// The number of a record; of a delete that of the record that it deletes.
    pub number: Option<u64>,
    /// The id of a record.
    pub id: Option<String>,
    /// What else there is to say.
    pub detail: String,
}

impl Item {
    /// A file as a whole.
    pub fn file(file: &Path, what: &'static str, bytes: u64, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { file: file.to_path_buf(), offset: 0, bytes, what, number: None, id: None, detail }
    }

    /// Whether it is not what was written.
    pub fn is_damage(&self) -> bool {
        self.what == "damage"
    }
}

/// Gives everything in a file `FORMAT` or `MANIFEST`, in a segment, or in the directory of a
/// collection to `each`, in order. Which of them `path` is, its name tells.
///
/// # Errors
/// What the operating system refuses; damage is no error here but an [`Item`].
pub fn inspect(path: &Path, each: &mut dyn FnMut(Item)) -> Result<()> {
    let files = Files::disk();
    if files.is_dir(path)? {
        return inspect_collection(&files, path, each);
    }
    let bytes = files.read(path, MAX_BYTES)?;
    let name = path.file_name().unwrap_or_default();
    let inspected = match () {
        () if name == "FORMAT" => check_format_bytes(path, &bytes).map(|version| {
            each(Item::file(path, "format", bytes.len() as u64, format!("version {version}")));
        }),
        () if name == "MANIFEST" => Manifest::read_bytes(path, &bytes)
            .map(|manifest| show_manifest(path, &bytes, &manifest, each)),
        () => {
            inspect_segment(&files, path, &bytes, each);
            Ok(())
        }
    };
    match inspected {
        Err(error @ (Error::Damaged { .. } | Error::Invalid { .. })) => {
            each(Item::file(path, "damage", bytes.len() as u64, flaw(&error)));
            Ok(())
        }
        inspected => inspected,
    }
}

/// What is wrong, without the place.
pub(super) fn flaw(error: &Error) -> String {
    match error {
        Error::Damaged { message, .. } | Error::Invalid { message, .. } => message.clone(),
        other => other.to_string(),
    }
}

fn inspect_collection(files: &Files, dir: &Path, each: &mut dyn FnMut(Item)) -> Result<()> {
    let manifest = Manifest::path(dir);
    if files.exists(&manifest)? {
        inspect(&manifest, each)?;
    } else {
        each(Item::file(&manifest, "damage", 0, "it is missing"));
    }
    let segments = dir.join("segments");
    if !files.exists(&segments)? {
        each(Item::file(&segments, "damage", 0, "it is missing"));
        return Ok(());
    }
    let found = files.list(&segments)?;
    if let Ok(manifest) = Manifest::read(files, dir) {
        let named = manifest.segments.iter().map(|known| Segment::path(dir, known.segment));
        for missing in named.filter(|named| !found.contains(named)) {
            each(Item::file(&missing, "damage", 0, "MANIFEST names it, and it is missing"));
        }
    }
    found.iter().try_for_each(|segment| inspect(segment, each))
}

fn show_manifest(path: &Path, bytes: &[u8], manifest: &Manifest, each: &mut dyn FnMut(Item)) {
    let name = uuid::Uuid::from_bytes(manifest.collection);
    let settings = String::from_utf8_lossy(&manifest.settings);
    let detail = format!("collection {name}, {}, settings {settings}", manifest.width);
    each(Item::file(path, "manifest", bytes.len() as u64, detail));
    for Known { segment, length, checksum } in &manifest.segments {
        let detail =
            format!("segment {segment}: {length} bytes are durable, checksum {checksum:08x}");
        each(Item::file(path, "named", 0, detail));
    }
}

/// What the MANIFEST beside the directory of a segment tells of it.
fn hints(files: &Files, path: &Path) -> Hints {
    let dir = path.parent().and_then(Path::parent);
    let Some(manifest) = dir.and_then(|dir| Manifest::read(files, dir).ok()) else {
        return Hints::NONE;
    };
    let named = |known: &&Known| path.ends_with(Segment::path(Path::new(""), known.segment));
    let durable = manifest.segments.iter().find(named).map_or(0, |known| known.length);
    Hints { width: Some(manifest.width), durable, ..Hints::NONE }
}

fn inspect_segment(files: &Files, path: &Path, bytes: &[u8], each: &mut dyn FnMut(Item)) {
    if let Err(error @ Error::Invalid { .. }) = check_version(path, bytes, SEGMENT_MAGIC)
        && read_segment_header(bytes).is_ok()
    {
        // The version itself is not damaged: nobody here can read the rest.
        each(Item::file(path, "damage", bytes.len() as u64, flaw(&error)));
        return;
    }
    walk(bytes, hints(files, path), &mut |piece| each(show(path, bytes, piece)));
}

fn show(path: &Path, bytes: &[u8], piece: Piece) -> Item {
    let item = |range: std::ops::Range<u64>, what, detail: String| Item {
        offset: range.start,
        ..Item::file(path, what, range.end - range.start, detail)
    };
    match piece {
        Piece::Header(header) => {
            let SegmentHeader { segment, width, first, .. } = header;
            let collection = uuid::Uuid::from_bytes(header.collection);
            let detail = format!(
                "segment {segment} of collection {collection}, {width}, first record {first}"
            );
            item(0..SEGMENT_HEADER_BYTES as u64, "segment", detail)
        }
        Piece::Group { range, header } => {
            let checksum = &bytes[range.start as usize + 36..][..4];
            let detail = format!(
                "{} records, first {}, {} bytes were durable, checksum {:08x} follows {:08x}",
                header.count,
                header.first,
                header.durable,
                u32::from_le_bytes([checksum[0], checksum[1], checksum[2], checksum[3]]),
                header.previous
            );
            item(range, "group", detail)
        }
        Piece::Record { range, record } => {
            let what = if record.kind == Kind::Put { "put" } else { "delete" };
            let number = if record.kind == Kind::Put { Some(record.number) } else { record.killed };
            let id = Some(record.body.id.text().to_string());
            Item { number, id, ..item(range, what, parts(&record)) }
        }
        Piece::Ahead { range } => item(range, "ahead", "zeros for groups to come".to_owned()),
        Piece::Torn { range, flaw } => {
            item(range, "torn tail", format!("{flaw}; nobody was told that it is done"))
        }
        Piece::Damage(damage) => {
            let mut detail = damage.flaw;
            match damage.lost.end.saturating_sub(damage.lost.start) {
                0 => {}
                1 => _ = write!(detail, "; record {} is lost", damage.lost.start),
                _ => {
                    let last = damage.lost.end - 1;
                    _ = write!(detail, "; records {} to {last} are lost", damage.lost.start);
                }
            }
            Item { id: damage.seems.map(|seems| seems.id), ..item(damage.range, "damage", detail) }
        }
    }
}

/// What a record holds.
fn parts(record: &RecordView) -> String {
    let mut parts = Vec::new();
    if let Some(code) = record.body.code {
        let hex = code.iter().fold(String::new(), |mut hex, byte| {
            _ = write!(hex, "{byte:02x}");
            hex
        });
        parts.push(format!("code {hex}"));
    }
    parts.extend(record.body.payload.map(|json| format!("payload of {} bytes", json.len())));
    parts.extend(record.body.text.map(|text| format!("text of {} bytes", text.len())));
    parts.extend(record.body.vector.map(|(precision, bytes)| {
        let name = if precision == Precision::F16 { "f16" } else { "f32" };
        format!("vector of {} {name}", bytes.len() / precision.bytes())
    }));
    if record.kind == Kind::Put {
        parts.extend(record.killed.map(|number| format!("replaces record {number}")));
    }
    parts.join(", ")
}
