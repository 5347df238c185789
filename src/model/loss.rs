//! What training makes small: how badly a code gives back its text, vector or image.
//!
//! The reconstruction losses are negative log-likelihoods of an exponential family whose natural
//! parameters are the network's last values y, and so have one form:
//!
//! ```text
//! loss(y, t) = A(y) - <t, y> + const(t)        gradient  A'(y) - t        mean of t  A'(y)
//!
//! squared      A = sum y^2 / 2                 const = sum t^2 / 2
//! Bernoulli    A = sum ln(1 + e^y)             t in 0..1: binary cross-entropy of sigmoid(y)
//! Poisson      A = sum e^y                     const = sum t ln t - t: half the deviance
//! multinomial  A = ln sum e^y                  t = 1/n for each of the n words present
//! ```
//!
//! All but the last are divided by the number of columns, so that "loss" means the loss of one
//! number (or one word) whatever the input's size. A and its gradient are dense; `<t, y>` costs only
//! where t is not zero, which is little for a bag of words. Several targets with weights, as a text
//! and its neighbour, share the one pass over A.
//!
//! Where columns are of several kinds, each [`Block`] of them is judged by a loss of its own, and the
//! blocks' losses are averaged by the numbers that they judge. A multinomial block judges one: which
//! of its columns it is.

use std::ops::Range;

use candle_core::{Result, Tensor};
use rayon::prelude::*;

use super::chain::{Step, back};
use super::known::Known;
use super::layer::{Layer, sum_rows};
use super::options::{Loss, TrainOptions};
use super::real::{Real, largest, squares, sum, update_values};
use super::slot::Found;
use crate::error::Error;
use crate::input::Features;
use crate::numeric::vectorized;

/// Columns that are judged by one loss.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Block {
    pub columns: Range<usize>,
    pub loss: Loss,
}

impl Block {
    /// The blocks of rows of `cols` numbers.
    ///
    /// # Errors
    /// A mix of losses for another number of columns.
    pub fn all(options: &TrainOptions, cols: usize) -> crate::error::Result<Vec<Self>> {
        if options.mix.is_empty() {
            return Ok(vec![Self { columns: 0..cols, loss: options.loss }]);
        }
        let mut end = 0usize;
        let blocks = options.mix.iter().map(|part| {
            let start = end;
            end = end.saturating_add(part.columns);
            Self { columns: start..end, loss: part.loss }
        });
        let blocks: Vec<Self> = blocks.collect();
        if end != cols || blocks.iter().any(|block| block.columns.is_empty()) {
            let message = format!(
                "expected losses for runs of 1 or more columns that are {cols} together, got {end}"
            );
            return Err(Error::invalid("mix of losses", message));
        }
        Ok(blocks)
    }

    /// How many numbers of a row it judges.
    fn numbers(&self) -> usize {
        match self.loss {
            Loss::Multinomial => 1,
            _ => self.columns.len(),
        }
    }
}

/// What a row's loss is divided by to be the loss of one number: the numbers that are judged, or
/// the words present where a multinomial is all there is.
pub(super) fn numbers_of(blocks: &[Block], rows: &Features, row: usize) -> usize {
    match blocks {
        [Block { columns, loss: Loss::Multinomial }] => {
            count_present(rows, row, columns.clone()).max(1)
        }
        _ => blocks.iter().map(Block::numbers).sum(),
    }
}

/// What the decoder should say, row by row, and how much that counts.
pub(super) struct Target<'a> {
    /// One row for each row of the batch.
    pub rows: &'a Features,
    /// The weight of this target's loss.
    pub weight: f64,
}

/// The mean over the batch of the weighted reconstruction losses of codes `z`; `steps` are their way
/// through the decoder's hidden layers, `last` is its last layer.
///
/// The layer and its loss are one operation because its values are by far the largest tensor of a
/// text model (batch x vocabulary): they become their own gradient in place.
pub(super) fn reconstruction<T: Real>(
    z: &Tensor,
    steps: &[Step],
    last: &Layer,
    blocks: &[Block],
    targets: &[Target<'_>],
) -> Result<Tensor> {
    let h = steps.last().map_or_else(|| Ok(z.detach()), Step::next::<T>)?;
    let y = h.matmul(&last.weight.detach())?;
    let (rows, cols) = y.dims2()?;
    let bias = last.bias.to_vec1::<T>()?;
    // Summed in the order of the rows, whatever the threads did first.
    let mut losses: Vec<f64> = Vec::new();
    update_values::<T>(&y, |y| {
        let each = y.par_chunks_mut(cols).enumerate().map(|(i, y)| {
            y.iter_mut().zip(&bias).for_each(|(y, &bias)| *y += bias);
            row_loss(blocks, y, i, targets, 1.0 / rows as f64)
        });
        losses = each.collect();
    })?;
    let value: f64 = losses.iter().sum();
    let g = y;
    let own = [h.t()?.matmul(&g)?, sum_rows::<T>(&g)?];
    let grad = g.matmul(&last.weight.detach().t()?)?;
    let (mut of_layers, grad) = back::<T>(steps, grad, true)?;
    of_layers.push(Found { slot: last.slot.clone(), gradients: own });
    z.apply_op1(Known { value: T::from_f64(value), gradients: [grad], of_layers })
}

/// The loss of one row, times `scale`; `y` becomes its gradient, times `scale`.
pub(super) fn row_loss<T: Real>(
    blocks: &[Block],
    y: &mut [T],
    row: usize,
    targets: &[Target<'_>],
    scale: f64,
) -> f64 {
    let numbers: usize = blocks.iter().map(Block::numbers).sum();
    let of_block = |block: &Block| {
        let share = block.numbers() as f64 / numbers as f64;
        block_loss(block, &mut y[block.columns.clone()], row, targets, scale * share)
    };
    blocks.iter().map(of_block).sum()
}

/// The same for the block's columns, which are all that `y` holds.
fn block_loss<T: Real>(
    block: &Block,
    y: &mut [T],
    row: usize,
    targets: &[Target<'_>],
    scale: f64,
) -> f64 {
    let Block { columns, loss } = block;
    // How much of each target's share a column's t is worth: see the table on top.
    let parts: Vec<f64> = targets
        .iter()
        .map(|target| match loss {
            Loss::Multinomial => match count_present(target.rows, row, columns.clone()) {
                0 => 0.0,
                present => target.weight / present as f64,
            },
            _ => target.weight / y.len() as f64,
        })
        .collect();
    let value = |t: f32| match loss {
        Loss::Multinomial => 1.0,
        _ => f64::from(t),
    };
    // <t, y> needs y before it becomes the gradient.
    let mut total = 0.0;
    for (target, part) in targets.iter().zip(&parts) {
        for_each_present(target.rows, row, columns.clone(), |column, t| {
            let t = value(t);
            total -= part * t * y[column].to_f64();
            total += match loss {
                Loss::Squared => part * t * t / 2.0,
                Loss::Poisson => part * (t * t.ln() - t),
                Loss::Bernoulli | Loss::Multinomial => 0.0,
            };
        });
    }
    // The weight of A: every target brings its own A, and they are all the same.
    let whole: f64 = targets
        .iter()
        .zip(&parts)
        .map(|(target, part)| match loss {
            Loss::Multinomial if *part > 0.0 => target.weight,
            _ => *part,
        })
        .sum();
    total += whole * partition(*loss, y, T::from_f64(whole * scale));
    for (target, part) in targets.iter().zip(&parts) {
        for_each_present(target.rows, row, columns.clone(), |column, t| {
            y[column] -= T::from_f64(part * value(t) * scale);
        });
    }
    total * scale
}

/// The mean of what the natural parameters `y` of a row describe, in its place: numbers, pixels,
/// rates, or the share that each word has of a text.
pub(super) fn mean_of(blocks: &[Block], y: &mut [f32]) {
    for block in blocks {
        partition(block.loss, &mut y[block.columns.clone()], 1.0);
    }
}

/// A(y); `y` becomes `weight` A'(y).
fn partition<T: Real>(loss: Loss, y: &mut [T], weight: T) -> f64 {
    vectorized(|| match loss {
        Loss::Squared => {
            let whole = squares(y).to_f64() / 2.0;
            y.iter_mut().for_each(|y| *y *= weight);
            whole
        }
        Loss::Bernoulli => y.chunks_mut(PRODUCTS * 16).map(|y| softplus(y, weight)).sum(),
        Loss::Poisson => {
            y.iter_mut().for_each(|y| *y = y.exp());
            let rates = sum(y);
            y.iter_mut().for_each(|y| *y *= weight);
            rates.to_f64()
        }
        Loss::Multinomial => {
            let top = largest(y[0], y);
            y.iter_mut().for_each(|y| *y = (*y - top).exp());
            let all = sum(y);
            let factor = weight / all;
            y.iter_mut().for_each(|y| *y *= factor);
            top.to_f64() + all.to_f64().ln()
        }
    })
}

/// So many numbers from 1 to 2 have a product that is no larger than any `f32`.
const PRODUCTS: usize = 64;

/// The sum of `ln(1 + e^y)` over at most 16 times [`PRODUCTS`] numbers; y becomes
/// `weight sigmoid(y)`. It is `max(y, 0) + ln(1 + e^-|y|)`, which cannot overflow, and a sum of
/// logarithms is one logarithm of a product.
#[inline(always)]
fn softplus<T: Real>(y: &mut [T], weight: T) -> f64 {
    let (zero, one) = (T::from_f32(0.0), T::from_f32(1.0));
    let (mut positive, mut product) = ([zero; 16], [one; 16]);
    let mut each = |(i, y): (usize, &mut T)| {
        let above = *y > zero;
        let e = (if above { zero - *y } else { *y }).exp();
        positive[i] += if above { *y } else { zero };
        product[i] *= one + e;
        *y = weight * (if above { one } else { e }) / (one + e);
    };
    let (chunks, rest) = y.as_chunks_mut::<16>();
    for chunk in chunks {
        chunk.iter_mut().enumerate().for_each(&mut each);
    }
    rest.iter_mut().enumerate().for_each(&mut each);
    let logarithms: f64 = product.iter().map(|product| product.to_f64().ln()).sum();
    positive.iter().map(|positive| positive.to_f64()).sum::<f64>() + logarithms
}

fn count_present(rows: &Features, row: usize, columns: Range<usize>) -> usize {
    let mut count = 0;
    for_each_present(rows, row, columns, |_, _| count += 1);
    count
}

/// Calls `f` with each number of the row that is not zero and the place in `columns` where it
/// stands.
fn for_each_present(
    rows: &Features,
    row: usize,
    columns: Range<usize>,
    mut f: impl FnMut(usize, f32),
) {
    match rows {
        Features::Dense(dense) => {
            let present = dense.row(row)[columns].iter().enumerate();
            present
                .filter(|(_, value)| **value != 0.0)
                .for_each(|(column, &value)| f(column, value));
        }
        Features::Sparse(sparse) => {
            let (present, values) = sparse.row(row);
            let start = present.partition_point(|&column| (column as usize) < columns.start);
            for (&column, &value) in present[start..].iter().zip(&values[start..]) {
                if column as usize >= columns.end {
                    break;
                }
                f(column as usize - columns.start, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::input::{Matrix, Sparse};
    use crate::model::gradient_check::{check_layers, variable};
    use crate::model::options::Activation;
    use crate::model::slot::Slot;

    const LOSSES: [Loss; 4] = [Loss::Squared, Loss::Bernoulli, Loss::Multinomial, Loss::Poisson];

    fn block(columns: Range<usize>, loss: Loss) -> Block {
        Block { columns, loss }
    }

    fn last() -> Layer {
        Layer {
            weight: variable(&[2, 4], 0.3),
            bias: variable(&[4], 2.0),
            activation: Activation::Linear,
            slot: Slot::default(),
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
    fn plain(loss: Loss, y: &[f64], t: &[f64]) -> f64 {
        let n = y.len() as f64;
        match loss {
            Loss::Squared => y.iter().zip(t).map(|(y, t)| (y - t).powi(2) / 2.0).sum::<f64>() / n,
            Loss::Bernoulli => {
                let sigmoid = |y: f64| 1.0 / (1.0 + (-y).exp());
                let each = y.iter().zip(t);
                let each =
                    each.map(|(&y, t)| t * sigmoid(y).ln() + (1.0 - t) * (1.0 - sigmoid(y)).ln());
                -each.sum::<f64>() / n
            }
            Loss::Poisson => {
                let log = |t: f64| if t > 0.0 { t * t.ln() } else { 0.0 };
                y.iter().zip(t).map(|(y, &t)| log(t) - t * y - t + y.exp()).sum::<f64>() / n
            }
            Loss::Multinomial => {
                let all: f64 = y.iter().map(|y| y.exp()).sum();
                let present: Vec<f64> =
                    y.iter().zip(t).filter(|(_, t)| **t != 0.0).map(|(y, _)| *y).collect();
                let words = present.len().max(1) as f64;
                -present.iter().map(|y| (y.exp() / all).ln()).sum::<f64>() / words
            }
        }
    }

    fn dense_row(rows: &Features, row: usize) -> Vec<f64> {
        let mut t = vec![0.0; rows.cols()];
        for_each_present(rows, row, 0..rows.cols(), |column, value| t[column] = f64::from(value));
        t
    }

    /// The value against `expected(y, t)` of each row and target, the gradient against differences.
    fn agrees(blocks: &[Block], expected: impl Fn(&[f64], &[f64]) -> f64) {
        let (dense, sparse) = (dense(), sparse());
        let targets = [Target { rows: &dense, weight: 0.7 }, Target { rows: &sparse, weight: 1.5 }];
        let (hidden, last) = (variable(&[3, 2], 1.0), last());
        let y = hidden.matmul(&last.weight).unwrap().broadcast_add(&last.bias).unwrap();
        let y = y.to_vec2::<f64>().unwrap();
        let f = || reconstruction::<f64>(&hidden, &[], &last, blocks, &targets).unwrap();
        let of = |row: usize, target: &Target<'_>| {
            target.weight * expected(&y[row], &dense_row(target.rows, row)) / 3.0
        };
        let expected: f64 =
            (0..3).map(|row| targets.iter().map(|target| of(row, target)).sum::<f64>()).sum();
        let got = f().to_scalar::<f64>().unwrap();
        assert!((got - expected).abs() < 1e-12, "{blocks:?}: expected {expected}, got {got}");
        // Weighed, so that a gradient that forgets the factor is found.
        let parts = (&[&last][..], std::slice::from_ref(&hidden));
        check_layers(parts.0, parts.1, || f().affine(3.0, 0.0).unwrap());
    }

    #[test]
    fn reconstruction_is_the_plain_formula_and_so_is_its_gradient() {
        for loss in LOSSES {
            agrees(&[block(0..4, loss)], |y, t| plain(loss, y, t));
        }
    }

    #[test]
    fn a_mix_is_the_mean_over_the_numbers_judged() {
        let mix = [
            block(0..1, Loss::Squared),
            block(1..3, Loss::Multinomial),
            block(3..4, Loss::Poisson),
        ];
        agrees(&mix, |y, t| {
            let part = |loss, range: Range<usize>| plain(loss, &y[range.clone()], &t[range]);
            let parts = [(Loss::Squared, 0..1), (Loss::Multinomial, 1..3), (Loss::Poisson, 3..4)];
            parts.into_iter().map(|(loss, range)| part(loss, range)).sum::<f64>() / 3.0
        });
        // Cutting columns of one kind in two changes nothing.
        for loss in [Loss::Squared, Loss::Bernoulli, Loss::Poisson] {
            agrees(&[block(0..3, loss), block(3..4, loss)], |y, t| plain(loss, y, t));
        }
    }

    #[test]
    fn the_mean_is_where_the_loss_is_least() {
        // At the natural parameters whose mean is t, the gradient A'(y) - t is zero.
        let t = [0.2f32, 0.5, 0.3];
        let y_of = |loss, t: f32| match loss {
            Loss::Squared => t,
            Loss::Bernoulli => (t / (1.0 - t)).ln(),
            Loss::Poisson | Loss::Multinomial => t.ln(),
        };
        for loss in LOSSES {
            let mut y = t.map(|t| y_of(loss, t));
            mean_of(&[block(0..3, loss)], &mut y);
            y.iter().zip(t).for_each(|(y, t)| assert!((y - t).abs() < 1e-6, "{loss}: {y} {t}"));
        }
    }
}
