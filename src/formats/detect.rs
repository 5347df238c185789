//! Which format a file has: its first bytes decide, and its ending where they do not.

use std::path::Path;

use super::Format;
use super::source::Source;
use crate::error::{Error, Result};

/// The format of an opened file, where it is not named.
///
/// # Errors
/// A format that cannot be read, with those that can; a text that is no UTF-8.
pub(super) fn detect(source: &Source, named: Option<Format>) -> Result<Format> {
    let format = named.map_or_else(|| guess(source), Ok)?;
    match format {
        Format::Jsonl | Format::Csv | Format::Tsv if is_utf16(&source.start) => Err(utf16(source)),
        _ => Ok(format),
    }
}

/// The mark at the beginning of a text of two bytes a character.
fn is_utf16(start: &[u8]) -> bool {
    start.starts_with(b"\xff\xfe") || start.starts_with(b"\xfe\xff")
}

fn utf16(source: &Source) -> Error {
    source.invalid("expected UTF-8, got UTF-16; convert it: iconv -f UTF-16 -t UTF-8 FILE")
}

fn guess(source: &Source) -> Result<Format> {
    let start = &source.start[..];
    if start.starts_with(b"\x93NUMPY") {
        return Ok(Format::Npy);
    }
    if is_idx(start) {
        return Ok(Format::Idx);
    }
    let by_ending = by_ending(&source.name);
    // These begin with a dimension, which may look like anything: 1152 like a pickle.
    if let Some(format @ (Format::Fvecs | Format::Bvecs | Format::Ivecs)) = by_ending {
        return Ok(format);
    }
    if let Some((what, advice)) = known_but_not_read(start) {
        return Err(source.invalid(format!("this is {what}; {advice}")));
    }
    if let Some(format) = by_ending {
        return Ok(format);
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start);
    if text.trim_ascii_start().starts_with(b"{") {
        return Ok(Format::Jsonl);
    }
    if is_utf16(start) {
        return Err(utf16(source));
    }
    let known = Format::ALL.map(Format::name).join(", ");
    Err(source.invalid(format!(
        "cannot tell the format from the content or the ending; name it with --format: {known}"
    )))
}

/// Two zero bytes, the type of the numbers, and the rank: 1 for labels, 2 and 3 for rows.
fn is_idx(start: &[u8]) -> bool {
    matches!(start, [0, 0, 0x08 | 0x09 | 0x0b..=0x0e, 1..=4, ..])
}

fn by_ending(name: &str) -> Option<Format> {
    let path = Path::new(name);
    let ending = |path: &Path| path.extension().and_then(|e| e.to_str()).map(str::to_lowercase);
    let ending = match ending(path)?.as_str() {
        "gz" | "zst" => ending(Path::new(path.file_stem()?))?,
        plain => plain.to_owned(),
    };
    match ending.as_str() {
        "ndjson" | "json" => Some(Format::Jsonl),
        "folder" => None,
        "idx1-ubyte" | "idx2-ubyte" | "idx3-ubyte" => Some(Format::Idx),
        name => Format::ALL.into_iter().find(|format| format.name() == name),
    }
}

fn known_but_not_read(start: &[u8]) -> Option<(&'static str, &'static str)> {
    let advice: [(&[u8], _, _); 8] = [
        (
            b"PK\x03\x04",
            "a zip archive (.npz?)",
            "save one array with numpy.save(\"x.npy\", array)",
        ),
        (
            b"PAR1",
            "Parquet",
            "write JSONL: df.to_json(\"x.jsonl\", orient=\"records\", lines=True)",
        ),
        (b"\x89HDF", "HDF5", "save the array with numpy.save(\"x.npy\", array)"),
        (b"\x80\x04", "a Python pickle", "save the array with numpy.save(\"x.npy\", array)"),
        (b"\x1f\x8b", "compressed twice, with gzip inside", "decompress it once"),
        (b"\x28\xb5\x2f\xfd", "compressed twice, with zstd inside", "decompress it once"),
        (b"BZh", "bzip2", "decompress it, or use gzip or zstd"),
        (b"\xfd7zXZ", "xz", "decompress it, or use gzip or zstd"),
    ];
    advice
        .into_iter()
        .find(|(magic, _, _)| start.starts_with(magic))
        .map(|(_, what, advice)| (what, advice))
        .or_else(|| {
            start
                .trim_ascii_start()
                .starts_with(b"[")
                .then_some(("a JSON array", "write one object a line: jq -c '.[]' FILE"))
        })
}
