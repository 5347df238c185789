//! What training makes small: how badly a code gives back its text, vector or image, and how badly
//! it tells its neighbour from the rest of the batch.
//!
//! The three reconstruction losses are negative log-likelihoods of an exponential family whose
//! natural parameters are the network's last values y, and so have one form:
//!
//! ```text
//! loss(y, t) = A(y) - <t, y> + const(t)        gradient  A'(y) - t
//!
//! squared      A = sum y^2 / 2                 const = sum t^2 / 2
//! Bernoulli    A = sum ln(1 + e^y)             t in 0..1: binary cross-entropy of sigmoid(y)
//! multinomial  A = ln sum e^y                  t = 1/n for each of the n words present
//! ```
//!
//! Squared error and cross-entropy are divided by the number of columns, so that "loss" means the
//! loss of one number (or one word) whatever the input's size. A and its gradient are dense; `<t, y>`
//! costs only where t is not zero, which is little for a bag of words. Several targets with
//! weights, as a text and its neighbour, share the one pass over A.

use candle_core::{CpuStorage, CustomOp2, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::layer::{Layer, sum_rows};
use super::options::Loss;
use super::real::{Real, update_values, with_values};
use crate::input::Features;

/// What the decoder should say, row by row, and how much that counts.
pub(super) struct Target<'a> {
    /// One row for each row of the batch.
    pub rows: &'a Features,
    /// The weight of this target's loss.
    pub weight: f64,
}

/// The mean over the batch of the weighted reconstruction losses; `last` is the decoder's last
/// layer, `hidden` what goes into it.
///
/// The layer and its loss are one operation because its values are by far the largest tensor of a
/// text model (batch x vocabulary): they become their own gradient in place.
pub(super) fn reconstruction<T: Real>(
    hidden: &Tensor,
    last: &Layer,
    loss: Loss,
    targets: &[Target<'_>],
) -> Result<Tensor> {
    let h = hidden.detach();
    let y = h.matmul(&last.weight.detach())?;
    let (rows, cols) = y.dims2()?;
    let bias = last.bias.to_vec1::<T>()?;
    // Summed in the order of the rows, whatever the threads did first.
    let mut losses: Vec<f64> = Vec::new();
    update_values::<T>(&y, |y| {
        let each = y.par_chunks_mut(cols).enumerate().map(|(i, y)| {
            y.iter_mut().zip(&bias).for_each(|(y, &bias)| *y += bias);
            row_loss(loss, y, i, targets, 1.0 / rows as f64)
        });
        losses = each.collect();
    })?;
    let value: f64 = losses.iter().sum();
    let g = y;
    let gradients = [g.matmul(&last.weight.detach().t()?)?, h.t()?.matmul(&g)?, sum_rows::<T>(&g)?];
    hidden.apply_op3(&last.weight, &last.bias, Known { value: T::from_f64(value), gradients })
}

/// The loss of one row, times `scale`; `y` becomes its gradient, times `scale`.
fn row_loss<T: Real>(
    loss: Loss,
    y: &mut [T],
    row: usize,
    targets: &[Target<'_>],
    scale: f64,
) -> f64 {
    // How much of each target's share a column's t is worth: see the table on top.
    let parts: Vec<f64> = targets
        .iter()
        .map(|target| match loss {
            Loss::Squared | Loss::Bernoulli => target.weight / y.len() as f64,
            Loss::Multinomial => match count_present(target.rows, row) {
                0 => 0.0,
                present => target.weight / present as f64,
            },
        })
        .collect();
    let value = |t: f32| match loss {
        Loss::Squared | Loss::Bernoulli => f64::from(t),
        Loss::Multinomial => 1.0,
    };
    // <t, y> needs y before it becomes the gradient.
    let mut total = 0.0;
    for (target, part) in targets.iter().zip(&parts) {
        for_each_present(target.rows, row, |column, t| {
            let t = value(t);
            total -= part * t * y[column].to_f64();
            if loss == Loss::Squared {
                total += part * t * t / 2.0;
            }
        });
    }
    // The weight of A: every target brings its own A, and they are all the same.
    let whole: f64 = targets
        .iter()
        .zip(&parts)
        .map(|(target, part)| match loss {
            Loss::Squared | Loss::Bernoulli => *part,
            Loss::Multinomial => {
                if *part > 0.0 {
                    target.weight
                } else {
                    0.0
                }
            }
        })
        .sum();
    total += whole * partition(loss, y, T::from_f64(whole * scale));
    for (target, part) in targets.iter().zip(&parts) {
        for_each_present(target.rows, row, |column, t| {
            y[column] -= T::from_f64(part * value(t) * scale);
        });
    }
    total * scale
}

/// A(y); `y` becomes `weight` A'(y).
fn partition<T: Real>(loss: Loss, y: &mut [T], weight: T) -> f64 {
    let (zero, one) = (T::from_f32(0.0), T::from_f32(1.0));
    match loss {
        Loss::Squared => {
            let mut sum = zero;
            for y in y {
                sum += *y * *y;
                *y *= weight;
            }
            sum.to_f64() / 2.0
        }
        Loss::Bernoulli => {
            let mut sum = zero;
            for y in y {
                // ln(1 + e^y) and sigmoid(y) with only e^-|y|, which cannot overflow.
                let positive = *y > zero;
                let e = (if positive { zero - *y } else { *y }).exp();
                sum += if positive { *y } else { zero } + e.ln_1p();
                *y = weight * (if positive { one } else { e }) / (one + e);
            }
            sum.to_f64()
        }
        Loss::Multinomial => {
            let top = y.iter().fold(y[0], |top, &y| if y > top { y } else { top });
            let mut sum = zero;
            for y in y.iter_mut() {
                *y = (*y - top).exp();
                sum += *y;
            }
            let factor = weight / sum;
            y.iter_mut().for_each(|y| *y *= factor);
            top.to_f64() + sum.to_f64().ln()
        }
    }
}

fn count_present(rows: &Features, row: usize) -> usize {
    match rows {
        Features::Dense(dense) => dense.row(row).iter().filter(|&&value| value != 0.0).count(),
        Features::Sparse(sparse) => sparse.row(row).0.len(),
    }
}

fn for_each_present(rows: &Features, row: usize, mut f: impl FnMut(usize, f32)) {
    match rows {
        Features::Dense(dense) => {
            let present = dense.row(row).iter().enumerate().filter(|(_, value)| **value != 0.0);
            present.for_each(|(column, &value)| f(column, value));
        }
        Features::Sparse(sparse) => {
            let (columns, values) = sparse.row(row);
            columns.iter().zip(values).for_each(|(&column, &value)| f(column as usize, value));
        }
    }
}

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
        let exps = |row: &mut [T]| row.iter_mut().for_each(|x| *x = ((*x - one) * heat).exp());
        near.par_chunks_mut(n).for_each(exps);
    })?;
    let by_row = with_values::<T, Vec<T>>(&near, |near| {
        near.par_chunks(n).map(|row| row.iter().fold(T::from_f64(0.0), |sum, &x| sum + x)).collect()
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
            for (x, &sum) in row.iter_mut().zip(&by_column) {
                *x *= across + half * scale / sum;
            }
            row[i] -= scale;
        });
    })?;
    let gradients = [near.matmul(&free_v)?, near.t()?.matmul(&free_u)?];
    u.apply_op2(&v, Known { value: T::from_f64(loss), gradients })
}

/// `2p - 1`, each row brought to length 1. Of plain operations: candle knows their gradients.
fn direction(p: &Tensor) -> Result<Tensor> {
    let x = p.affine(2.0, -1.0)?;
    // A row of nothing but one half has no direction; it stays as it is.
    let length = x.sqr()?.sum_keepdim(D::Minus1)?.affine(1.0, 1e-12)?.sqrt()?;
    x.broadcast_div(&length)
}

/// A number whose gradient by its arguments was found together with its value.
struct Known<T, const N: usize> {
    value: T,
    gradients: [Tensor; N],
}

impl<T: Real, const N: usize> Known<T, N> {
    fn forward(&self) -> Result<(CpuStorage, Shape)> {
        Ok((T::to_cpu_storage_owned(vec![self.value]), ().into()))
    }

    fn gradients(&self, grad: &Tensor) -> Result<[Option<Tensor>; N]> {
        let factor = T::to_f64(grad.to_scalar::<T>()?);
        let mut scaled = [const { None }; N];
        for (scaled, gradient) in scaled.iter_mut().zip(&self.gradients) {
            let whole = if factor == 1.0 { gradient.clone() } else { (gradient * factor)? };
            *scaled = Some(whole);
        }
        Ok(scaled)
    }
}

impl<T: Real> CustomOp3 for Known<T, 3> {
    fn name(&self) -> &'static str {
        "loss"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        self.gradients(grad).map(|[a, b, c]| (a, b, c))
    }
}

impl<T: Real> CustomOp2 for Known<T, 2> {
    fn name(&self) -> &'static str {
        "contrast"
    }

    fn cpu_fwd(
        &self,
        _: &CpuStorage,
        _: &Layout,
        _: &CpuStorage,
        _: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        self.forward()
    }

    fn bwd(
        &self,
        _: &Tensor,
        _: &Tensor,
        _: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        self.gradients(grad).map(|[a, b]| (a, b))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Matrix, Sparse};
    use crate::model::gradient_check::{check, variable};
    use crate::model::options::Activation;

    const LOSSES: [Loss; 3] = [Loss::Squared, Loss::Bernoulli, Loss::Multinomial];

    fn last() -> Layer {
        Layer {
            weight: variable(&[2, 4], 0.3),
            bias: variable(&[4], 2.0),
            activation: Activation::Linear,
        }
    }

    fn dense() -> Features {
        let values = vec![0.0, 0.5, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.25, 0.0, 0.0, 1.0];
        Features::Dense(Matrix::new(3, 4, values))
    }

    fn sparse() -> Features {
        let mut sparse = Sparse::new(4);
        sparse.push([(3, 0.5)]);
        sparse.push([(0, 1.0), (2, 0.25)]);
        sparse.push([]);
        Features::Sparse(sparse)
    }

    /// One row's loss as a textbook has it.
    fn plain(loss: Loss, y: &[f64], rows: &Features, row: usize) -> f64 {
        let mut t = vec![0.0; y.len()];
        for_each_present(rows, row, |column, value| t[column] = f64::from(value));
        let n = y.len() as f64;
        match loss {
            Loss::Squared => y.iter().zip(&t).map(|(y, t)| (y - t).powi(2) / 2.0).sum::<f64>() / n,
            Loss::Bernoulli => {
                let sigmoid = |y: f64| 1.0 / (1.0 + (-y).exp());
                let each = y.iter().zip(&t);
                let each =
                    each.map(|(&y, t)| t * sigmoid(y).ln() + (1.0 - t) * (1.0 - sigmoid(y)).ln());
                -each.sum::<f64>() / n
            }
            Loss::Multinomial => {
                let all: f64 = y.iter().map(|y| y.exp()).sum();
                let present: Vec<f64> =
                    y.iter().zip(&t).filter(|(_, t)| **t != 0.0).map(|(y, _)| *y).collect();
                let words = present.len().max(1) as f64;
                -present.iter().map(|y| (y.exp() / all).ln()).sum::<f64>() / words
            }
        }
    }

    #[test]
    fn reconstruction_is_the_plain_formula_and_so_is_its_gradient() {
        let (dense, sparse) = (dense(), sparse());
        let targets = [Target { rows: &dense, weight: 0.7 }, Target { rows: &sparse, weight: 1.5 }];
        let (hidden, last) = (variable(&[3, 2], 1.0), last());
        let y = hidden.matmul(&last.weight).unwrap().broadcast_add(&last.bias).unwrap();
        let y = y.to_vec2::<f64>().unwrap();
        for loss in LOSSES {
            let f = || reconstruction::<f64>(&hidden, &last, loss, &targets).unwrap();
            let expected: f64 = (0..3)
                .flat_map(|row| targets.iter().map(move |target| (row, target)))
                .map(|(row, target)| target.weight * plain(loss, &y[row], target.rows, row) / 3.0)
                .sum();
            let got = f().to_scalar::<f64>().unwrap();
            assert!((got - expected).abs() < 1e-12, "{loss}: expected {expected}, got {got}");
            let parts = [hidden.clone(), last.weight.clone(), last.bias.clone()];
            // Weighed, so that a gradient that forgets the factor is found.
            check(&parts, || f().affine(3.0, 0.0).unwrap());
        }
    }

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
