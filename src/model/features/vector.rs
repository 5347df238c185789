//! Vectors to features: centre, scale and bring to unit length, in this order, each if chosen.

use serde::{Deserialize, Serialize};

use std::ops::Range;

use super::{check_finite, check_finite_rows, fill_rows};
use crate::error::{Error, Result};
use crate::input::{InputKind, Matrix};

/// What is done to vectors.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct VectorOptions {
    /// Subtract the mean of each column.
    pub centre: bool,
    /// Divide each column by its standard deviation. A column that never varies is left as it is.
    pub scale: bool,
    /// Divide each row by its length afterwards. A row of zeros stays one.
    pub unit_length: bool,
}

impl Default for VectorOptions {
    fn default() -> Self {
        Self { centre: true, scale: true, unit_length: false }
    }
}

/// Fitted: `(x - mean) / deviation`, then perhaps unit length.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct VectorPipeline {
    options: VectorOptions,
    /// Of each column; 0 where vectors are not centred.
    mean: Vec<f32>,
    /// Of each column, above 0; 1 where vectors are not scaled or a column never varies.
    deviation: Vec<f32>,
}

impl VectorPipeline {
    /// Learns the mean and the standard deviation of each column.
    ///
    /// # Errors
    /// No rows, rows of no numbers, or numbers that are not finite.
    pub fn fit(vectors: &Matrix, options: &VectorOptions) -> Result<Self> {
        let mut fit = VectorFit::new(vectors.cols(), options);
        fit.add(vectors, 0)?;
        if fit.wants_more() {
            fit.add(vectors, 0)?;
        }
        fit.finish()
    }

    /// The features of `vectors`, of the same shape. All are finite: what would overflow is cut off
    /// at the largest f32.
    ///
    /// # Errors
    /// Another number of columns than in the fit, or numbers that are not finite.
    pub fn apply(&self, vectors: &Matrix) -> Result<Matrix> {
        self.apply_rows(vectors, 0..vectors.rows())
    }

    /// The features of some of the rows.
    pub(super) fn apply_rows(&self, vectors: &Matrix, rows: Range<usize>) -> Result<Matrix> {
        let (first, count, cols) = (rows.start, rows.len(), vectors.cols());
        InputKind::Vector { dim: self.cols() }.check(InputKind::Vector { dim: cols })?;
        check_finite_rows(&vectors.values()[first * cols..rows.end * cols], cols, first)?;
        let values = fill_rows(count, cols, |i, row| self.apply_row(vectors.row(first + i), row));
        Ok(Matrix::new(count, cols, values))
    }

    /// In f64, where neither the quotients nor their squares overflow.
    fn apply_row(&self, vector: &[f32], features: &mut [f32]) {
        let quotient = |j: usize| {
            (f64::from(vector[j]) - f64::from(self.mean[j])) / f64::from(self.deviation[j])
        };
        let mut length = 1.0;
        if self.options.unit_length {
            let squares: f64 = (0..vector.len()).map(|j| quotient(j) * quotient(j)).sum();
            if squares > 0.0 {
                length = squares.sqrt();
            }
        }
        let largest = f64::from(f32::MAX);
        for (j, feature) in features.iter_mut().enumerate() {
            *feature = (quotient(j) / length).clamp(-largest, largest) as f32;
        }
    }

    /// Vectors of `features`, as far as they can be had back: scaled and moved as they were, but not
    /// of the length that bringing them to unit length took away.
    ///
    /// # Panics
    /// Where a row has another number of columns than in the fit.
    pub fn undo(&self, features: &Matrix) -> Matrix {
        let (rows, cols) = (features.rows(), features.cols());
        assert_eq!(cols, self.cols(), "columns of the features");
        let largest = f64::from(f32::MAX);
        let values = fill_rows(rows, cols, |i, row: &mut [f32]| {
            for (j, value) in row.iter_mut().enumerate() {
                let wide = f64::from(features.row(i)[j]) * f64::from(self.deviation[j])
                    + f64::from(self.mean[j]);
                *value = wide.clamp(-largest, largest) as f32;
            }
        });
        Matrix::new(rows, cols, values)
    }

    /// What is done to vectors.
    pub fn options(&self) -> &VectorOptions {
        &self.options
    }

    /// The number of columns of a vector, and of features.
    pub fn cols(&self) -> usize {
        self.mean.len()
    }
}

/// A fit under way. It is shown all rows, some at a time: once, and where columns are scaled once more,
/// as a deviation is about a mean.
pub(crate) struct VectorFit {
    options: VectorOptions,
    cols: usize,
    /// Rows of the first pass.
    rows: usize,
    sums: Vec<f64>,
    /// Of the deviations from the mean; there is none before the second pass.
    squares: Option<(Vec<f64>, Vec<f64>)>,
}

impl VectorFit {
    pub fn new(cols: usize, options: &VectorOptions) -> Self {
        Self { options: *options, cols, rows: 0, sums: vec![0.0; cols], squares: None }
    }

    /// Adds rows; the first is number `first`.
    pub fn add(&mut self, vectors: &Matrix, first: usize) -> Result<()> {
        let (takes, got) = (InputKind::Vector { dim: self.cols }, vectors.cols());
        takes.check(InputKind::Vector { dim: got })?;
        check_finite(vectors, first)?;
        match &mut self.squares {
            None => {
                self.rows += vectors.rows();
                for row in vectors.iter() {
                    let sums = self.sums.iter_mut().zip(row);
                    sums.for_each(|(sum, value)| *sum += f64::from(*value));
                }
            }
            Some((squares, mean)) => {
                for row in vectors.iter() {
                    for (j, value) in row.iter().enumerate() {
                        squares[j] += (f64::from(*value) - mean[j]).powi(2);
                    }
                }
            }
        }
        Ok(())
    }

    /// Whether all rows are to be shown again.
    pub fn wants_more(&mut self) -> bool {
        let more = self.options.scale && self.squares.is_none();
        if more {
            self.squares = Some((vec![0.0; self.cols], self.means()));
        }
        more
    }

    fn means(&self) -> Vec<f64> {
        self.sums.iter().map(|sum| sum / self.rows as f64).collect()
    }

    /// The standard deviation about the mean (of the population, as in scikit-learn's
    /// `StandardScaler`); 1 for a column whose values are all equal, or so near that f32 cannot tell the
    /// deviation from 0.
    ///
    /// Equal values give exactly 0: an f64 sums half a billion equal f32 without rounding.
    pub fn finish(self) -> Result<VectorPipeline> {
        let (rows, cols) = (self.rows, self.cols);
        if rows == 0 || cols == 0 {
            return Err(Error::invalid(
                "vectors",
                format!("expected at least one row of at least one number, got {rows} x {cols}"),
            ));
        }
        let deviation = |squares: &f64| {
            let deviation = (squares / rows as f64).sqrt();
            if deviation >= f64::from(f32::MIN_POSITIVE) { deviation as f32 } else { 1.0 }
        };
        let deviation = match &self.squares {
            Some((squares, _)) => squares.iter().map(deviation).collect(),
            None => vec![1.0; cols],
        };
        let mean = match self.options.centre {
            true => self.means().into_iter().map(|mean| mean as f32).collect(),
            false => vec![0.0; cols],
        };
        Ok(VectorPipeline { options: self.options, mean, deviation })
    }
}

/// A vector pipeline as it was read, not believed yet.
#[derive(Deserialize)]
struct Stored {
    options: VectorOptions,
    mean: Vec<f32>,
    deviation: Vec<f32>,
}

impl TryFrom<Stored> for VectorPipeline {
    type Error = Error;

    fn try_from(stored: Stored) -> Result<Self> {
        let Stored { options, mean, deviation } = stored;
        let invalid = |message| Err(Error::invalid("vector pipeline", message));
        if mean.is_empty() || mean.len() != deviation.len() {
            return invalid(format!(
                "expected as many means as deviations and at least one, got {} and {}",
                mean.len(),
                deviation.len()
            ));
        }
        if let Some(j) = mean.iter().position(|mean| !mean.is_finite()) {
            return invalid(format!("expected a finite mean of column {j}, got {}", mean[j]));
        }
        if let Some(j) = deviation.iter().position(|d| !(d.is_finite() && *d > 0.0)) {
            return invalid(format!(
                "expected a deviation of column {j} above 0, got {}",
                deviation[j]
            ));
        }
        Ok(Self { options, mean, deviation })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PLAIN: VectorOptions = VectorOptions { centre: false, scale: false, unit_length: false };

    fn fit_apply(vectors: &Matrix, options: VectorOptions) -> Matrix {
        let pipeline = VectorPipeline::fit(vectors, &options).unwrap();
        pipeline.apply(vectors).unwrap()
    }

    /// Column `j` as f64.
    fn column(matrix: &Matrix, j: usize) -> Vec<f64> {
        matrix.iter().map(|row| f64::from(row[j])).collect()
    }

    #[test]
    fn chosen_steps_are_taken_in_order() {
        let vectors = Matrix::new(2, 2, vec![1.0, 10.0, 3.0, 30.0]);
        let check = |options, expected: [f32; 4]| {
            assert_eq!(fit_apply(&vectors, options).values(), expected, "{options:?}");
        };
        check(PLAIN, [1.0, 10.0, 3.0, 30.0]);
        check(VectorOptions { centre: true, ..PLAIN }, [-1.0, -10.0, 1.0, 10.0]);
        check(VectorOptions { scale: true, ..PLAIN }, [1.0, 1.0, 3.0, 3.0]);
        check(VectorOptions { centre: true, scale: true, ..PLAIN }, [-1.0, -1.0, 1.0, 1.0]);
        let half = 0.5f64.sqrt() as f32;
        let all = VectorOptions { centre: true, scale: true, unit_length: true };
        check(all, [-half, -half, half, half]);
    }

    #[test]
    fn a_constant_column_becomes_zero_and_not_infinite() {
        let vectors = Matrix::new(1000, 1, vec![0.1; 1000]);
        let features = fit_apply(&vectors, VectorOptions::default());
        assert!(features.values().iter().all(|value| value.abs() < 1e-6));
        let zeros = Matrix::zeros(3, 2);
        let all = VectorOptions { centre: true, scale: true, unit_length: true };
        assert_eq!(fit_apply(&zeros, all), zeros);
    }

    #[test]
    fn huge_and_tiny_numbers_stay_finite() {
        let vectors = Matrix::new(2, 2, vec![f32::MAX, 1e-45, f32::MIN, 0.0]);
        for unit_length in [false, true] {
            let options = VectorOptions { unit_length, ..VectorOptions::default() };
            let pipeline = VectorPipeline::fit(&vectors, &options).unwrap();
            let far = Matrix::new(1, 2, vec![f32::MIN, f32::MAX]);
            for matrix in [&vectors, &far] {
                let features = pipeline.apply(matrix).unwrap();
                assert!(features.values().iter().all(|v| v.is_finite()), "{features:?}");
            }
        }
    }

    #[test]
    fn bad_vectors_are_refused_with_their_place() {
        let good = Matrix::new(2, 3, vec![0.0; 6]);
        let pipeline = VectorPipeline::fit(&good, &PLAIN).unwrap();
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut vectors = good.clone();
            vectors.row_mut(1)[2] = bad;
            for error in [
                VectorPipeline::fit(&vectors, &PLAIN).unwrap_err(),
                pipeline.apply(&vectors).unwrap_err(),
            ] {
                assert!(
                    error.to_string().starts_with("vectors[1][2]: expected a finite"),
                    "{error}"
                );
            }
        }
        let error = pipeline.apply(&Matrix::zeros(1, 4)).unwrap_err().to_string();
        assert!(error.contains("takes vectors of 3 numbers, got vectors of 4"), "{error}");
        assert!(VectorPipeline::fit(&Matrix::zeros(0, 3), &PLAIN).is_err());
        assert!(VectorPipeline::fit(&Matrix::zeros(3, 0), &PLAIN).is_err());
        assert_eq!(pipeline.apply(&Matrix::zeros(0, 3)).unwrap().rows(), 0);
    }

    #[test]
    fn damaged_pipelines_are_refused() {
        let check = |mean: &str, deviation: &str, expected: &str| {
            let json = format!(
                r#"{{"options":{{"centre":true,"scale":true,"unit_length":false}},
                    "mean":{mean},"deviation":{deviation}}}"#
            );
            match serde_json::from_str::<VectorPipeline>(&json) {
                Ok(_) => assert_eq!("accepted", expected),
                Err(error) => assert!(error.to_string().contains(expected), "{error}"),
            }
        };
        check("[0.5,-0.0]", "[1.0,2.0]", "accepted");
        check("[]", "[]", "at least one");
        check("[0.0]", "[1.0,1.0]", "got 1 and 2");
        check("[1e39]", "[1.0]", "number out of range");
        check("[0.0,0.0]", "[1.0,0.0]", "deviation of column 1 above 0, got 0");
        check("[0.0]", "[-1.0]", "above 0");
        check("[null]", "[1.0]", "null");
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

        #[test]
        fn columns_get_mean_0_and_deviation_1(
            rows in 2usize..60,
            cols in 1usize..6,
            seed in proptest::collection::vec(-100i32..100, 300),
        ) {
            let values = (0..rows * cols).map(|i| seed[i % seed.len()] as f32 * 0.37).collect();
            let vectors = Matrix::new(rows, cols, values);
            let features = fit_apply(&vectors, VectorOptions::default());
            for j in 0..cols {
                let constant = column(&vectors, j).windows(2).all(|pair| pair[0] == pair[1]);
                let values = column(&features, j);
                let mean = values.iter().sum::<f64>() / rows as f64;
                let variance =
                    values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / rows as f64;
                prop_assert!(mean.abs() < 1e-5, "mean {mean}");
                prop_assert!((variance - f64::from(u8::from(!constant))).abs() < 1e-4, "{variance}");
            }
        }

        #[test]
        fn rows_get_length_1(values in proptest::collection::vec(-1e30f32..1e30, 12)) {
            let vectors = Matrix::new(4, 3, values);
            let features = fit_apply(&vectors, VectorOptions { unit_length: true, ..PLAIN });
            for row in features.iter() {
                let length = row.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
                prop_assert!((length - 1.0).abs() < 1e-5, "{length}");
            }
        }
    }
}
