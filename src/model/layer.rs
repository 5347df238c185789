//! One fully connected layer, `y = act(x w + b)`, there and back.
//!
//! candle would make three operations of it, each with a tensor of its own, forward and backward,
//! and would compute the gradient of the data too. Here bias and activation are applied in place,
//! in parallel; [`chain`](super::chain) makes one operation of all layers. For a bag of words,
//! where nearly every x is zero, the product gathers the rows of `w` that belong to words present.

use std::sync::Arc;

use candle_core::backprop::GradStore;
use candle_core::{Device, Result, Tensor, Var};
use rayon::prelude::*;

use super::options::Activation;
use super::real::{Real, update_values, with_values};
use super::slot::Slot;
use crate::input::{Features, Sparse};
use crate::numeric::vectorized;

/// What goes into a layer: rows of numbers.
#[derive(Clone)]
pub(super) enum Rows {
    /// A tensor of shape (rows, inputs).
    Dense(Tensor),
    /// The same, mostly zero.
    Sparse(Arc<Sparse>),
}

impl Rows {
    /// Rows of features, as data.
    pub fn new(rows: &Features) -> Result<Self> {
        match rows {
            Features::Dense(dense) => {
                let shape = (dense.rows(), dense.cols());
                Ok(Self::Dense(Tensor::from_slice(dense.values(), shape, &Device::Cpu)?))
            }
            Features::Sparse(sparse) => Ok(Self::Sparse(Arc::new(sparse.clone()))),
        }
    }
}

/// The weights of one layer and what is applied to their product.
#[derive(Clone)]
pub(super) struct Layer {
    /// Shape (inputs, outputs).
    pub weight: Var,
    /// Shape (outputs).
    pub bias: Var,
    /// Applied to `x w + b`.
    pub activation: Activation,
    /// Where the gradients are put.
    pub slot: Slot,
}

impl Layer {
    /// `act(x w + b)`, shape (rows, outputs).
    pub fn apply<T: Real>(&self, x: &Rows) -> Result<Tensor> {
        let bias = self.bias.to_vec1::<T>()?;
        let (y, rest) = match x {
            Rows::Dense(x) => (x.detach().matmul(&self.weight.detach())?, bias),
            Rows::Sparse(x) => (self.gather(x, &bias)?, vec![T::from_f32(0.0); bias.len()]),
        };
        update_values::<T>(&y, |y| {
            let rows = y.par_chunks_mut(rest.len());
            rows.for_each(|y| add_and_activate(self.activation, y, &rest));
        })?;
        Ok(y)
    }

    /// The way back from the gradient of y = [`apply`](Self::apply)(x): that of `x w + b`, and those of
    /// weight and bias.
    pub fn back<T: Real>(
        &self,
        x: &Rows,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Tensor, [Tensor; 2])> {
        let before = match self.activation {
            // The only one whose slope is not a function of its value.
            Activation::Gelu => {
                let linear = Self { activation: Activation::Linear, ..self.clone() };
                Some(linear.apply::<T>(x)?)
            }
            _ => None,
        };
        let g = slope::<T>(self.activation, before.as_ref(), y, grad)?;
        let weight = match x {
            Rows::Dense(x) => x.detach().t()?.matmul(&g)?,
            Rows::Sparse(x) => scatter::<T>(x, &g)?,
        };
        let bias = sum_rows::<T>(&g)?;
        Ok((g, [weight, bias]))
    }

    /// The gradients of weight and bias after a way back: what chains found, and what candle did. They
    /// are taken: the next way back starts without.
    pub fn gradients(&self, store: &GradStore) -> Result<[Option<Tensor>; 2]> {
        let [weight, bias] = self.slot.take().map_or([None, None], |both| both.map(Some));
        let with = |own: Option<Tensor>, var: &Var| match (own, store.get(var)) {
            (Some(own), Some(other)) => Ok::<_, candle_core::Error>(Some((own + other)?)),
            (own, other) => Ok(own.or_else(|| other.cloned())),
        };
        Ok([with(weight, &self.weight)?, with(bias, &self.bias)?])
    }

    /// `x w + b` of a sparse x, row after row.
    fn gather<T: Real>(&self, x: &Sparse, bias: &[T]) -> Result<Tensor> {
        let outputs = bias.len();
        let mut y = vec![T::from_f32(0.0); x.rows() * outputs];
        with_values::<T, _>(&self.weight, |w| {
            y.par_chunks_mut(outputs).enumerate().for_each(|(i, y)| {
                y.copy_from_slice(bias);
                let (columns, values) = x.row(i);
                for (&column, &value) in columns.iter().zip(values) {
                    let row = &w[column as usize * outputs..][..outputs];
                    add_scaled(y, T::from_f32(value), row);
                }
            });
        })?;
        Tensor::from_vec(y, (x.rows(), outputs), self.weight.device())
    }
}

/// `x^T g` of a sparse x.
fn scatter<T: Real>(x: &Sparse, g: &Tensor) -> Result<Tensor> {
    let (_, outputs) = g.dims2()?;
    let by_column = transpose(x);
    let mut product = vec![T::from_f32(0.0); x.cols() * outputs];
    with_values::<T, _>(g, |g| {
        // A column of x is a row of the product: the threads write to separate rows, and each adds in
        // the order of the batch, so the sum is the same for any number of them.
        let rows = product.par_chunks_mut(outputs).enumerate().with_min_len(FEW);
        rows.for_each(|(column, sum)| {
            let (rows, values) = by_column.row(column);
            for (&row, &value) in rows.iter().zip(values) {
                add_scaled(sum, T::from_f32(value), &g[row as usize * outputs..][..outputs]);
            }
        });
    })?;
    Tensor::from_vec(product, (x.cols(), outputs), g.device())
}

/// Columns that a thread takes at a time: most are empty.
const FEW: usize = 256;

/// a b, number by number.
pub(super) fn multiply<T: Real>(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let product = a.contiguous()?.copy()?;
    with_values::<T, _>(b, |b| {
        update_values::<T>(&product, |a| {
            a.par_chunks_mut(CHUNK).zip(b.par_chunks(CHUNK)).for_each(|(a, b)| {
                vectorized(|| a.iter_mut().zip(b).for_each(|(a, &b)| *a *= b));
            });
        })
    })??;
    Ok(product)
}

/// y += a x.
fn add_scaled<T: Real>(y: &mut [T], a: T, x: &[T]) {
    vectorized(|| y.iter_mut().zip(x).for_each(|(y, &x)| *y += a * x));
}

/// The transpose: row `c` holds the rows of `rows` that have a value in column `c`.
fn transpose(rows: &Sparse) -> Sparse {
    let mut columns: Vec<Vec<(u32, f32)>> = vec![Vec::new(); rows.cols()];
    for i in 0..rows.rows() {
        let (present, values) = rows.row(i);
        for (&column, &value) in present.iter().zip(values) {
            columns[column as usize].push((i as u32, value));
        }
    }
    let mut transposed = Sparse::new(rows.rows());
    columns.into_iter().for_each(|column| transposed.push(column));
    transposed
}

/// y = act(y + bias), in place.
fn add_and_activate<T: Real>(activation: Activation, y: &mut [T], bias: &[T]) {
    let (zero, one) = (T::from_f32(0.0), T::from_f32(1.0));
    let y = y.iter_mut().zip(bias).map(|(y, &bias)| {
        *y += bias;
        y
    });
    vectorized(|| match activation {
        Activation::Linear => y.for_each(drop),
        Activation::Relu => y.for_each(|y| *y = if *y > zero { *y } else { zero }),
        Activation::Tanh => y.for_each(|y| *y = y.tanh()),
        Activation::Sigmoid => y.for_each(|y| *y = one / (one + (zero - *y).exp())),
        Activation::Gelu => y.for_each(|y| *y *= gate(*y).0),
    });
}

/// GELU is `x s`, with the gate `s = sigmoid(2u)`, `u = sqrt(2/pi) (x + 0.044715 x^3)` (Hendrycks and
/// Gimpel, 2016, the tanh form). Returns s and ds/dx.
#[inline(always)]
fn gate<T: Real>(x: T) -> (T, T) {
    let c = |value: f64| T::from_f64(value);
    let scale = c((8.0 / std::f64::consts::PI).sqrt());
    let u = scale * (x + c(0.044_715) * x * x * x);
    let s = c(1.0) / (c(1.0) + (c(0.0) - u).exp());
    (s, s * (c(1.0) - s) * scale * (c(1.0) + c(3.0 * 0.044_715) * x * x))
}

/// grad act'(x): by the value y, or by x (`before`) where the slope needs it.
fn slope<T: Real>(
    activation: Activation,
    before: Option<&Tensor>,
    y: &Tensor,
    grad: &Tensor,
) -> Result<Tensor> {
    let at = before.unwrap_or(y);
    let (zero, one) = (T::from_f32(0.0), T::from_f32(1.0));
    let slope = |x: T| match activation {
        Activation::Linear => one,
        Activation::Relu => {
            if x > zero {
                one
            } else {
                zero
            }
        }
        Activation::Tanh => one - x * x,
        Activation::Sigmoid => x * (one - x),
        Activation::Gelu => {
            let (s, ds) = gate(x);
            s + x * ds
        }
    };
    if activation == Activation::Linear {
        return grad.contiguous();
    }
    let g = grad.contiguous()?.copy()?;
    with_values::<T, _>(at, |x| {
        update_values::<T>(&g, |g| {
            g.par_chunks_mut(CHUNK).zip(x.par_chunks(CHUNK)).for_each(|(g, x)| {
                vectorized(|| g.iter_mut().zip(x).for_each(|(g, &x)| *g *= slope(x)));
            });
        })
    })??;
    Ok(g)
}

/// How many numbers a thread takes at a time; small enough to share, large enough to be worth it.
pub(super) const CHUNK: usize = 16 * 1024;

/// The sum of all rows: shape (rows, cols) to (cols).
pub(super) fn sum_rows<T: Real>(rows: &Tensor) -> Result<Tensor> {
    let (_, cols) = rows.dims2()?;
    let mut sums = vec![T::from_f32(0.0); cols];
    with_values::<T, _>(rows, |values| {
        // By blocks of columns, so that the order of every sum is that of the rows.
        sums.par_chunks_mut(512).enumerate().for_each(|(block, sums)| {
            let start = block * 512;
            vectorized(|| {
                for row in values.chunks_exact(cols) {
                    let part = &row[start..start + sums.len()];
                    sums.iter_mut().zip(part).for_each(|(sum, &value)| *sum += value);
                }
            });
        });
    })?;
    Tensor::from_vec(sums, cols, rows.device())
}

#[cfg(test)]
mod tests {
    use candle_core::DType;

    use super::*;
    use crate::model::chain::{Step, given};
    use crate::model::gradient_check::{check_layers, variable};

    const ACTIVATIONS: [Activation; 5] = [
        Activation::Linear,
        Activation::Relu,
        Activation::Tanh,
        Activation::Sigmoid,
        Activation::Gelu,
    ];

    /// Four rows over five columns: one empty, one full.
    fn bags() -> (Rows, Tensor) {
        let mut sparse = Sparse::new(5);
        sparse.push([(1, 0.5), (4, -1.25)]);
        sparse.push([]);
        sparse.push([(0, 1.0), (1, 2.0), (2, -0.5), (3, 0.25), (4, 1.5)]);
        sparse.push([(4, 0.75)]);
        let dense = [
            [0.0, 0.5, 0.0, 0.0, -1.25],
            [0.0; 5],
            [1.0, 2.0, -0.5, 0.25, 1.5],
            [0.0, 0.0, 0.0, 0.0, 0.75f64],
        ];
        (Rows::Sparse(Arc::new(sparse)), Tensor::new(&dense, &Device::Cpu).unwrap())
    }

    fn layer(activation: Activation) -> Layer {
        Layer {
            weight: variable(&[5, 3], 0.3),
            bias: variable(&[3], 2.0),
            activation,
            slot: Slot::default(),
        }
    }

    /// `act(x w + b)` of candle's own operations.
    fn plain(layer: &Layer, x: &Tensor) -> Tensor {
        let y = x.matmul(&layer.weight).unwrap().broadcast_add(&layer.bias).unwrap();
        match layer.activation {
            Activation::Linear => y,
            Activation::Relu => y.relu().unwrap(),
            Activation::Tanh => y.tanh().unwrap(),
            Activation::Sigmoid => candle_nn::ops::sigmoid(&y).unwrap(),
            Activation::Gelu => y.gelu().unwrap(),
        }
    }

    fn assert_near(a: &Tensor, b: &Tensor) {
        let apart = (a - b).unwrap().abs().unwrap().max_all().unwrap().to_scalar::<f64>().unwrap();
        assert!(apart < 1e-12, "{apart} apart");
    }

    #[test]
    fn dense_and_sparse_layers_are_the_plain_formula() {
        let (bags, dense) = bags();
        for activation in ACTIVATIONS {
            let layer = layer(activation);
            let expected = plain(&layer, &dense);
            assert_near(&layer.apply::<f64>(&bags).unwrap(), &expected);
            assert_near(&layer.apply::<f64>(&Rows::Dense(dense.clone())).unwrap(), &expected);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (bags, dense) = bags();
        let weigh = variable(&[4, 3], 5.0).as_detached_tensor();
        for activation in ACTIVATIONS {
            let layer = layer(activation);
            for x in [bags.clone(), Rows::Dense(dense.clone())] {
                check_layers(&[&layer], &[], || {
                    let step = Step::new::<f64>(&layer, x.clone(), |_| Ok(None)).unwrap();
                    (given::<f64>(vec![step]).unwrap() * &weigh).unwrap().sum_all().unwrap()
                });
            }
        }
    }

    #[test]
    fn sums_of_rows_are_candles() {
        let x = Tensor::arange(0f64, 3.0 * 1100.0, &Device::Cpu).unwrap();
        let x = x.reshape((3, 1100)).unwrap().to_dtype(DType::F64).unwrap();
        assert_near(&sum_rows::<f64>(&x).unwrap(), &x.sum(0).unwrap());
    }
}
