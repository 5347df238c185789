//! One fully connected layer, `y = act(x w + b)`, as one operation with its gradient by hand.
//!
//! candle would make three operations of it, each with a tensor of its own, forward and backward,
//! and would compute the gradient of the data too. Here bias and activation are applied in place,
//! in parallel, and a layer whose input is data asks for no gradient of it. For a bag of words,
//! where nearly every x is zero, the product gathers the rows of `w` that belong to words present.

use std::sync::Arc;

use candle_core::backend::BackendStorage;
use candle_core::{CpuStorage, CustomOp2, CustomOp3, Device, Layout, Result, Shape, Tensor, Var};
use rayon::prelude::*;

use super::options::Activation;
use super::real::{Real, update_values, with_values};
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
}

impl Layer {
    /// `act(x w + b)`, shape (rows, outputs).
    pub fn forward<T: Real>(&self, x: &Rows) -> Result<Tensor> {
        match x {
            Rows::Dense(x) => {
                let op = Dense::<T> {
                    activation: self.activation,
                    data: !x.track_op(),
                    real: std::marker::PhantomData,
                };
                x.apply_op3(&self.weight, &self.bias, op)
            }
            Rows::Sparse(x) => {
                let op = Gather::<T> {
                    activation: self.activation,
                    rows: x.clone(),
                    real: std::marker::PhantomData,
                };
                self.weight.apply_op2(&self.bias, op)
            }
        }
    }
}

/// `act(x w + b)` of a dense x.
struct Dense<T> {
    activation: Activation,
    /// Whether x is data, so that nobody asks for its gradient.
    data: bool,
    real: std::marker::PhantomData<T>,
}

impl<T: Real> CustomOp3 for Dense<T> {
    fn name(&self) -> &'static str {
        "dense layer"
    }

    fn cpu_fwd(
        &self,
        x: &CpuStorage,
        x_layout: &Layout,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (rows, inputs) = x_layout.shape().dims2()?;
        let (_, outputs) = w_layout.shape().dims2()?;
        let mut y = x.matmul(w, (1, rows, outputs, inputs), x_layout, w_layout)?;
        let bias = &T::cpu_storage_as_slice(b)?[b_layout.start_offset()..][..outputs];
        T::slice_mut(&mut y)?
            .par_chunks_mut(outputs)
            .for_each(|y| add_and_activate(self.activation, y, bias));
        Ok((y, (rows, outputs).into()))
    }

    fn bwd(
        &self,
        x: &Tensor,
        w: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>, Option<Tensor>)> {
        // Detached, or candle would record the products below for a gradient of the gradient.
        let (x, w) = (x.detach(), w.detach());
        let before = match self.activation {
            // The only one whose slope is not a function of its value.
            Activation::Gelu => Some(x.matmul(&w)?.broadcast_add(&b.detach())?),
            _ => None,
        };
        let g = slope::<T>(self.activation, before.as_ref(), y, grad)?;
        let grad_x = if self.data { None } else { Some(g.matmul(&w.t()?)?) };
        Ok((grad_x, Some(x.t()?.matmul(&g)?), Some(sum_rows::<T>(&g)?)))
    }
}

/// `act(x w + b)` of a sparse x, a function of w and b.
struct Gather<T> {
    activation: Activation,
    rows: Arc<Sparse>,
    real: std::marker::PhantomData<T>,
}

impl<T: Real> Gather<T> {
    /// `x w + b`, row after row.
    fn product(&self, w: &[T], bias: &[T]) -> Vec<T> {
        let outputs = bias.len();
        let mut y = vec![T::from_f32(0.0); self.rows.rows() * outputs];
        y.par_chunks_mut(outputs).enumerate().for_each(|(i, y)| {
            y.copy_from_slice(bias);
            let (columns, values) = self.rows.row(i);
            for (&column, &value) in columns.iter().zip(values) {
                let row = &w[column as usize * outputs..][..outputs];
                add_scaled(y, T::from_f32(value), row);
            }
        });
        y
    }
}

impl<T: Real> CustomOp2 for Gather<T> {
    fn name(&self) -> &'static str {
        "sparse layer"
    }

    fn cpu_fwd(
        &self,
        w: &CpuStorage,
        w_layout: &Layout,
        b: &CpuStorage,
        b_layout: &Layout,
    ) -> Result<(CpuStorage, Shape)> {
        let (_, outputs) = w_layout.shape().dims2()?;
        let w = &T::cpu_storage_as_slice(w)?[w_layout.start_offset()..];
        let bias = &T::cpu_storage_as_slice(b)?[b_layout.start_offset()..][..outputs];
        let mut y = self.product(w, bias);
        let no_bias = vec![T::from_f32(0.0); outputs];
        y.par_chunks_mut(outputs).for_each(|y| add_and_activate(self.activation, y, &no_bias));
        Ok((T::to_cpu_storage_owned(y), (self.rows.rows(), outputs).into()))
    }

    fn bwd(
        &self,
        w: &Tensor,
        b: &Tensor,
        y: &Tensor,
        grad: &Tensor,
    ) -> Result<(Option<Tensor>, Option<Tensor>)> {
        let before = match self.activation {
            Activation::Gelu => {
                let values = with_values::<T, _>(w, |w| {
                    with_values::<T, _>(b, |bias| self.product(w, bias))
                })??;
                Some(Tensor::from_vec(values, y.shape(), y.device())?)
            }
            _ => None,
        };
        let g = slope::<T>(self.activation, before.as_ref(), y, grad)?;
        let (inputs, outputs) = w.dims2()?;
        let by_column = transpose(&self.rows);
        let mut grad_w = vec![T::from_f32(0.0); inputs * outputs];
        with_values::<T, _>(&g, |g| {
            // A column of x is a row of the gradient: the threads write to separate rows, and
            // each adds in the order of the batch, so the sum is the same for any number of them.
            grad_w.par_chunks_mut(outputs).enumerate().for_each(|(column, grad_w)| {
                let (rows, values) = by_column.row(column);
                for (&row, &value) in rows.iter().zip(values) {
                    add_scaled(grad_w, T::from_f32(value), &g[row as usize * outputs..][..outputs]);
                }
            });
        })?;
        let grad_w = Tensor::from_vec(grad_w, (inputs, outputs), w.device())?;
        Ok((Some(grad_w), Some(sum_rows::<T>(&g)?)))
    }
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
    use crate::model::gradient_check::{check, variable};

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
        Layer { weight: variable(&[5, 3], 0.3), bias: variable(&[3], 2.0), activation }
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
            assert_near(&layer.forward::<f64>(&bags).unwrap(), &expected);
            assert_near(&layer.forward::<f64>(&Rows::Dense(dense.clone())).unwrap(), &expected);
        }
    }

    #[test]
    fn gradients_agree_with_finite_differences() {
        let (bags, _) = bags();
        let x = variable(&[4, 5], 0.7);
        let weigh = variable(&[4, 3], 5.0);
        let sum = |y: Tensor| (y * weigh.as_detached_tensor()).unwrap().sum_all().unwrap();
        for activation in ACTIVATIONS {
            let layer = layer(activation);
            let parts = [layer.weight.clone(), layer.bias.clone(), x.clone()];
            let rows = Rows::Dense(x.as_tensor().clone());
            check(&parts, || sum(layer.forward::<f64>(&rows).unwrap()));
            check(&parts[..2], || sum(layer.forward::<f64>(&bags).unwrap()));
        }
    }

    #[test]
    fn data_is_asked_for_no_gradient() {
        let (_, dense) = bags();
        let layer = layer(Activation::Tanh);
        let y = layer.forward::<f64>(&Rows::Dense(dense.clone())).unwrap();
        let gradients = y.sum_all().unwrap().backward().unwrap();
        assert!(gradients.get(&dense).is_none() && gradients.get(&layer.weight).is_some());
    }

    #[test]
    fn sums_of_rows_are_candles() {
        let x = Tensor::arange(0f64, 3.0 * 1100.0, &Device::Cpu).unwrap();
        let x = x.reshape((3, 1100)).unwrap().to_dtype(DType::F64).unwrap();
        assert_near(&sum_rows::<f64>(&x).unwrap(), &x.sum(0).unwrap());
    }
}
