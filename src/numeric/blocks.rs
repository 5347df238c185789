//! Sums over rows, in blocks of a fixed size, so that the order of additions, and with it every
//! bit of a sum, is the same on any number of threads.

use std::ops::Range;

use rayon::prelude::*;

/// Rows of a block.
pub(super) const BLOCK_ROWS: usize = 1024;

/// Blocks whose sums are held at a time.
const BLOCKS_AT_ONCE: usize = 16;

/// The sum over all blocks of `rows` rows of what `work` writes for one: `len` numbers, which
/// are zeros before.
pub(super) fn sum_over_blocks(
    rows: usize,
    len: usize,
    work: impl Fn(Range<usize>, &mut [f32]) + Sync,
) -> Vec<f64> {
    let mut sum = vec![0.0; len];
    let starts: Vec<usize> = (0..rows).step_by(BLOCK_ROWS).collect();
    for starts in starts.chunks(BLOCKS_AT_ONCE) {
        let parts: Vec<Vec<f32>> = starts
            .par_iter()
            .map(|&start| {
                let mut part = vec![0.0; len];
                work(start..(start + BLOCK_ROWS).min(rows), &mut part);
                part
            })
            .collect();
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += f64::from(value));
        }
    }
    sum
}
