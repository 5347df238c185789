//! How far who is near whom among the codes is from who is near whom among the features.
//!
//! For each row i of a batch, the other rows j share out its attention: by the cosine of the features,
//! and by the cosine of the codes, which is the share of bits that agree less the share that differ.
//!
//! ```text
//! p_ij = softmax over j of cos(x_i, x_j) / T        q_ij = softmax over j of cos(2 z_i - 1, 2 z_j - 1) / T
//! loss = mean over i of KL(p_i || q_i)
//! ```
//!
//! It is the loss of stochastic neighbour embedding (Hinton and Roweis, 2002) between features and codes.
//! InfoNCE wants a partner nearer than all others, however near those are, and so draws neighbours
//! together until their order is lost; here the order itself is the goal. T says how far one looks: the
//! smaller, the more the nearest rows count alone. The codes are hard bits, and pass their gradient
//! straight through: it is the order of finished codes that counts.

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::code_layer::bits;
use super::known::Known;
use super::real::{Real, largest, sum, update_values, with_values};
use crate::input::Matrix;
use crate::numeric::vectorized;

/// The loss of the values `a` before the code's sigmoid, shape (rows, bits), of the features `x`.
pub(super) fn similarity<T: Real>(a: &Tensor, x: &Matrix, temperature: f64) -> Result<Tensor> {
    let (rows, width) = a.dims2()?;
    if rows < 2 {
        // Nobody to attend to.
        return Tensor::zeros((), a.dtype(), a.device());
    }
    let scale = 1.0 / (width as f64).sqrt();
    let u = bits(a)?.affine(2.0 * scale, -scale)?;
    let free = u.detach();
    let x = directions::<T>(x, a)?;
    let (wanted, near) = (x.matmul(&x.t()?)?, free.matmul(&free.t()?)?);
    let heat = 1.0 / temperature;
    let step = heat / rows as f64;
    let mut losses: Vec<f64> = Vec::new();
    with_values::<T, _>(&wanted, |wanted| {
        update_values::<T>(&near, |near| {
            let pairs = near.par_chunks_mut(rows).zip(wanted.par_chunks(rows)).enumerate();
            let each = pairs.map(|(i, (near, wanted))| divergence(wanted, near, i, heat, step));
            losses = each.collect();
        })
    })??;
    // Summed in the order of the rows, whatever the threads did first.
    let value = losses.iter().sum::<f64>() / rows as f64;
    let gradients = [near.matmul(&free)?, near.t()?.matmul(&free)?];
    u.apply_op2(&u, Known { value: T::from_f64(value), gradients, of_layers: Vec::new() })
}

/// KL(p || q) of row `own`, whose cosines with all rows are `wanted` among the features and `near`
/// among the codes; `near` becomes the gradient by its cosines, `step (q - p)`.
fn divergence<T: Real>(wanted: &[T], near: &mut [T], own: usize, heat: f64, step: f64) -> f64 {
    let (heat, zero) = (T::from_f64(heat), T::from_f64(0.0));
    vectorized(|| {
        // KL = sum of p (heat wanted - heat near) - ln sum e^(heat wanted) + ln sum e^(heat near),
        // both shifted by the largest, which leaves each sum at 1 or more.
        let (top_p, top_q) = (largest_but(own, wanted), largest_but(own, near));
        let mut p: Vec<T> = wanted.iter().map(|&x| ((x - top_p) * heat).exp()).collect();
        let apart = wanted.iter().zip(near.iter());
        let apart: Vec<T> = apart.map(|(&x, &y)| (x - top_p) - (y - top_q)).collect();
        near.iter_mut().for_each(|x| *x = ((*x - top_q) * heat).exp());
        // A row has no share of its own attention.
        (p[own], near[own]) = (zero, zero);
        let (whole_p, whole_q) = (sum(&p), sum(near));
        let (scale_p, scale_q) = (T::from_f64(step) / whole_p, T::from_f64(step) / whole_q);
        p.iter_mut().zip(&apart).zip(near.iter_mut()).for_each(|((p, &apart), near)| {
            *near = *near * scale_q - *p * scale_p;
            *p *= apart;
        });
        let expected = sum(&p).to_f64() * heat.to_f64() / whole_p.to_f64();
        expected - whole_p.to_f64().ln() + whole_q.to_f64().ln()
    })
}

/// The largest of two or more values but that at `own`.
#[inline(always)]
fn largest_but<T: Real>(own: usize, values: &[T]) -> T {
    let start = values[usize::from(own == 0)];
    largest(largest(start, &values[..own]), &values[own + 1..])
}

/// The rows at length 1; a row of zeros has no direction, and stays as it is.
fn directions<T: Real>(x: &Matrix, like: &Tensor) -> Result<Tensor> {
    let direction = |row: &[f32]| {
        let length = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
        let scale = if length > 0.0 { 1.0 / length } else { 0.0 };
        row.iter().map(|&x| T::from_f64(f64::from(x) * scale)).collect::<Vec<T>>()
    };
    let values: Vec<T> = x.iter().flat_map(direction).collect();
    Tensor::from_vec(values, (x.rows(), x.cols()), like.device())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::code_layer::sigmoid;
    use crate::model::gradient_check::variable;

    /// The table on top, number by number, of directions `u` of the codes.
    fn plain(u: &[Vec<f64>], x: &Matrix, temperature: f64) -> f64 {
        let x: Vec<Vec<f64>> =
            x.iter().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
        let cosine = |a: &[f64], b: &[f64]| {
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
        };
        let share = |rows: &[Vec<f64>], i: usize, j: usize| {
            let e = |k: usize| (cosine(&rows[i], &rows[k]) / temperature).exp();
            e(j) / (0..rows.len()).filter(|&k| k != i).map(e).sum::<f64>()
        };
        let n = u.len();
        let pairs = (0..n).flat_map(|i| (0..n).filter(move |&j| j != i).map(move |j| (i, j)));
        let each = pairs.map(|(i, j)| {
            let (p, q) = (share(&x, i, j), share(u, i, j));
            p * (p / q).ln()
        });
        each.sum::<f64>() / n as f64
    }

    #[test]
    fn it_is_the_plain_formula_and_its_gradient_is_that_of_cosines_passed_straight_through() {
        let (n, width, temperature) = (5, 4, 0.3);
        let a = variable(&[n, width], 0.4);
        let x = Matrix::new(n, 3, (0..15).map(|i| (i as f32 * 1.3).sin()).collect());
        let signs: Vec<Vec<f64>> = (a.to_vec2::<f64>().unwrap().iter())
            .map(|row| row.iter().map(|&a| if a > 0.0 { 1.0 } else { -1.0 }).collect())
            .collect();
        let loss = similarity::<f64>(&a, &x, temperature).unwrap();
        let (got, expected) = (loss.to_scalar::<f64>().unwrap(), plain(&signs, &x, temperature));
        assert!((got - expected).abs() < 1e-9, "expected {expected}, got {got}");

        // The slope by a bit, with the length of a code held at that of bits, times the slope of the
        // bit's stand-in, the sigmoid.
        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&a).unwrap().to_vec2::<f64>().unwrap();
        let p = sigmoid(&a).unwrap().to_vec2::<f64>().unwrap();
        let scale = (width as f64).sqrt();
        let x_rows = &x;
        let at = |u: &[Vec<f64>]| {
            // `plain` divides by lengths; dots of codes of length 1 are wanted here.
            let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
            let share = |i: usize, j: usize| {
                let e = |k: usize| (dot(&u[i], &u[k]) / temperature).exp();
                e(j) / (0..n).filter(|&k| k != i).map(e).sum::<f64>()
            };
            let wanted = |i: usize, j: usize| {
                let cosine = |k: usize| {
                    let (a, b) = (x_rows.row(i), x_rows.row(k));
                    let dot = |a: &[f32], b: &[f32]| {
                        a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>()
                    };
                    (dot(a, b) / (dot(a, a) * dot(b, b)).sqrt() / temperature).exp()
                };
                cosine(j) / (0..n).filter(|&k| k != i).map(cosine).sum::<f64>()
            };
            let pairs = (0..n).flat_map(|i| (0..n).filter(move |&j| j != i).map(move |j| (i, j)));
            pairs.map(|(i, j)| -wanted(i, j) * share(i, j).ln()).sum::<f64>() / n as f64
        };
        let unit: Vec<Vec<f64>> =
            signs.iter().map(|row| row.iter().map(|x| x / scale).collect()).collect();
        for i in 0..n {
            for j in 0..width {
                let moved = |h: f64| {
                    let mut u = unit.clone();
                    u[i][j] += h;
                    at(&u)
                };
                let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
                let expected = slope * 2.0 / scale * p[i][j] * (1.0 - p[i][j]);
                assert!((gradient[i][j] - expected).abs() < 1e-6, "{expected} {}", gradient[i][j]);
            }
        }
    }

    #[test]
    fn one_row_or_rows_of_zeros_do_no_harm() {
        for n in [1, 3] {
            let a = variable(&[n, 4], 0.4);
            let loss = similarity::<f64>(&a, &Matrix::zeros(n, 2), 0.1).unwrap();
            assert!(loss.to_scalar::<f64>().unwrap().is_finite());
        }
    }
}
