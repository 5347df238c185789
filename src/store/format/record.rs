//! The bytes of a record; drawn in the module above.

use half::f16;

use super::{Parsed, check_crc};
use crate::code::{Code, Width};
use crate::record::{Payload, Record, RecordId};
use crate::store::Precision;
use crate::store::wire::{Reader, varint_len, write_bytes, write_varint};

/// Put or delete: the record's version.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u8)]
pub(in crate::store) enum Kind {
    Put = 1,
    Delete = 2,
}

const REPLACES: u8 = 1;
const CODE: u8 = 1 << 1;
const PAYLOAD: u8 = 1 << 2;
const TEXT: u8 = 1 << 3;
const VECTOR_F32: u8 = 1 << 4;
const VECTOR_F16: u8 = 1 << 5;

/// Appends what a put holds from its id on, and tells which parts there are.
pub(in crate::store) fn write_put(
    record: &Record,
    vectors: Precision,
    out: &mut Vec<u8>,
) -> Parsed<u8> {
    let mut parts = 0;
    write_bytes(record.id.as_str().as_bytes(), out);
    if let Some(code) = &record.code {
        parts |= CODE;
        let end = out.len() + code.width().bytes();
        code.words().iter().for_each(|word| out.extend_from_slice(&word.to_be_bytes()));
        out.truncate(end);
    }
    if !record.payload.is_empty() {
        parts |= PAYLOAD;
        let json = serde_json::to_vec(&record.payload).map_err(|error| error.to_string())?;
        write_bytes(&json, out);
    }
    if let Some(text) = &record.text {
        parts |= TEXT;
        write_bytes(text.as_bytes(), out);
    }
    if let Some(vector) = &record.vector {
        write_varint(vector.len() as u64, out);
        match vectors {
            Precision::F32 => {
                parts |= VECTOR_F32;
                vector.iter().for_each(|x| out.extend_from_slice(&x.to_le_bytes()));
            }
            Precision::F16 => {
                parts |= VECTOR_F16;
                let halves = vector.iter().map(|x| f16::from_f32(*x).to_le_bytes());
                halves.for_each(|half| out.extend_from_slice(&half));
            }
        }
    }
    Ok(parts)
}

/// Appends a record: a put that will have `number`, or a delete when `number` is the next to be
/// given. `killed` is the number that it replaces or deletes; `body` is what follows it.
pub(in crate::store) fn write_record(
    kind: Kind,
    parts: u8,
    number: u64,
    killed: Option<u64>,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let (parts, killed) = match (kind, killed) {
        (Kind::Put, Some(replaced)) => (parts | REPLACES, Some(number - replaced)),
        (_, killed) => (parts, killed),
    };
    let length = 4 + 2 + killed.map_or(0, varint_len) + body.len();
    write_varint(length as u64, out);
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind as u8, parts]);
    if let Some(killed) = killed {
        write_varint(killed, out);
    }
    out.extend_from_slice(body);
    let crc = record_crc(number, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

fn record_crc(number: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), bytes)
}

/// A record that was checked but not copied.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct RecordView<'a> {
    pub(in crate::store) kind: Kind,
    /// The number that it replaces or deletes.
    pub(in crate::store) killed: Option<u64>,
    pub(in crate::store) id: &'a str,
    pub(in crate::store) code: Option<&'a [u8]>,
    pub(in crate::store) payload: Option<&'a [u8]>,
    pub(in crate::store) text: Option<&'a [u8]>,
    pub(in crate::store) vector: Option<(Precision, &'a [u8])>,
}

/// The bytes that a record takes, known from its first ten or fewer.
pub(in crate::store) fn read_record_len(bytes: &[u8]) -> Option<usize> {
    let mut reader = Reader(bytes);
    let length = usize::try_from(reader.varint()?).ok()?;
    length.checked_add(bytes.len() - reader.0.len())
}

/// The next record, whose crc was made with `number`.
pub(in crate::store) fn read_record<'a>(
    reader: &mut Reader<'a>,
    number: u64,
    width: Width,
) -> Parsed<RecordView<'a>> {
    let mut bytes = Reader(reader.bytes().ok_or("a record is longer than what is left")?);
    let stored = bytes.u32().ok_or("a record is too short for its checksum")?;
    check_crc(record_crc(number, bytes.0), stored)?;
    read_parts(bytes, number, width).ok_or_else(|| "the parts of a record do not fit".to_owned())
}

fn read_parts(mut reader: Reader, number: u64, width: Width) -> Option<RecordView> {
    let kind = match reader.u8()? {
        1 => Kind::Put,
        2 => Kind::Delete,
        _ => return None,
    };
    let parts = reader.u8()?;
    let has = |part: u8| parts & part != 0;
    let killed = match kind {
        Kind::Put if has(REPLACES) => Some(number.checked_sub(reader.varint()?)?),
        Kind::Put => None,
        Kind::Delete => Some(reader.varint()?),
    };
    if parts >= VECTOR_F16 << 1 || killed.is_some_and(|killed| killed >= number) {
        return None;
    }
    let id = std::str::from_utf8(reader.bytes()?).ok()?;
    let code = if has(CODE) { Some(reader.take(width.bytes())?) } else { None };
    let payload = if has(PAYLOAD) { Some(reader.bytes()?) } else { None };
    let text = if has(TEXT) { Some(reader.bytes()?) } else { None };
    let precision = match (has(VECTOR_F32), has(VECTOR_F16)) {
        (false, false) => None,
        (true, false) => Some(Precision::F32),
        (false, true) => Some(Precision::F16),
        (true, true) => return None,
    };
    let vector = match precision {
        None => None,
        Some(precision) => {
            let len = usize::try_from(reader.varint()?).ok()?;
            Some((precision, reader.take(len.checked_mul(precision.bytes())?)?))
        }
    };
    let view = RecordView { kind, killed, id, code, payload, text, vector };
    reader.0.is_empty().then_some(view)
}

impl RecordView<'_> {
    /// The record itself.
    pub(in crate::store) fn to_record(self, width: Width) -> Parsed<Record> {
        let id = RecordId::new(self.id).map_err(|error| error.to_string())?;
        let code = self.code.map(|bytes| Code::from_bytes(width, bytes)).transpose();
        let payload = match self.payload {
            None => Payload::default(),
            Some(json) => serde_json::from_slice(json).map_err(|error| error.to_string())?,
        };
        let text = self.text.map(|text| String::from_utf8(text.to_vec())).transpose();
        let vector = self.vector.map(|(precision, bytes)| match precision {
            Precision::F32 => bytes.as_chunks().0.iter().map(|x| f32::from_le_bytes(*x)).collect(),
            Precision::F16 => {
                bytes.as_chunks().0.iter().map(|x| f16::from_le_bytes(*x).to_f32()).collect()
            }
        });
        Ok(Record {
            id,
            code: code.map_err(|error| error.to_string())?,
            payload,
            text: text.map_err(|error| error.to_string())?,
            vector,
        })
    }
}
