//! Dense rows: blocked matrix products find the candidates, f64 dot products decide.
//!
//! The product of unit rows in f32 is a bound for the cosine, once a slack for its rounding is
//! added. For a query, the k rows of highest bound are computed exactly; their worst cosine is a
//! floor, and only rows whose bound reaches the floor are computed exactly too.

use rayon::prelude::*;

use super::best::Best;
use super::inverse_norm;
use crate::input::Matrix;
use crate::numeric::product::{multiply_into, rows_of, transpose_of};

/// The bounds that one thread holds at a time: 64 MiB of f32.
const BLOCK_BOUNDS: usize = 1 << 24;

/// Bounds that are looked at together: one comparison skips them all.
const STRIDE: usize = 64;

pub(super) fn search(database: &Matrix, queries: &Matrix, k: usize, others: bool) -> Vec<Vec<u32>> {
    let rows = Rows::new(database);
    let asked = if others { None } else { Some(Rows::new(queries)) };
    let asked = asked.as_ref().unwrap_or(&rows);
    let block = (BLOCK_BOUNDS / database.rows()).clamp(16, 256);
    let starts: Vec<usize> = (0..queries.rows()).step_by(block).collect();
    let lists: Vec<Vec<Vec<u32>>> = starts
        .into_par_iter()
        .map_init(Vec::new, |bounds, start| {
            let block = start..(start + block).min(queries.rows());
            bounds.resize(block.len() * database.rows(), 0.0);
            rows.bounds_into(&asked.unit[block.start * rows.cols..block.end * rows.cols], bounds);
            let bounds = bounds.chunks_exact_mut(database.rows());
            block
                .zip(bounds)
                .map(|(query, bounds)| {
                    if others {
                        bounds[query] = f32::NEG_INFINITY;
                    }
                    let cosine = |row: u32| rows.cosine(row as usize, asked, query);
                    nearest(bounds, rows.slack(), k, cosine)
                })
                .collect()
        })
        .collect();
    lists.into_iter().flatten().collect()
}

/// The k nearest rows of one query, from a bound for each row's cosine and the cosine itself.
fn nearest(bounds: &mut [f32], slack: f64, k: usize, cosine: impl Fn(u32) -> f64) -> Vec<u32> {
    let mut likely = Best::new(k);
    for_each_above(bounds, f32::NEG_INFINITY, |bound, row| {
        likely.push(f64::from(bound), row);
        likely.floor() as f32
    });
    let mut best = Best::new(k);
    for row in likely.into_rows() {
        best.push(cosine(row), row);
        bounds[row as usize] = f32::NEG_INFINITY;
    }
    let mut rest: Vec<(f32, u32)> = Vec::new();
    let reach = (best.floor() - slack) as f32;
    for_each_above(bounds, reach, |bound, row| {
        rest.push((bound, row));
        reach
    });
    rest.sort_unstable_by(|a, b| b.0.total_cmp(&a.0));
    for (bound, row) in rest {
        if f64::from(bound) + slack < best.floor() {
            break;
        }
        best.push(cosine(row), row);
    }
    best.into_rows()
}

/// Calls `visit` with every bound above `floor` and its row, in ascending order; `visit` returns
/// the floor from there on.
fn for_each_above(bounds: &[f32], mut floor: f32, mut visit: impl FnMut(f32, u32) -> f32) {
    for (i, chunk) in bounds.chunks(STRIDE).enumerate() {
        // A count, unlike a search, has no early exit and becomes vector instructions.
        let above: u32 = chunk.iter().map(|&bound| u32::from(bound > floor)).sum();
        if above > 0 {
            for (j, &bound) in chunk.iter().enumerate() {
                if bound > floor {
                    floor = visit(bound, (i * STRIDE + j) as u32);
                }
            }
        }
    }
}

/// Rows as they came and at unit length.
struct Rows<'a> {
    given: &'a Matrix,
    inverse_norms: Vec<f64>,
    cols: usize,
    /// Shape (rows, cols).
    unit: Vec<f32>,
}

impl<'a> Rows<'a> {
    fn new(given: &'a Matrix) -> Self {
        let inverse_norms: Vec<f64> = given.iter().map(inverse_norm).collect();
        let unit = given
            .iter()
            .zip(&inverse_norms)
            .flat_map(|(row, norm)| row.iter().map(move |&v| (f64::from(v) * norm) as f32))
            .collect();
        Self { given, inverse_norms, cols: given.cols(), unit }
    }

    /// What a bound in f32 may be short of the cosine: the rounding of a sum of `cols` products of
    /// unit rows is below cols x 2^-24, that of the units themselves below 2^-22.
    fn slack(&self) -> f64 {
        (self.cols + 8) as f64 * f64::from(f32::EPSILON)
    }

    /// Writes the bounds of each query in `units` with each row: shape (queries, rows).
    fn bounds_into(&self, units: &[f32], bounds: &mut [f32]) {
        multiply_into(rows_of(units, self.cols), transpose_of(&self.unit, self.cols), bounds);
    }

    fn cosine(&self, row: usize, asked: &Self, query: usize) -> f64 {
        let dot = dot(self.given.row(row), asked.given.row(query));
        dot * self.inverse_norms[row] * asked.inverse_norms[query]
    }
}

/// The dot product in f64, in eight sums side by side so that none waits for the one before.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let (a_eights, a_rest) = a.as_chunks::<8>();
    let (b_eights, b_rest) = b.as_chunks::<8>();
    let mut sums = [0.0; 8];
    for (a, b) in a_eights.iter().zip(b_eights) {
        for (sum, (&a, &b)) in sums.iter_mut().zip(a.iter().zip(b)) {
            *sum += f64::from(a) * f64::from(b);
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
    sums.iter().sum::<f64>() + rest
}
