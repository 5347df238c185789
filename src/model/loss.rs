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

use std::sync::Mutex;

use candle_core::{CpuStorage, CustomOp3, D, Layout, Result, Shape, Tensor};
use rayon::prelude::*;

use super::layer::{Layer, sum_rows};
use super::options::Loss;
use super::real::{Real, update_values};
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
    let losses = Mutex::new(Vec::new());
    update_values::<T>(&y, |y| {
        let each = y.par_chunks_mut(cols).enumerate().map(|(i, y)| {
            y.iter_mut().zip(&bias).for_each(|(y, &bias)| *y += bias);
            row_loss(loss, y, i, targets, 1.0 / rows as f64)
        });
        let each: Vec<f64> = each.collect();
        if let Ok(mut losses) = losses.lock() {
            *losses = each;
        }
    })?;
    let value: f64 = losses.into_inner().unwrap_or_default().iter().sum();
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

/// InfoNCE (van den Oord, Li and Vinyals, 2018), both ways: row i of `a` should be nearer to row i of
/// `b` than to every other row of `b`, and the other way round.
///
/// Nearness is the share of agreeing bits: codes as -1 and 1 give `<a, b> / bits` in -1..1, which is
/// 1 - 2 distance / bits. Divided by the temperature it goes into a softmax over the batch.
pub(super) fn info_nce(a: &Tensor, b: &Tensor, temperature: f64) -> Result<Tensor> {
    let (_, bits) = a.dims2()?;
    // -1 and 1 from 0 and 1.
    let (a, b) = (a.affine(2.0, -1.0)?, b.affine(2.0, -1.0)?);
    let scale = 1.0 / (bits as f64 * temperature);
    let near = a.matmul(&b.t()?)?.affine(scale, 0.0)?;
    let same = ((&a * &b)?.sum(D::Minus1)? * scale)?.mean_all()?;
    let from_a = log_sum_exp(&near)?;
    let from_b = log_sum_exp(&near.t()?.contiguous()?)?;
    ((from_a + from_b)?.affine(0.5, 0.0)? - same)?.contiguous()
}

/// The mean over rows of ln sum e^x, of plain operations: candle's fused softmax has no gradient.
fn log_sum_exp(x: &Tensor) -> Result<Tensor> {
    let top = x.max_keepdim(D::Minus1)?.detach();
    let sum = x.broadcast_sub(&top)?.exp()?.sum_keepdim(D::Minus1)?;
    (sum.log()? + top)?.mean_all()
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
