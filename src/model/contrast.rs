//! How badly a code tells its neighbour from the rest of the batch.

use candle_core::{D, Result, Tensor};
use rayon::prelude::*;

use super::known::Known;
use super::layer::sum_rows;
use super::real::{Real, sum, update_values, with_values};
use crate::numeric::vectorized;

/// InfoNCE (van den Oord, Li and Vinyals, 2018), both ways: row i of `p` should be nearer to row i of
/// `q` than to every other row of `q`, and the other way round. `p` and `q` are the sigmoid's
/// values, before they are made binary.
///
/// Nearness is the cosine of `2p - 1` and `2q - 1`. For values at 0 and 1 that is the share of bits
/// that agree less the share that differ; for values in between it is a smooth form of it, which
/// does not shrink where all values are near one half, as they are in the beginning. Divided by the
/// temperature it goes into a softmax over the batch.
pub(super) fn info_nce<T: Real>(p: &Tensor, q: &Tensor, temperature: f64) -> Result<Tensor> {
    let (u, v) = (direction(p)?, direction(q)?);
    let (free_u, free_v) = (u.detach(), v.detach());
    let n = free_u.dims2()?.0;
    let near = free_u.matmul(&free_v.t()?)?;
    // e^((cosine - 1) / temperature): a cosine is at most 1, so one shift serves rows and columns.
    let (one, heat) = (T::from_f64(1.0), T::from_f64(1.0 / temperature));
    let mut loss = 0.0;
    update_values::<T>(&near, |near| {
        let diagonal = near.iter().step_by(n + 1);
        loss -= diagonal.map(|&x| ((x - one) * heat).to_f64()).sum::<f64>() / n as f64;
        near.par_chunks_mut(n).for_each(|row| {
            vectorized(|| row.iter_mut().for_each(|x| *x = ((*x - one) * heat).exp()));
        });
    })?;
    let by_row = with_values::<T, Vec<T>>(&near, |near| {
        near.par_chunks(n).map(|row| vectorized(|| sum(row))).collect()
    })?;
    let by_column = sum_rows::<T>(&near)?.to_vec1::<T>()?;
    for sum in by_row.iter().chain(&by_column) {
        loss += sum.to_f64().ln() / (2 * n) as f64;
    }
    // The gradient by the cosines: (softmax of the row + softmax of the column) / 2 - identity.
    let scale = T::from_f64(1.0 / (n as f64 * temperature));
    let half = T::from_f64(0.5);
    update_values::<T>(&near, |near| {
        near.par_chunks_mut(n).enumerate().for_each(|(i, row)| {
            let across = half * scale / by_row[i];
            vectorized(|| {
                for (x, &sum) in row.iter_mut().zip(&by_column) {
                    *x *= across + half * scale / sum;
                }
            });
            row[i] -= scale;
        });
    })?;
    let gradients = [near.matmul(&free_v)?, near.t()?.matmul(&free_u)?];
    u.apply_op2(&v, Known { value: T::from_f64(loss), gradients, of_layers: Vec::new() })
}

/// `2p - 1`, each row brought to length 1. Of plain operations: candle knows their gradients.
fn direction(p: &Tensor) -> Result<Tensor> {
    let x = p.affine(2.0, -1.0)?;
    // A row of nothing but one half has no direction; it stays as it is.
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.affine(1.0, 1e-12)?.sqrt()?;
    x.broadcast_div(&length)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::gradient_check::{check, variable};

    #[test]
    fn contrast_is_the_plain_formula_and_so_is_its_gradient() {
        let (a, b) = (variable(&[4, 3], 0.2), variable(&[4, 3], 9.0));
        let unit = |x: &Tensor| -> Vec<Vec<f64>> {
            let rows = x.affine(2.0, -1.0).unwrap().to_vec2::<f64>().unwrap();
            let length = |row: &[f64]| row.iter().map(|x| x * x).sum::<f64>().sqrt();
            rows.iter().map(|row| row.iter().map(|x| x / length(row)).collect()).collect()
        };
        let (u, v) = (unit(&a), unit(&b));
        let near = |i: usize, j: usize| -> f64 {
            u[i].iter().zip(&v[j]).map(|(x, y)| x * y).sum::<f64>() / 0.5
        };
        let mut expected = 0.0;
        for i in 0..4 {
            let across: f64 = (0..4).map(|j| near(i, j).exp()).sum();
            let down: f64 = (0..4).map(|j| near(j, i).exp()).sum();
            expected -= ((near(i, i).exp() / across).ln() + (near(i, i).exp() / down).ln()) / 8.0;
        }
        let f = || info_nce::<f64>(&a, &b, 0.5).unwrap();
        let got = f().to_scalar::<f64>().unwrap();
        assert!((got - expected).abs() < 1e-9, "expected {expected}, got {got}");
        check(&[a.clone(), b.clone()], || f().affine(3.0, 0.0).unwrap());
    }

    #[test]
    fn values_at_one_half_have_no_direction_and_do_no_harm() {
        let half = Tensor::full(0.5f64, (2, 3), &candle_core::Device::Cpu).unwrap();
        let loss = info_nce::<f64>(&half, &half, 0.5).unwrap().to_scalar::<f64>().unwrap();
        assert!((loss - 2f64.ln()).abs() < 1e-9);
    }
}
