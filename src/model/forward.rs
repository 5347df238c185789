//! Trained layers applied, without candle: features to the code layer, or a code to its
//! reconstruction.
//!
//! A row's values must not depend on the rows beside it: a record encoded in a batch of 10,000 and
//! the same text asked for alone must agree in every bit. A general matrix product does not promise
//! that, since it may sum in another order for another shape. So the product here sums `x[k] w[k]`
//! over k = 0, 1, 2, ... for every output, with one rounding for each multiplication and its
//! addition together, whatever the blocks; blocks only decide what stays in registers. The plain
//! version of a dense layer is
//!
//! ```text
//! for j in outputs { y[j] = b[j]; for k in inputs { y[j] = fma(x[k], w[k][j], y[j]) } }
//! ```
//!
//! and since IEEE says what every one of these operations gives, it gives the same on every machine
//! (tanh, sigmoid and GELU in hidden layers come from the platform's library and may differ between
//! machines, never between batches). A sparse first layer leaves out the k where `x[k]` is zero.

use std::convert::Infallible;
use std::ops::Range;

use pulp::{Arch, Simd, WithSimd};
use rayon::prelude::*;

use super::options::Activation;
use crate::input::{Features, Matrix, Sparse};
use crate::numeric::vectorized;

/// Outputs of a layer whose weights stand together: an even number of vectors of any CPU.
const LANES: usize = 32;
/// Rows that are computed together, to read a weight once for all of them.
const ROWS: usize = 6;
/// Rows that a thread takes through all layers at a time; their values stay in its cache.
const BLOCK: usize = 10 * ROWS;

/// The weights of one layer as they stand in a model file.
#[derive(Clone, PartialEq, Debug)]
pub(super) struct Weights {
    pub inputs: usize,
    pub outputs: usize,
    /// Shape (inputs, outputs), row after row.
    pub weight: Vec<f32>,
    /// Shape (outputs).
    pub bias: Vec<f32>,
    pub activation: Activation,
}

/// The trained layers of an encoder or a decoder.
pub(super) struct Layers {
    first: First,
    rest: Vec<Dense>,
    outputs: usize,
}

/// The first layer is laid out for what comes in.
enum First {
    Dense(Dense),
    Sparse(Weights),
}

impl Layers {
    /// `first` and then `rest`, each with as many inputs as the one before has outputs; `sparse` says
    /// whether bags of words go in.
    pub fn new(first: Weights, rest: Vec<Weights>, sparse: bool) -> Self {
        let outputs = rest.last().unwrap_or(&first).outputs;
        let first = if sparse { First::Sparse(first) } else { First::Dense(Dense::new(&first)) };
        Self { first, rest: rest.iter().map(Dense::new).collect(), outputs }
    }

    /// What the last layer gives, shape (rows, outputs). `features` are of the kind and the columns
    /// that the layers were made for.
    pub fn values(&self, features: &Features) -> Matrix {
        let Ok(values) = self.blocks::<Infallible>(features.rows(), |rows, room, out| {
            self.block(features, rows.start, room, out);
            Ok(())
        });
        values
    }

    /// What the last layer gives for `rows` rows, whose features `part` makes some at a time: they
    /// stay in the cache of the thread that computes with them.
    ///
    /// # Errors
    /// The first that `part` gives.
    pub fn values_of<E: Send>(
        &self,
        rows: usize,
        part: impl Fn(Range<usize>) -> Result<Features, E> + Sync,
    ) -> Result<Matrix, E> {
        self.blocks(rows, |rows, room, out| {
            self.block(&part(rows)?, 0, room, out);
            Ok(())
        })
    }

    /// The values of `rows` rows, written by `fill` for some rows at a time.
    fn blocks<E: Send>(
        &self,
        rows: usize,
        fill: impl Fn(Range<usize>, &mut Room, &mut [f32]) -> Result<(), E> + Sync,
    ) -> Result<Matrix, E> {
        let mut values = vec![0.0; rows * self.outputs];
        if rows <= BLOCK {
            // One query: waking threads up costs more than the work.
            fill(0..rows, &mut Room::default(), &mut values)?;
        } else {
            let blocks = values.par_chunks_mut(BLOCK * self.outputs).enumerate();
            let filled: Vec<Result<(), E>> = blocks
                .map_init(Room::default, |room, (block, values)| {
                    let start = block * BLOCK;
                    fill(start..rows.min(start + BLOCK), room, values)
                })
                .collect();
            filled.into_iter().collect::<Result<(), E>>()?;
        }
        Ok(Matrix::new(rows, self.outputs, values))
    }

    /// The values of the rows from `start` on, as many as `out` has room for.
    fn block(&self, features: &Features, start: usize, room: &mut Room, out: &mut [f32]) {
        let rows = out.len() / self.outputs;
        let Room { columns, x, y } = room;
        match (&self.first, features) {
            (First::Sparse(weights), Features::Sparse(sparse)) => {
                gather(weights, sparse, start, rows, x);
            }
            (First::Dense(layer), Features::Dense(dense)) => {
                let cols = dense.cols();
                layer.apply(&dense.values()[start * cols..(start + rows) * cols], columns, x);
            }
            // The feature pipeline and the layout come from one file and agree in kind.
            _ => *x = vec![0.0; out.len()],
        }
        for layer in &self.rest {
            layer.apply(x, columns, y);
            std::mem::swap(x, y);
        }
        out.copy_from_slice(x);
    }
}

/// What a thread computes in, kept from block to block.
#[derive(Default)]
struct Room {
    columns: Vec<[f32; ROWS]>,
    x: Vec<f32>,
    y: Vec<f32>,
}

/// A layer whose weights stand in panels of `LANES` outputs: panel p holds, input after input, the
/// weights of outputs 32 p .. 32 p + 32, filled up with zeros.
struct Dense {
    inputs: usize,
    outputs: usize,
    panels: Vec<[f32; LANES]>,
    /// One entry a panel.
    bias: Vec<[f32; LANES]>,
    activation: Activation,
}

impl Dense {
    fn new(weights: &Weights) -> Self {
        let &Weights { inputs, outputs, activation, .. } = weights;
        let lanes = |row: &[f32], panel: usize| -> [f32; LANES] {
            std::array::from_fn(|lane| row.get(panel * LANES + lane).copied().unwrap_or(0.0))
        };
        let panels = 0..outputs.div_ceil(LANES);
        Self {
            inputs,
            outputs,
            panels: panels
                .clone()
                .flat_map(|p| weights.weight.chunks_exact(outputs).map(move |row| lanes(row, p)))
                .collect(),
            bias: panels.map(|p| lanes(&weights.bias, p)).collect(),
            activation,
        }
    }

    /// `out = act(x w + b)`, row after row.
    fn apply(&self, x: &[f32], columns: &mut Vec<[f32; ROWS]>, out: &mut Vec<f32>) {
        out.resize(x.len() / self.inputs * self.outputs, 0.0);
        let rest = split(x, self.inputs, columns);
        let (alone, _) = rest.as_chunks::<1>();
        let (y, y_rest) = out.split_at_mut(columns.len() / self.inputs * ROWS * self.outputs);
        let arch = Arch::new();
        arch.dispatch(Product { layer: self, x: columns, y });
        arch.dispatch(Product { layer: self, x: alone, y: y_rest });
    }
}

/// Puts rows in groups, whose numbers of one column stand together, into `columns`; the rows that
/// are left over.
fn split<'a>(x: &'a [f32], inputs: usize, columns: &mut Vec<[f32; ROWS]>) -> &'a [f32] {
    let groups = x.chunks_exact(ROWS * inputs);
    let rest = groups.remainder();
    columns.resize(groups.len() * inputs, [0.0; ROWS]);
    for (x, columns) in groups.zip(columns.chunks_exact_mut(inputs)) {
        for (r, row) in x.chunks_exact(inputs).enumerate() {
            columns.iter_mut().zip(row).for_each(|(column, x)| column[r] = *x);
        }
    }
    rest
}

/// The layer for groups of `R` rows, with the vectors of this CPU.
struct Product<'a, const R: usize> {
    layer: &'a Dense,
    x: &'a [[f32; R]],
    y: &'a mut [f32],
}

impl<const R: usize> WithSimd for Product<'_, R> {
    type Output = ();

    #[inline(always)]
    fn with_simd<S: Simd>(self, simd: S) {
        let Self { layer, x, y } = self;
        let (inputs, outputs) = (layer.inputs, layer.outputs);
        // A panel stays in the cache while all rows go by.
        for (p, (panel, bias)) in layer.panels.chunks_exact(inputs).zip(&layer.bias).enumerate() {
            let start = p * LANES;
            let width = LANES.min(outputs - start);
            for (x, y) in x.chunks_exact(inputs).zip(y.chunks_exact_mut(R * outputs)) {
                let mut sums = [*bias; R];
                // Two vectors of each row at a time: their sums stay in registers over all inputs.
                for pair in 0..LANES / (2 * S::F32_LANES) {
                    let at = [2 * pair, 2 * pair + 1];
                    let mut pairs = sums.map(|sums| at.map(|i| S::as_simd_f32s(&sums).0[i]));
                    for (w, x) in panel.iter().zip(x) {
                        let w = at.map(|i| S::as_simd_f32s(w).0[i]);
                        for (sum, &x) in pairs.iter_mut().zip(x) {
                            let x = simd.splat_f32s(x);
                            sum[0] = simd.mul_add_f32s(x, w[0], sum[0]);
                            sum[1] = simd.mul_add_f32s(x, w[1], sum[1]);
                        }
                    }
                    for (sums, pair) in sums.iter_mut().zip(pairs) {
                        let sums = S::as_mut_simd_f32s(sums).0;
                        sums[at[0]] = pair[0];
                        sums[at[1]] = pair[1];
                    }
                }
                for (sums, y) in sums.iter_mut().zip(y.chunks_exact_mut(outputs)) {
                    activate(layer.activation, sums);
                    y[start..start + width].copy_from_slice(&sums[..width]);
                }
            }
        }
    }
}

/// The first layer over a bag of words: only the rows of the weights whose word is present.
fn gather(weights: &Weights, rows: &Sparse, start: usize, count: usize, y: &mut Vec<f32>) {
    let outputs = weights.outputs;
    y.resize(count * outputs, 0.0);
    for (i, y) in y.chunks_exact_mut(outputs).enumerate() {
        y.copy_from_slice(&weights.bias);
        let (columns, values) = rows.row(start + i);
        for (&column, &x) in columns.iter().zip(values) {
            let w = &weights.weight[column as usize * outputs..][..outputs];
            vectorized(|| y.iter_mut().zip(w).for_each(|(y, w)| *y = x.mul_add(*w, *y)));
        }
        activate(weights.activation, y);
    }
}

/// y = act(y).
fn activate(activation: Activation, y: &mut [f32]) {
    match activation {
        Activation::Linear => {}
        Activation::Relu => y.iter_mut().for_each(|y| *y = if *y > 0.0 { *y } else { 0.0 }),
        Activation::Tanh => y.iter_mut().for_each(|y| *y = y.tanh()),
        Activation::Sigmoid => y.iter_mut().for_each(|y| *y = sigmoid(*y)),
        Activation::Gelu => y.iter_mut().for_each(|y| {
            let scale = (8.0 / std::f32::consts::PI).sqrt();
            *y *= sigmoid(scale * (*y + 0.044_715 * *y * *y * *y));
        }),
    }
}

/// 1 / (1 + e^-x)
pub(super) fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + (-x).exp())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::random::{Purpose, normal, stream};

    fn numbers(seed: u64, n: usize) -> Vec<f32> {
        normal(&mut stream(seed, Purpose::Weights, 0), n).into_iter().map(|x| x as f32).collect()
    }

    fn weights(seed: u64, inputs: usize, outputs: usize, activation: Activation) -> Weights {
        let weight = numbers(seed, inputs * outputs);
        Weights { inputs, outputs, weight, bias: numbers(seed + 1, outputs), activation }
    }

    /// The plain version of the module's comment.
    fn plain(layer: &Weights, x: &[f32]) -> Vec<f32> {
        let mut y = layer.bias.clone();
        for (j, y) in y.iter_mut().enumerate() {
            for (k, x) in x.iter().enumerate() {
                *y = x.mul_add(layer.weight[k * layer.outputs + j], *y);
            }
        }
        activate(layer.activation, &mut y);
        y
    }

    fn sparse(dense: &Matrix) -> Sparse {
        let mut sparse = Sparse::new(dense.cols());
        for row in dense.iter() {
            let present = row.iter().enumerate().filter(|(_, value)| **value != 0.0);
            sparse.push(present.map(|(column, &value)| (column as u32, value)));
        }
        sparse
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]

        #[test]
        fn every_row_is_the_plain_sum_to_the_last_bit(
            inputs in 1usize..40,
            hidden in 1usize..40,
            bits in 1usize..70,
            rows in 1usize..150,
            relu in any::<bool>(),
            seed in any::<u32>(),
        ) {
            let seed = u64::from(seed);
            let activation = if relu { Activation::Relu } else { Activation::Tanh };
            let first = weights(seed, inputs, hidden, activation);
            let last = weights(seed + 2, hidden, bits, Activation::Linear);
            // Every third number is zero, so that the sparse layer has something to leave out.
            let values: Vec<f32> = numbers(seed + 4, rows * inputs)
                .into_iter()
                .enumerate()
                .map(|(i, x)| if i % 3 == 0 { 0.0 } else { x })
                .collect();
            let x = Matrix::new(rows, inputs, values);
            let expected: Vec<f32> =
                x.iter().flat_map(|row| plain(&last, &plain(&first, row))).collect();

            let dense = Layers::new(first.clone(), vec![last.clone()], false);
            let got = dense.values(&Features::Dense(x.clone()));
            prop_assert_eq!(got.values(), &expected[..]);
            let gathered = Layers::new(first, vec![last], true);
            let got = gathered.values(&Features::Sparse(sparse(&x)));
            prop_assert_eq!(got.values(), &expected[..]);
        }
    }

    #[test]
    fn a_row_alone_has_the_values_it_has_in_a_batch() {
        let layers = || weights(7, 50, 33, Activation::Gelu);
        let encoder = Layers::new(layers(), vec![weights(9, 33, 20, Activation::Linear)], false);
        let x = Matrix::new(201, 50, numbers(11, 201 * 50));
        let batch = encoder.values(&Features::Dense(x.clone()));
        for i in 0..x.rows() {
            let alone = encoder.values(&Features::Dense(x.select(&[i])));
            assert_eq!(alone.row(0), batch.row(i), "row {i}");
        }
    }
}
