//! Principal components of dense rows and latent semantic analysis of sparse rows.
//!
//! Both ask for the directions in which rows vary most: the leading eigenvectors of G = A^T A,
//! where A holds the centred rows (principal components) or the rows as they are (latent semantic
//! analysis, which keeps zeros zero; Deerwester et al. 1990). Subspace iteration finds them: start
//! from a random basis Q, replace it by an orthonormal basis of G Q until what it captures stands
//! still, then rotate it onto the eigenvectors of the small matrix Q^T G Q. See Halko, Martinsson,
//! Tropp, *Finding structure with randomness*, 2011, algorithms 4.4 and 5.3. G itself is never
//! formed: one pass over the rows gives G Q.

use nalgebra::{Cholesky, DMatrix, SymmetricEigen};
use rayon::prelude::*;

use super::BLOCK_ROWS;
use super::gaussian::gaussian;
use super::product::{multiply_into, rows_of, transpose_of};
use crate::error::{Error, Result};
use crate::input::{Features, Matrix, Sparse};

/// Directions beyond those asked for; they speed up and stabilize the iteration.
const OVERSAMPLING: usize = 16;
/// The share of captured variation below which a further pass gains nothing.
const TOLERANCE: f64 = 1e-4;
/// The most passes over the rows.
const MAX_PASSES: usize = 30;
/// The steps after which an eigenvalue decomposition is given up; it takes a few a column.
const MAX_SWEEPS: usize = 100_000;
/// Blocks whose sums are held at a time.
const BLOCKS_AT_ONCE: usize = 16;

/// Orthonormal directions, those of greatest variation first, and the point they start from.
#[derive(Clone, PartialEq, Debug)]
pub struct Components {
    /// What is taken from each row first: its mean, or zeros for sparse rows. One a column.
    mean: Vec<f32>,
    /// Shape (k, cols): a direction of unit length a row.
    directions: Matrix,
    /// The sum of squares along each direction.
    energies: Vec<f64>,
}

impl Components {
    /// The leading `k` directions of `rows`: principal components where they are dense, latent
    /// semantic analysis where they are sparse.
    ///
    /// The largest entry of each direction is positive, so that a sign is no accident.
    ///
    /// # Errors
    /// No rows, `k` beyond the number of columns, or values that are not finite or so large that
    /// sums of their squares are not.
    pub fn fit(rows: &Features, k: usize, seed: u64) -> Result<Self> {
        if rows.rows() == 0 {
            return Err(Error::invalid(
                "rows",
                "expected at least one row to learn from, got none",
            ));
        }
        if k > rows.cols() {
            let message = format!("expected at most the {} columns, got {k}", rows.cols());
            return Err(Error::invalid("components", message));
        }
        let mean = match rows {
            Features::Dense(rows) => column_means(rows),
            Features::Sparse(rows) => vec![0.0; rows.cols()],
        };
        let width = (k + OVERSAMPLING).min(rows.cols());
        let start = gaussian(rows.cols(), width, seed);
        let mut basis = orthonormal(to_f64(start.values(), width));
        let mut captured = 0.0;
        let mut passes = 1;
        let image = loop {
            let image = gram_times(rows, &mean, &basis);
            let trace = basis.dot(&image);
            if !trace.is_finite() {
                let message = "values are not finite, or too large to add up; scale them down";
                return Err(Error::invalid("rows", message));
            }
            if trace - captured <= TOLERANCE * trace || passes == MAX_PASSES {
                break image;
            }
            captured = trace;
            passes += 1;
            basis = orthonormal(image);
        };
        let (energies, rotation) = leading_eigenvectors(basis.transpose() * image, k)?;
        let directions = basis * rotation;
        let mut values = Vec::with_capacity(k * rows.cols());
        for direction in directions.column_iter() {
            let sign = direction[direction.iamax()].signum();
            values.extend(direction.iter().map(|v| (v * sign) as f32));
        }
        Ok(Self { mean, directions: Matrix::new(k, rows.cols(), values), energies })
    }

    /// The number of directions.
    pub fn len(&self) -> usize {
        self.directions.rows()
    }

    /// Whether there is no direction.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The directions: shape (k, cols), each row of unit length, orthogonal to the others.
    pub fn directions(&self) -> &Matrix {
        &self.directions
    }

    /// What is subtracted from a row before it is projected, one number a column.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The squared length of all the fitted rows along each direction, falling: the squares of the
    /// singular values.
    pub fn energies(&self) -> &[f64] {
        &self.energies
    }

    /// The coordinates of rows along the directions: shape (rows, k).
    ///
    /// # Errors
    /// Rows with another number of columns.
    pub fn project(&self, rows: &Features) -> Result<Matrix> {
        let (cols, k) = (self.directions.cols(), self.len());
        if rows.cols() != cols {
            let message = format!("expected {cols} columns, got {}", rows.cols());
            return Err(Error::invalid("rows", message));
        }
        let mut projected = vec![0.0; rows.rows() * k];
        if k > 0 {
            let basis = transposed(&self.directions);
            projected.par_chunks_mut(BLOCK_ROWS * k).enumerate().for_each(|(block, out)| {
                let start = block * BLOCK_ROWS;
                let block = Block::of(rows, &self.mean, start, start + out.len() / k);
                block.times_into(&basis, k, out);
            });
        }
        Ok(Matrix::new(rows.rows(), k, projected))
    }
}

fn transposed(matrix: &Matrix) -> Vec<f32> {
    (0..matrix.cols()).flat_map(|c| matrix.iter().map(move |row| row[c])).collect()
}

/// The mean of each column.
pub fn column_means(rows: &Matrix) -> Vec<f32> {
    let mut sums = vec![0.0; rows.cols()];
    for row in rows.iter() {
        sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
    }
    let count = rows.rows().max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// A^T (A Q), where A holds the rows less `mean`: shape of Q, (cols, width).
fn gram_times(rows: &Features, mean: &[f32], basis: &DMatrix<f64>) -> DMatrix<f64> {
    let (cols, width) = basis.shape();
    // nalgebra stands column after column: the transpose of what a block wants.
    let basis: Vec<f32> = basis.transpose().iter().map(|&v| v as f32).collect();
    let mut sum = vec![0.0; cols * width];
    let starts: Vec<usize> = (0..rows.rows()).step_by(BLOCK_ROWS).collect();
    for starts in starts.chunks(BLOCKS_AT_ONCE) {
        let parts: Vec<Vec<f32>> = starts
            .par_iter()
            .map(|&start| {
                let end = (start + BLOCK_ROWS).min(rows.rows());
                let block = Block::of(rows, mean, start, end);
                let mut coordinates = vec![0.0; (end - start) * width];
                block.times_into(&basis, width, &mut coordinates);
                let mut part = vec![0.0; cols * width];
                block.transpose_times_into(&coordinates, width, &mut part);
                part
            })
            .collect();
        for part in parts {
            sum.iter_mut().zip(part).for_each(|(sum, value)| *sum += f64::from(value));
        }
    }
    DMatrix::from_row_slice(cols, width, &sum)
}

/// A run of rows, centred where they are dense.
enum Block<'a> {
    Dense { values: Vec<f32>, cols: usize },
    Sparse { rows: &'a Sparse, start: usize, end: usize },
}

impl<'a> Block<'a> {
    fn of(rows: &'a Features, mean: &[f32], start: usize, end: usize) -> Self {
        match rows {
            Features::Dense(rows) => {
                let cols = rows.cols();
                let values = rows.values()[start * cols..end * cols]
                    .chunks_exact(cols)
                    .flat_map(|row| row.iter().zip(mean).map(|(value, mean)| value - mean))
                    .collect();
                Self::Dense { values, cols }
            }
            Features::Sparse(rows) => Self::Sparse { rows, start, end },
        }
    }

    /// Writes A B to `out`, B of shape (cols, width) and `out` of shape (rows, width).
    fn times_into(&self, basis: &[f32], width: usize, out: &mut [f32]) {
        match self {
            Self::Dense { values, cols } => {
                multiply_into(rows_of(values, *cols), rows_of(basis, width), out);
            }
            Self::Sparse { rows, start, end } => {
                for (row, out) in (*start..*end).zip(out.chunks_exact_mut(width)) {
                    out.fill(0.0);
                    for (column, value) in entries(rows, row) {
                        add_scaled(out, value, &basis[column * width..(column + 1) * width]);
                    }
                }
            }
        }
    }

    /// Writes A^T P to `out`, P of shape (rows, width) and `out`, zeros before, of (cols, width).
    fn transpose_times_into(&self, coordinates: &[f32], width: usize, out: &mut [f32]) {
        match self {
            Self::Dense { values, cols } => {
                multiply_into(transpose_of(values, *cols), rows_of(coordinates, width), out);
            }
            Self::Sparse { rows, start, end } => {
                for (row, from) in (*start..*end).zip(coordinates.chunks_exact(width)) {
                    for (column, value) in entries(rows, row) {
                        add_scaled(&mut out[column * width..(column + 1) * width], value, from);
                    }
                }
            }
        }
    }
}

fn entries(rows: &Sparse, row: usize) -> impl Iterator<Item = (usize, f32)> {
    let (columns, values) = rows.row(row);
    columns.iter().map(|&column| column as usize).zip(values.iter().copied())
}

fn add_scaled(to: &mut [f32], scale: f32, from: &[f32]) {
    to.iter_mut().zip(from).for_each(|(to, from)| *to += scale * from);
}

fn to_f64(values: &[f32], cols: usize) -> DMatrix<f64> {
    DMatrix::from_row_iterator(values.len() / cols, cols, values.iter().map(|&v| f64::from(v)))
}

/// An orthonormal basis of the columns of `a`, as many as it has columns.
///
/// Cholesky factors of A^T A give it through matrix products; done twice, it is orthonormal to
/// rounding (Yamamoto et al., *Roundoff error analysis of the CholeskyQR2 algorithm*, 2015).
/// Columns that nearly depend on one another are left to Householder's slower way.
pub(crate) fn orthonormal(a: DMatrix<f64>) -> DMatrix<f64> {
    let mut q = a;
    for _ in 0..2 {
        let factor = Cholesky::new(q.transpose() * &q).map(|cholesky| cholesky.unpack());
        let inverse = factor.and_then(|factor| {
            let diagonal = factor.diagonal();
            let sound = diagonal.min() > 1e-6 * diagonal.max();
            let identity = DMatrix::identity(factor.nrows(), factor.ncols());
            if sound { factor.solve_lower_triangular(&identity) } else { None }
        });
        match inverse {
            Some(inverse) => q *= inverse.transpose(),
            None => return q.qr().q(),
        }
    }
    q
}

/// The `k` largest eigenvalues of a symmetric matrix, falling, and their vectors as columns.
fn leading_eigenvectors(matrix: DMatrix<f64>, k: usize) -> Result<(Vec<f64>, DMatrix<f64>)> {
    // Rounding leaves the two halves a little apart.
    let symmetric = (&matrix + matrix.transpose()) * 0.5;
    let Some(eigen) = SymmetricEigen::try_new(symmetric, f64::EPSILON, MAX_SWEEPS) else {
        return Err(Error::invalid("rows", "the eigenvalues of their products do not settle"));
    };
    let mut order: Vec<usize> = (0..eigen.eigenvalues.len()).collect();
    order.sort_by(|&a, &b| eigen.eigenvalues[b].total_cmp(&eigen.eigenvalues[a]));
    order.truncate(k);
    let values = order.iter().map(|&i| eigen.eigenvalues[i].max(0.0)).collect();
    Ok((values, eigen.eigenvectors.select_columns(&order)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows that vary mostly along a few directions, each half as much as the one before.
    fn rows(count: usize, cols: usize, seed: u64) -> Matrix {
        let mut noise = gaussian(count, cols, seed);
        for i in 0..count {
            let row = noise.row_mut(i);
            for (j, value) in row.iter_mut().enumerate() {
                *value = *value * 0.8f32.powi(j as i32) + 3.0;
            }
            // Mix the columns, so that no direction is an axis.
            for j in 1..cols {
                row[j] += 0.5 * row[j - 1];
            }
        }
        noise
    }

    fn to_sparse(rows: &Matrix) -> Features {
        let mut sparse = Sparse::new(rows.cols());
        rows.iter().for_each(|row| sparse.push((0..).zip(row.iter().copied())));
        Features::Sparse(sparse)
    }

    /// The whole decomposition of A^T A, and the alignment |cos| of each leading direction with it.
    fn check(rows: &Features, dense: &Matrix, mean: &[f32], k: usize) {
        let found = Components::fit(rows, k, 1).unwrap();
        let centred = DMatrix::from_fn(dense.rows(), dense.cols(), |i, j| {
            f64::from(dense.row(i)[j]) - f64::from(mean[j])
        });
        let (energies, vectors) = leading_eigenvectors(centred.transpose() * &centred, k).unwrap();
        for i in 0..k {
            let relative = (found.energies()[i] / energies[i] - 1.0).abs();
            assert!(
                relative < 1e-3,
                "energy {i}: expected {}, got {}",
                energies[i],
                found.energies()[i]
            );
            let direction = found.directions().row(i);
            let cosine: f64 = direction
                .iter()
                .zip(vectors.column(i).iter())
                .map(|(&a, b)| f64::from(a) * b)
                .sum();
            assert!(cosine.abs() > 0.999, "direction {i}: |cos| {}", cosine.abs());
        }
        let projected = found.project(rows).unwrap();
        let expected = &centred * vectors.column(0);
        let sign = (f64::from(projected.row(0)[0]) * expected[0]).signum();
        for (row, expected) in projected.iter().zip(expected.iter()) {
            assert!((f64::from(row[0]) - sign * expected).abs() < 2e-2);
        }
    }

    #[test]
    fn dense_rows_give_the_eigenvectors_of_their_covariance() {
        let dense = rows(3000, 60, 2);
        check(&Features::Dense(dense.clone()), &dense, &column_means(&dense), 8);
    }

    #[test]
    fn sparse_rows_give_the_singular_vectors_without_a_mean() {
        let dense = rows(1500, 60, 3);
        check(&to_sparse(&dense), &dense, &[0.0; 60], 6);
    }

    #[test]
    fn directions_are_orthonormal_even_where_rows_are_few() {
        for (count, cols, k) in [(2, 40, 20), (1, 7, 7), (300, 30, 30), (5, 3, 0)] {
            let found = Components::fit(&Features::Dense(rows(count, cols, 4)), k, 5).unwrap();
            assert_eq!(found.len(), k);
            for i in 0..k {
                for j in 0..k {
                    let pairs = found.directions().row(i).iter().zip(found.directions().row(j));
                    let dot: f32 = pairs.map(|(a, b)| a * b).sum();
                    let expected = f32::from(u8::from(i == j));
                    assert!((dot - expected).abs() < 1e-5, "{count} rows: {i} . {j} = {dot}");
                }
            }
        }
    }

    #[test]
    fn the_same_seed_gives_the_same_bytes_on_any_number_of_threads() {
        let rows = Features::Dense(rows(5000, 40, 6));
        let fit = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| Components::fit(&rows, 10, 7).unwrap())
        };
        assert_eq!(fit(1), fit(3));
    }

    #[test]
    fn too_many_components_and_no_rows_are_refused() {
        let error = |rows: usize, k| {
            let rows = Features::Dense(Matrix::zeros(rows, 4));
            Components::fit(&rows, k, 0).unwrap_err().to_string()
        };
        assert_eq!(error(3, 5), "components: expected at most the 4 columns, got 5");
        assert_eq!(error(0, 2), "rows: expected at least one row to learn from, got none");
    }
}
