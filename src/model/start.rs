//! A start for linear encoders of dense features: principal components, rotated by iterative
//! quantization (PCA and ITQ; see [`numeric`](crate::numeric)).
//!
//! The encoder then begins where the best linear method without training ends, and what is learned
//! comes on top.

use candle_core::{Device, Tensor};

use super::network::Network;
use super::real::internal;
use crate::error::Result;
use crate::input::Features;
use crate::numeric::{Components, ITQ_ITERATIONS, itq_rotation};

/// Sets the first layer of `network`, whose outputs are the bits, so that bit j is the sign of the
/// j-th rotated principal coordinate of `rows`. Where there are more bits than columns, the bits
/// beyond keep their random directions.
pub(super) fn from_itq(network: &Network, rows: &Features, seed: u64) -> Result<()> {
    let Some(layer) = network.encoder.first() else { return Ok(()) };
    let (cols, bits) = layer.weight.dims2().map_err(internal)?;
    let k = bits.min(cols);
    let components = Components::fit(rows, k, seed)?;
    let projection = components.projection();
    let coordinates = projection.apply(rows)?;
    let rotation = itq_rotation(&coordinates, ITQ_ITERATIONS, seed)?;
    // A rotation keeps lengths, so this is the deviation of the encoder's values too. They get
    // deviation 1, where the sigmoid is neither flat nor straight; constant rows have none.
    let squares: f64 = coordinates.values().iter().map(|&x| f64::from(x * x)).sum();
    let deviation = (squares / coordinates.values().len().max(1) as f64).sqrt();
    let scale = if deviation > 0.0 { 1.0 / deviation } else { 1.0 };

    let mut weight =
        layer.weight.flatten_all().and_then(|w| w.to_vec1::<f32>()).map_err(internal)?;
    let mut bias = vec![0.0f64; bits];
    for (c, row) in weight.chunks_exact_mut(bits).enumerate() {
        for j in 0..k {
            let along = (0..k).map(|i| {
                f64::from(projection.directions().row(i)[c]) * f64::from(rotation.row(i)[j])
            });
            let w = scale * along.sum::<f64>();
            row[j] = w as f32;
            bias[j] -= w * f64::from(projection.mean()[c]);
        }
    }
    let bias: Vec<f32> = bias.into_iter().map(|b| b as f32).collect();
    let weight = Tensor::from_vec(weight, (cols, bits), &Device::Cpu).map_err(internal)?;
    let bias = Tensor::from_vec(bias, bits, &Device::Cpu).map_err(internal)?;
    layer.weight.set(&weight).and_then(|()| layer.bias.set(&bias)).map_err(internal)
}
