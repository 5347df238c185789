//! The bytes of a record; drawn in the module above.

use std::ops::RangeInclusive;

use half::f16;

use super::number::numbers;
use super::{MAX_NUMBER, Parsed, check_crc};
use crate::code::{Code, Width};
use crate::record::{Payload, Record, RecordId};
use crate::store::Precision;
use crate::store::wire::{Reader, varint_len, write_bytes, write_varint};

/// What a record does.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Kind {
    Put,
    Delete,
}

pub(in crate::store) const PUT: u8 = 1;
pub(in crate::store) const DELETE: u8 = 2;
pub(in crate::store) const PUT_AFTER_GAP: u8 = 3;

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

/// Appends what a delete holds from its id on.
pub(in crate::store) fn write_delete_body(id: &str, out: &mut Vec<u8>) {
    write_bytes(id.as_bytes(), out);
}

/// Appends a record where `next` is the number that follows that of the put before: a put that has
/// `number`, or a delete. `killed` is the number that it replaces or deletes; `body` is what
/// follows it.
pub(in crate::store) fn write_record(
    kind: Kind,
    parts: u8,
    next: u64,
    number: u64,
    killed: Option<u64>,
    body: &[u8],
    out: &mut Vec<u8>,
) {
    let (kind, parts, gap, killed) = match (kind, killed) {
        (Kind::Delete, killed) => (DELETE, parts, None, killed),
        (Kind::Put, replaced) => {
            let gap = Some(number - next).filter(|gap| *gap > 0);
            let kind = if gap.is_some() { PUT_AFTER_GAP } else { PUT };
            let replaces = if replaced.is_some() { REPLACES } else { 0 };
            (kind, parts | replaces, gap, replaced.map(|replaced| number - replaced))
        }
    };
    let numbers = gap.into_iter().chain(killed);
    let length = 4 + 2 + numbers.clone().map(varint_len).sum::<usize>() + body.len();
    write_varint(length as u64, out);
    let start = out.len();
    out.extend_from_slice(&[0, 0, 0, 0, kind, parts]);
    numbers.for_each(|number| write_varint(number, out));
    out.extend_from_slice(body);
    let crc = record_crc(number, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

pub(super) fn record_crc(number: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), bytes)
}

/// A record that was checked but not copied.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct RecordView<'a> {
    pub(in crate::store) kind: Kind,
    /// Its number; of a delete that which the next put gets, if no gap follows.
    pub(in crate::store) number: u64,
    /// The number that it replaces or deletes.
    pub(in crate::store) killed: Option<u64>,
    /// Which parts there are, as [`write_put`] told.
    pub(in crate::store) parts: u8,
    /// What it holds from its id on.
    pub(in crate::store) body: &'a [u8],
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

/// The record that begins here and has `number`.
pub(in crate::store) fn read_record<'a>(
    reader: &mut Reader<'a>,
    number: u64,
    width: Width,
) -> Parsed<RecordView<'a>> {
    read_checked(Stored::read(reader)?, number, width)
}

/// The record that begins here, where `next` is the number that follows that of the put before.
pub(in crate::store) fn read_next_record<'a>(
    reader: &mut Reader<'a>,
    next: u64,
    width: Width,
) -> Parsed<RecordView<'a>> {
    let stored = Stored::read(reader)?;
    // Not checked yet; the checksum covers the number that comes of it.
    let number = stored.gap().and_then(|gap| next.checked_add(gap));
    let number = number.filter(|number| *number <= MAX_NUMBER).ok_or("a record has no number")?;
    read_checked(stored, number, width)
}

/// The numbers `within` that may follow that of the put before the record that begins here, going by
/// its checksum; nearly always one or none.
pub(in crate::store) fn find_next(
    bytes: &[u8],
    within: RangeInclusive<u64>,
) -> impl Iterator<Item = u64> {
    let stored = Stored::read(&mut Reader(bytes)).ok();
    let stored = stored.and_then(|stored| Some((stored.gap()?, stored)));
    stored.into_iter().flat_map(move |(gap, stored)| {
        let [first, last] = [within.start(), within.end()].map(|next| next.saturating_add(gap));
        numbers(stored.crc, stored.bytes, first..=last.min(MAX_NUMBER)).map(move |n| n - gap)
    })
}

/// The bytes of a record, not checked yet.
struct Stored<'a> {
    crc: u32,
    bytes: &'a [u8],
}

impl<'a> Stored<'a> {
    fn read(reader: &mut Reader<'a>) -> Parsed<Self> {
        let mut bytes = Reader(reader.bytes().ok_or("a record is longer than what is left")?);
        let crc = bytes.u32().ok_or("a record is too short for its checksum")?;
        Ok(Self { crc, bytes: bytes.0 })
    }

    /// How many numbers are left out before it.
    fn gap(&self) -> Option<u64> {
        let mut reader = Reader(self.bytes);
        match (reader.u8(), reader.u8()) {
            (Some(PUT_AFTER_GAP), _) => reader.varint(),
            _ => Some(0),
        }
    }
}

fn read_checked(stored: Stored, number: u64, width: Width) -> Parsed<RecordView> {
    check_crc(record_crc(number, stored.bytes), stored.crc)?;
    read_parts(Reader(stored.bytes), number, width)
        .ok_or_else(|| "the parts of a record do not fit".to_owned())
}

fn read_parts(mut reader: Reader, number: u64, width: Width) -> Option<RecordView> {
    let stored_kind = reader.u8()?;
    let kind = match stored_kind {
        PUT | PUT_AFTER_GAP => Kind::Put,
        DELETE => Kind::Delete,
        _ => return None,
    };
    let parts = reader.u8()?;
    if stored_kind == PUT_AFTER_GAP {
        reader.varint()?;
    }
    let has = |part: u8| parts & part != 0;
    let killed = match kind {
        Kind::Put if has(REPLACES) => Some(number.checked_sub(reader.varint()?)?),
        Kind::Put => None,
        Kind::Delete => Some(reader.varint()?),
    };
    let body = reader.0;
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
    let parts = parts & !REPLACES;
    let view = RecordView { kind, number, killed, parts, body, id, code, payload, text, vector };
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
