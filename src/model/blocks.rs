//! Rows in blocks: in memory while they are few, in a scratch file where they are not.

use std::ops::Range;

use super::options::{Memory, TrainOptions};
use super::scratch::Scratch;
use crate::error::Result;
use crate::input::{Features, Matrix, Sparse};

/// The bytes of a block: long enough that a disk reads it nearly as fast as a whole file.
const MOST_BYTES: u64 = 256 << 10;
/// Of the memory that is allowed, a block is at most this part: many are in memory at a time.
const BLOCKS_IN_MEMORY: u64 = 64;
/// What a sparse row counts for, in bytes.
const SPARSE_ROW: u64 = 512;

/// Rows in blocks of equally many; the last may have fewer.
pub(super) struct Blocks {
    home: Home,
    rows: usize,
    cols: usize,
    /// What they take in memory, or would.
    bytes: u64,
    block_rows: usize,
}

/// Where rows are.
enum Home {
    Memory(Features),
    File { file: Scratch, is_sparse: bool },
}

impl Blocks {
    /// All rows, where they are in memory.
    pub fn into_memory(self) -> Result<Features, Self> {
        match self.home {
            Home::Memory(rows) => Ok(rows),
            home => Err(Self { home, ..self }),
        }
    }

    /// The number of blocks.
    pub fn len(&self) -> usize {
        self.rows.div_ceil(self.block_rows)
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    /// The numbers of a block's rows.
    pub fn range(&self, block: usize) -> Range<usize> {
        block * self.block_rows..((block + 1) * self.block_rows).min(self.rows)
    }

    /// The rows of a block.
    pub fn block(&self, block: usize) -> Result<Features> {
        let range = self.range(block);
        match &self.home {
            Home::Memory(rows) => Ok(rows.select(&range.collect::<Vec<_>>())),
            Home::File { file, is_sparse } => {
                Ok(read(&file.block(block)?, range.len(), self.cols, *is_sparse))
            }
        }
    }

    /// The memory that all rows take, or would, in bytes.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// The same blocks of the same rows, in memory.
    #[cfg(test)]
    pub fn in_memory(&self, rows: Features) -> Self {
        assert_eq!((rows.rows(), rows.bytes()), (self.rows, self.bytes));
        Self { home: Home::Memory(rows), ..*self }
    }
}

/// Rows that come in, some at a time. Where they end up in blocks depends on all of them together, not
/// on how many came at a time.
pub(super) struct Gathering<'a> {
    memory: Option<&'a Memory>,
    is_sparse: bool,
    rows: usize,
    cols: usize,
    bytes: u64,
    block_rows: usize,
    file: Option<Scratch>,
    /// What is in no file.
    pending: Features,
}

impl<'a> Gathering<'a> {
    /// Of rows like these, which are the first.
    pub fn new(first: Features, options: &'a TrainOptions) -> Result<Self> {
        let is_sparse = matches!(first, Features::Sparse(_));
        let row_bytes = if is_sparse { SPARSE_ROW } else { 4 * first.cols() as u64 };
        let memory = options.memory.as_ref();
        let block_bytes =
            memory.map_or(MOST_BYTES, |m| (m.bytes / BLOCKS_IN_MEMORY).min(MOST_BYTES));
        let block_rows = (block_bytes / row_bytes.max(1)).max(1) as usize;
        let (rows, cols, bytes) = (first.rows(), first.cols(), first.bytes());
        let mut gathering =
            Self { memory, is_sparse, rows, cols, bytes, block_rows, file: None, pending: first };
        gathering.spill()?;
        Ok(gathering)
    }

    pub fn push(&mut self, rows: &Features) -> Result<()> {
        self.rows += rows.rows();
        self.bytes += rows.bytes();
        self.pending.append(rows);
        self.spill()
    }

    /// Moves whole blocks to the file, where there is more than memory is allowed for, or was.
    fn spill(&mut self) -> Result<()> {
        let Some(memory) = self.memory else { return Ok(()) };
        if self.file.is_none() && self.bytes > memory.bytes {
            self.file = Some(Scratch::new(&memory.folder())?);
        }
        let Some(file) = &mut self.file else { return Ok(()) };
        let n = self.pending.rows();
        let whole = n / self.block_rows * self.block_rows;
        for start in (0..whole).step_by(self.block_rows) {
            write(&self.pending, start..start + self.block_rows, file)?;
        }
        if whole > 0 {
            // The memory of what was written goes with it.
            self.pending = self.pending.select(&(whole..n).collect::<Vec<_>>());
        }
        Ok(())
    }

    pub fn finish(self) -> Result<Blocks> {
        let Self { rows, cols, bytes, block_rows, is_sparse, pending, file, .. } = self;
        let home = match file {
            None => Home::Memory(pending),
            Some(mut file) => {
                if pending.rows() > 0 {
                    write(&pending, 0..pending.rows(), &mut file)?;
                }
                Home::File { file, is_sparse }
            }
        };
        Ok(Blocks { home, rows, cols, bytes, block_rows })
    }
}

/// A block's bytes, all numbers little-endian: the values of dense rows, row after row; of sparse rows
/// how many each has, then their columns, then their values.
fn write(features: &Features, rows: Range<usize>, file: &mut Scratch) -> Result<()> {
    let mut bytes = Vec::new();
    match features {
        Features::Dense(dense) => {
            let values = &dense.values()[rows.start * dense.cols()..rows.end * dense.cols()];
            bytes.extend(values.iter().flat_map(|value| value.to_le_bytes()));
        }
        Features::Sparse(sparse) => {
            let each = || rows.clone().map(|row| sparse.row(row));
            bytes.extend(each().flat_map(|(columns, _)| (columns.len() as u32).to_le_bytes()));
            bytes.extend(each().flat_map(|(columns, _)| columns).flat_map(|c| c.to_le_bytes()));
            bytes.extend(each().flat_map(|(_, values)| values).flat_map(|v| v.to_le_bytes()));
        }
    }
    file.push(&bytes)
}

/// The rows of a block's bytes.
fn read(bytes: &[u8], rows: usize, cols: usize, is_sparse: bool) -> Features {
    let (words, _) = bytes.as_chunks::<4>();
    if !is_sparse {
        let values = words.iter().map(|word| f32::from_le_bytes(*word)).collect();
        return Features::Dense(Matrix::new(rows, cols, values));
    }
    let (lengths, rest) = words.split_at(rows);
    let (columns, values) = rest.split_at(rest.len() / 2);
    let mut sparse = Sparse::new(cols);
    let mut start = 0;
    for length in lengths {
        let end = start + u32::from_le_bytes(*length) as usize;
        let columns = columns[start..end].iter().map(|word| u32::from_le_bytes(*word));
        let values = values[start..end].iter().map(|word| f32::from_le_bytes(*word));
        sparse.push(columns.zip(values));
        start = end;
    }
    Features::Sparse(sparse)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::options::Preset;
    use crate::model::random::{Purpose, normal, stream};

    /// More than a MiB of rows.
    fn rows() -> [Features; 2] {
        let values: Vec<f32> = normal(&mut stream(1, Purpose::Weights, 0), 12_000 * 40)
            .into_iter()
            .map(|x| x as f32)
            .collect();
        let dense = Matrix::new(12_000, 40, values);
        let mut sparse = Sparse::new(40);
        for (i, row) in dense.iter().enumerate() {
            let present = row.iter().enumerate().skip(i % 7).step_by(1 + i % 2);
            sparse.push(present.map(|(c, &value)| (c as u32, value)).take(i % 41));
        }
        [Features::Dense(dense), Features::Sparse(sparse)]
    }

    #[test]
    fn blocks_of_a_file_are_those_of_memory_however_the_rows_came() {
        let folder = tempfile::tempdir().unwrap();
        for rows in rows() {
            let blocks = |bytes: u64, at_a_time: usize| {
                let scratch = Some(folder.path().to_path_buf());
                let memory = Some(Memory { bytes, scratch });
                let options = TrainOptions { memory, ..TrainOptions::preset(Preset::Vector) };
                let all: Vec<usize> = (0..rows.rows()).collect();
                let mut parts = all.chunks(at_a_time).map(|part| rows.select(part));
                let mut gathering = Gathering::new(parts.next().unwrap(), &options).unwrap();
                parts.for_each(|part| gathering.push(&part).unwrap());
                gathering.finish().unwrap()
            };
            assert_eq!(blocks(1 << 30, 1000).into_memory().ok().unwrap(), rows);
            for at_a_time in [1, 7, 1000, 12_000] {
                let file = blocks(1 << 20, at_a_time);
                assert!(matches!(file.home, Home::File { .. }), "{at_a_time}");
                let memory = file.in_memory(rows.clone());
                assert_eq!((file.len(), file.rows()), (memory.len(), rows.rows()));
                for block in 0..file.len() {
                    assert_eq!(file.block(block).unwrap(), memory.block(block).unwrap());
                }
            }
        }
    }
}
