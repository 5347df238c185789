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

use super::blocks::sum_over_blocks;
use super::gaussian::gaussian;
use super::projection::{Block, Projection, column_means};
use crate::error::{Error, Result};
use crate::input::{Features, Matrix};

/// Directions beyond those asked for; they speed up and stabilize the iteration.
const OVERSAMPLING: usize = 16;
/// The share of captured variation below which a further pass gains nothing.
const TOLERANCE: f64 = 1e-4;
/// The most passes over the rows.
const MAX_PASSES: usize = 30;
/// The steps after which an eigenvalue decomposition is given up; it takes a few a column.
const MAX_SWEEPS: usize = 100_000;

/// Orthonormal directions, those of greatest variation first.
#[derive(Clone, PartialEq, Debug)]
pub struct Components {
    projection: Projection,
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
        let cols = rows.cols();
        if rows.rows() == 0 {
            let message = "expected at least one row to learn from, got none";
            return Err(Error::invalid("rows", message));
        }
        if k > cols {
            let message = format!("expected at most the {cols} columns, got {k}");
            return Err(Error::invalid("components", message));
        }
        let mean = match rows {
            Features::Dense(_) => column_means(rows),
            Features::Sparse(_) => vec![0.0; cols],
        };
        if k == 0 {
            let projection = Projection::new(mean, Matrix::zeros(0, cols))?;
            return Ok(Self { projection, energies: Vec::new() });
        }
        let (basis, image) = capturing_basis(rows, &mean, (k + OVERSAMPLING).min(cols), seed)?;
        let (energies, rotation) = leading_eigenvectors(basis.transpose() * image, k)?;
        let directions = basis * rotation;
        let mut values = Vec::with_capacity(k * cols);
        for direction in directions.column_iter() {
            let sign = direction[direction.iamax()].signum();
            values.extend(direction.iter().map(|v| (v * sign) as f32));
        }
        let projection = Projection::new(mean, Matrix::new(k, cols, values))?;
        Ok(Self { projection, energies })
    }

    /// The directions, each of unit length and orthogonal to the others, from the mean of the rows
    /// where they are dense and from zero where they are sparse.
    pub fn projection(&self) -> &Projection {
        &self.projection
    }

    /// The squared length of all the fitted rows along each direction, falling: the squares of the
    /// singular values.
    pub fn energies(&self) -> &[f64] {
        &self.energies
    }
}

/// Subspace iteration: an orthonormal basis Q of shape (cols, width), and G Q.
fn capturing_basis(
    rows: &Features,
    mean: &[f32],
    width: usize,
    seed: u64,
) -> Result<(DMatrix<f64>, DMatrix<f64>)> {
    let start = gaussian(rows.cols(), width, seed);
    let start = start.values().iter().map(|&v| f64::from(v));
    let mut basis = orthonormal(DMatrix::from_row_iterator(rows.cols(), width, start));
    let mut captured = 0.0;
    let mut passes = 1;
    loop {
        let image = gram_times(rows, mean, &basis);
        let trace = basis.dot(&image);
        if !trace.is_finite() {
            let message = "values are not finite, or too large to add up; scale them down";
            return Err(Error::invalid("rows", message));
        }
        if trace - captured <= TOLERANCE * trace || passes == MAX_PASSES {
            return Ok((basis, image));
        }
        captured = trace;
        passes += 1;
        basis = orthonormal(image);
    }
}

/// A^T (A Q), where A holds the rows less `mean`: shape of Q, (cols, width).
fn gram_times(rows: &Features, mean: &[f32], basis: &DMatrix<f64>) -> DMatrix<f64> {
    let (cols, width) = basis.shape();
    // nalgebra stands column after column: the transpose of what a block wants.
    let basis: Vec<f32> = basis.transpose().iter().map(|&v| v as f32).collect();
    let sum = sum_over_blocks(rows.rows(), cols * width, |range, out| {
        let block = Block::of(rows, mean, range);
        let mut coordinates = vec![0.0; block.rows() * width];
        block.times_into(&basis, width, &mut coordinates);
        block.transpose_times_into(&coordinates, width, out);
    });
    DMatrix::from_row_slice(cols, width, &sum)
}

/// An orthonormal basis of the columns of `a`, as many as it has columns.
///
/// Cholesky factors of A^T A give it through matrix products; done twice, it is orthonormal to
/// rounding (Yamamoto et al., *Roundoff error analysis of the CholeskyQR2 algorithm*, 2015).
/// Columns that nearly depend on one another are left to Householder's slower way.
pub(crate) fn orthonormal(a: DMatrix<f64>) -> DMatrix<f64> {
    let mut q = a;
    if q.is_empty() {
        return q;
    }
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
    use crate::input::Sparse;

    /// Rows that vary most along a few directions.
    fn rows(count: usize, cols: usize, seed: u64) -> Matrix {
        decaying(count, cols, 0.8, seed)
    }

    /// Rows that vary along each direction `decay` times as much as along the one before.
    fn decaying(count: usize, cols: usize, decay: f32, seed: u64) -> Matrix {
        let mut noise = gaussian(count, cols, seed);
        for i in 0..count {
            let row = noise.row_mut(i);
            for (j, value) in row.iter_mut().enumerate() {
                *value = *value * decay.powi(j as i32) + 3.0;
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

    fn centred(rows: &Matrix, mean: &[f32]) -> DMatrix<f64> {
        DMatrix::from_fn(rows.rows(), rows.cols(), |i, j| f64::from(rows.row(i)[j] - mean[j]))
    }

    /// The whole decomposition of A^T A, and the alignment |cos| of each leading direction with it.
    fn check(rows: &Features, dense: &Matrix, mean: &[f32], k: usize) {
        let found = Components::fit(rows, k, 1).unwrap();
        let centred = centred(dense, mean);
        let (energies, vectors) = leading_eigenvectors(centred.transpose() * &centred, k).unwrap();
        let directions = found.projection().directions();
        for (i, (direction, expected)) in directions.iter().zip(vectors.column_iter()).enumerate() {
            let relative = found.energies()[i] / energies[i] - 1.0;
            assert!(relative.abs() < 1e-3, "energy {i} is off by {relative}");
            let terms = direction.iter().zip(expected.iter());
            let cosine: f64 = terms.map(|(&a, b)| f64::from(a) * b).sum();
            assert!(cosine.abs() > 0.999, "direction {i}: |cos| {}", cosine.abs());
        }
        let projected = found.projection().apply(rows).unwrap();
        let expected = &centred * vectors.column(0);
        let sign = (f64::from(projected.row(0)[0]) * expected[0]).signum();
        for (row, expected) in projected.iter().zip(expected.iter()) {
            assert!((f64::from(row[0]) - sign * expected).abs() < 2e-2);
        }
    }

    #[test]
    fn dense_rows_give_the_eigenvectors_of_their_covariance() {
        let dense = rows(3000, 60, 2);
        check(
            &Features::Dense(dense.clone()),
            &dense,
            &column_means(&Features::Dense(dense.clone())),
            8,
        );
    }

    #[test]
    fn sparse_rows_give_the_singular_vectors_without_a_mean() {
        let dense = rows(1500, 60, 3);
        check(&to_sparse(&dense), &dense, &[0.0; 60], 6);
    }

    #[test]
    fn directions_that_hardly_differ_are_found_too() {
        let dense = decaying(1200, 150, 0.99, 8);
        let rows = Features::Dense(dense.clone());
        let found: f64 = Components::fit(&rows, 6, 9).unwrap().energies().iter().sum();
        let whole = centred(&dense, &column_means(&rows));
        let (best, _) = leading_eigenvectors(whole.transpose() * &whole, 6).unwrap();
        let share = found / best.iter().sum::<f64>();
        assert!((0.999..1.000_1).contains(&share), "captured {share} of the best");
    }

    #[test]
    fn directions_are_orthonormal_even_where_rows_are_few() {
        for (count, cols, k) in [(2, 40, 20), (1, 7, 7), (300, 30, 30), (5, 3, 0), (5, 0, 0)] {
            let found = Components::fit(&Features::Dense(rows(count, cols, 4)), k, 5).unwrap();
            for i in 0..k {
                for j in 0..k {
                    let pairs = found
                        .projection()
                        .directions()
                        .row(i)
                        .iter()
                        .zip(found.projection().directions().row(j));
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
