//! Rotations: orthogonal Procrustes, and iterative quantization, which turns coordinates so that
//! their signs lose as little as possible.
//!
//! Iterative quantization (Gong and Lazebnik, *Iterative quantization: a procrustean approach to
//! learning binary codes*, 2011): given centred coordinates V along the leading components, find
//! codes B of -1 and 1 and a rotation R with |B - V R|^2 small, by turns: B = sign(V R) for the R
//! at hand, then the R that is best for this B. Neither step can make the loss larger.

use nalgebra::{DMatrix, SVD};

use super::blocks::sum_over_blocks;
use super::components::orthonormal;
use super::gaussian::gaussian;
use super::product::{multiply_into, rows_of, transpose_of};
use crate::error::{Error, Result};
use crate::input::Matrix;

/// The steps after which a singular value decomposition is given up; it takes a few a column.
const MAX_SWEEPS: usize = 100_000;

/// The iterations of the paper.
pub const ITQ_ITERATIONS: usize = 50;

/// A random rotation or reflection: shape (size, size), rows orthonormal.
pub fn random_rotation(size: usize, seed: u64) -> Matrix {
    let gaussian = gaussian(size, size, seed);
    let values = gaussian.values().iter().map(|&v| f64::from(v));
    to_matrix(&orthonormal(DMatrix::from_row_iterator(size, size, values)))
}

/// The rotation of iterative quantization for coordinates of shape (rows, bits): shape (bits,
/// bits). Coordinates times the rotation, compared with zero, are the bits.
///
/// `iterations` is [`ITQ_ITERATIONS`] in the paper; 0 gives the random rotation it starts from.
///
/// # Errors
/// Coordinates that are not finite, or so large that their sums are not.
pub fn itq_rotation(coordinates: &Matrix, iterations: usize, seed: u64) -> Result<Matrix> {
    let mut rotation = random_rotation(coordinates.cols(), seed);
    for _ in 0..iterations {
        rotation = polar(correlation_with_signs(coordinates, &rotation))?;
    }
    Ok(rotation)
}

/// The orthogonal Procrustes problem (Schönemann 1966): the orthogonal R for which |to - from R|^2
/// is least. Both are of shape (rows, size), R is (size, size).
///
/// # Errors
/// Matrices of different shapes, or values that are not finite or so large that sums are not.
pub fn procrustes(from: &Matrix, to: &Matrix) -> Result<Matrix> {
    let shape = |m: &Matrix| (m.rows(), m.cols());
    if shape(from) != shape(to) {
        let message = format!("expected shape {:?}, got {:?}", shape(from), shape(to));
        return Err(Error::invalid("to", message));
    }
    let cols = from.cols();
    let sum = sum_over_blocks(from.rows(), cols * cols, |range, out| {
        let range = range.start * cols..range.end * cols;
        let (from, to) = (&from.values()[range.clone()], &to.values()[range]);
        multiply_into(transpose_of(from, cols), rows_of(to, cols), out);
    });
    polar(DMatrix::from_row_slice(cols, cols, &sum))
}

/// V^T sign(V R).
fn correlation_with_signs(coordinates: &Matrix, rotation: &Matrix) -> DMatrix<f64> {
    let cols = coordinates.cols();
    let sum = sum_over_blocks(coordinates.rows(), cols * cols, |range, out| {
        let rows = &coordinates.values()[range.start * cols..range.end * cols];
        let mut signs = vec![0.0; rows.len()];
        multiply_into(rows_of(rows, cols), rows_of(rotation.values(), cols), &mut signs);
        signs.iter_mut().for_each(|v| *v = if *v > 0.0 { 1.0 } else { -1.0 });
        multiply_into(transpose_of(rows, cols), rows_of(&signs, cols), out);
    });
    DMatrix::from_row_slice(cols, cols, &sum)
}

/// The orthogonal matrix nearest to a square one: U W^T of its singular value decomposition.
fn polar(matrix: DMatrix<f64>) -> Result<Matrix> {
    if matrix.is_empty() {
        return Ok(Matrix::zeros(0, 0));
    }
    if matrix.iter().any(|v| !v.is_finite()) {
        let message = "values are not finite, or too large to add up; scale them down";
        return Err(Error::invalid("coordinates", message));
    }
    let svd = SVD::try_new_unordered(matrix, true, true, f64::EPSILON * 5.0, MAX_SWEEPS);
    match svd.map(|svd| (svd.u, svd.v_t)) {
        Some((Some(u), Some(v_t))) => Ok(to_matrix(&(u * v_t))),
        _ => Err(Error::invalid(
            "coordinates",
            "the singular values of their products do not settle",
        )),
    }
}

fn to_matrix(matrix: &DMatrix<f64>) -> Matrix {
    let values = matrix.transpose().iter().map(|&v| v as f32).collect();
    Matrix::new(matrix.nrows(), matrix.ncols(), values)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::Features;
    use crate::numeric::Components;

    fn product(a: &Matrix, b: &Matrix) -> Matrix {
        let mut out = vec![0.0; a.rows() * b.cols()];
        multiply_into(rows_of(a.values(), a.cols()), rows_of(b.values(), b.cols()), &mut out);
        Matrix::new(a.rows(), b.cols(), out)
    }

    fn assert_orthogonal(rotation: &Matrix) {
        for i in 0..rotation.rows() {
            for j in 0..rotation.rows() {
                let dot: f32 =
                    rotation.row(i).iter().zip(rotation.row(j)).map(|(a, b)| a * b).sum();
                assert!((dot - f32::from(u8::from(i == j))).abs() < 1e-5, "{i} . {j} = {dot}");
            }
        }
    }

    /// |sign(V R) - V R|^2.
    fn loss(coordinates: &Matrix, rotation: &Matrix) -> f64 {
        let turned = product(coordinates, rotation);
        turned.values().iter().map(|&v| f64::from(v.abs() - 1.0).powi(2)).sum()
    }

    fn coordinates() -> Matrix {
        let rows = Features::Dense(product(&gaussian(2500, 24, 1), &gaussian(24, 24, 2)));
        let wide = Components::fit(&rows, 12, 3).unwrap().projection().apply(&rows).unwrap();
        Matrix::new(2500, 12, wide.values().iter().map(|v| v / 5.0).collect())
    }

    #[test]
    fn each_iteration_keeps_the_rotation_orthogonal_and_lowers_the_loss() {
        let coordinates = coordinates();
        let losses: Vec<f64> = (0..12)
            .map(|iterations| {
                let rotation = itq_rotation(&coordinates, iterations, 4).unwrap();
                assert_orthogonal(&rotation);
                loss(&coordinates, &rotation)
            })
            .collect();
        for pair in losses.windows(2) {
            assert!(pair[1] <= pair[0] * (1.0 + 1e-6), "{losses:?}");
        }
        assert!(losses[11] < 0.97 * losses[0], "{losses:?}");
    }

    #[test]
    fn procrustes_finds_the_rotation_that_was_applied() {
        let from = gaussian(1500, 9, 5);
        let rotation = random_rotation(9, 6);
        let found = procrustes(&from, &product(&from, &rotation)).unwrap();
        for (found, expected) in found.values().iter().zip(rotation.values()) {
            assert!((found - expected).abs() < 1e-4);
        }
    }

    #[test]
    fn no_small_turn_improves_on_procrustes() {
        let (from, to) = (gaussian(60, 5, 7), gaussian(60, 5, 8));
        let best = procrustes(&from, &to).unwrap();
        let distance = |rotation: &Matrix| -> f64 {
            let turned = product(&from, rotation);
            let pairs = turned.values().iter().zip(to.values());
            pairs.map(|(a, b)| f64::from(a - b).powi(2)).sum()
        };
        for (i, j) in [(0, 1), (1, 4), (2, 3)] {
            for angle in [-0.02f32, 0.02] {
                let mut turn = Matrix::zeros(5, 5);
                (0..5).for_each(|d| turn.row_mut(d)[d] = 1.0);
                turn.row_mut(i)[i] = angle.cos();
                turn.row_mut(j)[j] = angle.cos();
                turn.row_mut(i)[j] = angle.sin();
                turn.row_mut(j)[i] = -angle.sin();
                assert!(distance(&product(&best, &turn)) > distance(&best));
            }
        }
    }

    #[test]
    fn flat_and_infinite_coordinates() {
        assert_eq!(itq_rotation(&Matrix::zeros(3, 0), 2, 0).unwrap(), Matrix::zeros(0, 0));
        assert_orthogonal(&itq_rotation(&Matrix::zeros(10, 4), 5, 0).unwrap());
        let huge = Matrix::new(2, 2, vec![f32::MAX; 4]);
        let error = itq_rotation(&huge, 1, 0).unwrap_err().to_string();
        assert!(error.contains("too large to add up"), "{error}");
        let error = procrustes(&huge, &Matrix::zeros(2, 3)).unwrap_err().to_string();
        assert_eq!(error, "to: expected shape (2, 2), got (2, 3)");
    }
}
