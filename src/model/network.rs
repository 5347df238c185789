//! The deep autoencoder: an encoder of fully connected layers, a code layer that is brought to 0
//! and 1, a decoder.
//!
//! ```text
//! x --encoder--> a --sigmoid, binarized--> z in 0..1 --decoder--> y --loss--> a number
//! ```
//!
//! Weights start as He's or Glorot's normal numbers from our own seeded stream: candle's random
//! numbers cannot be seeded on the CPU. This file is about shapes and the code layer; a layer's
//! product is in [`layer`](super::layer), what y is judged by in [`loss`](super::loss).

use candle_core::{Device, Result, Tensor, Var};
use rand_chacha::ChaCha8Rng;

use super::layer::{Layer, Rows};
use super::loss::{self, Target};
use super::options::{Activation, Binarize, Loss, TrainOptions};
use super::random::{Purpose, normal, stream, uniform};
use super::real::Real;

/// An autoencoder in training.
#[derive(Clone)]
pub(super) struct Network {
    /// From the input to the values before the code's sigmoid.
    pub encoder: Vec<Layer>,
    /// From the code to the values that the loss reads.
    pub decoder: Vec<Layer>,
}

impl Network {
    /// A network for rows of `cols` numbers with the sizes of `options`, freshly drawn.
    pub fn new<T: Real>(cols: usize, options: &TrainOptions) -> Result<Self> {
        let bits = options.bits.bits();
        let mut encoder = vec![cols];
        encoder.extend(&options.hidden);
        encoder.push(bits);
        let mut decoder = vec![bits];
        decoder.extend(options.decoder_hidden());
        decoder.push(cols);
        let draw = |sizes: &[usize], first: usize| -> Result<Vec<Layer>> {
            let last = sizes.len() - 2;
            (0..=last)
                .map(|i| {
                    let activation =
                        if i == last { Activation::Linear } else { options.activation };
                    draw_layer::<T>(sizes[i], sizes[i + 1], activation, options.seed, first + i)
                })
                .collect()
        };
        Ok(Self { encoder: draw(&encoder, 0)?, decoder: draw(&decoder, encoder.len() - 1)? })
    }

    /// The values before the code's sigmoid, shape (rows, bits).
    pub fn encode<T: Real>(&self, rows: &Rows) -> Result<Tensor> {
        forward::<T>(&self.encoder, rows.clone())
    }

    /// The weighted reconstruction loss of codes `z`, mean over the batch.
    pub fn reconstruction<T: Real>(
        &self,
        z: &Tensor,
        loss: Loss,
        targets: &[Target<'_>],
    ) -> Result<Tensor> {
        let Some((last, hidden)) = self.decoder.split_last() else {
            candle_core::bail!("a decoder has a last layer")
        };
        let h = forward::<T>(hidden, Rows::Dense(z.clone()))?;
        loss::reconstruction::<T>(&h, last, loss, targets)
    }

    /// Every variable, encoder first, with its name in a model file.
    pub fn variables(&self) -> Vec<(String, Var)> {
        let parts = [("encoder", &self.encoder), ("decoder", &self.decoder)];
        let mut variables = Vec::new();
        for (part, layers) in parts {
            for (i, layer) in layers.iter().enumerate() {
                variables.push((format!("{part}.{i}.weight"), layer.weight.clone()));
                variables.push((format!("{part}.{i}.bias"), layer.bias.clone()));
            }
        }
        variables
    }
}

fn forward<T: Real>(layers: &[Layer], rows: Rows) -> Result<Tensor> {
    let mut rows = rows;
    for layer in layers {
        rows = Rows::Dense(layer.forward::<T>(&rows)?);
    }
    match rows {
        Rows::Dense(y) => Ok(y),
        Rows::Sparse(_) => candle_core::bail!("sparse rows need at least one layer"),
    }
}

/// Normal weights whose variance keeps the size of the signal (2 / inputs before a ReLU or GELU,
/// which halve it: He et al. 2015; else 2 / (inputs + outputs): Glorot and Bengio 2010), no bias.
fn draw_layer<T: Real>(
    inputs: usize,
    outputs: usize,
    activation: Activation,
    seed: u64,
    number: usize,
) -> Result<Layer> {
    let variance = match activation {
        Activation::Relu | Activation::Gelu => 2.0 / inputs as f64,
        _ => 2.0 / (inputs + outputs) as f64,
    };
    let mut rng = stream(seed, Purpose::Weights, number as u64);
    let weight = normal(&mut rng, inputs * outputs)
        .into_iter()
        .map(|x| T::from_f64(x * variance.sqrt()))
        .collect();
    Ok(Layer {
        weight: Var::from_vec::<_, T>(weight, (inputs, outputs), &Device::Cpu)?,
        bias: Var::from_vec(vec![T::from_f64(0.0); outputs], outputs, &Device::Cpu)?,
        activation,
    })
}

/// The code layer: values before the sigmoid to (nearly) 0 and 1, with a gradient that goes
/// through. `done` is the share of the training that is over, for noise that grows.
pub(super) fn binarize<T: Real>(
    a: &Tensor,
    how: Binarize,
    done: f64,
    rng: &mut ChaCha8Rng,
) -> Result<Tensor> {
    let random = |values: Vec<f64>| {
        let values: Vec<T> = values.into_iter().map(T::from_f64).collect();
        Tensor::from_vec(values, a.shape(), a.device())
    };
    let n = a.elem_count();
    match how {
        Binarize::Noise { start, end } => {
            let size = start + (end - start) * done;
            sigmoid(&(a + random(normal(rng, n))?.affine(size, 0.0)?)?)
        }
        Binarize::Round => through(&sigmoid(a)?, |p| p.gt(0.5)),
        Binarize::Sample => {
            let draws = random(uniform(rng, n))?;
            through(&sigmoid(a)?, |p| p.gt(&draws))
        }
    }
}

/// `hard(p)` forward, the identity backward (straight-through).
fn through(p: &Tensor, hard: impl FnOnce(&Tensor) -> Result<Tensor>) -> Result<Tensor> {
    let free = p.detach();
    let bits = hard(&free)?.to_dtype(p.dtype())?;
    p + (bits - free)?
}

/// The sigmoid of plain operations, `(1 + tanh(x / 2)) / 2`, which cannot overflow.
pub(super) fn sigmoid(x: &Tensor) -> Result<Tensor> {
    x.affine(0.5, 0.0)?.tanh()?.affine(0.5, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::code::Width;
    use crate::input::{Features, Matrix};
    use crate::model::gradient_check::{check, variable};
    use crate::model::loss::info_nce;

    #[test]
    fn every_variable_has_the_gradient_that_finite_differences_give() {
        let options = TrainOptions {
            bits: Width::new(3).unwrap(),
            hidden: vec![4],
            activation: Activation::Gelu,
            ..TrainOptions::default()
        };
        let network = Network::new::<f64>(5, &options).unwrap();
        let x: Vec<f32> = (0..20).map(|i| (i as f32 * 0.37).sin().abs()).collect();
        let target = Features::Dense(Matrix::new(4, 5, x.clone()));
        let x: Vec<f64> = x.into_iter().map(f64::from).collect();
        let rows = Rows::Dense(Tensor::from_vec(x, (4, 5), &Device::Cpu).unwrap());
        let f = || {
            let a = network.encode::<f64>(&rows).unwrap();
            let how = Binarize::Noise { start: 0.5, end: 1.0 };
            let z = binarize::<f64>(&a, how, 0.5, &mut stream(1, Purpose::Bits, 0)).unwrap();
            let targets = [Target { rows: &target, weight: 1.0 }];
            let loss = network.reconstruction::<f64>(&z, Loss::Bernoulli, &targets).unwrap();
            let p = sigmoid(&a).unwrap();
            let (own, partner) = (p.narrow(0, 0, 2).unwrap(), p.narrow(0, 2, 2).unwrap());
            (loss + info_nce::<f64>(&own, &partner, 0.5).unwrap()).unwrap()
        };
        let variables: Vec<Var> = network.variables().into_iter().map(|(_, var)| var).collect();
        assert_eq!(variables.len(), 8);
        check(&variables, f);
    }

    fn values(x: &Tensor) -> Vec<f64> {
        x.flatten_all().unwrap().to_vec1().unwrap()
    }

    #[test]
    fn hard_bits_pass_the_gradient_of_the_sigmoid_through() {
        let a = variable(&[50, 4], 0.4);
        let soft = sigmoid(&a).unwrap();
        let expected = soft.sum_all().unwrap().backward().unwrap();
        let expected = values(expected.get(&a).unwrap());
        for how in [Binarize::Round, Binarize::Sample] {
            let z = binarize::<f64>(&a, how, 0.0, &mut stream(1, Purpose::Bits, 0)).unwrap();
            assert!(values(&z).iter().all(|z| z.abs() < 1e-12 || (z - 1.0).abs() < 1e-12));
            let gradients = z.sum_all().unwrap().backward().unwrap();
            assert_eq!(values(gradients.get(&a).unwrap()), expected);
        }
    }

    #[test]
    fn rounding_takes_the_likelier_value_and_sampling_takes_each_as_often_as_it_is_likely() {
        let a = Tensor::from_vec([-1.0f64, 0.5].repeat(5000), (5000, 2), &Device::Cpu).unwrap();
        let draw = |how| binarize::<f64>(&a, how, 0.0, &mut stream(1, Purpose::Bits, 0)).unwrap();
        let rounded = draw(Binarize::Round).mean(0).unwrap();
        assert_eq!(values(&rounded), [0.0, 1.0]);
        let sampled = values(&draw(Binarize::Sample).mean(0).unwrap());
        let likely = values(&sigmoid(&a).unwrap().mean(0).unwrap());
        for (sampled, likely) in sampled.iter().zip(&likely) {
            assert!((sampled - likely).abs() < 0.03, "{sampled} for {likely}");
        }
    }

    #[test]
    fn noise_grows_from_start_to_end() {
        let a = Tensor::zeros((2000, 1), candle_core::DType::F64, &Device::Cpu).unwrap();
        let spread = |done| {
            let how = Binarize::Noise { start: 0.0, end: 4.0 };
            let z = binarize::<f64>(&a, how, done, &mut stream(1, Purpose::Bits, 0)).unwrap();
            values(&z).iter().map(|z| (z - 0.5).abs()).sum::<f64>() / 2000.0
        };
        assert_eq!(spread(0.0), 0.0);
        assert!(spread(0.25) < spread(0.5) && spread(0.5) < spread(1.0));
    }
}
