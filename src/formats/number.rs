//! Numbers in binary files: their type, their byte order, and what they are as ours.

use half::f16;

/// The type of a number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Number {
    U8,
    I8,
    U16,
    I16,
    U32,
    I32,
    U64,
    I64,
    F16,
    F32,
    F64,
}

/// How numbers are written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Encoding {
    pub number: Number,
    pub big_endian: bool,
}

impl Encoding {
    pub fn little_endian(number: Number) -> Self {
        Self { number, big_endian: false }
    }

    pub fn big_endian(number: Number) -> Self {
        Self { number, big_endian: true }
    }

    /// Bytes a number.
    pub fn bytes(self) -> usize {
        match self.number {
            Number::U8 | Number::I8 => 1,
            Number::U16 | Number::I16 | Number::F16 => 2,
            Number::U32 | Number::I32 | Number::F32 => 4,
            Number::U64 | Number::I64 | Number::F64 => 8,
        }
    }

    /// numpy's name of the type.
    pub fn name(self) -> &'static str {
        match self.number {
            Number::U8 => "uint8",
            Number::I8 => "int8",
            Number::U16 => "uint16",
            Number::I16 => "int16",
            Number::U32 => "uint32",
            Number::I32 => "int32",
            Number::U64 => "uint64",
            Number::I64 => "int64",
            Number::F16 => "float16",
            Number::F32 => "float32",
            Number::F64 => "float64",
        }
    }

    pub fn is_float(self) -> bool {
        matches!(self.number, Number::F16 | Number::F32 | Number::F64)
    }

    /// The numbers in `bytes`, rounded to f32; what is too large for it becomes infinite.
    pub fn floats(self, bytes: &[u8]) -> Vec<f32> {
        match self.number {
            Number::U8 => bytes.iter().map(|&x| f32::from(x)).collect(),
            Number::I8 => bytes.iter().map(|&x| f32::from(x as i8)).collect(),
            Number::U16 => self.map(bytes, |b| f32::from(u16::from_le_bytes(b))),
            Number::I16 => self.map(bytes, |b| f32::from(i16::from_le_bytes(b))),
            Number::U32 => self.map(bytes, |b| u32::from_le_bytes(b) as f32),
            Number::I32 => self.map(bytes, |b| i32::from_le_bytes(b) as f32),
            Number::U64 => self.map(bytes, |b| u64::from_le_bytes(b) as f32),
            Number::I64 => self.map(bytes, |b| i64::from_le_bytes(b) as f32),
            Number::F16 => self.map(bytes, |b| f16::from_le_bytes(b).to_f32()),
            Number::F32 => self.map(bytes, f32::from_le_bytes),
            Number::F64 => self.map(bytes, |b| f64::from_le_bytes(b) as f32),
        }
    }

    /// The integer in `bytes`; `None` for floats and for what is over 63 bits.
    pub fn integer(self, bytes: &[u8]) -> Option<i64> {
        let wide: Vec<i128> = match self.number {
            Number::U8 => bytes.iter().map(|&x| x.into()).collect(),
            Number::I8 => bytes.iter().map(|&x| (x as i8).into()).collect(),
            Number::U16 => self.map(bytes, |b| u16::from_le_bytes(b).into()),
            Number::I16 => self.map(bytes, |b| i16::from_le_bytes(b).into()),
            Number::U32 => self.map(bytes, |b| u32::from_le_bytes(b).into()),
            Number::I32 => self.map(bytes, |b| i32::from_le_bytes(b).into()),
            Number::U64 => self.map(bytes, |b| u64::from_le_bytes(b).into()),
            Number::I64 => self.map(bytes, |b| i64::from_le_bytes(b).into()),
            Number::F16 | Number::F32 | Number::F64 => return None,
        };
        wide.first().and_then(|&x| x.try_into().ok())
    }

    fn map<const N: usize, T>(self, bytes: &[u8], from_le: impl Fn([u8; N]) -> T) -> Vec<T> {
        let (chunks, _) = bytes.as_chunks::<N>();
        chunks
            .iter()
            .map(|&(mut chunk)| {
                if self.big_endian {
                    chunk.reverse();
                }
                from_le(chunk)
            })
            .collect()
    }
}
