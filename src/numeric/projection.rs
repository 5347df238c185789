//! Coordinates of rows along directions: (x - mean) . direction for every row and direction.

use std::ops::Range;

use rayon::prelude::*;

use super::blocks::BLOCK_ROWS;
use super::product::{multiply_into, rows_of, transpose_of};
use crate::error::{Error, Result};
use crate::input::{Features, Matrix, Sparse};

/// A point and directions from it.
#[derive(Clone, PartialEq, Debug)]
pub struct Projection {
    mean: Vec<f32>,
    directions: Matrix,
}

impl Projection {
    /// Directions of shape (k, cols) from the point `mean`, which has cols numbers.
    ///
    /// # Errors
    /// A mean of another length.
    pub fn new(mean: Vec<f32>, directions: Matrix) -> Result<Self> {
        if mean.len() != directions.cols() {
            let message = format!("expected {} numbers, got {}", directions.cols(), mean.len());
            return Err(Error::invalid("mean", message));
        }
        Ok(Self { mean, directions })
    }

    /// What is subtracted from a row before it is projected, one number a column.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// The directions: shape (k, cols).
    pub fn directions(&self) -> &Matrix {
        &self.directions
    }

    /// The projection whose coordinates are those of this one times `rotation`, of shape (k, k).
    ///
    /// # Errors
    /// A rotation of another shape.
    pub fn rotated(&self, rotation: &Matrix) -> Result<Self> {
        let (k, cols) = (self.directions.rows(), self.directions.cols());
        if (rotation.rows(), rotation.cols()) != (k, k) {
            let got = (rotation.rows(), rotation.cols());
            let message = format!("expected shape {:?}, got {got:?}", (k, k));
            return Err(Error::invalid("rotation", message));
        }
        let mut directions = vec![0.0; k * cols];
        if k > 0 && cols > 0 {
            let (rotation, old) = (rotation.values(), self.directions.values());
            multiply_into(transpose_of(rotation, k), rows_of(old, cols), &mut directions);
        }
        Ok(Self { mean: self.mean.clone(), directions: Matrix::new(k, cols, directions) })
    }

    /// The coordinates of rows along the directions: shape (rows, k).
    ///
    /// # Errors
    /// Rows with another number of columns.
    pub fn apply(&self, rows: &Features) -> Result<Matrix> {
        let (k, cols) = (self.directions.rows(), self.directions.cols());
        if rows.cols() != cols {
            let message = format!("expected {cols} columns, got {}", rows.cols());
            return Err(Error::invalid("rows", message));
        }
        let mut projected = vec![0.0; rows.rows() * k];
        if k > 0 && cols > 0 {
            let basis = transposed(&self.directions);
            projected.par_chunks_mut(BLOCK_ROWS * k).enumerate().for_each(|(block, out)| {
                let start = block * BLOCK_ROWS;
                let block = Block::of(rows, &self.mean, start..start + out.len() / k);
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
pub fn column_means(rows: &Features) -> Vec<f32> {
    let mut sums = vec![0.0; rows.cols()];
    match rows {
        Features::Dense(rows) => {
            for row in rows.iter() {
                sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += f64::from(value));
            }
        }
        Features::Sparse(rows) => {
            for row in 0..rows.rows() {
                entries(rows, row).for_each(|(column, value)| sums[column] += f64::from(value));
            }
        }
    }
    let count = rows.rows().max(1) as f64;
    sums.into_iter().map(|sum| (sum / count) as f32).collect()
}

/// A run of rows less a mean: the matrix A of the products below.
pub(super) enum Block<'a> {
    /// The differences themselves.
    Dense { values: Vec<f32>, cols: usize },
    /// The rows as they are; the mean enters the products, so that zeros cost nothing.
    Sparse { rows: &'a Sparse, range: Range<usize>, mean: &'a [f32] },
}

impl<'a> Block<'a> {
    pub(super) fn of(rows: &'a Features, mean: &'a [f32], range: Range<usize>) -> Self {
        match rows {
            Features::Dense(rows) => {
                let cols = rows.cols();
                let values = rows.values()[range.start * cols..range.end * cols]
                    .chunks_exact(cols)
                    .flat_map(|row| row.iter().zip(mean).map(|(value, mean)| value - mean))
                    .collect();
                Self::Dense { values, cols }
            }
            Features::Sparse(rows) => Self::Sparse { rows, range, mean },
        }
    }

    pub(super) fn rows(&self) -> usize {
        match self {
            Self::Dense { values, cols } => values.len() / cols,
            Self::Sparse { range, .. } => range.len(),
        }
    }

    /// Writes A B to `out`, B of shape (cols, width) and `out` of shape (rows, width).
    pub(super) fn times_into(&self, basis: &[f32], width: usize, out: &mut [f32]) {
        match self {
            Self::Dense { values, cols } => {
                multiply_into(rows_of(values, *cols), rows_of(basis, width), out);
            }
            Self::Sparse { rows, range, mean } => {
                let mut offset = vec![0.0; width];
                for (mean, from) in mean.iter().zip(basis.chunks_exact(width)) {
                    add_scaled(&mut offset, -mean, from);
                }
                for (row, out) in range.clone().zip(out.chunks_exact_mut(width)) {
                    out.copy_from_slice(&offset);
                    for (column, value) in entries(rows, row) {
                        add_scaled(out, value, &basis[column * width..(column + 1) * width]);
                    }
                }
            }
        }
    }

    /// Writes A^T P to `out`, P of shape (rows, width) and `out`, zeros before, of (cols, width).
    pub(super) fn transpose_times_into(&self, coordinates: &[f32], width: usize, out: &mut [f32]) {
        match self {
            Self::Dense { values, cols } => {
                multiply_into(transpose_of(values, *cols), rows_of(coordinates, width), out);
            }
            Self::Sparse { rows, range, mean } => {
                let mut sum = vec![0.0; width];
                for (row, from) in range.clone().zip(coordinates.chunks_exact(width)) {
                    add_scaled(&mut sum, 1.0, from);
                    for (column, value) in entries(rows, row) {
                        add_scaled(&mut out[column * width..(column + 1) * width], value, from);
                    }
                }
                for (mean, out) in mean.iter().zip(out.chunks_exact_mut(width)) {
                    add_scaled(out, -mean, &sum);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::numeric::gaussian;

    fn sparse(rows: &Matrix) -> Features {
        let mut sparse = Sparse::new(rows.cols());
        for row in rows.iter() {
            sparse.push((0..).zip(row.iter().copied()).filter(|(_, value)| *value != 0.0));
        }
        Features::Sparse(sparse)
    }

    #[test]
    fn coordinates_are_products_of_the_centred_rows() {
        let mut rows = gaussian(1500, 11, 1);
        (0..1500).for_each(|i| rows.row_mut(i)[i % 11] = 0.0);
        let directions = gaussian(10, 11, 2);
        let mean = column_means(&Features::Dense(rows.clone()));
        assert_eq!(mean, column_means(&sparse(&rows)));
        let projection = Projection::new(mean.clone(), directions.clone()).unwrap();
        let dense = projection.apply(&Features::Dense(rows.clone())).unwrap();
        let sparse = projection.apply(&sparse(&rows)).unwrap();
        for (i, row) in rows.iter().enumerate() {
            for (j, direction) in directions.iter().enumerate() {
                let terms = row.iter().zip(&mean).zip(direction);
                let expected: f32 = terms.map(|((value, mean), d)| (value - mean) * d).sum();
                assert!((dense.row(i)[j] - expected).abs() < 1e-5);
                assert!((sparse.row(i)[j] - expected).abs() < 1e-5);
            }
        }
    }

    #[test]
    fn shapes_that_do_not_fit_are_refused() {
        let error = Projection::new(vec![0.0; 3], gaussian(2, 4, 0)).unwrap_err().to_string();
        assert_eq!(error, "mean: expected 4 numbers, got 3");
        let projection = Projection::new(vec![0.0; 4], gaussian(2, 4, 0)).unwrap();
        let error = projection.apply(&Features::Dense(gaussian(5, 3, 0))).unwrap_err().to_string();
        assert_eq!(error, "rows: expected 4 columns, got 3");
        let none = Projection::new(vec![], Matrix::zeros(0, 0)).unwrap();
        assert_eq!(none.apply(&Features::Dense(Matrix::zeros(0, 0))).unwrap().rows(), 0);
    }
}
