//! How far who is near whom among the codes is from who is near whom among the features.
//!
//! For each row i of a batch, the other rows j share out its attention: by the cosine of the features,
//! and by the cosine of the codes, which is the share of bits that agree less the share that differ.
//!
//! ```text
//! p_ij = softmax over j of cos(x_i, x_j) / T        q_ij = softmax over j of cos(2 z_i - 1, 2 z_j - 1) / T
//!                                                   r_ij = softmax over j of cos(a_i, 2 z_j - 1) g / T
//! loss = mean over i of (KL(p_i || q_i) + KL(p_i || r_i)) / 2
//! ```
//!
//! It is the loss of stochastic neighbour embedding (Hinton and Roweis, 2002) between features and codes.
//! InfoNCE wants a partner nearer than all others, however near those are, and so draws neighbours
//! together until their order is lost; here the order itself is the goal. T says how far one looks: the
//! smaller, the more the nearest rows count alone. The codes are hard bits: it is the order of finished codes
//! that counts. Their gradient passes straight through where a value is near enough to 0 for its bit to turn.
//!
//! The second half is asymmetric, as a search may be: of the row that asks, the values a before the sigmoid
//! are known, of the others their bits. The cosine of normal values with their signs is not 1 but
//! sqrt(2 / pi), which g makes up for.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::code_layer::bits_near_the_step;
use super::known::Known;
use super::real::{Real, largest, sum, update_values, with_values};
use crate::input::Matrix;
use crate::numeric::vectorized;

/// The length that values are brought to: the cosine of normal values with their signs, upside down.
const GAIN: f64 = 1.253_314_137_315_500_3;

/// The loss of the values `a` before the code's sigmoid, shape (rows, bits), of the features `x`.
pub(super) fn similarity<T: Real>(a: &Tensor, x: &Matrix, temperature: f64) -> Result<Tensor> {
    let (rows, width) = a.dims2()?;
    if rows < 2 {
        // Nobody to attend to.
        return Tensor::zeros((), a.dtype(), a.device());
    }
    let scale = 1.0 / (width as f64).sqrt();
    let bits = bits_near_the_step(a)?.affine(2.0 * scale, -scale)?;
    // Values that are all 0 have no direction; they stay as they are.
    let length = a.sqr()?.sum_keepdim(D::Minus1)?.affine(1.0, 1e-12)?.sqrt()?;
    let values = a.broadcast_div(&length)?.affine(GAIN, 0.0)?;
    let x = directions::<T>(x, a)?;
    let wanted = x.matmul(&x.t()?)?;
    let symmetric = attention::<T>(&bits, &bits, &wanted, temperature)?;
    let asymmetric = attention::<T>(&values, &bits, &wanted, temperature)?;
    (symmetric + asymmetric)?.affine(0.5, 0.0)
}

/// The mean over i of KL between the attention that the cosines `wanted` give to row i, and that which
/// the products of row i of `u` with the rows of `v` give.
fn attention<T: Real>(u: &Tensor, v: &Tensor, wanted: &Tensor, temperature: f64) -> Result<Tensor> {
    let (rows, _) = u.dims2()?;
    let (free_u, free_v) = (u.detach(), v.detach());
    let near = free_u.matmul(&free_v.t()?)?;
    let heat = 1.0 / temperature;
    let step = heat / rows as f64;
    let mut losses: Vec<f64> = Vec::new();
    with_values::<T, _>(wanted, |wanted| {
        update_values::<T>(&near, |near| {
            let pairs = near.par_chunks_mut(rows).zip(wanted.par_chunks(rows)).enumerate();
            let each = pairs.map(|(i, (near, wanted))| divergence(wanted, near, i, heat, step));
            losses = each.collect();
        })
    })??;
    // Summed in the order of the rows, whatever the threads did first.
    let value = losses.iter().sum::<f64>() / rows as f64;
    let gradients = [near.matmul(&free_v)?, near.t()?.matmul(&free_u)?];
    u.apply_op2(v, Known { value: T::from_f64(value), gradients, of_layers: Vec::new() })
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
    use crate::model::gradient_check::{check, variable};

    fn dot(a: &[f64], b: &[f64]) -> f64 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    fn unit(rows: &[Vec<f64>]) -> Vec<Vec<f64>> {
        let unit = |row: &Vec<f64>| row.iter().map(|x| x / dot(row, row).sqrt()).collect();
        rows.iter().map(unit).collect()
    }

    /// One divergence of the table on top, number by number: `u` attends to `v`.
    fn plain(u: &[Vec<f64>], v: &[Vec<f64>], x: &[Vec<f64>], temperature: f64) -> f64 {
        let n = u.len();
        let share = |u: &[Vec<f64>], v: &[Vec<f64>], i: usize, j: usize| {
            let e = |k: usize| (dot(&u[i], &v[k]) / temperature).exp();
            e(j) / (0..n).filter(|&k| k != i).map(e).sum::<f64>()
        };
        let pairs = (0..n).flat_map(|i| (0..n).filter(move |&j| j != i).map(move |j| (i, j)));
        let each = pairs.map(|(i, j)| {
            let (p, q) = (share(x, x, i, j), share(u, v, i, j));
            p * (p / q).ln()
        });
        each.sum::<f64>() / n as f64
    }

    fn features(n: usize) -> (Matrix, Vec<Vec<f64>>) {
        let x = Matrix::new(n, 3, (0..3 * n).map(|i| (i as f32 * 1.3).sin()).collect());
        let rows: Vec<Vec<f64>> =
            x.iter().map(|row| row.iter().map(|&x| f64::from(x)).collect()).collect();
        (x, unit(&rows))
    }

    #[test]
    fn it_is_the_plain_formula_of_bits_with_bits_and_of_values_with_bits() {
        let (n, temperature) = (5, 0.3);
        let a = variable(&[n, 4], 0.4);
        let (x, unit_x) = features(n);
        let values = a.to_vec2::<f64>().unwrap();
        let sign = |a: &f64| if *a > 0.0 { 1.0 } else { -1.0 };
        let signs: Vec<Vec<f64>> =
            values.iter().map(|row| row.iter().map(sign).collect()).collect();
        let (bits, mut values) = (unit(&signs), unit(&values));
        values.iter_mut().flatten().for_each(|value| *value *= (std::f64::consts::PI / 2.0).sqrt());
        let symmetric = plain(&bits, &bits, &unit_x, temperature);
        let expected = (symmetric + plain(&values, &bits, &unit_x, temperature)) / 2.0;
        let loss = similarity::<f64>(&a, &x, temperature).unwrap();
        let got = loss.to_scalar::<f64>().unwrap();
        assert!((got - expected).abs() < 1e-9, "expected {expected}, got {got}");

        let gradients = loss.backward().unwrap();
        let gradient = gradients.get(&a).unwrap().flatten_all().unwrap().to_vec1::<f64>();
        assert!(gradient.unwrap().iter().all(|g| g.is_finite() && *g != 0.0));
    }

    #[test]
    fn the_gradient_is_that_of_who_attends_and_of_who_is_attended_to() {
        let (u, v) = (variable(&[5, 4], 0.4), variable(&[5, 4], 7.0));
        let (x, _) = features(5);
        let x = directions::<f64>(&x, &u).unwrap();
        let wanted = x.matmul(&x.t().unwrap()).unwrap();
        check(&[u.clone(), v.clone()], || attention::<f64>(&u, &v, &wanted, 0.3).unwrap());
        check(std::slice::from_ref(&u), || attention::<f64>(&u, &u, &wanted, 0.3).unwrap());
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
