//! A long file of numbers, written and read a piece at a time, with a CRC-32C of all of it at its
//! end: so that neither takes memory beside that of the numbers.
//!
//! Numbers are little-endian. What is read is not to be believed before [`Reader::finish`] has
//! compared the checksum; that its sizes fit the file is checked before room is made.

use super::ascending::Ascending;
use super::files::File;
use super::wire::{varint_len, write_varint};
use crate::error::{Error, Result};

/// Bytes that are written or read at once.
const PIECE: usize = 1 << 20;

/// Writes a file from its beginning.
pub(super) struct Writer<'a> {
    file: &'a File,
    /// Bytes that are in the file.
    at: u64,
    crc: u32,
    waiting: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(file: &'a File) -> Self {
        Self { file, at: 0, crc: 0, waiting: Vec::with_capacity(PIECE) }
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.waiting.extend_from_slice(bytes);
        if self.waiting.len() >= PIECE { self.flush() } else { Ok(()) }
    }

    pub(super) fn u64(&mut self, number: u64) -> Result<()> {
        self.bytes(&number.to_le_bytes())
    }

    /// A count, and as many numbers.
    pub(super) fn u64s(&mut self, numbers: &[u64]) -> Result<()> {
        self.u64(numbers.len() as u64)?;
        numbers.iter().try_for_each(|number| self.u64(*number))
    }

    /// A count of numbers that ascend, a count of bytes, and in these how far each number is from
    /// the one before it, as a varint.
    pub(super) fn ascending<I: Iterator<Item = u32>>(
        &mut self,
        numbers: impl Fn() -> I,
    ) -> Result<()> {
        let steps = || {
            numbers().scan(0, |last, number| {
                let step = number - std::mem::replace(last, number);
                Some(u64::from(step))
            })
        };
        self.u64(steps().count() as u64)?;
        self.u64(steps().map(|step| varint_len(step) as u64).sum())?;
        steps().try_for_each(|step| {
            write_varint(step, &mut self.waiting);
            self.bytes(&[])
        })
    }

    fn flush(&mut self) -> Result<()> {
        self.file.write_at(&self.waiting, self.at)?;
        self.at += self.waiting.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, &self.waiting);
        self.waiting.clear();
        Ok(())
    }

    /// Writes the checksum, and makes all of it durable.
    pub(super) fn finish(mut self) -> Result<()> {
        self.flush()?;
        self.file.write_at(&self.crc.to_le_bytes(), self.at)?;
        self.file.sync()
    }
}

/// Reads a file from its beginning.
pub(super) struct Reader<'a> {
    file: &'a File,
    at: u64,
    /// Where the checksum begins.
    end: u64,
    crc: u32,
}

impl<'a> Reader<'a> {
    pub(super) fn new(file: &'a File) -> Result<Self> {
        let end = file.len()?.saturating_sub(4);
        Ok(Self { file, at: 0, end, crc: 0 })
    }

    /// An error about what was read last.
    pub(super) fn flaw(&self, message: impl Into<String>) -> Error {
        Error::damaged(self.file.path(), self.at, message)
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<()> {
        if self.at + bytes.len() as u64 > self.end {
            return Err(self.flaw("it ends too early"));
        }
        self.file.read_at(bytes, self.at)?;
        self.at += bytes.len() as u64;
        self.crc = crc32c::crc32c_append(self.crc, bytes);
        Ok(())
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut bytes = [0; N];
        self.fill(&mut bytes)?;
        Ok(bytes)
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.array().map(u64::from_le_bytes)
    }

    /// A count, and as many numbers.
    pub(super) fn u64s(&mut self) -> Result<Vec<u64>> {
        let count = self.count(8)?;
        let mut numbers = Vec::with_capacity(count);
        self.each(count, |bytes| numbers.push(u64::from_le_bytes(bytes)))?;
        Ok(numbers)
    }

    /// What [`Writer::ascending`] wrote.
    pub(super) fn ascending(&mut self) -> Result<Ascending> {
        let count = self.u64()?;
        let bytes = self.count(1)?;
        let (mut numbers, mut ascend) = (Ascending::default(), true);
        let (mut last, mut step, mut shift) = (0u64, 0, 0);
        self.each(bytes, |[byte]| {
            step |= u64::from(byte & 0x7f) << shift;
            // No step takes more than five bytes.
            ascend &= shift <= 28;
            shift = if byte < 0x80 { 0 } else { (shift + 7).min(35) };
            if shift == 0 {
                last += std::mem::take(&mut step);
                ascend &= u32::try_from(last).is_ok_and(|number| numbers.push(number));
            }
        })?;
        let whole = ascend && shift == 0 && numbers.len() as u64 == count;
        whole.then_some(numbers).ok_or_else(|| self.flaw("numbers that should ascend do not"))
    }

    /// The count of numbers of so many bytes.
    fn count(&mut self, bytes: u64) -> Result<usize> {
        let count = self.u64()?;
        if count > (self.end - self.at) / bytes {
            return Err(self.flaw(format!("it ends before {count} numbers")));
        }
        Ok(count as usize)
    }

    fn each<const N: usize>(&mut self, count: usize, mut each: impl FnMut([u8; N])) -> Result<()> {
        let mut piece = vec![0; PIECE.min(count * N)];
        let mut left = count * N;
        while left > 0 {
            let bytes = &mut piece[..left.min(PIECE)];
            self.fill(bytes)?;
            bytes.as_chunks().0.iter().for_each(|bytes| each(*bytes));
            left -= bytes.len();
        }
        Ok(())
    }

    /// Compares the checksum: what was read is what was written, and there is no more.
    pub(super) fn finish(self) -> Result<()> {
        let mut stored = [0; 4];
        if self.at == self.end {
            self.file.read_at(&mut stored, self.at)?;
        }
        let (expected, got) = (u32::from_le_bytes(stored), self.crc);
        if self.at != self.end || expected != got {
            return Err(self.flaw(format!("expected the checksum {expected:08x}, got {got:08x}")));
        }
        Ok(())
    }
}
