//! Dense rows: blocked matrix products find the candidates, f64 dot products decide.
//!
//! The product of unit rows in f32 is a bound for the cosine, once a slack for its rounding is
//! added. For a query, the k rows of highest bound are computed exactly; their worst cosine is a
//! floor, and only rows whose bound reaches the floor are computed exactly too.
//!
//! Where the product of whole rows is long work, rows are sketched first: by their coordinates p
//! along some orthonormal directions, and by the length r of what those leave. By Cauchy and
//! Schwarz no cosine exceeds p . p' + r r', which is again one product, of shorter rows. How far it
//! overshoots depends on the rows, so a few queries try it out before the rest relies on it.

use nalgebra::DMatrix;
use rayon::prelude::*;

use super::best::Best;
use super::inverse_norm;
use crate::input::{Features, Matrix};
use crate::numeric::blocks::BLOCK_ROWS;
use crate::numeric::components::{Components, orthonormal};
use crate::numeric::product::{multiply_into, rows_of, transpose_of};

/// The bounds that one thread holds at a time: 64 MiB of f32.
const BLOCK_BOUNDS: usize = 1 << 24;
/// Bounds that are looked at together: one comparison skips them all.
const STRIDE: usize = 64;

/// The columns of a sketch; rows of up to twice as many are not worth one.
const SKETCH_COLS: usize = 128;
/// The multiplications above which a sketch is worth its making, about ten seconds of one core.
const SKETCH_WORK: usize = 1 << 39;
/// The rows from which the directions of a sketch are learned.
const SKETCH_ROWS: usize = 4096;
/// The queries that try a sketch out.
const TRIAL_QUERIES: usize = 64;
/// What an exact cosine costs, in bounds of whole rows.
const EXACT_COST: usize = 12;

pub(super) fn search(database: &Matrix, queries: &Matrix, k: usize, others: bool) -> Vec<Vec<u32>> {
    let work = database.rows().saturating_mul(queries.rows()).saturating_mul(database.cols());
    if work > SKETCH_WORK
        && database.cols() > 2 * SKETCH_COLS
        && let Some(basis) = sketch_basis(database, SKETCH_COLS)
    {
        let sides = Sides::new(database, queries, Some(&basis), others);
        let trial: Vec<usize> =
            (0..TRIAL_QUERIES).map(|i| i * queries.rows() / TRIAL_QUERIES).collect();
        let exact: usize = sides.answer(&trial, k).iter().map(|answer| answer.exact).sum();
        if exact * EXACT_COST < TRIAL_QUERIES * database.rows() {
            return sides.answer_all(k);
        }
    }
    Sides::new(database, queries, None, others).answer_all(k)
}

/// The database and the queries of one search.
struct Sides<'a> {
    database: Rows<'a>,
    /// `None` where the queries are the database, and each leaves itself out.
    queries: Option<Rows<'a>>,
}

/// The answer to one query, and the exact cosines that it took.
struct Answer {
    rows: Vec<u32>,
    exact: usize,
}

impl<'a> Sides<'a> {
    fn new(
        database: &'a Matrix,
        queries: &'a Matrix,
        basis: Option<&Matrix>,
        others: bool,
    ) -> Self {
        let queries = if others { None } else { Some(Rows::new(queries, basis)) };
        Self { database: Rows::new(database, basis), queries }
    }

    fn queries(&self) -> &Rows<'a> {
        self.queries.as_ref().unwrap_or(&self.database)
    }

    fn answer_all(&self, k: usize) -> Vec<Vec<u32>> {
        let queries: Vec<usize> = (0..self.queries().given.rows()).collect();
        self.answer(&queries, k).into_iter().map(|answer| answer.rows).collect()
    }

    fn answer(&self, queries: &[usize], k: usize) -> Vec<Answer> {
        let rows = self.database.given.rows();
        let block = (BLOCK_BOUNDS / rows).clamp(16, 256);
        let answers: Vec<Vec<Answer>> = queries
            .par_chunks(block)
            .map_init(Vec::new, |bounds, block| {
                bounds.resize(block.len() * rows, 0.0);
                self.bounds_into(block, bounds);
                let bounds = bounds.chunks_exact_mut(rows);
                block.iter().zip(bounds).map(|(&query, b)| self.nearest(query, b, k)).collect()
            })
            .collect();
        answers.into_iter().flatten().collect()
    }

    /// Writes the bounds of each query with each row: shape (queries, rows).
    fn bounds_into(&self, queries: &[usize], bounds: &mut [f32]) {
        let queries = self.queries().short.select(queries);
        let database = &self.database.short;
        let (queries, cols) = (rows_of(queries.values(), queries.cols()), database.cols());
        multiply_into(queries, transpose_of(database.values(), cols), bounds);
    }

    /// The k nearest rows of one query, from the bounds of all rows.
    fn nearest(&self, query: usize, bounds: &mut [f32], k: usize) -> Answer {
        let cosine = |row: u32| self.database.cosine(row as usize, self.queries(), query);
        let slack = self.database.slack();
        if self.queries.is_none() {
            bounds[query] = f32::NEG_INFINITY;
        }
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
        let mut exact = k;
        for (bound, row) in rest {
            if f64::from(bound) + slack < best.floor() {
                break;
            }
            best.push(cosine(row), row);
            exact += 1;
        }
        Answer { rows: best.into_rows(), exact }
    }
}

/// Orthonormal directions in which rows are long: their mean and principal components, from a
/// sample that is spread over all rows. Shape (sketch_cols - 1, cols); `None` where they cannot be
/// found.
fn sketch_basis(rows: &Matrix, sketch_cols: usize) -> Option<Matrix> {
    let count = rows.rows().min(SKETCH_ROWS);
    let sample: Vec<usize> = (0..count).map(|i| i * rows.rows() / count).collect();
    let sample = Rows::new(&rows.select(&sample), None).short;
    // The mean is one direction more, and the length of the rest takes one column.
    let components = Components::fit(&Features::Dense(sample), sketch_cols - 2, 0).ok()?;
    let mut columns: Vec<f64> =
        components.projection().mean().iter().map(|&v| f64::from(v)).collect();
    columns.extend(components.projection().directions().values().iter().map(|&v| f64::from(v)));
    let basis = orthonormal(DMatrix::from_vec(rows.cols(), sketch_cols - 1, columns));
    // The columns of the one are the rows of the other.
    let values = basis.iter().map(|&v| v as f32).collect();
    Some(Matrix::new(sketch_cols - 1, rows.cols(), values))
}

/// Rows as they came, and short rows whose products bound the cosines.
struct Rows<'a> {
    given: &'a Matrix,
    inverse_norms: Vec<f64>,
    /// The rows at unit length, or their sketches.
    short: Matrix,
}

impl<'a> Rows<'a> {
    fn new(given: &'a Matrix, basis: Option<&Matrix>) -> Self {
        let inverse_norms: Vec<f64> = given.iter().map(inverse_norm).collect();
        let unit = |i: usize| {
            let norm = inverse_norms[i];
            given.row(i).iter().map(move |&v| (f64::from(v) * norm) as f32)
        };
        let short = match basis {
            None => {
                Matrix::new(given.rows(), given.cols(), (0..given.rows()).flat_map(unit).collect())
            }
            Some(basis) => {
                let blocks: Vec<Vec<f32>> = (0..given.rows())
                    .collect::<Vec<_>>()
                    .par_chunks(BLOCK_ROWS)
                    .map(|rows| {
                        sketch(&rows.iter().flat_map(|&i| unit(i)).collect::<Vec<f32>>(), basis)
                    })
                    .collect();
                Matrix::new(given.rows(), basis.rows() + 1, blocks.concat())
            }
        };
        Self { given, inverse_norms, short }
    }

    /// What a bound in f32 may be short of the cosine. The rounding of a sum of n products of unit
    /// rows is below n x 2^-24; projections and units add as much again.
    fn slack(&self) -> f64 {
        (self.given.cols() + 32) as f64 * f64::from(f32::EPSILON)
    }

    fn cosine(&self, row: usize, queries: &Self, query: usize) -> f64 {
        let dot = dot(self.given.row(row), queries.given.row(query));
        dot * self.inverse_norms[row] * queries.inverse_norms[query]
    }
}

/// The coordinates of unit rows along a basis, and the length of what is left: shape (rows,
/// directions + 1).
fn sketch(units: &[f32], basis: &Matrix) -> Vec<f32> {
    let mut coordinates = vec![0.0; units.len() / basis.cols() * basis.rows()];
    let directions = transpose_of(basis.values(), basis.cols());
    multiply_into(rows_of(units, basis.cols()), directions, &mut coordinates);
    let mut sketches = Vec::with_capacity(coordinates.len() / basis.rows() * (basis.rows() + 1));
    for row in coordinates.chunks_exact(basis.rows()) {
        let square: f64 = row.iter().map(|&v| f64::from(v) * f64::from(v)).sum();
        sketches.extend_from_slice(row);
        // 1e-5 is for the rounding of the square, which the root would magnify near zero.
        sketches.push(((1.0 - square).max(0.0) + 1e-5).sqrt() as f32);
    }
    sketches
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::gaussian;

    /// Rows near a plane of few dimensions, as the rows of real data are.
    fn rows(count: usize, cols: usize, seed: u64) -> Matrix {
        let (inside, plane) = (gaussian(count, 6, seed), gaussian(6, cols, 1));
        let mut values = vec![0.0; count * cols];
        let (a, b) = (rows_of(inside.values(), 6), rows_of(plane.values(), cols));
        multiply_into(a, b, &mut values);
        let noise = gaussian(count, cols, seed + 1);
        let values = values.iter().zip(noise.values()).map(|(v, noise)| 2.0 + v + 0.3 * noise);
        Matrix::new(count, cols, values.collect())
    }

    #[test]
    fn a_sketch_bounds_every_cosine() {
        let mut database = rows(150, 40, 2);
        database.row_mut(7).fill(0.0);
        let queries = rows(30, 40, 4);
        let basis = sketch_basis(&database, 9).unwrap();
        let sides = Sides::new(&database, &queries, Some(&basis), false);
        let all: Vec<usize> = (0..30).collect();
        let mut bounds = vec![0.0; 30 * 150];
        sides.bounds_into(&all, &mut bounds);
        for (query, bounds) in bounds.chunks_exact(150).enumerate() {
            for (row, &bound) in bounds.iter().enumerate() {
                let cosine = sides.database.cosine(row, sides.queries(), query);
                assert!(f64::from(bound) + 1e-5 >= cosine, "{query}, {row}: {bound} < {cosine}");
                assert!(row == 7 || f64::from(bound) < cosine + 0.3, "a bound that says nothing");
            }
        }
    }

    #[test]
    fn a_sketch_changes_the_work_and_not_the_answer() {
        let (database, queries) = (rows(900, 48, 5), rows(70, 48, 7));
        for others in [false, true] {
            let queries = if others { &database } else { &queries };
            let basis = sketch_basis(&database, 12).unwrap();
            let whole = Sides::new(&database, queries, None, others);
            let short = Sides::new(&database, queries, Some(&basis), others);
            let all: Vec<usize> = (0..queries.rows()).collect();
            let mut exact = 0;
            for (whole, short) in whole.answer(&all, 10).iter().zip(short.answer(&all, 10)) {
                assert_eq!(whole.rows, short.rows);
                assert!(whole.exact < 30);
                exact += short.exact;
            }
            assert!(exact < 300 * queries.rows(), "the sketch spared no work: {exact}");
        }
    }
}
