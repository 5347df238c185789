//! Model files: one safetensors file each.
//!
//! ```text
//! u64 little endian   length of the header
//! header              JSON: __metadata__ and one entry (dtype, shape, place) a tensor
//! tensors             f32 little endian: encoder.0.weight (inputs x outputs), encoder.0.bias, ...,
//!                     decoder.0.weight, ...
//!
//! __metadata__
//!   kind        nearbit-model | nearbit-checkpoint
//!   format      1, or 2 where codes settle, which readers of 1 would not do
//!   checksum    BLAKE3 of every other entry here and of every tensor
//!   ...         what the kind needs, each a JSON text: a model has bits, layers, pipeline, options,
//!               report
//! ```
//!
//! Any reader of safetensors can look at such a file. The checksum finds a flipped bit anywhere, in a
//! weight as in an idf; entries stand in alphabetic order, so one model has one sequence of bytes.
//! The file is read into memory after its length was checked, never mapped.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, SafeTensors};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::COVARIANCE;
use crate::error::{Error, Result};

/// The newest format, and the oldest that can be read.
const FORMAT: u32 = 2;
const OLDEST_FORMAT: u32 = 1;

/// Larger files are refused unread, in bytes. A vocabulary of a million words into a thousand units
/// is 4 GB.
const MAX_BYTES: u64 = 16 << 30;

/// One tensor by shape and values.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f32>,
}

/// The content of a file: texts and tensors by name.
#[derive(Clone, PartialEq, Debug, Default)]
pub(super) struct Parts {
    pub texts: BTreeMap<String, String>,
    pub arrays: BTreeMap<String, Array>,
}

impl Parts {
    /// Adds `value` as JSON.
    pub fn put(&mut self, name: &str, value: &impl Serialize) -> Result<()> {
        let json = serde_json::to_string(value)
            .map_err(|e| Error::invalid(name, format!("cannot be written as JSON: {e}")))?;
        self.texts.insert(name.into(), json);
        Ok(())
    }

    /// The text `name`, read as JSON; `origin` is the file that errors name.
    pub fn get<V: DeserializeOwned>(&self, name: &str, origin: &Path) -> Result<V> {
        let text = self.texts.get(name).ok_or_else(|| {
            Error::damaged(origin, None, format!("expected a metadata entry {name:?}, got none"))
        })?;
        serde_json::from_str(text)
            .map_err(|e| Error::damaged(origin, None, format!("metadata entry {name:?}: {e}")))
    }

    /// Takes the tensor `name` out.
    pub fn take(&mut self, name: &str, origin: &Path) -> Result<Array> {
        self.arrays.remove(name).ok_or_else(|| {
            Error::damaged(origin, None, format!("expected a tensor {name:?}, got none"))
        })
    }

    /// The oldest format whose readers understand all of this.
    pub fn format(&self) -> u32 {
        if self.arrays.contains_key(COVARIANCE) { FORMAT } else { OLDEST_FORMAT }
    }

    /// The file's bytes.
    pub fn to_bytes(&self, kind: &str) -> Vec<u8> {
        let mut metadata = self.texts.clone();
        metadata.insert("kind".into(), kind.into());
        metadata.insert("format".into(), self.format().to_string());
        metadata.insert("checksum".into(), checksum(&metadata, &self.arrays));
        let mut header = serde_json::Map::new();
        header.insert("__metadata__".into(), serde_json::json!(metadata));
        let mut end = 0;
        for (name, array) in &self.arrays {
            let start = end;
            end += array.values.len() * size_of::<f32>();
            let entry = serde_json::json!({
                "dtype": "F32", "shape": array.shape, "data_offsets": [start, end],
            });
            header.insert(name.clone(), entry);
        }
        let mut header = serde_json::Value::Object(header).to_string().into_bytes();
        // The tensors begin at a multiple of eight bytes, as the format asks.
        header.resize(header.len().next_multiple_of(8), b' ');
        let mut bytes = Vec::with_capacity(8 + header.len() + end);
        bytes.extend((header.len() as u64).to_le_bytes());
        bytes.extend(header);
        for array in self.arrays.values() {
            array.values.iter().for_each(|value| bytes.extend(value.to_le_bytes()));
        }
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote.
    ///
    /// # Errors
    /// Bytes that are no safetensors file, a file of another kind or of a newer format, a
    /// checksum that does not agree.
    pub fn from_bytes(bytes: &[u8], kind: &str, origin: &Path) -> Result<Self> {
        let header_bytes = check_header(bytes.get(..8), bytes.len() as u64, kind, origin)?;
        let damaged = |message: String| Error::damaged(origin, None, message);
        let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| {
            damaged(format!("expected a safetensors file, got bytes that are none: {e}"))
        })?;
        let tensors = SafeTensors::deserialize(bytes).map_err(|e| {
            damaged(format!("expected a safetensors file, got bytes that are none: {e}"))
        })?;
        let mut texts: BTreeMap<String, String> =
            header.metadata().clone().unwrap_or_default().into_iter().collect();
        let found = texts.get("kind").cloned().unwrap_or_else(|| "no kind".into());
        if found != kind {
            let message = format!(
                "expected a safetensors file of kind {kind}, got {found}; `nearbit train` writes \
                 model files"
            );
            return Err(Error::invalid(origin.display().to_string(), message));
        }
        check_format(&texts, origin)?;
        let mut arrays = BTreeMap::new();
        for (name, view) in tensors.tensors() {
            if view.dtype() != Dtype::F32 {
                let message = format!("tensor {name:?}: expected F32, got {:?}", view.dtype());
                return Err(damaged(message));
            }
            let values = view.data().as_chunks().0.iter().map(|c| f32::from_le_bytes(*c)).collect();
            arrays.insert(name, Array { shape: view.shape().to_vec(), values });
        }
        let expected = texts.remove("checksum").unwrap_or_default();
        let got = checksum(&texts, &arrays);
        if got != expected {
            let message = format!(
                "expected the checksum {expected:?} after the {header_bytes} bytes of header, got \
                 {got:?}; restore the file from a copy or train again"
            );
            return Err(damaged(message));
        }
        texts.remove("kind");
        texts.remove("format");
        Ok(Self { texts, arrays })
    }
}

/// The header's length, or an error where the file cannot be one of ours.
fn check_header(first: Option<&[u8]>, len: u64, kind: &str, origin: &Path) -> Result<u64> {
    let header = first.and_then(|first| first.try_into().ok()).map(u64::from_le_bytes);
    match header {
        Some(header) if header <= len.saturating_sub(8) => Ok(header),
        Some(header) => Err(Error::damaged(
            origin,
            0,
            format!(
                "expected a {kind} (safetensors) with a header within its {len} bytes, got a header \
                 of {header} bytes; the file is cut off or of another kind"
            ),
        )),
        None => Err(Error::damaged(
            origin,
            0,
            format!("expected a {kind} (safetensors) of at least 8 bytes, got {len}"),
        )),
    }
}

fn check_format(texts: &BTreeMap<String, String>, origin: &Path) -> Result<()> {
    let format = texts.get("format").map_or("", String::as_str);
    match format.parse::<u32>() {
        Ok(OLDEST_FORMAT..=FORMAT) => Ok(()),
        Ok(newer) if newer > FORMAT => Err(Error::invalid(
            origin.display().to_string(),
            format!(
                "expected format {OLDEST_FORMAT} to {FORMAT}, got {newer}; a newer nearbit wrote \
                 this file, and reads it"
            ),
        )),
        _ => Err(Error::damaged(
            origin,
            None,
            format!("expected format {OLDEST_FORMAT} to {FORMAT}, got {format:?}"),
        )),
    }
}

/// BLAKE3 over all texts and tensors, each preceded by its length, in the order of their names.
fn checksum(texts: &BTreeMap<String, String>, arrays: &BTreeMap<String, Array>) -> String {
    let mut hasher = blake3::Hasher::new();
    let text = |hasher: &mut blake3::Hasher, text: &str| {
        hasher.update(&(text.len() as u64).to_le_bytes()).update(text.as_bytes());
    };
    for (name, value) in texts {
        text(&mut hasher, name);
        text(&mut hasher, value);
    }
    for (name, array) in arrays {
        text(&mut hasher, name);
        text(&mut hasher, &format!("{:?}", array.shape));
        for values in array.values.chunks(4096) {
            let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
            hasher.update(&bytes);
        }
    }
    hasher.finalize().to_hex().to_string()
}

/// The bytes of `path`, read after its length was seen to be possible.
pub(super) fn read(path: &Path, kind: &str) -> Result<Vec<u8>> {
    let mut file = match File::open(path) {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(Error::not_found(
                "file",
                path.display().to_string(),
                "`nearbit train` writes model files",
            ));
        }
        file => file.map_err(Error::io("open", path))?,
    };
    let len = file.metadata().map_err(Error::io("read", path))?.len();
    if len > MAX_BYTES {
        let message = format!("expected a {kind} of at most {MAX_BYTES} bytes, got {len}");
        return Err(Error::invalid(path.display().to_string(), message));
    }
    let mut bytes = Vec::with_capacity(8);
    Read::by_ref(&mut file).take(8).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    check_header(bytes.get(..8), len, kind, path)?;
    file.take(MAX_BYTES).read_to_end(&mut bytes).map_err(Error::io("read", path))?;
    Ok(bytes)
}

/// Writes `bytes` to `path` so that the file is there whole or not at all, even after a power cut:
/// written aside, synced, renamed over, the directory synced.
pub(super) fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let Some(name) = path.file_name() else {
        let message = "expected the name of a file to write to, got a directory";
        return Err(Error::invalid(path.display().to_string(), message));
    };
    let mut aside = name.to_os_string();
    aside.push(format!(".{}.tmp", std::process::id()));
    let aside = directory.join(aside);
    let written = File::create(&aside)
        .map_err(Error::io("create", &aside))
        .and_then(|mut file| {
            file.write_all(bytes).map_err(Error::io("write", &aside))?;
            file.sync_all().map_err(Error::io("sync", &aside))
        })
        .and_then(|()| std::fs::rename(&aside, path).map_err(Error::io("rename to", path)));
    if written.is_err() {
        // The error that counts is the first; a leftover is harmless.
        let _ = std::fs::remove_file(&aside);
    }
    written?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(Error::io("sync", directory))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KIND: &str = "nearbit-model";

    fn parts() -> Parts {
        let mut parts = Parts::default();
        parts.put("bits", &3).unwrap();
        parts.put("words", &["a \"quoted\" word", "é"]).unwrap();
        let values = vec![1.0, -0.0, f32::MIN_POSITIVE, 3.5, 1e30, -7.25];
        parts.arrays.insert("encoder.0.weight".into(), Array { shape: vec![2, 3], values });
        let values = vec![0.5, 0.25, 0.125];
        parts.arrays.insert("encoder.0.bias".into(), Array { shape: vec![3], values });
        parts
    }

    fn parse(bytes: &[u8]) -> Result<Parts> {
        Parts::from_bytes(bytes, KIND, Path::new("m.safetensors"))
    }

    fn error(bytes: &[u8]) -> String {
        parse(bytes).unwrap_err().to_string()
    }

    #[test]
    fn what_is_written_is_read_and_always_the_same_bytes() {
        let bytes = parts().to_bytes(KIND);
        assert_eq!(parse(&bytes).unwrap(), parts());
        assert_eq!(parts().to_bytes(KIND), bytes);
    }

    #[test]
    fn other_readers_of_safetensors_can_look_at_it() {
        let bytes = parts().to_bytes(KIND);
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        let weight = tensors.tensor("encoder.0.weight").unwrap();
        assert_eq!((weight.dtype(), weight.shape()), (Dtype::F32, &[2, 3][..]));
        assert_eq!(weight.data()[..4], 1f32.to_le_bytes());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_flipped_bit_anywhere_is_an_error_or_changes_nothing(
            place in any::<prop::sample::Index>(),
            bit in 0..8,
        ) {
            let mut bytes = parts().to_bytes(KIND);
            let place = place.index(bytes.len());
            bytes[place] ^= 1u8 << bit;
            if let Ok(read) = parse(&bytes) {
                prop_assert_eq!(read, parts());
            }
        }

        #[test]
        fn bytes_of_any_kind_are_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            prop_assert!(parse(&bytes).is_err());
        }
    }

    #[test]
    fn a_file_cut_off_anywhere_is_an_error() {
        let bytes = parts().to_bytes(KIND);
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len} bytes");
        }
        let mut longer = bytes;
        longer.push(0);
        assert!(parse(&longer).is_err());
    }

    #[test]
    fn a_flipped_bit_of_a_weight_is_named_by_the_checksum() {
        let mut bytes = parts().to_bytes(KIND);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert!(error(&bytes).contains("m.safetensors is damaged: expected the checksum"));
    }

    #[test]
    fn a_header_longer_than_the_file_is_refused_before_it_is_read() {
        let mut bytes = parts().to_bytes(KIND);
        bytes[..8].copy_from_slice(&(1u64 << 60).to_le_bytes());
        assert!(error(&bytes).contains("got a header of 1152921504606846976 bytes"));
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m");
        std::fs::write(&path, &bytes).unwrap();
        let error = read(&path, KIND).unwrap_err().to_string();
        assert!(error.contains("is cut off or of another kind"), "{error}");
    }

    #[test]
    fn files_of_others_and_of_the_future_are_told_apart_from_damage() {
        let header = b"{\"x\":{\"dtype\":\"F32\",\"shape\":[1],\"data_offsets\":[0,4]}}      ";
        let mut foreign = (header.len() as u64).to_le_bytes().to_vec();
        foreign.extend(header);
        foreign.extend(1f32.to_le_bytes());
        assert!(error(&foreign).contains("of kind nearbit-model, got no kind"));
        let other = parts().to_bytes("nearbit-checkpoint");
        assert!(error(&other).contains("got nearbit-checkpoint"));
        let now = format!("\"format\":\"{OLDEST_FORMAT}\"");
        let bytes = parts().to_bytes(KIND);
        let at = bytes.windows(now.len()).position(|w| w == now.as_bytes()).unwrap();
        let mut newer = bytes;
        newer[at + now.len() - 2] = b'9';
        assert!(error(&newer).contains("got 9; a newer nearbit wrote this file"));
    }

    #[test]
    fn writing_replaces_the_file_and_leaves_nothing_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("m.safetensors");
        write(&path, b"first").unwrap();
        write(&path, b"second").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"second");
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
        let missing = directory.path().join("no/such/directory/m");
        assert!(matches!(write(&missing, b""), Err(Error::Io { doing: "create", .. })));
        assert!(matches!(read(&missing, KIND), Err(Error::NotFound { kind: "file", .. })));
    }
}
