//! Bits that settle together: the code of a row as the corner of the cube that loses least to queries.
//!
//! Taking the sign of each value alone makes every bit's rounding as small as it can be. But values
//! vary together, and what a query sees of a row is a sum over all bits: a bit that is rounded against
//! its own value can undo what others lose. With the values `a` of a row at length √bits, the code
//! (±1) is where
//!
//! ```text
//! (b - c a)ᵀ (S + r I) (b - c a)        S: covariance of the training rows' values, mean diagonal 1
//!                                       r: how much each bit is held to its own value
//!                                       c: 0.8
//! ```
//!
//! no longer falls when any one bit is turned. The first part is the mean squared difference, over
//! queries that are like the training rows, between the weighted distance by values and that by bits;
//! `r` bounds how far a code may go from the signs, which it is for r = ∞ or values that do not vary
//! together. Bits are visited in their order, from the signs on, and turned where that lowers the sum
//! (coordinate descent, as discrete hashing has it: Shen, Shen, Liu and Tao, *Supervised discrete
//! hashing*, CVPR 2015; there for training, here for encoding).
//!
//! The code of a row depends on nothing but the row: sums go in a fixed order, as in
//! [`forward`](super::forward).

use std::borrow::Cow;

use super::Model;
use super::features::fill_rows;
use crate::error::Result;
use crate::input::{Features, Matrix};
use crate::numeric::product::{multiply_into, rows_of, transpose_of};
use crate::numeric::vectorized;

/// c: the length of the values, beside that of the bits. Measured: `benches/experiments.md`.
const LENGTH: f32 = 0.8;
/// The most times that all bits are visited. Each visit lowers the sum, so there is an end without it, but for
/// what rounding does to ties.
const VISITS: usize = 16;
/// Rows whose products are summed together.
const ROWS: usize = 4096;

/// How queries see the bits of a row.
pub(super) struct Settling {
    bits: usize,
    /// S + r I, shape (bits, bits).
    weight: Vec<f32>,
}

impl Settling {
    /// For values of this covariance, shape (bits, bits).
    pub fn new(covariance: &[f32], bits: usize, hold: f64) -> Self {
        let mut weight = covariance.to_vec();
        weight.iter_mut().step_by(bits + 1).for_each(|w| *w += hold as f32);
        Self { bits, weight }
    }

    /// Each row's code as numbers, 1 for a bit that is 1 and -1 for one that is 0; of values, shape (rows, bits).
    pub fn settled(&self, values: &Matrix) -> Matrix {
        let (rows, cols) = (values.rows(), values.cols());
        let settled = fill_rows(rows, cols, |i, code| self.settle(values.row(i), code));
        Matrix::new(rows, cols, settled)
    }

    fn settle(&self, values: &[f32], code: &mut [f32]) {
        code.iter_mut().zip(values).for_each(|(b, a)| *b = sign(*a));
        let factor = LENGTH * factor(values);
        // What each bit would lose or gain by turning: the weight times (c a - b).
        let mut pull = vec![0.0; self.bits];
        for ((&a, &b), weight) in values.iter().zip(&*code).zip(self.rows()) {
            add(&mut pull, factor.mul_add(a, -b), weight);
        }
        for _ in 0..VISITS {
            let mut turned = false;
            for (i, weight) in self.rows().enumerate() {
                let wanted = weight[i].mul_add(code[i], pull[i]);
                // A bit that nothing pulls stays as it is.
                if wanted * code[i] < 0.0 {
                    add(&mut pull, 2.0 * code[i], weight);
                    code[i] = -code[i];
                    turned = true;
                }
            }
            if !turned {
                break;
            }
        }
    }

    fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.weight.chunks_exact(self.bits)
    }
}

/// `sums += x row`, each sum rounded once.
fn add(sums: &mut [f32], x: f32, row: &[f32]) {
    vectorized(|| sums.iter_mut().zip(row).for_each(|(sum, w)| *sum = x.mul_add(*w, *sum)));
}

/// A bit is 1 where its value is above 0.
fn sign(value: f32) -> f32 {
    if value > 0.0 { 1.0 } else { -1.0 }
}

/// What brings values to length √bits; 0 for values that are all 0.
fn factor(values: &[f32]) -> f32 {
    let squares: f64 = values.iter().map(|&a| f64::from(a) * f64::from(a)).sum();
    let factor = (values.len() as f64 / squares).sqrt();
    if factor.is_finite() { factor as f32 } else { 0.0 }
}

/// The covariance of `model`'s values at length √bits for training rows, which come in parts: shape (bits,
/// bits), mean diagonal 1. It does not depend on the parts.
pub(super) fn covariance<'a>(
    model: &Model,
    parts: impl Iterator<Item = Result<Cow<'a, Features>>>,
) -> Result<Vec<f32>> {
    let mut sums = Sums::new(model.width().bits());
    for rows in parts {
        let rows = rows?;
        let all: Vec<usize> = (0..rows.rows()).collect();
        for batch in all.chunks(ROWS) {
            model.values(&rows.select(batch)).iter().for_each(|row| sums.add(row));
        }
    }
    Ok(sums.finish())
}

/// Sums of values and of their products.
struct Sums {
    bits: usize,
    rows: usize,
    values: Vec<f64>,
    products: Vec<f64>,
    /// At most `ROWS` rows whose products are not summed yet.
    waiting: Vec<f32>,
}

impl Sums {
    fn new(bits: usize) -> Self {
        let (values, products) = (vec![0.0; bits], vec![0.0; bits * bits]);
        Self { bits, rows: 0, values, products, waiting: Vec::new() }
    }

    fn add(&mut self, row: &[f32]) {
        let factor = factor(row);
        self.waiting.extend(row.iter().map(|a| factor * a));
        self.rows += 1;
        if self.waiting.len() == ROWS * self.bits {
            self.flush();
        }
    }

    fn flush(&mut self) {
        let bits = self.bits;
        for row in self.waiting.chunks_exact(bits) {
            self.values.iter_mut().zip(row).for_each(|(sum, &a)| *sum += f64::from(a));
        }
        let mut products = vec![0.0; bits * bits];
        multiply_into(
            transpose_of(&self.waiting, bits),
            rows_of(&self.waiting, bits),
            &mut products,
        );
        self.products.iter_mut().zip(products).for_each(|(sum, p)| *sum += f64::from(p));
        self.waiting.clear();
    }

    fn finish(mut self) -> Vec<f32> {
        self.flush();
        let n = self.rows.max(1) as f64;
        let mean: Vec<f64> = self.values.iter().map(|sum| sum / n).collect();
        let products = self.products.chunks_exact(self.bits);
        let covariance: Vec<f64> = products
            .zip(&mean)
            .flat_map(|(row, a)| row.iter().zip(&mean).map(move |(sum, b)| sum / n - a * b))
            .collect();
        let diagonal: f64 = covariance.iter().step_by(self.bits + 1).sum();
        let scale = if diagonal > 0.0 { self.bits as f64 / diagonal } else { 0.0 };
        covariance.into_iter().map(|x| (scale * x) as f32).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::random::{Purpose, normal, stream};

    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        normal(&mut stream(seed, Purpose::Weights, 0), n).into_iter().map(|x| x as f32).collect()
    }

    /// Rows whose numbers vary together.
    fn mixed(rows: usize, bits: usize) -> Matrix {
        let mixing = numbers(1, bits * bits);
        let row = |i: usize| {
            let own = numbers(2 + i as u64, bits);
            (0..bits)
                .map(|j| own.iter().zip(&mixing[j * bits..]).map(|(x, w)| x * w).sum::<f32>())
                .collect::<Vec<f32>>()
        };
        Matrix::new(rows, bits, (0..rows).flat_map(row).collect())
    }

    fn covariance_of(rows: &Matrix) -> Vec<f32> {
        let mut sums = Sums::new(rows.cols());
        rows.iter().for_each(|row| sums.add(row));
        sums.finish()
    }

    /// The sum of the module's comment, term by term.
    fn lost(values: &[f32], code: &[f32], covariance: &[f32], hold: f64) -> f64 {
        let bits = code.len();
        let factor = f64::from(LENGTH) * f64::from(factor(values));
        let off: Vec<f64> =
            code.iter().zip(values).map(|(b, a)| f64::from(*b) - factor * f64::from(*a)).collect();
        let mut sum = 0.0;
        for i in 0..bits {
            for j in 0..bits {
                let held = if i == j { hold } else { 0.0 };
                sum += off[i] * off[j] * (f64::from(covariance[i * bits + j]) + held);
            }
        }
        sum
    }

    #[test]
    fn no_bit_that_is_turned_lowers_what_is_lost() {
        let hold = 0.5;
        for bits in [1, 7, 33, 64] {
            let rows = mixed(200, bits);
            let covariance = covariance_of(&rows);
            let codes = Settling::new(&covariance, bits, hold).settled(&rows);
            let mut moved = 0;
            for (values, code) in rows.iter().zip(codes.iter()) {
                let least = lost(values, code, &covariance, hold);
                let signs: Vec<f32> = values.iter().map(|a| sign(*a)).collect();
                assert!(least <= lost(values, &signs, &covariance, hold) + 1e-3);
                moved += usize::from(signs != code);
                for i in 0..bits {
                    let mut turned = code.to_vec();
                    turned[i] = -turned[i];
                    assert!(lost(values, &turned, &covariance, hold) >= least - 1e-3, "bit {i}");
                }
            }
            assert_eq!(
                moved > 0,
                bits > 1,
                "{moved} rows of {bits} bits have other codes than signs"
            );
        }
    }

    #[test]
    fn bits_that_vary_alone_or_are_held_fast_keep_their_signs() {
        let rows = mixed(50, 20);
        let signs: Vec<f32> = rows.values().iter().map(|a| sign(*a)).collect();
        let mut alone = vec![0.0; 400];
        alone.iter_mut().step_by(21).for_each(|w| *w = 1.0);
        assert_eq!(Settling::new(&alone, 20, 0.0).settled(&rows).values(), signs);
        let held = Settling::new(&covariance_of(&rows), 20, 1e6);
        assert_eq!(held.settled(&rows).values(), signs);
        let zeros = Matrix::zeros(1, 20);
        let settled = Settling::new(&covariance_of(&rows), 20, 1.0).settled(&zeros);
        assert!(settled.values().iter().all(|b| b.abs() == 1.0));
    }

    #[test]
    fn the_covariance_is_that_of_rows_of_one_length() {
        // More rows than are summed together.
        let rows = mixed(ROWS + 5, 3);
        let got = covariance_of(&rows);
        let unit: Vec<Vec<f64>> = rows
            .iter()
            .map(|row| {
                let length = row.iter().map(|&a| f64::from(a).powi(2)).sum::<f64>().sqrt();
                row.iter().map(|&a| f64::from(a) / length).collect()
            })
            .collect();
        let n = unit.len() as f64;
        let mean = |f: &dyn Fn(&Vec<f64>) -> f64| unit.iter().map(f).sum::<f64>() / n;
        let entry = |i: usize, j: usize| {
            mean(&|row| row[i] * row[j]) - mean(&|row| row[i]) * mean(&|row| row[j])
        };
        let trace: f64 = (0..3).map(|i| entry(i, i)).sum();
        for i in 0..3 {
            for j in 0..3 {
                let expected = 3.0 * entry(i, j) / trace;
                assert!((f64::from(got[3 * i + j]) - expected).abs() < 1e-4, "({i}, {j})");
            }
        }
    }
}
