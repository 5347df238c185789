//! Recent records, in the order of their arrival: the part that is simply scanned.
//!
//! Rows stand in chunks that snapshots share; all but the last are full. A group that arrives
//! copies the last chunk, never more, so a snapshot stays as it was and a write costs the same
//! however many rows there are.

use std::sync::Arc;

use super::kernel::Span;
use super::tombstones::Tombstones;

/// Rows a chunk.
pub(super) const CHUNK: usize = 1024;

/// Unsorted rows, each at a place that counts from 0. A clone shares all chunks.
#[derive(Clone, Default)]
pub(super) struct Delta {
    chunks: Vec<Arc<Chunk>>,
    /// The places of the dead.
    dead: Tombstones,
}

#[derive(Clone, Default)]
struct Chunk {
    /// Ascending, as everywhere.
    numbers: Vec<u64>,
    /// Shape (rows, words).
    words: Vec<u64>,
}

/// Rows that a kernel can compare in one go.
#[derive(Clone, Copy)]
pub(super) struct Stretch<'a> {
    /// The place of the first row.
    pub(super) place: usize,
    /// The record numbers.
    pub(super) numbers: &'a [u64],
    /// Shape (rows, words).
    pub(super) words: &'a [u64],
}

impl Stretch<'_> {
    /// All of its rows.
    pub(super) fn span(&self) -> Span {
        Span { start: 0, end: self.numbers.len() as u32 }
    }
}

impl Delta {
    /// The number of rows, dead ones included.
    pub(super) fn len(&self) -> usize {
        match self.chunks.last() {
            Some(last) => (self.chunks.len() - 1) * CHUNK + last.numbers.len(),
            None => 0,
        }
    }

    /// The dead rows.
    pub(super) fn dead(&self) -> &Tombstones {
        &self.dead
    }

    /// Adds rows whose numbers ascend, all above those that are here. `words` has the shape
    /// (numbers, words of a code).
    pub(super) fn append(&mut self, numbers: &[u64], words: &[u64]) {
        let width = words.len() / numbers.len().max(1);
        let mut at = 0;
        while at < numbers.len() {
            if self.len().is_multiple_of(CHUNK) {
                self.chunks.push(Arc::default());
            }
            let last = self.chunks.len() - 1;
            let last = Arc::make_mut(&mut self.chunks[last]);
            let end = numbers.len().min(at + CHUNK - last.numbers.len());
            last.numbers.extend_from_slice(&numbers[at..end]);
            last.words.extend_from_slice(&words[at * width..end * width]);
            at = end;
        }
    }

    /// Buries the record of this number, if it is here.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some((chunk, row)) = self.find(number) {
            self.dead.insert(chunk * CHUNK + row);
        }
    }

    /// The words of the code of a number, if it is here.
    pub(super) fn code(&self, number: u64) -> Option<&[u64]> {
        let (chunk, row) = self.find(number)?;
        let Chunk { numbers, words } = &*self.chunks[chunk];
        let width = words.len() / numbers.len();
        Some(&words[row * width..(row + 1) * width])
    }

    /// The number at a place.
    pub(super) fn number(&self, place: usize) -> u64 {
        self.chunks[place / CHUNK].numbers[place % CHUNK]
    }

    /// The chunk of a number, and its row in it.
    fn find(&self, number: u64) -> Option<(usize, usize)> {
        let after = self.chunks.partition_point(|chunk| chunk.numbers[0] <= number);
        let chunk = after.checked_sub(1)?;
        Some((chunk, self.chunks[chunk].numbers.binary_search(&number).ok()?))
    }

    /// All rows, dead ones included, in runs as long as the chunks.
    pub(super) fn stretches(&self) -> impl Iterator<Item = Stretch<'_>> {
        (0..).step_by(CHUNK).zip(&self.chunks).map(|(place, chunk)| Stretch {
            place,
            numbers: &chunk.numbers,
            words: &chunk.words,
        })
    }

    /// The number and the words of each live row from `place` on, oldest first.
    pub(super) fn live_from(&self, place: usize) -> impl Iterator<Item = (u64, &[u64])> {
        let whole = place / CHUNK;
        self.stretches()
            .skip(whole)
            .flat_map(|stretch| {
                let words = stretch.words.len() / stretch.numbers.len();
                let rows = stretch.numbers.iter().zip(stretch.words.chunks_exact(words));
                (stretch.place..).zip(rows)
            })
            .filter(move |(at, _)| *at >= place && !self.dead.contains(*at))
            .map(|(_, (&number, words))| (number, words))
    }

    /// The bytes held, tombstones not counted.
    pub(super) fn memory(&self) -> usize {
        let words = |chunk: &Arc<Chunk>| chunk.numbers.capacity() + chunk.words.capacity();
        self.chunks.iter().map(words).sum::<usize>() * size_of::<u64>()
            + self.chunks.capacity() * size_of::<Arc<Chunk>>()
    }
}
