//! What a training learns from: rows, some of them held out, and the graph of their neighbours.

use std::borrow::Cow;

use rand::Rng;

use super::blocks::Blocks;
use super::likeness::Nearness;
use super::options::{Memory, TrainOptions};
use super::part::Part;
use super::random::{Purpose, permutation, stream};
use super::spread::Spread;
use super::streamed::{Loaded, Streamed, nearest_others};
use crate::error::Result;
use crate::input::Features;
use crate::numeric::{Neighbours, nearest_other_rows};

/// Rows of a window whose neighbours are searched for together: a search has copies of them.
const SEARCHED: usize = 8192;

/// What is learned from, and what is held out.
pub(super) struct Data {
    pub train: Rows,
    pub held_out: Option<Part>,
    /// How large the features that are learned from are.
    pub spread: Spread,
}

/// The rows that are learned from.
pub(super) enum Rows {
    /// In memory, with the graph of all.
    Whole(Part),
    /// In a file, with a sample in memory.
    Streamed(Box<Streamed>),
}

/// Rows that are in memory at a time.
pub(super) struct Window<'a> {
    pub rows: Cow<'a, Features>,
    /// The rows of the pool that are near each; `None` where neighbours are not used.
    near: Option<Cow<'a, Neighbours>>,
    /// Which row of the pool each is itself; `None` where the rows are the pool.
    own: Option<Vec<Option<u32>>>,
}

impl Data {
    /// Splits the rows and finds the neighbours in each part, where there is a nearness; `told` is called
    /// now and then, and ends it where it fails.
    pub fn new(
        blocks: Blocks,
        options: &TrainOptions,
        nearness: Option<&Nearness>,
        told: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        match (blocks.into_memory(), &options.memory) {
            (Ok(features), _) => Self::whole(features, options, nearness),
            (Err(blocks), Some(memory)) => Self::streamed(blocks, memory, options, nearness, told),
            (Err(_), None) => unreachable!("rows leave memory where it is limited"),
        }
    }

    /// Of rows in blocks, of which no more are to be in memory at a time than it holds.
    pub fn streamed(
        blocks: Blocks,
        memory: &Memory,
        options: &TrainOptions,
        nearness: Option<&Nearness>,
        told: &mut dyn FnMut() -> Result<()>,
    ) -> Result<Self> {
        let made = Streamed::new(blocks, memory, options, nearness, told)?;
        let (streamed, held_out, spread) = made;
        let held_out = (held_out.rows() > 0).then(|| Part::new(held_out, nearness));
        Ok(Self {
            train: Rows::Streamed(Box::new(streamed)),
            held_out: held_out.transpose()?,
            spread,
        })
    }

    /// Of rows in memory.
    pub fn whole(
        mut features: Features,
        options: &TrainOptions,
        nearness: Option<&Nearness>,
    ) -> Result<Self> {
        let rows = features.rows();
        let mut order = permutation(&mut stream(options.seed, Purpose::Split, 0), rows);
        // A row must be left to learn from, with one to be paired with.
        let held = ((rows as f64 * options.validation) as usize).min(rows - 2);
        let mut held_out = order.split_off(rows - held);
        // In their old order: neighbours of equal cosine are the earlier rows.
        held_out.sort_unstable();
        let held_out = (held > 0).then(|| features.take(&held_out));
        let mut spread = Spread::default();
        spread.add(&features);
        Ok(Self {
            train: Rows::Whole(Part::new(features, nearness)?),
            held_out: held_out.map(|rows| Part::new(rows, nearness)).transpose()?,
            spread,
        })
    }
}

impl Rows {
    /// How many there are.
    pub fn count(&self) -> usize {
        match self {
            Self::Whole(part) => part.rows.rows(),
            Self::Streamed(streamed) => streamed.rows(),
        }
    }

    pub fn cols(&self) -> usize {
        self.pool().rows.cols()
    }

    /// Where partners come from, and what stands for all rows where they are looked at together: all of
    /// them, or the sample.
    pub fn pool(&self) -> &Part {
        match self {
            Self::Whole(part) => part,
            Self::Streamed(streamed) => &streamed.sample,
        }
    }

    /// The bytes that an epoch reads from a scratch file.
    pub fn scratch_bytes(&self) -> u64 {
        match self {
            Self::Whole(_) => 0,
            Self::Streamed(streamed) => streamed.bytes(),
        }
    }

    /// The blocks of each window of an epoch.
    pub fn windows(&self, rng: &mut impl Rng) -> Vec<Vec<usize>> {
        match self {
            Self::Whole(_) => vec![Vec::new()],
            Self::Streamed(streamed) => streamed.windows(rng),
        }
    }

    /// A window of [`windows`](Self::windows).
    pub fn load(&self, blocks: &[usize]) -> Result<Window<'_>> {
        Ok(match self {
            Self::Whole(part) => Window {
                rows: Cow::Borrowed(&part.rows),
                near: part.graph.as_ref().map(Cow::Borrowed),
                own: None,
            },
            Self::Streamed(streamed) => {
                let Loaded { rows, near, own } = streamed.load(blocks)?;
                Window { rows: Cow::Owned(rows), near: near.map(Cow::Owned), own: Some(own) }
            }
        })
    }

    /// All rows in their order, some at a time.
    pub fn in_order(&self) -> impl Iterator<Item = Result<Cow<'_, Features>>> {
        let blocks = match self {
            Self::Whole(_) => 1,
            Self::Streamed(streamed) => streamed.blocks(),
        };
        (0..blocks).map(|block| Ok(self.load(&[block])?.rows))
    }
}

impl Window<'_> {
    /// The row of the pool that each row is paired with: the end of a walk of `steps` steps on the graph.
    pub fn partners(&self, pool: &Part, steps: usize, rng: &mut impl Rng) -> Vec<usize> {
        match &self.near {
            Some(near) => pool.partners_of(near, steps, rng),
            None => (0..self.rows.rows()).collect(),
        }
    }

    /// The rows of the pool that are nearest to each, by values of the pool's rows and of these.
    pub fn nearest_by(
        &self,
        pool: &Features,
        own: impl Fn(&Features) -> Result<Features>,
        count: usize,
    ) -> Result<Neighbours> {
        let Some(numbers) = &self.own else { return nearest_other_rows(pool, count) };
        let count = count.min(pool.rows() - 1);
        let all: Vec<usize> = (0..self.rows.rows()).collect();
        let mut near = Vec::with_capacity(count * all.len());
        for (rows, numbers) in all.chunks(SEARCHED).zip(numbers.chunks(SEARCHED)) {
            let rows = own(&self.rows.select(rows))?;
            near.extend_from_slice(nearest_others(pool, &rows, numbers, count)?.as_flat());
        }
        Ok(Neighbours::from_flat(count, near))
    }
}
