//! Entries of the table, (key, number) pairs, and how sorted ones are packed into blocks.
//!
//! A key is a code or the hash of an id; its bytes are ordered as it is. In memory a run of
//! entries is one long row of bytes, each entry its key and its number, big-endian, so that to
//! compare entries is to compare bytes. In the table a block holds:
//!
//! ```text
//! crc      4   CRC-32C of the block's name in the table and of all below
//! reach    8   the records below this number were in the table when this was written
//! base     8   the smallest number
//! count    2   entries
//! size     1   bytes of a number
//! entries      each: key, then number - base, big-endian, `size` bytes; ascending
//! ```
//!
//! A block takes 4 KiB at most (about 370 entries of 64-bit codes in a collection of a million):
//! sled puts values of more than about 6 KiB into files of their own, which it never syncs.

use super::wire::Reader;

/// The bytes of a block, at most.
pub(super) const BLOCK_BYTES: usize = 4096;
const HEADER_BYTES: usize = 23;

/// Entries in a row.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Run {
    key_bytes: usize,
    bytes: Vec<u8>,
}

impl Run {
    pub(super) fn new(key_bytes: usize) -> Self {
        Self { key_bytes, bytes: Vec::new() }
    }

    pub(super) fn key_bytes(&self) -> usize {
        self.key_bytes
    }

    /// The bytes of an entry.
    fn stride(&self) -> usize {
        self.key_bytes + 8
    }

    pub(super) fn len(&self) -> usize {
        self.bytes.len() / self.stride()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(super) fn push(&mut self, key: &[u8], number: u64) {
        debug_assert_eq!(key.len(), self.key_bytes);
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(&number.to_be_bytes());
    }

    /// Entry `i`, key and number as bytes.
    pub(super) fn entry(&self, i: usize) -> &[u8] {
        &self.bytes[i * self.stride()..][..self.stride()]
    }

    /// The first entry.
    pub(super) fn first(&self) -> Option<&[u8]> {
        (!self.is_empty()).then(|| self.entry(0))
    }

    /// The number of entry `i`.
    fn number(&self, i: usize) -> u64 {
        number_of(&self.entry(i)[self.key_bytes..])
    }

    /// How many of the entries from `from` on, ascending, come before `bound`.
    pub(super) fn count_below(&self, from: usize, bound: Option<&[u8]>) -> usize {
        let Some(bound) = bound else { return self.len() - from };
        // Entries of one block stand close together: look near before looking far.
        let mut step = 1;
        while from + step < self.len() && self.entry(from + step) < bound {
            step *= 2;
        }
        let (mut low, mut high) = (from + step / 2, (from + step).min(self.len()));
        while low < high {
            let middle = low.midpoint(high);
            if self.entry(middle) < bound { low = middle + 1 } else { high = middle }
        }
        low - from
    }

    /// Puts the entries in order.
    pub(super) fn sort(&mut self) {
        let head = |entry: &[u8]| {
            let mut head = [0; 8];
            let len = entry.len().min(8);
            head[..len].copy_from_slice(&entry[..len]);
            u64::from_be_bytes(head)
        };
        // The first eight bytes settle nearly every comparison.
        let mut order: Vec<(u64, u32)> =
            (0..self.len()).map(|i| (head(self.entry(i)), i as u32)).collect();
        order.sort_unstable_by(|a, b| {
            let entries = || self.entry(a.1 as usize).cmp(self.entry(b.1 as usize));
            a.0.cmp(&b.0).then_with(entries)
        });
        let mut bytes = Vec::with_capacity(self.bytes.len());
        order.iter().for_each(|(_, i)| bytes.extend_from_slice(self.entry(*i as usize)));
        self.bytes = bytes;
    }

    /// Keeps the entries whose number passes.
    pub(super) fn retain(&mut self, keep: impl Fn(u64) -> bool) {
        let mut kept = 0;
        for i in 0..self.len() {
            if keep(self.number(i)) {
                let stride = self.stride();
                self.bytes.copy_within(i * stride..(i + 1) * stride, kept * stride);
                kept += 1;
            }
        }
        self.bytes.truncate(kept * self.stride());
    }

    /// Both in one, an entry of both once. Both are ascending.
    pub(super) fn merge(&self, other: &Self, range: std::ops::Range<usize>) -> Self {
        let mut bytes = Vec::with_capacity(self.bytes.len() + range.len() * self.stride());
        let (mut i, mut j) = (0, range.start);
        while i < self.len() && j < range.end {
            let (a, b) = (self.entry(i), other.entry(j));
            bytes.extend_from_slice(a.min(b));
            i += usize::from(a <= b);
            j += usize::from(b <= a);
        }
        bytes.extend_from_slice(&self.bytes[i * self.stride()..]);
        bytes.extend_from_slice(&other.bytes[j * self.stride()..range.end * self.stride()]);
        Self { key_bytes: self.key_bytes, bytes }
    }

    /// Appends the entries of another.
    pub(super) fn append(&mut self, other: &Self) {
        self.bytes.extend_from_slice(&other.bytes);
    }

    /// The smallest number, and the bytes that the numbers above it take.
    fn number_range(&self) -> (u64, usize) {
        let numbers = || (0..self.len()).map(|i| self.number(i));
        let base = numbers().min().unwrap_or(0);
        let above = numbers().max().unwrap_or(0) - base;
        (base, (64 - above.leading_zeros() as usize).div_ceil(8))
    }

    /// The entries that fit one block.
    pub(super) fn block_capacity(&self) -> usize {
        (BLOCK_BYTES - HEADER_BYTES) / (self.key_bytes + self.number_range().1)
    }

    /// The block `name` of the entries in `range`, which fit.
    pub(super) fn write_block(
        &self,
        range: std::ops::Range<usize>,
        name: &[u8],
        reach: u64,
    ) -> Vec<u8> {
        let stride = self.stride();
        let bytes = self.bytes[range.start * stride..range.end * stride].to_vec();
        let run = Self { key_bytes: self.key_bytes, bytes };
        let (base, size) = run.number_range();
        let mut out = Vec::with_capacity(HEADER_BYTES + run.len() * (self.key_bytes + size));
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&reach.to_le_bytes());
        out.extend_from_slice(&base.to_le_bytes());
        out.extend_from_slice(&(run.len() as u16).to_le_bytes());
        out.push(size as u8);
        for entry in run.bytes.chunks_exact(stride) {
            let (key, number) = entry.split_at(self.key_bytes);
            out.extend_from_slice(key);
            out.extend_from_slice(&(number_of(number) - base).to_be_bytes()[8 - size..]);
        }
        let crc = block_crc(name, &out[4..]);
        out[..4].copy_from_slice(&crc.to_le_bytes());
        out
    }
}

/// A number from its bytes, big-endian, at most eight.
fn number_of(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte))
}

fn block_crc(name: &[u8], bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(name), bytes)
}

/// A block as it lies in the table, checked.
#[derive(Clone, Copy, Debug)]
pub(super) struct Block<'a> {
    key_bytes: usize,
    size: usize,
    base: u64,
    pub(super) reach: u64,
    entries: &'a [u8],
}

impl<'a> Block<'a> {
    /// Reads the block `name`, and checks it.
    pub(super) fn read(name: &[u8], bytes: &'a [u8], key_bytes: usize) -> Result<Self, String> {
        let crc = Reader(bytes).u32();
        if crc.is_none_or(|crc| crc != block_crc(name, &bytes[4..])) {
            return Err(format!("a block of {} bytes is damaged", bytes.len()));
        }
        Self::read_again(bytes, key_bytes)
    }

    /// Reads a block that was checked before.
    pub(super) fn read_again(bytes: &'a [u8], key_bytes: usize) -> Result<Self, String> {
        let read = |mut reader: Reader<'a>| {
            let _crc = reader.u32()?;
            let (reach, base) = (reader.u64()?, reader.u64()?);
            let (count, size) = (usize::from(reader.u16()?), usize::from(reader.u8()?));
            let block = Self { key_bytes, size, base, reach, entries: reader.0 };
            (size <= 8 && reader.0.len() == count * block.stride()).then_some(block)
        };
        read(Reader(bytes)).ok_or_else(|| "the entries of a block do not fit".to_owned())
    }

    fn stride(&self) -> usize {
        self.key_bytes + self.size
    }

    pub(super) fn len(&self) -> usize {
        self.entries.len() / self.stride()
    }

    /// The bytes that it takes.
    pub(super) fn bytes(&self) -> usize {
        HEADER_BYTES + self.entries.len()
    }

    fn key(&self, i: usize) -> &'a [u8] {
        &self.entries[i * self.stride()..][..self.key_bytes]
    }

    /// The key of the last entry.
    pub(super) fn last_key(&self) -> Option<&'a [u8]> {
        Some(self.key(self.len().checked_sub(1)?))
    }

    /// Key and number of every entry.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&'a [u8], u64)> + use<'a> {
        let Self { key_bytes, base, .. } = *self;
        self.entries.chunks_exact(self.stride()).map(move |entry| {
            let (key, number) = entry.split_at(key_bytes);
            (key, base.wrapping_add(number_of(number)))
        })
    }

    /// The numbers of the entries with this key.
    pub(super) fn find(&self, key: &[u8], mut each: impl FnMut(u64)) {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            if self.key(middle) < key { low = middle + 1 } else { high = middle }
        }
        let same = Self { entries: &self.entries[low * self.stride()..], ..*self };
        same.iter().take_while(|(k, _)| *k == key).for_each(|(_, number)| each(number));
    }

    /// The entries from `entry` on, which is a key and a number as in a [`Run`].
    pub(super) fn from(self, entry: &[u8]) -> Self {
        let (key, number) = entry.split_at(self.key_bytes);
        let from = (key, number_of(number));
        let before = self.iter().take_while(|entry| *entry < from).count();
        Self { entries: &self.entries[before * self.stride()..], ..self }
    }

    /// The entries as a run.
    pub(super) fn to_run(self) -> Run {
        let mut run = Run::new(self.key_bytes);
        self.iter().for_each(|(key, number)| run.push(key, number));
        run
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    type Entries = BTreeSet<([u8; 2], u64)>;

    fn entries() -> impl Strategy<Value = Entries> {
        let number = (any::<u64>(), 0u32..64).prop_map(|(number, shift)| number >> shift);
        prop::collection::btree_set(
            ((0u8..4, any::<u8>()).prop_map(|(a, b)| [a, b]), number),
            0..90,
        )
    }

    fn run(entries: &Entries) -> Run {
        let mut run = Run::new(2);
        entries.iter().for_each(|(key, number)| run.push(key, *number));
        run
    }

    proptest! {
        #[test]
        fn a_block_reads_back_and_finds_what_a_filter_finds(entries in entries(), key: [u8; 2]) {
            let run = run(&entries);
            let bytes = run.write_block(0..run.len(), b"name", 7);
            let block = Block::read(b"name", &bytes, 2).map_err(TestCaseError::fail)?;
            prop_assert_eq!(block.to_run(), run);
            prop_assert_eq!(block.reach, 7);
            for key in entries.iter().map(|(key, _)| *key).chain([key]) {
                let mut found = Vec::new();
                block.find(&key, |number| found.push(number));
                let expected = entries.iter().filter(|(k, _)| *k == key).map(|(_, n)| *n);
                prop_assert_eq!(found, expected.collect::<Vec<_>>());
            }
        }

        #[test]
        fn a_merge_is_the_union(a in entries(), b in entries(), bound in entries()) {
            let (x, y) = (run(&a), run(&b));
            prop_assert_eq!(x.merge(&y, 0..y.len()), run(&(&a | &b)));
            for (key, number) in bound {
                let mut bytes = key.to_vec();
                bytes.extend_from_slice(&number.to_be_bytes());
                let below = b.iter().filter(|entry| **entry < (key, number)).count();
                let from = below / 2;
                prop_assert_eq!(y.count_below(from, Some(&bytes)), below - from);
            }
        }

        #[test]
        fn sorting_is_sorting(entries in prop::collection::vec((any::<[u8; 2]>(), 0u64..9), 0..50)) {
            let mut run = Run::new(2);
            entries.iter().for_each(|(key, number)| run.push(key, *number));
            run.sort();
            let mut sorted = entries;
            sorted.sort();
            let mut expected = Run::new(2);
            sorted.iter().for_each(|(key, number)| expected.push(key, *number));
            prop_assert_eq!(run, expected);
        }

        #[test]
        fn a_flipped_bit_or_another_name_is_found(entries in entries(), bit: prop::sample::Index) {
            let run = run(&entries);
            let mut bytes = run.write_block(0..run.len(), b"name", 7);
            prop_assert!(Block::read(b"game", &bytes, 2).is_err());
            let bit = bit.index(8 * bytes.len());
            bytes[bit / 8] ^= 1 << (bit % 8);
            prop_assert!(Block::read(b"name", &bytes, 2).is_err());
        }
    }
}
