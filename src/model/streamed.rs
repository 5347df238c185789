//! Rows that are read from a file while they are learned from, a window of them at a time.
//!
//! ```text
//! memory / 2    a window: blocks drawn at random, their rows in random order
//! memory / 8    the sample: rows spread over all of them, for what looks at all rows at once
//! memory / 8    the rows that are held out, spread over all of them too
//! ```
//!
//! A partner of a row is a row of the sample: one of those nearest to it, or where a walk from there on the
//! sample's graph ends. The nearest ones are found once and stand in a scratch file too.

use std::ops::Range;

use rand::{Rng, RngExt};

use super::blocks::Blocks;
use super::likeness::Nearness;
use super::options::{Memory, TrainOptions};
use super::part::Part;
use super::random::{Purpose, permutation, stream};
use super::scratch::Scratch;
use super::spread::Spread;
use crate::error::{Error, Result};
use crate::input::Features;
use crate::numeric::{Neighbours, nearest_rows};

/// Parts of the memory: one half, and one eighth.
const OF_WINDOW: u64 = 2;
const OF_SAMPLE: u64 = 8;
/// Blocks whose neighbours are searched for together: each search prepares the sample anew.
const SEARCHED: usize = 16;
/// The most rows of the sample, and the most that are held out.
const MOST: usize = 20_000;

/// The rows of a training in blocks, with a sample of them in memory.
pub(super) struct Streamed {
    blocks: Blocks,
    /// The numbers of the rows that are held out, ascending.
    held: Vec<usize>,
    /// How many rows to learn from stand before each block, and at last how many there are.
    before: Vec<usize>,
    /// Windows of an epoch.
    windows: usize,
    pub sample: Part,
    /// Which of the rows to learn from the sample holds, ascending.
    sampled: Vec<usize>,
    near: Option<Near>,
}

/// The rows of the sample that are near each row: a block of them for each block of rows.
struct Near {
    file: Scratch,
    /// Of each row.
    count: usize,
}

/// Some blocks' rows to learn from.
pub(super) struct Loaded {
    pub rows: Features,
    /// Which rows of the sample are near each.
    pub near: Option<Neighbours>,
    /// Which row of the sample each is itself.
    pub own: Vec<Option<u32>>,
}

impl Streamed {
    /// Chooses what is held out and the sample, and finds the neighbours; `told` is called between
    /// blocks. Returns the rows that are held out too, and how large the others are.
    pub fn new(
        blocks: Blocks,
        memory: &Memory,
        options: &TrainOptions,
        nearness: Option<&Nearness>,
        told: &mut dyn FnMut() -> Result<()>,
    ) -> Result<(Self, Features, Spread)> {
        let n = blocks.rows();
        let most = rows_within(&blocks, memory.bytes / OF_SAMPLE).min(MOST as u64) as usize;
        let mut rng = stream(options.seed, Purpose::Split, 0);
        let held = spread(n, ((n as f64 * options.validation) as usize).min(most), &mut rng);
        let sampled = spread(n - held.len(), most, &mut rng);
        let mut streamed = Self {
            held,
            before: vec![0],
            windows: windows(&blocks, memory, options)?,
            // Its rows are not read yet.
            sample: Part { rows: blocks.block(0)?.select(&[]), graph: None },
            sampled,
            near: None,
            blocks,
        };
        let (held_out, size) = streamed.survey(told)?;
        if let Some(nearness) = nearness {
            let rows = streamed.sample.rows.select(&[]);
            let rows = std::mem::replace(&mut streamed.sample.rows, rows);
            streamed.sample = Part::new(rows, Some(nearness))?;
            streamed.near = Some(streamed.find_near(nearness, memory, told)?);
        }
        Ok((streamed, held_out, size))
    }

    /// Reads every block once: counts, measures, and collects what is to be in memory.
    fn survey(&mut self, told: &mut dyn FnMut() -> Result<()>) -> Result<(Features, Spread)> {
        let mut held_out = self.sample.rows.clone();
        let mut size = Spread::default();
        for block in 0..self.blocks.len() {
            told()?;
            let mut rows = self.blocks.block(block)?;
            held_out.append(&rows.take(&self.held_within(block)));
            size.add(&rows);
            let first = self.before[block];
            let sampled = within(&self.sampled, first..first + rows.rows());
            self.sample.rows.append(&rows.select(&sampled));
            self.before.push(first + rows.rows());
        }
        Ok((held_out, size))
    }

    fn find_near(
        &self,
        nearness: &Nearness,
        memory: &Memory,
        told: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Near> {
        let mut file = Scratch::new(&memory.folder())?;
        let sample = nearness.looks(&self.sample.rows);
        let count = nearness.count.min(sample.rows() - 1);
        let blocks: Vec<usize> = (0..self.blocks.len()).collect();
        for blocks in blocks.chunks(SEARCHED) {
            told()?;
            let Loaded { rows, own, .. } = self.load(blocks)?;
            let near = nearest_others(&sample, &nearness.looks(&rows), &own, count)?;
            let mut lists = near.as_flat();
            for &block in blocks {
                let rows = self.before[block + 1] - self.before[block];
                let (of_block, rest) = lists.split_at(rows * count);
                let bytes = of_block.iter().flat_map(|row| row.to_le_bytes());
                file.push(&bytes.collect::<Vec<u8>>())?;
                lists = rest;
            }
        }
        Ok(Near { file, count })
    }

    /// Which rows of a block are held out.
    fn held_within(&self, block: usize) -> Vec<usize> {
        within(&self.held, self.blocks.range(block))
    }

    /// The number of rows to learn from.
    pub fn rows(&self) -> usize {
        self.before.last().copied().unwrap_or(0)
    }

    /// The bytes that are read in an epoch.
    pub fn bytes(&self) -> u64 {
        self.blocks.bytes()
    }

    /// The number of blocks.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// All blocks in random order, in windows of nearly equally many.
    pub fn windows(&self, rng: &mut impl Rng) -> Vec<Vec<usize>> {
        let order = permutation(rng, self.blocks.len());
        let at = |window: usize| window * order.len() / self.windows;
        (0..self.windows).map(|window| order[at(window)..at(window + 1)].to_vec()).collect()
    }

    /// The rows to learn from of these blocks.
    pub fn load(&self, blocks: &[usize]) -> Result<Loaded> {
        let mut rows = self.sample.rows.select(&[]);
        let (mut own, mut near) = (Vec::new(), Vec::new());
        for &block in blocks {
            let mut block_rows = self.blocks.block(block)?;
            block_rows.take(&self.held_within(block));
            rows.append(&block_rows);
            let first = self.before[block];
            let number = |row| self.sampled.binary_search(&row).ok().map(|i| i as u32);
            own.extend((first..first + block_rows.rows()).map(number));
            if let Some(lists) = &self.near {
                let bytes = lists.file.block(block)?;
                near.extend(bytes.as_chunks().0.iter().map(|row| u32::from_le_bytes(*row)));
            }
        }
        let near = self.near.as_ref().map(|lists| Neighbours::from_flat(lists.count, near));
        Ok(Loaded { rows, near, own })
    }
}

/// The `count` rows of `sample` nearest to each row, without the one that it is itself.
pub(super) fn nearest_others(
    sample: &Features,
    rows: &Features,
    own: &[Option<u32>],
    count: usize,
) -> Result<Neighbours> {
    let near = nearest_rows(sample, rows, count + 1)?;
    let others = own.iter().enumerate().flat_map(|(row, own)| {
        let others = near.of(row).iter().copied();
        others.filter(move |other| Some(*other) != *own).take(count)
    });
    Ok(Neighbours::from_flat(count, others.collect()))
}

/// How many rows there are in so many bytes, in the mean.
fn rows_within(blocks: &Blocks, bytes: u64) -> u64 {
    (u128::from(bytes) * blocks.rows() as u128 / u128::from(blocks.bytes().max(1))) as u64
}

/// The windows of an epoch.
///
/// # Errors
/// Too little memory for windows of about two batches, or for a sample of rows that have neighbours.
fn windows(blocks: &Blocks, memory: &Memory, options: &TrainOptions) -> Result<usize> {
    let at_once = rows_within(blocks, memory.bytes / OF_WINDOW);
    let neighbours = options.neighbours.map_or(0, |neighbours| neighbours.count);
    // Windows of nearly equally many blocks may be half as large as they could be, and the sample is a
    // quarter of that size.
    let wanted = (4 * options.batch).max(8 * neighbours) as u64;
    if at_once >= wanted {
        return Ok((blocks.rows() as u64).div_ceil(at_once) as usize);
    }
    let row_bytes = blocks.bytes().div_ceil(blocks.rows().max(1) as u64);
    Err(Error::invalid(
        "memory",
        format!(
            "expected room for {wanted} rows in one half of it, got {at_once} in {} bytes; give {} \
             bytes or a smaller batch than {}",
            memory.bytes,
            OF_WINDOW * row_bytes * wanted,
            options.batch
        ),
    ))
}

/// `count` different numbers below `n`, ascending: one at random of each of as many equal stretches.
fn spread(n: usize, count: usize, rng: &mut impl Rng) -> Vec<usize> {
    let count = count.min(n);
    let at = |i: usize| (i as u128 * n as u128 / count as u128) as usize;
    (0..count).map(|i| rng.random_range(at(i)..at(i + 1))).collect()
}

/// Which of the ascending `numbers` lie in `range`, counted from its start.
fn within(numbers: &[usize], range: Range<usize>) -> Vec<usize> {
    let at = |bound| numbers.partition_point(|&number| number < bound);
    numbers[at(range.start)..at(range.end)].iter().map(|number| number - range.start).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::input::{InputKind, Matrix};
    use crate::model::blocks::Gathering;
    use crate::model::options::{NeighbourOptions, Preset};
    use crate::model::random::normal;

    /// 2,600 rows of 110 numbers, of which the first is the row's number.
    fn rows() -> Matrix {
        let noise = normal(&mut stream(2, Purpose::Weights, 0), 2600 * 110);
        let mut rows = Matrix::new(2600, 110, noise.into_iter().map(|x| x as f32).collect());
        (0..2600).for_each(|i| rows.row_mut(i)[0] = i as f32);
        rows
    }

    fn numbers(features: &Features) -> Vec<usize> {
        let Features::Dense(rows) = features else { unreachable!() };
        rows.iter().map(|row| row[0] as usize).collect()
    }

    #[test]
    fn an_epoch_sees_each_row_once_with_its_neighbours_of_the_sample() {
        let folder = tempfile::tempdir().unwrap();
        let scratch = Some(folder.path().to_path_buf());
        let memory = Memory { bytes: 1 << 20, scratch };
        let preset = TrainOptions::preset(Preset::Vector);
        let options = TrainOptions {
            memory: Some(memory.clone()),
            batch: 64,
            validation: 0.1,
            neighbours: preset.neighbours.map(|n| NeighbourOptions { count: 3, ..n }),
            ..preset
        };
        let blocks = Gathering::new(Features::Dense(rows()), &options).unwrap().finish().unwrap();
        let dim = rows().cols();
        let nearness =
            Nearness::new(options.neighbours.unwrap(), InputKind::Vector { dim }).unwrap();
        let made =
            Streamed::new(blocks, &memory, &options, Some(&nearness), &mut || Ok(())).unwrap();
        let (streamed, held_out, spread) = made;
        let held = numbers(&held_out);
        assert_eq!(held.len(), 260);
        assert!(held.windows(2).all(|pair| (1..20).contains(&(pair[1] - pair[0]))), "{held:?}");
        assert_eq!((spread.extremes.1, streamed.rows()), (2599.0, 2340));
        let sample = numbers(&streamed.sample.rows);
        assert_eq!(sample.len(), (1 << 20) / 8 / 440);

        let mut rng = stream(1, Purpose::Order, 0);
        let orders = [streamed.windows(&mut rng), streamed.windows(&mut rng)];
        assert_ne!(orders[0], orders[1]);
        for windows in orders {
            assert!(windows.len() > 2, "{windows:?}");
            let mut seen = BTreeSet::new();
            for blocks in windows {
                let Loaded { rows, near, own } = streamed.load(&blocks).unwrap();
                let near = near.unwrap();
                assert!(rows.bytes() <= memory.bytes / 2);
                // As `nearest_rows` finds them one row at a time.
                for (i, number) in numbers(&rows).into_iter().enumerate() {
                    assert!(seen.insert(number) && !held.contains(&number), "{number}");
                    let itself = sample.iter().position(|&row| row == number);
                    assert_eq!(own[i], itself.map(|i| i as u32));
                    if i % 40 == 0 {
                        let all = nearest_rows(&streamed.sample.rows, &rows.select(&[i]), 4);
                        let mut expected = all.unwrap().of(0).to_vec();
                        expected.retain(|&other| Some(other) != own[i]);
                        assert_eq!(near.of(i), &expected[..3], "row {number}");
                    }
                }
            }
            assert_eq!(seen.len(), 2340);
        }
    }

    #[test]
    fn numbers_are_spread_over_all_stretches() {
        let mut rng = stream(1, Purpose::Split, 0);
        for (n, count) in [(10, 0), (10, 1), (10, 3), (10, 10), (10, 20), (100_003, 77)] {
            let numbers = spread(n, count, &mut rng);
            assert_eq!(numbers.len(), count.min(n));
            let stretch = n.div_ceil(count.max(1));
            for (i, &number) in numbers.iter().enumerate() {
                let start = i * n / numbers.len();
                assert!((start..start + stretch).contains(&number), "{number} of {n} in {count}");
            }
        }
        assert_eq!(within(&[1, 4, 5, 9], 4..9), [0, 1]);
    }
}
