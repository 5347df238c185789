//! The bytes of a record; drawn in the module above.

use std::ops::RangeInclusive;

use half::f16;

use super::id::{Id, pack};
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

const PUT: u8 = 1;
const DELETE: u8 = 2;
const PUT_AFTER_GAP: u8 = 3;
/// Set in the first byte of a short put, whose other bits are its parts.
const SHORT: u8 = 1 << 7;

const REPLACES: u8 = 1;
const CODE: u8 = 1 << 1;
const PAYLOAD: u8 = 1 << 2;
const TEXT: u8 = 1 << 3;
// Of a long put only.
const VECTOR_F32: u8 = 1 << 4;
const VECTOR_F16: u8 = 1 << 5;
// Of a short put only.
const VECTOR: u8 = 1 << 4;
const GAP: u8 = 1 << 5;
const PACKED_ID: u8 = 1 << 6;

/// How a put is laid out.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::store) enum Layout {
    /// That of the versions 1 and 2.
    Long,
    /// That of version 3.
    Short,
}

impl Layout {
    /// The layout of what is written in a collection of this version.
    pub(in crate::store) fn of(version: u32) -> Self {
        if version < 3 { Self::Long } else { Self::Short }
    }
}

/// What a put holds beside numbers. A delete has an id only.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Body<'a> {
    pub(in crate::store) id: Id<'a>,
    pub(in crate::store) code: Option<&'a [u8]>,
    pub(in crate::store) payload: Option<&'a [u8]>,
    pub(in crate::store) text: Option<&'a [u8]>,
    pub(in crate::store) vector: Option<(Precision, &'a [u8])>,
}

impl<'a> Body<'a> {
    /// Appends it as a put has it, and tells which parts there are.
    pub(in crate::store) fn write(&self, layout: Layout, out: &mut Vec<u8>) -> u8 {
        let parts = part(self.code.is_some(), CODE)
            | part(self.payload.is_some(), PAYLOAD)
            | part(self.text.is_some(), TEXT);
        match layout {
            Layout::Long => parts | self.write_long(out),
            Layout::Short => SHORT | parts | self.write_short(out),
        }
    }

    fn write_long(&self, out: &mut Vec<u8>) -> u8 {
        write_bytes(self.id.text().as_bytes(), out);
        out.extend_from_slice(self.code.unwrap_or_default());
        [self.payload, self.text].into_iter().flatten().for_each(|field| write_bytes(field, out));
        let Some((precision, numbers)) = self.vector else { return 0 };
        write_varint((numbers.len() / precision.bytes()) as u64, out);
        out.extend_from_slice(numbers);
        match precision {
            Precision::F32 => VECTOR_F32,
            Precision::F16 => VECTOR_F16,
        }
    }

    fn write_short(&self, out: &mut Vec<u8>) -> u8 {
        out.extend_from_slice(self.code.unwrap_or_default());
        let packed;
        let (id, is_packed) = match self.id {
            Id::Packed(bytes) => (bytes, true),
            Id::Text(text) => {
                packed = pack(text);
                (packed.as_deref().unwrap_or(text.as_bytes()), packed.is_some())
            }
        };
        // The last of them ends with the record.
        let mut write_field = |field: &[u8], is_last: bool| match is_last {
            true => out.extend_from_slice(field),
            false => write_bytes(field, out),
        };
        let Self { payload, text, vector, .. } = self;
        write_field(id, payload.is_none() && text.is_none() && vector.is_none());
        if let Some(payload) = payload {
            write_field(payload, text.is_none() && vector.is_none());
        }
        if let Some(text) = text {
            write_field(text, vector.is_none());
        }
        if let Some((precision, numbers)) = vector {
            out.push(precision.bytes() as u8);
            out.extend_from_slice(numbers);
        }
        part(is_packed, PACKED_ID) | part(vector.is_some(), VECTOR)
    }

    /// The body of a put with these `parts`, or that of a delete, with none.
    pub(in crate::store) fn read(parts: u8, bytes: &'a [u8], width: Width) -> Option<Self> {
        let mut reader = Reader(bytes);
        let has = |part: u8| parts & part != 0;
        let (id, code) = read_id_and_code(parts, &mut reader, width)?;
        let payload = if has(PAYLOAD) { Some(read_field(parts, TEXT, &mut reader)?) } else { None };
        let text = if has(TEXT) { Some(read_field(parts, 0, &mut reader)?) } else { None };
        let vector = read_vector(parts, &mut reader)?;
        reader.0.is_empty().then_some(Self { id, code, payload, text, vector })
    }
}

/// The bit of a part that is there.
fn part(is_there: bool, bit: u8) -> u8 {
    if is_there { bit } else { 0 }
}

/// The first parts, which may be intact where others are not.
fn read_id_and_code<'a>(
    parts: u8,
    reader: &mut Reader<'a>,
    width: Width,
) -> Option<(Id<'a>, Option<&'a [u8]>)> {
    let code = |reader: &mut Reader<'a>| match parts & CODE != 0 {
        true => reader.take(width.bytes()).map(Some),
        false => Some(None),
    };
    let text = |bytes| std::str::from_utf8(bytes).ok().map(Id::Text);
    if parts & SHORT == 0 {
        return Some((text(reader.bytes()?)?, code(reader)?));
    }
    let code = code(reader)?;
    let id = read_field(parts, PAYLOAD | TEXT, reader)?;
    Some((if parts & PACKED_ID != 0 { Id::packed(id)? } else { text(id)? }, code))
}

/// A field of a put, which ends with its parts where it is short and none of the `later` ones is there.
fn read_field<'a>(parts: u8, later: u8, reader: &mut Reader<'a>) -> Option<&'a [u8]> {
    match parts & SHORT == 0 || parts & (later | VECTOR) != 0 {
        true => reader.bytes(),
        false => Some(reader.rest()),
    }
}

/// The precision of a vector and the bytes of its numbers, if there is one.
fn read_vector<'a>(parts: u8, reader: &mut Reader<'a>) -> Option<Option<(Precision, &'a [u8])>> {
    let has = |part: u8| parts & part != 0;
    if has(SHORT) {
        if !has(VECTOR) {
            return Some(None);
        }
        let (precision, numbers) = (Precision::of_bytes(reader.u8()?)?, reader.rest());
        return numbers
            .len()
            .is_multiple_of(precision.bytes())
            .then_some(Some((precision, numbers)));
    }
    let precision = match (has(VECTOR_F32), has(VECTOR_F16)) {
        (false, false) => return Some(None),
        (true, false) => Precision::F32,
        (false, true) => Precision::F16,
        (true, true) => return None,
    };
    let len = usize::try_from(reader.varint()?).ok()?;
    Some(Some((precision, reader.take(len.checked_mul(precision.bytes())?)?)))
}

/// Appends what a put holds, and tells which parts there are.
pub(in crate::store) fn write_put(
    record: &Record,
    vectors: Precision,
    layout: Layout,
    out: &mut Vec<u8>,
) -> Parsed<u8> {
    let code = record.code.as_ref().map(Code::to_bytes);
    let payload = match record.payload.is_empty() {
        true => None,
        false => Some(serde_json::to_vec(&record.payload).map_err(|error| error.to_string())?),
    };
    let vector: Option<Vec<u8>> = record.vector.as_ref().map(|vector| match vectors {
        Precision::F32 => vector.iter().flat_map(|x| x.to_le_bytes()).collect(),
        Precision::F16 => vector.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()).collect(),
    });
    let body = Body {
        id: Id::Text(record.id.as_str()),
        code: code.as_deref(),
        payload: payload.as_deref(),
        text: record.text.as_ref().map(|text| text.as_bytes()),
        vector: vector.as_deref().map(|numbers| (vectors, numbers)),
    };
    Ok(body.write(layout, out))
}

/// Appends what a delete holds.
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
    let gap = Some(number - next).filter(|gap| *gap > 0 && kind == Kind::Put);
    let replaces = part(kind == Kind::Put && killed.is_some(), REPLACES);
    let short = [parts | replaces | part(gap.is_some(), GAP)];
    let long = match (kind, gap) {
        (Kind::Delete, _) => [DELETE, parts],
        (Kind::Put, None) => [PUT, parts | replaces],
        (Kind::Put, Some(_)) => [PUT_AFTER_GAP, parts | replaces],
    };
    let head: &[u8] = if parts & SHORT != 0 { &short } else { &long };
    let killed = killed.map(|killed| if kind == Kind::Put { number - killed } else { killed });
    let numbers = gap.into_iter().chain(killed);
    let length = 4 + head.len() + numbers.clone().map(varint_len).sum::<usize>() + body.len();
    write_varint(length as u64, out);
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(head);
    numbers.for_each(|number| write_varint(number, out));
    out.extend_from_slice(body);
    let crc = record_crc(number, &out[start + 4..]);
    out[start..start + 4].copy_from_slice(&crc.to_le_bytes());
}

pub(super) fn record_crc(number: u64, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&number.to_le_bytes()), bytes)
}

/// What a record begins with.
struct Head {
    kind: Kind,
    parts: u8,
    /// How many numbers are left out before it.
    gap: u64,
    /// What it says of the number that it replaces (how far back that is) or deletes.
    killed: Option<u64>,
}

impl Head {
    fn read(reader: &mut Reader) -> Option<Self> {
        let first = reader.u8()?;
        let (kind, parts, has_gap) = match first {
            SHORT.. => (Kind::Put, first, first & GAP != 0),
            PUT | PUT_AFTER_GAP => (Kind::Put, reader.u8()?, first == PUT_AFTER_GAP),
            DELETE => (Kind::Delete, reader.u8()?, false),
            _ => return None,
        };
        // A long put has no such parts, a delete none at all.
        if first < SHORT
            && (parts > VECTOR_F16 | (VECTOR_F16 - 1) || (first == DELETE && parts > 0))
        {
            return None;
        }
        let gap = if has_gap { reader.varint()? } else { 0 };
        let kills = kind == Kind::Delete || parts & REPLACES != 0;
        let killed = if kills { Some(reader.varint()?) } else { None };
        Some(Self { kind, parts, gap, killed })
    }

    /// The number that the record replaces or deletes if its own is `number`; `None` where there is
    /// no such number.
    fn killed(&self, number: u64) -> Option<Option<u64>> {
        let Some(said) = self.killed else { return Some(None) };
        let killed = if self.kind == Kind::Put { number.checked_sub(said)? } else { said };
        (killed < number).then_some(Some(killed))
    }
}

/// A record that was checked but not copied.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct RecordView<'a> {
    pub(in crate::store) kind: Kind,
    /// Its number; of a delete that which the next put gets, if no gap follows.
    pub(in crate::store) number: u64,
    /// The number that it replaces or deletes.
    pub(in crate::store) killed: Option<u64>,
    pub(in crate::store) body: Body<'a>,
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
    Stored::read(reader)?.check(number, width)
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
    stored.check(number, width)
}

/// The numbers `within` that may follow that of the put before the record that begins here, going by
/// its checksum; nearly always one or none. None where its parts do not fit.
pub(in crate::store) fn find_next(
    bytes: &[u8],
    width: Width,
    within: RangeInclusive<u64>,
) -> impl Iterator<Item = u64> {
    let read = || {
        let stored = Stored::read(&mut Reader(bytes)).ok()?;
        let (gap, _fits) = (stored.gap()?, stored.body(width)?);
        Some((stored, gap))
    };
    read().into_iter().flat_map(move |(stored, gap)| {
        let [first, last] = [within.start(), within.end()].map(|next| next.saturating_add(gap));
        numbers(stored.crc, stored.bytes, first..=last.min(MAX_NUMBER)).map(move |n| n - gap)
    })
}

/// What a record says of itself that may be damaged: its id, and the number that it replaces or
/// deletes, which is believed where `bytes` are as many as it says. `next` is as above, if it is a put.
pub(in crate::store) fn read_damaged(
    bytes: &[u8],
    next: Option<u64>,
    width: Width,
) -> Option<(Id<'_>, Option<u64>)> {
    let mut reader = Reader(bytes);
    let fills = reader.varint()? == reader.0.len() as u64;
    reader.take(4)?;
    let head = Head::read(&mut reader)?;
    let (id, _) = read_id_and_code(head.parts, &mut reader, width)?;
    let killed = match head.kind {
        Kind::Put => next.and_then(|next| next.checked_add(head.gap)?.checked_sub(head.killed?)),
        Kind::Delete => head.killed,
    };
    Some((id, killed.filter(|_| fills)))
}

/// A record, not checked yet.
struct Stored<'a> {
    crc: u32,
    /// What the checksum covers beside the number.
    bytes: &'a [u8],
    /// What it begins with, if that makes sense, and what follows.
    head: Option<(Head, &'a [u8])>,
}

impl<'a> Stored<'a> {
    fn read(reader: &mut Reader<'a>) -> Parsed<Self> {
        let mut record = Reader(reader.bytes().ok_or("a record is longer than what is left")?);
        let crc = record.u32().ok_or("a record is too short for its checksum")?;
        let bytes = record.0;
        let head = Head::read(&mut record).map(|head| (head, record.0));
        Ok(Self { crc, bytes, head })
    }

    /// How many numbers are left out before it.
    fn gap(&self) -> Option<u64> {
        self.head.as_ref().map(|(head, _)| head.gap)
    }

    fn body(&self, width: Width) -> Option<Body<'a>> {
        let (head, bytes) = self.head.as_ref()?;
        Body::read(head.parts, bytes, width)
    }

    fn check(&self, number: u64, width: Width) -> Parsed<RecordView<'a>> {
        check_crc(record_crc(number, self.bytes), self.crc)?;
        let read = || {
            let (head, _) = self.head.as_ref()?;
            let (killed, body) = (head.killed(number)?, self.body(width)?);
            Some(RecordView { kind: head.kind, number, killed, body })
        };
        read().ok_or_else(|| "the parts of a record do not fit".to_owned())
    }
}

impl RecordView<'_> {
    /// The record itself.
    pub(in crate::store) fn to_record(self, width: Width) -> Parsed<Record> {
        let Body { id, code, payload, text, vector } = self.body;
        let id = RecordId::new(&*id.text()).map_err(|error| error.to_string())?;
        let code = code.map(|bytes| Code::from_bytes(width, bytes)).transpose();
        let payload = match payload {
            None => Payload::default(),
            Some(json) => serde_json::from_slice(json).map_err(|error| error.to_string())?,
        };
        let text = text.map(|text| String::from_utf8(text.to_vec())).transpose();
        let vector = vector.map(|(precision, bytes)| match precision {
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
