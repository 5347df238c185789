//! What memory knows of a segment, as bytes: where its records begin, and which are dead.
//!
//! ```text
//! put bytes     8
//! delete bytes  8
//! records       8   how many
//! steps             as below: from the first number on; none where there is no gap
//! offsets           as below
//! dead              as below: places
//! deletes           count, and 8 bytes each: numbers
//! ```
//!
//! Numbers that ascend: how many they are, and how many bytes follow, 8 bytes each; how far each is
//! from the one before, as a varint.

use bitvec::vec::BitVec;

use super::super::pieces::{Reader, Writer};
use super::super::row::Row;
use super::Segment;
use crate::error::Result;

impl Segment {
    /// Writes what is known beside the file.
    pub(in crate::store) fn write_outline(&self, out: &mut Writer) -> Result<()> {
        out.u64(self.put_bytes)?;
        out.u64(self.delete_bytes)?;
        out.u64(self.numbers.len() as u64)?;
        out.ascending(|| self.numbers.steps().iter())?;
        out.ascending(|| self.offsets.iter())?;
        out.ascending(|| self.dead.iter_ones().map(|place| place as u32))?;
        out.u64s(&self.deletes)
    }

    /// Reads what is known beside the file, into a segment that was just opened and is as long as
    /// MANIFEST says.
    pub(in crate::store) fn read_outline(&mut self, reader: &mut Reader) -> Result<()> {
        self.put_bytes = reader.u64()?;
        self.delete_bytes = reader.u64()?;
        let len = reader.u64()?;
        let steps = reader.ascending()?;
        self.offsets = reader.ascending()?;
        let dead = reader.ascending()?;
        self.deletes = reader.u64s()?;
        let inside = self.offsets.last().is_none_or(|last| u64::from(last) < self.length);
        let numbers = Row::from_steps(self.header.first, len as usize, steps);
        let Some(numbers) = numbers.filter(|_| self.offsets.len() as u64 == len) else {
            return Err(reader.flaw("the numbers and places of its records do not fit"));
        };
        // The checksum is compared later: until then any place may be wrong.
        if !inside || dead.last().is_some_and(|place| u64::from(place) >= len) {
            return Err(reader.flaw("the places of its records do not fit"));
        }
        self.numbers = numbers;
        self.dead = BitVec::repeat(false, len as usize);
        dead.iter().for_each(|place| self.kill(self.numbers.at(place as usize)));
        Ok(())
    }
}
